#include "libclient/link.hpp"

#include <sys/mman.h>

#include <cerrno>
#include <cstring>
#include <span>

#include "layout/validate.hpp"
#include "libclient/process.hpp"

namespace warmtier::libclient {
namespace {

base::Status judge(layout::Verdict verdict, const char* what) {
  if (verdict == layout::Verdict::good) return {};
  return base::fail(verdict == layout::Verdict::unknown_version ? WARM_E_VERSION : WARM_E_CORRUPT, "the daemon's %s is %s", what,
                    layout::verdict_text(verdict));
}

}  // namespace

Link::Link(Parts&& parts, std::byte* channel, base::WriteMapping&& session_map, std::shared_ptr<const base::ReadMapping> results,
           const uint8_t (&store_id)[16])
    : id(next_identity()),
      session(parts.session),
      channel_number(parts.channel),
      session_index(parts.session_index),
      lanes(parts.lanes),
      channel_file(std::move(parts.channel_file)),
      session_file(std::move(parts.session_file)),
      channel_(channel),
      session_map_(std::move(session_map)),
      results_(std::move(results)),
      region_(reinterpret_cast<layout::SessionRegion*>(session_map_.data())),
      done_(reinterpret_cast<const layout::DoneLine*>(results_->data() + sizeof(layout::ResultsHeader))),
      sessions_(reinterpret_cast<const layout::SessionEntry*>(results_->data() + layout::results_sessions_offset(lanes))),
      commits_(reinterpret_cast<layout::CommitLine*>(channel + layout::channel_commits_offset())),
      locks_(reinterpret_cast<layout::LaneLock*>(channel + layout::channel_locks_offset(lanes))),
      pins(*region_, parts.views_max),
      cells(reinterpret_cast<const layout::ResultCell*>(results_->data() + layout::results_cells_offset(lanes)) +
            uint64_t{session_index} * layout::kCellsPerSession) {
  std::memcpy(store_id_, store_id, sizeof store_id_);
}

Link::Parts Link::parts_of(Greeting&& greeting) noexcept {
  return {.session = greeting.welcome.session,
          .channel = greeting.welcome.channel,
          .session_index = greeting.welcome.session_index,
          .lanes = greeting.welcome.lanes,
          .views_max = greeting.welcome.views_max,
          .channel_file = std::move(greeting.channel),
          .session_file = std::move(greeting.session),
          .results_file = std::move(greeting.results)};
}

Resume Link::resume() const noexcept {
  return {.session = session,
          .channel = channel_number,
          .session_index = session_index,
          .channel_file = channel_file.get(),
          .session_file = session_file.get()};
}

base::Result<std::unique_ptr<Link>> Link::make(Parts parts, const uint8_t (&store_id)[16]) {
  if (parts.lanes < layout::kLanesMin || parts.lanes > layout::kLanesMax || parts.session_index >= layout::kSessionsPerChannel ||
      parts.session == 0 || parts.views_max < 1 || parts.views_max > layout::kViewsMax) {
    return base::fail(WARM_E_CORRUPT, "the daemon's welcome names session %lu, entry %u, %u lanes, %u views", parts.session,
                      parts.session_index, parts.lanes, parts.views_max);
  }
  auto results_inode = base::inode_of(parts.results_file.get());
  if (!results_inode) return base::pass(std::move(results_inode));
  auto results_bytes = base::file_bytes(parts.results_file.get());
  if (!results_bytes) return base::pass(std::move(results_bytes));
  auto channel_bytes = base::file_bytes(parts.channel_file.get());
  if (!channel_bytes) return base::pass(std::move(channel_bytes));
  auto session_bytes = base::file_bytes(parts.session_file.get());
  if (!session_bytes) return base::pass(std::move(session_bytes));
  if (*results_bytes < layout::results_bytes(parts.lanes)) {
    return base::fail(WARM_E_CORRUPT, "the daemon's result file has %lu bytes, %u lanes need %lu", *results_bytes, parts.lanes,
                      layout::results_bytes(parts.lanes));
  }
  if (*channel_bytes < layout::channel_bytes(parts.lanes) || *session_bytes < sizeof(layout::SessionRegion)) {
    return base::fail(WARM_E_CORRUPT, "the daemon's channel has %lu bytes and its session %lu", *channel_bytes, *session_bytes);
  }

  auto results = base::ReadMapping::map(parts.results_file.get(), layout::results_bytes(parts.lanes));
  if (!results) return base::pass(std::move(results));
  const std::span results_span(results->data(), results->bytes());
  if (auto s = judge(layout::validate_results_header(results_span, store_id), "result file"); !s) return base::pass(std::move(s));

  auto session_map = base::WriteMapping::map(parts.session_file.get(), sizeof(layout::SessionRegion));
  if (!session_map) return base::pass(std::move(session_map));
  const std::span session_span(session_map->data(), session_map->bytes());
  if (auto s = judge(layout::validate_session_header(session_span, *session_bytes), "session memory"); !s) {
    return base::pass(std::move(s));
  }
  // A child that had this memory could undo its parent's pins.
  if (::madvise(session_map->data(), session_map->bytes(), MADV_DONTFORK) != 0) {
    return base::fail_errno(errno, "madvise MADV_DONTFORK");
  }

  auto channel = map_channel(parts.channel_file.get(), layout::channel_bytes(parts.lanes));
  if (!channel) return base::pass(std::move(channel));
  const std::span channel_span(*channel, layout::channel_bytes(parts.lanes));
  if (auto s = judge(layout::validate_channel_header(channel_span, *channel_bytes), "channel"); !s)
    return base::pass(std::move(s));
  const auto* header = reinterpret_cast<const layout::ChannelHeader*>(*channel);
  if (layout::load_relaxed(header->lanes) != parts.lanes) {
    return base::fail(WARM_E_CORRUPT, "the channel has %u lanes, the daemon's welcome says %u",
                      layout::load_relaxed(header->lanes), parts.lanes);
  }

  std::unique_ptr<Link> link(new Link(std::move(parts), *channel, std::move(*session_map),
                                      std::make_shared<const base::ReadMapping>(std::move(*results)), store_id));
  link->results_inode_ = *results_inode;
  return link;
}

base::Result<bool> Link::same_files(const Parts& parts) const {
  auto channel = base::inode_of(parts.channel_file.get());
  if (!channel) return base::pass(std::move(channel));
  auto memory = base::inode_of(parts.session_file.get());
  if (!memory) return base::pass(std::move(memory));
  if (*channel != channel_file.inode() || *memory != session_file.inode()) return false;
  auto results = base::inode_of(parts.results_file.get());
  if (!results) return base::pass(std::move(results));
  if (*results != results_inode_ || parts.session != session || parts.session_index != session_index ||
      parts.channel != channel_number || parts.lanes != lanes) {
    return false;
  }
  // Its cells are given out by the first number, and the daemon looks at no others: the grant of a session never changes.
  if (parts.views_max == pins.views_max()) return true;
  return base::fail(WARM_E_CORRUPT, "the daemon takes session %lu back with %u views, it was granted %u", session,
                    parts.views_max, pins.views_max());
}

void Link::take_files(Parts parts) noexcept {
  channel_file = base::WatchedFd(std::move(parts.channel_file));
  session_file = base::WatchedFd(std::move(parts.session_file));
}

bool Link::half_fenced() const noexcept {
  uint32_t fenced = 0;
  for (uint32_t lane = 0; lane < lanes; ++lane) fenced += layout::load_relaxed(locks_[lane].fenced) != 0 ? 1 : 0;
  return fenced * 2 >= lanes;
}

bool Link::session_dead(uint64_t session_number) const noexcept {
  for (uint32_t i = 0; i < layout::kSessionsPerChannel; ++i) {
    const layout::SessionEntry& entry = sessions_[i];
    if (layout::load_acquire(entry.number) != session_number) continue;
    return layout::load_acquire(entry.state) == static_cast<uint32_t>(layout::SessionState::dead);
  }
  return true;  // its entry has another tenant
}

Forsaken Link::forsaken() const noexcept {
  Forsaken it{.store_id = {}, .session = session, .results = results_, .entry = &sessions_[session_index]};
  std::memcpy(it.store_id, store_id_, sizeof it.store_id);
  return it;
}

}  // namespace warmtier::libclient
