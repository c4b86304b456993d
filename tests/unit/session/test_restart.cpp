// What a new daemon makes of channels/.
#include <criterion/criterion.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <fstream>

#include "daemon/session/restart.hpp"
#include "tests/unit/session/fixture.hpp"

using namespace warmtier;
using namespace warmtier::daemon;
using namespace warmtier::daemon::session;
using namespace warmtier::daemon::session::test;

namespace {

ProcessIdentity identity_of_this_process() {
  int fds[2];
  cr_assert(::socketpair(AF_UNIX, SOCK_SEQPACKET, 0, fds) == 0);
  auto peer = peer_of(fds[0]);
  ::close(fds[0]);
  ::close(fds[1]);
  return peer->process;
}

void write_entry(Workplace& s, uint32_t index, const ProcessIdentity& process) {
  auto& entry = s.channel->results().entry(index);
  entry.pid = process.pid;
  entry.start_time = process.start_time;
  entry.pidfs_inode = process.pidfs_inode;
}

base::Result<std::vector<AdoptedChannel>> adopt(const Workplace& s, const StoreIdentity& store = identity(), bool is_void = false,
                                                Kept kept = {}) {
  return adopt_channels(s.directory.fd(), store, AccessRules(), ::getuid(), is_void, kept);
}

}  // namespace

Test(restart, living_process_is_an_orphan_and_a_dead_one_is_dead) {
  Workplace s;
  s.add_session(1);
  write_entry(s, 0, identity_of_this_process());
  write_entry(s, 1, {.pid = 0x3FFFFFFF, .start_time = 5, .pidfs_inode = 0});
  auto adopted = adopt(s);
  cr_assert(adopted.has_value());
  cr_assert_eq(adopted->size(), 1);
  cr_assert_eq((*adopted)[0].orphans.size(), 1);
  const Orphan& orphan = (*adopted)[0].orphans[0];
  cr_assert_eq(orphan.session->number, s.session(0).number);
  cr_assert(orphan.session->access == layout::Access::admin);
  cr_assert(static_cast<bool>(orphan.pidfd));
  cr_assert_eq(s.channel->results().entry(1).state, static_cast<uint32_t>(layout::SessionState::dead));
}

Test(restart, orphan_has_what_it_was_granted_and_a_number_that_none_grants_is_every_cell) {
  for (const uint32_t written : {1U, 64U, 4711U, layout::kViewsMax, 0U, layout::kViewsMax + 1, ~0U}) {
    Workplace s;
    write_entry(s, 0, identity_of_this_process());
    s.channel->results().entry(0).views_max = written;
    auto adopted = adopt(s);
    const bool granted = written >= 1 && written <= layout::kViewsMax;
    cr_assert_eq((*adopted)[0].orphans[0].session->views_max, granted ? written : layout::kViewsMax, "%u in the entry", written);
  }
}

Test(restart, session_that_was_only_offered_is_void_though_its_process_lives) {
  Workplace s;
  s.add_session(1);
  write_entry(s, 0, identity_of_this_process());
  write_entry(s, 1, identity_of_this_process());
  s.channel->results().entry(1).state = static_cast<uint32_t>(layout::SessionState::offered);
  auto adopted = adopt(s);
  cr_assert(adopted.has_value());
  cr_assert_eq((*adopted)[0].orphans.size(), 1);
  cr_assert_eq((*adopted)[0].orphans[0].session->index, 0);
  cr_assert_eq(s.channel->results().entry(1).state, static_cast<uint32_t>(layout::SessionState::dead));
}

Test(restart, process_that_cannot_be_seen_counts_as_alive) {
  Workplace s;
  write_entry(s, 0, {.pid = 0, .start_time = 0, .pidfs_inode = 12345});
  auto adopted = adopt(s);
  cr_assert_eq(adopted->size(), 1);
  cr_assert_eq((*adopted)[0].orphans.size(), 1);
  cr_assert(!(*adopted)[0].orphans[0].pidfd);
}

// In another PID namespace the number is nobody's, or somebody else's.
Test(restart, process_that_another_pid_namespaces_daemon_saw_counts_as_alive) {
  Workplace s;
  s.channel->results().header().daemon_namespace_inode = 1;
  write_entry(s, 0, {.pid = 0x3FFFFFFF, .start_time = 5, .pidfs_inode = 12345});
  StoreIdentity here = identity();
  here.pid_namespace.inode = 2;
  for (int life = 0; life < 2; ++life) {
    auto adopted = adopt(s, here);
    cr_assert_eq(adopted->size(), 1);
    cr_assert_eq((*adopted)[0].orphans.size(), 1);
    cr_assert_eq((*adopted)[0].orphans[0].session->process.pid, 0);
    cr_assert_eq((*adopted)[0].orphans[0].session->process.pidfs_inode, 12345);
    cr_assert_eq(s.channel->results().header().daemon_namespace_inode, 2);
  }
  // What this one writes are numbers that it sees.
  write_entry(s, 0, {.pid = 0x3FFFFFFF, .start_time = 5, .pidfs_inode = 12345});
  cr_assert(adopt(s, here)->empty());
}

Test(restart, files_without_a_living_session_are_unlinked) {
  Workplace s;
  write_entry(s, 0, {.pid = 0x3FFFFFFF, .start_time = 5, .pidfs_inode = 0});
  auto adopted = adopt(s);
  cr_assert(adopted.has_value());
  cr_assert(adopted->empty());
  cr_assert_eq(s.directory.entries(), 0);
}

Test(restart, files_of_another_boot_another_store_or_damaged_are_unlinked) {
  for (int which = 0; which < 4; ++which) {
    Workplace s;
    write_entry(s, 0, identity_of_this_process());
    StoreIdentity store = identity();
    if (which == 0) store.boot_id[0] ^= 1;
    if (which == 1) store.store_id[0] ^= 1;
    if (which == 2) s.channel->results().header().lanes = 3;
    if (which == 3) s.channel->results().header().magic = 0;
    auto adopted = adopt(s, store);
    cr_assert(adopted.has_value());
    cr_assert(adopted->empty(), "case %d", which);
    cr_assert_eq(s.directory.entries(), 0, "case %d", which);
  }
}

Test(restart, after_a_void_run_no_channel_is_adopted) {
  Workplace s;
  write_entry(s, 0, identity_of_this_process());
  auto adopted = adopt(s, identity(), true);
  cr_assert(adopted->empty());
  cr_assert_eq(s.directory.entries(), 0);
}

Test(restart, what_is_not_ours_is_left_alone_and_what_was_not_published_is_removed) {
  Workplace s;
  write_entry(s, 0, identity_of_this_process());
  std::ofstream(s.directory.path() + "/notes.txt") << "x";
  std::ofstream(s.directory.path() + "/007.state") << "x";
  std::ofstream(s.directory.path() + "/new-5") << "x";
  auto adopted = adopt(s);
  cr_assert_eq(adopted->size(), 1);
  cr_assert(std::filesystem::exists(s.directory.path() + "/notes.txt"));
  cr_assert(std::filesystem::exists(s.directory.path() + "/007.state"));
  cr_assert(!std::filesystem::exists(s.directory.path() + "/new-5"));
}

Test(restart, lanes_are_only_taken_from_the_memory_that_was_handed_out) {
  Workplace s;
  write_entry(s, 0, identity_of_this_process());
  auto adopted = adopt(s);
  Channel& channel = *(*adopted)[0].channel;
  auto other = base::make_memfd("other", layout::channel_bytes(channel.lanes()));
  cr_assert(!channel.check_lanes(other->get()).has_value());
  cr_assert(!channel.check_lanes(s.directory.fd()).has_value());
  cr_assert(channel.check_lanes(s.channel->lanes_fd()).has_value());
}

Test(restart, memory_that_was_kept_is_taken_and_nobody_is_waited_for) {
  Workplace s;
  write_entry(s, 0, identity_of_this_process());
  s.session().shared()->pins[5] = 8;
  Kept kept;
  kept[kept_session_name(s.session().number)] = base::Fd(::dup(s.memfds[0].get()));
  kept[kept_channel_name(s.channel->number())] = base::Fd(::dup(s.channel->lanes_fd()));
  auto adopted = adopt(s, identity(), false, std::move(kept));
  cr_assert_eq((*adopted)[0].orphans.size(), 1);
  const Orphan& orphan = (*adopted)[0].orphans[0];
  cr_assert(static_cast<bool>(orphan.memfd));
  cr_assert_eq(orphan.session->shared()->pins[5], 8);
  cr_assert((*adopted)[0].channel->has_lanes());
}

Test(restart, memory_of_another_name_or_inode_is_not_taken) {
  Workplace s;
  write_entry(s, 0, identity_of_this_process());
  Kept kept;
  kept[kept_session_name(s.session().number)] = std::move(*base::make_memfd("forged", sizeof(layout::SessionRegion)));
  kept[kept_session_name(s.session().number + 1)] = base::Fd(::dup(s.memfds[0].get()));
  kept[kept_channel_name(s.channel->number())] =
      std::move(*base::make_memfd("forged", layout::channel_bytes(s.channel->lanes())));
  auto adopted = adopt(s, identity(), false, std::move(kept));
  const Orphan& orphan = (*adopted)[0].orphans[0];
  cr_assert(!orphan.memfd && !orphan.session->region);
  cr_assert(!(*adopted)[0].channel->has_lanes());
}
