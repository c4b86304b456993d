// One user against another: what a reader is given it can read and nothing else, whatever it tries through each descriptor; who
// has no right gets nothing; and [access] means what it says, row by row.
#include <criterion/criterion.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>
#include <utility>
#include <vector>

#include "base/mapping.hpp"
#include "layout/describe.hpp"
#include "libclient/handshake.hpp"
#include "tests/support/daemon.hpp"
#include "tests/support/records.hpp"

#ifndef F_SEAL_FUTURE_WRITE
#define F_SEAL_FUTURE_WRITE 0x0010
#endif

using namespace warmtier::tests::support;
namespace base = warmtier::base;
namespace layout = warmtier::layout;
namespace libclient = warmtier::libclient;

namespace {

constexpr Shape kShape{.dimensions = 16, .content_bytes_max = 600};
constexpr uint64_t kKeys = 40;
constexpr uint32_t kTimeoutMs = 20'000;
constexpr uid_t kStranger = 54'321;
constexpr size_t kPage = 4096;

// What a child saw, for its parent to say.
struct Said {
  char text[256] = "";
  unsigned tried = 0;
};

[[gnu::format(printf, 3, 4)]] int tell(Said& said, int code, const char* format, ...) {
  va_list values;
  va_start(values, format);
  std::vsnprintf(said.text, sizeof said.text, format, values);
  va_end(values);
  return code;
}

// ---- what can be tried through a descriptor ---------------------------------------------------------------------------------

int reopened(int fd, int flags) { return ::open(("/proc/self/fd/" + std::to_string(fd)).c_str(), flags | O_CLOEXEC); }
bool closed_after(int fd) {
  if (fd >= 0) ::close(fd);
  return fd >= 0;
}

struct Target {
  int fd = -1;
  off_t bytes = 0;
  void* map = nullptr;  // its first page, read-only and shared
};

struct Attempt {
  const char* name;
  bool (*succeeds)(const Target& target);
};

constexpr char kByte[1] = {'x'};

// Each would change bytes, length, mode, owner or seals of what a reader was given, or get the right to.
constexpr Attempt kAttempts[] = {
    {"write", [](const Target& t) { return ::write(t.fd, kByte, 1) > 0; }},
    {"pwrite", [](const Target& t) { return ::pwrite(t.fd, kByte, 1, 0) > 0; }},
    {"an appending pwritev2",
     [](const Target& t) {
       const iovec part{.iov_base = const_cast<char*>(kByte), .iov_len = 1};
       return ::pwritev2(t.fd, &part, 1, -1, RWF_APPEND) > 0;
     }},
    {"sendfile into it",
     [](const Target& t) {
       const base::Fd from(reopened(t.fd, O_RDONLY));
       return ::sendfile(t.fd, from.get(), nullptr, 1) > 0;
     }},
    {"copy_file_range into it",
     [](const Target& t) {
       const base::Fd from(reopened(t.fd, O_RDONLY));
       return ::copy_file_range(from.get(), nullptr, t.fd, nullptr, 1, 0) > 0;
     }},
    {"splice into it",
     [](const Target& t) {
       int ends[2];
       if (::pipe2(ends, O_CLOEXEC) != 0) return true;
       const base::Fd out(ends[0]);
       const base::Fd in(ends[1]);
       return ::write(in.get(), kByte, 1) != 1 || ::splice(out.get(), nullptr, t.fd, nullptr, 1, SPLICE_F_NONBLOCK) > 0;
     }},
    {"ftruncate to nothing", [](const Target& t) { return ::ftruncate(t.fd, 0) == 0; }},
    {"ftruncate to its length", [](const Target& t) { return ::ftruncate(t.fd, t.bytes) == 0; }},
    {"ftruncate beyond", [](const Target& t) { return ::ftruncate(t.fd, t.bytes + off_t{kPage}) == 0; }},
    {"fallocate", [](const Target& t) { return ::fallocate(t.fd, 0, 0, t.bytes + off_t{kPage}) == 0; }},
    {"a punched hole",
     [](const Target& t) { return ::fallocate(t.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, off_t{kPage}) == 0; }},
    {"a zeroed range", [](const Target& t) { return ::fallocate(t.fd, FALLOC_FL_ZERO_RANGE, 0, off_t{kPage}) == 0; }},
    {"a collapsed range", [](const Target& t) { return ::fallocate(t.fd, FALLOC_FL_COLLAPSE_RANGE, 0, off_t{kPage}) == 0; }},
    {"a writable map",
     [](const Target& t) { return ::mmap(nullptr, kPage, PROT_READ | PROT_WRITE, MAP_SHARED, t.fd, 0) != MAP_FAILED; }},
    {"a map that can only be written",
     [](const Target& t) { return ::mmap(nullptr, kPage, PROT_WRITE, MAP_SHARED, t.fd, 0) != MAP_FAILED; }},
    {"mprotect", [](const Target& t) { return ::mprotect(t.map, kPage, PROT_READ | PROT_WRITE) == 0; }},
    {"MADV_REMOVE", [](const Target& t) { return ::madvise(t.map, kPage, MADV_REMOVE) == 0; }},
    {"process_vm_writev into the map",
     [](const Target& t) {
       const iovec from{.iov_base = const_cast<char*>(kByte), .iov_len = 1};
       const iovec to{.iov_base = t.map, .iov_len = 1};
       return ::process_vm_writev(::getpid(), &from, 1, &to, 1, 0) > 0;
     }},
    // It writes into pages that a debugger may change though they are read-only, but not into shared ones.
    {"/proc/self/mem",
     [](const Target& t) {
       const base::Fd memory(::open("/proc/self/mem", O_RDWR | O_CLOEXEC));
       return !memory || ::pwrite(memory.get(), kByte, 1, static_cast<off_t>(reinterpret_cast<uintptr_t>(t.map))) > 0;
     }},
    {"to open it again for writing", [](const Target& t) { return closed_after(reopened(t.fd, O_WRONLY)); }},
    {"to open it again for both", [](const Target& t) { return closed_after(reopened(t.fd, O_RDWR)); }},
    {"to open it again and truncate", [](const Target& t) { return closed_after(reopened(t.fd, O_RDONLY | O_TRUNC)); }},
    {"F_SETFL to a writable one",
     [](const Target& t) {
       ::fcntl(t.fd, F_SETFL, O_RDWR | O_APPEND);
       return ::pwrite(t.fd, kByte, 1, 0) > 0;
     }},
    {"fchmod", [](const Target& t) { return ::fchmod(t.fd, 0666) == 0; }},
    {"fchown", [](const Target& t) { return ::fchown(t.fd, ::getuid(), ::getgid()) == 0; }},
    {"other times",
     [](const Target& t) {
       const timespec times[2]{};
       return ::futimens(t.fd, times) == 0;
     }},
    {"an extended attribute", [](const Target& t) { return ::fsetxattr(t.fd, "user.stranger", kByte, 1, 0) == 0; }},
    {"inode flags",
     [](const Target& t) {
       int flags = FS_APPEND_FL;
       return ::ioctl(t.fd, FS_IOC_SETFLAGS, &flags) == 0;
     }},
    {"a seal against writing", [](const Target& t) { return ::fcntl(t.fd, F_ADD_SEALS, F_SEAL_WRITE) == 0; }},
    {"a seal", [](const Target& t) { return ::fcntl(t.fd, F_ADD_SEALS, F_SEAL_SEAL) == 0; }},
    // A lease would have the daemon wait whenever it opens the file.
    {"a lease", [](const Target& t) { return ::fcntl(t.fd, F_SETLEASE, F_RDLCK) == 0; }},
    {"a write lock on bytes",
     [](const Target& t) {
       struct flock lock{};
       lock.l_type = F_WRLCK;
       return ::fcntl(t.fd, F_OFD_SETLK, &lock) == 0;
     }},
};

// Those that also hold for lanes and session memory, which their owner may write.
bool of_length_and_ownership(const Attempt& attempt) {
  constexpr const char* kNames[] = {"ftruncate to nothing",
                                    "ftruncate beyond",
                                    "a collapsed range",
                                    "fchmod",
                                    "fchown",
                                    "a lease",
                                    "a seal against writing",
                                    "a seal"};
  return std::ranges::any_of(kNames, [&](const char* name) { return std::strcmp(name, attempt.name) == 0; });
}

// 0: nothing succeeded.
int try_everything(const char* what, int fd, bool writable, Said& said) {
  struct stat before{};
  if (::fstat(fd, &before) != 0) return tell(said, 20, "no stat of %s", what);
  Target target{.fd = fd, .bytes = before.st_size};
  target.map = ::mmap(nullptr, kPage, PROT_READ, MAP_SHARED, fd, 0);
  if (target.map == MAP_FAILED) return tell(said, 21, "%s cannot be mapped for reading", what);
  char first[kPage];
  if (::pread(fd, first, sizeof first, 0) != static_cast<ssize_t>(sizeof first)) return tell(said, 22, "%s cannot be read", what);
  for (const Attempt& attempt : kAttempts) {
    if (writable && !of_length_and_ownership(attempt)) continue;
    ++said.tried;
    if (attempt.succeeds(target)) return tell(said, 23, "%s of %s succeeds", attempt.name, what);
  }
  if (!writable) {
    // A private copy is its owner's own.
    void* copy = ::mmap(nullptr, kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
    if (copy == MAP_FAILED) return tell(said, 24, "%s has no private copy", what);
    std::memset(copy, 'x', kPage);
    char again[kPage];
    if (::pread(fd, again, sizeof again, 0) != static_cast<ssize_t>(sizeof again) || again[kPage - 1] == 'x')
      return tell(said, 25, "a private copy of %s is not private", what);
    ::munmap(copy, kPage);
  }
  struct stat after{};
  if (::fstat(fd, &after) != 0 || after.st_size != before.st_size || after.st_mode != before.st_mode ||
      after.st_uid != before.st_uid) {
    return tell(said, 26, "%s is another file by now", what);
  }
  ::munmap(target.map, kPage);
  return 0;
}

// A handshake by hand, for the descriptors themselves.
int attack_descriptors(const Daemon& daemon, Said& said) {
  if (!become(kStranger, kStranger)) return 1;
  const auto deadline = base::Deadline::after_ns(kPatienceNs);
  auto greeting = libclient::greet(daemon.socket(), std::nullopt, deadline);
  if (!greeting) return tell(said, 2, "no greeting: %s", greeting.error().text.c_str());
  if (greeting->welcome.access != static_cast<uint32_t>(layout::Access::read)) return tell(said, 3, "not a reader");
  if (!libclient::send_accept(greeting->socket.get(), {}, deadline)) return tell(said, 4, "no accept");
  libclient::Message message;
  for (;;) {
    auto received = libclient::receive(greeting->socket.get(), message);
    if (!received || deadline.passed()) return tell(said, 5, "no list of segments");
    if (*received == libclient::Received::message) break;
    libclient::wait_readable(greeting->socket.get(), deadline.left_ns());
  }
  if (message.kind != layout::MessageKind::segments || message.files.empty()) return tell(said, 6, "no segments");
  const std::pair<const char*, int> given[] = {{"the tier", greeting->tier.get()},
                                               {"the index", greeting->index.get()},
                                               {"the feed", greeting->feed.get()},
                                               {"the status page", greeting->status.get()},
                                               {"the results", greeting->results.get()}};
  for (const auto& [what, fd] : given) {
    if (const int code = try_everything(what, fd, false, said); code != 0) return code;
  }
  for (const base::Fd& fd : message.files) {
    if (const int code = try_everything("a segment", fd.get(), false, said); code != 0) return code;
  }
  for (const auto& [what, fd] : {std::pair{"its lanes", greeting->channel.get()}, {"its session", greeting->session.get()}}) {
    if (const int code = try_everything(what, fd, true, said); code != 0) return code;
  }
  return 0;
}

// What lies where everybody could look for it.
int attack_paths(const Daemon& daemon, const std::vector<std::string>& paths, Said& said) {
  if (!become(kStranger, kStranger)) return 1;
  for (const std::string& path : paths) {
    ++said.tried;
    if (closed_after(::open(path.c_str(), O_RDONLY | O_CLOEXEC)) || errno != EACCES) {
      return tell(said, 2, "%s: opened, or %s", path.c_str(), std::strerror(errno));
    }
  }
  const pid_t pid = daemon.pid();
  const std::string proc = "/proc/" + std::to_string(pid);
  for (const char* name : {"/fd", "/mem", "/map_files", "/maps", "/environ"}) {
    ++said.tried;
    if (closed_after(::open((proc + name).c_str(), O_RDONLY | O_CLOEXEC))) return tell(said, 3, "%s can be opened", name);
  }
  const base::Fd pidfd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
  if (!pidfd) return tell(said, 4, "no pidfd of the daemon");
  for (int fd = 0; fd < 64; ++fd) {
    if (closed_after(static_cast<int>(::syscall(SYS_pidfd_getfd, pidfd.get(), fd, 0)))) {
      return tell(said, 5, "descriptor %d of the daemon can be had", fd);
    }
  }
  if (::ptrace(PTRACE_SEIZE, pid, nullptr, nullptr) == 0) return tell(said, 6, "the daemon can be traced");
  if (::kill(pid, SIGTERM) == 0) return tell(said, 7, "the daemon can be ended");
  return 0;
}

// ---- views ----------------------------------------------------------------------------------------------------------------

constexpr uint64_t kSlots = 4096;

struct Pinned {
  Said said;
  Steps ready;    // everything that can be pinned is
  Steps checked;  // the parent has seen what came of it
  uint32_t sessions = 0;
  uint64_t granted = 0;
};

// Every session that it can get, and every pin cell of each: those that count name slots of their own, from `first` on.
int pin_everything(const Daemon& daemon, uid_t user, uint64_t first, Pinned& pinned) {
  if (!become(user, user)) return 1;
  const auto deadline = base::Deadline::after_ns(kPatienceNs);
  std::vector<libclient::Greeting> held;
  std::vector<base::WriteMapping> maps;
  for (;;) {
    auto greeting = libclient::greet(daemon.socket(), std::nullopt, deadline);
    if (!greeting) {
      if (greeting.error().code == WARM_E_LIMIT) break;
      return tell(pinned.said, 2, "no greeting: %s", greeting.error().text.c_str());
    }
    if (!libclient::send_accept(greeting->socket.get(), {}, deadline)) return tell(pinned.said, 3, "no accept");
    libclient::Message list;
    libclient::wait_readable(greeting->socket.get(), deadline.left_ns());
    if (!libclient::receive(greeting->socket.get(), list)) return tell(pinned.said, 4, "no list of segments");
    auto map = base::WriteMapping::map(greeting->session.get(), sizeof(layout::SessionRegion));
    if (!map) return tell(pinned.said, 5, "no session: %s", map.error().text.c_str());
    auto& region = *reinterpret_cast<layout::SessionRegion*>(map->data());
    layout::store_relaxed(region.header.pins_high, layout::kViewsMax);
    for (uint64_t cell = 0; cell < layout::kViewsMax; ++cell)
      layout::exchange(region.pins[cell], static_cast<uint32_t>(1 + (first + pinned.granted + cell) % kSlots));
    ++pinned.sessions;
    pinned.granted += greeting->welcome.views_max;
    maps.push_back(std::move(*map));
    held.push_back(std::move(*greeting));
  }
  pinned.ready.advance();
  return pinned.checked.wait_for(1, base::Deadline::after_ns(2 * kPatienceNs)) ? 0 : tell(pinned.said, 6, "nobody checks");
}

// How many records a store takes whose slots have all been used and are dead.
uint64_t records_that_fit(warm_client* client) {
  if (warm_clear(client, nullptr) != WARM_OK) return 0;
  for (uint64_t key = 0;; ++key) {
    const int code = put_record(client, kShape, key, 1);
    if (code == WARM_E_FULL) return key;
    cr_assert_eq(code, WARM_OK, "key %lu: %s", key, warm_last_error());
  }
}

// As many views as it was granted, over the death of the daemon.
int hold_what_was_granted(const Daemon& daemon, Pinned& pinned) {
  if (!become(kStranger, kStranger)) return 1;
  warm_client* client = nullptr;
  if (daemon.try_open(&client, kTimeoutMs) != WARM_OK) return tell(pinned.said, 2, "%s", warm_last_error());
  warm_info before = WARM_INFO_INIT;
  if (warm_info_get(client, &before) != WARM_OK) return tell(pinned.said, 3, "%s", warm_last_error());
  const std::string id = record_id(0);
  std::vector<warm_view> views(before.views_max, warm_view WARM_VIEW_INIT);
  for (warm_view& view : views) {
    if (warm_get(client, id.data(), id.size(), 0, &view) != WARM_OK) return tell(pinned.said, 4, "%s", warm_last_error());
  }
  pinned.granted = before.views_max;
  pinned.ready.advance();
  if (!pinned.checked.wait_for(1, base::Deadline::after_ns(2 * kPatienceNs))) return tell(pinned.said, 5, "nobody checks");
  warm_info after = WARM_INFO_INIT;
  warm_stats stats = WARM_STATS_INIT;  // of the daemon that is there
  if (warm_stats_get(client, &stats) != WARM_OK || warm_info_get(client, &after) != WARM_OK)
    return tell(pinned.said, 6, "%s", warm_last_error());
  if (after.session != before.session || after.views_max != before.views_max || after.daemon_pid == before.daemon_pid)
    return tell(pinned.said, 7, "session %lu of %u views", after.session, after.views_max);
  warm_view one_more = WARM_VIEW_INIT;
  if (warm_get(client, id.data(), id.size(), 0, &one_more) != WARM_E_LIMIT) return tell(pinned.said, 8, "more than it may");
  pinned.ready.advance();
  if (!pinned.checked.wait_for(2, base::Deadline::after_ns(2 * kPatienceNs))) return tell(pinned.said, 9, "nobody checks");
  for (warm_view& view : views) {
    if (warm_release(client, &view) != WARM_OK) return tell(pinned.said, 10, "%s", warm_last_error());
  }
  return warm_close(client) == WARM_OK ? 0 : tell(pinned.said, 11, "%s", warm_last_error());
}

// ---- [access] ------------------------------------------------------------------------------------------------------------

// What somebody may do, found out by doing it. Above 3: something that no level explains.
int level_of(warm_client* client, uint64_t own_key) {
  const auto allowed = [](int code, bool& ret_allowed) {
    ret_allowed = code == WARM_OK;
    return code == WARM_OK || code == WARM_E_ACCESS;
  };
  if (check_record(client, kShape, 0) != WARM_OK) return 10;
  const std::string id = record_id(own_key);
  bool puts = false;
  bool updates = false;
  bool large = false;
  bool removes = false;
  bool checkpoints = false;
  bool clears = false;
  if (!allowed(put_record(client, kShape, own_key, 1), puts)) return 11;
  // Larger than a lane: it goes by the socket.
  const Shape big{.dimensions = 16, .content_bytes_max = 600'000};
  if (!allowed(put_record(client, big, own_key + 1, 1), large)) return 12;
  warm_update update = WARM_UPDATE_INIT;
  const std::string there = record_id(0);
  update.id = there.data();
  update.id_bytes = there.size();
  update.set = WARM_SET_LAST_ACCESS;
  update.last_access_ns = 1;
  if (!allowed(warm_update_scalars(client, &update, nullptr), updates)) return 13;
  const std::string& victim = puts ? id : there;
  if (!allowed(warm_remove(client, victim.data(), victim.size(), WARM_IF_ANY, 0, 0, nullptr), removes)) return 14;
  if (!allowed(warm_checkpoint(client, nullptr), checkpoints)) return 15;
  if (warm_exists(client, there.data(), there.size()) != WARM_OK) return 16;
  if (!allowed(warm_clear(client, nullptr), clears)) return 17;
  if (puts != large || puts != updates || puts != removes || checkpoints != clears || (clears && !puts)) return 18;
  return clears ? 3 : puts ? 2 : 1;
}

int level_as(const Daemon& daemon, uid_t uid, gid_t gid, const std::vector<gid_t>& groups) {
  if (!become(uid, gid, groups)) return 100;
  warm_client* client = nullptr;
  const int opened = daemon.try_open(&client, kTimeoutMs);
  if (opened == WARM_E_ACCESS) return 0;
  if (opened != WARM_OK) return 101;
  const int level = level_of(client, 1'000);
  return warm_close(client) == WARM_OK ? level : 102;
}

struct Row {
  uid_t uid;
  gid_t gid;
  std::vector<gid_t> groups;
  int level;  // 0 none, 1 read, 2 write, 3 admin
};

// The daemon starts with these settings, and each row is found to be as it says.
void assert_rows(Daemon& daemon, const std::string& settings, const std::vector<Row>& rows) {
  std::ofstream(daemon.configuration_path()) << settings;
  daemon.start();
  for (const Row& row : rows) {
    {
      const Client root(daemon, kTimeoutMs);
      cr_assert_eq(put_record(root, kShape, 0, 1), WARM_OK, "%s", warm_last_error());
    }
    const Process::End end = Process::fork([&] { return level_as(daemon, row.uid, row.gid, row.groups); }).wait();
    cr_expect(end == exit_code(row.level), "%s: user %u of group %u and %zu more: %s instead of %d", settings.c_str(), row.uid,
              row.gid, row.groups.size(), text_of(end).c_str(), row.level);
  }
  cr_assert(daemon.stop() == exit_code(0));
}

// What comes back from a hello that is said to whoever may connect: code of the refusal, and how many descriptors.
int say_hello(const std::string& path, Said& said) {
  const base::Fd socket(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  if (::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
    return tell(said, 2, "connect: %s", std::strerror(errno));
  layout::Hello hello{};
  hello.header = {.kind = static_cast<uint32_t>(layout::MessageKind::hello), .bytes = sizeof hello};
  hello.protocol_version = layout::kProtocolVersion;
  const auto fingerprints = layout::fingerprints();
  std::copy(fingerprints.begin(), fingerprints.end(), hello.fingerprints);
  if (::send(socket.get(), &hello, sizeof hello, MSG_NOSIGNAL) != static_cast<ssize_t>(sizeof hello))
    return tell(said, 3, "send: %s", std::strerror(errno));
  bool refused = false;
  for (;;) {
    alignas(8) std::byte bytes[4096];
    alignas(cmsghdr) char control[4096];
    iovec part{.iov_base = bytes, .iov_len = sizeof bytes};
    msghdr packet{};
    packet.msg_iov = &part;
    packet.msg_iovlen = 1;
    packet.msg_control = control;
    packet.msg_controllen = sizeof control;
    const ssize_t got = ::recvmsg(socket.get(), &packet, 0);
    if (got <= 0) break;
    if (packet.msg_controllen != 0) return tell(said, 4, "a descriptor arrives");
    layout::Refuse refuse{};
    std::memcpy(&refuse, bytes, std::min<size_t>(sizeof refuse, static_cast<size_t>(got)));
    if (refuse.header.kind != static_cast<uint32_t>(layout::MessageKind::refuse) || refuse.code != WARM_E_ACCESS)
      return tell(said, 5, "a message of kind %u", refuse.header.kind);
    refuse.text[sizeof refuse.text - 1] = '\0';
    std::snprintf(said.text, sizeof said.text, "%s", refuse.text);
    refused = true;
  }
  return refused ? 0 : tell(said, 6, "no refusal");
}

StoreOptions for_strangers() {
  StoreOptions options;
  options.failpoints = false;  // their file is not the stranger's
  options.segment_bytes = uint64_t{1} << 20;
  return options;
}

}  // namespace

TestSuite(isolation, .timeout = 120, .disabled = ::geteuid() != 0);

Test(isolation, a_reader_can_read_and_nothing_else_through_each_descriptor_that_it_got) {
  Daemon daemon(for_strangers());
  cr_assert_eq(::chmod(daemon.directory().c_str(), 0755), 0);
  std::ofstream(daemon.configuration_path()) << "[access.users]\n" << kStranger << " = \"read\"\n";
  daemon.start();
  const Client client(daemon, kTimeoutMs);
  for (uint64_t key = 0; key < kKeys; ++key) cr_assert_eq(put_record(client, kShape, key, 1), WARM_OK);
  Shared<Said> said;
  const Process::End end = Process::fork([&] { return attack_descriptors(daemon, *said); }).wait();
  cr_assert(end == exit_code(0), "%s: %s", text_of(end).c_str(), said->text);
  cr_assert_geq(said->tried, 6 * std::size(kAttempts));
  for (uint64_t key = 0; key < kKeys; ++key) cr_assert_eq(check_record(client, kShape, key), WARM_OK);
  cr_assert_eq(put_record(client, kShape, 0, 2), WARM_OK);
  cr_assert(daemon.stop() == exit_code(0));
  daemon.start();
  for (uint64_t key = 0; key < kKeys; ++key) cr_assert_eq(check_record(client, kShape, key), WARM_OK);
}

// With all sessions that they can get, whatever they store into them.
Test(isolation, who_pins_everything_leaves_half_of_the_slots_and_two_who_do_a_quarter) {
  StoreOptions options = for_strangers();
  options.capacity = kSlots;
  options.checkpoint_interval_ms = 100;
  Daemon daemon(options);
  cr_assert_eq(::chmod(daemon.directory().c_str(), 0755), 0);
  std::ofstream(daemon.configuration_path()) << "[access]\nothers = \"read\"\n";
  daemon.start();
  const Client client(daemon, kTimeoutMs);
  for (uint64_t key = 0; key < kSlots; ++key) cr_assert_eq(put_record(client, kShape, key, 1), WARM_OK);
  Shared<Pinned> one;
  Process first = Process::fork([&] { return pin_everything(daemon, kStranger, 0, *one); });
  one->ready.await(1, "the first user pins");
  cr_assert(one->sessions == 32 && one->granted == kSlots / 2, "%u sessions, %lu views", one->sessions, one->granted);
  cr_assert_eq(records_that_fit(client), kSlots / 2);
  cr_assert_eq(stats_of(client).slots_held, kSlots / 2);
  Shared<Pinned> other;
  Process second = Process::fork([&] { return pin_everything(daemon, kStranger + 1, kSlots / 2, *other); });
  other->ready.await(1, "the second user pins");
  cr_assert(other->sessions == 16 && other->granted == kSlots / 4, "%u sessions, %lu views", other->sessions, other->granted);
  cr_assert_eq(records_that_fit(client), kSlots / 4);
  // A third one may come, and the daemon's own user too.
  cr_assert(Process::fork([&] {
              warm_client* third = nullptr;
              return become(kStranger + 2, kStranger + 2) && daemon.try_open(&third, kTimeoutMs) == WARM_OK ? 0 : 1;
            }).wait() == exit_code(0));
  const Client of_the_daemons_user(daemon, kTimeoutMs);
  // All slots are used again when they are gone.
  for (Process* process : {&first, &second}) process->kill();
  await_stats(client, "both users' pins are void", [](const warm_stats& stats) { return stats.sessions == 2; });
  cr_assert_eq(records_that_fit(client), kSlots);
}

Test(isolation, what_another_user_was_granted_stays_granted_when_the_daemon_is_killed) {
  StoreOptions options = for_strangers();
  options.capacity = kSlots;
  Daemon daemon(options);
  cr_assert_eq(::chmod(daemon.directory().c_str(), 0755), 0);
  std::ofstream(daemon.configuration_path()) << "[access]\nothers = \"read\"\n";
  daemon.start();
  const Client client(daemon, kTimeoutMs);
  cr_assert_eq(put_record(client, kShape, 0, 1), WARM_OK);
  Shared<Pinned> held;
  Process holder = Process::fork([&] { return hold_what_was_granted(daemon, *held); });
  held->ready.await(1, "views are held");
  cr_assert_eq(held->granted, 64);
  daemon.restart();
  held->checked.advance();
  held->ready.await(2, "they are held over the death of the daemon");
  std::vector<warm_session> sessions(8);
  size_t count = 0;
  cr_assert_eq(warm_sessions(client, sizeof(warm_session), sessions.data(), sessions.size(), &count), WARM_OK);
  const auto session = std::ranges::find(sessions, kStranger, &warm_session::uid);
  cr_assert(session != sessions.end() && session->views == 64 && session->views_max == 64);
  const auto own = std::ranges::find(sessions, ::getuid(), &warm_session::uid);
  cr_assert_eq(own->views_max, WARM_VIEWS_MAX);
  held->checked.advance();
  const Process::End end = holder.wait();
  cr_assert(end == exit_code(0), "%s: %s", text_of(end).c_str(), held->said.text);
}

Test(isolation, nothing_of_the_store_or_the_daemon_is_open_to_another_user_by_its_name) {
  Daemon daemon(for_strangers());
  cr_assert_eq(::chmod(daemon.directory().c_str(), 0755), 0);
  std::ofstream(daemon.configuration_path()) << "[access]\nothers = \"read\"\n";
  daemon.start();
  const Client client(daemon, kTimeoutMs);
  cr_assert_eq(put_record(client, kShape, 0, 1), WARM_OK);
  std::vector<std::string> paths{daemon.store()};
  for (const auto& entry : std::filesystem::recursive_directory_iterator(daemon.store())) paths.push_back(entry.path());
  cr_assert_geq(paths.size(), 7, "the store, its two folders, tier, lock, a segment and results");
  Shared<Said> said;
  for (const bool folders_open : {false, true}) {
    // Also where somebody has opened the folders: each file is closed by itself.
    if (folders_open) {
      std::erase_if(paths, [](const std::string& path) { return std::filesystem::is_directory(path); });
      for (const char* folder : {"", "/content", "/channels"}) {
        cr_assert_eq(::chmod((daemon.store() + folder).c_str(), 0755), 0);
      }
    }
    const Process::End end = Process::fork([&] { return attack_paths(daemon, paths, *said); }).wait();
    cr_assert(end == exit_code(0), "%s: %s", text_of(end).c_str(), said->text);
  }
  cr_assert_eq(check_record(client, kShape, 0), WARM_OK);
}

Test(isolation, who_has_no_right_is_refused_by_name_and_gets_no_descriptor) {
  Daemon daemon(for_strangers());
  cr_assert_eq(::chmod(daemon.directory().c_str(), 0755), 0);
  Shared<Said> said;
  const auto hello = [&] {
    return Process::fork([&] { return become(kStranger, kStranger) ? say_hello(daemon.socket(), *said) : 1; }).wait();
  };
  // Others may connect, so it is the daemon that refuses.
  std::ofstream(daemon.configuration_path()) << "[access.users]\n" << kStranger + 1 << " = \"read\"\n";
  daemon.start();
  Process::End end = hello();
  cr_assert(end == exit_code(0), "%s: %s", text_of(end).c_str(), said->text);
  const std::string text = said->text;
  cr_assert_neq(text.find("user " + std::to_string(kStranger) + " has no access"), std::string::npos, "%s", text.c_str());
  cr_assert_eq(stats_of(Client(daemon, kTimeoutMs)).sessions, 1, "the refused one left nothing behind");
  cr_assert(daemon.stop() == exit_code(0));
  // Nobody may: the kernel does not let him connect.
  std::ofstream(daemon.configuration_path()) << "";
  daemon.start();
  end = hello();
  cr_assert(end == exit_code(2), "%s: %s", text_of(end).c_str(), said->text);
  cr_assert_str_eq(said->text, "connect: Permission denied");
}

// clang-format off
Test(isolation, each_row_of_access_grants_what_it_says) {
  Daemon daemon(for_strangers());
  cr_assert_eq(::chmod(daemon.directory().c_str(), 0755), 0);
  assert_rows(daemon, "", {{0, 0, {}, 3}, {kStranger, kStranger, {}, 0}, {65'534, 65'534, {}, 0}});
  assert_rows(daemon, "[access]\nothers = \"none\"\n"
              "[access.users]\n60001 = \"none\"\n60002 = \"read\"\n60003 = \"write\"\n60004 = \"admin\"\n"
              "[access.groups]\n61001 = \"none\"\n61002 = \"read\"\n61003 = \"write\"\n61004 = \"admin\"\n",
              {{60'001, 60'000, {}, 0}, {60'002, 60'000, {}, 1}, {60'003, 60'000, {}, 2}, {60'004, 60'000, {}, 3},
               {kStranger, 61'001, {}, 0}, {kStranger, 61'002, {}, 1}, {kStranger, 61'003, {}, 2}, {kStranger, 61'004, {}, 3},
               // By a group that is not the first one; the most that any grants; a user's own entry holds alone.
               {kStranger, 60'000, {61'003}, 2}, {kStranger, 61'002, {61'001, 61'004}, 3}, {60'002, 61'004, {61'003}, 1},
               {60'001, 61'004, {}, 0}, {kStranger, kStranger, {}, 0}, {0, 0, {}, 3}});
  assert_rows(daemon, "[access]\nothers = \"read\"\n[access.users]\n60001 = \"none\"\n[access.groups]\n61003 = \"write\"\n",
              {{kStranger, kStranger, {}, 1}, {60'001, 60'000, {}, 0}, {kStranger, 61'003, {}, 2}});
  assert_rows(daemon, "[access]\nothers = \"write\"\n", {{kStranger, kStranger, {}, 2}});
  assert_rows(daemon, "[access]\nothers = \"admin\"\n", {{kStranger, kStranger, {}, 3}, {0, 0, {}, 3}});
}
// clang-format on

// Root is a user like any other where it is not the daemon's own.
Test(isolation, a_daemon_of_another_user_serves_that_user_and_not_root) {
  StoreOptions options = for_strangers();
  options.made_by_daemon = true;
  Daemon daemon(options);
  cr_assert_eq(::chown(daemon.directory().c_str(), kStranger, kStranger), 0);
  // A copy, because the way to the program may be closed to others.
  std::vector<std::string> arguments = daemon.arguments();
  std::filesystem::copy_file(arguments[0], daemon.directory() + "/warmtierd");
  arguments[0] = daemon.directory() + "/warmtierd";
  const std::string user = std::to_string(kStranger);
  arguments.insert(arguments.begin(),
                   {"/usr/bin/setpriv", "--reuid=" + user, "--regid=" + user, "--clear-groups", "--pdeathsig=KILL"});
  Process process = Process::execute(arguments, {}, daemon.directory() + "/log");
  const Process::End its_own = Process::fork([&] {
                                 if (!become(kStranger, kStranger)) return 100;
                                 warm_client* client = nullptr;
                                 const base::Deadline deadline = base::Deadline::after_ns(kPatienceNs);
                                 int opened = WARM_E_UNAVAILABLE;
                                 while (opened == WARM_E_UNAVAILABLE && !deadline.passed())
                                   opened = daemon.try_open(&client, kTimeoutMs);
                                 if (opened != WARM_OK || put_record(client, kShape, 0, 1) != WARM_OK) return 101;
                                 return level_of(client, 1'000);
                               }).wait();
  cr_assert(its_own == exit_code(3), "%s: %s", text_of(its_own).c_str(), daemon.log().c_str());
  warm_client* client = nullptr;
  cr_assert_eq(daemon.try_open(&client, kTimeoutMs), WARM_E_ACCESS);
  cr_assert_not_null(std::strstr(warm_last_error(), "user 0 has no access"), "%s", warm_last_error());
  process.signal(SIGTERM);
  cr_assert(process.wait() == exit_code(0), "%s", daemon.log().c_str());
}
