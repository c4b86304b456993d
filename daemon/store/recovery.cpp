#include "daemon/store/recovery.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "base/failpoint.hpp"
#include "base/hash.hpp"
#include "layout/record.hpp"
#include "layout/validate.hpp"

namespace warmtier::daemon::store {
namespace {

using layout::SlotLine;

constexpr size_t kPrefetchLines = 16;  // headers fetched ahead of the one that is looked at

base::Result<std::vector<uint64_t>> list_segments(int content_directory) {
  const int fd = ::dup(content_directory);
  if (fd < 0) return base::fail_errno(errno, "dup");
  DIR* directory = ::fdopendir(fd);
  if (directory == nullptr) {
    const int reason = errno;
    ::close(fd);
    return base::fail_errno(reason, "list content/");
  }
  ::rewinddir(directory);
  std::vector<uint64_t> numbers;
  while (const dirent* entry = ::readdir(directory)) {
    char* end = nullptr;
    const uint64_t number = std::strtoull(entry->d_name, &end, 10);
    if (end != entry->d_name && std::strcmp(end, ".seg") == 0 && segment_name(number) == entry->d_name) numbers.push_back(number);
  }
  ::closedir(directory);
  std::sort(numbers.begin(), numbers.end());
  return numbers;
}

class Recovery {
 public:
  Recovery(Tier& tier, const layout::Superblock& superblock, bool from_device, int content_directory, SegmentTable& segments,
           Slots& slots)
      : tier_(tier),
        superblock_(superblock),
        from_device_(from_device),
        content_directory_(content_directory),
        segments_(segments),
        slots_(slots) {}

  base::Result<Recovered> run();

 private:
  base::Status open_segments();
  void decide_intent();
  void erase_beyond(SlotLine& line, uint32_t slot);
  base::Status scan();
  void look_at(uint32_t slot);
  void accept(uint32_t slot, const SlotLine& line);
  void heal_hash(layout::RecordHeader& header, const std::byte* id, const SlotLine& line) const;
  void index_record(uint32_t slot, uint64_t put, const layout::RecordHeader& header, const std::byte* id);
  bool lost_against_newer(uint64_t home, uint32_t tag, uint32_t slot, uint64_t put, const layout::RecordHeader& header,
                          const std::byte* id);
  base::Status grow_index();
  void drop_unreferenced_segments();
  void damaged(uint32_t slot, const char* why);
  void saw(uint64_t word) { highest_ = std::max(highest_, layout::sequence_of(word)); }

  struct Unreadable {
    uint64_t number;
    std::string why;
    bool named;  // by a live line
  };

  Tier& tier_;
  const layout::Superblock& superblock_;
  const bool from_device_;
  const int content_directory_;
  SegmentTable& segments_;
  Slots& slots_;
  Recovered out_;
  std::vector<std::pair<uint64_t, uint32_t>> deaths_;  // sequence, slot
  uint64_t highest_ = 0;
  std::optional<base::Error> failed_;
  std::vector<Unreadable> unreadable_;
};

void Recovery::damaged(uint32_t slot, const char* why) {
  if (out_.damaged++ < 8) std::fprintf(stderr, "<3>recovery: slot %u is damaged: %s\n", slot, why);
}

base::Status Recovery::open_segments() {
  auto numbers = list_segments(content_directory_);
  if (!numbers) return base::pass(std::move(numbers));
  for (uint64_t number : *numbers) {
    auto segment = open_segment(content_directory_, number, superblock_.store_id);
    if (!segment) {
      if (segment.error().code != WARM_E_CORRUPT) return base::pass(std::move(segment));
      unreadable_.push_back({.number = number, .why = std::move(segment.error().text), .named = false});
      continue;
    }
    if (from_device_) ::posix_fadvise((*segment)->fd.get(), 0, 0, POSIX_FADV_WILLNEED);
    segments_.add(std::move(*segment));
  }
  return {};
}

// The one operation that was in progress. By its last word: a remove or update once begun is finished; a put or replace
// happened iff its put sequence is stored.
void Recovery::decide_intent() {
  layout::IntentLine& shared = tier_.control().intent;
  layout::IntentLine intent;
  std::memcpy(&intent, &shared, sizeof intent);
  // What carries an update's number once the intent is gone.
  if (const uint64_t update = tier_.control().numbers.last_update; update < layout::kSequenceMax) saw(update);
  const uint64_t sequence = intent.state;
  if (sequence == 0 || sequence >= layout::kSequenceEnd) return;
  saw(sequence);
  if (from_device_) return;  // what is above C is erased; requests of that life end as unknown

  const auto in_range = [&](uint32_t slot) { return slot < tier_.slots(); };
  const auto kind = static_cast<layout::IntentKind>(intent.kind);
  bool carried_out = false;
  auto finish_death = [&] {
    if (!in_range(intent.old_slot)) return;
    SlotLine& old = tier_.line(intent.old_slot);
    if (!layout::live(old.put, old.dead)) return;
    WARM_FAILPOINT("store.recovery_before_death");
    layout::store_release(old.dead, layout::dead_word(sequence, layout::sequence_of(old.put)));
  };
  if (kind == layout::IntentKind::remove) {
    if (WARM_RULE("store.remove_is_finished")) finish_death();
    carried_out = true;
  } else if (kind == layout::IntentKind::update && in_range(intent.old_slot)) {
    // Redone from the absolute values, whatever of it was stored.
    SlotLine& line = tier_.line(intent.old_slot);
    WARM_FAILPOINT("store.recovery_before_update");
    if (WARM_RULE("store.update_is_redone") && layout::live(line.put, line.dead)) {
      layout::store_quad(line.quad, intent.quad);
      layout::store_relaxed(line.last_access_ns, intent.last_access_ns);
    }
    layout::store_release(tier_.control().numbers.last_update, sequence);
    carried_out = true;
  } else if ((kind == layout::IntentKind::put || kind == layout::IntentKind::replace) && in_range(intent.new_slot)) {
    SlotLine& line = tier_.line(intent.new_slot);
    if (line.put == layout::put_word(sequence, intent.new_slot)) {
      if (kind == layout::IntentKind::replace && WARM_RULE("store.replace_is_finished")) finish_death();
      carried_out = true;
    } else {
      WARM_FAILPOINT("store.recovery_before_erase");
      layout::store_release(line.put, 0);
    }
  } else {
    std::fprintf(stderr, "<3>recovery: the intent line names operation %u, slot %u: ignored\n", intent.kind, intent.new_slot);
    return;
  }
  Decided decided;
  decided.origin = {.channel = intent.channel,
                    .lane = intent.lane,
                    .number = intent.number,
                    .session_index = intent.session_index,
                    .session = intent.session,
                    .ticket = intent.ticket,
                    .cell = intent.cell};
  decided.answer = {.status = WARM_OK, .sequence = sequence, .slot = intent.new_slot, .limit = 0};
  decided.carried_out = carried_out;
  out_.decided = decided;
}

// Recovery from the device believes nothing above C, and must not let it come back to life when numbers are used again.
void Recovery::erase_beyond(SlotLine& line, uint32_t slot) {
  const uint64_t c = superblock_.checkpoint_sequence;
  const uint64_t put = layout::sequence_of(line.put);
  // A word with wrong check bits says nothing about numbers; the check bits of a former tenant's death cannot be known.
  if (layout::put_word_valid(line.put, slot)) saw(line.put);
  if (layout::sequence_of(line.dead) < layout::kSequenceMax) saw(line.dead);
  if (put > c) {
    layout::store_relaxed(line.put, 0);
    return;
  }
  if (layout::sequence_of(line.dead) <= c || layout::sequence_of(line.dead) < put || put == 0) return;
  // A death of this tenant is taken back; one that names another tenant proves that this one was dead before the slot was used
  // again: replaced by a death of its own, in one store.
  const bool own = layout::dead_word_names(line.dead, put) || !WARM_RULE("store.death_names_its_put");
  const uint64_t word = own ? 0 : layout::dead_word(put, put);
  layout::store_relaxed(line.dead, word);
}

void Recovery::look_at(uint32_t slot) {
  SlotLine& line = tier_.line(slot);
  if (from_device_) erase_beyond(line, slot);
  switch (layout::validate_line(line, slot)) {
    case layout::LineVerdict::free: slots_.add_unprepared(slot); return;
    case layout::LineVerdict::live:
      saw(line.put);
      accept(slot, line);
      return;
    case layout::LineVerdict::dead: {
      saw(line.dead);
      deaths_.emplace_back(layout::sequence_of(line.dead), slot);
      const layout::Locator at = layout::locator_of(line.locator);
      if (Segment* segment = segments_.find(at.segment);
          segment != nullptr && at.offset_bytes + sizeof(layout::RecordHeader) <= segment->bytes) {
        layout::RecordHeader header;
        std::memcpy(&header, segment->at(at.offset_bytes), sizeof header);
        const uint64_t end = at.offset_bytes + layout::record_bytes(header.id_bytes, header.stored_bytes);
        if (header.put == line.put && end <= segment->bytes) segment->tail = std::max(segment->tail, end);
        segment->last_death = std::max(segment->last_death, layout::sequence_of(line.dead));
      }
      return;
    }
    case layout::LineVerdict::bad_put: damaged(slot, "check bits of its put word"); return;
    case layout::LineVerdict::bad_dead: damaged(slot, "check bits of its dead word"); return;
    case layout::LineVerdict::bad_locator:
      saw(line.put);
      damaged(slot, "check bits of its locator");
      return;
  }
}

// Where nothing but the hash is wrong, the checksum says so when it is put right: the id's cell is where its hash says. Where the
// id is wrong too, nobody knows which of the two, and the hash that was stored stays the place where the id is asked for.
void Recovery::heal_hash(layout::RecordHeader& header, const std::byte* id, const SlotLine& line) const {
  if (header.id_bytes < 1 || header.id_bytes > layout::kIdBytesMax) return;
  layout::RecordHeader healed = header;
  healed.hash = base::hash64(id, header.id_bytes, superblock_.hash_seed);
  if (layout::record_header_checksum(healed, id, line.content_bytes, line.checksum) == header.header_checksum)
    header.hash = healed.hash;
}

void Recovery::accept(uint32_t slot, const SlotLine& line) {
  const layout::Locator at = layout::locator_of(line.locator);
  Segment* segment = segments_.find(at.segment);
  if (segment == nullptr) {
    for (Unreadable& file : unreadable_) file.named = file.named || file.number == at.segment;
    damaged(slot, "its segment is missing or unreadable");
    return;
  }
  layout::RecordPlace place{};
  const layout::Verdict verdict =
      layout::validate_record(segment->content(), at.offset_bytes, slot, line.put, line.content_bytes, line.checksum, &place);
  if (verdict != layout::Verdict::good) {
    damaged(slot, layout::verdict_text(verdict));
    // Its id may still be readable: then a get says corrupt, and never "not found".
    if (at.offset_bytes + sizeof(layout::RecordHeader) > segment->bytes) return;
    std::memcpy(&place.header, segment->at(at.offset_bytes), sizeof place.header);
    if (place.header.put != line.put || at.offset_bytes + sizeof place.header + place.header.id_bytes > segment->bytes) return;
    place.id_offset = at.offset_bytes + sizeof place.header;
    heal_hash(place.header, segment->at(place.id_offset), line);
  }
  const uint64_t bytes = layout::record_bytes(place.header.id_bytes, place.header.stored_bytes);
  segment->tail = std::max(segment->tail, std::min(at.offset_bytes + bytes, segment->bytes));
  ++segment->live_records;
  segment->live_bytes += bytes;
  out_.content_bytes_live += bytes;
  ++out_.records;
  index_record(slot, line.put, place.header, segment->at(place.id_offset));
}

// Two live lines of one id: only damage makes them; the one with the higher put stays.
bool Recovery::lost_against_newer(uint64_t home, uint32_t tag, uint32_t slot, uint64_t put, const layout::RecordHeader& header,
                                  const std::byte* id) {
  bool lost = false;
  out_.index.for_each_of_home(home, [&](const IndexTable::Place& place, uint64_t cell) {
    if (layout::cell_tag(cell) != tag) return false;
    const uint32_t other_slot = layout::cell_slot(cell);
    SlotLine& other = tier_.line(other_slot);
    const layout::Locator at = layout::locator_of(other.locator);
    Segment* segment = segments_.find(at.segment);
    layout::RecordHeader other_header;
    std::memcpy(&other_header, segment->at(at.offset_bytes), sizeof other_header);
    if (other_header.hash != header.hash || other_header.id_bytes != header.id_bytes ||
        std::memcmp(segment->at(at.offset_bytes + sizeof other_header), id, header.id_bytes) != 0) {
      return false;
    }
    damaged(slot, "its id stands in two live lines");
    const bool newer = layout::sequence_of(put) > layout::sequence_of(other.put);
    const uint32_t loser_slot = newer ? other_slot : slot;
    SlotLine& loser = tier_.line(loser_slot);
    const uint64_t death = layout::sequence_of(newer ? put : other.put);
    layout::store_release(loser.dead, layout::dead_word(death, layout::sequence_of(loser.put)));
    deaths_.emplace_back(death, loser_slot);
    --out_.records;
    if (newer) out_.index.replace(place, slot, tag);
    lost = true;
    return true;
  });
  return lost;
}

void Recovery::index_record(uint32_t slot, uint64_t put, const layout::RecordHeader& header, const std::byte* id) {
  const uint64_t home = layout::home_of_hash(header.hash, out_.index.homes_log2());
  const uint32_t tag = layout::tag_of_hash(header.hash);
  if (lost_against_newer(home, tag, slot, put, header, id)) return;
  for (;;) {
    if (const auto place = out_.index.find_empty(layout::home_of_hash(header.hash, out_.index.homes_log2()))) {
      out_.index.insert(*place, slot, tag);
      return;
    }
    if (auto status = grow_index(); !status) {
      if (!failed_) failed_ = std::move(status).error();
      return;
    }
  }
}

// A chain is full before the load is: rare, so the whole table is copied at once.
base::Status Recovery::grow_index() {
  for (uint32_t log2 = out_.index.homes_log2() + 1; log2 <= layout::kIndexHomesLog2Max; ++log2) {
    auto larger = IndexTable::make(log2, superblock_.hash_seed);
    if (!larger) return base::pass(std::move(larger));
    bool fits = true;
    for (uint64_t home = 0; fits && home < out_.index.homes(); ++home) fits = out_.index.copy_home_to(home, *larger);
    if (!fits) continue;
    out_.index = std::move(*larger);
    return {};
  }
  return base::fail(WARM_E_LIMIT, "the index finds no room within distance %u of a home, even with 2^%u homes",
                    layout::kIndexDistanceMax, layout::kIndexHomesLog2Max);
}

base::Status Recovery::scan() {
  const uint64_t slots = tier_.slots();
  for (uint64_t chunk = 0; chunk * layout::kSlotsPerChunk < slots; ++chunk) {
    const auto lines = tier_.chunk_lines(chunk);
    if (auto status = base::populate_read(lines.data(), lines.size()); !status) return status;
    const auto first = static_cast<uint32_t>(chunk * layout::kSlotsPerChunk);
    const auto end = static_cast<uint32_t>(std::min<uint64_t>(slots, uint64_t{first} + layout::kSlotsPerChunk));
    for (uint32_t slot = first; slot < end; ++slot) {
      if (slot + kPrefetchLines < end) {
        const layout::Locator ahead = layout::locator_of(tier_.line(static_cast<uint32_t>(slot + kPrefetchLines)).locator);
        if (Segment* segment = segments_.find(ahead.segment); segment != nullptr && ahead.offset_bytes < segment->bytes) {
          layout::prefetch(segment->at(ahead.offset_bytes));
        }
      }
      look_at(slot);
    }
  }
  return {};
}

void Recovery::drop_unreferenced_segments() {
  std::vector<uint64_t> gone;
  segments_.for_each([&](Segment& segment) {
    if (segment.live_records == 0 && segment.last_death == 0 && segment.tail == sizeof(layout::SegmentHeader))
      gone.push_back(segment.number);
  });
  for (uint64_t number : gone) {
    ::unlinkat(content_directory_, segment_name(number).c_str(), 0);
    segments_.remove(number);
  }
  // A daemon killed while it made a file leaves one without a header. A file that a live record names is kept as evidence.
  for (const Unreadable& file : unreadable_) {
    if (file.named) {
      std::fprintf(stderr, "<3>recovery: %s\n", file.why.c_str());
    } else {
      ::unlinkat(content_directory_, segment_name(file.number).c_str(), 0);
    }
  }
}

base::Result<Recovered> Recovery::run() {
  saw(superblock_.checkpoint_sequence);
  if (auto status = open_segments(); !status) return base::pass(std::move(status));
  decide_intent();
  // Sized for every slot that might be live, so that it need not be built twice.
  uint64_t live_at_most = 0;
  for (uint64_t slot = 0; slot < tier_.slots(); ++slot) {
    const SlotLine& line = tier_.line(static_cast<uint32_t>(slot));
    if (layout::live(line.put, line.dead)) ++live_at_most;
  }
  auto table = IndexTable::make(homes_log2_for(live_at_most), superblock_.hash_seed);
  if (!table) return base::pass(std::move(table));
  out_.index = std::move(*table);
  if (auto status = scan(); !status) return base::pass(std::move(status));
  if (failed_) return std::unexpected(std::move(*failed_));
  if (auto status = out_.index.publish(); !status) return base::pass(std::move(status));
  std::sort(deaths_.begin(), deaths_.end());
  for (const auto& [sequence, slot] : deaths_) slots_.died(slot, sequence);
  // A damaged line may name a segment that nothing else names: kept as evidence.
  if (out_.damaged == 0) drop_unreferenced_segments();
  out_.next_sequence = highest_ + 1;
  return std::move(out_);
}

}  // namespace

base::Result<layout::Superblock> read_superblock(int tier_fd) {
  std::vector<std::byte> header(layout::kTierHeaderBytes);
  size_t have = 0;
  while (have < header.size()) {
    const ssize_t n = ::pread(tier_fd, header.data() + have, header.size() - have, static_cast<off_t>(have));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return base::fail_errno(errno, "read warm.tier");
    if (n == 0) break;
    have += static_cast<size_t>(n);
  }
  layout::Verdict verdicts[2] = {};
  const auto copy = layout::choose_superblock({header.data(), have}, verdicts);
  if (!copy) {
    for (unsigned i = 0; i < 2; ++i) {
      if (verdicts[i] != layout::Verdict::unknown_version) continue;
      uint32_t version = 0;
      std::memcpy(&version, header.data() + layout::kSuperblockOffsets[i] + offsetof(layout::Superblock, format_version),
                  sizeof version);
      return base::fail(WARM_E_VERSION, "warm.tier has format version %u, this daemon reads version %u", version,
                        layout::kFormatVersion);
    }
    for (unsigned i = 0; i < 2; ++i) {
      if (verdicts[i] != layout::Verdict::unknown_flags) continue;
      uint64_t flags = 0;
      std::memcpy(&flags, header.data() + layout::kSuperblockOffsets[i] + offsetof(layout::Superblock, incompatible_flags),
                  sizeof flags);
      return base::fail(WARM_E_VERSION, "warm.tier has incompatible flags 0x%llx, this daemon knows 0x0",
                        static_cast<unsigned long long>(flags));
    }
    return base::fail(WARM_E_CORRUPT, "warm.tier: neither superblock is valid (first: %s; second: %s)",
                      layout::verdict_text(verdicts[0]), layout::verdict_text(verdicts[1]));
  }
  layout::Superblock superblock;
  std::memcpy(&superblock, header.data() + layout::kSuperblockOffsets[*copy], sizeof superblock);
  return superblock;
}

base::Result<Recovered> recover(Tier& tier, const layout::Superblock& superblock, bool from_device, int content_directory,
                                SegmentTable& segments, Slots& slots) {
  return Recovery(tier, superblock, from_device, content_directory, segments, slots).run();
}

}  // namespace warmtier::daemon::store
