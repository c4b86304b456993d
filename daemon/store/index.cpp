#include "daemon/store/index.hpp"

#include "base/assert.hpp"
#include "base/failpoint.hpp"

namespace warmtier::daemon::store {

using layout::Bucket;

base::Result<IndexTable> IndexTable::make(uint32_t homes_log2, uint64_t hash_seed) {
  IndexTable table;
  const uint64_t bytes = layout::index_bytes(homes_log2);
  auto fd = base::make_memfd("warmtier-index", bytes, true);
  if (!fd) return base::pass(std::move(fd));
  auto map = base::WriteMapping::map(fd->get(), bytes);
  if (!map) return base::pass(std::move(map));
  if (auto status = base::populate_write_large(map->data(), bytes); !status) return base::pass(std::move(status));
  auto& header = *reinterpret_cast<layout::IndexHeader*>(map->data());
  header.format_version = layout::kFormatVersion;
  header.homes_log2 = homes_log2;
  header.buckets = layout::index_buckets(homes_log2);
  header.hash_seed = hash_seed;
  layout::store_release(header.magic, layout::kIndexMagic);
  table.fd_ = std::move(*fd);
  table.buckets_ = reinterpret_cast<Bucket*>(map->data() + sizeof(layout::IndexHeader));
  table.map_ = std::move(*map);
  table.homes_log2_ = homes_log2;
  return table;
}

std::optional<IndexTable::Place> IndexTable::find_empty(uint64_t home) const noexcept {
  for (uint32_t d = 0; d <= layout::kIndexDistanceMax; ++d) {
    const Bucket& b = buckets_[home + d];
    for (uint32_t c = 0; c < layout::kIndexCells; ++c) {
      if (static_cast<uint32_t>(b.cells[c]) == 0) return Place{home + d, c, d};
    }
  }
  return std::nullopt;
}

std::optional<IndexTable::Place> IndexTable::find_slot(uint64_t home, uint32_t tag, uint32_t slot) const noexcept {
  std::optional<Place> found;
  for_each_of_home(home, [&](const Place& place, uint64_t cell) {
    if (layout::cell_slot(cell) != slot || layout::cell_tag(cell) != tag) return false;
    found = place;
    return true;
  });
  return found;
}

void IndexTable::insert(const Place& place, uint32_t slot, uint32_t tag) noexcept {
  if (place.distance > 0 && WARM_RULE("store.bit_set_first")) {
    Bucket& home = buckets_[place.bucket - place.distance];
    layout::store_release(home.distances, home.distances | uint64_t{1} << (place.distance - 1));
    WARM_FAILPOINT("store.index_bit_set");
  }
  layout::store_release(buckets_[place.bucket].cells[place.cell], layout::cell_word(slot, place.distance, tag));
  ++used_;
}

void IndexTable::replace(const Place& place, uint32_t slot, uint32_t tag) noexcept {
  layout::store_release(buckets_[place.bucket].cells[place.cell], layout::cell_word(slot, place.distance, tag));
}

void IndexTable::remove(const Place& place) noexcept {
  Bucket& b = buckets_[place.bucket];
  layout::store_release(b.cells[place.cell], 0);
  --used_;
  if (place.distance == 0) return;
  for (uint64_t cell : b.cells) {
    if (static_cast<uint32_t>(cell) != 0 && layout::cell_distance(cell) == place.distance && WARM_RULE("store.bit_cleared_last"))
      return;
  }
  WARM_FAILPOINT("store.index_cell_cleared");
  Bucket& home = buckets_[place.bucket - place.distance];
  layout::store_release(home.distances, home.distances & ~(uint64_t{1} << (place.distance - 1)));
}

bool IndexTable::copy_home_to(uint64_t home, IndexTable& larger) const noexcept {
  return !for_each_of_home(home, [&](const Place&, uint64_t cell) {
    const uint32_t tag = layout::cell_tag(cell);
    const auto place = larger.find_empty(layout::home_in_larger_table(home, homes_log2_, tag, larger.homes_log2_));
    if (!place) return true;
    larger.insert(*place, layout::cell_slot(cell), tag);
    return false;
  });
}

void IndexTable::check_invariants() const {
  uint64_t entries = 0;
  for_each([&](uint64_t home, uint64_t cell) {
    const uint32_t distance = layout::cell_distance(cell);
    WARM_ASSERT(home < homes() && distance <= layout::kIndexDistanceMax);
    WARM_ASSERT(distance == 0 || (buckets_[home].distances >> (distance - 1) & 1) != 0);
    ++entries;
  });
  WARM_ASSERT(entries == used_);
}

base::Status IndexTable::publish() const { return base::seal_for_readers(fd_.get()); }

uint32_t homes_log2_for(uint64_t records) noexcept {
  uint32_t log2 = layout::kIndexHomesLog2Min;
  while (log2 < layout::kIndexHomesLog2Max &&
         records * layout::kIndexLoadDenominator >= (layout::kIndexCells * layout::kIndexLoadNumerator << log2)) {
    ++log2;
  }
  return log2;
}

}  // namespace warmtier::daemon::store
