// The feed of changes, read while the daemon writes it: which slot changed by which operation, and which id it was.
//
// Places of the ring are used again, so every answer says whether it still holds: a change that was overtaken is gone, never
// wrong (protocol, F). Any thread; whoever uses the map stands inside its attachment.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "base/error.hpp"
#include "base/fd.hpp"
#include "base/mapping.hpp"
#include "layout/layout.hpp"

namespace warmtier::libclient {

class FeedMap {
 public:
  struct Change {
    uint64_t sequence = 0;
    layout::ChangeKind kind{};
    uint32_t slot = 0;  // of the new record; of the removed one
  };

  FeedMap() = default;
  static base::Result<FeedMap> map(const base::Fd& file);

  // Position of the next change; those below it can be asked for.
  [[nodiscard]] uint64_t head() const noexcept { return layout::load_acquire(header_->head); }
  // The position of the change with this sequence, whether it is gone, there or to come. nullopt: it was made by an earlier
  // daemon.
  [[nodiscard]] std::optional<uint64_t> position_of(uint64_t sequence) const noexcept;
  // The sequence of the change right below a position.
  [[nodiscard]] uint64_t sequence_below(uint64_t position) const noexcept {
    return sequence_base_ + (position - layout::kWrapStart);
  }
  // nullopt: overtaken, or not there yet.
  [[nodiscard]] std::optional<Change> entry(uint64_t position) const noexcept;
  // Copies the id of the change at `position` and returns its length. nullopt: overtaken, or not there yet; the copy is of no
  // use.
  [[nodiscard]] std::optional<uint32_t> id(uint64_t position, std::span<std::byte, layout::kIdBytesMax> buffer) const noexcept;

 private:
  [[nodiscard]] bool overtaken(uint64_t position, uint64_t head) const noexcept {
    return head - position > uint64_t{1} << entries_log2_;
  }

  base::ReadMapping map_;
  const layout::FeedHeader* header_ = nullptr;
  const layout::FeedEntry* entries_ = nullptr;
  const uint64_t* id_words_ = nullptr;
  const std::byte* ids_ = nullptr;
  uint32_t entries_log2_ = 0;
  uint32_t ids_log2_ = 0;
  uint64_t sequence_base_ = 0;
};

}  // namespace warmtier::libclient
