// What the tests of the layout share: bytes that end at a page which may not be touched, chance with a seed, and valid images.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <span>
#include <vector>

#include "base/hash.hpp"
#include "layout/control.hpp"
#include "layout/layout.hpp"
#include "layout/record.hpp"
#include "tests/support/chance.hpp"

namespace warmtier::tests::layout {

// An image whose last byte stands before an unmapped page: a validator that reads one byte too many is killed.
class GuardedBytes {
 public:
  explicit GuardedBytes(size_t bytes_max) : room_bytes_((bytes_max + kPage - 1) / kPage * kPage) {
    void* memory = ::mmap(nullptr, room_bytes_ + kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED || ::mprotect(static_cast<std::byte*>(memory) + room_bytes_, kPage, PROT_NONE) != 0) {
      std::perror("guard page");
      std::abort();
    }
    memory_ = static_cast<std::byte*>(memory);
  }
  ~GuardedBytes() { ::munmap(memory_, room_bytes_ + kPage); }
  GuardedBytes(const GuardedBytes&) = delete;
  GuardedBytes& operator=(const GuardedBytes&) = delete;

  // A copy of `image` that ends at the guard.
  std::span<std::byte> hold(std::span<const std::byte> image) const {
    std::byte* start = memory_ + room_bytes_ - image.size();
    if (!image.empty()) std::memcpy(start, image.data(), image.size());
    return {start, image.size()};
  }

 private:
  static constexpr size_t kPage = 4096;
  size_t room_bytes_;
  std::byte* memory_ = nullptr;
};

using support::Chance;

// Changes up to four places of `bytes`, mostly near the front where the fields are: a bit, a byte, or a word of interest.
inline void mutate(std::span<std::byte> bytes, Chance& chance) {
  static constexpr uint64_t kInteresting[] = {0,
                                              1,
                                              7,
                                              63,
                                              64,
                                              255,
                                              1023,
                                              1024,
                                              4095,
                                              4096,
                                              65535,
                                              65536,
                                              0x7FFF'FFFF,
                                              0x8000'0000,
                                              0xFFFF'FFFE,
                                              0xFFFF'FFFF,
                                              0x1'0000'0000,
                                              0x7F80'0000,
                                              0xFF80'0000,
                                              0x7FC0'0000,
                                              (uint64_t{1} << 33) - 1,
                                              uint64_t{1} << 33,
                                              (uint64_t{1} << 48) - 1,
                                              uint64_t{1} << 48,
                                              ~uint64_t{0} - 1,
                                              ~uint64_t{0}};
  if (bytes.empty()) return;
  for (uint64_t n = 1 + chance.below(4); n > 0; --n) {
    const size_t range = chance.below(4) == 0 ? bytes.size() : std::min<size_t>(bytes.size(), 256);
    const size_t at = chance.below(range);
    switch (chance.below(4)) {
      case 0: bytes[at] ^= static_cast<std::byte>(1U << chance.below(8)); break;
      case 1: bytes[at] = static_cast<std::byte>(chance.next()); break;
      default: {
        const uint64_t value = chance.below(2) == 0 ? kInteresting[chance.below(std::size(kInteresting))] : chance.next();
        const size_t width = size_t{1} << (1 + chance.below(3));
        const size_t start = at / width * width;
        if (start + width <= bytes.size()) std::memcpy(bytes.data() + start, &value, width);
      }
    }
  }
}

constexpr uint8_t kStoreId[16] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16};
constexpr uint64_t kMutations = 100'000;

template <typename T>
std::vector<std::byte> bytes_of(const T& value) {
  std::vector<std::byte> bytes(sizeof value);
  std::memcpy(bytes.data(), &value, sizeof value);
  return bytes;
}

template <typename T>
T value_of(std::span<const std::byte> bytes) {
  T value;
  std::memcpy(&value, bytes.data(), sizeof value);
  return value;
}

inline warmtier::layout::Superblock valid_superblock(uint64_t epoch = 1) {
  using namespace warmtier::layout;
  Superblock s{};
  s.magic = kTierMagic;
  s.format_version = kFormatVersion;
  s.superblock_bytes = sizeof s;
  s.epoch = epoch;
  std::memcpy(s.store_id, kStoreId, sizeof s.store_id);
  s.hash_seed = 99;
  s.capacity = 5000;
  s.dimensions = 100;
  s.row_bytes = 448;
  s.chunk_slots = kSlotsPerChunk;
  s.segment_bytes = kSegmentBytesDefault;
  s.chunks_allocated = 3;
  s.next_segment = 2;
  s.next_session = 3;
  s.next_channel = 4;
  s.checksum = superblock_checksum(s);
  return s;
}

inline warmtier::layout::SegmentHeader valid_segment_header() {
  using namespace warmtier::layout;
  SegmentHeader h{};
  h.magic = kSegmentMagic;
  h.format_version = kFormatVersion;
  h.header_bytes = sizeof h;
  h.number = 7;
  h.segment_bytes = kSegmentBytesMin;
  std::memcpy(h.store_id, kStoreId, sizeof h.store_id);
  h.created_ns = 1;
  h.checksum = segment_header_checksum(h);
  return h;
}

// A small segment with one record at its first place, and what its line says.
struct RecordImage {
  std::vector<std::byte> segment;
  warmtier::layout::SlotLine line{};
  uint32_t slot = 11;
  uint64_t offset_bytes = sizeof(warmtier::layout::SegmentHeader);
};

inline RecordImage valid_record(std::string_view id, std::string_view content, bool absent) {
  using namespace warmtier::layout;
  RecordImage image;
  const float row[4] = {1.0f, 2.0f, 3.0f, 4.0f};
  image.line.put = put_word(500, image.slot);
  image.line.content_bytes = static_cast<uint32_t>(content.size());
  image.line.checksum = payload_checksum(row, 4, content_hash(content.data(), content.size(), absent));
  image.line.locator = locator_word({.segment = 7, .offset_bytes = image.offset_bytes}, image.slot, 500);
  RecordHeader h{};
  h.put = image.line.put;
  h.hash = base::hash64(id.data(), id.size(), 99);
  h.created_ns = 5;
  h.content_checksum = static_cast<uint32_t>(base::hash64(content.data(), content.size(), 0));
  h.stored_bytes = static_cast<uint32_t>(content.size());
  h.id_bytes = static_cast<uint16_t>(id.size());
  h.codec = kCodecRaw;
  h.flags = absent ? kRecordContentAbsent : 0;
  h.header_checksum = record_header_checksum(h, id.data(), image.line.content_bytes, image.line.checksum);
  image.segment.resize(image.offset_bytes + record_bytes(id.size(), content.size()));
  const SegmentHeader header = valid_segment_header();
  std::memcpy(image.segment.data(), &header, sizeof header);
  std::memcpy(image.segment.data() + image.offset_bytes, &h, sizeof h);
  std::memcpy(image.segment.data() + image.offset_bytes + sizeof h, id.data(), id.size());
  if (!content.empty())
    std::memcpy(image.segment.data() + image.offset_bytes + sizeof h + id.size(), content.data(), content.size());
  return image;
}

inline warmtier::layout::RequestHeader valid_put() {
  warmtier::layout::RequestHeader r{};
  r.session = 3;
  r.ticket = warmtier::layout::kWrapStart;
  r.operation = static_cast<uint16_t>(warmtier::layout::Operation::put);
  r.given = WARM_GIVEN_CONTENT;
  r.id_bytes = 5;
  r.dimensions = 100;
  r.content_bytes = 20;
  r.quad.confidence = 1.0f;
  return r;
}

inline warmtier::layout::RequestHeader valid_remove() {
  warmtier::layout::RequestHeader r{};
  r.session = 3;
  r.ticket = warmtier::layout::kWrapStart;
  r.operation = static_cast<uint16_t>(warmtier::layout::Operation::remove);
  r.id_bytes = 5;
  return r;
}

inline warmtier::layout::RequestHeader valid_update() {
  warmtier::layout::RequestHeader r = valid_remove();
  r.operation = static_cast<uint16_t>(warmtier::layout::Operation::update);
  r.given = WARM_SET_CONFIDENCE | WARM_SET_RECALL_COUNT | WARM_SET_LAST_ACCESS;
  r.quad = {.confidence = 0.5F, .activation = 0, .decay_rate = 0, .recall_count = 7};
  r.last_access_ns = 1;
  return r;
}

inline warmtier::layout::RequestHeader valid_clear() {
  warmtier::layout::RequestHeader r = valid_remove();
  r.operation = static_cast<uint16_t>(warmtier::layout::Operation::clear);
  r.id_bytes = 0;
  return r;
}

template <typename T>
T message(warmtier::layout::MessageKind kind) {
  T m{};
  m.header = {.kind = static_cast<uint32_t>(kind), .bytes = sizeof m};
  return m;
}

// One of each kind, in the order of their numbers.
inline std::vector<std::vector<std::byte>> valid_messages() {
  using namespace warmtier::layout;
  std::vector<std::vector<std::byte>> all;
  auto hello = message<Hello>(MessageKind::hello);
  hello.protocol_version = kProtocolVersion;
  all.push_back(bytes_of(hello));
  auto welcome = message<Welcome>(MessageKind::welcome);
  welcome.protocol_version = kProtocolVersion;
  all.push_back(bytes_of(welcome));
  auto refuse = message<Refuse>(MessageKind::refuse);
  std::memcpy(refuse.text, "no", 3);
  all.push_back(bytes_of(refuse));
  auto segments = message<Segments>(MessageKind::segments);
  segments.count = 200;
  all.push_back(bytes_of(segments));
  all.push_back(bytes_of(message<SegmentsWanted>(MessageKind::segments_wanted)));
  auto index = message<IndexMessage>(MessageKind::index);
  index.homes_log2 = 12;
  all.push_back(bytes_of(index));
  auto put = message<PutMessage>(MessageKind::put);
  put.number = 1;
  put.request = valid_put();
  put.header.bytes = sizeof put + 100 * 4 + 5;
  all.push_back(bytes_of(put));
  all.back().resize(put.header.bytes);
  all.push_back(bytes_of(message<Bye>(MessageKind::bye)));
  auto accept = message<Accept>(MessageKind::accept);
  accept.count = 2;
  accept.sessions[0] = 7;
  accept.sessions[1] = 9;
  all.push_back(bytes_of(accept));
  auto watch = message<Watch>(MessageKind::watch);
  watch.sequence_after = 7;
  watch.durable_after = kWatchNothing;
  all.push_back(bytes_of(watch));
  auto wanted = message<SessionsWanted>(MessageKind::sessions_wanted);
  wanted.question = 1;
  all.push_back(bytes_of(wanted));
  auto sessions = message<SessionsMessage>(MessageKind::sessions);
  sessions.question = 1;
  sessions.count = 2;
  sessions.last = 1;
  sessions.header.bytes = offsetof(SessionsMessage, reports) + 2 * sizeof(SessionReport);
  all.push_back(bytes_of(sessions));
  all.back().resize(sessions.header.bytes);
  return all;
}

}  // namespace warmtier::tests::layout
