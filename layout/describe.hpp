// The layout as data: docs/format.md's byte tables and the fingerprints of the handshake come from it, so that prose, wire and
// code cannot drift apart.
#pragma once

#include <array>
#include <cstdint>
#include <span>

#include "layout/control.hpp"

namespace warmtier::layout {

struct Field {
  const char* name;
  uint32_t offset;
  uint32_t bytes;
  const char* meaning;
};
struct Struct {
  const char* name;
  Region region;
  uint32_t bytes;
  std::span<const Field> fields;  // complete and in order: offsets and sizes add up to `bytes`
};

std::span<const Struct> all_structs() noexcept;
const char* region_name(Region region) noexcept;
// Changes whenever a field of the region's structs moves, grows or is renamed, or kFormatVersion changes.
std::array<uint64_t, kRegions> fingerprints() noexcept;

// A version of the protocol and what its hello says of each region.
struct Dialect {
  uint32_t protocol_version;
  std::array<uint64_t, kRegions> fingerprints;
};
// Those that a daemon of this source serves: its own first, then the one before it, whose fingerprints stay as numbers when the
// structs of its time are gone (protocol S2).
std::span<const Dialect> dialects() noexcept;

}  // namespace warmtier::layout
