// Counting pins in memory that is not ours.
#include <criterion/criterion.h>

#include <algorithm>

#include "daemon/session/census.hpp"
#include "tests/unit/session/fixture.hpp"

using namespace warmtier;
using namespace warmtier::daemon;
using namespace warmtier::daemon::session;
using namespace warmtier::daemon::session::test;
using layout::SessionPresence;

namespace {

std::vector<layout::SessionReport> count_all(Census& census, const Census::ViewBytes& view_bytes) {
  while (!census.step(view_bytes)) {
  }
  return census.reports(true, 0);
}

}  // namespace

Test(census, pins_below_the_high_mark_are_counted_and_a_mark_beyond_the_cells_is_all_of_them) {
  for (const uint32_t mark : {0U, 1U, 10U, layout::kViewsMax, layout::kViewsMax + 1, ~0U}) {
    Workplace place;
    layout::SessionRegion& region = *place.session().shared();
    for (const uint32_t cell : {0U, 9U, 10U, layout::kViewsMax - 1}) region.pins[cell] = cell + 1;
    region.header.pins_high = mark;
    Census census({{.session = place.sessions[0], .uid = 5, .presence = SessionPresence::attached}});
    const auto reports = count_all(census, [](uint32_t slot) { return uint64_t{slot}; });
    const uint64_t expected = mark == 0 ? 0 : mark == 1 ? 1 : mark == 10 ? 2 : 4;
    const uint64_t bytes = mark <= 1 ? 0 : mark == 10 ? 9 : 9 + 10 + layout::kViewsMax - 1;
    cr_assert(reports.size() == 1 && reports[0].views == expected && reports[0].view_bytes == bytes, "mark %u", mark);
  }
}

Test(census, pins_beyond_what_was_granted_are_no_views) {
  Workplace place;
  place.session().views_max = 10;
  layout::SessionRegion& region = *place.session().shared();
  region.header.pins_high = layout::kViewsMax;
  for (const uint32_t cell : {0U, 9U, 10U, layout::kViewsMax - 1}) region.pins[cell] = cell + 1;
  Census census({{.session = place.sessions[0], .uid = 5, .presence = SessionPresence::attached}});
  const auto reports = count_all(census, [](uint32_t) { return uint64_t{1}; });
  cr_assert(reports.size() == 1 && reports[0].views == 2 && reports[0].view_bytes == 2 && reports[0].views_max == 10);
}

Test(census, a_step_looks_at_so_many_cells_and_lines_and_no_more) {
  Workplace place;
  for (uint32_t index = 1; index < 4; ++index) place.add_session(index);
  std::vector<Census::Subject> subjects;
  for (const auto& session : place.sessions) {
    layout::SessionRegion& region = *session->shared();
    region.header.pins_high = layout::kViewsMax;
    for (uint32_t cell = 0; cell < 5000; ++cell) region.pins[cell] = cell + 1;
    subjects.push_back({.session = session, .uid = 0, .presence = SessionPresence::silent});
  }
  Census census(std::move(subjects));
  uint64_t looks = 0;
  uint64_t steps = 0;
  for (bool done = false; !done; ++steps) {
    const uint64_t before = looks;
    done = census.step([&](uint32_t) -> uint64_t {
      ++looks;
      return 1;
    });
    cr_assert_leq(looks - before, kCensusViewsPerStep);
  }
  cr_assert_eq(looks, 4U * 5000U);
  cr_assert_geq(steps, 4U * layout::kViewsMax / kCensusCellsPerStep);
  for (const auto& report : census.reports(true, 0)) cr_assert(report.views == 5000 && report.view_bytes == 5000);
}

Test(census, a_session_that_was_not_handed_back_is_told_without_what_it_holds) {
  Workplace place;
  place.session().region = {};
  Census census({{.session = place.sessions[0], .uid = 0, .presence = SessionPresence::unknown}});
  const auto reports = count_all(census, [](uint32_t) { return uint64_t{1}; });
  cr_assert(reports.size() == 1 && reports[0].presence == 3 && reports[0].views == 0 && reports[0].gets == 0);
}

Test(census, who_may_not_administer_is_told_of_his_own_users_sessions) {
  Workplace place;
  for (uint32_t index = 1; index < 6; ++index) place.add_session(index);
  std::vector<Census::Subject> subjects;
  for (const auto& session : place.sessions) {
    subjects.insert(subjects.begin(), {.session = session, .uid = session->index % 2, .presence = SessionPresence::attached});
  }
  Census census(std::move(subjects));
  cr_assert_eq(count_all(census, [](uint32_t) { return uint64_t{0}; }).size(), 6);
  const auto odd = census.reports(false, 1);
  cr_assert_eq(odd.size(), 3);
  for (const auto& report : odd) cr_assert_eq(report.uid, 1);
  cr_assert(std::ranges::is_sorted(odd, {}, &layout::SessionReport::session));
  cr_assert(census.reports(false, 7).empty());
}

Test(census, nobody_is_counted_at_once) {
  Census census({});
  cr_assert(census.step([](uint32_t) { return uint64_t{0}; }));
  cr_assert(census.reports(true, 0).empty());
}
