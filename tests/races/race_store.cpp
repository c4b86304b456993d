// Daemon and library in one process, over the same addresses (one_mapping.cpp): the daemon's own threads serve threads of the
// library that write and read, and the thread sanitizer looks on. A plain program: Criterion cannot run there.
//
// Slots are few and checkpoints frequent, so that a slot is used again within a hundred changes: a reader that held bytes which
// it had not pinned, or a lane's entry that was overwritten too early, is a race on plain bytes, which is reported. What TSan
// does not understand are fences; orders that rest on one alone are shown by docs/models/pin.pml. Reads of rows without a pin
// (copies, chunks, recall) and of ids in the feed are not played here: they race by design, and are judged by a second look
// behind a fence.
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "base/clock.hpp"
#include "daemon/server.hpp"
#include "tests/support/chance.hpp"
#include "tests/support/omit.hpp"
#include "warmtier/warmtier.h"

using namespace warmtier;
using tests::support::Chance;

// The daemon's child, made while other threads run here, begins threads of its own.
extern "C" const char* __tsan_default_options() { return "die_after_fork=0"; }  // NOLINT(bugprone-reserved-identifier)

namespace {

constexpr uint32_t kDimensions = 16;
constexpr uint64_t kCapacity = 1024;
constexpr unsigned kKeys = 40;
constexpr unsigned kWriters = 2;
constexpr unsigned kReaders = 2;
constexpr size_t kHeld = 8;  // views that a reader holds
constexpr uint32_t kTimeoutMs = 60'000;
constexpr int kSanitizerExit = 66;

// Each is a race on plain bytes: a request that is read while it is written, a record that is overwritten under a view.
constexpr std::array kPlanted = {"client.commit_last", "store.pinned_slots_are_held"};

void require(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "not so: %s: %s\n", what, warm_last_error());
  std::_Exit(1);
}

std::string id_of(uint64_t key) { return "id " + std::to_string(key); }

warm_client* open_client(const std::string& socket) {
  warm_options options = WARM_OPTIONS_INIT;
  options.socket = socket.c_str();
  options.timeout_ms = kTimeoutMs;
  warm_client* client = nullptr;
  require(warm_open(&options, &client) == WARM_OK, "a client opens");
  return client;
}

// Every number of the embedding and every byte of the content follow from one number.
void write(warm_client* client, const std::atomic<bool>& stop, uint64_t seed, std::atomic<uint64_t>& changes) {
  Chance chance(seed);
  while (!stop.load()) {
    const std::string id = id_of(chance.below(kKeys));
    const uint64_t drawn = chance.below(10);
    int code = WARM_OK;
    if (drawn == 0) {
      code = warm_remove(client, id.data(), id.size(), WARM_IF_ANY, 0, 0, nullptr);
    } else if (drawn < 3) {
      warm_update update = WARM_UPDATE_INIT;
      update.set = WARM_SET_RECALL_COUNT | WARM_SET_CONFIDENCE;
      update.id = id.data();
      update.id_bytes = id.size();
      update.recall_count = static_cast<uint32_t>(chance.below(1000));
      update.confidence = static_cast<float>(update.recall_count);
      code = warm_update_scalars(client, &update, nullptr);
    } else {
      const auto number = static_cast<uint32_t>(chance.below(1000));
      std::array<float, kDimensions> embedding{};
      embedding.fill(static_cast<float>(number));
      const std::string content(1 + number % 200, static_cast<char>('a' + number % 26));
      warm_memory memory = WARM_MEMORY_INIT;
      memory.id = id.data();
      memory.id_bytes = id.size();
      memory.embedding = embedding.data();
      memory.dimensions = kDimensions;
      memory.given = WARM_GIVEN_CONTENT;
      memory.content = content.data();
      memory.content_bytes = content.size();
      memory.recall_count = number;
      memory.confidence = static_cast<float>(number);
      code = warm_put(client, &memory, nullptr);
    }
    require(code == WARM_OK || code == WARM_E_NOT_FOUND, "a change is carried out");
    changes.fetch_add(1, std::memory_order_relaxed);
  }
}

// Touches every byte that a view shows.
bool shows_one_record(const warm_view& view) {
  const float number = view.embedding[0];
  for (uint32_t i = 1; i < view.dimensions; ++i) {
    if (view.embedding[i] != number) return false;
  }
  const auto* const content = static_cast<const char*>(view.content);
  const auto drawn = static_cast<uint32_t>(number);
  if (view.content_bytes != 1 + drawn % 200) return false;
  return std::all_of(content, content + view.content_bytes, [&](char c) { return c == static_cast<char>('a' + drawn % 26); });
}

void read(warm_client* client, const std::atomic<bool>& stop, bool planted, uint64_t seed, std::atomic<uint64_t>& gets) {
  Chance chance(seed);
  std::array<warm_view, kHeld> held;
  held.fill(WARM_VIEW_INIT);
  for (size_t turn = 0; !stop.load(); ++turn) {
    const std::string id = id_of(chance.below(kKeys));
    warm_view& view = held[turn % kHeld];
    require(view.content == nullptr || shows_one_record(view) || planted, "a held view shows one record");
    require(warm_release(client, &view) == WARM_OK, "a view is released");
    view = WARM_VIEW_INIT;
    const int code = warm_get(client, id.data(), id.size(), 0, &view);
    require(code == WARM_OK || code == WARM_E_NOT_FOUND, "a get is answered");
    require(code != WARM_OK || shows_one_record(view) || planted, "a view shows one record");
    const int there = warm_exists(client, id.data(), id.size());
    require(there == WARM_OK || there == WARM_E_NOT_FOUND, "exists is answered");
    warm_scalars scalars = WARM_SCALARS_INIT;
    const int known = warm_scalars_get(client, id.data(), id.size(), &scalars);
    require(known == WARM_E_NOT_FOUND || (known == WARM_OK && scalars.confidence == static_cast<float>(scalars.recall_count)),
            "scalars are of one moment");
    if (turn % 64 == 0) {
      warm_stats stats = WARM_STATS_INIT;
      require(warm_stats_get(client, &stats) == WARM_OK, "statistics are read");
    }
    gets.fetch_add(1, std::memory_order_relaxed);
  }
  for (warm_view& view : held) warm_release(client, &view);
}

// Removed by who made it: the sanitizer ends a process where it stands.
class Directory {
 public:
  Directory() {
    if (::mkdtemp(path_.data()) != nullptr) return;
    std::perror("mkdtemp");
    std::exit(1);
  }
  ~Directory() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  Directory(const Directory&) = delete;
  Directory& operator=(const Directory&) = delete;
  [[nodiscard]] const std::string& path() const noexcept { return path_; }

 private:
  std::string path_ = "/dev/shm/warmtier-race.XXXXXX";
};

int race(uint64_t seconds, const char* without, const std::string& directory) {
  daemon::Config config;
  config.store = directory + "/store";
  config.socket = directory + "/sock";
  config.dimensions = kDimensions;
  config.capacity = kCapacity;
  config.segment_bytes = uint64_t{1} << 20;
  config.checkpoint_interval_ms = daemon::kCheckpointIntervalMsMin;
  config.prepared_slots = daemon::kPreparedSlotsMin;
  // What the kernel does with a ring of io_uring is done by nobody that TSan sees.
  config.io = daemon::io::Choice::threads;
  // Before there is a thread: the daemon hears of them by descriptor.
  sigset_t signals;
  ::sigemptyset(&signals);
  ::sigaddset(&signals, SIGTERM);
  ::pthread_sigmask(SIG_BLOCK, &signals, nullptr);

  std::unique_ptr<tests::support::Omit> omit;
  if (without != nullptr) omit = std::make_unique<tests::support::Omit>(without);
  int result = 0;
  std::thread daemon([&] {
    const base::Status status = daemon::run_server(config, [&] { return base::Result<daemon::Config>(config); });
    if (status) return;
    std::fprintf(stderr, "the daemon: %s\n", status.error().text.c_str());
    result = 1;
  });
  // Two sessions: each with threads that share its pins, its cells and its lanes.
  std::atomic<bool> stop{false};
  std::atomic<uint64_t> changes{0};
  std::atomic<uint64_t> gets{0};
  std::array<warm_client*, 2> clients{};
  struct stat status{};
  while (::stat(config.socket.c_str(), &status) != 0) std::this_thread::yield();
  for (warm_client*& client : clients) client = open_client(config.socket);
  std::vector<std::thread> threads;
  for (size_t i = 0; i < clients.size(); ++i) {
    for (unsigned n = 0; n < kWriters; ++n)
      threads.emplace_back(write, clients[i], std::cref(stop), 10 * i + n, std::ref(changes));
    for (unsigned n = 0; n < kReaders; ++n) {
      threads.emplace_back(read, clients[i], std::cref(stop), without != nullptr, 10 * i + 5 + n, std::ref(gets));
    }
  }
  const base::Deadline end = base::Deadline::after_ns(seconds * base::kNsPerSecond);
  // Looked at now and then: to wake somebody at each change would slow down what is to race.
  while (!end.passed() || changes.load() < kCapacity || gets.load() < kCapacity)
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  stop.store(true);
  for (std::thread& thread : threads) thread.join();
  for (warm_client* client : clients) require(warm_close(client) == WARM_OK, "a client closes");
  ::kill(::getpid(), SIGTERM);
  daemon.join();
  std::printf("%llu changes, %llu gets\n", static_cast<unsigned long long>(changes.load()),
              static_cast<unsigned long long>(gets.load()));
  return result;
}

// This program once more, with a rule left out: it must be the sanitizer that ends it, and for a race.
int planted(const char* self) {
  for (const char* rule : kPlanted) {
    const Directory directory;
    const std::string command = "TSAN_OPTIONS=halt_on_error=1 " + std::string(self) + " --seconds 20 --without " + rule +
                                " --directory " + directory.path() + " 2>&1";
    FILE* const child = ::popen(command.c_str(), "re");
    if (child == nullptr) return 1;
    std::string said;
    std::array<char, 4096> part;
    for (size_t n = 0; (n = std::fread(part.data(), 1, part.size(), child)) > 0;) said.append(part.data(), n);
    const int status = ::pclose(child);
    const bool reported =
        WIFEXITED(status) && WEXITSTATUS(status) == kSanitizerExit && said.contains("ThreadSanitizer: data race");
    if (!reported) {
      std::fprintf(stderr, "without %s no race is reported:\n%s", rule, said.c_str());
      return 1;
    }
    std::printf("without %s a race is reported\n", rule);
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  uint64_t seconds = 8;
  const char* without = nullptr;
  std::string directory;
  for (int i = 1; i < argc; ++i) {
    const std::string_view argument = argv[i];
    if (argument == "--planted") return planted(argv[0]);
    if (i + 1 < argc && argument == "--seconds") {
      seconds = std::strtoull(argv[++i], nullptr, 10);
    } else if (i + 1 < argc && argument == "--without") {
      without = argv[++i];
    } else if (i + 1 < argc && argument == "--directory") {
      directory = argv[++i];
    } else {
      std::fputs("usage: race_store [--seconds N] [--directory PATH] [--without RULE | --planted]\n", stderr);
      return 2;
    }
  }
  if (!directory.empty()) return race(seconds, without, directory);
  const Directory own;
  return race(seconds, without, own.path());
}
