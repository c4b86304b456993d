// Time per operation, percentiles over all samples, and how results are said.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#if defined(__x86_64__)
#include <x86intrin.h>
#endif

#include "base/clock.hpp"

namespace warmtier::bench {

// The finest clock there is. Fenced: an operation's loads neither start before the first reading nor end after the second.
inline uint64_t ticks() noexcept {
#if defined(__x86_64__)
  _mm_lfence();
  const uint64_t now = __rdtsc();
  _mm_lfence();
  return now;
#else
  return base::monotonic_ns();
#endif
}
double ns_per_tick();

class Samples {
 public:
  explicit Samples(size_t expected) { ticks_.reserve(expected); }
  void add(uint64_t ticks) { ticks_.push_back(ticks); }
  [[nodiscard]] size_t size() const { return ticks_.size(); }
  [[nodiscard]] double percentile_ns(double share) const;  // sorts
  [[nodiscard]] double total_ns() const;

 private:
  mutable std::vector<uint64_t> ticks_;
};

struct Result {
  std::string bench;
  std::string name;  // "case" in the output
  uint64_t n = 0;
  std::string unit;
  double p10 = 0;  // on a busy machine: of the operations that nothing came between; in JSON only
  double p50 = 0;
  double p99 = 0;
  double p999 = 0;
  double ops_per_s = 0;
  std::string peer;                // empty: none
  double peer_p50 = 0;
  double ratio = 0;                // above 1: better than the peer
  std::optional<double> limit;     // what the figure is held against
  double of_limit = 0;             // p50 / limit
};
// Percentiles of samples, in ns.
Result result_of(const char* bench, const std::string& name, const Samples& samples);
void against_peer(Result& result, const char* peer, const Samples& samples);
void against_limit(Result& result, double limit);
// One value that has no distribution.
Result single(const char* bench, const std::string& name, uint64_t n, const char* unit, double value);

// Says each result as it comes: a JSON object a line, or a line for people.
class Reporter {
 public:
  explicit Reporter(bool json) : json_(json) {}
  // Results of an earlier run, one JSON object a line. False: the file cannot be read.
  bool compare_with(const std::string& path);
  void say(const Result& result);
  [[nodiscard]] unsigned slower() const { return slower_; }  // cases beyond kTolerated

  static constexpr double kTolerated = 1.25;

 private:
  bool json_;
  bool headed_ = false;
  std::map<std::string, double> before_;  // "bench/case" -> p50
  unsigned slower_ = 0;
};

}  // namespace warmtier::bench
