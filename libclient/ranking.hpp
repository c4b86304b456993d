// What a recall ranks by: a query made ready, its scores, and the best records so far. No shared memory but rows that are handed
// in.
//
// Rows are ranked by the float kernels of vector/, each with a bound above its true similarity; what the bound lets pass is
// scored in double, and only that counts. So the order is the exact one, and a row whose sums leave the range of floats (or
// whose length is too small for them) is let pass and scored in double, where nothing overflows.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <new>
#include <string>
#include <vector>

#include "base/error.hpp"
#include "libclient/filter.hpp"
#include "vector/kernels.hpp"
#include "warmtier/warmtier.h"

namespace warmtier::libclient {

// Higher is better; a double that is no score: never NaN elsewhere.
constexpr double kNoScore = -std::numeric_limits<double>::infinity();

constexpr size_t kRowsAtOnce = 32;  // that are ranked

// The lengths of some rows, for all queries that go by products. NaN: out of the range in which floats tell them.
struct Lengths {
  void set(const float* squares, size_t n) noexcept;
  float length[kRowsAtOnce];
  float inverse[kRowsAtOnce];
};

class Query {
 public:
  // Checks everything but the dimensions of the store. WARM_E_INVALID, WARM_E_LIMIT.
  static base::Result<Query> make(const warm_query& wanted, uint64_t now_ns);

  [[nodiscard]] uint32_t dimensions() const noexcept { return dimensions_; }
  [[nodiscard]] uint32_t limit() const noexcept { return limit_; }
  [[nodiscard]] double threshold() const noexcept { return threshold_; }
  [[nodiscard]] uint32_t flags() const noexcept { return flags_; }
  [[nodiscard]] const Filter& filter() const noexcept { return filter_; }
  // By distances (vector/), not by products.
  [[nodiscard]] bool by_distance() const noexcept { return metric_ == WARM_METRIC_L2; }
  // What the float kernels take for it.
  [[nodiscard]] const float* ranked_by() const noexcept { return ranked_.get(); }

  // For each of `n` rows a number above which its similarity is not, on the scale of bar(); NaN: the floats do not say.
  // `lengths`: where it goes by products.
  void bounds(const float* pairs, const Lengths& lengths, size_t n, float* ret_bounds) const noexcept;
  // The least bound of a row that may have this score.
  [[nodiscard]] float bar(double score) const noexcept;
  // In double. NaN: the row's bytes are no numbers.
  [[nodiscard]] double score(const float* row, uint64_t created_ns) const noexcept;

 private:
  struct Free {
    void operator()(float* floats) const noexcept { ::operator delete(floats, std::align_val_t{vector::kAlignment}); }
  };
  using Floats = std::unique_ptr<float, Free>;

  [[nodiscard]] double similarity(const float* row) const noexcept;

  uint32_t metric_ = 0;
  uint32_t scoring_ = 0;
  uint32_t dimensions_ = 0;
  uint32_t limit_ = 0;
  uint32_t flags_ = 0;
  size_t floats_ = 0;
  Floats exact_;   // as it was given
  Floats ranked_;  // of length 1 for products, so that only rows can leave the range of floats
  double length_ = 0;
  float error_ = 0;  // of a bound, in units of the row's length (products) or relative (distances)
  double threshold_ = kNoScore;
  double tier_factor_ = 1;
  double half_life_days_ = 1;
  double score_floor_ = 0;
  uint64_t now_ns_ = 0;
  Filter filter_;
};

struct Candidate {
  double score = kNoScore;
  uint64_t put = 0;  // the word: which record of the slot
  uint32_t slot = 0;
  bool id_known = false;
  std::string id;  // where equal scores had to be told apart; empty though known: it could not be read, the record is gone
};

// Whoever can tell the id of a record; false: it is not in the slot any more.
class Ids {
 public:
  virtual bool read(uint32_t slot, uint64_t put, std::string& ret_id) = 0;

 protected:
  ~Ids() = default;
};

// The best candidates so far, more than the query wants.
//
// Invariants
//  1. At most `capacity` candidates.
//  2. Whatever was refused or dropped for want of room has a score of at most ceiling().
class Ranking {
 public:
  explicit Ranking(size_t capacity) : capacity_(capacity) {}

  [[nodiscard]] bool full() const noexcept { return candidates_.size() == capacity_; }
  // Only a score of at least this much can get in.
  [[nodiscard]] double entry() const noexcept { return full() ? candidates_.front().score : kNoScore; }
  [[nodiscard]] double ceiling() const noexcept { return ceiling_; }
  [[nodiscard]] const std::vector<Candidate>& candidates() const noexcept { return candidates_; }
  void offer(Candidate candidate, Ids& ids);
  // Drops those of which `gone` says yes.
  template <typename Gone>
  void drop(const Gone& gone, Ids& ids) {
    if (std::erase_if(candidates_, gone) > 0) heap_anew(ids);
  }
  // Takes in what another thread ranked.
  void merge(Ranking&& other, Ids& ids);
  [[nodiscard]] std::vector<Candidate> take() noexcept { return std::move(candidates_); }

 private:
  void heap_anew(Ids& ids);
  size_t capacity_;
  double ceiling_ = kNoScore;
  std::vector<Candidate> candidates_;  // a heap: the worst one first
};

// Whether `a` stands before `b`: a higher score, then the smaller id. Reads ids where scores are equal.
bool before(Candidate& a, Candidate& b, Ids& ids);

}  // namespace warmtier::libclient
