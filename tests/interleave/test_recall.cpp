// A recall while records change under it: docs/protocol.md, "Recall". X lies in slot 1, behind slot 0, which is free again; a
// replace of X takes slot 0. A recall that has passed slot 0 and not slot 1 is where everything can go wrong.
#include <cstring>
#include <vector>

#include "tests/interleave/scene.hpp"
#include "tests/support/process.hpp"

using namespace warmtier::tests::interleave;
using warmtier::tests::support::Client;

TestSuite(recall, .timeout = 120);

namespace {

struct Recalled {
  int code = WARM_OK;
  size_t count = 0;
  uint32_t version = 0;  // of the first hit
  bool partial = false;
};

// Everything there is: all records are as good as each other.
Recalled recall(warm_client* client) {
  const std::vector<float> zeros(kDimensions, 0.0f);
  warm_query query = WARM_QUERY_INIT;
  query.embedding = zeros.data();
  query.dimensions = kDimensions;
  query.limit = 4;
  std::vector<warm_hit> hits(query.limit);
  warm_recall_info info = WARM_RECALL_INFO_INIT;
  Recalled seen;
  seen.code = warm_recall(client, &query, hits.data(), &seen.count, &info);
  if (seen.code != WARM_OK) return seen;
  if (seen.count > 0) seen.version = look(hits[0].view).version;
  seen.partial = info.partial != 0;
  warm_hits_release(client, hits.data(), seen.count);
  return seen;
}

// X in slot 1, slot 0 free.
void prepare(warm_client* client) {
  must_put(client, "Y", 1);
  must_put(client, "X", 1);
  must_remove(client, "Y");
}

}  // namespace

// ---- The feed -----------------------------------------------------------------------------------------------------------------

INTERLEAVING(recall, a_record_that_moves_behind_the_scan_is_found, store_of(2), "client.recall_reads_feed") {
  const Client client(scene.daemon());
  prepare(client);
  Actor reader;
  Recalled seen;
  scene.leave_out();
  Stop between = scene.at("client.recall_next_line", reader.tid(), 1);
  reader.begin([&] { seen = recall(client); });
  between.reached();  // slot 0 was looked at
  must_put(client, "X", 2);
  between.go();
  reader.end();
  if (seen.code != WARM_OK) return "the recall failed";
  return seen.count == 1 && seen.version == 2 ? nullptr : "a record that was there all the time was not recalled";
}

INTERLEAVING(recall, a_slot_that_a_recall_finds_dead_has_its_successor_in_the_feed, store_of(2), "store.feed_before_death") {
  const Client client(scene.daemon(), scene.vain_timeout_ms());
  const Client writer_client(scene.daemon());
  prepare(client);
  Actor reader;
  Actor writer;
  Recalled seen;
  Stop between = scene.at("client.recall_next_line", reader.tid(), 1);
  reader.begin([&] { seen = recall(client); });
  between.reached();
  scene.leave_out();
  Stop dead = scene.daemon_at("store.dead_stored");
  writer.begin([&] { must_put(writer_client, "X", 2); });
  dead.reached();  // slot 1 is dead, and this is all that the daemon did until the recall is over
  between.go();
  reader.end();
  dead.go();
  writer.end();
  if (seen.code != WARM_OK) return "the recall failed";
  return seen.count == 1 ? nullptr : "a record that was there all the time was not recalled: the feed did not name it yet";
}

// Killed between cell and feed; the next one has set the death, and its generation has not come.
INTERLEAVING(recall, a_death_that_a_recovery_stored_is_in_no_feed, store_of(2), "client.recall_deaths_are_in_feed") {
  const Client client(scene.daemon());
  const Client writer_client(scene.daemon());
  prepare(client);
  Actor reader;
  Actor writer;
  Recalled seen;
  Stop between = scene.at("client.recall_next_line", reader.tid(), 1);
  reader.begin([&] { seen = recall(client); });
  between.reached();  // slot 0 was looked at
  Stop killed = scene.daemon_at("store.cell_stored");
  writer.begin([&] { must_put(writer_client, "X", 2); });
  killed.reached();
  scene.daemon().kill();
  killed.go();
  Stop recovered = scene.anyone_at("store.generation_before");
  scene.daemon().start_without_waiting();
  recovered.reached();
  scene.leave_out();
  if (scene.without()) {
    between.go();
    reader.end();
    recovered.go();
  } else {
    Stop again = scene.at("client.recall_begun", reader.tid());
    between.go();
    again.reached();
    recovered.go();
    again.go();
    reader.end();
  }
  writer.end();
  if (seen.code != WARM_OK) return "the recall failed";
  return seen.count == 1 ? nullptr : "a record that was there all the time was not recalled: a recovery had set its death";
}

INTERLEAVING(recall, a_named_slot_that_was_used_again_makes_the_feed_be_read_on, store_of(2), "client.recall_follows_tenants") {
  const Client client(scene.daemon());
  prepare(client);
  Actor reader;
  Recalled seen;
  scene.leave_out();
  Stop between = scene.at("client.recall_next_line", reader.tid(), 1);
  Stop followed = scene.at("client.recall_feed_followed", reader.tid());
  reader.begin([&] { seen = recall(client); });
  between.reached();
  must_put(client, "X", 2);  // into slot 0, which was looked at
  between.go();
  followed.reached();  // slot 0 is named, and not scored yet
  must_put(client, "X", 3);  // into slot 1
  must_put(client, "Z", 1);  // into slot 0
  followed.go();
  reader.end();
  if (seen.code != WARM_OK) return "the recall failed";
  return seen.count == 2 ? nullptr : "a record that was there all the time was not recalled: its slot was another's";
}

INTERLEAVING(recall, a_candidate_that_dies_after_the_feed_was_read_is_looked_up, store_of(8), "client.recall_follows_deaths") {
  const Client client(scene.daemon());
  must_put(client, "X", 1);
  Actor reader;
  Recalled seen;
  scene.leave_out();
  Stop followed = scene.at("client.recall_feed_followed", reader.tid());
  reader.begin([&] { seen = recall(client); });
  followed.reached();
  must_put(client, "X", 2);
  followed.go();
  reader.end();
  if (seen.code != WARM_OK) return "the recall failed";
  return seen.count == 1 && seen.version == 2 ? nullptr : "a record that was there all the time was not recalled";
}

// ---- The generation -----------------------------------------------------------------------------------------------------------

INTERLEAVING(recall, the_feed_of_a_dead_daemon_does_not_count, store_of(4), "client.recall_generation_after_scan") {
  const Client client(scene.daemon());
  const Client writer(scene.daemon());
  // X in slot 2, slot 1 free and marked so: the next daemon may use it at once.
  must_put(client, "Y", 1);
  must_put(client, "Y'", 1);
  must_put(client, "X", 1);
  must_put(client, "Z", 1);
  must_remove(client, "Y");
  must_remove(client, "Y'");
  must_put(client, "W", 1);  // in slot 0, after both were found unused
  Actor reader;
  Recalled seen;
  scene.leave_out();
  Stop between = scene.at("client.recall_next_line", reader.tid(), 2);
  reader.begin([&] { seen = recall(client); });
  between.reached();  // slot 1 was looked at
  scene.daemon().restart();
  must_put(writer, "X", 2);
  between.go();
  reader.end();
  if (seen.code != WARM_OK) return "the recall failed";
  return seen.count == 3 ? nullptr : "a record that was there all the time was not recalled";
}

// ---- What the index names -----------------------------------------------------------------------------------------------------

INTERLEAVING(recall, nobody_recalls_a_record_before_its_cell_names_it, store_of(2), "client.recall_asks_index") {
  const Client client(scene.daemon());
  const Client other(scene.daemon());
  prepare(client);
  Actor writer;
  scene.leave_out();
  Stop stored = scene.daemon_at("store.put_stored");
  writer.begin([&] { must_put(other, "X", 2); });
  stored.reached();  // its line is whole, its cell is not stored
  const Recalled seen = recall(client);
  const Seen now = get(client, "X");
  stored.go();
  writer.end();
  if (seen.code != WARM_OK) return "the recall failed";
  return seen.version <= now.version ? nullptr : "a recall showed a new record, and a get the old one after it";
}

INTERLEAVING(recall, an_id_is_recalled_once_while_two_lines_of_it_live, store_of(2), "client.recall_takes_once") {
  const Client client(scene.daemon());
  const Client other(scene.daemon());
  prepare(client);
  Actor writer;
  scene.leave_out();
  Stop named = scene.daemon_at("store.feed_stored");
  writer.begin([&] { must_put(other, "X", 2); });
  named.reached();  // the old line's death is not stored
  const Recalled seen = recall(client);
  named.go();
  writer.end();
  if (seen.code != WARM_OK) return "the recall failed";
  return seen.count == 1 && seen.version == 2 ? nullptr : "one id was recalled twice";
}

// It is replaced once more between the looks at its two lines: they name records with different puts.
INTERLEAVING(recall, an_id_is_recalled_once_though_it_is_replaced_between_two_looks, store_of(4), "client.recall_takes_once") {
  const Client client(scene.daemon());
  const Client other(scene.daemon());
  must_put(client, "X", 1);
  Actor writer;
  Actor reader;
  Recalled seen;
  scene.leave_out();
  Stop named = scene.daemon_at("store.feed_stored");
  Stop second = scene.at("client.recall_before_id", reader.tid(), 1);
  writer.begin([&] { must_put(other, "X", 2); });
  named.reached();  // the old line's death is not stored
  reader.begin([&] { seen = recall(client); });
  second.reached();
  named.go();
  writer.end();
  must_put(other, "X", 3);
  second.go();
  reader.end();
  if (seen.code != WARM_OK) return "the recall failed";
  return seen.count == 1 ? nullptr : "one id was recalled twice";
}
