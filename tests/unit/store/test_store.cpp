#include <criterion/criterion.h>
#include <poll.h>
#include <unistd.h>

#include <filesystem>

#include "base/mapping.hpp"
#include "tests/unit/store/world.hpp"

using warmtier::daemon::store::InitOptions;
using warmtier::tests::World;
namespace layout = warmtier::layout;

Test(store, a_put_is_what_a_reader_of_the_shared_bytes_sees) {
  World w;
  w.start();
  cr_assert_eq(w.put("a", 1, "content of a").status, WARM_OK);
  cr_assert_eq(w.put("b", 2).status, WARM_OK);
  cr_assert_eq(w.put("c", 3, "").status, WARM_OK);
  const auto a = w.get("a");
  cr_assert(a && a->content == "content of a" && a->embedding == World::embedding_of("a", 1, 20) && a->quad.recall_count == 1);
  const auto b = w.get("b");
  cr_assert(b && !b->content, "absent content is absent");
  const auto c = w.get("c");
  cr_assert(c && c->content == "", "empty content is not absent");
  cr_assert(!w.get("d"));
}

Test(store, a_replace_and_a_remove_change_what_is_seen_and_count) {
  World w;
  w.start();
  const auto first = w.put("a", 1, "one");
  const auto second = w.put("a", 2, "two");
  cr_assert_gt(second.sequence, first.sequence);
  cr_assert_eq(w.get("a")->content, "two");
  cr_assert_eq(w.store->status().records, 1);
  cr_assert_eq(w.remove("a").status, WARM_OK);
  cr_assert(!w.get("a"));
  cr_assert_eq(w.remove("a").status, WARM_E_NOT_FOUND);
  cr_assert_eq(w.store->status().records, 0);
}

Test(store, conditions_refuse_without_an_effect) {
  World w;
  w.start();
  const auto put = w.put("a", 1, {}, WARM_IF_ABSENT);
  cr_assert_eq(put.status, WARM_OK);
  const auto exists = w.put("a", 2, {}, WARM_IF_ABSENT);
  cr_assert(exists.status == WARM_E_EXISTS && exists.sequence == put.sequence);
  cr_assert_eq(w.put("a", 2, {}, WARM_IF_SEQUENCE, put.sequence + 1).status, WARM_E_CHANGED);
  cr_assert_eq(w.put("b", 2, {}, WARM_IF_SEQUENCE, 1).status, WARM_E_CHANGED);
  cr_assert_eq(w.get("a")->quad.recall_count, 1);
  cr_assert_eq(w.put("a", 2, {}, WARM_IF_SEQUENCE, put.sequence).status, WARM_OK);
  cr_assert_eq(w.get("a")->quad.recall_count, 2);
}

Test(store, a_dead_slot_is_used_again_only_after_a_checkpoint_and_without_a_pin) {
  World w;
  w.start({.checkpoint_interval_ns = UINT64_MAX / 2, .prepared_slots = 1024});
  w.put("a", 1);
  const uint32_t slot = w.get("a")->slot;
  w.pins.pinned.insert(slot);
  w.put("a", 2);
  w.settle();
  cr_assert_eq(w.store->status().slots_waiting, 1);
  w.checkpoint();
  cr_assert(w.store->status().slots_waiting == 0 && w.store->status().slots_held == 1, "a pinned slot is held");
  w.pins.pinned.clear();
  w.put("a", 3);
  w.checkpoint();
  cr_assert_eq(w.store->status().slots_held, 0);
}

Test(store, a_full_store_refuses_and_a_remove_makes_room) {
  World w({.dimensions = 20, .capacity = 1024, .segment_bytes = 65536});
  w.start();
  for (uint32_t i = 0; i < 1024; ++i) cr_assert_eq(w.put("id" + std::to_string(i), i).status, WARM_OK);
  const auto full = w.put("one more", 1);
  cr_assert(full.status == WARM_E_FULL && full.limit == 1024);
  cr_assert_eq(w.remove("id7").status, WARM_OK);
  cr_assert_eq(w.put("one more", 1).status, WARM_OK, "it waits for the checkpoint that frees the slot");
  for (uint32_t i = 0; i < 1024; ++i) cr_assert_eq(w.get("id" + std::to_string(i)).has_value(), i != 7);
}

Test(store, sequences_end_before_their_48_bits) {
  World w;
  w.edit_superblocks([](layout::Superblock& s) { s.checkpoint_sequence = layout::kSequenceMax - 3; });
  w.start();
  cr_assert_eq(w.put("a", 1).sequence, layout::kSequenceMax - 2);
  cr_assert_eq(w.put("a", 2).sequence, layout::kSequenceMax - 1);
  const auto refused = w.put("a", 3);
  cr_assert(refused.status == WARM_E_LIMIT && refused.limit == layout::kSequenceMax);
  cr_assert_eq(w.remove("a").status, WARM_E_LIMIT);
  cr_assert_eq(w.get("a")->quad.recall_count, 2);
}

Test(store, segment_numbers_work_up_to_their_end_and_are_refused_beyond) {
  World w;
  w.edit_superblocks([](layout::Superblock& s) { s.next_segment = layout::kSegmentNumberEnd - 2; });
  w.start();
  const std::string big(60000, 'x');
  cr_assert_eq(w.put("a", 1, big).status, WARM_OK);
  cr_assert_eq(w.put("b", 1, big).status, WARM_OK, "the last number is used");
  cr_assert_eq(w.get("b")->content, big);
  cr_assert_eq(w.put("c", 1, big).status, WARM_E_FULL, "there is no further segment");
  cr_assert(!w.get("c"));
}

Test(store, a_segment_without_a_live_record_goes_after_a_checkpoint) {
  World w;
  w.start();
  const std::string big(40000, 'x');
  for (uint32_t i = 0; i < 8; ++i) w.put("id" + std::to_string(i), i, big);
  w.checkpoint();
  const uint64_t before = w.store->status().segments;
  for (uint32_t i = 0; i < 7; ++i) w.remove("id" + std::to_string(i));
  cr_assert_eq(w.store->status().segments, before, "not before their deaths are durable");
  w.checkpoint();
  cr_assert_leq(w.store->status().segments, 2);
  cr_assert_eq(w.get("id7")->content, big);
}

// Each segment is an operation; what is over and not looked at makes no event any more.
Test(store, a_checkpoint_of_many_segments_leaves_nothing_that_would_wake_nobody) {
  World w;
  w.device_at_once = true;
  w.start();
  const std::string big(60000, 'x');
  for (uint32_t i = 0; i < 150; ++i) w.put("id" + std::to_string(i), i, big);
  w.settle();
  const uint64_t before = w.store->status().checkpoints;
  w.store->request_checkpoint();
  for (;;) {
    const bool at_once = w.store->wake_at_ns() == 0;
    if (w.store->status().checkpoints != before) break;
    pollfd event{.fd = w.store->event_fd(), .events = POLLIN, .revents = 0};
    cr_assert(at_once || ::poll(&event, 1, 2000) == 1, "the store thread would sleep for ever");
  }
}

// More operations than are in flight at once: the rest is not handed in when the first have failed.
Test(store, a_checkpoint_that_failed_asks_for_nothing_more) {
  World w;
  w.device_at_once = true;
  w.start();
  const std::string big(60000, 'x');
  for (uint32_t i = 0; i < 200; ++i) w.put("id" + std::to_string(i), i, big);
  w.device_fails = true;
  w.store->request_checkpoint();
  w.settle();
  cr_assert(w.store->io_error().has_value());
  cr_assert_eq(w.device_asked_after_failure, 0);
}

Test(store, content_larger_than_a_segment_gets_one_of_its_own) {
  World w;
  w.start();
  const std::string big(300000, 'y');
  cr_assert_eq(w.put("a", 1, big).status, WARM_OK);
  cr_assert_eq(w.get("a")->content, big);
  w.kill();
  w.start();
  cr_assert_eq(w.get("a")->content, big);
}

Test(store, content_in_a_segment_of_its_own_is_counted) {
  World w;
  w.start();
  const uint64_t before = w.store->status().content_bytes_live;
  const std::string big(300000, 'y');
  cr_assert_eq(w.put("a", 1, big).status, WARM_OK);
  w.checkpoint();
  cr_assert_geq(w.store->status().content_bytes_live - before, big.size());
}

Test(store, the_index_doubles_under_way_and_finds_everything) {
  World w({.dimensions = 1, .capacity = 200000, .segment_bytes = layout::kSegmentBytesMax});
  w.start();
  for (uint32_t i = 0; i < 60000; ++i) {
    cr_assert_eq(w.put("id" + std::to_string(i), i).status, WARM_OK);
    if (i % 3 == 0) cr_assert_eq(w.remove("id" + std::to_string(i / 2)).status == WARM_OK, i / 2 % 3 != 0 || i == 0 || true);
  }
  w.settle();
  cr_assert_geq(w.store->status().index_doublings, 1);
  uint64_t present = 0;
  for (uint32_t i = 0; i < 60000; i += 97) present += w.get("id" + std::to_string(i)) ? 1 : 0;
  cr_assert_gt(present, 200);
}

Test(store, a_tier_of_large_pages_ends_where_one_ends_and_starts_again) {
  World w({.dimensions = 20, .capacity = 40 * layout::kSlotsPerChunk, .segment_bytes = 65536});
  const warmtier::daemon::store::Options options{
      .checkpoint_interval_ns = UINT64_MAX / 2, .prepared_slots = 1024, .large_pages = true};
  w.start(options);
  for (int life = 0; life < 3; ++life) {
    for (int i = 0; i < 3000; ++i) cr_assert_eq(w.put(std::to_string(life * 3000 + i), 1, "content").status, WARM_OK);
    cr_assert_eq(std::filesystem::file_size(w.path("warm.tier")) % warmtier::base::kLargePageBytes, 0U);
    w.kill();
    w.start(options);
    for (int i = 0; i < (life + 1) * 3000; i += 17) cr_assert_eq(w.get(std::to_string(i))->content, "content");
  }
}

Test(store, a_second_initialisation_is_refused) {
  World w;
  const auto status = warmtier::daemon::store::initialise(w.path(""), {});
  cr_assert(!status && status.error().code == WARM_E_EXISTS);
}

Test(store, an_unknown_version_is_refused_with_both_numbers) {
  World w;
  w.edit_superblocks([](layout::Superblock& s) { s.format_version = 7; });
  auto io = warmtier::daemon::io::open_io(warmtier::daemon::io::Choice::threads);
  auto store = warmtier::daemon::store::Store::open(w.path(""), {}, **io);
  cr_assert(!store && store.error().code == WARM_E_VERSION);
  cr_assert(store.error().text.find("version 7") != std::string::npos &&
            store.error().text.find("version 1") != std::string::npos);
}
