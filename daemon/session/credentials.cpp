#include "daemon/session/credentials.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <cstring>
#include <string>
#include <string_view>

// Newer than the build's headers.
#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77
#endif
#ifndef SO_PEERGROUPS
#define SO_PEERGROUPS 59
#endif
#ifndef PID_FS_MAGIC
#define PID_FS_MAGIC 0x50494446
#endif

namespace warmtier::daemon::session {
namespace {

constexpr size_t kGroupsMax = 65536;  // NGROUPS_MAX
constexpr size_t kProcFileBytesMax = 65536;

base::Fd open_pidfd(pid_t pid) noexcept { return base::Fd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0))); }

uint64_t pidfs_inode(int pidfd) noexcept {
  // Before 6.9 every pidfd shows the one inode of all anonymous descriptors.
  struct statfs fs{};
  struct stat st{};
  if (::fstatfs(pidfd, &fs) != 0 || fs.f_type != PID_FS_MAGIC || ::fstat(pidfd, &st) != 0) return 0;
  return st.st_ino;
}

std::string read_proc(pid_t pid, const char* name) {
  std::array<char, 64> path{};
  std::snprintf(path.data(), path.size(), "/proc/%d/%s", pid, name);
  auto fd = base::open_at(AT_FDCWD, path.data(), O_RDONLY);
  std::string text;
  if (!fd) return text;
  std::array<char, 4096> part{};
  for (;;) {
    const ssize_t got = ::read(fd->get(), part.data(), part.size());
    if (got <= 0 || text.size() > kProcFileBytesMax) return text;
    text.append(part.data(), static_cast<size_t>(got));
  }
}

// 0: not to be had. Field 22 of /proc/PID/stat; the second one may contain anything, brackets included.
uint64_t start_time_of(pid_t pid) {
  const std::string text = read_proc(pid, "stat");
  const size_t bracket = text.rfind(')');
  if (bracket == std::string::npos) return 0;
  std::string_view rest = std::string_view(text).substr(bracket + 1);
  for (int field = 2; field < 22; ++field) {
    const size_t space = rest.find(' ');
    if (space == std::string_view::npos) return 0;
    rest.remove_prefix(space + 1);
  }
  uint64_t value = 0;
  const auto parsed = std::from_chars(rest.data(), rest.data() + rest.size(), value);
  return parsed.ec == std::errc() ? value : 0;
}

uid_t overflow_uid() {
  auto fd = base::open_at(AT_FDCWD, "/proc/sys/kernel/overflowuid", O_RDONLY);
  std::array<char, 16> text{};
  uid_t uid = 65534;
  if (!fd) return uid;
  const ssize_t got = ::read(fd->get(), text.data(), text.size());
  if (got > 0) std::from_chars(text.data(), text.data() + got, uid);
  return uid;
}

std::vector<gid_t> peer_groups(int socket) {
  std::vector<gid_t> groups(32);
  for (;;) {
    auto bytes = static_cast<socklen_t>(groups.size() * sizeof(gid_t));
    if (::getsockopt(socket, SOL_SOCKET, SO_PEERGROUPS, groups.data(), &bytes) == 0) {
      groups.resize(bytes / sizeof(gid_t));
      return groups;
    }
    const size_t wanted = bytes / sizeof(gid_t);
    if (errno != ERANGE || wanted <= groups.size() || wanted > kGroupsMax) return {};
    groups.resize(wanted);
  }
}

void append_numbers(std::string_view line, std::vector<gid_t>& numbers) {
  while (!line.empty()) {
    const size_t digit = line.find_first_of("0123456789");
    if (digit == std::string_view::npos) return;
    line.remove_prefix(digit);
    gid_t value = 0;
    const auto parsed = std::from_chars(line.data(), line.data() + line.size(), value);
    if (parsed.ec != std::errc()) return;
    numbers.push_back(value);
    line.remove_prefix(static_cast<size_t>(parsed.ptr - line.data()));
  }
}

std::vector<gid_t> numbers_of_status_line(const std::string& status, const char* key) {
  std::vector<gid_t> numbers;
  const size_t at = status.find(key);
  if (at == std::string::npos) return numbers;
  const size_t end = std::min(status.find('\n', at + 1), status.size());
  append_numbers(std::string_view(status).substr(at + std::strlen(key), end - at - std::strlen(key)), numbers);
  return numbers;
}

bool hung_up(int socket) noexcept {
  pollfd look{.fd = socket, .events = POLLRDHUP, .revents = 0};
  return ::poll(&look, 1, 0) < 0 || (look.revents & (POLLRDHUP | POLLHUP | POLLERR | POLLNVAL)) != 0;
}

base::Result<base::Fd> pidfd_of_peer(int socket, const ucred& peer) {
  int fd = -1;
  socklen_t bytes = sizeof fd;
  if (::getsockopt(socket, SOL_SOCKET, SO_PEERPIDFD, &fd, &bytes) == 0) return base::Fd(fd);
  if (errno != ENOPROTOOPT) return base::fail_errno(errno, "SO_PEERPIDFD");
  // An older kernel. The pid may be another process's by now: the socket of a living peer is not hung up, and a process that
  // took over both pid and socket would be a child of the peer with the peer's uid.
  if (peer.pid == 0)
    return base::fail(WARM_E_UNSUPPORTED, "the peer's process cannot be seen from here, and the kernel has no SO_PEERPIDFD");
  base::Fd pidfd = open_pidfd(peer.pid);
  if (!pidfd) return base::fail_errno(errno, "pidfd_open %d", peer.pid);
  struct stat st{};
  const std::string directory = "/proc/" + std::to_string(peer.pid);
  if (hung_up(socket) || ::stat(directory.c_str(), &st) != 0 || st.st_uid != peer.uid) {
    return base::fail(WARM_E_UNSUPPORTED, "process %d is not surely the peer", peer.pid);
  }
  return pidfd;
}

}  // namespace

bool same_process(const ProcessIdentity& a, const ProcessIdentity& b) noexcept {
  if (a.pidfs_inode != 0 && b.pidfs_inode != 0) return a.pidfs_inode == b.pidfs_inode;
  return a.pid != 0 && a.pid == b.pid && a.start_time != 0 && a.start_time == b.start_time;
}

bool has_ended(int pidfd) noexcept {
  pollfd look{.fd = pidfd, .events = POLLIN, .revents = 0};
  return ::poll(&look, 1, 0) == 1;
}

base::Result<Peer> peer_of(int socket) {
  ucred credentials{};
  socklen_t bytes = sizeof credentials;
  if (::getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &credentials, &bytes) != 0) return base::fail_errno(errno, "SO_PEERCRED");
  Peer peer;
  peer.uid = credentials.uid;
  peer.gid = credentials.gid;
  peer.groups = peer_groups(socket);
  auto pidfd = pidfd_of_peer(socket, credentials);
  if (!pidfd) return base::pass(std::move(pidfd));
  peer.pidfd = std::move(*pidfd);
  peer.process.pid = static_cast<uint32_t>(credentials.pid);
  peer.process.pidfs_inode = pidfs_inode(peer.pidfd.get());
  if (credentials.pid != 0) peer.process.start_time = start_time_of(credentials.pid);
  // Alive now, so the pid was not another process's while its start time was read.
  if (has_ended(peer.pidfd.get())) return base::fail(WARM_E_UNAVAILABLE, "the peer has ended");
  if (peer.process.start_time == 0 && peer.process.pidfs_inode == 0) {
    return base::fail(WARM_E_UNSUPPORTED, "the peer's process has no identity here: neither /proc/%d/stat nor a pidfs inode",
                      credentials.pid);
  }
  static const uid_t overflow = overflow_uid();
  peer.can_share_channel = peer.uid != overflow && credentials.pid != 0 && peer.process.start_time != 0;
  return peer;
}

base::InodeId own_pid_namespace() noexcept {
  struct stat st{};
  if (::stat("/proc/self/ns/pid", &st) != 0) return {};
  return {.device = st.st_dev, .inode = st.st_ino};
}

Liveness find_process(const ProcessIdentity& process, LivingProcess* ret_process) {
  if (process.pid == 0) return Liveness::unknown;
  const auto pid = static_cast<pid_t>(process.pid);
  LivingProcess found;
  found.pidfd = open_pidfd(pid);
  if (!found.pidfd) return errno == ESRCH || errno == EINVAL ? Liveness::gone : Liveness::unknown;
  ProcessIdentity now{.pid = process.pid, .start_time = start_time_of(pid), .pidfs_inode = pidfs_inode(found.pidfd.get())};
  const std::string status = read_proc(pid, "status");
  if (has_ended(found.pidfd.get())) return Liveness::gone;
  if (!same_process(process, now)) {
    // Nothing to compare with (no /proc, no pidfs) is not a proof of death.
    const bool comparable =
        (process.pidfs_inode != 0 && now.pidfs_inode != 0) || (process.start_time != 0 && now.start_time != 0);
    return comparable ? Liveness::gone : Liveness::unknown;
  }
  const std::vector<gid_t> gids = numbers_of_status_line(status, "\nGid:");
  if (gids.size() > 1) found.gid = gids[1];
  found.groups = numbers_of_status_line(status, "\nGroups:");
  *ret_process = std::move(found);
  return Liveness::lives;
}

}  // namespace warmtier::daemon::session
