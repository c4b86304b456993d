/* Order and change: a second process waits until something newer is visible and reads what changed.
 *
 * Prints:
 *   put changes:one
 *   replace changes:one
 *   remove changes:one */
#include <sys/wait.h>
#include <unistd.h>

#include "example.h"

/* A child of fork: the same client attaches by itself. */
static int writer(warm_client* client) {
  const float embedding[4] = {1, 2, 3, 4};
  const warm_memory memory = example_memory("changes:one", "anything", embedding, 4);
  MUST(warm_put(client, &memory, NULL));
  MUST(warm_put(client, &memory, NULL));
  MUST(warm_remove(client, "changes:one", 11, WARM_IF_ANY, 0, 0, NULL));
  return 0;
}

int main(void) {
  static const char* const kinds[] = {"", "put", "replace", "remove", "update", "move"};
  warm_client* client;
  MUST(warm_open(NULL, &client));
  uint64_t after = 0;
  MUST(warm_sequence_get(client, &after));
  fflush(stdout);
  const pid_t child = fork();
  if (child < 0) return 1;
  if (child == 0) _exit(writer(client));

  int seen = 0;
  while (seen < 3) {
    MUST(warm_wait(client, after, 10000, NULL)); /* asleep until there is something newer */
    warm_change changes[16];
    char ids[16 * WARM_ID_BYTES_MAX];
    size_t count = 0;
    MUST(warm_changes(client, after, sizeof changes[0], changes, 16, ids, sizeof ids, &count));
    for (size_t i = 0; i < count; ++i, ++seen) {
      printf("%s %.*s\n", kinds[changes[i].kind], (int)changes[i].id_bytes, (const char*)changes[i].id);
      after = changes[i].sequence;
    }
  }
  int status = 0;
  if (waitpid(child, &status, 0) != child || status != 0) return 1;
  return warm_close(client);
}
