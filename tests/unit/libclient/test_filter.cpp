// Which records a filter lets pass, and which filters are refused.
#include <criterion/criterion.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <string>

#include "libclient/filter.hpp"

namespace layout = warmtier::layout;
using warmtier::libclient::Filter;
using warmtier::libclient::Record;

namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr const char* kId = "user/7/note";

Record record_of() {
  Record record;
  record.line.put = layout::put_word(500, 3);
  record.line.created_ns = 1000;
  record.line.last_access_ns = 2000;
  record.line.quad = {.confidence = 0.5F, .activation = -1.0F, .decay_rate = 0.25F, .recall_count = 7};
  record.line.content_bytes = 30;
  record.header.stored_bytes = 30;
  record.header.id_bytes = static_cast<uint16_t>(std::strlen(kId));
  record.id = reinterpret_cast<const std::byte*>(kId);
  return record;
}

bool passes(const warm_filter& filter, const Record& record = record_of()) {
  auto made = Filter::make(&filter);
  cr_assert(made.has_value(), "%s", made ? "" : made.error().text.c_str());
  return made->passes(record);
}

int32_t code_of(const warm_filter& filter, const char* says) {
  auto made = Filter::make(&filter);
  if (made) return WARM_OK;
  cr_assert(made.error().text.find(says) != std::string::npos, "'%s' should say %s", made.error().text.c_str(), says);
  return made.error().code;
}

}  // namespace

Test(filter, none_and_the_initialised_one_let_everything_pass) {
  const warm_filter all = WARM_FILTER_INIT;
  for (const warm_filter* filter : {static_cast<const warm_filter*>(nullptr), &all}) {
    auto made = Filter::make(filter);
    cr_assert(made.has_value());
    cr_assert(made->everything());
    cr_assert_not(made->needs_record());
    Record record = record_of();
    record.line.quad = {.confidence = -FLT_MAX, .activation = FLT_MAX, .decay_rate = 0, .recall_count = UINT32_MAX};
    record.line.created_ns = UINT64_MAX;
    cr_assert(made->passes(record));
  }
}

// One range after the other: its ends pass, the next value beyond them does not.
#define ENDS_PASS_AND_THEIR_NEIGHBOURS_DO_NOT(name, value, below, above) \
  do {                                                                   \
    warm_filter filter = WARM_FILTER_INIT;                               \
    filter.name##_min = value;                                           \
    filter.name##_max = value;                                           \
    cr_assert(passes(filter), #name " at both ends");                    \
    filter.name##_max = above;                                           \
    filter.name##_min = above;                                           \
    cr_assert_not(passes(filter), #name " below min");                   \
    filter.name##_min = below;                                           \
    filter.name##_max = below;                                           \
    cr_assert_not(passes(filter), #name " above max");                   \
  } while (0)

Test(filter, every_range_holds_at_its_ends_and_not_beyond) {
  ENDS_PASS_AND_THEIR_NEIGHBOURS_DO_NOT(confidence, 0.5F, std::nextafter(0.5F, 0.0F), std::nextafter(0.5F, 1.0F));
  ENDS_PASS_AND_THEIR_NEIGHBOURS_DO_NOT(activation, -1.0F, std::nextafter(-1.0F, -2.0F), std::nextafter(-1.0F, 0.0F));
  ENDS_PASS_AND_THEIR_NEIGHBOURS_DO_NOT(decay_rate, 0.25F, std::nextafter(0.25F, 0.0F), std::nextafter(0.25F, 1.0F));
  ENDS_PASS_AND_THEIR_NEIGHBOURS_DO_NOT(recall_count, 7, 6, 8);
  ENDS_PASS_AND_THEIR_NEIGHBOURS_DO_NOT(created_ns, 1000, 999, 1001);
  ENDS_PASS_AND_THEIR_NEIGHBOURS_DO_NOT(last_access_ns, 2000, 1999, 2001);
  ENDS_PASS_AND_THEIR_NEIGHBOURS_DO_NOT(sequence, 500, 499, 501);
  ENDS_PASS_AND_THEIR_NEIGHBOURS_DO_NOT(content_bytes, 30, 29, 31);
  warm_filter endless = WARM_FILTER_INIT;
  endless.confidence_min = -kInfinity;
  endless.confidence_max = kInfinity;
  cr_assert(passes(endless));
}

Test(filter, a_prefix_is_compared_byte_for_byte_and_never_beyond_the_id) {
  warm_filter filter = WARM_FILTER_INIT;
  for (const char* prefix : {"u", "user/", "user/7/note"}) {
    filter.id_prefix = prefix;
    filter.id_prefix_bytes = std::strlen(prefix);
    cr_assert(passes(filter), "%s", prefix);
  }
  for (const char* prefix : {"U", "user/8", "user/7/note/", "user/7/notes and more"}) {
    filter.id_prefix = prefix;
    filter.id_prefix_bytes = std::strlen(prefix);
    cr_assert_not(passes(filter), "%s", prefix);
  }
  std::string own = "user/";
  filter.id_prefix = own.data();
  filter.id_prefix_bytes = own.size();
  auto made = Filter::make(&filter);
  own.assign("xxxxx");
  cr_assert(made && made->needs_record() && made->passes(record_of()), "the prefix was not copied");
}

Test(filter, absent_content_is_not_empty_content) {
  Record empty = record_of();
  empty.line.content_bytes = empty.header.stored_bytes = 0;
  Record absent = record_of();
  absent.line.content_bytes = absent.header.stored_bytes = 0;
  absent.header.flags = layout::kRecordContentAbsent;
  warm_filter filter = WARM_FILTER_INIT;
  filter.content = WARM_FILTER_CONTENT_PRESENT;
  cr_assert(passes(filter, empty) && !passes(filter, absent));
  filter.content = WARM_FILTER_CONTENT_ABSENT;
  cr_assert(!passes(filter, empty) && passes(filter, absent));
}

Test(filter, what_makes_no_sense_is_refused_by_name) {
  const warm_filter good = WARM_FILTER_INIT;
  warm_filter filter = good;
  filter.struct_bytes -= 8;
  cr_assert_eq(code_of(filter, "WARM_FILTER_INIT"), WARM_E_INVALID);
  filter = good;
  filter.content = WARM_FILTER_CONTENT_ABSENT + 1;
  cr_assert_eq(code_of(filter, "content is 3"), WARM_E_INVALID);
  filter = good;
  filter.reserved[3] = 1;
  cr_assert_eq(code_of(filter, "reserved"), WARM_E_INVALID);
  filter = good;
  filter.id_prefix_bytes = 1;
  cr_assert_eq(code_of(filter, "id_prefix is NULL"), WARM_E_INVALID);
  const std::string longest(layout::kIdBytesMax + 1, 'x');
  filter.id_prefix = longest.data();
  filter.id_prefix_bytes = layout::kIdBytesMax;
  cr_assert_eq(code_of(filter, ""), WARM_OK);
  filter.id_prefix_bytes = layout::kIdBytesMax + 1;
  cr_assert_eq(code_of(filter, "1025"), WARM_E_LIMIT);
  filter = good;
  filter.decay_rate_max = NAN;
  cr_assert_eq(code_of(filter, "decay_rate"), WARM_E_INVALID);
  filter = good;
  filter.sequence_min = 8;
  filter.sequence_max = 7;
  cr_assert_eq(code_of(filter, "sequence_min is 8, above sequence_max, which is 7"), WARM_E_INVALID);
  filter = good;
  filter.activation_min = 1;
  filter.activation_max = 0.5F;
  cr_assert_eq(code_of(filter, "activation_min is 1, above activation_max, which is 0.5"), WARM_E_INVALID);
}
