#include "tools/child.hpp"

#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstdlib>
#include <cstring>
#include <utility>

// glibc 2.36 has no P_PIDFD in <sys/wait.h>.
namespace {
constexpr auto kByPidfd = static_cast<idtype_t>(3);
}

namespace warmtier::tools {
namespace {

constexpr int kExecFailed = 127;

// In the child, before it does anything: it goes when its parent goes, and a terminal's Ctrl-C is the parent's to handle.
void settle_child(pid_t parent) noexcept {
  ::setsid();
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != parent) ::_exit(kExecFailed);
  sigset_t none;
  ::sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
}

}  // namespace

Child& Child::operator=(Child&& other) noexcept {
  if (this != &other) {
    Child old(std::move(*this));
    pidfd_ = std::move(other.pidfd_);
    pid_ = std::exchange(other.pid_, -1);
  }
  return *this;
}

Child::~Child() {
  if (!running()) return;
  signal(SIGKILL);
  End end;
  wait(base::Deadline::never(), end);
}

base::Result<Child> Child::fork(const std::function<int()>& body) {
  const pid_t parent = ::getpid();
  Child child;
  child.pid_ = ::fork();
  if (child.pid_ < 0) return base::fail_errno(errno, "fork");
  if (child.pid_ == 0) {
    settle_child(parent);
    // Buffers and objects of the parent are the parent's to flush and to destroy.
    ::_exit(body());
  }
  child.pidfd_.reset(static_cast<int>(::syscall(SYS_pidfd_open, child.pid_, 0)));
  if (!child.pidfd_) {
    const int error = errno;
    ::kill(child.pid_, SIGKILL);
    ::waitpid(child.pid_, nullptr, 0);
    return base::fail_errno(error, "pidfd_open");
  }
  return child;
}

base::Result<Child> Child::execute(const std::vector<std::string>& arguments, const std::vector<std::string>& environment,
                                   const base::Fd& output) {
  return fork([&] {
    if (::dup2(output.get(), STDOUT_FILENO) < 0 || ::dup2(output.get(), STDERR_FILENO) < 0) return kExecFailed;
    for (const std::string& variable : environment) ::putenv(const_cast<char*>(variable.c_str()));
    std::vector<char*> pointers;
    pointers.reserve(arguments.size() + 1);
    for (const std::string& argument : arguments) pointers.push_back(const_cast<char*>(argument.c_str()));
    pointers.push_back(nullptr);
    ::execv(pointers[0], pointers.data());
    ::dprintf(STDERR_FILENO, "%s: %s\n", pointers[0], std::strerror(errno));
    return kExecFailed;
  });
}

void Child::signal(int number) const noexcept {
  if (running()) ::syscall(SYS_pidfd_send_signal, pidfd_.get(), number, nullptr, 0);
}

bool Child::wait(const base::Deadline& deadline, End& ret_end) {
  for (;;) {
    const uint64_t left_ns = deadline.left_ns();
    const uint64_t left_ms = left_ns / base::kNsPerMs + (left_ns % base::kNsPerMs != 0 ? 1 : 0);
    pollfd one{pidfd_.get(), POLLIN, 0};
    const int ready = ::poll(&one, 1, static_cast<int>(std::min<uint64_t>(left_ms, INT_MAX)));
    if (ready > 0) break;
    if (ready == 0 && deadline.passed()) return false;
  }
  siginfo_t info{};
  int result = 0;
  do {
    result = ::waitid(kByPidfd, static_cast<id_t>(pidfd_.get()), &info, WEXITED);
  } while (result < 0 && errno == EINTR);
  ret_end = {.exited = result == 0 && info.si_code == CLD_EXITED, .code = info.si_status};
  pidfd_.reset();
  return true;
}

std::string Child::text_of(const End& end) {
  return (end.exited ? "exit code " : "killed by signal ") + std::to_string(end.code);
}

}  // namespace warmtier::tools
