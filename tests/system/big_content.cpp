// The largest content there is, 4 GiB - 1, through every room and back, also over a kill of the daemon; and one byte more, which
// is refused. Too much memory and disk for the suite: `./dev bigcontent`.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <string>

#include "base/clock.hpp"
#include "tests/support/daemon.hpp"

namespace {

using namespace warmtier;
using tests::support::Client;
using tests::support::Daemon;

constexpr uint64_t kContentBytes = WARM_CONTENT_BYTES_MAX;
// The caller's content and the library's memfd lie in memory together for a while; the segment's pages can be written back.
constexpr uint64_t kMemoryBytes = 2 * kContentBytes + (uint64_t{1} << 30);
// The segment, and a file that the caller's content is mapped from.
constexpr uint64_t kDiskBytes = 2 * kContentBytes + (uint64_t{1} << 30);
constexpr uint32_t kTimeoutMs = 600'000;

[[noreturn]] void end_because(const std::string& what) {
  std::fprintf(stderr, "big_content: %s\n", what.c_str());
  std::exit(1);
}
void must(const char* what, int code, int wanted = WARM_OK) {
  if (code != wanted) end_because(std::string(what) + ": " + warm_error_name(code) + ": " + warm_last_error());
}

uint64_t memory_available() {
  std::ifstream file("/proc/meminfo");
  for (std::string line; std::getline(file, line);) {
    unsigned long long kib = 0;
    if (std::sscanf(line.c_str(), "MemAvailable: %llu kB", &kib) == 1) return uint64_t{kib} << 10;
  }
  return 0;
}
uint64_t disk_available(const std::string& path) {
  struct statvfs space{};
  if (::statvfs(path.c_str(), &space) != 0) end_because("statvfs " + path);
  return uint64_t{space.f_bavail} * space.f_frsize;
}
void must_have(const char* what, uint64_t bytes, uint64_t needed) {
  if (bytes >= needed) return;
  end_because("it needs " + std::to_string(needed >> 20) + " MiB of " + what + ", but only " + std::to_string(bytes >> 20) +
              " MiB are free");
}

// A word follows from its place, so that nothing needs to be kept to compare with.
uint64_t word_at(uint64_t place) {
  place *= 0x9E37'79B9'7F4A'7C15;
  return place ^ place >> 29;
}
constexpr uint64_t kWords = kContentBytes / sizeof(uint64_t);

// The caller's content, mapped from a file of its own.
class Content {
 public:
  explicit Content(const std::string& path) {
    base::Fd file(::open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
    if (!file || ::unlink(path.c_str()) != 0 || ::ftruncate(file.get(), static_cast<off_t>(kContentBytes)) != 0)
      end_because("cannot make " + path);
    bytes_ = ::mmap(nullptr, kContentBytes, PROT_READ | PROT_WRITE, MAP_SHARED, file.get(), 0);
    if (bytes_ == MAP_FAILED) end_because("mmap");
    auto* words = static_cast<uint64_t*>(bytes_);
    for (uint64_t i = 0; i < kWords; ++i) words[i] = word_at(i);
    std::memset(words + kWords, 0x7E, kContentBytes % sizeof(uint64_t));
  }
  ~Content() { ::munmap(bytes_, kContentBytes); }
  Content(const Content&) = delete;
  Content& operator=(const Content&) = delete;
  [[nodiscard]] const void* bytes() const { return bytes_; }

 private:
  void* bytes_;
};

void compare(const warm_view& view) {
  if (view.content_bytes != kContentBytes) end_because("it has " + std::to_string(view.content_bytes) + " bytes");
  const char* at = static_cast<const char*>(view.content);
  for (uint64_t i = 0; i < kWords; ++i, at += sizeof(uint64_t)) {
    uint64_t word = 0;
    std::memcpy(&word, at, sizeof word);
    if (word != word_at(i)) end_because("its bytes differ at " + std::to_string(i * sizeof word));
  }
  for (uint64_t i = 0; i < kContentBytes % sizeof(uint64_t); ++i) {
    if (at[i] != 0x7E) end_because("its last bytes differ");
  }
}

class Clock {
 public:
  explicit Clock(const char* what) : what_(what) {}
  ~Clock() {
    const double seconds = static_cast<double>(base::monotonic_ns() - began_ns_) / 1e9;
    std::printf("%-40s %6.2f s, %5.0f MB/s\n", what_, seconds, static_cast<double>(kContentBytes) / seconds / 1e6);
    std::fflush(stdout);
  }
  Clock(const Clock&) = delete;
  Clock& operator=(const Clock&) = delete;

 private:
  const char* what_;
  const uint64_t began_ns_ = base::monotonic_ns();
};

}  // namespace

int main() {
  Daemon daemon({.dimensions = 4, .capacity = 1024, .content_bytes_max = kContentBytes, .failpoints = false});
  must_have("memory", memory_available(), kMemoryBytes);
  must_have("disk", disk_available(daemon.directory()), kDiskBytes);
  daemon.start();
  const Client client(daemon, kTimeoutMs);
  const float embedding[4] = {1, 2, 3, 4};
  warm_memory memory = WARM_MEMORY_INIT;
  memory.id = "big";
  memory.id_bytes = 3;
  memory.embedding = embedding;
  memory.dimensions = 4;
  memory.given = WARM_GIVEN_CONTENT;
  memory.content_bytes = kContentBytes;
  {
    const Content content(daemon.directory() + "/content");
    memory.content = content.bytes();
    const Clock clock("put 4294967295 bytes");
    must("put", warm_put(client, &memory, nullptr));
  }
  // One byte more: refused before a byte is read, so a pointer to a few is enough.
  memory.content = embedding;
  memory.content_bytes = kContentBytes + 1;
  must("put of 4294967296 bytes", warm_put(client, &memory, nullptr), WARM_E_LIMIT);
  if (std::strstr(warm_last_error(), "4294967295") == nullptr)
    end_because(std::string("the limit is not named: ") + warm_last_error());
  std::printf("%-40s %s\n", "put 4294967296 bytes", warm_last_error());

  warm_view view = WARM_VIEW_INIT;
  must("get", warm_get(client, "big", 3, 0, &view));
  {
    const Clock clock("compare in place");
    compare(view);
  }
  daemon.restart();
  {
    const Clock clock("compare the held view after a kill");
    compare(view);
  }
  must("release", warm_release(client, &view));
  must("get after the kill", warm_get(client, "big", 3, 0, &view));
  {
    const Clock clock("compare after the kill");
    compare(view);
  }
  must("release", warm_release(client, &view));
  must("remove", warm_remove(client, "big", 3, WARM_IF_ANY, 0, 0, nullptr));
  std::printf("4294967295 bytes came back three times; one more was refused\n");
  return 0;
}
