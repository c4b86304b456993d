#include "base/robust_mutex.hpp"

#include <cerrno>

namespace warmtier::base {

Status RobustMutex::initialise(pthread_mutex_t* memory) {
  pthread_mutexattr_t attributes;
  int error = ::pthread_mutexattr_init(&attributes);
  if (error == 0) error = ::pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
  if (error == 0) error = ::pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
  if (error == 0) error = ::pthread_mutex_init(memory, &attributes);
  ::pthread_mutexattr_destroy(&attributes);
  if (error != 0) return fail_errno(error, "initialise a robust mutex");
  return {};
}

void RobustMutex::unlock() noexcept { (void)::pthread_mutex_unlock(mutex_); }

bool RobustMutex::owner_died(int error) noexcept { return error == EOWNERDEAD; }

bool RobustMutex::is_busy(int error) noexcept { return error == EBUSY; }

RobustMutex::Attempt RobustMutex::mark_consistent() noexcept {
  return ::pthread_mutex_consistent(mutex_) == 0 ? Attempt::repaired : Attempt::lost;
}

}  // namespace warmtier::base
