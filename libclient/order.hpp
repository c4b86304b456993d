// Order and change: which change was the last, waiting for a later one, and what changed since (docs/protocol.md, N and F); and
// what an operator asks for: everything on the device, and who holds what.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/error.hpp"
#include "libclient/client.hpp"
#include "warmtier/warmtier.h"

namespace warmtier::libclient {

// Of the last visible change. No system call, and no daemon, as long as there is no other one.
base::Result<uint64_t> last_sequence(ClientState& state);
// Live records, as the status page says, under the same conditions.
base::Result<uint64_t> record_count(ClientState& state);
// WARM_E_BUSY at the deadline when nothing later than `after` is visible; 0: one look.
base::Result<uint64_t> wait_for_change(ClientState& state, uint64_t after, uint64_t timeout_ns);

struct ChangesRoom {
  warm_change* changes = nullptr;
  size_t changes_max = 0;
  std::byte* ids = nullptr;
  size_t id_bytes_max = 0;  // at least kIdBytesMax
};
// How many were stored into `room`. WARM_E_GONE: the feed does not reach back so far.
base::Result<size_t> changes_since(ClientState& state, uint64_t after, const ChangesRoom& room);

// Who holds what, by session number: those that fit. Returns how many there are.
base::Result<size_t> sessions(ClientState& state, warm_session* ret_sessions, size_t sessions_max);

// The sequence up to which everything is on the device: not below that of the last change before the call.
base::Result<uint64_t> checkpoint(ClientState& state);

}  // namespace warmtier::libclient
