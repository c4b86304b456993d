#include "bench/chain.hpp"

#include <fcntl.h>

#include <filesystem>

#include "base/fd.hpp"

namespace warmtier::bench {

Chain::Chain(const std::string& store, uint64_t records) {
  auto tier_file = base::open_at(AT_FDCWD, (store + "/warm.tier").c_str(), O_RDONLY);
  if (!tier_file) stop_because(tier_file.error().text);
  const auto tier_bytes = base::file_bytes(tier_file->get());
  auto tier = base::ReadMapping::map(tier_file->get(), *tier_bytes);
  if (!tier) stop_because(tier.error().text);
  tier_ = std::move(*tier);
  // Either copy, as long as it was ever written: what is asked of it never changes.
  layout::Superblock superblock;
  std::memcpy(&superblock, tier_.data() + layout::kSuperblockOffsets[0], sizeof superblock);
  if (superblock.magic != layout::kTierMagic)
    std::memcpy(&superblock, tier_.data() + layout::kSuperblockOffsets[1], sizeof superblock);
  geometry_ = layout::Geometry::of(superblock.dimensions, superblock.capacity);

  for (const auto& entry : std::filesystem::directory_iterator(store + "/content")) {
    auto file = base::open_at(AT_FDCWD, entry.path().c_str(), O_RDONLY);
    if (!file) stop_because(file.error().text);
    auto map = base::ReadMapping::map(file->get(), *base::file_bytes(file->get()));
    if (!map) stop_because(map.error().text);
    layout::SegmentHeader header;
    std::memcpy(&header, map->data(), sizeof header);
    if (header.number >= segments_.size()) segments_.resize(header.number + 1);
    segments_[header.number] = map->data();
    maps_.push_back(std::move(*map));
  }

  // As large as the index is: homes for the load at which it doubles.
  uint32_t homes_log2 = layout::kIndexHomesLog2Min;
  while ((uint64_t{layout::kIndexCells} << homes_log2) * layout::kIndexLoadNumerator / layout::kIndexLoadDenominator < records)
    ++homes_log2;
  auto memfd = base::make_memfd("warmbench-index", layout::index_bytes(homes_log2));
  if (!memfd) stop_because(memfd.error().text);
  auto writable = base::WriteMapping::map(memfd->get(), layout::index_bytes(homes_log2));
  if (!writable) stop_because(writable.error().text);
  // As the daemon's index.
  if (auto populated = base::populate_write_large(writable->data(), writable->bytes()); !populated)
    stop_because(populated.error().text);
  auto* cells = reinterpret_cast<uint64_t*>(writable->data());
  const uint64_t cells_all = layout::index_bytes(homes_log2) / sizeof(uint64_t);
  place_of_.resize(records);
  const uint64_t slots = (*tier_bytes - layout::kTierHeaderBytes) / geometry_.chunk_bytes * layout::kSlotsPerChunk;
  uint64_t found = 0;
  for (uint32_t slot = 0; slot < slots; ++slot) {
    const layout::SlotLine& line = line_at(slot);
    if (!layout::live(line.put, line.dead)) continue;
    const layout::Locator at = layout::locator_of(line.locator);
    const char* id = reinterpret_cast<const char*>(segments_[at.segment] + at.offset_bytes + sizeof(layout::RecordHeader));
    const uint64_t key = Id::key_of(id);
    uint64_t place = mix(key) % cells_all;
    while (cells[place] != 0) place = (place + 1) % cells_all;
    cells[place] = uint64_t{slot} + 1;
    place_of_[key] = static_cast<uint32_t>(place);
    ++found;
  }
  if (found != records) stop_because("the store's files hold " + std::to_string(found) + " live records");
  auto readable = base::ReadMapping::map(memfd->get(), layout::index_bytes(homes_log2));
  if (!readable) stop_because(readable.error().text);
  index_ = std::move(*readable);
}

}  // namespace warmtier::bench
