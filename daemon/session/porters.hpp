// Descriptors that other users send. To close one can take as long as its sender likes: a connection that lingers, a file of a
// file system that answers nobody. So the intake thread neither receives nor closes what another user may have put into a socket:
// threads of their own do, and pass on what may be let in: sealed memory.
//
// Each of these threads has a table of descriptors of its own where the kernel allows that, so that one that is kept for ever
// holds none of the daemon's: not the store lock above all. One thread works for one user at a time; what it is kept with keeps
// that user waiting and nobody else. Closing a socket needs no descriptor out of it, and what lingers is interrupted: one thread
// does that for everybody.
//
// Thread law: the intake thread.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "base/error.hpp"
#include "base/fd.hpp"
#include "daemon/session/socket.hpp"

namespace warmtier::daemon::session {

constexpr uint32_t kPortersMax = 64;  // threads that receive; who is kept in one does not get a second
constexpr size_t kClosesBehind = 256;
constexpr uint32_t kFetchesPerUserMax = 64;  // that wait for one

class Porters {
 public:
  // Memory of up to so many bytes is let in.
  base::Status open(uint64_t memory_bytes_max);
  // Readable: take() has something.
  [[nodiscard]] int event_fd() const noexcept { return replies_.get(); }

  // The next packet of this socket is received elsewhere, and comes by take(). False: this user has to go.
  bool fetch(uid_t uid, uint64_t connection, uint64_t number, int socket);
  struct Fetched {
    uint64_t connection = 0;
    uint64_t number = 0;
    Packet packet;  // a descriptor that was not let in is an empty one
  };
  // `buffer` holds kMessageBytesMax and gets the bytes. nullopt: nothing more has come.
  std::optional<Fetched> take(std::span<std::byte> buffer);

  // Its peer sees the end at once; what it had still sent is thrown away elsewhere.
  void close(base::Fd socket);
  // So many wait to be closed that there should be no more of them; take() says when that is over.
  [[nodiscard]] bool behind() const noexcept { return closer_.sockets.size() >= kClosesBehind; }

 private:
  struct Porter {
    base::Fd jobs;
    uid_t uid = 0;  // whom it works for, while it has something to do
    uint32_t waiting = 0;  // jobs without an end
  };
  // The last job whose sockets are not open here any more. The closer waits for it, so that nothing is closed for the last time
  // by us.
  using LetGo = std::shared_ptr<std::atomic<uint64_t>>;
  struct Closer {
    Porter porter;
    std::deque<base::Fd> sockets;  // that it has not been told of
    uint64_t jobs = 0;
    LetGo let_go = std::make_shared<std::atomic<uint64_t>>(0);
  };
  base::Result<Porter> hire(uint32_t index, LetGo let_go = nullptr);
  Porter* porter_for(uid_t uid);
  void hand_on();

  uint64_t memory_bytes_max_ = 0;
  base::Fd replies_;
  base::Fd replies_in_;  // the porters' end
  Closer closer_;
  std::vector<Porter> porters_;
};

}  // namespace warmtier::daemon::session
