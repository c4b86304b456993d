// What changed, in order: docs/protocol.md, "Feed". A feed of 16 entries and 2 KiB of ids comes round after a few changes.
#include <array>
#include <optional>
#include <string>

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
