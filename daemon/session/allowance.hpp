// So much at once, and so much a second after that. Who has used it up rests for a while and then has that while's worth at once:
// a few interruptions a second with something to do each, and not one for each thing. The time is an argument.
#pragma once

#include <algorithm>
#include <cstdint>

#include "base/clock.hpp"

namespace warmtier::daemon::session {

struct Rate {
  int64_t at_once = 0;
  int64_t a_second = 0;
};
constexpr uint64_t kRestNs = 100 * base::kNsPerMs;

class Allowance {
 public:
  Allowance(Rate rate, uint64_t now_ns) noexcept : rate_(rate), left_(rate.at_once), since_ns_(now_ns) {}

  // What was done is paid, also what was done in one go and is more than was left. Whoever asks `any` first owes little.
  void spend(int64_t amount) noexcept { left_ -= amount; }
  void earn(int64_t amount) noexcept {
    left_ = std::min(left_ + amount, rate_.at_once);
    if (left_ > 0) rest_ends_ns_ = 0;
  }
  [[nodiscard]] bool any(uint64_t now_ns) noexcept {
    if (left_ == rate_.at_once) since_ns_ = now_ns;
    if (left_ > 0) return true;
    if (now_ns < rest_ends_ns_) return false;
    refill(now_ns);
    rest_ends_ns_ = left_ > 0 ? 0 : now_ns + kRestNs;
    return left_ > 0;
  }
  [[nodiscard]] int64_t left() const noexcept { return left_; }
  // As at the beginning: nothing is lost when it is forgotten.
  [[nodiscard]] bool whole(uint64_t now_ns) const noexcept {
    Allowance then = *this;
    then.refill(now_ns);
    return then.left_ == rate_.at_once;
  }

 private:
  // By whole ones; the rest of the time counts for the next.
  void refill(uint64_t now_ns) noexcept {
    const auto a_second = static_cast<uint64_t>(rate_.a_second);
    const uint64_t passed_ns = now_ns - since_ns_;
    const uint64_t long_enough_ns = static_cast<uint64_t>(rate_.at_once - left_) * base::kNsPerSecond / a_second + 1;
    if (passed_ns >= long_enough_ns) {
      left_ = rate_.at_once;
      since_ns_ = now_ns;
      return;
    }
    const uint64_t gained = passed_ns * a_second / base::kNsPerSecond;
    left_ += static_cast<int64_t>(gained);
    since_ns_ += gained * base::kNsPerSecond / a_second;
  }

  Rate rate_;
  int64_t left_;
  uint64_t since_ns_;  // so far it has been filled
  uint64_t rest_ends_ns_ = 0;
};

}  // namespace warmtier::daemon::session
