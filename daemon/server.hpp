// The composition root: store, session room, socket and signals under one roof, and the store thread's loop.
//
// Threads: the one that calls run_server() is the store thread, the only mutator; the intake thread handles sockets; the store
// has a preparing thread of its own. Lock table, by rank: Intake::subscribers_mutex_ (sockets that are told of a larger index),
// above Published::mutex (descriptors to hand out), above the leaves Mailbox::mutex_ and the preparer's. None is ever in memory
// that a client can write, so none has a repair.
#pragma once

#include <functional>

#include "base/error.hpp"
#include "daemon/config.hpp"

namespace warmtier::daemon {

constexpr uint64_t kStoreLockWaitNs = 5'000'000'000;

// The settings as flags and file say now.
using ReadSettings = std::function<base::Result<Config>()>;

// Opens (or makes) the store and serves it until SIGTERM or SIGINT. On SIGHUP the settings are read again, and access is as they
// say for those who attach from then on. A session keeps what it was granted, and a client may rely on the content cap that its
// welcome named.
base::Status run_server(const Config& config, const ReadSettings& read_settings);

}  // namespace warmtier::daemon
