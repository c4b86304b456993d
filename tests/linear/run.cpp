#include "tests/linear/run.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <memory>
#include <string>

#include "tests/support/chance.hpp"
#include "tests/support/daemon.hpp"
#include "warmtier/warmtier.h"

namespace warmtier::tests::linear {
namespace {

using namespace warmtier::tests::support;

constexpr uint32_t kDimensions = 16;
constexpr uint32_t kOperationsPerId = 100;  // then comes another
constexpr uint32_t kOperationsMax = 60'000;  // of one process
constexpr unsigned kIncarnationsMax = 200;
constexpr uint32_t kNumbersBits = 20;
constexpr uint32_t kStep = 16;  // operations after which the parent hears of them
constexpr uint32_t kPatientMs = 20'000;
constexpr uint32_t kImpatientMs = 15;
constexpr size_t kLargeBytes = 70'000;  // does not fit a lane: goes by the socket
constexpr int kSaidWhatItMayNot = 3;
static_assert(kOperationsMax < 1U << kNumbersBits);

struct Board {
  std::atomic<uint32_t> operations{0};
  std::atomic<bool> stop{false};
  Steps steps;
};

std::string id_of(uint32_t key) { return "id " + std::to_string(key); }

class Worker {
 public:
  Worker(warm_client* client, Board& board, Recorder& recorder, unsigned keys, unsigned incarnation, uint64_t seed)
      : client_(client), board_(board), recorder_(recorder), keys_(keys), next_(incarnation << kNumbersBits | 1), chance_(seed) {}

  // False: a call said what it may not say.
  bool work() {
    while (!board_.stop.load(std::memory_order_relaxed) && !recorder_.full()) {
      const uint32_t done = board_.operations.fetch_add(1, std::memory_order_relaxed);
      const uint32_t key = done / (kOperationsPerId * keys_) * keys_ + static_cast<uint32_t>(chance_.below(keys_));
      if (key != seen_.key) seen_ = {.key = key};
      const uint64_t drawn = chance_.below(100);
      const bool ok = drawn < 30   ? put(key)
                      : drawn < 45 ? remove(key)
                      : drawn < 60 ? update(key)
                      : drawn < 85 ? get(key)
                                   : look(key);
      if (!ok) return false;
      if (done % kStep == 0) board_.steps.advance();
    }
    return true;
  }

 private:
  // Of the record that a condition may name.
  struct Seen {
    uint32_t key = 0;
    uint32_t record = 0;
    uint64_t sequence = 0;
  };

  static bool said(Operation& operation, int code) {
    operation.code = code;
    Recorder::end(operation);
    constexpr std::array kMayBe = {WARM_OK,     WARM_E_NOT_FOUND,   WARM_E_EXISTS,  WARM_E_CHANGED,
                                   WARM_E_BUSY, WARM_E_UNAVAILABLE, WARM_E_UNKNOWN, WARM_E_FULL};
    for (const int may : kMayBe) {
      if (code == may) return true;
    }
    std::fprintf(stderr, "a worker was told %s: %s\n", warm_error_name(code), warm_last_error());
    return false;
  }

  uint32_t condition(Operation& operation) {
    if (seen_.record == 0 || chance_.below(3) != 0) return WARM_IF_ANY;
    operation.condition = Condition::record;
    operation.record = seen_.record;
    return WARM_IF_SEQUENCE;
  }

  bool put(uint32_t key) {
    Operation drawn{.kind = Kind::put, .key = key, .number = next_++};
    uint32_t how = condition(drawn);
    if (how == WARM_IF_ANY && chance_.below(3) == 0) {
      drawn.condition = Condition::absent;
      how = WARM_IF_ABSENT;
    }
    std::string content = std::to_string(drawn.number) + ' ';
    if (chance_.below(16) == 0) content.resize(kLargeBytes, '.');
    const std::string id = id_of(key);
    const std::array<float, kDimensions> embedding{1};
    warm_memory memory = WARM_MEMORY_INIT;
    memory.id = id.data();
    memory.id_bytes = id.size();
    memory.embedding = embedding.data();
    memory.dimensions = kDimensions;
    memory.given = WARM_GIVEN_CONTENT;
    memory.content = content.data();
    memory.content_bytes = content.size();
    memory.recall_count = drawn.number;
    memory.condition = how;
    memory.if_sequence = how == WARM_IF_SEQUENCE ? seen_.sequence : 0;
    Operation& operation = recorder_.begin(drawn);
    uint64_t sequence = 0;
    const int code = warm_put(client_, &memory, &sequence);
    operation.sequence = sequence;
    if (code == WARM_OK) seen_ = {.key = key, .record = operation.number, .sequence = sequence};
    return said(operation, code);
  }

  bool remove(uint32_t key) {
    Operation drawn{.kind = Kind::remove, .key = key};
    const uint32_t how = condition(drawn);
    const std::string id = id_of(key);
    Operation& operation = recorder_.begin(drawn);
    uint64_t sequence = 0;
    const int code = warm_remove(client_, id.data(), id.size(), how, how == WARM_IF_SEQUENCE ? seen_.sequence : 0, 0, &sequence);
    operation.sequence = sequence;
    return said(operation, code);
  }

  bool update(uint32_t key) {
    Operation drawn{.kind = Kind::update, .key = key, .number = next_++};
    const std::string id = id_of(key);
    warm_update update = WARM_UPDATE_INIT;
    update.set = WARM_SET_RECALL_COUNT;
    update.id = id.data();
    update.id_bytes = id.size();
    update.condition = condition(drawn);
    update.if_sequence = update.condition == WARM_IF_SEQUENCE ? seen_.sequence : 0;
    update.recall_count = drawn.number;
    Operation& operation = recorder_.begin(drawn);
    uint64_t sequence = 0;
    const int code = warm_update_scalars(client_, &update, &sequence);
    operation.sequence = sequence;
    return said(operation, code);
  }

  bool get(uint32_t key) {
    const std::string id = id_of(key);
    warm_view view = WARM_VIEW_INIT;
    Operation& operation = recorder_.begin({.kind = Kind::get, .key = key});
    const int code = warm_get(client_, id.data(), id.size(), 0, &view);
    if (code == WARM_OK) {
      const char* const text = static_cast<const char*>(view.content);
      std::from_chars(text, text + view.content_bytes, operation.record);
      operation.seen = view.recall_count;
      operation.sequence = view.sequence;
      seen_ = {.key = key, .record = operation.record, .sequence = view.sequence};
    }
    const bool ok = said(operation, code);
    return warm_release(client_, &view) == WARM_OK && ok;
  }

  bool look(uint32_t key) {
    const std::string id = id_of(key);
    if (chance_.below(2) == 0) {
      Operation& operation = recorder_.begin({.kind = Kind::exists, .key = key});
      return said(operation, warm_exists(client_, id.data(), id.size()));
    }
    warm_scalars scalars = WARM_SCALARS_INIT;
    Operation& operation = recorder_.begin({.kind = Kind::scalars, .key = key});
    const int code = warm_scalars_get(client_, id.data(), id.size(), &scalars);
    operation.seen = scalars.recall_count;
    return said(operation, code);
  }

  warm_client* client_;
  Board& board_;
  Recorder& recorder_;
  uint32_t keys_;
  uint32_t next_;
  Chance chance_;
  Seen seen_;
};

}  // namespace

RunResult run(const RunOptions& options) {
  StoreOptions store;
  store.dimensions = kDimensions;
  store.capacity = 16'384;
  store.checkpoint_interval_ms = 20;  // slots are used again
  store.segment_bytes = uint64_t{4} << 20;
  store.failpoints = options.without != nullptr;
  Daemon daemon(store);
  if (options.without != nullptr) daemon.failpoints().arm(0, options.without, base::FailpointAction::omit, 0, 0);
  daemon.start();

  const Shared<Board> board;
  std::vector<std::unique_ptr<Recorder>> recorders;
  std::vector<Process> workers(options.processes);
  Chance chance(options.seed);
  const auto begin_worker = [&](unsigned place) {
    const auto incarnation = static_cast<unsigned>(recorders.size());
    recorders.push_back(
        std::make_unique<Recorder>(daemon.directory() + "/history-" + std::to_string(incarnation), kOperationsMax));
    Recorder& recorder = *recorders.back();
    const uint64_t seed = chance.next();
    // One gives its calls up soon: of what it does nobody knows the outcome at times.
    const uint32_t timeout_ms = place == 0 ? kImpatientMs : kPatientMs;
    workers[place] = Process::fork([&daemon, &board, &recorder, &options, incarnation, seed, timeout_ms] {
      warm_client* client = nullptr;
      warm_options with = WARM_OPTIONS_INIT;
      with.socket = daemon.socket().c_str();
      with.timeout_ms = timeout_ms;
      int code = WARM_E_UNAVAILABLE;
      while (code == WARM_E_UNAVAILABLE || code == WARM_E_BUSY) {
        if (board->stop.load()) return 0;
        code = warm_open(&with, &client);
      }
      if (code != WARM_OK) {
        std::fprintf(stderr, "a worker's open: %s: %s\n", warm_error_name(code), warm_last_error());
        return kSaidWhatItMayNot;
      }
      Worker worker(client, *board, recorder, options.keys, incarnation, seed);
      if (!worker.work()) return kSaidWhatItMayNot;
      const int closed = warm_close(client);
      return closed == WARM_OK ? 0 : kSaidWhatItMayNot;
    });
  };
  const uint64_t begun_ns = base::monotonic_ns();
  for (unsigned place = 0; place < options.processes; ++place) begin_worker(place);

  RunResult result;
  const base::Deadline end = base::Deadline::after_ns(options.seconds * base::kNsPerSecond);
  while (board->steps.wait_for(board->steps.now() + 1 + static_cast<uint32_t>(chance.below(120)), end)) {
    if (!options.kills) continue;
    if (chance.below(3) == 0 && recorders.size() < kIncarnationsMax) {
      const auto place = static_cast<unsigned>(chance.below(std::max(options.processes, 1U)));
      const Process::End ended = workers[place].kill();
      if (ended.exited && ended.code != 0) give_up("a worker ended with " + text_of(ended));
      begin_worker(place);
      ++result.client_kills;
    } else {
      daemon.restart();
      ++result.daemon_kills;
    }
  }
  board->stop.store(true);
  for (Process& worker : workers) {
    const Process::End ended = worker.wait();
    if (ended != exit_code(0)) give_up("a worker ended with " + text_of(ended));
  }
  result.ns = base::monotonic_ns() - begun_ns;
  for (const auto& recorder : recorders) {
    const std::vector<Operation> operations = recorder->operations();
    result.history.insert(result.history.end(), operations.begin(), operations.end());
  }
  return result;
}

}  // namespace warmtier::tests::linear
