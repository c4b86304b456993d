// Ten writers and five readers on a few ids: what a reader sees is one record, never a mix, never an older one after a newer one,
// and an id that is only ever replaced is never "not found".
#pragma once

#include <cstdint>
#include <string>

#include "tests/support/daemon.hpp"

namespace warmtier::tests::system {

struct RaceOptions {
  unsigned writers = 10;
  unsigned readers = 5;
  uint64_t races = 0;  // stop after so many raced reads ..
  uint64_t seconds = 0;  // .. or so many seconds, whichever is asked for and comes first
  uint32_t dimensions = 64;
};

struct RaceCounts {
  uint64_t gets = 0;
  uint64_t raced = 0;  // the id was published anew between the get and the end of the check
  uint64_t not_found = 0;  // of ids that are removed at times
  uint64_t changes = 0;  // puts and removes
  double seconds = 0;
  std::string wrong;  // empty: nothing was
};

RaceCounts run_races(const RaceOptions& options);

}  // namespace warmtier::tests::system
