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

// A run of requests goes into one lane under one claim, as many of them as it has room for: in order, each with its commit word
// before the next is written.
struct Run {
  const OutgoingRequest* const* requests = nullptr;
  uint32_t count = 0;
};
// How many were published: from the first on. 0: the lane is busy, full or fenced.
uint32_t publish_in(const Link& link, uint32_t lane, uint32_t tid, const Run& run) noexcept;
// In the first lane that takes any, and which one that was.
struct Published {
  uint32_t count = 0;
  uint32_t lane = 0;
  bool met_fenced = false;  // a lane that was tried in vain is fenced
};
Published publish_in_one(const Link& link, uint32_t lane, uint32_t tid, const Run& run) noexcept;
Published publish_in_any(const Link& link, uint32_t tid, const Run& run) noexcept;

}  // namespace warmtier::libclient
