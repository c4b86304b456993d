// Lanes, results and the intent line: docs/protocol.md, "Requests" and "Restart". Everybody runs on one processor, so that all
// come to the same lane first.
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <filesystem>
#include <optional>
#include <set>
#include <string>

#include "layout/control.hpp"
#include "tests/interleave/scene.hpp"
#include "tests/support/process.hpp"

using namespace warmtier::tests::interleave;
using namespace warmtier;
using tests::support::Client;
using tests::support::give_up;
using tests::support::Process;
using tests::support::Shared;
using tests::support::stats_of;
using tests::support::Steps;

static void on_one_processor() { tests::support::pin_to_processor(0); }

TestSuite(requests, .timeout = 120, .init = on_one_processor);

namespace {

// The daemon stands still with nothing in hand: what is published now it will see afterwards.
class Idle {
 public:
  Idle(Scene& scene, warm_client* client) : stop_(scene.daemon_at("daemon.sleep.before")) {
    remove(client, "nobody");  // it may sleep already
    stop_.reached();
  }
  void over() { stop_.go(); }

 private:
  Stop stop_;
};

// Begins a put and comes back when it is published.
void publish(Scene& scene, Actor& actor, std::function<void()> call) {
  Stop unlocked = scene.at("client.lane_unlocked", actor.tid());
  actor.begin(std::move(call));
  unlocked.reached();
  unlocked.go();
}

// After this the daemon has looked at every lane at least once.
void two_rounds(warm_client* client) {
  remove(client, "nobody");
  remove(client, "nobody");
}

// A process that stands inside a lane, with its mutex, until it is killed there.
class Victim {
 public:
  explicit Victim(Scene& scene) : scene_(scene) {
    process_ = Process::fork([&] {
      warm_client* client = nullptr;
      if (scene.daemon().try_open(&client) != WARM_OK) return 1;
      attached_->advance();
      if (!go_->wait_for(1, base::Deadline::after_ns(tests::support::kPatienceNs))) return 2;
      put(client, "victim", 1);
      return 0;
    });
    attached_->await(1, "the victim attaches");
  }
  void enter_lane() {
    Stop locked = scene_.at("client.lane_locked", process_.pid());
    go_->advance();
    locked.reached();
    locked_.emplace(std::move(locked));
  }
  void die() { process_.kill(); }

 private:
  Scene& scene_;
  Shared<Steps> attached_;
  Shared<Steps> go_;
  Process process_;
  std::optional<Stop> locked_;
};

}  // namespace

// ---- The lane -----------------------------------------------------------------------------------------------------------------

// Nine entries for a lane of eight: the ninth must go elsewhere, for the daemon has not taken the first.
INTERLEAVING(requests, an_entry_is_not_overwritten_before_it_was_carried_out, store_of(64), "client.entry_free_again") {
  const Client client(scene.daemon(), scene.vain_timeout_ms());
  std::array<Actor, layout::kLaneEntries + 1> writers;
  std::array<int, layout::kLaneEntries + 1> codes{};
  scene.leave_out();
  Stop seen = scene.daemon_at("daemon.lane.seen");
  for (size_t i = 0; i < writers.size(); ++i) {
    publish(scene, writers[i], [&, i] { codes[i] = put(client, "X" + std::to_string(i), 1); });
    if (i == 0) seen.reached();  // the first is seen, and not a byte of it read
  }
  seen.go();
  for (Actor& writer : writers) writer.end();
  for (const int code : codes) {
    if (code != WARM_OK) return "a request was overwritten before it was carried out";
  }
  return nullptr;
}

// A lane with room for all of a batch but the last: that one waits until the first is answered. Elsewhere it would overtake.
INTERLEAVING(requests, a_batch_stays_in_its_lane_while_anything_of_it_is_on_its_way, store_of(64),
             "client.batch_keeps_its_lane") {
  const Client client(scene.daemon());
  const Client other(scene.daemon());
  std::array<warm_result, layout::kLaneEntries> results{};
  Idle idle(scene, other);
  Actor earlier;
  Actor writer;
  int code = WARM_E_BUSY;
  scene.leave_out();
  publish(scene, earlier, [&] { put(client, "Y", 1); });
  Stop last = scene.at("client.lane_committed", writer.tid(), layout::kLaneEntries - 1);
  publish(scene, writer, [&] { code = put_versions(client, "X", results); });
  if (scene.without()) last.reached();
  last.go();
  idle.over();
  earlier.end();
  writer.end();
  if (code != WARM_OK) return "a batch failed";
  for (size_t i = 1; i < results.size(); ++i) {
    if (results[i].code != WARM_OK) return "an element failed";
    if (results[i].sequence < results[i - 1].sequence) return "an element of a batch was carried out before the one before it";
  }
  return get(client, "X").version == results.size() ? nullptr : "the last element of a batch is not what is there";
}

// Two elements in a lane, the next one by the socket. A round takes one of the lane, and then what came by the socket.
INTERLEAVING(requests, a_batch_waits_before_an_element_that_goes_by_the_socket, store_of(64),
             "client.batch_answered_before_socket") {
  const Client client(scene.daemon());
  const Client other(scene.daemon());
  const std::vector<char> content(2 * layout::kLanePayloadBytes, 'x');
  const std::vector<float> embedding(kDimensions, 1.0F);
  // Five by a lane, one more than the daemon serves of it at once, and the last by the socket.
  std::array<warm_memory, 6> memories{};
  for (warm_memory& memory : memories) {
    memory = WARM_MEMORY_INIT;
    memory.id = "X";
    memory.id_bytes = 1;
    memory.embedding = embedding.data();
    memory.dimensions = kDimensions;
  }
  memories.back().given = WARM_GIVEN_CONTENT;
  memories.back().content = content.data();
  memories.back().content_bytes = content.size();
  std::array<warm_result, memories.size()> results{};
  Idle idle(scene, other);
  Actor writer;
  int code = WARM_E_BUSY;
  scene.leave_out();
  Stop taken = scene.daemon_at("daemon.large.before_read");
  publish(scene, writer, [&] { code = warm_put_many(client, memories.data(), memories.size(), results.data()); });
  if (scene.without()) taken.reached();
  taken.go();
  // The thread that answers this has handed over by then what came before.
  size_t sessions = 0;
  if (warm_sessions(other, sizeof(warm_session), nullptr, 0, &sessions) != WARM_OK) give_up("no answer about sessions");
  idle.over();
  writer.end();
  if (code != WARM_OK) return "a batch failed";
  for (const warm_result& result : results) {
    if (result.code != WARM_OK) return "an element failed";
  }
  return results[4].sequence < results[5].sequence ? nullptr
                                                   : "an element by the socket was carried out before the one before it";
}

INTERLEAVING(requests, what_is_half_written_is_not_carried_out, store_of(64), "client.commit_last") {
  const Client client(scene.daemon());
  const Client other(scene.daemon());
  must_put(other, "A", 1);
  const uint64_t puts = stats_of(other).puts;
  Actor writer;
  scene.leave_out();
  Stop header_written = scene.at("client.lane_header_written", writer.tid());
  writer.begin([&] { put(client, "X", 1); });
  header_written.reached();
  two_rounds(other);
  const uint64_t puts_meanwhile = stats_of(other).puts;
  header_written.go();
  writer.end();
  return puts_meanwhile == puts ? nullptr : "a request was carried out of which only the header was written";
}

// One request waits in the lane, published by a living thread; the next process dies in there, and the one after it repairs.
INTERLEAVING(requests, a_repair_leaves_what_was_published, store_of(64), "client.repair_keeps_commits") {
  const Client client(scene.daemon(), scene.vain_timeout_ms());
  Victim victim(scene);
  Idle idle(scene, client);
  Actor first;
  Actor second;
  int first_code = WARM_OK;
  int second_code = WARM_OK;
  scene.leave_out();
  publish(scene, first, [&] { first_code = put(client, "X", 1); });
  victim.enter_lane();
  victim.die();
  publish(scene, second, [&] { second_code = put(client, "Y", 1); });
  idle.over();
  first.end();
  second.end();
  if (second_code != WARM_OK) return "a lane was not repaired";
  return first_code == WARM_OK && exists(client, "X") == WARM_OK ? nullptr : "a repair took away what another had published";
}

// ---- Tickets ------------------------------------------------------------------------------------------------------------------

// The caller of X gave up. Its result cell is not used for Y, which the daemon comes to first: it would drop X as answered.
INTERLEAVING(requests, a_result_cell_is_not_used_again_before_its_late_result, store_of(64), "client.quarantine") {
  const Client client(scene.daemon(), 1'000);
  const Client patient(scene.daemon());
  Victim victim(scene);
  victim.enter_lane();  // the lane that is looked at first
  Idle idle(scene, patient);
  Actor writer;
  int late = WARM_OK;
  int next = WARM_OK;
  scene.leave_out();
  writer.begin([&] { late = put(client, "X", 1); });
  writer.end();  // at its deadline
  victim.die();
  publish(scene, writer, [&] { next = put(client, "Y", 1); });
  idle.over();
  writer.end();
  two_rounds(patient);
  if (late != WARM_E_UNKNOWN) give_up(std::string("a put without a daemon returned ") + warm_error_name(late));
  if (next != WARM_OK || exists(patient, "Y") != WARM_OK) return "a request was not answered";
  return exists(patient, "X") == WARM_OK ? nullptr
                                         : "a request that was published was dropped, though its daemon and its process live";
}

INTERLEAVING(requests, a_new_tenants_tickets_begin_above_the_last_ones, store_of(64), "client.tickets_above_the_cell") {
  {
    Client(scene.daemon()).close();
  }
  const Client watcher(scene.daemon());
  {
    const Client client(scene.daemon());
    must_put(client, "X", 1);
  }
  tests::support::await_stats(watcher, "a session ended", [](const warm_stats& stats) { return stats.sessions_ended >= 2; });
  const Client client(scene.daemon(), scene.vain_timeout_ms());
  scene.leave_out();
  const int code = put(client, "Y", 1);
  scene.hold_again();
  return code == WARM_OK && exists(watcher, "Y") == WARM_OK ? nullptr : "a request was taken for one that was answered long ago";
}

// ---- Results ------------------------------------------------------------------------------------------------------------------

INTERLEAVING(requests, a_results_number_comes_after_what_it_says, store_of(64), "daemon.number_last") {
  const Client client(scene.daemon());
  Actor writer;
  int code = WARM_OK;
  writer.begin([&] { must_put(client, "X", 1); });  // leaves "OK" in the cell
  writer.end();
  scene.leave_out();
  Stop begun = scene.daemon_at("daemon.result.begun");
  writer.begin([&] { code = put_if_absent(client, "X", 2); });
  begun.reached();
  if (scene.without()) writer.end();  // with the number it takes what stands beside it
  begun.go();
  writer.end();
  return code == WARM_E_EXISTS ? nullptr : "a caller took the answer to an earlier request for its own";
}

INTERLEAVING(requests, a_result_is_there_before_the_request_counts_as_done, store_of(64), "daemon.result_before_done") {
  const Client client(scene.daemon(), scene.vain_timeout_ms());
  Actor writer;
  int code = WARM_OK;
  scene.leave_out();
  Stop done = scene.daemon_at("daemon.done.after");
  writer.begin([&] { code = put(client, "X", 1); });
  done.reached();
  scene.daemon().kill();
  done.go();
  scene.daemon().start();
  writer.end();
  return code == WARM_OK ? nullptr : "a request that was carried out is never answered";
}

// X is there when a put on condition of its absence is asked for, and that is answered; then X is removed. The put stands in the
// lane still. It is the removal that comes first afterwards: it never waits for a slot, as a put may in a daemon that has begun.
INTERLEAVING(requests, an_answered_request_is_not_carried_out_again, store_of(64), "daemon.answered_is_done") {
  // Threads of one processor begin with the same lane: who puts gets the one behind the remover's.
  cpu_set_t here;
  CPU_ZERO(&here);
  CPU_SET(::sched_getcpu(), &here);
  if (::sched_setaffinity(0, sizeof here, &here) != 0) give_up("no affinity");
  const Client client(scene.daemon());
  must_put(client, "X", 1);
  Actor remover;
  Actor refused;
  int put_code = WARM_OK;
  int remove_code = WARM_OK;
  Stop locked = scene.at("client.lane_locked", remover.tid());
  remover.begin([&] { remove_code = remove(client, "X"); });
  locked.reached();  // in the lane that the daemon looks at first
  Stop answered = scene.daemon_at("daemon.result.after");
  refused.begin([&] { put_code = put_if_absent(client, "X", 2); });
  answered.reached();
  scene.daemon().kill();
  answered.go();
  refused.end();
  if (put_code != WARM_E_EXISTS) give_up("the put was not answered");
  scene.leave_out();
  Stop committed = scene.at("client.lane_unlocked", remover.tid());
  locked.go();
  committed.reached();  // both stand in their lanes
  committed.go();
  scene.daemon().start();
  remover.end();
  must_put(client, "Y", 1);  // there are slots
  two_rounds(client);
  if (remove_code != WARM_OK) return "a removal was not answered";
  return exists(client, "X") == WARM_E_NOT_FOUND ? nullptr : "a put that was refused was carried out, on a later state";
}

// The answer comes after it was looked for and before it is asked for: nobody sends a byte.
INTERLEAVING(requests, who_asks_to_be_told_looks_at_its_answers_again, store_of(64), "client.notify_then_look") {
  const Client client(scene.daemon());
  const Client other(scene.daemon());
  int fd = -1;
  if (warm_completion_fd(client, &fd) != WARM_OK) give_up("no descriptor");
  Actor loop;
  size_t count = 0;
  warm_completion completion{};
  const auto harvest = [&] { warm_completions(client, &completion, 1, &count); };
  Stop unanswered = scene.daemon_at("daemon.result.before");
  warm_ticket ticket = 0;
  if (submit(client, "X", 1, &ticket) != WARM_OK) give_up("no ticket");
  unanswered.reached();
  scene.leave_out();
  Stop looked = scene.at("client.notify_before", loop.tid());
  loop.begin(harvest);
  looked.reached();
  unanswered.go();
  two_rounds(other);
  looked.go();
  loop.end();
  if (count == 1) return completion.ticket == ticket ? nullptr : "another ticket was harvested";
  pollfd entry{.fd = fd, .events = POLLIN, .revents = 0};
  return ::poll(&entry, 1, static_cast<int>(scene.vain_timeout_ms())) == 1 ? nullptr : "an answer is there and nobody is told";
}

// ---- Intent and restart -------------------------------------------------------------------------------------------------------

INTERLEAVING(requests, an_intent_is_void_while_it_is_written, store_of(64), "store.intent_cleared_first") {
  const Client client(scene.daemon());
  must_put(client, "X", 1);
  uint64_t put_sequence = 0;
  if (put(client, "Y", 1, &put_sequence) != WARM_OK) return "a put failed";
  Actor writer;
  int code = WARM_OK;
  uint64_t remove_sequence = 0;
  scene.leave_out();
  Stop filled = scene.daemon_at("store.intent_filled");
  writer.begin([&] { code = remove(client, "X", &remove_sequence); });
  filled.reached();  // the fields of the removal; without the rule beside the number of the put before it
  scene.daemon().kill();
  filled.go();
  scene.daemon().start();
  writer.end();
  if (code != WARM_OK || exists(client, "X") != WARM_E_NOT_FOUND) return "a removal was not carried out";
  return remove_sequence > put_sequence ? nullptr : "two changes have one sequence number";
}

// v1 was carried out and seen, its caller not yet answered; v2 is published afterwards.
INTERLEAVING(requests, a_request_that_was_carried_out_is_answered_and_not_done_again, store_of(64),
             "daemon.decided_is_answered") {
  const Client client(scene.daemon());
  Actor holder;
  Actor writer;
  int first_code = WARM_OK;
  int second_code = WARM_OK;
  Stop locked = scene.at("client.lane_locked", holder.tid());
  holder.begin([&] { second_code = put(client, "X", 2); });
  locked.reached();  // in the lane that the daemon looks at first
  Stop cell_stored = scene.daemon_at("store.cell_stored");
  writer.begin([&] { first_code = put(client, "X", 1); });
  cell_stored.reached();
  const Seen first = get(client, "X");
  scene.daemon().kill();
  cell_stored.go();
  scene.leave_out();
  Stop committed = scene.at("client.lane_unlocked", holder.tid());
  locked.go();
  committed.reached();
  committed.go();
  scene.daemon().start();
  writer.end();
  holder.end();
  const Seen last = get(client, "X");
  if (first.version != 1) give_up("v1 was not visible");
  if (first_code != WARM_OK || second_code != WARM_OK) return "a request was not answered";
  return last.version == 2 ? nullptr : "a reader saw v1, v2, v1";
}

// Who has his answer looks for his record: by then no table of the dead daemon may answer.
INTERLEAVING(requests, the_generation_changes_before_a_decided_request_is_answered, store_of(64),
             "daemon.generation_before_result") {
  const Client client(scene.daemon());
  Actor writer;
  int code = WARM_OK;
  Stop put_stored = scene.daemon_at("store.put_stored");
  Stop asleep = scene.at("client.sleep_word_set", writer.tid());
  writer.begin([&] { code = put(client, "X", 1); });
  put_stored.reached();  // carried out, but in no index
  asleep.reached();
  scene.daemon().kill();
  put_stored.go();
  scene.leave_out();
  Stop answered = scene.anyone_at("daemon.restart.result");
  scene.daemon().start_without_waiting();
  answered.reached();
  asleep.go();
  writer.end();
  if (code != WARM_OK) give_up("the answer was not seen");
  Actor reader;
  Seen seen;
  reader.begin([&] { seen = get(client, "X"); });
  if (scene.without()) reader.end();  // else it waits for the new daemon
  answered.go();
  reader.end();
  if (!scene.daemon().wait_ready(base::Deadline::after_ns(tests::support::kPatienceNs)))
    give_up("the daemon did not become ready");
  return seen.code == WARM_OK ? nullptr : "a put was acknowledged and its record not found";
}

// ---- Sessions -----------------------------------------------------------------------------------------------------------------

namespace {

// Sockets of this process that look like connections to a daemon.
std::set<int> connections() {
  std::set<int> found;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
    const int fd = std::stoi(entry.path().filename());
    int type = 0;
    socklen_t n = sizeof type;
    if (::getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &n) == 0 && type == SOCK_SEQPACKET) found.insert(fd);
  }
  return found;
}

uint64_t session_of(warm_client* client) {
  warm_info info = WARM_INFO_INIT;
  if (warm_info_get(client, &info) != WARM_OK) give_up("warm_info_get");
  return info.session;
}

// A session that is ended behind the back of a thread that is about to publish for it. Its place is number 1: 0 is the watcher's.
class Ended {
 public:
  explicit Ended(Scene& scene) : scene_(scene), watcher_(scene.daemon()), before_(connections()) {
    client_.emplace(scene.daemon(), 2'000);
    written_.emplace(scene.failpoints(), base::kFailpointRules - 1, "client.lane_content_written", writer_.tid(), 0);
    writer_.begin([&] { put(*client_, "X", 1); });
    written_->reached();
  }
  void say_bye() const {
    for (const int fd : connections()) {
      if (before_.contains(fd)) continue;
      layout::Bye bye{};
      bye.header = {.kind = static_cast<uint32_t>(layout::MessageKind::bye), .bytes = sizeof bye};
      if (::send(fd, &bye, sizeof bye, MSG_NOSIGNAL) != sizeof bye) give_up("bye cannot be sent");
    }
  }
  void await_end() const {
    tests::support::await_stats(watcher_, "a session ended", [](const warm_stats& stats) { return stats.sessions_ended >= 1; });
  }
  // Publishes after all.
  void publish() {
    Stop unlocked = scene_.at("client.lane_unlocked", writer_.tid());
    written_->go();
    unlocked.reached();
    unlocked.go();
  }
  [[nodiscard]] warm_client* watcher() const { return watcher_; }
  // The session that has the place now.
  [[nodiscard]] uint64_t tenant() const {
    for (const auto& entry : std::filesystem::directory_iterator(scene_.daemon().store() + "/channels")) {
      const base::Fd file(::open(entry.path().c_str(), O_RDONLY | O_CLOEXEC));
      layout::ResultsHeader header;
      layout::SessionEntry place;
      if (::pread(file.get(), &header, sizeof header, 0) != sizeof header) continue;
      const uint64_t at = layout::results_sessions_offset(header.lanes) + sizeof place;
      if (::pread(file.get(), &place, sizeof place, static_cast<off_t>(at)) == sizeof place) return place.number;
    }
    give_up("there is no table of sessions");
  }

 private:
  Scene& scene_;
  const Client watcher_;
  const std::set<int> before_;
  std::optional<Client> client_;
  Actor writer_;
  std::optional<Stop> written_;
};

}  // namespace

INTERLEAVING(requests, a_request_of_an_ended_session_is_not_its_successors, store_of(64), "daemon.session_by_number") {
  Ended ended(scene);
  ended.say_bye();
  ended.await_end();
  std::optional<Client> successor;
  do {
    successor.emplace(scene.daemon());  // the place is free a moment after the session is counted as ended
  } while (ended.tenant() != session_of(*successor));
  Actor writer;
  int code = WARM_OK;
  scene.leave_out();
  Stop locked = scene.at("client.lane_locked", writer.tid());
  writer.begin([&] { code = put(*successor, "Y", 1); });
  locked.reached();  // it has chosen its ticket: the same one
  ended.publish();
  two_rounds(ended.watcher());
  locked.go();
  writer.end();
  if (exists(ended.watcher(), "X") == WARM_OK) return "a request of a session that had ended was carried out";
  return code == WARM_OK && exists(ended.watcher(), "Y") == WARM_OK ? nullptr : "a session got the answer to another's request";
}

// Published in the last moment of its session: nobody may find it long afterwards, and nobody needs to drop it.
INTERLEAVING(requests, what_a_session_published_is_carried_out_before_it_is_dead, store_of(64), "daemon.sweep_before_dead") {
  Ended ended(scene);
  scene.leave_out();
  Stop ending = scene.daemon_at("daemon.sweep.before");
  ended.say_bye();
  ending.reached();
  ended.publish();
  ending.go();
  ended.await_end();
  two_rounds(ended.watcher());
  return exists(ended.watcher(), "X") == WARM_OK ? nullptr : "a request that was published before its session ended was dropped";
}
