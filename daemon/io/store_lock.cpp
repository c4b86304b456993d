#include "daemon/io/store_lock.hpp"

#include <fcntl.h>
#include <pthread.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <condition_variable>
#include <csignal>
#include <cstdio>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <system_error>
#include <thread>

#include "base/assert.hpp"

namespace warmtier::daemon::io {
namespace {

// Shared by the caller and the thread that blocks; whoever is last closes what is left.
struct Wait {
  std::mutex mutex;
  std::condition_variable changed;
  base::Fd fd;
  std::optional<int> os_error;  // set when the thread's flock is over; 0: the lock is had
  bool abandoned = false;       // the caller has gone: a lock that comes now is given up at once
};

void block(const std::shared_ptr<Wait>& wait) {
  int answer = 0;
  do {
    answer = ::flock(wait->fd.get(), LOCK_EX);
  } while (answer != 0 && errno == EINTR);
  const int os_error = answer == 0 ? 0 : errno;
  const std::scoped_lock lock(wait->mutex);
  wait->os_error = os_error;
  if (wait->abandoned) wait->fd.reset();
  wait->changed.notify_one();
}

base::Result<base::Fd> open_lock_file(int directory) {
  auto fd = base::open_at(directory, kStoreLockName, O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK, 0600);
  if (!fd) return fd;
  struct stat st{};
  if (::fstat(fd->get(), &st) != 0) return base::fail_errno(errno, "fstat of the store lock");
  if (!S_ISREG(st.st_mode)) return base::fail(WARM_E_EXISTS, "the store lock \"%s\" is not a regular file", kStoreLockName);
  return fd;
}

// Whether the name still leads to the file that was locked; else a second daemon could lock the new one.
bool is_current(int directory, int fd) noexcept {
  struct stat by_name{};
  struct stat by_fd{};
  return ::fstatat(directory, kStoreLockName, &by_name, AT_SYMLINK_NOFOLLOW) == 0 && ::fstat(fd, &by_fd) == 0 &&
         by_name.st_dev == by_fd.st_dev && by_name.st_ino == by_fd.st_ino;
}

std::string recorded_owner(int fd) {
  std::array<char, 24> text{};
  const ssize_t got = ::pread(fd, text.data(), text.size(), 0);
  uint32_t pid = 0;
  const char* end = text.data() + std::max<ssize_t>(got, 0);
  const auto parsed = std::from_chars(text.data(), end, pid);
  if (parsed.ec != std::errc() || parsed.ptr == end || (*parsed.ptr != ' ' && *parsed.ptr != '\n')) {
    return "a process that recorded no pid";
  }
  return "process " + std::to_string(pid);
}

std::unexpected<base::Error> busy(int fd) {
  return base::fail(WARM_E_BUSY, "another daemon serves this store: %s holds the store lock", recorded_owner(fd).c_str());
}

void record_owner(int fd) noexcept {
  // For people only: a lock without it is as good. One length for all pids: a truncation could wait behind the dead one's writes.
  std::array<char, 24> text{};
  const int n = std::snprintf(text.data(), text.size(), "%-10d\n", static_cast<int>(::getpid()));
  [[maybe_unused]] const ssize_t written = ::pwrite(fd, text.data(), static_cast<size_t>(n), 0);
}

// flock with a deadline. The kernel has none: a thread blocks in it. At the deadline it is left behind, alone with the
// descriptor; it ends when the holder lets go, or with this process.
base::Result<base::Fd> lock_exclusive(base::Fd fd, base::Deadline deadline) {
  if (::flock(fd.get(), LOCK_EX | LOCK_NB) == 0) return fd;
  if (errno != EWOULDBLOCK && errno != EINTR) return base::fail_errno(errno, "flock of the store lock");
  if (deadline.passed()) return busy(fd.get());
  const auto wait = std::make_shared<Wait>();
  wait->fd = std::move(fd);
  sigset_t all;
  sigset_t before;
  ::sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, &before);
  int os_error = 0;
  try {
    std::thread(block, wait).detach();
  } catch (const std::system_error& error) {
    os_error = error.code().value();
  }
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  if (os_error != 0) return base::fail_errno(os_error, "start a thread to wait for the store lock");

  std::unique_lock lock(wait->mutex);
  while (!wait->os_error.has_value() && !deadline.passed()) {
    constexpr uint64_t kSliceNs = 3600 * base::kNsPerSecond;  // a wait for ever does not fit the clock's type
    wait->changed.wait_for(lock, std::chrono::nanoseconds(std::min(deadline.left_ns(), kSliceNs)));
  }
  if (!wait->os_error.has_value()) {
    wait->abandoned = true;
    return busy(wait->fd.get());
  }
  if (*wait->os_error != 0) return base::fail_errno(*wait->os_error, "flock of the store lock");
  return std::move(wait->fd);
}

}  // namespace

base::Result<StoreLock> StoreLock::acquire(int directory, Io& io, base::Deadline deadline) {
  WARM_ASSERT(io.in_flight() == 0);  // what began before the lock is held would not be covered by it
  for (;;) {
    auto fd = open_lock_file(directory);
    if (!fd) return base::pass(std::move(fd));
    auto locked = lock_exclusive(std::move(*fd), deadline);
    if (!locked) return base::pass(std::move(locked));
    if (!is_current(directory, locked->get())) continue;
    if (auto status = io.hold(locked->get()); !status) return base::pass(std::move(status));
    record_owner(locked->get());
    return StoreLock(std::move(*locked));
  }
}

}  // namespace warmtier::daemon::io
