#include "daemon/session/restart.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <string>
#include <utility>

#include "base/failpoint.hpp"
#include "daemon/session/log.hpp"
#include "layout/layout.hpp"

namespace warmtier::daemon::session {
namespace {

using layout::SessionEntry;
using layout::SessionState;

base::Result<std::vector<std::string>> names_in(int directory) {
  // A description of its own: reading a directory moves the offset.
  auto fd = base::open_at(directory, ".", O_RDONLY | O_DIRECTORY);
  if (!fd) return base::pass(std::move(fd));
  DIR* stream = ::fdopendir(fd->get());
  if (stream == nullptr) return base::fail_errno(errno, "read channels/");
  (void)fd->release();
  std::vector<std::string> names;
  while (const dirent* entry = ::readdir(stream)) names.emplace_back(entry->d_name);
  ::closedir(stream);
  return names;
}

// Pids are of the PID namespace of the daemon that wrote them. In another one they are nobody's, or another process's: whoever
// has one cannot be seen from here, and counts as alive. Killed in between, the next daemon does it again.
void forget_foreign_pids(Results& results, const base::InodeId& own) {
  layout::ResultsHeader& header = results.header();
  const base::InodeId theirs{.device = header.daemon_namespace_device, .inode = header.daemon_namespace_inode};
  if (theirs == own) return;
  for (uint32_t index = 0; theirs != base::InodeId{} && index < layout::kSessionsPerChannel; ++index) {
    if (!has_tenant(results.entry(index))) continue;
    layout::store_relaxed(results.entry(index).pid, 0U);
    WARM_FAILPOINT("daemon.restart.pid_forgotten");
  }
  layout::store_release(header.daemon_namespace_device, own.device);
  WARM_FAILPOINT("daemon.restart.namespace_half_named");
  layout::store_release(header.daemon_namespace_inode, own.inode);
}

// A number that no daemon grants means every cell: a pin that is looked at in vain costs a slot, one that is not a reader.
uint32_t views_granted_in(const SessionEntry& entry) noexcept {
  const uint32_t views = layout::load_acquire(entry.views_max);
  return views >= 1 && views <= layout::kViewsMax ? views : layout::kViewsMax;
}

AdoptedChannel adopt_sessions(std::unique_ptr<Channel> channel, const AccessRules& rules, uid_t own_uid, Kept& kept) {
  AdoptedChannel adopted;
  Results& results = channel->results();
  const uid_t uid = channel->key().uid;
  for (uint32_t index = 0; index < layout::kSessionsPerChannel; ++index) {
    SessionEntry& entry = results.entry(index);
    if (!has_tenant(entry)) continue;
    auto session = std::make_shared<Session>();
    session->channel = channel.get();
    session->index = index;
    session->number = layout::load_acquire(entry.number);
    session->process = {.pid = entry.pid, .start_time = entry.start_time, .pidfs_inode = entry.pidfs_inode};
    session->memfd = {.device = entry.memfd_device, .inode = entry.memfd_inode};
    session->since_ns = entry.since_ns;
    session->views_max = views_granted_in(entry);
    // In one that was only offered nothing is pinned or published, and maybe nobody knows its number.
    const bool offered = layout::load_acquire(entry.state) == static_cast<uint32_t>(SessionState::offered);
    LivingProcess process;
    const Liveness liveness = offered ? Liveness::gone : find_process(session->process, &process);
    if (liveness == Liveness::gone) {
      layout::store_release(entry.state, static_cast<uint32_t>(SessionState::dead));
      WARM_FAILPOINT("daemon.restart.dead");
      continue;
    }
    session->access = rules.of(uid, process.gid, process.groups, own_uid);
    if (liveness == Liveness::unknown) {
      log_line(Priority::warning, "session %llu of process %u: whether it lives cannot be seen; its pins are awaited",
               static_cast<unsigned long long>(session->number), entry.pid);
    }
    base::Fd memfd = take_kept(kept, kept_session_name(session->number));
    if (memfd) {
      if (auto region = check_handed_back(memfd.get(), session->memfd, sizeof(layout::SessionRegion))) {
        session->region = std::move(*region);
      } else {
        memfd.reset();
      }
    }
    adopted.orphans.push_back({.session = std::move(session), .memfd = std::move(memfd), .pidfd = std::move(process.pidfd)});
  }
  if (base::Fd lanes_fd = take_kept(kept, kept_channel_name(channel->number()))) {
    if (auto lanes = channel->check_lanes(lanes_fd.get())) {
      channel->install_lanes(std::move(*lanes));
      channel->keep_lanes_fd(std::move(lanes_fd));
    }
  }
  adopted.channel = std::move(channel);
  return adopted;
}

}  // namespace

base::Result<std::vector<AdoptedChannel>> adopt_channels(int channels_directory, const StoreIdentity& store,
                                                         const AccessRules& rules, uid_t own_uid, bool is_void, Kept& kept) {
  std::vector<AdoptedChannel> all;
  auto names = names_in(channels_directory);
  if (!names) return base::pass(std::move(names));
  for (const std::string& name : *names) {
    const bool unpublished = name.starts_with(kNewResultsPrefix);
    if (!unpublished && channel_of_results_name(name) == 0) continue;
    const auto drop = [&] {
      ::unlinkat(channels_directory, name.c_str(), 0);
      WARM_FAILPOINT("daemon.restart.unlinked");
    };
    if (unpublished || is_void) {
      drop();
      continue;
    }
    auto channel = Channel::adopt(channels_directory, name, store);
    if (!channel) {
      // Another boot's, another store's, or damaged: no living process can use it. Trouble of our own is not a reason to drop it.
      if (channel.error().code != WARM_E_INVALID) return base::pass(std::move(channel));
      drop();
      continue;
    }
    forget_foreign_pids((*channel)->results(), store.pid_namespace);
    AdoptedChannel adopted = adopt_sessions(std::move(*channel), rules, own_uid, kept);
    if (adopted.orphans.empty()) {
      drop();
      continue;
    }
    all.push_back(std::move(adopted));
  }
  return all;
}

}  // namespace warmtier::daemon::session
