// What changed, in order, and waiting for it: docs/protocol.md, "Feed" and "News". A feed of 16 entries and 2 KiB of ids comes
// round after a few changes.
#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <optional>
#include <string>

#include "base/clock.hpp"
#include "libclient/feed.hpp"
#include "libclient/handshake.hpp"
#include "tests/interleave/scene.hpp"

using namespace warmtier::tests::interleave;
using namespace warmtier;
using tests::support::Client;
using tests::support::give_up;

TestSuite(order, .timeout = 120);

namespace {

constexpr unsigned kEntries = 16;

// The feed as the library reads it, in a session of its own.
class Feed {
 public:
  explicit Feed(Scene& scene) {
    scene.omit("store.feed_is_long");
    scene.daemon().stop_and_start();
    auto greeting =
        libclient::greet(scene.daemon().socket(), std::nullopt, base::Deadline::after_ns(tests::support::kPatienceNs));
    if (!greeting) give_up("no greeting: " + greeting.error().text);
    greeting_ = std::move(*greeting);
    auto map = libclient::FeedMap::map(greeting_.feed);
    if (!map) give_up("the feed cannot be mapped: " + map.error().text);
    map_ = std::move(*map);
  }
  [[nodiscard]] const libclient::FeedMap& operator*() const noexcept { return map_; }
  [[nodiscard]] std::optional<std::string> id(uint64_t position) const {
    std::array<std::byte, layout::kIdBytesMax> buffer;
    const auto bytes = map_.id(position, buffer);
    if (!bytes) return std::nullopt;
    return std::string(reinterpret_cast<const char*>(buffer.data()), *bytes);
  }

 private:
  libclient::Greeting greeting_;
  libclient::FeedMap map_;
};

// An id that fills half of the ring.
std::string long_id(char letter) { return std::string(layout::kIdBytesMax, letter); }

void put_many(warm_client* client, unsigned count) {
  for (unsigned i = 0; i < count; ++i) must_put(client, "k" + std::to_string(i), 1);
}

}  // namespace

INTERLEAVING(order, an_id_that_was_overwritten_while_it_was_read_is_gone, store_of(64), "client.feed_end_again") {
  const Feed feed(scene);
  const Client client(scene.daemon());
  const uint64_t position = (*feed).head();
  must_put(client, "X", 1);
  Actor reader;
  std::optional<std::string> id;
  scene.leave_out();
  Stop found = scene.at("client.feed_id_word_loaded", reader.tid());
  reader.begin([&] { id = feed.id(position); });
  found.reached();
  for (const char letter : {'a', 'b', 'c'}) must_put(client, long_id(letter), 1);
  found.go();
  reader.end();
  return !id || *id == "X" ? nullptr : "a change was given another one's id";
}

INTERLEAVING(order, a_ring_says_that_it_comes_round_before_it_does, store_of(64), "store.feed_end_first") {
  const Feed feed(scene);
  const Client client(scene.daemon());
  const uint64_t position = (*feed).head();
  must_put(client, "X", 1);
  must_put(client, long_id('a'), 1);
  Actor writer;
  scene.leave_out();
  Stop stored = scene.daemon_at("store.feed_id_stored");
  writer.begin([&] { must_put(client, long_id('b'), 1); });
  stored.reached();  // X's bytes are overwritten
  const auto id = feed.id(position);
  stored.go();
  writer.end();
  return !id || *id == "X" ? nullptr : "a change was given another one's id";
}

INTERLEAVING(order, the_word_of_the_entry_that_comes_round_is_not_taken_for_the_old_ones, store_of(64),
             "client.feed_head_again") {
  const Feed feed(scene);
  const Client client(scene.daemon());
  const uint64_t position = (*feed).head();
  must_put(client, "X", 1);
  Actor reader;
  Actor writer;
  std::optional<std::string> id;
  scene.leave_out();
  Stop begun = scene.at("client.feed_id_begun", reader.tid());
  reader.begin([&] { id = feed.id(position); });
  begun.reached();
  put_many(client, kEntries - 1);
  Stop named = scene.daemon_at("store.feed_id_named");
  writer.begin([&] { must_put(client, "Y", 1); });
  named.reached();  // its word stands in the place of X's, its entry and the head do not say so
  begun.go();
  reader.end();
  named.go();
  writer.end();
  return !id || *id == "X" ? nullptr : "a change was given another one's id";
}

INTERLEAVING(order, the_head_says_that_a_change_is_there_only_when_its_id_is, store_of(64), "store.feed_id_before_head") {
  const Feed feed(scene);
  const Client client(scene.daemon());
  put_many(client, kEntries);
  const uint64_t position = (*feed).head();
  Actor writer;
  scene.leave_out();
  Stop raised = scene.daemon_at("store.feed_end_raised");
  writer.begin([&] { must_put(client, "Y", 1); });
  raised.reached();
  const auto id = feed.id(position);
  raised.go();
  writer.end();
  return !id || *id == "Y" ? nullptr : "a change was given an earlier one's id";
}

INTERLEAVING(order, an_entry_that_came_round_is_not_taken_for_the_old_one, store_of(64), "client.feed_position") {
  const Feed feed(scene);
  const Client client(scene.daemon());
  const uint64_t position = (*feed).head();
  uint64_t sequence = 0;
  if (put(client, "X", 1, &sequence) != WARM_OK) give_up("put X");
  Actor reader;
  std::optional<libclient::FeedMap::Change> change;
  scene.leave_out();
  Stop begun = scene.at("client.feed_entry_begun", reader.tid());
  reader.begin([&] { change = (*feed).entry(position); });
  begun.reached();
  put_many(client, kEntries);
  begun.go();
  reader.end();
  return !change || change->sequence == sequence ? nullptr : "a position was given a later change";
}

// ---- Waiting ------------------------------------------------------------------------------------------------------------------

namespace {

// One that waits for a change later than `after`, in a thread of its own. It does not look again by itself, so a wake-up that is
// lost is a wait that ends at its deadline.
class Waiter {
 public:
  Waiter(Scene& scene, warm_client* client) : client_(client), timeout_ms_(scene.vain_timeout_ms()) {}
  [[nodiscard]] pid_t tid() const noexcept { return actor_.tid(); }
  void begin(uint64_t after) {
    actor_.begin([this, after] {
      const uint64_t begun_ns = base::monotonic_ns();
      code_ = warm_wait(client_, after, timeout_ms_, nullptr);
      waited_ns_ = base::monotonic_ns() - begun_ns;
    });
  }
  // Waits until it sleeps on the low half of the status page's sequence, which it saw to be `seen`. Nothing tells of it: so the
  // kernel is asked until it says so.
  void await_asleep(uint64_t seen) const {
    const std::string path = "/proc/self/task/" + std::to_string(tid()) + "/syscall";
    char expected[32];
    std::snprintf(expected, sizeof expected, " 0x0 0x%x ", static_cast<uint32_t>(seen));
    for (const auto deadline = base::Deadline::after_ns(tests::support::kPatienceNs); !deadline.passed(); ::usleep(200)) {
      char text[256] = {};
      const base::Fd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
      if (!file || ::read(file.get(), text, sizeof text - 1) <= 0) continue;
      const std::string line = text;
      if (!line.starts_with("202 0x") || line.find(expected) == std::string::npos) continue;
      const uint64_t address = std::strtoull(line.c_str() + 4, nullptr, 16);
      if (address % layout::kPageBytes == offsetof(layout::StatusPage, sequence)) return;
    }
    give_up("nobody went to sleep");
  }
  // Until the end: whoever leaves has his channel swept, in the midst of what is played.
  void keep(std::unique_ptr<Client> client) { greeted_ = std::move(client); }
  // nullptr: it was woken.
  const char* end() {
    actor_.end();
    if (waited_ns_ < timeout_ms_ * base::kNsPerMs && code_ == WARM_OK) return nullptr;
    return "a wake-up was lost";
  }

 private:
  warm_client* client_;
  std::unique_ptr<Client> greeted_;
  const uint32_t timeout_ms_;
  int code_ = WARM_OK;
  uint64_t waited_ns_ = 0;
  Actor actor_;
};

uint64_t must_put_as(warm_client* client, const std::string& id) {
  uint64_t sequence = 0;
  if (put(client, id, 1, &sequence) != WARM_OK) give_up("put " + id);
  return sequence;
}

// Begins to wait and comes back when the store thread knows of it and the waiter sleeps.
void wait_asleep(Scene& scene, Waiter& waiter, uint64_t after, uint64_t seen) {
  Stop taken = scene.daemon_at("daemon.watch.taken");
  waiter.begin(after);
  taken.reached();
  taken.go();
  waiter.keep(std::make_unique<Client>(scene.daemon()));  // greeted: so the intake thread is done with the watch too
  waiter.await_asleep(seen);
}

// What the store thread did before has had its consequences.
void two_rounds(warm_client* client) {
  remove(client, "nobody");
  remove(client, "nobody");
}

}  // namespace

// The watch is on its way while the change is made.
INTERLEAVING(order, a_watch_that_comes_after_the_change_wakes_at_once, store_of(64), "daemon.watch_looks_back") {
  scene.omit("client.wait_in_slices");
  const Client client(scene.daemon());
  const Client waiting(scene.daemon());
  const uint64_t last = must_put_as(client, "X");
  Actor writer;
  Waiter waiter(scene, waiting);
  scene.leave_out();
  Stop changing = scene.daemon_at("store.cell_stored");
  writer.begin([&] { must_put(client, "Y", 1); });
  changing.reached();
  Stop posted = scene.daemon_at("daemon.watch.posted");
  waiter.begin(last);
  posted.reached();
  posted.go();
  waiter.await_asleep(last);
  changing.go();
  writer.end();
  return waiter.end();
}

INTERLEAVING(order, who_waits_for_less_is_not_forgotten_for_who_waits_for_more, store_of(64), "daemon.lowest_watch_holds") {
  scene.omit("client.wait_in_slices");
  const Client client(scene.daemon());
  const Client waiting(scene.daemon());
  const uint64_t last = must_put_as(client, "X");
  Waiter less(scene, waiting);
  scene.leave_out();
  wait_asleep(scene, less, last, last);
  // Whoever it is: he sends the watch and is not heard of again.
  layout::Watch watch{};
  watch.header = {.kind = static_cast<uint32_t>(layout::MessageKind::watch), .bytes = sizeof watch};
  watch.sequence_after = last + 100;
  watch.durable_after = layout::kWatchNothing;
  auto other = libclient::greet(scene.daemon().socket(), std::nullopt, base::Deadline::after_ns(tests::support::kPatienceNs));
  if (!other) give_up("no greeting: " + other.error().text);
  if (!libclient::send_accept(other->socket.get(), {}, base::Deadline::never())) give_up("no accept");
  Stop taken = scene.daemon_at("daemon.watch.taken");
  if (!libclient::send_message(other->socket.get(), &watch, sizeof watch, nullptr, 0, base::Deadline::never()))
    give_up("no watch");
  taken.reached();
  taken.go();
  must_put(client, "Y", 1);
  return less.end();
}

// A change was made and nobody was told yet when another one asks to hear of the next.
INTERLEAVING(order, who_asks_while_another_ones_change_is_due_is_not_taken_with_it, store_of(64), "daemon.due_before_new") {
  scene.omit("client.wait_in_slices");
  const Client client(scene.daemon());
  const Client waiting(scene.daemon());
  const uint64_t last = must_put_as(client, "X");
  Actor writer;
  Waiter first(scene, waiting);
  Waiter second(scene, waiting);
  scene.leave_out();
  wait_asleep(scene, first, last, last);
  Stop answered = scene.daemon_at("daemon.result.after");
  writer.begin([&] { must_put(client, "Y", 1); });
  answered.reached();
  Stop posted = scene.daemon_at("daemon.watch.posted");
  second.begin(last + 1);
  posted.reached();
  posted.go();
  second.await_asleep(last + 1);
  Stop woken = scene.at("client.wait_before_sleep", second.tid());
  answered.go();
  writer.end();
  if (first.end() != nullptr) return "a wake-up was lost, and not the one that this is about";
  woken.reached();  // too soon, and goes to sleep again
  woken.go();
  second.await_asleep(last + 1);
  must_put(client, "Z", 1);
  return second.end();
}

INTERLEAVING(order, who_goes_to_sleep_says_what_he_saw, store_of(64), "client.wait_with_what_was_seen") {
  scene.omit("client.wait_in_slices");
  const Client client(scene.daemon());
  const Client waiting(scene.daemon());
  const uint64_t last = must_put_as(client, "X");
  Waiter waiter(scene, waiting);
  scene.leave_out();
  Stop taken = scene.daemon_at("daemon.watch.taken");
  Stop before_sleep = scene.at("client.wait_before_sleep", waiter.tid());
  waiter.begin(last);
  taken.reached();
  taken.go();
  before_sleep.reached();
  must_put(client, "Y", 1);
  two_rounds(client);  // it was woken, while it did not sleep
  before_sleep.go();
  return waiter.end();
}

// ---- Changes and another daemon -----------------------------------------------------------------------------------------------

INTERLEAVING(order, a_dead_daemons_feed_does_not_say_that_nothing_changed, store_of(64), "client.generation_after_changes") {
  const Client client(scene.daemon());
  const uint64_t last = must_put_as(client, "X");
  warm_change changes[4];
  char ids[WARM_ID_BYTES_MAX];
  size_t count = 0;
  scene.daemon().restart();  // not a stop in order: its page would say so
  const Client other(scene.daemon());
  must_put(other, "Y", 1);
  scene.leave_out();
  const int code = warm_changes(client, last, sizeof changes[0], changes, 4, ids, sizeof ids, &count);
  if (code != WARM_OK && code != WARM_E_GONE) give_up(std::string("changes: ") + warm_last_error());
  return code == WARM_E_GONE || count == 1 ? nullptr : "a change that was acknowledged before was not told of";
}
