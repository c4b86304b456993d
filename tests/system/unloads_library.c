/* Loads the library by its path, opens everything, unloads it, and goes on with what it has.
 *
 * usage: unloads_library LIBRARY SOCKET ID */
#include <dlfcn.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "warmtier/warmtier.h"

#define CHECK(condition)                                           \
  do {                                                             \
    if (!(condition)) {                                            \
      printf("line %d: %s does not hold\n", __LINE__, #condition); \
      fflush(stdout);                                              \
      _exit(1);                                                    \
    }                                                              \
  } while (0)

/* Everything that is used, by the names of the header. */
static struct {
  __typeof__(&warm_open) open;
  __typeof__(&warm_close) close;
  __typeof__(&warm_get) get;
  __typeof__(&warm_release) release;
  __typeof__(&warm_view_check) view_check;
  __typeof__(&warm_cursor_open) cursor_open;
  __typeof__(&warm_cursor_close) cursor_close;
  __typeof__(&warm_remove_submit) remove_submit;
  __typeof__(&warm_ticket_wait) ticket_wait;
  __typeof__(&warm_exists) exists;
} library;

static void load(void* handle) {
#define FIND(name) CHECK((*(void**)& library.name = dlsym(handle, "warm_" #name)) != NULL)
  FIND(open);
  FIND(close);
  FIND(get);
  FIND(release);
  FIND(view_check);
  FIND(cursor_open);
  FIND(cursor_close);
  FIND(remove_submit);
  FIND(ticket_wait);
  FIND(exists);
}

static warm_client* client;
static const char* id;
static sem_t used;
static sem_t unloaded;

/* A thread that the library knows, and that ends when the library was unloaded. */
static void* outlives(void* unused) {
  (void)unused;
  CHECK(library.exists(client, id, strlen(id)) == WARM_OK);
  sem_post(&used);
  sem_wait(&unloaded);
  return NULL;
}

int main(int argc, char** argv) {
  CHECK(argc == 4);
  id = argv[3];
  void* handle = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
  if (handle == NULL) printf("%s\n", dlerror());
  CHECK(handle != NULL);
  load(handle);
  warm_options options = WARM_OPTIONS_INIT;
  options.socket = argv[2];
  CHECK(library.open(&options, &client) == WARM_OK);
  warm_view view = WARM_VIEW_INIT;
  warm_cursor* cursor = NULL;
  warm_ticket ticket = 0;
  CHECK(library.get(client, id, strlen(id), 0, &view) == WARM_OK);
  CHECK(library.cursor_open(client, NULL, &cursor) == WARM_OK);
  CHECK(library.remove_submit(client, "nothing", 7, WARM_IF_ANY, 0, 0, &ticket) == WARM_OK);
  char* before = malloc(view.id_bytes);
  CHECK(before != NULL);
  memcpy(before, view.id, view.id_bytes);
  sem_init(&used, 0, 0);
  sem_init(&unloaded, 0, 0);
  pthread_t thread;
  CHECK(pthread_create(&thread, NULL, outlives, NULL) == 0);
  sem_wait(&used);

  CHECK(dlclose(handle) == 0);
  sem_post(&unloaded);
  CHECK(pthread_join(thread, NULL) == 0);
  CHECK(memcmp(before, view.id, view.id_bytes) == 0);
  const pid_t child = fork();
  if (child == 0) exit(0); /* with all exit handlers */
  int status = 0;
  CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);

  /* Loaded again, it is the same one, and knows what it had. */
  handle = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
  CHECK(handle != NULL);
  load(handle);
  uint32_t state = 99;
  warm_result result = {0};
  CHECK(library.view_check(client, &view, &state) == WARM_OK && state == WARM_VIEW_CURRENT);
  CHECK(library.ticket_wait(client, ticket, 20000, &result) == WARM_OK && result.code == WARM_E_NOT_FOUND);
  CHECK(library.cursor_close(cursor) == WARM_OK);
  CHECK(library.release(client, &view) == WARM_OK);
  CHECK(library.close(client) == WARM_OK);

  /* And once more, with a client that nobody closes. */
  CHECK(library.open(&options, &client) == WARM_OK);
  CHECK(library.get(client, id, strlen(id), 0, &view) == WARM_OK);
  CHECK(dlclose(handle) == 0);
  free(before);
  return 0;
}
