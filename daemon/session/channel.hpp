// A channel: the lanes through which the processes of one user hand in requests, and the results they get back.
//
// Thread law: create(), adopt(), check_*() and prepare are called by the intake thread on a channel (or an entry of it) that the
// store thread does not use yet; everything else belongs to the store thread. Nothing of it is ever locked: the mutexes in the
// lanes are the clients' own.
//
// Every byte of the lanes and of a session's memory is hostile: copied once, the copy validated, the copy used.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/error.hpp"
#include "base/failpoint.hpp"
#include "base/fd.hpp"
#include "base/mapping.hpp"
#include "daemon/session/allowance.hpp"
#include "daemon/session/credentials.hpp"
#include "daemon/session/results.hpp"
#include "daemon/store/store.hpp"
#include "layout/control.hpp"
#include "layout/layout.hpp"

namespace warmtier::daemon::session {

class Channel;

// Of a lane in one go, before those of others have their turn.
constexpr uint32_t kRequestsPerLane = layout::kLaneEntries / 2;

// What the clients say of themselves, as last seen: untrusted, so only rises count.
struct CountersSeen {
  uint64_t gets = 0;
  uint64_t misses = 0;
  uint64_t lane_repairs = 0;
  uint64_t lanes_fenced = 0;
  uint64_t touches_dropped = 0;
};

// One warm_open of one process, as the daemon knows it. The intake thread makes it and reads what does not change; `region` and
// what follows belong to the store thread once it was attached.
struct Session {
  Channel* channel = nullptr;  // lives as long as it has sessions
  uint32_t index = 0;
  layout::Access access = layout::Access::none;
  ProcessIdentity process;
  base::InodeId memfd;
  uint64_t since_ns = 0;  // wall clock, when it attached first
  uint32_t views_max = layout::kViewsMax;  // granted to it: its later pin cells hold nothing

  uint64_t number = 0;
  base::WriteMapping region;  // none: a process of an earlier daemon that has not handed it back
  CountersSeen seen;
  uint64_t touches_seen = 0;  // the mark of its touch ring for which it was read
  bool live = false;

  [[nodiscard]] layout::SessionRegion* shared() const noexcept { return reinterpret_cast<layout::SessionRegion*>(region.data()); }
};

// How many cells of its memory, which is mapped, are looked at. Hostile: a high mark beyond those that it was granted means all
// of these.
inline uint32_t pins_high(const Session& session) noexcept {
  const uint32_t high = layout::load_acquire(session.shared()->header.pins_high);
  const uint32_t cells = WARM_RULE("daemon.pins_within_grant") ? session.views_max : layout::kViewsMax;
  return high < cells ? high : cells;
}

// What serving a lane needs of the store; a test stands in for it.
class Executor {
 public:
  virtual ~Executor() = default;
  // Soon; nobody waits for it here.
  virtual void request_checkpoint() = 0;
  virtual store::Disposition execute(const store::Request& request, const store::Origin& origin, store::Answer& ret_answer) = 0;
  // The answer is out: what nobody waits for.
  virtual void settle() {}
  // A request for this id comes soon: Store::foresee. The bytes are a client's, and may change meanwhile.
  virtual store::Foreseen foresee(const std::byte* id, uint32_t id_bytes) { return (void)id, (void)id_bytes, store::Foreseen{}; }
  virtual void foresee_more(store::Foreseen& foreseen) { (void)foreseen; }
  // Nothing happens when the slot does not hold that record; both are what a client says.
  virtual void touch(uint32_t slot, uint64_t put_sequence) = 0;
};

// The store's limits, as the lanes check them.
struct RequestLimits {
  uint32_t dimensions = 0;
  uint64_t content_bytes_max = 0;
};

// A request that came by the socket, complete in our own memory.
struct SocketRequest {
  uint64_t number = 0;
  layout::RequestHeader header{};
  const std::byte* embedding = nullptr;
  const std::byte* id = nullptr;
  const std::byte* content = nullptr;
  store::StagedContent* staged = nullptr;
  const store::Answer* refused = nullptr;  // found wrong before it came here
};

enum class Served { nothing, answered, stalled };

// S18: what another user than the daemon's own may make the store thread do for nothing, with all his channels. A request that
// the store was not asked about is a bad one: no client of ours hands one in but by its caller's mistake, in ones and twos; so is
// the late one of a session that has ended, and what a restart finds answered, a few hundred at most. One costs a microsecond.
constexpr Rate kBadRequests{.at_once = 1024, .a_second = 500};
// A touch costs a tenth of that, and nobody waits for it.
constexpr Rate kTouches{.at_once = 16'384, .a_second = 100'000};

constexpr size_t kChannelsAlwaysPolled = 4;
constexpr size_t kSessionsAlwaysPolled = 16;  // of a channel: whose touches are looked for before each sleep
constexpr uint64_t kWarmNs = 10 * base::kNsPerMs;

// A user, as the store thread knows him.
struct Guest {
  explicit Guest(uint64_t now_ns) noexcept : bad(kBadRequests, now_ns), touches(kTouches, now_ns) {}
  Allowance bad;
  Allowance touches;
  uint32_t channels = 0;
  // Those that are polled. Where its lanes are written over all the time, each costs a miss of the cache: of many channels, those
  // in which something was handed in of late are looked at in each round, and one of all in turn.
  std::vector<Channel*> polled;
  std::vector<Channel*> warm;
  size_t next = 0;  // whose requests are looked at next
  size_t touches_next = 0;  // and whose touches
  [[nodiscard]] bool many() const noexcept { return polled.size() > kChannelsAlwaysPolled; }
};

class Channel {
 public:
  // A new one: memfd with initialised mutexes, results file. Unknown to everyone until publish().
  static base::Result<std::unique_ptr<Channel>> create(int directory, const StoreIdentity& store, const ChannelKey& key,
                                                       uint32_t lanes);
  // An earlier daemon's results file; its lanes come when a client hands them back.
  static base::Result<std::unique_ptr<Channel>> adopt(int directory, const std::string& name, const StoreIdentity& store);

  // Maps what a client hands back as this channel's lanes, if it is that very memfd.
  [[nodiscard]] base::Result<base::WriteMapping> check_lanes(int memfd) const;
  // Cells for a new tenant of an entry.
  base::Status prepare_session(uint32_t index) { return results_.prepare_session(index); }
  [[nodiscard]] const ChannelKey& key() const noexcept { return key_; }
  [[nodiscard]] uint32_t lanes() const noexcept { return lanes_; }
  [[nodiscard]] int results_fd() const noexcept { return results_.fd(); }
  [[nodiscard]] int lanes_fd() const noexcept { return lanes_fd_.get(); }
  void keep_lanes_fd(base::Fd fd) noexcept { lanes_fd_ = std::move(fd); }  // intake thread; for handing it out
  // Lanes that a client declared beyond use. Hostile: only the number of the channel's own user's sessions hangs on it.
  [[nodiscard]] uint32_t fenced_lanes() const noexcept;
  void unlink(int directory) noexcept { results_.unlink(directory); }

  // ---- store thread ----
  base::Status publish(int directory, uint64_t number);
  void install_lanes(base::WriteMapping lanes);  // a hand-back
  [[nodiscard]] bool has_lanes() const noexcept { return static_cast<bool>(map_); }
  [[nodiscard]] uint64_t number() const noexcept { return number_; }
  [[nodiscard]] Results& results() noexcept { return results_; }
  [[nodiscard]] bool published() const noexcept { return number_ != 0; }

  // Session table: entry steps of protocol section 5, and the private table that lanes are checked against.
  void begin_session(const std::shared_ptr<Session>& session);  // number and identity are set; its entry is offered
  void accept_session(Session& session);  // offered: live from here on
  void restore_session(const std::shared_ptr<Session>& session);  // its entry stands in the file
  void end_session(Session& session);  // after the sweep
  [[nodiscard]] const std::vector<Session*>& live_sessions() const noexcept { return live_sessions_; }

  // One round: at most kRequestsPerLane of each lane, kRequestsPerRound in all. True when something was answered.
  bool serve(Executor& executor, const RequestLimits& limits, layout::StatusPage& status);
  // Serves what lies in the lanes now, lane by lane. False when a request must wait for a slot.
  bool sweep(Executor& executor, const RequestLimits& limits, layout::StatusPage& status);
  // The store went on: what had to wait is tried again.
  void retry_stalled() noexcept;
  // Whose it is; none: the daemon's own user, whom nothing limits.
  void set_guest(Guest* guest) noexcept { guest_ = guest; }
  [[nodiscard]] Guest* guest() const noexcept { return guest_; }
  // When it stops to be one in which something was handed in of late.
  void set_warm_until_ns(uint64_t ns) noexcept { warm_until_ns_ = ns; }
  [[nodiscard]] uint64_t warm_until_ns() const noexcept { return warm_until_ns_; }
  // Bad requests since the last call.
  [[nodiscard]] uint32_t take_bad() noexcept { return std::exchange(bad_, 0); }
  // Requests that the store was asked about; for every thread.
  [[nodiscard]] uint64_t carried_out() const noexcept { return carried_out_.load(std::memory_order_relaxed); }
  // Intake thread: how many of them since its last call.
  [[nodiscard]] uint64_t take_carried_out() noexcept {
    const uint64_t seen = std::exchange(carried_out_seen_, carried_out());
    return carried_out_seen_ - seen;
  }
  // While it is passed over, nothing is served and nothing counts as published.
  void pass_over(bool yes) noexcept { passed_over_ = yes; }
  [[nodiscard]] bool passed_over() const noexcept { return passed_over_; }
  // The same for its touches.
  void pass_over_touches(bool yes) noexcept { touches_passed_over_ = yes; }
  [[nodiscard]] bool touches_passed_over() const noexcept { return touches_passed_over_; }
  [[nodiscard]] bool any_stalled() const noexcept { return stalled_count_ > 0; }
  // Touches of all sessions that may write: a bounded number of each, and of all no more than the guest has left. True while
  // there are more.
  bool take_touches(Executor& executor, layout::StatusPage& status, uint64_t now_ns);
  // What a session that ends has still handed over: a process may touch and be gone.
  void take_last_touches(Session& session, Executor& executor, layout::StatusPage& status);
  [[nodiscard]] bool any_touches() const noexcept;

  // Sessions that asked to be told and were answered since the last call.
  [[nodiscard]] bool any_to_notify() const noexcept { return !to_notify_.empty(); }
  std::vector<std::shared_ptr<Session>> take_to_notify() { return std::exchange(to_notify_, {}); }
  // Not stalled and published: what a last look before a sleep asks.
  [[nodiscard]] bool anything_published() const noexcept;
  Served serve_socket(Executor& executor, const RequestLimits& limits, layout::StatusPage& status, Session& session,
                      const SocketRequest& request);
  // The answer of the request that was in flight when an earlier daemon was killed. False: there was none open.
  bool answer_decided(const store::Decided& decided);

 private:
  Channel(Results results, uint32_t lanes);
  Served serve_lane(uint32_t lane, Executor& executor, const RequestLimits& limits, layout::StatusPage& status);
  void wake_answered(Executor& executor);
  void look_ahead(uint32_t lane, uint64_t number, Executor& executor, const RequestLimits& limits);
  void count_done(uint32_t lane, uint64_t number) noexcept;
  void count_carried_out() noexcept { carried_out_.store(carried_out() + 1, std::memory_order_relaxed); }  // its one writer
  // At most so many; of them `ret_taken`.
  bool take_touches_of(Session& session, Executor& executor, layout::StatusPage& status, uint64_t most, uint64_t& ret_taken);
  void wake(const Session& session, uint32_t cell_index, layout::ResultCell& cell);
  Session* find_session(uint32_t index, uint64_t number) const noexcept {
    if (index >= layout::kSessionsPerChannel) return nullptr;
    Session* session = sessions_[index].get();
    return session != nullptr && (session->number == number || !WARM_RULE("daemon.session_by_number")) ? session : nullptr;
  }
  [[nodiscard]] const layout::CommitLine* commits() const noexcept { return commits_; }

  Results results_;
  ChannelKey key_;
  uint32_t lanes_;
  uint64_t number_ = 0;
  base::Fd lanes_fd_;
  base::WriteMapping map_;

  const layout::CommitLine* commits_ = nullptr;
  const std::byte* entries_ = nullptr;
  std::vector<uint64_t> next_;  // done + 1 of each lane: our own copy
  struct Answered {
    Session* session = nullptr;
    uint32_t cell = 0;
  };
  std::array<Answered, kRequestsPerLane> answered_;  // and nobody was woken for it yet
  uint32_t answered_count_ = 0;
  struct Ahead {
    uint64_t number = 0;
    store::Foreseen foreseen;
  };
  std::vector<Ahead> ahead_;  // of each entry of each lane
  std::vector<uint8_t> stalled_;
  uint32_t stalled_count_ = 0;
  uint32_t first_lane_ = 0;  // where the next round begins
  Guest* guest_ = nullptr;
  uint64_t warm_until_ns_ = 0;
  uint32_t bad_ = 0;
  std::atomic<uint64_t> carried_out_{0};
  uint64_t carried_out_seen_ = 0;  // the intake thread's
  bool passed_over_ = false;
  bool touches_passed_over_ = false;
  size_t first_session_ = 0;  // whose touches come first
  std::vector<std::shared_ptr<Session>> to_notify_;
  std::vector<std::shared_ptr<Session>> sessions_;  // by entry; none: not live
  std::vector<Session*> live_sessions_;  // the same, without gaps
};

constexpr uint32_t kRequestsPerRound = 64;
// A ticket is the next of its cell; one further away than this is not one that a client of ours takes, and would use up the
// numbers of the entry's next tenant.
constexpr uint64_t kTicketStepMax = uint64_t{1} << 32;

// How many lanes a new channel has on this host.
uint32_t lanes_on_this_host() noexcept;

// Checks a memfd that a client handed over as (device, inode), sealed, of that length, in memory; then maps it.
base::Result<base::WriteMapping> check_handed_back(int memfd, const base::InodeId& expected, uint64_t bytes);

// What a validated copy that was found wrong is answered with.
store::Answer answer_to_bad_request(const layout::RequestHeader& request, const RequestLimits& limits, bool in_lane) noexcept;

}  // namespace warmtier::daemon::session
