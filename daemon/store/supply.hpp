// What the preparing thread is asked for and what becomes of what it hands back: chunks, populated slots, the spare segment, more
// of the active one, a larger index table. Decides ahead, by what is left, and remembers what could not be had.
//
// Thread law: the store thread.
//
// Invariants
//  1. Of each kind one order is under way at most.
//  2. A chunk's slots are free only when it was allocated; a slot in a job is in no list of Slots.
//  3. After a failure nothing is ordered again before kAllocationRetryNs: a full disk is asked ten times a second.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "base/error.hpp"
#include "daemon/store/checkpoint.hpp"
#include "daemon/store/content.hpp"
#include "daemon/store/growing_index.hpp"
#include "daemon/store/preparer.hpp"
#include "daemon/store/slots.hpp"
#include "daemon/store/store.hpp"
#include "daemon/store/tier.hpp"

namespace warmtier::daemon::store {

class Supply {
 public:
  Supply(const Options& options, std::unique_ptr<Preparer> preparer, Tier& tier, Slots& slots, Content& content,
         GrowingIndex& index, layout::StatusPage& status)
      : options_(options),
        preparer_(std::move(preparer)),
        tier_(tier),
        slots_(slots),
        content_(content),
        index_(index),
        status_(status) {}

  [[nodiscard]] int event_fd() const { return preparer_->event_fd(); }
  void clear_event() { preparer_->clear_event(); }

  // What is ready becomes part of the store. True when something came: a request that waited may go on.
  bool take() { return preparer_->any_done() && take_done(); }
  // Whatever is short and not under way.
  void order();
  // A put found no free slot. False: no more can be had now.
  bool order_chunk(uint64_t now_ns);
  // A put found no spare segment. False: none can be had now, and segment_refusal() says why.
  bool order_segment();
  [[nodiscard]] int32_t segment_refusal() const { return allocation_failed_ns_ != 0 ? allocation_failed_code_ : WARM_E_FULL; }
  // A checkpoint has cleaned the pages of these chunks: what puts will probably write of them is prepared anew.
  void checkpoint_ended(const std::vector<Checkpoint::Chunks>& chunks);

  [[nodiscard]] bool slots_under_way() const { return slots_in_job_ > 0 || chunk_ordered_; }
  [[nodiscard]] size_t slots_in_job() const { return slots_in_job_; }

 private:
  bool take_done();
  void note_failure(const Prepared& prepared);
  void note_success(const Job& job);
  [[nodiscard]] bool can_grow() const { return tier_.chunks() < tier_.geometry().chunks_max(); }
  [[nodiscard]] uint64_t slack() const { return tier_.slots() - status_.records; }

  const Options& options_;
  const std::unique_ptr<Preparer> preparer_;
  Tier& tier_;
  Slots& slots_;
  Content& content_;
  GrowingIndex& index_;
  layout::StatusPage& status_;

  // How much of something there was in the interval between two checkpoints: in the present one, or in the last, or half of what
  // this was before.
  class OfLate {
   public:
    [[nodiscard]] uint64_t count(uint64_t total) const { return std::max(late_, total - before_); }
    void interval_ended(uint64_t total) {
      late_ = std::max(total - before_, late_ / 2);
      before_ = total;
    }

   private:
    uint64_t before_ = 0;  // the total when this interval began
    uint64_t late_ = 0;
  };
  [[nodiscard]] size_t wanted_prepared() const;

  OfLate taken_;  // slots
  OfLate changes_;  // of records, touches among them: each writes a line at least
  bool filling_ = false;  // from half of what is wanted prepared up to all of it: a burst shorter than that has the processors
  bool chunk_ordered_ = false;
  size_t slots_in_job_ = 0;
  bool spare_ordered_ = false;
  std::optional<uint64_t> tail_ordered_;  // number of the segment; one that is not active any more does not count
  bool table_ordered_ = false;
  uint64_t allocation_failed_ns_ = 0;  // of a chunk or a segment; 0: the last one could be had
  int32_t allocation_failed_code_ = WARM_E_FULL;
  uint64_t table_failed_ns_ = 0;
};

}  // namespace warmtier::daemon::store
