// A daemon, an honest user, and one hostile user after the other beside him.
#include <criterion/criterion.h>

#include "tests/hostile/live.hpp"

using namespace warmtier::tests::hostile;

namespace {

constexpr uint32_t kRounds = 3;

void beside(const char* attack, unsigned processes = 1) {
  Scene scene;
  scene.under(attack_named(attack), kRounds, processes);
  scene.finish();
}

}  // namespace

// The daemon serves the honest user within his deadline, and what he was told is there, whatever the other does.
Test(hostile, who_writes_everywhere_at_full_speed_harms_nobody) { beside("scribble"); }
Test(hostile, who_talks_nonsense_harms_nobody) { beside("say_nonsense"); }
Test(hostile, who_asks_without_end_and_reads_no_answer_harms_nobody) { beside("ask_without_end"); }
Test(hostile, who_floods_connections_harms_nobody) { beside("flood_connections", 2); }
Test(hostile, who_hands_over_descriptors_of_every_kind_harms_nobody) { beside("hand_over_descriptors"); }
Test(hostile, who_holds_sessions_lanes_and_views_harms_nobody) { beside("hold_everything"); }
Test(hostile, who_meddles_with_what_is_shared_harms_nobody) { beside("meddle_with_what_is_shared"); }
Test(hostile, who_lies_in_the_handshake_harms_nobody) { beside("lie_in_the_handshake"); }
