// How far the store is on the device (D), when the next checkpoint begins and what its superblock says; the first I/O error.
//
// Thread law: the store thread.
//
// Invariants
//  1. D rises only when a checkpoint has ended well; what it names was handed to the device before (checkpoint.hpp).
//  2. After an I/O error D stands still, and no checkpoint begins.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "base/error.hpp"
#include "daemon/io/io.hpp"
#include "daemon/store/checkpoint.hpp"
#include "daemon/store/segments.hpp"
#include "daemon/store/tier.hpp"
#include "daemon/store/witness.hpp"

namespace warmtier::daemon::store {

class Durability {
 public:
  // `superblock`: the last one written. Everything is dirty: what an earlier life left unsynced is not known.
  Durability(io::Io& io, Tier& tier, SegmentTable& segments, int content_directory, const layout::Superblock& superblock,
             const Witness& witness, uint64_t interval_ns);

  // From here on it is counted and shown there; a recovery's own checkpoint is not.
  void show_in(layout::StatusPage& status) { status_ = &status; }

  [[nodiscard]] uint64_t durable() const { return superblock_.checkpoint_sequence; }  // D
  [[nodiscard]] const std::optional<base::Error>& io_error() const { return io_error_; }

  void mark_dirty(uint32_t slot) { checkpoint_.mark_dirty(slot); }
  // A change without a sequence, in a slot that is marked.
  void touched() { touched_ = true; }
  // A checkpoint soon.
  void request() { requested_ = true; }
  [[nodiscard]] bool requested() const { return requested_; }

  [[nodiscard]] bool running() const { return checkpoint_.running(); }
  void begin(uint64_t last_sequence, bool clean);
  // Looks for completions. True when a checkpoint has just ended well.
  bool step() { return checkpoint_.running() && step_running(); }
  // Awaits the one that runs.
  base::Status finish();
  // Chunks whose pages the last one has cleaned.
  [[nodiscard]] const std::vector<Checkpoint::Chunks>& synced_chunks() const { return checkpoint_.synced_chunks(); }

  // Begins one when it is time. `more`: one would help although there is no later change. `hurry`: puts wait for slots that one
  // would free. False: there is nothing to do for one.
  bool begin_if_due(uint64_t last_sequence, bool more, bool hurry);
  // When begin_if_due() wants to be called without anything having changed; UINT64_MAX: never.
  [[nodiscard]] uint64_t due_at_ns() const;

 private:
  bool step_running();
  void ended();

  Tier& tier_;
  Checkpoint checkpoint_;
  layout::Superblock superblock_;  // the last one written
  const Witness& witness_;
  const uint64_t interval_ns_;
  layout::StatusPage* status_ = nullptr;
  std::optional<base::Error> io_error_;
  bool requested_ = false;
  bool touched_ = false;  // since the last one began
  uint64_t dirty_since_ns_ = 0;  // 0: not known to be
};

}  // namespace warmtier::daemon::store
