#include "libclient/feed.hpp"

#include <cstring>

#include "base/failpoint.hpp"
#include "layout/validate.hpp"

namespace warmtier::libclient {

base::Result<FeedMap> FeedMap::map(const base::Fd& file) {
  auto bytes = base::file_bytes(file.get());
  if (!bytes) return base::pass(std::move(bytes));
  if (*bytes < sizeof(layout::FeedHeader)) return base::fail(WARM_E_CORRUPT, "the daemon's feed has %lu bytes", *bytes);
  auto map = base::ReadMapping::map(file.get(), *bytes);
  if (!map) return base::pass(std::move(map));
  const std::span span(map->data(), map->bytes());
  if (const auto verdict = layout::validate_feed_header(span, *bytes); verdict != layout::Verdict::good) {
    return base::fail(verdict == layout::Verdict::unknown_version ? WARM_E_VERSION : WARM_E_CORRUPT, "the daemon's feed is %s",
                      layout::verdict_text(verdict));
  }
  FeedMap feed;
  feed.map_ = std::move(*map);
  const std::byte* at = feed.map_.data();
  feed.header_ = reinterpret_cast<const layout::FeedHeader*>(at);
  feed.entries_log2_ = feed.header_->entries_log2;
  feed.ids_log2_ = feed.header_->ids_log2;
  feed.sequence_base_ = feed.header_->sequence_base;
  feed.entries_ = reinterpret_cast<const layout::FeedEntry*>(at + sizeof(layout::FeedHeader));
  feed.id_words_ = reinterpret_cast<const uint64_t*>(at + layout::feed_id_words_offset(feed.entries_log2_));
  feed.ids_ = at + layout::feed_ids_offset(feed.entries_log2_);
  return feed;
}

std::optional<uint64_t> FeedMap::position_of(uint64_t sequence) const noexcept {
  if (sequence <= sequence_base_) return std::nullopt;
  return layout::kWrapStart + (sequence - sequence_base_ - 1);
}

std::optional<FeedMap::Change> FeedMap::entry(uint64_t position) const noexcept {
  const uint64_t now = head();
  if (position >= now || overtaken(position, now)) return std::nullopt;
  WARM_STEP("client.feed_entry_begun");
  const layout::FeedEntry entry = layout::load_entry(entries_[position & ((uint64_t{1} << entries_log2_) - 1)]);
  layout::fence_acquire();
  // One store wrote both words, so the position says whose sequence and slot these are.
  if (entry.place >> 32 != (position & 0xFFFF'FFFFU) && WARM_RULE("client.feed_position")) return std::nullopt;
  return Change{.sequence = layout::sequence_of(entry.change),
                .kind = static_cast<layout::ChangeKind>(entry.change >> layout::kSequenceBits),
                .slot = static_cast<uint32_t>(entry.place)};
}

std::optional<uint32_t> FeedMap::id(uint64_t position, std::span<std::byte, layout::kIdBytesMax> buffer) const noexcept {
  if (position >= head()) return std::nullopt;
  WARM_STEP("client.feed_id_begun");
  const uint64_t word = layout::load_acquire(id_words_[position & ((uint64_t{1} << entries_log2_) - 1)]);
  const uint64_t unit = layout::feed_id_unit(word);
  const uint32_t bytes = layout::feed_id_bytes(word);
  WARM_STEP("client.feed_id_word_loaded");
  if (bytes > layout::kIdBytesMax) return std::nullopt;  // not the store thread's
  std::memcpy(buffer.data(), ids_ + layout::feed_id_offset(unit, ids_log2_), bytes);
  layout::fence_acquire();
  WARM_STEP("client.feed_id_copied");
  // The word is this position's only while the head has not come round to its place, where the next word is stored before the
  // head moves on.
  const bool own_word = head() - position < uint64_t{1} << entries_log2_ || !WARM_RULE("client.feed_head_again");
  const bool whole =
      layout::feed_id_whole(unit, layout::load_relaxed(header_->ids_end), ids_log2_) || !WARM_RULE("client.feed_end_again");
  if (!own_word || !whole) return std::nullopt;
  return bytes;
}

}  // namespace warmtier::libclient
