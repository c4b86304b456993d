#include "tests/hostile/raw.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "layout/describe.hpp"

namespace warmtier::tests::hostile {
namespace {

constexpr int kPatienceMs = 10'000;
constexpr size_t kDescriptorsMax = 253;

struct Packet {
  std::vector<std::byte> bytes;
  std::vector<base::Fd> descriptors;
};
std::optional<Packet> receive(int socket) {
  pollfd look{.fd = socket, .events = POLLIN, .revents = 0};
  if (::poll(&look, 1, kPatienceMs) != 1) return std::nullopt;
  Packet packet;
  packet.bytes.resize(size_t{64} << 10);
  iovec part{.iov_base = packet.bytes.data(), .iov_len = packet.bytes.size()};
  alignas(cmsghdr) std::byte control[CMSG_SPACE(kDescriptorsMax * sizeof(int))];
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  const ssize_t got = ::recvmsg(socket, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
  if (got <= 0) return std::nullopt;
  packet.bytes.resize(static_cast<size_t>(got));
  for (cmsghdr* at = CMSG_FIRSTHDR(&message); at != nullptr; at = CMSG_NXTHDR(&message, at)) {
    const size_t count = (at->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; ++i) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(at) + i * sizeof fd, sizeof fd);
      packet.descriptors.emplace_back(fd);
    }
  }
  return packet;
}

}  // namespace

base::Fd dial(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.c_str(), std::min(path.size() + 1, sizeof address.sun_path));
  base::Fd socket(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!socket || ::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) return {};
  return socket;
}

layout::Hello hello() {
  layout::Hello hello{};
  hello.header = {.kind = static_cast<uint32_t>(layout::MessageKind::hello), .bytes = sizeof hello};
  hello.protocol_version = layout::kProtocolVersion;
  const auto own = layout::fingerprints();
  std::copy(own.begin(), own.end(), hello.fingerprints);
  struct stat pid_namespace{};
  if (::stat("/proc/self/ns/pid", &pid_namespace) == 0) {
    hello.namespace_device = pid_namespace.st_dev;
    hello.namespace_inode = pid_namespace.st_ino;
  }
  return hello;
}

bool send_raw(int socket, std::span<const std::byte> bytes, const std::vector<int>& descriptors) {
  iovec part{.iov_base = const_cast<std::byte*>(bytes.data()), .iov_len = bytes.size()};
  alignas(cmsghdr) std::byte control[CMSG_SPACE(kDescriptorsMax * sizeof(int))] = {};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  if (!descriptors.empty()) {
    message.msg_control = control;
    message.msg_controllen = CMSG_SPACE(descriptors.size() * sizeof(int));
    cmsghdr* rights = CMSG_FIRSTHDR(&message);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(descriptors.size() * sizeof(int));
    std::memcpy(CMSG_DATA(rights), descriptors.data(), descriptors.size() * sizeof(int));
  }
  return ::sendmsg(socket, &message, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0;
}

std::optional<RawSession> attach_raw(const std::string& path, uint64_t pid_namespace) {
  RawSession session;
  layout::Hello said = hello();
  if (pid_namespace != 0) said.namespace_inode = pid_namespace;
  session.socket = dial(path);
  if (!session.socket || !send_message(session.socket.get(), said)) return std::nullopt;
  auto packet = receive(session.socket.get());
  if (!packet || packet->bytes.size() < sizeof session.welcome || packet->descriptors.size() != layout::kWelcomeDescriptors)
    return std::nullopt;
  std::memcpy(&session.welcome, packet->bytes.data(), sizeof session.welcome);
  session.descriptors = std::move(packet->descriptors);
  auto lanes = base::WriteMapping::map(session.descriptors[5].get(), layout::channel_bytes(session.welcome.lanes));
  auto region = base::WriteMapping::map(session.descriptors[6].get(), sizeof(layout::SessionRegion));
  if (!lanes || !region) return std::nullopt;
  session.lanes = std::move(*lanes);
  session.region = std::move(*region);
  layout::Accept accept{};
  accept.header = {.kind = static_cast<uint32_t>(layout::MessageKind::accept), .bytes = sizeof accept};
  if (!send_message(session.socket.get(), accept)) return std::nullopt;
  while (auto list = receive(session.socket.get())) {
    layout::Segments segments{};
    std::memcpy(&segments, list->bytes.data(), std::min(list->bytes.size(), sizeof segments));
    if (segments.header.kind == static_cast<uint32_t>(layout::MessageKind::segments) && segments.last != 0) return session;
  }
  return std::nullopt;
}

}  // namespace warmtier::tests::hostile
