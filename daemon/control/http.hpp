// A small HTTP server for a few answers that are always at hand: one thread of its own for each listener, the socket's traffic by
// libmicrohttpd. Whoever connects is hostile: a slow, silent or endless client costs one of the places for a bounded time, and no
// other thread ever waits for it. When all places are taken the next client waits in the listener's queue.
//
// Thread law: `answer` is called on the server's own thread; the rest by whoever owns the server.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "base/clock.hpp"
#include "base/error.hpp"
#include "base/fd.hpp"

namespace warmtier::daemon::control {

constexpr size_t kConnectionBytesMax = size_t{16} << 10;  // request line and headers

struct HttpLimits {
  unsigned connections_max = 16;
  uint64_t connection_ns_max = 5 * base::kNsPerSecond;  // from accepted to closed, whatever the client does
};

struct HttpAnswer {
  const char* content_type = nullptr;
  std::string body;
};

class HttpServer {
 public:
  // What a GET of this path is answered with; nothing: there is no such thing.
  using Answer = std::function<std::optional<HttpAnswer>(std::string_view path)>;

  static base::Result<std::unique_ptr<HttpServer>> start(base::Fd listener, Answer answer, const HttpLimits& limits = {});
  // Ends all connections and the thread.
  ~HttpServer();
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;

 private:
  class Impl;
  explicit HttpServer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

// A listener on 127.0.0.1; port 0 is any free one.
base::Result<base::Fd> listen_on_loopback(uint16_t port);

}  // namespace warmtier::daemon::control
