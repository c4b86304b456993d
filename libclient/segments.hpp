// The content segments that a client has mapped, and the snapshot by which readers find them.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "base/error.hpp"
#include "base/fd.hpp"
#include "base/mapping.hpp"

namespace warmtier::libclient {

struct SegmentMap {
  uint64_t number = 0;
  uint64_t bytes = 0;
  base::ReadMapping map;
  base::Fd file;                          // kept only where the map could not be had: content is read by pread then
  std::atomic<bool> retired{false};       // in no table any more
  std::atomic<uint64_t> views_left{1};    // of a retired one: its views, and 1 until they are counted

  // A damaged or foreign file is an error; address space that cannot be had is not.
  static base::Result<std::unique_ptr<SegmentMap>> make(base::Fd file, uint64_t number, const uint8_t (&store_id)[16]);
  // `n` bytes at `offset`, by pread. False: the file does not hold them, or the system call failed.
  [[nodiscard]] bool read(void* to, uint64_t offset, uint64_t n) const noexcept;
};

// Immutable once it is published: open addressing over at most half-full slots.
class SegmentTable {
 public:
  struct Entry {
    uint64_t number_plus_1 = 0;  // 0: empty
    const std::byte* base = nullptr;  // null: read by pread
    uint64_t bytes = 0;
    SegmentMap* map = nullptr;
  };

  SegmentTable(const std::byte* tier, uint64_t epoch, const std::vector<SegmentMap*>& segments);

  [[nodiscard]] const Entry* find(uint64_t number) const noexcept {
    for (uint64_t i = spread(number);; ++i) {
      const Entry& entry = entries_[i & mask_];
      if (entry.number_plus_1 == number + 1) return &entry;
      if (entry.number_plus_1 == 0) return nullptr;
    }
  }
  // Of the status page when the list was made.
  [[nodiscard]] uint64_t epoch() const noexcept { return epoch_; }
  // The tier whose locators it resolves: numbers of another store mean nothing here.
  [[nodiscard]] const std::byte* tier() const noexcept { return tier_; }

 private:
  static uint64_t spread(uint64_t number) noexcept { return number; }  // numbers rise by one: neighbours lie apart by themselves

  const std::byte* tier_;
  uint64_t epoch_;
  uint64_t mask_;
  std::vector<Entry> entries_;
};

}  // namespace warmtier::libclient
