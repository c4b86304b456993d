#include "tools/ctl_text.hpp"

#include <time.h>

#include <array>
#include <charconv>
#include <cstdio>

namespace warmtier::tools {
namespace {

// Length of the UTF-8 sequence at the start of `bytes`; 0: there is none.
size_t sequence_bytes(std::string_view bytes) {
  const auto at = [&](size_t i) { return static_cast<uint8_t>(bytes[i]); };
  const uint8_t first = at(0);
  if (first < 0x80) return 1;
  // The second byte's range shuts out overlong forms, surrogates and what lies above U+10FFFF.
  uint8_t low = 0x80;
  uint8_t high = 0xBF;
  size_t length = 0;
  if (first >= 0xC2 && first <= 0xDF) {
    length = 2;
  } else if (first >= 0xE0 && first <= 0xEF) {
    length = 3;
    if (first == 0xE0) low = 0xA0;
    if (first == 0xED) high = 0x9F;
  } else if (first >= 0xF0 && first <= 0xF4) {
    length = 4;
    if (first == 0xF0) low = 0x90;
    if (first == 0xF4) high = 0x8F;
  } else {
    return 0;
  }
  if (bytes.size() < length || at(1) < low || at(1) > high) return 0;
  for (size_t i = 2; i < length; ++i) {
    if (at(i) < 0x80 || at(i) > 0xBF) return 0;
  }
  return length;
}

constexpr std::string_view kHexDigits = "0123456789abcdef";
constexpr std::string_view kBase64Digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

}  // namespace

bool valid_utf8(std::string_view bytes) {
  while (!bytes.empty()) {
    const size_t length = sequence_bytes(bytes);
    if (length == 0) return false;
    bytes.remove_prefix(length);
  }
  return true;
}

std::string base64(std::string_view bytes) {
  std::string text;
  text.reserve((bytes.size() + 2) / 3 * 4);
  for (size_t i = 0; i < bytes.size(); i += 3) {
    const size_t n = bytes.size() - i < 3 ? bytes.size() - i : 3;
    uint32_t group = 0;
    for (size_t j = 0; j < 3; ++j) group = group << 8 | (j < n ? static_cast<uint8_t>(bytes[i + j]) : 0U);
    for (size_t j = 0; j < 4; ++j) text += j <= n ? kBase64Digits[group >> (18 - 6 * j) & 63U] : '=';
  }
  return text;
}

std::optional<std::string> from_base64(std::string_view text) {
  if (text.size() % 4 != 0) return std::nullopt;
  std::string bytes;
  bytes.reserve(text.size() / 4 * 3);
  while (!text.empty()) {
    // Only the last group may be filled up.
    const size_t filled = text.size() > 4 ? 0 : text.ends_with("==") ? 2 : text.ends_with("=") ? 1 : 0;
    uint32_t group = 0;
    for (size_t i = 0; i < 4; ++i) {
      const size_t digit = i < 4 - filled ? kBase64Digits.find(text[i]) : 0;
      if (digit == std::string_view::npos) return std::nullopt;
      group = group << 6 | static_cast<uint32_t>(digit);
    }
    // Bits that name no byte are zero: one text for the same bytes.
    if ((group & (filled == 2 ? 0xFFFFU : filled == 1 ? 0xFFU : 0U)) != 0) return std::nullopt;
    for (size_t i = 0; i < 3 - filled; ++i) bytes += static_cast<char>(group >> (16 - 8 * i) & 0xFFU);
    text.remove_prefix(4);
  }
  return bytes;
}

std::string hex(std::string_view bytes) {
  std::string text;
  for (const char c : bytes) {
    text += kHexDigits[static_cast<uint8_t>(c) >> 4];
    text += kHexDigits[static_cast<uint8_t>(c) & 15U];
  }
  return text;
}

std::optional<std::string> from_hex(std::string_view text) {
  if (text.size() % 2 != 0) return std::nullopt;
  std::string bytes;
  for (size_t i = 0; i < text.size(); i += 2) {
    unsigned value = 0;
    for (size_t j = 0; j < 2; ++j) {
      const char c = text[i + j];
      const char lower = c >= 'A' && c <= 'F' ? static_cast<char>(c - 'A' + 'a') : c;
      const size_t digit = kHexDigits.find(lower);
      if (digit == std::string_view::npos) return std::nullopt;
      value = value << 4 | static_cast<unsigned>(digit);
    }
    bytes += static_cast<char>(value);
  }
  return bytes;
}

std::string one_line(std::string_view bytes) {
  std::string text;
  while (!bytes.empty()) {
    const size_t length = sequence_bytes(bytes);
    const auto first = static_cast<uint8_t>(bytes[0]);
    // C1 controls are two bytes in UTF-8, and terminals obey them.
    const bool control = first < 0x20 || first == 0x7F || (first == 0xC2 && length == 2 && static_cast<uint8_t>(bytes[1]) < 0xA0);
    if (length == 0 || control) {
      text += "\\x" + hex(bytes.substr(0, 1));
      bytes.remove_prefix(1);
      continue;
    }
    if (first == '\\') text += '\\';
    text += bytes.substr(0, length);
    bytes.remove_prefix(length);
  }
  return text;
}

void append_number(std::string& text, float value) {
  std::array<char, 32> digits{};
  const char* const end = std::to_chars(digits.data(), digits.data() + digits.size(), value).ptr;
  const std::string_view shown(digits.data(), static_cast<size_t>(end - digits.data()));
  text += shown;
  // Read as a whole number, -0 would lose its sign.
  if (shown.find_first_of(".e") == std::string_view::npos) text += ".0";
}

std::string with_thousands(uint64_t value) {
  std::string text = std::to_string(value);
  for (size_t at = text.size(); at > 3;) text.insert(at -= 3, ",");
  return text;
}

std::string time_text(uint64_t ns_since_1970) {
  const auto seconds = static_cast<time_t>(ns_since_1970 / 1'000'000'000);
  tm parts{};
  ::gmtime_r(&seconds, &parts);
  std::array<char, 64> date{};
  ::strftime(date.data(), date.size(), "%Y-%m-%dT%H:%M:%S", &parts);
  std::array<char, 96> text{};
  std::snprintf(text.data(), text.size(), "%s.%09lluZ", date.data(),
                static_cast<unsigned long long>(ns_since_1970 % 1'000'000'000));
  return text.data();
}

}  // namespace warmtier::tools
