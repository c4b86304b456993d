// Checksums of records and files: what is covered, in one place for the side that writes and the sides that check.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "base/hash.hpp"
#include "layout/layout.hpp"

namespace warmtier::layout {

// Content as the caller gave it; absent content has a number of its own.
constexpr uint64_t kAbsentContentHash = 0x6162'7365'6E74'0001;
inline uint64_t content_hash(const void* content, size_t bytes, bool absent) noexcept {
  return absent ? kAbsentContentHash : base::hash64(content, bytes, 0);
}

// Over embedding and content; the line keeps its low half. `row` holds dimensions * 4 bytes of values.
inline uint32_t payload_checksum(const void* row, uint32_t dimensions, uint64_t content_hash) noexcept {
  return static_cast<uint32_t>(base::hash64(row, size_t{dimensions} * 4, content_hash));
}

// `header` is a private copy; its header_checksum is taken as 0.
inline uint32_t record_header_checksum(RecordHeader header, const void* id, uint32_t content_bytes, uint32_t checksum) noexcept {
  header.header_checksum = 0;
  const uint64_t seed = base::hash64(&header, sizeof header, uint64_t{content_bytes} << 32 | checksum);
  return static_cast<uint32_t>(base::hash64(id, header.id_bytes, seed));
}

inline uint64_t superblock_checksum(const Superblock& superblock) noexcept {
  return base::hash64(&superblock, offsetof(Superblock, checksum), 0);
}
inline uint64_t segment_header_checksum(const SegmentHeader& header) noexcept {
  return base::hash64(&header, offsetof(SegmentHeader, checksum), 0);
}

}  // namespace warmtier::layout
