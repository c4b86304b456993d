// What a new daemon takes over from the one before it: results files, and in them the sessions whose processes still live.
#pragma once

#include <sys/types.h>

#include <memory>
#include <vector>

#include "base/error.hpp"
#include "base/fd.hpp"
#include "daemon/session/access.hpp"
#include "daemon/session/channel.hpp"
#include "daemon/session/kept.hpp"

namespace warmtier::daemon::session {

// A session of an earlier daemon. Its pins and sleep words are unknown until its process hands its memory back, or the service
// manager does.
struct Orphan {
  std::shared_ptr<Session> session;
  base::Fd memfd;  // the service manager kept it: then nobody waits for its process
  base::Fd pidfd;  // none: its process cannot be seen from here and counts as alive
};

struct AdoptedChannel {
  std::unique_ptr<Channel> channel;
  std::vector<Orphan> orphans;
};

// Reads channels/. Entries of processes that have ended become dead; files of no use, and those without a living session, are
// unlinked. `rules` says what the orphans may do. `is_void`: the store was recovered from the device; numbers that were erased
// may stand in readers' hands, open requests end as unknown, and no channel is adopted. What is taken
// of `kept` fits what was handed out; the rest stays in it.
base::Result<std::vector<AdoptedChannel>> adopt_channels(int channels_directory, const StoreIdentity& store,
                                                         const AccessRules& rules, uid_t own_uid, bool is_void, Kept& kept);

}  // namespace warmtier::daemon::session
