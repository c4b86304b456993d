// A daemon that may not use io_uring, as in many containers: it serves with threads, and says so.
#include <criterion/criterion.h>
#include <errno.h>
#include <seccomp.h>

#include <string>

#include "tests/support/daemon.hpp"
#include "tests/support/records.hpp"

using namespace warmtier::tests::support;

namespace {

constexpr Shape kShape{.dimensions = 16, .content_bytes_max = 600};

// For this process and all that it starts.
void forbid_io_uring() {
  const scmp_filter_ctx filter = ::seccomp_init(SCMP_ACT_ALLOW);
  for (const char* call : {"io_uring_setup", "io_uring_enter", "io_uring_register"}) {
    cr_assert_eq(::seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), ::seccomp_syscall_resolve_name(call), 0), 0);
  }
  cr_assert_eq(::seccomp_load(filter), 0);
  ::seccomp_release(filter);
}

void assert_says(const std::string& log, const char* word) {
  cr_assert_neq(log.find(word), std::string::npos, "no \"%s\" in:\n%s", word, log.c_str());
}

}  // namespace

Test(io_backend, a_daemon_that_may_not_use_io_uring_serves_with_threads_and_says_so, .timeout = 120) {
  forbid_io_uring();
  StoreOptions options;
  options.capacity = 1024;
  options.checkpoint_interval_ms = 20;
  Daemon daemon(options);
  daemon.start();
  assert_says(daemon.log(), "threads");
  assert_says(daemon.log(), "io_uring_setup");
  const Client client(daemon);
  cr_assert_eq(stats_of(client).io_backend, 2);
  // Slots are used again, so checkpoints come to the device; and what is large goes its own way.
  for (uint32_t version = 1; version <= 3'000; ++version)
    cr_assert_eq(put_record(client, kShape, version % 8, version), WARM_OK, "%s", warm_last_error());
  const Shape large{.dimensions = 16, .content_bytes_max = 4'000'000};
  for (uint64_t key = 100; key < 110; ++key) cr_assert_eq(put_record(client, large, key, 1), WARM_OK, "%s", warm_last_error());
  for (const bool killed : {true, false}) {
    if (killed) {
      daemon.restart();
    } else {
      daemon.stop_and_start();
    }
    for (uint64_t key = 0; key < 8; ++key) {
      uint32_t version = 0;
      cr_assert_eq(check_record(client, kShape, key, &version), WARM_OK, "%s", warm_last_error());
      cr_assert_eq(version, key == 0 ? 3'000 : 2'992 + key);
    }
    for (uint64_t key = 100; key < 110; ++key) cr_assert_eq(check_record(client, large, key), WARM_OK, "%s", warm_last_error());
    cr_assert_eq(stats_of(client).io_backend, 2);
  }
  cr_assert(daemon.stop() == exit_code(0));
}
