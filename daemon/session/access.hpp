// Who may do what, by user and group. Pure; filled by the configuration.
#pragma once

#include <sys/types.h>

#include <map>
#include <span>

#include "layout/control.hpp"

namespace warmtier::daemon::session {

// A user's own entry holds; else the most that any of its groups, or `others`, grants. Without entries the daemon's own user
// administers and nobody else may do anything.
struct AccessRules {
  std::map<uid_t, layout::Access> users;
  std::map<gid_t, layout::Access> groups;
  layout::Access others = layout::Access::none;
  bool private_channel = false;  // each process its own channel: users' processes cannot harm each other

  [[nodiscard]] layout::Access of(uid_t uid, gid_t gid, std::span<const gid_t> more_groups, uid_t own_uid) const;
  // Whether anyone but the daemon's own user may connect.
  [[nodiscard]] bool names_others(uid_t own_uid) const;
};

}  // namespace warmtier::daemon::session
