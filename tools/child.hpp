// Child processes with an owner: none outlives it. Signals go through the pidfd, so that a number used again by another process
// is never hit.
#pragma once

#include <sys/types.h>

#include <functional>
#include <string>
#include <vector>

#include "base/clock.hpp"
#include "base/error.hpp"
#include "base/fd.hpp"

namespace warmtier::tools {

class Child {
 public:
  Child() noexcept = default;
  // Runs `body` in a fork of this process; its value is the exit code.
  static base::Result<Child> fork(const std::function<int()>& body);
  // Runs the program `arguments[0]` with these variables added to the environment; standard output and error go to `output`.
  static base::Result<Child> execute(const std::vector<std::string>& arguments, const std::vector<std::string>& environment,
                                     const base::Fd& output);
  Child(Child&& other) noexcept = default;
  Child& operator=(Child&& other) noexcept;
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;
  ~Child();  // killed if it still runs

  [[nodiscard]] bool running() const noexcept { return static_cast<bool>(pidfd_); }
  [[nodiscard]] int pidfd() const noexcept { return pidfd_.get(); }
  [[nodiscard]] pid_t pid() const noexcept { return pid_; }
  void signal(int number) const noexcept;
  // Waits for its end: true and the wait status of waitid(2) in `exited` and `code`; false at the deadline.
  struct End {
    bool exited = false;  // else killed by signal `code`
    int code = 0;
  };
  bool wait(const base::Deadline& deadline, End& ret_end);
  // "exit code 3", "killed by signal 9"
  static std::string text_of(const End& end);

 private:
  base::Fd pidfd_;
  pid_t pid_ = -1;
};

}  // namespace warmtier::tools
