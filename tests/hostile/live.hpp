// A daemon, an honest user who puts, gets, attaches and hands in large content, and hostile processes of another user beside it.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <string>
#include <vector>

#include "tests/support/chance.hpp"
#include "tests/support/daemon.hpp"
#include "tests/support/process.hpp"

namespace warmtier::tests::hostile {

// As root: two users that are nobody else's. Else both are this one's, and the promise is the weaker one within a user.
inline constexpr uid_t kHonestUser = 64110;
inline constexpr uid_t kHostileUser = 64111;

// The calling process becomes this user, for good; without root it stays who it is.
bool become(uid_t user);

constexpr uint64_t kHonestKeys = 64;
constexpr size_t kLatenciesKept = 1 << 17;

// How long each call of one kind took, since the last reset.
class Latencies {
 public:
  void add(uint64_t ns) noexcept {
    const uint64_t place = count_.fetch_add(1);
    if (place < kLatenciesKept) ns_[place].store(static_cast<uint32_t>(ns < UINT32_MAX ? ns : UINT32_MAX));
  }
  void reset() noexcept { count_.store(0); }
  [[nodiscard]] std::vector<uint32_t> sorted() const;

 private:
  std::array<std::atomic<uint32_t>, kLatenciesKept> ns_{};
  std::atomic<uint64_t> count_{0};
};

// What the processes share.
struct Ground {
  std::atomic<bool> stop_honest{false};
  std::atomic<bool> stop_hostile{false};
  support::Steps honest_rounds;   // each with everything that an honest user does
  support::Steps hostile_rounds;  // of all hostile processes
  std::atomic<int> wrong{0};      // line of live.cpp at which the honest one was not served, or wrongly
  std::array<std::atomic<uint32_t>, kHonestKeys> acknowledged{};  // the last version of each key that was answered
  Latencies puts;         // the small ones
  Latencies attachments;  // warm_open
};

// One hostile process: goes on until it is told to stop, and counts its rounds. Its return is its exit code: anything but 0 says
// that it could not even begin.
struct Attack {
  const char* name;
  int (*run)(const support::Daemon& daemon, Ground& ground, support::Chance& chance);
};
const std::vector<Attack>& attacks();
const Attack& attack_named(const std::string& name);
// Uses as much of a processor as an attack does, and touches nothing of the daemon's.
int burn(const support::Daemon& daemon, Ground& ground, support::Chance& chance);

// What some time beside an attack was like. Times of the daemon's threads are processor time, in ms for each second.
struct Beside {
  double put_p50_us = 0;
  double put_p99_us = 0;
  double attach_p50_us = 0;
  double attach_p99_us = 0;
  double puts_per_s = 0;
  double store_ms = 0;   // the store thread
  double intake_ms = 0;  // the intake thread
  double others_ms = 0;  // all others of the daemon
};

class Scene {
 public:
  // Apart: the daemon and the honest user have the first half of the processors, hostile processes the other one. What they take
  // away is then what they make the daemon do, and not the processor itself.
  explicit Scene(bool apart = false);
  // The honest user makes `rounds` rounds while `processes` of these attack, and these make some too. Gives the test up when
  // the daemon ends, or when the honest user is wrong or waits longer than his deadline.
  void under(const Attack& attack, uint32_t rounds, unsigned processes = 1);
  // The same for a time that begins when the attack has gone on for some seconds.
  Beside beside(const Attack& attack, uint64_t ns);
  // Everything that was acknowledged is there, and the daemon stops in order.
  void finish();

  [[nodiscard]] support::Daemon& daemon() noexcept { return daemon_; }

 private:
  void check_all_is_well(const char* name);
  void await(support::Steps& steps, uint32_t at_least, const char* name);
  std::vector<support::Process> begin(const Attack& attack, unsigned processes);
  void end(std::vector<support::Process>& hostile, const char* name);

  bool apart_;
  support::Shared<Ground> ground_;
  support::Daemon daemon_;
  support::Process honest_;
  uint64_t seed_ = 1;
};

}  // namespace warmtier::tests::hostile
