#include "tests/support/support.h"

#include "tests/support/daemon.hpp"

struct support_daemon {
  explicit support_daemon(warmtier::tests::support::StoreOptions options) : daemon(std::move(options)) {}
  warmtier::tests::support::Daemon daemon;
};

extern "C" {

support_daemon* support_daemon_start(uint32_t dimensions, uint64_t capacity, uint64_t content_bytes_max) {
  warmtier::tests::support::StoreOptions options;
  options.dimensions = dimensions;
  options.capacity = capacity;
  options.content_bytes_max = content_bytes_max;
  auto* made = new support_daemon(std::move(options));
  made->daemon.start();
  return made;
}
void support_daemon_stop_and_start(support_daemon* daemon) { daemon->daemon.stop_and_start(); }
void support_daemon_kill_and_start(support_daemon* daemon) { daemon->daemon.restart(); }
void support_daemon_kill(support_daemon* daemon) { daemon->daemon.kill(); }
void support_daemon_run(support_daemon* daemon) { daemon->daemon.start(); }
const char* support_daemon_socket(const support_daemon* daemon) { return daemon->daemon.socket().c_str(); }
const char* support_daemon_store(const support_daemon* daemon) { return daemon->daemon.store().c_str(); }
int support_daemon_pid(const support_daemon* daemon) { return daemon->daemon.pid(); }
warm_client* support_daemon_open(const support_daemon* daemon) { return daemon->daemon.open(); }
void support_daemon_free(support_daemon* daemon) { delete daemon; }

}  // extern "C"
