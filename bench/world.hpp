// The records that the benches use, the same for us and for the peer, and a daemon that holds them.
#pragma once

#include <sched.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "bench/measure.hpp"
#include "layout/layout.hpp"
#include "tests/support/chance.hpp"
#include "tests/support/daemon.hpp"
#include "warmtier/warmtier.h"

namespace warmtier::bench {

constexpr uint32_t kDimensions = 768;
constexpr uint64_t kRowBytes = uint64_t{kDimensions} * sizeof(float);
constexpr uint64_t kScalarBytes =
    36;  // confidence, activation, decay rate, recall count, two times, length: what any store keeps

struct Settings {
  uint64_t records = 300'000;
  bool records_given = false;
  bool quick = false;
  bool large_pages = false;  // of the tier
  uint64_t checkpoint_interval_ms = 0;  // 0: the daemon's own
};

using tests::support::mix;

// "memory:487301962": digits that follow from the key and leap from one to the next, because ids that arrive in their own order
// would be a gift to a tree.
class Id {
 public:
  explicit Id(uint64_t key) noexcept {
    uint64_t number = key * kLeap % kNumbers;
    for (size_t i = sizeof text_ - 1; i >= kPrefixBytes; --i, number /= 10) text_[i] = static_cast<char>('0' + number % 10);
  }
  // The key again, from the text.
  static uint64_t key_of(const char* text) noexcept {
    uint64_t number = 0;
    for (size_t i = kPrefixBytes; i < bytes(); ++i) number = number * 10 + static_cast<uint64_t>(text[i] - '0');
    return number * kBack % kNumbers;
  }
  [[nodiscard]] const char* data() const noexcept { return text_; }
  [[nodiscard]] static constexpr size_t bytes() noexcept { return sizeof text_; }

 private:
  static constexpr uint64_t kNumbers = 1'000'000'000;
  static constexpr uint64_t kLeap = 654'435'761;
  static constexpr uint64_t kBack = 645'525'841;
  static_assert(kLeap * kBack % kNumbers == 1);
  static constexpr size_t kPrefixBytes = 7;

  char text_[16] = {'m', 'e', 'm', 'o', 'r', 'y', ':'};
};

// One record's bytes, made anew for each key: rows differ, so that neither side profits from equal pages.
class Bytes {
 public:
  explicit Bytes(size_t content_bytes) : row_(kDimensions), content_(content_bytes, 'c') {}
  void make(uint64_t key) noexcept {
    for (uint32_t i = 0; i < kDimensions; ++i) row_[i] = static_cast<float>(mix(key * kDimensions + i) >> 40) / 16'777'216.0f;
    if (content_.size() >= sizeof key) std::memcpy(content_.data(), &key, sizeof key);
  }
  // Cheaper: enough to tell versions apart.
  void mark(uint64_t version) noexcept {
    row_[version % kDimensions] = static_cast<float>(version % 1024);
    if (content_.size() >= sizeof version) std::memcpy(content_.data(), &version, sizeof version);
  }
  [[nodiscard]] const float* row() const noexcept { return row_.data(); }
  [[nodiscard]] const std::string& content() const noexcept { return content_; }

 private:
  std::vector<float> row_;
  std::string content_;
};

// Reads the first and the last 64 bytes.
inline uint64_t touch_ends(const void* bytes, size_t n) noexcept {
  const char* at = static_cast<const char*>(bytes);
  const size_t end = n < 64 ? n : 64;
  uint64_t sum = 0;
  for (size_t i = 0; i + 8 <= end; i += 8) {
    uint64_t first;
    uint64_t last;
    std::memcpy(&first, at + i, 8);
    std::memcpy(&last, at + (n - end) + i, 8);
    sum += first ^ last;
  }
  return sum;
}
// What was read counts: the compiler must not drop it.
inline void keep(uint64_t value) noexcept { __asm__ volatile("" : : "r"(value)); }

int put(warm_client* client, const Id& id, const Bytes& bytes);
void put_or_stop(warm_client* client, const Id& id, const Bytes& bytes);
// Gets, reads the ends of embedding and content, releases.
uint64_t get_ends(warm_client* client, const Id& id);

// A store of 768 dimensions with its daemon; ends the program when something cannot be had.
class World {
 public:
  World(const Settings& settings, uint64_t capacity, uint64_t records, size_t content_bytes);
  void load(uint64_t from, uint64_t to, size_t content_bytes);
  [[nodiscard]] tests::support::Daemon& daemon() noexcept { return daemon_; }
  [[nodiscard]] warm_client* client() noexcept { return *client_; }
  void close() { client_.reset(); }
  void open() { client_ = std::make_unique<tests::support::Client>(daemon_, 60'000); }
  // The daemon's status page, as the library maps it.
  [[nodiscard]] const layout::StatusPage& status();
  // Waits until so many slots are prepared, or as many as the store still has.
  void await_prepared(uint64_t slots);
  // Waits until so many slots are prepared and no more are being prepared: their number stands still for so long, several times
  // what one job of the preparing thread takes. The daemon tells nobody how much is still to come.
  void await_preparing_done(uint64_t slots, uint64_t still_ns = 50 * base::kNsPerMs);
  // Brings everything to the device: no checkpoint runs then.
  void await_durable();
  // Waits until the daemon sleeps: nothing is left to do.
  void await_asleep();
  // Waits until so many slots are free.
  void await_free(uint64_t slots);

 private:
  tests::support::Daemon daemon_;
  std::unique_ptr<tests::support::Client> client_;
  const layout::StatusPage* status_ = nullptr;
};

[[noreturn]] void stop_because(const std::string& what);

// The benches.
void bench_get_random(const Settings& settings, Reporter& reporter);
void bench_get_many(const Settings& settings, Reporter& reporter);
void bench_walk(const Settings& settings, Reporter& reporter);
void bench_put_visible(const Settings& settings, Reporter& reporter);
void bench_scale_get(const Settings& settings, Reporter& reporter);
void bench_scale_put(const Settings& settings, Reporter& reporter);
void bench_put_many(const Settings& settings, Reporter& reporter);
void bench_idle(const Settings& settings, Reporter& reporter);
void bench_written(const Settings& settings, Reporter& reporter);
void bench_memory(const Settings& settings, Reporter& reporter);
void bench_workers(const Settings& settings, Reporter& reporter);
void bench_ready(const Settings& settings, Reporter& reporter);
void bench_restart(const Settings& settings, Reporter& reporter);
void bench_import(const Settings& settings, Reporter& reporter);
void bench_recall(const Settings& settings, Reporter& reporter);
void bench_kernels(const Settings& settings, Reporter& reporter);

// What comes later in this process, and what it starts, has all processors again.
class OwnProcessors {
 public:
  OwnProcessors() {
    if (::sched_getaffinity(0, sizeof before_, &before_) != 0) stop_because("sched_getaffinity");
  }
  ~OwnProcessors() { (void)::sched_setaffinity(0, sizeof before_, &before_); }
  OwnProcessors(const OwnProcessors&) = delete;
  OwnProcessors& operator=(const OwnProcessors&) = delete;

 private:
  cpu_set_t before_{};
};

}  // namespace warmtier::bench
