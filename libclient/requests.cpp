#include "libclient/requests.hpp"

#include <fcntl.h>
#include <sched.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <new>
#include <vector>

#include "base/failpoint.hpp"
#include "base/fd.hpp"
#include "layout/control.hpp"
#include "libclient/futex.hpp"
#include "libclient/lookup.hpp"
#include "libclient/tickets.hpp"

namespace warmtier::libclient {
namespace {

base::Status no_link() {
  return base::fail(WARM_E_BUSY, "the daemon gave this client another session meanwhile; nothing was published");
}

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

// Whether there is a daemon to publish for. A dead one left its page as it was: if that says "asleep", asking the socket costs
// little beside the doorbell; if it died at work, the waiting finds out. Inside.
bool daemon_there(const Attachment& a) noexcept {
  if (a.connection->gone.load(std::memory_order_acquire) || layout::load_acquire(a.status->stopping) != 0) return false;
  const uint64_t sleep = layout::load_acquire(a.status->sleeping);
  if (sleep != 0 && sleep != a.connection->rung.load(std::memory_order_acquire) && peer_gone(a.connection->socket.get())) {
    a.connection->gone.store(true, std::memory_order_release);
    return false;
  }
  return true;
}

// Spinning pays while answers come about as soon as a sleep would take to begin and end. Once they do not, each 16th wait tries
// again: when both sides sleep between any two requests, every answer is slow, and only a trial finds out that it need not be.
class Wait {
 public:
  Wait(const Awaited& awaited, ThreadRecord& me) noexcept : awaited_(awaited), me_(me) {}

  bool spin() noexcept {
    if (awaited_.answered()) return true;
    if (!spinning_pays()) return false;
    begun_ns_ = base::monotonic_ns();
    const bool trial = ++me_.waits % kWaitsPerTrial == 0;
    const uint64_t limit_ns =
        (trial || me_.wait_ns <= 2 * kSpinNsMax ? kSpinNsMax : kSpinNsMin) + (awaited_.rung ? kWakeNsMax : 0);
    for (;;) {
      for (uint32_t i = 0; i < kLooksPerClock; ++i) {
        if (awaited_.answered()) {
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
  const Awaited& awaited_;
  ThreadRecord& me_;
  uint64_t begun_ns_ = 0;
};

// Sleeps until the daemon wakes the cell, or for a while.
void doze(const Awaited& awaited, uint64_t ns) noexcept {
  uint32_t& sleep_word = awaited.link->region().sleep[awaited.cell];
  layout::fetch_add(sleep_word, 1);
  WARM_STEP("client.sleep_word_set");
  layout::fence_full();
  const uint64_t seen = layout::load_acquire(awaited.result().number);
  if (seen < awaited.number) futex_wait_shared(&awaited.result().number, static_cast<uint32_t>(seen), ns);
  layout::fetch_add(sleep_word, ~uint32_t{0});  // one less
  WARM_STEP("client.sleep_word_cleared");
}

enum class Surroundings { same, look, no_link };

// What became of the daemon while this thread slept.
Surroundings look_around(ClientState& state, ThreadRecord& me, const Link& link) noexcept {
  state.enter(me);
  const Attachment* a = state.attachment.load(std::memory_order_acquire);
  Surroundings now = Surroundings::same;
  if (link.over()) {
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

// Publishes in a lane of the request's link. WARM_E_BUSY or WARM_E_UNAVAILABLE: nothing was published.
base::Status publish(ClientState& state, ThreadRecord& me, Request& request, const OutgoingRequest& outgoing,
                     Patience& patience) {
  const OutgoingRequest* const one = &outgoing;
  PublishRounds rounds;
  for (;;) {
    const Handed handed = hand_out(state, me, request.link(), {&one, 1}, std::nullopt);
    if (handed.count != 0) request.published(handed.rung);
    // What is published is answered where it is; what is not goes the new way.
    if (handed.half_fenced) state.move_from(request.link(), patience.deadline());
    if (handed.count != 0) return {};
    if (handed.no_link) return no_link();
    if (auto on = rounds.go_on(state, me, request.link(), patience); !on) return on;
  }
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

std::shared_ptr<ClientState::LargePut> compose_large(Link& link, const OutgoingRequest& request, base::Fd content) {
  const size_t embedding_bytes = size_t{request.header.dimensions} * sizeof(float);
  auto large = std::make_shared<ClientState::LargePut>();
  large->link = &link;
  large->file = base::WatchedFd(std::move(content));
  large->message.resize(sizeof(layout::PutMessage) + embedding_bytes + request.header.id_bytes);
  layout::PutMessage head{};
  head.header = {.kind = static_cast<uint32_t>(layout::MessageKind::put), .bytes = static_cast<uint32_t>(large->message.size())};
  head.request = request.header;
  std::byte* at = large->message.data();
  std::memcpy(at, &head, sizeof head);
  std::memcpy(at + sizeof head, request.embedding, embedding_bytes);
  std::memcpy(at + sizeof head + embedding_bytes, request.id, request.header.id_bytes);
  return large;
}

// Publishes or sends what is asked for in this session. WARM_E_BUSY or WARM_E_UNAVAILABLE: nothing was.
base::Status hand_in(ClientState& state, ThreadRecord& me, Request& request, const OutgoingRequest& outgoing,
                     Patience& patience) {
  if (fits_lane(outgoing)) return publish(state, me, request, outgoing, patience);
  auto content = sealed_content(outgoing.content, outgoing.header.content_bytes);
  if (!content) return base::pass(std::move(content));
  auto large = compose_large(request.link(), outgoing, std::move(*content));
  if (auto sent = state.send_large(large, patience.deadline()); !sent) return sent;
  request.published(true);
  request.keep(std::move(large));
  return {};
}

// Whoever keeps slots from being used again is named: that ends only when they come back, or release.
std::unexpected<base::Error> full(const Answer& answer) {
  const uint32_t awaited = layout::sessions_awaited_of(answer.sequence);
  const uint32_t held = layout::slots_held_of(answer.sequence);
  if (awaited > 0) {
    return base::fail(WARM_E_FULL,
                      "the store has no room left; its limit is %lu, and %u sessions of living processes (pid %u%s) have not "
                      "come back since the daemon was restarted: until they do or end, no slot that was used before is used "
                      "again",
                      answer.limit, awaited, answer.slot, awaited > 1 ? " and others" : "");
  }
  if (held > 0) {
    return base::fail(WARM_E_FULL, "the store has no room left; its limit is %lu, and views hold %u slots of dead records",
                      answer.limit, held);
  }
  return base::fail(WARM_E_FULL, "the store has no room left; its limit is %lu", answer.limit);
}

}  // namespace

bool ring(const Attachment& a) noexcept {
  layout::fence_full();
  const uint64_t sleep = layout::load_acquire(a.status->sleeping);
  if (sleep == 0) return false;
  Connection& connection = *a.connection;
  // One byte a sleep: it wakes from this one, and looks at everything before the next.
  const uint64_t rung = connection.rung.load(std::memory_order_acquire);
  if (WARM_RULE("client.each_sleep_is_rung") ? rung == sleep : rung != 0) return true;
  if (::send(connection.socket.get(), &layout::kDoorbellByte, 1, MSG_DONTWAIT | MSG_NOSIGNAL) == 1) {
    connection.rung.store(sleep, std::memory_order_release);
  } else if (errno != EAGAIN && errno != EINTR) {
    connection.gone.store(true, std::memory_order_release);
  }
  return true;
}

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

base::Result<uint32_t> claim_cell(ClientState& state, Link& link, const ThreadRecord& me, Patience& patience) {
  for (;;) {
    if (auto cell = link.cells.try_claim(me.number)) return *cell;
    state.tickets().settle_answered();
    const uint64_t slice_ns = std::min(patience.deadline().left_ns(), 5 * base::kNsPerMs);
    if (auto cell = link.cells.claim(me.number, base::Deadline::after_ns(slice_ns))) return *cell;
    if (!patience.deadline().passed()) continue;
    return base::fail(WARM_E_BUSY, "%u requests of this client were open until the deadline", layout::kCellsPerSession);
  }
}

Handed hand_out(ClientState& state, ThreadRecord& me, const Link& link, const Run& run, std::optional<uint32_t> lane) noexcept {
  Handed handed;
  state.enter(me);
  const Attachment* a = state.attachment.load(std::memory_order_acquire);
  handed.no_link = a->link != &link;
  if (!handed.no_link) {
    const Published published = lane ? publish_in_one(link, *lane, me.tid, run) : publish_in_any(link, me.tid, run);
    handed.count = published.count;
    handed.lane = published.lane;
    handed.half_fenced = published.met_fenced && link.half_fenced();
    if (published.count != 0) handed.rung = ring(*a);
  }
  ClientState::leave(me);
  return handed;
}

base::Status PublishRounds::go_on(ClientState& state, ThreadRecord& me, const Link& link, Patience& patience) {
  if (rounds_++ < layout::kReadRoundsBeforePause && spinning_pays()) {
    ::sched_yield();
    return {};
  }
  // Every lane is busy or full: the daemon is behind, or gone.
  if (patience.deadline().passed()) {
    if (const std::string why = link.half_fenced() ? state.why_not_moved() : ""; !why.empty()) {
      return base::fail(WARM_E_BUSY,
                        "half of the channel's lanes are fenced, the others were full until the deadline, and no other channel "
                        "was to be had: %s",
                        why.c_str());
    }
    return base::fail(WARM_E_BUSY, "every lane of the channel was full until the deadline");
  }
  if (look_around(state, me, link) == Surroundings::look) return state.refresh(ClientState::Need::daemon, patience.deadline());
  wait_readable(-1, slices_.next_ns(patience.deadline()));
  return {};
}

void Request::give_back() noexcept {
  if (awaited_.link == nullptr) return;
  // Published and unanswered: another ticket in this cell would make the daemon drop this one.
  if (published_ && !answered() && WARM_RULE("client.quarantine")) {
    awaited_.link->cells.quarantine(awaited_.cell);
  } else {
    awaited_.link->cells.release(awaited_.cell);
  }
  awaited_.link = nullptr;
}

base::Status unknown(const char* why) try {
  return base::fail(WARM_E_UNKNOWN, "the request was published and %s: it may or may not have been carried out", why);
} catch (const std::bad_alloc&) {
  return std::unexpected(base::Error{.code = WARM_E_UNKNOWN, .os_error = 0, .text = {}});
}

base::Result<Answer> Request::answer() const {
  const layout::ResultCell& result = awaited_.result();
  if (layout::load_acquire(result.number) != awaited_.number) return base::pass(unknown("its answer was overwritten"));
  return Answer{.status = layout::load_relaxed(result.status),
                .sequence = layout::load_relaxed(result.sequence),
                .slot = layout::load_relaxed(result.slot),
                .limit = layout::load_relaxed(result.limit)};
}

namespace {
// Of our own codes; anything else is no answer.
bool is_refusal(int32_t status) noexcept { return status < 0 && status >= WARM_E_STALE; }
}  // namespace

base::Result<uint64_t> outcome(const Answer& answer, const void* id, size_t id_bytes) {
  const auto name = [&] { return id == nullptr ? std::string("this id") : "id " + shown(id, id_bytes); };
  switch (answer.status) {
    case WARM_OK: return answer.sequence;
    case WARM_E_EXISTS:
      return base::fail(WARM_E_EXISTS, "a record with %s exists; its sequence is %lu", name().c_str(), answer.sequence);
    case WARM_E_CHANGED:
      return answer.sequence == 0
                 ? base::fail(WARM_E_CHANGED, "no record has %s any more", name().c_str())
                 : base::fail(WARM_E_CHANGED, "the sequence of the record with %s is %lu now", name().c_str(), answer.sequence);
    case WARM_E_NOT_FOUND: return base::fail(WARM_E_NOT_FOUND, "no record has %s", name().c_str());
    case WARM_E_FULL: return full(answer);
    case WARM_E_LIMIT: return base::fail(WARM_E_LIMIT, "the daemon refuses: the limit is %lu", answer.limit);
    default: break;
  }
  if (is_refusal(answer.status)) {
    return base::fail(answer.status, "the daemon refuses: %s", base::code_text(answer.status));
  }
  return base::fail(WARM_E_CORRUPT, "the daemon answered with the unknown code %d", answer.status);
}

warm_result result_of(const base::Result<Answer>& answer) {
  if (!answer) return {.code = answer.error().code, .reserved = 0, .sequence = 0};
  // As outcome() says, without a sentence.
  const int32_t code = answer->status == WARM_OK || is_refusal(answer->status) ? answer->status : WARM_E_CORRUPT;
  // A refusal names the record that was in the way.
  const bool named = code == WARM_OK || code == WARM_E_EXISTS || code == WARM_E_CHANGED;
  return {.code = code, .reserved = 0, .sequence = named ? answer->sequence : 0};
}

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

base::Status check_access(const StoreLimits& limits, layout::Access needed) {
  if (limits.access >= static_cast<uint32_t>(needed)) return {};
  return base::fail(WARM_E_ACCESS, needed == layout::Access::admin ? "this user may not administer the store"
                                                                   : "this user may read the store and not write it");
}

void address(OutgoingRequest& outgoing, const Request& request) noexcept {
  outgoing.header.session = request.link().session;
  outgoing.header.session_index = request.link().session_index;
  outgoing.header.ticket = request.awaited().number;
  outgoing.header.cell = request.awaited().cell;
}

bool fits_lane(const OutgoingRequest& request) noexcept {
  const layout::RequestHeader& header = request.header;
  return uint64_t{header.dimensions} * sizeof(float) + header.id_bytes + header.content_bytes <= layout::kLanePayloadBytes;
}

base::Result<Request> submit(ClientState& state, ThreadRecord& me, OutgoingRequest& outgoing, Patience& patience) {
  for (;;) {
    auto link = ready_link(state, me, patience);
    if (!link) return base::pass(std::move(link));
    auto cell = claim_cell(state, **link, me, patience);
    if (!cell) return base::pass(std::move(cell));
    Request request(**link, *cell);
    address(outgoing, request);
    auto sent = hand_in(state, me, request, outgoing, patience);
    if (sent) return request;
    request.give_back();
    state.part_if_former(**link);
    // Another session is in use now, and nothing was published in this one.
    const bool elsewhere = sent.error().code == WARM_E_BUSY && !(*link)->is(Link::Standing::in_use);
    if (!elsewhere || patience.deadline().passed()) return base::pass(std::move(sent));
  }
}

Waited wait_for(ClientState& state, ThreadRecord& me, const Awaited& awaited, Patience& patience) {
  Slices slices;
  Wait wait(awaited, me);
  if (wait.spin()) return Waited::answered;
  for (;;) {
    doze(awaited, slices.next_ns(patience.deadline()));
    if (awaited.answered()) {
      wait.slept();
      return Waited::answered;
    }
    const Surroundings around = look_around(state, me, *awaited.link);
    if (around == Surroundings::no_link) return awaited.answered() ? Waited::answered : Waited::no_link;
    // A failure here is not yet an answer's, nor is a want of memory: the deadline decides.
    try {
      if (around == Surroundings::look) {
        [[maybe_unused]] const auto back = state.refresh(ClientState::Need::daemon, patience.deadline());
      }
      state.send_large_again();
    } catch (const std::bad_alloc&) {
    }
    if (awaited.answered()) return Waited::answered;
    if (patience.deadline().passed()) return Waited::timeout;
  }
}

base::Result<Answer> await(ClientState& state, ThreadRecord& me, const Request& request, Patience& patience) {
  switch (wait_for(state, me, request.awaited(), patience)) {
    case Waited::answered: break;
    case Waited::timeout: return base::pass(unknown("no answer came before the deadline"));
    case Waited::no_link: return base::pass(unknown("the daemon did not take the session back"));
  }
  return request.answer();
}

}  // namespace warmtier::libclient
