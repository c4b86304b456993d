// Content segments: append-only files of self-describing records, one of them active. Full ones are sealed and never change;
// one without a live record goes by unlinking its file once that is durable.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/error.hpp"
#include "base/fd.hpp"
#include "base/mapping.hpp"
#include "layout/layout.hpp"

namespace warmtier::daemon::store {

struct Segment {
  uint64_t number = 0;
  base::Fd fd;
  base::WriteMapping map;
  uint64_t bytes = 0;           // length of the file
  uint64_t tail = 0;            // end of the last record
  uint64_t synced = 0;          // bytes up to here were handed to a completed sync
  uint64_t populated = 0;       // bytes up to here meet no page fault
  uint64_t live_records = 0;
  uint64_t live_bytes = 0;
  uint64_t last_death = 0;      // sequence of the latest death of one of its records
  bool sealed = false;
  bool entry_synced = false;    // its directory entry is durable

  [[nodiscard]] std::span<const std::byte> content() const noexcept { return {map.data(), map.bytes()}; }
  [[nodiscard]] std::byte* at(uint64_t offset) const noexcept { return map.data() + offset; }
};

// "0000000042.seg", with room for every number.
std::string segment_name(uint64_t number);

// A new file of `bytes`, allocated, mapped, with its header; the first `populate_bytes` populated. WARM_E_SYSTEM (EMFILE) where
// it would leave fewer descriptors than `descriptors_left`. Any thread.
base::Result<std::unique_ptr<Segment>> make_segment(int content_directory, uint64_t number, uint64_t bytes,
                                                    uint64_t populate_bytes, const uint8_t (&store_id)[16],
                                                    uint64_t descriptors_left = 0);
// For greetings, for lists of segments, which are handed out some at a time, and for the next start.
inline constexpr uint64_t kDescriptorsLeftBySegments = 32;
// An existing file: header validated, mapped, sealed.
base::Result<std::unique_ptr<Segment>> open_segment(int content_directory, uint64_t number, const uint8_t (&store_id)[16]);

// All segments by number. Numbers rise and never repeat: a sliding array.
class SegmentTable {
 public:
  [[nodiscard]] Segment* find(uint64_t number) const noexcept {
    const uint64_t i = number - first_;
    return i < table_.size() ? table_[i].get() : nullptr;
  }
  Segment& add(std::unique_ptr<Segment> segment);
  void remove(uint64_t number);
  [[nodiscard]] uint64_t size() const noexcept { return count_; }
  template <typename Visit>
  void for_each(Visit&& visit) const {
    for (const auto& segment : table_) {
      if (segment) visit(*segment);
    }
  }

 private:
  uint64_t first_ = 0;
  uint64_t count_ = 0;
  std::vector<std::unique_ptr<Segment>> table_;
};

}  // namespace warmtier::daemon::store
