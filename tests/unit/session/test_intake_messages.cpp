// Messages between a session and its daemon: bells, indexes, watches, questions, and nonsense.
#include <criterion/criterion.h>
#include <linux/futex.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include <algorithm>
#include <atomic>
#include <memory>
#include <thread>
#include <vector>

#include "tests/unit/session/door.hpp"

using namespace warmtier;
using namespace warmtier::daemon;
using namespace warmtier::daemon::session;
using namespace warmtier::daemon::session::test;

namespace {

layout::Watch watch_for(uint64_t sequence_after, uint32_t checkpoint = 0) {
  layout::Watch watch{};
  watch.header = {.kind = static_cast<uint32_t>(layout::MessageKind::watch), .bytes = sizeof watch};
  watch.sequence_after = sequence_after;
  watch.durable_after = layout::kWatchNothing;
  watch.checkpoint = checkpoint;
  return watch;
}

}  // namespace

Test(intake, requests_are_served_through_the_lanes_when_the_bell_rings) {
  OpenDoor door;
  Welcomed client(door);
  client.ask(kFirst, 5);
  cr_assert(client.answers(kFirst));
  cr_assert_eq(client.cell(0).status, WARM_OK);
}

Test(intake, larger_index_reaches_every_session) {
  OpenDoor door;
  Welcomed a(door);
  Welcomed b(door);
  a.take_segments();
  b.take_segments();
  base::Fd table = some_memfd(8192, 0);
  door.intake->publish_index(table.get(), 13, 18);
  for (RawClient* client : {&a, &b}) {
    auto received = client->receive();
    cr_assert(received->kind() == layout::MessageKind::index);
    cr_assert_eq(received->as<layout::IndexMessage>().generation, 18);
    cr_assert_eq(received->as<layout::IndexMessage>().homes_log2, 13);
    cr_assert_eq(received->descriptors.size(), 1);
    cr_assert(*base::inode_of(received->descriptors[0].get()) == *base::inode_of(table.get()));
  }
}

Test(intake, session_that_does_not_take_its_mail_loses_its_socket_only) {
  OpenDoor door;
  Welcomed deaf(door);
  Welcomed other(door);
  other.take_segments();
  base::Fd table = some_memfd(8192, 0);
  bool ended = false;
  for (uint64_t i = 0; i < 100'000 && !ended; ++i) {
    door.intake->publish_index(table.get(), 13, 18 + i);
    cr_assert(other.receive().has_value(), "the one that listens hears everything");
    pollfd look{.fd = deaf.fd(), .events = POLLRDHUP, .revents = 0};
    ended = ::poll(&look, 1, 0) == 1 && (look.revents & POLLRDHUP) != 0;
  }
  cr_assert(ended);
  cr_assert_eq(state_of(deaf), kLive);
}

Test(intake, nonsense_closes_the_socket_and_hurts_nobody_else) {
  OpenDoor door;
  Welcomed good(door);
  for (uint32_t kind = 0; kind < 12; ++kind) {
    RawClient bad(door.path());
    struct {
      layout::MessageHeader header;
      uint64_t rest[3];
    } message{.header = {.kind = kind, .bytes = 32}, .rest = {~0ULL, ~0ULL, ~0ULL}};
    bad.send(message);  // instead of a hello
    auto answer = bad.receive();
    cr_assert(!answer || answer->kind() == layout::MessageKind::refuse);
  }
  Welcomed bad(door);
  bad.take_segments();
  layout::Bye wrong{{.kind = 77, .bytes = sizeof wrong}};
  bad.send(wrong);
  cr_assert(!bad.receive().has_value());
  good.ask(kFirst, 5);
  cr_assert(good.answers(kFirst));
}

Test(intake, watch_wakes_who_sleeps_on_the_status_page) {
  OpenDoor door;
  Welcomed client(door);
  client.take_segments();
  std::atomic<bool> woken{false};
  layout::store_release(door.status.sequence, 5);
  std::thread sleeper([&] {
    while (::syscall(SYS_futex, &door.status.sequence, FUTEX_WAIT, 5, nullptr, nullptr, 0) != 0 && errno == EINTR) {
    }
    woken = true;
  });
  // Until it sleeps the wakes meet nobody.
  cr_assert(comes([&] {
    client.offer(watch_for(4));
    return woken.load();
  }));
  sleeper.join();
}

Test(intake, watch_that_is_not_one_closes_the_socket_and_ends_no_session) {
  OpenDoor door;
  for (int which = 0; which < 4; ++which) {
    Welcomed client(door);
    client.take_segments();
    layout::Watch watch = watch_for(0);
    if (which == 0) watch.checkpoint = 2;
    if (which == 1) watch.reserved = 1;
    if (which == 2) watch.header.bytes -= 1;
    if (which == 3) watch.header.bytes += 1;
    client.send(watch, {}, which == 3 ? "x" : "");
    cr_assert(!client.receive().has_value(), "case %d", which);
    cr_assert_eq(state_of(client), kLive);
  }
}

Test(intake, watch_with_a_descriptor_ends_the_session) {
  OpenDoor door;
  Welcomed client(door);
  const base::Fd any = some_memfd(10, 0);
  client.send(watch_for(0), {any.get()});
  cr_assert(comes([&] { return state_of(client) == kDead; }));
}

Test(intake, checkpoint_is_begun_for_who_may_administer_only) {
  for (const layout::Access access : {layout::Access::read, layout::Access::write, layout::Access::admin}) {
    AccessRules rules;
    rules.users[::getuid()] = access;
    OpenDoor door({.access = rules});
    Welcomed client(door);
    client.take_segments();
    client.send(watch_for(0, 1));
    RawClient later(door.path());
    cr_assert(later.attach().has_value(), "the store thread took this after the watch");
    cr_assert_eq(door.executor.checkpoints.load(), access == layout::Access::admin ? 1U : 0U);
    cr_assert_eq(state_of(client), kLive);
  }
}

Test(intake, who_holds_what_is_told_of_every_session_in_as_many_messages_as_it_takes) {
  OpenDoor door;
  constexpr size_t kClients = layout::kSessionsPerMessage + 3;
  std::vector<std::unique_ptr<RawClient>> clients;
  const uint64_t begun_ns = base::wall_ns();
  for (size_t i = 0; i < kClients; ++i) {
    clients.push_back(std::make_unique<RawClient>(door.path()));
    cr_assert(clients.back()->attach().has_value());
    clients.back()->take_segments();
  }
  layout::SessionRegion& region = clients[7]->memory();
  region.header.pins_high = ~uint32_t{0};
  region.pins[0] = 1 + 5;
  region.pins[layout::kViewsMax - 1] = 1 + 6;
  region.pins[100] = ~uint32_t{0};  // no slot has this number
  region.counters.gets = 40;
  region.counters.misses = 2;
  clients[9]->close();  // its process lives
  std::vector<layout::SessionReport> all;
  for (uint64_t question = 1; all.empty() || report_of(all, *clients[9]).presence != 2; ++question) {
    all = ask_who_holds_what(*clients[0], question);
  }
  cr_assert_eq(all.size(), kClients);
  cr_assert(std::ranges::is_sorted(all, {}, &layout::SessionReport::session));
  const layout::SessionReport& holder = report_of(all, *clients[7]);
  cr_assert(holder.views == 3 && holder.view_bytes == 1005 + 1006 && holder.gets == 40 && holder.misses == 2);
  for (const auto& client : clients) {
    const layout::SessionReport& report = report_of(all, *client);
    cr_assert(report.channel == client->welcome.channel && report.uid == ::getuid());
    cr_assert_eq(report.pid, static_cast<uint32_t>(::getpid()));
    cr_assert(report.since_ns >= begun_ns && report.since_ns <= base::wall_ns());
    cr_assert_eq(report.presence, client == clients[9] ? 2U : 1U);
    cr_assert(client == clients[7] || (report.views == 0 && report.view_bytes == 0));
  }
}

// Who asks again before he is answered gets the answer to his last question, and nobody is slowed down by it.
Test(intake, questions_in_a_loop_are_one_census_in_a_tenth_of_a_second) {
  OpenDoor door;
  RawClient asking(door.path());
  RawClient working(door.path());
  for (RawClient* client : {&asking, &working}) {
    cr_assert(client->attach().has_value());
    client->take_segments();
  }
  constexpr uint64_t kQuestions = 2000;
  layout::SessionsWanted wanted{};
  wanted.header = {.kind = static_cast<uint32_t>(layout::MessageKind::sessions_wanted), .bytes = sizeof wanted};
  const uint64_t begun_ns = base::monotonic_ns();
  while (++wanted.question <= kQuestions) cr_assert(::send(asking.fd(), &wanted, sizeof wanted, 0) == sizeof wanted);
  working.ask(kFirst, 5);
  cr_assert(working.answers(kFirst));
  uint64_t answers = 0;
  for (uint64_t answered = 0; answered != kQuestions; ++answers) {
    const auto received = asking.receive();
    cr_assert(received && received->kind() == layout::MessageKind::sessions);
    const uint64_t question = received->as<layout::SessionsMessage>().question;
    cr_assert_gt(question, answered);
    answered = question;
  }
  const uint64_t tenths = (base::monotonic_ns() - begun_ns) / (100 * base::kNsPerMs);
  cr_assert_leq(answers, tenths + 2);
}

Test(intake, question_that_is_none_closes_the_socket) {
  OpenDoor door;
  for (const uint32_t bytes : {8U, 15U, 17U, 24U}) {
    Welcomed client(door);
    client.take_segments();
    struct {
      layout::MessageHeader header;
      uint64_t rest[2];
    } message{.header = {.kind = static_cast<uint32_t>(layout::MessageKind::sessions_wanted), .bytes = bytes}, .rest = {}};
    cr_assert(::send(client.fd(), &message, bytes, 0) == static_cast<ssize_t>(bytes));
    cr_assert(!client.receive().has_value(), "%u bytes", bytes);
  }
}

Test(intake, each_question_for_segments_gets_a_list) {
  OpenDoor door;
  Welcomed client(door);
  client.take_segments();
  // More than fit into the socket's buffer: most are asked while a list is on its way.
  constexpr int kQuestions = 100;
  for (int i = 0; i < kQuestions; ++i) client.ask_for_segments();
  for (int i = 0; i < kQuestions; ++i) client.take_segments();
}
