// Serving: the daemon's side of protocol section 5, steps 1 to 5.
//
// What a client's bytes can do here: nothing but make us answer or drop that client's own request. The commit word decides that
// there is a request, our own `next_` which one; its header is copied once; the payload is read once, by the store, within bounds
// that come from the copy.
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <climits>
#include <cstring>

#include "base/assert.hpp"
#include "base/failpoint.hpp"
#include "daemon/session/channel.hpp"
#include "layout/validate.hpp"

namespace warmtier::daemon::session {
namespace {

using layout::RequestHeader;
using layout::RequestVerdict;
using layout::ResultCell;
using store::Answer;
using store::Disposition;

// The copy is ours from here on: the compiler may not go back to the client's bytes.
RequestHeader copy_header(const std::byte* hostile) noexcept {
  RequestHeader copy;
  std::memcpy(&copy, hostile, sizeof copy);
  __asm__ volatile("" : : "r"(&copy) : "memory");
  return copy;
}

void answer_cell(ResultCell& cell, uint64_t ticket, const Answer& answer) noexcept {
  WARM_FAILPOINT("daemon.result.before");
  store_result(cell, ticket, answer.status, answer.sequence, answer.slot, answer.limit);
  WARM_FAILPOINT("daemon.result.after");
}

layout::Access access_needed(const RequestHeader& valid) noexcept {
  return valid.operation == static_cast<uint16_t>(layout::Operation::clear) ? layout::Access::admin : layout::Access::write;
}

// One open ticket a cell: the next one, or one that was skipped to. Anything else is answered already, or not ours.
enum class Ticket { open, answered, out_of_range };
Ticket ticket_state(const ResultCell& cell, uint64_t ticket) noexcept {
  const uint64_t last = layout::load_relaxed(cell.number);
  if (last >= ticket) return WARM_RULE("daemon.answered_is_done") ? Ticket::answered : Ticket::open;
  return ticket - last > kTicketStepMax || ticket > layout::kRequestNumberMax ? Ticket::out_of_range : Ticket::open;
}

// Threads that wait for one ticket; where more of them sleep, the others look by themselves, as all do.
constexpr int kWaitersOfACell = 64;

// So many entries behind the one that is served are looked at, each a step nearer with every request: the first time its header
// and id are fetched out of the client's cache, then bucket, line and header of the record that the id has.
constexpr uint32_t kEntriesAhead = 4;

}  // namespace

store::Answer answer_to_bad_request(const RequestHeader& request, const RequestLimits& limits, bool in_lane) noexcept {
  Answer answer{.status = WARM_E_INVALID, .sequence = 0, .slot = layout::kNoSlot, .limit = 0};
  switch (layout::validate_request(request, limits.dimensions, limits.content_bytes_max, in_lane)) {
    case RequestVerdict::good: answer.status = WARM_OK; break;
    case RequestVerdict::unknown_operation: answer.status = WARM_E_UNSUPPORTED; break;
    case RequestVerdict::id_length:
      answer.limit = layout::kIdBytesMax;
      if (request.id_bytes > layout::kIdBytesMax) answer.status = WARM_E_LIMIT;
      break;
    case RequestVerdict::wrong_dimensions: answer.limit = limits.dimensions; break;
    case RequestVerdict::content_length:
      answer.limit = std::min(limits.content_bytes_max, layout::kContentBytesMax);
      if (request.content_bytes > answer.limit) answer.status = WARM_E_LIMIT;
      break;
    case RequestVerdict::does_not_fit_lane:
      answer.limit = layout::kLanePayloadBytes;
      answer.status = WARM_E_LIMIT;
      break;
    case RequestVerdict::bad_number: answer.limit = layout::kSequenceEnd - 1; break;
    case RequestVerdict::bad_condition:
    case RequestVerdict::bad_given:
    case RequestVerdict::bad_cell:
    case RequestVerdict::not_finite: break;
  }
  return answer;
}

void Channel::count_done(uint32_t lane, uint64_t number) noexcept {
  layout::store_release(results_.done_line(lane).done, number);
  // Numbers end: what stands behind the last one is never looked at.
  next_[lane] = number < layout::kRequestNumberMax ? number + 1 : 0;
  WARM_FAILPOINT("daemon.done.after");
}

// After the answer and a full fence: who asked to be woken or told before it looked again is seen here, or sees the answer.
void Channel::wake(const Session& session, uint32_t cell_index, ResultCell& cell) {
  if (!session.region) return;  // not handed back yet: its waiters look by themselves, in slices
  layout::SessionRegion& region = *session.shared();
  if (layout::load_relaxed(region.notify) != 0) {
    layout::store_relaxed(region.notify, 0);
    to_notify_.push_back(sessions_[session.index]);
  }
  uint32_t& sleep = region.sleep[cell_index];
  if (layout::load_relaxed(sleep) == 0) return;
  // It counts the cell's sleepers, of the next request too, who would not be woken if it were cleared here.
  if (!WARM_RULE("daemon.leaves_the_sleep_word")) layout::store_relaxed(sleep, 0);
  WARM_FAILPOINT("daemon.wake.before");
  // The futex is the low half of the number, in our own file.
  ::syscall(SYS_futex, reinterpret_cast<uint32_t*>(&cell.number), FUTEX_WAKE, kWaitersOfACell, nullptr, nullptr, 0);
}

// Many at once wait for memory side by side. What is read here of entries that nobody has copied yet decides nothing but what is
// fetched.
void Channel::look_ahead(uint32_t lane, uint64_t number, Executor& executor, const RequestLimits& limits) {
  for (uint64_t n = number + 1; n <= number + kEntriesAhead; ++n) {
    if (layout::load_acquire(commits()[lane].seq[n % layout::kLaneEntries]) != n) return;
    const std::byte* const entry = entries_ + layout::channel_entry_offset(lanes_, lane, n);
    Ahead& ahead = ahead_[lane * layout::kLaneEntries + n % layout::kLaneEntries];
    if (n == number + kEntriesAhead) {
      layout::prefetch(entry);
      layout::prefetch(entry + sizeof(RequestHeader) + uint64_t{limits.dimensions} * sizeof(float));  // a put's id
    } else if (ahead.number == n) {
      executor.foresee_more(ahead.foreseen);
    } else {
      ahead = {.number = n, .foreseen = {}};
      const RequestHeader header = copy_header(entry);
      const uint64_t embedding_bytes = uint64_t{header.dimensions} * sizeof(float);
      if (header.id_bytes - 1 < layout::kIdBytesMax && embedding_bytes + header.id_bytes <= layout::kLanePayloadBytes)
        ahead.foreseen = executor.foresee(entry + sizeof header + embedding_bytes, header.id_bytes);
    }
  }
}

Served Channel::serve_lane(uint32_t lane, Executor& executor, const RequestLimits& limits, layout::StatusPage& status) {
  const uint64_t number = next_[lane];
  if (number == 0) return Served::nothing;
  WARM_FAILPOINT("daemon.lane.seen");
  const std::byte* entry = entries_ + layout::channel_entry_offset(lanes_, lane, number);
  const RequestHeader header = copy_header(entry);

  look_ahead(lane, number, executor, limits);

  Session* session = find_session(header.session_index, header.session);
  if (session == nullptr || header.cell >= layout::kCellsPerSession) {
    // Nobody can be answered: a session that has ended, or bytes that name none.
    ++bad_;
    if (session != nullptr) layout::count(status.bad_requests);
    count_done(lane, number);
    return Served::answered;
  }
  ResultCell& cell = results_.cell(session->index, header.cell);
  switch (ticket_state(cell, header.ticket)) {
    case Ticket::open: break;
    case Ticket::out_of_range: layout::count(status.bad_requests); [[fallthrough]];
    case Ticket::answered:
      ++bad_;
      count_done(lane, number);
      return Served::answered;
  }

  Answer answer = answer_to_bad_request(header, limits, true);
  if (answer.status != WARM_OK) {
    ++bad_;
    layout::count(status.bad_requests);
  } else if (session->access < access_needed(header)) {
    ++bad_;
    answer.status = WARM_E_ACCESS;
    layout::count(status.refused);
  } else {
    const std::byte* embedding = entry + sizeof(RequestHeader);
    const std::byte* id = embedding + uint64_t{header.dimensions} * sizeof(float);
    const store::Request request{
        .header = header, .embedding = embedding, .id = id, .content = id + header.id_bytes, .staged = nullptr};
    const store::Origin origin{.channel = static_cast<uint32_t>(number_),
                               .lane = lane,
                               .number = number,
                               .session_index = session->index,
                               .session = session->number,
                               .ticket = header.ticket,
                               .cell = header.cell};
    if (executor.execute(request, origin, answer) == Disposition::wait) return Served::stalled;
    count_carried_out();
  }
  const bool result_first = WARM_RULE("daemon.result_before_done");
  if (result_first) answer_cell(cell, header.ticket, answer);
  count_done(lane, number);
  if (!result_first) answer_cell(cell, header.ticket, answer);
  WARM_ASSERT(answered_count_ < answered_.size());
  answered_[answered_count_++] = {.session = session, .cell = header.cell};
  return Served::answered;
}

// One fence for all that was answered since the last: it waits until the stores to lines that the client has are through.
void Channel::wake_answered(Executor& executor) {
  if (answered_count_ == 0) return;
  layout::fence_full();
  for (uint32_t i = 0; i < answered_count_; ++i) {
    const Answered& one = answered_[i];
    wake(*one.session, one.cell, results_.cell(one.session->index, one.cell));
  }
  answered_count_ = 0;
  executor.settle();
}

bool Channel::serve(Executor& executor, const RequestLimits& limits, layout::StatusPage& status) {
  if (!map_ || passed_over_) return false;
  const layout::CommitLine* const lines = commits();
  const uint64_t* const next = next_.data();
  uint32_t served = 0;
  const auto pass = [&](uint32_t from, uint32_t to) {
    for (uint32_t lane = from; lane < to; ++lane) {
      const auto published = [&] {
        return layout::load_acquire(lines[lane].seq[next[lane] % layout::kLaneEntries]) == next[lane];
      };
      if (!published()) [[likely]]
        continue;
      if (stalled_[lane] != 0) continue;
      Served outcome = Served::nothing;
      for (uint32_t i = 0; i < kRequestsPerLane && served < kRequestsPerRound && (i == 0 || published()); ++i) {
        if (i > 0) executor.settle();  // fetches what this one will store to
        outcome = serve_lane(lane, executor, limits, status);
        if (outcome != Served::answered) break;
        ++served;
      }
      wake_answered(executor);
      if (outcome == Served::stalled) {
        stalled_[lane] = 1;
        ++stalled_count_;
      }
      if (served == kRequestsPerRound) {
        first_lane_ = (lane + 1) % lanes_;
        return;
      }
    }
  };
  const uint32_t first = first_lane_;
  pass(first, lanes_);
  if (first != 0 && served < kRequestsPerRound) pass(0, first);
  return served > 0;
}

bool Channel::sweep(Executor& executor, const RequestLimits& limits, layout::StatusPage& status) {
  if (!map_) return true;
  bool clean = true;
  for (uint32_t lane = 0; lane < lanes_; ++lane) {
    // What others publish meanwhile is none of this sweep's business: a lane holds this many.
    for (uint32_t i = 0; i < layout::kLaneEntries; ++i) {
      const uint64_t number = next_[lane];
      if (layout::load_acquire(commits()[lane].seq[number % layout::kLaneEntries]) != number) break;
      const Served outcome = serve_lane(lane, executor, limits, status);
      wake_answered(executor);
      if (outcome == Served::nothing) break;
      if (outcome == Served::stalled) {
        if (stalled_[lane] == 0) ++stalled_count_;
        stalled_[lane] = 1;
        clean = false;
        break;
      }
      if (stalled_[lane] != 0) --stalled_count_;
      stalled_[lane] = 0;
    }
  }
  return clean;
}

void Channel::retry_stalled() noexcept {
  if (stalled_count_ == 0) return;
  std::ranges::fill(stalled_, uint8_t{0});
  stalled_count_ = 0;
}

bool Channel::anything_published() const noexcept {
  if (!map_ || passed_over_) return false;
  for (uint32_t lane = 0; lane < lanes_; ++lane) {
    const uint64_t number = next_[lane];
    if (layout::load_acquire(commits()[lane].seq[number % layout::kLaneEntries]) == number && stalled_[lane] == 0 && number != 0)
      return true;
  }
  return false;
}

Served Channel::serve_socket(Executor& executor, const RequestLimits& limits, layout::StatusPage& status, Session& session,
                             const SocketRequest& request) {
  const RequestHeader& header = request.header;
  uint64_t& socket_done = results_.entry(session.index).socket_done;
  // Sent again after a re-attach: its answer is in the cell.
  if (request.number <= layout::load_relaxed(socket_done)) return Served::answered;
  const auto done = [&] {
    layout::store_release(socket_done, request.number);
    WARM_FAILPOINT("daemon.socket_done.after");
    return Served::answered;
  };
  if (header.cell >= layout::kCellsPerSession || header.session != session.number || header.session_index != session.index) {
    ++bad_;
    layout::count(status.bad_requests);
    return done();
  }
  ResultCell& cell = results_.cell(session.index, header.cell);
  switch (ticket_state(cell, header.ticket)) {
    case Ticket::open: break;
    case Ticket::out_of_range: layout::count(status.bad_requests); [[fallthrough]];
    case Ticket::answered: ++bad_; return done();
  }
  Answer answer = request.refused != nullptr ? *request.refused : answer_to_bad_request(header, limits, false);
  if (answer.status != WARM_OK) {
    const bool bad = answer.status == WARM_E_INVALID || answer.status == WARM_E_LIMIT || answer.status == WARM_E_UNSUPPORTED;
    ++bad_;
    layout::count(bad ? status.bad_requests : status.refused);
  } else {
    const store::Request whole{
        .header = header, .embedding = request.embedding, .id = request.id, .content = request.content, .staged = request.staged};
    const store::Origin origin{.channel = static_cast<uint32_t>(number_),
                               .lane = layout::kIntentLaneSocket,
                               .number = request.number,
                               .session_index = session.index,
                               .session = session.number,
                               .ticket = header.ticket,
                               .cell = header.cell};
    if (executor.execute(whole, origin, answer) == Disposition::wait) return Served::stalled;
    count_carried_out();
  }
  answer_cell(cell, header.ticket, answer);
  done();
  layout::fence_full();
  wake(session, header.cell, cell);
  executor.settle();
  return Served::answered;
}

bool Channel::answer_decided(const store::Decided& decided) {
  const store::Origin& origin = decided.origin;
  if (!decided.carried_out || origin.session_index >= layout::kSessionsPerChannel || origin.cell >= layout::kCellsPerSession)
    return false;
  const bool by_socket = origin.lane == layout::kIntentLaneSocket;
  if (!by_socket && origin.lane >= lanes_) return false;
  layout::SessionEntry& entry = results_.entry(origin.session_index);
  const uint64_t done =
      by_socket ? layout::load_acquire(entry.socket_done) : layout::load_acquire(results_.done_line(origin.lane).done);
  if (done >= origin.number) return false;
  ResultCell& cell = results_.cell(origin.session_index, origin.cell);
  // Its session was live when it was carried out, and no entry gets a new tenant before this.
  if (layout::load_acquire(entry.number) == origin.session && layout::load_relaxed(cell.number) < origin.ticket) {
    answer_cell(cell, origin.ticket, decided.answer);
  }
  WARM_FAILPOINT("daemon.restart.result");
  if (by_socket) {
    layout::store_release(entry.socket_done, origin.number);
    WARM_FAILPOINT("daemon.restart.done");
  } else {
    count_done(origin.lane, origin.number);
  }
  ::syscall(SYS_futex, reinterpret_cast<uint32_t*>(&cell.number), FUTEX_WAKE, INT_MAX, nullptr, nullptr, 0);
  return true;
}

}  // namespace warmtier::daemon::session
