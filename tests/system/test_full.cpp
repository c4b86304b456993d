// A store without a free slot says who keeps the dead ones: processes that have not come back, or views.
#include <criterion/criterion.h>
#include <unistd.h>

#include <cstring>
#include <string>

#include "tests/support/daemon.hpp"
#include "tests/support/records.hpp"

using namespace warmtier::tests::support;
namespace base = warmtier::base;

namespace {

constexpr Shape kShape{.dimensions = 16, .content_bytes_max = 60};
constexpr uint64_t kCapacity = 64;

StoreOptions small() {
  StoreOptions options;
  options.capacity = kCapacity;
  return options;
}

// Puts until the store is full, and says what the caller is told.
std::string fill(warm_client* client) {
  for (uint64_t key = 0; key < 4 * kCapacity; ++key) {
    const int code = put_record(client, kShape, key, 1);
    if (code == WARM_E_FULL) return warm_last_error();
    cr_assert_eq(code, WARM_OK, "%s", warm_last_error());
  }
  return "the store is not full";
}

bool says(const std::string& text, const std::string& what) { return text.find(what) != std::string::npos; }

}  // namespace

TestSuite(full, .timeout = 120);

Test(full, processes_that_have_not_come_back_are_named_to_the_caller_in_the_log_and_in_the_statistics) {
  Daemon daemon(small());
  daemon.start();
  Shared<Steps> attached;
  Process idler = Process::fork([&] {
    warm_client* client = nullptr;
    if (daemon.try_open(&client) != WARM_OK) return 1;
    attached->advance();
    ::pause();
    return 0;
  });
  attached->await(1, "the idler attaches");
  const Client client(daemon);
  cr_assert_eq(put_record(client, kShape, 0, 1), WARM_OK);
  daemon.restart();
  cr_assert_eq(put_record(client, kShape, 0, 2), WARM_OK, "%s", warm_last_error());
  cr_assert_eq(stats_of(client).orphans, 1);
  const std::string told = fill(client);
  const std::string pid = std::to_string(idler.pid());
  cr_assert(says(told, "1 sessions of living processes (pid " + pid + ")"), "%s", told.c_str());
  fill(client);
  const std::string log = daemon.log();
  const size_t first = log.find("puts are refused: 1 sessions");
  cr_assert(first != std::string::npos && says(log.substr(first), pid), "%s", log.c_str());
  cr_assert_eq(log.find("puts are refused", first + 1), std::string::npos, "once is enough");
  idler.kill();
  await_stats(client, "the idler's session ends", [](const warm_stats& stats) { return stats.orphans == 0; });
  cr_assert_eq(put_record(client, kShape, 1'000, 1), WARM_OK, "the slot of the first version is used again: %s",
               warm_last_error());
}

Test(full, slots_that_views_hold_are_counted_to_the_caller) {
  Daemon daemon(small());
  daemon.start();
  const Client client(daemon);
  warm_view view = WARM_VIEW_INIT;
  cr_assert_eq(put_record(client, kShape, 0, 1), WARM_OK);
  const std::string id = record_id(0);
  cr_assert_eq(warm_get(client, id.data(), id.size(), 0, &view), WARM_OK);
  cr_assert_eq(put_record(client, kShape, 0, 2), WARM_OK);
  const std::string told = fill(client);
  cr_assert(says(told, "views hold 1 slots"), "%s", told.c_str());
  cr_assert_eq(warm_release(client, &view), WARM_OK);
  // The daemon looks again for pins at most once a millisecond, and nothing tells it of a release.
  const base::Deadline deadline = base::Deadline::after_ns(kPatienceNs);
  int code = WARM_E_FULL;
  while (code == WARM_E_FULL && !deadline.passed()) code = put_record(client, kShape, 1'000, 1);
  cr_assert_eq(code, WARM_OK, "%s", warm_last_error());
}
