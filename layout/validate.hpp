// bytes -> verdict. Pure functions over private copies or read-only maps; every one of them is fuzzed. A verdict never depends
// on anything but the bytes given, and no byte outside [data, data + n) is read.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "layout/control.hpp"
#include "layout/layout.hpp"

namespace warmtier::layout {

enum class Verdict : uint8_t {
  good = 0,
  truncated,         // fewer bytes than the structure has
  bad_magic,
  unknown_version,
  unknown_flags,
  bad_geometry,      // a size, count or offset outside its limits, or two that contradict each other
  bad_checksum,
  wrong_identity,    // another store, segment number or slot than the one asked for
  reserved_not_zero,
};
const char* verdict_text(Verdict verdict) noexcept;

// One superblock copy. Version and flags are judged after magic and before checksum, so that an unknown version is named.
Verdict validate_superblock(std::span<const std::byte> bytes) noexcept;
// Of the two copies the valid one with the higher epoch; nullopt when neither is. `ret_verdicts` says why for each.
std::optional<unsigned> choose_superblock(std::span<const std::byte> tier_header, Verdict (&ret_verdicts)[2]) noexcept;

Verdict validate_segment_header(std::span<const std::byte> bytes, const uint8_t (&store_id)[16], uint64_t number) noexcept;

// A record at `offset_bytes` of a segment of which `segment` is all: bounds, header, id, header checksum against the line's
// immutable words. On good the record's id and stored content lie in the span.
struct RecordPlace {
  RecordHeader header;  // private copy
  uint64_t id_offset;
  uint64_t content_offset;
};
Verdict validate_record(std::span<const std::byte> segment, uint64_t offset_bytes, uint32_t slot, uint64_t put_word,
                        uint32_t content_bytes, uint32_t checksum, RecordPlace* ret_place) noexcept;

// A line by itself: check bits of put, dead and locator. `live` lines only have a meaning beyond it.
enum class LineVerdict : uint8_t { free, live, dead, bad_put, bad_dead, bad_locator };
LineVerdict validate_line(const SlotLine& line, uint32_t slot) noexcept;

Verdict validate_results_header(std::span<const std::byte> bytes, const uint8_t (&store_id)[16]) noexcept;
Verdict validate_index_header(std::span<const std::byte> bytes, uint64_t file_bytes) noexcept;
Verdict validate_feed_header(std::span<const std::byte> bytes, uint64_t file_bytes) noexcept;
Verdict validate_status_header(std::span<const std::byte> bytes) noexcept;
Verdict validate_channel_header(std::span<const std::byte> bytes, uint64_t file_bytes) noexcept;
Verdict validate_session_header(std::span<const std::byte> bytes, uint64_t file_bytes) noexcept;

// A request that a client wrote, as a private copy. `limit` tells which value met which limit.
enum class RequestVerdict : uint8_t {
  good = 0,
  unknown_operation,
  bad_condition,
  bad_given,          // unknown bits, or bits that the operation does not have
  id_length,          // 0 or above kIdBytesMax
  wrong_dimensions,
  content_length,     // above the cap, or given without content
  does_not_fit_lane,
  bad_cell,           // cell or session index out of range
  bad_number,         // if_sequence out of range
  not_finite,         // a scalar is NaN or infinite
};
RequestVerdict validate_request(const RequestHeader& request, uint32_t dimensions, uint64_t content_bytes_max,
                                bool in_lane) noexcept;

// A whole control message, as received: kind known and length right for its kind. A greeting has to be of this version.
Verdict validate_message(std::span<const std::byte> bytes, uint32_t protocol_version = kProtocolVersion) noexcept;

// True when all `n` values are finite; written so that the compiler vectorises it.
bool all_finite(const float* values, size_t n) noexcept;
// Copies floats from memory that others may change meanwhile; `bytes` is a multiple of 4. True when all that was copied is
// finite: each value is loaded once, and what was loaded is what is looked at and stored.
bool copy_finite(std::byte* to, const std::byte* from, size_t bytes) noexcept;

}  // namespace warmtier::layout
