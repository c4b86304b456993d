// Products, distances and lengths of embedding rows: fast ones in float to rank by, exact ones in double to answer with.
//
// Rows and queries are `floats` values long, a multiple of 16, on 64-byte boundaries, with zeros behind their last dimension:
// zeros change no sum.
//
// The float kernels sum in 16 lanes at least (lane j takes elements j, j + 16, ...) and then the lanes in a tree, whatever the
// processor. A value passes through at most m(floats) = floats / 16 + 6 roundings: one of its product, floats / 16 of its lane's
// sum, four of the tree, one spare. So, with u = 2^-24 and gamma(n) = n u / (1 - n u) (Higham, Accuracy and Stability of
// Numerical Algorithms, 2nd ed., Lemma 3.1 and section 3.1), and with U = floats * 2^-149 for what underflows (2^-150 for each
// product, as much again where a processor is told to flush: it is not):
//
//   | product  - sum q_i x_i |     <= gamma(m)     * sum |q_i x_i| + U
//   | square   - sum x_i^2 |       <= gamma(m)     * sum x_i^2     + U
//   | distance - sum (q_i-x_i)^2 | <= gamma(m + 2) * sum (q_i-x_i)^2 + U       two more: each difference is rounded, then squared
//
// as long as no intermediate result is beyond the largest float. Where one is, the result is an infinity or NaN, never a wrong
// finite number: who ranks by it must ask the exact functions instead.
//
// The exact functions sum in double in one fixed order, on every processor by the same operations: their results are equal to
// the last bit everywhere. Products of two floats are exact in double and nothing overflows (4096 * FLT_MAX^2 < 10^81):
//
//   | dot - sum q_i x_i |                <= gamma'(m) * sum |q_i x_i|           with u' = 2^-53
//   | squared_distance - sum (..)^2 |    <= gamma'(m + 2) * sum (q_i-x_i)^2
#pragma once

#include <cstddef>
#include <cstdint>

namespace warmtier::vector {

constexpr size_t kFloatsPerStep = 16;
constexpr size_t kAlignment = 64;

// Rows by queries: result [q][r] lies at q * row_count + r.
struct Batch {
  const float* const* rows = nullptr;
  size_t row_count = 0;
  size_t following = 0;  // rows that stand in `rows` behind these and will be asked for next: memory is told of them
  const float* const* queries = nullptr;
  size_t query_count = 0;
  size_t floats = 0;
};

struct Kernels {
  const char* name;  // "avx512", "avx2", "scalar"
  // Products, and each row's sum of squares ([r]).
  void (*products)(const Batch& batch, float* ret_products, float* ret_squares);
  // Squared distances.
  void (*distances)(const Batch& batch, float* ret_distances);
  double (*dot)(const float* a, const float* b, size_t floats);
  double (*squared_distance)(const float* a, const float* b, size_t floats);
};

enum class Processor : uint8_t { scalar, avx2, avx512 };

// Of this processor, chosen at the first call.
const Kernels& kernels() noexcept;
// nullptr: this processor, or this build, has not got them.
const Kernels* kernels_of(Processor processor) noexcept;
// For tests: kernels() returns these from now on.
void force_kernels(const Kernels& kernels) noexcept;

constexpr double kFloatUnit = 0x1p-24;
constexpr double gamma(double n, double unit) noexcept { return n * unit / (1 - n * unit); }
// Roundings that a value passes through, see above.
constexpr double roundings(size_t floats) noexcept {
  const size_t steps = floats / kFloatsPerStep;
  return static_cast<double>(steps + 6);
}
constexpr double product_error(size_t floats) noexcept { return gamma(roundings(floats), kFloatUnit); }
constexpr double distance_error(size_t floats) noexcept { return gamma(roundings(floats) + 2, kFloatUnit); }
constexpr double underflow_error(size_t floats) noexcept { return static_cast<double>(floats) * 0x1p-149; }

}  // namespace warmtier::vector
