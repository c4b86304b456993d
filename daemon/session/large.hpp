// Content that does not fit a lane: it comes as a sealed memfd on the session's socket.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <memory>
#include <optional>
#include <span>

#include "base/error.hpp"
#include "base/fd.hpp"
#include "daemon/session/channel.hpp"
#include "daemon/store/store.hpp"

namespace warmtier::daemon::session {

// What the store offers to other threads.
using Stage = std::function<base::Result<store::StagedContent>(
    uint32_t id_bytes, uint64_t content_bytes, const std::function<base::Status(std::byte*, uint64_t, uint64_t)>& read)>;

// Only memory that nobody can change, cut or grow any more, of the stated length, and of a file system whose reads cannot hang.
base::Status check_content_memfd(int memfd, uint64_t content_bytes);

struct Free {
  void operator()(std::byte* memory) const noexcept { std::free(memory); }
};

// One request in our own memory.
struct LargePut {
  uint64_t number = 0;
  layout::RequestHeader header{};
  std::unique_ptr<std::byte[], Free> bytes;  // embedding, id, content unless staged
  std::optional<store::StagedContent> staged;
  std::optional<store::Answer> refused;

  [[nodiscard]] SocketRequest request() noexcept;
  // Of the content in our own memory.
  [[nodiscard]] uint64_t content_bytes_held() const noexcept { return refused || staged ? 0 : header.content_bytes; }
};

// `message` is a put message that validate_message found good. Reads the content, never maps it. What is wrong with the request
// or its content becomes its answer, and so does (busy) that there is no room left for it in our memory.
LargePut receive_large_put(std::span<const std::byte> message, const base::Fd& content, layout::Access access,
                           const RequestLimits& limits, uint64_t own_segment_above_bytes, uint64_t room_bytes,
                           const Stage& stage);

}  // namespace warmtier::daemon::session
