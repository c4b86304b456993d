// What the demo's processes tell each other: one shared anonymous map, made before the first fork. It is the demo's own book of
// what was acknowledged, kept outside the store so that the store can be held against it.
#pragma once

#include <array>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>

#include "base/fd.hpp"
#include "tools/demo_queries.hpp"

namespace warmtier::tools {

constexpr uint32_t kWriters = 2;
constexpr uint32_t kReaders = 3;
constexpr uint32_t kHeldViews = 64;   // by each reader, across the restart
constexpr uint32_t kVictimIds = 8;    // on which the clients that are killed write
constexpr size_t kFailureBytes = 400;

// Times of single calls; one process writes, the demo reads. Sixteen steps in each power of two: 6 % wide.
class Histogram {
 public:
  void add(uint64_t ns) noexcept {
    auto& count = counts_[step_of(ns)];
    count.store(count.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
  }
  void add_all(const Histogram& other) noexcept {
    for (size_t i = 0; i < kSteps; ++i) {
      counts_[i].store(counts_[i].load(std::memory_order_relaxed) + other.counts_[i].load(std::memory_order_relaxed),
                       std::memory_order_relaxed);
    }
  }
  [[nodiscard]] uint64_t count() const noexcept {
    uint64_t sum = 0;
    for (const auto& count : counts_) sum += count.load(std::memory_order_relaxed);
    return sum;
  }
  // The upper end of the step in which this share of the calls is reached.
  [[nodiscard]] uint64_t quantile_ns(double share) const noexcept {
    const auto wanted = static_cast<uint64_t>(static_cast<double>(count()) * share);
    uint64_t sum = 0;
    for (size_t i = 0; i < kSteps; ++i) {
      sum += counts_[i].load(std::memory_order_relaxed);
      if (sum > wanted) return end_of(i);
    }
    return end_of(kSteps - 1);
  }

 private:
  static constexpr size_t kInPower = 16;
  static constexpr size_t kSteps = 40 * kInPower;  // up to about eighteen minutes

  static size_t step_of(uint64_t ns) noexcept {
    if (ns < kInPower) return static_cast<size_t>(ns);
    const auto power = static_cast<size_t>(std::bit_width(ns)) - 5;  // 16 to 31 is power 0
    const size_t step = (power + 1) * kInPower + static_cast<size_t>((ns >> power) - kInPower);
    return step < kSteps ? step : kSteps - 1;
  }
  static uint64_t end_of(size_t step) noexcept {
    if (step < kInPower) return step;
    return ((step % kInPower) + kInPower + 1) << (step / kInPower - 1);
  }

  std::array<std::atomic<uint64_t>, kSteps> counts_{};
};

// One process's own lines: it writes, the demo reads.
struct alignas(64) ClientRow {
  std::atomic<uint64_t> operations{0};  // puts acknowledged; gets checked
  std::atomic<uint64_t> retries{0};     // puts asked again after BUSY, UNAVAILABLE or UNKNOWN
  std::atomic<uint64_t> longest_ns{0};
  std::atomic<uint64_t> ended_ns{0};    // when a writer had put its last
  std::atomic<uint32_t> done{0};
  std::atomic<uint32_t> failed{0};  // 1: `failure` says what did not hold
  char failure[kFailureBytes] = {};
  Histogram times;
};

struct HeldView {
  std::atomic<uint32_t> index{0};  // of the gloss
};

struct ReaderBook {
  std::atomic<uint32_t> held{0};            // views taken so far
  std::atomic<uint32_t> checks_wanted{0};   // the demo adds
  std::atomic<uint32_t> checks_done{0};     // the reader follows
  std::atomic<uint32_t> seen_current{0};    // at the last check
  std::atomic<uint32_t> seen_replaced{0};
  std::atomic<uint32_t> seen_stale{0};
  std::array<HeldView, kHeldViews> views;
};

struct VictimBook {
  std::atomic<uint64_t> next{1};                              // version of the next put
  std::atomic<uint64_t> puts{0};                              // acknowledged in all
  std::array<std::atomic<uint64_t>, kVictimIds> acknowledged{};  // last version acknowledged, per id
  std::atomic<uint32_t> ready{0};                             // first put of this victim is acknowledged
};

// Numbers of the daemon as a short-lived client read them.
struct StatusBook {
  std::atomic<uint32_t> io_backend{0};
  std::atomic<uint64_t> records, segments, content_bytes_total, slots_allocated, slots_waiting, slots_held, sequence, sessions,
      lane_repairs, lanes_fenced, pins_voided, sessions_ended, checkpoints, requests_recovered, bad_requests, damaged_records;
};

// What a short-lived client found for the queries.
struct RecallBook {
  std::array<std::atomic<uint32_t>, kQueries.size()> rank{};  // of the expected gloss, from 1; 0: not among the first kQueryLimit
  std::array<std::atomic<uint64_t>, kQueries.size()> ns{};
  std::atomic<uint64_t> scanned{0};
  char kernel[16] = {};
};

// One number of every gloss's bytes in the store; the same in any order and in any language.
struct ChecksumBook {
  std::atomic<uint64_t> records{0};
  std::atomic<uint64_t> sum{0};
};

// How far each writer is: writer w puts the glosses w, w + kWriters, w + 2 * kWriters.. and these were acknowledged.
using Acknowledged = std::array<uint64_t, kWriters>;

struct Board {
  std::atomic<uint32_t> stop{0};  // readers end
  std::array<std::atomic<uint64_t>, kWriters> acknowledged{};
  std::array<ClientRow, kWriters> writers;
  std::array<ClientRow, kReaders> readers;
  std::array<ReaderBook, kReaders> books;
  ClientRow helper;  // short-lived clients, one at a time
  VictimBook victim;
  StatusBook status;
  RecallBook recall;
  ChecksumBook checksum;

  uint32_t glosses = 0;
  std::atomic<uint64_t>* sequences = nullptr;  // per gloss, behind the board: of its last acknowledged put; 0: none yet
};

inline Acknowledged acknowledged_now(const Board& board) noexcept {
  Acknowledged now{};
  for (uint32_t w = 0; w < kWriters; ++w) now[w] = board.acknowledged[w].load(std::memory_order_acquire);
  return now;
}
inline uint64_t total_of(const Acknowledged& acknowledged) noexcept {
  uint64_t sum = 0;
  for (const uint64_t n : acknowledged) sum += n;
  return sum;
}

// Shared by the forks of this process, for its life. Null when there is no memory.
Board* make_board(uint32_t glosses);

}  // namespace warmtier::tools
