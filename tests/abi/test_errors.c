/* The closed table of results, and the version. */
#include <criterion/criterion.h>
#include <string.h>

#include "warmtier/warmtier.h"

Test(errors, every_code_has_its_constants_name_and_a_sentence) {
#define ROW(code) {code, #code}
  static const struct {
    int code;
    const char* name;
  } table[] = {ROW(WARM_OK),        ROW(WARM_E_INVALID),     ROW(WARM_E_NOT_FOUND), ROW(WARM_E_EXISTS), ROW(WARM_E_CHANGED),
               ROW(WARM_E_BUSY),    ROW(WARM_E_UNAVAILABLE), ROW(WARM_E_UNKNOWN),   ROW(WARM_E_FULL),   ROW(WARM_E_LIMIT),
               ROW(WARM_E_CORRUPT), ROW(WARM_E_UNSUPPORTED), ROW(WARM_E_VERSION),   ROW(WARM_E_ACCESS), ROW(WARM_E_NOMEM),
               ROW(WARM_E_SYSTEM),  ROW(WARM_E_STALE),       ROW(WARM_E_GONE)};
  for (size_t i = 0; i < sizeof table / sizeof table[0]; ++i) {
    cr_assert_eq(table[i].code, -(int)i, "the table has no gaps");
    cr_assert_str_eq(warm_error_name(table[i].code), table[i].name);
    cr_assert_gt(strlen(warm_strerror(table[i].code)), 3);
    cr_assert_null(strstr(warm_strerror(table[i].code), "?"), "%s", table[i].name);
  }
}

Test(errors, a_number_outside_the_table_has_no_name) {
  static const int outside[] = {1, -18, -1000, 2147483647, -2147483647 - 1};
  for (size_t i = 0; i < sizeof outside / sizeof outside[0]; ++i) {
    cr_assert_str_eq(warm_error_name(outside[i]), "WARM_E_?");
    cr_assert_not_null(warm_strerror(outside[i]));
  }
}

Test(errors, the_last_message_is_empty_before_anything_failed) { cr_assert_str_eq(warm_last_error(), ""); }

Test(errors, the_version_is_said) { cr_assert_str_eq(warm_version(), "0.1.0"); }
