// Input: a byte (believe the page cache or the device), then changes to the files of a small store that lay still. A start has to
// say what is damaged or refuse the store, never crash, and find every record whose bytes nobody changed.
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <set>

#include "base/assert.hpp"
#include "base/hash.hpp"
#include "daemon/store/invariants.hpp"
#include "daemon/store/recovery.hpp"
#include "layout/record.hpp"
#include "layout/validate.hpp"
#include "tests/unit/store/world.hpp"

using namespace warmtier;
using namespace warmtier::daemon::store;

namespace {

constexpr char kSegment[] = "content/0000000001.seg";
constexpr uint32_t kRecords = 24;
constexpr uint32_t kLinesToChange = 32;  // one live, dead or free each

std::string id_of(uint32_t i) { return "id " + std::to_string(i); }

std::vector<std::byte> bytes_of_file(const std::string& path) {
  base::Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  std::vector<std::byte> bytes(std::filesystem::file_size(path));
  WARM_ASSERT(::pread(fd.get(), bytes.data(), bytes.size(), 0) == static_cast<ssize_t>(bytes.size()));
  return bytes;
}

void write_file(const std::string& path, std::span<const std::byte> bytes) {
  base::Fd fd(::open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
  WARM_ASSERT(::pwrite(fd.get(), bytes.data(), bytes.size(), 0) == static_cast<ssize_t>(bytes.size()));
  WARM_ASSERT(::ftruncate(fd.get(), static_cast<off_t>(bytes.size())) == 0);
}

struct Record {
  std::string id;
  uint32_t slot;
  uint64_t offset;  // in the segment
  uint64_t bytes;
};

// A store with live, replaced and removed records, all of it checkpointed.
struct Still {
  tests::World world{{.dimensions = 1, .capacity = 1024, .segment_bytes = layout::kSegmentBytesMin}};
  std::vector<std::byte> tier;
  std::vector<std::byte> segment;
  layout::Geometry geometry;
  uint64_t hash_seed = 0;
  std::vector<Record> records;

  Still() {
    world.start();
    for (uint32_t i = 0; i < kRecords; ++i) world.put(id_of(i), i, std::string(i * 7, 'c'));
    for (uint32_t i = 0; i < kRecords; i += 6) world.put(id_of(i), i + 100);
    for (uint32_t i = 1; i < kRecords; i += 6) world.remove(id_of(i));
    world.checkpoint();
    geometry = world.store->geometry();
    hash_seed = world.store->hash_seed();
    world.kill();
    tier = bytes_of_file(world.path("warm.tier"));
    segment = bytes_of_file(world.path(kSegment));
    for (uint32_t slot = 0; slot < kLinesToChange; ++slot) {
      const layout::SlotLine line = line_of(tier, slot);
      if (layout::validate_line(line, slot) != layout::LineVerdict::live) continue;
      const layout::Locator at = layout::locator_of(line.locator);
      layout::RecordPlace place{};
      WARM_ASSERT(layout::validate_record(segment, at.offset_bytes, slot, line.put, line.content_bytes, line.checksum, &place) ==
                  layout::Verdict::good);
      records.push_back({.id = id_at(segment, at.offset_bytes),
                         .slot = slot,
                         .offset = at.offset_bytes,
                         .bytes = layout::record_bytes(place.header.id_bytes, place.header.stored_bytes)});
    }
    WARM_ASSERT(records.size() == kRecords - kRecords / 6);
  }
  [[nodiscard]] layout::SlotLine line_of(std::span<const std::byte> of, uint32_t slot) const {
    layout::SlotLine line;
    std::memcpy(&line, of.data() + geometry.line_offset(slot), sizeof line);
    return line;
  }
  static std::string id_at(std::span<const std::byte> segment, uint64_t offset) {
    layout::RecordHeader header;
    std::memcpy(&header, segment.data() + offset, sizeof header);
    const uint64_t at = offset + sizeof header;
    return {reinterpret_cast<const char*>(segment.data() + at), std::min<uint64_t>(header.id_bytes, segment.size() - at)};
  }
};

class Changes {
 public:
  Changes(const Still& still, std::span<const uint8_t> input)
      : still_(still), tier(still.tier), segment(still.segment), left_(input) {}

  void make() {
    while (!left_.empty()) {
      switch (take<uint8_t>() % 8) {
        case 0: superblock(); break;
        case 1:
          everything_ = true;
          bytes(tier, layout::kControlPageOffset + take<uint8_t>() % 64 * 8);
          break;
        case 2: bytes(tier, still_.geometry.line_offset(line()) + take<uint8_t>() % sizeof(layout::SlotLine)); break;
        case 3: words_of_a_line(); break;
        case 4: bytes(segment, take<uint16_t>() % sizeof(layout::SegmentHeader)), everything_ = true; break;
        case 5: bytes(segment, record().offset + take<uint8_t>()); break;
        case 6: header_with_its_checksum(); break;
        default: words_of_the_intent(); break;
      }
    }
    for (const Record& record : still_.records) {
      const uint64_t at = still_.geometry.line_offset(record.slot);
      const bool same = std::memcmp(tier.data() + at, still_.tier.data() + at, sizeof(layout::SlotLine)) == 0 &&
                        std::memcmp(segment.data() + record.offset, still_.segment.data() + record.offset, record.bytes) == 0;
      if (same) {
        untouched.push_back(&record);
      } else {
        ids_of_touched.insert(Still::id_at(segment, record.offset));
      }
    }
    if (everything_) untouched.clear();
  }

 private:
  template <typename T>
  T take() {
    T value{};
    const size_t n = std::min(left_.size(), sizeof value);
    std::memcpy(&value, left_.data(), n);
    left_ = left_.subspan(n);
    return value;
  }
  uint32_t line() { return take<uint8_t>() % kLinesToChange; }
  const Record& record() { return still_.records[take<uint8_t>() % still_.records.size()]; }
  void bytes(std::vector<std::byte>& where, uint64_t at) {
    const size_t n = std::min<size_t>({size_t{take<uint8_t>()} % 16 + 1, left_.size(), where.size() - at});
    std::memcpy(where.data() + at, left_.data(), n);
    left_ = left_.subspan(n);
  }
  // A device that lies gives no right checksum; an earlier version of the daemon may.
  void superblock() {
    everything_ = true;
    const size_t at = layout::kSuperblockOffsets[take<uint8_t>() & 1];
    bytes(tier, at + take<uint8_t>());
    layout::Superblock superblock;
    std::memcpy(&superblock, tier.data() + at, sizeof superblock);
    superblock.checksum = layout::superblock_checksum(superblock);
    std::memcpy(tier.data() + at, &superblock, sizeof superblock);
  }
  // With right check bits.
  void words_of_a_line() {
    const uint32_t slot = line();
    layout::SlotLine changed = still_.line_of(tier, slot);
    const uint64_t put = take<uint8_t>() + uint64_t{1};
    switch (take<uint8_t>() % 4) {
      case 0: changed.put = layout::put_word(put, slot); break;
      case 1: changed.dead = layout::dead_word(take<uint8_t>() + uint64_t{1}, layout::sequence_of(changed.put)); break;
      case 2: {
        const uint64_t number = take<uint8_t>() % 4;
        changed.locator = layout::locator_word({.segment = number, .offset_bytes = uint64_t{take<uint16_t>()} * 8}, slot,
                                               layout::sequence_of(changed.put));
        break;
      }
      default:  // another record's
        changed.locator =
            layout::locator_word({.segment = 1, .offset_bytes = record().offset}, slot, layout::sequence_of(changed.put));
        break;
    }
    std::memcpy(tier.data() + still_.geometry.line_offset(slot), &changed, sizeof changed);
  }
  // As a line says that it has to be, so that two live lines may have one id.
  void header_with_its_checksum() {
    const Record& of = record();
    bytes(segment, of.offset + take<uint8_t>() % (sizeof(layout::RecordHeader) + 16));
    layout::RecordHeader header;
    std::memcpy(&header, segment.data() + of.offset, sizeof header);
    const uint64_t id_at = of.offset + sizeof header;
    if (header.id_bytes > segment.size() - id_at) return;
    header.hash = base::hash64(segment.data() + id_at, header.id_bytes, still_.hash_seed);
    const layout::SlotLine line = still_.line_of(tier, of.slot);
    header.header_checksum = layout::record_header_checksum(header, segment.data() + id_at, line.content_bytes, line.checksum);
    std::memcpy(segment.data() + of.offset, &header, sizeof header);
  }
  void words_of_the_intent() {
    everything_ = true;
    auto& control = *reinterpret_cast<layout::ControlPage*>(tier.data() + layout::kControlPageOffset);
    control.intent.kind = take<uint8_t>() % 5;
    control.intent.old_slot = line();
    control.intent.new_slot = line();
    control.intent.state = take<uint8_t>();
  }

  const Still& still_;

 public:
  std::vector<std::byte> tier;
  std::vector<std::byte> segment;
  std::vector<const Record*> untouched;
  std::set<std::string> ids_of_touched;

 private:
  std::span<const uint8_t> left_;
  bool everything_ = false;  // something on which all records depend was changed
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t n) {
  static const Still still;
  if (n == 0) return 0;
  const bool from_device = (data[0] & 1) != 0;
  Changes changes(still, std::span(data, n).subspan(1));
  changes.make();
  write_file(still.world.path("warm.tier"), changes.tier);
  write_file(still.world.path(kSegment), changes.segment);

  base::Fd file(::open(still.world.path("warm.tier").c_str(), O_RDWR | O_CLOEXEC));
  const auto superblock = read_superblock(file.get());
  if (!superblock) {
    WARM_ASSERT(changes.untouched.empty());
    return 0;
  }
  auto tier = Tier::open(std::move(file), *superblock);
  if (!tier) return 0;
  base::Fd content(::open(still.world.path("content").c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  SegmentTable segments;
  Slots slots;
  const auto recovered = recover(*tier, *superblock, from_device, content.get(), segments, slots);
  if (!recovered) {
    WARM_ASSERT(changes.untouched.empty());
    return 0;
  }
  const IndexTable& index = recovered->index;
  check_invariants({.tier = *tier,
                    .segments = segments,
                    .slots = slots,
                    .index = index,
                    .larger = nullptr,
                    .cursor = 0,
                    .records = recovered->records,
                    .damaged = recovered->damaged});
  for (const Record* record : changes.untouched) {
    if (changes.ids_of_touched.contains(record->id)) continue;  // the newer one of two stays
    const uint64_t hash = base::hash64(record->id.data(), record->id.size(), still.hash_seed);
    WARM_ASSERT(
        index.find_slot(layout::home_of_hash(hash, index.homes_log2()), layout::tag_of_hash(hash), record->slot).has_value());
  }
  return 0;
}
