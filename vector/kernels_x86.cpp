// The kernels for AVX2 with FMA and for AVX-512: one text for both, over a vector type. Rows by queries are taken in tiles, so
// that what is loaded once is used several times; one query alone takes one row at a time.
#include "vector/kernels_x86.hpp"

#include <immintrin.h>

// g++ 12 takes what its own AVX-512 intrinsics leave undefined on purpose for a mistake of ours.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif

namespace warmtier::vector::detail {
namespace {

#define WARM_INLINE gnu::always_inline

// The processor follows a stretch of memory by itself, but not from one page to the next, and not to a row that lies elsewhere:
// there it stands still for the time of a miss. So one query alone asks for each line of the first row that comes so many floats
// later.
constexpr size_t kFloatsAhead = 1536;

// ---- AVX2 ---------------------------------------------------------------------------------------------------------------------

#define WARM_TARGET gnu::target("avx2,fma")
namespace avx2 {

using Vector = __m256;
using Doubles = __m256d;
constexpr size_t kWidth = 8;
constexpr size_t kTileRows = 2;
constexpr size_t kTileQueries = 4;

[[WARM_TARGET, WARM_INLINE]] inline Vector zero() { return _mm256_setzero_ps(); }
[[WARM_TARGET, WARM_INLINE]] inline Vector load(const float* at) { return _mm256_load_ps(at); }
[[WARM_TARGET, WARM_INLINE]] inline Vector subtract(Vector a, Vector b) { return _mm256_sub_ps(a, b); }
[[WARM_TARGET, WARM_INLINE]] inline Vector multiply_add(Vector a, Vector b, Vector c) { return _mm256_fmadd_ps(a, b, c); }
[[WARM_TARGET, WARM_INLINE]] inline Vector add(Vector a, Vector b) { return _mm256_add_ps(a, b); }
[[WARM_TARGET, WARM_INLINE]] inline float sum_of_lanes(Vector v) {
  const __m128 four = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}
[[WARM_TARGET, WARM_INLINE]] inline Doubles no_doubles() { return _mm256_setzero_pd(); }
[[WARM_TARGET, WARM_INLINE]] inline Doubles widen(const float* at) { return _mm256_cvtps_pd(_mm_load_ps(at)); }
[[WARM_TARGET, WARM_INLINE]] inline Doubles subtract(Doubles a, Doubles b) { return _mm256_sub_pd(a, b); }
[[WARM_TARGET, WARM_INLINE]] inline Doubles multiply(Doubles a, Doubles b) { return _mm256_mul_pd(a, b); }
[[WARM_TARGET, WARM_INLINE]] inline Doubles add(Doubles a, Doubles b) { return _mm256_add_pd(a, b); }
[[WARM_TARGET, WARM_INLINE]] inline double sum_of_doubles(Doubles v) {
  const __m128d two = _mm_add_pd(_mm256_castpd256_pd128(v), _mm256_extractf128_pd(v, 1));
  return _mm_cvtsd_f64(_mm_add_sd(two, _mm_unpackhi_pd(two, two)));
}

#include "vector/kernels_body.hpp"

}  // namespace avx2
#undef WARM_TARGET

// ---- AVX-512 ------------------------------------------------------------------------------------------------------------------

#define WARM_TARGET gnu::target("avx512f,avx2,fma")
namespace avx512 {

using Vector = __m512;
using Doubles = __m512d;
constexpr size_t kWidth = 16;
constexpr size_t kTileRows = 4;
constexpr size_t kTileQueries = 4;

[[WARM_TARGET, WARM_INLINE]] inline Vector zero() { return _mm512_setzero_ps(); }
[[WARM_TARGET, WARM_INLINE]] inline Vector load(const float* at) { return _mm512_load_ps(at); }
[[WARM_TARGET, WARM_INLINE]] inline Vector subtract(Vector a, Vector b) { return _mm512_sub_ps(a, b); }
[[WARM_TARGET, WARM_INLINE]] inline Vector multiply_add(Vector a, Vector b, Vector c) { return _mm512_fmadd_ps(a, b, c); }
[[WARM_TARGET, WARM_INLINE]] inline Vector add(Vector a, Vector b) { return _mm512_add_ps(a, b); }
[[WARM_TARGET, WARM_INLINE]] inline float sum_of_lanes(Vector v) {
  const __m256 high = _mm256_castpd_ps(_mm512_extractf64x4_pd(_mm512_castps_pd(v), 1));
  const __m256 eight = _mm256_add_ps(_mm512_castps512_ps256(v), high);
  const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}
[[WARM_TARGET, WARM_INLINE]] inline Doubles no_doubles() { return _mm512_setzero_pd(); }
[[WARM_TARGET, WARM_INLINE]] inline Doubles widen(const float* at) { return _mm512_cvtps_pd(_mm256_load_ps(at)); }
[[WARM_TARGET, WARM_INLINE]] inline Doubles subtract(Doubles a, Doubles b) { return _mm512_sub_pd(a, b); }
[[WARM_TARGET, WARM_INLINE]] inline Doubles multiply(Doubles a, Doubles b) { return _mm512_mul_pd(a, b); }
[[WARM_TARGET, WARM_INLINE]] inline Doubles add(Doubles a, Doubles b) { return _mm512_add_pd(a, b); }
[[WARM_TARGET, WARM_INLINE]] inline double sum_of_doubles(Doubles v) {
  const __m256d four = _mm256_add_pd(_mm512_castpd512_pd256(v), _mm512_extractf64x4_pd(v, 1));
  const __m128d two = _mm_add_pd(_mm256_castpd256_pd128(four), _mm256_extractf128_pd(four, 1));
  return _mm_cvtsd_f64(_mm_add_sd(two, _mm_unpackhi_pd(two, two)));
}

#include "vector/kernels_body.hpp"

// One query alone runs at the speed of memory, and there wider loads gain nothing: equal where each line is asked for, 21 GB/s
// instead of 27 before that.
void products_at_best(const Batch& batch, float* ret_products, float* ret_squares) {
  batch.query_count == 1 ? avx2::products(batch, ret_products, ret_squares) : products(batch, ret_products, ret_squares);
}
void distances_at_best(const Batch& batch, float* ret_distances) {
  batch.query_count == 1 ? avx2::distances(batch, ret_distances) : distances(batch, ret_distances);
}

}  // namespace avx512
#undef WARM_TARGET

}  // namespace

const Kernels avx2_kernels = {.name = "avx2",
                              .products = avx2::products,
                              .distances = avx2::distances,
                              .dot = avx2::dot,
                              .squared_distance = avx2::squared_distance};
const Kernels avx512_kernels = {.name = "avx512",
                                .products = avx512::products_at_best,
                                .distances = avx512::distances_at_best,
                                .dot = avx512::dot,
                                .squared_distance = avx512::squared_distance};

}  // namespace warmtier::vector::detail
