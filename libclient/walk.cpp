#include "libclient/walk.hpp"

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>
#include <span>
#include <string_view>
#include <utility>

#include "libclient/order.hpp"
#include "libclient/reader.hpp"
#include "libclient/view.hpp"

namespace warmtier::libclient {
namespace {

constexpr size_t kEntries = 256;  // that are gathered at once
constexpr size_t kAhead = 12;  // so many entries before its use an entry's record is asked for, and its line as many before that

std::string_view id_of(const Record& record) noexcept {
  return {reinterpret_cast<const char*>(record.id), record.header.id_bytes};
}

// The first hash of those that a cell's entry may have: the cell knows 38 bits of it.
uint64_t first_hash(const Cursor::Entry& entry, uint32_t homes_log2) noexcept {
  const uint64_t first12 = entry.home >> (homes_log2 - layout::kIndexHomesLog2Min);
  return (first12 << 26 | entry.key >> 6) << 26;
}

}  // namespace

// ---- What becomes of the records: a sink takes them one by one and can give back the last ones. All inside. -------------------

namespace {

struct Call {
  ClientState& state;
  ThreadRecord& me;
  const Attachment& a;
};

template <Want kWant, typename Source>
Lookup examine_entry(Source& source, const Call& call, const Cursor::Entry& entry, Record& record) noexcept {
  const ByCell wanted{.home = entry.home, .homes_log2 = call.a.homes_log2, .tag = static_cast<uint32_t>(entry.key >> 6)};
  uint32_t rounds = 0;
  return examine<kWant>(source, call.state, call.me, call.a, *entry.cell, entry.key, wanted, record, rounds);
}

class ItemSink {
 public:
  using Source = InPlace;
  static constexpr bool kRows = false;

  ItemSink(const Filter& filter, std::vector<char>& ids, warm_item* items, size_t room)
      : filter_(filter), ids_(ids), items_(items), room_(room) {
    ids_.clear();
  }
  [[nodiscard]] size_t room() const noexcept { return room_ - taken_; }
  [[nodiscard]] size_t taken() const noexcept { return taken_; }
  void give_back_to(size_t taken) noexcept {
    if (taken == taken_) return;
    ids_.resize(reinterpret_cast<uintptr_t>(items_[taken].id));
    taken_ = taken;
  }
  // `found`: taken; `next`: not wanted, or not there any more.
  Lookup take(Source& source, const Call& call, const Cursor::Entry& entry, Record& record) {
    const Lookup verdict = examine_entry<Want::facts>(source, call, entry, record);
    return verdict == Lookup::found ? take_known(source, call, entry, record, record) : verdict;
  }
  Lookup take_known(Source&, const Call&, const Cursor::Entry&, const Record& facts, Record&) {
    if (!filter_.passes(facts)) return Lookup::next;
    warm_item& item = items_[taken_++];
    const std::string_view id = id_of(facts);
    item.id = reinterpret_cast<const void*>(ids_.size());  // until the call's end: the ids may move
    item.id_bytes = static_cast<uint32_t>(id.size());
    ids_.insert(ids_.end(), id.begin(), id.end());
    show(facts, item);
    return Lookup::found;
  }
  void end() noexcept {
    for (size_t i = 0; i < taken_; ++i) items_[i].id = ids_.data() + reinterpret_cast<uintptr_t>(items_[i].id);
  }

 private:
  const Filter& filter_;
  std::vector<char>& ids_;
  warm_item* const items_;
  const size_t room_;
  size_t taken_ = 0;
};

class CountSink {
 public:
  using Source = InPlace;
  static constexpr bool kRows = false;

  explicit CountSink(const Filter& filter) : filter_(filter) {}
  [[nodiscard]] size_t room() const noexcept { return std::numeric_limits<size_t>::max() - taken_; }
  [[nodiscard]] size_t taken() const noexcept { return taken_; }
  void give_back_to(size_t taken) noexcept { taken_ = taken; }
  Lookup take(Source& source, const Call& call, const Cursor::Entry& entry, Record& record) noexcept {
    const Lookup verdict = examine_entry<Want::facts>(source, call, entry, record);
    return verdict == Lookup::found ? take_known(source, call, entry, record, record) : verdict;
  }
  Lookup take_known(Source&, const Call&, const Cursor::Entry&, const Record& facts, Record&) noexcept {
    if (!filter_.passes(facts)) return Lookup::next;
    ++taken_;
    return Lookup::found;
  }
  void end() noexcept {}

 private:
  const Filter& filter_;
  size_t taken_ = 0;
};

template <typename ViewSource>
class ViewSink {
 public:
  using Source = ViewSource;
  static constexpr bool kRows = Source::kInPlace;
  static constexpr Want kWant = Source::kInPlace ? Want::view : Want::bytes;

  ViewSink(const Filter& filter, ClientState& state, uint32_t flags, warm_view* views, size_t room)
      : filter_(filter), state_(state), flags_(flags), views_(views), room_(room) {}
  [[nodiscard]] size_t room() const noexcept { return room_ - taken_; }
  [[nodiscard]] size_t taken() const noexcept { return taken_; }
  // Outside, unlike the others: a release goes inside by itself.
  void give_back_to(size_t taken) noexcept {
    while (taken_ > taken) release(state_, views_[--taken_]);
  }
  Lookup take(Source& source, const Call& call, const Cursor::Entry& entry, Record& record) noexcept {
    if (!filter_.everything()) {
      // A pin only for what is wanted.
      const Lookup verdict = examine_entry<Want::facts>(source, call, entry, record);
      if (verdict != Lookup::found) return verdict;
      if (!filter_.passes(record)) return Lookup::next;
    }
    return take_if(source, call, entry, record, [](const Record&) { return true; });
  }
  Lookup take_known(Source& source, const Call& call, const Cursor::Entry& entry, const Record& facts, Record& record) noexcept {
    if (!filter_.passes(facts)) return Lookup::next;
    // Another id in this cell meanwhile is not the one whose turn it is.
    return take_if(source, call, entry, record, [&](const Record& now) { return id_of(now) == id_of(facts); });
  }
  void end() noexcept {}

 private:
  template <typename If>
  Lookup take_if(Source& source, const Call& call, const Cursor::Entry& entry, Record& record, If&& same) noexcept {
    Lookup verdict = examine_entry<kWant>(source, call, entry, record);
    if (verdict != Lookup::found) return verdict;
    if (!same(record) || !filter_.passes(record)) {
      unpin<kWant>(call.a, record);
      return Lookup::next;
    }
    verdict = view_of(call.state, call.me, call.a, source, flags_, record, views_[taken_]);
    if (verdict == Lookup::found) ++taken_;
    return verdict;
  }

  const Filter& filter_;
  ClientState& state_;
  const uint32_t flags_;
  warm_view* const views_;
  const size_t room_;
  size_t taken_ = 0;
};

}  // namespace

// ---- One call -----------------------------------------------------------------------------------------------------------------

template <typename Sink>
class Walk {
 public:
  Walk(Cursor& cursor, ClientState& state, Sink& sink) : cursor_(cursor), state_(state), sink_(sink) {}

  base::Status run() {
    try {
      return take_all();
    } catch (...) {
      sink_.give_back_to(0);
      throw;
    }
  }

 private:
  using Source = typename Sink::Source;
  using Entry = Cursor::Entry;
  using Position = Cursor::Position;

  base::Status take_all() {
    Patience patience(state_.timeout_ns);
    Trouble troubles;
    while (sink_.room() > 0 && !cursor_.position_.ended) {
      const Lookup verdict = step();
      // What was taken and does not count is given back outside: a view is released by what releases views.
      sink_.give_back_to(good_);
      if (verdict == Lookup::found || verdict == Lookup::next) continue;
      if (good_ > 0) break;  // what came before the trouble first
      const std::string& id = behind_trouble_.id;
      auto overcame = overcome(state_, verdict, id.empty() ? nullptr : id.data(), id.size(), trouble_, patience, troubles);
      if (overcame) continue;
      if (overcame.error().code == WARM_E_CORRUPT) cursor_.position_ = std::move(behind_trouble_);
      return overcame;
    }
    sink_.end();
    return {};
  }

  // Some homes. `found`: went on; `next`: once more, in order; anything else stands in the way of what the position names.
  Lookup step() {
    ThreadRecord& me = state_.thread();
    const Inside inside(state_, me);
    const Attachment* a = state_.attachment.load(std::memory_order_acquire);
    if (a == nullptr) return Lookup::reattach;
    if (me.link != a->link) state_.switch_link(me, *a->link);
    const Call call{.state = state_, .me = me, .a = *a};
    Source source;
    WARM_STEP("client.walk_begun");
    const Position before = cursor_.position_;
    const size_t good_before = good_;
    const Lookup verdict = some_homes(source, call);
    // At the end: an index that nobody maintains any more says nothing of what is new.
    if (!source.current(*a) && WARM_RULE("client.generation_after_walk")) {
      cursor_.position_ = before;
      good_ = good_before;
      return Lookup::reattach;
    }
    return verdict;
  }

  Lookup some_homes(Source& source, const Call& call) {
    const Attachment& a = call.a;
    const uint64_t homes = uint64_t{1} << a.homes_log2;
    std::vector<Entry>& entries = cursor_.entries_;
    entries.clear();
    Position& position = cursor_.position_;
    const uint64_t first = layout::home_of_hash(position.hash, a.homes_log2);
    uint64_t home = first;
    const size_t enough = std::min(kEntries, sink_.room());
    for (; home < homes && entries.size() < enough; ++home) gather(a, home, entries);
    Ahead ahead(a, *state_.segments.load(std::memory_order_acquire), entries);
    auto at = entries.begin();
    for (uint64_t h = first; h < home; ++h) {
      const auto from = at;
      while (at != entries.end() && at->home == h) ++at;
      if constexpr (Source::kInPlace) ahead.until(static_cast<size_t>(at - entries.begin()));
      const std::span<const Entry> own(from, at);
      const bool from_its_start =
          h > first || (position.hash == h << (64 - a.homes_log2) && position.id.empty() && !position.damage_seen);
      if (from_its_start && own.size() <= sink_.room() && !(h == first && in_order_)) {
        if (const Lookup verdict = whole_home(source, call, own); verdict != Lookup::found) return verdict;
      } else {
        if (const Lookup verdict = home_in_order(source, call, own); verdict != Lookup::found) return verdict;
        if (sink_.room() == 0) return Lookup::found;
      }
      stand_at_home(h + 1, a.homes_log2);
    }
    return Lookup::found;
  }

  static void gather(const Attachment& a, uint64_t home, std::vector<Entry>& entries) {
    const layout::Bucket* const bucket = a.buckets + home;
    uint64_t distances = distances_of(*bucket);  // before the cells, as in a get
    for (uint64_t distance = 0;;) {
      for (const uint64_t& cell : bucket[distance].cells) {
        const uint64_t c = layout::load_acquire(cell);
        if (static_cast<uint32_t>(c) == 0 || layout::cell_distance(c) != distance) continue;
        entries.push_back({.cell = &cell, .home = home, .key = layout::cell_key_of(c), .slot = layout::cell_slot(c)});
      }
      if (distances == 0) break;
      distance = static_cast<uint64_t>(std::countr_zero(distances)) + 1;
      distances &= distances - 1;
    }
  }

  // Asks for what the entries need, right or wrong, ahead of their turn.
  class Ahead {
   public:
    Ahead(const Attachment& a, const SegmentTable& table, const std::vector<Entry>& entries) noexcept
        : a_(a), table_(table), entries_(entries), slots_(table.tier() == a.tier ? allocated_slots(a) : 0) {}
    void until(size_t at) noexcept {
      const size_t lines = std::min(at + 2 * kAhead, entries_.size());
      const size_t records = std::min(at + kAhead, entries_.size());
      for (; lines_ < lines; ++lines_) {
        const uint32_t slot = entries_[lines_].slot;
        if (slot >= slots_) continue;
        layout::prefetch(&line_at(a_, slot));
        if constexpr (Sink::kRows) prefetch_row(a_, slot);
      }
      for (; records_ < records; ++records_) {
        if (entries_[records_].slot < slots_) prefetch_record(a_, table_, entries_[records_].slot, 0);
      }
    }

   private:
    const Attachment& a_;
    const SegmentTable& table_;
    const std::vector<Entry>& entries_;
    const uint64_t slots_;
    size_t lines_ = 0;
    size_t records_ = 0;
  };

  void stand_at_home(uint64_t home, uint32_t homes_log2) {
    Position& position = cursor_.position_;
    position.ended = home == uint64_t{1} << homes_log2;
    position.hash = position.ended ? 0 : home << (64 - homes_log2);
    position.id.clear();
    position.damage_seen = false;
    in_order_ = false;
    good_ = sink_.taken();
  }

  // What must be passed over at last if it stays.
  static bool is_damage(Lookup verdict) noexcept {
    return verdict == Lookup::corrupt || verdict == Lookup::fault || verdict == Lookup::segment;
  }

  // There is room for all of them, so their order does not matter.
  Lookup whole_home(Source& source, const Call& call, std::span<const Entry> entries) {
    for (const Entry& entry : entries) {
      const Lookup verdict = sink_.take(source, call, entry, scratch_);
      if (verdict == Lookup::found || verdict == Lookup::next) continue;
      if (!is_damage(verdict)) return stand_before(verdict, scratch_, {});
      in_order_ = true;
      return Lookup::next;
    }
    return Lookup::found;
  }

  struct Ordered {
    uint64_t hash = 0;
    const Entry* entry = nullptr;
    bool damaged = false;
    Lookup verdict = Lookup::found;
    Record facts;
    bool operator<(const Ordered& other) const noexcept {
      if (hash != other.hash) return hash < other.hash;
      if (damaged != other.damaged) return damaged;
      return !damaged && id_of(facts) < id_of(other.facts);
    }
  };

  Lookup home_in_order(Source& source, const Call& call, std::span<const Entry> entries) {
    Position& position = cursor_.position_;
    std::vector<Ordered> ordered;
    for (const Entry& entry : entries) {
      Ordered one;
      one.entry = &entry;
      one.verdict = examine_entry<Want::facts>(source, call, entry, one.facts);
      if (one.verdict == Lookup::next) continue;
      one.damaged = is_damage(one.verdict);
      if (one.verdict != Lookup::found && !one.damaged) return stand_before(one.verdict, one.facts, {});
      one.hash = one.damaged ? first_hash(entry, call.a.homes_log2) : one.facts.header.hash;
      ordered.push_back(std::move(one));
    }
    std::sort(ordered.begin(), ordered.end());
    for (Ordered& one : ordered) {
      if (one.hash < position.hash) continue;
      if (one.hash == position.hash) {
        if (one.damaged ? position.damage_seen || !position.id.empty() : id_of(one.facts) <= position.id) continue;
      }
      if (sink_.room() == 0) return Lookup::found;
      if (one.damaged) return stand_before(one.verdict, one.facts, {.hash = one.hash, .damage_seen = true});
      Position behind{.hash = one.hash, .id = std::string(id_of(one.facts))};
      const Lookup verdict = sink_.take_known(source, call, *one.entry, one.facts, scratch_);
      if (verdict != Lookup::found && verdict != Lookup::next) return stand_before(verdict, one.facts, std::move(behind));
      position = std::move(behind);
      good_ = sink_.taken();
    }
    return Lookup::found;
  }

  // For whoever has to overcome it, and for the cursor should it be damage.
  Lookup stand_before(Lookup verdict, const Record& record, Position behind) {
    trouble_.slot = record.slot;
    trouble_.line = record.line;
    trouble_.segment_number = record.segment_number;
    behind_trouble_ = std::move(behind);
    return verdict;
  }

  Cursor& cursor_;
  ClientState& state_;
  Sink& sink_;
  size_t good_ = 0;  // taken, and not to be given back
  bool in_order_ = false;  // the next home, because something in it is damaged
  Record scratch_;
  Record trouble_;
  Position behind_trouble_;
};

// ---- Cursor -------------------------------------------------------------------------------------------------------------------

Cursor::Cursor(Client& client, ClientState& state, Filter filter)
    : client_(client), state_id_(state.id), filter_(std::move(filter)) {
  entries_.reserve(kEntries + size_t{layout::kIndexCells} * (layout::kIndexDistanceMax + 1));
  state.lent.fetch_add(1, std::memory_order_relaxed);
}

Cursor::~Cursor() {
  // A child's copy of its parent's cursor is nothing that the child's client has lent.
  if (ClientState& now = client_.state(); now.id == state_id_) now.lent.fetch_sub(1, std::memory_order_relaxed);
}

base::Result<ClientState*> Cursor::state() {
  ClientState& now = client_.state();
  if (now.id != state_id_) return base::fail(WARM_E_STALE, "the cursor is from before a fork");
  return &now;
}

base::Result<size_t> Cursor::next(uint32_t flags, warm_view* ret_views, size_t views) {
  auto now = state();
  if (!now) return base::pass(std::move(now));
  const auto through = [&]<typename Source>(Source) -> base::Result<size_t> {
    ViewSink<Source> sink(filter_, **now, flags, ret_views, views);
    if (auto walked = Walk(*this, **now, sink).run(); !walked) return base::pass(std::move(walked));
    return sink.taken();
  };
  return (flags & WARM_COPY) != 0 ? through(ThroughKernel{}) : through(InPlace{});
}

base::Result<size_t> Cursor::next_items(warm_item* ret_items, size_t items) {
  auto now = state();
  if (!now) return base::pass(std::move(now));
  ItemSink sink(filter_, ids_, ret_items, items);
  if (auto walked = Walk(*this, **now, sink).run(); !walked) return base::pass(std::move(walked));
  return sink.taken();
}

base::Result<uint64_t> Cursor::count() {
  auto now = state();
  if (!now) return base::pass(std::move(now));
  uint64_t all = 0;
  while (!position_.ended) {
    CountSink sink(filter_);
    if (auto walked = Walk(*this, **now, sink).run(); !walked) return base::pass(std::move(walked));
    all += sink.taken();
  }
  return all;
}

base::Result<uint64_t> count_records(Client& client, Filter filter) {
  ClientState& state = client.state();
  if (!filter.everything()) return Cursor(client, state, std::move(filter)).count();
  return record_count(state);
}

}  // namespace warmtier::libclient
