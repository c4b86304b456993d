// Puts, one client, one at a time, until visible: beside one LMDB transaction each. Replace meets slots that were used before,
// insert meets space that is new; both meet what the daemon has prepared ahead, and beside them is shown what they cost when they
// outrun it.
#include <algorithm>

#include "bench/lmdb_peer.hpp"
#include "bench/world.hpp"

namespace warmtier::bench {
namespace {

constexpr size_t kLoadedContentBytes = 100;
constexpr uint64_t kSpareSlots = 32 * layout::kSlotsPerChunk;
// Less than the daemon keeps prepared, in slots and in bytes of content.
constexpr uint64_t kBatchSlots = 4096;
constexpr uint64_t kBatchContentBytes = uint64_t{2} << 20;
constexpr size_t kSizes[] = {10, 100, 1000, 10000};

uint64_t batch_of(size_t content_bytes) { return std::min(kBatchSlots, kBatchContentBytes / content_bytes); }

void replaces(World& world, Lmdb& peer, const Settings& settings, Reporter& reporter, size_t content_bytes, bool beyond) {
  const uint64_t n = settings.quick ? 4'000 : 40'000;
  const uint64_t batch = batch_of(content_bytes);
  Bytes bytes(content_bytes);
  bytes.make(1);
  Samples ours(n);
  Samples theirs(n);
  uint64_t random = 7;
  while (ours.size() < n) {
    world.await_free(batch + 1024);
    if (!beyond) world.await_prepared(batch + 1024);
    for (uint64_t i = 0; i < batch; ++i) {
      const Id id(mix(random + i) % settings.records);
      bytes.mark(i);
      const uint64_t from = ticks();
      put_or_stop(world.client(), id, bytes);
      ours.add(ticks() - from);
    }
    for (uint64_t i = 0; i < batch; ++i) {
      const Id id(mix(random + i) % settings.records);
      bytes.mark(i);
      const uint64_t from = ticks();
      peer.put(id, bytes);
      theirs.add(ticks() - from);
    }
    random += batch;
  }
  Result result = result_of(
      "put_visible", (beyond ? "replace beyond prepared, " : "replace, ") + std::to_string(content_bytes) + " bytes", ours);
  against_peer(result, "lmdb", theirs);
  reporter.say(result);
}

void inserts(World& world, Lmdb& peer, const Settings& settings, Reporter& reporter, size_t content_bytes, uint64_t& next_key,
             bool beyond) {
  const uint64_t n = settings.quick ? 4'000 : beyond ? 60'000 : 40'000;
  const uint64_t batch = beyond ? n : batch_of(content_bytes);
  Bytes bytes(content_bytes);
  bytes.make(2);
  Samples ours(n);
  Samples theirs(n);
  while (ours.size() < n) {
    if (!beyond) world.await_prepared(batch + 1024);
    const uint64_t first = next_key;
    for (; next_key < first + batch; ++next_key) {
      const Id id(next_key);
      bytes.mark(next_key);
      const uint64_t from = ticks();
      put_or_stop(world.client(), id, bytes);
      ours.add(ticks() - from);
    }
    for (uint64_t key = first; key < next_key; ++key) {
      const Id id(key);
      bytes.mark(key);
      const uint64_t from = ticks();
      peer.put(id, bytes);
      theirs.add(ticks() - from);
    }
  }
  Result result = result_of("put_visible",
                            (beyond ? "insert beyond prepared, " : "insert, ") + std::to_string(content_bytes) + " bytes", ours);
  against_peer(result, "lmdb", theirs);
  reporter.say(result);
}

}  // namespace

void bench_put_visible(const Settings& settings, Reporter& reporter) {
  {
    // So tight a store that every slot beyond the records was used before, once the spare ones are through.
    const uint64_t capacity =
        (settings.records + layout::kSlotsPerChunk - 1) / layout::kSlotsPerChunk * layout::kSlotsPerChunk + kSpareSlots;
    World world(settings, capacity, settings.records, kLoadedContentBytes);
    Lmdb peer(world.daemon().directory() + "/lmdb", settings.records, kLoadedContentBytes);
    Bytes bytes(kLoadedContentBytes);
    bytes.make(3);
    for (uint64_t i = 0; i < kSpareSlots + kBatchSlots; ++i) put_or_stop(world.client(), Id(i % settings.records), bytes);
    for (const size_t content_bytes : kSizes) replaces(world, peer, settings, reporter, content_bytes, false);
    replaces(world, peer, settings, reporter, 100, true);
  }
  {
    const uint64_t per_size = settings.quick ? 8'000 : 45'000;
    World world(settings, settings.records + per_size * std::size(kSizes) + 4 * 65'536, settings.records, kLoadedContentBytes);
    Lmdb peer(world.daemon().directory() + "/lmdb", settings.records, kLoadedContentBytes);
    uint64_t next_key = settings.records;
    for (const size_t content_bytes : kSizes) inserts(world, peer, settings, reporter, content_bytes, next_key, false);
    inserts(world, peer, settings, reporter, 100, next_key, true);
  }
}

}  // namespace warmtier::bench
