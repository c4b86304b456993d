// What runs out: room on the file system, descriptors, address space, locked memory, a memory limit. The daemon and the library
// say so, nobody dies of it, nothing that was acknowledged is lost, and all goes on when there is enough again.
#include <criterion/criterion.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <optional>
#include <string>
#include <vector>

#include "tests/support/daemon.hpp"
#include "tests/support/records.hpp"

using namespace warmtier::tests::support;
namespace base = warmtier::base;

namespace {

// A sanitizer's shadow needs terabytes of address space.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kLimitsAddressSpace = false;
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
constexpr bool kLimitsAddressSpace = false;
#else
constexpr bool kLimitsAddressSpace = true;
#endif
#else
constexpr bool kLimitsAddressSpace = true;
#endif

constexpr Shape kShape{.dimensions = 16, .content_bytes_max = 20'000};
constexpr Shape kLarge{.dimensions = 16, .content_bytes_max = 900'000};
constexpr uint32_t kTimeoutMs = 20'000;
constexpr uint64_t kFirst = 1'000;  // keys that fill a store, from here on

uint64_t key_of_content(uint64_t bytes_min, uint64_t bytes_max) {
  for (uint64_t key = 0;; ++key) {
    const uint64_t bytes = Record(kLarge, key, 1).memory().content_bytes;
    if (bytes >= bytes_min && bytes <= bytes_max) return key;
  }
}
// Of a content that gets a segment of its own.
uint64_t large_key() { return key_of_content(400'000, UINT64_MAX); }

base::Deadline patience() { return base::Deadline::after_ns(kPatienceNs); }

// Made by the daemon in a directory that may be another file system by then.
StoreOptions made_there(uint64_t segment_bytes = uint64_t{1} << 18) {
  StoreOptions options;
  options.made_by_daemon = true;
  options.segment_bytes = segment_bytes;
  options.checkpoint_interval_ms = 50;
  return options;
}

std::string shell(const std::string& command) {
  const std::string quiet = command + " 2>&1";
  FILE* pipe = ::popen(quiet.c_str(), "r");
  if (pipe == nullptr) return "popen failed";
  std::string said;
  char part[256];
  while (std::fgets(part, sizeof part, pipe) != nullptr) said += part;
  return ::pclose(pipe) == 0 ? std::string() : "\"" + command + "\" fails: " + said;
}

// A mount that nobody else sees, and that ends with the test.
struct FileSystem {
  FileSystem(const std::string& type, const std::string& place, uint64_t bytes) : place_(place) {
    cr_assert_eq(::unshare(CLONE_NEWNS), 0);
    cr_assert_eq(::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr), 0);
    std::filesystem::create_directories(place);
    if (type == "tmpfs") {
      const std::string size = "size=" + std::to_string(bytes);
      cr_assert_eq(::mount("tmpfs", place.c_str(), "tmpfs", 0, size.c_str()), 0);
      return;
    }
    const std::string image = place + ".image";
    trouble_ = shell("truncate -s " + std::to_string(bytes) + " " + image + " && mkfs.ext4 -q -m 0 " + image +
                     " && mount -o loop " + image + " " + place);
    if (trouble_.empty()) trouble_ = shell("rmdir " + place + "/lost+found");
  }
  ~FileSystem() { ::umount2(place_.c_str(), MNT_DETACH); }
  FileSystem(const FileSystem&) = delete;
  FileSystem& operator=(const FileSystem&) = delete;
  [[nodiscard]] const std::string& trouble() const { return trouble_; }

  // A file that takes room away. 0: all that there is.
  std::string ballast(const char* name, uint64_t bytes = 0) const {
    std::string path = place_ + "/channels/" + name;
    const base::Fd fd(::open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
    cr_assert(static_cast<bool>(fd));
    const std::vector<char> block(4096, 'x');
    for (uint64_t written = 0; bytes == 0 || written < bytes; written += block.size()) {
      if (::write(fd.get(), block.data(), block.size()) != static_cast<ssize_t>(block.size())) break;
    }
    return path;
  }

 private:
  std::string place_;
  std::string trouble_;
};

// Puts until one is refused. What was acknowledged is counted; the code of the refusal.
int fill(warm_client* client, uint64_t& next) {
  for (const base::Deadline deadline = patience(); !deadline.passed(); ++next) {
    const int code = put_record(client, kShape, next, 1);
    if (code != WARM_OK) return code;
  }
  return WARM_OK;
}
void assert_there(warm_client* client, uint64_t from, uint64_t next) {
  for (uint64_t key = from; key < next; ++key)
    cr_assert_eq(check_record(client, kShape, key), WARM_OK, "key %lu: %s", key, warm_last_error());
}
// The daemon looks for room again after a moment.
void assert_puts_again(warm_client* client, uint64_t& next) {
  const base::Deadline deadline = patience();
  while (put_record(client, kShape, next, 1) != WARM_OK) cr_assert(!deadline.passed(), "%s", warm_last_error());
  ++next;
}
int open_elsewhere(const Daemon& daemon) {
  Shared<int> code;
  Process::fork([&] {
    warm_client* client = nullptr;
    *code = daemon.try_open(&client, kTimeoutMs);
    if (*code != WARM_OK) std::fprintf(stderr, "%s\n", warm_last_error());
    return 0;
  }).wait();
  return *code;
}

void full_and_healed(const char* type) {
  Daemon daemon(made_there());
  const FileSystem there(type, daemon.store(), uint64_t{12} << 20);
  if (!there.trouble().empty()) {
    // Not every container has loop devices.
    std::printf("skipped: no ext4 file system of its own: %s\n", there.trouble().c_str());
    return;
  }
  daemon.start();
  std::optional<Client> client(std::in_place, daemon, kTimeoutMs);
  const std::string reserve = there.ballast("reserve", uint64_t{2} << 20);
  uint64_t next = kFirst;
  cr_assert_eq(fill(*client, next), WARM_E_FULL, "%s", warm_last_error());
  cr_assert_gt(next, kFirst + 100);
  const std::string rest = there.ballast("rest");

  // Nothing grows any more, and everything else goes on.
  cr_assert_eq(put_record(*client, kShape, next, 1), WARM_E_FULL);
  cr_assert_eq(put_record(*client, kLarge, large_key(), 1), WARM_E_FULL, "%s", warm_last_error());
  cr_assert_eq(open_elsewhere(daemon), WARM_E_FULL);
  cr_assert_eq(warm_checkpoint(*client, nullptr), WARM_OK, "%s", warm_last_error());
  assert_there(*client, kFirst, next);
  cr_assert_eq(check_record(*client, kShape, next), WARM_E_NOT_FOUND);

  // Removing makes room: of the segments that nothing lives in any more.
  const uint64_t half = kFirst + (next - kFirst) / 2;
  for (uint64_t key = kFirst; key < half; ++key) {
    const std::string id = record_id(key);
    cr_assert_eq(warm_remove(*client, id.data(), id.size(), WARM_IF_ANY, 0, 0, nullptr), WARM_OK, "%s", warm_last_error());
  }
  cr_assert_eq(warm_checkpoint(*client, nullptr), WARM_OK);
  assert_puts_again(*client, next);
  cr_assert_eq(open_elsewhere(daemon), WARM_OK);
  cr_assert_eq(fill(*client, next), WARM_E_FULL);
  const std::string again = there.ballast("again");
  assert_there(*client, half, next);

  // A daemon that finds no room for its first segment says so and ends; who reads goes on.
  daemon.kill();
  daemon.start_without_waiting();
  cr_assert(daemon.process().wait() == exit_code(1), "%s", daemon.log().c_str());
  cr_assert_neq(daemon.log().find("No space left on device"), std::string::npos, "%s", daemon.log().c_str());
  assert_there(*client, half, next);
  for (const std::string& path : {reserve, rest, again}) std::filesystem::remove(path);
  daemon.start();
  assert_there(*client, half, next);
  assert_puts_again(*client, next);
  cr_assert_eq(put_record(*client, kLarge, large_key(), 1), WARM_OK, "%s", warm_last_error());

  // A stop in order needs no room.
  const std::string kept = there.ballast("kept", uint64_t{1} << 20);
  cr_assert_eq(fill(*client, next), WARM_E_FULL);
  there.ballast("last");
  client.reset();
  cr_assert(daemon.stop() == exit_code(0), "%s", daemon.log().c_str());
  std::filesystem::remove(kept);
  daemon.start();
  assert_there(Client(daemon, kTimeoutMs), half, next);
  cr_assert_eq(stats_of(Client(daemon, kTimeoutMs)).damaged_records, 0);
}

}  // namespace

TestSuite(scarcity, .timeout = 120, .disabled = ::geteuid() != 0);

// ---- room on the file system -------------------------------------------------------------------------------------------------

Test(scarcity, a_full_tmpfs_refuses_what_grows_and_loses_nothing) { full_and_healed("tmpfs"); }
Test(scarcity, a_full_ext4_refuses_what_grows_and_loses_nothing) { full_and_healed("ext4"); }

Test(scarcity, a_store_that_finds_no_room_is_not_made_and_is_made_later) {
  Daemon daemon(made_there());
  const FileSystem there("tmpfs", daemon.store(), 65'536);
  daemon.start_without_waiting();
  cr_assert(daemon.process().wait() == exit_code(1), "%s", daemon.log().c_str());
  cr_assert_neq(daemon.log().find("No space left on device"), std::string::npos, "%s", daemon.log().c_str());
  cr_assert_eq(::mount(nullptr, daemon.store().c_str(), nullptr, MS_REMOUNT, "size=16m"), 0);
  daemon.start();
  cr_assert_eq(put_record(Client(daemon, kTimeoutMs), kShape, 1, 1), WARM_OK, "%s", warm_last_error());
}

// ---- descriptors
// ---------------------------------------------------------------------------------------------------------------

Test(scarcity, a_daemon_without_descriptors_refuses_segments_and_sessions_and_takes_them_again) {
  Daemon daemon(made_there(65'536));
  daemon.launch_by({"/usr/bin/prlimit", "--nofile=290"});
  daemon.start();
  const Client client(daemon, kTimeoutMs);
  uint64_t next = kFirst;
  const int code = fill(client, next);
  cr_assert_eq(code, WARM_E_SYSTEM, "%s: %s", warm_error_name(code), warm_last_error());
  cr_assert_neq(daemon.log().find("Too many open files"), std::string::npos, "%s", daemon.log().c_str());
  assert_there(client, kFirst, next);
  cr_assert_eq(open_elsewhere(daemon), WARM_E_LIMIT);
  cr_assert_eq(warm_checkpoint(client, nullptr), WARM_OK, "%s", warm_last_error());
  for (uint64_t key = kFirst; key < next; ++key) {
    const std::string id = record_id(key);
    cr_assert_eq(warm_remove(client, id.data(), id.size(), WARM_IF_ANY, 0, 0, nullptr), WARM_OK, "%s", warm_last_error());
  }
  cr_assert_eq(warm_checkpoint(client, nullptr), WARM_OK);
  assert_puts_again(client, next);
  cr_assert_eq(open_elsewhere(daemon), WARM_OK);
}

namespace {

// With so many descriptors more than are open: an open, then a get from a segment that came later.
int with_few_descriptors(const Daemon& daemon, rlim_t more) {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return 1;
  const rlimit before = limit;
  const base::Fd lowest(::open("/dev/null", O_RDONLY | O_CLOEXEC));  // numbers are counted, not descriptors
  limit.rlim_cur = static_cast<rlim_t>(lowest.get()) + more;
  warm_client* client = nullptr;
  if (::setrlimit(RLIMIT_NOFILE, &limit) != 0) return 2;
  const int opened = daemon.try_open(&client, kTimeoutMs);
  const std::string said = opened != WARM_OK ? warm_last_error() : "";
  if (::setrlimit(RLIMIT_NOFILE, &before) != 0) return 3;
  if (opened != WARM_OK && opened != WARM_E_SYSTEM) return 4;
  if (opened != WARM_OK && said.find("Too many open files") == std::string::npos &&
      said.find("RLIMIT_NOFILE") == std::string::npos) {
    std::fprintf(stderr, "%s\n", said.c_str());
    return 5;
  }
  if (client == nullptr && daemon.try_open(&client, kTimeoutMs) != WARM_OK) return 6;
  if (check_record(client, kShape, 1) != WARM_OK) return 7;

  warm_client* other = nullptr;
  if (daemon.try_open(&other, kTimeoutMs) != WARM_OK) return 8;
  const auto first = uint64_t{10'000} * static_cast<uint64_t>(::getpid());
  for (uint64_t i = 0; i < 32; ++i) {
    if (put_record(other, kShape, first + i, 1) != WARM_OK) return 9;
  }
  limit.rlim_cur = static_cast<rlim_t>(::dup(0));  // none at all
  if (::setrlimit(RLIMIT_NOFILE, &limit) != 0) return 10;
  int got = WARM_OK;
  for (uint64_t i = 0; i < 32 && got == WARM_OK; ++i) got = check_record(client, kShape, first + i);
  if (::setrlimit(RLIMIT_NOFILE, &before) != 0) return 11;
  if (got != WARM_OK && got != WARM_E_SYSTEM && got != WARM_E_UNAVAILABLE && got != WARM_E_NOMEM) {
    std::fprintf(stderr, "%s: %s\n", warm_error_name(got), warm_last_error());
    return 12;
  }
  for (uint64_t i = 0; i < 32; ++i) {
    if (check_record(client, kShape, first + i) != WARM_OK) return 13;
  }
  return opened == WARM_OK ? 42 : 0;
}

}  // namespace

Test(scarcity, a_client_without_descriptors_hears_so_and_goes_on_when_there_are_some) {
  StoreOptions options = made_there();
  options.failpoints = false;
  Daemon daemon(options);
  daemon.start();
  cr_assert_eq(put_record(Client(daemon, 300), kShape, 1, 1), WARM_OK);
  unsigned refused = 0;
  for (rlim_t more = 0;; more = more < 11 ? more + 1 : 1'000) {
    const Process::End end = Process::fork([&] { return with_few_descriptors(daemon, more); }).wait();
    if (end == exit_code(42)) break;
    cr_assert(end == exit_code(0), "%lu descriptors: %s", more, text_of(end).c_str());
    ++refused;
  }
  cr_assert_geq(refused, 8, "a socket and seven that come with the welcome");
}

// ---- address space
// -------------------------------------------------------------------------------------------------------------

Test(scarcity, a_daemon_with_too_little_address_space_says_so_at_its_start, .disabled = !kLimitsAddressSpace) {
  Daemon daemon(made_there());
  daemon.start();
  cr_assert_eq(put_record(Client(daemon, kTimeoutMs), kShape, 1, 1), WARM_OK);
  daemon.kill();
  unsigned refused = 0;
  for (unsigned mib = 8;; mib += 24) {
    cr_assert_lt(mib, 4096);
    daemon.launch_by({"/usr/bin/prlimit", "--as=" + std::to_string(uint64_t{mib} << 20)});
    daemon.start_without_waiting();
    if (daemon.wait_ready(patience())) break;
    const Process::End end = daemon.process().wait();
    // The program's loader has words of its own for it.
    cr_assert(end == exit_code(1) || end == exit_code(127), "%u MiB: %s: %s", mib, text_of(end).c_str(), daemon.log().c_str());
    ++refused;
  }
  cr_assert_geq(refused, 2);
  const std::string log = daemon.log();
  cr_assert(log.find("Cannot allocate memory") != std::string::npos || log.find("Resource temporarily") != std::string::npos,
            "%s", log.c_str());
  // It serves, but has no room for anybody; or not even for its own small needs, and says so.
  const int code = open_elsewhere(daemon);
  Process::End end;
  if (code == WARM_E_UNAVAILABLE && daemon.process().wait_until(base::Deadline::after_ns(0), end)) {
    cr_assert(end == exit_code(1) && daemon.log().find("out of memory") != std::string::npos, "%s: %s", text_of(end).c_str(),
              daemon.log().c_str());
  } else {
    cr_assert(code == WARM_OK || code == WARM_E_NOMEM, "%s", warm_error_name(code));
    daemon.kill();
  }
  daemon.launch_by({});
  daemon.start();
  cr_assert_eq(check_record(Client(daemon, kTimeoutMs), kShape, 1), WARM_OK);
}

namespace {

int with_little_address_space(const Daemon& daemon, uint64_t more) {
  uint64_t pages = 0;
  std::ifstream("/proc/self/statm") >> pages;
  rlimit limit{.rlim_cur = pages * 4096 + more, .rlim_max = RLIM_INFINITY};
  if (::setrlimit(RLIMIT_AS, &limit) != 0) return 1;
  warm_client* client = nullptr;
  const int opened = daemon.try_open(&client, kTimeoutMs);
  limit.rlim_cur = RLIM_INFINITY;
  if (::setrlimit(RLIMIT_AS, &limit) != 0) return 2;
  if (opened != WARM_OK && opened != WARM_E_NOMEM) {
    std::fprintf(stderr, "%s: %s\n", warm_error_name(opened), warm_last_error());
    return 3;
  }
  if (client == nullptr && daemon.try_open(&client, kTimeoutMs) != WARM_OK) return 4;
  if (check_record(client, kShape, 1) != WARM_OK) return 5;

  // Segments that come later and find no room in it are read through the kernel.
  warm_client* other = nullptr;
  if (daemon.try_open(&other, kTimeoutMs) != WARM_OK) return 6;
  const auto first = uint64_t{10'000} * static_cast<uint64_t>(::getpid());
  for (uint64_t i = 0; i < 64; ++i) {
    if (put_record(other, kShape, first + i, 1) != WARM_OK) return 7;
  }
  std::ifstream("/proc/self/statm") >> pages;
  limit.rlim_cur = pages * 4096;
  if (::setrlimit(RLIMIT_AS, &limit) != 0) return 8;
  int got = WARM_OK;
  for (uint64_t i = 0; i < 64 && got == WARM_OK; ++i) got = check_record(client, kShape, first + i);
  limit.rlim_cur = RLIM_INFINITY;
  if (::setrlimit(RLIMIT_AS, &limit) != 0) return 9;
  if (got != WARM_OK && got != WARM_E_NOMEM) return 10;
  for (uint64_t i = 0; i < 64; ++i) {
    if (check_record(client, kShape, first + i) != WARM_OK) return 11;
  }
  return opened == WARM_OK ? 42 : 0;
}

}  // namespace

Test(scarcity, a_client_without_address_space_hears_so_and_goes_on_when_there_is_some, .disabled = !kLimitsAddressSpace) {
  StoreOptions options = made_there();
  options.failpoints = false;
  Daemon daemon(options);
  daemon.start();
  cr_assert_eq(put_record(Client(daemon), kShape, 1, 1), WARM_OK);
  unsigned refused = 0;
  for (uint64_t more = 0;; more += uint64_t{1} << 20) {
    cr_assert_lt(more, uint64_t{256} << 20);
    const Process::End end = Process::fork([&] { return with_little_address_space(daemon, more); }).wait();
    if (end == exit_code(42)) break;
    cr_expect(end == exit_code(0), "%lu bytes more: %s", more, text_of(end).c_str());
    ++refused;
  }
  cr_assert_geq(refused, 3);
}

namespace {

void limit_address_space(pid_t pid, uint64_t bytes) {
  const rlimit limit{.rlim_cur = bytes, .rlim_max = RLIM_INFINITY};
  cr_assert_eq(::prlimit(pid, RLIMIT_AS, &limit, nullptr), 0);
}
uint64_t address_space_of(pid_t pid) {
  uint64_t pages = 0;
  std::ifstream("/proc/" + std::to_string(pid) + "/statm") >> pages;
  return pages * 4096;
}

}  // namespace

// Whatever is asked of it is served or refused; what was acknowledged is there, and all is served when there is room again.
Test(scarcity, a_daemon_whose_address_space_runs_out_refuses_what_needs_more_and_takes_it_again,
     .disabled = !kLimitsAddressSpace) {
  Daemon daemon(made_there(uint64_t{1} << 20));
  daemon.start();
  const uint64_t medium = key_of_content(130'000, 250'000);  // into the daemon's own memory, and then into a segment
  uint64_t next = kFirst;
  unsigned refused = 0;
  for (uint64_t more = 0; more <= uint64_t{32} << 20; more += uint64_t{1} << 20) {
    const uint64_t from = next;
    const Client client(daemon, kTimeoutMs);
    cr_assert_eq(put_record(client, kShape, 1, 1), WARM_OK);
    limit_address_space(daemon.pid(), address_space_of(daemon.pid()) + more);
    bool all = true;
    const auto judge = [&](int code, const char* what) {
      cr_assert(code == WARM_OK || code == WARM_E_NOMEM || code == WARM_E_SYSTEM,
                "%lu bytes more: %s: %s: %s; the daemon said:\n%s", more, what, warm_error_name(code), warm_last_error(),
                daemon.log().c_str());
      all &= code == WARM_OK;
      return code == WARM_OK;
    };
    while (next < from + 100 && judge(put_record(client, kShape, next, 1), "a put")) ++next;
    judge(put_record(client, kLarge, medium, 1), "a put by the socket");
    judge(put_record(client, kLarge, large_key(), 1), "a put of a segment");
    warm_client* other = nullptr;
    if (judge(daemon.try_open(&other, kTimeoutMs), "an open")) cr_assert_eq(warm_close(other), WARM_OK);
    judge(warm_checkpoint(client, nullptr), "a checkpoint");
    assert_there(client, from, next);
    limit_address_space(daemon.pid(), RLIM_INFINITY);
    assert_puts_again(client, next);
    cr_assert_eq(put_record(client, kLarge, medium, 2), WARM_OK, "%s", warm_last_error());
    cr_assert_eq(open_elsewhere(daemon), WARM_OK);
    refused += all ? 0 : 1;
  }
  cr_assert_geq(refused, 2);
  cr_assert_leq(refused, 32, "with the most there is room for all");
  cr_assert(daemon.stop() == exit_code(0), "%s", daemon.log().c_str());
}

// Memory whose size a client chooses is asked for in another way than the daemon's own, without which it stops.
Test(scarcity, content_that_the_daemon_has_no_memory_for_is_refused, .disabled = !kLimitsAddressSpace) {
  Daemon daemon(made_there(uint64_t{64} << 20));
  daemon.launch_by({"/usr/bin/env", "MALLOC_ARENA_MAX=1"});  // else its threads have address space in reserve
  daemon.start();
  const Client client(daemon, kTimeoutMs);
  const std::string content(size_t{15} << 20, 'x');  // not so long that it gets a segment of its own
  const std::vector<float> embedding(kShape.dimensions, 1.0F);
  warm_memory memory = WARM_MEMORY_INIT;
  memory.id = "large";
  memory.id_bytes = 5;
  memory.embedding = embedding.data();
  memory.dimensions = kShape.dimensions;
  memory.content = content.data();
  memory.content_bytes = content.size();
  memory.given = WARM_GIVEN_CONTENT;
  limit_address_space(daemon.pid(), address_space_of(daemon.pid()) + (uint64_t{2} << 20));  // for its own small needs
  cr_assert_eq(warm_put(client, &memory, nullptr), WARM_E_NOMEM, "%s; the daemon said:\n%s", warm_last_error(),
               daemon.log().c_str());
  limit_address_space(daemon.pid(), RLIM_INFINITY);
  cr_assert_eq(warm_put(client, &memory, nullptr), WARM_OK, "%s", warm_last_error());
  cr_assert(daemon.stop() == exit_code(0), "%s", daemon.log().c_str());
}

// ---- locked memory
// -------------------------------------------------------------------------------------------------------------

// As a user without the capability: root may lock whatever the limit says.
Test(scarcity, neither_daemon_nor_client_needs_locked_memory) {
  Daemon daemon(made_there());
  daemon.launch_by({"/usr/bin/setpriv", "--bounding-set=-ipc_lock", "/usr/bin/prlimit", "--memlock=0"});
  daemon.start();
  const Process::End end =
      Process::fork([&] {
        const rlimit none{.rlim_cur = 0, .rlim_max = 0};
        if (::setrlimit(RLIMIT_MEMLOCK, &none) != 0) return 1;
        warm_client* client = nullptr;
        if (daemon.try_open(&client, kTimeoutMs) != WARM_OK) return 2;
        for (uint64_t key = 0; key < 200; ++key) {
          if (put_record(client, kShape, key, 1) != WARM_OK || check_record(client, kShape, key) != WARM_OK) return 3;
        }
        if (put_record(client, kLarge, large_key(), 2) != WARM_OK || warm_checkpoint(client, nullptr) != WARM_OK) return 4;
        return warm_close(client) == WARM_OK ? 0 : 5;
      }).wait();
  cr_assert(end == exit_code(0), "%s: %s", text_of(end).c_str(), daemon.log().c_str());
  cr_assert(daemon.stop() == exit_code(0), "%s", daemon.log().c_str());
}

// ---- a memory limit
// -------------------------------------------------------------------------------------------------------------

namespace {

// A group of processes with a limit on their memory, of either version. Empty path: none can be made.
struct Group {
  std::string path;
  std::string limit;
  std::string kills;

  Group() {
    for (const auto& [parent, limit_name, kills_name] :
         {std::array{"/sys/fs/cgroup", "memory.max", "memory.events"},
          std::array{"/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.oom_control"}}) {
      const std::string made = std::string(parent) + "/warmtier-test-" + std::to_string(::getpid());
      if (::mkdir(made.c_str(), 0755) != 0) continue;
      if (::access((made + "/" + limit_name).c_str(), W_OK) == 0) {
        path = made;
        limit = made + "/" + limit_name;
        kills = made + "/" + kills_name;
        return;
      }
      ::rmdir(made.c_str());
    }
  }
  ~Group() {
    const base::Deadline deadline = patience();
    while (!path.empty() && ::rmdir(path.c_str()) != 0 && !deadline.passed()) {
    }
  }
  Group(const Group&) = delete;
  Group& operator=(const Group&) = delete;

  [[nodiscard]] bool set(uint64_t bytes) const {
    std::ofstream file(limit);
    file << bytes << std::flush;
    return file.good();
  }
  [[nodiscard]] std::vector<std::string> launcher() const {
    return {"/bin/sh", "-c", "echo $$ >" + path + "/cgroup.procs && exec \"$@\"", "sh"};
  }
  [[nodiscard]] uint64_t killed() const {
    std::ifstream file(kills);
    for (std::string name; file >> name;) {
      uint64_t count = 0;
      if (name == "oom_kill" && file >> count) return count;
    }
    return 0;
  }
};

}  // namespace

// Pages of the store go to the disk and come back; a store is larger than what its processes may have.
Test(scarcity, a_daemon_and_a_client_within_a_memory_limit_serve_a_store_that_is_larger, .disabled = !kLimitsAddressSpace) {
  constexpr uint64_t kLimit = uint64_t{24} << 20;
  constexpr uint64_t kBytes = uint64_t{32} << 20;
  const Group group;  // goes when the daemon in it has gone
  Daemon daemon(made_there(uint64_t{4} << 20));
  struct statfs there{};
  cr_assert_eq(::statfs(daemon.directory().c_str(), &there), 0);
  if (group.path.empty() || there.f_type == TMPFS_MAGIC) {
    std::printf("skipped: %s\n",
                group.path.empty() ? "no group with a memory limit can be made" : "the store would lie in memory");
    return;
  }
  cr_assert(group.set(kLimit));
  daemon.launch_by(group.launcher());
  daemon.start();
  uint64_t next = kFirst;
  {
    const Client client(daemon, kTimeoutMs);
    while (stats_of(client).content_bytes_live < kBytes) {
      for (int i = 0; i < 100; ++i) cr_assert_eq(put_record(client, kShape, next++, 1), WARM_OK, "%s", warm_last_error());
    }
  }
  const Process::End end = Process::fork([&] {
                             std::ofstream(group.path + "/cgroup.procs") << ::getpid() << std::flush;
                             warm_client* client = nullptr;
                             if (daemon.try_open(&client, kTimeoutMs) != WARM_OK) return 1;
                             for (uint64_t key = kFirst; key < next; ++key) {
                               if (check_record(client, kShape, key) != WARM_OK) return 2;
                             }
                             return warm_close(client) == WARM_OK ? 0 : 3;
                           }).wait();
  cr_assert(end == exit_code(0), "%s", text_of(end).c_str());
  cr_assert_eq(group.killed(), 0);
  // What a kill leaves is all there, within the same limit.
  daemon.kill();
  daemon.start();
  const Client client(daemon, kTimeoutMs);
  assert_there(client, kFirst, next);
  assert_puts_again(client, next);
}
