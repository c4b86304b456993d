// What processes did to a few ids and what they were told, kept outside of the store: each process writes into a file of its own
// that is mapped, so that what it did until it was killed is there.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>
#include <vector>

namespace warmtier::tests::linear {

enum class Kind : uint32_t { put, remove, update, get, scalars, exists };

enum class Condition : uint32_t { any, absent, record };

// Numbers are given once in a history, so that what is read says which operation stored it. 0: nothing.
struct Operation {
  uint64_t begin_ns = 0;
  uint64_t end_ns = 0;  // 0: it never returned
  uint64_t sequence = 0;  // of a change that was acknowledged; of a get, the record's
  Kind kind = Kind::get;
  Condition condition = Condition::any;
  uint32_t key = 0;
  uint32_t number = 0;  // that a put or update stores
  uint32_t record = 0;  // the put's number: what a condition names, or what a get showed
  uint32_t seen = 0;    // what get and scalars showed: the number of the put or of the last update
  int32_t code = 0;     // as the C ABI says it
};

class Recorder {
 public:
  // Gives the test up where there is no room for the file.
  Recorder(const std::string& path, uint32_t capacity);
  ~Recorder();
  Recorder(const Recorder&) = delete;
  Recorder& operator=(const Recorder&) = delete;

  [[nodiscard]] bool full() const noexcept { return head_->count.load(std::memory_order_relaxed) == head_->capacity; }
  // Before the call is made; what `end` does not come to has no answer.
  Operation& begin(const Operation& operation) noexcept;
  static void end(Operation& operation) noexcept;
  [[nodiscard]] std::vector<Operation> operations() const;

 private:
  struct alignas(Operation) Head {
    uint32_t capacity;
    std::atomic<uint32_t> count;
  };
  Head* head_;
  Operation* operations_;
  size_t bytes_;
};

}  // namespace warmtier::tests::linear
