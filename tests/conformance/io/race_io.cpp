// The threads that the I/O room starts, under load, for the thread sanitizer: a plain program, since Criterion cannot run there.
// Workers that finish while the caller submits, reaps and sleeps; a waiter for the store lock that is left behind and one that
// gets it.
#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <thread>
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
using namespace warmtier::daemon::io;

void require(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "not so: %s\n", what);
  std::exit(1);
}

void load(Io& io, int fd) {
  constexpr uint64_t kOperations = 5000;
  const std::vector<std::byte> bytes(4096, std::byte{1});
  uint64_t submitted = 0;
  uint64_t reaped = 0;
  while (reaped < kOperations) {
    while (submitted < kOperations && io.in_flight() < kInFlightMax) {
      const auto write = Operation::write(submitted, fd, bytes, submitted % 64 * 4096);
      require(io.submit(submitted % 3 == 0 ? write : write.begin_after(submitted - 1)).has_value(), "submit");
      ++submitted;
    }
    require(io.wait(Deadline::after_ns(30 * kNsPerSecond)).has_value(), "wait");
    std::array<Completion, 16> completions{};
    const size_t n = io.reap(completions);
    for (size_t i = 0; i < n; ++i) require(completions[i].result == 4096, "write");
    reaped += n;
  }
}

void contend(Choice choice, int directory) {
  auto first = open_io(choice);
  auto second = open_io(choice);
  require(first.has_value() && second.has_value(), "open");
  {
    const auto lock = StoreLock::acquire(directory, **first, Deadline::after_ns(30 * kNsPerSecond));
    require(lock.has_value(), "first lock");
    require(!StoreLock::acquire(directory, **second, Deadline::after_ns(5 * kNsPerMs)).has_value(), "refused lock");
  }
  std::thread waiter([&] {
    require(StoreLock::acquire(directory, **second, Deadline::after_ns(30 * kNsPerSecond)).has_value(), "awaited lock");
  });
  first->reset();
  waiter.join();
}

}  // namespace

int main() {
  std::string path = (std::filesystem::temp_directory_path() / "warmtier-io-XXXXXX").string();
  require(::mkdtemp(path.data()) != nullptr, "mkdtemp");
  const Fd directory(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  require(bool(directory), "open the directory");
  const Fd file(::openat(directory.get(), "data", O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  for (const Choice choice : {Choice::threads, Choice::automatic}) {
    auto io = open_io(choice);
    require(io.has_value(), "open");
    load(**io, file.get());
    for (int round = 0; round < 5; ++round) contend(choice, directory.get());
  }
  std::error_code ignored;
  std::filesystem::remove_all(path, ignored);
  return 0;
}
