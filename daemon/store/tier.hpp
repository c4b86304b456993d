// The mapped file warm.tier: superblocks, control page, chunks of slot lines and embedding rows. Mapped once for the whole
// capacity; the file grows into the map by whole chunks, each allocated before it is promised.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/error.hpp"
#include "base/fd.hpp"
#include "base/mapping.hpp"
#include "layout/layout.hpp"

namespace warmtier::daemon::store {

class Tier {
 public:
  // Opens and maps the file for what `superblock` says; believes nothing but its geometry.
  static base::Result<Tier> open(base::Fd fd, const layout::Superblock& superblock);

  [[nodiscard]] int fd() const noexcept { return fd_.get(); }
  [[nodiscard]] const layout::Geometry& geometry() const noexcept { return geometry_; }
  [[nodiscard]] uint64_t chunks() const noexcept { return chunks_; }
  [[nodiscard]] uint64_t slots() const noexcept {
    const uint64_t slots = chunks_ * layout::kSlotsPerChunk;
    return slots < geometry_.capacity ? slots : geometry_.capacity;
  }
  void set_chunks(uint64_t chunks) noexcept { chunks_ = chunks; }

  [[nodiscard]] layout::SlotLine& line(uint32_t slot) const noexcept {
    return *reinterpret_cast<layout::SlotLine*>(map_.data() + geometry_.line_offset(slot));
  }
  [[nodiscard]] std::byte* row(uint32_t slot) const noexcept { return map_.data() + geometry_.row_offset(slot); }
  [[nodiscard]] layout::ControlPage& control() const noexcept {
    return *reinterpret_cast<layout::ControlPage*>(map_.data() + layout::kControlPageOffset);
  }
  [[nodiscard]] std::byte* superblock_page(unsigned copy) const noexcept {
    return map_.data() + layout::kSuperblockOffsets[copy];
  }
  [[nodiscard]] std::span<const std::byte> header_bytes() const noexcept { return {map_.data(), layout::kTierHeaderBytes}; }
  [[nodiscard]] std::span<const std::byte> mapped(uint64_t offset, uint64_t bytes) const noexcept {
    return {map_.data() + offset, bytes};
  }
  [[nodiscard]] std::span<std::byte> chunk_bytes(uint64_t chunk) const noexcept {
    return {map_.data() + geometry_.chunk_offset(chunk), geometry_.chunk_bytes};
  }
  [[nodiscard]] std::span<std::byte> chunk_lines(uint64_t chunk) const noexcept {
    return {map_.data() + geometry_.chunk_offset(chunk), size_t{layout::kSlotsPerChunk} * sizeof(layout::SlotLine)};
  }

 private:
  base::Fd fd_;
  base::WriteMapping map_;
  layout::Geometry geometry_;
  uint64_t chunks_ = 0;
};

}  // namespace warmtier::daemon::store
