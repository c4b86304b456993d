// Input: steps of a hostile client with a session of its own. It may write any byte of the lanes that it shares with an honest
// one, and does; then the daemon serves. What the daemon executes has to lie within one entry, and the honest client has to be
// answered.
#include <algorithm>
#include <cstring>

#include "base/assert.hpp"
#include "tests/unit/session/fixture.hpp"

using namespace warmtier;
using namespace warmtier::daemon;
using namespace warmtier::daemon::session;
using namespace warmtier::daemon::session::test;

namespace {

constexpr uint32_t kHostile = 0;
constexpr uint32_t kHonest = 1;
constexpr uint32_t kLanes = 4;  // that it writes to: it meets itself again

class Watching final : public Executor {
 public:
  explicit Watching(NotingExecutor& inner) : inner_(inner) {}
  store::Disposition execute(const store::Request& request, const store::Origin& origin, store::Answer& ret_answer) override {
    const layout::RequestHeader& h = request.header;
    const std::byte* entry = request.embedding - sizeof(layout::RequestHeader);
    const std::byte* map = entry - layout::channel_entry_offset(layout::kLanesMin, origin.lane, origin.number);
    if (map_ == nullptr) map_ = map;
    WARM_ASSERT(map == map_);
    WARM_ASSERT(request.id == request.embedding + uint64_t{h.dimensions} * sizeof(float) &&
                request.content == request.id + h.id_bytes);
    WARM_ASSERT(uint64_t{h.dimensions} * sizeof(float) + h.id_bytes + h.content_bytes <= layout::kLanePayloadBytes);
    WARM_ASSERT(origin.cell < layout::kCellsPerSession);
    WARM_ASSERT(h.operation != static_cast<uint16_t>(layout::Operation::clear));  // neither is an administrator
    return inner_.execute(request, origin, ret_answer);
  }
  // A request that has not come yet: its id at least lies within an entry.
  store::Foreseen foresee(const std::byte* id, uint32_t id_bytes) override {
    WARM_ASSERT(id_bytes >= 1 && id_bytes <= layout::kIdBytesMax);
    if (map_ != nullptr) {
      const uint64_t at = static_cast<uint64_t>(id - map_) - layout::channel_entries_offset(layout::kLanesMin);
      WARM_ASSERT(at % layout::kLaneEntryBytes + id_bytes <= sizeof(layout::RequestHeader) + layout::kLanePayloadBytes);
      WARM_ASSERT(at / layout::kLaneEntryBytes < uint64_t{layout::kLanesMin} * layout::kLaneEntries);
    }
    return inner_.foresee(id, id_bytes);
  }
  void request_checkpoint() override { inner_.request_checkpoint(); }
  void touch(uint32_t slot, uint64_t put_sequence) override { inner_.touch(slot, put_sequence); }

 private:
  NotingExecutor& inner_;
  const std::byte* map_ = nullptr;  // the daemon's own, from the first request that came
};

class Steps {
 public:
  Steps(const uint8_t* data, size_t n) : data_(data), left_(n) {}
  [[nodiscard]] bool any() const { return left_ > 0; }
  template <typename T>
  T take() {
    T value{};
    const size_t n = std::min(left_, sizeof value);
    std::memcpy(&value, data_, n);
    data_ += n;
    left_ -= n;
    return value;
  }

 private:
  const uint8_t* data_;
  size_t left_;
};

// One for all inputs: an input begins with the numbers after those of the input before, and nothing else is left of that.
struct Place {
  Workplace w;
  Watching executor{w.executor};
  std::byte* bytes;  // all that a client may write of the lanes, in its own map
  Place() : bytes(w.lanes->entry(0, kFirst) - layout::channel_entry_offset(layout::kLanesMin, 0, kFirst)) {
    w.add_session(kHonest);
  }
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t n) {
  static Place place;
  Workplace& w = place.w;
  Watching& executor = place.executor;
  Steps steps(data, n);
  const auto next_number = [&](uint32_t lane) { return std::max(w.done(lane) + 1, kFirst); };
  const auto next_ticket = [&](uint32_t index, uint32_t cell) { return std::max(w.cell(index, cell).number + 1, kFirst); };
  while (steps.any()) {
    const auto step = steps.take<uint8_t>();
    const uint32_t lane = step >> 3 & (kLanes - 1);
    switch (step & 7) {
      case 0:    // a request as it should be, but for what the input sets
      case 1:    // and of the other session
      case 2: {  // and any header at all
        const uint32_t index = (step & 7) == 1 ? kHonest : kHostile;
        const auto cell = steps.take<uint16_t>();
        const uint64_t ticket = next_ticket(index, cell % layout::kCellsPerSession) + steps.take<uint8_t>();
        auto header = LaneWriter::put(w.session(index), cell, ticket, "hostile", "content");
        const auto field = steps.take<uint8_t>();
        if ((step & 7) == 2) {
          header = steps.take<layout::RequestHeader>();
        } else {
          const auto value = steps.take<uint64_t>();
          std::memcpy(reinterpret_cast<std::byte*>(&header) + field % (sizeof header - sizeof value), &value, sizeof value);
        }
        w.lanes->publish(lane, next_number(lane), header, "hostile", "content");
        break;
      }
      case 3: {  // a word of its own anywhere, of the lanes or of its session
        std::byte* const where = (step & 0x80U) != 0 ? reinterpret_cast<std::byte*>(w.session(kHostile).shared()) : place.bytes;
        const uint64_t bytes = (step & 0x80U) != 0 ? offsetof(layout::SessionRegion, pins)
                                                   : layout::channel_entry_offset(layout::kLanesMin, kLanes, kFirst);
        const uint64_t at = steps.take<uint32_t>() % (bytes - sizeof(uint64_t));
        const auto value = steps.take<uint64_t>();
        std::memcpy(where + at, &value, sizeof value);
        break;
      }
      case 4: w.executor.full = (step >> 3 & 1) != 0; break;
      case 5:
        w.channel->retry_stalled();
        (void)w.channel->anything_published();
        break;
      case 6: (void)w.channel->sweep(executor, kLimits, w.status); break;
      default: (void)w.channel->serve(executor, kLimits, w.status); break;
    }
  }
  // Whatever it left there is served first.
  w.executor.full = false;
  w.channel->retry_stalled();
  while (w.channel->serve(executor, kLimits, w.status)) {
  }
  w.executor.executed.clear();

  constexpr uint32_t kOwnLane = 9;
  const uint64_t ticket = next_ticket(kHonest, 5);
  w.lanes->publish(kOwnLane, next_number(kOwnLane), LaneWriter::put(w.session(kHonest), 5, ticket, "honest", "its content"),
                   "honest", "its content");
  (void)w.channel->serve(executor, kLimits, w.status);
  const auto& executed = w.executor.executed;
  const auto mine = std::ranges::find(executed, "honest", &Executed::id);
  WARM_ASSERT(mine != executed.end() && mine->content == "its content" && w.cell(kHonest, 5).number == ticket);
  w.executor.executed.clear();
  (void)w.channel->take_to_notify();
  return 0;
}
