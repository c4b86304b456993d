#include <criterion/criterion.h>

#include <string>

#include "daemon/config.hpp"

using namespace warmtier;
using namespace warmtier::daemon;

namespace {

void expect_refused(const std::string& text, const std::string& part) {
  Config config;
  config.store = "untouched";
  const auto status = parse_config(text, "w.toml", &config);
  cr_assert(!status.has_value(), "taken: %s", text.c_str());
  cr_assert(status.error().text.find(part) != std::string::npos, "\"%s\" is not in \"%s\"", part.c_str(),
            status.error().text.c_str());
  cr_assert(config.store == "untouched");
}

}  // namespace

Test(config, empty_file_keeps_every_default) {
  Config config;
  cr_assert(parse_config("", "w.toml", &config).has_value());
  cr_assert_eq(config.spin_us, kSpinUsDefault);
  cr_assert_eq(config.checkpoint_interval_ms, kCheckpointIntervalMsDefault);
  cr_assert_not(config.large_pages);
  cr_assert(!config.dimensions.has_value());
  cr_assert(config.access.others == layout::Access::none);
}

Test(config, every_key_is_read) {
  Config config;
  const auto status = parse_config(R"(
[store]
path = "/var/lib/w"
dimensions = 12
capacity = 4294967294
segment_bytes = 65536
content_bytes_max = 1000
checkpoint_interval_ms = 100
prepared_slots = 2048
large_pages = true
[daemon]
socket = "/run/w"
io = "threads"
spin_us = 0
orphan_grace_s = 60
[access]
others = "read"
private_channel = true
[access.users]
root = "write"
4242 = "none"
[access.groups]
4243 = "admin"
)",
                                   "w.toml", &config);
  cr_assert(status.has_value(), "%s", status ? "" : status.error().text.c_str());
  cr_assert(config.store == "/var/lib/w");
  cr_assert_eq(*config.dimensions, 12);
  cr_assert_eq(*config.capacity, layout::kCapacityMax);
  cr_assert_eq(*config.segment_bytes, 65536);
  cr_assert_eq(config.content_bytes_max, 1000);
  cr_assert_eq(config.checkpoint_interval_ms, 100);
  cr_assert_eq(config.prepared_slots, 2048);
  cr_assert(config.large_pages);
  cr_assert(config.socket == "/run/w");
  cr_assert(config.io == io::Choice::threads);
  cr_assert_eq(config.spin_us, 0);
  cr_assert_eq(config.orphan_grace_s, 60);
  cr_assert(config.access.others == layout::Access::read);
  cr_assert(config.access.private_channel);
  cr_assert(config.access.users.at(0) == layout::Access::write);
  cr_assert(config.access.users.at(4242) == layout::Access::none);
  cr_assert(config.access.groups.at(4243) == layout::Access::admin);
}

Test(config, unknown_key_is_refused_with_its_line) {
  expect_refused("[store]\npath = \"x\"\nspeed = 3\n", "w.toml:3: unknown key store.speed");
  expect_refused("\nstores = 1\n", "w.toml:2: unknown key stores");
}

Test(config, value_outside_its_range_is_refused_with_value_and_range) {
  expect_refused("[store]\ndimensions = 0", "store.dimensions is 0; 1 to 4096");
  expect_refused("[store]\ndimensions = 4097", "is 4097; 1 to 4096");
  expect_refused("[store]\ncapacity = -1", "is -1; 1 to 4294967294");
  expect_refused("[store]\nsegment_bytes = 1", "65536 to 67108864");
  expect_refused("[store]\ndimensions = \"many\"", "not a whole number");
  expect_refused("[store]\ndimensions = 3.5", "not a whole number");
  expect_refused("[daemon]\nspin_us = 10001", "0 to 10000");
  expect_refused("[daemon]\nio = \"aio\"", "w.toml:2: daemon.io: \"aio\" is none of");
  expect_refused("[daemon]\nio = 5", "is none of");
  expect_refused("[daemon]\nsocket = \"\"", "not a text");
  expect_refused("[access]\nothers = \"all\"", "none of \"none\", \"read\"");
  expect_refused("[access]\nprivate_channel = 1", "neither true nor false");
  expect_refused("store = 5", "store is not a table");
}

Test(config, people_who_are_not_there_are_refused) {
  expect_refused("[access.users]\nno-such-user-here = \"read\"", "there is no user \"no-such-user-here\"");
  expect_refused("[access.groups]\nno-such-group-here = \"read\"", "there is no group");
  expect_refused("[access.users]\n4294967295 = \"read\"", "there is no user");
}

Test(config, broken_syntax_is_refused_with_its_line) { expect_refused("[store]\npath = \n", "w.toml:2"); }

Test(config, socket_is_looked_for_where_the_service_manager_says) {
  ::setenv("RUNTIME_DIRECTORY", "/run/a:/run/b", 1);
  cr_assert(default_socket_path().value() == "/run/a/sock");
  ::unsetenv("RUNTIME_DIRECTORY");
  if (::geteuid() == 0) cr_assert(default_socket_path().value() == "/run/warmtier/sock");
}

Test(config, printed_settings_read_back_are_the_same) {
  Config config;
  cr_assert(parse_config(R"(
[store]
path = "/it's \"here\"\\n"
dimensions = 12
checkpoint_interval_ms = 77
[daemon]
io = "threads"
[access]
others = "read"
private_channel = true
users = { 4242 = "none", 4241 = "admin" }
)",
                         "w.toml", &config)
                .has_value());
  const std::string text = config_text(config);
  Config again;
  const auto status = parse_config(text, "again.toml", &again);
  cr_assert(status.has_value(), "%s in\n%s", status ? "" : status.error().text.c_str(), text.c_str());
  cr_assert(again.store == config.store);
  cr_assert(again.access.users == config.access.users);
  cr_assert(again.access.groups.empty());
  cr_assert(again.io == io::Choice::threads);
  cr_assert_eq(again.checkpoint_interval_ms, 77);
  cr_assert(config_text(again) == text);
}

Test(config, a_reload_names_the_keys_that_wait_for_the_next_start) {
  Config running;
  Config wanted;
  wanted.prepared_slots += 1;
  wanted.socket = "/elsewhere";
  wanted.access.others = layout::Access::read;
  const std::vector<std::string> expected = {"store.prepared_slots", "daemon.socket"};
  cr_assert(only_at_start(running, wanted) == expected);
  // What is fixed when the store is made waits for no start.
  wanted = running;
  wanted.dimensions = kDimensionsDefault + 1;
  wanted.segment_bytes = layout::kSegmentBytesMin;
  cr_assert(only_at_start(running, wanted).empty());
  // A wish that says what holds anyway changes nothing.
  wanted = running;
  wanted.dimensions = kDimensionsDefault;
  cr_assert(only_at_start(running, wanted).empty());
}
