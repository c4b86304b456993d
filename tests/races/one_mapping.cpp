// In place of base/mapping.cpp: whoever maps a file, and however often, gets the same addresses. The thread sanitizer tells
// accesses by address, so that only thus it sees daemon and library touch the same byte. What a library would map read-only is
// writable here, and nothing is ever unmapped: both are other tests' matter.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <map>
#include <mutex>
#include <string>
#include <utility>

#include "base/fd.hpp"
#include "base/mapping.hpp"

namespace warmtier::base {
namespace {

constexpr size_t kReserved = size_t{1} << 30;  // no file of a test is longer
constexpr size_t kPage = 4096;

struct Place {
  std::byte* address = nullptr;
  size_t mapped = 0;  // so many bytes of it are the file's
};

std::mutex mutex;
std::map<std::pair<dev_t, ino_t>, Place> places;  // a mapped file keeps its inode: none comes twice

Result<std::byte*> place_of(int fd, size_t end) {
  struct stat status{};
  if (::fstat(fd, &status) != 0) return fail_errno(errno, "fstat");
  const size_t wanted = (end + kPage - 1) / kPage * kPage;
  if (wanted > kReserved) return fail_errno(ENOMEM, "map %zu bytes", end);
  const std::scoped_lock lock(mutex);
  Place& place = places[{status.st_dev, status.st_ino}];
  if (place.address == nullptr) {
    void* const reserved = ::mmap(nullptr, kReserved, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (reserved == MAP_FAILED) return fail_errno(errno, "reserve %zu bytes", kReserved);
    place.address = static_cast<std::byte*>(reserved);
  }
  if (place.mapped < wanted) {
    // A descriptor that a client got is read-only.
    const Fd writable(::open(("/proc/self/fd/" + std::to_string(fd)).c_str(), O_RDWR | O_CLOEXEC));
    void* const mapped =
        ::mmap(place.address + place.mapped, wanted - place.mapped, PROT_READ | PROT_WRITE,
               MAP_SHARED | MAP_FIXED | MAP_NORESERVE, writable ? writable.get() : fd, static_cast<off_t>(place.mapped));
    if (mapped == MAP_FAILED) return fail_errno(errno, "map %zu bytes", end);
    place.mapped = wanted;
  }
  return place.address;
}

}  // namespace

namespace detail {

struct Mapped {};

Region::Region() noexcept = default;
Region::~Region() = default;
Region::Region(Region&& other) noexcept
    : address_(std::exchange(other.address_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}
Region& Region::operator=(Region&& other) noexcept {
  address_ = std::exchange(other.address_, nullptr);
  bytes_ = std::exchange(other.bytes_, 0);
  return *this;
}

Result<Region> Region::map(int fd, size_t offset, size_t bytes, bool /*writable*/) {
  auto address = place_of(fd, offset + bytes);
  if (!address) return pass(std::move(address));
  Region region;
  region.address_ = *address + offset;
  region.bytes_ = bytes;
  return region;
}

void Region::abandon() noexcept { address_ = nullptr; }

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

Status populate_read(const void* /*address*/, size_t /*bytes*/) { return {}; }
Status populate_write(void* /*address*/, size_t /*bytes*/) { return {}; }
Status populate_write_large(void* /*address*/, size_t /*bytes*/) { return {}; }
void prefer_large_pages(const void* /*address*/, size_t /*bytes*/) noexcept {}

}  // namespace warmtier::base
