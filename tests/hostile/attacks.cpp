// What hostile processes do. Each is an endless loop over one kind of malice; whatever fails in it is not minded.
#include <fcntl.h>
#include <linux/io_uring.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <optional>
#include <thread>
#include <utility>

#include "layout/words.hpp"
#include "tests/hostile/live.hpp"
#include "tests/hostile/raw.hpp"
#include "tests/hostile/silent_file.hpp"
#include "tests/support/lingering.hpp"
#include "tests/support/trouble.hpp"

namespace warmtier::tests::hostile {
namespace {

using namespace warmtier::tests::support;

constexpr size_t kPeersKept = 512;
constexpr int kCannotBegin = 3;
constexpr uint64_t kStoresPerRound = 4096;

bool stopped(const Ground& ground) { return ground.stop_hostile.load(std::memory_order_relaxed); }
// The one that an attack begins with. Its user may have attached more often than he may, in the attack before.
std::optional<RawSession> attach_at_last(const Daemon& daemon, const Ground& ground) {
  auto session = attach_raw(daemon.socket());
  for (const auto deadline = base::Deadline::after_ns(kPatienceNs); !session && !deadline.passed() && !stopped(ground);) {
    ::usleep(10'000);
    session = attach_raw(daemon.socket());
  }
  return session;
}
void ring(int socket) { (void)::send(socket, &layout::kDoorbellByte, 1, MSG_DONTWAIT | MSG_NOSIGNAL); }

// ---- every byte that may be written -------------------------------------------------------------------------------------------

int scribble(const Daemon& daemon, Ground& ground, Chance& chance) {
  if (!become(kHostileUser)) return kCannotBegin;
  const auto session = attach_at_last(daemon, ground);
  if (!session) return kCannotBegin;
  const uint32_t lanes = session->welcome.lanes;
  const std::array<std::pair<std::byte*, size_t>, 6> parts = {{
      {session->lanes.data(), layout::channel_bytes(lanes)},
      {session->lanes.data() + layout::channel_commits_offset(), lanes * sizeof(layout::CommitLine)},
      {session->lanes.data() + layout::channel_locks_offset(lanes), lanes * sizeof(layout::LaneLock)},
      {session->lanes.data() + layout::channel_entries_offset(lanes), lanes * layout::kLaneEntries * layout::kLaneEntryBytes},
      {session->region.data(), sizeof(layout::SessionRegion)},
      {session->region.data(), offsetof(layout::SessionRegion, pins)},
  }};
  auto results = base::ReadMapping::map(session->descriptors[4].get(), layout::results_bytes(lanes));
  if (!results) return kCannotBegin;
  const auto* done = reinterpret_cast<const layout::DoneLine*>(results->data() + sizeof(layout::ResultsHeader));
  while (!stopped(ground)) {
    for (uint64_t i = 0; i < kStoresPerRound; ++i) {
      const auto& [from, bytes] = parts[chance.below(parts.size())];
      const uint64_t value = chance.below(4) == 0 ? ~uint64_t{0} << chance.below(64) : chance.next() >> chance.below(64);
      layout::store_bytes(from + chance.below(bytes / 8) * 8, &value, sizeof value);
      // So that it is looked at: the next number of a lane, over whatever stands in its entry, and with a session that is there.
      if (i % 16 != 0) continue;
      const auto lane = static_cast<uint32_t>(chance.below(lanes));
      const uint64_t number = layout::load_acquire(done[lane].done) + 1;
      std::byte* const entry = session->lanes.data() + layout::channel_entry_offset(lanes, lane, number);
      layout::store_bytes(entry, &session->welcome.session, sizeof session->welcome.session);
      layout::store_bytes(entry + offsetof(layout::RequestHeader, session_index), &session->welcome.session_index, 4);
      auto* const commits = reinterpret_cast<layout::CommitLine*>(parts[1].first);
      layout::store_release(commits[lane].seq[number % layout::kLaneEntries], number);
    }
    ring(session->socket.get());
    ground.hostile_rounds.advance();
  }
  return 0;
}

// ---- the control socket -------------------------------------------------------------------------------------------------------

std::vector<std::byte> noise(Chance& chance, size_t bytes) {
  std::vector<std::byte> made(bytes);
  for (std::byte& byte : made) byte = std::byte(chance.next());
  return made;
}

// A message of some kind, right but for some bits.
std::vector<std::byte> nearly_right(Chance& chance, const RawSession& session) {
  std::vector<std::byte> bytes(sizeof(layout::PutMessage) + 16 * sizeof(float) + 8);
  const auto as = [&](const auto& message) {
    bytes.resize(sizeof message);
    std::memcpy(bytes.data(), &message, sizeof message);
  };
  switch (chance.below(6)) {
    case 0: {
      layout::PutMessage put{};
      put.number = chance.below(4);
      put.request = {};
      put.request.session = session.welcome.session;
      put.request.session_index = session.welcome.session_index;
      put.request.ticket = layout::kWrapStart + chance.below(64);
      put.request.operation = static_cast<uint16_t>(layout::Operation::put);
      put.request.dimensions = 16;
      put.request.id_bytes = 8;
      put.request.given = WARM_GIVEN_CONTENT;
      put.request.content_bytes = uint64_t{1} << chance.below(40);
      std::memcpy(bytes.data(), &put, sizeof put);
      break;
    }
    case 1: as(layout::Accept{}); break;
    case 2: as(layout::Watch{}); break;
    case 3: as(layout::SessionsWanted{}); break;
    case 4: as(layout::SegmentsWanted{}); break;
    default: as(hello()); break;
  }
  static constexpr layout::MessageKind kKinds[] = {layout::MessageKind::put,
                                                   layout::MessageKind::accept,
                                                   layout::MessageKind::watch,
                                                   layout::MessageKind::sessions_wanted,
                                                   layout::MessageKind::segments_wanted,
                                                   layout::MessageKind::hello};
  layout::MessageHeader header{.kind = static_cast<uint32_t>(kKinds[chance.below(std::size(kKinds))]),
                               .bytes = static_cast<uint32_t>(bytes.size())};
  std::memcpy(bytes.data(), &header, sizeof header);
  for (uint64_t i = chance.below(3); i > 0; --i) bytes[chance.below(bytes.size())] ^= std::byte(1U << chance.below(8));
  if (chance.below(4) == 0) bytes.resize(chance.below(bytes.size() + 1));
  if (chance.below(8) == 0) bytes.resize(layout::kMessageBytesMax + chance.below(60'000));
  return bytes;
}

int say_nonsense(const Daemon& daemon, Ground& ground, Chance& chance) {
  if (!become(kHostileUser)) return kCannotBegin;
  while (!stopped(ground)) {
    // Before a greeting, and after it.
    const base::Fd stranger = dial(daemon.socket());
    if (stranger) (void)send_raw(stranger.get(), noise(chance, 1 + chance.below(4096)));
    if (const auto session = attach_raw(daemon.socket())) {
      const uint64_t messages = chance.below(64);
      for (uint64_t i = 0; i < messages && !stopped(ground); ++i) {
        if (!send_raw(session->socket.get(),
                      chance.below(4) == 0 ? noise(chance, chance.below(8192)) : nearly_right(chance, *session)))
          break;
      }
    }
    ground.hostile_rounds.advance();
  }
  return 0;
}

// Questions and bells, and no answer is ever read.
int ask_without_end(const Daemon& daemon, Ground& ground, Chance& chance) {
  if (!become(kHostileUser)) return kCannotBegin;
  while (!stopped(ground)) {
    const auto session = attach_raw(daemon.socket());
    if (!session) continue;
    for (uint64_t i = 0; i < 20'000 && !stopped(ground); ++i) {
      layout::SegmentsWanted segments{
          {.kind = static_cast<uint32_t>(layout::MessageKind::segments_wanted), .bytes = sizeof segments}};
      layout::SessionsWanted sessions{};
      sessions.header = {.kind = static_cast<uint32_t>(layout::MessageKind::sessions_wanted), .bytes = sizeof sessions};
      sessions.question = i;
      layout::Watch watch{};
      watch.header = {.kind = static_cast<uint32_t>(layout::MessageKind::watch), .bytes = sizeof watch};
      watch.sequence_after = i;
      watch.durable_after = layout::kWatchNothing;
      watch.checkpoint = 1;
      switch (chance.below(4)) {
        case 0: (void)send_message(session->socket.get(), segments); break;
        case 1: (void)send_message(session->socket.get(), sessions); break;
        case 2: (void)send_message(session->socket.get(), watch); break;
        default: ring(session->socket.get()); break;
      }
    }
    ground.hostile_rounds.advance();
  }
  return 0;
}

int flood_connections(const Daemon& daemon, Ground& ground, Chance&) {
  if (!become(kHostileUser)) return kCannotBegin;
  std::vector<base::Fd> held;
  while (!stopped(ground)) {
    for (int i = 0; i < 512 && !stopped(ground); ++i) {
      if (base::Fd one = dial(daemon.socket())) held.push_back(std::move(one));
    }
    held.clear();
    ground.hostile_rounds.advance();
  }
  return 0;
}

// ---- descriptors --------------------------------------------------------------------------------------------------------------

base::Fd memfd_of(uint64_t bytes, int seals, unsigned flags = 0) {
  base::Fd fd(::memfd_create("hostile", MFD_CLOEXEC | MFD_ALLOW_SEALING | flags));
  if (fd && ::ftruncate(fd.get(), static_cast<off_t>(bytes)) != 0) return {};
  if (fd && seals != 0) (void)::fcntl(fd.get(), F_ADD_SEALS, seals);
  return fd;
}
constexpr int kSealed = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE;
constexpr uint64_t kContentBytes = 200'000;

struct Sendable {
  std::vector<base::Fd> fds;
  base::Fd peer;  // of a lingering connection: kept by us
  bool silent = false;
};
constexpr uint64_t kKinds = 17;
Sendable descriptor(uint64_t kind, const SilentFile* silent) {
  Sendable made;
  const auto one = [&](base::Fd fd) { made.fds.push_back(std::move(fd)); };
  switch (kind) {
    case 0: one(memfd_of(kContentBytes, kSealed)); break;
    case 1: one(memfd_of(kContentBytes, 0)); break;
    case 2: one(memfd_of(uint64_t{1} << 60, kSealed)); break;
    case 3: one(memfd_of(kContentBytes - 1, kSealed)); break;
    case 4: one(memfd_of(uint64_t{2} << 20, kSealed, MFD_HUGETLB)); break;
    case 5: one(memfd_of(kContentBytes, kSealed & ~F_SEAL_SHRINK)); break;
    case 6: one(base::Fd(::eventfd(0, EFD_CLOEXEC))); break;
    case 7: {
      int ends[2];
      if (::pipe2(ends, O_CLOEXEC) == 0) {
        one(base::Fd(ends[0]));
        one(base::Fd(ends[1]));
      }
      break;
    }
    case 8: one(base::Fd(::open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC))); break;
    case 9: one(base::Fd(static_cast<int>(::syscall(SYS_pidfd_open, ::getpid(), 0)))); break;
    case 10: {
      io_uring_params parameters{};
      one(base::Fd(static_cast<int>(::syscall(SYS_io_uring_setup, 8, &parameters))));
      break;
    }
    case 11: {
      int ends[2];
      if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0) {
        one(base::Fd(ends[0]));
        one(base::Fd(ends[1]));
      }
      break;
    }
    case 12: {
      Lingering connection = lingering();
      one(std::move(connection.end));
      made.peer = std::move(connection.peer);
      break;
    }
    case 13: {
      const base::Fd written = memfd_of(kContentBytes, 0);
      one(base::Fd(::open(("/proc/self/fd/" + std::to_string(written.get())).c_str(), O_RDONLY | O_CLOEXEC)));
      break;
    }
    case 15:
      if (silent != nullptr) one(silent->copy());
      made.silent = true;
      break;
    case 14:
      for (int i = 0; i < 200; ++i) one(memfd_of(4096, 0));
      break;
    default: one(base::Fd(::open("/proc/self/fd", O_PATH | O_CLOEXEC))); break;
  }
  std::erase_if(made.fds, [](const base::Fd& fd) { return !fd; });
  return made;
}

layout::PutMessage put_message(const RawSession& session, uint64_t number, uint64_t content_bytes) {
  layout::PutMessage put{};
  put.header = {.kind = static_cast<uint32_t>(layout::MessageKind::put),
                .bytes = static_cast<uint32_t>(sizeof put + session.welcome.dimensions * sizeof(float) + 7)};
  put.number = number;
  put.request.session = session.welcome.session;
  put.request.session_index = session.welcome.session_index;
  put.request.ticket = layout::kWrapStart + number - 1;
  put.request.operation = static_cast<uint16_t>(layout::Operation::put);
  put.request.given = WARM_GIVEN_CONTENT;
  put.request.dimensions = session.welcome.dimensions;
  put.request.id_bytes = 7;
  put.request.content_bytes = content_bytes;
  return put;
}
void send_put(const RawSession& session, uint64_t number, const std::vector<int>& with) {
  const layout::PutMessage put = put_message(session, number, kContentBytes);
  std::vector<std::byte> bytes(put.header.bytes);
  std::memcpy(bytes.data(), &put, sizeof put);
  std::memcpy(bytes.data() + bytes.size() - 7, "hostile", 7);
  (void)send_raw(session.socket.get(), bytes, with);
}

// In a greeting, in a put, where none is wanted, and left behind in a socket that closes.
void hand_over(const Daemon& daemon, Chance& chance, Sendable& what) {
  std::vector<int> numbers;
  for (const base::Fd& fd : what.fds) numbers.push_back(fd.get());
  if (numbers.empty()) return;
  std::vector<int> two = numbers;
  two.resize(2, numbers.front());
  layout::Hello with_two = hello();
  with_two.resume_session = 1 + chance.below(8);
  const base::Fd greeting = dial(daemon.socket());
  if (greeting) (void)send_message(greeting.get(), with_two, chance.below(2) == 0 ? two : numbers);
  const auto session = attach_raw(daemon.socket());
  if (session) {
    switch (chance.below(4)) {
      case 0: send_put(*session, 1, {numbers.front()}); break;
      case 1: send_put(*session, 1, numbers); break;
      case 2: (void)send_raw(session->socket.get(), std::as_bytes(std::span(&layout::kDoorbellByte, 1)), numbers); break;
      default:
        for (int i = 0; i < 8; ++i) send_put(*session, 1, {numbers.front()});
        break;
    }
  }
  // Nor would it answer us.
  if (what.silent) {
    for (base::Fd& fd : what.fds) (void)fd.release();
    return;
  }
  // What was right when it was sent is not any more; and these were the last copies of ours.
  for (const base::Fd& fd : what.fds) (void)::ftruncate(fd.get(), 0);
  // The daemon may have closed its own already: then a connection lingers here.
  if (what.peer) {
    std::thread([fds = std::move(what.fds)]() mutable { fds.clear(); }).detach();
  } else {
    what.fds.clear();
  }
  if (!session) return;
  layout::Watch watch{};
  watch.header = {.kind = static_cast<uint32_t>(layout::MessageKind::watch), .bytes = sizeof watch};
  watch.sequence_after = watch.durable_after = layout::kWatchNothing;
  (void)send_message(session->socket.get(), watch);
}

int hand_over_descriptors(const Daemon& daemon, Ground& ground, Chance& chance) {
  std::optional<SilentFile> silent;
  if (::geteuid() == 0 && ::access("/dev/fuse", R_OK | W_OK) == 0) {
    silent.emplace(daemon.directory() + "/silent");
    if (!silent->there()) return kCannotBegin;
  } else {
    std::fprintf(stderr, "without a file that answers nobody: no /dev/fuse, or not for this user\n");
  }
  if (!become(kHostileUser)) return kCannotBegin;
  std::vector<base::Fd> peers;
  for (uint64_t round = 0; !stopped(ground); ++round) {
    Sendable what = descriptor(round % kKinds, silent ? &*silent : nullptr);
    hand_over(daemon, chance, what);
    if (what.peer) peers.push_back(std::move(what.peer));
    if (round % kKinds == kKinds - 1) ground.hostile_rounds.advance();
    if (peers.size() == kPeersKept) peers.erase(peers.begin());
  }
  silent.reset();
  ::_exit(0);  // some of our own closes may still wait
}

// ---- holding and lying --------------------------------------------------------------------------------------------------------

// Sessions up to the share, every lane locked and never let go, every view cell full; nothing is given back.
int hold_everything(const Daemon& daemon, Ground& ground, Chance& chance) {
  if (!become(kHostileUser)) return kCannotBegin;
  std::vector<RawSession> held;
  while (!stopped(ground)) {
    if (held.size() < 64) {
      if (auto session = attach_raw(daemon.socket())) {
        layout::SessionRegion& region = session->shared();
        layout::store_relaxed(region.header.pins_high, layout::kViewsMax);
        for (uint32_t& pin : region.pins) layout::store_relaxed(pin, static_cast<uint32_t>(1 + chance.below(16384)));
        held.push_back(std::move(*session));
      }
    }
    for (RawSession& session : held) {
      auto* const locks =
          reinterpret_cast<layout::LaneLock*>(session.lanes.data() + layout::channel_locks_offset(session.welcome.lanes));
      for (uint32_t lane = 0; lane < session.welcome.lanes; ++lane) (void)::pthread_mutex_trylock(&locks[lane].mutex);
    }
    ground.hostile_rounds.advance();
  }
  ::_exit(0);  // as it is
}

// Touches, and marks that call the daemon for them, in as many sessions as there may be.
int touch_without_end(const Daemon& daemon, Ground& ground, Chance& chance) {
  if (!become(kHostileUser)) return kCannotBegin;
  std::vector<RawSession> held;
  while (!stopped(ground)) {
    if (held.size() < 64) {
      if (auto session = attach_raw(daemon.socket())) held.push_back(std::move(*session));
    }
    for (RawSession& session : held) {
      layout::TouchRing& ring_of = session.shared().touches;
      for (uint64_t i = 0; i < layout::kTouchEntries / 8; ++i) {
        const uint64_t position = layout::load_relaxed(ring_of.head);
        layout::store_entry(
            ring_of.entries[position % layout::kTouchEntries],
            {.put = layout::touch_word(1 + chance.below(1 << 20), static_cast<uint16_t>(layout::TouchKind::touch)),
             .slot = static_cast<uint32_t>(chance.below(16384)),
             .position = static_cast<uint32_t>(position)});
        layout::store_release(ring_of.head, position + 1);
        layout::store_release(ring_of.asked, position + 1);
      }
      ring(session.socket.get());
    }
    ground.hostile_rounds.advance();
  }
  ::_exit(0);
}

// As many channels as there may be, and every word that the daemon looks at is written over all the time, without a request in
// it.
int hold_channels(const Daemon& daemon, Ground& ground, Chance& chance) {
  if (!become(kHostileUser)) return kCannotBegin;
  rlimit files{};
  if (::getrlimit(RLIMIT_NOFILE, &files) == 0) {
    files.rlim_cur = files.rlim_max;
    (void)::setrlimit(RLIMIT_NOFILE, &files);
  }
  std::vector<RawSession> held;
  bool more = true;
  for (uint64_t pid_namespace = 1; !stopped(ground); ++pid_namespace) {
    if (more) {
      auto session = attach_raw(daemon.socket(), pid_namespace);
      more = session.has_value() && held.size() < 300;
      if (session) held.push_back(std::move(*session));
    }
    for (const RawSession& session : held) {
      auto* const lines = reinterpret_cast<layout::CommitLine*>(session.lanes.data() + layout::channel_commits_offset());
      for (uint32_t lane = 0; lane < session.welcome.lanes; ++lane) {
        layout::store_relaxed(lines[lane].seq[chance.below(layout::kLaneEntries)], uint64_t{1});
      }
    }
    ground.hostile_rounds.advance();
  }
  ::_exit(0);
}

// Flags, locks and leases on whatever was handed out.
int meddle_with_what_is_shared(const Daemon& daemon, Ground& ground, Chance& chance) {
  if (!become(kHostileUser)) return kCannotBegin;
  std::vector<RawSession> held;
  while (!stopped(ground)) {
    if (held.size() > 16) held.clear();
    auto session = attach_raw(daemon.socket());
    if (!session) continue;
    std::vector<int> all{session->socket.get()};
    for (const base::Fd& fd : session->descriptors) all.push_back(fd.get());
    for (const int fd : all) {
      (void)::fcntl(fd, F_SETFL, ::fcntl(fd, F_GETFL) & ~O_NONBLOCK);
      (void)::fcntl(fd, F_SETFL, ::fcntl(fd, F_GETFL) | O_APPEND | O_ASYNC);
      (void)::fcntl(fd, F_SETOWN, ::getpid());
      (void)::flock(fd, LOCK_EX | LOCK_NB);
      (void)::fcntl(fd, F_SETLEASE, chance.below(2) == 0 ? F_WRLCK : F_RDLCK);
      struct flock range{};
      range.l_type = static_cast<short>(chance.below(2) == 0 ? F_WRLCK : F_RDLCK);
      range.l_whence = SEEK_SET;
      (void)::fcntl(fd, F_OFD_SETLK, &range);
      (void)::fcntl(fd, F_SETLK, &range);
      (void)::lseek(fd, static_cast<off_t>(chance.below(1 << 20)), SEEK_SET);
      (void)::fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW);
      (void)::ftruncate(fd, 0);
      (void)::fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 1 << 20);
    }
    held.push_back(std::move(*session));
    ground.hostile_rounds.advance();
  }
  return 0;
}

int lie_in_the_handshake(const Daemon& daemon, Ground& ground, Chance& chance) {
  if (!become(kHostileUser)) return kCannotBegin;
  const auto own = attach_at_last(daemon, ground);
  if (!own) return kCannotBegin;
  while (!stopped(ground)) {
    layout::Hello lie = hello();
    switch (chance.below(5)) {
      case 0: lie.protocol_version = static_cast<uint32_t>(chance.next()); break;
      case 1: lie.fingerprints[chance.below(layout::kRegions)] ^= 1; break;
      case 2: lie.namespace_inode = chance.next(); break;
      case 3: lie.flags = static_cast<uint32_t>(chance.next()); break;
      default: break;
    }
    // Another one's session, or its own with something that is not right.
    if (chance.below(2) == 0) {
      lie.resume_session = chance.below(2) == 0 ? own->welcome.session : 1 + chance.below(64);
      lie.resume_channel = chance.below(2) == 0 ? own->welcome.channel : 1 + chance.below(4);
      lie.resume_index = static_cast<uint32_t>(chance.below(4) == 0 ? chance.next() : chance.below(4));
    }
    const base::Fd socket = dial(daemon.socket());
    if (!socket) continue;
    const std::vector<int> with = {own->descriptors[5].get(), own->descriptors[6].get()};
    const std::vector<int> swapped = {with[1], with[0]};
    const uint64_t how = chance.below(3);
    (void)send_message(socket.get(), lie, how == 0 ? std::vector<int>{} : how == 1 ? with : swapped);
    // That others' sessions are over.
    layout::Accept accept{};
    accept.header = {.kind = static_cast<uint32_t>(layout::MessageKind::accept), .bytes = sizeof accept};
    accept.count = layout::kForsakenPerMessage;
    for (uint64_t& session : accept.sessions) session = 1 + chance.below(64);
    if (const auto another = attach_raw(daemon.socket())) {
      (void)send_message(another->socket.get(), accept);
      layout::Bye bye{{.kind = static_cast<uint32_t>(layout::MessageKind::bye), .bytes = sizeof bye}};
      (void)send_message(another->socket.get(), bye);
    }
    ground.hostile_rounds.advance();
  }
  return 0;
}

}  // namespace

const std::vector<Attack>& attacks() {
  static const std::vector<Attack> all = {
      {"scribble", scribble},
      {"say_nonsense", say_nonsense},
      {"ask_without_end", ask_without_end},
      {"flood_connections", flood_connections},
      {"hand_over_descriptors", hand_over_descriptors},
      {"hold_everything", hold_everything},
      {"touch_without_end", touch_without_end},
      {"hold_channels", hold_channels},
      {"meddle_with_what_is_shared", meddle_with_what_is_shared},
      {"lie_in_the_handshake", lie_in_the_handshake},
  };
  return all;
}

const Attack& attack_named(const std::string& name) {
  const auto found = std::ranges::find_if(attacks(), [&](const Attack& attack) { return name == attack.name; });
  if (found == attacks().end()) give_up("no attack of the name " + name);
  return *found;
}

}  // namespace warmtier::tests::hostile
