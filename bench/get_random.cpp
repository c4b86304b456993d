// Gets of random ids: beside LMDB, and beside the least that this way of finding a record can cost. Batches of the three take
// turns, so that each meets the same machine and the same caches.
#include <fcntl.h>

#include <filesystem>

#include "base/assert.hpp"
#include "base/fd.hpp"
#include "base/mapping.hpp"
#include "bench/lmdb_peer.hpp"
#include "bench/world.hpp"

namespace warmtier::bench {
namespace {

constexpr size_t kContentBytes = 100;
constexpr uint64_t kBatch = 500;

// One dependent load from each of three maps with the sizes of index, slot lines and segments, then the payload lines of the
// same record: the store's own files, mapped once more, behind a table of the index's size in a memfd of our own.
class Chain {
 public:
  Chain(const std::string& store, uint64_t records) {
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

  [[nodiscard]] uint64_t get(uint32_t place) const noexcept {
    const uint64_t cell = layout::load_acquire(reinterpret_cast<const uint64_t*>(index_.data())[place]);
    const auto slot = static_cast<uint32_t>(cell - 1);
    const layout::SlotLine& line = line_at(slot);
    const layout::Locator at = layout::locator_of(layout::load_acquire(line.locator));
    const std::byte* record = segments_[at.segment] + at.offset_bytes;
    layout::RecordHeader header;
    std::memcpy(&header, record, sizeof header);
    return touch_ends(tier_.data() + geometry_.row_offset(slot), kRowBytes) +
           touch_ends(record + sizeof header + header.id_bytes, header.stored_bytes);
  }
  [[nodiscard]] uint32_t place_of(uint64_t key) const noexcept { return place_of_[key]; }

 private:
  [[nodiscard]] const layout::SlotLine& line_at(uint32_t slot) const noexcept {
    return *reinterpret_cast<const layout::SlotLine*>(tier_.data() + geometry_.line_offset(slot));
  }

  layout::Geometry geometry_;
  base::ReadMapping tier_;
  base::ReadMapping index_;
  std::vector<base::ReadMapping> maps_;
  std::vector<const std::byte*> segments_;  // by number
  std::vector<uint32_t> place_of_;          // by key; what a hash would say
};

uint64_t get(warm_client* client, const Id& id) {
  warm_view view = WARM_VIEW_INIT;
  if (const int code = warm_get(client, id.data(), Id::bytes(), 0, &view); code != WARM_OK)
    stop_because(std::string("get: ") + warm_last_error());
  const uint64_t sum = touch_ends(view.embedding, kRowBytes) + touch_ends(view.content, view.content_bytes);
  warm_release(client, &view);
  return sum;
}

}  // namespace

void bench_get_random(const Settings& settings, Reporter& reporter) {
  const uint64_t records = settings.records;
  WARM_ASSERT(records > 0);
  World world(records + 65536, records, kContentBytes);
  Lmdb peer(world.daemon().directory() + "/lmdb", records, kContentBytes);
  const Chain chain(world.daemon().store(), records);

  // Every page of every map is touched once: what is measured is memory, not faults.
  for (uint64_t key = 0; key < records; ++key)
    keep(get(world.client(), Id(key)) + peer.get(Id(key)) + chain.get(chain.place_of(key)));

  const uint64_t n = settings.quick ? 20'000 : 300'000;
  Samples ours(n);
  Samples theirs(n);
  Samples least(n);
  uint64_t random = 1;
  std::vector<uint64_t> keys(kBatch);
  std::vector<Id> ids;
  for (uint64_t done = 0; done < n; done += kBatch) {
    // A batch of keys of its own for each of the three: what one has read is not warm for the next.
    for (int who = 0; who < 3; ++who) {
      ids.clear();
      for (uint64_t& key : keys) {
        key = mix(random++) % records;
        ids.emplace_back(key);
      }
      for (uint64_t i = 0; i < kBatch; ++i) {
        const uint32_t place = chain.place_of(keys[i]);
        const uint64_t from = ticks();
        const uint64_t sum = who == 0 ? get(world.client(), ids[i]) : who == 1 ? peer.get(ids[i]) : chain.get(place);
        keep(sum);
        const uint64_t to = ticks();
        (who == 0 ? ours : who == 1 ? theirs : least).add(to - from);
      }
    }
  }
  Result result = result_of("get_random", std::to_string(records) + " records", ours);
  against_peer(result, "lmdb", theirs);
  against_limit(result, least.percentile_ns(0.5));
  reporter.say(result);
}

}  // namespace warmtier::bench
