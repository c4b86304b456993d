// A channel's results file (channels/N.state): executed numbers, session table, result cells. Only the daemon writes it, clients
// map it read-only, and it outlives the daemon.
//
// Thread law: made by any thread before the store thread knows it; afterwards the store thread alone stores to it, but
// prepare_session() of an entry without a tenant, which its maker calls.
//
// Invariants
//  1. The space of a word is allocated before it is stored to: a full disk cannot signal.
//  2. A result is complete before its number; the number stands before done.
//  3. A new tenant's entry is complete before its number, the number before its state. A cell's number never falls.
#pragma once

#include <cstdint>
#include <string>

#include "base/error.hpp"
#include "base/failpoint.hpp"
#include "base/fd.hpp"
#include "base/mapping.hpp"
#include "layout/layout.hpp"

namespace warmtier::daemon::session {

// Whose processes share the channel.
struct ChannelKey {
  uint32_t uid = 0;
  uint64_t namespace_device = 0;
  uint64_t namespace_inode = 0;
  bool operator==(const ChannelKey&) const = default;
};

struct StoreIdentity {
  uint8_t store_id[16] = {};
  uint8_t boot_id[16] = {};
  base::InodeId pid_namespace;  // this daemon's, in which it sees its clients; zeros: not known
};

class Results {
 public:
  // A file under a name of its own until publish(); its header lacks number and magic.
  static base::Result<Results> create(int directory, const StoreIdentity& store, const ChannelKey& key, uint32_t lanes,
                                      const base::InodeId& lanes_memfd);
  // An earlier daemon's file, header validated. WARM_E_INVALID: of no use to this store or boot.
  static base::Result<Results> open(int directory, const std::string& name, const StoreIdentity& store);

  // Gives it its number, magic and name.
  base::Status publish(int directory, uint64_t channel);
  void unlink(int directory) noexcept;
  // Allocates and initialises the cells of an entry that has no tenant.
  base::Status prepare_session(uint32_t index);

  [[nodiscard]] layout::ResultsHeader& header() const noexcept { return *reinterpret_cast<layout::ResultsHeader*>(map_.data()); }
  [[nodiscard]] layout::DoneLine& done_line(uint32_t lane) const noexcept {
    return reinterpret_cast<layout::DoneLine*>(map_.data() + sizeof(layout::ResultsHeader))[lane];
  }
  [[nodiscard]] layout::SessionEntry& entry(uint32_t index) const noexcept { return entries_[index]; }
  [[nodiscard]] layout::ResultCell& cell(uint32_t index, uint32_t cell) const noexcept {
    return cells_[uint64_t{index} * layout::kCellsPerSession + cell];
  }
  [[nodiscard]] int fd() const noexcept { return fd_.get(); }
  [[nodiscard]] uint32_t lanes() const noexcept { return lanes_; }
  [[nodiscard]] ChannelKey key() const noexcept {
    return {.uid = header().uid, .namespace_device = header().namespace_device, .namespace_inode = header().namespace_inode};
  }

 private:
  base::Status map();

  base::Fd fd_;
  std::string name_;
  base::WriteMapping map_;
  uint32_t lanes_ = 0;
  layout::SessionEntry* entries_ = nullptr;
  layout::ResultCell* cells_ = nullptr;
};

// Whether somebody has the entry, whether it was accepted yet or not.
inline bool has_tenant(const layout::SessionEntry& entry) noexcept {
  const uint32_t state = layout::load_acquire(entry.state);
  return state == static_cast<uint32_t>(layout::SessionState::live) ||
         state == static_cast<uint32_t>(layout::SessionState::offered);
}

// "12.state"; 0 for another name.
std::string results_name(uint64_t channel);
uint64_t channel_of_results_name(const std::string& name);
// What an unpublished file is called; one that is found at a start is left over.
constexpr const char* kNewResultsPrefix = "new-";

// Stores a result, its number last (invariant 2), and nothing else.
inline void store_result(layout::ResultCell& cell, uint64_t ticket, int32_t status, uint64_t sequence, uint32_t slot,
                         uint64_t limit) noexcept {
  const bool number_last = WARM_RULE("daemon.number_last");
  if (!number_last) layout::store_release(cell.number, ticket);
  WARM_FAILPOINT("daemon.result.begun");
  __atomic_store_n(&cell.status, status, __ATOMIC_RELAXED);
  layout::store_relaxed(cell.sequence, sequence);
  layout::store_relaxed(cell.slot, slot);
  layout::store_relaxed(cell.limit, limit);
  WARM_FAILPOINT("daemon.result.stored");
  if (number_last) layout::store_release(cell.number, ticket);
}

}  // namespace warmtier::daemon::session
