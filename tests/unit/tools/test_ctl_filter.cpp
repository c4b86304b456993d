#include "tools/ctl_filter.hpp"

#include <criterion/criterion.h>

#include <cfloat>
#include <cstring>
#include <string>

using namespace warmtier::tools;

namespace {

warm_filter parsed(const CtlFilter& filter) {
  warm_filter made;
  const auto status = filter_of(filter, made);
  cr_assert(status.has_value(), "%s", status ? "" : status.error().text.c_str());
  return made;
}

void assert_refused(const CtlFilter& filter, const char* word) {
  warm_filter made;
  const auto status = filter_of(filter, made);
  cr_assert(!status.has_value());
  cr_assert_not_null(std::strstr(status.error().text.c_str(), word), "%s should say %s", status.error().text.c_str(), word);
}

}  // namespace

Test(ctl_filter, what_is_not_said_lets_everything_through) {
  const warm_filter everything = WARM_FILTER_INIT;
  warm_filter made = parsed({});
  made.id_prefix = nullptr;  // of an empty prefix it says nothing
  cr_assert_eq(std::memcmp(&made, &everything, sizeof made), 0);
}

Test(ctl_filter, a_range_has_both_ends_or_one_or_is_one_value) {
  const warm_filter both = parsed({.confidence = "-0.5..1e3", .recall_count = "3..7"});
  cr_assert(both.confidence_min == -0.5f && both.confidence_max == 1000.0f);
  cr_assert(both.recall_count_min == 3 && both.recall_count_max == 7);
  const warm_filter open = parsed({.activation = "2..", .decay_rate = "..2"});
  cr_assert(open.activation_min == 2.0f && open.activation_max == FLT_MAX);
  cr_assert(open.decay_rate_min == -FLT_MAX && open.decay_rate_max == 2.0f);
  const warm_filter one = parsed({.sequence = "18446744073709551615", .content_bytes = "0"});
  cr_assert(one.sequence_min == UINT64_MAX && one.sequence_max == UINT64_MAX);
  cr_assert(one.content_bytes_min == 0 && one.content_bytes_max == 0);
}

Test(ctl_filter, what_is_no_range_is_refused_by_its_option) {
  for (const char* wrong : {"x", "1..x", "2..1", "...", "nan", "inf..", "1e39", "1 ", " 1", "1...2x"})
    assert_refused({.confidence = wrong}, "--confidence");
  assert_refused({.recall_count = "4294967296"}, "--recall-count");
  assert_refused({.recall_count = "-1"}, "--recall-count");
  assert_refused({.content_bytes = "1.5"}, "--content-bytes");
  assert_refused({.created = "2024-13-01"}, "--created");
}

Test(ctl_filter, times_are_dates_moments_or_nanoseconds) {
  cr_assert(time_ns("0") == uint64_t{0});
  cr_assert(time_ns("1970-01-02") == uint64_t{86'400'000'000'000});
  cr_assert(time_ns("2024-01-31T12:00:00Z") == uint64_t{1'706'702'400'000'000'000});
  cr_assert(time_ns("2024-01-31T12:00:00.5Z") == uint64_t{1'706'702'400'500'000'000});
  cr_assert(time_ns("2024-01-31T12:00:00.000000001Z") == uint64_t{1'706'702'400'000'000'001});
  for (const char* wrong : {"", "yesterday", "2024-", "2024-01-31T", "2024-01-31T12:00:00", "2024-01-31T12:00:00+01:00",
                            "1969-12-31", "2024-01-31T12:00:00.1234567890Z", "9999-01-01", "18446744073709551616", "-1"}) {
    cr_assert(!time_ns(wrong).has_value(), "%s", wrong);
  }
  cr_assert(time_ns("2024") == uint64_t{2024});  // nanoseconds, not a year
  cr_assert(time_end_ns("1970-01-02") == uint64_t{2 * 86'400'000'000'000 - 1});
  for (const char* moment : {"2024", "2024-01-31T00:00:00Z"}) cr_assert(*time_end_ns(moment) == *time_ns(moment), "%s", moment);
  const warm_filter day = parsed({.created = "1970-01-02", .last_access = "1970-01-02..1970-01-03"});
  cr_assert(day.created_ns_min == 86'400'000'000'000 && day.created_ns_max == 2 * 86'400'000'000'000 - 1);
  cr_assert(day.last_access_ns_min == 86'400'000'000'000 && day.last_access_ns_max == 3 * 86'400'000'000'000 - 1);
}
