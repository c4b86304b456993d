// Touches: what clients say was used, out of the rings in their memory. Protocol L16.
#include <algorithm>

#include "base/failpoint.hpp"
#include "daemon/session/channel.hpp"
#include "layout/words.hpp"

namespace warmtier::daemon::session {
namespace {

constexpr uint64_t kTouchesPerStep = 64;  // of one session
constexpr size_t kSessionsPerStep = 16;   // of a guest's channel
constexpr uint64_t kMarkCosts = 64;       // of what a guest has: one that has called us for nothing

// Whether the daemon is to come. Hostile: a mark asks once, whatever the ring behind it holds.
bool asks(const Session& session, uint64_t taken) noexcept {
  if (!session.region || session.access < layout::Access::write) return false;
  const uint64_t asked = layout::load_acquire(session.shared()->touches.asked);
  return asked > taken && asked != session.touches_seen;
}

}  // namespace

bool Channel::any_touches() const noexcept {
  if (touches_passed_over_) return false;
  return std::ranges::any_of(live_sessions_, [this](const Session* session) {
    return asks(*session, layout::load_relaxed(results_.entry(session->index).touches_taken));
  });
}

bool Channel::take_touches(Executor& executor, layout::StatusPage& status, uint64_t now_ns) {
  if (touches_passed_over_) return false;
  bool more = false;
  const size_t all = live_sessions_.size();
  const size_t count = guest_ == nullptr ? all : std::min(all, kSessionsPerStep);
  // Others come first each time: what is left may not do for all.
  const size_t first = all == 0 ? 0 : first_session_ % all;
  first_session_ = first + count;
  for (size_t i = 0; i < count; ++i) {
    uint64_t most = kTouchesPerStep;
    if (guest_ != nullptr) {
      if (!guest_->touches.any(now_ns)) {
        touches_passed_over_ = true;
        return false;
      }
      most = std::min(most, static_cast<uint64_t>(guest_->touches.left()));
    }
    uint64_t taken = 0;
    more |= take_touches_of(*live_sessions_[(first + i) % all], executor, status, most, taken);
    if (guest_ != nullptr) guest_->touches.spend(static_cast<int64_t>(taken));
  }
  return more;
}

void Channel::take_last_touches(Session& session, Executor& executor, layout::StatusPage& status) {
  if (!session.region) return;
  // A ring's worth, however its head rises meanwhile.
  for (uint64_t step = 0; step * kTouchesPerStep < layout::kTouchEntries; ++step) {
    uint64_t taken = 0;
    if (!take_touches_of(session, executor, status, kTouchesPerStep, taken)) return;
  }
}

bool Channel::take_touches_of(Session& session, Executor& executor, layout::StatusPage& status, uint64_t most,
                              uint64_t& ret_taken) {
  uint64_t& word = results_.entry(session.index).touches_taken;
  uint64_t taken = layout::load_relaxed(word);
  if (!asks(session, taken)) return false;
  const layout::TouchRing& ring = session.shared()->touches;
  const uint64_t asked = layout::load_acquire(ring.asked);  // before the head: the ring holds what it asks for
  const uint64_t head = std::max(layout::load_acquire(ring.head), taken);
  if (head - taken > layout::kTouchEntries) {
    // A client of ours does not overrun what is not taken; another one loses what it wrote over.
    layout::count(status.touches_dropped, head - taken - layout::kTouchEntries);
    taken = head - layout::kTouchEntries;
  }
  const uint64_t end = std::min(head, taken + most);
  // A mark behind which nothing stands is no touch of a client of ours.
  ret_taken = end > taken ? end - taken : kMarkCosts;
  for (; taken < end; ++taken) {
    const layout::TouchEntry entry = layout::load_entry(ring.entries[taken % layout::kTouchEntries]);
    if (entry.position != static_cast<uint32_t>(taken)) {
      // Its thread stands, or died, between taking the place and filling it.
      layout::count(status.touches_dropped);
    } else if (layout::touch_kind(entry.put) == static_cast<uint16_t>(layout::TouchKind::touch)) {
      executor.touch(entry.slot, layout::sequence_of(entry.put));
    }
  }
  layout::store_release(word, taken);
  if (taken == head) session.touches_seen = asked;
  WARM_FAILPOINT("daemon.touches_taken");
  return taken < head;
}

}  // namespace warmtier::daemon::session
