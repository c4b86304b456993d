// A client against a daemon that does what it is told: what a real one never stores, or for a moment only.
#include <criterion/criterion.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "base/hash.hpp"
#include "libclient/client.hpp"
#include "libclient/reader.hpp"
#include "libclient/writer.hpp"
#include "tests/support/omit.hpp"
#include "tests/unit/libclient/fake_daemon.hpp"

using namespace warmtier::tests;
namespace base = warmtier::base;
namespace layout = warmtier::layout;
namespace libclient = warmtier::libclient;
using libclient::Presence;

namespace {

constexpr uint64_t kTimeoutNs = 300 * base::kNsPerMs;  // for calls that are meant to meet it

struct World {
  FakeDaemon daemon;
  std::unique_ptr<libclient::Client> client;

  World() { daemon.add_segment(1); }
  libclient::ClientState& open(uint64_t timeout_ns = kTimeoutNs) {
    auto opened = libclient::Client::open(daemon.socket().c_str(), timeout_ns);
    cr_assert(opened.has_value(), "%s", opened ? "" : opened.error().text.c_str());
    client = std::move(*opened);
    return client->state();
  }
};

base::Result<Presence> get(libclient::ClientState& state, std::string_view id, warm_view& view) {
  return libclient::get(state, id.data(), id.size(), 0, view);
}

int32_t code_of_get(libclient::ClientState& state, std::string_view id) {
  warm_view view = WARM_VIEW_INIT;
  auto presence = get(state, id, view);
  if (!presence) return presence.error().code;
  if (*presence == Presence::absent) return WARM_E_NOT_FOUND;
  cr_assert(libclient::release(state, view));
  return WARM_OK;
}

std::string content_of(const warm_view& view) { return {static_cast<const char*>(view.content), view.content_bytes}; }

int32_t code_of_put(libclient::ClientState& state, std::string_view id) {
  auto sequence = libclient::put(state, memory_of(id));
  return sequence ? WARM_OK : sequence.error().code;
}

bool maps_hold(const void* address) {
  std::ifstream maps("/proc/self/maps");
  for (std::string row; std::getline(maps, row);) {
    uintptr_t from = 0;
    uintptr_t to = 0;
    if (std::sscanf(row.c_str(), "%lx-%lx", &from, &to) != 2) continue;
    if (reinterpret_cast<uintptr_t>(address) >= from && reinterpret_cast<uintptr_t>(address) < to) return true;
  }
  return false;
}

}  // namespace

TestSuite(client, .timeout = 60);

Test(client, a_view_shows_the_record_and_holds_one_pin_until_its_release) {
  World world;
  world.daemon.put(7, 100, "id", "content");
  auto& state = world.open();
  warm_view view = WARM_VIEW_INIT;
  auto presence = get(state, "id", view);
  cr_assert(presence && *presence == Presence::found);
  cr_assert_eq(view.sequence, 100);
  cr_assert_eq(view.created_ns, 1000);
  cr_assert_eq(view.recall_count, 100);
  cr_assert_eq(view.embedding[15], 100.0F);
  cr_assert(content_of(view) == "content");
  auto pins = [&] {
    unsigned count = 0;
    for (const uint32_t pin : world.daemon.session(0).pins) count += pin == 8 ? 1 : 0;
    return count;
  };
  cr_assert_eq(pins(), 1);
  cr_assert_gt(world.daemon.session(0).header.pins_high, 0);
  cr_assert_eq(state.views_out(), 1);
  cr_assert(libclient::release(state, view));
  cr_assert_eq(pins(), 0);
  cr_assert_eq(state.views_out(), 0);
}

Test(client, what_fails_a_check_is_corrupt_and_never_absent) {
  World world;
  world.daemon.put(1, 10, "put", "x");
  world.daemon.line(1).put ^= uint64_t{1} << 60;
  world.daemon.put(2, 11, "locator", "x");
  world.daemon.line(2).locator ^= 1;
  world.daemon.put(3, 12, "offset", "x");
  world.daemon.line(3).locator = layout::locator_word({.segment = 1, .offset_bytes = kSegmentBytes - 8}, 3, 12);
  world.daemon.put(4, 13, "length", "x");
  world.daemon.line(4).content_bytes = 2;
  world.daemon.put(5, 14, "death", "x");
  world.daemon.line(5).dead = layout::dead_word(20, 13);
  world.daemon.publish(4'000'000, "slot");
  world.daemon.put(6, 15, "segment", "x");
  world.daemon.line(6).locator = layout::locator_word({.segment = 99, .offset_bytes = 64}, 6, 15);
  auto& state = world.open();
  for (const char* id : {"put", "locator", "offset", "length", "death", "slot", "segment"}) {
    cr_expect_eq(code_of_get(state, id), WARM_E_CORRUPT, "%s: %d", id, code_of_get(state, id));
  }
  cr_assert_eq(code_of_get(state, "nothing"), WARM_E_NOT_FOUND);
}

Test(client, a_record_that_is_dead_while_its_cell_stands_is_waited_for) {
  World world;
  world.daemon.put(1, 10, "id", "old");
  auto& state = world.open();
  // As a daemon leaves it that was killed in a remove before its recovery.
  layout::store_release(world.daemon.line(1).dead, layout::dead_word(11, 10));
  cr_assert_eq(code_of_get(state, "id"), WARM_E_BUSY);
  layout::store_release(world.daemon.home_of("id").cells[0], 0);
  cr_assert_eq(code_of_get(state, "id"), WARM_E_NOT_FOUND);
}

Test(client, an_entry_at_a_flagged_distance_is_found_and_one_at_another_is_not) {
  World world;
  world.daemon.write_record(1, 10, "far", "x", 1);
  auto* home = &world.daemon.home_of("far");
  const uint32_t tag = layout::tag_of_hash(base::hash64("far", 3, kHashSeed));
  home[5].cells[6] = layout::cell_word(1, 5, tag);
  auto& state = world.open();
  cr_assert_eq(code_of_get(state, "far"), WARM_E_NOT_FOUND);
  home->distances = uint64_t{1} << 3 | uint64_t{1} << 4 | uint64_t{1} << 62;
  cr_assert_eq(code_of_get(state, "far"), WARM_OK);
  home[5].cells[6] = layout::cell_word(1, 4, tag);
  cr_assert_eq(code_of_get(state, "far"), WARM_E_NOT_FOUND);
}

Test(client, a_segment_that_is_not_known_is_asked_for_once) {
  World world;
  auto& state = world.open();
  world.daemon.add_segment(2);
  world.daemon.put(1, 10, "new", "in the new segment", 2);
  cr_assert_eq(world.daemon.lists_sent(), 1);
  cr_assert_eq(code_of_get(state, "new"), WARM_OK);
  cr_assert_eq(code_of_get(state, "new"), WARM_OK);
  cr_assert_eq(world.daemon.lists_sent(), 2);
}

Test(client, a_segment_that_went_stays_mapped_for_its_view_and_no_longer) {
  World world;
  world.daemon.add_segment(2);
  world.daemon.put(1, 10, "there", "x", 2);
  world.daemon.put(2, 11, "other", "y", 1);
  auto& state = world.open();
  warm_view view = WARM_VIEW_INIT;
  cr_assert(get(state, "there", view).has_value());
  const void* content = view.content;
  world.daemon.unlist_segment(2);
  world.daemon.raise_segment_epoch();
  const auto table = state.segments.load();
  while (state.segments.load() == table) cr_assert_eq(code_of_get(state, "other"), WARM_OK);
  cr_assert(content_of(view) == "x");
  cr_assert(maps_hold(content));
  cr_assert(libclient::release(state, view));
  cr_assert_not(maps_hold(content), "the map of a segment that is gone was kept without a view");
}

Test(client, gets_ask_for_nothing_while_no_segment_comes_or_goes) {
  World world;
  world.daemon.put(1, 10, "id", "x");
  auto& state = world.open();
  for (int i = 0; i < 1000; ++i) cr_assert_eq(code_of_get(state, "id"), WARM_OK);
  cr_assert_eq(world.daemon.lists_sent(), 1);
  cr_assert_leq(1000 - world.daemon.session(0).counters.gets, 64);
}

Test(client, a_new_generation_is_taken_from_the_socket_when_its_index_was_sent) {
  World world;
  world.daemon.put(1, 10, "id", "x");
  auto& state = world.open();
  world.daemon.announce_index(0x2222);
  cr_assert_eq(state.attachment.load()->generation, 0x1111);
  layout::store_seq_cst(world.daemon.generation().generation, 0x2222);
  cr_assert_eq(code_of_get(state, "id"), WARM_OK);
  cr_assert_eq(code_of_get(state, "none"), WARM_E_NOT_FOUND);
  cr_assert_eq(state.attachment.load()->generation, 0x2222);
  cr_assert_eq(world.daemon.hellos(), 1);
}

Test(client, a_generation_that_nobody_announced_is_never_answered_from_the_old_index) {
  World world;
  world.daemon.put(1, 10, "id", "x");
  auto& state = world.open();
  layout::store_seq_cst(world.daemon.generation().generation, 0x3333);
  cr_assert_eq(code_of_get(state, "id"), WARM_E_UNAVAILABLE);
  cr_assert_eq(code_of_get(state, "none"), WARM_E_UNAVAILABLE);
  world.daemon.hang_up();  // and a new daemon on the same socket
  cr_assert_eq(code_of_get(state, "id"), WARM_OK);
  cr_assert_eq(world.daemon.hellos(), 2);
  cr_assert_eq(world.daemon.session(0).counters.reattaches, 1);
}

Test(client, a_session_that_is_taken_back_keeps_its_views_and_one_that_is_not_makes_them_stale) {
  World world;
  world.daemon.put(1, 10, "id", "x");
  auto& state = world.open();
  warm_view view = WARM_VIEW_INIT;
  cr_assert(get(state, "id", view).has_value());
  world.daemon.hang_up();
  layout::store_seq_cst(world.daemon.generation().generation, 0x2222);
  auto checked = libclient::check_view(state, view);
  cr_assert(checked && *checked == WARM_VIEW_CURRENT);
  cr_assert_eq(world.daemon.session(0).pins[0], 2);

  world.daemon.set_resume(false);
  world.daemon.hang_up();
  layout::store_seq_cst(world.daemon.generation().generation, 0x3333);
  checked = libclient::check_view(state, view);
  cr_assert(!checked && checked.error().code == WARM_E_STALE);
  cr_assert(content_of(view) == "x", "a stale view's maps must stay");
  // The next daemon must not wait for it as long as this process lives.
  const auto accepts = world.daemon.accepts();
  cr_assert_eq(accepts.size(), 3);
  cr_assert_eq(accepts[1].count, 0);
  cr_assert_eq(accepts[2].count, 1);
  cr_assert_eq(accepts[2].sessions[0], 1);
  warm_view fresh = WARM_VIEW_INIT;
  cr_assert(get(state, "id", fresh).has_value());
  cr_assert_eq(world.daemon.session(1).pins[0], 2);
  cr_assert_eq(state.views_out(), 2);
  cr_assert(libclient::release(state, view));
  cr_assert_eq(world.daemon.session(1).pins[0], 2, "the release of a stale view touched another's pin");
  cr_assert(libclient::release(state, fresh));
  cr_assert_eq(state.views_out(), 0);
}

// As many as it can: none of them is kept by a thread that does not hold it.
Test(client, so_many_views_are_held_as_the_daemon_granted_by_whichever_threads) {
  for (const uint32_t granted : {1U, 5U, 100U}) {
    World world;
    world.daemon.put(1, 10, "id", "x");
    world.daemon.set_views_max(granted);
    auto& state = world.open();
    warm_info info = WARM_INFO_INIT;
    cr_assert(libclient::read_info(state, info).has_value());
    cr_assert_eq(info.views_max, granted);
    std::vector<warm_view> views(granted, warm_view WARM_VIEW_INIT);
    uint32_t held = 0;
    for (warm_view& view : views) {
      std::thread([&] {
        held += get(state, "id", view).has_value() ? 1 : 0;
        // Released and got again: the cell goes back to where others find it.
        if (!libclient::release(state, view) || !get(state, "id", view)) held = 0;
      }).join();
    }
    cr_assert_eq(held, granted);
    cr_assert_eq(world.daemon.session(0).header.pins_high, granted);
    warm_view one_more = WARM_VIEW_INIT;
    const auto refused = get(state, "id", one_more);
    cr_assert(!refused && refused.error().code == WARM_E_LIMIT);
    cr_assert_neq(refused.error().text.find(std::to_string(granted) + " views"), std::string::npos);
    cr_assert(libclient::exists(state, "id", 2).has_value());
    cr_assert(libclient::release(state, views.back()));
    cr_assert(get(state, "id", one_more).has_value());
    cr_assert(libclient::release(state, one_more));
    views.pop_back();
    for (warm_view& view : views) cr_assert(libclient::release(state, view));
    cr_assert_eq(state.views_out(), 0);
  }
}

Test(client, many_at_once_are_got_up_to_what_the_daemon_granted) {
  World world;
  world.daemon.put(1, 10, "id", "x");
  world.daemon.set_views_max(70);
  auto& state = world.open();
  std::vector<warm_id> ids(130, warm_id{.data = "id", .bytes = 2});
  std::vector<warm_view> views(ids.size(), warm_view WARM_VIEW_INIT);
  std::vector<int32_t> codes(ids.size());
  std::optional<base::Error> error;
  libclient::get_many(state, ids.data(), ids.size(), 0, views.data(), codes.data(), error);
  for (size_t i = 0; i < codes.size(); ++i) cr_assert_eq(codes[i], i < 70 ? WARM_OK : WARM_E_LIMIT, "id %zu", i);
  for (warm_view& view : views) cr_assert(libclient::release(state, view));
}

// Views of the session that is over stand in its memory: the next one begins with none, and with a grant of its own.
Test(client, a_new_session_has_a_grant_of_its_own_beside_views_of_the_one_before) {
  World world;
  world.daemon.put(1, 10, "id", "x");
  world.daemon.set_views_max(5);
  auto& state = world.open();
  std::vector<warm_view> old(5, warm_view WARM_VIEW_INIT);
  for (warm_view& view : old) cr_assert(get(state, "id", view).has_value());
  world.daemon.set_resume(false);
  world.daemon.set_views_max(3);
  world.daemon.hang_up();
  layout::store_seq_cst(world.daemon.generation().generation, 0x3333);
  std::vector<warm_view> now(3, warm_view WARM_VIEW_INIT);
  for (warm_view& view : now) cr_assert(get(state, "id", view).has_value());
  cr_assert_eq(code_of_get(state, "id"), WARM_E_LIMIT);
  warm_info info = WARM_INFO_INIT;
  cr_assert(libclient::read_info(state, info).has_value());
  cr_assert_eq(info.views_max, 3);
  cr_assert_eq(state.views_out(), 8);
  cr_assert_eq(world.daemon.session(1).header.pins_high, 3);
  for (warm_view& view : old) cr_assert(libclient::release(state, view));
  cr_assert_eq(code_of_get(state, "id"), WARM_E_LIMIT, "a cell of the old session was used in the new one");
  for (warm_view& view : now) cr_assert(libclient::release(state, view));
  cr_assert_eq(code_of_get(state, "id"), WARM_OK);
}

// Cells of both have the same numbers, and grants this large let a thread keep cells for its next views.
Test(client, a_cell_of_the_session_before_is_none_of_the_new_one) {
  World world;
  world.daemon.put(1, 10, "id", "x");
  auto& state = world.open();
  std::vector<warm_view> old(5, warm_view WARM_VIEW_INIT);
  for (warm_view& view : old) cr_assert(get(state, "id", view).has_value());
  world.daemon.set_resume(false);
  world.daemon.hang_up();
  layout::store_seq_cst(world.daemon.generation().generation, 0x3333);
  std::vector<warm_view> now(3, warm_view WARM_VIEW_INIT);
  for (warm_view& view : now) cr_assert(get(state, "id", view).has_value());
  for (warm_view& view : old) cr_assert(libclient::release(state, view));
  now.resize(200, warm_view WARM_VIEW_INIT);
  for (size_t i = 3; i < now.size(); ++i) cr_assert(get(state, "id", now[i]).has_value());
  const auto& pins = world.daemon.session(1).pins;
  cr_assert_eq(std::count(std::begin(pins), std::end(pins), 2U), 200, "two views stand in one cell");
  for (warm_view& view : now) cr_assert(libclient::release(state, view));
  cr_assert_eq(std::count(std::begin(pins), std::end(pins), 0U), static_cast<ptrdiff_t>(std::size(pins)));
  cr_assert_eq(state.views_out(), 0);
}

Test(client, a_daemon_that_takes_a_session_back_with_another_grant_is_not_believed) {
  World world;
  world.daemon.put(1, 10, "id", "x");
  world.daemon.set_views_max(5);
  auto& state = world.open();
  for (const uint32_t other : {4U, 6U}) {
    world.daemon.set_views_max(other);
    world.daemon.hang_up();
    layout::store_seq_cst(world.daemon.generation().generation, 0x3330 + other);
    warm_view view = WARM_VIEW_INIT;
    const auto refused = get(state, "id", view);
    cr_assert(!refused && refused.error().code == WARM_E_UNAVAILABLE);
    cr_assert_neq(refused.error().text.find("it was granted 5"), std::string::npos, "%s", refused.error().text.c_str());
  }
  world.daemon.set_views_max(5);
  cr_assert_eq(code_of_get(state, "id"), WARM_OK);
}

Test(client, a_session_without_views_or_with_more_than_there_are_cells_is_none) {
  for (const uint32_t granted : {0U, layout::kViewsMax + 1}) {
    World world;
    world.daemon.set_views_max(granted);
    auto opened = libclient::Client::open(world.daemon.socket().c_str(), kTimeoutNs);
    cr_assert(!opened && opened.error().code == WARM_E_CORRUPT);
  }
}

Test(client, a_session_that_was_given_up_is_named_until_a_daemon_says_that_it_is_over) {
  World world;
  world.open();
  cr_assert(world.client->close().has_value());
  for (int time = 0; time < 2; ++time) {
    world.open();
    cr_assert_eq(world.daemon.accepts().back().sessions[0], 1, "time %d", time);
    cr_assert(world.client->close().has_value());
  }
  // In the place of the first there is another session by now, and the second is dead.
  world.daemon.entry(0).number = 100;
  world.daemon.entry(1).state = static_cast<uint32_t>(layout::SessionState::dead);
  world.open();
  const layout::Accept last = world.daemon.accepts().back();
  cr_assert_eq(last.count, 1);
  cr_assert_eq(last.sessions[0], 3);
}

Test(client, a_child_names_none_of_its_parents_sessions) {
  World world;
  world.open();
  cr_assert(world.client->close().has_value());
  const pid_t child = ::fork();
  if (child == 0) {
    auto opened = libclient::Client::open(world.daemon.socket().c_str(), kTimeoutNs);
    ::_exit(opened ? 0 : 1);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  cr_assert_eq(world.daemon.accepts().back().count, 0);
}

// A sanitizer cannot live without address space. g++ says that it is there by a macro, clang by a feature.
#ifndef __has_feature
#define __has_feature(name) 0
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || __has_feature(address_sanitizer) || \
    __has_feature(thread_sanitizer)
constexpr bool kAddressSpaceCanEnd = false;
#else
constexpr bool kAddressSpaceCanEnd = true;
#endif

// While it lives this process gets no more address space; small pieces still come from what the heap has.
class NoAddressSpace {
 public:
  NoAddressSpace() {
    void* warm = std::malloc(65536);
    std::free(warm);
    cr_assert_eq(::getrlimit(RLIMIT_AS, &limit_), 0);
    const rlimit none{.rlim_cur = 1, .rlim_max = limit_.rlim_max};
    cr_assert_eq(::setrlimit(RLIMIT_AS, &none), 0);
  }
  ~NoAddressSpace() { cr_expect_eq(::setrlimit(RLIMIT_AS, &limit_), 0); }
  NoAddressSpace(const NoAddressSpace&) = delete;
  NoAddressSpace& operator=(const NoAddressSpace&) = delete;

 private:
  rlimit limit_{};
};

Test(client, content_that_cannot_be_mapped_is_read_into_the_views_own_memory, .disabled = !kAddressSpaceCanEnd) {
  World world;
  auto& state = world.open();
  world.daemon.add_segment(2);
  world.daemon.put(1, 10, "unmapped", "read by pread", 2);
  warm_view view = WARM_VIEW_INIT;
  const auto presence = [&] {
    const NoAddressSpace none;
    return get(state, "unmapped", view);
  }();
  cr_assert(presence.has_value(), "%s", presence ? "" : presence.error().text.c_str());
  cr_assert(content_of(view) == "read by pread");
  cr_assert_eq(code_of_get(state, "unmapped"), WARM_OK);
  cr_assert(libclient::release(state, view));
}

// What is copied on the way to a record is not the record's.
Test(client, a_view_keeps_its_map_although_another_record_was_copied_before_it, .disabled = !kAddressSpaceCanEnd) {
  World world;
  auto& state = world.open();
  world.daemon.add_segment(2);
  world.daemon.put(1, 10, "unmapped", "x", 2);
  {
    const NoAddressSpace none;
    cr_assert_eq(code_of_get(state, "unmapped"), WARM_OK);
  }
  world.daemon.put(2, 11, "other", "y", 1);
  world.daemon.add_segment(3);
  // Its tag's first cell names the record without a map.
  world.daemon.home_of("mapped").cells[0] = layout::cell_word(1, 0, layout::tag_of_hash(base::hash64("mapped", 6, kHashSeed)));
  world.daemon.put(3, 12, "mapped", "z", 3);
  warm_view view = WARM_VIEW_INIT;
  cr_assert(get(state, "mapped", view).has_value());
  const void* content = view.content;
  cr_assert(content_of(view) == "z");
  cr_assert(maps_hold(content));
  world.daemon.unlist_segment(3);
  world.daemon.raise_segment_epoch();
  const auto table = state.segments.load();
  while (state.segments.load() == table) cr_assert_eq(code_of_get(state, "other"), WARM_OK);
  cr_assert(maps_hold(content), "the view's map went");
  cr_assert(libclient::release(state, view));
  cr_assert_not(maps_hold(content));
}

Test(client, a_put_without_an_answer_is_unknown_and_its_cell_is_not_used_again_before_the_answer) {
  World world;
  auto& state = world.open();
  cr_assert_eq(code_of_put(state, "late"), WARM_E_UNKNOWN);
  // Where it was published.
  uint32_t lane = 0;
  const uint64_t first = layout::kWrapStart;
  while (lane < kLanes && world.daemon.commits(lane).seq[first % layout::kLaneEntries] != first) ++lane;
  cr_assert_lt(lane, kLanes);
  const layout::RequestHeader& late = world.daemon.request(lane, first);
  cr_assert_eq(late.session, 1);
  cr_assert_eq(late.ticket, 1);
  const uint32_t cell = late.cell;

  std::thread answering([&] {
    // The next request comes with another cell.
    for (;;) {
      for (uint32_t l = 0; l < kLanes; ++l) {
        for (uint64_t n = first; n < first + 8; ++n) {
          if (layout::load_acquire(world.daemon.commits(l).seq[n % layout::kLaneEntries]) != n) continue;
          const layout::RequestHeader& request = world.daemon.request(l, n);
          if (request.cell == cell) continue;
          layout::ResultCell& result = world.daemon.cell(0, request.cell);
          result.status = WARM_OK;
          result.sequence = 77;
          layout::store_release(result.number, request.ticket);
          return;
        }
      }
    }
  });
  cr_assert_eq(code_of_put(state, "next"), WARM_OK);
  answering.join();
  layout::store_release(world.daemon.cell(0, cell).number, 1);
  libclient::Link& link = *state.attachment.load()->link;
  bool again = false;
  std::vector<uint32_t> claimed;
  while (auto one = link.cells.try_claim(0)) {
    claimed.push_back(*one);
    again = again || *one == cell;
  }
  cr_assert(again, "the cell was not freed by its late result");
  cr_assert_eq(claimed.size(), layout::kCellsPerSession);
}

Test(client, a_put_is_certainly_not_carried_out_when_every_lane_is_full) {
  World world;
  auto& state = world.open();
  for (uint32_t lane = 0; lane < kLanes; ++lane) {
    for (uint64_t n = layout::kWrapStart; n < layout::kWrapStart + layout::kLaneEntries; ++n) {
      world.daemon.commits(lane).seq[n % layout::kLaneEntries] = n;
    }
  }
  cr_assert_eq(code_of_put(state, "id"), WARM_E_BUSY);
  // Room again in one of them.
  world.daemon.done(33).done = layout::kWrapStart;
  cr_assert_eq(code_of_put(state, "id"), WARM_E_UNKNOWN);
  const uint64_t ninth = layout::kWrapStart + layout::kLaneEntries;
  cr_assert_eq(world.daemon.commits(33).seq[ninth % layout::kLaneEntries], ninth);
}

// Our daemon has one channel only.
Test(client, a_client_that_is_given_no_other_channel_goes_on_in_the_lanes_that_are_left) {
  World world;
  auto& state = world.open();
  for (uint32_t lane = 0; lane < kLanes; ++lane) world.daemon.lock(lane).fenced = 1;
  world.daemon.lock(5).fenced = 0;
  const auto request_in_lane_5 = [&](uint64_t nth) {
    return world.daemon.commits(5).seq[(layout::kWrapStart + nth) % layout::kLaneEntries] == layout::kWrapStart + nth;
  };
  cr_assert_eq(code_of_put(state, "id"), WARM_E_UNKNOWN);
  cr_assert(request_in_lane_5(0));
  cr_assert_eq(world.daemon.hellos(), 2, "it did not ask for another channel");
  cr_assert_eq(world.daemon.accepts().size(), 1, "it accepted the same channel once more");
  // It goes on, and says why it cannot when no lane is left.
  cr_assert_eq(code_of_put(state, "id"), WARM_E_UNKNOWN);
  cr_assert(request_in_lane_5(1));
  world.daemon.lock(5).fenced = 1;
  auto sequence = libclient::put(state, memory_of("id"));
  cr_assert(!sequence && sequence.error().code == WARM_E_BUSY);
  cr_assert(sequence.error().text.find("the same channel again") != std::string::npos, "%s", sequence.error().text.c_str());
}

namespace {

// What arrives of four puts: none while the daemon is awake, two in its first sleep, one in its second.
size_t bytes_of_two_sleeps(size_t expected) {
  World world;
  auto& state = world.open();
  cr_assert_eq(code_of_put(state, "quiet"), WARM_E_UNKNOWN);
  cr_assert_eq(world.daemon.received().size(), 0);
  layout::store_seq_cst(world.daemon.status().sleeping, 1);
  cr_assert_eq(code_of_put(state, "loud"), WARM_E_UNKNOWN);
  world.daemon.await_received(1);
  cr_assert_eq(code_of_put(state, "again"), WARM_E_UNKNOWN);
  layout::store_seq_cst(world.daemon.status().sleeping, 2);
  cr_assert_eq(code_of_put(state, "another sleep"), WARM_E_UNKNOWN);
  world.daemon.await_received(expected);
  for (const auto& message : world.daemon.received()) {
    cr_assert_eq(message.size(), 1);
    cr_assert_eq(static_cast<uint8_t>(message[0]), layout::kDoorbellByte);
  }
  return world.daemon.received().size();
}

}  // namespace

Test(client, a_daemon_is_rung_once_for_each_sleep) { cr_assert_eq(bytes_of_two_sleeps(2), 2); }

Test(client, a_daemon_is_rung_once_for_each_sleep__fails_without_the_rule, .disabled = !support::failpoints_built()) {
  const support::Omit omit("client.each_sleep_is_rung");
  cr_assert_eq(bytes_of_two_sleeps(1), 1);
}

Test(client, a_reader_is_refused_a_write_by_its_access) {
  World world;
  world.daemon.set_access(layout::Access::read);
  world.daemon.put(1, 10, "id", "x");
  auto& state = world.open();
  cr_assert_eq(code_of_get(state, "id"), WARM_OK);
  cr_assert_eq(code_of_put(state, "id"), WARM_E_ACCESS);
}

Test(client, a_large_put_travels_with_rising_numbers_and_the_same_one_after_a_reattach) {
  World world;
  auto& state = world.open(5 * base::kNsPerSecond);
  const std::string content(100'000, 'c');
  warm_memory memory = memory_of("large");
  memory.given = WARM_GIVEN_CONTENT;
  memory.content = content.data();
  memory.content_bytes = content.size();
  std::thread answering([&] {
    const auto message_of = [](const std::vector<std::byte>& bytes) {
      return *reinterpret_cast<const layout::PutMessage*>(bytes.data());
    };
    world.daemon.await_received(1);
    world.daemon.hang_up();  // before it was carried out
    world.daemon.await_received(2);
    const auto received = world.daemon.received();
    const layout::PutMessage first = message_of(received[0]);
    const layout::PutMessage again = message_of(received[1]);
    cr_expect_eq(first.number, 1);
    cr_expect_eq(again.number, 1);
    cr_expect_eq(first.request.ticket, again.request.ticket);
    layout::ResultCell& result = world.daemon.cell(0, again.request.cell);
    result.sequence = 5;
    layout::store_release(result.number, again.request.ticket);
    world.daemon.await_received(3);
    const layout::PutMessage second = message_of(world.daemon.received()[2]);
    cr_expect_eq(second.number, 2);
    layout::store_release(world.daemon.cell(0, second.request.cell).number, second.request.ticket);
  });
  auto sequence = libclient::put(state, memory);
  cr_assert(sequence && *sequence == 5, "%s", sequence ? "?" : sequence.error().text.c_str());
  cr_assert(libclient::put(state, memory).has_value());
  answering.join();
}

Test(client, many_at_once_count_and_touch_as_one_by_one) {
  World world;
  world.daemon.put(1, 10, "id", "x");
  auto& state = world.open();
  constexpr size_t kMany = 3 * libclient::kGetsPerTick + 5;
  std::vector<warm_id> ids(kMany, warm_id{.data = "id", .bytes = 2});
  ids[70] = {.data = "not there", .bytes = 9};
  std::vector<warm_view> views(kMany, WARM_VIEW_INIT);
  std::vector<int32_t> codes(kMany);
  std::optional<base::Error> error;
  libclient::get_many(state, ids.data(), kMany, 0, views.data(), codes.data(), error);
  cr_assert_not(error.has_value());
  for (size_t i = 0; i < kMany; ++i) {
    cr_assert_eq(codes[i], i == 70 ? WARM_E_NOT_FOUND : WARM_OK);
    cr_assert(libclient::release(state, views[i]));
  }
  libclient::ClientState::flush_counters(state.thread());
  cr_assert_eq(world.daemon.session(0).counters.gets, kMany);
  cr_assert_eq(world.daemon.session(0).counters.misses, 1);
  cr_assert_eq(world.daemon.session(0).touches.head, 3, "one in 64 leaves a trace");
  cr_assert_eq(state.views_out(), 0);
}

// The cell that is seen first on the way names another record, a slot that there is not, or a damaged record.
Test(client, many_at_once_are_found_behind_cells_with_their_tags) {
  World world;
  auto& state = world.open();
  world.daemon.put(1, 10, "other", "x");
  constexpr const char* kIds[] = {"behind another", "behind nothing", "not there", "damaged"};
  constexpr uint32_t kFirst[] = {1, layout::kNoSlot - 1, 1, 4};
  world.daemon.write_record(4, 11, "damaged", "d", 1);
  world.daemon.line(4).locator ^= 1;
  std::vector<warm_id> ids;
  for (size_t i = 0; i < std::size(kIds); ++i) {
    const std::string_view id = kIds[i];
    ids.push_back({.data = id.data(), .bytes = id.size()});
    world.daemon.home_of(id).cells[0] =
        layout::cell_word(kFirst[i], 0, layout::tag_of_hash(base::hash64(id.data(), id.size(), kHashSeed)));
  }
  world.daemon.put(2, 12, kIds[0], "b");
  std::vector<warm_view> views(ids.size(), WARM_VIEW_INIT);
  std::vector<int32_t> codes(ids.size());
  std::optional<base::Error> error;
  libclient::get_many(state, ids.data(), ids.size(), 0, views.data(), codes.data(), error);
  cr_assert_eq(codes[0], WARM_OK);
  cr_assert(content_of(views[0]) == "b");
  cr_assert_eq(codes[1], WARM_E_CORRUPT);
  cr_assert_eq(codes[2], WARM_E_NOT_FOUND);
  cr_assert_eq(codes[3], WARM_E_CORRUPT);
  cr_assert(libclient::release(state, views[0]));
  cr_assert_eq(state.views_out(), 0);
}

Test(client, a_thread_that_ends_gives_its_pin_cells_and_counts_back) {
  World world;
  world.daemon.put(1, 10, "id", "x");
  auto& state = world.open();
  for (int i = 0; i < 300; ++i) {
    std::thread([&] { cr_assert_eq(code_of_get(state, "id"), WARM_OK); }).join();
  }
  cr_assert_eq(world.daemon.session(0).counters.gets, 300);
  cr_assert_leq(world.daemon.session(0).header.pins_high, 2 * libclient::kMagazineCells, "cells of ended threads were lost");
}

Test(client, a_thread_outlives_a_client_that_it_used) {
  World world;
  world.daemon.put(1, 10, "id", "x");
  auto& state = world.open();
  std::atomic<int> step{0};
  std::thread user([&] {
    cr_expect_eq(code_of_get(state, "id"), WARM_OK);
    step.store(1);
    step.notify_all();
    step.wait(1);
  });
  step.wait(0);
  cr_assert(world.client->close().has_value());
  world.client.reset();
  step.store(2);
  step.notify_all();
  user.join();
}
