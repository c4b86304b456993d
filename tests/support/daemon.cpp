#include "tests/support/daemon.hpp"

#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "daemon/store/store.hpp"

namespace warmtier::tests::support {
namespace {

sockaddr_un address_of(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) give_up("the socket's path is too long: " + path);
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  return address;
}

}  // namespace

std::string program_path(const char* variable, const char* built) {
  const char* said = std::getenv(variable);
  return said != nullptr && *said != '\0' ? said : built;
}

std::string daemon_path() { return program_path("WARMTIERD", WARMTIERD_BUILT); }

Daemon::Daemon(StoreOptions options) : options_(std::move(options)) {
  const char* temporary = std::getenv("TMPDIR");
  directory_ = std::string(temporary != nullptr ? temporary : "/tmp") + "/warmtier-test.XXXXXX";
  if (::mkdtemp(directory_.data()) == nullptr) give_up("mkdtemp: " + std::string(std::strerror(errno)));
  store_ = directory_ + "/store";
  socket_ = directory_ + "/sock";
  configuration_path_ = directory_ + "/warmtierd.toml";
  log_path_ = directory_ + "/log";
  if (options_.failpoints) failpoints_ = std::make_unique<Failpoints>(directory_ + "/failpoints");

  if (!options_.existing_store.empty()) {
    store_ = options_.existing_store;
  } else if (!options_.made_by_daemon) {
    daemon::store::InitOptions init;
    init.dimensions = options_.dimensions;
    init.capacity = options_.capacity;
    init.segment_bytes = options_.segment_bytes;
    if (const base::Status made = daemon::store::initialise(store_, init); !made) give_up("no store: " + made.error().text);
  }

  std::ofstream configuration(configuration_path_);
  configuration << "[store]\n";
  if (options_.made_by_daemon) {
    configuration << "dimensions = " << options_.dimensions << "\ncapacity = " << options_.capacity
                  << "\nsegment_bytes = " << options_.segment_bytes << "\n";
  }
  if (options_.content_bytes_max != 0) configuration << "content_bytes_max = " << options_.content_bytes_max << "\n";
  if (options_.checkpoint_interval_ms != 0)
    configuration << "checkpoint_interval_ms = " << options_.checkpoint_interval_ms << "\n";

  if (options_.large_pages) configuration << "large_pages = true\n";

  const std::string notify = directory_ + "/notify";
  notify_.reset(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  const sockaddr_un address = address_of(notify);
  if (!notify_ || ::bind(notify_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    give_up("no notification socket: " + std::string(std::strerror(errno)));
  }
}

Daemon::~Daemon() {
  if (failpoints_) {
    for (unsigned rule = 0; rule < base::kFailpointRules; ++rule) failpoints_->disarm_and_release(rule);
  }
  if (process_.running()) process_.kill();
  std::error_code ignored;
  std::filesystem::remove_all(directory_, ignored);
}

std::vector<std::string> Daemon::arguments() const {
  return {daemon_path(), "--store", store_, "--socket", socket_, "--config", configuration_path_};
}

void Daemon::start_without_waiting() {
  if (process_.running()) give_up("the daemon runs already");
  char left[256];
  while (::recv(notify_.get(), left, sizeof left, 0) >= 0) {
  }
  std::vector<std::string> environment = options_.environment;
  environment.push_back("NOTIFY_SOCKET=" + directory_ + "/notify");
  std::vector<std::string> line = launcher_;
  for (std::string& argument : arguments()) line.push_back(std::move(argument));
  process_ = Process::execute(line, environment, log_path_);
}

bool Daemon::wait_ready(const base::Deadline& deadline) {
  for (;;) {
    char text[256];
    const ssize_t got = ::recv(notify_.get(), text, sizeof text - 1, 0);
    if (got >= 0) {
      text[got] = '\0';
      if (std::strstr(text, "READY=1") != nullptr) return true;
      continue;
    }
    if (errno != EAGAIN && errno != EINTR) give_up("recv: " + std::string(std::strerror(errno)));
    pollfd wanted[2] = {{.fd = notify_.get(), .events = POLLIN, .revents = 0},
                        {.fd = process_.pidfd(), .events = POLLIN, .revents = 0}};
    const uint64_t left_ns = deadline.left_ns();
    const timespec left{.tv_sec = static_cast<time_t>(left_ns / base::kNsPerSecond),
                        .tv_nsec = static_cast<long>(left_ns % base::kNsPerSecond)};
    const int ready = ::ppoll(wanted, 2, &left, nullptr);
    if (ready == 0) return false;
    if (ready > 0 && wanted[0].revents == 0 && wanted[1].revents != 0) return false;
  }
}

void Daemon::start() {
  start_without_waiting();
  if (wait_ready(base::Deadline::after_ns(kPatienceNs))) return;
  Process::End end;
  const bool ended = process_.wait_until(base::Deadline::after_ns(0), end);
  give_up("the daemon did not become ready: " + (ended ? text_of(end) : std::string("it still runs")) + "; it said:\n" + log());
}

Process::End Daemon::stop() {
  process_.signal(SIGTERM);
  return process_.wait();
}

void Daemon::kill() { process_.kill(); }

void Daemon::restart() {
  kill();
  start();
}

void Daemon::stop_and_start() {
  if (const Process::End end = stop(); end != exit_code(0))
    give_up("the daemon's stop: " + text_of(end) + "; it said:\n" + log());
  start();
}

Failpoints& Daemon::failpoints() {
  if (!failpoints_) give_up("this store was made without failpoints");
  return *failpoints_;
}

std::string Daemon::log() const {
  std::ifstream file(log_path_);
  std::string text{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  constexpr size_t kTailBytes = 4000;
  return text.size() <= kTailBytes ? text : text.substr(text.size() - kTailBytes);
}

int Daemon::try_open(warm_client** ret_client, uint32_t timeout_ms) const {
  warm_options options = WARM_OPTIONS_INIT;
  options.timeout_ms = timeout_ms;
  options.socket = socket_.c_str();
  return warm_open(&options, ret_client);
}

warm_client* Daemon::open(uint32_t timeout_ms) const {
  warm_client* client = nullptr;
  if (const int code = try_open(&client, timeout_ms); code != WARM_OK) {
    give_up(std::string("warm_open: ") + warm_error_name(code) + ": " + warm_last_error() + "; the daemon said:\n" + log());
  }
  return client;
}

warm_stats stats_of(warm_client* client) {
  warm_stats stats = WARM_STATS_INIT;
  if (const int code = warm_stats_get(client, &stats); code != WARM_OK)
    give_up(std::string("warm_stats_get: ") + warm_last_error());
  return stats;
}

warm_stats await_stats(warm_client* client, const char* what, const std::function<bool(const warm_stats&)>& holds) {
  const base::Deadline deadline = base::Deadline::after_ns(kPatienceNs);
  for (;;) {
    const warm_stats stats = stats_of(client);
    if (holds(stats)) return stats;
    if (deadline.passed()) give_up(std::string("the statistics never said: ") + what);
    // Sequences alone wake who sleeps on them; the other numbers wake nobody.
    const timespec pause{.tv_sec = 0, .tv_nsec = 1'000'000};
    ::nanosleep(&pause, nullptr);
  }
}

}  // namespace warmtier::tests::support
