#include "base/mapping.hpp"

#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <boost/interprocess/mapped_region.hpp>
#include <cerrno>
#include <cstdint>
#include <utility>

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#endif
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25  // Linux 6.1
#endif

namespace warmtier::base {
namespace {

// What Boost.Interprocess asks of something that can be mapped.
class Mappable {
 public:
  Mappable(int fd, boost::interprocess::mode_t mode) : fd_(fd), mode_(mode) {}
  [[nodiscard]] boost::interprocess::mapping_handle_t get_mapping_handle() const {
    return boost::interprocess::ipcdetail::mapping_handle_from_file_handle(fd_);
  }
  [[nodiscard]] boost::interprocess::mode_t get_mode() const { return mode_; }

 private:
  int fd_;
  boost::interprocess::mode_t mode_;
};

Status populate(const void* address, size_t bytes, int advice) {
  const auto page = static_cast<uintptr_t>(::sysconf(_SC_PAGESIZE));
  const uintptr_t first = reinterpret_cast<uintptr_t>(address) / page * page;
  const uintptr_t last = (reinterpret_cast<uintptr_t>(address) + bytes + page - 1) / page * page;
  for (;;) {
    if (::madvise(reinterpret_cast<void*>(first), last - first, advice) == 0) return {};
    if (errno != EINTR && errno != EAGAIN) return fail_errno(errno, "populate %zu bytes", bytes);
  }
}

// Where a map of `bytes` at `offset` could use large pages, as long as nobody maps something there first; null: anywhere.
const void* large_page_place(size_t offset, size_t bytes) noexcept {
  if (bytes < kLargePageBytes) return nullptr;
  const size_t room = bytes + kLargePageBytes;
  void* reserved = ::mmap(nullptr, room, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (reserved == MAP_FAILED) return nullptr;
  ::munmap(reserved, room);
  const auto from = reinterpret_cast<uintptr_t>(reserved);
  return reinterpret_cast<const void*>(from + (offset - from) % kLargePageBytes);
}

}  // namespace

namespace detail {

struct Mapped {
  boost::interprocess::mapped_region region;
  Mapped* next_abandoned = nullptr;
};

namespace {
// What stays mapped stays reachable: to a leak checker it is no leak.
std::atomic<Mapped*> abandoned{nullptr};
}  // namespace

Region::Region() noexcept = default;
Region::~Region() = default;
Region::Region(Region&& other) noexcept
    : mapped_(std::move(other.mapped_)),
      address_(std::exchange(other.address_, nullptr)),
      bytes_(std::exchange(other.bytes_, 0)) {}
Region& Region::operator=(Region&& other) noexcept {
  mapped_ = std::move(other.mapped_);
  address_ = std::exchange(other.address_, nullptr);
  bytes_ = std::exchange(other.bytes_, 0);
  return *this;
}

Result<Region> Region::map(int fd, size_t offset, size_t bytes, bool writable) {
  namespace bip = boost::interprocess;
  const bip::mode_t mode = writable ? bip::read_write : bip::read_only;
  const void* place = large_page_place(offset, bytes);
  for (;;) {
    try {
      Region region;
      // A capacity is reserved, not promised: pages cost memory when they are touched.
      region.mapped_ = std::make_unique<Mapped>();
      region.mapped_->region = bip::mapped_region(Mappable(fd, mode), mode, static_cast<bip::offset_t>(offset), bytes, place,
                                                  MAP_SHARED | MAP_NORESERVE);
      region.address_ = region.mapped_->region.get_address();
      region.bytes_ = bytes;
      return region;
    } catch (const bip::interprocess_exception& e) {
      // Another thread was faster there.
      if (place == nullptr) return fail_errno(e.get_native_error(), "map %zu bytes", bytes);
      place = nullptr;
    }
  }
}

void Region::abandon() noexcept {
  Mapped* mapped = mapped_.release();
  if (mapped == nullptr) return;
  mapped->next_abandoned = abandoned.load(std::memory_order_relaxed);
  while (!abandoned.compare_exchange_weak(mapped->next_abandoned, mapped, std::memory_order_release, std::memory_order_relaxed)) {
  }
}

}  // namespace detail

Result<ReadMapping> ReadMapping::map(int fd, size_t bytes, size_t offset) {
  auto region = detail::Region::map(fd, offset, bytes, false);
  if (!region) return pass(std::move(region));
  ReadMapping mapping;
  mapping.region_ = std::move(*region);
  return mapping;
}

Result<WriteMapping> WriteMapping::map(int fd, size_t bytes, size_t offset) {
  auto region = detail::Region::map(fd, offset, bytes, true);
  if (!region) return pass(std::move(region));
  WriteMapping mapping;
  mapping.region_ = std::move(*region);
  return mapping;
}

Status populate_read(const void* address, size_t bytes) { return populate(address, bytes, MADV_POPULATE_READ); }
Status populate_write(void* address, size_t bytes) { return populate(address, bytes, MADV_POPULATE_WRITE); }

void prefer_large_pages(const void* address, size_t bytes) noexcept {
  ::madvise(const_cast<void*>(address), bytes, MADV_HUGEPAGE);
}

Status populate_write_large(void* address, size_t bytes) {
  auto* const from = static_cast<std::byte*>(address);
  // One small page of each, so that putting together has something to begin with and little to copy.
  for (size_t at = 0; at < bytes; at += kLargePageBytes) {
    if (auto status = populate_write(from + at, 1); !status) return status;
  }
  ::madvise(from, bytes, MADV_COLLAPSE);
  return populate_write(from, bytes);
}

}  // namespace warmtier::base
