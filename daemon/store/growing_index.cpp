#include "daemon/store/growing_index.hpp"

#include <algorithm>
#include <utility>

#include "base/assert.hpp"
#include "base/failpoint.hpp"

namespace warmtier::daemon::store {
namespace {

// A test of doubling needs no 25,000 records.
bool waits_for_load() { return WARM_RULE("store.doubling_waits_for_load"); }

}  // namespace

base::Status GrowingIndex::start() {
  while (generation_ == 0 || generation_ == tier_.control().generation.generation) {
    if (auto s = base::fill_random(&generation_, sizeof generation_); !s) return s;
  }
  std::lock_guard guard(published_.mutex);
  published_.generation = generation_;
  published_.homes_log2 = table_.homes_log2();
  published_.index_fd = table_.fd();
  return {};
}

void GrowingIndex::open_generation() {
  WARM_FAILPOINT("store.generation_before");
  layout::store_seq_cst(tier_.control().generation.generation, generation_);
  WARM_FAILPOINT("store.generation_after");
}

GrowingIndex::Cells GrowingIndex::cells_of(uint64_t hash, const IndexTable::Place& place, uint32_t slot) const {
  Cells cells{.old_place = place, .new_place = std::nullopt};
  if (doubling_ && layout::home_of_hash(hash, table_.homes_log2()) < doubling_->cursor) {
    const IndexTable& table = doubling_->table;
    cells.new_place = table.find_slot(layout::home_of_hash(hash, table.homes_log2()), layout::tag_of_hash(hash), slot);
    WARM_ASSERT(cells.new_place);  // invariant 2 of the index
  }
  return cells;
}

std::optional<GrowingIndex::Cells> GrowingIndex::reserve(uint64_t hash) {
  const uint64_t home = layout::home_of_hash(hash, table_.homes_log2());
  const auto place = table_.find_empty(home);
  if (!place) return std::nullopt;
  Cells cells{.old_place = *place, .new_place = std::nullopt};
  if (doubling_ && (home < doubling_->cursor || !WARM_RULE("store.ahead_in_old_table_only"))) {
    const IndexTable& table = doubling_->table;
    cells.new_place = table.find_empty(layout::home_of_hash(hash, table.homes_log2()));
    if (!cells.new_place) {
      homes_log2_wanted_ = table.homes_log2() + 1;
      doubling_.reset();
    }
  }
  return cells;
}

// The old table is the one that readers look at as long as the generation stands.
bool GrowingIndex::writes_old(Cells& cells) {
  if (cells.new_place && !WARM_RULE("store.change_both_tables")) cells.new_place.reset();
  return !cells.new_place || WARM_RULE("store.old_table_until_generation");
}

void GrowingIndex::insert(Cells cells, uint64_t hash, uint32_t slot) {
  const uint32_t tag = layout::tag_of_hash(hash);
  const bool old_too = writes_old(cells);
  if (cells.new_place) doubling_->table.insert(*cells.new_place, slot, tag);
  WARM_FAILPOINT("store.new_cell_inserted");
  if (old_too) table_.insert(cells.old_place, slot, tag);
}

void GrowingIndex::replace(Cells cells, uint64_t hash, uint32_t slot) {
  const uint32_t tag = layout::tag_of_hash(hash);
  const bool old_too = writes_old(cells);
  if (cells.new_place) doubling_->table.replace(*cells.new_place, slot, tag);
  WARM_FAILPOINT("store.new_cell_stored");
  if (!WARM_RULE("store.id_keeps_its_cell")) {
    table_.insert(*table_.find_empty(layout::home_of_hash(hash, table_.homes_log2())), slot, tag);
    table_.remove(cells.old_place);
  } else if (old_too) {
    table_.replace(cells.old_place, slot, tag);
  }
}

void GrowingIndex::remove(const Cells& cells) {
  if (cells.new_place && WARM_RULE("store.remove_from_both_tables")) doubling_->table.remove(*cells.new_place);
  WARM_FAILPOINT("store.new_cell_removed");
  table_.remove(cells.old_place);
}

uint32_t GrowingIndex::next_homes_log2() const { return std::max(homes_log2_wanted_, table_.homes_log2() + 1); }

std::optional<uint32_t> GrowingIndex::wanted_homes_log2() const {
  if (doubling_ || next_ || table_.homes_log2() >= layout::kIndexHomesLog2Max) return std::nullopt;
  if (waits_for_load() && table_.used() * 4 < table_.cells() * 3) return std::nullopt;
  return next_homes_log2();
}

// One that is too small by now, because a put doubled the index meanwhile, is dropped.
void GrowingIndex::give(IndexTable table) {
  if (table.homes_log2() >= next_homes_log2()) next_ = std::move(table);
}

void GrowingIndex::begin_doubling_if_due() {
  if (doubling_ || !next_) return;
  if (!waits_for_load() || table_.used() * layout::kIndexLoadDenominator >= table_.cells() * layout::kIndexLoadNumerator)
    begin_doubling();
}

void GrowingIndex::begin_doubling() {
  doubling_.emplace(Doubling{.table = std::move(*next_), .cursor = 0});
  next_.reset();
}

void GrowingIndex::advance_doubling(uint32_t homes) {
  Doubling& d = *doubling_;
  for (uint32_t i = 0; i < homes && d.cursor < table_.homes(); ++i) {
    if (!table_.copy_home_to(d.cursor, d.table)) {
      homes_log2_wanted_ = d.table.homes_log2() + 1;
      doubling_.reset();
      return;
    }
    ++d.cursor;
    WARM_FAILPOINT("store.home_copied");
  }
  if (d.cursor < table_.homes() && WARM_RULE("store.all_homes_copied_first")) return;
  complete_doubling();
}

// Between operations. The descriptor is on its way to every session before the generation says that it is needed, and only
// then may an operation skip the old table, which is never written again.
void GrowingIndex::complete_doubling() {
  uint64_t generation = generation_;
  while (generation == generation_ || generation == 0) {
    if (!base::fill_random(&generation, sizeof generation)) generation = generation_ + 1;
  }
  {
    std::lock_guard guard(published_.mutex);
    published_.generation = generation;
    published_.homes_log2 = doubling_->table.homes_log2();
    published_.index_fd = doubling_->table.fd();
  }
  if (publish_index_) publish_index_(doubling_->table.fd(), doubling_->table.homes_log2(), generation);
  WARM_FAILPOINT("store.index_published");
  layout::store_seq_cst(tier_.control().generation.generation, generation);
  WARM_FAILPOINT("store.index_generation_stored");
  generation_ = generation;
  table_ = std::move(doubling_->table);
  doubling_.reset();
  homes_log2_wanted_ = 0;
  layout::count(status_.index_doublings);
}

base::Status GrowingIndex::grow_now() {
  uint32_t log2 = next_homes_log2();
  for (;;) {
    if (!doubling_) {
      if (log2 > layout::kIndexHomesLog2Max) {
        return base::fail(WARM_E_LIMIT, "the index has 2^%u homes at most", layout::kIndexHomesLog2Max);
      }
      auto table = IndexTable::make(log2, hash_seed_);
      if (!table) return base::pass(std::move(table));
      if (auto s = table->publish(); !s) return s;
      next_ = std::move(*table);
      begin_doubling();
    }
    const uint32_t before = table_.homes_log2();
    advance_doubling(static_cast<uint32_t>(table_.homes()));
    if (table_.homes_log2() != before) return {};
    log2 = homes_log2_wanted_;
  }
}

}  // namespace warmtier::daemon::store
