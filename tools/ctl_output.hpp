// Bytes on their way to a descriptor, in pieces of a megabyte. The first failure is kept; what comes after it is dropped.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/fd.hpp"

namespace warmtier::tools {

class Output {
 public:
  // The descriptor stays the caller's; `name` is for messages.
  Output(int fd, std::string name) : fd_(fd), name_(std::move(name)) {}
  Output(const Output&) = delete;
  Output& operator=(const Output&) = delete;

  // What is appended here is written at the next settle().
  std::string& text() { return text_; }
  void add(std::string_view bytes);
  // Writes when there is enough of it.
  void settle() {
    if (text_.size() >= kPieceBytes) write_out();
  }
  base::Status finish();
  [[nodiscard]] bool failed() const { return !status_; }

 private:
  static constexpr size_t kPieceBytes = size_t{1} << 20;
  void write_out();

  int fd_;
  std::string name_;
  std::string text_;
  base::Status status_;
};

}  // namespace warmtier::tools
