// Who is at the other end of a socket, and whether a process is still the one that it was.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <vector>

#include "base/error.hpp"
#include "base/fd.hpp"

namespace warmtier::daemon::session {

// What tells one process from another, also when its pid is used again.
struct ProcessIdentity {
  uint32_t pid = 0;          // as this daemon sees it; 0: it cannot
  uint64_t start_time = 0;   // clock ticks since boot; 0: unknown
  uint64_t pidfs_inode = 0;  // 0: the kernel has none
};
// By the pidfs inode where both have one, else by pid and start time. Two unknowns are not the same.
bool same_process(const ProcessIdentity& a, const ProcessIdentity& b) noexcept;

struct Peer {
  uid_t uid = 0;
  gid_t gid = 0;
  std::vector<gid_t> groups;
  ProcessIdentity process;
  base::Fd pidfd;
  // False for a peer from a world whose processes cannot be told apart from here (overflow uid, no pid, no /proc): robust
  // mutexes must not cross PID namespaces, so it gets a channel of its own.
  bool can_share_channel = true;
};

// SO_PEERCRED and SO_PEERPIDFD; without the latter pidfd_open, after which the socket must still be connected and the process
// must have the peer's uid. WARM_E_UNSUPPORTED when the process cannot be held on to.
base::Result<Peer> peer_of(int socket);
// That in which this process sees others; zeros: it cannot be had.
base::InodeId own_pid_namespace() noexcept;

// The process of an identity that was stored earlier, if it still lives.
struct LivingProcess {
  base::Fd pidfd;
  gid_t gid = 0;
  std::vector<gid_t> groups;
};
enum class Liveness { lives, gone, unknown };
Liveness find_process(const ProcessIdentity& process, LivingProcess* ret_process);

// Whether the process of a pidfd has ended.
bool has_ended(int pidfd) noexcept;

}  // namespace warmtier::daemon::session
