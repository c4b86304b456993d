// How long a start takes, and how long writers and readers wait for one.
#include <algorithm>

#include "bench/world.hpp"

namespace warmtier::bench {
namespace {

constexpr size_t kContentBytes = 100;
constexpr uint64_t kReadyLimitMs = 1000;

void look_at_random_ids(World& world, uint64_t records) {
  Bytes bytes(kContentBytes);
  for (uint64_t i = 0; i < 1000; ++i) {
    const uint64_t key = mix(i) % records;
    bytes.make(key);
    const Id id(key);
    warm_view view = WARM_VIEW_INIT;
    if (warm_get(world.client(), id.data(), Id::bytes(), 0, &view) != WARM_OK)
      stop_because(std::string("after a start: ") + warm_last_error());
    if (std::memcmp(view.embedding, bytes.row(), kRowBytes) != 0 || view.content_bytes != kContentBytes ||
        std::memcmp(view.content, bytes.content().data(), kContentBytes) != 0) {
      stop_because("after a start record " + std::to_string(key) + " is wrong");
    }
    warm_release(world.client(), &view);
  }
}

}  // namespace

void bench_ready(const Settings& settings, Reporter& reporter) {
  const uint64_t records = settings.records_given ? settings.records : 1'000'000;
  World world(settings, records + 65'536, records, kContentBytes);
  for (const bool killed : {true, false}) {
    const unsigned runs = settings.quick ? 3 : 7;
    Samples samples(runs);
    for (unsigned run = 0; run < runs; ++run) {
      world.close();
      if (killed) {
        world.daemon().kill();
      } else if (const auto end = world.daemon().stop(); end != tests::support::exit_code(0)) {
        stop_because("the daemon's stop: " + tests::support::text_of(end));
      }
      const uint64_t from = ticks();
      world.daemon().start();
      samples.add(ticks() - from);
      world.open();
      look_at_random_ids(world, records);
    }
    Result result =
        result_of("ready", std::to_string(records) + (killed ? " records, after a kill" : " records, after a stop"), samples);
    result.unit = "ms";
    for (double* value : {&result.p50, &result.p99, &result.p999}) *value /= 1e6;
    against_limit(result, static_cast<double>(kReadyLimitMs));
    reporter.say(result);
  }
}

void bench_restart(const Settings& settings, Reporter& reporter) {
  World world(settings, settings.records + 65'536, settings.records, kContentBytes);
  const unsigned runs = settings.quick ? 3 : 9;
  Samples writes(runs);
  Samples reads(runs);
  Bytes bytes(kContentBytes);
  for (unsigned run = 0; run < runs; ++run) {
    bytes.make(run);
    world.daemon().kill();
    const uint64_t from = ticks();
    // A read in the dead daemon's maps, then the first write after the death: how long a client stands still.
    const Id id(run);
    if (warm_exists(world.client(), id.data(), Id::bytes()) != WARM_OK)
      stop_because(std::string("while dead: ") + warm_last_error());
    reads.add(ticks() - from);
    world.daemon().start_without_waiting();
    if (put(world.client(), id, bytes) != WARM_OK) stop_because(std::string("over a restart: ") + warm_last_error());
    writes.add(ticks() - from);
    if (!world.daemon().wait_ready(base::Deadline::after_ns(60 * base::kNsPerSecond)))
      stop_because("the daemon did not become ready");
  }
  Result read = result_of("restart", "read while the daemon is dead", reads);
  reporter.say(read);
  Result write = result_of("restart", "kill to the next put answered", writes);
  write.unit = "ms";
  for (double* value : {&write.p50, &write.p99, &write.p999}) *value /= 1e6;
  reporter.say(write);
}

}  // namespace warmtier::bench
