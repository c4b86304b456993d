#include "libclient/pins.hpp"

#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <new>

#include "base/failpoint.hpp"
#include "libclient/process.hpp"
#include "libclient/segments.hpp"

namespace warmtier::libclient {
namespace {

constexpr uint32_t kThreadsProvidedFor = 1024;  // so many together keep no more than was granted

size_t twin_bytes(uint32_t views) noexcept { return size_t{views} * sizeof(ViewTwin); }

}  // namespace

PinCells::PinCells(layout::SessionRegion& session, uint32_t views_max)
    : session_(session), views_max_(views_max), kept_by_thread_(std::min(views_max / kThreadsProvidedFor, kMagazineCells)) {
  // Room for all of them: giving a cell back must not fail.
  pool_.reserve(views_max_);
  void* memory =
      ::mmap(nullptr, twin_bytes(views_max_), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) throw std::bad_alloc();
  twins_ = static_cast<ViewTwin*>(memory);
}

PinCells::~PinCells() {
  for (uint32_t cell = 0; cell < fresh_; ++cell) std::free(twins_[cell].owned);
  ::munmap(twins_, twin_bytes(views_max_));
}

uint32_t PinCells::take(uint32_t* ret_cells, uint32_t wanted) noexcept {
  const std::lock_guard lock(mutex_);
  uint32_t count = 0;
  while (count < wanted && !pool_.empty()) {
    ret_cells[count++] = pool_.back();
    pool_.pop_back();
  }
  if (count > 0) return count;
  count = std::min(wanted, views_max_ - fresh_);
  if (count == 0) return 0;
  // Before any of these cells is stored: the daemon looks no further than this.
  layout::raise_to(session_.header.pins_high, fresh_ + count);
  WARM_FAILPOINT("client.pins_high_raised");
  // The lowest cell is taken last, so that it is used first.
  for (uint32_t i = 0; i < count; ++i) ret_cells[i] = fresh_ + count - 1 - i;
  fresh_ += count;
  return count;
}

void PinCells::give_back(const uint32_t* cells, uint32_t count) noexcept {
  const std::lock_guard lock(mutex_);
  pool_.insert(pool_.end(), cells, cells + count);
}

uint32_t PinCells::handed_out() noexcept {
  const std::lock_guard lock(mutex_);
  return fresh_ - static_cast<uint32_t>(pool_.size());
}

bool PinCells::any_pinned() noexcept {
  const std::lock_guard lock(mutex_);
  while (unpinned_ < fresh_ && layout::load_acquire(session_.pins[unpinned_]) == 0) ++unpinned_;
  return unpinned_ < fresh_;
}

void PinCells::count_views_of(SegmentMap& segment) noexcept {
  const std::lock_guard lock(mutex_);
  for (uint32_t cell = 0; cell < fresh_; ++cell) {
    auto seen = reinterpret_cast<uintptr_t>(&segment);
    if (twins_[cell].segment.load(std::memory_order_acquire) != seen) continue;
    segment.views_left.fetch_add(1, std::memory_order_acq_rel);  // first: its release may come right after the mark
    if (!twins_[cell].segment.compare_exchange_strong(seen, seen | kViewCounted, std::memory_order_acq_rel)) {
      segment.views_left.fetch_sub(1, std::memory_order_acq_rel);
    }
  }
}

}  // namespace warmtier::libclient
