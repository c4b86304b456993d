#pragma once

#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <climits>
#include <cstdint>

#include "base/clock.hpp"

namespace warmtier::libclient {

inline timespec timespec_of(uint64_t ns) noexcept {
  return {.tv_sec = static_cast<time_t>(ns / base::kNsPerSecond), .tv_nsec = static_cast<long>(ns % base::kNsPerSecond)};
}

// Returns when woken, when the word is not `seen`, after `ns`, or for no reason.
inline void futex_wait_private(const std::atomic<uint32_t>* word, uint32_t seen, uint64_t ns) noexcept {
  const timespec limit = timespec_of(ns);
  ::syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, seen, &limit, nullptr, 0);
}
inline void futex_wake_private(std::atomic<uint32_t>* word) noexcept {
  ::syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, INT_MAX, nullptr, nullptr, 0);
}
// The low half of a 64-bit word that another process writes and this one may only read.
inline void futex_wait_shared(const uint64_t* word, uint32_t seen_low, uint64_t ns) noexcept {
  static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__);
  const timespec limit = timespec_of(ns);
  ::syscall(SYS_futex, word, FUTEX_WAIT, seen_low, &limit, nullptr, 0);
}

// A lock of one process that is waited for until a deadline: 0 free, 1 held, 2 held and waited for. (The standard timed mutex
// waits by a call that the thread sanitizer of our compiler does not know.)
class PatientLock {
 public:
  [[nodiscard]] bool try_lock() noexcept {
    uint32_t free = 0;
    return word_.compare_exchange_strong(free, 1, std::memory_order_acquire, std::memory_order_relaxed);
  }
  // False at the deadline.
  [[nodiscard]] bool lock_before(const base::Deadline& deadline) noexcept {
    if (try_lock()) return true;
    while (word_.exchange(2, std::memory_order_acquire) != 0) {
      const uint64_t left_ns = deadline.left_ns();
      if (left_ns == 0) return false;
      futex_wait_private(&word_, 2, left_ns);
    }
    return true;
  }
  void lock() noexcept { (void)lock_before(base::Deadline::never()); }
  void unlock() noexcept {
    if (word_.exchange(0, std::memory_order_release) == 2)
      ::syscall(SYS_futex, &word_, FUTEX_WAKE_PRIVATE, 1, nullptr, nullptr, 0);
  }

 private:
  std::atomic<uint32_t> word_{0};
};

}  // namespace warmtier::libclient
