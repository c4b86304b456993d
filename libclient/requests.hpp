// One way for every request: a result cell is taken, the request is published in a lane or sent on the socket, its answer comes
// into the cell. A call that waits is a submit and an await; a ticket is a request that somebody else awaits.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <utility>

#include "base/error.hpp"
#include "libclient/client.hpp"
#include "libclient/lanes.hpp"
#include "warmtier/warmtier.h"

namespace warmtier::libclient {

struct Answer {
  int32_t status = WARM_OK;
  uint64_t sequence = 0;
  uint32_t slot = 0;
  uint64_t limit = 0;
};

// Where the answer comes, and what it is known by. Links live as long as the client.
struct Awaited {
  Link* link = nullptr;
  uint32_t cell = 0;
  uint64_t number = 0;
  bool rung = false;  // the daemon slept when it was published

  [[nodiscard]] const layout::ResultCell& result() const noexcept { return link->cells.cell(cell); }
  [[nodiscard]] bool answered() const noexcept { return layout::load_acquire(result().number) >= number; }
};

// Owns a result cell, and gives it back: to its next user, or into quarantine while its answer is still to come.
class Request {
 public:
  Request() = default;
  Request(Link& link, uint32_t cell) noexcept
      : awaited_{.link = &link, .cell = cell, .number = link.cells.next_ticket(cell), .rung = false} {}
  Request(Request&& other) noexcept
      : awaited_(std::exchange(other.awaited_, {})),
        published_(std::exchange(other.published_, false)),
        large_(std::move(other.large_)) {}
  Request& operator=(Request&& other) noexcept {
    if (this == &other) return *this;
    give_back();
    awaited_ = std::exchange(other.awaited_, {});
    published_ = std::exchange(other.published_, false);
    large_ = std::move(other.large_);
    return *this;
  }
  ~Request() { give_back(); }

  void published(bool rung) noexcept {
    published_ = true;
    awaited_.rung = rung;
  }
  void keep(std::shared_ptr<ClientState::LargePut> large) noexcept { large_ = std::move(large); }
  void give_back() noexcept;
  [[nodiscard]] const Awaited& awaited() const noexcept { return awaited_; }
  [[nodiscard]] Link& link() const noexcept { return *awaited_.link; }
  [[nodiscard]] bool any() const noexcept { return awaited_.link != nullptr; }
  [[nodiscard]] bool answered() const noexcept { return awaited_.answered(); }
  // Once it is answered. WARM_E_UNKNOWN when another answer stands there.
  [[nodiscard]] base::Result<Answer> answer() const;

 private:
  Awaited awaited_;
  bool published_ = false;
  std::shared_ptr<ClientState::LargePut> large_;  // until its answer: the next daemon may need it again
};

// What a request is held against before anything is asked of a daemon.
struct StoreLimits {
  uint32_t dimensions = 0;
  uint32_t access = 0;
  uint64_t content_bytes_max = 0;
};
base::Result<StoreLimits> limits_of(ClientState& state, ThreadRecord& me, Patience& patience);
base::Status check_access(const StoreLimits& limits, layout::Access needed);

[[nodiscard]] bool fits_lane(const OutgoingRequest& request) noexcept;

// Publishes or sends. `outgoing.header` says what is asked for; who asks is filled in here. An error: certainly nothing is
// carried out.
base::Result<Request> submit(ClientState& state, ThreadRecord& me, OutgoingRequest& outgoing, Patience& patience);

// The steps of a submit, for who hands in many.
// The link to publish on, with a daemon behind it. Links live as long as the client.
base::Result<Link*> ready_link(ClientState& state, ThreadRecord& me, Patience& patience);
// A result cell that is free, or was an answered ticket's that nobody harvested yet.
base::Result<uint32_t> claim_cell(ClientState& state, Link& link, const ThreadRecord& me, Patience& patience);
// Who asks, and where the answer goes.
void address(OutgoingRequest& outgoing, const Request& request) noexcept;
// A daemon that dozes is told; one that is gone is noticed. True when it had to be told. Inside.
bool ring(const Attachment& a) noexcept;
struct Handed {
  uint32_t count = 0;  // published; 0: no lane took any
  uint32_t lane = 0;
  bool rung = false;
  bool no_link = false;  // another link is in use
  bool half_fenced = false;  // a fenced lane was met, and half of them are: the session is to move
};
// In this lane, or in any.
Handed hand_out(ClientState& state, ThreadRecord& me, const Link& link, const Run& run, std::optional<uint32_t> lane) noexcept;
// Between two tries: yields, looks after the daemon, waits a slice. An error: that was the last one.
class PublishRounds {
 public:
  base::Status go_on(ClientState& state, ThreadRecord& me, const Link& link, Patience& patience);

 private:
  uint32_t rounds_ = 0;
  Slices slices_;
};

// Waits for the answer: first looks, then sleeps, and brings the client back to a daemon that was restarted.
enum class Waited { answered, timeout, no_link };  // no_link: the daemon did not take the session back, and will never answer
Waited wait_for(ClientState& state, ThreadRecord& me, const Awaited& awaited, Patience& patience);
// The same for a call that has no other time to come back: WARM_E_UNKNOWN at the deadline.
base::Result<Answer> await(ClientState& state, ThreadRecord& me, const Request& request, Patience& patience);

base::Status unknown(const char* why);
// What an answer means: the operation's sequence, or its refusal in words, with the id where the caller has it.
base::Result<uint64_t> outcome(const Answer& answer, const void* id = nullptr, size_t id_bytes = 0);
warm_result result_of(const base::Result<Answer>& answer);

}  // namespace warmtier::libclient
