#include "tests/hostile/silent_file.hpp"

#include <fcntl.h>
#include <linux/fuse.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

namespace warmtier::tests::hostile {
namespace {

constexpr int kLifeMs = 120'000;
constexpr uint64_t kFileNode = 2;
constexpr uint64_t kFileBytes = 200'000;

fuse_attr attributes_of(uint64_t node) {
  fuse_attr attributes{};
  attributes.ino = node;
  attributes.mode = node == kFileNode ? S_IFREG | 0666 : S_IFDIR | 0755;
  attributes.nlink = 1;
  attributes.size = node == kFileNode ? kFileBytes : 0;
  attributes.blksize = 4096;
  return attributes;
}

template <typename Out>
void answer(int device, uint64_t unique, const Out& out) {
  fuse_out_header header{.len = sizeof header + sizeof out, .error = 0, .unique = unique};
  const std::array<iovec, 2> parts = {
      {{.iov_base = &header, .iov_len = sizeof header}, {.iov_base = const_cast<Out*>(&out), .iov_len = sizeof out}}};
  (void)::writev(device, parts.data(), parts.size());
}

// Until the file is open; then it takes requests and keeps them.
void serve(int device, int alive) {
  std::vector<std::byte> buffer(size_t{1} << 18);
  bool silent = false;
  for (;;) {
    pollfd look[2] = {{.fd = alive, .events = POLLIN, .revents = 0}, {.fd = device, .events = POLLIN, .revents = 0}};
    if (::poll(look, 2, kLifeMs) <= 0 || look[0].revents != 0) return;
    if (::read(device, buffer.data(), buffer.size()) <= 0) return;
    const auto& request = *reinterpret_cast<const fuse_in_header*>(buffer.data());
    if (silent) continue;
    switch (request.opcode) {
      case FUSE_INIT: {
        fuse_init_out out{};
        out.major = FUSE_KERNEL_VERSION;
        out.minor = FUSE_KERNEL_MINOR_VERSION;
        out.max_write = 4096;
        answer(device, request.unique, out);
        break;
      }
      case FUSE_LOOKUP: {
        fuse_entry_out out{};
        out.nodeid = kFileNode;
        out.generation = 1;
        out.entry_valid = 3600;
        out.attr = attributes_of(kFileNode);
        answer(device, request.unique, out);
        break;
      }
      case FUSE_GETATTR: {
        fuse_attr_out out{};
        out.attr = attributes_of(request.nodeid);
        answer(device, request.unique, out);
        break;
      }
      case FUSE_OPEN: {
        fuse_open_out out{};
        out.fh = 1;
        answer(device, request.unique, out);
        silent = true;
        break;
      }
      default: break;
    }
  }
}

}  // namespace

SilentFile::SilentFile(const std::string& directory) {
  base::Fd device(::open("/dev/fuse", O_RDWR | O_CLOEXEC));
  int ends[2];
  if (!device || ::pipe2(ends, O_CLOEXEC) != 0) return;
  base::Fd watched(ends[0]);
  alive_.reset(ends[1]);
  (void)::mkdir(directory.c_str(), 0755);
  const std::string options = "fd=" + std::to_string(device.get()) + ",rootmode=40000,user_id=0,group_id=0,allow_other";
  if (::unshare(CLONE_NEWNS) != 0 || ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
      ::mount("hostile", directory.c_str(), "fuse", MS_NOSUID | MS_NODEV, options.c_str()) != 0) {
    return;
  }
  server_ = ::fork();
  if (server_ == 0) {
    alive_.reset();
    serve(device.get(), watched.get());
    ::_exit(0);
  }
  file_.reset(::open((directory + "/file").c_str(), O_RDWR | O_CLOEXEC));  // while ours keeps its number from it: a higher one
}

SilentFile::~SilentFile() {
  alive_.reset();
  if (server_ > 0) (void)::waitpid(server_, nullptr, 0);
}

base::Fd SilentFile::copy() const { return base::Fd(::fcntl(file_.get(), F_DUPFD_CLOEXEC, 0)); }

}  // namespace warmtier::tests::hostile
