#include "daemon/store/content.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <utility>

#include "base/checked.hpp"
#include "base/failpoint.hpp"

namespace warmtier::daemon::store {
namespace {

// A sealed segment keeps its length, for readers map it; the unused tail gives its space back.
void punch_unused(const Segment& segment) {
  const uint64_t unused = base::round_up<uint64_t>(segment.tail, layout::kPageBytes);
  if (unused >= segment.bytes) return;
  ::fallocate(segment.fd.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(unused),
              static_cast<off_t>(segment.bytes - unused));
}

std::unexpected<base::Error> no_number() {
  return base::fail(WARM_E_LIMIT, "segment numbers end at %llu, and the last one is taken",
                    static_cast<unsigned long long>(layout::kSegmentNumberEnd));
}

}  // namespace

StagedContent::StagedContent() noexcept = default;
StagedContent::StagedContent(StagedContent&&) noexcept = default;
StagedContent& StagedContent::operator=(StagedContent&& other) noexcept {
  if (this == &other) return *this;
  if (segment_) ::unlinkat(content_directory_, segment_name(segment_->number).c_str(), 0);
  content_directory_ = other.content_directory_;
  segment_ = std::move(other.segment_);
  content_offset_ = other.content_offset_;
  content_bytes_ = other.content_bytes_;
  content_hash_ = other.content_hash_;
  return *this;
}
StagedContent::~StagedContent() {
  if (segment_) ::unlinkat(content_directory_, segment_name(segment_->number).c_str(), 0);
}

Content::Content(base::Fd directory, const layout::Superblock& superblock, uint64_t prepared_bytes, Tier& tier,
                 Published& published, layout::StatusPage& status)
    : directory_(std::move(directory)),
      segment_bytes_(superblock.segment_bytes),
      prepared_bytes_(prepared_bytes),
      tier_(tier),
      published_(published),
      status_(status) {
  std::memcpy(store_id_, superblock.store_id, sizeof store_id_);
}

Content::~Content() {
  if (spare_) ::unlinkat(directory_.get(), segment_name(spare_->number).c_str(), 0);
}

void Content::recovered(uint64_t bytes_live, bool whole) {
  bytes_live_ = bytes_live;
  segments_.for_each([&](Segment& segment) {
    bytes_total_ += segment.tail - sizeof(layout::SegmentHeader);
    if (segment.live_records == 0 && whole) dead_.push_back(segment.number);
    // The one that was active: what lies behind its last record was never named. A damaged record's end is not known.
    if (whole) punch_unused(segment);
  });
}

base::Status Content::start() {
  const auto number = next_number();
  if (!number) return no_number();
  auto segment = make_segment(directory_.get(), *number, segment_bytes_, prepared_bytes_, store_id_);
  if (!segment) return base::pass(std::move(segment));
  activate(std::move(*segment));
  return {};
}

bool Content::take_spare() {
  if (!spare_) return false;
  seal_active();
  activate(std::move(spare_));
  return true;
}

void Content::activate(std::unique_ptr<Segment> segment) {
  active_ = &segments_.add(std::move(segment));
  publish();
}

void Content::seal_active() {
  if (active_ == nullptr) return;
  active_->sealed = true;
  punch_unused(*active_);
  if (active_->live_records == 0) dead_.push_back(active_->number);
  active_ = nullptr;
}

Content::Room Content::adopt(StagedContent& staged, uint64_t bytes) {
  Segment& segment = segments_.add(std::move(staged.segment_));
  segment.sealed = true;
  return {.segment = &segment, .offset = sizeof(layout::SegmentHeader), .bytes = bytes};
}

void Content::publish() {
  uint64_t epoch = 0;
  {
    std::lock_guard guard(published_.mutex);
    published_.segments.clear();
    segments_.for_each(
        [&](Segment& segment) { published_.segments.push_back({.number = segment.number, .fd = segment.fd.get()}); });
    epoch = ++published_.segment_epoch;
  }
  layout::store_release(status_.segment_epoch, epoch);
  layout::store_relaxed(status_.segments, segments_.size());
}

// Law 2: what it held is dead, durably so, and what replaced it is durable.
void Content::unlink_dead(uint64_t durable) {
  bool any = false;
  std::erase_if(dead_, [&](uint64_t number) {
    Segment* segment = segments_.find(number);
    if (segment == nullptr) return true;
    if (segment->live_records > 0 || segment->last_death > durable) return false;
    WARM_FAILPOINT("store.unlink_before");
    ::unlinkat(directory_.get(), segment_name(number).c_str(), 0);
    WARM_FAILPOINT("store.unlink_after");
    {
      std::lock_guard guard(published_.mutex);
      std::erase_if(published_.segments, [&](const PublishedSegment& s) { return s.number == number; });
    }
    bytes_total_ -= segment->tail - sizeof(layout::SegmentHeader);
    segments_.remove(number);
    any = true;
    return true;
  });
  if (any) publish();
}

base::Result<StagedContent> Content::stage(uint32_t id_bytes, uint64_t content_bytes,
                                           const std::function<base::Status(std::byte*, uint64_t, uint64_t)>& read) {
  const auto number = next_number();
  if (!number) return no_number();
  const uint64_t bytes =
      base::round_up<uint64_t>(sizeof(layout::SegmentHeader) + layout::record_bytes(id_bytes, content_bytes), layout::kPageBytes);
  auto segment = make_segment(directory_.get(), *number, bytes, layout::kPageBytes, store_id_, kDescriptorsLeftBySegments);
  if (!segment) return base::pass(std::move(segment));
  StagedContent staged;
  staged.content_directory_ = directory_.get();
  staged.segment_ = std::move(*segment);
  staged.content_offset_ = sizeof(layout::SegmentHeader) + sizeof(layout::RecordHeader) + id_bytes;
  staged.content_bytes_ = content_bytes;
  std::byte* at = staged.segment_->at(staged.content_offset_);
  if (auto s = read(at, 0, content_bytes); !s) return base::pass(std::move(s));
  staged.content_hash_ = layout::content_hash(at, content_bytes, false);
  return staged;
}

}  // namespace warmtier::daemon::store
