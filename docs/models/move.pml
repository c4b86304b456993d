/* A client leaves its channel: session 0 becomes a former one, session 1 the one in use (S17), over a kill of the daemon. One slot, which a
 * reader pins in the session of the attachment that he finds; it dies, and the scan of all pins (G2) gives it to another record. One request,
 * of a thread that may be in the midst of its claim when another one moves.
 *
 * A thread says that it is inside by a store; that the others see it is the barrier of whoever looks (retire and reap in the library). The
 * client's lock is held over the move, over each look at the former session, and while everything is handed back to the next daemon. What
 * the daemon has been told to end it ends later; killed before, the next one is told by name (S11).
 *
 * Claims: the slot of a held view is not given to another record; what was published is carried out once and answered; nobody waits for
 * ever: not the reader, who keeps his view until a scan has run, nor the scan, nor the former session's end.
 * Not here: a session that is not taken back (S5), a move that is broken off.
 *
 * run: holds, quick:
 * run: holds: -DKILLS=2
 * run: breaks S17 client.former_until_unpinned, quick: -DPARTS_WITH_PINS
 * run: breaks S17 client.former_until_nobody_is_inside, quick: -DPARTS_WHILE_INSIDE
 * run: breaks S17 client.former_until_answered, quick: -DPARTS_WITH_REQUESTS
 * run: sticks S17 client.formers_are_handed_back, quick: -DFORMER_IS_KEPT_BACK
 * run: sticks S11 client.forsaken_are_named, quick: -DNOBODY_NAMES_IT
 */
#ifndef KILLS
#define KILLS 1
#endif
#define READER 0
#define WRITER 1

/* the client */
byte in_use;                       /* session of the attachment */
byte epoch = 1, inside[2];         /* 0: outside */
bit pin[2], taken[2];              /* a pin cell and a result cell of each session */
bit former, given_up, locked;
bit attached = 1;                  /* to the daemon that is up */
/* memory that both have: lanes of the two channels, result cells */
bit published[2], answered[2];
byte executed;
/* the daemon */
bit up = 1;
bit live[2], known[2], lanes[2], ending;
bit dead, reused, viewed;
byte kills, scans;

inline enter(me, l) { inside[me] = epoch; l = in_use }
inline leave(me) { inside[me] = 0 }

proctype reader() {
  byte l;
  enter(READER, l);
  if :: dead -> leave(READER); goto over :: else fi;
  pin[l] = 1;
  atomic { if :: dead -> skip :: else -> viewed = 1 fi };        /* the look after the pin (R5) */
  if :: !viewed -> pin[l] = 0; leave(READER); goto over :: else fi;
  leave(READER);
  scans > 0;                                                     /* a view that is held for long */
  viewed = 0;
  pin[l] = 0;
over: skip
}

proctype writer() {
  byte l = in_use, now;
  taken[l] = 1;
  enter(WRITER, now);
  if
  :: now == l -> published[l] = 1; leave(WRITER);
     if :: answered[l] -> skip
        :: l == 0 && given_up -> assert(answered[0])              /* nobody will answer in it any more */
     fi
  :: else -> leave(WRITER)
  fi;
  taken[l] = 0
}

proctype mover() {
ask:
  atomic { !locked && up && attached -> locked = 1 };
  atomic {
    if
    :: up && attached -> live[1] = 1; known[1] = 1; lanes[1] = 1; former = 1; in_use = 1; epoch = 2
    :: else -> locked = 0; goto ask                              /* to another daemon everything is handed back first */
    fi };
  locked = 0;
look:
  atomic { !locked -> locked = 1 };
#ifndef PARTS_WHILE_INSIDE
  if :: inside[READER] == 1 || inside[WRITER] == 1 -> goto later :: else fi;
#endif
#ifndef PARTS_WITH_PINS
  if :: pin[0] -> goto later :: else fi;
#endif
#ifndef PARTS_WITH_REQUESTS
  if :: taken[0] -> goto later :: else fi;
#endif
  former = 0;
  given_up = 1;
  atomic { if :: up && attached -> ending = 1 :: else fi };      /* bye */
  locked = 0;
  goto over;
later:
  locked = 0;
  (inside[READER] != 1 && inside[WRITER] != 1 && !pin[0] && !taken[0]);
  goto look;
over: skip
}

/* Whichever thread it is that comes to the new daemon. */
proctype attacher() {
  byte daemon;                                                   /* what is said to one that is dead by now the next does not hear */
end_attacher:
  do
  :: atomic { up && !attached && !locked -> locked = 1; daemon = kills };
     atomic { if :: up && daemon == kills -> known[in_use] = 1; lanes[in_use] = 1 :: else fi };
#ifndef FORMER_IS_KEPT_BACK
     atomic { if :: up && daemon == kills && former -> known[0] = 1; lanes[0] = 1 :: else fi };
#endif
     atomic {
       if
       :: up && daemon == kills -> attached = 1;
#ifndef NOBODY_NAMES_IT
          if :: given_up && live[0] -> ending = 1 :: else fi
#else
          skip
#endif
       :: else fi };
     locked = 0
  od
}

inline carry_out(l) {
  atomic { if :: published[l] && !answered[l] && lanes[l] && live[l] -> executed++; assert(executed <= 1); answered[l] = 1 :: else fi }
}

proctype daemon() {
  bit held;
  do
  :: atomic { up && published[0] && !answered[0] && lanes[0] && live[0] } ; carry_out(0)
  :: atomic { up && published[1] && !answered[1] && lanes[1] && live[1] } ; carry_out(1)
  :: atomic { up && !dead -> dead = 1 }                          /* the record is removed */
  :: atomic { up && ending } ;
     if :: up -> carry_out(0) :: else fi;                        /* the sweep (S4) */
     atomic { if :: up && ending -> live[0] = 0; ending = 0 :: else fi }
  :: atomic { up && dead && !reused && (known[0] || !live[0]) && (known[1] || !live[1]) -> held = 0 };      /* G5 */
     atomic { if :: live[0] && pin[0] -> held = 1 :: else fi };
     atomic { if :: live[1] && pin[1] -> held = 1 :: else fi };
     atomic { if :: up -> scans = 1; if :: !held -> assert(!viewed); reused = 1 :: else fi :: else fi; held = 0 }
  :: atomic { reused && !live[0] && up -> break }                /* everything came to its end */
  od
}

proctype killer() {
  do
  :: atomic { kills < KILLS && up -> up = 0; kills++; attached = 0; known[0] = 0; known[1] = 0; lanes[0] = 0; lanes[1] = 0; ending = 0 };
     up = 1
  :: break
  od
}

init {
  atomic {
    live[0] = 1; known[0] = 1; lanes[0] = 1;
    run reader(); run writer(); run mover(); run attacher(); run daemon(); run killer()
  }
}
