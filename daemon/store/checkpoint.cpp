#include "daemon/store/checkpoint.hpp"

#include <array>

#include "base/failpoint.hpp"
#include "base/probe.hpp"
#include "layout/record.hpp"

namespace warmtier::daemon::store {
namespace {

constexpr uint64_t kSyncBytesMax = uint64_t{1} << 30;  // of one range operation
constexpr size_t kTierRangesMax = 32;                  // each costs a device flush: nearer ones are joined beyond that

using Range = Checkpoint::Chunks;

// Dirty chunks as at most kTierRangesMax ranges: the smallest gaps are synced too.
std::vector<Range> ranges_of(std::vector<uint8_t>& dirty) {
  std::vector<Range> ranges;
  for (uint64_t i = 0; i < dirty.size(); ++i) {
    if (dirty[i] == 0) continue;
    dirty[i] = 0;
    if (!ranges.empty() && ranges.back().end == i) {
      ++ranges.back().end;
    } else {
      ranges.push_back({i, i + 1});
    }
  }
  for (uint64_t gap = 1; ranges.size() > kTierRangesMax; gap *= 2) {
    std::vector<Range> joined;
    for (const Range& r : ranges) {
      if (!joined.empty() && r.first - joined.back().end <= gap) {
        joined.back().end = r.end;
      } else {
        joined.push_back(r);
      }
    }
    ranges = std::move(joined);
  }
  return ranges;
}

}  // namespace

void Checkpoint::begin(const layout::Superblock& superblock) {
  superblock_ = superblock;
  state_ = State::data;
  WARM_PROBE(checkpoint_begin, superblock_.checkpoint_sequence);
  WARM_FAILPOINT("store.checkpoint_begun");
  collect();
  submit_some();
}

void Checkpoint::collect() {
  auto range = [&](int fd, uint64_t offset, std::span<const std::byte> mapped) {
    while (!mapped.empty()) {
      const size_t n = mapped.size() < kSyncBytesMax ? mapped.size() : kSyncBytesMax;
      queue_.push_back(io::Operation::sync_range(++token_, fd, offset, mapped.first(n)));
      mapped = mapped.subspan(n);
      offset += n;
    }
  };
  synced_.clear();
  entries_.clear();
  segments_.for_each([&](Segment& segment) {
    if (!segment.entry_synced) entries_.push_back(segment.number);
    if (segment.tail <= segment.synced) return;
    const uint64_t from = segment.synced / layout::kPageBytes * layout::kPageBytes;
    range(segment.fd.get(), from, {segment.at(from), segment.tail - from});
    synced_.emplace_back(segment.number, segment.tail);
  });
  if (!entries_.empty()) queue_.push_back(io::Operation::sync_directory(++token_, content_directory_));
  // The control page goes along: the numbers on it are never behind the superblock's.
  range(tier_.fd(), layout::kControlPageOffset, tier_.mapped(layout::kControlPageOffset, layout::kPageBytes));
  synced_chunks_ = ranges_of(dirty_);
  for (const Range& r : synced_chunks_) {
    const uint64_t offset = tier_.geometry().chunk_offset(r.first);
    range(tier_.fd(), offset, tier_.mapped(offset, (r.end - r.first) * tier_.geometry().chunk_bytes));
  }
}

void Checkpoint::submit_some() {
  while (!queue_.empty() && io_.in_flight() < io::kInFlightMax / 2) {
    if (auto status = io_.submit(queue_.back()); !status) {
      if (status.error().code == WARM_E_BUSY) return;
      error_ = std::move(status).error();
      queue_.clear();
      return;
    }
    queue_.pop_back();
    ++outstanding_;
  }
}

void Checkpoint::fail(const char* what, int64_t result) {
  if (!error_) error_ = base::fail_errno(static_cast<int>(-result), "checkpoint: %s", what).error();
  // Durable if the device still takes it: the next start must not believe the page cache.
  layout::store_release(tier_.control().numbers.device_recovery, 1);
}

void Checkpoint::store_superblock() {
  WARM_FAILPOINT("store.checkpoint_synced");
  const auto copy = static_cast<unsigned>(superblock_.epoch & 1);
  superblock_.checksum = layout::superblock_checksum(superblock_);
  layout::store_bytes(tier_.superblock_page(copy), &superblock_, sizeof superblock_);
  WARM_FAILPOINT("store.checkpoint_superblock_stored");
  queue_.push_back(io::Operation::sync_range(++token_, tier_.fd(), layout::kSuperblockOffsets[copy],
                                             tier_.mapped(layout::kSuperblockOffsets[copy], layout::kPageBytes)));
  submit_some();
}

bool Checkpoint::step() {
  if (state_ == State::idle) return false;
  std::array<io::Completion, 32> completions{};
  // Until there is none: the store thread has cleared the event, and what was left would wake nobody.
  for (;;) {
    submit_some();
    const size_t n = io_.reap(completions);
    if (n == 0) break;
    for (size_t i = 0; i < n; ++i) {
      --outstanding_;
      if (completions[i].result < 0)
        fail(state_ == State::data ? "sync of data" : "sync of the superblock", completions[i].result);
    }
    if (error_) queue_.clear();  // nothing more is asked for
  }
  if (outstanding_ > 0 || !queue_.empty()) return false;
  if (error_) {
    state_ = State::idle;
    WARM_PROBE(checkpoint_end, superblock_.checkpoint_sequence, error_->code);
    return false;
  }
  if (state_ == State::data) {
    for (const auto& [number, tail] : synced_) {
      if (Segment* segment = segments_.find(number); segment != nullptr) segment->synced = tail;
    }
    for (uint64_t number : entries_) {
      if (Segment* segment = segments_.find(number); segment != nullptr) segment->entry_synced = true;
    }
    state_ = State::superblock;
    store_superblock();
    return false;
  }
  state_ = State::idle;
  WARM_PROBE(checkpoint_end, superblock_.checkpoint_sequence, WARM_OK);
  WARM_FAILPOINT("store.checkpoint_durable");
  return true;
}

base::Status Checkpoint::finish() {
  while (running()) {
    if (step()) break;
    if (!running()) break;
    if (io_.in_flight() == 0) continue;
    if (auto status = io_.wait(base::Deadline::never()); !status) return status;
  }
  if (error_) return std::unexpected(*error_);
  return {};
}

}  // namespace warmtier::daemon::store
