#include <criterion/criterion.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>

#include "base/fd.hpp"
#include "daemon/store/witness.hpp"

using namespace warmtier;
using daemon::store::Witness;

namespace {

Witness witness_here() {
  auto directory = base::open_at(AT_FDCWD, "/", O_RDONLY | O_DIRECTORY);
  cr_assert(directory.has_value());
  auto witness = Witness::of(directory->get());
  cr_assert(witness.has_value());
  return *witness;
}

layout::Superblock superblock_of(const Witness& witness) {
  layout::Superblock superblock{};
  witness.write_to(superblock);
  return superblock;
}

constexpr int kNoRight = 77;

// What a process sees in a mount namespace of its own, which ends with it; 0: no right to make one, or the kernel cannot say.
uint64_t number_of_a_new_namespace() {
  int ends[2];
  cr_assert_eq(::pipe2(ends, O_CLOEXEC), 0);
  const pid_t child = ::fork();
  if (child == 0) {
    if (::unshare(CLONE_NEWNS) != 0) ::_exit(kNoRight);
    auto directory = base::open_at(AT_FDCWD, "/", O_RDONLY | O_DIRECTORY);
    if (!directory) ::_exit(1);
    auto witness = Witness::of(directory->get());
    const uint64_t number = witness ? witness->mount_namespace : 0;
    ::_exit(::write(ends[1], &number, sizeof number) == static_cast<ssize_t>(sizeof number) ? 0 : 1);
  }
  int status = 0;
  cr_assert_eq(::waitpid(child, &status, 0), child);
  cr_assert(WIFEXITED(status) && (WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == kNoRight));
  uint64_t number = 0;
  if (WEXITSTATUS(status) == 0) cr_assert_eq(::read(ends[0], &number, sizeof number), static_cast<ssize_t>(sizeof number));
  ::close(ends[0]);
  ::close(ends[1]);
  return number;
}

}  // namespace

Test(witness, the_same_boot_device_and_mount_is_believed_and_another_is_not) {
  Witness witness = witness_here();
  witness.mount_namespace = 5;
  const layout::Superblock superblock = superblock_of(witness);
  cr_assert(witness.page_cache_holds(superblock));
  Witness other = witness;
  other.boot_id[3] ^= 1;
  cr_assert_not(other.page_cache_holds(superblock));
  other = witness;
  ++other.device;
  cr_assert_not(other.page_cache_holds(superblock));
  other = witness;
  ++other.mount_id;
  cr_assert_not(other.page_cache_holds(superblock));
}

Test(witness, a_mount_seen_from_another_or_an_unknown_namespace_says_nothing) {
  Witness before = witness_here();
  before.mount_namespace = 5;
  Witness now = before;
  ++now.mount_id;
  now.mount_namespace = 6;
  cr_assert(now.page_cache_holds(superblock_of(before)));
  now.mount_namespace = 0;
  cr_assert(now.page_cache_holds(superblock_of(before)));
  before.mount_namespace = 0;
  cr_assert(now.page_cache_holds(superblock_of(before)));
}

Test(witness, a_namespace_that_ended_is_never_taken_for_the_next_one) {
  const uint64_t own = witness_here().mount_namespace;
  uint64_t before = own;
  for (int i = 0; i < 8; ++i) {
    const uint64_t number = number_of_a_new_namespace();
    if (number == 0) return;
    cr_assert_neq(number, own);
    cr_assert_neq(number, before, "namespace %d has the number of the one before it", i);
    before = number;
  }
}
