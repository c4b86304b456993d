#include "bench/exchange.hpp"

#include <sys/mman.h>

#include <cstring>

namespace warmtier::bench {
namespace {

constexpr uint64_t kNumberShift = 32;
constexpr uint64_t kBytesMask = 0xFFFF'FFFF;
constexpr size_t kRows = 4096;  // as a store's, the copy goes to another place each time

}  // namespace

Exchange::Exchange(size_t bytes_max) : bytes_max_(bytes_max) {
  void* memory = ::mmap(nullptr, bytes_max, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
  if (memory == MAP_FAILED) stop_because("no memory to share with a child");
  lane_ = static_cast<std::byte*>(memory);
  other_ = tests::support::Process::fork([this] { return copy_what_comes(); });
}

int Exchange::copy_what_comes() {
  std::vector<std::byte> rows(kRows * bytes_max_);
  uint64_t last = 0;
  size_t row = 0;
  for (uint32_t wake = 1; words_->awake.wait_for(wake, base::Deadline::never()); ++wake) {
    for (;;) {
      const uint64_t asked = words_->asked.value.load(std::memory_order_acquire);
      if (asked == last) continue;
      last = asked;
      std::memcpy(rows.data() + row * bytes_max_, lane_, asked & kBytesMask);
      row = (row + 1) % kRows;
      words_->answered.value.store(asked, std::memory_order_release);
      if ((asked & kBytesMask) == 0) break;
    }
  }
  return 1;
}

void Exchange::wake() {
  words_->awake.advance();
  hand_over(lane_, 1);  // it is at it when this returns
}

void Exchange::rest() { hand_over(lane_, 0); }

void Exchange::hand_over(const void* bytes, size_t n) noexcept {
  if (bytes != lane_) std::memcpy(lane_, bytes, n);
  const uint64_t asked = ++number_ << kNumberShift | n;
  words_->asked.value.store(asked, std::memory_order_release);
  while (words_->answered.value.load(std::memory_order_acquire) != asked) layout::cpu_relax();
}

}  // namespace warmtier::bench
