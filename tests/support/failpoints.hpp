// The test's side of base/failpoint.hpp: the control file, and waiting for what processes do at a point.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/failpoint.hpp"
#include "tests/support/process.hpp"

namespace warmtier::tests::support {

using base::FailpointAction;

class Failpoints {
 public:
  // Makes the control file and names it in this process's environment, so that children and daemons find it. To be made before
  // this process calls the library for the first time. Rules that the environment variable WARMTIER_OMIT names (WARM_RULE, by
  // commas) are left out from the start: a test that guards one must fail then.
  explicit Failpoints(const std::string& path);
  ~Failpoints();
  Failpoints(const Failpoints&) = delete;
  Failpoints& operator=(const Failpoints&) = delete;

  [[nodiscard]] const std::string& path() const noexcept { return path_; }
  // Rules are numbered from 0; arming a number again gives it a new life with counters at 0.
  void arm(unsigned rule, std::string_view name, FailpointAction action, uint32_t skip = 0, pid_t owner = 0);
  void disarm(unsigned rule);
  void disarm_all();
  [[nodiscard]] uint32_t hits(unsigned rule) const noexcept;
  [[nodiscard]] uint32_t arrived(unsigned rule) const noexcept;
  // Waits until so many threads have paused at the rule since it was armed.
  [[nodiscard]] bool wait_arrived(unsigned rule, uint32_t count, const base::Deadline& deadline) const noexcept;
  void await_arrived(unsigned rule, uint32_t count = 1) const;
  // Waits until a thread that was not seen before pauses at one of the rules 0 .. seen.size() - 1, counts it in `seen` and says
  // which rule; -1 when `process` ends first.
  [[nodiscard]] int await_any(std::vector<uint32_t>& seen, const Process& process) const;
  // Lets so many more of them go on.
  void release(unsigned rule, uint32_t count = 1) noexcept;
  // Nobody pauses there any more, and who paused goes on.
  void disarm_and_release(unsigned rule) noexcept;

 private:
  std::string path_;
  base::FailpointControl* control_ = nullptr;
};

// True when WARMTIER_OMIT names something.
bool omits_rules();

// Every WARM_FAILPOINT("...") in the sources under this folder of the project, by name, one place each: a point that is added is
// tested.
struct FailpointPlace {
  std::string name;
  std::string file;  // from the project's root
  uint32_t line = 0;
};
std::string source_root();  // WARMTIER_SOURCE_ROOT, else where this was built from
std::vector<FailpointPlace> failpoint_places(const std::string& folder, std::string_view prefix = "");
std::vector<std::string> failpoint_names(const std::string& folder, std::string_view prefix = "");

// False in a build without failpoints.
constexpr bool failpoints_built() {
#ifdef WARMTIER_FAILPOINTS
  return true;
#else
  return false;
#endif
}

}  // namespace warmtier::tests::support
