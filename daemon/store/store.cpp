#include "daemon/store/store.hpp"

#include <fcntl.h>
#include <sys/epoll.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <utility>

#include "base/clock.hpp"
#include "base/failpoint.hpp"
#include "daemon/store/content.hpp"
#include "daemon/store/durability.hpp"
#include "daemon/store/growing_index.hpp"
#include "daemon/store/invariants.hpp"
#include "daemon/store/mutator.hpp"
#include "daemon/store/preparer.hpp"
#include "daemon/store/reclaim.hpp"
#include "daemon/store/recovery.hpp"
#include "daemon/store/shared_pages.hpp"
#include "daemon/store/slots.hpp"
#include "daemon/store/supply.hpp"
#include "daemon/store/tier.hpp"
#include "daemon/store/witness.hpp"

namespace warmtier::daemon::store {
namespace {

constexpr uint32_t kDoublingHomesPerStep = 64;
constexpr uint32_t kStepsPerClockLook = 64;

void raise(uint64_t& word, uint64_t value) {
  if (word < value) layout::store_release(word, value);
}

base::Status sync_page(io::Io& io, const Tier& tier, uint64_t offset, uint64_t bytes, const char* what) {
  if (auto r = io::run(io, io::Operation::sync_range(1, tier.fd(), offset, tier.mapped(offset, bytes)), what); !r) {
    return base::pass(std::move(r));
  }
  return {};
}

}  // namespace

// Puts the parts together at a start, gives each its share of background work, and takes them apart. Members stand in the order
// in which they are made: each uses only those above it.
class Store::Impl {
 public:
  Impl(const Options& options, io::Io& io) : options_(options), io_(io) {}

  base::Status open(const std::string& directory);
  void clear_intent();
  void check_invariants();
  bool step();
  uint64_t wake_at_ns();
  base::Status close_cleanly();
  uint64_t take_number(uint64_t& word) { return __atomic_fetch_add(&word, 1, __ATOMIC_ACQ_REL); }
  [[nodiscard]] layout::StatusPage& status() const { return status_->page(); }

  const Options options_;
  io::Io& io_;
  base::Fd directory_;
  Witness witness_;
  layout::Superblock superblock_{};  // what the store is: as a start found it
  Published published_;
  std::optional<Tier> tier_;
  Slots slots_;
  std::optional<StatusMap> status_;
  std::optional<Content> content_;
  std::optional<Durability> durability_;
  std::optional<Feed> feed_;
  std::optional<GrowingIndex> index_;
  std::optional<Supply> supply_;
  std::optional<Reclaim> reclaim_;
  std::optional<Mutator> mutator_;
  base::Fd events_;  // epoll over the completions' and the preparer's eventfd
  std::optional<Decided> decided_;
  bool recovered_from_device_ = false;
  bool changed_ = true;  // step() has not looked at everything since
  uint32_t steps_ = 0;

 private:
  base::Result<base::Fd> open_files(const std::string& directory);
  base::Result<Recovered> recover_files();
  base::Status watch_events();
  void checkpoint_done();
  void refresh_status();
};

// ---- opening ---------------------------------------------------------------------------------------------------------------

// Descriptor of content/. On return superblock, witness, tier and status page are there.
base::Result<base::Fd> Store::Impl::open_files(const std::string& directory) {
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

  auto superblock = read_superblock(file->get());
  if (!superblock) return base::pass(std::move(superblock));
  superblock_ = *superblock;
  auto witness = Witness::of(directory_.get());
  if (!witness) return base::pass(std::move(witness));
  witness_ = *witness;
  auto tier = Tier::open(std::move(*file), superblock_);
  if (!tier) return base::pass(std::move(tier));
  tier_.emplace(std::move(*tier));
  auto status_map = StatusMap::make();
  if (!status_map) return base::pass(std::move(status_map));
  status_.emplace(std::move(*status_map));
  return std::move(*content);
}

// On return slots, content and numbers are what the last life left, and everything that is believed is durable or dirty.
base::Result<Recovered> Store::Impl::recover_files() {
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
    if (auto s = sync_page(io_, *tier_, 0, 2 * layout::kPageBytes, "sync of the superblock"); !s) return base::pass(std::move(s));
  }
  WARM_FAILPOINT("store.recovery_begun");
  auto recovered = recover(*tier_, superblock_, from_device, content_->directory(), content_->segments(), slots_);
  if (!recovered) return base::pass(std::move(recovered));

  raise(numbers.next_segment, superblock_.next_segment);
  raise(numbers.next_session, superblock_.next_session);
  raise(numbers.next_channel, superblock_.next_channel);
  content_->segments().for_each([&](Segment& segment) { raise(numbers.next_segment, segment.number + 1); });
  content_->recovered(recovered->content_bytes_live, recovered->damaged == 0);

  durability_.emplace(io_, *tier_, content_->segments(), content_->directory(), superblock_, witness_,
                      options_.checkpoint_interval_ns);
  if (from_device) {
    layout::store_release(tier_->control().intent.state, 0);
    WARM_FAILPOINT("store.recovery_before_checkpoint");
    durability_->begin(recovered->next_sequence - 1, false);
    if (auto s = durability_->finish(); !s) return base::pass(std::move(s));
    if (io_error_before) {
      layout::store_release(numbers.device_recovery, 0);
      if (auto s = sync_page(io_, *tier_, layout::kControlPageOffset, layout::kPageBytes, "sync of the control page"); !s)
        return base::pass(std::move(s));
    }
  }
  return recovered;
}

base::Status Store::Impl::watch_events() {
  events_.reset(::epoll_create1(EPOLL_CLOEXEC));
  if (!events_) return base::fail_errno(errno, "epoll_create1");
  for (int fd : {io_.completion_fd(), supply_->event_fd()}) {
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.fd = fd;
    if (::epoll_ctl(events_.get(), EPOLL_CTL_ADD, fd, &event) != 0) return base::fail_errno(errno, "epoll_ctl");
  }
  return {};
}

base::Status Store::Impl::open(const std::string& directory) {
  auto content = open_files(directory);
  if (!content) return base::pass(std::move(content));
  layout::StatusPage& page = status();
  content_.emplace(std::move(*content), superblock_, options_.prepared_content_bytes, *tier_, published_, page);
  auto recovered = recover_files();
  if (!recovered) return base::pass(std::move(recovered));
  decided_ = recovered->decided;
  durability_->show_in(page);

  const uint64_t last_sequence = recovered->next_sequence - 1;
  Feed::Size feed_size;
  if (!WARM_RULE("store.feed_is_long")) feed_size = {.entries_log2 = 4, .ids_log2 = 11};  // a test overruns it with few changes
  auto feed = Feed::make(last_sequence, feed_size);
  if (!feed) return base::pass(std::move(feed));
  feed_.emplace(std::move(*feed));
  if (auto s = content_->start(); !s) return s;
  index_.emplace(std::move(recovered->index), superblock_.hash_seed, *tier_, published_, page);

  Preparer::World world{.tier = &*tier_,
                        .content_directory = content_->directory(),
                        .store_id = {},
                        .hash_seed = superblock_.hash_seed,
                        .large_pages = options_.large_pages};
  std::memcpy(world.store_id, superblock_.store_id, sizeof world.store_id);
  auto preparer = Preparer::start(world);
  if (!preparer) return base::pass(std::move(preparer));
  supply_.emplace(options_, std::move(*preparer), *tier_, slots_, *content_, *index_, page);
  reclaim_.emplace(*tier_, slots_);
  mutator_.emplace(Mutator::Parts{.tier = *tier_,
                                  .slots = slots_,
                                  .content = *content_,
                                  .index = *index_,
                                  .durability = *durability_,
                                  .supply = *supply_,
                                  .reclaim = *reclaim_,
                                  .feed = *feed_,
                                  .status = page},
                   recovered->next_sequence, superblock_.hash_seed);
  if (auto s = watch_events(); !s) return s;
  if (auto s = index_->start(); !s) return s;

  page.io_backend = std::strcmp(io_.name(), "io_uring") == 0 ? 1 : 2;
  page.buffers_registered = io_.buffers_registered() ? 1 : 0;
  page.slots_allocated = tier_->slots();
  page.content_bytes_max = options_.content_bytes_max;
  page.sequence = last_sequence;
  page.sequence_durable = durability_->durable();
  page.feed_head = feed_->head();
  page.records = recovered->records;
  page.damaged_records = recovered->damaged;
  {
    std::lock_guard guard(published_.mutex);
    published_.tier_fd = tier_->fd();
    published_.feed_fd = feed_->fd();
    published_.status_fd = status_->fd();
  }
  refresh_status();
#ifdef WARMTIER_FAILPOINTS
  check_invariants();  // whatever a kill left
#endif
  status_->publish();
  return {};
}

void Store::Impl::clear_intent() {
  layout::store_release(tier_->control().intent.state, 0);
  decided_.reset();
}

// ---- background ------------------------------------------------------------------------------------------------------------

void Store::Impl::checkpoint_done() {
  supply_->checkpoint_ended(durability_->synced_chunks());
  content_->unlink_dead(durability_->durable());
  changed_ = true;
}

bool Store::Impl::step() {
  mutator_->settle();
  bool more = supply_->take();
  if (more) changed_ = true;
  if (durability_->step()) {
    checkpoint_done();
    more = true;
  }
  if (index_->advance(kDoublingHomesPerStep)) more = true;
  if (mutator_->advance_clear()) more = true;
  if (reclaim_->due(durability_->durable())) {
    reclaim_->run(durability_->durable());
    more = changed_ = true;
  }
  if (mutator_->take_changed()) changed_ = true;
  if (!changed_) return more;
  // Everything below follows from a change; looked at now and then, and before a sleep.
  if (++steps_ % kStepsPerClockLook != 0 && slots_.free() > 0 && !durability_->requested()) return more;
  supply_->order();
  refresh_status();
  // More deaths that a checkpoint would free: not those that wait for pins.
  const bool short_of_slots = slots_.free() < options_.prepared_slots / 2 && slots_.waiting() > options_.prepared_slots / 4 &&
                              !slots_.ripe(durability_->durable());
  if (!durability_->begin_if_due(mutator_->last_sequence(), content_->any_dead(), short_of_slots)) changed_ = false;
  return more;
}

uint64_t Store::Impl::wake_at_ns() {
  io_.clear_completion_fd();
  supply_->clear_event();
  steps_ = kStepsPerClockLook - 1;  // the next step looks at everything
  if (step()) return 0;
  uint64_t at_ns = durability_->due_at_ns();
  if (reclaim_->expected_back(base::monotonic_ns())) at_ns = std::min(at_ns, reclaim_->expected_until_ns());
  return at_ns;
}

void Store::Impl::refresh_status() {
  layout::StatusPage& page = status();
  layout::store_relaxed(page.slots_free, slots_.free() + supply_->slots_in_job());
  layout::store_relaxed(page.slots_prepared, slots_.prepared());
  layout::store_relaxed(page.slots_waiting, slots_.waiting());
  layout::store_relaxed(page.slots_held, slots_.held());
  layout::store_relaxed(page.content_bytes_live, content_->bytes_live());
  layout::store_relaxed(page.content_bytes_total, content_->bytes_total());
}

void Store::Impl::check_invariants() {
  mutator_->settle();
  store::check_invariants({.tier = *tier_,
                           .segments = content_->segments(),
                           .slots = slots_,
                           .index = index_->table(),
                           .larger = index_->larger(),
                           .cursor = index_->cursor(),
                           .records = status().records,
                           .damaged = status().damaged_records});
}

base::Status Store::Impl::close_cleanly() {
  mutator_->settle();
  layout::store_relaxed(status().stopping, 1);
  WARM_FAILPOINT("store.stop_begun");
  layout::store_release(tier_->control().intent.state, 0);  // nothing is in flight
  if (durability_->running()) {
    if (auto s = durability_->finish(); !s) return s;
    checkpoint_done();
  }
  if (durability_->io_error()) return std::unexpected(*durability_->io_error());
  content_->seal_active();
  WARM_FAILPOINT("store.stop_sealed");
  durability_->begin(mutator_->last_sequence(), true);
  if (auto s = durability_->finish(); !s) return s;
  checkpoint_done();
  return {};
}

// ---- facade ----------------------------------------------------------------------------------------------------------------

Store::Store(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Store::~Store() = default;

base::Result<std::unique_ptr<Store>> Store::open(const std::string& directory, const Options& options, io::Io& io) {
  auto impl = std::make_unique<Impl>(options, io);
  if (auto s = impl->open(directory); !s) return base::pass(std::move(s));
  return std::unique_ptr<Store>(new Store(std::move(impl)));
}

void Store::open_generation() { impl_->index_->open_generation(); }
const std::optional<Decided>& Store::decided() const { return impl_->decided_; }
void Store::clear_intent() { impl_->clear_intent(); }
void Store::set_pin_source(PinSource* pins) { impl_->reclaim_->set_pin_source(pins); }
void Store::set_index_publisher(std::function<void(int, uint32_t, uint64_t)> publish) {
  impl_->index_->set_publisher(std::move(publish));
}

Disposition Store::execute(const Request& request, const Origin& origin, Answer& ret_answer) {
  return impl_->mutator_->execute(request, origin, ret_answer);
}
void Store::settle() { impl_->mutator_->settle(); }
Foreseen Store::foresee(const std::byte* id, uint32_t id_bytes) const { return impl_->mutator_->foresee(id, id_bytes); }
void Store::foresee_more(Foreseen& foreseen) const { impl_->mutator_->foresee_more(foreseen); }
bool Store::touch(uint32_t slot, uint64_t put_sequence) { return impl_->mutator_->touch(slot, put_sequence); }
void Store::check_invariants() { impl_->check_invariants(); }

bool Store::step() { return impl_->step(); }
uint64_t Store::wake_at_ns() { return impl_->wake_at_ns(); }
bool Store::recovered_from_device() const { return impl_->recovered_from_device_; }
int Store::event_fd() const { return impl_->events_.get(); }
void Store::request_checkpoint() {
  impl_->durability_->request();
  impl_->changed_ = true;
}
base::Status Store::close_cleanly() { return impl_->close_cleanly(); }

base::Result<StagedContent> Store::stage(uint32_t id_bytes, uint64_t content_bytes,
                                         const std::function<base::Status(std::byte*, uint64_t, uint64_t)>& read) {
  return impl_->content_->stage(id_bytes, content_bytes, read);
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
const std::optional<base::Error>& Store::io_error() const { return impl_->durability_->io_error(); }

}  // namespace warmtier::daemon::store
