// Arithmetic on numbers that came from outside.
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <optional>

namespace warmtier::base {

template <std::unsigned_integral T>
constexpr std::optional<T> checked_add(T a, T b) noexcept {
  T sum{};
  if (__builtin_add_overflow(a, b, &sum)) return std::nullopt;
  return sum;
}

template <std::unsigned_integral T>
constexpr std::optional<T> checked_mul(T a, T b) noexcept {
  T product{};
  if (__builtin_mul_overflow(a, b, &product)) return std::nullopt;
  return product;
}

template <std::unsigned_integral T>
constexpr T round_up(T value, T unit) noexcept {
  return (value + unit - 1) / unit * unit;
}

}  // namespace warmtier::base
