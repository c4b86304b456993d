// A checkpoint: everything up to a sequence C onto the device, then a superblock that says so. Runs beside requests as a chain
// of asynchronous operations; step() looks for completions.
//
//   idle --begin(C)--> syncing segments, directory, tier --all done--> superblock stored, its page syncing --done--> idle, D = C
//
// An error stops it for good: durability is not acknowledged any more, and the next start must read the device.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "base/error.hpp"
#include "daemon/io/io.hpp"
#include "daemon/store/segments.hpp"
#include "daemon/store/tier.hpp"

namespace warmtier::daemon::store {

class Checkpoint {
 public:
  Checkpoint(io::Io& io, Tier& tier, SegmentTable& segments, int content_directory)
      : io_(io), tier_(tier), segments_(segments), content_directory_(content_directory) {}

  // Chunks whose bytes changed since they were last synced.
  void mark_dirty(uint32_t slot) {
    const uint64_t chunk = slot / layout::kSlotsPerChunk;
    if (chunk >= dirty_.size()) dirty_.resize(chunk + 1);
    dirty_[chunk] = 1;
  }

  // `superblock` is what will be written, with C, but for its checksum. Nothing may be running.
  void begin(const layout::Superblock& superblock);
  [[nodiscard]] bool running() const { return state_ != State::idle; }
  // Looks for completions. True when a checkpoint has just ended well.
  bool step();
  // Submits what did not fit into the queue, and sleeps until something completes: for stop and recovery.
  base::Status finish();

  [[nodiscard]] const layout::Superblock& written() const { return superblock_; }
  // Chunks that the last one synced: their pages are clean now, and the next store to each meets a fault.
  struct Chunks {
    uint64_t first;
    uint64_t end;
  };
  [[nodiscard]] const std::vector<Chunks>& synced_chunks() const { return synced_chunks_; }
  [[nodiscard]] const std::optional<base::Error>& error() const { return error_; }

 private:
  enum class State : uint8_t { idle, data, superblock };
  void collect();
  void submit_some();
  void store_superblock();
  void fail(const char* what, int64_t result);

  io::Io& io_;
  Tier& tier_;
  SegmentTable& segments_;
  const int content_directory_;
  std::vector<uint8_t> dirty_;
  State state_ = State::idle;
  layout::Superblock superblock_{};
  std::vector<io::Operation> queue_;  // not submitted yet
  std::vector<std::pair<uint64_t, uint64_t>> synced_;  // segment number -> tail when it was handed in
  std::vector<Chunks> synced_chunks_;
  std::vector<uint64_t> entries_;                      // segments whose directory entry this checkpoint syncs
  size_t outstanding_ = 0;
  uint64_t token_ = 0;
  std::optional<base::Error> error_;
};

}  // namespace warmtier::daemon::store
