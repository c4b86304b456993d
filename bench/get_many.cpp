// Gets of 64 random ids in one call, beside LMDB with one transaction for 64. Per id, release and a look at both ends of
// embedding and content included.
#include <array>

#include "base/assert.hpp"
#include "bench/lmdb_peer.hpp"
#include "bench/world.hpp"

namespace warmtier::bench {
namespace {

constexpr size_t kContentBytes = 100;
constexpr size_t kMany = 64;

struct Place {
  const void* embedding;
  const void* content;
};

class Many {
 public:
  explicit Many(warm_client* client) : client_(client) {
    for (warm_view& view : views_) view = WARM_VIEW_INIT;
  }
  uint64_t get(const std::vector<Id>& ids, Place* ret_places = nullptr) {
    for (size_t i = 0; i < kMany; ++i) wanted_[i] = {.data = ids[i].data(), .bytes = Id::bytes()};
    if (warm_get_many(client_, wanted_.data(), kMany, 0, views_.data(), codes_.data()) != WARM_OK)
      stop_because(warm_last_error());
    uint64_t sum = 0;
    for (size_t i = 0; i < kMany; ++i) {
      if (ret_places != nullptr) ret_places[i] = {views_[i].embedding, views_[i].content};
      if (codes_[i] != WARM_OK) stop_because(std::string("get_many: ") + warm_error_name(codes_[i]));
      sum += touch_ends(views_[i].embedding, kRowBytes) + touch_ends(views_[i].content, views_[i].content_bytes);
    }
    for (warm_view& view : views_) warm_release(client_, &view);
    return sum;
  }

 private:
  warm_client* client_;
  std::array<warm_id, kMany> wanted_{};
  std::array<warm_view, kMany> views_;
  std::array<int32_t, kMany> codes_{};
};

}  // namespace

void bench_get_many(const Settings& settings, Reporter& reporter) {
  const uint64_t records = settings.records;
  WARM_ASSERT(records > 0);
  World world(settings, records + 65536, records, kContentBytes);
  Lmdb peer(world.daemon().directory() + "/lmdb", records, kContentBytes);
  Many ours_many(world.client());
  std::vector<Id> ids;
  const auto choose = [&](auto key_of) {
    ids.clear();
    for (size_t i = 0; i < kMany; ++i) ids.emplace_back(key_of(i) % records);
  };
  // Every page of every map is touched once: what is measured is memory, not faults.
  std::vector<Place> places(records + kMany);
  for (uint64_t key = 0; key < records; key += kMany) {
    choose([&](size_t i) { return key + i; });
    keep(ours_many.get(ids, &places[key]) + peer.get_many(ids));
  }
  const auto look = [&](const std::vector<Place>& at) {
    for (const Place& place : at) {
      const char* const ends[] = {
          static_cast<const char*>(place.embedding), static_cast<const char*>(place.embedding) + kRowBytes - 64,
          static_cast<const char*>(place.content), static_cast<const char*>(place.content) + kContentBytes - 1};
      for (const char* end : ends) __builtin_prefetch(end);
    }
    uint64_t sum = 0;
    for (const Place& place : at) sum += touch_ends(place.embedding, kRowBytes) + touch_ends(place.content, kContentBytes);
    return sum;
  };
  const uint64_t n = settings.quick ? 1'000 : 10'000;
  Samples ours(n);
  Samples theirs(n);
  Samples least(n);
  uint64_t random = 1;
  std::vector<Place> known(kMany);
  for (uint64_t done = 0; done < n; ++done) {
    // Ids of its own for each of the three: what one has read is not warm for the next.
    for (int who = 0; who < 3; ++who) {
      choose([&](size_t i) {
        const uint64_t key = mix(random++) % records;
        known[i] = places[key];
        return key;
      });
      const uint64_t from = ticks();
      keep(who == 0 ? ours_many.get(ids) : who == 1 ? peer.get_many(ids) : look(known));
      (who == 0 ? ours : who == 1 ? theirs : least).add((ticks() - from) / kMany);
    }
  }
  Result result = result_of("get_many", "64 of " + std::to_string(records) + ", per id", ours);
  against_peer(result, "lmdb", theirs);
  against_limit(result, least.percentile_ns(0.5));
  reporter.say(result);
}

}  // namespace warmtier::bench
