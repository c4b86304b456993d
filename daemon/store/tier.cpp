#include "daemon/store/tier.hpp"

namespace warmtier::daemon::store {

base::Result<Tier> Tier::open(base::Fd fd, const layout::Superblock& superblock) {
  Tier tier;
  tier.geometry_ = layout::Geometry::of(superblock.dimensions, superblock.capacity);
  auto bytes = base::file_bytes(fd.get());
  if (!bytes) return base::pass(std::move(bytes));
  auto map = base::WriteMapping::map(fd.get(), tier.geometry_.file_bytes(tier.geometry_.chunks_max()));
  if (!map) return base::pass(std::move(map));
  tier.map_ = std::move(*map);
  // A daemon killed while the file grew leaves a part of a chunk behind: it holds nothing and is allocated anew.
  const uint64_t chunks =
      *bytes < layout::kTierHeaderBytes ? 0 : (*bytes - layout::kTierHeaderBytes) / tier.geometry_.chunk_bytes;
  tier.chunks_ = chunks < tier.geometry_.chunks_max() ? chunks : tier.geometry_.chunks_max();
  if (tier.chunks_ < superblock.chunks_allocated) {
    return base::fail(WARM_E_CORRUPT,
                      "warm.tier has %llu bytes, room for %llu chunks; its superblock says %llu chunks: the file was cut",
                      static_cast<unsigned long long>(*bytes), static_cast<unsigned long long>(tier.chunks_),
                      static_cast<unsigned long long>(superblock.chunks_allocated));
  }
  tier.fd_ = std::move(fd);
  return tier;
}

}  // namespace warmtier::daemon::store
