#include "base/fd.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U  // Linux 6.3; the build's headers are older
#endif
#ifndef F_SEAL_FUTURE_WRITE
#define F_SEAL_FUTURE_WRITE 0x0010
#endif

namespace warmtier::base {

void Fd::reset(int fd) noexcept {
  if (fd_ >= 0) ::close(fd_);
  fd_ = fd;
}

WatchedFd::WatchedFd(Fd fd) noexcept : fd_(std::move(fd)) {
  struct stat st{};
  if (::fstat(fd_.get(), &st) == 0) inode_ = {.device = st.st_dev, .inode = st.st_ino};
}

WatchedFd& WatchedFd::operator=(WatchedFd&& other) noexcept {
  drop();
  fd_ = std::move(other.fd_);
  inode_ = other.inode_;
  return *this;
}

int WatchedFd::get() const noexcept {
  struct stat st{};
  if (!fd_ || ::fstat(fd_.get(), &st) != 0 || InodeId{.device = st.st_dev, .inode = st.st_ino} != inode_) return -1;
  return fd_.get();
}

void WatchedFd::drop() noexcept {
  if (get() < 0) (void)fd_.release();
  fd_.reset();
}

Result<Fd> open_at(int directory, const char* path, int flags, unsigned mode) {
  for (;;) {
    int fd = ::openat(directory, path, flags | O_CLOEXEC, mode);
    if (fd >= 0) return Fd(fd);
    if (errno != EINTR) return fail_errno(errno, "open %s", path);
  }
}

Result<Fd> make_memfd(const char* name, size_t bytes, bool seal_later) {
  int fd = ::memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL);
  if (fd < 0 && errno == EINVAL) fd = ::memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
  if (fd < 0) return fail_errno(errno, "memfd_create %s", name);
  Fd owned(fd);
  // A memfd is made 0777: a stranger who holds an O_RDONLY descriptor could reopen it for writing.
  if (::fchmod(fd, 0600) != 0) return fail_errno(errno, "fchmod memfd %s", name);
  if (::ftruncate(fd, static_cast<off_t>(bytes)) != 0) return fail_errno(errno, "ftruncate memfd %s to %zu", name, bytes);
  if (!seal_later && ::fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0) {
    return fail_errno(errno, "seal memfd %s", name);
  }
  return owned;
}

Status seal_for_readers(int memfd) {
  if (::fcntl(memfd, F_ADD_SEALS, F_SEAL_FUTURE_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0) {
    return fail_errno(errno, "seal memfd for readers");
  }
  return {};
}

Result<Fd> reopen_read_only(int fd) {
  char path[64];
  std::snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
  return open_at(AT_FDCWD, path, O_RDONLY);
}

Result<uint64_t> file_bytes(int fd) {
  struct stat st{};
  if (::fstat(fd, &st) != 0) return fail_errno(errno, "fstat");
  return static_cast<uint64_t>(st.st_size);
}

Result<InodeId> inode_of(int fd) {
  struct stat st{};
  if (::fstat(fd, &st) != 0) return fail_errno(errno, "fstat");
  return InodeId{.device = st.st_dev, .inode = st.st_ino};
}

Status allocate(int fd, uint64_t offset, uint64_t bytes) {
  for (;;) {
    if (::fallocate(fd, 0, static_cast<off_t>(offset), static_cast<off_t>(bytes)) == 0) return {};
    if (errno == EINTR) continue;
    if (errno == ENOSPC || errno == EDQUOT || errno == EFBIG) {
      const int reason = errno;
      auto error = fail_errno(reason, "allocate %llu bytes at %llu", static_cast<unsigned long long>(bytes),
                              static_cast<unsigned long long>(offset));
      error.error().code = WARM_E_FULL;
      return error;
    }
    return fail_errno(errno, "allocate %llu bytes at %llu", static_cast<unsigned long long>(bytes),
                      static_cast<unsigned long long>(offset));
  }
}

Status fill_random(void* bytes, size_t n) {
  auto* at = static_cast<unsigned char*>(bytes);
  while (n > 0) {
    ssize_t got = ::getrandom(at, n, 0);
    if (got < 0) {
      if (errno == EINTR) continue;
      return fail_errno(errno, "getrandom");
    }
    at += got;
    n -= static_cast<size_t>(got);
  }
  return {};
}

}  // namespace warmtier::base
