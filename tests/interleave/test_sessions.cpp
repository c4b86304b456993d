// Sessions over the death of a daemon: docs/protocol.md, "Sessions". What is at stake is that slots can be used again: while an
// entry is awaited that nobody will hand back, a small store is full for ever.
#include <poll.h>
#include <unistd.h>

#include <optional>
#include <string>

#include "tests/interleave/scene.hpp"
#include "tests/support/process.hpp"
#include "tests/support/regions.hpp"

using namespace warmtier::tests::interleave;
using namespace warmtier;
using tests::support::await_stats;
using tests::support::Client;
using tests::support::fence;
using tests::support::give_up;
using tests::support::own_lanes;
using tests::support::Process;
using tests::support::Shared;
using tests::support::Steps;

TestSuite(sessions, .timeout = 120);

namespace {

constexpr uint64_t kSlots = 64;

// Puts so often that every slot that can be used again is.
int use_every_slot_again(warm_client* client) {
  for (uint32_t version = 1; version <= 4 * kSlots; ++version) {
    if (const int code = put(client, "again", version); code != WARM_OK) return code;
  }
  return WARM_OK;
}

const char* awaited_in_vain(warm_client* client) {
  const int code = use_every_slot_again(client);
  if (code == WARM_OK) return nullptr;
  if (code != WARM_E_FULL) give_up(std::string("a put returned ") + warm_error_name(code) + ": " + warm_last_error());
  return "a session that nobody will hand back is awaited, and no slot is used again";
}

// A view holds version 1 of A. It goes, and every slot that can be used again is. The view is released.
const char* held_bytes_changed(warm_client* writer, warm_client* reader, warm_view& held) {
  must_put(writer, "A", 2);
  if (use_every_slot_again(writer) != WARM_OK) give_up("a put failed");
  const Seen seen = look(held);
  warm_release(reader, &held);
  return seen.version == 1 && seen.embedding == 1 && seen.content == 1 ? nullptr : "the bytes of a held view changed";
}

void await(Steps& steps, const char* what) { steps.await(1, what); }

// Every lane of this process's channel is fenced; the next put finds that out.
void move(warm_client* client) {
  fence(own_lanes());
  must_put(client, "moved", 1);
}

void await_ends(warm_client* client, uint64_t count) {
  await_stats(client, "the former session is over", [&](const warm_stats& stats) { return stats.sessions_ended == count; });
}

}  // namespace

// The daemon dies between the entry and the welcome: the client, which lives on, never learned the session's number.
INTERLEAVING(sessions, a_session_that_nobody_was_welcomed_to_is_not_awaited, store_of(kSlots), "daemon.offered_until_accepted") {
  const Client client(scene.daemon());
  Actor opener;
  warm_client* other = nullptr;
  int code = WARM_OK;
  scene.leave_out();
  Stop welcome = scene.daemon_at("daemon.handshake.welcome");
  opener.begin([&] { code = scene.daemon().try_open(&other, 1000); });
  welcome.reached();
  scene.daemon().kill();
  welcome.go();
  opener.end();
  if (code != WARM_E_UNAVAILABLE) give_up("a client was opened by a daemon that was dead");
  scene.daemon().start();
  return awaited_in_vain(client);
}

// What a client does with a session the next daemon must know of: so its entry is live before the client can do anything.
INTERLEAVING(sessions, a_session_is_live_before_anything_is_pinned_in_it, store_of(kSlots), "daemon.live_before_list") {
  const Client writer(scene.daemon());
  must_put(writer, "A", 1);
  Actor reader;
  warm_client* client = nullptr;
  warm_view held = WARM_VIEW_INIT;
  const auto open_and_hold = [&] {
    if (scene.daemon().try_open(&client) == WARM_OK && view(client, "A", &held) != WARM_OK) give_up("A cannot be read");
  };
  scene.leave_out();
  Stop accepted = scene.daemon_at("daemon.entry.accepted");
  reader.begin(open_and_hold);
  accepted.reached();
  if (scene.without()) reader.end();  // else it waits
  scene.daemon().kill();
  accepted.go();
  scene.hold_again();
  scene.daemon().start();
  reader.end();  // it has waited for this daemon, if for any
  if (client == nullptr) give_up("it was not attached");
  const char* const violated = held_bytes_changed(writer, client, held);
  warm_close(client);
  return violated;
}

// Closed while no daemon was there: the next one hears it from the next client of the same process.
INTERLEAVING(sessions, a_session_closed_without_a_daemon_is_named_to_the_next_one, store_of(kSlots),
             "client.forsaken_are_named") {
  const Client client(scene.daemon());
  Client closed(scene.daemon());
  scene.daemon().kill();
  scene.leave_out();
  if (closed.close() != WARM_OK) give_up("a client without views is closed");
  scene.daemon().start();
  return awaited_in_vain(client);
}

// Its daemon died, another is there, and the process will not attach again: it says its farewell to that one.
INTERLEAVING(sessions, a_client_that_closes_after_a_restart_tells_the_new_daemon, store_of(kSlots),
             "client.farewell_to_the_next") {
  Shared<Steps> attached;
  Shared<Steps> restarted;
  Shared<Steps> closed;
  const Process idler = Process::fork([&] {
    warm_client* client = nullptr;
    if (scene.daemon().try_open(&client) != WARM_OK) return 1;
    attached->advance();
    const auto patience = [] { return base::Deadline::after_ns(tests::support::kPatienceNs); };
    if (!restarted->wait_for(1, patience()) || warm_close(client) != WARM_OK) return 2;
    closed->advance();
    ::pause();  // lives on without a client
    return 0;
  });
  await(*attached, "the idler attaches");
  scene.daemon().restart();
  scene.leave_out();
  restarted->advance();
  await(*closed, "the idler closes its client");
  const Client client(scene.daemon());
  return awaited_in_vain(client);
}

// Who can publish nothing any more would hear WARM_E_BUSY for ever.
INTERLEAVING(sessions, a_client_whose_lanes_are_all_fenced_gets_another_channel, store_of(kSlots),
             "client.moves_to_another_channel") {
  const Client client(scene.daemon(), scene.vain_timeout_ms());
  must_put(client, "A", 1);
  scene.leave_out();
  fence(own_lanes());
  const int code = put(client, "A", 2);
  if (code == WARM_E_BUSY) return "a client whose lanes are all fenced can change nothing any more";
  if (code != WARM_OK) give_up(std::string("a put returned ") + warm_error_name(code) + ": " + warm_last_error());
  if (get(client, "A").version != 2) give_up("what was put is not there");
  await_ends(client, 1);  // nothing stood in the old one
  return nullptr;
}

INTERLEAVING(sessions, a_former_session_lives_on_for_the_views_that_stand_in_it, store_of(kSlots),
             "client.former_until_unpinned") {
  const Client client(scene.daemon());
  must_put(client, "A", 1);
  warm_view held = WARM_VIEW_INIT;
  if (view(client, "A", &held) != WARM_OK) give_up("A cannot be read");
  scene.leave_out();
  move(client);
  if (scene.without()) await_ends(client, 1);
  const char* const violated = held_bytes_changed(client, client, held);
  await_ends(client, 1);
  return violated;
}

// A thread in the midst of a get has the attachment of before, and pins in the session of before.
INTERLEAVING(sessions, a_former_session_lives_on_while_a_thread_reads_in_it, store_of(kSlots),
             "client.former_until_nobody_is_inside") {
  const Client client(scene.daemon());
  must_put(client, "A", 1);
  Actor reader;
  warm_view held = WARM_VIEW_INIT;
  Stop reading = scene.at("client.get_put_loaded", reader.tid());
  reader.begin([&] {
    if (view(client, "A", &held) != WARM_OK) give_up("A cannot be read");
  });
  reading.reached();
  scene.leave_out();
  move(client);
  if (scene.without()) await_ends(client, 1);
  reading.go();
  reader.end();
  const char* const violated = held_bytes_changed(client, client, held);
  await_ends(client, 1);
  return violated;
}

// A claim that began before the move publishes in the old channel; then the daemon dies before it carries it out.
INTERLEAVING(sessions, a_former_session_lives_on_for_its_requests_without_an_answer, store_of(kSlots),
             "client.former_until_answered") {
  const Client client(scene.daemon());
  must_put(client, "A", 1);
  warm_view held = WARM_VIEW_INIT;
  if (view(client, "A", &held) != WARM_OK) give_up("A cannot be read");
  int fd = -1;
  if (warm_completion_fd(client, &fd) != WARM_OK) give_up(warm_last_error());
  Actor writer;
  warm_ticket ticket = 0;
  Stop claimed = scene.at("client.lane_header_written", writer.tid());
  writer.begin([&] {
    if (submit(client, "B", 1, &ticket) != WARM_OK) give_up("B cannot be submitted");
  });
  claimed.reached();
  move(client);
  Stop seen = scene.daemon_at("daemon.lane.seen");
  claimed.go();
  writer.end();
  seen.reached();
  scene.leave_out();
  warm_release(client, &held);  // nothing but the ticket is left
  scene.daemon().kill();
  seen.go();
  scene.daemon().start();
  // By the descriptor: the answer is on nobody's socket.
  warm_completion completion{};
  for (size_t count = 0; count == 0;) {
    if (warm_completions(client, &completion, 1, &count) != WARM_OK) give_up(warm_last_error());
    pollfd readable{.fd = fd, .events = POLLIN, .revents = 0};
    if (count == 0 && ::poll(&readable, 1, 20'000) != 1) give_up("an answer in a former session shows by no descriptor");
  }
  if (completion.ticket != ticket) give_up("a completion of no ticket");
  if (completion.result.code == WARM_E_UNKNOWN) return "a request that was published got no answer";
  if (completion.result.code != WARM_OK || get(client, "B").version != 1) give_up("B was not put");
  await_ends(client, 1);
  return nullptr;
}

// Its pins are in no other memory: who does not bring it keeps the store waiting for it.
INTERLEAVING(sessions, a_former_session_is_handed_back_to_the_next_daemon, store_of(kSlots), "client.formers_are_handed_back") {
  const Client client(scene.daemon());
  must_put(client, "A", 1);
  warm_view held = WARM_VIEW_INIT;
  if (view(client, "A", &held) != WARM_OK) give_up("A cannot be read");
  move(client);
  scene.leave_out();
  scene.daemon().restart();
  const char* violated = awaited_in_vain(client);
  if (violated == nullptr) {
    const Seen seen = look(held);
    uint32_t state = 99;
    if (seen.version != 1 || seen.mixed()) give_up("the bytes of a held view changed");
    if (warm_view_check(client, &held, &state) != WARM_OK || state != WARM_VIEW_CURRENT) give_up("the view is not current");
  }
  warm_release(client, &held);
  if (violated == nullptr) await_ends(client, 1);
  return violated;
}

// The daemon dies when the new session is live and its client does not know. The next one is told that it is over.
INTERLEAVING(sessions, a_move_that_a_dying_daemon_breaks_off_leaves_no_session_that_is_awaited, store_of(kSlots),
             "client.forsaken_are_named") {
  const Client client(scene.daemon());
  must_put(client, "A", 1);
  Actor writer;
  Stop live = scene.daemon_at("daemon.entry.live");
  fence(own_lanes());
  writer.begin([&] { must_put(client, "A", 2); });
  live.reached();
  scene.leave_out();
  scene.daemon().kill();
  live.go();
  scene.daemon().start();
  writer.end();
  return awaited_in_vain(client);
}
