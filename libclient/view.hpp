// Views: records that a caller holds. A pinned one shows the daemon's own bytes; one that was copied shows its own and has a cell
// whose pin is 0, so that both are counted, checked and released alike.
#pragma once

#include <cstdint>

#include "libclient/lookup.hpp"
#include "warmtier/warmtier.h"

namespace warmtier::libclient {

constexpr uint64_t kViewMagic = 0x5749'4557'4D52'4157;  // not 0, for any stamp

// What warm_view.internal holds.
enum Internal : unsigned { kOrigin, kLinkId, kCell, kSerial, kStateId, kPutWord };

inline uint64_t origin_of(const ClientState& state) noexcept { return kViewMagic ^ state.stamp; }

// The record becomes a view: the last pin cell of the magazine is the view's from here on. Inside: who wants to unmap the segment
// looks at the twins when this thread is outside.
inline void become_view(const ClientState& state, ThreadRecord& me, const Attachment& a, Record& record,
                        warm_view& ret_view) noexcept {
  const uint32_t cell = me.magazine[--me.cells];
  ViewTwin& twin = a.link->pins.twin(cell);
  twin.segment.store(record.owned == nullptr ? reinterpret_cast<uintptr_t>(record.segment) : 0, std::memory_order_relaxed);
  twin.owned = record.owned.release();
  show(record, ret_view);
  ret_view.id = record.id;
  ret_view.id_bytes = record.header.id_bytes;
  ret_view.embedding = reinterpret_cast<const float*>(record.embedding);
  ret_view.dimensions = a.geometry.dimensions;
  ret_view.content = record.content_absent() ? nullptr : record.content();
  ret_view.internal[kOrigin] = origin_of(state);
  ret_view.internal[kLinkId] = a.link->id;
  ret_view.internal[kCell] = cell;
  ret_view.internal[kSerial] = ++twin.serial;
  ret_view.internal[kStateId] = state.id;
  ret_view.internal[kPutWord] = record.line.put;
}

// Whether it would be lost if it were filled again. Outside.
bool holds_record(ClientState& state, const warm_view& view) noexcept;

// A found record as the flags want it: `found`, or why it does not become a view. Inside, the thread's link being a's.
inline Lookup view_of(ClientState& state, ThreadRecord& me, const Attachment& a, InPlace& source, uint32_t flags, Record& record,
                      warm_view& ret_view) noexcept {
  if (__builtin_expect((flags & WARM_VERIFY) != 0, 0) && !intact(a, record)) {
    // Under a pin nothing moves, unless a later daemon did not take the pin over.
    const bool current = source.current(a);
    unpin<Want::view>(a, record);
    return current ? Lookup::corrupt : Lookup::reattach;
  }
  become_view(state, me, a, record, ret_view);
  return Lookup::found;
}
Lookup view_of(ClientState& state, ThreadRecord& me, const Attachment& a, ThroughKernel& source, uint32_t flags, Record& record,
               warm_view& ret_view) noexcept;

// For who finds records by other ways than their ids; both inside (client.hpp), the thread's link being a's, and with the
// verdicts of examine_slot (lookup.hpp); what cannot be decided inside goes to overcome().
// A view of a slot's record, if it still is the one that `put` (the word) made; `absent` if not.
Lookup view_slot(ClientState& state, ThreadRecord& me, const Attachment& a, uint32_t slot, uint64_t put, uint32_t flags,
                 Record& ret_record, warm_view& ret_view);
// The facts of what the slot holds, without a pin: line and id; content and embedding may be anything by the time they are read.
Lookup read_slot(ClientState& state, ThreadRecord& me, const Attachment& a, uint32_t slot, Record& ret_record);

}  // namespace warmtier::libclient
