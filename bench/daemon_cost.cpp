// What the daemon costs while nothing happens, what a record costs beyond its own bytes, and what a process that reads costs.
#include <fcntl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <numeric>
#include <string_view>

#include "base/fd.hpp"
#include "base/mapping.hpp"
#include "bench/world.hpp"

namespace warmtier::bench {
namespace {

using tests::support::Process;
using tests::support::Shared;
using tests::support::Steps;

constexpr unsigned kIdleClients = 100;
constexpr unsigned kWorkers = 60;

// Of a file of /proc/PID whose lines are "Name:   number", with or without a unit.
uint64_t number_in(pid_t pid, const char* name, std::string_view field) {
  std::ifstream file("/proc/" + std::to_string(pid) + "/" + name);
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with(field)) return std::stoull(line.substr(field.size()));
  }
  stop_because(std::string("/proc says nothing of ") + std::string(field));
}
uint64_t status_kb(pid_t pid, const char* field) { return number_in(pid, "status", field); }

// Pages of a file that are in memory, whoever maps them.
uint64_t cached_bytes(const std::filesystem::path& path) {
  auto file = base::open_at(AT_FDCWD, path.c_str(), O_RDONLY);
  if (!file) stop_because(file.error().text);
  const uint64_t bytes = *base::file_bytes(file->get());
  if (bytes == 0) return 0;
  const auto map = base::ReadMapping::map(file->get(), bytes);
  if (!map) stop_because(map.error().text);
  const uint64_t pages = (bytes + layout::kPageBytes - 1) / layout::kPageBytes;
  std::vector<unsigned char> resident(pages);
  if (::mincore(const_cast<std::byte*>(map->data()), bytes, resident.data()) != 0)
    stop_because("mincore failed on " + path.string());
  uint64_t in_memory = 0;
  for (const unsigned char page : resident) in_memory += page & 1U;
  return in_memory * layout::kPageBytes;
}

// The store's files in the page cache; the daemon's own memory and its memfds (index, feed, status, channels, sessions). Space
// that is there ahead, for slots and for content, is there however many records there are, but not always the same: it is left
// out.
double memory_of(World& world) {
  uint64_t sum = (status_kb(world.daemon().pid(), "RssAnon:") + status_kb(world.daemon().pid(), "RssShmem:")) * 1024;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(world.daemon().store())) {
    if (entry.is_regular_file() && entry.path().parent_path().filename() != "content") sum += cached_bytes(entry.path());
  }
  const warm_stats stats = tests::support::stats_of(world.client());
  sum += stats.content_bytes_total + stats.segments * sizeof(layout::SegmentHeader);
  const uint64_t free = layout::load_relaxed(world.status().slots_free) * (kRowBytes + sizeof(layout::SlotLine));
  return static_cast<double>(sum) - static_cast<double>(free);
}

// Of pages that this process made dirty on a file system that writes them: they go to the device, unless they are gone before.
uint64_t dirtied_bytes(pid_t pid) { return number_in(pid, "io", "write_bytes:"); }

}  // namespace

void bench_idle(const Settings& settings, Reporter& reporter) {
  World world(settings, 65'536, 1'000, 100);
  Shared<Steps> attached;
  std::vector<Process> clients;
  for (unsigned i = 0; i < kIdleClients; ++i) {
    clients.push_back(Process::fork([&] {
      warm_client* client = nullptr;
      if (world.daemon().try_open(&client) != WARM_OK) return 1;
      warm_view view = WARM_VIEW_INIT;
      const Id id(i);
      if (warm_get(client, id.data(), Id::bytes(), 0, &view) != WARM_OK) return 2;
      attached->advance();
      for (;;) ::pause();
    }));
  }
  attached->await(kIdleClients, "idle clients attach");
  // A checkpoint of what was loaded is not idleness.
  world.await_durable();

  const uint64_t seconds = settings.quick ? 5 : 30;
  const uint64_t before_ms = tests::support::cpu_time_ms(world.daemon().pid());
  // The span itself is measured: what a daemon costs to which nothing happens.
  const timespec span{.tv_sec = static_cast<time_t>(seconds), .tv_nsec = 0};
  ::nanosleep(&span, nullptr);
  const uint64_t after_ms = tests::support::cpu_time_ms(world.daemon().pid());
  Result result = single("idle", std::to_string(kIdleClients) + " clients, " + std::to_string(seconds) + " s", kIdleClients, "ms",
                         static_cast<double>(after_ms - before_ms));
  against_limit(result, 10);
  reporter.say(result);
}

void bench_written(const Settings& settings, Reporter& reporter) {
  constexpr size_t kContentBytes = 100;
  constexpr timespec kPause{.tv_sec = 0, .tv_nsec = 100'000'000};
  Settings own = settings;
  own.checkpoint_interval_ms = 1'000;
  const uint64_t records = std::max<uint64_t>(settings.quick ? settings.records / 10 : settings.records, 1);
  World world(own, records + 65'536, records, kContentBytes);
  Bytes bytes(kContentBytes);
  bytes.make(1);
  uint64_t random = 5;
  const auto replace = [&] { put_or_stop(world.client(), Id(mix(++random) % records), bytes); };
  // Free slots are everywhere then; and what so many puts called for is forgotten.
  for (uint64_t i = 0; i < records; ++i) replace();
  for (unsigned i = 0; i < 24; ++i) {
    replace();
    world.await_durable();
  }
  const uint64_t puts = settings.quick ? 50 : 300;
  const uint64_t before = dirtied_bytes(world.daemon().pid());
  for (uint64_t i = 0; i < puts; ++i) {
    replace();
    ::nanosleep(&kPause, nullptr);  // what is measured is a store with few puts
  }
  world.await_durable();
  const uint64_t after = dirtied_bytes(world.daemon().pid());
  reporter.say(single("written", "replaces of random ids, ten a second, each", puts, "bytes",
                      static_cast<double>(after - before) / static_cast<double>(puts)));
}

void bench_memory(const Settings& settings, Reporter& reporter) {
  constexpr size_t kContentBytes = 100;
  World world(settings, settings.records + 65'536, 0, 0);
  world.await_prepared(1);
  const auto settled = [&] {
    world.await_durable();
    world.await_preparing_done(1, 500 * base::kNsPerMs);
  };
  settled();
  const double before = memory_of(world);
  world.load(0, settings.records, kContentBytes);
  settled();
  const double after = memory_of(world);

  const auto n = static_cast<double>(settings.records);
  const auto payload = static_cast<double>(Id::bytes() + kRowBytes + kContentBytes + kScalarBytes);
  const double beyond = (after - before) / n - payload;
  Result result =
      single("memory", std::to_string(settings.records) + " records, beyond payload", settings.records, "bytes", beyond);
  against_limit(result, 100);
  reporter.say(result);
}

// Workers that have read every record, as a service manager, `top` and a container's limit see them.
void bench_workers(const Settings& settings, Reporter& reporter) {
  const uint64_t records = settings.quick ? settings.records / 10 : settings.records;
  World world(settings, records + 65'536, records, 100);
  Shared<Steps> read;
  std::vector<Process> workers;
  for (unsigned who = 0; who < kWorkers; ++who) {
    // The parent is attached; a child attaches by itself at its first get.
    workers.push_back(Process::fork([&]() -> int {
      for (uint64_t key = 0; key < records; ++key) keep(get_ends(world.client(), Id(key)));
      read->advance();
      for (;;) ::pause();
    }));
  }
  read->await(kWorkers, "every worker has read every record");

  std::vector<double> rss;
  std::vector<double> pss;
  std::vector<double> own;
  std::vector<double> tables;
  for (const Process& worker : workers) {
    const auto mb = [&](const char* file, const char* field) {
      return static_cast<double>(number_in(worker.pid(), file, field)) / 1024;
    };
    rss.push_back(mb("smaps_rollup", "Rss:"));
    pss.push_back(mb("smaps_rollup", "Pss:"));
    own.push_back(mb("smaps_rollup", "Private_Clean:") + mb("smaps_rollup", "Private_Dirty:"));
    tables.push_back(mb("status", "VmPTE:"));
  }
  const auto sum_of = [](const std::vector<double>& values) { return std::accumulate(values.begin(), values.end(), 0.0); };
  const std::string name = std::to_string(kWorkers) + " workers, " + std::to_string(records) + " records, ";
  const auto say = [&](const char* what, uint64_t n, double value) {
    reporter.say(single("workers", name + what, n, "MB", value));
  };
  say("RSS of one", kWorkers, sum_of(rss) / kWorkers);
  say("PSS of one", kWorkers, sum_of(pss) / kWorkers);
  say("its own pages", kWorkers, sum_of(own) / kWorkers);
  say("its page tables", kWorkers, sum_of(tables) / kWorkers);
  // Each shared page once: what the host needs for all of them.
  double all = sum_of(pss) + sum_of(tables);
  for (const pid_t pid : {world.daemon().pid(), ::getpid()})
    all += static_cast<double>(number_in(pid, "smaps_rollup", "Pss:")) / 1024;
  say("PSS and page tables of all and the daemon", kWorkers + 2, all);
}

}  // namespace warmtier::bench
