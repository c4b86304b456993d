// splitmix64 (Steele, Lea, Flood 2014): numbers that look random and are the same in every run.
#pragma once

#include <cstdint>

namespace warmtier::tests::support {

constexpr uint64_t kChanceStep = 0x9E37'79B9'7F4A'7C15ULL;

constexpr uint64_t mix(uint64_t x) noexcept {
  x += kChanceStep;
  x = (x ^ (x >> 30)) * 0xBF58'476D'1CE4'E5B9ULL;
  x = (x ^ (x >> 27)) * 0x94D0'49BB'1331'11EBULL;
  return x ^ (x >> 31);
}

class Chance {
 public:
  explicit Chance(uint64_t seed) noexcept : state_(seed) {}
  uint64_t next() noexcept {
    const uint64_t drawn = mix(state_);
    state_ += kChanceStep;
    return drawn;
  }
  uint64_t below(uint64_t n) noexcept { return next() % n; }
  float in_unit() noexcept { return static_cast<float>(static_cast<int64_t>(next() >> 40) - (1 << 23)) / (1 << 23); }  // -1 to 1

 private:
  uint64_t state_;
};

}  // namespace warmtier::tests::support
