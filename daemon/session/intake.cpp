#include "daemon/session/intake.hpp"

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>
#include <csignal>
#include <cstring>
#include <utility>

#include "base/assert.hpp"
#include "base/failpoint.hpp"
#include "daemon/session/log.hpp"
#include "layout/validate.hpp"

namespace warmtier::daemon::session {
namespace {

// What an epoll event is about: a connection's number and which of its descriptors, or one of our own.
constexpr uint64_t kTagListener = 0;
constexpr uint64_t kTagMail = 1;
constexpr uint64_t kTagSignals = 2;
constexpr uint64_t kTagPorters = 3;
constexpr uint64_t kTagSocket = 0;
constexpr uint64_t kTagPidfd = 1;
constexpr uint64_t tag_of(uint64_t id, uint64_t which) noexcept { return id << 2 | which; }

constexpr size_t kEventsMax = 64;
constexpr uint32_t kAcceptsPerEvent = 64;
constexpr uint32_t kPacketsPerEvent = 32;
constexpr uint64_t kGreetingNsMax = 5 * base::kNsPerSecond;
constexpr uint32_t kGreetingsPerUidMax = 64;  // connections that have not said who they are
constexpr uint32_t kGreetingsMax = 512;
constexpr uint64_t kCensusIntervalNs =
    100 * base::kNsPerMs;  // who asks in a loop asks in vain: all questions of it are one census
constexpr uint64_t kCensusRest = 50;  // and for so many times as long as the last one took, nobody's views are counted again
constexpr uint32_t kUidShareDivisor =
    2;  // another user than the daemon's own may have this part of all sessions, and of large content

constexpr uint32_t kSocketEvents = EPOLLIN | EPOLLRDHUP | EPOLLONESHOT;

}  // namespace

Intake::Intake(const World& world, Mailboxes& mail, Stage stage, int doorbell_epoll, Clock clock)
    : world_(world),
      mail_(mail),
      stage_(std::move(stage)),
      doorbell_epoll_(doorbell_epoll),
      clock_(clock),
      rooms_(world_),
      buffer_(layout::kMessageBytesMax) {}

// Sockets of others may hold what cannot be closed at once: they are open until the process ends, which waits for none of it.
Intake::~Intake() {
  for (const auto& [id, connection] : connections_) {
    if (connection->uid != world_.own_uid) (void)connection->socket.release();
  }
}

base::Status Intake::watch(int fd, uint64_t tag, uint32_t events) {
  epoll_event event{};
  event.events = events;
  event.data.u64 = tag;
  if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) != 0) return base::fail_errno(errno, "epoll_ctl");
  return {};
}

base::Status Intake::open(base::Fd listener, PorterProcess porters) {
  listener_ = std::move(listener);
  // A service manager may hand over one that blocks: accepting until there is nobody left would then stop this thread.
  const int flags = ::fcntl(listener_.get(), F_GETFL);
  if (flags < 0 || ::fcntl(listener_.get(), F_SETFL, flags | O_NONBLOCK) != 0)
    return base::fail_errno(errno, "make the listener non-blocking");
  if (::listen(listener_.get(), kListenQueueMax) != 0) return base::fail_errno(errno, "listen");  // also where it listens already
  epoll_.reset(::epoll_create1(EPOLL_CLOEXEC));
  if (!epoll_) return base::fail_errno(errno, "epoll_create1");
  sigset_t signals;
  ::sigemptyset(&signals);
  ::sigaddset(&signals, SIGTERM);
  ::sigaddset(&signals, SIGINT);
  ::sigaddset(&signals, SIGHUP);
  signals_.reset(::signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!signals_) return base::fail_errno(errno, "signalfd");
  auto spare = base::open_at(AT_FDCWD, "/dev/null", O_RDONLY);
  if (!spare) return base::pass(std::move(spare));
  spare_ = std::move(*spare);
  const uint64_t memory_bytes_max = std::max(
      {world_.limits.content_bytes_max, layout::channel_bytes(layout::kLanesMax), uint64_t{sizeof(layout::SessionRegion)}});
  if (auto s = porters_.open(std::move(porters), memory_bytes_max); !s) return s;
  if (auto s = watch(porters_.event_fd(), kTagPorters, EPOLLIN); !s) return s;
  if (auto s = watch(porters_.end_fd(), kTagPorters, EPOLLRDHUP); !s) return s;
  if (auto s = watch(listener_.get(), kTagListener, EPOLLIN); !s) return s;
  if (auto s = watch(mail_.to_intake.event_fd(), kTagMail, EPOLLIN); !s) return s;
  return watch(signals_.get(), kTagSignals, EPOLLIN);
}

base::Result<Intake::Adopted> Intake::adopt(AdoptedChannel channel) {
  Room& room = rooms_.adopt(channel);
  Adopted adopted{.channel = room.channel.get(), .orphans = {}};
  for (Orphan& orphan : channel.orphans) {
    Connection& connection = new_connection();
    connection.state = Connection::State::silent;
    connection.uid = room.channel->key().uid;
    connection.session = orphan.session;
    connection.known = true;
    connection.awaited = true;
    connection.session_memfd = std::move(orphan.memfd);
    connection.region_known = connection.kept = static_cast<bool>(connection.session_memfd);
    connection.pidfd = std::move(orphan.pidfd);
    by_session_[orphan.session.get()] = connection.id;
    if (connection.pidfd) {
      if (auto s = watch(connection.pidfd.get(), tag_of(connection.id, kTagPidfd), EPOLLIN); !s) return base::pass(std::move(s));
    }
    adopted.orphans.push_back(std::move(orphan.session));
  }
  return adopted;
}

Intake::Connection& Intake::new_connection() {
  auto connection = std::make_unique<Connection>();
  connection->id = next_id_++;
  Connection& made = *connection;
  connections_[made.id] = std::move(connection);
  return made;
}

Intake::Connection* Intake::find(uint64_t id) noexcept {
  const auto found = connections_.find(id);
  return found == connections_.end() ? nullptr : found->second.get();
}

Intake::Connection* Intake::connection_of(const Session& session) noexcept {
  const auto found = by_session_.find(&session);
  return found == by_session_.end() ? nullptr : find(found->second);
}

// One whose number its process knows. Rare: a hand-back.
Intake::Connection* Intake::find_session(uint64_t number) noexcept {
  for (const auto& [id, connection] : connections_) {
    const bool there = connection->known && connection->state != Connection::State::ending;
    if (there && connection->session->number == number) return connection.get();
  }
  return nullptr;
}

uint32_t Intake::sessions_of(uid_t uid) const noexcept {
  return static_cast<uint32_t>(std::ranges::count_if(
      connections_, [&](const auto& entry) { return entry.second->session != nullptr && entry.second->uid == uid; }));
}

// ---- the loop --------------------------------------------------------------------------------------------------------------

int Intake::timeout_ms() const noexcept {
  if (census_) return 0;
  // While closing is behind and under way, its end wakes us.
  uint64_t at_ns = std::min(hear_at_ns_, listening_ || porters_.behind() ? UINT64_MAX : listen_at_ns_);
  if (porters_.stuck()) at_ns = std::min(at_ns, clock_() + kRestNs);
  if (greetings_ == 0 && questions_ == 0 && at_ns == UINT64_MAX) return -1;
  uint64_t left_ns = questions_ > 0 ? next_census_.left_ns() : kGreetingNsMax;
  if (at_ns != UINT64_MAX) left_ns = std::min(left_ns, at_ns - std::min(clock_(), at_ns));
  for (const auto& [id, connection] : connections_) {
    if (connection->state == Connection::State::greeting) left_ns = std::min(left_ns, connection->deadline.left_ns());
  }
  return static_cast<int>(left_ns / base::kNsPerMs + 1);
}

void Intake::expire_greetings() {
  if (greetings_ == 0) return;
  std::vector<Connection*> late;
  for (const auto& [id, connection] : connections_) {
    if (connection->state == Connection::State::greeting && connection->deadline.passed()) late.push_back(connection.get());
  }
  for (Connection* connection : late) forget(*connection);
}

void Intake::run() {
  std::array<epoll_event, kEventsMax> events{};
  for (;;) {
    const int count = ::epoll_wait(epoll_.get(), events.data(), static_cast<int>(events.size()), timeout_ms());
    for (int i = 0; i < count; ++i) {
      const uint64_t tag = events[static_cast<size_t>(i)].data.u64;
      const uint64_t id = tag >> 2;
      if (id == 0) {
        if (tag == kTagListener) accept_all();
        if (tag == kTagSignals) handle_signal();
        if (tag == kTagPorters) take_fetched();
        if (tag == kTagMail && handle_mail()) return;
        continue;
      }
      Connection* connection = find(id);
      if (connection == nullptr) continue;  // gone by an earlier event of this round
      if ((tag & 3) == kTagPidfd) {
        end_session(*connection);
      } else if (connection->socket) {
        handle_socket(*connection, events[static_cast<size_t>(i)].events);
      }
    }
    hear_who_rests();
    expire_greetings();
    go_on_with_census();
  }
}

void Intake::handle_signal() {
  signalfd_siginfo info{};
  while (::read(signals_.get(), &info, sizeof info) == static_cast<ssize_t>(sizeof info)) {
    if (info.ssi_signo == SIGHUP) {
      if (reload_) reload_();
      continue;
    }
    log_line(Priority::info, "stopping: signal %u from process %u", info.ssi_signo, info.ssi_pid);
    mail_.to_store.post(Stop{});
  }
}

bool Intake::handle_mail() {
  bool quit = false;
  for (ToIntake& message : mail_.to_intake.take()) {
    if (std::holds_alternative<Quit>(message)) {
      quit = true;
    } else if (auto* attached = std::get_if<Attached>(&message)) {
      handle(*attached);
    } else if (auto* ended = std::get_if<Ended>(&message)) {
      handle(*ended);
    } else if (auto* accepted = std::get_if<Accepted>(&message)) {
      handle(*accepted);
    } else if (auto* answered = std::get_if<PutAnswered>(&message)) {
      handle(*answered);
    } else if (auto* dropped = std::get_if<Dropped>(&message)) {
      handle(*dropped);
    } else if (auto* notify = std::get_if<Notify>(&message)) {
      handle(*notify);
    }
  }
  keep_the_rest();
  return quit;
}

// ---- connections -----------------------------------------------------------------------------------------------------------

void Intake::accept_all() {
  // Once somebody is turned away it goes on until nobody is left, or no more of them may be: that is one go.
  for (uint32_t i = 0; i < kAcceptsPerEvent || turned_away_ > 0; ++i) {
    if (!may_accept()) {
      listen_again(false);
      return;
    }
    base::Fd socket(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (socket) {
      greet(std::move(socket));
      continue;
    }
    if (errno == EINTR || errno == ECONNABORTED) continue;
    if (errno == EMFILE || errno == ENFILE) accept_under_shortage();
    if (turned_away_ > 0) listen_again(false);
    return;
  }
}

bool Intake::may_accept() const noexcept { return !porters_.behind() && turned_away_ < kTurnedAwayAtOnce; }

// Who comes waits in the kernel's queue, which costs no descriptor.
void Intake::listen_again(bool yes) {
  if (listening_ == yes) return;
  if (turned_away_ > 0)
    listen_at_ns_ = turned_away_at_ns_ + std::max(kTurningAwayRestNs, std::exchange(turned_away_, 0) * kRestOfEachNs);
  epoll_event event{};
  event.events = yes ? EPOLLIN : 0U;
  event.data.u64 = kTagListener;
  if (::epoll_ctl(epoll_.get(), EPOLL_CTL_MOD, listener_.get(), &event) == 0) listening_ = yes;
}

// Without a free descriptor the connection would stay in the queue and wake us for ever.
void Intake::accept_under_shortage() {
  spare_.reset();
  base::Fd socket(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  if (socket) {
    const layout::Refuse message = compose_refuse(WARM_E_LIMIT, "the daemon has no file descriptor left", own_version());
    (void)send_packet(socket.get(), bytes_of(message), {});
    // Unread bytes at a close would make the peer see a reset instead of the reason: they are thrown away.
    porters_.close(std::move(socket));
  }
  spare_.reset(::open("/dev/null", O_RDONLY | O_CLOEXEC));
}

void Intake::greet(base::Fd socket) {
  ucred peer{};
  socklen_t bytes = sizeof peer;
  if (::getsockopt(socket.get(), SOL_SOCKET, SO_PEERCRED, &peer, &bytes) != 0) return;
  if (Ration* const ration = ration_of(peer.uid); ration != nullptr) {
    const uint64_t now_ns = clock_();
    if (!ration->greetings.any(now_ns)) {
      if (turned_away_++ == 0) turned_away_at_ns_ = now_ns;
      // He is told, and tries again by himself. In the queue he would keep others out.
      const layout::Refuse message = compose_refuse(
          WARM_E_BUSY, "user " + std::to_string(peer.uid) + " attaches more often than others can bear", own_version());
      (void)send_packet(socket.get(), bytes_of(message), {});
      porters_.close(std::move(socket));
      return;
    }
    ration->greetings.spend(1);
  }
  make_room_for_greeting(peer.uid);
  Connection& connection = new_connection();
  connection.socket = std::move(socket);
  connection.uid = peer.uid;
  connection.deadline = base::Deadline::after_ns(kGreetingNsMax);
  ++greetings_;
  ++greetings_of_[peer.uid];
  if (!watch(connection.socket.get(), tag_of(connection.id, kTagSocket), kSocketEvents)) forget(connection);
}

// Who connects and says nothing takes places away from nobody but its own user: the one that has been silent longest goes.
void Intake::make_room_for_greeting(uid_t uid) {
  for (;;) {
    uid_t whose = uid;
    if (greetings_of_[uid] < kGreetingsPerUidMax) {
      if (greetings_ < kGreetingsMax) return;
      whose = std::ranges::max_element(greetings_of_, {}, [](const auto& entry) { return entry.second; })->first;
    }
    Connection* oldest = nullptr;
    for (const auto& [id, connection] : connections_) {
      if (connection->state != Connection::State::greeting || connection->uid != whose) continue;
      if (oldest == nullptr || connection->deadline.left_ns() < oldest->deadline.left_ns()) oldest = connection.get();
    }
    WARM_ASSERT(oldest != nullptr);
    const uint64_t id = oldest->id;
    if (may_speak(*oldest)) handle_socket(*oldest, 0);  // what it has said already counts
    Connection* still = find(id);
    if (still != nullptr && still->state == Connection::State::greeting) forget(*still);
  }
}

// ---- who makes us work (S18) -----------------------------------------------------------------------------------------------

// None: the daemon's own user.
Ration* Intake::ration_of(uid_t uid) {
  if (uid == world_.own_uid || !WARM_RULE("daemon.messages_are_rationed")) return nullptr;
  return &rations_.of(uid, clock_());
}

bool Intake::may_speak(const Connection& connection) {
  Ration* const ration = ration_of(connection.uid);
  if (ration == nullptr) return true;
  const uint64_t now_ns = clock_();
  if (!ration->messages.any(now_ns) && connection.session) {
    ration->messages.earn(
        static_cast<int64_t>(std::min<uint64_t>(connection.session->channel->take_carried_out(), kMessages.at_once)));
  }
  return ration->messages.any(now_ns) && ration->listed.any(now_ns);
}

// Its socket stays as it is, for both threads: what is published meanwhile waits for a look at all lanes, or for the end of this.
void Intake::rest(Connection& connection) {
  if (std::exchange(connection.resting, true)) return;
  hear_bell(connection, false);
  ration_of(connection.uid)->line.push_back(connection.id);
  hear_at_ns_ = std::min(hear_at_ns_, clock_() + kRestNs);
}

void Intake::hear_who_rests() {
  if (porters_.stuck()) porters_.hand_on();
  if (!listening_ && may_accept() && clock_() >= listen_at_ns_) listen_again(true);
  if (hear_at_ns_ == UINT64_MAX || clock_() < hear_at_ns_) return;
  hear_at_ns_ = UINT64_MAX;
  rations_.for_each([this](Ration& ration) { hear_the_line(ration); });
}

void Intake::hear_the_line(Ration& ration) {
  // Who is not done after his turn stands behind the others.
  for (size_t left = ration.line.size(); left > 0; --left) {
    Connection* connection = find(ration.line.front());
    if (connection != nullptr && connection->resting) {
      if (!may_speak(*connection)) break;
      connection->resting = false;
      hear_bell(*connection, true);
      ration.line.pop_front();
      handle_socket(*connection, EPOLLOUT);
    } else {
      ration.line.pop_front();
    }
  }
  if (!ration.line.empty()) hear_at_ns_ = std::min(hear_at_ns_, clock_() + kRestNs);
}

// An edge that came meanwhile is told anew.
void Intake::hear_bell(const Connection& connection, bool yes) noexcept {
  if (!connection.socket || connection.state != Connection::State::open) return;
  epoll_event event{};
  event.events = (yes ? EPOLLIN : 0U) | EPOLLET;
  (void)::epoll_ctl(doorbell_epoll_, EPOLL_CTL_MOD, connection.socket.get(), &event);
}

void Intake::leave_greeting(const Connection& connection) {
  --greetings_;
  const auto count = greetings_of_.find(connection.uid);
  if (--count->second == 0) greetings_of_.erase(count);
}

// Whether there is room for one session more of this user.
base::Status Intake::check_limits(uid_t uid) {
  const size_t sessions = connections_.size() - greetings_;
  const uint32_t share = std::max(world_.sessions_max / kUidShareDivisor, 1U);
  if (uid != world_.own_uid && sessions_of(uid) >= share) {
    return base::fail(WARM_E_LIMIT, "user %u has %u sessions and that is the limit", uid, share);
  }
  size_t segments = 0;
  {
    const std::scoped_lock lock(world_.published->mutex);
    segments = world_.published->segments.size();
  }
  const uint64_t descriptors =
      kDescriptorsKept + greetings_ + segments + sessions * kDescriptorsPerSession + rooms_.size() * kDescriptorsPerChannel;
  std::string text;
  if (sessions >= world_.sessions_max) {
    text = "the daemon has " + std::to_string(world_.sessions_max) + " sessions and that is the limit";
  } else if (descriptors + kDescriptorsPerSession + kDescriptorsPerChannel > world_.descriptors) {
    text = "the daemon may have " + std::to_string(world_.descriptors) + " file descriptors, and " + std::to_string(descriptors) +
           " are spoken for (" + std::to_string(sessions) + " sessions, " + std::to_string(segments) + " segments)";
  } else {
    return {};
  }
  if (!limit_logged_) log_line(Priority::warning, "%s: more sessions are refused", text.c_str());
  limit_logged_ = true;
  return base::fail(WARM_E_LIMIT, "%s", text.c_str());
}

// What a session of this user may pin.
base::Result<uint32_t> Intake::grant_views(uid_t uid) const {
  if (uid == world_.own_uid) return layout::kViewsMax;
  ViewsGranted granted;
  for (const auto& [id, connection] : connections_) {
    if (connection->session == nullptr || connection->uid == world_.own_uid) continue;
    (connection->uid == uid ? granted.to_user : granted.to_others) += connection->session->views_max;
    granted.sessions += connection->uid == uid ? 1 : 0;
  }
  const uint32_t views = views_of_next_session(world_.capacity, granted);
  if (views > 0) return views;
  return base::fail(
      WARM_E_LIMIT,
      "user %u may hold %llu views with all its sessions, and the %u that it has were granted %llu: too few are left "
      "for one more (of %llu slots other users' sessions may hold %llu)",
      uid, static_cast<unsigned long long>(views_of_user(world_.capacity, granted)), granted.sessions,
      static_cast<unsigned long long>(granted.to_user), static_cast<unsigned long long>(world_.capacity),
      static_cast<unsigned long long>(granted.to_others));
}

void Intake::rearm(Connection& connection) {
  if (!connection.socket || connection.resting) return;
  epoll_event event{};
  event.events = kSocketEvents | (connection.segments || connection.sessions ? EPOLLOUT : 0U);
  event.data.u64 = tag_of(connection.id, kTagSocket);
  (void)::epoll_ctl(epoll_.get(), EPOLL_CTL_MOD, connection.socket.get(), &event);
}

void Intake::close_socket(Connection& connection) {
  if (!connection.socket) return;
  const std::scoped_lock lock(subscribers_mutex_);
  std::erase(subscribers_, connection.socket.get());
  let_go_of(std::move(connection.socket), connection.uid);
  connection.fetch = 0;
  connection.resting = false;
  connection.segments.reset();
  connection.lists_owed = 0;
  connection.lists_given = 0;
  if (std::exchange(connection.question, std::nullopt)) --questions_;
  connection.counted.reset();
  connection.sessions.reset();
}

// Our own user could kill us: what it sends is received and closed here.
void Intake::let_go_of(base::Fd socket, uid_t uid) {
  if (uid == world_.own_uid) return;
  (void)::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, socket.get(), nullptr);
  (void)::epoll_ctl(doorbell_epoll_, EPOLL_CTL_DEL, socket.get(), nullptr);
  porters_.close(std::move(socket));
}

// The socket is at its end. That is not the end of the session: closefrom() or daemon() do it to a living reader. One that was
// never accepted has no readers.
void Intake::socket_gone(Connection& connection) {
  if (connection.state == Connection::State::greeting) {
    forget(connection);
    return;
  }
  close_socket(connection);
  if (connection.state == Connection::State::open) settle_without_socket(connection);
}

void Intake::settle_without_socket(Connection& connection) {
  connection.state = Connection::State::silent;
  if (!connection.known) end_session(connection);
}

void Intake::forget(Connection& connection) {
  if (connection.state == Connection::State::greeting) leave_greeting(connection);
  if (connection.session) {
    by_session_.erase(connection.session.get());
    limit_logged_ = false;
  }
  close_socket(connection);
  connections_.erase(connection.id);
}

void Intake::refuse(Connection& connection, int32_t code, const std::string& text) {
  const layout::Refuse message =
      compose_refuse(code, text, connection.protocol_version != 0 ? connection.protocol_version : own_version());
  (void)send_packet(connection.socket.get(), bytes_of(message), {});
  forget(connection);
}

void Intake::end_session(Connection& connection) {
  if (connection.state == Connection::State::ending) return;
  WARM_ASSERT(connection.session != nullptr);
  WARM_FAILPOINT("daemon.session.ending");
  connection.state = Connection::State::ending;
  close_socket(connection);
  connection.pidfd.reset();
  mail_.to_store.post(End{.session = connection.session});
}

void Intake::handle_socket(Connection& connection, uint32_t events) {
  const uint64_t id = connection.id;
  Ration* const ration = ration_of(connection.uid);
  if ((events & EPOLLOUT) != 0) flush_segments(connection);
  if ((events & EPOLLOUT) != 0) flush_sessions(connection);
  for (uint32_t i = 0; i < kPacketsPerEvent; ++i) {
    if (!connection.socket || connection.fetch != 0) return;
    if (!may_speak(connection)) {
      rest(connection);
      return;
    }
    if (connection.uid != world_.own_uid && look_at(connection.socket.get()) == Head::with_descriptors) {
      connection.fetch = ++fetches_;
      if (!porters_.fetch(connection.uid, connection.id, connection.fetch, connection.socket.get())) socket_gone(connection);
      return;
    }
    Packet packet = receive_packet(connection.socket.get(), buffer_);
    if (packet.state == Packet::State::nothing) break;
    if (packet.state == Packet::State::closed && packet.descriptors.empty()) {
      socket_gone(connection);
      return;
    }
    if (ration != nullptr) ration->messages.spend(1);
    if (!handle_packet(connection, packet) || !may_go_on(id)) return;
  }
  rearm(connection);
}

// Whether the connection is there and is read.
bool Intake::may_go_on(uint64_t id) noexcept {
  const Connection* connection = find(id);
  return connection != nullptr && !connection->put_pending && connection->state != Connection::State::attaching;
}

void Intake::take_fetched() {
  while (auto fetched = porters_.take(buffer_)) {
    Connection* connection = find(fetched->connection);
    if (connection == nullptr || connection->fetch != fetched->number) continue;  // its socket is gone
    connection->fetch = 0;
    if (Ration* const ration = ration_of(connection->uid); ration != nullptr) ration->messages.spend(1);
    if (fetched->packet.state == Packet::State::closed && fetched->packet.descriptors.empty()) {
      socket_gone(*connection);
      continue;
    }
    const bool nothing = fetched->packet.state == Packet::State::nothing;
    if (nothing || (handle_packet(*connection, fetched->packet) && may_go_on(fetched->connection))) rearm(*connection);
  }
  if (porters_.ended()) {
    log_line(Priority::error, "the process that receives what other users send has ended: stopping as after a kill");
    ::_exit(1);
  }
}

// False when the connection is not to be read any more, and may be gone.
bool Intake::handle_packet(Connection& connection, Packet& packet) {
  const auto message = std::span<const std::byte>(buffer_).first(packet.bytes);
  const bool greeting = connection.state == Connection::State::greeting;
  const auto misbehaved = [&] {
    if (greeting) {
      forget(connection);
    } else {
      end_session(connection);
    }
    return false;
  };
  if (packet.state == Packet::State::starved && !greeting) {
    // Our want, not its fault: the session and its pins stay, and it sends again when it has attached anew.
    socket_gone(connection);
    return false;
  }
  if (packet.state != Packet::State::received) return misbehaved();
  layout::MessageHeader header{};
  if (packet.bytes >= sizeof header) std::memcpy(&header, message.data(), sizeof header);
  const auto kind = static_cast<layout::MessageKind>(header.kind);
  if (greeting) {
    const bool descriptors_fit = packet.descriptors.empty() || packet.descriptors.size() == 2;
    if (kind != layout::MessageKind::hello || !descriptors_fit) return misbehaved();
    handle_hello(connection, packet);
    return false;
  }
  if (packet.bytes == 1 && packet.descriptors.empty()) {
    pass_on_doorbell();
    return true;
  }
  const bool put = kind == layout::MessageKind::put;
  if (packet.descriptors.size() != (put ? 1U : 0U)) return misbehaved();
  // A welcome is accepted once and first; who does not like it says bye.
  const bool in_turn = kind == layout::MessageKind::bye || connection.accepted != (kind == layout::MessageKind::accept);
  if (layout::validate_message(message) != layout::Verdict::good || !in_turn) {
    socket_gone(connection);
    return false;
  }
  switch (kind) {
    case layout::MessageKind::put: handle_put(connection, message, packet.descriptors.front()); return false;
    case layout::MessageKind::bye: end_session(connection); return false;
    case layout::MessageKind::accept: handle_accept(connection, message); return static_cast<bool>(connection.socket);
    case layout::MessageKind::segments_wanted: owe_list(connection, true); return static_cast<bool>(connection.socket);
    case layout::MessageKind::sessions_wanted: {
      layout::SessionsWanted wanted;
      std::memcpy(&wanted, message.data(), sizeof wanted);
      if (!std::exchange(connection.question, wanted.question)) ++questions_;
      return true;
    }
    case layout::MessageKind::watch: {
      layout::Watch watch;
      std::memcpy(&watch, message.data(), sizeof watch);
      mail_.to_store.post(Watch{.sequence_after = watch.sequence_after,
                                .durable_after = watch.durable_after,
                                .checkpoint = watch.checkpoint != 0 && connection.session->access >= layout::Access::admin});
      WARM_STEP("daemon.watch.posted");
      return true;
    }
    default: socket_gone(connection); return false;
  }
}

// The store thread watches the sockets too, to wake without this thread's help. But its epoll looks again at what woke it, and
// finds nothing when the byte was taken here in between: then it sleeps on, and must be told.
void Intake::pass_on_doorbell() noexcept {
  layout::fence_full();
  if (layout::load_relaxed(world_.status->sleeping) != 0) mail_.to_store.ring();
}

// ---- greeting --------------------------------------------------------------------------------------------------------------

void Intake::handle_hello(Connection& connection, Packet& packet) {
  WARM_FAILPOINT("daemon.handshake.hello");
  const auto message = std::span<const std::byte>(buffer_).first(packet.bytes);
  const auto version = check_hello(message, world_.dialects);
  if (!version) {
    refuse(connection, version.error().code, version.error().text);
    return;
  }
  connection.protocol_version = *version;
  layout::Hello hello;
  std::memcpy(&hello, message.data(), sizeof hello);
  auto peer = peer_of(connection.socket.get());
  if (!peer) {
    refuse(connection, peer.error().code, peer.error().text);
    return;
  }
  const layout::Access access = world_.access.of(peer->uid, peer->gid, peer->groups, world_.own_uid);
  if (hello.resume_session != 0) {
    switch (try_resume(connection, hello, *peer, access, packet)) {
      case Resumption::resumed: return;
      case Resumption::later:
        refuse(connection, WARM_E_BUSY, "the session cannot be taken back at this moment; it stays what it is");
        return;
      case Resumption::refused: break;
    }
  }
  if (access == layout::Access::none) {
    refuse(connection, WARM_E_ACCESS,
           "user " + std::to_string(peer->uid) + " has no access to this store ([access] in the configuration)");
    return;
  }
  if (auto s = attach_new(connection, hello, *peer, access); !s) refuse(connection, s.error().code, s.error().text);
}

// Resumed: the connection was merged into the one that has the session. Later: for a want of ours, or because the last attempt is
// still under way; a refusal would cost a living reader its pins. Whoever has no access any more is refused, but what he hands
// back is taken: nobody need wait for his pins, and what he holds is held until his process ends (T5).
Intake::Resumption Intake::try_resume(Connection& connection, const layout::Hello& hello, Peer& peer, layout::Access access,
                                      Packet& packet) {
  Connection* earlier = find_session(hello.resume_session);
  if (earlier == nullptr) return Resumption::refused;
  Room* room = rooms_.of(earlier->session->channel);
  if (room == nullptr) return Resumption::refused;
  // A process that has closed all its descriptors has nothing to hand back: it may have what this daemon has.
  const bool empty_handed = packet.descriptors.empty();
  if (empty_handed && (!earlier->region_known || room->channel->lanes_fd() < 0)) return Resumption::refused;
  const int lanes_memfd = empty_handed ? room->channel->lanes_fd() : packet.descriptors[0].get();
  const int session_memfd = empty_handed ? earlier->session_memfd.get() : packet.descriptors[1].get();
  auto handed = check_resume(hello, peer, *earlier->session, *room, earlier->region_known, lanes_memfd, session_memfd);
  if (!handed) {
    const bool not_its_own = handed.error().code == WARM_E_INVALID || handed.error().code == WARM_E_ACCESS;
    return not_its_own ? Resumption::refused : Resumption::later;
  }
  if (earlier->state == Connection::State::attaching) return Resumption::later;  // an earlier hello of it is being answered
  if (!earlier->pidfd) {  // it could not be seen at the restart
    if (!watch(peer.pidfd.get(), tag_of(earlier->id, kTagPidfd), EPOLLIN)) return Resumption::later;
    earlier->pidfd = std::move(peer.pidfd);
  }
  WARM_FAILPOINT("daemon.handshake.resumed");
  // Of a restart nobody is to pay for.
  Ration* const ration = ration_of(peer.uid);
  if (std::exchange(earlier->awaited, false) && ration != nullptr) ration->greetings.earn(1);
  close_socket(*earlier);
  earlier->state = Connection::State::attaching;
  earlier->protocol_version = connection.protocol_version;
  if (!empty_handed) {
    earlier->lanes_memfd = std::move(packet.descriptors[0]);
    earlier->session_memfd = std::move(packet.descriptors[1]);
  }
  const bool admitted = access != layout::Access::none;
  if (admitted) earlier->socket = std::move(connection.socket);
  mail_.to_store.post(Resume{
      .session = earlier->session, .access = access, .region = std::move(handed->region), .lanes = std::move(handed->lanes)});
  if (!admitted) return Resumption::refused;
  forget(connection);
  return Resumption::resumed;
}

base::Status Intake::attach_new(Connection& connection, const layout::Hello& hello, Peer& peer, layout::Access access) {
  if (auto s = check_limits(peer.uid); !s) return s;
  auto views_max = grant_views(peer.uid);
  if (!views_max) return base::pass(std::move(views_max));
  const ChannelKey key{.uid = peer.uid, .namespace_device = hello.namespace_device, .namespace_inode = hello.namespace_inode};
  // Who cannot say in which PID namespace he is may be in any.
  const bool placed = peer.can_share_channel && hello.namespace_inode != 0;
  auto room = rooms_.room_for(key, placed && !world_.access.private_channel);
  if (!room) return base::pass(std::move(room));
  auto made = make_session(**room, access, peer.process);
  if (!made) {
    // A room that was made for it alone is nobody's.
    if (!(*room)->channel->published() && (*room)->sessions == 0) rooms_.remove((*room)->channel.get());
    return base::pass(std::move(made));
  }
  connection.session = std::move(made->session);
  connection.session->views_max = *views_max;
  connection.session_memfd = std::move(made->memfd);
  connection.region_known = true;
  connection.pidfd = std::move(peer.pidfd);
  if (auto s = watch(connection.pidfd.get(), tag_of(connection.id, kTagPidfd), EPOLLIN); !s) {
    release(*connection.session);
    connection.session.reset();
    return s;
  }
  leave_greeting(connection);
  connection.state = Connection::State::attaching;
  by_session_[connection.session.get()] = connection.id;
  mail_.to_store.post(Attach{.session = connection.session});
  return {};
}

void Intake::release(Session& session) {
  Room* room = rooms_.of(session.channel);
  WARM_ASSERT(room != nullptr);
  rooms_.release_index(*room, session.index);
  if (!rooms_.unused(*room)) return;
  if (!room->channel->published()) {
    rooms_.remove(room->channel.get());
    return;
  }
  room->dropping = true;
  mail_.to_store.post(Drop{.channel = room->channel.get()});
}

void Intake::handle(const Attached& message) {
  Connection* connection = connection_of(*message.session);
  WARM_ASSERT(connection != nullptr);
  if (!message.status && connection->state == Connection::State::ending) return;  // its End is on the way
  if (!message.status) {
    const base::Error error = message.status.error();
    release(*message.session);
    if (connection->socket) {
      refuse(*connection, error.code, error.text);
    } else {
      forget(*connection);
    }
    return;
  }
  Room* room = rooms_.of(message.session->channel);
  WARM_ASSERT(room != nullptr);
  if (connection->lanes_memfd) {
    connection->region_known = true;
    room->has_lanes = true;
    if (room->channel->lanes_fd() < 0) room->channel->keep_lanes_fd(std::move(connection->lanes_memfd));
    connection->lanes_memfd.reset();
  }
  if (connection->state != Connection::State::attaching) return;  // ended meanwhile: its End is on the way
  if (!connection->socket) {
    settle_without_socket(*connection);
    return;
  }
  welcome(*connection, message.socket_done, message.resumed);
}

void Intake::welcome(Connection& connection, uint64_t socket_done, bool resumed) {
  connection.state = Connection::State::open;
  // The store thread hears this socket before the client can ring.
  epoll_event doorbell{};
  doorbell.events = EPOLLIN | EPOLLET;
  epoll_event own{};
  own.events = 0;
  own.data.u64 = tag_of(connection.id, kTagSocket);
  const int fd = connection.socket.get();
  if (::epoll_ctl(doorbell_epoll_, EPOLL_CTL_ADD, fd, &doorbell) != 0 ||
      (resumed && ::epoll_ctl(epoll_.get(), EPOLL_CTL_MOD, fd, &own) != 0)) {
    socket_gone(connection);
    return;
  }
  WARM_FAILPOINT("daemon.handshake.welcome");
  bool sent = false;
  {
    const std::scoped_lock lock(subscribers_mutex_);
    auto packet = compose_welcome(world_, *connection.session, connection.session_memfd.get(), socket_done, resumed,
                                  connection.protocol_version);
    if (packet) {
      sent = send_packet(fd, bytes_of(packet->welcome), packet->descriptors) == Sent::sent;
      subscribers_.push_back(fd);
    } else {
      log_line(Priority::error, "a session cannot be welcomed: %s", packet.error().text.c_str());
    }
  }
  if (!sent) {
    socket_gone(connection);
    return;
  }
  connection.accepted = false;
  ++connection.welcomes;
  if (!connection.put_pending) rearm(connection);  // else the answer does
}

// The client has the session's memory. What it says is over of its process ends first, so that it needs to say so only once.
void Intake::handle_accept(Connection& connection, std::span<const std::byte> message) {
  WARM_FAILPOINT("daemon.handshake.accept");
  layout::Accept accept{};
  std::memcpy(&accept, message.data(), sizeof accept);
  const Session& session = *connection.session;
  for (uint32_t i = 0; i < accept.count; ++i) {
    Connection* forsaken = find_session(accept.sessions[i]);
    if (forsaken == nullptr || forsaken == &connection || forsaken->uid != connection.uid) continue;
    if (same_process(forsaken->session->process, session.process)) end_session(*forsaken);
  }
  connection.accepted = true;
  connection.known = true;
  mail_.to_store.post(Accept{.session = connection.session, .welcome = connection.welcomes});
}

void Intake::handle(const Accepted& message) {
  Connection* connection = connection_of(*message.session);
  if (connection == nullptr || connection->state != Connection::State::open || connection->welcomes != message.welcome) return;
  keep(*connection);
  owe_list(*connection, false);
  if (connection->socket && !connection->put_pending) rearm(*connection);
}

// Before the client may pin anything: from here on the next daemon need not wait for it. A service manager that has no room for
// the message gets it later.
void Intake::keep(Connection& connection) {
  if (world_.keeper == nullptr) return;
  Room& room = *rooms_.of(connection.session->channel);
  if (!room.kept) room.kept = world_.keeper->keep(kept_channel_name(room.channel->number()), room.channel->lanes_fd());
  if (!connection.kept) {
    connection.kept = world_.keeper->keep(kept_session_name(connection.session->number), connection.session_memfd.get());
  }
  if (!room.kept || !connection.kept) all_kept_ = false;
}

void Intake::keep_the_rest() {
  if (std::exchange(all_kept_, true)) return;
  for (const auto& [id, connection] : connections_) {
    const bool settled = connection->state == Connection::State::open || connection->state == Connection::State::silent;
    if (settled && connection->known && connection->session_memfd) keep(*connection);
    if (!all_kept_) return;
  }
}

// Each question gets a list of its own, made after it was asked: whoever asks counts the answers.
void Intake::owe_list(Connection& connection, bool asked) {
  ++connection.lists_owed;
  connection.lists_given += asked ? 0 : 1;
  flush_segments(connection);
}

void Intake::flush_segments(Connection& connection) {
  while (connection.segments || connection.lists_owed > 0) {
    // What was asked for comes when its user has something left; the connection rests before it is heard again.
    const bool given = connection.segments ? connection.list_is_given : connection.lists_given > 0;
    if (!given && !may_speak(connection)) return;
    if (!connection.segments) {
      connection.segments = snapshot_segments(*world_.published);
      connection.list_is_given = given;
      connection.lists_given -= given ? 1 : 0;
      --connection.lists_owed;
    }
    auto packet = compose_segments(*world_.published, *connection.segments);
    if (!packet) {
      log_line(Priority::error, "segments cannot be handed out: %s", packet.error().text.c_str());
      socket_gone(connection);
      return;
    }
    const auto bytes = bytes_of(packet->message).first(packet->bytes);
    switch (send_packet(connection.socket.get(), bytes, packet->descriptors)) {
      case Sent::full: return;  // EPOLLOUT says when to go on
      case Sent::failed: socket_gone(connection); return;
      // What it has sent before it closed is read, up to the end: a bye, perhaps.
      case Sent::unheard:
        connection.segments.reset();
        connection.lists_owed = 0;
        return;
      case Sent::sent: break;
    }
    if (Ration* const ration = ration_of(connection.uid); ration != nullptr && !connection.list_is_given)
      ration->listed.spend(static_cast<int64_t>(packet->descriptors.size()));
    connection.segments->next = packet->next;
    if (packet->message.last != 0) connection.segments.reset();
  }
}

// ---- who holds what ---------------------------------------------------------------------------------------------------------

// A step between two rounds of events, so that a census of many views keeps nobody waiting for long.
void Intake::go_on_with_census() {
  if (census_) {
    const uint64_t begun_ns = base::monotonic_ns();
    const bool done = census_->step(world_.view_bytes);
    census_ns_ += base::monotonic_ns() - begun_ns;
    if (!done) return;
    answer_census();
    census_.reset();
    next_census_ = base::Deadline::after_ns(std::max(kCensusIntervalNs, std::exchange(census_ns_, 0) * kCensusRest));
  }
  if (questions_ > 0 && next_census_.passed()) begin_census();
}

void Intake::begin_census() {
  next_census_ = base::Deadline::after_ns(kCensusIntervalNs);
  std::vector<Census::Subject> subjects;
  for (const auto& [id, connection] : connections_) {
    if (connection->question) connection->counted = std::exchange(connection->question, std::nullopt);
    const bool open = connection->state == Connection::State::open;
    // The others come or go just now; what they are is the store thread's to say.
    if (!open && connection->state != Connection::State::silent) continue;
    subjects.push_back({.session = connection->session,
                        .uid = connection->uid,
                        .presence = !connection->region_known ? layout::SessionPresence::unknown
                                    : open                    ? layout::SessionPresence::attached
                                                              : layout::SessionPresence::silent});
  }
  questions_ = 0;
  census_.emplace(std::move(subjects));
}

void Intake::answer_census() {
  std::vector<uint64_t> answered;
  for (const auto& [id, connection] : connections_) {
    if (connection->counted) answered.push_back(id);
  }
  for (const uint64_t id : answered) {
    Connection& connection = *find(id);
    const bool all = connection.session->access >= layout::Access::admin;
    // One that is still on its way was asked for before this one, and is of no use any more: its end never comes.
    connection.sessions = SessionList{.question = *std::exchange(connection.counted, std::nullopt),
                                      .reports = census_->reports(all, connection.uid)};
    flush_sessions(connection);
    if (connection.sessions && !connection.put_pending) rearm(connection);
  }
}

void Intake::flush_sessions(Connection& connection) {
  while (connection.sessions) {
    SessionList& list = *connection.sessions;
    const size_t count = std::min<size_t>(list.reports.size() - list.next, layout::kSessionsPerMessage);
    layout::SessionsMessage message{};
    message.header = {
        .kind = static_cast<uint32_t>(layout::MessageKind::sessions),
        .bytes = static_cast<uint32_t>(offsetof(layout::SessionsMessage, reports) + count * sizeof message.reports[0])};
    message.question = list.question;
    message.count = static_cast<uint32_t>(count);
    message.last = list.next + count == list.reports.size() ? 1 : 0;
    std::copy_n(list.reports.begin() + static_cast<ptrdiff_t>(list.next), count, message.reports);
    switch (send_packet(connection.socket.get(), bytes_of(message).first(message.header.bytes), {})) {
      case Sent::full: return;  // EPOLLOUT says when to go on
      case Sent::failed: socket_gone(connection); return;
      case Sent::unheard: connection.sessions.reset(); return;
      case Sent::sent: break;
    }
    list.next += count;
    if (message.last != 0) connection.sessions.reset();
  }
}

void Intake::publish_index(int index_fd, uint32_t homes_log2, uint64_t generation) {
  const layout::IndexMessage message{
      .header = {.kind = static_cast<uint32_t>(layout::MessageKind::index), .bytes = sizeof message},
      .generation = generation,
      .homes_log2 = homes_log2,
      .reserved = 0};
  const std::scoped_lock lock(subscribers_mutex_);
  auto own = base::reopen_read_only(index_fd);
  if (!own) log_line(Priority::error, "a larger index cannot be handed out: %s", own.error().text.c_str());
  for (int socket : subscribers_) {
    // One that cannot be told asks again: its socket ends, its session stays.
    if (!own || send_packet(socket, bytes_of(message), std::span(&*own, 1)) != Sent::sent) ::shutdown(socket, SHUT_RDWR);
  }
}

// ---- sessions --------------------------------------------------------------------------------------------------------------

// Another user than the daemon's own may fill a part of it: what waits there for a slot can wait for long.
uint64_t Intake::room_for_large(uid_t uid) const noexcept {
  const uint64_t room = world_.large_bytes_max - large_bytes_;
  if (uid == world_.own_uid) return room;
  const auto own = large_bytes_of_.find(uid);
  const uint64_t share = world_.large_bytes_max / kUidShareDivisor - (own == large_bytes_of_.end() ? 0 : own->second);
  return std::min(room, share);
}

// Of the put that the connection has under way; 0: none any more.
void Intake::count_large(Connection& connection, uint64_t bytes) {
  large_bytes_ += bytes - connection.put_bytes;
  uint64_t& of_user = large_bytes_of_[connection.uid];
  of_user += bytes - connection.put_bytes;
  if (of_user == 0) large_bytes_of_.erase(connection.uid);
  connection.put_bytes = bytes;
}

void Intake::handle_put(Connection& connection, std::span<const std::byte> message, const base::Fd& content) {
  connection.put_pending = true;
  LargePut put = receive_large_put(message, content, connection.session->access, world_.limits, world_.own_segment_above_bytes,
                                   room_for_large(connection.uid), stage_);
  count_large(connection, put.content_bytes_held());
  mail_.to_store.post(Put{.session = connection.session, .put = std::move(put)});
}

void Intake::handle(const PutAnswered& message) {
  Connection* connection = connection_of(*message.session);
  if (connection == nullptr) return;
  connection->put_pending = false;
  count_large(*connection, 0);
  if (connection->state == Connection::State::open) rearm(*connection);
}

void Intake::handle(const Ended& message) {
  Connection* connection = connection_of(*message.session);
  WARM_ASSERT(connection != nullptr && connection->state == Connection::State::ending);
  if (connection->kept) world_.keeper->let_go(kept_session_name(message.session->number));
  release(*message.session);
  forget(*connection);
}

void Intake::handle(const Dropped& message) {
  const Room* room = rooms_.of(message.channel);
  if (room->kept) world_.keeper->let_go(kept_channel_name(message.channel->number()));
  rooms_.remove(message.channel);
}

// One that is attaching looks at its answers afterwards, and a socket that takes nothing more is readable already.
void Intake::handle(const Notify& message) {
  Connection* connection = connection_of(*message.session);
  if (connection == nullptr || connection->state != Connection::State::open || !connection->socket) return;
  (void)::send(connection->socket.get(), &layout::kNotifyByte, 1, MSG_DONTWAIT | MSG_NOSIGNAL);
}

}  // namespace warmtier::daemon::session
