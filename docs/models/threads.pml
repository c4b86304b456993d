/* Two threads of one session share its pin cells by the session's free list (R5, R12), with store buffers as on x86-64.
 *
 * One slot and one cell: whoever finds the cell free pins with it, reads, and gives it back; the views of one thread may be released by the
 * other. The daemon ends the tenant, makes its fence, looks at the cell, uses the slot again. Each process has a buffer of one store.
 *
 * Claim: the bytes that a thread reads under its pin are of the tenant whose put it saw.
 * Not here: more cells, result cells (lanes.pml), the connection (sleep.pml).
 *
 * run: holds, quick: -DTURNS=1
 * run: holds: -DTURNS=2
 * run: breaks R12 client.pin_cleared_first, quick: -DTURNS=1 -DFREE_LIST_FIRST
 * run: breaks R5, quick: -DTURNS=1 -DNO_FENCE_AFTER_PIN
 */
#ifndef TURNS
#define TURNS 1
#endif
#define PUT 0
#define DEAD 1
#define BYTES 2
#define PIN 3
#define FREE 4
#define DAEMON 2
#define TENANTS 3

byte memory[5];
bit buffered[3];
byte buffer_at[3], buffer_value[3];
byte handed_over;                                /* a view that the other thread is to release */

inline store(me, a, v) { atomic { !buffered[me]; buffered[me] = 1; buffer_at[me] = a; buffer_value[me] = v } }
inline load(me, a, x) { atomic { if :: buffered[me] && buffer_at[me] == (a) -> x = buffer_value[me] :: else -> x = memory[a] fi } }
inline fence(me) { !buffered[me] }
inline give_back(me) {
#ifdef FREE_LIST_FIRST
  store(me, FREE, 1);
  store(me, PIN, 0)
#else
  store(me, PIN, 0);
  store(me, FREE, 1)
#endif
}

proctype buffers() {
end_idle:
  do
  :: atomic { buffered[0] -> memory[buffer_at[0]] = buffer_value[0]; buffered[0] = 0; buffer_at[0] = 0; buffer_value[0] = 0 }
  :: atomic { buffered[1] -> memory[buffer_at[1]] = buffer_value[1]; buffered[1] = 0; buffer_at[1] = 0; buffer_value[1] = 0 }
  :: atomic { buffered[2] -> memory[buffer_at[2]] = buffer_value[2]; buffered[2] = 0; buffer_at[2] = 0; buffer_value[2] = 0 }
  od
}

proctype daemon() {
  byte t = 1, v;
end_daemon:
  do
  :: t < TENANTS ->
     store(DAEMON, DEAD, t + 1);
     do
     :: fence(DAEMON);
        load(DAEMON, PIN, v);
        if :: v == 0 -> break :: else fi
     od;
     t++;
     store(DAEMON, PUT, 0);
     store(DAEMON, BYTES, t);
     store(DAEMON, PUT, t)
  :: else -> break
  od
}

proctype thread(byte me) {
  byte turn, p, d, v;
end_thread:
  do
  :: atomic { handed_over == 2 - me -> handed_over = 0 }; give_back(me)
  :: turn < TURNS ->
     turn++;
     /* Taken from the free list by an exchange, which is a fence. */
end_no_cell:
     atomic { memory[FREE] == 1 && !buffered[me] -> memory[FREE] = 0 };
     load(me, PUT, p);
     load(me, DEAD, d);
     if
     :: p != 0 && d <= p ->
        store(me, PIN, 1);
#ifndef NO_FENCE_AFTER_PIN
        fence(me);
#endif
        load(me, DEAD, d);
        load(me, PUT, v);
        if
        :: v == p && d <= p ->
           load(me, BYTES, v);
           assert(v == p);
           if :: handed_over == 0 -> fence(me); handed_over = me + 1 :: give_back(me) fi
        :: else -> give_back(me)
        fi
     :: else -> give_back(me)
     fi;
     v = 0;
     p = 0;
     d = 0
  od
}

init { atomic { memory[PUT] = 1; memory[BYTES] = 1; memory[FREE] = 1; run buffers(); run daemon(); run thread(0); run thread(1) } }
