// Writes the seeds of all targets into a corpus folder, or says which of them differ there: a change of the layout changes them.
//
// usage: fuzz_seeds FOLDER | fuzz_seeds --check FOLDER
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <string_view>
#include <vector>

#include "fuzz/line_says.hpp"
#include "tests/unit/layout/material.hpp"

using namespace warmtier::layout;
using namespace warmtier::tests::layout;

namespace {

using Bytes = std::vector<std::byte>;

struct Seed {
  std::string name;  // target/name
  Bytes bytes;
};

template <typename... Parts>
Bytes join(const Parts&... parts) {
  Bytes all;
  (all.insert(all.end(), parts.begin(), parts.end()), ...);
  return all;
}

void superblocks(std::vector<Seed>& seeds) {
  Superblock s = valid_superblock();
  seeds.push_back({"superblock/valid", bytes_of(s)});
  s.format_version = 2;
  seeds.push_back({"superblock/newer", bytes_of(s)});
  seeds.push_back({"superblock/two_copies", join(bytes_of(valid_superblock(8)), bytes_of(valid_superblock(9)))});
  Bytes cut = bytes_of(valid_superblock());
  cut.resize(216);
  seeds.push_back({"superblock/cut", cut});
}

Bytes with_line(const RecordImage& image) {
  const warmtier::fuzz::LineSays line{.put = image.line.put,
                                      .offset_bytes = image.offset_bytes,
                                      .slot = image.slot,
                                      .content_bytes = image.line.content_bytes,
                                      .checksum = image.line.checksum,
                                      .unused = 0};
  return join(bytes_of(line), image.segment);
}

void segments(std::vector<Seed>& seeds) {
  seeds.push_back({"segment/content", with_line(valid_record("identity", "0123456789", false))});
  seeds.push_back({"segment/absent", with_line(valid_record("i", "", true))});
  seeds.push_back({"segment/empty", with_line(valid_record("another identity", "", false))});
  Bytes cut = with_line(valid_record("identity", "0123456789", false));
  cut.resize(cut.size() - 12);
  seeds.push_back({"segment/cut", cut});
}

void lines(std::vector<Seed>& seeds) {
  SlotLine line{};
  const auto with = [](const SlotLine& l) { return join(bytes_of(uint32_t{3}), bytes_of(l)); };
  seeds.push_back({"slot_line/free", with(line)});
  line.put = put_word(50, 3);
  line.locator = locator_word({.segment = 1, .offset_bytes = 64}, 3, 50);
  seeds.push_back({"slot_line/live", with(line)});
  line.dead = dead_word(40, 30);
  seeds.push_back({"slot_line/used_again", with(line)});
  line.dead = dead_word(60, 50);
  seeds.push_back({"slot_line/dead", with(line)});
  line.dead = dead_word(60, 55);
  seeds.push_back({"slot_line/foreign_death", with(line)});
}

void requests(std::vector<Seed>& seeds) {
  const auto front = [](uint8_t socket) {
    return join(bytes_of(socket), bytes_of(uint32_t{99}), bytes_of(kContentCapBytesDefault));
  };
  seeds.push_back({"request/put", join(front(0), bytes_of(valid_put()))});
  seeds.push_back({"request/remove", join(front(0), bytes_of(valid_remove()))});
  seeds.push_back({"request/update", join(front(0), bytes_of(valid_update()))});
  seeds.push_back({"request/clear", join(front(0), bytes_of(valid_clear()))});
  RequestHeader large = valid_put();
  large.content_bytes = kContentCapBytesDefault;
  seeds.push_back({"request/large", join(front(1), bytes_of(large))});
  RequestHeader condition = valid_put();
  condition.condition = WARM_IF_SEQUENCE;
  condition.if_sequence = kSequenceEnd - 1;
  condition.quad.activation = -0.0f;
  seeds.push_back({"request/condition", join(front(0), bytes_of(condition))});
}

void messages(std::vector<Seed>& seeds) {
  static constexpr const char* kNames[] = {"hello", "welcome", "refuse", "segments", "segments_wanted", "index",
                                           "put",   "bye",     "accept", "watch",    "sessions_wanted", "sessions"};
  const auto all = valid_messages();
  for (size_t i = 0; i < all.size(); ++i) seeds.push_back({std::string("message/") + kNames[i], all[i]});
  seeds.push_back({"message/doorbell", {std::byte{kDoorbellByte}}});
}

void regions(std::vector<Seed>& seeds) {
  const auto with = [&](const char* name, Region region, uint64_t file_bytes, const auto& header) {
    Bytes bytes = bytes_of(header);
    while (!bytes.empty() && bytes.back() == std::byte{0}) bytes.pop_back();
    const auto kind = static_cast<uint8_t>(0x80U | static_cast<uint32_t>(region));
    seeds.push_back({std::string("region/") + name, join(bytes_of(kind), bytes_of(file_bytes), bytes)});
  };
  ResultsHeader results{};
  results.magic = kResultsMagic;
  results.format_version = kFormatVersion;
  results.lanes = kLanesMin;
  results.sessions_max = kSessionsPerChannel;
  for (size_t i = 0; i < sizeof results.store_id; ++i) results.store_id[i] = static_cast<uint8_t>(i + 1);
  with("results", Region::results, 0, results);
  IndexHeader index{};
  index.magic = kIndexMagic;
  index.format_version = kFormatVersion;
  index.homes_log2 = kIndexHomesLog2Min;
  index.buckets = index_buckets(kIndexHomesLog2Min);
  with("index", Region::index, index_bytes(kIndexHomesLog2Min), index);
  with("index_cut", Region::index, index_bytes(kIndexHomesLog2Min) - 1, index);
  FeedHeader feed{};
  feed.magic = kFeedMagic;
  feed.format_version = kFormatVersion;
  feed.entries_log2 = kFeedEntriesLog2;
  feed.ids_log2 = kFeedIdsLog2;
  with("feed", Region::feed, feed_bytes(kFeedEntriesLog2, kFeedIdsLog2), feed);
  with("feed_cut", Region::feed, kPageBytes, feed);
  StatusPage status{};
  status.magic = kStatusMagic;
  status.format_version = kFormatVersion;
  with("status", Region::status, sizeof status, status);
  ChannelHeader channel{};
  channel.magic = kChannelMagic;
  channel.format_version = kFormatVersion;
  channel.lanes = kLanesMin;
  with("channel", Region::channel, channel_bytes(kLanesMin), channel);
  with("channel_cut", Region::channel, kPageBytes, channel);
  SessionHeader session{};
  session.magic = kSessionMagic;
  session.format_version = kFormatVersion;
  session.pin_cells = kViewsMax;
  session.session = 3;
  session.pins_offset = offsetof(SessionRegion, pins);
  with("session", Region::session, sizeof(SessionRegion), session);
  session.format_version = kFormatVersion + 1;
  session.pin_cells = 100;
  with("session_newer", Region::session, sizeof(SessionRegion), session);
}

void canary(std::vector<Seed>& seeds) {
  Segments list{};
  list.header = {.kind = static_cast<uint32_t>(MessageKind::segments), .bytes = offsetof(Segments, numbers)};
  list.count = 1;
  Bytes bytes = bytes_of(list);
  bytes.resize(offsetof(Segments, numbers));
  seeds.push_back({"canary/count_beyond_the_packet", bytes});
}

bool write(const std::filesystem::path& path, const Bytes& bytes) {
  std::filesystem::create_directories(path.parent_path());
  std::ofstream file(path, std::ios::binary);
  file.write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
  return static_cast<bool>(file.flush());
}

bool equals(const std::filesystem::path& path, const Bytes& bytes) {
  std::ifstream file(path, std::ios::binary);
  const std::vector<char> there{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  return there.size() == bytes.size() && std::memcmp(there.data(), bytes.data(), bytes.size()) == 0;
}

}  // namespace

int main(int argc, char** argv) {
  const bool check = argc == 3 && std::string_view(argv[1]) == "--check";
  if (argc != 2 && !check) {
    std::fputs("usage: fuzz_seeds [--check] FOLDER\n", stderr);
    return 2;
  }
  const std::filesystem::path folder = argv[argc - 1];
  std::vector<Seed> seeds;
  superblocks(seeds);
  segments(seeds);
  lines(seeds);
  requests(seeds);
  messages(seeds);
  regions(seeds);
  canary(seeds);
  int failed = 0;
  for (const Seed& seed : seeds) {
    if (check ? equals(folder / seed.name, seed.bytes) : write(folder / seed.name, seed.bytes)) continue;
    std::fprintf(stderr, "%s %s\n", (folder / seed.name).c_str(),
                 check ? "is not what the layout says: fuzz_seeds writes it" : "cannot be written");
    failed = 1;
  }
  return failed;
}
