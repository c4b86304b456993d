#include "tests/support/regions.hpp"

#include <fcntl.h>
#include <linux/futex.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cinttypes>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <set>

#include "base/hash.hpp"
#include "tests/support/trouble.hpp"

namespace warmtier::tests::support {
namespace {

std::set<uint32_t> threads_of(pid_t pid) {
  std::set<uint32_t> threads;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/" + std::to_string(pid) + "/task")) {
    threads.insert(static_cast<uint32_t>(std::stoul(entry.path().filename())));
  }
  return threads;
}

}  // namespace

std::vector<Map> maps_of(pid_t pid) {
  std::vector<Map> maps;
  std::ifstream file("/proc/" + std::to_string(pid) + "/maps");
  for (std::string line; std::getline(file, line);) {
    Map map;
    char access[8] = {};
    int path_at = 0;
    if (std::sscanf(line.c_str(), "%" SCNxPTR "-%" SCNxPTR " %7s %" SCNx64 " %*s %" SCNu64 " %n", &map.from, &map.to, access,
                    &map.offset, &map.inode, &path_at) < 5) {
      continue;
    }
    map.access = access;
    if (path_at > 0 && static_cast<size_t>(path_at) < line.size()) map.path = line.substr(static_cast<size_t>(path_at));
    maps.push_back(std::move(map));
  }
  return maps;
}

Map map_holding(pid_t pid, const void* address) {
  const auto at = reinterpret_cast<uintptr_t>(address);
  for (Map& map : maps_of(pid)) {
    if (map.from <= at && at < map.to) return map;
  }
  give_up("an address lies in no map");
}

Memory::Memory(pid_t pid) : pid_(pid), maps_(maps_of(pid)) {}

bool Memory::read(uintptr_t address, void* ret_bytes, size_t n) const {
  if (pid_ == ::getpid()) {
    std::memcpy(ret_bytes, reinterpret_cast<const void*>(address), n);
    return true;
  }
  const iovec local{.iov_base = ret_bytes, .iov_len = n};
  const iovec remote{.iov_base = reinterpret_cast<void*>(address), .iov_len = n};
  return ::process_vm_readv(pid_, &local, 1, &remote, 1, 0) == static_cast<ssize_t>(n);
}

std::vector<uintptr_t> Memory::regions(uint64_t magic) const {
  std::vector<uintptr_t> found;
  std::set<uint64_t> inodes;  // a fork has its parent's map of the same memory beside its own
  for (const Map& map : maps_) {
    if (map.access != "rw-s" || map.offset != 0) continue;
    uint64_t word = 0;
    if (read(map.from, &word, sizeof word) && word == magic && inodes.insert(map.inode).second) found.push_back(map.from);
  }
  return found;
}

ClientPicture picture_of(pid_t pid) {
  const Memory memory(pid);
  ClientPicture picture;
  const auto must_read = [&](uintptr_t address, void* to, size_t n) {
    if (!memory.read(address, to, n)) give_up("a shared region of process " + std::to_string(pid) + " cannot be read");
  };

  std::set<uint64_t> sessions;
  for (const uintptr_t address : memory.regions(layout::kSessionMagic)) {
    std::vector<std::byte> bytes(sizeof(layout::SessionRegion));
    must_read(address, bytes.data(), bytes.size());
    const auto& session = *reinterpret_cast<const layout::SessionRegion*>(bytes.data());
    sessions.insert(session.header.session);
    picture.lane_repairs += session.counters.lane_repairs;
    for (const uint32_t pin : session.pins) picture.pins += pin != 0 ? 1 : 0;
    picture.hash = base::hash64(bytes.data(), bytes.size(), picture.hash);
  }
  const std::set<uint32_t> threads = threads_of(pid);
  for (const uintptr_t address : memory.regions(layout::kChannelMagic)) {
    layout::ChannelHeader header;
    must_read(address, &header, sizeof header);
    std::vector<std::byte> bytes(layout::channel_bytes(header.lanes));
    must_read(address, bytes.data(), bytes.size());
    picture.hash = base::hash64(bytes.data(), bytes.size(), picture.hash);
    for (uint32_t lane = 0; lane < header.lanes; ++lane) {
      const auto& lock = *reinterpret_cast<const layout::LaneLock*>(bytes.data() + layout::channel_locks_offset(header.lanes) +
                                                                    lane * sizeof(layout::LaneLock));
      const auto word = static_cast<uint32_t>(lock.mutex.__data.__lock);
      picture.locks_held += threads.contains(word & FUTEX_TID_MASK) ? 1 : 0;
      picture.locks_orphaned += (word & FUTEX_OWNER_DIED) != 0 ? 1 : 0;
      const auto& commits = *reinterpret_cast<const layout::CommitLine*>(bytes.data() + layout::channel_commits_offset() +
                                                                         lane * sizeof(layout::CommitLine));
      for (uint32_t entry = 0; entry < layout::kLaneEntries; ++entry) {
        const uint64_t number = commits.seq[entry];
        if (number == 0 || number % layout::kLaneEntries != entry) continue;
        layout::RequestHeader request;
        std::memcpy(&request, bytes.data() + layout::channel_entry_offset(header.lanes, lane, number), sizeof request);
        picture.published += request.session != 0 && sessions.contains(request.session) ? 1 : 0;
      }
    }
  }
  return picture;
}

uintptr_t own_channel() {
  const auto found = Memory(::getpid()).regions(layout::kChannelMagic);
  if (found.size() != 1) give_up("this process has " + std::to_string(found.size()) + " channels mapped");
  return found[0];
}

std::span<layout::LaneLock> own_lanes() { return lanes_at(own_channel()); }

std::span<layout::LaneLock> lanes_at(uintptr_t channel) {
  const uint32_t lanes = reinterpret_cast<const layout::ChannelHeader*>(channel)->lanes;
  return {reinterpret_cast<layout::LaneLock*>(channel + layout::channel_locks_offset(lanes)), lanes};
}

void fence(std::span<layout::LaneLock> lanes) {
  for (layout::LaneLock& lane : lanes) layout::store_relaxed(lane.fenced, 1);
}

}  // namespace warmtier::tests::support
