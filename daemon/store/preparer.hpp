// Prepares space ahead of the store thread: allocates chunks and segments, populates their pages and those of slots that may
// be used again, makes larger index tables. It touches no word that counts: what it hands back becomes part of the store only
// when the store thread takes it.
//
// Thread law: one thread of its own; order() and take() belong to the store thread. Lock: `mutex_` (private, a leaf).
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <variant>
#include <vector>

#include "base/error.hpp"
#include "base/fd.hpp"
#include "daemon/store/index.hpp"
#include "daemon/store/segments.hpp"
#include "daemon/store/tier.hpp"

namespace warmtier::daemon::store {

struct ChunkJob {  // allocate and populate chunk `chunk` of the tier
  uint64_t chunk = 0;
};
struct SlotsJob {  // populate the rows and lines of slots that grace has freed
  std::vector<uint32_t> slots;
};
struct LinesJob {  // populate the lines of chunks that a checkpoint has just cleaned
  uint64_t first_chunk = 0;
  uint64_t end_chunk = 0;
};
struct SegmentJob {  // make the spare segment
  uint64_t number = 0;
  uint64_t bytes = 0;
  uint64_t populate_bytes = 0;
};
struct TailJob {  // populate more of the active segment
  uint64_t number = 0;
  std::byte* from = nullptr;
  uint64_t bytes = 0;
};
struct TableJob {  // make an index table
  uint32_t homes_log2 = 0;
};
using Job = std::variant<ChunkJob, SlotsJob, LinesJob, SegmentJob, TailJob, TableJob>;

struct Prepared {
  Job job;
  base::Status status;
  std::unique_ptr<Segment> segment;   // of a SegmentJob
  std::optional<IndexTable> table;    // of a TableJob
};

class Preparer {
 public:
  struct World {
    const Tier* tier = nullptr;
    int content_directory = -1;
    uint8_t store_id[16] = {};
    uint64_t hash_seed = 0;
    bool large_pages = false;
  };
  static base::Result<std::unique_ptr<Preparer>> start(const World& world);
  ~Preparer();  // drops what waits, awaits what runs

  void order(Job job);
  // Whether take() would find something; asks for no lock.
  [[nodiscard]] bool any_done() const noexcept { return done_count_.load(std::memory_order_acquire) != 0; }
  bool take(Prepared& ret_prepared);
  [[nodiscard]] int event_fd() const noexcept { return event_.get(); }
  void clear_event() noexcept;

 private:
  explicit Preparer(const World& world) : world_(world) {}
  void run();
  Prepared carry_out(Job job);

  const World world_;
  base::Fd event_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<Job> jobs_;
  std::deque<Prepared> done_;
  std::atomic<size_t> done_count_{0};
  bool stop_ = false;
  std::thread thread_;
};

}  // namespace warmtier::daemon::store
