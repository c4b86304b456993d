// The index: id hash -> slot, in fixed cells. An id never changes its cell while it is present; the table doubles home by home
// while it runs. Readers map it and follow docs/protocol.md; only the store thread writes.
//
// Invariants
//  1. An entry lies at most kIndexDistanceMax buckets behind its home, and its home's bit of that distance is set.
//  2. While a doubling runs, entries of homes below the cursor stand in both tables, all others in the old one only.
//  3. The cursor moves between operations only.
#pragma once

#include <cstdint>
#include <optional>

#include "base/error.hpp"
#include "base/fd.hpp"
#include "base/mapping.hpp"
#include "layout/layout.hpp"

namespace warmtier::daemon::store {

// One table in a memfd.
class IndexTable {
 public:
  // Populated; any thread.
  static base::Result<IndexTable> make(uint32_t homes_log2, uint64_t hash_seed);

  struct Place {
    uint64_t bucket = 0;
    uint32_t cell = 0;
    uint32_t distance = 0;
  };

  [[nodiscard]] int fd() const noexcept { return fd_.get(); }
  [[nodiscard]] uint32_t homes_log2() const noexcept { return homes_log2_; }
  [[nodiscard]] uint64_t homes() const noexcept { return uint64_t{1} << homes_log2_; }
  [[nodiscard]] uint64_t used() const noexcept { return used_; }
  [[nodiscard]] uint64_t cells() const noexcept { return homes() * layout::kIndexCells; }
  [[nodiscard]] layout::Bucket& bucket(uint64_t i) const noexcept { return buckets_[i]; }
  void prefetch(uint64_t hash) const noexcept { layout::prefetch(&buckets_[layout::home_of_hash(hash, homes_log2_)]); }

  // Visits every entry of a home: visit(place, cell) -> true to stop.
  template <typename Visit>
  bool for_each_of_home(uint64_t home, Visit&& visit) const {
    uint64_t distances = buckets_[home].distances << 1 | 1;
    while (distances != 0) {
      const auto d = static_cast<uint32_t>(__builtin_ctzll(distances));
      distances &= distances - 1;
      const layout::Bucket& b = buckets_[home + d];
      for (uint32_t c = 0; c < layout::kIndexCells; ++c) {
        const uint64_t cell = b.cells[c];
        if (static_cast<uint32_t>(cell) != 0 && layout::cell_distance(cell) == d && visit(Place{home + d, c, d}, cell))
          return true;
      }
    }
    return false;
  }

  // Every entry: visit(home, cell).
  template <typename Visit>
  void for_each(Visit&& visit) const {
    for (uint64_t i = 0; i < layout::index_buckets(homes_log2_); ++i) {
      for (const uint64_t cell : buckets_[i].cells) {
        if (static_cast<uint32_t>(cell) != 0) visit(i - layout::cell_distance(cell), cell);
      }
    }
  }
  void check_invariants() const;  // the first, and the count of entries

  // The first empty cell from home on; nullopt: none within kIndexDistanceMax.
  [[nodiscard]] std::optional<Place> find_empty(uint64_t home) const noexcept;
  [[nodiscard]] std::optional<Place> find_slot(uint64_t home, uint32_t tag, uint32_t slot) const noexcept;
  void insert(const Place& place, uint32_t slot, uint32_t tag) noexcept;   // the distance's bit first
  void replace(const Place& place, uint32_t slot, uint32_t tag) noexcept;  // one store in the same cell
  void remove(const Place& place) noexcept;                                // the distance's bit last, if nothing else needs it
  // Copies a home's entries into a larger table; reads no record. False: no room there within kIndexDistanceMax.
  [[nodiscard]] bool copy_home_to(uint64_t home, IndexTable& larger) const noexcept;
  // Seals it for readers; this map stays writable.
  base::Status publish() const;

 private:
  base::Fd fd_;
  base::WriteMapping map_;
  layout::Bucket* buckets_ = nullptr;
  uint32_t homes_log2_ = 0;
  uint64_t used_ = 0;
};

uint32_t homes_log2_for(uint64_t records) noexcept;  // the smallest table below the load at which it would double

}  // namespace warmtier::daemon::store
