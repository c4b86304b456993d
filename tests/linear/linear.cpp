// ./dev linear: histories of processes over kills, judged by the checker, for as long as one likes, with their counts on paper.
#include <time.h>

#include <algorithm>
#include <cstdio>
#include <string>

#include "tests/linear/checker.hpp"
#include "tests/linear/run.hpp"
#include "tests/support/report.hpp"

using namespace warmtier::tests;
using namespace warmtier::tests::support;

namespace {

constexpr uint64_t kRoundSeconds = 5;

struct Counts {
  uint64_t rounds = 0;
  uint64_t operations = 0;
  uint64_t ids = 0;
  uint64_t unknown = 0;
  uint64_t daemon_kills = 0;
  uint64_t client_kills = 0;
  uint64_t configurations = 0;
  double seconds = 0;
  double check_seconds = 0;
};

double seconds_now() {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) / 1e9;
}

}  // namespace

int main(int argc, char** argv) {
  uint64_t seconds = 600;
  linear::RunOptions options{.seconds = kRoundSeconds, .seed = static_cast<uint64_t>(::time(nullptr))};
  std::string out;
  std::string commit = "unknown";
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    if (i + 1 < argc && argument == "--seconds") {
      seconds = number_of("linear", argument, argv[++i]);
    } else if (i + 1 < argc && argument == "--processes") {
      options.processes = static_cast<unsigned>(std::clamp<uint64_t>(number_of("linear", argument, argv[++i]), 1, 32));
    } else if (i + 1 < argc && argument == "--seed") {
      options.seed = number_of("linear", argument, argv[++i]);
    } else if (i + 1 < argc && argument == "--out") {
      out = argv[++i];
    } else if (i + 1 < argc && argument == "--commit") {
      commit = argv[++i];
    } else {
      std::fputs(
          "usage: linear [--seconds N] [--processes N] [--seed N] [--out FILE] [--commit HASH]\n"
          "Processes change and read a few ids while daemon and processes are killed (default 600 seconds, in rounds of 5, each "
          "in\n"
          "a store of its own); every history is judged: is there an order that explains every answer?\n",
          stderr);
      return 2;
    }
  }
  const uint64_t first_seed = options.seed;
  Counts counts;
  std::string wrong;
  while (wrong.empty() && counts.seconds < static_cast<double>(seconds)) {
    const linear::RunResult result = linear::run(options);
    ++options.seed;
    const double begun = seconds_now();
    const linear::Verdict verdict = linear::check(result.history);
    counts.check_seconds += seconds_now() - begun;
    counts.seconds += static_cast<double>(result.ns) / 1e9;
    ++counts.rounds;
    counts.operations += verdict.operations;
    counts.ids += verdict.ids;
    counts.unknown += verdict.unknown;
    counts.daemon_kills += result.daemon_kills;
    counts.client_kills += result.client_kills;
    counts.configurations = std::max<uint64_t>(counts.configurations, verdict.configurations);
    wrong = verdict.wrong;
  }
  if (!wrong.empty()) std::fprintf(stderr, "seed %llu: %s", static_cast<unsigned long long>(options.seed - 1), wrong.c_str());

  const auto number = [](uint64_t value) { return static_cast<unsigned long long>(value); };
  char text[1024];
  std::snprintf(
      text, sizeof text,
      "{\"commit\": \"%s\", \"date\": \"%s\", \"seed\": %llu, \"processes\": %u, \"rounds\": %llu, \"seconds\": %.1f, "
      "\"check_seconds\": %.1f,\n \"operations\": %llu, \"ids\": %llu, \"unknown_outcomes\": %llu, \"daemon_kills\": %llu, "
      "\"client_kills\": %llu,\n \"configurations_most\": %llu, \"not_linearizable\": %d}\n",
      commit.c_str(), date_now().c_str(), number(first_seed), options.processes, number(counts.rounds), counts.seconds,
      counts.check_seconds, number(counts.operations), number(counts.ids), number(counts.unknown), number(counts.daemon_kills),
      number(counts.client_kills), number(counts.configurations), wrong.empty() ? 0 : 1);
  if (!write_report(text, out)) return 1;
  return wrong.empty() ? 0 : 1;
}
