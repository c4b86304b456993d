#include "layout/words.hpp"

#include <criterion/criterion.h>

#include "tests/unit/layout/material.hpp"

using namespace warmtier::layout;
using warmtier::tests::layout::Chance;

namespace {

uint64_t any_sequence(Chance& chance) { return 1 + chance.below(kSequenceEnd - 1); }
uint32_t any_slot(Chance& chance) { return static_cast<uint32_t>(chance.below(kCapacityMax)); }

constexpr uint64_t kRounds = 20'000;

}  // namespace

Test(words, a_put_word_gives_back_its_sequence_and_is_valid_in_its_slot) {
  Chance chance(1);
  for (uint64_t i = 0; i < kRounds; ++i) {
    const uint64_t sequence = any_sequence(chance);
    const uint32_t slot = any_slot(chance);
    const uint64_t word = put_word(sequence, slot);
    cr_assert(sequence_of(word) == sequence && put_word_valid(word, slot) && word != 0);
  }
  cr_assert(put_word_valid(0, 5), "0 is a free slot");
  cr_assert_not(put_word_valid(put_word(0, 5), 5), "no put has sequence 0");
}

Test(words, numbers_at_both_ends_of_the_sequence_survive_the_word) {
  for (const uint64_t sequence : {uint64_t{1}, kSequenceMax - 1, kSequenceMax, kSequenceEnd - 2, kSequenceEnd - 1}) {
    cr_assert_eq(sequence_of(put_word(sequence, 0)), sequence);
    cr_assert_eq(sequence_of(dead_word(sequence, 1)), sequence);
    cr_assert(
        put_word_valid(put_word(sequence, static_cast<uint32_t>(kCapacityMax - 1)), static_cast<uint32_t>(kCapacityMax - 1)));
    cr_assert(dead_word_names(dead_word(sequence, kSequenceEnd - 1), kSequenceEnd - 1));
  }
}

// A flip among the 16 check bits is always seen; one among the 48 others hides with a chance of 2^-16.
Test(words, check_bits_catch_every_bit_flip_of_a_put_but_one_in_65536) {
  Chance chance(2);
  uint64_t missed = 0;
  for (uint64_t i = 0; i < kRounds; ++i) {
    const uint32_t slot = any_slot(chance);
    const uint64_t word = put_word(any_sequence(chance), slot);
    for (unsigned bit = 0; bit < 64; ++bit) {
      const bool valid = put_word_valid(word ^ uint64_t{1} << bit, slot);
      if (bit >= 48) cr_assert_not(valid);
      missed += valid ? 1 : 0;
    }
  }
  cr_assert_lt(missed, kRounds * 48 / 65536 * 3, "%lu missed", missed);
}

Test(words, a_put_word_of_another_slot_is_known) {
  Chance chance(3);
  uint64_t missed = 0;
  for (uint64_t i = 0; i < kRounds; ++i) {
    const uint32_t slot = any_slot(chance);
    missed += put_word_valid(put_word(any_sequence(chance), slot), slot + 1) ? 1 : 0;
  }
  cr_assert_leq(missed, 3);
}

Test(words, a_death_names_its_own_put_and_no_other) {
  Chance chance(4);
  uint64_t missed = 0;
  for (uint64_t i = 0; i < kRounds; ++i) {
    const uint64_t put = any_sequence(chance);
    const uint64_t word = dead_word(any_sequence(chance), put);
    cr_assert(dead_word_names(word, put));
    missed += dead_word_names(word, put - 1) ? 1 : 0;
    missed += dead_word_names(word, any_sequence(chance)) ? 1 : 0;
  }
  cr_assert_leq(missed, 4);
}

Test(words, a_record_is_live_until_a_death_at_or_above_its_put) {
  const uint64_t put = put_word(100, 7);
  cr_assert_not(live(0, 0), "a free slot");
  cr_assert(live(put, 0));
  cr_assert(live(put, dead_word(99, 50)), "the death of the former tenant");
  cr_assert_not(live(put, dead_word(100, 100)));
  cr_assert_not(live(put, dead_word(101, 100)));
  cr_assert_not(live(put, dead_word(kSequenceEnd - 1, 100)));
}

Test(words, a_locator_gives_back_segment_and_offset_up_to_their_ends) {
  Chance chance(5);
  for (uint64_t i = 0; i < kRounds; ++i) {
    const Locator at =
        i == 0 ? Locator{.segment = kSegmentNumberEnd - 1, .offset_bytes = kSegmentBytesMax - 8}
               : Locator{.segment = chance.below(kSegmentNumberEnd), .offset_bytes = chance.below(kSegmentBytesMax / 8) * 8};
    const uint32_t slot = any_slot(chance);
    const uint64_t put = any_sequence(chance);
    const uint64_t word = locator_word(at, slot, put);
    const Locator back = locator_of(word);
    cr_assert(back.segment == at.segment && back.offset_bytes == at.offset_bytes && locator_valid(word, slot, put));
  }
}

Test(words, check_bits_catch_every_bit_flip_of_a_locator_but_one_in_256) {
  Chance chance(6);
  uint64_t missed = 0;
  for (uint64_t i = 0; i < kRounds; ++i) {
    const uint32_t slot = any_slot(chance);
    const uint64_t put = any_sequence(chance);
    const uint64_t word =
        locator_word({.segment = chance.below(kSegmentNumberEnd), .offset_bytes = chance.below(1 << 20) * 8}, slot, put);
    for (unsigned bit = 0; bit < 64; ++bit) {
      const bool valid = locator_valid(word ^ uint64_t{1} << bit, slot, put);
      if (bit < 8) cr_assert_not(valid);
      missed += valid ? 1 : 0;
    }
  }
  cr_assert_lt(missed, kRounds * 56 / 256 * 5 / 4, "%lu missed", missed);
}

Test(words, a_locator_beside_another_put_is_known_but_for_one_in_256) {
  Chance chance(7);
  uint64_t missed = 0;
  for (uint64_t i = 0; i < kRounds; ++i) {
    const uint32_t slot = any_slot(chance);
    const uint64_t put = any_sequence(chance);
    missed += locator_valid(locator_word({.segment = 3, .offset_bytes = 64}, slot, put), slot, any_sequence(chance)) ? 1 : 0;
  }
  cr_assert_lt(missed, kRounds / 256 * 3 / 2, "%lu missed", missed);
}

Test(words, a_cell_gives_back_slot_distance_and_tag) {
  Chance chance(8);
  for (uint64_t i = 0; i < kRounds; ++i) {
    const uint32_t slot = i == 0 ? static_cast<uint32_t>(kCapacityMax - 1) : any_slot(chance);
    const auto distance = static_cast<uint32_t>(chance.below(64));
    const auto tag = static_cast<uint32_t>(chance.below(1 << 26));
    const uint64_t cell = cell_word(slot, distance, tag);
    cr_assert(cell != 0 && cell_slot(cell) == slot && cell_distance(cell) == distance && cell_tag(cell) == tag);
    cr_assert(cell_matches(cell, cell_key(distance, tag)));
    cr_assert_not(cell_matches(cell, cell_key(distance ^ 1, tag)));
    cr_assert_not(cell_matches(cell, cell_key(distance, tag ^ 1)));
  }
  cr_assert_not(cell_matches(0, cell_key(0, 0)), "an empty cell matches nothing");
}

Test(words, home_in_a_larger_table_is_the_home_that_the_hash_has_there) {
  Chance chance(9);
  for (uint64_t i = 0; i < kRounds; ++i) {
    const uint64_t hash = i == 0 ? 0 : i == 1 ? ~uint64_t{0} : chance.next();
    for (uint32_t small = kIndexHomesLog2Min; small <= kIndexHomesLog2Max; ++small) {
      for (uint32_t large = small; large <= kIndexHomesLog2Max; ++large) {
        cr_assert_eq(home_in_larger_table(home_of_hash(hash, small), small, tag_of_hash(hash), large), home_of_hash(hash, large),
                     "hash %016lx from 2^%u to 2^%u", hash, small, large);
      }
    }
  }
}

Test(words, doubling_splits_a_home_into_the_two_that_follow_from_it) {
  Chance chance(10);
  for (uint64_t i = 0; i < kRounds; ++i) {
    const uint64_t hash = chance.next();
    for (uint32_t log2 = kIndexHomesLog2Min; log2 < kIndexHomesLog2Max; ++log2) {
      cr_assert_eq(home_of_hash(hash, log2 + 1) >> 1, home_of_hash(hash, log2));
    }
  }
}

Test(words, feed_words_keep_sequence_kind_slot_and_the_low_half_of_the_position) {
  const uint64_t change = feed_change_word(kSequenceEnd - 1, ChangeKind::move);
  cr_assert(sequence_of(change) == kSequenceEnd - 1 && change >> 48 == 5);
  const uint64_t place = feed_place_word(0xFFFF'FFFD, (uint64_t{5} << 32) + 7);
  cr_assert(static_cast<uint32_t>(place) == 0xFFFF'FFFD && place >> 32 == 7);
}

Test(words, a_feed_id_word_keeps_unit_and_length_over_the_wrap_of_its_units) {
  for (const uint64_t unit : {kFeedUnitStart, kFeedUnitEnd - 1, uint64_t{0}, uint64_t{1} << 40}) {
    for (const uint32_t bytes : {1U, kIdBytesMax}) {
      const uint64_t word = feed_id_word(unit, bytes);
      cr_assert(feed_id_unit(word) == unit && feed_id_bytes(word) == bytes);
      cr_assert_eq(feed_id_word(unit + kFeedUnitEnd, bytes), word, "the writer's counter goes on above the 53 bits");
    }
  }
  cr_assert(feed_id_units(1) == 1 && feed_id_units(8) == 1 && feed_id_units(9) == 2 && feed_id_units(kIdBytesMax) == 128);
}

Test(words, a_feed_id_is_whole_until_the_ring_has_come_round_to_its_first_byte) {
  constexpr uint32_t log2 = 11;
  constexpr uint64_t units = (uint64_t{1} << log2) / kFeedIdUnitBytes;
  for (const uint64_t unit : {uint64_t{0}, uint64_t{77}, kFeedUnitStart, kFeedUnitEnd - 1}) {
    cr_assert(feed_id_whole(unit, unit + 1, log2) && feed_id_whole(unit, unit + units, log2));
    cr_assert(!feed_id_whole(unit, unit + units + 1, log2) && !feed_id_whole(unit, unit + 3 * units, log2));
    // The one that would be first written over it begins at its own place.
    cr_assert_eq(feed_id_offset(unit, log2), feed_id_offset(unit + units, log2));
  }
}
