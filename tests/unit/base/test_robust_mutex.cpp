// Children take the mutex and die in it; the parent looks at what they left.
#include "base/robust_mutex.hpp"

#include <criterion/criterion.h>

#include <csignal>

#include "tests/unit/base/children.hpp"

using namespace warmtier;
using namespace warmtier::tests::base;
using Attempt = base::RobustMutex::Attempt;

namespace {

struct Place {
  pthread_mutex_t memory;
  int repairs;
};

struct Fixture {
  Shared<Place> place;
  base::RobustMutex mutex{&place->memory};
  Fixture() {
    if (!base::RobustMutex::initialise(&place->memory)) std::abort();
  }
  Attempt try_lock() {
    return mutex.try_lock([this]() noexcept { ++place->repairs; });
  }
  int child_that_dies_inside(int signal) {
    return status_of_child([&] {
      if (try_lock() == Attempt::busy) return 9;
      if (signal != 0) ::raise(signal);
      return 0;
    });
  }
};

}  // namespace

Test(robust_mutex, one_holds_it_and_the_others_find_it_busy) {
  Fixture f;
  cr_assert(f.try_lock() == Attempt::held);
  cr_assert(exited_with(status_of_child([&] { return f.try_lock() == Attempt::busy ? 0 : 1; }), 0));
  f.mutex.unlock();
  cr_assert(exited_with(status_of_child([&] {
                          if (f.try_lock() != Attempt::held) return 1;
                          f.mutex.unlock();
                          return 0;
                        }),
                        0));
  cr_assert_eq(f.place->repairs, 0);
}

Test(robust_mutex, who_comes_after_a_killed_owner_repairs_once) {
  Fixture f;
  cr_assert(killed_by(f.child_that_dies_inside(SIGKILL), SIGKILL));
  cr_assert(f.try_lock() == Attempt::repaired);
  cr_assert_eq(f.place->repairs, 1);
  f.mutex.unlock();
  cr_assert(f.try_lock() == Attempt::held);
  cr_assert_eq(f.place->repairs, 1);
  f.mutex.unlock();
}

Test(robust_mutex, an_owner_that_exits_without_unlocking_counts_as_dead) {
  Fixture f;
  cr_assert(exited_with(f.child_that_dies_inside(0), 0));
  cr_assert(f.try_lock() == Attempt::repaired);
  f.mutex.unlock();
}

Test(robust_mutex, a_repairer_that_is_killed_leaves_the_repair_to_the_next) {
  Fixture f;
  cr_assert(killed_by(f.child_that_dies_inside(SIGKILL), SIGKILL));
  const int status = status_of_child([&] {
    (void)f.mutex.try_lock([&]() noexcept {
      ++f.place->repairs;
      ::raise(SIGKILL);
    });
    return 0;
  });
  cr_assert(killed_by(status, SIGKILL));
  cr_assert(f.try_lock() == Attempt::repaired);
  cr_assert_eq(f.place->repairs, 2);
  f.mutex.unlock();
}

Test(robust_mutex, the_repair_runs_while_nobody_else_can_have_it) {
  Fixture f;
  cr_assert(killed_by(f.child_that_dies_inside(SIGKILL), SIGKILL));
  bool busy_inside = false;
  const Attempt attempt = f.mutex.try_lock(
      [&]() noexcept { busy_inside = exited_with(status_of_child([&] { return f.try_lock() == Attempt::busy ? 0 : 1; }), 0); });
  cr_assert(attempt == Attempt::repaired && busy_inside);
  f.mutex.unlock();
}

Test(robust_mutex, one_that_nobody_will_ever_release_is_lost_and_not_waited_for) {
  Fixture f;
  cr_assert(killed_by(f.child_that_dies_inside(SIGKILL), SIGKILL));
  // Somebody else's code unlocks it without making it consistent.
  cr_assert(::pthread_mutex_trylock(&f.place->memory) == EOWNERDEAD && ::pthread_mutex_unlock(&f.place->memory) == 0);
  cr_assert(f.try_lock() == Attempt::lost);
  // The C library says so once and busy from then on: whoever finds it busy long enough fences it.
  for (int i = 0; i < 3; ++i) {
    const Attempt attempt = f.try_lock();
    cr_assert(attempt == Attempt::lost || attempt == Attempt::busy);
  }
  cr_assert_eq(f.place->repairs, 0);
}
