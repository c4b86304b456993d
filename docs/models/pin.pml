/* A pin against the reuse of its slot, and reads without a pin (R5, R9, R12, R15, G2, G3), with store buffers as on x86-64.
 *
 * One slot. The daemon ends its tenant, looks at every pin cell, uses the slot for the next tenant, and so on. Readers pin and read
 * the two halves of the bytes; a reader without a pin reads them between two looks at the line. Each process has a buffer of one store:
 * a store waits until it is empty, a load sees its own buffer, and when it is written back is anybody's choice.
 *
 * Claim: the bytes that a read hands out are of the tenant whose put it saw.
 * Not here: batches, steps of a scan, sessions that come and go (grace.pml); the index (lookup.pml); more than one slot.
 *
 * run: holds, quick: -DREADERS=1
 * run: holds: -DREADERS=2 -DTENANTS=2
 * run: breaks R5, quick: -DREADERS=1 -DNO_FENCE_AFTER_PIN
 * run: breaks G2, quick: -DREADERS=1 -DNO_FENCE_BEFORE_SCAN
 * run: breaks R5 client.dead_again, quick: -DREADERS=1 -DNO_DEAD_AGAIN
 * run: breaks G2: -DREADERS=1 -DSCAN_BEFORE_DEATH
 * run: breaks R12: -DREADERS=1 -DPIN_CELL_MOVES
 * run: breaks R12: -DREADERS=1 -DPIN_CLEARED_EARLY
 *
 * For reads without a pin either of two safeguards is enough, put = 0 before the first byte (G3) or the look at dead as well as at put
 * (R9, R15); without both, or with put = 0 late, they show a mixture.
 *
 * run: holds: -DREADERS=1 -DPUT_ALONE_AGAIN
 * run: holds: -DREADERS=1 -DNO_PUT_ZERO
 * run: breaks G3 R9 R15 client.line_again_without_pin: -DREADERS=1 -DNO_PUT_ZERO -DPUT_ALONE_AGAIN
 * run: breaks G3: -DREADERS=1 -DPUT_ZERO_LATE -DPUT_ALONE_AGAIN
 */
#define NCELL 2
#define A_PUT 0
#define A_DEAD 1
#define A_B0 2
#define A_B1 3
#define A_PIN 4            /* 4 .. 4+NCELL*READERS-1 */
#ifndef READERS
#define READERS 2
#endif
#ifndef TENANTS
#define TENANTS 3
#endif
#define NA (A_PIN + NCELL*READERS)
#define NP (READERS+2)          /* processes with a store buffer: 0 daemon, 1..READERS readers, READERS+1 scanner */
byte mem[NA];
byte sbA[NP]; byte sbV[NP]; bool sbF[NP];

inline ST(me,a,v) { atomic { !sbF[me]; sbF[me]=1; sbA[me]=a; sbV[me]=v } }
inline LD(me,a,x) { atomic { if :: sbF[me] && sbA[me]==(a) -> x = sbV[me] :: else -> x = mem[a] fi } }
inline FENCE(me)  { !sbF[me] }

proctype Flusher() { byte i;
endf: do
  :: atomic { sbF[0] -> mem[sbA[0]] = sbV[0]; sbF[0]=0; sbA[0]=0; sbV[0]=0 }
  :: atomic { sbF[1] -> mem[sbA[1]] = sbV[1]; sbF[1]=0; sbA[1]=0; sbV[1]=0 }
  :: atomic { sbF[2] -> mem[sbA[2]] = sbV[2]; sbF[2]=0; sbA[2]=0; sbV[2]=0 }
#if READERS > 1
  :: atomic { sbF[3] -> mem[sbA[3]] = sbV[3]; sbF[3]=0; sbA[3]=0; sbV[3]=0 }
#endif
  od }

proctype Daemon() { byte t=1, c=0, v=0; bool pinned=0;
  do
  :: t < TENANTS ->
#ifndef SCAN_BEFORE_DEATH
     ST(0,A_DEAD,t+1);            
#endif
rescan:
#ifndef NO_FENCE_BEFORE_SCAN
     FENCE(0);
#endif
     pinned=0; c=0;
     do :: c < NCELL*READERS -> LD(0,A_PIN+c,v); if :: v==1 -> pinned=1 :: else fi; c++
        :: else -> break od;
     v=0;
     if :: pinned -> goto rescan :: else fi;
#ifdef SCAN_BEFORE_DEATH
     ST(0,A_DEAD,t+1);
#endif
     /* The slot is free, and used again at once. */
     t++;
#ifndef NO_PUT_ZERO
#ifndef PUT_ZERO_LATE
     ST(0,A_PUT,0);
#endif
#endif
     ST(0,A_B0,t);
#ifdef PUT_ZERO_LATE
     ST(0,A_PUT,0);
#endif
     ST(0,A_B1,t);
     ST(0,A_PUT,t);               /* last; the former tenant's death stays where it is */
  :: break
  od }
/* Tenant t has put t; the dead word t + 1 says that it died. */
#define LIVE(p,d) ((p)!=0 && (d) <= (p))

proctype Reader(byte me) { byte p, d, p2, d2, b; byte cell; byte n=0;
 again:
  if :: n==2 -> goto out :: else n++ fi;
  cell = A_PIN + NCELL*(me-1);
#ifdef PIN_CELL_MOVES
  cell++;
#endif
  LD(me,A_PUT,p); LD(me,A_DEAD,d);
  if :: !LIVE(p,d) -> p=0; d=0; goto again :: else fi;
  d=0;
  ST(me,cell,1);
#ifndef NO_FENCE_AFTER_PIN
  FENCE(me);
#endif
  LD(me,A_PUT,p2); LD(me,A_DEAD,d2);
#ifdef NO_DEAD_AGAIN
  if :: p2 != p -> ST(me,cell,0); p=0;p2=0;d2=0; goto again :: else fi;
#else
  if :: p2 != p || !LIVE(p2,d2) -> ST(me,cell,0); p=0;p2=0;d2=0; goto again :: else fi;
#endif
  p2=0; d2=0;
  /* view held */
  LD(me,A_B0,b); assert(b==p); b=0;
#ifdef PIN_CELL_MOVES
  ST(me,cell-1,1); FENCE(me); ST(me,cell,0); cell=cell-1;
#endif
#ifdef PIN_CLEARED_EARLY
  ST(me,cell,0);
#endif
  LD(me,A_B1,b); assert(b==p); b=0;
#ifndef PIN_CLEARED_EARLY
  ST(me,cell,0);
#endif
  p=0; goto again;
 out: skip }

/* Without a pin: line, bytes, line. */
proctype Scanner(byte me) { byte p,d,b0,b1,p2,d2;
  LD(me,A_PUT,p); LD(me,A_DEAD,d);
  if :: !LIVE(p,d) -> goto out :: else fi;
  LD(me,A_B0,b0); LD(me,A_B1,b1);
  LD(me,A_PUT,p2); LD(me,A_DEAD,d2);
#ifdef PUT_ALONE_AGAIN
  if :: p2==p -> assert(b0==p && b1==p) :: else fi;
#else
  if :: p2==p && LIVE(p2,d2) -> assert(b0==p && b1==p) :: else fi;
#endif
 out: skip }

init { atomic {
  mem[A_PUT]=1; mem[A_DEAD]=0; mem[A_B0]=1; mem[A_B1]=1;
  run Flusher(); run Daemon();
  run Reader(1);
#if READERS > 1
  run Reader(2);
#endif
  run Scanner(READERS+1) } }
