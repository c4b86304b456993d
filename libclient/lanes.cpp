#include "libclient/lanes.hpp"

#include <linux/futex.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "base/clock.hpp"
#include "base/failpoint.hpp"
#include "base/robust_mutex.hpp"
#include "libclient/link.hpp"

namespace warmtier::libclient {
namespace {

using base::RobustMutex;

// A holder that has not let go after so long may be one that the kernel never reported dead.
constexpr uint64_t kBusyBeforeDoubtNs = base::kNsPerSecond;
constexpr uint32_t kLanesApart = 4;  // of neighbouring processors' first choices

void fence_lane(const Link& link, layout::LaneLock& lock) noexcept {
  if (layout::exchange(lock.fenced, 1) == 0) layout::fetch_add(link.region().counters.lanes_fenced, 1);
  WARM_FAILPOINT("client.lane_fenced");
}

// The thread that the kernel's own word in the mutex names; all clients of a channel are in one PID namespace.
uint32_t mutex_owner(const pthread_mutex_t& mutex) noexcept {
  return static_cast<uint32_t>(__atomic_load_n(&mutex.__data.__lock, __ATOMIC_RELAXED)) & FUTEX_TID_MASK;
}

bool thread_gone(uint32_t tid) noexcept { return tid != 0 && ::syscall(SYS_tkill, tid, 0) != 0 && errno == ESRCH; }

// The mutex was held by another. After a second of that, ask whether anybody will ever let go: after process_mrelease, the OOM
// reaper or a corrupt list link nobody does.
void doubt(const Link& link, layout::LaneLock& lock) noexcept {
  const uint64_t now = base::monotonic_ns();
  const uint64_t since = layout::load_relaxed(lock.busy_since_ns);
  if (since == 0 || since > now) {
    layout::store_relaxed(lock.busy_since_ns, now);
    WARM_FAILPOINT("client.lane_seen_busy");
    return;
  }
  if (now - since < kBusyBeforeDoubtNs) return;
  const uint64_t holder = layout::load_relaxed(lock.holder);
  const bool dead = holder != 0 ? link.session_dead(holder) : thread_gone(mutex_owner(lock.mutex));
  // A stopped owner whose session lives may still publish: never fenced, never stolen.
  if (dead) fence_lane(link, lock);
}

// Nothing is half written that could be seen: only the holder's mark is left behind.
void repair(const Link& link, uint32_t lane, layout::LaneLock& lock) noexcept {
  WARM_FAILPOINT("client.repair_begun");
  if (!WARM_RULE("client.repair_keeps_commits")) {
    for (uint64_t& word : link.commits(lane).seq) layout::store_relaxed(word, 0);
  }
  layout::store_relaxed(lock.holder, 0);
  WARM_FAILPOINT("client.repair_holder_cleared");
}

// The first number after `done` whose entry does not carry it, and how many are free from there on.
struct Free {
  uint64_t first = 0;
  uint32_t count = 0;
};
Free free_entries(const Link& link, uint32_t lane) noexcept {
  const uint64_t done = layout::load_acquire(link.done(lane).done);
  const layout::CommitLine& commits = link.commits(lane);
  for (uint32_t taken = 0; taken < layout::kLaneEntries; ++taken) {
    const uint64_t n = done + 1 + taken;
    if (layout::load_acquire(commits.seq[n % layout::kLaneEntries]) != n) return {n, layout::kLaneEntries - taken};
  }
  if (!WARM_RULE("client.entry_free_again")) return {done + layout::kLaneEntries + 1, 1};
  return {};
}

void write_entry(std::byte* at, const OutgoingRequest& request) noexcept {
  layout::store_bytes(at, &request.header, sizeof request.header);
  WARM_FAILPOINT("client.lane_header_written");
  at += sizeof request.header;
  const size_t embedding_bytes = size_t{request.header.dimensions} * sizeof(float);
  if (embedding_bytes != 0) layout::store_bytes(at, request.embedding, embedding_bytes);
  WARM_FAILPOINT("client.lane_embedding_written");
  at += embedding_bytes;
  layout::store_bytes(at, request.id, request.header.id_bytes);
  WARM_FAILPOINT("client.lane_id_written");
  at += request.header.id_bytes;
  if (request.header.content_bytes != 0) layout::store_bytes(at, request.content, request.header.content_bytes);
  WARM_FAILPOINT("client.lane_content_written");
}

// The mutex is held. 0: the lane is full or fenced.
uint32_t publish_held(const Link& link, uint32_t lane, uint32_t tid, const Run& run) noexcept {
  layout::LaneLock& lock = link.lock(lane);
  WARM_FAILPOINT("client.lane_locked");
  if (layout::load_relaxed(lock.busy_since_ns) != 0) layout::store_relaxed(lock.busy_since_ns, 0);
  WARM_FAILPOINT("client.doubt_cleared");  // most often nobody had doubted: no byte differs from the point before
  layout::store_relaxed(lock.holder_tid, tid);
  WARM_FAILPOINT("client.lane_thread_named");
  layout::store_relaxed(lock.holder, link.session);
  WARM_FAILPOINT("client.lane_holder_named");
  const Free free = layout::load_relaxed(lock.fenced) != 0 ? Free{} : free_entries(link, lane);
  const uint32_t count = std::min(run.count, free.count);
  for (uint32_t i = 0; i < count; ++i) {
    const uint64_t number = free.first + i;
    uint64_t& word = link.commits(lane).seq[number % layout::kLaneEntries];
    const bool commit_last = WARM_RULE("client.commit_last");
    if (!commit_last) layout::store_release(word, number);
    write_entry(link.entry(lane, number), *run.requests[i]);
    if (commit_last) layout::store_release(word, number);
    WARM_FAILPOINT("client.lane_committed");
  }
  layout::store_relaxed(lock.holder, 0);
  WARM_FAILPOINT("client.lane_holder_cleared");
  layout::store_relaxed(lock.holder_tid, 0);
  WARM_FAILPOINT("client.lane_thread_cleared");
  return count;
}

}  // namespace

uint32_t publish_in(const Link& link, uint32_t lane, uint32_t tid, const Run& run) noexcept {
  layout::LaneLock& lock = link.lock(lane);
  if (layout::load_relaxed(lock.fenced) != 0) return 0;
  RobustMutex mutex(&lock.mutex);
  switch (mutex.try_lock([&] { repair(link, lane, lock); })) {
    case RobustMutex::Attempt::held: break;
    case RobustMutex::Attempt::repaired:
      WARM_FAILPOINT("client.repair_consistent");
      layout::fetch_add(link.region().counters.lane_repairs, 1);
      break;
    case RobustMutex::Attempt::busy: doubt(link, lock); return 0;
    case RobustMutex::Attempt::lost: fence_lane(link, lock); return 0;
  }
  const uint32_t published = publish_held(link, lane, tid, run);
  mutex.unlock();
  WARM_FAILPOINT("client.lane_unlocked");
  return published;
}

Published publish_in_one(const Link& link, uint32_t lane, uint32_t tid, const Run& run) noexcept {
  const uint32_t count = publish_in(link, lane, tid, run);
  return {.count = count, .lane = lane, .met_fenced = count == 0 && layout::load_relaxed(link.lock(lane).fenced) != 0};
}

Published publish_in_any(const Link& link, uint32_t tid, const Run& run) noexcept {
  const int cpu = ::sched_getcpu();
  const uint32_t first = (cpu < 0 ? tid : static_cast<uint32_t>(cpu)) * kLanesApart;
  bool met_fenced = false;
  for (uint32_t i = 0; i < link.lanes; ++i) {
    Published published = publish_in_one(link, (first + i) % link.lanes, tid, run);
    published.met_fenced = met_fenced |= published.met_fenced;
    if (published.count != 0) return published;
  }
  return {.count = 0, .lane = 0, .met_fenced = met_fenced};
}

}  // namespace warmtier::libclient
