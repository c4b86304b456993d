/* One entry of the session table and its result cells, tenants one after the other, over kills of the daemon (L1, L5, S4).
 *
 * A tenant may end at any time with requests published and unanswered; and, said goodbye by one thread while another is inside a call, it
 * may publish one more after its end. Claims are one step here (lanes.pml has them in several).
 *
 * Claims: a tenant takes no answer of another one; what it published before its end is carried out before its entry says dead; nothing of
 * it is carried out afterwards.
 * Not here: how an entry is offered, accepted and handed back (handback.pml).
 *
 * run: holds, quick: -DREQ=1
 * run: holds:
 * run: holds: -DT=3 -DL=1
 * run: breaks L1 client.tickets_above_the_cell, quick: -DTICKETS_FROM_ONE
 * run: breaks L5, quick: -DDEAD_ARE_SERVED
 * run: breaks L5 daemon.session_by_number, quick: -DBY_PLACE
 * run: breaks S4 daemon.sweep_before_dead, quick: -DDEAD_BEFORE_THE_SWEEP
 */
#ifndef L
#define L 2
#endif
#define N 2
#ifndef T
#define T 2
#endif
#ifndef REQ
#define REQ 2
#endif
#ifndef DK
#define DK 1
#endif
#define E(l,n) ((l)*N+(n)%N)
#define ID(i,r) (((i)-1)*(REQ+1)+(r))               /* session numbers from 1, r from 1; REQ+1 is the late one, in the other cell */
#define MAIN ((i)%2)
byte seq[L*N], rs[L*N], rt[L*N], rp[L*N]; bit rc[L*N];   /* lanes: commit word, session number, ticket, payload, cell */
byte done[L]; byte cnum[2], cres[2]; byte tnum; bit live; /* state file: the cells, the table entry */
bit inV; byte inL,inN,inI,inT,inS,inP; bit inC; byte slotput; byte nextS=1;
byte ex[T*(REQ+1)+1]; bit pub[T*(REQ+1)+1]; bit ended[T+1], marked[T+1]; bit dkill; byte dk;
inline publish(i,t,p,c){ atomic{ (seq[E(l,done[l]+1)]!=done[l]+1 || seq[E(l,done[l]+2)]!=done[l]+2) ->
        d_step{ n=done[l]+1; if :: seq[E(l,n)]==n -> n++ :: else fi; rs[E(l,n)]=i; rt[E(l,n)]=t; rp[E(l,n)]=p; rc[E(l,n)]=c; seq[E(l,n)]=n; n=0; l=0; if :: !ended[i] -> pub[p]=1 :: else fi } } }
inline lane(){ if :: l=0
#if L>1
                  :: l=1
#endif
               fi }
proctype tenant(byte i){
  byte r=1,l,n,first,late;
end_a: (live && tnum==i);                           /* a daemon killed while it writes the table entry: the number is skipped */
#ifdef TICKETS_FROM_ONE
  first=1; late=1;
#else
  first=cnum[MAIN]+1; late=cnum[1-MAIN]+1;
#endif
  do
  :: r<=REQ -> lane(); publish(i,first+r-1,ID(i,r),MAIN);
     if
     :: atomic{ (cnum[MAIN]>=first+r-1) -> assert(cnum[MAIN]==first+r-1 && cres[MAIN]==ID(i,r) && ex[ID(i,r)]==1) }; r++
     :: break                                         /* ends with its request open */
     fi
  :: break
  :: else -> break
  od;
  ended[i]=1;                                        /* pidfd, or bye */
  if :: lane(); publish(i,late,ID(i,REQ+1),1-MAIN) :: skip fi      /* late: another thread was inside a call */
}
proctype daemon(){
  byte l,n,i,t,s,p,sw; bit c;
restart:
  { if :: inV ->
         if :: done[inL]<inN ->
              if :: slotput==inS -> assert(inI==tnum && live); cres[inC]=inP; cnum[inC]=inT; done[inL]=inN :: else fi
            :: else fi; inV=0
       :: else fi;
end_d: do
    :: atomic{ sw==0 && live && ended[tnum] ->
#ifdef DEAD_BEFORE_THE_SWEEP
       sw=L+1
#else
       sw=1
#endif
       }
    :: sw>L -> atomic{ live=0; marked[tnum]=1; sw=0;
          assert(!pub[ID(tnum,1)] || ex[ID(tnum,1)]==1); if :: REQ>1 -> assert(!pub[ID(tnum,2)] || ex[ID(tnum,2)]==1) :: else fi }   /* what was published before the end is carried out */
    :: sw==0 && !live && tnum<T -> tnum++; live=1     /* number first, then the state */
    :: if
       :: atomic{ sw>0 && sw<=L ->
             if :: seq[E(sw-1,done[sw-1]+1)]==done[sw-1]+1 -> l=sw-1 :: else -> sw++; goto next fi }
       :: sw==0 && seq[E(0,done[0]+1)]==done[0]+1 -> l=0
#if L>1
       :: sw==0 && seq[E(1,done[1]+1)]==done[1]+1 -> l=1
#endif
       fi;
       n=done[l]+1; i=rs[E(l,n)]; t=rt[E(l,n)]; p=rp[E(l,n)]; c=rc[E(l,n)];
#ifndef DEAD_ARE_SERVED
#ifdef BY_PLACE
       if :: !live -> done[l]=n; goto next :: else fi;
#else
       if :: !live || tnum!=i -> done[l]=n; goto next :: else fi;
#endif
#endif
       if :: cnum[c]>=t -> done[l]=n; goto next :: else fi;
       assert(!marked[i]);                           /* nothing of a session that was marked dead is carried out */
       s=nextS; nextS++;
       inV=0; inL=l; inN=n; inI=i; inT=t; inS=s; inP=p; inC=c; inV=1;
       atomic{ ex[p]++; assert(ex[p]<=1); slotput=s };
       cres[c]=p; cnum[c]=t; done[l]=n;
next:  atomic{ l=0;n=0;i=0;t=0;s=0;p=0;c=0 }
    od
  } unless { dkill };
  skip; atomic{ dkill=0; l=0;n=0;i=0;t=0;s=0;p=0;c=0;sw=0 } goto restart
}
proctype killer(){
end_k: do :: atomic{ dk<DK && !dkill -> dkill=1; dk++ } :: break od }
init{ byte z=1; atomic{ do :: z<=T -> run tenant(z); z++ :: else -> break od; run daemon(); run killer() } }
