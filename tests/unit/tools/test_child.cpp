#include "tools/child.hpp"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <cerrno>
#include <string>

using warmtier::base::Deadline;
using warmtier::base::Fd;
using warmtier::base::kNsPerSecond;
using warmtier::tools::Child;

namespace {
constexpr uint64_t kLongNs = 30 * kNsPerSecond;

int wait_for_ever() {
  for (;;) ::pause();
}
}  // namespace

Test(child, its_exit_code_is_told) {
  auto child = Child::fork([] { return 7; });
  cr_assert(child.has_value());
  Child::End end;
  cr_assert(child->wait(Deadline::after_ns(kLongNs), end));
  cr_assert(end.exited);
  cr_assert_eq(end.code, 7);
  cr_assert_not(child->running());
}

Test(child, the_signal_that_killed_it_is_told) {
  auto child = Child::fork(wait_for_ever);
  cr_assert(child.has_value());
  Child::End end;
  cr_assert_not(child->wait(Deadline::after_ns(0), end));
  child->signal(SIGKILL);
  cr_assert(child->wait(Deadline::after_ns(kLongNs), end));
  cr_assert_not(end.exited);
  cr_assert_eq(end.code, SIGKILL);
}

Test(child, it_does_not_outlive_its_owner_object) {
  pid_t pid = 0;
  {
    auto child = Child::fork(wait_for_ever);
    cr_assert(child.has_value());
    pid = child->pid();
    cr_assert_eq(::kill(pid, 0), 0);
  }
  cr_assert_eq(::kill(pid, 0), -1);
  cr_assert_eq(errno, ESRCH);
}

Test(child, it_does_not_outlive_its_parent_process, .timeout = 30) {
  int ends[2];
  cr_assert_eq(::pipe2(ends, O_CLOEXEC), 0);
  char byte = 0;
  {
    // The grandchild holds the pipe's writing end for as long as it lives.
    auto parent = Child::fork([&] {
      auto grandchild = Child::fork([&] { return ::write(ends[1], "x", 1) == 1 ? wait_for_ever() : 1; });
      return grandchild.has_value() ? wait_for_ever() : 1;
    });
    cr_assert(parent.has_value());
    ::close(ends[1]);
    cr_assert_eq(::read(ends[0], &byte, 1), 1);
  }
  cr_assert_eq(::read(ends[0], &byte, 1), 0);
}

Test(child, a_program_gets_its_arguments_its_variables_and_its_output) {
  int ends[2];
  cr_assert_eq(::pipe2(ends, O_CLOEXEC), 0);
  Fd from(ends[0]);
  Fd to(ends[1]);
  auto child = Child::execute({"/bin/sh", "-c", "printf '%s %s' \"$1\" \"$WORD\"; exit 3", "sh", "one two"}, {"WORD=three"}, to);
  cr_assert(child.has_value());
  Child::End end;
  cr_assert(child->wait(Deadline::after_ns(kLongNs), end));
  cr_assert_eq(end.code, 3);
  char text[64] = {};
  cr_assert_eq(::read(from.get(), text, sizeof text), 13);
  cr_assert_str_eq(text, "one two three");
}

Test(child, a_program_that_is_not_there_ends_with_127) {
  auto child = Child::execute({"/nonexistent/program"}, {}, Fd(::open("/dev/null", O_WRONLY | O_CLOEXEC)));
  cr_assert(child.has_value());
  Child::End end;
  cr_assert(child->wait(Deadline::after_ns(kLongNs), end));
  cr_assert(end.exited);
  cr_assert_eq(end.code, 127);
}
