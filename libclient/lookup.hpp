// Finding a record: docs/protocol.md, "Reading". Templates, because each reader wants the same steps with other parts of them:
// by id or by cell, with a pin or without, in place or through the kernel. All of it runs inside (client.hpp).
#pragma once

#include <algorithm>
#include <bit>
#include <cstring>
#include <string>

#include "base/failpoint.hpp"
#include "base/hash.hpp"
#include "libclient/client.hpp"
#include "libclient/record.hpp"
#include "libclient/source.hpp"

namespace warmtier::libclient {

enum class Lookup {
  found,
  absent,
  next,         // not this cell
  reattach,     // the generation changed
  pause,        // it moves too much, or a daemon was killed half-way and will be back
  segment,      // the record lies in a segment that is not in the table
  corrupt,
  fault,        // the kernel could not read it
  unsupported,  // the kernel does not read for us
  full,         // no pin cell is left
  no_memory,
};

// What a reader wants of a record.
enum class Want {
  facts,  // what the line says, and the id; no pin
  bytes,  // content and embedding too; no pin
  view,   // the same, pinned
};

// Which record: that of an id ...
struct ById {
  static constexpr bool kRowAhead = false;      // its row is asked for when its slot is known
  static constexpr bool kOthersCollide = true;  // another one in a cell with this tag is no damage
  const void* id;
  uint32_t id_bytes;
  uint64_t hash;
  [[nodiscard]] bool matches(const Record& record) const noexcept {
    return record.header.id_bytes == id_bytes && std::memcmp(record.id, id, id_bytes) == 0;
  }
};
// ... or whatever a cell names: then its hash must be one that belongs there.
struct ByCell {
  static constexpr bool kRowAhead = true;  // a walk has asked for it
  static constexpr bool kOthersCollide = false;
  uint64_t home;
  uint32_t homes_log2;
  uint32_t tag;
  [[nodiscard]] bool matches(const Record& record) const noexcept {
    return (layout::home_of_hash(record.header.hash, homes_log2) == home && layout::tag_of_hash(record.header.hash) == tag) ||
           !WARM_RULE("client.walk_hash_fits");
  }
};

template <typename Source>
Lookup failure_of(const Source& source) noexcept {
  if constexpr (Source::kInPlace) {
    return Lookup::fault;  // does not fail
  } else {
    return source.error() == EFAULT ? Lookup::fault : Lookup::unsupported;
  }
}

enum class Place { good, bad, missing_segment, other_store, no_memory };

// The header is a private copy; everything that it says is held against the segment and the line before it is used.
inline bool header_fits(const layout::RecordHeader& header, uint64_t put, uint64_t offset, uint64_t segment_bytes,
                        uint32_t content_bytes) noexcept {
  const bool absent = (header.flags & layout::kRecordContentAbsent) != 0;
  return header.put == put && header.codec == layout::kCodecRaw && (header.flags & ~layout::kRecordFlagsKnown) == 0 &&
         header.id_bytes >= 1 && header.id_bytes <= layout::kIdBytesMax && header.stored_bytes == content_bytes &&
         (!absent || header.stored_bytes == 0) &&
         layout::record_bytes(header.id_bytes, header.stored_bytes) <= segment_bytes - offset;
}

// Copies a record into memory of its own: where a segment has no map, or where nothing is read in place.
template <Want kWant, typename Source>
Place copy_record(Source& source, const Attachment& a, const SegmentTable::Entry& segment, uint64_t offset,
                  Record& record) noexcept;

// Word by word: what g++ makes of a copy of this length costs a get of many 4 ns an id more.
inline void copy_header(const std::byte* from, layout::RecordHeader& ret_header) noexcept {
  uint64_t words[sizeof ret_header / sizeof(uint64_t)];
  static_assert(sizeof words == sizeof ret_header);
#pragma GCC unroll 8
  for (size_t i = 0; i < std::size(words); ++i) std::memcpy(&words[i], from + i * sizeof words[i], sizeof words[i]);
  ret_header = std::bit_cast<layout::RecordHeader>(words);
}

// What the locator of record.line names.
template <Want kWant, typename Source>
inline Place read_record(Source& source, const ClientState& state, const Attachment& a, Record& record) noexcept {
  const Line& line = record.line;
  if (!layout::put_word_valid(line.put, record.slot) ||
      !layout::locator_valid(line.locator, record.slot, layout::sequence_of(line.put))) {
    return Place::bad;
  }
  const layout::Locator at = layout::locator_of(line.locator);
  const SegmentTable& table = *state.segments.load(std::memory_order_acquire);
  if (__builtin_expect(table.tier() != a.tier, 0)) return Place::other_store;
  const SegmentTable::Entry* segment = table.find(at.segment);
  record.segment_number = at.segment;
  if (__builtin_expect(segment == nullptr, 0)) return Place::missing_segment;
  record.segment = segment->map;
  if (at.offset_bytes < sizeof(layout::SegmentHeader) || at.offset_bytes > segment->bytes ||
      segment->bytes - at.offset_bytes < sizeof record.header) {
    return Place::bad;
  }
  if (!Source::kInPlace || __builtin_expect(segment->base == nullptr, 0)) {
    return copy_record<kWant>(source, a, *segment, at.offset_bytes, record);
  }
  if (__builtin_expect(record.owned != nullptr, 0))
    record.owned.reset();  // of an earlier attempt, or of an earlier id of a group
  const std::byte* from = segment->base + at.offset_bytes;
  if constexpr (kWant != Want::facts) layout::prefetch(from + layout::kCacheLineBytes);
  copy_header(from, record.header);
  record.id = from + sizeof record.header;
  record.embedding = row_at(a, record.slot);
  return header_fits(record.header, line.put, at.offset_bytes, segment->bytes, line.content_bytes) ? Place::good : Place::bad;
}

template <typename Source>
inline void read_line(Source& source, const layout::SlotLine& shared, uint64_t put, Line& ret_line) noexcept {
  ret_line.put = put;
  ret_line.locator = source.load(shared.locator);
  ret_line.created_ns = source.load(shared.created_ns);
  WARM_STEP("client.get_locator_loaded");
  ret_line.quad = source.quad(shared.quad);
  ret_line.last_access_ns = source.load(shared.last_access_ns);
  ret_line.content_bytes = source.load(shared.content_bytes);
  ret_line.checksum = source.load(shared.checksum);
}

// The pin of a record that is becoming a view, or what stands in its place, and the look at the line after it. False: the record
// moved, and no pin is left.
template <Want kWant>
inline void unpin(const Attachment& a, const Record& record) noexcept {
  if constexpr (kWant == Want::view) {
    layout::store_release(a.link->region().pins[record.pin_cell], 0);
    WARM_STEP("client.pin_taken_back");
  }
}
template <Want kWant, typename Source>
inline bool hold(Source& source, ThreadRecord& me, const Attachment& a, const layout::SlotLine& line, Record& record) noexcept {
  if constexpr (kWant == Want::view) {
    record.pin_cell = me.magazine[me.cells - 1];
    layout::exchange(a.link->region().pins[record.pin_cell], record.slot + 1);
    WARM_FAILPOINT("client.pin_stored");
  } else {
    if (!WARM_RULE("client.line_again_without_pin")) return true;
    layout::fence_acquire();
  }
  // Both words: a slot may die and keep its put for a while.
  if ((source.load(line.put) == record.line.put || !WARM_RULE("client.put_again")) &&
      (layout::live(record.line.put, source.load(line.dead)) || !WARM_RULE("client.dead_again")) &&
      source.load(line.locator) == record.line.locator) {
    return true;
  }
  unpin<kWant>(a, record);
  return false;
}
template <Want kWant>
inline bool has_cell(ClientState& state, ThreadRecord& me, const Attachment& a) noexcept {
  return kWant != Want::view || __builtin_expect(me.cells != 0, 1) || state.refill(me, *a.link);
}

// No cell is left; but a session of which no daemon knows any more is not what a view is refused for.
template <typename Source>
inline Lookup full_or_over(Source& source, const Attachment& a) noexcept {
  return source.current(a) ? Lookup::full : Lookup::reattach;
}

inline void prefetch_row(const Attachment& a, uint32_t slot) noexcept {
  const std::byte* row = row_at(a, slot);
  layout::prefetch(row);
  layout::prefetch(row + layout::kCacheLineBytes);
  layout::prefetch(row + a.geometry.row_bytes - layout::kCacheLineBytes);  // mostly on another page: its translation too
}

// At which distances entries of a home lie: bit d - 1 for d.
inline uint64_t distances_of(const layout::Bucket& home) noexcept {
  return layout::load_acquire(home.distances) & ((uint64_t{1} << layout::kIndexDistanceMax) - 1);
}

// One cell of the index, until it says found, another record, or something that cannot be decided here. A view's pin cell is the
// last one of the thread's magazine, and stays in it until the record becomes a view (view.hpp).
// Inlined, because a call with nine arguments costs a get of many 4 ns an id.
template <Want kWant, typename Source, typename Wanted>
[[gnu::always_inline]] inline Lookup examine(Source& source, ClientState& state, ThreadRecord& me, const Attachment& a,
                                             const uint64_t& cell, uint64_t key, const Wanted& wanted, Record& record,
                                             uint32_t& rounds) noexcept {
  using layout::load_acquire;
  for (;;) {
    const uint64_t c = load_acquire(cell);
    if (!layout::cell_matches(c, key)) return Lookup::next;
    if (rounds++ == layout::kReadRoundsBeforePause) return source.current(a) ? Lookup::pause : Lookup::reattach;
    WARM_STEP("client.get_cell_loaded");
    record.slot = layout::cell_slot(c);
    if (record.slot >= allocated_slots(a)) {
      if (load_acquire(cell) != c) continue;
      return source.current(a) ? Lookup::corrupt : Lookup::reattach;
    }
    const layout::SlotLine& line = line_at(a, record.slot);
    if constexpr (kWant != Want::facts && Source::kInPlace && !Wanted::kRowAhead) prefetch_row(a, record.slot);
    const uint64_t p = source.load(line.put);
    WARM_STEP("client.get_put_loaded");
    const uint64_t d = source.load(line.dead);
    WARM_STEP("client.get_line_loaded");
    if (source.failed()) return failure_of(source);
    if (!layout::live(p, d)) {
      if (!WARM_RULE("client.dead_is_not_absent")) return Lookup::next;
      // All three: the slot may have gone away and come back.
      if (load_acquire(cell) != c) continue;
      if (WARM_RULE("client.put_and_dead_again") && (source.load(line.put) != p || source.load(line.dead) != d)) continue;
      if (!source.current(a)) return Lookup::reattach;
      const uint64_t sequence = layout::sequence_of(p);
      record.line.put = p;
      if (!layout::put_word_valid(p, record.slot) || (sequence != 0 && !layout::dead_word_names(d, sequence)))
        return Lookup::corrupt;
      layout::cpu_relax();
      continue;
    }
    read_line(source, line, p, record.line);
    const Place place = read_record<kWant>(source, state, a, record);
    if (source.failed()) return failure_of(source);
    WARM_STEP("client.get_record_read");
    if (place != Place::good || !wanted.matches(record)) {
      if (place == Place::other_store) return Lookup::reattach;
      // A negative verdict counts only if nothing moved meanwhile.
      if (WARM_RULE("client.negative_only_if_unmoved") &&
          (load_acquire(cell) != c || ((source.load(line.put) != p || source.load(line.locator) != record.line.locator ||
                                        (place == Place::missing_segment && source.load(line.dead) != d)) &&
                                       WARM_RULE("client.negative_line_again")))) {
        continue;
      }
      // A true collision of tags; an id that fails its checksum is not another one.
      if (Wanted::kOthersCollide && place == Place::good && header_intact(record)) return Lookup::next;
      if (place == Place::no_memory) return Lookup::no_memory;
      if (!source.current(a)) return Lookup::reattach;
      return place == Place::missing_segment ? Lookup::segment : Lookup::corrupt;
    }
    if (!has_cell<kWant>(state, me, a)) return full_or_over(source, a);
    if (!hold<kWant>(source, me, a, line, record)) continue;
    WARM_STEP("client.get_before_cell_again");
    if (load_acquire(cell) != c && WARM_RULE("client.cell_again")) {  // else one thread could see a new record, then the old one
      unpin<kWant>(a, record);
      continue;
    }
    WARM_STEP("client.get_before_generation");
    if (!source.current(a) && WARM_RULE("client.generation_after_hit")) {
      unpin<kWant>(a, record);
      return Lookup::reattach;
    }
    return source.failed() ? failure_of(source) : Lookup::found;
  }
}

template <Want kWant, typename Source>
inline Lookup look_up(Source& source, ClientState& state, ThreadRecord& me, const Attachment& a, const ById& wanted,
                      Record& record) noexcept {
  WARM_STEP("client.get_begun");
  const uint32_t tag = layout::tag_of_hash(wanted.hash);
  const layout::Bucket* const home = a.buckets + layout::home_of_hash(wanted.hash, a.homes_log2);
  // Loaded first: the bit of an entry that is present throughout was set before it.
  uint64_t distances = distances_of(*home);
  uint32_t rounds = 0;
  for (uint32_t distance = 0;;) {
    const uint64_t key = layout::cell_key(distance, tag);
    for (const uint64_t& cell : home[distance].cells) {
      WARM_STEP("client.get_next_cell");
      if (__builtin_expect(!layout::cell_matches(layout::load_acquire(cell), key), 1)) continue;
      const Lookup verdict = examine<kWant>(source, state, me, a, cell, key, wanted, record, rounds);
      if (verdict != Lookup::next) return verdict;
    }
    if (distances == 0) break;
    distance = static_cast<uint32_t>(std::countr_zero(distances)) + 1;
    distances &= distances - 1;
  }
  WARM_STEP("client.get_before_absent");
  // At the end: at the start only, a miss can be false.
  return source.current(a) || !WARM_RULE("client.generation_after_miss") ? Lookup::absent : Lookup::reattach;
}

// ---- A slot without a cell ----------------------------------------------------------------------------------------------------

// What a slot holds now, if it is what `put` made (0: whatever it is); for who walks slots and not the index. `absent`: it is
// free or dead, holds another record, or changed meanwhile. A record whose cell is not stored yet is found too: who must not see
// it before everybody else holds its sequence against the status page's.
template <Want kWant, typename Source>
inline Lookup examine_slot(Source& source, ClientState& state, ThreadRecord& me, const Attachment& a, uint32_t slot, uint64_t put,
                           Record& record) noexcept {
  if (slot >= allocated_slots(a)) return Lookup::absent;
  record.slot = slot;
  const layout::SlotLine& line = line_at(a, slot);
  for (uint32_t rounds = 0; rounds < layout::kReadRoundsBeforePause; ++rounds) {
    const uint64_t p = source.load(line.put);
    const uint64_t d = source.load(line.dead);
    if (source.failed()) return failure_of(source);
    if (!layout::live(p, d) || (put != 0 && p != put)) return Lookup::absent;
    read_line(source, line, p, record.line);
    const Place place = read_record<kWant>(source, state, a, record);
    if (source.failed()) return failure_of(source);
    if (place == Place::no_memory) return Lookup::no_memory;
    if (place == Place::other_store) return Lookup::reattach;
    WARM_STEP("client.slot_record_read");
    if (place != Place::good) {
      layout::fence_acquire();
      if (source.load(line.put) != p || !layout::live(p, source.load(line.dead))) return Lookup::absent;
      if (source.load(line.locator) != record.line.locator) continue;
      if (!source.current(a)) return Lookup::reattach;
      return place == Place::missing_segment ? Lookup::segment : Lookup::corrupt;
    }
    if (!has_cell<kWant>(state, me, a)) return full_or_over(source, a);
    if (!hold<kWant>(source, me, a, line, record)) continue;  // moved: the line says whether it is still there
    if (!source.current(a)) {
      unpin<kWant>(a, record);
      return Lookup::reattach;
    }
    return source.failed() ? failure_of(source) : Lookup::found;
  }
  return Lookup::pause;
}

// ---- What a read does when it cannot go on by itself; outside -----------------------------------------------------------------

struct Trouble {
  uint64_t segment_rounds = 0;
  uint64_t missing_put = 0;  // the record whose segment the last list did not name
  uint64_t missing_locator = 0;
};

// `id` is the caller's; nullptr where there is none: then the record is named as far as it was read.
base::Status overcome(ClientState& state, Lookup verdict, const void* id, size_t id_bytes, const Record& record,
                      Patience& patience, Trouble& trouble);

// An id for a sentence: printable, and not too long.
std::string shown(const void* id, size_t id_bytes);

// Asks for the record that a line names, right or wrong: for header and id, and for so many bytes of content as fit into a few
// lines with them. The slot is one of those that are allocated.
inline void prefetch_record(const Attachment& a, const SegmentTable& table, uint32_t slot, uint64_t content_bytes) noexcept {
  constexpr uint64_t kLine = layout::kCacheLineBytes;
  constexpr uint64_t kIdBytesMostly = 16;  // rather too few than too many
  const layout::Locator at = layout::locator_of(layout::load_relaxed(line_at(a, slot).locator));
  const SegmentTable::Entry* segment = table.find(at.segment);
  if (segment == nullptr || segment->base == nullptr || at.offset_bytes >= segment->bytes) return;
  const uint64_t into_line = at.offset_bytes % kLine;
  const std::byte* from = segment->base + at.offset_bytes - into_line;
  const uint64_t end = into_line + sizeof(layout::RecordHeader) + kIdBytesMostly + content_bytes;
  layout::prefetch(from);
  layout::prefetch(from + kLine);
  if (end > 2 * kLine) layout::prefetch(from + 2 * kLine);
  if (end > 3 * kLine) layout::prefetch(from + 3 * kLine);
}

// Looks an id up until there is an answer. `use(me, a, source, record)` runs inside, when the record was found, and may still
// turn it down by another verdict. `kCounted`: a get, for the counters and the touch ring.
template <Want kWant, typename Source, bool kCounted, typename Use>
inline base::Result<Presence> seek(ClientState& state, Patience& patience, const void* id, size_t id_bytes, Use&& use) {
  ThreadRecord& me = state.thread();
  Trouble trouble;
  for (;;) {
    Lookup verdict = Lookup::reattach;
    Source source;
    Record record;
    state.enter(me);
    if (const Attachment* a = state.attachment.load(std::memory_order_acquire); __builtin_expect(a != nullptr, 1)) {
      if (kCounted && __builtin_expect(me.link != a->link, 0)) state.switch_link(me, *a->link);
      const ById wanted{.id = id, .id_bytes = static_cast<uint32_t>(id_bytes), .hash = base::hash64(id, id_bytes, a->hash_seed)};
      verdict = look_up<kWant>(source, state, me, *a, wanted, record);
      if (__builtin_expect(verdict == Lookup::found, 1)) verdict = use(me, *a, source, record);
      if (__builtin_expect(verdict == Lookup::found, 1)) {
        if constexpr (kCounted) {
          const bool tick = state.count_get(me);
          const bool changed = tick && state.segments_changed(*a);
          ClientState::leave(me);
          if (__builtin_expect(tick, 0)) state.tick(me, layout::sequence_of(record.line.put), record.slot, changed);
        } else {
          ClientState::leave(me);
          state.notice_stop_now_and_then(me);
        }
        return Presence::found;
      }
    }
    ClientState::leave(me);
    if (verdict == Lookup::absent) {
      if constexpr (kCounted) ClientState::count_miss(me);
      state.notice_stop_now_and_then(me);
      return Presence::absent;
    }
    if (auto ready = overcome(state, verdict, id, id_bytes, record, patience, trouble); !ready)
      return base::pass(std::move(ready));
  }
}

template <Want kWant, typename Source, bool kCounted, typename Use>
inline base::Result<Presence> seek(ClientState& state, const void* id, size_t id_bytes, Use&& use) {
  Patience patience(state.timeout_ns);
  return seek<kWant, Source, kCounted>(state, patience, id, id_bytes, use);
}

}  // namespace warmtier::libclient
