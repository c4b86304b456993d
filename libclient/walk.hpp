// Walking the index. An id never changes its cell while it is present, and a home is a range of hashes: so a cursor is a place in
// the order (hash, id). It outlives doublings and daemons, and each id comes at most once.
//
// A call takes whole homes, in whatever order their cells have, as long as there is room for all of their entries; where there
// is not, or a record is damaged, the entries of that one home are put in order, and the next call goes on behind the last one.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "base/error.hpp"
#include "libclient/client.hpp"
#include "libclient/filter.hpp"
#include "warmtier/warmtier.h"

namespace warmtier::libclient {

// Thread law: one thread at a time.
class Cursor {
 public:
  Cursor(Client& client, ClientState& state, Filter filter);
  ~Cursor();
  Cursor(const Cursor&) = delete;
  Cursor& operator=(const Cursor&) = delete;

  [[nodiscard]] ClientState& client_state() { return client_.state(); }
  // How many; 0: the end. WARM_E_CORRUPT: a damaged record, behind which the cursor stands now. WARM_E_STALE in a child of a
  // fork.
  base::Result<size_t> next(uint32_t flags, warm_view* ret_views, size_t views);
  base::Result<size_t> next_items(warm_item* ret_items, size_t items);
  // All that are left.
  base::Result<uint64_t> count();

  // What comes next: the first entry that is not before (hash, id), and behind that id, or behind what is damaged at that hash.
  struct Position {
    uint64_t hash = 0;
    std::string id;  // empty: nothing of this hash was seen; no id is empty
    bool damage_seen = false;
    bool ended = false;
  };
  struct Entry {
    const uint64_t* cell;
    uint64_t home;
    uint64_t key;
    uint32_t slot;  // that it named when it was gathered
  };

 private:
  template <typename Sink>
  friend class Walk;
  [[nodiscard]] base::Result<ClientState*> state();

  Client& client_;
  const uint64_t state_id_;
  Filter filter_;
  Position position_;
  std::vector<Entry> entries_;
  std::vector<char> ids_;  // of the items of the last call
};

base::Result<uint64_t> count_records(Client& client, Filter filter);

}  // namespace warmtier::libclient
