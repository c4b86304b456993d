#include "base/hash.hpp"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "base/hash_avx2.hpp"

namespace warmtier::base {
namespace {

constexpr size_t kShort = 240;  // up to here XXH3 has no vector loop

bool has_avx2() noexcept {
#if defined(__x86_64__)
  __builtin_cpu_init();
  return __builtin_cpu_supports("avx2") != 0;
#else
  return false;
#endif
}

const bool kHasAvx2 = has_avx2();

}  // namespace

uint64_t hash64(const void* bytes, size_t n, uint64_t seed) noexcept {
#if defined(__x86_64__)
  if (n > kShort && kHasAvx2) return hash64_avx2(bytes, n, seed);
#endif
  return XXH3_64bits_withSeed(bytes, n, seed);
}

}  // namespace warmtier::base
