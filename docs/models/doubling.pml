/* Lookups while the index doubles step by step, with the distance bits of a home, and a daemon that is killed at any step, the doubling
 * and the recovery included (R1, R7, X1 to X5, T1, T2).
 *
 * Table 0 has two homes, table 1 is its double, table 2 is what a recovery makes. B cells a bucket; an id's chain is its home and the next
 * bucket. The store thread copies home by home between operations. Hashes: XH, YH, ZH.
 * ORDER is the order of the stores of a change that goes to both tables: 0 old cell, new cell, death; 1 new, old, death (the code's);
 * 2 old, death, new; 3 old, death, answer, new. DISTANCES: with the bits, any free cell of the chain may be taken.
 *
 * Claims: as in lookup.pml; besides, the store thread's own look finds what is there.
 * Not here: a second doubling, pins, content. A bit that is set after its cell but before the answer, or cleared before the cell, does no
 * harm here either: the bit is then where the change takes effect.
 *
 * run: holds: -DORDER=0
 * run: holds, quick: -DORDER=1 -DOPS=1
 * run: holds: -DORDER=1
 * run: holds: -DORDER=3
 * run: holds: -DXH=1 -DYH=0
 * run: holds: -DKILLS=2 -DX_ALONE -DNO_Y
 * run: holds: -DWITH_Z -DNO_Y -DKILLS=0
 * run: holds: -DOPS=3 -DX_ALONE -DNO_Y
 * run: holds: -DREADERS=2 -DOPS=1
 * run: breaks X4 store.change_both_tables, quick: -DREADERS_JUDGE -DOLD_TABLE_ONLY
 * run: breaks X4 store.ahead_in_old_table_only: -DREADERS_JUDGE -DAHEAD_IN_BOTH
 * run: breaks X4 store.remove_from_both_tables: -DREADERS_JUDGE -DREMOVE_FROM_OLD_ONLY
 * run: breaks X5 store.old_table_until_generation, quick: -DREADERS_JUDGE -DOLD_TABLE_STOPS_EARLY
 * run: breaks X5 store.all_homes_copied_first: -DREADERS_JUDGE -DXH=1 -DYH=0 -DGENERATION_EARLY
 * run: breaks X4: -DREADERS_JUDGE -DCURSOR_MOVES_WITHIN
 * run: breaks R7 client.generation_after_hit client.generation_after_miss: -DREADERS_JUDGE -DNO_GENERATION_AFTER
 * run: breaks T2: -DREADERS_JUDGE -DGENERATION_FIRST
 * run: breaks T2: -DREADERS_JUDGE -DGENERATION_SAME
 *
 * A daemon that finds an unfinished table of a dead one cannot go on with it, in none of three ways.
 *
 * run: breaks X5: -DREADERS_JUDGE -DRECOVERY_CONTINUES=1
 * run: breaks X5: -DREADERS_JUDGE -DRECOVERY_CONTINUES=2
 * run: breaks X5: -DREADERS_JUDGE -DRECOVERY_CONTINUES=3
 *
 * Any order of the two stores is right as long as the generation changes between operations only (X5). If it changed inside one, only new
 * table, old table, death stood it.
 *
 * run: breaks X4 X5: -DREADERS_JUDGE -DGENERATION_BEFORE_DEATH -DORDER=2
 * run: breaks X4 X5: -DREADERS=2 -DX_ALONE -DNO_Y -DKILLS=0 -DOPS=1 -DGENERATION_BETWEEN
 * run: holds: -DREADERS=2 -DX_ALONE -DNO_Y -DKILLS=0 -DOPS=1 -DGENERATION_BETWEEN -DORDER=1
 *
 * run: holds: -DDISTANCES -DOPS=1
 * run: holds: -DDISTANCES -DB=2 -DWITH_Z -DNO_Y -DZH=4 -DKILLS=0 -DNO_DOUBLING
 * run: breaks X2 store.bit_cleared_last: -DREADERS_JUDGE -DDISTANCES -DB=2 -DWITH_Z -DNO_Y -DZH=4 -DKILLS=0 -DNO_DOUBLING -DBIT_CLEARED_WITH_ANY
 * run: breaks X2 store.bit_set_first: -DREADERS_JUDGE -DDISTANCES -DBIT_AFTER_THE_ANSWER
 * run: breaks X2: -DREADERS_JUDGE -DDISTANCES -DBIT_NOT_COPIED
 * run: breaks X2: -DREADERS_JUDGE -DDISTANCES -DBIT_IN_ONE_TABLE
 */
#ifndef SLOTS
#define SLOTS 3
#endif
#ifndef B
#define B 1
#endif
#ifndef OPS
#define OPS 2
#endif
#ifndef READERS
#define READERS 1
#endif
#ifndef XH
#define XH 0
#endif
#ifndef YH
#define YH 1
#endif
#ifndef ZH
#define ZH 2
#endif
#ifndef ORDER
#define ORDER 0
#endif
#define X 1
#define Y 2
#define Z 3
#define CL (2*B)
#define H(id) ((id)==X -> XH : ((id)==Y -> YH : ZH))
#define NH(t) ((t)==0 -> 2 : 4)
#define HM(t,id) (H(id) & (NH(t)-1))
#define BASE(t) ((t)==0 -> 0 : (4*(t)-2)*B)
#define CI(t,id,i) (BASE(t) + ((H(id)+(i)/B) & (NH(t)-1))*B + (i)%B)
#define BI(t,id) ((t)*4+HM(t,id))
byte put[SLOTS], dead[SLOTS], idof[SLOTS], ver[SLOTS];
#ifndef KILLS
#define KILLS 1
#endif
byte cell[(6+4*KILLS)*B];
#ifdef DISTANCES
bool bm[8+4*KILLS];
#endif
byte gen=0;
bool recovering=0;
byte ik=0, iid, iold, inew, iseq;      /* the intent line: 1 put, 2 replace, 3 remove */
byte seq=3;
bool hist[OPS+2]; byte started=0, acked=0, maxret=0;   /* the oracle: version n of X, hist[n]=present */
#define LIVE(s) (put[s]!=0 && dead[s] < put[s])
hidden byte x0, x1, x2;                /* scratch, only inside atomic steps */

inline pickfree(s) { if :: !LIVE(0) -> s=0 :: !LIVE(1) -> s=1 :: !LIVE(2) -> s=2
#if SLOTS > 3
  :: !LIVE(3) -> s=3
#endif
  fi }
#if SLOTS > 3
#define ANYFREE (!LIVE(0) || !LIVE(1) || !LIVE(2) || !LIVE(3))
#else
#define ANYFREE (!LIVE(0) || !LIVE(1) || !LIVE(2))
#endif
inline find(t,id,c,s) { c=0; s=SLOTS;
  do :: c<CL -> if :: cell[CI(t,id,c)]!=0 && idof[cell[CI(t,id,c)]-1]==id -> s=cell[CI(t,id,c)]-1; break :: else c++ fi
     :: else break od }
inline freepos(t,id,c) { /* c=CL: none */
#ifdef DISTANCES
  if :: cell[CI(t,id,0)]==0 -> c=0 :: cell[CI(t,id,1)]==0 -> c=1
#if B > 1
     :: cell[CI(t,id,2)]==0 -> c=2 :: cell[CI(t,id,3)]==0 -> c=3
#endif
     :: else -> c=CL fi
#else
  c=0; do :: c<CL && cell[CI(t,id,c)]!=0 -> c++ :: else break od
#endif
  }
inline insert(t,s) { /* whole insertion into a table nobody reads */
  freepos(t,idof[s],x2); assert(x2<CL); cell[CI(t,idof[s],x2)]=s+1;
#ifdef DISTANCES
#ifndef BIT_NOT_COPIED
  if :: x2>=B -> bm[BI(t,idof[s])]=1 :: else fi;
#endif
#endif
  x2=0 }
inline copyhome(h) { x0=0;
  do :: x0<CL -> x1=cell[((h+x0/B)&1)*B + x0%B];
       if :: x1!=0 && (H(idof[x1-1]) & 1)==h -> assert(LIVE(x1-1)); insert(1,x1-1) :: else fi; x0++
     :: else break od; x0=0; x1=0 }
#if KILLS == 0
#define DIE() skip
#else
inline DIE() { if :: died<KILLS -> died++; goto killed :: skip fi }
#endif
#if KILLS > 1
#define RDIE() DIE()
#else
#define RDIE() skip
#endif
inline others(t,id,c,r) { x0=B; r=0;   /* another entry of this home at distance 1? */
  do :: x0<CL -> if :: x0!=c && cell[CI(t,id,x0)]!=0 && HM(t,idof[cell[CI(t,id,x0)]-1])==HM(t,id) -> r=1 :: else fi; x0++ :: else break od; x0=0 }
inline apply(t,c) {
#ifdef DISTANCES
#ifndef BIT_AFTER_THE_ANSWER
  if :: k==1 && c>=B && !bm[BI(t,id)] -> bm[BI(t,id)]=1; DIE() :: else fi;
#endif
#endif
  cell[CI(t,id,c)] = (k==3 -> 0 : s+1);
  DIE();
#ifdef DISTANCES
  if :: k==3 && c>=B ->
#ifdef BIT_CLEARED_WITH_ANY
       bm[BI(t,id)]=0;
#else
       atomic { others(t,id,c,x1); if :: !x1 -> bm[BI(t,id)]=0 :: else fi; x1=0 };
#endif
       DIE() :: else fi;
#endif
  }
inline applynew() {
#ifdef BIT_IN_ONE_TABLE
  cell[CI(1,id,c1)] = (k==3 -> 0 : s+1); DIE()
#else
  apply(1,c1)
#endif
  }

#ifdef GENERATION_BETWEEN
#define GENERATION_MAY_CHANGE() if :: both && dbl && cur==2 -> gen=1; DIE() :: skip fi   /* the generation changes between the two stores */
#else
#define GENERATION_MAY_CHANGE() skip
#endif
proctype Daemon() { byte id,c,c1,s,o,n=0,k,t=0,cur=0; byte died=0; bool dbl=0, both=0, old=1;
 loop: atomic { id=0;c=0;c1=0;s=0;o=0;k=0;both=0;old=1 };
  if
#ifndef NO_DOUBLING
  :: t==0 && !dbl -> dbl=1; cur=0; goto loop                    /* a doubling begins */
#endif
  :: dbl && cur<2 -> atomic { copyhome(cur); cur++ }; DIE(); goto loop
#ifdef GENERATION_EARLY
  :: dbl && cur==1 && gen==0 -> gen=1; DIE(); goto loop
#endif
  :: dbl && cur==2 -> gen=1; DIE(); atomic { t=1; dbl=0; cur=0 }; goto loop
  :: n<OPS -> skip
  :: n==OPS -> goto done
  fi;
  atomic { n++;
   if :: id=X
#ifndef X_ALONE
#ifndef NO_Y
      :: id=Y
#endif
#ifdef WITH_Z
      :: id=Z
#endif
#endif
   fi;
   both=(dbl && (H(id)&1)<cur);
#ifdef OLD_TABLE_STOPS_EARLY
   if :: dbl && cur==2 -> t=1; dbl=0; both=0 :: else fi;        /* and the generation later */
#endif
   find(t,id,c,o);
#ifndef READERS_JUDGE
   if :: id==X -> assert((o!=SLOTS)==hist[started]) :: else fi;
   assert(o==SLOTS || LIVE(o));
#endif
   if :: o==SLOTS -> k=1 :: o<SLOTS -> if :: ANYFREE -> k=2 :: k=3 fi fi;
#ifdef OLD_TABLE_ONLY
   both=0;
#endif
#ifdef REMOVE_FROM_OLD_ONLY
   if :: k==3 -> both=0 :: else fi;
#endif
#ifdef AHEAD_IN_BOTH
   if :: k==1 && dbl -> both=1 :: else fi;
#endif
   if :: k==1 -> freepos(t,id,c); if :: both -> freepos(1,id,c1) :: else fi
      :: k!=1 && both -> find(1,id,c1,x0);
#ifndef READERS_JUDGE
         assert(x0==o);
#endif
         if :: x0==SLOTS -> both=0 :: else fi; x0=0
      :: else fi;
   if :: c==CL || c1==CL || (k!=3 && !ANYFREE) -> goto loop      /* no room: this put must wait (for the generation) */
      :: else fi;
   seq++;
   if :: k!=3 -> pickfree(s) :: else s=SLOTS fi;
   ik=k; iid=id; iold=o; inew=s; iseq=seq;
   if :: id==X -> started++; hist[started]=(k!=3) :: else fi
  }
  DIE();
  if :: k!=3 ->
       put[s]=0;
       DIE();
       atomic { idof[s]=id; ver[s]=(id==X -> started : 0) }
       put[s]=seq;
       DIE()
     :: else fi;
#ifdef CURSOR_MOVES_WITHIN
  if :: dbl && cur<2 -> atomic { copyhome(cur); cur++ } :: skip fi;   /* the cursor moves inside an operation */
#endif
#if ORDER == 1
  if :: both -> applynew() :: else fi;
  GENERATION_MAY_CHANGE();
#endif
  apply(t,c);
#if ORDER == 0
  GENERATION_MAY_CHANGE();
  if :: both -> applynew() :: else fi;
#endif
#ifdef GENERATION_BEFORE_DEATH
  if :: dbl && cur==2 -> gen=1; DIE() :: skip fi;                     /* the generation changes inside an operation */
#endif
  if :: k!=1 -> dead[o]=seq; DIE() :: else fi;
#if ORDER == 2
  if :: both -> applynew() :: else fi;
#endif
  atomic { ik=0; if :: id==X -> acked=started :: else fi };
#if ORDER == 3
  DIE();
  if :: both -> applynew() :: else fi;
#endif
#ifdef BIT_AFTER_THE_ANSWER
  if :: k==1 && c>=B && !bm[BI(t,id)] -> DIE(); bm[BI(t,id)]=1 :: else fi;
  if :: k==1 && both && c1>=B && !bm[BI(1,id)] -> DIE(); bm[BI(1,id)]=1 :: else fi;
#endif
#ifdef OLD_TABLE_STOPS_EARLY
  if :: t==1 && gen==0 -> if :: gen=1 :: skip fi :: else fi;
#endif
  goto loop;
 killed:
  atomic { recovering=1; id=0;c=0;c1=0;s=0;o=0;k=0;both=0 };
  if :: ik==3 -> dead[iold]=iseq
     :: ik==1 || ik==2 ->
        if :: put[inew]==iseq -> if :: ik==2 -> dead[iold]=iseq :: else fi
           :: else -> atomic { if :: iid==X -> started-- :: else fi; ik=0 } fi
     :: else fi;
  RDIE();
  ik=0;
  RDIE();
#ifdef GENERATION_FIRST
  gen=1+died;
#endif
#ifdef RECOVERY_CONTINUES
  if :: dbl && gen==0 ->
     atomic { t=1; s=0;
       do :: s<SLOTS -> 
          if :: LIVE(s) ->
#if RECOVERY_CONTINUES == 1          /* per id: overwrite its cell, else insert */
             find(1,idof[s],c,o); if :: o==SLOTS -> insert(1,s) :: else cell[CI(1,idof[s],c)]=s+1 fi
#elif RECOVERY_CONTINUES == 2        /* from home 0 again */
             freepos(1,idof[s],c); if :: c<CL -> insert(1,s) :: else fi
#else                            /* from the cursor on */
             if :: (H(idof[s])&1)>=cur -> freepos(1,idof[s],c); if :: c<CL -> insert(1,s) :: else fi :: else fi
#endif
             :: else fi; s++
          :: else break od;
       c=0; o=0 };
     goto rebuilt
  :: else fi;
#endif
  atomic { t=1+died; 
    if :: s=0; do :: s<SLOTS -> if :: LIVE(s) -> insert(t,s) :: else fi; s++ :: else break od
       :: s=SLOTS; do :: s>0 -> s--; if :: LIVE(s) -> insert(t,s) :: else fi :: else break od fi }
 rebuilt:
  atomic { s=0; dbl=0; cur=0 };
#ifdef GENERATION_SAME
  skip;
#else
  gen=t;
#endif
  RDIE();
  atomic { recovering=0; acked=started };   /* undecided requests are answered */
  goto loop;
 done: skip }

proctype Reader() { byte t=0,c,cv,cv2,s,p,p2,d,d2,v,i,floor,n,g; bool f;
  t=gen;                                    /* attached at any time before the lookup begins */
  atomic { floor = (acked>maxret -> acked : maxret) };
  goto walk;
 restart:
  t=gen;
 walk: atomic { cv=0;cv2=0;s=0;p=0;p2=0;d=0;d2=0;v=0;i=0;g=0;c=0;f=0 };
#ifdef DISTANCES
  f=bm[BI(t,X)];
#endif
 next: atomic { cv=0;cv2=0;s=0;p=0;p2=0;d=0;d2=0;v=0;i=0 };
#ifdef DISTANCES
  if :: c==B && !f -> goto nf :: else fi;
#endif
  if :: c==CL -> goto nf :: else fi;
 again:
  cv=cell[CI(t,X,c)];
  if :: cv==0 -> c++; goto next :: else fi;
  s=cv-1;
  p=put[s]; d=dead[s];
  if :: p==0 || d>=p ->
 changed:
        cv2=cell[CI(t,X,c)];
        p2=put[s]; d2=dead[s];
        if :: cv2!=cv || p2!=p || d2!=d -> goto again
           :: else ->
             atomic { assert(gen!=t || recovering); (gen!=t) -> goto restart }
             fi
     :: else fi;
  atomic { i=idof[s]; v=ver[s] }
  if :: i!=X ->
        cv2=cell[CI(t,X,c)]; p2=put[s];
        if :: cv2==cv && p2==p -> c++; goto next :: else goto again fi
     :: else fi;
  p2=put[s]; d=dead[s];
  if :: p2!=p || d>=p -> goto changed :: else fi;
  cv2=cell[CI(t,X,c)]; if :: cv2!=cv -> goto again :: else fi;
#ifndef NO_GENERATION_AFTER
  g=gen; if :: g!=t -> goto restart :: else fi;
#endif
  atomic { assert(v>=floor && v<=started); if :: v>maxret -> maxret=v :: else fi }
  goto out;
 nf:
#ifndef NO_GENERATION_AFTER
  g=gen; if :: g!=t -> goto restart :: else fi;
#endif
  atomic { n=floor; 
    do :: n<=started && hist[n] -> n++ :: else break od;
    assert(n<=started);           /* X was present all the time: a false "not found" */
    if :: n>maxret -> maxret=n :: else fi }
 out: atomic { t=0;c=0;cv=0;cv2=0;s=0;p=0;p2=0;d=0;d2=0;v=0;i=0;floor=0;n=0;g=0;f=0 } }

init { atomic { /* X absent, or in its home, or at distance 1; Y absent or present */
  if :: skip
     :: hist[0]=1; put[0]=1; idof[0]=X; if :: cell[CI(0,X,0)]=1
          :: cell[CI(0,X,B)]=1
#ifdef DISTANCES
             ; bm[BI(0,X)]=1
#endif
        fi
  fi;
  if :: skip
#ifndef NO_Y
     :: put[1]=1; idof[1]=Y; freepos(0,Y,x2); cell[CI(0,Y,x2)]=2;
#ifdef DISTANCES
        if :: x2>=B -> bm[BI(0,Y)]=1 :: else fi;
#endif
        x2=0
#endif
  fi;
  run Daemon(); run Reader();
#if READERS > 1
  run Reader()
#endif
 } }
