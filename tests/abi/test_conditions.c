/* Conditions of put and remove, and what sequences promise. */
#include <criterion/criterion.h>
#include <string.h>
#include <time.h>

#include "tests/abi/memories.h"

TestSuite(conditions, .timeout = 120);

static support_daemon* daemon_;
static warm_client* client;

static void with_daemon(void) {
  daemon_ = support_daemon_start(TEST_DIMENSIONS, 4096, 0);
  client = support_daemon_open(daemon_);
}
static void without_daemon(void) {
  warm_close(client);
  support_daemon_free(daemon_);
}

static uint64_t sequence_of(const char* id) {
  warm_view view = WARM_VIEW_INIT;
  cr_assert_ok(warm_get(client, id, strlen(id), 0, &view));
  const uint64_t sequence = view.sequence;
  cr_assert_ok(warm_release(client, &view));
  return sequence;
}

Test(conditions, absent_admits_the_first_put_only, .init = with_daemon, .fini = without_daemon) {
  warm_memory first = memory_of_text("once", 1);
  first.condition = WARM_IF_ABSENT;
  uint64_t sequence = 0;
  cr_assert_ok(warm_put(client, &first, &sequence));
  warm_memory second = memory_of_text("once", 2);
  second.condition = WARM_IF_ABSENT;
  uint64_t untouched = 4711;
  cr_assert_code(warm_put(client, &second, &untouched), WARM_E_EXISTS);
  cr_assert_eq(untouched, 4711);
  cr_assert_null(memory_differs(client, &first));
  cr_assert_eq(sequence_of("once"), sequence);
  cr_assert_ok(warm_remove(client, "once", 4, WARM_IF_ANY, 0, 0, NULL));
  cr_assert_ok(warm_put(client, &second, NULL));
  cr_assert_null(memory_differs(client, &second));
}

Test(conditions, a_sequence_admits_its_record_only, .init = with_daemon, .fini = without_daemon) {
  warm_memory memory = memory_of_text("versioned", 1);
  uint64_t first = 0;
  cr_assert_ok(warm_put(client, &memory, &first));
  memory = memory_of_text("versioned", 2);
  memory.condition = WARM_IF_SEQUENCE;
  memory.if_sequence = first;
  uint64_t second = 0;
  cr_assert_ok(warm_put(client, &memory, &second));
  cr_assert_gt(second, first);
  warm_memory late = memory_of_text("versioned", 3);
  late.condition = WARM_IF_SEQUENCE;
  late.if_sequence = first;
  cr_assert_code(warm_put(client, &late, NULL), WARM_E_CHANGED);
  late.if_sequence = second + 1;
  cr_assert_code(warm_put(client, &late, NULL), WARM_E_CHANGED);
  cr_assert_null(memory_differs(client, &memory));
  warm_memory nothing = memory_of_text("not there", 4);
  nothing.condition = WARM_IF_SEQUENCE;
  nothing.if_sequence = first;
  cr_assert_code(warm_put(client, &nothing, NULL), WARM_E_CHANGED);
  cr_assert_code(warm_exists(client, "not there", 9), WARM_E_NOT_FOUND);
}

Test(conditions, remove_obeys_its_condition, .init = with_daemon, .fini = without_daemon) {
  cr_assert_code(warm_remove(client, "gone", 4, WARM_IF_ANY, 0, 0, NULL), WARM_E_NOT_FOUND);
  warm_memory memory = memory_of_text("gone", 1);
  uint64_t put = 0;
  uint64_t removed = 0;
  cr_assert_ok(warm_put(client, &memory, &put));
  cr_assert_code(warm_remove(client, "gone", 4, WARM_IF_SEQUENCE, put + 5, 0, NULL), WARM_E_CHANGED);
  cr_assert_ok(warm_exists(client, "gone", 4));
  cr_assert_ok(warm_remove(client, "gone", 4, WARM_IF_SEQUENCE, put, 0, &removed));
  cr_assert_gt(removed, put);
  cr_assert_code(warm_exists(client, "gone", 4), WARM_E_NOT_FOUND);
}

Test(conditions, sequences_rise_with_every_change_and_across_restarts, .init = with_daemon, .fini = without_daemon) {
  uint64_t last = 0;
  for (uint32_t i = 0; i < 20; ++i) {
    warm_memory memory = memory_of_text(i % 2 != 0 ? "a" : "b", i);
    uint64_t sequence = 0;
    cr_assert_ok(warm_put(client, &memory, &sequence));
    cr_assert_gt(sequence, last);
    cr_assert_eq(sequence_of(i % 2 != 0 ? "a" : "b"), sequence);
    last = sequence;
    if (i == 7) support_daemon_stop_and_start(daemon_);
    if (i == 14) support_daemon_kill_and_start(daemon_);
  }
}

static uint64_t now_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

Test(conditions, times_that_are_not_given_are_set_and_created_is_kept_by_a_replace, .init = with_daemon, .fini = without_daemon) {
  const uint64_t before = now_ns();
  warm_memory memory = memory_of_text("timed", 1);
  memory.given = 0;
  memory.created_ns = memory.last_access_ns = 5;
  cr_assert_ok(warm_put(client, &memory, NULL));
  warm_view first = WARM_VIEW_INIT;
  cr_assert_ok(warm_get(client, "timed", 5, 0, &first));
  cr_assert(first.created_ns >= before && first.created_ns <= now_ns());
  cr_assert(first.last_access_ns >= before && first.last_access_ns <= now_ns());
  cr_assert_ok(warm_put(client, &memory, NULL));
  warm_view second = WARM_VIEW_INIT;
  cr_assert_ok(warm_get(client, "timed", 5, 0, &second));
  cr_assert_eq(second.created_ns, first.created_ns);
  cr_assert_geq(second.last_access_ns, first.last_access_ns);
  memory.given = WARM_GIVEN_CREATED;
  cr_assert_ok(warm_put(client, &memory, NULL));
  warm_view third = WARM_VIEW_INIT;
  cr_assert_ok(warm_get(client, "timed", 5, 0, &third));
  cr_assert_eq(third.created_ns, 5);
  cr_assert_geq(third.last_access_ns, second.last_access_ns);
  cr_assert_ok(warm_release(client, &first));
  cr_assert_ok(warm_release(client, &second));
  cr_assert_ok(warm_release(client, &third));
}
