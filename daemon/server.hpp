// The composition root: store, session room, socket and signals under one roof, and the store thread's loop.
//
// Threads: the one that calls run_server() is the store thread, the only mutator; the intake thread handles sockets; the store
// has a preparing thread of its own. Lock table, by rank: Intake::subscribers_mutex_ (sockets that are told of a larger index),
// above Published::mutex (descriptors to hand out), above the leaves Mailbox::mutex_ and the preparer's. None is ever in memory
// that a client can write, so none has a repair.
#pragma once

#include "base/error.hpp"
#include "daemon/config.hpp"

namespace warmtier::daemon {

constexpr uint64_t kStoreLockWaitNs = 5'000'000'000;

// Opens (or makes) the store and serves it until SIGTERM or SIGINT.
base::Status run_server(const Config& config);

}  // namespace warmtier::daemon
