// Recall: the best records by their embeddings. The columns are scanned at the speed of memory, without a pin and without the
// index; what changes meanwhile is taken from the feed; what is returned is asked for by its id at the end (protocol, Q).
//
// The library has no threads: any number of the caller's may work on one scan, each taking the next chunk that nobody has taken.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "libclient/client.hpp"
#include "libclient/ranking.hpp"
#include "warmtier/warmtier.h"

namespace warmtier::libclient {

// Thread law: work() by any threads at once; everything else by one thread while nobody works.
class Scan {
 public:
  static base::Result<std::unique_ptr<Scan>> open(ClientState& state, const warm_query* wanted, size_t count);
  ~Scan();
  Scan(const Scan&) = delete;
  Scan& operator=(const Scan&) = delete;

  // Returns when no chunk is left to take.
  base::Status work();
  // Does what is left to do. Hits of query i lie behind those that the queries before it may have; all are the caller's to
  // release.
  base::Status finish(warm_hit* ret_hits, size_t* ret_counts, warm_recall_info* ret_info);

 private:
  // One way over all columns, of one daemon.
  struct Pass {
    std::shared_ptr<Connection> connection;
    const std::byte* tier = nullptr;
    layout::Geometry geometry;
    uint64_t chunks = 0;
    std::atomic<uint64_t> next_chunk{0};
    std::atomic<bool> over{false};  // the daemon changed under way, or a share was lost: all of it is of no use

    std::mutex mutex;  // of what follows
    uint64_t position = 0;         // in the feed: changes below it are in `named`
    bool overtaken = false;        // the feed lost changes before they were read
    std::vector<uint32_t> named;   // slots to score when the scan is over
    size_t named_sorted = 0;       // of these, in order and each once
    std::vector<Ranking> rankings;  // of each query, of threads that are done
    uint64_t scanned = 0;
    uint64_t matched = 0;
    uint64_t damaged = 0;
    std::atomic<uint64_t> changes{0};  // as `position`, for a look without the lock
    std::atomic<uint64_t> latest_death{0};  // the sequence of the latest death that was met

    void meet(uint64_t death) noexcept {
      uint64_t known = latest_death.load(std::memory_order_relaxed);
      while (death > known && !latest_death.compare_exchange_weak(known, death, std::memory_order_relaxed)) {
      }
    }
  };
  class Worker;
  class Reader;
  class HeldView;
  struct Item;
  struct Outcome;

  Scan(ClientState& state, std::vector<Query> queries);
  base::Status begin(Patience& patience);
  void follow(Pass& pass);
  base::Status settle(Patience& patience, bool& ret_again);
  base::Status score_named(Patience& patience, const std::vector<uint32_t>& named, bool& ret_more);
  base::Status resolve(size_t query, Patience& patience, Outcome& outcome);
  [[nodiscard]] size_t capacity_of(const Query& query) const noexcept;

  ClientState& state_;
  const std::vector<Query> queries_;
  std::vector<size_t> by_product_;   // queries by what their kernel is
  std::vector<size_t> by_distance_;
  bool filtered_ = false;            // not every query takes every record
  bool needs_records_ = false;       // a filter asks for what the line does not say
  uint32_t widened_ = 1;             // times as many candidates beyond the limit as at first
  std::unique_ptr<Pass> pass_;
  uint64_t rescored_ = 0;
};

}  // namespace warmtier::libclient
