// The store: slots, segments, index, feed and their recovery, behind one facade. The truth, and its only writer.
//
// Thread law: everything is called by one thread, the store thread; `Published` alone is shared with the server thread.
// A put never meets a full disk or a fresh page by itself: space is allocated and populated ahead by a preparing thread that
// touches no word that counts.
//
// Behind the facade: mutator.hpp carries out requests; tier.hpp, content.hpp, growing_index.hpp and slots.hpp hold what there
// is; supply.hpp asks the preparing thread (preparer.hpp) for more; reclaim.hpp makes dead slots free; durability.hpp brings it
// all to the device (checkpoint.hpp); recovery.hpp makes it of what a start finds. store.cpp puts these together.
//
// Invariants
//  1. Nothing may fail after the first store to a line, a cell or a word: execute() reserves first.
//  2. put is stored last; the index cell after it; the feed after the cell; the dead word of what it replaces last.
//  3. A slot is used again only when its death is durable (<= D) and one scan of all pins found none: then put = 0, then free.
//  4. The generation and the doubling cursor move between operations only.
//  5. The superblock names C only after everything up to C is on the device.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "base/error.hpp"
#include "base/fd.hpp"
#include "daemon/io/io.hpp"
#include "layout/layout.hpp"

namespace warmtier::daemon::store {

struct InitOptions {
  uint32_t dimensions = 768;
  uint64_t capacity = uint64_t{1} << 24;
  uint64_t segment_bytes = layout::kSegmentBytesDefault;
};

// What warm.tier is called until it is whole and durable.
constexpr const char* kUnfinishedTierName = "warm.tier.new";

// Makes a new store in an empty or absent directory: warm.tier, content/, channels/. Refuses a directory that holds one
// (WARM_E_EXISTS). Durable when it returns.
base::Status initialise(const std::string& directory, const InitOptions& options);

struct Options {
  uint64_t content_bytes_max = layout::kContentCapBytesDefault;
  uint64_t checkpoint_interval_ns = 5'000'000'000;
  uint32_t prepared_slots = 16384;                    // free slots kept populated ahead
  uint64_t prepared_content_bytes = uint64_t{8} << 20;  // of the active segment, kept populated ahead
  bool large_pages = false;  // for the tier's chunks too: docs/decisions/0009
};

// Who asked. Goes into the intent line and comes back from recovery.
struct Origin {
  uint32_t channel = 0;
  uint32_t lane = 0;  // or layout::kIntentLaneSocket
  uint64_t number = 0;
  uint32_t session_index = 0;
  uint64_t session = 0;
  uint64_t ticket = 0;
  uint32_t cell = 0;
  bool operator==(const Origin&) const = default;
};

// A validated private copy of the header, and the client's own bytes: hostile, they may change while they are read. Each is
// read once.
struct Request {
  layout::RequestHeader header{};
  const std::byte* embedding = nullptr;  // header.dimensions * 4 bytes, any alignment
  const std::byte* id = nullptr;
  const std::byte* content = nullptr;    // content_bytes, unless `staged`
  class StagedContent* staged = nullptr;  // large content that already lies in a segment of its own
};

struct Answer {
  int32_t status = WARM_OK;
  uint64_t sequence = 0;  // of the operation; of the record that refused it (EXISTS, CHANGED); a shortage_word (FULL)
  uint32_t slot = layout::kNoSlot;  // FULL: a pid
  uint64_t limit = 0;
};

enum class Disposition {
  effect,   // carried out: answer it, then count it done
  refused,  // answered without an effect
  wait,     // no slot is free but some will be: leave the request where it is
};

struct Segment;

// Large content in a segment of its own, before the store thread has seen the request. Made by any thread with Store::stage;
// becomes part of the store when execute() carries the request out, else the file goes with it.
class StagedContent {
 public:
  StagedContent() noexcept;
  StagedContent(StagedContent&&) noexcept;
  StagedContent& operator=(StagedContent&&) noexcept;
  ~StagedContent();

  [[nodiscard]] uint64_t content_hash() const noexcept { return content_hash_; }

 private:
  friend class Content;
  int content_directory_ = -1;  // borrowed from the store
  std::unique_ptr<Segment> segment_;
  uint64_t content_offset_ = 0;
  uint64_t content_bytes_ = 0;
  uint64_t content_hash_ = 0;
};

// A request in flight at the last kill, decided by its intent line.
struct Decided {
  Origin origin;
  Answer answer;
  bool carried_out = false;  // false: it left no effect and is executed as new
};

// Pins of all sessions, as the session room knows them.
class PinSource {
 public:
  virtual ~PinSource() = default;
  // False while a process of an earlier daemon lives that has not handed back its pins.
  virtual bool complete() = 0;
  // While they are not complete: until when (monotonic) those processes may just be on their way, so that a put waits rather than
  // be refused for them.
  virtual uint64_t expected_until_ns() = 0;
  // Who keeps them from being complete. Said when a put was refused for it, and then put into the log, once.
  struct Awaited {
    uint32_t sessions = 0;
    uint32_t pid = 0;  // of one of them, as the daemon sees it; 0: it cannot
  };
  virtual Awaited awaited() = 0;
  // Loads every pin cell once, in steps, from the caller's fence on: begin_scan() right after it, then scan() until it says true.
  // A step loads about `cells`. Sessions may begin, end and be handed back between steps. Values out of range are ignored by the
  // caller.
  virtual void begin_scan() = 0;
  virtual bool scan(uint32_t cells, const std::function<void(uint32_t slot)>& visit) = 0;
};

// What the server thread hands to clients.
struct PublishedSegment {
  uint64_t number = 0;
  int fd = -1;  // owned by the store; reopen it before passing it on
};
struct Published {
  std::mutex mutex;  // rank: below every other lock of the daemon; held for copying and reopening only
  uint64_t generation = 0;
  uint32_t homes_log2 = 0;
  int index_fd = -1;
  int tier_fd = -1;
  int feed_fd = -1;
  int status_fd = -1;
  uint64_t segment_epoch = 0;
  std::vector<PublishedSegment> segments;
};

// How far the record of a request that is not served yet was fetched.
struct Foreseen {
  enum class Next : uint8_t { nothing, line, header };
  Next next = Next::nothing;
  uint32_t slot = layout::kNoSlot;
  uint64_t hash = 0;
};

class Store {
 public:
  // Recovers what is there. On return index, feed and status are complete; the generation is still the old one, the intent
  // undissolved (protocol: restart, steps 1 to 3). `io` outlives the store.
  static base::Result<std::unique_ptr<Store>> open(const std::string& directory, const Options& options, io::Io& io);
  ~Store();

  // Restart, step 4: from now on the new index answers.
  void open_generation();
  // The request that was in flight, if any; apply its answer after open_generation(), then clear_intent().
  [[nodiscard]] const std::optional<Decided>& decided() const;
  void clear_intent();
  // True: what was above the last checkpoint is gone, and nothing that a client of the last daemon holds means anything.
  [[nodiscard]] bool recovered_from_device() const;

  void set_pin_source(PinSource* pins);  // before the first step()
  // Sends a larger index to every session; called by step() before the generation changes.
  void set_index_publisher(std::function<void(int index_fd, uint32_t homes_log2, uint64_t generation)> publish);

  // One request. Never blocks.
  Disposition execute(const Request& request, const Origin& origin, Answer& ret_answer);
  // What the last request left to do in our own books, and what helps the next one. To be called when its answer is out; else the
  // next call does it.
  void settle();
  // A request for this id is about to come. What it will look at is fetched, one place a call, because each is found through the
  // one before: its bucket, the line that this names, the header that that names. Nothing is decided by it, and an id that is not
  // a copy of one's own will do.
  [[nodiscard]] Foreseen foresee(const std::byte* id, uint32_t id_bytes) const;
  void foresee_more(Foreseen& foreseen) const;

  // A record was used: its recall count and last access. No change with a sequence; nothing happens when the slot does not hold
  // that record any more. True when it did.
  bool touch(uint32_t slot, uint64_t put_sequence);

  void check_invariants();  // daemon/store/invariants.hpp

  // Background work, a bounded step of it: doubling, a clear, completions of a checkpoint, grace. True while more is waiting, and
  // when something came that a request that was told to wait may need: serve it again before a sleep.
  bool step();
  // The last call before a sleep on event_fd(): clears its events, steps once more, and says when step() wants to be called
  // without an event (monotonic ns; 0: at once, do not sleep; UINT64_MAX: never).
  [[nodiscard]] uint64_t wake_at_ns();
  // Readable when an I/O completion or the preparing thread wants a step(). Can be polled; is never read by the caller.
  [[nodiscard]] int event_fd() const;
  // Starts a checkpoint soon.
  void request_checkpoint();
  // A last checkpoint, waited for; the superblock says clean. Nothing may be executed afterwards.
  base::Status close_cleanly();

  // Any thread: copies large content into a segment file of its own. `read` fills (destination, offset, bytes).
  base::Result<StagedContent> stage(uint32_t id_bytes, uint64_t content_bytes,
                                    const std::function<base::Status(std::byte*, uint64_t, uint64_t)>& read);

  // Any thread: row and content of what a slot holds now; 0 for a slot that there is not.
  [[nodiscard]] uint64_t view_bytes(uint32_t slot) const noexcept;

  // Numbers that never repeat; stored before they are returned.
  uint64_t take_session_number();
  uint64_t take_channel_number();

  [[nodiscard]] Published& published();
  [[nodiscard]] layout::StatusPage& status();  // the session room counts its own fields in it
  [[nodiscard]] const layout::Geometry& geometry() const;
  [[nodiscard]] const uint8_t (&store_id() const)[16];
  [[nodiscard]] uint64_t hash_seed() const;
  [[nodiscard]] const uint8_t (&boot_id() const)[16];
  [[nodiscard]] int directory_fd() const;
  [[nodiscard]] const Options& options() const;
  // Large content goes into a segment of its own above this.
  [[nodiscard]] uint64_t segment_bytes() const;
  [[nodiscard]] uint64_t own_segment_above_bytes() const;
  // The first I/O error, if there was one: durability is not acknowledged any more.
  [[nodiscard]] const std::optional<base::Error>& io_error() const;

 private:
  class Impl;
  explicit Store(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace warmtier::daemon::store
