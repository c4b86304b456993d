// The client's parts one by one: pin cells, result cells, segments, lanes, the socket's place.
#include <criterion/criterion.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "libclient/cells.hpp"
#include "libclient/client.hpp"
#include "libclient/handshake.hpp"
#include "libclient/lanes.hpp"
#include "libclient/pins.hpp"
#include "libclient/segments.hpp"
#include "tests/unit/libclient/fake_daemon.hpp"

using namespace warmtier::tests;
namespace base = warmtier::base;
namespace layout = warmtier::layout;
namespace libclient = warmtier::libclient;

// ---- Pin cells
// ------------------------------------------------------------------------------------------------------------------

Test(pins, every_cell_is_handed_out_once_and_then_none) {
  const Region region(sizeof(layout::SessionRegion));
  auto& session = region.as<layout::SessionRegion>();
  libclient::PinCells pins(session, layout::kViewsMax);
  std::set<uint32_t> seen;
  uint32_t cells[100];
  while (const uint32_t count = pins.take(cells, 100)) {
    for (uint32_t i = 0; i < count; ++i) {
      cr_assert_lt(cells[i], session.header.pins_high, "the daemon would not look at cell %u", cells[i]);
      cr_assert(seen.insert(cells[i]).second, "cell %u was handed out twice", cells[i]);
    }
  }
  cr_assert_eq(seen.size(), layout::kViewsMax);
  cr_assert_eq(session.header.pins_high, layout::kViewsMax);
  pins.give_back(cells, 1);
  cr_assert_eq(pins.handed_out(), layout::kViewsMax - 1);
  cr_assert_eq(pins.take(cells, 100), 1);
}

Test(pins, no_cell_is_handed_out_beyond_what_was_granted) {
  for (const uint32_t granted : {1U, 5U, 64U, 1000U, 32768U, layout::kViewsMax}) {
    const Region region(sizeof(layout::SessionRegion));
    auto& session = region.as<layout::SessionRegion>();
    libclient::PinCells pins(session, granted);
    std::set<uint32_t> seen;
    uint32_t cells[100];
    while (const uint32_t count = pins.take(cells, 100)) seen.insert(cells, cells + count);
    cr_assert(seen.size() == granted && *seen.rbegin() == granted - 1, "%zu of %u", seen.size(), granted);
    cr_assert_eq(session.header.pins_high, granted);
    cr_assert_leq(pins.kept_by_thread() * 1024, granted, "threads together keep more than was granted");
  }
}

Test(pins, used_cells_are_used_again_before_fresh_ones) {
  const Region region(sizeof(layout::SessionRegion));
  auto& session = region.as<layout::SessionRegion>();
  libclient::PinCells pins(session, layout::kViewsMax);
  uint32_t cells[16];
  for (int i = 0; i < 1000; ++i) {
    cr_assert_eq(pins.take(cells, 16), 16);
    pins.give_back(cells, 16);
  }
  cr_assert_eq(session.header.pins_high, 16);
}

Test(pins, what_is_pinned_is_seen_until_it_is_not) {
  const Region region(sizeof(layout::SessionRegion));
  auto& session = region.as<layout::SessionRegion>();
  libclient::PinCells pins(session, layout::kViewsMax);
  uint32_t cells[3];
  cr_assert(!pins.any_pinned());
  cr_assert_eq(pins.take(cells, 3), 3);
  for (const uint32_t cell : cells) layout::store_release(session.pins[cell], 7);
  for (const uint32_t cell : cells) {
    cr_assert(pins.any_pinned());
    layout::store_release(session.pins[cell], 0);
  }
  cr_assert(!pins.any_pinned());
}

// ---- Result cells
// -----------------------------------------------------------------------------------------------------------------

Test(cells, a_cell_is_with_one_thread_at_a_time_and_tickets_rise_above_what_it_carries) {
  std::vector<layout::ResultCell> shared(layout::kCellsPerSession);
  shared[0].number = 1000;
  libclient::ResultCells cells(shared.data());
  std::set<uint32_t> seen;
  for (uint32_t thread = 0; thread < layout::kCellsPerSession; ++thread) {
    const auto cell = cells.try_claim(thread);
    cr_assert(cell.has_value());
    cr_assert(seen.insert(*cell).second, "cell %u was claimed twice", *cell);
  }
  cr_assert_not(cells.try_claim(0).has_value());
  cr_assert_eq(cells.next_ticket(0), 1001);
  cr_assert_eq(cells.next_ticket(0), 1002);
  cr_assert_eq(cells.next_ticket(1), 1);
}

Test(cells, a_cell_that_was_given_up_comes_back_with_its_late_result_only) {
  std::vector<layout::ResultCell> shared(layout::kCellsPerSession);
  libclient::ResultCells cells(shared.data());
  while (cells.try_claim(0)) {
  }
  const uint64_t ticket = cells.next_ticket(9);
  cells.quarantine(9);
  cr_assert_not(cells.try_claim(0).has_value());
  layout::store_release(shared[9].number, ticket);
  const auto cell = cells.try_claim(0);
  cr_assert(cell && *cell == 9);
  cr_assert_not(cells.try_claim(0).has_value());
}

Test(cells, a_cell_is_open_while_somebody_has_it_and_not_when_it_was_given_up) {
  std::vector<layout::ResultCell> shared(layout::kCellsPerSession);
  libclient::ResultCells cells(shared.data());
  cr_assert(!cells.any_open());
  const auto one = cells.try_claim(0);
  const auto other = cells.try_claim(200);
  cr_assert(one && other);
  cells.next_ticket(*one);
  cr_assert(cells.any_open());
  cells.release(*other);
  cr_assert(cells.any_open());
  cells.quarantine(*one);
  cr_assert(!cells.any_open());
}

Test(cells, who_waits_for_a_cell_gets_the_next_one_that_is_released, .timeout = 20) {
  std::vector<layout::ResultCell> shared(layout::kCellsPerSession);
  libclient::ResultCells cells(shared.data());
  while (cells.try_claim(0)) {
  }
  cr_assert_not(cells.claim(0, base::Deadline::after_ns(20 * base::kNsPerMs)).has_value());
  std::thread releasing([&] { cells.release(200); });
  const auto cell = cells.claim(0, base::Deadline::never());
  releasing.join();
  cr_assert(cell && *cell == 200);
}

// ---- Segments
// ---------------------------------------------------------------------------------------------------------------------

Test(segments, the_table_finds_what_it_holds_and_nothing_else) {
  std::vector<std::unique_ptr<libclient::SegmentMap>> owners;
  std::vector<libclient::SegmentMap*> list;
  for (uint64_t i = 0; i < 1000; ++i) {
    owners.push_back(std::make_unique<libclient::SegmentMap>());
    owners.back()->number = i * 64;  // all of them begin at few places
    list.push_back(owners.back().get());
  }
  const libclient::SegmentTable table(nullptr, 3, list);
  for (const auto* segment : list) {
    const auto* entry = table.find(segment->number);
    cr_assert_not_null(entry);
    cr_assert_eq(entry->map, segment);
  }
  for (const uint64_t other : {uint64_t{1}, uint64_t{63}, uint64_t{64000}, layout::kSegmentNumberEnd - 1})
    cr_assert_null(table.find(other));
  const libclient::SegmentTable empty(nullptr, 0, {});
  cr_assert_null(empty.find(0));
}

Test(segments, a_file_that_is_not_this_segment_is_refused) {
  const uint8_t store_id[16] = {};
  auto make = [&](size_t bytes, uint64_t number) {
    auto file = base::make_memfd("segment", bytes);
    cr_assert(file.has_value());
    return libclient::SegmentMap::make(std::move(*file), number, store_id);
  };
  for (const size_t bytes : {size_t{0}, size_t{10}, size_t{4096}}) {
    auto made = make(bytes, 1);
    cr_assert(!made && made.error().code == WARM_E_CORRUPT, "%zu bytes", bytes);
  }
}

// ---- Lanes
// --------------------------------------------------------------------------------------------------------------------------

namespace {

struct Lanes {
  FakeDaemon daemon;
  std::unique_ptr<libclient::Client> client;
  libclient::Link* link = nullptr;

  Lanes() {
    auto opened = libclient::Client::open(daemon.socket().c_str(), base::kNsPerSecond);
    cr_assert(opened.has_value(), "%s", opened ? "" : opened.error().text.c_str());
    client = std::move(*opened);
    link = client->state().attachment.load()->link;
  }
  bool publish() {
    libclient::OutgoingRequest request;
    request.header.session = link->session;
    request.header.id_bytes = 2;
    request.id = "id";
    const libclient::OutgoingRequest* const one = &request;
    return libclient::publish_in_any(*link, static_cast<uint32_t>(::gettid()), {&one, 1}).count == 1;
  }
  unsigned published() {
    unsigned count = 0;
    for (uint32_t lane = 0; lane < kLanes; ++lane) {
      for (const uint64_t number : daemon.commits(lane).seq) count += number != 0;
    }
    return count;
  }
  layout::SessionCounters& counters() { return daemon.session(0).counters; }
  // All lanes but one, so that the test knows where a request goes.
  void fence_all_but(uint32_t lane) {
    for (uint32_t i = 0; i < kLanes; ++i) daemon.lock(i).fenced = i != lane;
  }
  // By a process that ends inside the claim.
  void die_inside(uint32_t lane) {
    const pid_t child = ::fork();
    if (child == 0) {
      const bool held = ::pthread_mutex_trylock(&daemon.lock(lane).mutex) == 0;
      daemon.lock(lane).holder = 1;
      ::_exit(held ? 0 : 1);
    }
    int status = -1;
    cr_assert_eq(::waitpid(child, &status, 0), child);
    cr_assert_eq(status, 0);
  }
  // As the kernel leaves it after process_mrelease: nobody will ever unlock it, and nobody says so.
  void lose(uint32_t lane) {
    const pid_t child = ::fork();
    if (child == 0) ::_exit(0);
    ::waitpid(child, nullptr, 0);
    __atomic_store_n(&daemon.lock(lane).mutex.__data.__lock, child, __ATOMIC_SEQ_CST);
  }
  void seen_busy_long_ago(uint32_t lane) { daemon.lock(lane).busy_since_ns = base::monotonic_ns() - 2 * base::kNsPerSecond; }
};

}  // namespace

TestSuite(lanes, .timeout = 30);

Test(lanes, a_lane_whose_holder_died_is_repaired_and_used) {
  Lanes lanes;
  lanes.fence_all_but(5);
  lanes.die_inside(5);
  cr_assert(lanes.publish());
  cr_assert_eq(lanes.counters().lane_repairs, 1);
  cr_assert_eq(lanes.daemon.lock(5).holder, 0);
  cr_assert_eq(lanes.daemon.commits(5).seq[layout::kWrapStart % 8], layout::kWrapStart);
  cr_assert(lanes.publish());
  cr_assert_eq(lanes.counters().lane_repairs, 1);
}

Test(lanes, a_repair_leaves_what_was_committed) {
  Lanes lanes;
  lanes.fence_all_but(5);
  cr_assert(lanes.publish());
  cr_assert(lanes.publish());
  lanes.die_inside(5);
  cr_assert(lanes.publish());
  for (uint64_t n = layout::kWrapStart; n < layout::kWrapStart + 3; ++n) cr_assert_eq(lanes.daemon.commits(5).seq[n % 8], n);
}

Test(lanes, eight_requests_fit_and_the_ninth_waits_for_the_daemon) {
  Lanes lanes;
  lanes.fence_all_but(5);
  for (int i = 0; i < 8; ++i) cr_assert(lanes.publish());
  cr_assert_not(lanes.publish());
  lanes.daemon.done(5).done = layout::kWrapStart;
  cr_assert(lanes.publish());
  cr_assert_not(lanes.publish());
}

Test(lanes, a_lane_that_nobody_will_release_is_fenced_after_a_second_and_not_before) {
  Lanes lanes;
  lanes.fence_all_but(5);
  lanes.lose(5);
  cr_assert_not(lanes.publish());
  cr_assert_neq(lanes.daemon.lock(5).busy_since_ns, 0);
  cr_assert_not(lanes.publish());
  cr_assert_eq(lanes.daemon.lock(5).fenced, 0);
  lanes.seen_busy_long_ago(5);
  cr_assert_not(lanes.publish());
  cr_assert_eq(lanes.daemon.lock(5).fenced, 1);
  cr_assert_eq(lanes.counters().lanes_fenced, 1);
}

Test(lanes, a_lane_whose_holder_lives_is_never_fenced) {
  Lanes lanes;
  lanes.fence_all_but(5);
  cr_assert_eq(::pthread_mutex_trylock(&lanes.daemon.lock(5).mutex), 0);
  for (const uint64_t holder : {lanes.link->session, uint64_t{0}}) {
    lanes.daemon.lock(5).holder = holder;
    lanes.seen_busy_long_ago(5);
    std::thread([&] { cr_expect_not(lanes.publish()); }).join();
    cr_assert_eq(lanes.daemon.lock(5).fenced, 0, "holder %lu", holder);
  }
  // The session is over, says the daemon: then nobody will.
  lanes.daemon.lock(5).holder = 4711;
  std::thread([&] { cr_expect_not(lanes.publish()); }).join();
  cr_assert_eq(lanes.daemon.lock(5).fenced, 1);
}

Test(lanes, a_busy_lane_costs_nothing_but_the_next_one) {
  Lanes lanes;
  std::vector<pthread_mutex_t*> held;
  for (uint32_t lane = 0; lane < kLanes - 1; ++lane) {
    cr_assert_eq(::pthread_mutex_trylock(&lanes.daemon.lock(lane).mutex), 0);
  }
  bool published = false;
  std::thread([&] { published = lanes.publish(); }).join();
  cr_assert(published);
  cr_assert_eq(lanes.published(), 1);
  cr_assert_eq(lanes.daemon.commits(kLanes - 1).seq[layout::kWrapStart % 8], layout::kWrapStart);
}

// ---- The socket's place
// ---------------------------------------------------------------------------------------------------------------

namespace {

std::string place_of(const char* option) { return libclient::find_socket(option).value_or("none"); }

}  // namespace

Test(handshake, a_socket_that_is_named_is_the_only_one_tried) {
  char name[] = "/tmp/warmtier-place-XXXXXX";
  cr_assert_not_null(::mkdtemp(name));
  const std::string directory = name;
  ::setenv("XDG_RUNTIME_DIR", directory.c_str(), 1);
  ::setenv("WARMTIER_SOCKET", "", 1);  // as if it were not set
  const bool system_wide = std::filesystem::exists("/run/warmtier/sock");
  if (!system_wide) {
    auto none = libclient::find_socket(nullptr);
    cr_assert(!none && none.error().code == WARM_E_UNAVAILABLE);
    for (const std::string& place : {std::string("/run/warmtier/sock"), directory + "/warmtier.sock"}) {
      cr_assert(none.error().text.find(place) != std::string::npos, "%s is not in: %s", place.c_str(), none.error().text.c_str());
    }
  }
  std::ofstream(directory + "/warmtier.sock") << "x";
  if (!system_wide) cr_assert(place_of(nullptr) == directory + "/warmtier.sock");
  // Named, and not there: the other places are other stores.
  ::setenv("WARMTIER_SOCKET", (directory + "/named").c_str(), 1);
  cr_assert(place_of(nullptr) == directory + "/named");
  cr_assert(place_of("/other") == "/other");
  cr_assert(place_of("relative") == std::filesystem::current_path().string() + "/relative");
  auto too_long = libclient::find_socket(std::string(200, 'x').insert(0, "/").c_str());
  cr_assert(!too_long && too_long.error().code == WARM_E_INVALID);
  std::filesystem::remove_all(directory);
}

Test(handshake, slices_grow_and_end_at_the_deadline) {
  libclient::Slices slices;
  const auto never = base::Deadline::never();
  for (const uint64_t ms : {1U, 5U, 25U, 50U, 50U}) cr_assert_eq(slices.next_ns(never), ms * base::kNsPerMs);
  cr_assert_eq(slices.next_ns(base::Deadline::after_ns(0)), 0);
}

// ---- The way to the daemon
// ----------------------------------------------------------------------------------------------------

namespace {

// Of a listener that accepts nobody.
struct FullQueue {
  FullQueue() {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path.copy(address.sun_path, sizeof address.sun_path - 1);
    cr_assert_eq(::bind(listener.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
    cr_assert_eq(::listen(listener.get(), 0), 0);
    cr_assert(libclient::connect_to(path, base::Deadline::after_ns(base::kNsPerSecond)).has_value());
  }
  ~FullQueue() { std::filesystem::remove(path); }
  FullQueue(const FullQueue&) = delete;
  FullQueue& operator=(const FullQueue&) = delete;
  std::string path = std::filesystem::temp_directory_path() / ("warmtier-queue-" + std::to_string(::getpid()));
  base::Fd listener{::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0)};
};

}  // namespace

// Signals begin the wait anew, and the deadline is what it was.
Test(handshake, who_waits_for_a_place_in_the_queue_gives_up_at_the_deadline_whatever_signals_come, .timeout = 20) {
  const FullQueue queue;
  struct sigaction nothing{};
  nothing.sa_handler = [](int) {};
  cr_assert_eq(::sigaction(SIGALRM, &nothing, nullptr), 0);
  const itimerval often{.it_interval = {.tv_sec = 0, .tv_usec = 5'000}, .it_value = {.tv_sec = 0, .tv_usec = 5'000}};
  cr_assert_eq(::setitimer(ITIMER_REAL, &often, nullptr), 0);
  const auto second = libclient::connect_to(queue.path, base::Deadline::after_ns(100 * base::kNsPerMs));
  const itimerval never{};
  cr_assert_eq(::setitimer(ITIMER_REAL, &never, nullptr), 0);
  cr_assert(!second && second.error().code == WARM_E_UNAVAILABLE);
}
// The first one that leaves lets the next in.
Test(handshake, who_waits_for_a_place_in_the_queue_gets_it, .timeout = 20) {
  const FullQueue queue;
  std::thread accepting([&] {
    const base::Fd one(::accept(queue.listener.get(), nullptr, nullptr));
    const base::Fd other(::accept(queue.listener.get(), nullptr, nullptr));
  });
  const auto second = libclient::connect_to(queue.path, base::Deadline::after_ns(10 * base::kNsPerSecond));
  accepting.join();
  cr_assert(second.has_value());
  cr_assert((::fcntl(second->get(), F_GETFL) & O_NONBLOCK) != 0);
}
