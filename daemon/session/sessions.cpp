#include "daemon/session/sessions.hpp"

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <climits>
#include <string>
#include <utility>

#include "base/assert.hpp"
#include "base/failpoint.hpp"
#include "daemon/session/log.hpp"

namespace warmtier::daemon::session {
namespace {

constexpr uint32_t kSocketPutsPerRound = 4;
constexpr uint32_t kPidsInLog = 16;
constexpr uint32_t kChannelsPerLook = 2;  // of each guest: between two parts of a look others are heard
constexpr uint32_t kCellsASession = 16;  // of a step's: what looking at a session without pins is counted as

// The futex is the low half, in our own page; clients wait on their read-only map of it.
void wake_all(uint64_t& word) noexcept {
  ::syscall(SYS_futex, reinterpret_cast<uint32_t*>(&word), FUTEX_WAKE, INT_MAX, nullptr, nullptr, 0);
}

}  // namespace

Sessions::Sessions(Executor& executor, Numbers& numbers, Mailboxes& mail, layout::StatusPage& status, const RequestLimits& limits,
                   int channels_directory, base::Deadline orphan_grace, Clock clock)
    : executor_(executor),
      numbers_(numbers),
      mail_(mail),
      status_(status),
      limits_(limits),
      channels_directory_(channels_directory),
      clock_(clock),
      own_uid_(::geteuid()),
      orphan_grace_(orphan_grace) {}

void Sessions::adopt(Channel* channel, const std::vector<std::shared_ptr<Session>>& orphans) {
  channels_.push_back(channel);
  make_guest(*channel);
  for (const auto& session : orphans) {
    channel->restore_session(session);
    if (session->region) {
      note_counters(*session);
    } else {
      ++orphans_;
    }
  }
  set_counts();
}

void Sessions::set_counts() {
  uint64_t sessions = 0;
  active_.clear();
  own_.clear();
  present_.clear();
  for (auto& [uid, guest] : guests_) {
    guest.polled.clear();
    guest.warm.clear();
  }
  for (Channel* channel : channels_) {
    sessions += channel->live_sessions().size();
    if (channel->live_sessions().empty() || !channel->has_lanes()) continue;
    active_.push_back(channel);
    Guest* const guest = channel->guest();
    if (guest == nullptr) {
      own_.push_back(channel);
    } else {
      guest->polled.push_back(channel);
      if (guest->polled.size() == 1) present_.push_back(guest);
    }
  }
  layout::store_relaxed(status_.sessions, sessions);
  layout::store_relaxed(status_.channels, channels_.size());
  layout::store_relaxed(status_.orphans, orphans_);
}

bool Sessions::take_mail() {
  for (ToStore& message : mail_.to_store.take()) {
    std::visit([this](auto& one) { handle(std::move(one)); }, message);
  }
  return stop_;
}

base::Status Sessions::attach(const std::shared_ptr<Session>& session) {
  Channel& channel = *session->channel;
  if (!channel.published()) {
    if (auto s = channel.publish(channels_directory_, numbers_.take_channel_number()); !s) return s;
    channels_.push_back(&channel);
    make_guest(channel);
  }
  session->number = numbers_.take_session_number();
  layout::SessionHeader& header = session->shared()->header;
  layout::store_relaxed(header.session, session->number);
  layout::store_release(header.magic, layout::kSessionMagic);
  channel.begin_session(session);
  return {};
}

void Sessions::handle(Attach message) {
  auto status = attach(message.session);
  set_counts();
  refresh_counters();
  mail_.to_intake.post(
      Attached{.session = std::move(message.session), .socket_done = 0, .resumed = false, .status = std::move(status)});
}

// What a process counted before this daemon is no rise of this daemon's sums.
void Sessions::note_counters(Session& session) {
  const layout::SessionCounters& counters = session.shared()->counters;
  session.seen = {.gets = layout::load_relaxed(counters.gets),
                  .misses = layout::load_relaxed(counters.misses),
                  .lane_repairs = layout::load_relaxed(counters.lane_repairs),
                  .lanes_fenced = layout::load_relaxed(counters.lanes_fenced),
                  .touches_dropped = layout::load_relaxed(counters.touches_dropped)};
}

void Sessions::handle(Resume message) {
  Session& session = *message.session;
  Channel& channel = *session.channel;
  session.access = message.access;
  if (message.lanes && !channel.has_lanes()) channel.install_lanes(std::move(message.lanes));
  if (message.region && !session.region) {
    session.region = std::move(message.region);
    note_counters(session);
    if (session.live) --orphans_;
    if (scanning_ && session.live && WARM_RULE("daemon.handed_back_is_scanned")) to_scan_.push_back(&session);
  }
  WARM_FAILPOINT("daemon.attach.resumed");
  set_counts();
  refresh_counters();
  const uint64_t socket_done = layout::load_relaxed(channel.results().entry(session.index).socket_done);
  mail_.to_intake.post(
      Attached{.session = std::move(message.session), .socket_done = socket_done, .resumed = true, .status = {}});
}

void Sessions::handle(Accept message) {
  const bool live_first = WARM_RULE("daemon.live_before_list");
  if (live_first && message.session->live) message.session->channel->accept_session(*message.session);
  mail_.to_intake.post(Accepted{.session = message.session, .welcome = message.welcome});
  if (!live_first && message.session->live) message.session->channel->accept_session(*message.session);
}

void Sessions::handle(End message) {
  if (!try_end(message.session)) ending_.push_back(std::move(message.session));
}

bool Sessions::try_end(const std::shared_ptr<Session>& session) {
  if (session->live) {
    Channel& channel = *session->channel;
    // Large puts of it that wait are requests of it like any other; those behind other sessions' are not overtaken.
    if (std::ranges::any_of(puts_, [&](const Put& put) { return put.session == session; })) return false;
    WARM_FAILPOINT("daemon.sweep.before");
    const bool swept = !WARM_RULE("daemon.sweep_before_dead") || channel.sweep(executor_, limits_, status_);
    notify(channel);
    charge(channel);
    if (!swept) return false;
    WARM_FAILPOINT("daemon.sweep.after");
    channel.take_last_touches(*session, executor_, status_);
    channel.end_session(*session);
    leave_scan(*session);
    if (session->region) {
      add_counters(*session);
      uint64_t voided = 0;
      const layout::SessionRegion& region = *session->shared();
      const uint32_t high = pins_high(*session);
      for (uint32_t cell = 0; cell < high; ++cell) voided += layout::load_acquire(region.pins[cell]) != 0 ? 1 : 0;
      layout::count(status_.pins_voided, voided);
    } else {
      --orphans_;
    }
    layout::count(status_.sessions_ended);
    set_counts();
  }
  mail_.to_intake.post(Ended{.session = session});
  return true;
}

void Sessions::notify(Channel& channel) {
  if (!channel.any_to_notify()) [[likely]]
    return;
  for (auto& session : channel.take_to_notify()) mail_.to_intake.post(Notify{.session = std::move(session)});
}

void Sessions::handle(Put message) { puts_.push_back(std::move(message)); }

// False: it must wait for a slot.
bool Sessions::serve_put(Put& put) {
  if (put.session->live) {
    const Served served = put.session->channel->serve_socket(executor_, limits_, status_, *put.session, put.put.request());
    if (served == Served::stalled) return false;
    notify(*put.session->channel);
    charge(*put.session->channel);
  }
  mail_.to_intake.post(PutAnswered{.session = put.session});
  return true;
}

void Sessions::handle(Drop message) {
  WARM_ASSERT(message.channel->live_sessions().empty());
  std::erase(channels_, message.channel);
  if (message.channel->guest() != nullptr) {
    --message.channel->guest()->channels;
    const uint64_t now_ns = clock_();
    // Who comes back owes what he owed.
    std::erase_if(guests_, [&](auto& one) {
      return one.second.channels == 0 && one.second.bad.whole(now_ns) && one.second.touches.whole(now_ns);
    });
  }
  set_counts();
  mail_.to_intake.post(Dropped{.channel = message.channel});
}

void Sessions::handle(Nudge message) {
  refresh_counters();
  if (message.done) message.done();
}

// N2, N3: what is due is woken before somebody is added, so that who is woken too soon later finds another value than when he
// asked; and who asks too late is woken at once.
void Sessions::Sleepers::add(uint64_t after, uint64_t now, uint64_t& word) noexcept {
  if (WARM_RULE("daemon.due_before_new")) look(now, word);
  if (now > after && WARM_RULE("daemon.watch_looks_back")) {
    wake_all(word);
    return;
  }
  after = std::max(after, now);
  lowest_ = WARM_RULE("daemon.lowest_watch_holds") ? std::min(lowest_, after) : after;
}

void Sessions::Sleepers::look(uint64_t now, uint64_t& word) noexcept {
  if (now <= lowest_) return;
  lowest_ = layout::kWatchNothing;
  wake_all(word);
}

// When durability has stopped nobody waits for it any more.
uint64_t Sessions::durable_or_stopped() const noexcept {
  return layout::load_relaxed(status_.durability_stopped) != 0 ? layout::kWatchNothing - 1
                                                               : layout::load_relaxed(status_.sequence_durable);
}

void Sessions::handle(const Watch& message) {
  if (message.checkpoint) executor_.request_checkpoint();
  for_change_.add(message.sequence_after, layout::load_relaxed(status_.sequence), status_.sequence);
  for_device_.add(message.durable_after, durable_or_stopped(), status_.sequence_durable);
  WARM_STEP("daemon.watch.taken");
}

void Sessions::wake_watchers() noexcept {
  for_change_.look(layout::load_relaxed(status_.sequence), status_.sequence);
  for_device_.look(durable_or_stopped(), status_.sequence_durable);
}
void Sessions::handle(Stop) { stop_ = true; }

// ---- who makes us work for nothing (S18) -------------------------------------------------------------------------------------

void Sessions::make_guest(Channel& channel) {
  const uid_t uid = channel.key().uid;
  if (uid == own_uid_) return;
  Guest& guest = guests_.try_emplace(uid, clock_()).first->second;
  ++guest.channels;
  channel.set_guest(&guest);
}

void Sessions::charge(Channel& channel) {
  const uint32_t bad = channel.take_bad();
  Guest* const guest = channel.guest();
  if (bad == 0 || guest == nullptr || !WARM_RULE("daemon.bad_requests_are_rationed")) [[likely]]
    return;
  guest->bad.spend(bad);
  const uint64_t now_ns = clock_();
  if (guest->bad.any(now_ns)) return;
  for (Channel* one : channels_) {
    if (one->guest() == guest) one->pass_over(true);
  }
  look_again_ns_ = std::min(look_again_ns_, now_ns + kRestNs);
}

void Sessions::look_again() {
  const uint64_t now_ns = clock_();
  if (now_ns < look_again_ns_) return;
  look_again_ns_ = UINT64_MAX;
  for (Channel* channel : channels_) {
    Guest* const guest = channel->guest();
    if (guest == nullptr) continue;
    channel->pass_over(channel->passed_over() && !guest->bad.any(now_ns));
    channel->pass_over_touches(channel->touches_passed_over() && !guest->touches.any(now_ns));
    if (channel->passed_over() || channel->touches_passed_over()) look_again_ns_ = now_ns + kRestNs;
  }
}

bool Sessions::serve(Channel& channel) {
  const bool any = channel.serve(executor_, limits_, status_);
  notify(channel);
  charge(channel);
  return any;
}

bool Sessions::serve(Guest& guest) {
  bool any = false;
  if (!guest.many()) {
    for (Channel* channel : guest.polled) any |= serve(*channel);
    return any;
  }
  const uint64_t now_ns = clock_();
  std::erase_if(guest.warm, [&](const Channel* channel) { return channel->warm_until_ns() <= now_ns; });
  for (Channel* channel : guest.warm) {
    if (!serve(*channel)) continue;
    channel->set_warm_until_ns(now_ns + kWarmNs);
    any = true;
  }
  Channel* const in_turn = guest.polled[guest.next++ % guest.polled.size()];
  if (in_turn->warm_until_ns() > now_ns && std::ranges::find(guest.warm, in_turn) != guest.warm.end()) return any;
  if (!serve(*in_turn)) return any;
  in_turn->set_warm_until_ns(now_ns + kWarmNs);
  guest.warm.push_back(in_turn);
  return true;
}

bool Sessions::serve() {
  bool any = false;
  if (look_again_ns_ != UINT64_MAX) [[unlikely]]
    look_again();
  for (Channel* channel : own_) any |= serve(*channel);
  for (Guest* guest : present_) any |= serve(*guest);
  any |= serve_puts();
  if (any && !ending_.empty()) any |= retry_ends();
  return any;
}

bool Sessions::serve_puts() {
  bool any = false;
  for (uint32_t i = 0; i < kSocketPutsPerRound && !puts_.empty() && !puts_stalled_; ++i) {
    if (!serve_put(puts_.front())) {
      puts_stalled_ = true;
      break;
    }
    puts_.pop_front();
    any = true;
  }
  return any;
}

bool Sessions::take_touches() {
  bool more = false;
  const uint64_t now_ns = clock_();
  const auto take = [&](Channel& channel) {
    more |= channel.take_touches(executor_, status_, now_ns);
    if (channel.touches_passed_over()) look_again_ns_ = std::min(look_again_ns_, now_ns + kRestNs);
  };
  for (Channel* channel : own_) take(*channel);
  for (Guest* guest : present_) {
    if (guest->many()) {
      take(*guest->polled[guest->touches_next++ % guest->polled.size()]);
    } else {
      for (Channel* channel : guest->polled) take(*channel);
    }
  }
  return more;
}

bool Sessions::retry_ends() {
  const size_t before = ending_.size();
  for (auto& session : std::exchange(ending_, {})) {
    if (!try_end(session)) ending_.push_back(std::move(session));
  }
  return ending_.size() != before;
}

bool Sessions::anything_stalled() const noexcept {
  return puts_stalled_ || !ending_.empty() ||
         std::ranges::any_of(active_, [](const Channel* channel) { return channel->any_stalled(); });
}

bool Sessions::retry() {
  if (!anything_stalled()) return false;
  puts_stalled_ = false;
  bool any = false;
  // All of them, and not one of each user's: what is not tried is no reason to stay awake.
  for (Channel* channel : active_) {
    if (!channel->any_stalled()) continue;
    channel->retry_stalled();
    any |= serve(*channel);
  }
  any |= serve_puts();
  if (!ending_.empty()) any |= retry_ends();
  return any;
}

Sessions::Look Sessions::look(uint32_t part) noexcept {
  const auto asks = [](const Channel* channel) { return channel->anything_published() || channel->any_touches(); };
  if (part == 0) return look_at_few(asks);
  bool more = false;
  for (Guest* guest : present_) {
    const size_t end = std::min<size_t>(guest->polled.size(), size_t{part} * kChannelsPerLook);
    for (size_t i = size_t{part - 1} * kChannelsPerLook; i < end; ++i) {
      if (!asks(guest->polled[i])) continue;
      guest->next = guest->touches_next = i;
      return Look::published;
    }
    more |= end < guest->polled.size();
  }
  return more ? Look::more : Look::done;
}

template <typename Asks>
Sessions::Look Sessions::look_at_few(const Asks& asks) const noexcept {
  if ((!puts_.empty() && !puts_stalled_) || std::ranges::any_of(own_, asks)) return Look::published;
  bool more = false;
  for (const Guest* guest : present_) {
    more |= guest->many();
    for (const Channel* channel : guest->many() ? guest->warm : guest->polled) {
      const bool few = channel->live_sessions().size() <= kSessionsAlwaysPolled;
      if (few ? asks(channel) : channel->anything_published()) return Look::published;
      more |= !few;
    }
  }
  return more ? Look::more : Look::done;
}

bool Sessions::anything_published() noexcept {
  for (uint32_t part = 0;; ++part) {
    if (const Look seen = look(part); seen != Look::more) return seen == Look::published;
  }
}

void Sessions::add_counters(Session& session) {
  const layout::SessionCounters& counters = session.shared()->counters;
  const auto add = [](uint64_t& sum, uint64_t& seen, const uint64_t& hostile) {
    const uint64_t now = layout::load_relaxed(hostile);
    if (now > seen) layout::count(sum, now - seen);
    seen = std::max(seen, now);
  };
  add(status_.gets, session.seen.gets, counters.gets);
  add(status_.misses, session.seen.misses, counters.misses);
  add(status_.lane_repairs, session.seen.lane_repairs, counters.lane_repairs);
  add(status_.lanes_fenced, session.seen.lanes_fenced, counters.lanes_fenced);
  add(status_.touches_dropped, session.seen.touches_dropped, counters.touches_dropped);
}

void Sessions::refresh_counters() {
  for (Channel* channel : active_) {
    for (Session* session : channel->live_sessions()) {
      if (session->region) add_counters(*session);
    }
  }
}

bool Sessions::complete() {
  if (orphans_ == 0) return true;
  if (!orphan_grace_.passed()) return false;
  if (!grace_logged_) {
    log_line(Priority::warning,
             "%u sessions of the last daemon did not attach again within orphan_grace: views that they hold can be wrong",
             orphans_);
  }
  grace_logged_ = true;
  return true;
}

store::PinSource::Awaited Sessions::awaited() {
  Awaited awaited;
  std::string pids;
  for (const Channel* channel : channels_) {
    for (const Session* session : channel->live_sessions()) {
      if (session->region) continue;
      if (awaited.pid == 0) awaited.pid = session->process.pid;
      if (++awaited.sessions <= kPidsInLog) pids += (pids.empty() ? "" : ", ") + std::to_string(session->process.pid);
    }
  }
  if (awaited.sessions > 0 && !awaited_logged_) {
    log_line(
        Priority::warning,
        "puts are refused: %u sessions of the last daemon have not come back, and until then no slot that was used before is "
        "used again; their processes live: %s%s",
        awaited.sessions, pids.c_str(), awaited.sessions > kPidsInLog ? ", ..." : "");
    awaited_logged_ = true;
  }
  return awaited;
}

void Sessions::begin_scan() {
  scanning_ = true;
  to_scan_.clear();
  scan_at_ = 0;
  scan_cell_ = 0;
  for (const Channel* channel : channels_) {
    for (const Session* session : channel->live_sessions()) {
      if (session->region) to_scan_.push_back(session);
    }
  }
}

bool Sessions::scan(uint32_t cells, const std::function<void(uint32_t slot)>& visit) {
  while (scan_at_ < to_scan_.size()) {
    if (cells == 0) return false;
    const Session* session = to_scan_[scan_at_];
    const uint32_t high = session == nullptr ? 0 : pins_high(*session);
    const uint32_t begin = scan_cell_;
    const uint32_t end = std::min(high, begin + cells);
    for (; scan_cell_ < end; ++scan_cell_) {
      const uint32_t pin = layout::load_acquire(session->shared()->pins[scan_cell_]);
      if (pin != 0) visit(pin - 1);
    }
    // A session without pins costs something too.
    cells -= std::min(cells, std::max(scan_cell_ - begin, kCellsASession));
    if (scan_cell_ < high) return false;
    ++scan_at_;
    scan_cell_ = 0;
  }
  scanning_ = false;
  return true;
}

void Sessions::leave_scan(const Session& session) {
  const auto place = std::ranges::find(to_scan_, &session);
  if (place == to_scan_.end()) return;
  if (WARM_RULE("daemon.scan_keeps_its_place")) {
    *place = nullptr;
  } else {
    to_scan_.erase(place);
  }
}

}  // namespace warmtier::daemon::session
