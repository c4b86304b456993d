// A process-shared robust mutex in memory that several processes map.
//
// It guards one short claim. A holder that is killed leaves EOWNERDEAD to the next one, which runs the repair that it had to
// hand in: owner death is an argument, so it cannot be forgotten. The repair must be idempotent: its own process may be
// killed in it. It belongs to a thread; nothing that a process owns hangs on it. It is never destroyed, never unmapped and
// never locked by the daemon (glibc follows pointers that lie in it). Never blocked on: try, or go elsewhere.
#pragma once

#include <pthread.h>

#include "base/assert.hpp"
#include "base/error.hpp"

namespace warmtier::base {

class RobustMutex {
 public:
  enum class Attempt { held, repaired, busy, lost };  // lost: no owner will ever release it, or it is not a mutex any more

  static Status initialise(pthread_mutex_t* memory);

  // A handle on a mutex that lies in shared memory; costs nothing, owns nothing.
  explicit RobustMutex(pthread_mutex_t* memory) noexcept : mutex_(memory) {}

  // `repair` runs while the mutex is held and before anything else can see it consistent.
  template <typename Repair>
  Attempt try_lock(Repair&& repair) noexcept {
    const int error = ::pthread_mutex_trylock(mutex_);
    if (error == 0) return Attempt::held;
    return owner_died(error) ? (repair(), mark_consistent()) : (is_busy(error) ? Attempt::busy : Attempt::lost);
  }
  void unlock() noexcept;

 private:
  static bool owner_died(int error) noexcept;
  static bool is_busy(int error) noexcept;
  Attempt mark_consistent() noexcept;

  pthread_mutex_t* mutex_;
};

}  // namespace warmtier::base
