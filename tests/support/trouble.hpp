// What a test's helper does when the world is not as the test needs it: it says so and the test process ends. Never used by a
// child for its own verdict: children end with an exit code, and the parent judges.
#pragma once

#include <string>

namespace warmtier::tests::support {

[[noreturn]] void give_up(const std::string& what);

// For a scene that is played in a fork of its own: what does not hold is said, and the fork ends with code 1.
[[gnu::format(printf, 2, 3)]] void require(bool holds, const char* format, ...);

}  // namespace warmtier::tests::support
