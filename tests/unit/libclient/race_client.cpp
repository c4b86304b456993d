// Threads of one client, for the thread sanitizer: a plain program, since Criterion cannot run there. Indexes, tables of segments
// and maps are taken out of use while readers are inside them and while views stand in them; writers share lanes and cells.
#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "libclient/client.hpp"
#include "libclient/reader.hpp"
#include "libclient/recall.hpp"
#include "libclient/writer.hpp"
#include "tests/support/omit.hpp"
#include "tests/unit/libclient/fake_daemon.hpp"

using namespace warmtier::tests;
namespace base = warmtier::base;
namespace layout = warmtier::layout;
namespace libclient = warmtier::libclient;
using libclient::Presence;

namespace {

constexpr uint32_t kRounds = 200;
constexpr unsigned kReaders = 3;
constexpr unsigned kWriters = 2;
constexpr unsigned kMapsLeftMax = 8;

void require(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "not so: %s\n", what);
  std::exit(1);
}

bool shows_itself(const warm_view& view) {
  return std::string(static_cast<const char*>(view.content), view.content_bytes) == "content " + std::to_string(view.sequence);
}

void read(libclient::ClientState& state, const std::atomic<bool>& stop, std::atomic<uint64_t>& gets) {
  warm_view held = WARM_VIEW_INIT;  // one view over the next get, so that segments go while they are looked at
  for (uint64_t newest = 0; !stop.load();) {
    warm_view view = WARM_VIEW_INIT;
    auto presence = libclient::get(state, "moves", 5, 0, view);
    require(presence.has_value(), presence ? "" : presence.error().text.c_str());
    require(*presence == Presence::found, "a record that is there throughout is found");
    require(view.sequence >= newest, "no older record comes after a newer one");
    newest = view.sequence;
    require(shows_itself(view), "a view shows one record");
    require(libclient::exists(state, "none", 4) == Presence::absent, "what is not there is not found");
    warm_id ids[] = {{.data = "moves", .bytes = 5}, {.data = "none", .bytes = 4}, {.data = "moves", .bytes = 5}};
    warm_view views[] = {WARM_VIEW_INIT, WARM_VIEW_INIT, WARM_VIEW_INIT};
    int32_t codes[std::size(ids)];
    std::optional<base::Error> error;
    libclient::get_many(state, ids, std::size(ids), 0, views, codes, error);
    require(!error, error ? error->text.c_str() : "");
    require(codes[0] == WARM_OK && codes[1] == WARM_E_NOT_FOUND && codes[2] == WARM_OK,
            "of many, those that are there are found");
    for (const unsigned i : {0U, 2U}) {
      require(views[i].sequence >= newest, "no older record comes after a newer one, also of many");
      require(shows_itself(views[i]), "a view of many shows one record");
      require(libclient::release(state, views[i]), "a view of many is released");
    }
    newest = std::max(views[0].sequence, views[2].sequence);
    require(libclient::release(state, held), "a view is released");
    require(shows_itself(view), "a view stays what it was");
    held = view;
    gets.fetch_add(1);
  }
  require(libclient::release(state, held), "the last view is released");
}

// Two threads share each scan. The daemon of this test writes no feed, so a record that moves may be missed; nothing else may.
void recall(libclient::ClientState& state, const std::atomic<bool>& stop, std::atomic<uint64_t>& recalls) {
  const float embedding[kDimensions] = {1};
  warm_query query = WARM_QUERY_INIT;
  query.embedding = embedding;
  query.dimensions = kDimensions;
  query.limit = 2;
  while (!stop.load()) {
    auto scan = libclient::Scan::open(state, &query, 1);
    require(scan.has_value(), "a recall begins");
    std::thread other([&] { require((*scan)->work().has_value(), "another thread does its share"); });
    require((*scan)->work().has_value(), "this thread does its share");
    other.join();
    warm_hit hits[2];
    size_t count = 0;
    require((*scan)->finish(hits, &count, nullptr).has_value(), "a recall ends");
    require(count <= 1, "one id is recalled once");
    for (size_t i = 0; i < count; ++i) {
      require(shows_itself(hits[i].view), "a hit shows one record");
      require(libclient::release(state, hits[i].view), "a hit is released");
    }
    recalls.fetch_add(1);
  }
}

void write(libclient::ClientState& state, const std::atomic<bool>& stop) {
  const warm_memory memory = memory_of("written");
  while (!stop.load()) {
    auto sequence = libclient::put(state, memory);
    require(sequence.has_value(), "a put is answered");
  }
}

// Answers whatever is published, as a daemon that has nothing else to do.
void answer(FakeDaemon& daemon, const std::atomic<bool>& stop) {
  while (!stop.load()) {
    for (uint32_t lane = 0; lane < kLanes; ++lane) {
      const uint64_t number = daemon.done(lane).done + 1;
      if (layout::load_acquire(daemon.commits(lane).seq[number % layout::kLaneEntries]) != number) continue;
      const layout::RequestHeader& request = daemon.request(lane, number);
      layout::store_release(daemon.cell(request.session_index, request.cell).number, request.ticket);
      layout::store_release(daemon.done(lane).done, number);
    }
    std::this_thread::yield();
  }
}

unsigned segment_maps() {
  std::ifstream maps("/proc/self/maps");
  unsigned count = 0;
  for (std::string row; std::getline(maps, row);) count += row.find("r--s") != std::string::npos;
  return count;
}

}  // namespace

int main() {
  // Else a recall would wait for the generation of a daemon that stored these deaths at its start.
  const support::Omit no_feed("client.recall_deaths_are_in_feed");
  FakeDaemon daemon;
  daemon.add_segment(1);
  daemon.put(0, 1, "moves", "content 1");
  auto client = libclient::Client::open(daemon.socket().c_str(), 30 * base::kNsPerSecond);
  require(client.has_value(), "the client opens");
  libclient::ClientState& state = (*client)->state();
  const unsigned maps_before = segment_maps();

  std::atomic<bool> stop{false};
  std::atomic<bool> stop_answering{false};
  std::atomic<uint64_t> gets{0};
  std::atomic<uint64_t> recalls{0};
  std::vector<std::thread> threads;
  for (unsigned i = 0; i < kReaders; ++i) threads.emplace_back([&] { read(state, stop, gets); });
  for (unsigned i = 0; i < kWriters; ++i) threads.emplace_back([&] { write(state, stop); });
  threads.emplace_back([&] { recall(state, stop, recalls); });
  std::thread answering([&] { answer(daemon, stop_answering); });

  uint64_t& cell = daemon.home_of("moves").cells[0];
  uint32_t slot = 0;
  for (uint32_t round = 2; round < kRounds; ++round) {
    daemon.add_segment(round);
    daemon.raise_segment_epoch();
    // Slots are not used twice: nobody looks at pins here.
    daemon.write_record(round, round, "moves", "content " + std::to_string(round), round);
    layout::store_release(cell, cell - slot + round);
    layout::store_release(daemon.line(slot).dead, layout::dead_word(round, layout::sequence_of(daemon.line(slot).put)));
    slot = round;
    daemon.unlist_segment(round - 1);
    daemon.raise_segment_epoch();
    if (round % 3 == 0) {
      daemon.announce_index(round);
      layout::store_seq_cst(daemon.generation().generation, round);
    }
    if (round % 20 == 0) {
      layout::store_seq_cst(daemon.generation().generation, 1000 + round);
      daemon.hang_up();
    }
    const uint64_t seen = gets.load();
    while (gets.load() < seen + 20) std::this_thread::yield();
  }
  stop.store(true);
  for (std::thread& thread : threads) thread.join();
  stop_answering.store(true);
  answering.join();
  require(recalls.load() > 0, "records were recalled meanwhile");
  require(state.views_out() == 0, "no view is left");
  // What could not be done while others were at it is done by some later get.
  for (int i = 0; i < 200; ++i) {
    warm_view view = WARM_VIEW_INIT;
    require(libclient::get(state, "moves", 5, 0, view).has_value() && libclient::release(state, view), "one thread reads on");
  }
  require(segment_maps() <= maps_before + kMapsLeftMax, "what was taken out of use was unmapped");
  return (*client)->close().has_value() ? 0 : 1;
}
