#include "daemon/store/store.hpp"

#include <fcntl.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <utility>

#include "base/assert.hpp"
#include "base/checked.hpp"
#include "base/clock.hpp"
#include "base/failpoint.hpp"
#include "base/probe.hpp"
#include "daemon/store/checkpoint.hpp"
#include "daemon/store/index.hpp"
#include "daemon/store/invariants.hpp"
#include "daemon/store/preparer.hpp"
#include "daemon/store/recovery.hpp"
#include "daemon/store/segments.hpp"
#include "daemon/store/shared_pages.hpp"
#include "daemon/store/slots.hpp"
#include "daemon/store/tier.hpp"
#include "daemon/store/witness.hpp"
#include "layout/record.hpp"
#include "layout/validate.hpp"

namespace warmtier::daemon::store {
namespace {

using layout::RecordHeader;
using layout::SlotLine;

constexpr uint32_t kDoublingHomesPerPut = 16;
constexpr uint32_t kDoublingHomesPerStep = 64;
constexpr size_t kSlotsPerJob = 1024;
constexpr uint64_t kTailFetchBytes = 4 * layout::kCacheLineBytes;  // a small record
constexpr uint64_t kContentFetchBytes = 512;
constexpr uint64_t kTailJobBytes = uint64_t{1} << 20;
constexpr uint64_t kAllocationRetryNs = 100 * base::kNsPerMs;
constexpr uint64_t kHeldRetryNs = base::kNsPerMs;
constexpr uint32_t kStepsPerClockLook = 64;

// A sealed segment keeps its length, for readers map it; the unused tail gives its space back.
void punch_unused(const Segment& segment) {
  const uint64_t unused = base::round_up<uint64_t>(segment.tail, layout::kPageBytes);
  if (unused >= segment.bytes) return;
  ::fallocate(segment.fd.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(unused),
              static_cast<off_t>(segment.bytes - unused));
}

}  // namespace

StagedContent::StagedContent() noexcept = default;
StagedContent::StagedContent(StagedContent&&) noexcept = default;
StagedContent& StagedContent::operator=(StagedContent&& other) noexcept {
  if (this == &other) return *this;
  if (segment_) ::unlinkat(content_directory_, segment_name(segment_->number).c_str(), 0);
  content_directory_ = other.content_directory_;
  segment_ = std::move(other.segment_);
  content_offset_ = other.content_offset_;
  content_bytes_ = other.content_bytes_;
  content_hash_ = other.content_hash_;
  return *this;
}
StagedContent::~StagedContent() {
  if (segment_) ::unlinkat(content_directory_, segment_name(segment_->number).c_str(), 0);
}

class Store::Impl {
 public:
  Impl(const Options& options, io::Io& io) : options_(options), io_(io) {}

  base::Status open(const std::string& directory);
  void open_generation();
  void clear_intent();
  Disposition put(const Request& asked, const Origin& origin, Answer& answer);
  Disposition remove(const Request& request, const Origin& origin, Answer& answer);
  void settle();
  void check_invariants();
  Disposition update(const Request& request, const Origin& origin, Answer& answer);
  Disposition clear(const Origin& origin, Answer& answer);
  bool touch(uint32_t slot, uint64_t put_sequence);
  bool step();
  uint64_t wake_at_ns();
  base::Status close_cleanly();
  base::Result<StagedContent> stage(uint32_t id_bytes, uint64_t content_bytes,
                                    const std::function<base::Status(std::byte*, uint64_t, uint64_t)>& read);
  void publish_segments();

  struct Found {
    IndexTable::Place place;
    uint32_t slot = 0;
    uint64_t record_bytes = 0;  // 0: its record cannot be read
  };
  // Where a new record's bytes go.
  struct Room {
    Segment* segment = nullptr;
    uint64_t offset = 0;
    uint64_t bytes = 0;
    uint64_t content_hash = 0;
    bool own = false;  // a segment of its own, not in the table yet
  };
  // The cells of one change: the old table decides, the new one follows while a doubling runs.
  struct Cells {
    IndexTable::Place old_place;
    std::optional<IndexTable::Place> new_place;
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
  struct Doubling {
    IndexTable table;
    uint64_t cursor = 0;
  };
  // Of a request that waits in its lane until every slot that was there when it began was looked at.
  struct Clear {
    Origin origin;
    uint64_t next = 0;
    uint64_t end = 0;
    uint64_t removed = 0;
  };

  Disposition refuse(Answer& answer, int32_t code, uint64_t sequence, uint64_t limit);
  Disposition refuse_for_slots(Answer& answer);
  void take_request_id(const Request& request);
  std::optional<Found> find(uint64_t hash) const;
  static Disposition condition_refusal(const layout::RequestHeader& header, uint64_t sequence, Answer& answer);
  void run_grace();
  bool expected_back(uint64_t now) const;
  Reservation no_slot();
  Reservation reserve_room(Room& room);
  void fill_record(const Request& request, Room& room);
  bool reserve_cells(uint64_t hash, const std::optional<Found>& found, Cells& cells);
  void write_intent(layout::IntentKind kind, uint64_t sequence, const Origin& origin, uint32_t old_slot, uint32_t new_slot,
                    const layout::Quad& quad = {}, uint64_t last_access_ns = 0);
  void end_record(const Found& found, uint64_t sequence);
  [[nodiscard]] uint32_t fetch_line(uint64_t hash) const;
  void fetch_header(uint32_t slot) const;
  void fetch_for_next() const;
  uint64_t remove_found(const Found& found, const Origin& origin);
  bool take_id_of(uint32_t slot);
  void advance_clear();
  void seal_active();
  void adopt_active(std::unique_ptr<Segment> segment);
  void unlink_dead_segments();
  void begin_doubling();
  bool advance_doubling(uint32_t homes);
  void complete_doubling();
  base::Status finish_doubling_now();
  bool take_prepared();
  void order_preparations();
  void begin_checkpoint(bool clean);
  void checkpoint_done();
  void refresh_status();
  [[nodiscard]] uint64_t last_sequence() const { return next_sequence_ - 1; }
  [[nodiscard]] uint64_t slack() const { return tier_->slots() - status().records; }
  [[nodiscard]] bool can_grow() const { return tier_->chunks() < tier_->geometry().chunks_max(); }
  [[nodiscard]] layout::StatusPage& status() const { return status_->page(); }
  uint64_t take_number(uint64_t& word) { return __atomic_fetch_add(&word, 1, __ATOMIC_ACQ_REL); }
  // nullopt: numbers are at their end. Any thread.
  std::optional<uint64_t> take_segment_number() {
    uint64_t& word = tier_->control().numbers.next_segment;
    uint64_t number = __atomic_load_n(&word, __ATOMIC_RELAXED);
    while (number < layout::kSegmentNumberEnd) {
      if (__atomic_compare_exchange_n(&word, &number, number + 1, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED)) return number;
    }
    return std::nullopt;
  }
  static std::unexpected<base::Error> no_segment_number() {
    return base::fail(WARM_E_LIMIT, "segment numbers end at %llu, and the last one is taken",
                      static_cast<unsigned long long>(layout::kSegmentNumberEnd));
  }

  const Options options_;
  io::Io& io_;
  base::Fd directory_;
  base::Fd content_directory_;
  Witness witness_;
  layout::Superblock superblock_{};  // the last one written
  std::optional<Tier> tier_;
  SegmentTable segments_;
  Slots slots_;
  std::optional<Feed> feed_;
  std::optional<StatusMap> status_;
  IndexTable index_;
  std::optional<Doubling> doubling_;
  std::optional<IndexTable> next_table_;
  Unsettled unsettled_;
  std::optional<Clear> clear_;
  std::optional<Checkpoint> checkpoint_;
  std::unique_ptr<Preparer> preparer_;
  base::Fd events_;  // epoll over the completions' and the preparer's eventfd
  Published published_;
  std::optional<Decided> decided_;
  std::optional<base::Error> io_error_;
  PinSource* pins_ = nullptr;
  std::function<void(int, uint32_t, uint64_t)> publish_index_;

  bool recovered_from_device_ = false;
  uint64_t generation_ = 0;
  uint64_t next_sequence_ = 1;
  uint64_t durable_ = 0;  // D
  uint64_t content_bytes_live_ = 0;
  uint64_t content_bytes_total_ = 0;
  uint64_t checkpoint_sequence_ = 0;  // C of the one that runs
  Segment* active_ = nullptr;
  std::unique_ptr<Segment> spare_;
  std::vector<uint64_t> dead_segments_;  // sealed, without a live record
  bool chunk_ordered_ = false;
  bool spare_ordered_ = false;
  bool tail_ordered_ = false;
  bool table_ordered_ = false;
  size_t slots_in_job_ = 0;
  uint64_t allocation_failed_ns_ = 0;
  int32_t allocation_failed_code_ = WARM_E_FULL;  // of that failure
  uint64_t table_failed_ns_ = 0;
  uint64_t held_looked_ns_ = 0;
  bool checkpoint_requested_ = false;
  uint64_t dirty_since_ns_ = 0;
  uint32_t steps_ = 0;
  bool changed_ = true;
  bool touched_ = false;  // since the last checkpoint began
  uint32_t table_log2_wanted_ = 0;

  // The request in progress.
  uint32_t id_bytes_ = 0;
  uint64_t hash_ = 0;
  alignas(64) std::byte id_[layout::kIdBytesMax];
};

// ---- opening ---------------------------------------------------------------------------------------------------------------

base::Status Store::Impl::open(const std::string& directory) {
  auto dir = base::open_at(AT_FDCWD, directory.c_str(), O_RDONLY | O_DIRECTORY);
  if (!dir) return base::pass(std::move(dir));
  directory_ = std::move(*dir);
  auto file = base::open_at(directory_.get(), "warm.tier", O_RDWR);
  if (!file && file.error().os_error == ENOENT) {
    return base::fail(WARM_E_NOT_FOUND, "%s holds no store (no warm.tier), and it is not empty: none is made in it",
                      directory.c_str());
  }
  if (!file) return base::pass(std::move(file));
  auto content = base::open_at(directory_.get(), "content", O_RDONLY | O_DIRECTORY);
  if (!content) return base::pass(std::move(content));
  content_directory_ = std::move(*content);

  auto superblock = read_superblock(file->get());
  if (!superblock) return base::pass(std::move(superblock));
  superblock_ = *superblock;
  auto witness = Witness::of(directory_.get());
  if (!witness) return base::pass(std::move(witness));
  witness_ = *witness;

  auto tier = Tier::open(std::move(*file), superblock_);
  if (!tier) return base::pass(std::move(tier));
  tier_.emplace(std::move(*tier));
  layout::NumbersLine& numbers = tier_->control().numbers;
  const bool io_error_before = numbers.device_recovery != 0;
  const bool from_device = io_error_before || !witness_.page_cache_holds(superblock_);
  recovered_from_device_ = from_device;
  // Readers that still hold the old maps must not believe what is erased now.
  if (from_device) layout::store_seq_cst(tier_->control().generation.generation, 0);
  if (io_error_before) {
    ::posix_fadvise(tier_->fd(), layout::kTierHeaderBytes, 0, POSIX_FADV_DONTNEED);
    std::fprintf(stderr, "<4>store: an I/O error was seen in the last run: the device alone is believed\n");
  }
  if (!from_device) {
    // The superblock is believed durable from here on (D = its C): make it so.
    const auto pages = tier_->mapped(0, 2 * layout::kPageBytes);
    if (auto r = io::run(io_, io::Operation::sync_range(1, tier_->fd(), 0, pages), "sync of the superblock"); !r) {
      return base::pass(std::move(r));
    }
  }
  WARM_FAILPOINT("store.recovery_begun");
  auto recovered = recover(*tier_, superblock_, from_device, content_directory_.get(), segments_, slots_);
  if (!recovered) return base::pass(std::move(recovered));
  index_ = std::move(recovered->index);
  next_sequence_ = recovered->next_sequence;
  decided_ = recovered->decided;
  content_bytes_live_ = recovered->content_bytes_live;
  durable_ = superblock_.checkpoint_sequence;

  auto raise = [](uint64_t& word, uint64_t value) {
    if (word < value) layout::store_release(word, value);
  };
  raise(numbers.next_segment, superblock_.next_segment);
  raise(numbers.next_session, superblock_.next_session);
  raise(numbers.next_channel, superblock_.next_channel);
  segments_.for_each([&](Segment& segment) {
    raise(numbers.next_segment, segment.number + 1);
    content_bytes_total_ += segment.tail - sizeof(layout::SegmentHeader);
    if (segment.live_records == 0 && recovered->damaged == 0) dead_segments_.push_back(segment.number);
    // The one that was active: what lies behind its last record was never named. A damaged record's end is not known.
    if (recovered->damaged == 0) punch_unused(segment);
  });

  checkpoint_.emplace(io_, *tier_, segments_, content_directory_.get());
  // What an earlier life left unsynced is not known: the first checkpoint takes everything.
  for (uint64_t chunk = 0; chunk < tier_->chunks(); ++chunk)
    checkpoint_->mark_dirty(static_cast<uint32_t>(chunk * layout::kSlotsPerChunk));
  if (from_device) {
    layout::store_release(tier_->control().intent.state, 0);
    WARM_FAILPOINT("store.recovery_before_checkpoint");
    begin_checkpoint(false);
    if (auto s = checkpoint_->finish(); !s) return s;
    checkpoint_done();
    if (io_error_before) {
      layout::store_release(numbers.device_recovery, 0);
      const auto page = tier_->mapped(layout::kControlPageOffset, layout::kPageBytes);
      if (auto r = io::run(io_, io::Operation::sync_range(1, tier_->fd(), layout::kControlPageOffset, page),
                           "sync of the control page");
          !r) {
        return base::pass(std::move(r));
      }
    }
  }

  Feed::Size feed_size;
  if (!WARM_RULE("store.feed_is_long")) feed_size = {.entries_log2 = 4, .ids_log2 = 11};  // a test overruns it with few changes
  auto feed = Feed::make(last_sequence(), feed_size);
  if (!feed) return base::pass(std::move(feed));
  feed_.emplace(std::move(*feed));
  auto status_map = StatusMap::make();
  if (!status_map) return base::pass(std::move(status_map));
  status_.emplace(std::move(*status_map));
  const auto number = take_segment_number();
  if (!number) return no_segment_number();
  auto active = make_segment(content_directory_.get(), *number, superblock_.segment_bytes, options_.prepared_content_bytes,
                             superblock_.store_id);
  if (!active) return base::pass(std::move(active));

  Preparer::World world{.tier = &*tier_,
                        .content_directory = content_directory_.get(),
                        .store_id = {},
                        .hash_seed = superblock_.hash_seed,
                        .large_pages = options_.large_pages};
  std::memcpy(world.store_id, superblock_.store_id, sizeof world.store_id);
  auto preparer = Preparer::start(world);
  if (!preparer) return base::pass(std::move(preparer));
  preparer_ = std::move(*preparer);
  events_.reset(::epoll_create1(EPOLL_CLOEXEC));
  if (!events_) return base::fail_errno(errno, "epoll_create1");
  for (int fd : {io_.completion_fd(), preparer_->event_fd()}) {
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.fd = fd;
    if (::epoll_ctl(events_.get(), EPOLL_CTL_ADD, fd, &event) != 0) return base::fail_errno(errno, "epoll_ctl");
  }

  while (generation_ == 0 || generation_ == tier_->control().generation.generation) {
    if (auto s = base::fill_random(&generation_, sizeof generation_); !s) return s;
  }
  layout::StatusPage& page = status();
  page.io_backend = std::strcmp(io_.name(), "io_uring") == 0 ? 1 : 2;
  page.buffers_registered = io_.buffers_registered() ? 1 : 0;
  page.slots_allocated = tier_->slots();
  page.content_bytes_max = options_.content_bytes_max;
  page.sequence = last_sequence();
  page.sequence_durable = durable_;
  page.feed_head = feed_->head();
  page.records = recovered->records;
  page.damaged_records = recovered->damaged;
  {
    std::lock_guard guard(published_.mutex);
    published_.generation = generation_;
    published_.homes_log2 = index_.homes_log2();
    published_.index_fd = index_.fd();
    published_.tier_fd = tier_->fd();
    published_.feed_fd = feed_->fd();
    published_.status_fd = status_->fd();
  }
  adopt_active(std::move(*active));
  refresh_status();
#ifdef WARMTIER_FAILPOINTS
  check_invariants();  // whatever a kill left
#endif
  status_->publish();
  return {};
}

void Store::Impl::open_generation() {
  WARM_FAILPOINT("store.generation_before");
  layout::store_seq_cst(tier_->control().generation.generation, generation_);
  WARM_FAILPOINT("store.generation_after");
}

void Store::Impl::clear_intent() {
  layout::store_release(tier_->control().intent.state, 0);
  decided_.reset();
}

// ---- finding ---------------------------------------------------------------------------------------------------------------

// One private copy of the id: the client may change its own while we read.
void Store::Impl::take_request_id(const Request& request) {
  id_bytes_ = request.header.id_bytes;
  std::memcpy(id_, request.id, id_bytes_);
  hash_ = base::hash64(id_, id_bytes_, superblock_.hash_seed);
  index_.prefetch(hash_);
}

std::optional<Store::Impl::Found> Store::Impl::find(uint64_t hash) const {
  const uint32_t tag = layout::tag_of_hash(hash);
  std::optional<Found> found;
  index_.for_each_of_home(layout::home_of_hash(hash, index_.homes_log2()), [&](const IndexTable::Place& place, uint64_t cell) {
    if (layout::cell_tag(cell) != tag) return false;
    const uint32_t slot = layout::cell_slot(cell);
    const SlotLine& line = tier_->line(slot);
    const layout::Locator at = layout::locator_of(line.locator);
    const Segment* segment = segments_.find(at.segment);
    // A record that cannot be read any more is taken for this id: 26 bits and its home agree, and it must stay replaceable.
    uint64_t bytes = 0;
    if (segment != nullptr && at.offset_bytes + sizeof(RecordHeader) <= segment->bytes) {
      RecordHeader header;
      std::memcpy(&header, segment->at(at.offset_bytes), sizeof header);
      if (header.put == line.put && at.offset_bytes + sizeof header + header.id_bytes <= segment->bytes) {
        if (header.id_bytes != id_bytes_ || std::memcmp(segment->at(at.offset_bytes + sizeof header), id_, id_bytes_) != 0)
          return false;
        bytes = layout::record_bytes(header.id_bytes, header.stored_bytes);
      }
    }
    found = Found{.place = place, .slot = slot, .record_bytes = bytes};
    return true;
  });
  return found;
}

Disposition Store::Impl::refuse(Answer& answer, int32_t code, uint64_t sequence, uint64_t limit) {
  answer = {.status = code, .sequence = sequence, .slot = layout::kNoSlot, .limit = limit};
  layout::count(status().refused);
  return Disposition::refused;
}

// Dead slots that would do are named with those who keep them.
Disposition Store::Impl::refuse_for_slots(Answer& answer) {
  const auto awaited =
      pins_ != nullptr && !pins_->complete() && slots_.waiting() + slots_.held() > 0 ? pins_->awaited() : PinSource::Awaited{};
  const auto held = static_cast<uint32_t>(std::min<size_t>(slots_.held(), UINT32_MAX));
  refuse(answer, WARM_E_FULL, layout::shortage_word(awaited.sessions, held), tier_->geometry().capacity);
  answer.slot = awaited.pid;
  return Disposition::refused;
}

// ---- reserving: nothing may fail after the first store ------------------------------------------------------------------------

// One step of the batch that runs, or of a new one.
void Store::Impl::run_grace() {
  if (!slots_.in_grace()) slots_.begin_grace(*tier_, durable_, *pins_);
  if (slots_.in_grace()) slots_.step_grace(*tier_, durable_, *pins_);
  if (!slots_.in_grace()) held_looked_ns_ = base::monotonic_ns();
}

// Right after a start whose processes are about to hand back the pins that keep slots from being used again.
bool Store::Impl::expected_back(uint64_t now) const {
  return pins_ != nullptr && slots_.waiting() + slots_.held() > 0 && !pins_->complete() && now < pins_->expected_until_ns();
}

Store::Impl::Reservation Store::Impl::no_slot() {
  const uint64_t now = base::monotonic_ns();
  const bool pins_known = pins_ != nullptr && pins_->complete();
  if (!slots_.in_grace() && slots_.held() > 0 && pins_known && now - held_looked_ns_ > kHeldRetryNs) run_grace();
  if (slots_.free() > 0) return Reservation::ok;
  if (slots_.in_grace()) return Reservation::wait;
  if (slots_in_job_ > 0 || chunk_ordered_) return Reservation::wait;
  if (slots_.waiting() > 0 && pins_known && !io_error_) {
    checkpoint_requested_ = true;
    return Reservation::wait;
  }
  if (!can_grow() || (allocation_failed_ns_ != 0 && now - allocation_failed_ns_ < kAllocationRetryNs))
    return expected_back(now) ? Reservation::wait : Reservation::full;
  chunk_ordered_ = true;
  preparer_->order(ChunkJob{tier_->chunks()});
  return Reservation::wait;
}

Store::Impl::Reservation Store::Impl::reserve_room(Room& room) {
  if (active_->bytes - active_->tail >= room.bytes) {
    room.segment = active_;
    room.offset = active_->tail;
    return Reservation::ok;
  }
  if (spare_) {
    seal_active();
    adopt_active(std::move(spare_));
    room.segment = active_;
    room.offset = active_->tail;
    return Reservation::ok;
  }
  const uint64_t now = base::monotonic_ns();
  if (!spare_ordered_ && allocation_failed_ns_ != 0 && now - allocation_failed_ns_ < kAllocationRetryNs) return Reservation::full;
  order_preparations();
  return spare_ordered_ ? Reservation::wait : Reservation::full;  // full: numbers are at their end
}

// Cells for a change of hash_: the ones that exist, or empty ones within reach.
bool Store::Impl::reserve_cells(uint64_t hash, const std::optional<Found>& found, Cells& cells) {
  const uint64_t home = layout::home_of_hash(hash, index_.homes_log2());
  if (found) {
    cells.old_place = found->place;
  } else {
    auto place = index_.find_empty(home);
    if (!place) return false;
    cells.old_place = *place;
  }
  cells.new_place.reset();
  if (doubling_ && (home < doubling_->cursor || (!found && !WARM_RULE("store.ahead_in_old_table_only")))) {
    IndexTable& table = doubling_->table;
    const uint64_t new_home = layout::home_of_hash(hash, table.homes_log2());
    cells.new_place = found ? table.find_slot(new_home, layout::tag_of_hash(hash), found->slot) : table.find_empty(new_home);
    WARM_ASSERT(!found || cells.new_place);  // invariant 2 of the index
    if (!cells.new_place) {
      // The new table's chain is full: that table is discarded and one of twice its size begun.
      table_log2_wanted_ = table.homes_log2() + 1;
      doubling_.reset();
    }
  }
  return true;
}

// ---- changing ----------------------------------------------------------------------------------------------------------------

// `quad` and `last_access_ns`: of an update, the new absolute values.
void Store::Impl::write_intent(layout::IntentKind kind, uint64_t sequence, const Origin& origin, uint32_t old_slot,
                               uint32_t new_slot, const layout::Quad& quad, uint64_t last_access_ns) {
  layout::IntentLine& intent = tier_->control().intent;
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

// Content and id into the reserved room: private until the line names it.
void Store::Impl::fill_record(const Request& request, Room& room) {
  const bool absent = (request.header.given & WARM_GIVEN_CONTENT) == 0;
  if (request.staged != nullptr) {
    room.content_hash = request.staged->content_hash_;
    room.segment = &segments_.add(std::move(request.staged->segment_));
    room.segment->sealed = true;
    room.offset = sizeof(layout::SegmentHeader);
    room.own = true;
  }
  std::byte* at = room.segment->at(room.offset) + sizeof(RecordHeader);
  layout::store_bytes(at, id_, id_bytes_);
  if (request.staged != nullptr) return;
  const uint64_t bytes = request.header.content_bytes;
  if (bytes > 0) layout::store_bytes(at + id_bytes_, request.content, bytes);
  room.content_hash = layout::content_hash(at + id_bytes_, bytes, absent);
}

void Store::Impl::end_record(const Found& found, uint64_t sequence) {
  SlotLine& line = tier_->line(found.slot);
  const layout::Locator at = layout::locator_of(line.locator);
  layout::store_release(line.dead, layout::dead_word(sequence, layout::sequence_of(line.put)));
  WARM_FAILPOINT("store.dead_stored");
  unsettled_.old_slot = found.slot;
  unsettled_.old_segment = at.segment;
  unsettled_.old_bytes = found.record_bytes;
}

void Store::Impl::settle() {
  if (unsettled_.sequence == 0) return;
  const Unsettled done = std::exchange(unsettled_, {});
  if (done.new_slot != layout::kNoSlot) checkpoint_->mark_dirty(done.new_slot);
  if (done.old_slot != layout::kNoSlot) {
    checkpoint_->mark_dirty(done.old_slot);
    slots_.died(done.old_slot, done.sequence);
    if (Segment* segment = segments_.find(done.old_segment); segment != nullptr) {
      segment->last_death = done.sequence;
      segment->live_bytes -= std::min(segment->live_bytes, done.old_bytes);
      content_bytes_live_ -= std::min(content_bytes_live_, done.old_bytes);
      if (segment->live_records > 0 && --segment->live_records == 0 && segment->sealed) dead_segments_.push_back(segment->number);
    }
  }
  fetch_for_next();
}

// The lines that the next put will store to.
void Store::Impl::fetch_for_next() const {
  if (const auto next = slots_.next()) {
    const std::byte* row = tier_->row(*next);
    for (uint32_t i = 0; i < tier_->geometry().row_bytes; i += layout::kCacheLineBytes) layout::prefetch_for_store(row + i);
    layout::prefetch_for_store(&tier_->line(*next));
  }
  if (active_ != nullptr && active_->bytes - active_->tail > kTailFetchBytes) {
    for (uint64_t i = 0; i < kTailFetchBytes; i += layout::kCacheLineBytes)
      layout::prefetch_for_store(active_->at(active_->tail + i));
  }
}

// The slot of the record that the id probably has, its line on the way. Nothing is decided by it.
uint32_t Store::Impl::fetch_line(uint64_t hash) const {
  const uint32_t tag = layout::tag_of_hash(hash);
  uint32_t slot = layout::kNoSlot;
  index_.for_each_of_home(layout::home_of_hash(hash, index_.homes_log2()), [&](const IndexTable::Place&, uint64_t cell) {
    if (layout::cell_tag(cell) != tag) return false;
    slot = layout::cell_slot(cell);
    layout::prefetch_for_store(&tier_->line(slot));
    return true;
  });
  return slot;
}

void Store::Impl::fetch_header(uint32_t slot) const {
  const layout::Locator at = layout::locator_of(layout::load_relaxed(tier_->line(slot).locator));
  const Segment* segment = segments_.find(at.segment);
  if (segment != nullptr && at.offset_bytes < segment->bytes) __builtin_prefetch(segment->at(at.offset_bytes));
}

Disposition Store::Impl::condition_refusal(const layout::RequestHeader& header, uint64_t sequence, Answer& answer) {
  answer = {.status = header.condition == WARM_IF_ABSENT ? WARM_E_EXISTS : WARM_E_CHANGED, .sequence = sequence};
  return Disposition::refused;
}

Disposition Store::Impl::put(const Request& asked, const Origin& origin, Answer& answer) {
  const layout::RequestHeader& header = asked.header;
  if (doubling_) advance_doubling(kDoublingHomesPerPut);
  if (next_sequence_ >= layout::kSequenceMax) return refuse(answer, WARM_E_LIMIT, 0, layout::kSequenceMax);
  // Behind the embedding: not under way yet.
  const uint64_t fetched_bytes = asked.content == nullptr ? 0 : std::min(header.content_bytes, kContentFetchBytes);
  for (uint64_t i = 0; i < fetched_bytes; i += layout::kCacheLineBytes) __builtin_prefetch(asked.content + i);
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
  SlotLine& line = tier_->line(slot);
  std::byte* row = tier_->row(slot);
  const size_t value_bytes = size_t{header.dimensions} * 4;
  const bool finite = layout::copy_finite(row, asked.embedding, value_bytes);
  layout::store_zeros(row + value_bytes, tier_->geometry().row_bytes - value_bytes);
  auto back = [&](Disposition disposition) {
    slots_.give_back(slot);
    return disposition;
  };

  // The record that the id has now is found through bucket, line and header, each by the one before. They are fetched while bytes
  // are copied and summed that nobody can reach yet, whatever is found then.
  const uint32_t likely = fetch_line(hash_);
  Request request = asked;
  const uint64_t record_bytes = layout::record_bytes(id_bytes_, header.content_bytes);
  Room room{.bytes = record_bytes};
  const bool in_segment = request.staged == nullptr && record_bytes <= superblock_.segment_bytes - sizeof(layout::SegmentHeader);
  const Reservation reserved = in_segment ? reserve_room(room) : Reservation::ok;
  if (in_segment && reserved == Reservation::ok) fill_record(request, room);
  if (likely != layout::kNoSlot) fetch_header(likely);
  uint32_t checksum = in_segment ? layout::payload_checksum(row, header.dimensions, room.content_hash) : 0;
  const std::optional<Found> found = find(hash_);

  if (!finite) return back(refuse(answer, WARM_E_INVALID, 0, 0));
  const uint64_t old_sequence = found ? layout::sequence_of(tier_->line(found->slot).put) : 0;
  if ((header.condition == WARM_IF_ABSENT && found) ||
      (header.condition == WARM_IF_SEQUENCE && (!found || old_sequence != header.if_sequence))) {
    layout::count(status().refused);
    return back(condition_refusal(header, old_sequence, answer));
  }

  const bool absent = (header.given & WARM_GIVEN_CONTENT) == 0;
  StagedContent own;
  if (!in_segment && request.staged == nullptr) {
    // Segments may be configured smaller than what a lane carries.
    auto made = stage(id_bytes_, header.content_bytes, [&](std::byte* to, uint64_t offset, uint64_t bytes) -> base::Status {
      layout::store_bytes(to, request.content + offset, bytes);
      return {};
    });
    if (!made) return back(refuse(answer, made.error().code, 0, superblock_.segment_bytes));
    own = std::move(*made);
    request.staged = &own;
  }
  switch (reserved) {
    case Reservation::ok: break;
    case Reservation::wait: return back(Disposition::wait);
    case Reservation::full:
      return back(
          refuse(answer, allocation_failed_ns_ != 0 ? allocation_failed_code_ : WARM_E_FULL, 0, superblock_.segment_bytes));
  }
  Cells cells;
  while (!reserve_cells(hash_, found, cells)) {
    if (auto s = finish_doubling_now(); !s) return back(refuse(answer, s.error().code, 0, layout::kIndexHomesLog2Max));
  }
  if (!in_segment) {
    fill_record(request, room);
    checksum = layout::payload_checksum(row, header.dimensions, room.content_hash);
  }

  // Reserved. Nothing fails from here on.
  const uint64_t sequence = next_sequence_++;
  const uint64_t put_word = layout::put_word(sequence, slot);
  const uint64_t now = base::wall_ns();
  const uint64_t created = (header.given & WARM_GIVEN_CREATED) != 0 ? header.created_ns
                           : found                                  ? layout::load_relaxed(tier_->line(found->slot).created_ns)
                                                                    : now;
  write_intent(found ? layout::IntentKind::replace : layout::IntentKind::put, sequence, origin,
               found ? found->slot : layout::kNoSlot, slot);

  RecordHeader record{};
  record.put = put_word;
  record.hash = hash_;
  record.created_ns = created;
  record.content_checksum = static_cast<uint32_t>(room.content_hash);
  record.stored_bytes = static_cast<uint32_t>(header.content_bytes);
  record.id_bytes = static_cast<uint16_t>(id_bytes_);
  record.codec = layout::kCodecRaw;
  record.flags = absent ? layout::kRecordContentAbsent : 0;
  record.header_checksum = layout::record_header_checksum(record, id_, record.stored_bytes, checksum);
  layout::store_bytes(room.segment->at(room.offset), &record, sizeof record);
  if (room.own) publish_segments();  // before a locator names it
  room.segment->tail = room.offset + room.bytes;
  ++room.segment->live_records;
  room.segment->live_bytes += room.bytes;
  content_bytes_live_ += room.bytes;
  content_bytes_total_ += room.bytes;
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
    layout::store_release(tier_->line(found->slot).dead, layout::dead_word(sequence, old_sequence));
    WARM_STEP("store.dead_stored_early");
  }
  const uint32_t tag = layout::tag_of_hash(hash_);
  if (cells.new_place && !WARM_RULE("store.change_both_tables")) cells.new_place.reset();
  // The old table is the one that readers look at as long as the generation stands.
  const bool old_too = !cells.new_place || WARM_RULE("store.old_table_until_generation");
  if (found) {
    if (cells.new_place) doubling_->table.replace(*cells.new_place, slot, tag);
    WARM_FAILPOINT("store.new_cell_stored");
    if (!WARM_RULE("store.id_keeps_its_cell")) {
      index_.insert(*index_.find_empty(layout::home_of_hash(hash_, index_.homes_log2())), slot, tag);
      index_.remove(cells.old_place);
    } else if (old_too) {
      index_.replace(cells.old_place, slot, tag);
    }
  } else {
    if (cells.new_place) doubling_->table.insert(*cells.new_place, slot, tag);
    WARM_FAILPOINT("store.new_cell_inserted");
    if (old_too) index_.insert(cells.old_place, slot, tag);
  }
  WARM_FAILPOINT("store.cell_stored");
  const bool feed_first = WARM_RULE("store.feed_before_death");
  if (feed_first) feed_->append(sequence, found ? layout::ChangeKind::replace : layout::ChangeKind::put, slot, id_, id_bytes_);
  WARM_FAILPOINT("store.feed_stored");
  if (found) end_record(*found, sequence);
  if (!feed_first) feed_->append(sequence, found ? layout::ChangeKind::replace : layout::ChangeKind::put, slot, id_, id_bytes_);
  answer = {.status = WARM_OK, .sequence = sequence, .slot = slot, .limit = 0};

  layout::StatusPage& page = status();
  layout::store_relaxed(page.feed_head, feed_->head());
  layout::store_release(page.sequence, sequence);
  layout::count(page.puts);
  if (!found) layout::count(page.records);
  changed_ = true;
  unsettled_.sequence = sequence;
  unsettled_.new_slot = slot;
  return Disposition::effect;
}

Disposition Store::Impl::remove(const Request& request, const Origin& origin, Answer& answer) {
  const layout::RequestHeader& header = request.header;
  if (doubling_) advance_doubling(kDoublingHomesPerPut);
  if (next_sequence_ >= layout::kSequenceMax) return refuse(answer, WARM_E_LIMIT, 0, layout::kSequenceMax);
  take_request_id(request);
  const std::optional<Found> found = find(hash_);
  if (!found) return refuse(answer, header.condition == WARM_IF_SEQUENCE ? WARM_E_CHANGED : WARM_E_NOT_FOUND, 0, 0);
  const uint64_t old_sequence = layout::sequence_of(tier_->line(found->slot).put);
  if (header.condition == WARM_IF_SEQUENCE && old_sequence != header.if_sequence) {
    layout::count(status().refused);
    return condition_refusal(header, old_sequence, answer);
  }
  const uint64_t sequence = remove_found(*found, origin);
  answer = {.status = WARM_OK, .sequence = sequence, .slot = found->slot, .limit = 0};
  return Disposition::effect;
}

// Of the record whose id and hash are those in progress.
uint64_t Store::Impl::remove_found(const Found& found, const Origin& origin) {
  Cells cells;
  WARM_ASSERT(reserve_cells(hash_, found, cells));  // they exist
  const uint64_t sequence = next_sequence_++;
  write_intent(layout::IntentKind::remove, sequence, origin, found.slot, layout::kNoSlot);
  if (cells.new_place && WARM_RULE("store.remove_from_both_tables")) doubling_->table.remove(*cells.new_place);
  WARM_FAILPOINT("store.new_cell_removed");
  index_.remove(cells.old_place);
  WARM_FAILPOINT("store.cell_removed");
  const bool feed_first = WARM_RULE("store.feed_before_death");
  if (feed_first) feed_->append(sequence, layout::ChangeKind::remove, found.slot, id_, id_bytes_);
  WARM_FAILPOINT("store.remove_feed_stored");
  end_record(found, sequence);
  if (!feed_first) feed_->append(sequence, layout::ChangeKind::remove, found.slot, id_, id_bytes_);
  layout::StatusPage& page = status();
  layout::store_relaxed(page.feed_head, feed_->head());
  layout::store_release(page.sequence, sequence);
  layout::count(page.removes);
  layout::store_relaxed(page.records, page.records - 1);
  changed_ = true;
  unsettled_.sequence = sequence;
  return sequence;
}

// In place. The line's own sequence stays: what names this one is the intent, then the line of numbers.
Disposition Store::Impl::update(const Request& request, const Origin& origin, Answer& answer) {
  const layout::RequestHeader& header = request.header;
  if (doubling_) advance_doubling(kDoublingHomesPerPut);
  if (next_sequence_ >= layout::kSequenceMax) return refuse(answer, WARM_E_LIMIT, 0, layout::kSequenceMax);
  take_request_id(request);
  const std::optional<Found> found = find(hash_);
  if (!found) return refuse(answer, header.condition == WARM_IF_SEQUENCE ? WARM_E_CHANGED : WARM_E_NOT_FOUND, 0, 0);
  SlotLine& line = tier_->line(found->slot);
  const uint64_t put_sequence = layout::sequence_of(line.put);
  if (header.condition == WARM_IF_SEQUENCE && put_sequence != header.if_sequence) {
    layout::count(status().refused);
    return condition_refusal(header, put_sequence, answer);
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
  layout::store_release(tier_->control().numbers.last_update, sequence);
  WARM_FAILPOINT("store.update_numbered");
  feed_->append(sequence, layout::ChangeKind::update, found->slot, id_, id_bytes_);
  answer = {.status = WARM_OK, .sequence = sequence, .slot = found->slot, .limit = 0};
  layout::StatusPage& page = status();
  layout::store_relaxed(page.feed_head, feed_->head());
  layout::store_release(page.sequence, sequence);
  layout::count(page.updates);
  changed_ = true;
  unsettled_.sequence = sequence;
  unsettled_.new_slot = found->slot;
  return Disposition::effect;
}

// Hostile: slot and sequence are what a client says.
bool Store::Impl::touch(uint32_t slot, uint64_t put_sequence) {
  if (slot >= tier_->slots()) return false;
  SlotLine& line = tier_->line(slot);
  if (!layout::live(line.put, line.dead) || layout::sequence_of(line.put) != put_sequence) return false;
  layout::Quad quad = layout::load_quad(line.quad);
  if (quad.recall_count < UINT32_MAX) ++quad.recall_count;
  layout::store_quad(line.quad, quad);
  const uint64_t now = base::wall_ns();
  if (now > layout::load_relaxed(line.last_access_ns)) layout::store_relaxed(line.last_access_ns, now);
  layout::count(status().touches);
  checkpoint_->mark_dirty(slot);
  touched_ = changed_ = true;
  return true;
}

// ---- clearing
// ------------------------------------------------------------------------------------------------------------------

// Begins, or looks whether step() has come to the end. One that nobody comes back to, because its lane is gone, gives way.
Disposition Store::Impl::clear(const Origin& origin, Answer& answer) {
  const bool running = clear_ && clear_->next < clear_->end;
  if (clear_ && !running && clear_->origin == origin) {
    answer = {.status = WARM_OK, .sequence = last_sequence(), .slot = layout::kNoSlot, .limit = clear_->removed};
    clear_.reset();
    return Disposition::effect;
  }
  if (!running) clear_ = Clear{.origin = origin, .next = 0, .end = tier_->slots(), .removed = 0};
  return Disposition::wait;
}

// The id of what lies in a slot becomes the one in progress. False: it cannot be read.
bool Store::Impl::take_id_of(uint32_t slot) {
  const SlotLine& line = tier_->line(slot);
  const layout::Locator at = layout::locator_of(line.locator);
  const Segment* segment = segments_.find(at.segment);
  if (segment == nullptr || at.offset_bytes + sizeof(RecordHeader) > segment->bytes) return false;
  RecordHeader header;
  std::memcpy(&header, segment->at(at.offset_bytes), sizeof header);
  if (header.put != line.put || header.id_bytes < 1 || header.id_bytes > layout::kIdBytesMax ||
      at.offset_bytes + sizeof header + header.id_bytes > segment->bytes) {
    return false;
  }
  id_bytes_ = header.id_bytes;
  std::memcpy(id_, segment->at(at.offset_bytes + sizeof header), id_bytes_);
  hash_ = base::hash64(id_, id_bytes_, superblock_.hash_seed);
  return true;
}

// A bounded step. Each removal is one like any other, only that nobody asked for it by its id: killed in between, the next daemon
// finds the request in its lane and begins anew.
void Store::Impl::advance_clear() {
  constexpr uint32_t kSlotsPerStep = 64;
  Origin nobody;
  nobody.lane = layout::kIntentLaneNone;
  for (uint32_t i = 0; i < kSlotsPerStep && clear_->next < clear_->end; ++i) {
    const auto slot = static_cast<uint32_t>(clear_->next++);
    const SlotLine& line = tier_->line(slot);
    if (!layout::live(line.put, line.dead) || !take_id_of(slot) || next_sequence_ >= layout::kSequenceMax) continue;
    if (doubling_) advance_doubling(kDoublingHomesPerPut);
    const std::optional<Found> found = find(hash_);
    if (!found || found->slot != slot) continue;  // damage that recovery left alone
    remove_found(*found, nobody);
    settle();
    ++clear_->removed;
    WARM_FAILPOINT("store.clear_removed");
  }
}

// ---- segments
// ------------------------------------------------------------------------------------------------------------------

void Store::Impl::publish_segments() {
  uint64_t epoch = 0;
  {
    std::lock_guard guard(published_.mutex);
    published_.segments.clear();
    segments_.for_each(
        [&](Segment& segment) { published_.segments.push_back({.number = segment.number, .fd = segment.fd.get()}); });
    epoch = ++published_.segment_epoch;
  }
  layout::store_release(status().segment_epoch, epoch);
  layout::store_relaxed(status().segments, segments_.size());
}

void Store::Impl::seal_active() {
  if (active_ == nullptr) return;
  active_->sealed = true;
  punch_unused(*active_);
  if (active_->live_records == 0) dead_segments_.push_back(active_->number);
  active_ = nullptr;
  tail_ordered_ = false;
}

void Store::Impl::adopt_active(std::unique_ptr<Segment> segment) {
  active_ = &segments_.add(std::move(segment));
  publish_segments();
}

// Law 2: what it held is dead, durably so, and what replaced it is durable.
void Store::Impl::unlink_dead_segments() {
  bool any = false;
  std::erase_if(dead_segments_, [&](uint64_t number) {
    Segment* segment = segments_.find(number);
    if (segment == nullptr) return true;
    if (segment->live_records > 0 || segment->last_death > durable_) return false;
    WARM_FAILPOINT("store.unlink_before");
    ::unlinkat(content_directory_.get(), segment_name(number).c_str(), 0);
    WARM_FAILPOINT("store.unlink_after");
    {
      std::lock_guard guard(published_.mutex);
      std::erase_if(published_.segments, [&](const PublishedSegment& s) { return s.number == number; });
    }
    content_bytes_total_ -= segment->tail - sizeof(layout::SegmentHeader);
    segments_.remove(number);
    any = true;
    return true;
  });
  if (any) publish_segments();
}

base::Result<StagedContent> Store::Impl::stage(uint32_t id_bytes, uint64_t content_bytes,
                                               const std::function<base::Status(std::byte*, uint64_t, uint64_t)>& read) {
  const auto number = take_segment_number();
  if (!number) return no_segment_number();
  const uint64_t bytes =
      base::round_up<uint64_t>(sizeof(layout::SegmentHeader) + layout::record_bytes(id_bytes, content_bytes), layout::kPageBytes);
  auto segment = make_segment(content_directory_.get(), *number, bytes, layout::kPageBytes, superblock_.store_id,
                              kDescriptorsLeftBySegments);
  if (!segment) return base::pass(std::move(segment));
  StagedContent staged;
  staged.content_directory_ = content_directory_.get();
  staged.segment_ = std::move(*segment);
  staged.content_offset_ = sizeof(layout::SegmentHeader) + sizeof(RecordHeader) + id_bytes;
  staged.content_bytes_ = content_bytes;
  std::byte* at = staged.segment_->at(staged.content_offset_);
  if (auto s = read(at, 0, content_bytes); !s) return base::pass(std::move(s));
  staged.content_hash_ = layout::content_hash(at, content_bytes, false);
  return staged;
}

// ---- index
// ---------------------------------------------------------------------------------------------------------------------

void Store::Impl::begin_doubling() {
  doubling_.emplace(Doubling{.table = std::move(*next_table_), .cursor = 0});
  next_table_.reset();
}

// True when it ended, one way or the other.
bool Store::Impl::advance_doubling(uint32_t homes) {
  Doubling& d = *doubling_;
  for (uint32_t i = 0; i < homes && d.cursor < index_.homes(); ++i) {
    if (!index_.copy_home_to(d.cursor, d.table)) {
      table_log2_wanted_ = d.table.homes_log2() + 1;
      doubling_.reset();
      return true;
    }
    ++d.cursor;
    WARM_FAILPOINT("store.home_copied");
  }
  if (d.cursor < index_.homes() && WARM_RULE("store.all_homes_copied_first")) return false;
  complete_doubling();
  return true;
}

// Between operations. The descriptor is on its way to every session before the generation says that it is needed, and only
// then may an operation skip the old table, which is never written again.
void Store::Impl::complete_doubling() {
  uint64_t generation = generation_;
  while (generation == generation_ || generation == 0) {
    if (!base::fill_random(&generation, sizeof generation)) generation = generation_ + 1;
  }
  {
    std::lock_guard guard(published_.mutex);
    published_.generation = generation;
    published_.homes_log2 = doubling_->table.homes_log2();
    published_.index_fd = doubling_->table.fd();
  }
  if (publish_index_) publish_index_(doubling_->table.fd(), doubling_->table.homes_log2(), generation);
  WARM_FAILPOINT("store.index_published");
  layout::store_seq_cst(tier_->control().generation.generation, generation);
  WARM_FAILPOINT("store.index_generation_stored");
  generation_ = generation;
  index_ = std::move(doubling_->table);
  doubling_.reset();
  table_log2_wanted_ = 0;
  layout::count(status().index_doublings);
}

// A put that finds no cell within reach: the doubling is finished first. Rare.
base::Status Store::Impl::finish_doubling_now() {
  uint32_t log2 = std::max(table_log2_wanted_, index_.homes_log2() + 1);
  for (;;) {
    if (!doubling_) {
      if (log2 > layout::kIndexHomesLog2Max) {
        return base::fail(WARM_E_LIMIT, "the index has 2^%u homes at most", layout::kIndexHomesLog2Max);
      }
      auto table = IndexTable::make(log2, superblock_.hash_seed);
      if (!table) return base::pass(std::move(table));
      if (auto s = table->publish(); !s) return s;
      next_table_ = std::move(*table);
      begin_doubling();
    }
    const uint32_t before = index_.homes_log2();
    advance_doubling(static_cast<uint32_t>(index_.homes()));
    if (index_.homes_log2() != before) return {};
    log2 = table_log2_wanted_;
  }
}

// ---- background
// ------------------------------------------------------------------------------------------------------------------

// True when something came: a request that waited may go on.
bool Store::Impl::take_prepared() {
  Prepared prepared;
  bool any = false;
  while (preparer_->take(prepared)) {
    any = changed_ = true;
    if (!prepared.status) {
      const bool first = std::holds_alternative<TableJob>(prepared.job) ? table_failed_ns_ == 0 : allocation_failed_ns_ == 0;
      if (first) std::fprintf(stderr, "<3>store: cannot prepare space: %s\n", prepared.status.error().text.c_str());
      if (std::holds_alternative<TableJob>(prepared.job)) {
        table_failed_ns_ = base::monotonic_ns();  // no reason to refuse a put
      } else if (!std::holds_alternative<TailJob>(prepared.job)) {
        allocation_failed_ns_ = base::monotonic_ns();
        allocation_failed_code_ = prepared.status.error().code;
      }
    } else if (std::holds_alternative<ChunkJob>(prepared.job) || std::holds_alternative<SegmentJob>(prepared.job)) {
      allocation_failed_ns_ = 0;
    } else if (std::holds_alternative<TableJob>(prepared.job)) {
      table_failed_ns_ = 0;
    }
    if (auto* chunk = std::get_if<ChunkJob>(&prepared.job)) {
      chunk_ordered_ = false;
      if (!prepared.status) continue;
      const uint64_t first = chunk->chunk * layout::kSlotsPerChunk;
      tier_->set_chunks(chunk->chunk + 1);
      layout::store_release(status().slots_allocated, tier_->slots());
      for (uint64_t slot = first; slot < tier_->slots(); ++slot) slots_.add_prepared(static_cast<uint32_t>(slot));
    } else if (auto* job = std::get_if<SlotsJob>(&prepared.job)) {
      slots_in_job_ -= job->slots.size();
      for (uint32_t slot : job->slots) slots_.add_prepared(slot);
    } else if (std::holds_alternative<SegmentJob>(prepared.job)) {
      spare_ordered_ = false;
      if (prepared.status) spare_ = std::move(prepared.segment);
    } else if (auto* tail = std::get_if<TailJob>(&prepared.job)) {
      if (active_ != nullptr && tail->number == active_->number) {
        tail_ordered_ = false;
        active_->populated += tail->bytes;
      }
    } else if (std::holds_alternative<TableJob>(prepared.job)) {
      table_ordered_ = false;
      // A put that found no cell may have doubled the index meanwhile.
      if (prepared.status && prepared.table->homes_log2() >= std::max(table_log2_wanted_, index_.homes_log2() + 1)) {
        next_table_ = std::move(prepared.table);
      }
    }
  }
  return any;
}

void Store::Impl::order_preparations() {
  const bool may_allocate = allocation_failed_ns_ == 0 || base::monotonic_ns() - allocation_failed_ns_ > kAllocationRetryNs;
  if (may_allocate && !chunk_ordered_ && can_grow() && slack() < options_.prepared_slots) {
    chunk_ordered_ = true;
    preparer_->order(ChunkJob{tier_->chunks()});
  }
  if (slots_in_job_ == 0 && slots_.unprepared() > 0 && slots_.prepared() < options_.prepared_slots) {
    SlotsJob job{slots_.take_unprepared(kSlotsPerJob)};
    slots_in_job_ = job.slots.size();
    preparer_->order(std::move(job));
  }
  if (may_allocate && !spare_ && !spare_ordered_) {
    if (const auto number = take_segment_number()) {
      spare_ordered_ = true;
      preparer_->order(
          SegmentJob{.number = *number, .bytes = superblock_.segment_bytes, .populate_bytes = options_.prepared_content_bytes});
    }
  }
  if (!tail_ordered_ && active_ != nullptr && active_->populated < active_->bytes &&
      active_->tail + options_.prepared_content_bytes > active_->populated) {
    const uint64_t from = std::max(active_->populated, active_->tail);
    active_->populated = from;
    tail_ordered_ = true;
    preparer_->order(
        TailJob{.number = active_->number, .from = active_->at(from), .bytes = std::min(kTailJobBytes, active_->bytes - from)});
  }
  if (!doubling_) {
    const uint64_t cells = index_.cells();
    const bool early = !WARM_RULE("store.doubling_waits_for_load");  // a test of doubling needs no 25,000 records
    const bool may_try = table_failed_ns_ == 0 || base::monotonic_ns() - table_failed_ns_ > kAllocationRetryNs;
    if (may_try && !next_table_ && !table_ordered_ && index_.homes_log2() < layout::kIndexHomesLog2Max &&
        (early || index_.used() * 4 >= cells * 3)) {
      table_ordered_ = true;
      preparer_->order(TableJob{std::max(table_log2_wanted_, index_.homes_log2() + 1)});
    }
    if (next_table_ && (early || index_.used() * layout::kIndexLoadDenominator >= cells * layout::kIndexLoadNumerator))
      begin_doubling();
  }
}

void Store::Impl::begin_checkpoint(bool clean) {
  checkpoint_requested_ = false;
  touched_ = false;
  dirty_since_ns_ = 0;
  layout::Superblock next = superblock_;
  const layout::NumbersLine& numbers = tier_->control().numbers;
  next.epoch = superblock_.epoch + 1;
  next.checkpoint_sequence = checkpoint_sequence_ = last_sequence();
  next.chunks_allocated = tier_->chunks();
  next.next_segment = numbers.next_segment;
  next.next_session = numbers.next_session;
  next.next_channel = numbers.next_channel;
  next.clean_stop = clean ? 1 : 0;
  witness_.write_to(next);
  checkpoint_->begin(next);
}

void Store::Impl::checkpoint_done() {
  superblock_ = checkpoint_->written();
  durable_ = checkpoint_sequence_;
  if (!status_) return;
  layout::store_release(status().sequence_durable, durable_);
  layout::count(status().checkpoints);
  // The sync has cleaned pages that puts will write: the next store to each would meet a fault of several microseconds.
  for (const Checkpoint::Chunks& chunks : checkpoint_->synced_chunks()) preparer_->order(LinesJob{chunks.first, chunks.end});
  slots_.unprepare_all();
  unlink_dead_segments();
  changed_ = true;
}

bool Store::Impl::step() {
  settle();
  bool more = take_prepared();
  if (checkpoint_->running()) {
    if (checkpoint_->step()) {
      checkpoint_done();
      more = true;
    }
    if (checkpoint_->error() && !io_error_) {
      io_error_ = checkpoint_->error();
      layout::store_release(status().durability_stopped, 1);
      std::fprintf(stderr, "<2>store: %s; durability stops here, reads go on; the next start reads the device\n",
                   io_error_->text.c_str());
    }
  }
  if (doubling_) {
    advance_doubling(kDoublingHomesPerStep);
    more = true;
  }
  // At its end too: the request that waits for it is served again.
  if (clear_ && clear_->next < clear_->end) {
    advance_clear();
    more = true;
  }
  if (pins_ != nullptr && (slots_.in_grace() || (slots_.ripe(durable_) && pins_->complete()))) {
    run_grace();
    more = changed_ = true;
  }
  if (!changed_) return more;
  // Everything below follows from a change; looked at now and then, and before a sleep.
  if (++steps_ % kStepsPerClockLook != 0 && slots_.free() > 0 && !checkpoint_requested_) return more;
  order_preparations();
  refresh_status();
  const bool dirty = last_sequence() > durable_ || touched_ || !dead_segments_.empty();
  if (!io_error_ && !checkpoint_->running()) {
    // More deaths that a checkpoint would free: not those that wait for pins.
    const bool short_of_slots =
        slots_.free() < options_.prepared_slots / 2 && slots_.waiting() > options_.prepared_slots / 4 && !slots_.ripe(durable_);
    if (checkpoint_requested_ || (dirty && short_of_slots)) {
      begin_checkpoint(false);
    } else if (dirty) {
      const uint64_t now = base::monotonic_ns();
      if (dirty_since_ns_ == 0) dirty_since_ns_ = now;
      if (now - dirty_since_ns_ >= options_.checkpoint_interval_ns) begin_checkpoint(false);
    } else {
      changed_ = false;
    }
  }
  return more;
}

uint64_t Store::Impl::wake_at_ns() {
  io_.clear_completion_fd();
  preparer_->clear_event();
  steps_ = kStepsPerClockLook - 1;  // the next step looks at everything
  if (step()) return 0;
  uint64_t at_ns = UINT64_MAX;
  if (dirty_since_ns_ != 0 && !checkpoint_->running() && !io_error_) at_ns = dirty_since_ns_ + options_.checkpoint_interval_ns;
  if (expected_back(base::monotonic_ns())) at_ns = std::min(at_ns, pins_->expected_until_ns());
  return at_ns;
}

void Store::Impl::refresh_status() {
  layout::StatusPage& page = status();
  layout::store_relaxed(page.slots_free, slots_.free() + slots_in_job_);
  layout::store_relaxed(page.slots_prepared, slots_.prepared());
  layout::store_relaxed(page.slots_waiting, slots_.waiting());
  layout::store_relaxed(page.slots_held, slots_.held());
  layout::store_relaxed(page.content_bytes_live, content_bytes_live_);
  layout::store_relaxed(page.content_bytes_total, content_bytes_total_);
}

void Store::Impl::check_invariants() {
  settle();
  store::check_invariants({.tier = *tier_,
                           .segments = segments_,
                           .slots = slots_,
                           .index = index_,
                           .larger = doubling_ ? &doubling_->table : nullptr,
                           .cursor = doubling_ ? doubling_->cursor : 0,
                           .records = status().records,
                           .damaged = status().damaged_records});
}

base::Status Store::Impl::close_cleanly() {
  settle();
  layout::store_relaxed(status().stopping, 1);
  WARM_FAILPOINT("store.stop_begun");
  layout::store_release(tier_->control().intent.state, 0);  // nothing is in flight
  if (checkpoint_->running()) {
    if (auto s = checkpoint_->finish(); !s) return s;
    checkpoint_done();
  }
  if (io_error_) return std::unexpected(*io_error_);
  seal_active();
  WARM_FAILPOINT("store.stop_sealed");
  begin_checkpoint(true);
  if (auto s = checkpoint_->finish(); !s) return s;
  checkpoint_done();
  return {};
}

// ---- facade
// ----------------------------------------------------------------------------------------------------------------------

Store::Store(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Store::~Store() {
  if (impl_->spare_) ::unlinkat(impl_->content_directory_.get(), segment_name(impl_->spare_->number).c_str(), 0);
}

base::Result<std::unique_ptr<Store>> Store::open(const std::string& directory, const Options& options, io::Io& io) {
  auto impl = std::make_unique<Impl>(options, io);
  if (auto s = impl->open(directory); !s) return base::pass(std::move(s));
  return std::unique_ptr<Store>(new Store(std::move(impl)));
}

void Store::open_generation() { impl_->open_generation(); }
const std::optional<Decided>& Store::decided() const { return impl_->decided_; }
void Store::clear_intent() { impl_->clear_intent(); }
void Store::set_pin_source(PinSource* pins) { impl_->pins_ = pins; }
void Store::set_index_publisher(std::function<void(int, uint32_t, uint64_t)> publish) {
  impl_->publish_index_ = std::move(publish);
}

Disposition Store::execute(const Request& request, const Origin& origin, Answer& ret_answer) {
  impl_->settle();
  const layout::RequestHeader& header = request.header;
  Disposition done{};
  switch (static_cast<layout::Operation>(header.operation)) {
    case layout::Operation::put:
      WARM_PROBE(put_begin, request.id, header.id_bytes, header.given, header.content_bytes);
      done = impl_->put(request, origin, ret_answer);
      WARM_PROBE(put_end, request.id, header.id_bytes, header.given, header.content_bytes, ret_answer.status, done);
      break;
    case layout::Operation::remove:
      WARM_PROBE(remove_begin, request.id, header.id_bytes);
      done = impl_->remove(request, origin, ret_answer);
      WARM_PROBE(remove_end, request.id, header.id_bytes, ret_answer.status, done);
      break;
    case layout::Operation::update: done = impl_->update(request, origin, ret_answer); break;
    case layout::Operation::clear: done = impl_->clear(origin, ret_answer); break;
  }
  return done;
}

void Store::settle() { impl_->settle(); }
void Store::check_invariants() { impl_->check_invariants(); }
bool Store::touch(uint32_t slot, uint64_t put_sequence) { return impl_->touch(slot, put_sequence); }

bool Store::step() { return impl_->step(); }
uint64_t Store::wake_at_ns() { return impl_->wake_at_ns(); }
bool Store::recovered_from_device() const { return impl_->recovered_from_device_; }
int Store::event_fd() const { return impl_->events_.get(); }
void Store::request_checkpoint() {
  impl_->checkpoint_requested_ = true;
  impl_->changed_ = true;
}
base::Status Store::close_cleanly() { return impl_->close_cleanly(); }

base::Result<StagedContent> Store::stage(uint32_t id_bytes, uint64_t content_bytes,
                                         const std::function<base::Status(std::byte*, uint64_t, uint64_t)>& read) {
  return impl_->stage(id_bytes, content_bytes, read);
}

uint64_t Store::view_bytes(uint32_t slot) const noexcept {
  if (slot >= layout::load_acquire(impl_->status().slots_allocated)) return 0;
  return impl_->tier_->geometry().row_bytes + uint64_t{layout::load_relaxed(impl_->tier_->line(slot).content_bytes)};
}
uint64_t Store::take_session_number() { return impl_->take_number(impl_->tier_->control().numbers.next_session); }
uint64_t Store::take_channel_number() { return impl_->take_number(impl_->tier_->control().numbers.next_channel); }
Published& Store::published() { return impl_->published_; }
layout::StatusPage& Store::status() { return impl_->status(); }
const layout::Geometry& Store::geometry() const { return impl_->tier_->geometry(); }
const uint8_t (&Store::store_id() const)[16] { return impl_->superblock_.store_id; }
uint64_t Store::hash_seed() const { return impl_->superblock_.hash_seed; }
const uint8_t (&Store::boot_id() const)[16] { return impl_->witness_.boot_id; }
int Store::directory_fd() const { return impl_->directory_.get(); }
const Options& Store::options() const { return impl_->options_; }
uint64_t Store::segment_bytes() const { return impl_->superblock_.segment_bytes; }
uint64_t Store::own_segment_above_bytes() const { return impl_->superblock_.segment_bytes / 4; }
const std::optional<base::Error>& Store::io_error() const { return impl_->io_error_; }

}  // namespace warmtier::daemon::store
