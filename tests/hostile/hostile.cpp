// ./dev hostile: random states of what a client may write, given to the daemon's own rooms; and what hostile processes cost an
// honest one, in pairs with a process that uses as much of a processor and touches nothing.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <fstream>
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
  uint64_t half_ms = 2000;  // of a pair
  std::string attack;       // all of them
  std::string out;
  std::string commit = "unknown";
};

[[noreturn]] void usage(int code) {
  std::fputs(
      "usage: hostile [--states N] [--seed N] [--pairs N [--half-ms N] [--attack NAME]] [--out FILE] [--commit HASH]\n"
      "N random states (default 1000000) of everything that a client may write, given to the daemon's own rooms in one process.\n"
      "--pairs: instead of them, how long an honest user's puts and attachments take beside an attack and beside a process that\n"
      "only computes, in N pairs for each attack, and what processor time the daemon's threads use. The daemon and the honest\n"
      "user have one half of the processors for themselves, the other process has the other.\n"
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
    } else if (argument == "--half-ms") {
      options.half_ms = number_of("hostile", argument, value);
    } else if (argument == "--attack") {
      options.attack = value;
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

double load_now() {
  double load = 0;
  std::ifstream("/proc/loadavg") >> load;
  return load;
}

// The halves of the pairs that belong together have the same place.
struct Pairs {
  std::vector<Beside> attack;
  std::vector<Beside> computing;
};

// The median of one number over the pairs, beside the attack and beside computing, and of its ratio in each pair.
std::string line_of(const char* name, const Pairs& pairs, double Beside::* number) {
  std::vector<double> attack;
  std::vector<double> computing;
  std::vector<double> ratios;
  for (size_t i = 0; i < pairs.attack.size(); ++i) {
    attack.push_back(pairs.attack[i].*number);
    computing.push_back(pairs.computing[i].*number);
    ratios.push_back(attack.back() / std::max(computing.back(), 1e-3));
  }
  char text[256];
  std::snprintf(text, sizeof text, "\"%s\": {\"beside_attack\": %.1f, \"beside_computing\": %.1f, \"ratio\": %.2f}", name,
                median(attack), median(computing), median(ratios));
  return text;
}

std::string report_of_pair(const char* attack, const Pairs& pairs) {
  std::string text = "  {\"attack\": \"" + std::string(attack) + "\"";
  text += ",\n   " + line_of("put_p50_us", pairs, &Beside::put_p50_us);
  text += ",\n   " + line_of("put_p99_us", pairs, &Beside::put_p99_us);
  text += ",\n   " + line_of("puts_per_s", pairs, &Beside::puts_per_s);
  text += ",\n   " + line_of("attach_p50_us", pairs, &Beside::attach_p50_us);
  text += ",\n   " + line_of("attach_p99_us", pairs, &Beside::attach_p99_us);
  text += ",\n   " + line_of("store_thread_ms_per_s", pairs, &Beside::store_ms);
  text += ",\n   " + line_of("intake_thread_ms_per_s", pairs, &Beside::intake_ms);
  text += ",\n   " + line_of("other_threads_ms_per_s", pairs, &Beside::others_ms);
  return text + "}";
}

std::string report_of_pairs(const Options& options) {
  const double load = load_now();
  Scene scene(true);
  const Attack computes{.name = "computes", .run = burn};
  // Against itself: what differs is noise.
  std::vector<Attack> wanted = attacks();
  wanted.insert(wanted.begin(), computes);
  if (!options.attack.empty()) wanted = {attack_named(options.attack)};
  std::string text;
  for (const Attack& attack : wanted) {
    Pairs pairs;
    for (uint64_t i = 0; i < options.pairs; ++i) {
      const bool attack_first = i % 2 == 0;
      for (const bool of_attack : {attack_first, !attack_first}) {
        const Beside half = scene.beside(of_attack ? attack : computes, options.half_ms * warmtier::base::kNsPerMs);
        (of_attack ? pairs.attack : pairs.computing).push_back(half);
      }
    }
    const std::string part = report_of_pair(attack.name, pairs);
    std::fprintf(stderr, "%s\n", part.c_str());
    text += (text.empty() ? "" : ",\n") + part;
  }
  scene.finish();
  char head[256];
  std::snprintf(head, sizeof head,
                "{\"commit\": \"%s\", \"date\": \"%s\", \"build\": \"%s\", \"pairs\": %llu, \"half_ms\": %llu, "
                "\"load_before\": %.2f,\n \"attacks\": [\n",
                options.commit.c_str(), date_now().c_str(), WARMTIER_HOSTILE_BUILD,
                static_cast<unsigned long long>(options.pairs), static_cast<unsigned long long>(options.half_ms), load);
  return head + text + "\n ]}\n";
}

}  // namespace

int main(int argc, char** argv) {
  const Options options = options_of(argc, argv);
  const std::string report = options.pairs > 0 ? report_of_pairs(options) : report_of(options, run_states(options.states));
  return write_report(report, options.out) ? 0 : 1;
}
