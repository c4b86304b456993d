// Compiled with -mavx2; reached only where the processor has it.
#include "base/hash_avx2.hpp"

#define XXH_INLINE_ALL
#include <xxhash.h>

namespace warmtier::base {

uint64_t hash64_avx2(const void* bytes, size_t n, uint64_t seed) noexcept { return XXH3_64bits_withSeed(bytes, n, seed); }

}  // namespace warmtier::base
