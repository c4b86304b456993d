// A process that closes all its descriptors, as daemons do when they begin: the library lives on in its maps, asks for new
// descriptors when it needs the daemon, and leaves alone what has got their numbers since.
#include <criterion/criterion.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <string>
#include <vector>

#include "tests/support/daemon.hpp"
#include "tests/support/records.hpp"

using namespace warmtier::tests::support;
namespace base = warmtier::base;

namespace {

constexpr Shape kShape{.dimensions = 16, .content_bytes_max = 600};
constexpr uint64_t kSlots = 64;
constexpr int kStrangers = 24;  // pairs: more numbers than the library had

// Sockets of somebody else under every number that was the library's. What is written to one comes out of the other.
struct Strangers {
  std::vector<std::array<int, 2>> pairs;
  Strangers() {
    for (int i = 0; i < kStrangers; ++i) {
      std::array<int, 2> pair{};
      if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, pair.data()) == 0) pairs.push_back(pair);
    }
  }
  // All open, and nothing was written.
  [[nodiscard]] bool untouched() const {
    for (const auto& pair : pairs) {
      for (const int fd : pair) {
        char byte = 0;
        if (::recv(fd, &byte, 1, 0) != -1 || errno != EAGAIN) return false;
      }
    }
    return pairs.size() == kStrangers;
  }
};

uint64_t session_of(warm_client* client) {
  warm_info info = WARM_INFO_INIT;
  return warm_info_get(client, &info) == WARM_OK ? info.session : 0;
}

int close_all_and_go_on(const Daemon& daemon) {
  warm_client* client = nullptr;
  if (daemon.try_open(&client) != WARM_OK) return 1;
  for (uint64_t key = 0; key < 8; ++key) {
    if (put_record(client, kShape, key, 1) != WARM_OK) return 2;
  }
  warm_view view = WARM_VIEW_INIT;
  const std::string id = record_id(3);
  if (warm_get(client, id.data(), id.size(), 0, &view) != WARM_OK) return 3;
  const uint64_t session = session_of(client);

  ::closefrom(3);
  const Strangers strangers;
  if (check_record(client, kShape, 5) != WARM_OK) return 4;
  if (put_record(client, kShape, 3, 2) != WARM_OK) return 5;
  if (session_of(client) != session) return 6;
  // Every slot is used again, many times over, but the one that the view holds.
  for (uint32_t version = 1; version <= 4 * kSlots; ++version) {
    if (put_record(client, kShape, 4, version) != WARM_OK) return 7;
  }
  if (mismatch(kShape, 3, view) != nullptr || version_of(view) != 1) return 8;
  uint32_t state = 99;
  if (warm_view_check(client, &view, &state) != WARM_OK || state != WARM_VIEW_REPLACED) return 9;
  if (!strangers.untouched()) return 14;

  ::closefrom(3);
  const Strangers others;
  warm_stats stats = WARM_STATS_INIT;
  if (warm_stats_get(client, &stats) != WARM_OK) return 10;
  if (warm_release(client, &view) != WARM_OK) return 11;
  if (!others.untouched()) return 15;
  ::closefrom(3);
  const Strangers last;
  if (warm_close(client) != WARM_OK) return 12;
  return last.untouched() ? 0 : 13;
}

int leave_strangers_alone(const Daemon& daemon) {
  warm_client* client = nullptr;
  if (daemon.try_open(&client) != WARM_OK) return 1;
  ::closefrom(3);
  const Strangers strangers;
  for (uint32_t version = 1; version <= 50; ++version) {
    if (put_record(client, kShape, 1, version) != WARM_OK) return 2;
  }
  return strangers.untouched() ? 0 : 3;
}

}  // namespace

TestSuite(descriptors, .timeout = 120);

Test(descriptors, a_process_that_closes_all_of_them_goes_on_and_its_views_hold) {
  StoreOptions options;
  options.capacity = kSlots;
  Daemon daemon(options);
  daemon.start();
  const Process::End end = Process::fork([&] { return close_all_and_go_on(daemon); }).wait();
  cr_assert(end == exit_code(0), "%s; the daemon said:\n%s", text_of(end).c_str(), daemon.log().c_str());
}

Test(descriptors, numbers_that_are_other_files_by_now_are_left_alone) {
  Daemon daemon;
  daemon.start();
  const Process::End end = Process::fork([&] { return leave_strangers_alone(daemon); }).wait();
  cr_assert(end == exit_code(0), "%s", text_of(end).c_str());
}

Test(descriptors, a_client_that_only_reads_learns_from_its_statistics_that_the_daemon_is_dead) {
  Daemon daemon;
  daemon.start();
  const Client client(daemon, 300);
  cr_assert_eq(stats_of(client).sessions, 1);
  daemon.kill();
  warm_stats stats = WARM_STATS_INIT;
  cr_assert_eq(warm_stats_get(client, &stats), WARM_E_UNAVAILABLE);
  daemon.start();
  cr_assert_eq(warm_stats_get(client, &stats), WARM_OK, "%s", warm_last_error());
}
