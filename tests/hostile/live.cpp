#include "tests/hostile/live.hpp"

#include <grp.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>

#include "tests/support/records.hpp"
#include "tests/support/trouble.hpp"

namespace warmtier::tests::hostile {
namespace {

using namespace warmtier::tests::support;

constexpr Shape kShape{.dimensions = 16, .content_bytes_max = 600};
constexpr uint64_t kSmallRounds = 8;  // to one with large content and an attachment of its own
constexpr size_t kLargeBytes = 300'000;

StoreOptions store_options() {
  StoreOptions options;
  options.capacity = 16384;
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
  const auto wrong = [&](int line) {
    std::fprintf(stderr, "the honest user, line %d: %s\n", line, warm_last_error());
    ground.wrong.store(line);
    return 1;
  };
  if (!become(kHonestUser)) return wrong(__LINE__);
  warm_client* client = nullptr;
  if (daemon.try_open(&client) != WARM_OK) return wrong(__LINE__);
  for (uint64_t round = 0; !ground.stop_honest.load(); ++round) {
    for (uint64_t i = 0; i < kSmallRounds; ++i) {
      const uint64_t key = (round * kSmallRounds + i) % kHonestKeys;
      const uint32_t version = ground.acknowledged[key].load() + 1;
      const uint64_t begun_ns = base::monotonic_ns();
      if (put_record(client, kShape, key, version) != WARM_OK) return wrong(__LINE__);
      const uint64_t took_ns = base::monotonic_ns() - begun_ns;
      const uint64_t place = ground.puts.fetch_add(1);
      if (place < kLatenciesKept) ground.put_ns[place].store(static_cast<uint32_t>(std::min<uint64_t>(took_ns, UINT32_MAX)));
      ground.acknowledged[key].store(version);
      uint32_t seen = 0;
      if (check_record(client, kShape, key, &seen) != WARM_OK || seen != version) return wrong(__LINE__);
    }
    if (put_large(client, static_cast<uint32_t>(round)) != WARM_OK) return wrong(__LINE__);
    warm_client* another = nullptr;
    if (daemon.try_open(&another) != WARM_OK || warm_close(another) != WARM_OK) return wrong(__LINE__);
    ground.honest_rounds.advance();
  }
  return warm_close(client) == WARM_OK ? 0 : wrong(__LINE__);
}

}  // namespace

bool become(uid_t user) {
  if (::geteuid() != 0) return true;
  return ::setgroups(0, nullptr) == 0 && ::setresgid(user, user, user) == 0 && ::setresuid(user, user, user) == 0;
}

int burn(const Daemon&, Ground& ground, Chance& chance) {
  std::vector<uint64_t> memory(1 << 20);
  while (!ground.stop_hostile.load(std::memory_order_relaxed)) {
    for (int i = 0; i < 4096; ++i) memory[chance.below(memory.size())] = chance.next();
    ground.hostile_rounds.advance();
  }
  return 0;
}

Scene::Scene() : daemon_(store_options()) {
  if (::chmod(daemon_.directory().c_str(), 0755) != 0) give_up("chmod");
  std::ofstream(daemon_.configuration_path(), std::ios::app) << "[access.users]\n"
                                                             << kHonestUser << " = \"write\"\n"
                                                             << kHostileUser << " = \"write\"\n";
  daemon_.start();
  honest_ = Process::fork([this] { return honest_user(daemon_, *ground_); });
  await(ground_->honest_rounds, 1, "at the start");
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

uint64_t Scene::p99_under(const Attack& attack, uint64_t ns) {
  std::vector<Process> hostile = begin(attack, 1);
  await(ground_->honest_rounds, ground_->honest_rounds.now() + 2, attack.name);
  ground_->puts.store(0);
  const base::Deadline deadline = base::Deadline::after_ns(ns);
  while (!deadline.passed()) await(ground_->honest_rounds, ground_->honest_rounds.now() + 1, attack.name);
  const size_t count = std::min<uint64_t>(ground_->puts.load(), kLatenciesKept);
  std::vector<uint32_t> latencies(count);
  for (size_t i = 0; i < count; ++i) latencies[i] = ground_->put_ns[i].load();
  end(hostile, attack.name);
  std::ranges::sort(latencies);
  return latencies[count - 1 - count / 100];
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
