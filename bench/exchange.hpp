// The least that a put by way of another process can cost: a process that only copies what it is handed and says so. Two copies
// and two changes of processor, as far apart as the host has put them.
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

}  // namespace warmtier::bench
