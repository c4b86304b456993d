// Two clocks, never mixed: deadlines run on the monotonic one, record times are wall-clock nanoseconds since 1970.
#pragma once

#include <time.h>

#include <cstdint>
#include <limits>

namespace warmtier::base {

constexpr uint64_t kNsPerSecond = 1'000'000'000;
constexpr uint64_t kNsPerMs = 1'000'000;
constexpr uint64_t kNsPerUs = 1'000;

inline uint64_t clock_ns(clockid_t id) noexcept {
  timespec now{};
  ::clock_gettime(id, &now);
  return static_cast<uint64_t>(now.tv_sec) * kNsPerSecond + static_cast<uint64_t>(now.tv_nsec);
}
inline uint64_t monotonic_ns() noexcept { return clock_ns(CLOCK_MONOTONIC); }
inline uint64_t wall_ns() noexcept { return clock_ns(CLOCK_REALTIME); }

// A point on the monotonic clock.
class Deadline {
 public:
  static Deadline after_ns(uint64_t ns) noexcept {
    const uint64_t now = monotonic_ns();
    return Deadline(ns > std::numeric_limits<uint64_t>::max() - now ? std::numeric_limits<uint64_t>::max() : now + ns);
  }
  static Deadline never() noexcept { return Deadline(std::numeric_limits<uint64_t>::max()); }
  [[nodiscard]] bool passed() const noexcept { return monotonic_ns() >= at_ns_; }
  [[nodiscard]] uint64_t left_ns() const noexcept {
    const uint64_t now = monotonic_ns();
    return now >= at_ns_ ? 0 : at_ns_ - now;
  }

 private:
  explicit Deadline(uint64_t at_ns) noexcept : at_ns_(at_ns) {}
  uint64_t at_ns_;
};

}  // namespace warmtier::base
