// What warmtierctl says and reads as JSON.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "warmtier/warmtier.h"

namespace warmtier::tools {

// Statistics in the order of the header: name and value.
std::vector<std::pair<const char*, uint64_t>> stats_fields(const warm_stats& stats);

std::string stats_json(const warm_info& info, const warm_stats& stats);
std::string view_json(const warm_view& view);
// The answer to a put or rm.
std::string changed_json(std::string_view id, uint64_t sequence);
std::string made_json(std::string_view directory, uint32_t dimensions, uint64_t capacity);
// A list of numbers; nullopt: it is not one.
std::optional<std::vector<float>> floats_from_json(std::string_view text);

}  // namespace warmtier::tools
