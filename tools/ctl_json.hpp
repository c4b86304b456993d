// What warmtierctl reads as JSON, and the small answers that it gives in it; records are written by ctl_record.hpp.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.hpp"
#include "warmtier/warmtier.h"

namespace warmtier::tools {

// Statistics in the order of the header: name and value.
std::vector<std::pair<const char*, uint64_t>> stats_fields(const warm_stats& stats);

std::string stats_json(const warm_info& info, const warm_stats& stats);
// The answer to a put or rm.
std::string changed_json(std::string_view id, uint64_t sequence);
std::string made_json(std::string_view directory, uint32_t dimensions, uint64_t capacity);
// {"name":number,..} on one line; one without a value is null.
std::string numbers_json(const std::vector<std::pair<const char*, std::optional<uint64_t>>>& numbers);
// A list of numbers; nullopt: it is not one. Beyond the range of a float: infinity.
std::optional<std::vector<float>> floats_from_json(std::string_view text);

// A record as a line of JSON says it.
struct LineRecord {
  std::string id;
  std::vector<float> embedding;
  bool has_embedding = false;
  std::optional<std::string> content;  // absent and empty are different
  std::optional<uint64_t> created_ns;
  std::optional<uint64_t> last_access_ns;
  float confidence = 1.0f;
  float activation = 0.0f;
  float decay_rate = 0.0f;
  uint32_t recall_count = 0;
};

enum class UnknownFields : bool { refuse, ignore };
// WARM_E_INVALID says what is wrong with the line; `ret_record` may be partly filled then.
base::Status record_from_json(std::string_view line, UnknownFields unknown, LineRecord& ret_record);

}  // namespace warmtier::tools
