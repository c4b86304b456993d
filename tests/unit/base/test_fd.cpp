#include "base/fd.hpp"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "tests/unit/base/children.hpp"

#ifndef F_SEAL_FUTURE_WRITE
#define F_SEAL_FUTURE_WRITE 0x0010
#endif

using namespace warmtier;
using namespace warmtier::tests::base;

namespace {

bool is_open(int fd) { return ::fcntl(fd, F_GETFD) >= 0; }

constexpr int kClientSeals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;

}  // namespace

Test(fd, the_owner_closes_it_and_a_move_takes_it_along) {
  int number = -1;
  {
    auto made = base::make_memfd("owned", 10);
    cr_assert(made.has_value());
    base::Fd first = std::move(*made);
    number = first.get();
    base::Fd second = std::move(first);
    cr_assert(!first && second.get() == number && is_open(number));  // NOLINT(bugprone-use-after-move)
    base::Fd third;
    third = std::move(second);
    cr_assert(is_open(number));
  }
  cr_assert_not(is_open(number));
}

Test(fd, a_released_descriptor_stays_open) {
  int number = -1;
  {
    auto made = base::make_memfd("released", 10);
    number = made->release();
  }
  cr_assert(is_open(number));
  ::close(number);
}

Test(fd, what_is_opened_is_closed_in_a_program_that_is_executed) {
  auto made = base::make_memfd("cloexec", 10);
  auto opened = base::open_at(AT_FDCWD, "/dev/null", O_RDONLY);
  auto again = base::reopen_read_only(made->get());
  for (const int fd : {made->get(), opened->get(), again->get()}) cr_assert((::fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0);
}

Test(fd, a_file_that_is_not_there_is_named) {
  const auto opened = base::open_at(AT_FDCWD, "/nowhere/at/all", O_RDONLY);
  cr_assert_not(opened.has_value());
  cr_assert(opened.error().os_error == ENOENT && opened.error().text.find("/nowhere/at/all") != std::string::npos);
}

Test(memfd, it_is_for_its_owner_only_and_sealed_in_its_size) {
  auto made = base::make_memfd("sealed", 8192);
  cr_assert(made.has_value());
  struct stat st{};
  cr_assert(::fstat(made->get(), &st) == 0 && (st.st_mode & 07777) == 0600 && st.st_size == 8192);
  cr_assert_eq(::fcntl(made->get(), F_GET_SEALS) & kClientSeals, kClientSeals);
  cr_assert_neq(::ftruncate(made->get(), 4096), 0);
  cr_assert_neq(::ftruncate(made->get(), 16384), 0);
  cr_assert_neq(::fcntl(made->get(), F_ADD_SEALS, F_SEAL_WRITE), 0, "no seal can be added");
  // It can be written: that is what the clients do with it.
  void* map = ::mmap(nullptr, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, made->get(), 0);
  cr_assert(map != MAP_FAILED);
  ::munmap(map, 8192);
}

Test(memfd, sealed_for_readers_only_the_map_that_was_there_can_write) {
  auto made = base::make_memfd("readers", 4096, true);
  cr_assert(made.has_value());
  cr_assert_eq(::fcntl(made->get(), F_GET_SEALS) & F_SEAL_SEAL, 0, "to be sealed later");
  void* map = ::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, made->get(), 0);
  cr_assert(map != MAP_FAILED);
  cr_assert(base::seal_for_readers(made->get()).has_value());
  cr_assert_eq(::fcntl(made->get(), F_GET_SEALS) & (kClientSeals | F_SEAL_FUTURE_WRITE), kClientSeals | F_SEAL_FUTURE_WRITE);

  std::memcpy(map, "still", 5);
  cr_assert(::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, made->get(), 0) == MAP_FAILED);
  cr_assert(::pwrite(made->get(), "x", 1, 0) < 0 && errno == EPERM);
  char seen[5];
  cr_assert(::pread(made->get(), seen, 5, 0) == 5 && std::memcmp(seen, "still", 5) == 0);
  ::munmap(map, 4096);
}

Test(memfd, a_reopened_description_cannot_write_and_shares_neither_flags_nor_offset) {
  auto made = base::make_memfd("reopened", 4096);
  auto reader = base::reopen_read_only(made->get());
  cr_assert(reader.has_value());
  cr_assert(::pwrite(reader->get(), "x", 1, 0) < 0);
  cr_assert(::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, reader->get(), 0) == MAP_FAILED);
  cr_assert(::fcntl(reader->get(), F_SETFL, O_NONBLOCK) == 0 && ::lseek(reader->get(), 100, SEEK_SET) == 100);
  cr_assert_eq(::fcntl(made->get(), F_GETFL) & O_NONBLOCK, 0);
  cr_assert_eq(::lseek(made->get(), 0, SEEK_CUR), 0);
  cr_assert(*base::inode_of(reader->get()) == *base::inode_of(made->get()));
}

Test(file, allocation_grows_the_file_and_never_shrinks_it) {
  auto made = base::make_memfd("grown", 0, true);
  cr_assert(base::allocate(made->get(), 0, 8192).has_value());
  cr_assert_eq(*base::file_bytes(made->get()), 8192U);
  cr_assert(base::allocate(made->get(), 0, 4096).has_value());
  cr_assert_eq(*base::file_bytes(made->get()), 8192U);
}

Test(file, no_room_is_told_apart_from_other_failures) {
  const int status = status_of_child([] {
    const rlimit limit{4096, 4096};
    ::signal(SIGXFSZ, SIG_IGN);
    auto made = base::make_memfd("limited", 0, true);
    if (!made || ::setrlimit(RLIMIT_FSIZE, &limit) != 0) return 1;
    const auto allocated = base::allocate(made->get(), 0, 1 << 20);
    if (allocated) return 2;
    return allocated.error().code == WARM_E_FULL && allocated.error().os_error == EFBIG ? 0 : 3;
  });
  cr_assert(exited_with(status, 0), "status %x", status);
  cr_assert_eq(base::allocate(-1, 0, 1).error().code, WARM_E_SYSTEM);
}

Test(random, two_draws_differ) {
  unsigned char a[32] = {};
  unsigned char b[32] = {};
  cr_assert(base::fill_random(a, sizeof a).has_value() && base::fill_random(b, sizeof b).has_value());
  cr_assert_neq(std::memcmp(a, b, sizeof a), 0);
}
