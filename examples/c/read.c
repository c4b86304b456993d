/* Reading: a view in place, what it shows, and whether it is still what the id names.
 *
 * Prints:
 *   the first version, 4 dimensions, current
 *   the first version, 4 dimensions, replaced
 *   no content is not empty content: 0 1
 *   close while a view is held: WARM_E_BUSY */
#include "example.h"

static void show(warm_client* client, const warm_view* view) {
  static const char* const states[] = {"current", "replaced", "removed"};
  uint32_t state = 0;
  MUST(warm_view_check(client, view, &state));
  printf("%.*s, %u dimensions, %s\n", (int)view->content_bytes, (const char*)view->content, view->dimensions, states[state]);
}

static uint32_t content_state(warm_client* client, const char* id) {
  warm_view view = WARM_VIEW_INIT;
  MUST(warm_get(client, id, strlen(id), 0, &view));
  const uint32_t state = view.content_state;
  MUST(warm_release(client, &view));
  return state;
}

int main(void) {
  warm_client* client;
  MUST(warm_open(NULL, &client));
  const float embedding[4] = {0, 1, 0, 0};
  warm_memory memory = example_memory("read:one", "the first version", embedding, 4);
  MUST(warm_put(client, &memory, NULL));

  /* The pointers go into the daemon's own memory: nothing was copied. */
  warm_view view = WARM_VIEW_INIT;
  MUST(warm_get(client, "read:one", 8, 0, &view));
  show(client, &view);

  /* A view stays what it is, whatever happens to the record. */
  memory = example_memory("read:one", "the second version", embedding, 4);
  MUST(warm_put(client, &memory, NULL));
  show(client, &view);

  memory = example_memory("read:absent", NULL, embedding, 4);
  MUST(warm_put(client, &memory, NULL));
  memory = example_memory("read:empty", "", embedding, 4);
  MUST(warm_put(client, &memory, NULL));
  printf("no content is not empty content: %u %u\n", content_state(client, "read:absent"), content_state(client, "read:empty"));

  printf("close while a view is held: %s\n", warm_error_name(warm_close(client)));
  MUST(warm_release(client, &view));
  return warm_close(client);
}
