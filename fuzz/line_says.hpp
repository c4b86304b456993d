// The front of the segment target's input, for the target and for who writes its seeds.
#pragma once

#include <cstdint>

namespace warmtier::fuzz {

struct LineSays {
  uint64_t put;
  uint64_t offset_bytes;
  uint32_t slot;
  uint32_t content_bytes;
  uint32_t checksum;
  uint32_t unused;
};
static_assert(sizeof(LineSays) == 32);

}  // namespace warmtier::fuzz
