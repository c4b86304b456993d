#include <criterion/criterion.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.hpp"
#include "daemon/session/credentials.hpp"

using namespace warmtier;
using namespace warmtier::daemon::session;

namespace {

struct Pair {
  Pair() {
    int fds[2];
    cr_assert(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) == 0);
    ours.reset(fds[0]);
    theirs.reset(fds[1]);
  }
  base::Fd ours;
  base::Fd theirs;
};

pid_t start_waiting_child() {
  const pid_t child = ::fork();
  if (child == 0) {
    for (;;) ::pause();
  }
  return child;
}

}  // namespace

Test(credentials, peer_is_this_process) {
  Pair pair;
  auto peer = peer_of(pair.ours.get());
  cr_assert(peer.has_value());
  cr_assert_eq(peer->uid, ::getuid());
  cr_assert_eq(peer->process.pid, static_cast<uint32_t>(::getpid()));
  cr_assert_neq(peer->process.start_time, 0);
  cr_assert(peer->can_share_channel);
  cr_assert(!has_ended(peer->pidfd.get()));
}

Test(credentials, process_is_found_again_until_it_has_ended) {
  Pair pair;
  const pid_t child = start_waiting_child();
  ProcessIdentity identity;
  {
    // Its identity as a daemon would have stored it: from its pid alone.
    LivingProcess any;
    ProcessIdentity guess{.pid = static_cast<uint32_t>(child), .start_time = 1, .pidfs_inode = 0};
    cr_assert(find_process(guess, &any) == Liveness::gone, "a process that started at another time is another one");
    auto self = peer_of(pair.ours.get());
    identity = self->process;
  }
  LivingProcess found;
  cr_assert(find_process(identity, &found) == Liveness::lives);
  cr_assert_eq(found.gid, ::getegid());

  ProcessIdentity other = identity;
  other.pidfs_inode += identity.pidfs_inode != 0 ? 1 : 0;
  other.start_time += 1;
  cr_assert(find_process(other, &found) == Liveness::gone);
  cr_assert(!same_process(identity, other));

  ::kill(child, SIGKILL);
  ::waitpid(child, nullptr, 0);
  const ProcessIdentity dead{.pid = static_cast<uint32_t>(child), .start_time = 1, .pidfs_inode = 0};
  cr_assert(find_process(dead, &found) == Liveness::gone);
}

Test(credentials, two_unknown_processes_are_not_the_same) {
  const ProcessIdentity unknown;
  cr_assert(!same_process(unknown, unknown));
  const ProcessIdentity a{.pid = 5, .start_time = 0, .pidfs_inode = 0};
  cr_assert(!same_process(a, a));
  const ProcessIdentity b{.pid = 5, .start_time = 9, .pidfs_inode = 0};
  cr_assert(same_process(b, b));
  const ProcessIdentity c{.pid = 6, .start_time = 10, .pidfs_inode = 77};
  const ProcessIdentity d{.pid = 7, .start_time = 10, .pidfs_inode = 77};
  cr_assert(same_process(c, d), "the inode of pidfs decides, whatever the pid looks like from here");
}

Test(credentials, process_that_cannot_be_seen_counts_as_neither_alive_nor_gone) {
  LivingProcess found;
  const ProcessIdentity unseen{.pid = 0, .start_time = 0, .pidfs_inode = 5};
  cr_assert(find_process(unseen, &found) == Liveness::unknown);
}
