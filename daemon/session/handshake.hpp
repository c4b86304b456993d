// Greeting: is this a peer we can talk to, which channel and session does it get, and what is it handed.
//
// Thread law: the intake thread. `Rooms` is its book of channels; the channels' inner life belongs to the store thread.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/error.hpp"
#include "base/fd.hpp"
#include "daemon/session/access.hpp"
#include "daemon/session/census.hpp"
#include "daemon/session/channel.hpp"
#include "daemon/session/credentials.hpp"
#include "daemon/session/kept.hpp"
#include "daemon/session/restart.hpp"
#include "daemon/store/store.hpp"
#include "layout/control.hpp"
#include "layout/describe.hpp"

namespace warmtier::daemon::session {

constexpr uint64_t kDescriptorsKept = 256;      // for files, epolls, what is on its way, and segments to come
constexpr uint64_t kDescriptorsPerSession = 3;  // socket, pidfd, memfd
constexpr uint64_t kDescriptorsPerChannel = 2;  // lanes, results

// What does not change while the daemon runs, but for `access`: a reload sets it, on the intake thread.
struct World {
  std::span<const layout::Dialect> dialects = layout::dialects();
  AccessRules access;
  uid_t own_uid = 0;
  RequestLimits limits;
  StoreIdentity store;
  uint64_t hash_seed = 0;
  uint64_t capacity = 0;
  uint64_t own_segment_above_bytes = 0;
  uint64_t large_bytes_max = uint64_t{256} << 20;  // large content in our memory that waits for the store thread
  uint32_t lanes = 0;
  uint32_t sessions_max = 0;
  uint64_t descriptors = 0;  // that this process may have
  int channels_directory = -1;
  store::Published* published = nullptr;
  const layout::StatusPage* status = nullptr;
  Keeper* keeper = nullptr;  // none: nobody keeps anything
  Census::ViewBytes view_bytes;
};

// The version that the hello of this message names, if it is one of `dialects` and has its fingerprints: the one in which the
// client is answered.
base::Result<uint32_t> check_hello(std::span<const std::byte> message, std::span<const layout::Dialect> dialects);

// What living sessions of users other than the daemon's own have been granted, as one of these users sees it.
struct ViewsGranted {
  uint64_t to_user = 0;
  uint64_t to_others = 0;
  uint32_t sessions = 0;  // of the user
};
// Of the slots that the grants of others leave, a half is for this user's sessions: however many users pin all that they may,
// some slots are held by nobody (protocol S19).
uint64_t views_of_user(uint64_t capacity, const ViewsGranted& granted) noexcept;
// What one more session of this user is granted. 0: too few are left.
uint32_t views_of_next_session(uint64_t capacity, const ViewsGranted& granted) noexcept;

// One channel, as the intake thread keeps it.
struct Room {
  std::unique_ptr<Channel> channel;
  bool shared = true;        // more sessions may join
  bool adopted = false;      // an earlier daemon's: it goes with its last session
  bool has_lanes = true;     // false: nobody has handed them back yet
  bool dropping = false;
  bool kept = false;         // the service manager has its lanes
  uint32_t sessions = 0;
  std::vector<bool> taken = std::vector<bool>(layout::kSessionsPerChannel);
};

class Rooms {
 public:
  explicit Rooms(const World& world) : world_(world) {}

  // A room for one more session of this key: one that is there, else a new one.
  base::Result<Room*> room_for(const ChannelKey& key, bool shared);
  Room& adopt(AdoptedChannel& adopted);
  [[nodiscard]] Room* of(const Channel* channel) noexcept;
  // An entry without a tenant, its cells ready; and back.
  static base::Result<uint32_t> take_index(Room& room);
  void release_index(Room& room, uint32_t index) noexcept;
  // True when the room has no further use and should be dropped.
  [[nodiscard]] bool unused(const Room& room) const noexcept;
  void remove(const Channel* channel);  // the store thread has let go of it: its file goes too
  [[nodiscard]] size_t size() const noexcept { return rooms_.size(); }

 private:
  const World& world_;
  std::vector<std::unique_ptr<Room>> rooms_;
};

// A new session's memory, mapped here, header complete but number and magic.
struct NewSession {
  std::shared_ptr<Session> session;
  base::Fd memfd;
};
base::Result<NewSession> make_session(Room& room, layout::Access access, const ProcessIdentity& process);

// What a client hands back, against what was handed out: the protocol's list of checks.
struct HandedBack {
  base::WriteMapping region;  // none: we have it
  base::WriteMapping lanes;
};
base::Result<HandedBack> check_resume(const layout::Hello& hello, const Peer& peer, const Session& session, const Room& room,
                                      bool region_known, int channel_memfd, int session_memfd);

// The welcome with its seven descriptors, each a description of its own. `published` is locked by the caller.
struct WelcomePacket {
  layout::Welcome welcome{};
  std::vector<base::Fd> descriptors;
};
base::Result<WelcomePacket> compose_welcome(const World& world, const Session& session, int session_memfd, uint64_t socket_done,
                                            bool resumed, uint32_t protocol_version);

layout::Refuse compose_refuse(int32_t code, const std::string& text, uint32_t protocol_version) noexcept;

// A list of segments on its way to a client, in messages as the socket takes them.
struct SegmentList {
  uint64_t epoch = 0;
  std::vector<uint64_t> numbers;
  size_t next = 0;
};
SegmentList snapshot_segments(store::Published& published);
struct SegmentsPacket {
  layout::Segments message{};
  size_t bytes = 0;
  std::vector<base::Fd> descriptors;
  size_t next = 0;  // of the list, once this is sent
};
// The next message of a list; segments that are gone by now are left out.
base::Result<SegmentsPacket> compose_segments(store::Published& published, const SegmentList& list);

}  // namespace warmtier::daemon::session
