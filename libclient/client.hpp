// A client: what stays the same over forks (Client), and what one process has of it (ClientState).
//
// Reading takes no lock. A thread that uses an attachment, a table or a map says so in its record ("inside", with the client's
// epoch at entry) by a plain store; whoever takes one of them out of use unhooks it, raises the epoch, has every thread of the
// process pass a fence (membarrier), and frees it when no thread is inside since before. Segments' maps are also kept for views:
// each view's private twin names the one that it stands in.
//
// Locks, in order: a registry of the process (process.cpp) > ClientState::mutex_ > PinCells. Large puts hold large_mutex_ around
// all of them.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/clock.hpp"
#include "base/error.hpp"
#include "libclient/attachment.hpp"
#include "libclient/futex.hpp"
#include "libclient/process.hpp"
#include "libclient/tickets.hpp"

namespace warmtier::libclient {

// A deadline that costs nothing until somebody waits.
class Patience {
 public:
  explicit Patience(uint64_t timeout_ns) noexcept : timeout_ns_(timeout_ns) {}
  const base::Deadline& deadline() noexcept {
    if (!deadline_) deadline_ = timeout_ns_ == kForEver ? base::Deadline::never() : base::Deadline::after_ns(timeout_ns_);
    return *deadline_;
  }
  static constexpr uint64_t kForEver = ~uint64_t{0};

 private:
  uint64_t timeout_ns_;
  std::optional<base::Deadline> deadline_;
};

class ClientState {
 public:
  ClientState(std::string socket_path, uint64_t timeout_ns);
  ~ClientState();  // no thread is in a call, no view is out
  ClientState(const ClientState&) = delete;
  ClientState& operator=(const ClientState&) = delete;

  // ---- Looked at by every call; one cache line.
  alignas(64) std::atomic<const Attachment*> attachment{nullptr};
  std::atomic<const SegmentTable*> segments{nullptr};
  std::atomic<uint64_t> epoch{1};
  const uint64_t stamp;
  const uint64_t id;
  const bool cheap_fence;  // membarrier is there
  const uint64_t timeout_ns;

  std::atomic<uint32_t> open_scans{0};  // recalls under way
  std::atomic<uint64_t> lent{0};  // cursors and chunks that are open

  // ---- Inside.
  ThreadRecord& thread() {
    const detail::ThreadSlot& slot = detail::thread_slot;
    return __builtin_expect(slot.state_id == id, 1) ? *slot.record : detail::join(*this);
  }
  void enter(ThreadRecord& me) const noexcept {
    const uint64_t now = epoch.load(std::memory_order_acquire);
    if (__builtin_expect(cheap_fence, 1)) {
      me.inside.store(now, std::memory_order_relaxed);
      std::atomic_signal_fence(std::memory_order_seq_cst);
    } else {
      me.inside.exchange(now, std::memory_order_seq_cst);
    }
  }
  static void leave(ThreadRecord& me) noexcept { me.inside.store(0, std::memory_order_release); }

  // ---- Attaching. None of these may be called inside.
  enum class Need { reads, daemon };
  // The first handshake; fails at once when nobody listens.
  base::Status open(const base::Deadline& deadline);
  // Returns when the attachment's generation is the store's, and for `daemon` when a daemon is there too; else
  // WARM_E_UNAVAILABLE at the deadline, or WARM_E_ACCESS when the daemon turns this user away. Waits for other threads that are
  // at it.
  base::Status refresh(Need need, const base::Deadline& deadline);
  // Asks for the list of segments and waits for the answer. Nothing when the daemon went away meanwhile.
  base::Status fetch_segments(const base::Deadline& deadline);
  // Who holds what, as the daemon counted it after this call began.
  base::Result<std::vector<layout::SessionReport>> ask_for_sessions(const base::Deadline& deadline);
  // Sends a message to a living daemon, attaching to one first, and says what its status page said before.
  struct Told {
    std::shared_ptr<Connection> connection;
    uint64_t sequence = 0;
    uint64_t durable = 0;
  };
  base::Result<Told> tell(const void* message, size_t bytes, const base::Deadline& deadline);
  // Gives all sessions up: the daemon is told, or the next one that this process attaches to. Waits for a daemon that has taken
  // the place of the one that knew them, for a moment.
  void leave();

  // ---- Another channel (former.cpp; docs/protocol.md, S17).
  // Half the lanes of this link's channel are fenced: a session in another channel is taken into use, if the daemon gives one.
  // Waits for a moment at most, and after a failure not again for a while. Outside.
  void move_from(const Link& link, const base::Deadline& deadline) noexcept;
  // Why the last move failed; empty when it did not, or another thread is attaching.
  std::string why_not_moved();
  // Gives up the former sessions in which nothing stands any more. When another thread is at it, or inside since before the move,
  // a later call does it. Outside.
  void part_with_formers() noexcept;
  void part_if_former(const Link& link) noexcept {
    if (__builtin_expect(link.is(Link::Standing::former), 0)) part_with_formers();
  }
  void part_if_any() noexcept {
    if (__builtin_expect(any_formers_.load(std::memory_order_relaxed), 0)) part_with_formers();
  }

  // A put whose content goes by the control socket. Who made it keeps it until its answer: each later daemon gets it too, unless
  // it says that `number` was carried out. Numbers rise in the order in which they are first sent.
  struct LargePut {
    Link* link = nullptr;
    std::vector<std::byte> message;  // PutMessage, embedding, id
    base::WatchedFd file;
    uint64_t number = 0;  // 0: never sent
    uint64_t sent_on = 0;  // the connection that it went out on last
  };
  // Sends it. An error: it was never sent.
  base::Status send_large(const std::shared_ptr<LargePut>& put, const base::Deadline& deadline);
  // What a new connection's socket had no room for; nearly always nothing. Never waits.
  void send_large_again();
  // Takes what the daemon sent. False: another thread has the client's lock.
  bool drain_without_waiting();
  [[nodiscard]] Tickets& tickets() noexcept { return tickets_; }

  // ---- Pins and counters.
  // A cell in the thread's magazine, of this link. False: all views that a client may hold are out.
  bool refill(ThreadRecord& me, Link& link) noexcept;
  void give_back_cell(ThreadRecord& me, Link& link, uint32_t cell) noexcept {
    if (__builtin_expect(me.link == &link && me.cells < link.pins.kept_by_thread(), 1)) {
      me.magazine[me.cells++] = cell;
    } else {
      spill(me, link, cell);
    }
  }
  // For a cell of another link, or one that the magazine has no room for.
  void spill(ThreadRecord& me, Link& link, uint32_t cell) noexcept;
  static void flush_counters(ThreadRecord& me) noexcept;
  // True: it is time for a tick.
  static bool count_get(ThreadRecord& me) noexcept {
    ++me.gets;
    return --me.gets_until_tick == 0;
  }
  static void count_miss(ThreadRecord& me) noexcept {
    ++me.gets;
    ++me.misses;
    flush_counters(me);
  }
  // Whether segments came or went since the list of them was made. Inside.
  [[nodiscard]] bool segments_changed(const Attachment& a) const noexcept {
    return layout::load_acquire(a.status->segment_epoch) != segments.load(std::memory_order_acquire)->epoch();
  }
  // Each 64th get of a thread: counters, and segments that came or went.
  void tick(ThreadRecord& me, uint64_t put_sequence, uint32_t slot, bool segments_changed) noexcept;
  // An entry of the touch ring. False: there is no room.
  static bool leave_trace(const Link& link, uint64_t put_sequence, uint32_t slot, layout::TouchKind kind) noexcept;
  // Whether the daemon has stopped in order: its page says so, and its memory stays as it was. A successor that serves another
  // store changes no generation that this one's readers could see: so they look for it themselves. Outside.
  void notice_stop(ThreadRecord& me) noexcept;
  // For reads that do not tick.
  void notice_stop_now_and_then(ThreadRecord& me) noexcept {
    if (__builtin_expect(++me.reads_without_tick % kGetsPerTick == 0, 0)) notice_stop(me);
  }
  // After a write: who never reads lets go of segments that went too, or their files would keep their room on the disk.
  void let_go_now_and_then(ThreadRecord& me) noexcept {
    if (__builtin_expect(++me.writes % kGetsPerTick == 0, 0)) let_go(me);
  }
  [[nodiscard]] Link* find_link(uint64_t link_id) const noexcept;
  [[nodiscard]] uint64_t views_out() noexcept;
  // That this client may hold in the session that it has; those that it holds in an earlier one do not count.
  [[nodiscard]] uint32_t views_max() const noexcept;
  // The last view in a retired segment has gone.
  void drop_segment() noexcept;
  void switch_link(ThreadRecord& me, Link& link) noexcept;

  // ---- Threads; called under the registry's lock.
  ThreadRecord& enter_thread();
  void leave_thread(ThreadRecord& record) noexcept;

 private:
  enum class Sent { all, full, no_daemon };
  struct Retired {
    uint64_t epoch = 0;
    std::unique_ptr<const Attachment> attachment;
    std::unique_ptr<const SegmentTable> table;
    std::unique_ptr<SegmentMap> segment;
    bool views_counted = false;
  };

  // Left for another channel: what stood in it goes on there, and it is handed back to the next daemon like the one in use.
  struct Former {
    Link* link = nullptr;
    std::shared_ptr<Connection> connection;
    uint64_t epoch = 0;  // nothing comes to stand in it any more when no thread is inside since before
  };
  // What a welcome brought, mapped.
  struct Arrival {
    std::shared_ptr<Connection> connection;
    base::ReadMapping index;
    Link::Parts parts;
  };

  base::Status connect(const base::Deadline& deadline);
  [[nodiscard]] std::optional<Resume> resume() const;
  base::Status adopt(Greeting greeting, const base::Deadline& deadline);
  base::Result<Arrival> arrive(Greeting greeting);
  base::Status accept(Connection& connection, const base::Deadline& deadline);
  std::unique_ptr<Attachment> attachment_of(Arrival arrival, Link& link);
  void use(std::unique_ptr<Link> link);  // links_ has room for it
  base::Status move(const Attachment& from, const base::Deadline& deadline);
  base::Status hand_back_formers(const base::Deadline& deadline);
  base::Result<bool> hand_back(Former& former, const base::Deadline& deadline);
  bool part_with(const Former& former, uint64_t oldest_inside);
  void drain_formers() noexcept;
  // The newest link is then that of the session that the daemon has given, or has taken back.
  base::Status take_link(Link::Parts parts, bool resumed);
  void publish(std::unique_ptr<Attachment> next);
  base::Result<bool> take_index(uint64_t generation);
  base::Status drain(Connection& connection);
  base::Status handle(Connection& connection, Message& message);
  base::Status await_list(Connection& connection, uint64_t list, const base::Deadline& deadline);
  base::Status ask_for_list(Connection& connection, const base::Deadline& deadline);
  void install_list(uint64_t list_epoch, const std::vector<SegmentMap*>& list);
  void refresh_segments_without_waiting() noexcept;
  void look_for_successor() noexcept;
  void let_go(ThreadRecord& me) noexcept;
  void reap_if_wanted() noexcept;
  void retire(Retired object);
  void reap() noexcept;
  // The lowest epoch that a thread is inside since; what was taken out of use up to `newest` none has seen that is inside later.
  uint64_t oldest_inside(uint64_t newest) noexcept;
  base::Result<Sent> send_large_puts(Connection& connection, Link& link);
  void send_large_puts_of_formers();

  const std::string socket_path_;
  PatientLock mutex_;
  std::unique_ptr<Tier> tier_;
  std::vector<std::unique_ptr<Tier>> old_tiers_;  // views stand in them
  std::vector<std::unique_ptr<Link>> links_;  // the last one is in use
  std::atomic<Link*> newest_link_{nullptr};  // the same ones, for a release, which takes no lock that is held for long
  std::unordered_map<uint64_t, std::unique_ptr<SegmentMap>> segment_maps_;  // by number, those in the table
  std::vector<Retired> retired_;
  uint64_t fenced_epoch_ = 0;  // what was retired up to here, every thread has passed a fence since
  std::atomic<bool> reap_wanted_{false};
  uint64_t connections_ = 0;
  std::vector<std::weak_ptr<LargePut>> large_puts_;  // in the order of their numbers
  std::atomic<bool> large_unsent_{false};
  std::vector<Former> formers_;
  std::atomic<bool> any_formers_{false};
  std::atomic<uint64_t> next_move_ns_{0};  // not sooner
  std::string move_failure_;
  std::atomic<uint64_t> next_look_ns_{0};  // for a successor; not sooner
  bool daemon_reached_ = false;  // somebody has listened, once
  bool attached_before_ = false;
  std::atomic<ThreadRecord*> threads_{nullptr};
  uint32_t thread_count_ = 0;  // guarded by the registry's lock
  Tickets tickets_{*this};  // its requests stand in the links
};

// Inside as long as it lives. A read that throws nothing may use enter and leave themselves.
class Inside {
 public:
  Inside(const ClientState& state, ThreadRecord& me) noexcept : me_(me) { state.enter(me); }
  ~Inside() { ClientState::leave(me_); }
  Inside(const Inside&) = delete;
  Inside& operator=(const Inside&) = delete;

 private:
  ThreadRecord& me_;
};

// What warm_client is.
class Client {
 public:
  static base::Result<std::unique_ptr<Client>> open(const char* socket, uint64_t timeout_ns);
  ~Client();
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  // Of this process. In a child it is made anew: nothing of the parent's is touched, neither its locks nor its pins.
  ClientState& state() {
    ClientState* state = state_.load(std::memory_order_acquire);
    return __builtin_expect(state->stamp == fork_stamp(), 1) ? *state : adopt_fork(state);
  }
  // WARM_E_BUSY while views are out, or cursors or chunks open.
  base::Status close();

 private:
  Client(std::string socket_path, uint64_t timeout_ns, std::unique_ptr<ClientState> state);
  ClientState& adopt_fork(ClientState* inherited);

  const std::string socket_path_;
  const uint64_t timeout_ns_;
  std::atomic<ClientState*> state_;
};

}  // namespace warmtier::libclient
