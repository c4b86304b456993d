// A channel and its sessions without sockets, a store that only takes notes, and a client that writes lanes by hand: also
// wrongly.
#pragma once

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/fd.hpp"
#include "daemon/session/channel.hpp"
#include "daemon/session/sessions.hpp"
#include "layout/layout.hpp"

namespace warmtier::daemon::session::test {

constexpr uint32_t kDimensions = 4;
constexpr RequestLimits kLimits{.dimensions = kDimensions, .content_bytes_max = 1 << 20};

class TemporaryDirectory {
 public:
  TemporaryDirectory() {
    char name[] = "/tmp/warmtier-session-XXXXXX";
    path_ = ::mkdtemp(name);
    fd_.reset(::open(path_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  }
  ~TemporaryDirectory() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;
  [[nodiscard]] int fd() const { return fd_.get(); }
  [[nodiscard]] const std::string& path() const { return path_; }
  [[nodiscard]] size_t entries() const {
    return static_cast<size_t>(std::distance(std::filesystem::directory_iterator(path_), std::filesystem::directory_iterator()));
  }

 private:
  std::string path_;
  base::Fd fd_;
};

struct Executed {
  std::string id;
  std::string content;
  float first_value = 0;
  store::Origin origin;
};

class NotingExecutor final : public Executor, public Numbers {
 public:
  store::Disposition execute(const store::Request& request, const store::Origin& origin, store::Answer& ret_answer) override {
    if (before) before();
    if (full) return store::Disposition::wait;
    Executed one;
    one.id.assign(reinterpret_cast<const char*>(request.id), request.header.id_bytes);
    if (request.content != nullptr)
      one.content.assign(reinterpret_cast<const char*>(request.content), request.header.content_bytes);
    if (request.header.dimensions > 0) std::memcpy(&one.first_value, request.embedding, sizeof one.first_value);
    one.origin = origin;
    executed.push_back(one);
    ret_answer = {.status = answer_status, .sequence = ++sequence, .slot = 7, .limit = 0};
    return answer_status == WARM_OK ? store::Disposition::effect : store::Disposition::refused;
  }
  store::Foreseen foresee(const std::byte* id, uint32_t id_bytes) override {
    foreseen.emplace_back(reinterpret_cast<const char*>(id), id_bytes);
    return {.next = store::Foreseen::Next::line, .hash = foreseen.size() - 1};
  }
  void foresee_more(store::Foreseen& one) override {
    if (one.next != store::Foreseen::Next::nothing) foreseen_more.push_back(foreseen[one.hash]);
  }
  void request_checkpoint() override { checkpoints.fetch_add(1); }
  void touch(uint32_t slot, uint64_t put_sequence) override { touched.emplace_back(slot, put_sequence); }
  uint64_t take_session_number() override { return next_session++; }
  uint64_t take_channel_number() override { return next_channel++; }

  std::vector<Executed> executed;
  std::vector<std::string> foreseen;
  std::vector<std::string> foreseen_more;  // with every step
  std::vector<std::pair<uint32_t, uint64_t>> touched;
  std::function<void()> before;
  bool full = false;
  int32_t answer_status = WARM_OK;
  uint64_t sequence = 0;
  uint64_t next_session = 1;
  uint64_t next_channel = 1;
  std::atomic<uint64_t> checkpoints{0};
};

inline StoreIdentity identity() {
  StoreIdentity identity;
  std::memset(identity.store_id, 0x11, sizeof identity.store_id);
  std::memset(identity.boot_id, 0x22, sizeof identity.boot_id);
  return identity;
}

// The client's side of the lanes, over a map of its own. Claims are not taken: a test has one thread.
class LaneWriter {
 public:
  LaneWriter(int lanes_memfd, uint32_t lanes) : lanes_(lanes) {
    auto map = base::WriteMapping::map(lanes_memfd, layout::channel_bytes(lanes));
    map_ = std::move(*map);
  }
  static layout::RequestHeader put(const Session& session, uint32_t cell, uint64_t ticket, const std::string& id,
                                   const std::string& content) {
    layout::RequestHeader header{};
    header.session = session.number;
    header.session_index = session.index;
    header.ticket = ticket;
    header.cell = cell;
    header.operation = static_cast<uint16_t>(layout::Operation::put);
    header.given = WARM_GIVEN_CONTENT;
    header.dimensions = kDimensions;
    header.id_bytes = static_cast<uint32_t>(id.size());
    header.content_bytes = content.size();
    return header;
  }
  std::byte* entry(uint32_t lane, uint64_t number) const {
    return map_.data() + layout::channel_entry_offset(lanes_, lane, number);
  }
  uint64_t& commit(uint32_t lane, uint64_t number) const {
    return reinterpret_cast<layout::CommitLine*>(map_.data() + layout::channel_commits_offset())[lane]
        .seq[number % layout::kLaneEntries];
  }
  void fill(uint32_t lane, uint64_t number, const layout::RequestHeader& header, const std::string& id,
            const std::string& content, float value = 1.5F) const {
    std::byte* at = entry(lane, number);
    std::memcpy(at, &header, sizeof header);
    at += sizeof header;
    for (uint32_t i = 0; i < kDimensions; ++i) std::memcpy(at + i * sizeof value, &value, sizeof value);
    at += kDimensions * sizeof value;
    std::memcpy(at, id.data(), id.size());
    std::memcpy(at + id.size(), content.data(), content.size());
  }
  void publish(uint32_t lane, uint64_t number, const layout::RequestHeader& header, const std::string& id,
               const std::string& content) const {
    fill(lane, number, header, id, content);
    layout::store_release(commit(lane, number), number);
  }
  layout::LaneLock& lock(uint32_t lane) const {
    return reinterpret_cast<layout::LaneLock*>(map_.data() + layout::channel_locks_offset(lanes_))[lane];
  }

 private:
  uint32_t lanes_;
  base::WriteMapping map_;
};

// A published channel with one session.
struct Workplace {
  TemporaryDirectory directory;
  NotingExecutor executor;
  layout::StatusPage status{};
  std::unique_ptr<Channel> channel;
  std::vector<std::shared_ptr<Session>> sessions;
  std::vector<base::Fd> memfds;  // of the sessions
  std::unique_ptr<LaneWriter> lanes;

  Workplace() {
    channel = std::move(*Channel::create(directory.fd(), identity(),
                                         {.uid = ::getuid(), .namespace_device = 1, .namespace_inode = 2}, layout::kLanesMin));
    (void)channel->publish(directory.fd(), executor.take_channel_number());
    lanes = std::make_unique<LaneWriter>(channel->lanes_fd(), channel->lanes());
    add_session(0);
  }
  std::shared_ptr<Session> add_session(uint32_t index, layout::Access access = layout::Access::write) {
    auto session = std::make_shared<Session>();
    session->channel = channel.get();
    session->index = index;
    session->access = access;
    session->number = executor.take_session_number();
    session->process = {.pid = static_cast<uint32_t>(::getpid()), .start_time = 1, .pidfs_inode = 1};
    auto memfd = base::make_memfd("test-session", sizeof(layout::SessionRegion));
    session->memfd = *base::inode_of(memfd->get());
    session->region = std::move(*base::WriteMapping::map(memfd->get(), sizeof(layout::SessionRegion)));
    (void)channel->prepare_session(index);
    channel->begin_session(session);
    channel->accept_session(*session);
    memfds.push_back(std::move(*memfd));
    sessions.push_back(session);
    return session;
  }
  bool serve() { return channel->serve(executor, kLimits, status); }
  layout::ResultCell& cell(uint32_t index, uint32_t number) { return channel->results().cell(index, number); }
  uint64_t done(uint32_t lane) { return channel->results().done_line(lane).done; }
  Session& session(size_t i = 0) { return *sessions[i]; }
};

constexpr uint64_t kFirst = layout::kWrapStart;  // the first request number of a lane, and the first ticket of a cell

}  // namespace warmtier::daemon::session::test
