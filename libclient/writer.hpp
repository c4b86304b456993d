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

// The same without waiting for the answer: tickets.hpp harvests it.
base::Result<warm_ticket> hand_in_put(ClientState& state, const warm_memory& memory);
base::Result<warm_ticket> hand_in_remove(ClientState& state, const void* id, size_t id_bytes, uint32_t condition,
                                         uint64_t if_sequence);

}  // namespace warmtier::libclient
