// Which records a command is about: the filter of the C door as words of a command line.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/error.hpp"
#include "warmtier/warmtier.h"

namespace warmtier::tools {

// Ranges are "MIN..MAX", "MIN..", "..MAX" or one value, both ends included; empty: any.
struct CtlFilter {
  std::string prefix;  // bytes
  std::string content;  // "", "present", "absent"
  std::string confidence, activation, decay_rate, recall_count;
  std::string created, last_access;  // nanoseconds since 1970, 2024-01-31T12:00:00Z, or 2024-01-31, which is the whole day
  std::string sequence, content_bytes;
};

// WARM_E_INVALID names the range and what would be right. `ret_filter` points into `filter`.
base::Status filter_of(const CtlFilter& filter, warm_filter& ret_filter);

// "2024-01-31", "2024-01-31T12:00:00Z", "..:00.123456789Z", or nanoseconds; WARM_E_INVALID else. A day begins with its first
// nanosecond and ends with its last one; the others are one.
base::Result<uint64_t> time_ns(std::string_view text);
base::Result<uint64_t> time_end_ns(std::string_view text);

}  // namespace warmtier::tools
