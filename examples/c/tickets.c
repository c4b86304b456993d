/* Tickets: puts that nobody waits for one by one, harvested when a descriptor says that answers are there.
 *
 * Prints:
 *   100 handed in
 *   100 stored
 *   a put of what is there: WARM_E_EXISTS */
#include <sys/epoll.h>
#include <unistd.h>

#include "example.h"

#define COUNT 100

/* Harvests until so many answers came; gives the number of those that are WARM_OK. */
static int harvest(warm_client* client, int epoll, int count) {
  int good = 0;
  while (count > 0) {
    warm_completion done[16];
    size_t got = 0;
    MUST(warm_completions(client, done, 16, &got));
    for (size_t i = 0; i < got; ++i) good += done[i].result.code == WARM_OK;
    count -= (int)got;
    /* None was there, which armed the descriptor: it is safe to wait for it. */
    struct epoll_event event;
    if (got == 0 && count > 0 && epoll_wait(epoll, &event, 1, -1) < 0) exit(1);
  }
  return good;
}

int main(void) {
  warm_client* client;
  MUST(warm_open(NULL, &client));
  int answers;
  MUST(warm_completion_fd(client, &answers)); /* the library's: it is watched, not read and not closed */
  const int epoll = epoll_create1(EPOLL_CLOEXEC);
  struct epoll_event event = {.events = EPOLLIN};
  if (epoll < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, answers, &event) != 0) return 1;

  const float embedding[4] = {0, 0, 0, 1};
  for (int i = 0; i < COUNT; ++i) {
    char id[32];
    snprintf(id, sizeof id, "tickets:%d", i);
    const warm_memory memory = example_memory(id, "handed in", embedding, 4);
    warm_ticket ticket;
    MUST(warm_put_submit(client, &memory, &ticket)); /* everything is copied: id and embedding may change now */
  }
  printf("%d handed in\n", COUNT);
  printf("%d stored\n", harvest(client, epoll, COUNT));

  /* One ticket can also be waited for. */
  warm_memory memory = example_memory("tickets:0", "again", embedding, 4);
  memory.condition = WARM_IF_ABSENT;
  warm_ticket ticket;
  MUST(warm_put_submit(client, &memory, &ticket));
  warm_result result;
  MUST(warm_ticket_wait(client, ticket, 5000, &result));
  printf("a put of what is there: %s\n", warm_error_name(result.code));
  close(epoll);
  return warm_close(client);
}
