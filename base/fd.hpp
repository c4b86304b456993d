// A file descriptor with an owner, and the few ways in which this project makes one.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>

#include "base/error.hpp"

namespace warmtier::base {

class Fd {
 public:
  Fd() noexcept = default;
  explicit Fd(int fd) noexcept : fd_(fd) {}
  Fd(Fd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Fd& operator=(Fd&& other) noexcept {
    reset(std::exchange(other.fd_, -1));
    return *this;
  }
  Fd(const Fd&) = delete;
  Fd& operator=(const Fd&) = delete;
  ~Fd() { reset(); }

  [[nodiscard]] int get() const noexcept { return fd_; }
  [[nodiscard]] int release() noexcept { return std::exchange(fd_, -1); }
  void reset(int fd = -1) noexcept;
  explicit operator bool() const noexcept { return fd_ >= 0; }

 private:
  int fd_ = -1;
};

// What tells one inode from another on this host.
struct InodeId {
  uint64_t device = 0;
  uint64_t inode = 0;
  bool operator==(const InodeId&) const = default;
};

// A descriptor in a process whose other code may close all descriptors (closefrom) and open others under their numbers. What is
// not the same inode any more is not used, and not closed.
class WatchedFd {
 public:
  WatchedFd() noexcept = default;
  explicit WatchedFd(Fd fd) noexcept;
  WatchedFd(WatchedFd&& other) noexcept = default;
  WatchedFd& operator=(WatchedFd&& other) noexcept;
  WatchedFd(const WatchedFd&) = delete;
  WatchedFd& operator=(const WatchedFd&) = delete;
  ~WatchedFd() { drop(); }

  // The number, or -1 when it is another file's by now. A system call each time.
  [[nodiscard]] int get() const noexcept;
  [[nodiscard]] const InodeId& inode() const noexcept { return inode_; }

 private:
  void drop() noexcept;
  Fd fd_;
  InodeId inode_;
};

// openat with O_CLOEXEC added; EINTR is retried.
Result<Fd> open_at(int directory, const char* path, int flags, unsigned mode = 0);
// A memfd of `bytes` zeros, mode 0600, not executable, sealed against SHRINK, GROW and SEAL unless `seal_later`.
Result<Fd> make_memfd(const char* name, size_t bytes, bool seal_later = false);
// Adds FUTURE_WRITE, SHRINK, GROW and SEAL: from now on only the writable maps that exist can write it.
Status seal_for_readers(int memfd);
// A new description of the same file through /proc/self/fd: never pass one of our own (flags, offsets and flock are shared).
Result<Fd> reopen_read_only(int fd);
Result<uint64_t> file_bytes(int fd);
Result<InodeId> inode_of(int fd);
// Allocated, and its length at least offset + bytes: a later store to a map of it cannot meet a full disk.
Status allocate(int fd, uint64_t offset, uint64_t bytes);
Status fill_random(void* bytes, size_t n);

}  // namespace warmtier::base
