#include "tests/unit/libclient/fake_daemon.hpp"

#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <filesystem>

#include "base/assert.hpp"
#include "base/hash.hpp"
#include "base/robust_mutex.hpp"
#include "layout/record.hpp"

namespace warmtier::tests {
namespace {

constexpr uint8_t kStoreId[16] = {1, 2, 3};
constexpr uint64_t kCapacity = 2048;
constexpr uint64_t kFirstGeneration = 0x1111;

uint64_t hash_of(std::string_view id) { return base::hash64(id.data(), id.size(), kHashSeed); }

}  // namespace

Region::Region(size_t bytes) {
  auto made = base::make_memfd("fake", bytes);
  WARM_ASSERT(made);
  file = std::move(*made);
  auto mapped = base::WriteMapping::map(file.get(), bytes);
  WARM_ASSERT(mapped);
  map = std::move(*mapped);
}

FakeDaemon::FakeDaemon()
    : geometry_(layout::Geometry::of(kDimensions, kCapacity)),
      tier_(geometry_.file_bytes(geometry_.chunks_max())),
      index_(layout::index_bytes(kHomesLog2)),
      feed_(layout::feed_bytes(4, 11)),
      status_(sizeof(layout::StatusPage)),
      results_(layout::results_bytes(kLanes)),
      channel_(layout::channel_bytes(kLanes)) {
  char name[] = "/tmp/warmtier-libclient-XXXXXX";
  WARM_ASSERT(::mkdtemp(name) != nullptr);
  directory_ = name;
  socket_ = directory_ + "/sock";

  auto& superblock = tier_.as<layout::Superblock>();
  superblock.magic = layout::kTierMagic;
  superblock.format_version = layout::kFormatVersion;
  superblock.superblock_bytes = sizeof superblock;
  superblock.epoch = 1;
  std::memcpy(superblock.store_id, kStoreId, sizeof kStoreId);
  superblock.hash_seed = kHashSeed;
  superblock.capacity = kCapacity;
  superblock.dimensions = kDimensions;
  superblock.row_bytes = geometry_.row_bytes;
  superblock.chunk_slots = layout::kSlotsPerChunk;
  superblock.segment_bytes = kSegmentBytes;
  superblock.chunks_allocated = geometry_.chunks_max();
  superblock.checksum = layout::superblock_checksum(superblock);
  generation().generation = kFirstGeneration;

  auto& index = index_.as<layout::IndexHeader>();
  index = {.magic = layout::kIndexMagic,
           .format_version = layout::kFormatVersion,
           .homes_log2 = kHomesLog2,
           .buckets = layout::index_buckets(kHomesLog2),
           .hash_seed = kHashSeed,
           .reserved = {}};
  auto& feed = feed_.as<layout::FeedHeader>();
  feed.magic = layout::kFeedMagic;
  feed.format_version = layout::kFormatVersion;
  feed.entries_log2 = 4;
  feed.ids_log2 = 11;
  feed.head = layout::kWrapStart;
  feed.ids_end = layout::kFeedUnitStart;
  status().magic = layout::kStatusMagic;
  status().format_version = layout::kFormatVersion;
  status().slots_allocated = kCapacity;

  auto& results = results_.as<layout::ResultsHeader>();
  results.magic = layout::kResultsMagic;
  results.format_version = layout::kFormatVersion;
  results.lanes = kLanes;
  results.channel = 1;
  results.sessions_max = layout::kSessionsPerChannel;
  std::memcpy(results.store_id, kStoreId, sizeof kStoreId);
  auto& channel = channel_.as<layout::ChannelHeader>();
  channel.magic = layout::kChannelMagic;
  channel.format_version = layout::kFormatVersion;
  channel.lanes = kLanes;
  channel.channel = 1;
  for (uint32_t lane = 0; lane < kLanes; ++lane) {
    WARM_ASSERT(base::RobustMutex::initialise(&lock(lane).mutex));
    done(lane).done = layout::kWrapStart - 1;
  }

  listener_.reset(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::snprintf(address.sun_path, sizeof address.sun_path, "%s", socket_.c_str());
  WARM_ASSERT(::bind(listener_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0);
  WARM_ASSERT(::listen(listener_.get(), 16) == 0);
  wake_.reset(::eventfd(0, EFD_CLOEXEC));
  thread_ = std::thread([this] { run(); });
}

FakeDaemon::~FakeDaemon() {
  stop_.store(true);
  const uint64_t one = 1;
  WARM_ASSERT(::write(wake_.get(), &one, sizeof one) == sizeof one);
  thread_.join();
  std::error_code ignored;
  std::filesystem::remove_all(directory_, ignored);
}

layout::Bucket& FakeDaemon::home_of(std::string_view id) {
  return *(&index_.as<layout::Bucket>(sizeof(layout::IndexHeader)) + layout::home_of_hash(hash_of(id), kHomesLog2));
}
layout::ResultCell& FakeDaemon::cell(uint32_t session_index, uint32_t cell) {
  return *(&results_.as<layout::ResultCell>(layout::results_cells_offset(kLanes)) + session_index * layout::kCellsPerSession +
           cell);
}
layout::CommitLine& FakeDaemon::commits(uint32_t lane) {
  return *(&channel_.as<layout::CommitLine>(layout::channel_commits_offset()) + lane);
}
layout::LaneLock& FakeDaemon::lock(uint32_t lane) {
  return *(&channel_.as<layout::LaneLock>(layout::channel_locks_offset(kLanes)) + lane);
}
layout::DoneLine& FakeDaemon::done(uint32_t lane) {
  return *(&results_.as<layout::DoneLine>(sizeof(layout::ResultsHeader)) + lane);
}
layout::SessionEntry& FakeDaemon::entry(uint32_t index) {
  return *(&results_.as<layout::SessionEntry>(layout::results_sessions_offset(kLanes)) + index);
}
const layout::RequestHeader& FakeDaemon::request(uint32_t lane, uint64_t number) {
  return channel_.as<layout::RequestHeader>(layout::channel_entry_offset(kLanes, lane, number));
}

void FakeDaemon::add_segment(uint64_t number, bool listed) {
  const std::lock_guard guard(mutex_);
  auto region = std::make_unique<Region>(kSegmentBytes);
  auto& header = region->as<layout::SegmentHeader>();
  header = {.magic = layout::kSegmentMagic,
            .format_version = layout::kFormatVersion,
            .header_bytes = sizeof header,
            .number = number,
            .segment_bytes = kSegmentBytes,
            .store_id = {},
            .created_ns = 0,
            .checksum = 0};
  std::memcpy(header.store_id, kStoreId, sizeof kStoreId);
  header.checksum = layout::segment_header_checksum(header);
  segments_[number] = std::move(region);
  used_bytes_[number] = sizeof header;
  if (listed) listed_.push_back(number);
}

void FakeDaemon::unlist_segment(uint64_t number) {
  const std::lock_guard guard(mutex_);
  std::erase(listed_, number);
}

void FakeDaemon::raise_segment_epoch() { layout::store_release(status().segment_epoch, status().segment_epoch + 1); }

void FakeDaemon::write_record(uint32_t slot, uint64_t sequence, std::string_view id, std::string_view content, uint64_t segment) {
  const std::lock_guard guard(mutex_);
  const uint64_t offset = used_bytes_.at(segment);
  used_bytes_[segment] += layout::record_bytes(id.size(), content.size());
  layout::SlotLine& at = line(slot);
  layout::store_release(at.put, 0);
  at.created_ns = sequence * 10;
  at.last_access_ns = sequence * 10 + 1;
  at.quad = {.confidence = 0.5F, .activation = 0.25F, .decay_rate = 0.125F, .recall_count = static_cast<uint32_t>(sequence)};
  at.content_bytes = static_cast<uint32_t>(content.size());
  layout::RecordHeader header{};
  header.put = layout::put_word(sequence, slot);
  header.hash = hash_of(id);
  header.stored_bytes = at.content_bytes;
  header.id_bytes = static_cast<uint16_t>(id.size());
  header.header_checksum = layout::record_header_checksum(header, id.data(), at.content_bytes, 0);
  std::byte* to = segments_.at(segment)->map.data() + offset;
  std::memcpy(to, &header, sizeof header);
  std::memcpy(to + sizeof header, id.data(), id.size());
  std::memcpy(to + sizeof header + id.size(), content.data(), content.size());
  auto* row = &tier_.as<float>(geometry_.row_offset(slot));
  std::fill(row, row + kDimensions, static_cast<float>(sequence));
  layout::store_release(at.locator, layout::locator_word({.segment = segment, .offset_bytes = offset}, slot, sequence));
  layout::store_release(at.put, layout::put_word(sequence, slot));
}

uint64_t& FakeDaemon::publish(uint32_t slot, std::string_view id) {
  for (uint64_t& at : home_of(id).cells) {
    if (at != 0) continue;
    layout::store_release(at, layout::cell_word(slot, 0, layout::tag_of_hash(hash_of(id))));
    return at;
  }
  WARM_ASSERT(false && "the home is full");
  __builtin_unreachable();
}

void FakeDaemon::put(uint32_t slot, uint64_t sequence, std::string_view id, std::string_view content, uint64_t segment) {
  write_record(slot, sequence, id, content, segment);
  publish(slot, id);
}

void FakeDaemon::announce_index(uint64_t generation) {
  const std::lock_guard guard(mutex_);
  layout::IndexMessage message{};
  message.header = {.kind = static_cast<uint32_t>(layout::MessageKind::index), .bytes = sizeof message};
  message.generation = generation;
  message.homes_log2 = kHomesLog2;
  for (const Peer& peer : peers_) WARM_ASSERT(send(peer.socket.get(), &message, sizeof message, {index_.file.get()}));
}

void FakeDaemon::hang_up() {
  const std::lock_guard guard(mutex_);
  for (const Peer& peer : peers_) ::shutdown(peer.socket.get(), SHUT_RDWR);
}

std::vector<layout::Accept> FakeDaemon::accepts() {
  const std::lock_guard guard(mutex_);
  return accepts_;
}

std::vector<std::vector<std::byte>> FakeDaemon::received() {
  const std::lock_guard guard(mutex_);
  return received_;
}

void FakeDaemon::await_received(size_t count) {
  for (uint32_t seen = received_count_.load(); seen < count; seen = received_count_.load()) received_count_.wait(seen);
}

void FakeDaemon::run() {
  while (!stop_.load()) {
    std::vector<pollfd> entries{{.fd = wake_.get(), .events = POLLIN, .revents = 0},
                                {.fd = listener_.get(), .events = POLLIN, .revents = 0}};
    {
      const std::lock_guard guard(mutex_);
      for (const Peer& peer : peers_) entries.push_back({.fd = peer.socket.get(), .events = POLLIN, .revents = 0});
    }
    ::poll(entries.data(), entries.size(), -1);
    const std::lock_guard guard(mutex_);
    for (size_t i = entries.size(); i-- > 2;) {
      if (entries[i].revents != 0 && !answer(peers_[i - 2])) peers_.erase(peers_.begin() + static_cast<ptrdiff_t>(i - 2));
    }
    if (entries[1].revents != 0) greet();
  }
}

// Takes what the client sent: a hello's descriptors name the session that it wants back.
void FakeDaemon::greet() {
  base::Fd socket(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
  if (!socket) return;
  layout::Hello hello{};
  alignas(cmsghdr) char control[CMSG_SPACE(2 * sizeof(int))];
  iovec part{.iov_base = &hello, .iov_len = sizeof hello};
  msghdr packet{};
  packet.msg_iov = &part;
  packet.msg_iovlen = 1;
  packet.msg_control = control;
  packet.msg_controllen = sizeof control;
  if (::recvmsg(socket.get(), &packet, MSG_CMSG_CLOEXEC) != sizeof hello) return;
  if (cmsghdr* at = CMSG_FIRSTHDR(&packet); at != nullptr) {
    for (size_t i = 0; i < (at->cmsg_len - CMSG_LEN(0)) / sizeof(int); ++i) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(at) + i * sizeof(int), sizeof fd);
      ::close(fd);
    }
  }
  hellos_.fetch_add(1);
  const bool resumed = hello.resume_session != 0 && takes_back_.load();
  if (!resumed) {
    auto region = std::make_unique<Region>(sizeof(layout::SessionRegion));
    auto& header = region->as<layout::SessionHeader>();
    header.magic = layout::kSessionMagic;
    header.format_version = layout::kFormatVersion;
    header.pin_cells = layout::kViewsMax;
    header.session = sessions_.size() + 1;
    header.pins_offset = offsetof(layout::SessionRegion, pins);
    sessions_.push_back(std::move(region));
  }
  const uint32_t index = resumed ? hello.resume_index : static_cast<uint32_t>(sessions_.size() - 1);
  entry(index).number = index + 1;
  entry(index).state = static_cast<uint32_t>(layout::SessionState::live);
  layout::Welcome welcome{};
  welcome.header = {.kind = static_cast<uint32_t>(layout::MessageKind::welcome), .bytes = sizeof welcome};
  welcome.protocol_version = layout::kProtocolVersion;
  welcome.daemon_pid = static_cast<uint32_t>(::getpid());
  welcome.session = index + 1;
  welcome.channel = 1;
  welcome.session_index = index;
  welcome.lanes = kLanes;
  welcome.resumed = resumed ? 1 : 0;
  welcome.access = access_.load();
  welcome.generation = layout::load_acquire(generation().generation);
  welcome.capacity = kCapacity;
  welcome.content_bytes_max = uint64_t{1} << 20;
  welcome.hash_seed = kHashSeed;
  std::memcpy(welcome.store_id, kStoreId, sizeof kStoreId);
  welcome.dimensions = kDimensions;
  welcome.homes_log2 = kHomesLog2;
  welcome.views_max = views_max_.load();
  const std::vector<int> files{
      tier_.file.get(),    index_.file.get(),           feed_.file.get(), status_.file.get(), results_.file.get(),
      channel_.file.get(), sessions_[index]->file.get()};
  if (!send(socket.get(), &welcome, sizeof welcome, files)) return;
  peers_.push_back({.socket = std::move(socket), .index = index});
}

bool FakeDaemon::answer(Peer& peer) {
  std::vector<std::byte> bytes(layout::kMessageBytesMax);
  // NOLINTNEXTLINE(clang-analyzer-unix.BlockInCriticalSection): it does not wait
  const ssize_t got = ::recv(peer.socket.get(), bytes.data(), bytes.size(), MSG_DONTWAIT);  // descriptors are dropped
  if (got <= 0) return false;
  bytes.resize(static_cast<size_t>(got));
  if (bytes.size() >= sizeof(layout::MessageHeader)) {
    const auto& header = *reinterpret_cast<const layout::MessageHeader*>(bytes.data());
    if (header.kind == static_cast<uint32_t>(layout::MessageKind::segments_wanted)) return send_list(peer.socket.get());
    if (header.kind == static_cast<uint32_t>(layout::MessageKind::accept)) {
      accepts_.push_back(*reinterpret_cast<const layout::Accept*>(bytes.data()));
      return send_list(peer.socket.get());
    }
  }
  received_.push_back(std::move(bytes));
  received_count_.fetch_add(1);
  received_count_.notify_all();
  return true;
}

bool FakeDaemon::send_list(int socket) {
  layout::Segments list{};
  list.header = {.kind = static_cast<uint32_t>(layout::MessageKind::segments), .bytes = sizeof list};
  list.epoch = layout::load_acquire(status().segment_epoch);
  list.count = static_cast<uint32_t>(listed_.size());
  list.last = 1;
  std::vector<int> files;
  for (const uint64_t number : listed_) {
    list.numbers[files.size()] = number;
    files.push_back(segments_.at(number)->file.get());
  }
  lists_.fetch_add(1);
  return send(socket, &list, sizeof list, files);
}

bool FakeDaemon::send(int socket, const void* bytes, size_t n, const std::vector<int>& files) {
  std::vector<char> control(CMSG_SPACE(files.size() * sizeof(int)));
  iovec part{.iov_base = const_cast<void*>(bytes), .iov_len = n};
  msghdr packet{};
  packet.msg_iov = &part;
  packet.msg_iovlen = 1;
  if (!files.empty()) {
    packet.msg_control = control.data();
    packet.msg_controllen = control.size();
    cmsghdr* header = CMSG_FIRSTHDR(&packet);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(files.size() * sizeof(int));
    std::memcpy(CMSG_DATA(header), files.data(), files.size() * sizeof(int));
  }
  return ::sendmsg(socket, &packet, MSG_NOSIGNAL) == static_cast<ssize_t>(n);
}

}  // namespace warmtier::tests
