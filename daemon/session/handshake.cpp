#include "daemon/session/handshake.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <mutex>
#include <utility>

#include "base/failpoint.hpp"
#include "layout/validate.hpp"

namespace warmtier::daemon::session {
namespace {

// Every lane of every channel is looked at in every round, and who says so is in a namespace of his own.
constexpr uint32_t kChannelsPerUserMax = 256;
constexpr uint64_t kViewsShareDivisor = 2;
constexpr uint32_t kSessionsProvidedFor = 64;  // of a user: so many have as much as the first one, nearly
constexpr uint64_t kViewsGrantedMin = 64;      // a batch of gets, a recall
constexpr uint64_t kSessionsInShareMin = 16;   // where the share is so small that this minimum would be much of it
constexpr size_t kEmptyRoomsKept = 8;  // a user whose processes come and go finds its channel again

// A description of its own that may be written: the client's map of its lanes and of its session.
base::Result<base::Fd> reopen_for_writing(int fd) {
  char path[64];
  std::snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
  return base::open_at(AT_FDCWD, path, O_RDWR);
}

}  // namespace

base::Result<uint32_t> check_hello(std::span<const std::byte> message, std::span<const layout::Dialect> dialects) {
  layout::Hello hello{};
  std::memcpy(&hello, message.data(), std::min(message.size(), sizeof hello));
  const auto dialect = std::ranges::find(dialects, hello.protocol_version, &layout::Dialect::protocol_version);
  const auto verdict = layout::validate_message(message, hello.protocol_version);
  // Another version may have another length: only a message without a number in it is not told of the versions.
  if (verdict != layout::Verdict::truncated && dialect == dialects.end()) {
    std::string served;
    for (const layout::Dialect& one : dialects) served += (served.empty() ? "" : " and ") + std::to_string(one.protocol_version);
    return base::fail(WARM_E_VERSION, "the library speaks protocol %u, this daemon %s", hello.protocol_version, served.c_str());
  }
  if (verdict != layout::Verdict::good) {
    return base::fail(WARM_E_INVALID, "the hello is not valid: %s", layout::verdict_text(verdict));
  }
  const auto& expected = dialect->fingerprints;
  for (uint32_t i = 0; i < layout::kRegions; ++i) {
    if (hello.fingerprints[i] == expected[i]) continue;
    return base::fail(WARM_E_VERSION, "the library's layout of the %s (fingerprint %016llx) is not this daemon's (%016llx)",
                      layout::region_name(static_cast<layout::Region>(i)), static_cast<unsigned long long>(hello.fingerprints[i]),
                      static_cast<unsigned long long>(expected[i]));
  }
  return dialect->protocol_version;
}

uint64_t views_of_user(uint64_t capacity, const ViewsGranted& granted) noexcept {
  if (!WARM_RULE("daemon.views_have_shares")) return UINT64_MAX;
  return capacity > granted.to_others ? (capacity - granted.to_others) / kViewsShareDivisor : 0;
}

uint32_t views_of_next_session(uint64_t capacity, const ViewsGranted& granted) noexcept {
  const uint64_t share = views_of_user(capacity, granted);
  const uint64_t rest = share > granted.to_user ? share - granted.to_user : 0;
  const uint64_t least = std::clamp<uint64_t>(share / kSessionsInShareMin, 1, kViewsGrantedMin);
  if (rest < least) return 0;
  const uint64_t part = rest / std::max(granted.sessions, kSessionsProvidedFor);
  return static_cast<uint32_t>(std::clamp<uint64_t>(part, least, layout::kViewsMax));
}

base::Result<Room*> Rooms::room_for(const ChannelKey& key, bool shared) {
  if (shared) {
    for (const auto& room : rooms_) {
      if (!room->shared || room->dropping || !room->has_lanes || room->channel->key() != key) continue;
      if (room->sessions >= layout::kSessionsPerChannel) continue;
      if (room->channel->fenced_lanes() * 2 >= room->channel->lanes()) continue;
      return room.get();
    }
  }
  const auto of_user = std::ranges::count_if(rooms_, [&](const auto& room) { return room->channel->key().uid == key.uid; });
  if (key.uid != world_.own_uid && of_user >= kChannelsPerUserMax) {
    return base::fail(WARM_E_LIMIT, "user %u has %u channels and that is the limit", key.uid, kChannelsPerUserMax);
  }
  if (rooms_.size() >= layout::kChannelsMax) {
    return base::fail(WARM_E_LIMIT, "%u channels are in use and that is the limit", layout::kChannelsMax);
  }
  auto channel = Channel::create(world_.channels_directory, world_.store, key, world_.lanes);
  if (!channel) return base::pass(std::move(channel));
  auto room = std::make_unique<Room>();
  room->channel = std::move(*channel);
  room->shared = shared;
  rooms_.push_back(std::move(room));
  return rooms_.back().get();
}

Room& Rooms::adopt(AdoptedChannel& adopted) {
  auto room = std::make_unique<Room>();
  room->channel = std::move(adopted.channel);
  room->adopted = true;
  room->has_lanes = room->channel->has_lanes();
  room->kept = room->has_lanes;
  for (const Orphan& orphan : adopted.orphans) {
    room->taken[orphan.session->index] = true;
    ++room->sessions;
  }
  rooms_.push_back(std::move(room));
  return *rooms_.back();
}

Room* Rooms::of(const Channel* channel) noexcept {
  const auto found = std::ranges::find_if(rooms_, [&](const auto& room) { return room->channel.get() == channel; });
  return found == rooms_.end() ? nullptr : found->get();
}

base::Result<uint32_t> Rooms::take_index(Room& room) {
  const auto free = std::ranges::find(room.taken, false);
  if (free == room.taken.end())
    return base::fail(WARM_E_LIMIT, "the channel has %u sessions and that is the limit", layout::kSessionsPerChannel);
  const auto index = static_cast<uint32_t>(free - room.taken.begin());
  if (auto s = room.channel->prepare_session(index); !s) return base::pass(std::move(s));
  room.taken[index] = true;
  ++room.sessions;
  return index;
}

void Rooms::release_index(Room& room, uint32_t index) noexcept {
  room.taken[index] = false;
  --room.sessions;
}

bool Rooms::unused(const Room& room) const noexcept {
  if (room.sessions > 0 || room.dropping) return false;
  if (!room.shared || room.adopted) return true;
  const auto empty = std::ranges::count_if(rooms_, [](const auto& other) { return other->sessions == 0; });
  return static_cast<size_t>(empty) > kEmptyRoomsKept || room.channel->fenced_lanes() * 2 >= room.channel->lanes();
}

void Rooms::remove(const Channel* channel) {
  std::erase_if(rooms_, [&](const auto& room) {
    if (room->channel.get() != channel) return false;
    room->channel->unlink(world_.channels_directory);
    return true;
  });
}

base::Result<NewSession> make_session(Room& room, layout::Access access, const ProcessIdentity& process) {
  NewSession made{.session = std::make_shared<Session>(), .memfd = {}};
  auto memfd = base::make_memfd("warmtier-session", sizeof(layout::SessionRegion));
  if (!memfd) return base::pass(std::move(memfd));
  made.memfd = std::move(*memfd);
  auto inode = base::inode_of(made.memfd.get());
  if (!inode) return base::pass(std::move(inode));
  auto region = base::WriteMapping::map(made.memfd.get(), sizeof(layout::SessionRegion));
  if (!region) return base::pass(std::move(region));
  auto index = Rooms::take_index(room);
  if (!index) return base::pass(std::move(index));

  Session& session = *made.session;
  session.channel = room.channel.get();
  session.index = *index;
  session.access = access;
  session.process = process;
  session.memfd = *inode;
  session.since_ns = base::wall_ns();
  session.region = std::move(*region);
  layout::SessionRegion& shared = *session.shared();
  shared.header.format_version = layout::kFormatVersion;
  shared.header.pin_cells = layout::kViewsMax;
  shared.header.pins_offset = offsetof(layout::SessionRegion, pins);
  shared.touches.head = layout::kWrapStart;
  shared.touches.asked = layout::kWrapStart;
  WARM_FAILPOINT("daemon.handshake.prepared");
  return made;
}

base::Result<HandedBack> check_resume(const layout::Hello& hello, const Peer& peer, const Session& session, const Room& room,
                                      bool region_known, int channel_memfd, int session_memfd) {
  const ChannelKey& key = room.channel->key();
  if (hello.resume_index != session.index || hello.resume_channel != room.channel->number()) {
    return base::fail(WARM_E_INVALID, "another entry or channel than the session's");
  }
  if (peer.uid != key.uid) return base::fail(WARM_E_ACCESS, "the session is another user's");
  if (hello.namespace_device != key.namespace_device || hello.namespace_inode != key.namespace_inode) {
    return base::fail(WARM_E_ACCESS, "the session is of another PID namespace");
  }
  if (!same_process(peer.process, session.process)) return base::fail(WARM_E_ACCESS, "the session is another process's");
  auto lanes = room.channel->check_lanes(channel_memfd);
  if (!lanes) return base::pass(std::move(lanes));
  auto region = check_handed_back(session_memfd, session.memfd, sizeof(layout::SessionRegion));
  if (!region) return base::pass(std::move(region));
  HandedBack handed;
  if (!room.has_lanes) handed.lanes = std::move(*lanes);
  if (!region_known) handed.region = std::move(*region);
  return handed;
}

base::Result<WelcomePacket> compose_welcome(const World& world, const Session& session, int session_memfd, uint64_t socket_done,
                                            bool resumed, uint32_t protocol_version) {
  WelcomePacket packet;
  packet.descriptors.reserve(layout::kWelcomeDescriptors);
  layout::Welcome& welcome = packet.welcome;
  {
    const std::scoped_lock lock(world.published->mutex);
    const store::Published& published = *world.published;
    welcome.generation = published.generation;
    welcome.homes_log2 = published.homes_log2;
    for (int fd : {published.tier_fd, published.index_fd, published.feed_fd, published.status_fd}) {
      auto own = base::reopen_read_only(fd);
      if (!own) return base::pass(std::move(own));
      packet.descriptors.push_back(std::move(*own));
    }
  }
  const Channel& channel = *session.channel;
  auto results = base::reopen_read_only(channel.results_fd());
  if (!results) return base::pass(std::move(results));
  packet.descriptors.push_back(std::move(*results));
  for (int fd : {channel.lanes_fd(), session_memfd}) {
    auto own = reopen_for_writing(fd);
    if (!own) return base::pass(std::move(own));
    packet.descriptors.push_back(std::move(*own));
  }
  welcome.header = {.kind = static_cast<uint32_t>(layout::MessageKind::welcome), .bytes = sizeof welcome};
  welcome.protocol_version = protocol_version;
  welcome.daemon_pid = static_cast<uint32_t>(::getpid());
  welcome.session = session.number;
  welcome.channel = channel.number();
  welcome.session_index = session.index;
  welcome.lanes = channel.lanes();
  welcome.resumed = resumed ? 1 : 0;
  welcome.access = static_cast<uint32_t>(session.access);
  welcome.capacity = world.capacity;
  welcome.content_bytes_max = world.limits.content_bytes_max;
  welcome.hash_seed = world.hash_seed;
  std::memcpy(welcome.store_id, world.store.store_id, sizeof welcome.store_id);
  welcome.dimensions = world.limits.dimensions;
  welcome.socket_done = socket_done;
  welcome.views_max = session.views_max;
  return packet;
}

layout::Refuse compose_refuse(int32_t code, const std::string& text, uint32_t protocol_version) noexcept {
  layout::Refuse refuse{};
  refuse.header = {.kind = static_cast<uint32_t>(layout::MessageKind::refuse), .bytes = sizeof refuse};
  refuse.code = code;
  refuse.protocol_version = protocol_version;
  std::snprintf(refuse.text, sizeof refuse.text, "%s", text.c_str());
  return refuse;
}

SegmentList snapshot_segments(store::Published& published) {
  SegmentList list;
  const std::scoped_lock lock(published.mutex);
  list.epoch = published.segment_epoch;
  list.numbers.reserve(published.segments.size());
  for (const auto& segment : published.segments) list.numbers.push_back(segment.number);
  return list;
}

base::Result<SegmentsPacket> compose_segments(store::Published& published, const SegmentList& list) {
  SegmentsPacket packet;
  packet.next = list.next;
  const std::scoped_lock lock(published.mutex);
  while (packet.next < list.numbers.size() && packet.message.count < layout::kSegmentsPerMessage) {
    const uint64_t number = list.numbers[packet.next++];
    // Both lists are in the order of their numbers.
    const auto found = std::ranges::lower_bound(published.segments, number, {}, &store::PublishedSegment::number);
    if (found == published.segments.end() || found->number != number) continue;
    auto own = base::reopen_read_only(found->fd);
    if (!own) {
      if (packet.descriptors.empty()) return base::pass(std::move(own));
      --packet.next;  // so many as there are descriptors for; the others in another message
      break;
    }
    packet.descriptors.push_back(std::move(*own));
    packet.message.numbers[packet.message.count++] = number;
  }
  packet.message.epoch = list.epoch;
  packet.message.last = packet.next == list.numbers.size() ? 1 : 0;
  packet.bytes = offsetof(layout::Segments, numbers) + packet.message.count * sizeof packet.message.numbers[0];
  packet.message.header = {.kind = static_cast<uint32_t>(layout::MessageKind::segments),
                           .bytes = static_cast<uint32_t>(packet.bytes)};
  return packet;
}

}  // namespace warmtier::daemon::session
