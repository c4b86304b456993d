// Bytes as people and programs read them.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace warmtier::tools {

bool valid_utf8(std::string_view bytes);
std::string base64(std::string_view bytes);
std::string hex(std::string_view bytes);
std::optional<std::string> from_hex(std::string_view text);
// On one line of a terminal: control characters and invalid UTF-8 as \xNN.
std::string one_line(std::string_view bytes);
// 2024-01-31T12:00:00.123456789Z
std::string time_text(uint64_t ns_since_1970);

}  // namespace warmtier::tools
