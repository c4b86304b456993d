#include "tools/ctl_progress.hpp"

#include <unistd.h>

#include <cstdio>
#include <string>

#include "base/clock.hpp"
#include "tools/ctl_text.hpp"

namespace warmtier::tools {
namespace {

constexpr uint64_t kRedrawNs = 100 * base::kNsPerMs;
constexpr uint64_t kCells = 40;

bool on_screen = false;

}  // namespace

Progress::Progress(const char* what, uint64_t all, bool quiet)
    : what_(what), all_(all), shown_(!quiet && ::isatty(STDERR_FILENO) != 0) {}

Progress::~Progress() { clear(); }

void Progress::clear() {
  if (on_screen) std::fputs("\r\033[K", stderr);
  on_screen = false;
}

void Progress::at(uint64_t done) {
  if (!shown_) return;
  const uint64_t now_ns = base::monotonic_ns();
  if (now_ns < next_ns_) return;
  next_ns_ = now_ns + kRedrawNs;
  if (all_ == 0) {
    std::fprintf(stderr, "\r\033[K%s %s", with_thousands(done).c_str(), what_);
  } else {
    const double share = done < all_ ? static_cast<double>(done) / static_cast<double>(all_) : 1.0;
    std::string bar(static_cast<size_t>(share * kCells), '#');
    bar.resize(kCells, '.');
    std::fprintf(stderr, "\r\033[K[%s] %3.0f %%  %s of %s %s", bar.c_str(), share * 100, with_thousands(done).c_str(),
                 with_thousands(all_).c_str(), what_);
  }
  on_screen = true;
}

}  // namespace warmtier::tools
