#include "base/mapping.hpp"

#include <criterion/criterion.h>
#include <sys/mman.h>
#include <unistd.h>

#include <csignal>
#include <vector>

#include "base/fd.hpp"
#include "tests/unit/base/children.hpp"

using namespace warmtier;
using namespace warmtier::tests::base;

namespace {

constexpr size_t kPage = 4096;
constexpr size_t kLong = 256 * kPage;

}  // namespace

Test(mapping, a_map_may_be_longer_than_its_file_and_the_file_grows_into_it) {
  auto file = base::make_memfd("grows", kPage, true);
  auto map = base::ReadMapping::map(file->get(), kLong);
  cr_assert(map.has_value() && map->bytes() == kLong);
  cr_assert(::pwrite(file->get(), "a", 1, 0) == 1);
  cr_assert(map->data()[0] == std::byte{'a'});
  cr_assert(base::allocate(file->get(), 0, kLong).has_value());
  cr_assert(::pwrite(file->get(), "z", 1, kLong - 1) == 1);
  cr_assert(map->data()[kLong - 1] == std::byte{'z'});
}

Test(mapping, a_page_beyond_the_file_signals_and_populate_says_so_instead) {
  auto file = base::make_memfd("short", kPage, true);
  auto map = base::ReadMapping::map(file->get(), 2 * kPage);
  const volatile std::byte* beyond = map->data() + kPage;
  cr_assert(killed_by(status_of_child([&] {
              // A sanitizer would turn the signal into an exit code of its own.
                        ::signal(SIGBUS, SIG_DFL);
                        return static_cast<int>(*beyond);
                      }),
                      SIGBUS));
  cr_assert(base::populate_read(map->data(), kPage).has_value());
  cr_assert_not(base::populate_read(map->data() + kPage, kPage).has_value());
}

Test(mapping, a_map_for_reading_cannot_be_written) {
  auto file = base::make_memfd("read only", kPage);
  auto map = base::ReadMapping::map(file->get(), kPage);
  auto* at = const_cast<volatile std::byte*>(map->data());
  cr_assert(killed_by(status_of_child([&] {
                        ::signal(SIGSEGV, SIG_DFL);
                        *at = std::byte{1};
                        return 0;
                      }),
                      SIGSEGV));
}

Test(mapping, a_map_for_writing_needs_a_descriptor_that_can_write) {
  auto file = base::make_memfd("writable", kPage);
  auto reader = base::reopen_read_only(file->get());
  cr_assert(base::WriteMapping::map(file->get(), kPage).has_value());
  const auto refused = base::WriteMapping::map(reader->get(), kPage);
  cr_assert_not(refused.has_value());
  cr_assert_eq(refused.error().code, WARM_E_ACCESS);
}

Test(mapping, what_one_map_writes_the_other_reads) {
  auto file = base::make_memfd("both", kPage);
  auto writer = base::WriteMapping::map(file->get(), kPage);
  auto reader = base::ReadMapping::map(file->get(), kPage);
  writer->data()[100] = std::byte{42};
  cr_assert(reader->data()[100] == std::byte{42});
}

Test(mapping, an_offset_says_where_in_the_file_a_map_begins) {
  auto file = base::make_memfd("offset", 3 * kPage);
  cr_assert(::pwrite(file->get(), "x", 1, 2 * kPage) == 1);
  auto map = base::ReadMapping::map(file->get(), kPage, 2 * kPage);
  cr_assert(map->data()[0] == std::byte{'x'});
}

Test(mapping, a_map_of_a_large_page_starts_where_its_offset_says) {
  constexpr size_t kBytes = 2 * base::kLargePageBytes + kPage;
  auto file = base::make_memfd("large", kBytes, true);
  for (const size_t offset : {size_t{0}, kPage, base::kLargePageBytes + 3 * kPage}) {
    auto map = base::ReadMapping::map(file->get(), kBytes, offset);
    cr_assert_eq(reinterpret_cast<uintptr_t>(map->data()) % base::kLargePageBytes, offset % base::kLargePageBytes);
  }
}

Test(mapping, pages_that_were_put_together_are_there_and_hold_what_they_held) {
  constexpr size_t kBytes = 2 * base::kLargePageBytes + 3 * kPage;
  auto file = base::make_memfd("together", kBytes, true);
  auto map = base::WriteMapping::map(file->get(), kBytes);
  for (size_t at = 0; at < kBytes; at += 7 * kPage) map->data()[at] = static_cast<std::byte>(at / kPage);
  cr_assert(base::populate_write_large(map->data(), kBytes).has_value());
  std::vector<unsigned char> resident(kBytes / kPage);
  cr_assert_eq(::mincore(map->data(), kBytes, resident.data()), 0);
  for (size_t page = 0; page < kBytes / kPage; ++page) {
    cr_assert_eq(resident[page] & 1U, 1U, "page %zu", page);
    cr_assert(map->data()[page * kPage] == static_cast<std::byte>(page % 7 == 0 ? page : 0), "page %zu", page);
  }
}

Test(mapping, an_owner_unmaps_and_an_abandoned_map_stays) {
  auto file = base::make_memfd("lives", kPage);
  const std::byte* gone = nullptr;
  const std::byte* stays = nullptr;
  {
    auto first = base::ReadMapping::map(file->get(), kPage);
    auto second = base::ReadMapping::map(file->get(), kPage);
    gone = first->data();
    stays = second->data();
    second->abandon();
    base::ReadMapping moved = std::move(*first);
    cr_assert(!*first && moved.data() == gone);
    cr_assert(base::populate_read(gone, kPage).has_value());
  }
  cr_assert_not(base::populate_read(gone, kPage).has_value());
  cr_assert(base::populate_read(stays, kPage).has_value());
}
