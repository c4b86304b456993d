#include "daemon/store/witness.hpp"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "base/fd.hpp"

#ifndef STATX_MNT_ID_UNIQUE
#define STATX_MNT_ID_UNIQUE 0x00004000U  // Linux 6.8
#endif
#ifndef NS_GET_MNTNS_ID
#define NS_GET_MNTNS_ID _IOR(0xb7, 0x5, uint64_t)  // Linux 6.11
#endif

namespace warmtier::daemon::store {
namespace {

base::Status read_boot_id(uint8_t (&ret_id)[16]) {
  auto fd = base::open_at(AT_FDCWD, "/proc/sys/kernel/random/boot_id", O_RDONLY);
  if (!fd) return base::pass(std::move(fd));
  char text[64] = {};
  const ssize_t n = ::read(fd->get(), text, sizeof text - 1);
  if (n < 0) return base::fail_errno(errno, "read the boot id");
  unsigned digits = 0;
  for (ssize_t i = 0; i < n && digits < 32; ++i) {
    const char c = text[i];
    unsigned value = 0;
    if (c >= '0' && c <= '9') {
      value = static_cast<unsigned>(c - '0');
    } else if (c >= 'a' && c <= 'f') {
      value = static_cast<unsigned>(c - 'a' + 10);
    } else {
      continue;
    }
    ret_id[digits / 2] = static_cast<uint8_t>(static_cast<unsigned>(ret_id[digits / 2]) << 4 | value);
    ++digits;
  }
  if (digits != 32) return base::fail(WARM_E_SYSTEM, "the boot id \"%s\" does not have 32 digits", text);
  return {};
}

// Not the inode of /proc/self/ns/mnt: the kernel gives a dead namespace's to the next one, which made each start of a sandboxed
// service look like the same namespace with another mount.
uint64_t mount_namespace_id() {
  auto fd = base::open_at(AT_FDCWD, "/proc/self/ns/mnt", O_RDONLY);
  uint64_t id = 0;
  return fd && ::ioctl(fd->get(), NS_GET_MNTNS_ID, &id) == 0 ? id : 0;
}

}  // namespace

base::Result<Witness> Witness::of(int directory_fd) {
  Witness witness;
  if (auto status = read_boot_id(witness.boot_id); !status) return base::pass(std::move(status));
  struct stat st{};
  if (::fstat(directory_fd, &st) != 0) return base::fail_errno(errno, "stat the store directory");
  witness.device = st.st_dev;
  witness.mount_namespace = mount_namespace_id();
  struct statx stx{};
  if (::statx(directory_fd, "", AT_EMPTY_PATH, STATX_MNT_ID_UNIQUE, &stx) == 0 && (stx.stx_mask & STATX_MNT_ID_UNIQUE) != 0) {
    witness.mount_id = stx.stx_mnt_id;
  } else if (::statx(directory_fd, "", AT_EMPTY_PATH, STATX_MNT_ID, &stx) == 0 && (stx.stx_mask & STATX_MNT_ID) != 0) {
    witness.mount_id = stx.stx_mnt_id;
  }
  return witness;
}

bool Witness::page_cache_holds(const layout::Superblock& superblock) const noexcept {
  if (std::memcmp(superblock.boot_id, boot_id, sizeof boot_id) != 0) return false;
  if (superblock.mount_device != device) return false;
  if (mount_namespace == 0 || superblock.mount_namespace != mount_namespace) return true;
  return superblock.mount_id == mount_id;
}

void Witness::write_to(layout::Superblock& superblock) const noexcept {
  std::memcpy(superblock.boot_id, boot_id, sizeof boot_id);
  superblock.mount_device = device;
  superblock.mount_namespace = mount_namespace;
  superblock.mount_id = mount_id;
}

}  // namespace warmtier::daemon::store
