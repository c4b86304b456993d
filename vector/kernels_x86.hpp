// Compiled for x86-64 only; used only where the processor has what the names say.
#pragma once

#include "vector/kernels.hpp"

namespace warmtier::vector::detail {

extern const Kernels avx2_kernels;    // AVX2 and FMA
extern const Kernels avx512_kernels;  // AVX-512 F, and the former

}  // namespace warmtier::vector::detail
