/* A batch of the grace scan, in steps, while records die, readers pin, and sessions end and come back (G2, G5, R5).
 *
 * Two slots and three sessions of one pin cell each. The store thread fixes a batch and looks at one session's cell a step; between the
 * steps a record dies, a session ends or is handed back. What nobody holds is used again at once. Session 2 is of an earlier daemon: it
 * holds a pin on slot 0 from before, and its memory is not known until it is handed back.
 *
 * Claims: what is read under a pin that passed R5 is of the tenant that was pinned; and the view of session 2 stays what it was once it
 * was handed back, unless its slot was used again before that, which only orphan_grace allows.
 * Not here: store buffers and the two fences (pin.pml), checkpoints (G1), high marks and hostile pins (G4), more than one cell a session.
 *
 * run: holds, quick: -DDEATHS=1
 * run: holds: -DDEATHS=2
 * run: holds: -DDEATHS=2 -DORPHAN_GRACE
 * run: breaks G2 store.pinned_slots_are_held, quick: -DDEATHS=1 -DHELD_ARE_FREED
 * run: breaks G2 store.later_deaths_wait, quick: -DDEATHS=2 -DLATER_DEATHS_JOIN
 * run: breaks G2 daemon.scan_keeps_its_place, quick: -DDEATHS=1 -DPLACE_IS_LOST
 * run: breaks G2 daemon.handed_back_is_scanned, quick: -DDEATHS=1 -DORPHAN_GRACE -DHANDED_BACK_IS_NOT_SCANNED
 * run: breaks G5, quick: -DDEATHS=1 -DORPHANS_MAY_BE_TAKEN
 * run: breaks R5 client.dead_again, quick: -DDEATHS=1 -DNO_LOOK_AFTER_THE_PIN
 */
#ifndef DEATHS
#define DEATHS 1
#endif
#define SLOTS 2
#define NOBODY 3
#define LIVE(s) (put[s] != 0 && dead[s] < put[s])
#define DEAD(s) (put[s] != 0 && dead[s] >= put[s])

byte put[SLOTS], dead[SLOTS], bytes[SLOTS];
byte pin[3];                                     /* slot + 1 */
bit live[3];                                     /* the daemon has its memory */
bit ended[3];                                    /* its process is gone: what it pinned is void */
bit taken_before;                                /* session 2's slot was used again before it was handed back */
bit orphans_taken;                               /* orphan_grace is over */
byte sequence;

proctype store_thread() {
  byte deaths, s, i, n, at, cell;
  byte order[3];                                 /* who is looked at */
  bit batch[SLOTS], held[SLOTS], late[SLOTS];
end_again:
  do
  :: atomic { deaths < DEATHS -> deaths++; if :: LIVE(0) -> s = 0 :: LIVE(1) -> s = 1 fi; sequence++; dead[s] = sequence; late[s] = (at != 0); s = 0 }
#ifdef ORPHAN_GRACE
  :: atomic { !live[2] && !ended[2] && !orphans_taken -> orphans_taken = 1 }
#endif
  :: atomic { !live[2] && !ended[2] -> live[2] = 1;                 /* handed back */
#ifndef HANDED_BACK_IS_NOT_SCANNED
       if :: at != 0 -> order[n] = 2; n++ :: else fi
#endif
     }
  :: atomic { (ended[0] && live[0]) || (ended[1] && live[1]) ->
       if :: ended[0] && live[0] -> i = 0 :: ended[1] && live[1] -> i = 1 fi;
       live[i] = 0;
       s = 0;
       do
       :: at != 0 && s < n && order[s] == i ->
#ifdef PLACE_IS_LOST
          n--;
          do :: s < n -> order[s] = order[s + 1]; s++ :: else -> break od;
#else
          order[s] = NOBODY;
#endif
          break
       :: at != 0 && s < n && order[s] != i -> s++
       :: else -> break
       od;
       s = 0; i = 0
     }
#ifdef ORPHANS_MAY_BE_TAKEN
  :: atomic { at == 0 && (DEAD(0) || DEAD(1)) ->
#else
  :: atomic { at == 0 && (DEAD(0) || DEAD(1)) && (live[2] || ended[2] || orphans_taken) ->
#endif
       batch[0] = DEAD(0); batch[1] = DEAD(1);
       held[0] = 0; held[1] = 0; late[0] = 0; late[1] = 0;
       n = 0;
       if :: live[0] -> order[n] = 0; n++ :: else fi;
       if :: live[1] -> order[n] = 1; n++ :: else fi;
       if :: live[2] -> order[n] = 2; n++ :: else fi;
       at = 1
     }
  :: atomic { at != 0 && at <= n ->
       cell = (order[at - 1] == NOBODY -> 0 : pin[order[at - 1]]);
       if :: cell != 0 -> held[cell - 1] = 1 :: else fi;
       cell = 0;
       at++
     }
  :: atomic { at > n && at != 0 ->
       at = 0;
       do
       :: s < SLOTS ->
#ifdef LATER_DEATHS_JOIN
          if :: late[s] -> batch[s] = 1 :: else fi;
#endif
#ifdef HELD_ARE_FREED
          held[s] = 0;
#endif
          if
          :: batch[s] && !held[s] ->
             if :: s == 0 && !live[2] && orphans_taken -> taken_before = 1 :: else fi;
             sequence++;
             bytes[s] = sequence;
             put[s] = sequence
          :: else
          fi;
          batch[s] = 0; held[s] = 0; late[s] = 0;
          s++
       :: else -> break
       od;
       s = 0; n = 0; order[0] = 0; order[1] = 0; order[2] = 0
     }
  od
}

proctype reader(byte me) {
  byte s, p, d;
  if
  :: if :: s = 0 :: s = 1 fi;
     p = put[s];
     d = dead[s];
     if
     :: p != 0 && d < p ->
        pin[me] = s + 1;
#ifdef NO_LOOK_AFTER_THE_PIN
        assert(bytes[s] == p);
#else
        d = dead[s];
        if :: put[s] == p && d < p -> assert(bytes[s] == p) :: else fi;
#endif
        pin[me] = 0
     :: else
     fi
  :: skip
  fi;
  atomic { ended[me] = 1; s = 0; p = 0; d = 0 }
}

/* It looks at its view of slot 0 after it was handed back, or ends. */
proctype returner() {
  if
  :: live[2] -> assert(taken_before || bytes[0] == 1); pin[2] = 0
  :: skip
  fi;
  atomic { pin[2] = 0; ended[2] = 1; live[2] = 0 }
}

init {
  atomic {
    put[0] = 1; bytes[0] = 1; put[1] = 2; bytes[1] = 2; sequence = 2;
    pin[2] = 1; live[0] = 1; live[1] = 1;
    run store_thread(); run reader(0); run reader(1); run returner()
  }
}
