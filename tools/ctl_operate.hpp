// What an operator asks and orders: changes, sessions, a checkpoint, an empty store.
#pragma once

#include <cstdint>
#include <optional>

#include "tools/ctl_client.hpp"

namespace warmtier::tools {

struct CtlWait {
  std::optional<uint64_t> after;  // none: what is visible now
};
struct CtlChanges {
  std::optional<uint64_t> after;  // none: what is visible now
  bool follow = false;
};
struct CtlSessions {};
struct CtlCheckpoint {};
struct CtlClear {
  bool yes = false;
};

Exit ctl_wait(const CtlOptions& options, const CtlWait& wait);
Exit ctl_changes(const CtlOptions& options, const CtlChanges& how);
Exit ctl_sessions(const CtlOptions& options, const CtlSessions& sessions);
Exit ctl_checkpoint(const CtlOptions& options, const CtlCheckpoint& checkpoint);
Exit ctl_clear(const CtlOptions& options, const CtlClear& clear);

}  // namespace warmtier::tools
