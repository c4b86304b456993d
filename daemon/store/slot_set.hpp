// Numbers of slots as bits, given back in ascending order: slots that are neighbours have rows and lines in the same pages, and
// whoever takes them in order walks the page tables along one path.
#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "base/assert.hpp"

namespace warmtier::daemon::store {

class SlotSet {
 public:
  // One that is not in it.
  void insert(uint32_t slot) {
    const size_t word = slot / 64;
    if (word >= words_.size()) {
      words_.resize(word + 1);
      filled_.resize(word / 64 + 1);
    }
    WARM_ASSERT((words_[word] >> slot % 64 & 1) == 0);
    words_[word] |= uint64_t{1} << slot % 64;
    filled_[word / 64] |= uint64_t{1} << word % 64;
    first_filled_ = std::min(first_filled_, word / 64);
    ++size_;
  }
  [[nodiscard]] std::optional<uint32_t> lowest() const {
    if (size_ == 0) return std::nullopt;
    for (size_t i = first_filled_; i < filled_.size(); ++i) {
      if (filled_[i] == 0) continue;
      const size_t word = i * 64 + static_cast<size_t>(std::countr_zero(filled_[i]));
      return static_cast<uint32_t>(word * 64 + static_cast<size_t>(std::countr_zero(words_[word])));
    }
    return std::nullopt;
  }
  std::optional<uint32_t> take_lowest() {
    const auto slot = lowest();
    if (!slot) return std::nullopt;
    const size_t word = *slot / 64;
    words_[word] &= words_[word] - 1;
    if (words_[word] == 0) filled_[word / 64] &= filled_[word / 64] - 1;
    first_filled_ = word / 64;
    --size_;
    return slot;
  }
  [[nodiscard]] size_t size() const { return size_; }
  [[nodiscard]] bool empty() const { return size_ == 0; }

  template <typename Visit>
  void for_each(Visit&& visit) const {
    for (size_t word = 0; word < words_.size(); ++word) {
      for (uint64_t left = words_[word]; left != 0; left &= left - 1)
        visit(static_cast<uint32_t>(word * 64 + static_cast<size_t>(std::countr_zero(left))));
    }
  }

 private:
  std::vector<uint64_t> words_;
  std::vector<uint64_t> filled_;  // which words are not zero
  size_t first_filled_ = 0;       // every word of `filled_` before it is zero
  size_t size_ = 0;
};

}  // namespace warmtier::daemon::store
