// Where records' bytes lie: the active segment, to which they are appended, a spare one that follows it, large contents in
// segments of their own, and sealed segments without a live record, whose files go.
//
// Thread law: the store thread; next_number() and stage() any thread.
//
// Invariants
//  1. A segment is in the published list before a locator names it.
//  2. A sealed segment without a live record is in `dead_`; its file goes only when the last death in it is durable.
//  3. Numbers rise and never repeat, whether a segment comes of one or not.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "base/error.hpp"
#include "base/fd.hpp"
#include "daemon/store/segments.hpp"
#include "daemon/store/store.hpp"
#include "daemon/store/tier.hpp"
#include "layout/record.hpp"

namespace warmtier::daemon::store {

class Content {
 public:
  // Where a new record's bytes go.
  struct Room {
    Segment* segment = nullptr;
    uint64_t offset = 0;
    uint64_t bytes = 0;
  };

  Content(base::Fd directory, const layout::Superblock& superblock, uint64_t prepared_bytes, Tier& tier, Published& published,
          layout::StatusPage& status);
  ~Content();  // the spare one's file goes
  Content(const Content&) = delete;
  Content& operator=(const Content&) = delete;

  [[nodiscard]] int directory() const { return directory_.get(); }
  [[nodiscard]] SegmentTable& segments() { return segments_; }
  [[nodiscard]] const SegmentTable& segments() const { return segments_; }
  [[nodiscard]] uint64_t segment_bytes() const { return segment_bytes_; }
  [[nodiscard]] uint64_t bytes_live() const { return bytes_live_; }
  [[nodiscard]] uint64_t bytes_total() const { return bytes_total_; }
  [[nodiscard]] bool any_dead() const { return !dead_.empty(); }

  // segments() is filled: counts what is there. `whole`: every record of it could be read.
  void recovered(uint64_t bytes_live, bool whole);
  // The first active segment of this life.
  base::Status start();

  // nullopt: numbers are at their end.
  std::optional<uint64_t> next_number() {
    uint64_t& word = tier_.control().numbers.next_segment;
    uint64_t number = __atomic_load_n(&word, __ATOMIC_RELAXED);
    while (number < layout::kSegmentNumberEnd) {
      if (__atomic_compare_exchange_n(&word, &number, number + 1, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED)) return number;
    }
    return std::nullopt;
  }

  // Room for `bytes` in the active segment, else in the spare one, which becomes active. False: there is no spare one.
  bool reserve(uint64_t bytes, Room& ret_room) {
    if (active_->bytes - active_->tail < bytes && !take_spare()) return false;
    ret_room = {.segment = active_, .offset = active_->tail, .bytes = bytes};
    return true;
  }
  // What was staged becomes a segment of the store, to be published before a locator names it.
  Room adopt(StagedContent& staged, uint64_t bytes);
  void publish();
  // A record was stored in it.
  void appended(const Room& room) {
    room.segment->tail = room.offset + room.bytes;
    ++room.segment->live_records;
    room.segment->live_bytes += room.bytes;
    bytes_live_ += room.bytes;
    bytes_total_ += room.bytes;
  }
  // A record of this segment died. `bytes` 0: it could not be read.
  void died(uint64_t number, uint64_t bytes, uint64_t sequence) {
    Segment* segment = segments_.find(number);
    if (segment == nullptr) return;
    segment->last_death = sequence;
    segment->live_bytes -= std::min(segment->live_bytes, bytes);
    bytes_live_ -= std::min(bytes_live_, bytes);
    if (segment->live_records > 0 && --segment->live_records == 0 && segment->sealed) dead_.push_back(number);
  }

  // The header and id of the record that a line names. False: they cannot be read, or are another record's.
  bool read(const layout::SlotLine& line, layout::RecordHeader& ret_header, const std::byte*& ret_id) const {
    const layout::Locator at = layout::locator_of(line.locator);
    const Segment* segment = segments_.find(at.segment);
    if (segment == nullptr || at.offset_bytes + sizeof ret_header > segment->bytes) return false;
    layout::RecordHeader header;
    std::memcpy(&header, segment->at(at.offset_bytes), sizeof header);
    if (header.put != line.put || at.offset_bytes + sizeof header + header.id_bytes > segment->bytes) return false;
    ret_header = header;
    ret_id = segment->at(at.offset_bytes + sizeof header);
    return true;
  }

  // Nothing is appended to it any more; nullptr once it is sealed for good.
  [[nodiscard]] Segment* active() const { return active_; }
  void seal_active();
  [[nodiscard]] bool has_spare() const { return spare_ != nullptr; }
  void give_spare(std::unique_ptr<Segment> segment) { spare_ = std::move(segment); }
  void unlink_dead(uint64_t durable);

  base::Result<StagedContent> stage(uint32_t id_bytes, uint64_t content_bytes,
                                    const std::function<base::Status(std::byte*, uint64_t, uint64_t)>& read);

 private:
  bool take_spare();
  void activate(std::unique_ptr<Segment> segment);

  const base::Fd directory_;
  const uint64_t segment_bytes_;
  const uint64_t prepared_bytes_;  // of a segment, populated when it is made
  uint8_t store_id_[16] = {};
  Tier& tier_;
  Published& published_;
  layout::StatusPage& status_;
  SegmentTable segments_;
  Segment* active_ = nullptr;
  std::unique_ptr<Segment> spare_;
  std::vector<uint64_t> dead_;
  uint64_t bytes_live_ = 0;
  uint64_t bytes_total_ = 0;
};

}  // namespace warmtier::daemon::store
