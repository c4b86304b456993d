#include "libclient/reader.hpp"

#include <sched.h>

#include <bit>
#include <cstdlib>
#include <cstring>
#include <string>

#include "base/failpoint.hpp"
#include "base/hash.hpp"
#include "layout/words.hpp"

namespace warmtier::libclient {
namespace {

constexpr uint64_t kViewMagic = 0x5749'4557'4D52'4157;  // not 0, for any stamp

// What warm_view.internal holds.
enum Internal : unsigned { kOrigin, kLinkId, kCell, kSerial, kStateId, kPutWord };

uint64_t origin_of(const ClientState& state) noexcept { return kViewMagic ^ state.stamp; }

enum class Lookup {
  found,
  absent,
  next,       // not this cell
  reattach,   // the generation changed
  pause,      // it moves too much, or a daemon was killed half-way and will be back
  segment,    // the record lies in a segment that is not in the table
  corrupt,
  full,       // no pin cell is left
  no_memory,
};

struct FreeBytes {
  void operator()(std::byte* bytes) const noexcept { std::free(bytes); }
};
using OwnedBytes = std::unique_ptr<std::byte, FreeBytes>;

// A record as it was read from a line and its segment.
struct Found {
  uint32_t slot = 0;
  uint64_t put = 0;
  uint64_t locator = 0;
  uint64_t segment_number = 0;
  const SegmentMap* segment = nullptr;
  const std::byte* id = nullptr;
  layout::RecordHeader header{};
  OwnedBytes owned;  // where the segment is not mapped
  uint32_t cell = 0;
  layout::Quad quad{};
  uint64_t created_ns = 0;
  uint64_t last_access_ns = 0;
};

struct Wanted {
  const void* id;
  uint32_t id_bytes;
  uint64_t hash;
};

enum class Place { good, bad, no_memory };

// The header is a private copy; everything that it says is held against the segment and the line before it is used.
bool header_fits(const layout::RecordHeader& header, uint64_t put, uint64_t offset, uint64_t segment_bytes,
                 uint32_t content_bytes) {
  const bool absent = (header.flags & layout::kRecordContentAbsent) != 0;
  return header.put == put && header.codec == layout::kCodecRaw && (header.flags & ~layout::kRecordFlagsKnown) == 0 &&
         header.id_bytes >= 1 && header.id_bytes <= layout::kIdBytesMax && header.stored_bytes == content_bytes &&
         (!absent || header.stored_bytes == 0) &&
         layout::record_bytes(header.id_bytes, header.stored_bytes) <= segment_bytes - offset;
}

// A segment for which there was no address space: the record is copied into memory that the view will own.
[[gnu::noinline]] Place read_unmapped(const SegmentTable::Entry& segment, uint64_t offset, uint64_t put, uint32_t content_bytes,
                                      Found& found) noexcept {
  if (!segment.map->read(&found.header, offset, sizeof found.header)) return Place::bad;
  if (!header_fits(found.header, put, offset, segment.bytes, content_bytes)) return Place::bad;
  const uint64_t bytes = uint64_t{found.header.id_bytes} + found.header.stored_bytes;
  found.owned.reset(static_cast<std::byte*>(std::malloc(bytes)));
  if (found.owned == nullptr) return Place::no_memory;
  if (!segment.map->read(found.owned.get(), offset + sizeof found.header, bytes)) return Place::bad;
  found.id = found.owned.get();
  return Place::good;
}

inline Place read_record(const SegmentTable::Entry& segment, uint64_t offset, uint64_t put, uint32_t content_bytes,
                         Found& found) noexcept {
  if (offset < sizeof(layout::SegmentHeader) || offset > segment.bytes || segment.bytes - offset < sizeof found.header) {
    return Place::bad;
  }
  if (__builtin_expect(segment.base == nullptr, 0)) return read_unmapped(segment, offset, put, content_bytes, found);
  __builtin_prefetch(segment.base + offset + layout::kCacheLineBytes);
  std::memcpy(&found.header, segment.base + offset, sizeof found.header);
  found.id = segment.base + offset + sizeof found.header;
  return header_fits(found.header, put, offset, segment.bytes, content_bytes) ? Place::good : Place::bad;
}

// One cell of the index, until it says found, another id, or something that cannot be decided here.
template <bool kPinned>
inline Lookup examine(ClientState& state, ThreadRecord& me, const Attachment& a, const uint64_t& cell, uint64_t key,
                      const Wanted& wanted, Found& found, uint32_t& rounds) noexcept {
  using layout::load_acquire;
  for (;;) {
    const uint64_t c = load_acquire(cell);
    if (!layout::cell_matches(c, key)) return Lookup::next;
    if (rounds++ == layout::kReadRoundsBeforePause) return a.current() ? Lookup::pause : Lookup::reattach;
    WARM_STEP("client.get_cell_loaded");
    const uint32_t slot = layout::cell_slot(c);
    if (slot >= load_acquire(a.status->slots_allocated) || slot >= a.geometry.capacity) {
      if (load_acquire(cell) != c) continue;
      return a.current() ? Lookup::corrupt : Lookup::reattach;
    }
    const auto& line = *reinterpret_cast<const layout::SlotLine*>(a.tier + a.geometry.line_offset(slot));
    const std::byte* row = a.tier + a.geometry.row_offset(slot);
    __builtin_prefetch(row);
    __builtin_prefetch(row + layout::kCacheLineBytes);
    __builtin_prefetch(row + a.geometry.row_bytes - layout::kCacheLineBytes);  // mostly on another page: its translation too
    const uint64_t p = load_acquire(line.put);
    WARM_STEP("client.get_put_loaded");
    const uint64_t d = load_acquire(line.dead);
    WARM_STEP("client.get_line_loaded");
    if (!layout::live(p, d)) {
      if (!WARM_RULE("client.dead_is_not_absent")) return Lookup::next;
      // All three: the slot may have gone away and come back.
      if (load_acquire(cell) != c) continue;
      if (WARM_RULE("client.put_and_dead_again") && (load_acquire(line.put) != p || load_acquire(line.dead) != d)) continue;
      if (!a.current()) return Lookup::reattach;
      const uint64_t sequence = layout::sequence_of(p);
      if (!layout::put_word_valid(p, slot) || (sequence != 0 && !layout::dead_word_names(d, sequence))) return Lookup::corrupt;
      layout::cpu_relax();
      continue;
    }
    const uint64_t locator = load_acquire(line.locator);
    const uint32_t content_bytes = layout::load_relaxed(line.content_bytes);
    Place place = Place::bad;
    if (layout::put_word_valid(p, slot) && layout::locator_valid(locator, slot, layout::sequence_of(p))) {
      const layout::Locator at = layout::locator_of(locator);
      const SegmentTable& table = *state.segments.load(std::memory_order_acquire);
      if (__builtin_expect(table.tier() != a.tier, 0)) return Lookup::reattach;
      const SegmentTable::Entry* segment = table.find(at.segment);
      if (__builtin_expect(segment == nullptr, 0)) {
        if (load_acquire(cell) != c || load_acquire(line.put) != p || load_acquire(line.dead) != d ||
            load_acquire(line.locator) != locator) {
          continue;
        }
        found.slot = slot;
        found.put = p;
        found.locator = locator;
        found.segment_number = at.segment;
        return a.current() ? Lookup::segment : Lookup::reattach;
      }
      place = read_record(*segment, at.offset_bytes, p, content_bytes, found);
      found.segment = segment->map;
    }
    WARM_STEP("client.get_record_read");
    const bool same_id = place == Place::good && found.header.id_bytes == wanted.id_bytes &&
                         std::memcmp(found.id, wanted.id, wanted.id_bytes) == 0;
    if (!same_id) {
      // A negative verdict counts only if nothing moved meanwhile.
      if (WARM_RULE("client.negative_only_if_unmoved") &&
          (load_acquire(cell) != c ||
           ((load_acquire(line.put) != p || load_acquire(line.locator) != locator) && WARM_RULE("client.negative_line_again")))) {
        continue;
      }
      if (place == Place::good) return Lookup::next;  // a true collision of tags
      if (place == Place::no_memory) return Lookup::no_memory;
      return a.current() ? Lookup::corrupt : Lookup::reattach;
    }
    uint32_t* pin = nullptr;
    if constexpr (kPinned) {
      if (__builtin_expect(me.cells == 0, 0) && !state.refill(me, *a.link)) return Lookup::full;
      found.cell = me.magazine[me.cells - 1];
      pin = &a.link->region().pins[found.cell];
      layout::exchange(*pin, slot + 1);
      WARM_FAILPOINT("client.pin_stored");
    } else {
      layout::fence_acquire();
    }
    const auto unpin = [&]() noexcept {
      if constexpr (kPinned) {
        layout::store_release(*pin, 0);
        WARM_STEP("client.pin_taken_back");
      }
    };
    // Both words: a slot may die and keep its put for a while.
    if ((load_acquire(line.put) != p && WARM_RULE("client.put_again")) ||
        (!layout::live(p, load_acquire(line.dead)) && WARM_RULE("client.dead_again")) || load_acquire(line.locator) != locator) {
      unpin();
      continue;
    }
    if constexpr (kPinned) {
      found.quad = layout::load_quad(line.quad);
      found.created_ns = layout::load_relaxed(line.created_ns);
      found.last_access_ns = layout::load_relaxed(line.last_access_ns);
    }
    WARM_STEP("client.get_before_cell_again");
    if (load_acquire(cell) != c && WARM_RULE("client.cell_again")) {  // else one thread could see a new record, then the old one
      unpin();
      continue;
    }
    WARM_STEP("client.get_before_generation");
    if (!a.current() && WARM_RULE("client.generation_after_hit")) {
      unpin();
      return Lookup::reattach;
    }
    found.slot = slot;
    found.put = p;
    return Lookup::found;
  }
}

template <bool kPinned>
inline Lookup look_up(ClientState& state, ThreadRecord& me, const Attachment& a, const Wanted& wanted, Found& found) noexcept {
  WARM_STEP("client.get_begun");
  const uint32_t tag = layout::tag_of_hash(wanted.hash);
  const layout::Bucket* const home = a.buckets + layout::home_of_hash(wanted.hash, a.homes_log2);
  // Loaded first: the bit of an entry that is present throughout was set before it.
  uint64_t distances = layout::load_acquire(home->distances) & ((uint64_t{1} << layout::kIndexDistanceMax) - 1);
  uint32_t rounds = 0;
  for (uint32_t distance = 0;;) {
    const uint64_t key = layout::cell_key(distance, tag);
    for (const uint64_t& cell : home[distance].cells) {
      WARM_STEP("client.get_next_cell");
      if (__builtin_expect(!layout::cell_matches(layout::load_acquire(cell), key), 1)) continue;
      const Lookup verdict = examine<kPinned>(state, me, a, cell, key, wanted, found, rounds);
      if (verdict != Lookup::next) return verdict;
    }
    if (distances == 0) break;
    distance = static_cast<uint32_t>(std::countr_zero(distances)) + 1;
    distances &= distances - 1;
  }
  WARM_STEP("client.get_before_absent");
  // At the end: at the start only, a miss can be false.
  return a.current() || !WARM_RULE("client.generation_after_miss") ? Lookup::absent : Lookup::reattach;
}

// Printable, and not too long for a sentence.
std::string shown(const void* id, size_t id_bytes) {
  constexpr size_t kShownMax = 64;
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string text;
  const auto* bytes = static_cast<const unsigned char*>(id);
  for (size_t i = 0; i < std::min(id_bytes, kShownMax); ++i) {
    if (bytes[i] >= 0x20 && bytes[i] < 0x7F) {
      text += static_cast<char>(bytes[i]);
    } else {
      text += "\\x";
      text += kDigits[bytes[i] >> 4];
      text += kDigits[bytes[i] & 15];
    }
  }
  return id_bytes > kShownMax ? text + "..." : text;
}

// What a read does when it cannot go on by itself. Outside.
struct Trouble {
  uint64_t segment_rounds = 0;
  uint64_t missing_put = 0;  // the record whose segment the last list did not name
  uint64_t missing_locator = 0;
};

[[gnu::noinline]] base::Status overcome(ClientState& state, Lookup verdict, const Wanted& wanted, const Found& found,
                                        Patience& patience, Trouble& trouble) {
  switch (verdict) {
    case Lookup::reattach: return state.refresh(ClientState::Need::reads, patience.deadline());
    case Lookup::pause:
      if (patience.deadline().passed()) {
        return base::fail(WARM_E_BUSY, "the record did not hold still, or its change was not finished, until the deadline; id %s",
                          shown(wanted.id, wanted.id_bytes).c_str());
      }
      ::sched_yield();
      return {};
    case Lookup::segment:
      // Announced before a locator names it: what a list made after the locator was read does not name is gone.
      if (trouble.missing_put == found.put && trouble.missing_locator == found.locator) {
        return base::fail(WARM_E_CORRUPT, "segment %lu is named by a record and is not in the store; id %s", found.segment_number,
                          shown(wanted.id, wanted.id_bytes).c_str());
      }
      if (trouble.segment_rounds++ == layout::kSegmentRounds) {
        return base::fail(WARM_E_BUSY, "the record moved from segment to segment %u times; id %s", layout::kSegmentRounds,
                          shown(wanted.id, wanted.id_bytes).c_str());
      }
      trouble.missing_put = found.put;
      trouble.missing_locator = found.locator;
      return state.fetch_segments(patience.deadline());
    case Lookup::full: return base::fail(WARM_E_LIMIT, "%u views are held, more are not possible", layout::kViewsMax);
    case Lookup::no_memory: return base::fail(WARM_E_NOMEM, "no memory for content that could not be mapped");
    default: return base::fail(WARM_E_CORRUPT, "stored bytes failed a check; id %s", shown(wanted.id, wanted.id_bytes).c_str());
  }
}

void fill(const ClientState& state, const Attachment& a, const Found& found, uint64_t serial, warm_view& ret_view) noexcept {
  const bool absent = (found.header.flags & layout::kRecordContentAbsent) != 0;
  ret_view.content_state = absent ? WARM_CONTENT_ABSENT : WARM_CONTENT_PRESENT;
  ret_view.id = found.id;
  ret_view.embedding = reinterpret_cast<const float*>(a.tier + a.geometry.row_offset(found.slot));
  ret_view.content = absent ? nullptr : found.id + found.header.id_bytes;
  ret_view.content_bytes = found.header.stored_bytes;
  ret_view.id_bytes = found.header.id_bytes;
  ret_view.dimensions = a.geometry.dimensions;
  ret_view.sequence = layout::sequence_of(found.put);
  ret_view.created_ns = found.created_ns;
  ret_view.last_access_ns = found.last_access_ns;
  ret_view.confidence = found.quad.confidence;
  ret_view.activation = found.quad.activation;
  ret_view.decay_rate = found.quad.decay_rate;
  ret_view.recall_count = found.quad.recall_count;
  ret_view.internal[kOrigin] = origin_of(state);
  ret_view.internal[kLinkId] = a.link->id;
  ret_view.internal[kCell] = found.cell;
  ret_view.internal[kSerial] = serial;
  ret_view.internal[kStateId] = state.id;
  ret_view.internal[kPutWord] = found.put;
}

}  // namespace

base::Result<Presence> get(ClientState& state, const void* id, size_t id_bytes, warm_view& ret_view) {
  ThreadRecord& me = state.thread();
  Patience patience(state.timeout_ns);
  Trouble trouble;
  for (;;) {
    Lookup verdict = Lookup::reattach;
    Found found;
    Wanted wanted{.id = id, .id_bytes = static_cast<uint32_t>(id_bytes), .hash = 0};
    state.enter(me);
    if (const Attachment* a = state.attachment.load(std::memory_order_acquire); __builtin_expect(a != nullptr, 1)) {
      if (__builtin_expect(me.link != a->link, 0)) state.switch_link(me, *a->link);
      wanted.hash = base::hash64(id, id_bytes, a->hash_seed);
      verdict = look_up<true>(state, me, *a, wanted, found);
      if (__builtin_expect(verdict == Lookup::found, 1)) {
        --me.cells;
        ViewTwin& twin = a->link->pins.twin(found.cell);
        // Before this thread is outside: who wants to unmap the segment looks at the twins then.
        twin.segment.store(found.owned == nullptr ? reinterpret_cast<uintptr_t>(found.segment) : 0, std::memory_order_relaxed);
        twin.owned = found.owned.release();
        fill(state, *a, found, ++twin.serial, ret_view);
        ++me.gets;
        const bool tick = --me.gets_until_tick == 0;
        const bool changed =
            tick && layout::load_acquire(a->status->segment_epoch) != state.segments.load(std::memory_order_acquire)->epoch();
        ClientState::leave(me);
        if (__builtin_expect(tick, 0)) state.tick(me, layout::sequence_of(found.put), found.slot, changed);
        return Presence::found;
      }
    }
    ClientState::leave(me);
    if (verdict == Lookup::absent) {
      ++me.gets;
      ++me.misses;
      ClientState::flush_counters(me);
      return Presence::absent;
    }
    if (auto ready = overcome(state, verdict, wanted, found, patience, trouble); !ready) return base::pass(std::move(ready));
  }
}

namespace {

// Without a pin. `ret_put`: the word of what the id names.
base::Result<Presence> find(ClientState& state, const void* id, size_t id_bytes, uint64_t* ret_put) {
  ThreadRecord& me = state.thread();
  Patience patience(state.timeout_ns);
  Trouble trouble;
  for (;;) {
    Lookup verdict = Lookup::reattach;
    Found found;
    Wanted wanted{.id = id, .id_bytes = static_cast<uint32_t>(id_bytes), .hash = 0};
    state.enter(me);
    if (const Attachment* a = state.attachment.load(std::memory_order_acquire); a != nullptr) {
      wanted.hash = base::hash64(id, id_bytes, a->hash_seed);
      verdict = look_up<false>(state, me, *a, wanted, found);
    }
    ClientState::leave(me);
    if (verdict == Lookup::found) {
      *ret_put = found.put;
      return Presence::found;
    }
    if (verdict == Lookup::absent) return Presence::absent;
    if (auto ready = overcome(state, verdict, wanted, found, patience, trouble); !ready) return base::pass(std::move(ready));
  }
}

// The link and twin of a view that is held; null when it is not one, or not any more.
struct Held {
  Link* link = nullptr;
  ViewTwin* twin = nullptr;
  uint32_t cell = 0;
};
Held held(ClientState& state, const ThreadRecord& me, const warm_view& view) noexcept {
  const uint64_t link_id = view.internal[kLinkId];
  Link* link = me.link != nullptr && me.link->id == link_id ? me.link : state.find_link(link_id);
  const uint64_t cell = view.internal[kCell];
  if (link == nullptr || cell >= layout::kViewsMax) return {};
  ViewTwin& twin = link->pins.twin(static_cast<uint32_t>(cell));
  // Odd while a view has the cell; another view's serial, or an even one: this view was released before.
  if (twin.serial != view.internal[kSerial] || twin.serial % 2 == 0) return {};
  return {.link = link, .twin = &twin, .cell = static_cast<uint32_t>(cell)};
}

}  // namespace

base::Result<Presence> exists(ClientState& state, const void* id, size_t id_bytes) {
  uint64_t put = 0;
  return find(state, id, id_bytes, &put);
}

base::Status release(ClientState& state, warm_view& view) noexcept {
  if (view.internal[kOrigin] != origin_of(state)) return {};  // never filled, released, or of before a fork
  if (view.internal[kStateId] != state.id) return base::fail(WARM_E_INVALID, "the view was made by another client");
  ThreadRecord& me = state.thread();
  const Held it = held(state, me, view);
  std::memset(view.internal, 0, sizeof view.internal);
  if (it.link == nullptr) return {};
  // The cell goes back only after the pin is gone: its next user must not find his own pin cleared.
  const bool clear_first = WARM_RULE("client.pin_cleared_first");
  if (!clear_first) state.give_back_cell(me, *it.link, it.cell);
  WARM_STEP("client.release_begun");
  layout::store_release(it.link->region().pins[it.cell], 0);
  WARM_FAILPOINT("client.pin_cleared");
  std::free(std::exchange(it.twin->owned, nullptr));
  ++it.twin->serial;
  state.enter(me);
  const uintptr_t named = it.twin->segment.load(std::memory_order_relaxed) & ~kViewCounted;
  bool last = false;
  if (named != 0) {
    auto& segment = *reinterpret_cast<SegmentMap*>(named);
    if (!segment.retired.load(std::memory_order_acquire)) {
      // Who retires it waits until this thread is outside before it counts views.
      it.twin->segment.store(0, std::memory_order_relaxed);
    } else if ((it.twin->segment.exchange(0, std::memory_order_acq_rel) & kViewCounted) != 0) {
      last = segment.views_left.fetch_sub(1, std::memory_order_acq_rel) == 1;
    }
  }
  ClientState::leave(me);
  if (last) state.drop_segment();
  if (clear_first) state.give_back_cell(me, *it.link, it.cell);
  return {};
}

base::Result<uint32_t> check_view(ClientState& state, const warm_view& view) {
  if (view.internal[kOrigin] == 0) return base::fail(WARM_E_INVALID, "the view was released or never filled");
  if (view.internal[kOrigin] != origin_of(state))
    return base::fail(WARM_E_STALE, "the view is from before a fork, or was never filled");
  if (view.internal[kStateId] != state.id) return base::fail(WARM_E_INVALID, "the view was made by another client");
  ThreadRecord& me = state.thread();
  if (held(state, me, view).link == nullptr) return base::fail(WARM_E_INVALID, "the view was released");
  uint64_t put = 0;
  auto presence = find(state, view.id, view.id_bytes, &put);
  if (!presence) return base::pass(std::move(presence));
  state.enter(me);
  const Attachment* a = state.attachment.load(std::memory_order_acquire);
  const bool same_link = a != nullptr && a->link->id == view.internal[kLinkId];
  ClientState::leave(me);
  if (!same_link)
    return base::fail(WARM_E_STALE, "the daemon did not take this client's pins back; the view's bytes may be another's");
  if (*presence == Presence::absent) return WARM_VIEW_REMOVED;
  return put == view.internal[kPutWord] ? WARM_VIEW_CURRENT : WARM_VIEW_REPLACED;
}

base::Status read_stats(ClientState& state, warm_stats& ret_stats) {
  ThreadRecord& me = state.thread();
  ClientState::flush_counters(me);
  Patience patience(state.timeout_ns);
  for (;;) {
    state.enter(me);
    const Attachment* a = state.attachment.load(std::memory_order_acquire);
    if (a != nullptr && a->current() && !a->connection->gone.load(std::memory_order_acquire) &&
        layout::load_acquire(a->status->stopping) == 0) {
      const layout::StatusPage& page = *a->status;
      using layout::load_relaxed;
      ret_stats.io_backend = load_relaxed(page.io_backend);
      ret_stats.records = load_relaxed(page.records);
      ret_stats.capacity = a->geometry.capacity;
      ret_stats.slots_allocated = load_relaxed(page.slots_allocated);
      ret_stats.slots_free = load_relaxed(page.slots_free);
      ret_stats.slots_waiting = load_relaxed(page.slots_waiting);
      ret_stats.slots_held = load_relaxed(page.slots_held);
      ret_stats.segments = load_relaxed(page.segments);
      ret_stats.content_bytes_live = load_relaxed(page.content_bytes_live);
      ret_stats.content_bytes_total = load_relaxed(page.content_bytes_total);
      ret_stats.sequence = layout::load_acquire(page.sequence);
      ret_stats.sequence_durable = layout::load_acquire(page.sequence_durable);
      ret_stats.sessions = load_relaxed(page.sessions);
      ret_stats.channels = load_relaxed(page.channels);
      ret_stats.puts = load_relaxed(page.puts);
      ret_stats.removes = load_relaxed(page.removes);
      ret_stats.refused = load_relaxed(page.refused);
      ret_stats.gets = load_relaxed(page.gets);
      ret_stats.misses = load_relaxed(page.misses);
      ret_stats.lane_repairs = load_relaxed(page.lane_repairs);
      ret_stats.lanes_fenced = load_relaxed(page.lanes_fenced);
      ret_stats.pins_voided = load_relaxed(page.pins_voided);
      ret_stats.sessions_ended = load_relaxed(page.sessions_ended);
      ret_stats.checkpoints = load_relaxed(page.checkpoints);
      ret_stats.index_doublings = load_relaxed(page.index_doublings);
      ret_stats.requests_recovered = load_relaxed(page.requests_recovered);
      ret_stats.bad_requests = load_relaxed(page.bad_requests);
      ret_stats.damaged_records = load_relaxed(page.damaged_records);
      ret_stats.spin_ns = load_relaxed(page.spin_ns);
      ret_stats.orphans = load_relaxed(page.orphans);
      const uint64_t started = load_relaxed(page.started_ns);
      const uint64_t now = base::wall_ns();
      ret_stats.uptime_ns = now > started ? now - started : 0;
      ClientState::leave(me);
      return {};
    }
    ClientState::leave(me);
    if (auto ready = state.refresh(ClientState::Need::daemon, patience.deadline()); !ready) return ready;
  }
}

base::Status read_info(ClientState& state, warm_info& ret_info) {
  ThreadRecord& me = state.thread();
  Patience patience(state.timeout_ns);
  for (;;) {
    state.enter(me);
    if (const Attachment* a = state.attachment.load(std::memory_order_acquire); a != nullptr) {
      const layout::Welcome& welcome = a->connection->welcome;
      ret_info.dimensions = a->geometry.dimensions;
      ret_info.row_bytes = a->geometry.row_bytes;
      ret_info.views_max = layout::kViewsMax;
      ret_info.capacity = a->geometry.capacity;
      ret_info.content_bytes_max = welcome.content_bytes_max;
      std::memcpy(ret_info.store_id, welcome.store_id, sizeof ret_info.store_id);
      ret_info.session = a->link->session;
      ret_info.daemon_pid = welcome.daemon_pid;
      ret_info.reserved = 0;
      ClientState::leave(me);
      return {};
    }
    ClientState::leave(me);
    if (auto ready = state.refresh(ClientState::Need::reads, patience.deadline()); !ready) return ready;
  }
}

}  // namespace warmtier::libclient
