/* Tickets: requests that are handed in and not waited for. */
#include <criterion/criterion.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/abi/memories.h"

TestSuite(tickets, .timeout = 120);

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

static const uint32_t kPatienceMs = 60000;

static warm_memory numbered(uint32_t i) {
  char id[32];
  snprintf(id, sizeof id, "ticket %u", i);
  return memory_of_text(id, i);
}

static warm_ticket must_submit(const warm_memory* memory) {
  warm_ticket ticket = 0;
  cr_assert_ok(warm_put_submit(client, memory, &ticket));
  return ticket;
}

static warm_result must_wait(warm_ticket ticket) {
  warm_result result = {99, 99, 99};
  cr_assert_ok(warm_ticket_wait(client, ticket, kPatienceMs, &result));
  cr_assert_eq(result.reserved, 0);
  return result;
}

Test(tickets, a_ticket_says_what_the_call_that_waits_would_have_said, .init = with_daemon, .fini = without_daemon) {
  warm_memory memory = memory_of_text("id", 1);
  memory.condition = WARM_IF_ABSENT;
  const warm_result put = must_wait(must_submit(&memory));
  cr_assert_eq(put.code, WARM_OK);
  cr_assert_gt(put.sequence, 0);
  cr_assert_null(memory_differs(client, &memory));
  const warm_result again = must_wait(must_submit(&memory));
  cr_assert_eq(again.code, WARM_E_EXISTS);
  cr_assert_eq(again.sequence, put.sequence, "of the record that is in the way");
  warm_ticket ticket = 0;
  cr_assert_ok(warm_remove_submit(client, "id", 2, WARM_IF_SEQUENCE, put.sequence + 1, 0, &ticket));
  const warm_result changed = must_wait(ticket);
  cr_assert_eq(changed.code, WARM_E_CHANGED);
  cr_assert_eq(changed.sequence, put.sequence);
  cr_assert_ok(warm_remove_submit(client, "id", 2, WARM_IF_ANY, 0, 0, &ticket));
  const warm_result removed = must_wait(ticket);
  cr_assert_eq(removed.code, WARM_OK);
  cr_assert_gt(removed.sequence, put.sequence);
  cr_assert_ok(warm_remove_submit(client, "id", 2, WARM_IF_ANY, 0, 0, &ticket));
  const warm_result gone = must_wait(ticket);
  cr_assert_eq(gone.code, WARM_E_NOT_FOUND);
  cr_assert_eq(gone.sequence, 0);
}

Test(tickets, a_ticket_is_harvested_once, .init = with_daemon, .fini = without_daemon) {
  const warm_memory memory = memory_of_text("once", 1);
  const warm_ticket ticket = must_submit(&memory);
  must_wait(ticket);
  warm_result untouched = {7, 7, 7};
  cr_assert_code(warm_ticket_wait(client, ticket, 0, &untouched), WARM_E_INVALID);
  cr_assert_code(warm_ticket_poll(client, ticket, &untouched), WARM_E_INVALID);
  cr_assert(untouched.code == 7 && untouched.sequence == 7);
  warm_completion completion;
  size_t count = 9;
  cr_assert_ok(warm_completions(client, &completion, 1, &count));
  cr_assert_eq(count, 0);
  cr_assert_code(warm_ticket_poll(client, 0, &untouched), WARM_E_STALE);
  cr_assert_code(warm_ticket_poll(client, UINT64_MAX, &untouched), WARM_E_INVALID);
}

Test(tickets, what_is_wrong_gets_no_ticket, .init = with_daemon, .fini = without_daemon) {
  warm_memory memory = memory_of_text("id", 1);
  warm_ticket ticket = 4711;
  cr_assert_code(warm_put_submit(NULL, &memory, &ticket), WARM_E_INVALID);
  cr_assert_code(warm_put_submit(client, NULL, &ticket), WARM_E_INVALID);
  cr_assert_code(warm_put_submit(client, &memory, NULL), WARM_E_INVALID);
  memory.dimensions = TEST_DIMENSIONS - 1;
  cr_assert_code(warm_put_submit(client, &memory, &ticket), WARM_E_INVALID);
  memory.dimensions = TEST_DIMENSIONS;
  memory.flags = WARM_DURABLE;
  cr_assert_code(warm_put_submit(client, &memory, &ticket), WARM_E_UNSUPPORTED);
  cr_assert_code(warm_remove_submit(client, "", 0, WARM_IF_ANY, 0, 0, &ticket), WARM_E_INVALID);
  cr_assert_code(warm_remove_submit(client, "x", 1, WARM_IF_ABSENT, 0, 0, &ticket), WARM_E_INVALID);
  cr_assert_code(warm_remove_submit(client, "x", 1, WARM_IF_ANY, 0, 0, NULL), WARM_E_INVALID);
  cr_assert_eq(ticket, 4711);
  warm_result result;
  size_t count = 0;
  warm_completion completion;
  cr_assert_code(warm_ticket_wait(client, 1, 0, NULL), WARM_E_INVALID);
  cr_assert_code(warm_ticket_wait(NULL, 1, 0, &result), WARM_E_INVALID);
  cr_assert_code(warm_completions(client, NULL, 1, &count), WARM_E_INVALID);
  cr_assert_code(warm_completions(client, &completion, 0, &count), WARM_E_INVALID);
  cr_assert_code(warm_completions(client, &completion, 1, NULL), WARM_E_INVALID);
  cr_assert_code(warm_completion_fd(client, NULL), WARM_E_INVALID);
  memory.flags = 0;
  cr_assert_code(warm_exists(client, "id", 2), WARM_E_NOT_FOUND);
}

Test(tickets, so_many_may_be_open_and_no_more, .init = with_daemon, .fini = without_daemon) {
  static warm_ticket tickets[WARM_TICKETS_MAX];
  for (uint32_t i = 0; i < WARM_TICKETS_MAX; ++i) {
    const warm_memory memory = numbered(i);
    tickets[i] = must_submit(&memory);
    for (uint32_t j = 0; j < i; ++j) cr_assert_neq(tickets[j], tickets[i]);
  }
  const warm_memory one_more = numbered(WARM_TICKETS_MAX);
  warm_ticket ticket = 4711;
  cr_assert_code(warm_put_submit(client, &one_more, &ticket), WARM_E_LIMIT);
  cr_assert_eq(ticket, 4711);
  /* Nobody harvests them, and a call that waits goes on. */
  cr_assert_ok(warm_put(client, &one_more, NULL));
  cr_assert_eq(must_wait(tickets[0]).code, WARM_OK);
  cr_assert_ok(warm_put_submit(client, &one_more, &tickets[0]));
  cr_assert_code(warm_put_submit(client, &one_more, &ticket), WARM_E_LIMIT);
  for (uint32_t i = 0; i < WARM_TICKETS_MAX; ++i) cr_assert_eq(must_wait(tickets[i]).code, WARM_OK);
  for (uint32_t i = 0; i <= WARM_TICKETS_MAX; ++i) {
    const warm_memory memory = numbered(i);
    cr_assert_null(memory_differs(client, &memory));
  }
}

/* Waits for the descriptor as an event loop does, until so many are harvested. */
static void harvest_by_descriptor(int fd, size_t expected) {
  warm_completion completions[16];
  size_t harvested = 0;
  while (harvested < expected) {
    struct pollfd entry = {.fd = fd, .events = POLLIN, .revents = 0};
    cr_assert_eq(poll(&entry, 1, (int)kPatienceMs), 1, "%zu of %zu came", harvested, expected);
    size_t count = 0;
    do {
      cr_assert_ok(warm_completions(client, completions, 16, &count));
      for (size_t i = 0; i < count; ++i) cr_assert_eq(completions[i].result.code, WARM_OK);
      harvested += count;
    } while (count != 0);
  }
  cr_assert_eq(harvested, expected);
}

/* With nothing open it does not stay readable. Each answered request may have sent a byte, and the last ones come late. */
static void assert_quiet(int fd) {
  enum { kRequestsMax = 1000 };
  struct pollfd entry = {.fd = fd, .events = POLLIN, .revents = 0};
  warm_completion completion;
  size_t count = 0;
  int readable = 1;
  for (int tries = 0; tries < kRequestsMax && (readable = poll(&entry, 1, 0)) == 1; ++tries)
    cr_assert_ok(warm_completions(client, &completion, 1, &count));
  cr_assert_eq(readable, 0, "it stays readable");
}

Test(tickets, a_descriptor_says_when_to_look, .init = with_daemon, .fini = without_daemon) {
  int fd = -1;
  int again = -1;
  cr_assert_ok(warm_completion_fd(client, &fd));
  cr_assert_ok(warm_completion_fd(client, &again));
  cr_assert_eq(fd, again);
  for (uint32_t round = 0; round < 200; ++round) {
    const uint32_t count = 1 + round % 5;
    for (uint32_t i = 0; i < count; ++i) {
      const warm_memory memory = numbered(i);
      must_submit(&memory);
    }
    harvest_by_descriptor(fd, count);
  }
  assert_quiet(fd);
}

Test(tickets, the_descriptor_stays_over_restarts_and_wakes_who_waits_then, .init = with_daemon, .fini = without_daemon) {
  int fd = -1;
  cr_assert_ok(warm_completion_fd(client, &fd));
  for (uint32_t round = 0; round < 6; ++round) {
    for (uint32_t i = 0; i < 20; ++i) {
      const warm_memory memory = numbered(i);
      must_submit(&memory);
    }
    if (round % 2 == 0) {
      support_daemon_kill_and_start(daemon_);
    } else {
      support_daemon_stop_and_start(daemon_);
    }
    harvest_by_descriptor(fd, 20);
    assert_quiet(fd);
    int again = -1;
    cr_assert_ok(warm_completion_fd(client, &again));
    cr_assert_eq(fd, again);
  }
}

Test(tickets, a_descriptor_does_not_spin_while_the_daemon_is_away, .init = with_daemon, .fini = without_daemon) {
  int fd = -1;
  cr_assert_ok(warm_completion_fd(client, &fd));
  support_daemon_kill(daemon_);
  warm_completion completion;
  size_t count = 0;
  unsigned calls = 0;
  struct pollfd entry = {.fd = fd, .events = POLLIN, .revents = 0};
  while (poll(&entry, 1, 200) == 1) {
    cr_assert_ok(warm_completions(client, &completion, 1, &count));
    cr_assert_lt(++calls, 5, "no ticket is open, and it stays readable");
  }
  support_daemon_run(daemon_);
}

Test(tickets, an_open_ticket_outlives_the_daemon, .init = with_daemon, .fini = without_daemon) {
  for (uint32_t round = 0; round < 4; ++round) {
    warm_ticket tickets[40];
    /* In half of the rounds the daemon that dies has answered none of them. */
    if (round % 2 == 1) kill(support_daemon_pid(daemon_), SIGSTOP);
    for (uint32_t i = 0; i < 40; ++i) {
      const warm_memory memory = numbered(round * 40 + i);
      tickets[i] = must_submit(&memory);
    }
    support_daemon_kill_and_start(daemon_);
    for (uint32_t i = 0; i < 40; ++i) {
      if (i % 2 == 0) {
        cr_assert_eq(must_wait(tickets[i]).code, WARM_OK);
      } else {
        warm_result result;
        int code = WARM_E_BUSY;
        while (code == WARM_E_BUSY) code = warm_ticket_poll(client, tickets[i], &result);
        cr_assert_eq(code, WARM_OK, "%s", warm_last_error());
        cr_assert_eq(result.code, WARM_OK);
      }
    }
    for (uint32_t i = 0; i < 40; ++i) {
      const warm_memory memory = numbered(round * 40 + i);
      cr_assert_null(memory_differs(client, &memory));
    }
  }
}

Test(tickets, large_content_goes_with_tickets_too_and_keeps_its_order, .init = with_daemon, .fini = without_daemon) {
  enum { kPuts = 24 };
  for (uint32_t round = 0; round < 2; ++round) {
    warm_ticket tickets[kPuts];
    warm_memory memories[kPuts];
    for (uint32_t i = 0; i < kPuts; ++i) {
      memories[i] = memory_of_text("large", 100 * round + i);
      memory_set_content(&memories[i], bytes_of(100000 + i * 10000, i), 100000 + i * 10000);
      tickets[i] = must_submit(&memories[i]);
    }
    if (round == 1) support_daemon_kill_and_start(daemon_);
    uint64_t last = 0;
    for (uint32_t i = 0; i < kPuts; ++i) {
      const warm_result result = must_wait(tickets[i]);
      cr_assert_eq(result.code, WARM_OK, "put %u: %s", i, warm_error_name(result.code));
      cr_assert_gt(result.sequence, last, "put %u was carried out before the one before it", i);
      last = result.sequence;
    }
    cr_assert_null(memory_differs(client, &memories[kPuts - 1]));
  }
}

Test(tickets, while_there_is_no_answer_a_ticket_stays_open, .init = with_daemon, .fini = without_daemon) {
  const warm_memory memory = memory_of_text("patient", 1);
  const warm_ticket first = must_submit(&memory);
  must_wait(first);
  kill(support_daemon_pid(daemon_), SIGSTOP);
  const warm_ticket ticket = must_submit(&memory);
  warm_result untouched = {7, 7, 7};
  cr_assert_code(warm_ticket_wait(client, ticket, 0, &untouched), WARM_E_BUSY);
  cr_assert_code(warm_ticket_wait(client, ticket, 30, &untouched), WARM_E_BUSY);
  cr_assert_code(warm_ticket_poll(client, ticket, &untouched), WARM_E_BUSY);
  cr_assert_eq(untouched.code, 7);
  kill(support_daemon_pid(daemon_), SIGCONT);
  cr_assert_eq(must_wait(ticket).code, WARM_OK);
}

Test(tickets, a_childs_tickets_are_its_own, .init = with_daemon, .fini = without_daemon) {
  const warm_memory memory = memory_of_text("family", 1);
  const warm_ticket parents = must_submit(&memory);
  int parents_fd = -1;
  cr_assert_ok(warm_completion_fd(client, &parents_fd));
  const pid_t child = fork();
  if (child == 0) {
    warm_result result;
    if (warm_ticket_wait(client, parents, 0, &result) != WARM_E_STALE) _exit(1);
    warm_ticket ticket = 0;
    if (warm_put_submit(client, &memory, &ticket) != WARM_OK) _exit(2);
    if (warm_ticket_wait(client, ticket, kPatienceMs, &result) != WARM_OK || result.code != WARM_OK) _exit(3);
    int fd = -1;
    if (warm_completion_fd(client, &fd) != WARM_OK || fd == parents_fd) _exit(4);
    _exit(0);
  }
  int status = 0;
  cr_assert_eq(waitpid(child, &status, 0), child);
  cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0, "the child: %d", status);
  cr_assert_eq(must_wait(parents).code, WARM_OK);
}

Test(tickets, what_was_handed_in_is_carried_out_though_the_client_is_closed, .init = with_daemon, .fini = without_daemon) {
  warm_client* other = support_daemon_open(daemon_);
  warm_memory large = memory_of_text("left behind, large", 2);
  memory_set_content(&large, bytes_of(100000, 1), 100000);
  const warm_memory small = memory_of_text("left behind", 1);
  warm_ticket ticket;
  cr_assert_ok(warm_put_submit(other, &small, &ticket));
  cr_assert_ok(warm_put_submit(other, &large, &ticket));
  cr_assert_ok(warm_close(other));
  warm_stats stats = WARM_STATS_INIT;
  do {
    cr_assert_ok(warm_stats_get(client, &stats));
  } while (stats.sessions_ended == 0);
  cr_assert_null(memory_differs(client, &small));
  cr_assert_null(memory_differs(client, &large));
}
