// What a start makes of the bytes that it finds. Two witnesses: the page cache, when only a process died, and the device.
#pragma once

#include <cstdint>
#include <optional>

#include "base/error.hpp"
#include "daemon/io/io.hpp"
#include "daemon/store/index.hpp"
#include "daemon/store/segments.hpp"
#include "daemon/store/slots.hpp"
#include "daemon/store/store.hpp"
#include "daemon/store/tier.hpp"

namespace warmtier::daemon::store {

// Reads the superblock of an open warm.tier; says which copy. Unknown versions and flags are refused with both numbers.
base::Result<layout::Superblock> read_superblock(int tier_fd);

struct Recovered {
  IndexTable index;
  uint64_t next_sequence = 1;
  uint64_t records = 0;
  uint64_t damaged = 0;
  uint64_t content_bytes_live = 0;
  std::optional<Decided> decided;
};

// Page cache: every store that a daemon made is there. Finishes the operation that the intent line names.
// Device: nothing above C is believed; what is above it is erased.
// Afterwards free and dead slots are in `slots`, segments are open and counted.
base::Result<Recovered> recover(Tier& tier, const layout::Superblock& superblock, bool from_device, int content_directory,
                                SegmentTable& segments, Slots& slots);

}  // namespace warmtier::daemon::store
