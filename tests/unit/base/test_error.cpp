#include "base/error.hpp"

#include <criterion/criterion.h>

#include <cerrno>
#include <fstream>
#include <map>
#include <regex>
#include <string>

using namespace warmtier;

namespace {

// The table as the public header's text has it.
std::map<std::string, int32_t> header_table() {
  std::map<std::string, int32_t> table;
  std::ifstream header(WARMTIER_HEADER);
  const std::regex line(R"(^#define (WARM_OK|WARM_E_[A-Z_]+) \(?(-?\d+)\)?.*$)");
  for (std::string text; std::getline(header, text);) {
    std::smatch match;
    if (std::regex_match(text, match, line)) table[match[1]] = std::stoi(match[2]);
  }
  return table;
}

}  // namespace

Test(error, the_table_has_every_code_of_the_header_and_no_other) {
  const auto table = header_table();
  cr_assert_geq(table.size(), 18U, "only %zu codes found in the header", table.size());
  for (const auto& [name, code] : table) {
    cr_assert_str_eq(base::code_name(code), name.c_str());
    cr_assert_str_neq(base::code_text(code), base::code_text(-1000));
  }
  size_t known = 0;
  for (int32_t code = -1000; code <= 1000; ++code) known += std::string(base::code_name(code)) != "WARM_E_?" ? 1 : 0;
  cr_assert_eq(known, table.size());
}

Test(error, every_code_has_a_text_of_its_own_without_a_full_stop) {
  std::map<std::string, int> texts;
  for (const auto& [name, code] : header_table()) {
    const std::string text = base::code_text(code);
    cr_assert(!text.empty() && text.back() != '.');
    ++texts[text];
  }
  for (const auto& [text, count] : texts) cr_assert_eq(count, 1, "%s", text.c_str());
}

Test(error, a_number_outside_the_table_has_the_name_for_that) {
  for (const int32_t code : {1, -18, INT32_MIN, INT32_MAX}) cr_assert_str_eq(base::code_name(code), "WARM_E_?");
}

Test(error, fail_carries_code_and_sentence) {
  const base::Status status = base::fail(WARM_E_LIMIT, "%d is above %d", 7, 5);
  cr_assert_not(status.has_value());
  cr_assert(status.error().code == WARM_E_LIMIT && status.error().os_error == 0 && status.error().text == "7 is above 5");
}

Test(error, a_sentence_longer_than_its_buffer_is_cut_and_not_lost) {
  const std::string text(5000, 'x');
  const base::Status status = base::fail(WARM_E_INVALID, "%s", text.c_str());
  cr_assert_geq(status.error().text.size(), 1000U);
  cr_assert_leq(status.error().text.size(), 5000U);
}

Test(error, an_errno_becomes_the_code_that_the_caller_can_act_on) {
  const auto code_of = [](int os_error) {
    const base::Status status = base::fail_errno(os_error, "open %s", "file");
    cr_assert(status.error().os_error == os_error && status.error().text.starts_with("open file: "));
    return status.error().code;
  };
  cr_assert_eq(code_of(EIO), WARM_E_SYSTEM);
  cr_assert_eq(code_of(ENOENT), WARM_E_SYSTEM);
  cr_assert_eq(code_of(ENOMEM), WARM_E_NOMEM);
  cr_assert_eq(code_of(EACCES), WARM_E_ACCESS);
  cr_assert_eq(code_of(EPERM), WARM_E_ACCESS);
}

Test(error, an_error_is_passed_on_unchanged) {
  const auto inner = []() -> base::Result<int> { return base::fail(WARM_E_FULL, "full of %s", "it"); };
  const auto outer = [&]() -> base::Status {
    auto result = inner();
    if (!result) return base::pass(std::move(result));
    return {};
  };
  cr_assert(outer().error().code == WARM_E_FULL && outer().error().text == "full of it");
}
