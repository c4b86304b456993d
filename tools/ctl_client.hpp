// What the commands of warmtierctl share: options, exit codes, a client with an owner, and how they speak. Answers go to standard
// output, what went wrong to standard error.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.hpp"
#include "warmtier/warmtier.h"

namespace warmtier::tools {

// Exit codes, as --help documents them.
enum class Exit : int { ok = 0, failed = 1, usage = 2, not_found = 3, condition = 4, unavailable = 5, partly = 6 };

struct CtlOptions {
  std::string socket;  // empty: the library's search order
  uint32_t timeout_ms = 0;
  bool json = false;
  bool quiet = false;
};

// "warmtierctl: .." on standard error; gives Exit::failed.
[[gnu::format(printf, 1, 2)]] Exit complain(const char* format, ...);
// The same of what was asked for in a way that cannot be; gives Exit::usage.
Exit complain_of_usage(const char* what, const base::Error& error);
// Says what the library said; the exit code follows from the code.
Exit complain_about(const char* what, int code);
Exit exit_of(int code);

// A reader of a pipe that went away, or a full disk, is a failure like another.
Exit say(std::string_view text);
Exit say_line(std::string text);

// One client and at most one view at a time, given back in the right order.
class Client {
 public:
  Client() = default;
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;
  ~Client();
  int open(const CtlOptions& options);
  int get(std::string_view id);
  [[nodiscard]] warm_client* handle() const { return client_; }
  [[nodiscard]] const warm_view& view() const { return view_; }

 private:
  warm_client* client_ = nullptr;
  warm_view view_ = WARM_VIEW_INIT;
  bool held_ = false;
};

// "-" is standard input or output.
bool read_all(const std::string& path, std::string& ret_bytes);
bool write_all(const std::string& path, const void* bytes, size_t n);
// A .npy of one vector, a JSON list of numbers, or raw 32-bit floats; told apart by their bytes.
bool read_vector(const std::string& path, std::vector<float>& ret_values);

}  // namespace warmtier::tools
