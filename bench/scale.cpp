// The same from several processes at once. They go round by round: the daemon has prepared what a round needs before it begins.
#include <algorithm>
#include <functional>

#include "bench/chain.hpp"
#include "bench/lmdb_peer.hpp"
#include "bench/world.hpp"

namespace warmtier::bench {
namespace {

using tests::support::Process;
using tests::support::Shared;
using tests::support::Steps;

constexpr size_t kContentBytes = 100;
constexpr uint64_t kSpareSlots = 32 * layout::kSlotsPerChunk;
constexpr uint64_t kPutsPerRound =
    7'000;  // fewer than are prepared, which is half of prepared_slots at least where puts are many

// Processes that do the same thing at the same time.
class Crew {
 public:
  // Called in each process: what it needs, and how it does its `i`-th operation with that.
  using Operation = std::function<void(uint64_t i)>;
  using Begin = std::function<Operation(unsigned who)>;

  Crew(unsigned hands, uint64_t each, const Begin& begin) : each_(each), laps_(hands * (each + 2)) {
    for (unsigned who = 0; who < hands; ++who) {
      processes_.push_back(Process::fork([&, who] {
        const Operation operation = begin(who);
        ready_->advance();
        for (uint32_t round = 1;; ++round) {
          if (!go_->wait_for(round, base::Deadline::never())) return 1;
          uint64_t* const lap = laps_.of(who, each_);
          lap[0] = ticks();
          for (uint64_t i = 0; i < each_; ++i) {
            const uint64_t from = ticks();
            operation(i + round * each_);
            lap[2 + i] = ticks() - from;
          }
          lap[1] = ticks();
          done_->advance();
        }
      }));
    }
    ready_->await(hands, "the processes are ready");
  }

  // The time that all needed together, in ticks.
  uint64_t round(Samples& samples) {
    const auto hands = static_cast<unsigned>(processes_.size());
    go_->advance();
    done_->await(hands * ++rounds_, "a round is over");
    uint64_t from = UINT64_MAX;
    uint64_t to = 0;
    for (unsigned who = 0; who < hands; ++who) {
      const uint64_t* const lap = laps_.of(who, each_);
      from = std::min(from, lap[0]);
      to = std::max(to, lap[1]);
      for (uint64_t i = 0; i < each_; ++i) samples.add(lap[2 + i]);
    }
    return to - from;
  }

 private:
  // Begin, end, and the time of each operation, of each process.
  class Laps {
   public:
    explicit Laps(uint64_t words) : bytes_(words * sizeof(uint64_t)) {
      void* memory = ::mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
      if (memory == MAP_FAILED) stop_because("no memory to share with children");
      words_ = static_cast<uint64_t*>(memory);
    }
    ~Laps() { ::munmap(words_, bytes_); }
    Laps(const Laps&) = delete;
    Laps& operator=(const Laps&) = delete;
    [[nodiscard]] uint64_t* of(unsigned who, uint64_t each) const noexcept { return words_ + who * (each + 2); }

   private:
    size_t bytes_;
    uint64_t* words_;
  };

  uint64_t each_;
  Laps laps_;
  Shared<Steps> ready_;
  Shared<Steps> go_;
  Shared<Steps> done_;
  uint32_t rounds_ = 0;
  std::vector<Process> processes_;  // killed at the end
};

// Operations a second of all together.
double rate(uint64_t operations, uint64_t all_ticks) {
  return static_cast<double>(operations) * 1e9 / (static_cast<double>(all_ticks) * ns_per_tick());
}

}  // namespace

void bench_scale_get(const Settings& settings, Reporter& reporter) {
  constexpr unsigned kReaders = 2;
  const uint64_t records = settings.records;
  World world(settings, records + 65'536, records, kContentBytes);
  const Chain chain(world.daemon().store(), records);
  const uint64_t each = 5'000;
  const unsigned rounds = settings.quick ? 8 : 40;
  const auto key_of = [&](unsigned who, uint64_t i) { return mix(who * 1'000'003 + i * 7) % records; };
  Crew gets(kReaders, each, [&](unsigned who) -> Crew::Operation {
    warm_client* client = world.daemon().open();
    for (uint64_t key = 0; key < records; ++key) keep(get_ends(client, Id(key)));  // pages that are mapped
    return [=](uint64_t i) { keep(get_ends(client, Id(key_of(who, i)))); };
  });
  Crew chains(kReaders, each, [&](unsigned who) -> Crew::Operation {
    for (uint64_t key = 0; key < records; ++key) keep(chain.get(chain.place_of(key)));
    return [&, who](uint64_t i) { keep(chain.get(chain.place_of(key_of(who + kReaders, i)))); };
  });
  Samples ours(kReaders * each * rounds);
  Samples least(kReaders * each * rounds);
  uint64_t together = 0;
  for (unsigned round = 0; round < rounds; ++round) {
    together += gets.round(ours);
    (void)chains.round(least);
  }
  Result result = result_of("scale_get", std::to_string(kReaders) + " readers", ours);
  result.ops_per_s = rate(ours.size(), together);
  against_limit(result, least.percentile_ns(0.5));
  reporter.say(result);
}

void bench_scale_put(const Settings& settings, Reporter& reporter) {
  const uint64_t records = settings.records;
  const uint64_t capacity =
      (records + layout::kSlotsPerChunk - 1) / layout::kSlotsPerChunk * layout::kSlotsPerChunk + kSpareSlots;
  // Each round waits for slots that are used again, and so for a checkpoint: not for the daemon's own interval.
  Settings own = settings;
  own.checkpoint_interval_ms = 250;
  World world(own, capacity, records, kContentBytes);
  const std::string peer_directory = world.daemon().directory() + "/lmdb";
  {
    const Lmdb peer(peer_directory, records, kContentBytes);
  }
  Bytes bytes(kContentBytes);
  bytes.make(1);
  // As long as there are slots that were never used, a replace is an insert.
  for (uint64_t i = 0; i < kSpareSlots + kPutsPerRound; ++i) put_or_stop(world.client(), Id(i % records), bytes);

  const unsigned rounds = settings.quick ? 3 : 10;
  for (const unsigned writers : {1U, 2U, 8U, 60U}) {
    const uint64_t each = kPutsPerRound / writers;
    const auto id_of = [&](unsigned who, uint64_t i) { return Id(mix(who * 1'000'003 + i * 7) % records); };
    Samples ours(writers * each * rounds);
    Samples theirs(writers * each * rounds);
    uint64_t together = 0;
    {
      Crew crew(writers, each, [&](unsigned who) -> Crew::Operation {
        warm_client* client = world.daemon().open();
        return [&, client, who](uint64_t i) {
          bytes.mark(i);
          put_or_stop(client, id_of(who, i), bytes);
        };
      });
      for (unsigned round = 0; round < rounds; ++round) {
        world.await_durable();
        world.await_free(kPutsPerRound + 1024);
        world.await_prepared(kPutsPerRound + 1024);
        together += crew.round(ours);
      }
    }
    {
      Crew crew(writers, each, [&](unsigned who) -> Crew::Operation {
        auto peer = std::make_shared<Lmdb>(peer_directory);
        return [&, peer, who](uint64_t i) {
          bytes.mark(i);
          peer->put(id_of(who, i), bytes);
        };
      });
      for (unsigned round = 0; round < rounds; ++round) (void)crew.round(theirs);
    }
    Result result = result_of("scale_put", std::to_string(writers) + (writers == 1 ? " writer" : " writers"), ours);
    result.ops_per_s = rate(ours.size(), together);
    against_peer(result, "lmdb", theirs);
    reporter.say(result);
  }
}

}  // namespace warmtier::bench
