// What a recall ranks by, without a store: bounds never below the truth, the order, and what was refused for want of room.
#include <criterion/criterion.h>

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <cstring>
#include <map>
#include <string>
#include <vector>

#include "libclient/ranking.hpp"
#include "tests/support/chance.hpp"

using namespace warmtier;
using namespace warmtier::libclient;

TestSuite(ranking, .timeout = 120);

namespace {

constexpr uint64_t kDayNs = 86'400'000'000'000;
constexpr uint64_t kNow = 20'000 * kDayNs;

warmtier::tests::support::Chance chance(7);

struct Row {
  alignas(64) float values[784]{};
};

warm_query query_of(const float* embedding, uint32_t dimensions, uint32_t metric, uint32_t limit = 10) {
  warm_query query = WARM_QUERY_INIT;
  query.embedding = embedding;
  query.dimensions = dimensions;
  query.metric = metric;
  query.limit = limit;
  query.now_ns = kNow;
  return query;
}
Query made(const warm_query& query) {
  auto query_made = Query::make(query, kNow);
  cr_assert(query_made.has_value(), "%s", query_made ? "" : query_made.error().text.c_str());
  return std::move(*query_made);
}

float bound_of(const Query& query, const Row& row, uint32_t dimensions) {
  const float* rows[] = {row.values};
  const float* queries[] = {query.ranked_by()};
  const vector::Batch batch{
      .rows = rows, .row_count = 1, .queries = queries, .query_count = 1, .floats = size_t{(dimensions + 15) / 16} * 16};
  float pair = 0;
  float square = 0;
  query.by_distance() ? vector::kernels().distances(batch, &pair) : vector::kernels().products(batch, &pair, &square);
  float bound = 0;
  Lengths lengths;
  lengths.set(&square, 1);
  query.bounds(&pair, lengths, 1, &bound);
  return bound;
}

// All kinds of rows: ordinary ones, near copies, huge, tiny, one-sided, zero.
void fill(float* values, uint32_t dimensions, uint64_t kind, const float* near_to) {
  for (uint32_t i = 0; i < dimensions; ++i) {
    switch (kind % 8) {
      case 0: values[i] = chance.in_unit(); break;
      case 1: values[i] = near_to == nullptr ? 1.0f : near_to[i]; break;
      case 2:
        values[i] = near_to == nullptr ? -1.0f : std::clamp(near_to[i] * (1 + chance.in_unit() * 1e-6f), -FLT_MAX, FLT_MAX);
        break;
      case 3: values[i] = chance.in_unit() * 3e38f; break;
      case 4: values[i] = chance.in_unit() * 1e-43f; break;
      case 5: values[i] = std::ldexp(chance.in_unit(), static_cast<int>(chance.below(270)) - 145); break;
      case 6: values[i] = i == chance.below(dimensions) ? FLT_MAX : 0.0f; break;
      default: values[i] = 0.0f;
    }
  }
}

struct Names final : Ids {
  std::map<uint32_t, std::string> names;
  size_t reads = 0;
  bool read(uint32_t slot, uint64_t, std::string& ret_id) override {
    ++reads;
    const auto at = names.find(slot);
    if (at == names.end()) return false;
    ret_id = at->second;
    return true;
  }
};

Candidate candidate(uint32_t slot, double score) {
  return {.score = score, .put = slot + 100, .slot = slot, .id_known = false, .id = {}};
}

}  // namespace

Test(ranking, no_row_is_held_to_be_worse_than_it_is) {
  for (const uint32_t dimensions : {1u, 15u, 16u, 17u, 767u, 768u}) {
    for (uint64_t round = 0; round < 400; ++round) {
      Row wanted;
      fill(wanted.values, dimensions, round, nullptr);
      Row row;
      fill(row.values, dimensions, round / 8, wanted.values);
      for (uint32_t metric = WARM_METRIC_COSINE; metric <= WARM_METRIC_L2; ++metric) {
        for (uint32_t scoring = WARM_SCORE_SIMILARITY; scoring <= WARM_SCORE_TIER; ++scoring) {
          if (metric == WARM_METRIC_L2 && scoring == WARM_SCORE_TIER) continue;
          warm_query plain = query_of(wanted.values, dimensions, metric);
          plain.scoring = scoring;
          plain.score_floor = round % 3 == 0 ? 0.01f : -2.0f;
          const Query query = made(plain);
          const double score = query.score(row.values, kNow - round * 10 * kDayNs);
          cr_assert_not(std::isnan(score));
          const float bound = bound_of(query, row, dimensions);
          cr_assert_not(bound < query.bar(score), "%u dimensions, metric %u, scoring %u, round %lu: score %g, bound %g, bar %g",
                        dimensions, metric, scoring, round, score, double{bound}, double{query.bar(score)});
        }
      }
    }
  }
}

Test(ranking, a_bound_is_close_to_the_truth_for_ordinary_rows) {
  for (uint64_t round = 0; round < 200; ++round) {
    Row wanted;
    Row row;
    fill(wanted.values, 768, 0, nullptr);
    fill(row.values, 768, 0, nullptr);
    for (uint32_t metric = WARM_METRIC_COSINE; metric <= WARM_METRIC_L2; ++metric) {
      const Query query = made(query_of(wanted.values, 768, metric));
      const double score = query.score(row.values, kNow);
      const double spare = double{bound_of(query, row, 768)} - double{query.bar(score)};
      cr_assert(spare >= 0 && spare < (metric == WARM_METRIC_COSINE ? 2e-5 : 1e-2), "metric %u: %g", metric, spare);
    }
  }
}

Test(ranking, scores_are_what_they_are_called) {
  Row x;
  Row y;
  x.values[0] = 3;
  x.values[1] = 4;
  y.values[0] = 4;
  y.values[1] = 3;
  cr_assert_eq(made(query_of(x.values, 2, WARM_METRIC_COSINE)).score(y.values, kNow), 24.0 / 25.0);
  cr_assert_eq(made(query_of(x.values, 2, WARM_METRIC_DOT)).score(y.values, kNow), 24.0);
  cr_assert_eq(made(query_of(x.values, 2, WARM_METRIC_L2)).score(y.values, kNow), -std::sqrt(2.0));
  const Row zero;
  cr_assert_eq(made(query_of(x.values, 2, WARM_METRIC_COSINE)).score(zero.values, kNow), 0.0);
  cr_assert_eq(made(query_of(zero.values, 2, WARM_METRIC_COSINE)).score(x.values, kNow), 0.0);
  cr_assert_eq(made(query_of(x.values, 2, WARM_METRIC_L2)).score(x.values, kNow), 0.0);

  warm_query tier = query_of(x.values, 2, WARM_METRIC_COSINE);
  tier.scoring = WARM_SCORE_TIER;
  const double at_once = made(tier).score(x.values, kNow);
  cr_assert_float_eq(at_once, 0.95, 1e-7);
  cr_assert_float_eq(made(tier).score(x.values, kNow - 3650 * kDayNs), at_once / 2, 1e-12);
  cr_assert_float_eq(made(tier).score(x.values, kNow - 19'000 * kDayNs), 0.95 * std::exp2(-19'000.0 / 3650), 1e-7);
  cr_assert_eq(made(tier).score(x.values, kNow + 100 * kDayNs), at_once);  // made in the future: not better than new
  const Row opposite = [&] {
    Row row;
    row.values[0] = -3;
    row.values[1] = -4;
    return row;
  }();
  cr_assert_eq(made(tier).score(opposite.values, kNow), double{0.01f});
}

Test(ranking, the_best_are_kept_in_order_and_equal_ones_by_id) {
  Names names;
  std::vector<Candidate> all;
  for (uint32_t slot = 0; slot < 3000; ++slot) {
    names.names[slot] = "id " + std::to_string(chance.below(1'000'000)) + "/" + std::to_string(slot);
    all.push_back(candidate(slot, static_cast<double>(chance.below(40))));
  }
  Ranking ranking(100);
  for (const Candidate& one : all) ranking.offer(one, names);
  std::sort(all.begin(), all.end(), [&](const Candidate& a, const Candidate& b) {
    return a.score != b.score ? a.score > b.score : names.names[a.slot] < names.names[b.slot];
  });
  std::vector<Candidate> kept = ranking.candidates();
  std::sort(kept.begin(), kept.end(), [&](Candidate& a, Candidate& b) { return before(a, b, names); });
  cr_assert_eq(kept.size(), 100);
  for (size_t i = 0; i < kept.size(); ++i) cr_assert_eq(kept[i].slot, all[i].slot, "place %zu", i);
  cr_assert_eq(ranking.entry(), kept.back().score);
  cr_assert_eq(ranking.ceiling(), kept.back().score);
}

Test(ranking, ids_are_read_only_where_scores_are_equal) {
  Names names;
  Ranking ranking(5);
  for (uint32_t slot = 0; slot < 1000; ++slot) ranking.offer(candidate(slot, slot * 37 % 1000), names);
  cr_assert_eq(names.reads, 0);
}

Test(ranking, the_ceiling_says_what_was_refused_also_after_candidates_were_dropped) {
  Names names;
  Ranking ranking(3);
  for (uint32_t slot = 0; slot < 3; ++slot) ranking.offer(candidate(slot, 10 + slot), names);
  ranking.offer(candidate(3, 9.5), names);
  ranking.drop([](const Candidate& c) { return c.slot != 0; }, names);
  cr_assert_not(ranking.full());
  cr_assert_eq(ranking.entry(), kNoScore);
  cr_assert_geq(ranking.ceiling(), 9.5);
  Ranking other(3);
  other.offer(candidate(7, 8), names);
  other.merge(std::move(ranking), names);
  cr_assert_geq(other.ceiling(), 9.5);
  cr_assert_eq(other.candidates().size(), 2);
}

Test(ranking, who_is_gone_stands_behind_its_equals) {
  Names names;
  names.names[1] = "b";
  Candidate gone = candidate(0, 1);
  Candidate there = candidate(1, 1);
  cr_assert(before(there, gone, names));
  cr_assert_not(before(gone, there, names));
}

Test(ranking, the_same_candidates_come_from_every_processors_kernels) {
  Row wanted;
  fill(wanted.values, 768, 0, nullptr);
  std::vector<Row> rows(500);
  for (size_t i = 0; i < rows.size(); ++i) fill(rows[i].values, 768, i, wanted.values);
  for (uint32_t metric = WARM_METRIC_COSINE; metric <= WARM_METRIC_L2; ++metric) {
    std::vector<std::vector<double>> seen;
    for (const vector::Processor processor : {vector::Processor::scalar, vector::Processor::avx2, vector::Processor::avx512}) {
      const vector::Kernels* kernels = vector::kernels_of(processor);
      if (kernels == nullptr) continue;
      vector::force_kernels(*kernels);
      const Query query = made(query_of(wanted.values, 768, metric));
      auto& scores = seen.emplace_back();
      for (const Row& row : rows) scores.push_back(query.score(row.values, kNow));
    }
    for (const auto& scores : seen) cr_assert(std::memcmp(scores.data(), seen[0].data(), scores.size() * sizeof(double)) == 0);
  }
}
