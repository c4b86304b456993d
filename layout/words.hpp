// Words that carry two things at once, and the check bits that tell a right one from a wrong one.
#pragma once

#include <cstdint>

#include "layout/limits.hpp"

namespace warmtier::layout {

namespace detail {
constexpr uint64_t mix(uint64_t a, uint64_t b) noexcept {
  uint64_t x = a * 0x9E37'79B9'7F4A'7C15ULL ^ (b + 0x632B'E59B'D9B4'E019ULL) * 0xD6E8'FEB8'6659'FD93ULL;
  x ^= x >> 32;
  return x * 0xD6E8'FEB8'6659'FD93ULL;
}
}  // namespace detail

// ---- put and dead: sequence in the low 48 bits, check in the high 16 --------------------------------------------------------

constexpr uint64_t sequence_of(uint64_t word) noexcept { return word & (kSequenceEnd - 1); }

constexpr uint64_t put_word(uint64_t sequence, uint32_t slot) noexcept {
  return sequence | (detail::mix(sequence, slot) >> 48 << 48);
}
constexpr bool put_word_valid(uint64_t word, uint32_t slot) noexcept {
  return word == 0 || (sequence_of(word) != 0 && word == put_word(sequence_of(word), slot));
}

// A death is keyed with the put that it ends: beside another tenant's put it is known as not that tenant's.
constexpr uint64_t dead_word(uint64_t sequence, uint64_t put_sequence) noexcept {
  return sequence | (detail::mix(sequence, ~put_sequence) >> 48 << 48);
}
constexpr bool dead_word_names(uint64_t word, uint64_t put_sequence) noexcept {
  return word == dead_word(sequence_of(word), put_sequence);
}

// put and dead may be words or sequences: only the 48-bit values count.
constexpr bool live(uint64_t put, uint64_t dead) noexcept {
  return sequence_of(put) != 0 && sequence_of(dead) < sequence_of(put);
}

// ---- locator: segment 33, offset 23 in units of 8 bytes, check 8 ------------------------------------------------------------

struct Locator {
  uint64_t segment = 0;
  uint64_t offset_bytes = 0;
};

constexpr uint64_t locator_word(Locator at, uint32_t slot, uint64_t put_sequence) noexcept {
  const uint64_t body = at.segment << 31 | (at.offset_bytes / 8) << 8;
  return body | detail::mix(body ^ slot, put_sequence) >> 56;
}
constexpr Locator locator_of(uint64_t word) noexcept {
  return {.segment = word >> 31, .offset_bytes = (word >> 8 & 0x7F'FFFFU) * 8};
}
constexpr bool locator_valid(uint64_t word, uint32_t slot, uint64_t put_sequence) noexcept {
  return word == locator_word(locator_of(word), slot, put_sequence);
}

// ---- index cell: slot + 1 in 32 bits (0: empty), distance 6, tag 26 ---------------------------------------------------------

constexpr uint32_t tag_of_hash(uint64_t hash) noexcept { return static_cast<uint32_t>(hash >> 26 & 0x3FF'FFFFU); }
constexpr uint64_t home_of_hash(uint64_t hash, uint32_t homes_log2) noexcept { return hash >> (64 - homes_log2); }

constexpr uint64_t cell_word(uint32_t slot, uint32_t distance, uint32_t tag) noexcept {
  return (uint64_t{slot} + 1) | uint64_t{distance} << 32 | uint64_t{tag} << 38;
}
constexpr uint32_t cell_slot(uint64_t cell) noexcept { return static_cast<uint32_t>(cell) - 1; }
constexpr uint32_t cell_distance(uint64_t cell) noexcept { return static_cast<uint32_t>(cell >> 32 & 63U); }
constexpr uint32_t cell_tag(uint64_t cell) noexcept { return static_cast<uint32_t>(cell >> 38); }
// Equal for the cells of one (distance, tag), whatever the slot.
constexpr uint64_t cell_key(uint32_t distance, uint32_t tag) noexcept { return uint64_t{distance} | uint64_t{tag} << 6; }
constexpr uint64_t cell_key_of(uint64_t cell) noexcept { return cell >> 32; }
constexpr bool cell_matches(uint64_t cell, uint64_t key) noexcept {
  return cell_key_of(cell) == key && static_cast<uint32_t>(cell) != 0;
}

// The smallest table uses the first 12 bits of the hash as home; the tag is the next 26: so doubling reads no record. The home
// of a cell's entry in a table of any size follows from the bucket, the distance and the tag.
constexpr uint64_t home_in_larger_table(uint64_t home, uint32_t homes_log2, uint32_t tag, uint32_t larger_log2) noexcept {
  // bits known: the first homes_log2 (home), and bits 12 .. 37 (tag)
  const uint64_t first12 = home >> (homes_log2 - kIndexHomesLog2Min);
  const uint64_t bits38 = first12 << 26 | tag;
  return bits38 >> (38 - larger_log2);
}

// ---- why a put finds no slot: slots that views hold in 32 bits, sessions that are awaited in 32 -------------------------------

constexpr uint64_t shortage_word(uint32_t sessions_awaited, uint32_t slots_held) noexcept {
  return uint64_t{sessions_awaited} << 32 | slots_held;
}
constexpr uint32_t sessions_awaited_of(uint64_t shortage) noexcept { return static_cast<uint32_t>(shortage >> 32); }
constexpr uint32_t slots_held_of(uint64_t shortage) noexcept { return static_cast<uint32_t>(shortage); }

// ---- touch: sequence of the record in the low 48 bits, kind in the high 16
// ------------------------------------------------------

constexpr uint64_t touch_word(uint64_t put_sequence, uint16_t kind) noexcept { return put_sequence | uint64_t{kind} << 48; }
constexpr uint16_t touch_kind(uint64_t word) noexcept { return static_cast<uint16_t>(word >> 48); }

// ---- feed entry -------------------------------------------------------------------------------------------------------------

enum class ChangeKind : uint16_t { put = 1, replace = 2, remove = 3, update = 4, move = 5 };

constexpr uint64_t feed_change_word(uint64_t sequence, ChangeKind kind) noexcept {
  return sequence | uint64_t{static_cast<uint16_t>(kind)} << 48;
}
constexpr uint64_t feed_place_word(uint32_t slot, uint64_t position) noexcept {
  return uint64_t{slot} | (position & 0xFFFF'FFFFU) << 32;
}

// ---- feed id word: where an entry's id begins, in units of the ring of ids, 53; its bytes 11
// ------------------------------------

constexpr uint64_t kFeedUnitEnd = uint64_t{1} << 53;  // units are compared modulo this
constexpr uint64_t kFeedUnitStart = kFeedUnitEnd - 4;  // every run sees the wrap, of the units and of the ring

constexpr uint64_t feed_id_word(uint64_t unit, uint32_t bytes) noexcept { return unit << 11 | bytes; }
constexpr uint64_t feed_id_unit(uint64_t word) noexcept { return word >> 11; }
constexpr uint32_t feed_id_bytes(uint64_t word) noexcept { return static_cast<uint32_t>(word & 0x7FFU); }
constexpr uint64_t feed_id_units(uint32_t bytes) noexcept { return (bytes + kFeedIdUnitBytes - 1) / kFeedIdUnitBytes; }
constexpr uint64_t feed_id_offset(uint64_t unit, uint32_t ids_log2) noexcept {
  return unit * kFeedIdUnitBytes & ((uint64_t{1} << ids_log2) - 1);
}
// Whether an id that begins at `unit` is still whole when ids may be written up to `end`.
constexpr bool feed_id_whole(uint64_t unit, uint64_t end, uint32_t ids_log2) noexcept {
  return ((end - unit) & (kFeedUnitEnd - 1)) <= (uint64_t{1} << ids_log2) / kFeedIdUnitBytes;
}

}  // namespace warmtier::layout
