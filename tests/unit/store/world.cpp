#include "tests/unit/store/world.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <map>

#include "base/assert.hpp"
#include "base/clock.hpp"
#include "base/fd.hpp"
#include "base/mapping.hpp"
#include "daemon/store/recovery.hpp"
#include "layout/record.hpp"
#include "layout/validate.hpp"

namespace warmtier::tests {
namespace {

template <typename T>
T must(base::Result<T> result) {
  if (!result) std::fprintf(stderr, "%s\n", result.error().text.c_str());
  WARM_ASSERT(result);
  return std::move(*result);
}
void must(const base::Status& status) {
  if (!status) std::fprintf(stderr, "%s\n", status.error().text.c_str());
  WARM_ASSERT(status);
}

}  // namespace

// What the device is known to have: of each file the bytes of every sync that was reported done, as they were when it was asked
// for.
class Device {
 public:
  void remember(const std::string& directory) {
    images_.clear();
    directory_ = directory;
    for (const auto& file : files()) images_[file] = bytes_of(file);
  }
  void asked(const daemon::io::Operation& operation) {
    Ask ask;
    if (operation.kind == daemon::io::Kind::sync_range) {
      ask.file = std::filesystem::read_symlink("/proc/self/fd/" + std::to_string(operation.fd));
      ask.offset = operation.offset;
      ask.bytes.assign(operation.memory, operation.memory + operation.bytes);
    } else if (operation.kind == daemon::io::Kind::sync_directory) {
      ask.names = files();
    }
    asks_[operation.token] = std::move(ask);
  }
  void done(uint64_t token) {
    Ask& ask = asks_.at(token);
    for (const auto& name : ask.names) images_.try_emplace(name);
    if (!ask.bytes.empty()) {
      auto& data = synced_[ask.file];
      data.resize(std::max(data.size(), ask.offset + ask.bytes.size()));
      std::ranges::copy(ask.bytes, data.begin() + static_cast<ptrdiff_t>(ask.offset));
    }
    asks_.erase(token);
  }
  // The files become what the device has. Of what was never synced it may have any page, and any name.
  void cut(support::Chance& chance) {
    asks_.clear();
    for (const auto& file : files()) {
      if (!images_.contains(file) && chance.below(2) == 0) {
        std::filesystem::remove(file);
        synced_.erase(file);
        continue;
      }
      const std::vector<std::byte> live = bytes_of(file);
      std::vector<std::byte> image(live.size());  // space is there before it is named, and reads as zeros
      for (const auto* known : {&images_[file], &synced_[file]}) {
        std::copy_n(known->begin(), std::min(known->size(), image.size()), image.begin());
      }
      for (size_t at = 0; at < image.size(); at += layout::kPageBytes) {
        if (chance.below(2) != 0) continue;
        std::copy_n(live.begin() + static_cast<ptrdiff_t>(at), std::min(layout::kPageBytes, image.size() - at),
                    image.begin() + static_cast<ptrdiff_t>(at));
      }
      base::Fd fd(::open(file.c_str(), O_WRONLY | O_CLOEXEC));
      WARM_ASSERT(::pwrite(fd.get(), image.data(), image.size(), 0) == static_cast<ssize_t>(image.size()));
    }
    synced_.clear();
  }

 private:
  struct Ask {
    std::string file;
    uint64_t offset = 0;
    std::vector<std::byte> bytes;
    std::vector<std::string> names;
  };
  [[nodiscard]] std::vector<std::string> files() const {
    std::vector<std::string> names = {directory_ + "/warm.tier"};
    for (const auto& entry : std::filesystem::directory_iterator(directory_ + "/content")) names.push_back(entry.path());
    return names;
  }
  static std::vector<std::byte> bytes_of(const std::string& file) {
    base::Fd fd(::open(file.c_str(), O_RDONLY | O_CLOEXEC));
    std::vector<std::byte> bytes(must(base::file_bytes(fd.get())));
    WARM_ASSERT(::pread(fd.get(), bytes.data(), bytes.size(), 0) == static_cast<ssize_t>(bytes.size()));
    return bytes;
  }

  std::string directory_;
  std::map<std::string, std::vector<std::byte>> images_;  // names that are durable; what they held when this began
  std::map<std::string, std::vector<std::byte>> synced_;  // bytes since
  std::map<uint64_t, Ask> asks_;
};

namespace {

// Ends with EIO when it is told to, and tells a Device what is durable. Or all operations in flight are over at the same time:
// one event says so, and comes before they are reaped.
class WatchedIo final : public daemon::io::Io {
 public:
  WatchedIo(std::unique_ptr<daemon::io::Io> inner, const bool& fails, const bool& at_once, uint64_t& asked_after_failure,
            Device* device)
      : inner_(std::move(inner)), fails_(fails), at_once_(at_once), asked_after_failure_(asked_after_failure), device_(device) {}
  base::Status submit(const daemon::io::Operation& operation) override {
    if (told_) ++asked_after_failure_;
    auto status = inner_->submit(operation);
    if (status && device_ != nullptr) device_->asked(operation);
    return status;
  }
  size_t reap(std::span<daemon::io::Completion> ret_completions) noexcept override {
    if (at_once_) await_all();
    size_t count = std::min(over_.size(), ret_completions.size());
    std::copy_n(over_.begin(), count, ret_completions.begin());
    over_.erase(over_.begin(), over_.begin() + static_cast<ptrdiff_t>(count));
    count += inner_->reap(ret_completions.subspan(count));
    for (auto& completion : ret_completions.first(count)) {
      completion.result = fails_ ? -EIO : completion.result;
      told_ = told_ || fails_;
      if (device_ != nullptr && completion.result >= 0) device_->done(completion.token);
    }
    return count;
  }
  [[nodiscard]] bool ready() const noexcept override { return !over_.empty() || inner_->ready(); }
  [[nodiscard]] size_t in_flight() const noexcept override { return over_.size() + inner_->in_flight(); }
  [[nodiscard]] int completion_fd() const noexcept override { return inner_->completion_fd(); }
  base::Status hold(int fd) override { return inner_->hold(fd); }
  daemon::io::BufferPool& buffers() noexcept override { return inner_->buffers(); }
  [[nodiscard]] bool buffers_registered() const noexcept override { return inner_->buffers_registered(); }
  [[nodiscard]] const char* name() const noexcept override { return inner_->name(); }
  [[nodiscard]] std::string describe() const override { return inner_->describe(); }

 private:
  void await_all() noexcept {
    while (inner_->in_flight() > 0) {
      WARM_ASSERT(inner_->wait(base::Deadline::never()).has_value());
      std::array<daemon::io::Completion, 32> some{};
      const size_t count = inner_->reap(some);
      over_.insert(over_.end(), some.begin(), some.begin() + count);
    }
    clear_completion_fd();
  }
  std::unique_ptr<daemon::io::Io> inner_;
  const bool& fails_;
  const bool& at_once_;
  uint64_t& asked_after_failure_;
  bool told_ = false;  // of a failure
  std::vector<daemon::io::Completion> over_;
  Device* device_;
};

// Until the store wants to go on, for a second at most.
void await_event(daemon::store::Store& store) {
  const uint64_t wake_at_ns = store.wake_at_ns();
  if (wake_at_ns == 0) return;
  const uint64_t now_ns = base::monotonic_ns();
  const uint64_t wait_ns = std::min(wake_at_ns - std::min(wake_at_ns, now_ns), base::kNsPerSecond);
  pollfd p{.fd = store.event_fd(), .events = POLLIN, .revents = 0};
  (void)::poll(&p, 1, static_cast<int>(wait_ns / base::kNsPerMs + 1));
}

}  // namespace

World::World(const daemon::store::InitOptions& init) {
  char name[] = "/tmp/warmtier-store-XXXXXX";
  WARM_ASSERT(::mkdtemp(name) != nullptr);
  directory_ = name;
  must(daemon::store::initialise(directory_, init));
}

World::~World() {
  kill();
  std::filesystem::remove_all(directory_);
}

void World::start(const daemon::store::Options& options) {
  device_fails = false;
  io_ = std::make_unique<WatchedIo>(must(daemon::io::open_io(daemon::io::Choice::automatic)), device_fails, device_at_once,
                                    device_asked_after_failure, device_.get());
  store = must(daemon::store::Store::open(directory_, options, *io_));
  store->set_pin_source(&pins);
  store->open_generation();
  store->clear_intent();
  settle();
}

void World::kill() {
  if (store && !device_fails) store->check_invariants();
  store.reset();
  io_.reset();
}

void World::watch_device() {
  WARM_ASSERT(store == nullptr);
  device_ = std::make_unique<Device>();
  device_->remember(directory_);
}

uint64_t World::cut_power(support::Chance& chance) {
  kill();
  device_->cut(chance);
  pretend_reboot();
  device_->remember(directory_);
  base::Fd tier(::open(path("warm.tier").c_str(), O_RDONLY | O_CLOEXEC));
  return must(daemon::store::read_superblock(tier.get())).checkpoint_sequence;
}

void World::stop() {
  must(store->close_cleanly());
  kill();
}

void World::settle() {
  for (;;) {
    const uint64_t wake = store->wake_at_ns();
    if (wake == 0) continue;
    // Background jobs end with an event; nothing is under way when none comes within a moment.
    pollfd p{.fd = store->event_fd(), .events = POLLIN, .revents = 0};
    if (::poll(&p, 1, 50) == 0) return;
  }
}

void World::checkpoint() {
  const uint64_t before = store->status().checkpoints;
  store->request_checkpoint();
  while (store->status().checkpoints == before) {
    await_event(*store);
  }
  settle();
  store->check_invariants();
}

std::vector<float> World::embedding_of(const std::string& id, uint32_t version, uint32_t dimensions) {
  std::vector<float> values(dimensions);
  for (uint32_t i = 0; i < dimensions; ++i) {
    values[i] = static_cast<float>(base::hash64(id.data(), id.size(), uint64_t{version} << 32 | i) >> 40) / 16777216.0F;
  }
  return values;
}

daemon::store::Answer World::put(const std::string& id, uint32_t version, std::optional<std::string> content, uint32_t condition,
                                 uint64_t if_sequence) {
  const uint32_t dimensions = store->geometry().dimensions;
  const std::vector<float> embedding = embedding_of(id, version, dimensions);
  daemon::store::Request request;
  request.header.operation = static_cast<uint16_t>(layout::Operation::put);
  request.header.condition = static_cast<uint16_t>(condition);
  request.header.if_sequence = if_sequence;
  request.header.id_bytes = static_cast<uint32_t>(id.size());
  request.header.dimensions = dimensions;
  request.header.quad = {
      .confidence = static_cast<float>(version), .activation = 0.5F, .decay_rate = 0.25F, .recall_count = version};
  if (content) {
    request.header.given |= WARM_GIVEN_CONTENT;
    request.header.content_bytes = content->size();
    request.content = reinterpret_cast<const std::byte*>(content->data());
  }
  request.embedding = reinterpret_cast<const std::byte*>(embedding.data());
  request.id = reinterpret_cast<const std::byte*>(id.data());
  daemon::store::Answer answer;
  while (store->execute(request, {}, answer) == daemon::store::Disposition::wait) {
    await_event(*store);
  }
  return answer;
}

daemon::store::Answer World::remove(const std::string& id) {
  daemon::store::Request request;
  request.header.operation = static_cast<uint16_t>(layout::Operation::remove);
  request.header.id_bytes = static_cast<uint32_t>(id.size());
  request.id = reinterpret_cast<const std::byte*>(id.data());
  daemon::store::Answer answer;
  WARM_ASSERT(store->execute(request, {}, answer) != daemon::store::Disposition::wait);
  return answer;
}

std::optional<Seen> World::get(const std::string& id) {
  daemon::store::Published& published = store->published();
  const uint64_t hash = base::hash64(id.data(), id.size(), store->hash_seed());
  auto tier = must(base::ReadMapping::map(published.tier_fd, must(base::file_bytes(published.tier_fd))));
  auto index = must(base::ReadMapping::map(published.index_fd, layout::index_bytes(published.homes_log2)));
  WARM_ASSERT(layout::validate_index_header({index.data(), index.bytes()}, index.bytes()) == layout::Verdict::good);
  const auto* buckets = reinterpret_cast<const layout::Bucket*>(index.data() + sizeof(layout::IndexHeader));
  const uint64_t home = layout::home_of_hash(hash, published.homes_log2);
  const layout::Geometry& g = store->geometry();
  for (uint32_t d = 0; d <= layout::kIndexDistanceMax; ++d) {
    if (d > 0 && (buckets[home].distances >> (d - 1) & 1) == 0) continue;
    for (uint64_t cell : buckets[home + d].cells) {
      if (!layout::cell_matches(cell, layout::cell_key(d, layout::tag_of_hash(hash)))) continue;
      const uint32_t slot = layout::cell_slot(cell);
      WARM_ASSERT(slot < store->status().slots_allocated);
      const auto& line = *reinterpret_cast<const layout::SlotLine*>(tier.data() + g.line_offset(slot));
      WARM_ASSERT(layout::validate_line(line, slot) == layout::LineVerdict::live);
      const layout::Locator at = layout::locator_of(line.locator);
      for (const auto& segment : published.segments) {
        if (segment.number != at.segment) continue;
        auto map = must(base::ReadMapping::map(segment.fd, must(base::file_bytes(segment.fd))));
        layout::RecordPlace place{};
        WARM_ASSERT(layout::validate_record({map.data(), map.bytes()}, at.offset_bytes, slot, line.put, line.content_bytes,
                                            line.checksum, &place) == layout::Verdict::good);
        const std::string stored_id(reinterpret_cast<const char*>(map.data() + place.id_offset), place.header.id_bytes);
        if (stored_id != id) break;
        Seen seen{.slot = slot,
                  .sequence = layout::sequence_of(line.put),
                  .embedding = {},
                  .content = {},
                  .quad = layout::load_quad(line.quad)};
        const auto* row = reinterpret_cast<const float*>(tier.data() + g.row_offset(slot));
        seen.embedding.assign(row, row + g.dimensions);
        const bool absent = (place.header.flags & layout::kRecordContentAbsent) != 0;
        if (!absent)
          seen.content.emplace(reinterpret_cast<const char*>(map.data() + place.content_offset), place.header.stored_bytes);
        const uint64_t content_hash = layout::content_hash(map.data() + place.content_offset, place.header.stored_bytes, absent);
        WARM_ASSERT(layout::payload_checksum(row, g.dimensions, content_hash) == line.checksum);
        return seen;
      }
    }
  }
  return std::nullopt;
}

void World::edit_superblocks(const std::function<void(layout::Superblock&)>& edit) {
  WARM_ASSERT(store == nullptr);
  base::Fd fd(::open(path("warm.tier").c_str(), O_RDWR | O_CLOEXEC));
  for (size_t offset : layout::kSuperblockOffsets) {
    layout::Superblock superblock;
    WARM_ASSERT(::pread(fd.get(), &superblock, sizeof superblock, static_cast<off_t>(offset)) == sizeof superblock);
    if (superblock.magic != layout::kTierMagic) continue;
    edit(superblock);
    superblock.checksum = layout::superblock_checksum(superblock);
    WARM_ASSERT(::pwrite(fd.get(), &superblock, sizeof superblock, static_cast<off_t>(offset)) == sizeof superblock);
  }
}

void World::pretend_reboot() {
  edit_superblocks([](layout::Superblock& superblock) { superblock.boot_id[0] ^= 0xFF; });
}

}  // namespace warmtier::tests
