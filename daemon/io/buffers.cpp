#include "daemon/io/buffers.hpp"

#include <sys/mman.h>

#include <bit>
#include <cerrno>

#include "base/assert.hpp"

namespace warmtier::daemon::io {

Buffer& Buffer::operator=(Buffer&& other) noexcept {
  if (this == &other) return *this;
  give_back();
  pool_ = std::exchange(other.pool_, nullptr);
  bytes_ = std::exchange(other.bytes_, {});
  return *this;
}

void Buffer::give_back() noexcept {
  if (pool_ != nullptr) pool_->give_back(bytes_);
  pool_ = nullptr;
}

base::Result<BufferPool> BufferPool::make() {
  constexpr size_t kBytes = kBuffers * kBufferBytes;
  void* memory = ::mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return base::fail_errno(errno, "mmap of %zu bytes for I/O buffers", kBytes);
  // A child of fork would copy pages that the device may be writing.
  if (::madvise(memory, kBytes, MADV_DONTFORK) != 0) {
    const int reason = errno;
    ::munmap(memory, kBytes);
    return base::fail_errno(reason, "madvise of the I/O buffers");
  }
  return BufferPool({static_cast<std::byte*>(memory), kBytes});
}

BufferPool::~BufferPool() {
  if (!memory_.empty()) ::munmap(memory_.data(), memory_.size());
}

Buffer BufferPool::take() noexcept {
  if (free_ == 0) return {};
  const auto index = static_cast<size_t>(std::countr_zero(free_));
  free_ &= free_ - 1;
  return {this, memory_.subspan(index * kBufferBytes, kBufferBytes)};
}

bool BufferPool::contains(const std::byte* address, uint64_t bytes) const noexcept {
  const auto at = reinterpret_cast<uintptr_t>(address);
  const auto begin = reinterpret_cast<uintptr_t>(memory_.data());
  return at >= begin && at - begin <= memory_.size() && bytes <= memory_.size() - (at - begin);
}

void BufferPool::give_back(std::span<std::byte> bytes) noexcept {
  const auto index = static_cast<size_t>(bytes.data() - memory_.data()) / kBufferBytes;
  WARM_ASSERT(index < kBuffers && (free_ >> index & 1) == 0);
  free_ |= uint32_t{1} << index;
}

}  // namespace warmtier::daemon::io
