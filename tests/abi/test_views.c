/* What a view promises while its record is replaced, removed, its daemon restarted, its process forked. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/abi/memories.h"

TestSuite(views, .timeout = 120);

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

static uint32_t state_of(const warm_view* view) {
  uint32_t state = 99;
  cr_assert_ok(warm_view_check(client, view, &state));
  return state;
}

static void put(const char* id, uint32_t seed, const char* content) {
  warm_memory memory = memory_of_text(id, seed);
  memory_set_content(&memory, content, strlen(content));
  cr_assert_ok(warm_put(client, &memory, NULL));
}

static void assert_shows(const warm_view* view, const char* id, uint32_t seed, const char* content) {
  warm_memory memory = memory_of_text(id, seed);
  cr_assert_eq(view->id_bytes, strlen(id));
  cr_assert_eq(memcmp(view->id, id, strlen(id)), 0);
  cr_assert_eq(memcmp(view->embedding, memory.embedding, TEST_DIMENSIONS * sizeof(float)), 0,
               "the embedding changed under a view");
  cr_assert_eq(view->content_bytes, strlen(content));
  cr_assert_eq(memcmp(view->content, content, strlen(content)), 0, "the content changed under a view");
  cr_assert_eq(view->recall_count, memory.recall_count);
}

Test(views, a_view_is_current_then_replaced_then_removed_and_stays_what_it_was, .init = with_daemon, .fini = without_daemon) {
  put("seen", 1, "first");
  warm_view view = WARM_VIEW_INIT;
  cr_assert_ok(warm_get(client, "seen", 4, 0, &view));
  cr_assert_eq(state_of(&view), WARM_VIEW_CURRENT);
  put("seen", 2, "second");
  cr_assert_eq(state_of(&view), WARM_VIEW_REPLACED);
  assert_shows(&view, "seen", 1, "first");
  warm_view newer = WARM_VIEW_INIT;
  cr_assert_ok(warm_get(client, "seen", 4, 0, &newer));
  cr_assert_eq(state_of(&newer), WARM_VIEW_CURRENT);
  cr_assert_ok(warm_remove(client, "seen", 4, WARM_IF_ANY, 0, 0, NULL));
  cr_assert_eq(state_of(&view), WARM_VIEW_REMOVED);
  cr_assert_eq(state_of(&newer), WARM_VIEW_REMOVED);
  put("seen", 3, "third");
  cr_assert_eq(state_of(&newer), WARM_VIEW_REPLACED);
  assert_shows(&view, "seen", 1, "first");
  assert_shows(&newer, "seen", 2, "second");
  cr_assert_ok(warm_release(client, &view));
  cr_assert_ok(warm_release(client, &newer));
}

Test(views, a_held_view_outlives_every_reuse_of_slots) {
  /* So small a store that each replace soon needs the slot of an earlier one. */
  support_daemon* daemon = support_daemon_start(TEST_DIMENSIONS, 1024, 0);
  client = support_daemon_open(daemon);
  put("held", 1, "what the view shows");
  warm_view view = WARM_VIEW_INIT;
  cr_assert_ok(warm_get(client, "held", 4, 0, &view));
  for (uint32_t i = 0; i < 5000; ++i) put("held", i + 2, "churn");
  assert_shows(&view, "held", 1, "what the view shows");
  cr_assert_eq(state_of(&view), WARM_VIEW_REPLACED);
  cr_assert_ok(warm_release(client, &view));
  cr_assert_ok(warm_close(client));
  support_daemon_free(daemon);
}

Test(views, a_held_view_outlives_restarts_of_the_daemon, .init = with_daemon, .fini = without_daemon) {
  put("held", 1, "first");
  put("kept", 5, "kept");
  warm_view view = WARM_VIEW_INIT;
  warm_view kept = WARM_VIEW_INIT;
  cr_assert_ok(warm_get(client, "held", 4, 0, &view));
  cr_assert_ok(warm_get(client, "kept", 4, 0, &kept));
  support_daemon_kill_and_start(daemon_);
  put("held", 2, "second");
  assert_shows(&view, "held", 1, "first");
  cr_assert_eq(state_of(&view), WARM_VIEW_REPLACED);
  cr_assert_eq(state_of(&kept), WARM_VIEW_CURRENT);
  support_daemon_stop_and_start(daemon_);
  cr_assert_ok(warm_remove(client, "held", 4, WARM_IF_ANY, 0, 0, NULL));
  assert_shows(&view, "held", 1, "first");
  assert_shows(&kept, "kept", 5, "kept");
  cr_assert_eq(state_of(&view), WARM_VIEW_REMOVED);
  cr_assert_ok(warm_release(client, &view));
  cr_assert_ok(warm_release(client, &kept));
}

Test(views, reads_go_on_while_the_daemon_is_dead, .init = with_daemon, .fini = without_daemon) {
  put("readable", 1, "content");
  support_daemon_kill(daemon_);
  warm_view view = WARM_VIEW_INIT;
  cr_assert_ok(warm_get(client, "readable", 8, 0, &view));
  assert_shows(&view, "readable", 1, "content");
  cr_assert_ok(warm_release(client, &view));
  cr_assert_code(warm_exists(client, "nothing", 7), WARM_E_NOT_FOUND);
  support_daemon_run(daemon_);
  put("readable", 2, "later");
  cr_assert_ok(warm_get(client, "readable", 8, 0, &view));
  assert_shows(&view, "readable", 2, "later");
  cr_assert_ok(warm_release(client, &view));
}

Test(views, writes_to_a_dead_daemon_say_that_they_were_not_carried_out) {
  support_daemon* daemon = support_daemon_start(TEST_DIMENSIONS, 4096, 0);
  warm_options options = WARM_OPTIONS_INIT;
  options.socket = support_daemon_socket(daemon);
  options.timeout_ms = 200;
  cr_assert_ok(warm_open(&options, &client));
  put("before", 1, "x");
  support_daemon_kill(daemon);
  warm_memory memory = memory_of_text("during", 2);
  const int code = warm_put(client, &memory, NULL);
  cr_assert(code == WARM_E_UNAVAILABLE || code == WARM_E_UNKNOWN || code == WARM_E_BUSY, "%s", warm_error_name(code));
  support_daemon_run(daemon);
  put("after", 3, "y");
  if (code != WARM_E_UNKNOWN) cr_assert_code(warm_exists(client, "during", 6), WARM_E_NOT_FOUND);
  cr_assert_ok(warm_exists(client, "before", 6));
  cr_assert_ok(warm_close(client));
  support_daemon_free(daemon);
}

Test(views, close_is_refused_while_views_are_out) {
  support_daemon* daemon = support_daemon_start(TEST_DIMENSIONS, 4096, 0);
  client = support_daemon_open(daemon);
  put("open", 1, "x");
  warm_view views[2] = {WARM_VIEW_INIT, WARM_VIEW_INIT};
  cr_assert_ok(warm_get(client, "open", 4, 0, &views[0]));
  cr_assert_ok(warm_get(client, "open", 4, 0, &views[1]));
  cr_assert_code(warm_close(client), WARM_E_BUSY);
  cr_assert_not_null(strstr(warm_last_error(), "2"), "%s", warm_last_error());
  cr_assert_ok(warm_release(client, &views[0]));
  cr_assert_code(warm_close(client), WARM_E_BUSY);
  cr_assert_ok(warm_exists(client, "open", 4));
  cr_assert_ok(warm_release(client, &views[1]));
  cr_assert_ok(warm_close(client));
  support_daemon_free(daemon);
}

Test(views, a_view_that_holds_a_record_is_not_filled_again, .init = with_daemon, .fini = without_daemon) {
  put("one", 1, "first");
  put("two", 2, "second");
  warm_view views[2] = {WARM_VIEW_INIT, WARM_VIEW_INIT};
  cr_assert_ok(warm_get(client, "one", 3, 0, &views[1]));
  cr_assert_code(warm_get(client, "two", 3, 0, &views[1]), WARM_E_INVALID);
  cr_assert_not_null(strstr(warm_last_error(), "id one"), "%s", warm_last_error());
  const warm_id ids[2] = {{"one", 3}, {"two", 3}};
  int32_t codes[2];
  cr_assert_code(warm_get_many(client, ids, 2, 0, views, codes), WARM_E_INVALID);
  warm_cursor* cursor = NULL;
  size_t count = 0;
  cr_assert_ok(warm_cursor_open(client, NULL, &cursor));
  cr_assert_code(warm_cursor_next(cursor, 0, views, 2, &count), WARM_E_INVALID);
  assert_shows(&views[1], "one", 1, "first");
  /* A close says all that is in its way. */
  cr_assert_code(warm_close(client), WARM_E_BUSY);
  cr_assert_not_null(strstr(warm_last_error(), "views held: 1, recalls open: 0, cursors and chunks open: 1"), "%s",
                     warm_last_error());
  cr_assert_ok(warm_cursor_close(cursor));
  warm_view copy = views[1];
  cr_assert_ok(warm_release(client, &views[1]));
  cr_assert_ok(warm_get(client, "two", 3, 0, &views[1]));
  /* A copy of a view that was released elsewhere holds nothing. */
  cr_assert_ok(warm_get(client, "one", 3, 0, &copy));
  cr_assert_ok(warm_release(client, &copy));
  cr_assert_ok(warm_release(client, &views[1]));
}

Test(views, a_second_release_and_a_release_of_nothing_do_nothing, .init = with_daemon, .fini = without_daemon) {
  put("one", 1, "x");
  put("two", 2, "y");
  warm_view first = WARM_VIEW_INIT;
  warm_view second = WARM_VIEW_INIT;
  warm_view never = WARM_VIEW_INIT;
  cr_assert_ok(warm_release(client, &never));
  cr_assert_ok(warm_get(client, "one", 3, 0, &first));
  cr_assert_ok(warm_release(client, &first));
  cr_assert_ok(warm_get(client, "two", 3, 0, &second));
  cr_assert_ok(warm_release(client, &first));
  assert_shows(&second, "two", 2, "y");
  cr_assert_ok(warm_release(client, &second));
}

Test(views, a_failed_get_leaves_the_view_untouched, .init = with_daemon, .fini = without_daemon) {
  warm_view view;
  memset(&view, 0x5A, sizeof view);
  view.struct_bytes = sizeof view;
  warm_view before = view;
  cr_assert_code(warm_get(client, "not there", 9, 0, &view), WARM_E_NOT_FOUND);
  cr_assert_eq(memcmp(&view, &before, sizeof view), 0);
}

/* Children end with the number of the first line that was wrong; the parent judges. */
#define CHILD_CHECK(condition)                   \
  do {                                           \
    if (!(condition)) _exit(__LINE__ % 250 + 1); \
  } while (0)

Test(views, a_forked_child_has_stale_views_and_attaches_by_itself, .init = with_daemon, .fini = without_daemon) {
  put("parent's", 1, "first");
  warm_view view = WARM_VIEW_INIT;
  cr_assert_ok(warm_get(client, "parent's", 8, 0, &view));
  const pid_t child = fork();
  cr_assert_geq(child, 0);
  if (child == 0) {
    uint32_t state = 99;
    CHILD_CHECK(warm_view_check(client, &view, &state) == WARM_E_STALE);
    CHILD_CHECK(state == 99);
    warm_view copy = view;
    CHILD_CHECK(warm_release(client, &copy) == WARM_OK);
    warm_view own = WARM_VIEW_INIT;
    CHILD_CHECK(warm_get(client, "parent's", 8, 0, &own) == WARM_OK);
    CHILD_CHECK(own.content_bytes == 5 && memcmp(own.content, "first", 5) == 0);
    CHILD_CHECK(warm_view_check(client, &own, &state) == WARM_OK && state == WARM_VIEW_CURRENT);
    warm_memory memory = memory_of_text("child's", 2);
    CHILD_CHECK(warm_put(client, &memory, NULL) == WARM_OK);
    CHILD_CHECK(warm_release(client, &own) == WARM_OK);
    CHILD_CHECK(warm_close(client) == WARM_OK);
    _exit(0);
  }
  int status = 0;
  cr_assert_eq(waitpid(child, &status, 0), child);
  cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0, "the child ended with status 0x%x", (unsigned)status);
  cr_assert_ok(warm_exists(client, "child's", 7));
  /* The parent's view is still pinned: churn must not touch it. */
  for (uint32_t i = 0; i < 200; ++i) put("parent's", i + 10, "churn");
  assert_shows(&view, "parent's", 1, "first");
  cr_assert_eq(state_of(&view), WARM_VIEW_REPLACED);
  cr_assert_ok(warm_release(client, &view));
}
