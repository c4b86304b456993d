// A daemon, an honest user, and one hostile user after the other beside him.
#include <criterion/criterion.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>
#include <fstream>

#include "layout/words.hpp"
#include "tests/hostile/live.hpp"
#include "tests/hostile/raw.hpp"

using namespace warmtier;
using namespace warmtier::tests::hostile;
using namespace warmtier::tests::support;

namespace {

constexpr uint32_t kRounds = 3;

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
  StoreOptions options;
  options.failpoints = false;
  Daemon daemon(options);
  cr_assert_eq(::chmod(daemon.directory().c_str(), 0755), 0);
  std::ofstream(daemon.configuration_path(), std::ios::app) << "[access.users]\n" << kHostileUser << " = \"write\"\n";
  daemon.start();
  cr_assert(Process::fork([&] { return nonsense_then_a_put(daemon); }).wait() == exit_code(0));
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
