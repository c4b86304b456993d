// Reading: no system call, no lock, no store to memory that another process writes, but for a new segment or a new daemon.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>

#include "base/error.hpp"
#include "libclient/client.hpp"
#include "libclient/record.hpp"
#include "warmtier/warmtier.h"

namespace warmtier::libclient {

// `flags`: WARM_VERIFY, WARM_COPY.
base::Result<Presence> get(ClientState& state, const void* id, size_t id_bytes, uint32_t flags, warm_view& ret_view);
// With the caller's patience, which may have lasted for other ids already.
base::Result<Presence> get(ClientState& state, Patience& patience, const void* id, size_t id_bytes, uint32_t flags,
                           warm_view& ret_view);
// A code for each id, those that are no ids included; `ret_error`: the last failure that has a sentence of its own.
void get_many(ClientState& state, const warm_id* ids, size_t count, uint32_t flags, warm_view* ret_views, int32_t* ret_codes,
              std::optional<base::Error>& ret_error);
// WARM_E_LIMIT where a room is too small: then lengths and scalars are filled.
base::Result<Presence> get_copy(ClientState& state, const void* id, size_t id_bytes, uint32_t flags, warm_copy& copy);
base::Result<Presence> get_scalars(ClientState& state, const void* id, size_t id_bytes, warm_scalars& ret_scalars);
base::Status check_id(const void* id, size_t id_bytes);
base::Result<Presence> exists(ClientState& state, const void* id, size_t id_bytes);
// Leaves a touch of the record for the daemon; a ring without room counts a drop.
enum class Touched { yes, dropped, absent };
base::Result<Touched> touch_record(ClientState& state, const void* id, size_t id_bytes);
// Nothing happens to a view that is not held any more. False: it is another client's.
bool release(ClientState& state, warm_view& view) noexcept;
// WARM_VIEW_*; WARM_E_STALE for a view from before a fork, a recovery or a lost session.
base::Result<uint32_t> check_view(ClientState& state, const warm_view& view);
base::Status read_stats(ClientState& state, warm_stats& ret_stats);
base::Status read_info(ClientState& state, warm_info& ret_info);

}  // namespace warmtier::libclient
