// Walks while others write: what is there throughout and untouched comes exactly once, what is replaced comes once in its old or
// its new state, nothing comes twice; over doublings of the index and restarts of the daemon in the middle of the walk.
#include <criterion/criterion.h>

#include <atomic>
#include <string>
#include <string_view>
#include <thread>
#include <unordered_map>
#include <vector>

#include "tests/support/daemon.hpp"
#include "tests/support/records.hpp"

using namespace warmtier::tests::support;

TestSuite(walks, .timeout = 300);

namespace {

constexpr Shape kShape;
constexpr uint64_t kStable = 12'000;   // keys from 0: never touched
constexpr uint64_t kReplaced = 2'000;  // keys behind them: always there, replaced all the time
constexpr uint64_t kChurned = 2'000;   // keys behind these: put and removed all the time
constexpr uint64_t kChanging = kStable + kReplaced + kChurned;

// One thread that replaces and one that puts and removes, until told otherwise; what went wrong first.
class Writers {
 public:
  explicit Writers(const Daemon& daemon)
      : replacing_([&, client = std::make_unique<Client>(daemon)] {
          for (uint32_t version = 2; !stop_.load(); ++version) {
            for (uint64_t key = kStable; key < kStable + kReplaced && !stop_.load(); ++key) {
              must(put_record(*client, kShape, key, version), "replace");
              ++changes_;
            }
          }
        }),
        churning_([&, client = std::make_unique<Client>(daemon)] {
          for (uint32_t version = 1; !stop_.load(); ++version) {
            for (uint64_t key = kStable + kReplaced; key < kChanging && !stop_.load(); ++key) {
              const std::string id = record_id(key);
              if (key % 2 == version % 2) {
                must(put_record(*client, kShape, key, version), "put");
              } else if (const int code = warm_remove(*client, id.data(), id.size(), WARM_IF_ANY, 0, 0, nullptr);
                         code != WARM_E_NOT_FOUND) {
                must(code, "remove");
              }
              ++changes_;
            }
          }
        }) {}
  ~Writers() { end(); }
  std::string end() {
    stop_.store(true);
    if (replacing_.joinable()) replacing_.join();
    if (churning_.joinable()) churning_.join();
    return trouble_;
  }
  // Waits until so many more changes were made.
  void await(uint64_t more) const {
    const uint64_t until = changes_.load() + more;
    while (changes_.load() < until && !failed_.load()) std::this_thread::yield();
  }

 private:
  void must(int code, const char* what) {
    if (code == WARM_OK || failed_.exchange(true)) return;
    trouble_ = std::string(what) + ": " + warm_error_name(code) + ": " + warm_last_error();
  }
  std::atomic<bool> stop_{false};
  std::atomic<bool> failed_{false};
  std::atomic<uint64_t> changes_{0};
  std::string trouble_;
  std::thread replacing_;
  std::thread churning_;
};

std::unordered_map<std::string, uint64_t> keys_by_id(uint64_t count) {
  std::unordered_map<std::string, uint64_t> keys;
  for (uint64_t key = 0; key < count; ++key) keys[record_id(key)] = key;
  return keys;
}

enum class Way { views, verified, copies, items };

struct Scene {
  Daemon daemon{StoreOptions{.capacity = 65'536, .checkpoint_interval_ms = 200, .failpoints = false}};
  std::unique_ptr<Client> client;
  std::unordered_map<std::string, uint64_t> keys = keys_by_id(60'000);
  uint64_t next_new = kChanging;  // keys from here on are put to make the index grow

  Scene() {
    daemon.start();
    client = std::make_unique<Client>(daemon);
    for (uint64_t key = 0; key < kStable + kReplaced; ++key) {
      cr_assert_eq(put_record(*client, kShape, key, 1), WARM_OK, "%s", warm_last_error());
    }
  }
  void grow_until_doubled() {
    const uint64_t before = stats_of(*client).index_doublings;
    while (stats_of(*client).index_doublings == before) {
      cr_assert_lt(next_new, 60'000, "the index did not double");
      cr_assert_eq(put_record(*client, kShape, next_new++, 1), WARM_OK, "%s", warm_last_error());
    }
  }

  // One walk; `in_the_middle` runs when half of the stable records were seen, and before each further quarter of the rest.
  void walk(Way way, size_t step, const std::function<void()>& in_the_middle) {
    std::vector<uint8_t> seen(60'000);
    uint64_t stable = 0;
    bool middle = false;
    warm_cursor* cursor = nullptr;
    cr_assert_eq(warm_cursor_open(*client, nullptr, &cursor), WARM_OK, "%s", warm_last_error());
    std::vector<warm_view> views(step);
    std::vector<warm_item> items(step);
    for (size_t count = 1; count != 0;) {
      for (warm_view& view : views) view = WARM_VIEW_INIT;
      const uint32_t flags = way == Way::verified ? WARM_VERIFY : way == Way::copies ? WARM_COPY : 0;
      const int code = way == Way::items ? warm_cursor_next_items(cursor, sizeof(warm_item), items.data(), step, &count)
                                         : warm_cursor_next(cursor, flags, views.data(), step, &count);
      cr_assert_eq(code, WARM_OK, "%s: %s", warm_error_name(code), warm_last_error());
      for (size_t i = 0; i < count; ++i) {
        const std::string id = way == Way::items ? std::string(static_cast<const char*>(items[i].id), items[i].id_bytes)
                                                 : std::string(static_cast<const char*>(views[i].id), views[i].id_bytes);
        const auto key = keys.find(id);
        cr_assert(key != keys.end(), "an id that nobody put: %s", id.c_str());
        cr_assert_eq(seen[key->second]++, 0, "key %lu came twice", key->second);
        stable += key->second < kStable ? 1 : 0;
        if (way == Way::items) {
          const Record expected(kShape, key->second, items[i].recall_count);
          const warm_memory memory = expected.memory();
          cr_assert(items[i].confidence == memory.confidence && items[i].created_ns == memory.created_ns &&
                        items[i].last_access_ns == memory.last_access_ns && items[i].content_bytes == memory.content_bytes,
                    "an item of key %lu mixes two records", key->second);
        } else {
          const char* differs = mismatch(kShape, key->second, views[i]);
          cr_assert_null(differs, "key %lu: %s", key->second, differs);
          warm_release(*client, &views[i]);
        }
      }
      if (!middle && stable >= kStable / 2) {
        middle = true;
        in_the_middle();
      }
    }
    cr_assert_eq(warm_cursor_close(cursor), WARM_OK);
    for (uint64_t key = 0; key < kStable + kReplaced; ++key) {
      cr_assert_eq(seen[key], 1, "key %lu, which was there all the time, came %d times", key, seen[key]);
    }
  }
};

constexpr struct {
  Way way;
  size_t step;
} kWays[] = {{Way::items, 1000}, {Way::items, 37}, {Way::views, 64}, {Way::views, 1}, {Way::verified, 200}, {Way::copies, 5}};

}  // namespace

Test(walks, what_is_there_throughout_comes_once_while_others_write) {
  Scene scene;
  Writers writers(scene.daemon);
  for (const auto& [way, step] : kWays) scene.walk(way, step, [&] { writers.await(5'000); });
  const std::string trouble = writers.end();
  cr_assert(trouble.empty(), "%s", trouble.c_str());
}

Test(walks, what_is_there_throughout_comes_once_over_doublings) {
  Scene scene;
  Writers writers(scene.daemon);
  scene.walk(Way::items, 37, [&] { scene.grow_until_doubled(); });
  scene.walk(Way::views, 64, [&] { scene.grow_until_doubled(); });
  const std::string trouble = writers.end();
  cr_assert(trouble.empty(), "%s", trouble.c_str());
  cr_assert_eq(stats_of(*scene.client).index_doublings, 2);
}

Test(walks, what_is_there_throughout_comes_once_over_restarts) {
  Scene scene;
  Writers writers(scene.daemon);
  scene.grow_until_doubled();
  for (const auto& [way, step] : kWays) {
    scene.walk(way, step, [&] {
      scene.daemon.restart();
      writers.await(1'000);
    });
  }
  const std::string trouble = writers.end();
  cr_assert(trouble.empty(), "%s", trouble.c_str());
}

// After a stop in order and a start the index is as small as it can be: homes are larger than where the cursor stands.
Test(walks, a_cursor_goes_on_in_a_smaller_index) {
  Scene scene;
  scene.grow_until_doubled();
  while (scene.next_new > kChanging) {
    const std::string id = record_id(--scene.next_new);
    cr_assert_eq(warm_remove(*scene.client, id.data(), id.size(), WARM_IF_ANY, 0, 0, nullptr), WARM_OK);
  }
  for (const auto& [way, step] : kWays) scene.walk(way, step, [&] { scene.daemon.stop_and_start(); });
}

Test(walks, rows_of_a_chunk_that_pass_the_check_are_of_the_records_that_views_show) {
  Scene scene;
  Writers writers(scene.daemon);
  uint64_t unchanged = 0;
  uint64_t changed = 0;
  std::vector<float> rows(size_t{WARM_CHUNK_ROWS} * kShape.dimensions);
  // On a busy machine the writers may leave the chunk of a round alone.
  for (int round = 0; round < 20 || (changed <= 100 && round < 1000); ++round) {
    uint64_t chunks = 0;
    cr_assert_eq(warm_chunk_count(*scene.client, &chunks), WARM_OK);
    for (uint64_t number = 0; number < chunks; ++number) {
      warm_chunk chunk = WARM_CHUNK_INIT;
      cr_assert_eq(warm_chunk_open(*scene.client, number, &chunk), WARM_OK, "%s", warm_last_error());
      const uint32_t before = chunk.live_rows;
      for (uint32_t row = 0; row < chunk.row_count; ++row) {
        std::memcpy(&rows[row * kShape.dimensions], reinterpret_cast<const char*>(chunk.rows) + row * chunk.row_bytes,
                    kShape.dimensions * sizeof(float));
      }
      if (number % 8 == static_cast<uint64_t>(round) % 8) writers.await(200);
      cr_assert_eq(warm_chunk_check(*scene.client, &chunk), WARM_OK, "%s", warm_last_error());
      for (uint32_t row = 0; row < chunk.row_count; ++row) {
        if ((chunk.live[row / 64] >> row % 64 & 1) == 0) continue;
        warm_view view = WARM_VIEW_INIT;
        const int code = warm_chunk_view(*scene.client, &chunk, row, &view);
        if (code == WARM_E_NOT_FOUND) continue;  // since the check
        cr_assert_eq(code, WARM_OK, "%s", warm_last_error());
        cr_assert_eq(std::memcmp(view.embedding, &rows[row * kShape.dimensions], kShape.dimensions * sizeof(float)), 0,
                     "a row that passed the check is not that of its record");
        warm_release(*scene.client, &view);
        ++unchanged;
      }
      changed += before - chunk.live_rows;
      cr_assert_eq(warm_chunk_close(*scene.client, &chunk), WARM_OK);
    }
  }
  const std::string trouble = writers.end();
  cr_assert(trouble.empty(), "%s", trouble.c_str());
  cr_assert_gt(unchanged, 10'000);
  cr_assert_gt(changed, 100, "nothing changed while chunks were read: this shows nothing");
}
