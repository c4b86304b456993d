// Walks over what a real daemon never stores, or for a moment only.
#include <criterion/criterion.h>

#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "libclient/client.hpp"
#include "libclient/reader.hpp"
#include "libclient/walk.hpp"
#include "tests/unit/libclient/fake_daemon.hpp"

using namespace warmtier::tests;
namespace base = warmtier::base;
namespace layout = warmtier::layout;
namespace libclient = warmtier::libclient;

TestSuite(walk, .timeout = 60);

namespace {

struct World {
  FakeDaemon daemon;
  std::unique_ptr<libclient::Client> client;

  World() { daemon.add_segment(1); }
  libclient::Client& open(uint64_t timeout_ns) {
    auto opened = libclient::Client::open(daemon.socket().c_str(), timeout_ns);
    cr_assert(opened.has_value(), "%s", opened ? "" : opened.error().text.c_str());
    client = std::move(*opened);
    return *client;
  }
};

struct Walked {
  std::map<std::string, int> ids;
  int damaged = 0;
};

Walked walk(libclient::Client& client, size_t step, bool views) {
  Walked walked;
  libclient::Cursor cursor(client, client.state(), *libclient::Filter::make(nullptr));
  std::vector<warm_item> items(step);
  std::vector<warm_view> held(step);
  for (;;) {
    for (warm_view& view : held) view = WARM_VIEW_INIT;
    auto count = views ? cursor.next(0, held.data(), step) : cursor.next_items(items.data(), step);
    if (!count) {
      cr_assert_eq(count.error().code, WARM_E_CORRUPT, "%s", count.error().text.c_str());
      cr_assert(count.error().text.find("slot") != std::string::npos, "%s", count.error().text.c_str());
      ++walked.damaged;
      cr_assert_lt(walked.damaged, 1000, "the cursor does not get behind what is damaged");
      continue;
    }
    if (*count == 0) return walked;
    for (size_t i = 0; i < *count; ++i) {
      ++walked.ids[views ? std::string(static_cast<const char*>(held[i].id), held[i].id_bytes)
                         : std::string(static_cast<const char*>(items[i].id), items[i].id_bytes)];
      if (views) cr_assert(libclient::release(client.state(), held[i]));
    }
  }
}

}  // namespace

Test(walk, a_walk_names_what_is_damaged_and_goes_on_behind_it) {
  World world;
  // Many to a home: an id of each home's own is next to others.
  constexpr uint32_t kRecords = 400;
  std::map<std::string, uint32_t> homes;
  uint32_t put = 0;
  for (uint32_t i = 0; put < kRecords; ++i) {
    const std::string id = "id " + std::to_string(i);
    const layout::Bucket& home = world.daemon.home_of(id);
    if (reinterpret_cast<uintptr_t>(&home) / sizeof(layout::Bucket) % 64 != 0 || home.cells[layout::kIndexCells - 1] != 0)
      continue;
    world.daemon.put(put, 10 + put, id, "content");
    homes[id] = put++;
  }
  constexpr uint32_t kDamaged[] = {0, 7, 8, 100, 399};
  world.daemon.line(0).put ^= uint64_t{1} << 60;
  world.daemon.line(7).locator ^= 1;
  world.daemon.line(8).locator = layout::locator_word({.segment = 1, .offset_bytes = kSegmentBytes - 8}, 8, 18);
  world.daemon.line(100).content_bytes += 1;
  world.daemon.line(399).locator = layout::locator_word({.segment = 77, .offset_bytes = 64}, 399, 409);
  auto& client = world.open(5 * base::kNsPerSecond);
  for (const bool views : {false, true}) {
    for (const size_t step : {size_t{1}, size_t{2}, size_t{5}, size_t{1000}}) {
      const Walked walked = walk(client, step, views);
      cr_assert_eq(walked.damaged, std::size(kDamaged), "%d in steps of %zu", walked.damaged, step);
      cr_assert_eq(walked.ids.size(), kRecords - std::size(kDamaged));
      for (const auto& [id, times] : walked.ids) cr_assert_eq(times, 1, "%s came %d times", id.c_str(), times);
      for (const auto& [id, slot] : homes) {
        const bool damaged = std::find(std::begin(kDamaged), std::end(kDamaged), slot) != std::end(kDamaged);
        cr_assert_eq(walked.ids.contains(id), !damaged, "%s", id.c_str());
      }
      cr_assert_eq(client.state().views_out(), 0, "a view was left behind");
    }
  }
}

Test(walk, a_record_whose_change_is_not_finished_is_waited_for) {
  World world;
  world.daemon.put(1, 10, "there", "x");
  world.daemon.put(2, 11, "dying", "x");
  world.daemon.line(2).dead = layout::dead_word(20, 11);
  auto& client = world.open(100 * base::kNsPerMs);
  libclient::Cursor cursor(client, client.state(), *libclient::Filter::make(nullptr));
  warm_item items[4];
  auto first = cursor.next_items(items, 4);
  // Whichever comes first: what is there is not held back by what is not finished.
  auto second = first ? cursor.next_items(items, 4) : base::Result<size_t>(size_t{0});
  const auto& failed = first ? second : first;
  cr_assert(!failed && failed.error().code == WARM_E_BUSY, "%s", failed ? "nothing failed" : failed.error().text.c_str());
  layout::store_release(world.daemon.line(2).dead, 0);
  size_t rest = first ? *first : 0;
  for (;;) {
    auto count = cursor.next_items(items, 4);
    cr_assert(count.has_value(), "%s", count ? "" : count.error().text.c_str());
    if (*count == 0) break;
    rest += *count;
  }
  cr_assert_eq(rest, 2);
}

Test(walk, a_cell_that_names_a_record_of_another_place_is_damage) {
  World world;
  world.daemon.put(1, 10, "one", "x");
  world.daemon.write_record(2, 11, "two", "x", 1);
  // The cell of "one" names the record of "two".
  uint64_t& cell = world.daemon.publish(3, "three");
  cell = (cell >> 32 << 32) | 3;
  auto& client = world.open(5 * base::kNsPerSecond);
  const Walked walked = walk(client, 10, false);
  cr_assert_eq(walked.damaged, 1);
  cr_assert_eq(walked.ids.size(), 1);
}
