// The client processes of the demo. Each is run in a fork, opens a client of its own and gives an exit code: 0, or 1 with the
// reason in its row of the board.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "tools/demo_board.hpp"
#include "tools/wordnet.hpp"

namespace warmtier::tools {

struct Stage {
  Board* board = nullptr;
  const std::vector<Gloss>* glosses = nullptr;
  std::string socket;
  int bell = -1;  // eventfd: rung at every milestone
};

// Puts every kWriters-th gloss, beginning with number `writer`.
int run_writer(const Stage& stage, uint32_t writer);
// Gets acknowledged glosses at random and recomputes all of them until `stop`; takes kHeldViews views of the first
// `hold_from` glosses as soon as they are acknowledged and compares them, at every wish, with the copies made then.
int run_reader(const Stage& stage, uint32_t reader, uint64_t hold_from);
// Puts new versions of a few ids in a tight loop, until it is killed.
int run_victim(const Stage& stage);
// Checks that each gloss that was acknowledged by then is there and right; `done` of the helper's row says how many.
int run_checker(const Stage& stage, const Acknowledged& acknowledged);
// Checks what the killed clients left: each of their records is whole, and none older than acknowledged.
int run_victim_checker(const Stage& stage);
// Replaces the glosses under the readers' held views [from, to) by another version.
int run_replacer(const Stage& stage, uint32_t from, uint32_t to);
// Asks for the nearest glosses of each query's text; their ranks and times go to the board.
int run_recall(const Stage& stage);
// The checksum of all glosses as the store has them.
int run_checksum(const Stage& stage);
// Copies the daemon's numbers to the board.
int run_status(const Stage& stage);

}  // namespace warmtier::tools
