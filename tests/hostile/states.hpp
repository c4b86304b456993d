// Random states of everything that a client may write, given to the daemon's own rooms: lanes, session memory, touches, large
// puts.
#pragma once

#include <cstdint>

namespace warmtier::tests::hostile {

struct StateOptions {
  uint64_t states = 1'000'000;
  uint64_t seed = 1;
};

struct StateCounts {
  uint64_t states = 0;
  uint64_t executed = 0;       // requests of the hostile sessions that reached the store
  uint64_t bad_requests = 0;   // found wrong
  uint64_t changed_meanwhile = 0;  // whose bytes changed between the copy of the header and the reading of the rest
  uint64_t large_puts = 0;
  uint64_t touches = 0;        // that named something
  uint64_t sessions = 0;       // begun
  uint64_t checkpoints = 0;
  uint64_t raced_states = 0;   // while a thread wrote as fast as it can
  uint64_t honest_puts = 0;
  uint64_t honest_compared = 0;
  double seconds = 0;
};

// Two channels, the hostile one and another user's. After each state: requests that reach the store lie within their entry and
// come from who may write; of the other channel nothing but its own answers has changed; its next put is carried out and read
// back. At the end the store is opened anew and everything of the other user compared. Ends the process with code 1, and says
// why, where that does not hold.
StateCounts run_states(const StateOptions& options);

}  // namespace warmtier::tests::hostile
