// The touch ring: protocol L16, with a client that writes it by hand, also wrongly.
#include <criterion/criterion.h>

#include "layout/words.hpp"
#include "tests/unit/session/fixture.hpp"

using namespace warmtier;
using namespace warmtier::daemon::session;
using namespace warmtier::daemon::session::test;

namespace {

struct Ring {
  explicit Ring(Session& session) : ring(session.shared()->touches) { ring.head = ring.asked = kFirst; }
  void leave(uint32_t slot, uint64_t put, layout::TouchKind kind) {
    layout::store_entry(ring.entries[ring.head % layout::kTouchEntries],
                        {.put = layout::touch_word(put, static_cast<uint16_t>(kind)),
                         .slot = slot,
                         .position = static_cast<uint32_t>(ring.head)});
    ++ring.head;
    if (kind == layout::TouchKind::touch) ring.asked = ring.head;
  }
  layout::TouchRing& ring;
};

bool take(Workplace& s) { return s.channel->take_touches(s.executor, s.status, 0); }

}  // namespace

Test(touches, gets_are_passed_by_and_touches_are_taken_once) {
  Workplace s;
  Ring ring(s.session());
  ring.leave(1, 10, layout::TouchKind::get);
  cr_assert(!s.channel->any_touches(), "a get calls nobody");
  ring.leave(2, 20, layout::TouchKind::touch);
  ring.leave(3, 30, layout::TouchKind::get);
  ring.leave(4, 40, layout::TouchKind::touch);
  cr_assert(s.channel->any_touches());
  cr_assert(!take(s));
  cr_assert_eq(s.executor.touched.size(), 2);
  cr_assert(s.executor.touched[0] == std::pair(2U, uint64_t{20}) && s.executor.touched[1] == std::pair(4U, uint64_t{40}));
  cr_assert(!s.channel->any_touches());
  cr_assert(!take(s));
  cr_assert_eq(s.executor.touched.size(), 2);
  cr_assert_eq(s.channel->results().entry(0).touches_taken, kFirst + 4, "told to the client");
}

Test(touches, a_full_ring_is_taken_in_steps_over_the_wrap_of_its_position) {
  Workplace s;
  Ring ring(s.session());
  for (uint32_t i = 0; i < layout::kTouchEntries; ++i) ring.leave(i, i + 1, layout::TouchKind::touch);
  unsigned steps = 1;
  while (take(s)) ++steps;
  cr_assert_geq(steps, 4, "one step is bounded");
  cr_assert_eq(s.executor.touched.size(), layout::kTouchEntries);
  for (uint32_t i = 0; i < layout::kTouchEntries; ++i) cr_assert_eq(s.executor.touched[i].first, i);
  cr_assert_eq(s.status.touches_dropped, 0);
}

Test(touches, what_was_written_over_is_counted_as_dropped) {
  Workplace s;
  Ring ring(s.session());
  for (uint32_t i = 0; i < layout::kTouchEntries + 100; ++i) ring.leave(i, i + 1, layout::TouchKind::touch);
  while (take(s)) {
  }
  cr_assert_eq(s.executor.touched.size(), layout::kTouchEntries);
  cr_assert_eq(s.executor.touched[0].first, 100);
  cr_assert_eq(s.status.touches_dropped, 100);
}

Test(touches, a_place_that_was_not_filled_is_passed_by_and_counted) {
  Workplace s;
  Ring ring(s.session());
  ring.leave(1, 1, layout::TouchKind::touch);
  ++ring.ring.head;  // taken by a thread that died
  ring.leave(2, 2, layout::TouchKind::touch);
  cr_assert(!take(s));
  cr_assert_eq(s.executor.touched.size(), 2);
  cr_assert_eq(s.status.touches_dropped, 1);
}

// Whatever stands in head and mark: a bounded step, and no daemon that is kept awake by it.
Test(touches, hostile_marks_ask_once) {
  Workplace s;
  Ring ring(s.session());
  for (const uint64_t head : {uint64_t{0}, kFirst, ~uint64_t{0}, kFirst - 1, uint64_t{1} << 63}) {
    for (const uint64_t asked : {uint64_t{0}, kFirst + 5, ~uint64_t{0}, uint64_t{1} << 63}) {
      ring.ring.head = head;
      ring.ring.asked = asked;
      unsigned steps = 0;
      while (take(s)) cr_assert_lt(++steps, 100);
      cr_assert(!s.channel->any_touches(), "head %lx, asked %lx", head, asked);
    }
  }
}

Test(touches, who_may_only_read_touches_nothing) {
  Workplace s;
  const auto reader = s.add_session(1, layout::Access::read);
  Ring ring(*reader);
  ring.leave(1, 1, layout::TouchKind::touch);
  cr_assert(!s.channel->any_touches());
  cr_assert(!take(s));
  cr_assert(s.executor.touched.empty());
}

Test(touches, clear_needs_an_administrator) {
  Workplace s;
  const auto admin = s.add_session(1, layout::Access::admin);
  auto header = LaneWriter::put(s.session(), 0, kFirst, "", "");
  header.operation = static_cast<uint16_t>(layout::Operation::clear);
  header.given = 0;
  header.dimensions = 0;
  s.lanes->publish(0, kFirst, header, "", "");
  cr_assert(s.serve());
  cr_assert_eq(s.cell(0, 0).status, WARM_E_ACCESS);
  cr_assert(s.executor.executed.empty());
  header.session = admin->number;
  header.session_index = 1;
  s.lanes->publish(0, kFirst + 1, header, "", "");
  cr_assert(s.serve());
  cr_assert_eq(s.cell(1, 0).status, WARM_OK);
  cr_assert_eq(s.executor.executed.size(), 1);
}
