// warmbench: what the store costs, beside a peer and beside limits, measured in one run.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "bench/world.hpp"

namespace {

using namespace warmtier::bench;

struct Bench {
  const char* name;
  void (*run)(const Settings&, Reporter&);
  const char* what;
};
constexpr Bench kBenches[] = {
    {"get_random", bench_get_random, "gets of random ids, beside LMDB and a chain of three dependent loads"},
    {"get_many", bench_get_many, "gets of 64 ids in one call, beside LMDB with one transaction for 64"},
    {"walk", bench_walk, "walks over ids and scalars, and over every embedding byte by views and by chunks"},
    {"put_visible", bench_put_visible, "puts one at a time until visible, beside one LMDB transaction each"},
    {"scale_get", bench_scale_get, "gets from two processes at once, beside two bare chains"},
    {"scale_put", bench_scale_put, "puts from 1, 2, 8 and 60 processes at once, beside as many LMDB writers"},
    {"put_many", bench_put_many,
     "1,000 replaces in one call and as tickets, beside one LMDB transaction for as many and a bare exchange"},
    {"idle", bench_idle, "the daemon's processor time with 100 idle clients"},
    {"written", bench_written, "bytes that are written for each put where there are few, with a checkpoint a second"},
    {"memory", bench_memory, "bytes in memory beyond payload, per record"},
    {"workers", bench_workers, "RSS, PSS and page tables of 60 forked workers that have read the whole store"},
    {"ready", bench_ready, "time until a daemon on 1,000,000 records is ready"},
    {"recall", bench_recall,
     "recalls over 100,000 records, beside reading their memory; two threads beside two that read it; many queries in one pass"},
    {"kernels", bench_kernels, "products and distances over 100,000 rows in memory, beside reading them"},
    {"restart", bench_restart, "how long clients wait for a killed daemon's successor"},
    {"import", bench_import, "warmtierctl import of 100,000 records from a .npy"},
};

void help(FILE* to) {
  std::fprintf(to, "usage: warmbench [NAME..] [--quick] [--json] [--against FILE] [--records N] [--large-pages]\n\n");
  for (const Bench& bench : kBenches) std::fprintf(to, "  %-12s %s\n", bench.name, bench.what);
  std::fprintf(to,
               "\n--quick         fewer operations\n"
               "--json          one JSON object a line\n"
               "--against FILE  compare with an earlier --json output; exit code 1 if a p50 is above %.2f times the earlier one\n"
               "--large-pages   the tier in large pages ([store] large_pages = true)\n"
               "--records N     records in the store (300000; ready: 1000000)\n\n"
               "Stores are made under TMPDIR (/tmp): about 4 GB for the whole.\n",
               Reporter::kTolerated);
}

}  // namespace

int main(int argc, char** argv) {
  Settings settings;
  bool json = false;
  std::string against;
  std::vector<const Bench*> wanted;
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    const bool more = i + 1 < argc;
    if (argument == "--help" || argument == "-h") {
      help(stdout);
      return 0;
    }
    if (argument == "--quick") {
      settings.quick = true;
    } else if (argument == "--large-pages") {
      settings.large_pages = true;
    } else if (argument == "--json") {
      json = true;
    } else if (argument == "--against" && more) {
      against = argv[++i];
    } else if (argument == "--records" && more) {
      settings.records = std::strtoull(argv[++i], nullptr, 10);
      settings.records_given = true;
    } else {
      const Bench* found = nullptr;
      for (const Bench& bench : kBenches) {
        if (argument == bench.name) found = &bench;
      }
      if (found == nullptr) {
        std::fprintf(stderr, "warmbench: no bench and no option '%s'\n\n", argument.c_str());
        help(stderr);
        return 2;
      }
      wanted.push_back(found);
    }
  }
  if (settings.records < 1000 || settings.records > 100'000'000) {
    std::fprintf(stderr, "warmbench: --records wants 1000 to 100000000\n");
    return 2;
  }
  Reporter reporter(json);
  if (!against.empty() && !reporter.compare_with(against)) {
    std::fprintf(stderr, "warmbench: %s cannot be read\n", against.c_str());
    return 2;
  }
  if (wanted.empty()) {
    for (const Bench& bench : kBenches) wanted.push_back(&bench);
  }
  for (const Bench* bench : wanted) bench->run(settings, reporter);
  return reporter.slower() == 0 ? 0 : 1;
}
