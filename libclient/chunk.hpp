// Chunks: up to 1024 embeddings as one matrix, in place. Nothing is pinned: what a chunk remembers of each row is its put word,
// and a row counts only if its line still says the same after the row was read.
#pragma once

#include <cstdint>

#include "base/error.hpp"
#include "libclient/client.hpp"
#include "libclient/record.hpp"
#include "warmtier/warmtier.h"

namespace warmtier::libclient {

base::Result<uint64_t> count_chunks(ClientState& state);
// `absent`: the store has fewer chunks.
base::Result<Presence> open_chunk(ClientState& state, uint64_t number, warm_chunk& ret_chunk);
base::Status check_chunk(ClientState& state, warm_chunk& chunk);
// `absent`: the row held no record when the chunk was opened, or does not hold that one any more.
base::Result<Presence> view_in_chunk(ClientState& state, const warm_chunk& chunk, uint32_t row, warm_view& ret_view);
base::Status close_chunk(ClientState& state, warm_chunk& chunk);

}  // namespace warmtier::libclient
