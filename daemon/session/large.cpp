#include "daemon/session/large.hpp"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/mman.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "base/failpoint.hpp"

namespace warmtier::daemon::session {
namespace {

constexpr uint64_t kReadBytesMax = uint64_t{1} << 30;

base::Status read_all(int fd, std::byte* to, uint64_t offset, uint64_t bytes) {
  while (bytes > 0) {
    const ssize_t got = ::pread(fd, to, std::min(bytes, kReadBytesMax), static_cast<off_t>(offset));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return base::fail_errno(errno, "read the content memfd");
    if (got == 0)
      return base::fail(WARM_E_INVALID, "the content memfd ends %llu bytes early", static_cast<unsigned long long>(bytes));
    to += got;
    offset += static_cast<uint64_t>(got);
    bytes -= static_cast<uint64_t>(got);
  }
  return {};
}

}  // namespace

base::Status check_content_memfd(int memfd, uint64_t content_bytes) {
  constexpr int kSeals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE;
  // First: only memory has seals, and any other question goes to the file's own file system, which may never answer.
  const int seals = ::fcntl(memfd, F_GET_SEALS);
  if (seals < 0 || (seals & kSeals) != kSeals)
    return base::fail(WARM_E_INVALID, "the content memfd is not sealed against shrink, grow and write");
  struct statfs fs{};
  if (::fstatfs(memfd, &fs) != 0) return base::fail_errno(errno, "fstatfs of the content");
  // A sealed hugetlb memfd passes the seal check, and reading it can wait for huge pages.
  if (fs.f_type != TMPFS_MAGIC) return base::fail(WARM_E_INVALID, "the content is not a memfd in ordinary memory");
  auto length = base::file_bytes(memfd);
  if (!length) return base::pass(std::move(length));
  if (*length != content_bytes) {
    return base::fail(WARM_E_INVALID, "the content memfd has %llu bytes, the request says %llu",
                      static_cast<unsigned long long>(*length), static_cast<unsigned long long>(content_bytes));
  }
  return {};
}

SocketRequest LargePut::request() noexcept {
  SocketRequest request{.number = number,
                        .header = header,
                        .embedding = bytes.get(),
                        .id = nullptr,
                        .content = nullptr,
                        .staged = nullptr,
                        .refused = refused ? &*refused : nullptr};
  if (refused) return request;
  request.id = request.embedding + uint64_t{header.dimensions} * sizeof(float);
  if (staged) {
    request.staged = &*staged;
  } else {
    request.content = request.id + header.id_bytes;
  }
  return request;
}

LargePut receive_large_put(std::span<const std::byte> message, const base::Fd& content, layout::Access access,
                           const RequestLimits& limits, uint64_t own_segment_above_bytes, uint64_t room_bytes,
                           const Stage& stage) {
  layout::PutMessage head;
  std::memcpy(&head, message.data(), sizeof head);
  LargePut put;
  put.number = head.number;
  put.header = head.request;
  const auto refuse = [&](store::Answer answer) {
    put.refused = answer;
    return std::move(put);
  };
  const auto refuse_code = [&](int32_t code) {
    return refuse({.status = code, .sequence = 0, .slot = layout::kNoSlot, .limit = 0});
  };
  if (const store::Answer bad = answer_to_bad_request(put.header, limits, false); bad.status != WARM_OK) return refuse(bad);
  if (access < layout::Access::write) return refuse_code(WARM_E_ACCESS);
  if (auto s = check_content_memfd(content.get(), put.header.content_bytes); !s) return refuse_code(s.error().code);

  const uint64_t front =
      uint64_t{put.header.dimensions} * sizeof(float) + put.header.id_bytes;  // as long as validate_message found
  const bool own = put.header.content_bytes > own_segment_above_bytes;
  if (!own && put.header.content_bytes > room_bytes) return refuse_code(WARM_E_BUSY);
  // Not by new, which stops the daemon when there is no memory: how much this is a client says.
  put.bytes.reset(static_cast<std::byte*>(std::malloc(front + (own ? 0 : put.header.content_bytes))));
  if (!put.bytes) return refuse_code(WARM_E_NOMEM);
  std::memcpy(put.bytes.get(), message.data() + sizeof head, front);
  WARM_FAILPOINT("daemon.large.before_read");
  if (!own) {
    if (auto s = read_all(content.get(), put.bytes.get() + front, 0, put.header.content_bytes); !s)
      return refuse_code(s.error().code);
    return put;
  }
  auto staged = stage(put.header.id_bytes, put.header.content_bytes,
                      [&](std::byte* to, uint64_t offset, uint64_t bytes) { return read_all(content.get(), to, offset, bytes); });
  if (!staged) return refuse_code(staged.error().code);
  put.staged.emplace(std::move(*staged));
  WARM_FAILPOINT("daemon.large.staged");
  return put;
}

}  // namespace warmtier::daemon::session
