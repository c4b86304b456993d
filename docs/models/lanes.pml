/* Lanes, entries, result cells and the intent: two clients that may be killed, a daemon that is killed and started again
 * (L2, L3, L4, L5, L7, L15, W2, T1).
 *
 * L lanes of N entries. Each client has one result cell and two requests, one after the other, with rising tickets; it may give up at a
 * deadline. RUN: a client hands both in under one claim, a cell each, or one after the other. A mutex whose owner was killed is taken over.
 *
 * Claims: a request is carried out once at most, and was before its client is told so; no client takes another request's answer; what
 * is carried out is one request, never a mixture, and of a run a beginning.
 * Not here: requests that are refused (answers.pml), session entries that get another tenant (sessions.pml), sleep and wake (sleep.pml),
 * fenced lanes, large content by the socket. FALLING breaks only that a killed run leaves its beginning.
 *
 * run: holds, quick: -DL=1 -DCK=0
 * run: holds: -DL=1
 * run: holds: -DL=1 -DDK=2
 * run: holds: -DL=2
 * run: breaks T1, quick: -DL=1 -DNO_INTENT
 * run: breaks T1 daemon.decided_is_answered, quick: -DL=1 -DNOT_DECIDED
 * run: sticks T1: -DL=1 -DUNDECIDED_IS_DONE
 * run: sticks L7 daemon.result_before_done, quick: -DL=1 -DDONE_BEFORE_RESULT
 * run: breaks L2 client.commit_last, quick: -DL=1 -DCOMMIT_FIRST
 * run: breaks L7 daemon.number_last, quick: -DL=1 -DNUMBER_FIRST
 * run: breaks W2 store.intent_cleared_first: -DL=1 -DINTENT_NOT_CLEARED
 * run: breaks L2 client.entry_free_again: -DL=1 -DN=1 -DENTRY_NOT_AWAITED
 * run: holds: -DL=2 -DCK=0 -DDK=0 -DNO_QUARANTINE
 *
 * Without the quarantine (L3, client.quarantine) the answer is not wrong either: the older ticket is dropped, which is why there is one.
 *
 * run: breaks L3 client.quarantine: -DL=2 -DCK=0 -DDK=0 -DNO_QUARANTINE -DNONE_DROPPED
 * run: holds: -DL=1 -DRUN
 * run: holds: -DL=1 -DRUN -DBY_ENTRY
 * run: breaks L15: -DL=1 -DRUN -DFALLING
 * run: breaks L4 client.repair_keeps_commits: -DL=1 -DRUN -DREPAIR_WIPES
 * run: breaks L4 client.repair_keeps_commits: -DL=1 -DRUN -DREPAIR_CLAIMS_AGAIN
 * run: breaks L2 client.entry_free_again: -DL=1 -DRUN -DROOM_FOR_THE_FIRST
 */
#ifndef N
#define N 2
#endif
#ifndef L
#define L 2
#endif
#define C 2
#define REQ 2
#ifndef DK
#define DK 1
#endif
#ifndef CK
#define CK 1
#endif
#define FREE 0
#define DIED 255
#define E(l,n) ((l)*N+(n)%N)
#define ID(i,k) ((i)*REQ+(k))     /* k from 1 */
#ifdef RUN                        /* runs: a client claims both its requests under one lock, a cell each; or one after the other */
#define CELL(i,t) ((i)*REQ+(t)-1)
#define NC (C*REQ)
byte rp[L*N], from[L]; bit run2[C];   /* payload (must fit session and ticket); first number of the claim; the run was claimed as one */
#else
#define CELL(i,t) (i)
#define NC C
#endif
byte M[L]; byte seq[L*N], rs[L*N], rt[L*N];         /* channel: client-writable: entry commit word, session, ticket */
byte done[L]; byte cnum[NC], cres[NC];                /* state file: daemon-written, survives the kill */
bit inV; byte inL,inN,inS,inI,inT; byte slotput; byte nextS=1;   /* superblock: intent; slot line */
byte ex[8]; bit killed[C]; bit dkill; byte dk,ck;
#ifdef RUN
#define FIELDS(m,t) rs[E(l,m)]=i; rt[E(l,m)]=t; rp[E(l,m)]=ID(i,t)
proctype client(byte i){
  byte k=1,n,l,w; bit rep;
  { do
    :: k<=REQ ->
       if :: k==1 -> w=2 :: w=1 fi;
retry: if
      :: atomic{ (M[0]==FREE||M[0]==DIED) -> rep=(M[0]==DIED); M[0]=i+1; l=0 }
#if L>1
      :: atomic{ (M[1]==FREE||M[1]==DIED) -> rep=(M[1]==DIED); M[1]=i+1; l=1 }
#endif
      fi;
#ifdef REPAIR_WIPES                                /* the repair takes back the commit words of the dead claim */
      if :: rep && from[l]>done[l] -> seq[E(l,from[l])]=0; seq[E(l,from[l]+1)]=0 :: else fi;
#endif
#ifdef REPAIR_CLAIMS_AGAIN                                /* the repair claims from where the dead claim began, committed or not */
      if :: rep && from[l]>done[l] -> n=from[l]
         :: else -> d_step{ n=done[l]; do ::n<done[l]+N && seq[E(l,n+1)]==n+1 -> n++ ::else->break od; n++ } fi;
#else
      d_step{ n=done[l]; do ::n<done[l]+N && seq[E(l,n+1)]==n+1 -> n++ ::else->break od; n++ }
#endif
#ifdef ROOM_FOR_THE_FIRST                                /* room is looked for for the first entry of the run only */
      if :: n>done[l]+N -> M[l]=FREE; (done[l]+N>=n); goto retry :: else fi;
#else
      if :: n+w-1>done[l]+N -> M[l]=FREE; (done[l]+N>=n+w-1); goto retry :: else fi;
#endif
      from[l]=n;
      if
      :: w==2 -> run2[i]=1;
#ifdef BY_ENTRY                                    /* entry by entry instead of all fields first: also right when rising */
#ifdef FALLING
           FIELDS(n+1,k+1); seq[E(l,n+1)]=n+1; FIELDS(n,k); seq[E(l,n)]=n
#else
           FIELDS(n,k); seq[E(l,n)]=n; FIELDS(n+1,k+1); seq[E(l,n+1)]=n+1
#endif
#else
           FIELDS(n,k); FIELDS(n+1,k+1);
#ifdef FALLING
           seq[E(l,n+1)]=n+1; seq[E(l,n)]=n
#else
           seq[E(l,n)]=n; seq[E(l,n+1)]=n+1
#endif
#endif
      :: else -> FIELDS(n,k); seq[E(l,n)]=n
      fi;
      M[l]=FREE;
      (cnum[CELL(i,k)]>=k); assert(cnum[CELL(i,k)]==k && cres[CELL(i,k)]==ID(i,k) && ex[ID(i,k)]==1);
      if :: w==2 -> k++; (cnum[CELL(i,k)]>=k); assert(cnum[CELL(i,k)]==k && cres[CELL(i,k)]==ID(i,k) && ex[ID(i,k)]==1) :: else fi;
      k++
    :: else -> break
    od
  } unless { killed[i] };
  skip; atomic{ byte z=0; do ::z<L -> if ::M[z]==i+1 -> M[z]=DIED ::else fi; z++ ::else->break od }
}
#else
proctype client(byte i){
  byte k=1,n,l;
  { do
    :: k<=REQ ->
retry: if
      :: atomic{ (M[0]==FREE||M[0]==DIED) -> M[0]=i+1; l=0 }
#if L>1
      :: atomic{ (M[1]==FREE||M[1]==DIED) -> M[1]=i+1; l=1 }
#endif
      fi;
      d_step{ n=done[l]; do ::n<done[l]+N && seq[E(l,n+1)]==n+1 -> n++ ::else->break od; n++ }
#ifndef ENTRY_NOT_AWAITED
      if :: n>done[l]+N -> M[l]=FREE; (done[l]+N>=n); goto retry :: else fi;
#endif
#ifdef COMMIT_FIRST
      seq[E(l,n)]=n; rs[E(l,n)]=i; rt[E(l,n)]=k;
#else
      rs[E(l,n)]=i; rt[E(l,n)]=k; seq[E(l,n)]=n;
#endif
      M[l]=FREE;
      if
      :: (cnum[i]>=k); assert(cnum[i]==k); assert(cres[i]==ID(i,k)); assert(ex[ID(i,k)]==1)
      :: skip;                                   /* deadline: outcome unknown */
#ifndef NO_QUARANTINE
         (cnum[i]>=k)                            /* the cell is not used again before its late result is in */
#endif
      fi; k++
    :: else -> break
    od
  } unless { killed[i] };
  skip; atomic{ byte z=0; do ::z<L -> if ::M[z]==i+1 -> M[z]=DIED ::else fi; z++ ::else->break od }
}
#endif
proctype daemon(){
  byte l,n,i,t,s;
restart:
  { if :: inV ->
         if :: done[inL]<inN ->
              if
#ifdef UNDECIDED_IS_DONE
              :: slotput!=inS -> done[inL]=inN
#endif
#ifdef NOT_DECIDED
              :: slotput==inS -> skip
#else
              :: slotput==inS -> cres[CELL(inI,inT)]=ID(inI,inT); cnum[CELL(inI,inT)]=inT; done[inL]=inN
#endif
              :: else -> skip
              fi
            :: else fi; inV=0
       :: else fi;
end_d: do
    :: if :: seq[E(0,done[0]+1)]==done[0]+1 -> l=0
#if L>1
          :: seq[E(1,done[1]+1)]==done[1]+1 -> l=1
#endif
       fi;
       n=done[l]+1; i=rs[E(l,n)]; t=rt[E(l,n)];
#ifdef RUN
       assert(rp[E(l,n)]==ID(i,t));                /* never a mixture of two requests */
       assert(!(run2[i] && t==2 && ex[ID(i,1)]==0)); /* what is carried out of a run is a beginning of it */
#endif
#ifdef NONE_DROPPED
       assert(cnum[CELL(i,t)]<t || ex[ID(i,t)]==1);
#endif
       if :: cnum[CELL(i,t)]>=t -> done[l]=n; goto next :: else fi;   /* L5: answers.pml */
       s=nextS; nextS++;
#ifndef NO_INTENT
#ifndef INTENT_NOT_CLEARED
       inV=0;
#endif
       inL=l; inN=n; inI=i; inT=t; inS=s; inV=1;
#endif
       atomic{ ex[ID(i,t)]++; assert(ex[ID(i,t)]<=1); slotput=s };
#ifdef DONE_BEFORE_RESULT
       done[l]=n; cres[CELL(i,t)]=ID(i,t); cnum[CELL(i,t)]=t;
#else
#ifdef NUMBER_FIRST
       cnum[CELL(i,t)]=t; cres[CELL(i,t)]=ID(i,t); done[l]=n;
#else
       cres[CELL(i,t)]=ID(i,t); cnum[CELL(i,t)]=t; done[l]=n;
#endif
#endif
next:  skip
    od
  } unless { dkill };
  skip; atomic{ dkill=0; l=0;n=0;i=0;t=0;s=0 } goto restart
}
proctype killer(){
end_k: do
  :: atomic{ dk<DK && !dkill -> dkill=1; dk++ }
  :: atomic{ ck<CK -> ck++; if ::killed[0]=1 ::killed[1]=1 fi }
  :: break
  od }
init{ atomic{ run client(0); run client(1); run daemon(); run killer() } }
