// What holds of a store between two operations, looked at as a whole. Fuzzers and the store's tests ask for it, and so does a
// start of a daemon that is built with failpoints: whatever a kill left must be whole again. A broken one ends the process.
#pragma once

#include <cstdint>

#include "daemon/store/index.hpp"
#include "daemon/store/segments.hpp"
#include "daemon/store/slots.hpp"
#include "daemon/store/tier.hpp"

namespace warmtier::daemon::store {

struct Books {
  const Tier& tier;
  const SegmentTable& segments;
  const Slots& slots;
  const IndexTable& index;
  const IndexTable* larger;  // while a doubling runs
  uint64_t cursor;           // of it: homes that are in both
  uint64_t records;
  uint64_t damaged;  // records that a start could not read
};

// Reads every line and every record's header.
void check_invariants(const Books& books);

}  // namespace warmtier::daemon::store
