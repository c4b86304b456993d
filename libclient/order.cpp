#include "libclient/order.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <optional>

#include "base/failpoint.hpp"
#include "libclient/feed.hpp"

namespace warmtier::libclient {
namespace {

// What `read` says of an attachment counts when it was still the one to use afterwards (R7). It goes on without a daemon as long
// as no other one has come.
template <typename Answer, typename Read>
base::Result<Answer> read_attached(ClientState& state, Patience& patience, Read&& read) {
  ThreadRecord& me = state.thread();
  state.notice_stop(me);
  for (;;) {
    state.enter(me);
    if (const Attachment* a = state.attachment.load(std::memory_order_acquire); a != nullptr) {
      base::Result<Answer> answer = read(*a);
      const bool current = a->current() || !WARM_RULE("client.generation_after_changes");
      ClientState::leave(me);
      if (current) return answer;
    } else {
      ClientState::leave(me);
    }
    if (auto ready = state.refresh(ClientState::Need::reads, patience.deadline()); !ready) return base::pass(std::move(ready));
  }
}

enum class Awaited { change, device };

struct Seen {
  uint64_t sequence = 0;
  bool stopped = false;  // it will not rise any more
};

Seen look_at(const layout::StatusPage& page, Awaited what) noexcept {
  if (what == Awaited::change) return {.sequence = layout::load_acquire(page.sequence)};
  // In this order: what was durable when durability stopped stays so.
  const bool stopped = layout::load_acquire(page.durability_stopped) != 0;
  return {.sequence = layout::load_acquire(page.sequence_durable), .stopped = stopped};
}

bool over(const Connection& connection) noexcept {
  const int socket = connection.socket.get();  // -1: the process closed it, with all others
  return connection.gone.load(std::memory_order_acquire) || layout::load_acquire(connection.status().stopping) != 0 ||
         socket < 0 || peer_gone(socket);
}

// Sleeps until a word of the status page is above `after` or says that it never will be; nullopt at the deadline. The watch comes
// first, then the look, then the sleep, which the kernel begins only while the word is what was looked at: N1.
base::Result<std::optional<Seen>> await(ClientState& state, Awaited what, uint64_t after, bool begin_checkpoint,
                                        const base::Deadline& deadline) {
  const bool change = what == Awaited::change;
  layout::Watch watch{};
  watch.header = {.kind = static_cast<uint32_t>(layout::MessageKind::watch), .bytes = sizeof watch};
  watch.sequence_after = change ? after : layout::kWatchNothing;
  watch.durable_after = change ? layout::kWatchNothing : after;
  std::shared_ptr<Connection> asked;  // for the checkpoint
  Slices slices;
  for (;;) {
    watch.checkpoint = begin_checkpoint && asked == nullptr ? 1 : 0;
    auto told = state.tell(&watch, sizeof watch, deadline);
    if (!told) return base::pass(std::move(told));
    if (asked != nullptr && asked != told->connection) {
      asked.reset();  // the daemon that was asked is dead
      if (begin_checkpoint) continue;
    }
    asked = told->connection;
    const layout::StatusPage& page = asked->status();
    const uint64_t& word = change ? page.sequence : page.sequence_durable;
    const uint64_t before = change ? told->sequence : told->durable;
    for (;;) {
      const Seen seen = look_at(page, what);
      if (seen.sequence > after || seen.stopped) return seen;
      if (deadline.passed()) return std::nullopt;
      // Another one's watch may have woken everybody and taken ours with it (N3); a later daemon knows of none.
      if (seen.sequence != before || over(*asked)) break;
      WARM_STEP("client.wait_before_sleep");
      const uint64_t expected = WARM_RULE("client.wait_with_what_was_seen") ? seen.sequence : layout::load_acquire(word);
      const uint64_t ns = WARM_RULE("client.wait_in_slices") ? slices.next_ns(deadline) : deadline.left_ns();
      futex_wait_shared(&word, static_cast<uint32_t>(expected), ns);
    }
  }
}

}  // namespace

base::Result<uint64_t> last_sequence(ClientState& state) {
  Patience patience(state.timeout_ns);
  return read_attached<uint64_t>(state, patience, [](const Attachment& a) { return layout::load_acquire(a.status->sequence); });
}

base::Result<uint64_t> record_count(ClientState& state) {
  Patience patience(state.timeout_ns);
  return read_attached<uint64_t>(state, patience, [](const Attachment& a) { return layout::load_acquire(a.status->records); });
}

base::Result<uint64_t> wait_for_change(ClientState& state, uint64_t after, uint64_t timeout_ns) {
  Patience patience(timeout_ns);
  auto sequence =
      read_attached<uint64_t>(state, patience, [](const Attachment& a) { return layout::load_acquire(a.status->sequence); });
  if (!sequence || *sequence > after) return sequence;
  std::optional<Seen> seen;
  if (!patience.deadline().passed()) {
    auto awaited = await(state, Awaited::change, after, false, patience.deadline());
    if (!awaited) return base::pass(std::move(awaited));
    seen = *awaited;
  }
  if (!seen) return base::fail(WARM_E_BUSY, "no change after %lu was visible before the deadline", after);
  return seen->sequence;
}

base::Result<size_t> changes_since(ClientState& state, uint64_t after, const ChangesRoom& room) {
  Patience patience(state.timeout_ns);
  return read_attached<size_t>(state, patience, [&](const Attachment& a) -> base::Result<size_t> {
    const FeedMap& feed = a.connection->feed;
    const auto gone = [&] {
      return base::fail(WARM_E_GONE, "the changes after %lu are not remembered any more: walk the store anew", after);
    };
    const uint64_t head = feed.head();
    // From another store, or from before a power cut took it back: what came after it here nobody can say.
    if (const uint64_t last = feed.sequence_below(head); after > last) {
      return base::fail(WARM_E_GONE, "change %lu was not made in this store, whose last one is %lu: walk the store anew", after,
                        last);
    }
    const auto first = feed.position_of(after + 1);
    if (!first) return gone();
    size_t count = 0;
    size_t used = 0;
    for (uint64_t position = *first; position < head && count < room.changes_max; ++position, ++count) {
      std::array<std::byte, layout::kIdBytesMax> id;
      const auto change = feed.entry(position);
      const auto id_bytes = change ? feed.id(position, id) : std::nullopt;
      // Overtaken. What was taken before is right, and the next call says that what follows is gone.
      if (!id_bytes && count == 0) return gone();
      if (!id_bytes || *id_bytes > room.id_bytes_max - used) break;
      if (const uint64_t expected = after + 1 + count; change->sequence != expected) {
        return base::fail(WARM_E_CORRUPT, "the daemon's feed has change %lu in the place of %lu", change->sequence, expected);
      }
      std::memcpy(room.ids + used, id.data(), *id_bytes);
      room.changes[count] = {.sequence = change->sequence,
                             .kind = static_cast<uint32_t>(change->kind),
                             .id_bytes = *id_bytes,
                             .id = room.ids + used};
      used += *id_bytes;
    }
    return count;
  });
}

base::Result<uint64_t> checkpoint(ClientState& state) {
  struct Start {
    uint64_t sequence = 0;
    Seen device;
    bool may = false;
  };
  Patience patience(state.timeout_ns);
  auto start = read_attached<Start>(state, patience, [](const Attachment& a) {
    return Start{.sequence = layout::load_acquire(a.status->sequence),
                 .device = look_at(*a.status, Awaited::device),
                 .may = a.connection->welcome.access >= static_cast<uint32_t>(layout::Access::admin)};
  });
  if (!start) return base::pass(std::move(start));
  if (!start->may)
    return base::fail(WARM_E_ACCESS, "a checkpoint is begun by who may administer ([access] in the configuration)");
  Seen seen = start->device;
  if (seen.sequence < start->sequence && !seen.stopped) {
    auto awaited = await(state, Awaited::device, start->sequence - 1, true, patience.deadline());
    if (!awaited) return base::pass(std::move(awaited));
    if (!*awaited) {
      return base::fail(WARM_E_BUSY, "change %lu was not on the device before the deadline; the checkpoint goes on",
                        start->sequence);
    }
    seen = **awaited;
  }
  if (seen.sequence >= start->sequence) return seen.sequence;
  return base::fail(WARM_E_SYSTEM,
                    "the device failed the daemon, which says in its log what it was: changes after %lu are not on it, and none "
                    "will be before the daemon has started anew",
                    seen.sequence);
}

base::Result<size_t> sessions(ClientState& state, warm_session* ret_sessions, size_t sessions_max) {
  ClientState::flush_counters(state.thread());
  Patience patience(state.timeout_ns);
  auto reports = state.ask_for_sessions(patience.deadline());
  if (!reports) return base::pass(std::move(reports));
  for (size_t i = 0; i < std::min(reports->size(), sessions_max); ++i) {
    const layout::SessionReport& report = (*reports)[i];
    ret_sessions[i] = {.session = report.session,
                       .channel = report.channel,
                       .since_ns = report.since_ns,
                       .views = report.views,
                       .view_bytes = report.view_bytes,
                       .gets = report.gets,
                       .misses = report.misses,
                       .pid = report.pid,
                       .uid = report.uid,
                       .state = report.presence,
                       .views_max = report.views_max};
  }
  return reports->size();
}

}  // namespace warmtier::libclient
