/* What the examples do about errors: they say the library's sentence and end. A real program decides by the code. */
#ifndef WARMTIER_EXAMPLES_EXAMPLE_H
#define WARMTIER_EXAMPLES_EXAMPLE_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <warmtier/warmtier.h>

#define MUST(call)                                                                        \
  do {                                                                                    \
    const int code_ = (call);                                                             \
    if (code_ != WARM_OK) {                                                               \
      fprintf(stderr, "%s: %s (%s)\n", #call, warm_last_error(), warm_error_name(code_)); \
      exit(1);                                                                            \
    }                                                                                     \
  } while (0)

/* A memory with this id and text; text NULL: no content, which is not empty content. The pointers are the caller's. */
static inline warm_memory example_memory(const char* id, const char* text, const float* embedding, uint32_t dimensions) {
  warm_memory memory = WARM_MEMORY_INIT;
  memory.id = id;
  memory.id_bytes = strlen(id);
  memory.embedding = embedding;
  memory.dimensions = dimensions;
  if (text != NULL) {
    memory.given |= WARM_GIVEN_CONTENT;
    memory.content = text;
    memory.content_bytes = strlen(text);
  }
  return memory;
}

#endif
