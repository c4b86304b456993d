#include "tests/support/process.hpp"

#include <fcntl.h>
#include <grp.h>
#include <linux/futex.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <sstream>

namespace warmtier::tests::support {
namespace {

base::Fd open_pidfd(pid_t pid) {
  const int fd = static_cast<int>(::syscall(SYS_pidfd_open, pid, 0));
  if (fd < 0) give_up("pidfd_open: " + std::string(std::strerror(errno)));
  return base::Fd(fd);
}

// A child dies with its parent, also if that ended between fork and here. The first process of a PID namespace sees no parent.
void die_with(pid_t parent) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != parent && ::getpid() != 1) ::_exit(127);
}

}  // namespace

void give_up(const std::string& what) {
  std::fprintf(stderr, "test support gives up: %s\n", what.c_str());
  std::fflush(nullptr);
  std::abort();
}

void require(bool holds, const char* format, ...) {
  if (holds) return;
  va_list arguments;
  va_start(arguments, format);
  std::vfprintf(stderr, format, arguments);
  va_end(arguments);
  std::fputc('\n', stderr);
  std::fflush(nullptr);
  ::_exit(1);
}

std::string text_of(const Process::End& end) {
  return (end.exited ? "exit code " : "killed by signal ") + std::to_string(end.code);
}

Process Process::fork(const std::function<int()>& body) {
  std::fflush(nullptr);
  const pid_t parent = ::getpid();
  const pid_t pid = ::fork();
  if (pid < 0) give_up("fork: " + std::string(std::strerror(errno)));
  if (pid == 0) {
    // A crash of the child is a signal for the parent, not a report of the test runner's handlers.
    for (const int number : {SIGSEGV, SIGBUS, SIGABRT, SIGILL, SIGFPE, SIGTERM, SIGCHLD}) ::signal(number, SIG_DFL);
    die_with(parent);
    const int code = body();
    std::fflush(nullptr);
    ::_exit(code);
  }
  Process process;
  process.pid_ = pid;
  process.pidfd_ = open_pidfd(pid);
  return process;
}

Process Process::execute(const std::vector<std::string>& arguments, const std::vector<std::string>& environment,
                         const std::string& log) {
  std::vector<char*> argv;
  for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  return fork([&] {
    for (const std::string& variable : environment) {
      const size_t equals = variable.find('=');
      ::setenv(variable.substr(0, equals).c_str(), variable.substr(equals + 1).c_str(), 1);
    }
    const int fd = ::open(log.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
    const int nothing = ::open("/dev/null", O_RDONLY);
    if (fd < 0 || nothing < 0) return 127;
    ::dup2(nothing, 0);
    ::dup2(fd, 1);
    ::dup2(fd, 2);
    // Nothing of the test's own may keep a file or a socket of the store open in the program.
    ::syscall(SYS_close_range, 3, UINT_MAX, 0);
    sigset_t none;
    ::sigemptyset(&none);
    ::sigprocmask(SIG_SETMASK, &none, nullptr);
    ::execv(argv[0], argv.data());
    std::fprintf(stderr, "%s: %s\n", argv[0], std::strerror(errno));
    return 127;
  });
}

Process& Process::operator=(Process&& other) noexcept {
  if (this != &other) {
    if (running()) kill();
    pidfd_ = std::move(other.pidfd_);
    pid_ = other.pid_;
  }
  return *this;
}

Process::~Process() {
  if (running()) kill();
}

void Process::signal(int number) const {
  if (running()) ::syscall(SYS_pidfd_send_signal, pidfd_.get(), number, nullptr, 0);
}

bool Process::wait_until(const base::Deadline& deadline, End& ret_end) {
  for (;;) {
    pollfd poll{.fd = pidfd_.get(), .events = POLLIN, .revents = 0};
    const uint64_t left_ns = deadline.left_ns();
    const timespec left{.tv_sec = static_cast<time_t>(std::min<uint64_t>(left_ns / base::kNsPerSecond, 1'000'000)),
                        .tv_nsec = static_cast<long>(left_ns % base::kNsPerSecond)};
    const int ready = ::ppoll(&poll, 1, &left, nullptr);
    if (ready > 0) break;
    if (ready == 0) return false;
    if (errno != EINTR) give_up("ppoll: " + std::string(std::strerror(errno)));
  }
  siginfo_t info{};
  while (::waitid(P_PIDFD, static_cast<id_t>(pidfd_.get()), &info, WEXITED) != 0) {
    if (errno != EINTR) give_up("waitid: " + std::string(std::strerror(errno)));
  }
  pidfd_.reset();
  ret_end = {.exited = info.si_code == CLD_EXITED, .code = info.si_status};
  return true;
}

Process::End Process::wait() {
  End end;
  if (!wait_until(base::Deadline::after_ns(kPatienceNs), end)) {
    give_up("process " + std::to_string(pid_) + " did not end");
  }
  return end;
}

Process::End Process::kill() {
  signal(SIGKILL);
  return wait();
}

void Process::stop() {
  signal(SIGSTOP);
  siginfo_t info{};
  while (::waitid(P_PIDFD, static_cast<id_t>(pidfd_.get()), &info, WSTOPPED | WNOWAIT) != 0) {
    if (errno != EINTR) give_up("waitid for a stop: " + std::string(std::strerror(errno)));
  }
}

void Process::resume() const { signal(SIGCONT); }

void Steps::advance() noexcept {
  count_.fetch_add(1, std::memory_order_acq_rel);
  futex_wake_all(count_);
}

bool Steps::wait_for(uint32_t at_least, const base::Deadline& deadline) noexcept {
  for (;;) {
    const uint32_t seen = now();
    if (static_cast<int32_t>(seen - at_least) >= 0) return true;
    if (deadline.passed()) return false;
    futex_wait(count_, seen, deadline);
  }
}

void Steps::await(uint32_t at_least, const char* what) {
  if (!wait_for(at_least, base::Deadline::after_ns(kPatienceNs))) give_up(std::string("waited in vain: ") + what);
}

void futex_wait(const std::atomic<uint32_t>& word, uint32_t value, const base::Deadline& deadline) noexcept {
  const uint64_t left_ns = deadline.left_ns();
  const timespec left{.tv_sec = static_cast<time_t>(std::min<uint64_t>(left_ns / base::kNsPerSecond, 1'000'000)),
                      .tv_nsec = static_cast<long>(left_ns % base::kNsPerSecond)};
  ::syscall(SYS_futex, &word, FUTEX_WAIT, value, &left, nullptr, 0);
}

void futex_wake_all(std::atomic<uint32_t>& word) noexcept {
  ::syscall(SYS_futex, &word, FUTEX_WAKE, INT_MAX, nullptr, nullptr, 0);
}

void pin_to_processor(unsigned processor, pid_t of) {
  cpu_set_t allowed;
  CPU_ZERO(&allowed);
  if (::sched_getaffinity(of, sizeof allowed, &allowed) != 0) return;
  unsigned seen = 0;
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (!CPU_ISSET(cpu, &allowed)) continue;
    if (seen++ != processor % static_cast<unsigned>(CPU_COUNT(&allowed))) continue;
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    ::sched_setaffinity(of, sizeof one, &one);
    return;
  }
}

bool become(uid_t uid, gid_t gid, const std::vector<gid_t>& more_groups) {
  const pid_t parent = ::getppid();
  if (::setgroups(more_groups.size(), more_groups.data()) != 0 || ::setresgid(gid, gid, gid) != 0 ||
      ::setresuid(uid, uid, uid) != 0)
    return false;
  die_with(parent);  // the kernel forgets it with the credentials
  return ::prctl(PR_SET_DUMPABLE, 1) == 0;
}

uint64_t cpu_time_ms(pid_t pid) {
  std::ifstream file("/proc/" + std::to_string(pid) + "/stat");
  std::string text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  // The name may hold blanks and brackets: count fields from the last bracket on.
  const size_t bracket = text.rfind(')');
  if (bracket == std::string::npos) give_up("no /proc/PID/stat");
  std::istringstream fields(text.substr(bracket + 2));
  std::string skipped;
  for (int i = 0; i < 11; ++i) fields >> skipped;
  uint64_t user = 0;
  uint64_t system = 0;
  fields >> user >> system;
  return (user + system) * 1000 / static_cast<uint64_t>(::sysconf(_SC_CLK_TCK));
}

}  // namespace warmtier::tests::support
