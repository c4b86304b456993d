// One daemon per store.
//
// The lock is an flock on the file `lock` in the store directory, 0600, on a description that is never passed to anyone: whoever
// has any descriptor of a file can take an exclusive flock on it. The I/O room holds the description, so that the lock of a
// killed daemon becomes free only when the last of its I/O is over: the next one recovers from bytes that nobody writes any more.
#pragma once

#include "base/clock.hpp"
#include "base/error.hpp"
#include "base/fd.hpp"
#include "daemon/io/io.hpp"

namespace warmtier::daemon::io {

constexpr const char* kStoreLockName = "lock";

class StoreLock {
 public:
  // Waits for a dying daemon's lock. WARM_E_BUSY at the deadline, naming the process that the lock file records (as that process
  // sees itself; for people only). Nothing may be in flight in `io`. The lock is free again when both this and `io` are gone.
  static base::Result<StoreLock> acquire(int directory, Io& io, base::Deadline deadline);

 private:
  explicit StoreLock(base::Fd fd) noexcept : fd_(std::move(fd)) {}
  base::Fd fd_;
};

}  // namespace warmtier::daemon::io
