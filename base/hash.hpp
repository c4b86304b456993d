// XXH3 (xxHash), the one hash of this project: ids, checksums, identities. The AVX2 variant is chosen at run time; every
// variant gives the same number.
#pragma once

#include <cstddef>
#include <cstdint>

namespace warmtier::base {

uint64_t hash64(const void* bytes, size_t n, uint64_t seed) noexcept;

}  // namespace warmtier::base
