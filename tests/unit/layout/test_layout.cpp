#include "layout/layout.hpp"

#include <criterion/criterion.h>
#include <sys/mman.h>

#include <atomic>
#include <limits>
#include <thread>

#include "layout/describe.hpp"
#include "tests/unit/layout/material.hpp"

using namespace warmtier::layout;
using warmtier::tests::layout::bytes_of;
using warmtier::tests::layout::Chance;

Test(quad, a_quad_comes_back_as_it_was_stored) {
  Quad shared{};
  const Quad value{
      .confidence = 0.25f, .activation = -1.0f, .decay_rate = std::numeric_limits<float>::denorm_min(), .recall_count = ~0U};
  store_quad(shared, value);
  cr_assert(bytes_of(load_quad(shared)) == bytes_of(value));
}

Test(quad, a_quad_can_be_loaded_from_a_page_that_may_not_be_written) {
  void* page = ::mmap(nullptr, kPageBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  cr_assert(page != MAP_FAILED);
  store_quad(*static_cast<Quad*>(page), {.confidence = 2.0f, .activation = 3.0f, .decay_rate = 4.0f, .recall_count = 5});
  cr_assert(::mprotect(page, kPageBytes, PROT_READ) == 0);
  const Quad value = load_quad(*static_cast<const Quad*>(page));
  cr_assert(value.confidence == 2.0f && value.recall_count == 5);
  ::munmap(page, kPageBytes);
}

// Four equal words are stored again and again; a reader that saw two values in one quad would have seen half an update.
Test(quad, no_reader_sees_half_an_update) {
  alignas(64) static Quad shared{};
  std::atomic<bool> stop{false};
  std::thread writer([&] {
    for (uint32_t n = 0; !stop.load(std::memory_order_relaxed); ++n) {
      // Bits of a float below 2^31 that are neither NaN nor infinite.
      const uint32_t bits = n & 0x3FFF'FFFFU;
      const float f = std::bit_cast<float>(bits);
      store_quad(shared, {.confidence = f, .activation = f, .decay_rate = f, .recall_count = bits});
    }
  });
  bool torn = false;
  for (unsigned i = 0; i < 2'000'000; ++i) {
    const Quad q = load_quad(shared);
    torn |= std::bit_cast<uint32_t>(q.confidence) != q.recall_count || std::bit_cast<uint32_t>(q.activation) != q.recall_count ||
            std::bit_cast<uint32_t>(q.decay_rate) != q.recall_count;
  }
  stop.store(true);
  writer.join();
  cr_assert_not(torn);
}

Test(feed, an_entry_comes_back_as_it_was_stored) {
  FeedEntry shared{};
  store_entry(shared, {.change = feed_change_word(9, ChangeKind::put), .place = feed_place_word(4, kWrapStart)});
  const FeedEntry entry = load_entry(shared);
  cr_assert(entry.change == feed_change_word(9, ChangeKind::put) && entry.place == feed_place_word(4, kWrapStart));
}

Test(words_in_memory, raise_to_never_lowers) {
  uint32_t word = 5;
  raise_to(word, 3);
  cr_assert_eq(word, 5);
  raise_to(word, 9);
  cr_assert_eq(word, 9);
}

Test(geometry, lines_and_rows_of_all_slots_fill_the_chunks_without_overlap) {
  for (const uint32_t dimensions : {1U, 15U, 16U, 17U, 768U, kDimensionsMax}) {
    const Geometry g = Geometry::of(dimensions, 3000);
    cr_assert(g.row_bytes % 64 == 0 && g.row_bytes >= dimensions * 4 && g.row_bytes < dimensions * 4 + 64);
    cr_assert_eq(g.chunks_max(), 3);
    uint64_t end = kTierHeaderBytes;
    for (uint32_t chunk = 0; chunk < 3; ++chunk) {
      for (uint32_t slot = chunk * kSlotsPerChunk; slot < (chunk + 1) * kSlotsPerChunk; ++slot) {
        cr_assert_eq(g.line_offset(slot), end);
        end += sizeof(SlotLine);
      }
      for (uint32_t slot = chunk * kSlotsPerChunk; slot < (chunk + 1) * kSlotsPerChunk; ++slot) {
        cr_assert_eq(g.row_offset(slot), end);
        cr_assert_eq(g.row_offset(slot) % 64, 0);
        end += g.row_bytes;
      }
      cr_assert_eq(g.file_bytes(chunk + 1), end);
    }
  }
}

Test(geometry, the_largest_store_has_offsets_that_fit_a_file) {
  const Geometry g = Geometry::of(kDimensionsMax, kCapacityMax);
  cr_assert_lt(g.file_bytes(g.chunks_max()), uint64_t{1} << 62);
  cr_assert_lt(g.row_offset(static_cast<uint32_t>(kCapacityMax - 1)) + g.row_bytes, g.file_bytes(g.chunks_max()) + 1);
}

Test(geometry, parts_of_a_channel_do_not_overlap) {
  for (const uint32_t lanes : {kLanesMin, kLanesMin + 1, kLanesMax}) {
    cr_assert_geq(channel_locks_offset(lanes), channel_commits_offset() + lanes * sizeof(CommitLine));
    cr_assert_geq(channel_entries_offset(lanes), channel_locks_offset(lanes) + lanes * sizeof(LaneLock));
    cr_assert_eq(channel_entry_offset(lanes, 0, 1) - channel_entry_offset(lanes, 0, 0), kLaneEntryBytes);
    cr_assert_eq(channel_entry_offset(lanes, 0, kLaneEntries), channel_entry_offset(lanes, 0, 0), "numbers wrap in a lane");
    cr_assert_eq(channel_entry_offset(lanes, 1, 0) - channel_entry_offset(lanes, 0, 0), kLaneEntries * kLaneEntryBytes);
    cr_assert_leq(channel_entry_offset(lanes, lanes - 1, kLaneEntries - 1) + kLaneEntryBytes, channel_bytes(lanes));
    cr_assert_eq(channel_bytes(lanes) % kPageBytes, 0);
    cr_assert_eq(channel_entry_offset(lanes, 3, 5) % alignof(RequestHeader), 0);
  }
}

Test(geometry, parts_of_a_results_file_do_not_overlap) {
  for (const uint32_t lanes : {kLanesMin, kLanesMin + 1, kLanesMax}) {
    cr_assert_geq(results_sessions_offset(lanes), sizeof(ResultsHeader) + lanes * sizeof(DoneLine));
    cr_assert_eq(results_cells_offset(lanes) - results_sessions_offset(lanes), kSessionsPerChannel * sizeof(SessionEntry));
    cr_assert_eq(results_bytes(lanes) - results_cells_offset(lanes),
                 uint64_t{kSessionsPerChannel} * kCellsPerSession * sizeof(ResultCell));
  }
}

Test(limits, largest_values_fit_the_bits_that_carry_them) {
  // A locator names 8-byte units with 23 bits and a segment with 33; a cell a slot + 1 with 32; a record header its lengths.
  cr_assert_eq(kSegmentBytesMax / 8, uint64_t{1} << 23);
  cr_assert_eq(kSegmentNumberEnd, uint64_t{1} << 33);
  cr_assert_leq(kCapacityMax + 1, 0xFFFF'FFFFULL);
  cr_assert_leq(kIdBytesMax, std::numeric_limits<uint16_t>::max());
  cr_assert_leq(kContentBytesMax, std::numeric_limits<uint32_t>::max());
  cr_assert_lt(kSequenceMax, kSequenceEnd);
  cr_assert_eq(kSequenceEnd - kSequenceMax, uint64_t{1} << 32);
  cr_assert_lt(kIndexDistanceMax, 64U);
  cr_assert_leq(kDimensionsMax * 4 + kIdBytesMax, kLanePayloadBytes, "without content every request fits a lane");
  cr_assert_geq(kMessageBytesMax, sizeof(PutMessage) + kDimensionsMax * 4 + kIdBytesMax);
  cr_assert_geq(kMessageBytesMax, sizeof(Segments));
  cr_assert_leq(kSegmentsPerMessage, 253U);
}

Test(limits, record_lengths_end_on_8_bytes_and_hold_what_they_must) {
  for (uint64_t id = 1; id <= 20; ++id) {
    for (uint64_t content = 0; content <= 20; ++content) {
      const uint64_t bytes = record_bytes(id, content);
      cr_assert(bytes % 8 == 0 && bytes >= 40 + id + content && bytes < 40 + id + content + 8);
    }
  }
  cr_assert_gt(record_bytes(kIdBytesMax, kContentBytesMax), kContentBytesMax, "no wrap");
}

Test(limits, numbers_that_wrap_start_just_below_the_wrap_of_their_low_half) {
  cr_assert_eq(static_cast<uint32_t>(kWrapStart + 4), 0U);
  cr_assert_eq(kWrapStart >> 32, 0U);
}

Test(describe, every_struct_stands_in_the_table_once_and_every_field_has_a_meaning) {
  const auto structs = all_structs();
  cr_assert_geq(structs.size(), 36U);
  for (size_t i = 0; i < structs.size(); ++i) {
    for (size_t j = i + 1; j < structs.size(); ++j) cr_assert_str_neq(structs[i].name, structs[j].name);
    uint32_t end = 0;
    for (const Field& field : structs[i].fields) {
      cr_assert_eq(field.offset, end, "%s.%s", structs[i].name, field.name);
      cr_assert(field.name[0] != 0 && field.meaning[0] != 0);
      end += field.bytes;
    }
    cr_assert_eq(end, structs[i].bytes, "%s", structs[i].name);
  }
}

Test(describe, every_region_has_a_name_and_a_fingerprint_of_its_own) {
  const auto prints = fingerprints();
  for (uint32_t i = 0; i < kRegions; ++i) {
    cr_assert_str_neq(region_name(static_cast<Region>(i)), "?");
    cr_assert_neq(prints[i], 0U);
    for (uint32_t j = i + 1; j < kRegions; ++j) cr_assert_neq(prints[i], prints[j]);
  }
  cr_assert(prints == fingerprints());
}
