// Descriptors that other users send. To close one can take as long as its sender likes: a connection that lingers, a file of a
// file system that answers nobody. So the intake thread neither receives nor closes what another user may have put into a socket:
// threads of their own do, and pass on what may be let in: sealed memory.
//
// They are threads of a process of its own, because whatever keeps a thread keeps its process, and with it every map and every
// lock of that process: the daemon can be killed and its store served by the next one at any time. Each has a table of
// descriptors of its own where the kernel allows that, so that one that is kept for ever holds nothing of the others'. One thread
// works for one user at a time; what it is kept with keeps that user waiting and nobody else. Closing a socket needs no
// descriptor out of it, and what lingers is interrupted: one thread does that for everybody.
//
// Thread law: start() before there is any thread; the rest is the intake thread's.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <deque>
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

// Ends with the thread that started it, or before that with this object, which waits for it unless a thread of it is kept.
struct PorterProcess {
  static base::Result<PorterProcess> start();
  PorterProcess() = default;
  PorterProcess(PorterProcess&&) noexcept = default;
  PorterProcess& operator=(PorterProcess&&) noexcept = default;
  ~PorterProcess();

  base::Fd pidfd;
  base::Fd orders;
  base::Fd replies;  // of all its threads
};

class Porters {
 public:
  Porters() = default;
  Porters(const Porters&) = delete;
  Porters& operator=(const Porters&) = delete;
  ~Porters();  // sockets that are left are open until the process ends
  // Memory of up to so many bytes is let in.
  base::Status open(PorterProcess process, uint64_t memory_bytes_max);
  // Readable: take() has something.
  [[nodiscard]] int event_fd() const noexcept { return process_.replies.get(); }
  // Hangs up when the process ends, which it should not do before we do.
  [[nodiscard]] int end_fd() const noexcept { return process_.orders.get(); }
  [[nodiscard]] bool ended() const noexcept;  // or says what it cannot say

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
  // What could not be handed on to be closed is tried again; `stuck`: there is something, and nothing under way whose end would
  // tell when.
  void hand_on();
  [[nodiscard]] bool stuck() const noexcept { return let_go_owed_ || (closer_.waiting == 0 && !to_close_.empty()); }
  // So many wait to be closed that there should be no more of them; take() says when that is over.
  [[nodiscard]] bool behind() const noexcept { return to_close_.size() >= kClosesBehind; }

 private:
  struct Porter {
    base::Fd jobs;
    uid_t uid = 0;  // whom it works for, while it has something to do
    uint32_t waiting = 0;  // jobs without an end
  };
  base::Result<Porter> hire(uint32_t index);
  Porter* porter_for(uid_t uid);
  bool let_go();

  uint64_t memory_bytes_max_ = 0;
  PorterProcess process_;
  Porter closer_;
  std::deque<base::Fd> to_close_;  // that the closer has not been told of
  bool let_go_owed_ = false;  // it has a job, and does not know yet that we have closed ours
  std::vector<Porter> porters_;
  bool unsound_ = false;
};

}  // namespace warmtier::daemon::session
