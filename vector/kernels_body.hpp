// No header: the part of kernels_x86.cpp that is the same for every vector type, included once in each of its namespaces. There
// stand Vector and Doubles with their operations, kWidth, kTileRows, kTileQueries, and WARM_TARGET; kFloatsAhead and WARM_INLINE
// are of the file.

// One row and one query; the sum of squares too unless these are distances. Four sums of each, against the latency of an
// addition. `ahead` is a row to ask for meanwhile; the row itself where none comes.
template <bool kDistance>
[[WARM_TARGET, WARM_INLINE]] inline void one(const float* x, const float* y, size_t floats, const float* ahead, float* ret_pair,
                                             float* ret_square) {
  constexpr size_t kSums = 4;
  Vector pairs[kSums];
  Vector squares[kSums];
#pragma GCC unroll 4
  for (size_t s = 0; s < kSums; ++s) pairs[s] = squares[s] = zero();
  size_t i = 0;
  for (; i + kSums * kWidth <= floats; i += kSums * kWidth) {
#pragma GCC unroll 4
    for (size_t s = 0; s < kSums; s += kAlignment / sizeof(Vector)) {
      __builtin_prefetch(ahead + i + s * kWidth);
    }
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
  for (size_t line = i; line < floats; line += kAlignment / sizeof(float)) __builtin_prefetch(ahead + line);
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

// Each of some rows with each of some queries, and the rows' sums of squares if `kSquares`; everything but the loads is in
// registers. While it computes, the rows that come next are fetched into the second cache.
template <bool kDistance, bool kSquares, size_t kRows, size_t kQueries>
[[WARM_TARGET, WARM_INLINE]] inline void tile(const float* const* rows, const float* const* queries, size_t floats,
                                              const float* const* next, size_t row_count, float* ret_pairs, float* ret_squares) {
  Vector sums[kQueries][kRows];
  Vector squares[kRows];
#pragma GCC unroll 4
  for (size_t r = 0; r < kRows; ++r) {
    squares[r] = zero();
#pragma GCC unroll 4
    for (size_t q = 0; q < kQueries; ++q) sums[q][r] = zero();
  }
  for (size_t i = 0; i < floats; i += kWidth) {
    Vector x[kRows];
#pragma GCC unroll 4
    for (size_t r = 0; r < kRows; ++r) {
      x[r] = load(rows[r] + i);
      if (next != nullptr) __builtin_prefetch(next[r] + i, 0, 2);
      if constexpr (kSquares) squares[r] = multiply_add(x[r], x[r], squares[r]);
    }
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
  for (size_t r = 0; r < kRows; ++r) {
    if constexpr (kSquares) ret_squares[r] = sum_of_lanes(squares[r]);
#pragma GCC unroll 4
    for (size_t q = 0; q < kQueries; ++q) ret_pairs[q * row_count + r] = sum_of_lanes(sums[q][r]);
  }
}

// Some rows with all queries.
template <bool kDistance, size_t kRows>
[[WARM_TARGET, WARM_INLINE]] inline void rows_by_queries(const Batch& batch, size_t first, float* ret_pairs, float* ret_squares) {
  const float* const* rows = batch.rows + first;
  const float* const* next = first + 2 * kRows <= batch.row_count + batch.following ? rows + kRows : nullptr;
  const auto at = [&](size_t q) { return ret_pairs + q * batch.row_count + first; };
  size_t q = 0;
  if constexpr (!kDistance) {
    if (batch.query_count >= kTileQueries) {
      tile<false, true, kRows, kTileQueries>(rows, batch.queries, batch.floats, next, batch.row_count, at(0),
                                             ret_squares + first);
      q = kTileQueries;
    } else {
      tile<false, true, kRows, 1>(rows, batch.queries, batch.floats, next, batch.row_count, at(0), ret_squares + first);
      q = 1;
    }
    next = nullptr;
  }
  for (; q + kTileQueries <= batch.query_count; q += kTileQueries, next = nullptr) {
    tile<kDistance, false, kRows, kTileQueries>(rows, batch.queries + q, batch.floats, next, batch.row_count, at(q), nullptr);
  }
  for (; q < batch.query_count; ++q, next = nullptr) {
    tile<kDistance, false, kRows, 1>(rows, batch.queries + q, batch.floats, next, batch.row_count, at(q), nullptr);
  }
}

template <bool kDistance>
[[WARM_TARGET, WARM_INLINE]] inline void all_pairs(const Batch& batch, float* ret_pairs, float* ret_squares) {
  size_t r = 0;
  if (batch.query_count == 1) {
    const size_t lead = (kFloatsAhead + batch.floats - 1) / batch.floats;
    for (; r < batch.row_count; ++r) {
      const float* const row = batch.rows[r];
      const float* const ahead = r + lead < batch.row_count + batch.following ? batch.rows[r + lead] : row;
      one<kDistance>(row, batch.queries[0], batch.floats, ahead, ret_pairs + r, kDistance ? nullptr : ret_squares + r);
    }
    return;
  }
  for (; r + kTileRows <= batch.row_count; r += kTileRows) {
    rows_by_queries<kDistance, kTileRows>(batch, r, ret_pairs, ret_squares);
  }
  for (; r < batch.row_count; ++r) rows_by_queries<kDistance, 1>(batch, r, ret_pairs, ret_squares);
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
