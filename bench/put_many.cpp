// 1,000 replaces of one client: in one call, and as tickets, beside LMDB with as many in one transaction, and beside a process
// that only copies what it is handed. Time is per record. Three cases of each, for what they meet decides more than how they are
// handed in: a daemon that is at it and writes nothing to the device; one that makes a checkpoint; one that sleeps, as its client
// did. All meet what the daemon has prepared ahead, but for those that a checkpoint takes it from. Client and daemon, and the two
// of the exchange, have a processor each.
#include <algorithm>
#include <array>
#include <deque>
#include <future>
#include <utility>

#include "bench/exchange.hpp"
#include "bench/lmdb_peer.hpp"
#include "bench/world.hpp"

namespace warmtier::bench {
namespace {

constexpr size_t kContentBytes = 100;
constexpr size_t kBatch = 1000;
constexpr uint64_t kNoCheckpointMs = 3'600'000;
constexpr uint64_t kSpareSlots = 32 * layout::kSlotsPerChunk;
constexpr uint64_t kFreeSlots = 16 * layout::kSlotsPerChunk;  // the daemon allocates more chunks while it has fewer

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

// Half as many open as may be; the oldest is waited for.
void by_tickets(warm_client* client, const Batch& batch) {
  static std::array<warm_ticket, kBatch> tickets;
  size_t submitted = 0;
  for (size_t harvested = 0; harvested < kBatch; ++harvested) {
    for (; submitted < kBatch && submitted - harvested < WARM_TICKETS_MAX / 2; ++submitted)
      must(warm_put_submit(client, &batch.memories()[submitted], &tickets[submitted]), WARM_OK, "submit");
    warm_result result{};
    must(warm_ticket_wait(client, tickets[harvested], UINT32_MAX, &result), WARM_OK, "ticket_wait");
    must(result.code, WARM_OK, "a ticket");
  }
}

void in_one_transaction(Lmdb& peer, const Batch& batch) {
  peer.begin();
  for (size_t i = 0; i < kBatch; ++i) peer.put_in_transaction(batch.id(i), batch.bytes(i));
  peer.commit();
}

// One after the other as fast as they go: between them nobody has time to fall asleep.
void one_by_one(ManyExchange& exchange, const Batch& batch) {
  for (size_t i = 0; i < kBatch; ++i) exchange.hand_over(batch.id(i), batch.bytes(i));
  exchange.await_all();
}

// Whether a checkpoint ran all the while is known afterwards: it took its sequence before the first put, and was not complete
// after the last.
struct Met {
  Samples* samples;
  uint64_t took;  // ticks of a record
  uint64_t sequence_before;
};

class Rounds {
 public:
  Rounds(World& world, Lmdb& peer, ManyExchange& exchange, const Settings& settings, uint64_t rounds)
      : many(rounds),
        tickets(rounds),
        many_in_checkpoint(rounds * kBatchesInCheckpoint),
        tickets_in_checkpoint(rounds * kBatchesInCheckpoint),
        many_first(rounds),
        tickets_first(rounds),
        least(rounds),
        lmdb(rounds),
        world_(world),
        peer_(peer),
        exchange_(exchange),
        records_(settings.records) {
    // Every spare slot was used before.
    for (uint64_t used = 0; used < kSpareSlots + kBatch; used += kBatch) {
      make(batches_[0]);
      world_.await_free(kBatch + 1024);
      in_one_call(world_.client(), batches_[0]);
    }
  }

  // No checkpoint runs, and none begins: the daemon has far more free slots than the round takes.
  void quiet() {
    must(warm_checkpoint(world_.client(), nullptr), WARM_OK, "checkpoint");
    for (Batch& batch : batches_) make(batch);
    world_.await_free(kFreeSlots);
    world_.await_preparing_done(kQuietBatches * kBatch);
    const uint64_t before = layout::load_acquire(world_.status().checkpoints);
    world_.await_asleep();
    add(many_first, [&] { in_one_call(world_.client(), batches_[0]); });
    add(many, [&] { in_one_call(world_.client(), batches_[1]); });
    add(tickets, [&] { by_tickets(world_.client(), batches_[2]); });
    for (Batch& batch : batches_) make(batch);
    world_.await_preparing_done(kBatch);
    world_.await_asleep();
    add(tickets_first, [&] { by_tickets(world_.client(), batches_[0]); });
    if (layout::load_acquire(world_.status().checkpoints) != before) stop_because("a checkpoint ran that nobody had asked for");
    add(lmdb, [&] { in_one_transaction(peer_, batches_[1]); });
    exchange_.wake();
    add(least, [&] { one_by_one(exchange_, batches_[2]); });
    exchange_.rest();
  }

  void in_checkpoint() {
    const uint64_t before = layout::load_acquire(world_.status().checkpoints);
    uint64_t taken = 0;
    auto checkpoint = std::async(std::launch::async, [&] { return warm_checkpoint(world_.client(), &taken); });
    std::vector<Met> met;
    while (met.size() < kBatchesInCheckpoint && layout::load_acquire(world_.status().checkpoints) == before) {
      const bool in_call = met.size() % 2 == 0;
      make(batches_[0]);
      const uint64_t sequence = layout::load_acquire(world_.status().sequence);
      const uint64_t from = ticks();
      if (in_call) {
        in_one_call(world_.client(), batches_[0]);
      } else {
        by_tickets(world_.client(), batches_[0]);
      }
      const uint64_t took = (ticks() - from) / kBatch;
      if (layout::load_acquire(world_.status().checkpoints) != before) break;
      met.push_back(
          {.samples = in_call ? &many_in_checkpoint : &tickets_in_checkpoint, .took = took, .sequence_before = sequence});
    }
    must(checkpoint.get(), WARM_OK, "checkpoint");
    for (const Met& one : met) {
      if (one.sequence_before >= taken) one.samples->add(one.took);
    }
  }

  Samples many;
  Samples tickets;
  Samples many_in_checkpoint;
  Samples tickets_in_checkpoint;
  Samples many_first;
  Samples tickets_first;
  Samples least;
  Samples lmdb;

 private:
  static constexpr uint64_t kBatchesInCheckpoint = 4;
  static constexpr uint64_t kQuietBatches = 4;

  void make(Batch& batch) {
    batch.make(random_, records_);
    random_ += kBatch;
  }
  template <typename PutAll>
  static void add(Samples& samples, PutAll&& put_all) {
    const uint64_t from = ticks();
    put_all();
    samples.add((ticks() - from) / kBatch);
  }

  World& world_;
  Lmdb& peer_;
  ManyExchange& exchange_;
  const uint64_t records_;
  std::array<Batch, 3> batches_;
  uint64_t random_ = 11;
};

}  // namespace

void bench_put_many(const Settings& settings, Reporter& reporter) {
  const uint64_t capacity =
      (settings.records + layout::kSlotsPerChunk - 1) / layout::kSlotsPerChunk * layout::kSlotsPerChunk + kSpareSlots;
  ManyExchange exchange(capacity, settings.large_pages);
  // Only those that are asked for here.
  Settings own = settings;
  own.checkpoint_interval_ms = kNoCheckpointMs;
  World world(own, capacity, settings.records, kContentBytes);
  const OwnProcessors own_processors;
  // Whether a scheduler wakes two that wait for each other on one processor or on two decides more than what either does.
  tests::support::pin_to_processor(1, exchange.pid());
  tests::support::pin_to_processor(1, world.daemon().pid());
  tests::support::pin_to_processor(0);
  Lmdb peer(world.daemon().directory() + "/lmdb", settings.records, kContentBytes);
  const uint64_t rounds = settings.quick ? 40 : 300;
  Rounds measured(world, peer, exchange, settings, rounds);
  for (uint64_t round = 0; round < rounds; ++round) {
    measured.quiet();
    measured.in_checkpoint();
  }
  const std::pair<const char*, const Samples*> cases[] = {
      {"one call, no checkpoint", &measured.many},
      {"tickets, no checkpoint", &measured.tickets},
      {"one call, in a checkpoint", &measured.many_in_checkpoint},
      {"tickets, in a checkpoint", &measured.tickets_in_checkpoint},
      {"one call, after a pause", &measured.many_first},
      {"tickets, after a pause", &measured.tickets_first},
      {"bare exchange", &measured.least},
      {"lmdb", &measured.lmdb},
  };
  for (const auto& [name, samples] : cases) {
    Result result = result_of("put_many", name, *samples);
    if (samples != &measured.lmdb) against_peer(result, "lmdb", measured.lmdb);
    if (samples != &measured.least) against_limit(result, measured.least.percentile_ns(0.5));
    reporter.say(result);
  }
}

}  // namespace warmtier::bench
