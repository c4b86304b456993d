// One session as this process has it: its memory, its channel, its results. It outlives daemons when they take it back; when
// one does not, or the process moves to another channel, the next link takes over and this one stays for what still stands in it.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "base/error.hpp"
#include "base/fd.hpp"
#include "base/mapping.hpp"
#include "layout/layout.hpp"
#include "libclient/cells.hpp"
#include "libclient/handshake.hpp"
#include "libclient/pins.hpp"
#include "libclient/process.hpp"

namespace warmtier::libclient {

class Link {
 public:
  struct Parts {
    uint64_t session = 0;
    uint64_t channel = 0;
    uint32_t session_index = 0;
    uint32_t lanes = 0;
    uint32_t views_max = 0;
    base::Fd channel_file;
    base::Fd session_file;
    base::Fd results_file;
  };
  static Parts parts_of(Greeting&& greeting) noexcept;
  // Maps and checks; throws bad_alloc.
  static base::Result<std::unique_ptr<Link>> make(Parts parts, const uint8_t (&store_id)[16]);

  // Whether these are the files that are mapped here already.
  [[nodiscard]] base::Result<bool> same_files(const Parts& parts) const;
  // Other descriptors of the same files: the process may have closed the ones that are here.
  void take_files(Parts parts) noexcept;

  [[nodiscard]] layout::SessionRegion& region() const noexcept { return *region_; }
  [[nodiscard]] const layout::DoneLine& done(uint32_t lane) const noexcept { return done_[lane]; }
  [[nodiscard]] layout::CommitLine& commits(uint32_t lane) const noexcept { return commits_[lane]; }
  [[nodiscard]] layout::LaneLock& lock(uint32_t lane) const noexcept { return locks_[lane]; }
  [[nodiscard]] std::byte* entry(uint32_t lane, uint64_t number) const noexcept {
    return channel_ + layout::channel_entry_offset(lanes, lane, number);
  }
  // How far the daemon has read this session's touch ring.
  [[nodiscard]] uint64_t touches_taken() const noexcept { return layout::load_acquire(sessions_[session_index].touches_taken); }
  // Whether half of the channel's lanes are fenced, or more: no new session is let into it (L9).
  [[nodiscard]] bool half_fenced() const noexcept;
  // Whether the daemon says that this session is over.
  [[nodiscard]] bool session_dead(uint64_t session_number) const noexcept;
  // As it is handed back; guarded by the client's mutex.
  [[nodiscard]] Resume resume() const noexcept;
  // What says so of this link's own session; outlives the link as long as somebody holds it.
  [[nodiscard]] Forsaken forsaken() const noexcept;

  const uint64_t id;  // of this link in this process; never repeats
  const uint64_t session;
  const uint64_t channel_number;
  const uint32_t session_index;
  const uint32_t lanes;
  base::WatchedFd channel_file;  // handed back to the next daemon; guarded by the client's mutex
  base::WatchedFd session_file;
  Link* older = nullptr;  // of the same client; set before the link is published
  uint64_t large_number = 0;  // of its last large put; guarded by the client's mutex

  // A former one is in use no more, and lives on for what stands in it (S17); then it is given up. One that a daemon did not
  // take back is lost, and what stands in it with it. Stored before the attachment that uses another link.
  enum class Standing : uint32_t { in_use, former, given_up, lost };
  std::atomic<Standing> standing{Standing::in_use};
  [[nodiscard]] bool is(Standing what) const noexcept { return standing.load(std::memory_order_acquire) == what; }
  // No daemon answers in it any more.
  [[nodiscard]] bool over() const noexcept { return standing.load(std::memory_order_acquire) >= Standing::given_up; }

 private:
  Link(Parts&& parts, std::byte* channel, base::WriteMapping&& session_map, std::shared_ptr<const base::ReadMapping> results,
       const uint8_t (&store_id)[16]);

  base::InodeId results_inode_;
  uint8_t store_id_[16];
  std::byte* channel_;  // stays mapped for ever: mutexes lie in it
  base::WriteMapping session_map_;
  std::shared_ptr<const base::ReadMapping> results_;
  layout::SessionRegion* region_;
  const layout::DoneLine* done_;
  const layout::SessionEntry* sessions_;
  layout::CommitLine* commits_;
  layout::LaneLock* locks_;

 public:
  PinCells pins;
  ResultCells cells;
};

}  // namespace warmtier::libclient
