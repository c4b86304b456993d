#include "libclient/cells.hpp"

#include <algorithm>
#include <bit>

#include "base/failpoint.hpp"
#include "libclient/futex.hpp"

namespace warmtier::libclient {

ResultCells::ResultCells(const layout::ResultCell* cells) noexcept : cells_(cells) {
  for (auto& word : free_) word.store(~uint64_t{0}, std::memory_order_relaxed);
}

std::optional<uint32_t> ResultCells::try_claim(uint32_t thread_number) noexcept {
  if (quarantined_.load(std::memory_order_relaxed) != 0) free_late_ones();
  const uint32_t preferred = thread_number * 16 + thread_number / 16;
  for (uint32_t i = 0; i < kWords; ++i) {
    const uint32_t index = (preferred / 64 + i) % kWords;
    uint64_t seen = free_[index].load(std::memory_order_relaxed);
    while (seen != 0) {
      const uint64_t mine = uint64_t{1} << preferred % 64;
      const uint64_t bit = i == 0 && (seen & mine) != 0 ? mine : seen & (~seen + 1);
      if (free_[index].compare_exchange_weak(seen, seen & ~bit, std::memory_order_acquire, std::memory_order_relaxed)) {
        return index * 64 + static_cast<uint32_t>(std::countr_zero(bit));
      }
    }
  }
  return std::nullopt;
}

std::optional<uint32_t> ResultCells::claim(uint32_t thread_number, const base::Deadline& deadline) noexcept {
  for (;;) {
    if (auto cell = try_claim(thread_number)) return cell;
    const uint32_t seen = freed_.load(std::memory_order_acquire);
    waiting_.fetch_add(1);
    auto cell = try_claim(thread_number);
    // A late result frees a quarantined cell without a wake: look again now and then.
    if (!cell) futex_wait_private(&freed_, seen, std::min<uint64_t>(deadline.left_ns(), 5 * base::kNsPerMs));
    waiting_.fetch_sub(1);
    if (cell) return cell;
    if (deadline.passed()) return std::nullopt;
  }
}

uint64_t ResultCells::next_ticket(uint32_t cell) noexcept {
  const uint64_t carried = WARM_RULE("client.tickets_above_the_cell") ? layout::load_acquire(cells_[cell].number) : 0;
  ticket_[cell] = std::max(ticket_[cell], carried) + 1;
  return ticket_[cell];
}

void ResultCells::release(uint32_t cell) noexcept {
  free_[cell / 64].fetch_or(uint64_t{1} << cell % 64);
  if (waiting_.load() != 0) {
    freed_.fetch_add(1);
    futex_wake_private(&freed_);
  }
}

void ResultCells::quarantine(uint32_t cell) noexcept {
  given_up_[cell].store(true, std::memory_order_release);
  quarantined_.fetch_add(1);
}

bool ResultCells::any_open() const noexcept {
  for (uint32_t word = 0; word < kWords; ++word) {
    for (uint64_t taken = ~free_[word].load(std::memory_order_acquire); taken != 0; taken &= taken - 1) {
      const uint32_t cell = word * 64 + static_cast<uint32_t>(std::countr_zero(taken));
      if (!given_up_[cell].load(std::memory_order_acquire)) return true;
    }
  }
  return false;
}

void ResultCells::free_late_ones() noexcept {
  for (uint32_t cell = 0; cell < layout::kCellsPerSession; ++cell) {
    if (!given_up_[cell].load(std::memory_order_acquire)) continue;
    if (layout::load_acquire(cells_[cell].number) < ticket_[cell]) continue;
    if (!given_up_[cell].exchange(false)) continue;
    quarantined_.fetch_sub(1);
    release(cell);
  }
}

}  // namespace warmtier::libclient
