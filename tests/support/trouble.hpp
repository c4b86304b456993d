// What a test's helper does when the world is not as the test needs it: it says so and the test process ends. Never used by a
// child for its own verdict: children end with an exit code, and the parent judges.
#pragma once

#include <string>

namespace warmtier::tests::support {

[[noreturn]] void give_up(const std::string& what);

}  // namespace warmtier::tests::support
