#include "bench/world.hpp"

#include <time.h>

#include <cinttypes>
#include <cstdio>
#include <cstdlib>
#include <fstream>

namespace warmtier::bench {
namespace {

tests::support::StoreOptions options_of(const Settings& settings, uint64_t capacity, uint32_t dimensions) {
  tests::support::StoreOptions options;
  options.dimensions = dimensions;
  options.capacity = capacity;
  options.segment_bytes = layout::kSegmentBytesDefault;
  options.failpoints = false;
  options.large_pages = settings.large_pages;
  options.checkpoint_interval_ms = settings.checkpoint_interval_ms;
  return options;
}

// Free and prepared slots and the daemon's sleep are words that wake nobody when they change: whoever waits looks again.
void look_again_soon() {
  const timespec pause{.tv_sec = 0, .tv_nsec = 200'000};
  ::nanosleep(&pause, nullptr);
}

}  // namespace

void stop_because(const std::string& what) {
  std::fprintf(stderr, "warmbench: %s\n", what.c_str());
  std::exit(1);
}

int put(warm_client* client, const Id& id, const Bytes& bytes) {
  warm_memory memory = WARM_MEMORY_INIT;
  memory.given = WARM_GIVEN_CONTENT;
  memory.id = id.data();
  memory.id_bytes = Id::bytes();
  memory.embedding = bytes.row();
  memory.dimensions = kDimensions;
  memory.content = bytes.content().data();
  memory.content_bytes = bytes.content().size();
  return warm_put(client, &memory, nullptr);
}

void put_or_stop(warm_client* client, const Id& id, const Bytes& bytes) {
  if (put(client, id, bytes) != WARM_OK) stop_because(std::string("put: ") + warm_last_error());
}

uint64_t get_ends(warm_client* client, const Id& id) {
  warm_view view = WARM_VIEW_INIT;
  if (const int code = warm_get(client, id.data(), Id::bytes(), 0, &view); code != WARM_OK)
    stop_because(std::string("get: ") + warm_last_error());
  const uint64_t sum = touch_ends(view.embedding, kRowBytes) + touch_ends(view.content, view.content_bytes);
  warm_release(client, &view);
  return sum;
}

World::World(const Settings& settings, uint64_t capacity, uint64_t records, size_t content_bytes)
    : daemon_(options_of(settings, capacity, kDimensions)) {
  daemon_.start();
  open();
  load(0, records, content_bytes);
}

void World::load(uint64_t from, uint64_t to, size_t content_bytes) {
  Bytes bytes(content_bytes);
  for (uint64_t key = from; key < to; ++key) {
    bytes.make(key);
    if (const int code = put(client(), Id(key), bytes); code != WARM_OK) {
      stop_because("record " + std::to_string(key) + ": " + warm_error_name(code) + ": " + warm_last_error());
    }
  }
}

const layout::StatusPage& World::status() {
  if (status_ != nullptr) return *status_;
  // The map is in this process already; its magic and its daemon tell which one it is.
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);) {
    uintptr_t from = 0;
    uintptr_t to = 0;
    char access[8] = {};
    if (std::sscanf(line.c_str(), "%" SCNxPTR "-%" SCNxPTR " %7s", &from, &to, access) != 3) continue;
    if (to - from != layout::kPageBytes || access[0] != 'r' || access[3] != 's' || line.find("memfd:") == std::string::npos)
      continue;
    const auto* page = reinterpret_cast<const layout::StatusPage*>(from);
    if (page->magic == layout::kStatusMagic && page->daemon_pid == static_cast<uint32_t>(daemon_.pid())) status_ = page;
  }
  if (status_ == nullptr) stop_because("the daemon's status page is not mapped here");
  return *status_;
}

void World::await_prepared(uint64_t slots) {
  const base::Deadline deadline = base::Deadline::after_ns(60 * base::kNsPerSecond);
  while (layout::load_relaxed(status().slots_prepared) < slots) {
    if (deadline.passed()) {
      stop_because("only " + std::to_string(layout::load_relaxed(status().slots_prepared)) + " of " + std::to_string(slots) +
                   " slots were prepared in 60 s");
    }
    look_again_soon();
  }
}

void World::await_preparing_done(uint64_t slots, uint64_t still_ns) {
  await_prepared(slots);
  uint64_t prepared = 0;
  uint64_t since_ns = 0;
  while (since_ns == 0 || base::monotonic_ns() - since_ns < still_ns) {
    if (const uint64_t now = layout::load_relaxed(status().slots_prepared); now != prepared || since_ns == 0) {
      prepared = now;
      since_ns = base::monotonic_ns();
    }
    look_again_soon();
  }
}

void World::await_durable() {
  const base::Deadline deadline = base::Deadline::after_ns(60 * base::kNsPerSecond);
  for (int code = WARM_E_BUSY; code != WARM_OK;) {
    code = warm_checkpoint(client(), nullptr);
    if (code != WARM_OK && (code != WARM_E_BUSY || deadline.passed()))
      stop_because(std::string("checkpoint: ") + warm_last_error());
  }
}

void World::await_asleep() {
  const base::Deadline deadline = base::Deadline::after_ns(60 * base::kNsPerSecond);
  while (layout::load_acquire(status().sleeping) == 0) {
    if (deadline.passed()) stop_because("the daemon did not fall asleep in 60 s");
    look_again_soon();
  }
}

void World::await_free(uint64_t slots) {
  const base::Deadline deadline = base::Deadline::after_ns(60 * base::kNsPerSecond);
  while (layout::load_relaxed(status().slots_free) < slots) {
    if (deadline.passed()) {
      stop_because("only " + std::to_string(layout::load_relaxed(status().slots_free)) + " of " + std::to_string(slots) +
                   " slots became free in 60 s");
    }
    look_again_soon();
  }
}

}  // namespace warmtier::bench
