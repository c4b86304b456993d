/* Scalars in place, touches, and clearing. */
#include <criterion/criterion.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/abi/memories.h"

TestSuite(updates, .timeout = 120);

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

static warm_update update_of(const char* id, uint32_t set) {
  warm_update update = WARM_UPDATE_INIT;
  update.id = id;
  update.id_bytes = strlen(id);
  update.set = set;
  update.confidence = 0.25f;
  update.activation = -3.5f;
  update.decay_rate = 1e30f;
  update.recall_count = 4000000000u;
  update.last_access_ns = 5;
  return update;
}

static warm_view view_of(const char* id) {
  warm_view view = WARM_VIEW_INIT;
  cr_assert_ok(warm_get(client, id, strlen(id), 0, &view));
  cr_assert_ok(warm_release(client, &view));
  return view;
}

Test(updates, what_is_named_is_set_and_nothing_else, .init = with_daemon, .fini = without_daemon) {
  for (uint32_t set = 1; set < 32; ++set) {
    warm_memory memory = memory_of_text("id", set);
    memory_set_content(&memory, "content", 7);
    uint64_t put = 0;
    cr_assert_ok(warm_put(client, &memory, &put));
    warm_view before = WARM_VIEW_INIT;
    cr_assert_ok(warm_get(client, "id", 2, 0, &before));
    const warm_update update = update_of("id", set);
    uint64_t sequence = 0;
    cr_assert_ok(warm_update_scalars(client, &update, &sequence));
    cr_assert_eq(sequence, put + 1);
    if (set & WARM_SET_CONFIDENCE) memory.confidence = update.confidence;
    if (set & WARM_SET_ACTIVATION) memory.activation = update.activation;
    if (set & WARM_SET_DECAY_RATE) memory.decay_rate = update.decay_rate;
    if (set & WARM_SET_RECALL_COUNT) memory.recall_count = update.recall_count;
    if (set & WARM_SET_LAST_ACCESS) memory.last_access_ns = update.last_access_ns;
    const char* differs = memory_differs(client, &memory);
    cr_assert_null(differs, "set %u: %s", set, differs);
    cr_assert_eq(view_of("id").sequence, put, "the record is the same one");
    uint32_t state = 9;
    cr_assert_ok(warm_view_check(client, &before, &state));
    cr_assert_eq(state, WARM_VIEW_CURRENT);
    cr_assert_ok(warm_release(client, &before));
  }
}

Test(updates, they_outlive_a_stop_and_a_kill, .init = with_daemon, .fini = without_daemon) {
  warm_memory memory = memory_of_text("id", 1);
  cr_assert_ok(warm_put(client, &memory, NULL));
  uint64_t last = 0;
  for (uint32_t round = 0; round < 4; ++round) {
    warm_update update = update_of("id", WARM_SET_RECALL_COUNT | WARM_SET_ACTIVATION);
    update.recall_count = memory.recall_count = round;
    update.activation = memory.activation = (float)round;
    uint64_t sequence = 0;
    cr_assert_ok(warm_update_scalars(client, &update, &sequence));
    cr_assert_gt(sequence, last, "a number was given twice");
    last = sequence;
    if (round % 2 == 0) {
      support_daemon_kill_and_start(daemon_);
    } else {
      support_daemon_stop_and_start(daemon_);
    }
    if (round != 1) support_daemon_kill_and_start(daemon_); /* with nothing in between that carries a number */
    cr_assert_null(memory_differs(client, &memory));
  }
}

Test(updates, conditions_and_errors, .init = with_daemon, .fini = without_daemon) {
  const warm_memory memory = memory_of_text("id", 1);
  uint64_t put = 0;
  cr_assert_ok(warm_put(client, &memory, &put));
  warm_update update = update_of("id", WARM_SET_CONFIDENCE);
  uint64_t untouched = 4711;
  update.condition = WARM_IF_SEQUENCE;
  update.if_sequence = put + 1;
  cr_assert_code(warm_update_scalars(client, &update, &untouched), WARM_E_CHANGED);
  update.condition = WARM_IF_ABSENT;
  cr_assert_code(warm_update_scalars(client, &update, &untouched), WARM_E_INVALID);
  update = update_of("nobody", WARM_SET_CONFIDENCE);
  cr_assert_code(warm_update_scalars(client, &update, &untouched), WARM_E_NOT_FOUND);
  update.condition = WARM_IF_SEQUENCE;
  cr_assert_code(warm_update_scalars(client, &update, &untouched), WARM_E_CHANGED);
  update = update_of("id", 0);
  cr_assert_code(warm_update_scalars(client, &update, &untouched), WARM_E_INVALID);
  update.set = 32;
  cr_assert_code(warm_update_scalars(client, &update, &untouched), WARM_E_INVALID);
  update = update_of("id", WARM_SET_DECAY_RATE);
  update.decay_rate = INFINITY;
  cr_assert_code(warm_update_scalars(client, &update, &untouched), WARM_E_INVALID);
  update.set = WARM_SET_CONFIDENCE; /* what is not set is not looked at */
  cr_assert_ok(warm_update_scalars(client, &update, NULL));
  update.confidence = NAN;
  cr_assert_code(warm_update_scalars(client, &update, &untouched), WARM_E_INVALID);
  update = update_of("id", WARM_SET_CONFIDENCE);
  update.flags = WARM_DURABLE;
  cr_assert_code(warm_update_scalars(client, &update, &untouched), WARM_E_UNSUPPORTED);
  update.flags = 0;
  update.reserved[3] = 1;
  cr_assert_code(warm_update_scalars(client, &update, &untouched), WARM_E_INVALID);
  update.reserved[3] = 0;
  update.struct_bytes += 8;
  cr_assert_code(warm_update_scalars(client, &update, &untouched), WARM_E_INVALID);
  update.struct_bytes -= 8;
  update.id_bytes = 0;
  cr_assert_code(warm_update_scalars(client, &update, &untouched), WARM_E_INVALID);
  cr_assert_code(warm_update_scalars(client, NULL, &untouched), WARM_E_INVALID);
  cr_assert_eq(untouched, 4711);
  warm_ticket ticket = 0;
  warm_result result;
  update = update_of("id", WARM_SET_CONFIDENCE);
  update.condition = WARM_IF_SEQUENCE;
  update.if_sequence = put;
  cr_assert_ok(warm_update_submit(client, &update, &ticket));
  cr_assert_ok(warm_ticket_wait(client, ticket, 60000, &result));
  cr_assert_eq(result.code, WARM_OK);
  cr_assert_code(warm_update_submit(client, &update, NULL), WARM_E_INVALID);
}

/* Four scalars that are always equal, and a process that looks. */
Test(updates, nobody_sees_half_of_one, .init = with_daemon, .fini = without_daemon) {
  warm_memory memory = memory_of_text("id", 1);
  memory.confidence = memory.activation = memory.decay_rate = 0;
  memory.recall_count = 0;
  cr_assert_ok(warm_put(client, &memory, NULL));
  enum { kLast = 30000 };
  const pid_t reader = fork();
  if (reader == 0) {
    for (;;) {
      warm_view view = WARM_VIEW_INIT;
      if (warm_get(client, "id", 2, 0, &view) != WARM_OK) _exit(1);
      const float n = (float)view.recall_count;
      if (view.confidence != n || view.activation != n || view.decay_rate != n) _exit(2);
      if (warm_release(client, &view) != WARM_OK) _exit(3);
      if (view.recall_count == kLast) _exit(0);
    }
  }
  warm_update update = update_of("id", WARM_SET_CONFIDENCE | WARM_SET_ACTIVATION | WARM_SET_DECAY_RATE | WARM_SET_RECALL_COUNT);
  for (uint32_t n = 1; n <= kLast; ++n) {
    update.recall_count = n;
    update.confidence = update.activation = update.decay_rate = (float)n;
    cr_assert_ok(warm_update_scalars(client, &update, NULL));
  }
  int status = 0;
  cr_assert_eq(waitpid(reader, &status, 0), reader);
  cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0, "the reader: %d", status);
}

static uint64_t now_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void await_touches(uint64_t expected) {
  warm_stats stats = WARM_STATS_INIT;
  do {
    cr_assert_ok(warm_stats_get(client, &stats));
    cr_assert_leq(stats.touches, expected);
  } while (stats.touches < expected);
}

Test(updates, a_touch_counts_a_recall_and_the_time_of_it, .init = with_daemon, .fini = without_daemon) {
  warm_memory memories[3] = {memory_of_text("a", 1), memory_of_text("b", 2), memory_of_text("full", 3)};
  memories[2].recall_count = UINT32_MAX;
  for (int i = 0; i < 3; ++i) cr_assert_ok(warm_put(client, &memories[i], NULL));
  const uint64_t sequence = view_of("a").sequence;
  const uint64_t before = now_ns();
  const warm_id ids[] = {{"a", 1}, {"nobody", 6}, {"b", 1}, {"a", 1}, {"full", 4}};
  size_t taken = 9;
  cr_assert_ok(warm_touch(client, ids, 5, &taken));
  cr_assert_eq(taken, 4, "nobody is not touched");
  await_touches(4);
  cr_assert_eq(view_of("a").recall_count, memories[0].recall_count + 2);
  cr_assert_eq(view_of("b").recall_count, memories[1].recall_count + 1);
  cr_assert_eq(view_of("full").recall_count, UINT32_MAX, "it stays at its end");
  cr_assert_geq(view_of("a").last_access_ns, before);
  cr_assert_leq(view_of("a").last_access_ns, now_ns());
  cr_assert_eq(view_of("a").sequence, sequence);
  cr_assert_eq(view_of("a").confidence, memories[0].confidence);
  /* A time that lies ahead is not set back. */
  warm_update update = update_of("a", WARM_SET_LAST_ACCESS);
  update.last_access_ns = now_ns() + 3600000000000u;
  cr_assert_ok(warm_update_scalars(client, &update, NULL));
  cr_assert_ok(warm_touch(client, ids, 1, NULL));
  await_touches(5);
  cr_assert_eq(view_of("a").last_access_ns, update.last_access_ns);
  cr_assert_eq(view_of("a").recall_count, memories[0].recall_count + 3);
}

Test(updates, what_the_daemon_does_not_come_to_is_dropped_and_counted, .init = with_daemon, .fini = without_daemon) {
  enum { kMany = 1500 };
  const warm_memory memory = memory_of_text("a", 1);
  cr_assert_ok(warm_put(client, &memory, NULL));
  warm_id* ids = room_of(kMany * sizeof *ids);
  for (int i = 0; i < kMany; ++i) ids[i] = (warm_id){"a", 1};
  kill(support_daemon_pid(daemon_), SIGSTOP);
  size_t taken = 0;
  cr_assert_ok(warm_touch(client, ids, kMany, &taken)); /* and it does not wait */
  cr_assert_eq(taken, 1024, "the ring has so many");
  kill(support_daemon_pid(daemon_), SIGCONT);
  await_touches(taken);
  cr_assert_eq(view_of("a").recall_count, memory.recall_count + taken);
  /* A message makes the daemon sum what its clients count. */
  warm_stats stats = WARM_STATS_INIT;
  do {
    cr_assert_ok(warm_put(client, &memory, NULL));
    cr_assert_ok(warm_stats_get(client, &stats));
  } while (stats.touches_dropped < kMany - taken);
  cr_assert_eq(stats.touches_dropped, kMany - taken);
}

Test(updates, touches_go_on_with_the_next_daemon, .init = with_daemon, .fini = without_daemon) {
  const warm_memory memory = memory_of_text("a", 1);
  cr_assert_ok(warm_put(client, &memory, NULL));
  const warm_id id = {"a", 1};
  kill(support_daemon_pid(daemon_), SIGSTOP);
  for (int i = 0; i < 10; ++i) cr_assert_ok(warm_touch(client, &id, 1, NULL));
  support_daemon_kill_and_start(daemon_);
  cr_assert_ok(warm_touch(client, &id, 1, NULL)); /* it attaches again by that */
  await_touches(11);
  cr_assert_eq(view_of("a").recall_count, memory.recall_count + 11);
}

Test(updates, touch_refuses_what_is_wrong, .init = with_daemon, .fini = without_daemon) {
  const warm_id good = {"a", 1};
  const warm_id wrong[] = {{"a", 1}, {"", 0}};
  const warm_id null[] = {{NULL, 1}};
  size_t untouched = 4711;
  cr_assert_code(warm_touch(NULL, &good, 1, &untouched), WARM_E_INVALID);
  cr_assert_code(warm_touch(client, NULL, 1, &untouched), WARM_E_INVALID);
  cr_assert_code(warm_touch(client, wrong, 2, &untouched), WARM_E_INVALID);
  cr_assert_code(warm_touch(client, null, 1, &untouched), WARM_E_INVALID);
  cr_assert_eq(untouched, 4711);
  cr_assert_ok(warm_touch(client, NULL, 0, &untouched));
  cr_assert_eq(untouched, 0);
}

Test(updates, clear_removes_everything_and_says_how_much, .init = with_daemon, .fini = without_daemon) {
  uint64_t removed = 9;
  cr_assert_ok(warm_clear(client, &removed));
  cr_assert_eq(removed, 0);
  enum { kMany = 3000 };
  for (uint32_t i = 0; i < kMany; ++i) {
    char id[32];
    snprintf(id, sizeof id, "id %u", i);
    const warm_memory memory = memory_of_text(id, i);
    cr_assert_ok(warm_put(client, &memory, NULL));
  }
  warm_view held = WARM_VIEW_INIT;
  cr_assert_ok(warm_get(client, "id 7", 4, 0, &held));
  warm_stats before = WARM_STATS_INIT;
  cr_assert_ok(warm_stats_get(client, &before));
  cr_assert_ok(warm_clear(client, &removed));
  cr_assert_eq(removed, kMany);
  warm_stats stats = WARM_STATS_INIT;
  cr_assert_ok(warm_stats_get(client, &stats));
  cr_assert_eq(stats.records, 0);
  cr_assert_eq(stats.sequence, before.sequence + kMany, "each removal is a change");
  for (uint32_t i = 0; i < kMany; ++i) {
    char id[32];
    snprintf(id, sizeof id, "id %u", i);
    cr_assert_code(warm_exists(client, id, strlen(id)), WARM_E_NOT_FOUND);
  }
  uint32_t state = 9;
  cr_assert_ok(warm_view_check(client, &held, &state));
  cr_assert_eq(state, WARM_VIEW_REMOVED);
  cr_assert_eq(memcmp(held.id, "id 7", 4), 0);
  cr_assert_ok(warm_release(client, &held));
  support_daemon_kill_and_start(daemon_);
  cr_assert_ok(warm_stats_get(client, &stats));
  cr_assert_eq(stats.records, 0);
  const warm_memory memory = memory_of_text("id 7", 1);
  cr_assert_ok(warm_put(client, &memory, NULL));
  cr_assert_null(memory_differs(client, &memory));
  cr_assert_code(warm_clear(NULL, &removed), WARM_E_INVALID);
}
