#include "base/error.hpp"

#include <array>
#include <cerrno>
#include <cstdarg>
#include <cstdio>
#include <cstring>

namespace warmtier::base {
namespace {

struct Row {
  int32_t code;
  const char* name;
  const char* text;
};

constexpr std::array kTable{
    Row{WARM_OK, "WARM_OK", "success"},
    Row{WARM_E_INVALID, "WARM_E_INVALID", "an argument is not valid"},
    Row{WARM_E_NOT_FOUND, "WARM_E_NOT_FOUND", "no record has this id"},
    Row{WARM_E_EXISTS, "WARM_E_EXISTS", "a record with this id exists"},
    Row{WARM_E_CHANGED, "WARM_E_CHANGED", "the record's sequence is not the expected one"},
    Row{WARM_E_BUSY, "WARM_E_BUSY", "not carried out before the deadline"},
    Row{WARM_E_UNAVAILABLE, "WARM_E_UNAVAILABLE", "the daemon cannot be reached; certainly not carried out"},
    Row{WARM_E_UNKNOWN, "WARM_E_UNKNOWN", "published, but no answer came before the deadline"},
    Row{WARM_E_FULL, "WARM_E_FULL", "the store has no room left"},
    Row{WARM_E_LIMIT, "WARM_E_LIMIT", "a limit is exceeded"},
    Row{WARM_E_CORRUPT, "WARM_E_CORRUPT", "stored bytes failed a check"},
    Row{WARM_E_UNSUPPORTED, "WARM_E_UNSUPPORTED", "not supported here"},
    Row{WARM_E_VERSION, "WARM_E_VERSION", "versions do not match"},
    Row{WARM_E_ACCESS, "WARM_E_ACCESS", "not permitted"},
    Row{WARM_E_NOMEM, "WARM_E_NOMEM", "out of memory"},
    Row{WARM_E_SYSTEM, "WARM_E_SYSTEM", "a system call failed"},
    Row{WARM_E_STALE, "WARM_E_STALE", "the view or ticket is from before a fork or a recovery and means nothing any more"},
    Row{WARM_E_GONE, "WARM_E_GONE", "the changes asked for are not remembered any more"},
};

const Row* find(int32_t code) noexcept {
  for (const Row& row : kTable) {
    if (row.code == code) return &row;
  }
  return nullptr;
}

std::string vformat(const char* format, va_list args) {
  std::array<char, 1024> buffer{};
  int n = std::vsnprintf(buffer.data(), buffer.size(), format, args);
  if (n < 0) return format;
  return {buffer.data(), std::min<size_t>(static_cast<size_t>(n), buffer.size() - 1)};
}

}  // namespace

std::unexpected<Error> fail(int32_t code, const char* format, ...) {
  va_list args;
  va_start(args, format);
  Error error{.code = code, .os_error = 0, .text = vformat(format, args)};
  va_end(args);
  return std::unexpected<Error>(std::move(error));
}

std::unexpected<Error> fail_errno(int os_error, const char* format, ...) {
  va_list args;
  va_start(args, format);
  Error error{.code = WARM_E_SYSTEM, .os_error = os_error, .text = vformat(format, args)};
  va_end(args);
  if (os_error == ENOMEM) error.code = WARM_E_NOMEM;
  if (os_error == EACCES || os_error == EPERM) error.code = WARM_E_ACCESS;
  std::array<char, 128> reason{};
  error.text += ": ";
  error.text += strerror_r(os_error, reason.data(), reason.size());
  return std::unexpected<Error>(std::move(error));
}

const char* code_name(int32_t code) noexcept {
  const Row* row = find(code);
  return row != nullptr ? row->name : "WARM_E_?";
}

const char* code_text(int32_t code) noexcept {
  const Row* row = find(code);
  return row != nullptr ? row->text : "a code outside the table";
}

}  // namespace warmtier::base
