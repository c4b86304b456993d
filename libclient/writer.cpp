#include "libclient/writer.hpp"

#include <fcntl.h>
#include <sched.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <vector>

#include "base/failpoint.hpp"
#include "base/fd.hpp"
#include "layout/control.hpp"
#include "layout/validate.hpp"
#include "libclient/futex.hpp"
#include "libclient/lanes.hpp"

namespace warmtier::libclient {
namespace {

// How long a thread looks at its result cell before it sleeps.
constexpr uint64_t kSpinNsMax = 20 * base::kNsPerUs;
constexpr uint64_t kSpinNsMin = base::kNsPerUs;
constexpr uint64_t kWakeNsMax = 40 * base::kNsPerUs;  // a daemon that was rung needs so much longer
constexpr uint32_t kWaitsPerTrial = 16;
constexpr uint32_t kLooksPerClock = 8;

bool spinning_pays() noexcept {
  static const bool several = ::sysconf(_SC_NPROCESSORS_ONLN) > 1;  // alone, it only keeps the daemon from running
  return several;
}

struct Answer {
  int32_t status = WARM_OK;
  uint64_t sequence = 0;
  uint64_t limit = 0;
};

// A result cell that this request owns, and how it is given back.
class Ticket {
 public:
  Ticket(Link& link, uint32_t cell) noexcept : link_(&link), cell_(cell), number_(link.cells.next_ticket(cell)) {}
  Ticket(const Ticket&) = delete;
  Ticket& operator=(const Ticket&) = delete;
  ~Ticket() {
    // Published and unanswered: another ticket in this cell would make the daemon drop this one.
    if (published_ && !answered() && WARM_RULE("client.quarantine")) {
      link_->cells.quarantine(cell_);
    } else {
      link_->cells.release(cell_);
    }
  }
  void published(bool rung) noexcept {
    published_ = true;
    rung_ = rung;
  }
  [[nodiscard]] bool rung() const noexcept { return rung_; }
  [[nodiscard]] bool answered() const noexcept { return layout::load_acquire(result().number) >= number_; }
  [[nodiscard]] const layout::ResultCell& result() const noexcept { return link_->cells.cell(cell_); }
  [[nodiscard]] Link& link() const noexcept { return *link_; }
  [[nodiscard]] uint32_t cell() const noexcept { return cell_; }
  [[nodiscard]] uint64_t number() const noexcept { return number_; }

 private:
  Link* link_;
  uint32_t cell_;
  uint64_t number_;
  bool published_ = false;
  bool rung_ = false;  // the daemon slept then
};

// A daemon that dozes is told; one that is gone is noticed. True when it had to be told. Inside.
bool ring(const Attachment& a) noexcept {
  layout::fence_full();
  if (layout::load_acquire(a.status->sleeping) == 0) return false;
  if (::send(a.connection->socket.get(), &layout::kDoorbellByte, 1, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 && errno != EAGAIN &&
      errno != EINTR) {
    a.connection->gone.store(true, std::memory_order_release);
  }
  return true;
}

// Whether there is a daemon to publish for. A dead one left its page as it was: if that says "asleep", asking the socket costs
// little beside the doorbell; if it died at work, the waiting finds out. Inside.
bool daemon_there(const Attachment& a) noexcept {
  if (a.connection->gone.load(std::memory_order_acquire) || layout::load_acquire(a.status->stopping) != 0) return false;
  if (layout::load_acquire(a.status->sleeping) != 0 && peer_gone(a.connection->socket.get())) {
    a.connection->gone.store(true, std::memory_order_release);
    return false;
  }
  return true;
}

// Spinning pays while answers come about as soon as a sleep would take to begin and end. Once they do not, each 16th wait tries
// again: when both sides sleep between any two requests, every answer is slow, and only a trial finds out that it need not be.
class Wait {
 public:
  Wait(const Ticket& ticket, ThreadRecord& me) noexcept : ticket_(ticket), me_(me) {}

  bool spin() noexcept {
    if (ticket_.answered()) return true;
    if (!spinning_pays()) return false;
    begun_ns_ = base::monotonic_ns();
    const bool trial = ++me_.waits % kWaitsPerTrial == 0;
    const uint64_t limit_ns =
        (trial || me_.wait_ns <= 2 * kSpinNsMax ? kSpinNsMax : kSpinNsMin) + (ticket_.rung() ? kWakeNsMax : 0);
    for (;;) {
      for (uint32_t i = 0; i < kLooksPerClock; ++i) {
        if (ticket_.answered()) {
          me_.wait_ns = 0;
          return true;
        }
        layout::cpu_relax();
      }
      if (base::monotonic_ns() - begun_ns_ >= limit_ns) return false;
    }
  }
  void slept() noexcept {
    if (begun_ns_ != 0) me_.wait_ns = (3 * me_.wait_ns + std::min(base::monotonic_ns() - begun_ns_, base::kNsPerMs)) / 4;
  }

 private:
  const Ticket& ticket_;
  ThreadRecord& me_;
  uint64_t begun_ns_ = 0;
};

// Sleeps until the daemon wakes the cell, or for a while.
void doze(const Ticket& ticket, uint64_t ns) noexcept {
  uint32_t& sleep_word = ticket.link().region().sleep[ticket.cell()];
  layout::store_relaxed(sleep_word, 1);
  WARM_STEP("client.sleep_word_set");
  layout::fence_full();
  const uint64_t seen = layout::load_acquire(ticket.result().number);
  if (seen < ticket.number()) futex_wait_shared(&ticket.result().number, static_cast<uint32_t>(seen), ns);
  layout::store_relaxed(sleep_word, 0);
  WARM_STEP("client.sleep_word_cleared");
}

enum class Surroundings { same, look, no_link };

// What became of the daemon while this thread slept.
Surroundings look_around(ClientState& state, ThreadRecord& me, const Link& link) noexcept {
  state.enter(me);
  const Attachment* a = state.attachment.load(std::memory_order_acquire);
  Surroundings now = Surroundings::same;
  if (a->link != &link) {
    now = Surroundings::no_link;
  } else if (!a->current()) {
    now = Surroundings::look;
  } else if (a->connection->gone.load(std::memory_order_acquire) || peer_gone(a->connection->socket.get())) {
    a->connection->gone.store(true, std::memory_order_release);
    now = Surroundings::look;
  }
  ClientState::leave(me);
  return now;
}

base::Status unknown(const char* why) {
  return base::fail(WARM_E_UNKNOWN, "the request was published and %s: it may or may not have been carried out", why);
}

// Waits for the answer to what was published. `again` is called when the daemon may be another one.
template <typename Again>
base::Result<Answer> await(ClientState& state, ThreadRecord& me, const Ticket& ticket, Patience& patience, Again&& again) {
  Slices slices;
  Wait wait(ticket, me);
  bool answered = wait.spin();
  while (!answered) {
    doze(ticket, slices.next_ns(patience.deadline()));
    answered = ticket.answered();
    if (answered) {
      wait.slept();
      break;
    }
    const Surroundings around = look_around(state, me, ticket.link());
    if (around == Surroundings::no_link) return base::pass(unknown("the daemon did not take the session back"));
    // A failure here is not yet an answer's: the deadline decides.
    if (around == Surroundings::look) {
      [[maybe_unused]] const auto back = state.refresh(ClientState::Need::daemon, patience.deadline());
    }
    if (auto sent = again(); !sent) return base::pass(std::move(sent));
    answered = ticket.answered();
    if (!answered && patience.deadline().passed()) return base::pass(unknown("no answer came before the deadline"));
  }
  const layout::ResultCell& result = ticket.result();
  if (layout::load_acquire(result.number) != ticket.number()) return base::pass(unknown("its answer was overwritten"));
  return Answer{.status = layout::load_relaxed(result.status),
                .sequence = layout::load_relaxed(result.sequence),
                .limit = layout::load_relaxed(result.limit)};
}

base::Result<uint64_t> outcome(const Answer& answer) {
  switch (answer.status) {
    case WARM_OK: return answer.sequence;
    case WARM_E_EXISTS: return base::fail(WARM_E_EXISTS, "a record with this id exists; its sequence is %lu", answer.sequence);
    case WARM_E_CHANGED:
      return answer.sequence == 0 ? base::fail(WARM_E_CHANGED, "no record has this id any more")
                                  : base::fail(WARM_E_CHANGED, "the record's sequence is %lu now", answer.sequence);
    case WARM_E_NOT_FOUND: return base::fail(WARM_E_NOT_FOUND, "no record has this id");
    case WARM_E_FULL: return base::fail(WARM_E_FULL, "the store has no room left; its limit is %lu", answer.limit);
    case WARM_E_LIMIT: return base::fail(WARM_E_LIMIT, "the daemon refuses: the limit is %lu", answer.limit);
    default: break;
  }
  if (answer.status < 0 && answer.status >= WARM_E_STALE) {
    return base::fail(answer.status, "the daemon refuses: %s", base::code_text(answer.status));
  }
  return base::fail(WARM_E_CORRUPT, "the daemon answered with the unknown code %d", answer.status);
}

layout::RequestHeader request_of(const Ticket& ticket, layout::Operation operation) noexcept {
  layout::RequestHeader header{};
  header.session = ticket.link().session;
  header.session_index = ticket.link().session_index;
  header.ticket = ticket.number();
  header.cell = ticket.cell();
  header.operation = static_cast<uint16_t>(operation);
  return header;
}

// What a request is held against before anything is asked of a daemon.
struct StoreLimits {
  uint32_t dimensions = 0;
  uint32_t access = 0;
  uint64_t content_bytes_max = 0;
};
base::Result<StoreLimits> limits_of(ClientState& state, ThreadRecord& me, Patience& patience) {
  for (;;) {
    state.enter(me);
    if (const Attachment* a = state.attachment.load(std::memory_order_acquire); a != nullptr) {
      const layout::Welcome& welcome = a->connection->welcome;
      const StoreLimits limits{.dimensions = a->geometry.dimensions,
                               .access = welcome.access,
                               .content_bytes_max = std::min(welcome.content_bytes_max, layout::kContentBytesMax)};
      ClientState::leave(me);
      return limits;
    }
    ClientState::leave(me);
    if (auto ready = state.refresh(ClientState::Need::reads, patience.deadline()); !ready) return base::pass(std::move(ready));
  }
}

// The link to publish on, with a daemon behind it. Links live as long as the client.
base::Result<Link*> ready_link(ClientState& state, ThreadRecord& me, Patience& patience) {
  for (;;) {
    state.enter(me);
    const Attachment* a = state.attachment.load(std::memory_order_acquire);
    const bool ready = a != nullptr && a->current() && daemon_there(*a);
    Link* link = ready ? a->link : nullptr;
    ClientState::leave(me);
    if (ready) return link;
    if (auto back = state.refresh(ClientState::Need::daemon, patience.deadline()); !back) return base::pass(std::move(back));
  }
}

base::Result<uint32_t> claim_cell(Link& link, const ThreadRecord& me, Patience& patience) {
  if (auto cell = link.cells.try_claim(me.number)) return *cell;
  if (auto cell = link.cells.claim(me.number, patience.deadline())) return *cell;
  return base::fail(WARM_E_BUSY, "%u requests of this client were open until the deadline", layout::kCellsPerSession);
}

base::Status check_access(const StoreLimits& limits) {
  if (limits.access >= static_cast<uint32_t>(layout::Access::write)) return {};
  return base::fail(WARM_E_ACCESS, "this user may read the store and not write it");
}

// Publishes in a lane of the ticket's link. WARM_E_BUSY or WARM_E_UNAVAILABLE: nothing was published.
base::Status publish(ClientState& state, ThreadRecord& me, Ticket& ticket, const OutgoingRequest& request, Patience& patience) {
  Slices slices;
  for (uint32_t round = 0;; ++round) {
    state.enter(me);
    const Attachment* a = state.attachment.load(std::memory_order_acquire);
    const bool same = a->link == &ticket.link();
    const bool published = same && publish_in_lane(ticket.link(), me.tid, request);
    if (published) ticket.published(ring(*a));
    ClientState::leave(me);
    if (published) return {};
    if (!same) return base::fail(WARM_E_BUSY, "the daemon gave this client another session meanwhile; nothing was published");
    if (round < layout::kReadRoundsBeforePause && spinning_pays()) {
      ::sched_yield();
      continue;
    }
    // Every lane is busy or full: the daemon is behind, or gone.
    if (patience.deadline().passed()) return base::fail(WARM_E_BUSY, "every lane of the channel was full until the deadline");
    if (look_around(state, me, ticket.link()) == Surroundings::look) {
      if (auto back = state.refresh(ClientState::Need::daemon, patience.deadline()); !back) return back;
    } else {
      wait_readable(-1, slices.next_ns(patience.deadline()));
    }
  }
}

base::Result<uint64_t> through_lane(ClientState& state, ThreadRecord& me, Ticket& ticket, const OutgoingRequest& request,
                                    Patience& patience) {
  if (auto sent = publish(state, me, ticket, request, patience); !sent) return base::pass(std::move(sent));
  auto answer = await(state, me, ticket, patience, []() -> base::Status { return {}; });
  if (!answer) return base::pass(std::move(answer));
  return outcome(*answer);
}

// Content in a memfd of its own that nobody can change any more.
base::Result<base::Fd> sealed_content(const void* content, uint64_t bytes) {
  auto file = base::make_memfd("warmtier-content", 0, true);
  if (!file) return file;
  const auto* at = static_cast<const std::byte*>(content);
  for (uint64_t left = bytes; left > 0;) {
    const ssize_t wrote = ::write(file->get(), at, std::min<uint64_t>(left, uint64_t{1} << 30));
    if (wrote < 0) {
      if (errno == EINTR) continue;
      if (errno == ENOSPC) return base::fail(WARM_E_NOMEM, "no memory for %lu bytes of content", bytes);
      return base::fail_errno(errno, "write %lu bytes of content to a memfd", bytes);
    }
    at += wrote;
    left -= static_cast<uint64_t>(wrote);
  }
  if (::fcntl(file->get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL) != 0) {
    return base::fail_errno(errno, "seal the content's memfd");
  }
  return file;
}

base::Result<uint64_t> through_socket(ClientState& state, ThreadRecord& me, Ticket& ticket, const OutgoingRequest& request,
                                      Patience& patience) {
  auto content = sealed_content(request.content, request.header.content_bytes);
  if (!content) return base::pass(std::move(content));
  const size_t embedding_bytes = size_t{request.header.dimensions} * sizeof(float);
  std::vector<std::byte> message(sizeof(layout::PutMessage) + embedding_bytes + request.header.id_bytes);
  layout::PutMessage head{};
  head.header = {.kind = static_cast<uint32_t>(layout::MessageKind::put), .bytes = static_cast<uint32_t>(message.size())};
  head.request = request.header;
  std::memcpy(message.data() + sizeof head, request.embedding, embedding_bytes);
  std::memcpy(message.data() + sizeof head + embedding_bytes, request.id, request.header.id_bytes);

  // One at a time: numbers rise in the order in which they are sent, also over a restart.
  if (!state.large_mutex.lock_before(patience.deadline())) {
    return base::fail(WARM_E_BUSY, "another large put of this client was under way until the deadline");
  }
  const std::lock_guard turn(state.large_mutex, std::adopt_lock);
  if (state.large_link != ticket.link().id) {
    state.large_link = ticket.link().id;
    state.large_number = 0;
  }
  head.number = state.large_number + 1;
  std::memcpy(message.data(), &head, sizeof head);
  ClientState::LargePut large{.bytes = message.data(), .n = message.size(), .file = content->get(), .number = head.number};

  const auto send = [&]() -> base::Status {
    for (;;) {
      auto sent = state.send_large(ticket.link(), large, patience.deadline());
      if (!sent) return large.sent_on == 0 ? base::Status(base::pass(std::move(sent))) : unknown("could not be repeated");
      if (*sent == ClientState::Sent::yes) return {};
      if (*sent == ClientState::Sent::no_link) {
        return large.sent_on == 0
                   ? base::fail(WARM_E_BUSY, "the daemon gave this client another session meanwhile; nothing was sent")
                   : unknown("the daemon did not take the session back");
      }
      if (auto back = state.refresh(ClientState::Need::daemon, patience.deadline()); !back) {
        return large.sent_on == 0 ? back : unknown("no daemon came back before the deadline");
      }
    }
  };
  if (auto sent = send(); !sent) return base::pass(std::move(sent));
  state.large_number = head.number;
  ticket.published(true);
  auto answer = await(state, me, ticket, patience, send);
  if (!answer) return base::pass(std::move(answer));
  return outcome(*answer);
}

base::Status check_number(const char* name, float value) {
  if (std::isfinite(value)) return {};
  return base::fail(WARM_E_INVALID, "%s is %s; it must be finite", name, std::isnan(value) ? "NaN" : "infinite");
}

base::Status check_values(const warm_memory& memory, uint32_t dimensions) {
  if (memory.dimensions != dimensions) {
    return base::fail(WARM_E_INVALID, "the embedding has %u dimensions, the store's have %u", memory.dimensions, dimensions);
  }
  if (auto ok = check_number("confidence", memory.confidence); !ok) return ok;
  if (auto ok = check_number("activation", memory.activation); !ok) return ok;
  if (auto ok = check_number("decay_rate", memory.decay_rate); !ok) return ok;
  if (layout::all_finite(memory.embedding, memory.dimensions)) return {};
  uint32_t i = 0;
  while (i + 1 < memory.dimensions && std::isfinite(memory.embedding[i])) ++i;
  return base::fail(WARM_E_INVALID, "the embedding's value %u is %s; it must be finite", i,
                    std::isnan(memory.embedding[i]) ? "NaN" : "infinite");
}

}  // namespace

base::Result<uint64_t> put(ClientState& state, const warm_memory& memory) {
  ThreadRecord& me = state.thread();
  Patience patience(state.timeout_ns);
  const bool with_content = (memory.given & WARM_GIVEN_CONTENT) != 0;
  const uint64_t content_bytes = with_content ? memory.content_bytes : 0;
  auto limits = limits_of(state, me, patience);
  if (!limits) return base::pass(std::move(limits));
  if (auto ok = check_values(memory, limits->dimensions); !ok) return base::pass(std::move(ok));
  if (content_bytes > limits->content_bytes_max) {
    return base::fail(WARM_E_LIMIT, "content has %lu bytes, the store's limit is %lu", content_bytes, limits->content_bytes_max);
  }
  if (auto ok = check_access(*limits); !ok) return base::pass(std::move(ok));
  auto link = ready_link(state, me, patience);
  if (!link) return base::pass(std::move(link));
  auto cell = claim_cell(**link, me, patience);
  if (!cell) return base::pass(std::move(cell));

  Ticket ticket(**link, *cell);
  OutgoingRequest request;
  request.header = request_of(ticket, layout::Operation::put);
  request.header.condition = static_cast<uint16_t>(memory.condition);
  request.header.given = memory.given;
  request.header.id_bytes = static_cast<uint32_t>(memory.id_bytes);
  request.header.dimensions = memory.dimensions;
  request.header.content_bytes = content_bytes;
  request.header.if_sequence = memory.condition == WARM_IF_SEQUENCE ? memory.if_sequence : 0;
  request.header.created_ns = (memory.given & WARM_GIVEN_CREATED) != 0 ? memory.created_ns : 0;
  request.header.last_access_ns = (memory.given & WARM_GIVEN_LAST_ACCESS) != 0 ? memory.last_access_ns : 0;
  request.header.quad = {.confidence = memory.confidence,
                         .activation = memory.activation,
                         .decay_rate = memory.decay_rate,
                         .recall_count = memory.recall_count};
  request.embedding = memory.embedding;
  request.id = memory.id;
  request.content = memory.content;
  const uint64_t payload = uint64_t{memory.dimensions} * sizeof(float) + memory.id_bytes + content_bytes;
  return payload <= layout::kLanePayloadBytes ? through_lane(state, me, ticket, request, patience)
                                              : through_socket(state, me, ticket, request, patience);
}

base::Result<uint64_t> remove(ClientState& state, const void* id, size_t id_bytes, uint32_t condition, uint64_t if_sequence) {
  ThreadRecord& me = state.thread();
  Patience patience(state.timeout_ns);
  auto limits = limits_of(state, me, patience);
  if (!limits) return base::pass(std::move(limits));
  if (auto ok = check_access(*limits); !ok) return base::pass(std::move(ok));
  auto link = ready_link(state, me, patience);
  if (!link) return base::pass(std::move(link));
  auto cell = claim_cell(**link, me, patience);
  if (!cell) return base::pass(std::move(cell));

  Ticket ticket(**link, *cell);
  OutgoingRequest request;
  request.header = request_of(ticket, layout::Operation::remove);
  request.header.condition = static_cast<uint16_t>(condition);
  request.header.id_bytes = static_cast<uint32_t>(id_bytes);
  request.header.if_sequence = condition == WARM_IF_SEQUENCE ? if_sequence : 0;
  request.id = id;
  return through_lane(state, me, ticket, request, patience);
}

}  // namespace warmtier::libclient
