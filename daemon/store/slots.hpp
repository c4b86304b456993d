// Slots that no record uses: free ones, and dead ones on their way to be free.
//
//   died -> waiting (its death must become durable) -> ripe (one scan of all pins) -> put = 0 -> prepared -> free
//                                                        \-> held (a view pins it): looked at again with the next batch
#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <vector>

#include "daemon/store/slot_set.hpp"
#include "daemon/store/store.hpp"
#include "daemon/store/tier.hpp"

namespace warmtier::daemon::store {

class Slots {
 public:
  // A slot that a put may use; populated ones first. nullopt: none.
  std::optional<uint32_t> take();
  void give_back(uint32_t slot);  // taken, but not used
  [[nodiscard]] std::optional<uint32_t> next() const;  // what take() would give: for a prefetch

  void add_prepared(uint32_t slot) { prepared_.push_back(slot); }
  void add_unprepared(uint32_t slot) { unprepared_.insert(slot); }
  // A checkpoint has cleaned their pages: all have to be prepared anew.
  void unprepare_all();
  // Up to `most` unprepared ones, the lowest first, for the preparing thread; they come back by add_prepared.
  std::vector<uint32_t> take_unprepared(size_t most);

  void died(uint32_t slot, uint64_t sequence) { waiting_.push_back({slot, sequence}); }
  // Whether a batch of grace would find something: deaths up to `durable`.
  [[nodiscard]] bool ripe(uint64_t durable) const { return !waiting_.empty() && waiting_.front().sequence <= durable; }
  // One batch: fence, every pin once, put = 0 for what nobody pins, fence. Held slots are looked at again. It runs in steps, and
  // is over when in_grace() says no.
  void begin_grace(const Tier& tier, uint64_t durable, PinSource& pins);
  void step_grace(const Tier& tier, uint64_t durable, PinSource& pins);
  [[nodiscard]] bool in_grace() const { return !batch_.empty(); }

  // Every slot that is here: visit(slot, whether it is free).
  template <typename Visit>
  void for_each(Visit&& visit) const {
    for (uint32_t slot : prepared_) visit(slot, true);
    unprepared_.for_each([&](uint32_t slot) { visit(slot, true); });
    for (const Dead& dead : waiting_) visit(dead.slot, false);
    for (uint32_t slot : held_) visit(slot, false);
    for (uint32_t slot : batch_) visit(slot, false);
  }

  [[nodiscard]] size_t free() const { return prepared_.size() + unprepared_.size(); }
  [[nodiscard]] size_t prepared() const { return prepared_.size(); }
  [[nodiscard]] size_t unprepared() const { return unprepared_.size(); }
  [[nodiscard]] uint64_t taken() const { return taken_; }  // since the start, those that were given back left out
  [[nodiscard]] size_t waiting() const { return waiting_.size() + batch_.size() - held_in_batch_; }
  [[nodiscard]] size_t held() const { return held_.size() + held_in_batch_; }

 private:
  struct Dead {
    uint32_t slot;
    uint64_t sequence;
  };
  std::deque<uint32_t> prepared_;
  SlotSet unprepared_;
  uint64_t taken_ = 0;
  std::deque<Dead> waiting_;  // by sequence
  std::vector<uint32_t> held_;
  void add_ripe_to_batch(uint64_t durable);
  std::vector<uint32_t> batch_;  // in grace now; the first ones were held before
  size_t held_in_batch_ = 0;
  std::vector<uint64_t> pinned_;  // bitmap, clear between batches
  std::vector<uint32_t> pins_;  // what is set in it
};

}  // namespace warmtier::daemon::store
