#include <criterion/criterion.h>

#include <cstdint>
#include <limits>
#include <vector>

#include "base/checked.hpp"
#include "base/clock.hpp"
#include "base/hash.hpp"
#include "base/hash_avx2.hpp"

// The reference: the same algorithm without a vector unit.
#define XXH_VECTOR 0
#define XXH_INLINE_ALL
#include <xxhash.h>

using namespace warmtier::base;

Test(checked, sums_and_products_at_the_end_of_the_range_are_right_and_beyond_it_nothing) {
  constexpr uint64_t kMax = std::numeric_limits<uint64_t>::max();
  cr_assert(checked_add(kMax - 1, uint64_t{1}) == kMax);
  cr_assert_not(checked_add(kMax, uint64_t{1}).has_value());
  cr_assert(checked_add<uint32_t>(0xFFFF'FFF0U, 15U) == 0xFFFF'FFFFU);
  cr_assert_not(checked_add<uint32_t>(0xFFFF'FFF0U, 16U).has_value());
  cr_assert(checked_mul(uint64_t{1} << 32, (uint64_t{1} << 32) - 1) == ((uint64_t{1} << 32) - 1) << 32);
  cr_assert_not(checked_mul(uint64_t{1} << 32, uint64_t{1} << 32).has_value());
  cr_assert(checked_mul(kMax, uint64_t{0}) == 0U);
}

Test(checked, rounding_up_goes_to_the_next_multiple_and_leaves_multiples_alone) {
  cr_assert(round_up(uint64_t{0}, uint64_t{8}) == 0 && round_up(uint64_t{1}, uint64_t{8}) == 8);
  cr_assert(round_up(uint64_t{8}, uint64_t{8}) == 8 && round_up(uint64_t{9}, uint64_t{8}) == 16);
}

Test(deadline, it_has_passed_at_once_with_no_time_and_never_without_end) {
  cr_assert(Deadline::after_ns(0).passed());
  cr_assert_eq(Deadline::after_ns(0).left_ns(), 0U);
  cr_assert_not(Deadline::never().passed());
  cr_assert_gt(Deadline::never().left_ns(), uint64_t{1} << 62);
}

Test(deadline, a_time_beyond_the_clock_is_not_one_in_the_past) {
  for (const uint64_t ns : {std::numeric_limits<uint64_t>::max(), std::numeric_limits<uint64_t>::max() - 1}) {
    cr_assert_not(Deadline::after_ns(ns).passed());
  }
}

Test(deadline, what_is_left_shrinks_until_it_has_passed) {
  const Deadline soon = Deadline::after_ns(2 * kNsPerMs);
  uint64_t left = soon.left_ns();
  cr_assert_leq(left, 2 * kNsPerMs);
  while (!soon.passed()) {
    const uint64_t now = soon.left_ns();
    cr_assert_leq(now, left);
    left = now;
  }
  cr_assert_eq(soon.left_ns(), 0U);
}

Test(hash, every_variant_gives_the_same_number_for_every_length_and_place) {
  std::vector<unsigned char> bytes(5000);
  uint64_t state = 1;
  for (auto& byte : bytes)
    byte = static_cast<unsigned char>((state = state * 6364136223846793005ULL + 1442695040888963407ULL) >> 56);
  for (size_t n = 0; n <= 4200; n += n < 600 ? 1 : 97) {
    for (const size_t at : {size_t{0}, size_t{1}, size_t{13}}) {
      for (const uint64_t seed : {uint64_t{0}, uint64_t{1}, ~uint64_t{0}, uint64_t{0x1234'5678'9ABC'DEF0}}) {
        const uint64_t reference = XXH3_64bits_withSeed(bytes.data() + at, n, seed);
        cr_assert_eq(hash64(bytes.data() + at, n, seed), reference, "%zu bytes at %zu", n, at);
#if defined(__x86_64__)
        if (__builtin_cpu_supports("avx2"))
          cr_assert_eq(hash64_avx2(bytes.data() + at, n, seed), reference, "%zu bytes at %zu", n, at);
#endif
      }
    }
  }
}

Test(hash, the_numbers_are_those_that_stored_bytes_were_made_with) {
  // XXH3, 64 bits. A change of these numbers is a change of the format.
  cr_assert_eq(hash64("", 0, 0), 0x2D06'8005'38D3'94C2ULL);
  cr_assert_neq(hash64("", 0, 1), hash64("", 0, 0));
}
