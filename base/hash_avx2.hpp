#pragma once

#include <cstddef>
#include <cstdint>

namespace warmtier::base {
uint64_t hash64_avx2(const void* bytes, size_t n, uint64_t seed) noexcept;
}
