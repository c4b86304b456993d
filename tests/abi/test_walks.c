/* Cursors, counts and chunks: what they show, in which pieces, and what they refuse. What happens while others write is shown by
 * tests/system/test_walks.cpp. */
#include <criterion/criterion.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/abi/memories.h"

TestSuite(walks, .timeout = 120);

static support_daemon* daemon_;
static warm_client* client;

static void with_daemon(void) {
  daemon_ = support_daemon_start(TEST_DIMENSIONS, 65536, 0);
  client = support_daemon_open(daemon_);
}
static void without_daemon(void) {
  warm_close(client);
  support_daemon_free(daemon_);
}

enum { kRecords = 5000 };
static warm_memory memories[kRecords];

/* A varied store: ids of 1 to 1024 bytes, content absent, empty, small and large. */
static void put_records(size_t count) {
  static char id[1024];
  for (size_t i = 0; i < count; ++i) {
    memset(id, 'x', sizeof id);
    const int digits = snprintf(id, sizeof id, "%zu/", i);
    const size_t id_bytes = i % 50 == 0 ? 1024 : (size_t)digits + i % 40;
    if (id_bytes > (size_t)digits) id[digits] = 'x';
    memories[i] = memory_of(id, id_bytes, (uint32_t)i);
    if (i % 4 != 0) {
      const size_t bytes = i % 4 == 1 ? 0 : i % 997 == 2 ? 90000 : i % 300;
      memory_set_content(&memories[i], bytes_of(bytes, (uint32_t)i), bytes);
    }
    cr_assert_ok(warm_put(client, &memories[i], NULL));
  }
}
static size_t index_of(const void* id, size_t id_bytes) {
  char text[24] = {0};
  memcpy(text, id, id_bytes < 20 ? id_bytes : 20);
  return strtoul(text, NULL, 10);
}

static warm_cursor* open_cursor(const warm_filter* filter) {
  warm_cursor* cursor = NULL;
  cr_assert_ok(warm_cursor_open(client, filter, &cursor));
  cr_assert_not_null(cursor);
  return cursor;
}

static const char* item_differs(const warm_memory* memory, const warm_item* item) {
  if (item->id_bytes != memory->id_bytes || memcmp(item->id, memory->id, memory->id_bytes) != 0) return "id";
  if (item->content_bytes != memory->content_bytes) return "content length";
  if (item->content_state != ((memory->given & WARM_GIVEN_CONTENT) != 0 ? WARM_CONTENT_PRESENT : WARM_CONTENT_ABSENT))
    return "content state";
  if (item->created_ns != memory->created_ns || item->last_access_ns != memory->last_access_ns) return "times";
  if (item->confidence != memory->confidence || item->activation != memory->activation ||
      item->decay_rate != memory->decay_rate || item->recall_count != memory->recall_count)
    return "scalars";
  return NULL;
}

Test(walks, every_record_comes_once_whatever_the_size_of_the_steps, .init = with_daemon, .fini = without_daemon) {
  put_records(kRecords);
  static const size_t steps[] = {1, 2, 3, 7, 64, 65, 1000, kRecords, 2 * kRecords};
  static unsigned char seen[kRecords];
  static warm_view views[2 * kRecords];
  static warm_item items[2 * kRecords];
  static const uint32_t flags[] = {0, WARM_VERIFY, WARM_COPY, WARM_COPY | WARM_VERIFY};
  for (size_t s = 0; s < sizeof steps / sizeof steps[0]; ++s) {
    for (size_t f = 0; f < 5; ++f) {
      if (f >= 2 && f < 4 && steps[s] < 64) continue;
      memset(seen, 0, sizeof seen);
      warm_cursor* cursor = open_cursor(NULL);
      size_t total = 0;
      for (;;) {
        size_t count = 99;
        if (f == 4) {
          cr_assert_ok(warm_cursor_next_items(cursor, sizeof(warm_item), items, steps[s], &count));
        } else {
          for (size_t i = 0; i < steps[s]; ++i) views[i] = (warm_view)WARM_VIEW_INIT;
          cr_assert_ok(warm_cursor_next(cursor, flags[f], views, steps[s], &count));
        }
        cr_assert_leq(count, steps[s]);
        if (count == 0) break;
        for (size_t i = 0; i < count; ++i) {
          const size_t at = f == 4 ? index_of(items[i].id, items[i].id_bytes) : index_of(views[i].id, views[i].id_bytes);
          cr_assert_lt(at, kRecords);
          const char* differs = f == 4 ? item_differs(&memories[at], &items[i]) : memory_view_differs(&memories[at], &views[i]);
          cr_assert_null(differs, "record %zu in steps of %zu: %s", at, steps[s], differs);
          cr_assert_eq(seen[at]++, 0, "record %zu came twice in steps of %zu", at, steps[s]);
          if (f != 4) cr_assert_ok(warm_release(client, &views[i]));
        }
        total += count;
      }
      cr_assert_eq(total, kRecords, "%zu of %d records came in steps of %zu", total, kRecords, steps[s]);
      size_t count = 99;
      cr_assert_ok(warm_cursor_next_items(cursor, sizeof(warm_item), items, 1, &count));
      cr_assert_eq(count, 0, "something came after the end");
      cr_assert_ok(warm_cursor_close(cursor));
    }
  }
  uint64_t count = 0;
  cr_assert_ok(warm_count(client, NULL, &count));
  cr_assert_eq(count, kRecords);
}

Test(walks, every_way_of_reading_shows_the_same_bytes, .init = with_daemon, .fini = without_daemon) {
  put_records(kRecords);
  warm_cursor* cursor = open_cursor(NULL);
  static float embedding[TEST_DIMENSIONS];
  char* const content = room_of(100000);
  size_t total = 0;
  for (;;) {
    warm_item item;
    size_t count = 0;
    cr_assert_ok(warm_cursor_next_items(cursor, sizeof item, &item, 1, &count));
    if (count == 0) break;
    ++total;
    const warm_memory* memory = &memories[index_of(item.id, item.id_bytes)];
    const warm_id id = {.data = memory->id, .bytes = memory->id_bytes};
    warm_view views[3] = {WARM_VIEW_INIT, WARM_VIEW_INIT, WARM_VIEW_INIT};
    int32_t code = 99;
    warm_scalars scalars = WARM_SCALARS_INIT;
    warm_copy copy = WARM_COPY_INIT;
    copy.embedding = embedding;
    copy.embedding_capacity = TEST_DIMENSIONS;
    copy.content = content;
    copy.content_capacity = 100000;
    cr_assert_ok(warm_get(client, id.data, id.bytes, 0, &views[0]));
    cr_assert_ok(warm_get(client, id.data, id.bytes, WARM_COPY, &views[1]));
    cr_assert_ok(warm_get_many(client, &id, 1, 0, &views[2], &code));
    cr_assert_eq(code, WARM_OK);
    cr_assert_ok(warm_get_copy(client, id.data, id.bytes, 0, &copy));
    cr_assert_ok(warm_scalars_get(client, id.data, id.bytes, &scalars));
    for (int v = 0; v < 3; ++v) {
      const char* differs = memory_view_differs(memory, &views[v]);
      cr_assert_null(differs, "%s", differs);
      cr_assert_eq(views[v].sequence, item.sequence);
      cr_assert_ok(warm_release(client, &views[v]));
    }
    const char* differs = item_differs(memory, &item);
    cr_assert_null(differs, "%s", differs);
    cr_assert_eq(memcmp(embedding, memory->embedding, sizeof embedding), 0);
    cr_assert_eq(copy.content_bytes, memory->content_bytes);
    if (copy.content_bytes != 0) cr_assert_eq(memcmp(content, memory->content, memory->content_bytes), 0);
    /* The fields that items, scalars and copies share come from one place; that they have the same names makes this possible. */
#define SAME(field) \
  cr_assert(item.field == scalars.field && item.field == copy.field, #field " differs between item, scalars and copy")
    SAME(content_state);
    SAME(content_bytes);
    SAME(sequence);
    SAME(created_ns);
    SAME(last_access_ns);
    SAME(confidence);
    SAME(activation);
    SAME(decay_rate);
    SAME(recall_count);
#undef SAME
  }
  cr_assert_eq(total, kRecords);
  cr_assert_ok(warm_cursor_close(cursor));
}

static uint64_t walked(const warm_filter* filter) {
  uint64_t by_views = 0, by_items = 0, counted = 0;
  warm_cursor* cursor = open_cursor(filter);
  warm_item items[5];
  size_t count = 0;
  do {
    cr_assert_ok(warm_cursor_next_items(cursor, sizeof(warm_item), items, 5, &count));
    by_items += count;
  } while (count != 0);
  cr_assert_ok(warm_cursor_close(cursor));
  cursor = open_cursor(filter);
  do {
    warm_view views[3] = {WARM_VIEW_INIT, WARM_VIEW_INIT, WARM_VIEW_INIT};
    cr_assert_ok(warm_cursor_next(cursor, 0, views, 3, &count));
    for (size_t i = 0; i < count; ++i) cr_assert_ok(warm_release(client, &views[i]));
    by_views += count;
  } while (count != 0);
  cr_assert_ok(warm_cursor_close(cursor));
  cr_assert_ok(warm_count(client, filter, &counted));
  cr_assert(by_views == by_items && by_items == counted, "%d views, %d items, %d counted", (int)by_views, (int)by_items,
            (int)counted);
  return counted;
}

Test(walks, a_filter_lets_the_same_records_pass_in_views_items_and_counts, .init = with_daemon, .fini = without_daemon) {
  put_records(kRecords);
  warm_filter filter = WARM_FILTER_INIT;
  cr_assert_eq(walked(&filter), kRecords);
  filter.content = WARM_FILTER_CONTENT_ABSENT;
  cr_assert_eq(walked(&filter), kRecords / 4);
  filter.content = WARM_FILTER_CONTENT_PRESENT;
  cr_assert_eq(walked(&filter), kRecords - kRecords / 4);
  filter = (warm_filter)WARM_FILTER_INIT;
  filter.id_prefix = "12";
  filter.id_prefix_bytes = 2;
  cr_assert_eq(walked(&filter), 1 + 10 + 100); /* 12, 120 to 129, 1200 to 1299 */
  filter.id_prefix = "12/";
  filter.id_prefix_bytes = 3;
  cr_assert_eq(walked(&filter), 1);
  filter = (warm_filter)WARM_FILTER_INIT;
  filter.confidence_max = 0.5f;
  uint64_t expected = 0;
  for (size_t i = 0; i < kRecords; ++i) expected += memories[i].confidence <= 0.5f;
  cr_assert_eq(walked(&filter), expected);
  filter.confidence_min = 2.0f;
  filter.confidence_max = 3.0f;
  cr_assert_eq(walked(&filter), 0);
}

Test(walks, an_empty_store_ends_at_once, .init = with_daemon, .fini = without_daemon) { cr_assert_eq(walked(NULL), 0); }

Test(walks, what_cannot_be_walked_is_refused, .init = with_daemon, .fini = without_daemon) {
  warm_cursor* cursor = NULL;
  warm_filter filter = WARM_FILTER_INIT;
  filter.sequence_min = 2;
  filter.sequence_max = 1;
  uint64_t number = 5;
  size_t count = 99;
  warm_item item;
  warm_view view = WARM_VIEW_INIT;
  cr_assert_code(warm_cursor_open(NULL, NULL, &cursor), WARM_E_INVALID);
  cr_assert_code(warm_cursor_open(client, NULL, NULL), WARM_E_INVALID);
  cr_assert_code(warm_cursor_open(client, &filter, &cursor), WARM_E_INVALID);
  cr_assert_code(warm_count(client, &filter, &number), WARM_E_INVALID);
  cr_assert_code(warm_count(client, NULL, NULL), WARM_E_INVALID);
  cr_assert_code(warm_count(NULL, NULL, &number), WARM_E_INVALID);
  cr_assert(cursor == NULL && number == 5);
  cursor = open_cursor(NULL);
  cr_assert_code(warm_cursor_next(NULL, 0, &view, 1, &count), WARM_E_INVALID);
  cr_assert_code(warm_cursor_next(cursor, 4, &view, 1, &count), WARM_E_INVALID);
  cr_assert_code(warm_cursor_next(cursor, 0, NULL, 1, &count), WARM_E_INVALID);
  cr_assert_code(warm_cursor_next(cursor, 0, &view, 0, &count), WARM_E_INVALID);
  cr_assert_code(warm_cursor_next(cursor, 0, &view, 1, NULL), WARM_E_INVALID);
  view.struct_bytes = 3;
  cr_assert_code(warm_cursor_next(cursor, 0, &view, 1, &count), WARM_E_INVALID);
  cr_assert_code(warm_cursor_next_items(NULL, sizeof item, &item, 1, &count), WARM_E_INVALID);
  cr_assert_code(warm_cursor_next_items(cursor, sizeof item - 8, &item, 1, &count), WARM_E_INVALID);
  cr_assert_code(warm_cursor_next_items(cursor, sizeof item, NULL, 1, &count), WARM_E_INVALID);
  cr_assert_code(warm_cursor_next_items(cursor, sizeof item, &item, 0, &count), WARM_E_INVALID);
  cr_assert_code(warm_cursor_next_items(cursor, sizeof item, &item, 1, NULL), WARM_E_INVALID);
  cr_assert_eq(count, 99);
  cr_assert_code(warm_close(client), WARM_E_BUSY);
  cr_assert_not_null(strstr(warm_last_error(), "cursors and chunks open: 1"), "%s", warm_last_error());
  cr_assert_ok(warm_cursor_close(cursor));
  cr_assert_ok(warm_cursor_close(NULL));
}

#define CHILD_CHECK(condition)                   \
  do {                                           \
    if (!(condition)) _exit(__LINE__ % 250 + 1); \
  } while (0)

Test(walks, a_forked_childs_cursors_and_chunks_are_stale_and_its_own_work, .init = with_daemon, .fini = without_daemon) {
  put_records(100);
  warm_cursor* cursor = open_cursor(NULL);
  warm_item item;
  size_t count = 0;
  cr_assert_ok(warm_cursor_next_items(cursor, sizeof item, &item, 1, &count));
  warm_chunk chunk = WARM_CHUNK_INIT;
  cr_assert_ok(warm_chunk_open(client, 0, &chunk));
  const pid_t child = fork();
  cr_assert_geq(child, 0);
  if (child == 0) {
    CHILD_CHECK(warm_cursor_next_items(cursor, sizeof item, &item, 1, &count) == WARM_E_STALE);
    CHILD_CHECK(warm_chunk_check(client, &chunk) == WARM_E_STALE);
    CHILD_CHECK(warm_cursor_close(cursor) == WARM_OK);
    CHILD_CHECK(warm_chunk_close(client, &chunk) == WARM_OK);
    CHILD_CHECK(warm_cursor_open(client, NULL, &cursor) == WARM_OK);
    size_t total = 0;
    do {
      CHILD_CHECK(warm_cursor_next_items(cursor, sizeof item, &item, 1, &count) == WARM_OK);
      total += count;
    } while (count != 0);
    CHILD_CHECK(total == 100);
    CHILD_CHECK(warm_cursor_close(cursor) == WARM_OK);
    CHILD_CHECK(warm_close(client) == WARM_OK);
    _exit(0);
  }
  int status = 0;
  cr_assert_eq(waitpid(child, &status, 0), child);
  cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0, "the child ended with status 0x%x", (unsigned)status);
  size_t total = count;
  do {
    cr_assert_ok(warm_cursor_next_items(cursor, sizeof item, &item, 1, &count));
    total += count;
  } while (count != 0);
  cr_assert_eq(total, 100);
  cr_assert_ok(warm_cursor_close(cursor));
  cr_assert_ok(warm_chunk_check(client, &chunk));
  cr_assert_ok(warm_chunk_close(client, &chunk));
}

/* 60 processes from one client that was opened before: each attaches by itself. */
Test(walks, sixty_forked_workers_share_one_store_after_open, .init = with_daemon, .fini = without_daemon) {
  enum { kWorkers = 60 };
  put_records(500);
  pid_t workers[kWorkers];
  for (int w = 0; w < kWorkers; ++w) {
    workers[w] = fork();
    cr_assert_geq(workers[w], 0);
    if (workers[w] != 0) continue;
    char id[32];
    snprintf(id, sizeof id, "worker %d", w);
    for (size_t i = 0; i < 500; i += 7) CHILD_CHECK(memory_differs(client, &memories[(i + (size_t)w) % 500]) == NULL);
    warm_memory memory = memory_of_text(id, (uint32_t)w);
    memory_set_content(&memory, id, strlen(id));
    CHILD_CHECK(warm_put(client, &memory, NULL) == WARM_OK);
    CHILD_CHECK(memory_differs(client, &memory) == NULL);
    warm_filter own = WARM_FILTER_INIT;
    own.id_prefix = id;
    own.id_prefix_bytes = strlen(id);
    uint64_t count = 0;
    CHILD_CHECK(warm_count(client, &own, &count) == WARM_OK && count >= 1);
    CHILD_CHECK(warm_close(client) == WARM_OK);
    _exit(0);
  }
  for (int w = 0; w < kWorkers; ++w) {
    int status = 0;
    cr_assert_eq(waitpid(workers[w], &status, 0), workers[w]);
    cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0, "worker %d ended with status 0x%x", w, (unsigned)status);
  }
  warm_filter all = WARM_FILTER_INIT;
  all.id_prefix = "worker ";
  all.id_prefix_bytes = 7;
  uint64_t count = 0;
  cr_assert_ok(warm_count(client, &all, &count));
  cr_assert_eq(count, kWorkers);
}

/* ---- Chunks ------------------------------------------------------------------------------------------------------------ */

static int is_live(const warm_chunk* chunk, uint32_t row) { return (chunk->live[row / 64] >> (row % 64) & 1) != 0; }

Test(walks, chunks_hold_every_embedding_once_and_views_name_it, .init = with_daemon, .fini = without_daemon) {
  put_records(kRecords);
  for (size_t i = 0; i < kRecords; i += 3) cr_assert_ok(warm_put(client, &memories[i], NULL)); /* other slots */
  for (size_t i = 1; i < kRecords; i += 3) {
    cr_assert_ok(warm_remove(client, memories[i].id, memories[i].id_bytes, WARM_IF_ANY, 0, 0, NULL));
  }
  uint64_t chunks = 0;
  cr_assert_ok(warm_chunk_count(client, &chunks));
  static unsigned char seen[kRecords];
  size_t total = 0;
  for (uint64_t c = 0; c < chunks; ++c) {
    warm_chunk chunk = WARM_CHUNK_INIT;
    cr_assert_ok(warm_chunk_open(client, c, &chunk));
    cr_assert_eq(chunk.dimensions, TEST_DIMENSIONS);
    cr_assert_eq(chunk.row_bytes, 64);
    cr_assert_eq((uintptr_t)chunk.rows % 64, 0);
    cr_assert_leq(chunk.row_count, WARM_CHUNK_ROWS);
    uint32_t live = 0;
    for (uint32_t row = 0; row < chunk.row_count; ++row) {
      warm_view view = WARM_VIEW_INIT;
      const int code = warm_chunk_view(client, &chunk, row, &view);
      cr_assert_eq(code, is_live(&chunk, row) ? WARM_OK : WARM_E_NOT_FOUND, "row %u: %s", row, warm_last_error());
      if (code != WARM_OK) continue;
      ++live;
      const size_t at = index_of(view.id, view.id_bytes);
      cr_assert_eq(seen[at]++, 0, "record %zu has two rows", at);
      const char* differs = memory_view_differs(&memories[at], &view);
      cr_assert_null(differs, "%s", differs);
      const char* bytes = (const char*)chunk.rows + row * chunk.row_bytes;
      cr_assert_eq(memcmp(bytes, memories[at].embedding, TEST_DIMENSIONS * sizeof(float)), 0);
      cr_assert_ok(warm_release(client, &view));
    }
    cr_assert_eq(live, chunk.live_rows);
    cr_assert_ok(warm_chunk_check(client, &chunk));
    cr_assert_eq(live, chunk.live_rows, "nothing changed");
    total += live;
    cr_assert_ok(warm_chunk_close(client, &chunk));
    cr_assert_null(chunk.rows);
    cr_assert_ok(warm_chunk_close(client, &chunk));
  }
  cr_assert_eq(total, kRecords - (kRecords - 1 + 2) / 3);
  warm_chunk beyond = WARM_CHUNK_INIT;
  cr_assert_code(warm_chunk_open(client, chunks, &beyond), WARM_E_NOT_FOUND);
  cr_assert_code(warm_chunk_open(client, UINT64_MAX, &beyond), WARM_E_NOT_FOUND);
  cr_assert_null(beyond.rows);
}

Test(walks, a_check_of_a_chunk_clears_exactly_what_changed, .init = with_daemon, .fini = without_daemon) {
  put_records(300);
  warm_chunk chunk = WARM_CHUNK_INIT;
  cr_assert_ok(warm_chunk_open(client, 0, &chunk));
  cr_assert_eq(chunk.live_rows, 300);
  uint32_t row_of[300];
  for (uint32_t row = 0; row < chunk.row_count; ++row) {
    warm_view view = WARM_VIEW_INIT;
    if (warm_chunk_view(client, &chunk, row, &view) != WARM_OK) continue;
    row_of[index_of(view.id, view.id_bytes)] = row;
    cr_assert_ok(warm_release(client, &view));
  }
  for (size_t i = 0; i < 300; i += 10) cr_assert_ok(warm_put(client, &memories[i], NULL));
  for (size_t i = 1; i < 300; i += 10) {
    cr_assert_ok(warm_remove(client, memories[i].id, memories[i].id_bytes, WARM_IF_ANY, 0, 0, NULL));
  }
  for (int life = 0; life < 3; ++life) {
    if (life == 1) support_daemon_kill_and_start(daemon_);
    if (life == 2) support_daemon_stop_and_start(daemon_);
    warm_chunk copy = chunk;
    cr_assert_ok(warm_chunk_check(client, &copy));
    cr_assert_eq(copy.live_rows, 240);
    for (size_t i = 0; i < 300; ++i) {
      cr_assert_eq(is_live(&copy, row_of[i]), i % 10 > 1, "record %zu", i);
      warm_view view = WARM_VIEW_INIT;
      const int code = warm_chunk_view(client, &chunk, row_of[i], &view);
      cr_assert_eq(code, i % 10 > 1 ? WARM_OK : WARM_E_NOT_FOUND);
      if (code == WARM_OK) cr_assert_ok(warm_release(client, &view));
    }
  }
  cr_assert_code(warm_close(client), WARM_E_BUSY);
  cr_assert_ok(warm_chunk_close(client, &chunk));
}

Test(walks, what_is_no_chunk_is_refused, .init = with_daemon, .fini = without_daemon) {
  put_records(1);
  uint64_t chunks = 0;
  warm_chunk chunk = WARM_CHUNK_INIT;
  warm_view view = WARM_VIEW_INIT;
  cr_assert_code(warm_chunk_count(NULL, &chunks), WARM_E_INVALID);
  cr_assert_code(warm_chunk_count(client, NULL), WARM_E_INVALID);
  cr_assert_code(warm_chunk_open(NULL, 0, &chunk), WARM_E_INVALID);
  cr_assert_code(warm_chunk_open(client, 0, NULL), WARM_E_INVALID);
  cr_assert_code(warm_chunk_check(client, &chunk), WARM_E_INVALID);
  cr_assert_code(warm_chunk_view(client, &chunk, 0, &view), WARM_E_INVALID);
  cr_assert_ok(warm_chunk_close(client, &chunk));
  chunk.struct_bytes = 8;
  cr_assert_code(warm_chunk_open(client, 0, &chunk), WARM_E_INVALID);
  chunk = (warm_chunk)WARM_CHUNK_INIT;
  cr_assert_ok(warm_chunk_open(client, 0, &chunk));
  cr_assert_code(warm_chunk_view(client, &chunk, chunk.row_count, &view), WARM_E_INVALID);
  cr_assert_code(warm_chunk_view(client, &chunk, 0, NULL), WARM_E_INVALID);
  warm_client* other = support_daemon_open(daemon_);
  cr_assert_code(warm_chunk_check(other, &chunk), WARM_E_INVALID);
  cr_assert_code(warm_chunk_close(other, &chunk), WARM_E_INVALID);
  cr_assert_ok(warm_close(other));
  cr_assert_ok(warm_chunk_close(client, &chunk));
}
