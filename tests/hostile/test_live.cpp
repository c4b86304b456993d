// A daemon, an honest user, and one hostile user after the other beside him.
#include <criterion/criterion.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <optional>

#include "layout/words.hpp"
#include "tests/hostile/live.hpp"
#include "tests/hostile/raw.hpp"
#include "tests/hostile/silent_file.hpp"
#include "tests/support/records.hpp"

using namespace warmtier;
using namespace warmtier::tests::hostile;
using namespace warmtier::tests::support;

namespace {

constexpr uint32_t kRounds = 3;
constexpr int kNoSilentFile = 77;

StoreOptions without_failpoints() {
  StoreOptions options;
  options.failpoints = false;  // their file is not a stranger's
  return options;
}
void start_with_the_hostile_user(Daemon& daemon) {
  cr_assert_eq(::chmod(daemon.directory().c_str(), 0755), 0);
  std::ofstream(daemon.configuration_path(), std::ios::app) << "[access.users]\n" << kHostileUser << " = \"write\"\n";
  daemon.start();
}

void beside(const char* attack, unsigned processes = 1) {
  Scene scene;
  scene.under(attack_named(attack), kRounds, processes);
  scene.finish();
}

// Hands in requests of no session in all lanes, more than are looked at at once, then a right one; 0: that one is answered.
int nonsense_then_a_put(const Daemon& daemon) {
  constexpr uint64_t kNonsense = 2000;
  if (!become(kHostileUser)) return 1;
  const auto session = attach_raw(daemon.socket());
  if (!session) return 2;
  const uint32_t lanes = session->welcome.lanes;
  const auto results = base::ReadMapping::map(session->descriptors[4].get(), layout::results_bytes(lanes));
  if (!results) return 3;
  const auto* done = reinterpret_cast<const layout::DoneLine*>(results->data() + sizeof(layout::ResultsHeader));
  const auto& cell = reinterpret_cast<const layout::ResultCell*>(
      results->data() + layout::results_cells_offset(lanes))[uint64_t{session->welcome.session_index} * layout::kCellsPerSession];
  auto* const commits = reinterpret_cast<layout::CommitLine*>(session->lanes.data() + layout::channel_commits_offset());
  const auto publish = [&](uint32_t lane, layout::RequestHeader header) {
    const uint64_t number = layout::load_acquire(done[lane].done) + 1;
    std::byte* const entry = session->lanes.data() + layout::channel_entry_offset(lanes, lane, number);
    layout::store_bytes(entry, &header, sizeof header);
    layout::store_release(commits[lane].seq[number % layout::kLaneEntries], number);
    (void)::send(session->socket.get(), &layout::kDoorbellByte, 1, MSG_DONTWAIT | MSG_NOSIGNAL);
    return number;
  };
  const base::Deadline deadline = base::Deadline::after_ns(kPatienceNs);
  const auto served = [&](uint32_t lane, uint64_t number) {
    while (layout::load_acquire(done[lane].done) < number) {
      if (deadline.passed()) return false;
      ::usleep(100);
    }
    return true;
  };
  for (uint64_t handed_in = 0; handed_in < kNonsense; handed_in += lanes) {
    uint64_t number = 0;
    for (uint32_t lane = 0; lane < lanes; ++lane) number = publish(lane, {});
    if (!served(lanes - 1, number)) return 4;
  }
  layout::RequestHeader put{};
  put.session = session->welcome.session;
  put.session_index = session->welcome.session_index;
  put.ticket = layout::load_acquire(cell.number) + 1;
  put.operation = static_cast<uint16_t>(layout::Operation::remove);
  put.id_bytes = 1;
  if (!served(0, publish(0, put))) return 5;
  return layout::load_acquire(cell.number) == put.ticket && cell.status == WARM_E_NOT_FOUND ? 0 : 6;
}

}  // namespace

// S18. Nothing else wakes this daemon.
Test(hostile, who_handed_in_too_much_nonsense_is_served_when_that_is_over, .disabled = ::geteuid() != 0) {
  Daemon daemon(without_failpoints());
  start_with_the_hostile_user(daemon);
  cr_assert(Process::fork([&] { return nonsense_then_a_put(daemon); }).wait() == exit_code(0));
}

namespace {

// A greeting with descriptors of a file that can be closed only when its server answers, or ends; in the third step it does.
int hand_over_a_silent_file(const Daemon& daemon, Steps& steps) {
  std::optional<SilentFile> silent(std::in_place, daemon.directory() + "/silent");
  if (!silent->there()) return kNoSilentFile;
  if (!become(kHostileUser)) return 1;
  const base::Fd socket = dial(daemon.socket());
  const base::Fd one = silent->copy();
  const bool sent = socket && send_message(socket.get(), hello(), {one.get(), one.get()});
  steps.advance();
  const bool over = steps.wait_for(2, base::Deadline::after_ns(2 * kPatienceNs));
  silent.reset();  // before the copy of its file
  return sent && over ? 0 : 2;
}

std::ifstream children_of(pid_t parent) {
  return std::ifstream("/proc/" + std::to_string(parent) + "/task/" + std::to_string(parent) + "/children");
}

// A thread of this name, in a child of this process, that no signal ends.
bool any_kept(pid_t parent, const std::string& name) {
  std::ifstream children = children_of(parent);
  for (std::string child; children >> child;) {
    for (const auto& task : std::filesystem::directory_iterator("/proc/" + child + "/task")) {
      std::string comm;
      std::ifstream(task.path() / "comm") >> comm;
      std::string stat;
      std::ifstream file(task.path() / "stat");
      std::getline(file, stat);
      if (comm == name && stat.find(") D ") != std::string::npos) return true;
    }
  }
  return false;
}

// The thread is there until that file's server answers or ends; the daemon is not, nor is anything its.
void next_daemon_serves_after(int signal, const Process::End& expected) {
  Daemon daemon(without_failpoints());
  start_with_the_hostile_user(daemon);
  constexpr Shape kShape{.dimensions = 16, .content_bytes_max = 600};
  cr_assert_eq(put_record(Client(daemon), kShape, 1, 1), WARM_OK);
  Shared<Steps> steps;
  Process hostile = Process::fork([&] { return hand_over_a_silent_file(daemon, *steps); });
  while (!steps->wait_for(1, base::Deadline::after_ns(10 * base::kNsPerMs))) {
    Process::End end;
    if (!hostile.wait_until(base::Deadline::after_ns(0), end)) continue;
    cr_assert(end == exit_code(kNoSilentFile), "%s", text_of(end).c_str());
    std::printf("skipped: no file system in user space can be made\n");
    return;
  }
  const base::Deadline deadline = base::Deadline::after_ns(kPatienceNs);
  while (!any_kept(daemon.pid(), "porter")) cr_assert(!deadline.passed(), "nobody is kept");
  daemon.process().signal(signal);
  cr_assert(daemon.process().wait() == expected, "%s", daemon.log().c_str());
  StoreOptions same = without_failpoints();
  same.existing_store = daemon.store();
  Daemon next(same);
  next.start();
  const Client client(next);
  cr_assert_eq(check_record(client, kShape, 1), WARM_OK);
  cr_assert_eq(put_record(client, kShape, 1, 2), WARM_OK);
  steps->advance();
  cr_assert(hostile.wait() == exit_code(0));
}

}  // namespace

Test(hostile, daemon_with_a_thread_that_cannot_end_stops_and_the_next_serves, .disabled = ::geteuid() != 0) {
  next_daemon_serves_after(SIGTERM, exit_code(0));
}
Test(hostile, daemon_with_a_thread_that_cannot_end_dies_and_the_next_serves, .disabled = ::geteuid() != 0) {
  next_daemon_serves_after(SIGKILL, killed_by(SIGKILL));
}

// Nobody would receive what others send any more.
Test(hostile, daemon_whose_child_is_killed_ends_as_after_a_kill) {
  Daemon daemon;
  daemon.start();
  constexpr Shape kShape{.dimensions = 16, .content_bytes_max = 600};
  cr_assert_eq(put_record(Client(daemon), kShape, 1, 1), WARM_OK);
  pid_t child = 0;
  children_of(daemon.pid()) >> child;
  cr_assert_gt(child, 0);
  cr_assert_eq(::kill(child, SIGKILL), 0);
  cr_assert(daemon.process().wait() == exit_code(1), "%s", daemon.log().c_str());
  daemon.start();
  cr_assert_eq(check_record(Client(daemon), kShape, 1), WARM_OK);
}

// The daemon serves the honest user within his deadline, and what he was told is there, whatever the other does.
Test(hostile, who_writes_everywhere_at_full_speed_harms_nobody) { beside("scribble"); }
Test(hostile, who_talks_nonsense_harms_nobody) { beside("say_nonsense"); }
Test(hostile, who_asks_without_end_and_reads_no_answer_harms_nobody) { beside("ask_without_end"); }
Test(hostile, who_floods_connections_harms_nobody) { beside("flood_connections", 2); }
Test(hostile, who_hands_over_descriptors_of_every_kind_harms_nobody) { beside("hand_over_descriptors"); }
Test(hostile, who_holds_sessions_lanes_and_views_harms_nobody) { beside("hold_everything"); }
Test(hostile, who_touches_without_end_harms_nobody) { beside("touch_without_end"); }
Test(hostile, who_holds_channels_and_writes_over_what_is_looked_at_harms_nobody) { beside("hold_channels"); }
Test(hostile, who_meddles_with_what_is_shared_harms_nobody) { beside("meddle_with_what_is_shared"); }
Test(hostile, who_lies_in_the_handshake_harms_nobody) { beside("lie_in_the_handshake"); }
