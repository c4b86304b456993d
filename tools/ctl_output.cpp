#include "tools/ctl_output.hpp"

#include <unistd.h>

#include <cerrno>

namespace warmtier::tools {

void Output::add(std::string_view bytes) {
  while (!bytes.empty()) {
    const std::string_view piece = bytes.substr(0, kPieceBytes);
    text_ += piece;
    bytes.remove_prefix(piece.size());
    settle();
  }
}

void Output::write_out() {
  for (std::string_view rest = text_; status_ && !rest.empty();) {
    const ssize_t wrote = ::write(fd_, rest.data(), rest.size());
    if (wrote >= 0) {
      rest.remove_prefix(static_cast<size_t>(wrote));
    } else if (errno != EINTR) {
      status_ = base::fail_errno(errno, "%s", name_.c_str());
    }
  }
  text_.clear();
}

base::Status Output::finish() {
  write_out();
  return status_;
}

}  // namespace warmtier::tools
