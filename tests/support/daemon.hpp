// A store in a directory of its own and the daemon on it: started, stopped, killed and started again by a test.
#pragma once

#include <sys/types.h>

#include <memory>
#include <string>
#include <vector>

#include "tests/support/failpoints.hpp"
#include "tests/support/process.hpp"
#include "warmtier/warmtier.h"

namespace warmtier::tests::support {

struct StoreOptions {
  uint32_t dimensions = 16;
  uint64_t capacity = 65536;
  uint64_t segment_bytes = uint64_t{1} << 20;
  uint64_t content_bytes_max = 0;          // 0: the daemon's own
  uint64_t checkpoint_interval_ms = 0;     // 0: the daemon's own
  bool large_pages = false;
  std::vector<std::string> environment;    // of the daemon: NAME=VALUE
  bool failpoints = true;                  // a control file from the start
  bool made_by_daemon = false;             // nothing is there yet
  std::string existing_store;              // not a new store but this one; never with failpoints of its own
};

class Daemon {
 public:
  explicit Daemon(StoreOptions options = {});
  ~Daemon();  // the daemon is killed, the directory removed
  Daemon(const Daemon&) = delete;
  Daemon& operator=(const Daemon&) = delete;

  // Starts it and waits until it is ready; gives the test up when it ends instead.
  void start();
  // From the next start on by this program and its arguments (unshare, prlimit), which ends with the daemon.
  void launch_by(std::vector<std::string> launcher) { launcher_ = std::move(launcher); }
  // Starts it and does not wait: `wait_ready` or `process().wait()` comes later.
  void start_without_waiting();
  [[nodiscard]] bool wait_ready(const base::Deadline& deadline);  // false at the deadline or when it ends
  Process::End stop();                                            // SIGTERM, and its end
  void kill();                                                    // SIGKILL, and its end
  void restart();                                                 // kill, start
  void stop_and_start();

  [[nodiscard]] Process& process() noexcept { return process_; }
  [[nodiscard]] pid_t pid() const noexcept { return process_.pid(); }
  [[nodiscard]] const std::string& directory() const noexcept { return directory_; }  // of the test: removed at the end
  [[nodiscard]] const std::string& store() const noexcept { return store_; }
  [[nodiscard]] const std::string& socket() const noexcept { return socket_; }
  [[nodiscard]] const StoreOptions& options() const noexcept { return options_; }
  [[nodiscard]] Failpoints& failpoints();
  [[nodiscard]] std::string log() const;  // the end of what the daemons said so far
  [[nodiscard]] std::vector<std::string> arguments() const;  // of another warmtierd on the same store
  [[nodiscard]] const std::string& configuration_path() const noexcept { return configuration_path_; }

  // A client, opened with this deadline; gives the test up on failure.
  [[nodiscard]] warm_client* open(uint32_t timeout_ms = 20'000) const;
  [[nodiscard]] int try_open(warm_client** ret_client, uint32_t timeout_ms = 20'000) const;

 private:
  StoreOptions options_;
  std::string directory_;
  std::string store_;
  std::string socket_;
  std::string configuration_path_;
  std::string log_path_;
  std::vector<std::string> launcher_;
  std::unique_ptr<Failpoints> failpoints_;
  base::Fd notify_;
  Process process_;
};

// Path of the program under test: the environment variable, else what the build says.
std::string program_path(const char* variable, const char* built);
std::string daemon_path();

warm_stats stats_of(warm_client* client);
// Waits until `holds` says yes of the statistics; gives the test up at the deadline. The one thing that has no event: it looks
// again every millisecond.
warm_stats await_stats(warm_client* client, const char* what, const std::function<bool(const warm_stats&)>& holds);

// A client that closes itself.
class Client {
 public:
  explicit Client(const Daemon& daemon, uint32_t timeout_ms = 20'000) : client_(daemon.open(timeout_ms)) {}
  ~Client() { close(); }
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;
  // The code of warm_close; nothing is closed again later.
  int close() { return client_ == nullptr ? WARM_OK : warm_close(std::exchange(client_, nullptr)); }
  operator warm_client*() const noexcept { return client_; }

 private:
  warm_client* client_;
};

}  // namespace warmtier::tests::support
