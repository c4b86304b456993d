// Failures that go up unchanged: a code that the C door can return, the errno behind it, and a sentence for a person.
//
// Three troubles, three tools: a bug asserts; an operation that failed returns a Status or a Result; an expected outcome
// (full, absent) is that function's own enum, handled by its direct caller.
#pragma once

#include <cstdint>
#include <expected>
#include <string>

#include "warmtier/warmtier.h"

namespace warmtier::base {

struct Error {
  int32_t code = WARM_E_SYSTEM;  // one of WARM_E_*
  int os_error = 0;              // errno where a system call failed, else 0
  std::string text;              // what was wrong, which value, what would be right
};

template <typename T>
using Result = std::expected<T, Error>;
using Status = std::expected<void, Error>;

// printf-like; the text names the value and the limit.
[[gnu::format(printf, 2, 3)]] std::unexpected<Error> fail(int32_t code, const char* format, ...);
// WARM_E_SYSTEM (WARM_E_NOMEM for ENOMEM, WARM_E_ACCESS for EACCES and EPERM) with errno's text appended to the sentence.
[[gnu::format(printf, 2, 3)]] std::unexpected<Error> fail_errno(int os_error, const char* format, ...);
// Passes an error on: `return pass(result)`.
template <typename T>
std::unexpected<Error> pass(std::expected<T, Error>&& result) {
  return std::unexpected<Error>(std::move(result).error());
}

const char* code_name(int32_t code) noexcept;  // "WARM_E_FULL"; "WARM_E_?" for a number outside the table
const char* code_text(int32_t code) noexcept;  // one sentence without a full stop

}  // namespace warmtier::base
