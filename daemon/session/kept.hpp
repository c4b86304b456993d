// Memory of channels and sessions that the service manager keeps over the daemon's death, so that the next one is handed it at
// its start and waits for nobody (docs/protocol.md, T9).
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "base/fd.hpp"

namespace warmtier::daemon::session {

class Keeper {
 public:
  virtual ~Keeper() = default;
  // A copy of the descriptor is kept under this name until it is let go of. Never waits; false: try again later.
  virtual bool keep(const std::string& name, int fd) noexcept = 0;
  virtual void let_go(const std::string& name) noexcept = 0;
};

// What an earlier daemon left, by name.
using Kept = std::map<std::string, base::Fd>;

constexpr const char* kKeptPrefix = "warmtier-";
inline std::string kept_channel_name(uint64_t number) { return kKeptPrefix + ("channel-" + std::to_string(number)); }
inline std::string kept_session_name(uint64_t number) { return kKeptPrefix + ("session-" + std::to_string(number)); }
inline base::Fd take_kept(Kept& kept, const std::string& name) noexcept {
  const auto found = kept.find(name);
  if (found == kept.end()) return {};
  base::Fd fd = std::move(found->second);
  kept.erase(found);
  return fd;
}

}  // namespace warmtier::daemon::session
