#include "daemon/session/socket.hpp"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "base/assert.hpp"

namespace warmtier::daemon::session {
namespace {

constexpr size_t kDescriptorsSentMax = 253;  // SCM_MAX_FD

base::Result<sockaddr_un> address_of(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof address.sun_path) {
    return base::fail(WARM_E_INVALID, "socket path \"%s\" has %zu bytes; 1 to %zu are possible", path.c_str(), path.size(),
                      sizeof address.sun_path - 1);
  }
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  return address;
}

base::Result<base::Fd> new_socket(int type) {
  base::Fd fd(::socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd) return base::fail_errno(errno, "socket");
  return fd;
}

// A peer that closes with something unread resets the connection: said once, before what it has sent, which is there all the
// same.
bool passes(int error) noexcept { return error == EINTR || error == ECONNRESET; }

// What stands at the path: nothing, a socket that nobody serves, or something to leave alone.
base::Status check_free(const std::string& path, const sockaddr_un& address, int type) {
  struct stat st{};
  if (::lstat(path.c_str(), &st) != 0) {
    if (errno == ENOENT) return {};
    return base::fail_errno(errno, "look at %s", path.c_str());
  }
  if (!S_ISSOCK(st.st_mode))
    return base::fail(WARM_E_EXISTS, "%s is there and is not a socket: choose another path or remove it", path.c_str());
  auto probe = new_socket(type);
  if (!probe) return base::pass(std::move(probe));
  if (::connect(probe->get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0 || errno == EAGAIN ||
      errno == EINPROGRESS) {
    return base::fail(WARM_E_BUSY, "a daemon answers at %s already", path.c_str());
  }
  // Refused: its listener is gone. Another type of socket is somebody else's.
  if (errno == ECONNREFUSED || errno == ENOENT) return {};
  return base::fail_errno(errno, "%s is in use by something else", path.c_str());
}

}  // namespace

Packet receive_packet(int socket, std::span<std::byte> buffer) {
  Packet packet;
  iovec part{.iov_base = buffer.data(), .iov_len = buffer.size()};
  alignas(cmsghdr) std::byte control[CMSG_SPACE(kDescriptorsReceivedMax * sizeof(int))];
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  ssize_t got = 0;
  do {
    got = ::recvmsg(socket, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  } while (got < 0 && passes(errno));
  if (got < 0) {
    packet.state = errno == EAGAIN || errno == EWOULDBLOCK ? Packet::State::nothing : Packet::State::closed;
    return packet;
  }
  for (cmsghdr* part_of = CMSG_FIRSTHDR(&message); part_of != nullptr; part_of = CMSG_NXTHDR(&message, part_of)) {
    if (part_of->cmsg_level != SOL_SOCKET || part_of->cmsg_type != SCM_RIGHTS) continue;
    const size_t count = (part_of->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; ++i) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(part_of) + i * sizeof fd, sizeof fd);
      packet.descriptors.emplace_back(fd);
    }
  }
  packet.bytes = static_cast<size_t>(got);
  if ((message.msg_flags & MSG_CTRUNC) != 0 && packet.descriptors.size() < kDescriptorsReceivedMax) {
    packet.state = Packet::State::starved;
  } else if ((message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0) {
    packet.state = Packet::State::malformed;
  } else {
    packet.state = got == 0 ? Packet::State::closed : Packet::State::received;
  }
  return packet;
}

Head look_at(int socket) noexcept {
  std::byte byte{};
  iovec part{.iov_base = &byte, .iov_len = sizeof byte};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  ssize_t got = 0;
  do {
    got = ::recvmsg(socket, &message, MSG_DONTWAIT | MSG_PEEK);
  } while (got < 0 && passes(errno));
  if (got < 0) return errno == EAGAIN || errno == EWOULDBLOCK ? Head::nothing : Head::plain;
  return (message.msg_flags & MSG_CTRUNC) != 0 ? Head::with_descriptors : Head::plain;
}

Sent send_packet(int socket, std::span<const std::byte> bytes, std::span<const base::Fd> descriptors) {
  WARM_ASSERT(descriptors.size() <= kDescriptorsSentMax);
  iovec part{.iov_base = const_cast<std::byte*>(bytes.data()), .iov_len = bytes.size()};
  alignas(cmsghdr) std::byte control[CMSG_SPACE(kDescriptorsSentMax * sizeof(int))];
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  if (!descriptors.empty()) {
    message.msg_control = control;
    message.msg_controllen = CMSG_SPACE(descriptors.size() * sizeof(int));
    std::memset(control, 0, message.msg_controllen);
    cmsghdr* rights = CMSG_FIRSTHDR(&message);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(descriptors.size() * sizeof(int));
    for (size_t i = 0; i < descriptors.size(); ++i) {
      const int fd = descriptors[i].get();
      std::memcpy(CMSG_DATA(rights) + i * sizeof fd, &fd, sizeof fd);
    }
  }
  ssize_t sent = 0;
  do {
    sent = ::sendmsg(socket, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
  } while (sent < 0 && errno == EINTR);
  if (sent >= 0) return Sent::sent;
  if (errno == EPIPE || errno == ECONNRESET) return Sent::unheard;
  return errno == EAGAIN || errno == EWOULDBLOCK ? Sent::full : Sent::failed;
}

base::Status check_place(const std::string& path, int type) {
  auto address = address_of(path);
  if (!address) return base::pass(std::move(address));
  if (auto s = check_free(path, *address, type); !s) return s;
  const size_t slash = path.rfind('/');
  const std::string directory = slash == std::string::npos ? "." : path.substr(0, slash + 1);
  if (::access(directory.c_str(), W_OK | X_OK) != 0) return base::fail_errno(errno, "make the socket %s", path.c_str());
  return {};
}

base::Result<Listener> listen_at(const std::string& path, unsigned mode, int type) {
  auto address = address_of(path);
  if (!address) return base::pass(std::move(address));
  if (auto s = check_free(path, *address, type); !s) return base::pass(std::move(s));
  // Made beside it and renamed over it: nobody meets it with other rights, or not listening.
  const std::string beside = path + ".new";
  auto beside_address = address_of(beside);
  if (!beside_address) {
    return base::fail(WARM_E_INVALID, "socket path \"%s\" has %zu bytes; up to %zu are possible", path.c_str(), path.size(),
                      sizeof address->sun_path - 1 - std::strlen(".new"));
  }
  auto fd = new_socket(type);
  if (!fd) return base::pass(std::move(fd));
  ::unlink(beside.c_str());
  if (::bind(fd->get(), reinterpret_cast<const sockaddr*>(&*beside_address), sizeof *beside_address) != 0) {
    return base::fail_errno(errno, "make the socket %s", path.c_str());
  }
  const auto undo = [&](std::unexpected<base::Error> error) {
    ::unlink(beside.c_str());
    return error;
  };
  if (::chmod(beside.c_str(), mode) != 0) return undo(base::fail_errno(errno, "chmod %s", beside.c_str()));
  if (::listen(fd->get(), kListenQueueMax) != 0) return undo(base::fail_errno(errno, "listen at %s", path.c_str()));
  struct stat st{};
  if (::lstat(beside.c_str(), &st) != 0) return undo(base::fail_errno(errno, "look at %s", beside.c_str()));
  if (::rename(beside.c_str(), path.c_str()) != 0)
    return undo(base::fail_errno(errno, "rename %s to %s", beside.c_str(), path.c_str()));
  return Listener{.fd = std::move(*fd), .inode = {.device = st.st_dev, .inode = st.st_ino}};
}

}  // namespace warmtier::daemon::session
