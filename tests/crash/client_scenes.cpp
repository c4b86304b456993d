#include "tests/crash/client_scenes.hpp"

#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include <vector>

#include "tests/support/records.hpp"
#include "tests/support/regions.hpp"

namespace warmtier::tests::crash {

using namespace support;

namespace {

constexpr Shape kShape = kVictimShape;
constexpr Shape kLargeShape{.dimensions = 16, .content_bytes_max = 400'000};  // too much for a lane, most of the time
constexpr uint64_t kLargeKey = 2'000;
constexpr uint64_t kBystanderKey = 3'000;
constexpr uint64_t kNextKey = 4'000;
constexpr uint64_t kStoredKey = 5'000;
constexpr unsigned kVictimProcessor = 0;
constexpr unsigned kBystanderProcessor = 1;
constexpr uint32_t kTimeoutMs = 5'000;

}  // namespace

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
  // A record of its own: a touch changes the recall count, by which others know the version.
  const std::string stored = record_id(kStoredKey);
  const warm_id touched{stored.data(), stored.size()};
  if (warm_touch(client, &touched, 1, nullptr) != WARM_OK) return 10;
  return warm_remove(client, id.data(), id.size(), WARM_IF_ANY, 0, 0, nullptr) == WARM_OK ? 0 : 10;
}

namespace {

// What the processes of one way tell each other.
struct Board {
  Steps go;         // the victim may begin
  Steps attached;   // the victim has its client
  Steps restarted;  // the daemon was started again
  Steps helped;     // the helper stands where it should
  std::atomic<uint64_t> bystander_rounds{0};
  std::atomic<int> bystander_error{0};
  std::atomic<bool> bystander_stop{false};
};

int plain(Steps&, warm_client* client) { return work(client); }

// Until somebody doubts the lane or gives up: longer than the second after which a holder is doubted.
int insist(Steps&, warm_client* client) {
  const base::Deadline deadline = base::Deadline::after_ns(10 * base::kNsPerSecond);
  for (uint32_t version = 1; !deadline.passed(); ++version) {
    const int code = put_record(client, kShape, kVictimKey, version);
    if (code != WARM_OK && code != WARM_E_BUSY) return 11;
  }
  return 0;
}

int across_restart(Steps& restarted, warm_client* client) {
  const std::string id = record_id(kStoredKey);
  warm_view held = WARM_VIEW_INIT;
  if (warm_get(client, id.data(), id.size(), 0, &held) != WARM_OK) return 12;
  if (!restarted.wait_for(1, base::Deadline::after_ns(kPatienceNs))) return 13;
  if (work(client) != 0) return 14;
  return warm_release(client, &held) == WARM_OK ? 0 : 15;
}

int many_views(Steps&, warm_client* client) {
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
int many_segments(Steps&, warm_client* client) {
  for (uint32_t version = 1; version <= 400; ++version) {
    if (put_record(client, kLargeShape, kLargeKey + version % 3, version) != WARM_OK) return 18;
    if (check_record(client, kLargeShape, kLargeKey + version % 3) != WARM_OK) return 19;
  }
  return 0;
}

// Its channel is fenced under it while it holds a view; then its sockets are gone, and everything is handed back.
int in_a_fenced_channel(Steps&, warm_client* client) {
  const std::string id = record_id(kStoredKey);
  warm_view held = WARM_VIEW_INIT;
  if (warm_get(client, id.data(), id.size(), 0, &held) != WARM_OK) return 20;
  fence(own_lanes());
  if (work(client) != 0) return 21;
  if (::close_range(3, ~0U, 0) != 0) return 22;
  if (work(client) != 0) return 23;
  if (warm_release(client, &held) != WARM_OK) return 24;
  return work(client) == 0 ? 0 : 25;
}

constexpr ClientWay kWays[] = {
    {.name = "plain", .victim = plain},
    {.name = "after a death in the claim", .victim = plain, .needs_death_in_claim = true},
    {.name = "busy lanes", .victim = insist, .needs_busy_lanes = true},
    {.name = "a lost lane", .victim = insist, .needs_lost_lane = true},
    {.name = "over a restart", .victim = across_restart, .needs_restart = true},
    {.name = "many views", .victim = many_views},
    {.name = "many segments", .victim = many_segments},
    {.name = "a fenced channel", .victim = in_a_fenced_channel},
};

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

  // Kills a victim at the point in this way and judges everything after. False: the victim never came to the point.
  bool kill_at(const std::string& point, const ClientWay& way) {
    const warm_stats before = stats_of(client_);
    uint64_t repairs = 0;
    uint64_t pins = 0;
    std::vector<Process> helpers;

    if (way.needs_death_in_claim) {
      ClientPicture first{};
      if (!victim_dies_at("client.lane_holder_named", kWays[0], &first)) return false;
      require(first.locks_held == 1, "the first victim holds no lane");
      repairs += first.lane_repairs;
      pins += first.pins;
    }
    if (way.needs_busy_lanes) helpers.push_back(holder_of_all_lanes());
    if (way.needs_lost_lane) lose_a_lane();

    ClientPicture last{};
    if (!victim_dies_at(point, way, &last)) return false;
    repairs += last.lane_repairs;
    pins += last.pins;
    for (Process& helper : helpers) helper.kill();

    // The next process comes to the same lane first.
    const uint64_t next_begun_ns = base::monotonic_ns();
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
        if (key != kVictimKey || way.victim != plain || way.needs_death_in_claim) continue;
        if (seen == WARM_OK && last.published == 0) return 5;
        if (seen != WARM_OK && last.published == 1) return 7;
      }
      return warm_close(own) == WARM_OK ? 0 : 6;
    });
    Process::End end;
    require(next.wait_until(base::Deadline::after_ns(uint64_t{2} * kTimeoutMs * base::kNsPerMs), end),
            "%s (%s): the next process hangs", point.c_str(), way.name);
    next_ns_ = base::monotonic_ns() - next_begun_ns;
    require(end == exit_code(0), "%s (%s): the next process: %s", point.c_str(), way.name, text_of(end).c_str());

    if (!way.needs_busy_lanes) {
      // The restart gave the daemon's counters a new life; nothing was counted before it there.
      const warm_stats from = way.needs_restart ? warm_stats WARM_STATS_INIT : before;
      const uint64_t expected = repairs + last.locks_held + last.locks_orphaned;
      const warm_stats after = await_stats(client_, "the dead sessions' end", [&](const warm_stats& stats) {
        return stats.sessions <= before.sessions && stats.sessions_ended > from.sessions_ended;
      });
      require(after.lane_repairs - from.lane_repairs == expected, "%s (%s): %llu lane repairs instead of %llu", point.c_str(),
              way.name, static_cast<unsigned long long>(after.lane_repairs - from.lane_repairs),
              static_cast<unsigned long long>(expected));
      require(after.pins_voided - from.pins_voided == pins, "%s (%s): %llu pins voided instead of %llu", point.c_str(), way.name,
              static_cast<unsigned long long>(after.pins_voided - from.pins_voided), static_cast<unsigned long long>(pins));
      claims_ += last.locks_held != 0;
      pinned_ += last.pins != 0;
    }
    await_bystander();
    const int error = board_->bystander_error.load();
    require(error == 0, "%s (%s): a process in another lane saw %s", point.c_str(), way.name, warm_error_name(error));
    return true;
  }

  [[nodiscard]] unsigned claims() const { return claims_; }
  [[nodiscard]] unsigned pinned() const { return pinned_; }
  [[nodiscard]] uint64_t next_ns() const { return next_ns_; }

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

  bool victim_dies_at(const std::string& point, const ClientWay& way, ClientPicture* ret_picture) {
    Shared<Board> board;
    Process victim = Process::fork([&] {
      pin_to_processor(kVictimProcessor);
      if (!board->go.wait_for(1, base::Deadline::after_ns(kPatienceNs))) return 100;
      warm_client* client = nullptr;
      if (daemon_.try_open(&client, kTimeoutMs) != WARM_OK) return 101;
      board->attached.advance();
      const int code = way.victim(board->restarted, client);
      const int closed = warm_close(client);
      return code != 0 ? code : closed == WARM_OK ? 0 : 102;
    });
    Failpoints& failpoints = daemon_.failpoints();
    failpoints.arm(0, point, FailpointAction::pause, 0, victim.pid());
    board->go.advance();
    if (way.needs_restart) {
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
      const auto locks = own_lanes();
      // The bystander's lanes stay free: it must not notice.
      for (uint32_t lane = 0; lane < locks.size(); ++lane) {
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
    __atomic_store_n(&own_lanes()[0].mutex.__data.__lock, tid, __ATOMIC_SEQ_CST);
  }

  Daemon daemon_;
  Shared<Board> board_;
  Shared<Steps> rounds_;
  Process bystander_;
  warm_client* client_ = nullptr;
  unsigned claims_ = 0;
  unsigned pinned_ = 0;
  uint64_t next_ns_ = 0;
};

}  // namespace

std::span<const ClientWay> client_ways() { return kWays; }

ClientDeath kill_client_at(const std::string& point, const ClientWay& way) {
  Scene scene;
  ClientDeath death;
  death.came = scene.kill_at(point, way);
  death.claims = scene.claims();
  death.pinned = scene.pinned();
  death.next_ns = scene.next_ns();
  return death;
}

}  // namespace warmtier::tests::crash
