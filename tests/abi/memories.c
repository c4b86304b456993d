#include "tests/abi/memories.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint32_t next(uint32_t* state) {
  *state = *state * 1664525u + 1013904223u;
  return *state >> 8;
}

void* room_of(size_t bytes) {
  static void** kept;
  static size_t count;
  kept = realloc(kept, (count + 1) * sizeof *kept);
  kept[count] = calloc(bytes, 1);
  return kept[count++];
}

void* bytes_of(size_t bytes, uint32_t seed) {
  unsigned char* made = room_of(bytes + 1);
  uint32_t state = seed;
  for (size_t i = 0; i < bytes; ++i) made[i] = (unsigned char)(i < 256 ? i : next(&state));
  return made;
}

warm_memory memory_of(const void* id, size_t id_bytes, uint32_t seed) {
  uint32_t state = seed * 2654435761u + 1;
  float* embedding = room_of(TEST_DIMENSIONS * sizeof(float));
  for (uint32_t i = 0; i < TEST_DIMENSIONS; ++i) embedding[i] = (float)next(&state) / 65536.0f - 128.0f;
  void* own_id = room_of(id_bytes + 1);
  memcpy(own_id, id, id_bytes);

  warm_memory memory = WARM_MEMORY_INIT;
  memory.id = own_id;
  memory.id_bytes = id_bytes;
  memory.embedding = embedding;
  memory.dimensions = TEST_DIMENSIONS;
  memory.given = WARM_GIVEN_CREATED | WARM_GIVEN_LAST_ACCESS;
  memory.created_ns = 1000000000000000000u + next(&state);
  memory.last_access_ns = 1700000000000000000u + next(&state);
  memory.confidence = (float)next(&state) / 16777216.0f;
  memory.activation = -(float)next(&state) / 16777216.0f;
  memory.decay_rate = (float)next(&state);
  memory.recall_count = next(&state);
  return memory;
}

warm_memory memory_of_text(const char* id, uint32_t seed) { return memory_of(id, strlen(id), seed); }

void memory_set_content(warm_memory* memory, const void* content, size_t content_bytes) {
  memory->given |= WARM_GIVEN_CONTENT;
  memory->content = content;
  memory->content_bytes = content_bytes;
}

const char* memory_view_differs(const warm_memory* memory, const warm_view* view) {
  if (view->id_bytes != memory->id_bytes) return "id length";
  if (memcmp(view->id, memory->id, memory->id_bytes) != 0) return "id";
  if (view->dimensions != memory->dimensions) return "dimensions";
  if ((uintptr_t)view->embedding % 64 != 0) return "alignment of the embedding";
  if (memcmp(view->embedding, memory->embedding, memory->dimensions * sizeof(float)) != 0) return "embedding";
  for (uint32_t i = memory->dimensions; i % 16 != 0; ++i) {
    if (view->embedding[i] != 0.0f) return "padding of the embedding";
  }
  if (memory->given & WARM_GIVEN_CONTENT) {
    if (view->content_state != WARM_CONTENT_PRESENT) return "content is absent";
    if (view->content == NULL) return "content is NULL";
    if (view->content_bytes != memory->content_bytes) return "content length";
    if (memory->content_bytes != 0 && memcmp(view->content, memory->content, memory->content_bytes) != 0) return "content";
  } else {
    if (view->content_state != WARM_CONTENT_ABSENT) return "content is there";
    if (view->content != NULL || view->content_bytes != 0) return "absent content has bytes";
  }
  if (view->created_ns != memory->created_ns) return "created";
  if (view->last_access_ns != memory->last_access_ns) return "last access";
  if (view->confidence != memory->confidence) return "confidence";
  if (view->activation != memory->activation) return "activation";
  if (view->decay_rate != memory->decay_rate) return "decay rate";
  if (view->recall_count != memory->recall_count) return "recall count";
  if (view->sequence == 0) return "sequence";
  return NULL;
}

const char* memory_differs(warm_client* client, const warm_memory* memory) {
  warm_view view = WARM_VIEW_INIT;
  const int code = warm_get(client, memory->id, memory->id_bytes, 0, &view);
  if (code != WARM_OK) return warm_last_error();
  const char* differs = memory_view_differs(memory, &view);
  if (warm_release(client, &view) != WARM_OK) return "release failed";
  return differs;
}

static void look(const char* when, warm_client* client, const warm_memory* memories, size_t count) {
  for (size_t i = 0; i < count; ++i) {
    const char* differs = memory_differs(client, &memories[i]);
    cr_assert_null(differs, "%s: memory %zu: %s", when, i, differs);
  }
}

static void look_twice(const char* when, support_daemon* daemon, warm_client* writer, const warm_memory* memories, size_t count) {
  char text[96];
  snprintf(text, sizeof text, "%s, the writer", when);
  look(text, writer, memories, count);
  warm_client* fresh = support_daemon_open(daemon);
  snprintf(text, sizeof text, "%s, a fresh client", when);
  look(text, fresh, memories, count);
  cr_assert_ok(warm_close(fresh));
}

void round_trip(const warm_memory* memories, size_t count) {
  support_daemon* daemon = support_daemon_start(TEST_DIMENSIONS, 4096, 0);
  warm_client* writer = support_daemon_open(daemon);
  for (size_t i = 0; i < count; ++i) {
    uint64_t sequence = 0;
    cr_assert_ok(warm_put(writer, &memories[i], &sequence));
    cr_assert_gt(sequence, 0);
  }
  look_twice("at once", daemon, writer, memories, count);
  support_daemon_stop_and_start(daemon);
  look_twice("after a stop", daemon, writer, memories, count);
  support_daemon_kill_and_start(daemon);
  look_twice("after a kill", daemon, writer, memories, count);
  cr_assert_ok(warm_close(writer));
  support_daemon_free(daemon);
}
