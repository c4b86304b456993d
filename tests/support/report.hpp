// What long runs have in common: numbers on the command line, and a report for docs/results/.
#pragma once

#include <cstdint>
#include <string>

namespace warmtier::tests::support {

// Ends the program with status 2 and says what is wrong where `text` is no number.
uint64_t number_of(const char* program, const std::string& option, const char* text);
std::string date_now();  // UTC, as RFC 3339 writes it
// To standard output, and to the file unless `path` is empty. False, and said: the file could not be written.
bool write_report(const std::string& text, const std::string& path);

}  // namespace warmtier::tests::support
