#include "libclient/handshake.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "base/failpoint.hpp"
#include "layout/describe.hpp"
#include "layout/validate.hpp"
#include "libclient/futex.hpp"

namespace warmtier::libclient {
namespace {

constexpr const char* kSystemSocket = "/run/warmtier/sock";
constexpr size_t kFilesMax = 253;  // the kernel's limit for one packet

void wait_for(int socket, short events, uint64_t ns) noexcept {
  pollfd entry{.fd = socket, .events = events, .revents = 0};
  const timespec limit = timespec_of(std::min(ns, 3600 * base::kNsPerSecond));
  ::ppoll(&entry, 1, &limit, nullptr);
}

bool daemon_gone(int error) noexcept {
  // EBADF: this process has closed our descriptors, and the number is another file's or nobody's.
  return error == EPIPE || error == ECONNRESET || error == ENOTCONN || error == ECONNREFUSED || error == EBADF;
}

// Whether connect() waits, and for how long; 0: it does not.
bool set_waiting(int socket, uint64_t ns) noexcept {
  const uint64_t us = std::min(ns / base::kNsPerUs + 1, 3600 * base::kNsPerSecond / base::kNsPerUs);
  const timeval limit{.tv_sec = static_cast<time_t>(us / 1'000'000), .tv_usec = static_cast<suseconds_t>(us % 1'000'000)};
  return ::setsockopt(socket, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit) == 0 &&
         ::fcntl(socket, F_SETFL, ns == 0 ? O_NONBLOCK : 0) == 0;
}

base::Result<std::string> absolute(const char* path) {
  std::string whole = path;
  if (whole.empty()) return base::fail(WARM_E_INVALID, "the socket's path is empty");
  if (whole[0] != '/') {
    char* directory = ::getcwd(nullptr, 0);
    if (directory == nullptr) return base::fail_errno(errno, "getcwd");
    whole = std::string(directory) + "/" + whole;
    std::free(directory);
  }
  if (whole.size() >= sizeof(sockaddr_un::sun_path)) {
    return base::fail(WARM_E_INVALID, "the socket's path has %zu bytes, at most %zu are possible: %s", whole.size(),
                      sizeof(sockaddr_un::sun_path) - 1, whole.c_str());
  }
  return whole;
}

base::Status send_hello(int socket, const std::optional<Resume>& resume, const base::Deadline& deadline) {
  layout::Hello hello{};
  hello.header = {.kind = static_cast<uint32_t>(layout::MessageKind::hello), .bytes = sizeof hello};
  hello.protocol_version = layout::kProtocolVersion;
  const auto fingerprints = layout::fingerprints();
  std::copy(fingerprints.begin(), fingerprints.end(), hello.fingerprints);
  struct stat pid_namespace{};
  if (::stat("/proc/self/ns/pid", &pid_namespace) == 0) {  // without /proc it stays 0: a channel of its own
    hello.namespace_device = pid_namespace.st_dev;
    hello.namespace_inode = pid_namespace.st_ino;
  }
  int files[2] = {-1, -1};
  if (resume) {
    hello.resume_session = resume->session;
    hello.resume_channel = resume->channel;
    hello.resume_index = resume->session_index;
    files[0] = resume->channel_file;
    files[1] = resume->session_file;
  }
  // Without its descriptors a client is given what its daemon has.
  const bool handed_back = files[0] >= 0 && files[1] >= 0;
  return send_message(socket, &hello, sizeof hello, files, handed_back ? 2 : 0, deadline);
}

// Numbers, because names would have the C library load others.
std::unexpected<base::Error> not_permitted(int error, const std::string& path) {
  struct stat there{};
  if (::stat(path.c_str(), &there) != 0) return base::fail_errno(error, "may not connect to %s", path.c_str());
  return base::fail_errno(error, "may not connect to %s (mode %04o, user %u, group %u)", path.c_str(), there.st_mode & 07777U,
                          there.st_uid, there.st_gid);
}

base::Status refusal(const layout::Refuse& refuse) {
  const int32_t code = refuse.code < 0 && refuse.code >= WARM_E_GONE ? refuse.code : WARM_E_UNSUPPORTED;
  return base::fail(code, "the daemon refuses: %s", refuse.text);
}

}  // namespace

uint64_t Slices::next_ns(const base::Deadline& deadline) noexcept {
  constexpr uint64_t kSlicesMs[] = {1, 5, 25, 50};
  const uint64_t slice = kSlicesMs[step_] * base::kNsPerMs;
  if (step_ + 1 < std::size(kSlicesMs)) ++step_;
  return std::min(slice, deadline.left_ns());
}

base::Result<Received> receive(int socket, Message& ret_message) {
  alignas(cmsghdr) char control[CMSG_SPACE(kFilesMax * sizeof(int))];
  iovec part{.iov_base = ret_message.data, .iov_len = sizeof ret_message.data};
  msghdr packet{};
  packet.msg_iov = &part;
  packet.msg_iovlen = 1;
  packet.msg_control = control;
  packet.msg_controllen = sizeof control;
  ret_message.files.clear();
  ret_message.files.reserve(kFilesMax);
  ssize_t got = 0;
  do {
    got = ::recvmsg(socket, &packet, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  } while (got < 0 && errno == EINTR);
  if (got < 0) {
    if (errno == EAGAIN || errno == EWOULDBLOCK) return Received::nothing;
    if (daemon_gone(errno)) return Received::closed;
    return base::fail_errno(errno, "recvmsg from the daemon");
  }
  for (cmsghdr* at = CMSG_FIRSTHDR(&packet); at != nullptr; at = CMSG_NXTHDR(&packet, at)) {
    if (at->cmsg_level != SOL_SOCKET || at->cmsg_type != SCM_RIGHTS) continue;
    const size_t count = (at->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; ++i) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(at) + i * sizeof(int), sizeof fd);
      ret_message.files.emplace_back(fd);
    }
  }
  if (got == 0) return Received::closed;
  if ((packet.msg_flags & MSG_CTRUNC) != 0) {
    return base::fail(WARM_E_SYSTEM, "descriptors of the daemon were lost: RLIMIT_NOFILE of this process is too small");
  }
  if (got == 1 && ret_message.files.empty() && ret_message.data[0] == std::byte{layout::kNotifyByte}) return Received::notice;
  ret_message.bytes = static_cast<size_t>(got);
  std::memset(ret_message.data + got, 0, sizeof ret_message.data - ret_message.bytes);
  // A welcome of another version is told by its number, not by its length.
  const auto verdict = layout::validate_message(std::span(ret_message.data, ret_message.bytes));
  if ((packet.msg_flags & MSG_TRUNC) != 0 || verdict != layout::Verdict::good) {
    if (verdict == layout::Verdict::unknown_version) {
      return base::fail(WARM_E_VERSION, "the daemon speaks protocol %u, this library %u",
                        ret_message.as<layout::Welcome>().protocol_version, layout::kProtocolVersion);
    }
    return base::fail(WARM_E_CORRUPT, "a packet of the daemon (%zd bytes) is %s", got, layout::verdict_text(verdict));
  }
  ret_message.kind = static_cast<layout::MessageKind>(ret_message.as<layout::MessageHeader>().kind);
  return Received::message;
}

base::Status send_message(int socket, const void* bytes, size_t n, const int* files, size_t file_count,
                          const base::Deadline& deadline) {
  alignas(cmsghdr) char control[CMSG_SPACE(2 * sizeof(int))]{};
  iovec part{.iov_base = const_cast<void*>(bytes), .iov_len = n};
  msghdr packet{};
  packet.msg_iov = &part;
  packet.msg_iovlen = 1;
  if (file_count > 0) {
    packet.msg_control = control;
    packet.msg_controllen = CMSG_SPACE(file_count * sizeof(int));
    cmsghdr* header = CMSG_FIRSTHDR(&packet);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(file_count * sizeof(int));
    std::memcpy(CMSG_DATA(header), files, file_count * sizeof(int));
  }
  for (;;) {
    if (::sendmsg(socket, &packet, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0) return {};
    if (errno == EINTR) continue;
    if (errno == EAGAIN || errno == EWOULDBLOCK || errno == ETOOMANYREFS) {
      if (deadline.passed()) return base::fail(WARM_E_UNAVAILABLE, "the daemon takes no messages");
      wait_for(socket, POLLOUT, std::min(deadline.left_ns(), 50 * base::kNsPerMs));
      continue;
    }
    if (daemon_gone(errno)) {
      auto gone = base::fail_errno(errno, "the daemon is gone");
      gone.error().code = WARM_E_UNAVAILABLE;
      return gone;
    }
    return base::fail_errno(errno, "sendmsg to the daemon");
  }
}

base::Status send_accept(int socket, const std::vector<uint64_t>& forsaken, const base::Deadline& deadline) {
  layout::Accept accept{};
  accept.header = {.kind = static_cast<uint32_t>(layout::MessageKind::accept), .bytes = sizeof accept};
  accept.count = static_cast<uint32_t>(std::min<size_t>(forsaken.size(), layout::kForsakenPerMessage));
  std::copy_n(forsaken.begin(), accept.count, accept.sessions);
  return send_message(socket, &accept, sizeof accept, nullptr, 0, deadline);
}

void send_bye(int socket) noexcept {
  layout::Bye bye{};
  bye.header = {.kind = static_cast<uint32_t>(layout::MessageKind::bye), .bytes = sizeof bye};
  (void)::send(socket, &bye, sizeof bye, MSG_DONTWAIT | MSG_NOSIGNAL);
}

void wait_readable(int socket, uint64_t ns) noexcept { wait_for(socket, POLLIN, ns); }
void wait_writable(int socket, uint64_t ns) noexcept { wait_for(socket, POLLOUT, ns); }

bool peer_gone(int socket) noexcept {
  if (socket < 0) return true;
  // Not by reading: what it sent before it went may still lie there.
  pollfd entry{.fd = socket, .events = POLLRDHUP, .revents = 0};
  return ::poll(&entry, 1, 0) == 1 && (entry.revents & (POLLRDHUP | POLLHUP | POLLERR)) != 0;
}

base::Result<std::string> find_socket(const char* option) {
  if (option != nullptr) return absolute(option);
  // What was named is meant: another daemon is another store.
  if (const char* named = ::secure_getenv("WARMTIER_SOCKET"); named != nullptr && *named != 0) return absolute(named);
  std::vector<std::string> candidates{kSystemSocket};
  if (const char* runtime = ::secure_getenv("XDG_RUNTIME_DIR"); runtime != nullptr && *runtime != 0) {
    candidates.push_back(std::string(runtime) + "/warmtier.sock");
  }
  std::string tried;
  for (const std::string& candidate : candidates) {
    struct stat there{};
    if (::stat(candidate.c_str(), &there) == 0) return absolute(candidate.c_str());
    tried += (tried.empty() ? "" : ", ") + candidate;
  }
  return base::fail(WARM_E_UNAVAILABLE, "no daemon's socket is there; WARMTIER_SOCKET is not set; tried %s", tried.c_str());
}

base::Result<base::Fd> connect_to(const std::string& path, const base::Deadline& deadline) {
  const int fd = ::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return base::fail_errno(errno, "socket");
  base::Fd socket(fd);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  for (bool waits = false;;) {
    if (::connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0) {
      if (waits && !set_waiting(fd, 0)) return base::fail_errno(errno, "make a socket non-blocking");
      return socket;
    }
    const int error = errno;
    if (error == EINTR && !waits) continue;
    // The daemon's queue of connections is full: the kernel wakes us as soon as it is not, which who looks again now and then
    // would hardly meet beside somebody who does nothing else.
    if ((error == EAGAIN || error == EINTR) && !deadline.passed()) {
      waits = true;
      if (!set_waiting(fd, deadline.left_ns())) return base::fail_errno(errno, "make a socket wait");
      continue;
    }
    if (error == EACCES || error == EPERM) return not_permitted(error, path);
    auto failed = base::fail_errno(error, "no daemon answers at %s", path.c_str());
    if (error == ENOENT || error == ECONNREFUSED || error == EAGAIN || error == EINTR || error == ENOTDIR)
      failed.error().code = WARM_E_UNAVAILABLE;
    return failed;
  }
}

base::Result<Greeting> greet(const std::string& path, const std::optional<Resume>& resume, const base::Deadline& deadline) {
  auto socket = connect_to(path, deadline);
  if (!socket) return base::pass(std::move(socket));
  return greet(std::move(*socket), path, resume, deadline);
}

base::Result<Greeting> greet(base::Fd socket, const std::string& path, const std::optional<Resume>& resume,
                             const base::Deadline& deadline) {
  if (auto sent = send_hello(socket.get(), resume, deadline); !sent) {
    // Refused and closed before it was read: the reason lies in our buffer.
    if (sent.error().code != WARM_E_UNAVAILABLE) return base::pass(std::move(sent));
  }
  WARM_FAILPOINT("client.hello_sent");
  Message message;
  for (;;) {
    auto received = receive(socket.get(), message);
    if (!received) return base::pass(std::move(received));
    if (*received == Received::closed) {
      return base::fail(WARM_E_UNAVAILABLE, "the daemon at %s went away during the handshake", path.c_str());
    }
    if (*received == Received::message) break;
    if (deadline.passed()) return base::fail(WARM_E_UNAVAILABLE, "the daemon at %s does not answer", path.c_str());
    wait_readable(socket.get(), deadline.left_ns());
  }
  if (message.kind == layout::MessageKind::refuse) return base::pass(refusal(message.as<layout::Refuse>()));
  if (message.kind != layout::MessageKind::welcome || message.files.size() != layout::kWelcomeDescriptors) {
    return base::fail(WARM_E_CORRUPT, "the daemon's first message is of kind %u with %zu descriptors",
                      static_cast<uint32_t>(message.kind), message.files.size());
  }
  Greeting greeting;
  greeting.socket = std::move(socket);
  greeting.welcome = message.as<layout::Welcome>();
  base::Fd* const places[] = {&greeting.tier,    &greeting.index,   &greeting.feed,   &greeting.status,
                              &greeting.results, &greeting.channel, &greeting.session};
  static_assert(std::size(places) == layout::kWelcomeDescriptors);
  for (size_t i = 0; i < std::size(places); ++i) *places[i] = std::move(message.files[i]);
  return greeting;
}

}  // namespace warmtier::libclient
