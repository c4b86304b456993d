// The daemon is killed at each of its failpoints, with SIGKILL, and started again. Everything it had acknowledged, and nothing
// that nobody asked for, is there: judged against a history that lies outside the store. Clients live on through it.
//
// Points are found in the sources: one that is added is tested here, and fails when no scenario comes to it.
#include <criterion/criterion.h>
#include <signal.h>

#include <fstream>
#include <map>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "tests/crash/daemon_scenes.hpp"

using namespace warmtier::tests::support;
using namespace warmtier::tests::crash;
namespace base = warmtier::base;

namespace {

constexpr int kNotHit = 77;

// By point, the way on which ./dev killtest came to it: it is tried first. A scene that does not come to its point is a long one.
std::map<std::string, std::string> ways_of_last_run() {
  std::ifstream file(source_root() + "/docs/results/kills.json");
  const nlohmann::json report = nlohmann::json::parse(file, nullptr, false);
  std::map<std::string, std::string> ways;
  if (!report.is_object() || !report.contains("points")) return ways;
  for (const auto& point : report["points"]) ways[point.value("point", "")] = point.value("way", "");
  return ways;
}

bool killed_somehow(const std::string& point, const std::string& likely) {
  for (const bool first : {true, false}) {
    for (const DaemonWay& way : daemon_ways()) {
      if ((way.name == likely) == first && way.killed(point, 0)) return true;
    }
  }
  return false;
}

void kill_at_each_of(const std::vector<std::string>& points) {
  std::map<std::string, std::string> likely = ways_of_last_run();
  for (const std::string& point : points) {
    Process scene = Process::fork([&] { return killed_somehow(point, likely[point]) ? 0 : kNotHit; });
    Process::End end;
    cr_assert(scene.wait_until(base::Deadline::after_ns(5 * kPatienceNs), end), "%s: the scene hangs", point.c_str());
    cr_expect(end == exit_code(0), "%s: %s", point.c_str(),
              end == exit_code(kNotHit) ? "no scenario comes to it" : text_of(end).c_str());
  }
}

}  // namespace

TestSuite(daemon_kills, .timeout = 1800);

Test(daemon_kills, at_every_point_of_the_store_nothing_acknowledged_is_lost, .disabled = !failpoints_built()) {
  const std::vector<std::string> points = failpoint_names("daemon/store");
  cr_assert_geq(points.size(), 20);
  kill_at_each_of(points);
}

Test(daemon_kills, at_every_point_of_sessions_and_lanes_nothing_acknowledged_is_lost, .disabled = !failpoints_built()) {
  const std::vector<std::string> points = failpoint_names("daemon/session");
  cr_assert_geq(points.size(), 10);
  kill_at_each_of(points);
}

Test(daemon_kills, a_batch_over_kills_is_answered_once_and_in_order, .disabled = !failpoints_built()) {
  Daemon daemon(small_and_busy());
  daemon.start();
  Shared<Board> board;
  Process batches = Process::fork([&] { return batch_writer(daemon, *board); });
  board->attached.await(1, "the writer attaches");
  const char* const points[] = {"store.intent_stored", "store.put_stored",        "store.cell_stored",    "store.dead_stored",
                                "store.cell_removed",  "daemon.lane.seen",        "daemon.result.before", "daemon.result.after",
                                "daemon.done.after",   "daemon.socket_done.after"};
  uint32_t life = 0;
  for (unsigned pass = 0; pass < 3; ++pass) {
    for (const char* point : points) {
      daemon.failpoints().arm(0, point, FailpointAction::kill, ++life % 53);
      Process::End end;
      cr_assert(daemon.process().wait_until(base::Deadline::after_ns(kPatienceNs), end), "%s: the daemon does not come to it",
                point);
      cr_assert(end == killed_by(SIGKILL), "%s: %s", point, daemon.log().c_str());
      daemon.failpoints().disarm(0);
      daemon.start();
      board->rounds.await(board->rounds.now() + 1, "the batch goes on");
      cr_assert_eq(board->failed.load(), 0, "%s: the writer was wrong at line %d", point, board->failed.load());
    }
  }
  board->stop.store(1);
  cr_assert(batches.wait() == exit_code(0), "the writer was wrong at line %d", board->failed.load());
}

Test(daemon_kills, thirty_kills_at_no_particular_place_lose_nothing) {
  Scene scene;
  scene.begin();
  for (uint32_t life = 0; life < 30; ++life) {
    scene.await_rounds(1 + life * 13 % 57);
    scene.kill();
    scene.start();
  }
  scene.judge("a kill at no particular place");
}
