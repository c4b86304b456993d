/* What goes in comes out, byte for byte, also after a restart of the daemon. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/abi/memories.h"

TestSuite(round_trips, .timeout = 300);

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* Each text is the content of one memory and, when it can be, the id of another. */
static void round_trip_texts(const char* const* texts, const size_t* lengths, size_t count) {
  warm_memory* memories = room_of(2 * count * sizeof *memories);
  size_t used = 0;
  for (size_t i = 0; i < count; ++i) {
    const size_t length = lengths != NULL ? lengths[i] : strlen(texts[i]);
    char id[32];
    snprintf(id, sizeof id, "content %zu", i);
    memories[used] = memory_of_text(id, (uint32_t)i);
    memory_set_content(&memories[used++], texts[i], length);
    if (length >= 1 && length <= WARM_ID_BYTES_MAX) {
      memories[used] = memory_of(texts[i], length, 1000 + (uint32_t)i);
      memory_set_content(&memories[used++], texts[i], length);
    }
  }
  round_trip(memories, used);
}

Test(round_trips, short_long_unicode_empty_and_special_content_comes_back) {
  char* const prose = room_of(20001);
  for (size_t i = 0; i < 20000; ++i) prose[i] = (char)(' ' + i % 95);
  prose[20000] = '\0';
  const char* const texts[] = {
      "x",
      "a short note",
      prose,
      "Gr\xC3\xBC\xC3\x9F"
      "e, \xE4\xB8\x96\xE7\x95\x8C, \xD0\xBC\xD0\xB8\xD1\x80, \xF0\x9F\xA7\xA0",
      "",
      "tab\t newline\n return\r quote\" apostrophe' backslash\\ slash/ percent%s%n {}[]<>&;|`$(true) \x01\x02\x1B[31m\x7F",
      "../../etc/passwd",
  };
  round_trip_texts(texts, NULL, COUNT(texts));
}

Test(round_trips, several_memories_do_not_mix) {
  enum { kMemories = 60 };
  static warm_memory memories[kMemories];
  for (uint32_t i = 0; i < kMemories; ++i) {
    char id[32];
    snprintf(id, sizeof id, "memory %u", i);
    memories[i] = memory_of_text(id, i);
    if (i % 3 != 0) memory_set_content(&memories[i], bytes_of(i * 37, i), i * 37);
  }
  round_trip(memories, kMemories);
}

Test(round_trips, one_of_several_memories_changes_alone) {
  support_daemon* daemon = support_daemon_start(TEST_DIMENSIONS, 4096, 0);
  warm_client* client = support_daemon_open(daemon);
  warm_memory memories[5];
  static const char* const ids[5] = {"a", "ab", "abc", "b", "A"};
  for (uint32_t i = 0; i < 5; ++i) {
    memories[i] = memory_of_text(ids[i], i);
    memory_set_content(&memories[i], ids[i], strlen(ids[i]));
    cr_assert_ok(warm_put(client, &memories[i], NULL));
  }
  memories[1] = memory_of_text(ids[1], 77);
  memory_set_content(&memories[1], "changed", 7);
  cr_assert_ok(warm_put(client, &memories[1], NULL));
  cr_assert_ok(warm_remove(client, ids[3], 1, WARM_IF_ANY, 0, 0, NULL));
  for (int life = 0; life < 3; ++life) {
    for (uint32_t i = 0; i < 5; ++i) {
      if (i == 3) {
        warm_view view = WARM_VIEW_INIT;
        cr_assert_code(warm_get(client, ids[i], 1, 0, &view), WARM_E_NOT_FOUND);
        cr_assert_code(warm_exists(client, ids[i], 1), WARM_E_NOT_FOUND);
      } else {
        const char* differs = memory_differs(client, &memories[i]);
        cr_assert_null(differs, "life %d, memory %u: %s", life, i, differs);
      }
    }
    if (life == 0) support_daemon_stop_and_start(daemon);
    if (life == 1) support_daemon_kill_and_start(daemon);
  }
  cr_assert_ok(warm_close(client));
  support_daemon_free(daemon);
}

Test(round_trips, content_of_10_kb_1_mib_and_63_mib_comes_back) {
  static const size_t sizes[] = {10000, 1u << 20, 63u << 20};
  warm_memory memories[COUNT(sizes)];
  for (uint32_t i = 0; i < COUNT(sizes); ++i) {
    char id[32];
    snprintf(id, sizeof id, "large %u", i);
    memories[i] = memory_of_text(id, i);
    memory_set_content(&memories[i], bytes_of(sizes[i], i + 5), sizes[i]);
  }
  round_trip(memories, COUNT(sizes));
}

Test(round_trips, absent_content_is_not_empty_content) {
  warm_memory memories[3];
  memories[0] = memory_of_text("absent", 1);
  memories[1] = memory_of_text("empty", 2);
  memory_set_content(&memories[1], NULL, 0);
  memories[2] = memory_of_text("empty, with a pointer", 3);
  memory_set_content(&memories[2], "", 0);
  round_trip(memories, COUNT(memories));
}

Test(round_trips, content_of_a_hundred_sizes_comes_back) {
  enum { kSizes = 100 };
  static warm_memory memories[kSizes];
  /* Around every boundary that matters: words, cache lines, pages, the lane, a quarter of a segment, a segment. */
  static const size_t around[] = {0, 8, 64, 256, 4096, 65536 - TEST_DIMENSIONS * 4 - 8, 65536, 262144, 1u << 20, 2u << 20};
  size_t used = 0;
  for (size_t i = 0; i < COUNT(around); ++i) {
    for (int step = -5; step < 5; ++step) {
      const size_t bytes = around[i] == 0 ? (size_t)(step + 5) : around[i] + (size_t)(step + 5) - 5;
      char id[32];
      snprintf(id, sizeof id, "size %zu", used);
      memories[used] = memory_of_text(id, (uint32_t)used);
      memory_set_content(&memories[used], bytes_of(bytes, (uint32_t)used), bytes);
      ++used;
    }
  }
  cr_assert_eq(used, kSizes);
  round_trip(memories, used);
}

#define TEXT(literal) literal
#define LENGTH(literal) (sizeof(literal) - 1)

Test(round_trips, utf8_at_its_edges_and_invalid_utf8_are_kept_byte_for_byte) {
#define EDGES(X)                                                                \
  X("\x7F")                                                                     \
  X("\xC2\x80")                                                                 \
  X("\xDF\xBF")                                                                 \
  X("\xE0\xA0\x80")                                                             \
  X("\xED\x9F\xBF")                                                             \
  X("\xEE\x80\x80")                                                             \
  X("\xEF\xBF\xBF")                                                             \
  X("\xF0\x90\x80\x80")                                                         \
  X("\xF4\x8F\xBF\xBF")                                                         \
  X("\xEF\xBB\xBF with a byte order mark")                                      \
  X("e\xCC\x81 is not \xC3\xA9")                                                \
  X("\xE2\x80\xAE right to left")                                               \
  X("\xF0\x9F\x91\xA9\xE2\x80\x8D\xF0\x9F\x91\xA9\xE2\x80\x8D\xF0\x9F\x91\xA7") \
  X("zero\0inside")                                                             \
  X("\0")                                                                       \
  X("\x80")                                                                     \
  X("\xC2")                                                                     \
  X("\xC0\x80")                                                                 \
  X("\xC0\xAF")                                                                 \
  X("\xE0\x80\xAF")                                                             \
  X("\xED\xA0\x80")                                                             \
  X("\xED\xA0\x80\xED\xB0\x80")                                                 \
  X("\xF4\x90\x80\x80")                                                         \
  X("\xF8\x88\x80\x80\x80")                                                     \
  X("\xFE\xFF")                                                                 \
  X("ends early \xE2\x82")
#define AS_TEXT(literal) TEXT(literal),
#define AS_LENGTH(literal) LENGTH(literal),
  static const char* const texts[] = {EDGES(AS_TEXT)};
  static const size_t lengths[] = {EDGES(AS_LENGTH)};
  round_trip_texts(texts, lengths, COUNT(texts));
}

Test(round_trips, ids_that_differ_in_one_byte_or_in_length_are_different) {
  static warm_memory memories[256 + 4];
  size_t used = 0;
  for (unsigned value = 0; value < 256; ++value) {
    const unsigned char id[3] = {'i', (unsigned char)value, 'd'};
    memories[used++] = memory_of(id, 3, value);
  }
  static const unsigned char zeros[4] = {0, 0, 0, 0};
  for (size_t bytes = 1; bytes <= 4; ++bytes) memories[used++] = memory_of(zeros, bytes, 300 + (uint32_t)bytes);
  round_trip(memories, used);
}
