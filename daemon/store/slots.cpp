#include "daemon/store/slots.hpp"

#include <algorithm>

#include "base/assert.hpp"
#include "base/failpoint.hpp"

namespace warmtier::daemon::store {

std::optional<uint32_t> Slots::take() {
  std::optional<uint32_t> slot;
  if (prepared_.empty()) {
    slot = unprepared_.take_lowest();
  } else {
    slot = prepared_.front();
    prepared_.pop_front();
  }
  if (slot) ++taken_;
  return slot;
}

void Slots::give_back(uint32_t slot) {
  prepared_.push_front(slot);
  --taken_;
}

std::optional<uint32_t> Slots::next() const { return prepared_.empty() ? unprepared_.lowest() : prepared_.front(); }

void Slots::unprepare_all() {
  for (uint32_t slot : prepared_) unprepared_.insert(slot);
  prepared_.clear();
}

std::vector<uint32_t> Slots::take_unprepared(size_t most) {
  std::vector<uint32_t> slots(std::min(most, unprepared_.size()));
  for (uint32_t& slot : slots) slot = *unprepared_.take_lowest();
  return slots;
}

void Slots::add_ripe_to_batch(uint64_t durable) {
  for (size_t n = 0; n < layout::kGraceBatchSlots && ripe(durable); ++n) {
    batch_.push_back(waiting_.front().slot);
    waiting_.pop_front();
  }
}

void Slots::begin_grace(const Tier& tier, uint64_t durable, PinSource& pins) {
  WARM_ASSERT(batch_.empty());
  batch_.swap(held_);
  held_in_batch_ = batch_.size();
  // Held slots come on top: however many there are, others go on.
  add_ripe_to_batch(durable);
  if (batch_.empty()) return;
  pinned_.resize((tier.slots() + 63) / 64);
  // The deaths are stored. A pin that ever passed its re-check was visible at this fence; one stored later fails it.
  WARM_FAILPOINT("store.grace_before_fence");
  layout::fence_full();
  WARM_FAILPOINT("store.grace_after_fence");
  pins.begin_scan();
}

void Slots::step_grace(const Tier& tier, uint64_t durable, PinSource& pins) {
  const uint64_t slots = pinned_.size() * 64;
  const bool scanned = pins.scan(layout::kGraceCellsPerStep, [&](uint32_t slot) {
    WARM_STEP("store.grace_pin_seen");
    if (slot >= slots) return;
    pinned_[slot / 64] |= uint64_t{1} << slot % 64;
    pins_.push_back(slot);
  });
  if (!scanned) return;
  WARM_FAILPOINT("store.grace_scanned");
  // What died since the fence may be pinned in a cell that was looked at before: it waits for the next batch.
  if (!WARM_RULE("store.later_deaths_wait")) add_ripe_to_batch(durable);

  for (uint32_t slot : batch_) {
    if (slot < slots && (pinned_[slot / 64] >> slot % 64 & 1) != 0 && WARM_RULE("store.pinned_slots_are_held")) {
      held_.push_back(slot);
      continue;
    }
    layout::store_relaxed(tier.line(slot).put, 0);
    unprepared_.insert(slot);
  }
  // put = 0 before any byte of a next tenant: a reader without a pin discards what it read.
  layout::fence_release();
  for (uint32_t slot : pins_) pinned_[slot / 64] = 0;
  pins_.clear();
  batch_.clear();
  held_in_batch_ = 0;
}

}  // namespace warmtier::daemon::store
