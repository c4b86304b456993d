#include "tests/linear/history.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/clock.hpp"
#include "base/fd.hpp"
#include "tests/support/trouble.hpp"

namespace warmtier::tests::linear {

Recorder::Recorder(const std::string& path, uint32_t capacity) : bytes_(sizeof(Head) + capacity * sizeof(Operation)) {
  const base::Fd file(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  if (!file || ::ftruncate(file.get(), static_cast<off_t>(bytes_)) != 0) support::give_up("no room for a history in " + path);
  void* const memory = ::mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_SHARED, file.get(), 0);
  if (memory == MAP_FAILED) support::give_up("no map of the history " + path);
  head_ = static_cast<Head*>(memory);
  head_->capacity = capacity;
  operations_ = reinterpret_cast<Operation*>(static_cast<char*>(memory) + sizeof(Head));
}

Recorder::~Recorder() { ::munmap(head_, bytes_); }

Operation& Recorder::begin(const Operation& operation) noexcept {
  const uint32_t place = head_->count.load(std::memory_order_relaxed);
  Operation& written = operations_[place];
  written = operation;
  written.end_ns = 0;
  written.begin_ns = base::monotonic_ns();
  head_->count.store(place + 1, std::memory_order_release);
  return written;
}

void Recorder::end(Operation& operation) noexcept {
  const uint64_t now = base::monotonic_ns();
  // Killed in between it has no answer, which says less than there was and nothing wrong.
  std::atomic_signal_fence(std::memory_order_seq_cst);
  operation.end_ns = now;
}

std::vector<Operation> Recorder::operations() const {
  const uint32_t count = head_->count.load(std::memory_order_acquire);
  return {operations_, operations_ + count};
}

}  // namespace warmtier::tests::linear
