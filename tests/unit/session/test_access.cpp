#include <criterion/criterion.h>

#include <array>

#include "daemon/session/access.hpp"

using namespace warmtier::daemon::session;
using warmtier::layout::Access;

Test(access, own_user_administers_and_nobody_else_enters_by_default) {
  const AccessRules rules;
  cr_assert(rules.of(1000, 1000, {}, 1000) == Access::admin);
  cr_assert(rules.of(1001, 1000, {}, 1000) == Access::none);
  cr_assert(rules.of(0, 0, {}, 1000) == Access::none);
  cr_assert(!rules.names_others(1000));
}

Test(access, best_of_a_users_groups_holds) {
  AccessRules rules;
  rules.groups = {{50, Access::read}, {60, Access::write}};
  const std::array<gid_t, 2> more{50, 60};
  cr_assert(rules.of(1001, 1, more, 1000) == Access::write);
  cr_assert(rules.of(1001, 50, {}, 1000) == Access::read);
  cr_assert(rules.of(1001, 1, {}, 1000) == Access::none);
  cr_assert(rules.names_others(1000));
}

Test(access, entry_of_a_user_holds_alone) {
  AccessRules rules;
  rules.others = Access::read;
  rules.groups = {{60, Access::write}};
  rules.users = {{1001, Access::none}, {1000, Access::read}};
  const std::array<gid_t, 1> more{60};
  cr_assert(rules.of(1001, 60, more, 1000) == Access::none);
  cr_assert(rules.of(1000, 60, more, 1000) == Access::read, "an entry can also lessen the daemon's own user");
  cr_assert(rules.of(1002, 1, {}, 1000) == Access::read);
}

Test(access, entries_that_grant_nothing_to_others_keep_the_socket_private) {
  AccessRules rules;
  rules.users = {{1000, Access::write}, {1001, Access::none}};
  cr_assert(!rules.names_others(1000));
  rules.users[1002] = Access::read;
  cr_assert(rules.names_others(1000));
}
