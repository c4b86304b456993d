// The intake thread against clients that speak the protocol by hand, well or badly; the store only takes notes.
#include <criterion/criterion.h>
#include <grp.h>
#include <linux/futex.h>
#include <poll.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <deque>
#include <future>
#include <optional>
#include <thread>

#include "daemon/session/intake.hpp"
#include "layout/describe.hpp"
#include "layout/validate.hpp"
#include "tests/support/lingering.hpp"
#include "tests/support/omit.hpp"
#include "tests/unit/session/fixture.hpp"

using namespace warmtier;
using namespace warmtier::daemon;
using namespace warmtier::daemon::session;
using namespace warmtier::daemon::session::test;

namespace {

constexpr int kPatienceMs = 10'000;

// The intake thread's, for allowances; it stands still but where a test says otherwise.
std::atomic<uint64_t> g_now_ns{1};
uint64_t now() { return g_now_ns.load(); }
void pass(uint64_t ms) { g_now_ns.fetch_add(ms * base::kNsPerMs); }

base::Fd some_memfd(uint64_t bytes, int seals) {
  base::Fd fd(::memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  cr_assert(::ftruncate(fd.get(), static_cast<off_t>(bytes)) == 0);
  if (seals != 0) cr_assert(::fcntl(fd.get(), F_ADD_SEALS, seals) == 0);
  return fd;
}

// Intake and store thread as in the daemon, without a store.
class Door {
 public:
  explicit Door(uint32_t sessions_max = 100, AccessRules rules = {}, uid_t own_uid = ::getuid(), uint64_t descriptors = 100'000,
                std::span<const layout::Dialect> dialects = layout::dialects(), uint64_t large_bytes_max = 1 << 20,
                uint64_t capacity = 1000) {
    cr_assert(mail_.to_store.open().has_value());
    cr_assert(mail_.to_intake.open().has_value());
    for (int* fd : {&published_.index_fd, &published_.tier_fd, &published_.feed_fd, &published_.status_fd}) {
      files_.push_back(some_memfd(4096, 0));
      *fd = files_.back().get();
    }
    published_.generation = 17;
    published_.homes_log2 = 12;
    published_.segment_epoch = 3;
    // One message of segments is not enough.
    for (uint64_t number = 1; number <= layout::kSegmentsPerMessage + 5; ++number) {
      files_.push_back(some_memfd(4096, 0));
      published_.segments.push_back({.number = number, .fd = files_.back().get()});
    }
    world_.dialects = dialects;
    world_.access = std::move(rules);
    world_.own_uid = own_uid;
    world_.limits = kLimits;
    world_.store = identity();
    world_.capacity = capacity;
    world_.own_segment_above_bytes = 1 << 19;
    world_.lanes = layout::kLanesMin;
    world_.sessions_max = sessions_max;
    world_.descriptors = descriptors;
    world_.large_bytes_max = large_bytes_max;
    world_.channels_directory = directory.fd();
    world_.published = &published_;
    world_.status = &status;
    world_.view_bytes = [](uint32_t slot) -> uint64_t { return slot < 100 ? 1000 + slot : 0; };
    status.sleeping = 1;
    epoll_.reset(::epoll_create1(EPOLL_CLOEXEC));
    sessions_ = std::make_unique<Sessions>(executor, executor, mail_, status, kLimits, directory.fd(), base::Deadline::never());
    const Stage stage = [](uint32_t, uint64_t bytes, const auto& read) -> base::Result<store::StagedContent> {
      std::vector<std::byte> memory(bytes);
      if (auto s = read(memory.data(), 0, bytes); !s) return base::pass(std::move(s));
      return store::StagedContent();
    };
    intake = std::make_unique<Intake>(world_, mail_, stage, epoll_.get(), now);
    path_ = socket_directory.path() + "/sock";
    auto listener = listen_at(path_, 0600);
    cr_assert(listener.has_value());
    // As a service manager may hand it over.
    cr_assert(::fcntl(listener->fd.get(), F_SETFL, ::fcntl(listener->fd.get(), F_GETFL) & ~O_NONBLOCK) == 0);
    cr_assert(intake->open(std::move(listener->fd)).has_value());
  }
  void start() {
    epoll_event event{};
    event.events = EPOLLIN;
    cr_assert(::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, mail_.to_store.event_fd(), &event) == 0);
    intake_thread_ = std::thread([this] { intake->run(); });
    store_thread_ = std::thread([this] {
      for (;;) {
        epoll_event events[4];
        (void)::epoll_wait(epoll_.get(), events, 4, -1);
        if (sessions_->take_mail()) return;
        sessions_->wake_watchers();
        while (sessions_->serve() || sessions_->anything_published()) {
        }
        rounds.fetch_add(1);
      }
    });
  }
  ~Door() {
    mail_.to_store.post(Stop{});
    if (store_thread_.joinable()) store_thread_.join();
    mail_.to_intake.post(Quit{});
    if (intake_thread_.joinable()) intake_thread_.join();
  }
  void adopt() {
    Kept nothing;
    auto earlier = adopt_channels(directory.fd(), identity(), world_.access, ::getuid(), false, nothing);
    for (AdoptedChannel& one : *earlier) {
      auto adopted = intake->adopt(std::move(one));
      sessions_->adopt(adopted->channel, adopted->orphans);
    }
  }
  [[nodiscard]] const std::string& path() const { return path_; }

  TemporaryDirectory directory;
  TemporaryDirectory socket_directory;
  NotingExecutor executor;
  layout::StatusPage status{};
  std::unique_ptr<Intake> intake;
  std::atomic<uint64_t> rounds{0};

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

AccessRules everybody() {
  AccessRules rules;
  rules.others = layout::Access::write;
  return rules;
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
  explicit RawClient(const std::string& path, int flags = 0) {
    socket_.reset(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | flags, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    cr_assert_lt(path.size(), sizeof address.sun_path);
    path.copy(address.sun_path, path.size());
    connected_ = ::connect(socket_.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0;
  }
  static layout::Hello hello() {
    layout::Hello hello{};
    hello.header = {.kind = static_cast<uint32_t>(layout::MessageKind::hello), .bytes = sizeof hello};
    hello.protocol_version = layout::kProtocolVersion;
    const auto own = layout::fingerprints();
    std::copy(own.begin(), own.end(), hello.fingerprints);
    hello.namespace_device = 4;
    hello.namespace_inode = 5;
    return hello;
  }
  template <typename Message>
  void send(const Message& message, const std::vector<int>& with = {}, const std::string& tail = {}) const {
    std::vector<std::byte> bytes(sizeof message + tail.size());
    std::memcpy(bytes.data(), &message, sizeof message);
    std::memcpy(bytes.data() + sizeof message, tail.data(), tail.size());
    std::vector<base::Fd> owned;
    for (int fd : with) owned.emplace_back(::dup(fd));
    cr_assert(send_packet(socket_.get(), bytes, owned) == Sent::sent);
  }
  // Where the connection may be closed already, or its queue full.
  template <typename Message>
  void offer(const Message& message, const std::vector<int>& with = {}) const {
    std::vector<base::Fd> owned;
    for (int fd : with) owned.emplace_back(::dup(fd));
    (void)send_packet(socket_.get(), std::as_bytes(std::span(&message, 1)), owned);
  }
  // nullopt: the daemon closed.
  std::optional<Received> receive() const {
    pollfd look{.fd = socket_.get(), .events = POLLIN, .revents = 0};
    cr_assert(::poll(&look, 1, kPatienceMs) == 1, "nothing came");
    Received received;
    received.bytes.resize(64 * 1024);
    iovec part{.iov_base = received.bytes.data(), .iov_len = received.bytes.size()};
    alignas(cmsghdr) std::byte control[CMSG_SPACE(253 * sizeof(int))];
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    const ssize_t got = ::recvmsg(socket_.get(), &message, MSG_CMSG_CLOEXEC);
    if (got <= 0) return std::nullopt;
    received.bytes.resize(static_cast<size_t>(got));
    for (cmsghdr* c = CMSG_FIRSTHDR(&message); c != nullptr; c = CMSG_NXTHDR(&message, c)) {
      const size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
      for (size_t i = 0; i < count; ++i) {
        int fd = -1;
        std::memcpy(&fd, CMSG_DATA(c) + i * sizeof fd, sizeof fd);
        received.descriptors.emplace_back(fd);
      }
    }
    return received;
  }
  // Greets and takes what follows; empty when refused.
  std::optional<layout::Welcome> attach() {
    send(hello());
    return take_welcome();
  }
  std::optional<layout::Welcome> take_welcome() {
    auto received = receive();
    if (!received || received->kind() != layout::MessageKind::welcome) return std::nullopt;
    return adopt(std::move(*received));
  }
  layout::Welcome adopt(Received received) {
    welcome = received.as<layout::Welcome>();
    descriptors = std::move(received.descriptors);
    cr_assert_eq(descriptors.size(), layout::kWelcomeDescriptors);
    region = std::move(*base::WriteMapping::map(descriptors[6].get(), sizeof(layout::SessionRegion)));
    results = std::move(*base::ReadMapping::map(descriptors[4].get(), layout::results_bytes(welcome.lanes)));
    lanes = std::make_unique<LaneWriter>(descriptors[5].get(), welcome.lanes);
    if (accepts) accept();
    return welcome;
  }
  void accept(const std::vector<uint64_t>& forsaken = {}) const {
    layout::Accept message{};
    message.header = {.kind = static_cast<uint32_t>(layout::MessageKind::accept), .bytes = sizeof message};
    message.count = static_cast<uint32_t>(forsaken.size());
    std::copy(forsaken.begin(), forsaken.end(), message.sessions);
    send(message);
  }
  void bye() const { send(layout::Bye{{.kind = static_cast<uint32_t>(layout::MessageKind::bye), .bytes = sizeof(layout::Bye)}}); }
  void take_segments() const {
    for (;;) {
      auto received = receive();
      cr_assert(received.has_value());
      cr_assert(received->kind() == layout::MessageKind::segments);
      if (received->as<layout::Segments>().last != 0) return;
    }
  }
  [[nodiscard]] const layout::SessionEntry& entry() const {
    return reinterpret_cast<const layout::SessionEntry*>(results.data() +
                                                         layout::results_sessions_offset(welcome.lanes))[welcome.session_index];
  }
  [[nodiscard]] const layout::ResultCell& cell(uint32_t number) const {
    return reinterpret_cast<const layout::ResultCell*>(
        results.data() +
        layout::results_cells_offset(welcome.lanes))[uint64_t{welcome.session_index} * layout::kCellsPerSession + number];
  }
  [[nodiscard]] layout::RequestHeader request(uint32_t cell_number, uint64_t ticket, const std::string& id,
                                              uint64_t content_bytes) const {
    Session session;
    session.number = welcome.session;
    session.index = welcome.session_index;
    layout::RequestHeader header = LaneWriter::put(session, cell_number, ticket, id, "");
    header.content_bytes = content_bytes;
    return header;
  }
  void send_large(uint64_t number, const layout::RequestHeader& header, const std::string& id,
                  const std::vector<int>& content) const {
    layout::PutMessage message{};
    message.number = number;
    message.request = header;
    const std::string tail = std::string(kDimensions * sizeof(float), '\0') + id;
    message.header = {.kind = static_cast<uint32_t>(layout::MessageKind::put),
                      .bytes = static_cast<uint32_t>(sizeof message + tail.size())};
    send(message, content, tail);
  }
  void ring() const { cr_assert(::send(socket_.get(), "D", 1, 0) == 1); }
  void close() { socket_.reset(); }
  [[nodiscard]] int fd() const { return socket_.get(); }
  [[nodiscard]] bool connected() const { return connected_; }

  bool accepts = true;  // each welcome
  layout::Welcome welcome{};
  std::vector<base::Fd> descriptors;
  base::WriteMapping region;
  base::ReadMapping results;
  std::unique_ptr<LaneWriter> lanes;

 private:
  base::Fd socket_;
  bool connected_ = false;
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

uint64_t state_of(const RawClient& client) { return layout::load_acquire(client.entry().state); }
constexpr auto kLive = static_cast<uint64_t>(layout::SessionState::live);
constexpr auto kOffered = static_cast<uint64_t>(layout::SessionState::offered);
constexpr auto kDead = static_cast<uint64_t>(layout::SessionState::dead);

}  // namespace

Test(intake, welcome_hands_out_everything_and_all_segments) {
  Door door;
  door.start();
  RawClient client(door.path());
  cr_assert(client.attach().has_value());
  cr_assert_eq(client.welcome.generation, 17);
  cr_assert_eq(client.welcome.resumed, 0);
  cr_assert_eq(client.welcome.dimensions, kDimensions);
  cr_assert_eq(client.welcome.access, static_cast<uint32_t>(layout::Access::admin));
  cr_assert_eq(client.entry().number, client.welcome.session);
  for (size_t i = 0; i < 5; ++i) {
    cr_assert_eq(::fcntl(client.descriptors[i].get(), F_GETFL) & O_ACCMODE, O_RDONLY, "descriptor %zu can be written", i);
  }
  auto first = client.receive();
  cr_assert_eq(state_of(client), kLive);
  cr_assert_eq(first->descriptors.size(), layout::kSegmentsPerMessage);
  cr_assert_eq(first->as<layout::Segments>().last, 0);
  auto second = client.receive();
  cr_assert_eq(second->descriptors.size(), 5);
  cr_assert_eq(second->as<layout::Segments>().last, 1);
  cr_assert_eq(second->as<layout::Segments>().epoch, 3);
  cr_assert_eq(second->as<layout::Segments>().numbers[4], layout::kSegmentsPerMessage + 5);

  layout::SegmentsWanted wanted{{.kind = static_cast<uint32_t>(layout::MessageKind::segments_wanted), .bytes = sizeof wanted}};
  client.send(wanted);
  client.take_segments();
}

Test(intake, requests_are_served_through_the_lanes_when_the_bell_rings) {
  Door door;
  door.start();
  RawClient client(door.path());
  cr_assert(client.attach().has_value());
  client.lanes->publish(5, kFirst, client.request(0, kFirst, "id", 0), "id", "");
  client.ring();
  cr_assert(comes([&] { return layout::load_acquire(client.cell(0).number) == kFirst; }));
  cr_assert_eq(client.cell(0).status, WARM_OK);
}

Test(intake, processes_of_one_user_and_namespace_share_a_channel) {
  Door door;
  door.start();
  RawClient a(door.path());
  RawClient b(door.path());
  RawClient c(door.path());
  cr_assert(a.attach().has_value());
  cr_assert(b.attach().has_value());
  layout::Hello other = RawClient::hello();
  other.namespace_inode = 99;
  c.send(other);
  cr_assert(c.take_welcome().has_value());
  cr_assert_eq(a.welcome.channel, b.welcome.channel);
  cr_assert_neq(a.welcome.session_index, b.welcome.session_index);
  cr_assert_neq(a.welcome.channel, c.welcome.channel);
}

Test(intake, private_channels_are_not_shared_and_go_with_their_session) {
  AccessRules rules;
  rules.private_channel = true;
  Door door(100, rules);
  door.start();
  RawClient a(door.path());
  RawClient b(door.path());
  cr_assert(a.attach().has_value());
  cr_assert(b.attach().has_value());
  cr_assert_neq(a.welcome.channel, b.welcome.channel);
  a.take_segments();
  a.send(layout::Bye{{.kind = static_cast<uint32_t>(layout::MessageKind::bye), .bytes = sizeof(layout::Bye)}});
  cr_assert(comes([&] { return !std::filesystem::exists(door.directory.path() + "/" + results_name(a.welcome.channel)); }));
  cr_assert_eq(door.directory.entries(), 1);
}

Test(intake, channel_with_half_its_lanes_fenced_gets_no_new_sessions) {
  Door door;
  door.start();
  RawClient a(door.path());
  cr_assert(a.attach().has_value());
  for (uint32_t lane = 0; lane < a.welcome.lanes / 2; ++lane) a.lanes->lock(lane).fenced = 1;
  RawClient b(door.path());
  cr_assert(b.attach().has_value());
  cr_assert_neq(a.welcome.channel, b.welcome.channel);
  // The old one is served on.
  a.lanes->publish(0, kFirst, a.request(0, kFirst, "id", 0), "id", "");
  a.ring();
  cr_assert(comes([&] { return layout::load_acquire(a.cell(0).number) == kFirst; }));
}

Test(intake, wrong_version_and_layout_are_refused_with_both_numbers) {
  Door door;
  door.start();
  {
    RawClient client(door.path());
    auto hello = RawClient::hello();
    hello.protocol_version = 9;
    client.send(hello);
    const auto refuse = client.receive()->as<layout::Refuse>();
    cr_assert_eq(refuse.code, WARM_E_VERSION);
    cr_assert_str_eq(refuse.text, "the library speaks protocol 9, this daemon 1");
    cr_assert(!client.receive().has_value(), "and closed");
  }
  RawClient client(door.path());
  auto hello = RawClient::hello();
  hello.fingerprints[2] ^= 1;
  client.send(hello);
  const auto refuse = client.receive()->as<layout::Refuse>();
  cr_assert_eq(refuse.code, WARM_E_VERSION);
  cr_assert(std::strstr(refuse.text, "index") != nullptr, "%s", refuse.text);
}

// The library of this source is then the one before the daemon's.
Test(intake, library_of_the_version_before_is_served_in_its_own) {
  auto next = layout::dialects().front();
  ++next.protocol_version;
  for (uint64_t& print : next.fingerprints) print ^= 1;
  const std::array<layout::Dialect, 2> dialects = {next, layout::dialects().front()};
  Door door(100, {}, ::getuid(), 100'000, dialects);
  door.start();
  RawClient client(door.path());
  client.send(RawClient::hello());
  auto received = client.receive();
  cr_assert(received.has_value());
  cr_assert(layout::validate_message(received->bytes) == layout::Verdict::good, "the library takes it for its own version");
  cr_assert_eq(received->as<layout::Welcome>().protocol_version, layout::kProtocolVersion);
  client.adopt(std::move(*received));
  client.take_segments();
  client.lanes->publish(0, kFirst, client.request(0, kFirst, "id", 0), "id", "");
  client.ring();
  cr_assert(comes([&] { return layout::load_acquire(client.cell(0).number) == kFirst; }));

  const auto refused = [&](uint32_t version, const std::array<uint64_t, layout::kRegions>& prints) {
    RawClient other(door.path());
    auto hello = RawClient::hello();
    hello.protocol_version = version;
    std::ranges::copy(prints, hello.fingerprints);
    other.send(hello);
    const auto answer = other.receive();
    return answer->kind() == layout::MessageKind::refuse ? answer->as<layout::Refuse>() : layout::Refuse{};
  };
  cr_assert_eq(refused(next.protocol_version, next.fingerprints).code, WARM_OK, "its own version is served too");
  cr_assert_eq(refused(next.protocol_version, layout::fingerprints()).code, WARM_E_VERSION, "each by its own fingerprints");
  cr_assert_eq(refused(layout::kProtocolVersion, next.fingerprints).code, WARM_E_VERSION);
  const auto later = refused(next.protocol_version + 1, next.fingerprints);
  cr_assert_eq(later.code, WARM_E_VERSION);
  cr_assert_str_eq(later.text, "the library speaks protocol 3, this daemon 2 and 1");
}

// Else it could not read why.
Test(intake, library_of_the_version_before_is_refused_in_its_own) {
  auto next = layout::dialects().front();
  ++next.protocol_version;
  const std::array<layout::Dialect, 2> dialects = {next, layout::dialects().front()};
  AccessRules rules;
  rules.users = {{::getuid(), layout::Access::none}};
  Door door(100, rules, ::getuid(), 100'000, dialects);
  door.start();
  for (const layout::Dialect& one : dialects) {
    RawClient client(door.path());
    auto hello = RawClient::hello();
    hello.protocol_version = one.protocol_version;
    client.send(hello);
    const auto refuse = client.receive()->as<layout::Refuse>();
    cr_assert_eq(refuse.code, WARM_E_ACCESS);
    cr_assert_eq(refuse.protocol_version, one.protocol_version);
  }
}

Test(intake, user_without_access_is_refused) {
  AccessRules rules;
  rules.users = {{::getuid(), layout::Access::none}};
  Door door(100, rules);
  door.start();
  RawClient client(door.path());
  client.send(RawClient::hello());
  cr_assert_eq(client.receive()->as<layout::Refuse>().code, WARM_E_ACCESS);
}

Test(intake, sessions_beyond_the_limit_are_refused_with_it) {
  Door door(2);
  door.start();
  RawClient a(door.path());
  RawClient b(door.path());
  cr_assert(a.attach().has_value());
  cr_assert(b.attach().has_value());
  RawClient c(door.path());
  c.send(RawClient::hello());
  const auto refuse = c.receive()->as<layout::Refuse>();
  cr_assert_eq(refuse.code, WARM_E_LIMIT);
  cr_assert(std::strstr(refuse.text, "2 sessions") != nullptr);
  // Who has a session already comes back to it.
  b.take_segments();
  b.close();
  RawClient again(door.path());
  auto hello = RawClient::hello();
  hello.resume_session = b.welcome.session;
  hello.resume_channel = b.welcome.channel;
  hello.resume_index = b.welcome.session_index;
  again.send(hello);
  cr_assert(again.take_welcome().has_value());
  cr_assert_eq(again.welcome.resumed, 1);
  // One goes, one may come.
  a.take_segments();
  a.send(layout::Bye{{.kind = static_cast<uint32_t>(layout::MessageKind::bye), .bytes = sizeof(layout::Bye)}});
  cr_assert(comes([&] { return state_of(a) == kDead; }));
  cr_assert(comes([&] {
    RawClient d(door.path());
    return d.attach().has_value();
  }));
}

Test(intake, end_of_file_does_not_end_a_session) {
  Door door;
  door.start();
  RawClient client(door.path());
  cr_assert(client.attach().has_value());
  auto* region = reinterpret_cast<layout::SessionRegion*>(client.region.data());
  region->header.pins_high = 1;
  region->pins[0] = 3;
  client.close();
  // Another one's attach is handled after it.
  RawClient other(door.path());
  cr_assert(other.attach().has_value());
  cr_assert_eq(state_of(client), kLive);
  cr_assert_eq(layout::load_acquire(door.status.pins_voided), 0);
  // Its requests are still carried out.
  client.lanes->publish(5, kFirst, client.request(0, kFirst, "id", 0), "id", "");
  other.ring();
  cr_assert(comes([&] { return layout::load_acquire(client.cell(0).number) == kFirst; }));
}

Test(intake, death_of_the_process_ends_its_session_also_when_another_holds_its_socket) {
  Door door;
  door.start();
  int pipe_fds[2];
  cr_assert(::pipe(pipe_fds) == 0);
  const pid_t child = ::fork();
  if (child == 0) {
    RawClient client(door.path());
    if (!client.attach().has_value()) ::_exit(1);
    auto* region = reinterpret_cast<layout::SessionRegion*>(client.region.data());
    region->header.pins_high = 2;
    region->pins[1] = 3;
    const pid_t grandchild = ::fork();
    if (grandchild == 0) {
      char byte = 0;
      ::close(pipe_fds[1]);
      (void)!::read(pipe_fds[0], &byte, 1);  // lives, with the socket, until the test is over
      ::_exit(0);
    }
    ::kill(::getpid(), SIGKILL);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  cr_assert(WIFSIGNALED(status));
  cr_assert(comes([&] { return layout::load_acquire(door.status.sessions_ended) == 1; }));
  cr_assert_eq(layout::load_acquire(door.status.pins_voided), 1);
  cr_assert_eq(layout::load_acquire(door.status.sessions), 0);
  ::close(pipe_fds[0]);
  ::close(pipe_fds[1]);
}

Test(intake, session_of_this_daemon_is_resumed_on_a_new_socket) {
  Door door;
  door.start();
  RawClient client(door.path());
  cr_assert(client.attach().has_value());
  client.lanes->publish(0, kFirst, client.request(0, kFirst, "id", 0), "id", "");
  client.ring();
  cr_assert(comes([&] { return layout::load_acquire(client.cell(0).number) == kFirst; }));
  client.close();
  RawClient again(door.path());
  auto hello = RawClient::hello();
  hello.resume_session = client.welcome.session;
  hello.resume_channel = client.welcome.channel;
  hello.resume_index = client.welcome.session_index;
  again.send(hello, {client.descriptors[5].get(), client.descriptors[6].get()});
  cr_assert(again.take_welcome().has_value());
  cr_assert_eq(again.welcome.resumed, 1);
  cr_assert_eq(again.welcome.session, client.welcome.session);
  again.take_segments();
  again.lanes->publish(0, kFirst + 1, again.request(0, kFirst + 1, "id", 0), "id", "");
  again.ring();
  cr_assert(comes([&] { return layout::load_acquire(client.cell(0).number) == kFirst + 1; }));
}

Test(intake, hand_back_of_other_memory_entry_or_namespace_gets_a_fresh_session) {
  Door door;
  door.start();
  RawClient client(door.path());
  cr_assert(client.attach().has_value());
  for (int which = 0; which < 5; ++which) {
    auto hello = RawClient::hello();
    hello.resume_session = client.welcome.session + (which == 0 ? 100 : 0);
    hello.resume_channel = client.welcome.channel + (which == 1 ? 1 : 0);
    hello.resume_index = client.welcome.session_index + (which == 2 ? 1 : 0);
    hello.namespace_inode += which == 3 ? 1 : 0;
    base::Fd forged = some_memfd(sizeof(layout::SessionRegion), F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
    RawClient again(door.path());
    again.send(hello, {client.descriptors[5].get(), which == 4 ? forged.get() : client.descriptors[6].get()});
    cr_assert(again.take_welcome().has_value(), "case %d", which);
    cr_assert_eq(again.welcome.resumed, 0, "case %d", which);
    cr_assert_neq(again.welcome.session, client.welcome.session);
  }
  cr_assert_eq(state_of(client), kLive);
}

// The daemon is replaced by a newer one under a client that goes on: only its new hello says what it speaks.
Test(intake, orphan_of_the_version_before_is_taken_back_in_its_own) {
  auto next = layout::dialects().front();
  ++next.protocol_version;
  const std::array<layout::Dialect, 2> dialects = {next, layout::dialects().front()};
  auto first = std::make_unique<Door>();
  first->start();
  RawClient client(first->path());
  cr_assert(client.attach().has_value());
  cr_assert(comes([&] { return state_of(client) == kLive; }));
  Door second(100, {}, ::getuid(), 100'000, dialects);
  const std::string name = results_name(client.welcome.channel);
  std::filesystem::copy_file(first->directory.path() + "/" + name, second.directory.path() + "/" + name);
  second.adopt();
  second.start();
  RawClient again(second.path());
  auto hello = RawClient::hello();
  hello.resume_session = client.welcome.session;
  hello.resume_channel = client.welcome.channel;
  hello.resume_index = client.welcome.session_index;
  again.send(hello, {client.descriptors[5].get(), client.descriptors[6].get()});
  const auto welcome = again.receive()->as<layout::Welcome>();
  cr_assert_eq(welcome.resumed, 1);
  cr_assert_eq(welcome.protocol_version, layout::kProtocolVersion);
}

Test(intake, orphan_of_an_earlier_daemon_is_adopted_with_its_lanes_and_pins) {
  std::optional<RawClient> client;
  std::unique_ptr<Door> first = std::make_unique<Door>();
  first->start();
  client.emplace(first->path());
  cr_assert(client->attach().has_value());
  client->lanes->publish(3, kFirst, client->request(0, kFirst, "first", 0), "first", "");
  client->ring();
  cr_assert(comes([&] { return layout::load_acquire(client->cell(0).number) == kFirst; }));
  reinterpret_cast<layout::SessionRegion*>(client->region.data())->header.pins_high = 1;
  reinterpret_cast<layout::SessionRegion*>(client->region.data())->pins[0] = 5;

  Door second;
  const std::string name = results_name(client->welcome.channel);
  std::filesystem::copy_file(first->directory.path() + "/" + name, second.directory.path() + "/" + name);
  second.adopt();
  cr_assert_eq(second.status.orphans, 1);
  second.start();
  client->lanes->publish(3, kFirst + 1, client->request(0, kFirst + 1, "second", 0), "second", "");
  RawClient again(second.path());
  auto hello = RawClient::hello();
  hello.resume_session = client->welcome.session;
  hello.resume_channel = client->welcome.channel;
  hello.resume_index = client->welcome.session_index;
  again.send(hello, {client->descriptors[5].get(), client->descriptors[6].get()});
  cr_assert(again.take_welcome().has_value());
  cr_assert_eq(again.welcome.resumed, 1);
  cr_assert_eq(layout::load_acquire(second.status.orphans), 0);
  cr_assert(comes([&] { return layout::load_acquire(again.cell(0).number) == kFirst + 1; }), "the request in flight is answered");
  again.take_segments();
  // A second process of the user joins the adopted channel.
  RawClient other(second.path());
  cr_assert(other.attach().has_value());
  cr_assert_eq(other.welcome.channel, client->welcome.channel);
}

Test(intake, larger_index_reaches_every_session) {
  Door door;
  door.start();
  RawClient a(door.path());
  RawClient b(door.path());
  cr_assert(a.attach().has_value());
  cr_assert(b.attach().has_value());
  a.take_segments();
  b.take_segments();
  base::Fd table = some_memfd(8192, 0);
  door.intake->publish_index(table.get(), 13, 18);
  for (RawClient* client : {&a, &b}) {
    auto received = client->receive();
    cr_assert(received->kind() == layout::MessageKind::index);
    cr_assert_eq(received->as<layout::IndexMessage>().generation, 18);
    cr_assert_eq(received->as<layout::IndexMessage>().homes_log2, 13);
    cr_assert_eq(received->descriptors.size(), 1);
    cr_assert(*base::inode_of(received->descriptors[0].get()) == *base::inode_of(table.get()));
  }
}

Test(intake, session_that_does_not_take_its_mail_loses_its_socket_only) {
  Door door;
  door.start();
  RawClient deaf(door.path());
  RawClient other(door.path());
  cr_assert(deaf.attach().has_value());
  cr_assert(other.attach().has_value());
  other.take_segments();
  base::Fd table = some_memfd(8192, 0);
  bool ended = false;
  for (uint64_t i = 0; i < 100'000 && !ended; ++i) {
    door.intake->publish_index(table.get(), 13, 18 + i);
    cr_assert(other.receive().has_value(), "the one that listens hears everything");
    pollfd look{.fd = deaf.fd(), .events = POLLRDHUP, .revents = 0};
    ended = ::poll(&look, 1, 0) == 1 && (look.revents & POLLRDHUP) != 0;
  }
  cr_assert(ended);
  cr_assert_eq(state_of(deaf), kLive);
}

Test(intake, large_content_is_read_and_carried_out_once) {
  Door door;
  door.start();
  RawClient client(door.path());
  cr_assert(client.attach().has_value());
  const std::string content(100'000, 'c');
  base::Fd memfd = some_memfd(0, 0);
  cr_assert(::write(memfd.get(), content.data(), content.size()) == static_cast<ssize_t>(content.size()));
  cr_assert(::fcntl(memfd.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE) == 0);
  client.send_large(1, client.request(0, kFirst, "large", content.size()), "large", {memfd.get()});
  cr_assert(comes([&] { return layout::load_acquire(client.cell(0).number) == kFirst; }));
  cr_assert_eq(client.cell(0).status, WARM_OK);
  cr_assert(door.executor.executed.back().content == content);
  cr_assert(door.executor.executed.back().id == "large");
  cr_assert(comes([&] { return layout::load_acquire(client.entry().socket_done) == 1; }));
  // Sent again, as after a re-attach; and the next one behind it.
  client.send_large(1, client.request(0, kFirst, "large", content.size()), "large", {memfd.get()});
  client.send_large(2, client.request(1, kFirst, "next", content.size()), "next", {memfd.get()});
  cr_assert(comes([&] { return layout::load_acquire(client.cell(1).number) == kFirst; }));
  cr_assert_eq(door.executor.executed.size(), 2);
}

// This process is another user than the daemon's own.
Test(intake, descriptors_of_another_user_are_received_elsewhere_and_let_in_when_they_are_memory) {
  Door door(100, everybody(), ::getuid() + 1);
  door.start();
  RawClient client(door.path());
  cr_assert(client.attach().has_value());
  constexpr uint64_t kBytes = 100'000;
  constexpr int kAll = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE;
  const base::Fd good = some_memfd(kBytes, kAll);
  const base::Fd unsealed = some_memfd(kBytes, 0);
  const base::Fd sparse = some_memfd(uint64_t{1} << 50, kAll);
  const base::Fd file(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  const std::pair<int, int32_t> cases[] = {{good.get(), WARM_OK},
                                           {unsealed.get(), WARM_E_INVALID},
                                           {sparse.get(), WARM_E_INVALID},
                                           {file.get(), WARM_E_INVALID},
                                           {good.get(), WARM_OK}};
  uint64_t number = 0;
  for (const auto& [fd, status] : cases) {
    ++number;
    client.send_large(number, client.request(0, kFirst + number - 1, "x", kBytes), "x", {fd});
    cr_assert(comes([&] { return layout::load_acquire(client.cell(0).number) == kFirst + number - 1; }));
    cr_assert_eq(client.cell(0).status, status, "case %lu: %d", number, client.cell(0).status);
  }
  // What is handed back comes the same way.
  layout::Hello again = RawClient::hello();
  again.resume_session = client.welcome.session;
  again.resume_channel = client.welcome.channel;
  again.resume_index = client.welcome.session_index;
  RawClient back(door.path());
  back.send(again, {client.descriptors[5].get(), client.descriptors[6].get()});
  const auto welcome = back.take_welcome();
  cr_assert(welcome && welcome->resumed == 1 && welcome->session == client.welcome.session);
}

Test(intake, who_sends_what_cannot_be_closed_at_once_keeps_nobody_waiting) {
  Door door(100, everybody(), ::getuid() + 1);
  door.start();
  std::vector<std::jthread> closers;  // our own closes may be the last ones, and wait until the peers go
  std::vector<base::Fd> peers;
  const auto sent_by = [&](const auto& send) {
    tests::support::Lingering one = tests::support::lingering();
    cr_assert(one.end && one.peer);
    send(one.end.get());
    peers.push_back(std::move(one.peer));
    closers.emplace_back([end = std::move(one.end)]() mutable { end.reset(); });
  };
  // In a put, where none is wanted, in a greeting; and unread, when its socket is closed.
  RawClient client(door.path());
  cr_assert(client.attach().has_value());
  sent_by([&](int fd) { client.send_large(1, client.request(0, kFirst, "x", 100'000), "x", {fd}); });
  RawClient surplus(door.path());
  cr_assert(surplus.attach().has_value());
  sent_by([&](int fd) { surplus.send(layout::kDoorbellByte, {fd, fd, fd}); });
  {
    const RawClient greeting(door.path());
    sent_by([&](int fd) { greeting.send(RawClient::hello(), {fd, fd}); });
    // The first of them ends the session, and nobody reads the others.
    RawClient unread(door.path());
    cr_assert(unread.attach().has_value());
    for (int i = 0; i < 4; ++i) sent_by([&](int fd) { unread.offer(layout::kDoorbellByte, {fd, fd}); });
  }
  RawClient next(door.path());
  cr_assert(next.attach().has_value());
  RawClient resumed(door.path());
  layout::Hello again = RawClient::hello();
  again.resume_session = next.welcome.session;
  again.resume_channel = next.welcome.channel;
  again.resume_index = next.welcome.session_index;
  resumed.send(again, {next.descriptors[5].get(), next.descriptors[6].get()});
  cr_assert(resumed.take_welcome().has_value(), "descriptors of the same user are received after it");
}

Test(intake, another_users_large_content_fills_half_of_the_room) {
  constexpr uint64_t kBytes = 100'000;
  Door door(100, everybody(), ::getuid() + 1, 100'000, layout::dialects(), 4 * kBytes - 2);
  std::promise<void> go_on;
  std::shared_future<void> gone_on = go_on.get_future();
  std::atomic<bool> begun{false};
  door.executor.before = [gone_on, &begun] {
    begun.store(true);
    gone_on.wait();
  };
  door.start();
  RawClient first(door.path());
  RawClient second(door.path());
  cr_assert(first.attach().has_value() && second.attach().has_value());
  const base::Fd content = some_memfd(kBytes, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE);
  first.send_large(1, first.request(0, kFirst, "a", kBytes), "a", {content.get()});
  cr_assert(comes([&] { return begun.load(); }));
  second.send_large(1, second.request(0, kFirst, "b", kBytes), "b", {content.get()});
  // Received behind both, and refused at once.
  RawClient third(door.path());
  layout::Hello wrong = RawClient::hello();
  wrong.protocol_version = 99;
  third.send(wrong, {content.get(), content.get()});
  cr_assert(third.receive()->kind() == layout::MessageKind::refuse);
  go_on.set_value();
  cr_assert(comes([&] { return layout::load_acquire(second.cell(0).number) == kFirst; }));
  cr_assert_eq(first.cell(0).status, WARM_OK);
  cr_assert_eq(second.cell(0).status, WARM_E_BUSY);
  // What is answered takes no room any more.
  second.send_large(2, second.request(0, kFirst + 1, "b", kBytes), "b", {content.get()});
  cr_assert(comes([&] { return layout::load_acquire(second.cell(0).number) == kFirst + 1; }));
  cr_assert_eq(second.cell(0).status, WARM_OK);
}

Test(intake, another_user_has_so_many_channels) {
  constexpr uint64_t kChannels = 256;
  Door door(1000, everybody(), ::getuid() + 1, 100'000, layout::dialects(), 1 << 20, 1 << 24);
  door.start();
  std::vector<RawClient> clients;
  const auto greet_from = [&](uint64_t pid_namespace) {
    RawClient& client = clients.emplace_back(door.path());
    layout::Hello hello = RawClient::hello();
    hello.namespace_inode = pid_namespace;
    client.send(hello);
    const auto answer = client.receive();
    return answer->kind() == layout::MessageKind::welcome ? WARM_OK : answer->as<layout::Refuse>().code;
  };
  for (uint64_t i = 1; i <= kChannels; ++i) cr_assert_eq(greet_from(i), WARM_OK, "channel %lu", i);
  cr_assert_eq(greet_from(kChannels + 1), WARM_E_LIMIT);
  cr_assert_eq(greet_from(1), WARM_OK, "a channel that is there has room");
}

Test(intake, content_that_could_change_or_lies_about_its_length_is_refused) {
  Door door;
  door.start();
  RawClient client(door.path());
  cr_assert(client.attach().has_value());
  constexpr int kAll = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE;
  constexpr uint64_t kBytes = 70'000;
  base::Fd file(::open(door.socket_directory.path().c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
  const std::vector<base::Fd> bad = [&] {
    std::vector<base::Fd> all;
    all.push_back(some_memfd(kBytes, F_SEAL_SHRINK | F_SEAL_GROW));
    all.push_back(some_memfd(kBytes, F_SEAL_WRITE | F_SEAL_GROW));
    all.push_back(some_memfd(kBytes, F_SEAL_WRITE | F_SEAL_SHRINK));
    all.push_back(some_memfd(kBytes - 1, kAll));
    all.push_back(some_memfd(kBytes + 1, kAll));
    all.push_back(std::move(file));
    return all;
  }();
  uint64_t number = 0;
  for (const base::Fd& one : bad) {
    ++number;
    client.send_large(number, client.request(0, kFirst + number - 1, "x", kBytes), "x", {one.get()});
    cr_assert(comes([&] { return layout::load_acquire(client.cell(0).number) == kFirst + number - 1; }));
    cr_assert_eq(client.cell(0).status, WARM_E_INVALID, "case %lu", number);
  }
  cr_assert(door.executor.executed.empty());
  // One more, a good one: the session was not harmed.
  base::Fd good = some_memfd(kBytes, kAll);
  client.send_large(number + 1, client.request(0, kFirst + number, "x", kBytes), "x", {good.get()});
  cr_assert(comes([&] { return layout::load_acquire(client.cell(0).number) == kFirst + number; }));
  cr_assert_eq(client.cell(0).status, WARM_OK);
}

Test(intake, descriptors_that_nobody_asked_for_end_the_session) {
  for (int which = 0; which < 3; ++which) {
    Door door;
    door.start();
    RawClient client(door.path());
    cr_assert(client.attach().has_value());
    base::Fd any = some_memfd(10, 0);
    if (which == 0) client.send('D', {any.get()});
    if (which == 1) client.send_large(1, client.request(0, kFirst, "x", 10), "x", {any.get(), any.get()});
    if (which == 2) client.send_large(1, client.request(0, kFirst, "x", 10), "x", std::vector<int>(20, any.get()));
    cr_assert(comes([&] { return state_of(client) == kDead; }), "case %d", which);
    cr_assert(door.executor.executed.empty());
  }
}

Test(intake, nonsense_closes_the_socket_and_hurts_nobody_else) {
  Door door;
  door.start();
  RawClient good(door.path());
  cr_assert(good.attach().has_value());
  for (uint32_t kind = 0; kind < 12; ++kind) {
    RawClient bad(door.path());
    struct {
      layout::MessageHeader header;
      uint64_t rest[3];
    } message{.header = {.kind = kind, .bytes = 32}, .rest = {~0ULL, ~0ULL, ~0ULL}};
    bad.send(message);  // instead of a hello
    auto answer = bad.receive();
    cr_assert(!answer || answer->kind() == layout::MessageKind::refuse);
  }
  RawClient bad(door.path());
  cr_assert(bad.attach().has_value());
  bad.take_segments();
  layout::Bye wrong{{.kind = 77, .bytes = sizeof wrong}};
  bad.send(wrong);
  cr_assert(!bad.receive().has_value());
  good.lanes->publish(5, kFirst, good.request(0, kFirst, "id", 0), "id", "");
  good.ring();
  cr_assert(comes([&] { return layout::load_acquire(good.cell(0).number) == kFirst; }));
}

namespace {

layout::Watch watch_for(uint64_t sequence_after, uint32_t checkpoint = 0) {
  layout::Watch watch{};
  watch.header = {.kind = static_cast<uint32_t>(layout::MessageKind::watch), .bytes = sizeof watch};
  watch.sequence_after = sequence_after;
  watch.durable_after = layout::kWatchNothing;
  watch.checkpoint = checkpoint;
  return watch;
}

}  // namespace

Test(intake, watch_wakes_who_sleeps_on_the_status_page) {
  Door door;
  door.start();
  RawClient client(door.path());
  cr_assert(client.attach().has_value());
  client.take_segments();
  std::atomic<bool> woken{false};
  layout::store_release(door.status.sequence, 5);
  std::thread sleeper([&] {
    while (::syscall(SYS_futex, &door.status.sequence, FUTEX_WAIT, 5, nullptr, nullptr, 0) != 0 && errno == EINTR) {
    }
    woken = true;
  });
  // Until it sleeps the wakes meet nobody.
  cr_assert(comes([&] {
    client.offer(watch_for(4));
    return woken.load();
  }));
  sleeper.join();
}

Test(intake, watch_that_is_not_one_closes_the_socket_and_ends_no_session) {
  Door door;
  door.start();
  for (int which = 0; which < 4; ++which) {
    RawClient client(door.path());
    cr_assert(client.attach().has_value());
    client.take_segments();
    layout::Watch watch = watch_for(0);
    if (which == 0) watch.checkpoint = 2;
    if (which == 1) watch.reserved = 1;
    if (which == 2) watch.header.bytes -= 1;
    if (which == 3) watch.header.bytes += 1;
    client.send(watch, {}, which == 3 ? "x" : "");
    cr_assert(!client.receive().has_value(), "case %d", which);
    cr_assert_eq(state_of(client), kLive);
  }
}

Test(intake, watch_with_a_descriptor_ends_the_session) {
  Door door;
  door.start();
  RawClient client(door.path());
  cr_assert(client.attach().has_value());
  const base::Fd any = some_memfd(10, 0);
  client.send(watch_for(0), {any.get()});
  cr_assert(comes([&] { return state_of(client) == kDead; }));
}

Test(intake, checkpoint_is_begun_for_who_may_administer_only) {
  for (const layout::Access access : {layout::Access::read, layout::Access::write, layout::Access::admin}) {
    AccessRules rules;
    rules.users[::getuid()] = access;
    Door door(100, rules);
    door.start();
    RawClient client(door.path());
    cr_assert(client.attach().has_value());
    client.take_segments();
    client.send(watch_for(0, 1));
    RawClient later(door.path());
    cr_assert(later.attach().has_value(), "the store thread took this after the watch");
    cr_assert_eq(door.executor.checkpoints.load(), access == layout::Access::admin ? 1U : 0U);
    cr_assert_eq(state_of(client), kLive);
  }
}

namespace {

// The answer to `question`, whole. Answers to others end the test.
std::vector<layout::SessionReport> ask_who_holds_what(const RawClient& client, uint64_t question) {
  layout::SessionsWanted wanted{};
  wanted.header = {.kind = static_cast<uint32_t>(layout::MessageKind::sessions_wanted), .bytes = sizeof wanted};
  wanted.question = question;
  client.send(wanted);
  std::vector<layout::SessionReport> all;
  for (;;) {
    auto received = client.receive();
    cr_assert(received && received->kind() == layout::MessageKind::sessions && received->descriptors.empty());
    cr_assert(layout::validate_message(received->bytes) == layout::Verdict::good);
    const auto part = received->as<layout::SessionsMessage>();
    cr_assert_eq(part.question, question);
    all.insert(all.end(), part.reports, part.reports + part.count);
    if (part.last != 0) return all;
  }
}

const layout::SessionReport& report_of(const std::vector<layout::SessionReport>& all, const RawClient& client) {
  const auto found = std::ranges::find(all, client.welcome.session, &layout::SessionReport::session);
  cr_assert(found != all.end(), "session %lu is missing", client.welcome.session);
  return *found;
}

}  // namespace

Test(intake, who_holds_what_is_told_of_every_session_in_as_many_messages_as_it_takes) {
  Door door;
  door.start();
  constexpr size_t kClients = layout::kSessionsPerMessage + 3;
  std::vector<std::unique_ptr<RawClient>> clients;
  const uint64_t begun_ns = base::wall_ns();
  for (size_t i = 0; i < kClients; ++i) {
    clients.push_back(std::make_unique<RawClient>(door.path()));
    cr_assert(clients.back()->attach().has_value());
    clients.back()->take_segments();
  }
  auto& region = *reinterpret_cast<layout::SessionRegion*>(clients[7]->region.data());
  region.header.pins_high = ~uint32_t{0};
  region.pins[0] = 1 + 5;
  region.pins[layout::kViewsMax - 1] = 1 + 6;
  region.pins[100] = ~uint32_t{0};  // no slot has this number
  region.counters.gets = 40;
  region.counters.misses = 2;
  clients[9]->close();  // its process lives
  std::vector<layout::SessionReport> all;
  for (uint64_t question = 1; all.empty() || report_of(all, *clients[9]).presence != 2; ++question) {
    all = ask_who_holds_what(*clients[0], question);
  }
  cr_assert_eq(all.size(), kClients);
  cr_assert(std::ranges::is_sorted(all, {}, &layout::SessionReport::session));
  const layout::SessionReport& holder = report_of(all, *clients[7]);
  cr_assert(holder.views == 3 && holder.view_bytes == 1005 + 1006 && holder.gets == 40 && holder.misses == 2);
  for (const auto& client : clients) {
    const layout::SessionReport& report = report_of(all, *client);
    cr_assert(report.channel == client->welcome.channel && report.uid == ::getuid());
    cr_assert_eq(report.pid, static_cast<uint32_t>(::getpid()));
    cr_assert(report.since_ns >= begun_ns && report.since_ns <= base::wall_ns());
    cr_assert_eq(report.presence, client == clients[9] ? 2U : 1U);
    cr_assert(client == clients[7] || (report.views == 0 && report.view_bytes == 0));
  }
}

// Who asks again before he is answered gets the answer to his last question, and nobody is slowed down by it.
Test(intake, questions_in_a_loop_are_one_census_in_a_tenth_of_a_second) {
  Door door;
  door.start();
  RawClient asking(door.path());
  RawClient working(door.path());
  for (RawClient* client : {&asking, &working}) {
    cr_assert(client->attach().has_value());
    client->take_segments();
  }
  constexpr uint64_t kQuestions = 2000;
  layout::SessionsWanted wanted{};
  wanted.header = {.kind = static_cast<uint32_t>(layout::MessageKind::sessions_wanted), .bytes = sizeof wanted};
  const uint64_t begun_ns = base::monotonic_ns();
  while (++wanted.question <= kQuestions) cr_assert(::send(asking.fd(), &wanted, sizeof wanted, 0) == sizeof wanted);
  working.lanes->publish(5, kFirst, working.request(0, kFirst, "id", 0), "id", "");
  working.ring();
  cr_assert(comes([&] { return layout::load_acquire(working.cell(0).number) == kFirst; }));
  uint64_t answers = 0;
  for (uint64_t answered = 0; answered != kQuestions; ++answers) {
    const auto received = asking.receive();
    cr_assert(received && received->kind() == layout::MessageKind::sessions);
    const uint64_t question = received->as<layout::SessionsMessage>().question;
    cr_assert_gt(question, answered);
    answered = question;
  }
  const uint64_t tenths = (base::monotonic_ns() - begun_ns) / (100 * base::kNsPerMs);
  cr_assert_leq(answers, tenths + 2);
}

Test(intake, question_that_is_none_closes_the_socket) {
  Door door;
  door.start();
  for (const uint32_t bytes : {8U, 15U, 17U, 24U}) {
    RawClient client(door.path());
    cr_assert(client.attach().has_value());
    client.take_segments();
    struct {
      layout::MessageHeader header;
      uint64_t rest[2];
    } message{.header = {.kind = static_cast<uint32_t>(layout::MessageKind::sessions_wanted), .bytes = bytes}, .rest = {}};
    cr_assert(::send(client.fd(), &message, bytes, 0) == static_cast<ssize_t>(bytes));
    cr_assert(!client.receive().has_value(), "%u bytes", bytes);
  }
}

Test(intake, listener_replaces_a_stale_socket_and_leaves_a_live_one_and_other_files_alone) {
  TemporaryDirectory directory;
  const std::string path = directory.path() + "/sock";
  {
    auto first = listen_at(path, 0600);
    cr_assert(first.has_value());
    auto second = listen_at(path, 0600);
    cr_assert(!second.has_value());
    cr_assert_eq(second.error().code, WARM_E_BUSY);
  }
  cr_assert(listen_at(path, 0666).has_value(), "its listener is gone");
  const std::string file = directory.path() + "/file";
  base::Fd made(::open(file.c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
  cr_assert_eq(listen_at(file, 0600).error().code, WARM_E_EXISTS);
  cr_assert_eq(listen_at(directory.path() + "/" + std::string(120, 'x'), 0600).error().code, WARM_E_INVALID);
}

// ---- accepting, and giving up ----------------------------------------------------------------------------------------------

Test(intake, session_is_live_when_it_was_accepted_and_its_segments_say_so) {
  Door door;
  door.start();
  RawClient client(door.path());
  client.accepts = false;
  cr_assert(client.attach().has_value());
  cr_assert_eq(state_of(client), kOffered);
  // Another one's whole greeting comes and goes: nothing was sent on this socket meanwhile.
  RawClient other(door.path());
  cr_assert(other.attach().has_value());
  other.take_segments();
  pollfd look{.fd = client.fd(), .events = POLLIN, .revents = 0};
  cr_assert_eq(::poll(&look, 1, 0), 0, "a list of segments before the session is live");
  client.accept();
  auto list = client.receive();
  cr_assert(list->kind() == layout::MessageKind::segments);
  cr_assert_eq(state_of(client), kLive);
}

Test(intake, session_that_was_not_accepted_ends_with_its_socket) {
  Door door;
  door.start();
  RawClient client(door.path());
  client.accepts = false;
  cr_assert(client.attach().has_value());
  client.close();
  cr_assert(comes([&] { return state_of(client) == kDead; }));
}

// A close with something unread resets the connection, and what cannot be sent to it fails: what it had said before counts.
Test(intake, bye_is_heard_from_who_closes_with_something_unread) {
  Door door;
  door.start();
  for (const bool list_is_there : {true, false}) {
    for (uint32_t round = 0; round < 20; ++round) {
      RawClient client(door.path());
      cr_assert(client.attach().has_value());
      pollfd look{.fd = client.fd(), .events = POLLIN, .revents = 0};
      if (list_is_there) cr_assert(::poll(&look, 1, kPatienceMs) == 1);
      client.bye();
      client.close();
      cr_assert(comes([&] { return state_of(client) == kDead; }), "a bye was not heard (%s)",
                list_is_there ? "reset" : "nobody to send to");
    }
  }
}

// Else they would be received, and closed, by the intake thread.
Test(intake, descriptors_are_seen_at_the_head_of_a_connection_that_was_reset) {
  int ends[2];
  cr_assert_eq(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends), 0);
  base::Fd theirs(ends[0]);
  const base::Fd ours(ends[1]);
  const std::array<std::byte, 8> bytes{};
  const base::Fd file = some_memfd(4096, 0);
  cr_assert(send_packet(theirs.get(), bytes, std::span(&file, 1)) == Sent::sent);
  cr_assert(send_packet(ours.get(), bytes, {}) == Sent::sent);
  theirs.reset();
  cr_assert(look_at(ours.get()) == Head::with_descriptors);
  cr_assert(send_packet(ours.get(), bytes, {}) == Sent::unheard);
}

Test(intake, accept_out_of_turn_costs_the_socket_and_not_the_session) {
  Door door;
  door.start();
  RawClient twice(door.path());
  cr_assert(twice.attach().has_value());
  twice.take_segments();
  twice.accept();
  cr_assert(!twice.receive().has_value());
  cr_assert_eq(state_of(twice), kLive);
  RawClient early(door.path());
  early.accepts = false;
  cr_assert(early.attach().has_value());
  early.send(layout::SegmentsWanted{
      {.kind = static_cast<uint32_t>(layout::MessageKind::segments_wanted), .bytes = sizeof(layout::SegmentsWanted)}});
  cr_assert(!early.receive().has_value());
  cr_assert(comes([&] { return state_of(early) == kDead; }));
}

Test(intake, process_ends_its_own_sessions_by_number_and_nobody_elses) {
  Door door;
  door.start();
  RawClient forsaken(door.path());
  RawClient kept(door.path());
  cr_assert(forsaken.attach().has_value());
  cr_assert(kept.attach().has_value());
  forsaken.close();
  int pipe_fds[2];
  cr_assert(::pipe(pipe_fds) == 0);
  const uint64_t number = forsaken.welcome.session;
  // Another process of the same user names it: nothing comes of it.
  const pid_t stranger = ::fork();
  if (stranger == 0) {
    RawClient client(door.path());
    client.accepts = false;
    if (!client.attach().has_value()) ::_exit(1);
    client.accept({number});
    client.take_segments();
    ::_exit(0);
  }
  int status = 0;
  ::waitpid(stranger, &status, 0);
  cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  cr_assert_eq(state_of(forsaken), kLive);
  RawClient next(door.path());
  next.accepts = false;
  cr_assert(next.attach().has_value());
  next.accept({number, number + 1000});
  cr_assert(comes([&] { return state_of(forsaken) == kDead; }));
  next.take_segments();
  cr_assert_eq(state_of(kept), kLive);
  cr_assert_eq(state_of(next), kLive);
}

Test(intake, each_question_for_segments_gets_a_list) {
  Door door;
  door.start();
  RawClient client(door.path());
  cr_assert(client.attach().has_value());
  client.take_segments();
  // More than fit into the socket's buffer: most are asked while a list is on its way.
  constexpr int kQuestions = 100;
  const layout::SegmentsWanted wanted{
      {.kind = static_cast<uint32_t>(layout::MessageKind::segments_wanted), .bytes = sizeof(layout::SegmentsWanted)}};
  for (int i = 0; i < kQuestions; ++i) client.send(wanted);
  for (int i = 0; i < kQuestions; ++i) client.take_segments();
}

Test(intake, process_that_closed_all_its_descriptors_gets_them_again) {
  Door door;
  door.start();
  RawClient client(door.path());
  cr_assert(client.attach().has_value());
  const base::InodeId lanes = *base::inode_of(client.descriptors[5].get());
  const base::InodeId memory = *base::inode_of(client.descriptors[6].get());
  client.close();
  client.descriptors.clear();
  auto hello = RawClient::hello();
  hello.resume_session = client.welcome.session;
  hello.resume_channel = client.welcome.channel;
  hello.resume_index = client.welcome.session_index;
  RawClient again(door.path());
  again.send(hello);
  cr_assert(again.take_welcome().has_value());
  cr_assert_eq(again.welcome.resumed, 1);
  cr_assert_eq(again.welcome.session, client.welcome.session);
  cr_assert(*base::inode_of(again.descriptors[5].get()) == lanes);
  cr_assert(*base::inode_of(again.descriptors[6].get()) == memory);
  // But not another process.
  const pid_t stranger = ::fork();
  if (stranger == 0) {
    RawClient other(door.path());
    other.send(hello);
    ::_exit(other.take_welcome().has_value() && other.welcome.resumed == 0 ? 0 : 1);
  }
  int status = 0;
  ::waitpid(stranger, &status, 0);
  cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

// Only root can leave a group behind.
Test(intake, access_of_a_session_that_is_resumed_is_that_of_now, .disabled = ::geteuid() != 0) {
  constexpr gid_t kWriters = 4'711;
  constexpr gid_t kReaders = 4'712;
  AccessRules rules;
  rules.groups = {{kWriters, layout::Access::write}, {kReaders, layout::Access::read}};
  Door door(100, rules, 4'242);
  door.start();
  const pid_t child = ::fork();
  if (child == 0) {
    if (::setgroups(0, nullptr) != 0 || ::setgid(kWriters) != 0) ::_exit(1);
    RawClient client(door.path());
    if (!client.attach() || client.welcome.access != static_cast<uint32_t>(layout::Access::write)) ::_exit(2);
    client.take_segments();
    client.close();
    if (::setgid(kReaders) != 0) ::_exit(3);
    RawClient again(door.path());
    auto hello = RawClient::hello();
    hello.resume_session = client.welcome.session;
    hello.resume_channel = client.welcome.channel;
    hello.resume_index = client.welcome.session_index;
    again.send(hello, {client.descriptors[5].get(), client.descriptors[6].get()});
    if (!again.take_welcome() || again.welcome.resumed != 1) ::_exit(4);
    if (again.welcome.access != static_cast<uint32_t>(layout::Access::read)) ::_exit(5);
    again.take_segments();
    again.lanes->publish(0, kFirst, again.request(0, kFirst, "id", 0), "id", "");
    again.ring();
    while (layout::load_acquire(again.cell(0).number) != kFirst) std::this_thread::yield();
    ::_exit(again.cell(0).status == WARM_E_ACCESS ? 0 : 6);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0, "status %x", status);
}

// ---- shares ----------------------------------------------------------------------------------------------------------------

namespace {

constexpr uid_t kStranger = 65'533;

// What another user's process does at the door; its exit code.
int as_a_stranger(const Door& door, const std::function<int()>& body) {
  cr_assert(::chmod(door.socket_directory.path().c_str(), 0755) == 0 && ::chmod(door.path().c_str(), 0666) == 0);
  const pid_t child = ::fork();
  if (child == 0) {
    if (::setgroups(0, nullptr) != 0 || ::setgid(kStranger) != 0 || ::setuid(kStranger) != 0) ::_exit(100);
    ::_exit(body());
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 101;
}

}  // namespace

Test(intake, connections_that_say_nothing_take_no_session_from_anybody) {
  Door door(20);
  door.start();
  std::vector<RawClient> silent;
  for (int i = 0; i < 300; ++i) silent.emplace_back(door.path());
  RawClient client(door.path());
  cr_assert(client.attach().has_value());
  client.take_segments();
  // Those that were silent longest had to go, the latest may still say something.
  cr_assert(!silent.front().receive().has_value());
  cr_assert(silent.back().attach().has_value());
}

Test(intake, flood_of_one_user_leaves_the_greetings_of_others_alone, .disabled = ::geteuid() != 0) {
  Door door(100, everybody());
  door.start();
  RawClient slow(door.path());
  const int code = as_a_stranger(door, [&] {
    std::vector<RawClient> silent;
    for (int i = 0; i < 300; ++i) silent.emplace_back(door.path());
    RawClient client(door.path());
    return client.attach().has_value() ? 0 : 1;
  });
  cr_assert_eq(code, 0);
  cr_assert(slow.attach().has_value(), "the greeting of another user was given up for the flood");
}

Test(intake, another_user_has_a_share_of_the_sessions, .disabled = ::geteuid() != 0) {
  Door door(10, everybody());
  door.start();
  const int code = as_a_stranger(door, [&] {
    std::vector<std::unique_ptr<RawClient>> clients;
    for (int i = 0; i < 5; ++i) {
      clients.push_back(std::make_unique<RawClient>(door.path()));
      if (!clients.back()->attach().has_value()) return 1;
    }
    RawClient one_more(door.path());
    one_more.send(RawClient::hello());
    auto answer = one_more.receive();
    if (!answer || answer->as<layout::Refuse>().code != WARM_E_LIMIT) return 2;
    return std::strstr(answer->as<layout::Refuse>().text, "has 5 sessions") != nullptr ? 0 : 3;
  });
  cr_assert_eq(code, 0);
}

Test(intake, another_users_sessions_share_half_of_the_slots_as_views) {
  Door door(1000, everybody(), ::getuid() + 1, 100'000, layout::dialects(), 1 << 20, 4096);
  door.start();
  std::vector<std::unique_ptr<RawClient>> clients;
  for (int i = 0; i < 32; ++i) {
    clients.push_back(std::make_unique<RawClient>(door.path()));
    cr_assert(clients.back()->attach().has_value(), "session %d", i);
    cr_assert_eq(clients.back()->welcome.views_max, 64);
    cr_assert_eq(clients.back()->entry().views_max, 64);
    clients.back()->take_segments();
  }
  const auto refused = [&] {
    RawClient client(door.path());
    client.send(RawClient::hello());
    return client.receive()->as<layout::Refuse>();
  };
  const layout::Refuse refuse = refused();
  cr_assert_eq(refuse.code, WARM_E_LIMIT);
  cr_assert_not_null(std::strstr(refuse.text, "may hold 2048 views"), "%s", refuse.text);
  // Whatever it writes into its own memory.
  auto& region = *reinterpret_cast<layout::SessionRegion*>(clients[3]->region.data());
  region.header.pins_high = ~uint32_t{0};
  for (uint32_t& pin : region.pins) pin = 1;
  const layout::SessionReport report = report_of(ask_who_holds_what(*clients[0], 1), *clients[3]);
  cr_assert(report.views == 64 && report.views_max == 64, "%lu of %u", report.views, report.views_max);
  // What one was granted is another's when it has ended.
  clients[5]->bye();
  cr_assert(comes([&] {
    RawClient next(door.path());
    return next.attach().has_value() && next.welcome.views_max == 64;
  }));
}

Test(intake, the_daemons_own_user_may_hold_every_view_in_every_session, .disabled = ::geteuid() != 0) {
  Door door(100, everybody(), ::getuid(), 100'000, layout::dialects(), 1 << 20, 4096);
  door.start();
  const auto own = [&] {
    RawClient client(door.path());
    return client.attach().has_value() && client.welcome.views_max == layout::kViewsMax;
  };
  std::vector<std::unique_ptr<RawClient>> clients;
  for (int i = 0; i < 20; ++i) {
    clients.push_back(std::make_unique<RawClient>(door.path()));
    cr_assert(clients.back()->attach().has_value());
    cr_assert_eq(clients.back()->welcome.views_max, layout::kViewsMax);
  }
  // They count for nobody else.
  const int code = as_a_stranger(door, [&] {
    std::vector<std::unique_ptr<RawClient>> theirs;
    for (int i = 0; i < 32; ++i) {
      theirs.push_back(std::make_unique<RawClient>(door.path()));
      if (!theirs.back()->attach().has_value() || theirs.back()->welcome.views_max != 64) return 1;
    }
    RawClient one_more(door.path());
    return one_more.attach().has_value() ? 2 : 0;
  });
  cr_assert_eq(code, 0);
  cr_assert(own());
}

Test(intake, orphan_keeps_what_it_was_granted_and_it_counts) {
  auto first = std::make_unique<Door>(100, everybody(), ::getuid() + 1, 100'000, layout::dialects(), 1 << 20, 100'000);
  first->start();
  RawClient client(first->path());
  cr_assert(client.attach().has_value());
  cr_assert_eq(client.welcome.views_max, 781);
  cr_assert(comes([&] { return state_of(client) == kLive; }));
  // One that would have granted less.
  Door second(100, everybody(), ::getuid() + 1, 100'000, layout::dialects(), 1 << 20, 3000);
  const std::string name = results_name(client.welcome.channel);
  std::filesystem::copy_file(first->directory.path() + "/" + name, second.directory.path() + "/" + name);
  second.executor.next_session = second.executor.next_channel = 100;
  second.adopt();
  second.start();
  RawClient other(second.path());
  cr_assert(other.attach().has_value());
  cr_assert_eq(other.welcome.views_max, 64);
  RawClient again(second.path());
  auto hello = RawClient::hello();
  hello.resume_session = client.welcome.session;
  hello.resume_channel = client.welcome.channel;
  hello.resume_index = client.welcome.session_index;
  again.send(hello, {client.descriptors[5].get(), client.descriptors[6].get()});
  cr_assert(again.take_welcome().has_value());
  cr_assert_eq(again.welcome.resumed, 1);
  cr_assert_eq(again.welcome.views_max, 781);
  // 1500 - 781 - 64 are left.
  std::vector<std::unique_ptr<RawClient>> more;
  for (int i = 0; i < 10; ++i) {
    more.push_back(std::make_unique<RawClient>(second.path()));
    cr_assert(more.back()->attach().has_value(), "%d", i);
  }
  RawClient one_too_many(second.path());
  cr_assert(!one_too_many.attach().has_value());
}

Test(intake, descriptors_of_segments_channels_and_sessions_are_counted) {
  // 205 segments, one channel: room for two sessions.
  Door door(100, {}, ::getuid(),
            kDescriptorsKept + layout::kSegmentsPerMessage + 5 + kDescriptorsPerChannel * 2 + kDescriptorsPerSession * 2 + 2);
  door.start();
  RawClient a(door.path());
  RawClient b(door.path());
  cr_assert(a.attach().has_value());
  cr_assert(b.attach().has_value());
  RawClient c(door.path());
  c.send(RawClient::hello());
  const auto refuse = c.receive()->as<layout::Refuse>();
  cr_assert_eq(refuse.code, WARM_E_LIMIT);
  cr_assert(std::strstr(refuse.text, "205 segments") != nullptr, "%s", refuse.text);
}

Test(intake, want_of_descriptors_refuses_one_client_and_serves_the_next) {
  Door door;
  door.start();
  int pipe_fds[2];
  cr_assert(::pipe(pipe_fds) == 0);
  const pid_t child = ::fork();
  if (child == 0) {  // it may have as many as before
    char byte = 0;
    ::close(pipe_fds[1]);
    (void)!::read(pipe_fds[0], &byte, 1);
    RawClient client(door.path());
    client.offer(RawClient::hello());
    auto answer = client.receive();
    ::_exit(answer && answer->kind() == layout::MessageKind::refuse && answer->as<layout::Refuse>().code == WARM_E_LIMIT ? 0 : 1);
  }
  ::close(pipe_fds[0]);
  const base::Fd lowest(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  rlimit limit{};
  cr_assert(::getrlimit(RLIMIT_NOFILE, &limit) == 0);
  const rlimit none_left{.rlim_cur = static_cast<rlim_t>(lowest.get()) + 1, .rlim_max = limit.rlim_max};
  cr_assert(::setrlimit(RLIMIT_NOFILE, &none_left) == 0);
  ::close(pipe_fds[1]);
  int status = 0;
  ::waitpid(child, &status, 0);
  cr_assert(::setrlimit(RLIMIT_NOFILE, &limit) == 0);
  cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0, "status %x", status);
  RawClient next(door.path());
  cr_assert(next.attach().has_value());
}

// ---- S18: who makes us work
// ----------------------------------------------------------------------------------------------------

namespace {

using tests::support::failpoints_built;
using tests::support::Omit;

AccessRules administrators() {
  AccessRules rules;
  rules.others = layout::Access::admin;
  return rules;
}

// All clients are another user's.
struct Guesthouse : Door {
  Guesthouse() : Door(2000, administrators(), ::getuid() + 1) { start(); }
};

// Of an administrator: each one that is heard is counted by the executor.
layout::Watch heard() {
  layout::Watch watch{};
  watch.header = {.kind = static_cast<uint32_t>(layout::MessageKind::watch), .bytes = sizeof watch};
  watch.sequence_after = watch.durable_after = layout::kWatchNothing;
  watch.checkpoint = 1;
  return watch;
}

void say(const RawClient& client, uint64_t times) {
  const layout::Watch watch = heard();
  for (uint64_t i = 0; i < times; ++i) cr_assert(::send(client.fd(), &watch, sizeof watch, 0) == sizeof watch);
}

constexpr uint64_t kBegun = 2;  // a hello and an accept are messages too
constexpr auto kAtOnce = static_cast<uint64_t>(kMessages.at_once);

void say_all(const Door& door, const RawClient& client) {
  say(client, kAtOnce - kBegun);
  cr_assert(comes([&] { return door.executor.checkpoints.load() == kAtOnce - kBegun; }));
}

void use_up_greetings(const Door& door, int64_t count = kGreetings.at_once - 1) {
  for (int64_t i = 0; i < count; ++i) cr_assert(RawClient(door.path()).connected());
}
// The intake thread has done what had come before this: whoever attaches too often is answered at once.
void await_turn(const Door& door) {
  const RawClient client(door.path());
  client.offer(RawClient::hello());
  cr_assert(client.receive().has_value());
}

}  // namespace

Test(intake, messages_of_another_user_beyond_his_share_are_heard_later) {
  Guesthouse door;
  RawClient client(door.path());
  cr_assert(client.attach().has_value());
  client.take_segments();
  use_up_greetings(door);
  say_all(door, client);
  say(client, 200);
  const auto heard = [&] { return door.executor.checkpoints.load() - (kAtOnce - kBegun); };
  await_turn(door);
  cr_assert_eq(heard(), 0);
  pass(100);
  use_up_greetings(door, kGreetings.a_second / 10);
  cr_assert(comes([&] { return heard() >= 100; }));
  await_turn(door);
  cr_assert_eq(heard(), 100);
  pass(100);
  cr_assert(comes([&] { return heard() == 200; }));
}
Test(intake, messages_of_another_user_beyond_his_share_are_heard_later__fails_without_the_rule, .disabled = !failpoints_built()) {
  const Omit omit("daemon.messages_are_rationed");
  Guesthouse door;
  RawClient client(door.path());
  cr_assert(client.attach().has_value());
  client.take_segments();
  say(client, kAtOnce + 20);
  cr_assert(comes([&] { return door.executor.checkpoints.load() == kAtOnce + 20; }));
}

Test(intake, requests_that_were_carried_out_pay_for_bells) {
  Guesthouse door;
  RawClient client(door.path());
  cr_assert(client.attach().has_value());
  client.take_segments();
  for (uint64_t i = 0; i < 2 * kAtOnce; ++i) {
    client.lanes->publish(5, kFirst + i, client.request(0, kFirst + i, "id", 0), "id", "");
    client.ring();
    cr_assert(comes([&] { return layout::load_acquire(client.cell(0).number) == kFirst + i; }), "bell %lu is not heard", i);
  }
}

Test(intake, bell_of_who_rests_is_heard_when_that_is_over) {
  Guesthouse door;
  RawClient client(door.path());
  cr_assert(client.attach().has_value());
  client.take_segments();
  say_all(door, client);
  say(client, 1);  // it rests
  client.lanes->publish(5, kFirst, client.request(0, kFirst, "id", 0), "id", "");
  client.ring();
  pass(100);
  cr_assert(comes([&] { return layout::load_acquire(client.cell(0).number) == kFirst; }));
}

Test(intake, messages_of_our_own_user_are_not_rationed) {
  Door door;
  door.start();
  RawClient client(door.path());
  cr_assert(client.attach().has_value());
  client.take_segments();
  say(client, 2 * kAtOnce);
  cr_assert(comes([&] { return door.executor.checkpoints.load() == 2 * kAtOnce; }));
}

Test(intake, who_attaches_too_often_is_told_and_may_come_again) {
  Guesthouse door;
  for (int64_t i = 0; i < kGreetings.at_once; ++i) cr_assert(RawClient(door.path()).connected());
  {
    RawClient client(door.path());
    client.offer(RawClient::hello());
    const auto answer = client.receive();
    cr_assert(answer && answer->kind() == layout::MessageKind::refuse);
    cr_assert_eq(answer->as<layout::Refuse>().code, WARM_E_BUSY);
    cr_assert(!client.receive().has_value());
  }
  pass(100);
  RawClient client(door.path());
  cr_assert(client.attach().has_value());
}

// While nobody is accepted the kernel's queue is short: it is all that others have to wait for.
Test(intake, after_so_many_that_were_turned_away_nobody_is_accepted_for_a_while) {
  Guesthouse door;
  RawClient attached(door.path());
  cr_assert(attached.attach().has_value());
  attached.take_segments();
  use_up_greetings(door);
  for (uint32_t i = 0; i < kTurnedAwayAtOnce; ++i) await_turn(door);
  std::deque<RawClient> queue;
  while (queue.size() <= 2 * kQueueMax && queue.emplace_back(door.path(), SOCK_NONBLOCK).connected()) {
  }
  cr_assert_eq(queue.size(), kQueueMax + 2, "one more than the length of a queue fits in, and the next one does not");
  const RawClient& first = queue.front();
  first.offer(RawClient::hello());
  // Two rounds of the intake thread.
  for (uint64_t round = 1; round <= 2; ++round) {
    say(attached, 1);
    cr_assert(comes([&] { return door.executor.checkpoints.load() == round; }));
  }
  pollfd look{.fd = first.fd(), .events = POLLIN, .revents = 0};
  cr_assert_eq(::poll(&look, 1, 0), 0);
  pass(50);
  cr_assert(first.receive().has_value());
  await_turn(door);
}

Test(intake, lists_of_segments_beyond_the_share_of_a_user_come_later) {
  Guesthouse door;
  RawClient client(door.path());
  cr_assert(client.attach().has_value());
  client.take_segments();
  use_up_greetings(door);
  const layout::SegmentsWanted wanted{
      {.kind = static_cast<uint32_t>(layout::MessageKind::segments_wanted), .bytes = sizeof wanted}};
  constexpr uint64_t kDescriptors = layout::kSegmentsPerMessage + 5;
  for (uint64_t left = kListed.at_once; left > 0; left -= std::min(left, kDescriptors)) {
    client.send(wanted);
    if (left >= kDescriptors) client.take_segments();
  }
  // The last one has begun.
  cr_assert_eq(client.receive()->as<layout::Segments>().last, 0);
  client.send(wanted);
  await_turn(door);
  pollfd look{.fd = client.fd(), .events = POLLIN, .revents = 0};
  cr_assert_eq(::poll(&look, 1, 0), 0);
  pass(1000);
  client.take_segments();
  client.take_segments();
}
