// The feed of changes and the status page: memfds that clients map read-only, made anew by every daemon.
#pragma once

#include "base/assert.hpp"
#include "base/error.hpp"
#include "base/failpoint.hpp"
#include "base/fd.hpp"
#include "base/mapping.hpp"
#include "layout/layout.hpp"

namespace warmtier::daemon::store {

// Every operation that takes a sequence appends one entry, so that a sequence says a position.
class Feed {
 public:
  struct Size {
    uint32_t entries_log2 = layout::kFeedEntriesLog2;
    uint32_t ids_log2 = layout::kFeedIdsLog2;
  };
  // `sequence_base`: of the last change before the first entry.
  static base::Result<Feed> make(uint64_t sequence_base, const Size& size);
  [[nodiscard]] int fd() const noexcept { return fd_.get(); }
  [[nodiscard]] uint64_t head() const noexcept { return head_; }
  // Protocol F1: the ring's end is raised before an id's bytes are overwritten, the id and its word stand before the head says
  // so.
  void append(uint64_t sequence, layout::ChangeKind kind, uint32_t slot, const std::byte* id, uint32_t id_bytes) noexcept {
    WARM_ASSERT(sequence == sequence_base_ + 1 + (head_ - layout::kWrapStart));
    const uint64_t unit = ids_end_;
    ids_end_ += layout::feed_id_units(id_bytes);
    const bool end_first = WARM_RULE("store.feed_end_first");
    if (end_first) layout::store_relaxed(header_->ids_end, ids_end_);
    const bool id_first = WARM_RULE("store.feed_id_before_head");
    if (!id_first) layout::store_release(header_->head, head_ + 1);
    layout::fence_release();
    WARM_STEP("store.feed_end_raised");
    layout::store_bytes(ids_ + layout::feed_id_offset(unit, size_.ids_log2), id, id_bytes);
    WARM_STEP("store.feed_id_stored");
    if (!end_first) layout::store_relaxed(header_->ids_end, ids_end_);
    const uint64_t at = head_ & ((uint64_t{1} << size_.entries_log2) - 1);
    layout::store_relaxed(id_words_[at], layout::feed_id_word(unit, id_bytes));
    WARM_STEP("store.feed_id_named");
    layout::store_entry(entries_[at],
                        {.change = layout::feed_change_word(sequence, kind), .place = layout::feed_place_word(slot, head_)});
    layout::store_release(header_->head, ++head_);
  }

 private:
  Size size_;
  base::Fd fd_;
  base::WriteMapping map_;
  layout::FeedHeader* header_ = nullptr;
  layout::FeedEntry* entries_ = nullptr;
  uint64_t* id_words_ = nullptr;
  std::byte* ids_ = nullptr;
  uint64_t sequence_base_ = 0;
  uint64_t head_ = layout::kWrapStart;
  uint64_t ids_end_ = layout::kFeedUnitStart;
};

class StatusMap {
 public:
  static base::Result<StatusMap> make();
  [[nodiscard]] int fd() const noexcept { return fd_.get(); }
  [[nodiscard]] layout::StatusPage& page() const noexcept { return *reinterpret_cast<layout::StatusPage*>(map_.data()); }
  void publish() const noexcept { layout::store_release(page().magic, layout::kStatusMagic); }

 private:
  base::Fd fd_;
  base::WriteMapping map_;
};

}  // namespace warmtier::daemon::store
