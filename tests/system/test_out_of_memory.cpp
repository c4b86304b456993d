// The library when memory runs out under it: each of its allocations and maps is refused once, alone and with all that follow. A
// call says so, does nothing by halves, and goes on when there is memory again.
#include <criterion/criterion.h>
#include <link.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "tests/support/daemon.hpp"
#include "tests/support/records.hpp"

using namespace warmtier::tests::support;
namespace base = warmtier::base;

// ---- memory of this process, but refused to the library only ------------------------------------------------------------------

namespace {

struct Code {
  uintptr_t from = 0;
  uintptr_t to = 0;
};
Code library;  // where its code lies

void find_library() {
  ::dl_iterate_phdr(
      [](dl_phdr_info* info, size_t, void*) {
        if (std::strstr(info->dlpi_name, "libwarmtier.so") == nullptr) return 0;
        for (int i = 0; i < info->dlpi_phnum; ++i) {
          const auto& part = info->dlpi_phdr[i];
          if (part.p_type != PT_LOAD || (part.p_flags & PF_X) == 0) continue;
          library = {.from = info->dlpi_addr + part.p_vaddr, .to = info->dlpi_addr + part.p_vaddr + part.p_memsz};
        }
        return 1;
      },
      nullptr);
}

// Of this thread: so many allocations of the library more are granted. Below 0: all of them.
thread_local constinit int64_t granted = -1;
thread_local constinit bool refuses_all_later = false;
thread_local constinit uint32_t refused = 0;

bool refuses(const void* caller) noexcept {
  const auto at = reinterpret_cast<uintptr_t>(caller);
  if (granted < 0 || at < library.from || at >= library.to || granted-- > 0) return false;
  granted = refuses_all_later ? 0 : -1;
  ++refused;
  errno = ENOMEM;
  return true;
}

}  // namespace

// NOLINTBEGIN(bugprone-reserved-identifier,readability-inconsistent-declaration-parameter-name): the names are the C library's
extern "C" {
void* __libc_malloc(size_t bytes);
void* __libc_calloc(size_t count, size_t bytes);
void* __libc_realloc(void* memory, size_t bytes);
void* __libc_memalign(size_t alignment, size_t bytes);

void* malloc(size_t bytes) { return refuses(__builtin_return_address(0)) ? nullptr : __libc_malloc(bytes); }
void* calloc(size_t count, size_t bytes) { return refuses(__builtin_return_address(0)) ? nullptr : __libc_calloc(count, bytes); }
void* realloc(void* memory, size_t bytes) {
  return refuses(__builtin_return_address(0)) ? nullptr : __libc_realloc(memory, bytes);
}
void* aligned_alloc(size_t alignment, size_t bytes) {
  return refuses(__builtin_return_address(0)) ? nullptr : __libc_memalign(alignment, bytes);
}
int posix_memalign(void** ret_memory, size_t alignment, size_t bytes) {
  if (refuses(__builtin_return_address(0))) return ENOMEM;
  *ret_memory = __libc_memalign(alignment, bytes);
  return *ret_memory == nullptr ? ENOMEM : 0;
}
void* mmap(void* address, size_t bytes, int protection, int flags, int fd, off_t offset) {
  if (refuses(__builtin_return_address(0))) return MAP_FAILED;
  return reinterpret_cast<void*>(::syscall(SYS_mmap, address, bytes, protection, flags, fd, offset));
}
}
// NOLINTEND(bugprone-reserved-identifier,readability-inconsistent-declaration-parameter-name)

// ---- what is called -----------------------------------------------------------------------------------------------------------

namespace {

constexpr Shape kShape{.dimensions = 16, .content_bytes_max = 600};
constexpr Shape kWide{.dimensions = 16, .content_bytes_max = 60'000};
constexpr Shape kLarge{.dimensions = 16, .content_bytes_max = 900'000};
constexpr uint32_t kTimeoutMs = 2'000;
constexpr uint64_t kKeys = 40;
constexpr uint64_t kOwn = 1'000;
constexpr uint64_t kLargeOwn = 2'000;

struct Scene {
  const Daemon& daemon;
  warm_client* client = nullptr;
  uint64_t wide = 0;  // keys from here on that lie in segments that came later
};

int open(Scene& scene) { return scene.client != nullptr ? WARM_OK : scene.daemon.try_open(&scene.client, kTimeoutMs); }
int nothing(Scene&) { return WARM_OK; }

int put(Scene& scene) { return put_record(scene.client, kShape, kOwn, 1); }
int put_large(Scene& scene) { return put_record(scene.client, kLarge, kLargeOwn, 1); }
int get(Scene& scene) { return check_record(scene.client, kShape, 1); }

int attached_before_segments_came(Scene& scene) {
  if (open(scene) != WARM_OK || get(scene) != WARM_OK) return 1;
  warm_client* other = nullptr;
  if (scene.daemon.try_open(&other, kTimeoutMs) != WARM_OK) return 2;
  static std::atomic<uint64_t> next{10'000};
  scene.wide = next.fetch_add(1'000) + static_cast<uint64_t>(::getpid()) * 100'000;
  for (uint64_t i = 0; i < 24; ++i) {
    if (put_record(other, kWide, scene.wide + i, 1) != WARM_OK) return 3;
  }
  return warm_close(other);
}
int get_from_new_segments(Scene& scene) {
  for (uint64_t i = 0; i < 24; ++i) {
    if (const int code = check_record(scene.client, kWide, scene.wide + i); code != WARM_OK) return code;
  }
  return WARM_OK;
}

int attached_and_without_descriptors(Scene& scene) {
  if (open(scene) != WARM_OK || get(scene) != WARM_OK) return 1;
  ::closefrom(3);
  return WARM_OK;
}

int get_many(Scene& scene) {
  std::vector<std::string> names;
  std::array<warm_id, kKeys> ids;
  std::array<warm_view, kKeys> views;
  std::array<int32_t, kKeys> codes{};
  for (uint64_t key = 0; key < kKeys; ++key) names.push_back(record_id(key));
  for (uint64_t key = 0; key < kKeys; ++key) {
    ids[key] = warm_id{names[key].data(), names[key].size()};
    views[key] = WARM_VIEW_INIT;
  }
  const int code = warm_get_many(scene.client, ids.data(), kKeys, 0, views.data(), codes.data());
  for (warm_view& view : views) {
    if (warm_release(scene.client, &view) != WARM_OK) return WARM_E_GONE;
  }
  if (code != WARM_OK) return code;
  for (const int32_t one : codes) {
    if (one != WARM_OK) return one;
  }
  return WARM_OK;
}

int walk(Scene& scene) {
  warm_cursor* cursor = nullptr;
  if (const int code = warm_cursor_open(scene.client, nullptr, &cursor); code != WARM_OK) return code;
  int code = WARM_OK;
  for (size_t count = 1; code == WARM_OK && count != 0;) {
    std::array<warm_view, 8> views;
    for (warm_view& view : views) view = WARM_VIEW_INIT;
    count = 0;
    code = warm_cursor_next(cursor, 0, views.data(), views.size(), &count);
    for (size_t i = 0; i < count; ++i) {
      if (warm_release(scene.client, &views[i]) != WARM_OK) return WARM_E_GONE;
    }
  }
  const int closed = warm_cursor_close(cursor);
  return code != WARM_OK ? code : closed;
}

int recall(Scene& scene) {
  const std::array<float, 16> vector{1.0F, 0.5F};
  warm_query query = WARM_QUERY_INIT;
  query.embedding = vector.data();
  query.dimensions = 16;
  query.limit = 5;
  std::array<warm_hit, 5> hits{};
  for (warm_hit& hit : hits) hit.view = WARM_VIEW_INIT;
  size_t count = 0;
  const int code = warm_recall(scene.client, &query, hits.data(), &count, nullptr);
  if (code != WARM_OK) return code;
  return warm_hits_release(scene.client, hits.data(), count);
}

int submitted_put(Scene& scene) {
  const Record record(kShape, kOwn, 1);
  const warm_memory memory = record.memory();
  warm_ticket ticket = 0;
  if (const int code = warm_put_submit(scene.client, &memory, &ticket); code != WARM_OK) return code;
  warm_result result{};
  int code = warm_ticket_wait(scene.client, ticket, kTimeoutMs, &result);
  for (int again = 0; code == WARM_E_NOMEM && again < 2; ++again) {  // it stays what it is
    granted = -1;
    code = warm_ticket_wait(scene.client, ticket, kTimeoutMs, &result);
  }
  return code != WARM_OK ? code : result.code;
}

// Some that fit a lane, and one in their midst that goes by the socket. Each is there or not, as its result says.
int many_puts(Scene& scene) {
  constexpr uint64_t kMany = 8;
  std::vector<Record> records;
  std::vector<warm_memory> memories;
  for (uint64_t i = 0; i < kMany; ++i) records.emplace_back(i == 4 ? kLarge : kShape, i == 4 ? kLargeOwn : kOwn + i, 1);
  for (const Record& record : records) memories.push_back(record.memory());
  std::array<warm_result, kMany> results{};
  const int code = warm_put_many(scene.client, memories.data(), kMany, results.data());
  granted = -1;
  int worst = code;
  for (uint64_t i = 0; i < kMany; ++i) {
    const int one = code == WARM_OK ? results[i].code : code;
    if (one != WARM_OK) worst = one;
    const int there = check_record(scene.client, i == 4 ? kLarge : kShape, i == 4 ? kLargeOwn : kOwn + i);
    if (there != (one == WARM_OK ? WARM_OK : WARM_E_NOT_FOUND)) return WARM_E_GONE;
  }
  for (uint64_t i = 0; i < kMany; ++i) {
    const std::string& id = records[i].id();
    const int removed = warm_remove(scene.client, id.data(), id.size(), WARM_IF_ANY, 0, 0, nullptr);
    if (removed != WARM_OK && removed != WARM_E_NOT_FOUND) return removed;
  }
  return worst;
}
int many_puts_without_descriptors(Scene& scene) {
  ::closefrom(3);
  return many_puts(scene);
}

int news(Scene& scene) {
  std::array<warm_change, 16> changes;
  std::array<std::byte, 4096> ids;
  size_t count = 0;
  uint64_t sequence = 0;
  if (const int code = warm_sequence_get(scene.client, &sequence); code != WARM_OK) return code;
  const int code =
      warm_changes(scene.client, sequence, sizeof(warm_change), changes.data(), changes.size(), ids.data(), ids.size(), &count);
  return code == WARM_E_GONE ? WARM_OK : code;
}

struct Act {
  const char* name;
  int (*before)(Scene& scene);
  int (*act)(Scene& scene);
};
constexpr Act kActs[] = {
    {"open", nothing, open},
    {"the first put", open, put},
    {"a large put", open, put_large},
    {"the first get", open, get},
    {"a walk", open, walk},
    {"a recall", open, recall},
    {"a get from segments that came later", attached_before_segments_came, get_from_new_segments},
    {"a put after all descriptors were closed", attached_and_without_descriptors, put},
    {"get_many", open, get_many},
    {"a submitted put", open, submitted_put},
    {"many puts", open, many_puts},
    {"many puts after all descriptors were closed", open, many_puts_without_descriptors},
    {"changes", open, news},
};

constexpr int kNeverRefused = 42;

// So that each act finds what the first one found.
bool remove_own(warm_client* client) {
  for (const uint64_t key : {kOwn, kLargeOwn}) {
    const std::string id = record_id(key);
    const int removed = warm_remove(client, id.data(), id.size(), WARM_IF_ANY, 0, 0, nullptr);
    if (removed != WARM_OK && removed != WARM_E_NOT_FOUND) return false;
  }
  return true;
}

// The allocation `n` of the act is refused. In a fork of its own.
int act_without_memory(const Daemon& daemon, const Act& act, int64_t n, bool all_later) {
  Scene scene{.daemon = daemon};
  if (act.before(scene) != WARM_OK) return 1;
  refused = 0;
  refuses_all_later = all_later;
  granted = n;
  const int code = act.act(scene);
  granted = -1;
  if (refused == 0) return code == WARM_OK && remove_own(scene.client) ? kNeverRefused : 2;
  if (code != WARM_OK && code != WARM_E_NOMEM && code != WARM_E_UNAVAILABLE) {
    std::fprintf(stderr, "%s: %s\n", warm_error_name(code), warm_last_error());
    return 3;
  }
  // What was not carried out is not there, and what was is. It heals.
  if (scene.client == nullptr && open(scene) != WARM_OK) return 4;
  for (const auto& [key, shape, action] :
       {std::tuple{kOwn, &kShape, &put}, std::tuple{kOwn, &kShape, &submitted_put}, std::tuple{kLargeOwn, &kLarge, &put_large}}) {
    if (act.act != *action) continue;
    const int there = check_record(scene.client, *shape, key);
    if (there != (code == WARM_OK ? WARM_OK : WARM_E_NOT_FOUND)) return 5;
  }
  if (const int again = act.act(scene); again != WARM_OK) {
    std::fprintf(stderr, "%s: %s\n", warm_error_name(again), warm_last_error());
    return 6;
  }
  if (put(scene) != WARM_OK || get(scene) != WARM_OK) return 7;
  if (!remove_own(scene.client)) return 8;
  return warm_close(scene.client) == WARM_OK ? 0 : 9;
}

}  // namespace

TestSuite(out_of_memory, .timeout = 240);

Test(out_of_memory, each_allocation_of_the_library_may_fail_and_it_heals) {
  find_library();
  cr_assert_lt(library.from, library.to);
  StoreOptions options;
  options.failpoints = false;
  options.segment_bytes = uint64_t{1} << 18;
  Daemon daemon(options);
  daemon.start();
  const Client client(daemon);
  for (uint64_t key = 0; key < kKeys; ++key) cr_assert_eq(put_record(client, kShape, key, 1), WARM_OK);
  for (const Act& act : kActs) {
    for (const bool all_later : {false, true}) {
      int64_t n = 0;
      // With all that follow, every fourth one: there is one way out, wherever it begins.
      for (;; n += all_later ? 4 : 1) {
        cr_assert_lt(n, 1'000, "%s allocates without end", act.name);
        const Process::End end = Process::fork([&] { return act_without_memory(daemon, act, n, all_later); }).wait();
        if (end == exit_code(kNeverRefused)) break;
        cr_expect(end == exit_code(0), "%s, allocation %ld%s: %s", act.name, n, all_later ? " and all later ones" : "",
                  text_of(end).c_str());
      }
    }
  }
  await_stats(client, "no session is left over", [](const warm_stats& stats) { return stats.sessions == 1; });
}
