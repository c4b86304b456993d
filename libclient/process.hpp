// What belongs to the process and to its threads, not to one client: the stamp that a fork wipes, the checks of processor and
// kernel, and the record by which other threads of the process see that a thread is inside a call.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "base/error.hpp"
#include "base/mapping.hpp"
#include "layout/layout.hpp"

namespace warmtier::libclient {

class ClientState;
class Link;

// Refuses a processor, kernel or thread that the library cannot work in; makes ready what the process needs once.
base::Status prepare_process();

// A number that a child of fork, _Fork or clone does not share with its parent: it lies in a page that the kernel wipes. It
// rises along the line of descent, so that no descendant takes an ancestor's view for its own.
namespace detail {
extern std::atomic<std::atomic<uint64_t>*> stamp_word;
}
uint64_t renew_stamp() noexcept;
inline uint64_t fork_stamp() noexcept {
  const uint64_t stamp = detail::stamp_word.load(std::memory_order_relaxed)->load(std::memory_order_relaxed);
  return __builtin_expect(stamp != 0, 1) ? stamp : renew_stamp();
}

// Numbers for clients and links; 0 is never given.
uint64_t next_identity() noexcept;

// Every thread of this process has passed a full fence when it returns. False: the kernel cannot.
bool register_membarrier() noexcept;
void membarrier_all_threads() noexcept;

constexpr uint32_t kMagazineCells = 64;  // at most; what a group of gets in one call takes and its releases bring back
constexpr uint32_t kGetsPerTick = 64;

// One thread in one client. Written by its thread; `inside` is read by a thread that wants to free something.
struct alignas(64) ThreadRecord {
  std::atomic<uint64_t> inside{0};  // the client's epoch at entry; 0: outside
  uint64_t state_id = 0;
  Link* link = nullptr;             // whose pin cells the magazine holds
  uint32_t cells = 0;               // pin cells in the magazine
  uint32_t gets_until_tick = kGetsPerTick;
  uint64_t gets = 0;                // not yet in the session's counters
  uint64_t misses = 0;
  uint32_t tid = 0;
  uint32_t number = 0;              // of the thread in its client, from 0
  uint32_t waits = 0;               // for answers to its requests
  uint32_t reads_without_tick = 0;  // that found nothing, or made no view
  uint32_t writes = 0;
  uint64_t wait_ns = 0;             // how long they take, lately; 0: no longer than it looks before it sleeps
  std::atomic<bool> taken{true};    // false: its thread is gone, another may have it
  ThreadRecord* next = nullptr;     // of the client, immutable once it is in the list
  uint32_t magazine[kMagazineCells]{};
};

namespace detail {
struct ThreadSlot {
  uint64_t state_id;
  ThreadRecord* record;
};
// Initial-exec: a read on the hot path must not be a call.
extern thread_local constinit ThreadSlot thread_slot __attribute__((tls_model("initial-exec")));
ThreadRecord& join(ClientState& state);
}  // namespace detail

// A session that this process has given up, while no daemon has said so yet: its client was closed, or a daemon did not take it
// back. Every daemon of its store is told at the next attaching, else its entry would be awaited as long as the process lives.
struct Forsaken {
  uint8_t store_id[16];
  uint64_t session;
  std::shared_ptr<const base::ReadMapping> results;  // where a daemon says that it is over
  const layout::SessionEntry* entry;
};
void forsake(Forsaken session);
// Those of a store, the longest waiting first; each is named again at a later time, after the others.
std::vector<uint64_t> forsaken_of(const uint8_t (&store_id)[16], size_t most);

// Clients of this process, so that an ending thread finds out which of its records are still somebody's.
void register_state(ClientState& state);
// Afterwards no ending thread touches the client's records.
void unregister_state(ClientState& state);

// A shared map that stays for the life of the process: robust mutexes lie in it, and glibc may hold a pointer into it for as
// long as a thread lives. Found again by its inode, so that opening and closing in a loop does not use up address space.
base::Result<std::byte*> map_channel(int fd, size_t bytes);

}  // namespace warmtier::libclient
