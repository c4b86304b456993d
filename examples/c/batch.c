/* Many at once: puts and removals in order with one result each, gets whose misses overlap, and scalars changed in place.
 *
 * Prints:
 *   0: WARM_OK
 *   1: WARM_OK
 *   2: WARM_E_INVALID
 *   3: WARM_OK
 *   got: batch:0 batch:1 - batch:3
 *   confidence 0.25, recalled 7 times
 *   removed: WARM_OK WARM_OK WARM_E_NOT_FOUND WARM_OK */
#include <math.h>

#include "example.h"

#define COUNT 4

int main(void) {
  warm_client* client;
  MUST(warm_open(NULL, &client));
  static const char* const names[COUNT] = {"batch:0", "batch:1", "batch:2", "batch:3"};
  const float good[4] = {1, 1, 1, 1};
  const float bad[4] = {1, NAN, 1, 1};

  warm_memory memories[COUNT];
  warm_result results[COUNT];
  for (int i = 0; i < COUNT; ++i) memories[i] = example_memory(names[i], "one of many", i == 2 ? bad : good, 4);
  MUST(warm_put_many(client, memories, COUNT, results));
  for (int i = 0; i < COUNT; ++i) printf("%d: %s\n", i, warm_error_name(results[i].code));

  warm_id ids[COUNT];
  warm_view views[COUNT];
  int32_t codes[COUNT];
  for (int i = 0; i < COUNT; ++i) {
    ids[i] = (warm_id){names[i], strlen(names[i])};
    views[i] = (warm_view)WARM_VIEW_INIT;
  }
  MUST(warm_get_many(client, ids, COUNT, 0, views, codes));
  printf("got:");
  for (int i = 0; i < COUNT; ++i) {
    if (codes[i] == WARM_OK) {
      printf(" %.*s", (int)views[i].id_bytes, (const char*)views[i].id);
      MUST(warm_release(client, &views[i]));
    } else {
      printf(" -");
    }
  }
  puts("");

  /* Scalars change in place: views of the record stay current. */
  warm_update update = WARM_UPDATE_INIT;
  update.id = names[0];
  update.id_bytes = strlen(names[0]);
  update.set = WARM_SET_CONFIDENCE | WARM_SET_RECALL_COUNT;
  update.confidence = 0.25f;
  update.recall_count = 7;
  MUST(warm_update_scalars(client, &update, NULL));
  warm_scalars scalars = WARM_SCALARS_INIT;
  MUST(warm_scalars_get(client, names[0], strlen(names[0]), &scalars));
  printf("confidence %g, recalled %u times\n", (double)scalars.confidence, scalars.recall_count);

  MUST(warm_remove_many(client, ids, COUNT, 0, results));
  printf("removed:");
  for (int i = 0; i < COUNT; ++i) printf(" %s", warm_error_name(results[i].code));
  puts("");
  return warm_close(client);
}
