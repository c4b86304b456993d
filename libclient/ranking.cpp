#include "libclient/ranking.hpp"

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <cstring>

#include "layout/limits.hpp"

namespace warmtier::libclient {
namespace {

constexpr double kNsPerDay = 86'400e9;
constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kUnknown = std::numeric_limits<float>::quiet_NaN();
// Squares below this have lost bits to underflow; lengths are not told from them.
constexpr float kSquareMin = 0x1p-100F;

// A float not above the value.
float round_down(double value) noexcept {
  if (value < -double{FLT_MAX}) return -kInfinity;
  if (value > double{FLT_MAX}) return FLT_MAX;
  return std::nextafter(std::nextafter(static_cast<float>(value), -kInfinity), -kInfinity);
}

base::Status check(const warm_query& query) {
  if (query.hit_bytes != sizeof(warm_hit)) {
    return base::fail(WARM_E_INVALID, "query->hit_bytes is %u, this library knows %zu: start with WARM_QUERY_INIT",
                      query.hit_bytes, sizeof(warm_hit));
  }
  if (std::any_of(std::begin(query.reserved), std::end(query.reserved), [](auto r) { return r != 0; }) || query.reserved32 != 0) {
    return base::fail(WARM_E_INVALID, "reserved fields of query are not zero");
  }
  if (query.metric > WARM_METRIC_L2) return base::fail(WARM_E_INVALID, "metric is %u, not one of WARM_METRIC_*", query.metric);
  if (query.scoring > WARM_SCORE_TIER) return base::fail(WARM_E_INVALID, "scoring is %u, not one of WARM_SCORE_*", query.scoring);
  if (query.flags != 0) return base::fail(WARM_E_INVALID, "flags has the unknown bits %#x; a recall knows none", query.flags);
  if (query.embedding == nullptr) return base::fail(WARM_E_INVALID, "query->embedding is NULL");
  if (query.limit == 0) return base::fail(WARM_E_INVALID, "limit is 0; 1 to %u are possible", WARM_RECALL_MAX);
  if (query.limit > WARM_RECALL_MAX) {
    return base::fail(WARM_E_LIMIT, "limit is %u; 1 to %u are possible", query.limit, WARM_RECALL_MAX);
  }
  if (std::isnan(query.threshold)) return base::fail(WARM_E_INVALID, "threshold is not a number");
  if (query.scoring != WARM_SCORE_TIER) return {};
  if (query.metric == WARM_METRIC_L2) {
    return base::fail(WARM_E_INVALID,
                      "WARM_SCORE_TIER weakens a similarity; of WARM_METRIC_L2, which is a distance, it makes none");
  }
  if (!std::isfinite(query.tier_factor) || query.tier_factor < 0) {
    return base::fail(WARM_E_INVALID, "tier_factor is %g; a finite number from 0 on is right", double{query.tier_factor});
  }
  if (!std::isfinite(query.half_life_days) || query.half_life_days <= 0) {
    return base::fail(WARM_E_INVALID, "half_life_days is %g; a finite number above 0 is right", double{query.half_life_days});
  }
  if (!std::isfinite(query.score_floor)) {
    return base::fail(WARM_E_INVALID, "score_floor is %g; a finite number is right", double{query.score_floor});
  }
  return {};
}

}  // namespace

base::Result<Query> Query::make(const warm_query& wanted, uint64_t now_ns) {
  if (auto ok = check(wanted); !ok) return base::pass(std::move(ok));
  auto filter = Filter::make(wanted.filter);
  if (!filter) return base::pass(std::move(filter));
  if (wanted.dimensions == 0 || wanted.dimensions > layout::kDimensionsMax) {
    return base::fail(WARM_E_INVALID, "the query has %u dimensions; 1 to %u are possible", wanted.dimensions,
                      layout::kDimensionsMax);
  }
  for (uint32_t i = 0; i < wanted.dimensions; ++i) {
    if (!std::isfinite(wanted.embedding[i])) {
      return base::fail(WARM_E_INVALID, "value %u of the query's embedding is %g; finite numbers are right", i,
                        double{wanted.embedding[i]});
    }
  }
  Query query;
  query.metric_ = wanted.metric;
  query.scoring_ = wanted.scoring;
  query.dimensions_ = wanted.dimensions;
  query.limit_ = wanted.limit;
  query.flags_ = wanted.flags;
  query.floats_ = (wanted.dimensions + vector::kFloatsPerStep - 1) / vector::kFloatsPerStep * vector::kFloatsPerStep;
  query.threshold_ = wanted.threshold <= -FLT_MAX ? kNoScore : double{wanted.threshold};
  query.tier_factor_ = double{wanted.tier_factor};
  query.half_life_days_ = double{wanted.half_life_days};
  query.score_floor_ = double{wanted.score_floor};
  query.now_ns_ = wanted.now_ns == 0 ? now_ns : wanted.now_ns;
  query.filter_ = std::move(*filter);
  const size_t bytes = query.floats_ * sizeof(float);
  for (Floats* floats : {&query.exact_, &query.ranked_}) {
    floats->reset(static_cast<float*>(::operator new(bytes, std::align_val_t{vector::kAlignment})));
    std::memset(floats->get(), 0, bytes);
    std::memcpy(floats->get(), wanted.embedding, wanted.dimensions * sizeof(float));
  }
  const float* exact = query.exact_.get();
  query.length_ = std::sqrt(vector::kernels().dot(exact, exact, query.floats_));
  if (query.by_distance()) {
    query.error_ = static_cast<float>(2 * vector::distance_error(query.floats_) + 8 * vector::kFloatUnit);
    return query;
  }
  if (query.length_ > 0) {
    for (uint32_t i = 0; i < query.dimensions_; ++i) {
      query.ranked_.get()[i] = static_cast<float>(double{exact[i]} / query.length_);
    }
  }
  // The product of the kernel, the rounding of the query to length 1, and half as much again for the row's own length.
  query.error_ = static_cast<float>(2 * vector::product_error(query.floats_) + 16 * vector::kFloatUnit);
  return query;
}

// Here and in bounds(): no branches, only what a compiler turns into vectors.
void Lengths::set(const float* squares, size_t n) noexcept {
  for (size_t i = 0; i < n; ++i) {
    length[i] = squares[i] >= kSquareMin && squares[i] <= FLT_MAX ? std::sqrt(squares[i]) : kUnknown;
    inverse[i] = 1 / length[i];
  }
}

void Query::bounds(const float* pairs, const Lengths& lengths, size_t n, float* ret_bounds) const noexcept {
  if (by_distance()) {
    const auto underflow = static_cast<float>(2 * vector::underflow_error(floats_));
    for (size_t i = 0; i < n; ++i) {
      const float least = pairs[i] * (1 - error_) - underflow;
      ret_bounds[i] = pairs[i] <= FLT_MAX ? -least : kUnknown;
    }
  } else if (metric_ == WARM_METRIC_COSINE) {
    for (size_t i = 0; i < n; ++i) ret_bounds[i] = pairs[i] * lengths.inverse[i] + error_;
  } else {
    for (size_t i = 0; i < n; ++i) ret_bounds[i] = pairs[i] + lengths.length[i] * error_;
  }
}

float Query::bar(double score) const noexcept {
  if (score == kNoScore) return -kInfinity;
  double similarity = score;
  if (scoring_ == WARM_SCORE_TIER) {
    if (score <= score_floor_) return -kInfinity;  // the floor lifts everybody to it
    // Age only takes away from a positive similarity; it may lift a negative one up to 0.
    if (score <= 0) return -kInfinity;
    if (tier_factor_ == 0) return kInfinity;
    similarity = score / tier_factor_ * (1 - 0x1p-40);
  }
  if (metric_ == WARM_METRIC_L2) return similarity > 0 ? kInfinity : round_down(-(similarity * similarity) * (1 + 0x1p-40));
  if (metric_ == WARM_METRIC_DOT && length_ > 0) {
    similarity /= length_;
    similarity -= std::fabs(similarity) * 0x1p-40;
  }
  return round_down(similarity);
}

double Query::similarity(const float* row) const noexcept {
  const vector::Kernels& kernels = vector::kernels();
  const float* query = exact_.get();
  if (metric_ == WARM_METRIC_L2) {
    const double square = kernels.squared_distance(query, row, floats_);
    return square == 0 ? 0 : -std::sqrt(square);
  }
  const double product = kernels.dot(query, row, floats_);
  if (metric_ == WARM_METRIC_DOT) return product;
  const double lengths = length_ * std::sqrt(kernels.dot(row, row, floats_));
  if (lengths == 0) return 0;
  const double cosine = product / lengths;
  return cosine > 1 ? 1 : cosine < -1 ? -1 : cosine;
}

double Query::score(const float* row, uint64_t created_ns) const noexcept {
  const double value = similarity(row);
  if (scoring_ == WARM_SCORE_SIMILARITY) return value + 0.0;  // -0 and 0 are one score
  const double days = now_ns_ > created_ns ? static_cast<double>(now_ns_ - created_ns) / kNsPerDay : 0;
  const double aged = value * tier_factor_ * std::exp2(-days / half_life_days_);
  return aged < score_floor_ ? score_floor_ : aged;
}

// ---- Ranking ------------------------------------------------------------------------------------------------------------------

namespace {

void know(Candidate& candidate, Ids& ids) {
  if (candidate.id_known) return;
  candidate.id_known = true;
  if (!ids.read(candidate.slot, candidate.put, candidate.id)) candidate.id.clear();
}

}  // namespace

bool before(Candidate& a, Candidate& b, Ids& ids) {
  if (a.score != b.score) return a.score > b.score;
  if (a.slot == b.slot && a.put == b.put) return false;
  know(a, ids);
  know(b, ids);
  if (a.id.empty() || b.id.empty()) return !a.id.empty();  // what is gone stands last
  if (a.id != b.id) return a.id < b.id;
  return layout::sequence_of(a.put) > layout::sequence_of(b.put);
}

void Ranking::offer(Candidate candidate, Ids& ids) {
  const auto better = [&ids](Candidate& a, Candidate& b) { return before(a, b, ids); };
  if (full()) {
    ceiling_ = std::max(ceiling_, candidates_.front().score);
    if (!before(candidate, candidates_.front(), ids)) return;
    std::pop_heap(candidates_.begin(), candidates_.end(), better);
    candidates_.pop_back();
  }
  candidates_.push_back(std::move(candidate));
  std::push_heap(candidates_.begin(), candidates_.end(), better);
  if (full()) ceiling_ = std::max(ceiling_, candidates_.front().score);
}

void Ranking::heap_anew(Ids& ids) {
  std::make_heap(candidates_.begin(), candidates_.end(), [&ids](Candidate& a, Candidate& b) { return before(a, b, ids); });
}

void Ranking::merge(Ranking&& other, Ids& ids) {
  ceiling_ = std::max(ceiling_, other.ceiling_);
  for (Candidate& candidate : other.candidates_) offer(std::move(candidate), ids);
  other.candidates_.clear();
}

}  // namespace warmtier::libclient
