#include "tools/ctl_commands.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cmath>
#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <memory>
#include <string_view>
#include <vector>

#include "base/fd.hpp"
#include "daemon/store/store.hpp"
#include "tools/ctl_json.hpp"
#include "tools/ctl_text.hpp"
#include "warmtier/warmtier.h"

namespace warmtier::tools {
namespace {

[[gnu::format(printf, 1, 2)]] Exit complain(const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  std::fputs("warmtierctl: ", stderr);
  std::vfprintf(stderr, format, arguments);
  std::fputc('\n', stderr);
  va_end(arguments);
  return Exit::failed;
}

// Says what the library said; the exit code follows from the code.
Exit complain_about(const char* what, int code) {
  const char* more = warm_last_error();
  complain("%s: %s (%s)", what, *more != '\0' ? more : warm_strerror(code), warm_error_name(code));
  switch (code) {
    case WARM_E_NOT_FOUND: return Exit::not_found;
    case WARM_E_EXISTS:
    case WARM_E_CHANGED: return Exit::condition;
    case WARM_E_BUSY:
    case WARM_E_UNAVAILABLE:
    case WARM_E_UNKNOWN: return Exit::unavailable;
    default: return Exit::failed;
  }
}

// A reader of a pipe that went away, or a full disk, is a failure like another.
Exit say(std::string_view text) {
  std::fwrite(text.data(), 1, text.size(), stdout);
  if (std::fflush(stdout) != 0 || std::ferror(stdout) != 0) return complain("standard output: %s", std::strerror(errno));
  return Exit::ok;
}
Exit say_line(std::string text) { return say(text += '\n'); }

class Client {
 public:
  Client() = default;
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;
  ~Client() {
    if (client_ == nullptr) return;
    if (held_) warm_release(client_, &view_);
    warm_close(client_);
  }
  int open(const CtlOptions& options) {
    warm_options how = WARM_OPTIONS_INIT;
    how.timeout_ms = options.timeout_ms;
    how.socket = options.socket.empty() ? nullptr : options.socket.c_str();
    return warm_open(&how, &client_);
  }
  int get(std::string_view id) {
    const int code = warm_get(client_, id.data(), id.size(), &view_);
    held_ = code == WARM_OK;
    return code;
  }
  [[nodiscard]] warm_client* handle() const { return client_; }
  [[nodiscard]] const warm_view& view() const { return view_; }

 private:
  warm_client* client_ = nullptr;
  warm_view view_ = WARM_VIEW_INIT;
  bool held_ = false;
};

bool read_all(const std::string& path, std::string& ret_bytes) {
  base::Fd opened;
  int fd = STDIN_FILENO;
  if (path != "-") {
    auto file = base::open_at(AT_FDCWD, path.c_str(), O_RDONLY);
    if (!file) {
      complain("%s", file.error().text.c_str());
      return false;
    }
    opened = std::move(*file);
    fd = opened.get();
  }
  std::string bytes;
  std::vector<char> piece(1U << 20);
  for (;;) {
    const ssize_t got = ::read(fd, piece.data(), piece.size());
    if (got == 0) break;
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) {
      complain("%s: %s", path.c_str(), std::strerror(errno));
      return false;
    }
    bytes.append(piece.data(), static_cast<size_t>(got));
    if (bytes.size() > WARM_CONTENT_BYTES_MAX) {
      complain("%s: more than %u bytes", path.c_str(), WARM_CONTENT_BYTES_MAX);
      return false;
    }
  }
  ret_bytes = std::move(bytes);
  return true;
}

bool write_all(const std::string& path, const void* bytes, size_t n) {
  if (path == "-") return say({static_cast<const char*>(bytes), n}) == Exit::ok;
  auto file = base::open_at(AT_FDCWD, path.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0666);
  if (!file) {
    complain("%s", file.error().text.c_str());
    return false;
  }
  const char* at = static_cast<const char*>(bytes);
  while (n > 0) {
    const ssize_t wrote = ::write(file->get(), at, n);
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote < 0) {
      complain("%s: %s", path.c_str(), std::strerror(errno));
      return false;
    }
    at += wrote;
    n -= static_cast<size_t>(wrote);
  }
  return true;
}

// Raw values, or a JSON list: what starts and ends with the list's brackets and is one.
bool embedding_from(const std::string& path, std::vector<float>& ret_values) {
  std::string bytes;
  if (!read_all(path, bytes)) return false;
  constexpr std::string_view kBlanks = " \t\r\n";
  const size_t first = bytes.find_first_not_of(kBlanks);
  if (first != std::string::npos && bytes[first] == '[' && bytes[bytes.find_last_not_of(kBlanks)] == ']') {
    if (auto values = floats_from_json(bytes)) {
      ret_values = std::move(*values);
      return true;
    }
  }
  if (bytes.empty() || bytes.size() % sizeof(float) != 0) {
    complain("%s: an embedding is a JSON list of numbers or raw 32-bit floats (4 bytes each), but these are %zu bytes",
             path.c_str(), bytes.size());
    return false;
  }
  ret_values.resize(bytes.size() / sizeof(float));
  std::memcpy(ret_values.data(), bytes.data(), bytes.size());
  return true;
}

std::string with_thousands(uint64_t value) {
  std::string text = std::to_string(value);
  for (size_t at = text.size(); at > 3;) text.insert(at -= 3, ",");
  return text;
}

std::string view_text(const warm_view& view) {
  std::string text;
  const auto line = [&](const char* name, const std::string& value) {
    text += name;
    text.append(16 - std::strlen(name), ' ');
    text += value + "\n";
  };
  const auto number = [](double value) {
    char digits[48];
    std::snprintf(digits, sizeof digits, "%.9g", value);
    return std::string(digits);
  };
  line("id", one_line({static_cast<const char*>(view.id), view.id_bytes}));
  line("sequence", std::to_string(view.sequence));
  line("created", time_text(view.created_ns));
  line("last access", time_text(view.last_access_ns));
  line("confidence", number(view.confidence));
  line("activation", number(view.activation));
  line("decay rate", number(view.decay_rate));
  line("recall count", std::to_string(view.recall_count));
  double squares = 0;
  std::string values;
  for (uint32_t i = 0; i < view.dimensions; ++i) {
    squares += double{view.embedding[i]} * double{view.embedding[i]};
    if (i < 4) values += (i > 0 ? ", " : "") + number(view.embedding[i]);
  }
  line("embedding", std::to_string(view.dimensions) + " dimensions, length " + number(std::sqrt(squares)) + ": " + values +
                        (view.dimensions > 4 ? ", .." : ""));
  if (view.content_state == WARM_CONTENT_ABSENT) {
    line("content", "absent");
    return text;
  }
  line("content", with_thousands(view.content_bytes) + (view.content_bytes == 1 ? " byte" : " bytes"));
  const std::string_view content(static_cast<const char*>(view.content), view.content_bytes);
  constexpr size_t kShownBytes = 4096;
  if (!content.empty())
    text += "\n" + one_line(content.substr(0, kShownBytes)) + (content.size() > kShownBytes ? " .." : "") + "\n";
  return text;
}

}  // namespace

Exit ctl_init(const CtlOptions& options, const CtlInit& init) {
  daemon::store::InitOptions made;
  made.dimensions = init.dimensions;
  made.capacity = init.capacity;
  if (const base::Status status = daemon::store::initialise(init.directory, made); !status) {
    complain("init: %s (%s)", status.error().text.c_str(), base::code_name(status.error().code));
    return status.error().code == WARM_E_EXISTS ? Exit::condition : Exit::failed;
  }
  if (options.json) return say_line(made_json(init.directory, init.dimensions, init.capacity));
  return say_line(init.directory + ": a store for at most " + with_thousands(init.capacity) + " records of " +
                  std::to_string(init.dimensions) + " dimensions");
}

Exit ctl_status(const CtlOptions& options) {
  Client client;
  if (const int code = client.open(options); code != WARM_OK) return complain_about("status", code);
  warm_info info = WARM_INFO_INIT;
  if (const int code = warm_info_get(client.handle(), &info); code != WARM_OK) return complain_about("status", code);
  warm_stats stats = WARM_STATS_INIT;
  if (const int code = warm_stats_get(client.handle(), &stats); code != WARM_OK) return complain_about("status", code);
  if (options.json) return say_line(stats_json(info, stats));
  std::string text;
  const auto line = [&](std::string_view name, const std::string& value) {
    text += name;
    text.append(22 - name.size(), ' ');
    text.append(value.size() < 26 ? 26 - value.size() : 0, ' ');
    text += value + "\n";
  };
  line("dimensions", std::to_string(info.dimensions));
  line("daemon pid", std::to_string(info.daemon_pid));
  line("content bytes max", with_thousands(info.content_bytes_max));
  line("io backend", stats.io_backend == 1 ? "io_uring" : "threads");
  for (const auto& [name, value] : stats_fields(stats)) {
    std::string words(name);
    for (char& c : words) {
      if (c == '_') c = ' ';
    }
    line(words, with_thousands(value));
  }
  return say(text);
}

Exit ctl_put(const CtlOptions& options, const CtlPut& put) {
  std::vector<float> embedding;
  if (!embedding_from(put.embedding_path, embedding)) return Exit::failed;
  std::string content;
  const bool given = put.content.has_value() || !put.content_path.empty();
  if (put.content) content = *put.content;
  if (!put.content_path.empty() && !read_all(put.content_path, content)) return Exit::failed;

  Client client;
  if (const int code = client.open(options); code != WARM_OK) return complain_about("put", code);
  warm_memory memory = WARM_MEMORY_INIT;
  memory.given = (given ? WARM_GIVEN_CONTENT : 0) | (put.created_ns ? WARM_GIVEN_CREATED : 0) |
                 (put.last_access_ns ? WARM_GIVEN_LAST_ACCESS : 0);
  memory.id = put.id.data();
  memory.id_bytes = put.id.size();
  memory.embedding = embedding.data();
  memory.dimensions = static_cast<uint32_t>(embedding.size());
  memory.condition = put.if_absent ? WARM_IF_ABSENT : put.if_sequence ? WARM_IF_SEQUENCE : WARM_IF_ANY;
  memory.if_sequence = put.if_sequence.value_or(0);
  memory.content = given ? content.data() : nullptr;
  memory.content_bytes = content.size();
  memory.created_ns = put.created_ns.value_or(0);
  memory.last_access_ns = put.last_access_ns.value_or(0);
  memory.confidence = put.confidence;
  memory.activation = put.activation;
  memory.decay_rate = put.decay_rate;
  memory.recall_count = put.recall_count;
  uint64_t sequence = 0;
  if (const int code = warm_put(client.handle(), &memory, &sequence); code != WARM_OK) return complain_about("put", code);
  return say_line(options.json ? changed_json(put.id, sequence) : std::to_string(sequence));
}

Exit ctl_get(const CtlOptions& options, const CtlGet& get) {
  Client client;
  if (const int code = client.open(options); code != WARM_OK) return complain_about("get", code);
  if (const int code = client.get(get.id); code != WARM_OK) return complain_about("get", code);
  const warm_view& view = client.view();
  if (!get.embedding_path.empty() && !write_all(get.embedding_path, view.embedding, size_t{view.dimensions} * sizeof(float))) {
    return Exit::failed;
  }
  if (!get.content_path.empty()) {
    if (view.content_state == WARM_CONTENT_ABSENT)
      return complain("get: the record has no content, so %s is not written", get.content_path.c_str());
    if (!write_all(get.content_path, view.content, view.content_bytes)) return Exit::failed;
  }
  // Bytes for a program and words for a person do not mix on one stream.
  if (get.content_path == "-" || get.embedding_path == "-") return Exit::ok;
  return options.json ? say_line(view_json(view)) : say(view_text(view));
}

Exit ctl_remove(const CtlOptions& options, const CtlRemove& remove) {
  Client client;
  if (const int code = client.open(options); code != WARM_OK) return complain_about("rm", code);
  uint64_t sequence = 0;
  const int code = warm_remove(client.handle(), remove.id.data(), remove.id.size(),
                               remove.if_sequence ? WARM_IF_SEQUENCE : WARM_IF_ANY, remove.if_sequence.value_or(0), 0, &sequence);
  if (code != WARM_OK) return complain_about("rm", code);
  return say_line(options.json ? changed_json(remove.id, sequence) : std::to_string(sequence));
}

}  // namespace warmtier::tools
