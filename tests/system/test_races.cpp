#include <criterion/criterion.h>

#include "tests/system/races.hpp"

using namespace warmtier::tests::system;

Test(races, ten_writers_and_five_readers_never_show_a_mix_or_a_wrong_not_found, .timeout = 300) {
  const RaceCounts counts = run_races({.races = 20'000, .seconds = 120});
  cr_assert(counts.wrong.empty(), "%s", counts.wrong.c_str());
  cr_assert_geq(counts.raced, 20'000, "%llu of %llu reads raced with a change in %.1f s",
                static_cast<unsigned long long>(counts.raced), static_cast<unsigned long long>(counts.gets), counts.seconds);
  cr_assert_gt(counts.not_found, 0);
}
