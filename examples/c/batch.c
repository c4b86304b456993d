/* Many at once: puts and removals in order, with one result each.
 *
 * Prints:
 *   0: WARM_OK
 *   1: WARM_OK
 *   2: WARM_E_INVALID
 *   3: WARM_OK
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
  for (int i = 0; i < COUNT; ++i) ids[i] = (warm_id){names[i], strlen(names[i])};
  MUST(warm_remove_many(client, ids, COUNT, 0, results));
  printf("removed:");
  for (int i = 0; i < COUNT; ++i) printf(" %s", warm_error_name(results[i].code));
  puts("");
  return warm_close(client);
}
