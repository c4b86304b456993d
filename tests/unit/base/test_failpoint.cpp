#include "base/failpoint.hpp"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <climits>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <string>
#include <thread>

#include "base/fd.hpp"
#include "tests/unit/base/children.hpp"

using namespace warmtier;
using namespace warmtier::tests::base;
using base::FailpointAction;
using base::FailpointControl;
using base::FailpointRule;

namespace {

void arm(FailpointRule& rule, const char* name, FailpointAction action, uint32_t skip = 0, uint32_t owner = 0) {
  std::strncpy(rule.name, name, sizeof rule.name - 1);
  rule.skip.store(skip);
  rule.owner.store(owner);
  rule.action.store(static_cast<uint32_t>(action), std::memory_order_release);
}

void await_at_least(std::atomic<uint32_t>& word, uint32_t value) {
  for (uint32_t seen = word.load(); seen < value; seen = word.load()) {
    ::syscall(SYS_futex, &word, FUTEX_WAIT, seen, nullptr, nullptr, 0);
  }
}

void release(FailpointRule& rule, uint32_t count) {
  rule.released.fetch_add(count);
  ::syscall(SYS_futex, &rule.released, FUTEX_WAKE, INT_MAX, nullptr, nullptr, 0);
}

}  // namespace

Test(failpoint, only_the_point_with_the_whole_name_counts) {
  FailpointControl control{};
  base::failpoint_attach(&control);
  arm(control.rules[0], "test.one", FailpointAction::count);
  base::failpoint_hit("test.one");
  base::failpoint_hit("test.one.more");
  base::failpoint_hit("test.on");
  base::failpoint_hit("test.one");
  cr_assert_eq(control.rules[0].hits.load(), 2U);
  control.rules[0].action.store(0);
  base::failpoint_hit("test.one");
  cr_assert_eq(control.rules[0].hits.load(), 2U, "a rule that is not armed");
}

Test(failpoint, a_rule_for_another_process_or_thread_does_not_apply) {
  FailpointControl control{};
  base::failpoint_attach(&control);
  const auto pid = static_cast<uint32_t>(::getpid());
  arm(control.rules[0], "test.owner", FailpointAction::count, 0, pid);
  arm(control.rules[1], "test.owner", FailpointAction::count, 0, pid == 1 ? 2 : 1);
  base::failpoint_hit("test.owner");
  std::thread([&] {
    arm(control.rules[2], "test.owner", FailpointAction::count, 0, static_cast<uint32_t>(::gettid()));
    base::failpoint_hit("test.owner");
  }).join();
  base::failpoint_hit("test.owner");
  cr_assert_eq(control.rules[0].hits.load(), 3U, "a process is all its threads");
  cr_assert_eq(control.rules[1].hits.load(), 0U);
  cr_assert_eq(control.rules[2].hits.load(), 1U, "a thread is itself alone");
}

Test(failpoint, the_kill_comes_after_as_many_hits_as_were_to_be_skipped) {
  Shared<FailpointControl> control;
  arm(control->rules[0], "test.kill", FailpointAction::kill, 3);
  const int status = status_of_child([&] {
    base::failpoint_attach(control.get());
    for (int i = 0; i < 10; ++i) base::failpoint_hit("test.kill");
    return 0;
  });
  cr_assert(killed_by(status, SIGKILL));
  cr_assert_eq(control->rules[0].hits.load(), 4U);
}

Test(failpoint, a_paused_thread_goes_on_when_it_is_released_and_not_before) {
  FailpointControl control{};
  base::failpoint_attach(&control);
  FailpointRule& rule = control.rules[5];
  arm(rule, "test.pause", FailpointAction::pause);
  std::atomic<int> passed{0};
  std::thread one([&] { base::failpoint_hit("test.pause"), ++passed; });
  await_at_least(rule.arrived, 1);
  cr_assert_eq(passed.load(), 0);
  std::thread two([&] { base::failpoint_hit("test.pause"), ++passed; });
  await_at_least(rule.arrived, 2);
  cr_assert_eq(passed.load(), 0);
  release(rule, 1);
  one.join();
  cr_assert_eq(passed.load(), 1, "the first that came goes first");
  release(rule, 1);
  two.join();
  cr_assert_eq(passed.load(), 2);
}

Test(failpoint, a_process_finds_the_control_file_by_its_environment) {
  auto file = base::make_memfd("control", sizeof(FailpointControl), true);
  void* map = ::mmap(nullptr, sizeof(FailpointControl), PROT_READ | PROT_WRITE, MAP_SHARED, file->get(), 0);
  cr_assert(map != MAP_FAILED);
  auto* control = static_cast<FailpointControl*>(map);
  arm(control->rules[0], "test.file", FailpointAction::count);
  const std::string path = "/proc/self/fd/" + std::to_string(file->get());
  const int status = status_of_child([&] {
    ::setenv("WARMTIER_FAILPOINTS", path.c_str(), 1);
    base::failpoint_hit("test.file");
    return 0;
  });
  cr_assert(exited_with(status, 0));
  cr_assert_eq(control->rules[0].hits.load(), 1U);
  ::munmap(map, sizeof(FailpointControl));
}

Test(failpoint, without_a_control_file_nothing_happens) {
  const int status = status_of_child([] {
    ::unsetenv("WARMTIER_FAILPOINTS");
    base::failpoint_hit("test.nothing");
    return 0;
  });
  cr_assert(exited_with(status, 0));
}

Test(rule, it_holds_until_the_control_file_leaves_it_out) {
  FailpointControl control{};
  base::failpoint_attach(&control);
  cr_assert(base::rule_holds("test.rule"));
  arm(control.rules[0], "test.rule", FailpointAction::omit);
  cr_assert_not(base::rule_holds("test.rule"));
  cr_assert(base::rule_holds("test.rules"), "another name");
  cr_assert_eq(control.rules[0].hits.load(), 1U);
  control.rules[0].action.store(0);
  cr_assert(base::rule_holds("test.rule"));
}

Test(rule, one_that_is_counted_or_paused_at_by_name_still_holds) {
  FailpointControl control{};
  base::failpoint_attach(&control);
  arm(control.rules[0], "test.rule", FailpointAction::count);
  cr_assert(base::rule_holds("test.rule"));
}
