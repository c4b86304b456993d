#include "tools/ctl_json.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "tools/ctl_text.hpp"

namespace warmtier::tools {
namespace {

using Json = nlohmann::ordered_json;

void add_id(Json& json, std::string_view id) {
  if (valid_utf8(id)) {
    json["id"] = id;
  } else {
    json["id_base64"] = base64(id);
  }
}

// The float nearest to a decimal. Through a double it would be rounded twice; false: beyond every float.
bool nearest_float(std::string_view decimal, float& ret_value) {
  float value = 0;
  const auto [end, error] = std::from_chars(decimal.data(), decimal.data() + decimal.size(), value);
  if (error == std::errc::result_out_of_range) {
    // Too large, or nearer to zero than every float.
    double wide = 0;
    if (std::from_chars(decimal.data(), decimal.data() + decimal.size(), wide).ec == std::errc() && std::abs(wide) < 1) {
      ret_value = std::signbit(wide) ? -0.0f : 0.0f;
      return true;
    }
    return false;
  }
  ret_value = value;
  return error == std::errc() && end == decimal.data() + decimal.size();
}

enum class Field : uint8_t {
  id,
  id_base64,
  embedding,
  content,
  content_base64,
  created_ns,
  last_access_ns,
  confidence,
  activation,
  decay_rate,
  recall_count,
  sequence,
  unknown
};
struct FieldName {
  std::string_view name;
  Field field;
};
constexpr FieldName kFields[] = {
    {"id", Field::id},
    {"id_base64", Field::id_base64},
    {"embedding", Field::embedding},
    {"content", Field::content},
    {"content_base64", Field::content_base64},
    {"created_ns", Field::created_ns},
    {"last_access_ns", Field::last_access_ns},
    {"confidence", Field::confidence},
    {"activation", Field::activation},
    {"decay_rate", Field::decay_rate},
    {"recall_count", Field::recall_count},
    {"sequence", Field::sequence},  // of the store that it was exported from: the next one gives its own
};

// Hears one line from the parser, value by value, so that an embedding of 768 numbers is never a tree of them. Each function
// returns whether to go on; `reason` says why not.
class LineListener {
 public:
  using number_integer_t = Json::number_integer_t;
  using number_unsigned_t = Json::number_unsigned_t;
  using number_float_t = Json::number_float_t;
  using string_t = Json::string_t;
  using binary_t = Json::binary_t;

  LineListener(std::string_view line, UnknownFields unknown, LineRecord& record)
      : line_(line), record_(record), unknown_(unknown) {}

  std::string reason;

  bool null() {
    if (skipping()) return true;
    if (depth_ == 1 && field_ == Field::content) return content_once(std::nullopt);
    return refuse("null");
  }
  bool boolean(bool /*value*/) { return skipping() || refuse("true or false"); }
  bool number_integer(number_integer_t value) {
    if (skipping()) return true;
    return is_float() ? take_float(static_cast<float>(value)) : refuse("a negative number");
  }
  bool number_unsigned(number_unsigned_t value) {
    if (skipping()) return true;
    if (is_float()) return take_float(static_cast<float>(value));
    switch (field_) {
      case Field::created_ns: record_.created_ns = value; return true;
      case Field::last_access_ns: record_.last_access_ns = value; return true;
      case Field::sequence: return true;
      case Field::recall_count:
        if (value > std::numeric_limits<uint32_t>::max()) return stop("recall_count is at most 4294967295");
        record_.recall_count = static_cast<uint32_t>(value);
        return true;
      default: return refuse("a number");
    }
  }
  bool number_float(number_float_t /*value*/, const string_t& decimal) {
    if (skipping()) return true;
    if (!is_float()) return refuse("a number with a fraction or exponent");
    float value = 0;
    if (!nearest_float(decimal, value)) return stop(name() + " holds " + decimal + ", which is beyond every 32-bit float");
    return take_float(value);
  }
  bool string(string_t& text) {
    if (skipping()) return true;
    switch (depth_ == 1 ? field_ : Field::unknown) {
      case Field::id: return id_once(std::move(text));
      case Field::id_base64: {
        std::optional<std::string> bytes = from_base64(text);
        return bytes ? id_once(std::move(*bytes)) : stop("id_base64 is not base64 (RFC 4648, padded)");
      }
      case Field::content: return content_once(std::move(text));
      case Field::content_base64: {
        std::optional<std::string> bytes = from_base64(text);
        return bytes ? content_once(std::move(bytes)) : stop("content_base64 is not base64 (RFC 4648, padded)");
      }
      default: return refuse("a string");
    }
  }
  bool binary(binary_t& /*value*/) { return refuse("binary"); }
  bool start_object(size_t /*elements*/) {
    ++depth_;
    return depth_ == 1 || skipping() || refuse("an object");
  }
  bool end_object() {
    --depth_;
    return true;
  }
  bool start_array(size_t /*elements*/) {
    ++depth_;
    if (depth_ == 1) return stop("a line is an object: {\"id\": .., \"embedding\": [..], ..}");
    if (skipping()) return true;
    if (depth_ != 2 || field_ != Field::embedding) return refuse("a list");
    record_.has_embedding = true;
    return true;
  }
  bool end_array() {
    --depth_;
    return true;
  }
  bool key(string_t& text) {
    if (depth_ > 1) return true;
    field_ = Field::unknown;
    for (const FieldName& known : kFields) {
      if (known.name == text) field_ = known.field;
    }
    if (field_ == Field::unknown) {
      return unknown_ == UnknownFields::ignore || stop("there is no field \"" + one_line(text.substr(0, 60)) + "\"");
    }
    const uint32_t bit = 1U << static_cast<unsigned>(field_);
    if ((seen_ & bit) != 0) return stop(name() + " stands twice");
    seen_ |= bit;
    return true;
  }
  bool parse_error(size_t position, const std::string& /*last_token*/, const Json::exception& error) {
    // Words of JavaScript and Python that JSON does not have.
    const std::string_view from = line_.substr(std::min(position > 0 ? position - 1 : 0, line_.size()));
    if (from.starts_with("NaN") || from.starts_with("Inf")) return stop("NaN and infinity cannot be stored");
    std::string_view text = error.what();
    if (const size_t colon = text.find(": "); colon != std::string_view::npos) text.remove_prefix(colon + 2);
    return stop("not JSON at byte " + std::to_string(position) + ": " + one_line(text.substr(0, 100)));
  }

  [[nodiscard]] bool has_id() const { return has_id_; }

 private:
  // Inside a field that nobody knows, however deep.
  [[nodiscard]] bool skipping() const { return depth_ > 0 && field_ == Field::unknown; }
  [[nodiscard]] bool is_float() const {
    return depth_ == 2 ? field_ == Field::embedding
                       : field_ == Field::confidence || field_ == Field::activation || field_ == Field::decay_rate;
  }
  [[nodiscard]] std::string name() const {
    for (const FieldName& known : kFields) {
      if (known.field == field_) return std::string(known.name);
    }
    return "the line";
  }
  bool stop(std::string why) {
    if (reason.empty()) reason = std::move(why);
    return false;
  }
  bool refuse(const char* what) {
    return stop(depth_ == 0 ? std::string("a line is an object, not ") + what : name() + " cannot be or hold " + what);
  }
  bool take_float(float value) {
    if (depth_ == 2) {
      record_.embedding.push_back(value);
    } else {
      (field_ == Field::confidence   ? record_.confidence
       : field_ == Field::activation ? record_.activation
                                     : record_.decay_rate) = value;
    }
    return true;
  }
  bool id_once(std::string id) {
    if (has_id_) return stop("id and id_base64 stand both");
    has_id_ = true;
    record_.id = std::move(id);
    return true;
  }
  bool content_once(std::optional<std::string> content) {
    if (has_content_) return stop("content and content_base64 stand both");
    has_content_ = true;
    record_.content = std::move(content);
    return true;
  }

  const std::string_view line_;
  LineRecord& record_;
  const UnknownFields unknown_;
  uint32_t depth_ = 0;
  uint32_t seen_ = 0;
  Field field_ = Field::unknown;
  bool has_id_ = false;
  bool has_content_ = false;
};

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
      {"orphans", stats.orphans},
      {"segments", stats.segments},
      {"content_bytes_live", stats.content_bytes_live},
      {"content_bytes_total", stats.content_bytes_total},
      {"sequence", stats.sequence},
      {"sequence_durable", stats.sequence_durable},
      {"sessions", stats.sessions},
      {"channels", stats.channels},
      {"puts", stats.puts},
      {"removes", stats.removes},
      {"updates", stats.updates},
      {"touches", stats.touches},
      {"touches_dropped", stats.touches_dropped},
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

std::string numbers_json(const std::vector<std::pair<const char*, std::optional<uint64_t>>>& numbers) {
  Json json;
  for (const auto& [name, value] : numbers) json[name] = value ? Json(*value) : Json(nullptr);
  return json.dump();
}

base::Status record_from_json(std::string_view line, UnknownFields unknown, LineRecord& ret_record) {
  std::vector<float> room = std::move(ret_record.embedding);
  room.clear();
  ret_record = LineRecord();
  ret_record.embedding = std::move(room);
  LineListener listener(line, unknown, ret_record);
  if (!Json::sax_parse(line, &listener)) return base::fail(WARM_E_INVALID, "%s", listener.reason.c_str());
  if (!listener.has_id()) return base::fail(WARM_E_INVALID, "it has no id");
  return {};
}

}  // namespace warmtier::tools
