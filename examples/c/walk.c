/* Walking: every record once, with a filter; ids and scalars only, or whole views; and a chunk of embeddings as one matrix.
 *
 * Prints:
 *   3 of 5 have content
 *   3 views, content: first third fifth
 *   5 embeddings in the chunks, their first numbers add up to 10 */
#include "example.h"

#define COUNT 5

int main(void) {
  warm_client* client;
  MUST(warm_open(NULL, &client));
  static const char* const texts[COUNT] = {"first", NULL, "third", NULL, "fifth"};
  for (int i = 0; i < COUNT; ++i) {
    char id[16];
    snprintf(id, sizeof id, "walk:%d", i);
    const float embedding[4] = {(float)i, 0, 0, 0};
    const warm_memory memory = example_memory(id, texts[i], embedding, 4);
    MUST(warm_put(client, &memory, NULL));
  }

  warm_filter filter = WARM_FILTER_INIT;
  filter.id_prefix = "walk:";
  filter.id_prefix_bytes = 5;

  /* The fast walk touches neither embedding nor content, and takes no view. */
  warm_cursor* cursor;
  MUST(warm_cursor_open(client, &filter, &cursor));
  warm_item items[64];
  size_t count = 0, seen = 0, present = 0;
  do {
    MUST(warm_cursor_next_items(cursor, sizeof items[0], items, 64, &count));
    for (size_t i = 0; i < count; ++i) present += items[i].content_state == WARM_CONTENT_PRESENT;
    seen += count;
  } while (count > 0);
  MUST(warm_cursor_close(cursor));
  printf("%zu of %zu have content\n", present, seen);

  filter.content = WARM_FILTER_CONTENT_PRESENT;
  uint64_t views_expected = 0;
  MUST(warm_count(client, &filter, &views_expected));
  const char* found[COUNT] = {NULL, NULL, NULL, NULL, NULL};
  MUST(warm_cursor_open(client, &filter, &cursor));
  warm_view views[2];
  for (;;) {
    for (int i = 0; i < 2; ++i) views[i] = (warm_view)WARM_VIEW_INIT;
    MUST(warm_cursor_next(cursor, 0, views, 2, &count));
    if (count == 0) break;
    for (size_t i = 0; i < count; ++i) {
      const int number = ((const char*)views[i].id)[5] - '0'; /* in no order */
      if (memcmp(views[i].content, texts[number], views[i].content_bytes) == 0) found[number] = texts[number];
      MUST(warm_release(client, &views[i]));
    }
  }
  MUST(warm_cursor_close(cursor));
  printf("%d views, content: %s %s %s\n", (int)views_expected, found[0], found[2], found[4]);

  /* In place, as a matrix: what changed while it was read is known afterwards. */
  uint64_t chunks = 0;
  MUST(warm_chunk_count(client, &chunks));
  size_t rows = 0;
  float sum = 0;
  for (uint64_t i = 0; i < chunks; ++i) {
    warm_chunk chunk = WARM_CHUNK_INIT;
    MUST(warm_chunk_open(client, i, &chunk));
    for (uint32_t row = 0; row < chunk.row_count; ++row) {
      if ((chunk.live[row / 64] >> row % 64 & 1) == 0) continue;
      warm_view view = WARM_VIEW_INIT;
      if (warm_chunk_view(client, &chunk, row, &view) != WARM_OK) continue; /* the row changed */
      if (view.id_bytes == 6 && memcmp(view.id, "walk:", 5) == 0) {
        sum += *(const float*)((const char*)chunk.rows + row * chunk.row_bytes);
        ++rows;
      }
      MUST(warm_release(client, &view));
    }
    MUST(warm_chunk_close(client, &chunk));
  }
  printf("%zu embeddings in the chunks, their first numbers add up to %g\n", rows, (double)sum);
  return warm_close(client);
}
