#include "daemon/session/results.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cstring>
#include <span>

#include "layout/validate.hpp"

namespace warmtier::daemon::session {

using layout::ResultsHeader;

std::string results_name(uint64_t channel) { return std::to_string(channel) + ".state"; }

uint64_t channel_of_results_name(const std::string& name) {
  uint64_t number = 0;
  const auto parsed = std::from_chars(name.data(), name.data() + name.size(), number);
  return parsed.ec == std::errc() && results_name(number) == name ? number : 0;
}

base::Status Results::map() {
  auto mapped = base::WriteMapping::map(fd_.get(), layout::results_bytes(lanes_));
  if (!mapped) return base::pass(std::move(mapped));
  map_ = std::move(*mapped);
  // A session's cells are some pages of many: reading ahead in the holes behind them costs more than all else of an attachment.
  (void)::madvise(map_.data(), layout::results_bytes(lanes_), MADV_RANDOM);
  entries_ = reinterpret_cast<layout::SessionEntry*>(map_.data() + layout::results_sessions_offset(lanes_));
  cells_ = reinterpret_cast<layout::ResultCell*>(map_.data() + layout::results_cells_offset(lanes_));
  return {};
}

base::Result<Results> Results::create(int directory, const StoreIdentity& store, const ChannelKey& key, uint32_t lanes,
                                      const base::InodeId& lanes_memfd) {
  uint64_t random = 0;
  if (auto s = base::fill_random(&random, sizeof random); !s) return base::pass(std::move(s));
  Results results;
  results.name_ = kNewResultsPrefix + std::to_string(random);
  results.lanes_ = lanes;
  auto fd = base::open_at(directory, results.name_.c_str(), O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, 0640);
  if (!fd) return base::pass(std::move(fd));
  results.fd_ = std::move(*fd);
  const auto make = [&]() -> base::Status {
    // The umask may have taken bits away that the contract names.
    if (::fchmod(results.fd_.get(), 0640) != 0) return base::fail_errno(errno, "fchmod of %s", results.name_.c_str());
    if (::ftruncate(results.fd_.get(), static_cast<off_t>(layout::results_bytes(lanes))) != 0) {
      return base::fail_errno(errno, "ftruncate of %s", results.name_.c_str());
    }
    if (auto s = base::allocate(results.fd_.get(), 0, layout::results_cells_offset(lanes)); !s) return s;
    if (auto s = results.map(); !s) return s;
    return base::populate_write(results.map_.data(), layout::results_cells_offset(lanes));
  };
  if (auto s = make(); !s) {
    results.unlink(directory);
    return base::pass(std::move(s));
  }
  ResultsHeader& header = results.header();
  header.format_version = layout::kFormatVersion;
  header.lanes = lanes;
  header.memfd_device = lanes_memfd.device;
  header.memfd_inode = lanes_memfd.inode;
  header.namespace_device = key.namespace_device;
  header.namespace_inode = key.namespace_inode;
  header.uid = key.uid;
  header.sessions_max = layout::kSessionsPerChannel;
  std::memcpy(header.store_id, store.store_id, sizeof header.store_id);
  std::memcpy(header.boot_id, store.boot_id, sizeof header.boot_id);
  header.daemon_namespace_device = store.pid_namespace.device;
  header.daemon_namespace_inode = store.pid_namespace.inode;
  for (uint32_t lane = 0; lane < lanes; ++lane) layout::store_relaxed(results.done_line(lane).done, layout::kWrapStart - 1);
  return results;
}

base::Result<Results> Results::open(int directory, const std::string& name, const StoreIdentity& store) {
  Results results;
  results.name_ = name;
  auto fd = base::open_at(directory, name.c_str(), O_RDWR | O_NOFOLLOW);
  if (!fd) return base::pass(std::move(fd));
  results.fd_ = std::move(*fd);
  ResultsHeader header{};
  const ssize_t got = ::pread(results.fd_.get(), &header, sizeof header, 0);
  if (got < 0) return base::fail_errno(errno, "read channels/%s", name.c_str());
  const auto verdict =
      layout::validate_results_header(std::as_bytes(std::span(&header, 1)).first(static_cast<size_t>(got)), store.store_id);
  if (verdict != layout::Verdict::good) {
    return base::fail(WARM_E_INVALID, "channels/%s is not a results file of this store: %s", name.c_str(),
                      layout::verdict_text(verdict));
  }
  if (std::memcmp(header.boot_id, store.boot_id, sizeof header.boot_id) != 0) {
    return base::fail(WARM_E_INVALID, "channels/%s is from an earlier boot", name.c_str());
  }
  auto bytes = base::file_bytes(results.fd_.get());
  if (!bytes) return base::pass(std::move(bytes));
  results.lanes_ = header.lanes;
  if (*bytes < layout::results_bytes(results.lanes_) || channel_of_results_name(name) != header.channel) {
    return base::fail(WARM_E_INVALID, "channels/%s does not fit its header", name.c_str());
  }
  if (auto s = base::allocate(results.fd_.get(), 0, layout::results_cells_offset(results.lanes_)); !s)
    return base::pass(std::move(s));
  if (auto s = results.map(); !s) return base::pass(std::move(s));
  return results;
}

base::Status Results::publish(int directory, uint64_t channel) {
  layout::store_relaxed(header().channel, channel);
  layout::store_release(header().magic, layout::kResultsMagic);
  const std::string name = results_name(channel);
  if (::renameat(directory, name_.c_str(), directory, name.c_str()) != 0) {
    return base::fail_errno(errno, "rename channels/%s to %s", name_.c_str(), name.c_str());
  }
  name_ = name;
  return {};
}

void Results::unlink(int directory) noexcept { ::unlinkat(directory, name_.c_str(), 0); }

base::Status Results::prepare_session(uint32_t index) {
  constexpr uint64_t bytes = uint64_t{layout::kCellsPerSession} * sizeof(layout::ResultCell);
  const uint64_t offset = layout::results_cells_offset(lanes_) + index * bytes;
  if (auto s = base::allocate(fd_.get(), offset, bytes); !s) return s;
  if (auto s = base::populate_write(map_.data() + offset, bytes); !s) return s;
  for (uint32_t i = 0; i < layout::kCellsPerSession; ++i) {
    layout::ResultCell& c = cell(index, i);
    if (layout::load_relaxed(c.number) == 0) layout::store_release(c.number, layout::kWrapStart - 1);
  }
  return {};
}

}  // namespace warmtier::daemon::session
