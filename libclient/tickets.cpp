#include "libclient/tickets.hpp"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <array>
#include <bit>
#include <cerrno>
#include <mutex>
#include <utility>

#include "base/failpoint.hpp"
#include "libclient/client.hpp"
#include "libclient/requests.hpp"

namespace warmtier::libclient {
namespace {

constexpr uint32_t kSlots = WARM_TICKETS_MAX;
constexpr uint32_t kSlotBits = 8;
static_assert(kSlots == 1U << kSlotBits && kSlots <= layout::kCellsPerSession);

// A client whose daemon is away looks for it so often, and each time for so long at most.
constexpr uint64_t kLookNs = 20 * base::kNsPerMs;

}  // namespace

struct Tickets::Slot {
  warm_ticket ticket = 0;  // 0: free, or not handed in yet
  Request request;
  bool done = false;  // the answer was taken out of its cell
  warm_result result{};
};

struct Tickets::Slots {
  std::array<Slot, kSlots> slots;
  std::array<uint64_t, kSlots / 64> used{};

  // Until `visit` says false. A ticket that is in use.
  template <typename Visit>
  void for_each_open(Visit&& visit) {
    for (uint32_t word = 0; word < used.size(); ++word) {
      for (uint64_t left = used[word]; left != 0; left &= left - 1) {
        Slot& slot = slots[word * 64 + static_cast<uint32_t>(std::countr_zero(left))];
        if (slot.ticket != 0 && !visit(slot)) return;
      }
    }
  }
  std::optional<uint32_t> take() noexcept {
    for (uint32_t word = 0; word < used.size(); ++word) {
      if (~used[word] == 0) continue;
      const auto bit = static_cast<uint32_t>(std::countr_one(used[word]));
      used[word] |= uint64_t{1} << bit;
      return word * 64 + bit;
    }
    return std::nullopt;
  }
  void free(Slot& slot) noexcept {
    slot.request.give_back();
    slot.ticket = 0;
    slot.done = false;
    const auto index = static_cast<uint32_t>(&slot - slots.data());
    used[index / 64] &= ~(uint64_t{1} << index % 64);
  }
};

struct Tickets::Signals {
  base::Fd epoll;
  base::Fd kick;
  base::Fd timer;
  std::shared_ptr<Connection> watched;  // its socket is in the epoll, and stays open so long

  void watch(std::shared_ptr<Connection> connection) {
    if (watched == connection) return;
    if (watched != nullptr) ::epoll_ctl(epoll.get(), EPOLL_CTL_DEL, watched->socket.get(), nullptr);
    watched = std::move(connection);
    if (watched == nullptr) return;
    epoll_event event{};
    event.events = EPOLLIN | EPOLLRDHUP;
    if (::epoll_ctl(epoll.get(), EPOLL_CTL_ADD, watched->socket.get(), &event) != 0) watched.reset();
  }
  void clear() const noexcept {
    uint64_t count = 0;
    // Neither blocks: they were made so.
    (void)!::read(kick.get(), &count, sizeof count);   // NOLINT(clang-analyzer-unix.BlockInCriticalSection)
    (void)!::read(timer.get(), &count, sizeof count);  // NOLINT(clang-analyzer-unix.BlockInCriticalSection)
  }
  void set_timer(uint64_t ns) const noexcept {
    const itimerspec when{.it_interval = {}, .it_value = timespec_of(ns)};
    ::timerfd_settime(timer.get(), 0, &when, nullptr);
  }
};

Tickets::Tickets(ClientState& state) : state_(state), first_ticket_(next_identity() << kSlotBits) {}
Tickets::~Tickets() = default;

base::Result<warm_ticket> Tickets::hand_in(ThreadRecord& me, OutgoingRequest& outgoing, Patience& patience) {
  std::optional<uint32_t> index;
  {
    const std::lock_guard lock(mutex_);
    if (slots_ == nullptr) slots_ = std::make_unique<Slots>();
    index = slots_->take();
  }
  if (!index) return base::fail(WARM_E_LIMIT, "%u tickets are open, more are not possible: harvest some", kSlots);
  Slot& slot = slots_->slots[*index];
  const auto give_up = [&] {
    const std::lock_guard lock(mutex_);
    slots_->free(slot);
  };
  try {
    auto request = submit(state_, me, outgoing, patience);
    if (!request) {
      give_up();
      return base::pass(std::move(request));
    }
    const std::lock_guard lock(mutex_);
    slot.request = std::move(*request);
    slot.ticket = next_identity() << kSlotBits | *index;
    return slot.ticket;
  } catch (...) {
    give_up();
    throw;
  }
}

base::Result<Tickets::Slot*> Tickets::open_slot(warm_ticket ticket) {
  if (ticket < first_ticket_) {
    return base::fail(WARM_E_STALE, "ticket %lu is from before a fork, or none of this client", ticket);
  }
  Slot* slot = slots_ == nullptr ? nullptr : &slots_->slots[ticket % kSlots];
  if (slot == nullptr || slot->ticket != ticket) {
    return base::fail(WARM_E_INVALID, "ticket %lu is not open: it was harvested, or is none of this client", ticket);
  }
  return slot;
}

std::optional<warm_result> Tickets::harvest(Slot& slot) {
  if (slot.done) {
    const warm_result result = slot.result;
    slots_->free(slot);
    state_.part_if_any();
    return result;
  }
  const Link& link = slot.request.link();
  const bool over = link.over();  // first: no answer comes after it
  warm_result result{.code = WARM_E_UNKNOWN, .reserved = 0, .sequence = 0};
  if (slot.request.answered()) {
    result = result_of(slot.request.answer());
  } else if (!over) {
    return std::nullopt;
  }
  slots_->free(slot);
  state_.part_if_former(link);
  return result;
}

// A daemon that was restarted is attached to again; one that is away is not waited for.
void Tickets::look_after_daemon(ThreadRecord& me) {
  state_.enter(me);
  const Attachment* a = state_.attachment.load(std::memory_order_acquire);
  const bool current = a != nullptr && a->current();
  ClientState::leave(me);
  if (!current) {
    // It decides nothing here: the ticket stays open.
    [[maybe_unused]] const auto back =
        state_.refresh(ClientState::Need::daemon, base::Deadline::after_ns(std::min(state_.timeout_ns, base::kNsPerSecond)));
  }
  state_.send_large_again();
}

base::Result<std::optional<warm_result>> Tickets::poll(warm_ticket ticket) {
  ThreadRecord& me = state_.thread();
  {
    const std::lock_guard lock(mutex_);
    auto slot = open_slot(ticket);
    if (!slot) return base::pass(std::move(slot));
    if (auto result = harvest(**slot)) return result;
  }
  look_after_daemon(me);
  return std::nullopt;
}

base::Result<std::optional<warm_result>> Tickets::wait(warm_ticket ticket, Patience& patience) {
  ThreadRecord& me = state_.thread();
  Awaited awaited;
  {
    const std::lock_guard lock(mutex_);
    auto slot = open_slot(ticket);
    if (!slot) return base::pass(std::move(slot));
    if (auto result = harvest(**slot)) return result;
    awaited = (*slot)->request.awaited();
  }
  (void)wait_for(state_, me, awaited, patience);
  const std::lock_guard lock(mutex_);
  auto slot = open_slot(ticket);  // another thread may have harvested it
  if (!slot) return base::pass(std::move(slot));
  return harvest(**slot);
}

size_t Tickets::collect(std::span<warm_completion> ret_completions) {
  if (slots_ == nullptr || ret_completions.empty()) return 0;
  size_t count = 0;
  slots_->for_each_open([&](Slot& slot) {
    const warm_ticket ticket = slot.ticket;
    if (auto result = harvest(slot)) ret_completions[count++] = {.ticket = ticket, .result = *result};
    return count < ret_completions.size();
  });
  return count;
}

base::Result<size_t> Tickets::completions(std::span<warm_completion> ret_completions) {
  ThreadRecord& me = state_.thread();
  {
    const std::lock_guard lock(mutex_);
    if (const size_t count = collect(ret_completions); count != 0) return count;
    if (signals_ != nullptr) {
      arm(me);
      return WARM_RULE("client.notify_then_look") ? collect(ret_completions) : 0;
    }
  }
  look_after_daemon(me);
  const std::lock_guard lock(mutex_);
  return collect(ret_completions);
}

// Nothing is finished. From here on the descriptor becomes readable with the next answer. What it shows now is taken away: what
// lies on the socket, the kick, the timer.
void Tickets::arm(ThreadRecord& me) {
  signals_->clear();
  std::shared_ptr<Connection> connection;
  Link* link = nullptr;
  const auto look = [&] {
    state_.enter(me);
    if (const Attachment* a = state_.attachment.load(std::memory_order_acquire); a != nullptr) {
      link = a->link;
      connection = a->connection;
      if (!a->current() || connection->gone.load(std::memory_order_acquire) || layout::load_acquire(a->status->stopping) != 0) {
        connection.reset();
      }
    }
    ClientState::leave(me);
  };
  // False: another thread has it, and is perhaps at it for long: a daemon is away, or was.
  const bool drained = state_.drain_without_waiting();
  look();
  if (drained && connection == nullptr) {
    [[maybe_unused]] const auto back = state_.refresh(ClientState::Need::daemon, base::Deadline::after_ns(kLookNs));
    look();
  }
  if (!drained) connection.reset();
  state_.send_large_again();
  bool any = false;
  bool elsewhere = false;  // in a former session, whose answers nobody is told of
  if (slots_ != nullptr) {
    slots_->for_each_open([&](const Slot& slot) {
      any = true;
      elsewhere |= !slot.done && &slot.request.link() != link;
      return true;
    });
  }
  signals_->watch(std::move(connection));
  signals_->set_timer((signals_->watched == nullptr && any) || elsewhere ? kLookNs : 0);
  WARM_STEP("client.notify_before");
  if (link != nullptr) layout::store_relaxed(link->region().notify, 1);
  WARM_STEP("client.notify_set");
  layout::fence_full();
}

base::Result<int> Tickets::completion_fd() {
  const std::lock_guard lock(mutex_);
  if (signals_ == nullptr) {
    auto made = std::make_unique<Signals>();
    made->epoll.reset(::epoll_create1(EPOLL_CLOEXEC));
    made->kick.reset(::eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK));  // readable: who waits before it asks finds out
    made->timer.reset(::timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK));
    if (!made->epoll || !made->kick || !made->timer) return base::fail_errno(errno, "make a descriptor for completions");
    for (const int fd : {made->kick.get(), made->timer.get()}) {
      epoll_event event{};
      event.events = EPOLLIN;
      if (::epoll_ctl(made->epoll.get(), EPOLL_CTL_ADD, fd, &event) != 0) return base::fail_errno(errno, "epoll_ctl");
    }
    signals_ = std::move(made);
    kick_.store(signals_->kick.get(), std::memory_order_release);
  }
  return signals_->epoll.get();
}

void Tickets::settle_answered() {
  const std::lock_guard lock(mutex_);
  if (slots_ == nullptr) return;
  slots_->for_each_open([](Slot& slot) {
    if (!slot.done && slot.request.answered()) {
      slot.result = result_of(slot.request.answer());
      slot.done = true;
      slot.request.give_back();
    }
    return true;
  });
}

void Tickets::kick() noexcept {
  const int fd = kick_.load(std::memory_order_acquire);
  if (fd < 0) return;
  const uint64_t one = 1;
  (void)!::write(fd, &one, sizeof one);  // it can only be full, and readable then
}

}  // namespace warmtier::libclient
