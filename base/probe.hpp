// Places in the daemon and in the library at which tracers look on (USDT: bpftrace, perf, SystemTap, gdb). docs/operations.md
// lists them with their arguments; a test compares that list with the notes in the binaries.
//
// A probe is one `nop` and a note that says where it is and in which registers or memory its arguments lie. So an argument must
// be a value that is there anyway, a field as it stands: what had to be computed would be computed with nobody looking on.
#pragma once

#ifdef WARMTIER_PROBES
#define SDT_USE_VARIADIC  // asks it for STAP_PROBEV
#include <sys/sdt.h>
#define WARM_PROBE(name, ...) STAP_PROBEV(warmtier, name __VA_OPT__(, ) __VA_ARGS__)
#else
#define WARM_PROBE(name, ...) ((void)0)
#endif
