// How a reader gets at the store's bytes: in place, or through the kernel, which answers with an error where an access of our
// own would be a signal. The index is a memfd: it is always read in place.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/failpoint.hpp"
#include "layout/shared.hpp"
#include "libclient/attachment.hpp"

namespace warmtier::libclient {

struct InPlace {
  static constexpr bool kInPlace = true;

  template <layout::Word T>
  static T load(const T& word) noexcept {
    return layout::load_acquire(word);
  }
  static layout::Quad quad(const layout::Quad& shared) noexcept {
    layout::Quad quad = layout::load_quad(shared);
    if (!WARM_RULE("client.quad_in_one_load")) {
      WARM_STEP("client.get_half_quad_loaded");
      quad.recall_count = layout::load_quad(shared).recall_count;
    }
    return quad;
  }
  static bool current(const Attachment& a) noexcept { return a.current(); }
  static constexpr bool failed() noexcept { return false; }
};

// Its first failure stays: what it loads from then on is 0 and means nothing.
class ThroughKernel {
 public:
  static constexpr bool kInPlace = false;

  template <layout::Word T>
  T load(const T& word) noexcept {
    // The kernel copies an aligned word as a whole; one that it did not would fail its check bits or the look after it.
    T value{};
    copy(&value, &word, sizeof value);
    layout::fence_acquire();
    return value;
  }
  // Twice the same: then it is of one moment, though the kernel may copy it in parts.
  layout::Quad quad(const layout::Quad& shared) noexcept;
  bool current(const Attachment& a) noexcept { return load(*a.generation_word) == a.generation; }
  bool copy(void* to, const void* from, size_t n) noexcept;

  [[nodiscard]] bool failed() const noexcept { return error_ != 0; }
  [[nodiscard]] int error() const noexcept { return error_; }  // EFAULT: these bytes cannot be read; else: nothing can

 private:
  int error_ = 0;
};

}  // namespace warmtier::libclient
