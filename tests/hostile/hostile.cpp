// ./dev hostile: random states of what a client may write, given to the daemon's own rooms; and what hostile processes cost an
// honest one, in pairs with a process that uses as much of a processor and touches nothing.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "base/clock.hpp"
#include "tests/hostile/live.hpp"
#include "tests/hostile/states.hpp"
#include "tests/support/report.hpp"

namespace {

using namespace warmtier::tests::hostile;
using namespace warmtier::tests::support;

struct Options {
  StateOptions states;
  uint64_t pairs = 0;
  uint64_t pair_ms = 2000;  // of each half
  std::string out;
  std::string commit = "unknown";
};

[[noreturn]] void usage(int code) {
  std::fputs(
      "usage: hostile [--states N] [--seed N] [--pairs N] [--out FILE] [--commit HASH]\n"
      "N random states (default 1000000) of everything that a client may write, given to the daemon's own rooms in one process.\n"
      "--pairs: instead of them, how long an honest user's puts take beside an attack and beside a process that only computes,\n"
      "in N pairs for each attack.\n"
      "Exit code 0: another user's data and answers stayed right, and nothing was touched that is not the client's.\n",
      code == 0 ? stdout : stderr);
  std::exit(code);
}

Options options_of(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    if (argument == "--help") usage(0);
    if (i + 1 == argc) usage(2);
    const char* const value = argv[++i];
    if (argument == "--states") {
      options.states.states = number_of("hostile", argument, value);
    } else if (argument == "--seed") {
      options.states.seed = number_of("hostile", argument, value);
    } else if (argument == "--pairs") {
      options.pairs = number_of("hostile", argument, value);
    } else if (argument == "--out") {
      options.out = value;
    } else if (argument == "--commit") {
      options.commit = value;
    } else {
      usage(2);
    }
  }
  return options;
}

std::string report_of(const Options& options, const StateCounts& states) {
  char text[1024];
  const auto n = [](uint64_t value) { return static_cast<unsigned long long>(value); };
  std::snprintf(
      text, sizeof text,
      "{\"commit\": \"%s\", \"date\": \"%s\", \"build\": \"%s\",\n"
      " \"states\": {\"states\": %llu, \"seed\": %llu, \"seconds\": %.0f, \"raced_by_a_thread\": %llu, \"requests_executed\": "
      "%llu,\n  \"changed_meanwhile\": %llu, \"bad_requests\": %llu, \"large_puts\": %llu, \"touches\": %llu, \"sessions\": "
      "%llu,\n  \"checkpoints\": %llu, \"honest_puts\": %llu, \"honest_records_compared\": %llu, \"wrong\": 0}}\n",
      options.commit.c_str(), date_now().c_str(), WARMTIER_HOSTILE_BUILD, n(states.states), n(options.states.seed),
      states.seconds, n(states.raced_states), n(states.executed), n(states.changed_meanwhile), n(states.bad_requests),
      n(states.large_puts), n(states.touches), n(states.sessions), n(states.checkpoints), n(states.honest_puts),
      n(states.honest_compared));
  return text;
}

template <typename T>
T median(std::vector<T> values) {
  std::ranges::sort(values);
  return values[values.size() / 2];
}

std::string report_of_pairs(const Options& options) {
  Scene scene;
  const Attack computes{.name = "computes", .run = burn};
  std::string text = "{\"commit\": \"" + options.commit + "\", \"date\": \"" + date_now() + "\", \"build\": \"" +
                     WARMTIER_HOSTILE_BUILD + "\", \"pairs\": " + std::to_string(options.pairs) +
                     ", \"half_ms\": " + std::to_string(options.pair_ms) + ",\n \"attacks\": [\n";
  bool first = true;
  for (const Attack& attack : attacks()) {
    std::vector<double> beside_attack_us;
    std::vector<double> beside_computing_us;
    std::vector<double> ratios;
    for (uint64_t i = 0; i < options.pairs; ++i) {
      const auto half = [&](const Attack& which) {
        return static_cast<double>(scene.p99_under(which, options.pair_ms * warmtier::base::kNsPerMs)) / 1e3;
      };
      const bool attack_first = i % 2 == 0;
      const double one = half(attack_first ? attack : computes);
      const double other = half(attack_first ? computes : attack);
      beside_attack_us.push_back(attack_first ? one : other);
      beside_computing_us.push_back(attack_first ? other : one);
      ratios.push_back(beside_attack_us.back() / beside_computing_us.back());
    }
    char line[256];
    std::snprintf(line, sizeof line,
                  "%s  {\"attack\": \"%s\", \"put_p99_us\": %.0f, \"put_p99_us_beside_computing\": %.0f, \"ratio\": %.2f}",
                  first ? "" : ",\n", attack.name, median(beside_attack_us), median(beside_computing_us), median(ratios));
    std::fprintf(stderr, "%s\n", line);
    text += line;
    first = false;
  }
  scene.finish();
  return text + "\n ]}\n";
}

}  // namespace

int main(int argc, char** argv) {
  const Options options = options_of(argc, argv);
  const std::string report = options.pairs > 0 ? report_of_pairs(options) : report_of(options, run_states(options.states));
  return write_report(report, options.out) ? 0 : 1;
}
