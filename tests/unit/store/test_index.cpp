#include <criterion/criterion.h>

#include <random>
#include <unordered_map>

#include "daemon/store/index.hpp"

using warmtier::daemon::store::homes_log2_for;
using warmtier::daemon::store::IndexTable;
namespace layout = warmtier::layout;

namespace {
// A hash whose home in a table of 2^12 homes is given.
uint64_t hash_at(uint64_t home, uint64_t tag) { return home << 52 | tag << 26; }
}  // namespace

Test(index, entries_of_one_home_spread_to_63_buckets_and_no_further) {
  auto table = IndexTable::make(12, 1);
  const uint64_t home = 4095;
  uint32_t slot = 0;
  while (const auto place = table->find_empty(home)) table->insert(*place, slot, slot), ++slot;
  cr_assert_eq(slot, 64 * layout::kIndexCells);
  cr_assert_eq(table->bucket(home).distances, (uint64_t{1} << 63) - 1);
  for (uint32_t s = 0; s < slot; ++s) cr_assert(table->find_slot(home, s, s).has_value());
}

Test(index, a_distance_bit_goes_only_with_the_last_entry_of_its_home) {
  auto table = IndexTable::make(12, 1);
  for (uint32_t s = 0; s < 7; ++s) table->insert(*table->find_empty(10), s, s);
  table->insert(*table->find_empty(10), 100, 100);
  table->insert(*table->find_empty(10), 101, 101);
  table->insert(*table->find_empty(11), 200, 200);
  cr_assert_eq(table->bucket(10).distances, 1);
  table->remove(*table->find_slot(10, 100, 100));
  cr_assert_eq(table->bucket(10).distances, 1, "another entry of this home is left at distance 1");
  cr_assert(table->find_slot(10, 101, 101).has_value());
  table->remove(*table->find_slot(10, 101, 101));
  cr_assert_eq(table->bucket(10).distances, 0);
  cr_assert(table->find_slot(11, 200, 200).has_value());
}

Test(index, doubling_puts_every_entry_where_its_hash_says) {
  auto table = IndexTable::make(12, 1);
  auto larger = IndexTable::make(13, 1);
  std::mt19937_64 random(7);
  std::unordered_map<uint32_t, uint64_t> hashes;
  for (uint32_t slot = 0; slot < 20000; ++slot) {
    const uint64_t hash = random();
    const auto place = table->find_empty(layout::home_of_hash(hash, 12));
    cr_assert(place.has_value());
    table->insert(*place, slot, layout::tag_of_hash(hash));
    hashes[slot] = hash;
  }
  for (uint64_t home = 0; home < table->homes(); ++home) cr_assert(table->copy_home_to(home, *larger));
  cr_assert_eq(larger->used(), table->used());
  for (const auto& [slot, hash] : hashes) {
    cr_assert(larger->find_slot(layout::home_of_hash(hash, 13), layout::tag_of_hash(hash), slot).has_value());
  }
}

Test(index, an_id_keeps_its_cell_when_it_is_replaced) {
  auto table = IndexTable::make(12, 1);
  const uint64_t hash = hash_at(3, 99);
  const auto place = table->find_empty(3);
  table->insert(*place, 5, layout::tag_of_hash(hash));
  table->replace(*table->find_slot(3, layout::tag_of_hash(hash), 5), 6, layout::tag_of_hash(hash));
  const auto found = table->find_slot(3, layout::tag_of_hash(hash), 6);
  cr_assert(found && found->bucket == place->bucket && found->cell == place->cell);
  cr_assert(!table->find_slot(3, layout::tag_of_hash(hash), 5));
}

Test(index, the_smallest_table_that_fits_is_below_the_load_at_which_it_would_double) {
  cr_assert_eq(homes_log2_for(0), layout::kIndexHomesLog2Min);
  const uint64_t load = (uint64_t{layout::kIndexCells} << 12) * 7 / 8;
  cr_assert_eq(homes_log2_for(load - 1), 12);
  cr_assert_eq(homes_log2_for(load), 13);
}
