// What a client's process does to itself, and what is done to it: forks, execs, stops, dies in every way. What it holds is held
// exactly as long as it should be, and everybody else goes on.
#include <criterion/criterion.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "layout/describe.hpp"
#include "layout/layout.hpp"
#include "libclient/handshake.hpp"
#include "tests/support/daemon.hpp"
#include "tests/support/records.hpp"
#include "tests/support/regions.hpp"

#ifndef SYS_process_mrelease
#define SYS_process_mrelease 448
#endif

using namespace warmtier::tests::support;
namespace base = warmtier::base;
namespace layout = warmtier::layout;
namespace libclient = warmtier::libclient;

namespace {

constexpr Shape kShape{.dimensions = 16, .content_bytes_max = 600};
constexpr uint32_t kTimeoutMs = 20'000;
constexpr uint64_t kCapacity = 1024;
constexpr uint32_t kHeld = 5;           // views of a victim, of the keys 0 ..
constexpr uint64_t kChurned = 1'000;    // a key that is replaced again and again
constexpr uint64_t kOwn = 2'000;        // keys of a victim's own puts from here on
constexpr uint64_t kSecondNs = base::kNsPerSecond;

struct Board {
  Steps ready;  // the victim is where the test wants it
  Steps go;
  Steps done;
  std::atomic<int> code{0};
  std::atomic<pid_t> pid{0};
  std::atomic<uint32_t> number{0};
};

base::Deadline patience() { return base::Deadline::after_ns(kPatienceNs); }

StoreOptions small() {
  StoreOptions options;
  options.capacity = kCapacity;
  options.checkpoint_interval_ms = 50;
  return options;
}

void put_held_keys(warm_client* client, uint32_t version) {
  for (uint64_t key = 0; key < kHeld; ++key)
    cr_assert_eq(put_record(client, kShape, key, version), WARM_OK, "%s", warm_last_error());
}

using Views = std::array<warm_view, kHeld>;
bool hold(warm_client* client, Views& views) {
  for (uint64_t key = 0; key < kHeld; ++key) {
    views[key] = WARM_VIEW_INIT;
    const std::string id = record_id(key);
    if (warm_get(client, id.data(), id.size(), 0, &views[key]) != WARM_OK) return false;
  }
  return true;
}
bool hold_what_they_held(const Views& views) {
  for (uint64_t key = 0; key < kHeld; ++key) {
    if (mismatch(kShape, key, views[key]) != nullptr || version_of(views[key]) != 1) return false;
  }
  return true;
}
bool release(warm_client* client, Views& views) {
  return std::ranges::all_of(views, [&](warm_view& view) { return warm_release(client, &view) == WARM_OK; });
}

// Every slot is used again, but those that are held.
void churn(warm_client* client, uint64_t puts = 2 * kCapacity) {
  static uint32_t version = 0;
  for (uint64_t i = 0; i < puts; ++i)
    cr_assert_eq(put_record(client, kShape, kChurned, ++version), WARM_OK, "%s", warm_last_error());
}

uint64_t descriptors_of(pid_t pid) {
  uint64_t count = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator("/proc/" + std::to_string(pid) + "/fd")) ++count;
  return count;
}

bool status_says(pid_t pid, const std::string& line) {
  std::ifstream file("/proc/" + std::to_string(pid) + "/status");
  for (std::string one; std::getline(file, one);) {
    if (one == line) return true;
  }
  return false;
}

// A pipe that holds a process until the test lets go of it, or dies.
struct Leash {
  base::Fd held;   // the process reads it to its end
  base::Fd holds;  // the test's
  Leash() {
    int ends[2];
    cr_assert_eq(::pipe(ends), 0);
    held.reset(ends[0]);
    holds.reset(ends[1]);
    ::fcntl(holds.get(), F_SETFD, FD_CLOEXEC);
  }
  // In the process. Never returns before.
  void wait() {
    holds.reset();
    char byte = 0;
    while (::read(held.get(), &byte, 1) > 0) {
    }
  }
};

}  // namespace

TestSuite(clients, .timeout = 120);

// ---- forks and execs ----------------------------------------------------------------------------------------------------------

namespace {

enum class Heir { fork, exec, exec_with_descriptors };

// The heir of a victim has its socket and its other descriptors, and lives on.
void killed_while_an_heir_lives(Heir kind) {
  Daemon daemon(small());
  daemon.start();
  const Client client(daemon, kTimeoutMs);
  put_held_keys(client, 1);
  Shared<Board> board;
  Leash leash;
  Process victim = Process::fork([&] {
    warm_client* own = nullptr;
    Views views;
    if (daemon.try_open(&own, kTimeoutMs) != WARM_OK || !hold(own, views)) return 1;
    if (kind == Heir::exec_with_descriptors) {
      for (int fd = 3; fd < 64; ++fd) {
        if (fd != leash.holds.get()) ::fcntl(fd, F_SETFD, 0);
      }
    }
    const pid_t heir = ::fork();
    if (heir != 0) {
      board->pid.store(heir);
      board->ready.advance();
      for (;;) ::pause();
    }
    if (kind != Heir::fork) {
      ::dup2(leash.held.get(), 0);
      ::execl("/bin/cat", "cat", nullptr);
      ::_exit(127);
    }
    // Not only alive: it is a client of its own, and its parent's views are nothing to it.
    if (!board->go.wait_for(1, patience())) ::_exit(2);
    uint32_t state = 99;
    int code = warm_view_check(own, views.data(), &state) == WARM_E_STALE ? 0 : 3;
    if (code == 0 && put_record(own, kShape, kOwn, 1) != WARM_OK) code = 4;
    board->code.store(code);
    board->done.advance();
    leash.wait();
    ::_exit(0);
  });
  board->ready.await(1, "the victim has an heir");
  const base::Fd heir(static_cast<int>(::syscall(SYS_pidfd_open, board->pid.load(), 0)));
  cr_assert(static_cast<bool>(heir));
  if (kind != Heir::fork) {
    const std::string program = "/proc/" + std::to_string(board->pid.load()) + "/exe";
    const base::Deadline deadline = patience();
    while (std::filesystem::read_symlink(program).string().find("/cat") == std::string::npos) cr_assert(!deadline.passed());
  }
  put_held_keys(client, 2);
  churn(client);
  cr_assert_eq(stats_of(client).slots_held, kHeld);
  const uint64_t killed_ns = base::monotonic_ns();
  victim.kill();
  await_stats(client, "the pins are void", [](const warm_stats& stats) { return stats.pins_voided == kHeld; });
  cr_assert_leq(base::monotonic_ns() - killed_ns, kSecondNs, "the pins of a dead process held for %f s",
                static_cast<double>(base::monotonic_ns() - killed_ns) / 1e9);
  cr_assert_eq(::syscall(SYS_pidfd_send_signal, heir.get(), 0, nullptr, 0), 0, "the heir lives");
  churn(client);
  await_stats(client, "no slot is held", [](const warm_stats& stats) { return stats.slots_held == 0; });
  if (kind == Heir::fork) {
    board->go.advance();
    board->done.await(1, "the heir has looked");
    cr_assert_eq(board->code.load(), 0);
    cr_assert_eq(stats_of(client).sessions, 2);
  }
  leash.holds.reset();
}

}  // namespace

Test(clients, pins_of_a_killed_process_are_void_within_a_second_though_its_forked_child_lives) {
  killed_while_an_heir_lives(Heir::fork);
}
Test(clients, pins_of_a_killed_process_are_void_within_a_second_though_a_program_that_it_started_lives) {
  killed_while_an_heir_lives(Heir::exec);
}
Test(clients, pins_of_a_killed_process_are_void_within_a_second_though_a_program_has_its_descriptors) {
  killed_while_an_heir_lives(Heir::exec_with_descriptors);
}

// Its session is that of the process, which is the same one; nobody can read in its views any more, and they end with it.
Test(clients, pins_of_a_process_that_executes_another_program_hold_until_it_ends_and_no_longer) {
  Daemon daemon(small());
  daemon.start();
  const Client client(daemon, kTimeoutMs);
  put_held_keys(client, 1);
  Leash leash;
  Process victim = Process::fork([&] {
    warm_client* own = nullptr;
    Views views;
    if (daemon.try_open(&own, kTimeoutMs) != WARM_OK || !hold(own, views)) return 1;
    ::dup2(leash.held.get(), 0);
    ::execl("/bin/cat", "cat", nullptr);
    return 127;
  });
  const std::string program = "/proc/" + std::to_string(victim.pid()) + "/exe";
  const base::Deadline deadline = patience();
  while (std::filesystem::read_symlink(program).string().find("/cat") == std::string::npos) cr_assert(!deadline.passed());
  put_held_keys(client, 2);
  churn(client);
  cr_assert_eq(stats_of(client).slots_held, kHeld);
  cr_assert_eq(stats_of(client).sessions, 2);
  leash.holds.reset();
  cr_assert(victim.wait() == exit_code(0));
  await_stats(client, "the session ends with the process",
              [](const warm_stats& stats) { return stats.pins_voided == kHeld && stats.sessions == 1; });
  churn(client);
  cr_assert_eq(stats_of(client).slots_held, 0);
}

namespace {

// In a child of whatever kind: its parent's views mean nothing to it, and it is a client of its own.
int child_is_another_client(warm_client* client, Views& views, uint64_t key) {
  uint32_t state = 99;
  if (warm_view_check(client, views.data(), &state) != WARM_E_STALE || state != 99) return 11;
  warm_view copy = views[0];
  if (warm_release(client, &copy) != WARM_OK) return 12;
  if (put_record(client, kShape, key, 1) != WARM_OK) return 13;
  if (check_record(client, kShape, key) != WARM_OK) return 14;
  return warm_close(client) == WARM_OK ? 0 : 15;
}

int wait_for_child(pid_t child) {
  int status = 0;
  if (::waitpid(child, &status, 0) != child) return -1;
  return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

}  // namespace

Test(clients, a_process_that_becomes_a_daemon_is_another_client) {
  Daemon daemon(small());
  daemon.start();
  const Client client(daemon, kTimeoutMs);
  put_held_keys(client, 1);
  Shared<Board> board;
  Process victim = Process::fork([&] {
    warm_client* own = nullptr;
    Views views;
    if (daemon.try_open(&own, kTimeoutMs) != WARM_OK || !hold(own, views)) return 1;
    if (::daemon(0, 0) != 0) return 2;
    board->code.store(child_is_another_client(own, views, kOwn));
    board->done.advance();
    return 0;
  });
  cr_assert(victim.wait() == exit_code(0));
  board->done.await(1, "the daemon has worked");
  cr_assert_eq(board->code.load(), 0);
  cr_assert_eq(check_record(client, kShape, kOwn), WARM_OK);
  await_stats(client, "both sessions end",
              [](const warm_stats& stats) { return stats.pins_voided == kHeld && stats.sessions == 1; });
}

namespace {

// Makes children in every way that there is, and goes on as if nothing had been.
int parent_of_all_kinds(const Daemon& daemon, Board& board) {
  warm_client* client = nullptr;
  Views views;
  if (daemon.try_open(&client, kTimeoutMs) != WARM_OK || !hold(client, views)) return 1;
  warm_info info = WARM_INFO_INIT;
  if (warm_info_get(client, &info) != WARM_OK) return 2;
  const uint64_t session = info.session;

  if (const pid_t child = ::_Fork(); child == 0) {
    ::_exit(child_is_another_client(client, views, kOwn));
  } else if (const int code = wait_for_child(child); code != 0) {
    return 100 + code;
  }
  // Without glibc's knowledge it has no robust list: its death in a lane would go unseen, so it is refused.
  if (const auto child = static_cast<pid_t>(::syscall(SYS_clone, SIGCHLD, nullptr, nullptr, nullptr, nullptr)); child == 0) {
    uint32_t state = 99;
    int code = 0;
    const std::string id = record_id(0);
    if (put_record(client, kShape, kOwn + 1, 1) != WARM_E_UNSUPPORTED) code = 1;
    if (std::strstr(warm_last_error(), "robust list") == nullptr) code = 2;
    if (warm_exists(client, id.data(), id.size()) != WARM_E_UNSUPPORTED) code = 3;
    if (warm_view_check(client, views.data(), &state) == WARM_OK) code = 4;
    if (warm_close(client) != WARM_OK) code = 5;
    ::_exit(code);
  } else if (const int code = wait_for_child(child); code != 0) {
    return 120 + code;
  }
  // It has its parent's memory until it executes or ends. It must not call.
  // NOLINTBEGIN(bugprone-unsafe-functions,clang-analyzer-security.insecureAPI.vfork): what is tested
  if (const pid_t child = ::vfork(); child == 0) {
    ::_exit(0);
  } else if (wait_for_child(child) != 0) {
    return 3;
  }
  if (const pid_t child = ::vfork(); child == 0) {
    ::execl("/bin/true", "true", nullptr);
    ::_exit(127);
  } else if (wait_for_child(child) != 0) {
    return 4;
  }
  // NOLINTEND(bugprone-unsafe-functions,clang-analyzer-security.insecureAPI.vfork)
  pid_t spawned = 0;
  char name[] = "true";
  char* arguments[] = {name, nullptr};
  if (::posix_spawn(&spawned, "/bin/true", nullptr, nullptr, arguments, environ) != 0 || wait_for_child(spawned) != 0) return 5;

  // The others' turn: every slot is used again but those that the views hold.
  board.ready.advance();
  if (!board.go.wait_for(1, patience())) return 6;
  if (!hold_what_they_held(views)) return 7;
  if (warm_info_get(client, &info) != WARM_OK || info.session != session) return 8;
  if (put_record(client, kShape, kOwn + 2, 1) != WARM_OK) return 9;
  uint32_t state = 99;
  if (warm_view_check(client, views.data(), &state) != WARM_OK || state != WARM_VIEW_REPLACED) return 10;
  return release(client, views) && warm_close(client) == WARM_OK ? 0 : 11;
}

}  // namespace

Test(clients, children_of_every_kind_leave_their_parents_views_and_session_as_they_are) {
  Daemon daemon(small());
  daemon.start();
  const Client client(daemon, kTimeoutMs);
  put_held_keys(client, 1);
  Shared<Board> board;
  Process parent = Process::fork([&] { return parent_of_all_kinds(daemon, *board); });
  while (!board->ready.wait_for(1, base::Deadline::after_ns(10 * base::kNsPerMs))) {
    Process::End end;
    cr_assert(!parent.wait_until(base::Deadline::after_ns(0), end), "the parent: %s", text_of(end).c_str());
  }
  put_held_keys(client, 2);
  churn(client);
  cr_assert_eq(stats_of(client).slots_held, kHeld);
  board->go.advance();
  const Process::End end = parent.wait();
  cr_assert(end == exit_code(0), "the parent: %s", text_of(end).c_str());
  cr_assert_eq(check_record(client, kShape, kOwn), WARM_OK);
  cr_assert_eq(check_record(client, kShape, kOwn + 1), WARM_E_NOT_FOUND);
  await_stats(client, "no session is left over", [](const warm_stats& stats) { return stats.sessions == 1; });
}

// ---- stopped ------------------------------------------------------------------------------------------------------------------

namespace {

// A victim with views, and as many threads as there are lanes, each of which stops in the midst of a claim.
int stopped_in_every_lane(const Daemon& daemon, Board& board) {
  warm_client* client = nullptr;
  Views views;
  if (daemon.try_open(&client, 60'000) != WARM_OK || !hold(client, views)) return 1;
  const auto lanes = static_cast<uint32_t>(own_lanes().size());
  board.number.store(lanes);
  board.ready.advance();
  if (!board.go.wait_for(1, patience())) return 2;
  std::atomic<uint32_t> put{0};
  std::vector<std::thread> threads;
  const auto put_own = [&](uint64_t i) {
    if (put_record(client, kShape, kOwn + i, 1) == WARM_OK) put.fetch_add(1);
  };
  for (uint32_t i = 0; i + 1 < lanes; ++i) threads.emplace_back(put_own, i);
  if (!board.go.wait_for(2, patience())) return 3;
  threads.emplace_back(put_own, lanes - 1);
  for (std::thread& thread : threads) thread.join();
  if (put.load() != lanes) return 4;
  if (!hold_what_they_held(views) || !release(client, views)) return 5;
  board.done.advance();
  if (!board.go.wait_for(3, patience())) return 6;
  return warm_close(client) == WARM_OK ? 0 : 7;
}

void stopped_and(bool killed) {
  Daemon daemon(small());
  daemon.start();
  const Client client(daemon, kTimeoutMs);
  put_held_keys(client, 1);
  Shared<Board> board;
  Process victim = Process::fork([&] { return stopped_in_every_lane(daemon, *board); });
  board->ready.await(1, "the victim holds its views");
  const uint32_t lanes = board->number.load();
  daemon.failpoints().arm(0, "client.lane_locked", FailpointAction::pause, 0, victim.pid());
  board->go.advance();
  daemon.failpoints().await_arrived(0, lanes - 1);
  victim.stop();

  // One lane is left. Everybody goes on for longer than a lane may be busy before it is doubted, and but for what the views
  // show nothing is kept.
  put_held_keys(client, 2);
  for (const uint64_t begun_ns = base::monotonic_ns(); base::monotonic_ns() - begun_ns < kSecondNs * 5 / 4;) churn(client, 64);
  churn(client);
  cr_assert_eq(stats_of(client).slots_held, kHeld);
  cr_assert_eq(stats_of(client).lanes_fenced, 0, "a stopped process is not a dead one");

  // None is left.
  victim.resume();
  board->go.advance();
  daemon.failpoints().await_arrived(0, lanes);
  victim.stop();
  {
    constexpr uint32_t kShortMs = 400;
    const Client hasty(daemon, kShortMs);
    for (const uint64_t begun_ns = base::monotonic_ns(); base::monotonic_ns() - begun_ns < kSecondNs * 5 / 4;) {
      const uint64_t from_ns = base::monotonic_ns();
      cr_assert_eq(put_record(hasty, kShape, kChurned, 1), WARM_E_BUSY, "%s", warm_last_error());
      const uint64_t took_ns = base::monotonic_ns() - from_ns;
      cr_assert_geq(took_ns, kShortMs * base::kNsPerMs);
      cr_assert_leq(took_ns, kShortMs * base::kNsPerMs + kSecondNs, "the deadline was %u ms", kShortMs);
      cr_assert_eq(check_record(hasty, kShape, 0), WARM_OK, "reads need no lane");
    }
    // Content beyond a lane goes by the socket.
    const Shape big{.dimensions = 16, .content_bytes_max = 600'000};
    cr_assert_eq(put_record(Client(daemon, kTimeoutMs), big, 16, 1), WARM_OK, "%s", warm_last_error());
  }
  cr_assert_eq(stats_of(client).lanes_fenced, 0);

  if (killed) {
    victim.kill();
    daemon.failpoints().disarm(0);
    await_stats(client, "the pins are void", [](const warm_stats& stats) { return stats.pins_voided == kHeld; });
    churn(client);
    for (uint32_t i = 0; i < lanes; ++i) cr_assert_eq(check_record(client, kShape, kOwn + i), WARM_E_NOT_FOUND);
    cr_assert_geq(stats_of(client).lane_repairs, 1);
  } else {
    victim.resume();
    daemon.failpoints().disarm_and_release(0);
    board->done.await(1, "the victim's puts are answered");
    for (uint32_t i = 0; i < lanes; ++i) cr_assert_eq(check_record(client, kShape, kOwn + i), WARM_OK);
    cr_assert_eq(stats_of(client).lane_repairs, 0);
  }
  churn(client);
  await_stats(client, "no slot is held", [](const warm_stats& stats) { return stats.slots_held == 0; });
  cr_assert_eq(stats_of(client).lanes_fenced, 0);
  if (killed) return;
  board->go.advance();
  cr_assert(victim.wait() == exit_code(0));
}

}  // namespace

Test(clients, a_process_stopped_with_lanes_and_views_keeps_those_and_nothing_else_until_it_goes_on,
     .disabled = !failpoints_built()) {
  stopped_and(false);
}
Test(clients, a_process_stopped_with_lanes_and_views_keeps_those_and_nothing_else_until_it_is_killed,
     .disabled = !failpoints_built()) {
  stopped_and(true);
}

// ---- gone in the midst of it --------------------------------------------------------------------------------------------------

namespace {

// Connects and vanishes, after as much of a beginning as `manner` says.
int vanish(const Daemon& daemon, unsigned manner) {
  const auto deadline = patience();
  if (manner == 3) {
    warm_client* client = nullptr;
    Views views;
    if (daemon.try_open(&client, kTimeoutMs) != WARM_OK || !hold(client, views)) return 1;
    ::kill(::getpid(), SIGKILL);
  }
  auto socket = libclient::connect_to(daemon.socket(), deadline);
  if (!socket) return 2;
  if (manner == 0) return 0;
  if (manner == 1) {
    layout::Hello hello{};
    hello.header = {.kind = static_cast<uint32_t>(layout::MessageKind::hello), .bytes = sizeof hello};
    hello.protocol_version = layout::kProtocolVersion;
    struct stat pid_namespace{};
    if (::stat("/proc/self/ns/pid", &pid_namespace) != 0) return 5;
    hello.namespace_device = pid_namespace.st_dev;
    hello.namespace_inode = pid_namespace.st_ino;
    const auto fingerprints = layout::fingerprints();
    std::copy(fingerprints.begin(), fingerprints.end(), hello.fingerprints);
    return ::send(socket->get(), &hello, sizeof hello, MSG_NOSIGNAL) == static_cast<ssize_t>(sizeof hello) ? 0 : 3;
  }
  auto greeting = libclient::greet(std::move(*socket), daemon.socket(), std::nullopt, deadline);
  return greeting && libclient::send_accept(greeting->socket.get(), {}, deadline) ? 0 : 4;
}

}  // namespace

Test(clients, two_hundred_that_connect_and_vanish_leave_nothing_behind) {
  constexpr unsigned kVanishing = 200;
  constexpr unsigned kAtOnce = 20;
  Daemon daemon(small());
  daemon.start();
  const Client client(daemon, kTimeoutMs);
  put_held_keys(client, 1);
  const warm_stats before = stats_of(client);
  // Whoever answers this has closed its copies of what it has handed out.
  size_t sessions = 0;
  cr_assert_eq(warm_sessions(client, sizeof(warm_session), nullptr, 0, &sessions), WARM_OK);
  const uint64_t descriptors = descriptors_of(daemon.pid());
  for (unsigned wave = 0; wave < kVanishing / kAtOnce; ++wave) {
    std::vector<Process> processes;
    for (unsigned i = 0; i < kAtOnce; ++i) processes.push_back(Process::fork([&daemon, i] { return vanish(daemon, i % 4); }));
    churn(client, 50);
    for (unsigned i = 0; i < kAtOnce; ++i) {
      const Process::End end = processes[i].wait();
      cr_assert(end == (i % 4 == 3 ? killed_by(SIGKILL) : exit_code(0)), "%s", text_of(end).c_str());
    }
  }
  const warm_stats after = await_stats(client, "all sessions end", [&](const warm_stats& stats) {
    return stats.sessions == before.sessions && stats.pins_voided == uint64_t{kVanishing} / 4 * kHeld;
  });
  cr_assert_eq(after.channels, before.channels);
  cr_assert_eq(after.bad_requests, 0);
  const base::Deadline deadline = patience();
  while (descriptors_of(daemon.pid()) != descriptors)
    cr_assert(!deadline.passed(), "%lu descriptors before, %lu after", descriptors, descriptors_of(daemon.pid()));
  put_held_keys(client, 2);
  churn(client);
  cr_assert_eq(stats_of(client).slots_held, 0);
}

// A program that loads the library by name, and unloads it with everything open.
Test(clients, a_library_that_is_unloaded_with_things_open_stays_and_they_with_it) {
  Daemon daemon(small());
  daemon.start();
  const Client client(daemon, kTimeoutMs);
  put_held_keys(client, 1);
  const std::string log = daemon.directory() + "/unload.log";
  const std::string id = record_id(0);
  const Process::End end =
      Process::execute({program_path("UNLOADS_LIBRARY", UNLOADS_LIBRARY), WARMTIER_LIBRARY, daemon.socket(), id}, {}, log).wait();
  std::ifstream file(log);
  const std::string said((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  cr_assert(end == exit_code(0), "%s: %s", text_of(end).c_str(), said.c_str());
  await_stats(client, "its session ends", [](const warm_stats& stats) { return stats.sessions == 1; });
}

namespace {

// On a stack that nobody else gets afterwards: who ends it tidies nothing up.
class LostThread {
 public:
  explicit LostThread(std::function<void()> body) : body_(std::move(body)) {
    constexpr size_t kStackBytes = size_t{1} << 20;
    void* stack = ::mmap(nullptr, kStackBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
    pthread_attr_t attributes;
    if (stack == MAP_FAILED || ::pthread_attr_init(&attributes) != 0 ||
        ::pthread_attr_setstack(&attributes, stack, kStackBytes) != 0 ||
        ::pthread_create(&thread_, &attributes, &LostThread::run, this) != 0) {
      ::_exit(99);
    }
  }
  void join() { ::pthread_join(thread_, nullptr); }

 private:
  static void* run(void* self) {
    static_cast<LostThread*>(self)->body_();
    return nullptr;
  }
  std::function<void()> body_;
  pthread_t thread_{};
};

void end_this_thread(int) { ::syscall(SYS_exit, 0); }

// A thread ends where it stands, as by a signal's handler: in a claim, and in the midst of a read.
int loses_threads(const Daemon& daemon, Board& board) {
  struct sigaction ends{};
  ends.sa_handler = end_this_thread;
  ::sigaction(SIGUSR1, &ends, nullptr);
  warm_client* client = nullptr;
  if (daemon.try_open(&client, kTimeoutMs) != WARM_OK) return 1;
  for (uint64_t round = 0; round < 2; ++round) {
    std::atomic<pid_t> tid{0};
    LostThread thread([&] {
      pin_to_processor(0);
      tid.store(::gettid());
      if (!board.go.wait_for(static_cast<uint32_t>(round) + 1, patience())) return;
      if (round == 0) {
        put_record(client, kShape, kOwn, 1);
      } else {
        check_record(client, kShape, 0);
      }
    });
    while (tid.load() == 0) std::this_thread::yield();
    board.pid.store(tid.load());
    board.ready.advance();
    if (!board.done.wait_for(static_cast<uint32_t>(round) + 1, patience())) return 2;
    thread.join();
    pin_to_processor(0);
    for (uint32_t version = 1; version <= 20; ++version) {
      if (put_record(client, kShape, kOwn + 1, version) != WARM_OK) return 3;
      if (check_record(client, kShape, kOwn + 1) != WARM_OK) return 4;
    }
    if (check_record(client, kShape, kOwn) != WARM_E_NOT_FOUND) return 5;
  }
  return warm_close(client) == WARM_OK ? 0 : 6;
}

}  // namespace

Test(clients, a_process_whose_threads_end_inside_a_claim_or_a_read_goes_on, .disabled = !failpoints_built()) {
  Daemon daemon(small());
  daemon.start();
  const Client client(daemon, kTimeoutMs);
  put_held_keys(client, 1);
  Shared<Board> board;
  Process victim = Process::fork([&] { return loses_threads(daemon, *board); });
  uint32_t round = 0;
  for (const char* point : {"client.lane_holder_named", "client.pin_stored"}) {
    board->ready.await(++round, "the thread is there");
    const pid_t tid = board->pid.load();
    daemon.failpoints().arm(0, point, FailpointAction::pause, 0, tid);
    board->go.advance();
    daemon.failpoints().await_arrived(0);
    daemon.failpoints().disarm(0);
    cr_assert_eq(::syscall(SYS_tgkill, victim.pid(), tid, SIGUSR1), 0);
    board->done.advance();
  }
  const Process::End end = victim.wait();
  cr_assert(end == exit_code(0), "%s", text_of(end).c_str());
  const warm_stats stats = await_stats(client, "the session ends", [](const warm_stats& s) { return s.sessions == 1; });
  cr_assert_eq(stats.lane_repairs, 1);
  cr_assert_eq(stats.lanes_fenced, 0);
  cr_assert_eq(stats.pins_voided, 1, "the pin of the thread that ended");
}

namespace {

// Pinned to one processor, so that its first lane is the one that the others come to.
int dies_in_a_claim(const Daemon& daemon, Board& board, bool with_core) {
  pin_to_processor(0);
  warm_client* client = nullptr;
  Views views;
  if (daemon.try_open(&client, kTimeoutMs) != WARM_OK || !hold(client, views)) return 1;
  std::vector<std::byte> ballast;
  if (with_core) {
    ::signal(SIGQUIT, SIG_DFL);  // ignored in what a shell began in the background
    // Long enough in its writing to be seen.
    const rlimit unlimited{.rlim_cur = RLIM_INFINITY, .rlim_max = RLIM_INFINITY};
    if (::setrlimit(RLIMIT_CORE, &unlimited) != 0 || ::chdir(daemon.directory().c_str()) != 0) return 2;
    ballast.resize(size_t{192} << 20, std::byte{0x5A});
  }
  board.ready.advance();
  if (!board.go.wait_for(1, patience())) return 3;
  put_record(client, kShape, kOwn, 1);
  return static_cast<int>(ballast.size() % 2) + 4;
}

// One victim that holds views and a lane. `end` makes it die.
template <typename End>
void die_in_a_claim(Daemon& daemon, warm_client* client, bool with_core, uint64_t deaths, End&& end) {
  put_held_keys(client, 1);
  Shared<Board> board;
  Process victim = Process::fork([&] { return dies_in_a_claim(daemon, *board, with_core); });
  board->ready.await(1, "the victim holds its views");
  daemon.failpoints().arm(0, "client.lane_holder_named", FailpointAction::pause, 0, victim.pid());
  board->go.advance();
  daemon.failpoints().await_arrived(0);
  daemon.failpoints().disarm(0);
  put_held_keys(client, 2);
  end(victim);
  await_stats(client, "the pins are void", [&](const warm_stats& stats) { return stats.pins_voided == deaths * kHeld; });
  // The lane is repaired by who comes to it; or it is fenced, because the kernel never said that its owner died.
  const base::Deadline deadline = patience();
  uint64_t last = 0;
  for (uint32_t version = 1;; ++version) {
    uint64_t sequence = 0;
    cr_assert_eq(put_record(client, kShape, kChurned, version, &sequence), WARM_OK, "%s", warm_last_error());
    cr_assert_gt(sequence, last);
    last = sequence;
    uint32_t seen = 0;
    cr_assert_eq(check_record(client, kShape, kChurned, &seen), WARM_OK);
    cr_assert_eq(seen, version);
    const warm_stats stats = stats_of(client);
    cr_assert_leq(stats.lane_repairs + stats.lanes_fenced, deaths);
    if (stats.lane_repairs + stats.lanes_fenced == deaths) break;
    cr_assert(!deadline.passed(), "the lane of a dead process is neither repaired nor fenced");
  }
  cr_assert_eq(check_record(client, kShape, kOwn), WARM_E_NOT_FOUND, "a request without its commit word is none");
  churn(client);
  await_stats(client, "no slot is held", [](const warm_stats& stats) { return stats.slots_held == 0; });
}

}  // namespace

// The kernel takes its memory apart before it looks which mutexes it held, as the OOM killer does.
Test(clients, a_process_whose_memory_is_released_at_its_death_leaves_a_lane_that_is_repaired_or_fenced,
     .disabled = !failpoints_built()) {
  constexpr uint64_t kDeaths = 4;
  Daemon daemon(small());
  daemon.start();
  pin_to_processor(0);
  const Client client(daemon, kTimeoutMs);
  for (uint64_t death = 1; death <= kDeaths; ++death) {
    die_in_a_claim(daemon, client, false, death, [&](Process& victim) {
      victim.signal(SIGKILL);
      const long released = ::syscall(SYS_process_mrelease, victim.pidfd(), 0);
      cr_assert(released == 0 || errno == ESRCH || errno == EAGAIN, "process_mrelease: %s", std::strerror(errno));
      cr_assert(victim.wait() == killed_by(SIGKILL));
    });
  }
}

// As long as it is written out it is not dead: what it holds is held, and nobody waits for it.
Test(clients, a_process_that_dumps_core_holds_what_it_holds_until_that_is_over, .disabled = !failpoints_built()) {
  Daemon daemon(small());
  daemon.start();
  pin_to_processor(0);
  const Client client(daemon, kTimeoutMs);
  std::string pattern;
  std::getline(std::ifstream("/proc/sys/kernel/core_pattern"), pattern);
  // Where cores go to a program or elsewhere it may be over before anybody looks.
  const bool written_here = pattern.find('/') == std::string::npos;
  bool seen = false;
  uint64_t deaths = 0;
  while (!seen && deaths < 5) {
    die_in_a_claim(daemon, client, true, ++deaths, [&](Process& victim) {
      victim.signal(SIGQUIT);
      Process::End end;
      while (!victim.wait_until(base::Deadline::after_ns(0), end)) {
        if (!status_says(victim.pid(), "CoreDumping:\t1")) continue;
        churn(client, 200);
        const warm_stats stats = stats_of(client);
        cr_assert_eq(stats.lanes_fenced, 0);
        if (!status_says(victim.pid(), "CoreDumping:\t1")) continue;
        cr_assert_eq(stats.pins_voided, (deaths - 1) * kHeld);
        cr_assert_eq(stats.sessions, 2);
        seen = true;
      }
      cr_assert(end == killed_by(SIGQUIT), "%s", text_of(end).c_str());
    });
    for (const auto& entry : std::filesystem::directory_iterator(daemon.directory())) {
      if (entry.path().filename().string().starts_with("core")) std::filesystem::remove(entry.path());
    }
  }
  cr_assert(seen || !written_here, "no core was seen being written");
}

// ---- Fenced channels
// -----------------------------------------------------------------------------------------------------------

namespace {

std::vector<warm_session> sessions_of(warm_client* client, pid_t pid) {
  std::vector<warm_session> all(64);
  size_t count = 0;
  if (warm_sessions(client, sizeof all[0], all.data(), all.size(), &count) != WARM_OK) return {};
  all.resize(std::min(count, all.size()));
  std::erase_if(all, [&](const warm_session& session) { return static_cast<pid_t>(session.pid) != pid; });
  return all;
}

// Waits until the process has so many sessions.
std::vector<warm_session> await_sessions_of(warm_client* client, pid_t pid, size_t count) {
  for (const base::Deadline deadline = patience();;) {
    auto sessions = sessions_of(client, pid);
    if (sessions.size() == count) return sessions;
    cr_assert(!deadline.passed(), "process %d has %zu sessions instead of %zu", pid, sessions.size(), count);
  }
}

uint32_t check_of(warm_client* client, const warm_view& view) {
  uint32_t state = 99;
  cr_assert_eq(warm_view_check(client, &view, &state), WARM_OK, "%s", warm_last_error());
  return state;
}

// A record that is put only if it was not put before.
struct Once {
  explicit Once(uint64_t key) : id(record_id(key)) {
    memory.id = id.data();
    memory.id_bytes = id.size();
    memory.embedding = embedding;
    memory.dimensions = 16;
    memory.condition = WARM_IF_ABSENT;
  }
  const std::string id;
  const float embedding[16] = {1};
  warm_memory memory = WARM_MEMORY_INIT;
};
int put_once(warm_client* client, uint64_t key) {
  const Once once(key);
  return warm_put(client, &once.memory, nullptr);
}
warm_ticket submit_once(warm_client* client, uint64_t key) {
  const Once once(key);
  warm_ticket ticket = 0;
  cr_assert_eq(warm_put_submit(client, &once.memory, &ticket), WARM_OK, "%s", warm_last_error());
  return ticket;
}
void harvest(warm_client* client, warm_ticket ticket) {
  warm_result result{};
  cr_assert_eq(warm_ticket_wait(client, ticket, kTimeoutMs, &result), WARM_OK, "%s", warm_last_error());
  cr_assert_eq(result.code, WARM_OK, "a ticket that was open ends with %s", warm_error_name(result.code));
  cr_assert_eq(warm_ticket_poll(client, ticket, &result), WARM_E_INVALID, "it was harvested");
}

}  // namespace

// Half of its lanes, then all: its session moves to another channel by itself, and what it had in the old one stays until it
// gives it back.
Test(clients, a_client_whose_channel_is_fenced_moves_to_another_and_loses_nothing) {
  Daemon daemon(small());
  daemon.start();
  const Client observer(daemon, kTimeoutMs);
  put_held_keys(observer, 1);
  uint64_t puts = stats_of(observer).puts;
  pin_to_processor(0);
  Shared<Board> board;
  // A neighbour in the same channel moves by itself, when it comes to it.
  Process neighbour = Process::fork([&] {
    warm_client* own = nullptr;
    if (daemon.try_open(&own, kTimeoutMs) != WARM_OK || put_once(own, kOwn + 500) != WARM_OK) return 1;
    board->ready.advance();
    if (!board->go.wait_for(1, patience())) return 2;
    if (put_once(own, kOwn + 501) != WARM_OK) return 3;
    board->done.advance();
    // It must not be awaited after the restart.
    return board->go.wait_for(2, patience()) && warm_close(own) == WARM_OK ? 0 : 4;
  });
  board->ready.await(1, "the neighbour is attached");
  Client client(daemon, kTimeoutMs);
  Views views;
  cr_assert(hold(client, views));
  const auto old = own_lanes();
  const uint64_t old_channel = await_sessions_of(observer, ::getpid(), 2)[1].channel;
  uint64_t key = kOwn;
  const warm_ticket ticket = submit_once(client, key++);

  fence(old.first(old.size() / 2));
  cr_assert_eq(put_once(client, key++), WARM_OK, "%s", warm_last_error());
  auto sessions = await_sessions_of(observer, ::getpid(), 3);
  cr_assert_eq(sessions[1].channel, old_channel);
  cr_assert_eq(sessions[1].views, kHeld);
  cr_assert_neq(sessions[2].channel, old_channel, "it was given a session in the same channel");
  const uint64_t new_channel = sessions[2].channel;

  fence(old);
  for (uint32_t i = 0; i < 100; ++i) cr_assert_eq(put_once(client, key++), WARM_OK, "%s", warm_last_error());
  for (const warm_view& view : views) cr_assert_eq(check_of(client, view), WARM_VIEW_CURRENT);
  Process child = Process::fork([&] { return child_is_another_client(client, views, kOwn + 502); });
  cr_assert(child.wait() == exit_code(0));
  await_sessions_of(observer, child.pid(), 0);
  board->go.advance();
  board->done.await(1, "the neighbour has put");
  cr_assert_eq(await_sessions_of(observer, neighbour.pid(), 1)[0].channel, new_channel, "one new channel is enough for two");
  puts += 3;
  board->go.advance();
  cr_assert(neighbour.wait() == exit_code(0));

  // The slots that the views hold are not used again, also over a restart, which the old session is handed back over.
  cr_assert_eq(stats_of(observer).puts, puts + key - kOwn, "what was put once was counted otherwise");
  const warm_ticket over_restart = submit_once(client, key++);
  daemon.restart();
  cr_assert_eq(stats_of(observer).puts, 0);
  put_held_keys(client, 2);
  churn(client);
  cr_assert_eq(stats_of(observer).slots_held, kHeld);
  cr_assert_eq(stats_of(observer).orphans, 0);
  cr_assert(hold_what_they_held(views));
  for (const warm_view& view : views) cr_assert_eq(check_of(client, view), WARM_VIEW_REPLACED);
  harvest(client, over_restart);

  // A view and a ticket are left of the old session, then a ticket, then nothing.
  cr_assert(release(client, views));
  sessions = await_sessions_of(observer, ::getpid(), 3);
  cr_assert_eq(sessions[1].channel, old_channel);
  harvest(client, ticket);
  sessions = await_sessions_of(observer, ::getpid(), 2);
  cr_assert_eq(sessions[1].channel, new_channel);
  for (uint64_t put = kOwn; put < key; ++put) cr_assert_eq(put_once(client, put), WARM_E_EXISTS);
  cr_assert_eq(client.close(), WARM_OK);
  // The observer never put anything after the fence: its session is the only one in the old channel.
  await_stats(observer, "the others are gone", [](const warm_stats& stats) { return stats.sessions == 1; });
  churn(observer);
  cr_assert_eq(stats_of(observer).slots_held, 0);
  cr_assert_neq(sessions_of(observer, ::getpid())[0].channel, old_channel);
  await_stats(observer, "the old channel is gone", [](const warm_stats& stats) { return stats.channels == 1; });
}

// What it handed in is carried out, and no daemon waits for what it had.
Test(clients, a_client_that_closes_leaves_no_former_session_behind) {
  Daemon daemon(small());
  daemon.start();
  const Client observer(daemon, kTimeoutMs);
  uint64_t key = kOwn;
  for (const bool restarted : {false, true}) {
    Client client(daemon, kTimeoutMs);
    submit_once(client, key++);
    for (const uintptr_t channel : Memory(::getpid()).regions(layout::kChannelMagic)) fence(lanes_at(channel));
    cr_assert_eq(put_once(client, key++), WARM_OK, "%s", warm_last_error());
    await_sessions_of(observer, ::getpid(), 3);
    if (restarted) daemon.restart();
    cr_assert_eq(client.close(), WARM_OK);
    await_sessions_of(observer, ::getpid(), 1);
    cr_assert_eq(stats_of(observer).orphans, 0);
  }
  while (key-- > kOwn) cr_assert_eq(put_once(observer, key), WARM_E_EXISTS, "a request was not carried out");
}

// A view that is held for ever keeps the session that it stands in, and nobody from putting, by whatever call.
Test(clients, a_process_goes_on_in_every_way_while_one_thread_holds_a_view_in_a_fenced_channel) {
  Daemon daemon(small());
  daemon.start();
  Client client(daemon, kTimeoutMs);
  put_held_keys(client, 1);
  Views views;
  cr_assert(hold(client, views));
  const auto old = own_lanes();
  std::vector<std::thread> threads;
  std::atomic<int> failed{0};
  std::atomic<uint32_t> rounds{0};
  std::atomic<bool> over{false};
  for (uint64_t number = 0; number < 4; ++number) {
    threads.emplace_back([&, number] {
      for (uint32_t version = 1; !over.load(); ++version) {
        const uint64_t key = kOwn + number;
        int code = put_record(client, kShape, key, version);
        uint32_t seen = 0;
        if (code == WARM_OK) code = check_record(client, kShape, key, &seen);
        if (code == WARM_OK && seen != version) code = WARM_E_CHANGED;
        if (code != WARM_OK) failed.store(code);
        rounds.fetch_add(1);
      }
    });
  }
  const auto go_on = [&] {
    const uint32_t from = rounds.load();
    for (const base::Deadline deadline = patience(); rounds.load() < from + 400;) cr_assert(!deadline.passed(), "they stand");
  };
  go_on();
  fence(old);
  go_on();
  constexpr Shape kLarge{.dimensions = 16, .content_bytes_max = 400'000};
  for (uint32_t version = 1; version <= 4; ++version) {
    cr_assert_eq(put_record(client, kLarge, kChurned, version), WARM_OK, "%s", warm_last_error());
    cr_assert_eq(check_record(client, kLarge, kChurned), WARM_OK);
  }
  std::array<warm_id, 3> ids{};
  std::array<std::string, 3> names{record_id(kOwn), record_id(kOwn + 1), record_id(kChurned)};
  for (size_t i = 0; i < ids.size(); ++i) ids[i] = {names[i].data(), names[i].size()};
  cr_assert_eq(warm_touch(client, &ids[2], 1, nullptr), WARM_OK);
  daemon.restart();
  go_on();
  over.store(true);
  for (std::thread& thread : threads) thread.join();
  cr_assert_eq(failed.load(), 0, "%s", warm_error_name(failed.load()));
  std::array<warm_result, 3> results{};
  cr_assert_eq(warm_remove_many(client, ids.data(), ids.size(), 0, results.data()), WARM_OK);
  for (const warm_result& result : results) cr_assert_eq(result.code, WARM_OK);
  cr_assert(hold_what_they_held(views));
  for (const warm_view& view : views) cr_assert_eq(check_of(client, view), WARM_VIEW_CURRENT);
  cr_assert_eq(await_sessions_of(client, ::getpid(), 2).size(), 2);
  cr_assert_eq(warm_close(client), WARM_E_BUSY, "views are held");
  cr_assert(release(client, views));
  await_sessions_of(client, ::getpid(), 1);
  cr_assert_eq(client.close(), WARM_OK);
}

// Each channel that it leaves with a view in it costs a session, and all of them can be named at once to a later daemon.
Test(clients, a_client_has_fifteen_former_sessions_and_goes_on_when_one_of_them_is_given_up) {
  constexpr size_t kFormersMax = 15;
  Daemon daemon(small());
  daemon.start();
  const Client observer(daemon, kTimeoutMs);
  Client client(daemon, 3'000);
  const std::string id = record_id(0);
  put_held_keys(observer, 1);
  std::array<warm_view, kFormersMax> views{};
  const auto fence_all = [] {
    for (const uintptr_t channel : Memory(::getpid()).regions(layout::kChannelMagic)) fence(lanes_at(channel));
  };
  uint64_t key = kOwn;
  for (warm_view& view : views) {
    view = WARM_VIEW_INIT;
    cr_assert_eq(warm_get(client, id.data(), id.size(), 0, &view), WARM_OK);
    fence_all();
    cr_assert_eq(put_once(client, key++), WARM_OK, "%s", warm_last_error());
  }
  await_sessions_of(observer, ::getpid(), kFormersMax + 2);
  warm_view last = WARM_VIEW_INIT;
  cr_assert_eq(warm_get(client, id.data(), id.size(), 0, &last), WARM_OK);
  fence_all();
  cr_assert_eq(put_once(client, key), WARM_E_BUSY);
  cr_assert(std::strstr(warm_last_error(), "15 former sessions") != nullptr, "%s", warm_last_error());
  daemon.restart();
  cr_assert_eq(warm_release(client, &views[7]), WARM_OK);
  cr_assert_eq(put_once(client, key), WARM_OK, "%s", warm_last_error());
  await_sessions_of(observer, ::getpid(), kFormersMax + 2);
  cr_assert_eq(stats_of(observer).orphans, 0);
  for (warm_view& view : views) cr_assert_eq(warm_release(client, &view), WARM_OK);
  cr_assert_eq(check_of(client, last), WARM_VIEW_CURRENT);
  cr_assert_eq(warm_release(client, &last), WARM_OK);
  await_sessions_of(observer, ::getpid(), 2);
  cr_assert_eq(client.close(), WARM_OK);
}
