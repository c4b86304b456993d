// What every I/O backend promises, run on each of them. A new one (fault injection, a simulated disk) joins by a row in
// kBackends.
#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <poll.h>
#include <seccomp.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/clock.hpp"
#include "base/fd.hpp"
#include "daemon/io/io.hpp"
#include "daemon/io/store_lock.hpp"

namespace {

using warmtier::base::Deadline;
using warmtier::base::Fd;
using warmtier::base::kNsPerMs;
using warmtier::base::kNsPerSecond;
using warmtier::daemon::io::Buffer;
using warmtier::daemon::io::Choice;
using warmtier::daemon::io::Completion;
using warmtier::daemon::io::Io;
using warmtier::daemon::io::kBufferAlignment;
using warmtier::daemon::io::kBufferBytes;
using warmtier::daemon::io::kBuffers;
using warmtier::daemon::io::kHoldsMax;
using warmtier::daemon::io::kInFlightMax;
using warmtier::daemon::io::open_io;
using warmtier::daemon::io::Operation;
using warmtier::daemon::io::run;
using warmtier::daemon::io::StoreLock;

constexpr size_t kMiB = size_t{1} << 20;
constexpr uint64_t kPatienceNs = 30 * kNsPerSecond;

struct Backend {
  Choice choice;
  char name[16];
};
Backend backends[] = {{Choice::uring, "io_uring"}, {Choice::threads, "threads"}};

using Bytes = std::vector<std::byte>;

Bytes filled(size_t n, int value) { return Bytes(n, static_cast<std::byte>(value)); }

// A directory of this test, gone with it.
class Scratch {
 public:
  Scratch() : path_((std::filesystem::temp_directory_path() / "warmtier-io-XXXXXX").string()) {
    cr_assert_not_null(::mkdtemp(path_.data()));
    directory_ = Fd(::open(path_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    cr_assert(bool(directory_));
  }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  ~Scratch() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }

  [[nodiscard]] int directory() const { return directory_.get(); }
  [[nodiscard]] Fd file(const char* name, int flags = O_RDWR | O_CREAT) const {
    return Fd(::openat(directory_.get(), name, flags | O_CLOEXEC, 0600));
  }

 private:
  std::string path_;
  Fd directory_;
};

std::unique_ptr<Io> open_backend(const Backend& backend) {
  auto io = open_io(backend.choice);
  if (!io && io.error().code == WARM_E_UNSUPPORTED) cr_skip_test("%s: %s", backend.name, io.error().text.c_str());
  cr_assert(io.has_value(), "%s: %s", backend.name, io.has_value() ? "" : io.error().text.c_str());
  return std::move(*io);
}

void submit(Io& io, const Operation& operation) {
  const auto status = io.submit(operation);
  cr_assert(status.has_value(), "submit: %s", status.has_value() ? "" : status.error().text.c_str());
}

// Reaps until nothing is in flight, or until `wanted` operations are over.
std::map<uint64_t, int64_t> settle(Io& io, size_t wanted = SIZE_MAX) {
  std::map<uint64_t, int64_t> results;
  while (io.in_flight() > 0 && results.size() < wanted) {
    const auto status = io.wait(Deadline::after_ns(kPatienceNs));
    cr_assert(status.has_value(), "wait: %s", status.has_value() ? "" : status.error().text.c_str());
    std::array<Completion, 7> completions{};
    const size_t n = io.reap(std::span(completions).first(std::min(completions.size(), wanted - results.size())));
    for (size_t i = 0; i < n; ++i) cr_assert(results.emplace(completions[i].token, completions[i].result).second);
  }
  return results;
}

int64_t outcome(Io& io, const Operation& operation) {
  submit(io, operation);
  return settle(io).at(operation.token);
}

Bytes contents(int fd, size_t n, uint64_t offset = 0) {
  Bytes bytes(n);
  cr_assert_eq(::pread(fd, bytes.data(), n, static_cast<off_t>(offset)), static_cast<ssize_t>(n));
  return bytes;
}

// An operation that is over when the test says so: a read of an eventfd.
class Gate {
 public:
  Gate() : fd_(::eventfd(0, EFD_CLOEXEC)) { cr_assert(bool(fd_)); }
  [[nodiscard]] Operation operation(uint64_t token) { return Operation::read(token, fd_.get(), into_, 0); }
  void open() {
    const uint64_t one = 1;
    cr_assert_eq(::write(fd_.get(), &one, sizeof one), static_cast<ssize_t>(sizeof one));
  }

 private:
  Fd fd_;
  std::array<std::byte, 8> into_{};
};

// Runs `child` in a child process, which must not use Criterion, and returns its exit code, or -1 when a signal ended it.
int exit_code_of(const std::function<int()>& child) {
  const pid_t pid = ::fork();
  cr_assert_geq(pid, 0);
  if (pid == 0) ::_exit(child());
  int status = 0;
  cr_assert_eq(::waitpid(pid, &status, 0), pid);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

// In a child: writes 64 KiB through a pool buffer, syncs, reads it back. 0, or the number of the step that failed.
int write_and_read_back(Io& io, int fd) {
  Buffer out = io.buffers().take();
  Buffer in = io.buffers().take();
  if (!out || !in) return 11;
  std::ranges::fill(out.bytes(), std::byte{0x5a});
  if (run(io, Operation::write(1, fd, out.bytes(), 0), "test").value_or(0) != kBufferBytes) return 12;
  if (!run(io, Operation::sync_data(2, fd), "test")) return 13;
  if (run(io, Operation::read(3, fd, in.bytes(), 0), "test").value_or(0) != kBufferBytes) return 14;
  return std::ranges::equal(out.bytes(), in.bytes()) ? 0 : 15;
}

}  // namespace

#define ON_EVERY_BACKEND(name)                                                                                  \
  ParameterizedTestParameters(io, name) { return cr_make_param_array(Backend, backends, std::size(backends)); } \
  ParameterizedTest(Backend* backend, io, name)

ON_EVERY_BACKEND(what_was_written_is_read_back) {
  const Scratch scratch;
  const Fd file = scratch.file("data");
  const auto io = open_backend(*backend);
  cr_assert_str_eq(io->name(), backend->name);
  cr_assert_eq(io->describe().find(backend->name), 0u);
  Bytes out(3 * kMiB + 5);
  for (size_t i = 0; i < out.size(); ++i) out[i] = static_cast<std::byte>(i * 7 + i / 251);
  cr_assert_eq(outcome(*io, Operation::write(1, file.get(), out, 123)), static_cast<int64_t>(out.size()));
  Bytes in(out.size());
  cr_assert_eq(outcome(*io, Operation::read(2, file.get(), in, 123)), static_cast<int64_t>(in.size()));
  cr_assert(in == out);
  cr_assert_eq(io->in_flight(), 0u);
}

ON_EVERY_BACKEND(a_read_ends_at_the_end_of_the_file) {
  const Scratch scratch;
  const Fd file = scratch.file("data");
  const auto io = open_backend(*backend);
  cr_assert_eq(outcome(*io, Operation::write(1, file.get(), filled(5000, 1), 0)), 5000);
  Bytes in = filled(8192, 9);
  cr_assert_eq(outcome(*io, Operation::read(2, file.get(), in, 1000)), 4000);
  cr_assert(in[3999] == std::byte{1} && in[4000] == std::byte{9});
  cr_assert_eq(outcome(*io, Operation::read(3, file.get(), in, 5000)), 0);
  cr_assert_eq(outcome(*io, Operation::read(4, file.get(), in, kMiB)), 0);
}

ON_EVERY_BACKEND(direct_transfers_end_at_the_end_of_the_file) {
  const Scratch scratch;
  const Fd file = scratch.file("data", O_RDWR | O_CREAT | O_DIRECT);
  if (!file) cr_skip_test("this file system has no O_DIRECT");
  const auto io = open_backend(*backend);
  Buffer buffer = io->buffers().take();
  std::ranges::fill(buffer.bytes(), std::byte{3});
  cr_assert_eq(outcome(*io, Operation::write_durable(1, file.get(), buffer.bytes(), 0)), static_cast<int64_t>(kBufferBytes));
  cr_assert_eq(::ftruncate(file.get(), 5000), 0);
  std::ranges::fill(buffer.bytes(), std::byte{9});
  cr_assert_eq(outcome(*io, Operation::read(2, file.get(), buffer.bytes(), 0)), 5000);
  cr_assert(buffer.bytes()[4999] == std::byte{3});
}

ON_EVERY_BACKEND(an_operation_does_not_begin_before_the_one_that_it_comes_after) {
  const Scratch scratch;
  const Fd file = scratch.file("data");
  const auto io = open_backend(*backend);
  cr_assert_eq(::ftruncate(file.get(), 8192), 0);
  Gate gate;
  const Bytes one = filled(4096, 1);
  const Bytes two = filled(4096, 2);
  submit(*io, gate.operation(1));
  submit(*io, Operation::write(2, file.get(), one, 0).begin_after(1));
  submit(*io, Operation::sync_data(3, file.get()).begin_after(2));
  submit(*io, Operation::write(4, file.get(), two, 4096));
  const auto early = settle(*io, 1);
  cr_assert_eq(early.count(4), 1u);
  // More than enough calls to let a backend that ignores the order go on.
  for (uint64_t token = 10; token < 40; ++token) {
    submit(*io, Operation::sync_data(token, file.get()));
    cr_assert_eq(settle(*io, 1).count(token), 1u);
  }
  cr_assert_eq(io->in_flight(), 3u);
  cr_assert(contents(file.get(), 4096) == filled(4096, 0));
  gate.open();
  const auto late = settle(*io);
  cr_assert_eq(late.at(1), 8);
  cr_assert_eq(late.at(2), 4096);
  cr_assert_eq(late.at(3), 0);
  cr_assert(contents(file.get(), 4096) == one);
}

ON_EVERY_BACKEND(a_chain_of_writes_to_one_place_leaves_the_last_one) {
  const Scratch scratch;
  const Fd file = scratch.file("data");
  const auto io = open_backend(*backend);
  constexpr uint64_t kWrites = 200;
  std::vector<Bytes> values;
  values.reserve(kWrites);
  for (uint64_t i = 0; i < kWrites; ++i) values.push_back(filled(16384, static_cast<int>(i + 1)));
  for (uint64_t i = 0; i < kWrites; ++i) {
    const auto operation = Operation::write(i, file.get(), values[i], 0);
    submit(*io, i == 0 ? operation : operation.begin_after(i - 1));
  }
  const auto results = settle(*io);
  cr_assert_eq(results.size(), kWrites);
  for (const auto& [token, result] : results) cr_assert_eq(result, 16384);
  cr_assert(contents(file.get(), 16384) == values.back());
}

ON_EVERY_BACKEND(what_comes_after_a_failure_is_cancelled_down_the_chain) {
  const Scratch scratch;
  const Fd file = scratch.file("data");
  const Fd reader = scratch.file("data", O_RDONLY);
  const auto io = open_backend(*backend);
  const Bytes bytes = filled(4096, 1);
  Gate gate;
  submit(*io, gate.operation(1));
  submit(*io, Operation::write(2, reader.get(), bytes, 0).begin_after(1));
  submit(*io, Operation::write(3, file.get(), bytes, 0).begin_after(2));
  submit(*io, Operation::sync_data(4, file.get()).begin_after(3));
  submit(*io, Operation::write(5, file.get(), bytes, 65536).begin_after(1));
  gate.open();
  const auto results = settle(*io);
  cr_assert_eq(results.at(1), 8);
  cr_assert_eq(results.at(2), -EBADF);
  cr_assert_eq(results.at(3), -ECANCELED);
  cr_assert_eq(results.at(4), -ECANCELED);
  cr_assert_eq(results.at(5), 4096);
  cr_assert(contents(file.get(), 4096) == filled(4096, 0));
}

// The predecessor is over but not reaped when its successor comes: no kernel will ever say that this one is over.
ON_EVERY_BACKEND(what_is_cancelled_at_once_is_signalled) {
  const auto io = open_backend(*backend);
  submit(*io, Operation::sync_data(1, -1));
  submit(*io, Operation::sync_data(2, -1).begin_after(1));
  pollfd poll_fd{.fd = io->completion_fd(), .events = POLLIN, .revents = 0};
  int polled = 0;
  while ((polled = ::poll(&poll_fd, 1, static_cast<int>(kPatienceNs / kNsPerMs))) < 0) cr_assert_eq(errno, EINTR);
  cr_assert_eq(polled, 1);
  std::array<Completion, 1> one{};
  cr_assert_eq(io->reap(one), 1u);
  cr_assert(one[0].token == 1 && one[0].result == -EBADF);
  io->clear_completion_fd();
  submit(*io, Operation::sync_data(3, -1).begin_after(2));
  cr_assert_eq(::poll(&poll_fd, 1, 0), 1);
  const auto results = settle(*io);
  cr_assert_eq(results.at(2), -ECANCELED);
  cr_assert_eq(results.at(3), -ECANCELED);
}

ON_EVERY_BACKEND(syncs_of_files_ranges_and_directories_succeed) {
  const Scratch scratch;
  const Fd file = scratch.file("data");
  const auto io = open_backend(*backend);
  constexpr size_t kBytes = 4 * kMiB;
  cr_assert_eq(outcome(*io, Operation::allocate(1, file.get(), 0, kBytes)), 0);
  auto* map = static_cast<std::byte*>(::mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_SHARED, file.get(), 0));
  cr_assert_neq(map, MAP_FAILED);
  std::memset(map, 7, kBytes);
  const std::span<const std::byte> mapped(map, kBytes);
  cr_assert_eq(outcome(*io, Operation::sync_range(2, file.get(), 0, mapped.first(4096))), 0);
  cr_assert_eq(outcome(*io, Operation::sync_range(3, file.get(), 0, mapped.first(1))), 0);
  cr_assert_eq(outcome(*io, Operation::sync_range(4, file.get(), 8192 + 64, mapped.subspan(8192 + 64, 64))), 0);
  cr_assert_eq(outcome(*io, Operation::sync_range(5, file.get(), 0, mapped)), 0);
  cr_assert_eq(outcome(*io, Operation::write_back(6, file.get(), 4096, kMiB)), 0);
  cr_assert_eq(outcome(*io, Operation::sync_data(7, file.get())), 0);
  cr_assert_eq(outcome(*io, Operation::sync_directory(8, scratch.directory())), 0);
  cr_assert_eq(outcome(*io, Operation::write_durable(9, file.get(), filled(4096, 8), 4096)), 4096);
  cr_assert(contents(file.get(), 4096, 4096) == filled(4096, 8));
  cr_assert_eq(::munmap(map, kBytes), 0);
}

namespace {
// Pages of a mapped range of `file` that are dirty in the page cache: only the superuser may ask, and on tmpfs they stay so for
// ever; -1 then.
int dirty_pages(int file, const std::byte* map, size_t pages) {
  struct statfs system{};
  if (::fstatfs(file, &system) != 0 || system.f_type == TMPFS_MAGIC) return -1;
  const Fd pagemap(::open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC));
  const Fd flags(::open("/proc/kpageflags", O_RDONLY | O_CLOEXEC));
  if (!pagemap || !flags) return -1;
  int dirty = 0;
  for (size_t i = 0; i < pages; ++i) {
    uint64_t frame = 0;
    const auto at = reinterpret_cast<uintptr_t>(map + i * 4096) / 4096 * 8;
    if (::pread(pagemap.get(), &frame, sizeof frame, static_cast<off_t>(at)) != sizeof frame) return -1;
    frame &= (uint64_t{1} << 55) - 1;
    uint64_t flag = 0;
    if (frame == 0 || ::pread(flags.get(), &flag, sizeof flag, static_cast<off_t>(frame * 8)) != sizeof flag) return -1;
    dirty += static_cast<int>(flag >> 4 & 1);
  }
  return dirty;
}
}  // namespace

ON_EVERY_BACKEND(a_sync_of_a_range_leaves_the_rest_of_the_file_dirty) {
  const Scratch scratch;
  const Fd file = scratch.file("data");
  const auto io = open_backend(*backend);
  constexpr size_t kPages = 512;
  cr_assert_eq(outcome(*io, Operation::allocate(1, file.get(), 0, kPages * 4096)), 0);
  cr_assert_eq(outcome(*io, Operation::sync_data(2, file.get())), 0);
  auto* map = static_cast<std::byte*>(::mmap(nullptr, kPages * 4096, PROT_READ | PROT_WRITE, MAP_SHARED, file.get(), 0));
  cr_assert_neq(map, MAP_FAILED);
  for (size_t i = 0; i < kPages; ++i) map[i * 4096] = std::byte{1};
  const int before = dirty_pages(file.get(), map, kPages);
  if (before != static_cast<int>(kPages)) cr_skip_test("the state of pages cannot be seen here (%d)", before);
  cr_assert_eq(outcome(*io, Operation::sync_range(3, file.get(), 4096, {map + 4096, 4096})), 0);
  cr_assert_eq(dirty_pages(file.get(), map, 1), 1);
  cr_assert_eq(dirty_pages(file.get(), map + 4096, 1), 0);
  cr_assert_eq(dirty_pages(file.get(), map + 8192, kPages - 2), static_cast<int>(kPages) - 2);
  cr_assert_eq(outcome(*io, Operation::sync_range(4, file.get(), 0, {map, 1})), 0);
  cr_assert_eq(dirty_pages(file.get(), map, 2), 0);
  cr_assert_eq(dirty_pages(file.get(), map + 8192, kPages - 2), static_cast<int>(kPages) - 2);
  cr_assert_eq(outcome(*io, Operation::write_back(5, file.get(), 8192, 4096)), 0);
  cr_assert_eq(dirty_pages(file.get(), map + 8192, 1), 0);
  cr_assert_eq(dirty_pages(file.get(), map + 12288, kPages - 3), static_cast<int>(kPages) - 3);
  cr_assert_eq(outcome(*io, Operation::sync_data(6, file.get())), 0);
  cr_assert_eq(dirty_pages(file.get(), map, kPages), 0);
  cr_assert_eq(::munmap(map, kPages * 4096), 0);
}

// Longer than a length of 32 bits.
ON_EVERY_BACKEND(a_sync_of_a_range_of_five_gib_reaches_its_last_page) {
  const Scratch scratch;
  const Fd file = scratch.file("data");
  const auto io = open_backend(*backend);
  constexpr size_t kBytes = (size_t{5} << 30) + 4096;
  cr_assert_eq(::ftruncate(file.get(), kBytes), 0);
  auto* map = static_cast<std::byte*>(::mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, file.get(), 0));
  cr_assert_neq(map, MAP_FAILED);
  std::byte* last = map + kBytes - 4096;
  *last = std::byte{1};
  const int before = dirty_pages(file.get(), last, 1);
  cr_assert_eq(outcome(*io, Operation::sync_range(1, file.get(), 0, {map, kBytes})), 0);
  if (before == 1) cr_assert_eq(dirty_pages(file.get(), last, 1), 0);
  cr_assert_eq(::munmap(map, kBytes), 0);
}

ON_EVERY_BACKEND(allocated_space_extends_the_file_and_reads_as_zeros) {
  const Scratch scratch;
  const Fd file = scratch.file("data");
  const auto io = open_backend(*backend);
  const Bytes bytes = filled(4096, 1);
  cr_assert_eq(outcome(*io, Operation::write(1, file.get(), bytes, 0)), 4096);
  cr_assert_eq(outcome(*io, Operation::allocate(2, file.get(), 0, 2 * kMiB)), 0);
  struct stat st{};
  cr_assert_eq(::fstat(file.get(), &st), 0);
  cr_assert_eq(st.st_size, static_cast<off_t>(2 * kMiB));
  cr_assert_geq(st.st_blocks * 512, static_cast<off_t>(2 * kMiB));
  cr_assert(contents(file.get(), 4096) == bytes);
  cr_assert(contents(file.get(), 2 * kMiB - 4096, 4096) == filled(2 * kMiB - 4096, 0));
}

ON_EVERY_BACKEND(errors_come_back_by_their_number) {
  const Scratch scratch;
  const Fd file = scratch.file("data");
  const Fd reader = scratch.file("data", O_RDONLY);
  const Fd full(::open("/dev/full", O_RDWR | O_CLOEXEC));
  const auto io = open_backend(*backend);
  Bytes bytes = filled(8192, 1);
  cr_assert_eq(outcome(*io, Operation::write(1, -1, bytes, 0)), -EBADF);
  cr_assert_eq(outcome(*io, Operation::write(2, reader.get(), bytes, 0)), -EBADF);
  cr_assert_eq(outcome(*io, Operation::read(3, -1, bytes, 0)), -EBADF);
  cr_assert_eq(outcome(*io, Operation::sync_data(4, -1)), -EBADF);
  cr_assert_eq(outcome(*io, Operation::sync_directory(5, -1)), -EBADF);
  cr_assert_eq(outcome(*io, Operation::allocate(6, reader.get(), 0, 4096)), -EBADF);
  cr_assert_eq(outcome(*io, Operation::write_back(7, -1, 0, 4096)), -EBADF);
  cr_assert_eq(outcome(*io, Operation::write(8, full.get(), bytes, 0)), -ENOSPC);
  cr_assert_eq(outcome(*io, Operation::read(9, scratch.directory(), bytes, 0)), -EISDIR);

  cr_assert_neq(std::signal(SIGXFSZ, SIG_IGN), SIG_ERR);
  const rlimit limit{.rlim_cur = 4096, .rlim_max = RLIM_INFINITY};
  cr_assert_eq(::setrlimit(RLIMIT_FSIZE, &limit), 0);
  // What fits is written, the rest of the same operation fails: no short success.
  const int64_t beyond = outcome(*io, Operation::write(10, file.get(), bytes, 0));
  const int64_t allocation = outcome(*io, Operation::allocate(11, file.get(), 0, kMiB));
  const rlimit none{.rlim_cur = RLIM_INFINITY, .rlim_max = RLIM_INFINITY};
  cr_assert_eq(::setrlimit(RLIMIT_FSIZE, &none), 0);
  cr_assert_eq(beyond, -EFBIG);
  cr_assert_eq(allocation, -EFBIG);

  const auto named = run(*io, Operation::write(12, full.get(), bytes, 0), "superblock");
  cr_assert(!named.has_value());
  cr_assert_eq(named.error().os_error, ENOSPC);
  cr_assert_not_null(std::strstr(named.error().text.c_str(), "superblock: write"));
}

ON_EVERY_BACKEND(a_completion_wakes_an_epoll) {
  const auto io = open_backend(*backend);
  const Fd epoll(::epoll_create1(EPOLL_CLOEXEC));
  epoll_event event{.events = EPOLLIN, .data = {.u64 = 1}};
  cr_assert_eq(::epoll_ctl(epoll.get(), EPOLL_CTL_ADD, io->completion_fd(), &event), 0);
  cr_assert_eq(::epoll_wait(epoll.get(), &event, 1, 0), 0);
  std::array<Completion, 4> completions{};
  for (uint64_t round = 0; round < 20; ++round) {
    Gate gate;
    submit(*io, gate.operation(round));
    cr_assert_eq(::epoll_wait(epoll.get(), &event, 1, 0), 0, "round %d", static_cast<int>(round));
    cr_assert_eq(io->reap(completions), 0u);
    gate.open();
    size_t reaped = 0;
    while (reaped == 0) {
      const int woken = ::epoll_wait(epoll.get(), &event, 1, static_cast<int>(kPatienceNs / kNsPerMs));
      cr_assert(woken == 1 || (woken < 0 && errno == EINTR));
      io->clear_completion_fd();
      reaped = io->reap(completions);
    }
    cr_assert_eq(reaped, 1u);
    cr_assert_eq(completions[0].token, round);
    // A signal may come just after the completion was seen.
    while (::epoll_wait(epoll.get(), &event, 1, 0) == 1) io->clear_completion_fd();
  }
}

ON_EVERY_BACKEND(waiting_ends_at_its_deadline) {
  const auto io = open_backend(*backend);
  Gate gate;
  submit(*io, gate.operation(1));
  const auto status = io->wait(Deadline::after_ns(20 * kNsPerMs));
  cr_assert(!status.has_value());
  cr_assert_eq(status.error().code, WARM_E_BUSY);
  gate.open();
  cr_assert_eq(settle(*io).at(1), 8);
}

ON_EVERY_BACKEND(more_operations_than_the_kernel_takes_at_once_all_complete) {
  const Scratch scratch;
  const Fd file = scratch.file("data");
  const auto io = open_backend(*backend);
  std::vector<Bytes> values;
  values.reserve(kInFlightMax);
  for (size_t i = 0; i < kInFlightMax; ++i) values.push_back(filled(8192, static_cast<int>(i * 37 + 1)));
  for (int round = 0; round < 3; ++round) {
    for (size_t i = 0; i < kInFlightMax; ++i) submit(*io, Operation::write(i, file.get(), values[i], i * 8192));
    cr_assert_eq(io->in_flight(), kInFlightMax);
    const auto results = settle(*io);
    cr_assert_eq(results.size(), kInFlightMax);
    for (const auto& [token, result] : results) cr_assert_eq(result, 8192);
    for (size_t i = 0; i < kInFlightMax; ++i) cr_assert(contents(file.get(), 8192, i * 8192) == values[i]);
  }
}

ON_EVERY_BACKEND(beyond_the_limit_submit_says_busy_and_goes_on_after_a_reap) {
  const Scratch scratch;
  const Fd file = scratch.file("data");
  const auto io = open_backend(*backend);
  Gate gate;
  submit(*io, gate.operation(0));
  for (uint64_t token = 1; token < kInFlightMax; ++token) submit(*io, Operation::sync_data(token, file.get()).begin_after(0));
  const auto status = io->submit(Operation::sync_data(kInFlightMax, file.get()));
  cr_assert(!status.has_value());
  cr_assert_eq(status.error().code, WARM_E_BUSY);
  cr_assert_eq(io->in_flight(), kInFlightMax);
  gate.open();
  cr_assert_eq(settle(*io, 1).size(), 1u);
  submit(*io, Operation::sync_data(kInFlightMax, file.get()));
  cr_assert_eq(settle(*io).size(), kInFlightMax);
}

ON_EVERY_BACKEND(pool_buffers_are_aligned_apart_and_limited) {
  const Scratch scratch;
  const Fd file = scratch.file("data");
  const auto io = open_backend(*backend);
  std::vector<Buffer> taken;
  for (size_t i = 0; i < kBuffers; ++i) {
    Buffer buffer = io->buffers().take();
    cr_assert(bool(buffer));
    cr_assert_eq(buffer.bytes().size(), kBufferBytes);
    cr_assert_eq(reinterpret_cast<uintptr_t>(buffer.bytes().data()) % kBufferAlignment, 0u);
    std::ranges::fill(buffer.bytes(), static_cast<std::byte>(i + 1));
    taken.push_back(std::move(buffer));
  }
  cr_assert(!io->buffers().take());
  for (size_t i = 0; i < kBuffers; ++i) submit(*io, Operation::write(i, file.get(), taken[i].bytes(), i * kBufferBytes));
  for (const auto& [token, result] : settle(*io)) cr_assert_eq(result, static_cast<int64_t>(kBufferBytes));
  for (size_t i = 0; i < kBuffers; ++i) {
    cr_assert(contents(file.get(), kBufferBytes, i * kBufferBytes) == filled(kBufferBytes, static_cast<int>(i + 1)));
  }
  cr_assert_eq(outcome(*io, Operation::read(100, file.get(), taken[0].bytes(), kBufferBytes)),
               static_cast<int64_t>(kBufferBytes));
  cr_assert(taken[0].bytes()[7] == std::byte{2});
  taken.pop_back();
  cr_assert(bool(io->buffers().take()));
}

ON_EVERY_BACKEND(a_closed_io_does_not_touch_memory_any_more) {
  const Scratch scratch;
  const Fd file = scratch.file("data", O_RDWR | O_CREAT | O_DIRECT);
  if (!file) cr_skip_test("this file system has no O_DIRECT");
  constexpr size_t kReads = 48;
  constexpr size_t kReadBytes = kMiB;
  constexpr size_t kBytes = kReads * kReadBytes;
  auto* memory = static_cast<std::byte*>(
      ::mmap(nullptr, 2 * kBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0));
  cr_assert_neq(memory, MAP_FAILED);
  std::memset(memory, 1, kBytes);
  cr_assert_eq(::pwrite(file.get(), memory, kBytes, 0), static_cast<ssize_t>(kBytes));
  cr_assert_eq(::fsync(file.get()), 0);
  auto io = open_backend(*backend);
  for (uint64_t i = 0; i < kReads; ++i) {
    submit(*io, Operation::read(i, file.get(), {memory + i * kReadBytes, kReadBytes}, i * kReadBytes));
  }
  io.reset();
  std::memset(memory, 2, kBytes);
  // Behind whatever the device still has.
  cr_assert_eq(::pread(file.get(), memory + kBytes, kBytes, 0), static_cast<ssize_t>(kBytes));
  cr_assert(std::all_of(memory, memory + kBytes, [](std::byte byte) { return byte == std::byte{2}; }));
  cr_assert_eq(::munmap(memory, 2 * kBytes), 0);
}

ON_EVERY_BACKEND(a_held_description_keeps_its_lock_until_the_io_is_closed) {
  const Scratch scratch;
  auto io = open_backend(*backend);
  const Fd other = scratch.file("locked");
  {
    const Fd mine = scratch.file("locked");
    cr_assert_eq(::flock(mine.get(), LOCK_EX | LOCK_NB), 0);
    cr_assert(io->hold(mine.get()).has_value());
  }
  cr_assert_eq(::flock(other.get(), LOCK_EX | LOCK_NB), -1);
  for (size_t i = 1; i < kHoldsMax; ++i) cr_assert(io->hold(other.get()).has_value());
  const auto status = io->hold(other.get());
  cr_assert(!status.has_value());
  cr_assert_eq(status.error().code, WARM_E_LIMIT);
  io.reset();
  cr_assert_eq(::flock(other.get(), LOCK_EX | LOCK_NB), 0);
}

ON_EVERY_BACKEND(a_second_daemon_is_refused_with_the_first_ones_pid) {
  const Scratch scratch;
  auto first_io = open_backend(*backend);
  auto second_io = open_backend(*backend);
  auto first = StoreLock::acquire(scratch.directory(), *first_io, Deadline::after_ns(kPatienceNs));
  cr_assert(first.has_value(), "%s", first.has_value() ? "" : first.error().text.c_str());
  struct stat st{};
  cr_assert_eq(::fstatat(scratch.directory(), "lock", &st, 0), 0);
  cr_assert_eq(st.st_mode & 07777, 0600u);
  for (const uint64_t patience_ns : {uint64_t{0}, 50 * kNsPerMs}) {
    const auto second = StoreLock::acquire(scratch.directory(), *second_io, Deadline::after_ns(patience_ns));
    cr_assert(!second.has_value());
    cr_assert_eq(second.error().code, WARM_E_BUSY);
    const std::string pid = "process " + std::to_string(::getpid()) + " ";
    cr_assert_not_null(std::strstr(second.error().text.c_str(), pid.c_str()), "%s", second.error().text.c_str());
  }
  // Gone with its Io and itself; the waiter that was left behind keeps it from nobody.
  first_io.reset();
  first = warmtier::base::fail(WARM_E_STALE, "given up");
  const auto third = StoreLock::acquire(scratch.directory(), *second_io, Deadline::after_ns(kPatienceNs));
  cr_assert(third.has_value(), "%s", third.has_value() ? "" : third.error().text.c_str());
}

ON_EVERY_BACKEND(a_lock_file_with_any_bytes_or_none_is_good_enough) {
  const Scratch scratch;
  const Fd holder = scratch.file("lock");
  cr_assert_eq(::flock(holder.get(), LOCK_EX | LOCK_NB), 0);
  const auto io = open_backend(*backend);
  for (const char* text : {"", "12", "x", "-5\n", "99999999999999999999999999999\n", "\n"}) {
    cr_assert_eq(::ftruncate(holder.get(), 0), 0);
    cr_assert_eq(::pwrite(holder.get(), text, std::strlen(text), 0), static_cast<ssize_t>(std::strlen(text)));
    const auto lock = StoreLock::acquire(scratch.directory(), *io, Deadline::after_ns(0));
    cr_assert(!lock.has_value());
    cr_assert_eq(lock.error().code, WARM_E_BUSY);
    cr_assert_not_null(std::strstr(lock.error().text.c_str(), "recorded no pid"), "%s", lock.error().text.c_str());
  }
}

namespace {

constexpr size_t kWrites = 64;
constexpr size_t kWriteBytes = 2 * kMiB;
constexpr size_t kSampleBytes = 4096;  // the end of every write

struct Victim {
  pid_t pid;
  Fd ready;  // one byte: the lock is held and the writes are in flight
};

// A child that takes the store lock, has writes of `value` to every block of `data` in flight and waits to be killed.
Victim start_victim(const Scratch& scratch, const Backend& backend, int data_flags, int value) {
  std::array<int, 2> ends{};
  cr_assert_eq(::pipe2(ends.data(), O_CLOEXEC), 0);
  Fd ready(ends[0]);
  Fd tell(ends[1]);
  const pid_t pid = ::fork();
  cr_assert_geq(pid, 0);
  if (pid != 0) return {pid, std::move(ready)};
  auto io = open_io(backend.choice);
  if (!io) ::_exit(1);
  const auto lock = StoreLock::acquire(scratch.directory(), **io, Deadline::after_ns(kPatienceNs));
  if (!lock) ::_exit(2);
  const Fd data = scratch.file("data", O_WRONLY | data_flags);
  auto* from = static_cast<std::byte*>(
      ::mmap(nullptr, kWriteBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0));
  if (!data || from == MAP_FAILED) ::_exit(3);
  std::memset(from, value, kWriteBytes);
  for (uint64_t i = 0; i < kWrites; ++i) {
    if (!(*io)->submit(Operation::write(i, data.get(), {from, kWriteBytes}, i * kWriteBytes))) ::_exit(4);
  }
  const char byte = 'r';
  if (::write(tell.get(), &byte, 1) != 1) ::_exit(5);
  for (;;) ::pause();
}

void await_ready(const Victim& victim) {
  char byte = 0;
  pollfd poll_fd{.fd = victim.ready.get(), .events = POLLIN, .revents = 0};
  cr_assert_eq(::poll(&poll_fd, 1, static_cast<int>(kPatienceNs / kNsPerMs)), 1);
  cr_assert_eq(::read(victim.ready.get(), &byte, 1), 1, "the child could not begin");
}

// From the end, for what was submitted last arrives last: quickly, while writes that are still on their way have not arrived.
void sample(int fd, std::byte* into) {
  for (size_t i = kWrites; i-- > 0;) {
    const auto offset = static_cast<off_t>((i + 1) * kWriteBytes - kSampleBytes);
    cr_assert_eq(::pread(fd, into + i * kSampleBytes, kSampleBytes, offset), static_cast<ssize_t>(kSampleBytes));
  }
}

}  // namespace

ON_EVERY_BACKEND(when_a_killed_process_s_lock_is_free_its_writes_are_over) {
  open_backend(*backend);
  for (const int data_flags : {O_DIRECT, 0}) {
    const Scratch scratch;
    const Fd data = scratch.file("data", O_RDWR | O_CREAT | data_flags);
    if (!data) continue;  // no O_DIRECT on this file system
    constexpr size_t kBytes = kWrites * kWriteBytes;
    constexpr size_t kSamplesBytes = kWrites * kSampleBytes;
    auto* memory = static_cast<std::byte*>(
        ::mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0));
    cr_assert_neq(memory, MAP_FAILED);
    std::memset(memory, 0x11, kBytes);
    cr_assert_eq(::pwrite(data.get(), memory, kBytes, 0), static_cast<ssize_t>(kBytes));
    cr_assert_eq(::fsync(data.get()), 0);

    constexpr int kRounds = 8;
    for (int round = 0; round < kRounds; ++round) {
      auto io = open_io(backend->choice);
      cr_assert(io.has_value());
      const Victim victim = start_victim(scratch, *backend, data_flags, 0x20 + round);
      await_ready(victim);
      cr_assert_eq(::kill(victim.pid, SIGKILL), 0);
      const auto lock = StoreLock::acquire(scratch.directory(), **io, Deadline::after_ns(kPatienceNs));
      cr_assert(lock.has_value(), "%s", lock.has_value() ? "" : lock.error().text.c_str());
      sample(data.get(), memory);
      int status = 0;
      cr_assert_eq(::waitpid(victim.pid, &status, 0), victim.pid);
      cr_assert(WIFSIGNALED(status), "the child ended by itself: %d", status);
      // Behind all the writes that the device still has.
      cr_assert_eq(::fdatasync(data.get()), 0);
      sample(data.get(), memory + kSamplesBytes);
      cr_assert_eq(std::memcmp(memory, memory + kSamplesBytes, kSamplesBytes), 0, "a byte changed after the lock was free");
    }
    cr_assert_eq(::munmap(memory, kBytes), 0);
  }
}

ON_EVERY_BACKEND(a_starting_daemon_waits_for_a_dying_one) {
  const Scratch scratch;
  {
    const Fd data = scratch.file("data");
  }
  const auto io = open_backend(*backend);
  const Victim victim = start_victim(scratch, *backend, 0, 1);
  await_ready(victim);
  const auto refused = StoreLock::acquire(scratch.directory(), *io, Deadline::after_ns(20 * kNsPerMs));
  cr_assert(!refused.has_value());
  const std::string pid = "process " + std::to_string(victim.pid) + " ";
  cr_assert_not_null(std::strstr(refused.error().text.c_str(), pid.c_str()), "%s", refused.error().text.c_str());
  cr_assert_eq(::kill(victim.pid, SIGKILL), 0);
  const auto lock = StoreLock::acquire(scratch.directory(), *io, Deadline::after_ns(kPatienceNs));
  cr_assert(lock.has_value(), "%s", lock.has_value() ? "" : lock.error().text.c_str());
  int status = 0;
  cr_assert_eq(::waitpid(victim.pid, &status, 0), victim.pid);
}

// One after the other forbidden: making a ring, registering with it, entering it.
Test(io, automatic_takes_threads_where_io_uring_is_forbidden) {
  const Scratch scratch;
  for (const char* call : {"io_uring_setup", "io_uring_register", "io_uring_enter"}) {
    for (const int os_error : {EPERM, ENOSYS, EACCES}) {
      const Fd file = scratch.file("data");
      const int code = exit_code_of([&] {
        scmp_filter_ctx filter = ::seccomp_init(SCMP_ACT_ALLOW);
        const int number = ::seccomp_syscall_resolve_name(call);
        if (filter == nullptr || ::seccomp_rule_add(filter, SCMP_ACT_ERRNO(static_cast<unsigned>(os_error)), number, 0) != 0)
          return 1;
        if (::seccomp_load(filter) != 0) return 2;
        ::seccomp_release(filter);
        const auto ring = open_io(Choice::uring);
        if (ring || ring.error().code != WARM_E_UNSUPPORTED || ring.error().os_error != os_error) return 3;
        const auto io = open_io(Choice::automatic);
        if (!io || std::strcmp((*io)->name(), "threads") != 0) return 4;
        if ((*io)->buffers_registered()) return 5;
        const std::string why = (*io)->describe();
        if (why.find("threads") != 0 || why.find(call) == std::string::npos ||
            why.find(std::strerror(os_error)) == std::string::npos) {
          return 6;
        }
        return write_and_read_back(**io, file.get());
      });
      cr_assert_eq(code, 0, "%s forbidden with %s: step %d", call, std::strerror(os_error), code);
    }
  }
}

Test(io, automatic_takes_io_uring_where_it_is_allowed) {
  if (const auto ring = open_io(Choice::uring); !ring) cr_skip_test("%s", ring.error().text.c_str());
  const auto io = open_io(Choice::automatic);
  cr_assert(io.has_value());
  cr_assert_str_eq((*io)->name(), "io_uring");
}

namespace {
constexpr uid_t kUnusedUid = 64'321;
}

// Locked memory: none (some kernels count the ring itself), enough for a ring only, plenty.
Test(io, buffers_are_plain_where_too_little_memory_may_be_locked) {
  const Scratch scratch;
  const Fd file = scratch.file("data");
  const bool ring_works = open_io(Choice::uring).has_value();
  for (const rlim_t limit_bytes : {rlim_t{0}, rlim_t{256} << 10, rlim_t{256} << 20}) {
    const int code = exit_code_of([&] {
      const rlimit limit{.rlim_cur = limit_bytes, .rlim_max = limit_bytes};
      if (::setrlimit(RLIMIT_MEMLOCK, &limit) != 0) return 0;  // an ordinary user cannot raise it
      // The superuser locks as much as it likes. What an ordinary one may lock counts all its processes, so only an account
      // that nobody else uses meets the limit exactly.
      const bool exactly = ::geteuid() == 0;
      if (exactly && ::setresuid(kUnusedUid, kUnusedUid, kUnusedUid) != 0) return 1;
      const auto io = open_io(Choice::automatic);
      if (!io) return 2;
      const bool registered = (*io)->buffers_registered();
      if (registered && limit_bytes < kBuffers * kBufferBytes) return 3;
      if (exactly && ring_works && limit_bytes > 0 && std::strcmp((*io)->name(), "io_uring") != 0) return 4;
      if (exactly && ring_works && limit_bytes > kMiB && !registered) return 5;
      if ((*io)->describe().find(registered ? "registered buffers" : "plain buffers") == std::string::npos) return 6;
      return write_and_read_back(**io, file.get());
    });
    cr_assert_eq(code, 0, "limit %llu: step %d", static_cast<unsigned long long>(limit_bytes), code);
  }
}
