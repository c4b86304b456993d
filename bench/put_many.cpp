// Many puts of one client: in one call, and as tickets, beside LMDB with as many in one transaction. Time is per record. They
// meet what the daemon has prepared ahead.
#include <algorithm>
#include <array>
#include <deque>

#include "bench/lmdb_peer.hpp"
#include "bench/world.hpp"

namespace warmtier::bench {
namespace {

constexpr size_t kContentBytes = 100;
constexpr size_t kBatch = 1000;
constexpr uint64_t kRoundsPerCheckpoint = 8;
constexpr uint64_t kSpareSlots = 32 * layout::kSlotsPerChunk;

// The memories of a batch, each with bytes of its own: nothing is in a cache because the one before it was the same.
class Batch {
 public:
  Batch() {
    for (size_t i = 0; i < kBatch; ++i) {
      Bytes& bytes = bytes_.emplace_back(kContentBytes);
      bytes.make(i);
      ids_.emplace_back(0);
      memories_.push_back(WARM_MEMORY_INIT);
    }
  }
  // Ids that follow from `random`, all different versions.
  void make(uint64_t random, uint64_t records) {
    for (size_t i = 0; i < kBatch; ++i) {
      ids_[i] = Id(mix(random + i) % records);
      bytes_[i].mark(random + i);
      warm_memory& memory = memories_[i];
      memory.given = WARM_GIVEN_CONTENT;
      memory.id = ids_[i].data();
      memory.id_bytes = Id::bytes();
      memory.embedding = bytes_[i].row();
      memory.dimensions = kDimensions;
      memory.content = bytes_[i].content().data();
      memory.content_bytes = kContentBytes;
    }
  }
  [[nodiscard]] const warm_memory* memories() const { return memories_.data(); }
  [[nodiscard]] const Id& id(size_t i) const { return ids_[i]; }
  [[nodiscard]] const Bytes& bytes(size_t i) const { return bytes_[i]; }

 private:
  std::deque<Bytes> bytes_;
  std::vector<Id> ids_;
  std::vector<warm_memory> memories_;
};

void must(int code, int expected, const char* what) {
  if (code != expected) stop_because(std::string(what) + ": " + warm_last_error());
}

void in_one_call(warm_client* client, const Batch& batch) {
  static std::array<warm_result, kBatch> results;
  must(warm_put_many(client, batch.memories(), kBatch, results.data()), WARM_OK, "put_many");
  for (const warm_result& result : results) must(result.code, WARM_OK, "put_many, an element");
}

// As many open as may be; harvested when they are at their limit.
void by_tickets(warm_client* client, const Batch& batch) {
  std::array<warm_completion, 64> completions;
  size_t submitted = 0;
  size_t harvested = 0;
  while (harvested < kBatch) {
    while (submitted < kBatch && submitted - harvested < WARM_TICKETS_MAX / 2) {
      warm_ticket ticket = 0;
      must(warm_put_submit(client, &batch.memories()[submitted], &ticket), WARM_OK, "submit");
      ++submitted;
    }
    size_t count = 0;
    must(warm_completions(client, completions.data(), completions.size(), &count), WARM_OK, "completions");
    for (size_t i = 0; i < count; ++i) must(completions[i].result.code, WARM_OK, "a ticket");
    harvested += count;
  }
}

void in_one_transaction(Lmdb& peer, const Batch& batch) {
  peer.begin();
  for (size_t i = 0; i < kBatch; ++i) peer.put_in_transaction(batch.id(i), batch.bytes(i));
  peer.commit();
}

}  // namespace

void bench_put_many(const Settings& settings, Reporter& reporter) {
  const uint64_t rounds = settings.quick ? 40 : 300;
  const uint64_t capacity =
      (settings.records + layout::kSlotsPerChunk - 1) / layout::kSlotsPerChunk * layout::kSlotsPerChunk + kSpareSlots;
  // Checkpoints come between the rounds, and not while one is measured.
  Settings own = settings;
  own.checkpoint_interval_ms = 250;
  World world(own, capacity, settings.records, kContentBytes);
  Lmdb peer(world.daemon().directory() + "/lmdb", settings.records, kContentBytes);
  Batch batch;
  uint64_t random = 11;
  // Every spare slot was used before.
  for (uint64_t used = 0; used < kSpareSlots + kBatch; used += kBatch, random += kBatch) {
    batch.make(random, settings.records);
    world.await_free(kBatch + 1024);
    in_one_call(world.client(), batch);
  }
  Samples many(rounds);
  Samples tickets(rounds);
  Samples lmdb(rounds);
  const auto measure = [&](Samples& samples, auto&& put_all) {
    batch.make(random, settings.records);
    random += kBatch;
    world.await_free(kBatch + 1024);
    world.await_prepared(kBatch + 1024);
    const uint64_t from = ticks();
    put_all();
    samples.add((ticks() - from) / kBatch);
  };
  for (uint64_t round = 0; round < rounds; ++round) {
    if (round % kRoundsPerCheckpoint == 0) world.await_durable();
    measure(many, [&] { in_one_call(world.client(), batch); });
    measure(tickets, [&] { by_tickets(world.client(), batch); });
    measure(lmdb, [&] { in_one_transaction(peer, batch); });
  }
  for (const auto& [name, samples] : {std::pair{"replace, 1000 in one call", &many}, {"replace, 1000 by tickets", &tickets}}) {
    Result result = result_of("put_many", name, *samples);
    against_peer(result, "lmdb", lmdb);
    reporter.say(result);
  }
}

}  // namespace warmtier::bench
