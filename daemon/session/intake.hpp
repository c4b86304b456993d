// The intake thread: everything that touches a client's socket. It accepts, checks who is there, receives and closes descriptors,
// reads large content, watches the pidfds; the store thread never waits for any of it.
//
// Thread law: run() and what it calls are the intake thread's; publish_index() is the store thread's; the rest is called before
// run(). Lock: `subscribers_mutex_`, rank: above Published::mutex. It protects the list of sockets to which a larger index is
// sent, and makes a welcome one step: a session is handed the index of before a change and then the new one, or the new one.
//
// Invariants
//  1. A session ends by bye, by its pidfd, by descriptors that it may not send, or because its process says that it is over;
//     by end of file only as long as it was not accepted.
//  2. At most one large put of a session is between receiving and answer; its socket is not read meanwhile.
//  3. No socket is closed while it is in the list of subscribers.
//  4. What another user has put into a socket is neither received nor closed here when descriptors may be in it.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <unordered_map>
#include <vector>

#include "base/clock.hpp"
#include "base/error.hpp"
#include "base/fd.hpp"
#include "daemon/session/census.hpp"
#include "daemon/session/handshake.hpp"
#include "daemon/session/messages.hpp"
#include "daemon/session/porters.hpp"
#include "daemon/session/rations.hpp"
#include "daemon/session/socket.hpp"

namespace warmtier::daemon::session {

// Who attaches more often than he may (rations.hpp) is turned away, so many in one go and then no more for a while; the kernel's
// queue is shorter, so that whoever stands in it has been met by then. Who comes back at once waits too: each of his tries would
// be an interruption.
constexpr uint32_t kTurnedAwayAtOnce = 256;
constexpr uint64_t kTurningAwayRestNs = 20 * base::kNsPerMs;  // and not less than so much for each:
constexpr uint64_t kRestOfEachNs = 200 * base::kNsPerUs;

class Intake {
 public:
  using Clock = uint64_t (*)();
  Intake(const World& world, Mailboxes& mail, Stage stage, int doorbell_epoll, Clock clock = base::monotonic_ns);
  ~Intake();
  Intake(const Intake&) = delete;
  Intake& operator=(const Intake&) = delete;

  // `listener` listens; SIGTERM, SIGINT and SIGHUP are blocked in every thread and come by a signalfd.
  base::Status open(base::Fd listener, PorterProcess porters);
  // Sessions of an earlier daemon. Returns the channel and its sessions for the store thread.
  struct Adopted {
    Channel* channel = nullptr;
    std::vector<std::shared_ptr<Session>> orphans;
  };
  base::Result<Adopted> adopt(AdoptedChannel channel);
  // What SIGHUP does, on this thread.
  void set_reload(std::function<void()> reload) { reload_ = std::move(reload); }
  // For hellos from now on; by run()'s thread.
  void set_access(AccessRules access) { world_.access = std::move(access); }
  // Until the store thread says quit.
  void run();

  // Store thread: a larger index, before the generation changes.
  void publish_index(int index_fd, uint32_t homes_log2, uint64_t generation);

 private:
  // An answer on its way, in messages as the socket takes them.
  struct SessionList {
    uint64_t question = 0;
    std::vector<layout::SessionReport> reports;
    size_t next = 0;
  };
  struct Connection {
    enum class State { greeting, attaching, open, silent, ending };
    uint64_t id = 0;
    State state = State::greeting;
    base::Fd socket;
    base::Fd pidfd;
    uid_t uid = 0;
    uint32_t protocol_version = 0;  // that it is answered in; 0: its hello has not come
    base::Deadline deadline = base::Deadline::never();  // for the hello
    std::shared_ptr<Session> session;
    base::Fd session_memfd;  // for a process that closes all its descriptors
    base::Fd lanes_memfd;  // handed back, until the store thread has taken it
    bool region_known = false;
    bool kept = false;  // the service manager has its memory
    bool known = false;  // its client has accepted it once: it may hold pins
    bool accepted = false;  // the last welcome
    uint64_t welcomes = 0;
    uint64_t fetch = 0;  // of a packet that is received elsewhere; its socket is not read meanwhile. 0: none
    bool resting = false;  // its user has nothing left: it is in his line, and neither thread hears its socket
    bool put_pending = false;
    uint64_t put_bytes = 0;  // of it in our memory
    std::optional<SegmentList> segments;  // on its way
    uint64_t lists_owed = 0;  // beside it
    uint64_t lists_given = 0;  // of these, the first of each welcome, which nobody asked for
    bool list_is_given = false;  // the one on its way
    bool awaited = false;  // a session of an earlier daemon whose process has not come back yet
    std::optional<uint64_t> question;  // who holds what; the latest, to be answered by a census that begins after it
    std::optional<uint64_t> counted;  // the one that the census of now answers
    std::optional<SessionList> sessions;
  };

  void accept_all();
  void accept_under_shortage();
  void greet(base::Fd socket);
  void make_room_for_greeting(uid_t uid);
  Ration* ration_of(uid_t uid);
  [[nodiscard]] bool may_speak(const Connection& connection);
  void rest(Connection& connection);
  void hear_the_line(Ration& ration);
  void hear_who_rests();
  void hear_bell(const Connection& connection, bool yes) noexcept;
  void leave_greeting(const Connection& connection);
  base::Status check_limits(uid_t uid);
  [[nodiscard]] base::Result<uint32_t> grant_views(uid_t uid) const;
  void handle_signal();
  bool handle_mail();  // true: quit
  void handle(const Attached& message);
  void handle(const Ended& message);
  void handle(const Accepted& message);
  void handle(const PutAnswered& message);
  void handle(const Dropped& message);
  void handle(const Notify& message);
  void handle_socket(Connection& connection, uint32_t events);
  void take_fetched();
  void listen_again(bool yes);
  [[nodiscard]] bool may_accept() const noexcept;
  [[nodiscard]] bool may_go_on(uint64_t id) noexcept;
  [[nodiscard]] uint32_t own_version() const noexcept { return world_.dialects.front().protocol_version; }
  void let_go_of(base::Fd socket, uid_t uid);
  bool handle_packet(Connection& connection, Packet& packet);
  void pass_on_doorbell() noexcept;
  void handle_hello(Connection& connection, Packet& packet);
  enum class Resumption : uint8_t { resumed, refused, later };
  Resumption try_resume(Connection& connection, const layout::Hello& hello, Peer& peer, layout::Access access, Packet& packet);
  base::Status attach_new(Connection& connection, const layout::Hello& hello, Peer& peer, layout::Access access);
  [[nodiscard]] uint64_t room_for_large(uid_t uid) const noexcept;
  void count_large(Connection& connection, uint64_t bytes);
  void handle_put(Connection& connection, std::span<const std::byte> message, const base::Fd& content);
  void welcome(Connection& connection, uint64_t socket_done, bool resumed);
  void handle_accept(Connection& connection, std::span<const std::byte> message);
  void keep(Connection& connection);
  void keep_the_rest();
  void settle_without_socket(Connection& connection);
  void owe_list(Connection& connection, bool asked);
  void flush_segments(Connection& connection);
  void flush_sessions(Connection& connection);
  void go_on_with_census();
  void begin_census();
  void answer_census();
  void refuse(Connection& connection, int32_t code, const std::string& text);
  void end_session(Connection& connection);
  void close_socket(Connection& connection);
  void socket_gone(Connection& connection);
  void forget(Connection& connection);
  void release(Session& session);
  base::Status watch(int fd, uint64_t tag, uint32_t events);
  void rearm(Connection& connection);
  Connection& new_connection();
  Connection* find(uint64_t id) noexcept;
  Connection* find_session(uint64_t number) noexcept;
  Connection* connection_of(const Session& session) noexcept;
  void expire_greetings();
  [[nodiscard]] int timeout_ms() const noexcept;
  [[nodiscard]] uint32_t sessions_of(uid_t uid) const noexcept;

  World world_;
  Mailboxes& mail_;
  const Stage stage_;
  std::function<void()> reload_;
  const int doorbell_epoll_;
  const Clock clock_;
  Rooms rooms_;
  base::Fd epoll_;
  base::Fd listener_;
  base::Fd signals_;
  Porters porters_;
  uint64_t fetches_ = 0;
  bool listening_ = true;  // false: nobody is accepted at this moment
  uint32_t turned_away_ = 0;  // since we listen
  uint64_t turned_away_at_ns_ = 0;  // the first of them
  uint64_t listen_at_ns_ = 0;  // not sooner
  base::Fd spare_;  // given up for a moment to tell a client that there are no descriptors left
  std::unordered_map<uint64_t, std::unique_ptr<Connection>> connections_;
  std::unordered_map<const Session*, uint64_t> by_session_;
  uint64_t next_id_ = 1;
  bool all_kept_ = true;  // false: the service manager had no room for something
  uint32_t greetings_ = 0;
  std::unordered_map<uid_t, uint32_t> greetings_of_;  // by user; their sum is greetings_
  Rations rations_;
  uint64_t hear_at_ns_ = UINT64_MAX;  // who rests
  uint64_t large_bytes_ = 0;  // sum of put_bytes
  std::unordered_map<uid_t, uint64_t> large_bytes_of_;  // by user
  bool limit_logged_ = false;
  std::vector<std::byte> buffer_;
  std::optional<Census> census_;
  base::Deadline next_census_ = base::Deadline::after_ns(0);  // not sooner
  uint64_t census_ns_ = 0;  // that the one of now has taken
  uint32_t questions_ = 0;  // connections with one that no census answers yet

  std::mutex subscribers_mutex_;
  std::vector<int> subscribers_;
};

}  // namespace warmtier::daemon::session
