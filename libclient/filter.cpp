#include "libclient/filter.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "layout/limits.hpp"

namespace warmtier::libclient {
namespace {

base::Status check_range(const char* name, double min, double max) {
  if (std::isnan(min) || std::isnan(max)) return base::fail(WARM_E_INVALID, "%s_min or %s_max is not a number", name, name);
  if (min <= max) return {};
  return base::fail(WARM_E_INVALID, "%s_min is %g, above %s_max, which is %g", name, min, name, max);
}
base::Status check_range(const char* name, uint64_t min, uint64_t max) {
  if (min <= max) return {};
  return base::fail(WARM_E_INVALID, "%s_min is %lu, above %s_max, which is %lu", name, min, name, max);
}

base::Status check(const warm_filter& filter) {
  if (filter.struct_bytes != sizeof filter) {
    return base::fail(WARM_E_INVALID, "filter->struct_bytes is %u, this library knows %zu: start with WARM_FILTER_INIT",
                      filter.struct_bytes, sizeof filter);
  }
  if (std::any_of(std::begin(filter.reserved), std::end(filter.reserved), [](auto r) { return r != 0; })) {
    return base::fail(WARM_E_INVALID, "reserved fields of filter are not zero");
  }
  if (filter.content > WARM_FILTER_CONTENT_ABSENT) {
    return base::fail(WARM_E_INVALID, "filter->content is %u, not one of WARM_FILTER_CONTENT_*", filter.content);
  }
  if (filter.id_prefix == nullptr && filter.id_prefix_bytes != 0) {
    return base::fail(WARM_E_INVALID, "id_prefix is NULL but id_prefix_bytes is %zu", filter.id_prefix_bytes);
  }
  if (filter.id_prefix_bytes > layout::kIdBytesMax) {
    return base::fail(WARM_E_LIMIT, "id_prefix has %zu bytes; an id has at most %u", filter.id_prefix_bytes, layout::kIdBytesMax);
  }
  if (auto ok = check_range("confidence", filter.confidence_min, filter.confidence_max); !ok) return ok;
  if (auto ok = check_range("activation", filter.activation_min, filter.activation_max); !ok) return ok;
  if (auto ok = check_range("decay_rate", filter.decay_rate_min, filter.decay_rate_max); !ok) return ok;
  if (auto ok = check_range("recall_count", uint64_t{filter.recall_count_min}, filter.recall_count_max); !ok) return ok;
  if (auto ok = check_range("created_ns", filter.created_ns_min, filter.created_ns_max); !ok) return ok;
  if (auto ok = check_range("last_access_ns", filter.last_access_ns_min, filter.last_access_ns_max); !ok) return ok;
  if (auto ok = check_range("sequence", filter.sequence_min, filter.sequence_max); !ok) return ok;
  return check_range("content_bytes", filter.content_bytes_min, filter.content_bytes_max);
}

template <typename T>
bool within(T value, T min, T max) noexcept {
  return value >= min && value <= max;
}

}  // namespace

base::Result<Filter> Filter::make(const warm_filter* wanted) {
  Filter made;
  if (wanted == nullptr) return made;
  if (auto ok = check(*wanted); !ok) return base::pass(std::move(ok));
  // Every field of the default accepts every record, so whatever differs from it may refuse one.
  warm_filter fields = *wanted;
  fields.id_prefix = nullptr;
  fields.id_prefix_bytes = 0;
  made.everything_ = std::memcmp(&fields, &made.filter_, sizeof fields) == 0 && wanted->id_prefix_bytes == 0;
  made.needs_record_ = wanted->id_prefix_bytes != 0 || wanted->content != WARM_FILTER_CONTENT_ANY;
  made.filter_ = fields;
  if (wanted->id_prefix_bytes != 0) made.prefix_.assign(static_cast<const char*>(wanted->id_prefix), wanted->id_prefix_bytes);
  return made;
}

bool Filter::judge_line(const Line& line) const noexcept {
  const warm_filter& f = filter_;
  return within(line.quad.confidence, f.confidence_min, f.confidence_max) &&
         within(line.quad.activation, f.activation_min, f.activation_max) &&
         within(line.quad.decay_rate, f.decay_rate_min, f.decay_rate_max) &&
         within(line.quad.recall_count, f.recall_count_min, f.recall_count_max) &&
         within(line.created_ns, f.created_ns_min, f.created_ns_max) &&
         within(line.last_access_ns, f.last_access_ns_min, f.last_access_ns_max) &&
         within(layout::sequence_of(line.put), f.sequence_min, f.sequence_max) &&
         within(uint64_t{line.content_bytes}, f.content_bytes_min, f.content_bytes_max);
}

bool Filter::judge_record(const Record& record) const noexcept {
  if (filter_.content == WARM_FILTER_CONTENT_PRESENT && record.content_absent()) return false;
  if (filter_.content == WARM_FILTER_CONTENT_ABSENT && !record.content_absent()) return false;
  return record.header.id_bytes >= prefix_.size() && std::memcmp(record.id, prefix_.data(), prefix_.size()) == 0;
}

}  // namespace warmtier::libclient
