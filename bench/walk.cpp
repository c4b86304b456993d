// Walks over the whole store: ids and scalars beside LMDB's cursor; every embedding byte, by views and by chunks, beside the
// least time in which one core reads the same bytes of the same maps in order: the best of three ways to do that.
#include "bench/bandwidth.hpp"
#include "bench/lmdb_peer.hpp"
#include "bench/world.hpp"

namespace warmtier::bench {
namespace {

constexpr size_t kContentBytes = 100;
constexpr size_t kItems = 1024;
constexpr size_t kViews = 32;

typedef uint64_t Wide __attribute__((vector_size(64), aligned(8), may_alias));

// Every byte counts.
#if defined(__x86_64__)
__attribute__((target_clones("avx512f", "avx2", "default")))
#endif
uint64_t
sum_of(const void* bytes, uint64_t n) {
  const auto* at = static_cast<const char*>(bytes);
  Wide sums[4] = {};
  for (uint64_t i = 0; i + 256 <= n; i += 256) {
    for (int k = 0; k < 4; ++k) sums[k] += *reinterpret_cast<const Wide*>(at + i + k * 64);
  }
  const Wide all = sums[0] + sums[1] + sums[2] + sums[3];
  uint64_t sum = 0;
  for (int i = 0; i < 8; ++i) sum += all[i];
  return sum;
}

// Where the rows of all records lie: they were put one after the other, so a chunk's lie side by side. The chunks are the
// caller's to close.
std::vector<Stretch> rows_of(warm_client* client, std::vector<warm_chunk>& ret_chunks) {
  std::vector<Stretch> rows;
  uint64_t count = 0;
  if (warm_chunk_count(client, &count) != WARM_OK) stop_because(warm_last_error());
  for (uint64_t i = 0; i < count; ++i) {
    warm_chunk chunk = WARM_CHUNK_INIT;
    if (warm_chunk_open(client, i, &chunk) != WARM_OK) stop_because(warm_last_error());
    if (chunk.live_rows != 0) rows.push_back({chunk.rows, uint64_t{chunk.live_rows} * chunk.row_bytes});
    ret_chunks.push_back(chunk);
  }
  return rows;
}

uint64_t walk_items(warm_client* client, uint64_t records) {
  static warm_item items[kItems];
  warm_cursor* cursor = nullptr;
  if (warm_cursor_open(client, nullptr, &cursor) != WARM_OK) stop_because(warm_last_error());
  uint64_t seen = 0;
  uint64_t sum = 0;
  for (size_t count = 1; count != 0;) {
    if (warm_cursor_next_items(cursor, sizeof(warm_item), items, kItems, &count) != WARM_OK) stop_because(warm_last_error());
    for (size_t i = 0; i < count; ++i) {
      uint64_t end;
      std::memcpy(&end, static_cast<const char*>(items[i].id) + items[i].id_bytes - sizeof end, sizeof end);
      sum += end + items[i].sequence + items[i].recall_count;
    }
    seen += count;
  }
  warm_cursor_close(cursor);
  if (seen != records) stop_because("a walk saw " + std::to_string(seen) + " records");
  return sum;
}

uint64_t walk_rows(warm_client* client, uint64_t records) {
  static warm_view views[kViews];
  for (warm_view& view : views) view = WARM_VIEW_INIT;
  warm_cursor* cursor = nullptr;
  if (warm_cursor_open(client, nullptr, &cursor) != WARM_OK) stop_because(warm_last_error());
  uint64_t seen = 0;
  uint64_t sum = 0;
  for (size_t count = 1; count != 0;) {
    if (warm_cursor_next(cursor, 0, views, kViews, &count) != WARM_OK) stop_because(warm_last_error());
    for (size_t i = 0; i < count; ++i) {
      sum += sum_of(views[i].embedding, kRowBytes);
      warm_release(client, &views[i]);
    }
    seen += count;
  }
  warm_cursor_close(cursor);
  if (seen != records) stop_because("a walk saw " + std::to_string(seen) + " records");
  return sum;
}

uint64_t walk_chunks(warm_client* client) {
  uint64_t count = 0;
  if (warm_chunk_count(client, &count) != WARM_OK) stop_because(warm_last_error());
  uint64_t sum = 0;
  uint64_t rows = 0;
  for (uint64_t i = 0; i < count; ++i) {
    warm_chunk chunk = WARM_CHUNK_INIT;
    if (warm_chunk_open(client, i, &chunk) != WARM_OK) stop_because(warm_last_error());
    sum += sum_of(chunk.rows, uint64_t{chunk.live_rows} * chunk.row_bytes);
    if (warm_chunk_check(client, &chunk) != WARM_OK) stop_because(warm_last_error());
    rows += chunk.live_rows;
    warm_chunk_close(client, &chunk);
  }
  return sum + rows;
}

}  // namespace

void bench_walk(const Settings& settings, Reporter& reporter) {
  const uint64_t records = settings.records;
  World world(settings, records, records, kContentBytes);
  Lmdb peer(world.daemon().directory() + "/lmdb", records, kContentBytes);
  std::vector<warm_chunk> chunks;
  const std::vector<Stretch> stretches = rows_of(world.client(), chunks);
  const uint64_t rounds = settings.quick ? 5 : 15;
  Samples items(rounds);
  Samples peer_items(rounds);
  Samples rows(rounds);
  Samples in_chunks(rounds);
  const auto time = [&](Samples& samples, auto&& walk) {
    const uint64_t from = ticks();
    keep(walk());
    samples.add((ticks() - from));
  };
  for (uint64_t round = 0; round <= rounds; ++round) {
    // The first round touches every page and does not count.
    Samples none(16);
    const auto to = [&](Samples& samples) -> Samples& { return round == 0 ? none : samples; };
    time(to(items), [&] { return walk_items(world.client(), records); });
    time(to(peer_items), [&] { return peer.walk(); });
    time(to(rows), [&] { return walk_rows(world.client(), records); });
    time(to(in_chunks), [&] { return walk_chunks(world.client()); });
  }
  const auto say = [&](const char* name, const Samples& samples, const Samples* theirs, double limit_ns) {
    Result result = result_of("walk", std::string(name) + ", " + std::to_string(records) + " records, per record", samples);
    const auto n = static_cast<double>(records);
    for (double* value : {&result.p50, &result.p99, &result.p999}) *value /= n;
    result.ops_per_s *= n;
    if (theirs != nullptr) {
      against_peer(result, "lmdb", *theirs);
      result.peer_p50 /= n;
      result.ratio = result.peer_p50 / result.p50;
    }
    if (limit_ns > 0) against_limit(result, limit_ns / n);
    reporter.say(result);
  };
  const double best = read_ns(stretches, settings.quick ? 5 : 15);
  for (warm_chunk& chunk : chunks) warm_chunk_close(world.client(), &chunk);
  say("ids and scalars", items, &peer_items, 0);
  say("embeddings by views", rows, nullptr, best);
  say("embeddings by chunks", in_chunks, nullptr, best);
  reporter.say(
      single("walk", "embeddings in order, best of three", rounds, "GB/s", static_cast<double>(records * kRowBytes) / best));
}

}  // namespace warmtier::bench
