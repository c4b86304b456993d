#include "daemon/store/supply.hpp"

#include <algorithm>
#include <cstdio>
#include <variant>

#include "base/clock.hpp"

namespace warmtier::daemon::store {
namespace {

constexpr size_t kSlotsPerJob = 1024;
constexpr size_t kQuietShare = 8;  // of Options::prepared_slots, prepared whatever was taken of late
constexpr uint64_t kPreparedPerUsed = 8;
constexpr uint64_t kLinePagesPerChunk = layout::kSlotsPerChunk * sizeof(layout::SlotLine) / layout::kPageBytes;
constexpr uint64_t kTailJobBytes = uint64_t{1} << 20;
constexpr uint64_t kAllocationRetryNs = 100 * base::kNsPerMs;

// `failed_ns` 0: nothing failed.
bool may_try(uint64_t failed_ns) { return failed_ns == 0 || base::monotonic_ns() - failed_ns > kAllocationRetryNs; }

}  // namespace

void Supply::note_failure(const Prepared& prepared) {
  const bool table = std::holds_alternative<TableJob>(prepared.job);
  const bool first = (table ? table_failed_ns_ : allocation_failed_ns_) == 0;
  if (first) std::fprintf(stderr, "<3>store: cannot prepare space: %s\n", prepared.status.error().text.c_str());
  if (table) {
    table_failed_ns_ = base::monotonic_ns();  // no reason to refuse a put
  } else if (!std::holds_alternative<TailJob>(prepared.job)) {
    allocation_failed_ns_ = base::monotonic_ns();
    allocation_failed_code_ = prepared.status.error().code;
  }
}

void Supply::note_success(const Job& job) {
  if (std::holds_alternative<ChunkJob>(job) || std::holds_alternative<SegmentJob>(job)) allocation_failed_ns_ = 0;
  if (std::holds_alternative<TableJob>(job)) table_failed_ns_ = 0;
}

bool Supply::take_done() {
  Prepared prepared;
  bool any = false;
  while (preparer_->take(prepared)) {
    any = true;
    if (!prepared.status) {
      note_failure(prepared);
    } else {
      note_success(prepared.job);
    }
    if (auto* chunk = std::get_if<ChunkJob>(&prepared.job)) {
      chunk_ordered_ = false;
      if (!prepared.status) continue;
      const uint64_t first = chunk->chunk * layout::kSlotsPerChunk;
      tier_.set_chunks(chunk->chunk + 1);
      layout::store_release(status_.slots_allocated, tier_.slots());
      for (uint64_t slot = first; slot < tier_.slots(); ++slot) slots_.add_prepared(static_cast<uint32_t>(slot));
    } else if (auto* job = std::get_if<SlotsJob>(&prepared.job)) {
      slots_in_job_ -= job->slots.size();
      for (uint32_t slot : job->slots) slots_.add_prepared(slot);
    } else if (std::holds_alternative<SegmentJob>(prepared.job)) {
      spare_ordered_ = false;
      if (prepared.status) content_.give_spare(std::move(prepared.segment));
    } else if (auto* tail = std::get_if<TailJob>(&prepared.job)) {
      Segment* active = content_.active();
      if (active != nullptr && tail->number == active->number) {
        tail_ordered_.reset();
        active->populated += tail->bytes;
      }
    } else if (std::holds_alternative<TableJob>(prepared.job)) {
      table_ordered_ = false;
      if (prepared.status) index_.give(std::move(*prepared.table));
    }
  }
  return any;
}

void Supply::order() {
  const bool may_allocate = may_try(allocation_failed_ns_);
  if (may_allocate && !chunk_ordered_ && can_grow() && slack() < options_.prepared_slots) {
    chunk_ordered_ = true;
    preparer_->order(ChunkJob{tier_.chunks()});
  }
  const size_t wanted = wanted_prepared();
  if (slots_.prepared() < wanted / 2) filling_ = true;
  if (slots_.prepared() >= wanted) filling_ = false;
  if (filling_ && slots_in_job_ == 0 && slots_.unprepared() > 0) {
    const size_t missing = wanted - slots_.prepared();
    if (missing <= kSlotsPerJob) filling_ = false;  // what is taken meanwhile is not worth a job of its own
    SlotsJob job{slots_.take_unprepared(std::min(kSlotsPerJob, missing))};
    slots_in_job_ = job.slots.size();
    preparer_->order(std::move(job));
  }
  if (may_allocate && !content_.has_spare() && !spare_ordered_) {
    if (const auto number = content_.next_number()) {
      spare_ordered_ = true;
      preparer_->order(
          SegmentJob{.number = *number, .bytes = content_.segment_bytes(), .populate_bytes = options_.prepared_content_bytes});
    }
  }
  Segment* active = content_.active();
  if (active != nullptr && tail_ordered_ != active->number && active->populated < active->bytes &&
      active->tail + options_.prepared_content_bytes > active->populated) {
    const uint64_t from = std::max(active->populated, active->tail);
    active->populated = from;
    tail_ordered_ = active->number;
    preparer_->order(
        TailJob{.number = active->number, .from = active->at(from), .bytes = std::min(kTailJobBytes, active->bytes - from)});
  }
  if (!table_ordered_ && may_try(table_failed_ns_)) {
    if (const auto homes_log2 = index_.wanted_homes_log2()) {
      table_ordered_ = true;
      preparer_->order(TableJob{*homes_log2});
    }
  }
  index_.begin_doubling_if_due();
}

bool Supply::order_chunk(uint64_t now_ns) {
  if (!can_grow() || (allocation_failed_ns_ != 0 && now_ns - allocation_failed_ns_ < kAllocationRetryNs)) return false;
  chunk_ordered_ = true;
  preparer_->order(ChunkJob{tier_.chunks()});
  return true;
}

bool Supply::order_segment() {
  if (!spare_ordered_ && !may_try(allocation_failed_ns_)) return false;
  order();
  return spare_ordered_;  // else numbers are at their end
}

// What lies prepared is written to the device, used or not, by the next checkpoint of its chunk or by the kernel: not many times
// what was used of late.
size_t Supply::wanted_prepared() const {
  return std::clamp<uint64_t>(kPreparedPerUsed * taken_.count(slots_.taken()), options_.prepared_slots / kQuietShare,
                              options_.prepared_slots);
}

// The next store to each page would meet a fault of several microseconds. Which lines will be written is not known: all are
// populated, unless that is many times what the changes of late would have written by themselves.
void Supply::checkpoint_ended(const std::vector<Checkpoint::Chunks>& chunks) {
  taken_.interval_ended(slots_.taken());
  const uint64_t changes = layout::load_relaxed(status_.puts) + layout::load_relaxed(status_.removes) +
                           layout::load_relaxed(status_.updates) + layout::load_relaxed(status_.touches);
  changes_.interval_ended(changes);
  slots_.unprepare_all();
  uint64_t pages = 0;
  for (const Checkpoint::Chunks& c : chunks) pages += (c.end - c.first) * kLinePagesPerChunk;
  if (pages > kPreparedPerUsed * changes_.count(changes)) return;
  for (const Checkpoint::Chunks& c : chunks) preparer_->order(LinesJob{c.first, c.end});
}

}  // namespace warmtier::daemon::store
