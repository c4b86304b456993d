// What a test of interleavings is made of: a store with a daemon, actors (threads that make one call at a time), and stops at
// which an actor or the daemon stands until the test lets it go on. Nothing here depends on time: every wait is for something
// that the interleaving itself brings about.
//
// Each interleaving is played twice, in two tests. As designed it must hold; with its rule left out (base/failpoint.hpp) the very
// same interleaving must show the violation that the rule closes, else the test proves nothing.
#pragma once

#include <criterion/criterion.h>

#include <condition_variable>
#include <functional>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <thread>
#include <utility>

#include "tests/support/daemon.hpp"
#include "tests/support/failpoints.hpp"

namespace warmtier::tests::interleave {

using support::Daemon;
using support::Failpoints;
using support::StoreOptions;

constexpr uint32_t kDimensions = 16;

// Few slots: a dead one is used again by the very next put that needs one, after a checkpoint and grace.
StoreOptions store_of(uint64_t slots);

class Actor {
 public:
  Actor();
  ~Actor();  // ends the call in progress; who left it at a stop has let it go
  Actor(const Actor&) = delete;
  Actor& operator=(const Actor&) = delete;
  [[nodiscard]] pid_t tid() const noexcept { return tid_; }
  void begin(std::function<void()> call);
  void end();  // gives the test up at a deadline

 private:
  void run();
  std::mutex mutex_;
  std::condition_variable changed_;
  std::function<void()> call_;
  bool busy_ = false;
  bool over_ = false;
  pid_t tid_ = 0;
  std::thread thread_;
};

// A point at which the first that comes (of this owner, after so many) stands still; who comes later does not.
class Stop {
 public:
  Stop(Failpoints& failpoints, unsigned rule, const char* point, pid_t owner, uint32_t skip);
  ~Stop() { go(); }
  Stop(Stop&& other) noexcept : failpoints_(other.failpoints_), rule_(other.rule_), gone_(std::exchange(other.gone_, true)) {}
  void reached();  // waits
  [[nodiscard]] bool is_reached() const { return failpoints_.arrived(rule_) > 0; }
  void go();

 private:
  Failpoints& failpoints_;
  unsigned rule_;
  bool gone_ = false;
};

// What a get showed, each part by itself: all versions are equal unless it is a mix.
struct Seen {
  int code = WARM_OK;
  uint32_t version = 0;  // of the scalars
  uint32_t embedding = 0;
  uint32_t content = 0;
  [[nodiscard]] bool mixed() const noexcept { return code == WARM_OK && (version != embedding || version != content); }
};

class Scene {
 public:
  // `rule`: what is left out from the first call of `leave_out` on; nullptr: nothing, as designed.
  Scene(StoreOptions options, const char* rule, bool without);

  [[nodiscard]] Daemon& daemon() noexcept { return daemon_; }
  [[nodiscard]] Failpoints& failpoints() { return daemon_.failpoints(); }
  [[nodiscard]] bool without() const noexcept { return without_; }
  // From here on the rule does not hold, if this is the play without it.
  void leave_out();
  void hold_again();
  // A point where the daemon stands still.
  [[nodiscard]] Stop daemon_at(const char* point, uint32_t skip = 0) {
    return Stop(failpoints(), next_rule_++, point, daemon_.pid(), skip);
  }
  // A point where a thread of this process, or a child, stands still.
  [[nodiscard]] Stop at(const char* point, pid_t owner, uint32_t skip = 0) {
    return Stop(failpoints(), next_rule_++, point, owner, skip);
  }
  // Where a starting daemon, whose pid nobody knows yet, or anybody else stands still.
  [[nodiscard]] Stop anyone_at(const char* point, uint32_t skip = 0) { return Stop(failpoints(), next_rule_++, point, 0, skip); }
  // Of a client that may have to wait in vain in the play without the rule: not for long there.
  [[nodiscard]] uint32_t vain_timeout_ms() const noexcept { return without_ ? 700 : 20'000; }
  // Leaves a rule out that is no rule of the play: a shorter way to where the play begins.
  unsigned omit(const char* rule);
  void disarm(unsigned rule) { failpoints().disarm(rule); }

 private:
  Daemon daemon_;
  const char* rule_;
  bool without_;
  unsigned next_rule_ = 1;
};

int put(warm_client* client, const std::string& id, uint32_t version, uint64_t* ret_sequence = nullptr);
int put_if_absent(warm_client* client, const std::string& id, uint32_t version);
int submit(warm_client* client, const std::string& id, uint32_t version, warm_ticket* ret_ticket);
// One id, versions 1 to `results.size()`, in one call.
int put_versions(warm_client* client, const std::string& id, std::span<warm_result> results);
// Confidence, recall count and last access to this number.
int set_scalars(warm_client* client, const std::string& id, uint32_t n);
int remove(warm_client* client, const std::string& id, uint64_t* ret_sequence = nullptr);
int exists(warm_client* client, const std::string& id);
Seen get(warm_client* client, const std::string& id);
Seen look(const warm_view& view);
// By warm_get_copy.
Seen copy(warm_client* client, const std::string& id);
int view(warm_client* client, const std::string& id, warm_view* ret_view);
void must_put(warm_client* client, const std::string& id, uint32_t version);
void must_remove(warm_client* client, const std::string& id);

// The seed of the store's hash, so that a test can choose ids by their place in the index.
uint64_t hash_seed(const Daemon& daemon);
// An id whose hash begins with these bits; `nth` of them.
std::string id_at(uint64_t seed, uint64_t prefix, unsigned prefix_bits, unsigned nth = 0);

// Plays it and judges: a play returns what was violated, or nullptr.
using Play = const char* (*)(Scene&);
void judge(const StoreOptions& options, const char* rule, bool without, Play play);

// INTERLEAVING(suite, name, store options, rule) { ... return nullptr; }
#define INTERLEAVING(suite, name, options, rule)                                                           \
  static const char* play_##suite##_##name(warmtier::tests::interleave::Scene& scene);                     \
  Test(suite, name, .disabled = !warmtier::tests::support::failpoints_built()) {                           \
    warmtier::tests::interleave::judge(options, rule, false, play_##suite##_##name);                       \
  }                                                                                                        \
  Test(suite, name##__fails_without_the_rule, .disabled = !warmtier::tests::support::failpoints_built()) { \
    warmtier::tests::interleave::judge(options, rule, true, play_##suite##_##name);                        \
  }                                                                                                        \
  static const char* play_##suite##_##name(warmtier::tests::interleave::Scene& scene)

}  // namespace warmtier::tests::interleave
