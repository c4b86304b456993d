// Mechanism: reads, writes and syncs of the store's files behind one interface.
//
// An operation is handed in with a token and runs by itself; its completion carries the token back. Nothing here knows what
// the bytes mean. Two backends exist: io_uring, and plain threads where io_uring is forbidden. Whatever can stand in for a
// disk (fault injection, a simulation) implements the same class and must pass the same conformance suite.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "base/clock.hpp"
#include "base/error.hpp"
#include "daemon/io/buffers.hpp"

namespace warmtier::daemon::io {

constexpr size_t kInFlightMax = 256;  // operations between submit and reap; one more is WARM_E_BUSY
constexpr size_t kHoldsMax = 8;       // descriptors that one Io holds

enum class Kind : uint8_t { write, write_durable, read, sync_data, sync_range, sync_directory, write_back, allocate };

const char* kind_name(Kind kind) noexcept;

// Made by one of the functions below, one for each kind. Descriptors and memory are borrowed until the completion is reaped.
// Where a file has no offsets (a pipe), they mean nothing.
struct Operation {
  uint64_t token;
  Kind kind;
  int fd;
  std::byte* memory;  // write: from; read: into; sync_range: where the range is mapped
  uint64_t offset;
  uint64_t bytes;
  // The token of an operation that must have succeeded before this one begins.
  std::optional<uint64_t> after{};

  static Operation write(uint64_t token, int fd, std::span<const std::byte> from, uint64_t offset) noexcept;
  // The write and the metadata needed to read it back are durable when it completes (RWF_DSYNC).
  static Operation write_durable(uint64_t token, int fd, std::span<const std::byte> from, uint64_t offset) noexcept;
  static Operation read(uint64_t token, int fd, std::span<std::byte> into, uint64_t offset) noexcept;
  // The whole file (fdatasync).
  static Operation sync_data(uint64_t token, int fd) noexcept;
  // The dirty pages of one range of a file that is mapped shared: `mapped` is that range in the map, `fd` the description that
  // the map was made from (errors of earlier write-back are reported to each description once). Much cheaper than sync_data
  // where the rest of the file is dirty too.
  static Operation sync_range(uint64_t token, int fd, uint64_t offset, std::span<const std::byte> mapped) noexcept;
  // The entries of a directory (fsync): names that were created, renamed or removed in it.
  static Operation sync_directory(uint64_t token, int fd) noexcept;
  // Starts and awaits write-back of a range (sync_file_range); promises nothing about durability, only less to sync later.
  static Operation write_back(uint64_t token, int fd, uint64_t offset, uint64_t bytes) noexcept;
  // Space for the range; the file is at least that long afterwards, and what it gained reads as zeros.
  static Operation allocate(uint64_t token, int fd, uint64_t offset, uint64_t bytes) noexcept;

  // Chains: `Operation::sync_data(2, fd).begin_after(1)`.
  [[nodiscard]] Operation begin_after(uint64_t earlier) const noexcept;
};

struct Completion {
  uint64_t token;
  // write: all bytes; read: the bytes up to the end of the file; the others: 0. Or -errno: a part may have been done.
  int64_t result;
};

// Thread law: one thread uses an Io, the one that submits (a thread that exits cancels what it has in flight).
//
// 1. Every operation that submit accepted completes exactly once, also when it failed or was cancelled.
// 2. Operations have no order among themselves but by `after`: such an operation begins when its predecessor has succeeded,
//    and is not begun (-ECANCELED) when that failed. A predecessor whose completion was reaped is not looked at any more.
//    Its progress depends on reap being called.
// 3. A transfer cut short is continued by the backend. Only transfers and allocations that were interrupted (EINTR, EAGAIN)
//    are tried again, a bounded number of times. A sync is never tried again: the kernel reports a failed write-back once,
//    and a second sync that succeeds says nothing about the bytes of the first.
// 4. submit and reap do not wait for the disk. wait, run and the destructor do.
// 5. Tokens are unique among the operations in flight.
// 6. What is held outlives the process's death until the last byte of its I/O has arrived.
// 7. The destructor awaits what has begun, drops what has not, lets go of what is held, in this order.
//
// Writing past RLIMIT_FSIZE raises SIGXFSZ in this thread unless the process ignores it; then it is -EFBIG.
class Io {
 public:
  Io() = default;
  Io(const Io&) = delete;
  Io& operator=(const Io&) = delete;
  virtual ~Io() = default;

  // WARM_E_BUSY when kInFlightMax operations are in flight: reap first. Errors of the operation itself come by its completion.
  virtual base::Status submit(const Operation& operation) = 0;
  // Fills `ret_completions` from the front, returns how many. Looks at memory only, unless there is something to start.
  virtual size_t reap(std::span<Completion> ret_completions) noexcept = 0;
  // Whether reap has something to do.
  [[nodiscard]] virtual bool ready() const noexcept = 0;
  // Submitted and not reaped.
  [[nodiscard]] virtual size_t in_flight() const noexcept = 0;

  // An eventfd (non-blocking), readable when completions may be there. Before a sleep: clear_completion_fd, then reap until it
  // returns 0. Waits of the submitting thread may end with EINTR when the kernel completes something.
  [[nodiscard]] virtual int completion_fd() const noexcept = 0;
  void clear_completion_fd() noexcept;

  // The open file description of `fd`, and so an flock on it, lives until this Io's I/O is over, also when the process is
  // killed. It is let go by the destructor only. WARM_E_LIMIT beyond kHoldsMax.
  virtual base::Status hold(int fd) = 0;

  virtual BufferPool& buffers() noexcept = 0;
  [[nodiscard]] virtual bool buffers_registered() const noexcept = 0;

  // "io_uring", "threads".
  [[nodiscard]] virtual const char* name() const noexcept = 0;
  // For a log line: the name, what the buffers are, and why it is not another backend.
  [[nodiscard]] virtual std::string describe() const = 0;

  // For code that starts and stops a store: sleeps until reap has something to do (it may still return 0); WARM_E_BUSY when the
  // deadline passed first. Something must be in flight.
  base::Status wait(base::Deadline deadline);
};

// Submits, awaits, reaps: for code that starts and stops a store. Nothing else may be in flight. Returns Completion::result;
// a negative one becomes an error that names `what`.
base::Result<uint64_t> run(Io& io, const Operation& operation, const char* what);

enum class Choice { automatic, uring, threads };

// automatic: io_uring, and threads where this process may not use it or the kernel lacks an operation; describe() says why.
base::Result<std::unique_ptr<Io>> open_io(Choice choice);

}  // namespace warmtier::daemon::io
