// A bar on standard error while something takes long: on a terminal only, never in a pipe.
#pragma once

#include <cstdint>

namespace warmtier::tools {

class Progress {
 public:
  // `all` 0: nobody knows how much it is.
  Progress(const char* what, uint64_t all, bool quiet);
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;
  ~Progress();
  void at(uint64_t done);
  // Takes the bar from the screen, wherever one stands, so that a line can be written.
  static void clear();

 private:
  const char* what_;
  uint64_t all_;
  uint64_t next_ns_ = 0;
  bool shown_;
};

}  // namespace warmtier::tools
