// A view is the daemon's own memory: read-only maps of its files, at the same place of the same file in every process; and a get
// makes no system call, as a filter shows that would kill.
#include <criterion/criterion.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstddef>
#include <cstring>

#include "tests/support/daemon.hpp"
#include "tests/support/records.hpp"
#include "tests/support/regions.hpp"

using namespace warmtier::tests::support;

namespace {

constexpr Shape kShape{.dimensions = 16, .content_bytes_max = 600};
constexpr uint64_t kKeys = 100;

struct Place {
  uint64_t inode;
  uint64_t offset;
  char access[8];
  char path[256];
};

Place place_of(const void* bytes) {
  const Map map = map_holding(::getpid(), bytes);
  Place place{
      .inode = map.inode, .offset = map.offset + (reinterpret_cast<uintptr_t>(bytes) - map.from), .access = {}, .path = {}};
  std::strncpy(place.access, map.access.c_str(), sizeof place.access - 1);
  std::strncpy(place.path, map.path.c_str(), sizeof place.path - 1);
  return place;
}

bool with_content(warm_client* client, uint64_t key) {
  warm_view view = WARM_VIEW_INIT;
  const std::string id = record_id(key);
  if (warm_get(client, id.data(), id.size(), 0, &view) != WARM_OK) return false;
  const bool has = view.content_bytes > 0;
  warm_release(client, &view);
  return has;
}

}  // namespace

Test(zero_copy, two_processes_see_a_record_at_the_same_place_of_the_daemons_files, .timeout = 120) {
  Daemon daemon;
  daemon.start();
  struct Board {
    Place embedding[2];
    Place content[2];
    Place id[2];
  };
  Shared<Board> board;
  uint64_t key = 0;
  {
    const Client client(daemon);
    for (key = 1;; ++key) {
      cr_assert_eq(put_record(client, kShape, key, 1), WARM_OK);
      if (with_content(client, key)) break;
    }
  }
  for (unsigned who = 0; who < 2; ++who) {
    Process process = Process::fork([&] {
      // Different addresses in the two processes: what is equal is the place in the file.
      void* gap = ::mmap(nullptr, size_t{4096} << who * 8, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
      if (gap == MAP_FAILED) return 1;
      warm_client* client = nullptr;
      if (daemon.try_open(&client) != WARM_OK) return 2;
      const std::string id = record_id(key);
      warm_view view = WARM_VIEW_INIT;
      if (warm_get(client, id.data(), id.size(), 0, &view) != WARM_OK) return 3;
      board->embedding[who] = place_of(view.embedding);
      board->content[who] = place_of(view.content);
      board->id[who] = place_of(view.id);
      return 0;
    });
    cr_assert(process.wait() == exit_code(0));
  }
  for (const auto& [places, file] : {std::pair{board->embedding, "/store/warm.tier"},
                                     std::pair{board->content, "/store/content/"}, std::pair{board->id, "/store/content/"}}) {
    for (unsigned who = 0; who < 2; ++who) {
      cr_assert_str_eq(places[who].access, "r--s", "%s", places[who].path);
      cr_assert_not_null(std::strstr(places[who].path, file), "%s is not in %s", places[who].path, file);
    }
    cr_assert_eq(places[0].inode, places[1].inode);
    cr_assert_eq(places[0].offset, places[1].offset);
  }
}

Test(zero_copy, a_get_makes_no_system_call, .timeout = 120) {
  Daemon daemon;
  daemon.start();
  {
    const Client client(daemon);
    for (uint64_t key = 0; key < kKeys; ++key) cr_assert_eq(put_record(client, kShape, key, 1), WARM_OK);
  }
  const auto reader_under_filter = [&](bool with_a_call) {
    return Process::fork([&daemon, with_a_call] {
      warm_client* client = nullptr;
      if (daemon.try_open(&client) != WARM_OK) return 1;
      std::string ids[kKeys];
      for (uint64_t key = 0; key < kKeys; ++key) ids[key] = record_id(key);
      // A thread's first call makes it known to the library.
      if (check_record(client, kShape, 0) != WARM_OK) return 8;
      // Everything but exit_group kills.
      sock_filter steps[] = {
          BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
          BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_exit_group, 0, 1),
          BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
          BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
      };
      const sock_fprog filter{.len = 4, .filter = steps};
      if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) != 0) return 2;
      for (unsigned i = 0; i < 1000; ++i) {
        const uint64_t key = i % kKeys;
        warm_view view = WARM_VIEW_INIT;
        if (warm_get(client, ids[key].data(), ids[key].size(), 0, &view) != WARM_OK) ::_exit(3);
        uint32_t state = 0;
        if (warm_view_check(client, &view, &state) != WARM_OK || state != WARM_VIEW_CURRENT) ::_exit(4);
        const volatile float touched = view.embedding[0];
        (void)touched;
        if (warm_release(client, &view) != WARM_OK) ::_exit(5);
        if (warm_exists(client, "nothing", 7) != WARM_E_NOT_FOUND) ::_exit(6);
      }
      if (with_a_call) ::getppid();
      ::_exit(0);
    });
  };
  Process::End end = reader_under_filter(false).wait();
  cr_assert(end == exit_code(0), "%s", text_of(end).c_str());
  // The filter is no empty threat.
  end = reader_under_filter(true).wait();
  cr_assert(end == killed_by(SIGSYS), "%s", text_of(end).c_str());
}
