// Protocol section 5, the daemon's steps 1 to 5, one rule a test.
#include <criterion/criterion.h>
#include <linux/futex.h>
#include <sys/syscall.h>

#include <atomic>
#include <climits>
#include <thread>

#include "tests/support/omit.hpp"
#include "tests/unit/session/fixture.hpp"

using namespace warmtier;
using namespace warmtier::daemon;
using namespace warmtier::daemon::session;
using namespace warmtier::daemon::session::test;

Test(lanes, request_is_answered_in_its_cell_and_counted_done) {
  Workplace s;
  const auto header = LaneWriter::put(s.session(), 3, kFirst, "an id", "some content");
  s.lanes->publish(9, kFirst, header, "an id", "some content");
  cr_assert(s.serve());
  cr_assert_eq(s.executor.executed.size(), 1);
  cr_assert(s.executor.executed[0].id == "an id");
  cr_assert(s.executor.executed[0].content == "some content");
  cr_assert_float_eq(s.executor.executed[0].first_value, 1.5F, 0);
  cr_assert_eq(s.executor.executed[0].origin.lane, 9);
  cr_assert_eq(s.executor.executed[0].origin.number, kFirst);
  cr_assert_eq(s.cell(0, 3).number, kFirst);
  cr_assert_eq(s.cell(0, 3).status, WARM_OK);
  cr_assert_eq(s.cell(0, 3).sequence, 1);
  cr_assert_eq(s.cell(0, 3).slot, 7);
  cr_assert_eq(s.done(9), kFirst);
  cr_assert(!s.serve(), "nothing is left");
}

Test(lanes, numbers_and_tickets_pass_the_wrap_of_their_low_half) {
  Workplace s;
  for (uint64_t i = 0; i < 20; ++i) {
    s.lanes->publish(0, kFirst + i, LaneWriter::put(s.session(), 0, kFirst + i, "x", ""), "x", "");
    cr_assert(s.serve());
    cr_assert_eq(s.cell(0, 0).number, kFirst + i);
  }
  cr_assert_eq(s.executor.executed.size(), 20);
  cr_assert_gt(s.done(0) >> 32, 0);
}

Test(lanes, only_the_next_number_counts) {
  Workplace s;
  for (uint64_t wrong : {kFirst + 1, kFirst - 1, kFirst + layout::kLaneEntries, uint64_t{0}, ~uint64_t{0}}) {
    s.lanes->fill(0, kFirst, LaneWriter::put(s.session(), 0, kFirst, "x", ""), "x", "");
    layout::store_release(s.lanes->commit(0, kFirst), wrong);
    cr_assert(!s.serve());
    cr_assert(!s.channel->anything_published());
  }
  // A run of which the first entry is missing waits for it.
  s.lanes->publish(1, kFirst + 1, LaneWriter::put(s.session(), 1, kFirst, "b", ""), "b", "");
  cr_assert(!s.serve());
  s.lanes->publish(1, kFirst, LaneWriter::put(s.session(), 0, kFirst, "a", ""), "a", "");
  cr_assert(s.serve());
  cr_assert_eq(s.executor.executed.size(), 2);
  cr_assert(s.executor.executed[0].id == "a");
}

Test(lanes, three_requests_behind_the_served_one_are_foreseen_each_a_step_further_with_every_request) {
  Workplace s;
  const std::string ids = "abcdef";
  for (uint32_t i = 0; i < ids.size(); ++i) {
    const std::string id = ids.substr(i, 1);
    s.lanes->publish(0, kFirst + i, LaneWriter::put(s.session(), i, kFirst, id, ""), id, "");
  }
  std::vector<std::string> seen;  // when each is carried out
  s.executor.before = [&] {
    std::string all;
    for (const std::string& id : s.executor.foreseen) all += id;
    all += ':';
    for (const std::string& id : s.executor.foreseen_more) all += id;
    seen.push_back(all);
  };
  while (s.serve());
  const std::vector<std::string> expected = {"bcd:", "bcde:cd", "bcdef:cdde", "bcdef:cddeef", "bcdef:cddeeff", "bcdef:cddeeff"};
  cr_assert(seen == expected);
}

Test(lanes, nothing_is_foreseen_of_a_request_whose_id_would_lie_outside_its_entry) {
  Workplace s;
  auto none = LaneWriter::put(s.session(), 1, kFirst, "x", "");
  none.id_bytes = 0;
  auto long_id = LaneWriter::put(s.session(), 2, kFirst, "x", "");
  long_id.id_bytes = layout::kIdBytesMax + 1;
  auto outside = LaneWriter::put(s.session(), 3, kFirst, "x", "");
  outside.dimensions = layout::kLanePayloadBytes / sizeof(float);
  s.lanes->publish(0, kFirst, LaneWriter::put(s.session(), 0, kFirst, "x", ""), "x", "");
  s.lanes->publish(0, kFirst + 1, none, "x", "");
  s.lanes->publish(0, kFirst + 2, long_id, "x", "");
  s.lanes->publish(0, kFirst + 3, outside, "x", "");
  while (s.serve());
  cr_assert_eq(s.executor.foreseen.size(), 0);
  cr_assert_eq(s.executor.executed.size(), 1);
}

Test(lanes, request_of_no_live_session_is_dropped_without_a_trace) {
  Workplace s;
  auto header = LaneWriter::put(s.session(), 0, kFirst, "x", "");
  header.session += 1;  // the index of a live session, another number
  s.lanes->publish(0, kFirst, header, "x", "");
  auto far = LaneWriter::put(s.session(), 0, kFirst, "x", "");
  far.session_index = 0xFFFF'FFFF;
  s.lanes->publish(1, kFirst, far, "x", "");
  auto cell = LaneWriter::put(s.session(), 0, kFirst, "x", "");
  cell.cell = layout::kCellsPerSession;
  s.lanes->publish(2, kFirst, cell, "x", "");
  cr_assert(s.serve());
  cr_assert(s.executor.executed.empty());
  for (uint32_t lane = 0; lane < 3; ++lane) cr_assert_eq(s.done(lane), kFirst);
  cr_assert_eq(s.cell(0, 0).number, kFirst - 1);
  cr_assert_eq(s.status.bad_requests, 1);
}

Test(lanes, ticket_that_was_answered_is_not_carried_out_again) {
  Workplace s;
  s.lanes->publish(0, kFirst, LaneWriter::put(s.session(), 0, kFirst, "x", ""), "x", "");
  cr_assert(s.serve());
  s.executor.answer_status = WARM_E_EXISTS;
  s.lanes->publish(5, kFirst, LaneWriter::put(s.session(), 0, kFirst, "x", ""), "x", "");
  cr_assert(s.serve());
  cr_assert_eq(s.executor.executed.size(), 1);
  cr_assert_eq(s.done(5), kFirst);
  cr_assert_eq(s.cell(0, 0).status, WARM_OK, "its answer is what it was");
}

Test(lanes, ticket_far_ahead_does_not_use_up_the_cell) {
  Workplace s;
  for (uint64_t ticket : {~uint64_t{0}, kFirst + kTicketStepMax, layout::kRequestNumberMax + 1}) {
    s.lanes->publish(0, s.done(0) + 1, LaneWriter::put(s.session(), 0, ticket, "x", ""), "x", "");
    cr_assert(s.serve());
    cr_assert_eq(s.cell(0, 0).number, kFirst - 1);
  }
  cr_assert(s.executor.executed.empty());
  cr_assert_eq(s.status.bad_requests, 3);
}

Test(lanes, wrong_request_is_refused_with_the_limit_that_it_met) {
  Workplace s;
  struct Case {
    void (*spoil)(layout::RequestHeader&);
    int32_t status;
    uint64_t limit;
  };
  const Case cases[] = {
      {[](layout::RequestHeader& h) { h.id_bytes = 0; }, WARM_E_INVALID, layout::kIdBytesMax},
      {[](layout::RequestHeader& h) { h.id_bytes = layout::kIdBytesMax + 1; }, WARM_E_LIMIT, layout::kIdBytesMax},
      {[](layout::RequestHeader& h) { h.dimensions = kDimensions + 1; }, WARM_E_INVALID, kDimensions},
      {[](layout::RequestHeader& h) { h.content_bytes = kLimits.content_bytes_max + 1; }, WARM_E_LIMIT,
       kLimits.content_bytes_max},
      {[](layout::RequestHeader& h) { h.content_bytes = layout::kLanePayloadBytes; }, WARM_E_LIMIT, layout::kLanePayloadBytes},
      {[](layout::RequestHeader& h) { h.operation = 9; }, WARM_E_UNSUPPORTED, 0},
      {[](layout::RequestHeader& h) { h.condition = 9; }, WARM_E_INVALID, 0},
      {[](layout::RequestHeader& h) { h.given = 0xFF; }, WARM_E_INVALID, 0},
      {[](layout::RequestHeader& h) { h.quad.activation = __builtin_nanf(""); }, WARM_E_INVALID, 0},
  };
  uint64_t ticket = kFirst;
  for (const Case& c : cases) {
    auto header = LaneWriter::put(s.session(), 0, ticket, "x", "y");
    c.spoil(header);
    s.lanes->publish(0, s.done(0) + 1, header, "x", "y");
    cr_assert(s.serve());
    cr_assert_eq(s.cell(0, 0).number, ticket);
    cr_assert_eq(s.cell(0, 0).status, c.status, "case %td: %d", &c - cases, s.cell(0, 0).status);
    cr_assert_eq(s.cell(0, 0).limit, c.limit);
    ++ticket;
  }
  cr_assert(s.executor.executed.empty());
  cr_assert_eq(s.status.bad_requests, std::size(cases));
}

Test(lanes, header_is_copied_once) {
  // The client changes its header while the store works on the request: what was validated is what is answered.
  Workplace s;
  s.executor.before = [&] {
    layout::RequestHeader other{};
    other.session = 999;
    other.cell = 200;
    other.ticket = 1;
    other.id_bytes = 0xFFFF'FFFF;
    std::memcpy(s.lanes->entry(0, kFirst), &other, sizeof other);
  };
  s.lanes->publish(0, kFirst, LaneWriter::put(s.session(), 4, kFirst, "x", ""), "x", "");
  cr_assert(s.serve());
  cr_assert_eq(s.executor.executed.size(), 1);
  cr_assert_eq(s.cell(0, 4).number, kFirst);
}

Test(lanes, session_that_may_only_read_is_refused) {
  Workplace s;
  auto reader = s.add_session(1, layout::Access::read);
  s.lanes->publish(0, kFirst, LaneWriter::put(*reader, 0, kFirst, "x", ""), "x", "");
  cr_assert(s.serve());
  cr_assert(s.executor.executed.empty());
  cr_assert_eq(s.cell(1, 0).status, WARM_E_ACCESS);
}

Test(lanes, request_that_must_wait_keeps_its_place_and_the_others_go_on) {
  Workplace s;
  s.executor.full = true;
  s.lanes->publish(0, kFirst, LaneWriter::put(s.session(), 0, kFirst, "waits", ""), "waits", "");
  s.lanes->publish(0, kFirst + 1, LaneWriter::put(s.session(), 1, kFirst, "behind", ""), "behind", "");
  cr_assert(!s.serve());
  cr_assert(s.channel->any_stalled());
  cr_assert(!s.channel->anything_published(), "it is not a reason to stay awake");
  s.executor.full = false;
  s.lanes->publish(1, kFirst, LaneWriter::put(s.session(), 2, kFirst, "other", ""), "other", "");
  cr_assert(s.serve());
  cr_assert_eq(s.executor.executed.size(), 1);
  cr_assert(s.executor.executed[0].id == "other");
  cr_assert_eq(s.done(0), kFirst - 1);
  s.channel->retry_stalled();
  cr_assert(s.serve());
  cr_assert(s.executor.executed[1].id == "waits");
  cr_assert(s.executor.executed[2].id == "behind");
}

Test(lanes, lane_that_is_full_waits_for_another_after_half_of_it) {
  Workplace s;
  for (uint64_t i = 0; i < layout::kLaneEntries; ++i) {
    s.lanes->publish(0, kFirst + i, LaneWriter::put(s.session(), static_cast<uint32_t>(i), kFirst, "full", ""), "full", "");
  }
  s.lanes->publish(1, kFirst, LaneWriter::put(s.session(), 9, kFirst, "other", ""), "other", "");
  cr_assert(s.serve());
  cr_assert_eq(s.executor.executed.size(), layout::kLaneEntries / 2 + 1);
  cr_assert(s.executor.executed.back().id == "other");
  cr_assert(s.serve());
  cr_assert_eq(s.executor.executed.size(), layout::kLaneEntries + 1);
}

Test(lanes, each_of_those_that_are_answered_in_one_go_is_told) {
  Workplace s;
  const auto other = s.add_session(1);
  layout::store_seq_cst(s.session().shared()->notify, 1);
  layout::store_seq_cst(other->shared()->notify, 1);
  s.lanes->publish(0, kFirst, LaneWriter::put(s.session(), 0, kFirst, "x", ""), "x", "");
  s.lanes->publish(0, kFirst + 1, LaneWriter::put(*other, 0, kFirst, "x", ""), "x", "");
  cr_assert(s.serve());
  const auto told = s.channel->take_to_notify();
  cr_assert(told.size() == 2 && told[0].get() == &s.session() && told[1] == other);
}

Test(lanes, sweep_serves_what_is_published_and_no_more_than_a_lane_holds) {
  Workplace s;
  for (uint64_t i = 0; i < layout::kLaneEntries; ++i) {
    s.lanes->publish(0, kFirst + i, LaneWriter::put(s.session(), static_cast<uint32_t>(i), kFirst, "x", ""), "x", "");
  }
  // A client that goes on publishing while it is swept cannot hold the daemon.
  uint64_t next = kFirst + layout::kLaneEntries;
  s.executor.before = [&] {
    s.lanes->publish(0, next, LaneWriter::put(s.session(), static_cast<uint32_t>(next % 200), kFirst + 100 + next, "x", ""), "x",
                     "");
    ++next;
  };
  cr_assert(s.channel->sweep(s.executor, kLimits, s.status));
  cr_assert_leq(s.executor.executed.size(), layout::kLaneEntries);
}

namespace {

// What stands in its sleep word when a sleeper was woken.
uint32_t word_after_a_wake() {
  Workplace s;
  layout::ResultCell& cell = s.cell(0, 0);
  uint32_t& sleep = s.session().shared()->sleep[0];
  layout::store_seq_cst(sleep, 1);
  std::atomic<bool> awake{false};
  std::thread sleeper([&] {
    // As a client does it; the wait ends by the wake alone.
    while (layout::load_acquire(cell.number) < kFirst) {
      ::syscall(SYS_futex, &cell.number, FUTEX_WAIT, static_cast<uint32_t>(kFirst - 1), nullptr, nullptr, 0);
    }
    awake = true;
  });
  s.lanes->publish(0, kFirst, LaneWriter::put(s.session(), 0, kFirst, "x", ""), "x", "");
  cr_assert(s.serve());
  sleeper.join();
  cr_assert(awake);
  return layout::load_relaxed(sleep);
}

}  // namespace

// By now it may be the next sleeper's.
Test(lanes, sleeper_is_woken_and_its_word_left_alone) { cr_assert_eq(word_after_a_wake(), 1); }
Test(lanes, sleeper_is_woken_and_its_word_left_alone__fails_without_the_rule, .disabled = !tests::support::failpoints_built()) {
  const tests::support::Omit omit("daemon.leaves_the_sleep_word");
  cr_assert_eq(word_after_a_wake(), 0);
}

Test(lanes, session_that_asks_is_told_of_the_next_answer_and_of_no_other) {
  Workplace s;
  const auto other = s.add_session(1);
  for (const uint32_t asked : {1U, 0xFFFF'FFFFU}) {  // hostile: any value but 0 asks
    layout::store_seq_cst(s.session().shared()->notify, asked);
    const uint64_t number = s.done(0) + 1;
    s.lanes->publish(1, number, LaneWriter::put(*other, 0, number, "x", ""), "x", "");
    cr_assert(s.serve());
    cr_assert(!s.channel->any_to_notify(), "it is not about this session");
    for (uint64_t i = 0; i < 2; ++i) {
      s.lanes->publish(0, s.done(0) + 1, LaneWriter::put(s.session(), 0, s.done(0) + 1, "x", ""), "x", "");
      cr_assert(s.serve());
      const auto told = s.channel->take_to_notify();
      cr_assert_eq(told.size(), i == 0 ? 1 : 0);
      if (i == 0) cr_assert_eq(told[0].get(), &s.session());
      cr_assert_eq(s.session().shared()->notify, 0, "cleared before the byte is sent");
    }
    s.lanes->publish(1, s.done(1) + 1, LaneWriter::put(*other, 0, s.done(1) + 1, "x", ""), "x", "");
    cr_assert(s.serve());
  }
}

Test(lanes, large_put_is_carried_out_once) {
  Workplace s;
  const std::string body = "0123456789abcdefxyz";  // embedding, id "xyz"
  auto header = LaneWriter::put(s.session(), 0, kFirst, "xyz", "big");
  const std::string content = "big";
  SocketRequest request{.number = 1, .header = header};
  request.embedding = reinterpret_cast<const std::byte*>(body.data());
  request.id = request.embedding + 16;
  request.content = reinterpret_cast<const std::byte*>(content.data());
  cr_assert(s.channel->serve_socket(s.executor, kLimits, s.status, s.session(), request) == Served::answered);
  cr_assert(s.channel->serve_socket(s.executor, kLimits, s.status, s.session(), request) == Served::answered);
  cr_assert_eq(s.executor.executed.size(), 1);
  cr_assert(s.executor.executed[0].id == "xyz");
  cr_assert_eq(s.executor.executed[0].origin.lane, layout::kIntentLaneSocket);
  cr_assert_eq(s.channel->results().entry(0).socket_done, 1);
  // Another number with the same ticket: answered before, counted, not carried out.
  request.number = 2;
  cr_assert(s.channel->serve_socket(s.executor, kLimits, s.status, s.session(), request) == Served::answered);
  cr_assert_eq(s.executor.executed.size(), 1);
  cr_assert_eq(s.channel->results().entry(0).socket_done, 2);
}

Test(lanes, decided_request_is_answered_only_when_it_is_not_done) {
  Workplace s;
  store::Decided decided;
  decided.origin = {
      .channel = 1, .lane = 3, .number = kFirst, .session_index = 0, .session = s.session().number, .ticket = kFirst, .cell = 5};
  decided.answer = {.status = WARM_OK, .sequence = 42, .slot = 1, .limit = 0};
  decided.carried_out = false;
  s.channel->answer_decided(decided);
  cr_assert_eq(s.done(3), kFirst - 1, "what left no effect is executed as new");
  decided.carried_out = true;
  s.channel->answer_decided(decided);
  cr_assert_eq(s.done(3), kFirst);
  cr_assert_eq(s.cell(0, 5).sequence, 42);
  decided.answer.sequence = 43;
  s.channel->answer_decided(decided);
  cr_assert_eq(s.cell(0, 5).sequence, 42);
  // And the lane goes on behind it.
  s.lanes->publish(3, kFirst, LaneWriter::put(s.session(), 5, kFirst, "x", ""), "x", "");
  cr_assert(!s.serve());
  s.lanes->publish(3, kFirst + 1, LaneWriter::put(s.session(), 6, kFirst, "y", ""), "y", "");
  cr_assert(s.serve());
}

Test(lanes, numbers_end_below_the_last_one) {
  Workplace s;
  s.channel->results().done_line(2).done = layout::kRequestNumberMax - 1;
  // A channel reads the numbers of its file when it is adopted.
  auto channel = Channel::adopt(s.directory.fd(), results_name(1), identity());
  cr_assert(channel.has_value());
  (*channel)->install_lanes(std::move(*(*channel)->check_lanes(s.channel->lanes_fd())));
  (*channel)->restore_session(s.sessions[0]);
  s.lanes->publish(2, layout::kRequestNumberMax, LaneWriter::put(s.session(), 0, kFirst, "last", ""), "last", "");
  cr_assert((*channel)->serve(s.executor, kLimits, s.status));
  s.lanes->publish(2, layout::kRequestNumberMax + 1, LaneWriter::put(s.session(), 0, kFirst + 1, "beyond", ""), "beyond", "");
  cr_assert(!(*channel)->serve(s.executor, kLimits, s.status));
  cr_assert(!(*channel)->anything_published());
  cr_assert_eq(s.executor.executed.size(), 1);
}

// S18: what the store was not asked about. A condition that does not hold is an answer like any other.
Test(lanes, requests_that_are_answered_without_the_store_are_counted_as_bad) {
  Workplace s;
  auto reader = s.add_session(1, layout::Access::read);
  const auto good = LaneWriter::put(s.session(), 0, kFirst, "x", "");
  struct Case {
    const char* name;
    layout::RequestHeader header;
    uint32_t bad;
  };
  auto nobody = good;
  nobody.session += 100;
  auto cell = good;
  cell.cell = layout::kCellsPerSession;
  auto far = good;
  far.ticket = ~uint64_t{0};
  auto invalid = good;
  invalid.operation = 99;
  const auto forbidden = LaneWriter::put(*reader, 0, kFirst, "x", "");
  auto again = good;
  again.ticket = kFirst;
  auto next = good;
  next.ticket = kFirst + 1;
  const Case cases[] = {{"no session", nobody, 1}, {"no cell", cell, 1},          {"far ticket", far, 1}, {"wrong", invalid, 1},
                        {"answered", again, 1},    {"not allowed", forbidden, 1}, {"EXISTS", next, 0}};
  s.executor.answer_status = WARM_E_EXISTS;
  for (const Case& c : cases) {
    s.lanes->publish(0, s.done(0) + 1, c.header, "x", "");
    cr_assert(s.serve());
    cr_assert_eq(s.channel->take_bad(), c.bad, "%s", c.name);
  }
  cr_assert_eq(s.executor.executed.size(), 1);
  cr_assert_eq(s.channel->carried_out(), 1);
}

Test(lanes, channel_that_is_passed_over_is_no_reason_to_stay_awake_and_keeps_what_is_published) {
  Workplace s;
  s.lanes->publish(0, kFirst, LaneWriter::put(s.session(), 0, kFirst, "x", ""), "x", "");
  s.channel->pass_over(true);
  cr_assert(!s.serve());
  cr_assert(!s.channel->anything_published());
  s.channel->pass_over(false);
  cr_assert(s.channel->anything_published());
  cr_assert(s.serve());
  cr_assert_eq(s.executor.executed.size(), 1);
}
