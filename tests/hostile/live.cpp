#include "tests/hostile/live.hpp"

#include <sched.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>

#include "tests/support/records.hpp"
#include "tests/support/trouble.hpp"

namespace warmtier::tests::hostile {
namespace {

using namespace warmtier::tests::support;

constexpr Shape kShape{.dimensions = 16, .content_bytes_max = 600};
constexpr uint64_t kSmallRounds = 64;
// Large content and an attachment, between small puts: too seldom for the 99th percentile of those to be about them.
constexpr uint64_t kSeldomNs = 200 * base::kNsPerMs;
constexpr size_t kLargeBytes = 300'000;

StoreOptions store_options() {
  StoreOptions options;
  options.capacity = 65536;  // more than hold_everything holds
  options.failpoints = false;  // their file is not a stranger's
  options.checkpoint_interval_ms = 200;
  return options;
}

// Large content, by the socket.
int put_large(warm_client* client, uint32_t version) {
  const std::string content(kLargeBytes, static_cast<char>('a' + version % 26));
  const std::vector<float> embedding(kShape.dimensions, 1.0F);
  warm_memory memory = WARM_MEMORY_INIT;
  memory.id = "large";
  memory.id_bytes = 5;
  memory.embedding = embedding.data();
  memory.dimensions = kShape.dimensions;
  memory.content = content.data();
  memory.content_bytes = content.size();
  memory.given = WARM_GIVEN_CONTENT;
  if (const int code = warm_put(client, &memory, nullptr); code != WARM_OK) return code;
  warm_view view = WARM_VIEW_INIT;
  if (const int code = warm_get(client, "large", 5, 0, &view); code != WARM_OK) return code;
  const bool same =
      view.content_bytes == content.size() && std::equal(content.begin(), content.end(), static_cast<const char*>(view.content));
  warm_release(client, &view);
  return same ? WARM_OK : WARM_E_CORRUPT;
}

int honest_user(const Daemon& daemon, Ground& ground) {
  warm_client* client = nullptr;
  const auto wrong = [&](int line) {
    std::fprintf(stderr, "the honest user, line %d: %s\n", line, warm_last_error());
    warm_stats stats = WARM_STATS_INIT;
    if (client != nullptr && warm_stats_get(client, &stats) == WARM_OK) {
      // Whether the store had no slot to give, or nobody served.
      std::fprintf(stderr,
                   "%lu puts; slots: %lu allocated, %lu free, %lu waiting, %lu held; checkpoint %lu, %lu of %lu durable\n",
                   stats.puts, stats.slots_allocated, stats.slots_free, stats.slots_waiting, stats.slots_held, stats.checkpoints,
                   stats.sequence_durable, stats.sequence);
    }
    ground.wrong.store(line);
    return 1;
  };
  if (!become(kHonestUser)) return wrong(__LINE__);
  if (daemon.try_open(&client) != WARM_OK) return wrong(__LINE__);
  base::Deadline seldom = base::Deadline::after_ns(0);
  for (uint64_t round = 0; !ground.stop_honest.load(); ++round) {
    for (uint64_t i = 0; i < kSmallRounds; ++i) {
      const uint64_t key = (round * kSmallRounds + i) % kHonestKeys;
      const uint32_t version = ground.acknowledged[key].load() + 1;
      const uint64_t begun_ns = base::monotonic_ns();
      if (put_record(client, kShape, key, version) != WARM_OK) return wrong(__LINE__);
      const uint64_t took_ns = base::monotonic_ns() - begun_ns;
      ground.puts.add(took_ns);
      ground.acknowledged[key].store(version);
      uint32_t seen = 0;
      if (check_record(client, kShape, key, &seen) != WARM_OK || seen != version) return wrong(__LINE__);
    }
    if (!seldom.passed()) continue;
    seldom = base::Deadline::after_ns(kSeldomNs);
    if (put_large(client, static_cast<uint32_t>(round)) != WARM_OK) return wrong(__LINE__);
    warm_client* another = nullptr;
    const uint64_t begun_ns = base::monotonic_ns();
    if (daemon.try_open(&another) != WARM_OK) return wrong(__LINE__);
    ground.attachments.add(base::monotonic_ns() - begun_ns);
    if (warm_close(another) != WARM_OK) return wrong(__LINE__);
    ground.honest_rounds.advance();
  }
  return warm_close(client) == WARM_OK ? 0 : wrong(__LINE__);
}

enum class Half { first, second };
void stay_in(Half half) {
  cpu_set_t all;
  CPU_ZERO(&all);
  if (::sched_getaffinity(0, sizeof all, &all) != 0) give_up("sched_getaffinity");
  static const cpu_set_t allowed = all;  // as it was at the first call
  const int count = CPU_COUNT(&allowed);
  if (count < 2) give_up("one processor has no halves");
  cpu_set_t part;
  CPU_ZERO(&part);
  int seen = 0;
  for (int processor = 0; processor < CPU_SETSIZE; ++processor) {
    if (!CPU_ISSET(processor, &allowed)) continue;
    if ((seen++ < count / 2) == (half == Half::first)) CPU_SET(processor, &part);
  }
  if (::sched_setaffinity(0, sizeof part, &part) != 0) give_up("sched_setaffinity");
}

// Processor time in ns.
struct ThreadTimes {
  uint64_t store = 0;
  uint64_t intake = 0;
  uint64_t others = 0;
};
ThreadTimes thread_times(pid_t pid) {
  ThreadTimes times;
  for (const auto& task : std::filesystem::directory_iterator("/proc/" + std::to_string(pid) + "/task")) {
    std::string name;
    uint64_t ns = 0;
    std::ifstream(task.path() / "comm") >> name;
    std::ifstream(task.path() / "schedstat") >> ns;
    (task.path().filename() == std::to_string(pid) ? times.store : name == "intake" ? times.intake : times.others) += ns;
  }
  return times;
}

double us_at(const std::vector<uint32_t>& sorted_ns, double part) {
  if (sorted_ns.empty()) return 0;
  return sorted_ns[static_cast<size_t>(static_cast<double>(sorted_ns.size() - 1) * part)] / 1e3;
}

constexpr uint64_t kSettleNs = 3 * base::kNsPerSecond;  // what an attack may do at once is behind it

}  // namespace

std::vector<uint32_t> Latencies::sorted() const {
  std::vector<uint32_t> sorted(std::min<uint64_t>(count_.load(), kLatenciesKept));
  for (size_t i = 0; i < sorted.size(); ++i) sorted[i] = ns_[i].load();
  std::ranges::sort(sorted);
  return sorted;
}

bool become(uid_t user) {
  if (::geteuid() != 0) return true;
  return support::become(user, user);
}

int burn(const Daemon&, Ground& ground, Chance& chance) {
  std::vector<uint64_t> memory(1 << 20);
  while (!ground.stop_hostile.load(std::memory_order_relaxed)) {
    for (int i = 0; i < 4096; ++i) memory[chance.below(memory.size())] = chance.next();
    ground.hostile_rounds.advance();
  }
  return 0;
}

Scene::Scene(bool apart) : apart_(apart), daemon_(store_options()) {
  if (apart_) stay_in(Half::first);  // and what is begun here

  if (::chmod(daemon_.directory().c_str(), 0755) != 0) give_up("chmod");
  std::ofstream(daemon_.configuration_path(), std::ios::app) << "[access.users]\n"
                                                             << kHonestUser << " = \"write\"\n"
                                                             << kHostileUser << " = \"write\"\n";
  // Where the first half is one processor, who looks for work keeps the honest user from handing it in.
  if (apart_) std::ofstream(daemon_.configuration_path(), std::ios::app) << "[daemon]\nspin_us = 0\n";
  daemon_.start();
  honest_ = Process::fork([this] { return honest_user(daemon_, *ground_); });
  await(ground_->honest_rounds, 1, "at the start");
  if (apart_) stay_in(Half::second);
}

std::vector<Process> Scene::begin(const Attack& attack, unsigned processes) {
  ground_->stop_hostile.store(false);
  std::vector<Process> hostile;
  for (unsigned i = 0; i < processes; ++i) {
    hostile.push_back(Process::fork([&] {
      Chance chance(mix(++seed_ * 64 + i));
      return attack.run(daemon_, *ground_, chance);
    }));
  }
  seed_ += processes;
  return hostile;
}

void Scene::end(std::vector<Process>& hostile, const char* name) {
  ground_->stop_hostile.store(true);
  for (Process& process : hostile) {
    const Process::End end = process.wait();
    // It may well have fallen over what it did to its own memory.
    if (end.exited && end.code != 0) give_up(std::string(name) + ": the attack did not even begin: " + text_of(end));
  }
  check_all_is_well(name);
}

void Scene::check_all_is_well(const char* name) {
  Process::End end;
  if (daemon_.process().wait_until(base::Deadline::after_ns(0), end))
    give_up(std::string(name) + ": the daemon ended: " + text_of(end) + "; it said:\n" + daemon_.log());
  if (ground_->wrong.load() != 0) {
    give_up(std::string(name) + ": the honest user was not served at live.cpp:" + std::to_string(ground_->wrong.load()) +
            "; the daemon said:\n" + daemon_.log());
  }
}

void Scene::await(Steps& steps, uint32_t at_least, const char* name) {
  const base::Deadline deadline = base::Deadline::after_ns(2 * kPatienceNs);
  while (!steps.wait_for(at_least, base::Deadline::after_ns(base::kNsPerSecond))) {
    check_all_is_well(name);
    if (deadline.passed()) give_up(std::string(name) + ": waited in vain");
  }
}

void Scene::under(const Attack& attack, uint32_t rounds, unsigned processes) {
  const uint32_t before = ground_->hostile_rounds.now();
  std::vector<Process> hostile = begin(attack, processes);
  await(ground_->hostile_rounds, before + 1, attack.name);
  await(ground_->honest_rounds, ground_->honest_rounds.now() + rounds, attack.name);
  end(hostile, attack.name);
}

Beside Scene::beside(const Attack& attack, uint64_t ns) {
  std::vector<Process> hostile = begin(attack, 1);
  const auto pass = [&](uint64_t for_ns) {
    const base::Deadline deadline = base::Deadline::after_ns(for_ns);
    while (!deadline.passed()) await(ground_->honest_rounds, ground_->honest_rounds.now() + 1, attack.name);
  };
  pass(attack.run == burn ? base::kNsPerSecond / 2 : kSettleNs);
  ground_->puts.reset();
  ground_->attachments.reset();
  const ThreadTimes before = thread_times(daemon_.pid());
  const uint64_t begun_ns = base::monotonic_ns();
  pass(ns);
  const auto seconds = static_cast<double>(base::monotonic_ns() - begun_ns) / 1e9;
  const ThreadTimes after = thread_times(daemon_.pid());
  const std::vector<uint32_t> puts = ground_->puts.sorted();
  const std::vector<uint32_t> attachments = ground_->attachments.sorted();
  end(hostile, attack.name);
  const auto ms = [&](uint64_t since, uint64_t until) { return static_cast<double>(until - since) / 1e6 / seconds; };
  return {.put_p50_us = us_at(puts, 0.5),
          .put_p99_us = us_at(puts, 0.99),
          .attach_p50_us = us_at(attachments, 0.5),
          .attach_p99_us = us_at(attachments, 0.99),
          .puts_per_s = static_cast<double>(puts.size()) / seconds,
          .store_ms = ms(before.store, after.store),
          .intake_ms = ms(before.intake, after.intake),
          .others_ms = ms(before.others, after.others)};
}

void Scene::finish() {
  ground_->stop_honest.store(true);
  const Process::End honest = honest_.wait();
  check_all_is_well("at the end");
  if (honest != exit_code(0)) give_up("the honest user: " + text_of(honest));
  for (int life = 0; life < 2; ++life) {
    const Client client(daemon_);
    for (uint64_t key = 0; key < kHonestKeys; ++key) {
      const uint32_t version = ground_->acknowledged[key].load();
      uint32_t seen = 0;
      const int code = check_record(client, kShape, key, &seen);
      if (code != (version == 0 ? WARM_E_NOT_FOUND : WARM_OK) || (version != 0 && seen != version))
        give_up("the honest user's record " + std::to_string(key) + " is not what was acknowledged");
    }
    if (life == 0) daemon_.stop_and_start();
  }
  if (const Process::End end = daemon_.stop(); end != exit_code(0))
    give_up("the daemon's stop: " + text_of(end) + "; it said:\n" + daemon_.log());
}

}  // namespace warmtier::tests::hostile
