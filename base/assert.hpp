// A broken invariant of our own ends the process: always on, release builds included.
#pragma once

namespace warmtier::base {
[[noreturn]] void assertion_failed(const char* condition, const char* file, int line) noexcept;
}

// clang-format off
#define WARM_ASSERT(condition)                                              \
  (__builtin_expect(static_cast<bool>(condition), 1) ? void(0)              \
                                                     : ::warmtier::base::assertion_failed(#condition, __FILE__, __LINE__))
// clang-format on
