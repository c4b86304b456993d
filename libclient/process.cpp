#include "libclient/process.hpp"

#include <linux/membarrier.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <deque>
#include <memory>
#include <mutex>
#include <vector>

#include "base/assert.hpp"
#include "base/failpoint.hpp"
#include "base/fd.hpp"
#include "base/mapping.hpp"
#include "libclient/client.hpp"

namespace warmtier::libclient {
namespace {

std::atomic<uint64_t> last_stamp{0};
std::atomic<uint64_t> last_identity{0};

// What several clients of one process share. A child makes its own: the parent's mutex may be held by a thread that is not
// there any more.
struct Registry {
  const uint64_t stamp;
  std::mutex mutex;  // rank: above every client's; held for looking up and for leaving only
  std::vector<ClientState*> states;
  std::mutex forsaken_mutex;  // rank: below every client's
  std::deque<Forsaken> forsaken;
  explicit Registry(uint64_t s) : stamp(s) {}
};
std::atomic<Registry*> current_registry{nullptr};

constexpr size_t kForsakenMax = 1024;  // what is dropped beyond it is awaited until this process ends

bool is_over(const Forsaken& one) noexcept {
  return layout::load_acquire(one.entry->number) != one.session ||
         layout::load_acquire(one.entry->state) == static_cast<uint32_t>(layout::SessionState::dead);
}

// Channels' maps, pushed only: a child inherits them as they are, at whatever moment the fork came, and uses them.
struct ChannelMap {
  base::InodeId inode;
  size_t bytes = 0;
  std::byte* address = nullptr;
  ChannelMap* next = nullptr;
};
std::atomic<ChannelMap*> channel_maps{nullptr};

Registry& registry() {
  const uint64_t stamp = fork_stamp();
  Registry* seen = current_registry.load(std::memory_order_acquire);
  while (seen == nullptr || seen->stamp != stamp) {
    auto fresh = std::make_unique<Registry>(stamp);
    if (current_registry.compare_exchange_strong(seen, fresh.get(), std::memory_order_acq_rel)) return *fresh.release();
  }
  return *seen;
}

// The records of one thread, in all its clients.
struct Membership {
  uint64_t state_id;
  ThreadRecord* record;
};
struct ThreadTable {
  uint64_t stamp = 0;
  std::vector<Membership> memberships;
};
thread_local constinit ThreadTable* thread_table __attribute__((tls_model("initial-exec"))) = nullptr;

pthread_key_t thread_key;
std::atomic<int> thread_key_state{0};  // 0 none, 1 there, -1 cannot be had

ClientState* find_state(Registry& all, uint64_t state_id) noexcept {
  for (ClientState* state : all.states) {
    if (state->id == state_id) return state;
  }
  return nullptr;
}

void thread_ends(void* argument) noexcept {
  auto* table = static_cast<ThreadTable*>(argument);
  detail::thread_slot = {};
  thread_table = nullptr;
  if (table->stamp == fork_stamp()) {
    Registry& all = registry();
    const std::lock_guard lock(all.mutex);
    for (const Membership& membership : table->memberships) {
      if (ClientState* state = find_state(all, membership.state_id); state != nullptr) state->leave_thread(*membership.record);
    }
  }
  delete table;
}

base::Status make_thread_key() {
  static std::atomic<uint32_t> making{0};
  if (thread_key_state.load(std::memory_order_acquire) == 1) return {};
  while (making.exchange(1, std::memory_order_acquire) != 0) ::sched_yield();
  base::Status status;
  if (thread_key_state.load(std::memory_order_acquire) != 1) {
    const int error = ::pthread_key_create(&thread_key, [](void* table) { thread_ends(table); });
    if (error == 0) {
      thread_key_state.store(1, std::memory_order_release);
    } else {
      status = base::fail_errno(error, "pthread_key_create");
    }
  }
  making.store(0, std::memory_order_release);
  return status;
}

base::Status make_stamp_page() {
  if (detail::stamp_word.load(std::memory_order_acquire) != nullptr) return {};
  const auto page = static_cast<size_t>(::sysconf(_SC_PAGESIZE));
  void* memory = ::mmap(nullptr, page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return base::fail_errno(errno, "map a page for the fork stamp");
  if (::madvise(memory, page, MADV_WIPEONFORK) != 0) {
    const int error = errno;
    ::munmap(memory, page);
    return base::fail(WARM_E_UNSUPPORTED, "the kernel refuses MADV_WIPEONFORK (errno %d); Linux 4.14 has it", error);
  }
  auto* word = new (memory) std::atomic<uint64_t>(0);
  std::atomic<uint64_t>* none = nullptr;
  if (!detail::stamp_word.compare_exchange_strong(none, word, std::memory_order_acq_rel)) ::munmap(memory, page);
  return {};
}

}  // namespace

namespace detail {

std::atomic<std::atomic<uint64_t>*> stamp_word{nullptr};
thread_local constinit ThreadSlot thread_slot __attribute__((tls_model("initial-exec"))) = {};

ThreadRecord& join(ClientState& state) {
  const uint64_t stamp = fork_stamp();
  if (thread_table == nullptr || thread_table->stamp != stamp) {
    // A child's table of before the fork is its parent's: its records stand in clients that the child does not have.
    auto table = std::make_unique<ThreadTable>();
    table->stamp = stamp;
    const int error = ::pthread_setspecific(thread_key, table.get());
    if (error != 0) throw std::bad_alloc();
    delete thread_table;
    thread_table = table.release();
  }
  for (const Membership& membership : thread_table->memberships) {
    if (membership.state_id != state.id) continue;
    thread_slot = {.state_id = state.id, .record = membership.record};
    return *membership.record;
  }
  Registry& all = registry();
  const std::lock_guard lock(all.mutex);
  std::erase_if(thread_table->memberships, [&](const Membership& m) { return find_state(all, m.state_id) == nullptr; });
  thread_table->memberships.reserve(thread_table->memberships.size() + 1);
  ThreadRecord& record = state.enter_thread();
  thread_table->memberships.push_back({.state_id = state.id, .record = &record});
  thread_slot = {.state_id = state.id, .record = &record};
  return record;
}

}  // namespace detail

uint64_t renew_stamp() noexcept {
  std::atomic<uint64_t>& word = *detail::stamp_word.load(std::memory_order_acquire);
  uint64_t seen = 0;
  const uint64_t mine = last_stamp.load(std::memory_order_acquire) + 1;
  if (!word.compare_exchange_strong(seen, mine, std::memory_order_acq_rel)) return seen;
  last_stamp.store(mine, std::memory_order_release);
  return mine;
}

uint64_t next_identity() noexcept { return last_identity.fetch_add(1, std::memory_order_relaxed) + 1; }

base::Status prepare_process() {
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx") == 0) {
    return base::fail(WARM_E_UNSUPPORTED, "the processor has no AVX: 16-byte loads are not atomic on it");
  }
#endif
  void* robust_list = nullptr;
  size_t bytes = 0;
  if (::syscall(SYS_get_robust_list, 0, &robust_list, &bytes) != 0 || robust_list == nullptr) {
    return base::fail(WARM_E_UNSUPPORTED,
                      "this thread has no robust list (made by clone() without glibc?): its death in a lane would go unseen");
  }
  if (auto made = make_stamp_page(); !made) return made;
  return make_thread_key();
}

bool register_membarrier() noexcept { return ::syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0) == 0; }

void membarrier_all_threads() noexcept {
  // Cannot fail once it was registered.
  WARM_ASSERT(::syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0) == 0);
}

void forsake(Forsaken session) {
  Registry& all = registry();
  const std::lock_guard lock(all.forsaken_mutex);
  std::erase_if(all.forsaken, is_over);
  if (all.forsaken.size() == kForsakenMax) all.forsaken.pop_front();
  all.forsaken.push_back(std::move(session));
}

std::vector<uint64_t> forsaken_of(const uint8_t (&store_id)[16], size_t most) {
  Registry& all = registry();
  const std::lock_guard lock(all.forsaken_mutex);
  std::erase_if(all.forsaken, is_over);
  std::vector<uint64_t> sessions;
  if (!WARM_RULE("client.forsaken_are_named")) return sessions;
  std::deque<Forsaken> said;
  std::deque<Forsaken> unsaid;
  for (Forsaken& one : all.forsaken) {
    const bool named = sessions.size() < most && std::memcmp(one.store_id, store_id, sizeof store_id) == 0;
    if (named) sessions.push_back(one.session);
    (named ? said : unsaid).push_back(std::move(one));
  }
  all.forsaken = std::move(unsaid);
  std::ranges::move(said, std::back_inserter(all.forsaken));
  return sessions;
}

void register_state(ClientState& state) {
  Registry& all = registry();
  const std::lock_guard lock(all.mutex);
  all.states.push_back(&state);
}

void unregister_state(ClientState& state) {
  Registry& all = registry();
  const std::lock_guard lock(all.mutex);
  std::erase(all.states, &state);
}

base::Result<std::byte*> map_channel(int fd, size_t bytes) {
  auto inode = base::inode_of(fd);
  if (!inode) return base::pass(std::move(inode));
  ChannelMap* newest = channel_maps.load(std::memory_order_acquire);
  for (const ChannelMap* known = newest; known != nullptr; known = known->next) {
    if (known->inode == *inode && known->bytes == bytes) return known->address;
  }
  auto fresh = std::make_unique<ChannelMap>();
  auto mapping = base::WriteMapping::map(fd, bytes);
  if (!mapping) return base::pass(std::move(mapping));
  *fresh = {.inode = *inode, .bytes = bytes, .address = mapping->data(), .next = newest};
  mapping->abandon();
  // Two threads may map it twice: both maps are good.
  while (!channel_maps.compare_exchange_weak(fresh->next, fresh.get(), std::memory_order_acq_rel)) {
  }
  return fresh.release()->address;
}

}  // namespace warmtier::libclient
