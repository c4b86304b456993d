// The index while it doubles, and chains beyond a bucket: docs/protocol.md, "Index". Ids are chosen by their place in the table.
#include "layout/layout.hpp"
#include "tests/interleave/scene.hpp"
#include "tests/support/process.hpp"

using namespace warmtier::tests::interleave;
using namespace warmtier;
using tests::support::Client;
using tests::support::give_up;
using tests::support::stats_of;

TestSuite(index, .timeout = 120);

namespace {

constexpr unsigned kHomesLog2 = layout::kIndexHomesLog2Min;
constexpr uint64_t kHomes = uint64_t{1} << kHomesLog2;

// A doubling that stands still with the given number of homes copied. It goes on by itself once it is let go; whatever was
// published before is carried out while it is under way, for at most 80 homes are copied before the daemon looks at the lanes.
class Doubling {
 public:
  Doubling(Scene& scene, warm_client* client, uint32_t homes)
      : client_(client), before_(stats_of(client).index_doublings), copied_(scene.daemon_at("store.home_copied", homes - 1)) {
    const unsigned early = scene.omit("store.doubling_waits_for_load");
    poker_.begin([this] {
      while (!copied_.is_reached()) remove(client_, "nobody");
    });
    copied_.reached();
    scene.disarm(early);
  }
  void go() { copied_.go(); }
  // All homes are copied, and the new table is the one that readers look at.
  void finish() {
    copied_.go();
    poker_.end();
    while (stats_of(client_).index_doublings == before_) remove(client_, "nobody");
  }

 private:
  warm_client* client_;
  uint64_t before_;
  Stop copied_;
  Actor poker_;
};

// A call is published while the doubling stands still, so that it is carried out in the middle.
void in_the_middle(Scene& scene, Doubling& doubling, std::function<void()> call) {
  Actor writer;
  Stop unlocked = scene.at("client.lane_unlocked", writer.tid());
  writer.begin(std::move(call));
  unlocked.reached();
  unlocked.go();
  doubling.go();
  writer.end();
}

constexpr uint32_t kHalf = kHomes / 2;
constexpr uint64_t kCopied = kHomes / 4;    // a home below the cursor then
constexpr uint64_t kAhead = kHomes * 3 / 4;  // one that it has not come to

std::string id_of_home(const Daemon& daemon, uint64_t home, unsigned nth = 0) {
  return id_at(hash_seed(daemon), home, kHomesLog2, nth);
}

}  // namespace

// ---- Doubling -----------------------------------------------------------------------------------------------------------------

INTERLEAVING(index, a_replace_below_the_cursor_goes_to_both_tables, store_of(64), "store.change_both_tables") {
  const Client client(scene.daemon(), scene.vain_timeout_ms());
  const std::string id = id_of_home(scene.daemon(), kCopied);
  must_put(client, id, 1);
  Doubling doubling(scene, client, kHalf);
  scene.leave_out();
  in_the_middle(scene, doubling, [&] { must_put(client, id, 2); });
  doubling.finish();
  const Seen seen = get(client, id);
  return seen.code == WARM_OK && seen.version == 2 ? nullptr : "a replaced record was lost with the old table";
}

INTERLEAVING(index, an_insert_below_the_cursor_goes_to_both_tables, store_of(64), "store.change_both_tables") {
  const Client client(scene.daemon());
  const std::string id = id_of_home(scene.daemon(), kCopied);
  must_put(client, "X", 1);
  Doubling doubling(scene, client, kHalf);
  scene.leave_out();
  in_the_middle(scene, doubling, [&] { must_put(client, id, 1); });
  doubling.finish();
  return get(client, id).code == WARM_OK ? nullptr : "a new record was lost with the old table";
}

INTERLEAVING(index, a_remove_below_the_cursor_clears_both_tables, store_of(64), "store.remove_from_both_tables") {
  const Client client(scene.daemon(), scene.vain_timeout_ms());
  const std::string id = id_of_home(scene.daemon(), kCopied);
  must_put(client, id, 1);
  Doubling doubling(scene, client, kHalf);
  scene.leave_out();
  in_the_middle(scene, doubling, [&] { must_remove(client, id); });
  doubling.finish();
  return get(client, id).code == WARM_E_NOT_FOUND ? nullptr : "the new table names a record that was removed";
}

// What is inserted ahead of the cursor is copied when the cursor comes there: in both tables at once it would stand in the new
// one twice, and a remove clears one cell.
INTERLEAVING(index, an_insert_ahead_of_the_cursor_goes_to_the_old_table_only, store_of(64), "store.ahead_in_old_table_only") {
  const Client client(scene.daemon(), scene.vain_timeout_ms());
  const std::string id = id_of_home(scene.daemon(), kAhead);
  must_put(client, "X", 1);
  Doubling doubling(scene, client, kHalf);
  scene.leave_out();
  in_the_middle(scene, doubling, [&] { must_put(client, id, 1); });
  scene.hold_again();
  doubling.finish();
  must_remove(client, id);
  return get(client, id).code == WARM_E_NOT_FOUND ? nullptr
                                                  : "a record stood twice in the new table, and its removal cleared one cell";
}

// An answer is given in the middle of a doubling; readers still look at the old table.
INTERLEAVING(index, the_old_table_is_kept_right_until_the_generation_changes, store_of(64), "store.old_table_until_generation") {
  const Client client(scene.daemon());
  const std::string id = id_of_home(scene.daemon(), kCopied);
  must_put(client, "X", 1);
  Doubling doubling(scene, client, kHalf);
  scene.leave_out();
  Actor writer;
  Stop unlocked = scene.at("client.lane_unlocked", writer.tid());
  // Its answer and its number; behind the one that the daemon may have had in hand already.
  Stop cell_stored = scene.daemon_at("store.cell_stored");
  writer.begin([&] { must_put(client, id, 1); });
  unlocked.reached();
  unlocked.go();
  doubling.go();
  cell_stored.reached();
  Stop answered = scene.daemon_at("daemon.done.after");
  cell_stored.go();
  answered.reached();
  writer.end();
  const Seen seen = get(client, id);
  answered.go();
  doubling.finish();
  return seen.code == WARM_OK ? nullptr : "a put was acknowledged and its record not found";
}

INTERLEAVING(index, the_generation_changes_only_after_all_homes_are_copied, store_of(64), "store.all_homes_copied_first") {
  const Client client(scene.daemon());
  const std::string id = id_of_home(scene.daemon(), kAhead);
  must_put(client, id, 1);
  scene.leave_out();
  Doubling doubling(scene, client, 1);
  doubling.finish();
  return get(client, id).code == WARM_OK ? nullptr : "a record was lost whose home was not copied yet";
}

// ---- Chains -------------------------------------------------------------------------------------------------------------------

namespace {

// More records of one home than a bucket holds, also in a table of twice the size. The last two lie at distance 1.
std::vector<std::string> chain_of(const Daemon& daemon, unsigned n) {
  std::vector<std::string> ids;
  const uint64_t seed = hash_seed(daemon);
  for (unsigned i = 0; i < n; ++i) ids.push_back(id_at(seed, 2 * kCopied, kHomesLog2 + 1, i));
  return ids;
}

}  // namespace

INTERLEAVING(index, the_bit_of_a_distance_is_set_before_its_first_entry_counts, store_of(64), "store.bit_set_first") {
  const Client client(scene.daemon());
  const std::vector<std::string> ids = chain_of(scene.daemon(), layout::kIndexCells + 1);
  scene.leave_out();
  for (const std::string& id : ids) must_put(client, id, 1);
  return get(client, ids.back()).code == WARM_OK ? nullptr : "a put was acknowledged and its record not found";
}

INTERLEAVING(index, the_bit_of_a_distance_is_cleared_only_with_its_last_entry, store_of(64), "store.bit_cleared_last") {
  const Client client(scene.daemon());
  const std::vector<std::string> ids = chain_of(scene.daemon(), layout::kIndexCells + 2);
  for (const std::string& id : ids) must_put(client, id, 1);
  scene.leave_out();
  must_remove(client, ids[layout::kIndexCells]);
  return get(client, ids.back()).code == WARM_OK ? nullptr : "a record was lost with its neighbour";
}

INTERLEAVING(index, the_bit_of_a_distance_is_copied_with_its_home, store_of(64), "store.bit_set_first") {
  const Client client(scene.daemon());
  const std::vector<std::string> ids = chain_of(scene.daemon(), layout::kIndexCells + 1);
  for (const std::string& id : ids) must_put(client, id, 1);
  scene.leave_out();
  Doubling doubling(scene, client, 1);
  doubling.finish();
  return get(client, ids.back()).code == WARM_OK ? nullptr : "a record was lost when its home was copied";
}

// The reader has passed the first cell, which is empty; the record lies in the second.
INTERLEAVING(index, an_id_never_changes_its_cell, store_of(64), "store.id_keeps_its_cell") {
  const Client client(scene.daemon());
  const std::vector<std::string> ids = chain_of(scene.daemon(), 2);
  must_put(client, ids[0], 1);
  must_put(client, ids[1], 1);
  must_remove(client, ids[0]);
  Actor reader;
  Seen seen;
  scene.leave_out();
  Stop second_cell = scene.at("client.get_next_cell", reader.tid(), 1);
  reader.begin([&] { seen = get(client, ids[1]); });
  second_cell.reached();
  must_put(client, ids[1], 2);
  second_cell.go();
  reader.end();
  return seen.code == WARM_OK ? nullptr : "a record that was there all the time was not found";
}
