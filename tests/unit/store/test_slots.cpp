#include <criterion/criterion.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <sys/statfs.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <set>
#include <sstream>
#include <string>

#include "base/clock.hpp"
#include "base/fd.hpp"
#include "daemon/store/slots.hpp"
#include "tests/support/omit.hpp"
#include "tests/unit/store/world.hpp"

using warmtier::tests::World;
using warmtier::tests::support::failpoints_built;
using warmtier::tests::support::Omit;
namespace layout = warmtier::layout;

// Slots by themselves are exercised through the store: here the order in which they come back.
Test(slots, prepared_slots_are_taken_first_and_the_oldest_death_is_freed_first) {
  warmtier::daemon::store::Slots slots;
  slots.add_unprepared(1);
  slots.add_prepared(2);
  slots.add_prepared(3);
  cr_assert_eq(*slots.next(), 2);
  cr_assert_eq(*slots.take(), 2);
  slots.give_back(2);
  cr_assert_eq(*slots.take(), 2);
  cr_assert_eq(*slots.take(), 3);
  cr_assert_eq(*slots.take(), 1);
  cr_assert(!slots.take());
  slots.died(7, 100);
  slots.died(8, 200);
  cr_assert(!slots.ripe(99) && slots.ripe(100));
}

// Against std::set, with slots that lie close, far apart and beyond what it has seen.
Test(slots, a_set_gives_back_the_lowest) {
  warmtier::tests::support::Chance chance(7);
  warmtier::daemon::store::SlotSet set;
  std::set<uint32_t> expected;
  for (int i = 0; i < 200'000; ++i) {
    if (chance.below(5) < 3) {
      const auto slot = static_cast<uint32_t>(chance.below(1U << (4 + 4 * chance.below(5))));
      if (expected.insert(slot).second) set.insert(slot);
    } else if (!expected.empty()) {
      cr_assert_eq(*set.lowest(), *expected.begin());
      cr_assert_eq(*set.take_lowest(), *expected.begin());
      expected.erase(expected.begin());
    }
    cr_assert_eq(set.size(), expected.size());
  }
  std::vector<uint32_t> visited;
  set.for_each([&](uint32_t slot) { visited.push_back(slot); });
  cr_assert(std::ranges::equal(visited, expected));
  while (set.take_lowest()) expected.erase(expected.begin());
  cr_assert(expected.empty() && set.empty() && !set.lowest() && !set.take_lowest());
}

Test(slots, a_batch_frees_what_nobody_pins_and_keeps_the_rest) {
  World w;
  w.start();
  std::vector<uint32_t> slots;
  for (uint32_t i = 0; i < 100; ++i) {
    w.put("id" + std::to_string(i), i);
    slots.push_back(w.get("id" + std::to_string(i))->slot);
  }
  for (uint32_t i = 0; i < 100; i += 2) w.pins.pinned.insert(slots[i]);
  w.pins.pinned.insert(4'000'000'000U);  // a hostile value
  for (uint32_t i = 0; i < 100; ++i) w.remove("id" + std::to_string(i));
  w.checkpoint();
  cr_assert_eq(w.store->status().slots_held, 50);
  w.pins.pinned.clear();
  w.put("again", 1);
  w.remove("again");
  w.checkpoint();
  cr_assert_eq(w.store->status().slots_held, 0);
}

Test(slots, nothing_is_used_again_while_an_earlier_process_has_not_handed_back_its_pins) {
  World w;
  w.pins.known = false;
  w.start();
  w.put("a", 1);
  w.put("a", 2);
  w.checkpoint();
  cr_assert_eq(w.store->status().slots_waiting, 1);
  w.pins.known = true;
  w.checkpoint();
  cr_assert_eq(w.store->status().slots_waiting, 0);
}

Test(slots, however_many_are_held_the_others_are_freed) {
  World w({.dimensions = 4, .capacity = 16384, .segment_bytes = layout::kSegmentBytesMax});
  w.start({.checkpoint_interval_ns = UINT64_MAX / 2, .prepared_slots = 1024});
  for (uint32_t i = 0; i < 5000; ++i) {
    w.put("held" + std::to_string(i), i);
    w.pins.pinned.insert(w.get("held" + std::to_string(i))->slot);
  }
  for (uint32_t i = 0; i < 5000; ++i) w.remove("held" + std::to_string(i));
  w.checkpoint();
  cr_assert_eq(w.store->status().slots_held, 5000);
  for (uint32_t i = 0; i < 100; ++i) {
    w.put("other", i);
    w.remove("other");
  }
  w.checkpoint();
  cr_assert_eq(w.store->status().slots_waiting, 0);
  cr_assert_eq(w.store->status().slots_held, 5000);
}

// What lies prepared is written, used or not: a store with few puts prepares few, one with many as many as it may.
Test(slots, as_many_are_prepared_as_puts_of_late_call_for) {
  World w({.dimensions = 4, .capacity = 8192, .segment_bytes = layout::kSegmentBytesMax});
  w.start({.checkpoint_interval_ns = UINT64_MAX / 2, .prepared_slots = 4096});
  const auto put = [&](uint32_t n) {
    for (uint32_t i = 0; i < n; ++i) w.put("id" + std::to_string(i % 3000), i);
  };
  const auto becomes = [&](uint64_t from, uint64_t to) {
    const auto deadline = warmtier::base::Deadline::after_ns(60 * warmtier::base::kNsPerSecond);
    do {
      w.settle();
      if (const uint64_t now = w.store->status().slots_prepared; now >= from && now <= to) return true;
    } while (!deadline.passed());
    return false;
  };
  put(6000);
  w.checkpoint();
  cr_assert(becomes(4096, 8192), "%lu are prepared", w.store->status().slots_prepared);
  for (int i = 0; i < 12; ++i) {
    put(1);
    w.checkpoint();
  }
  cr_assert(becomes(512, 512), "%lu are prepared", w.store->status().slots_prepared);
  put(400);
  cr_assert(becomes(3200, 3200), "%lu are prepared", w.store->status().slots_prepared);
}

namespace {

// Of this process's maps of the tier: a checkpoint cleans them, and what is populated for stores is dirty again.
uint64_t dirty_tier_pages() {
  std::ifstream maps("/proc/self/smaps");
  uint64_t kilobytes = 0;
  bool tier = false;
  for (std::string line; std::getline(maps, line);) {
    std::istringstream words(line);
    std::string name;
    uint64_t n = 0;
    words >> name;
    if (name.back() != ':') {
      tier = line.find("/warm.tier") != std::string::npos;
    } else if (tier && (name == "Shared_Dirty:" || name == "Private_Dirty:") && words >> n) {
      kilobytes += n;
    }
  }
  return kilobytes * 1024 / layout::kPageBytes;
}

}  // namespace

// The lines of a chunk are populated where so many changes are expected that a good part of their pages would be written anyway.
Test(slots, lines_are_prepared_only_where_changes_are_many) {
  constexpr uint64_t kLinePages = layout::kSlotsPerChunk * sizeof(layout::SlotLine) / layout::kPageBytes;
  constexpr uint32_t kRecords = 4 * layout::kSlotsPerChunk;
  World w({.dimensions = 4, .capacity = 16384, .segment_bytes = layout::kSegmentBytesMax});
  w.start({.checkpoint_interval_ns = UINT64_MAX / 2, .prepared_slots = 8});
  struct statfs filesystem{};
  cr_assert_eq(::statfs(w.path("").c_str(), &filesystem), 0);
  if (filesystem.f_type == TMPFS_MAGIC) cr_skip_test("in a tmpfs nothing is ever clean");
  const auto put = [&](uint32_t n) {
    for (uint32_t i = 0; i < n; ++i) w.put("id" + std::to_string(i), i);
  };
  put(kRecords);
  w.checkpoint();
  constexpr uint64_t kAll = kRecords / layout::kSlotsPerChunk * kLinePages;
  const auto deadline = warmtier::base::Deadline::after_ns(60 * warmtier::base::kNsPerSecond);
  while (dirty_tier_pages() < kAll && !deadline.passed()) w.settle();
  cr_assert_geq(dirty_tier_pages(), kAll);
  for (int i = 0; i < 16; ++i) {  // what was many once is forgotten by halves
    put(1);
    w.checkpoint();
  }
  w.settle();
  const warmtier::base::Fd tier(::open(w.path("warm.tier").c_str(), O_RDONLY | O_CLOEXEC));
  cr_assert_eq(::fsync(tier.get()), 0);  // chunks are populated when they are allocated
  put(1);
  w.checkpoint();
  w.settle();
  cr_assert_lt(dirty_tier_pages(), kLinePages, "%lu pages are dirty", dirty_tier_pages());
}

namespace {

// A record is replaced, durably so, while a scan runs that has passed its reader's pin already: how many slots are held then.
uint64_t held_after_a_death_in_the_middle() {
  World w;
  w.pins.known = false;
  w.start();
  w.put("early", 1);
  w.put("early", 2);
  w.put("late", 1);
  w.checkpoint();
  w.pins.known = true;
  w.pins.slow = true;
  cr_assert(w.store->step());  // fence, and every cell there is
  w.pins.pinned.insert(w.get("late")->slot);
  const uint64_t death = w.put("late", 2).sequence;
  w.store->request_checkpoint();
  while (w.store->status().sequence_durable < death) (void)w.store->step();
  cr_assert_eq(w.store->status().slots_waiting, 2);
  w.pins.slow = false;
  w.checkpoint();
  cr_assert_eq(w.store->status().slots_waiting, 0);
  return w.store->status().slots_held;
}

}  // namespace

Test(slots, what_dies_during_a_scan_waits_for_the_next_one) { cr_assert_eq(held_after_a_death_in_the_middle(), 1); }

Test(slots, what_dies_during_a_scan_waits_for_the_next_one__fails_without_the_rule, .disabled = !failpoints_built()) {
  const Omit omit("store.later_deaths_wait");
  cr_assert_eq(held_after_a_death_in_the_middle(), 0);
}

Test(slots, a_put_is_answered_while_a_long_scan_runs) {
  World w;
  w.start();
  w.put("a", 1);
  w.put("a", 2);
  w.pins.slow = true;
  w.store->request_checkpoint();
  while (w.store->status().sequence_durable < 2) (void)w.store->step();
  for (uint32_t i = 0; i < 100; ++i) {
    cr_assert(w.store->step(), "the scan wants to go on");
    cr_assert_eq(w.put("b", i).status, WARM_OK);
  }
  w.pins.slow = false;
  w.checkpoint();
}

Test(slots, a_put_that_finds_none_says_who_keeps_them) {
  World w({.dimensions = 4, .capacity = 1024, .segment_bytes = layout::kSegmentBytesMax});
  w.start();
  for (uint32_t i = 0; i < 1024; ++i) cr_assert_eq(w.put("id" + std::to_string(i), i).status, WARM_OK);
  auto answer = w.put("one more", 1);
  cr_assert_eq(answer.status, WARM_E_FULL);
  cr_assert_eq(answer.sequence, 0, "nobody keeps a slot: there is none");
  w.pins.pinned.insert(w.get("id7")->slot);
  w.remove("id7");
  w.checkpoint();
  answer = w.put("one more", 1);
  cr_assert_eq(answer.status, WARM_E_FULL);
  cr_assert_eq(layout::slots_held_of(answer.sequence), 1);
  cr_assert_eq(layout::sessions_awaited_of(answer.sequence), 0);
  w.pins.known = false;
  answer = w.put("one more", 1);
  cr_assert_eq(answer.status, WARM_E_FULL);
  cr_assert_eq(layout::sessions_awaited_of(answer.sequence), 2);
  cr_assert_eq(answer.slot, 4711);
}

Test(slots, a_put_waits_a_moment_for_processes_that_are_about_to_come_back) {
  World w({.dimensions = 4, .capacity = 1024, .segment_bytes = layout::kSegmentBytesMax});
  w.start();
  for (uint32_t i = 0; i < 1024; ++i) cr_assert_eq(w.put("id" + std::to_string(i), i).status, WARM_OK);
  w.pins.known = false;
  w.remove("id7");
  w.checkpoint();
  w.pins.expected_until = warmtier::base::monotonic_ns() + 20 * warmtier::base::kNsPerMs;
  cr_assert_eq(w.put("one more", 1).status, WARM_E_FULL);
  cr_assert_geq(warmtier::base::monotonic_ns(), w.pins.expected_until);
  w.pins.known = true;
  cr_assert_eq(w.put("one more", 1).status, WARM_OK);
}
