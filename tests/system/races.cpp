#include "tests/system/races.hpp"

#include <array>
#include <cstring>
#include <vector>

#include "tests/support/records.hpp"

namespace warmtier::tests::system {
namespace {

using namespace warmtier::tests::support;

constexpr unsigned kKeys = 4;   // half of them are removed at times
constexpr unsigned kBatch = 64;  // views that a reader holds while it looks at them: time for a race
constexpr unsigned kProcessesMax = 64;
constexpr uint32_t kTimeoutMs = 30'000;

constexpr bool is_removed_at_times(uint64_t key) { return key % 2 == 1; }

// One line for each process, so that counting does not slow the race.
struct alignas(64) Tally {
  std::atomic<uint64_t> gets{0};
  std::atomic<uint64_t> raced{0};
  std::atomic<uint64_t> not_found{0};
  std::atomic<uint64_t> changes{0};
};
struct Board {
  Steps ready;
  Steps ended;
  std::atomic<bool> stop{false};
  std::array<Tally, kProcessesMax> tallies;
  std::atomic<uint32_t> said{0};
  char wrong[256] = {};

  // The first to find something wrong says what.
  int found_wrong(const std::string& what) {
    if (said.fetch_add(1) == 0) std::strncpy(wrong, what.c_str(), sizeof wrong - 1);
    stop.store(true);
    return 1;
  }
};

void count(std::atomic<uint64_t>& tally) { tally.store(tally.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed); }

int write(const Daemon& daemon, Board& board, const Shape& shape, unsigned me, unsigned writers) {
  warm_client* client = nullptr;
  if (daemon.try_open(&client, kTimeoutMs) != WARM_OK)
    return board.found_wrong(std::string("a writer's open: ") + warm_last_error());
  board.ready.advance();
  // Versions of all writers differ: a reader can tell whose bytes it has.
  for (uint32_t version = me + writers; !board.stop.load(std::memory_order_relaxed); version += writers) {
    const uint64_t key = (version / writers + me) % kKeys;
    int code = WARM_OK;
    if (is_removed_at_times(key) && version / writers % 3 == 0) {
      const std::string id = record_id(key);
      code = warm_remove(client, id.data(), id.size(), WARM_IF_ANY, 0, 0, nullptr);
      if (code == WARM_E_NOT_FOUND) code = WARM_OK;
    } else {
      code = put_record(client, shape, key, version);
    }
    if (code != WARM_OK) return board.found_wrong(std::string("a writer: ") + warm_error_name(code) + ": " + warm_last_error());
    count(board.tallies[me].changes);
  }
  return warm_close(client) == WARM_OK ? 0 : board.found_wrong("a writer's close");
}

int read(const Daemon& daemon, Board& board, const Shape& shape, unsigned me, Tally& tally) {
  warm_client* client = nullptr;
  if (daemon.try_open(&client, kTimeoutMs) != WARM_OK)
    return board.found_wrong(std::string("a reader's open: ") + warm_last_error());
  std::array<std::string, kKeys> ids;
  std::array<uint64_t, kKeys> newest{};
  for (unsigned key = 0; key < kKeys; ++key) ids[key] = record_id(key);
  board.ready.advance();
  struct Seen {
    uint64_t key;
    warm_view view;
  };
  std::vector<Seen> batch;
  for (uint64_t i = me; !board.stop.load(std::memory_order_relaxed);) {
    batch.clear();
    for (unsigned n = 0; n < kBatch; ++n) {
      const uint64_t key = i++ * 7 % kKeys;
      warm_view view = WARM_VIEW_INIT;
      const int code = warm_get(client, ids[key].data(), ids[key].size(), 0, &view);
      count(tally.gets);
      if (code == WARM_E_NOT_FOUND) {
        if (!is_removed_at_times(key))
          return board.found_wrong("key " + std::to_string(key) + " is never removed, but was not found");
        count(tally.not_found);
        continue;
      }
      if (code != WARM_OK) return board.found_wrong(std::string("a reader: ") + warm_error_name(code) + ": " + warm_last_error());
      if (view.sequence < newest[key])
        return board.found_wrong("key " + std::to_string(key) + ": an older record after a newer one");
      newest[key] = view.sequence;
      batch.push_back({.key = key, .view = view});
    }
    for (Seen& seen : batch) {
      const char* differs = mismatch(shape, seen.key, seen.view);
      if (differs != nullptr) {
        return board.found_wrong("key " + std::to_string(seen.key) + ", version " + std::to_string(version_of(seen.view)) + ": " +
                                 differs + " differs");
      }
      uint32_t state = WARM_VIEW_CURRENT;
      if (const int checked = warm_view_check(client, &seen.view, &state); checked != WARM_OK) {
        return board.found_wrong(std::string("view check: ") + warm_error_name(checked) + ": " + warm_last_error());
      }
      if (state != WARM_VIEW_CURRENT) {
        // The record went while it was looked at: its bytes must still be its own.
        if (mismatch(shape, seen.key, seen.view) != nullptr)
          return board.found_wrong("a view changed after its record was replaced");
        if (state == WARM_VIEW_REPLACED) count(tally.raced);
      }
      warm_release(client, &seen.view);
    }
  }
  return warm_close(client) == WARM_OK ? 0 : board.found_wrong("a reader's close");
}

}  // namespace

RaceCounts run_races(const RaceOptions& options) {
  StoreOptions store;
  store.dimensions = options.dimensions;
  // Small and often on the device: a slot is used again within a thousand changes.
  store.capacity = 1024;
  store.checkpoint_interval_ms = 10;
  store.segment_bytes = uint64_t{4} << 20;
  store.failpoints = omits_rules();  // else nothing is to slow the race down
  Daemon daemon(store);
  daemon.start();
  const Shape shape{.dimensions = options.dimensions, .content_bytes_max = 600};
  {
    const Client client(daemon);
    for (uint64_t key = 0; key < kKeys; ++key) {
      if (put_record(client, shape, key, static_cast<uint32_t>(key % options.writers)) != WARM_OK) give_up(warm_last_error());
    }
  }
  Shared<Board> board;
  std::vector<Process> processes;
  for (unsigned me = 0; me < options.writers; ++me) {
    processes.push_back(Process::fork([&, me] {
      const int code = write(daemon, *board, shape, me, options.writers);
      board->ended.advance();
      return code;
    }));
  }
  for (unsigned me = 0; me < options.readers; ++me) {
    processes.push_back(Process::fork([&, me] {
      const int code = read(daemon, *board, shape, me, board->tallies[options.writers + me]);
      board->ended.advance();
      return code;
    }));
  }
  board->ready.await(options.writers + options.readers, "all attach");
  const uint64_t from = base::monotonic_ns();
  const base::Deadline deadline =
      options.seconds == 0 ? base::Deadline::never() : base::Deadline::after_ns(options.seconds * base::kNsPerSecond);
  const auto sum = [&](std::atomic<uint64_t> Tally::* which) {
    uint64_t all = 0;
    for (const Tally& tally : board->tallies) all += (tally.*which).load(std::memory_order_relaxed);
    return all;
  };
  // One who ends before it is told to has found something wrong.
  while (!board->ended.wait_for(1, base::Deadline::after_ns(50 * base::kNsPerMs))) {
    if (deadline.passed() || (options.races != 0 && sum(&Tally::raced) >= options.races)) break;
  }
  board->stop.store(true);
  RaceCounts counts;
  for (Process& process : processes) {
    if (const Process::End end = process.wait(); end != exit_code(0) && counts.wrong.empty())
      counts.wrong = "a process: " + text_of(end);
  }
  counts.seconds = static_cast<double>(base::monotonic_ns() - from) / 1e9;
  if (board->said.load() != 0) counts.wrong = board->wrong;
  counts.gets = sum(&Tally::gets);
  counts.raced = sum(&Tally::raced);
  counts.not_found = sum(&Tally::not_found);
  counts.changes = sum(&Tally::changes);
  return counts;
}

}  // namespace warmtier::tests::system
