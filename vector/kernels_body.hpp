// No header: the part of kernels_x86.cpp that is the same for every vector type, included once in each of its namespaces. There
// stand Vector and Doubles with their operations, kWidth, kTileRows, kTileQueries, and WARM_TARGET.

// One row and one query; the sum of squares too unless these are distances. Four sums of each, against the latency of an
// addition.
template <bool kDistance>
[[WARM_TARGET, WARM_INLINE]] inline void one(const float* x, const float* y, size_t floats, float* ret_pair, float* ret_square) {
  constexpr size_t kSums = 4;
  Vector pairs[kSums];
  Vector squares[kSums];
#pragma GCC unroll 4
  for (size_t s = 0; s < kSums; ++s) pairs[s] = squares[s] = zero();
  size_t i = 0;
  for (; i + kSums * kWidth <= floats; i += kSums * kWidth) {
#pragma GCC unroll 4
    for (size_t s = 0; s < kSums; ++s) {
      const Vector v = load(x + i + s * kWidth);
      if constexpr (kDistance) {
        const Vector d = subtract(load(y + i + s * kWidth), v);
        pairs[s] = multiply_add(d, d, pairs[s]);
      } else {
        pairs[s] = multiply_add(v, load(y + i + s * kWidth), pairs[s]);
        squares[s] = multiply_add(v, v, squares[s]);
      }
    }
  }
  for (; i < floats; i += kWidth) {
    const Vector v = load(x + i);
    if constexpr (kDistance) {
      const Vector d = subtract(load(y + i), v);
      pairs[0] = multiply_add(d, d, pairs[0]);
    } else {
      pairs[0] = multiply_add(v, load(y + i), pairs[0]);
      squares[0] = multiply_add(v, v, squares[0]);
    }
  }
  *ret_pair = sum_of_lanes(add(add(pairs[0], pairs[1]), add(pairs[2], pairs[3])));
  if constexpr (!kDistance) *ret_square = sum_of_lanes(add(add(squares[0], squares[1]), add(squares[2], squares[3])));
}

// Sums of squares of rows that more than one query needs.
template <size_t kRows>
[[WARM_TARGET, WARM_INLINE]] inline void squares_of(const float* const* rows, size_t floats, float* ret_squares) {
  Vector sums[kRows];
#pragma GCC unroll 4
  for (size_t r = 0; r < kRows; ++r) sums[r] = zero();
  for (size_t i = 0; i < floats; i += kWidth) {
#pragma GCC unroll 4
    for (size_t r = 0; r < kRows; ++r) {
      const Vector v = load(rows[r] + i);
      sums[r] = multiply_add(v, v, sums[r]);
    }
  }
#pragma GCC unroll 4
  for (size_t r = 0; r < kRows; ++r) ret_squares[r] = sum_of_lanes(sums[r]);
}

// Each of some rows with each of some queries; everything but the loads is in registers.
template <bool kDistance, size_t kRows, size_t kQueries>
[[WARM_TARGET, WARM_INLINE]] inline void tile(const float* const* rows, const float* const* queries, size_t floats,
                                              float* ret_pairs, size_t row_count) {
  Vector sums[kQueries][kRows];
#pragma GCC unroll 4
  for (size_t q = 0; q < kQueries; ++q) {
#pragma GCC unroll 4
    for (size_t r = 0; r < kRows; ++r) sums[q][r] = zero();
  }
  for (size_t i = 0; i < floats; i += kWidth) {
    Vector x[kRows];
#pragma GCC unroll 4
    for (size_t r = 0; r < kRows; ++r) x[r] = load(rows[r] + i);
#pragma GCC unroll 4
    for (size_t q = 0; q < kQueries; ++q) {
      const Vector y = load(queries[q] + i);
#pragma GCC unroll 4
      for (size_t r = 0; r < kRows; ++r) {
        if constexpr (kDistance) {
          const Vector d = subtract(y, x[r]);
          sums[q][r] = multiply_add(d, d, sums[q][r]);
        } else {
          sums[q][r] = multiply_add(x[r], y, sums[q][r]);
        }
      }
    }
  }
#pragma GCC unroll 4
  for (size_t q = 0; q < kQueries; ++q) {
#pragma GCC unroll 4
    for (size_t r = 0; r < kRows; ++r) ret_pairs[q * row_count + r] = sum_of_lanes(sums[q][r]);
  }
}

// Some rows with all queries.
template <bool kDistance, size_t kRows>
[[WARM_TARGET, WARM_INLINE]] inline void rows_by_queries(const Batch& batch, const Ahead& ahead, size_t first, float* ret_pairs,
                                                         float* ret_squares) {
  const float* const* rows = batch.rows + first;
  for (size_t r = 0; r < kRows; ++r) ahead.take(first + r);
  if constexpr (!kDistance) squares_of<kRows>(rows, batch.floats, ret_squares + first);
  size_t q = 0;
  for (; q + kTileQueries <= batch.query_count; q += kTileQueries) {
    tile<kDistance, kRows, kTileQueries>(rows, batch.queries + q, batch.floats, ret_pairs + q * batch.row_count + first,
                                         batch.row_count);
  }
  for (; q < batch.query_count; ++q) {
    tile<kDistance, kRows, 1>(rows, batch.queries + q, batch.floats, ret_pairs + q * batch.row_count + first, batch.row_count);
  }
}

template <bool kDistance>
[[WARM_TARGET, WARM_INLINE]] inline void all_pairs(const Batch& batch, float* ret_pairs, float* ret_squares) {
  const Ahead ahead(batch);
  size_t r = 0;
  if (batch.query_count == 1) {
    for (; r < batch.row_count; ++r) {
      ahead.take(r);
      one<kDistance>(batch.rows[r], batch.queries[0], batch.floats, ret_pairs + r, kDistance ? nullptr : ret_squares + r);
    }
    return;
  }
  for (; r + kTileRows <= batch.row_count; r += kTileRows) {
    rows_by_queries<kDistance, kTileRows>(batch, ahead, r, ret_pairs, ret_squares);
  }
  for (; r < batch.row_count; ++r) rows_by_queries<kDistance, 1>(batch, ahead, r, ret_pairs, ret_squares);
}

[[WARM_TARGET]] void products(const Batch& batch, float* ret_products, float* ret_squares) {
  all_pairs<false>(batch, ret_products, ret_squares);
}

[[WARM_TARGET]] void distances(const Batch& batch, float* ret_distances) { all_pairs<true>(batch, ret_distances, nullptr); }

// The fixed order of the exact functions: 16 lanes, then halves upon each other. A product of two floats is exact in double, so
// it is the same with or without fusing; a squared difference is not, so it is never fused (-ffp-contract=off).
template <bool kDistance>
[[WARM_TARGET, WARM_INLINE]] inline double exact(const float* a, const float* b, size_t floats) {
  constexpr size_t kDoubles = kWidth / 2;
  constexpr size_t kSums = kFloatsPerStep / kDoubles;
  Doubles sums[kSums];
#pragma GCC unroll 4
  for (size_t s = 0; s < kSums; ++s) sums[s] = no_doubles();
  for (size_t i = 0; i < floats; i += kFloatsPerStep) {
#pragma GCC unroll 4
    for (size_t s = 0; s < kSums; ++s) {
      const Doubles x = widen(a + i + s * kDoubles);
      const Doubles y = widen(b + i + s * kDoubles);
      if constexpr (kDistance) {
        const Doubles d = subtract(x, y);
        sums[s] = add(sums[s], multiply(d, d));
      } else {
        sums[s] = add(sums[s], multiply(x, y));
      }
    }
  }
#pragma GCC unroll 4
  for (size_t half = kSums / 2; half > 0; half /= 2) {
#pragma GCC unroll 4
    for (size_t s = 0; s < half; ++s) sums[s] = add(sums[s], sums[s + half]);
  }
  return sum_of_doubles(sums[0]);
}

[[WARM_TARGET]] double dot(const float* a, const float* b, size_t floats) { return exact<false>(a, b, floats); }

[[WARM_TARGET]] double squared_distance(const float* a, const float* b, size_t floats) { return exact<true>(a, b, floats); }
