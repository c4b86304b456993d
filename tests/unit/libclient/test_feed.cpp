// The feed as the daemon's store writes it and the library reads it, over many laps of both of its rings.
#include <criterion/criterion.h>
#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <string>

#include "daemon/store/shared_pages.hpp"
#include "libclient/feed.hpp"

using namespace warmtier;
using daemon::store::Feed;
using layout::ChangeKind;
using libclient::FeedMap;

TestSuite(feed, .timeout = 60);

namespace {

constexpr uint64_t kBase = 1000;  // what earlier daemons did
constexpr Feed::Size kSmall = {.entries_log2 = 4, .ids_log2 = 11};

struct Pair {
  Feed writer;
  FeedMap reader;
  uint64_t sequence = kBase;

  void append(ChangeKind kind, uint32_t slot, const std::string& id) {
    writer.append(++sequence, kind, slot, reinterpret_cast<const std::byte*>(id.data()), static_cast<uint32_t>(id.size()));
  }
};

Pair make(const Feed::Size& size = kSmall) {
  auto writer = Feed::make(kBase, size);
  cr_assert(writer, "%s", writer ? "" : writer.error().text.c_str());
  const base::Fd file(::fcntl(writer->fd(), F_DUPFD_CLOEXEC, 0));
  auto reader = FeedMap::map(file);
  cr_assert(reader, "%s", reader ? "" : reader.error().text.c_str());
  return {.writer = std::move(*writer), .reader = std::move(*reader)};
}

std::optional<std::string> id_of(const FeedMap& feed, uint64_t position) {
  std::array<std::byte, layout::kIdBytesMax> buffer;
  const auto bytes = feed.id(position, buffer);
  if (!bytes) return std::nullopt;
  return std::string(reinterpret_cast<const char*>(buffer.data()), *bytes);
}

// Lengths 1 to 1024, all bytes told by the number.
std::string id_for(uint64_t number, uint32_t bytes_max) {
  std::string id = std::to_string(number) + "/";
  id.resize(1 + number * 7919 % bytes_max, static_cast<char>('a' + number % 26));
  return id;
}

}  // namespace

Test(feed, a_new_one_is_empty_and_knows_what_came_before_it) {
  const Pair feed = make();
  cr_assert_eq(feed.reader.head(), layout::kWrapStart);
  cr_assert(!feed.reader.entry(layout::kWrapStart) && !id_of(feed.reader, layout::kWrapStart));
  cr_assert(!feed.reader.entry(layout::kWrapStart - 1) && !id_of(feed.reader, layout::kWrapStart - 1));
  cr_assert(!feed.reader.position_of(kBase), "an earlier daemon's");
  cr_assert_eq(feed.reader.position_of(kBase + 1).value(), layout::kWrapStart);
  // Its low half is 0, as is the word of a place that was never written.
  cr_assert(!feed.reader.entry(uint64_t{1} << 32));
}

Test(feed, a_change_comes_back_with_sequence_kind_slot_and_id) {
  Pair feed = make();
  feed.append(ChangeKind::put, 7, "a");
  feed.append(ChangeKind::replace, 8, std::string(layout::kIdBytesMax, 'x'));
  feed.append(ChangeKind::remove, 8, std::string("\0\xff", 2));
  const uint64_t first = feed.reader.position_of(kBase + 1).value();
  cr_assert_eq(feed.reader.head(), first + 3);
  const auto change = feed.reader.entry(first + 2);
  cr_assert(change && change->sequence == kBase + 3 && change->kind == ChangeKind::remove && change->slot == 8);
  cr_assert_eq(feed.reader.entry(first)->sequence, kBase + 1);
  cr_assert(id_of(feed.reader, first) == "a" && id_of(feed.reader, first + 1) == std::string(layout::kIdBytesMax, 'x'));
  cr_assert(id_of(feed.reader, first + 2) == std::string("\0\xff", 2));
  cr_assert(!feed.reader.entry(first + 3) && !id_of(feed.reader, first + 3));
}

// Short ids: the entries come round first. Long ones: the ids do.
static void what_is_said_is_right(uint32_t bytes_max, uint64_t entries_held_at_least) {
  Pair feed = make();
  constexpr uint64_t kLaps = 40;
  for (uint64_t i = 0; i < kLaps << kSmall.entries_log2; ++i) {
    feed.append(ChangeKind::put, static_cast<uint32_t>(i), id_for(i, bytes_max));
    uint64_t held = 0;
    for (uint64_t back = 0; back <= i; ++back) {
      const uint64_t number = i - back;
      const uint64_t position = feed.reader.position_of(kBase + 1 + number).value();
      const auto change = feed.reader.entry(position);
      const auto id = id_of(feed.reader, position);
      if (change) cr_assert(change->sequence == kBase + 1 + number && change->slot == number);
      if (id) cr_assert_eq(*id, id_for(number, bytes_max));
      cr_assert_eq(static_cast<bool>(change), back < uint64_t{1} << kSmall.entries_log2);
      if (id) {
        cr_assert_eq(held, back, "an id is there behind one that is gone");
        ++held;
      }
    }
    cr_assert_geq(held, std::min(i + 1, entries_held_at_least));
  }
}
Test(feed, the_last_changes_are_there_and_earlier_ones_are_gone_when_entries_come_round) { what_is_said_is_right(24, 15); }
Test(feed, the_last_changes_are_there_and_earlier_ones_are_gone_when_ids_come_round) { what_is_said_is_right(1024, 1); }

Test(feed, a_file_that_is_no_feed_is_refused) {
  auto writer = Feed::make(kBase, kSmall);
  cr_assert(writer);
  const base::Fd file(::fcntl(writer->fd(), F_DUPFD_CLOEXEC, 0));
  auto short_file = base::make_memfd("short", 100, false);
  cr_assert(short_file);
  cr_assert_eq(FeedMap::map(*short_file).error().code, WARM_E_CORRUPT);
  auto zeros = base::make_memfd("zeros", layout::feed_bytes(4, 11), false);
  cr_assert(zeros);
  cr_assert_eq(FeedMap::map(*zeros).error().code, WARM_E_CORRUPT);
}
