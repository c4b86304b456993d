// One record as it was read from its line and its segment, and the one function that says what it shows: views, copies, scalars,
// items of a walk and hits of a recall have it from here.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>

#include "layout/layout.hpp"
#include "libclient/attachment.hpp"
#include "libclient/segments.hpp"
#include "warmtier/warmtier.h"

namespace warmtier::libclient {

enum class Presence { found, absent };

struct FreeBytes {
  void operator()(std::byte* bytes) const noexcept { std::free(bytes); }
};
using OwnedBytes = std::unique_ptr<std::byte, FreeBytes>;

// What a line says, each word by the access that the layout names.
struct Line {
  uint64_t put = 0;  // the word
  uint64_t locator = 0;
  uint64_t created_ns = 0;
  uint64_t last_access_ns = 0;
  layout::Quad quad{};
  uint32_t content_bytes = 0;
  uint32_t checksum = 0;
};

// Valid as long as its reader is inside (client.hpp), but for what it owns.
struct Record {
  uint32_t slot = 0;
  uint32_t pin_cell = 0;  // of a record that was read for a view
  Line line;
  layout::RecordHeader header{};  // a private copy, held against the line and the segment
  const std::byte* id = nullptr;  // header.id_bytes bytes; the content comes right behind them
  const std::byte* embedding = nullptr;
  const SegmentMap* segment = nullptr;
  uint64_t segment_number = 0;
  OwnedBytes owned;  // where bytes had to be copied: id and content, and the embedding before them if it was copied too

  [[nodiscard]] bool content_absent() const noexcept { return (header.flags & layout::kRecordContentAbsent) != 0; }
  [[nodiscard]] const std::byte* content() const noexcept { return id + header.id_bytes; }
};

inline const layout::SlotLine& line_at(const Attachment& a, uint32_t slot) noexcept {
  return *reinterpret_cast<const layout::SlotLine*>(a.tier + a.geometry.line_offset(slot));
}
// Lines and rows of slots from here on may not be there.
inline uint64_t allocated_slots(const Attachment& a) noexcept {
  return std::min(layout::load_acquire(a.status->slots_allocated), a.geometry.capacity);
}
inline const std::byte* row_at(const Attachment& a, uint32_t slot) noexcept { return a.tier + a.geometry.row_offset(slot); }

// The fields that every struct has that shows a record, under the same names.
template <typename Shown>
inline void show(const Record& record, Shown& ret_shown) noexcept {
  ret_shown.content_state = record.content_absent() ? WARM_CONTENT_ABSENT : WARM_CONTENT_PRESENT;
  ret_shown.content_bytes = record.header.stored_bytes;
  ret_shown.sequence = layout::sequence_of(record.line.put);
  ret_shown.created_ns = record.line.created_ns;
  ret_shown.last_access_ns = record.line.last_access_ns;
  ret_shown.confidence = record.line.quad.confidence;
  ret_shown.activation = record.line.quad.activation;
  ret_shown.decay_rate = record.line.quad.decay_rate;
  ret_shown.recall_count = record.line.quad.recall_count;
}

// Whether header and id are what the header's checksum says.
bool header_intact(const Record& record) noexcept;
// Whether id, embedding and content are what their checksums say. The record holds still: it is pinned, or its bytes are copies.
bool intact(const Attachment& a, const Record& record) noexcept;

}  // namespace warmtier::libclient
