// What a get must look at twice: docs/protocol.md, "Reading". X is the record that is read; v1, v2, v3 its versions in order. A
// store of two slots makes the slot that X has left the very next one that is used.
#include "tests/interleave/scene.hpp"
#include "tests/support/process.hpp"

using namespace warmtier::tests::interleave;
using warmtier::tests::support::Client;

TestSuite(reading, .timeout = 120);

// ---- A line that is not live says nothing about the id ------------------------------------------------------------------------

INTERLEAVING(reading, a_dead_line_behind_an_old_cell_is_no_absence, store_of(2), "client.dead_is_not_absent") {
  const Client client(scene.daemon());
  must_put(client, "X", 1);
  Actor reader;
  Seen seen;
  scene.leave_out();
  Stop cell_loaded = scene.at("client.get_cell_loaded", reader.tid());
  reader.begin([&] { seen = get(client, "X"); });
  cell_loaded.reached();
  must_put(client, "X", 2);  // the slot that the reader is about to look at is dead now
  cell_loaded.go();
  reader.end();
  return seen.code == WARM_OK ? nullptr : "a record that was there all the time was not found";
}

INTERLEAVING(reading, a_slot_that_went_away_and_came_back_is_read_again, store_of(2), "client.put_and_dead_again") {
  const Client client(scene.daemon());
  must_put(client, "X", 1);
  Actor reader;
  Seen seen;
  scene.leave_out();
  Stop put_loaded = scene.at("client.get_put_loaded", reader.tid());
  reader.begin([&] { seen = get(client, "X"); });
  put_loaded.reached();  // the put of v1
  must_put(client, "X", 2);
  must_put(client, "Y", 1);  // where v1 was
  must_remove(client, "Y");
  must_put(client, "X", 3);  // there again: the cell is what it was
  put_loaded.go();  // the death of Y beside the put of v1
  reader.end();
  return seen.code == WARM_OK ? nullptr : "a record was called corrupt because two words of different tenants were read";
}

// ---- Another id counts only if nothing moved ----------------------------------------------------------------------------------

INTERLEAVING(reading, another_id_in_a_slot_that_was_used_again_is_no_absence, store_of(2), "client.negative_only_if_unmoved") {
  const Client client(scene.daemon());
  must_put(client, "X", 1);
  Actor reader;
  Seen seen;
  scene.leave_out();
  Stop cell_loaded = scene.at("client.get_cell_loaded", reader.tid());
  reader.begin([&] { seen = get(client, "X"); });
  cell_loaded.reached();
  must_put(client, "X", 2);
  must_put(client, "Y", 1);
  cell_loaded.go();
  reader.end();
  return seen.code == WARM_OK ? nullptr : "a record that was there all the time was not found";
}

INTERLEAVING(reading, another_id_counts_only_if_its_line_still_stands, store_of(2), "client.negative_line_again") {
  const Client client(scene.daemon());
  must_put(client, "X", 1);
  Actor reader;
  Seen seen;
  scene.leave_out();
  Stop cell_loaded = scene.at("client.get_cell_loaded", reader.tid());
  Stop record_read = scene.at("client.get_record_read", reader.tid());
  reader.begin([&] { seen = get(client, "X"); });
  cell_loaded.reached();
  must_put(client, "X", 2);
  must_put(client, "Y", 1);
  cell_loaded.go();
  record_read.reached();  // the record of Y
  must_remove(client, "Y");
  must_put(client, "X", 3);  // the cell is what it was
  record_read.go();
  reader.end();
  return seen.code == WARM_OK ? nullptr : "a record that was there all the time was not found";
}

// ---- After the pin ------------------------------------------------------------------------------------------------------------

// The slot's death is stored and its grace has looked at the pins; put is not yet 0. A pin that comes now holds nothing.
INTERLEAVING(reading, a_pin_after_the_scan_finds_the_death, store_of(2), "client.dead_again") {
  const Client client(scene.daemon());
  must_put(client, "X", 1);
  Actor reader;
  Actor writer;
  warm_view it;
  int code = WARM_OK;
  scene.leave_out();
  Stop record_read = scene.at("client.get_record_read", reader.tid());
  Stop before_cell = scene.at("client.get_before_cell_again", reader.tid());
  reader.begin([&] { code = view(client, "X", &it); });
  record_read.reached();
  must_put(client, "X", 2);
  Stop scanned = scene.daemon_at("store.grace_scanned");
  writer.begin([&] { must_put(client, "X", 3); });
  scanned.reached();
  record_read.go();
  before_cell.reached();  // without the rule: of v1; else the reader has begun again, at v2
  scanned.go();
  writer.end();  // v3 stands in the slot and in the cell of v1
  before_cell.go();
  reader.end();
  if (code != WARM_OK) return "a record that was there all the time was not found";
  return look(it).mixed() ? "a view shows the embedding of one version and the content of another" : nullptr;
}

// v3 is on its way into the slot that v1 left, its put stored, its cell not. Whoever comes by an old cell sees it too early.
INTERLEAVING(reading, nobody_sees_a_record_before_its_cell_names_it, store_of(2), "client.cell_again") {
  const Client client(scene.daemon());
  must_put(client, "X", 1);
  Actor reader;
  Actor writer;
  Seen first;
  scene.leave_out();
  Stop cell_loaded = scene.at("client.get_cell_loaded", reader.tid());
  reader.begin([&] { first = get(client, "X"); });
  cell_loaded.reached();
  must_put(client, "X", 2);
  Stop put_stored = scene.daemon_at("store.put_stored");
  writer.begin([&] { must_put(client, "X", 3); });
  put_stored.reached();
  cell_loaded.go();
  reader.end();
  const Seen second = get(client, "X");
  put_stored.go();
  writer.end();
  if (first.code != WARM_OK || second.code != WARM_OK) return "a record that was there all the time was not found";
  return first.version > second.version ? "one reader saw the new record, and the next one after it the old one" : nullptr;
}

// ---- The generation, at the end -----------------------------------------------------------------------------------------------

namespace {

// A larger table takes the old one's place. One doubling, whatever the load.
void double_index(Scene& scene, warm_client* client) {
  const uint64_t before = warmtier::tests::support::stats_of(client).index_doublings;
  Stop copied = scene.daemon_at("store.home_copied");
  const unsigned early = scene.omit("store.doubling_waits_for_load");
  Actor poker;
  poker.begin([&] {
    while (!copied.is_reached()) remove(client, "nobody");
  });
  copied.reached();
  scene.disarm(early);
  copied.go();
  poker.end();
  while (warmtier::tests::support::stats_of(client).index_doublings == before) remove(client, "nobody");
}

const char* miss_across(Scene& scene, void (*change)(Scene&, warm_client*)) {
  const Client client(scene.daemon());
  must_put(client, "X", 1);
  Actor reader;
  Seen seen;
  scene.leave_out();
  Stop begun = scene.at("client.get_begun", reader.tid());
  reader.begin([&] { seen = get(client, "X"); });
  begun.reached();  // the old table in hand
  change(scene, client);
  must_put(client, "X", 2);  // in the new table only
  must_put(client, "Y", 1);  // where the old table says X is
  begun.go();
  reader.end();
  return seen.code == WARM_OK ? nullptr : "a record that was there all the time was not found in a table out of use";
}

const char* hit_across(Scene& scene, void (*change)(Scene&, warm_client*)) {
  const Client client(scene.daemon());
  must_put(client, "X", 1);
  Actor reader;
  Actor writer;
  Seen first;
  scene.leave_out();
  Stop begun = scene.at("client.get_begun", reader.tid());
  reader.begin([&] { first = get(client, "X"); });
  begun.reached();
  change(scene, client);
  must_put(client, "X", 2);
  Stop put_stored = scene.daemon_at("store.put_stored");
  writer.begin([&] { must_put(client, "X", 3); });  // into the slot that the old table names
  put_stored.reached();
  begun.go();
  reader.end();
  const Seen second = get(client, "X");
  put_stored.go();
  writer.end();
  if (first.code != WARM_OK || second.code != WARM_OK) return "a record that was there all the time was not found";
  return first.version > second.version ? "one reader saw the new record, and the next one after it the old one" : nullptr;
}

void restart(Scene& scene, warm_client* client) {
  scene.daemon().restart();
  exists(client, "X");  // attaches anew and hands the pins back
}

}  // namespace

INTERLEAVING(reading, a_miss_in_a_dead_daemons_table_does_not_count, store_of(2), "client.generation_after_miss") {
  return miss_across(scene, restart);
}

INTERLEAVING(reading, a_miss_in_a_table_that_was_doubled_does_not_count, store_of(2), "client.generation_after_miss") {
  return miss_across(scene, double_index);
}

INTERLEAVING(reading, a_hit_in_a_dead_daemons_table_does_not_count, store_of(2), "client.generation_after_hit") {
  return hit_across(scene, restart);
}

INTERLEAVING(reading, a_hit_in_a_table_that_was_doubled_does_not_count, store_of(2), "client.generation_after_hit") {
  return hit_across(scene, double_index);
}

// ---- Pins ---------------------------------------------------------------------------------------------------------------------

INTERLEAVING(reading, a_released_pin_is_cleared_before_its_cell_has_a_new_user, store_of(3), "client.pin_cleared_first") {
  const Client client(scene.daemon());
  must_put(client, "X", 1);
  must_put(client, "Y", 1);
  warm_view first;
  if (view(client, "X", &first) != WARM_OK) return "X was not found";
  Actor stranger;  // releases what another thread has got: the cell goes to the pool, where the next thread finds it
  Actor reader;
  scene.leave_out();
  Stop begun = scene.at("client.release_begun", stranger.tid());
  stranger.begin([&] { warm_release(client, &first); });
  begun.reached();
  warm_view second;
  int code = WARM_OK;
  reader.begin([&] { code = view(client, "Y", &second); });
  reader.end();
  if (code != WARM_OK) return "Y was not found";
  begun.go();
  stranger.end();
  scene.hold_again();
  const Seen before = look(second);
  must_put(client, "Y", 2);
  put(client, "X", 2);  // has no slot but the one that the view holds: the store is full
  const Seen now = look(second);
  return now.embedding == before.embedding ? nullptr : "a view that is held changed: another view's release took its pin away";
}
