// Every failpoint of daemon and library, hit many times with SIGKILL while others work; then a storm of kills at no particular
// place. Everything that was acknowledged is compared with a history outside the store. The counts go to paper.
#include <signal.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <memory>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <vector>

#include "tests/crash/client_scenes.hpp"
#include "tests/crash/daemon_scenes.hpp"
#include "tests/support/records.hpp"
#include "tests/support/report.hpp"

namespace {

using namespace warmtier::tests::support;
using namespace warmtier::tests::crash;
namespace base = warmtier::base;

constexpr int kNotHit = 77;
constexpr size_t kPointsMax = 256;
constexpr uint32_t kNoWay = UINT32_MAX;

struct Options {
  uint32_t rounds = 100;
  uint64_t storm_seconds = 1200;
  uint64_t limit_seconds = UINT64_MAX;  // of the matrix: kills that are not done by then are missing
  uint32_t jobs = 1;
  uint64_t seed = 1;
  std::string only;  // points that begin so
  std::string out;
  std::string commit = "unknown";
  bool go_on = false;  // with what `out` has
};

// ---- the matrix -----------------------------------------------------------------------------------------------------------

struct Point {
  FailpointPlace place;
  bool in_daemon = false;
};

std::vector<Point> all_points(const std::string& only) {
  std::vector<Point> points;
  for (FailpointPlace& place : failpoint_places("daemon", only)) points.push_back({std::move(place), true});
  for (FailpointPlace& place : failpoint_places("libclient", only)) points.push_back({std::move(place), false});
  return points;
}

// What the jobs say of one point. One job at a time works on it.
struct Tally {
  std::atomic<uint32_t> hits{0};
  std::atomic<uint32_t> way{kNoWay};
  std::atomic<uint32_t> wrong{0};
};
struct Matrix {
  std::array<Tally, kPointsMax> tallies;
  std::atomic<uint32_t> next{0};
  std::atomic<uint64_t> hits{0};
  std::atomic<uint64_t> longest_pause_ns{0};
  std::atomic<uint64_t> longest_next_ns{0};
};

void raise_to(std::atomic<uint64_t>& longest, uint64_t ns) {
  uint64_t seen = longest.load();
  while (ns > seen && !longest.compare_exchange_weak(seen, ns)) {
  }
}

size_t ways_of(const Point& point) { return point.in_daemon ? daemon_ways().size() : client_ways().size(); }
const char* way_name(const Point& point, uint32_t way) {
  return point.in_daemon ? daemon_ways()[way].name : client_ways()[way].name;
}

// One scene in a fork of its own: what a library maps stays mapped.
int play(const Point& point, uint32_t way, uint32_t round, Matrix& matrix) {
  Process scene = Process::fork([&] {
    if (point.in_daemon) {
      note_pauses_in(&matrix.longest_pause_ns);
      return daemon_ways()[way].killed(point.place.name, round) ? 0 : kNotHit;
    }
    const ClientWay& client_way = client_ways()[way];
    const ClientDeath death = kill_client_at(point.place.name, client_way);
    // A holder that lives is doubted after a second, by design; elsewhere nobody has a reason to wait.
    if (death.came && !client_way.needs_busy_lanes && !client_way.needs_lost_lane) {
      raise_to(matrix.longest_next_ns, death.next_ns);
    }
    return death.came ? 0 : kNotHit;
  });
  Process::End end;
  if (!scene.wait_until(base::Deadline::after_ns(5 * kPatienceNs), end)) {
    std::fprintf(stderr, "%s (%s): the scene hangs\n", point.place.name.c_str(), way_name(point, way));
    return 1;
  }
  if (!end.exited) std::fprintf(stderr, "%s (%s): %s\n", point.place.name.c_str(), way_name(point, way), text_of(end).c_str());
  return end.exited ? end.code : 1;
}

// The first way that comes to the point, then that way again and again. A round that does not come to it does not count; some
// points are met by chance.
void hit_point(const Point& point, uint32_t rounds, const base::Deadline& limit, Tally& tally, Matrix& matrix) {
  const uint32_t attempts_max = rounds * 4 + 8;
  for (uint32_t attempt = 0; attempt < attempts_max && tally.hits.load() < rounds && tally.wrong.load() == 0; ++attempt) {
    if (limit.passed()) return;
    const uint32_t known = tally.way.load();
    for (uint32_t way = known == kNoWay ? 0 : known; way < ways_of(point); ++way) {
      const int code = play(point, way, attempt, matrix);
      if (code == 0) {
        tally.way.store(way);
        tally.hits.fetch_add(1);
        matrix.hits.fetch_add(1);
        break;
      }
      if (code != kNotHit) {
        tally.way.store(way);
        tally.wrong.fetch_add(1);
        break;
      }
      if (known != kNoWay) break;
    }
    if (tally.way.load() == kNoWay) return;  // no way leads there
  }
}

bool on_terminal() { return ::isatty(STDERR_FILENO) != 0; }
void show(const char* what, uint64_t done, uint64_t of) {
  if (on_terminal())
    std::fprintf(stderr, "\r%s: %llu of %llu ", what, static_cast<unsigned long long>(done), static_cast<unsigned long long>(of));
}
void show_end() {
  if (on_terminal()) std::fputs("\n", stderr);
}

void run_matrix(const std::vector<Point>& points, const Options& options, Matrix& matrix) {
  const base::Deadline limit = options.limit_seconds == UINT64_MAX
                                   ? base::Deadline::never()
                                   : base::Deadline::after_ns(options.limit_seconds * base::kNsPerSecond);
  std::vector<Process> jobs;
  for (uint32_t job = 0; job < options.jobs; ++job) {
    jobs.push_back(Process::fork([&] {
      for (uint32_t i = matrix.next.fetch_add(1); i < points.size(); i = matrix.next.fetch_add(1))
        hit_point(points[i], options.rounds, limit, matrix.tallies[i], matrix);
      return 0;
    }));
  }
  for (Process& job : jobs) {
    Process::End end;
    while (!job.wait_until(base::Deadline::after_ns(base::kNsPerSecond / 4), end))
      show("kills at points", matrix.hits.load(), points.size() * options.rounds);
    require(end == exit_code(0), "a job of the matrix: %s", text_of(end).c_str());
  }
  show_end();
}

// ---- the storm ------------------------------------------------------------------------------------------------------------

constexpr unsigned kReaders = 2;

class Dice {
 public:
  explicit Dice(uint64_t seed) : random_(static_cast<uint32_t>(seed)) {}
  uint32_t below(size_t n) { return static_cast<uint32_t>(random_() % n); }

 private:
  std::mt19937 random_;
};

struct StormCounts {
  uint64_t daemon_kills = 0;
  uint64_t daemon_kills_at_points = 0;
  uint64_t daemon_stops = 0;
  uint64_t writer_kills = 0;
  uint64_t reader_kills = 0;
  uint64_t both_kills = 0;
  uint64_t judged = 0;
  double seconds = 0;
};

// Reads what the writers write, and holds views over everything that happens.
int reader(const Daemon& daemon, Board& board, unsigned me) {
  warm_client* client = nullptr;
  int opened = WARM_E_UNAVAILABLE;  // between two daemons there is nobody to open it
  while (opened == WARM_E_UNAVAILABLE && board.stop.load() == 0) opened = daemon.try_open(&client);
  if (opened != WARM_OK) return opened == WARM_E_UNAVAILABLE ? 0 : 1;
  Dice dice(me);
  std::array<warm_view, 8> held;
  std::array<std::pair<const Shape*, uint64_t>, 8> of{};
  size_t count = 0;
  while (board.stop.load() == 0) {
    const unsigned writer = dice.below(kWriters);
    const unsigned i = dice.below(kKeysPerWriter);
    const Shape& shape = shape_of(board, i);
    const int code = check_record(client, shape, key_of(writer, i));
    if (code != WARM_OK && code != WARM_E_NOT_FOUND) return 2;
    if (count < held.size() && dice.below(8) == 0) {
      const std::string id = record_id(key_of(writer, i));
      held[count] = warm_view WARM_VIEW_INIT;
      const int got = warm_get(client, id.data(), id.size(), 0, &held[count]);
      if (got != WARM_OK && got != WARM_E_NOT_FOUND) return 3;
      if (got == WARM_OK) of[count++] = {&shape, key_of(writer, i)};
    } else if (count == held.size() && dice.below(64) == 0) {
      while (count > 0) {
        --count;
        // It shows what it showed, unless it says that it does not.
        uint32_t state = 0;
        const int checked = warm_view_check(client, &held[count], &state);
        if (checked != WARM_OK && checked != WARM_E_STALE) return 6;
        if (checked == WARM_OK && mismatch(*of[count].first, of[count].second, held[count]) != nullptr) return 4;
        warm_release(client, &held[count]);
      }
    }
  }
  while (count > 0) warm_release(client, &held[--count]);
  return warm_close(client) == WARM_OK ? 0 : 5;
}

class Storm {
 public:
  explicit Storm(uint64_t seed) : dice_(seed), daemon_(small_and_busy()), monitor_((daemon_.start(), daemon_)) {
    for (unsigned me = 0; me < kWriters; ++me) start_writer(me, false);
    for (unsigned me = 0; me < kReaders; ++me) start_reader(me);
    visitor_ = Process::fork([this] { return visitor(daemon_, *board_); });
    await_writers();
  }

  StormCounts run(uint64_t seconds) {
    const std::vector<std::string> points = failpoint_names("daemon");
    const uint64_t begun_ns = base::monotonic_ns();
    const base::Deadline deadline = base::Deadline::after_ns(seconds * base::kNsPerSecond);
    uint64_t kills = 0;
    while (!deadline.passed()) {
      board_->rounds.await(board_->rounds.now() + 1 + dice_.below(60), "the writers go on");
      switch (dice_.below(8)) {
        case 0:
        case 1:
          daemon_.kill();
          daemon_.start();
          ++counts_.daemon_kills;
          break;
        case 2: kill_at(points[dice_.below(points.size())]); break;
        case 3:
          require(daemon_.stop() == exit_code(0), "the daemon's stop");
          daemon_.start();
          ++counts_.daemon_stops;
          break;
        case 4:
        case 5: kill_writer(dice_.below(kWriters), false); break;
        case 6: kill_reader(dice_.below(kReaders)); break;
        default: kill_writer(dice_.below(kWriters), true); break;
      }
      check_nobody_failed();
      // A process that does not call does not come back, and keeps slots from being used again.
      (void)stats_of(monitor_);
      note_pause();
      if (++kills % 64 == 0) judge();
      show("storm, seconds", (base::monotonic_ns() - begun_ns) / base::kNsPerSecond, seconds);
    }
    judge();
    show_end();
    counts_.seconds = static_cast<double>(base::monotonic_ns() - begun_ns) / 1e9;
    return counts_;
  }

  [[nodiscard]] uint64_t rounds() { return board_->rounds.now(); }
  [[nodiscard]] uint64_t longest_pause_ns() const { return longest_pause_ns_; }

 private:
  void start_writer(unsigned me, bool takes_a_place) {
    writers_[me] = Process::fork([this, me, takes_a_place] { return writer(daemon_, *board_, me, takes_a_place); });
  }
  void start_reader(unsigned me) {
    readers_[me] = Process::fork([this, me] { return reader(daemon_, *board_, me); });
  }

  void check_nobody_failed() {
    require(board_->failed.load() == 0, "a writer was wrong at line %d; the daemon said:\n%s", board_->failed.load(),
            daemon_.log().c_str());
    for (Process& process : readers_) {
      Process::End end;
      const bool ended = process.wait_until(base::Deadline::after_ns(0), end);
      require(!ended, "a reader ended: %s; the daemon said:\n%s", text_of(end).c_str(), daemon_.log().c_str());
    }
  }

  // Until each writer has had an answer.
  void await_writers() {
    for (Steps& rounds : board_->rounds_of) rounds.await(rounds.now() + 1, "every writer goes on");
  }
  void note_pause() {
    const uint64_t begun_ns = base::monotonic_ns();
    await_writers();
    longest_pause_ns_ = std::max(longest_pause_ns_, base::monotonic_ns() - begun_ns);
  }

  void kill_at(const std::string& point) {
    const uint32_t skip = dice_.below(20);
    daemon_.failpoints().arm(0, point, FailpointAction::kill, skip, daemon_.pid());
    Process::End end;
    bool died = daemon_.process().wait_until(base::Deadline::after_ns(base::kNsPerSecond / 5), end);
    daemon_.failpoints().disarm(0);
    // It came to the point in the last moment.
    if (!died && daemon_.failpoints().hits(0) > skip)
      died = daemon_.process().wait_until(base::Deadline::after_ns(kPatienceNs), end);
    if (!died) return;
    require(end == killed_by(SIGKILL), "%s: the daemon ended by itself: %s; it said:\n%s", point.c_str(), text_of(end).c_str(),
            daemon_.log().c_str());
    daemon_.start();
    ++counts_.daemon_kills_at_points;
  }

  void kill_writer(unsigned me, bool daemon_too) {
    const auto pid = static_cast<uint32_t>(writers_[me].pid());
    writers_[me].kill();
    if (daemon_too) {
      daemon_.kill();
      daemon_.start();
      ++counts_.both_kills;
    } else {
      ++counts_.writer_kills;
    }
    // Whoever takes its place compares the history first: what the dead one published is carried out by then.
    await_stats(monitor_, "the killed writer's session ends", [&](const warm_stats&) { return !has_session(pid); });
    start_writer(me, true);
  }
  void kill_reader(unsigned me) {
    readers_[me].kill();
    start_reader(me);
    ++counts_.reader_kills;
  }

  [[nodiscard]] bool has_session(uint32_t pid) {
    std::array<warm_session, 64> sessions{};
    size_t count = 0;
    const int code = warm_sessions(monitor_, sizeof(warm_session), sessions.data(), sessions.size(), &count);
    require(code == WARM_OK && count <= sessions.size(), "sessions: %s", warm_last_error());
    return std::ranges::any_of(std::span(sessions).first(count), [&](const warm_session& one) { return one.pid == pid; });
  }

  // Everybody stops where a round ends; then the whole history is compared, also after another start.
  void judge() {
    board_->stop.store(1);
    for (Process& process : writers_) {
      const Process::End end = process.wait();
      require(end == exit_code(0), "a writer: %s at line %d", text_of(end).c_str(), board_->failed.load());
    }
    for (Process& process : readers_) {
      const Process::End end = process.wait();
      require(end == exit_code(0), "a reader: %s", text_of(end).c_str());
    }
    require(visitor_.wait() == exit_code(0), "a visitor was wrong at line %d", board_->failed.load());
    judge_history(daemon_, *board_, "storm");
    daemon_.stop_and_start();
    judge_history(daemon_, *board_, "storm, after another start");
    board_->stop.store(0);
    for (unsigned me = 0; me < kWriters; ++me) start_writer(me, true);
    for (unsigned me = 0; me < kReaders; ++me) start_reader(me);
    visitor_ = Process::fork([this] { return visitor(daemon_, *board_); });
    await_writers();
    ++counts_.judged;
  }

  Dice dice_;
  Daemon daemon_;
  Client monitor_;
  Shared<Board> board_;
  std::array<Process, kWriters> writers_;
  std::array<Process, kReaders> readers_;
  Process visitor_;
  StormCounts counts_;
  uint64_t longest_pause_ns_ = 0;
};

// ---- on paper -------------------------------------------------------------------------------------------------------------

using Json = nlohmann::ordered_json;

const Json* earlier_point(const Json& report, const std::string& name) {
  if (!report.contains("points")) return nullptr;
  for (const Json& point : report["points"]) {
    if (point.value("point", "") == name) return &point;
  }
  return nullptr;
}

struct Verdict {
  uint64_t never_hit = 0;
  uint64_t too_few = 0;
  uint64_t wrong = 0;
};

Verdict verdict_of(const std::vector<Point>& points, const Options& options, const Matrix& matrix) {
  Verdict verdict;
  for (size_t i = 0; i < points.size(); ++i) {
    const Tally& tally = matrix.tallies[i];
    verdict.never_hit += options.rounds > 0 && tally.hits.load() == 0 && tally.wrong.load() == 0;
    verdict.too_few += tally.hits.load() < options.rounds;
    verdict.wrong += tally.wrong.load();
  }
  return verdict;
}

// A point's kills may come from several runs: with each stands the commit of the last.
Json report_of(const std::vector<Point>& points, const Options& options, const Matrix& matrix, double matrix_seconds,
               const Json& earlier, const Json& storm) {
  const Verdict verdict = verdict_of(points, options, matrix);
  const auto ms = [](uint64_t ns) { return std::round(static_cast<double>(ns) / 1e5) / 10; };
  const Json& before = earlier.contains("matrix") ? earlier["matrix"] : Json::object();
  uint64_t kills = 0;
  Json list = Json::array();
  for (size_t i = 0; i < points.size() && options.rounds > 0; ++i) {
    const Tally& tally = matrix.tallies[i];
    const uint32_t way = tally.way.load();
    const Json* had = earlier_point(earlier, points[i].place.name);
    const bool played = had == nullptr || tally.hits.load() > had->value("kills", 0U);
    kills += tally.hits.load();
    list.push_back({{"point", points[i].place.name},
                    {"place", points[i].place.file + ":" + std::to_string(points[i].place.line)},
                    {"dies", points[i].in_daemon ? "daemon" : "client"},
                    {"way", way == kNoWay ? "" : way_name(points[i], way)},
                    {"kills", tally.hits.load()},
                    {"commit", played ? options.commit : had->value("commit", "unknown")}});
  }
  return {{"commit", options.commit},
          {"date", date_now()},
          {"processors", ::get_nprocs()},
          {"matrix",
           {{"points", points.size()},
            {"rounds", options.rounds},
            {"kills", kills},
            {"seconds", std::round(matrix_seconds + before.value("seconds", 0.0))},
            {"never_hit", verdict.never_hit},
            {"losses", verdict.wrong},
            {"longest_pause_of_a_writer_ms",
             std::max(ms(matrix.longest_pause_ns.load()), before.value("longest_pause_of_a_writer_ms", 0.0))},
            {"longest_work_of_the_next_client_ms",
             std::max(ms(matrix.longest_next_ns.load()), before.value("longest_work_of_the_next_client_ms", 0.0))}}},
          {"storm", storm},
          {"points", list}};
}

Json storm_report(const StormCounts& storm, uint64_t rounds, uint64_t pause_ns, const std::string& commit) {
  return {{"commit", commit},
          {"seconds", std::round(storm.seconds)},
          {"requests", rounds},
          {"daemon_kills", storm.daemon_kills},
          {"daemon_kills_at_points", storm.daemon_kills_at_points},
          {"daemon_stops", storm.daemon_stops},
          {"writer_kills", storm.writer_kills},
          {"reader_kills", storm.reader_kills},
          {"writer_and_daemon_kills", storm.both_kills},
          {"comparisons", storm.judged},
          {"losses", 0},  // the first one ends the run
          {"longest_pause_of_a_writer_ms", std::round(static_cast<double>(pause_ns) / 1e5) / 10}};
}

// One line a point.
std::string text_of_report(const Json& report) {
  std::string text = "{";
  for (const auto& [key, value] : report.items()) {
    if (key == "points") continue;
    text += "\"" + key + "\": " + value.dump() + ",\n ";
  }
  text += "\"points\": [";
  const char* before = "\n  ";
  for (const Json& point : report["points"]) {
    text += before + point.dump();
    before = ",\n  ";
  }
  return text + "\n ]}\n";
}

// What an earlier run wrote; an empty object where there is none.
Json read_report(const std::string& path) {
  FILE* file = std::fopen(path.c_str(), "r");
  if (file == nullptr) return Json::object();
  Json report = Json::parse(file, nullptr, false);
  std::fclose(file);
  require(report.is_object() && report.contains("points"), "%s is no report of killtest: move it away", path.c_str());
  return report;
}

// The kills that an earlier run has, so that only what lacks is played.
void take_over(const Json& earlier, const std::vector<Point>& points, Matrix& matrix) {
  for (size_t i = 0; i < points.size(); ++i) {
    const Json* had = earlier_point(earlier, points[i].place.name);
    if (had == nullptr || had->value("kills", 0U) == 0) continue;
    const std::string way = had->value("way", "");
    for (uint32_t w = 0; w < ways_of(points[i]); ++w) {
      if (way != way_name(points[i], w)) continue;
      matrix.tallies[i].way.store(w);
      matrix.tallies[i].hits.store(had->value("kills", 0U));
    }
  }
}

[[noreturn]] void usage(int code) {
  std::fputs(
      "usage: killtest [--rounds N] [--storm SECONDS] [--jobs N] [--only PREFIX] [--seed N] [--quick] [--limit SECONDS]\n"
      "                [--out FILE [--continue]] [--commit HASH]\n"
      "Kills daemon and clients at each of their failpoints N times (default 100), then for SECONDS (default 1200) at no\n"
      "particular place, and compares what is there with what was acknowledged. --quick: 1 round, 20 seconds.\n"
      "--limit: the kills at points end then; what is missing is said. --continue: kills that FILE has are not played again, "
      "nor\n"
      "is its storm when SECONDS is 0.\n"
      "Exit code 0: nothing lost, every point was hit.\n",
      code == 0 ? stdout : stderr);
  std::exit(code);
}

Options options_of(int argc, char** argv) {
  Options options;
  options.jobs = static_cast<uint32_t>(std::max(1, ::get_nprocs() - 1));
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    if (argument == "--help") usage(0);
    if (argument == "--quick") {
      options.rounds = 1;
      options.storm_seconds = 20;
      continue;
    }
    if (argument == "--continue") {
      options.go_on = true;
      continue;
    }
    if (i + 1 == argc) usage(2);
    const char* const value = argv[++i];
    if (argument == "--rounds") {
      options.rounds = static_cast<uint32_t>(number_of("killtest", argument, value));
    } else if (argument == "--storm") {
      options.storm_seconds = number_of("killtest", argument, value);
    } else if (argument == "--limit") {
      options.limit_seconds = number_of("killtest", argument, value);
    } else if (argument == "--jobs") {
      options.jobs = static_cast<uint32_t>(std::max<uint64_t>(number_of("killtest", argument, value), 1));
    } else if (argument == "--seed") {
      options.seed = number_of("killtest", argument, value);
    } else if (argument == "--only") {
      options.only = value;
    } else if (argument == "--out") {
      options.out = value;
    } else if (argument == "--commit") {
      options.commit = value;
    } else {
      usage(2);
    }
  }
  if (options.go_on && (options.out.empty() || !options.only.empty())) {
    std::fputs("killtest: --continue goes on with what --out names, and with all points\n", stderr);
    std::exit(2);
  }
  return options;
}

}  // namespace

int main(int argc, char** argv) {
  const Options options = options_of(argc, argv);
  if (!failpoints_built()) {
    std::fputs("killtest: this build has no failpoints (meson option `failpoints`)\n", stderr);
    return 2;
  }
  const std::vector<Point> points = all_points(options.only);
  require(!points.empty() && points.size() <= kPointsMax, "%zu points begin with \"%s\"", points.size(), options.only.c_str());

  Shared<Matrix> matrix;
  const Json earlier = options.go_on ? read_report(options.out) : Json::object();
  take_over(earlier, points, *matrix);
  const uint64_t begun_ns = base::monotonic_ns();
  if (options.rounds > 0) run_matrix(points, options, *matrix);
  const double matrix_seconds = static_cast<double>(base::monotonic_ns() - begun_ns) / 1e9;

  Json storm_json = earlier.contains("storm") ? earlier["storm"] : Json::object();
  if (options.storm_seconds > 0) {
    const auto storm = std::make_unique<Storm>(options.seed);
    const StormCounts counts = storm->run(options.storm_seconds);
    storm_json = storm_report(counts, storm->rounds(), storm->longest_pause_ns(), options.commit);
  }

  const std::string report = text_of_report(report_of(points, options, *matrix, matrix_seconds, earlier, storm_json));
  if (!write_report(report, options.out)) return 1;
  const Verdict verdict = verdict_of(points, options, *matrix);
  for (size_t i = 0; i < points.size() && options.rounds > 0; ++i) {
    const uint32_t hits = matrix->tallies[i].hits.load();
    if (hits < options.rounds) std::fprintf(stderr, "%s: %u of %u kills\n", points[i].place.name.c_str(), hits, options.rounds);
  }
  return options.rounds > 0 && verdict.too_few > 0 ? 1 : 0;
}
