/* Each limit and its neighbours: what is inside is served, what is outside is refused with an error that says value and limit. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/abi/memories.h"

TestSuite(limits, .timeout = 300);

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

static void assert_message_says(const char* word) {
  cr_assert_not_null(strstr(warm_last_error(), word), "the message should say %s: %s", word, warm_last_error());
}

Test(limits, ids_have_1_to_1024_bytes, .init = with_daemon, .fini = without_daemon) {
  char* const bytes = bytes_of(1025, 9);
  static const size_t good[] = {1, 2, 1023, 1024};
  for (size_t i = 0; i < 4; ++i) {
    warm_memory memory = memory_of(bytes, good[i], (uint32_t)i);
    memory_set_content(&memory, bytes, 100);
    cr_assert_ok(warm_put(client, &memory, NULL));
    cr_assert_ok(warm_exists(client, bytes, good[i]));
    const char* differs = memory_differs(client, &memory);
    cr_assert_null(differs, "id of %zu bytes: %s", good[i], differs);
  }
  static const size_t bad[] = {0, 1025, 65536, SIZE_MAX};
  for (size_t i = 0; i < 4; ++i) {
    warm_memory memory = memory_of(bytes, 8, 1);
    memory.id_bytes = bad[i];
    warm_view view = WARM_VIEW_INIT;
    cr_assert_code(warm_put(client, &memory, NULL), bad[i] == 0 ? WARM_E_INVALID : WARM_E_LIMIT);
    assert_message_says("1024");
    cr_assert_code(warm_get(client, bytes, bad[i], 0, &view), bad[i] == 0 ? WARM_E_INVALID : WARM_E_LIMIT);
    cr_assert_code(warm_exists(client, bytes, bad[i]), bad[i] == 0 ? WARM_E_INVALID : WARM_E_LIMIT);
    cr_assert_code(warm_remove(client, bytes, bad[i], WARM_IF_ANY, 0, 0, NULL), bad[i] == 0 ? WARM_E_INVALID : WARM_E_LIMIT);
  }
}

Test(limits, embeddings_have_the_dimensions_of_the_store, .init = with_daemon, .fini = without_daemon) {
  static const uint32_t bad[] = {0, TEST_DIMENSIONS - 1, TEST_DIMENSIONS + 1, 4096, 4097, UINT32_MAX};
  for (size_t i = 0; i < sizeof bad / sizeof bad[0]; ++i) {
    warm_memory memory = memory_of_text("wrong", 1);
    memory.dimensions = bad[i];
    cr_assert_code(warm_put(client, &memory, NULL), WARM_E_INVALID);
    assert_message_says("16");
  }
  warm_memory memory = memory_of_text("null", 1);
  memory.embedding = NULL;
  cr_assert_code(warm_put(client, &memory, NULL), WARM_E_INVALID);
  cr_assert_code(warm_exists(client, "wrong", 5), WARM_E_NOT_FOUND);
}

static void store_of(uint32_t dimensions, uint64_t capacity) {
  support_daemon* daemon = support_daemon_start(dimensions, capacity, 0);
  warm_client* writer = support_daemon_open(daemon);
  warm_info info = WARM_INFO_INIT;
  cr_assert_ok(warm_info_get(writer, &info));
  cr_assert_eq(info.dimensions, dimensions);
  cr_assert_eq(info.capacity, capacity);
  cr_assert_eq(info.row_bytes, (dimensions * 4 + 63) / 64 * 64);
  float* embedding = room_of(dimensions * sizeof(float));
  for (uint32_t i = 0; i < dimensions; ++i) embedding[i] = (float)i + 0.25f;
  warm_memory memory = memory_of_text("one", 1);
  memory.embedding = embedding;
  memory.dimensions = dimensions;
  memory_set_content(&memory, "content", 7);
  cr_assert_ok(warm_put(writer, &memory, NULL));
  for (int life = 0; life < 2; ++life) {
    const char* differs = memory_differs(writer, &memory);
    cr_assert_null(differs, "%u dimensions: %s", dimensions, differs);
    if (life == 0) support_daemon_kill_and_start(daemon);
  }
  warm_close(writer);
  support_daemon_free(daemon);
}

Test(limits, a_store_has_1_dimension) { store_of(1, 2048); }
Test(limits, a_store_has_4096_dimensions) { store_of(4096, 2048); }
Test(limits, a_store_has_17_dimensions_and_zeros_behind_them) { store_of(17, 2048); }
/* 13 TiB of addresses, and of a file that grows as it is filled. */
Test(limits, a_store_has_a_capacity_of_4294967294) { store_of(768, 4294967294u); }
Test(limits, a_store_has_a_capacity_of_1) { store_of(1, 1); }

static void content_around_a_cap(uint64_t cap) {
  support_daemon* daemon = support_daemon_start(TEST_DIMENSIONS, 2048, cap);
  warm_client* writer = support_daemon_open(daemon);
  warm_info info = WARM_INFO_INIT;
  cr_assert_ok(warm_info_get(writer, &info));
  cr_assert_eq(info.content_bytes_max, cap);
  void* const bytes = bytes_of(cap + 1, 3);
  for (uint64_t size = cap - 1; size <= cap + 1; ++size) {
    warm_memory memory = memory_of_text("capped", (uint32_t)size);
    memory_set_content(&memory, bytes, size);
    if (size <= cap) {
      cr_assert_ok(warm_put(writer, &memory, NULL));
      const char* differs = memory_differs(writer, &memory);
      cr_assert_null(differs, "%s", differs);
    } else {
      cr_assert_code(warm_put(writer, &memory, NULL), WARM_E_LIMIT);
      char number[32];
      snprintf(number, sizeof number, "%llu", (unsigned long long)cap);
      assert_message_says(number);
      snprintf(number, sizeof number, "%llu", (unsigned long long)size);
      assert_message_says(number);
    }
  }
  warm_close(writer);
  support_daemon_free(daemon);
}

Test(limits, content_ends_at_a_cap_inside_a_lane) { content_around_a_cap(5000); }
Test(limits, content_ends_at_a_cap_beyond_a_lane) { content_around_a_cap(300000); }

Test(limits, content_of_4_gib_is_refused_before_anything_is_read, .init = with_daemon, .fini = without_daemon) {
  warm_memory memory = memory_of_text("huge", 1);
  memory_set_content(&memory, &memory, (size_t)WARM_CONTENT_BYTES_MAX + 1);
  cr_assert_code(warm_put(client, &memory, NULL), WARM_E_LIMIT);
  memory_set_content(&memory, NULL, 5);
  cr_assert_code(warm_put(client, &memory, NULL), WARM_E_INVALID);
}

Test(limits, numbers_that_are_not_finite_are_refused, .init = with_daemon, .fini = without_daemon) {
  const float bad[] = {NAN, -NAN, INFINITY, -INFINITY};
  for (size_t i = 0; i < 4; ++i) {
    for (uint32_t at = 0; at < TEST_DIMENSIONS; at += TEST_DIMENSIONS - 1) {
      warm_memory memory = memory_of_text("bad", 1);
      float embedding[TEST_DIMENSIONS] = {0};
      embedding[at] = bad[i];
      memory.embedding = embedding;
      cr_assert_code(warm_put(client, &memory, NULL), WARM_E_INVALID);
      char which_one[32];
      snprintf(which_one, sizeof which_one, "value %u is", at);
      cr_assert_not_null(strstr(warm_last_error(), which_one), "%s", warm_last_error());
    }
    for (int which = 0; which < 3; ++which) {
      warm_memory memory = memory_of_text("bad", 1);
      *(which == 0 ? &memory.confidence : which == 1 ? &memory.activation : &memory.decay_rate) = bad[i];
      cr_assert_code(warm_put(client, &memory, NULL), WARM_E_INVALID);
    }
  }
  warm_memory memory = memory_of_text("good", 1);
  const float extremes[TEST_DIMENSIONS] = {3.40282347e38f, -3.40282347e38f, 1.17549435e-38f, 1e-45f, -1e-45f, 0.0f, -0.0f};
  memory.embedding = extremes;
  cr_assert_ok(warm_put(client, &memory, NULL));
  const char* differs = memory_differs(client, &memory);
  cr_assert_null(differs, "%s", differs);
  cr_assert_code(warm_exists(client, "bad", 3), WARM_E_NOT_FOUND);
}

Test(limits, a_client_holds_65536_views_and_no_more, .init = with_daemon, .fini = without_daemon) {
  warm_memory memory = memory_of_text("held", 1);
  memory_set_content(&memory, "content", 7);
  cr_assert_ok(warm_put(client, &memory, NULL));
  warm_info info = WARM_INFO_INIT;
  cr_assert_ok(warm_info_get(client, &info));
  cr_assert_eq(info.views_max, WARM_VIEWS_MAX);
  warm_view* views = calloc(WARM_VIEWS_MAX, sizeof *views);
  for (uint32_t i = 0; i < WARM_VIEWS_MAX; ++i) {
    views[i] = (warm_view)WARM_VIEW_INIT;
    const int code = warm_get(client, "held", 4, 0, &views[i]);
    cr_assert_eq(code, WARM_OK, "view %u: %s", i, warm_last_error());
  }
  warm_view one_more = WARM_VIEW_INIT;
  cr_assert_code(warm_get(client, "held", 4, 0, &one_more), WARM_E_LIMIT);
  assert_message_says("65536");
  cr_assert_ok(warm_exists(client, "held", 4));
  cr_assert_ok(warm_release(client, &views[12345]));
  cr_assert_ok(warm_get(client, "held", 4, 0, &one_more));
  cr_assert_ok(warm_release(client, &one_more));
  for (uint32_t i = 0; i < WARM_VIEWS_MAX; ++i) cr_assert_ok(warm_release(client, &views[i]));
  free(views);
}

Test(limits, durable_is_refused_until_there_is_a_log, .init = with_daemon, .fini = without_daemon) {
  warm_memory memory = memory_of_text("durable", 1);
  memory.flags = WARM_DURABLE;
  cr_assert_code(warm_put(client, &memory, NULL), WARM_E_UNSUPPORTED);
  cr_assert_code(warm_exists(client, "durable", 7), WARM_E_NOT_FOUND);
  memory.flags = 0;
  cr_assert_ok(warm_put(client, &memory, NULL));
  cr_assert_code(warm_remove(client, "durable", 7, WARM_IF_ANY, 0, WARM_DURABLE, NULL), WARM_E_UNSUPPORTED);
  cr_assert_ok(warm_exists(client, "durable", 7));
}

Test(limits, unknown_bits_and_reserved_fields_are_refused, .init = with_daemon, .fini = without_daemon) {
  warm_memory memory = memory_of_text("flags", 1);
  memory.flags = 2;
  cr_assert_code(warm_put(client, &memory, NULL), WARM_E_INVALID);
  memory = memory_of_text("flags", 1);
  memory.given |= 8;
  cr_assert_code(warm_put(client, &memory, NULL), WARM_E_INVALID);
  memory = memory_of_text("flags", 1);
  memory.condition = 3;
  cr_assert_code(warm_put(client, &memory, NULL), WARM_E_INVALID);
  memory = memory_of_text("flags", 1);
  memory.reserved32 = 1;
  cr_assert_code(warm_put(client, &memory, NULL), WARM_E_INVALID);
  memory = memory_of_text("flags", 1);
  memory.reserved[3] = 1;
  cr_assert_code(warm_put(client, &memory, NULL), WARM_E_INVALID);
  memory = memory_of_text("flags", 1);
  memory.struct_bytes = 0;
  cr_assert_code(warm_put(client, &memory, NULL), WARM_E_INVALID);
  cr_assert_code(warm_remove(client, "flags", 5, WARM_IF_ABSENT, 0, 0, NULL), WARM_E_INVALID);
  cr_assert_code(warm_remove(client, "flags", 5, WARM_IF_ANY, 0, 4, NULL), WARM_E_INVALID);
  cr_assert_code(warm_exists(client, "flags", 5), WARM_E_NOT_FOUND);
}

Test(limits, null_arguments_are_refused, .init = with_daemon, .fini = without_daemon) {
  warm_memory memory = memory_of_text("null", 1);
  warm_view view = WARM_VIEW_INIT;
  warm_info info = WARM_INFO_INIT;
  warm_stats stats = WARM_STATS_INIT;
  uint32_t state = 99;
  cr_assert_code(warm_open(NULL, NULL), WARM_E_INVALID);
  cr_assert_code(warm_put(NULL, &memory, NULL), WARM_E_INVALID);
  cr_assert_code(warm_put(client, NULL, NULL), WARM_E_INVALID);
  cr_assert_code(warm_get(NULL, "null", 4, 0, &view), WARM_E_INVALID);
  cr_assert_code(warm_get(client, NULL, 4, 0, &view), WARM_E_INVALID);
  cr_assert_code(warm_get(client, "null", 4, 0, NULL), WARM_E_INVALID);
  cr_assert_code(warm_release(client, NULL), WARM_E_INVALID);
  cr_assert_code(warm_release(NULL, &view), WARM_E_INVALID);
  cr_assert_code(warm_view_check(client, NULL, &state), WARM_E_INVALID);
  cr_assert_code(warm_view_check(client, &view, NULL), WARM_E_INVALID);
  cr_assert_code(warm_exists(client, NULL, 4), WARM_E_INVALID);
  cr_assert_code(warm_remove(client, NULL, 4, WARM_IF_ANY, 0, 0, NULL), WARM_E_INVALID);
  cr_assert_code(warm_info_get(client, NULL), WARM_E_INVALID);
  cr_assert_code(warm_info_get(NULL, &info), WARM_E_INVALID);
  cr_assert_code(warm_stats_get(client, NULL), WARM_E_INVALID);
  cr_assert_code(warm_stats_get(NULL, &stats), WARM_E_INVALID);
  cr_assert_ok(warm_close(NULL));
  cr_assert_eq(state, 99);
}

Test(limits, a_full_store_says_so_and_takes_again_what_was_freed) {
  enum { kCapacity = 1024 };
  support_daemon* daemon = support_daemon_start(TEST_DIMENSIONS, kCapacity, 0);
  warm_client* writer = support_daemon_open(daemon);
  char id[32];
  for (uint32_t i = 0; i < kCapacity; ++i) {
    snprintf(id, sizeof id, "full %u", i);
    warm_memory memory = memory_of_text(id, i);
    cr_assert_ok(warm_put(writer, &memory, NULL));
  }
  warm_memory memory = memory_of_text("one too many", 1);
  cr_assert_code(warm_put(writer, &memory, NULL), WARM_E_FULL);
  assert_message_says("1024");
  cr_assert_ok(warm_remove(writer, "full 7", 6, WARM_IF_ANY, 0, 0, NULL));
  cr_assert_ok(warm_put(writer, &memory, NULL));
  cr_assert_code(warm_exists(writer, "full 7", 6), WARM_E_NOT_FOUND);
  warm_stats stats = WARM_STATS_INIT;
  cr_assert_ok(warm_stats_get(writer, &stats));
  cr_assert_eq(stats.records, kCapacity);
  warm_close(writer);
  support_daemon_free(daemon);
}

Test(limits, an_address_without_a_daemon_is_named) {
  warm_options options = WARM_OPTIONS_INIT;
  options.socket = "/nonexistent/warmtier.sock";
  options.timeout_ms = 50;
  warm_client* none = NULL;
  cr_assert_code(warm_open(&options, &none), WARM_E_UNAVAILABLE);
  cr_assert_null(none);
  assert_message_says("/nonexistent/warmtier.sock");
  setenv("WARMTIER_SOCKET", "/nonexistent/other.sock", 1);
  options.socket = NULL;
  cr_assert_code(warm_open(&options, &none), WARM_E_UNAVAILABLE);
  assert_message_says("/nonexistent/other.sock");
}
