#include "vector/kernels.hpp"

#include <atomic>

#if defined(__x86_64__)
#include "vector/kernels_x86.hpp"
#endif

namespace warmtier::vector {
namespace {

// The order in which lanes are summed, here and in kernels_x86.cpp: halves upon each other.
template <typename T>
T sum_of_lanes(T (&lanes)[kFloatsPerStep]) noexcept {
  for (size_t half = kFloatsPerStep / 2; half > 0; half /= 2) {
    for (size_t j = 0; j < half; ++j) lanes[j] += lanes[j + half];
  }
  return lanes[0];
}

template <typename T, typename Term>
T sum(size_t floats, const Term& term) noexcept {
  T lanes[kFloatsPerStep]{};
  for (size_t i = 0; i < floats; i += kFloatsPerStep) {
    for (size_t j = 0; j < kFloatsPerStep; ++j) lanes[j] += term(i + j);
  }
  return sum_of_lanes(lanes);
}

void products(const Batch& batch, float* ret_products, float* ret_squares) {
  for (size_t r = 0; r < batch.row_count; ++r) {
    const float* x = batch.rows[r];
    ret_squares[r] = sum<float>(batch.floats, [x](size_t i) { return x[i] * x[i]; });
    for (size_t q = 0; q < batch.query_count; ++q) {
      const float* y = batch.queries[q];
      ret_products[q * batch.row_count + r] = sum<float>(batch.floats, [x, y](size_t i) { return x[i] * y[i]; });
    }
  }
}

void distances(const Batch& batch, float* ret_distances) {
  for (size_t r = 0; r < batch.row_count; ++r) {
    const float* x = batch.rows[r];
    for (size_t q = 0; q < batch.query_count; ++q) {
      const float* y = batch.queries[q];
      ret_distances[q * batch.row_count + r] = sum<float>(batch.floats, [x, y](size_t i) {
        const float d = y[i] - x[i];
        return d * d;
      });
    }
  }
}

double dot(const float* a, const float* b, size_t floats) {
  return sum<double>(floats, [a, b](size_t i) { return double{a[i]} * double{b[i]}; });
}

double squared_distance(const float* a, const float* b, size_t floats) {
  return sum<double>(floats, [a, b](size_t i) {
    const double d = double{a[i]} - double{b[i]};
    return d * d;
  });
}

constexpr Kernels kScalar = {
    .name = "scalar", .products = products, .distances = distances, .dot = dot, .squared_distance = squared_distance};

const Kernels& best() noexcept {
  for (const Processor processor : {Processor::avx512, Processor::avx2}) {
    if (const Kernels* found = kernels_of(processor)) return *found;
  }
  return kScalar;
}

std::atomic<const Kernels*> chosen{nullptr};

}  // namespace

const Kernels* kernels_of(Processor processor) noexcept {
#if defined(__x86_64__)
  if (processor == Processor::avx512)
    return __builtin_cpu_supports("avx512f") && kernels_of(Processor::avx2) != nullptr ? &detail::avx512_kernels : nullptr;
  if (processor == Processor::avx2) {
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") ? &detail::avx2_kernels : nullptr;
  }
#endif
  return processor == Processor::scalar ? &kScalar : nullptr;
}

const Kernels& kernels() noexcept {
  const Kernels* now = chosen.load(std::memory_order_acquire);
  if (now == nullptr) {
    now = &best();
    chosen.store(now, std::memory_order_release);
  }
  return *now;
}

void force_kernels(const Kernels& kernels) noexcept { chosen.store(&kernels, std::memory_order_release); }

}  // namespace warmtier::vector
