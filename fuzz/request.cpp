// Input: a byte (lane or socket), dimensions, cap of content, then request headers.
#include <cmath>
#include <cstring>

#include "base/assert.hpp"
#include "layout/validate.hpp"

using namespace warmtier::layout;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t n) {
  constexpr size_t kFront = 1 + sizeof(uint32_t) + sizeof(uint64_t);
  if (n < kFront) return 0;
  const bool in_lane = (data[0] & 1) == 0;
  uint32_t dimensions = 0;
  uint64_t content_bytes_max = 0;
  std::memcpy(&dimensions, data + 1, sizeof dimensions);
  std::memcpy(&content_bytes_max, data + 1 + sizeof dimensions, sizeof content_bytes_max);
  dimensions = 1 + dimensions % kDimensionsMax;

  for (size_t at = kFront; n - at >= sizeof(RequestHeader); at += sizeof(RequestHeader)) {
    RequestHeader r;
    std::memcpy(&r, data + at, sizeof r);
    if (validate_request(r, dimensions, content_bytes_max, in_lane) != RequestVerdict::good) continue;
    const bool put = r.operation == static_cast<uint16_t>(Operation::put);
    const bool update = r.operation == static_cast<uint16_t>(Operation::update);
    const bool clear = r.operation == static_cast<uint16_t>(Operation::clear);
    WARM_ASSERT(put || (in_lane && (update || clear || r.operation == static_cast<uint16_t>(Operation::remove))));
    WARM_ASSERT(clear ? r.id_bytes == 0 : r.id_bytes >= 1 && r.id_bytes <= kIdBytesMax);
    WARM_ASSERT(r.dimensions == (put ? dimensions : 0) && (put || r.content_bytes == 0));
    WARM_ASSERT(put || r.condition != WARM_IF_ABSENT);
    WARM_ASSERT(r.content_bytes <= content_bytes_max && r.content_bytes <= kContentBytesMax);
    WARM_ASSERT(!in_lane || uint64_t{r.dimensions} * 4 + r.id_bytes + r.content_bytes <= kLanePayloadBytes);
    WARM_ASSERT(r.cell < kCellsPerSession && r.session_index < kSessionsPerChannel);
    WARM_ASSERT(r.condition != WARM_IF_SEQUENCE || r.if_sequence < kSequenceEnd);
    WARM_ASSERT(!(put || update) ||
                (std::isfinite(r.quad.confidence) && std::isfinite(r.quad.activation) && std::isfinite(r.quad.decay_rate)));
  }

  // The rest as numbers, at every alignment that floats have.
  float values[256];
  const size_t count = std::min(n / sizeof(float), std::size(values));
  std::memcpy(values, data, count * sizeof(float));
  bool finite = true;
  for (size_t i = 0; i < count; ++i) finite = finite && std::isfinite(values[i]);
  WARM_ASSERT(all_finite(values, count) == finite);
  return 0;
}
