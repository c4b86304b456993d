// A service manager that keeps descriptors and has a watchdog, played by the test: what systemd does with NOTIFY_SOCKET,
// LISTEN_FDS and WATCHDOG_USEC.
#include <criterion/criterion.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>
#include <map>
#include <string>
#include <vector>

#include "base/fd.hpp"
#include "tests/support/daemon.hpp"
#include "tests/support/records.hpp"

using namespace warmtier::tests::support;
namespace base = warmtier::base;

namespace {

constexpr Shape kShape{.dimensions = 16, .content_bytes_max = 600};
constexpr uint64_t kCapacity = 64;

class Manager {
 public:
  explicit Manager(const Daemon& place) : arguments_(place.arguments()), path_(place.directory() + "/manager") {
    socket_.reset(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    cr_assert_lt(path_.size(), sizeof address.sun_path);
    path_.copy(address.sun_path, path_.size());
    cr_assert(::bind(socket_.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
  }
  // The daemon, handed everything that is kept.
  void start(const std::string& watchdog_us = "") {
    std::vector<std::string> names;
    std::vector<int> fds;
    for (const auto& [name, fd] : kept) {
      names.push_back(name);
      fds.push_back(fd.get());
    }
    daemon_ = Process::fork([&] {
      // First out of the way, then to their places.
      std::vector<int> high;
      for (const int fd : fds) high.push_back(::fcntl(fd, F_DUPFD, 200));
      std::string all;
      for (size_t i = 0; i < high.size(); ++i) {
        if (::dup2(high[i], static_cast<int>(3 + i)) < 0) return 100;
        ::close(high[i]);
        all += (i == 0 ? "" : ":") + names[i];
      }
      ::setenv("NOTIFY_SOCKET", path_.c_str(), 1);
      if (!high.empty()) {
        ::setenv("LISTEN_PID", std::to_string(::getpid()).c_str(), 1);
        ::setenv("LISTEN_FDS", std::to_string(high.size()).c_str(), 1);
        ::setenv("LISTEN_FDNAMES", all.c_str(), 1);
      }
      if (!watchdog_us.empty()) ::setenv("WATCHDOG_USEC", watchdog_us.c_str(), 1);
      std::vector<char*> words;
      for (std::string& word : arguments_) words.push_back(word.data());
      words.push_back(nullptr);
      ::execv(words[0], words.data());
      return 101;
    });
    await("READY=1");
  }
  // Hears what the daemon says until it says this.
  void await(const std::string& word) {
    while (hear().find(word) == std::string::npos) {
    }
  }
  // One message; descriptors are kept or let go of as it says.
  std::string hear() {
    pollfd look{.fd = socket_.get(), .events = POLLIN, .revents = 0};
    if (::poll(&look, 1, static_cast<int>(kPatienceNs / base::kNsPerMs)) != 1) give_up("the daemon said nothing");
    std::string text(4096, 0);
    iovec part{.iov_base = text.data(), .iov_len = text.size()};
    alignas(cmsghdr) std::byte control[CMSG_SPACE(4 * sizeof(int)) + CMSG_SPACE(sizeof(ucred))];
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    const ssize_t got = ::recvmsg(socket_.get(), &message, MSG_CMSG_CLOEXEC);
    if (got < 0) give_up("the daemon cannot be heard");
    text.resize(static_cast<size_t>(got));
    base::Fd fd;
    for (cmsghdr* c = CMSG_FIRSTHDR(&message); c != nullptr; c = CMSG_NXTHDR(&message, c)) {
      if (c->cmsg_type != SCM_RIGHTS) continue;
      int number = -1;
      std::memcpy(&number, CMSG_DATA(c), sizeof number);
      fd.reset(number);
    }
    const size_t at = text.find("FDNAME=");
    const std::string name = at == std::string::npos ? "" : text.substr(at + 7, text.find('\n', at) - at - 7);
    if (text.find("FDSTORE=1") != std::string::npos) kept[name] = std::move(fd);
    if (text.find("FDSTOREREMOVE=1") != std::string::npos) kept.erase(name);
    return text;
  }
  Process& daemon() { return daemon_; }
  std::map<std::string, base::Fd> kept;

 private:
  std::vector<std::string> arguments_;
  std::string path_;
  base::Fd socket_;
  Process daemon_;
};

StoreOptions small() {
  StoreOptions options;
  options.capacity = kCapacity;
  return options;
}

struct Board {
  Steps holds;   // the reader has its view, and makes no call until it is told
  Steps go_on;
};

// Idle over the daemon's death: it hands nothing back.
int idle_reader(const Daemon& place, Board& board) {
  warm_client* client = nullptr;
  if (place.try_open(&client) != WARM_OK) return 1;
  warm_view view = WARM_VIEW_INIT;
  const std::string id = record_id(0);
  if (warm_get(client, id.data(), id.size(), 0, &view) != WARM_OK) return 2;
  board.holds.advance();
  if (!board.go_on.wait_for(1, base::Deadline::after_ns(kPatienceNs))) return 3;
  if (mismatch(kShape, 0, view) != nullptr || version_of(view) != 1) return 4;
  uint32_t state = 99;
  if (warm_view_check(client, &view, &state) != WARM_OK || state != WARM_VIEW_REPLACED) return 5;
  if (warm_release(client, &view) != WARM_OK) return 6;
  return warm_close(client) == WARM_OK ? 0 : 7;
}

}  // namespace

TestSuite(service_manager, .timeout = 120);

Test(service_manager, a_restarted_daemon_gets_the_memory_of_its_sessions_and_waits_for_nobody) {
  const Daemon place(small());
  Manager manager(place);
  manager.start();
  Shared<Board> board;
  {
    const Client writer(place);
    cr_assert_eq(put_record(writer, kShape, 0, 1), WARM_OK);
    Process reader = Process::fork([&] { return idle_reader(place, *board); });
    board->holds.await(1, "the reader has its view");
    while (manager.kept.size() < 3) manager.hear();  // a channel, two sessions
    manager.daemon().kill();
    manager.start();
    cr_assert_eq(put_record(writer, kShape, 0, 2), WARM_OK, "%s", warm_last_error());
    cr_assert_eq(stats_of(writer).orphans, 0);
    for (uint32_t version = 1; version <= 4 * kCapacity; ++version) {
      cr_assert_eq(put_record(writer, kShape, 1, version), WARM_OK, "%s", warm_last_error());
    }
    board->go_on.advance();
    const Process::End end = reader.wait();
    cr_assert(end == exit_code(0), "%s", text_of(end).c_str());
  }
  // What has ended need not be kept.
  while (manager.kept.size() > 1) manager.hear();
  manager.daemon().signal(SIGTERM);
  cr_assert(manager.daemon().wait() == exit_code(0));
}

Test(service_manager, what_nobody_needs_any_more_is_let_go_of_at_the_start) {
  const Daemon place(small());
  Manager manager(place);
  manager.kept["warmtier-session-4711"] = std::move(*base::make_memfd("left", 4096));
  manager.kept["warmtier-channel-17"] = std::move(*base::make_memfd("left", 4096));
  manager.start();
  cr_assert(manager.kept.empty());
  const Client client(place);
  cr_assert_eq(put_record(client, kShape, 0, 1), WARM_OK);
}

Test(service_manager, one_that_does_not_listen_stops_nobody) {
  const Daemon place(small());
  Manager manager(place);
  manager.start();
  // More messages than any queue holds.
  for (int i = 0; i < 1'000; ++i) cr_assert_eq(Client(place).close(), WARM_OK);
  manager.daemon().signal(SIGTERM);
  cr_assert(manager.daemon().wait() == exit_code(0), "nor the daemon's end");
}

Test(service_manager, an_idle_daemon_tells_the_watchdog_that_it_is_well) {
  const Daemon place(small());
  Manager manager(place);
  constexpr uint64_t kPatienceUs = 400'000;
  manager.start(std::to_string(kPatienceUs));
  const uint64_t begun_ns = base::monotonic_ns();
  const uint64_t used_ms = cpu_time_ms(manager.daemon().pid());
  for (int i = 0; i < 6; ++i) manager.await("WATCHDOG=1");
  // Each in time, and not by being busy.
  cr_assert_lt(base::monotonic_ns() - begun_ns, 6 * kPatienceUs * base::kNsPerUs);
  cr_assert_leq(cpu_time_ms(manager.daemon().pid()) - used_ms, 20);
  manager.daemon().kill();
}
