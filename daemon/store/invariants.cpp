#include "daemon/store/invariants.hpp"

#include <vector>

#include "base/assert.hpp"
#include "layout/validate.hpp"

namespace warmtier::daemon::store {
namespace {

using layout::SlotLine;

class Marks {
 public:
  explicit Marks(uint64_t slots) : marked_(slots) {}
  void mark(uint32_t slot) {
    WARM_ASSERT(slot < marked_.size() && !marked_[slot]);
    marked_[slot] = true;
  }
  [[nodiscard]] bool has(uint64_t slot) const { return marked_[slot]; }

 private:
  std::vector<bool> marked_;
};

// Every entry names a live line that no other entry names, and every live line whose record can be read has one.
void check_index(const Books& books) {
  const Tier& tier = books.tier;
  Marks indexed(tier.slots());
  uint64_t entries = 0;
  books.index.for_each([&](uint64_t, uint64_t cell) {
    const uint32_t slot = layout::cell_slot(cell);
    indexed.mark(slot);
    WARM_ASSERT(layout::validate_line(tier.line(slot), slot) == layout::LineVerdict::live);
    ++entries;
  });
  WARM_ASSERT(entries == books.records);
  uint64_t unreadable = 0;
  for (uint64_t slot = 0; slot < tier.slots(); ++slot) {
    const auto number = static_cast<uint32_t>(slot);
    const SlotLine& line = tier.line(number);
    if (layout::validate_line(line, number) != layout::LineVerdict::live) continue;
    const layout::Locator at = layout::locator_of(line.locator);
    const Segment* segment = books.segments.find(at.segment);
    layout::RecordPlace place{};
    const bool readable =
        segment != nullptr && layout::validate_record(segment->content(), at.offset_bytes, number, line.put, line.content_bytes,
                                                      line.checksum, &place) == layout::Verdict::good;
    if (!readable) {
      ++unreadable;
      continue;
    }
    WARM_ASSERT(indexed.has(slot));
    WARM_ASSERT(segment->live_records > 0);
    WARM_ASSERT(at.offset_bytes + layout::record_bytes(place.header.id_bytes, place.header.stored_bytes) <= segment->tail);
  }
  WARM_ASSERT(unreadable <= books.damaged);
}

// Invariant 2 of the index.
void check_doubling(const Books& books) {
  uint64_t copied = 0;
  books.index.for_each([&](uint64_t home, uint64_t) { copied += home < books.cursor; });
  Marks there(books.tier.slots());
  uint64_t entries = 0;
  books.larger->for_each([&](uint64_t home, uint64_t cell) {
    there.mark(layout::cell_slot(cell));
    WARM_ASSERT(home >> (books.larger->homes_log2() - books.index.homes_log2()) < books.cursor);
    ++entries;
  });
  WARM_ASSERT(entries == copied);
  books.index.for_each(
      [&](uint64_t home, uint64_t cell) { WARM_ASSERT(there.has(layout::cell_slot(cell)) == (home < books.cursor)); });
}

// A slot stands in one list at most. A free one has no tenant; one that waits has had its death.
void check_slots(const Books& books) {
  Marks listed(books.tier.slots());
  books.slots.for_each([&](uint32_t slot, bool free) {
    listed.mark(slot);
    const SlotLine& line = books.tier.line(slot);
    if (free) {
      WARM_ASSERT(line.put == 0);
    } else {
      WARM_ASSERT(line.put != 0 && !layout::live(line.put, line.dead));
    }
  });
}

}  // namespace

void check_invariants(const Books& books) {
  books.index.check_invariants();
  check_index(books);
  if (books.larger != nullptr) {
    books.larger->check_invariants();
    check_doubling(books);
  }
  check_slots(books);
}

}  // namespace warmtier::daemon::store
