// A client is killed at every failpoint of the library, with SIGKILL. The next process goes on before its deadline, the daemon
// counts what was repaired and voided, nothing half written is carried out, and a process in another lane never notices.
//
// Points are found in the sources: one that is added is tested here, and fails when no scenario comes to it. A victim is paused
// at the point first, so that its channel and session can be looked at as they will outlive it.
#include <criterion/criterion.h>

#include <string>
#include <vector>

#include "tests/crash/client_scenes.hpp"
#include "tests/support/records.hpp"
#include "tests/support/regions.hpp"

using namespace warmtier::tests::support;
using namespace warmtier::tests::crash;
namespace base = warmtier::base;

namespace {

constexpr int kNotHit = 77;

struct Board {
  Steps go;
  Steps attached;
};

}  // namespace

TestSuite(client_kills, .timeout = 900);

Test(client_kills, at_every_point_the_next_process_goes_on_and_nothing_half_written_is_carried_out,
     .disabled = !failpoints_built()) {
  const std::vector<std::string> points = failpoint_names("libclient");
  cr_assert_geq(points.size(), 15, "the sources have %zu failpoints only", points.size());
  Shared<std::atomic<unsigned>> claims;
  Shared<std::atomic<unsigned>> pinned;
  for (const std::string& point : points) {
    bool hit = false;
    for (const ClientWay& way : client_ways()) {
      Process scene = Process::fork([&] {
        const ClientDeath death = kill_client_at(point, way);
        claims->fetch_add(death.claims);
        pinned->fetch_add(death.pinned);
        return death.came ? 0 : kNotHit;
      });
      const Process::End end = scene.wait();
      hit = end != exit_code(kNotHit);
      if (!hit) continue;
      cr_expect(end == exit_code(0), "%s (%s): %s", point.c_str(), way.name, text_of(end).c_str());
      break;
    }
    cr_expect(hit, "no scenario comes to %s", point.c_str());
  }
  cr_assert_geq(claims->load(), 8, "points inside a claim: %u", claims->load());
  cr_assert_geq(pinned->load(), 1, "points inside a pin: %u", pinned->load());
}

// Points of reading and of waiting store nothing that outlives the process, or something that the daemon takes back at once.
Test(client_kills, two_neighbouring_points_of_lanes_and_pins_differ_in_a_byte_that_outlives_the_process,
     .disabled = !failpoints_built()) {
  Daemon daemon;
  daemon.start();
  std::vector<std::string> points;
  for (const char* prefix : {"client.lane_", "client.pin_"}) {
    for (std::string& name : failpoint_names("libclient", prefix)) points.push_back(std::move(name));
  }
  cr_assert_leq(points.size(), base::kFailpointRules);
  Shared<Board> board;
  Process victim = Process::fork([&] {
    const Client client(daemon);
    // Everything that one put and one get need anew was met before.
    if (work(client) != 0) return 1;
    board->attached.advance();
    if (!board->go.wait_for(1, base::Deadline::after_ns(kPatienceNs))) return 2;
    if (put_record(client, kVictimShape, kVictimKey, 1) != WARM_OK) return 3;
    return check_record(client, kVictimShape, kVictimKey) == WARM_OK ? 0 : 4;
  });
  board->attached.await(1, "the victim is attached");
  for (unsigned rule = 0; rule < points.size(); ++rule)
    daemon.failpoints().arm(rule, points[rule], FailpointAction::pause, 0, victim.pid());
  board->go.advance();
  std::vector<uint32_t> seen(points.size(), 0);
  std::string last_point = "the start";
  uint64_t last_hash = 0;
  unsigned steps = 0;
  for (;;) {
    const int rule = daemon.failpoints().await_any(seen, victim);
    if (rule < 0) break;
    const std::string& point = points[static_cast<size_t>(rule)];
    const uint64_t hash = picture_of(victim.pid()).hash;
    cr_expect_neq(hash, last_hash, "%s and %s leave the same bytes behind", last_point.c_str(), point.c_str());
    last_point = point;
    last_hash = hash;
    ++steps;
    daemon.failpoints().release(static_cast<unsigned>(rule));
  }
  cr_assert(victim.wait() == exit_code(0));
  cr_assert_geq(steps, 10, "one put and one get pass %u points", steps);
}
