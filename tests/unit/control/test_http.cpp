#include <criterion/criterion.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include <cerrno>
#include <csignal>
#include <string>
#include <string_view>
#include <vector>

#include "daemon/control/http.hpp"

using namespace warmtier;
using namespace warmtier::daemon::control;

namespace {

constexpr int kPatienceMs = 30'000;

class Server {
 public:
  explicit Server(const HttpLimits& limits = {}) {
    ::signal(SIGPIPE, SIG_IGN);  // as the daemon has it
    auto listener = listen_on_loopback(0);
    cr_assert(listener.has_value());
    sockaddr_in address{};
    socklen_t bytes = sizeof address;
    cr_assert_eq(::getsockname(listener->get(), reinterpret_cast<sockaddr*>(&address), &bytes), 0);
    cr_assert_eq(ntohl(address.sin_addr.s_addr), INADDR_LOOPBACK);
    address_ = address;
    auto server = HttpServer::start(
        std::move(*listener),
        [](std::string_view path) -> std::optional<HttpAnswer> {
          if (path != "/here") return std::nullopt;
          return HttpAnswer{.content_type = "text/plain", .body = "an answer\n"};
        },
        limits);
    cr_assert(server.has_value());
    server_ = std::move(*server);
  }
  base::Fd connect() const {
    base::Fd socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    cr_assert_eq(::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address_), sizeof address_), 0);
    return socket;
  }
  std::string ask(std::string_view request) const {
    const base::Fd socket = connect();
    send(socket, request);
    return rest_of(socket);
  }
  static void send(const base::Fd& socket, std::string_view bytes) {
    (void)::send(socket.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
  }
  // Everything until the server closes.
  static std::string rest_of(const base::Fd& socket) {
    std::string all;
    char part[4096];
    for (;;) {
      pollfd look{.fd = socket.get(), .events = POLLIN, .revents = 0};
      cr_assert_eq(::poll(&look, 1, kPatienceMs), 1, "no end after \"%s\"", all.c_str());
      const ssize_t got = ::recv(socket.get(), part, sizeof part, 0);
      if (got <= 0) return all;
      all.append(part, static_cast<size_t>(got));
    }
  }
  void stop() { server_.reset(); }

 private:
  sockaddr_in address_{};
  std::unique_ptr<HttpServer> server_;
};

bool starts_with(const std::string& text, std::string_view part) { return std::string_view(text).starts_with(part); }

constexpr const char* kGet = "GET /here HTTP/1.1\r\nHost: x\r\n\r\n";

}  // namespace

Test(http, what_is_there_is_answered_and_nothing_else) {
  const Server server;
  const std::string answer = server.ask(kGet);
  cr_assert(starts_with(answer, "HTTP/1.1 200 "), "%s", answer.c_str());
  cr_assert(answer.ends_with("\r\n\r\nan answer\n"), "%s", answer.c_str());
  cr_assert(answer.find("Connection: close") != std::string::npos, "%s", answer.c_str());
  cr_assert(starts_with(server.ask("GET /there HTTP/1.1\r\nHost: x\r\n\r\n"), "HTTP/1.1 404 "));
  const std::string head = server.ask("HEAD /here HTTP/1.1\r\nHost: x\r\n\r\n");
  cr_assert(starts_with(head, "HTTP/1.1 200 ") && head.ends_with("\r\n\r\n"), "%s", head.c_str());
  const std::string refused = server.ask("POST /here HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbody");
  cr_assert(starts_with(refused, "HTTP/1.1 405 ") && refused.find("Allow: GET, HEAD") != std::string::npos, "%s",
            refused.c_str());
}

Test(http, nonsense_ends_that_connection_alone) {
  const Server server;
  const std::vector<std::string> nonsense = {
      "\r\n\r\n",
      std::string(64, '\0'),
      "GET",
      "GET /here\r\n\r\n",
      "GET " + std::string(100'000, 'x') + " HTTP/1.1\r\n\r\n",
      "GET /here HTTP/1.1\r\n" + std::string(100'000, 'y') + ": z\r\n\r\n",
      "GET /here HTTP/9.9\r\nHost: x\r\n\r\n",
      "POST /here HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n",
      "POST /here HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n\r\n",
      {'\x16', '\x03', '\x01', '\x02', '\x00', '\x01', '\x00', '\x01', '\xfc', '\x03', '\x03'},  // a TLS hello
  };
  std::vector<base::Fd> left;
  for (const std::string& bytes : nonsense) {
    base::Fd socket = server.connect();
    Server::send(socket, bytes);
    ::shutdown(socket.get(), SHUT_WR);
    left.push_back(std::move(socket));
  }
  for (const base::Fd& socket : left) (void)Server::rest_of(socket);
  cr_assert(starts_with(server.ask(kGet), "HTTP/1.1 200 "));
}

Test(http, who_takes_every_place_and_says_nothing_loses_it) {
  const Server server({.connections_max = 4, .connection_ns_max = 100 * base::kNsPerMs});
  std::vector<base::Fd> silent;
  for (int i = 0; i < 12; ++i) silent.push_back(server.connect());
  // It waits behind them in the queue and has its turn.
  cr_assert(starts_with(server.ask(kGet), "HTTP/1.1 200 "));
  for (const base::Fd& socket : silent) cr_assert(Server::rest_of(socket).empty());
}

Test(http, a_byte_now_and_then_buys_no_time) {
  const Server server({.connections_max = 4, .connection_ns_max = 300 * base::kNsPerMs});
  const base::Fd socket = server.connect();
  const uint64_t begun_ns = base::monotonic_ns();
  Server::send(socket, "GET /here HTTP/1.1\r\nX-Slow: ");
  for (;;) {
    pollfd look{.fd = socket.get(), .events = POLLIN, .revents = 0};
    if (::poll(&look, 1, 20) == 1) break;  // the end
    Server::send(socket, "a");
    cr_assert_lt(base::monotonic_ns() - begun_ns, 20 * base::kNsPerSecond, "the connection is still open");
  }
  cr_assert_geq(base::monotonic_ns() - begun_ns, 250 * base::kNsPerMs);
}

Test(http, a_reader_that_reads_nothing_stops_nobody) {
  const Server server({.connections_max = 64, .connection_ns_max = 60 * base::kNsPerSecond});
  std::vector<base::Fd> lazy;
  for (int i = 0; i < 32; ++i) {
    lazy.push_back(server.connect());
    Server::send(lazy.back(), kGet);
  }
  for (int i = 0; i < 8; ++i) cr_assert(starts_with(server.ask(kGet), "HTTP/1.1 200 "));
}

Test(http, a_stop_does_not_wait_for_a_client) {
  Server server({.connections_max = 4, .connection_ns_max = 3600 * base::kNsPerSecond});
  const base::Fd silent = server.connect();
  Server::send(silent, "GET /he");
  cr_assert(starts_with(server.ask(kGet), "HTTP/1.1 200 "));
  server.stop();
  (void)Server::rest_of(silent);
}
