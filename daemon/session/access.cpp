#include "daemon/session/access.hpp"

#include <algorithm>

namespace warmtier::daemon::session {

layout::Access AccessRules::of(uid_t uid, gid_t gid, std::span<const gid_t> more_groups, uid_t own_uid) const {
  // An entry for a user holds alone, so that one member of a group can be given less.
  if (const auto user = users.find(uid); user != users.end()) return user->second;
  if (uid == own_uid) return layout::Access::admin;
  layout::Access granted = others;
  const auto add = [&](gid_t group) {
    const auto entry = groups.find(group);
    if (entry != groups.end()) granted = std::max(granted, entry->second);
  };
  add(gid);
  for (gid_t group : more_groups) add(group);
  return granted;
}

bool AccessRules::names_others(uid_t own_uid) const {
  const auto grants = [](const auto& entry) { return entry.second != layout::Access::none; };
  return others != layout::Access::none || std::ranges::any_of(groups, grants) ||
         std::ranges::any_of(users, [&](const auto& entry) { return entry.first != own_uid && grants(entry); });
}

}  // namespace warmtier::daemon::session
