#include "libclient/batch.hpp"

#include <array>
#include <new>
#include <optional>
#include <utility>

#include "base/failpoint.hpp"
#include "libclient/tickets.hpp"

namespace warmtier::libclient {
namespace {

class Batch {
 public:
  Batch(ClientState& state, size_t count, const MakeElement& make, warm_result* ret_results)
      : state_(state), me_(state.thread()), count_(count), make_(make), results_(ret_results), patience_(state.timeout_ns) {}

  base::Status run() {
    auto limits = limits_of(state_, me_, patience_);
    if (!limits) return base::pass(std::move(limits));
    limits_ = *limits;
    if (auto ok = check_access(limits_, layout::Access::write); !ok) return ok;
    auto link = ready_link(state_, me_, patience_);
    if (!link) return base::pass(std::move(link));
    link_ = *link;
    while (!over_) {
      try {
        if (!go_on()) break;
      } catch (const std::bad_alloc&) {
        // What is on its way gets its answer; the rest is not handed in.
        while (out_ > 0) {
          if (element(0).request.answered()) {
            finish_first();
          } else {
            await_first();
          }
        }
        if (!over_) give_up(WARM_E_NOMEM);
      }
    }
    state_.let_go_now_and_then(me_);
    state_.part_if_former(*link_);
    return {};
  }

 private:
  // False at the end of the list.
  bool go_on() {
    while (out_ > 0 && element(0).request.answered()) finish_first();
    stage();
    if (staged_ > 0 && publish()) return true;
    const bool large_next = large_ && staged_ == 0 && !WARM_RULE("client.batch_answered_before_socket");
    if (out_ > 0 && !large_next) {
      await_first();
    } else if (staged_ > 0) {
      try_again();
    } else if (large_) {
      carry_out_large();
    } else if (next_ == count_) {
      return false;
    }
    return true;
  }

  struct Element {
    size_t index = 0;
    OutgoingRequest outgoing;
    Request request;
  };
  // From the oldest one on its way to the last one staged.
  Element& element(uint32_t i) noexcept { return window_[(first_ + i) % layout::kLaneEntries]; }
  void progress() noexcept { patience_ = Patience(state_.timeout_ns); }
  void set(size_t index, int32_t code) noexcept { results_[index] = {.code = code, .reserved = 0, .sequence = 0}; }

  void finish_first() {
    Element& first = element(0);
    results_[first.index] = result_of(first.request.answer());
    first.request.give_back();
    first_ = (first_ + 1) % layout::kLaneEntries;
    --out_;
    progress();
  }

  // Makes requests ready as far as there is room for them: in order, up to one that goes by the socket.
  void stage() {
    while (!over_ && out_ + staged_ < layout::kLaneEntries && next_ < count_ && !large_) {
      auto made = make_(next_, limits_);
      if (!made) {
        set(next_++, made.error().code);
        continue;
      }
      if (!fits_lane(*made)) {
        large_ = *made;
        large_index_ = next_++;
        return;
      }
      auto cell = link_->cells.try_claim(me_.number);
      if (!cell) {
        if (out_ + staged_ > 0) return;  // ours come back
        auto waited = claim_cell(state_, *link_, me_, patience_);
        if (!waited) return give_up(waited.error().code);
        cell = *waited;
      }
      Element& next = element(out_ + staged_);
      next.index = next_++;
      next.outgoing = *made;
      next.request = Request(*link_, *cell);
      address(next.outgoing, next.request);
      ++staged_;
    }
  }

  // False: the lane takes none now.
  bool publish() noexcept {
    std::array<const OutgoingRequest*, layout::kLaneEntries> requests{};
    for (uint32_t i = 0; i < staged_; ++i) requests[i] = &element(out_ + i).outgoing;
    std::optional<uint32_t> lane;
    if (out_ > 0 && WARM_RULE("client.batch_keeps_its_lane")) lane = lane_;
    const Handed handed = hand_out(state_, me_, *link_, {requests.data(), staged_}, lane);
    lost_link_ = handed.no_link;
    if (handed.half_fenced) state_.move_from(*link_, patience_.deadline());
    if (handed.count == 0) return false;
    for (uint32_t i = 0; i < handed.count; ++i) element(out_ + i).request.published(handed.rung);
    lane_ = handed.lane;
    out_ += handed.count;
    staged_ -= handed.count;
    rounds_ = {};
    return true;
  }

  void await_first() {
    if (wait_for(state_, me_, element(0).request.awaited(), patience_) == Waited::answered) return;
    for (; out_ > 0; --out_, first_ = (first_ + 1) % layout::kLaneEntries) {
      Element& unanswered = element(0);
      const bool late = unanswered.request.answered();
      results_[unanswered.index] =
          late ? result_of(unanswered.request.answer()) : warm_result{.code = WARM_E_UNKNOWN, .reserved = 0, .sequence = 0};
      unanswered.request.give_back();
    }
    give_up(WARM_E_BUSY);
  }

  // Nothing is on its way, and no lane takes anything.
  void try_again() {
    if (!lost_link_) {
      if (auto on = rounds_.go_on(state_, me_, *link_, patience_); !on) give_up(on.error().code);
      return;
    }
    auto link = ready_link(state_, me_, patience_);
    if (!link) return give_up(link.error().code);
    next_ = large_ ? large_index_ : next_;
    large_.reset();
    next_ -= unstage();
    state_.part_if_former(*std::exchange(link_, *link));
  }
  // Those without an effect lie between the staged ones: what is staged is made anew from the first of them on.
  size_t unstage() noexcept {
    if (staged_ == 0) return 0;
    const size_t first = element(out_).index;
    for (uint32_t i = 0; i < staged_; ++i) element(out_ + i).request.give_back();
    staged_ = 0;
    return next_ - first;
  }

  void carry_out_large() {
    OutgoingRequest outgoing = *large_;
    auto request = submit(state_, me_, outgoing, patience_);
    large_.reset();
    if (!request) {
      const int32_t code = request.error().code;
      set(large_index_, code);
      if (code == WARM_E_BUSY || code == WARM_E_UNAVAILABLE || code == WARM_E_ACCESS) give_up(code);
      return;
    }
    auto answer = await(state_, me_, *request, patience_);
    const Link& link = request->link();
    request->give_back();
    state_.part_if_former(link);
    results_[large_index_] = result_of(answer);
    if (!answer) return give_up(WARM_E_BUSY);
    progress();
  }

  // The rest is not tried.
  void give_up(int32_t code) noexcept {
    if (large_) next_ = large_index_;
    large_.reset();
    next_ -= unstage();
    while (next_ < count_) set(next_++, code);
    over_ = true;
  }

  ClientState& state_;
  ThreadRecord& me_;
  const size_t count_;
  const MakeElement& make_;
  warm_result* const results_;
  Patience patience_;  // since the last answer
  StoreLimits limits_;
  Link* link_ = nullptr;
  uint32_t lane_ = 0;  // of what is on its way
  std::array<Element, layout::kLaneEntries> window_;
  uint32_t first_ = 0;
  uint32_t out_ = 0;     // published and not reaped
  uint32_t staged_ = 0;  // behind them: ready to be published
  size_t next_ = 0;      // element that is not staged yet
  std::optional<OutgoingRequest> large_;  // the element behind them: goes by the socket
  size_t large_index_ = 0;
  PublishRounds rounds_;
  bool lost_link_ = false;
  bool over_ = false;
};

}  // namespace

base::Status carry_out_many(ClientState& state, size_t count, const MakeElement& make, warm_result* ret_results) {
  return Batch(state, count, make, ret_results).run();
}

}  // namespace warmtier::libclient
