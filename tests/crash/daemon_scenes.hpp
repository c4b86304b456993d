// What the daemon's deaths are played in: writers with a history that lies outside the store, a daemon that is killed under them
// and started again, and a judge who compares. A scene finds what is wrong by `require`: it is played in a fork of its own.
#pragma once

#include <array>
#include <atomic>
#include <span>
#include <string>
#include <vector>

#include "tests/support/daemon.hpp"
#include "tests/support/records.hpp"

namespace warmtier::tests::crash {

constexpr support::Shape kShape{.dimensions = 16, .content_bytes_max = 600};
constexpr support::Shape kLargeShape{.dimensions = 16, .content_bytes_max = 200'000};
constexpr unsigned kWriters = 3;
constexpr unsigned kKeysPerWriter = 24;

// What one writer asked for and what was acknowledged, per key. One writer a key, one request at a time: so after the answer the
// record is at `acknowledged`, and while `asked` differs it may be at either. Version 0: no record.
struct KeyHistory {
  std::atomic<uint32_t> asked{0};
  std::atomic<uint32_t> acknowledged{0};
  std::atomic<uint32_t> asked_remove{0};  // 1: what is asked for is the removal
};
// One record of each writer whose scalars are set in place, all four to one number; never replaced.
struct UpdateHistory {
  std::atomic<uint32_t> asked{0};
  std::atomic<uint32_t> acknowledged{0};
};
struct Board {
  std::array<UpdateHistory, kWriters> updates;
  std::array<std::array<KeyHistory, kKeysPerWriter>, kWriters> history;
  std::atomic<uint32_t> stop{0};
  std::atomic<bool> all_large{false};  // every content goes by the socket
  support::Steps attached;  // writers: to open a client there must be a daemon, so none is killed before all of them have one
  support::Steps rounds;
  std::array<support::Steps, kWriters> rounds_of;
  std::array<std::atomic<uint32_t>, kWriters> last_version{};
  std::atomic<int> failed{0};  // line of the first thing that was wrong
  std::atomic<uint64_t> unanswered{0};
};

uint64_t key_of(unsigned writer, unsigned i);
const support::Shape& shape_of(const Board& board, unsigned i);

// Bodies of forks: 0, or the board says what was wrong. A writer that takes the place of a killed one first finds out what came
// of the request that was open, which is carried out or never will be: nothing of the dead one's session is left by then.
int writer(const support::Daemon& daemon, Board& board, unsigned me, bool takes_a_place = false);
int batch_writer(const support::Daemon& daemon, Board& board);
int visitor(const support::Daemon& daemon, Board& board);

support::StoreOptions small_and_busy();

class Scene {
 public:
  Scene();

  void begin(bool all_large = false);
  void await_rounds(uint32_t more);
  // True when the daemon dies at the point while the writers do so many requests.
  bool dies_at_work(const std::string& point, uint32_t skip);
  // True when the daemon dies there as it starts.
  bool dies_at_start(const std::string& point);
  void start() { daemon_.start(); }
  void kill() { daemon_.kill(); }
  support::Daemon& daemon() { return daemon_; }
  Board& board() { return *board_; }
  // Ends every client, as they stand.
  void kill_clients();
  // The writers go on over the restart; then everything is compared, as a process that was not there sees it.
  void judge(const std::string& point);

 private:
  support::Daemon daemon_;
  support::Shared<Board> board_;
  std::vector<support::Process> workers_;
};

// Compares the whole history with what is there; `point` is named when something is wrong.
void judge_history(const support::Daemon& daemon, const Board& board, const std::string& point);

// The ways on which a daemon comes to its points. `killed` plays one: false when the daemon did not come to the point on it.
// `round` moves the moment where that is possible.
struct DaemonWay {
  const char* name;
  bool (*killed)(const std::string& point, uint32_t round);
};
std::span<const DaemonWay> daemon_ways();

// Where the longest pause of a writer is noted, from READY of the next daemon to its next answer; nullptr: nowhere.
void note_pauses_in(std::atomic<uint64_t>* longest_ns);

}  // namespace warmtier::tests::crash
