/* Sleep and wake, with store buffers as on x86-64: the daemon that sleeps and its doorbell, one byte a sleep and connection, and the client
 * that sleeps on its result cell (L6, N1, and steps 6 of L). L14 and L16 are the same pattern with other words.
 *
 * Two threads of one session share a connection, and so the number of the sleep that was rung for. The first publishes and waits for its
 * answers, one after the other, the second once. A store waits in its thread's buffer of one; a fence waits until that is empty; when it is
 * written back is anybody's choice. The kernel compares the cell with what the sleeper saw as it puts him to sleep.
 *
 * Claim: everybody who asked is answered and awake in the end.
 * Not here: a socket that is full (it is readable then), a daemon that is replaced.
 *
 * Slices (N4) are for a daemon that is killed. While it lives none is needed; most runs are without, so that a lost wake-up shows.
 *
 * run: holds, quick: -DREQUESTS=1
 * run: holds: -DREQUESTS=2
 * run: holds: -DREQUESTS=2 -DNO_SLICES
 * run: sticks L17 daemon.leaves_the_sleep_word: -DREQUESTS=2 -DNO_SLICES -DDAEMON_CLEARS_THE_WORD
 * run: sticks L6, quick: -DREQUESTS=1 -DNO_SLICES -DNO_FENCE_AFTER_PUBLISH
 * run: sticks L6, quick: -DREQUESTS=1 -DNO_SLICES -DNO_FENCE_BEFORE_THE_LOOK
 * run: sticks L6, quick: -DREQUESTS=1 -DNO_SLICES -DNO_LOOK_BEFORE_THE_SLEEP
 * run: sticks L6 client.each_sleep_is_rung, quick: -DREQUESTS=2 -DNO_SLICES -DRUNG_FOR_ONE_SLEEP
 * run: sticks L6: -DREQUESTS=1 -DNO_SLICES -DNO_FENCE_BEFORE_DOZING
 * run: sticks L6: -DREQUESTS=1 -DNO_SLICES -DNO_FENCE_AFTER_THE_ANSWER
 * run: sticks N1 client.wait_with_what_was_seen: -DREQUESTS=1 -DNO_SLICES -DDOZES_WITHOUT_COMPARING
 */
#ifndef REQUESTS
#define REQUESTS 1
#endif
#define SLEEPING 0
#define RUNG 1
#define PUBLISHED(t) (2 + (t))
#define CELL(t) (4 + (t))
#define WORD(t) (6 + (t))                        /* the sleep word of the cell */
#define DAEMON 2

byte memory[8];
bit buffered[3];
byte buffer_at[3], buffer_value[3];
byte bell;                                       /* bytes in the socket */
bit dozing[2];

inline store(me, a, v) { atomic { !buffered[me]; buffered[me] = 1; buffer_at[me] = a; buffer_value[me] = v } }
inline load(me, a, x) { atomic { if :: buffered[me] && buffer_at[me] == (a) -> x = buffer_value[me] :: else -> x = memory[a] fi } }
inline fence(me) { !buffered[me] }

proctype buffers() {
end_idle:
  do
  :: atomic { buffered[0] -> memory[buffer_at[0]] = buffer_value[0]; buffered[0] = 0; buffer_at[0] = 0; buffer_value[0] = 0 }
  :: atomic { buffered[1] -> memory[buffer_at[1]] = buffer_value[1]; buffered[1] = 0; buffer_at[1] = 0; buffer_value[1] = 0 }
  :: atomic { buffered[2] -> memory[buffer_at[2]] = buffer_value[2]; buffered[2] = 0; buffer_at[2] = 0; buffer_value[2] = 0 }
  od
}

proctype daemon() {
  byte sleeps, t, v, done0, done1;
  bit found;
 serve:
  found = 0;
  t = 0;
  do
  :: t < 2 ->
     load(DAEMON, PUBLISHED(t), v);
     if
     :: v > (t == 0 -> done0 : done1) ->
        found = 1;
        if :: t == 0 -> done0 = v :: else -> done1 = v fi;
        store(DAEMON, CELL(t), v);
#ifndef NO_FENCE_AFTER_THE_ANSWER
        fence(DAEMON);
#endif
        load(DAEMON, WORD(t), v);
        if
        :: v != 0 ->
#ifdef DAEMON_CLEARS_THE_WORD
           store(DAEMON, WORD(t), 0);
#endif
           /* A system call. */
           fence(DAEMON);
           dozing[t] = 0
        :: else
        fi
     :: else
     fi;
     t++
  :: else -> break
  od;
  t = 0;
  v = 0;
  if :: found -> goto serve :: else fi;
  sleeps++;
  store(DAEMON, SLEEPING, sleeps);
#ifndef NO_FENCE_BEFORE_THE_LOOK
  fence(DAEMON);
#endif
#ifndef NO_LOOK_BEFORE_THE_SLEEP
  load(DAEMON, PUBLISHED(0), v);
  if :: v > done0 -> found = 1 :: else fi;
  load(DAEMON, PUBLISHED(1), v);
  if :: v > done1 -> found = 1 :: else fi;
#endif
  v = 0;
  if
  :: found
  :: else ->
end_asleep:
     atomic { bell > 0 -> bell = 0 }
  fi;
  store(DAEMON, SLEEPING, 0);
  goto serve
}

proctype thread(byte t) {
  byte k = 1, v, w;
  do
  :: k <= (t == 0 -> REQUESTS : 1) ->
     store(t, PUBLISHED(t), k);
#ifndef NO_FENCE_AFTER_PUBLISH
     fence(t);
#endif
     load(t, SLEEPING, v);
     load(t, RUNG, w);
     if
#ifdef RUNG_FOR_ONE_SLEEP
     :: v != 0 && w == 0 -> bell++; store(t, RUNG, v)
#else
     :: v != 0 && w != v -> bell++; store(t, RUNG, v)
#endif
     :: else
     fi;
     do
     :: load(t, CELL(t), v);
        if :: v >= k -> break :: else fi;
        store(t, WORD(t), 1);
#ifndef NO_FENCE_BEFORE_DOZING
        fence(t);
#endif
        load(t, CELL(t), v);
        if :: v >= k -> store(t, WORD(t), 0); break :: else fi;
#ifdef DOZES_WITHOUT_COMPARING
        dozing[t] = 1;
#else
        atomic { if :: memory[CELL(t)] == v -> dozing[t] = 1 :: else fi }
#endif
#ifdef NO_SLICES
        !dozing[t];
#else
        dozing[t] = 0;                           /* woken, or the slice is over */
#endif
        store(t, WORD(t), 0)
     od;
     v = 0;
     w = 0;
     k++
  :: else -> break
  od
}

init { atomic { run buffers(); run daemon(); run thread(0); run thread(1) } }
