// Gets of many ids. One get waits for memory three or four times in a row; here each of these waits is one for a whole group: all
// buckets are asked for, then all lines and rows, then all records, and only then is each id looked up, by what looks up one, in
// the cell that was seen on the way. What cannot be decided there is got by itself.
#include <algorithm>

#include "libclient/reader.hpp"
#include "libclient/view.hpp"

namespace warmtier::libclient {
namespace {

constexpr size_t kGroup = 64;
static_assert(kMagazineCells >= kGroup, "with the largest grant a group and its releases take no lock");

bool possible(const warm_id& id) noexcept { return id.data != nullptr && id.bytes - 1 < layout::kIdBytesMax; }

// A cell with an id's tag, and its word as it was seen: what it names is asked for, right or wrong, and looked at then.
struct Candidate {
  const uint64_t* cell = nullptr;  // null: none
  uint64_t word = 0;
};
Candidate candidate_in(const layout::Bucket& bucket, uint64_t key, uint64_t slots) noexcept {
  for (const uint64_t& cell : bucket.cells) {
    const uint64_t c = layout::load_relaxed(cell);
    if (layout::cell_matches(c, key)) return layout::cell_slot(c) < slots ? Candidate{.cell = &cell, .word = c} : Candidate{};
  }
  return {};
}

struct ByIdAhead : ById {
  static constexpr bool kRowAhead = true;
};

class Group {
 public:
  Group(const ClientState& state, const Attachment& a, const warm_id* ids, size_t count) noexcept
      : state_(state), a_(a), count_(count), slots_allocated_(allocated_slots(a)) {
    for (size_t i = 0; i < count; ++i) {
      hashes_[i] = possible(ids[i]) ? base::hash64(ids[i].data, ids[i].bytes, a.hash_seed) : 0;
      layout::prefetch(&home(i));
    }
    ask_for_lines_and_rows();
    ask_for_records();
  }
  Lookup look_up(size_t i, const warm_id& id, InPlace& source, ClientState& state, ThreadRecord& me,
                 Record& ret_record) const noexcept {
    const ByIdAhead wanted{{.id = id.data, .id_bytes = static_cast<uint32_t>(id.bytes), .hash = hashes_[i]}};
    const Candidate& candidate = candidates_[i];
    if (candidate.cell == nullptr) return libclient::look_up<Want::view, InPlace>(source, state, me, a_, wanted, ret_record);
    // A record counts in whichever cell it is found. `next` is rare and says nothing about other cells: the id is got by itself
    // then.
    uint32_t rounds = 0;
    return examine<Want::view>(source, state, me, a_, *candidate.cell, layout::cell_key_of(candidate.word), wanted, ret_record,
                               rounds);
  }

 private:
  [[nodiscard]] const layout::Bucket& home(size_t i) const noexcept {
    return a_.buckets[layout::home_of_hash(hashes_[i], a_.homes_log2)];
  }
  // Whether there is one; then its line and row are asked for.
  bool keep(size_t i, const Candidate& candidate) noexcept {
    candidates_[i] = candidate;
    if (candidate.cell == nullptr) return false;
    const uint32_t slot = layout::cell_slot(candidate.word);
    layout::prefetch(&line_at(a_, slot));
    prefetch_row(a_, slot);
    return true;
  }
  void ask_for_lines_and_rows() noexcept {
    size_t elsewhere[kGroup];  // not at home; their further buckets are on the way when all homes have been looked at
    size_t n = 0;
    for (size_t i = 0; i < count_; ++i) {
      if (keep(i, candidate_in(home(i), layout::cell_key(0, layout::tag_of_hash(hashes_[i])), slots_allocated_))) continue;
      uint64_t distances = distances_of(home(i));
      if (distances != 0) elsewhere[n++] = i;
      for (; distances != 0; distances &= distances - 1) layout::prefetch(&home(i) + std::countr_zero(distances) + 1);
    }
    for (size_t k = 0; k < n; ++k) {
      const size_t i = elsewhere[k];
      for (uint64_t distances = distances_of(home(i)); distances != 0; distances &= distances - 1) {
        const auto distance = static_cast<uint32_t>(std::countr_zero(distances)) + 1;
        const uint64_t key = layout::cell_key(distance, layout::tag_of_hash(hashes_[i]));
        if (keep(i, candidate_in((&home(i))[distance], key, slots_allocated_))) break;
      }
    }
  }
  void ask_for_records() noexcept {
    const SegmentTable& table = *state_.segments.load(std::memory_order_acquire);
    if (table.tier() != a_.tier) return;
    for (size_t i = 0; i < count_; ++i) {
      if (candidates_[i].cell == nullptr) continue;
      const uint32_t slot = layout::cell_slot(candidates_[i].word);
      prefetch_record(a_, table, slot, layout::load_relaxed(line_at(a_, slot).content_bytes));
    }
  }

  const ClientState& state_;
  const Attachment& a_;
  const size_t count_;
  const uint64_t slots_allocated_;
  uint64_t hashes_[kGroup];
  Candidate candidates_[kGroup];
};

}  // namespace

void get_many(ClientState& state, const warm_id* ids, size_t count, uint32_t flags, warm_view* ret_views, int32_t* ret_codes,
              std::optional<base::Error>& ret_error) {
  ThreadRecord& me = state.thread();
  Patience patience(state.timeout_ns);
  for (size_t from = 0; from < count; from += kGroup) {
    const size_t n = std::min(kGroup, count - from);
    bool alone[kGroup];  // has to be got by itself: it needs the kernel, or could not be decided on the way
    std::fill_n(alone, n, true);
    bool tick = false;
    bool changed = false;
    uint64_t touched_sequence = 0;
    uint32_t touched_slot = 0;
    state.enter(me);
    if (const Attachment* a = state.attachment.load(std::memory_order_acquire); a != nullptr && (flags & WARM_COPY) == 0) {
      if (me.link != a->link) state.switch_link(me, *a->link);
      const Group group(state, *a, ids + from, n);
      InPlace source;
      Record record;
      for (size_t i = 0; i < n; ++i) {
        const warm_id& id = ids[from + i];
        if (!possible(id)) continue;
        Lookup verdict = group.look_up(i, id, source, state, me, record);
        if (verdict == Lookup::found) verdict = view_of(state, me, *a, source, flags, record, ret_views[from + i]);
        if (verdict == Lookup::found) {
          ret_codes[from + i] = WARM_OK;
          if (ClientState::count_get(me)) {
            tick = true;
            me.gets_until_tick = kGetsPerTick;
            touched_sequence = layout::sequence_of(record.line.put);
            touched_slot = record.slot;
          }
        } else if (verdict == Lookup::absent) {
          ret_codes[from + i] = WARM_E_NOT_FOUND;
          ClientState::count_miss(me);
        } else {
          continue;
        }
        alone[i] = false;
      }
      changed = tick && state.segments_changed(*a);
    }
    ClientState::leave(me);
    if (tick) {
      const uint32_t until_next = me.gets_until_tick;
      state.tick(me, touched_sequence, touched_slot, changed);
      me.gets_until_tick = until_next;
    }
    for (size_t i = 0; i < n; ++i) {
      if (!alone[i]) continue;
      const warm_id& id = ids[from + i];
      base::Result<Presence> presence = Presence::absent;
      if (auto valid = check_id(id.data, id.bytes); !valid) {
        presence = base::pass(std::move(valid));
      } else {
        presence = get(state, patience, id.data, id.bytes, flags, ret_views[from + i]);
      }
      ret_codes[from + i] = !presence ? presence.error().code : *presence == Presence::found ? WARM_OK : WARM_E_NOT_FOUND;
      if (!presence) ret_error = std::move(presence).error();
    }
  }
}

}  // namespace warmtier::libclient
