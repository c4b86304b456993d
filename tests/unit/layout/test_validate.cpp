// Every validator against every truncation of a valid image and against 100,000 random mutations of it. The image ends at a guard
// page: a read beyond it kills the test. What a validator calls good must be good by a second opinion.
#include "layout/validate.hpp"

#include <criterion/criterion.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <set>
#include <string>

#include "tests/unit/layout/material.hpp"

using namespace warmtier::layout;
using namespace warmtier::tests::layout;

namespace {

using Bytes = std::span<const std::byte>;

// `judge`: the validator. `sound`: whether these bytes may be called good.
void expect_verdicts(const std::vector<std::byte>& valid, const std::function<Verdict(Bytes)>& judge,
                     const std::function<bool(Bytes)>& sound, bool exact_length = true) {
  const GuardedBytes guarded(valid.size());
  cr_assert_eq(judge(guarded.hold(valid)), Verdict::good, "the image itself: %s", verdict_text(judge(guarded.hold(valid))));
  for (size_t n = 0; n < valid.size(); ++n) {
    const Verdict verdict = judge(guarded.hold(Bytes(valid).first(n)));
    if (exact_length) cr_assert_neq(verdict, Verdict::good, "%zu of %zu bytes are called good", n, valid.size());
  }
  Chance chance(0x5EED + valid.size());
  std::set<Verdict> seen;
  for (uint64_t i = 0; i < kMutations; ++i) {
    const auto bytes = guarded.hold(valid);
    mutate(bytes, chance);
    const Verdict verdict = judge(bytes);
    cr_assert_leq(static_cast<unsigned>(verdict), static_cast<unsigned>(Verdict::reserved_not_zero));
    if (verdict == Verdict::good) cr_assert(sound(bytes), "mutation %lu is called good", i);
    seen.insert(verdict);
  }
  cr_assert_geq(seen.size(), 2U, "the mutations reached nothing");
}

std::function<bool(Bytes)> equal_to(const std::vector<std::byte>& valid) {
  return [&valid](Bytes bytes) { return std::memcmp(bytes.data(), valid.data(), valid.size()) == 0; };
}

template <typename Header, size_t N>
bool zeros(const Header (&values)[N]) {
  return std::all_of(values, values + N, [](auto v) { return v == 0; });
}

// A superblock with one field changed and the checksum made right again.
template <typename Change>
Verdict changed_superblock(Change change) {
  Superblock s = valid_superblock();
  change(s);
  s.checksum = superblock_checksum(s);
  return validate_superblock(bytes_of(s));
}

}  // namespace

// ---- superblock -------------------------------------------------------------------------------------------------------------

Test(validate_superblock, no_truncation_and_no_mutation_is_good) {
  const auto valid = bytes_of(valid_superblock());
  expect_verdicts(valid, [](Bytes b) { return validate_superblock(b); }, equal_to(valid));
}

Test(validate_superblock, an_unknown_version_is_named_whatever_the_checksum_says) {
  Superblock s = valid_superblock();
  s.format_version = kFormatVersion + 1;
  cr_assert_eq(validate_superblock(bytes_of(s)), Verdict::unknown_version);
  s = valid_superblock();
  s.incompatible_flags = 1;
  cr_assert_eq(validate_superblock(bytes_of(s)), Verdict::unknown_flags);
  s = valid_superblock();
  s.checksum ^= 1;
  cr_assert_eq(validate_superblock(bytes_of(s)), Verdict::bad_checksum);
}

Test(validate_superblock, values_are_good_up_to_their_limits_and_not_beyond) {
  const auto with_dimensions = [](uint32_t dimensions) {
    return changed_superblock([&](Superblock& s) {
      s.dimensions = dimensions;
      s.row_bytes = (dimensions * 4 + 63) / 64 * 64;
    });
  };
  cr_assert_eq(with_dimensions(0), Verdict::bad_geometry);
  cr_assert_eq(with_dimensions(1), Verdict::good);
  cr_assert_eq(with_dimensions(kDimensionsMax), Verdict::good);
  cr_assert_eq(with_dimensions(kDimensionsMax + 1), Verdict::bad_geometry);

  const auto with_capacity = [](uint64_t capacity) {
    return changed_superblock([&](Superblock& s) {
      s.capacity = capacity;
      s.chunks_allocated = 0;
    });
  };
  cr_assert_eq(with_capacity(0), Verdict::bad_geometry);
  cr_assert_eq(with_capacity(1), Verdict::good);
  cr_assert_eq(with_capacity(kCapacityMax), Verdict::good);
  cr_assert_eq(with_capacity(kCapacityMax + 1), Verdict::bad_geometry);

  const auto with_segment = [](uint64_t bytes) { return changed_superblock([&](Superblock& s) { s.segment_bytes = bytes; }); };
  cr_assert_eq(with_segment(kSegmentBytesMin - 8), Verdict::bad_geometry);
  cr_assert_eq(with_segment(kSegmentBytesMin), Verdict::good);
  cr_assert_eq(with_segment(kSegmentBytesMin + 1), Verdict::bad_geometry);
  cr_assert_eq(with_segment(kSegmentBytesMax), Verdict::good);
  cr_assert_eq(with_segment(kSegmentBytesMax + 8), Verdict::bad_geometry);

  const auto with_checkpoint = [](uint64_t c) { return changed_superblock([&](Superblock& s) { s.checkpoint_sequence = c; }); };
  cr_assert_eq(with_checkpoint(kSequenceEnd - 1), Verdict::good);
  cr_assert_eq(with_checkpoint(kSequenceEnd), Verdict::bad_geometry);

  cr_assert_eq(changed_superblock([](Superblock& s) { s.chunks_allocated = 5; }), Verdict::good, "5 chunks for 5000 slots");
  cr_assert_eq(changed_superblock([](Superblock& s) { s.chunks_allocated = 6; }), Verdict::bad_geometry);
  cr_assert_eq(changed_superblock([](Superblock& s) { s.row_bytes += 64; }), Verdict::bad_geometry);
  cr_assert_eq(changed_superblock([](Superblock& s) { s.sketch_bytes = 8; }), Verdict::bad_geometry);
  cr_assert_eq(changed_superblock([](Superblock& s) { s.chunk_slots = 512; }), Verdict::bad_geometry);
  cr_assert_eq(changed_superblock([](Superblock& s) { s.reserved[3871] = 1; }), Verdict::reserved_not_zero);
  cr_assert_eq(changed_superblock([](Superblock& s) {
                 s.compatible_flags = 4;
                 s.reserved[0] = 1;
               }),
               Verdict::good, "a compatible feature may use bytes that are reserved here");
}

Test(choose_superblock, the_valid_copy_with_the_higher_epoch_holds) {
  std::vector<std::byte> header(kTierHeaderBytes);
  const auto put_copy = [&](unsigned i, const Superblock& s) {
    std::memcpy(header.data() + kSuperblockOffsets[i], &s, sizeof s);
  };
  Verdict verdicts[2];
  put_copy(0, valid_superblock(8));
  put_copy(1, valid_superblock(9));
  cr_assert(choose_superblock(header, verdicts) == 1U);
  cr_assert(verdicts[0] == Verdict::good && verdicts[1] == Verdict::good);

  put_copy(0, valid_superblock(10));
  cr_assert(choose_superblock(header, verdicts) == 0U);

  Superblock torn = valid_superblock(11);
  torn.created_ns ^= 1;
  put_copy(1, torn);
  cr_assert(choose_superblock(header, verdicts) == 0U, "a copy torn while it was written leaves the other one");
  cr_assert_eq(verdicts[1], Verdict::bad_checksum);

  put_copy(0, Superblock{});
  cr_assert_not(choose_superblock(header, verdicts).has_value());
  cr_assert_eq(verdicts[0], Verdict::bad_magic);
}

Test(choose_superblock, a_header_cut_anywhere_gives_a_verdict) {
  std::vector<std::byte> header(2 * kPageBytes);
  for (unsigned i = 0; i < 2; ++i) {
    const Superblock s = valid_superblock(8 + i);
    std::memcpy(header.data() + kSuperblockOffsets[i], &s, sizeof s);
  }
  const GuardedBytes guarded(header.size());
  for (size_t n = 0; n <= header.size(); ++n) {
    Verdict verdicts[2];
    const auto chosen = choose_superblock(guarded.hold(Bytes(header).first(n)), verdicts);
    cr_assert_eq(verdicts[0] == Verdict::good, n >= kPageBytes);
    cr_assert_eq(verdicts[1] == Verdict::good, n >= 2 * kPageBytes);
    cr_assert_eq(chosen.has_value(), n >= kPageBytes);
  }
}

// ---- segment and record -----------------------------------------------------------------------------------------------------

Test(validate_segment_header, no_truncation_and_no_mutation_is_good) {
  const auto valid = bytes_of(valid_segment_header());
  expect_verdicts(valid, [](Bytes b) { return validate_segment_header(b, kStoreId, 7); }, equal_to(valid));
}

Test(validate_segment_header, a_segment_of_another_store_or_number_is_known) {
  const auto valid = bytes_of(valid_segment_header());
  uint8_t other[16] = {};
  cr_assert_eq(validate_segment_header(valid, other, 7), Verdict::wrong_identity);
  cr_assert_eq(validate_segment_header(valid, kStoreId, 8), Verdict::wrong_identity);
}

Test(validate_segment_header, another_magic_or_version_under_a_right_checksum_is_named) {
  SegmentHeader h = valid_segment_header();
  h.magic = kTierMagic;
  h.checksum = segment_header_checksum(h);
  cr_assert_eq(validate_segment_header(bytes_of(h), kStoreId, 7), Verdict::bad_magic);
  h = valid_segment_header();
  h.format_version = kFormatVersion + 1;
  h.checksum = segment_header_checksum(h);
  cr_assert_eq(validate_segment_header(bytes_of(h), kStoreId, 7), Verdict::unknown_version);
}

Test(validate_segment_header, a_number_at_its_end_is_refused) {
  SegmentHeader h = valid_segment_header();
  h.number = kSegmentNumberEnd - 1;
  h.checksum = segment_header_checksum(h);
  cr_assert_eq(validate_segment_header(bytes_of(h), kStoreId, h.number), Verdict::good);
  h.number = kSegmentNumberEnd;
  h.checksum = segment_header_checksum(h);
  cr_assert_eq(validate_segment_header(bytes_of(h), kStoreId, h.number), Verdict::bad_geometry);
}

Test(validate_record, no_truncation_and_no_mutation_of_header_or_id_is_good) {
  for (const bool absent : {false, true}) {
    const std::string content = absent ? "" : "0123456789";
    const auto image = valid_record("identity", content, absent);
    const auto judge = [&](Bytes b) {
      RecordPlace place;
      return validate_record(b, image.offset_bytes, image.slot, image.line.put, image.line.content_bytes, image.line.checksum,
                             &place);
    };
    // What the header's checksum covers: the segment's header, the content and the padding are not its business.
    const auto sound = [&](Bytes b) {
      return std::memcmp(b.data() + image.offset_bytes, image.segment.data() + image.offset_bytes, sizeof(RecordHeader) + 8) == 0;
    };
    expect_verdicts(image.segment, judge, sound);
  }
}

Test(validate_record, a_good_record_says_where_id_and_content_lie) {
  const auto image = valid_record("identity", "0123456789", false);
  RecordPlace place;
  cr_assert_eq(validate_record(image.segment, image.offset_bytes, image.slot, image.line.put, 10, image.line.checksum, &place),
               Verdict::good);
  cr_assert_eq(std::memcmp(image.segment.data() + place.id_offset, "identity", 8), 0);
  cr_assert_eq(std::memcmp(image.segment.data() + place.content_offset, "0123456789", 10), 0);
  cr_assert_eq(place.header.id_bytes, 8);
}

Test(validate_record, a_line_that_is_not_the_records_is_refused) {
  const auto image = valid_record("identity", "0123456789", false);
  const Bytes segment = image.segment;
  const auto judge = [&](uint64_t offset, uint32_t slot, uint64_t put, uint32_t bytes, uint32_t checksum) {
    RecordPlace place;
    return validate_record(segment, offset, slot, put, bytes, checksum, &place);
  };
  const SlotLine& line = image.line;
  cr_assert_eq(judge(image.offset_bytes, image.slot + 1, line.put, 10, line.checksum), Verdict::wrong_identity);
  cr_assert_eq(judge(image.offset_bytes, image.slot, put_word(501, image.slot), 10, line.checksum), Verdict::wrong_identity);
  cr_assert_eq(judge(image.offset_bytes, image.slot, 0, 10, line.checksum), Verdict::wrong_identity);
  cr_assert_eq(judge(image.offset_bytes, image.slot, line.put, 9, line.checksum), Verdict::bad_geometry);
  cr_assert_eq(judge(image.offset_bytes, image.slot, line.put, 10, line.checksum ^ 1), Verdict::bad_checksum);
  cr_assert_eq(judge(image.offset_bytes + 1, image.slot, line.put, 10, line.checksum), Verdict::bad_geometry);
  cr_assert_eq(judge(0, image.slot, line.put, 10, line.checksum), Verdict::bad_geometry, "the segment's own header");
  for (const uint64_t far : {uint64_t{segment.size()}, uint64_t{segment.size() + 8}, ~uint64_t{7}, uint64_t{1} << 63}) {
    cr_assert_eq(judge(far, image.slot, line.put, 10, line.checksum), Verdict::truncated);
  }
}

namespace {

// A record whose header was changed and got a right checksum again.
template <typename Change>
Verdict changed_record(std::string_view content, Change change) {
  auto image = valid_record("identity", content, false);
  auto header = value_of<RecordHeader>(Bytes(image.segment).subspan(image.offset_bytes));
  change(header);
  const size_t id_bytes = std::min<size_t>(header.id_bytes, 8);
  RecordHeader hashed = header;
  hashed.id_bytes = static_cast<uint16_t>(id_bytes);
  header.header_checksum = header.id_bytes == id_bytes
                               ? record_header_checksum(hashed, "identity", image.line.content_bytes, image.line.checksum)
                               : hashed.header_checksum;
  std::memcpy(image.segment.data() + image.offset_bytes, &header, sizeof header);
  RecordPlace place;
  return validate_record(image.segment, image.offset_bytes, image.slot, image.line.put, image.line.content_bytes,
                         image.line.checksum, &place);
}

}  // namespace

Test(validate_record, what_the_header_says_is_judged_under_a_right_checksum_too) {
  cr_assert_eq(changed_record("abc", [](RecordHeader&) {}), Verdict::good);
  cr_assert_eq(changed_record("abc", [](RecordHeader& h) { h.codec = 1; }), Verdict::unknown_flags);
  cr_assert_eq(changed_record("abc", [](RecordHeader& h) { h.flags = 2; }), Verdict::unknown_flags);
  cr_assert_eq(changed_record("abc", [](RecordHeader& h) { h.flags = kRecordContentAbsent; }), Verdict::bad_geometry,
               "absent, yet 3 bytes");
  cr_assert_eq(changed_record("", [](RecordHeader& h) { h.flags = kRecordContentAbsent; }), Verdict::good);
  cr_assert_eq(changed_record("abc", [](RecordHeader& h) { h.id_bytes = 0; }), Verdict::bad_geometry);
  cr_assert_eq(changed_record("abc", [](RecordHeader& h) { h.id_bytes = kIdBytesMax + 1; }), Verdict::bad_geometry);
}

Test(validate_record, ids_and_contents_of_every_length_are_good) {
  for (size_t id = 1; id <= kIdBytesMax; id += id < 40 ? 1 : 123) {
    for (const size_t content : std::initializer_list<size_t>{0, 1, 7, 8, 9, 4096}) {
      const auto image = valid_record(std::string(id, 'i'), std::string(content, 'c'), false);
      RecordPlace place;
      cr_assert_eq(validate_record(image.segment, image.offset_bytes, image.slot, image.line.put, static_cast<uint32_t>(content),
                                   image.line.checksum, &place),
                   Verdict::good);
    }
  }
}

Test(validate_line, each_state_of_a_line_has_its_verdict) {
  SlotLine line{};
  cr_assert_eq(validate_line(line, 3), LineVerdict::free);
  line.put = put_word(50, 3);
  line.locator = locator_word({.segment = 1, .offset_bytes = 64}, 3, 50);
  cr_assert_eq(validate_line(line, 3), LineVerdict::live);
  cr_assert_eq(validate_line(line, 4), LineVerdict::bad_put);
  line.dead = dead_word(40, 30);
  cr_assert_eq(validate_line(line, 3), LineVerdict::live, "the death of the former tenant");
  line.dead = dead_word(60, 50);
  cr_assert_eq(validate_line(line, 3), LineVerdict::dead);
  line.dead = dead_word(60, 55);
  cr_assert_eq(validate_line(line, 3), LineVerdict::bad_dead, "names another put");
  line.dead = uint64_t{5} << 48;
  cr_assert_eq(validate_line(line, 3), LineVerdict::bad_dead, "check bits and no sequence");
  line.dead = 0;
  line.locator ^= 1;
  cr_assert_eq(validate_line(line, 3), LineVerdict::bad_locator);
}

Test(validate_line, mutations_of_put_dead_and_locator_are_live_only_by_chance) {
  SlotLine valid{};
  valid.put = put_word(50, 3);
  valid.dead = dead_word(40, 30);
  valid.locator = locator_word({.segment = 1, .offset_bytes = 64}, 3, 50);
  Chance chance(77);
  const GuardedBytes guarded(sizeof valid);
  uint64_t wrong = 0;
  for (uint64_t i = 0; i < kMutations; ++i) {
    const auto bytes = guarded.hold(bytes_of(valid));
    mutate(bytes, chance);
    const auto line = value_of<SlotLine>(bytes);
    if (validate_line(line, 3) == LineVerdict::live && (line.put != valid.put || line.locator != valid.locator)) ++wrong;
  }
  // The locator's 8 check bits let one in 256 pass; the record's own header catches it.
  cr_assert_lt(wrong, kMutations / 256 * 2, "%lu wrong ones", wrong);
}

// ---- headers of regions -----------------------------------------------------------------------------------------------------

Test(validate_results_header, whatever_is_called_good_has_its_store_and_its_sizes) {
  ResultsHeader h{};
  h.magic = kResultsMagic;
  h.format_version = kFormatVersion;
  h.lanes = 64;
  h.sessions_max = kSessionsPerChannel;
  std::memcpy(h.store_id, kStoreId, sizeof h.store_id);
  expect_verdicts(
      bytes_of(h), [](Bytes b) { return validate_results_header(b, kStoreId); },
      [](Bytes b) {
        const auto r = value_of<ResultsHeader>(b);
        return r.magic == kResultsMagic && r.format_version == kFormatVersion && zeros(r.reserved) && r.lanes >= kLanesMin &&
               r.lanes <= kLanesMax && r.sessions_max == kSessionsPerChannel && std::memcmp(r.store_id, kStoreId, 16) == 0;
      });
  uint8_t other[16] = {};
  cr_assert_eq(validate_results_header(bytes_of(h), other), Verdict::wrong_identity);
}

Test(validate_index_header, whatever_is_called_good_fits_its_file) {
  IndexHeader h{};
  h.magic = kIndexMagic;
  h.format_version = kFormatVersion;
  h.homes_log2 = 13;
  h.buckets = index_buckets(13);
  const uint64_t file_bytes = index_bytes(13);
  expect_verdicts(
      bytes_of(h), [&](Bytes b) { return validate_index_header(b, file_bytes); },
      [&](Bytes b) {
        const auto r = value_of<IndexHeader>(b);
        return r.magic == kIndexMagic && r.format_version == kFormatVersion && zeros(r.reserved) &&
               r.homes_log2 >= kIndexHomesLog2Min && r.homes_log2 <= 13 && r.buckets == index_buckets(r.homes_log2) &&
               index_bytes(r.homes_log2) <= file_bytes;
      });
  cr_assert_eq(validate_index_header(bytes_of(h), file_bytes - 1), Verdict::truncated);
  for (const uint32_t log2 : {kIndexHomesLog2Min - 1, kIndexHomesLog2Max + 1, 64U, ~0U}) {
    h.homes_log2 = log2;
    cr_assert_eq(validate_index_header(bytes_of(h), ~uint64_t{0}), Verdict::bad_geometry);
  }
}

Test(validate_feed_header, whatever_is_called_good_fits_its_file) {
  FeedHeader h{};
  h.magic = kFeedMagic;
  h.format_version = kFormatVersion;
  h.entries_log2 = kFeedEntriesLog2;
  h.ids_log2 = kFeedIdsLog2;
  h.head = kWrapStart;
  const uint64_t file_bytes = feed_bytes(kFeedEntriesLog2, kFeedIdsLog2);
  expect_verdicts(
      bytes_of(h), [&](Bytes b) { return validate_feed_header(b, file_bytes); },
      [&](Bytes b) {
        const auto r = value_of<FeedHeader>(b);
        return r.magic == kFeedMagic && r.format_version == kFormatVersion && zeros(r.reserved0) && zeros(r.reserved1) &&
               r.reserved32 == 0 && r.entries_log2 >= 1 && r.entries_log2 <= 28 && r.ids_log2 >= 11 && r.ids_log2 <= 30 &&
               r.sequence_base < kSequenceEnd && feed_bytes(r.entries_log2, r.ids_log2) <= file_bytes;
      });
  cr_assert_eq(validate_feed_header(bytes_of(h), file_bytes - 1), Verdict::truncated);
  for (const uint32_t log2 : {0U, 10U, 31U, 64U, ~0U}) {
    h.ids_log2 = log2;
    cr_assert_eq(validate_feed_header(bytes_of(h), ~uint64_t{0}), Verdict::bad_geometry);
  }
}

Test(validate_status_header, whatever_is_called_good_has_its_magic_and_version) {
  StatusPage page{};
  page.magic = kStatusMagic;
  page.format_version = kFormatVersion;
  expect_verdicts(
      bytes_of(page), [](Bytes b) { return validate_status_header(b); },
      [](Bytes b) {
        const auto r = value_of<StatusPage>(b);
        return r.magic == kStatusMagic && r.format_version == kFormatVersion;
      });
}

Test(validate_channel_header, whatever_is_called_good_fits_its_file) {
  ChannelHeader h{};
  h.magic = kChannelMagic;
  h.format_version = kFormatVersion;
  h.lanes = 64;
  const uint64_t file_bytes = channel_bytes(64);
  expect_verdicts(
      bytes_of(h), [&](Bytes b) { return validate_channel_header(b, file_bytes); },
      [&](Bytes b) {
        const auto r = value_of<ChannelHeader>(b);
        return r.magic == kChannelMagic && r.format_version == kFormatVersion && zeros(r.reserved) && r.lanes >= kLanesMin &&
               r.lanes <= kLanesMax && channel_bytes(r.lanes) <= file_bytes;
      });
  cr_assert_eq(validate_channel_header(bytes_of(h), file_bytes - 1), Verdict::truncated);
  h.lanes = kLanesMax;
  cr_assert_eq(validate_channel_header(bytes_of(h), channel_bytes(kLanesMax)), Verdict::good);
  h.lanes = kLanesMax + 1;
  cr_assert_eq(validate_channel_header(bytes_of(h), ~uint64_t{0}), Verdict::bad_geometry);
  h.lanes = kLanesMin - 1;
  cr_assert_eq(validate_channel_header(bytes_of(h), ~uint64_t{0}), Verdict::bad_geometry);
}

Test(validate_session_header, whatever_is_called_good_has_all_its_pins_in_the_file) {
  SessionHeader h{};
  h.magic = kSessionMagic;
  h.format_version = kFormatVersion;
  h.pin_cells = kViewsMax;
  h.session = 3;
  h.pins_offset = offsetof(SessionRegion, pins);
  const uint64_t file_bytes = sizeof(SessionRegion);
  expect_verdicts(
      bytes_of(h), [&](Bytes b) { return validate_session_header(b, file_bytes); },
      [&](Bytes b) {
        const auto r = value_of<SessionHeader>(b);
        return r.magic == kSessionMagic && r.pin_cells == kViewsMax && r.pins_offset == offsetof(SessionRegion, pins);
      });
  cr_assert_eq(validate_session_header(bytes_of(h), file_bytes - 1), Verdict::truncated);
  h.pins_offset = ~uint64_t{63};
  cr_assert_eq(validate_session_header(bytes_of(h), file_bytes), Verdict::truncated, "an offset that would wrap");
}

Test(validate_session_header, of_another_version_the_pins_are_still_judged) {
  SessionHeader h{};
  h.magic = kSessionMagic;
  h.format_version = kFormatVersion + 1;
  h.pin_cells = 100;
  h.pins_offset = 8192;
  cr_assert_eq(validate_session_header(bytes_of(h), 8192 + 400), Verdict::unknown_version);
  cr_assert_eq(validate_session_header(bytes_of(h), 8192 + 399), Verdict::truncated);
  h.pins_offset = 8192 + 4;
  cr_assert_eq(validate_session_header(bytes_of(h), ~uint64_t{0}), Verdict::bad_geometry);
  h.pins_offset = 4096 - 64;
  cr_assert_eq(validate_session_header(bytes_of(h), ~uint64_t{0}), Verdict::bad_geometry, "inside the header");
  h.pins_offset = 8192;
  h.pin_cells = kViewsMax + 1;
  cr_assert_eq(validate_session_header(bytes_of(h), ~uint64_t{0}), Verdict::bad_geometry);
}

// ---- requests ---------------------------------------------------------------------------------------------------------------

namespace {

RequestVerdict judge(const RequestHeader& r, bool in_lane = true) {
  return validate_request(r, 100, kContentCapBytesDefault, in_lane);
}

template <typename Change>
RequestVerdict changed(RequestHeader r, Change change, bool in_lane = true) {
  change(r);
  return judge(r, in_lane);
}

}  // namespace

Test(validate_request, ids_have_1_to_1024_bytes) {
  for (const RequestHeader& r : {valid_put(), valid_remove()}) {
    const auto with = [&](uint32_t n) { return changed(r, [&](RequestHeader& h) { h.id_bytes = n; }); };
    cr_assert_eq(with(0), RequestVerdict::id_length);
    cr_assert_eq(with(1), RequestVerdict::good);
    cr_assert_eq(with(kIdBytesMax), RequestVerdict::good);
    cr_assert_eq(with(kIdBytesMax + 1), RequestVerdict::id_length);
    cr_assert_eq(with(~0U), RequestVerdict::id_length);
  }
}

Test(validate_request, operations_and_conditions_outside_their_tables_are_refused) {
  for (const uint16_t operation : {uint16_t{0}, uint16_t{5}, uint16_t{0xFFFF}}) {
    cr_assert_eq(changed(valid_put(), [&](RequestHeader& h) { h.operation = operation; }), RequestVerdict::unknown_operation);
  }
  cr_assert_eq(changed(valid_put(), [](RequestHeader& h) { h.condition = WARM_IF_SEQUENCE; }), RequestVerdict::good);
  cr_assert_eq(changed(valid_put(), [](RequestHeader& h) { h.condition = WARM_IF_ABSENT; }), RequestVerdict::good);
  cr_assert_eq(changed(valid_put(), [](RequestHeader& h) { h.condition = 3; }), RequestVerdict::bad_condition);
  cr_assert_eq(changed(valid_remove(), [](RequestHeader& h) { h.condition = WARM_IF_ABSENT; }), RequestVerdict::bad_condition);
  cr_assert_eq(changed(valid_remove(), [](RequestHeader& h) { h.condition = WARM_IF_SEQUENCE; }), RequestVerdict::good);
}

Test(validate_request, an_update_names_what_it_sets_and_sets_numbers) {
  cr_assert_eq(judge(valid_update()), RequestVerdict::good);
  cr_assert_eq(judge(valid_update(), false), RequestVerdict::unknown_operation, "only content goes by the socket");
  for (uint32_t given = 1; given < 32; ++given)
    cr_assert_eq(changed(valid_update(), [&](RequestHeader& h) { h.given = given; }), RequestVerdict::good);
  cr_assert_eq(changed(valid_update(), [](RequestHeader& h) { h.given = 0; }), RequestVerdict::bad_given);
  cr_assert_eq(changed(valid_update(), [](RequestHeader& h) { h.given = 32; }), RequestVerdict::bad_given);
  cr_assert_eq(changed(valid_update(), [](RequestHeader& h) { h.condition = WARM_IF_SEQUENCE; }), RequestVerdict::good);
  cr_assert_eq(changed(valid_update(), [](RequestHeader& h) { h.condition = WARM_IF_ABSENT; }), RequestVerdict::bad_condition);
  cr_assert_eq(changed(valid_update(), [](RequestHeader& h) { h.id_bytes = 0; }), RequestVerdict::id_length);
  cr_assert_eq(changed(valid_update(), [](RequestHeader& h) { h.dimensions = 100; }), RequestVerdict::wrong_dimensions);
  cr_assert_eq(changed(valid_update(), [](RequestHeader& h) { h.content_bytes = 1; }), RequestVerdict::content_length);
  cr_assert_eq(changed(valid_update(), [](RequestHeader& h) { h.quad.decay_rate = __builtin_inff(); }),
               RequestVerdict::not_finite);
}

Test(validate_request, a_clear_names_nothing) {
  cr_assert_eq(judge(valid_clear()), RequestVerdict::good);
  cr_assert_eq(judge(valid_clear(), false), RequestVerdict::unknown_operation);
  cr_assert_eq(changed(valid_clear(), [](RequestHeader& h) { h.id_bytes = 1; }), RequestVerdict::id_length);
  cr_assert_eq(changed(valid_clear(), [](RequestHeader& h) { h.condition = WARM_IF_SEQUENCE; }), RequestVerdict::bad_condition);
  cr_assert_eq(changed(valid_clear(), [](RequestHeader& h) { h.given = 1; }), RequestVerdict::bad_given);
  cr_assert_eq(changed(valid_clear(), [](RequestHeader& h) { h.dimensions = 100; }), RequestVerdict::wrong_dimensions);
  cr_assert_eq(changed(valid_clear(), [](RequestHeader& h) { h.content_bytes = 1; }), RequestVerdict::content_length);
}

Test(validate_request, what_is_not_known_to_be_given_is_refused) {
  cr_assert_eq(changed(valid_put(), [](RequestHeader& h) { h.given = 7; }), RequestVerdict::good);
  cr_assert_eq(changed(valid_put(), [](RequestHeader& h) { h.given = 8 | WARM_GIVEN_CONTENT; }), RequestVerdict::bad_given);
  cr_assert_eq(changed(valid_remove(), [](RequestHeader& h) { h.given = WARM_GIVEN_CREATED; }), RequestVerdict::bad_given);
  cr_assert_eq(changed(valid_put(), [](RequestHeader& h) { h.reserved[3] = 1; }), RequestVerdict::bad_given);
  cr_assert_eq(changed(valid_put(), [](RequestHeader& h) { h.reserved0 = 1; }), RequestVerdict::bad_given);
}

Test(validate_request, a_put_has_the_stores_dimensions_and_a_remove_none) {
  cr_assert_eq(changed(valid_put(), [](RequestHeader& h) { h.dimensions = 99; }), RequestVerdict::wrong_dimensions);
  cr_assert_eq(changed(valid_put(), [](RequestHeader& h) { h.dimensions = 101; }), RequestVerdict::wrong_dimensions);
  cr_assert_eq(changed(valid_put(), [](RequestHeader& h) { h.dimensions = 0; }), RequestVerdict::wrong_dimensions);
  cr_assert_eq(changed(valid_remove(), [](RequestHeader& h) { h.dimensions = 100; }), RequestVerdict::wrong_dimensions);
}

Test(validate_request, content_fits_the_lane_to_the_last_byte_and_not_beyond) {
  const uint64_t room = kLanePayloadBytes - 100 * 4 - 5;
  cr_assert_eq(changed(valid_put(), [&](RequestHeader& h) { h.content_bytes = room; }), RequestVerdict::good);
  cr_assert_eq(changed(valid_put(), [&](RequestHeader& h) { h.content_bytes = room + 1; }), RequestVerdict::does_not_fit_lane);
  cr_assert_eq(changed(valid_put(), [&](RequestHeader& h) { h.content_bytes = 0; }), RequestVerdict::good, "empty content");
}

Test(validate_request, content_is_under_the_cap_wherever_it_travels) {
  const auto by_socket = [](uint64_t n, uint64_t cap) {
    RequestHeader r = valid_put();
    r.content_bytes = n;
    return validate_request(r, 100, cap, false);
  };
  cr_assert_eq(by_socket(kContentCapBytesDefault, kContentCapBytesDefault), RequestVerdict::good);
  cr_assert_eq(by_socket(kContentCapBytesDefault + 1, kContentCapBytesDefault), RequestVerdict::content_length);
  cr_assert_eq(by_socket(kContentBytesMax, kContentBytesMax), RequestVerdict::good);
  cr_assert_eq(by_socket(kContentBytesMax + 1, ~uint64_t{0}), RequestVerdict::content_length);
  cr_assert_eq(by_socket(~uint64_t{0}, ~uint64_t{0}), RequestVerdict::content_length);
}

Test(validate_request, content_without_being_given_is_refused) {
  cr_assert_eq(changed(valid_put(), [](RequestHeader& h) { h.given = 0; }), RequestVerdict::content_length);
  cr_assert_eq(changed(valid_put(), [](RequestHeader& h) { h.given = 0, h.content_bytes = 0; }), RequestVerdict::good,
               "absent content");
  cr_assert_eq(changed(valid_remove(), [](RequestHeader& h) { h.content_bytes = 1; }), RequestVerdict::content_length);
}

Test(validate_request, the_socket_carries_puts_with_content_only) {
  cr_assert_eq(judge(valid_put(), false), RequestVerdict::good);
  cr_assert_eq(judge(valid_remove(), false), RequestVerdict::unknown_operation);
  cr_assert_eq(
      changed(valid_put(), [](RequestHeader& h) { h.given = 0, h.content_bytes = 0; }, false), RequestVerdict::content_length);
}

Test(validate_request, cells_and_session_entries_are_in_their_tables) {
  cr_assert_eq(changed(valid_put(), [](RequestHeader& h) { h.cell = kCellsPerSession - 1; }), RequestVerdict::good);
  cr_assert_eq(changed(valid_put(), [](RequestHeader& h) { h.cell = kCellsPerSession; }), RequestVerdict::bad_cell);
  cr_assert_eq(changed(valid_put(), [](RequestHeader& h) { h.session_index = kSessionsPerChannel - 1; }), RequestVerdict::good);
  cr_assert_eq(changed(valid_put(), [](RequestHeader& h) { h.session_index = kSessionsPerChannel; }), RequestVerdict::bad_cell);
}

Test(validate_request, an_expected_sequence_has_48_bits) {
  const auto with = [](uint64_t n) {
    return changed(valid_put(), [&](RequestHeader& h) { h.condition = WARM_IF_SEQUENCE, h.if_sequence = n; });
  };
  cr_assert_eq(with(1), RequestVerdict::good);
  cr_assert_eq(with(kSequenceEnd - 1), RequestVerdict::good);
  cr_assert_eq(with(kSequenceEnd), RequestVerdict::bad_number);
  cr_assert_eq(with(~uint64_t{0}), RequestVerdict::bad_number);
}

Test(validate_request, scalars_are_finite) {
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(),
                          -std::numeric_limits<float>::infinity()}) {
    cr_assert_eq(changed(valid_put(), [&](RequestHeader& h) { h.quad.confidence = bad; }), RequestVerdict::not_finite);
    cr_assert_eq(changed(valid_put(), [&](RequestHeader& h) { h.quad.activation = bad; }), RequestVerdict::not_finite);
    cr_assert_eq(changed(valid_put(), [&](RequestHeader& h) { h.quad.decay_rate = bad; }), RequestVerdict::not_finite);
  }
  for (const float fine : {std::numeric_limits<float>::max(), std::numeric_limits<float>::lowest(),
                           std::numeric_limits<float>::denorm_min(), -0.0f}) {
    cr_assert_eq(changed(valid_put(), [&](RequestHeader& h) { h.quad.activation = fine; }), RequestVerdict::good);
  }
  cr_assert_eq(changed(valid_put(), [](RequestHeader& h) { h.quad.recall_count = ~0U; }), RequestVerdict::good);
}

Test(validate_request, whatever_is_called_good_of_random_requests_stays_in_its_bounds) {
  const GuardedBytes guarded(sizeof(RequestHeader));
  Chance chance(5);
  uint64_t good = 0;
  for (const RequestHeader& valid : {valid_put(), valid_remove()}) {
    for (uint64_t i = 0; i < kMutations; ++i) {
      const auto bytes = guarded.hold(bytes_of(valid));
      mutate(bytes.first(sizeof(RequestHeader)), chance);
      const auto r = value_of<RequestHeader>(bytes);
      const bool in_lane = chance.below(2) == 0;
      if (judge(r, in_lane) != RequestVerdict::good) continue;
      ++good;
      const bool put = r.operation == 1;
      cr_assert(put || (r.operation == 2 && in_lane));
      cr_assert(r.id_bytes >= 1 && r.id_bytes <= kIdBytesMax && r.dimensions == (put ? 100U : 0U));
      cr_assert(r.content_bytes <= kContentCapBytesDefault);
      cr_assert(!in_lane || r.dimensions * 4 + r.id_bytes + r.content_bytes <= kLanePayloadBytes);
      cr_assert(r.cell < kCellsPerSession && r.session_index < kSessionsPerChannel);
      cr_assert(!put ||
                (std::isfinite(r.quad.confidence) && std::isfinite(r.quad.activation) && std::isfinite(r.quad.decay_rate)));
    }
  }
  cr_assert_gt(good, kMutations / 100, "only %lu good ones", good);
}

// ---- messages ---------------------------------------------------------------------------------------------------------------

namespace {

bool sound_message(Bytes bytes) {
  if (bytes.size() < sizeof(MessageHeader)) return false;
  const auto h = value_of<MessageHeader>(bytes);
  if (h.bytes != bytes.size() || h.kind < 1 || h.kind > 12) return false;
  switch (static_cast<MessageKind>(h.kind)) {
    case MessageKind::hello: return bytes.size() == sizeof(Hello);
    case MessageKind::welcome: return bytes.size() == sizeof(Welcome);
    case MessageKind::refuse: return bytes.size() == sizeof(Refuse) && strnlen(value_of<Refuse>(bytes).text, 248) < 248;
    case MessageKind::segments: {
      Segments m{};
      std::memcpy(&m, bytes.data(), bytes.size());
      return m.count <= kSegmentsPerMessage && bytes.size() >= offsetof(Segments, numbers) + m.count * 8;
    }
    case MessageKind::index:
      return bytes.size() == sizeof(IndexMessage) && value_of<IndexMessage>(bytes).homes_log2 <= kIndexHomesLog2Max;
    case MessageKind::put: {
      const auto m = value_of<PutMessage>(bytes);
      return bytes.size() == sizeof m + m.request.dimensions * 4 + m.request.id_bytes;
    }
    case MessageKind::watch:
      return bytes.size() == sizeof(Watch) && value_of<Watch>(bytes).checkpoint <= 1 && value_of<Watch>(bytes).reserved == 0;
    case MessageKind::sessions_wanted: return bytes.size() == sizeof(SessionsWanted);
    case MessageKind::sessions: {
      if (bytes.size() > sizeof(SessionsMessage)) return false;
      SessionsMessage m{};
      std::memcpy(&m, bytes.data(), bytes.size());
      return m.count <= kSessionsPerMessage && m.last <= 1 && bytes.size() == offsetof(SessionsMessage, reports) + m.count * 72;
    }
    case MessageKind::segments_wanted:
    case MessageKind::bye: return bytes.size() == sizeof(MessageHeader);
    case MessageKind::accept: {
      if (bytes.size() != sizeof(Accept)) return false;
      const auto m = value_of<Accept>(bytes);
      return m.count <= kForsakenPerMessage && std::all_of(m.sessions, m.sessions + m.count, [](auto n) { return n != 0; });
    }
  }
  return false;
}

}  // namespace

Test(validate_message, no_truncation_is_good_and_mutations_only_with_the_right_length) {
  for (const auto& valid : valid_messages()) {
    expect_verdicts(valid, [](Bytes b) { return validate_message(b); }, sound_message);
  }
}

Test(validate_message, a_message_longer_than_it_says_is_refused) {
  for (auto valid : valid_messages()) {
    valid.push_back(std::byte{0});
    cr_assert_neq(validate_message(valid), Verdict::good);
  }
}

Test(validate_message, a_greeting_of_another_protocol_version_is_named_whatever_its_length) {
  auto hello = message<Hello>(MessageKind::hello);
  hello.protocol_version = kProtocolVersion + 1;
  hello.header.bytes = 16;
  cr_assert_eq(validate_message(Bytes(bytes_of(hello)).first(16)), Verdict::unknown_version);
}

Test(validate_message, a_short_list_of_segments_may_travel_short) {
  auto segments = message<Segments>(MessageKind::segments);
  segments.count = 3;
  segments.last = 1;
  segments.header.bytes = offsetof(Segments, numbers) + 3 * 8;
  cr_assert_eq(validate_message(Bytes(bytes_of(segments)).first(segments.header.bytes)), Verdict::good);
  segments.count = 4;
  cr_assert_neq(validate_message(Bytes(bytes_of(segments)).first(segments.header.bytes)), Verdict::good);
}

Test(validate_message, a_list_of_segments_has_room_for_what_it_counts) {
  const auto with = [](uint32_t count, uint32_t last, uint64_t number, size_t bytes) {
    std::vector<std::byte> image(bytes);
    Segments m{};
    m.header = {.kind = static_cast<uint32_t>(MessageKind::segments), .bytes = static_cast<uint32_t>(bytes)};
    m.count = count;
    m.last = last;
    m.numbers[0] = number;
    std::memcpy(image.data(), &m, std::min(bytes, sizeof m));
    return validate_message(image);
  };
  cr_assert_eq(with(kSegmentsPerMessage, 1, kSegmentNumberEnd - 1, sizeof(Segments)), Verdict::good);
  cr_assert_eq(with(kSegmentsPerMessage, 1, kSegmentNumberEnd, sizeof(Segments)), Verdict::bad_geometry);
  cr_assert_eq(with(kSegmentsPerMessage, 2, 1, sizeof(Segments)), Verdict::bad_geometry);
  cr_assert_eq(with(kSegmentsPerMessage, 1, 1, sizeof(Segments) + 8), Verdict::bad_geometry);
  cr_assert_eq(with(kSegmentsPerMessage + 1, 1, 1, sizeof(Segments) + 8), Verdict::bad_geometry);
  cr_assert_eq(with(kSegmentsPerMessage + 1, 1, 1, sizeof(Segments)), Verdict::bad_geometry);
  cr_assert_eq(with(0, 1, 1, offsetof(Segments, numbers)), Verdict::good, "a store without a segment");
  cr_assert_eq(with(0, 1, 1, offsetof(Segments, numbers) - 1), Verdict::bad_geometry);
}

Test(validate_message, a_put_with_lengths_beyond_their_limits_is_refused) {
  const auto with = [](uint32_t dimensions, uint32_t id_bytes) {
    auto put = message<PutMessage>(MessageKind::put);
    put.request.dimensions = dimensions;
    put.request.id_bytes = id_bytes;
    put.header.bytes = static_cast<uint32_t>(sizeof put + dimensions * 4 + id_bytes);
    auto image = bytes_of(put);
    image.resize(put.header.bytes);
    return validate_message(image);
  };
  cr_assert_eq(with(kDimensionsMax, kIdBytesMax), Verdict::good);
  cr_assert_eq(with(kDimensionsMax + 1, kIdBytesMax), Verdict::bad_geometry);
  cr_assert_eq(with(kDimensionsMax, kIdBytesMax + 1), Verdict::bad_geometry);
  cr_assert_eq(with(0x4000'0000, 0), Verdict::bad_geometry, "a length that would wrap in 32 bits");
}

// ---- numbers ----------------------------------------------------------------------------------------------------------------

Test(all_finite, a_nan_or_infinity_is_found_at_every_place_of_every_length) {
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), -std::numeric_limits<float>::signaling_NaN(),
                          std::numeric_limits<float>::infinity(), -std::numeric_limits<float>::infinity()}) {
    for (const size_t n : std::initializer_list<size_t>{1, 2, 63, 64, 65, 127, 128, 200}) {
      const GuardedBytes guarded(n * sizeof(float));
      std::vector<float> values(n, 1.5f);
      for (size_t at = 0; at < n; ++at) {
        values[at] = bad;
        const auto bytes = guarded.hold(std::as_bytes(std::span(values)));
        cr_assert_not(all_finite(reinterpret_cast<const float*>(bytes.data()), n), "%zu of %zu", at, n);
        values[at] = 1.5f;
      }
    }
  }
}

Test(copy_finite, copies_every_length_from_and_to_any_place_and_finds_each_bad_value) {
  constexpr size_t kMax = 150;
  std::vector<std::byte> from(kMax * 4 + 64);
  std::vector<std::byte> to(from.size());
  for (size_t n = 0; n <= kMax; ++n) {
    const size_t shift = n % 37;
    for (size_t i = 0; i < n; ++i) {
      const float value = static_cast<float>(i) - 3.5f;
      std::memcpy(from.data() + shift + i * 4, &value, 4);
    }
    std::ranges::fill(to, std::byte{0xA5});
    cr_assert(copy_finite(to.data() + 3, from.data() + shift, n * 4));
    cr_assert_eq(std::memcmp(to.data() + 3, from.data() + shift, n * 4), 0);
    cr_assert(to[2] == std::byte{0xA5} && to[3 + n * 4] == std::byte{0xA5});
    for (size_t at = 0; at < n; ++at) {
      float good;
      std::memcpy(&good, from.data() + shift + at * 4, 4);
      const float bad = at % 2 == 0 ? std::numeric_limits<float>::quiet_NaN() : -std::numeric_limits<float>::infinity();
      std::memcpy(from.data() + shift + at * 4, &bad, 4);
      cr_assert_not(copy_finite(to.data() + 3, from.data() + shift, n * 4), "%zu of %zu", at, n);
      std::memcpy(from.data() + shift + at * 4, &good, 4);
    }
  }
}

Test(all_finite, the_largest_the_smallest_and_zero_are_finite) {
  std::vector<float> values;
  for (unsigned i = 0; i < 50; ++i) {
    values.insert(values.end(), {0.0f, -0.0f, std::numeric_limits<float>::max(), std::numeric_limits<float>::lowest(),
                                 std::numeric_limits<float>::min(), std::numeric_limits<float>::denorm_min()});
  }
  cr_assert(all_finite(values.data(), values.size()));
  cr_assert(all_finite(nullptr, 0));
}

Test(verdicts, each_verdict_has_a_text_of_its_own) {
  std::set<std::string> texts;
  for (unsigned v = 0; v <= static_cast<unsigned>(Verdict::reserved_not_zero); ++v)
    texts.insert(verdict_text(static_cast<Verdict>(v)));
  cr_assert_eq(texts.size(), static_cast<size_t>(Verdict::reserved_not_zero) + 1);
}
