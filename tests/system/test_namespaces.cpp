// Clients in other PID, user and mount namespaces than the daemon's, and a daemon in namespaces of its own: who cannot be placed
// gets a channel of its own, and what is promised of views, lanes and deaths holds for everybody.
#include <criterion/criterion.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "tests/support/daemon.hpp"
#include "tests/support/records.hpp"
#include "tests/support/regions.hpp"

using namespace warmtier::tests::support;
namespace base = warmtier::base;

namespace {

constexpr Shape kShape{.dimensions = 16, .content_bytes_max = 600};
constexpr uint32_t kTimeoutMs = 20'000;
constexpr uint64_t kCapacity = 1024;
constexpr uint32_t kHeld = 5;  // views of a client, of the keys 0 ..
constexpr uint64_t kChurned = 1'000;
constexpr uint64_t kOwn = 2'000;
constexpr uid_t kStranger = 54'321;

struct Board {
  Steps ready;
  Steps go;
  Steps done;
};

base::Deadline patience() { return base::Deadline::after_ns(kPatienceNs); }

StoreOptions small(bool failpoints = true) {
  StoreOptions options;
  options.capacity = kCapacity;
  options.checkpoint_interval_ms = 50;
  options.failpoints = failpoints;
  return options;
}

void put_held_keys(warm_client* client, uint32_t version) {
  for (uint64_t key = 0; key < kHeld; ++key)
    cr_assert_eq(put_record(client, kShape, key, version), WARM_OK, "%s", warm_last_error());
}

// Every slot is used again, but those that are held.
void churn(warm_client* client) {
  static uint32_t version = 0;
  for (uint64_t i = 0; i < 2 * kCapacity; ++i)
    cr_assert_eq(put_record(client, kShape, kChurned, ++version), WARM_OK, "%s", warm_last_error());
}

bool write_file(const char* path, const std::string& text) {
  const base::Fd fd(::open(path, O_WRONLY | O_CLOEXEC));
  return fd && ::write(fd.get(), text.data(), text.size()) == static_cast<ssize_t>(text.size());
}

// In a user namespace of its own this user is root.
bool map_root_to(uid_t uid, gid_t gid) {
  return write_file("/proc/self/setgroups", "deny") && write_file("/proc/self/uid_map", "0 " + std::to_string(uid) + " 1") &&
         write_file("/proc/self/gid_map", "0 " + std::to_string(gid) + " 1");
}

// Runs `body` as the first process of a new PID namespace; everything in it ends with its caller.
template <typename Body>
int in_new_pid_namespace(Body&& body) {
  if (::unshare(CLONE_NEWPID) != 0) return 90;
  Process first = Process::fork(body);
  const Process::End end = first.wait();
  return end.exited ? end.code : 91;
}

// A client's life: holds views, puts, and looks at its views when the others have used every slot again.
int live(const Daemon& daemon, Board& board, uint64_t own_key) {
  warm_client* client = nullptr;
  if (daemon.try_open(&client, kTimeoutMs) != WARM_OK) {
    std::fprintf(stderr, "%s\n", warm_last_error());
    return 1;
  }
  std::array<warm_view, kHeld> views;
  for (uint64_t key = 0; key < kHeld; ++key) {
    views[key] = WARM_VIEW_INIT;
    const std::string id = record_id(key);
    if (warm_get(client, id.data(), id.size(), 0, &views[key]) != WARM_OK) return 2;
  }
  if (put_record(client, kShape, own_key, 1) != WARM_OK) return 3;
  board.ready.advance();
  if (!board.go.wait_for(1, patience())) return 4;
  for (uint64_t key = 0; key < kHeld; ++key) {
    if (mismatch(kShape, key, views[key]) != nullptr || version_of(views[key]) != 1) return 5;
  }
  if (put_record(client, kShape, own_key, 2) != WARM_OK) return 6;
  if (check_record(client, kShape, own_key) != WARM_OK) return 7;
  for (uint64_t key = 0; key < kHeld; ++key) {
    if (mismatch(kShape, key, views[key]) != nullptr || version_of(views[key]) != 1) return 8;
  }
  board.done.advance();
  if (!board.go.wait_for(2, patience())) return 9;
  for (warm_view& view : views) {
    if (warm_release(client, &view) != WARM_OK) return 10;
  }
  return warm_close(client) == WARM_OK ? 0 : 11;
}

// Waits for a client that may end with an error instead.
void await_ready(Board& board, uint32_t count, std::vector<Process*> clients) {
  while (!board.ready.wait_for(count, base::Deadline::after_ns(10 * base::kNsPerMs))) {
    for (Process* client : clients) {
      Process::End end;
      cr_assert(!client->wait_until(base::Deadline::after_ns(0), end), "a client: %s", text_of(end).c_str());
    }
  }
}

// The slots that clients hold are held while all others are used again, and the clients see what they should.
void assert_lives(const Daemon& daemon, Board& board, std::vector<Process*> clients, uint64_t channels) {
  const Client client(daemon, kTimeoutMs);
  put_held_keys(client, 2);
  churn(client);
  const warm_stats stats = stats_of(client);
  cr_assert_eq(stats.slots_held, kHeld);
  cr_assert_eq(stats.sessions, clients.size() + 1);
  cr_assert_eq(stats.channels, channels);
  board.go.advance();
  board.done.await(static_cast<uint32_t>(clients.size()), "the clients have looked");
  board.go.advance();
  for (Process* one : clients) {
    const Process::End end = one->wait();
    cr_assert(end == exit_code(0), "a client: %s; the daemon said:\n%s", text_of(end).c_str(), daemon.log().c_str());
  }
  await_stats(client, "the sessions end", [](const warm_stats& now) { return now.sessions == 1; });
}

}  // namespace

TestSuite(namespaces, .timeout = 120, .disabled = ::geteuid() != 0);

Test(namespaces, clients_of_two_pid_namespaces_have_a_channel_each) {
  Daemon daemon(small());
  daemon.start();
  {
    const Client client(daemon, kTimeoutMs);
    put_held_keys(client, 1);
  }
  Shared<Board> board;
  Process outside = Process::fork([&] { return live(daemon, *board, kOwn); });
  // Two in one new namespace share theirs.
  Process inside = Process::fork([&] {
    return in_new_pid_namespace([&] {
      Process second = Process::fork([&] { return live(daemon, *board, kOwn + 1); });
      const int code = live(daemon, *board, kOwn + 2);
      return code != 0 ? code : second.wait() == exit_code(0) ? 0 : 60;
    });
  });
  await_ready(*board, 3, {&outside, &inside});
  const Client client(daemon, kTimeoutMs);
  put_held_keys(client, 2);
  churn(client);
  const warm_stats stats = stats_of(client);
  cr_assert_eq(stats.sessions, 4);
  cr_assert_eq(stats.channels, 2);
  cr_assert_eq(stats.slots_held, kHeld);
  board->go.advance();
  board->done.await(3, "the clients have looked");
  board->go.advance();
  Process::End end = inside.wait();
  cr_assert(end == exit_code(0), "%s", text_of(end).c_str());
  end = outside.wait();
  cr_assert(end == exit_code(0), "%s", text_of(end).c_str());
}

// Thread numbers mean other threads there, and a robust mutex knows its owner by one.
Test(namespaces, a_client_killed_in_a_claim_in_another_pid_namespace_is_repaired_there, .disabled = !failpoints_built()) {
  Daemon daemon(small());
  daemon.start();
  const Client client(daemon, kTimeoutMs);
  put_held_keys(client, 1);
  Shared<Board> board;
  // Its first process lives as long as the namespace; each client is another one of it.
  Process inside = Process::fork([&] {
    return in_new_pid_namespace([&] {
      pin_to_processor(0);
      Process victim = Process::fork([&] {
        warm_client* own = nullptr;
        if (daemon.try_open(&own, kTimeoutMs) != WARM_OK) return 1;
        board->ready.advance();
        if (!board->go.wait_for(1, patience())) return 2;
        put_record(own, kShape, kOwn, 1);
        return 3;
      });
      Process next = Process::fork([&] {
        warm_client* own = nullptr;
        if (daemon.try_open(&own, kTimeoutMs) != WARM_OK) return 4;
        board->ready.advance();
        if (!board->done.wait_for(1, patience())) return 5;
        for (uint32_t version = 1; version <= 20; ++version) {
          if (put_record(own, kShape, kOwn + 1, version) != WARM_OK) return 6;
        }
        return warm_close(own) == WARM_OK ? 0 : 7;
      });
      if (!board->go.wait_for(2, patience())) return 8;
      victim.kill();
      board->done.advance();
      const Process::End end = next.wait();
      return end == exit_code(0) ? 0 : 50 + end.code;
    });
  });
  await_ready(*board, 2, {&inside});
  daemon.failpoints().arm(0, "client.lane_holder_named", FailpointAction::pause);
  board->go.advance();
  daemon.failpoints().await_arrived(0);
  daemon.failpoints().disarm(0);
  // Out here nothing is busy.
  churn(client);
  cr_assert_eq(stats_of(client).lane_repairs, 0);
  board->go.advance();
  const Process::End end = inside.wait();
  cr_assert(end == exit_code(0), "%s", text_of(end).c_str());
  const warm_stats stats = await_stats(client, "the sessions end", [](const warm_stats& now) { return now.sessions == 1; });
  cr_assert_eq(stats.lane_repairs, 1);
  cr_assert_eq(stats.lanes_fenced, 0);
  cr_assert_eq(check_record(client, kShape, kOwn), WARM_E_NOT_FOUND);
}

// A user that is root in a namespace of its own is to the daemon who it is outside.
Test(namespaces, a_client_in_a_user_namespace_is_the_user_that_made_it) {
  Daemon daemon(small(false));
  cr_assert_eq(::chmod(daemon.directory().c_str(), 0755), 0);
  std::ofstream(daemon.configuration_path()) << "[store]\ncheckpoint_interval_ms = 50\n[access.users]\n"
                                             << kStranger << " = \"write\"\n";
  daemon.start();
  {
    const Client client(daemon, kTimeoutMs);
    put_held_keys(client, 1);
  }
  Shared<Board> board;
  Process mapped = Process::fork([&] {
    if (!become(kStranger, kStranger) || ::unshare(CLONE_NEWUSER) != 0 || !map_root_to(kStranger, kStranger)) return 80;
    return ::geteuid() == 0 ? live(daemon, *board, kOwn) : 81;
  });
  // Without a map it is nobody to itself.
  Process unmapped = Process::fork([&] {
    if (!become(kStranger, kStranger) || ::unshare(CLONE_NEWUSER) != 0) return 82;
    return live(daemon, *board, kOwn + 1);
  });
  await_ready(*board, 2, {&mapped, &unmapped});
  assert_lives(daemon, *board, {&mapped, &unmapped}, 2);
  // Another user's root there has no right here.
  Process other = Process::fork([&] {
    if (!become(kStranger + 1, kStranger + 1) || ::unshare(CLONE_NEWUSER) != 0 || !map_root_to(kStranger + 1, kStranger + 1))
      return 83;
    warm_client* client = nullptr;
    return daemon.try_open(&client, kTimeoutMs) == WARM_E_ACCESS ? 0 : 84;
  });
  const Process::End end = other.wait();
  cr_assert(end == exit_code(0), "%s", text_of(end).c_str());
}

namespace {

// The daemon's directory is not there any more, nor is /proc; its socket is at another place.
bool hide_everything_but_the_socket(const Daemon& daemon, std::string* ret_socket) {
  if (::unshare(CLONE_NEWNS) != 0 || ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) return false;
  const std::string aside = "/mnt";
  if (::mount("tmpfs", aside.c_str(), "tmpfs", 0, "size=64k") != 0) return false;
  *ret_socket = aside + "/sock";
  const base::Fd place(::open(ret_socket->c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
  return ::mount(daemon.socket().c_str(), ret_socket->c_str(), nullptr, MS_BIND, nullptr) == 0 &&
         ::mount("tmpfs", daemon.directory().c_str(), "tmpfs", 0, "size=4k") == 0 &&
         ::mount("tmpfs", "/proc", "tmpfs", 0, "size=4k") == 0 && ::access("/proc/self", F_OK) != 0;
}

int live_without_a_file_system(const Daemon& daemon, Board& board) {
  std::string socket;
  if (!hide_everything_but_the_socket(daemon, &socket)) return 70;
  warm_options options = WARM_OPTIONS_INIT;
  options.socket = socket.c_str();
  options.timeout_ms = kTimeoutMs;
  warm_client* client = nullptr;
  if (warm_open(&options, &client) != WARM_OK) return 71;
  board.ready.advance();
  if (!board.go.wait_for(1, patience())) return 72;
  // Segments that came later come by the socket too.
  for (uint64_t key = 0; key < 3'000; ++key) {
    if (check_record(client, kShape, kOwn + key) != WARM_OK) return 73;
  }
  if (put_record(client, kShape, kOwn, 2) != WARM_OK || check_record(client, kShape, kOwn) != WARM_OK) return 74;
  board.done.advance();
  if (!board.go.wait_for(2, patience())) return 75;
  return warm_close(client) == WARM_OK ? 0 : 76;
}

}  // namespace

Test(namespaces, a_client_in_a_mount_namespace_without_proc_needs_nothing_but_the_socket_and_shares_no_channel) {
  StoreOptions options = small(false);
  options.capacity = 8192;
  options.segment_bytes = 262'144;
  Daemon daemon(options);
  daemon.start();
  const Client client(daemon, kTimeoutMs);
  Shared<Board> board;
  Process first = Process::fork([&] { return live_without_a_file_system(daemon, *board); });
  // Nobody could say that they are of one PID namespace, and they are not.
  Process second =
      Process::fork([&] { return in_new_pid_namespace([&] { return live_without_a_file_system(daemon, *board); }); });
  await_ready(*board, 2, {&first, &second});
  const uint64_t segments = stats_of(client).segments;
  for (uint64_t key = 0; key < 3'000; ++key)
    cr_assert_eq(put_record(client, kShape, kOwn + key, 1), WARM_OK, "%s", warm_last_error());
  cr_assert_geq(stats_of(client).segments, segments + 2);
  cr_assert_eq(stats_of(client).channels, 3, "robust mutexes know their owners by numbers of one PID namespace");
  board->go.advance();
  board->done.await(2, "the clients have read");
  board->go.advance();
  Process::End end = first.wait();
  cr_assert(end == exit_code(0), "%s", text_of(end).c_str());
  end = second.wait();
  cr_assert(end == exit_code(0), "%s", text_of(end).c_str());
}

// Everything at once, by a user without any right on this host.
Test(namespaces, a_client_in_a_container_of_its_own_user_is_served_like_any_other) {
  Daemon daemon(small(false));
  cr_assert_eq(::chmod(daemon.directory().c_str(), 0755), 0);
  std::ofstream(daemon.configuration_path()) << "[store]\ncheckpoint_interval_ms = 50\n[access]\nothers = \"write\"\n";
  daemon.start();
  {
    const Client client(daemon, kTimeoutMs);
    put_held_keys(client, 1);
  }
  Shared<Board> board;
  const auto contained = [&](uint64_t key) {
    return Process::fork([&daemon, &board, key] {
      if (!become(kStranger, kStranger) || ::unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0 || !map_root_to(kStranger, kStranger))
        return 80;
      return in_new_pid_namespace([&] {
        if (::mount("proc", "/proc", "proc", 0, nullptr) != 0) return 85;
        return live(daemon, *board, key);
      });
    });
  };
  Process first = contained(kOwn);
  Process second = contained(kOwn + 1);
  await_ready(*board, 2, {&first, &second});
  assert_lives(daemon, *board, {&first, &second}, 3);
}

// ---- the daemon inside --------------------------------------------------------------------------------------------------------

namespace {

const std::vector<std::string> kInPidAndMount{"/usr/bin/unshare", "--pid", "--mount-proc", "--kill-child"};
const std::vector<std::string> kInPidMountAndUser{"/usr/bin/unshare", "--pid",  "--mount-proc",
                                                  "--kill-child",     "--user", "--map-root-user"};

}  // namespace

// It sees them as process 0, and knows of their deaths all the same.
Test(namespaces, a_daemon_in_its_own_namespaces_gives_those_it_cannot_see_a_channel_each) {
  Daemon daemon(small());
  daemon.launch_by(kInPidAndMount);
  daemon.start();
  {
    const Client client(daemon, kTimeoutMs);
    put_held_keys(client, 1);
    cr_assert_eq(stats_of(client).channels, 1);
  }
  Shared<Board> board;
  Process first = Process::fork([&] { return live(daemon, *board, kOwn); });
  Process second = Process::fork([&] { return live(daemon, *board, kOwn + 1); });
  await_ready(*board, 2, {&first, &second});
  {
    // A death is seen without a number.
    Shared<Board> another;
    Process third = Process::fork([&] { return live(daemon, *another, kOwn + 2); });
    await_ready(*another, 1, {&third});
    const Client client(daemon, kTimeoutMs);
    const uint64_t killed_ns = base::monotonic_ns();
    third.kill();
    await_stats(client, "the pins are void", [](const warm_stats& stats) { return stats.pins_voided == kHeld; });
    cr_assert_leq(base::monotonic_ns() - killed_ns, base::kNsPerSecond);
  }
  assert_lives(daemon, *board, {&first, &second}, 3);
}

// It sees them as the user that stands for all who have no number there.
Test(namespaces, a_daemon_in_a_user_namespace_gives_those_without_a_number_a_channel_each) {
  Daemon daemon(small(false));
  cr_assert_eq(::chmod(daemon.directory().c_str(), 0755), 0);
  std::ofstream(daemon.configuration_path()) << "[store]\ncheckpoint_interval_ms = 50\n[access.users]\n65534 = \"write\"\n";
  daemon.launch_by(kInPidMountAndUser);
  daemon.start();
  {
    const Client client(daemon, kTimeoutMs);
    put_held_keys(client, 1);
  }
  Shared<Board> board;
  const auto stranger = [&](uid_t uid, uint64_t key) {
    return Process::fork([&daemon, &board, uid, key] { return become(uid, uid) ? live(daemon, *board, key) : 80; });
  };
  Process first = stranger(kStranger, kOwn);
  Process second = stranger(kStranger + 1, kOwn + 1);
  await_ready(*board, 2, {&first, &second});
  assert_lives(daemon, *board, {&first, &second}, 3);
}

namespace {

// The daemon is killed and comes back in namespaces that are not those of before; clients live on and hold views.
void daemon_comes_back_elsewhere(const std::vector<std::string>& before, const std::vector<std::string>& after) {
  Daemon daemon(small());
  daemon.launch_by(before);
  daemon.start();
  {
    const Client client(daemon, kTimeoutMs);
    put_held_keys(client, 1);
  }
  Shared<Board> board;
  Process first = Process::fork([&] { return live(daemon, *board, kOwn); });
  await_ready(*board, 1, {&first});
  daemon.kill();
  daemon.launch_by(after);
  daemon.start();
  const Client client(daemon, kTimeoutMs);
  for (uint64_t key = 0; key < kHeld; ++key) cr_assert_eq(check_record(client, kShape, key), WARM_OK);
  cr_assert_eq(stats_of(client).orphans, 1, "a process that cannot be seen is not dead; the daemon said:\n%s",
               daemon.log().c_str());
  // As many as there are slots that were never used.
  for (uint32_t version = 2; version < kCapacity / 2; ++version)
    cr_assert_eq(put_record(client, kShape, 0, version), WARM_OK, "%s", warm_last_error());
  board->go.advance();
  board->done.await(1, "the client has come back");
  await_stats(client, "nobody is awaited", [](const warm_stats& stats) { return stats.orphans == 0; });
  churn(client);
  cr_assert_eq(stats_of(client).slots_held, 1);
  board->go.advance();
  const Process::End end = first.wait();
  cr_assert(end == exit_code(0), "%s", text_of(end).c_str());
  await_stats(client, "its session ends", [](const warm_stats& stats) { return stats.sessions == 1; });
}

}  // namespace

Test(namespaces, views_outlive_a_daemon_that_comes_back_in_a_new_pid_namespace) {
  daemon_comes_back_elsewhere(kInPidAndMount, kInPidAndMount);
}
Test(namespaces, views_outlive_a_daemon_that_comes_back_inside_a_pid_namespace) {
  daemon_comes_back_elsewhere({}, kInPidAndMount);
}
Test(namespaces, views_outlive_a_daemon_that_comes_back_outside_of_its_pid_namespace) {
  daemon_comes_back_elsewhere(kInPidAndMount, {});
}
