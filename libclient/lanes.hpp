// Publishing a request in a lane of the channel that all processes of this user share.
//
// A claim is short and guarded by the lane's robust mutex: number, fields, payload, then the commit word, which alone makes the
// entry exist. So a claim that dies half-way leaves nothing to roll back; the repair is harmless when it is run twice.
//
// Locks: the lane's mutex (rank: last; nothing is locked or waited for inside). Never two at once, never blocked on.
#pragma once

#include <cstdint>

#include "layout/layout.hpp"

namespace warmtier::libclient {

class Link;

struct OutgoingRequest {
  layout::RequestHeader header{};
  const void* embedding = nullptr;  // header.dimensions * 4 bytes
  const void* id = nullptr;
  const void* content = nullptr;    // header.content_bytes
};

// False: every lane was busy, full or fenced; nothing was published.
bool publish_in_lane(const Link& link, uint32_t tid, const OutgoingRequest& request) noexcept;

}  // namespace warmtier::libclient
