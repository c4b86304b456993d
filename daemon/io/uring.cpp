// The io_uring backend.
//
// Its one subtle promise is hold: a description in the ring's file table is let go by the kernel only when the last request of
// the ring is over, so an flock on it outlives the process by exactly the I/O that the process left behind.
#include <fcntl.h>
#include <liburing.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <utility>

#include "base/assert.hpp"
#include "base/fd.hpp"
#include "daemon/io/backends.hpp"
#include "daemon/io/flight.hpp"

namespace warmtier::daemon::io {
namespace {

// Requests in the kernel; further operations wait in the book. The completion ring has twice as many places.
constexpr unsigned kRingEntries = 64;

constexpr std::array kOpcodes{IORING_OP_READ,  IORING_OP_WRITE, IORING_OP_READ_FIXED,      IORING_OP_WRITE_FIXED,
                              IORING_OP_FSYNC, IORING_OP_NOP,   IORING_OP_SYNC_FILE_RANGE, IORING_OP_FALLOCATE};

// What a kernel without io_uring, a sysctl, a security module or a container's filter answers; ENOMEM where the ring's own pages
// count as locked memory and exceed the limit.
bool is_forbidden(int os_error) noexcept {
  return os_error == ENOSYS || os_error == EPERM || os_error == EACCES || os_error == ENOMEM;
}

std::unexpected<base::Error> refused(int os_error, const char* call) {
  auto error = base::fail_errno(os_error, "%s", call);
  if (is_forbidden(os_error)) error.error().code = WARM_E_UNSUPPORTED;
  return error;
}

class UringIo final : public Io {
 public:
  UringIo(base::Fd event, BufferPool pool) : event_(std::move(event)), pool_(std::move(pool)) {}

  base::Status open() {
    const int setup = ::io_uring_queue_init(kRingEntries, &ring_, 0);
    if (setup < 0) return refused(-setup, "io_uring_setup");
    opened_ = true;
    if (int answer = ::io_uring_register_eventfd(&ring_, event_.get()); answer < 0) {
      return refused(-answer, "io_uring_register (eventfd)");
    }
    if (auto status = probe(); !status) return status;
    std::array<int, kHoldsMax> none{};
    none.fill(-1);
    if (int answer = ::io_uring_register_files(&ring_, none.data(), kHoldsMax); answer < 0) {
      return refused(-answer, "io_uring_register (files)");
    }
    // Registered pages count as locked; an ordinary user's limit may be small. Plain buffers work as well, only slower.
    const iovec memory{.iov_base = pool_.memory().data(), .iov_len = pool_.memory().size()};
    buffers_error_ = -::io_uring_register_buffers(&ring_, &memory, 1);
    return try_enter();
  }

  ~UringIo() override {
    if (!opened_) return;
    while (in_kernel_ > 0) {
      io_uring_cqe* completion = nullptr;
      if (const int answer = ::io_uring_wait_cqe(&ring_, &completion); answer == 0) {
        if (::io_uring_cqe_get_data64(completion) != kNoSlot) --in_kernel_;
        ::io_uring_cqe_seen(&ring_, completion);
      } else {
        WARM_ASSERT(answer == -EINTR || answer == -EAGAIN);
      }
    }
    // Else the held descriptions would go when the kernel takes the ring apart, some time after this returned.
    ::io_uring_unregister_files(&ring_);
    ::io_uring_queue_exit(&ring_);
  }

  base::Status submit(const Operation& operation) override {
    if (auto status = flight_.admit(operation); !status) return status;
    start_all();
    return {};
  }

  size_t reap(std::span<Completion> ret_completions) noexcept override {
    std::array<io_uring_cqe*, kRingEntries> completions{};
    while (const unsigned n = ::io_uring_peek_batch_cqe(&ring_, completions.data(), completions.size())) {
      for (unsigned i = 0; i < n; ++i) take_in(*completions[i]);
      ::io_uring_cq_advance(&ring_, n);
    }
    if (flight_.any_startable()) start_all();
    return flight_.take(ret_completions);
  }

  [[nodiscard]] bool ready() const noexcept override {
    return flight_.any_over() || ::io_uring_cq_ready(&ring_) > 0 || stalled();
  }
  [[nodiscard]] size_t in_flight() const noexcept override { return flight_.in_flight(); }
  [[nodiscard]] int completion_fd() const noexcept override { return event_.get(); }

  base::Status hold(int fd) override {
    if (hold_count_ == kHoldsMax) {
      return base::fail(WARM_E_LIMIT, "%u descriptors are held, the limit is %zu", hold_count_, kHoldsMax);
    }
    const int answer = ::io_uring_register_files_update(&ring_, hold_count_, &fd, 1);
    if (answer != 1) return base::fail_errno(answer < 0 ? -answer : EIO, "register descriptor %d with the ring", fd);
    ++hold_count_;
    return {};
  }

  BufferPool& buffers() noexcept override { return pool_; }
  [[nodiscard]] bool buffers_registered() const noexcept override { return buffers_error_ == 0; }
  [[nodiscard]] const char* name() const noexcept override { return "io_uring"; }
  [[nodiscard]] std::string describe() const override {
    if (buffers_registered()) return "io_uring, registered buffers";
    return "io_uring, plain buffers (" + base::fail_errno(buffers_error_, "io_uring_register").error().text + ")";
  }

 private:
  static constexpr uint64_t kNoSlot = UINT64_MAX;

  base::Status probe() {
    io_uring_probe* found = ::io_uring_get_probe_ring(&ring_);
    if (found == nullptr) return base::fail(WARM_E_UNSUPPORTED, "io_uring cannot say which operations it has");
    base::Status status;
    for (const auto opcode : kOpcodes) {
      if (::io_uring_opcode_supported(found, opcode) == 0) {
        status = base::fail(WARM_E_UNSUPPORTED, "io_uring lacks operation %d", static_cast<int>(opcode));
      }
    }
    ::io_uring_free_probe(found);
    return status;
  }

  // A filter may let the ring be made and forbid its use.
  base::Status try_enter() {
    io_uring_sqe* entry = ::io_uring_get_sqe(&ring_);
    ::io_uring_prep_nop(entry);
    ::io_uring_sqe_set_data64(entry, kNoSlot);
    int answer = -EINTR;
    for (uint32_t attempt = 0; attempt < kAttemptsMax && (answer == -EINTR || answer == -EAGAIN); ++attempt) {
      answer = ::io_uring_submit_and_wait(&ring_, 1);
    }
    if (answer < 0) return refused(-answer, "io_uring_enter");
    std::array<Completion, 1> none{};
    reap(none);
    clear_completion_fd();
    return {};
  }

  // Whether operations wait although nothing in the kernel will wake anybody.
  [[nodiscard]] bool stalled() const noexcept { return flight_.any_startable() && in_kernel_ == 0; }

  void start_all() noexcept {
    while (in_kernel_ < kRingEntries) {
      const auto slot = flight_.start();
      if (!slot.has_value()) break;
      const int answer = enter(*slot);
      if (answer == 0) {
        ++in_kernel_;
        refusals_ = 0;
      } else if ((answer == -EAGAIN || answer == -EBUSY || answer == -ENOMEM) && ++refusals_ < kAttemptsMax) {
        // The kernel is short of memory. Tried again when something completes, or at the next reap.
        flight_.unstart(*slot);
        break;
      } else {
        refusals_ = 0;
        flight_.finish(*slot, answer);
      }
    }
    if (stalled() || flight_.any_over()) signal();  // no completion of the ring will say so
  }

  // 0, or -errno when the kernel did not take it.
  int enter(Flight::Slot slot) noexcept {
    io_uring_sqe* entry = ::io_uring_get_sqe(&ring_);
    if (entry == nullptr) {
      ::io_uring_submit(&ring_);
      entry = ::io_uring_get_sqe(&ring_);
      if (entry == nullptr) return -EAGAIN;
    }
    prepare(*entry, flight_.operation(slot), next_part(flight_.operation(slot), flight_.progress(slot)));
    ::io_uring_sqe_set_data64(entry, slot);
    int answer = 0;
    do {
      answer = ::io_uring_submit(&ring_);
    } while (answer == -EINTR);
    if (::io_uring_sq_ready(&ring_) == 0) return 0;
    // Not taken: it must not run later, when its memory may belong to somebody else.
    ::io_uring_prep_nop(entry);
    ::io_uring_sqe_set_data64(entry, kNoSlot);
    return answer < 0 ? answer : -EAGAIN;
  }

  void prepare(io_uring_sqe& entry, const Operation& operation, const Part& part) const noexcept {
    const auto bytes = static_cast<unsigned>(part.bytes);  // of no use to allocate, which has 64 bits
    const bool fixed = buffers_registered() && pool_.contains(part.memory, part.bytes);
    switch (operation.kind) {
      case Kind::write:
      case Kind::write_durable:
        if (fixed) {
          ::io_uring_prep_write_fixed(&entry, operation.fd, part.memory, bytes, part.offset, 0);
        } else {
          ::io_uring_prep_write(&entry, operation.fd, part.memory, bytes, part.offset);
        }
        entry.rw_flags = operation.kind == Kind::write_durable ? RWF_DSYNC : 0;
        break;
      case Kind::read:
        if (fixed) {
          ::io_uring_prep_read_fixed(&entry, operation.fd, part.memory, bytes, part.offset, 0);
        } else {
          ::io_uring_prep_read(&entry, operation.fd, part.memory, bytes, part.offset);
        }
        break;
      case Kind::sync_data: ::io_uring_prep_fsync(&entry, operation.fd, IORING_FSYNC_DATASYNC); break;
      case Kind::sync_range:
        ::io_uring_prep_fsync(&entry, operation.fd, IORING_FSYNC_DATASYNC);
        // liburing leaves the range at zero, the whole file. The kernel takes offset + length as the last byte, and a last
        // byte of 0 as the end of the file.
        entry.off = part.offset;
        entry.len = part.offset + part.bytes == 1 ? 1 : bytes - 1;
        break;
      case Kind::sync_directory: ::io_uring_prep_fsync(&entry, operation.fd, 0); break;
      case Kind::write_back:
        ::io_uring_prep_sync_file_range(&entry, operation.fd, bytes, part.offset,
                                        SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER);
        break;
      case Kind::allocate:
        ::io_uring_prep_fallocate(&entry, operation.fd, 0, static_cast<off_t>(part.offset), static_cast<off_t>(part.bytes));
        break;
    }
  }

  void take_in(const io_uring_cqe& completion) noexcept {
    const uint64_t data = ::io_uring_cqe_get_data64(&completion);
    if (data == kNoSlot) return;
    const auto slot = static_cast<Flight::Slot>(data);
    WARM_ASSERT(slot < kInFlightMax && in_kernel_ > 0);
    --in_kernel_;
    if (const auto result = advance(flight_.operation(slot), flight_.progress(slot), completion.res); result.has_value()) {
      flight_.finish(slot, *result);
    } else {
      flight_.unstart(slot);
    }
  }

  void signal() noexcept {
    const uint64_t one = 1;
    [[maybe_unused]] const ssize_t written = ::write(event_.get(), &one, sizeof one);  // EAGAIN: it is readable
  }

  base::Fd event_;
  BufferPool pool_;
  Flight flight_;
  io_uring ring_{};
  unsigned in_kernel_ = 0;
  unsigned hold_count_ = 0;
  uint32_t refusals_ = 0;  // of io_uring_enter, in a row
  int buffers_error_ = 0;  // why the buffers are plain
  bool opened_ = false;
};

}  // namespace

base::Result<std::unique_ptr<Io>> open_uring() {
  base::Fd event(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!event) return base::fail_errno(errno, "eventfd");
  auto pool = BufferPool::make();
  if (!pool) return base::pass(std::move(pool));
  auto io = std::make_unique<UringIo>(std::move(event), std::move(*pool));
  if (auto status = io->open(); !status) return base::pass(std::move(status));
  return io;
}

}  // namespace warmtier::daemon::io
