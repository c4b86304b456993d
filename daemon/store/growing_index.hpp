// The index while it grows: the table that readers look at and, during a doubling, the larger one that is filled home by home
// beside it. A change goes into both as far as the larger one has been filled.
//
// Thread law: the store thread.
//
// Invariants: those of index.hpp, 2 and 3, and
//  1. The larger table answers only after its descriptor is on its way to every session; the smaller one is never written again.
//  2. A table whose chain is full during a doubling is discarded, and one of twice its size is asked for.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <utility>

#include "base/error.hpp"
#include "daemon/store/index.hpp"
#include "daemon/store/store.hpp"
#include "daemon/store/tier.hpp"

namespace warmtier::daemon::store {

class GrowingIndex {
 public:
  using Publish = std::function<void(int index_fd, uint32_t homes_log2, uint64_t generation)>;

  // The cells of one change: the old table decides, the new one follows while a doubling runs.
  struct Cells {
    IndexTable::Place old_place;
    std::optional<IndexTable::Place> new_place;
  };

  GrowingIndex(IndexTable table, uint64_t hash_seed, Tier& tier, Published& published, layout::StatusPage& status)
      : table_(std::move(table)), hash_seed_(hash_seed), tier_(tier), published_(published), status_(status) {}

  // Chooses a generation that is not the one of the last life, and publishes table and generation for who is greeted.
  base::Status start();
  void open_generation();
  void set_publisher(Publish publish) { publish_index_ = std::move(publish); }

  // The one that decides.
  [[nodiscard]] const IndexTable& table() const { return table_; }
  // While a doubling runs: the larger one, and its homes below the cursor are filled.
  [[nodiscard]] const IndexTable* larger() const { return doubling_ ? &doubling_->table : nullptr; }
  [[nodiscard]] uint64_t cursor() const { return doubling_ ? doubling_->cursor : 0; }

  // Of an entry that is there.
  [[nodiscard]] Cells cells_of(uint64_t hash, const IndexTable::Place& place, uint32_t slot) const;
  // Empty ones for a new entry. nullopt: none within reach; grow_now() helps.
  std::optional<Cells> reserve(uint64_t hash);
  void insert(Cells cells, uint64_t hash, uint32_t slot);
  void replace(Cells cells, uint64_t hash, uint32_t slot);
  void remove(const Cells& cells);

  // The smallest table that is wanted now, for give(); nullopt: none.
  [[nodiscard]] std::optional<uint32_t> wanted_homes_log2() const;
  void give(IndexTable table);
  // When there is a larger table and enough load.
  void begin_doubling_if_due();
  // `homes` more of the one that runs, which may end by it. False: none runs.
  bool advance(uint32_t homes) {
    if (!doubling_) return false;
    advance_doubling(homes);
    return true;
  }
  // A whole doubling: rare, for a new entry that finds no cell within reach.
  base::Status grow_now();

 private:
  struct Doubling {
    IndexTable table;
    uint64_t cursor = 0;
  };
  [[nodiscard]] uint32_t next_homes_log2() const;
  static bool writes_old(Cells& cells);
  void begin_doubling();
  void advance_doubling(uint32_t homes);
  void complete_doubling();

  IndexTable table_;
  std::optional<Doubling> doubling_;
  std::optional<IndexTable> next_;  // for the next doubling
  uint32_t homes_log2_wanted_ = 0;  // after a discarded table; else 0
  uint64_t generation_ = 0;
  const uint64_t hash_seed_;
  Tier& tier_;
  Published& published_;
  layout::StatusPage& status_;
  Publish publish_index_;
};

}  // namespace warmtier::daemon::store
