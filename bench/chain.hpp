// The least that this way of finding a record can cost.
#pragma once

#include <cstring>
#include <string>
#include <vector>

#include "base/mapping.hpp"
#include "bench/world.hpp"

namespace warmtier::bench {

// One dependent load from each of three maps with the sizes of index, slot lines and segments, then the payload lines of the
// same record: the store's own files, mapped once more, behind a table of the index's size in a memfd of our own.
class Chain {
 public:
  Chain(const std::string& store, uint64_t records);

  [[nodiscard]] uint64_t get(uint32_t place) const noexcept {
    const uint64_t cell = layout::load_acquire(reinterpret_cast<const uint64_t*>(index_.data())[place]);
    const auto slot = static_cast<uint32_t>(cell - 1);
    const layout::SlotLine& line = line_at(slot);
    const layout::Locator at = layout::locator_of(layout::load_acquire(line.locator));
    const std::byte* record = segments_[at.segment] + at.offset_bytes;
    layout::RecordHeader header;
    std::memcpy(&header, record, sizeof header);
    return touch_ends(tier_.data() + geometry_.row_offset(slot), kRowBytes) +
           touch_ends(record + sizeof header + header.id_bytes, header.stored_bytes);
  }
  [[nodiscard]] uint32_t place_of(uint64_t key) const noexcept { return place_of_[key]; }

 private:
  [[nodiscard]] const layout::SlotLine& line_at(uint32_t slot) const noexcept {
    return *reinterpret_cast<const layout::SlotLine*>(tier_.data() + geometry_.line_offset(slot));
  }

  layout::Geometry geometry_;
  base::ReadMapping tier_;
  base::ReadMapping index_;
  std::vector<base::ReadMapping> maps_;
  std::vector<const std::byte*> segments_;  // by number
  std::vector<uint32_t> place_of_;          // by key; what a hash would say
};

}  // namespace warmtier::bench
