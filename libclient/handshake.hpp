// The control socket: finding it, packets with descriptors, hello and welcome. Everything waits at most until a deadline.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.hpp"
#include "base/error.hpp"
#include "base/fd.hpp"
#include "layout/control.hpp"

namespace warmtier::libclient {

// Waits on something that says nothing when it is ready again: 1, 5, 25, then 50 ms, never beyond the deadline.
class Slices {
 public:
  uint64_t next_ns(const base::Deadline& deadline) noexcept;

 private:
  uint32_t step_ = 0;
};

struct Message {
  layout::MessageKind kind{};
  size_t bytes = 0;
  std::vector<base::Fd> files;
  alignas(16) std::byte data[4096];  // longest message to a client: segments

  template <typename T>
  [[nodiscard]] const T& as() const noexcept {
    static_assert(sizeof(T) <= sizeof data);
    return *reinterpret_cast<const T*>(data);
  }
};

enum class Received { message, nothing, closed, notice };  // notice: the byte that says that a request was answered
// Never waits. A packet that is not a valid message is an error.
base::Result<Received> receive(int socket, Message& ret_message);
// WARM_E_UNAVAILABLE when the daemon is gone (with errno) or did not take it before the deadline (without). Up to 2 descriptors.
base::Status send_message(int socket, const void* bytes, size_t n, const int* files, size_t file_count,
                          const base::Deadline& deadline);
// Waits until the socket has something to read or hung up, at most `ns`.
void wait_readable(int socket, uint64_t ns) noexcept;
void wait_writable(int socket, uint64_t ns) noexcept;
// Whether the peer is gone; takes nothing from the socket.
bool peer_gone(int socket) noexcept;

// The socket to use, absolute: `option`; else $WARMTIER_SOCKET, there or not; else the first of /run/warmtier/sock and
// $XDG_RUNTIME_DIR/warmtier.sock that is there. The error names the paths tried.
base::Result<std::string> find_socket(const char* option);

// What a client hands back of an earlier session; a descriptor is -1 when the process has closed it.
struct Resume {
  uint64_t session = 0;
  uint64_t channel = 0;
  uint32_t session_index = 0;
  int channel_file = -1;
  int session_file = -1;
};

struct Greeting {
  base::Fd socket;
  layout::Welcome welcome{};
  base::Fd tier, index, feed, status, results, channel, session;
};

// Answers a welcome: the session is mapped, and these sessions of this process are over.
base::Status send_accept(int socket, const std::vector<uint64_t>& forsaken, const base::Deadline& deadline);
// The session of this socket is over. It waits for nothing: when it cannot be sent, the next daemon is told.
void send_bye(int socket) noexcept;

// WARM_E_UNAVAILABLE: nobody listens there.
base::Result<base::Fd> connect_to(const std::string& path, const base::Deadline& deadline);
// WARM_E_UNAVAILABLE: who listened went away, or does not answer. Other codes are the daemon's refusal or failures here.
base::Result<Greeting> greet(base::Fd socket, const std::string& path, const std::optional<Resume>& resume,
                             const base::Deadline& deadline);
// Both.
base::Result<Greeting> greet(const std::string& path, const std::optional<Resume>& resume, const base::Deadline& deadline);

}  // namespace warmtier::libclient
