#include "tools/ctl_json.hpp"

#include <limits>
#include <nlohmann/json.hpp>

#include "tools/ctl_text.hpp"

namespace warmtier::tools {
namespace {

using Json = nlohmann::ordered_json;

// A string where it is one, else the same bytes under a name that says how they are written.
void add_id(Json& json, std::string_view id) {
  if (valid_utf8(id)) {
    json["id"] = id;
  } else {
    json["id_hex"] = hex(id);
  }
}

constexpr const char* backend_name(uint32_t backend) { return backend == 1 ? "io_uring" : backend == 2 ? "threads" : "unknown"; }

}  // namespace

std::vector<std::pair<const char*, uint64_t>> stats_fields(const warm_stats& stats) {
  return {
      {"records", stats.records},
      {"capacity", stats.capacity},
      {"slots_allocated", stats.slots_allocated},
      {"slots_free", stats.slots_free},
      {"slots_waiting", stats.slots_waiting},
      {"slots_held", stats.slots_held},
      {"segments", stats.segments},
      {"content_bytes_live", stats.content_bytes_live},
      {"content_bytes_total", stats.content_bytes_total},
      {"sequence", stats.sequence},
      {"sequence_durable", stats.sequence_durable},
      {"sessions", stats.sessions},
      {"channels", stats.channels},
      {"puts", stats.puts},
      {"removes", stats.removes},
      {"refused", stats.refused},
      {"gets", stats.gets},
      {"misses", stats.misses},
      {"lane_repairs", stats.lane_repairs},
      {"lanes_fenced", stats.lanes_fenced},
      {"pins_voided", stats.pins_voided},
      {"sessions_ended", stats.sessions_ended},
      {"checkpoints", stats.checkpoints},
      {"index_doublings", stats.index_doublings},
      {"requests_recovered", stats.requests_recovered},
      {"bad_requests", stats.bad_requests},
      {"damaged_records", stats.damaged_records},
      {"spin_ns", stats.spin_ns},
      {"uptime_ns", stats.uptime_ns},
  };
}

std::string stats_json(const warm_info& info, const warm_stats& stats) {
  Json json;
  json["version"] = warm_version();
  json["store_id"] = hex({reinterpret_cast<const char*>(info.store_id), sizeof info.store_id});
  json["daemon_pid"] = info.daemon_pid;
  json["dimensions"] = info.dimensions;
  json["row_bytes"] = info.row_bytes;
  json["content_bytes_max"] = info.content_bytes_max;
  json["views_max"] = info.views_max;
  json["io_backend"] = backend_name(stats.io_backend);
  for (const auto& [name, value] : stats_fields(stats)) json[name] = value;
  return json.dump(2);
}

std::string view_json(const warm_view& view) {
  Json json;
  add_id(json, {static_cast<const char*>(view.id), view.id_bytes});
  json["sequence"] = view.sequence;
  json["created_ns"] = view.created_ns;
  json["last_access_ns"] = view.last_access_ns;
  json["confidence"] = view.confidence;
  json["activation"] = view.activation;
  json["decay_rate"] = view.decay_rate;
  json["recall_count"] = view.recall_count;
  json["embedding"] = std::vector<float>(view.embedding, view.embedding + view.dimensions);
  if (view.content_state == WARM_CONTENT_ABSENT) {
    json["content"] = nullptr;
  } else {
    const std::string_view content(static_cast<const char*>(view.content), view.content_bytes);
    if (valid_utf8(content)) {
      json["content"] = content;
    } else {
      json["content_base64"] = base64(content);
    }
  }
  return json.dump();
}

std::string changed_json(std::string_view id, uint64_t sequence) {
  Json json;
  add_id(json, id);
  json["sequence"] = sequence;
  return json.dump();
}

std::string made_json(std::string_view directory, uint32_t dimensions, uint64_t capacity) {
  Json json;
  json["directory"] = directory;
  json["dimensions"] = dimensions;
  json["capacity"] = capacity;
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

std::optional<std::vector<float>> floats_from_json(std::string_view text) {
  const Json json = Json::parse(text, nullptr, false);
  if (!json.is_array()) return std::nullopt;
  std::vector<float> values;
  values.reserve(json.size());
  for (const Json& value : json) {
    if (!value.is_number()) return std::nullopt;
    const auto number = value.get<double>();
    // Beyond float's range the conversion would be undefined; the library refuses infinities by name.
    constexpr double kMax = std::numeric_limits<float>::max();
    values.push_back(number > kMax || number < -kMax ? std::numeric_limits<float>::infinity() : static_cast<float>(number));
  }
  return values;
}

}  // namespace warmtier::tools
