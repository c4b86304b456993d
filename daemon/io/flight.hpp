// The book of the operations between submit and reap, the same for every backend that talks to a kernel: which may begin,
// which wait for another one, which are over. And the rules by which one operation becomes several system calls.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "base/error.hpp"
#include "daemon/io/io.hpp"

namespace warmtier::daemon::io {

// A ring's lengths have 32 bits, a system call transfers at most 2 GiB - 4 KiB. A multiple of every O_DIRECT alignment.
constexpr uint64_t kPartBytesMax = uint64_t{1} << 30;
// Attempts of one system call that ended with EINTR or EAGAIN.
constexpr uint32_t kAttemptsMax = 16;

// How far an operation has come.
struct Progress {
  uint64_t done_bytes = 0;
  uint32_t attempts = 0;  // of the next part
};

// What the next system call of an operation covers.
struct Part {
  std::byte* memory;
  uint64_t offset;
  uint64_t bytes;
};

Part next_part(const Operation& operation, const Progress& progress) noexcept;
// Takes the answer (>= 0 or -errno) to that system call. Returns the operation's result, or nothing when another call is needed.
std::optional<int64_t> advance(const Operation& operation, Progress& progress, int64_t answer) noexcept;

// Used by the thread that uses its Io.
//
// 1. Each slot is in exactly one of: free, waiting (for a predecessor in flight), startable, started, over.
// 2. Slots become startable in the order in which they were admitted or set free by their predecessor.
class Flight {
 public:
  using Slot = uint32_t;

  Flight() noexcept;

  base::Status admit(const Operation& operation);
  // The next startable slot; it is started from now on.
  std::optional<Slot> start() noexcept;
  // A started slot goes back to the front of the startable ones.
  void unstart(Slot slot) noexcept;
  // A started slot is over; what waited for it becomes startable, or over with -ECANCELED.
  void finish(Slot slot, int64_t result) noexcept;
  size_t take(std::span<Completion> ret_completions) noexcept;

  [[nodiscard]] const Operation& operation(Slot slot) const noexcept { return entries_[slot].operation; }
  [[nodiscard]] Progress& progress(Slot slot) noexcept { return entries_[slot].progress; }
  [[nodiscard]] size_t in_flight() const noexcept { return kInFlightMax - free_.count; }
  [[nodiscard]] bool any_over() const noexcept { return over_.count > 0; }
  [[nodiscard]] bool any_startable() const noexcept { return startable_.count > 0; }

 private:
  static constexpr Slot kNone = UINT32_MAX;
  enum class State : uint8_t { free, waiting, startable, started, over };

  struct Entry {
    Operation operation;
    Progress progress;
    int64_t result;
    Slot predecessor;  // waiting: this slot
    Slot next;
    State state;
  };

  // First in, first out, through Entry::next.
  struct List {
    Slot first = kNone;
    Slot last = kNone;
    size_t count = 0;
  };

  void append(List& list, Slot slot, State state) noexcept;
  void prepend(List& list, Slot slot, State state) noexcept;
  Slot pop(List& list) noexcept;
  [[nodiscard]] Slot find(uint64_t token) const noexcept;

  std::array<Entry, kInFlightMax> entries_;
  List free_;
  List waiting_;
  List startable_;
  List over_;
};

}  // namespace warmtier::daemon::io
