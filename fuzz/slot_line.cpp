// Input: a slot number, then lines.
#include <cstring>

#include "base/assert.hpp"
#include "layout/validate.hpp"

using namespace warmtier::layout;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t n) {
  uint32_t slot = 0;
  if (n < sizeof slot) return 0;
  std::memcpy(&slot, data, sizeof slot);
  for (size_t at = sizeof slot; n - at >= sizeof(SlotLine); at += sizeof(SlotLine)) {
    SlotLine line;
    std::memcpy(&line, data + at, sizeof line);
    const LineVerdict verdict = validate_line(line, slot);
    WARM_ASSERT((verdict == LineVerdict::free) == (line.put == 0));
    if (verdict == LineVerdict::live) {
      WARM_ASSERT(live(line.put, line.dead) && put_word_valid(line.put, slot));
      WARM_ASSERT(locator_valid(line.locator, slot, sequence_of(line.put)));
      WARM_ASSERT(locator_of(line.locator).segment < kSegmentNumberEnd &&
                  locator_of(line.locator).offset_bytes < kSegmentBytesMax);
    }
    if (verdict == LineVerdict::dead) {
      WARM_ASSERT(!live(line.put, line.dead) && dead_word_names(line.dead, sequence_of(line.put)));
    }
  }
  return 0;
}
