#include "daemon/store/segments.hpp"

#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>

#include "base/clock.hpp"
#include "layout/record.hpp"
#include "layout/validate.hpp"

namespace warmtier::daemon::store {

std::string segment_name(uint64_t number) {
  char name[32];
  std::snprintf(name, sizeof name, "%010llu.seg", static_cast<unsigned long long>(number));
  return name;
}

base::Result<std::unique_ptr<Segment>> make_segment(int content_directory, uint64_t number, uint64_t bytes,
                                                    uint64_t populate_bytes, const uint8_t (&store_id)[16],
                                                    uint64_t descriptors_left) {
  const std::string name = segment_name(number);
  auto segment = std::make_unique<Segment>();
  auto fd = base::open_at(content_directory, name.c_str(), O_RDWR | O_CREAT | O_EXCL, 0640);
  if (!fd) return base::pass(std::move(fd));
  auto undo = [&] { ::unlinkat(content_directory, name.c_str(), 0); };
  // Numbers are given from the lowest one on, so this one says how many are open.
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) == 0 && static_cast<uint64_t>(fd->get()) + descriptors_left >= limit.rlim_cur) {
    undo();
    return base::fail_errno(EMFILE, "make content/%s: the last %llu descriptors are not for segments", name.c_str(),
                            static_cast<unsigned long long>(descriptors_left));
  }
  if (auto status = base::allocate(fd->get(), 0, bytes); !status) {
    undo();
    return base::pass(std::move(status));
  }
  auto map = base::WriteMapping::map(fd->get(), bytes);
  if (!map) {
    undo();
    return base::pass(std::move(map));
  }
  base::prefer_large_pages(map->data(), bytes);
  if (auto status = base::populate_write(map->data(), populate_bytes < bytes ? populate_bytes : bytes); !status) {
    undo();
    return base::pass(std::move(status));
  }
  layout::SegmentHeader header{};
  header.magic = layout::kSegmentMagic;
  header.format_version = layout::kFormatVersion;
  header.header_bytes = sizeof header;
  header.number = number;
  header.segment_bytes = bytes;
  std::memcpy(header.store_id, store_id, sizeof header.store_id);
  header.created_ns = base::wall_ns();
  header.checksum = layout::segment_header_checksum(header);
  layout::store_bytes(map->data(), &header, sizeof header);
  segment->number = number;
  segment->fd = std::move(*fd);
  segment->map = std::move(*map);
  segment->bytes = bytes;
  segment->tail = sizeof header;
  segment->populated = populate_bytes < bytes ? populate_bytes : bytes;
  return segment;
}

base::Result<std::unique_ptr<Segment>> open_segment(int content_directory, uint64_t number, const uint8_t (&store_id)[16]) {
  const std::string name = segment_name(number);
  auto fd = base::open_at(content_directory, name.c_str(), O_RDWR);
  if (!fd) return base::pass(std::move(fd));
  auto bytes = base::file_bytes(fd->get());
  if (!bytes) return base::pass(std::move(bytes));
  if (*bytes < sizeof(layout::SegmentHeader)) {
    return base::fail(WARM_E_CORRUPT, "content/%s has %llu bytes, its header %zu", name.c_str(),
                      static_cast<unsigned long long>(*bytes), sizeof(layout::SegmentHeader));
  }
  auto map = base::WriteMapping::map(fd->get(), *bytes);
  if (!map) return base::pass(std::move(map));
  const layout::Verdict verdict = layout::validate_segment_header({map->data(), map->bytes()}, store_id, number);
  if (verdict != layout::Verdict::good) {
    return base::fail(WARM_E_CORRUPT, "content/%s: header: %s", name.c_str(), layout::verdict_text(verdict));
  }
  auto segment = std::make_unique<Segment>();
  segment->number = number;
  segment->fd = std::move(*fd);
  segment->map = std::move(*map);
  segment->bytes = *bytes;
  segment->tail = sizeof(layout::SegmentHeader);
  segment->sealed = true;
  return segment;
}

Segment& SegmentTable::add(std::unique_ptr<Segment> segment) {
  const uint64_t number = segment->number;
  if (table_.empty()) first_ = number;
  if (number < first_) {
    const uint64_t shift = first_ - number;
    std::vector<std::unique_ptr<Segment>> moved(shift + table_.size());
    for (size_t i = 0; i < table_.size(); ++i) moved[shift + i] = std::move(table_[i]);
    table_ = std::move(moved);
    first_ = number;
  }
  if (number - first_ >= table_.size()) table_.resize(number - first_ + 1);
  ++count_;
  return *(table_[number - first_] = std::move(segment));
}

void SegmentTable::remove(uint64_t number) {
  if (find(number) == nullptr) return;
  table_[number - first_].reset();
  --count_;
  size_t gone = 0;
  while (gone < table_.size() && !table_[gone]) ++gone;
  table_.erase(table_.begin(), table_.begin() + static_cast<ptrdiff_t>(gone));
  first_ += gone;
}

}  // namespace warmtier::daemon::store
