// The order of stores in a change, and what recovery owes to one that was begun: docs/protocol.md, "Changing". A daemon that
// stands still between two stores and is then killed is what readers of its last moment see.
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstring>

#include "base/fd.hpp"
#include "layout/layout.hpp"
#include "libclient/handshake.hpp"
#include "tests/interleave/scene.hpp"
#include "tests/support/process.hpp"
#include "tests/support/regions.hpp"

using namespace warmtier::tests::interleave;
using namespace warmtier;
using tests::support::Client;
using tests::support::give_up;
using tests::support::stats_of;

TestSuite(changing, .timeout = 120);

namespace {

// Kills the daemon where it stands.
void kill_at(Scene& scene, Stop& stop) {
  stop.reached();
  scene.daemon().kill();
  stop.go();
}

// What lies in warm.tier, for a test's own eyes.
class Tier {
 public:
  explicit Tier(const Daemon& daemon) : file_(::open((daemon.store() + "/warm.tier").c_str(), O_RDWR | O_CLOEXEC)) {
    if (!file_) give_up("warm.tier cannot be opened");
  }
  [[nodiscard]] layout::SlotLine line(uint32_t slot) const {
    layout::SlotLine line;
    if (::pread(file_.get(), &line, sizeof line, place(slot)) != sizeof line) give_up("warm.tier cannot be read");
    return line;
  }
  void forge(uint32_t slot, const layout::SlotLine& line) {
    if (::pwrite(file_.get(), &line, sizeof line, place(slot)) != sizeof line) give_up("warm.tier cannot be written");
  }
  // The next start believes the device alone, as after a power cut.
  void distrust_page_cache() {
    const uint64_t yes = 1;
    constexpr off_t at = static_cast<off_t>(layout::kControlPageOffset + offsetof(layout::ControlPage, numbers) +
                                            offsetof(layout::NumbersLine, device_recovery));
    if (::pwrite(file_.get(), &yes, sizeof yes, at) != sizeof yes) give_up("warm.tier cannot be written");
  }

 private:
  static off_t place(uint32_t slot) { return static_cast<off_t>(layout::Geometry::of(kDimensions, 1024).line_offset(slot)); }
  base::Fd file_;
};

// A reader of the feed of the test's own: a session that attaches, and maps what it was handed.
class Feed {
 public:
  explicit Feed(const Daemon& daemon) {
    auto greeting = libclient::greet(daemon.socket(), std::nullopt, base::Deadline::after_ns(tests::support::kPatienceNs));
    if (!greeting) give_up("no greeting: " + greeting.error().text);
    greeting_ = std::move(*greeting);
    layout::FeedHeader header;
    if (::pread(greeting_.feed.get(), &header, sizeof header, 0) != sizeof header) give_up("the feed has no header");
    log2_ = header.entries_log2;
    bytes_ = layout::feed_bytes(log2_, header.ids_log2);
    void* map = ::mmap(nullptr, bytes_, PROT_READ, MAP_SHARED, greeting_.feed.get(), 0);
    if (map == MAP_FAILED) give_up("the feed cannot be mapped");
    map_ = static_cast<const std::byte*>(map);
  }
  ~Feed() { ::munmap(const_cast<std::byte*>(map_), bytes_); }
  Feed(const Feed&) = delete;
  Feed& operator=(const Feed&) = delete;
  // The position of the next change.
  [[nodiscard]] uint64_t head() const { return layout::load_acquire(reinterpret_cast<const layout::FeedHeader*>(map_)->head); }
  // Whether the entry at this position is there, whatever the header says of it.
  [[nodiscard]] bool holds(uint64_t position, uint64_t ret_sequence_at_least) const {
    const auto* entries = reinterpret_cast<const layout::FeedEntry*>(map_ + sizeof(layout::FeedHeader));
    const layout::FeedEntry entry = layout::load_entry(entries[position & ((uint64_t{1} << log2_) - 1)]);
    return entry.place >> 32 == (position & 0xFFFF'FFFFU) && layout::sequence_of(entry.change) >= ret_sequence_at_least;
  }

 private:
  libclient::Greeting greeting_;
  uint32_t log2_ = 0;
  uint64_t bytes_ = 0;
  const std::byte* map_ = nullptr;
};

}  // namespace

// ---- Cell before death --------------------------------------------------------------------------------------------------------

INTERLEAVING(changing, a_killed_daemon_leaves_no_reader_spinning, store_of(8), "store.cell_before_death") {
  const Client client(scene.daemon());
  const Client reader(scene.daemon(), scene.vain_timeout_ms());
  must_put(client, "X", 1);
  Actor writer;
  scene.leave_out();
  // Between the two stores, whichever comes first.
  Stop between = scene.daemon_at(scene.without() ? "store.dead_stored_early" : "store.feed_stored");
  writer.begin([&] { put(client, "X", 2); });
  kill_at(scene, between);
  const Seen seen = get(reader, "X");  // nobody is there to finish the change
  scene.daemon().start();
  writer.end();
  return seen.code == WARM_OK ? nullptr
                              : "a reader found a dead line behind a cell that a killed daemon left, and waited in vain";
}

// ---- Feed before death --------------------------------------------------------------------------------------------------------

namespace {

// Recall's law: from S0 on, a slot that it finds dead is named by the feed.
const char* death_without_word(Scene& scene, bool replace) {
  const Client client(scene.daemon());
  must_put(client, "X", 1);  // in slot 0
  const Feed feed(scene.daemon());
  const Tier tier(scene.daemon());
  const uint64_t from = feed.head();
  Actor writer;
  scene.leave_out();
  Stop dead = scene.daemon_at("store.dead_stored");
  writer.begin([&] { replace ? must_put(client, "X", 2) : must_remove(client, "X"); });
  dead.reached();
  const layout::SlotLine line = tier.line(0);
  if (layout::live(line.put, line.dead)) give_up("slot 0 does not hold what was replaced");
  const bool named = feed.holds(from, layout::sequence_of(line.dead));
  dead.go();
  writer.end();
  return named ? nullptr : "a slot was dead and the feed did not say so yet";
}

}  // namespace

INTERLEAVING(changing, the_feed_names_a_replace_before_the_old_slot_dies, store_of(8), "store.feed_before_death") {
  return death_without_word(scene, true);
}

INTERLEAVING(changing, the_feed_names_a_remove_before_the_slot_dies, store_of(8), "store.feed_before_death") {
  return death_without_word(scene, false);
}

// ---- What recovery finishes ---------------------------------------------------------------------------------------------------

// The intent stands, nothing of the line is stored; what it says is what was answered and what is there.
INTERLEAVING(changing, an_update_once_begun_is_redone_by_the_next_daemon, store_of(64), "store.update_is_redone") {
  const Client client(scene.daemon());
  must_put(client, "X", 1);
  Actor writer;
  int code = WARM_OK;
  scene.leave_out();
  Stop intended = scene.daemon_at("store.intent_stored");
  writer.begin([&] { code = set_scalars(client, "X", 2); });
  intended.reached();
  scene.daemon().kill();
  intended.go();
  scene.daemon().start();
  writer.end();
  if (code != WARM_OK) return "an update was not answered";
  warm_view seen;
  if (view(client, "X", &seen) != WARM_OK) return "the record is gone";
  const bool whole = seen.recall_count == 2 && seen.confidence == 2 && seen.last_access_ns == 2;
  warm_release(client, &seen);
  return whole ? nullptr : "an update was acknowledged and is not there";
}

// ---- Scalars are of one moment ------------------------------------------------------------------------------------------------

namespace {

const char* half_of_an_update(warm_client* client) {
  warm_view seen;
  if (view(client, "X", &seen) != WARM_OK) return "the record is gone";
  warm_release(client, &seen);
  return seen.confidence == static_cast<float>(seen.recall_count) ? nullptr : "half of an update was seen";
}

}  // namespace

INTERLEAVING(changing, an_update_is_stored_as_a_whole, store_of(64), "store.quad_in_one_store") {
  const Client client(scene.daemon());
  must_put(client, "X", 1);
  if (set_scalars(client, "X", 2) != WARM_OK) return "an update was not answered";
  Actor writer;
  scene.leave_out();
  Stop between = scene.daemon_at(scene.without() ? "store.update_half_stored" : "store.intent_stored");
  writer.begin([&] { set_scalars(client, "X", 3); });
  between.reached();
  const char* seen = half_of_an_update(client);
  between.go();
  writer.end();
  return seen != nullptr ? seen : half_of_an_update(client);
}

INTERLEAVING(changing, an_update_is_read_as_a_whole, store_of(64), "client.quad_in_one_load") {
  const Client client(scene.daemon());
  must_put(client, "X", 1);
  if (set_scalars(client, "X", 2) != WARM_OK) return "an update was not answered";
  Actor reader;
  const char* seen = nullptr;
  scene.leave_out();
  Stop between = scene.at(scene.without() ? "client.get_half_quad_loaded" : "client.get_locator_loaded", reader.tid());
  reader.begin([&] { seen = half_of_an_update(client); });
  between.reached();
  if (set_scalars(client, "X", 3) != WARM_OK) give_up("an update was not answered");
  between.go();
  reader.end();
  return seen;
}

INTERLEAVING(changing, a_remove_once_begun_is_finished_by_the_next_daemon, store_of(8), "store.remove_is_finished") {
  const Client client(scene.daemon());
  must_put(client, "X", 1);
  Actor writer;
  int removed = WARM_OK;
  scene.leave_out();
  Stop cell_removed = scene.daemon_at("store.cell_removed");
  writer.begin([&] { removed = remove(client, "X"); });
  cell_removed.reached();
  const int meanwhile = exists(client, "X");  // the cell is gone, the death is not stored
  scene.daemon().kill();
  cell_removed.go();
  scene.daemon().start();
  writer.end();
  const int afterwards = exists(client, "X");
  if (meanwhile != WARM_E_NOT_FOUND) give_up("the cell was not removed");
  if (removed != WARM_OK) return "the remove was not answered";
  return afterwards == WARM_E_NOT_FOUND ? nullptr : "a record that a reader knew to be removed came back";
}

INTERLEAVING(changing, the_death_of_a_replaced_record_is_finished_by_the_next_daemon, store_of(8), "store.replace_is_finished") {
  const Client client(scene.daemon());
  must_put(client, "X", 1);
  Actor writer;
  scene.leave_out();
  Stop before_death = scene.daemon_at("store.feed_stored");
  writer.begin([&] { must_put(client, "X", 2); });
  kill_at(scene, before_death);
  scene.daemon().start();
  writer.end();
  if (get(client, "X").version != 2) return "a put that was acknowledged is not there";
  return stats_of(client).damaged_records == 0 ? nullptr : "two lines of one id were alive at once";
}

INTERLEAVING(changing, a_line_is_complete_before_its_put, store_of(8), "store.put_last") {
  const Client client(scene.daemon());
  must_put(client, "X", 1);
  Actor writer;
  scene.leave_out();
  // Where the line begins to be filled.
  Stop filling = scene.daemon_at(scene.without() ? "store.put_stored_early" : "store.record_stored");
  writer.begin([&] { put(client, "X", 2); });
  kill_at(scene, filling);
  scene.daemon().start();
  writer.end();
  const Seen seen = get(client, "X");
  if (seen.code != WARM_OK) return "neither the old record nor the new one is there";
  return seen.mixed() ? "a record is a mix of two" : nullptr;
}

// ---- Grace --------------------------------------------------------------------------------------------------------------------

INTERLEAVING(changing, a_slot_that_a_view_pins_is_not_used_again, store_of(2), "store.pinned_slots_are_held") {
  const Client client(scene.daemon());
  must_put(client, "X", 1);
  warm_view held;
  if (view(client, "X", &held) != WARM_OK) return "X was not found";
  scene.leave_out();
  must_put(client, "X", 2);
  const int code = put(client, "X", 3);
  const Seen now = look(held);
  warm_release(client, &held);
  if (now.mixed()) return "a view that is held changed";
  return code == WARM_E_FULL ? nullptr : "a put was carried out without a slot";
}

// The scan has passed low cells and has not come to high ones. Who moves his pin down now is seen in neither.
INTERLEAVING(changing, a_held_view_keeps_its_pin_cell, store_of(3), "test.a_view_moves_to_another_cell") {
  const Client client(scene.daemon());
  must_put(client, "X", 1);
  must_put(client, "Y", 1);
  warm_view low;
  warm_view other;
  warm_view held;
  if (view(client, "Y", &low) != WARM_OK || view(client, "Y", &other) != WARM_OK || view(client, "X", &held) != WARM_OK)
    return "not found";
  warm_release(client, &low);
  must_put(client, "X", 2);
  // No call moves a view's pin. So the test does it by itself, in the session's memory.
  const tests::support::Memory memory(::getpid());
  const auto regions = memory.regions(layout::kSessionMagic);
  if (regions.size() != 1) give_up("this process has not one session");
  auto& session = *reinterpret_cast<layout::SessionRegion*>(regions[0]);
  if (session.pins[0] != 0 || session.pins[1] != 2 || session.pins[2] != 1)
    give_up("the pins are not where this test looks for them");
  Actor writer;
  int code = WARM_OK;
  Stop seen = scene.daemon_at("store.grace_pin_seen");
  writer.begin([&] { code = put(client, "X", 3); });
  seen.reached();  // cell 1; cell 2 comes next
  if (scene.without()) {
    layout::exchange(session.pins[0], 1);
    layout::store_release(session.pins[2], 0);
  }
  seen.go();
  writer.end();
  const Seen now = look(held);
  if (scene.without()) layout::exchange(session.pins[2], 1);
  if (now.mixed()) return "a view that is held changed";
  return code == WARM_E_FULL ? nullptr : "a put was carried out without a slot";
}

// ---- A death names the put that it ends ---------------------------------------------------------------------------------------

// A power cut may leave an old put beside the dead word of a later tenant: pages reach the device when they like.
INTERLEAVING(changing, the_death_of_a_later_tenant_does_not_revive_an_earlier_one, store_of(8), "store.death_names_its_put") {
  scene.leave_out();
  layout::SlotLine alive;
  Tier tier(scene.daemon());
  {
    const Client client(scene.daemon());
    must_put(client, "X", 1);  // in slot 0
    alive = tier.line(0);
    must_put(client, "Y", 1);  // keeps the segment with both records
    must_remove(client, "X");
  }
  scene.daemon().stop();  // X's removal is durable
  const uint64_t checkpoint = layout::sequence_of(tier.line(0).dead);
  // Slot 0 was used again afterwards and its tenant died; of all that only the dead word reached the device.
  alive.dead = layout::dead_word(checkpoint + 2, checkpoint + 1);
  tier.forge(0, alive);
  tier.distrust_page_cache();
  scene.daemon().start();
  const Client client(scene.daemon());
  return exists(client, "X") == WARM_E_NOT_FOUND ? nullptr : "a record whose removal was durable came back";
}
