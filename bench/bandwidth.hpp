// What memory gives to who only reads it in order: the limit for every scan.
#pragma once

#include <cstddef>
#include <vector>

namespace warmtier::bench {

struct Stretch {
  const void* bytes;  // on a 64-byte boundary
  size_t n;           // a multiple of 256
};

// Time for reading all of it once, in order: the best of three ways to read (8, 32 and 64 bytes at a time, as far as this
// processor has them), each tried `rounds` times in turn; of these the median. Several threads share the stretches; each has one
// of the first processors that this process may use.
double read_ns(const std::vector<Stretch>& stretches, unsigned rounds, unsigned threads = 1);

}  // namespace warmtier::bench
