// Messages from one thread to another: a mutex, a vector and an eventfd, all of them private to this process. Nothing in it is
// reachable by a client.
//
// Thread law: post() and ring() by any thread; pending(), take() and event_fd() by the one receiver. Lock: `mutex_`, a leaf.
#pragma once

#include <sys/eventfd.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdint>
#include <mutex>
#include <utility>
#include <vector>

#include "base/error.hpp"
#include "base/fd.hpp"

namespace warmtier::daemon::session {

template <typename Message>
class Mailbox {
 public:
  base::Status open() {
    event_.reset(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    if (!event_) return base::fail_errno(errno, "eventfd");
    return {};
  }

  void post(Message message) {
    {
      const std::scoped_lock lock(mutex_);
      messages_.push_back(std::move(message));
      pending_.store(true, std::memory_order_release);
    }
    ring();
  }
  // Wakes the receiver without a message.
  void ring() noexcept {
    const uint64_t one = 1;
    // It can only fail when the counter is full: then it is readable already.
    if (::write(event_.get(), &one, sizeof one) < 0) return;
  }

  // Cheap enough for every round of a polling loop.
  [[nodiscard]] bool pending() const noexcept { return pending_.load(std::memory_order_acquire); }

  std::vector<Message> take() {
    uint64_t count = 0;
    if (::read(event_.get(), &count, sizeof count) < 0) count = 0;
    const std::scoped_lock lock(mutex_);
    pending_.store(false, std::memory_order_release);
    return std::exchange(messages_, {});
  }

  [[nodiscard]] int event_fd() const noexcept { return event_.get(); }

 private:
  base::Fd event_;
  std::mutex mutex_;
  std::atomic<bool> pending_{false};
  std::vector<Message> messages_;
};

}  // namespace warmtier::daemon::session
