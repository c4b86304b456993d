#include "daemon/store/mutator.hpp"

#include <algorithm>
#include <cstring>

#include "base/clock.hpp"
#include "base/failpoint.hpp"
#include "base/probe.hpp"
#include "layout/record.hpp"
#include "layout/validate.hpp"

namespace warmtier::daemon::store {
namespace {

using layout::RecordHeader;
using layout::SlotLine;

constexpr uint32_t kDoublingHomesPerPut = 16;
constexpr uint64_t kTailFetchBytes = 4 * layout::kCacheLineBytes;  // a small record
constexpr uint64_t kContentFetchBytes = 512;

}  // namespace

Disposition Mutator::execute(const Request& request, const Origin& origin, Answer& answer) {
  settle();
  const layout::RequestHeader& header = request.header;
  Disposition done{};
  switch (static_cast<layout::Operation>(header.operation)) {
    case layout::Operation::put:
      WARM_PROBE(put_begin, request.id, header.id_bytes, header.given, header.content_bytes);
      done = put(request, origin, answer);
      WARM_PROBE(put_end, request.id, header.id_bytes, header.given, header.content_bytes, answer.status, done);
      break;
    case layout::Operation::remove:
      WARM_PROBE(remove_begin, request.id, header.id_bytes);
      done = remove(request, origin, answer);
      WARM_PROBE(remove_end, request.id, header.id_bytes, answer.status, done);
      break;
    case layout::Operation::update: done = update(request, origin, answer); break;
    case layout::Operation::clear: done = clear(origin, answer); break;
  }
  return done;
}

// ---- finding ---------------------------------------------------------------------------------------------------------------

// One private copy of the id: the client may change its own while we read.
void Mutator::take_request_id(const Request& request) {
  id_bytes_ = request.header.id_bytes;
  std::memcpy(id_, request.id, id_bytes_);
  hash_ = base::hash64(id_, id_bytes_, hash_seed_);
  index_.table().prefetch(hash_);
}

// The id of what lies in a slot becomes the one in progress. False: it cannot be read.
bool Mutator::take_id_of(uint32_t slot) {
  RecordHeader header;
  const std::byte* id = nullptr;
  if (!content_.read(tier_.line(slot), header, id) || header.id_bytes < 1 || header.id_bytes > layout::kIdBytesMax) return false;
  id_bytes_ = header.id_bytes;
  std::memcpy(id_, id, id_bytes_);
  hash_ = base::hash64(id_, id_bytes_, hash_seed_);
  return true;
}

std::optional<Mutator::Found> Mutator::find() const {
  const IndexTable& table = index_.table();
  const uint32_t tag = layout::tag_of_hash(hash_);
  std::optional<Found> found;
  table.for_each_of_home(layout::home_of_hash(hash_, table.homes_log2()), [&](const IndexTable::Place& place, uint64_t cell) {
    if (layout::cell_tag(cell) != tag) return false;
    const uint32_t slot = layout::cell_slot(cell);
    // A record that cannot be read any more is taken for this id: 26 bits and its home agree, and it must stay replaceable.
    uint64_t bytes = 0;
    RecordHeader header;
    const std::byte* id = nullptr;
    if (content_.read(tier_.line(slot), header, id)) {
      if (header.id_bytes != id_bytes_ || std::memcmp(id, id_, id_bytes_) != 0) return false;
      bytes = layout::record_bytes(header.id_bytes, header.stored_bytes);
    }
    found = Found{.place = place, .slot = slot, .record_bytes = bytes};
    return true;
  });
  return found;
}

// The slot of the record that the id probably has, its line on the way. Nothing is decided by it.
uint32_t Mutator::fetch_line(uint64_t hash) const {
  const IndexTable& table = index_.table();
  const uint32_t tag = layout::tag_of_hash(hash);
  uint32_t slot = layout::kNoSlot;
  table.for_each_of_home(layout::home_of_hash(hash, table.homes_log2()), [&](const IndexTable::Place&, uint64_t cell) {
    if (layout::cell_tag(cell) != tag) return false;
    slot = layout::cell_slot(cell);
    layout::prefetch_for_store(&tier_.line(slot));
    return true;
  });
  return slot;
}

void Mutator::fetch_header(uint32_t slot) const {
  const layout::Locator at = layout::locator_of(layout::load_relaxed(tier_.line(slot).locator));
  const Segment* segment = content_.segments().find(at.segment);
  if (segment == nullptr || at.offset_bytes + sizeof(RecordHeader) >= segment->bytes) return;
  layout::prefetch(segment->at(at.offset_bytes));
  layout::prefetch(
      segment->at(at.offset_bytes + sizeof(RecordHeader)));  // the id, which lies in the next line more often than not
}

Foreseen Mutator::foresee(const std::byte* id, uint32_t id_bytes) const {
  const uint64_t hash = base::hash64(id, id_bytes, hash_seed_);
  index_.table().prefetch(hash);
  return {.next = Foreseen::Next::line, .hash = hash};
}

void Mutator::foresee_more(Foreseen& foreseen) const {
  switch (std::exchange(foreseen.next, Foreseen::Next::nothing)) {
    case Foreseen::Next::nothing: break;
    case Foreseen::Next::line:
      foreseen.slot = fetch_line(foreseen.hash);
      if (foreseen.slot != layout::kNoSlot) foreseen.next = Foreseen::Next::header;
      break;
    case Foreseen::Next::header: fetch_header(foreseen.slot); break;
  }
}

// ---- refusing --------------------------------------------------------------------------------------------------------------

Disposition Mutator::refuse(Answer& answer, int32_t code, uint64_t sequence, uint64_t limit) {
  answer = {.status = code, .sequence = sequence, .slot = layout::kNoSlot, .limit = limit};
  layout::count(status_.refused);
  return Disposition::refused;
}

// Dead slots that would do are named with those who keep them.
Disposition Mutator::refuse_for_slots(Answer& answer) {
  const PinSource::Awaited awaited = reclaim_.awaited();
  const auto held = static_cast<uint32_t>(std::min<size_t>(slots_.held(), UINT32_MAX));
  refuse(answer, WARM_E_FULL, layout::shortage_word(awaited.sessions, held), tier_.geometry().capacity);
  answer.slot = awaited.pid;
  return Disposition::refused;
}

Disposition Mutator::refuse_for_condition(const layout::RequestHeader& header, uint64_t sequence, Answer& answer) {
  return refuse(answer, header.condition == WARM_IF_ABSENT ? WARM_E_EXISTS : WARM_E_CHANGED, sequence, 0);
}

// ---- reserving: nothing may fail after the first store ---------------------------------------------------------------------

Mutator::Reservation Mutator::no_slot() {
  const uint64_t now = base::monotonic_ns();
  const bool pins_known = reclaim_.pins_known();
  if (pins_known) reclaim_.look_at_held(durability_.durable(), now);
  if (slots_.free() > 0) return Reservation::ok;
  if (slots_.in_grace()) return Reservation::wait;
  if (supply_.slots_under_way()) return Reservation::wait;
  if (slots_.waiting() > 0 && pins_known && !durability_.io_error()) {
    durability_.request();
    return Reservation::wait;
  }
  if (supply_.order_chunk(now) || reclaim_.expected_back(now)) return Reservation::wait;
  return Reservation::full;
}

// ---- changing --------------------------------------------------------------------------------------------------------------

// `quad` and `last_access_ns`: of an update, the new absolute values.
void Mutator::write_intent(layout::IntentKind kind, uint64_t sequence, const Origin& origin, uint32_t old_slot, uint32_t new_slot,
                           const layout::Quad& quad, uint64_t last_access_ns) {
  layout::IntentLine& intent = tier_.control().intent;
  if (WARM_RULE("store.intent_cleared_first")) layout::store_release(intent.state, 0);
  layout::fence_release();
  WARM_FAILPOINT("store.intent_cleared");
  layout::store_relaxed(reinterpret_cast<uint32_t&>(intent.kind), static_cast<uint32_t>(kind));
  layout::store_relaxed(intent.channel, origin.channel);
  layout::store_relaxed(intent.lane, origin.lane);
  layout::store_relaxed(intent.session_index, origin.session_index);
  layout::store_relaxed(intent.number, origin.number);
  layout::store_relaxed(intent.session, origin.session);
  layout::store_relaxed(intent.ticket, origin.ticket);
  layout::store_relaxed(intent.cell, origin.cell);
  layout::store_relaxed(intent.old_slot, old_slot);
  layout::store_relaxed(intent.new_slot, new_slot);
  if (kind == layout::IntentKind::update) {
    layout::store_quad(intent.quad, quad);
    layout::store_relaxed(intent.last_access_ns, last_access_ns);
  }
  WARM_FAILPOINT("store.intent_filled");
  layout::store_release(intent.state, sequence);
  WARM_FAILPOINT("store.intent_stored");
}

// Content and id into the reserved room: private until the line names it. Returns the content's hash.
uint64_t Mutator::fill_record(const Request& request, const Content::Room& room) {
  std::byte* at = room.segment->at(room.offset) + sizeof(RecordHeader);
  layout::store_bytes(at, id_, id_bytes_);
  if (request.staged != nullptr) return request.staged->content_hash();
  const bool absent = (request.header.given & WARM_GIVEN_CONTENT) == 0;
  const uint64_t bytes = request.header.content_bytes;
  if (bytes > 0) layout::store_bytes(at + id_bytes_, request.content, bytes);
  return layout::content_hash(at + id_bytes_, bytes, absent);
}

void Mutator::end_record(const Found& found, uint64_t sequence) {
  SlotLine& line = tier_.line(found.slot);
  const layout::Locator at = layout::locator_of(line.locator);
  layout::store_release(line.dead, layout::dead_word(sequence, layout::sequence_of(line.put)));
  WARM_FAILPOINT("store.dead_stored");
  unsettled_.old_slot = found.slot;
  unsettled_.old_segment = at.segment;
  unsettled_.old_bytes = found.record_bytes;
}

// The change is made: says so to who waits for it, and to settle().
void Mutator::note_change(uint64_t sequence) {
  layout::store_relaxed(status_.feed_head, feed_.head());
  layout::store_release(status_.sequence, sequence);
  changed_ = true;
  unsettled_.sequence = sequence;
}

Disposition Mutator::put(const Request& asked, const Origin& origin, Answer& answer) {
  const layout::RequestHeader& header = asked.header;
  index_.advance(kDoublingHomesPerPut);
  if (next_sequence_ >= layout::kSequenceMax) return refuse(answer, WARM_E_LIMIT, 0, layout::kSequenceMax);
  // Behind the embedding: not under way yet.
  const uint64_t fetched_bytes = asked.staged != nullptr ? 0 : std::min(header.content_bytes, kContentFetchBytes);
  for (uint64_t i = 0; i < fetched_bytes; i += layout::kCacheLineBytes) layout::prefetch(asked.content + i);
  take_request_id(asked);

  std::optional<uint32_t> taken = slots_.take();
  if (!taken) {
    switch (no_slot()) {
      case Reservation::ok: taken = slots_.take(); break;
      case Reservation::wait: return Disposition::wait;
      case Reservation::full: return refuse_for_slots(answer);
    }
  }
  const uint32_t slot = *taken;
  SlotLine& line = tier_.line(slot);
  std::byte* row = tier_.row(slot);
  const size_t value_bytes = size_t{header.dimensions} * 4;
  const bool finite = layout::copy_finite(row, asked.embedding, value_bytes);
  layout::store_zeros(row + value_bytes, tier_.geometry().row_bytes - value_bytes);
  auto back = [&](Disposition disposition) {
    slots_.give_back(slot);
    return disposition;
  };

  // The record that the id has now is found through bucket, line and header, each by the one before. They are fetched while bytes
  // are copied and summed that nobody can reach yet, whatever is found then.
  const uint32_t likely = fetch_line(hash_);
  Request request = asked;
  const uint64_t record_bytes = layout::record_bytes(id_bytes_, header.content_bytes);
  Content::Room room;
  uint64_t content_hash = 0;
  const bool in_segment = request.staged == nullptr && record_bytes <= content_.segment_bytes() - sizeof(layout::SegmentHeader);
  const bool has_room = in_segment && content_.reserve(record_bytes, room);
  if (has_room) content_hash = fill_record(request, room);
  if (likely != layout::kNoSlot) fetch_header(likely);
  uint32_t checksum = in_segment ? layout::payload_checksum(row, header.dimensions, content_hash) : 0;
  const std::optional<Found> found = find();

  if (!finite) return back(refuse(answer, WARM_E_INVALID, 0, 0));
  const uint64_t old_sequence = found ? layout::sequence_of(tier_.line(found->slot).put) : 0;
  if ((header.condition == WARM_IF_ABSENT && found) ||
      (header.condition == WARM_IF_SEQUENCE && (!found || old_sequence != header.if_sequence))) {
    return back(refuse_for_condition(header, old_sequence, answer));
  }

  const bool absent = (header.given & WARM_GIVEN_CONTENT) == 0;
  StagedContent own;
  if (!in_segment && request.staged == nullptr) {
    // Segments may be configured smaller than what a lane carries.
    auto made =
        content_.stage(id_bytes_, header.content_bytes, [&](std::byte* to, uint64_t offset, uint64_t bytes) -> base::Status {
          layout::store_bytes(to, request.content + offset, bytes);
          return {};
        });
    if (!made) return back(refuse(answer, made.error().code, 0, content_.segment_bytes()));
    own = std::move(*made);
    request.staged = &own;
  }
  if (in_segment && !has_room) {
    if (supply_.order_segment()) return back(Disposition::wait);
    return back(refuse(answer, supply_.segment_refusal(), 0, content_.segment_bytes()));
  }
  auto cells = found ? index_.cells_of(hash_, found->place, found->slot) : index_.reserve(hash_);
  while (!cells) {
    if (auto s = index_.grow_now(); !s) return back(refuse(answer, s.error().code, 0, layout::kIndexHomesLog2Max));
    cells = index_.reserve(hash_);
  }
  if (!in_segment) {
    room = content_.adopt(*request.staged, record_bytes);
    content_hash = fill_record(request, room);
    checksum = layout::payload_checksum(row, header.dimensions, content_hash);
  }

  // Reserved. Nothing fails from here on.
  const uint64_t sequence = next_sequence_++;
  const uint64_t put_word = layout::put_word(sequence, slot);
  const uint64_t now = base::wall_ns();
  const uint64_t created = (header.given & WARM_GIVEN_CREATED) != 0 ? header.created_ns
                           : found                                  ? layout::load_relaxed(tier_.line(found->slot).created_ns)
                                                                    : now;
  write_intent(found ? layout::IntentKind::replace : layout::IntentKind::put, sequence, origin,
               found ? found->slot : layout::kNoSlot, slot);

  RecordHeader record{};
  record.put = put_word;
  record.hash = hash_;
  record.created_ns = created;
  record.content_checksum = static_cast<uint32_t>(content_hash);
  record.stored_bytes = static_cast<uint32_t>(header.content_bytes);
  record.id_bytes = static_cast<uint16_t>(id_bytes_);
  record.codec = layout::kCodecRaw;
  record.flags = absent ? layout::kRecordContentAbsent : 0;
  record.header_checksum = layout::record_header_checksum(record, id_, record.stored_bytes, checksum);
  layout::store_bytes(room.segment->at(room.offset), &record, sizeof record);
  if (!in_segment) content_.publish();  // before a locator names it
  content_.appended(room);
  WARM_FAILPOINT("store.record_stored");

  if (!WARM_RULE("store.put_last")) {
    layout::store_release(line.put, put_word);
    WARM_STEP("store.put_stored_early");
  }
  layout::store_relaxed(line.locator,
                        layout::locator_word({.segment = room.segment->number, .offset_bytes = room.offset}, slot, sequence));
  layout::store_relaxed(line.created_ns, created);
  layout::store_quad(line.quad, header.quad);
  layout::store_relaxed(line.last_access_ns, (header.given & WARM_GIVEN_LAST_ACCESS) != 0 ? header.last_access_ns : now);
  layout::store_relaxed(line.content_bytes, record.stored_bytes);
  layout::store_relaxed(line.checksum, checksum);
  WARM_FAILPOINT("store.line_filled");
  if (WARM_RULE("store.put_last")) layout::store_release(line.put, put_word);
  WARM_FAILPOINT("store.put_stored");

  if (!WARM_RULE("store.cell_before_death") && found) {
    layout::store_release(tier_.line(found->slot).dead, layout::dead_word(sequence, old_sequence));
    WARM_STEP("store.dead_stored_early");
  }
  if (found) {
    index_.replace(*cells, hash_, slot);
  } else {
    index_.insert(*cells, hash_, slot);
  }
  WARM_FAILPOINT("store.cell_stored");
  const bool feed_first = WARM_RULE("store.feed_before_death");
  if (feed_first) feed_.append(sequence, found ? layout::ChangeKind::replace : layout::ChangeKind::put, slot, id_, id_bytes_);
  WARM_FAILPOINT("store.feed_stored");
  if (found) end_record(*found, sequence);
  if (!feed_first) feed_.append(sequence, found ? layout::ChangeKind::replace : layout::ChangeKind::put, slot, id_, id_bytes_);
  answer = {.status = WARM_OK, .sequence = sequence, .slot = slot, .limit = 0};
  note_change(sequence);
  layout::count(status_.puts);
  if (!found) layout::count(status_.records);
  unsettled_.new_slot = slot;
  return Disposition::effect;
}

Disposition Mutator::remove(const Request& request, const Origin& origin, Answer& answer) {
  const layout::RequestHeader& header = request.header;
  index_.advance(kDoublingHomesPerPut);
  if (next_sequence_ >= layout::kSequenceMax) return refuse(answer, WARM_E_LIMIT, 0, layout::kSequenceMax);
  take_request_id(request);
  const std::optional<Found> found = find();
  if (!found) return refuse(answer, header.condition == WARM_IF_SEQUENCE ? WARM_E_CHANGED : WARM_E_NOT_FOUND, 0, 0);
  const uint64_t old_sequence = layout::sequence_of(tier_.line(found->slot).put);
  if (header.condition == WARM_IF_SEQUENCE && old_sequence != header.if_sequence) {
    return refuse_for_condition(header, old_sequence, answer);
  }
  const uint64_t sequence = remove_found(*found, origin);
  answer = {.status = WARM_OK, .sequence = sequence, .slot = found->slot, .limit = 0};
  return Disposition::effect;
}

// Of the record whose id and hash are those in progress.
uint64_t Mutator::remove_found(const Found& found, const Origin& origin) {
  const GrowingIndex::Cells cells = index_.cells_of(hash_, found.place, found.slot);
  const uint64_t sequence = next_sequence_++;
  write_intent(layout::IntentKind::remove, sequence, origin, found.slot, layout::kNoSlot);
  index_.remove(cells);
  WARM_FAILPOINT("store.cell_removed");
  const bool feed_first = WARM_RULE("store.feed_before_death");
  if (feed_first) feed_.append(sequence, layout::ChangeKind::remove, found.slot, id_, id_bytes_);
  WARM_FAILPOINT("store.remove_feed_stored");
  end_record(found, sequence);
  if (!feed_first) feed_.append(sequence, layout::ChangeKind::remove, found.slot, id_, id_bytes_);
  note_change(sequence);
  layout::count(status_.removes);
  layout::store_relaxed(status_.records, status_.records - 1);
  return sequence;
}

// In place. The line's own sequence stays: what names this one is the intent, then the line of numbers.
Disposition Mutator::update(const Request& request, const Origin& origin, Answer& answer) {
  const layout::RequestHeader& header = request.header;
  index_.advance(kDoublingHomesPerPut);
  if (next_sequence_ >= layout::kSequenceMax) return refuse(answer, WARM_E_LIMIT, 0, layout::kSequenceMax);
  take_request_id(request);
  const std::optional<Found> found = find();
  if (!found) return refuse(answer, header.condition == WARM_IF_SEQUENCE ? WARM_E_CHANGED : WARM_E_NOT_FOUND, 0, 0);
  SlotLine& line = tier_.line(found->slot);
  const uint64_t put_sequence = layout::sequence_of(line.put);
  if (header.condition == WARM_IF_SEQUENCE && put_sequence != header.if_sequence) {
    return refuse_for_condition(header, put_sequence, answer);
  }
  const auto set = [&](uint32_t bit) { return (header.given & bit) != 0; };
  layout::Quad quad = layout::load_quad(line.quad);
  if (set(WARM_SET_CONFIDENCE)) quad.confidence = header.quad.confidence;
  if (set(WARM_SET_ACTIVATION)) quad.activation = header.quad.activation;
  if (set(WARM_SET_DECAY_RATE)) quad.decay_rate = header.quad.decay_rate;
  if (set(WARM_SET_RECALL_COUNT)) quad.recall_count = header.quad.recall_count;
  const uint64_t last_access = set(WARM_SET_LAST_ACCESS) ? header.last_access_ns : layout::load_relaxed(line.last_access_ns);

  const uint64_t sequence = next_sequence_++;
  write_intent(layout::IntentKind::update, sequence, origin, found->slot, layout::kNoSlot, quad, last_access);
  if (!WARM_RULE("store.quad_in_one_store")) {
    layout::Quad half = quad;
    half.recall_count = layout::load_quad(line.quad).recall_count;
    layout::store_quad(line.quad, half);
    WARM_STEP("store.update_half_stored");
  }
  layout::store_quad(line.quad, quad);
  WARM_FAILPOINT("store.update_quad_stored");
  layout::store_relaxed(line.last_access_ns, last_access);
  WARM_FAILPOINT("store.update_times_stored");
  layout::store_release(tier_.control().numbers.last_update, sequence);
  WARM_FAILPOINT("store.update_numbered");
  feed_.append(sequence, layout::ChangeKind::update, found->slot, id_, id_bytes_);
  answer = {.status = WARM_OK, .sequence = sequence, .slot = found->slot, .limit = 0};
  note_change(sequence);
  layout::count(status_.updates);
  unsettled_.new_slot = found->slot;
  return Disposition::effect;
}

// ---- what is left to do after an answer ------------------------------------------------------------------------------------

void Mutator::settle() {
  if (unsettled_.sequence == 0) return;
  const Unsettled done = std::exchange(unsettled_, {});
  if (done.new_slot != layout::kNoSlot) durability_.mark_dirty(done.new_slot);
  if (done.old_slot != layout::kNoSlot) {
    durability_.mark_dirty(done.old_slot);
    slots_.died(done.old_slot, done.sequence);
    content_.died(done.old_segment, done.old_bytes, done.sequence);
  }
  fetch_for_next();
}

// The lines that the next put will store to.
void Mutator::fetch_for_next() const {
  if (const auto next = slots_.next()) {
    const std::byte* row = tier_.row(*next);
    for (uint32_t i = 0; i < tier_.geometry().row_bytes; i += layout::kCacheLineBytes) layout::prefetch_for_store(row + i);
    layout::prefetch_for_store(&tier_.line(*next));
  }
  const Segment* active = content_.active();
  if (active != nullptr && active->bytes - active->tail > kTailFetchBytes) {
    for (uint64_t i = 0; i < kTailFetchBytes; i += layout::kCacheLineBytes)
      layout::prefetch_for_store(active->at(active->tail + i));
  }
}

// Hostile: slot and sequence are what a client says.
bool Mutator::touch(uint32_t slot, uint64_t put_sequence) {
  if (slot >= tier_.slots()) return false;
  SlotLine& line = tier_.line(slot);
  if (!layout::live(line.put, line.dead) || layout::sequence_of(line.put) != put_sequence) return false;
  layout::Quad quad = layout::load_quad(line.quad);
  if (quad.recall_count < UINT32_MAX) ++quad.recall_count;
  layout::store_quad(line.quad, quad);
  const uint64_t now = base::wall_ns();
  if (now > layout::load_relaxed(line.last_access_ns)) layout::store_relaxed(line.last_access_ns, now);
  layout::count(status_.touches);
  durability_.mark_dirty(slot);
  durability_.touched();
  changed_ = true;
  return true;
}

// ---- clearing --------------------------------------------------------------------------------------------------------------

// Begins, or looks whether step() has come to the end. One that nobody comes back to, because its lane is gone, gives way.
Disposition Mutator::clear(const Origin& origin, Answer& answer) {
  const bool running = clear_ && clear_->next < clear_->end;
  if (clear_ && !running && clear_->origin == origin) {
    answer = {.status = WARM_OK, .sequence = last_sequence(), .slot = layout::kNoSlot, .limit = clear_->removed};
    clear_.reset();
    return Disposition::effect;
  }
  if (!running) clear_ = Clear{.origin = origin, .next = 0, .end = tier_.slots(), .removed = 0};
  return Disposition::wait;
}

// A bounded step. Each removal is one like any other, only that nobody asked for it by its id: killed in between, the next daemon
// finds the request in its lane and begins anew.
void Mutator::clear_some() {
  constexpr uint32_t kSlotsPerStep = 64;
  Origin nobody;
  nobody.lane = layout::kIntentLaneNone;
  for (uint32_t i = 0; i < kSlotsPerStep && clear_->next < clear_->end; ++i) {
    const auto slot = static_cast<uint32_t>(clear_->next++);
    const SlotLine& line = tier_.line(slot);
    if (!layout::live(line.put, line.dead) || !take_id_of(slot) || next_sequence_ >= layout::kSequenceMax) continue;
    index_.advance(kDoublingHomesPerPut);
    const std::optional<Found> found = find();
    if (!found || found->slot != slot) continue;  // damage that recovery left alone
    remove_found(*found, nobody);
    settle();
    ++clear_->removed;
    WARM_FAILPOINT("store.clear_removed");
  }
}

}  // namespace warmtier::daemon::store
