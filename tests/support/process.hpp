// Processes that a test starts, watched through pidfds, and memory that they share with the test.
#pragma once

#include <sys/mman.h>
#include <sys/types.h>

#include <atomic>
#include <functional>
#include <memory>
#include <new>
#include <string>
#include <vector>

#include "base/clock.hpp"
#include "base/fd.hpp"
#include "tests/support/trouble.hpp"

namespace warmtier::tests::support {

// Long enough for a sanitizer build on a busy machine; a test that waits so long has failed.
constexpr uint64_t kPatienceNs = 60 * base::kNsPerSecond;

class Process {
 public:
  struct End {
    bool exited = false;  // else killed by the signal `code`
    int code = 0;
    bool operator==(const End&) const = default;
  };

  Process() noexcept = default;
  // Runs `body` in a fork; its value is the exit code. The child dies with the thread that forked it, never asserts, and never
  // runs the parent's exit handlers.
  static Process fork(const std::function<int()>& body);
  // Runs a program with its standard output and error in the file `log`.
  static Process execute(const std::vector<std::string>& arguments, const std::vector<std::string>& environment,
                         const std::string& log);
  Process(Process&& other) noexcept = default;
  Process& operator=(Process&& other) noexcept;
  ~Process();  // killed and reaped if it still runs

  [[nodiscard]] bool running() const noexcept { return static_cast<bool>(pidfd_); }
  [[nodiscard]] pid_t pid() const noexcept { return pid_; }
  [[nodiscard]] int pidfd() const noexcept { return pidfd_.get(); }
  void signal(int number) const;
  // False at the deadline.
  [[nodiscard]] bool wait_until(const base::Deadline& deadline, End& ret_end);
  // Gives the test up at the deadline.
  End wait();
  End kill();
  // Stopped (SIGSTOP), as the kernel says, not as we asked.
  void stop();
  void resume() const;

 private:
  base::Fd pidfd_;
  pid_t pid_ = -1;
};

constexpr Process::End exit_code(int code) { return {.exited = true, .code = code}; }
constexpr Process::End killed_by(int signal) { return {.exited = false, .code = signal}; }
std::string text_of(const Process::End& end);

// A value in memory that forks share.
template <typename T>
class Shared {
 public:
  Shared() {
    void* memory = ::mmap(nullptr, sizeof(T), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) give_up("no memory to share with children");
    value_ = new (memory) T();
  }
  ~Shared() { ::munmap(value_, sizeof(T)); }
  Shared(const Shared&) = delete;
  Shared& operator=(const Shared&) = delete;
  T* operator->() const noexcept { return value_; }
  T& operator*() const noexcept { return *value_; }

 private:
  T* value_;
};

// A step counter that processes wait on: what a test says with it instead of sleeping.
class Steps {
 public:
  void advance() noexcept;
  [[nodiscard]] uint32_t now() const noexcept { return count_.load(std::memory_order_acquire); }
  // False at the deadline.
  [[nodiscard]] bool wait_for(uint32_t at_least, const base::Deadline& deadline) noexcept;
  // For the parent: gives the test up at the deadline.
  void await(uint32_t at_least, const char* what);

 private:
  std::atomic<uint32_t> count_{0};
};

// Waits while `word` is `value`, until the deadline. For words in shared maps.
void futex_wait(const std::atomic<uint32_t>& word, uint32_t value, const base::Deadline& deadline) noexcept;
void futex_wake_all(std::atomic<uint32_t>& word) noexcept;

// The main thread of a process (0: the calling thread) runs on this processor only, if the host has so many. Lanes are chosen by
// processor: whoever runs on the same one comes to the same lane first.
void pin_to_processor(unsigned processor, pid_t of = 0);

// This process goes on as another user, and /proc/self is its own again. For a child of root; false: it may not.
bool become(uid_t uid, gid_t gid, const std::vector<gid_t>& more_groups = {});

// utime + stime of a process, in ms (clock ticks are 10 ms).
uint64_t cpu_time_ms(pid_t pid);

}  // namespace warmtier::tests::support
