// Packets with descriptors on a Unix SOCK_SEQPACKET socket. Never blocks: MSG_DONTWAIT on every call, whatever a peer did to the
// flags that it shares with us.
#pragma once

#include <sys/socket.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/error.hpp"
#include "base/fd.hpp"
#include "layout/control.hpp"

namespace warmtier::daemon::session {

// Connections that wait to be accepted: whoever comes is behind so many, and one, at most.
constexpr int kListenQueueMax = 128;
constexpr size_t kDescriptorsReceivedMax = 2;  // a hello has two, a put one

struct Packet {
  enum class State { received, nothing, closed, malformed, starved };  // starved: we had no descriptor left for what came
  State state = State::nothing;
  size_t bytes = 0;
  std::vector<base::Fd> descriptors;  // all that came, also with a malformed packet: closed with it
};
// `buffer` holds kMessageBytesMax. A packet that was cut, or whose descriptors were, is malformed.
Packet receive_packet(int socket, std::span<std::byte> buffer);

// What stands first in the queue, without taking it: no descriptor of it is received.
enum class Head { nothing, plain, with_descriptors };
Head look_at(int socket) noexcept;

enum class Sent { sent, full, unheard, failed };  // unheard: the peer has closed its end
Sent send_packet(int socket, std::span<const std::byte> bytes, std::span<const base::Fd> descriptors);

template <typename Message>
std::span<const std::byte> bytes_of(const Message& message) noexcept {
  return std::as_bytes(std::span(&message, 1));
}

// Whether one could be made there, as far as can be said without making it.
base::Status check_place(const std::string& path, int type = SOCK_SEQPACKET);
// A listening socket of this type at `path` with `mode`. A stale one is replaced; one that answers is WARM_E_BUSY.
struct Listener {
  base::Fd fd;
  base::InodeId inode;  // of the name, so that its maker removes no other
};
base::Result<Listener> listen_at(const std::string& path, unsigned mode, int type = SOCK_SEQPACKET);

}  // namespace warmtier::daemon::session
