#include "daemon/session/channel.hpp"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/mman.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "base/assert.hpp"
#include "base/failpoint.hpp"
#include "base/robust_mutex.hpp"

namespace warmtier::daemon::session {

using layout::ChannelHeader;
using layout::SessionEntry;
using layout::SessionState;

uint32_t lanes_on_this_host() noexcept {
  const long cpus = std::max(::sysconf(_SC_NPROCESSORS_CONF), 1L);
  return static_cast<uint32_t>(std::clamp<long>(cpus * layout::kLanesPerCpu, layout::kLanesMin, layout::kLanesMax));
}

base::Result<base::WriteMapping> check_handed_back(int memfd, const base::InodeId& expected, uint64_t bytes) {
  constexpr int kSeals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;
  // First: only memory has seals, and any other question goes to the file's own file system, which may never answer.
  const int seals = ::fcntl(memfd, F_GET_SEALS);
  if (seals < 0 || (seals & kSeals) != kSeals) return base::fail(WARM_E_INVALID, "a memfd without its seals");
  auto inode = base::inode_of(memfd);
  if (!inode) return base::pass(std::move(inode));
  if (*inode != expected) return base::fail(WARM_E_INVALID, "another memory than the one handed out");
  struct statfs fs{};
  if (::fstatfs(memfd, &fs) != 0 || fs.f_type != TMPFS_MAGIC) return base::fail(WARM_E_INVALID, "not a memfd");
  auto length = base::file_bytes(memfd);
  if (!length) return base::pass(std::move(length));
  if (*length != bytes) return base::fail(WARM_E_INVALID, "a memfd of another length");
  return base::WriteMapping::map(memfd, bytes);
}

Channel::Channel(Results results, uint32_t lanes)
    : results_(std::move(results)),
      key_(results_.key()),
      lanes_(lanes),
      next_(lanes),
      ahead_(size_t{lanes} * layout::kLaneEntries),
      stalled_(lanes),
      sessions_(layout::kSessionsPerChannel) {
  for (uint32_t lane = 0; lane < lanes_; ++lane) next_[lane] = layout::load_acquire(results_.done_line(lane).done) + 1;
}

base::Result<std::unique_ptr<Channel>> Channel::create(int directory, const StoreIdentity& store, const ChannelKey& key,
                                                       uint32_t lanes) {
  auto memfd = base::make_memfd("warmtier-channel", layout::channel_bytes(lanes));
  if (!memfd) return base::pass(std::move(memfd));
  auto map = base::WriteMapping::map(memfd->get(), layout::channel_bytes(lanes));
  if (!map) return base::pass(std::move(map));
  if (auto s = base::populate_write(map->data(), layout::channel_entries_offset(lanes)); !s) return base::pass(std::move(s));
  auto& header = *reinterpret_cast<ChannelHeader*>(map->data());
  header.format_version = layout::kFormatVersion;
  header.lanes = lanes;
  auto* locks = reinterpret_cast<layout::LaneLock*>(map->data() + layout::channel_locks_offset(lanes));
  for (uint32_t lane = 0; lane < lanes; ++lane) {
    if (auto s = base::RobustMutex::initialise(&locks[lane].mutex); !s) return base::pass(std::move(s));
  }
  auto inode = base::inode_of(memfd->get());
  if (!inode) return base::pass(std::move(inode));
  auto results = Results::create(directory, store, key, lanes, *inode);
  if (!results) return base::pass(std::move(results));
  std::unique_ptr<Channel> channel(new Channel(std::move(*results), lanes));
  channel->lanes_fd_ = std::move(*memfd);
  channel->install_lanes(std::move(*map));
  return channel;
}

base::Result<std::unique_ptr<Channel>> Channel::adopt(int directory, const std::string& name, const StoreIdentity& store) {
  auto results = Results::open(directory, name, store);
  if (!results) return base::pass(std::move(results));
  const uint32_t lanes = results->lanes();
  std::unique_ptr<Channel> channel(new Channel(std::move(*results), lanes));
  channel->number_ = channel->results_.header().channel;
  return channel;
}

base::Result<base::WriteMapping> Channel::check_lanes(int memfd) const {
  const auto& header = results_.header();
  return check_handed_back(memfd, {.device = header.memfd_device, .inode = header.memfd_inode}, layout::channel_bytes(lanes_));
}

uint32_t Channel::fenced_lanes() const noexcept {
  if (!map_) return 0;
  const auto* locks = reinterpret_cast<const layout::LaneLock*>(map_.data() + layout::channel_locks_offset(lanes_));
  uint32_t fenced = 0;
  for (uint32_t lane = 0; lane < lanes_; ++lane) fenced += layout::load_relaxed(locks[lane].fenced) != 0 ? 1 : 0;
  return fenced;
}

void Channel::install_lanes(base::WriteMapping lanes) {
  WARM_ASSERT(!map_);
  map_ = std::move(lanes);
  commits_ = reinterpret_cast<const layout::CommitLine*>(map_.data() + layout::channel_commits_offset());
  entries_ = map_.data();
}

base::Status Channel::publish(int directory, uint64_t number) {
  if (auto s = results_.publish(directory, number); !s) return s;
  auto& header = *reinterpret_cast<ChannelHeader*>(map_.data());
  layout::store_relaxed(header.channel, number);
  layout::store_release(header.magic, layout::kChannelMagic);
  number_ = number;
  return {};
}

void Channel::begin_session(const std::shared_ptr<Session>& session) {
  SessionEntry& entry = results_.entry(session->index);
  WARM_ASSERT(!has_tenant(entry));
  WARM_FAILPOINT("daemon.entry.before");
  layout::store_relaxed(entry.pid, session->process.pid);
  layout::store_relaxed(entry.start_time, session->process.start_time);
  layout::store_relaxed(entry.pidfs_inode, session->process.pidfs_inode);
  layout::store_relaxed(entry.socket_done, 0);
  layout::store_relaxed(entry.touches_taken, layout::kWrapStart);
  layout::store_relaxed(entry.memfd_device, session->memfd.device);
  layout::store_relaxed(entry.memfd_inode, session->memfd.inode);
  layout::store_relaxed(entry.since_ns, session->since_ns);
  layout::store_relaxed(entry.views_max, session->views_max);
  layout::store_release(entry.number, session->number);
  WARM_FAILPOINT("daemon.entry.number");
  // A daemon that dies before its client knows the session's number leaves nothing that anybody has to hand back.
  const auto state = WARM_RULE("daemon.offered_until_accepted") ? SessionState::offered : SessionState::live;
  layout::store_release(entry.state, static_cast<uint32_t>(state));
  WARM_FAILPOINT("daemon.entry.offered");
  restore_session(session);
}

void Channel::accept_session(Session& session) {
  SessionEntry& entry = results_.entry(session.index);
  if (layout::load_relaxed(entry.state) != static_cast<uint32_t>(SessionState::offered)) return;  // a hand-back
  WARM_FAILPOINT("daemon.entry.accepted");
  layout::store_release(entry.state, static_cast<uint32_t>(SessionState::live));
  WARM_FAILPOINT("daemon.entry.live");
}

void Channel::restore_session(const std::shared_ptr<Session>& session) {
  WARM_ASSERT(!sessions_[session->index]);
  sessions_[session->index] = session;
  session->live = true;
  live_sessions_.push_back(session.get());
}

void Channel::end_session(Session& session) {
  WARM_ASSERT(session.live && sessions_[session.index].get() == &session);
  session.live = false;
  std::erase(live_sessions_, &session);
  layout::store_release(results_.entry(session.index).state, static_cast<uint32_t>(SessionState::dead));
  WARM_FAILPOINT("daemon.session.dead");
  sessions_[session.index].reset();
}

}  // namespace warmtier::daemon::session
