// Gets of random ids: beside LMDB, and beside the least that this way of finding a record can cost. Batches of the three take
// turns, so that each meets the same machine and the same caches.
#include "base/assert.hpp"
#include "bench/chain.hpp"
#include "bench/lmdb_peer.hpp"
#include "bench/world.hpp"

namespace warmtier::bench {
namespace {

constexpr size_t kContentBytes = 100;
constexpr uint64_t kBatch = 500;

}  // namespace

void bench_get_random(const Settings& settings, Reporter& reporter) {
  const uint64_t records = settings.records;
  WARM_ASSERT(records > 0);
  World world(settings, records + 65536, records, kContentBytes);
  Lmdb peer(world.daemon().directory() + "/lmdb", records, kContentBytes);
  const Chain chain(world.daemon().store(), records);

  // Every page of every map is touched once: what is measured is memory, not faults.
  for (uint64_t key = 0; key < records; ++key)
    keep(get_ends(world.client(), Id(key)) + peer.get(Id(key)) + chain.get(chain.place_of(key)));

  const uint64_t n = settings.quick ? 20'000 : 300'000;
  Samples ours(n);
  Samples theirs(n);
  Samples least(n);
  uint64_t random = 1;
  std::vector<uint64_t> keys(kBatch);
  std::vector<Id> ids;
  for (uint64_t done = 0; done < n; done += kBatch) {
    // A batch of keys of its own for each of the three: what one has read is not warm for the next.
    for (int who = 0; who < 3; ++who) {
      ids.clear();
      for (uint64_t& key : keys) {
        key = mix(random++) % records;
        ids.emplace_back(key);
      }
      for (uint64_t i = 0; i < kBatch; ++i) {
        const uint32_t place = chain.place_of(keys[i]);
        const uint64_t from = ticks();
        const uint64_t sum = who == 0 ? get_ends(world.client(), ids[i]) : who == 1 ? peer.get(ids[i]) : chain.get(place);
        keep(sum);
        const uint64_t to = ticks();
        (who == 0 ? ours : who == 1 ? theirs : least).add(to - from);
      }
    }
  }
  Result result = result_of("get_random", std::to_string(records) + " records", ours);
  against_peer(result, "lmdb", theirs);
  against_limit(result, least.percentile_ns(0.5));
  reporter.say(result);
}

}  // namespace warmtier::bench
