// Result cells of one session: which of its 256 cells a request may use, and the tickets that rise in each.
//
// Thread law: any thread; a cell belongs to the thread that claimed it.
//
// Invariants
//  1. At most one open ticket a cell: a cell whose ticket was given up (the deadline came first) is not used again before that
//     ticket's late result is in. Else the daemon would drop the older of two open tickets.
//  2. Tickets of a cell rise, and start above what the cell carries from an earlier tenant.
#pragma once

#include <atomic>
#include <cstdint>
#include <optional>

#include "base/clock.hpp"
#include "layout/layout.hpp"

namespace warmtier::libclient {

class ResultCells {
 public:
  // `cells`: kCellsPerSession of them, mapped read-only.
  explicit ResultCells(const layout::ResultCell* cells) noexcept;

  // Waits for one until the deadline; nullopt then. Threads start at different cells, so that they do not share cache lines.
  std::optional<uint32_t> claim(uint32_t thread_number, const base::Deadline& deadline) noexcept;
  std::optional<uint32_t> try_claim(uint32_t thread_number) noexcept;
  uint64_t next_ticket(uint32_t cell) noexcept;
  void release(uint32_t cell) noexcept;
  void quarantine(uint32_t cell) noexcept;
  // Whether somebody has one, to ask in it or for its answer. Those whose tickets were given up are nobody's.
  [[nodiscard]] bool any_open() const noexcept;
  [[nodiscard]] const layout::ResultCell& cell(uint32_t cell) const noexcept { return cells_[cell]; }

 private:
  static constexpr uint32_t kWords = layout::kCellsPerSession / 64;
  void free_late_ones() noexcept;

  const layout::ResultCell* cells_;
  std::atomic<uint64_t> free_[kWords];  // bit set: the cell is free
  std::atomic<uint32_t> freed_{0};      // futex word, private: rises with each release while somebody waits
  std::atomic<uint32_t> waiting_{0};
  std::atomic<uint32_t> quarantined_{0};
  std::atomic<bool> given_up_[layout::kCellsPerSession]{};
  uint64_t ticket_[layout::kCellsPerSession]{};  // last one of the cell; written by its owner
};

}  // namespace warmtier::libclient
