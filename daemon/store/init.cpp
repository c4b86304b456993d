// Making a new store.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <vector>

#include "base/clock.hpp"
#include "daemon/store/store.hpp"
#include "daemon/store/witness.hpp"
#include "layout/record.hpp"

namespace warmtier::daemon::store {
namespace {

constexpr const char* kNewName = kUnfinishedTierName;

base::Status check(const InitOptions& options) {
  if (options.dimensions < 1 || options.dimensions > layout::kDimensionsMax) {
    return base::fail(WARM_E_LIMIT, "dimensions %u: 1 to %u are possible", options.dimensions, layout::kDimensionsMax);
  }
  if (options.capacity < 1 || options.capacity > layout::kCapacityMax) {
    return base::fail(WARM_E_LIMIT, "capacity %llu: 1 to %llu are possible", static_cast<unsigned long long>(options.capacity),
                      static_cast<unsigned long long>(layout::kCapacityMax));
  }
  if (options.segment_bytes < layout::kSegmentBytesMin || options.segment_bytes > layout::kSegmentBytesMax ||
      options.segment_bytes % layout::kPageBytes != 0) {
    return base::fail(WARM_E_LIMIT, "segment_bytes %llu: %llu to %llu in multiples of %zu are possible",
                      static_cast<unsigned long long>(options.segment_bytes),
                      static_cast<unsigned long long>(layout::kSegmentBytesMin),
                      static_cast<unsigned long long>(layout::kSegmentBytesMax), layout::kPageBytes);
  }
  return {};
}

base::Status make_directory(int parent, const char* name) {
  if (::mkdirat(parent, name, 0750) != 0 && errno != EEXIST) return base::fail_errno(errno, "make directory %s", name);
  return {};
}

}  // namespace

base::Status initialise(const std::string& directory, const InitOptions& options) {
  if (auto s = check(options); !s) return s;
  if (auto s = make_directory(AT_FDCWD, directory.c_str()); !s) return s;
  auto dir = base::open_at(AT_FDCWD, directory.c_str(), O_RDONLY | O_DIRECTORY);
  if (!dir) return base::pass(std::move(dir));
  if (::faccessat(dir->get(), "warm.tier", F_OK, 0) == 0) {
    return base::fail(WARM_E_EXISTS, "%s holds a store already (warm.tier)", directory.c_str());
  }
  if (auto s = make_directory(dir->get(), "content"); !s) return s;
  if (auto s = make_directory(dir->get(), "channels"); !s) return s;
  auto witness = Witness::of(dir->get());
  if (!witness) return base::pass(std::move(witness));

  layout::Superblock superblock{};
  superblock.magic = layout::kTierMagic;
  superblock.format_version = layout::kFormatVersion;
  superblock.superblock_bytes = sizeof superblock;
  superblock.epoch = 1;
  if (auto s = base::fill_random(superblock.store_id, sizeof superblock.store_id); !s) return s;
  if (auto s = base::fill_random(&superblock.hash_seed, sizeof superblock.hash_seed); !s) return s;
  superblock.capacity = options.capacity;
  superblock.dimensions = options.dimensions;
  superblock.row_bytes = layout::Geometry::of(options.dimensions, options.capacity).row_bytes;
  superblock.chunk_slots = layout::kSlotsPerChunk;
  superblock.segment_bytes = options.segment_bytes;
  superblock.next_segment = 1;
  superblock.next_session = 1;
  superblock.next_channel = 1;
  superblock.created_ns = base::wall_ns();
  superblock.clean_stop = 1;
  witness->write_to(superblock);
  superblock.checksum = layout::superblock_checksum(superblock);

  std::vector<std::byte> header(layout::kTierHeaderBytes);
  std::memcpy(header.data() + layout::kSuperblockOffsets[superblock.epoch & 1], &superblock, sizeof superblock);
  layout::ControlPage control{};
  control.numbers.next_segment = 1;
  control.numbers.next_session = 1;
  control.numbers.next_channel = 1;
  std::memcpy(header.data() + layout::kControlPageOffset, &control, sizeof control);

  // Under another name until it is whole and durable: a store is there or it is not.
  ::unlinkat(dir->get(), kNewName, 0);
  auto file = base::open_at(dir->get(), kNewName, O_RDWR | O_CREAT | O_EXCL, 0640);
  if (!file) return base::pass(std::move(file));
  if (auto s = base::allocate(file->get(), 0, header.size()); !s) return s;
  if (::pwrite(file->get(), header.data(), header.size(), 0) != static_cast<ssize_t>(header.size())) {
    return base::fail_errno(errno, "write %s", kNewName);
  }
  if (::fsync(file->get()) != 0) return base::fail_errno(errno, "sync %s", kNewName);
  if (::renameat2(dir->get(), kNewName, dir->get(), "warm.tier", RENAME_NOREPLACE) != 0) {
    return base::fail_errno(errno, "rename %s to warm.tier", kNewName);
  }
  if (::fsync(dir->get()) != 0) return base::fail_errno(errno, "sync %s", directory.c_str());
  return {};
}

}  // namespace warmtier::daemon::store
