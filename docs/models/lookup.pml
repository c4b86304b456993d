/* A lookup against put, replace, remove, a larger index, and a daemon that is killed at any step and started again
 * (R3, R4, R6, R7, R13, W3, W4, X1, X5, T1, T2).
 *
 * Id X is looked up; Y has the same tag. One probe chain of two cells, three slots, which are used again as soon as they are dead (what
 * pins are for is pin.pml). Every load and store of shared memory is a step. An exact oracle keeps every version of X.
 *
 * Claims: what a reader is told of X was true at a moment of its call, no reader is told of an older version after a newer one was
 * told to anybody, and a reader that finds a dead line behind an unchanged cell has a new generation to hope for.
 * Not here: orders weaker than the program's own (readers only load; the writer's stores stay in order on x86-64), locators and content.
 *
 * run: holds: -DREADERS=1 -DOPS=3
 * run: holds, quick: -DREADERS=1 -DOPS=2
 * run: holds: -DREADERS=1 -DOPS=3 -DX_ALONE -DTABLES=3
 * run: holds: -DREADERS=2 -DOPS=2 -DX_ALONE
 * run: breaks W4 store.cell_before_death: -DREADERS=1 -DOPS=3 -DDEATH_BEFORE_CELL
 * run: breaks R3 client.dead_is_not_absent, quick: -DREADERS=1 -DOPS=3 -DDEAD_IS_ABSENT
 * run: breaks R3 client.put_and_dead_again, quick: -DREADERS=1 -DOPS=3 -DCELL_ALONE_AGAIN
 * run: breaks R4 client.negative_only_if_unmoved, quick: -DREADERS=1 -DOPS=3 -DNEGATIVE_AT_ONCE
 * run: breaks R4 client.negative_line_again: -DREADERS=1 -DOPS=4 -DTABLES=1 -DNEGATIVE_CELL_ALONE
 * run: breaks W3 store.put_last: -DREADERS=1 -DOPS=3 -DCELL_BEFORE_PUT
 * run: breaks X1 store.id_keeps_its_cell: -DREADERS=1 -DOPS=3 -DID_MOVES
 * run: breaks R7 client.generation_after_hit client.generation_after_miss: -DREADERS=1 -DOPS=3 -DNO_GENERATION_AFTER
 * run: breaks R7: -DREADERS=1 -DOPS=3 -DGENERATION_AT_THE_START
 * run: breaks T1 store.remove_is_finished: -DREADERS=1 -DOPS=3 -DREMOVE_UNDONE
 * run: breaks T1: -DREADERS=1 -DOPS=3 -DPUT_UNDONE
 * run: breaks T1 store.replace_is_finished: -DREADERS=1 -DOPS=3 -DOLD_LEFT_ALIVE
 * run: breaks T2: -DREADERS=1 -DOPS=3 -DGIVES_UP -DGENERATION_LATE
 * run: breaks T2: -DREADERS=1 -DOPS=3 -DGIVES_UP -DGENERATION_SAME
 * run: breaks X5 store.old_table_until_generation: -DREADERS=1 -DOPS=3 -DGIVES_UP -DOLD_TABLE_STOPS_EARLY
 * run: breaks R6 client.cell_again: -DREADERS=2 -DOPS=2 -DX_ALONE -DTABLES=1 -DNO_CELL_AGAIN
 */
#ifndef SLOTS
#define SLOTS 3
#endif
#define CELLS 2
#ifndef TABLES
#define TABLES 2
#endif
#ifndef OPS
#define OPS 4
#endif
#ifndef READERS
#define READERS 2
#endif
#define X 1
#define Y 2
byte put[SLOTS], dead[SLOTS], idof[SLOTS], ver[SLOTS];
byte cell[TABLES*CELLS];
byte gen=0;
bool alive=1, recovering=0;
/* intent line */
byte ik=0, iid, iold, inew, iseq;      /* 1 put, 2 replace, 3 remove */
byte seq=1;
/* the oracle: version n of X, hist[n]=present */
bool hist[OPS+2]; byte started=0, acked=0, maxret=0;
#define LIVE(s) (put[s]!=0 && dead[s] < put[s])

inline pickfree(s) { if :: !LIVE(0) -> s=0 :: !LIVE(1) -> s=1
#if SLOTS > 2
  :: !LIVE(2) -> s=2
#endif
  fi }
inline find(id,t,c,s) { /* the writer's own lookup */ c=0; s=SLOTS;
  do :: c<CELLS -> if :: cell[t*CELLS+c]!=0 && idof[cell[t*CELLS+c]-1]==id -> s=cell[t*CELLS+c]-1; break :: else c++ fi
     :: else break od }
inline DIE() { if :: gen+1<TABLES && !hasdied -> hasdied=1; goto killed :: skip fi }

proctype Daemon() { byte id,c,s,o,n=0,k,t=0; bool hasdied=0; bool fresh=0;
 loop:
  if :: n==OPS -> goto done :: n<OPS fi;
  atomic { n++;
#ifdef X_ALONE
   id=X;
#else
   if :: id=X :: id=Y fi;
#endif
   find(id,t,c,o);
   if :: o==SLOTS -> k=1; /* absent: put */
        if :: cell[t*CELLS]==0 -> c=0 :: cell[t*CELLS+1]==0 -> c=1 fi
      :: o<SLOTS -> if :: k=2 :: k=3 fi fi;
   seq++;
   if :: k!=3 -> pickfree(s) :: else s=SLOTS fi;
   ik=k; iid=id; iold=o; inew=s; iseq=seq;
   if :: id==X -> started++; hist[started]=(k!=3) :: else fi
  }
  DIE();
  if :: k!=3 ->
       put[s]=0;
       DIE();
#ifdef CELL_BEFORE_PUT
       cell[t*CELLS+c]=s+1;
#endif
       atomic { idof[s]=id; ver[s]=(id==X -> started : 0) }
       put[s]=seq;
       DIE();
     :: else fi;
#ifdef DEATH_BEFORE_CELL
  if :: k!=1 -> dead[o]=seq :: else fi; DIE();
#endif
#ifdef ID_MOVES
  if :: k==2 && cell[t*CELLS+1-c]==0 -> cell[t*CELLS+c]=0; cell[t*CELLS+1-c]=s+1 :: else -> if :: k==3 -> cell[t*CELLS+c]=0 :: else cell[t*CELLS+c]=s+1 fi fi;
#else
  if :: k==3 -> cell[t*CELLS+c]=0 :: else cell[t*CELLS+c]=s+1 fi;
#endif
  DIE();
#ifndef DEATH_BEFORE_CELL
  if :: k!=1 -> dead[o]=seq :: else fi; DIE();
#endif
  atomic { ik=0; if :: id==X -> acked=started :: else fi };
#ifdef GENERATION_LATE
  if :: fresh -> gen=t; fresh=0 :: else fi;
#endif
  /* resize */
  if :: TABLES>1 && gen+1<TABLES && t==gen ->
#ifdef OLD_TABLE_STOPS_EARLY
       atomic { cell[(t+1)*CELLS]=cell[t*CELLS+1]; cell[(t+1)*CELLS+1]=cell[t*CELLS]; t++; fresh=1 }
       goto loop
#else
       atomic { if :: cell[(t+1)*CELLS]=cell[t*CELLS+1]; cell[(t+1)*CELLS+1]=cell[t*CELLS] :: cell[(t+1)*CELLS]=cell[t*CELLS]; cell[(t+1)*CELLS+1]=cell[t*CELLS+1] fi; t++ }
       gen=t
#endif
     :: skip fi;
#ifdef OLD_TABLE_STOPS_EARLY
  if :: fresh -> gen=t; fresh=0 :: else fi;
#endif
  goto loop;
 killed:
  recovering=1; t=gen;
  /* recovery: finish or discard by the intent line */
  if :: ik==3 ->
#ifndef REMOVE_UNDONE
        dead[iold]=iseq;
#else
        if :: dead[iold]!=iseq -> atomic { if :: iid==X -> started-- :: else fi } :: else fi;
#endif
     :: ik==1 || ik==2 ->
        if :: put[inew]==iseq ->
#ifdef PUT_UNDONE
              if :: !(ik==2 && dead[iold]==iseq) -> put[inew]=0; if :: iid==X -> started-- :: else fi :: else fi
#else
#ifdef OLD_LEFT_ALIVE
              skip
#else
              if :: ik==2 -> dead[iold]=iseq :: else fi
#endif
#endif
           :: else -> if :: iid==X -> started-- :: else fi fi
     :: else fi;
  ik=0;
  /* rebuild into a new table, any cell order */
  atomic { t++; c=0; s=0; cell[t*CELLS]=0; cell[t*CELLS+1]=0;
    do :: s<SLOTS -> if :: LIVE(s) -> cell[t*CELLS+c]=s+1; c++ :: else fi; s++ :: else break od;
    if :: k=cell[t*CELLS]; cell[t*CELLS]=cell[t*CELLS+1]; cell[t*CELLS+1]=k :: skip fi; c=0; s=0; k=0 }
#ifdef GENERATION_LATE
  fresh=1;
#else
#ifdef GENERATION_SAME
  skip;
#else
  gen=t;
#endif
#endif
  atomic { recovering=0; acked=started };   /* undecided requests are answered */
  goto loop;
 done: 
#ifdef GENERATION_LATE
  gen=t;
#endif
#ifdef OLD_TABLE_STOPS_EARLY
  gen=t;
#endif
  skip }

proctype Reader() { byte t=0,c,cv,cv2,s,p,p2,d,d2,v,i,floor,n,g;
  atomic { floor = (acked>maxret -> acked : maxret) }
 restart:
  t=gen;
 walk: atomic { cv=0;cv2=0;s=0;p=0;p2=0;d=0;d2=0;v=0;i=0;g=0 };
#ifdef GENERATION_AT_THE_START
  g=gen; if :: g!=t -> goto restart :: else fi;
#endif
  c=0;
 next: atomic { cv=0;cv2=0;s=0;p=0;p2=0;d=0;d2=0;v=0;i=0 };
  if :: c==CELLS -> goto nf :: else fi;
 again:
  cv=cell[t*CELLS+c];
  if :: cv==0 -> c++; goto next :: else fi;
  s=cv-1;
  p=put[s]; d=dead[s];
  if :: p==0 || d>=p ->
 changed:
#ifdef DEAD_IS_ABSENT
        c++; goto next;
#endif
        cv2=cell[t*CELLS+c];
#ifdef CELL_ALONE_AGAIN
        if :: cv2!=cv -> goto again
#else
        p2=put[s]; d2=dead[s];
        if :: cv2!=cv || p2!=p || d2!=d -> goto again
#endif
           :: else -> /* dead, cell unchanged: not my index any more, or recovery is on */
#ifdef GIVES_UP
             goto out       /* only wrong answers are looked for */
#else
             atomic { assert(gen!=t || recovering); (gen!=t) -> goto restart }
#endif
             fi
     :: else fi;
  atomic { i=idof[s]; v=ver[s] }
  if :: i!=X ->
#ifdef NEGATIVE_AT_ONCE
        c++; goto next;
#endif
        cv2=cell[t*CELLS+c]; p2=put[s];
#ifdef NEGATIVE_CELL_ALONE
        p2=p;
#endif
        if :: cv2==cv && p2==p -> c++; goto next :: else goto again fi
     :: else fi;
  p2=put[s]; d=dead[s];
  if :: p2!=p || d>=p -> goto changed :: else fi;
#ifndef NO_CELL_AGAIN
  cv2=cell[t*CELLS+c]; if :: cv2!=cv -> goto again :: else fi;
#endif
#ifndef NO_GENERATION_AFTER
#ifndef GENERATION_AT_THE_START
  g=gen; if :: g!=t -> goto restart :: else fi;
#endif
#endif
  atomic { assert(v>=floor && v<=started); if :: v>maxret -> maxret=v :: else fi }
  goto out;
 nf:
#ifndef NO_GENERATION_AFTER
#ifndef GENERATION_AT_THE_START
  g=gen; if :: g!=t -> goto restart :: else fi;
#endif
#endif
  atomic { n=floor; 
    do :: n<=started && hist[n] -> n++ :: else break od;
    assert(n<=started);           /* X was present all the time: a false "not found" */
    if :: n>maxret -> maxret=n :: else fi }
 out: atomic { t=0;c=0;cv=0;cv2=0;s=0;p=0;p2=0;d=0;d2=0;v=0;i=0;floor=0;n=0;g=0 } }

init { atomic { 
  hist[0]=1; put[0]=1; idof[0]=X; cell[0]=1;   /* X present, version 0, slot 0, cell 0 of table 0 */
  run Daemon(); run Reader();
#if READERS > 1
  run Reader()
#endif
 } }
