/* A recall: scan of the columns, the feed, the lookup by id (Q1 to Q4, Q6, Q7, W4, W5, T1, T2).
 *
 * Id X is there throughout and is replaced; Y is put, replaced and removed, so that slots go from hand to hand: they are used again as soon
 * as they are dead. Three slots, scanned in order. The daemon is killed at most once, at any step, and the next one recovers; its feed is a
 * new one. Every load and store is a step, but for the lookup of an id, which lookup.pml is about: it is one step, and waits where a get
 * would wait for the next generation.
 *
 * Claims: unless it says that it is partial, a recall returns X exactly once and Y at most once, in no version that was not visible yet and
 * none that is older than what was visible when it began.
 * Not here: scores, thresholds and limits (Q5); a feed that is overrun; filters; several threads that share a scan.
 *
 * run: holds, quick: -DOPS=2 -DKILLS=0
 * run: holds: -DOPS=3 -DKILLS=0
 * run: holds: -DOPS=2
 * run: breaks Q1 client.recall_reads_feed, quick: -DOPS=2 -DKILLS=0 -DFEED_IS_NOT_READ
 * run: breaks W5 store.feed_before_death, quick: -DOPS=2 -DKILLS=0 -DFEED_AFTER_DEATH -DDEATHS_OF_A_RECOVERY_COUNT
 * run: breaks Q2 client.recall_generation_after_scan: -DOPS=3 -DNO_GENERATION_AFTER_SCAN
 * run: breaks Q2 client.recall_deaths_are_in_feed, quick: -DOPS=2 -DDEATHS_OF_A_RECOVERY_COUNT
 * run: breaks Q3 client.recall_asks_index, quick: -DOPS=2 -DKILLS=0 -DLINES_ARE_BELIEVED
 * run: breaks Q4 client.recall_takes_once, quick: -DOPS=2 -DKILLS=0 -DTAKEN_TWICE
 * run: breaks Q6: -DOPS=3 -DKILLS=0 -DID_OF_THE_LIVING_ONLY
 * run: breaks Q6: -DOPS=3 -DKILLS=0 -DNOT_ASKED_ONCE_MORE
 * run: breaks Q7 client.recall_follows_tenants: -DOPS=3 -DKILLS=0 -DLATER_TENANT_IS_THE_NAMED_ONE
 * run: breaks Q7 client.recall_follows_deaths: -DOPS=2 -DKILLS=0 -DALL_DEAD_ARE_DROPPED
 */
#ifndef OPS
#define OPS 2
#endif
#ifndef KILLS
#define KILLS 1
#endif
#define SLOTS 3
#define X 1
#define Y 2
#define LIVE(s) (put[s] != 0 && dead[s] < put[s])
#define FEED(g, i) ((g) * (OPS + 1) + (i))

byte put[SLOTS], dead[SLOTS], id_of[SLOTS], version[SLOTS];
byte cell[3];                                                   /* by id: slot + 1 */
byte head[2], feed_slot[2 * (OPS + 1)], feed_sequence[2 * (OPS + 1)], base[2];
byte generation, sequence;
/* The intent of the operation in progress. */
byte intent_id, intent_slot, intent_old, intent_sequence;       /* intent_slot == SLOTS: a remove */

#define VISIBLE version[cell[X] - 1]

inline maybe_killed() { if :: killed < KILLS -> killed++; goto recovery :: skip fi }

inline tell_feed(slot) {
  atomic {
    feed_sequence[FEED(generation, head[generation])] = sequence;
    feed_slot[FEED(generation, head[generation])] = slot;
    head[generation]++
  }
}

proctype daemon() {
  byte done, id, s, old, killed, v = 1;
 next:
  if
  :: done == OPS -> goto over
  :: done < OPS ->
     atomic {
       done++;
       if :: id = X :: id = Y fi;
       old = (cell[id] == 0 -> SLOTS : cell[id] - 1);
       if
       :: if :: !LIVE(0) -> s = 0 :: !LIVE(1) -> s = 1 :: !LIVE(2) -> s = 2 fi
       :: id == Y && old != SLOTS -> s = SLOTS                  /* a remove */
       fi;
       sequence++;
       intent_id = id; intent_slot = s; intent_old = old; intent_sequence = sequence
     }
  fi;
  maybe_killed();
  if
  :: s != SLOTS ->
     put[s] = 0;
     atomic { v++; id_of[s] = id; version[s] = v }
     put[s] = sequence;
     maybe_killed();
     cell[id] = s + 1
  :: else -> cell[id] = 0
  fi;
  maybe_killed();
#ifndef FEED_AFTER_DEATH
  tell_feed(s);
  maybe_killed();
#endif
  if :: old != SLOTS -> dead[old] = sequence :: else fi;
  maybe_killed();
#ifdef FEED_AFTER_DEATH
  tell_feed(s);
#endif
  intent_sequence = 0;
  goto next;
 recovery:
  if
  :: intent_sequence != 0 && (intent_slot == SLOTS || put[intent_slot] == intent_sequence) ->
     if :: intent_old != SLOTS -> dead[intent_old] = intent_sequence :: else fi
  :: intent_sequence != 0 && intent_slot != SLOTS && put[intent_slot] != intent_sequence -> put[intent_slot] = 0
  :: else
  fi;
  /* The new index, of what lives; then the generation. */
  atomic {
    if :: LIVE(0) -> cell[id_of[0]] = 1 :: else fi;
    if :: LIVE(1) -> cell[id_of[1]] = 2 :: else fi;
    if :: LIVE(2) -> cell[id_of[2]] = 3 :: else fi;
    if :: cell[Y] != 0 && !(LIVE(cell[Y] - 1) && id_of[cell[Y] - 1] == Y) -> cell[Y] = 0 :: else fi;
    base[1] = sequence;
    generation = 1
  }
  intent_sequence = 0;
  goto next;
 over: skip
}

proctype recall() {
  byte g, from, to, followed, s, p, d, at, i, deaths, x_times, y_times, x_version, floor;
  byte candidate[SLOTS];                                        /* the put that was scored, or 0 */
  bit named[SLOTS];
  bit more, again, taken_x, taken_y;
  floor = VISIBLE;
 begin:
  atomic { g = generation; from = head[g]; to = from; deaths = 0; candidate[0] = 0; candidate[1] = 0; candidate[2] = 0 }
  s = 0;
  do
  :: s < SLOTS ->
     p = put[s];
     d = dead[s];
     if
     :: p != 0 && d < p ->
        /* The row is scored here; then put and dead once more. */
        d = dead[s];
        if :: put[s] == p && d < p -> candidate[s] = p :: else -> deaths = (d > deaths -> d : deaths) fi
     :: else -> deaths = (d > deaths -> d : deaths)
     fi;
     s++
  :: else -> break
  od;
 settle:
#ifndef NO_GENERATION_AFTER_SCAN
  if :: generation != g -> goto begin :: else fi;
#endif
  from = to;
  to = head[g];
  atomic {
    followed = (to == 0 -> base[g] : feed_sequence[FEED(g, to - 1)]);
    named[0] = 0; named[1] = 0; named[2] = 0;
    i = from;
    do
    :: i < to -> if :: feed_slot[FEED(g, i)] != SLOTS -> named[feed_slot[FEED(g, i)]] = 1 :: else fi; i++
    :: else -> break
    od;
    i = 0
  }
#ifndef DEATHS_OF_A_RECOVERY_COUNT
  /* Its new slot stands in no feed: another generation is to come. */
  if :: deaths > followed -> goto begin :: else fi;
#endif
#ifdef FEED_IS_NOT_READ
  named[0] = 0; named[1] = 0; named[2] = 0;
#endif
  s = 0;
  do
  :: s < SLOTS ->
     d = dead[s];
     if
     :: named[s] -> candidate[s] = 0
#ifdef ALL_DEAD_ARE_DROPPED
     :: !named[s] && candidate[s] != 0 && d >= candidate[s] -> candidate[s] = 0
#else
     :: !named[s] && candidate[s] != 0 && d >= candidate[s] && d <= followed -> candidate[s] = 0
#endif
     :: else
     fi;
     s++
  :: else -> break
  od;
  more = 0;
  s = 0;
  do
  :: s < SLOTS ->
     if
     :: named[s] ->
        p = put[s];
        d = dead[s];
        if
        :: p == 0 || d >= p -> more = (more || d > followed); deaths = (d > deaths -> d : deaths)
        :: else ->
#ifndef LATER_TENANT_IS_THE_NAMED_ONE
           /* Later than what was followed: the one that was named is gone, and where to stands further on. */
           more = (more || p > followed);
#endif
           d = dead[s];
           if :: put[s] == p && d < p -> candidate[s] = p :: else -> more = 1; deaths = (d > deaths -> d : deaths) fi
        fi
     :: else
     fi;
     s++
  :: else -> break
  od;
  if :: more -> goto settle :: else fi;
  /* By id. */
  atomic { again = 0; taken_x = 0; taken_y = 0; x_times = 0; y_times = 0; x_version = 0 }
  s = 0;
  do
  :: s < SLOTS ->
     if
     :: candidate[s] != 0 ->
        atomic {
          if
#ifdef ID_OF_THE_LIVING_ONLY
          :: put[s] == candidate[s] && dead[s] < put[s] -> i = id_of[s]
          :: put[s] == candidate[s] && dead[s] >= put[s] -> i = 0
#else
          :: put[s] == candidate[s] -> i = id_of[s]
#endif
          :: else -> i = 0; again = 1
          fi
        }
        if
        :: i != 0 ->
           atomic {
#ifdef LINES_ARE_BELIEVED
             if
             :: put[s] == candidate[s] && LIVE(s) -> at = s + 1
             :: else -> at = 0
             fi;
#else
             /* A dead line behind a cell is no absence: a get waits. */
             (cell[i] == 0 || LIVE(cell[i] - 1));
             at = cell[i];
#endif
             if
             :: at != 0 && i == X && !taken_x -> x_times++; x_version = version[at - 1]; assert(x_version <= VISIBLE)
             :: at != 0 && i == Y && !taken_y -> y_times++
             :: else
             fi;
#ifndef TAKEN_TWICE
             if :: i == X && at != 0 -> taken_x = 1 :: i == Y && at != 0 -> taken_y = 1 :: else fi;
#endif
             at = 0
           }
        :: else
        fi
     :: else
     fi;
     s++
  :: else -> break
  od;
#ifndef NOT_ASKED_ONCE_MORE
  if :: again -> goto settle :: else fi;
#endif
  assert(x_times == 1);
  assert(y_times <= 1);
  assert(x_version >= floor)
}

init {
  atomic {
    sequence = 2;
    /* X in any slot, Y there or not. */
    if
    :: put[0] = 1; id_of[0] = X; version[0] = 1; cell[X] = 1
    :: put[1] = 1; id_of[1] = X; version[1] = 1; cell[X] = 2
    :: put[2] = 1; id_of[2] = X; version[2] = 1; cell[X] = 3
    fi;
    if
    :: skip
    :: put[0] == 0 -> put[0] = 2; id_of[0] = Y; cell[Y] = 1
    :: put[2] == 0 -> put[2] = 2; id_of[2] = Y; cell[Y] = 3
    fi;
    base[0] = 2;
    run daemon();
    run recall()
  }
}
