// Writing: what each operation puts into a request. How a request is handed in and answered stands in requests.hpp.
#pragma once

#include <cstdint>

#include "base/error.hpp"
#include "libclient/client.hpp"
#include "warmtier/warmtier.h"

namespace warmtier::libclient {

// The arguments' pointers and sizes are checked already; values are checked here. The sequence of the operation.
base::Result<uint64_t> put(ClientState& state, const warm_memory& memory);
base::Result<uint64_t> remove(ClientState& state, const void* id, size_t id_bytes, uint32_t condition, uint64_t if_sequence);

base::Result<uint64_t> update_scalars(ClientState& state, const warm_update& update);
// How many records there were.
base::Result<uint64_t> clear(ClientState& state);
// How many touches the daemon will find.
base::Result<size_t> touch(ClientState& state, const warm_id* ids, size_t count);

// In order, one result each. `check` looks at one element as the single calls' arguments are looked at.
base::Status put_many(ClientState& state, const warm_memory* memories, size_t count, base::Status (*check)(const warm_memory&),
                      warm_result* ret_results);
base::Status remove_many(ClientState& state, const warm_id* ids, size_t count, base::Status (*check)(const warm_id&),
                         warm_result* ret_results);

// The same without waiting for the answer: tickets.hpp harvests it.
base::Result<warm_ticket> hand_in_put(ClientState& state, const warm_memory& memory);
base::Result<warm_ticket> hand_in_update(ClientState& state, const warm_update& update);
base::Result<warm_ticket> hand_in_remove(ClientState& state, const void* id, size_t id_bytes, uint32_t condition,
                                         uint64_t if_sequence);

}  // namespace warmtier::libclient
