// Bytes as people and programs read them.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace warmtier::tools {

bool valid_utf8(std::string_view bytes);
std::string base64(std::string_view bytes);
// Of RFC 4648, padded, nothing else in it; nullopt: it is not.
std::optional<std::string> from_base64(std::string_view text);
std::string hex(std::string_view bytes);
std::optional<std::string> from_hex(std::string_view text);
// On one line of a terminal: control characters and invalid UTF-8 as \xNN.
std::string one_line(std::string_view bytes);
// The shortest decimal that reads back as the same float; always with a point or an exponent.
void append_number(std::string& text, float value);
std::string with_thousands(uint64_t value);
// 2024-01-31T12:00:00.123456789Z
std::string time_text(uint64_t ns_since_1970);

}  // namespace warmtier::tools
