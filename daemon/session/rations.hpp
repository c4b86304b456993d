// S18: what another user than the daemon's own may make the intake thread do, with all his connections together. The time is an
// argument.
//
// Thread law: the intake thread.
#pragma once

#include <sys/types.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <unordered_map>

#include "daemon/session/allowance.hpp"

namespace warmtier::daemon::session {

// A message costs some microseconds, an attachment some hundreds, a descriptor in a list of segments two: a hundredth of a
// processor each, or two.
//
// Messages: a request that the store was asked about pays for one, so the bells of who puts cost nothing, at any speed. What is
// left are watches, questions and bells for touches; who has nothing left is heard again every 100 ms: a few interruptions a
// second with something to do, not one for each message.
constexpr Rate kMessages{.at_once = 2048, .a_second = 1'000};
// A thousand processes that begin at once are heard at once. One that comes back to the session that it had is not counted.
constexpr Rate kGreetings{.at_once = 1024, .a_second = 50};
// Descriptors in lists of segments that were asked for: a hundred sessions that all meet a new one, in a store of hundreds.
constexpr Rate kListed{.at_once = 65'536, .a_second = 4'000};

// Of one user.
struct Ration {
  explicit Ration(uint64_t now_ns) noexcept
      : messages(kMessages, now_ns), greetings(kGreetings, now_ns), listed(kListed, now_ns) {}
  // As at the beginning: nothing is lost when it is forgotten.
  [[nodiscard]] bool whole(uint64_t now_ns) const noexcept {
    return line.empty() && messages.whole(now_ns) && greetings.whole(now_ns) && listed.whole(now_ns);
  }
  Allowance messages;
  Allowance greetings;
  Allowance listed;
  std::deque<uint64_t> line;  // connections that wait to be heard, in their order
};

class Rations {
 public:
  Ration& of(uid_t uid, uint64_t now_ns) {
    if (rations_.size() >= forget_at_ && !rations_.contains(uid)) {
      std::erase_if(rations_, [&](const auto& one) { return one.second.whole(now_ns); });
      forget_at_ = std::max(kUsersMax, 2 * rations_.size());
    }
    return rations_.try_emplace(uid, now_ns).first->second;
  }
  template <typename Visit>
  void for_each(Visit&& visit) {
    for (auto& [uid, ration] : rations_) visit(ration);
  }

 private:
  static constexpr size_t kUsersMax = 1024;  // beyond so many, those who owe nothing are forgotten

  std::unordered_map<uid_t, Ration> rations_;
  size_t forget_at_ = kUsersMax;
};

}  // namespace warmtier::daemon::session
