// How many views the sessions of other users than the daemon's own are granted: a pure function of what was granted before.
#include <criterion/criterion.h>

#include <algorithm>
#include <vector>

#include "daemon/session/handshake.hpp"
#include "tests/support/omit.hpp"

using namespace warmtier;
using namespace warmtier::daemon::session;
using tests::support::failpoints_built;
using tests::support::Omit;

namespace {

constexpr uint64_t kCapacities[] = {1, 2, 3, 8, 63, 64, 100, 1000, 2048, 4096, 10'000, 65'536, 1 << 24, layout::kCapacityMax};

// Sessions of one user until one is refused, or so many.
std::vector<uint32_t> until_refused(uint64_t capacity, uint64_t to_others = 0, size_t most = 100'000) {
  std::vector<uint32_t> grants;
  ViewsGranted granted{.to_user = 0, .to_others = to_others, .sessions = 0};
  while (grants.size() < most) {
    const uint32_t views = views_of_next_session(capacity, granted);
    if (views == 0) break;
    grants.push_back(views);
    granted.to_user += views;
    ++granted.sessions;
  }
  return grants;
}

uint64_t sum_of(const std::vector<uint32_t>& grants) {
  uint64_t sum = 0;
  for (const uint32_t views : grants) sum += views;
  return sum;
}

}  // namespace

Test(shares, sessions_of_one_user_are_granted_half_of_the_slots_and_no_more) {
  for (const uint64_t capacity : kCapacities) {
    const std::vector<uint32_t> grants = until_refused(capacity);
    const uint64_t sum = sum_of(grants);
    cr_assert_leq(sum, capacity / 2, "capacity %lu", capacity);
    if (grants.size() < 100'000) cr_assert_gt(sum + 64, capacity / 2, "capacity %lu: %lu were granted", capacity, sum);
    cr_assert(std::ranges::all_of(grants, [](uint32_t views) { return views <= layout::kViewsMax; }));
    cr_assert(std::ranges::is_sorted(grants, std::greater<>()), "a later session has more, capacity %lu", capacity);
  }
}
Test(shares, sessions_of_one_user_are_granted_half_of_the_slots_and_no_more__fails_without_the_rule,
     .disabled = !failpoints_built()) {
  const Omit omit("daemon.views_have_shares");
  cr_assert_eq(sum_of(until_refused(4096, 0, 10)), 10 * uint64_t{layout::kViewsMax});
}

Test(shares, each_of_many_sessions_is_granted_what_is_of_use) {
  // The figures of docs/operations.md.
  std::vector<uint32_t> grants = until_refused(1 << 24);
  cr_assert(std::ranges::all_of(grants.begin(), grants.begin() + 64, [](uint32_t views) { return views == layout::kViewsMax; }));
  cr_assert(grants[99] == 27'235 && grants[499] == 1'063 && grants.size() == 4'072, "%u %u %zu", grants[99], grants[499],
            grants.size());
  grants = until_refused(1'000'000);
  cr_assert(grants[0] == 7'812 && grants[63] == 2'897 && grants.size() == 850, "%u %u %zu", grants[0], grants[63], grants.size());
  grants = until_refused(65'536);
  cr_assert(grants[0] == 512 && grants[63] == 190 && grants.size() == 218, "%u %u %zu", grants[0], grants[63], grants.size());
  grants = until_refused(4'096);
  cr_assert(grants.size() == 32 && grants.back() == 64, "%zu", grants.size());
  grants = until_refused(1'000);
  cr_assert(grants.size() == 16 && grants.back() == 31, "%zu", grants.size());
  grants = until_refused(2);
  cr_assert(grants.size() == 1 && grants.back() == 1, "%zu", grants.size());
}

Test(shares, some_slots_are_nobodys_however_many_users_are_granted_all_that_they_may) {
  for (const uint64_t capacity : kCapacities) {
    uint64_t all = 0;
    for (int user = 0; user < 40; ++user) {
      all += sum_of(until_refused(capacity, all, 5'000));
      cr_assert_lt(all, capacity, "user %d of a store of %lu slots", user, capacity);
      if (user == 1) cr_assert_leq(all, capacity - capacity / 4, "capacity %lu", capacity);
    }
  }
  // Numbers that no daemon of this store has granted, of a results file: nothing is left, and nothing is below it.
  cr_assert_eq(views_of_next_session(1000, {.to_user = 0, .to_others = 1'000'000, .sessions = 0}), 0);
  cr_assert_eq(views_of_next_session(1000, {.to_user = 1'000'000, .to_others = 0, .sessions = 16}), 0);
}
