#include "daemon/io/flight.hpp"

#include <algorithm>
#include <cerrno>

#include "base/assert.hpp"

namespace warmtier::daemon::io {
namespace {

bool is_transfer(Kind kind) noexcept { return kind == Kind::write || kind == Kind::write_durable || kind == Kind::read; }

bool is_split(Kind kind) noexcept { return is_transfer(kind) || kind == Kind::sync_range || kind == Kind::write_back; }

}  // namespace

Part next_part(const Operation& operation, const Progress& progress) noexcept {
  const uint64_t left = operation.bytes - progress.done_bytes;
  return {.memory = operation.memory == nullptr ? nullptr : operation.memory + progress.done_bytes,
          .offset = operation.offset + progress.done_bytes,
          .bytes = is_split(operation.kind) ? std::min(left, kPartBytesMax) : left};
}

std::optional<int64_t> advance(const Operation& operation, Progress& progress, int64_t answer) noexcept {
  const Kind kind = operation.kind;
  if (answer < 0) {
    const bool interrupted = answer == -EINTR || answer == -EAGAIN;
    const bool harmless = is_transfer(kind) || kind == Kind::allocate;
    if (interrupted && harmless && ++progress.attempts < kAttemptsMax) return std::nullopt;
    return answer;
  }
  progress.attempts = 0;
  if (!is_split(kind)) return 0;
  if (!is_transfer(kind)) {
    progress.done_bytes += next_part(operation, progress).bytes;
    return progress.done_bytes < operation.bytes ? std::nullopt : std::optional<int64_t>(0);
  }
  if (answer == 0 && kind == Kind::read) return static_cast<int64_t>(progress.done_bytes);
  // A file that takes nothing and gives no reason would be asked for ever.
  if (answer == 0) return -EIO;
  progress.done_bytes += static_cast<uint64_t>(answer);
  if (progress.done_bytes < operation.bytes) return std::nullopt;
  return static_cast<int64_t>(progress.done_bytes);
}

Flight::Flight() noexcept : entries_{} {
  for (Slot slot = 0; slot < kInFlightMax; ++slot) append(free_, slot, State::free);
}

base::Status Flight::admit(const Operation& operation) {
  if (free_.count == 0) {
    return base::fail(WARM_E_BUSY, "%zu I/O operations are in flight, the limit is %zu", in_flight(), kInFlightMax);
  }
  WARM_ASSERT(find(operation.token) == kNone);  // Io, invariant 5
  const Slot predecessor = operation.after.has_value() ? find(*operation.after) : kNone;
  const Slot slot = pop(free_);
  Entry& entry = entries_[slot];
  entry.operation = operation;
  entry.progress = {};
  entry.predecessor = predecessor;
  if (predecessor == kNone) {
    append(startable_, slot, State::startable);
  } else if (entries_[predecessor].state != State::over) {
    append(waiting_, slot, State::waiting);
  } else if (entries_[predecessor].result >= 0) {
    append(startable_, slot, State::startable);
  } else {
    entry.result = -ECANCELED;
    append(over_, slot, State::over);
  }
  return {};
}

std::optional<Flight::Slot> Flight::start() noexcept {
  if (startable_.count == 0) return std::nullopt;
  const Slot slot = pop(startable_);
  entries_[slot].state = State::started;
  return slot;
}

void Flight::unstart(Slot slot) noexcept {
  WARM_ASSERT(entries_[slot].state == State::started);
  prepend(startable_, slot, State::startable);
}

void Flight::finish(Slot slot, int64_t result) noexcept {
  WARM_ASSERT(entries_[slot].state == State::started);
  entries_[slot].result = result;
  append(over_, slot, State::over);
  // Those cancelled here may have others waiting for them: `over_` grows behind `ended` while it is walked.
  for (Slot ended = slot; ended != kNone; ended = entries_[ended].next) {
    List waiting = std::exchange(waiting_, {});
    while (waiting.count > 0) {
      const Slot other = pop(waiting);
      if (entries_[other].predecessor != ended) {
        append(waiting_, other, State::waiting);
      } else if (entries_[ended].result >= 0) {
        append(startable_, other, State::startable);
      } else {
        entries_[other].result = -ECANCELED;
        append(over_, other, State::over);
      }
    }
  }
}

size_t Flight::take(std::span<Completion> ret_completions) noexcept {
  size_t n = 0;
  while (n < ret_completions.size() && over_.count > 0) {
    const Slot slot = pop(over_);
    ret_completions[n++] = {.token = entries_[slot].operation.token, .result = entries_[slot].result};
    append(free_, slot, State::free);
  }
  return n;
}

void Flight::append(List& list, Slot slot, State state) noexcept {
  entries_[slot].state = state;
  entries_[slot].next = kNone;
  (list.last == kNone ? list.first : entries_[list.last].next) = slot;
  list.last = slot;
  ++list.count;
}

void Flight::prepend(List& list, Slot slot, State state) noexcept {
  entries_[slot].state = state;
  entries_[slot].next = list.first;
  list.first = slot;
  if (list.last == kNone) list.last = slot;
  ++list.count;
}

Flight::Slot Flight::pop(List& list) noexcept {
  const Slot slot = list.first;
  list.first = entries_[slot].next;
  if (list.first == kNone) list.last = kNone;
  --list.count;
  return slot;
}

Flight::Slot Flight::find(uint64_t token) const noexcept {
  for (Slot slot = 0; slot < kInFlightMax; ++slot) {
    if (entries_[slot].state != State::free && entries_[slot].operation.token == token) return slot;
  }
  return kNone;
}

}  // namespace warmtier::daemon::io
