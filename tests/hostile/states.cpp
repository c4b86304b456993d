#include "tests/hostile/states.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "base/clock.hpp"
#include "base/fd.hpp"
#include "base/mapping.hpp"
#include "daemon/session/census.hpp"
#include "daemon/session/large.hpp"
#include "daemon/session/sessions.hpp"
#include "layout/control.hpp"
#include "layout/validate.hpp"
#include "layout/words.hpp"
#include "tests/support/chance.hpp"
#include "tests/support/process.hpp"
#include "tests/support/regions.hpp"
#include "tests/support/trouble.hpp"
#include "tests/unit/store/world.hpp"

namespace warmtier::tests::hostile {
namespace {

// Nobody is passed over for long: what is looked for is what a request does.
uint64_t later() {
  static uint64_t now_ns = 0;
  return now_ns += base::kNsPerSecond;
}

using namespace warmtier::daemon;
using session::Channel;
using session::RequestLimits;
using session::Session;
using session::Sessions;
using support::Chance;
using support::require;

constexpr uint32_t kDimensions = 20;
constexpr RequestLimits kLimits{.dimensions = kDimensions, .content_bytes_max = 1 << 18};
constexpr uint64_t kSegmentBytes = 1 << 20;
constexpr uint64_t kCapacity = 1 << 19;
constexpr uint32_t kHostileSessions = 3;
constexpr uint32_t kReader = 1;            // of them, the one that may not write
constexpr uint64_t kStatesPerPhase = 2048;  // every other phase somebody writes meanwhile
constexpr uint64_t kHonestIds = 64;
constexpr uint64_t kPutsPerComparison = 32;  // a look from outside maps the whole store
constexpr uint64_t kFirst = layout::kWrapStart;
constexpr uint32_t kRoundsMax = 4 * layout::kLaneEntries * layout::kLanesMin;

template <typename T>
T must(base::Result<T> result) {
  require(static_cast<bool>(result), "%s", result ? "" : result.error().text.c_str());
  return std::move(*result);
}

// Whatever lies beside a map of client's memory cannot be touched: the kernel says so.
constexpr size_t kGuardBytes = size_t{4} << 20;
constexpr int kMapsTried = 1024;
class Guards {
 public:
  void put(void* address = nullptr, size_t bytes = kGuardBytes) {
    const int fixed = address != nullptr ? MAP_FIXED_NOREPLACE : 0;
    void* const made = ::mmap(address, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | fixed, -1, 0);
    if (made == MAP_FAILED) return;
    begins_.insert(reinterpret_cast<uintptr_t>(made));
    ends_.insert(reinterpret_cast<uintptr_t>(made) + bytes);
  }
  // A gap beside it is closed.
  bool stand_beside(const std::byte* from, size_t bytes) {
    put(const_cast<std::byte*>(from - layout::kPageBytes), layout::kPageBytes);
    put(const_cast<std::byte*>(from + bytes), layout::kPageBytes);
    return ends_.contains(reinterpret_cast<uintptr_t>(from)) && begins_.contains(reinterpret_cast<uintptr_t>(from) + bytes);
  }
  base::WriteMapping map_between(int fd, size_t bytes) {
    std::vector<base::WriteMapping> fillers;  // of the gaps that the kernel finds first
    for (int i = 0; i < kMapsTried; ++i) {
      put();
      base::WriteMapping map = must(base::WriteMapping::map(fd, bytes));
      put();
      if (stand_beside(map.data(), bytes)) return map;
      fillers.push_back(std::move(map));
    }
    require(false, "no place between guards");
    return {};
  }

 private:
  std::set<uintptr_t> begins_;
  std::set<uintptr_t> ends_;
};

// Numbers at which code goes wrong.
uint64_t odd_number(Chance& chance) {
  static constexpr uint64_t kOdd[] = {0,
                                      1,
                                      2,
                                      3,
                                      7,
                                      8,
                                      63,
                                      64,
                                      127,
                                      255,
                                      256,
                                      1023,
                                      1024,
                                      1025,
                                      layout::kLanePayloadBytes,
                                      layout::kLanePayloadBytes + 1,
                                      layout::kViewsMax,
                                      layout::kViewsMax + 1,
                                      kLimits.content_bytes_max,
                                      kLimits.content_bytes_max + 1,
                                      uint64_t{1} << 31,
                                      (uint64_t{1} << 31) - 1,
                                      (uint64_t{1} << 32) - 1,
                                      uint64_t{1} << 32,
                                      layout::kSequenceEnd,
                                      layout::kRequestNumberMax,
                                      uint64_t{1} << 63,
                                      ~uint64_t{0} - 1,
                                      ~uint64_t{0}};
  if (chance.below(4) == 0) return chance.next();
  return kOdd[chance.below(std::size(kOdd))];
}

// Shared bytes: what another thread of this process reads or writes at the same time is the point of it.
void store_any(std::byte* to, const void* from, size_t bytes) { layout::store_bytes(to, from, bytes); }

struct Attached {
  std::shared_ptr<Session> session;
  base::Fd memfd;
  base::WriteMapping map;  // the client's own

  [[nodiscard]] layout::SessionRegion& region() const { return *reinterpret_cast<layout::SessionRegion*>(map.data()); }
};

// ---- the daemon ---------------------------------------------------------------------------------------------------------------

// The store behind the session room, and what must hold of each request that gets there.
class Port final : public session::Executor, public session::Numbers {
 public:
  explicit Port(store::Store& store) : store_(store) {}

  store::Disposition execute(const store::Request& request, const store::Origin& origin, store::Answer& ret_answer) override {
    check(request, origin);
    if (before) before(request, origin);
    return store_.execute(request, origin, ret_answer);
  }
  void settle() override { store_.settle(); }
  store::Foreseen foresee(const std::byte* id, uint32_t id_bytes) override { return store_.foresee(id, id_bytes); }
  void foresee_more(store::Foreseen& foreseen) override { store_.foresee_more(foreseen); }
  void request_checkpoint() override { store_.request_checkpoint(); }
  void touch(uint32_t slot, uint64_t put_sequence) override { touches += store_.touch(slot, put_sequence) ? 1 : 0; }
  uint64_t take_session_number() override { return store_.take_session_number(); }
  uint64_t take_channel_number() override { return store_.take_channel_number(); }

  std::function<void(const store::Request&, const store::Origin&)> before;
  std::function<const Session*(const store::Origin&)> session_of;
  uint64_t touches = 0;

 private:
  void check(const store::Request& request, const store::Origin& origin) const {
    const layout::RequestHeader& header = request.header;
    const Session* who = session_of(origin);
    const bool in_lane = origin.lane != layout::kIntentLaneSocket;
    require(who != nullptr && who->live && who->number == origin.session, "a request of a session that is not live");
    require(who->access >= layout::Access::write, "a request of a session that may not write");
    require(
        layout::validate_request(header, kLimits.dimensions, kLimits.content_bytes_max, in_lane) == layout::RequestVerdict::good,
        "a request that is not valid");
    require(origin.cell < layout::kCellsPerSession && origin.session_index < layout::kSessionsPerChannel, "an answer to nowhere");
    if (!in_lane) return;
    const std::byte* end = request.content + header.content_bytes;
    require(request.id == request.embedding + uint64_t{header.dimensions} * sizeof(float) &&
                request.content == request.id + header.id_bytes &&
                end <= request.embedding - sizeof(layout::RequestHeader) + layout::kLaneEntryBytes,
            "a request that does not lie in its entry");
  }

  store::Store& store_;
};

// One user's channel.
struct Quarter {
  std::unique_ptr<Channel> channel;
  base::WriteMapping lanes;  // the clients' own

  [[nodiscard]] std::byte* entry(uint32_t lane, uint64_t number) const {
    return lanes.data() + layout::channel_entry_offset(channel->lanes(), lane, number);
  }
  [[nodiscard]] uint64_t& commit(uint32_t lane, uint64_t number) const {
    return reinterpret_cast<layout::CommitLine*>(lanes.data() + layout::channel_commits_offset())[lane]
        .seq[number % layout::kLaneEntries];
  }
  [[nodiscard]] uint64_t done(uint32_t lane) const { return layout::load_acquire(channel->results().done_line(lane).done); }
};

class Yard {
 public:
  explicit Yard(uint64_t seed)
      : chance_(seed),
        world_({.dimensions = kDimensions, .capacity = kCapacity, .segment_bytes = kSegmentBytes}),
        port_((world_.start(), *world_.store)) {
    require(mail_.to_store.open().has_value() && mail_.to_intake.open().has_value(), "eventfds");
    channels_.reset(::open(world_.path("channels").c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    sessions_.emplace(port_, port_, mail_, world_.store->status(), kLimits, channels_.get(), base::Deadline::never(), later);
    world_.store->set_pin_source(&*sessions_);
    port_.session_of = [this](const store::Origin& origin) { return session_of(origin); };
    open_quarter(honest_, 1000);
    open_quarter(hostile_, 2000);
    honest_session_ = attach(honest_, 0, layout::Access::write);
    for (uint32_t i = 0; i < kHostileSessions; ++i) attach_hostile(i);
    picture_ = picture();
    for (uint32_t lane = 0; lane < hostile_.channel->lanes(); ++lane) done_.push_back(hostile_.done(lane));
    make_descriptors();
    const layout::Geometry& geometry = world_.store->geometry();
    tier_ = must(base::ReadMapping::map(world_.store->published().tier_fd, geometry.file_bytes(geometry.chunks_max())));
  }
  ~Yard() {
    stop_writing_beside();
    world_.store->set_pin_source(nullptr);
  }

  void state(uint64_t number) {
    const bool raced = number / kStatesPerPhase % 2 == 1;
    if (number % kStatesPerPhase == 0) begin_phase(raced);
    counts_.raced_states += raced ? 1 : 0;
    const uint64_t changes = 1 + chance_.below(4);
    for (uint64_t i = 0; i < changes; ++i) change(!raced);
    drive();
    check_the_others();
    honest_put();
    ++counts_.states;
  }

  // Everything of the honest user, now and in the next life of the store.
  StateCounts finish() {
    stop_writing_beside();
    for (uint64_t i = 0; i < kHonestIds; ++i) compare(i);
    counts_.bad_requests = world_.store->status().bad_requests;
    counts_.touches = port_.touches;
    counts_.checkpoints = world_.store->status().checkpoints;
    world_.store->set_pin_source(&world_.pins);
    world_.kill();
    world_.start();
    require(world_.store->status().damaged_records == 0, "damage in the store");
    for (uint64_t i = 0; i < kHonestIds; ++i) compare(i);
    return counts_;
  }

 private:
  // ---- sessions ----

  void open_quarter(Quarter& quarter, uint32_t uid) {
    guards_.put();
    quarter.channel = must(Channel::create(channels_.get(), store_identity(),
                                           {.uid = uid, .namespace_device = 1, .namespace_inode = 2}, layout::kLanesMin));
    guards_.put();
    for (const support::Map& map : support::maps_of(::getpid())) {
      if (map.inode != must(base::inode_of(quarter.channel->lanes_fd())).inode) continue;
      require(guards_.stand_beside(reinterpret_cast<const std::byte*>(map.from), map.to - map.from),
              "the daemon's map of a channel has a neighbour that can be touched");
    }
    quarter.lanes = guards_.map_between(quarter.channel->lanes_fd(), layout::channel_bytes(quarter.channel->lanes()));
  }
  [[nodiscard]] session::StoreIdentity store_identity() const {
    session::StoreIdentity identity;
    std::memcpy(identity.store_id, world_.store->store_id(), sizeof identity.store_id);
    std::memcpy(identity.boot_id, world_.store->boot_id(), sizeof identity.boot_id);
    return identity;
  }
  Attached attach(Quarter& quarter, uint32_t index, layout::Access access) {
    Attached made{.session = std::make_shared<Session>(),
                  .memfd = must(base::make_memfd("hostile-session", sizeof(layout::SessionRegion))),
                  .map = {}};
    made.map = guards_.map_between(made.memfd.get(), sizeof(layout::SessionRegion));
    Session& session = *made.session;
    session.region = guards_.map_between(made.memfd.get(), sizeof(layout::SessionRegion));
    session.channel = quarter.channel.get();
    session.index = index;
    session.access = access;
    session.process = {.pid = 1, .start_time = 1, .pidfs_inode = 1};
    session.memfd = must(base::inode_of(made.memfd.get()));
    made.region().touches.head = made.region().touches.asked = kFirst;
    require(quarter.channel->prepare_session(index).has_value(), "cells of a session");
    mail_.to_store.post(session::Attach{.session = made.session});
    mail_.to_store.post(session::Accept{.session = made.session, .welcome = 0});
    take_mail();
    require(session.live, "a session that does not begin");
    return made;
  }
  void attach_hostile(uint32_t index) {
    attached_[index] = attach(hostile_, index, index == kReader ? layout::Access::read : layout::Access::write);
    ++counts_.sessions;
  }
  void take_mail() {
    sessions_->take_mail();
    (void)mail_.to_intake.take();
  }
  const Session* session_of(const store::Origin& origin) {
    if (origin.session == honest_session_.session->number) {
      return origin.channel == honest_.channel->number() ? honest_session_.session.get() : nullptr;
    }
    for (const Attached& one : attached_) {
      if (one.session->number == origin.session && origin.channel == hostile_.channel->number()) return one.session.get();
    }
    return nullptr;
  }

  // ---- what a hostile client writes ----

  void change(bool sessions_too) {
    switch (chance_.below(sessions_too ? 12 : 10)) {
      case 0: scribble_lanes(); break;
      case 1: scribble_session(); break;
      case 2:
      case 3:
        for (uint64_t i = 1 + chance_.below(4); i > 0; --i) publish();
        break;
      case 4: lie_in_commit_words(); break;
      case 5: pin(); break;
      case 6: touch(); break;
      case 7: ask(); break;
      case 8: burst(); break;
      case 9: large_put(); break;
      case 10: give_back(); break;
      default:
        if (chance_.below(64) == 0) change_tenant(static_cast<uint32_t>(chance_.below(kHostileSessions)));
        break;
    }
  }

  void scribble(std::byte* at, size_t room) {
    std::array<std::byte, 256> bytes;
    const size_t n = std::min<size_t>(room, size_t{1} << chance_.below(9));
    const uint64_t how = chance_.below(3);
    for (size_t i = 0; i < n; ++i) bytes[i] = how == 0 ? std::byte{0} : how == 1 ? std::byte{0xFF} : std::byte(chance_.next());
    store_any(at, bytes.data(), n);
  }
  void scribble_lanes() {
    const size_t all = hostile_.lanes.bytes();
    const uint32_t lanes = hostile_.channel->lanes();
    const size_t parts[] = {0, layout::channel_commits_offset(), layout::channel_locks_offset(lanes),
                            layout::channel_entries_offset(lanes), all};
    // Every part as often as the next, though the entries are by far the largest.
    const size_t part = chance_.below(4);
    const size_t at = parts[part] + chance_.below(parts[part + 1] - parts[part]);
    scribble(hostile_.lanes.data() + at, all - at);
  }
  void scribble_session() {
    const Attached& one = any_session();
    const size_t front = chance_.below(2) == 0 ? offsetof(layout::SessionRegion, pins) : sizeof(layout::SessionRegion);
    const size_t at = chance_.below(front);
    scribble(one.map.data() + at, sizeof(layout::SessionRegion) - at);
  }
  const Attached& any_session() { return attached_[chance_.below(kHostileSessions)]; }
  uint32_t any_lane() { return static_cast<uint32_t>(chance_.below(hostile_.channel->lanes())); }

  // A request as it should be, of few ids.
  layout::RequestHeader request(const Attached& who, std::string& ret_id, std::string& ret_content) {
    layout::RequestHeader header{};
    header.session = who.session->number;
    header.session_index = who.session->index;
    header.cell = static_cast<uint32_t>(chance_.below(layout::kCellsPerSession));
    header.ticket = layout::load_acquire(hostile_.channel->results().cell(header.session_index, header.cell).number) + 1;
    const uint64_t operation = chance_.below(8);
    header.operation = static_cast<uint16_t>(operation == 0   ? layout::Operation::remove
                                             : operation == 1 ? layout::Operation::update
                                             : operation == 2 ? layout::Operation::clear
                                                              : layout::Operation::put);
    ret_id = "hostile " + std::to_string(chance_.below(64));
    ret_content.clear();
    if (operation == 1) header.given = static_cast<uint32_t>(chance_.below(16));
    if (operation == 2) ret_id.clear();
    if (operation > 2) {
      header.dimensions = kDimensions;
      header.given = WARM_GIVEN_CONTENT;
      const bool long_one = chance_.below(64) == 0;
      ret_content.assign(chance_.below(long_one ? layout::kLanePayloadBytes - 1000 : 200), 'c');
    }
    header.id_bytes = static_cast<uint32_t>(ret_id.size());
    header.content_bytes = ret_content.size();
    return header;
  }
  void spoil(layout::RequestHeader& header) {
    auto* bytes = reinterpret_cast<std::byte*>(&header);
    for (uint64_t i = chance_.below(3); i > 0; --i) {
      const uint64_t value = odd_number(chance_);
      const size_t width = size_t{1} << (1 + chance_.below(3));
      std::memcpy(bytes + chance_.below(sizeof header / width) * width, &value, width);
    }
  }
  void write(uint32_t lane, uint64_t number, const layout::RequestHeader& header, const std::string& id,
             const std::string& content) {
    std::byte* at = hostile_.entry(lane, number);
    store_any(at, &header, sizeof header);
    at += sizeof header;
    std::array<float, kDimensions> embedding;
    for (float& value : embedding) value = chance_.in_unit();
    if (chance_.below(32) == 0) embedding[chance_.below(kDimensions)] = __builtin_nanf("");
    store_any(at, embedding.data(), sizeof embedding);
    at += header.dimensions == kDimensions ? sizeof embedding : 0;
    store_any(at, id.data(), id.size());
    store_any(at + id.size(), content.data(), std::min<size_t>(content.size(), layout::kLanePayloadBytes - 1000));
  }
  void publish() {
    const Attached& who = any_session();
    std::string id;
    std::string content;
    layout::RequestHeader header = request(who, id, content);
    if (chance_.below(3) != 0) spoil(header);
    const uint32_t lane = any_lane();
    const uint64_t number = hostile_.done(lane) + 1;
    write(lane, number, header, id, content);
    layout::store_release(hostile_.commit(lane, number), number);
  }
  void lie_in_commit_words() {
    const uint32_t lane = any_lane();
    const uint64_t number = hostile_.done(lane) + 1 + chance_.below(12);
    const uint64_t lie = chance_.below(2) == 0 ? number : number + chance_.below(17) - 8;
    layout::store_release(hostile_.commit(lane, number), chance_.below(4) == 0 ? odd_number(chance_) : lie);
  }
  void burst() {
    const uint32_t lane = any_lane();
    const uint64_t done = hostile_.done(lane);
    for (uint64_t i = 1; i <= layout::kLaneEntries; ++i) {
      scribble(hostile_.entry(lane, done + i), sizeof(layout::RequestHeader));
      layout::store_release(hostile_.commit(lane, done + i), done + i);
    }
  }
  void pin() {
    layout::SessionRegion& region = any_session().region();
    layout::store_relaxed(region.header.pins_high, static_cast<uint32_t>(odd_number(chance_)));
    for (uint64_t i = chance_.below(32); i > 0; --i) {
      const uint64_t slot = chance_.below(2) == 0 ? chance_.below(4096) : odd_number(chance_);
      layout::store_relaxed(region.pins[chance_.below(chance_.below(2) == 0 ? 64 : layout::kViewsMax)],
                            static_cast<uint32_t>(slot));
    }
  }
  void touch() {
    const Attached& who = any_session();
    layout::TouchRing& ring = who.region().touches;
    const uint64_t taken = layout::load_relaxed(hostile_.channel->results().entry(who.session->index).touches_taken);
    const uint64_t count = chance_.below(32);
    const uint64_t slots = world_.store->status().slots_allocated;
    for (uint64_t i = 0; i < count; ++i) {
      const auto slot = static_cast<uint32_t>(chance_.below(4) == 0 ? odd_number(chance_) : chance_.below(slots));
      const uint64_t put = slot < slots ? layout::sequence_of(line_of(slot).put) : chance_.next();
      layout::store_entry(ring.entries[(taken + i) % layout::kTouchEntries],
                          {.put = layout::touch_word(put, static_cast<uint16_t>(chance_.below(3))),
                           .slot = slot,
                           .position = static_cast<uint32_t>(taken + i)});
    }
    const bool lies = chance_.below(4) == 0;
    layout::store_release(ring.head, lies ? odd_number(chance_) : taken + count);
    layout::store_release(ring.asked, lies ? odd_number(chance_) : taken + count);
  }
  // As every reader sees it.
  const layout::SlotLine& line_of(uint32_t slot) {
    const layout::Geometry& geometry = world_.store->geometry();
    return *reinterpret_cast<const layout::SlotLine*>(tier_.data() + geometry.line_offset(slot));
  }
  void ask() {
    layout::SessionRegion& region = any_session().region();
    layout::store_relaxed(region.notify, static_cast<uint32_t>(odd_number(chance_)));
    layout::store_relaxed(region.sleep[chance_.below(layout::kCellsPerSession)], static_cast<uint32_t>(odd_number(chance_)));
    uint64_t* const counters = &region.counters.gets;
    layout::store_relaxed(counters[chance_.below(6)], odd_number(chance_));
  }

  // A message as the intake thread would get it, with a descriptor of any kind.
  void large_put() {
    if (chance_.below(4) != 0) return;
    const Attached& who = any_session();
    std::string id;
    std::string content;
    layout::PutMessage message{};
    message.request = request(who, id, content);
    message.request.operation = static_cast<uint16_t>(layout::Operation::put);
    message.request.dimensions = kDimensions;
    message.request.given = WARM_GIVEN_CONTENT;
    if (id.empty()) id = "hostile";
    message.request.id_bytes = static_cast<uint32_t>(id.size());
    message.request.content_bytes = kLargeBytes;
    const uint64_t socket_done = layout::load_relaxed(hostile_.channel->results().entry(who.session->index).socket_done);
    message.number = chance_.below(16) == 0 ? odd_number(chance_) : socket_done + 1;
    if (chance_.below(2) == 0) spoil(message.request);
    std::vector<std::byte> bytes(sizeof message + kDimensions * sizeof(float) + id.size());
    message.header = {.kind = static_cast<uint32_t>(layout::MessageKind::put), .bytes = static_cast<uint32_t>(bytes.size())};
    std::memcpy(bytes.data(), &message, sizeof message);
    std::memcpy(bytes.data() + bytes.size() - id.size(), id.data(), id.size());
    if (layout::validate_message(bytes) != layout::Verdict::good) return;
    const base::Fd& with = descriptors_[chance_.below(descriptors_.size())];
    session::LargePut put =
        session::receive_large_put(bytes, with, who.session->access, kLimits, kSegmentBytes / 8, kLimits.content_bytes_max,
                                   [this](uint32_t id_bytes, uint64_t content_bytes, const auto& read) {
                                     return world_.store->stage(id_bytes, content_bytes, read);
                                   });
    require(put.refused || &with == &descriptors_.front(), "content of a wrong descriptor was taken");
    mail_.to_store.post(session::Put{.session = who.session, .put = std::move(put)});
    ++counts_.large_puts;
  }

  // Memory that is not the one that was handed out.
  void give_back() {
    if (chance_.below(8) != 0) return;
    const Attached& who = any_session();
    const base::Fd& with = descriptors_[chance_.below(descriptors_.size())];
    require(!session::check_handed_back(with.get(), who.session->memfd, sizeof(layout::SessionRegion)) &&
                !hostile_.channel->check_lanes(with.get()) && !hostile_.channel->check_lanes(who.memfd.get()),
            "memory of somebody else was taken");
  }
  void change_tenant(uint32_t index) {
    const auto ending = attached_[index].session;
    mail_.to_store.post(session::End{.session = ending});
    take_mail();
    serve_until([&] { return !ending->live; }, "a session that does not end");
    attach_hostile(index);
  }

  static constexpr uint64_t kLargeBytes = 100'000;
  void make_descriptors() {
    const auto memfd = [](uint64_t bytes, int seals) {
      base::Fd fd(::memfd_create("content", MFD_CLOEXEC | MFD_ALLOW_SEALING));
      require(::ftruncate(fd.get(), static_cast<off_t>(bytes)) == 0, "ftruncate");
      require(seals == 0 || ::fcntl(fd.get(), F_ADD_SEALS, seals) == 0, "seals");
      return fd;
    };
    constexpr int kSealed = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE;
    descriptors_.push_back(memfd(kLargeBytes, kSealed));  // the one that is right
    descriptors_.push_back(memfd(kLargeBytes, 0));
    descriptors_.push_back(memfd(kLargeBytes, kSealed & ~F_SEAL_WRITE));
    descriptors_.push_back(memfd(kLargeBytes - 1, kSealed));
    descriptors_.push_back(memfd(uint64_t{1} << 60, kSealed | F_SEAL_SEAL));
    descriptors_.emplace_back(::eventfd(0, EFD_CLOEXEC));
    descriptors_.emplace_back(::open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    descriptors_.emplace_back(::open("/dev/null", O_RDONLY | O_CLOEXEC));
    int ends[2];
    require(::pipe2(ends, O_CLOEXEC) == 0, "a pipe");
    descriptors_.emplace_back(ends[0]);
    descriptors_.emplace_back(ends[1]);
  }

  // Writes everywhere, as fast as it can, while the daemon reads.
  void begin_phase(bool raced) {
    stop_writing_beside();
    for (uint64_t i = 0; i < kHonestIds; ++i) compare(i);
    world_.store->request_checkpoint();
    if (!raced) return;
    writing_.store(true);
    beside_ = std::thread([this, seed = chance_.next()] {
      Chance chance(seed);
      const uint32_t lanes = hostile_.channel->lanes();
      const size_t entries = layout::channel_entries_offset(lanes);
      while (writing_.load(std::memory_order_relaxed)) {
        const uint64_t value = odd_number(chance);
        const Attached& who = attached_[chance.below(kHostileSessions)];
        switch (chance.below(4)) {
          case 0: store_any(hostile_.lanes.data() + chance.below(entries / 8) * 8, &value, sizeof value); break;
          case 1: {
            std::byte* const entry = hostile_.entry(static_cast<uint32_t>(chance.below(lanes)), chance.below(8));
            store_any(entry + chance.below(40) * 8, &value, sizeof value);
            break;
          }
          case 2: store_any(who.map.data() + chance.below(offsetof(layout::SessionRegion, pins) / 8) * 8, &value, 8); break;
          default: store_any(who.map.data() + chance.below(sizeof(layout::SessionRegion) / 8) * 8, &value, 8); break;
        }
      }
    });
  }
  void stop_writing_beside() {
    writing_.store(false);
    if (beside_.joinable()) beside_.join();
  }

  // ---- the daemon's turn, and what must hold after it ----

  void step() {
    while (world_.store->step()) {
    }
    (void)world_.store->wake_at_ns();
  }
  // A round does nothing while the store waits for the device, or for the thread that prepares room.
  template <typename Done>
  void serve_until(const Done& done, const char* what) {
    const base::Deadline deadline = base::Deadline::after_ns(support::kPatienceNs);
    while (!done()) {
      require(!deadline.passed(), "%s", what);
      const bool served = sessions_->serve();
      step();
      if (sessions_->retry() || served) continue;
      pollfd look{.fd = world_.store->event_fd(), .events = POLLIN, .revents = 0};
      (void)::poll(&look, 1, 1);
    }
  }
  void drive() {
    port_.before = [this](const store::Request& request, const store::Origin& origin) { change_meanwhile(request, origin); };
    take_mail();
    for (uint64_t rounds = 1 + chance_.below(layout::kLaneEntries + 1); rounds > 0; --rounds) {
      if (!sessions_->serve()) break;
    }
    sessions_->take_touches();
    sessions_->wake_watchers();
    step();
    sessions_->retry();
    sessions_->refresh_counters();
    (void)sessions_->anything_published();
    require(hostile_.channel->fenced_lanes() <= hostile_.channel->lanes(), "more lanes fenced than there are");
    (void)mail_.to_intake.take();
    if (chance_.below(64) == 0) count_views();
    port_.before = nullptr;
  }
  // Between the copy of the header and the reading of what it names.
  void change_meanwhile(const store::Request& request, const store::Origin& origin) {
    if (origin.channel != hostile_.channel->number()) return;
    ++counts_.executed;
    if (origin.lane == layout::kIntentLaneSocket || chance_.below(2) != 0) return;
    ++counts_.changed_meanwhile;
    std::byte* const entry = hostile_.entry(origin.lane, origin.number);
    const uint64_t value = odd_number(chance_);
    for (int i = 0; i < 4; ++i) store_any(entry + chance_.below(sizeof request.header / 8) * 8, &value, sizeof value);
    scribble(entry + sizeof request.header + chance_.below(256), 64);
  }
  void count_views() {
    std::vector<session::Census::Subject> subjects;
    for (const Attached& one : attached_)
      subjects.push_back({.session = one.session, .uid = 2000, .presence = layout::SessionPresence::attached});
    session::Census census(std::move(subjects));
    uint32_t steps = 1;
    while (!census.step([this](uint32_t slot) { return world_.store->view_bytes(slot); })) {
      require(++steps < 4096, "a count of views that does not end");
    }
    for (const auto& report : census.reports(true, 0)) require(report.views <= layout::kViewsMax, "more views than cells");
  }

  // Everything that the daemon keeps for the other channel: executed numbers, its session's entry, its answers.
  std::vector<std::byte> picture() {
    session::Results& results = honest_.channel->results();
    std::vector<std::byte> all;
    const auto add = [&](const void* from, size_t bytes) {
      all.insert(all.end(), static_cast<const std::byte*>(from), static_cast<const std::byte*>(from) + bytes);
    };
    add(&results.done_line(0), honest_.channel->lanes() * sizeof(layout::DoneLine));
    add(&results.entry(0), sizeof(layout::SessionEntry));
    add(&results.cell(0, 0), layout::kCellsPerSession * sizeof(layout::ResultCell));
    return all;
  }
  void check_the_others() {
    require(picture() == picture_, "something of another user's answers has changed");
    require(honest_session_.session->live, "another user's session has ended");
    for (uint32_t lane = 0; lane < hostile_.channel->lanes(); ++lane) {
      const uint64_t done = hostile_.done(lane);
      require(done >= done_[lane] && done - done_[lane] <= kRoundsMax, "lane %u: executed %llu after %llu", lane,
              static_cast<unsigned long long>(done), static_cast<unsigned long long>(done_[lane]));
      done_[lane] = done;
    }
  }

  // ---- the honest user ----

  static std::string honest_id(uint64_t i) { return "honest " + std::to_string(i); }
  static std::string honest_content(uint64_t i, uint32_t version) {
    return std::string((i * 7 + version) % 300, static_cast<char>('a' + version % 26));
  }
  void honest_put() {
    const uint64_t i = chance_.below(kHonestIds);
    const uint32_t version = ++versions_[i];
    const std::string id = honest_id(i);
    const std::string content = honest_content(i, version);
    const std::vector<float> embedding = World::embedding_of(id, version, kDimensions);
    layout::RequestHeader header{};
    header.session = honest_session_.session->number;
    header.cell = static_cast<uint32_t>(chance_.below(layout::kCellsPerSession));
    layout::ResultCell& cell = honest_.channel->results().cell(0, header.cell);
    header.ticket = cell.number + 1;
    header.operation = static_cast<uint16_t>(layout::Operation::put);
    header.given = WARM_GIVEN_CONTENT;
    header.dimensions = kDimensions;
    header.id_bytes = static_cast<uint32_t>(id.size());
    header.content_bytes = content.size();
    const auto lane = static_cast<uint32_t>(chance_.below(honest_.channel->lanes()));
    const uint64_t number = honest_.done(lane) + 1;
    std::byte* at = honest_.entry(lane, number);
    std::memcpy(at, &header, sizeof header);
    std::memcpy(at + sizeof header, embedding.data(), kDimensions * sizeof(float));
    std::memcpy(at + sizeof header + kDimensions * sizeof(float), id.data(), id.size());
    std::memcpy(at + sizeof header + kDimensions * sizeof(float) + id.size(), content.data(), content.size());
    layout::store_release(honest_.commit(lane, number), number);
    serve_until([&] { return honest_.done(lane) == number; }, "a valid put of another user is not carried out");
    (void)mail_.to_intake.take();
    require(cell.number == header.ticket && cell.status == WARM_OK && cell.sequence > last_sequence_,
            "another user's put was answered with %d (%llu)", cell.status, static_cast<unsigned long long>(cell.limit));
    last_sequence_ = cell.sequence;
    check_hostile_done_again();
    picture_ = picture();
    ++counts_.honest_puts;
    if (chance_.below(kPutsPerComparison) == 0) compare(i);
  }
  // The rounds of the honest put served the hostile channel as well.
  void check_hostile_done_again() {
    for (uint32_t lane = 0; lane < hostile_.channel->lanes(); ++lane) {
      require(hostile_.done(lane) >= done_[lane], "an executed number fell");
      done_[lane] = hostile_.done(lane);
    }
  }
  void compare(uint64_t i) {
    const uint32_t version = versions_[i];
    const std::string id = honest_id(i);
    const auto seen = world_.get(id);
    require(seen.has_value() == (version != 0), "\"%s\" is %s", id.c_str(), seen ? "there" : "not there");
    if (!seen) return;
    require(seen->content == honest_content(i, version) && seen->embedding == World::embedding_of(id, version, kDimensions),
            "\"%s\" holds something else", id.c_str());
    ++counts_.honest_compared;
  }

  Chance chance_;
  World world_;
  Port port_;
  session::Mailboxes mail_;
  Guards guards_;
  base::Fd channels_;
  std::optional<Sessions> sessions_;
  Quarter honest_;
  Quarter hostile_;
  Attached honest_session_;
  std::array<Attached, kHostileSessions> attached_;
  std::vector<base::Fd> descriptors_;
  base::ReadMapping tier_;
  std::vector<std::byte> picture_;
  std::vector<uint64_t> done_;
  std::array<uint32_t, kHonestIds> versions_{};
  uint64_t last_sequence_ = 0;
  StateCounts counts_;
  std::atomic<bool> writing_{false};
  std::thread beside_;
};

}  // namespace

StateCounts run_states(const StateOptions& options) {
  const uint64_t begun_ns = base::monotonic_ns();
  auto yard = std::make_unique<Yard>(options.seed);
  for (uint64_t i = 0; i < options.states; ++i) yard->state(i);
  StateCounts counts = yard->finish();
  counts.seconds = static_cast<double>(base::monotonic_ns() - begun_ns) / 1e9;
  return counts;
}

}  // namespace warmtier::tests::hostile
