// Recalls while everything that they look for is replaced all the time, by several processes, and the daemon dies and comes back:
// a record that is there throughout is never missed, nothing is shown twice, nothing is a mix.
#include <criterion/criterion.h>
#include <poll.h>

#include <algorithm>
#include <atomic>
#include <string>
#include <vector>

#include "tests/support/daemon.hpp"

using namespace warmtier::tests::support;
namespace base = warmtier::base;

namespace {

constexpr uint32_t kDimensions = 64;
constexpr uint32_t kHot = 120;  // replaced all the time; each as near to the query as the others, but for a little
constexpr uint32_t kStill = 20'000;  // far from it, and never touched
constexpr uint32_t kWriters = 2;
constexpr uint32_t kReaders = 2;

struct Board {
  Steps ready;
  std::atomic<bool> stop{false};
  std::atomic<uint64_t> recalls{0};
  std::atomic<uint64_t> partial{0};
  std::atomic<uint64_t> rescored{0};
  std::atomic<uint64_t> replaced{0};
};

std::string id_of(uint32_t key) { return (key < kHot ? "hot " : "still ") + std::to_string(key); }

// Every value of a hot record's embedding follows from key and version; its length and direction hardly change.
void fill(float* values, uint32_t key, uint32_t version) {
  for (uint32_t i = 0; i < kDimensions; ++i) values[i] = key < kHot ? 1.0f : i % 2 == 0 ? 1.0f : -1.0f;
  values[key % kDimensions] += 0.01f * static_cast<float>(key % 7);
  values[kDimensions - 1] += 0.001f * static_cast<float>(version % 16);
}

int put(warm_client* client, uint32_t key, uint32_t version) {
  float values[kDimensions];
  fill(values, key, version);
  const std::string id = id_of(key);
  warm_memory memory = WARM_MEMORY_INIT;
  memory.id = id.data();
  memory.id_bytes = id.size();
  memory.embedding = values;
  memory.dimensions = kDimensions;
  memory.recall_count = version;
  return warm_put(client, &memory, nullptr);
}

int writer(const Daemon& daemon, Board& board, uint32_t number) {
  warm_client* client = nullptr;
  if (daemon.try_open(&client) != WARM_OK) return 1;
  board.ready.advance();
  for (uint32_t version = 1; !board.stop.load(std::memory_order_relaxed); ++version) {
    for (uint32_t key = number; key < kHot; key += kWriters) {
      const int code = put(client, key, version);
      // A new daemon uses few slots until the readers have come back with their pins.
      if (code != WARM_OK && code != WARM_E_UNKNOWN && code != WARM_E_FULL && code != WARM_E_BUSY) return 2;
      board.replaced.fetch_add(1, std::memory_order_relaxed);
    }
  }
  return warm_close(client) == WARM_OK ? 0 : 3;
}

int reader(const Daemon& daemon, Board& board) {
  warm_client* client = nullptr;
  if (daemon.try_open(&client) != WARM_OK) return 11;
  const std::vector<float> ones(kDimensions, 1.0f);
  std::vector<warm_hit> hits(kHot);
  board.ready.advance();
  while (!board.stop.load(std::memory_order_relaxed)) {
    warm_query query = WARM_QUERY_INIT;
    query.embedding = ones.data();
    query.dimensions = kDimensions;
    query.limit = kHot;
    size_t count = 0;
    warm_recall_info info = WARM_RECALL_INFO_INIT;
    if (warm_recall(client, &query, hits.data(), &count, &info) != WARM_OK) return 12;
    board.recalls.fetch_add(1, std::memory_order_relaxed);
    board.rescored.fetch_add(info.rescored, std::memory_order_relaxed);
    board.partial.fetch_add(info.partial, std::memory_order_relaxed);
    if (info.damaged != 0) return 13;
    std::vector<bool> seen(kHot);
    for (size_t i = 0; i < count; ++i) {
      const warm_view& view = hits[i].view;
      const std::string id(static_cast<const char*>(view.id), view.id_bytes);
      if (!id.starts_with("hot ")) {
        if (info.partial == 0) return 14;  // it took the place of a better one
        continue;
      }
      const auto key = static_cast<uint32_t>(std::stoul(id.substr(4)));
      float values[kDimensions];
      fill(values, key, view.recall_count);
      if (!std::equal(values, values + kDimensions, view.embedding)) return 15;
      if (seen[key]) return 16;
      seen[key] = true;
      if (i > 0 && hits[i].score > hits[i - 1].score) return 17;
    }
    if (info.partial == 0 && std::find(seen.begin(), seen.end(), false) != seen.end()) return 18;
    if (warm_hits_release(client, hits.data(), count) != WARM_OK) return 19;
  }
  return warm_close(client) == WARM_OK ? 0 : 20;
}

}  // namespace

Test(recall_under_writers, what_is_there_throughout_is_never_missed, .timeout = 300) {
  StoreOptions options;
  options.dimensions = kDimensions;
  options.capacity = kStill + 4096;
  options.failpoints = false;
  options.checkpoint_interval_ms = 20;  // slots are used again soon
  Daemon daemon(options);
  daemon.start();
  {
    const Client client(daemon);
    for (uint32_t key = 0; key < kStill + kHot; ++key) cr_assert_eq(put(client, key, 0), WARM_OK, "%s", warm_last_error());
  }
  Shared<Board> board;
  std::vector<Process> processes;
  for (uint32_t i = 0; i < kWriters; ++i) processes.push_back(Process::fork([&, i] { return writer(daemon, *board, i); }));
  for (uint32_t i = 0; i < kReaders; ++i) processes.push_back(Process::fork([&] { return reader(daemon, *board); }));
  board->ready.await(kWriters + kReaders, "everybody to be attached");
  // The daemon is replaced when a hundred more recalls were made, three times.
  const Client watcher(daemon);
  const base::Deadline deadline = base::Deadline::after_ns(2 * kPatienceNs);
  bool all_run = true;
  for (uint64_t life = 1; life <= 4 && all_run; ++life) {
    await_stats(watcher, "recalls to go on", [&](const warm_stats&) {
      for (const Process& process : processes) {
        pollfd ended{.fd = process.pidfd(), .events = POLLIN, .revents = 0};
        all_run = all_run && ::poll(&ended, 1, 0) == 0;
      }
      return !all_run || board->recalls.load() >= life * 100 || deadline.passed();
    });
    if (life < 4) daemon.restart();
  }
  board->stop = true;
  for (Process& process : processes) {
    const Process::End end = process.wait();
    cr_assert(end == exit_code(0), "%s", text_of(end).c_str());
  }
  cr_assert_geq(board->recalls.load(), 400);
  cr_assert_gt(board->rescored.load(), 0);
  // Changes were followed: giving up on them is the exception.
  cr_assert_leq(board->partial.load(), board->recalls.load() / 10, "%lu of %lu recalls were partial", board->partial.load(),
                board->recalls.load());
}
