#include "bench/exchange.hpp"

#include <sched.h>
#include <sys/mman.h>

#include <cstring>

namespace warmtier::bench {
namespace {

constexpr uint64_t kNumberShift = 32;
constexpr uint64_t kBytesMask = 0xFFFF'FFFF;
constexpr size_t kRows = 4096;  // as a store's, the copy goes to another place each time
constexpr uint32_t kLooksInARow = 10'000;
constexpr size_t kLogBytes = size_t{64} << 20;  // more than a cache

// On a busy machine the other process may wait for this one's processor.
template <typename Holds>
void look_until(Holds&& holds) noexcept {
  for (uint32_t looks = 0; !holds(); ++looks) {
    if (looks > kLooksInARow) ::sched_yield();
  }
}

std::byte* populated(size_t bytes, bool large_pages) {
  void* memory = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) stop_because("no memory for the rows of a bare exchange");
  (void)::madvise(memory, bytes, large_pages ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
  if (::madvise(memory, bytes, MADV_POPULATE_WRITE) != 0) std::memset(memory, 1, bytes);
  return static_cast<std::byte*>(memory);
}

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

ManyExchange::ManyExchange(uint64_t rows, bool large_pages) {
  other_ = tests::support::Process::fork([this, rows, large_pages] { return copy_what_comes(rows, large_pages); });
}

int ManyExchange::copy_what_comes(uint64_t rows, bool large_pages) {
  std::byte* const row_memory = populated(rows * kRowBytes, large_pages);
  std::byte* const log = populated(kLogBytes, large_pages);
  const auto row_of = [&](uint64_t number) { return row_memory + mix(number) % rows * kRowBytes; };
  constexpr size_t kTailBytesMax = sizeof(Entry::header) + sizeof(Entry::rest);
  size_t log_end = 0;
  uint64_t number = 1;
  for (uint32_t wake = 1; words_->awake.wait_for(wake, base::Deadline::never()); ++wake) {
    for (bool resting = false; !resting; ++number) {
      for (uint64_t i = 0; i < kRowBytes; i += layout::kCacheLineBytes) layout::prefetch_for_store(row_of(number + 1) + i);
      for (uint64_t i = 0; i < kTailBytesMax; i += layout::kCacheLineBytes) layout::prefetch_for_store(log + log_end + i);
      look_until([&] { return words_->handed.value.load(std::memory_order_acquire) >= number; });
      const Entry& entry = words_->entries[number % layout::kLaneEntries];
      const layout::RequestHeader header = entry.header;
      resting = header.id_bytes == 0;
      if (!resting) {
        std::memcpy(row_of(number), entry.row, kRowBytes);
        std::memcpy(log + log_end, &header, sizeof header);
        std::memcpy(log + log_end + sizeof header, entry.rest, header.id_bytes + header.content_bytes);
        log_end += sizeof header + header.id_bytes + header.content_bytes;
        if (log_end + kTailBytesMax > kLogBytes) log_end = 0;
      }
      words_->done.value.store(number, std::memory_order_release);
    }
  }
  return 1;
}

ManyExchange::Entry& ManyExchange::next_entry() noexcept {
  ++number_;
  if (number_ - done_ > layout::kLaneEntries) {
    look_until([&] {
      done_ = words_->done.value.load(std::memory_order_acquire);
      return number_ - done_ <= layout::kLaneEntries;
    });
  }
  return words_->entries[number_ % layout::kLaneEntries];
}

void ManyExchange::publish() noexcept { words_->handed.value.store(number_, std::memory_order_release); }

void ManyExchange::wake() {
  words_->awake.advance();
  hand_over(Id(0), Bytes(0));
  await_all();
}

void ManyExchange::rest() {
  next_entry().header = {};
  publish();
  await_all();
}

void ManyExchange::hand_over(const Id& id, const Bytes& bytes) noexcept {
  Entry& entry = next_entry();
  entry.header = {};
  entry.header.id_bytes = Id::bytes();
  entry.header.content_bytes = bytes.content().size();
  std::memcpy(entry.row, bytes.row(), kRowBytes);
  std::memcpy(entry.rest, id.data(), Id::bytes());
  std::memcpy(entry.rest + Id::bytes(), bytes.content().data(), bytes.content().size());
  publish();
}

void ManyExchange::await_all() noexcept {
  look_until([&] { return words_->done.value.load(std::memory_order_acquire) == number_; });
}

}  // namespace warmtier::bench
