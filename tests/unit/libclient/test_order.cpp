// Waiting for a change and for the device, against a daemon that does what it is told.
#include <criterion/criterion.h>

#include <cstring>
#include <memory>
#include <string>
#include <thread>

#include "libclient/client.hpp"
#include "libclient/order.hpp"
#include "tests/unit/libclient/fake_daemon.hpp"

using namespace warmtier::tests;
namespace base = warmtier::base;
namespace layout = warmtier::layout;
namespace libclient = warmtier::libclient;

TestSuite(waiting, .timeout = 60);

namespace {

struct World {
  FakeDaemon daemon;
  std::unique_ptr<libclient::Client> client;

  explicit World(layout::Access access = layout::Access::admin) {
    daemon.add_segment(1);
    daemon.set_access(access);
  }
  libclient::ClientState& open(uint64_t timeout_ns = 10 * base::kNsPerSecond) {
    auto opened = libclient::Client::open(daemon.socket().c_str(), timeout_ns);
    cr_assert(opened.has_value(), "%s", opened ? "" : opened.error().text.c_str());
    client = std::move(*opened);
    return client->state();
  }
  layout::Watch watch(size_t nth) {
    daemon.await_received(nth + 1);
    const auto bytes = daemon.received().at(nth);
    layout::Watch watch{};
    cr_assert_eq(bytes.size(), sizeof watch);
    std::memcpy(&watch, bytes.data(), sizeof watch);
    return watch;
  }
};

// A call in a thread of its own.
struct Call {
  base::Result<uint64_t> result = 0;
  std::thread thread;
  template <typename What>
  explicit Call(What what) : thread([this, what] { result = what(); }) {}
  base::Result<uint64_t>& end() {
    thread.join();
    return result;
  }
};

}  // namespace

Test(waiting, a_sequence_whose_low_half_wraps_is_later) {
  World world;
  auto& state = world.open();
  layout::store_release(world.daemon.status().sequence, 0xFFFF'FFFF);
  Call call([&] { return libclient::wait_for_change(state, 0xFFFF'FFFF, libclient::Patience::kForEver); });
  const layout::Watch watch = world.watch(0);
  cr_assert(watch.sequence_after == 0xFFFF'FFFF && watch.durable_after == layout::kWatchNothing && watch.checkpoint == 0);
  layout::store_release(world.daemon.status().sequence, uint64_t{1} << 32);
  cr_assert_eq(call.end().value(), uint64_t{1} << 32);
}

Test(waiting, a_later_daemon_is_asked_anew) {
  World world;
  auto& state = world.open();
  layout::store_release(world.daemon.status().sequence, 10);
  Call call([&] { return libclient::wait_for_change(state, 10, libclient::Patience::kForEver); });
  cr_assert_eq(world.watch(0).sequence_after, 10U);
  world.daemon.hang_up();
  cr_assert_eq(world.watch(1).sequence_after, 10U);
  cr_assert_eq(world.daemon.hellos(), 2U);
  layout::store_release(world.daemon.status().sequence, 11);
  cr_assert_eq(call.end().value(), 11U);
}

Test(waiting, who_sees_another_value_than_before_asks_again) {
  World world;
  auto& state = world.open();
  layout::store_release(world.daemon.status().sequence, 10);
  Call call([&] { return libclient::wait_for_change(state, 20, libclient::Patience::kForEver); });
  world.watch(0);
  layout::store_release(world.daemon.status().sequence, 15);
  cr_assert_eq(world.watch(1).sequence_after, 20U);
  layout::store_release(world.daemon.status().sequence, 30);
  cr_assert_eq(call.end().value(), 30U);
}

Test(waiting, one_look_asks_nobody) {
  World world;
  auto& state = world.open();
  layout::store_release(world.daemon.status().sequence, 10);
  cr_assert_eq(libclient::wait_for_change(state, 10, 0).error().code, WARM_E_BUSY);
  cr_assert_eq(libclient::wait_for_change(state, 9, 0).value(), 10U);
  cr_assert(world.daemon.received().empty());
}

Test(waiting, a_checkpoint_of_what_is_on_the_device_asks_nobody) {
  World world;
  auto& state = world.open();
  layout::store_release(world.daemon.status().sequence, 10);
  layout::store_release(world.daemon.status().sequence_durable, 10);
  cr_assert_eq(libclient::checkpoint(state).value(), 10U);
  cr_assert(world.daemon.received().empty());
}

Test(waiting, a_checkpoint_is_for_who_may_administer) {
  for (const layout::Access access : {layout::Access::read, layout::Access::write}) {
    World world(access);
    auto& state = world.open();
    layout::store_release(world.daemon.status().sequence, 10);
    cr_assert_eq(libclient::checkpoint(state).error().code, WARM_E_ACCESS);
    cr_assert(world.daemon.received().empty());
  }
}

Test(waiting, a_checkpoint_ends_when_what_was_visible_is_durable) {
  World world;
  auto& state = world.open();
  layout::store_release(world.daemon.status().sequence, 10);
  layout::store_release(world.daemon.status().sequence_durable, 4);
  Call call([&] { return libclient::checkpoint(state); });
  const layout::Watch first = world.watch(0);
  cr_assert(first.durable_after == 9 && first.checkpoint == 1 && first.sequence_after == layout::kWatchNothing);
  // One that was under way already.
  layout::store_release(world.daemon.status().sequence_durable, 9);
  const layout::Watch second = world.watch(1);
  cr_assert(second.durable_after == 9 && second.checkpoint == 0, "it was asked for already");
  layout::store_release(world.daemon.status().sequence_durable, 12);
  cr_assert_eq(call.end().value(), 12U);
}

Test(waiting, a_checkpoint_is_asked_for_anew_from_a_later_daemon) {
  World world;
  auto& state = world.open();
  layout::store_release(world.daemon.status().sequence, 10);
  Call call([&] { return libclient::checkpoint(state); });
  cr_assert_eq(world.watch(0).checkpoint, 1U);
  world.daemon.hang_up();
  for (size_t nth = 1; world.watch(nth).checkpoint == 0; ++nth) {
  }
  layout::store_release(world.daemon.status().sequence_durable, 10);
  cr_assert_eq(call.end().value(), 10U);
}

Test(waiting, a_checkpoint_says_at_once_that_the_device_failed) {
  World world;
  auto& state = world.open(libclient::Patience::kForEver);
  layout::store_release(world.daemon.status().sequence, 10);
  layout::store_release(world.daemon.status().sequence_durable, 4);
  Call call([&] { return libclient::checkpoint(state); });
  world.watch(0);
  layout::store_release(world.daemon.status().durability_stopped, 1);
  const auto& waited = call.end();
  cr_assert_eq(waited.error().code, WARM_E_SYSTEM);
  cr_assert(waited.error().text.find("after 4 ") != std::string::npos, "%s", waited.error().text.c_str());
  cr_assert_eq(libclient::checkpoint(state).error().code, WARM_E_SYSTEM, "whoever comes later is told without asking");
  cr_assert_eq(world.daemon.received().size(), 1U);
}

Test(waiting, a_checkpoint_that_is_not_done_in_time_says_busy) {
  World world;
  auto& state = world.open(50 * base::kNsPerMs);
  layout::store_release(world.daemon.status().sequence, 10);
  cr_assert_eq(libclient::checkpoint(state).error().code, WARM_E_BUSY);
}
