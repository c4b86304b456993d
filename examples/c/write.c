/* Writing: put, put under a condition, remove.
 *
 * Prints:
 *   stored
 *   absent only: WARM_E_EXISTS
 *   replaced what was read: WARM_OK
 *   replaced what is no longer there: WARM_E_CHANGED
 *   removed
 *   now: WARM_E_NOT_FOUND */
#include "example.h"

int main(void) {
  warm_client* client;
  MUST(warm_open(NULL, &client)); /* $WARMTIER_SOCKET, or where the daemon usually is */
  const float embedding[4] = {1, 0, 0, 0};

  uint64_t first = 0;
  warm_memory memory = example_memory("write:one", "the first version", embedding, 4);
  memory.confidence = 0.75f;
  MUST(warm_put(client, &memory, &first)); /* every process sees it now */
  puts("stored");

  memory.condition = WARM_IF_ABSENT;
  printf("absent only: %s\n", warm_error_name(warm_put(client, &memory, NULL)));

  /* Compare and swap: replace the very record whose sequence is known. */
  memory = example_memory("write:one", "the second version", embedding, 4);
  memory.condition = WARM_IF_SEQUENCE;
  memory.if_sequence = first;
  printf("replaced what was read: %s\n", warm_error_name(warm_put(client, &memory, NULL)));
  printf("replaced what is no longer there: %s\n", warm_error_name(warm_put(client, &memory, NULL)));

  MUST(warm_remove(client, "write:one", 9, WARM_IF_ANY, 0, 0, NULL));
  puts("removed");
  printf("now: %s\n", warm_error_name(warm_exists(client, "write:one", 9)));
  return warm_close(client);
}
