#include "tests/support/report.hpp"

#include <time.h>

#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace warmtier::tests::support {

uint64_t number_of(const char* program, const std::string& option, const char* text) {
  uint64_t value = 0;
  const char* const end = text + std::strlen(text);
  const auto [stopped, error] = std::from_chars(text, end, value);
  if (error != std::errc() || stopped != end) {
    std::fprintf(stderr, "%s: %s wants a number, not \"%s\"\n", program, option.c_str(), text);
    std::exit(2);
  }
  return value;
}

std::string date_now() {
  char date[32] = {};
  const time_t now = ::time(nullptr);
  tm parts{};
  ::strftime(date, sizeof date, "%Y-%m-%dT%H:%M:%SZ", ::gmtime_r(&now, &parts));
  return date;
}

bool write_report(const std::string& text, const std::string& path) {
  std::fputs(text.c_str(), stdout);
  if (path.empty()) return true;
  FILE* file = std::fopen(path.c_str(), "w");
  const bool written = file != nullptr && std::fwrite(text.data(), 1, text.size(), file) == text.size();
  if (file == nullptr || std::fclose(file) != 0 || !written) {
    std::perror(path.c_str());
    return false;
  }
  return true;
}

}  // namespace warmtier::tests::support
