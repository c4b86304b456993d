// Recall over 100,000 records, beside reading the same memory: one query, two threads on one scan, many queries in one pass.
#include <fcntl.h>

#include <thread>

#include "base/fd.hpp"
#include "base/mapping.hpp"
#include "bench/bandwidth.hpp"
#include "bench/world.hpp"

namespace warmtier::bench {
namespace {

constexpr uint32_t kLimit = 10;

// The store's lines and rows, mapped once more.
class Columns {
 public:
  Columns(const std::string& store, uint64_t records) {
    auto file = base::open_at(AT_FDCWD, (store + "/warm.tier").c_str(), O_RDONLY);
    if (!file) stop_because(file.error().text);
    auto map = base::ReadMapping::map(file->get(), *base::file_bytes(file->get()));
    if (!map) stop_because(map.error().text);
    map_ = std::move(*map);
    const layout::Geometry geometry = layout::Geometry::of(kDimensions, records);
    for (uint64_t chunk = 0; chunk * layout::kSlotsPerChunk < records; ++chunk) {
      stretches_.push_back({.bytes = map_.data() + geometry.chunk_offset(chunk), .n = geometry.chunk_bytes});
    }
  }
  [[nodiscard]] const std::vector<Stretch>& stretches() const { return stretches_; }

 private:
  base::ReadMapping map_;
  std::vector<Stretch> stretches_;
};

void must(int code, const char* what) {
  if (code != WARM_OK) stop_because(std::string(what) + ": " + warm_error_name(code) + ": " + warm_last_error());
}

class Queries {
 public:
  explicit Queries(size_t count) : hits_(count * kLimit), counts_(count) {
    for (size_t i = 0; i < count; ++i) {
      Bytes& bytes = rows_.emplace_back(0);
      bytes.make(i * 977 + 5);
      bytes.mark(i);
    }
    for (size_t i = 0; i < count; ++i) {
      warm_query query = WARM_QUERY_INIT;
      query.embedding = rows_[i].row();
      query.dimensions = kDimensions;
      query.limit = kLimit;
      queries_.push_back(query);
    }
  }
  void set(uint32_t metric, const warm_filter* filter) {
    for (warm_query& query : queries_) {
      query.metric = metric;
      query.filter = filter;
    }
  }
  void recall(warm_client* client) {
    must(warm_recall_many(client, queries_.data(), queries_.size(), hits_.data(), counts_.data(), nullptr), "recall");
    release(client);
  }
  void recall_by_two(warm_client* client) {
    warm_recall_scan* scan = nullptr;
    must(warm_recall_open(client, queries_.data(), queries_.size(), &scan), "recall_open");
    const OwnProcessors own_processors;
    const auto work = [scan](unsigned processor) {
      tests::support::pin_to_processor(processor);
      must(warm_recall_work(scan), "recall_work");
    };
    std::thread other(work, 1);
    work(0);
    other.join();
    must(warm_recall_close(scan, hits_.data(), counts_.data(), nullptr), "recall_close");
    release(client);
  }

 private:
  void release(warm_client* client) {
    for (size_t i = 0; i < counts_.size(); ++i) must(warm_hits_release(client, hits_.data() + i * kLimit, counts_[i]), "release");
  }
  std::vector<Bytes> rows_;
  std::vector<warm_query> queries_;
  std::vector<warm_hit> hits_;
  std::vector<size_t> counts_;
};

template <typename Call>
Samples timed(unsigned rounds, const Call& call) {
  Samples samples(rounds);
  call();
  for (unsigned round = 0; round < rounds; ++round) {
    const uint64_t from = ticks();
    call();
    samples.add(ticks() - from);
  }
  return samples;
}

}  // namespace

void bench_recall(const Settings& settings, Reporter& reporter) {
  const uint64_t records = settings.records_given ? settings.records : 100'000;
  const unsigned rounds = settings.quick ? 5 : 31;
  World world(settings, records, records, 100);
  const Columns columns(world.daemon().store(), records);
  const std::string size = std::to_string(records) + " records, ";
  warm_client* client = world.client();
  read_ns(columns.stretches(), 1);
  Queries one(1);

  const auto say = [&](const std::string& name, const Samples& samples, double limit) {
    Result result = result_of("recall", size + name, samples);
    against_limit(result, limit);
    reporter.say(result);
  };
  // The limit is measured right before what is held against it.
  const double limit = read_ns(columns.stretches(), rounds / 3 + 1);
  const Samples alone = timed(rounds, [&] { one.recall(client); });
  say("cosine", alone, limit);
  one.set(WARM_METRIC_L2, nullptr);
  say("L2", timed(rounds, [&] { one.recall(client); }), limit);
  warm_filter half = WARM_FILTER_INIT;
  half.sequence_min = records / 2;
  one.set(WARM_METRIC_COSINE, &half);
  say("cosine, filter for half", timed(rounds, [&] { one.recall(client); }), limit);
  one.set(WARM_METRIC_COSINE, nullptr);
  // Two threads may have no more of the memory than one; whether a scheduler gives them two processors is not asked here. Threads
  // begin and end within both times.
  const double limit_of_two = read_ns(columns.stretches(), rounds / 3 + 1, 2);
  Result two = result_of("recall", size + "two threads, a processor each", timed(rounds, [&] { one.recall_by_two(client); }));
  against_peer(two, "one thread", alone);
  against_limit(two, limit_of_two);
  reporter.say(two);
  for (const size_t count : {8, 64}) {
    Queries many(count);
    say("one pass for " + std::to_string(count), timed(settings.quick ? 3 : 9, [&] { many.recall(client); }), limit);
  }
}

}  // namespace warmtier::bench
