// Many requests of one call, carried out in the order in which they are given.
//
// All of them go through one lane, for a lane is served in order: up to its eight entries are on their way at a time, and are
// reaped in order while more are published. Before the batch changes to another lane, because this one is fenced, busy or full of
// others' requests, and before content that goes by the socket, everything on its way was answered.
#pragma once

#include <cstddef>
#include <functional>

#include "base/error.hpp"
#include "libclient/client.hpp"
#include "libclient/requests.hpp"
#include "warmtier/warmtier.h"

namespace warmtier::libclient {

// `make` says what element i asks for; an error is that element's result and the others go on. After an element whose answer did
// not come the rest is not tried: WARM_E_BUSY. An error: nothing was carried out, no result was written.
using MakeElement = std::function<base::Result<OutgoingRequest>(size_t i, const StoreLimits& limits)>;
base::Status carry_out_many(ClientState& state, size_t count, const MakeElement& make, warm_result* ret_results);

}  // namespace warmtier::libclient
