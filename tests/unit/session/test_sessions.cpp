// Sessions begin and end; pins of all of them.
#include <criterion/criterion.h>

#include <algorithm>
#include <optional>

#include "tests/support/omit.hpp"
#include "tests/unit/session/fixture.hpp"

using namespace warmtier;
using namespace warmtier::daemon;
using namespace warmtier::daemon::session;
using namespace warmtier::daemon::session::test;
using tests::support::failpoints_built;
using tests::support::Omit;

namespace {

uint64_t g_now_ns = 1;
uint64_t now() { return g_now_ns; }

const uid_t kAnother = ::geteuid() + 1;

struct House {
  TemporaryDirectory directory;
  NotingExecutor executor;
  layout::StatusPage status{};
  Mailboxes mail;
  std::unique_ptr<Channel> channel;
  std::unique_ptr<Sessions> sessions;
  std::unique_ptr<LaneWriter> lanes;

  explicit House(uid_t uid = ::geteuid()) {
    cr_assert(mail.to_store.open().has_value());
    cr_assert(mail.to_intake.open().has_value());
    channel = make_channel(uid);
    lanes = std::make_unique<LaneWriter>(channel->lanes_fd(), channel->lanes());
    sessions =
        std::make_unique<Sessions>(executor, executor, mail, status, kLimits, directory.fd(), base::Deadline::never(), now);
  }
  [[nodiscard]] std::unique_ptr<Channel> make_channel(uid_t uid) const {
    return std::move(*Channel::create(directory.fd(), identity(), {.uid = uid, .namespace_device = 1, .namespace_inode = 2},
                                      layout::kLanesMin));
  }
  std::shared_ptr<Session> attach(uint32_t index, bool accept = true, uint32_t views_max = layout::kViewsMax) {
    return attach(*channel, index, accept, views_max);
  }
  std::shared_ptr<Session> attach(Channel& to, uint32_t index, bool accept = true, uint32_t views_max = layout::kViewsMax) {
    auto session = std::make_shared<Session>();
    session->channel = &to;
    session->index = index;
    session->access = layout::Access::write;
    session->views_max = views_max;
    session->process = {.pid = 77, .start_time = 5, .pidfs_inode = 6};
    auto memfd = base::make_memfd("test-session", sizeof(layout::SessionRegion));
    session->memfd = *base::inode_of(memfd->get());
    session->region = std::move(*base::WriteMapping::map(memfd->get(), sizeof(layout::SessionRegion)));
    cr_assert(to.prepare_session(index).has_value());
    mail.to_store.post(Attach{.session = session});
    if (accept) mail.to_store.post(Accept{.session = session});
    sessions->take_mail();
    return session;
  }
  size_t replies(size_t which) {
    size_t count = 0;
    for (const ToIntake& message : mail.to_intake.take()) count += message.index() == which ? 1 : 0;
    return count;
  }
};

std::vector<uint32_t> pins_of(Sessions& sessions) {
  std::vector<uint32_t> pins;
  sessions.begin_scan();
  while (!sessions.scan(1, [&](uint32_t slot) { pins.push_back(slot); })) {
  }
  return pins;
}

// How often the pin of the last of three sessions is seen, when the first ends in the middle of a scan.
size_t pin_seen_when_a_session_ends_in_the_middle() {
  House house;
  auto a = house.attach(0);
  auto b = house.attach(1);
  auto c = house.attach(2);
  a->shared()->header.pins_high = 40;
  b->shared()->header.pins_high = 40;
  c->shared()->header.pins_high = 40;
  c->shared()->pins[3] = 8;
  size_t seen = 0;
  const auto visit = [&](uint32_t slot) { seen += slot == 7 ? 1 : 0; };
  house.sessions->begin_scan();
  cr_assert(!house.sessions->scan(60, visit));  // all of the first, half of the second
  house.mail.to_store.post(End{.session = a});
  house.mail.to_store.post(End{.session = b});
  house.sessions->take_mail();
  while (!house.sessions->scan(60, visit)) {
  }
  return seen;
}

// The next daemon of a house: the same files, no memory. The session is an orphan there.
struct NextDaemon {
  NextDaemon(House& house, const Session& session, base::Deadline patience)
      : channel(std::move(*Channel::adopt(house.directory.fd(), results_name(1), identity()))),
        sessions(house.executor, house.executor, house.mail, status, kLimits, house.directory.fd(), patience) {
    orphan->channel = channel.get();
    orphan->number = session.number;
    sessions.adopt(channel.get(), {orphan});
  }
  layout::StatusPage status{};
  std::unique_ptr<Channel> channel;
  std::shared_ptr<Session> orphan = std::make_shared<Session>();
  Sessions sessions;
};

// How often the pin of a session is seen that was handed back in the middle of a scan, for which nobody waited any more.
size_t pin_seen_when_a_session_is_handed_back_in_the_middle() {
  House house;
  auto session = house.attach(0);
  NextDaemon next(house, *session, base::Deadline::after_ns(0));
  session->shared()->header.pins_high = 1;
  session->shared()->pins[0] = 8;
  size_t seen = 0;
  const auto visit = [&](uint32_t slot) { seen += slot == 7 ? 1 : 0; };
  next.sessions.begin_scan();
  house.mail.to_store.post(Resume{.session = next.orphan, .region = std::move(session->region), .lanes = {}});
  next.sessions.take_mail();
  while (!next.sessions.scan(60, visit)) {
  }
  return seen;
}

// The pins that are seen of a session that was granted ten.
std::vector<uint32_t> pins_seen_of_who_fills_every_cell(uint64_t& ret_voided) {
  House house;
  auto session = house.attach(0, true, 10);
  session->shared()->header.pins_high = ~uint32_t{0};
  uint32_t slot = 0;
  for (uint32_t& pin : session->shared()->pins) pin = ++slot;
  std::vector<uint32_t> pins = pins_of(*house.sessions);
  house.mail.to_store.post(End{.session = session});
  house.sessions->take_mail();
  ret_voided = house.status.pins_voided;
  return pins;
}

constexpr size_t kEndedReply = 1;
constexpr size_t kAcceptedReply = 2;

// A client that keeps a request that names no operation in every lane; it counts how many of them were looked at.
class Scribbler {
 public:
  Scribbler(Channel& channel, const Session& session)
      : channel_(channel), session_(session), lanes_(channel.lanes_fd(), channel.lanes()), published_(channel.lanes()) {}
  void fill_all() {
    for (uint32_t lane = 0; lane < channel_.lanes(); ++lane) {
      const uint64_t done = channel_.results().done_line(lane).done;
      if (published_[lane] > done) continue;
      if (published_[lane] != 0) ++looked_at_;
      published_[lane] = done + 1;
      auto header = LaneWriter::put(session_, 0, kFirst, "x", "");
      header.session += 1000;
      lanes_.publish(lane, done + 1, header, "x", "");
    }
  }
  [[nodiscard]] uint64_t looked_at() {
    fill_all();
    return looked_at_;
  }

 private:
  Channel& channel_;
  const Session& session_;
  LaneWriter lanes_;
  std::vector<uint64_t> published_;
  uint64_t looked_at_ = 0;
};

void use_up(House& house, Scribbler& scribbler) {
  do scribbler.fill_all();
  while (house.sessions->serve() || house.sessions->anything_published());
}

// How many bad requests of a user are looked at until nothing is served any more, and then within ten seconds; nullopt: there is
// no end to it.
struct LookedAt {
  uint64_t at_once = 0;
  uint64_t in_ten_seconds = 0;
};
std::optional<LookedAt> bad_requests_looked_at(uid_t uid) {
  House house(uid);
  auto session = house.attach(0);
  Scribbler scribbler(*house.channel, *session);
  const auto serve_until_it_rests = [&] {
    for (int round = 0; round < 1000; ++round) {
      scribbler.fill_all();
      if (!house.sessions->serve()) return true;
    }
    return false;
  };
  if (!serve_until_it_rests()) return std::nullopt;
  LookedAt looked_at{.at_once = scribbler.looked_at()};
  const uint64_t end_ns = g_now_ns + 10 * base::kNsPerSecond;
  while (g_now_ns < end_ns) {
    cr_assert(!house.sessions->anything_published(), "it is a reason to stay awake");
    const uint64_t wake_at_ns = house.sessions->wake_at_ns();
    cr_assert(wake_at_ns > g_now_ns && wake_at_ns <= g_now_ns + kRestNs, "it is never looked at again");
    g_now_ns = wake_at_ns;
    cr_assert(serve_until_it_rests());
  }
  looked_at.in_ten_seconds = scribbler.looked_at() - looked_at.at_once;
  return looked_at;
}

}  // namespace

Test(sessions, attach_offers_and_accept_makes_it_live) {
  House house;
  auto session = house.attach(0, false);
  const layout::SessionEntry& entry = house.channel->results().entry(0);
  cr_assert_eq(entry.number, session->number);
  cr_assert_eq(entry.state, static_cast<uint32_t>(layout::SessionState::offered));
  house.mail.to_store.post(Accept{.session = session, .welcome = 5});
  house.sessions->take_mail();
  cr_assert_eq(entry.state, static_cast<uint32_t>(layout::SessionState::live));
  cr_assert_eq(house.replies(kAcceptedReply), 1);
  // A late one does not bring back what has ended.
  house.mail.to_store.post(End{.session = session});
  house.mail.to_store.post(Accept{.session = session, .welcome = 6});
  house.sessions->take_mail();
  cr_assert_eq(entry.state, static_cast<uint32_t>(layout::SessionState::dead));
}

Test(sessions, attach_publishes_number_then_state_and_the_channels_name) {
  House house;
  auto session = house.attach(0);
  const layout::SessionEntry& entry = house.channel->results().entry(0);
  cr_assert_eq(entry.number, session->number);
  cr_assert_eq(entry.state, static_cast<uint32_t>(layout::SessionState::live));
  cr_assert_eq(entry.pid, 77);
  cr_assert_eq(entry.memfd_inode, session->memfd.inode);
  cr_assert_eq(session->shared()->header.magic, layout::kSessionMagic);
  cr_assert_eq(session->shared()->header.session, session->number);
  cr_assert_eq(house.channel->number(), 1);
  cr_assert_eq(house.status.sessions, 1);
  cr_assert_eq(house.status.channels, 1);
  cr_assert(std::filesystem::exists(house.directory.path() + "/1.state"));
  cr_assert_eq(house.directory.entries(), 1);
}

Test(sessions, end_carries_out_what_was_published_and_voids_the_pins) {
  House house;
  auto session = house.attach(0);
  session->shared()->header.pins_high = 10;
  session->shared()->pins[0] = 5;
  session->shared()->pins[9] = 6;
  session->shared()->pins[10] = 7;  // beyond its own mark: no pin
  session->shared()->counters.gets = 100;
  session->shared()->counters.lane_repairs = 2;
  house.lanes->publish(4, kFirst, LaneWriter::put(*session, 0, kFirst, "x", ""), "x", "");
  house.mail.to_store.post(End{.session = session});
  house.sessions->take_mail();
  cr_assert_eq(house.executor.executed.size(), 1);
  cr_assert_eq(house.channel->results().entry(0).state, static_cast<uint32_t>(layout::SessionState::dead));
  cr_assert_eq(house.status.pins_voided, 2);
  cr_assert_eq(house.status.sessions_ended, 1);
  cr_assert_eq(house.status.sessions, 0);
  cr_assert_eq(house.status.gets, 100);
  cr_assert_eq(house.status.lane_repairs, 2);
  cr_assert_eq(house.replies(kEndedReply), 1);
  // Nothing of it is carried out afterwards, and it pins nothing.
  house.lanes->publish(4, kFirst + 1, LaneWriter::put(*session, 1, kFirst, "late", ""), "late", "");
  house.attach(1);
  cr_assert(house.sessions->serve());
  cr_assert_eq(house.executor.executed.size(), 1);
  cr_assert_eq(pins_of(*house.sessions).size(), 0);
}

Test(sessions, end_waits_for_a_request_that_waits_for_a_slot) {
  House house;
  auto session = house.attach(0);
  house.executor.full = true;
  house.lanes->publish(4, kFirst, LaneWriter::put(*session, 0, kFirst, "x", ""), "x", "");
  house.mail.to_store.post(End{.session = session});
  house.sessions->take_mail();
  cr_assert_eq(house.channel->results().entry(0).state, static_cast<uint32_t>(layout::SessionState::live));
  cr_assert(house.sessions->anything_stalled());
  cr_assert_eq(house.replies(kEndedReply), 0);
  house.executor.full = false;
  cr_assert(house.sessions->retry());
  cr_assert_eq(house.executor.executed.size(), 1);
  cr_assert_eq(house.channel->results().entry(0).state, static_cast<uint32_t>(layout::SessionState::dead));
  cr_assert_eq(house.replies(kEndedReply), 1);
}

Test(sessions, next_tenant_of_an_entry_continues_its_cells) {
  House house;
  auto first = house.attach(0);
  house.lanes->publish(0, kFirst, LaneWriter::put(*first, 0, kFirst, "x", ""), "x", "");
  cr_assert(house.sessions->serve());
  house.mail.to_store.post(End{.session = first});
  house.sessions->take_mail();
  auto second = house.attach(0);
  cr_assert_neq(first->number, second->number);
  cr_assert_eq(house.channel->results().cell(0, 0).number, kFirst, "its first ticket is the next one");
  house.lanes->publish(0, kFirst + 1, LaneWriter::put(*second, 0, kFirst + 1, "y", ""), "y", "");
  // A request of the former tenant, published late.
  house.lanes->publish(1, kFirst, LaneWriter::put(*first, 0, kFirst + 1, "ghost", ""), "ghost", "");
  cr_assert(house.sessions->serve());
  cr_assert_eq(house.executor.executed.size(), 2);
  cr_assert(house.executor.executed[1].id == "y");
}

Test(sessions, pins_of_all_sessions_are_seen_whatever_they_say) {
  House house;
  auto a = house.attach(0);
  auto b = house.attach(1);
  a->shared()->header.pins_high = 0xFFFF'FFFF;  // hostile: all cells are looked at, none beyond
  a->shared()->pins[layout::kViewsMax - 1] = 100;
  b->shared()->header.pins_high = 1;
  b->shared()->pins[0] = 0xFFFF'FFFF;
  std::vector<uint32_t> pins = pins_of(*house.sessions);
  std::ranges::sort(pins);
  cr_assert_eq(pins.size(), 2);
  cr_assert_eq(pins[0], 99);
  cr_assert_eq(pins[1], 0xFFFF'FFFE);
  cr_assert(house.sessions->complete());
}

Test(sessions, pins_beyond_what_was_granted_hold_nothing) {
  uint64_t voided = 0;
  const std::vector<uint32_t> pins = pins_seen_of_who_fills_every_cell(voided);
  cr_assert(pins == std::vector<uint32_t>({0, 1, 2, 3, 4, 5, 6, 7, 8, 9}), "%zu pins were seen", pins.size());
  cr_assert_eq(voided, 10);
}
Test(sessions, pins_beyond_what_was_granted_hold_nothing__fails_without_the_rule, .disabled = !failpoints_built()) {
  const Omit omit("daemon.pins_within_grant");
  uint64_t voided = 0;
  cr_assert_eq(pins_seen_of_who_fills_every_cell(voided).size(), layout::kViewsMax);
}

Test(sessions, scan_goes_on_where_it_was_when_a_session_ends) { cr_assert_eq(pin_seen_when_a_session_ends_in_the_middle(), 1); }
Test(sessions, scan_goes_on_where_it_was_when_a_session_ends__fails_without_the_rule, .disabled = !failpoints_built()) {
  const Omit omit("daemon.scan_keeps_its_place");
  cr_assert_eq(pin_seen_when_a_session_ends_in_the_middle(), 0);
}

Test(sessions, scan_takes_in_what_is_handed_back) { cr_assert_eq(pin_seen_when_a_session_is_handed_back_in_the_middle(), 1); }
Test(sessions, scan_takes_in_what_is_handed_back__fails_without_the_rule, .disabled = !failpoints_built()) {
  const Omit omit("daemon.handed_back_is_scanned");
  cr_assert_eq(pin_seen_when_a_session_is_handed_back_in_the_middle(), 0);
}

Test(sessions, step_of_a_scan_is_bounded) {
  House house;
  auto a = house.attach(0);
  a->shared()->header.pins_high = layout::kViewsMax;
  for (uint32_t& pin : a->shared()->pins) pin = 1;
  house.sessions->begin_scan();
  size_t seen = 0;
  cr_assert(!house.sessions->scan(1'000, [&](uint32_t) { ++seen; }));
  cr_assert_eq(seen, 1'000);
}

Test(sessions, counters_that_fall_count_for_nothing) {
  House house;
  auto session = house.attach(0);
  session->shared()->counters.gets = 50;
  house.sessions->refresh_counters();
  session->shared()->counters.gets = 10;
  house.sessions->refresh_counters();
  cr_assert_eq(house.status.gets, 50);
  session->shared()->counters.gets = 60;
  house.sessions->refresh_counters();
  cr_assert_eq(house.status.gets, 60);
}

Test(sessions, orphan_keeps_pins_incomplete_until_it_is_handed_back) {
  House house;
  auto session = house.attach(0);
  NextDaemon next(house, *session, base::Deadline::never());
  cr_assert(!next.sessions.complete());
  cr_assert_eq(next.status.orphans, 1);
  auto lanes = next.channel->check_lanes(house.channel->lanes_fd());
  cr_assert(lanes.has_value());
  house.lanes->publish(7, kFirst, LaneWriter::put(*session, 0, kFirst, "in flight", ""), "in flight", "");
  house.mail.to_store.post(Resume{
      .session = next.orphan, .access = layout::Access::write, .region = std::move(session->region), .lanes = std::move(*lanes)});
  next.sessions.take_mail();
  cr_assert(next.sessions.complete());
  cr_assert_eq(next.status.orphans, 0);
  cr_assert(next.sessions.serve(), "its request is served from the executed number");
  cr_assert(house.executor.executed.back().id == "in flight");
}

Test(sessions, orphan_that_dies_makes_pins_complete) {
  House house;
  auto session = house.attach(0);
  NextDaemon next(house, *session, base::Deadline::never());
  house.mail.to_store.post(End{.session = next.orphan});
  next.sessions.take_mail();
  cr_assert(next.sessions.complete());
  cr_assert_eq(next.channel->results().entry(0).state, static_cast<uint32_t>(layout::SessionState::dead));
}

Test(sessions, orphan_grace_that_has_passed_gives_the_slots_up) {
  House house;
  auto session = house.attach(0);
  NextDaemon next(house, *session, base::Deadline::after_ns(0));
  cr_assert(next.sessions.complete());
}

// S18. A round more than that: it is counted behind it.
Test(sessions, bad_requests_of_another_user_are_looked_at_so_often) {
  const auto looked_at = bad_requests_looked_at(kAnother);
  cr_assert(looked_at.has_value());
  cr_assert_geq(looked_at->at_once, kBadRequests.at_once);
  cr_assert_lt(looked_at->at_once, kBadRequests.at_once + kRequestsPerRound);
  cr_assert_geq(looked_at->in_ten_seconds, 10 * kBadRequests.a_second - 2 * kRequestsPerRound);
  cr_assert_leq(looked_at->in_ten_seconds, 10 * kBadRequests.a_second + kRequestsPerRound);
}
Test(sessions, bad_requests_of_another_user_are_looked_at_so_often__fails_without_the_rule, .disabled = !failpoints_built()) {
  const Omit omit("daemon.bad_requests_are_rationed");
  cr_assert(!bad_requests_looked_at(kAnother).has_value());
}

Test(sessions, bad_requests_of_our_own_user_are_not_rationed) { cr_assert(!bad_requests_looked_at(::geteuid()).has_value()); }

Test(sessions, who_is_passed_over_takes_nothing_from_others_and_is_served_later) {
  House house(kAnother);
  auto bad = house.attach(0);
  auto other_channel = house.make_channel(kAnother);  // of the same user
  auto third_channel = house.make_channel(kAnother + 1);
  auto same_user = house.attach(*other_channel, 0);
  auto another_user = house.attach(*third_channel, 0);
  Scribbler scribbler(*house.channel, *bad);
  use_up(house, scribbler);
  const LaneWriter of_same(other_channel->lanes_fd(), other_channel->lanes());
  const LaneWriter of_another(third_channel->lanes_fd(), third_channel->lanes());
  of_same.publish(7, kFirst, LaneWriter::put(*same_user, 0, kFirst, "same", ""), "same", "");
  of_another.publish(7, kFirst, LaneWriter::put(*another_user, 0, kFirst, "another", ""), "another", "");
  cr_assert(house.sessions->anything_published());
  cr_assert(house.sessions->serve());
  cr_assert(house.executor.executed.size() == 1 && house.executor.executed[0].id == "another");
  cr_assert(!house.sessions->anything_published());
  // All channels of a user are one.
  while (house.executor.executed.size() == 1) {
    cr_assert(house.sessions->wake_at_ns() != UINT64_MAX || house.sessions->anything_published(), "it is lost");
    if (house.sessions->wake_at_ns() != UINT64_MAX) g_now_ns = house.sessions->wake_at_ns();
    (void)house.sessions->serve();
    cr_assert_lt(g_now_ns, base::kNsPerSecond);
  }
  cr_assert(house.executor.executed[1].id == "same");
}

Test(sessions, what_nobody_does_wrong_any_more_lets_the_store_thread_sleep) {
  House house(kAnother);
  auto session = house.attach(0);
  {
    Scribbler scribbler(*house.channel, *session);
    use_up(house, scribbler);
  }
  while (house.sessions->wake_at_ns() != UINT64_MAX) {
    g_now_ns = house.sessions->wake_at_ns();
    while (house.sessions->serve());
    cr_assert_lt(g_now_ns, 10 * base::kNsPerSecond);
  }
  cr_assert(!house.sessions->anything_published());
}

Test(sessions, session_of_who_is_passed_over_ends_all_the_same) {
  House house(kAnother);
  auto session = house.attach(0);
  Scribbler scribbler(*house.channel, *session);
  use_up(house, scribbler);
  house.lanes->publish(0, house.channel->results().done_line(0).done + 1, LaneWriter::put(*session, 0, kFirst, "last", ""),
                       "last", "");
  house.mail.to_store.post(End{.session = session});
  house.sessions->take_mail();
  cr_assert_eq(house.channel->results().entry(0).state, static_cast<uint32_t>(layout::SessionState::dead));
  cr_assert(house.executor.executed.size() == 1 && house.executor.executed[0].id == "last");
}

Test(sessions, who_gives_his_channel_up_owes_what_he_owed) {
  House house(kAnother);
  auto session = house.attach(0);
  {
    Scribbler scribbler(*house.channel, *session);
    use_up(house, scribbler);
  }
  house.mail.to_store.post(End{.session = session});
  house.mail.to_store.post(Drop{.channel = house.channel.get()});
  house.sessions->take_mail();
  auto next = house.make_channel(kAnother);
  auto comes_back = house.attach(*next, 0);
  Scribbler scribbler(*next, *comes_back);
  use_up(house, scribbler);
  cr_assert_leq(scribbler.looked_at(), kRequestsPerRound);
}

Test(sessions, touches_of_another_user_are_taken_so_fast) {
  House house(kAnother);
  auto session = house.attach(0);
  layout::TouchRing& ring = session->shared()->touches;
  ring.head = ring.asked = kFirst;
  const auto touch_without_end = [&] {
    for (int round = 0; round < 1000; ++round) {
      ring.asked = ring.head += layout::kTouchEntries / 2;  // what was never filled in costs the same
      const uint64_t before = house.status.touches_dropped;
      (void)house.sessions->take_touches();
      if (house.status.touches_dropped == before) return;
    }
    cr_assert_fail("there is no end to it");
  };
  touch_without_end();
  cr_assert(!house.sessions->anything_published(), "it is a reason to stay awake");
  cr_assert_leq(house.sessions->wake_at_ns(), g_now_ns + kRestNs);
  const uint64_t dropped = house.status.touches_dropped;
  g_now_ns = house.sessions->wake_at_ns();
  (void)house.sessions->serve();
  (void)house.sessions->take_touches();
  cr_assert_gt(house.status.touches_dropped, dropped);
}

// One of them in each round, and none of them is forgotten.
Test(sessions, channels_of_another_user_are_served_in_turn) {
  constexpr size_t kChannels = 11;
  House house(kAnother);
  std::vector<std::unique_ptr<Channel>> channels;
  std::vector<std::shared_ptr<Session>> sessions;
  std::vector<std::unique_ptr<LaneWriter>> lanes;
  for (size_t i = 0; i < kChannels; ++i) {
    channels.push_back(house.make_channel(kAnother));
    sessions.push_back(house.attach(*channels[i], 0));
    lanes.push_back(std::make_unique<LaneWriter>(channels[i]->lanes_fd(), channels[i]->lanes()));
    lanes[i]->publish(3, kFirst, LaneWriter::put(*sessions[i], 0, kFirst, "x", ""), "x", "");
  }
  for (size_t i = 1; i <= kChannels; ++i) {
    cr_assert(house.sessions->serve());
    cr_assert_eq(house.executor.executed.size(), i);
  }
  cr_assert(!house.sessions->anything_published());
  // Whatever one is looked for finds comes next.
  for (const size_t i : {7U, 2U, 10U, 0U}) {
    g_now_ns += kWarmNs;
    cr_assert(!house.sessions->serve());
    lanes[i]->publish(3, kFirst + 1, LaneWriter::put(*sessions[i], 0, kFirst + 1, "y", ""), "y", "");
    cr_assert(house.sessions->look(0) == Sessions::Look::more);
    cr_assert(house.sessions->anything_published());
    const size_t before = house.executor.executed.size();
    cr_assert(house.sessions->serve());
    cr_assert_eq(house.executor.executed.size(), before + 1);
    // From then on it is looked at in each round, for a while.
    lanes[i]->publish(4, kFirst, LaneWriter::put(*sessions[i], 1, kFirst, "z", ""), "z", "");
    cr_assert(house.sessions->look(0) == Sessions::Look::published);
    cr_assert(house.sessions->serve());
  }
}

Test(sessions, what_waits_in_several_channels_of_a_user_is_no_reason_to_stay_awake) {
  House house(kAnother);
  auto other_channel = house.make_channel(kAnother);
  auto one = house.attach(0);
  auto other = house.attach(*other_channel, 0);
  const LaneWriter of_other(other_channel->lanes_fd(), other_channel->lanes());
  house.executor.full = true;
  house.lanes->publish(3, kFirst, LaneWriter::put(*one, 0, kFirst, "x", ""), "x", "");
  of_other.publish(3, kFirst, LaneWriter::put(*other, 0, kFirst, "y", ""), "y", "");
  while (house.sessions->anything_published()) (void)house.sessions->serve();
  cr_assert(house.sessions->anything_stalled());
  cr_assert(!house.sessions->retry());
  cr_assert(!house.sessions->anything_published());
  house.executor.full = false;
  cr_assert(house.sessions->retry());
  cr_assert_eq(house.executor.executed.size(), 2);
}
