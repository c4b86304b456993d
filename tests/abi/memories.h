/* Memories as a test expects them, and looking whether the store has them. */
#ifndef WARMTIER_TESTS_ABI_MEMORIES_H
#define WARMTIER_TESTS_ABI_MEMORIES_H

#include "tests/support/support.h"

#define TEST_DIMENSIONS 16u

/* Zeros that live, and are known of, until the process ends. */
void* room_of(size_t bytes);
/* A memory with this id, an embedding and scalars that follow from `seed`, and no content. Its memory lives until the process
 * ends. */
warm_memory memory_of(const void* id, size_t id_bytes, uint32_t seed);
warm_memory memory_of_text(const char* id, uint32_t seed);
void memory_set_content(warm_memory* memory, const void* content, size_t content_bytes);
/* `bytes` bytes that follow from `seed`, with every value among them. */
void* bytes_of(size_t bytes, uint32_t seed);

/* NULL when the client sees exactly this memory; else what differs, or the error. */
const char* memory_view_differs(const warm_memory* memory, const warm_view* view);
const char* memory_differs(warm_client* client, const warm_memory* memory);

/* Puts them, then looks at them: with the client that wrote, with a fresh one, and with both again after the daemon was stopped
 * in order and after it was killed. Judges by Criterion. */
void round_trip(const warm_memory* memories, size_t count);

#define cr_assert_ok(call) cr_assert_eq((call), WARM_OK, "%s: %s", #call, warm_last_error())
#define cr_assert_code(call, code)                                                                                        \
  do {                                                                                                                    \
    int got_code_ = (call);                                                                                               \
    cr_assert_eq(got_code_, (code), "%s: %s instead of %s: %s", #call, warm_error_name(got_code_), warm_error_name(code), \
                 warm_last_error());                                                                                      \
  } while (0)

#endif
