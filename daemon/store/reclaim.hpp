// When dead slots may be used again: whose pins are known, and when the next batch of grace (slots.hpp) is due.
//
// Thread law: the store thread.
//
// Invariants
//  1. A batch begins only while every process of an earlier daemon has handed back its pins.
//  2. Slots that were found pinned are looked at again with every batch, and by themselves every kHeldRetryNs at most.
#pragma once

#include <cstdint>

#include "base/clock.hpp"
#include "daemon/store/slots.hpp"
#include "daemon/store/store.hpp"
#include "daemon/store/tier.hpp"

namespace warmtier::daemon::store {

class Reclaim {
 public:
  Reclaim(const Tier& tier, Slots& slots) : tier_(tier), slots_(slots) {}

  void set_pin_source(PinSource* pins) { pins_ = pins; }
  [[nodiscard]] bool pins_known() const { return pins_ != nullptr && pins_->complete(); }

  // A batch runs, or one would find something.
  [[nodiscard]] bool due(uint64_t durable) const {
    return pins_ != nullptr && (slots_.in_grace() || (slots_.ripe(durable) && pins_->complete()));
  }
  // One step of the batch that runs, or of a new one.
  void run(uint64_t durable) {
    if (!slots_.in_grace()) slots_.begin_grace(tier_, durable, *pins_);
    if (slots_.in_grace()) slots_.step_grace(tier_, durable, *pins_);
    if (!slots_.in_grace()) held_looked_ns_ = base::monotonic_ns();
  }
  // A put found no free slot: held ones may have been released. Pins are known.
  void look_at_held(uint64_t durable, uint64_t now_ns) {
    if (!slots_.in_grace() && slots_.held() > 0 && now_ns - held_looked_ns_ > kHeldRetryNs) run(durable);
  }

  // Right after a start whose processes are about to hand back the pins that keep slots from being used again.
  [[nodiscard]] bool expected_back(uint64_t now_ns) const { return awaits_pins() && now_ns < pins_->expected_until_ns(); }
  [[nodiscard]] uint64_t expected_until_ns() const { return pins_->expected_until_ns(); }
  // Who keeps dead slots that would do.
  [[nodiscard]] PinSource::Awaited awaited() const { return awaits_pins() ? pins_->awaited() : PinSource::Awaited{}; }

 private:
  static constexpr uint64_t kHeldRetryNs = base::kNsPerMs;
  [[nodiscard]] bool awaits_pins() const {
    return pins_ != nullptr && slots_.waiting() + slots_.held() > 0 && !pins_->complete();
  }

  const Tier& tier_;
  Slots& slots_;
  PinSource* pins_ = nullptr;
  uint64_t held_looked_ns_ = 0;
};

}  // namespace warmtier::daemon::store
