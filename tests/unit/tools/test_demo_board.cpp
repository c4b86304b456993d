#include "tools/demo_board.hpp"

#include <criterion/criterion.h>

#include <memory>

using warmtier::tools::Histogram;

Test(histogram, a_quantile_is_within_a_sixteenth_above_the_time) {
  for (uint64_t ns = 1; ns < (uint64_t{1} << 38); ns = ns * 5 / 4 + 1) {
    auto histogram = std::make_unique<Histogram>();
    histogram->add(ns);
    const uint64_t shown = histogram->quantile_ns(0.5);
    cr_assert_geq(shown, ns);
    cr_assert_leq(shown, ns + ns / 16 + 1, "%lu shown as %lu", ns, shown);
  }
}

Test(histogram, a_quantile_splits_the_times_at_its_share) {
  auto histogram = std::make_unique<Histogram>();
  for (int i = 0; i < 90; ++i) histogram->add(100);
  for (int i = 0; i < 10; ++i) histogram->add(100'000);
  cr_assert_lt(histogram->quantile_ns(0.89), 110u);
  cr_assert_gt(histogram->quantile_ns(0.91), 90'000u);
}

Test(histogram, times_beyond_its_end_are_counted_in_its_last_step) {
  auto histogram = std::make_unique<Histogram>();
  histogram->add(~uint64_t{0});
  cr_assert_eq(histogram->count(), 1u);
  cr_assert_gt(histogram->quantile_ns(0.5), uint64_t{1} << 39);
}
