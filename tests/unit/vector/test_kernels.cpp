// Every kernel of this processor against a naive scan in double (and the exact ones against long double): within the bounds that
// vector/kernels.hpp states, and not much looser than needed.
#include <criterion/criterion.h>

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <cstring>
#include <memory>
#include <new>
#include <vector>

#include "tests/support/chance.hpp"
#include "vector/kernels.hpp"

using namespace warmtier::vector;

TestSuite(kernels, .timeout = 300);

namespace {

constexpr uint32_t kDimensions[] = {1, 15, 16, 17, 767, 768, 4096};
constexpr size_t kQueries = 1000;
constexpr size_t kRows = 11;  // some tiles and a remainder, whatever the tile
constexpr double kDoubleUnit = 0x1p-53;

warmtier::tests::support::Chance chance(1);

// Aligned rows, padded with zeros.
class Rows {
 public:
  Rows(size_t count, uint32_t dimensions)
      : floats((dimensions + kFloatsPerStep - 1) / kFloatsPerStep * kFloatsPerStep),
        dimensions_(dimensions),
        values_(static_cast<float*>(::operator new(count * floats * sizeof(float), std::align_val_t{kAlignment}))) {
    std::memset(values_.get(), 0, count * floats * sizeof(float));
    for (size_t i = 0; i < count; ++i) pointers_.push_back(values_.get() + i * floats);
  }
  template <typename Value>
  void fill(const Value& value) {
    for (size_t row = 0; row < pointers_.size(); ++row) {
      for (uint32_t i = 0; i < dimensions_; ++i) at(row)[i] = value(row, i);
    }
  }
  [[nodiscard]] float* at(size_t row) { return values_.get() + row * floats; }
  [[nodiscard]] const float* const* pointers() const { return pointers_.data(); }
  [[nodiscard]] size_t count() const { return pointers_.size(); }
  const size_t floats;

 private:
  struct Free {
    void operator()(float* values) const { ::operator delete(values, std::align_val_t{kAlignment}); }
  };
  uint32_t dimensions_;
  std::unique_ptr<float, Free> values_;
  std::vector<const float*> pointers_;
};

std::vector<const Kernels*> all_kernels() {
  std::vector<const Kernels*> all;
  for (const Processor processor : {Processor::scalar, Processor::avx2, Processor::avx512}) {
    if (const Kernels* kernels = kernels_of(processor)) all.push_back(kernels);
  }
  return all;
}

struct Naive {
  double product = 0;
  double magnitude = 0;  // of the products
  double square = 0;
  double distance = 0;
};
Naive naive(const float* x, const float* y, size_t floats) {
  Naive sums;
  for (size_t i = 0; i < floats; ++i) {
    const double term = double{x[i]} * double{y[i]};
    const double difference = double{y[i]} - double{x[i]};
    sums.product += term;
    sums.magnitude += std::fabs(term);
    sums.square += double{x[i]} * double{x[i]};
    sums.distance += difference * difference;
  }
  return sums;
}

// A result that left the range of floats must say so; a finite one must be right.
void judge(const Kernels& kernels, const char* what, float result, double naive, double bound, double naive_bound) {
  if (!std::isfinite(result)) {
    cr_assert_gt(std::fabs(naive) + bound / kFloatUnit, double{FLT_MAX} / 4, "%s: %s is %g instead of %g", kernels.name, what,
                 double{result}, naive);
    return;
  }
  cr_assert_leq(std::fabs(double{result} - naive), bound + naive_bound, "%s: %s is %.9g instead of %.17g: %g is the bound",
                kernels.name, what, double{result}, naive, bound);
}

void judge_batch(const Kernels& kernels, const Rows& rows, const float* const* queries, size_t query_count) {
  const Batch batch{
      .rows = rows.pointers(), .row_count = rows.count(), .queries = queries, .query_count = query_count, .floats = rows.floats};
  std::vector<float> products(rows.count() * query_count, NAN);
  std::vector<float> squares(rows.count(), NAN);
  std::vector<float> distances(rows.count() * query_count, NAN);
  kernels.products(batch, products.data(), squares.data());
  kernels.distances(batch, distances.data());
  const double underflow = underflow_error(rows.floats);
  const double naive_error = gamma(static_cast<double>(rows.floats) + 2, kDoubleUnit);
  for (size_t q = 0; q < query_count; ++q) {
    for (size_t r = 0; r < rows.count(); ++r) {
      const Naive right = naive(rows.pointers()[r], queries[q], rows.floats);
      judge(kernels, "a product", products[q * rows.count() + r], right.product,
            product_error(rows.floats) * right.magnitude + underflow, naive_error * right.magnitude);
      judge(kernels, "a square", squares[r], right.square, product_error(rows.floats) * right.square + underflow,
            naive_error * right.square);
      judge(kernels, "a distance", distances[q * rows.count() + r], right.distance,
            distance_error(rows.floats) * right.distance + underflow, naive_error * right.distance);
    }
  }
}

// The tree of 16 lanes, in the words of the header.
template <typename Term>
double in_fixed_order(size_t floats, const Term& term) {
  double lanes[16]{};
  for (size_t i = 0; i < floats; ++i) lanes[i % 16] += term(i);
  for (size_t half = 8; half > 0; half /= 2) {
    for (size_t j = 0; j < half; ++j) lanes[j] += lanes[j + half];
  }
  return lanes[0];
}

void judge_exact(const Kernels& kernels, const float* x, const float* y, size_t floats) {
  const double dot = kernels.dot(x, y, floats);
  const double distance = kernels.squared_distance(x, y, floats);
  cr_assert(std::isfinite(dot) && std::isfinite(distance));
  const double dot_there = in_fixed_order(floats, [&](size_t i) { return double{x[i]} * double{y[i]}; });
  const double distance_there = in_fixed_order(floats, [&](size_t i) {
    const double d = double{x[i]} - double{y[i]};
    return d * d;
  });
  cr_assert(std::memcmp(&dot, &dot_there, sizeof dot) == 0, "%s: %.17g instead of %.17g", kernels.name, dot, dot_there);
  cr_assert(std::memcmp(&distance, &distance_there, sizeof dot) == 0, "%s: %.17g instead of %.17g", kernels.name, distance,
            distance_there);
  long double product = 0;
  long double magnitude = 0;
  long double squares = 0;
  for (size_t i = 0; i < floats; ++i) {
    const long double term = static_cast<long double>(x[i]) * y[i];
    product += term;
    magnitude += std::fabs(term);
    squares += (static_cast<long double>(x[i]) - y[i]) * (static_cast<long double>(x[i]) - y[i]);
  }
  cr_assert_leq(std::fabs(dot - static_cast<double>(product)),
                gamma(roundings(floats) + 1, kDoubleUnit) * static_cast<double>(magnitude), "%s", kernels.name);
  cr_assert_leq(std::fabs(distance - static_cast<double>(squares)),
                gamma(roundings(floats) + 3, kDoubleUnit) * static_cast<double>(squares), "%s", kernels.name);
}

}  // namespace

Test(kernels, a_thousand_queries_agree_with_a_naive_scan_in_double) {
  for (const uint32_t dimensions : kDimensions) {
    Rows rows(kRows, dimensions);
    Rows queries(kQueries, dimensions);
    rows.fill([](size_t, uint32_t) { return chance.in_unit(); });
    queries.fill([](size_t, uint32_t) { return chance.in_unit(); });
    for (const Kernels* kernels : all_kernels()) {
      // One query, and every remainder of a tile.
      for (size_t from = 0, n = 1; from < kQueries; from += n, n = n % 9 + 1) {
        n = std::min(n, kQueries - from);
        judge_batch(*kernels, rows, queries.pointers() + from, n);
      }
    }
  }
}

Test(kernels, every_count_of_rows_and_queries_is_served_and_nothing_beyond_it) {
  Rows rows(10, 33);
  Rows queries(10, 33);
  rows.fill([](size_t, uint32_t) { return chance.in_unit(); });
  queries.fill([](size_t, uint32_t) { return chance.in_unit(); });
  for (const Kernels* kernels : all_kernels()) {
    for (size_t row_count = 0; row_count <= 10; ++row_count) {
      for (size_t query_count = 1; query_count <= 10; ++query_count) {
        const Batch batch{.rows = rows.pointers(),
                          .row_count = row_count,
                          .following = query_count % 2 == 0 ? rows.count() - row_count : 0,  // to the end of the pointers
                          .queries = queries.pointers(),
                          .query_count = query_count,
                          .floats = rows.floats};
        std::vector<float> products(row_count * query_count + 1, NAN);
        std::vector<float> squares(row_count + 1, NAN);
        kernels->products(batch, products.data(), squares.data());
        for (size_t i = 0; i < row_count * query_count; ++i) cr_assert(std::isfinite(products[i]));
        for (size_t i = 0; i < row_count; ++i) cr_assert(std::isfinite(squares[i]));
        cr_assert(std::isnan(products.back()) && std::isnan(squares.back()));
        std::vector<float> distances(row_count * query_count + 1, NAN);
        kernels->distances(batch, distances.data());
        for (size_t i = 0; i < row_count * query_count; ++i) cr_assert(std::isfinite(distances[i]));
        cr_assert(std::isnan(distances.back()));
      }
    }
  }
}

// The pointers end where the rows end: a look at one more is one that the address sanitizer sees.
Test(kernels, one_query_asks_for_no_row_beyond_those_that_follow) {
  for (const uint32_t dimensions : {16U, 768U, 4096U}) {
    Rows rows(10, dimensions);
    Rows query(1, dimensions);
    rows.fill([](size_t, uint32_t) { return chance.in_unit(); });
    query.fill([](size_t, uint32_t) { return chance.in_unit(); });
    for (const Kernels* kernels : all_kernels()) {
      for (size_t count = 1; count <= 10; ++count) {
        const auto pointers = std::make_unique<const float*[]>(count);
        std::copy_n(rows.pointers(), count, pointers.get());
        for (size_t following = 0; following < count; ++following) {
          const Batch batch{.rows = pointers.get(),
                            .row_count = count - following,
                            .following = following,
                            .queries = query.pointers(),
                            .query_count = 1,
                            .floats = rows.floats};
          float products[10];
          float squares[10];
          kernels->products(batch, products, squares);
          float distances[10];
          kernels->distances(batch, distances);
          for (size_t r = 0; r < batch.row_count; ++r)
            cr_assert(std::isfinite(products[r]) && std::isfinite(squares[r]) && std::isfinite(distances[r]));
        }
      }
    }
  }
}

Test(kernels, extreme_values_are_right_or_say_that_they_left_the_range) {
  static constexpr float kExtremes[] = {0.0f,   -0.0f, 1e-45f, -1e-45f, FLT_MIN, -1e-40f, 1.0f,    -3.0f,
                                        1e-20f, 1e19f, -1e19f, 1e38f,   -1e38f,  FLT_MAX, -FLT_MAX};
  constexpr size_t kSame = std::size(kExtremes);
  for (const uint32_t dimensions : kDimensions) {
    // Rows of one value each, rows of all of them in turn, rows of tiny ones only.
    const auto value = [&](size_t row, uint32_t i) {
      if (row < kSame) return kExtremes[row];
      if (row < kSame + 4) return kExtremes[(i * (row - kSame + 1) + row) % kSame];
      return chance.in_unit() * 1e-42f;
    };
    Rows rows(kSame + 6, dimensions);
    rows.fill(value);
    for (const Kernels* kernels : all_kernels()) {
      for (size_t from = 0; from < rows.count(); ++from) judge_batch(*kernels, rows, rows.pointers() + from, 1);
      judge_batch(*kernels, rows, rows.pointers(), rows.count());
    }
  }
}

Test(kernels, sums_that_overflow_both_ways_never_come_back_as_a_number) {
  Rows rows(1, 64);
  Rows queries(2, 64);
  rows.fill([](size_t, uint32_t i) { return i % 2 == 0 ? 1e38f : -1e38f; });
  queries.fill([](size_t, uint32_t) { return 10.0f; });
  for (const Kernels* kernels : all_kernels()) {
    for (size_t query_count = 1; query_count <= 2; ++query_count) {
      const Batch batch{
          .rows = rows.pointers(), .row_count = 1, .queries = queries.pointers(), .query_count = query_count, .floats = 64};
      float products[2] = {0, 0};
      float square = 0;
      kernels->products(batch, products, &square);
      cr_assert(std::isinf(square));
      for (size_t q = 0; q < query_count; ++q)
        cr_assert_not(std::isfinite(products[q]), "%s: %g", kernels->name, double{products[q]});
    }
    cr_assert_eq(kernels->dot(rows.at(0), queries.at(0), 64), 0.0);
  }
}

Test(kernels, the_exact_ones_give_the_same_bits_on_every_processor) {
  for (const uint32_t dimensions : kDimensions) {
    Rows rows(40, dimensions);
    rows.fill([](size_t row, uint32_t) {
      const float spread = row % 3 == 0 ? 1.0f : std::ldexp(1.0f, static_cast<int>(chance.below(250)) - 140);
      return chance.in_unit() * spread;
    });
    for (const Kernels* kernels : all_kernels()) {
      for (size_t i = 0; i + 1 < rows.count(); ++i) judge_exact(*kernels, rows.at(i), rows.at(i + 1), rows.floats);
    }
  }
}

Test(kernels, the_best_that_the_processor_has_are_taken_and_a_test_may_force_others) {
  const std::vector<const Kernels*> all = all_kernels();
  cr_assert_str_eq(all.front()->name, "scalar");
  cr_assert_eq(&kernels(), all.back());
  force_kernels(*all.front());
  cr_assert_eq(&kernels(), all.front());
}
