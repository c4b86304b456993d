#include "daemon/session/porters.hpp"

#include <fcntl.h>
#include <linux/magic.h>
#include <pthread.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <future>
#include <system_error>
#include <thread>
#include <utility>

namespace warmtier::daemon::session {
namespace {

constexpr uint32_t kPacketsThrownAwayMax = 4096;
constexpr int kWakeSignal = SIGURG;  // ignored by everybody who does not ask for it
constexpr long kPatienceNs = 1'000'000;
constexpr uint32_t kCloser = UINT32_MAX;
constexpr size_t kClosesPerJob = 64;

enum class Order : uint32_t { fetch, close };
struct Job {
  Order order{};
  uint64_t connection = 0;
  uint64_t number = 0;
};
enum class Say : uint32_t { fetched, done };
struct Reply {
  Say say{};
  uint32_t porter = 0;
  uint64_t connection = 0;
  uint64_t number = 0;
  uint64_t bytes = 0;
  uint32_t state = 0;        // Packet::State
  uint32_t descriptors = 0;  // that came
  std::array<bool, kDescriptorsReceivedMax> let_in{};
};

// While it lives, no system call of this thread waits for somebody's peer for long: what lingers sees a signal.
class Impatience {
 public:
  Impatience() noexcept {
    sigevent event{};
    event.sigev_notify = SIGEV_THREAD_ID;
    event.sigev_signo = kWakeSignal;
    event._sigev_un._tid = static_cast<pid_t>(::syscall(SYS_gettid));
    made_ = ::timer_create(CLOCK_MONOTONIC, &event, &timer_) == 0;
    const itimerspec often{.it_interval = {.tv_sec = 0, .tv_nsec = kPatienceNs},
                           .it_value = {.tv_sec = 0, .tv_nsec = kPatienceNs}};
    if (made_) (void)::timer_settime(timer_, 0, &often, nullptr);
  }
  ~Impatience() {
    if (made_) (void)::timer_delete(timer_);
  }
  Impatience(const Impatience&) = delete;
  Impatience& operator=(const Impatience&) = delete;

 private:
  timer_t timer_{};
  bool made_ = false;
};

// A message with descriptors; waits for room, and again when it was interrupted.
bool send_whole(int socket, std::span<const iovec> parts, std::span<const int> descriptors) noexcept {
  msghdr message{};
  message.msg_iov = const_cast<iovec*>(parts.data());
  message.msg_iovlen = parts.size();
  alignas(cmsghdr) std::array<std::byte, CMSG_SPACE(kDescriptorsReceivedMax * sizeof(int))> control{};
  if (!descriptors.empty()) {
    message.msg_control = control.data();
    message.msg_controllen = CMSG_SPACE(descriptors.size() * sizeof(int));
    cmsghdr* rights = CMSG_FIRSTHDR(&message);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(descriptors.size() * sizeof(int));
    std::memcpy(CMSG_DATA(rights), descriptors.data(), descriptors.size() * sizeof(int));
  }
  ssize_t sent = 0;
  do {
    sent = ::sendmsg(socket, &message, MSG_NOSIGNAL);
  } while (sent < 0 && errno == EINTR);
  return sent >= 0;
}

// Says nothing to the file's own file system before the kernel itself has said that it is memory.
bool may_be_let_in(int fd, uint64_t bytes_max) noexcept {
  if (::fcntl(fd, F_GET_SEALS) < 0) return false;
  struct statfs fs{};
  if (::fstatfs(fd, &fs) != 0 || fs.f_type != TMPFS_MAGIC) return false;
  const auto bytes = base::file_bytes(fd);
  return bytes && *bytes <= bytes_max;
}

// ---- the threads --------------------------------------------------------------------------------------------------------------

struct Ends {
  int jobs = -1;
  int replies = -1;
};

// A table of its own, with nothing in it but what it needs.
bool leave_the_daemons_table(const Ends& ends) noexcept {
  if (::unshare(CLONE_FILES) != 0) return false;
  const auto low = static_cast<unsigned>(std::min(ends.jobs, ends.replies));
  const auto high = static_cast<unsigned>(std::max(ends.jobs, ends.replies));
  if (low > 3) (void)::close_range(3, low - 1, 0);
  if (high - low > 1) (void)::close_range(low + 1, high - 1, 0);
  (void)::close_range(high + 1, ~0U, 0);
  return true;
}

void fetch(const Job& job, int socket, const Ends& ends, uint32_t index, uint64_t memory_bytes_max, std::span<std::byte> buffer) {
  Packet packet = receive_packet(socket, buffer);
  Reply reply{.say = Say::fetched,
              .porter = index,
              .connection = job.connection,
              .number = job.number,
              .bytes = packet.bytes,
              .state = static_cast<uint32_t>(packet.state),
              .descriptors = static_cast<uint32_t>(packet.descriptors.size())};
  std::array<int, kDescriptorsReceivedMax> let_in{};
  size_t count = 0;
  for (size_t i = 0; i < packet.descriptors.size(); ++i) {
    reply.let_in[i] = may_be_let_in(packet.descriptors[i].get(), memory_bytes_max);
    if (reply.let_in[i]) let_in[count++] = packet.descriptors[i].get();
  }
  const std::array<iovec, 2> parts = {
      {{.iov_base = &reply, .iov_len = sizeof reply}, {.iov_base = buffer.data(), .iov_len = packet.bytes}}};
  if (!send_whole(ends.replies, parts, std::span(let_in).first(count))) {
    // Too many descriptors are on their way already: our want, not its fault.
    reply.state = static_cast<uint32_t>(Packet::State::starved);
    reply.let_in = {};
    (void)send_whole(ends.replies, parts, {});
  }
  // The packet's descriptors are closed here: for as long as that takes.
}

void throw_away(int socket) noexcept {
  std::byte byte{};
  for (uint32_t i = 0; i < kPacketsThrownAwayMax; ++i) {
    // Without room for descriptors: they are dropped without having been this thread's.
    const ssize_t got = ::recv(socket, &byte, sizeof byte, MSG_DONTWAIT);
    if (got == 0 || (got < 0 && errno != EINTR)) return;
  }
}

void work(const Ends& ends, uint32_t index, uint64_t memory_bytes_max, const std::atomic<uint64_t>* let_go) {
  std::vector<std::byte> buffer(layout::kMessageBytesMax);
  for (;;) {
    Job job;
    iovec part{.iov_base = &job, .iov_len = sizeof job};
    alignas(cmsghdr) std::array<std::byte, CMSG_SPACE(kClosesPerJob * sizeof(int))> control{};
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    const ssize_t got = ::recvmsg(ends.jobs, &message, MSG_CMSG_CLOEXEC);
    if (got < 0 && errno == EINTR) continue;
    if (got != static_cast<ssize_t>(sizeof job)) return;
    const cmsghdr* const rights = CMSG_FIRSTHDR(&message);
    const size_t count = rights == nullptr ? 0 : (rights->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    if (let_go != nullptr) {
      for (uint64_t seen = 0; (seen = let_go->load()) < job.number;) let_go->wait(seen);
    }
    {
      const Impatience impatience;
      for (size_t i = 0; i < count; ++i) {
        int number = -1;
        std::memcpy(&number, CMSG_DATA(rights) + i * sizeof number, sizeof number);
        const base::Fd socket(number);
        if (job.order == Order::fetch) {
          fetch(job, socket.get(), ends, index, memory_bytes_max, buffer);
        } else {
          throw_away(socket.get());
        }
      }
    }
    Reply done{};
    done.say = Say::done;
    done.porter = index;
    const std::array<iovec, 1> parts = {{{.iov_base = &done, .iov_len = sizeof done}}};
    (void)send_whole(ends.replies, parts, {});
  }
}

base::Result<std::pair<base::Fd, base::Fd>> new_pair() {
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) return base::fail_errno(errno, "socketpair");
  return std::pair{base::Fd(ends[0]), base::Fd(ends[1])};
}

bool send_job(int jobs, const Job& job, std::span<const int> sockets) noexcept {
  iovec part{.iov_base = const_cast<Job*>(&job), .iov_len = sizeof job};
  alignas(cmsghdr) std::array<std::byte, CMSG_SPACE(kClosesPerJob * sizeof(int))> control{};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = CMSG_SPACE(sockets.size_bytes());
  cmsghdr* rights = CMSG_FIRSTHDR(&message);
  rights->cmsg_level = SOL_SOCKET;
  rights->cmsg_type = SCM_RIGHTS;
  rights->cmsg_len = CMSG_LEN(sockets.size_bytes());
  std::memcpy(CMSG_DATA(rights), sockets.data(), sockets.size_bytes());
  return ::sendmsg(jobs, &message, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0;
}

}  // namespace

base::Status Porters::open(uint64_t memory_bytes_max) {
  memory_bytes_max_ = memory_bytes_max;
  struct sigaction nothing{};
  nothing.sa_handler = [](int) {};
  if (::sigaction(kWakeSignal, &nothing, nullptr) != 0) return base::fail_errno(errno, "sigaction");
  auto pair = new_pair();
  if (!pair) return base::pass(std::move(pair));
  replies_ = std::move(pair->first);
  replies_in_ = std::move(pair->second);
  auto porter = hire(kCloser, closer_.let_go);
  if (!porter) return base::pass(std::move(porter));
  closer_.porter = std::move(*porter);
  return {};
}

// The thread is never waited for: it ends when its jobs do, or is kept by what it closes.
base::Result<Porters::Porter> Porters::hire(uint32_t index, LetGo let_go) {
  auto pair = new_pair();
  if (!pair) return base::pass(std::move(pair));
  Porter porter;
  porter.jobs = std::move(pair->first);
  const Ends ends{.jobs = pair->second.get(), .replies = replies_in_.get()};
  std::promise<bool> settled;
  std::future<bool> own_table = settled.get_future();
  try {
    // The promise is the thread's: we may have its answer, and be gone, before it has done giving it.
    std::thread([ends, index, bytes = memory_bytes_max_, let_go = std::move(let_go), settled = std::move(settled)]() mutable {
      (void)::pthread_setname_np(::pthread_self(), index == kCloser ? "closer" : "porter");
      sigset_t wake;
      ::sigemptyset(&wake);
      ::sigaddset(&wake, kWakeSignal);
      (void)::pthread_sigmask(SIG_UNBLOCK, &wake, nullptr);
      const bool own = leave_the_daemons_table(ends);
      settled.set_value(own);
      work(ends, index, bytes, let_go.get());
      if (!own) ::close(ends.jobs);
    }).detach();
  } catch (const std::system_error&) {
    return base::fail(WARM_E_SYSTEM, "no thread for other users' descriptors");
  }
  // In a table that it shares with us the number stays the thread's.
  if (!own_table.get()) (void)pair->second.release();
  return porter;
}

// The one that works for this user, else one that works for nobody.
Porters::Porter* Porters::porter_for(uid_t uid) {
  const auto own = std::ranges::find_if(porters_, [&](const Porter& one) { return one.waiting > 0 && one.uid == uid; });
  if (own != porters_.end()) return own->waiting < kFetchesPerUserMax ? &*own : nullptr;
  const auto idle = std::ranges::find(porters_, 0U, &Porter::waiting);
  if (idle != porters_.end()) return &*idle;
  if (porters_.size() == kPortersMax) return nullptr;
  auto hired = hire(static_cast<uint32_t>(porters_.size()));
  if (!hired) return nullptr;
  porters_.push_back(std::move(*hired));
  return &porters_.back();
}

bool Porters::fetch(uid_t uid, uint64_t connection, uint64_t number, int socket) {
  Porter* porter = porter_for(uid);
  if (porter == nullptr) return false;
  if (!send_job(porter->jobs.get(), {.order = Order::fetch, .connection = connection, .number = number}, std::span(&socket, 1)))
    return false;
  porter->uid = uid;
  ++porter->waiting;
  return true;
}

std::optional<Porters::Fetched> Porters::take(std::span<std::byte> buffer) {
  for (;;) {
    Reply reply;
    std::array<iovec, 2> parts = {
        {{.iov_base = &reply, .iov_len = sizeof reply}, {.iov_base = buffer.data(), .iov_len = buffer.size()}}};
    alignas(cmsghdr) std::array<std::byte, CMSG_SPACE(kDescriptorsReceivedMax * sizeof(int))> control{};
    msghdr message{};
    message.msg_iov = parts.data();
    message.msg_iovlen = parts.size();
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    const ssize_t got = ::recvmsg(replies_.get(), &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (got < 0 && errno == EINTR) continue;
    if (got < static_cast<ssize_t>(sizeof reply)) return std::nullopt;
    if (reply.say == Say::done) {
      const bool closed = reply.porter == kCloser;
      --(closed ? closer_.porter : porters_[reply.porter]).waiting;
      if (closed) hand_on();
      continue;
    }
    Fetched fetched{.connection = reply.connection, .number = reply.number, .packet = {}};
    std::vector<base::Fd> came;
    for (const cmsghdr* rights = CMSG_FIRSTHDR(&message); rights != nullptr; rights = nullptr) {
      const size_t count = (rights->cmsg_len - CMSG_LEN(0)) / sizeof(int);
      for (size_t i = 0; i < count; ++i) {
        int fd = -1;
        std::memcpy(&fd, CMSG_DATA(rights) + i * sizeof fd, sizeof fd);
        came.emplace_back(fd);
      }
    }
    size_t next = 0;
    for (uint32_t i = 0; i < reply.descriptors; ++i) {
      const bool there = reply.let_in[i] && next < came.size();
      fetched.packet.descriptors.push_back(there ? std::move(came[next++]) : base::Fd());
    }
    fetched.packet.bytes = reply.bytes;
    fetched.packet.state = static_cast<Packet::State>(reply.state);
    // Our own want: there was no number left for what may be let in.
    if ((message.msg_flags & MSG_CTRUNC) != 0) fetched.packet.state = Packet::State::starved;
    return fetched;
  }
}

void Porters::close(base::Fd socket) {
  (void)::shutdown(socket.get(), SHUT_RDWR);
  closer_.sockets.push_back(std::move(socket));
  hand_on();
}

// One job at a time, with all that have come meanwhile. What finds no room stays with us until it does: here it is never closed
// for the last time.
void Porters::hand_on() {
  while (!closer_.sockets.empty() && closer_.porter.waiting == 0) {
    std::array<int, kClosesPerJob> numbers{};
    const size_t count = std::min(numbers.size(), closer_.sockets.size());
    for (size_t i = 0; i < count; ++i) numbers[i] = closer_.sockets[i].get();
    const Job job{.order = Order::close, .connection = 0, .number = closer_.jobs + 1};
    if (!send_job(closer_.porter.jobs.get(), job, std::span<const int>(numbers).first(count))) return;
    ++closer_.porter.waiting;
    closer_.sockets.erase(closer_.sockets.begin(), closer_.sockets.begin() + static_cast<ptrdiff_t>(count));
    closer_.let_go->store(++closer_.jobs);
    closer_.let_go->notify_one();
  }
}

}  // namespace warmtier::daemon::session
