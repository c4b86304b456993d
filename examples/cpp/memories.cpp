// C++: the client and its views as owners. The wrapper is small enough to be taken along and changed.
//
// Prints:
//   stored cat
//   stored dog
//   cat: purrs when content
//   no bird: WARM_E_NOT_FOUND
#include <warmtier/warmtier.h>

#include <array>
#include <cstdio>
#include <memory>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

namespace {

struct Error : std::runtime_error {
  Error(const char* what, int error_code)
      : std::runtime_error(std::string(what) + ": " + warm_last_error() + " (" + warm_error_name(error_code) + ")"),
        code(error_code) {}
  int code;
};

void must(const char* what, int code) {
  if (code != WARM_OK) throw Error(what, code);
}

class View;

class Client {
 public:
  explicit Client(const char* socket = nullptr) {
    warm_options options = WARM_OPTIONS_INIT;
    options.socket = socket;
    must("open", warm_open(&options, &client_));
  }
  // Views hold the client: none is left when it goes.
  ~Client() { warm_close(client_); }
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  uint64_t put(std::string_view id, std::span<const float> embedding, std::optional<std::string_view> content) {
    warm_memory memory = WARM_MEMORY_INIT;
    memory.id = id.data();
    memory.id_bytes = id.size();
    memory.embedding = embedding.data();
    memory.dimensions = static_cast<uint32_t>(embedding.size());
    if (content) {
      memory.given |= WARM_GIVEN_CONTENT;
      memory.content = content->data();
      memory.content_bytes = content->size();
    }
    uint64_t sequence = 0;
    must("put", warm_put(client_, &memory, &sequence));
    return sequence;
  }
  warm_client* get() const { return client_; }

 private:
  warm_client* client_ = nullptr;
};

// A record in place; movable like a unique_ptr. Its spans live as long as it does.
class View {
 public:
  View(std::shared_ptr<Client> client, std::string_view id) : client_(std::move(client)) {
    must("get", warm_get(client_->get(), id.data(), id.size(), 0, &view_));
  }
  View(View&& other) noexcept : client_(std::move(other.client_)), view_(std::exchange(other.view_, warm_view WARM_VIEW_INIT)) {}
  View& operator=(View&&) = delete;
  ~View() {
    if (client_) warm_release(client_->get(), &view_);
  }
  std::span<const float> embedding() const { return {view_.embedding, view_.dimensions}; }
  std::optional<std::string_view> content() const {
    if (view_.content_state == WARM_CONTENT_ABSENT) return std::nullopt;
    return std::string_view(static_cast<const char*>(view_.content), view_.content_bytes);
  }

 private:
  std::shared_ptr<Client> client_;
  warm_view view_ = WARM_VIEW_INIT;
};

}  // namespace

int main() {
  try {
    auto client = std::make_shared<Client>();
    const std::array<float, 4> embedding = {0, 0, 1, 0};
    const std::pair<const char*, const char*> animals[] = {{"cat", "purrs when content"}, {"dog", "wags when content"}};
    for (const auto& [id, text] : animals) {
      client->put(std::string("cpp:") + id, embedding, text);
      std::printf("stored %s\n", id);
    }
    const View view(client, "cpp:cat");
    std::printf("cat: %.*s\n", static_cast<int>(view.content()->size()), view.content()->data());
    try {
      const View none(client, "cpp:bird");
    } catch (const Error& error) {
      std::printf("no bird: %s\n", warm_error_name(error.code));
    }
    return 0;
  } catch (const Error& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
