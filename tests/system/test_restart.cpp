// The daemon dies and comes back under processes that are attached: what they hold stays what it was, what comes new they see,
// and what was in flight is answered once.
#include <criterion/criterion.h>
#include <grp.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "tests/support/daemon.hpp"
#include "tests/support/records.hpp"

using namespace warmtier::tests::support;
namespace base = warmtier::base;

namespace {

constexpr Shape kShape{.dimensions = 16, .content_bytes_max = 600};
constexpr uint32_t kTimeoutMs = 20'000;
constexpr uint64_t kHeldKeys = 40;
constexpr uint64_t kNewKey = 1'000;
constexpr uint64_t kContestedKey = 2'000;
constexpr unsigned kLives = 4;

struct Board {
  Steps ready;     // a reader has what it holds
  Steps life;      // the daemon was started again, and a new record was put
  Steps looked;    // a reader has looked after that
  std::atomic<bool> stop{false};
  std::atomic<uint32_t> seen{0};                      // versions that the observer saw, in order
  std::array<std::atomic<uint32_t>, 64> versions{};
};

// Holds views over every restart, and looks at them and at what is new after each.
int holder(const Daemon& daemon, Board& board) {
  warm_client* client = nullptr;
  if (daemon.try_open(&client, kTimeoutMs) != WARM_OK) return 1;
  std::vector<warm_view> views(kHeldKeys, warm_view WARM_VIEW_INIT);
  std::vector<uint64_t> sequences(kHeldKeys);
  for (uint64_t key = 0; key < kHeldKeys; ++key) {
    const std::string id = record_id(key);
    if (warm_get(client, id.data(), id.size(), 0, &views[key]) != WARM_OK) return 2;
    sequences[key] = views[key].sequence;
  }
  board.ready.advance();
  for (unsigned life = 1; life <= kLives; ++life) {
    if (!board.life.wait_for(life, base::Deadline::after_ns(kPatienceNs))) return 3;
    if (check_record(client, kShape, kNewKey + life) != WARM_OK) return 4;
    for (uint64_t key = 0; key < kHeldKeys; ++key) {
      if (views[key].sequence != sequences[key] || mismatch(kShape, key, views[key]) != nullptr) return 5;
      uint32_t state = 99;
      const int code = warm_view_check(client, &views[key], &state);
      if (code == WARM_E_STALE) continue;
      // Each life replaces the keys of one remainder, and removes those of another.
      const bool replaced = key % 8 < life * 2 && key % 2 == 0;
      const bool removed = key % 8 < life * 2 && key % 2 == 1;
      const uint32_t expected = replaced ? WARM_VIEW_REPLACED : removed ? WARM_VIEW_REMOVED : WARM_VIEW_CURRENT;
      if (code != WARM_OK || state != expected) return 6;
    }
    board.looked.advance();
  }
  if (!board.life.wait_for(kLives + 1, base::Deadline::after_ns(kPatienceNs))) return 10;
  for (uint64_t key = 0; key < kHeldKeys; ++key) {
    if (mismatch(kShape, key, views[key]) != nullptr) return 7;
    if (warm_release(client, &views[key]) != WARM_OK) return 8;
  }
  return warm_close(client) == WARM_OK ? 0 : 9;
}

// Does nothing at all until the last life: it never noticed the others.
int idler(const Daemon& daemon, Board& board) {
  warm_client* client = nullptr;
  if (daemon.try_open(&client, kTimeoutMs) != WARM_OK) return 1;
  if (check_record(client, kShape, 0) != WARM_OK) return 2;
  board.ready.advance();
  if (!board.life.wait_for(kLives, base::Deadline::after_ns(kPatienceNs))) return 3;
  for (unsigned life = 1; life <= kLives; ++life) {
    if (check_record(client, kShape, kNewKey + life) != WARM_OK) return 4;
  }
  if (put_record(client, kShape, kNewKey + 100, 1) != WARM_OK) return 5;
  board.looked.advance();
  return warm_close(client) == WARM_OK ? 0 : 6;
}

void readers_outlive_daemons(bool killed) {
  StoreOptions options;
  options.capacity = 4096;
  options.checkpoint_interval_ms = 50;
  Daemon daemon(options);
  daemon.start();
  Shared<Board> board;
  Client writer(daemon, kTimeoutMs);
  for (uint64_t key = 0; key < kHeldKeys; ++key) cr_assert_eq(put_record(writer, kShape, key, 1), WARM_OK);
  Process holding = Process::fork([&] { return holder(daemon, *board); });
  Process idle = Process::fork([&] { return idler(daemon, *board); });
  board->ready.await(2, "both readers are attached");
  for (unsigned life = 1; life <= kLives; ++life) {
    if (killed) {
      daemon.restart();
    } else {
      daemon.stop_and_start();
    }
    for (uint64_t key = 0; key < kHeldKeys; ++key) {
      if (key % 8 / 2 != life - 1) continue;
      const std::string id = record_id(key);
      if (key % 2 == 0) {
        cr_assert_eq(put_record(writer, kShape, key, 1 + life), WARM_OK, "%s", warm_last_error());
      } else {
        cr_assert_eq(warm_remove(writer, id.data(), id.size(), WARM_IF_ANY, 0, 0, nullptr), WARM_OK, "%s", warm_last_error());
      }
    }
    cr_assert_eq(put_record(writer, kShape, kNewKey + life, life), WARM_OK);
    board->life.advance();
    board->looked.await(life, "the holder has looked");
  }
  board->looked.await(kLives + 1, "the idle reader has looked");
  // With the pins of all in hand every slot is used again, many times over, but those that views hold.
  for (uint32_t version = 1; version <= 20'000; ++version)
    cr_assert_eq(put_record(writer, kShape, 500 + version % 8, version), WARM_OK, "%s", warm_last_error());
  board->life.advance();
  const Process::End held = holding.wait();
  cr_assert(held == exit_code(0), "the reader that held views: %s", text_of(held).c_str());
  const Process::End idled = idle.wait();
  cr_assert(idled == exit_code(0), "the idle reader: %s", text_of(idled).c_str());
}

// A's put of v1 is in flight when the daemon dies at the point. B puts v2, before A's answer or after it. Then the daemon dies
// once more, so that whatever stands in the lanes could be carried out again.
void answered_once(const std::string& point, bool b_waits_for_a, bool by_socket) {
  Daemon daemon;
  daemon.start();
  Shared<Board> board;
  Shared<std::atomic<int>> answer;
  const Shape shape = by_socket ? Shape{.dimensions = 16, .content_bytes_max = 600'000} : kShape;
  // Versions whose content goes the way that is wanted.
  const auto fits = [&](uint32_t version) {
    const Record record(shape, kContestedKey, version);
    return (record.memory().content_bytes > 70'000) == by_socket;
  };
  uint32_t first = 1;
  while (!fits(first)) ++first;
  uint32_t second = first + 1;
  while (!fits(second)) ++second;

  Process watching = Process::fork([&] {
    warm_client* client = nullptr;
    if (daemon.try_open(&client, kTimeoutMs) != WARM_OK) return 1;
    board->ready.advance();
    uint32_t last = 0;
    while (!board->stop.load()) {
      uint32_t version = 0;
      const int code = check_record(client, shape, kContestedKey, &version);
      if (code != WARM_OK && code != WARM_E_NOT_FOUND) return 2;
      if (code == WARM_E_NOT_FOUND) version = 0;
      if (version == last) continue;
      last = version;
      const uint32_t at = board->seen.load();
      if (at == board->versions.size()) return 3;
      board->versions[at].store(version);
      board->seen.store(at + 1);
    }
    return 0;
  });
  board->ready.await(1, "the observer is attached");
  Process a = Process::fork([&] {
    warm_client* client = nullptr;
    if (daemon.try_open(&client, kTimeoutMs) != WARM_OK) return 1;
    if (put_record(client, kShape, 1, 1) != WARM_OK) return 2;
    board->ready.advance();
    if (!board->life.wait_for(1, base::Deadline::after_ns(kPatienceNs))) return 3;
    answer->store(put_record(client, shape, kContestedKey, first));
    if (answer->load() != WARM_OK) return 4;
    // Its own write, as it is told of it: never before the index shows it.
    uint32_t version = 0;
    const int code = check_record(client, shape, kContestedKey, &version);
    if (code != WARM_OK || (version != first && version != second)) return 5;
    board->looked.advance();
    while (!board->stop.load()) {
      // It comes back to each new daemon and hands its lanes in.
      if (check_record(client, kShape, 1) != WARM_OK) return 6;
      if (put_record(client, kShape, 1, 1) != WARM_OK) return 7;
    }
    return warm_close(client) == WARM_OK ? 0 : 8;
  });
  board->ready.await(2, "A is attached");
  daemon.failpoints().arm(0, point, FailpointAction::kill);
  board->life.advance();
  Process::End end;
  cr_assert(daemon.process().wait_until(base::Deadline::after_ns(kPatienceNs), end) && end == killed_by(SIGKILL), "%s: %s",
            point.c_str(), text_of(end).c_str());
  daemon.failpoints().disarm(0);
  daemon.start();
  if (b_waits_for_a) board->looked.await(1, "A has its answer");
  {
    const Client b(daemon, kTimeoutMs);
    cr_assert_eq(put_record(b, shape, kContestedKey, second), WARM_OK, "%s: B: %s", point.c_str(), warm_last_error());
  }
  board->looked.await(1, "A has its answer");
  daemon.restart();
  daemon.restart();
  uint32_t version = 0;
  {
    const Client b(daemon, kTimeoutMs);
    cr_assert_eq(put_record(b, kShape, 2, 1), WARM_OK);
    cr_assert_eq(check_record(b, shape, kContestedKey, &version), WARM_OK);
  }
  board->stop.store(true);
  end = a.wait();
  cr_assert(end == exit_code(0), "%s: A: %s, its put said %s", point.c_str(), text_of(end).c_str(),
            warm_error_name(answer->load()));
  end = watching.wait();
  cr_assert(end == exit_code(0), "%s: the observer: %s", point.c_str(), text_of(end).c_str());
  if (b_waits_for_a) cr_assert_eq(version, second, "%s: the older put came back", point.c_str());
  unsigned turns = 0;
  std::string seen;
  for (uint32_t i = 0; i < board->seen.load(); ++i) {
    seen += " " + std::to_string(board->versions[i].load());
    ++turns;
  }
  cr_assert_leq(turns, 2, "%s: the record was seen at versions%s", point.c_str(), seen.c_str());
  cr_assert_neq(version, 0);
}

}  // namespace

TestSuite(restart, .timeout = 600);

Test(restart, two_attached_readers_see_what_is_new_and_keep_what_they_hold_when_the_daemon_is_killed) {
  readers_outlive_daemons(true);
}
Test(restart, two_attached_readers_see_what_is_new_and_keep_what_they_hold_when_the_daemon_is_stopped) {
  readers_outlive_daemons(false);
}

namespace {

// Whether this kind of read has noticed that another store is served. Key 0 was in the old one, key 5 is in the new one.
using Notices = bool (*)(warm_client* client, const warm_view& held);
const Notices kReads[] = {
    [](warm_client* client, const warm_view&) {
      warm_view view = WARM_VIEW_INIT;
      const std::string id = record_id(0);
      const int code = warm_get(client, id.data(), id.size(), 0, &view);
      warm_release(client, &view);
      return code == WARM_E_NOT_FOUND;
    },
    [](warm_client* client, const warm_view&) { return check_record(client, kShape, 5) == WARM_OK; },
    [](warm_client* client, const warm_view&) {
      const std::string id = record_id(0);
      return warm_exists(client, id.data(), id.size()) == WARM_E_NOT_FOUND;
    },
    [](warm_client* client, const warm_view& held) {
      uint32_t state = 0;
      return warm_view_check(client, &held, &state) == WARM_E_STALE;
    },
    [](warm_client* client, const warm_view&) {
      uint64_t sequence = 0;
      return warm_sequence_get(client, &sequence) == WARM_OK && sequence == 1;
    },
    [](warm_client* client, const warm_view&) {
      uint64_t count = 0;
      return warm_count(client, nullptr, &count) == WARM_OK && count == 1;
    },
    [](warm_client* client, const warm_view& held) {
      warm_change change;
      char ids[WARM_ID_BYTES_MAX];
      size_t count = 0;
      return warm_changes(client, held.sequence, sizeof change, &change, 1, ids, sizeof ids, &count) == WARM_E_GONE;
    },
};

}  // namespace

Test(restart, readers_notice_that_a_stopped_daemon_was_replaced_by_one_of_another_store) {
  StoreOptions options;
  options.made_by_daemon = true;
  Daemon daemon(options);
  daemon.start();
  const std::string id = record_id(0);
  std::vector<std::unique_ptr<Client>> readers;
  std::vector<warm_view> held(std::size(kReads), warm_view WARM_VIEW_INIT);
  for (warm_view& view : held) {
    readers.push_back(std::make_unique<Client>(daemon, 500));
    // Two: the new store must not reach this sequence.
    if (readers.size() == 1) {
      cr_assert_eq(put_record(*readers[0], kShape, 1, 1), WARM_OK);
      cr_assert_eq(put_record(*readers[0], kShape, 0, 1), WARM_OK);
    }
    cr_assert_eq(warm_get(*readers.back(), id.data(), id.size(), 0, &view), WARM_OK);
  }
  cr_assert(daemon.stop() == exit_code(0));
  // Without a daemon they go on, however often they look for one.
  for (size_t i = 0; i < std::size(kReads); ++i) {
    cr_assert_eq(check_record(*readers[i], kShape, 0), WARM_OK);
    cr_assert(!kReads[i](*readers[i], held[i]), "read %zu", i);
  }
  uint64_t count = 0;
  cr_assert_eq(warm_count(*readers[0], nullptr, &count), WARM_OK, "%s", warm_last_error());
  cr_assert_eq(count, 2);
  cr_assert_eq(std::rename(daemon.store().c_str(), (daemon.directory() + "/old").c_str()), 0);
  daemon.start();
  cr_assert_eq(put_record(Client(daemon), kShape, 5, 1), WARM_OK);
  for (size_t i = 0; i < std::size(kReads); ++i) {
    const base::Deadline deadline = base::Deadline::after_ns(kPatienceNs);
    while (!kReads[i](*readers[i], held[i])) cr_assert(!deadline.passed(), "read %zu never noticed", i);
    cr_assert(mismatch(kShape, 0, held[i]) == nullptr, "the view is what it was");
    cr_assert_eq(warm_release(*readers[i], &held[i]), WARM_OK);
    cr_assert_eq(readers[i]->close(), WARM_OK);
  }
}

namespace {

constexpr uid_t kStranger = 54'321;

// Holds a view, is then turned away by the next daemon, and looks whether the view is what it was.
int turned_away(const Daemon& daemon, Board& board) {
  if (::setgroups(0, nullptr) != 0 || ::setgid(kStranger) != 0 || ::setuid(kStranger) != 0) return 1;
  if (::prctl(PR_SET_DUMPABLE, 1) != 0) return 2;  // /proc/self is ours again
  warm_client* client = nullptr;
  if (daemon.try_open(&client, kTimeoutMs) != WARM_OK) return 3;
  warm_view view = WARM_VIEW_INIT;
  const std::string id = record_id(0);
  if (warm_get(client, id.data(), id.size(), 0, &view) != WARM_OK) return 4;
  board.ready.advance();
  if (!board.life.wait_for(1, base::Deadline::after_ns(kPatienceNs))) return 5;
  if (put_record(client, kShape, 1, 1) != WARM_E_ACCESS) return 6;
  if (warm_exists(client, id.data(), id.size()) != WARM_E_ACCESS) return 7;
  board.looked.advance();
  if (!board.life.wait_for(2, base::Deadline::after_ns(kPatienceNs))) return 8;
  return mismatch(kShape, 0, view) == nullptr ? 0 : 9;
}

}  // namespace

Test(restart, who_has_lost_his_access_hears_so_and_nobody_waits_for_him, .disabled = ::geteuid() != 0) {
  constexpr uint64_t kSlots = 1024;
  StoreOptions options;
  options.capacity = kSlots;
  options.failpoints = false;  // their file is not the stranger's
  Daemon daemon(options);
  cr_assert_eq(::chmod(daemon.directory().c_str(), 0755), 0);
  std::ofstream(daemon.configuration_path()) << "[access.users]\n" << kStranger << " = \"write\"\n";
  daemon.start();
  const Client client(daemon);
  cr_assert_eq(put_record(client, kShape, 0, 1), WARM_OK);
  Shared<Board> board;
  Process stranger = Process::fork([&] { return turned_away(daemon, *board); });
  board->ready.await(1, "the stranger holds a view");
  std::ofstream(daemon.configuration_path()) << "";
  daemon.restart();
  cr_assert_eq(put_record(client, kShape, 0, 2), WARM_OK, "%s", warm_last_error());
  cr_assert_eq(stats_of(client).orphans, 1);
  board->life.advance();
  board->looked.await(1, "the stranger is turned away");
  await_stats(client, "the stranger's pins are known", [](const warm_stats& stats) { return stats.orphans == 0; });
  for (uint32_t version = 3; version < 3 * kSlots; ++version) {
    cr_assert_eq(put_record(client, kShape, 0, version), WARM_OK, "%s", warm_last_error());
  }
  board->life.advance();
  cr_assert(stranger.wait() == exit_code(0));
}

namespace {

// The way of a put through the daemon, in the order in which it goes.
const char* const kWayOfAPut[] = {"daemon.lane.seen",    "store.intent_cleared", "store.intent_filled", "store.intent_stored",
                                  "store.record_stored", "store.line_filled",    "store.put_stored",    "store.cell_stored",
                                  "store.feed_stored",   "daemon.result.before", "daemon.result.after", "daemon.done.after"};

}  // namespace

Test(restart, a_request_in_a_lane_is_answered_once_wherever_the_daemon_dies, .disabled = !failpoints_built()) {
  for (const char* point : kWayOfAPut) {
    for (const bool waits : {true, false}) answered_once(point, waits, false);
  }
}

Test(restart, a_request_on_the_socket_is_answered_once_wherever_the_daemon_dies, .disabled = !failpoints_built()) {
  for (const char* point : {"daemon.large.staged", "store.intent_stored", "store.put_stored", "store.cell_stored",
                            "daemon.result.before", "daemon.result.after", "daemon.socket_done.after"}) {
    for (const bool waits : {true, false}) answered_once(point, waits, true);
  }
}

// A condition that failed left no other trace than its answer: carried out again it could find another world.
Test(restart, an_answer_without_an_effect_is_not_asked_for_again, .disabled = !failpoints_built()) {
  Daemon daemon;
  daemon.start();
  Shared<Board> board;
  {
    const Client client(daemon, kTimeoutMs);
    cr_assert_eq(put_record(client, kShape, kContestedKey, 1), WARM_OK);
  }
  Process a = Process::fork([&] {
    warm_client* client = nullptr;
    if (daemon.try_open(&client, kTimeoutMs) != WARM_OK) return 1;
    const Record record(kShape, kContestedKey, 2);
    warm_memory memory = record.memory();
    memory.condition = WARM_IF_ABSENT;
    board->ready.advance();
    if (!board->life.wait_for(1, base::Deadline::after_ns(kPatienceNs))) return 2;
    if (warm_put(client, &memory, nullptr) != WARM_E_EXISTS) return 3;
    board->looked.advance();
    if (!board->life.wait_for(2, base::Deadline::after_ns(kPatienceNs))) return 4;
    // Now it comes back, and its lanes with it.
    return put_record(client, kShape, 1, 1) == WARM_OK ? 0 : 5;
  });
  board->ready.await(1, "A is attached");
  daemon.failpoints().arm(0, "daemon.result.after", FailpointAction::kill);
  board->life.advance();
  cr_assert(daemon.process().wait() == killed_by(SIGKILL));
  daemon.failpoints().disarm(0);
  board->looked.await(1, "A has its answer from the dead daemon");
  daemon.start();
  const Client b(daemon, kTimeoutMs);
  const std::string id = record_id(kContestedKey);
  cr_assert_eq(warm_remove(b, id.data(), id.size(), WARM_IF_ANY, 0, 0, nullptr), WARM_OK, "%s", warm_last_error());
  board->life.advance();
  const Process::End end = a.wait();
  cr_assert(end == exit_code(0), "A: %s", text_of(end).c_str());
  cr_assert_eq(warm_exists(b, id.data(), id.size()), WARM_E_NOT_FOUND, "the refused put was carried out");
}

// A remove once begun is finished, before anybody can look.
Test(restart, a_remove_once_begun_is_finished_by_the_next_daemon, .disabled = !failpoints_built()) {
  for (const char* point : {"store.intent_stored", "store.new_cell_removed", "store.cell_removed", "store.remove_feed_stored",
                            "store.dead_stored", "daemon.result.before"}) {
    Daemon daemon;
    daemon.start();
    Shared<Board> board;
    Process a = Process::fork([&] {
      warm_client* client = nullptr;
      if (daemon.try_open(&client, kTimeoutMs) != WARM_OK) return 1;
      if (put_record(client, kShape, kContestedKey, 1) != WARM_OK) return 2;
      board->ready.advance();
      if (!board->life.wait_for(1, base::Deadline::after_ns(kPatienceNs))) return 3;
      const std::string id = record_id(kContestedKey);
      const int code = warm_remove(client, id.data(), id.size(), WARM_IF_ANY, 0, 0, nullptr);
      return code == WARM_OK ? 0 : 10 - code;
    });
    board->ready.await(1, "A is attached");
    daemon.failpoints().arm(0, point, FailpointAction::kill);
    board->life.advance();
    cr_assert(daemon.process().wait() == killed_by(SIGKILL), "%s", point);
    daemon.failpoints().disarm(0);
    // A is stopped: the next daemon has only its own maps to go by.
    a.stop();
    daemon.start();
    {
      const Client b(daemon, kTimeoutMs);
      const std::string id = record_id(kContestedKey);
      cr_assert_eq(warm_exists(b, id.data(), id.size()), WARM_E_NOT_FOUND, "%s: a removed record is there", point);
    }
    a.resume();
    const Process::End end = a.wait();
    cr_assert(end == exit_code(0), "%s: A: %s", point, text_of(end).c_str());
  }
}

namespace {

// The way of a client that attaches, in the order in which it goes.
const char* const kWayOfAnOpen[] = {"daemon.handshake.hello",   "daemon.handshake.prepared", "daemon.entry.offered",
                                    "daemon.handshake.welcome", "daemon.handshake.accept",   "daemon.entry.accepted",
                                    "daemon.entry.live"};

}  // namespace

Test(restart, a_client_that_is_attaching_waits_for_the_next_daemon_wherever_this_one_dies, .disabled = !failpoints_built()) {
  Daemon daemon;
  daemon.start();
  for (const char* point : kWayOfAnOpen) {
    daemon.failpoints().arm(0, point, FailpointAction::kill);
    Process opener = Process::fork([&] {
      warm_client* client = nullptr;
      if (daemon.try_open(&client, kTimeoutMs) != WARM_OK) return 1;
      return put_record(client, kShape, kNewKey, 1) == WARM_OK ? 0 : 2;
    });
    cr_assert(daemon.process().wait() == killed_by(SIGKILL), "%s", point);
    daemon.failpoints().disarm(0);
    daemon.start();
    const Process::End end = opener.wait();
    cr_assert(end == exit_code(0), "%s: %s", point, text_of(end).c_str());
  }
}

Test(restart, a_client_that_is_attaching_waits_for_the_next_daemon_no_longer_than_its_deadline, .disabled = !failpoints_built()) {
  Daemon daemon;
  daemon.start();
  daemon.failpoints().arm(0, "daemon.handshake.welcome", FailpointAction::kill);
  warm_client* client = nullptr;
  const uint64_t from = base::monotonic_ns();
  cr_assert_eq(daemon.try_open(&client, 300), WARM_E_UNAVAILABLE);
  cr_assert_geq(base::monotonic_ns() - from, 300 * base::kNsPerMs);
  cr_assert_null(client);
  cr_assert(daemon.process().wait() == killed_by(SIGKILL));
  // And where nobody listens from the start nobody is waited for: this would never return.
  cr_assert_eq(daemon.try_open(&client, UINT32_MAX), WARM_E_UNAVAILABLE);
}
