#include "daemon/config.hpp"

#include <grp.h>
#include <pwd.h>
#include <unistd.h>

#include <toml++/toml.h>
#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <limits>
#include <map>
#include <sstream>
#include <string_view>
#include <vector>

namespace warmtier::daemon {
namespace {

using base::fail;
using base::Status;

using Reader = std::function<Status(const toml::node&, const std::string& where)>;
// In TOML: what holds, or nothing when there is nothing to say.
using Writer = std::function<std::string()>;

// One key: what it takes and where that goes, and how it is said.
struct Key {
  Reader read;
  Writer write;
  bool at_once = false;  // a reload changes it
  bool fixed = false;    // of the store, when it is made
};
using Keys = std::map<std::string, Key, std::less<>>;

std::string place_of(const std::string& file, const toml::node& node) {
  return file + ":" + std::to_string(node.source().begin.line);
}

template <typename Number>
Key number(Number* ret_value, uint64_t min, uint64_t max) {
  const Reader read = [=](const toml::node& node, const std::string& where) -> Status {
    const auto value = node.value_exact<int64_t>();
    if (!value)
      return fail(WARM_E_INVALID, "%s is not a whole number; %llu to %llu are possible", where.c_str(),
                  static_cast<unsigned long long>(min), static_cast<unsigned long long>(max));
    if (*value < 0 || static_cast<uint64_t>(*value) < min || static_cast<uint64_t>(*value) > max) {
      return fail(WARM_E_INVALID, "%s is %lld; %llu to %llu are possible", where.c_str(), static_cast<long long>(*value),
                  static_cast<unsigned long long>(min), static_cast<unsigned long long>(max));
    }
    *ret_value = static_cast<Number>(*value);
    return {};
  };
  return {.read = read, .write = [=] { return std::to_string(*ret_value); }};
}

// Of a new store: `otherwise` holds when nobody wishes anything.
template <typename Number>
Key wish(std::optional<Number>* ret_value, Number otherwise, uint64_t min, uint64_t max) {
  const Reader read = [=](const toml::node& node, const std::string& where) -> Status {
    Number value{};
    if (auto s = number(&value, min, max).read(node, where); !s) return s;
    *ret_value = value;
    return {};
  };
  return {.read = read, .write = [=] { return std::to_string(ret_value->value_or(otherwise)); }, .fixed = true};
}

// A literal string of TOML knows no escapes; what it cannot hold is written as a basic one.
std::string quoted(const std::string& text) {
  const auto plain = [](char c) { return static_cast<unsigned char>(c) >= 0x20 && c != 0x7f && c != '\''; };
  if (std::ranges::all_of(text, plain)) return "'" + text + "'";
  std::string result = "\"";
  for (const char c : text) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) {
      char escaped[8];
      std::snprintf(escaped, sizeof escaped, "\\u%04X", static_cast<unsigned>(static_cast<unsigned char>(c)));
      result += escaped;
      continue;
    }
    if (c == '"' || c == '\\') result += '\\';
    result += c;
  }
  return result + "\"";
}

Key text(std::string* ret_value) {
  const Reader read = [=](const toml::node& node, const std::string& where) -> Status {
    const auto value = node.value_exact<std::string>();
    if (!value || value->empty()) return fail(WARM_E_INVALID, "%s is not a text with at least one character", where.c_str());
    *ret_value = *value;
    return {};
  };
  return {.read = read, .write = [=] { return ret_value->empty() ? std::string() : quoted(*ret_value); }};
}

Key flag(bool* ret_value) {
  const Reader read = [=](const toml::node& node, const std::string& where) -> Status {
    const auto value = node.value_exact<bool>();
    if (!value) return fail(WARM_E_INVALID, "%s is neither true nor false", where.c_str());
    *ret_value = *value;
    return {};
  };
  return {.read = read, .write = [=] { return std::string(*ret_value ? "true" : "false"); }};
}

constexpr std::array<const char*, 4> kAccessNames = {"none", "read", "write", "admin"};  // by layout::Access

Status read_access(const toml::node& node, const std::string& where, layout::Access* ret_access) {
  const auto value = node.value_exact<std::string>();
  for (uint32_t i = 0; i < kAccessNames.size(); ++i) {
    if (!value || *value != kAccessNames[i]) continue;
    *ret_access = static_cast<layout::Access>(i);
    return {};
  }
  return fail(WARM_E_INVALID, "%s is none of \"none\", \"read\", \"write\", \"admin\"", where.c_str());
}
std::string access_text(layout::Access access) { return quoted(kAccessNames[static_cast<uint32_t>(access)]); }

Key access(layout::Access* ret_access) {
  return {.read = [=](const toml::node& node, const std::string& where) { return read_access(node, where, ret_access); },
          .write = [=] { return access_text(*ret_access); }};
}

Status read_table(const toml::node& node, const std::string& file, const std::string& name, const Keys& keys) {
  const toml::table* table = node.as_table();
  if (table == nullptr) return fail(WARM_E_INVALID, "%s: %s is not a table", place_of(file, node).c_str(), name.c_str());
  for (const auto& [key, value] : *table) {
    const std::string full = name.empty() ? std::string(key.str()) : name + "." + std::string(key.str());
    const auto found = keys.find(key.str());
    if (found == keys.end()) {
      std::string known;
      for (const auto& [other, unused] : keys) known += (known.empty() ? "" : ", ") + other;
      return fail(WARM_E_INVALID, "%s: unknown key %s; known here: %s", place_of(file, value).c_str(), full.c_str(),
                  known.c_str());
    }
    if (auto s = found->second.read(value, place_of(file, value) + ": " + full); !s) return s;
  }
  return {};
}

std::optional<uint32_t> number_of(std::string_view name) {
  uint32_t id = 0;
  const auto parsed = std::from_chars(name.data(), name.data() + name.size(), id);
  if (parsed.ec != std::errc() || parsed.ptr != name.data() + name.size() || id == std::numeric_limits<uint32_t>::max())
    return std::nullopt;
  return id;
}

std::optional<uint32_t> user_id(const std::string& name) {
  if (const auto id = number_of(name)) return id;
  const passwd* entry = ::getpwnam(name.c_str());
  return entry == nullptr ? std::nullopt : std::optional<uint32_t>(entry->pw_uid);
}

std::optional<uint32_t> group_id(const std::string& name) {
  if (const auto id = number_of(name)) return id;
  const group* entry = ::getgrnam(name.c_str());
  return entry == nullptr ? std::nullopt : std::optional<uint32_t>(entry->gr_gid);
}

// A table of names (or numbers) and what each may do. Said with numbers, one line each, in a table of its own.
Key people(const std::string& file, const std::string& name, const char* kind,
           std::optional<uint32_t> (*find)(const std::string&), std::map<uint32_t, layout::Access>* ret_rules) {
  const Reader read = [=](const toml::node& node, const std::string&) -> Status {
    const toml::table* rules = node.as_table();
    if (rules == nullptr) return fail(WARM_E_INVALID, "%s: %s is not a table", place_of(file, node).c_str(), name.c_str());
    for (const auto& [key, value] : *rules) {
      const std::string who(key.str());
      const std::string where = place_of(file, value) + ": " + name + "." + who;
      const auto id = find(who);
      if (!id) return fail(WARM_E_INVALID, "%s: there is no %s \"%s\" on this host", where.c_str(), kind, who.c_str());
      layout::Access granted{};
      if (auto s = read_access(value, where, &granted); !s) return s;
      (*ret_rules)[*id] = granted;
    }
    return {};
  };
  const Writer write = [=] {
    std::string rules;
    for (const auto& [id, granted] : *ret_rules) {
      rules += (rules.empty() ? "{ " : ", ") + std::to_string(id) + " = " + access_text(granted);
    }
    return rules.empty() ? "{}" : rules + " }";
  };
  return {.read = read, .write = write};
}

Key io_backend(io::Choice* ret_choice) {
  const Reader read = [=](const toml::node& node, const std::string& where) -> Status {
    auto choice = io_choice(node.value_or(std::string()));
    if (!choice) return fail(WARM_E_INVALID, "%s: %s", where.c_str(), choice.error().text.c_str());
    *ret_choice = *choice;
    return {};
  };
  return {.read = read, .write = [=] {
            return quoted(*ret_choice == io::Choice::uring ? "uring" : *ret_choice == io::Choice::threads ? "threads" : "auto");
          }};
}

Key at_once(Key key) {
  key.at_once = true;
  return key;
}

// Every key there is, in the sections of the file; they read into and write from `config`.
std::vector<std::pair<std::string, Keys>> sections_of(const std::string& file, Config& config) {
  using layout::kCapacityMax, layout::kDimensionsMax, layout::kSegmentBytesMin, layout::kSegmentBytesMax;
  return {
      {"store",
       {{"path", text(&config.store)},
        {"dimensions", wish(&config.dimensions, kDimensionsDefault, 1, kDimensionsMax)},
        {"capacity", wish(&config.capacity, kCapacityDefault, 1, kCapacityMax)},
        {"segment_bytes", wish(&config.segment_bytes, layout::kSegmentBytesDefault, kSegmentBytesMin, kSegmentBytesMax)},
        {"content_bytes_max", number(&config.content_bytes_max, 0, layout::kContentBytesMax)},
        {"checkpoint_interval_ms", number(&config.checkpoint_interval_ms, kCheckpointIntervalMsMin, kCheckpointIntervalMsMax)},
        {"prepared_slots", number(&config.prepared_slots, kPreparedSlotsMin, kPreparedSlotsMax)},
        {"large_pages", flag(&config.large_pages)}}},
      {"daemon",
       {{"socket", text(&config.socket)},
        {"io", io_backend(&config.io)},
        {"spin_us", number(&config.spin_us, 0, kSpinUsMax)},
        {"orphan_grace_s", number(&config.orphan_grace_s, 0, kOrphanGraceSecondsMax)},
        {"metrics_socket", text(&config.metrics_socket)},
        {"metrics_port", number(&config.metrics_port, 0, kMetricsPortMax)}}},
      {"access",
       {{"others", at_once(access(&config.access.others))},
        {"private_channel", at_once(flag(&config.access.private_channel))},
        {"users", at_once(people(file, "access.users", "user", user_id, &config.access.users))},
        {"groups", at_once(people(file, "access.groups", "group", group_id, &config.access.groups))}}},
  };
}

}  // namespace

base::Result<io::Choice> io_choice(const std::string& name) {
  if (name == "auto") return io::Choice::automatic;
  if (name == "uring") return io::Choice::uring;
  if (name == "threads") return io::Choice::threads;
  return fail(WARM_E_INVALID, "\"%s\" is none of \"auto\", \"uring\", \"threads\"", name.c_str());
}

Status parse_config(const std::string& source, const std::string& name, Config* ret_config) {
  Config config = *ret_config;
  Keys top;
  for (auto& [section, keys] : sections_of(name, config)) {
    top[section].read = [&name, section, keys](const toml::node& node, const std::string&) {
      return read_table(node, name, section, keys);
    };
  }
  try {
    const toml::table parsed = toml::parse(source, name);
    if (auto s = read_table(parsed, name, "", top); !s) return s;
  } catch (const toml::parse_error& error) {
    return fail(WARM_E_INVALID, "%s:%u: %s", name.c_str(), static_cast<unsigned>(error.source().begin.line),
                std::string(error.description()).c_str());
  }
  *ret_config = std::move(config);
  return {};
}

std::string config_text(const Config& config) {
  Config copy = config;
  std::string result;
  for (const auto& [section, keys] : sections_of("", copy)) {
    result += (result.empty() ? "[" : "\n[") + section + "]\n";
    for (const auto& [key, how] : keys) {
      const std::string value = how.write();
      result += value.empty() ? "#" + key + " =\n" : key + " = " + value + "\n";
    }
  }
  return result;
}

std::vector<std::string> only_at_start(const Config& running, const Config& wanted) {
  Config a = running;
  Config b = wanted;
  const auto before = sections_of("", a);
  const auto after = sections_of("", b);
  std::vector<std::string> names;
  for (size_t i = 0; i < before.size(); ++i) {
    for (const auto& [key, how] : before[i].second) {
      if (!how.at_once && !how.fixed && how.write() != after[i].second.at(key).write())
        names.push_back(before[i].first + "." + key);
    }
  }
  return names;
}

Status read_config(const std::string& path, Config* ret_config) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return base::fail_errno(errno, "open %s", path.c_str());
  std::ostringstream source;
  source << file.rdbuf();
  if (file.bad()) return base::fail_errno(errno, "read %s", path.c_str());
  return parse_config(source.str(), path, ret_config);
}

base::Result<std::string> default_socket_path() {
  if (const char* runtime = std::getenv("RUNTIME_DIRECTORY"); runtime != nullptr && *runtime != '\0') {
    const std::string_view first = std::string_view(runtime).substr(0, std::string_view(runtime).find(':'));
    return std::string(first) + "/sock";
  }
  if (::geteuid() == 0) return std::string("/run/warmtier/sock");
  if (const char* runtime = std::getenv("XDG_RUNTIME_DIR"); runtime != nullptr && *runtime != '\0')
    return std::string(runtime) + "/warmtier.sock";
  return fail(WARM_E_INVALID, "no place for the socket: give --socket PATH, or set XDG_RUNTIME_DIR");
}

}  // namespace warmtier::daemon
