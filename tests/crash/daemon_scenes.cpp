#include "tests/crash/daemon_scenes.hpp"

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <deque>

#include "layout/layout.hpp"
#include "layout/record.hpp"

namespace warmtier::tests::crash {

using namespace support;

uint64_t key_of(unsigned writer, unsigned i) { return uint64_t{writer} * 1000 + i; }
const Shape& shape_of(const Board& board, unsigned i) { return board.all_large.load() || i % 8 == 7 ? kLargeShape : kShape; }

namespace {

constexpr uint32_t kTimeoutMs = 20'000;

int put_plain(warm_client* client, const std::string& id) {
  const std::array<float, kShape.dimensions> embedding{};
  warm_memory memory = WARM_MEMORY_INIT;
  memory.id = id.data();
  memory.id_bytes = id.size();
  memory.embedding = embedding.data();
  memory.dimensions = kShape.dimensions;
  memory.confidence = 0;
  return warm_put(client, &memory, nullptr);
}

std::string updated_id(unsigned writer) { return "updated/" + std::to_string(writer); }

int set_scalars(warm_client* client, const std::string& id, uint32_t n) {
  warm_update update = WARM_UPDATE_INIT;
  update.id = id.data();
  update.id_bytes = id.size();
  update.set = WARM_SET_CONFIDENCE | WARM_SET_ACTIVATION | WARM_SET_DECAY_RATE | WARM_SET_RECALL_COUNT;
  update.confidence = update.activation = update.decay_rate = static_cast<float>(n);
  update.recall_count = n;
  return warm_update_scalars(client, &update, nullptr);
}
// The number that the four scalars have; WARM_E_CORRUPT when they differ.
int read_scalars(warm_client* client, const std::string& id, uint32_t* ret_n) {
  warm_view view = WARM_VIEW_INIT;
  if (const int code = warm_get(client, id.data(), id.size(), 0, &view); code != WARM_OK) return code;
  const auto n = static_cast<float>(view.recall_count);
  const bool equal = view.confidence == n && view.activation == n && view.decay_rate == n;
  *ret_n = view.recall_count;
  const int released = warm_release(client, &view);
  return equal ? released : WARM_E_CORRUPT;
}

#define CHECK_OR_FAIL(condition)                            \
  do {                                                      \
    if (!(condition)) {                                     \
      int none = 0;                                         \
      board.failed.compare_exchange_strong(none, __LINE__); \
      return 1;                                             \
    }                                                       \
  } while (0)

// What the writer before had asked for came about or did not: from now on the history says which.
int settle_history(warm_client* client, Board& board, unsigned me) {
  for (unsigned i = 0; i < kKeysPerWriter; ++i) {
    KeyHistory& history = board.history[me][i];
    uint32_t seen = 0;
    const int code = check_record(client, shape_of(board, i), key_of(me, i), &seen);
    CHECK_OR_FAIL(code == WARM_OK || code == WARM_E_NOT_FOUND);
    const uint32_t found = code == WARM_OK ? seen : 0;
    CHECK_OR_FAIL(found == history.acknowledged.load() || found == history.asked.load());
    history.acknowledged.store(found);
    history.asked.store(found);
    history.asked_remove.store(0);
  }
  UpdateHistory& updates = board.updates[me];
  uint32_t n = 0;
  const int code = read_scalars(client, updated_id(me), &n);
  CHECK_OR_FAIL(code == WARM_OK || (code == WARM_E_NOT_FOUND && updates.acknowledged.load() == 0));
  CHECK_OR_FAIL(n == updates.acknowledged.load() || n == updates.asked.load());
  updates.acknowledged.store(n);
  updates.asked.store(n);
  return 0;
}

}  // namespace

// Puts, replaces and removes its keys in turn; notes before and after each request. UNKNOWN is an answer that leaves both
// possible; the next request of that key decides it.
int writer(const Daemon& daemon, Board& board, unsigned me, bool takes_a_place) {
  warm_client* client = nullptr;
  CHECK_OR_FAIL(daemon.try_open(&client, kTimeoutMs) == WARM_OK);
  const std::string updated = updated_id(me);
  uint32_t version = 0;
  if (takes_a_place) {
    version = board.last_version[me].load();
    if (const int failed = settle_history(client, board, me); failed != 0) return failed;
  }
  // Setting scalars needs a record; once it is there, its numbers are history.
  if (warm_exists(client, updated.data(), updated.size()) != WARM_OK) CHECK_OR_FAIL(put_plain(client, updated) == WARM_OK);
  CHECK_OR_FAIL(put_plain(client, "touched") == WARM_OK);
  board.attached.advance();
  while (board.stop.load() == 0) {
    board.last_version[me].store(++version);
    if (version % 3 == 0) {
      UpdateHistory& history = board.updates[me];
      history.asked.store(version);
      const int code = set_scalars(client, updated, version);
      uint32_t seen = 0;
      CHECK_OR_FAIL(read_scalars(client, updated, &seen) == WARM_OK);
      if (code == WARM_OK) {
        CHECK_OR_FAIL(seen == version);
      } else {
        CHECK_OR_FAIL(code == WARM_E_UNKNOWN || code == WARM_E_UNAVAILABLE || code == WARM_E_BUSY);
        CHECK_OR_FAIL(seen == history.acknowledged.load() || (code == WARM_E_UNKNOWN && seen == version));
      }
      history.acknowledged.store(seen);
      // A record of its own: a touch changes the recall count.
      const warm_id touched{"touched", 7};
      CHECK_OR_FAIL(warm_touch(client, &touched, 1, nullptr) == WARM_OK);
    }
    const unsigned i = version * 7 % kKeysPerWriter;
    KeyHistory& history = board.history[me][i];
    const bool remove = version % 5 == 0;
    history.asked_remove.store(remove ? 1 : 0);
    history.asked.store(remove ? 0 : version);
    const std::string id = record_id(key_of(me, i));
    const int code = remove ? warm_remove(client, id.data(), id.size(), WARM_IF_ANY, 0, 0, nullptr)
                            : put_record(client, shape_of(board, i), key_of(me, i), version);
    if (code == WARM_OK || (remove && code == WARM_E_NOT_FOUND && history.acknowledged.load() == 0)) {
      history.acknowledged.store(remove ? 0 : version);
      uint32_t seen = 0;
      const int read = check_record(client, shape_of(board, i), key_of(me, i), &seen);
      CHECK_OR_FAIL(remove ? read == WARM_E_NOT_FOUND : read == WARM_OK && seen == version);
    } else {
      // Over a restart a request may stay without an answer. None is refused, unless the machine is so slow that somebody is not
      // back within a second: then the slots that were used before are not to be had, and this store has few others.
      std::fprintf(stderr, "writer %u, key %u, version %u: %s: %s\n", me, i, version, warm_error_name(code), warm_last_error());
      CHECK_OR_FAIL(code == WARM_E_UNKNOWN || code == WARM_E_UNAVAILABLE || code == WARM_E_BUSY || code == WARM_E_FULL);
      board.unanswered.fetch_add(1);
      // Ask the store, as the header says.
      uint32_t seen = 0;
      const int read = check_record(client, shape_of(board, i), key_of(me, i), &seen);
      const uint32_t found = read == WARM_OK ? seen : 0;
      CHECK_OR_FAIL(read == WARM_OK || read == WARM_E_NOT_FOUND);
      CHECK_OR_FAIL(found == history.acknowledged.load() || (code == WARM_E_UNKNOWN && found == history.asked.load()));
      history.acknowledged.store(found);
    }
    history.asked.store(history.acknowledged.load());
    history.asked_remove.store(0);
    board.rounds_of[me].advance();
    board.rounds.advance();
  }
  return warm_close(client) == WARM_OK ? 0 : 1;
}

// Comes and goes, and leaves without a word every other time: sessions begin and end all the while.
int visitor(const Daemon& daemon, Board& board) {
  for (unsigned round = 0; board.stop.load() == 0; ++round) {
    Process guest = Process::fork([&] {
      warm_client* client = nullptr;
      // Between two daemons there is nobody to open it.
      const int opened = daemon.try_open(&client, kTimeoutMs);
      if (opened == WARM_E_UNAVAILABLE) return 0;
      if (opened != WARM_OK) return 1;
      uint32_t seen = 0;
      const int code = check_record(client, shape_of(board, round % 7), key_of(0, round % 7), &seen);
      if (code != WARM_OK && code != WARM_E_NOT_FOUND) return 2;
      if (round % 2 == 0) return warm_close(client) == WARM_OK ? 0 : 3;
      return 0;
    });
    CHECK_OR_FAIL(guest.wait() == exit_code(0));
  }
  return 0;
}

// Many elements in each call, of few keys, so that order and repetition show: a record is at the last element of its key, with
// the sequence that this element was answered with. Some of the content goes by the socket.
int batch_writer(const Daemon& daemon, Board& board) {
  constexpr unsigned kElements = 60;
  constexpr unsigned kKeys = 7;
  warm_client* client = nullptr;
  CHECK_OR_FAIL(daemon.try_open(&client, kTimeoutMs) == WARM_OK);
  board.attached.advance();
  for (uint32_t version = 1; board.stop.load() == 0;) {
    std::deque<Record> records;
    std::vector<warm_memory> memories;
    for (unsigned i = 0; i < kElements; ++i, ++version)
      memories.push_back(records.emplace_back(shape_of(board, i), key_of(0, i % kKeys), version).memory());
    std::array<warm_result, kElements> results{};
    CHECK_OR_FAIL(warm_put_many(client, memories.data(), kElements, results.data()) == WARM_OK);
    for (unsigned i = 0; i < kElements; ++i) {
      CHECK_OR_FAIL(results[i].code == WARM_OK);
      CHECK_OR_FAIL(i == 0 || results[i].sequence > results[i - 1].sequence);
    }
    for (unsigned i = kElements - kKeys; i < kElements; ++i) {
      warm_view view = WARM_VIEW_INIT;
      CHECK_OR_FAIL(warm_get(client, records[i].id().data(), records[i].id().size(), 0, &view) == WARM_OK);
      CHECK_OR_FAIL(view.sequence == results[i].sequence && mismatch(shape_of(board, i), key_of(0, i % kKeys), view) == nullptr);
      CHECK_OR_FAIL(version_of(view) == memories[i].recall_count);
      warm_release(client, &view);
    }
    std::vector<warm_id> ids;
    for (unsigned i = 0; i < 2 * kKeys; ++i) ids.push_back({records[i % kKeys].id().data(), records[i % kKeys].id().size()});
    CHECK_OR_FAIL(warm_remove_many(client, ids.data(), ids.size(), 0, results.data()) == WARM_OK);
    for (unsigned i = 0; i < 2 * kKeys; ++i) CHECK_OR_FAIL(results[i].code == (i < kKeys ? WARM_OK : WARM_E_NOT_FOUND));
    board.rounds.advance();
  }
  return warm_close(client) == WARM_OK ? 0 : 1;
}

StoreOptions small_and_busy() {
  StoreOptions options;
  options.capacity = 1024;
  options.segment_bytes = 65536;
  options.checkpoint_interval_ms = 20;
  return options;
}

namespace {

std::atomic<uint64_t>* longest_pause = nullptr;

// From now until each writer has had an answer.
void note_pause(Board& board) {
  const uint64_t begun_ns = base::monotonic_ns();
  for (Steps& rounds : board.rounds_of) rounds.await(rounds.now() + 1, "every writer goes on");
  const uint64_t pause_ns = base::monotonic_ns() - begun_ns;
  if (longest_pause == nullptr) return;
  uint64_t longest = longest_pause->load();
  while (pause_ns > longest && !longest_pause->compare_exchange_weak(longest, pause_ns)) {
  }
}

}  // namespace

void note_pauses_in(std::atomic<uint64_t>* longest_ns) { longest_pause = longest_ns; }

Scene::Scene() : daemon_(small_and_busy()) { daemon_.start(); }

void Scene::begin(bool all_large) {
  board_->all_large.store(all_large);
  for (unsigned me = 0; me < kWriters; ++me)
    workers_.push_back(Process::fork([this, me] { return writer(daemon_, *board_, me); }));
  workers_.push_back(Process::fork([this] { return visitor(daemon_, *board_); }));
  board_->attached.await(kWriters, "every writer attaches");
  await_rounds(60);
}

void Scene::await_rounds(uint32_t more) { board_->rounds.await(board_->rounds.now() + more, "writers go on"); }

bool Scene::dies_at_work(const std::string& point, uint32_t skip) {
  daemon_.failpoints().arm(0, point, FailpointAction::kill, skip);
  const uint32_t from = board_->rounds.now();
  const base::Deadline deadline = base::Deadline::after_ns(20 * base::kNsPerSecond);
  Process::End end;
  while (!daemon_.process().wait_until(base::Deadline::after_ns(2 * base::kNsPerMs), end)) {
    if (board_->rounds.now() - from > 3000 || deadline.passed() || board_->failed.load() != 0) {
      daemon_.failpoints().disarm(0);
      return false;
    }
  }
  daemon_.failpoints().disarm(0);
  require(end == killed_by(SIGKILL), "%s: the daemon ended by itself: %s; it said:\n%s", point.c_str(), text_of(end).c_str(),
          daemon_.log().c_str());
  return true;
}

bool Scene::dies_at_start(const std::string& point) {
  daemon_.failpoints().arm(0, point, FailpointAction::kill);
  daemon_.start_without_waiting();
  const bool ready = daemon_.wait_ready(base::Deadline::after_ns(kPatienceNs));
  // What comes after READY, as clients come back.
  Process::End end;
  bool died = daemon_.process().wait_until(base::Deadline::after_ns(ready ? 300 * base::kNsPerMs : kPatienceNs), end);
  daemon_.failpoints().disarm(0);
  // It may have come there just now.
  if (!died && daemon_.failpoints().hits(0) > 0) died = daemon_.process().wait_until(base::Deadline::after_ns(kPatienceNs), end);
  if (died) {
    require(end == killed_by(SIGKILL) || end == exit_code(128 + SIGKILL),
            "%s: the starting daemon ended by itself: %s; it said:\n%s", point.c_str(), text_of(end).c_str(),
            daemon_.log().c_str());
  }
  return died;
}

void Scene::kill_clients() {
  for (Process& worker : workers_) worker.kill();
  workers_.clear();
}

void Scene::judge(const std::string& point) {
  if (!workers_.empty()) {
    note_pause(*board_);
    await_rounds(40);
  }
  board_->stop.store(1);
  for (Process& worker : workers_) {
    const Process::End end = worker.wait();
    require(end == exit_code(0), "%s: a client was wrong at line %d (%s); the daemon said:\n%s", point.c_str(),
            board_->failed.load(), text_of(end).c_str(), daemon_.log().c_str());
  }
  workers_.clear();
  judge_history(daemon_, *board_, point);
  daemon_.stop_and_start();
  judge_history(daemon_, *board_, point);
}

void judge_history(const Daemon& daemon, const Board& board, const std::string& point) {
  const Client client(daemon, kTimeoutMs);
  for (unsigned me = 0; me < kWriters; ++me) {
    uint32_t n = 0;
    const int read = read_scalars(client, updated_id(me), &n);
    require(read == WARM_OK, "%s: the updated record of writer %u: %s", point.c_str(), me, warm_error_name(read));
    const UpdateHistory& updates = board.updates[me];
    require(n == updates.acknowledged.load() || n == updates.asked.load(),
            "%s: the updated record of writer %u is at %u, acknowledged was %u", point.c_str(), me, n,
            updates.acknowledged.load());
    for (unsigned i = 0; i < kKeysPerWriter; ++i) {
      uint32_t seen = 0;
      const int code = check_record(client, shape_of(board, i), key_of(me, i), &seen);
      const uint32_t found = code == WARM_OK ? seen : 0;
      require(code == WARM_OK || code == WARM_E_NOT_FOUND, "%s: key %u of writer %u: %s", point.c_str(), i, me,
              warm_last_error());
      const uint32_t acknowledged = board.history[me][i].acknowledged.load();
      // A writer that was killed may have left a request behind: both are right then.
      const uint32_t asked = board.history[me][i].asked.load();
      require(found == acknowledged || found == asked, "%s: key %u of writer %u is at version %u, acknowledged was %u",
              point.c_str(), i, me, found, acknowledged);
    }
  }
}

namespace {

// While ordinary work goes on.
bool killed_at_work(const std::string& point, uint32_t round) {
  Scene scene;
  scene.begin();
  if (!scene.dies_at_work(point, 5 + round % 7)) return false;
  scene.start();
  scene.judge(point);
  return true;
}

// While it starts: after a kill in the middle of an operation, and with clients that come back.
bool killed_at_start(const std::string& point, const char* killed_before_at, bool all_large) {
  Scene scene;
  scene.begin(all_large);
  if (!scene.dies_at_work(killed_before_at, 3)) return false;
  const bool hit = scene.dies_at_start(point);
  if (hit) scene.start();
  scene.judge(point);
  return hit;
}

// While it starts and nobody is left of those who knew the last one.
bool killed_at_start_alone(const std::string& point, uint32_t) {
  Scene scene;
  scene.begin();
  scene.kill();
  scene.kill_clients();
  const bool hit = scene.dies_at_start(point);
  if (hit) scene.start();
  scene.judge(point);
  return hit;
}

// While it starts in another PID namespace than the last one: the pids of its sessions mean nothing there. The first process of a
// namespace cannot kill itself: a shell is that.
bool killed_at_start_elsewhere(const std::string& point, uint32_t) {
  Scene scene;
  scene.begin();
  scene.kill();
  std::vector<std::string> elsewhere{"/usr/bin/unshare", "--pid", "--mount-proc", "--kill-child"};
  if (::geteuid() != 0) elsewhere.insert(elsewhere.end(), {"--user", "--map-root-user"});
  elsewhere.insert(elsewhere.end(), {"/bin/sh", "-c", "\"$@\"; exit $?", "sh"});
  scene.daemon().launch_by(elsewhere);
  const bool hit = scene.dies_at_start(point);
  if (!hit) scene.kill();
  scene.daemon().launch_by({});
  scene.start();
  scene.judge(point);
  return hit;
}

// While it starts on a store of another boot: only what a checkpoint covered counts, and a stop in order is one.
bool killed_at_start_after_a_boot(const std::string& point, uint32_t) {
  Scene scene;
  scene.begin();
  scene.await_rounds(40);
  scene.kill_clients();
  require(scene.daemon().stop() == exit_code(0), "%s: the daemon's stop", point.c_str());
  const base::Fd fd(::open((scene.daemon().store() + "/warm.tier").c_str(), O_RDWR | O_CLOEXEC));
  for (const size_t offset : layout::kSuperblockOffsets) {
    layout::Superblock superblock;
    require(
        ::pread(fd.get(), &superblock, sizeof superblock, static_cast<off_t>(offset)) == static_cast<ssize_t>(sizeof superblock),
        "no superblock");
    for (uint8_t& byte : superblock.boot_id) byte = static_cast<uint8_t>(~byte);
    superblock.checksum = layout::superblock_checksum(superblock);
    require(
        ::pwrite(fd.get(), &superblock, sizeof superblock, static_cast<off_t>(offset)) == static_cast<ssize_t>(sizeof superblock),
        "no superblock");
  }
  const bool hit = scene.dies_at_start(point);
  if (hit) scene.start();
  scene.judge(point);
  return hit;
}

// While the index doubles: more records than its first size holds.
bool killed_at_doubling(const std::string& point, uint32_t) {
  constexpr uint64_t kRecords = 26'500;
  StoreOptions options;
  options.dimensions = 1;
  options.capacity = 65'536;
  Daemon daemon(options);
  daemon.start();
  const Shape shape{.dimensions = 1, .content_bytes_max = 8};
  daemon.failpoints().arm(0, point, FailpointAction::kill);
  Process filler = Process::fork([&] {
    warm_client* client = nullptr;
    if (daemon.try_open(&client, kTimeoutMs) != WARM_OK) return 1;
    const auto put = [&](uint64_t from, uint64_t to) {
      for (uint64_t key = from; key < to; ++key) {
        int code = put_record(client, shape, key, 1);
        if (code == WARM_E_UNKNOWN) code = check_record(client, shape, key);
        if (code != WARM_OK) {
          std::fprintf(stderr, "key %llu: %s\n", static_cast<unsigned long long>(key), warm_last_error());
          return false;
        }
      }
      return true;
    };
    // So full that ids stand away from their homes; some of them go and come again.
    constexpr uint64_t kCrowded = 24'000;
    constexpr uint64_t kComing = 20'000;  // from here on: the latest stand furthest away
    if (!put(0, kCrowded)) return 2;
    for (uint64_t key = kComing; key < kCrowded; ++key) {
      const std::string id = record_id(key);
      const int code = warm_remove(client, id.data(), id.size(), WARM_IF_ANY, 0, 0, nullptr);
      if (code != WARM_OK && code != WARM_E_UNKNOWN) return 4;
      if (warm_exists(client, id.data(), id.size()) != WARM_E_NOT_FOUND) return 5;
    }
    if (!put(kComing, kRecords)) return 2;
    return warm_close(client) == WARM_OK ? 0 : 3;
  });
  // Either ends first: the daemon at the point, or the filler because the point is not on this way.
  Process::End end;
  bool died = false;
  Process::End filled;
  while (!(died = daemon.process().wait_until(base::Deadline::after_ns(2 * base::kNsPerMs), end)) &&
         !filler.wait_until(base::Deadline::after_ns(0), filled)) {
  }
  daemon.failpoints().disarm(0);
  if (!died) return false;
  require(end == killed_by(SIGKILL), "%s: the daemon ended by itself; it said:\n%s", point.c_str(), daemon.log().c_str());
  daemon.start();
  const Process::End done = filler.wait();
  require(done == exit_code(0), "%s: the filler: %s", point.c_str(), text_of(done).c_str());
  const Client client(daemon, kTimeoutMs);
  for (uint64_t key = 0; key < kRecords; ++key) {
    const int code = check_record(client, shape, key);
    require(code == WARM_OK, "%s: record %llu: %s", point.c_str(), static_cast<unsigned long long>(key), warm_last_error());
  }
  return true;
}

// As it stops in order.
bool killed_at_stop(const std::string& point, uint32_t) {
  Scene scene;
  scene.begin();
  scene.daemon().failpoints().arm(0, point, FailpointAction::kill);
  const Process::End end = scene.daemon().stop();
  scene.daemon().failpoints().disarm(0);
  if (end == killed_by(SIGKILL)) {
    scene.start();
    scene.judge(point);
    return true;
  }
  scene.start();
  scene.judge(point);
  return false;
}

// While everything is removed: the next daemon carries it out again from the start.
bool killed_at_clear(const std::string& point, uint32_t) {
  constexpr uint64_t kRecords = 500;
  Daemon daemon(small_and_busy());
  daemon.start();
  daemon.failpoints().arm(0, point, FailpointAction::kill, 7);
  Process clearer = Process::fork([&] {
    warm_client* client = nullptr;
    if (daemon.try_open(&client, kTimeoutMs) != WARM_OK) return 1;
    for (uint64_t key = 0; key < kRecords; ++key) {
      if (put_record(client, kShape, key, 1) != WARM_OK) return 2;
    }
    uint64_t removed = 0;
    if (warm_clear(client, &removed) != WARM_OK || removed == 0 || removed > kRecords) return 3;
    for (uint64_t key = 0; key < kRecords; ++key) {
      if (check_record(client, kShape, key) != WARM_E_NOT_FOUND) return 4;
    }
    return warm_close(client) == WARM_OK ? 0 : 5;
  });
  Process::End end;
  Process::End done;
  bool died = false;
  while (!(died = daemon.process().wait_until(base::Deadline::after_ns(2 * base::kNsPerMs), end)) &&
         !clearer.wait_until(base::Deadline::after_ns(0), done)) {
  }
  daemon.failpoints().disarm(0);
  if (!died) return false;
  require(end == killed_by(SIGKILL), "%s: the daemon ended by itself; it said:\n%s", point.c_str(), daemon.log().c_str());
  daemon.start();
  done = clearer.wait();
  require(done == exit_code(0), "%s: the clearing client: %s", point.c_str(), text_of(done).c_str());
  const Client client(daemon, kTimeoutMs);
  require(stats_of(client).records == 0, "%s: records are left", point.c_str());
  return true;
}

}  // namespace

std::span<const DaemonWay> daemon_ways() {
  static constexpr DaemonWay ways[] = {
      {"ordinary work", killed_at_work},
      {"a start after a death in a put",
       [](const auto& point, uint32_t) { return killed_at_start(point, "store.cell_stored", false); }},
      {"a start after a death before a put",
       [](const auto& point, uint32_t) { return killed_at_start(point, "store.line_filled", false); }},
      {"a start after a death in a removal",
       [](const auto& point, uint32_t) { return killed_at_start(point, "store.cell_removed", false); }},
      {"a start after a death in an update",
       [](const auto& point, uint32_t) { return killed_at_start(point, "store.update_quad_stored", false); }},
      {"a clear", killed_at_clear},
      {"a start without anybody", killed_at_start_alone},
      {"a start after another boot", killed_at_start_after_a_boot},
      {"a start in another PID namespace", killed_at_start_elsewhere},
      {"a doubling of the index", killed_at_doubling},
      {"a stop in order", killed_at_stop},
      // A record without content goes through a lane even there: another try meets one that does not.
      {"a start with large content in flight",
       [](const auto& point, uint32_t) {
         for (int attempt = 0; attempt < 12; ++attempt) {
           if (killed_at_start(point, "store.cell_stored", true)) return true;
         }
         return false;
       }},
  };
  return ways;
}

}  // namespace warmtier::tests::crash
