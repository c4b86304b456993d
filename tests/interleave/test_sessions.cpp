// Sessions over the death of a daemon: docs/protocol.md, "Sessions". What is at stake is that slots can be used again: while an
// entry is awaited that nobody will hand back, a small store is full for ever.
#include <unistd.h>

#include <optional>
#include <string>

#include "tests/interleave/scene.hpp"
#include "tests/support/process.hpp"

using namespace warmtier::tests::interleave;
using namespace warmtier;
using tests::support::Client;
using tests::support::give_up;
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

void await(Steps& steps, const char* what) { steps.await(1, what); }

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
  must_put(writer, "A", 2);
  if (use_every_slot_again(writer) != WARM_OK) give_up("a put failed");
  const Seen seen = look(held);
  warm_release(client, &held);
  warm_close(client);
  return seen.version == 1 && seen.embedding == 1 && seen.content == 1 ? nullptr : "the bytes of a held view changed";
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
