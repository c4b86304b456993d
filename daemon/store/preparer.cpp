#include "daemon/store/preparer.hpp"

#include <pthread.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "base/checked.hpp"

namespace warmtier::daemon::store {
namespace {

template <typename... F>
struct Overloaded : F... {
  using F::operator()...;
};

base::Status make_chunk(const Tier& tier, uint64_t chunk, bool large_pages) {
  const auto bytes = tier.chunk_bytes(chunk);
  const uint64_t offset = tier.geometry().chunk_offset(chunk);
  uint64_t end = offset + bytes.size();
  // The file ends where a large page ends then: the kernel makes none that would reach beyond it. What that allocates of later
  // chunks holds nothing yet, as after a daemon that was killed while the file grew.
  if (large_pages) end = base::round_up<uint64_t>(end, base::kLargePageBytes);
  if (auto s = base::allocate(tier.fd(), offset, end - offset); !s) return s;
  if (large_pages) {
    const uint64_t first = offset / base::kLargePageBytes * base::kLargePageBytes;
    const auto whole = tier.mapped(first, std::min(end, tier.geometry().file_bytes(tier.geometry().chunks_max())) - first);
    base::prefer_large_pages(whole.data(), whole.size());
  }
  return base::populate_write(bytes.data(), bytes.size());
}

// Rows of neighbouring slots share pages: one call for each run. Lines of many share one.
base::Status populate_slots(const Tier& tier, const std::vector<uint32_t>& ascending) {
  std::byte* lines_end = nullptr;  // populated up to there
  for (size_t i = 0; i < ascending.size();) {
    size_t end = i + 1;
    while (end < ascending.size() && ascending[end] == ascending[end - 1] + 1 && ascending[end] % layout::kSlotsPerChunk != 0)
      ++end;
    const uint64_t run = end - i;
    if (auto s = base::populate_write(tier.row(ascending[i]), run * tier.geometry().row_bytes); !s) return s;
    auto* const lines = reinterpret_cast<std::byte*>(&tier.line(ascending[i]));
    if (std::byte* const wanted = lines + run * sizeof(layout::SlotLine); wanted > lines_end) {
      if (auto s = base::populate_write(lines, run * sizeof(layout::SlotLine)); !s) return s;
      lines_end =
          reinterpret_cast<std::byte*>(base::round_up<uintptr_t>(reinterpret_cast<uintptr_t>(wanted), layout::kPageBytes));
    }
    i = end;
  }
  return {};
}

}  // namespace

base::Result<std::unique_ptr<Preparer>> Preparer::start(const World& world) {
  std::unique_ptr<Preparer> preparer(new Preparer(world));
  const int fd = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (fd < 0) return base::fail_errno(errno, "eventfd");
  preparer->event_.reset(fd);
  preparer->thread_ = std::thread([p = preparer.get()] {
    (void)::pthread_setname_np(::pthread_self(), "preparing");
    p->run();
  });
  return preparer;
}

Preparer::~Preparer() {
  {
    std::lock_guard guard(mutex_);
    stop_ = true;
    jobs_.clear();
  }
  wake_.notify_one();
  if (thread_.joinable()) thread_.join();
}

void Preparer::order(Job job) {
  {
    std::lock_guard guard(mutex_);
    jobs_.push_back(std::move(job));
  }
  wake_.notify_one();
}

bool Preparer::take(Prepared& ret_prepared) {
  if (done_count_.load(std::memory_order_acquire) == 0) return false;
  std::lock_guard guard(mutex_);
  ret_prepared = std::move(done_.front());
  done_.pop_front();
  done_count_.store(done_.size(), std::memory_order_release);
  return true;
}

void Preparer::clear_event() noexcept {
  uint64_t count = 0;
  (void)!::read(event_.get(), &count, sizeof count);
}

void Preparer::run() {
  for (;;) {
    Job job;
    {
      std::unique_lock lock(mutex_);
      wake_.wait(lock, [&] { return stop_ || !jobs_.empty(); });
      if (stop_) return;
      job = std::move(jobs_.front());
      jobs_.pop_front();
    }
    Prepared prepared = carry_out(std::move(job));
    {
      std::lock_guard guard(mutex_);
      done_.push_back(std::move(prepared));
      done_count_.store(done_.size(), std::memory_order_release);
    }
    const uint64_t one = 1;
    (void)!::write(event_.get(), &one, sizeof one);
  }
}

Prepared Preparer::carry_out(Job job) {
  Prepared prepared;
  prepared.status =
      std::visit(Overloaded{
                     [&](ChunkJob& j) -> base::Status { return make_chunk(*world_.tier, j.chunk, world_.large_pages); },
                     [&](SlotsJob& j) -> base::Status { return populate_slots(*world_.tier, j.slots); },
                     [&](LinesJob& j) -> base::Status {
                       for (uint64_t chunk = j.first_chunk; chunk < j.end_chunk; ++chunk) {
                         const auto lines = world_.tier->chunk_lines(chunk);
                         if (auto s = base::populate_write(lines.data(), lines.size()); !s) return s;
                       }
                       return {};
                     },
                     [&](SegmentJob& j) -> base::Status {
                       auto segment = make_segment(world_.content_directory, j.number, j.bytes, j.populate_bytes, world_.store_id,
                                                   kDescriptorsLeftBySegments);
                       if (!segment) return base::pass(std::move(segment));
                       prepared.segment = std::move(*segment);
                       return {};
                     },
                     [&](TailJob& j) -> base::Status { return base::populate_write(j.from, j.bytes); },
                     [&](TableJob& j) -> base::Status {
                       auto table = IndexTable::make(j.homes_log2, world_.hash_seed);
                       if (!table) return base::pass(std::move(table));
                       if (auto s = table->publish(); !s) return s;
                       prepared.table = std::move(*table);
                       return {};
                     },
                 },
                 job);
  prepared.job = std::move(job);
  return prepared;
}

}  // namespace warmtier::daemon::store
