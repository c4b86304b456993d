// A mapped range with an owner; what may be done with it is part of its type. The maps themselves are Boost.Interprocess
// mapped regions over our own descriptors. A map may be longer than its file: the file grows into it.
//
// A map of a large page or more starts where the kernel can use large pages: address and file offset agree modulo their size.
#pragma once

#include <cstddef>
#include <memory>

#include "base/error.hpp"

namespace warmtier::base {

namespace detail {
struct Mapped;
class Region {
 public:
  Region() noexcept;
  ~Region();
  Region(Region&&) noexcept;
  Region& operator=(Region&&) noexcept;
  static Result<Region> map(int fd, size_t offset, size_t bytes, bool writable);
  [[nodiscard]] void* address() const noexcept { return address_; }
  [[nodiscard]] size_t bytes() const noexcept { return bytes_; }
  void abandon() noexcept;  // stays mapped for the life of the process

 private:
  std::unique_ptr<Mapped> mapped_;
  void* address_ = nullptr;
  size_t bytes_ = 0;
};
}  // namespace detail

// PROT_READ, MAP_SHARED.
class ReadMapping {
 public:
  static Result<ReadMapping> map(int fd, size_t bytes, size_t offset = 0);
  [[nodiscard]] const std::byte* data() const noexcept { return static_cast<const std::byte*>(region_.address()); }
  [[nodiscard]] size_t bytes() const noexcept { return region_.bytes(); }
  explicit operator bool() const noexcept { return region_.address() != nullptr; }
  void abandon() noexcept { region_.abandon(); }

 private:
  detail::Region region_;
};

// PROT_READ | PROT_WRITE, MAP_SHARED.
class WriteMapping {
 public:
  static Result<WriteMapping> map(int fd, size_t bytes, size_t offset = 0);
  [[nodiscard]] std::byte* data() const noexcept { return static_cast<std::byte*>(region_.address()); }
  [[nodiscard]] size_t bytes() const noexcept { return region_.bytes(); }
  explicit operator bool() const noexcept { return region_.address() != nullptr; }
  void abandon() noexcept { region_.abandon(); }

 private:
  detail::Region region_;
};

// MADV_POPULATE_READ / _WRITE: reports what a plain access would signal (WARM_E_SYSTEM, errno EFAULT, EHWPOISON, ENOMEM).
Status populate_read(const void* address, size_t bytes);
Status populate_write(void* address, size_t bytes);

// Large pages: one translation instead of 512, for every process that maps the same bytes. Wishes: where the kernel or the file
// system has none, nothing changes.
constexpr size_t kLargePageBytes = size_t{2} << 20;
// What comes into memory through these bytes of a map from now on comes in large pages, as far as whole ones lie within them.
void prefer_large_pages(const void* address, size_t bytes) noexcept;
// As populate_write, and what is there is put together into large pages. For shared memory; of a file's pages only those through
// prefer_large_pages() become large.
Status populate_write_large(void* address, size_t bytes);

}  // namespace warmtier::base
