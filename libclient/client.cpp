#include "libclient/client.hpp"

#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>
#include <utility>

#include "base/assert.hpp"
#include "base/failpoint.hpp"

namespace warmtier::libclient {
namespace {

std::unexpected<base::Error> unavailable(const char* reason) { return base::fail(WARM_E_UNAVAILABLE, "%s", reason); }

constexpr uint64_t kFarewellNsMax = 200 * base::kNsPerMs;

// After a stop in order a reader looks for the next daemon so often, and each time for so long at most.
constexpr uint64_t kSuccessorEveryNs = 100 * base::kNsPerMs;
constexpr uint64_t kSuccessorNsMax = 20 * base::kNsPerMs;

// What passes by itself when a daemon is coming back.
bool worth_another_try(int32_t code) { return code == WARM_E_UNAVAILABLE || code == WARM_E_BUSY; }

}  // namespace

ClientState::ClientState(std::string socket_path, uint64_t timeout)
    : stamp(fork_stamp()),
      id(next_identity()),
      cheap_fence(register_membarrier()),
      timeout_ns(timeout),
      socket_path_(std::move(socket_path)) {
  register_state(*this);
}

ClientState::~ClientState() {
  unregister_state(*this);
  for (ThreadRecord* record = threads_.load(std::memory_order_acquire); record != nullptr;) {
    delete std::exchange(record, record->next);
  }
  delete attachment.load(std::memory_order_acquire);
  delete segments.load(std::memory_order_acquire);
}

// ---- Attaching ---------------------------------------------------------------------------------------------------------------

base::Status ClientState::open(const base::Deadline& deadline) {
  const std::lock_guard guard(mutex_);
  // Where nobody listens the caller hears it at once; a daemon that goes away in the midst of it is awaited as by every call.
  for (Slices slices;; wait_readable(-1, slices.next_ns(deadline))) {
    auto opened = connect(deadline);
    if (opened) return {};
    const bool passes = worth_another_try(opened.error().code);
    if (passes && daemon_reached_ && !deadline.passed()) continue;
    if (!links_.empty()) forsake(links_.back()->forsaken());
    return passes ? base::fail(WARM_E_UNAVAILABLE, "%s", opened.error().text.c_str()) : opened;
  }
}

base::Status ClientState::refresh(Need need, const base::Deadline& deadline) {
  if (!mutex_.lock_before(deadline)) return unavailable("another thread was still attaching to the daemon at the deadline");
  const std::lock_guard guard(mutex_, std::adopt_lock);
  if (attachment.load(std::memory_order_relaxed) == nullptr) {
    if (auto ready = prepare_process(); !ready) return ready;  // a child of a fork, at its first call
  }
  Slices slices;
  std::string reason = "the daemon did not come back before the deadline";
  for (;;) {
    const Attachment* now = attachment.load(std::memory_order_acquire);
    bool try_connecting = true;
    if (now != nullptr) {
      Connection& connection = *now->connection;
      if (auto drained = drain(connection); !drained) reason = drained.error().text;
      const uint64_t generation = layout::load_acquire(*now->generation_word);
      const bool gone = connection.gone.load(std::memory_order_acquire);
      const bool stopping = layout::load_acquire(connection.status().stopping) != 0;
      // An attaching that failed half-way may have left the segments of another store.
      const bool one_store = segments.load(std::memory_order_relaxed)->tier() == now->tier;
      if (one_store && generation == now->generation && (need == Need::reads || (!gone && !stopping))) return {};
      if (generation != now->generation) {
        auto taken = take_index(generation);
        if (!taken) return base::pass(std::move(taken));
        if (*taken) continue;
      }
      try_connecting = gone || !one_store;
    }
    if (try_connecting) {
      auto connected = connect(deadline);
      if (connected) {
        slices = {};
        continue;
      }
      reason = connected.error().text;
      if (!worth_another_try(connected.error().code)) {
        // One word for "no daemon for me"; the sentence says why. Who is not permitted must not take it for something that
        // passes.
        const bool forbidden = connected.error().code == WARM_E_ACCESS;
        return base::fail(forbidden ? WARM_E_ACCESS : WARM_E_UNAVAILABLE, "%s", reason.c_str());
      }
    }
    if (deadline.passed()) return base::fail(WARM_E_UNAVAILABLE, "%s", reason.c_str());
    // A daemon that lives and will send an index, or end; or none yet, and a look at the socket's path later.
    wait_readable(try_connecting ? -1 : now->connection->socket.get(), slices.next_ns(deadline));
  }
}

std::optional<Resume> ClientState::resume() const {
  if (links_.empty()) return std::nullopt;
  return links_.back()->resume();
}

base::Status ClientState::connect(const base::Deadline& deadline) {
  auto socket = connect_to(socket_path_, deadline);
  if (!socket) return base::pass(std::move(socket));
  daemon_reached_ = true;
  auto greeting = greet(std::move(*socket), socket_path_, resume(), deadline);
  // Of who may do nothing any more the daemon takes the memory all the same: nobody is to wait for his pins (T5).
  if (!greeting && greeting.error().code != WARM_E_ACCESS) return base::pass(std::move(greeting));
  if (auto handed = hand_back_formers(deadline); !handed) return handed;
  if (!greeting) return base::pass(std::move(greeting));
  return adopt(std::move(*greeting), deadline);
}

base::Status ClientState::adopt(Greeting greeting, const base::Deadline& deadline) {
  const layout::Welcome& welcome = greeting.welcome;
  auto inode = base::inode_of(greeting.tier.get());
  if (!inode) return base::pass(std::move(inode));
  const bool other_store = tier_ == nullptr || tier_->inode != *inode;
  if (other_store) {
    auto tier = map_tier(greeting.tier, welcome);
    if (!tier) return base::pass(std::move(tier));
    if (tier_ != nullptr) {
      old_tiers_.reserve(old_tiers_.size() + 1);
      old_tiers_.push_back(std::move(tier_));
    }
    tier_ = std::move(*tier);
    install_list(0, {});  // numbers of the other store's segments mean nothing here
  }
  auto arrival = arrive(std::move(greeting));
  if (!arrival) return base::pass(std::move(arrival));
  const bool resumed = arrival->connection->welcome.resumed != 0 && !links_.empty() && !other_store;
  if (auto taken = take_link(std::move(arrival->parts), resumed); !taken) return taken;
  if (auto accepted = accept(*arrival->connection, deadline); !accepted) {
    // Nobody has used it.
    if (attachment.load(std::memory_order_relaxed) == nullptr) send_bye(arrival->connection->socket.get());
    return accepted;
  }
  publish(attachment_of(std::move(*arrival), *links_.back()));
  WARM_FAILPOINT("client.attached");
  next_move_ns_.store(0, std::memory_order_relaxed);
  if (std::exchange(attached_before_, true)) {
    layout::fetch_add(links_.back()->region().counters.reattaches, 1);
    const Attachment& now = *attachment.load(std::memory_order_relaxed);
    // What fails here shows as an answer that does not come.
    [[maybe_unused]] const auto sent = send_large_puts(*now.connection, *now.link);
    send_large_puts_of_formers();
    tickets_.kick();
  }
  return {};
}

base::Result<ClientState::Arrival> ClientState::arrive(Greeting greeting) {
  const layout::Welcome& welcome = greeting.welcome;
  auto index = map_index(greeting.index, welcome.homes_log2, tier_->hash_seed);
  if (!index) return base::pass(std::move(index));
  auto connection = std::make_shared<Connection>();
  auto status_inode = base::inode_of(greeting.status.get());
  if (!status_inode) return base::pass(std::move(status_inode));
  connection->status_inode = *status_inode;
  auto status = map_status(greeting.status);
  if (!status) return base::pass(std::move(status));
  connection->status_map = std::move(*status);
  auto feed = FeedMap::map(greeting.feed);
  if (!feed) return base::pass(std::move(feed));
  connection->feed = std::move(*feed);
  connection->welcome = welcome;
  connection->socket = base::WatchedFd(std::move(greeting.socket));
  connection->number = ++connections_;
  return Arrival{.connection = std::move(connection), .index = std::move(*index), .parts = Link::parts_of(std::move(greeting))};
}

// The list says that the session is live: not before it may anything be pinned or published in it.
base::Status ClientState::accept(Connection& connection, const base::Deadline& deadline) {
  WARM_FAILPOINT("client.accept.before");
  const auto forsaken = forsaken_of(tier_->store_id, layout::kForsakenPerMessage);
  if (auto sent = send_accept(connection.socket.get(), forsaken, deadline); !sent) return sent;
  WARM_FAILPOINT("client.accept.after");
  return await_list(connection, 1, deadline);
}

std::unique_ptr<Attachment> ClientState::attachment_of(Arrival arrival, Link& link) {
  auto next = std::make_unique<Attachment>();
  next->buckets = reinterpret_cast<const layout::Bucket*>(arrival.index.data() + sizeof(layout::IndexHeader));
  next->generation_word = &tier_->generation();
  next->generation = arrival.connection->welcome.generation;
  next->tier = tier_->map.data();
  next->status = &arrival.connection->status();
  next->geometry = tier_->geometry;
  next->hash_seed = tier_->hash_seed;
  next->link = &link;
  next->homes_log2 = arrival.connection->welcome.homes_log2;
  next->index = std::move(arrival.index);
  next->connection = std::move(arrival.connection);
  return next;
}

base::Status ClientState::take_link(Link::Parts parts, bool resumed) {
  if (resumed) {
    auto same = links_.back()->same_files(parts);
    if (!same) return base::pass(std::move(same));
    if (*same) {
      links_.back()->take_files(std::move(parts));
      return {};
    }
  }
  // The daemon did not take the session back: pins in its memory hold nothing any more, and views in it are stale.
  links_.reserve(links_.size() + 1);
  auto link = Link::make(std::move(parts), tier_->store_id);
  if (!link) return base::pass(std::move(link));
  if (!links_.empty()) {
    forsake(links_.back()->forsaken());
    links_.back()->standing.store(Link::Standing::lost, std::memory_order_release);
  }
  use(std::move(*link));
  return {};
}

void ClientState::use(std::unique_ptr<Link> link) {
  link->older = newest_link_.load(std::memory_order_relaxed);
  newest_link_.store(link.get(), std::memory_order_release);
  links_.push_back(std::move(link));
}

void ClientState::publish(std::unique_ptr<Attachment> next) {
  retired_.reserve(retired_.size() + 1);
  Retired old;
  old.attachment.reset(attachment.exchange(next.release(), std::memory_order_acq_rel));
  if (old.attachment != nullptr) retire(std::move(old));
}

base::Result<bool> ClientState::take_index(uint64_t generation) {
  const Attachment* now = attachment.load(std::memory_order_acquire);
  std::vector<Connection::Index>& indexes = now->connection->indexes;
  const auto at = std::find_if(indexes.begin(), indexes.end(), [&](const auto& index) { return index.generation == generation; });
  if (at == indexes.end()) return false;
  auto index = map_index(at->file, at->homes_log2, now->hash_seed);
  if (!index) return base::pass(std::move(index));
  auto next = std::make_unique<Attachment>();
  next->buckets = reinterpret_cast<const layout::Bucket*>(index->data() + sizeof(layout::IndexHeader));
  next->generation_word = now->generation_word;
  next->generation = generation;
  next->tier = now->tier;
  next->status = now->status;
  next->geometry = now->geometry;
  next->hash_seed = now->hash_seed;
  next->link = now->link;
  next->homes_log2 = at->homes_log2;
  next->index = std::move(*index);
  next->connection = now->connection;
  indexes.erase(indexes.begin(), at + 1);  // older ones will never be the ones to use again
  publish(std::move(next));
  return true;
}

// Takes what the daemon sent; never waits. An error is a daemon that does not keep the protocol: its connection is given up.
base::Status ClientState::drain(Connection& connection) try {
  Message message;
  while (!connection.gone.load(std::memory_order_relaxed)) {
    auto received = receive(connection.socket.get(), message);
    if (received && *received == Received::nothing) break;
    if (!received || *received == Received::closed) {
      connection.gone.store(true, std::memory_order_release);
      if (!received) return base::pass(std::move(received));
      break;
    }
    if (*received == Received::notice) {
      tickets_.kick();
      continue;
    }
    if (auto handled = handle(connection, message); !handled) {
      connection.gone.store(true, std::memory_order_release);
      return handled;
    }
  }
  return {};
} catch (const std::bad_alloc&) {
  // What was in the message is lost: only another connection brings it again.
  connection.gone.store(true, std::memory_order_release);
  throw;
}

base::Status ClientState::handle(Connection& connection, Message& message) {
  if (message.kind == layout::MessageKind::index && message.files.size() == 1) {
    const auto& index = message.as<layout::IndexMessage>();
    connection.indexes.push_back(
        {.generation = index.generation, .homes_log2 = index.homes_log2, .file = std::move(message.files[0])});
    return {};
  }
  if (message.kind == layout::MessageKind::segments) {
    const auto& part = message.as<layout::Segments>();
    if (message.files.size() != part.count) {
      return base::fail(WARM_E_CORRUPT, "the daemon names %u segments and sends %zu", part.count, message.files.size());
    }
    for (uint32_t i = 0; i < part.count; ++i) {
      std::unique_ptr<SegmentMap>& known = segment_maps_[part.numbers[i]];
      if (known == nullptr) {
        // One that is damaged is left out: only what lies in it cannot be read.
        if (auto made = SegmentMap::make(std::move(message.files[i]), part.numbers[i], tier_->store_id)) known = std::move(*made);
      }
      if (known != nullptr) connection.list.push_back(known.get());
    }
    if (part.last == 0) return {};
    install_list(part.epoch, connection.list);
    connection.list.clear();
    ++connection.lists_received;
    return {};
  }
  if (message.kind == layout::MessageKind::sessions && message.files.empty()) {
    const auto& part = message.as<layout::SessionsMessage>();
    if (part.question != connection.collected) connection.collecting.clear();  // an answer that was given up for a later one
    connection.collected = part.question;
    connection.collecting.insert(connection.collecting.end(), part.reports, part.reports + part.count);
    if (part.last == 0) return {};
    connection.reports = std::exchange(connection.collecting, {});
    connection.answered = part.question;
    return {};
  }
  return base::fail(WARM_E_CORRUPT, "the daemon sent a message of kind %u with %zu descriptors",
                    static_cast<uint32_t>(message.kind), message.files.size());
}

// ---- Segments
// ------------------------------------------------------------------------------------------------------------------

base::Status ClientState::await_list(Connection& connection, uint64_t list, const base::Deadline& deadline) {
  for (;;) {
    if (auto drained = drain(connection); !drained) return drained;
    if (connection.lists_received >= list) return {};
    if (connection.gone.load(std::memory_order_acquire)) return unavailable("the daemon went away before it listed its segments");
    if (deadline.passed()) return unavailable("the daemon did not list its segments before the deadline");
    wait_readable(connection.socket.get(), deadline.left_ns());
  }
}

base::Status ClientState::ask_for_list(Connection& connection, const base::Deadline& deadline) {
  layout::SegmentsWanted wanted{};
  wanted.header = {.kind = static_cast<uint32_t>(layout::MessageKind::segments_wanted), .bytes = sizeof wanted};
  auto sent = send_message(connection.socket.get(), &wanted, sizeof wanted, nullptr, 0, deadline);
  if (sent) {
    ++connection.lists_wanted;
  } else if (sent.error().os_error != 0) {
    connection.gone.store(true, std::memory_order_release);
  }
  return sent;
}

base::Status ClientState::fetch_segments(const base::Deadline& deadline) {
  for (;;) {
    if (auto fresh = refresh(Need::daemon, deadline); !fresh) return fresh;
    if (!mutex_.lock_before(deadline)) return unavailable("another thread was still attaching to the daemon at the deadline");
    const std::lock_guard guard(mutex_, std::adopt_lock);
    Connection& connection = *attachment.load(std::memory_order_acquire)->connection;
    auto done = ask_for_list(connection, deadline);
    if (done) done = await_list(connection, connection.lists_wanted, deadline);
    if (done || deadline.passed()) return done;
    if (!connection.gone.load(std::memory_order_acquire)) return done;
  }
}

base::Result<std::vector<layout::SessionReport>> ClientState::ask_for_sessions(const base::Deadline& deadline) {
  constexpr const char* kLate = "the daemon did not say who holds what before the deadline";
  std::shared_ptr<Connection> asked;
  uint64_t question = 0;
  Slices slices;
  for (;;) {
    if (asked == nullptr) {
      if (auto fresh = refresh(Need::daemon, deadline); !fresh) return base::pass(std::move(fresh));
    }
    {
      // Held for a look only: the answer takes its time, and others need the socket.
      if (!mutex_.lock_before(deadline)) return unavailable(kLate);
      const std::lock_guard guard(mutex_, std::adopt_lock);
      if (asked == nullptr) {
        asked = attachment.load(std::memory_order_acquire)->connection;
        layout::SessionsWanted wanted{};
        wanted.header = {.kind = static_cast<uint32_t>(layout::MessageKind::sessions_wanted), .bytes = sizeof wanted};
        wanted.question = question = ++asked->questions;
        if (auto sent = send_message(asked->socket.get(), &wanted, sizeof wanted, nullptr, 0, deadline); !sent) {
          if (sent.error().os_error == 0) return base::pass(std::move(sent));
          asked->gone.store(true, std::memory_order_release);
        }
      }
      if (auto drained = drain(*asked); !drained) return base::pass(std::move(drained));
      if (asked->answered >= question) return asked->reports;  // by a later one of another thread too
      if (asked->gone.load(std::memory_order_acquire)) asked.reset();
    }
    if (deadline.passed()) return unavailable(kLate);
    // Another thread may take what comes.
    if (asked != nullptr) wait_readable(asked->socket.get(), slices.next_ns(deadline));
  }
}

base::Result<ClientState::Told> ClientState::tell(const void* message, size_t bytes, const base::Deadline& deadline) {
  for (;;) {
    if (auto fresh = refresh(Need::daemon, deadline); !fresh) return base::pass(std::move(fresh));
    if (!mutex_.lock_before(deadline)) return unavailable("another thread was still attaching to the daemon at the deadline");
    const std::lock_guard guard(mutex_, std::adopt_lock);
    Told told{.connection = attachment.load(std::memory_order_acquire)->connection};
    const layout::StatusPage& page = told.connection->status();
    told.sequence = layout::load_acquire(page.sequence);
    told.durable = layout::load_acquire(page.sequence_durable);
    auto sent = send_message(told.connection->socket.get(), message, bytes, nullptr, 0, deadline);
    if (sent) return told;
    if (sent.error().os_error != 0) told.connection->gone.store(true, std::memory_order_release);
    if (sent.error().os_error == 0 || deadline.passed()) return base::pass(std::move(sent));
  }
}

void ClientState::install_list(uint64_t list_epoch, const std::vector<SegmentMap*>& list) {
  Retired table;
  auto next = std::make_unique<SegmentTable>(tier_->map.data(), list_epoch, list);
  std::vector<SegmentMap*> kept = list;
  std::sort(kept.begin(), kept.end());
  retired_.reserve(retired_.size() + segment_maps_.size() + 1);
  table.table.reset(segments.exchange(next.release(), std::memory_order_acq_rel));
  for (auto at = segment_maps_.begin(); at != segment_maps_.end();) {
    if (at->second != nullptr && std::binary_search(kept.begin(), kept.end(), at->second.get())) {
      ++at;
      continue;
    }
    if (at->second != nullptr) {
      at->second->retired.store(true, std::memory_order_release);
      retired_.push_back({.epoch = std::numeric_limits<uint64_t>::max(), .segment = std::move(at->second)});
    }
    at = segment_maps_.erase(at);
  }
  retire(std::move(table));
}

void ClientState::refresh_segments_without_waiting() noexcept {
  if (!mutex_.try_lock()) return;
  const std::lock_guard guard(mutex_, std::adopt_lock);
  try {
    const Attachment* now = attachment.load(std::memory_order_acquire);
    if (now == nullptr || now->connection->gone.load(std::memory_order_acquire)) return;
    Connection& connection = *now->connection;
    if (connection.lists_received < connection.lists_wanted) {
      // A failure shows as `gone` to whoever needs the daemon.
      [[maybe_unused]] const auto drained = drain(connection);
      return;
    }
    [[maybe_unused]] const auto asked = ask_for_list(connection, base::Deadline::after_ns(0));
  } catch (const std::bad_alloc&) {
    // Segments that went stay mapped until there is memory to replace the table: a later tick tries again.
    reap_wanted_.store(true, std::memory_order_relaxed);
  }
}

// ---- Taking things out of use
// --------------------------------------------------------------------------------------------------

void ClientState::retire(Retired object) {
  object.epoch = epoch.fetch_add(1, std::memory_order_acq_rel) + 1;
  for (Retired& earlier : retired_) {
    if (earlier.epoch == std::numeric_limits<uint64_t>::max()) earlier.epoch = object.epoch;
  }
  retired_.push_back(std::move(object));
  reap();
}

void ClientState::reap() noexcept {
  // First: who wants it while this goes on finds the lock taken, and leaves the wish to a later tick.
  reap_wanted_.store(false, std::memory_order_seq_cst);
  if (retired_.empty()) return;
  uint64_t newest = 0;
  for (const Retired& object : retired_) newest = std::max(newest, object.epoch);
  const uint64_t oldest = oldest_inside(newest);
  std::erase_if(retired_, [&](Retired& object) {
    if (object.epoch > oldest) return false;
    if (object.segment == nullptr) return true;
    if (!object.views_counted) {
      // No thread can enter it any more, so its views only become fewer: count them once.
      for (const auto& link : links_) link->pins.count_views_of(*object.segment);
      object.views_counted = true;
      return object.segment->views_left.fetch_sub(1, std::memory_order_acq_rel) == 1;
    }
    return object.segment->views_left.load(std::memory_order_acquire) == 0;
  });
  const bool waits_for_thread = std::any_of(retired_.begin(), retired_.end(), [](const Retired& r) { return !r.views_counted; });
  if (waits_for_thread) reap_wanted_.store(true, std::memory_order_relaxed);
}

uint64_t ClientState::oldest_inside(uint64_t newest) noexcept {
  if (newest > fenced_epoch_) {
    if (cheap_fence) {
      membarrier_all_threads();
    } else {
      layout::fence_full();
    }
    fenced_epoch_ = newest;
  }
  uint64_t oldest = std::numeric_limits<uint64_t>::max();
  for (const ThreadRecord* record = threads_.load(std::memory_order_acquire); record != nullptr; record = record->next) {
    const uint64_t inside = record->inside.load(std::memory_order_acquire);
    if (inside != 0) oldest = std::min(oldest, inside);
  }
  return oldest;
}

void ClientState::drop_segment() noexcept {
  // When another thread is at it, the next tick does it.
  reap_wanted_.store(true, std::memory_order_seq_cst);
  if (!mutex_.try_lock()) return;
  const std::lock_guard guard(mutex_, std::adopt_lock);
  reap();
}

// ---- Large puts and the end
// -----------------------------------------------------------------------------------------------------

// What is not sent on this connection yet, in order. In a former session nothing new is begun.
base::Result<ClientState::Sent> ClientState::send_large_puts(Connection& connection, Link& link) {
  large_unsent_.store(false, std::memory_order_relaxed);
  std::erase_if(large_puts_, [](const auto& weak) { return weak.expired(); });
  for (const auto& weak : large_puts_) {
    const std::shared_ptr<LargePut> put = weak.lock();
    if (put == nullptr || put->link != &link || put->sent_on == connection.number) continue;
    if (put->number == 0 && !link.is(Link::Standing::in_use)) continue;
    if (put->number != 0 && connection.welcome.socket_done >= put->number) {
      put->sent_on = connection.number;  // carried out before that daemon died; the answer is in the result cell
      continue;
    }
    const uint64_t number = put->number != 0 ? put->number : link.large_number + 1;
    std::memcpy(put->message.data() + offsetof(layout::PutMessage, number), &number, sizeof number);
    const int file = put->file.get();
    auto sent =
        send_message(connection.socket.get(), put->message.data(), put->message.size(), &file, 1, base::Deadline::after_ns(0));
    if (sent) {
      put->number = number;
      put->sent_on = connection.number;
      link.large_number = std::max(link.large_number, number);
      continue;
    }
    if (sent.error().code == WARM_E_UNAVAILABLE && sent.error().os_error == 0) {
      large_unsent_.store(true, std::memory_order_relaxed);
      return Sent::full;
    }
    if (sent.error().code != WARM_E_UNAVAILABLE) return base::pass(std::move(sent));
    connection.gone.store(true, std::memory_order_release);
    return Sent::no_daemon;
  }
  return Sent::all;
}

base::Status ClientState::send_large(const std::shared_ptr<LargePut>& put, const base::Deadline& deadline) {
  const auto take_back = [&](base::Status why) {
    std::erase_if(large_puts_, [&](const auto& weak) { return weak.lock() == put; });
    return why;
  };
  for (bool listed = false;; listed = true) {
    std::shared_ptr<Connection> full;
    {
      if (!mutex_.lock_before(deadline)) return unavailable("another thread was still attaching to the daemon at the deadline");
      const std::lock_guard guard(mutex_, std::adopt_lock);
      if (!listed) large_puts_.push_back(put);
      const Attachment* now = attachment.load(std::memory_order_acquire);
      if (now == nullptr || now->link != put->link) {
        return take_back(base::fail(WARM_E_BUSY, "the daemon gave this client another session meanwhile; nothing was sent"));
      }
      Connection& connection = *now->connection;
      const bool gone = connection.gone.load(std::memory_order_acquire);
      auto sent = gone ? base::Result<Sent>(Sent::no_daemon) : send_large_puts(connection, *put->link);
      if (put->number != 0) return {};  // also when one behind it could not be sent
      if (!sent) return take_back(base::pass(std::move(sent)));
      if (deadline.passed()) return take_back(unavailable("the daemon took no more large puts until the deadline"));
      if (*sent == Sent::full) full = now->connection;
    }
    if (full != nullptr) {
      wait_writable(full->socket.get(), std::min(deadline.left_ns(), 5 * base::kNsPerMs));
    } else if (auto back = refresh(Need::daemon, deadline); !back) {
      mutex_.lock();
      const std::lock_guard guard(mutex_, std::adopt_lock);
      return take_back(std::move(back));
    }
  }
}

void ClientState::send_large_again() {
  if (!large_unsent_.load(std::memory_order_relaxed) || !mutex_.try_lock()) return;
  const std::lock_guard guard(mutex_, std::adopt_lock);
  const Attachment* now = attachment.load(std::memory_order_acquire);
  if (now == nullptr || now->connection->gone.load(std::memory_order_acquire)) return;
  // A failure shows as an answer that does not come.
  [[maybe_unused]] const auto sent = send_large_puts(*now->connection, *now->link);
  send_large_puts_of_formers();
}

bool ClientState::drain_without_waiting() {
  if (!mutex_.try_lock()) return false;
  const std::lock_guard guard(mutex_, std::adopt_lock);
  if (const Attachment* now = attachment.load(std::memory_order_acquire); now != nullptr) {
    // A failure shows as `gone`.
    [[maybe_unused]] const auto drained = drain(*now->connection);
  }
  return true;
}

void ClientState::leave() {
  if (links_.empty()) return;
  for (ThreadRecord* record = threads_.load(std::memory_order_acquire); record != nullptr; record = record->next) {
    flush_counters(*record);
  }
  for (const Former& former : formers_) {
    forsake(former.link->forsaken());
    send_bye(former.connection->socket.get());
  }
  forsake(links_.back()->forsaken());
  const Attachment* now = attachment.load(std::memory_order_acquire);
  if (now != nullptr && now->link == links_.back().get() && !peer_gone(now->connection->socket.get())) {
    send_bye(now->connection->socket.get());
    return;
  }
  // What is said to a dead daemon the next one would never hear, if this process does not attach again.
  if (!WARM_RULE("client.farewell_to_the_next")) return;
  const auto deadline = base::Deadline::after_ns(std::min(timeout_ns, kFarewellNsMax));
  auto greeting = greet(socket_path_, resume(), deadline);
  if (!greeting) return;
  const auto forsaken = forsaken_of(tier_->store_id, layout::kForsakenPerMessage);
  if (send_accept(greeting->socket.get(), forsaken, deadline)) send_bye(greeting->socket.get());
}

// ---- Pins, counters, threads
// -----------------------------------------------------------------------------------------------------

void ClientState::switch_link(ThreadRecord& me, Link& link) noexcept {
  flush_counters(me);
  if (me.link != nullptr) me.link->pins.give_back(me.magazine, std::exchange(me.cells, 0));
  me.link = &link;
}

bool ClientState::refill(ThreadRecord& me, Link& link) noexcept {
  me.cells = link.pins.take(me.magazine, std::max(link.pins.kept_by_thread() / 2, 1U));
  return me.cells != 0;
}

void ClientState::spill(ThreadRecord& me, Link& link, uint32_t cell) noexcept {
  const uint32_t kept = link.pins.kept_by_thread();
  if (me.link != &link || kept == 0) {
    link.pins.give_back(&cell, 1);
    return;
  }
  const uint32_t all = std::exchange(me.cells, kept / 2);
  link.pins.give_back(me.magazine + me.cells, all - me.cells);
  me.magazine[me.cells++] = cell;
}

void ClientState::flush_counters(ThreadRecord& me) noexcept {
  if (me.link == nullptr) return;
  layout::SessionCounters& counters = me.link->region().counters;
  if (me.gets != 0) layout::fetch_add(counters.gets, std::exchange(me.gets, 0));
  if (me.misses != 0) layout::fetch_add(counters.misses, std::exchange(me.misses, 0));
}

// Never over what the daemon has not read. What only shows hotness leaves half of the ring to touches, for nobody calls the
// daemon for it.
bool ClientState::leave_trace(const Link& link, uint64_t put_sequence, uint32_t slot, layout::TouchKind kind) noexcept {
  layout::TouchRing& ring = link.region().touches;
  const uint64_t room = kind == layout::TouchKind::touch ? layout::kTouchEntries : layout::kTouchEntries / 2;
  if (layout::load_relaxed(ring.head) - link.touches_taken() >= room) return false;
  const uint64_t position = layout::fetch_add(ring.head, 1);
  WARM_FAILPOINT("client.touch_place_taken");
  layout::store_entry(ring.entries[position % layout::kTouchEntries],
                      {.put = layout::touch_word(put_sequence, static_cast<uint16_t>(kind)),
                       .slot = slot,
                       .position = static_cast<uint32_t>(position)});
  WARM_FAILPOINT("client.touch_stored");
  if (kind == layout::TouchKind::touch) layout::raise_to(ring.asked, position + 1);
  WARM_FAILPOINT("client.touch_asked");
  return true;
}

void ClientState::tick(ThreadRecord& me, uint64_t put_sequence, uint32_t slot, bool segments_changed) noexcept {
  me.gets_until_tick = kGetsPerTick;
  flush_counters(me);
  // Hotness: one get in 64 leaves a trace, and may be lost.
  leave_trace(*me.link, put_sequence, slot, layout::TouchKind::get);
  if (segments_changed) refresh_segments_without_waiting();
  reap_if_wanted();
  notice_stop(me);
}

void ClientState::let_go(ThreadRecord& me) noexcept {
  enter(me);
  const Attachment* a = attachment.load(std::memory_order_acquire);
  const bool changed = a != nullptr && segments_changed(*a);
  leave(me);
  if (changed) refresh_segments_without_waiting();
  reap_if_wanted();
}

void ClientState::reap_if_wanted() noexcept {
  if (any_formers_.load(std::memory_order_relaxed)) drain_formers();
  part_if_any();
  if (!reap_wanted_.load(std::memory_order_relaxed) || !mutex_.try_lock()) return;
  const std::lock_guard guard(mutex_, std::adopt_lock);
  reap();
}

void ClientState::notice_stop(ThreadRecord& me) noexcept {
  enter(me);
  const Attachment* a = attachment.load(std::memory_order_acquire);
  const bool stopping = a != nullptr && layout::load_acquire(a->status->stopping) != 0;
  leave(me);
  if (__builtin_expect(stopping, 0)) look_for_successor();
}

// One thread at a time, and reads go on with what is there when nobody answers.
void ClientState::look_for_successor() noexcept {
  uint64_t not_before = next_look_ns_.load(std::memory_order_relaxed);
  const uint64_t now_ns = base::monotonic_ns();
  if (now_ns < not_before ||
      !next_look_ns_.compare_exchange_strong(not_before, now_ns + kSuccessorEveryNs, std::memory_order_relaxed)) {
    return;
  }
  if (!mutex_.try_lock()) return;
  const std::lock_guard guard(mutex_, std::adopt_lock);
  const Attachment* a = attachment.load(std::memory_order_acquire);
  if (a == nullptr || layout::load_acquire(a->status->stopping) == 0) return;
  try {
    // What fails is tried again by a later read.
    [[maybe_unused]] const auto connected = connect(base::Deadline::after_ns(kSuccessorNsMax));
  } catch (const std::bad_alloc&) {
    return;
  }
}

Link* ClientState::find_link(uint64_t link_id) const noexcept {
  Link* link = newest_link_.load(std::memory_order_acquire);
  while (link != nullptr && link->id != link_id) link = link->older;
  return link;
}

uint32_t ClientState::views_max() const noexcept {
  const Link* link = newest_link_.load(std::memory_order_acquire);
  return link == nullptr ? 0 : link->pins.views_max();
}

uint64_t ClientState::views_out() noexcept {
  const std::lock_guard guard(mutex_);
  uint64_t out = 0;
  for (const auto& link : links_) out += link->pins.handed_out();
  for (const ThreadRecord* record = threads_.load(std::memory_order_acquire); record != nullptr; record = record->next) {
    out -= record->cells;
  }
  return out;
}

ThreadRecord& ClientState::enter_thread() {
  for (ThreadRecord* record = threads_.load(std::memory_order_acquire); record != nullptr; record = record->next) {
    if (record->taken.exchange(true, std::memory_order_acq_rel)) continue;
    record->tid = static_cast<uint32_t>(::gettid());
    record->gets_until_tick = kGetsPerTick;
    return *record;
  }
  auto record = std::make_unique<ThreadRecord>();
  record->state_id = id;
  record->tid = static_cast<uint32_t>(::gettid());
  record->number = thread_count_++;
  record->next = threads_.load(std::memory_order_relaxed);
  threads_.store(record.get(), std::memory_order_release);
  return *record.release();
}

void ClientState::leave_thread(ThreadRecord& record) noexcept {
  flush_counters(record);
  if (record.link != nullptr) record.link->pins.give_back(record.magazine, std::exchange(record.cells, 0));
  record.link = nullptr;
  record.taken.store(false, std::memory_order_release);
}

// ---- Client
// --------------------------------------------------------------------------------------------------------------------------

Client::Client(std::string socket_path, uint64_t timeout_ns, std::unique_ptr<ClientState> state)
    : socket_path_(std::move(socket_path)), timeout_ns_(timeout_ns), state_(state.release()) {}

base::Result<std::unique_ptr<Client>> Client::open(const char* socket, uint64_t timeout_ns) {
  if (auto ready = prepare_process(); !ready) return base::pass(std::move(ready));
  auto path = find_socket(socket);
  if (!path) return base::pass(std::move(path));
  Patience patience(timeout_ns);
  auto state = std::make_unique<ClientState>(*path, timeout_ns);
  if (auto opened = state->open(patience.deadline()); !opened) return base::pass(std::move(opened));
  return std::unique_ptr<Client>(new Client(*path, timeout_ns, std::move(state)));
}

Client::~Client() {
  ClientState* state = state_.load(std::memory_order_acquire);
  // A parent's state is not ours to take apart.
  if (state->stamp == fork_stamp()) delete state;
}

ClientState& Client::adopt_fork(ClientState* inherited) {
  auto fresh = std::make_unique<ClientState>(socket_path_, timeout_ns_);
  ClientState* seen = inherited;
  if (state_.compare_exchange_strong(seen, fresh.get(), std::memory_order_acq_rel)) return *fresh.release();
  return *seen;
}

base::Status Client::close() {
  ClientState* state = state_.load(std::memory_order_acquire);
  if (state->stamp != fork_stamp()) return {};
  const uint64_t views = state->views_out();
  const uint64_t scans = state->open_scans.load(std::memory_order_relaxed);
  const uint64_t lent = state->lent.load(std::memory_order_acquire);
  if (views + scans + lent != 0) {
    return base::fail(WARM_E_BUSY,
                      "views held: %lu, recalls open: %lu, cursors and chunks open: %lu; release and close them first", views,
                      scans, lent);
  }
  state->leave();
  return {};
}

}  // namespace warmtier::libclient
