#include "tests/unit/session/door.hpp"

#include <poll.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/un.h>
#include <sys/wait.h>

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <utility>

#include "layout/validate.hpp"

namespace warmtier::daemon::session::test {
namespace {

std::atomic<uint64_t> g_now_ns{1};
uint64_t now() { return g_now_ns.load(); }

}  // namespace

void pass(uint64_t ms) { g_now_ns.fetch_add(ms * base::kNsPerMs); }

base::Fd some_memfd(uint64_t bytes, int seals) {
  base::Fd fd(::memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  cr_assert(::ftruncate(fd.get(), static_cast<off_t>(bytes)) == 0);
  if (seals != 0) cr_assert(::fcntl(fd.get(), F_ADD_SEALS, seals) == 0);
  return fd;
}

AccessRules everybody() {
  AccessRules rules;
  rules.others = layout::Access::write;
  return rules;
}

std::array<layout::Dialect, 2> dialects_of_the_next_version() {
  layout::Dialect next = layout::dialects().front();
  ++next.protocol_version;
  return {next, layout::dialects().front()};
}

int in_another_process(const std::function<int()>& body) {
  const pid_t child = ::fork();
  if (child == 0) ::_exit(body());
  int status = 0;
  ::waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 101;
}

// ---- Door ------------------------------------------------------------------------------------------------------------------

Door::Door(const DoorOptions& options) {
  cr_assert(mail_.to_store.open().has_value());
  cr_assert(mail_.to_intake.open().has_value());
  for (int* fd : {&published_.index_fd, &published_.tier_fd, &published_.feed_fd, &published_.status_fd}) {
    files_.push_back(some_memfd(4096, 0));
    *fd = files_.back().get();
  }
  published_.generation = 17;
  published_.homes_log2 = 12;
  published_.segment_epoch = 3;
  for (uint64_t number = 1; number <= kSegments; ++number) {
    files_.push_back(some_memfd(4096, 0));
    published_.segments.push_back({.number = number, .fd = files_.back().get()});
  }
  world_.dialects = options.dialects;
  world_.access = options.access;
  world_.own_uid = options.own_uid;
  world_.limits = kLimits;
  world_.store = identity();
  world_.capacity = options.capacity;
  world_.own_segment_above_bytes = 1 << 19;
  world_.lanes = layout::kLanesMin;
  world_.sessions_max = options.sessions_max;
  world_.descriptors = options.descriptors;
  world_.large_bytes_max = options.large_bytes_max;
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
  auto porters = PorterProcess::start();
  cr_assert(porters.has_value());
  cr_assert(intake->open(std::move(listener->fd), std::move(*porters)).has_value());
}

void Door::start() {
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
    }
  });
}
Door::~Door() {
  mail_.to_store.post(Stop{});
  if (store_thread_.joinable()) store_thread_.join();
  mail_.to_intake.post(Quit{});
  if (intake_thread_.joinable()) intake_thread_.join();
}
void Door::take_over(const Door& earlier, uint64_t channel) {
  const std::string name = results_name(channel);
  std::filesystem::copy_file(earlier.directory.path() + "/" + name, directory.path() + "/" + name);
  Kept nothing;
  auto channels = adopt_channels(directory.fd(), identity(), world_.access, ::getuid(), false, nothing);
  for (AdoptedChannel& one : *channels) {
    auto adopted = intake->adopt(std::move(one));
    sessions_->adopt(adopted->channel, adopted->orphans);
  }
}

// ---- RawClient -------------------------------------------------------------------------------------------------------------

RawClient::RawClient(const std::string& path, int flags) {
  socket_.reset(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | flags, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  cr_assert_lt(path.size(), sizeof address.sun_path);
  path.copy(address.sun_path, path.size());
  connected_ = ::connect(socket_.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0;
}

layout::Hello RawClient::hello() {
  layout::Hello hello{};
  hello.header = {.kind = static_cast<uint32_t>(layout::MessageKind::hello), .bytes = sizeof hello};
  hello.protocol_version = layout::kProtocolVersion;
  const auto own = layout::fingerprints();
  std::copy(own.begin(), own.end(), hello.fingerprints);
  hello.namespace_device = 4;
  hello.namespace_inode = 5;
  return hello;
}

layout::Hello RawClient::hello_again() const {
  layout::Hello again = hello();
  again.resume_session = welcome.session;
  again.resume_channel = welcome.channel;
  again.resume_index = welcome.session_index;
  return again;
}

bool RawClient::try_to_send(std::span<const std::byte> message, const std::vector<int>& with, const std::string& tail) const {
  std::vector<std::byte> bytes(message.begin(), message.end());
  const auto rest = std::as_bytes(std::span(tail));
  bytes.insert(bytes.end(), rest.begin(), rest.end());
  std::vector<base::Fd> owned;
  for (int fd : with) owned.emplace_back(::dup(fd));
  return send_packet(socket_.get(), bytes, owned) == Sent::sent;
}

void RawClient::accept(const std::vector<uint64_t>& forsaken) const {
  layout::Accept message{};
  message.header = {.kind = static_cast<uint32_t>(layout::MessageKind::accept), .bytes = sizeof message};
  message.count = static_cast<uint32_t>(forsaken.size());
  std::copy(forsaken.begin(), forsaken.end(), message.sessions);
  send(message);
}

void RawClient::bye() const {
  send(layout::Bye{{.kind = static_cast<uint32_t>(layout::MessageKind::bye), .bytes = sizeof(layout::Bye)}});
}

void RawClient::ask_for_segments() const {
  send(layout::SegmentsWanted{
      {.kind = static_cast<uint32_t>(layout::MessageKind::segments_wanted), .bytes = sizeof(layout::SegmentsWanted)}});
}

void RawClient::send_large(uint64_t number, const layout::RequestHeader& header, const std::string& id,
                           const std::vector<int>& content) const {
  layout::PutMessage message{};
  message.number = number;
  message.request = header;
  const std::string tail = std::string(kDimensions * sizeof(float), '\0') + id;
  message.header = {.kind = static_cast<uint32_t>(layout::MessageKind::put),
                    .bytes = static_cast<uint32_t>(sizeof message + tail.size())};
  send(message, content, tail);
}

std::optional<Received> RawClient::receive() const {
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

bool RawClient::has_mail() const {
  pollfd look{.fd = socket_.get(), .events = POLLIN, .revents = 0};
  return ::poll(&look, 1, 0) != 0;
}

std::optional<layout::Welcome> RawClient::attach() {
  send(hello());
  return take_welcome();
}

std::optional<layout::Welcome> RawClient::take_welcome() {
  auto received = receive();
  if (!received || received->kind() != layout::MessageKind::welcome) return std::nullopt;
  return adopt(std::move(*received));
}

layout::Welcome RawClient::adopt(Received received) {
  welcome = received.as<layout::Welcome>();
  descriptors = std::move(received.descriptors);
  cr_assert_eq(descriptors.size(), layout::kWelcomeDescriptors);
  region = std::move(*base::WriteMapping::map(descriptors[6].get(), sizeof(layout::SessionRegion)));
  results = std::move(*base::ReadMapping::map(descriptors[4].get(), layout::results_bytes(welcome.lanes)));
  lanes = std::make_unique<LaneWriter>(descriptors[5].get(), welcome.lanes);
  if (accepts) accept();
  return welcome;
}

void RawClient::take_segments() const {
  for (;;) {
    auto received = receive();
    cr_assert(received.has_value());
    cr_assert(received->kind() == layout::MessageKind::segments);
    if (received->as<layout::Segments>().last != 0) return;
  }
}

void RawClient::ask(uint64_t ticket, uint32_t lane) const {
  lanes->publish(lane, ticket, request(0, ticket, "id", 0), "id", "");
  ring();
}

bool RawClient::answers(uint64_t ticket, uint32_t cell_number) const {
  return comes([&] { return layout::load_acquire(cell(cell_number).number) == ticket; });
}

layout::RequestHeader RawClient::request(uint32_t cell_number, uint64_t ticket, const std::string& id,
                                         uint64_t content_bytes) const {
  Session session;
  session.number = welcome.session;
  session.index = welcome.session_index;
  layout::RequestHeader header = LaneWriter::put(session, cell_number, ticket, id, "");
  header.content_bytes = content_bytes;
  return header;
}

const layout::SessionEntry& RawClient::entry() const {
  return reinterpret_cast<const layout::SessionEntry*>(results.data() +
                                                       layout::results_sessions_offset(welcome.lanes))[welcome.session_index];
}

const layout::ResultCell& RawClient::cell(uint32_t number) const {
  return reinterpret_cast<const layout::ResultCell*>(
      results.data() +
      layout::results_cells_offset(welcome.lanes))[uint64_t{welcome.session_index} * layout::kCellsPerSession + number];
}

// ---- what tests ask --------------------------------------------------------------------------------------------------------

uint64_t state_of(const RawClient& client) { return layout::load_acquire(client.entry().state); }

layout::Refuse answer_to(const layout::Hello& hello, const Door& door) {
  const RawClient client(door.path());
  client.send(hello);
  const auto answer = client.receive();
  cr_assert(answer.has_value());
  return answer->kind() == layout::MessageKind::refuse ? answer->as<layout::Refuse>() : layout::Refuse{};
}

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

}  // namespace warmtier::daemon::session::test
