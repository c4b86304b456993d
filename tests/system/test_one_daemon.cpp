// One daemon a store; and what it finds in its place when it starts.
#include <criterion/criterion.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>
#include <fstream>

#include "layout/layout.hpp"
#include "layout/record.hpp"
#include "tests/support/daemon.hpp"
#include "tests/support/records.hpp"

using namespace warmtier::tests::support;
namespace layout = warmtier::layout;
namespace base = warmtier::base;

namespace {

constexpr Shape kShape{.dimensions = 16, .content_bytes_max = 600};

std::string text_in(const std::string& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

void assert_says(const std::string& log, const char* word) {
  cr_assert_neq(log.find(word), std::string::npos, "no \"%s\" in:\n%s", word, log.c_str());
}

}  // namespace

TestSuite(one_daemon, .timeout = 120);

Test(one_daemon, a_second_one_on_the_same_store_is_refused_clearly) {
  Daemon daemon;
  daemon.start();
  const std::string log = daemon.directory() + "/second.log";
  std::vector<std::string> arguments = daemon.arguments();
  arguments[4] = daemon.directory() + "/second.sock";
  Process second = Process::execute(arguments, {}, log);
  const Process::End end = second.wait();
  cr_assert(end.exited && end.code != 0, "%s; it said:\n%s", text_of(end).c_str(), text_in(log).c_str());
  assert_says(text_in(log), "another daemon");
  assert_says(text_in(log), std::to_string(daemon.pid()).c_str());
  struct stat nothing;
  cr_assert_neq(::stat(arguments[4].c_str(), &nothing), 0, "the refused daemon left a socket");
  const Client client(daemon);
  cr_assert_eq(put_record(client, kShape, 1, 1), WARM_OK);
}

Test(one_daemon, a_waiting_one_takes_over_when_the_first_dies) {
  Daemon daemon;
  daemon.start();
  {
    const Client client(daemon);
    cr_assert_eq(put_record(client, kShape, 1, 1), WARM_OK);
  }
  Daemon second({.failpoints = false, .existing_store = daemon.store()});
  second.start_without_waiting();
  daemon.kill();
  cr_assert(second.wait_ready(base::Deadline::after_ns(kPatienceNs)), "it said:\n%s", second.log().c_str());
  {
    const Client client(second);
    cr_assert_eq(check_record(client, kShape, 1), WARM_OK);
  }
  cr_assert(second.stop() == exit_code(0));
}

Test(one_daemon, a_socket_that_a_killed_one_left_is_replaced) {
  Daemon daemon;
  daemon.start();
  daemon.kill();
  struct stat before;
  cr_assert_eq(::stat(daemon.socket().c_str(), &before), 0, "the killed daemon left no socket");
  daemon.start();
  const Client client(daemon);
  cr_assert_eq(put_record(client, kShape, 1, 1), WARM_OK);
}

Test(one_daemon, a_socket_that_answers_is_not_taken_from_another_daemon) {
  Daemon daemon;
  daemon.start();
  Daemon other({.failpoints = false});
  const std::string log = other.directory() + "/log";
  std::vector<std::string> arguments = other.arguments();
  arguments[4] = daemon.socket();
  Process second = Process::execute(arguments, {}, log);
  const Process::End end = second.wait();
  cr_assert(end.exited && end.code != 0, "%s; it said:\n%s", text_of(end).c_str(), text_in(log).c_str());
  assert_says(text_in(log), daemon.socket().c_str());
  const Client client(daemon);
  cr_assert_eq(put_record(client, kShape, 1, 1), WARM_OK);
}

Test(one_daemon, an_unknown_format_version_is_refused_with_both_numbers) {
  Daemon daemon;
  const int fd = ::open((daemon.store() + "/warm.tier").c_str(), O_RDWR | O_CLOEXEC);
  cr_assert_geq(fd, 0);
  constexpr uint32_t kOther = 4'711;
  for (const size_t offset : layout::kSuperblockOffsets) {
    layout::Superblock superblock;
    cr_assert_eq(::pread(fd, &superblock, sizeof superblock, static_cast<off_t>(offset)),
                 static_cast<ssize_t>(sizeof superblock));
    if (superblock.magic != layout::kTierMagic) continue;
    superblock.format_version = kOther;
    superblock.checksum = layout::superblock_checksum(superblock);
    cr_assert_eq(::pwrite(fd, &superblock, sizeof superblock, static_cast<off_t>(offset)),
                 static_cast<ssize_t>(sizeof superblock));
  }
  ::close(fd);
  daemon.start_without_waiting();
  const Process::End end = daemon.process().wait();
  cr_assert(end.exited && end.code != 0, "%s", text_of(end).c_str());
  assert_says(daemon.log(), "4711");
  assert_says(daemon.log(), std::to_string(layout::kFormatVersion).c_str());
  assert_says(daemon.log(), "version");
}

Test(one_daemon, a_directory_of_something_else_is_refused_and_left_alone) {
  Daemon daemon;
  std::vector<std::string> arguments = daemon.arguments();
  arguments[2] = daemon.directory() + "/photos";
  cr_assert_eq(::mkdir(arguments[2].c_str(), 0755), 0);
  std::ofstream(arguments[2] + "/one.jpg") << "not a store";
  const std::string log = daemon.directory() + "/second.log";
  Process second = Process::execute(arguments, {}, log);
  const Process::End end = second.wait();
  cr_assert(end.exited && end.code != 0, "%s", text_of(end).c_str());
  assert_says(text_in(log), arguments[2].c_str());
  cr_assert_eq(text_in(arguments[2] + "/one.jpg"), "not a store");
  struct stat nothing;
  cr_assert_neq(::stat((arguments[2] + "/lock").c_str(), &nothing), 0, "something was made in a directory that is not ours");
}

namespace {

// Whether a process waits for a lock, as the kernel lists it.
bool waits_for_a_lock(pid_t pid) {
  std::ifstream locks("/proc/locks");
  std::string line;
  while (std::getline(locks, line)) {
    if (line.find("-> FLOCK") != std::string::npos && line.find(" " + std::to_string(pid) + " ") != std::string::npos)
      return true;
  }
  return false;
}

}  // namespace

// The first stands where it is about to make the store. The second waits for its lock, and makes the store when the first dies.
Test(one_daemon, two_that_start_on_an_empty_place_do_not_meet_in_its_making, .disabled = !failpoints_built()) {
  Daemon first({.made_by_daemon = true});
  first.failpoints().arm(0, "daemon.store.making", FailpointAction::pause);
  first.start_without_waiting();
  first.failpoints().await_arrived(0);
  Daemon second({.failpoints = false, .existing_store = first.store()});
  second.start_without_waiting();
  const base::Deadline deadline = base::Deadline::after_ns(kPatienceNs);
  // The kernel's list of locks wakes nobody: it is read again while what must not happen is awaited.
  while (!first.failpoints().wait_arrived(0, 2, base::Deadline::after_ns(base::kNsPerMs)) && !waits_for_a_lock(second.pid()) &&
         !deadline.passed()) {
  }
  cr_assert_eq(first.failpoints().arrived(0), 1, "both make it");
  first.failpoints().disarm(0);
  first.kill();
  cr_assert(second.wait_ready(deadline), "it said:\n%s", second.log().c_str());
  const Client client(second);
}

Test(one_daemon, a_place_where_one_was_killed_before_its_store_was_whole_is_an_empty_place) {
  Daemon daemon({.made_by_daemon = true});
  const std::string store = daemon.store();
  cr_assert_eq(::mkdir(store.c_str(), 0750), 0);
  for (const char* name : {"/content", "/channels"}) cr_assert_eq(::mkdir((store + name).c_str(), 0750), 0);
  for (const char* name : {"/lock", "/warm.tier.new"}) std::ofstream(store + name) << "";
  // But content without its warm.tier is nobody's to write over.
  std::ofstream(store + "/content/7.seg") << "a segment";
  const std::string log = daemon.directory() + "/refused";
  const Process::End end = Process::execute(daemon.arguments(), {}, log).wait();
  cr_assert(end.exited && end.code != 0, "%s", text_of(end).c_str());
  assert_says(text_in(log), "is not empty");
  cr_assert_eq(::unlink((store + "/content/7.seg").c_str()), 0);
  daemon.start();
  struct stat there;
  cr_assert_eq(::stat((store + "/warm.tier").c_str(), &there), 0);
  cr_assert(daemon.stop() == exit_code(0), "it said:\n%s", daemon.log().c_str());
}

Test(one_daemon, a_stop_in_order_leaves_no_socket) {
  Daemon daemon;
  daemon.start();
  cr_assert(daemon.stop() == exit_code(0), "it said:\n%s", daemon.log().c_str());
  struct stat nothing;
  cr_assert_neq(::stat(daemon.socket().c_str(), &nothing), 0, "the stopped daemon left its socket");
}
