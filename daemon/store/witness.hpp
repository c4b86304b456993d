// Whether the page cache of this boot still holds what an earlier daemon stored: the same boot, the same file system, and not
// mounted anew since. Then only a process died and every store that it made is there; else only the device counts.
#pragma once

#include <cstdint>

#include "base/error.hpp"
#include "layout/layout.hpp"

namespace warmtier::daemon::store {

struct Witness {
  uint8_t boot_id[16] = {};
  uint64_t device = 0;           // st_dev of the store directory
  uint64_t mount_namespace = 0;  // number of this process's mount namespace that never repeats in a boot; 0: unknown
  uint64_t mount_id = 0;         // of the mount through which the directory is reached

  static base::Result<Witness> of(int directory_fd);
  // A mount id means something within its namespace only: seen from another one (a sandboxed service gets a new namespace at
  // every start), or where the kernel cannot tell one namespace from another, boot and device decide.
  [[nodiscard]] bool page_cache_holds(const layout::Superblock& superblock) const noexcept;
  void write_to(layout::Superblock& superblock) const noexcept;
};

}  // namespace warmtier::daemon::store
