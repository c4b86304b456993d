// What comes with descriptors: large content of our own and of other users, and what nobody asked for.
#include <criterion/criterion.h>
#include <fcntl.h>
#include <sys/mman.h>

#include <future>
#include <thread>
#include <utility>
#include <vector>

#include "tests/support/lingering.hpp"
#include "tests/unit/session/door.hpp"

using namespace warmtier;
using namespace warmtier::daemon;
using namespace warmtier::daemon::session;
using namespace warmtier::daemon::session::test;

Test(intake, large_content_is_read_and_carried_out_once) {
  OpenDoor door;
  Welcomed client(door);
  const std::string content(100'000, 'c');
  base::Fd memfd = some_memfd(0, 0);
  cr_assert(::write(memfd.get(), content.data(), content.size()) == static_cast<ssize_t>(content.size()));
  cr_assert(::fcntl(memfd.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE) == 0);
  client.send_large(1, client.request(0, kFirst, "large", content.size()), "large", {memfd.get()});
  cr_assert(client.answers(kFirst));
  cr_assert_eq(client.cell(0).status, WARM_OK);
  cr_assert(door.executor.executed.back().content == content);
  cr_assert(door.executor.executed.back().id == "large");
  cr_assert(comes([&] { return layout::load_acquire(client.entry().socket_done) == 1; }));
  // Sent again, as after a re-attach; and the next one behind it.
  client.send_large(1, client.request(0, kFirst, "large", content.size()), "large", {memfd.get()});
  client.send_large(2, client.request(1, kFirst, "next", content.size()), "next", {memfd.get()});
  cr_assert(client.answers(kFirst, 1));
  cr_assert_eq(door.executor.executed.size(), 2);
}

// This process is another user than the daemon's own.
Test(intake, descriptors_of_another_user_are_received_elsewhere_and_let_in_when_they_are_memory) {
  OpenDoor door({.access = everybody(), .own_uid = ::getuid() + 1});
  Welcomed client(door);
  constexpr uint64_t kBytes = 100'000;
  constexpr int kAll = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE;
  const base::Fd good = some_memfd(kBytes, kAll);
  const base::Fd unsealed = some_memfd(kBytes, 0);
  const base::Fd sparse = some_memfd(uint64_t{1} << 50, kAll);
  const base::Fd file(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  const std::pair<int, int32_t> cases[] = {{good.get(), WARM_OK},
                                           {unsealed.get(), WARM_E_INVALID},
                                           {sparse.get(), WARM_E_INVALID},
                                           {file.get(), WARM_E_INVALID},
                                           {good.get(), WARM_OK}};
  uint64_t number = 0;
  for (const auto& [fd, status] : cases) {
    ++number;
    client.send_large(number, client.request(0, kFirst + number - 1, "x", kBytes), "x", {fd});
    cr_assert(client.answers(kFirst + number - 1));
    cr_assert_eq(client.cell(0).status, status, "case %lu: %d", number, client.cell(0).status);
  }
  // What is handed back comes the same way.
  RawClient back(door.path());
  back.send(client.hello_again(), client.to_hand_back());
  const auto welcome = back.take_welcome();
  cr_assert(welcome && welcome->resumed == 1 && welcome->session == client.welcome.session);
}

Test(intake, who_sends_what_cannot_be_closed_at_once_keeps_nobody_waiting) {
  OpenDoor door({.access = everybody(), .own_uid = ::getuid() + 1});
  std::vector<std::jthread> closers;  // our own closes may be the last ones, and wait until the peers go
  std::vector<base::Fd> peers;
  const auto sent_by = [&](const auto& send) {
    tests::support::Lingering one = tests::support::lingering();
    cr_assert(one.end && one.peer);
    send(one.end.get());
    peers.push_back(std::move(one.peer));
    closers.emplace_back([end = std::move(one.end)]() mutable { end.reset(); });
  };
  // In a put, where none is wanted, in a greeting; and unread, when its socket is closed.
  Welcomed client(door);
  sent_by([&](int fd) { client.send_large(1, client.request(0, kFirst, "x", 100'000), "x", {fd}); });
  Welcomed surplus(door);
  sent_by([&](int fd) { surplus.send(layout::kDoorbellByte, {fd, fd, fd}); });
  {
    const RawClient greeting(door.path());
    sent_by([&](int fd) { greeting.send(RawClient::hello(), {fd, fd}); });
    // The first of them ends the session, and nobody reads the others.
    Welcomed unread(door);
    for (int i = 0; i < 4; ++i) sent_by([&](int fd) { unread.offer(layout::kDoorbellByte, {fd, fd}); });
  }
  Welcomed next(door);
  RawClient resumed(door.path());
  resumed.send(next.hello_again(), next.to_hand_back());
  cr_assert(resumed.take_welcome().has_value(), "descriptors of the same user are received after it");
}

Test(intake, another_users_large_content_fills_half_of_the_room) {
  constexpr uint64_t kBytes = 100'000;
  Door door({.access = everybody(), .own_uid = ::getuid() + 1, .large_bytes_max = 4 * kBytes - 2});
  std::promise<void> go_on;
  std::shared_future<void> gone_on = go_on.get_future();
  std::atomic<bool> begun{false};
  door.executor.before = [gone_on, &begun] {
    begun.store(true);
    gone_on.wait();
  };
  door.start();
  RawClient first(door.path());
  RawClient second(door.path());
  cr_assert(first.attach().has_value() && second.attach().has_value());
  const base::Fd content = some_memfd(kBytes, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE);
  first.send_large(1, first.request(0, kFirst, "a", kBytes), "a", {content.get()});
  cr_assert(comes([&] { return begun.load(); }));
  second.send_large(1, second.request(0, kFirst, "b", kBytes), "b", {content.get()});
  // Received behind both, and refused at once.
  RawClient third(door.path());
  layout::Hello wrong = RawClient::hello();
  wrong.protocol_version = 99;
  third.send(wrong, {content.get(), content.get()});
  cr_assert(third.receive()->kind() == layout::MessageKind::refuse);
  go_on.set_value();
  cr_assert(second.answers(kFirst));
  cr_assert_eq(first.cell(0).status, WARM_OK);
  cr_assert_eq(second.cell(0).status, WARM_E_BUSY);
  // What is answered takes no room any more.
  second.send_large(2, second.request(0, kFirst + 1, "b", kBytes), "b", {content.get()});
  cr_assert(second.answers(kFirst + 1));
  cr_assert_eq(second.cell(0).status, WARM_OK);
}

Test(intake, content_that_could_change_or_lies_about_its_length_is_refused) {
  OpenDoor door;
  Welcomed client(door);
  constexpr int kAll = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE;
  constexpr uint64_t kBytes = 70'000;
  base::Fd file(::open(door.socket_directory.path().c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
  const std::vector<base::Fd> bad = [&] {
    std::vector<base::Fd> all;
    all.push_back(some_memfd(kBytes, F_SEAL_SHRINK | F_SEAL_GROW));
    all.push_back(some_memfd(kBytes, F_SEAL_WRITE | F_SEAL_GROW));
    all.push_back(some_memfd(kBytes, F_SEAL_WRITE | F_SEAL_SHRINK));
    all.push_back(some_memfd(kBytes - 1, kAll));
    all.push_back(some_memfd(kBytes + 1, kAll));
    all.push_back(std::move(file));
    return all;
  }();
  uint64_t number = 0;
  for (const base::Fd& one : bad) {
    ++number;
    client.send_large(number, client.request(0, kFirst + number - 1, "x", kBytes), "x", {one.get()});
    cr_assert(client.answers(kFirst + number - 1));
    cr_assert_eq(client.cell(0).status, WARM_E_INVALID, "case %lu", number);
  }
  cr_assert(door.executor.executed.empty());
  // One more, a good one: the session was not harmed.
  base::Fd good = some_memfd(kBytes, kAll);
  client.send_large(number + 1, client.request(0, kFirst + number, "x", kBytes), "x", {good.get()});
  cr_assert(client.answers(kFirst + number));
  cr_assert_eq(client.cell(0).status, WARM_OK);
}

Test(intake, descriptors_that_nobody_asked_for_end_the_session) {
  for (int which = 0; which < 3; ++which) {
    Door door;
    door.start();
    Welcomed client(door);
    base::Fd any = some_memfd(10, 0);
    if (which == 0) client.send('D', {any.get()});
    if (which == 1) client.send_large(1, client.request(0, kFirst, "x", 10), "x", {any.get(), any.get()});
    if (which == 2) client.send_large(1, client.request(0, kFirst, "x", 10), "x", std::vector<int>(20, any.get()));
    cr_assert(comes([&] { return state_of(client) == kDead; }), "case %d", which);
    cr_assert(door.executor.executed.empty());
  }
}
