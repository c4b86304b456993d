#include "daemon/io/io.hpp"

#include <poll.h>
#include <unistd.h>

#include <cerrno>

#include "base/assert.hpp"
#include "daemon/io/backends.hpp"

namespace warmtier::daemon::io {
namespace {

Operation ranged(uint64_t token, Kind kind, int fd, const std::byte* memory, uint64_t offset, uint64_t bytes) noexcept {
  // Zero bytes mean "up to the end" to some of the system calls.
  WARM_ASSERT(bytes > 0 && offset <= INT64_MAX && bytes <= INT64_MAX - offset);
  return {.token = token, .kind = kind, .fd = fd, .memory = const_cast<std::byte*>(memory), .offset = offset, .bytes = bytes};
}

Operation whole(uint64_t token, Kind kind, int fd) noexcept {
  return {.token = token, .kind = kind, .fd = fd, .memory = nullptr, .offset = 0, .bytes = 0};
}

}  // namespace

const char* kind_name(Kind kind) noexcept {
  switch (kind) {
    case Kind::write: return "write";
    case Kind::write_durable: return "durable write";
    case Kind::read: return "read";
    case Kind::sync_data: return "fdatasync";
    case Kind::sync_range: return "sync of a range";
    case Kind::sync_directory: return "fsync of a directory";
    case Kind::write_back: return "sync_file_range";
    case Kind::allocate: return "fallocate";
  }
  return "?";
}

Operation Operation::write(uint64_t token, int fd, std::span<const std::byte> from, uint64_t offset) noexcept {
  return ranged(token, Kind::write, fd, from.data(), offset, from.size());
}
Operation Operation::write_durable(uint64_t token, int fd, std::span<const std::byte> from, uint64_t offset) noexcept {
  return ranged(token, Kind::write_durable, fd, from.data(), offset, from.size());
}
Operation Operation::read(uint64_t token, int fd, std::span<std::byte> into, uint64_t offset) noexcept {
  return ranged(token, Kind::read, fd, into.data(), offset, into.size());
}
Operation Operation::sync_data(uint64_t token, int fd) noexcept { return whole(token, Kind::sync_data, fd); }
Operation Operation::sync_range(uint64_t token, int fd, uint64_t offset, std::span<const std::byte> mapped) noexcept {
  return ranged(token, Kind::sync_range, fd, mapped.data(), offset, mapped.size());
}
Operation Operation::sync_directory(uint64_t token, int fd) noexcept { return whole(token, Kind::sync_directory, fd); }
Operation Operation::write_back(uint64_t token, int fd, uint64_t offset, uint64_t bytes) noexcept {
  return ranged(token, Kind::write_back, fd, nullptr, offset, bytes);
}
Operation Operation::allocate(uint64_t token, int fd, uint64_t offset, uint64_t bytes) noexcept {
  return ranged(token, Kind::allocate, fd, nullptr, offset, bytes);
}

Operation Operation::begin_after(uint64_t earlier) const noexcept {
  Operation copy = *this;
  copy.after = earlier;
  return copy;
}

void Io::clear_completion_fd() noexcept {
  uint64_t signals = 0;
  [[maybe_unused]] const ssize_t got = ::read(completion_fd(), &signals, sizeof signals);  // EAGAIN: it was clear
}

base::Status Io::wait(base::Deadline deadline) {
  for (;;) {
    if (ready()) return {};
    WARM_ASSERT(in_flight() > 0);
    clear_completion_fd();
    if (ready()) return {};
    const uint64_t left_ns = deadline.left_ns();
    if (left_ns == 0) return base::fail(WARM_E_BUSY, "%zu I/O operations were not over before the deadline", in_flight());
    pollfd poll_fd{.fd = completion_fd(), .events = POLLIN, .revents = 0};
    const timespec timeout{.tv_sec = static_cast<time_t>(left_ns / base::kNsPerSecond),
                           .tv_nsec = static_cast<long>(left_ns % base::kNsPerSecond)};
    if (::ppoll(&poll_fd, 1, &timeout, nullptr) < 0 && errno != EINTR) return base::fail_errno(errno, "poll for I/O");
  }
}

base::Result<uint64_t> run(Io& io, const Operation& operation, const char* what) {
  WARM_ASSERT(io.in_flight() == 0);
  if (auto status = io.submit(operation); !status) return base::pass(std::move(status));
  Completion completion{};
  while (io.reap({&completion, 1}) == 0) {
    if (auto status = io.wait(base::Deadline::never()); !status) return base::pass(std::move(status));
  }
  if (completion.result < 0) {
    return base::fail_errno(static_cast<int>(-completion.result), "%s: %s", what, kind_name(operation.kind));
  }
  return static_cast<uint64_t>(completion.result);
}

base::Result<std::unique_ptr<Io>> open_io(Choice choice) {
  if (choice == Choice::threads) return open_threads("");
  auto ring = open_uring();
  if (choice == Choice::uring || ring.has_value() || ring.error().code != WARM_E_UNSUPPORTED) return ring;
  return open_threads(ring.error().text);
}

}  // namespace warmtier::daemon::io
