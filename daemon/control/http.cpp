#include "daemon/control/http.hpp"

#include <arpa/inet.h>
#include <fcntl.h>
#include <microhttpd.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstdint>
#include <list>
#include <thread>
#include <utility>

namespace warmtier::daemon::control {
namespace {

struct Connection {
  int socket = -1;
  base::Deadline deadline = base::Deadline::never();
  bool shut = false;
};

MHD_Result reply(MHD_Connection* connection, unsigned status, const char* type, std::string_view body) {
  // Copied: the answer's bytes go when this returns.
  MHD_Response* response = MHD_create_response_from_buffer(body.size(), const_cast<char*>(body.data()), MHD_RESPMEM_MUST_COPY);
  if (response == nullptr) return MHD_NO;
  MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, type);
  MHD_add_response_header(response, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store");
  // A connection that is kept open costs a place.
  MHD_add_response_header(response, MHD_HTTP_HEADER_CONNECTION, "close");
  if (status == MHD_HTTP_METHOD_NOT_ALLOWED) MHD_add_response_header(response, MHD_HTTP_HEADER_ALLOW, "GET, HEAD");
  const MHD_Result queued = MHD_queue_response(connection, status, response);
  MHD_destroy_response(response);
  return queued;
}

}  // namespace

class HttpServer::Impl {
 public:
  Impl(base::Fd listener, Answer answer, const HttpLimits& limits)
      : listener_(std::move(listener)), answer_(std::move(answer)), limits_(limits) {}

  base::Status start() {
    stop_.reset(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    if (!stop_) return base::fail_errno(errno, "eventfd");
    const int flags = ::fcntl(listener_.get(), F_GETFL);
    if (flags < 0 || ::fcntl(listener_.get(), F_SETFL, flags | O_NONBLOCK) != 0)
      return base::fail_errno(errno, "make the listener for HTTP non-blocking");
    server_ =
        MHD_start_daemon(MHD_USE_EPOLL, 0, nullptr, nullptr, &Impl::on_request, this, MHD_OPTION_LISTEN_SOCKET, listener_.get(),
                         MHD_OPTION_CONNECTION_LIMIT, limits_.connections_max, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
                         kConnectionBytesMax, MHD_OPTION_NOTIFY_CONNECTION, &Impl::on_connection, this, MHD_OPTION_END);
    if (server_ == nullptr) return base::fail(WARM_E_SYSTEM, "libmicrohttpd does not take the listener for HTTP");
    // It is the library's now, and closed by it.
    (void)listener_.release();
    thread_ = std::thread([this] { run(); });
    return {};
  }

  ~Impl() {
    if (!thread_.joinable()) return;
    const uint64_t one = 1;
    // It can only fail when the counter is full: then it is readable already.
    if (::write(stop_.get(), &one, sizeof one) < 0) errno = 0;
    thread_.join();
  }

 private:
  void run() {
    const int events = MHD_get_daemon_info(server_, MHD_DAEMON_INFO_EPOLL_FD)->epoll_fd;
    for (;;) {
      pollfd look[] = {{.fd = events, .events = POLLIN, .revents = 0}, {.fd = stop_.get(), .events = POLLIN, .revents = 0}};
      (void)::poll(look, 2, timeout_ms());
      if (look[1].revents != 0) break;
      shut_old_connections();
      MHD_run(server_);
    }
    MHD_stop_daemon(server_);
  }

  int timeout_ms() {
    // At the limit the library takes the listener out of its events, and back in at the begin of a run after a place became free.
    if (std::exchange(place_free_, false)) return 0;
    MHD_UNSIGNED_LONG_LONG library_ms = 0;
    uint64_t ms = MHD_get_timeout(server_, &library_ms) == MHD_YES ? library_ms : UINT64_MAX;
    for (const Connection& connection : connections_) {
      if (!connection.shut) ms = std::min(ms, connection.deadline.left_ns() / base::kNsPerMs + 1);
    }
    return ms == UINT64_MAX ? -1 : static_cast<int>(std::min<uint64_t>(ms, INT_MAX));
  }

  // The library's own limit is on silence: a client that sends a byte now and then would stay for ever.
  void shut_old_connections() {
    for (Connection& connection : connections_) {
      if (connection.shut || !connection.deadline.passed()) continue;
      ::shutdown(connection.socket, SHUT_RDWR);
      connection.shut = true;
    }
  }

  static void on_connection(void* self, MHD_Connection* connection, void** ours, MHD_ConnectionNotificationCode what) {
    Impl& server = *static_cast<Impl*>(self);
    auto& connections = server.connections_;
    if (what == MHD_CONNECTION_NOTIFY_STARTED) {
      const MHD_ConnectionInfo* info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
      connections.push_back({.socket = info->connect_fd, .deadline = base::Deadline::after_ns(server.limits_.connection_ns_max)});
      *ours = &connections.back();
    } else {
      connections.remove_if([&](const Connection& one) { return &one == *ours; });
      server.place_free_ = true;
    }
  }

  static MHD_Result on_request(void* self, MHD_Connection* connection, const char* url, const char* method,
                               const char* /*version*/, const char* /*upload*/, size_t* upload_bytes, void** /*request*/) {
    const std::string_view how(method);
    // Who sends a body is answered at its end, or at the end of its time.
    if (*upload_bytes != 0) {
      *upload_bytes = 0;
      return MHD_YES;
    }
    if (how != MHD_HTTP_METHOD_GET && how != MHD_HTTP_METHOD_HEAD)
      return reply(connection, MHD_HTTP_METHOD_NOT_ALLOWED, "text/plain", "only GET and HEAD\n");
    const auto answer = static_cast<Impl*>(self)->answer_(url);
    if (!answer) return reply(connection, MHD_HTTP_NOT_FOUND, "text/plain", "there are /metrics and /api/v1/metrics/storage\n");
    return reply(connection, MHD_HTTP_OK, answer->content_type, answer->body);
  }

  base::Fd listener_;
  const Answer answer_;
  const HttpLimits limits_;
  base::Fd stop_;
  MHD_Daemon* server_ = nullptr;
  std::list<Connection> connections_;
  bool place_free_ = false;
  std::thread thread_;
};

base::Result<std::unique_ptr<HttpServer>> HttpServer::start(base::Fd listener, Answer answer, const HttpLimits& limits) {
  auto impl = std::make_unique<Impl>(std::move(listener), std::move(answer), limits);
  if (auto s = impl->start(); !s) return base::pass(std::move(s));
  return std::unique_ptr<HttpServer>(new HttpServer(std::move(impl)));
}

HttpServer::HttpServer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
HttpServer::~HttpServer() = default;

base::Result<base::Fd> listen_on_loopback(uint16_t port) {
  base::Fd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd) return base::fail_errno(errno, "socket");
  const int yes = 1;
  (void)::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
    return base::fail_errno(errno, "bind 127.0.0.1:%u", unsigned{port});
  if (::listen(fd.get(), SOMAXCONN) != 0) return base::fail_errno(errno, "listen at 127.0.0.1:%u", unsigned{port});
  return fd;
}

}  // namespace warmtier::daemon::control
