/* Recall: the records nearest to a vector, in place; a filter; several queries in one pass over memory.
 *
 * Prints:
 *   nearest: east (1.00), north-east (0.71)
 *   nearest whose ids begin with recall:n: north-east (0.71), north (0.00)
 *   nearest to each: east, north */
#include "example.h"

static void show(const char* what, const warm_hit* hits, size_t count) {
  printf("%s:", what);
  for (size_t i = 0; i < count; ++i) {
    printf("%s %.*s (%.2f)", i == 0 ? "" : ",", (int)hits[i].view.content_bytes, (const char*)hits[i].view.content,
           hits[i].score);
  }
  printf("\n");
}

int main(void) {
  warm_client* client;
  MUST(warm_open(NULL, &client));
  const float east[4] = {1, 0, 0, 0};
  const float north[4] = {0, 1, 0, 0};
  const float between[4] = {1, 1, 0, 0};
  warm_memory memory = example_memory("recall:e", "east", east, 4);
  MUST(warm_put(client, &memory, NULL));
  memory = example_memory("recall:n", "north", north, 4);
  MUST(warm_put(client, &memory, NULL));
  memory = example_memory("recall:ne", "north-east", between, 4);
  MUST(warm_put(client, &memory, NULL));

  /* Best first. Each hit is a view: what it points to stays what it is until it is released. */
  warm_filter filter = WARM_FILTER_INIT;
  filter.id_prefix = "recall:";
  filter.id_prefix_bytes = 7;
  warm_query query = WARM_QUERY_INIT;
  query.embedding = east;
  query.dimensions = 4;
  query.limit = 2;
  query.filter = &filter;
  warm_hit hits[2];
  size_t count;
  MUST(warm_recall(client, &query, hits, &count, NULL));
  show("nearest", hits, count);
  MUST(warm_hits_release(client, hits, count));

  filter.id_prefix = "recall:n";
  filter.id_prefix_bytes = 8;
  MUST(warm_recall(client, &query, hits, &count, NULL));
  show("nearest whose ids begin with recall:n", hits, count);
  MUST(warm_hits_release(client, hits, count));

  /* The hits of the second query begin behind the room for those of the first. */
  filter.id_prefix_bytes = 7;
  query.limit = 1;
  warm_query queries[2] = {query, query};
  queries[1].embedding = north;
  size_t counts[2];
  MUST(warm_recall_many(client, queries, 2, hits, counts, NULL));
  printf("nearest to each: %.*s, %.*s\n", (int)hits[0].view.content_bytes, (const char*)hits[0].view.content,
         (int)hits[1].view.content_bytes, (const char*)hits[1].view.content);
  MUST(warm_hits_release(client, hits, 2));
  return warm_close(client);
}
