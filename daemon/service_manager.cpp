#include "daemon/service_manager.hpp"

#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <systemd/sd-daemon.h>

#include <cerrno>
#include <cstddef>
#include <cstdlib>
#include <cstring>

#include "base/clock.hpp"

namespace warmtier::daemon {
namespace {

constexpr uint64_t kTellNsMax = base::kNsPerSecond;

}  // namespace

ServiceManager::ServiceManager() {
  const char* path = std::getenv("NOTIFY_SOCKET");
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const size_t length = path == nullptr ? 0 : std::strlen(path);
  if (length > 1 && length < sizeof address.sun_path) {
    std::memcpy(address.sun_path, path, length);
    if (path[0] == '@') address.sun_path[0] = 0;  // an abstract name
    socket_.reset(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    const auto bytes = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + length);
    if (socket_ && ::connect(socket_.get(), reinterpret_cast<const sockaddr*>(&address), bytes) != 0) socket_.reset();
  }
  uint64_t patience_us = 0;
  if (::sd_watchdog_enabled(0, &patience_us) > 0) watchdog_interval_ns_ = patience_us * base::kNsPerUs / 2;
}

base::Result<ServiceManager::Given> ServiceManager::take_given() {
  char** names = nullptr;
  const int count = ::sd_listen_fds_with_names(1, &names);
  if (count < 0) return base::fail_errno(-count, "take over the descriptors of the service manager");
  Given given;
  for (int i = 0; i < count; ++i) {
    base::Fd fd(SD_LISTEN_FDS_START + i);
    if (std::strncmp(names[i], session::kKeptPrefix, std::strlen(session::kKeptPrefix)) == 0) {
      given.kept[names[i]] = std::move(fd);
    } else {
      given.sockets.push_back(std::move(fd));
    }
    std::free(names[i]);
  }
  std::free(static_cast<void*>(names));
  return given;
}

bool ServiceManager::say(const std::string& text, int fd) noexcept {
  if (!socket_) return true;
  iovec part{.iov_base = const_cast<char*>(text.data()), .iov_len = text.size()};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof fd)]{};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  if (fd >= 0) {
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    cmsghdr* rights = CMSG_FIRSTHDR(&message);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(sizeof fd);
    std::memcpy(CMSG_DATA(rights), &fd, sizeof fd);
  }
  return ::sendmsg(socket_.get(), &message, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0 || errno != EAGAIN;
}

bool ServiceManager::keep(const std::string& name, int fd) noexcept { return say("FDSTORE=1\nFDNAME=" + name, fd); }

void ServiceManager::let_go(const std::string& name) noexcept { (void)say("FDSTOREREMOVE=1\nFDNAME=" + name, -1); }

void ServiceManager::say_well() noexcept { (void)say("WATCHDOG=1", -1); }

void ServiceManager::tell(const std::string& text) noexcept {
  const auto deadline = base::Deadline::after_ns(kTellNsMax);
  while (!say(text, -1) && !deadline.passed()) {
    pollfd room{.fd = socket_.get(), .events = POLLOUT, .revents = 0};
    (void)::poll(&room, 1, static_cast<int>(deadline.left_ns() / base::kNsPerMs + 1));
  }
}

}  // namespace warmtier::daemon
