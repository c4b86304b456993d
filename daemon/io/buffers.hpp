// A few page-aligned buffers for transfers: fit for O_DIRECT, and registered with the ring where the locked-memory limit allows.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>

#include "base/error.hpp"

namespace warmtier::daemon::io {

constexpr size_t kBufferBytes = size_t{64} << 10;
constexpr size_t kBuffers = 8;
constexpr size_t kBufferAlignment = 4096;

class BufferPool;

// Goes back to its pool when it is destroyed: not while an operation on it is in flight, and not after the pool's Io.
class Buffer {
 public:
  Buffer() noexcept = default;
  Buffer(Buffer&& other) noexcept : pool_(std::exchange(other.pool_, nullptr)), bytes_(std::exchange(other.bytes_, {})) {}
  Buffer& operator=(Buffer&& other) noexcept;
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  ~Buffer() { give_back(); }

  explicit operator bool() const noexcept { return pool_ != nullptr; }
  [[nodiscard]] std::span<std::byte> bytes() const noexcept { return bytes_; }

 private:
  friend class BufferPool;
  Buffer(BufferPool* pool, std::span<std::byte> bytes) noexcept : pool_(pool), bytes_(bytes) {}
  void give_back() noexcept;

  BufferPool* pool_ = nullptr;
  std::span<std::byte> bytes_;
};

// Used by the thread that uses its Io.
class BufferPool {
 public:
  static base::Result<BufferPool> make();
  BufferPool(BufferPool&& other) noexcept : memory_(std::exchange(other.memory_, {})), free_(other.free_) {}
  BufferPool& operator=(BufferPool&&) = delete;
  ~BufferPool();

  // kBufferBytes, with whatever was in it; an empty one when all are taken.
  [[nodiscard]] Buffer take() noexcept;
  // The whole pool, for whoever registers it.
  [[nodiscard]] std::span<std::byte> memory() const noexcept { return memory_; }
  [[nodiscard]] bool contains(const std::byte* address, uint64_t bytes) const noexcept;

 private:
  friend class Buffer;
  explicit BufferPool(std::span<std::byte> memory) noexcept : memory_(memory) {}
  void give_back(std::span<std::byte> bytes) noexcept;

  std::span<std::byte> memory_;
  uint32_t free_ = (uint32_t{1} << kBuffers) - 1;  // bit i: buffer i is here
};

}  // namespace warmtier::daemon::io
