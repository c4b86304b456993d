// A door of the daemon: its intake thread and its store thread without a store, and clients that speak the protocol by hand, well
// or badly.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include <criterion/criterion.h>
#include <sys/socket.h>

#include "base/clock.hpp"
#include "daemon/session/intake.hpp"
#include "layout/describe.hpp"
#include "tests/unit/session/fixture.hpp"

namespace warmtier::daemon::session::test {

constexpr int kPatienceMs = 10'000;

// The intake thread's clock, for allowances, stands still but for this.
void pass(uint64_t ms);

base::Fd some_memfd(uint64_t bytes, int seals);

AccessRules everybody();

// What a daemon of the next version speaks: its own, and the one of this source as the one before.
std::array<layout::Dialect, 2> dialects_of_the_next_version();

// What `body` returns in a child process.
int in_another_process(const std::function<int()>& body);

struct DoorOptions {
  uint32_t sessions_max = 100;
  AccessRules access;
  uid_t own_uid = ::getuid();
  uint64_t descriptors = 100'000;
  std::span<const layout::Dialect> dialects = layout::dialects();
  uint64_t large_bytes_max = 1 << 20;
  uint64_t capacity = 1000;
};

// More segments than one message takes.
constexpr uint64_t kSegments = layout::kSegmentsPerMessage + 5;

// Both threads wait for start().
class Door {
 public:
  explicit Door(const DoorOptions& options = {});
  ~Door();
  Door(const Door&) = delete;
  Door& operator=(const Door&) = delete;
  void start();
  // Adopts a channel of an earlier daemon. Before start().
  void take_over(const Door& earlier, uint64_t channel);
  [[nodiscard]] const std::string& path() const { return path_; }

  TemporaryDirectory directory;
  TemporaryDirectory socket_directory;
  NotingExecutor executor;
  layout::StatusPage status{};
  std::unique_ptr<Intake> intake;

 private:
  World world_;
  store::Published published_;
  std::vector<base::Fd> files_;
  Mailboxes mail_;
  base::Fd epoll_;
  std::unique_ptr<Sessions> sessions_;
  std::string path_;
  std::thread intake_thread_;
  std::thread store_thread_;
};

struct OpenDoor : Door {
  explicit OpenDoor(const DoorOptions& options = {}) : Door(options) { start(); }
};

// Waits for a word that another thread stores; no event tells of it, so a deadline ends it.
template <typename Condition>
bool comes(Condition condition) {
  const auto deadline = base::Deadline::after_ns(uint64_t{kPatienceMs} * base::kNsPerMs);
  while (!condition()) {
    if (deadline.passed()) return false;
    std::this_thread::yield();
  }
  return true;
}

struct Received {
  std::vector<std::byte> bytes;
  std::vector<base::Fd> descriptors;
  template <typename Message>
  [[nodiscard]] Message as() const {
    Message message{};
    std::memcpy(&message, bytes.data(), std::min(bytes.size(), sizeof message));
    return message;
  }
  [[nodiscard]] layout::MessageKind kind() const { return static_cast<layout::MessageKind>(as<layout::MessageHeader>().kind); }
};

class RawClient {
 public:
  explicit RawClient(const std::string& path, int flags = 0);

  static layout::Hello hello();
  // Asks for the session that this client has; with what it hands back, or without.
  [[nodiscard]] layout::Hello hello_again() const;
  [[nodiscard]] std::vector<int> to_hand_back() const { return {descriptors[5].get(), descriptors[6].get()}; }

  template <typename Message>
  void send(const Message& message, const std::vector<int>& with = {}, const std::string& tail = {}) const {
    cr_assert(try_to_send(std::as_bytes(std::span(&message, 1)), with, tail));
  }
  // Where the connection may be closed already, or its queue full.
  template <typename Message>
  void offer(const Message& message, const std::vector<int>& with = {}) const {
    (void)try_to_send(std::as_bytes(std::span(&message, 1)), with, {});
  }
  void accept(const std::vector<uint64_t>& forsaken = {}) const;
  void bye() const;
  void ring() const { cr_assert(::send(fd(), "D", 1, 0) == 1); }
  void ask_for_segments() const;
  void send_large(uint64_t number, const layout::RequestHeader& header, const std::string& id,
                  const std::vector<int>& content) const;
  void close() { socket_.reset(); }

  // nullopt: the daemon closed.
  std::optional<Received> receive() const;
  [[nodiscard]] bool has_mail() const;
  // Greets and takes what follows; nullopt when refused.
  std::optional<layout::Welcome> attach();
  std::optional<layout::Welcome> take_welcome();
  layout::Welcome adopt(Received received);
  void take_segments() const;

  // A put by a lane, for result cell 0, and the bell.
  void ask(uint64_t ticket, uint32_t lane) const;
  // Waits for the answer.
  [[nodiscard]] bool answers(uint64_t ticket, uint32_t cell_number = 0) const;
  [[nodiscard]] layout::RequestHeader request(uint32_t cell_number, uint64_t ticket, const std::string& id,
                                              uint64_t content_bytes) const;
  [[nodiscard]] const layout::SessionEntry& entry() const;
  [[nodiscard]] const layout::ResultCell& cell(uint32_t number) const;
  [[nodiscard]] layout::SessionRegion& memory() const { return *reinterpret_cast<layout::SessionRegion*>(region.data()); }
  [[nodiscard]] int fd() const { return socket_.get(); }
  [[nodiscard]] bool connected() const { return connected_; }

  bool accepts = true;  // each welcome
  layout::Welcome welcome{};
  std::vector<base::Fd> descriptors;
  base::WriteMapping region;
  base::ReadMapping results;
  std::unique_ptr<LaneWriter> lanes;

 private:
  bool try_to_send(std::span<const std::byte> message, const std::vector<int>& with, const std::string& tail) const;

  base::Fd socket_;
  bool connected_ = false;
};

// One that is in.
struct Welcomed : RawClient {
  explicit Welcomed(const Door& door) : RawClient(door.path()) { cr_assert(attach().has_value()); }
};

uint64_t state_of(const RawClient& client);
constexpr auto kLive = static_cast<uint64_t>(layout::SessionState::live);
constexpr auto kOffered = static_cast<uint64_t>(layout::SessionState::offered);
constexpr auto kDead = static_cast<uint64_t>(layout::SessionState::dead);

// The refusal of a hello; its code is WARM_OK when there was none.
layout::Refuse answer_to(const layout::Hello& hello, const Door& door);

// The answer to `question`, whole. Answers to others end the test.
std::vector<layout::SessionReport> ask_who_holds_what(const RawClient& client, uint64_t question);
const layout::SessionReport& report_of(const std::vector<layout::SessionReport>& all, const RawClient& client);

}  // namespace warmtier::daemon::session::test
