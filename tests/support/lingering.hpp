// A connection whose last close waits, for an hour, for a peer who reads nothing.
#pragma once

#include <netinet/in.h>
#include <sys/socket.h>

#include <cstddef>
#include <vector>

#include "base/fd.hpp"

namespace warmtier::tests::support {

struct Lingering {
  base::Fd end;
  base::Fd peer;
};

// Empty where there is no loopback.
inline Lingering lingering() {
  const base::Fd listener(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t bytes = sizeof address;
  Lingering made;
  made.end.reset(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (::bind(listener.get(), reinterpret_cast<sockaddr*>(&address), bytes) != 0 || ::listen(listener.get(), 1) != 0 ||
      ::getsockname(listener.get(), reinterpret_cast<sockaddr*>(&address), &bytes) != 0 ||
      ::connect(made.end.get(), reinterpret_cast<sockaddr*>(&address), bytes) != 0) {
    return {};
  }
  made.peer.reset(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
  const linger wait{.l_onoff = 1, .l_linger = 3600};
  (void)::setsockopt(made.end.get(), SOL_SOCKET, SO_LINGER, &wait, sizeof wait);
  const std::vector<std::byte> bulk(size_t{1} << 16);
  while (::send(made.end.get(), bulk.data(), bulk.size(), MSG_DONTWAIT | MSG_NOSIGNAL) > 0) {
  }
  return made;
}

}  // namespace warmtier::tests::support
