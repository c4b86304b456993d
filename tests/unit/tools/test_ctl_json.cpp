#include "tools/ctl_json.hpp"

#include <criterion/criterion.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <string>

#include "tools/ctl_text.hpp"

using namespace warmtier::tools;

namespace {

LineRecord read(std::string_view line) {
  LineRecord record;
  const auto status = record_from_json(line, UnknownFields::refuse, record);
  cr_assert(status.has_value(), "%.*s: %s", static_cast<int>(line.size()), line.data(),
            status ? "" : status.error().text.c_str());
  return record;
}

void assert_refused(std::string_view line, const char* word, UnknownFields unknown = UnknownFields::refuse) {
  LineRecord record;
  const auto status = record_from_json(line, unknown, record);
  cr_assert(!status.has_value(), "%.*s", static_cast<int>(line.size()), line.data());
  cr_assert_not_null(std::strstr(status.error().text.c_str(), word), "%.*s: %s should say %s", static_cast<int>(line.size()),
                     line.data(), status.error().text.c_str(), word);
}

}  // namespace

Test(ctl_json, a_line_gives_every_field) {
  const LineRecord record =
      read(R"( {"id":"a\u0000b","sequence":7,"created_ns":18446744073709551615,"last_access_ns":0,"confidence":0.5,
    "activation":-2,"decay_rate":1e-3,"recall_count":4294967295,"embedding":[1,-2.5,0.1],"content":"\u00e9\n"} )");
  cr_assert(record.id == std::string("a\0b", 3));
  cr_assert(record.created_ns == std::numeric_limits<uint64_t>::max());
  cr_assert(record.last_access_ns == 0);
  cr_assert_eq(record.confidence, 0.5f);
  cr_assert_eq(record.activation, -2.0f);
  cr_assert_eq(record.decay_rate, 1e-3f);
  cr_assert_eq(record.recall_count, 4294967295U);
  cr_assert(record.has_embedding && record.embedding == std::vector<float>({1.0f, -2.5f, 0.1f}));
  cr_assert(record.content == "\xC3\xA9\n");
}

Test(ctl_json, what_is_not_said_is_not_given) {
  LineRecord record = read(R"({"id":"x","content":"c","created_ns":5,"embedding":[1]})");
  const auto status = record_from_json(R"({"id_base64":"AP+A"})", UnknownFields::refuse, record);
  cr_assert(status.has_value());
  cr_assert(record.id == std::string("\0\xFF\x80", 3));
  cr_assert(!record.has_embedding && record.embedding.empty() && !record.content && !record.created_ns && !record.last_access_ns);
  cr_assert_eq(record.confidence, 1.0f);
}

Test(ctl_json, absent_and_empty_content_are_different) {
  cr_assert(!read(R"({"id":"x","content":null})").content);
  cr_assert(read(R"({"id":"x","content":""})").content == "");
  cr_assert(read(R"({"id":"x","content_base64":""})").content == "");
  cr_assert(read(R"({"id":"x","content_base64":"/w=="})").content == "\xFF");
}

Test(ctl_json, every_float_survives_its_shortest_decimal) {
  std::mt19937 random(7);
  std::string line = R"({"id":"x","embedding":[)";
  std::vector<float> wanted = {0.0f, -0.0f, 1e-45f, -1e-45f, 1.17549435e-38f, 3.40282347e38f, -3.40282347e38f, 16777216.0f, 0.1f};
  while (wanted.size() < 100'000) {
    const auto value = std::bit_cast<float>(static_cast<uint32_t>(random()));
    if (std::isfinite(value)) wanted.push_back(value);
  }
  for (const float value : wanted) {
    append_number(line, value);
    line += ',';
  }
  line.back() = ']';
  line += '}';
  const LineRecord record = read(line);
  cr_assert_eq(record.embedding.size(), wanted.size());
  cr_assert_eq(std::memcmp(record.embedding.data(), wanted.data(), wanted.size() * sizeof(float)), 0);
}

Test(ctl_json, a_decimal_is_rounded_once) {
  // Just above the middle between 1 and the next float; as a double it would be the middle, and then 1.
  cr_assert_eq(read(R"({"id":"x","confidence":1.000000059604644775390625000001})").confidence, std::nextafter(1.0f, 2.0f));
  cr_assert_eq(read(R"({"id":"x","confidence":1e-60})").confidence, 0.0f);
  cr_assert(std::signbit(read(R"({"id":"x","confidence":-1e-60})").confidence));
}

Test(ctl_json, what_is_not_finite_is_refused) {
  assert_refused(R"({"id":"x","embedding":[1,NaN]})", "NaN and infinity");
  assert_refused(R"({"id":"x","embedding":[1,Infinity]})", "NaN and infinity");
  assert_refused(R"({"id":"x","confidence":-Infinity})", "NaN and infinity");
  assert_refused(R"({"id":"x","embedding":[1e39]})", "1e39");
  assert_refused(R"({"id":"x","decay_rate":-3.5e38})", "-3.5e38");
  assert_refused(R"({"id":"x","decay_rate":1e999})", "JSON");
}

Test(ctl_json, a_line_that_is_no_record_says_why) {
  assert_refused("", "JSON");
  assert_refused("nonsense", "JSON");
  assert_refused(R"({"id":"x"} {"id":"y"})", "JSON");
  assert_refused("{\"id\":\"\xFF\"}", "JSON");
  assert_refused(R"({"id":"\ud800"})", "JSON");
  assert_refused("5", "object");
  assert_refused("[1]", "object");
  assert_refused("{}", "no id");
  assert_refused(R"({"embedding":[1]})", "no id");
  assert_refused(R"({"id":5})", "id");
  assert_refused(R"({"id":null})", "id");
  assert_refused(R"({"id":"x","id":"y"})", "twice");
  assert_refused(R"({"id":"x","id_base64":"AA=="})", "both");
  assert_refused(R"({"id":"x","content":"","content_base64":""})", "both");
  assert_refused(R"({"id_base64":"AA="})", "base64");
  assert_refused(R"({"id":"x","content_base64":"A-=="})", "base64");
  assert_refused(R"({"id":"x","content_base64":"AB=="})", "base64");
  assert_refused(R"({"id":"x","embedding":1})", "embedding");
  assert_refused(R"({"id":"x","embedding":[[1]]})", "embedding");
  assert_refused(R"({"id":"x","embedding":["1"]})", "embedding");
  assert_refused(R"({"id":"x","embedding":[null]})", "embedding");
  assert_refused(R"({"id":"x","embedding":{}})", "embedding");
  assert_refused(R"({"id":"x","recall_count":4294967296})", "4294967295");
  assert_refused(R"({"id":"x","recall_count":-1})", "recall_count");
  assert_refused(R"({"id":"x","recall_count":1.5})", "recall_count");
  assert_refused(R"({"id":"x","created_ns":-1})", "created_ns");
  assert_refused(R"({"id":"x","created_ns":18446744073709551616})", "created_ns");
  assert_refused(R"({"id":"x","confidence":"1"})", "confidence");
  assert_refused(R"({"id":"x","contents":"typo"})", "contents");
}

Test(ctl_json, unknown_fields_are_passed_over_when_asked) {
  LineRecord record;
  const char* line = R"({"more":{"id":"no","deep":[{"embedding":[9]},null,true,1.5]},"id":"x","tags":["a"],"embedding":[1]})";
  cr_assert(record_from_json(line, UnknownFields::ignore, record).has_value());
  cr_assert(record.id == "x" && record.embedding == std::vector<float>({1.0f}));
  assert_refused(R"({"more":[1,2,}})", "JSON", UnknownFields::ignore);
}
