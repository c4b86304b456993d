#include "bench/measure.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <nlohmann/json.hpp>

namespace warmtier::bench {

double ns_per_tick() {
  static const double value = [] {
    const uint64_t ns = base::monotonic_ns();
    const uint64_t from = ticks();
    while (base::monotonic_ns() - ns < 50 * base::kNsPerMs) {
    }
    const uint64_t to = ticks();
    return static_cast<double>(base::monotonic_ns() - ns) / static_cast<double>(to - from);
  }();
  return value;
}

double Samples::percentile_ns(double share) const {
  if (ticks_.empty()) return 0;
  std::sort(ticks_.begin(), ticks_.end());
  const auto at = static_cast<size_t>(share * static_cast<double>(ticks_.size() - 1));
  return static_cast<double>(ticks_[at]) * ns_per_tick();
}

double Samples::total_ns() const {
  double sum = 0;
  for (const uint64_t value : ticks_) sum += static_cast<double>(value);
  return sum * ns_per_tick();
}

Result result_of(const char* bench, const std::string& name, const Samples& samples) {
  Result result;
  result.bench = bench;
  result.name = name;
  result.n = samples.size();
  result.unit = "ns";
  result.p10 = samples.percentile_ns(0.1);
  result.p50 = samples.percentile_ns(0.5);
  result.p99 = samples.percentile_ns(0.99);
  result.p999 = samples.percentile_ns(0.999);
  result.ops_per_s = samples.size() == 0 ? 0 : static_cast<double>(samples.size()) * 1e9 / samples.total_ns();
  return result;
}

void against_peer(Result& result, const char* peer, const Samples& samples) {
  result.peer = peer;
  result.peer_p50 = samples.percentile_ns(0.5);
  result.ratio = result.peer_p50 / result.p50;
}

void against_limit(Result& result, double limit) {
  result.limit = limit;
  result.of_limit = result.p50 / limit;
}

Result single(const char* bench, const std::string& name, uint64_t n, const char* unit, double value) {
  Result result;
  result.bench = bench;
  result.name = name;
  result.n = n;
  result.unit = unit;
  result.p10 = result.p50 = result.p99 = result.p999 = value;
  return result;
}

bool Reporter::compare_with(const std::string& path) {
  std::ifstream file(path);
  if (!file) return false;
  for (std::string line; std::getline(file, line);) {
    const auto json = nlohmann::json::parse(line, nullptr, false);
    if (!json.is_object() || !json.contains("bench") || !json.contains("case") || !json.contains("p50")) continue;
    before_[json["bench"].get<std::string>() + "/" + json["case"].get<std::string>()] = json["p50"].get<double>();
  }
  return true;
}

void Reporter::say(const Result& result) {
  const auto before = before_.find(result.bench + "/" + result.name);
  const double change = before != before_.end() && before->second > 0 ? result.p50 / before->second : 0;
  if (change > kTolerated) ++slower_;
  if (json_) {
    const auto rounded = [](double value) { return std::round(value * 1000) / 1000; };
    nlohmann::ordered_json json;
    json["bench"] = result.bench;
    json["case"] = result.name;
    json["n"] = result.n;
    json["unit"] = result.unit;
    json["p10"] = rounded(result.p10);
    json["p50"] = rounded(result.p50);
    json["p99"] = rounded(result.p99);
    json["p999"] = rounded(result.p999);
    json["ops_per_s"] = rounded(result.ops_per_s);
    if (!result.peer.empty()) {
      json["peer"] = result.peer;
      json["peer_p50"] = rounded(result.peer_p50);
      json["ratio"] = rounded(result.ratio);
    }
    if (result.limit) {
      json["limit"] = rounded(*result.limit);
      json["of_limit"] = rounded(result.of_limit);
    }
    if (change > 0) {
      json["before_p50"] = rounded(before->second);
      json["of_before"] = rounded(change);
    }
    std::printf("%s\n", json.dump().c_str());
  } else {
    if (!headed_) {
      std::printf("%-12s %-34s %9s %6s %10s %10s %10s %12s  %s\n", "bench", "case", "n", "unit", "p50", "p99", "p99.9", "ops/s",
                  "beside");
      headed_ = true;
    }
    std::printf("%-12s %-34s %9llu %6s %10.1f %10.1f %10.1f %12.0f ", result.bench.c_str(), result.name.c_str(),
                static_cast<unsigned long long>(result.n), result.unit.c_str(), result.p50, result.p99, result.p999,
                result.ops_per_s);
    if (!result.peer.empty()) std::printf(" %s %.1f: %.2f x better", result.peer.c_str(), result.peer_p50, result.ratio);
    if (result.limit) std::printf(" limit %.1f: %.2f of it", *result.limit, result.of_limit);
    if (change > 0) std::printf(" before %.1f: %.2f of it", before->second, change);
    std::printf("\n");
  }
  std::fflush(stdout);
}

}  // namespace warmtier::bench
