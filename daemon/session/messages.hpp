// What the two threads of the daemon say to each other.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <variant>

#include "base/error.hpp"
#include "base/mapping.hpp"
#include "daemon/session/channel.hpp"
#include "daemon/session/large.hpp"
#include "daemon/session/mailbox.hpp"

namespace warmtier::daemon::session {

// ---- to the store thread ----

// A new session of a channel that may be new as well. Answered by Attached.
struct Attach {
  std::shared_ptr<Session> session;
};
// A session that is live already is handed back, or has a new socket. Answered by Attached.
struct Resume {
  std::shared_ptr<Session> session;
  layout::Access access = layout::Access::none;  // as of now: groups change
  base::WriteMapping region;  // none: we have it
  base::WriteMapping lanes;   // none: we have them
};
// Its client has mapped it: it is live from here on. Answered by Accepted.
struct Accept {
  std::shared_ptr<Session> session;
  uint64_t welcome = 0;  // which one it answers, as the intake thread counts them
};
// Its process ended or said bye. Answered by Ended, when its channel is swept and it is marked dead.
struct End {
  std::shared_ptr<Session> session;
};
// Answered by PutAnswered.
struct Put {
  std::shared_ptr<Session> session;
  LargePut put;
};
// A channel without sessions is not used any more. Answered by Dropped.
struct Drop {
  Channel* channel = nullptr;
};
// Clients' counters may have moved. `done` is called when they are summed.
struct Nudge {
  std::function<void()> done;
};
// Somebody sleeps on the status page until something later than these is visible, or durable.
struct Watch {
  uint64_t sequence_after = layout::kWatchNothing;
  uint64_t durable_after = layout::kWatchNothing;
  bool checkpoint = false;
};
struct Stop {};
using ToStore = std::variant<Attach, Resume, Accept, End, Put, Drop, Nudge, Watch, Stop>;

// ---- to the intake thread ----

struct Attached {
  std::shared_ptr<Session> session;
  uint64_t socket_done = 0;
  bool resumed = false;
  base::Status status;
};
struct Accepted {
  std::shared_ptr<Session> session;
  uint64_t welcome = 0;
};
struct Ended {
  std::shared_ptr<Session> session;
};
struct PutAnswered {
  std::shared_ptr<Session> session;
};
struct Dropped {
  Channel* channel = nullptr;
};
// It asked to be told of an answer: one byte, if its socket takes it.
struct Notify {
  std::shared_ptr<Session> session;
};
struct Quit {};
using ToIntake = std::variant<Attached, Ended, Accepted, PutAnswered, Dropped, Notify, Quit>;

struct Mailboxes {
  Mailbox<ToStore> to_store;
  Mailbox<ToIntake> to_intake;
};

}  // namespace warmtier::daemon::session
