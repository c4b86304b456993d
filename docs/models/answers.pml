/* Requests that may be refused, over kills of the daemon, against an exact oracle of linearizability (L5, L7, T1, T2).
 *
 * One object x; two clients put it if absent, or remove it, by lanes; a reader looks at it as the index shows it. Claims are one step here
 * (lanes.pml has them in several). A client that is killed is one that never looks again.
 *
 * Claim: all answers, with what the reader saw, are those of some order of the requests in which each lies between its beginning and its
 * answer (the oracle keeps every order that is still possible).
 * Not here: runs, tenants of session entries; an answer that never comes is not seen. Two clients on two lanes take too long.
 *
 * run: holds, quick: -DL=1 -DREQ=1
 * run: holds: -DL=1
 * run: holds: -DREQ1=0
 * run: breaks L5 daemon.answered_is_done: -DNOT_ASKED_WHETHER_ANSWERED
 * run: breaks T2 daemon.generation_before_result: -DRESULT_BEFORE_GENERATION
 * run: breaks T1 daemon.decided_is_answered, quick: -DNOT_DECIDED
 * run: breaks T1 store.remove_is_finished: -DREMOVE_UNDONE
 */
#ifndef L
#define L 2
#endif
#define N 2
#define C 2
#ifndef REQ
#define REQ 2
#endif
#ifndef DK
#define DK 1
#endif
#ifndef REQ1
#define REQ1 1
#endif
#ifndef RD
#define RD 1
#endif
#define PUT 1
#define REM 2
#define OK 1
#define REFUSED 2
#define E(l,n) ((l)*N+(n)%N)
byte seq[L*N], rs[L*N], rt[L*N], rk[L*N];           /* lanes */
byte done[L]; byte cnum[C], cres[C];                /* results: survive the kill */
bit inV; byte inL,inN,inI,inT,inS,inK;              /* intent */
byte slotput; bit px;                               /* slot words: survive. px: put live and not dead */
bit vx;                                             /* index cell: what a reader sees */
byte nextS=1; bit dkill; byte dk;
/* oracle: the set of (x, outcome of client 0's and 1's open request: 0 none yet, 1, 2) that some order of executions explains */
int S; byte opk[C]; bit pend[C];
#define CFG(x,a,b) ((x)+2*(a)+6*(b))
inline close(){ r=0;
  do :: r<2 -> c=0;
     do :: c<18 ->
        if :: S&(1<<c) ->
              x=c%2; a=(c/2)%3; b=c/6;
              if :: pend[0] && a==0 -> if :: opk[0]==PUT -> S=S|(1<<CFG(1,2-(1-x),b)) :: else -> S=S|(1<<CFG(0,2-x,b)) fi :: else fi;
              if :: pend[1] && b==0 -> if :: opk[1]==PUT -> S=S|(1<<CFG(1,a,2-(1-x))) :: else -> S=S|(1<<CFG(0,a,2-x)) fi :: else fi
           :: else fi; c++
        :: else -> break od; r++
     :: else -> break od; r=0;c=0;x=0;a=0;b=0 }
inline respond(i,v){ S2=0; c=0;
  do :: c<18 ->
        if :: S&(1<<c) ->
              x=c%2; a=(c/2)%3; b=c/6;
              if :: i==0 && a==v -> S2=S2|(1<<CFG(x,0,b)) :: i==1 && b==v -> S2=S2|(1<<CFG(x,a,0)) :: else fi
           :: else fi; c++
     :: else -> break od;
  S=S2; pend[i]=0; S2=0;c=0;x=0;a=0;b=0 }
inline look(v){ S=S&(v -> 174762 : 87381) }          /* the configurations with x=1 : x=0 */
hidden byte r,c,x,a,b; hidden int S2;
proctype client(byte i){
  byte k=1,l,n,kind;
  do
  :: k<=(i==0 -> REQ : REQ1) ->
     if :: kind=PUT :: kind=REM fi;
     d_step{ opk[i]=kind; pend[i]=1; close() }
     if :: l=0
#if L>1
        :: l=1
#endif
     fi;
     atomic{ (seq[E(l,done[l]+1)]!=done[l]+1 || seq[E(l,done[l]+2)]!=done[l]+2) ->
        d_step{ n=done[l]+1; if :: seq[E(l,n)]==n -> n++ :: else fi; rs[E(l,n)]=i; rt[E(l,n)]=k; rk[E(l,n)]=kind; seq[E(l,n)]=n; n=0; l=0; kind=0 } }
     if
     :: atomic{ (cnum[i]>=k) -> assert(cnum[i]==k); d_step{ respond(i,cres[i]) } assert(S!=0) }
     :: break                                   /* killed: its request stays open */
     fi; k++
  :: else -> break
  od }
proctype reader(){ byte z; do :: z<RD -> atomic{ d_step{ look(vx); close() } assert(S!=0); z++ } :: break od }
proctype daemon(){
  byte l,n,i,t,s,k;
restart:
  {
#ifdef RESULT_BEFORE_GENERATION
#define REINDEX skip
#else
#define REINDEX vx=px                               /* the effect finished, the new index and generation stand; only then the result */
#endif
    if :: inV ->
         if :: done[inL]<inN ->
              if
#ifdef NOT_DECIDED
              :: skip
#else
              :: inK==PUT && slotput==inS -> REINDEX; cres[inI]=OK; cnum[inI]=inT; done[inL]=inN
#ifndef REMOVE_UNDONE
              :: inK==REM -> px=0; REINDEX; cres[inI]=OK; cnum[inI]=inT; done[inL]=inN
#endif
              :: else -> skip
#endif
              fi
            :: else fi; inV=0
       :: else fi;
    vx=px;
end_d: do
    :: if :: seq[E(0,done[0]+1)]==done[0]+1 -> l=0
#if L>1
          :: seq[E(1,done[1]+1)]==done[1]+1 -> l=1
#endif
       fi;
       n=done[l]+1; i=rs[E(l,n)]; t=rt[E(l,n)]; k=rk[E(l,n)];
#ifndef NOT_ASKED_WHETHER_ANSWERED
       if :: cnum[i]>=t -> done[l]=n; goto next :: else fi;
#endif
       if
       :: (k==PUT)==px ->                       /* refused: no effect, no intent */
          cres[i]=REFUSED; cnum[i]=t; done[l]=n;
          goto next
       :: else
       fi;
       s=nextS; nextS++;
       inV=0; inL=l; inN=n; inI=i; inT=t; inS=s; inK=k; inV=1;
       if
       :: k==PUT -> atomic{ px=1; slotput=s }; vx=1
       :: else -> vx=0; px=0
       fi;
       cres[i]=OK; cnum[i]=t; done[l]=n;
next:  atomic{ l=0;n=0;i=0;t=0;s=0;k=0 }
    od
  } unless { dkill };
  skip; atomic{ dkill=0; l=0;n=0;i=0;t=0;s=0;k=0 } goto restart
}
proctype killer(){
end_k: do :: atomic{ dk<DK && !dkill -> dkill=1; dk++ } :: break od }
init{ atomic{ if :: px=0 :: px=1 fi; vx=px; S=(1<<px); run client(0); run client(1); run daemon(); run killer(); run reader() } }
