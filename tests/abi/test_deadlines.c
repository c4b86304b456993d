/* A daemon that is stopped answers nobody and closes nothing: every call that waits for it comes back at its deadline. */
#include <criterion/criterion.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "tests/abi/memories.h"

TestSuite(deadlines, .timeout = 120);

enum { kTimeoutMs = 150, kLateMs = 20000 };

static support_daemon* daemon_;
static warm_client* client;

static warm_client* open_with(uint32_t timeout_ms) {
  warm_options options = WARM_OPTIONS_INIT;
  options.socket = support_daemon_socket(daemon_);
  options.timeout_ms = timeout_ms;
  warm_client* opened = NULL;
  cr_assert_ok(warm_open(&options, &opened));
  return opened;
}
static void with_daemon(void) { daemon_ = support_daemon_start(TEST_DIMENSIONS, 4096, 0); }
static void stop_daemon(void) { kill(support_daemon_pid(daemon_), SIGSTOP); }
static void without_daemon(void) {
  kill(support_daemon_pid(daemon_), SIGCONT);
  warm_close(client);
  support_daemon_free(daemon_);
}

static uint64_t now_ms(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* It took its deadline and not much more. */
#define EXPECT_AT_DEADLINE(call, expected)                                                                  \
  do {                                                                                                      \
    const uint64_t begun_ms = now_ms();                                                                     \
    cr_assert_code(call, expected);                                                                         \
    const uint64_t took_ms = now_ms() - begun_ms;                                                           \
    cr_assert(took_ms + 1 >= kTimeoutMs && took_ms < kLateMs, "%s: %lu ms", #call, (unsigned long)took_ms); \
  } while (0)

Test(deadlines, every_call_that_waits_for_a_stopped_daemon_returns_at_its_deadline, .init = with_daemon, .fini = without_daemon) {
  client = open_with(kTimeoutMs);
  const warm_memory memory = memory_of_text("id", 1);
  warm_memory large = memory_of_text("large", 1);
  memory_set_content(&large, bytes_of(200000, 1), 200000);
  while (warm_put(client, &memory, NULL) != WARM_OK) { /* a busy machine may need longer than this client's deadline */
  }
  warm_update update = WARM_UPDATE_INIT;
  update.id = "id";
  update.id_bytes = 2;
  update.set = WARM_SET_RECALL_COUNT;
  const warm_id id = {"id", 2};
  warm_result result = {0};
  warm_ticket ticket = 0;
  warm_session session;
  uint64_t sequence = 0;
  size_t count = 0;
  cr_assert_ok(warm_sequence_get(client, &sequence));
  stop_daemon();

  EXPECT_AT_DEADLINE(warm_put(client, &memory, NULL), WARM_E_UNKNOWN);
  EXPECT_AT_DEADLINE(warm_put(client, &large, NULL), WARM_E_UNKNOWN);
  EXPECT_AT_DEADLINE(warm_remove(client, "id", 2, WARM_IF_ANY, 0, 0, NULL), WARM_E_UNKNOWN);
  EXPECT_AT_DEADLINE(warm_update_scalars(client, &update, NULL), WARM_E_UNKNOWN);
  EXPECT_AT_DEADLINE(warm_clear(client, NULL), WARM_E_UNKNOWN);
  EXPECT_AT_DEADLINE(warm_put_many(client, &memory, 1, &result), WARM_OK);
  cr_assert_eq(result.code, WARM_E_UNKNOWN);
  EXPECT_AT_DEADLINE(warm_remove_many(client, &id, 1, 0, &result), WARM_OK);
  cr_assert_eq(result.code, WARM_E_UNKNOWN);
  cr_assert_ok(warm_put_submit(client, &memory, &ticket));
  EXPECT_AT_DEADLINE(warm_ticket_wait(client, ticket, kTimeoutMs, &result), WARM_E_BUSY);
  EXPECT_AT_DEADLINE(warm_wait(client, sequence, kTimeoutMs, NULL), WARM_E_BUSY);
  EXPECT_AT_DEADLINE(warm_sessions(client, sizeof session, &session, 1, &count), WARM_E_UNAVAILABLE);
  warm_options options = WARM_OPTIONS_INIT;
  options.socket = support_daemon_socket(daemon_);
  options.timeout_ms = kTimeoutMs;
  warm_client* another = NULL;
  EXPECT_AT_DEADLINE(warm_open(&options, &another), WARM_E_UNAVAILABLE);

  /* Reading goes on as if nothing had happened. */
  cr_assert_null(memory_differs(client, &memory));
  cr_assert_code(warm_exists(client, "nobody", 6), WARM_E_NOT_FOUND);
}

Test(deadlines, five_seconds_are_the_default, .init = with_daemon, .fini = without_daemon) {
  cr_assert_eq(WARM_TIMEOUT_MS_DEFAULT, 5000);
  client = open_with(0);
  const warm_memory memory = memory_of_text("id", 1);
  cr_assert_ok(warm_put(client, &memory, NULL));
  stop_daemon();
  const uint64_t begun_ms = now_ms();
  cr_assert_code(warm_put(client, &memory, NULL), WARM_E_UNKNOWN);
  const uint64_t took_ms = now_ms() - begun_ms;
  cr_assert(took_ms >= 4999 && took_ms < kLateMs, "%lu ms", (unsigned long)took_ms);
}
