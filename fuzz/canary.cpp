// Input: one packet of the control socket, a list of segments. Its fault is that the count is believed: a fuzzer has to find the
// kind, the length that the header says, and a count that leads beyond the packet.
#include <cstring>
#include <vector>

#include "base/assert.hpp"
#include "layout/control.hpp"

using namespace warmtier::layout;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t n) {
  MessageHeader header;
  if (n < offsetof(Segments, numbers)) return 0;
  std::memcpy(&header, data, sizeof header);
  if (header.kind != static_cast<uint32_t>(MessageKind::segments) || header.bytes != n) return 0;
  uint32_t count = 0;
  std::memcpy(&count, data + offsetof(Segments, count), sizeof count);
  WARM_ASSERT(offsetof(Segments, numbers) + uint64_t{count} * sizeof(uint64_t) <= n);
  return 0;
}
