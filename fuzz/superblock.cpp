#include <cstring>

#include "base/assert.hpp"
#include "layout/record.hpp"
#include "layout/validate.hpp"

using namespace warmtier::layout;

namespace {

void expect_usable(const Superblock& s) {
  const Geometry g = Geometry::of(s.dimensions, s.capacity);
  WARM_ASSERT(s.dimensions >= 1 && s.dimensions <= kDimensionsMax && s.row_bytes == g.row_bytes);
  WARM_ASSERT(s.capacity >= 1 && s.capacity <= kCapacityMax && s.chunks_allocated <= g.chunks_max());
  WARM_ASSERT(g.file_bytes(g.chunks_max()) < uint64_t{1} << 62);
  WARM_ASSERT(s.segment_bytes >= kSegmentBytesMin && s.segment_bytes <= kSegmentBytesMax);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t n) {
  const auto bytes = std::as_bytes(std::span(data, n));
  const Verdict verdict = validate_superblock(bytes);
  WARM_ASSERT(n >= sizeof(Superblock) || verdict == Verdict::truncated);
  if (n >= sizeof(Superblock)) {
    Superblock s;
    std::memcpy(&s, data, sizeof s);
    if (verdict == Verdict::good) {
      WARM_ASSERT(s.checksum == superblock_checksum(s));
      expect_usable(s);
    }
    // No mutation finds a checksum: what lies behind it is reached by making it right.
    s.checksum = superblock_checksum(s);
    if (validate_superblock(std::as_bytes(std::span(&s, 1))) == Verdict::good) expect_usable(s);
  }
  Verdict verdicts[2];
  const auto chosen = choose_superblock(bytes, verdicts);
  WARM_ASSERT(!chosen || (*chosen < 2 && verdicts[*chosen] == Verdict::good));
  return 0;
}
