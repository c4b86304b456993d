// What a client is attached to: immutable once it is published, replaced as a whole when the generation changes.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/error.hpp"
#include "base/fd.hpp"
#include "base/mapping.hpp"
#include "layout/layout.hpp"
#include "libclient/feed.hpp"
#include "libclient/handshake.hpp"
#include "libclient/link.hpp"
#include "libclient/segments.hpp"

namespace warmtier::libclient {

// The warm tier, mapped for its whole capacity: it grows into the map. It stays mapped as long as the client lives, for views.
struct Tier {
  base::InodeId inode;
  base::ReadMapping map;
  layout::Geometry geometry;
  uint64_t hash_seed = 0;
  uint8_t store_id[16]{};

  [[nodiscard]] const uint64_t& generation() const noexcept {
    return reinterpret_cast<const layout::ControlPage*>(map.data() + layout::kControlPageOffset)->generation.generation;
  }
};

// One connection to one daemon. Everything but `gone` and the socket's send side is guarded by the client's mutex.
struct Connection {
  uint64_t number = 0;  // of its client's
  base::WatchedFd socket;
  base::InodeId status_inode;  // of the daemon's page: each daemon has one of its own
  base::ReadMapping status_map;  // none: a former session's
  FeedMap feed;
  layout::Welcome welcome{};
  std::atomic<bool> gone{false};  // end of file or an error was seen
  std::atomic<uint64_t> rung{0};  // the daemon's sleep that was rung for: it will look at everything when it has woken from it

  // Larger tables that the daemon sent ahead of the generation that makes them the one to use.
  struct Index {
    uint64_t generation = 0;
    uint32_t homes_log2 = 0;
    base::Fd file;
  };
  std::vector<Index> indexes;

  // Lists of segments: asked for and received, counted, so that an answer to an earlier question is not taken for the latest.
  uint64_t lists_wanted = 1;  // the handshake's own
  uint64_t lists_received = 0;
  std::vector<SegmentMap*> list;  // so far

  // Who holds what: the last question, and the last answer that is complete.
  uint64_t questions = 0;
  uint64_t collected = 0;  // the question of what is collected
  std::vector<layout::SessionReport> collecting;
  uint64_t answered = 0;
  std::vector<layout::SessionReport> reports;

  [[nodiscard]] const layout::StatusPage& status() const noexcept {
    return *reinterpret_cast<const layout::StatusPage*>(status_map.data());
  }
};

struct Attachment {
  // Looked at by every read.
  const layout::Bucket* buckets = nullptr;
  const uint64_t* generation_word = nullptr;
  uint64_t generation = 0;
  const std::byte* tier = nullptr;
  const layout::StatusPage* status = nullptr;
  layout::Geometry geometry;
  uint64_t hash_seed = 0;
  Link* link = nullptr;
  uint32_t homes_log2 = 0;
  // Owners.
  base::ReadMapping index;
  std::shared_ptr<Connection> connection;

  [[nodiscard]] bool current() const noexcept { return layout::load_acquire(*generation_word) == generation; }
};

base::Result<std::unique_ptr<Tier>> map_tier(const base::Fd& file, const layout::Welcome& welcome);
// Also checks that the table fits the store.
base::Result<base::ReadMapping> map_index(const base::Fd& file, uint32_t homes_log2, uint64_t hash_seed);
base::Result<base::ReadMapping> map_status(const base::Fd& file);

}  // namespace warmtier::libclient
