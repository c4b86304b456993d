#include "libclient/view.hpp"

#include <cstdlib>
#include <cstring>
#include <utility>

#include "libclient/reader.hpp"

namespace warmtier::libclient {
namespace {

// The link and twin of a view that is held; null when it is not one, or not any more.
struct Held {
  Link* link = nullptr;
  ViewTwin* twin = nullptr;
  uint32_t cell = 0;
};
Held held(ClientState& state, const ThreadRecord& me, const warm_view& view) noexcept {
  const uint64_t link_id = view.internal[kLinkId];
  Link* link = me.link != nullptr && me.link->id == link_id ? me.link : state.find_link(link_id);
  const uint64_t cell = view.internal[kCell];
  if (link == nullptr || cell >= link->pins.views_max()) return {};
  ViewTwin& twin = link->pins.twin(static_cast<uint32_t>(cell));
  // Odd while a view has the cell; another view's serial, or an even one: this view was released before.
  if (twin.serial != view.internal[kSerial] || twin.serial % 2 == 0) return {};
  return {.link = link, .twin = &twin, .cell = static_cast<uint32_t>(cell)};
}

}  // namespace

bool holds_record(ClientState& state, const warm_view& view) noexcept {
  return view.internal[kOrigin] == origin_of(state) && view.internal[kStateId] == state.id &&
         held(state, state.thread(), view).link != nullptr;
}

Lookup view_of(ClientState& state, ThreadRecord& me, const Attachment& a, ThroughKernel& source, uint32_t flags, Record& record,
               warm_view& ret_view) noexcept {
  if ((flags & WARM_VERIFY) != 0 && !intact(a, record)) return Lookup::corrupt;  // a copy of one moment: nothing moves in it
  if (me.cells == 0 && !state.refill(me, *a.link)) return full_or_over(source, a);
  become_view(state, me, a, record, ret_view);
  return Lookup::found;
}

Lookup view_slot(ClientState& state, ThreadRecord& me, const Attachment& a, uint32_t slot, uint64_t put, uint32_t flags,
                 Record& ret_record, warm_view& ret_view) {
  const auto by = [&]<Want kWant, typename Source>(Source source) {
    const Lookup verdict = examine_slot<kWant>(source, state, me, a, slot, put, ret_record);
    return verdict == Lookup::found ? view_of(state, me, a, source, flags, ret_record, ret_view) : verdict;
  };
  return (flags & WARM_COPY) != 0 ? by.operator()<Want::bytes>(ThroughKernel{}) : by.operator()<Want::view>(InPlace{});
}

Lookup read_slot(ClientState& state, ThreadRecord& me, const Attachment& a, uint32_t slot, Record& ret_record) {
  InPlace source;
  return examine_slot<Want::facts>(source, state, me, a, slot, 0, ret_record);
}

bool release(ClientState& state, warm_view& view) noexcept {
  if (view.internal[kOrigin] != origin_of(state)) return true;  // never filled, released, or of before a fork
  if (view.internal[kStateId] != state.id) return false;
  ThreadRecord& me = state.thread();
  const Held it = held(state, me, view);
  std::memset(view.internal, 0, sizeof view.internal);
  if (it.link == nullptr) return true;
  // The cell goes back only after the pin is gone: its next user must not find his own pin cleared.
  const bool clear_first = WARM_RULE("client.pin_cleared_first");
  if (!clear_first) state.give_back_cell(me, *it.link, it.cell);
  WARM_STEP("client.release_begun");
  layout::store_release(it.link->region().pins[it.cell], 0);
  WARM_FAILPOINT("client.pin_cleared");
  if (__builtin_expect(it.twin->owned != nullptr, 0)) std::free(std::exchange(it.twin->owned, nullptr));
  ++it.twin->serial;
  state.enter(me);
  const uintptr_t named = it.twin->segment.load(std::memory_order_relaxed) & ~kViewCounted;
  bool last = false;
  if (named != 0) {
    auto& segment = *reinterpret_cast<SegmentMap*>(named);
    if (!segment.retired.load(std::memory_order_acquire)) {
      // Who retires it waits until this thread is outside before it counts views.
      it.twin->segment.store(0, std::memory_order_relaxed);
    } else if ((it.twin->segment.exchange(0, std::memory_order_acq_rel) & kViewCounted) != 0) {
      last = segment.views_left.fetch_sub(1, std::memory_order_acq_rel) == 1;
    }
  }
  ClientState::leave(me);
  if (last) state.drop_segment();
  if (clear_first) state.give_back_cell(me, *it.link, it.cell);
  state.part_if_former(*it.link);
  return true;
}

base::Result<uint32_t> check_view(ClientState& state, const warm_view& view) {
  if (view.internal[kOrigin] == 0) return base::fail(WARM_E_INVALID, "the view was released or never filled");
  if (view.internal[kOrigin] != origin_of(state))
    return base::fail(WARM_E_STALE, "the view is from before a fork, or was never filled");
  if (view.internal[kStateId] != state.id) return base::fail(WARM_E_INVALID, "the view was made by another client");
  ThreadRecord& me = state.thread();
  const Link* link = held(state, me, view).link;
  if (link == nullptr) return base::fail(WARM_E_INVALID, "the view was released");
  state.notice_stop(me);
  uint64_t put = 0;
  auto found = seek<Want::facts, InPlace, false>(state, view.id, view.id_bytes,
                                                 [&](ThreadRecord&, const Attachment&, InPlace&, const Record& record) {
                                                   put = record.line.put;
                                                   return Lookup::found;
                                                 });
  if (!found) return base::pass(std::move(found));
  if (link->is(Link::Standing::lost))
    return base::fail(WARM_E_STALE, "the daemon did not take this client's pins back; the view's bytes may be another's");
  if (*found == Presence::absent) return WARM_VIEW_REMOVED;
  return put == view.internal[kPutWord] ? WARM_VIEW_CURRENT : WARM_VIEW_REPLACED;
}

}  // namespace warmtier::libclient
