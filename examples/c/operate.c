/* Operating: numbers of the daemon, who is attached, and a checkpoint.
 *
 * Prints:
 *   a record at least: yes
 *   this process holds 1 view
 *   everything that was visible is on the device: yes */
#include <unistd.h>

#include "example.h"

int main(void) {
  warm_client* client;
  MUST(warm_open(NULL, &client));
  const float embedding[4] = {4, 3, 2, 1};
  const warm_memory memory = example_memory("operate:one", "held", embedding, 4);
  uint64_t sequence = 0;
  MUST(warm_put(client, &memory, &sequence));
  warm_stats stats = WARM_STATS_INIT;
  MUST(warm_stats_get(client, &stats));
  printf("a record at least: %s\n", stats.records > 0 ? "yes" : "no");

  warm_view view = WARM_VIEW_INIT;
  MUST(warm_get(client, "operate:one", 11, 0, &view));
  warm_info info = WARM_INFO_INIT;
  MUST(warm_info_get(client, &info));
  warm_session sessions[64];
  size_t count = 0;
  MUST(warm_sessions(client, sizeof sessions[0], sessions, 64, &count));
  for (size_t i = 0; i < count && i < 64; ++i) {
    if (sessions[i].session == info.session) printf("this process holds %u view\n", (unsigned)sessions[i].views);
  }
  MUST(warm_release(client, &view));

  uint64_t durable = 0;
  MUST(warm_checkpoint(client, &durable)); /* for administrators; the daemon also does it by itself every few seconds */
  printf("everything that was visible is on the device: %s\n", durable >= sequence ? "yes" : "no");
  return warm_close(client);
}
