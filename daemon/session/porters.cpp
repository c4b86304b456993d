#include "daemon/session/porters.hpp"

#include <fcntl.h>
#include <linux/magic.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <sys/wait.h>
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
constexpr int kFarewellMs = 200;
constexpr uint32_t kCloser = UINT32_MAX;
constexpr size_t kClosesPerJob = 64;
constexpr size_t kDescriptorsEnclosedMax = std::max(kClosesPerJob, kDescriptorsReceivedMax);

struct Hire {
  uint32_t index = 0;
  uint64_t memory_bytes_max = 0;
};
enum class Order : uint32_t { fetch, close, let_go };
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

// With room for descriptors.
template <size_t kDescriptors>
struct Envelope {
  alignas(cmsghdr) std::array<std::byte, CMSG_SPACE(kDescriptors * sizeof(int))> control{};
  msghdr message{};

  explicit Envelope(std::span<const iovec> parts) noexcept {
    message.msg_iov = const_cast<iovec*>(parts.data());
    message.msg_iovlen = parts.size();
    message.msg_control = control.data();
    message.msg_controllen = control.size();
  }
  void enclose(std::span<const int> descriptors) noexcept {
    message.msg_controllen = descriptors.empty() ? 0 : CMSG_SPACE(descriptors.size() * sizeof(int));
    if (descriptors.empty()) return;
    cmsghdr* const rights = CMSG_FIRSTHDR(&message);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(descriptors.size_bytes());
    std::memcpy(CMSG_DATA(rights), descriptors.data(), descriptors.size_bytes());
  }
  [[nodiscard]] std::vector<base::Fd> enclosed() {
    std::vector<base::Fd> came;
    const cmsghdr* const rights = CMSG_FIRSTHDR(&message);
    const size_t count = rights == nullptr ? 0 : (rights->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; ++i) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(rights) + i * sizeof fd, sizeof fd);
      came.emplace_back(fd);
    }
    return came;
  }
};

// False: it did not go out whole. Waits for room unless `flags` say otherwise.
bool send_parts(int socket, std::span<const iovec> parts, std::span<const int> descriptors, int flags = 0) noexcept {
  Envelope<kDescriptorsEnclosedMax> envelope(parts);
  envelope.enclose(descriptors);
  ssize_t sent = 0;
  do {
    sent = ::sendmsg(socket, &envelope.message, MSG_NOSIGNAL | flags);
  } while (sent < 0 && errno == EINTR);
  return sent >= 0;
}
template <typename Message>
bool send_whole(int socket, const Message& message, std::span<const int> descriptors, int flags = 0) noexcept {
  const std::array<iovec, 1> parts = {{{.iov_base = const_cast<Message*>(&message), .iov_len = sizeof message}}};
  return send_parts(socket, parts, descriptors, flags);
}

// Waits; false: there will be no more.
template <typename Message>
bool receive_whole(int socket, Message& ret_message, std::vector<base::Fd>& ret_descriptors) {
  const std::array<iovec, 1> parts = {{{.iov_base = &ret_message, .iov_len = sizeof ret_message}}};
  for (;;) {
    Envelope<kDescriptorsEnclosedMax> envelope(parts);
    const ssize_t got = ::recvmsg(socket, &envelope.message, MSG_CMSG_CLOEXEC);
    if (got < 0 && errno == EINTR) continue;
    if (got != static_cast<ssize_t>(sizeof ret_message)) return false;
    ret_descriptors = envelope.enclosed();
    return true;
  }
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

// Nothing stays open but these two and the standard ones.
void close_all_but(const Ends& ends) noexcept {
  const auto low = static_cast<unsigned>(std::min(ends.jobs, ends.replies));
  const auto high = static_cast<unsigned>(std::max(ends.jobs, ends.replies));
  if (low > 3) (void)::close_range(3, low - 1, 0);
  if (high - low > 1) (void)::close_range(low + 1, high - 1, 0);
  (void)::close_range(high + 1, ~0U, 0);
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
  if (!send_parts(ends.replies, parts, std::span(let_in).first(count))) {
    // Too many descriptors are on their way already: our want, not its fault.
    reply.state = static_cast<uint32_t>(Packet::State::starved);
    reply.let_in = {};
    (void)send_parts(ends.replies, parts, {});
  }
  // The packet's descriptors are closed here: for as long as that takes.
}

void say_starved(const Job& job, const Ends& ends, uint32_t index) noexcept {
  Reply reply{};
  reply.say = Say::fetched;
  reply.porter = index;
  reply.connection = job.connection;
  reply.number = job.number;
  reply.state = static_cast<uint32_t>(Packet::State::starved);
  (void)send_whole(ends.replies, reply, {});
}

void throw_away(int socket) noexcept {
  std::byte byte{};
  for (uint32_t i = 0; i < kPacketsThrownAwayMax; ++i) {
    // Without room for descriptors: they are dropped without having been this thread's.
    const ssize_t got = ::recv(socket, &byte, sizeof byte, MSG_DONTWAIT);
    if (got == 0 || (got < 0 && errno != EINTR)) return;
  }
}

void work(const Ends& ends, uint32_t index, uint64_t memory_bytes_max) {
  std::vector<std::byte> buffer(layout::kMessageBytesMax);
  Job job;
  std::vector<base::Fd> sockets;
  while (receive_whole(ends.jobs, job, sockets)) {
    // Until the daemon has closed its own: nothing is to be closed for the last time there.
    Job let_go;
    std::vector<base::Fd> none;
    if (job.order == Order::close && !receive_whole(ends.jobs, let_go, none)) return;
    {
      const Impatience impatience;
      // There was no number left for it.
      if (job.order == Order::fetch && sockets.empty()) say_starved(job, ends, index);
      for (base::Fd& socket : sockets) {
        if (job.order == Order::fetch) {
          fetch(job, socket.get(), ends, index, memory_bytes_max, buffer);
        } else {
          throw_away(socket.get());
        }
        socket.reset();
      }
    }
    Reply done{};
    done.say = Say::done;
    done.porter = index;
    (void)send_whole(ends.replies, done, {});
  }
}

// The thread is never waited for: it ends when its jobs do, or is kept by what it closes. False: there is none.
bool begin_work(const Hire& hire, base::Fd jobs, int replies) {
  const Ends ends{.jobs = jobs.get(), .replies = replies};
  std::promise<bool> settled;
  std::future<bool> own_table = settled.get_future();
  try {
    // The promise is the thread's: we may have its answer, and be gone, before it has done giving it.
    std::thread([hire, ends, settled = std::move(settled)]() mutable {
      (void)::pthread_setname_np(::pthread_self(), hire.index == kCloser ? "closer" : "porter");
      sigset_t wake;
      ::sigemptyset(&wake);
      ::sigaddset(&wake, kWakeSignal);
      (void)::pthread_sigmask(SIG_UNBLOCK, &wake, nullptr);
      const bool own = ::unshare(CLONE_FILES) == 0;
      if (own) close_all_but(ends);
      settled.set_value(own);
      work(ends, hire.index, hire.memory_bytes_max);
      if (!own) ::close(ends.jobs);
    }).detach();
  } catch (const std::system_error&) {
    return false;
  }
  // In a table that it shares with us the number stays the thread's.
  if (!own_table.get()) (void)jobs.release();
  return true;
}

[[noreturn]] void be_the_process(int orders, int replies, pid_t parent) {
  (void)::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != parent) ::_exit(0);
  (void)::prctl(PR_SET_NAME, "porters");
  // It goes when the daemon goes, and not when somebody tells a whole group to.
  for (const int signal : {SIGTERM, SIGINT, SIGHUP, SIGQUIT}) (void)::signal(signal, SIG_IGN);
  struct sigaction nothing{};
  nothing.sa_handler = [](int) {};
  (void)::sigaction(kWakeSignal, &nothing, nullptr);
  // Above the standard ones, which may be closed.
  orders = ::fcntl(orders, F_DUPFD_CLOEXEC, 3);
  replies = ::fcntl(replies, F_DUPFD_CLOEXEC, 3);
  if (orders < 0 || replies < 0) ::_exit(1);
  // Whoever waits for the end of what the daemon says does not wait for a thread that is kept here.
  if (const int null = ::open("/dev/null", O_RDWR | O_CLOEXEC); null >= 0) {
    for (const int standard : {0, 1, 2}) (void)::dup2(null, standard);
  }
  close_all_but({.jobs = orders, .replies = replies});
  Hire hire;
  std::vector<base::Fd> jobs;
  while (receive_whole(orders, hire, jobs)) {
    const bool begun = jobs.size() == 1 && begin_work(hire, std::move(jobs.front()), replies);
    if (::send(orders, &begun, sizeof begun, MSG_NOSIGNAL) != sizeof begun) break;
  }
  ::_exit(0);
}

base::Result<std::pair<base::Fd, base::Fd>> new_pair() {
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) return base::fail_errno(errno, "socketpair");
  return std::pair{base::Fd(ends[0]), base::Fd(ends[1])};
}

}  // namespace

base::Result<PorterProcess> PorterProcess::start() {
  auto orders = new_pair();
  if (!orders) return base::pass(std::move(orders));
  auto replies = new_pair();
  if (!replies) return base::pass(std::move(replies));
  const pid_t own = ::getpid();
  const pid_t child = ::fork();
  if (child < 0) return base::fail_errno(errno, "fork");
  if (child == 0) be_the_process(orders->second.get(), replies->second.get(), own);
  PorterProcess process;
  process.pidfd.reset(static_cast<int>(::syscall(SYS_pidfd_open, child, 0)));
  if (!process.pidfd) return base::fail_errno(errno, "pidfd_open");
  process.orders = std::move(orders->first);
  process.replies = std::move(replies->first);
  return process;
}

PorterProcess::~PorterProcess() {
  if (!pidfd) return;
  orders.reset();
  pollfd look{.fd = pidfd.get(), .events = POLLIN, .revents = 0};
  (void)::poll(&look, 1, kFarewellMs);
  siginfo_t info{};
  (void)::waitid(P_PIDFD, static_cast<id_t>(pidfd.get()), &info, WEXITED | WNOHANG);
}

base::Status Porters::open(PorterProcess process, uint64_t memory_bytes_max) {
  process_ = std::move(process);
  memory_bytes_max_ = memory_bytes_max;
  auto closer = hire(kCloser);
  if (!closer) return base::pass(std::move(closer));
  closer_ = std::move(*closer);
  return {};
}

Porters::~Porters() {
  for (base::Fd& socket : to_close_) (void)socket.release();
}

bool Porters::ended() const noexcept {
  if (unsound_) return true;
  pollfd look{.fd = process_.orders.get(), .events = POLLRDHUP, .revents = 0};
  return ::poll(&look, 1, 0) == 1;
}

base::Result<Porters::Porter> Porters::hire(uint32_t index) {
  auto pair = new_pair();
  if (!pair) return base::pass(std::move(pair));
  const int jobs = pair->second.get();
  const Hire order{.index = index, .memory_bytes_max = memory_bytes_max_};
  if (!send_whole(process_.orders.get(), order, std::span(&jobs, 1), MSG_DONTWAIT))
    return base::fail_errno(errno, "hire a thread for other users' descriptors");
  // Its answer comes as soon as the thread does.
  bool begun = false;
  if (::recv(process_.orders.get(), &begun, sizeof begun, 0) != sizeof begun || !begun)
    return base::fail(WARM_E_SYSTEM, "no thread for other users' descriptors");
  return Porter{.jobs = std::move(pair->first), .uid = 0, .waiting = 0};
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
  const Job job{.order = Order::fetch, .connection = connection, .number = number};
  if (!send_whole(porter->jobs.get(), job, std::span(&socket, 1), MSG_DONTWAIT)) return false;
  porter->uid = uid;
  ++porter->waiting;
  return true;
}

std::optional<Porters::Fetched> Porters::take(std::span<std::byte> buffer) {
  for (;;) {
    Reply reply;
    const std::array<iovec, 2> parts = {
        {{.iov_base = &reply, .iov_len = sizeof reply}, {.iov_base = buffer.data(), .iov_len = buffer.size()}}};
    Envelope<kDescriptorsReceivedMax> envelope(parts);
    const ssize_t got = ::recvmsg(process_.replies.get(), &envelope.message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (got < 0 && errno == EINTR) continue;
    if (got < static_cast<ssize_t>(sizeof reply)) return std::nullopt;
    // It works on what others send: we believe nothing that cannot be.
    const bool of_closer = reply.porter == kCloser;
    if ((!of_closer && reply.porter >= porters_.size()) || (of_closer ? closer_ : porters_[reply.porter]).waiting == 0 ||
        reply.descriptors > reply.let_in.size() || reply.bytes > static_cast<size_t>(got) - sizeof reply ||
        reply.state > static_cast<uint32_t>(Packet::State::starved)) {
      unsound_ = true;
      return std::nullopt;
    }
    if (reply.say == Say::done) {
      --(of_closer ? closer_ : porters_[reply.porter]).waiting;
      if (of_closer) hand_on();
      continue;
    }
    Fetched fetched{.connection = reply.connection, .number = reply.number, .packet = {}};
    std::vector<base::Fd> came = envelope.enclosed();
    size_t next = 0;
    for (uint32_t i = 0; i < reply.descriptors; ++i) {
      const bool there = reply.let_in[i] && next < came.size();
      fetched.packet.descriptors.push_back(there ? std::move(came[next++]) : base::Fd());
    }
    fetched.packet.bytes = reply.bytes;
    fetched.packet.state = static_cast<Packet::State>(reply.state);
    // Our own want: there was no number left for what may be let in.
    if ((envelope.message.msg_flags & MSG_CTRUNC) != 0) fetched.packet.state = Packet::State::starved;
    return fetched;
  }
}

void Porters::close(base::Fd socket) {
  (void)::shutdown(socket.get(), SHUT_RDWR);
  to_close_.push_back(std::move(socket));
  hand_on();
}

bool Porters::let_go() {
  const Job job{.order = Order::let_go, .connection = 0, .number = 0};
  let_go_owed_ = let_go_owed_ && !send_whole(closer_.jobs.get(), job, {}, MSG_DONTWAIT);
  return !let_go_owed_;
}

// One job at a time, with all that have come meanwhile. What finds no room stays with us until it does: here it is never closed
// for the last time.
void Porters::hand_on() {
  while (let_go() && closer_.waiting == 0 && !to_close_.empty()) {
    std::array<int, kClosesPerJob> numbers{};
    const size_t count = std::min(numbers.size(), to_close_.size());
    for (size_t i = 0; i < count; ++i) numbers[i] = to_close_[i].get();
    const Job job{.order = Order::close, .connection = 0, .number = 0};
    if (!send_whole(closer_.jobs.get(), job, std::span<const int>(numbers).first(count), MSG_DONTWAIT)) return;
    ++closer_.waiting;
    to_close_.erase(to_close_.begin(), to_close_.begin() + static_cast<ptrdiff_t>(count));
    let_go_owed_ = true;
  }
}

}  // namespace warmtier::daemon::session
