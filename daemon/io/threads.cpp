// The backend for places where io_uring is forbidden: a few threads that make the plain system calls.
#include <fcntl.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <condition_variable>
#include <csignal>
#include <mutex>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "base/assert.hpp"
#include "base/fd.hpp"
#include "daemon/io/backends.hpp"
#include "daemon/io/flight.hpp"

namespace warmtier::daemon::io {
namespace {

// One is not enough: a sync of a whole file may take a second, and a small durable write must not stand behind it.
constexpr size_t kWorkers = 2;

int64_t answer_of(int64_t returned) noexcept { return returned < 0 ? -errno : returned; }

int64_t sync_mapped(const Part& part) noexcept {
  static const auto page_bytes = static_cast<uintptr_t>(::sysconf(_SC_PAGESIZE));
  const auto begin = reinterpret_cast<uintptr_t>(part.memory);
  const uintptr_t page = begin / page_bytes * page_bytes;
  return answer_of(::msync(reinterpret_cast<void*>(page), part.bytes + (begin - page), MS_SYNC));
}

// A pipe has no offsets; the ring ignores them there, and so does this.
int64_t transfer(decltype(&::pwritev2) system_call, int fd, const Part& part, int flags) noexcept {
  const iovec memory{.iov_base = part.memory, .iov_len = part.bytes};
  const int64_t answer = answer_of(system_call(fd, &memory, 1, static_cast<off_t>(part.offset), flags));
  return answer == -ESPIPE ? answer_of(system_call(fd, &memory, 1, -1, flags)) : answer;
}

int64_t call(const Operation& operation, const Part& part) noexcept {
  const auto offset = static_cast<off_t>(part.offset);
  const auto bytes = static_cast<off_t>(part.bytes);
  switch (operation.kind) {
    case Kind::write: return transfer(&::pwritev2, operation.fd, part, 0);
    case Kind::write_durable: return transfer(&::pwritev2, operation.fd, part, RWF_DSYNC);
    case Kind::read: return transfer(&::preadv2, operation.fd, part, 0);
    case Kind::sync_data: return answer_of(::fdatasync(operation.fd));
    case Kind::sync_range: return sync_mapped(part);
    case Kind::sync_directory: return answer_of(::fsync(operation.fd));
    case Kind::write_back:
      return answer_of(::sync_file_range(operation.fd, offset, bytes,
                                         SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER));
    case Kind::allocate: return answer_of(::fallocate(operation.fd, 0, offset, bytes));
  }
  return -EINVAL;
}

int64_t perform(const Operation& operation) noexcept {
  Progress progress;
  for (;;) {
    const auto result = advance(operation, progress, call(operation, next_part(operation, progress)));
    if (result.has_value()) return *result;
  }
}

// The submitting thread owns the book; what crosses to the workers and back lies in two queues under one mutex.
class ThreadsIo final : public Io {
 public:
  ThreadsIo(base::Fd event, BufferPool pool, std::string why)
      : event_(std::move(event)), pool_(std::move(pool)), why_(std::move(why)) {
    over_.reserve(kInFlightMax);
    taken_.reserve(kInFlightMax);
  }

  ~ThreadsIo() override {
    {
      const std::scoped_lock lock(mutex_);
      stop_ = true;  // what is still queued is dropped
    }
    wake_.notify_all();
    for (std::thread& worker : workers_) {
      if (worker.joinable()) worker.join();
    }
    // holds_ go after the last system call has returned.
  }

  base::Status start_workers() {
    // Signals are for the daemon's main thread; a worker must not be interrupted, nor killed by SIGXFSZ.
    sigset_t all;
    sigset_t before;
    ::sigfillset(&all);
    ::pthread_sigmask(SIG_SETMASK, &all, &before);
    base::Status status;
    try {
      for (std::thread& worker : workers_) worker = std::thread([this] { work(); });
    } catch (const std::system_error& error) {
      status = base::fail_errno(error.code().value(), "start an I/O thread");
    }
    ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
    return status;
  }

  base::Status submit(const Operation& operation) override {
    if (auto status = flight_.admit(operation); !status) return status;
    start_all();
    if (flight_.any_over()) signal();  // cancelled at once
    return {};
  }

  size_t reap(std::span<Completion> ret_completions) noexcept override {
    if (over_count_.load(std::memory_order_acquire) > 0) {
      {
        const std::scoped_lock lock(mutex_);
        std::swap(over_, taken_);
        over_count_.store(0, std::memory_order_relaxed);
      }
      for (const Over& over : taken_) flight_.finish(over.slot, over.result);
      taken_.clear();
      start_all();
    }
    return flight_.take(ret_completions);
  }

  [[nodiscard]] bool ready() const noexcept override {
    return flight_.any_over() || over_count_.load(std::memory_order_acquire) > 0;
  }
  [[nodiscard]] size_t in_flight() const noexcept override { return flight_.in_flight(); }
  [[nodiscard]] int completion_fd() const noexcept override { return event_.get(); }

  // A killed process's descriptors are closed when its last thread is gone, and a thread goes when its system call is over.
  // What a duplicate adds is that the caller may close its own.
  base::Status hold(int fd) override {
    if (hold_count_ == kHoldsMax)
      return base::fail(WARM_E_LIMIT, "%zu descriptors are held, the limit is %zu", hold_count_, kHoldsMax);
    base::Fd copy(::fcntl(fd, F_DUPFD_CLOEXEC, 0));
    if (!copy) return base::fail_errno(errno, "duplicate descriptor %d", fd);
    holds_[hold_count_++] = std::move(copy);
    return {};
  }

  BufferPool& buffers() noexcept override { return pool_; }
  [[nodiscard]] bool buffers_registered() const noexcept override { return false; }
  [[nodiscard]] const char* name() const noexcept override { return "threads"; }
  [[nodiscard]] std::string describe() const override {
    return why_.empty() ? "threads, plain buffers" : "threads, plain buffers (" + why_ + ")";
  }

 private:
  struct Job {
    Flight::Slot slot;
    Operation operation;
  };
  struct Over {
    Flight::Slot slot;
    int64_t result;
  };

  void start_all() noexcept {
    while (const auto slot = flight_.start()) {
      {
        const std::scoped_lock lock(mutex_);
        WARM_ASSERT(job_count_ < kInFlightMax);
        jobs_[(first_job_ + job_count_++) % kInFlightMax] = {*slot, flight_.operation(*slot)};
      }
      wake_.notify_one();
    }
  }

  void work() noexcept {
    for (;;) {
      std::unique_lock lock(mutex_);
      wake_.wait(lock, [this] { return stop_ || job_count_ > 0; });
      if (stop_) return;
      const Job job = jobs_[first_job_];
      first_job_ = (first_job_ + 1) % kInFlightMax;
      --job_count_;
      lock.unlock();
      const int64_t result = perform(job.operation);
      lock.lock();
      over_.push_back({job.slot, result});
      over_count_.store(over_.size(), std::memory_order_release);
      lock.unlock();
      signal();
    }
  }

  void signal() noexcept {
    const uint64_t one = 1;
    [[maybe_unused]] const ssize_t written = ::write(event_.get(), &one, sizeof one);  // EAGAIN: it is readable
  }

  std::array<base::Fd, kHoldsMax> holds_;
  size_t hold_count_ = 0;
  base::Fd event_;
  BufferPool pool_;
  std::string why_;
  Flight flight_;
  std::vector<Over> taken_;

  std::mutex mutex_;  // the jobs, over_, stop_
  std::condition_variable wake_;
  std::array<Job, kInFlightMax> jobs_{};  // a ring
  size_t first_job_ = 0;
  size_t job_count_ = 0;
  std::vector<Over> over_;
  std::atomic<size_t> over_count_ = 0;  // over_.size(), to look at without the mutex
  bool stop_ = false;
  std::array<std::thread, kWorkers> workers_;
};

}  // namespace

base::Result<std::unique_ptr<Io>> open_threads(std::string why) {
  base::Fd event(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!event) return base::fail_errno(errno, "eventfd");
  auto pool = BufferPool::make();
  if (!pool) return base::pass(std::move(pool));
  auto io = std::make_unique<ThreadsIo>(std::move(event), std::move(*pool), std::move(why));
  if (auto status = io->start_workers(); !status) return base::pass(std::move(status));
  return io;
}

}  // namespace warmtier::daemon::io
