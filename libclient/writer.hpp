// Writing: a request in a lane, or with large content on the socket; its answer in a result cell.
#pragma once

#include <cstdint>

#include "base/error.hpp"
#include "libclient/client.hpp"
#include "warmtier/warmtier.h"

namespace warmtier::libclient {

// The arguments' pointers and sizes are checked already; values are checked here. The sequence of the operation.
base::Result<uint64_t> put(ClientState& state, const warm_memory& memory);
base::Result<uint64_t> remove(ClientState& state, const void* id, size_t id_bytes, uint32_t condition, uint64_t if_sequence);

}  // namespace warmtier::libclient
