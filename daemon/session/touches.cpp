// Touches: what clients say was used, out of the rings in their memory. Protocol L16.
#include <algorithm>

#include "base/failpoint.hpp"
#include "daemon/session/channel.hpp"
#include "layout/words.hpp"

namespace warmtier::daemon::session {
namespace {

constexpr uint64_t kTouchesPerStep = 64;  // of one session

// Whether the daemon is to come. Hostile: a mark asks once, whatever the ring behind it holds.
bool asks(const Session& session, uint64_t taken) noexcept {
  if (!session.region || session.access < layout::Access::write) return false;
  const uint64_t asked = layout::load_acquire(session.shared()->touches.asked);
  return asked > taken && asked != session.touches_seen;
}

}  // namespace

bool Channel::any_touches() const noexcept {
  return std::ranges::any_of(live_sessions_, [this](const Session* session) {
    return asks(*session, layout::load_relaxed(results_.entry(session->index).touches_taken));
  });
}

bool Channel::take_touches(Executor& executor, layout::StatusPage& status) {
  bool more = false;
  for (Session* session : live_sessions_) more |= take_touches_of(*session, executor, status);
  return more;
}

void Channel::take_last_touches(Session& session, Executor& executor, layout::StatusPage& status) {
  if (!session.region) return;
  // A ring's worth, however its head rises meanwhile.
  for (uint64_t step = 0; step * kTouchesPerStep < layout::kTouchEntries; ++step) {
    if (!take_touches_of(session, executor, status)) return;
  }
}

bool Channel::take_touches_of(Session& session, Executor& executor, layout::StatusPage& status) {
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
  const uint64_t end = std::min(head, taken + kTouchesPerStep);
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
