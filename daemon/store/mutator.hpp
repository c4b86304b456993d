// Carries out requests: put, remove, update, clear, and touches. The life of one change is in this file: find, reserve, intent,
// record, line, cell, feed, death; then its answer; then our own books.
//
// Thread law: the store thread.
//
// Invariants: 1 and 2 of store.hpp, and
//  1. Between two operations the books (slots, segments, dirty chunks) lack what `unsettled_` says, and nothing else; settle()
//     enters it before the next operation looks.
//  2. Id and hash in progress are a private copy: whatever a client does to its own meanwhile, one id is looked up, stored and
//     fed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <utility>

#include "daemon/store/content.hpp"
#include "daemon/store/durability.hpp"
#include "daemon/store/growing_index.hpp"
#include "daemon/store/reclaim.hpp"
#include "daemon/store/shared_pages.hpp"
#include "daemon/store/slots.hpp"
#include "daemon/store/store.hpp"
#include "daemon/store/supply.hpp"
#include "daemon/store/tier.hpp"
#include "layout/limits.hpp"

namespace warmtier::daemon::store {

class Mutator {
 public:
  // What a change touches. All of it outlives the mutator.
  struct Parts {
    Tier& tier;
    Slots& slots;
    Content& content;
    GrowingIndex& index;
    Durability& durability;
    Supply& supply;
    Reclaim& reclaim;
    Feed& feed;
    layout::StatusPage& status;
  };
  Mutator(const Parts& parts, uint64_t next_sequence, uint64_t hash_seed)
      : tier_(parts.tier),
        slots_(parts.slots),
        content_(parts.content),
        index_(parts.index),
        durability_(parts.durability),
        supply_(parts.supply),
        reclaim_(parts.reclaim),
        feed_(parts.feed),
        status_(parts.status),
        hash_seed_(hash_seed),
        next_sequence_(next_sequence) {}

  Disposition execute(const Request& request, const Origin& origin, Answer& answer);
  void settle();
  [[nodiscard]] Foreseen foresee(const std::byte* id, uint32_t id_bytes) const;
  void foresee_more(Foreseen& foreseen) const;
  bool touch(uint32_t slot, uint64_t put_sequence);
  // A bounded step of the clear that runs, its end included: the request that waits for it is served again. False: none runs.
  bool advance_clear() {
    if (!clear_ || clear_->next >= clear_->end) return false;
    clear_some();
    return true;
  }

  [[nodiscard]] uint64_t last_sequence() const { return next_sequence_ - 1; }
  // Whether anything changed since the last call.
  bool take_changed() { return std::exchange(changed_, false); }

 private:
  struct Found {
    IndexTable::Place place;
    uint32_t slot = 0;
    uint64_t record_bytes = 0;  // 0: its record cannot be read
  };
  enum class Reservation : uint8_t { ok, wait, full };
  // Done to every word that another process sees, and not entered in our own books yet.
  struct Unsettled {
    uint64_t sequence = 0;  // 0: nothing
    uint32_t new_slot = layout::kNoSlot;
    uint32_t old_slot = layout::kNoSlot;
    uint64_t old_segment = 0;
    uint64_t old_bytes = 0;
  };
  // Of a request that waits in its lane until every slot that was there when it began was looked at.
  struct Clear {
    Origin origin;
    uint64_t next = 0;
    uint64_t end = 0;
    uint64_t removed = 0;
  };

  Disposition put(const Request& asked, const Origin& origin, Answer& answer);
  Disposition remove(const Request& request, const Origin& origin, Answer& answer);
  Disposition update(const Request& request, const Origin& origin, Answer& answer);
  Disposition clear(const Origin& origin, Answer& answer);

  void take_request_id(const Request& request);
  void clear_some();
  bool take_id_of(uint32_t slot);
  [[nodiscard]] std::optional<Found> find() const;
  [[nodiscard]] uint32_t fetch_line(uint64_t hash) const;
  void fetch_header(uint32_t slot) const;
  void fetch_for_next() const;

  Disposition refuse(Answer& answer, int32_t code, uint64_t sequence, uint64_t limit);
  Disposition refuse_for_slots(Answer& answer);
  Disposition refuse_for_condition(const layout::RequestHeader& header, uint64_t sequence, Answer& answer);
  Reservation no_slot();
  uint64_t fill_record(const Request& request, const Content::Room& room);
  void write_intent(layout::IntentKind kind, uint64_t sequence, const Origin& origin, uint32_t old_slot, uint32_t new_slot,
                    const layout::Quad& quad = {}, uint64_t last_access_ns = 0);
  void end_record(const Found& found, uint64_t sequence);
  uint64_t remove_found(const Found& found, const Origin& origin);
  void note_change(uint64_t sequence);

  Tier& tier_;
  Slots& slots_;
  Content& content_;
  GrowingIndex& index_;
  Durability& durability_;
  Supply& supply_;
  Reclaim& reclaim_;
  Feed& feed_;
  layout::StatusPage& status_;
  const uint64_t hash_seed_;

  uint64_t next_sequence_;
  bool changed_ = false;
  Unsettled unsettled_;
  std::optional<Clear> clear_;

  // The request in progress.
  uint32_t id_bytes_ = 0;
  uint64_t hash_ = 0;
  alignas(64) std::byte id_[layout::kIdBytesMax];
};

}  // namespace warmtier::daemon::store
