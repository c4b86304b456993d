// A client is killed at every failpoint of the library, with SIGKILL. The next process goes on before its deadline, the daemon
// counts what was repaired and voided, nothing half written is carried out, and a process in another lane never notices.
//
// Points are found in the sources: one that is added is tested here, and fails when no scenario comes to it. A victim is paused
// at the point first, so that its channel and session can be looked at as they will outlive it.
#include <criterion/criterion.h>
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include <string>
#include <vector>

#include "tests/support/daemon.hpp"
#include "tests/support/records.hpp"
#include "tests/support/regions.hpp"

using namespace warmtier::tests::support;
namespace base = warmtier::base;
namespace layout = warmtier::layout;

namespace {

constexpr Shape kShape{.dimensions = 16, .content_bytes_max = 600};
constexpr Shape kLargeShape{.dimensions = 16, .content_bytes_max = 400'000};  // too much for a lane, most of the time
constexpr uint64_t kVictimKey = 1'000;
constexpr uint64_t kLargeKey = 2'000;
constexpr uint64_t kBystanderKey = 3'000;
constexpr uint64_t kNextKey = 4'000;
constexpr uint64_t kStoredKey = 5'000;
constexpr unsigned kVictimProcessor = 0;
constexpr unsigned kBystanderProcessor = 1;
constexpr uint32_t kTimeoutMs = 5'000;
constexpr int kNotHit = 77;

// What the processes of one scenario tell each other.
struct Board {
  Steps go;         // the victim may begin
  Steps attached;   // the victim has its client
  Steps restarted;  // the daemon was started again
  Steps helped;     // the helper stands where it should
  std::atomic<uint64_t> bystander_rounds{0};
  std::atomic<int> bystander_error{0};
  std::atomic<bool> bystander_stop{false};
};

struct Scenario {
  const char* name;
  // In the victim, its client open. Ends when the point is not on the way.
  int (*victim)(const Daemon& daemon, Board& board, warm_client* client);
  bool needs_death_in_claim = false;  // an earlier victim died holding the lane
  bool needs_busy_lanes = false;      // a living process holds every lane
  bool needs_lost_lane = false;       // the lane's mutex belongs to a thread that is gone and was not reported
  bool needs_restart = false;         // the daemon is killed and started under the victim
};

int work(warm_client* client) {
  for (uint32_t version = 1; version <= 3; ++version) {
    if (put_record(client, kShape, kVictimKey, version) != WARM_OK) return 1;
    if (check_record(client, kShape, kVictimKey) != WARM_OK) return 2;
  }
  const std::string id = record_id(kVictimKey);
  if (warm_exists(client, id.data(), id.size()) != WARM_OK) return 3;
  warm_view view = WARM_VIEW_INIT;
  if (warm_get(client, id.data(), id.size(), 0, &view) != WARM_OK) return 4;
  uint32_t state = 0;
  if (warm_view_check(client, &view, &state) != WARM_OK || state != WARM_VIEW_CURRENT) return 5;
  if (warm_release(client, &view) != WARM_OK) return 6;
  if (warm_exists(client, "nothing", 7) != WARM_E_NOT_FOUND) return 7;
  for (uint32_t version = 1; version <= 4; ++version) {
    if (put_record(client, kLargeShape, kLargeKey, version) != WARM_OK) return 8;
    if (check_record(client, kLargeShape, kLargeKey) != WARM_OK) return 9;
  }
  return warm_remove(client, id.data(), id.size(), WARM_IF_ANY, 0, 0, nullptr) == WARM_OK ? 0 : 10;
}

int plain(const Daemon&, Board&, warm_client* client) { return work(client); }

// Until somebody doubts the lane or gives up: longer than the second after which a holder is doubted.
int insist(const Daemon&, Board&, warm_client* client) {
  const base::Deadline deadline = base::Deadline::after_ns(10 * base::kNsPerSecond);
  for (uint32_t version = 1; !deadline.passed(); ++version) {
    const int code = put_record(client, kShape, kVictimKey, version);
    if (code != WARM_OK && code != WARM_E_BUSY) return 11;
  }
  return 0;
}

int across_restart(const Daemon&, Board& board, warm_client* client) {
  const std::string id = record_id(kStoredKey);
  warm_view held = WARM_VIEW_INIT;
  if (warm_get(client, id.data(), id.size(), 0, &held) != WARM_OK) return 12;
  if (!board.restarted.wait_for(1, base::Deadline::after_ns(kPatienceNs))) return 13;
  if (work(client) != 0) return 14;
  return warm_release(client, &held) == WARM_OK ? 0 : 15;
}

int many_views(const Daemon&, Board&, warm_client* client) {
  std::vector<warm_view> views(200, warm_view WARM_VIEW_INIT);
  const std::string id = record_id(kStoredKey);
  for (warm_view& view : views) {
    if (warm_get(client, id.data(), id.size(), 0, &view) != WARM_OK) return 16;
  }
  for (warm_view& view : views) {
    if (warm_release(client, &view) != WARM_OK) return 17;
  }
  return 0;
}

// New segments come and old ones go while the victim reads.
int many_segments(const Daemon&, Board&, warm_client* client) {
  for (uint32_t version = 1; version <= 400; ++version) {
    if (put_record(client, kLargeShape, kLargeKey + version % 3, version) != WARM_OK) return 18;
    if (check_record(client, kLargeShape, kLargeKey + version % 3) != WARM_OK) return 19;
  }
  return 0;
}

constexpr Scenario kScenarios[] = {
    {.name = "plain", .victim = plain},
    {.name = "after a death in the claim", .victim = plain, .needs_death_in_claim = true},
    {.name = "busy lanes", .victim = insist, .needs_busy_lanes = true},
    {.name = "a lost lane", .victim = insist, .needs_lost_lane = true},
    {.name = "over a restart", .victim = across_restart, .needs_restart = true},
    {.name = "many views", .victim = many_views},
    {.name = "many segments", .victim = many_segments},
};

layout::LaneLock* locks_of_this_process(uint32_t* ret_lanes) {
  auto* channel = reinterpret_cast<std::byte*>(own_channel());
  *ret_lanes = reinterpret_cast<const layout::ChannelHeader*>(channel)->lanes;
  return reinterpret_cast<layout::LaneLock*>(channel + layout::channel_locks_offset(*ret_lanes));
}

// Everything one kill needs; made anew for each point, in a fork of its own: what a library maps stays mapped.
class Scene {
 public:
  Scene() : daemon_(options()) {
    daemon_.start();
    Process stored = Process::fork([&] {
      const Client client(daemon_, kTimeoutMs);
      return put_record(client, kShape, kStoredKey, 1) == WARM_OK ? 0 : 1;
    });
    require(stored.wait() == exit_code(0), "the scene's record could not be put");
    bystander_ = Process::fork([&] { return bystander(); });
    await_bystander();
    // After the bystander has its session: statistics are read by this process's client from here on.
    client_ = daemon_.open(kTimeoutMs);
  }
  ~Scene() { warm_close(client_); }

  // Kills a victim at the point in this scenario and judges everything after. False: the victim never came to the point.
  bool kill_at(const std::string& point, const Scenario& scenario) {
    const warm_stats before = stats_of(client_);
    uint64_t repairs = 0;
    uint64_t pins = 0;
    std::vector<Process> helpers;

    if (scenario.needs_death_in_claim) {
      ClientPicture first{};
      if (!victim_dies_at("client.lane_holder_named", kScenarios[0], &first)) return false;
      require(first.locks_held == 1, "the first victim holds no lane");
      repairs += first.lane_repairs;
      pins += first.pins;
    }
    if (scenario.needs_busy_lanes) helpers.push_back(holder_of_all_lanes());
    if (scenario.needs_lost_lane) lose_a_lane();

    ClientPicture last{};
    if (!victim_dies_at(point, scenario, &last)) return false;
    repairs += last.lane_repairs;
    pins += last.pins;
    for (Process& helper : helpers) helper.kill();

    // The next process comes to the same lane first.
    Process next = Process::fork([&] {
      pin_to_processor(kVictimProcessor);
      warm_client* own = nullptr;
      if (daemon_.try_open(&own, kTimeoutMs) != WARM_OK) return 1;
      for (uint32_t version = 1; version <= 3; ++version) {
        if (put_record(own, kShape, kNextKey, version) != WARM_OK) return 2;
        if (check_record(own, kShape, kNextKey) != WARM_OK) return 3;
      }
      // What the victim asked for is there whole, or not at all.
      for (const auto& [shape, key] : {std::pair{kShape, kVictimKey}, std::pair{kLargeShape, kLargeKey}}) {
        const int seen = check_record(own, shape, key);
        if (seen != WARM_OK && seen != WARM_E_NOT_FOUND) return 4;
        // Of the first request it is known: without its commit word it was never there, with it it is carried out.
        if (key != kVictimKey || scenario.victim != plain || scenario.needs_death_in_claim) continue;
        if (seen == WARM_OK && last.published == 0) return 5;
        if (seen != WARM_OK && last.published == 1) return 7;
      }
      return warm_close(own) == WARM_OK ? 0 : 6;
    });
    Process::End end;
    require(next.wait_until(base::Deadline::after_ns(uint64_t{2} * kTimeoutMs * base::kNsPerMs), end),
            "%s (%s): the next process hangs", point.c_str(), scenario.name);
    require(end == exit_code(0), "%s (%s): the next process: %s", point.c_str(), scenario.name, text_of(end).c_str());

    if (!scenario.needs_busy_lanes) {
      // The restart gave the daemon's counters a new life; nothing was counted before it there.
      const warm_stats from = scenario.needs_restart ? warm_stats WARM_STATS_INIT : before;
      const uint64_t expected = repairs + last.locks_held + last.locks_orphaned;
      const warm_stats after = await_stats(client_, "the dead sessions' end", [&](const warm_stats& stats) {
        return stats.sessions <= before.sessions && stats.sessions_ended > from.sessions_ended;
      });
      require(after.lane_repairs - from.lane_repairs == expected, "%s (%s): %llu lane repairs instead of %llu", point.c_str(),
              scenario.name, static_cast<unsigned long long>(after.lane_repairs - from.lane_repairs),
              static_cast<unsigned long long>(expected));
      require(after.pins_voided - from.pins_voided == pins, "%s (%s): %llu pins voided instead of %llu", point.c_str(),
              scenario.name, static_cast<unsigned long long>(after.pins_voided - from.pins_voided),
              static_cast<unsigned long long>(pins));
      claims_ += last.locks_held != 0;
      pinned_ += last.pins != 0;
    }
    await_bystander();
    const int error = board_->bystander_error.load();
    require(error == 0, "%s (%s): a process in another lane saw %s", point.c_str(), scenario.name, warm_error_name(error));
    return true;
  }

  [[nodiscard]] unsigned claims() const { return claims_; }
  [[nodiscard]] unsigned pinned() const { return pinned_; }

 private:
  static StoreOptions options() {
    StoreOptions options;
    options.capacity = 8192;
    options.segment_bytes = uint64_t{1} << 20;
    return options;
  }

  int bystander() {
    pin_to_processor(kBystanderProcessor);
    warm_client* client = nullptr;
    if (daemon_.try_open(&client, 20'000) != WARM_OK) return 1;
    for (uint32_t version = 1; !board_->bystander_stop.load(); ++version) {
      int code = put_record(client, kShape, kBystanderKey, version);
      uint32_t seen = 0;
      if (code == WARM_OK) code = check_record(client, kShape, kBystanderKey, &seen);
      if (code == WARM_OK && seen != version) code = WARM_E_CHANGED;
      if (code != WARM_OK) board_->bystander_error.store(code);
      board_->bystander_rounds.fetch_add(1);
      rounds_->advance();
    }
    return 0;
  }
  void await_bystander() { rounds_->await(rounds_->now() + 3, "the process in another lane goes on"); }

  bool victim_dies_at(const std::string& point, const Scenario& scenario, ClientPicture* ret_picture) {
    Shared<Board> board;
    Process victim = Process::fork([&] {
      pin_to_processor(kVictimProcessor);
      if (!board->go.wait_for(1, base::Deadline::after_ns(kPatienceNs))) return 100;
      warm_client* client = nullptr;
      if (daemon_.try_open(&client, kTimeoutMs) != WARM_OK) return 101;
      board->attached.advance();
      const int code = scenario.victim(daemon_, *board, client);
      const int closed = warm_close(client);
      return code != 0 ? code : closed == WARM_OK ? 0 : 102;
    });
    Failpoints& failpoints = daemon_.failpoints();
    failpoints.arm(0, point, FailpointAction::pause, 0, victim.pid());
    board->go.advance();
    if (scenario.needs_restart) {
      // A point on the way to the attachment is met before the restart.
      while (board->attached.now() == 0 && failpoints.arrived(0) == 0) {
        if (board->attached.wait_for(1, base::Deadline::after_ns(base::kNsPerMs))) break;
      }
      if (failpoints.arrived(0) == 0) {
        daemon_.restart();
        board->restarted.advance();
      }
    }
    std::vector<uint32_t> seen(1, 0);
    if (failpoints.await_any(seen, victim) < 0) {
      failpoints.disarm(0);
      victim.wait();
      return false;
    }
    *ret_picture = picture_of(victim.pid());
    failpoints.disarm(0);
    require(victim.kill() == killed_by(SIGKILL), "the victim ended by itself");
    return true;
  }

  Process holder_of_all_lanes() {
    Shared<Board> board;
    Process holder = Process::fork([&] {
      const Client client(daemon_, kTimeoutMs);
      uint32_t lanes = 0;
      layout::LaneLock* locks = locks_of_this_process(&lanes);
      // The bystander's lanes stay free: it must not notice.
      for (uint32_t lane = 0; lane < lanes; ++lane) {
        if (lane == bystander_lane()) continue;
        if (::pthread_mutex_trylock(&locks[lane].mutex) != 0) return 1;
      }
      board->helped.advance();
      for (;;) ::pause();
    });
    board->helped.await(1, "a process holds the lanes");
    return holder;
  }
  static uint32_t bystander_lane() { return 4 * kBystanderProcessor; }

  // As the kernel leaves a mutex behind after process_mrelease: locked by a thread that is gone, and nobody told.
  void lose_a_lane() {
    Process gone = Process::fork([] { return 0; });
    const auto tid = static_cast<int>(gone.pid());
    require(gone.wait() == exit_code(0), "a thread that is gone");
    uint32_t lanes = 0;
    layout::LaneLock* locks = locks_of_this_process(&lanes);
    __atomic_store_n(&locks[0].mutex.__data.__lock, tid, __ATOMIC_SEQ_CST);
  }

  Daemon daemon_;
  Shared<Board> board_;
  Shared<Steps> rounds_;
  Process bystander_;
  warm_client* client_ = nullptr;
  unsigned claims_ = 0;
  unsigned pinned_ = 0;
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
    for (const Scenario& scenario : kScenarios) {
      Process scene = Process::fork([&] {
        Scene played;
        const bool came = played.kill_at(point, scenario);
        claims->fetch_add(played.claims());
        pinned->fetch_add(played.pinned());
        return came ? 0 : kNotHit;
      });
      const Process::End end = scene.wait();
      hit = end != exit_code(kNotHit);
      if (!hit) continue;
      cr_expect(end == exit_code(0), "%s (%s): %s", point.c_str(), scenario.name, text_of(end).c_str());
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
    const Client client(daemon, kTimeoutMs);
    // Everything that one put and one get need anew was met before.
    if (work(client) != 0) return 1;
    board->attached.advance();
    if (!board->go.wait_for(1, base::Deadline::after_ns(kPatienceNs))) return 2;
    if (put_record(client, kShape, kVictimKey, 1) != WARM_OK) return 3;
    return check_record(client, kShape, kVictimKey) == WARM_OK ? 0 : 4;
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
