#include "bench/bandwidth.hpp"

#include <algorithm>
#include <limits>
#include <optional>
#include <thread>

#include "bench/world.hpp"

#if defined(__x86_64__)
#include <immintrin.h>
// g++ 12 takes what its own AVX-512 intrinsics leave undefined on purpose for a mistake of ours.
#if !defined(__clang__)
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#endif

namespace warmtier::bench {
namespace {

constexpr size_t kStep = 256;

// The first lines of the page after the next: what the processor does not do by itself. To ask for every line, as the kernels do,
// is as fast here.
inline void ask_ahead(const std::byte* at) noexcept {
  if (reinterpret_cast<uintptr_t>(at) % layout::kPageBytes != 0) return;
  for (size_t j = 0; j < kStep; j += layout::kCacheLineBytes) __builtin_prefetch(at + 2 * layout::kPageBytes + j);
}

// Four sums side by side, so that no addition waits for another.
uint64_t read_words(const std::byte* at, size_t n) noexcept {
  uint64_t sums[4]{};
  for (size_t i = 0; i < n; i += 32) {
    for (size_t j = 0; j < 4; ++j) {
      uint64_t word;
      std::memcpy(&word, at + i + j * 8, 8);
      sums[j] += word;
    }
  }
  return sums[0] + sums[1] + sums[2] + sums[3];
}

#if defined(__x86_64__)
[[gnu::target("avx2")]] uint64_t read_32(const std::byte* at, size_t n) noexcept {
  __m256i sums[4] = {_mm256_setzero_si256(), _mm256_setzero_si256(), _mm256_setzero_si256(), _mm256_setzero_si256()};
  for (size_t i = 0; i < n; i += kStep) {
    ask_ahead(at + i);
    for (size_t j = 0; j < kStep / 32; ++j) {
      sums[j % 4] = _mm256_add_epi64(sums[j % 4], _mm256_load_si256(reinterpret_cast<const __m256i*>(at + i) + j));
    }
  }
  const __m256i sum = _mm256_add_epi64(_mm256_add_epi64(sums[0], sums[1]), _mm256_add_epi64(sums[2], sums[3]));
  return static_cast<uint64_t>(_mm256_extract_epi64(sum, 0) + _mm256_extract_epi64(sum, 1) + _mm256_extract_epi64(sum, 2) +
                               _mm256_extract_epi64(sum, 3));
}

[[gnu::target("avx512f")]] uint64_t read_64(const std::byte* at, size_t n) noexcept {
  __m512i sums[4] = {_mm512_setzero_si512(), _mm512_setzero_si512(), _mm512_setzero_si512(), _mm512_setzero_si512()};
  for (size_t i = 0; i < n; i += kStep) {
    ask_ahead(at + i);
    for (size_t j = 0; j < kStep / 64; ++j) sums[j] = _mm512_add_epi64(sums[j], _mm512_load_si512(at + i + j * 64));
  }
  const __m512i sum = _mm512_add_epi64(_mm512_add_epi64(sums[0], sums[1]), _mm512_add_epi64(sums[2], sums[3]));
  return static_cast<uint64_t>(_mm512_reduce_add_epi64(sum));
}
#endif

}  // namespace

double read_ns(const std::vector<Stretch>& stretches, unsigned rounds, unsigned threads) {
  std::vector<uint64_t (*)(const std::byte*, size_t) noexcept> ways = {read_words};
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx2")) ways.push_back(read_32);
  if (__builtin_cpu_supports("avx512f")) ways.push_back(read_64);
#endif
  std::vector<Samples> samples(ways.size(), Samples(rounds));
  for (unsigned round = 0; round < rounds; ++round) {
    for (size_t way = 0; way < ways.size(); ++way) {
      const auto read = [&](unsigned first) {
        if (threads > 1) tests::support::pin_to_processor(first);
        for (size_t i = first; i < stretches.size(); i += threads)
          keep(ways[way](static_cast<const std::byte*>(stretches[i].bytes), stretches[i].n));
      };
      std::optional<OwnProcessors> own_processors;
      if (threads > 1) own_processors.emplace();
      const uint64_t from = ticks();
      std::vector<std::thread> others;
      for (unsigned thread = 1; thread < threads; ++thread) others.emplace_back(read, thread);
      read(0);
      for (std::thread& other : others) other.join();
      samples[way].add(ticks() - from);
    }
  }
  double best = std::numeric_limits<double>::infinity();
  for (const Samples& way : samples) best = std::min(best, way.percentile_ns(0.5));
  return best;
}

}  // namespace warmtier::bench
