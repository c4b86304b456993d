#include "tools/ctl_filter.hpp"

#include <time.h>

#include <charconv>
#include <cmath>
#include <concepts>

#include "base/clock.hpp"

namespace warmtier::tools {
namespace {

template <typename Number>
base::Result<Number> number_of(std::string_view text) {
  Number value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  bool good = error == std::errc() && end == text.data() + text.size();
  if constexpr (std::floating_point<Number>) good = good && std::isfinite(value);
  if (good) return value;
  return base::fail(WARM_E_INVALID, "\"%.*s\" is not a number that can be there", static_cast<int>(text.size()), text.data());
}

// An end that is not said stays as it is.
template <typename Number>
using Parse = base::Result<Number> (*)(std::string_view);
template <typename Number>
base::Status range_of(const char* name, std::string_view text, Parse<Number> parse_min, Parse<Number> parse_max, Number& min,
                      Number& max) {
  if (text.empty()) return {};
  const size_t dots = text.find("..");
  const std::string_view first = text.substr(0, dots);
  const std::string_view last = dots == std::string_view::npos ? first : text.substr(dots + 2);
  const auto take = [&](std::string_view end, Parse<Number> parse, Number& into) -> base::Status {
    if (end.empty()) return {};
    base::Result<Number> value = parse(end);
    if (!value)
      return base::fail(WARM_E_INVALID, "--%s: %s; MIN..MAX is wanted, or one of them", name, value.error().text.c_str());
    into = *value;
    return {};
  };
  if (auto status = take(first, parse_min, min); !status) return status;
  if (auto status = take(last, parse_max, max); !status) return status;
  if (min > max) {
    return base::fail(WARM_E_INVALID, "--%s: \"%.*s\" ends before it begins", name, static_cast<int>(text.size()), text.data());
  }
  return {};
}
template <typename Number>
base::Status range_of(const char* name, std::string_view text, Number& min, Number& max) {
  return range_of<Number>(name, text, number_of<Number>, number_of<Number>, min, max);
}

}  // namespace

base::Result<uint64_t> time_ns(std::string_view text) {
  if (base::Result<uint64_t> ns = number_of<uint64_t>(text)) return ns;
  const auto refuse = [&] {
    return base::fail(WARM_E_INVALID, "\"%.*s\" is no time: nanoseconds since 1970 or 2024-01-31T12:00:00Z",
                      static_cast<int>(text.size()), text.data());
  };
  const std::string copy(text);
  tm parts{};
  const char* rest = ::strptime(copy.c_str(), "%Y-%m-%d", &parts);
  if (rest == nullptr) return refuse();
  uint64_t nanoseconds = 0;
  if (*rest != '\0') {
    rest = ::strptime(rest, "T%H:%M:%S", &parts);
    if (rest == nullptr) return refuse();
    if (*rest == '.') {
      uint64_t unit = base::kNsPerSecond;
      for (++rest; *rest >= '0' && *rest <= '9' && unit > 1; ++rest)
        nanoseconds += (unit /= 10) * static_cast<uint64_t>(*rest - '0');
    }
    if (std::string_view(rest) != "Z") return refuse();
  }
  const time_t seconds = ::timegm(&parts);
  constexpr auto kSecondsMax = static_cast<time_t>(UINT64_MAX / base::kNsPerSecond - 1);
  if (seconds < 0 || seconds > kSecondsMax) return refuse();
  return static_cast<uint64_t>(seconds) * base::kNsPerSecond + nanoseconds;
}

base::Result<uint64_t> time_end_ns(std::string_view text) {
  constexpr uint64_t kDayNs = uint64_t{86'400} * base::kNsPerSecond;
  base::Result<uint64_t> begins = time_ns(text);
  const bool day = text.find('-') != std::string_view::npos && text.find('T') == std::string_view::npos;
  return begins && day ? *begins + (kDayNs - 1) : begins;
}

base::Status filter_of(const CtlFilter& filter, warm_filter& ret_filter) {
  ret_filter = WARM_FILTER_INIT;
  ret_filter.id_prefix = filter.prefix.data();
  ret_filter.id_prefix_bytes = filter.prefix.size();
  ret_filter.content = filter.content == "present"  ? WARM_FILTER_CONTENT_PRESENT
                       : filter.content == "absent" ? WARM_FILTER_CONTENT_ABSENT
                                                    : WARM_FILTER_CONTENT_ANY;
  warm_filter& f = ret_filter;
  base::Status status = range_of("confidence", filter.confidence, f.confidence_min, f.confidence_max);
  if (status) status = range_of("activation", filter.activation, f.activation_min, f.activation_max);
  if (status) status = range_of("decay-rate", filter.decay_rate, f.decay_rate_min, f.decay_rate_max);
  if (status) status = range_of("recall-count", filter.recall_count, f.recall_count_min, f.recall_count_max);
  if (status) status = range_of("created", filter.created, time_ns, time_end_ns, f.created_ns_min, f.created_ns_max);
  if (status)
    status = range_of("last-access", filter.last_access, time_ns, time_end_ns, f.last_access_ns_min, f.last_access_ns_max);
  if (status) status = range_of("sequence", filter.sequence, f.sequence_min, f.sequence_max);
  if (status) status = range_of("content-bytes", filter.content_bytes, f.content_bytes_min, f.content_bytes_max);
  return status;
}

}  // namespace warmtier::tools
