// The store thread's side of the session room: all channels with their sessions, served in turn; and the pins of all sessions.
//
// Thread law: the store thread alone.
//
// Invariants
//  1. A session is live here from its entry's state offered to its entry's state dead; while it is, its requests are carried out
//     and its pins hold. A client makes neither before its entry says live.
//  2. It is marked dead only after a sweep of its channel found nothing of it waiting.
//  3. A scan looks at every session that was live with its memory when it began and still is, and at every one whose memory is
//     handed back before it ends. One that began later holds no pin that counts: what is scanned for died before.
//  4. orphans_ counts the live sessions whose memory is not mapped; while there are any, pins are not complete (but for a
//     grace that the configuration ends).
//  5. While a channel is passed over, look_again_ns_ says when that ends.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <unordered_map>
#include <vector>

#include "base/clock.hpp"
#include "daemon/session/channel.hpp"
#include "daemon/session/messages.hpp"
#include "daemon/store/store.hpp"

namespace warmtier::daemon::session {

// A process that lives attaches to the next daemon within moments; one that does not is stopped, or never calls again.
inline constexpr uint64_t kComeBackNs = base::kNsPerSecond;

// Numbers that never repeat; the store's.
class Numbers {
 public:
  virtual ~Numbers() = default;
  virtual uint64_t take_session_number() = 0;
  virtual uint64_t take_channel_number() = 0;
};

class Sessions final : public store::PinSource {
 public:
  using Clock = uint64_t (*)();
  Sessions(Executor& executor, Numbers& numbers, Mailboxes& mail, layout::StatusPage& status, const RequestLimits& limits,
           int channels_directory, base::Deadline orphan_grace, Clock clock = base::monotonic_ns);

  // An earlier daemon's channel with its living sessions; before the first round.
  void adopt(Channel* channel, const std::vector<std::shared_ptr<Session>>& orphans);

  // What the intake thread asks for. True when it asked to stop.
  bool take_mail();
  // One round: at most kRequestsPerLane of each lane; of another user's many channels some are served. True when something was
  // answered.
  bool serve();
  // What clients say was used: a bounded step. True while there is more.
  bool take_touches();
  // The store went on, or time did: what had to wait is tried again. True when something came of it.
  bool retry();
  [[nodiscard]] bool anything_stalled() const noexcept;
  // The last look before a sleep. Part 0 is what everybody's requests come through who has few channels; the rest follows in
  // parts, and who has nothing else to do needs them all. What is published is served in the next round.
  enum class Look { published, more, done };
  Look look(uint32_t part) noexcept;
  // All of it.
  [[nodiscard]] bool anything_published() noexcept;
  [[nodiscard]] bool anyone() const noexcept { return !active_.empty(); }
  // When somebody who is passed over is looked at again; UINT64_MAX: nobody is.
  [[nodiscard]] uint64_t wake_at_ns() const noexcept { return look_again_ns_; }
  // Wakes who waits for a change or for the device, when that has come. After whatever may have brought it, and before a sleep.
  void wake_watchers() noexcept;
  // Sums what the clients count; cheap, for a moment when this thread is awake anyway.
  void refresh_counters();

  // PinSource
  bool complete() override;
  uint64_t expected_until_ns() override { return begun_ns_ + kComeBackNs; }
  Awaited awaited() override;
  void begin_scan() override;
  bool scan(uint32_t cells, const std::function<void(uint32_t slot)>& visit) override;

 private:
  void handle(Attach message);
  void handle(Resume message);
  void handle(Accept message);
  void handle(End message);
  void handle(Put message);
  void handle(Drop message);
  void handle(Nudge message);
  void handle(const Watch& message);
  void handle(Stop message);
  base::Status attach(const std::shared_ptr<Session>& session);
  bool retry_ends();
  void leave_scan(const Session& session);
  bool try_end(const std::shared_ptr<Session>& session);
  bool serve(Channel& channel);
  bool serve(Guest& guest);
  bool serve_puts();
  bool serve_put(Put& put);
  void notify(Channel& channel);
  template <typename Asks>
  [[nodiscard]] Look look_at_few(const Asks& asks) const noexcept;
  [[nodiscard]] uint64_t durable_or_stopped() const noexcept;
  void make_guest(Channel& channel);
  void charge(Channel& channel);
  void look_again();
  void add_counters(Session& session);
  static void note_counters(Session& session);
  void set_counts();

  Executor& executor_;
  Numbers& numbers_;
  Mailboxes& mail_;
  layout::StatusPage& status_;
  const RequestLimits limits_;
  const int channels_directory_;
  const uint64_t begun_ns_ = base::monotonic_ns();
  const Clock clock_;
  const uid_t own_uid_;
  const base::Deadline orphan_grace_;  // from then on orphans' pins count as void
  bool grace_logged_ = false;
  bool awaited_logged_ = false;

  std::vector<Channel*> channels_;
  std::vector<Channel*> active_;  // those with live sessions and lanes: what is polled
  std::vector<Channel*> own_;  // of them, our own user's: all of them in each round
  std::vector<Guest*> present_;  // the others': one of each in each round
  std::unordered_map<uid_t, Guest> guests_;  // all users but our own
  uint64_t look_again_ns_ = UINT64_MAX;
  std::deque<Put> puts_;  // by the socket, in order
  bool puts_stalled_ = false;  // the first of them waits for a slot
  std::vector<std::shared_ptr<Session>> ending_;
  // What sleeps on a futex word of the status page: the lowest value that somebody wants to see exceeded. Who wants more is woken
  // too soon, and asks again.
  class Sleepers {
   public:
    void look(uint64_t now, uint64_t& word) noexcept;
    void add(uint64_t after, uint64_t now, uint64_t& word) noexcept;

   private:
    uint64_t lowest_ = layout::kWatchNothing;
  };
  Sleepers for_change_;
  Sleepers for_device_;
  uint32_t orphans_ = 0;

  // The scan of all pins: whose cells, in this order, and how far it is. One that ends leaves its place empty, so that nobody
  // behind it is passed over.
  bool scanning_ = false;
  std::vector<const Session*> to_scan_;
  size_t scan_at_ = 0;
  uint32_t scan_cell_ = 0;

  bool stop_ = false;
};

}  // namespace warmtier::daemon::session
