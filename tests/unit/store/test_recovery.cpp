#include <criterion/criterion.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <iterator>
#include <map>

#include "base/fd.hpp"
#include "base/mapping.hpp"
#include "tests/unit/store/world.hpp"

using warmtier::tests::World;
namespace layout = warmtier::layout;

Test(recovery, a_killed_daemon_leaves_everything_that_was_visible) {
  World w;
  w.start();
  for (uint32_t i = 0; i < 2000; ++i) w.put("id" + std::to_string(i), i, std::string(i % 50, 'c'));
  for (uint32_t i = 0; i < 2000; i += 3) w.remove("id" + std::to_string(i));
  for (uint32_t i = 1; i < 2000; i += 3) w.put("id" + std::to_string(i), i + 5000, "new");
  w.kill();
  w.start();
  cr_assert_eq(w.store->status().records, 2000 - 667);
  for (uint32_t i = 0; i < 2000; ++i) {
    const auto seen = w.get("id" + std::to_string(i));
    if (i % 3 == 0) {
      cr_assert(!seen);
    } else if (i % 3 == 1) {
      cr_assert(seen && seen->content == "new" && seen->quad.recall_count == i + 5000);
    } else {
      cr_assert(seen && seen->content == std::string(i % 50, 'c'));
    }
  }
}

Test(recovery, after_another_boot_exactly_what_the_checkpoint_holds_is_there) {
  World w;
  w.start();
  w.put("kept", 1, "one");
  w.put("replaced later", 1, "old");
  w.put("removed later", 1, "old");
  w.checkpoint();
  w.put("kept after", 2, "two");
  w.put("replaced later", 2, "new");
  w.remove("removed later");
  const uint64_t last = w.store->status().sequence;
  w.kill();
  w.pretend_reboot();
  w.start();
  cr_assert_eq(w.get("kept")->content, "one");
  cr_assert(!w.get("kept after"));
  cr_assert_eq(w.get("replaced later")->content, "old");
  cr_assert_eq(w.get("removed later")->content, "old");
  cr_assert_eq(w.store->status().records, 3);
  cr_assert_gt(w.put("next", 1).sequence, last, "numbers that were erased are not used again");
  w.kill();
  w.start();
  cr_assert(!w.get("kept after"), "what was erased stays erased");
  cr_assert_eq(w.get("replaced later")->content, "old");
}

// Histories of puts, replaces, removes and checkpoints, and power that goes at any moment of them.
Test(recovery, a_power_cut_leaves_exactly_what_a_checkpoint_holds, .timeout = 120) {
  constexpr uint32_t kIds = 30;
  constexpr size_t kLarge = 100'000;  // above a segment
  using State = std::array<uint32_t, kIds>;  // versions; 0: no record
  const auto content_of = [](uint32_t id, uint32_t version) {
    return std::string(version % 5 == 0 ? kLarge + id : version % 300, static_cast<char>('a' + version % 26));
  };
  for (uint64_t seed = 1; seed <= 4; ++seed) {
    warmtier::tests::support::Chance chance(seed);
    World w({.dimensions = 3, .capacity = 2048, .segment_bytes = 65536});
    w.watch_device();
    State now{};
    uint32_t version = 0;
    for (uint32_t cut = 0; cut < 5; ++cut) {
      w.start();
      for (uint32_t id = 0; id < kIds; ++id) {
        const auto seen = w.get("id" + std::to_string(id));
        cr_assert_eq(seen.has_value(), now[id] != 0, "seed %lu, cut %u, id %u", seed, cut, id);
        if (seen) cr_assert(seen->content == content_of(id, now[id]), "seed %lu, cut %u, id %u", seed, cut, id);
      }
      std::map<uint64_t, State> states = {{0, now}};  // as of a sequence
      const uint64_t steps = 20 + chance.below(60);
      for (uint64_t step = 0; step < steps; ++step) {
        const auto id = static_cast<uint32_t>(chance.below(kIds));
        const std::string name = "id" + std::to_string(id);
        switch (chance.below(12)) {
          case 0: w.checkpoint(); break;
          case 1: w.store->request_checkpoint(); break;
          case 2: (void)w.store->step(); break;
          case 3:
          case 4:
            if (w.remove(name).status == WARM_OK) now[id] = 0;
            break;
          default:
            ++version;
            cr_assert_eq(w.put(name, version, content_of(id, version)).status, WARM_OK);
            now[id] = version;
            break;
        }
        states[w.store->status().sequence] = now;
      }
      const bool stopped = chance.below(4) == 0;
      const uint64_t durable = stopped ? w.store->status().sequence : w.store->status().sequence_durable;
      if (stopped) w.stop();
      const uint64_t held = w.cut_power(chance);
      cr_assert_geq(held, durable, "seed %lu, cut %u", seed, cut);
      now = std::prev(states.upper_bound(held))->second;
    }
  }
}

Test(recovery, a_clean_stop_loses_nothing_to_another_boot) {
  World w;
  w.start();
  for (uint32_t i = 0; i < 500; ++i) w.put("id" + std::to_string(i), i);
  w.stop();
  w.pretend_reboot();
  w.start();
  for (uint32_t i = 0; i < 500; ++i) cr_assert(w.get("id" + std::to_string(i)));
}

Test(recovery, a_death_beyond_the_checkpoint_that_names_another_tenant_stays_a_death) {
  World w;
  w.start();
  w.put("a", 1);
  const auto a = w.get("a");
  w.checkpoint();
  w.stop();
  // The device may hold an old tenant's put beside a death that ends a later one.
  auto fd = warmtier::base::open_at(AT_FDCWD, w.path("warm.tier").c_str(), O_RDWR);
  {
    auto map = warmtier::base::WriteMapping::map(fd->get(), *warmtier::base::file_bytes(fd->get()));
    const auto geometry = layout::Geometry::of(20, 8192);
    auto& line = *reinterpret_cast<layout::SlotLine*>(map->data() + geometry.line_offset(a->slot));
    line.dead = layout::dead_word(a->sequence + 900, a->sequence + 800);
  }
  w.pretend_reboot();
  w.start();
  cr_assert(!w.get("a"), "its tenant was durably dead before the slot was used again");
  cr_assert_gt(w.put("b", 1).sequence, a->sequence + 900);
}

Test(recovery, a_damaged_record_is_reported_and_not_taken_for_absent) {
  // Every byte of its header but those that say whose it is and how long its id.
  for (size_t at = offsetof(layout::RecordHeader, hash); at < sizeof(layout::RecordHeader); ++at) {
    if (at >= offsetof(layout::RecordHeader, id_bytes) && at < offsetof(layout::RecordHeader, codec)) continue;
    World w;
    w.start();
    w.put("a", 1, "content");
    w.put("b", 1, "content");
    w.kill();
    {
      auto fd = warmtier::base::open_at(AT_FDCWD, w.path("content/0000000001.seg").c_str(), O_RDWR);
      cr_assert(fd.has_value());
      uint8_t byte = 0;
      const auto offset = static_cast<off_t>(sizeof(layout::SegmentHeader) + at);
      cr_assert_eq(::pread(fd->get(), &byte, 1, offset), 1);
      byte ^= 1;
      cr_assert_eq(::pwrite(fd->get(), &byte, 1, offset), 1);
    }
    w.start();
    cr_assert_eq(w.store->status().damaged_records, 1, "byte %zu", at);
    cr_assert(w.get("b"));
    cr_assert_eq(w.remove("a").status, WARM_OK, "byte %zu: the id still names it", at);
  }
}

Test(recovery, an_io_error_makes_the_next_start_read_the_device) {
  World w;
  w.start();
  w.put("kept", 1);
  w.checkpoint();
  w.put("lost", 1);
  w.kill();
  {
    auto fd = warmtier::base::open_at(AT_FDCWD, w.path("warm.tier").c_str(), O_RDWR);
    auto map = warmtier::base::WriteMapping::map(fd->get(), layout::kTierHeaderBytes);
    reinterpret_cast<layout::ControlPage*>(map->data() + layout::kControlPageOffset)->numbers.device_recovery = 1;
  }
  w.start();
  cr_assert(w.get("kept") && !w.get("lost"));
  w.put("more", 1);
  w.kill();
  w.start();
  cr_assert(w.get("more"), "the mark is gone after a recovery that read the device");
}

Test(recovery, a_device_that_fails_stops_durability_and_nothing_else) {
  World w;
  w.start();
  w.put("kept", 1);
  w.checkpoint();
  const uint64_t durable = w.store->status().sequence_durable;
  w.put("lost", 1);
  cr_assert_eq(w.store->status().durability_stopped, 0);
  w.device_fails = true;
  w.store->request_checkpoint();
  while (!w.store->io_error()) w.settle();
  cr_assert_eq(w.store->status().durability_stopped, 1, "who waits for the device is told");
  cr_assert_eq(w.put("also lost", 1).status, WARM_OK);
  w.store->request_checkpoint();
  w.settle();
  cr_assert_eq(w.store->status().sequence_durable, durable);
  cr_assert(w.get("kept") && w.get("lost") && w.get("also lost"));
  w.kill();
  w.start();
  cr_assert_eq(w.store->status().durability_stopped, 0);
  cr_assert(w.get("kept") && !w.get("lost") && !w.get("also lost"), "the device alone is believed");
}

Test(recovery, twenty_killed_daemons_do_not_keep_twenty_segments_of_space) {
  World w({.dimensions = 20, .capacity = 8192, .segment_bytes = layout::kSegmentBytesMax});
  for (uint32_t i = 0; i < 20; ++i) {
    w.start();
    w.put("id" + std::to_string(i), i, std::string(100, 'c'));
    w.kill();
  }
  w.start();
  uint64_t blocks = 0;
  for (const auto& segment : w.store->published().segments) {
    struct stat st{};
    cr_assert_eq(::fstat(segment.fd, &st), 0);
    cr_assert_eq(static_cast<uint64_t>(st.st_size), layout::kSegmentBytesMax, "a reader may have mapped all of it");
    blocks += static_cast<uint64_t>(st.st_blocks);
  }
  cr_assert_lt(blocks * 512, 3 * layout::kSegmentBytesMax, "%llu bytes are allocated",
               static_cast<unsigned long long>(blocks * 512));
  for (uint32_t i = 0; i < 20; ++i) cr_assert(w.get("id" + std::to_string(i)));
}

Test(recovery, a_cut_file_is_refused_and_nothing_is_deleted) {
  World w;
  w.start();
  for (uint32_t i = 0; i < 3000; ++i) w.put("id" + std::to_string(i), i, "content");
  w.stop();
  const auto geometry = layout::Geometry::of(20, 8192);
  cr_assert_eq(::truncate(w.path("warm.tier").c_str(), static_cast<off_t>(geometry.file_bytes(1))), 0);
  auto io = warmtier::daemon::io::open_io(warmtier::daemon::io::Choice::threads);
  auto store = warmtier::daemon::store::Store::open(w.path(""), {}, **io);
  cr_assert(!store && store.error().code == WARM_E_CORRUPT);
  cr_assert(store.error().text.find("1 chunks") != std::string::npos, "%s", store.error().text.c_str());
}
