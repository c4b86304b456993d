// The feed of changes and the status page: memfds that clients map read-only, made anew by every daemon.
#pragma once

#include "base/error.hpp"
#include "base/fd.hpp"
#include "base/mapping.hpp"
#include "layout/layout.hpp"

namespace warmtier::daemon::store {

class Feed {
 public:
  static base::Result<Feed> make();
  [[nodiscard]] int fd() const noexcept { return fd_.get(); }
  [[nodiscard]] uint64_t head() const noexcept { return head_; }
  // The entry by one 16-byte store, then the head.
  void append(uint64_t sequence, layout::ChangeKind kind, uint32_t slot) noexcept {
    const layout::FeedEntry entry{.change = layout::feed_change_word(sequence, kind),
                                  .place = layout::feed_place_word(slot, head_)};
    layout::store_entry(entries_[head_ & (kEntries - 1)], entry);
    layout::store_release(header_->head, ++head_);
  }

 private:
  static constexpr uint64_t kEntries = uint64_t{1} << layout::kFeedEntriesLog2;
  base::Fd fd_;
  base::WriteMapping map_;
  layout::FeedHeader* header_ = nullptr;
  layout::FeedEntry* entries_ = nullptr;
  uint64_t head_ = layout::kWrapStart;
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
