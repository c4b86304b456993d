/* Reads other than warm_get: many at once, copies, scalars. What each shows is what warm_get shows. */
#include <criterion/criterion.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/abi/memories.h"

TestSuite(reads, .timeout = 120);

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

static warm_id id_of(const warm_memory* memory) { return (warm_id){.data = memory->id, .bytes = memory->id_bytes}; }

static void must_put(const warm_memory* memory) { cr_assert_ok(warm_put(client, memory, NULL)); }

/* ---- Many ------------------------------------------------------------------------------------------------------------ */

enum { kMany = 1000 };
static warm_memory memories[kMany];
static warm_id ids[kMany + 5];
static warm_view views[kMany + 5];
static int32_t codes[kMany + 5];

static void put_many(size_t count) {
  char text[32];
  for (size_t i = 0; i < count; ++i) {
    snprintf(text, sizeof text, "many %zu", i);
    memories[i] = memory_of_text(text, (uint32_t)i);
    if (i % 3 != 0) memory_set_content(&memories[i], memories[i].id, i % 3 == 1 ? memories[i].id_bytes : 0);
    must_put(&memories[i]);
    ids[i] = id_of(&memories[i]);
  }
}
static void fresh_views(void) {
  for (size_t i = 0; i < sizeof views / sizeof views[0]; ++i) {
    views[i] = (warm_view)WARM_VIEW_INIT;
    codes[i] = 77;
  }
}

Test(reads, many_are_what_each_would_be_by_itself, .init = with_daemon, .fini = without_daemon) {
  put_many(kMany);
  static const size_t counts[] = {0, 1, 2, 63, 64, 65, 127, 128, 129, kMany};
  static const uint32_t flags[] = {0, WARM_VERIFY, WARM_COPY, WARM_VERIFY | WARM_COPY};
  for (size_t c = 0; c < sizeof counts / sizeof counts[0]; ++c) {
    for (size_t f = 0; f < 4; ++f) {
      fresh_views();
      cr_assert_ok(warm_get_many(client, ids, counts[c], flags[f], views, codes));
      for (size_t i = 0; i < counts[c]; ++i) {
        cr_assert_eq(codes[i], WARM_OK, "id %zu of %zu: %s", i, counts[c], warm_error_name(codes[i]));
        const char* differs = memory_view_differs(&memories[i], &views[i]);
        cr_assert_null(differs, "id %zu of %zu: %s", i, counts[c], differs);
        cr_assert_ok(warm_release(client, &views[i]));
      }
      cr_assert_eq(codes[counts[c]], 77, "a code behind the last was written");
    }
  }
}

Test(reads, many_have_a_code_each_and_views_only_where_it_is_ok, .init = with_daemon, .fini = without_daemon) {
  put_many(70);
  static const char longest[1025] = {0};
  ids[3].bytes = 0;
  ids[7].data = NULL;
  ids[64] = (warm_id){.data = longest, .bytes = 1025};
  ids[65] = (warm_id){.data = longest, .bytes = 1024};
  ids[11] = ids[12]; /* twice the same: two views */
  for (uint32_t flag = 0; flag <= WARM_COPY; flag += WARM_COPY) {
    fresh_views();
    const warm_view untouched = views[3];
    cr_assert_ok(warm_get_many(client, ids, 70, flag, views, codes));
    for (size_t i = 0; i < 70; ++i) {
      warm_view alone = WARM_VIEW_INIT;
      const int expected = warm_get(client, ids[i].data, ids[i].bytes, 0, &alone);
      cr_assert_eq(codes[i], expected, "id %zu: %s", i, warm_error_name(codes[i]));
      if (expected == WARM_OK) {
        cr_assert_eq(views[i].sequence, alone.sequence);
        cr_assert_ok(warm_release(client, &alone));
        cr_assert_ok(warm_release(client, &views[i]));
      } else {
        cr_assert_eq(memcmp(&views[i], &untouched, sizeof untouched), 0, "view %zu was touched", i);
      }
    }
    cr_assert(codes[3] == WARM_E_INVALID && codes[7] == WARM_E_INVALID && codes[64] == WARM_E_LIMIT &&
              codes[65] == WARM_E_NOT_FOUND);
  }
}

Test(reads, many_refuse_what_cannot_be_an_answer, .init = with_daemon, .fini = without_daemon) {
  put_many(3);
  fresh_views();
  cr_assert_code(warm_get_many(NULL, ids, 3, 0, views, codes), WARM_E_INVALID);
  cr_assert_code(warm_get_many(client, NULL, 3, 0, views, codes), WARM_E_INVALID);
  cr_assert_code(warm_get_many(client, ids, 3, 0, NULL, codes), WARM_E_INVALID);
  cr_assert_code(warm_get_many(client, ids, 3, 0, views, NULL), WARM_E_INVALID);
  cr_assert_code(warm_get_many(client, ids, 3, 4, views, codes), WARM_E_INVALID);
  cr_assert_ok(warm_get_many(client, NULL, 0, 0, NULL, NULL));
  views[2].struct_bytes = 0;
  cr_assert_code(warm_get_many(client, ids, 3, 0, views, codes), WARM_E_INVALID);
  cr_assert_not_null(strstr(warm_last_error(), "[2]"), "%s", warm_last_error());
  cr_assert_eq(codes[0], 77, "something was read before the arguments were checked");
}

Test(reads, many_find_the_limit_of_views_where_one_does, .init = with_daemon, .fini = without_daemon) {
  put_many(1);
  const size_t count = WARM_VIEWS_MAX + 3;
  warm_id* same = room_of(count * sizeof *same);
  warm_view* held = room_of(count * sizeof *held);
  int32_t* answers = room_of(count * sizeof *answers);
  for (size_t i = 0; i < count; ++i) {
    same[i] = ids[0];
    held[i] = (warm_view)WARM_VIEW_INIT;
  }
  cr_assert_ok(warm_get_many(client, same, count, 0, held, answers));
  for (size_t i = 0; i < count; ++i) cr_assert_eq(answers[i], i < WARM_VIEWS_MAX ? WARM_OK : WARM_E_LIMIT, "view %zu", i);
  for (size_t i = 0; i < count; ++i) cr_assert_ok(warm_release(client, &held[i]));
}

/* ---- Copies and scalars ------------------------------------------------------------------------------------------------ */

Test(reads, a_copy_has_every_byte_and_what_has_no_room_is_left_out, .init = with_daemon, .fini = without_daemon) {
  warm_memory memory = memory_of_text("copied", 3);
  char* const content = bytes_of(100000, 4);
  memory_set_content(&memory, content, 100000);
  must_put(&memory);
  float embedding[TEST_DIMENSIONS + 1];
  char* const bytes = room_of(100001);
  for (uint32_t flags = 0; flags < 4; ++flags) {
    for (int wanted = 0; wanted < 4; ++wanted) {
      memset(embedding, 0x55, sizeof embedding);
      memset(bytes, 0x55, 100001);
      warm_copy copy = WARM_COPY_INIT;
      if (wanted & 1) copy.embedding = embedding, copy.embedding_capacity = TEST_DIMENSIONS;
      if (wanted & 2) copy.content = bytes, copy.content_capacity = 100000;
      cr_assert_ok(warm_get_copy(client, "copied", 6, flags, &copy));
      cr_assert_eq(copy.dimensions, TEST_DIMENSIONS);
      cr_assert_eq(copy.content_bytes, 100000);
      cr_assert_eq(copy.content_state, WARM_CONTENT_PRESENT);
      cr_assert_eq(copy.created_ns, memory.created_ns);
      cr_assert_eq(copy.last_access_ns, memory.last_access_ns);
      cr_assert_eq(copy.confidence, memory.confidence);
      cr_assert_eq(copy.activation, memory.activation);
      cr_assert_eq(copy.decay_rate, memory.decay_rate);
      cr_assert_eq(copy.recall_count, memory.recall_count);
      if (wanted & 1) cr_assert_eq(memcmp(embedding, memory.embedding, sizeof(float) * TEST_DIMENSIONS), 0);
      if (wanted & 2) cr_assert_eq(memcmp(bytes, content, 100000), 0);
      cr_assert_eq(*(unsigned char*)&embedding[TEST_DIMENSIONS], 0x55);
      cr_assert_eq(bytes[100000], 0x55);
    }
  }
}

Test(reads, a_copy_with_too_little_room_says_how_much_it_takes, .init = with_daemon, .fini = without_daemon) {
  warm_memory memory = memory_of_text("large", 3);
  memory_set_content(&memory, "0123456789", 10);
  must_put(&memory);
  float embedding[TEST_DIMENSIONS];
  char bytes[10];
  for (uint64_t room = 0; room <= 11; ++room) {
    memset(bytes, 0x55, sizeof bytes);
    warm_copy copy = WARM_COPY_INIT;
    copy.content = bytes;
    copy.content_capacity = room;
    const int code = warm_get_copy(client, "large", 5, 0, &copy);
    cr_assert_eq(code, room < 10 ? WARM_E_LIMIT : WARM_OK, "room for %d", (int)room);
    cr_assert_eq(copy.content_bytes, 10);
    cr_assert_eq(copy.dimensions, TEST_DIMENSIONS);
    if (room < 10) {
      cr_assert_eq(bytes[0], 0x55, "it was copied in part");
      cr_assert_not_null(strstr(warm_last_error(), "10 bytes"), "%s", warm_last_error());
    }
  }
  for (uint32_t room = TEST_DIMENSIONS - 1; room <= TEST_DIMENSIONS + 1; ++room) {
    warm_copy copy = WARM_COPY_INIT;
    copy.embedding = embedding;
    copy.embedding_capacity = room;
    cr_assert_eq(warm_get_copy(client, "large", 5, 0, &copy), room < TEST_DIMENSIONS ? WARM_E_LIMIT : WARM_OK);
    if (room < TEST_DIMENSIONS) cr_assert_not_null(strstr(warm_last_error(), "16 dimensions"), "%s", warm_last_error());
  }
}

Test(reads, copies_and_scalars_check_their_arguments, .init = with_daemon, .fini = without_daemon) {
  warm_memory memory = memory_of_text("there", 3);
  must_put(&memory);
  warm_copy copy = WARM_COPY_INIT;
  warm_scalars scalars = WARM_SCALARS_INIT;
  cr_assert_code(warm_get_copy(NULL, "there", 5, 0, &copy), WARM_E_INVALID);
  cr_assert_code(warm_get_copy(client, NULL, 5, 0, &copy), WARM_E_INVALID);
  cr_assert_code(warm_get_copy(client, "there", 0, 0, &copy), WARM_E_INVALID);
  cr_assert_code(warm_get_copy(client, "there", 1025, 0, &copy), WARM_E_LIMIT);
  cr_assert_code(warm_get_copy(client, "there", 5, 4, &copy), WARM_E_INVALID);
  cr_assert_code(warm_get_copy(client, "there", 5, 0, NULL), WARM_E_INVALID);
  cr_assert_code(warm_get_copy(client, "not there", 9, 0, &copy), WARM_E_NOT_FOUND);
  copy.reserved[1] = 1;
  cr_assert_code(warm_get_copy(client, "there", 5, 0, &copy), WARM_E_INVALID);
  copy = (warm_copy)WARM_COPY_INIT;
  copy.struct_bytes = 8;
  cr_assert_code(warm_get_copy(client, "there", 5, 0, &copy), WARM_E_INVALID);
  cr_assert_code(warm_scalars_get(NULL, "there", 5, &scalars), WARM_E_INVALID);
  cr_assert_code(warm_scalars_get(client, NULL, 5, &scalars), WARM_E_INVALID);
  cr_assert_code(warm_scalars_get(client, "there", 1025, &scalars), WARM_E_LIMIT);
  cr_assert_code(warm_scalars_get(client, "there", 5, NULL), WARM_E_INVALID);
  cr_assert_code(warm_scalars_get(client, "not there", 9, &scalars), WARM_E_NOT_FOUND);
  scalars.struct_bytes = 0;
  cr_assert_code(warm_scalars_get(client, "there", 5, &scalars), WARM_E_INVALID);
}

Test(reads, scalars_are_those_of_the_record, .init = with_daemon, .fini = without_daemon) {
  warm_memory memory = memory_of_text("scalars", 3);
  memory_set_content(&memory, "", 0);
  uint64_t sequence = 0;
  cr_assert_ok(warm_put(client, &memory, &sequence));
  warm_scalars scalars = WARM_SCALARS_INIT;
  cr_assert_ok(warm_scalars_get(client, "scalars", 7, &scalars));
  cr_assert_eq(scalars.sequence, sequence);
  cr_assert_eq(scalars.content_state, WARM_CONTENT_PRESENT);
  cr_assert_eq(scalars.content_bytes, 0);
  cr_assert_eq(scalars.created_ns, memory.created_ns);
  cr_assert_eq(scalars.last_access_ns, memory.last_access_ns);
  cr_assert_eq(scalars.confidence, memory.confidence);
  cr_assert_eq(scalars.activation, memory.activation);
  cr_assert_eq(scalars.decay_rate, memory.decay_rate);
  cr_assert_eq(scalars.recall_count, memory.recall_count);
}
