#include "daemon/server.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstring>
#include <functional>
#include <future>
#include <memory>
#include <optional>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "base/clock.hpp"
#include "base/failpoint.hpp"
#include "daemon/control/http.hpp"
#include "daemon/control/numbers.hpp"
#include "daemon/io/io.hpp"
#include "daemon/io/store_lock.hpp"
#include "daemon/service_manager.hpp"
#include "daemon/session/intake.hpp"
#include "daemon/session/log.hpp"
#include "daemon/session/restart.hpp"
#include "daemon/session/sessions.hpp"
#include "daemon/session/socket.hpp"
#include "daemon/store/store.hpp"

namespace warmtier::daemon {
namespace {

using base::fail;
using base::fail_errno;
using base::pass;
using base::Status;
using session::log_line;
using session::Priority;
using store::Store;

constexpr uint32_t kStepsPerTouches = 64;        // while there is other work
constexpr uint32_t kRoundsPerClockLook = 4;      // of an idle spin
constexpr uint64_t kRoundsPerWatchdogLook = 1024;
constexpr uint64_t kShortSleepSpins = 8;         // a sleep shorter than so many full spins is worth spinning for
constexpr uint64_t kSpinNsFloor = 1'000;         // below this, spinning is switched off until a sleep proves too short
constexpr uint64_t kRefreshSessionsAlways = 64;  // so few sessions' counters are summed before every sleep
constexpr uint64_t kRefreshIntervalNs = 10 * base::kNsPerMs;
constexpr size_t kWakeEventsMax = 16;
constexpr long kDozeNs = 4 * base::kNsPerMs;
constexpr uint64_t kTagTimer = 1;  // of an event; all others have 0
constexpr uint64_t kSumNsMax = 100 * base::kNsPerMs;  // an HTTP answer waits so long for the newest counters

// ---- the store as the session room sees it --------------------------------------------------------------------------------

class StorePort final : public session::Executor, public session::Numbers {
 public:
  explicit StorePort(Store& store) : store_(store) {}
  store::Disposition execute(const store::Request& request, const store::Origin& origin, store::Answer& ret_answer) override {
    return store_.execute(request, origin, ret_answer);
  }
  void settle() override { store_.settle(); }
  store::Foreseen foresee(const std::byte* id, uint32_t id_bytes) override { return store_.foresee(id, id_bytes); }
  void foresee_more(store::Foreseen& foreseen) override { store_.foresee_more(foreseen); }
  void request_checkpoint() override { store_.request_checkpoint(); }
  void touch(uint32_t slot, uint64_t put_sequence) override { store_.touch(slot, put_sequence); }
  uint64_t take_session_number() override { return store_.take_session_number(); }
  uint64_t take_channel_number() override { return store_.take_channel_number(); }

 private:
  Store& store_;
};

// ---- how long to look for work before sleeping ----------------------------------------------------------------------------

// Follows what spinning was good for: a spin that found work doubles the next one, one that found none halves it, and a sleep
// that was short sets it to the limit again. Short means a few times the limit: client and daemon that wake each other need
// longer than a spin for it, and would never find back to spinning; a spin of the limit in so long a time costs an eighth of it.
class Spin {
 public:
  explicit Spin(uint64_t limit_ns) : limit_ns_(limit_ns), ns_(limit_ns) {}
  [[nodiscard]] uint64_t ns() const noexcept { return ns_; }
  void found_work() noexcept { ns_ = std::min(limit_ns_, std::max(ns_ * 2, kSpinNsFloor)); }
  void found_nothing() noexcept { ns_ = ns_ / 2 < kSpinNsFloor ? 0 : ns_ / 2; }
  void slept(uint64_t ns, bool for_work) noexcept {
    if (for_work && ns < limit_ns_ * kShortSleepSpins) ns_ = limit_ns_;
  }

 private:
  const uint64_t limit_ns_;
  uint64_t ns_;
};

// ---- the store thread's loop ----------------------------------------------------------------------------------------------

class StoreLoop {
  using Look = session::Sessions::Look;

 public:
  StoreLoop(Store& store, session::Sessions& sessions, session::Mailboxes& mail, int epoll, uint64_t spin_ns,
            ServiceManager& manager)
      : store_(store),
        sessions_(sessions),
        mail_(mail),
        status_(store.status()),
        epoll_(epoll),
        spin_(spin_ns),
        manager_(manager),
        watchdog_at_ns_(manager.watchdog_interval_ns() == UINT64_MAX ? UINT64_MAX : 0) {}

  Status prepare() {
    // By edges: a ring without a message is never read. The store clears its own events before each sleep.
    if (auto s = watch(mail_.to_store.event_fd(), EPOLLIN | EPOLLET); !s) return s;
    timer_.reset(::timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK));
    if (!timer_) return fail_errno(errno, "timerfd_create");
    if (auto s = watch(timer_.get(), EPOLLIN | EPOLLET, kTagTimer); !s) return s;
    return watch(store_.event_fd(), EPOLLIN);
  }

  // Until the intake thread says stop.
  void run() {
    bool more = true;
    for (;;) {
      if (mail_.to_store.pending() && sessions_.take_mail()) return;
      sessions_.wake_watchers();
      if (++rounds_ % kRoundsPerWatchdogLook == 0) feed_watchdog(base::monotonic_ns());
      if (sessions_.serve() || more) {
        more = step();
        continue;
      }
      more = spin() || sleep();
    }
  }

 private:
  [[nodiscard]] Status watch(int fd, uint32_t events, uint64_t tag = 0) const {
    epoll_event event{};
    event.events = events;
    event.data.u64 = tag;
    if (::epoll_ctl(epoll_, EPOLL_CTL_ADD, fd, &event) != 0) return fail_errno(errno, "epoll_ctl");
    return {};
  }

  // Somebody waits for it that would restart this daemon: so it comes from the thread that all work hangs on.
  void feed_watchdog(uint64_t now_ns) noexcept {
    if (now_ns < watchdog_at_ns_) return;
    manager_.say_well();
    watchdog_at_ns_ = now_ns + manager_.watchdog_interval_ns();
  }

  // True while the store wants to go on at once.
  bool step() {
    bool more = store_.step();
    if (++steps_ % kStepsPerTouches == 0) more |= sessions_.take_touches();
    // A step may have freed what a request waits for.
    return sessions_.retry() || more;
  }

  // Looks for work for a bounded time, and does what it finds first. True when there was some.
  bool spin() {
    if (spin_.ns() == 0 || !sessions_.anyone()) return false;
    const uint64_t begun_ns = base::monotonic_ns();
    for (;;) {
      for (uint32_t i = 0; i < kRoundsPerClockLook; ++i) {
        if (sessions_.serve() || mail_.to_store.pending()) {
          layout::count(status_.spin_ns, base::monotonic_ns() - begun_ns);
          spin_.found_work();
          return true;
        }
      }
      const uint64_t spun_ns = base::monotonic_ns() - begun_ns;
      if (spun_ns < spin_.ns()) continue;
      layout::count(status_.spin_ns, spun_ns);
      spin_.found_nothing();
      return false;
    }
  }

  // True when the store has something to do now.
  bool sleep() {
    const uint64_t now_ns = base::monotonic_ns();
    if (layout::load_relaxed(status_.sessions) <= kRefreshSessionsAlways || now_ns - refreshed_ns_ >= kRefreshIntervalNs) {
      sessions_.refresh_counters();
      refreshed_ns_ = now_ns;
    }
    const bool more_touches = sessions_.take_touches();
    const uint64_t store_wants_ns = store_.wake_at_ns();
    if (sessions_.retry() || store_wants_ns == 0 || more_touches) return true;
    feed_watchdog(now_ns);
    const uint64_t wake_at_ns = std::min({store_wants_ns, watchdog_at_ns_, sessions_.wake_at_ns()});
    sessions_.wake_watchers();

    layout::store_relaxed(status_.sleeping, ++sleeps_);
    layout::fence_full();
    // Whoever publishes after this look sees that we sleep, and rings.
    const Look few = mail_.to_store.pending() ? Look::published : sessions_.look(0);
    if (few == Look::done || (few == Look::more && dozed_in_vain(wake_at_ns))) {
      WARM_FAILPOINT("daemon.sleep.before");
      (void)hear(timeout_ms(wake_at_ns));
    }
    layout::store_relaxed(status_.sleeping, 0);
    if (few != Look::published) spin_.slept(base::monotonic_ns() - now_ns, sessions_.look(0) == Look::published);
    return true;
  }

  // Somebody has more channels, or sessions, than can be looked at before each sleep. Who handed something in there before he
  // could see that we sleep waits for some milliseconds at most: a sleep that lasts for so long is interrupted, and they are all
  // looked at. One timer for many short sleeps: to set one is dear in a virtual machine. True: nothing was found.
  bool dozed_in_vain(uint64_t wake_at_ns) {
    if (!std::exchange(timer_runs_, true)) {
      const itimerspec once{.it_interval = {}, .it_value = {.tv_sec = 0, .tv_nsec = kDozeNs}};
      if (::timerfd_settime(timer_.get(), 0, &once, nullptr) != 0) return look_at_all() == Look::done;
      timer_of_sleep_ = sleeps_;
    }
    if (hear(timeout_ms(wake_at_ns)) || timer_runs_ || timer_of_sleep_ != sleeps_) return false;
    return look_at_all() == Look::done;
  }

  // Who was looked at already rings from then on, and does not wait for the rest.
  Look look_at_all() {
    for (uint32_t part = 1;; ++part) {
      const Look seen = sessions_.look(part);
      if (seen != Look::more) return seen;
      if (hear(0)) return Look::published;
    }
  }

  // True when somebody rang, and not the timer alone.
  bool hear(int timeout_ms) noexcept {
    std::array<epoll_event, kWakeEventsMax> events{};
    const int count = ::epoll_wait(epoll_, events.data(), static_cast<int>(events.size()), timeout_ms);
    bool rang = false;
    for (int i = 0; i < count; ++i) {
      if (events[static_cast<size_t>(i)].data.u64 == kTagTimer) {
        timer_runs_ = false;
      } else {
        rang = true;
      }
    }
    return rang;
  }

  static int timeout_ms(uint64_t wake_at_ns) noexcept {
    if (wake_at_ns == UINT64_MAX) return -1;
    const uint64_t now_ns = base::monotonic_ns();
    if (wake_at_ns <= now_ns) return 0;
    return static_cast<int>(std::min<uint64_t>((wake_at_ns - now_ns) / base::kNsPerMs + 1, INT_MAX));
  }

  Store& store_;
  session::Sessions& sessions_;
  session::Mailboxes& mail_;
  layout::StatusPage& status_;
  const int epoll_;
  Spin spin_;
  uint64_t refreshed_ns_ = 0;
  ServiceManager& manager_;
  uint64_t watchdog_at_ns_;
  uint64_t rounds_ = 0;
  uint32_t steps_ = 0;
  uint64_t sleeps_ = 0;
  base::Fd timer_;
  bool timer_runs_ = false;
  uint64_t timer_of_sleep_ = 0;
};

// ---- before serving -------------------------------------------------------------------------------------------------------

uint64_t raise_descriptor_limit() noexcept {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return 1024;
  limit.rlim_cur = limit.rlim_max;
  if (::setrlimit(RLIMIT_NOFILE, &limit) != 0) ::getrlimit(RLIMIT_NOFILE, &limit);
  return limit.rlim_cur;
}

// True when it is there and has no entry, but for `allowed` ones.
base::Result<bool> is_empty_directory(int parent, const char* name, const std::function<bool(const char*)>& allowed) {
  auto fd = base::open_at(parent, name, O_RDONLY | O_DIRECTORY);
  if (!fd) return pass(std::move(fd));
  DIR* stream = ::fdopendir(fd->get());
  if (stream == nullptr) return fail_errno(errno, "read the directory %s", name);
  (void)fd->release();
  bool empty = true;
  while (const dirent* entry = ::readdir(stream)) {
    if (std::strcmp(entry->d_name, ".") != 0 && std::strcmp(entry->d_name, "..") != 0 && !allowed(entry->d_name)) empty = false;
  }
  ::closedir(stream);
  return empty;
}

// Nothing is there but what a daemon leaves that was killed before its store was whole.
base::Result<bool> is_empty_place(int directory) {
  Status trouble;
  auto empty = is_empty_directory(directory, ".", [&](const char* name) {
    if (std::strcmp(name, io::kStoreLockName) == 0 || std::strcmp(name, store::kUnfinishedTierName) == 0) return true;
    if (std::strcmp(name, "content") != 0 && std::strcmp(name, "channels") != 0) return false;
    auto inside = is_empty_directory(directory, name, [](const char*) { return false; });
    if (inside) return *inside;
    trouble = pass(std::move(inside));
    return false;
  });
  if (!trouble) return pass(std::move(trouble));
  return empty;
}

bool holds_store(int directory) noexcept { return ::faccessat(directory, "warm.tier", F_OK, 0) == 0; }

// The store's directory, made if it is absent. One that holds something else is left as it is: not even a lock goes into it.
base::Result<base::Fd> open_place(const Config& config) {
  if (::mkdir(config.store.c_str(), 0750) != 0 && errno != EEXIST) {
    return fail_errno(errno, "make the store directory %s", config.store.c_str());
  }
  auto directory = base::open_at(AT_FDCWD, config.store.c_str(), O_RDONLY | O_DIRECTORY);
  if (!directory || holds_store(directory->get())) return directory;
  auto empty = is_empty_place(directory->get());
  if (!empty) return pass(std::move(empty));
  if (!*empty) {
    return fail(WARM_E_NOT_FOUND, "%s holds no store (no warm.tier), and it is not empty: none is made in it",
                config.store.c_str());
  }
  return directory;
}

// Under the store lock, so that two daemons that start at once do not meet in it.
Status make_store_if_absent(const Config& config, int directory) {
  if (holds_store(directory)) return {};
  WARM_STEP("daemon.store.making");
  store::InitOptions options;
  options.dimensions = config.dimensions.value_or(kDimensionsDefault);
  options.capacity = config.capacity.value_or(kCapacityDefault);
  options.segment_bytes = config.segment_bytes.value_or(layout::kSegmentBytesDefault);
  if (auto s = store::initialise(config.store, options); !s) return s;
  log_line(Priority::notice, "made a new store in %s: %u dimensions, %llu records at most", config.store.c_str(),
           options.dimensions, static_cast<unsigned long long>(options.capacity));
  return {};
}

Status check_wishes(const Config& config, const Store& store) {
  const layout::Geometry& geometry = store.geometry();
  if (config.dimensions && *config.dimensions != geometry.dimensions) {
    return fail(WARM_E_INVALID, "the store has %u dimensions, asked for are %u: they are fixed when it is made",
                geometry.dimensions, *config.dimensions);
  }
  if (config.capacity && *config.capacity != geometry.capacity) {
    return fail(WARM_E_INVALID, "the store has a capacity of %llu records, asked for are %llu: it is fixed when it is made",
                static_cast<unsigned long long>(geometry.capacity), static_cast<unsigned long long>(*config.capacity));
  }
  if (config.segment_bytes && *config.segment_bytes != store.segment_bytes()) {
    return fail(WARM_E_INVALID, "the store has segments of %llu bytes, asked for are %llu: that is fixed when it is made",
                static_cast<unsigned long long>(store.segment_bytes()), static_cast<unsigned long long>(*config.segment_bytes));
  }
  return {};
}

// Whoever has no access is told so by name when others may connect, and by the kernel when nobody may; but who is awaited since
// the last daemon must be able to hand back what he holds, and hears then that his access was taken from him.
mode_t socket_mode(const session::AccessRules& access, bool others_awaited = false) {
  return access.names_others(::geteuid()) || others_awaited ? 0666 : 0600;
}

// A socket that the service manager opened for us, or one of our own at `path`.
struct Listening {
  base::Fd fd;
  std::string path;  // ours: to be removed at the end
  base::InodeId inode;
  bool others_awaited = false;
};
struct Sockets {
  std::optional<base::Fd> clients;
  std::vector<base::Fd> http;
};
// What the service manager hands over is told apart by its type: clients by packets, HTTP by a stream.
base::Result<Sockets> told_apart(std::vector<base::Fd> given) {
  Sockets sockets;
  for (base::Fd& fd : given) {
    if (!sockets.clients && ::sd_is_socket_unix(fd.get(), SOCK_SEQPACKET, 1, nullptr, 0) > 0) {
      sockets.clients = std::move(fd);
    } else if (::sd_is_socket(fd.get(), AF_UNSPEC, SOCK_STREAM, 1) > 0) {
      sockets.http.push_back(std::move(fd));
    } else {
      return fail(WARM_E_INVALID,
                  "of %zu descriptors that the service manager handed over one is neither the listening socket of type SEQPACKET "
                  "(ListenSequentialPacket=) nor one for HTTP (ListenStream=)",
                  given.size());
    }
  }
  return sockets;
}

base::Result<std::string> place_of_socket(const Config& config) {
  if (!config.socket.empty()) return config.socket;
  auto place = default_socket_path();
  if (place && ::mkdir(place->substr(0, place->rfind('/')).c_str(), 0755) != 0 && errno != EEXIST) {
    return fail_errno(errno, "make the directory of the socket %s", place->c_str());
  }
  return place;
}

// A store is not made for a daemon that could not serve it.
Status check_socket_before_store(const Config& config, const Sockets& sockets) {
  if (sockets.clients || ::access((config.store + "/warm.tier").c_str(), F_OK) == 0) return {};
  auto path = place_of_socket(config);
  return path ? session::check_place(*path) : pass(std::move(path));
}

base::Result<Listening> listen(const Config& config, std::optional<base::Fd> given, bool others_awaited) {
  if (given) return Listening{.fd = std::move(*given), .path = {}, .inode = {}, .others_awaited = false};
  auto path = place_of_socket(config);
  if (!path) return pass(std::move(path));
  auto listener = session::listen_at(*path, socket_mode(config.access, others_awaited));
  if (!listener) return pass(std::move(listener));
  return Listening{
      .fd = std::move(listener->fd), .path = std::move(*path), .inode = listener->inode, .others_awaited = others_awaited};
}

void remove_socket(const Listening& listening) noexcept {
  struct stat st{};
  if (listening.path.empty() || ::lstat(listening.path.c_str(), &st) != 0) return;
  if (base::InodeId{.device = st.st_dev, .inode = st.st_ino} == listening.inode) ::unlink(listening.path.c_str());
}

// Numbers over HTTP, on threads of their own.
class Numbers {
 public:
  Numbers(const Store& store, session::Mailboxes& mail, const layout::StatusPage& status)
      : source_{.status = status, .geometry = store.geometry()}, mail_(mail) {}
  ~Numbers() {
    servers_.clear();
    for (const Listening& one : ours_) remove_socket(one);
  }
  Numbers(const Numbers&) = delete;
  Numbers& operator=(const Numbers&) = delete;

  Status start(const Config& config, std::vector<base::Fd> given) {
    if (!config.metrics_socket.empty()) {
      auto listener = session::listen_at(config.metrics_socket, socket_mode(config.access), SOCK_STREAM);
      if (!listener) return pass(std::move(listener));
      given.push_back(std::move(listener->fd));
      ours_.push_back({.fd = {}, .path = config.metrics_socket, .inode = listener->inode, .others_awaited = false});
    }
    if (config.metrics_port != 0) {
      auto listener = control::listen_on_loopback(config.metrics_port);
      if (!listener) return pass(std::move(listener));
      given.push_back(std::move(*listener));
    }
    for (base::Fd& listener : given) {
      auto server = control::HttpServer::start(std::move(listener), [this](std::string_view path) { return answer(path); });
      if (!server) return pass(std::move(server));
      servers_.push_back(std::move(*server));
    }
    return {};
  }

 private:
  std::optional<control::HttpAnswer> answer(std::string_view path) {
    const bool text = path == "/metrics";
    if (!text && path != "/api/v1/metrics/storage") return std::nullopt;
    // What clients count is summed by the store thread, which may be busy: then the last sums are told.
    const auto summed = std::make_shared<std::promise<void>>();
    auto soon = summed->get_future();
    mail_.to_store.post(session::Nudge{[summed] { summed->set_value(); }});
    (void)soon.wait_for(std::chrono::nanoseconds(kSumNsMax));
    if (text) return control::HttpAnswer{.content_type = "text/plain; version=0.0.4", .body = control::prometheus_text(source_)};
    return control::HttpAnswer{.content_type = "application/json", .body = control::storage_json(source_)};
  }

  const control::Source source_;
  session::Mailboxes& mail_;
  std::vector<Listening> ours_;
  std::vector<std::unique_ptr<control::HttpServer>> servers_;
};

base::Result<base::Fd> channels_directory(int store_directory) {
  if (::mkdirat(store_directory, "channels", 0750) != 0 && errno != EEXIST) return fail_errno(errno, "make channels/");
  return base::open_at(store_directory, "channels", O_RDONLY | O_DIRECTORY);
}

// Intake thread. Settings that cannot be read change nothing: the daemon goes on as it was.
void reload(const Config& running, const Store& store, const ReadSettings& read_settings, const Listening& listening,
            session::Intake& intake, ServiceManager& manager) {
  manager.tell("RELOADING=1\nMONOTONIC_USEC=" + std::to_string(base::monotonic_ns() / base::kNsPerUs));
  if (auto wanted = read_settings(); !wanted) {
    log_line(Priority::error, "the settings stay as they were: %s", wanted.error().text.c_str());
  } else {
    if (!listening.path.empty() && ::chmod(listening.path.c_str(), socket_mode(wanted->access, listening.others_awaited)) != 0) {
      log_line(Priority::warning, "chmod %s: %s", listening.path.c_str(), std::strerror(errno));
    }
    intake.set_access(wanted->access);
    log_line(Priority::notice, "settings read again: access as configured for whoever attaches from now on");
    for (const std::string& key : only_at_start(running, *wanted)) {
      log_line(Priority::warning, "%s was changed; that holds from the next start on", key.c_str());
    }
    if (auto s = check_wishes(*wanted, store); !s) {
      log_line(Priority::error, "the next start will fail with these settings: %s", s.error().text.c_str());
    }
  }
  manager.tell("READY=1");
}

void answer_what_was_in_flight(Store& store, const std::vector<session::Intake::Adopted>& adopted) {
  const auto& decided = store.decided();
  if (!decided) return;
  for (const auto& one : adopted) {
    if (one.channel->number() == decided->origin.channel && one.channel->answer_decided(*decided)) {
      layout::count(store.status().requests_recovered);
    }
  }
}

}  // namespace

Status run_server(const Config& config, const ReadSettings& read_settings) {
  // Before any thread: they all inherit it, and the intake thread reads what comes.
  sigset_t signals;
  ::sigemptyset(&signals);
  ::sigaddset(&signals, SIGTERM);
  ::sigaddset(&signals, SIGINT);
  ::sigaddset(&signals, SIGHUP);
  ::pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  ::signal(SIGPIPE, SIG_IGN);
  ::signal(SIGXFSZ, SIG_IGN);  // the I/O room wants the error instead
  const uint64_t descriptors = raise_descriptor_limit();
  if (descriptors < session::kDescriptorsKept + session::kDescriptorsPerSession) {
    return fail(WARM_E_LIMIT, "%llu file descriptors are allowed; at least %llu are needed",
                static_cast<unsigned long long>(descriptors),
                static_cast<unsigned long long>(session::kDescriptorsKept + session::kDescriptorsPerSession));
  }

  // Before there is anything that it should not have.
  auto porters = session::PorterProcess::start();
  if (!porters) return pass(std::move(porters));

  auto given = ServiceManager::take_given();
  if (!given) return pass(std::move(given));
  auto sockets = told_apart(std::move(given->sockets));
  if (!sockets) return pass(std::move(sockets));
  if (auto s = check_socket_before_store(config, *sockets); !s) return s;
  auto io = io::open_io(config.io);
  if (!io) return pass(std::move(io));
  auto directory = open_place(config);
  if (!directory) return pass(std::move(directory));
  auto lock = io::StoreLock::acquire(directory->get(), **io, base::Deadline::after_ns(kStoreLockWaitNs));
  if (!lock) return pass(std::move(lock));
  if (auto s = make_store_if_absent(config, directory->get()); !s) return s;

  store::Options options;
  options.content_bytes_max = config.content_bytes_max;
  options.checkpoint_interval_ns = config.checkpoint_interval_ms * base::kNsPerMs;
  options.prepared_slots = config.prepared_slots;
  options.large_pages = config.large_pages;
  auto opened = Store::open(config.store, options, **io);
  if (!opened) {
    base::Error error = std::move(opened).error();
    error.text = "the store in " + config.store + ": " + error.text;
    return std::unexpected(std::move(error));
  }
  Store& store = **opened;
  if (auto s = check_wishes(config, store); !s) return s;

  auto channels = channels_directory(directory->get());
  if (!channels) return pass(std::move(channels));
  session::World world;
  world.access = config.access;
  world.own_uid = ::geteuid();
  world.limits = {.dimensions = store.geometry().dimensions, .content_bytes_max = config.content_bytes_max};
  std::memcpy(world.store.store_id, store.store_id(), sizeof world.store.store_id);
  std::memcpy(world.store.boot_id, store.boot_id(), sizeof world.store.boot_id);
  world.store.pid_namespace = session::own_pid_namespace();
  world.hash_seed = store.hash_seed();
  world.capacity = store.geometry().capacity;
  world.own_segment_above_bytes = store.own_segment_above_bytes();
  world.lanes = session::lanes_on_this_host();
  world.descriptors = descriptors;
  world.sessions_max = static_cast<uint32_t>(
      std::min<uint64_t>((descriptors - session::kDescriptorsKept) / session::kDescriptorsPerSession, UINT32_MAX));
  world.channels_directory = channels->get();
  world.published = &store.published();
  world.status = &store.status();
  world.view_bytes = [&store](uint32_t slot) { return store.view_bytes(slot); };
  ServiceManager service_manager;
  world.keeper = &service_manager;

  session::Mailboxes mail;
  if (auto s = mail.to_store.open(); !s) return s;
  if (auto s = mail.to_intake.open(); !s) return s;
  base::Fd epoll(::epoll_create1(EPOLL_CLOEXEC));
  if (!epoll) return fail_errno(errno, "epoll_create1");
  const session::Stage stage = [&store](uint32_t id_bytes, uint64_t content_bytes, const auto& read) {
    return store.stage(id_bytes, content_bytes, read);
  };
  StorePort port(store);
  session::Sessions sessions(port, port, mail, store.status(), world.limits, channels->get(),
                             config.orphan_grace_s == 0 ? base::Deadline::never()
                                                        : base::Deadline::after_ns(config.orphan_grace_s * base::kNsPerSecond));
  session::Intake intake(world, mail, stage, epoll.get());

  auto earlier = session::adopt_channels(channels->get(), world.store, config.access, world.own_uid,
                                         store.recovered_from_device(), given->kept);
  if (!earlier) return pass(std::move(earlier));
  // What nobody has a use for any more.
  for (const auto& [name, fd] : given->kept) service_manager.let_go(name);
  given->kept.clear();
  WARM_FAILPOINT("daemon.restart.adopted");
  const bool others_awaited =
      std::ranges::any_of(*earlier, [&](const auto& one) { return one.channel->key().uid != world.own_uid; });
  auto listening = listen(config, std::move(sockets->clients), others_awaited);
  if (!listening) return pass(std::move(listening));
  const auto stop_listening = [&](Status status) {
    remove_socket(*listening);
    return status;
  };
  if (auto s = intake.open(std::move(listening->fd), std::move(*porters)); !s) return stop_listening(std::move(s));
  std::vector<session::Intake::Adopted> adopted;
  for (session::AdoptedChannel& channel : *earlier) {
    auto one = intake.adopt(std::move(channel));
    if (!one) return stop_listening(pass(std::move(one)));
    sessions.adopt(one->channel, one->orphans);
    adopted.push_back(std::move(*one));
  }
  WARM_FAILPOINT("daemon.restart.listening");
  // From here on readers believe the new index; only then may an answer appear.
  const bool generation_first = WARM_RULE("daemon.generation_before_result");
  if (generation_first) store.open_generation();
  WARM_FAILPOINT("daemon.restart.generation");
  if (WARM_RULE("daemon.decided_is_answered")) answer_what_was_in_flight(store, adopted);
  if (!generation_first) store.open_generation();
  store.clear_intent();
  WARM_FAILPOINT("daemon.restart.cleared");

  store.set_pin_source(&sessions);
  store.set_index_publisher(
      [&intake](int fd, uint32_t homes_log2, uint64_t generation) { intake.publish_index(fd, homes_log2, generation); });
  intake.set_reload([&] { reload(config, store, read_settings, *listening, intake, service_manager); });
  StoreLoop loop(store, sessions, mail, epoll.get(), uint64_t{config.spin_us} * base::kNsPerUs, service_manager);
  if (auto s = loop.prepare(); !s) return stop_listening(std::move(s));
  std::thread intake_thread([&intake] {
    (void)::pthread_setname_np(::pthread_self(), "intake");
    intake.run();
  });

  // Ends before the store does.
  const layout::StatusPage& status = store.status();
  std::optional<Numbers> numbers(std::in_place, store, mail, status);
  if (auto s = numbers->start(config, std::move(sockets->http)); !s) {
    log_line(Priority::error, "no numbers over HTTP: %s", s.error().text.c_str());
  }
  log_line(Priority::info, "serving %s at %s: %llu records, %u dimensions, %s", config.store.c_str(),
           listening->path.empty() ? "the service manager's socket" : listening->path.c_str(),
           static_cast<unsigned long long>(status.records), store.geometry().dimensions, (*io)->describe().c_str());
  if (status.orphans > 0) {
    log_line(Priority::notice,
             "%llu sessions of the last daemon live on; until they attach again no slot that was used before is used again",
             static_cast<unsigned long long>(status.orphans));
  }
  service_manager.tell("READY=1\nSTATUS=Serving " + std::to_string(status.records) + " records");

  loop.run();

  numbers.reset();
  service_manager.tell("STOPPING=1");
  remove_socket(*listening);
  mail.to_intake.post(session::Quit{});
  intake_thread.join();
  store.set_pin_source(nullptr);
  auto closed = store.close_cleanly();
  if (closed) log_line(Priority::info, "stopped; everything is on the device");
  return closed;
}

}  // namespace warmtier::daemon
