// What reads without a pin must look at twice: docs/protocol.md, "Reading". X is the record that is read; v1, v2, v3 its
// versions.
#include <algorithm>
#include <vector>

#include "tests/interleave/scene.hpp"

using namespace warmtier::tests::interleave;
using warmtier::tests::support::Client;

TestSuite(walking, .timeout = 120);

namespace {

struct Walked {
  int code = WARM_OK;
  std::vector<std::string> ids;
  [[nodiscard]] size_t times(const std::string& id) const { return static_cast<size_t>(std::count(ids.begin(), ids.end(), id)); }
};

Walked walk(warm_client* client) {
  Walked walked;
  warm_cursor* cursor = nullptr;
  walked.code = warm_cursor_open(client, nullptr, &cursor);
  for (size_t count = 1; walked.code == WARM_OK && count != 0;) {
    warm_item items[64];
    walked.code = warm_cursor_next_items(cursor, sizeof(warm_item), items, 64, &count);
    for (size_t i = 0; walked.code == WARM_OK && i < count; ++i) {
      walked.ids.emplace_back(static_cast<const char*>(items[i].id), items[i].id_bytes);
    }
  }
  if (cursor != nullptr) warm_cursor_close(cursor);
  return walked;
}

}  // namespace

// The cell of X is what it was before and after, but in between its slot was another record's.
INTERLEAVING(walking, a_cell_that_went_away_and_came_back_shows_no_stranger, store_of(2), "client.walk_hash_fits") {
  const Client client(scene.daemon());
  must_put(client, "X", 1);
  Actor walker;
  Walked walked;
  scene.leave_out();
  Stop cell_loaded = scene.at("client.get_cell_loaded", walker.tid());
  Stop before_cell = scene.at("client.get_before_cell_again", walker.tid());
  walker.begin([&] { walked = walk(client); });
  cell_loaded.reached();
  must_put(client, "X", 2);
  must_put(client, "Y", 1);  // where v1 was
  cell_loaded.go();
  before_cell.reached();  // without the rule: with Y in hand; else with v2
  must_remove(client, "Y");
  must_put(client, "X", 3);  // there again
  before_cell.go();
  walker.end();
  if (walked.code != WARM_OK) return "a walk over whole records failed";
  return walked.times("X") == 1 ? nullptr : "a record that was there all the time did not come once";
}

INTERLEAVING(walking, a_walk_in_a_table_out_of_use_does_not_count, store_of(16), "client.generation_after_walk") {
  const Client writer(scene.daemon());
  const Client reader(scene.daemon());
  if (exists(reader, "X") != WARM_E_NOT_FOUND) return "X is there";
  scene.daemon().restart();
  must_put(writer, "X", 1);  // in the new daemon's table only, and before the walk begins
  scene.leave_out();
  const Walked walked = walk(reader);
  if (walked.code != WARM_OK) return "the walk failed";
  return walked.times("X") == 1 ? nullptr : "a record that was there before the walk began did not come";
}

INTERLEAVING(walking, a_copy_is_of_one_record, store_of(2), "client.line_again_after_copy") {
  const Client client(scene.daemon());
  must_put(client, "X", 1);
  Actor reader;
  Seen seen;
  scene.leave_out();
  Stop begun = scene.at("client.copy_begun", reader.tid());
  reader.begin([&] { seen = copy(client, "X"); });
  begun.reached();  // the record of v1 is found
  must_put(client, "X", 2);
  must_put(client, "Y", 7);  // its row is where that of v1 was
  begun.go();
  reader.end();
  if (seen.code != WARM_OK) return "a record that was there all the time was not found";
  return seen.mixed() ? "a copy has the embedding of one record and the content of another" : nullptr;
}

// Between locator and scalars the slot becomes another record's, and before the cell is looked at again it is X's once more.
INTERLEAVING(walking, scalars_are_of_one_record, store_of(2), "client.line_again_without_pin") {
  const Client client(scene.daemon());
  must_put(client, "X", 1);
  Actor reader;
  warm_scalars scalars = WARM_SCALARS_INIT;
  int code = WARM_OK;
  scene.leave_out();
  Stop locator_loaded = scene.at("client.get_locator_loaded", reader.tid());
  Stop record_read = scene.at("client.get_record_read", reader.tid());
  reader.begin([&] { code = warm_scalars_get(client, "X", 1, &scalars); });
  locator_loaded.reached();
  must_put(client, "X", 2);
  must_put(client, "Y", 7);  // its line is where that of v1 was
  locator_loaded.go();
  record_read.reached();
  must_remove(client, "Y");
  must_put(client, "X", 3);  // there again
  record_read.go();
  reader.end();
  if (code != WARM_OK) return "a record that was there all the time was not found";
  return scalars.recall_count == 3 ? nullptr : "scalars of another record were shown";
}

// v2 is on its way: its line is whole, the cell still names v1.
INTERLEAVING(walking, an_id_has_one_row_in_a_chunk, store_of(4), "client.chunk_rows_are_visible") {
  const Client client(scene.daemon());
  must_put(client, "X", 1);
  Actor writer;
  scene.leave_out();
  Stop put_stored = scene.daemon_at("store.put_stored");
  writer.begin([&] { must_put(client, "X", 2); });
  put_stored.reached();
  warm_chunk chunk = WARM_CHUNK_INIT;
  const int code = warm_chunk_open(client, 0, &chunk);
  const uint32_t rows = chunk.live_rows;
  if (code == WARM_OK) warm_chunk_close(client, &chunk);
  put_stored.go();
  writer.end();
  if (code != WARM_OK) return "the chunk was not opened";
  return rows == 1 ? nullptr : "one id has two rows";
}
