// How sessions end, and how they go on: over a socket that was closed, by a new one, with the next daemon.
#include <criterion/criterion.h>
#include <grp.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <array>
#include <memory>

#include "tests/unit/session/door.hpp"

using namespace warmtier;
using namespace warmtier::daemon;
using namespace warmtier::daemon::session;
using namespace warmtier::daemon::session::test;

Test(intake, end_of_file_does_not_end_a_session) {
  OpenDoor door;
  Welcomed client(door);
  client.memory().header.pins_high = 1;
  client.memory().pins[0] = 3;
  client.close();
  // Another one's attach is handled after it.
  Welcomed other(door);
  cr_assert_eq(state_of(client), kLive);
  cr_assert_eq(layout::load_acquire(door.status.pins_voided), 0);
  // Its requests are still carried out.
  client.lanes->publish(5, kFirst, client.request(0, kFirst, "id", 0), "id", "");
  other.ring();
  cr_assert(client.answers(kFirst));
}

Test(intake, death_of_the_process_ends_its_session_also_when_another_holds_its_socket) {
  OpenDoor door;
  int pipe_fds[2];
  cr_assert(::pipe(pipe_fds) == 0);
  const pid_t child = ::fork();
  if (child == 0) {
    RawClient client(door.path());
    if (!client.attach().has_value()) ::_exit(1);
    client.memory().header.pins_high = 2;
    client.memory().pins[1] = 3;
    const pid_t grandchild = ::fork();
    if (grandchild == 0) {
      char byte = 0;
      ::close(pipe_fds[1]);
      (void)!::read(pipe_fds[0], &byte, 1);  // lives, with the socket, until the test is over
      ::_exit(0);
    }
    ::kill(::getpid(), SIGKILL);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  cr_assert(WIFSIGNALED(status));
  cr_assert(comes([&] { return layout::load_acquire(door.status.sessions_ended) == 1; }));
  cr_assert_eq(layout::load_acquire(door.status.pins_voided), 1);
  cr_assert_eq(layout::load_acquire(door.status.sessions), 0);
  ::close(pipe_fds[0]);
  ::close(pipe_fds[1]);
}

// A close with something unread resets the connection, and what cannot be sent to it fails: what it had said before counts.
Test(intake, bye_is_heard_from_who_closes_with_something_unread) {
  OpenDoor door;
  for (const bool list_is_there : {true, false}) {
    for (uint32_t round = 0; round < 20; ++round) {
      Welcomed client(door);
      pollfd look{.fd = client.fd(), .events = POLLIN, .revents = 0};
      if (list_is_there) cr_assert(::poll(&look, 1, kPatienceMs) == 1);
      client.bye();
      client.close();
      cr_assert(comes([&] { return state_of(client) == kDead; }), "a bye was not heard (%s)",
                list_is_there ? "reset" : "nobody to send to");
    }
  }
}

// Else they would be received, and closed, by the intake thread.
Test(intake, descriptors_are_seen_at_the_head_of_a_connection_that_was_reset) {
  int ends[2];
  cr_assert_eq(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends), 0);
  base::Fd theirs(ends[0]);
  const base::Fd ours(ends[1]);
  const std::array<std::byte, 8> bytes{};
  const base::Fd file = some_memfd(4096, 0);
  cr_assert(send_packet(theirs.get(), bytes, std::span(&file, 1)) == Sent::sent);
  cr_assert(send_packet(ours.get(), bytes, {}) == Sent::sent);
  theirs.reset();
  cr_assert(look_at(ours.get()) == Head::with_descriptors);
  cr_assert(send_packet(ours.get(), bytes, {}) == Sent::unheard);
}

Test(intake, process_ends_its_own_sessions_by_number_and_nobody_elses) {
  OpenDoor door;
  Welcomed forsaken(door);
  Welcomed kept(door);
  forsaken.close();
  const uint64_t number = forsaken.welcome.session;
  // Another process of the same user names it: nothing comes of it.
  const int code = in_another_process([&] {
    RawClient client(door.path());
    client.accepts = false;
    if (!client.attach().has_value()) return 1;
    client.accept({number});
    client.take_segments();
    return 0;
  });
  cr_assert_eq(code, 0);
  cr_assert_eq(state_of(forsaken), kLive);
  RawClient next(door.path());
  next.accepts = false;
  cr_assert(next.attach().has_value());
  next.accept({number, number + 1000});
  cr_assert(comes([&] { return state_of(forsaken) == kDead; }));
  next.take_segments();
  cr_assert_eq(state_of(kept), kLive);
  cr_assert_eq(state_of(next), kLive);
}

Test(intake, session_of_this_daemon_is_resumed_on_a_new_socket) {
  OpenDoor door;
  Welcomed client(door);
  client.ask(kFirst, 0);
  cr_assert(client.answers(kFirst));
  client.close();
  RawClient again(door.path());
  again.send(client.hello_again(), client.to_hand_back());
  cr_assert(again.take_welcome().has_value());
  cr_assert_eq(again.welcome.resumed, 1);
  cr_assert_eq(again.welcome.session, client.welcome.session);
  again.take_segments();
  again.ask(kFirst + 1, 0);
  cr_assert(client.answers(kFirst + 1));
}

Test(intake, hand_back_of_other_memory_entry_or_namespace_gets_a_fresh_session) {
  OpenDoor door;
  Welcomed client(door);
  for (int which = 0; which < 5; ++which) {
    auto hello = client.hello_again();
    hello.resume_session += which == 0 ? 100 : 0;
    hello.resume_channel += which == 1 ? 1 : 0;
    hello.resume_index += which == 2 ? 1 : 0;
    hello.namespace_inode += which == 3 ? 1 : 0;
    base::Fd forged = some_memfd(sizeof(layout::SessionRegion), F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
    RawClient again(door.path());
    again.send(hello, {client.descriptors[5].get(), which == 4 ? forged.get() : client.descriptors[6].get()});
    cr_assert(again.take_welcome().has_value(), "case %d", which);
    cr_assert_eq(again.welcome.resumed, 0, "case %d", which);
    cr_assert_neq(again.welcome.session, client.welcome.session);
  }
  cr_assert_eq(state_of(client), kLive);
}

Test(intake, process_that_closed_all_its_descriptors_gets_them_again) {
  OpenDoor door;
  Welcomed client(door);
  const base::InodeId lanes = *base::inode_of(client.descriptors[5].get());
  const base::InodeId memory = *base::inode_of(client.descriptors[6].get());
  client.close();
  client.descriptors.clear();
  RawClient again(door.path());
  again.send(client.hello_again());
  cr_assert(again.take_welcome().has_value());
  cr_assert_eq(again.welcome.resumed, 1);
  cr_assert_eq(again.welcome.session, client.welcome.session);
  cr_assert(*base::inode_of(again.descriptors[5].get()) == lanes);
  cr_assert(*base::inode_of(again.descriptors[6].get()) == memory);
  // But not another process.
  const int code = in_another_process([&] {
    RawClient other(door.path());
    other.send(client.hello_again());
    return other.take_welcome().has_value() && other.welcome.resumed == 0 ? 0 : 1;
  });
  cr_assert_eq(code, 0);
}

// Only root can leave a group behind.
Test(intake, access_of_a_session_that_is_resumed_is_that_of_now, .disabled = ::geteuid() != 0) {
  constexpr gid_t kWriters = 4'711;
  constexpr gid_t kReaders = 4'712;
  AccessRules rules;
  rules.groups = {{kWriters, layout::Access::write}, {kReaders, layout::Access::read}};
  OpenDoor door({.access = rules, .own_uid = 4'242});
  const int code = in_another_process([&] {
    if (::setgroups(0, nullptr) != 0 || ::setgid(kWriters) != 0) return 1;
    RawClient client(door.path());
    if (!client.attach() || client.welcome.access != static_cast<uint32_t>(layout::Access::write)) return 2;
    client.take_segments();
    client.close();
    if (::setgid(kReaders) != 0) return 3;
    RawClient again(door.path());
    again.send(client.hello_again(), client.to_hand_back());
    if (!again.take_welcome() || again.welcome.resumed != 1) return 4;
    if (again.welcome.access != static_cast<uint32_t>(layout::Access::read)) return 5;
    again.take_segments();
    again.ask(kFirst, 0);
    while (layout::load_acquire(again.cell(0).number) != kFirst) std::this_thread::yield();
    return again.cell(0).status == WARM_E_ACCESS ? 0 : 6;
  });
  cr_assert_eq(code, 0);
}

// The daemon is replaced by a newer one under a client that goes on: only its new hello says what it speaks.
Test(intake, orphan_of_the_version_before_is_taken_back_in_its_own) {
  const auto dialects = dialects_of_the_next_version();
  OpenDoor first;
  Welcomed client(first);
  cr_assert(comes([&] { return state_of(client) == kLive; }));
  Door second({.dialects = dialects});
  second.take_over(first, client.welcome.channel);
  second.start();
  RawClient again(second.path());
  again.send(client.hello_again(), client.to_hand_back());
  const auto welcome = again.receive()->as<layout::Welcome>();
  cr_assert_eq(welcome.resumed, 1);
  cr_assert_eq(welcome.protocol_version, layout::kProtocolVersion);
}

Test(intake, orphan_of_an_earlier_daemon_is_adopted_with_its_lanes_and_pins) {
  OpenDoor first;
  Welcomed client(first);
  client.ask(kFirst, 3);
  cr_assert(client.answers(kFirst));
  client.memory().header.pins_high = 1;
  client.memory().pins[0] = 5;

  Door second;
  second.take_over(first, client.welcome.channel);
  cr_assert_eq(second.status.orphans, 1);
  second.start();
  client.lanes->publish(3, kFirst + 1, client.request(0, kFirst + 1, "second", 0), "second", "");
  RawClient again(second.path());
  again.send(client.hello_again(), client.to_hand_back());
  cr_assert(again.take_welcome().has_value());
  cr_assert_eq(again.welcome.resumed, 1);
  cr_assert_eq(layout::load_acquire(second.status.orphans), 0);
  cr_assert(again.answers(kFirst + 1), "the request in flight is answered");
  again.take_segments();
  // A second process of the user joins the adopted channel.
  Welcomed other(second);
  cr_assert_eq(other.welcome.channel, client.welcome.channel);
}

Test(intake, orphan_keeps_what_it_was_granted_and_it_counts) {
  OpenDoor first({.access = everybody(), .own_uid = ::getuid() + 1, .capacity = 100'000});
  Welcomed client(first);
  cr_assert_eq(client.welcome.views_max, 781);
  cr_assert(comes([&] { return state_of(client) == kLive; }));
  // One that would have granted less.
  Door second({.access = everybody(), .own_uid = ::getuid() + 1, .capacity = 3000});
  second.executor.next_session = second.executor.next_channel = 100;
  second.take_over(first, client.welcome.channel);
  second.start();
  Welcomed other(second);
  cr_assert_eq(other.welcome.views_max, 64);
  RawClient again(second.path());
  again.send(client.hello_again(), client.to_hand_back());
  cr_assert(again.take_welcome().has_value());
  cr_assert_eq(again.welcome.resumed, 1);
  cr_assert_eq(again.welcome.views_max, 781);
  // 1500 - 781 - 64 are left.
  std::vector<std::unique_ptr<RawClient>> more;
  for (int i = 0; i < 10; ++i) {
    more.push_back(std::make_unique<RawClient>(second.path()));
    cr_assert(more.back()->attach().has_value(), "%d", i);
  }
  RawClient one_too_many(second.path());
  cr_assert(!one_too_many.attach().has_value());
}
