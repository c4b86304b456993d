/* The order of changes: sequences, waiting for a change, what changed since; and what is on the device. */
#include <criterion/criterion.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "tests/abi/memories.h"

TestSuite(order, .timeout = 240);

#define CAPACITY 100000u

static support_daemon* daemon_;
static warm_client* client;

static void with_daemon(void) {
  daemon_ = support_daemon_start(TEST_DIMENSIONS, CAPACITY, 0);
  client = support_daemon_open(daemon_);
}
static void without_daemon(void) {
  warm_close(client);
  support_daemon_free(daemon_);
}

static uint64_t put_text(const char* id) {
  warm_memory memory = memory_of_text(id, 1);
  uint64_t sequence = 0;
  cr_assert_ok(warm_put(client, &memory, &sequence));
  return sequence;
}
static uint64_t remove_text(const char* id) {
  uint64_t sequence = 0;
  cr_assert_ok(warm_remove(client, id, strlen(id), WARM_IF_ANY, 0, 0, &sequence));
  return sequence;
}
static uint64_t sequence_now(void) {
  uint64_t sequence = 0;
  cr_assert_ok(warm_sequence_get(client, &sequence));
  return sequence;
}

/* ---- The last sequence --------------------------------------------------------------------------------------------------- */

Test(order, the_last_sequence_is_that_of_the_last_change, .init = with_daemon, .fini = without_daemon) {
  const uint64_t first = put_text("a");
  cr_assert_eq(sequence_now(), first);
  cr_assert_eq(put_text("a"), first + 1);
  cr_assert_eq(sequence_now(), first + 1);
  cr_assert_eq(remove_text("a"), first + 2);
  cr_assert_eq(sequence_now(), first + 2);
  cr_assert_code(warm_remove(client, "a", 1, WARM_IF_ANY, 0, 0, NULL), WARM_E_NOT_FOUND);
  cr_assert_eq(sequence_now(), first + 2, "what is refused takes no sequence");
  support_daemon_kill(daemon_);
  cr_assert_eq(sequence_now(), first + 2, "without a daemon the last change stays the last one");
  support_daemon_run(daemon_);
  cr_assert_geq(sequence_now(), first + 2);
  cr_assert_code(warm_sequence_get(client, NULL), WARM_E_INVALID);
  uint64_t sequence = 0;
  cr_assert_code(warm_sequence_get(NULL, &sequence), WARM_E_INVALID);
}

/* ---- Waiting ------------------------------------------------------------------------------------------------------------- */

struct wait_call {
  uint64_t after;
  uint32_t timeout_ms;
  int code;
  uint64_t sequence;
};
static void* wait_in_thread(void* argument) {
  struct wait_call* call = argument;
  call->code = warm_wait(client, call->after, call->timeout_ms, &call->sequence);
  return NULL;
}
static pthread_t begin_wait(struct wait_call* call) {
  pthread_t thread;
  cr_assert_eq(pthread_create(&thread, NULL, wait_in_thread, call), 0);
  return thread;
}

Test(order, a_wait_for_what_is_there_returns_at_once, .init = with_daemon, .fini = without_daemon) {
  const uint64_t first = put_text("a");
  uint64_t sequence = 0;
  cr_assert_ok(warm_wait(client, first - 1, 0, &sequence));
  cr_assert_eq(sequence, first);
  cr_assert_ok(warm_wait(client, 0, UINT32_MAX, NULL));
}

Test(order, a_wait_in_vain_says_busy_at_its_deadline_and_not_before, .init = with_daemon, .fini = without_daemon) {
  const uint64_t last = put_text("a");
  uint64_t untouched = 4711;
  cr_assert_code(warm_wait(client, last, 0, &untouched), WARM_E_BUSY);
  struct timespec begun, ended;
  clock_gettime(CLOCK_MONOTONIC, &begun);
  cr_assert_code(warm_wait(client, last, 30, &untouched), WARM_E_BUSY);
  clock_gettime(CLOCK_MONOTONIC, &ended);
  cr_assert_geq((ended.tv_sec - begun.tv_sec) * 1000000000LL + ended.tv_nsec - begun.tv_nsec, 30000000LL);
  cr_assert_code(warm_wait(client, UINT64_MAX, 1, &untouched), WARM_E_BUSY);
  cr_assert_eq(untouched, 4711);
  cr_assert_not_null(strstr(warm_last_error(), "18446744073709551615"), "it names what was waited for: %s", warm_last_error());
}

Test(order, a_wait_ends_with_the_change_that_is_waited_for, .init = with_daemon, .fini = without_daemon) {
  const uint64_t last = put_text("a");
  struct wait_call next = {.after = last, .timeout_ms = UINT32_MAX};
  struct wait_call ahead = {.after = last + 3, .timeout_ms = UINT32_MAX};
  pthread_t threads[2] = {begin_wait(&next), begin_wait(&ahead)};
  for (int i = 0; i < 4; ++i) put_text("b");
  for (int i = 0; i < 2; ++i) pthread_join(threads[i], NULL);
  cr_assert_eq(next.code, WARM_OK);
  cr_assert_gt(next.sequence, last);
  cr_assert_eq(ahead.code, WARM_OK);
  cr_assert_eq(ahead.sequence, last + 4, "a change that lies ahead is waited for like any other");
}

Test(order, a_wait_goes_on_over_a_restart, .init = with_daemon, .fini = without_daemon) {
  /* The last sequence may rise over a restart, of which a wait may not be afraid: it lies ahead. */
  struct wait_call call = {.after = put_text("a") + 100, .timeout_ms = UINT32_MAX};
  pthread_t thread = begin_wait(&call);
  support_daemon_kill_and_start(daemon_);
  for (int i = 0; i < 50; ++i) put_text("b");
  support_daemon_stop_and_start(daemon_);
  while (put_text("c") <= call.after) {
  }
  pthread_join(thread, NULL);
  cr_assert_eq(call.code, WARM_OK);
  cr_assert_gt(call.sequence, call.after);
}

Test(order, a_wait_without_a_daemon_ends_at_its_deadline, .init = with_daemon, .fini = without_daemon) {
  const uint64_t last = put_text("a");
  support_daemon_kill(daemon_);
  cr_assert_code(warm_wait(client, last, 0, NULL), WARM_E_BUSY);
  cr_assert_code(warm_wait(client, last, 50, NULL), WARM_E_UNAVAILABLE);
  support_daemon_run(daemon_);
  put_text("b");
  cr_assert_ok(warm_wait(client, last, 0, NULL));
}

/* ---- What changed -------------------------------------------------------------------------------------------------------- */

static void expect_change(const warm_change* change, uint64_t sequence, uint32_t kind, const char* id) {
  cr_assert_eq(change->sequence, sequence);
  cr_assert_eq(change->kind, kind);
  cr_assert_eq(change->id_bytes, strlen(id));
  cr_assert_eq(memcmp(change->id, id, strlen(id)), 0);
}

#define changes_since(after, changes, room, ids, ids_bytes, ret_count) \
  warm_changes(client, after, sizeof(warm_change), changes, room, ids, ids_bytes, ret_count)

Test(order, changes_say_kind_and_id_also_of_what_is_gone, .init = with_daemon, .fini = without_daemon) {
  const uint64_t before = sequence_now();
  put_text("a");
  put_text("bb");
  put_text("a");
  remove_text("bb");
  warm_change changes[10];
  static char ids[4096];
  size_t count = 4711;
  cr_assert_ok(changes_since(before, changes, 10, ids, sizeof ids, &count));
  cr_assert_eq(count, 4);
  expect_change(&changes[0], before + 1, WARM_CHANGE_PUT, "a");
  expect_change(&changes[1], before + 2, WARM_CHANGE_PUT, "bb");
  expect_change(&changes[2], before + 3, WARM_CHANGE_REPLACE, "a");
  expect_change(&changes[3], before + 4, WARM_CHANGE_REMOVE, "bb");
  cr_assert_ok(changes_since(before + 2, changes, 1, ids, sizeof ids, &count));
  cr_assert_eq(count, 1);
  expect_change(&changes[0], before + 3, WARM_CHANGE_REPLACE, "a");
  cr_assert_ok(changes_since(before + 4, changes, 10, ids, sizeof ids, &count));
  cr_assert_eq(count, 0);
}

Test(order, a_slot_that_was_used_again_leaves_the_old_ids_in_the_changes, .init = with_daemon, .fini = without_daemon) {
  const uint64_t before = sequence_now();
  enum { kRounds = 2000 };
  char id[32];
  for (int i = 0; i < kRounds; ++i) {
    snprintf(id, sizeof id, "number %d", i);
    put_text(id);
    remove_text(id);
  }
  cr_assert_ok(warm_checkpoint(client, NULL));
  for (int i = 0; i < kRounds; ++i) put_text("another");
  static warm_change changes[3 * kRounds];
  static char ids[3 * kRounds * 16];
  size_t count = 0;
  cr_assert_ok(changes_since(before, changes, 3 * kRounds, ids, sizeof ids, &count));
  cr_assert_eq(count, 3 * kRounds);
  for (int i = 0; i < kRounds; ++i) {
    snprintf(id, sizeof id, "number %d", i);
    expect_change(&changes[2 * i], before + 1 + 2 * (uint64_t)i, WARM_CHANGE_PUT, id);
    expect_change(&changes[2 * i + 1], before + 2 + 2 * (uint64_t)i, WARM_CHANGE_REMOVE, id);
  }
}

Test(order, changes_end_where_the_room_for_ids_does, .init = with_daemon, .fini = without_daemon) {
  const uint64_t before = sequence_now();
  char* long_id = bytes_of(WARM_ID_BYTES_MAX, 7);
  warm_memory memory = memory_of(long_id, WARM_ID_BYTES_MAX, 1);
  cr_assert_ok(warm_put(client, &memory, NULL));
  put_text("a");
  warm_change changes[2];
  char ids[WARM_ID_BYTES_MAX + 1];
  size_t count = 4711;
  cr_assert_code(changes_since(before, changes, 2, ids, WARM_ID_BYTES_MAX - 1, &count), WARM_E_INVALID);
  cr_assert_eq(count, 4711);
  cr_assert_ok(changes_since(before, changes, 2, ids, WARM_ID_BYTES_MAX, &count));
  cr_assert_eq(count, 1);
  cr_assert_eq(changes[0].id_bytes, WARM_ID_BYTES_MAX);
  cr_assert_eq(memcmp(changes[0].id, long_id, WARM_ID_BYTES_MAX), 0);
  cr_assert_ok(changes_since(before, changes, 2, ids, WARM_ID_BYTES_MAX + 1, &count));
  cr_assert_eq(count, 2);
  expect_change(&changes[1], before + 2, WARM_CHANGE_PUT, "a");
}

Test(order, changes_refuse_what_they_cannot_fill, .init = with_daemon, .fini = without_daemon) {
  warm_change changes[1];
  char ids[WARM_ID_BYTES_MAX];
  size_t count = 4711;
  cr_assert_code(warm_changes(client, 0, sizeof(warm_change) - 1, changes, 1, ids, sizeof ids, &count), WARM_E_INVALID);
  cr_assert_code(warm_changes(client, 0, sizeof(warm_change) + 1, changes, 1, ids, sizeof ids, &count), WARM_E_INVALID);
  cr_assert_code(changes_since(0, NULL, 1, ids, sizeof ids, &count), WARM_E_INVALID);
  cr_assert_code(changes_since(0, changes, 0, ids, sizeof ids, &count), WARM_E_INVALID);
  cr_assert_code(changes_since(0, changes, 1, NULL, sizeof ids, &count), WARM_E_INVALID);
  cr_assert_code(changes_since(0, changes, 1, ids, sizeof ids, NULL), WARM_E_INVALID);
  cr_assert_eq(count, 4711);
}

Test(order, changes_after_one_that_was_never_made_are_gone, .init = with_daemon, .fini = without_daemon) {
  const uint64_t last = put_text("a");
  warm_change changes[1];
  char ids[WARM_ID_BYTES_MAX];
  size_t count = 4711;
  cr_assert_ok(changes_since(last, changes, 1, ids, sizeof ids, &count));
  cr_assert_eq(count, 0);
  cr_assert_code(changes_since(last + 1, changes, 1, ids, sizeof ids, &count), WARM_E_GONE);
  cr_assert_code(changes_since(UINT64_MAX, changes, 1, ids, sizeof ids, &count), WARM_E_GONE);
  support_daemon_kill(daemon_);
  cr_assert_ok(changes_since(last, changes, 1, ids, sizeof ids, &count));
  cr_assert_code(changes_since(last + 1, changes, 1, ids, sizeof ids, &count), WARM_E_GONE);
}

Test(order, a_restart_forgets_changes_but_not_that_there_were_none, .init = with_daemon, .fini = without_daemon) {
  put_text("a");
  const uint64_t last = put_text("b");
  support_daemon_stop_and_start(daemon_);
  warm_change changes[2];
  char ids[WARM_ID_BYTES_MAX];
  size_t count = 4711;
  cr_assert_code(changes_since(last - 1, changes, 2, ids, sizeof ids, &count), WARM_E_GONE);
  cr_assert_eq(count, 4711);
  cr_assert_ok(changes_since(last, changes, 2, ids, sizeof ids, &count));
  cr_assert_eq(count, 0);
  cr_assert_eq(put_text("c"), last + 1);
  cr_assert_ok(changes_since(last, changes, 2, ids, sizeof ids, &count));
  cr_assert_eq(count, 1);
  expect_change(&changes[0], last + 1, WARM_CHANGE_PUT, "c");
}

Test(order, the_65535_last_changes_are_remembered, .init = with_daemon, .fini = without_daemon) {
  const uint64_t before = sequence_now();
  warm_memory memory = memory_of_text("a", 1);
  for (uint32_t i = 0; i < 65535; ++i) cr_assert_ok(warm_put(client, &memory, NULL));
  warm_change changes[1];
  char ids[WARM_ID_BYTES_MAX];
  size_t count = 0;
  cr_assert_ok(changes_since(before, changes, 1, ids, sizeof ids, &count));
  expect_change(&changes[0], before + 1, WARM_CHANGE_PUT, "a");
  put_text("b");
  cr_assert_code(changes_since(before, changes, 1, ids, sizeof ids, &count), WARM_E_GONE);
  cr_assert_ok(changes_since(before + 1, changes, 1, ids, sizeof ids, &count));
  expect_change(&changes[0], before + 2, WARM_CHANGE_REPLACE, "a");
}

Test(order, four_mib_of_ids_are_remembered, .init = with_daemon, .fini = without_daemon) {
  const uint64_t before = sequence_now();
  char id[WARM_ID_BYTES_MAX];
  memset(id, 'x', sizeof id);
  warm_memory memory = memory_of(id, sizeof id, 1);
  memory.id = id;
  warm_change changes[1];
  char ids[WARM_ID_BYTES_MAX];
  size_t count = 0;
  for (uint32_t i = 0; i <= 4096; ++i) {
    snprintf(id, sizeof id, "%08u", i);
    cr_assert_ok(warm_put(client, &memory, NULL));
    if (i == 4095) cr_assert_ok(changes_since(before, changes, 1, ids, sizeof ids, &count));
  }
  cr_assert_code(changes_since(before, changes, 1, ids, sizeof ids, &count), WARM_E_GONE);
  cr_assert_ok(changes_since(before + 1, changes, 1, ids, sizeof ids, &count));
  snprintf(id, sizeof id, "%08u", 1u);
  cr_assert_eq(changes[0].id_bytes, sizeof id);
  cr_assert_eq(memcmp(changes[0].id, id, sizeof id), 0);
}

/* A reader that keeps up sees each change of four writers, once, in order. */
static atomic_uint writers_left;
static void* write_many(void* argument) {
  warm_memory memory = *(const warm_memory*)argument;
  char id[32];
  for (unsigned i = 0; i < 5000; ++i) {
    memory.id_bytes = (size_t)snprintf(id, sizeof id, "%c/%u", *(const char*)memory.id, i % 100);
    warm_memory one = memory;
    one.id = id;
    if (i % 3 == 2) {
      (void)warm_remove(client, id, one.id_bytes, WARM_IF_ANY, 0, 0, NULL);
    } else if (warm_put(client, &one, NULL) != WARM_OK) {
      break;
    }
  }
  atomic_fetch_sub(&writers_left, 1);
  return NULL;
}

Test(order, who_waits_and_asks_sees_every_change_once_and_in_order, .init = with_daemon, .fini = without_daemon) {
  uint64_t last = sequence_now();
  uint64_t taken = 0;
  const warm_memory memories[4] = {memory_of_text("n", 1), memory_of_text("e", 2), memory_of_text("s", 3),
                                   memory_of_text("w", 4)};
  pthread_t threads[4];
  const uint64_t before = last;
  atomic_store(&writers_left, 4);
  for (int i = 0; i < 4; ++i) cr_assert_eq(pthread_create(&threads[i], NULL, write_many, (void*)(uintptr_t)&memories[i]), 0);
  for (;;) {
    const bool written = atomic_load(&writers_left) == 0;
    static warm_change changes[512];
    static char ids[512 * 32];
    size_t count = 0;
    cr_assert_ok(changes_since(last, changes, 512, ids, sizeof ids, &count));
    for (size_t i = 0; i < count; ++i) {
      cr_assert_eq(changes[i].sequence, ++last);
      ++taken;
      cr_assert_not_null(memchr("nesw", *(const char*)changes[i].id, 4), "an id of nobody");
      cr_assert_eq(((const char*)changes[i].id)[1], '/');
    }
    if (count == 0 && written) break;
    if (count == 0) (void)warm_wait(client, last, 20, NULL);
  }
  for (int i = 0; i < 4; ++i) pthread_join(threads[i], NULL);
  cr_assert_eq(last, sequence_now());
  cr_assert_eq(taken, last - before);
  cr_assert_gt(taken, 10000);
}

/* ---- The device ---------------------------------------------------------------------------------------------------------- */

Test(order, a_checkpoint_has_everything_that_was_visible, .init = with_daemon, .fini = without_daemon) {
  uint64_t durable = 4711;
  for (int i = 0; i < 20; ++i) {
    const uint64_t last = put_text("a");
    cr_assert_ok(warm_checkpoint(client, &durable));
    cr_assert_geq(durable, last);
    warm_stats stats = WARM_STATS_INIT;
    cr_assert_ok(warm_stats_get(client, &stats));
    cr_assert_geq(stats.sequence_durable, last);
  }
  cr_assert_ok(warm_checkpoint(client, NULL));
  cr_assert_code(warm_checkpoint(NULL, NULL), WARM_E_INVALID);
  support_daemon_kill_and_start(daemon_);
  const uint64_t last = put_text("b");
  cr_assert_ok(warm_checkpoint(client, &durable));
  cr_assert_geq(durable, last);
}

/* ---- Who holds what ------------------------------------------------------------------------------------------------------ */

static warm_session session_of(warm_client* asked, warm_client* wanted) {
  warm_info info = WARM_INFO_INIT;
  cr_assert_ok(warm_info_get(wanted, &info));
  static warm_session all[64];
  size_t count = 0;
  cr_assert_ok(warm_sessions(asked, sizeof(warm_session), all, 64, &count));
  for (size_t i = 0; i < count; ++i) {
    if (all[i].session == info.session) return all[i];
  }
  cr_assert_fail("session %lu is not among %zu", info.session, count);
  return all[0];
}

Test(order, sessions_say_who_holds_how_much_since_when, .init = with_daemon, .fini = without_daemon) {
  warm_client* holder = support_daemon_open(daemon_);
  warm_memory memory = memory_of_text("a", 1);
  memory_set_content(&memory, bytes_of(1000, 3), 1000);
  cr_assert_ok(warm_put(client, &memory, NULL));
  put_text("b");
  warm_view views[3] = {WARM_VIEW_INIT, WARM_VIEW_INIT, WARM_VIEW_INIT};
  cr_assert_ok(warm_get(holder, "a", 1, 0, &views[0]));
  cr_assert_ok(warm_get(holder, "a", 1, 0, &views[1]));
  cr_assert_ok(warm_get(holder, "b", 1, 0, &views[2]));
  const uint64_t row_bytes = (TEST_DIMENSIONS * 4 + 63) / 64 * 64;
  warm_session session = session_of(client, holder);
  cr_assert_eq(session.views, 3);
  cr_assert_eq(session.view_bytes, 3 * row_bytes + 2 * 1000);
  cr_assert_eq(session.state, WARM_SESSION_ATTACHED);
  cr_assert_eq(session.pid, (uint32_t)getpid());
  cr_assert_eq(session.uid, (uint32_t)getuid());
  const uint64_t since_ns = session.since_ns;
  cr_assert_eq(session_of(client, client).views, 0);
  cr_assert_ok(warm_release(holder, &views[0]));
  cr_assert_eq(session_of(client, holder).views, 2, "an answer is of after the question");
  cr_assert_code(warm_get(holder, "none", 4, 0, &views[0]), WARM_E_NOT_FOUND);
  session = session_of(holder, holder);
  cr_assert_eq(session.gets, 4);
  cr_assert_eq(session.misses, 1);
  support_daemon_kill_and_start(daemon_);
  session = session_of(client, holder);
  cr_assert_eq(session.state, WARM_SESSION_UNKNOWN, "it noticed nothing yet");
  cr_assert_eq(session.views, 0);
  cr_assert_eq(session.since_ns, since_ns);
  cr_assert_ok(warm_exists(holder, "a", 1));
  session = session_of(client, holder);
  cr_assert_eq(session.state, WARM_SESSION_ATTACHED);
  cr_assert_eq(session.views, 2);
  cr_assert_eq(session.since_ns, since_ns);
  for (int i = 1; i < 3; ++i) cr_assert_ok(warm_release(holder, &views[i]));
  cr_assert_ok(warm_close(holder));
  size_t count = 0;
  do {
    cr_assert_ok(warm_sessions(client, sizeof(warm_session), NULL, 0, &count));
  } while (count != 1);
}

Test(order, sessions_are_counted_also_where_there_is_no_room_for_them, .init = with_daemon, .fini = without_daemon) {
  warm_client* other = support_daemon_open(daemon_);
  warm_session session = {.session = 4711};
  size_t count = 0;
  cr_assert_ok(warm_sessions(client, sizeof session, &session, 0, &count));
  cr_assert_eq(count, 2);
  cr_assert_eq(session.session, 4711);
  cr_assert_ok(warm_sessions(client, sizeof session, &session, 1, &count));
  cr_assert_eq(count, 2);
  cr_assert_neq(session.session, 4711);
  cr_assert_code(warm_sessions(client, sizeof session - 1, &session, 1, &count), WARM_E_INVALID);
  cr_assert_code(warm_sessions(client, sizeof session + 1, &session, 1, &count), WARM_E_INVALID);
  cr_assert_code(warm_sessions(client, sizeof session, NULL, 1, &count), WARM_E_INVALID);
  cr_assert_code(warm_sessions(client, sizeof session, &session, 1, NULL), WARM_E_INVALID);
  cr_assert_code(warm_sessions(NULL, sizeof session, &session, 1, &count), WARM_E_INVALID);
  cr_assert_ok(warm_close(other));
}
