#include "daemon/store/shared_pages.hpp"

#include <unistd.h>

#include "base/clock.hpp"

namespace warmtier::daemon::store {
namespace {

struct Memory {
  base::Fd fd;
  base::WriteMapping map;
};

base::Result<Memory> make_memory(const char* name, uint64_t bytes) {
  Memory memory;
  auto fd = base::make_memfd(name, bytes, true);
  if (!fd) return base::pass(std::move(fd));
  auto map = base::WriteMapping::map(fd->get(), bytes);
  if (!map) return base::pass(std::move(map));
  if (auto status = base::populate_write(map->data(), bytes); !status) return base::pass(std::move(status));
  if (auto status = base::seal_for_readers(fd->get()); !status) return base::pass(std::move(status));
  memory.fd = std::move(*fd);
  memory.map = std::move(*map);
  return memory;
}

}  // namespace

base::Result<Feed> Feed::make(uint64_t sequence_base, const Size& size) {
  auto memory = make_memory("warmtier-feed", layout::feed_bytes(size.entries_log2, size.ids_log2));
  if (!memory) return base::pass(std::move(memory));
  Feed feed;
  feed.size_ = size;
  feed.sequence_base_ = sequence_base;
  feed.fd_ = std::move(memory->fd);
  feed.map_ = std::move(memory->map);
  feed.header_ = reinterpret_cast<layout::FeedHeader*>(feed.map_.data());
  feed.entries_ = reinterpret_cast<layout::FeedEntry*>(feed.map_.data() + sizeof(layout::FeedHeader));
  feed.header_->format_version = layout::kFormatVersion;
  feed.id_words_ = reinterpret_cast<uint64_t*>(feed.map_.data() + layout::feed_id_words_offset(size.entries_log2));
  feed.ids_ = feed.map_.data() + layout::feed_ids_offset(size.entries_log2);
  feed.header_->entries_log2 = size.entries_log2;
  feed.header_->ids_log2 = size.ids_log2;
  feed.header_->sequence_base = sequence_base;
  feed.header_->head = feed.head_;
  feed.header_->ids_end = feed.ids_end_;
  layout::store_release(feed.header_->magic, layout::kFeedMagic);
  return feed;
}

base::Result<StatusMap> StatusMap::make() {
  auto memory = make_memory("warmtier-status", sizeof(layout::StatusPage));
  if (!memory) return base::pass(std::move(memory));
  StatusMap status;
  status.fd_ = std::move(memory->fd);
  status.map_ = std::move(memory->map);
  status.page().format_version = layout::kFormatVersion;
  status.page().daemon_pid = static_cast<uint32_t>(::getpid());
  status.page().started_ns = base::wall_ns();
  return status;
}

}  // namespace warmtier::daemon::store
