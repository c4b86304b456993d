#include "tools/ctl_text.hpp"

#include <criterion/criterion.h>

#include <string>

using namespace warmtier::tools;

Test(ctl_text, base64_comes_back) {
  std::string bytes;
  for (int i = 0; i < 600; ++i) {
    cr_assert(from_base64(base64(bytes)) == bytes, "%d bytes", i);
    bytes += static_cast<char>(i * 7);
  }
  cr_assert(base64("foobar") == "Zm9vYmFy");
  cr_assert(base64("fooba") == "Zm9vYmE=");
}

Test(ctl_text, what_is_no_base64_is_refused) {
  for (const char* wrong :
       {"A", "AA", "AAA", "AA=A", "=AAA", "A===", "====", "AA==AAAA", "AAA=AAAA", "AB==", "AAB=", "AA A", "AA-_", "AAA\n"}) {
    cr_assert(!from_base64(wrong), "%s", wrong);
  }
}

Test(ctl_text, a_number_always_shows_that_it_is_a_float) {
  const auto shown = [](float value) {
    std::string text;
    append_number(text, value);
    return text;
  };
  cr_assert(shown(0.1f) == "0.1");
  cr_assert(shown(1.0f) == "1.0");
  cr_assert(shown(-0.0f) == "-0.0");
  cr_assert(shown(1e30f) == "1e+30");
}
