// Pin cells of one session, and beside each a private twin that says what else its view hangs on.
//
// Thread law: take and give_back lock a private mutex; a cell and its twin belong to the thread that took it, then to the view.
//
// Invariants
//  1. A cell is in exactly one place: never used, in the pool, in one thread's magazine, or in one view.
//  2. pins_high is above every cell that was ever handed out, before it was.
//  3. A cell outside a view is 0: a view's release stores 0 first and gives the cell away afterwards.
//  4. No cell is handed out from views_max on: the daemon does not look at it.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "layout/layout.hpp"

namespace warmtier::libclient {

struct SegmentMap;

// Private. `segment` is looked at by a thread that wants to unmap it; its low bit says that the view was counted then.
struct alignas(32) ViewTwin {
  std::atomic<uintptr_t> segment;
  std::byte* owned;  // content that could not be mapped; malloc'ed
  uint64_t serial;   // of the view that has the cell now; odd while a view has it
};

constexpr uintptr_t kViewCounted = 1;

class PinCells {
 public:
  // `views_max`: what the daemon has granted the session, 1 to kViewsMax. Throws bad_alloc.
  PinCells(layout::SessionRegion& session, uint32_t views_max);
  ~PinCells();
  PinCells(const PinCells&) = delete;
  PinCells& operator=(const PinCells&) = delete;

  // Up to `wanted` cells; 0: all are taken.
  uint32_t take(uint32_t* ret_cells, uint32_t wanted) noexcept;
  void give_back(const uint32_t* cells, uint32_t count) noexcept;
  [[nodiscard]] ViewTwin& twin(uint32_t cell) noexcept { return twins_[cell]; }
  [[nodiscard]] uint32_t views_max() const noexcept { return views_max_; }
  // How many a thread may keep for its next views: so few that all threads' together are not missed.
  [[nodiscard]] uint32_t kept_by_thread() const noexcept { return kept_by_thread_; }
  // Cells that are neither unused nor in the pool.
  [[nodiscard]] uint32_t handed_out() noexcept;
  // Whether a cell is not 0. Asked when none is stored any more: then what was found 0 stays 0, and is not looked at again.
  [[nodiscard]] bool any_pinned() noexcept;
  // Marks the views that stand in a segment that no new view can enter, and adds them to its views_left.
  void count_views_of(SegmentMap& segment) noexcept;

 private:
  layout::SessionRegion& session_;
  const uint32_t views_max_;
  const uint32_t kept_by_thread_;
  std::mutex mutex_;
  ViewTwin* twins_;  // views_max_, from anonymous memory: pages exist when touched
  std::vector<uint32_t> pool_;
  uint32_t fresh_ = 0;  // cells from here on were never used
  uint32_t unpinned_ = 0;  // cells below are 0 and stay so; any_pinned's
};

}  // namespace warmtier::libclient
