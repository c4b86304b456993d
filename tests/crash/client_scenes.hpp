// What the clients' deaths are played in: a victim that dies at a point of the library, the next process that comes to the same
// lane, and a bystander in another one. A scene finds what is wrong by `require`: it is played in a fork of its own.
#pragma once

#include <span>
#include <string>

#include "tests/support/daemon.hpp"
#include "tests/support/records.hpp"

namespace warmtier::tests::crash {

// The ways on which a client comes to its points.
struct ClientWay {
  const char* name;
  // In the victim, its client open. Ends when the point is not on the way.
  int (*victim)(support::Steps& restarted, warm_client* client);
  bool needs_death_in_claim = false;  // an earlier victim died holding the lane
  bool needs_busy_lanes = false;      // a living process holds every lane
  bool needs_lost_lane = false;       // the lane's mutex belongs to a thread that is gone and was not reported
  bool needs_restart = false;         // the daemon is killed and started under the victim
};
std::span<const ClientWay> client_ways();

struct ClientDeath {
  bool came = false;      // the victim came to the point
  unsigned claims = 0;    // it died inside a claim
  unsigned pinned = 0;    // it died with a pin
  uint64_t next_ns = 0;   // the next process, from its start to its last answer
};
// Kills a victim at the point on this way and judges everything after.
ClientDeath kill_client_at(const std::string& point, const ClientWay& way);

// The puts, gets and the rest that a victim does, for a test that looks at the points on their way: 0, or what was wrong.
constexpr support::Shape kVictimShape{.dimensions = 16, .content_bytes_max = 600};
constexpr uint64_t kVictimKey = 1'000;
int work(warm_client* client);

}  // namespace warmtier::tests::crash
