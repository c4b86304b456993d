#include "libclient/reader.hpp"

#include <cstring>

#include "libclient/view.hpp"

namespace warmtier::libclient {
namespace {

template <Want kWant, typename Source>
base::Result<Presence> get_by(ClientState& state, Patience& patience, const void* id, size_t id_bytes, uint32_t flags,
                              warm_view& ret_view) {
  return seek<kWant, Source, true>(state, patience, id, id_bytes,
                                   [&](ThreadRecord& me, const Attachment& a, Source& source, Record& record) {
                                     return view_of(state, me, a, source, flags, record, ret_view);
                                   });
}

}  // namespace

base::Result<Presence> get(ClientState& state, Patience& patience, const void* id, size_t id_bytes, uint32_t flags,
                           warm_view& ret_view) {
  if (__builtin_expect((flags & WARM_COPY) != 0, 0))
    return get_by<Want::bytes, ThroughKernel>(state, patience, id, id_bytes, flags, ret_view);
  return get_by<Want::view, InPlace>(state, patience, id, id_bytes, flags, ret_view);
}

base::Result<Presence> get(ClientState& state, const void* id, size_t id_bytes, uint32_t flags, warm_view& ret_view) {
  Patience patience(state.timeout_ns);
  return get(state, patience, id, id_bytes, flags, ret_view);
}

base::Status check_id(const void* id, size_t id_bytes) {
  if (id == nullptr) return base::fail(WARM_E_INVALID, "id is NULL");
  if (id_bytes >= 1 && id_bytes <= layout::kIdBytesMax) return {};
  return base::fail(id_bytes == 0 ? WARM_E_INVALID : WARM_E_LIMIT, "the id has %zu bytes; 1 to %u are possible", id_bytes,
                    layout::kIdBytesMax);
}

base::Result<Presence> exists(ClientState& state, const void* id, size_t id_bytes) {
  return seek<Want::facts, InPlace, false>(
      state, id, id_bytes, [](ThreadRecord&, const Attachment&, InPlace&, const Record&) { return Lookup::found; });
}

base::Result<Touched> touch_record(ClientState& state, const void* id, size_t id_bytes) {
  Touched touched = Touched::absent;
  auto presence = seek<Want::facts, InPlace, false>(
      state, id, id_bytes, [&](ThreadRecord&, const Attachment& a, InPlace&, const Record& record) {
        const uint64_t sequence = layout::sequence_of(record.line.put);
        const bool room = ClientState::leave_trace(*a.link, sequence, record.slot, layout::TouchKind::touch);
        if (!room) layout::fetch_add(a.link->region().counters.touches_dropped, 1);
        touched = room ? Touched::yes : Touched::dropped;
        return Lookup::found;
      });
  if (!presence) return base::pass(std::move(presence));
  return touched;
}

base::Status read_stats(ClientState& state, warm_stats& ret_stats) {
  ThreadRecord& me = state.thread();
  ClientState::flush_counters(me);
  Patience patience(state.timeout_ns);
  for (;;) {
    state.enter(me);
    const Attachment* a = state.attachment.load(std::memory_order_acquire);
    // A dead daemon's page stays as it was: only the socket tells.
    if (a != nullptr && a->current() && !a->connection->gone.load(std::memory_order_acquire) &&
        layout::load_acquire(a->status->stopping) == 0 && !peer_gone(a->connection->socket.get())) {
      const layout::StatusPage& page = *a->status;
      using layout::load_relaxed;
      ret_stats.io_backend = load_relaxed(page.io_backend);
      ret_stats.records = load_relaxed(page.records);
      ret_stats.capacity = a->geometry.capacity;
      ret_stats.slots_allocated = load_relaxed(page.slots_allocated);
      ret_stats.slots_free = load_relaxed(page.slots_free);
      ret_stats.slots_waiting = load_relaxed(page.slots_waiting);
      ret_stats.slots_held = load_relaxed(page.slots_held);
      ret_stats.segments = load_relaxed(page.segments);
      ret_stats.content_bytes_live = load_relaxed(page.content_bytes_live);
      ret_stats.content_bytes_total = load_relaxed(page.content_bytes_total);
      ret_stats.sequence = layout::load_acquire(page.sequence);
      ret_stats.sequence_durable = layout::load_acquire(page.sequence_durable);
      ret_stats.sessions = load_relaxed(page.sessions);
      ret_stats.channels = load_relaxed(page.channels);
      ret_stats.puts = load_relaxed(page.puts);
      ret_stats.removes = load_relaxed(page.removes);
      ret_stats.updates = load_relaxed(page.updates);
      ret_stats.touches = load_relaxed(page.touches);
      ret_stats.touches_dropped = load_relaxed(page.touches_dropped);
      ret_stats.refused = load_relaxed(page.refused);
      ret_stats.gets = load_relaxed(page.gets);
      ret_stats.misses = load_relaxed(page.misses);
      ret_stats.lane_repairs = load_relaxed(page.lane_repairs);
      ret_stats.lanes_fenced = load_relaxed(page.lanes_fenced);
      ret_stats.pins_voided = load_relaxed(page.pins_voided);
      ret_stats.sessions_ended = load_relaxed(page.sessions_ended);
      ret_stats.checkpoints = load_relaxed(page.checkpoints);
      ret_stats.index_doublings = load_relaxed(page.index_doublings);
      ret_stats.requests_recovered = load_relaxed(page.requests_recovered);
      ret_stats.bad_requests = load_relaxed(page.bad_requests);
      ret_stats.damaged_records = load_relaxed(page.damaged_records);
      ret_stats.spin_ns = load_relaxed(page.spin_ns);
      ret_stats.orphans = load_relaxed(page.orphans);
      const uint64_t started = load_relaxed(page.started_ns);
      const uint64_t now = base::wall_ns();
      ret_stats.uptime_ns = now > started ? now - started : 0;
      ClientState::leave(me);
      return {};
    }
    ClientState::leave(me);
    if (auto ready = state.refresh(ClientState::Need::daemon, patience.deadline()); !ready) return ready;
  }
}

base::Status read_info(ClientState& state, warm_info& ret_info) {
  ThreadRecord& me = state.thread();
  Patience patience(state.timeout_ns);
  for (;;) {
    state.enter(me);
    if (const Attachment* a = state.attachment.load(std::memory_order_acquire); a != nullptr) {
      const layout::Welcome& welcome = a->connection->welcome;
      ret_info.dimensions = a->geometry.dimensions;
      ret_info.row_bytes = a->geometry.row_bytes;
      ret_info.views_max = a->link->pins.views_max();
      ret_info.capacity = a->geometry.capacity;
      ret_info.content_bytes_max = welcome.content_bytes_max;
      std::memcpy(ret_info.store_id, welcome.store_id, sizeof ret_info.store_id);
      ret_info.session = a->link->session;
      ret_info.daemon_pid = welcome.daemon_pid;
      ret_info.reserved = 0;
      ClientState::leave(me);
      return {};
    }
    ClientState::leave(me);
    if (auto ready = state.refresh(ClientState::Need::reads, patience.deadline()); !ready) return ready;
  }
}

}  // namespace warmtier::libclient
