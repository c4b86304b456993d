#include "base/failpoint.hpp"

#include <fcntl.h>
#include <linux/futex.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <climits>
#include <cstdlib>
#include <cstring>

namespace warmtier::base {
namespace {

std::atomic<FailpointControl*> attached{nullptr};
std::atomic<bool> looked{false};

FailpointControl* control() noexcept {
  if (!looked.load(std::memory_order_acquire)) {
    const char* path = std::getenv("WARMTIER_FAILPOINTS");
    if (path != nullptr && attached.load(std::memory_order_acquire) == nullptr) {
      const int fd = ::open(path, O_RDWR | O_CLOEXEC);
      if (fd >= 0) {
        void* map = ::mmap(nullptr, sizeof(FailpointControl), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        ::close(fd);
        if (map != MAP_FAILED) attached.store(static_cast<FailpointControl*>(map), std::memory_order_release);
      }
    }
    looked.store(true, std::memory_order_release);
  }
  return attached.load(std::memory_order_acquire);
}

long futex(std::atomic<uint32_t>* word, int operation, uint32_t value) noexcept {
  return ::syscall(SYS_futex, word, operation, value, nullptr, nullptr, 0);
}

void apply(FailpointRule& rule, FailpointAction action) noexcept {
  rule.hits.fetch_add(1, std::memory_order_acq_rel);
  uint32_t skip = rule.skip.load(std::memory_order_acquire);
  while (skip > 0) {
    if (rule.skip.compare_exchange_weak(skip, skip - 1, std::memory_order_acq_rel)) return;
  }
  if (action == FailpointAction::kill) {
    ::kill(::getpid(), SIGKILL);
    for (;;) ::pause();
  }
  if (action == FailpointAction::pause) {
    const uint32_t mine = rule.arrived.fetch_add(1, std::memory_order_acq_rel) + 1;
    futex(&rule.arrived, FUTEX_WAKE, INT_MAX);
    for (;;) {
      const uint32_t released = rule.released.load(std::memory_order_acquire);
      if (static_cast<int32_t>(released - mine) >= 0) return;
      futex(&rule.released, FUTEX_WAIT, released);
    }
  }
}

// The armed rules that concern this point in this thread.
template <typename Visit>
void for_each_rule_of(const char* name, Visit&& visit) noexcept {
  FailpointControl* all = control();
  if (all == nullptr) return;
  for (FailpointRule& rule : all->rules) {
    const auto action = static_cast<FailpointAction>(rule.action.load(std::memory_order_acquire));
    if (action == FailpointAction::none) continue;
    if (std::strncmp(rule.name, name, sizeof rule.name) != 0) continue;
    const uint32_t owner = rule.owner.load(std::memory_order_acquire);
    if (owner != 0 && owner != static_cast<uint32_t>(::getpid()) && owner != static_cast<uint32_t>(::gettid())) continue;
    visit(rule, action);
  }
}

}  // namespace

void failpoint_attach(FailpointControl* control) noexcept {
  attached.store(control, std::memory_order_release);
  looked.store(true, std::memory_order_release);
}

void failpoint_hit(const char* name) noexcept {
  for_each_rule_of(name, [](FailpointRule& rule, FailpointAction action) { apply(rule, action); });
}

bool rule_holds(const char* name) noexcept {
  bool holds = true;
  for_each_rule_of(name, [&](FailpointRule& rule, FailpointAction action) {
    if (action != FailpointAction::omit) return;
    rule.hits.fetch_add(1, std::memory_order_acq_rel);
    holds = false;
  });
  return holds;
}

}  // namespace warmtier::base
