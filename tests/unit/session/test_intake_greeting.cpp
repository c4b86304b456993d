// Greetings: who is let in, as what, in which version of the protocol, and when a session begins.
#include <criterion/criterion.h>

#include <array>
#include <cstring>
#include <filesystem>

#include "layout/describe.hpp"
#include "layout/validate.hpp"
#include "tests/unit/session/door.hpp"

using namespace warmtier;
using namespace warmtier::daemon;
using namespace warmtier::daemon::session;
using namespace warmtier::daemon::session::test;

Test(intake, welcome_hands_out_everything_and_all_segments) {
  OpenDoor door;
  Welcomed client(door);
  cr_assert_eq(client.welcome.generation, 17);
  cr_assert_eq(client.welcome.resumed, 0);
  cr_assert_eq(client.welcome.dimensions, kDimensions);
  cr_assert_eq(client.welcome.access, static_cast<uint32_t>(layout::Access::admin));
  cr_assert_eq(client.entry().number, client.welcome.session);
  for (size_t i = 0; i < 5; ++i) {
    cr_assert_eq(::fcntl(client.descriptors[i].get(), F_GETFL) & O_ACCMODE, O_RDONLY, "descriptor %zu can be written", i);
  }
  auto first = client.receive();
  cr_assert_eq(state_of(client), kLive);
  cr_assert_eq(first->descriptors.size(), layout::kSegmentsPerMessage);
  cr_assert_eq(first->as<layout::Segments>().last, 0);
  auto second = client.receive();
  cr_assert_eq(second->descriptors.size(), 5);
  cr_assert_eq(second->as<layout::Segments>().last, 1);
  cr_assert_eq(second->as<layout::Segments>().epoch, 3);
  cr_assert_eq(second->as<layout::Segments>().numbers[4], kSegments);

  client.ask_for_segments();
  client.take_segments();
}

Test(intake, processes_of_one_user_and_namespace_share_a_channel) {
  OpenDoor door;
  RawClient a(door.path());
  RawClient b(door.path());
  RawClient c(door.path());
  cr_assert(a.attach().has_value());
  cr_assert(b.attach().has_value());
  layout::Hello other = RawClient::hello();
  other.namespace_inode = 99;
  c.send(other);
  cr_assert(c.take_welcome().has_value());
  cr_assert_eq(a.welcome.channel, b.welcome.channel);
  cr_assert_neq(a.welcome.session_index, b.welcome.session_index);
  cr_assert_neq(a.welcome.channel, c.welcome.channel);
}

Test(intake, private_channels_are_not_shared_and_go_with_their_session) {
  AccessRules rules;
  rules.private_channel = true;
  OpenDoor door({.access = rules});
  Welcomed a(door);
  Welcomed b(door);
  cr_assert_neq(a.welcome.channel, b.welcome.channel);
  a.take_segments();
  a.bye();
  cr_assert(comes([&] { return !std::filesystem::exists(door.directory.path() + "/" + results_name(a.welcome.channel)); }));
  cr_assert_eq(door.directory.entries(), 1);
}

Test(intake, channel_with_half_its_lanes_fenced_gets_no_new_sessions) {
  OpenDoor door;
  Welcomed a(door);
  for (uint32_t lane = 0; lane < a.welcome.lanes / 2; ++lane) a.lanes->lock(lane).fenced = 1;
  Welcomed b(door);
  cr_assert_neq(a.welcome.channel, b.welcome.channel);
  // The old one is served on.
  a.ask(kFirst, 0);
  cr_assert(a.answers(kFirst));
}

Test(intake, wrong_version_and_layout_are_refused_with_both_numbers) {
  OpenDoor door;
  {
    RawClient client(door.path());
    auto hello = RawClient::hello();
    hello.protocol_version = 9;
    client.send(hello);
    const auto refuse = client.receive()->as<layout::Refuse>();
    cr_assert_eq(refuse.code, WARM_E_VERSION);
    cr_assert_str_eq(refuse.text, "the library speaks protocol 9, this daemon 1");
    cr_assert(!client.receive().has_value(), "and closed");
  }
  auto hello = RawClient::hello();
  hello.fingerprints[2] ^= 1;
  const layout::Refuse refuse = answer_to(hello, door);
  cr_assert_eq(refuse.code, WARM_E_VERSION);
  cr_assert(std::strstr(refuse.text, "index") != nullptr, "%s", refuse.text);
}

// The library of this source is then the one before the daemon's.
Test(intake, library_of_the_version_before_is_served_in_its_own) {
  auto dialects = dialects_of_the_next_version();
  layout::Dialect& next = dialects.front();
  for (uint64_t& print : next.fingerprints) print ^= 1;
  OpenDoor door({.dialects = dialects});
  RawClient client(door.path());
  client.send(RawClient::hello());
  auto received = client.receive();
  cr_assert(received.has_value());
  cr_assert(layout::validate_message(received->bytes) == layout::Verdict::good, "the library takes it for its own version");
  cr_assert_eq(received->as<layout::Welcome>().protocol_version, layout::kProtocolVersion);
  client.adopt(std::move(*received));
  client.take_segments();
  client.ask(kFirst, 0);
  cr_assert(client.answers(kFirst));

  const auto refused = [&](uint32_t version, const std::array<uint64_t, layout::kRegions>& prints) {
    auto hello = RawClient::hello();
    hello.protocol_version = version;
    std::ranges::copy(prints, hello.fingerprints);
    return answer_to(hello, door);
  };
  cr_assert_eq(refused(next.protocol_version, next.fingerprints).code, WARM_OK, "its own version is served too");
  cr_assert_eq(refused(next.protocol_version, layout::fingerprints()).code, WARM_E_VERSION, "each by its own fingerprints");
  cr_assert_eq(refused(layout::kProtocolVersion, next.fingerprints).code, WARM_E_VERSION);
  const auto later = refused(next.protocol_version + 1, next.fingerprints);
  cr_assert_eq(later.code, WARM_E_VERSION);
  cr_assert_str_eq(later.text, "the library speaks protocol 3, this daemon 2 and 1");
}

// Else it could not read why.
Test(intake, library_of_the_version_before_is_refused_in_its_own) {
  const auto dialects = dialects_of_the_next_version();
  OpenDoor door({.access = {.users = {{::getuid(), layout::Access::none}}}, .dialects = dialects});
  for (const layout::Dialect& one : dialects) {
    auto hello = RawClient::hello();
    hello.protocol_version = one.protocol_version;
    const layout::Refuse refuse = answer_to(hello, door);
    cr_assert_eq(refuse.code, WARM_E_ACCESS);
    cr_assert_eq(refuse.protocol_version, one.protocol_version);
  }
}

Test(intake, user_without_access_is_refused) {
  OpenDoor door({.access = {.users = {{::getuid(), layout::Access::none}}}});
  cr_assert_eq(answer_to(RawClient::hello(), door).code, WARM_E_ACCESS);
}

Test(intake, sessions_beyond_the_limit_are_refused_with_it) {
  OpenDoor door({.sessions_max = 2});
  Welcomed a(door);
  Welcomed b(door);
  const layout::Refuse refuse = answer_to(RawClient::hello(), door);
  cr_assert_eq(refuse.code, WARM_E_LIMIT);
  cr_assert(std::strstr(refuse.text, "2 sessions") != nullptr);
  // Who has a session already comes back to it.
  b.take_segments();
  b.close();
  RawClient again(door.path());
  again.send(b.hello_again());
  cr_assert(again.take_welcome().has_value());
  cr_assert_eq(again.welcome.resumed, 1);
  // One goes, one may come.
  a.take_segments();
  a.bye();
  cr_assert(comes([&] { return state_of(a) == kDead; }));
  cr_assert(comes([&] {
    RawClient d(door.path());
    return d.attach().has_value();
  }));
}

Test(intake, session_is_live_when_it_was_accepted_and_its_segments_say_so) {
  OpenDoor door;
  RawClient client(door.path());
  client.accepts = false;
  cr_assert(client.attach().has_value());
  cr_assert_eq(state_of(client), kOffered);
  // Another one's whole greeting comes and goes: nothing was sent on this socket meanwhile.
  Welcomed other(door);
  other.take_segments();
  cr_assert(!client.has_mail(), "a list of segments before the session is live");
  client.accept();
  auto list = client.receive();
  cr_assert(list->kind() == layout::MessageKind::segments);
  cr_assert_eq(state_of(client), kLive);
}

Test(intake, session_that_was_not_accepted_ends_with_its_socket) {
  OpenDoor door;
  RawClient client(door.path());
  client.accepts = false;
  cr_assert(client.attach().has_value());
  client.close();
  cr_assert(comes([&] { return state_of(client) == kDead; }));
}

Test(intake, accept_out_of_turn_costs_the_socket_and_not_the_session) {
  OpenDoor door;
  Welcomed twice(door);
  twice.take_segments();
  twice.accept();
  cr_assert(!twice.receive().has_value());
  cr_assert_eq(state_of(twice), kLive);
  RawClient early(door.path());
  early.accepts = false;
  cr_assert(early.attach().has_value());
  early.ask_for_segments();
  cr_assert(!early.receive().has_value());
  cr_assert(comes([&] { return state_of(early) == kDead; }));
}

Test(intake, listener_replaces_a_stale_socket_and_leaves_a_live_one_and_other_files_alone) {
  TemporaryDirectory directory;
  const std::string path = directory.path() + "/sock";
  {
    auto first = listen_at(path, 0600);
    cr_assert(first.has_value());
    auto second = listen_at(path, 0600);
    cr_assert(!second.has_value());
    cr_assert_eq(second.error().code, WARM_E_BUSY);
  }
  cr_assert(listen_at(path, 0666).has_value(), "its listener is gone");
  const std::string file = directory.path() + "/file";
  base::Fd made(::open(file.c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
  cr_assert_eq(listen_at(file, 0600).error().code, WARM_E_EXISTS);
  cr_assert_eq(listen_at(directory.path() + "/" + std::string(120, 'x'), 0600).error().code, WARM_E_INVALID);
}
