#include "libclient/chunk.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <memory>

#include "libclient/view.hpp"

namespace warmtier::libclient {
namespace {

static_assert(WARM_CHUNK_ROWS == layout::kSlotsPerChunk);

// What warm_chunk.internal holds.
enum ChunkInternal : unsigned { kChunkOrigin, kChunkState, kChunkPuts, kChunkTier };
constexpr uint64_t kChunkMagic = 0x4B4E'4843'4D52'4157;  // not 0, for any stamp

// Runs `look` inside with an attachment whose generation holds when it is done.
template <typename Look>
base::Status look_at_current(ClientState& state, Look&& look) {
  ThreadRecord& me = state.thread();
  Patience patience(state.timeout_ns);
  state.notice_stop(me);
  for (;;) {
    {
      const Inside inside(state, me);
      const Attachment* a = state.attachment.load(std::memory_order_acquire);
      if (a != nullptr) {
        look(*a);
        if (a->current()) return {};
      }
    }
    if (auto ready = state.refresh(ClientState::Need::reads, patience.deadline()); !ready) return ready;
  }
}

uint64_t* puts_of(const warm_chunk& chunk) noexcept { return reinterpret_cast<uint64_t*>(chunk.internal[kChunkPuts]); }

base::Status check_owner(const ClientState& state, const warm_chunk& chunk) {
  if (chunk.internal[kChunkOrigin] == 0) return base::fail(WARM_E_INVALID, "the chunk was closed or never opened");
  if (chunk.internal[kChunkOrigin] != (kChunkMagic ^ state.stamp)) {
    return base::fail(WARM_E_STALE, "the chunk is from before a fork, or was never opened");
  }
  if (chunk.internal[kChunkState] != state.id) return base::fail(WARM_E_INVALID, "the chunk was opened by another client");
  return {};
}

bool is_live(const warm_chunk& chunk, uint32_t row) noexcept { return (chunk.live[row / 64] >> row % 64 & 1) != 0; }

bool holds(const Attachment& a, const warm_chunk& chunk, uint32_t row) noexcept {
  const layout::SlotLine& line = line_at(a, static_cast<uint32_t>(chunk.chunk * WARM_CHUNK_ROWS + row));
  const uint64_t put = puts_of(chunk)[row];
  return layout::load_acquire(line.put) == put && layout::live(put, layout::load_acquire(line.dead));
}

}  // namespace

base::Result<uint64_t> count_chunks(ClientState& state) {
  uint64_t slots = 0;
  if (auto looked = look_at_current(state, [&](const Attachment& a) { slots = allocated_slots(a); }); !looked) {
    return base::pass(std::move(looked));
  }
  return (slots + WARM_CHUNK_ROWS - 1) / WARM_CHUNK_ROWS;
}

base::Result<Presence> open_chunk(ClientState& state, uint64_t number, warm_chunk& ret_chunk) {
  auto puts = std::make_unique<uint64_t[]>(WARM_CHUNK_ROWS);
  warm_chunk chunk = WARM_CHUNK_INIT;
  auto looked = look_at_current(state, [&](const Attachment& a) {
    chunk = WARM_CHUNK_INIT;
    const uint64_t slots = allocated_slots(a);
    const uint64_t first = number * WARM_CHUNK_ROWS;
    if (number >= layout::kCapacityMax / WARM_CHUNK_ROWS + 1 || first >= slots) return;
    chunk.row_count = static_cast<uint32_t>(std::min<uint64_t>(slots - first, WARM_CHUNK_ROWS));
    chunk.chunk = number;
    chunk.dimensions = a.geometry.dimensions;
    chunk.row_bytes = a.geometry.row_bytes;
    chunk.rows = reinterpret_cast<const float*>(row_at(a, static_cast<uint32_t>(first)));
    chunk.internal[kChunkTier] = reinterpret_cast<uintptr_t>(a.tier);
    // A put above it has no cell yet, or what it replaces is not dead yet: two rows would hold one id.
    const uint64_t visible = layout::load_acquire(a.status->sequence);
    for (uint32_t row = 0; row < chunk.row_count; ++row) {
      const auto slot = static_cast<uint32_t>(first + row);
      const layout::SlotLine& line = line_at(a, slot);
      const uint64_t put = layout::load_acquire(line.put);
      puts[row] = 0;
      if (!layout::live(put, layout::load_acquire(line.dead)) || !layout::put_word_valid(put, slot)) continue;
      if (layout::sequence_of(put) > visible && WARM_RULE("client.chunk_rows_are_visible")) continue;
      puts[row] = put;
      chunk.live[row / 64] |= uint64_t{1} << row % 64;
      ++chunk.live_rows;
    }
  });
  if (!looked) return base::pass(std::move(looked));
  if (chunk.row_count == 0) return Presence::absent;
  chunk.internal[kChunkOrigin] = kChunkMagic ^ state.stamp;
  chunk.internal[kChunkState] = state.id;
  chunk.internal[kChunkPuts] = reinterpret_cast<uintptr_t>(puts.release());
  ret_chunk = chunk;
  state.lent.fetch_add(1, std::memory_order_relaxed);
  return Presence::found;
}

base::Status check_chunk(ClientState& state, warm_chunk& chunk) {
  if (auto own = check_owner(state, chunk); !own) return own;
  bool same_store = false;
  std::array<uint64_t, WARM_CHUNK_ROWS / 64> live{};
  uint32_t live_rows = 0;
  layout::fence_acquire();  // the rows were read before their lines are looked at again
  auto looked = look_at_current(state, [&](const Attachment& a) {
    same_store = reinterpret_cast<uintptr_t>(a.tier) == chunk.internal[kChunkTier];
    if (!same_store) return;
    live = {};
    live_rows = 0;
    for (uint32_t row = 0; row < chunk.row_count; ++row) {
      if (!is_live(chunk, row) || !holds(a, chunk, row)) continue;
      live[row / 64] |= uint64_t{1} << row % 64;
      ++live_rows;
    }
  });
  if (!looked) return looked;
  if (!same_store) return base::fail(WARM_E_STALE, "the chunk is of another store than the one that is served now");
  std::copy(live.begin(), live.end(), chunk.live);
  chunk.live_rows = live_rows;
  return {};
}

base::Result<Presence> view_in_chunk(ClientState& state, const warm_chunk& chunk, uint32_t row, warm_view& ret_view) {
  if (auto own = check_owner(state, chunk); !own) return base::pass(std::move(own));
  if (row >= chunk.row_count) return base::fail(WARM_E_INVALID, "row is %u; this chunk has %u rows", row, chunk.row_count);
  const uint64_t put = puts_of(chunk)[row];
  if (put == 0) return Presence::absent;
  ThreadRecord& me = state.thread();
  Patience patience(state.timeout_ns);
  Trouble trouble;
  for (;;) {
    Lookup verdict = Lookup::reattach;
    Record record;
    {
      const Inside inside(state, me);
      if (const Attachment* a = state.attachment.load(std::memory_order_acquire); a != nullptr) {
        if (reinterpret_cast<uintptr_t>(a->tier) != chunk.internal[kChunkTier]) {
          return base::fail(WARM_E_STALE, "the chunk is of another store than the one that is served now");
        }
        if (me.link != a->link) state.switch_link(me, *a->link);
        const auto slot = static_cast<uint32_t>(chunk.chunk * WARM_CHUNK_ROWS + row);
        verdict = view_slot(state, me, *a, slot, put, 0, record, ret_view);
      }
    }
    if (verdict == Lookup::found) return Presence::found;
    if (verdict == Lookup::absent) return Presence::absent;
    if (auto ready = overcome(state, verdict, nullptr, 0, record, patience, trouble); !ready) return base::pass(std::move(ready));
  }
}

base::Status close_chunk(ClientState& state, warm_chunk& chunk) {
  if (chunk.internal[kChunkOrigin] != (kChunkMagic ^ state.stamp)) return {};  // never opened, closed, or of before a fork
  if (auto own = check_owner(state, chunk); !own) return own;
  delete[] puts_of(chunk);
  std::memset(chunk.internal, 0, sizeof chunk.internal);
  chunk.rows = nullptr;
  state.lent.fetch_sub(1, std::memory_order_relaxed);
  return {};
}

}  // namespace warmtier::libclient
