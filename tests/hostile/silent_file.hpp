// A file of a file system in user space that, once it is open, answers nobody any more: whoever asks it anything, or closes it,
// waits.
#pragma once

#include <string>

#include "base/fd.hpp"

namespace warmtier::tests::hostile {

class SilentFile {
 public:
  // As root, before the process becomes somebody else: mounted at `directory` in a mount namespace of its own. Without /dev/fuse
  // there is none.
  explicit SilentFile(const std::string& directory);
  ~SilentFile();  // everybody who waits is let go
  SilentFile(const SilentFile&) = delete;
  SilentFile& operator=(const SilentFile&) = delete;

  [[nodiscard]] bool there() const noexcept { return static_cast<bool>(file_); }
  [[nodiscard]] base::Fd copy() const;

 private:
  // Before the file, so that a killed process closes it first: the server goes by it, and with the server all waiting.
  base::Fd alive_;
  base::Fd file_;
  pid_t server_ = -1;
};

}  // namespace warmtier::tests::hostile
