// The least that puts by way of another process can cost: a process that only copies what it is handed and says so. Two copies
// and two changes of processor, as far apart as the host has put them; and the same for many, where nobody waits for each.
#pragma once

#include <atomic>
#include <cstddef>
#include <vector>

#include "bench/world.hpp"

namespace warmtier::bench {

class Exchange {
 public:
  // Of so many bytes at most.
  explicit Exchange(size_t bytes_max);
  // Both sides look for each other without a pause from wake() to rest(); meanwhile the other process sleeps.
  void wake();
  void rest();
  void hand_over(const void* bytes, size_t n) noexcept;

 private:
  struct alignas(layout::kCacheLineBytes) Word {
    std::atomic<uint64_t> value{0};
  };
  struct Words {
    Word asked;     // number of the exchange in the high half, its bytes in the low one; no bytes: rest
    Word answered;  // the same
    tests::support::Steps awake;
  };
  int copy_what_comes();

  size_t bytes_max_;
  tests::support::Shared<Words> words_;
  std::byte* lane_;  // one entry, shared
  uint64_t number_ = 0;
  tests::support::Process other_;
};

// Many at once. Header, embedding, id and content go into one of eight entries that both see; the other process copies the row to
// another place of a store's size each time and the rest to where a log ends, and counts. Neither ever sleeps. There is no index,
// sequence, checksum or checkpoint, the entries lie as close as they can, and the next row is fetched in time.
class ManyExchange {
 public:
  static constexpr size_t kContentBytesMax = 112;
  // Into rows of so many records.
  ManyExchange(uint64_t rows, bool large_pages);
  // As of Exchange.
  void wake();
  void rest();
  void hand_over(const Id& id, const Bytes& bytes) noexcept;
  void await_all() noexcept;  // until all of it is copied
  [[nodiscard]] pid_t pid() const noexcept { return other_.pid(); }

 private:
  struct alignas(layout::kCacheLineBytes) Entry {
    layout::RequestHeader header;  // id_bytes 0: rest
    float row[kDimensions];
    char rest[Id::bytes() + kContentBytesMax];  // id, content
  };
  struct alignas(layout::kCacheLineBytes) Word {
    std::atomic<uint64_t> value{0};
  };
  struct Words {
    Word handed;  // the last one
    Word done;
    tests::support::Steps awake;
    Entry entries[layout::kLaneEntries];
  };
  Entry& next_entry() noexcept;
  void publish() noexcept;
  int copy_what_comes(uint64_t rows, bool large_pages);

  tests::support::Shared<Words> words_;
  uint64_t number_ = 0;  // the last one handed over
  uint64_t done_ = 0;  // as last seen
  tests::support::Process other_;
};

}  // namespace warmtier::bench
