#include "libclient/attachment.hpp"

#include <cstring>
#include <span>

#include "layout/validate.hpp"

namespace warmtier::libclient {
namespace {

// Populated at attach up to this size, so that the first gets meet no faults; a larger table is met page by page.
constexpr uint64_t kIndexPopulateBytesMax = uint64_t{64} << 20;

base::Status judge(layout::Verdict verdict, const char* what) {
  if (verdict == layout::Verdict::good) return {};
  return base::fail(verdict == layout::Verdict::unknown_version ? WARM_E_VERSION : WARM_E_CORRUPT, "the daemon's %s is %s", what,
                    layout::verdict_text(verdict));
}

}  // namespace

base::Result<std::unique_ptr<Tier>> map_tier(const base::Fd& file, const layout::Welcome& welcome) {
  if (welcome.dimensions < 1 || welcome.dimensions > layout::kDimensionsMax || welcome.capacity < 1 ||
      welcome.capacity > layout::kCapacityMax) {
    return base::fail(WARM_E_CORRUPT, "the daemon's welcome says %u dimensions and a capacity of %lu", welcome.dimensions,
                      welcome.capacity);
  }
  auto inode = base::inode_of(file.get());
  if (!inode) return base::pass(std::move(inode));
  auto bytes = base::file_bytes(file.get());
  if (!bytes) return base::pass(std::move(bytes));
  if (*bytes < layout::kTierHeaderBytes) return base::fail(WARM_E_CORRUPT, "warm.tier has %lu bytes only", *bytes);
  auto tier = std::make_unique<Tier>();
  tier->inode = *inode;
  tier->geometry = layout::Geometry::of(welcome.dimensions, welcome.capacity);
  tier->hash_seed = welcome.hash_seed;
  std::memcpy(tier->store_id, welcome.store_id, sizeof tier->store_id);
  auto map = base::ReadMapping::map(file.get(), tier->geometry.file_bytes(tier->geometry.chunks_max()));
  if (!map) return base::pass(std::move(map));
  tier->map = std::move(*map);

  // What the daemon says against what the store says; a superblock may be written just now, so one good copy is enough.
  layout::Verdict verdicts[2];
  const auto chosen = layout::choose_superblock(std::span(tier->map.data(), layout::kTierHeaderBytes), verdicts);
  if (!chosen) return base::pass(judge(verdicts[0], "warm.tier"));
  layout::Superblock superblock;
  std::memcpy(&superblock, tier->map.data() + layout::kSuperblockOffsets[*chosen], sizeof superblock);
  if (superblock.dimensions != welcome.dimensions || superblock.capacity != welcome.capacity ||
      superblock.hash_seed != welcome.hash_seed || std::memcmp(superblock.store_id, welcome.store_id, 16) != 0) {
    return base::fail(WARM_E_CORRUPT, "the daemon's welcome and its warm.tier are of different stores");
  }
  return tier;
}

base::Result<base::ReadMapping> map_index(const base::Fd& file, uint32_t homes_log2, uint64_t hash_seed) {
  auto bytes = base::file_bytes(file.get());
  if (!bytes) return base::pass(std::move(bytes));
  if (homes_log2 < layout::kIndexHomesLog2Min || homes_log2 > layout::kIndexHomesLog2Max ||
      *bytes < layout::index_bytes(homes_log2)) {
    return base::fail(WARM_E_CORRUPT, "the daemon's index has 2^%u homes in %lu bytes", homes_log2, *bytes);
  }
  auto map = base::ReadMapping::map(file.get(), layout::index_bytes(homes_log2));
  if (!map) return base::pass(std::move(map));
  const std::span span(map->data(), map->bytes());
  if (auto s = judge(layout::validate_index_header(span, *bytes), "index"); !s) return base::pass(std::move(s));
  const auto* header = reinterpret_cast<const layout::IndexHeader*>(map->data());
  if (header->homes_log2 != homes_log2 || header->hash_seed != hash_seed) {
    return base::fail(WARM_E_CORRUPT, "the daemon's index is of another store or size");
  }
  // A help only: a page that cannot be had now is met by the read that needs it.
  if (map->bytes() <= kIndexPopulateBytesMax) {
    [[maybe_unused]] const auto populated = base::populate_read(map->data(), map->bytes());
  }
  return map;
}

base::Result<base::ReadMapping> map_status(const base::Fd& file) {
  auto bytes = base::file_bytes(file.get());
  if (!bytes) return base::pass(std::move(bytes));
  if (*bytes < sizeof(layout::StatusPage)) return base::fail(WARM_E_CORRUPT, "the daemon's status page has %lu bytes", *bytes);
  auto map = base::ReadMapping::map(file.get(), sizeof(layout::StatusPage));
  if (!map) return base::pass(std::move(map));
  const std::span span(map->data(), map->bytes());
  if (auto s = judge(layout::validate_status_header(span), "status page"); !s) return base::pass(std::move(s));
  return map;
}

}  // namespace warmtier::libclient
