#include "libclient/segments.hpp"

#include <unistd.h>

#include <bit>
#include <cerrno>
#include <cstring>
#include <memory>

#include "layout/validate.hpp"

namespace warmtier::libclient {

base::Result<std::unique_ptr<SegmentMap>> SegmentMap::make(base::Fd file, uint64_t number, const uint8_t (&store_id)[16]) {
  auto bytes = base::file_bytes(file.get());
  if (!bytes) return base::pass(std::move(bytes));
  auto segment = std::make_unique<SegmentMap>();
  segment->number = number;
  segment->bytes = *bytes;
  std::byte header[sizeof(layout::SegmentHeader)]{};
  const size_t header_bytes = *bytes < sizeof header ? static_cast<size_t>(*bytes) : sizeof header;
  auto mapping = *bytes == 0 ? base::Result<base::ReadMapping>(base::ReadMapping{}) : base::ReadMapping::map(file.get(), *bytes);
  if (mapping && *mapping) {
    segment->map = std::move(*mapping);
    std::memcpy(header, segment->map.data(), header_bytes);
  } else {
    segment->file = std::move(file);
    if (!segment->read(header, 0, header_bytes)) return base::fail(WARM_E_CORRUPT, "segment %lu cannot be read", number);
  }
  const auto verdict = layout::validate_segment_header(std::span(header, header_bytes), store_id, number);
  if (verdict != layout::Verdict::good) {
    return base::fail(WARM_E_CORRUPT, "segment %lu is %s", number, layout::verdict_text(verdict));
  }
  return segment;
}

bool SegmentMap::read(void* to, uint64_t offset, uint64_t n) const noexcept {
  auto* at = static_cast<std::byte*>(to);
  while (n > 0) {
    const ssize_t got = ::pread(file.get(), at, n, static_cast<off_t>(offset));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return false;
    at += got;
    offset += static_cast<uint64_t>(got);
    n -= static_cast<uint64_t>(got);
  }
  return true;
}

SegmentTable::SegmentTable(const std::byte* tier, uint64_t epoch, const std::vector<SegmentMap*>& segments)
    : tier_(tier), epoch_(epoch), mask_(std::bit_ceil(segments.size() * 2 + 1) - 1), entries_(mask_ + 1) {
  for (SegmentMap* segment : segments) {
    uint64_t i = spread(segment->number);
    while (entries_[i & mask_].number_plus_1 != 0) ++i;
    entries_[i & mask_] = {.number_plus_1 = segment->number + 1,
                           .base = segment->map ? segment->map.data() : nullptr,
                           .bytes = segment->bytes,
                           .map = segment};
  }
}

}  // namespace warmtier::libclient
