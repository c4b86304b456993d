#include "base/assert.hpp"

#include <cstdio>
#include <cstdlib>

namespace warmtier::base {

void assertion_failed(const char* condition, const char* file, int line) noexcept {
  std::fprintf(stderr, "<2>warmtier: assertion failed: %s (%s:%d)\n", condition, file, line);
  std::abort();
}

}  // namespace warmtier::base
