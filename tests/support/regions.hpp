// Shared regions as a process has them mapped, found by their magic: what a test looks at from outside, also in a process that
// is paused at a failpoint.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "layout/layout.hpp"

namespace warmtier::tests::support {

struct Map {
  uintptr_t from = 0;
  uintptr_t to = 0;
  std::string access;  // "r--s"
  uint64_t offset = 0;
  uint64_t inode = 0;
  std::string path;
};
std::vector<Map> maps_of(pid_t pid);
// The map that holds this address; gives the test up when there is none.
Map map_holding(pid_t pid, const void* address);

// Copies of what stands in the memory of a process.
class Memory {
 public:
  explicit Memory(pid_t pid);
  [[nodiscard]] bool read(uintptr_t address, void* ret_bytes, size_t n) const;
  // Addresses of the regions whose first eight bytes are this magic, writable ones only.
  [[nodiscard]] std::vector<uintptr_t> regions(uint64_t magic) const;

 private:
  pid_t pid_;
  std::vector<Map> maps_;
};

// One process's channels and sessions, as they stood at one moment.
struct ClientPicture {
  unsigned pins = 0;            // cells that name a slot
  uint64_t lane_repairs = 0;    // as the client counted
  unsigned locks_held = 0;      // lane mutexes whose owner is a thread of this process
  unsigned locks_orphaned = 0;  // lane mutexes whose owner the kernel reported dead
  unsigned published = 0;       // entries with their commit word that name a session of it
  uint64_t hash = 0;            // over all of them
};
ClientPicture picture_of(pid_t pid);

// Where this process has its one channel mapped, and the lanes of it.
uintptr_t own_channel();
std::span<layout::LaneLock> own_lanes();
std::span<layout::LaneLock> lanes_at(uintptr_t channel);
// As clients leave them behind that found nobody who would let go of them.
void fence(std::span<layout::LaneLock> lanes);

}  // namespace warmtier::tests::support
