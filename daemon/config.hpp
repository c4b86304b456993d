// What can be set, with every default and every range by its name. Filled from a TOML file; flags win over it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/error.hpp"
#include "daemon/io/io.hpp"
#include "daemon/session/access.hpp"
#include "layout/limits.hpp"

namespace warmtier::daemon {

constexpr uint32_t kDimensionsDefault = 768;
constexpr uint64_t kCapacityDefault = uint64_t{1} << 24;
constexpr uint64_t kCheckpointIntervalMsDefault = 5'000;
constexpr uint64_t kCheckpointIntervalMsMin = 10;
constexpr uint64_t kCheckpointIntervalMsMax = 3'600'000;
constexpr uint32_t kSpinUsDefault = 20;
constexpr uint32_t kSpinUsMax = 10'000;
constexpr uint32_t kPreparedSlotsDefault = 16'384;
constexpr uint32_t kPreparedSlotsMin = 1'024;
constexpr uint32_t kPreparedSlotsMax = 1'048'576;
constexpr uint64_t kOrphanGraceSecondsDefault = 0;  // never
constexpr uint64_t kOrphanGraceSecondsMax = 31'536'000;
constexpr uint16_t kMetricsPortMax = 65'535;

struct Config {
  // [store]
  std::string store;
  std::optional<uint32_t> dimensions;     // of a new store; an existing one must have them
  std::optional<uint64_t> capacity;       // of a new store
  std::optional<uint64_t> segment_bytes;  // of a new store
  uint64_t content_bytes_max = layout::kContentCapBytesDefault;
  uint64_t checkpoint_interval_ms = kCheckpointIntervalMsDefault;
  uint32_t prepared_slots = kPreparedSlotsDefault;
  bool large_pages = false;  // for the tier too: faster gets, and checkpoints that write more
  // [daemon]
  std::string socket;
  io::Choice io = io::Choice::automatic;
  uint32_t spin_us = kSpinUsDefault;  // how long the store thread looks for work before it sleeps; 0: not at all
  uint64_t orphan_grace_s = kOrphanGraceSecondsDefault;
  std::string metrics_socket;  // numbers over HTTP; empty: no such socket
  uint16_t metrics_port = 0;   // the same on 127.0.0.1; 0: no such port
  // [access]
  session::AccessRules access;
};

// WARM_E_INVALID names the line, the key, the value and the range.
base::Status read_config(const std::string& path, Config* ret_config);
base::Status parse_config(const std::string& source, const std::string& name, Config* ret_config);

// Every key with the value that holds, as a file that can be read again: users and groups by number, a path or socket that nobody
// named behind a hash sign.
std::string config_text(const Config& config);
// Keys that differ and that a reload does not change: "store.prepared_slots".
std::vector<std::string> only_at_start(const Config& running, const Config& wanted);

base::Result<io::Choice> io_choice(const std::string& name);
// Where the socket is when nobody says it; WARM_E_INVALID when there is no place for it.
base::Result<std::string> default_socket_path();

}  // namespace warmtier::daemon
