// Tickets: requests that were handed in and not waited for, and the descriptor that says when to look for their answers.
//
// Thread law: every method by any thread. Lock: `mutex_`, rank: above the client's own mutex; held for looking and copying, and,
// when nothing is finished and a descriptor was asked for, for bringing the client back to a restarted daemon for some
// milliseconds. Nobody waits for an answer under it.
//
// Invariants
//  1. A slot is open from hand_in() to the one harvest of its ticket; its answer is read before its result cell is given back.
//  2. Readable: the descriptor is readable from the moment an answer comes after completions() found none. Kept by protocol L14:
//     the word `notify` is set and the cells are looked at again; what others read off the socket meanwhile, or a socket that was
//     replaced, rings `kick_`.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>

#include "base/error.hpp"
#include "base/fd.hpp"
#include "libclient/futex.hpp"
#include "libclient/lanes.hpp"
#include "warmtier/warmtier.h"

namespace warmtier::libclient {

class ClientState;
class Patience;
struct Connection;
struct ThreadRecord;

class Tickets {
 public:
  explicit Tickets(ClientState& state);
  ~Tickets();
  Tickets(const Tickets&) = delete;
  Tickets& operator=(const Tickets&) = delete;

  // WARM_E_LIMIT when WARM_TICKETS_MAX are open.
  base::Result<warm_ticket> hand_in(ThreadRecord& me, OutgoingRequest& outgoing, Patience& patience);
  // Harvests one. nullopt: not answered, and still open. WARM_E_INVALID: not open.
  base::Result<std::optional<warm_result>> poll(warm_ticket ticket);
  base::Result<std::optional<warm_result>> wait(warm_ticket ticket, Patience& patience);
  // Harvests finished ones; 0 arms the descriptor.
  base::Result<size_t> completions(std::span<warm_completion> ret_completions);
  base::Result<int> completion_fd();

  // Answers are taken out of their cells, which requests of this client are short of.
  void settle_answered();
  // Somebody read what the descriptor waits for, or replaced the socket that it watches.
  void kick() noexcept;

 private:
  struct Slots;
  struct Slot;
  struct Signals;  // what the descriptor is made of

  base::Result<Slot*> open_slot(warm_ticket ticket);
  std::optional<warm_result> harvest(Slot& slot);
  size_t collect(std::span<warm_completion> ret_completions);
  void look_after_daemon(ThreadRecord& me);
  void arm(ThreadRecord& me);

  ClientState& state_;
  const uint64_t first_ticket_;  // older ones are from before a fork, or of another client
  PatientLock mutex_;
  std::unique_ptr<Slots> slots_;  // made with the first ticket
  std::unique_ptr<Signals> signals_;  // made with the first question for the descriptor
  std::atomic<int> kick_{-1};  // eventfd of signals_
};

}  // namespace warmtier::libclient
