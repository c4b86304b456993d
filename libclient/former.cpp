// Leaving a channel whose lanes are fenced, and what becomes of the session that is left (docs/protocol.md, S17).
//
// A former session lives on in the daemon with its pins and open requests, and has its connection beside that of the session in
// use. Nothing new comes to stand in it once no thread is inside with the attachment of before the move: from then on its pins
// and the cells that are taken only become fewer, and when there are none it is given up.
#include <algorithm>
#include <memory>
#include <new>
#include <utility>

#include "base/failpoint.hpp"
#include "libclient/client.hpp"

namespace warmtier::libclient {
namespace {

// With the session in use, as many as one accept can name.
constexpr size_t kFormersMax = layout::kForsakenPerMessage - 1;

// A daemon that does not answer, or gives no more sessions, is not asked at each put.
constexpr uint64_t kMoveNsMax = 200 * base::kNsPerMs;
constexpr uint64_t kMoveAgainNs = base::kNsPerSecond;

}  // namespace

void ClientState::move_from(const Link& link, const base::Deadline& deadline) noexcept {
  if (base::monotonic_ns() < next_move_ns_.load(std::memory_order_relaxed) || !WARM_RULE("client.moves_to_another_channel"))
    return;
  // Another thread may be attaching for long; what this one has published is perhaps answered.
  if (!mutex_.try_lock()) return;
  const std::lock_guard guard(mutex_, std::adopt_lock);
  const Attachment* now = attachment.load(std::memory_order_acquire);
  if (now == nullptr || now->link != &link) return;  // another thread has done it
  try {
    auto moved = move(*now, base::Deadline::after_ns(std::min(deadline.left_ns(), kMoveNsMax)));
    move_failure_ = moved ? std::string() : std::move(moved.error().text);
    if (moved) return;
  } catch (const std::bad_alloc&) {
  }
  next_move_ns_.store(base::monotonic_ns() + kMoveAgainNs, std::memory_order_relaxed);
}

std::string ClientState::why_not_moved() {
  if (!mutex_.try_lock()) return {};
  const std::lock_guard guard(mutex_, std::adopt_lock);
  return move_failure_;
}

base::Status ClientState::move(const Attachment& from, const base::Deadline& deadline) {
  if (from.link != links_.back().get()) return base::fail(WARM_E_UNAVAILABLE, "this client has not come back to its daemon yet");
  if (formers_.size() == kFormersMax) {
    return base::fail(WARM_E_LIMIT, "views or requests stand in %zu former sessions of this client", formers_.size());
  }
  auto greeting = greet(socket_path_, std::nullopt, deadline);
  if (!greeting) return base::pass(std::move(greeting));
  auto page = base::inode_of(greeting->status.get());
  if (!page) return base::pass(std::move(page));
  // What is not accepted ends with its socket. To another daemon everything is handed back first.
  if (*page != from.connection->status_inode) return base::fail(WARM_E_UNAVAILABLE, "another daemon answers");
  if (greeting->welcome.channel == from.link->channel_number) {
    return base::fail(WARM_E_LIMIT, "the daemon gives this client the same channel again");
  }
  WARM_FAILPOINT("client.move_welcomed");
  auto arrival = arrive(std::move(*greeting));
  if (!arrival) return base::pass(std::move(arrival));
  auto link = Link::make(std::move(arrival->parts), tier_->store_id);
  if (!link) return base::pass(std::move(link));
  // Whatever wants memory comes before the first step.
  links_.reserve(links_.size() + 1);
  formers_.reserve(formers_.size() + 1);
  const std::shared_ptr<Connection> connection = arrival->connection;
  auto next = attachment_of(std::move(*arrival), **link);
  try {
    if (auto accepted = accept(*connection, deadline); !accepted) {
      send_bye(connection->socket.get());
      forsake((*link)->forsaken());
      return accepted;
    }
    retired_.reserve(retired_.size() + 1);
  } catch (const std::bad_alloc&) {
    send_bye(connection->socket.get());
    throw;
  }
  WARM_FAILPOINT("client.move_accepted");
  Link& old = *links_.back();
  formers_.push_back({.link = &old, .connection = from.connection});
  any_formers_.store(true, std::memory_order_relaxed);
  old.standing.store(Link::Standing::former, std::memory_order_release);
  use(std::move(*link));
  publish(std::move(next));
  formers_.back().epoch = epoch.load(std::memory_order_relaxed);
  WARM_FAILPOINT("client.moved");
  tickets_.kick();
  return {};
}

// An error passes, and everything is tried anew.
base::Status ClientState::hand_back_formers(const base::Deadline& deadline) {
  if (!WARM_RULE("client.formers_are_handed_back")) return {};
  for (size_t i = 0; i < formers_.size();) {
    auto taken = hand_back(formers_[i], deadline);
    if (!taken) return base::pass(std::move(taken));
    if (*taken) {
      ++i;
      continue;
    }
    forsake(formers_[i].link->forsaken());
    formers_[i].link->standing.store(Link::Standing::lost, std::memory_order_release);
    formers_.erase(formers_.begin() + static_cast<ptrdiff_t>(i));
  }
  any_formers_.store(!formers_.empty(), std::memory_order_relaxed);
  return {};
}

// False: the daemon did not take it back.
base::Result<bool> ClientState::hand_back(Former& former, const base::Deadline& deadline) {
  auto greeting = greet(socket_path_, former.link->resume(), deadline);
  if (!greeting) {
    const int32_t code = greeting.error().code;
    if (code == WARM_E_UNAVAILABLE || code == WARM_E_BUSY) return base::pass(std::move(greeting));
    return code == WARM_E_ACCESS;  // its memory was taken
  }
  auto connection = std::make_shared<Connection>();
  connection->number = ++connections_;
  connection->welcome = greeting->welcome;
  connection->socket = base::WatchedFd(std::move(greeting->socket));
  if (connection->welcome.resumed == 0) return false;  // what it gave instead ends with the socket
  Link::Parts parts = Link::parts_of(std::move(*greeting));
  auto same = former.link->same_files(parts);
  if (!same || !*same) return same;
  former.link->take_files(std::move(parts));
  WARM_FAILPOINT("client.former_handed_back");
  const int socket = connection->socket.get();
  if (auto sent = send_accept(socket, forsaken_of(tier_->store_id, layout::kForsakenPerMessage), deadline); !sent) {
    return base::pass(std::move(sent));
  }
  former.connection = std::move(connection);
  return true;
}

void ClientState::send_large_puts_of_formers() {
  for (const Former& former : formers_) {
    if (former.connection->gone.load(std::memory_order_acquire)) continue;
    const bool unsent = large_unsent_.load(std::memory_order_relaxed);
    [[maybe_unused]] const auto sent = send_large_puts(*former.connection, *former.link);
    if (unsent) large_unsent_.store(true, std::memory_order_relaxed);
  }
}

// What still comes on their sockets is nothing to anybody; but descriptors that wait there count against the daemon.
void ClientState::drain_formers() noexcept {
  if (!mutex_.try_lock()) return;
  const std::lock_guard guard(mutex_, std::adopt_lock);
  try {
    for (const Former& former : formers_) {
      [[maybe_unused]] const auto drained = drain(*former.connection);
      former.connection->indexes.clear();
    }
  } catch (const std::bad_alloc&) {  // a later call does it
  }
}

void ClientState::part_with_formers() noexcept {
  if (!mutex_.try_lock()) return;
  const std::lock_guard guard(mutex_, std::adopt_lock);
  if (formers_.empty()) return;
  try {
    const uint64_t oldest = oldest_inside(formers_.back().epoch);
    for (size_t i = 0; i < formers_.size();) {
      if (!part_with(formers_[i], oldest)) {
        ++i;
        continue;
      }
      formers_.erase(formers_.begin() + static_cast<ptrdiff_t>(i));
      WARM_FAILPOINT("client.former_given_up");
    }
  } catch (const std::bad_alloc&) {  // a later call does it
  }
  any_formers_.store(!formers_.empty(), std::memory_order_relaxed);
}

// True: nothing stands in it, and it is given up.
bool ClientState::part_with(const Former& former, uint64_t oldest_inside) {
  if (former.epoch > oldest_inside && WARM_RULE("client.former_until_nobody_is_inside")) return false;
  if (former.link->pins.any_pinned() && WARM_RULE("client.former_until_unpinned")) return false;
  if (former.link->cells.any_open() && WARM_RULE("client.former_until_answered")) return false;
  forsake(former.link->forsaken());
  former.link->standing.store(Link::Standing::given_up, std::memory_order_release);
  former.link->take_files({});
  WARM_FAILPOINT("client.former_before_bye");
  send_bye(former.connection->socket.get());
  return true;
}

}  // namespace warmtier::libclient
