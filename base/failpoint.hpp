// Named points at which a test stops or kills a process (build option `failpoints`; nothing is left of them without it).
//
// A point does what the control file says that the environment variable WARMTIER_FAILPOINTS names: nothing, count, kill this
// process with SIGKILL, or pause the thread until the test releases it. Names are unique in the tree: "room.step". A step is a
// point at which nothing is left behind that another process could meet, so nobody needs to be killed there: tests of
// interleavings pause at it. A rule is true unless the control file leaves it out: the code then behaves as if nobody had known
// it.
#pragma once

#include <atomic>
#include <cstdint>

#ifdef WARMTIER_FAILPOINTS
#define WARM_FAILPOINT(name) ::warmtier::base::failpoint_hit(name)
#define WARM_STEP(name) ::warmtier::base::failpoint_hit(name)
#define WARM_RULE(name) ::warmtier::base::rule_holds(name)
#else
#define WARM_FAILPOINT(name) ((void)0)
#define WARM_STEP(name) ((void)0)
#define WARM_RULE(name) true
#endif

namespace warmtier::base {

enum class FailpointAction : uint32_t { none = 0, count = 1, kill = 2, pause = 3, omit = 4 };

// One rule of the control file: the test writes everything up to `action`, the processes the rest.
struct FailpointRule {
  char name[48];                    // the point; the whole name
  std::atomic<uint32_t> owner;      // 0: any; else a pid or a tid to which the rule is limited
  std::atomic<uint32_t> skip;       // so many hits pass first (counted down)
  std::atomic<uint32_t> action;     // FailpointAction; stored last (release): it arms the rule
  std::atomic<uint32_t> hits;       // how often the rule applied, skipped ones included
  std::atomic<uint32_t> arrived;    // futex: threads that paused here so far
  std::atomic<uint32_t> released;   // futex: threads that may go on so far (the test adds)
};

constexpr uint32_t kFailpointRules = 64;

struct FailpointControl {
  FailpointRule rules[kFailpointRules];
};

// Reads WARMTIER_FAILPOINTS at the first hit. `name` must be a literal.
void failpoint_hit(const char* name) noexcept;
// False where a rule of the control file says `omit` for this name.
bool rule_holds(const char* name) noexcept;
// For a test that runs a room in its own threads.
void failpoint_attach(FailpointControl* control) noexcept;

}  // namespace warmtier::base
