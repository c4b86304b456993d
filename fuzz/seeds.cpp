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
  int failed = 0;
  for (const Seed& seed : seeds) {
    if (check ? equals(folder / seed.name, seed.bytes) : write(folder / seed.name, seed.bytes)) continue;
    std::fprintf(stderr, "%s %s\n", (folder / seed.name).c_str(),
                 check ? "is not what the layout says: fuzz_seeds writes it" : "cannot be written");
    failed = 1;
  }
  return failed;
}
