#include "daemon/config.hpp"

#include <grp.h>
#include <pwd.h>
#include <unistd.h>

#include <toml++/toml.h>
#include <cerrno>
#include <charconv>
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

// One key: what it takes and where it goes.
using Reader = std::function<Status(const toml::node&, const std::string& where)>;
using Readers = std::map<std::string, Reader, std::less<>>;

std::string place_of(const std::string& file, const toml::node& node) {
  return file + ":" + std::to_string(node.source().begin.line);
}

template <typename Number>
Reader number(Number* ret_value, uint64_t min, uint64_t max) {
  return [=](const toml::node& node, const std::string& where) -> Status {
    const auto value = node.value_exact<int64_t>();
    if (!value)
      return fail(WARM_E_INVALID, "%s is not a whole number; %llu to %llu are possible", where.c_str(),
                  static_cast<unsigned long long>(min), static_cast<unsigned long long>(max));
    if (*value < 0 || static_cast<uint64_t>(*value) < min || static_cast<uint64_t>(*value) > max) {
      return fail(WARM_E_INVALID, "%s is %lld; %llu to %llu are possible", where.c_str(), static_cast<long long>(*value),
                  static_cast<unsigned long long>(min), static_cast<unsigned long long>(max));
    }
    using Plain = std::conditional_t<std::is_same_v<Number, std::optional<uint32_t>>, uint32_t,
                                     std::conditional_t<std::is_same_v<Number, std::optional<uint64_t>>, uint64_t, Number>>;
    *ret_value = static_cast<Plain>(*value);
    return {};
  };
}

Reader text(std::string* ret_value) {
  return [=](const toml::node& node, const std::string& where) -> Status {
    const auto value = node.value_exact<std::string>();
    if (!value || value->empty()) return fail(WARM_E_INVALID, "%s is not a text with at least one character", where.c_str());
    *ret_value = *value;
    return {};
  };
}

Reader flag(bool* ret_value) {
  return [=](const toml::node& node, const std::string& where) -> Status {
    const auto value = node.value_exact<bool>();
    if (!value) return fail(WARM_E_INVALID, "%s is neither true nor false", where.c_str());
    *ret_value = *value;
    return {};
  };
}

Status read_access(const toml::node& node, const std::string& where, layout::Access* ret_access) {
  static const std::map<std::string, layout::Access, std::less<>> names = {{"none", layout::Access::none},
                                                                           {"read", layout::Access::read},
                                                                           {"write", layout::Access::write},
                                                                           {"admin", layout::Access::admin}};
  const auto value = node.value_exact<std::string>();
  const auto found = value ? names.find(*value) : names.end();
  if (found == names.end()) return fail(WARM_E_INVALID, "%s is none of \"none\", \"read\", \"write\", \"admin\"", where.c_str());
  *ret_access = found->second;
  return {};
}

Reader access(layout::Access* ret_access) {
  return [=](const toml::node& node, const std::string& where) { return read_access(node, where, ret_access); };
}

Status read_table(const toml::node& node, const std::string& file, const std::string& name, const Readers& readers) {
  const toml::table* table = node.as_table();
  if (table == nullptr) return fail(WARM_E_INVALID, "%s: %s is not a table", place_of(file, node).c_str(), name.c_str());
  for (const auto& [key, value] : *table) {
    const std::string full = name.empty() ? std::string(key.str()) : name + "." + std::string(key.str());
    const auto reader = readers.find(key.str());
    if (reader == readers.end()) {
      std::string known;
      for (const auto& [other, unused] : readers) known += (known.empty() ? "" : ", ") + other;
      return fail(WARM_E_INVALID, "%s: unknown key %s; known here: %s", place_of(file, value).c_str(), full.c_str(),
                  known.c_str());
    }
    if (auto s = reader->second(value, place_of(file, value) + ": " + full); !s) return s;
  }
  return {};
}

Reader table(const std::string& file, const std::string& name, Readers readers) {
  return [=](const toml::node& node, const std::string&) { return read_table(node, file, name, readers); };
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

// A table of names (or numbers) and what each may do.
Reader people(const std::string& file, const std::string& name, const char* kind,
              std::optional<uint32_t> (*find)(const std::string&), std::map<uint32_t, layout::Access>* ret_rules) {
  return [=](const toml::node& node, const std::string&) -> Status {
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
  const Reader read_io = [&config](const toml::node& node, const std::string& where) -> Status {
    auto choice = io_choice(node.value_or(std::string()));
    if (!choice) return fail(WARM_E_INVALID, "%s: %s", where.c_str(), choice.error().text.c_str());
    config.io = *choice;
    return {};
  };
  const Readers store = {
      {"path", text(&config.store)},
      {"dimensions", number(&config.dimensions, 1, layout::kDimensionsMax)},
      {"capacity", number(&config.capacity, 1, layout::kCapacityMax)},
      {"segment_bytes", number(&config.segment_bytes, layout::kSegmentBytesMin, layout::kSegmentBytesMax)},
      {"content_bytes_max", number(&config.content_bytes_max, 0, layout::kContentBytesMax)},
      {"checkpoint_interval_ms", number(&config.checkpoint_interval_ms, kCheckpointIntervalMsMin, kCheckpointIntervalMsMax)},
      {"prepared_slots", number(&config.prepared_slots, kPreparedSlotsMin, kPreparedSlotsMax)},
  };
  const Readers daemon = {
      {"socket", text(&config.socket)},
      {"io", read_io},
      {"spin_us", number(&config.spin_us, 0, kSpinUsMax)},
      {"orphan_grace_s", number(&config.orphan_grace_s, 0, kOrphanGraceSecondsMax)},
  };
  const Readers rules = {
      {"others", access(&config.access.others)},
      {"private_channel", flag(&config.access.private_channel)},
      {"users", people(name, "access.users", "user", user_id, &config.access.users)},
      {"groups", people(name, "access.groups", "group", group_id, &config.access.groups)},
  };
  const Readers all = {{"store", table(name, "store", store)},
                       {"daemon", table(name, "daemon", daemon)},
                       {"access", table(name, "access", rules)}};
  try {
    const toml::table parsed = toml::parse(source, name);
    if (auto s = read_table(parsed, name, "", all); !s) return s;
  } catch (const toml::parse_error& error) {
    return fail(WARM_E_INVALID, "%s:%u: %s", name.c_str(), static_cast<unsigned>(error.source().begin.line),
                std::string(error.description()).c_str());
  }
  *ret_config = std::move(config);
  return {};
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
