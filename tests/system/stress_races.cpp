// The race of tests/system/races.cpp for as long as one likes, with its counts on paper.
#include <cstdio>
#include <string>

#include "tests/support/report.hpp"
#include "tests/system/races.hpp"

using namespace warmtier::tests::support;
using warmtier::tests::system::RaceCounts;
using warmtier::tests::system::RaceOptions;

int main(int argc, char** argv) {
  RaceOptions options;
  std::string out;
  std::string commit = "unknown";
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    if (i + 1 < argc && argument == "--seconds") {
      options.seconds = number_of("stress_races", argument, argv[++i]);
    } else if (i + 1 < argc && argument == "--races") {
      options.races = number_of("stress_races", argument, argv[++i]);
    } else if (i + 1 < argc && argument == "--out") {
      out = argv[++i];
    } else if (i + 1 < argc && argument == "--commit") {
      commit = argv[++i];
    } else {
      std::fprintf(stderr,
                   "usage: stress_races [--races N] [--seconds N] [--out FILE] [--commit HASH]\n"
                   "10 writers and 5 readers on a hot set of ids until so many reads raced with a change (default 1000000).\n");
      return 2;
    }
  }
  if (options.races == 0 && options.seconds == 0) options.races = 1'000'000;
  const RaceCounts counts = warmtier::tests::system::run_races(options);
  char text[1024];
  std::snprintf(text, sizeof text,
                "{\"commit\": \"%s\", \"date\": \"%s\", \"writers\": %u, \"readers\": %u, \"dimensions\": %u, \"seconds\": %.1f, "
                "\"gets\": %llu, "
                "\"raced_reads\": %llu, \"not_found\": %llu, \"changes\": %llu, \"wrong\": \"%s\"}\n",
                commit.c_str(), date_now().c_str(), options.writers, options.readers, options.dimensions, counts.seconds,
                static_cast<unsigned long long>(counts.gets), static_cast<unsigned long long>(counts.raced),
                static_cast<unsigned long long>(counts.not_found), static_cast<unsigned long long>(counts.changes),
                counts.wrong.c_str());
  if (!write_report(text, out)) return 1;
  return counts.wrong.empty() ? 0 : 1;
}
