// Processes that put, remove, update and read a few ids while their daemon is killed and started again, and they themselves now
// and then; each records what it did. The ids change every few hundred operations, so that what nobody knows the outcome of is
// about few of them.
#pragma once

#include <cstdint>
#include <vector>

#include "tests/linear/history.hpp"

namespace warmtier::tests::linear {

struct RunOptions {
  unsigned processes = 5;
  unsigned keys = 3;  // ids that are used at one time
  uint64_t seconds = 5;
  uint64_t seed = 1;
  bool kills = true;
  const char* without = nullptr;  // a rule that daemon and clients leave out
};

struct RunResult {
  std::vector<Operation> history;
  unsigned daemon_kills = 0;
  unsigned client_kills = 0;
  uint64_t ns = 0;
};

// Gives the test up when a process says something that no call may say.
RunResult run(const RunOptions& options);

}  // namespace warmtier::tests::linear
