#include <getopt.h>
#include <unistd.h>

#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <new>
#include <string>

#include "daemon/config.hpp"
#include "daemon/server.hpp"
#include "daemon/session/log.hpp"
#include "layout/limits.hpp"

namespace {

using namespace warmtier;

constexpr int kExitFailure = 1;
constexpr int kExitUsage = 2;

constexpr const char* kHelp =
    "warmtierd: serves a store of memories to the processes of this host\n"
    "\n"
    "usage: warmtierd --store DIR [OPTION...]\n"
    "\n"
    "  --store DIR       the store; made when DIR is empty or absent\n"
    "  --socket PATH     where clients connect\n"
    "                    (default: $RUNTIME_DIRECTORY/sock; root: /run/warmtier/sock; else $XDG_RUNTIME_DIR/warmtier.sock)\n"
    "  --config FILE     settings in TOML; flags win over it\n"
    "  --dimensions N    of every embedding, fixed when the store is made (default 768; 1 to 4096)\n"
    "  --capacity N      records at most, fixed when the store is made (default 16777216)\n"
    "  --io BACKEND      auto, uring or threads (default auto)\n"
    "  --init            make the store if it is not there; DIR may be absent or empty (this is the default)\n"
    "  --print-config    print the settings that hold, as a configuration file, and stop\n"
    "  --version         print the version and stop\n"
    "  --help            print this and stop\n"
    "\n"
    "Stops in order on SIGTERM or SIGINT; reads FILE again on SIGHUP. Exit status: 0 stopped in order, 1 failed, 2 wrong "
    "usage or wrong settings.\n";

[[gnu::format(printf, 1, 2)]] int usage_error(const char* format, ...) {
  va_list args;
  va_start(args, format);
  std::fputs("warmtierd: ", stderr);
  std::vfprintf(stderr, format, args);
  std::fputs("\nTry warmtierd --help.\n", stderr);
  va_end(args);
  return kExitUsage;
}

template <typename Number>
bool parse_number(const char* text, uint64_t min, uint64_t max, std::optional<Number>* ret_value) {
  uint64_t value = 0;
  const char* end = text + std::strlen(text);
  const auto parsed = std::from_chars(text, end, value);
  if (parsed.ec != std::errc() || parsed.ptr != end || value < min || value > max) return false;
  *ret_value = static_cast<Number>(value);
  return true;
}

// Anywhere: what must not be half done is in the maps, and the next daemon goes on there as after a kill.
void stop_without_memory() {
  constexpr char kLine[] = "<2>out of memory: stopping as after a kill; nothing that was acknowledged is lost\n";
  (void)!::write(STDERR_FILENO, kLine, sizeof kLine - 1);
  ::_exit(kExitFailure);
}

}  // namespace

int main(int argc, char** argv) {
  enum Flag : int { store = 1, socket, config, dimensions, capacity, io, init, print_config, version, help };
  static const option flags[] = {{"store", required_argument, nullptr, store},
                                 {"socket", required_argument, nullptr, socket},
                                 {"config", required_argument, nullptr, config},
                                 {"dimensions", required_argument, nullptr, dimensions},
                                 {"capacity", required_argument, nullptr, capacity},
                                 {"io", required_argument, nullptr, io},
                                 {"init", no_argument, nullptr, init},
                                 {"print-config", no_argument, nullptr, print_config},
                                 {"version", no_argument, nullptr, version},
                                 {"help", no_argument, nullptr, help},
                                 {nullptr, 0, nullptr, 0}};
  std::set_new_handler(stop_without_memory);
  daemon::Config given;
  std::string config_path;
  std::optional<daemon::io::Choice> backend;
  bool print = false;
  for (;;) {
    const int flag = ::getopt_long(argc, argv, "", flags, nullptr);
    if (flag == -1) break;
    switch (flag) {
      case store: given.store = optarg; break;
      case socket: given.socket = optarg; break;
      case config: config_path = optarg; break;
      case dimensions:
        if (!parse_number(optarg, 1, layout::kDimensionsMax, &given.dimensions)) {
          return usage_error("--dimensions %s: 1 to %u are possible", optarg, layout::kDimensionsMax);
        }
        break;
      case capacity:
        if (!parse_number(optarg, 1, layout::kCapacityMax, &given.capacity)) {
          return usage_error("--capacity %s: 1 to %llu are possible", optarg,
                             static_cast<unsigned long long>(layout::kCapacityMax));
        }
        break;
      case io: {
        auto choice = daemon::io_choice(optarg);
        if (!choice) return usage_error("--io: %s", choice.error().text.c_str());
        backend = *choice;
        break;
      }
      case init: break;
      case print_config: print = true; break;
      case version: std::printf("warmtierd %s\n", WARMTIER_VERSION); return 0;
      case help: std::fputs(kHelp, stdout); return 0;
      default: std::fputs("Try warmtierd --help.\n", stderr); return kExitUsage;
    }
  }
  if (optind < argc) return usage_error("\"%s\" is not a flag", argv[optind]);

  const daemon::ReadSettings read_settings = [&]() -> base::Result<daemon::Config> {
    daemon::Config settings;
    if (!config_path.empty()) {
      if (auto s = daemon::read_config(config_path, &settings); !s) return base::pass(std::move(s));
    }
    if (!given.store.empty()) settings.store = given.store;
    if (!given.socket.empty()) settings.socket = given.socket;
    if (given.dimensions) settings.dimensions = given.dimensions;
    if (given.capacity) settings.capacity = given.capacity;
    if (backend) settings.io = *backend;
    return settings;
  };
  auto settings = read_settings();
  if (!settings) return usage_error("%s", settings.error().text.c_str());
  if (print) {
    std::fputs(daemon::config_text(*settings).c_str(), stdout);
    return std::fflush(stdout) == 0 ? 0 : kExitFailure;
  }
  if (settings->store.empty()) return usage_error("which store? Give --store DIR, or [store] path in the configuration");

  base::Status served;
  try {
    served = daemon::run_server(*settings, read_settings);
  } catch (const std::exception& trouble) {
    // A thread that cannot be made at the start.
    served = base::fail(WARM_E_SYSTEM, "the C++ runtime failed: %s", trouble.what());
  }
  if (auto& s = served; !s) {
    daemon::session::log_line(daemon::session::Priority::error, "%s (%s)", s.error().text.c_str(),
                              base::code_name(s.error().code));
    // Wrong settings do not become right by starting again.
    return s.error().code == WARM_E_INVALID ? kExitUsage : kExitFailure;
  }
  return 0;
}
