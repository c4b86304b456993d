// Puts, one client, one at a time, until visible: beside one LMDB transaction each, and beside a process that only copies what it
// is handed. Replace meets slots that were used before, insert meets space that is new; both meet what the daemon has prepared
// ahead, and beside them is shown what they cost when they outrun it.
#include <algorithm>

#include "bench/exchange.hpp"
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

// What the three have in common. Batches of them take turns; `get_ready` is called before each of ours, `id_of` says the id of
// the i-th put of all.
template <typename GetReady, typename IdOf>
void measure(World& world, Lmdb& peer, Reporter& reporter, const std::string& name, size_t content_bytes, uint64_t n,
             uint64_t batch, GetReady&& get_ready, IdOf&& id_of) {
  Bytes bytes(content_bytes);
  bytes.make(1);
  const std::string whole(Id::bytes() + kRowBytes + content_bytes, 'x');
  Exchange exchange(whole.size());
  Samples ours(n);
  Samples theirs(n);
  Samples least(n);
  const auto sample = [&](Samples& samples, const auto& operation) {
    const uint64_t from = ticks();
    operation();
    samples.add(ticks() - from);
  };
  for (uint64_t done = 0; done < n; done += batch) {
    get_ready();
    for (uint64_t i = done; i < done + batch; ++i) {
      const Id id = id_of(i);
      bytes.mark(i);
      sample(ours, [&] { put_or_stop(world.client(), id, bytes); });
    }
    for (uint64_t i = done; i < done + batch; ++i) {
      const Id id = id_of(i);
      bytes.mark(i);
      sample(theirs, [&] { peer.put(id, bytes); });
    }
    exchange.wake();
    for (uint64_t i = 0; i < batch; ++i) sample(least, [&] { exchange.hand_over(whole.data(), whole.size()); });
    exchange.rest();
  }
  Result result = result_of("put_visible", name + ", " + std::to_string(content_bytes) + " bytes", ours);
  against_peer(result, "lmdb", theirs);
  against_limit(result, least.percentile_ns(0.5));
  reporter.say(result);
}

void replaces(World& world, Lmdb& peer, const Settings& settings, Reporter& reporter, size_t content_bytes, bool beyond) {
  const uint64_t batch = batch_of(content_bytes);
  measure(
      world, peer, reporter, beyond ? "replace beyond prepared" : "replace", content_bytes, settings.quick ? 4'000 : 40'000,
      batch,
      [&] {
        world.await_free(batch + 1024);
        if (!beyond) world.await_prepared(batch + 1024);
      },
      [&](uint64_t i) { return Id(mix(i + content_bytes) % settings.records); });
}

void inserts(World& world, Lmdb& peer, const Settings& settings, Reporter& reporter, size_t content_bytes, uint64_t first_key,
             bool beyond) {
  const uint64_t n = settings.quick ? 4'000 : beyond ? 60'000 : 40'000;
  const uint64_t batch = beyond ? n : batch_of(content_bytes);
  measure(
      world, peer, reporter, beyond ? "insert beyond prepared" : "insert", content_bytes, n, batch,
      [&] {
        if (!beyond) world.await_prepared(batch + 1024);
      },
      [&](uint64_t i) { return Id(first_key + i); });
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
    const uint64_t per_size = settings.quick ? 8'500 : 45'000;
    World world(settings, settings.records + per_size * std::size(kSizes) + 4 * 65'536, settings.records, kLoadedContentBytes);
    Lmdb peer(world.daemon().directory() + "/lmdb", settings.records, kLoadedContentBytes);
    uint64_t first_key = settings.records;
    for (const size_t content_bytes : kSizes) {
      inserts(world, peer, settings, reporter, content_bytes, first_key, false);
      first_key += per_size;
    }
    inserts(world, peer, settings, reporter, 100, first_key, true);
  }
}

}  // namespace warmtier::bench
