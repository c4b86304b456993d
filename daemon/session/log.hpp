// One line per event on standard error, with the journal's priority in front. Rare by construction: nothing that a client can
// repeat at will is logged at each repetition.
#pragma once

#include <cstdarg>
#include <cstdio>

namespace warmtier::daemon::session {

enum class Priority : int { error = 3, warning = 4, notice = 5, info = 6 };

[[gnu::format(printf, 2, 3)]] inline void log_line(Priority priority, const char* format, ...) {
  char text[1024];
  va_list args;
  va_start(args, format);
  std::vsnprintf(text, sizeof text, format, args);
  va_end(args);
  std::fprintf(stderr, "<%d>%s\n", static_cast<int>(priority), text);
}

}  // namespace warmtier::daemon::session
