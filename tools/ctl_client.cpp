#include "tools/ctl_client.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdarg>
#include <cstdio>
#include <cstring>

#include "base/fd.hpp"
#include "tools/ctl_json.hpp"
#include "tools/ctl_npy.hpp"

namespace warmtier::tools {

Exit complain(const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  std::fputs("warmtierctl: ", stderr);
  std::vfprintf(stderr, format, arguments);
  std::fputc('\n', stderr);
  va_end(arguments);
  return Exit::failed;
}

Exit complain_of_usage(const char* what, const base::Error& error) {
  complain("%s: %s", what, error.text.c_str());
  return Exit::usage;
}

Exit exit_of(int code) {
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

Exit complain_about(const char* what, int code) {
  const char* more = warm_last_error();
  complain("%s: %s (%s)", what, *more != '\0' ? more : warm_strerror(code), warm_error_name(code));
  return exit_of(code);
}

Exit say(std::string_view text) {
  std::fwrite(text.data(), 1, text.size(), stdout);
  if (std::fflush(stdout) != 0 || std::ferror(stdout) != 0) return complain("standard output: %s", std::strerror(errno));
  return Exit::ok;
}
Exit say_line(std::string text) { return say(text += '\n'); }

Client::~Client() {
  if (client_ == nullptr) return;
  if (held_) warm_release(client_, &view_);
  warm_close(client_);
}

int Client::open(const CtlOptions& options) {
  warm_options how = WARM_OPTIONS_INIT;
  how.timeout_ms = options.timeout_ms;
  how.socket = options.socket.empty() ? nullptr : options.socket.c_str();
  return warm_open(&how, &client_);
}

int Client::get(std::string_view id) {
  const int code = warm_get(client_, id.data(), id.size(), 0, &view_);
  held_ = code == WARM_OK;
  return code;
}

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

bool read_vector(const std::string& path, std::vector<float>& ret_values) {
  std::string bytes;
  if (!read_all(path, bytes)) return false;
  if (bytes.starts_with(kNpyMagic)) {
    auto values = npy_vector(bytes);
    if (!values) {
      complain("%s: %s", path.c_str(), values.error().text.c_str());
      return false;
    }
    ret_values = std::move(*values);
    return true;
  }
  constexpr std::string_view kBlanks = " \t\r\n";
  const size_t first = bytes.find_first_not_of(kBlanks);
  if (first != std::string::npos && bytes[first] == '[' && bytes[bytes.find_last_not_of(kBlanks)] == ']') {
    if (auto values = floats_from_json(bytes)) {
      ret_values = std::move(*values);
      return true;
    }
  }
  if (bytes.empty() || bytes.size() % sizeof(float) != 0) {
    complain("%s: a vector is a .npy, a JSON list of numbers or raw 32-bit floats (4 bytes each), but these are %zu bytes",
             path.c_str(), bytes.size());
    return false;
  }
  ret_values.resize(bytes.size() / sizeof(float));
  std::memcpy(ret_values.data(), bytes.data(), bytes.size());
  return true;
}

}  // namespace warmtier::tools
