#include "layout/validate.hpp"

#include <algorithm>
#include <cstring>

#include "layout/record.hpp"

namespace warmtier::layout {
namespace {

// The position's low half tells one lap of the feed from the next: the ring must be far shorter than 2^32 entries.
constexpr uint32_t kFeedEntriesLog2Max = 28;
// The ring of ids holds more than one of the longest.
constexpr uint32_t kFeedIdsLog2Min = 11;
constexpr uint32_t kFeedIdsLog2Max = 30;
static_assert(kIdBytesMax < uint32_t{1} << kFeedIdsLog2Min);
// A segment for one large record: header, the largest record, rounded up to a page.
constexpr uint64_t kSegmentFileBytesMax =
    (sizeof(SegmentHeader) + record_bytes(kIdBytesMax, kContentBytesMax) + kPageBytes - 1) / kPageBytes * kPageBytes;
// Features of the tier that this code knows and that change what older code would do.
constexpr uint64_t kIncompatibleFlagsKnown = 0;
constexpr uint32_t kSetKnown =
    WARM_SET_CONFIDENCE | WARM_SET_ACTIVATION | WARM_SET_DECAY_RATE | WARM_SET_RECALL_COUNT | WARM_SET_LAST_ACCESS;
constexpr uint32_t kGivenKnown = WARM_GIVEN_CONTENT | WARM_GIVEN_CREATED | WARM_GIVEN_LAST_ACCESS;

template <typename T>
bool copy_of(std::span<const std::byte> bytes, T* ret_value) noexcept {
  if (bytes.size() < sizeof(T)) return false;
  std::memcpy(ret_value, bytes.data(), sizeof(T));
  return true;
}

template <typename T, size_t N>
bool all_zero(const T (&values)[N]) noexcept {
  T any = 0;
  for (size_t i = 0; i < N; ++i) any = static_cast<T>(any | values[i]);
  return any == 0;
}

bool same_store(const uint8_t (&a)[16], const uint8_t (&b)[16]) noexcept { return std::memcmp(a, b, sizeof a) == 0; }

constexpr bool finite_bits(uint32_t bits) noexcept { return (bits & 0x7F80'0000U) != 0x7F80'0000U; }
bool finite(float value) noexcept { return finite_bits(std::bit_cast<uint32_t>(value)); }

Verdict superblock_geometry(const Superblock& s) noexcept {
  if (s.superblock_bytes != sizeof(Superblock) || s.chunk_slots != kSlotsPerChunk) return Verdict::bad_geometry;
  if (s.dimensions < 1 || s.dimensions > kDimensionsMax || s.capacity < 1 || s.capacity > kCapacityMax)
    return Verdict::bad_geometry;
  const Geometry geometry = Geometry::of(s.dimensions, s.capacity);
  if (s.row_bytes != geometry.row_bytes || s.sketch_bytes != 0) return Verdict::bad_geometry;
  if (s.segment_bytes < kSegmentBytesMin || s.segment_bytes > kSegmentBytesMax || s.segment_bytes % 8 != 0)
    return Verdict::bad_geometry;
  if (s.chunks_allocated > geometry.chunks_max() || s.next_segment > kSegmentNumberEnd) return Verdict::bad_geometry;
  if (s.checkpoint_sequence >= kSequenceEnd || s.clean_stop > 1) return Verdict::bad_geometry;
  // A compatible feature may have put something into bytes that are reserved here.
  if (s.compatible_flags == 0 && !all_zero(s.reserved)) return Verdict::reserved_not_zero;
  return Verdict::good;
}

}  // namespace

const char* verdict_text(Verdict verdict) noexcept {
  switch (verdict) {
    case Verdict::good: return "good";
    case Verdict::truncated: return "too short";
    case Verdict::bad_magic: return "not of this kind";
    case Verdict::unknown_version: return "of an unknown version";
    case Verdict::unknown_flags: return "with unknown flags";
    case Verdict::bad_geometry: return "with sizes outside their limits or in contradiction";
    case Verdict::bad_checksum: return "with a wrong checksum";
    case Verdict::wrong_identity: return "of another store, file or slot";
    case Verdict::reserved_not_zero: return "with reserved bytes that are not zero";
  }
  return "?";
}

Verdict validate_superblock(std::span<const std::byte> bytes) noexcept {
  Superblock s;
  if (!copy_of(bytes, &s)) return Verdict::truncated;
  if (s.magic != kTierMagic) return Verdict::bad_magic;
  if (s.format_version != kFormatVersion) return Verdict::unknown_version;
  if ((s.incompatible_flags & ~kIncompatibleFlagsKnown) != 0) return Verdict::unknown_flags;
  if (s.checksum != superblock_checksum(s)) return Verdict::bad_checksum;
  return superblock_geometry(s);
}

std::optional<unsigned> choose_superblock(std::span<const std::byte> tier_header, Verdict (&ret_verdicts)[2]) noexcept {
  std::optional<unsigned> chosen;
  uint64_t chosen_epoch = 0;
  for (unsigned i = 0; i < 2; ++i) {
    const size_t offset = std::min(kSuperblockOffsets[i], tier_header.size());
    const auto bytes = tier_header.subspan(offset, std::min(sizeof(Superblock), tier_header.size() - offset));
    // One private copy for the verdict and the epoch.
    Superblock copy;
    if (!copy_of(bytes, &copy)) {
      ret_verdicts[i] = Verdict::truncated;
      continue;
    }
    ret_verdicts[i] = validate_superblock(std::as_bytes(std::span(&copy, 1)));
    if (ret_verdicts[i] != Verdict::good) continue;
    if (!chosen || copy.epoch > chosen_epoch) {
      chosen = i;
      chosen_epoch = copy.epoch;
    }
  }
  return chosen;
}

Verdict validate_segment_header(std::span<const std::byte> bytes, const uint8_t (&store_id)[16], uint64_t number) noexcept {
  SegmentHeader h;
  if (!copy_of(bytes, &h)) return Verdict::truncated;
  if (h.magic != kSegmentMagic) return Verdict::bad_magic;
  if (h.format_version != kFormatVersion) return Verdict::unknown_version;
  if (h.checksum != segment_header_checksum(h)) return Verdict::bad_checksum;
  if (h.header_bytes != sizeof(SegmentHeader) || h.number >= kSegmentNumberEnd) return Verdict::bad_geometry;
  if (h.segment_bytes < sizeof(SegmentHeader) || h.segment_bytes > kSegmentFileBytesMax || h.segment_bytes % 8 != 0) {
    return Verdict::bad_geometry;
  }
  if (!same_store(h.store_id, store_id) || h.number != number) return Verdict::wrong_identity;
  return Verdict::good;
}

Verdict validate_record(std::span<const std::byte> segment, uint64_t offset_bytes, uint32_t slot, uint64_t put_word,
                        uint32_t content_bytes, uint32_t checksum, RecordPlace* ret_place) noexcept {
  if (offset_bytes % 8 != 0 || offset_bytes < sizeof(SegmentHeader)) return Verdict::bad_geometry;
  if (offset_bytes > segment.size()) return Verdict::truncated;
  RecordPlace place;
  if (!copy_of(segment.subspan(offset_bytes), &place.header)) return Verdict::truncated;
  const RecordHeader& h = place.header;
  if (put_word == 0 || !put_word_valid(put_word, slot) || h.put != put_word) return Verdict::wrong_identity;
  if (h.codec != kCodecRaw || (h.flags & ~kRecordFlagsKnown) != 0) return Verdict::unknown_flags;
  if (h.id_bytes < 1 || h.id_bytes > kIdBytesMax) return Verdict::bad_geometry;
  // Raw content is stored as it was given; absent content is stored as nothing.
  if (h.stored_bytes != content_bytes) return Verdict::bad_geometry;
  if ((h.flags & kRecordContentAbsent) != 0 && h.stored_bytes != 0) return Verdict::bad_geometry;
  // offset <= size < 2^63 and a record is below 2^33: no sum here wraps.
  if (record_bytes(h.id_bytes, h.stored_bytes) > segment.size() - offset_bytes) return Verdict::truncated;
  place.id_offset = offset_bytes + sizeof(RecordHeader);
  place.content_offset = place.id_offset + h.id_bytes;
  if (h.header_checksum != record_header_checksum(h, segment.data() + place.id_offset, content_bytes, checksum)) {
    return Verdict::bad_checksum;
  }
  *ret_place = place;
  return Verdict::good;
}

LineVerdict validate_line(const SlotLine& line, uint32_t slot) noexcept {
  if (line.put == 0) return LineVerdict::free;
  if (!put_word_valid(line.put, slot)) return LineVerdict::bad_put;
  if (line.dead != 0 && sequence_of(line.dead) == 0) return LineVerdict::bad_dead;
  if (!live(line.put, line.dead)) {
    // Its locator does not matter any more: a slot that is used again may show a mixture on the device.
    return dead_word_names(line.dead, sequence_of(line.put)) ? LineVerdict::dead : LineVerdict::bad_dead;
  }
  return locator_valid(line.locator, slot, sequence_of(line.put)) ? LineVerdict::live : LineVerdict::bad_locator;
}

Verdict validate_results_header(std::span<const std::byte> bytes, const uint8_t (&store_id)[16]) noexcept {
  ResultsHeader h;
  if (!copy_of(bytes, &h)) return Verdict::truncated;
  if (h.magic != kResultsMagic) return Verdict::bad_magic;
  if (h.format_version != kFormatVersion) return Verdict::unknown_version;
  if (h.lanes < kLanesMin || h.lanes > kLanesMax || h.sessions_max != kSessionsPerChannel) return Verdict::bad_geometry;
  if (!same_store(h.store_id, store_id)) return Verdict::wrong_identity;
  if (!all_zero(h.reserved)) return Verdict::reserved_not_zero;
  return Verdict::good;
}

Verdict validate_index_header(std::span<const std::byte> bytes, uint64_t file_bytes) noexcept {
  IndexHeader h;
  if (!copy_of(bytes, &h)) return Verdict::truncated;
  if (h.magic != kIndexMagic) return Verdict::bad_magic;
  if (h.format_version != kFormatVersion) return Verdict::unknown_version;
  if (h.homes_log2 < kIndexHomesLog2Min || h.homes_log2 > kIndexHomesLog2Max) return Verdict::bad_geometry;
  if (h.buckets != index_buckets(h.homes_log2)) return Verdict::bad_geometry;
  if (file_bytes < index_bytes(h.homes_log2)) return Verdict::truncated;
  if (!all_zero(h.reserved)) return Verdict::reserved_not_zero;
  return Verdict::good;
}

Verdict validate_feed_header(std::span<const std::byte> bytes, uint64_t file_bytes) noexcept {
  FeedHeader h;
  if (!copy_of(bytes, &h)) return Verdict::truncated;
  if (h.magic != kFeedMagic) return Verdict::bad_magic;
  if (h.format_version != kFormatVersion) return Verdict::unknown_version;
  if (h.entries_log2 < 1 || h.entries_log2 > kFeedEntriesLog2Max) return Verdict::bad_geometry;
  if (h.ids_log2 < kFeedIdsLog2Min || h.ids_log2 > kFeedIdsLog2Max || h.sequence_base >= kSequenceEnd)
    return Verdict::bad_geometry;
  if (file_bytes < feed_bytes(h.entries_log2, h.ids_log2)) return Verdict::truncated;
  if (h.reserved32 != 0 || !all_zero(h.reserved0) || !all_zero(h.reserved1)) return Verdict::reserved_not_zero;
  return Verdict::good;
}

Verdict validate_status_header(std::span<const std::byte> bytes) noexcept {
  // Of a page that its daemon goes on writing only the words that stay are copied.
  struct {
    uint64_t magic;
    uint32_t format_version;
  } first;
  static_assert(offsetof(StatusPage, magic) == 0 && offsetof(StatusPage, format_version) == 8);
  if (bytes.size() < sizeof(StatusPage) || !copy_of(bytes, &first)) return Verdict::truncated;
  if (first.magic != kStatusMagic) return Verdict::bad_magic;
  if (first.format_version != kFormatVersion) return Verdict::unknown_version;
  return Verdict::good;
}

Verdict validate_channel_header(std::span<const std::byte> bytes, uint64_t file_bytes) noexcept {
  ChannelHeader h;
  if (!copy_of(bytes, &h)) return Verdict::truncated;
  if (h.magic != kChannelMagic) return Verdict::bad_magic;
  if (h.format_version != kFormatVersion) return Verdict::unknown_version;
  if (h.lanes < kLanesMin || h.lanes > kLanesMax) return Verdict::bad_geometry;
  if (file_bytes < channel_bytes(h.lanes)) return Verdict::truncated;
  if (!all_zero(h.reserved)) return Verdict::reserved_not_zero;
  return Verdict::good;
}

// The header is frozen for all versions: `unknown_version` is the last verdict and means that the pins are where the header says
// and can be honoured, while nothing is known about the rest of the region.
Verdict validate_session_header(std::span<const std::byte> bytes, uint64_t file_bytes) noexcept {
  SessionHeader h;
  if (!copy_of(bytes, &h)) return Verdict::truncated;
  if (h.magic != kSessionMagic) return Verdict::bad_magic;
  if (h.pin_cells < 1 || h.pin_cells > kViewsMax) return Verdict::bad_geometry;
  if (h.pins_offset < sizeof(SessionHeader) || h.pins_offset % kCacheLineBytes != 0) return Verdict::bad_geometry;
  if (h.pins_offset > file_bytes || file_bytes - h.pins_offset < uint64_t{h.pin_cells} * sizeof(uint32_t))
    return Verdict::truncated;
  if (h.format_version != kFormatVersion) return Verdict::unknown_version;
  static_assert(sizeof(SessionRegion) == offsetof(SessionRegion, pins) + kViewsMax * sizeof(uint32_t), "the pins end the region");
  if (h.pin_cells != kViewsMax || h.pins_offset != offsetof(SessionRegion, pins)) return Verdict::bad_geometry;
  return Verdict::good;
}

RequestVerdict validate_request(const RequestHeader& request, uint32_t dimensions, uint64_t content_bytes_max,
                                bool in_lane) noexcept {
  const auto is = [&](Operation operation) { return request.operation == static_cast<uint16_t>(operation); };
  const bool put = is(Operation::put);
  const bool update = is(Operation::update);
  const bool clear = is(Operation::clear);
  // The socket carries what does not fit a lane, and that is content.
  if (!put && ((!is(Operation::remove) && !update && !clear) || !in_lane)) return RequestVerdict::unknown_operation;
  if (request.condition > WARM_IF_SEQUENCE || (!put && request.condition == WARM_IF_ABSENT) ||
      (clear && request.condition != WARM_IF_ANY)) {
    return RequestVerdict::bad_condition;
  }
  const uint32_t given_known = put ? kGivenKnown : update ? kSetKnown : 0U;
  if ((request.given & ~given_known) != 0 || (update && request.given == 0) || request.reserved0 != 0 ||
      !all_zero(request.reserved)) {
    return RequestVerdict::bad_given;
  }
  if (clear ? request.id_bytes != 0 : request.id_bytes < 1 || request.id_bytes > kIdBytesMax) return RequestVerdict::id_length;
  if (request.dimensions != (put ? dimensions : 0)) return RequestVerdict::wrong_dimensions;
  if (request.content_bytes > content_bytes_max || request.content_bytes > kContentBytesMax)
    return RequestVerdict::content_length;
  const bool with_content = put && (request.given & WARM_GIVEN_CONTENT) != 0;
  if (!with_content && (request.content_bytes != 0 || !in_lane)) return RequestVerdict::content_length;
  if (in_lane && uint64_t{request.dimensions} * sizeof(float) + request.id_bytes + request.content_bytes > kLanePayloadBytes) {
    return RequestVerdict::does_not_fit_lane;
  }
  if (request.cell >= kCellsPerSession || request.session_index >= kSessionsPerChannel) return RequestVerdict::bad_cell;
  if (request.condition == WARM_IF_SEQUENCE && request.if_sequence >= kSequenceEnd) return RequestVerdict::bad_number;
  if ((put || update) &&
      !(finite(request.quad.confidence) && finite(request.quad.activation) && finite(request.quad.decay_rate))) {
    return RequestVerdict::not_finite;
  }
  return RequestVerdict::good;
}

namespace {

// A peer of another version is told both numbers; so the version is looked at before the length, which may differ with it.
Verdict greeting(std::span<const std::byte> bytes, size_t expected_bytes, uint32_t protocol_version) noexcept {
  uint32_t version = 0;
  if (bytes.size() < sizeof(MessageHeader) + sizeof version) return Verdict::truncated;
  std::memcpy(&version, bytes.data() + sizeof(MessageHeader), sizeof version);
  if (version != protocol_version) return Verdict::unknown_version;
  return bytes.size() == expected_bytes ? Verdict::good : Verdict::bad_geometry;
}

Verdict validate_segments(std::span<const std::byte> bytes) noexcept {
  Segments m{};
  if (bytes.size() < offsetof(Segments, numbers) || bytes.size() > sizeof m) return Verdict::bad_geometry;
  std::memcpy(&m, bytes.data(), bytes.size());
  if (m.count > kSegmentsPerMessage || m.last > 1) return Verdict::bad_geometry;
  if (bytes.size() < offsetof(Segments, numbers) + size_t{m.count} * sizeof m.numbers[0]) return Verdict::bad_geometry;
  for (uint32_t i = 0; i < m.count; ++i) {
    if (m.numbers[i] >= kSegmentNumberEnd) return Verdict::bad_geometry;
  }
  return Verdict::good;
}

Verdict validate_index_message(std::span<const std::byte> bytes) noexcept {
  IndexMessage m;
  if (bytes.size() != sizeof m) return Verdict::bad_geometry;
  std::memcpy(&m, bytes.data(), sizeof m);
  if (m.homes_log2 < kIndexHomesLog2Min || m.homes_log2 > kIndexHomesLog2Max) return Verdict::bad_geometry;
  return m.reserved == 0 ? Verdict::good : Verdict::reserved_not_zero;
}

Verdict validate_put(std::span<const std::byte> bytes) noexcept {
  PutMessage m;
  if (!copy_of(bytes, &m)) return Verdict::bad_geometry;
  if (m.request.dimensions > kDimensionsMax || m.request.id_bytes > kIdBytesMax) return Verdict::bad_geometry;
  if (bytes.size() != sizeof m + size_t{m.request.dimensions} * sizeof(float) + m.request.id_bytes) return Verdict::bad_geometry;
  return all_zero(m.reserved) ? Verdict::good : Verdict::reserved_not_zero;
}

Verdict validate_hello(std::span<const std::byte> bytes, uint32_t protocol_version) noexcept {
  if (const Verdict verdict = greeting(bytes, sizeof(Hello), protocol_version); verdict != Verdict::good) return verdict;
  Hello m;
  std::memcpy(&m, bytes.data(), sizeof m);
  return m.flags == 0 && m.reserved == 0 ? Verdict::good : Verdict::reserved_not_zero;
}

Verdict validate_refuse(std::span<const std::byte> bytes) noexcept {
  Refuse m;
  if (bytes.size() != sizeof m) return Verdict::bad_geometry;
  std::memcpy(&m, bytes.data(), sizeof m);
  return std::memchr(m.text, 0, sizeof m.text) != nullptr ? Verdict::good : Verdict::bad_geometry;
}

Verdict validate_accept(std::span<const std::byte> bytes) noexcept {
  Accept m;
  if (bytes.size() != sizeof m) return Verdict::bad_geometry;
  std::memcpy(&m, bytes.data(), sizeof m);
  if (m.count > kForsakenPerMessage) return Verdict::bad_geometry;
  for (uint32_t i = 0; i < kForsakenPerMessage; ++i) {
    if ((m.sessions[i] != 0) != (i < m.count)) return Verdict::bad_geometry;
  }
  return m.reserved == 0 ? Verdict::good : Verdict::reserved_not_zero;
}

Verdict validate_sessions(std::span<const std::byte> bytes) noexcept {
  SessionsMessage m{};
  if (bytes.size() < offsetof(SessionsMessage, reports) || bytes.size() > sizeof m) return Verdict::bad_geometry;
  std::memcpy(&m, bytes.data(), bytes.size());
  if (m.count > kSessionsPerMessage || m.last > 1) return Verdict::bad_geometry;
  if (bytes.size() != offsetof(SessionsMessage, reports) + size_t{m.count} * sizeof m.reports[0]) return Verdict::bad_geometry;
  return Verdict::good;
}

Verdict validate_watch(std::span<const std::byte> bytes) noexcept {
  Watch m;
  if (bytes.size() != sizeof m) return Verdict::bad_geometry;
  std::memcpy(&m, bytes.data(), sizeof m);
  if (m.checkpoint > 1) return Verdict::unknown_flags;
  return m.reserved == 0 ? Verdict::good : Verdict::reserved_not_zero;
}

}  // namespace

Verdict validate_message(std::span<const std::byte> bytes, uint32_t protocol_version) noexcept {
  MessageHeader header;
  if (!copy_of(bytes, &header)) return Verdict::truncated;
  if (header.bytes > bytes.size()) return Verdict::truncated;
  if (header.bytes < bytes.size()) return Verdict::bad_geometry;
  switch (static_cast<MessageKind>(header.kind)) {
    case MessageKind::hello: return validate_hello(bytes, protocol_version);
    case MessageKind::welcome: return greeting(bytes, sizeof(Welcome), protocol_version);
    case MessageKind::refuse: return validate_refuse(bytes);
    case MessageKind::segments: return validate_segments(bytes);
    case MessageKind::segments_wanted: return bytes.size() == sizeof(SegmentsWanted) ? Verdict::good : Verdict::bad_geometry;
    case MessageKind::index: return validate_index_message(bytes);
    case MessageKind::put: return validate_put(bytes);
    case MessageKind::watch: return validate_watch(bytes);
    case MessageKind::sessions_wanted: return bytes.size() == sizeof(SessionsWanted) ? Verdict::good : Verdict::bad_geometry;
    case MessageKind::sessions: return validate_sessions(bytes);
    case MessageKind::bye: return bytes.size() == sizeof(Bye) ? Verdict::good : Verdict::bad_geometry;
    case MessageKind::accept: return validate_accept(bytes);
  }
  return Verdict::bad_magic;
}

// Blocks of a fixed length without a branch inside, so that even a cautious vectoriser takes them; one branch a block.
bool all_finite(const float* values, size_t n) noexcept {
  constexpr size_t kBlock = 64;
  size_t i = 0;
  for (; i + kBlock <= n; i += kBlock) {
    uint32_t bits[kBlock];
    std::memcpy(bits, values + i, sizeof bits);
    uint32_t bad = 0;
    for (size_t j = 0; j < kBlock; ++j) bad |= (bits[j] & 0x7F80'0000U) == 0x7F80'0000U ? 1U : 0U;
    if (bad != 0) return false;
  }
  uint32_t bad = 0;
  for (; i < n; ++i) bad |= finite(values[i]) ? 0U : 1U;
  return bad == 0;
}

namespace {

// For a processor with registers of so many bytes.
template <size_t kWidth>
[[gnu::always_inline]] inline bool copy_finite_by(std::byte* to, const std::byte* from, size_t bytes) noexcept {
  typedef uint32_t Vector __attribute__((vector_size(kWidth)));
  constexpr size_t kTogether = 4;
  Vector exponent{};
  exponent |= 0x7F80'0000U;
  Vector bad[kTogether]{};
  size_t i = 0;
  for (; i + kTogether * kWidth <= bytes; i += kTogether * kWidth) {
    for (size_t j = 0; j < kTogether; ++j) {
      Vector values;
      std::memcpy(&values, from + i + j * kWidth, kWidth);
      // The compiler may not load it again. (By name, as below, clang takes no register that the template's own target lacks.)
      __asm__ volatile("" : : : "memory");
      std::memcpy(to + i + j * kWidth, &values, kWidth);
      bad[j] |= Vector((values & exponent) == exponent);
    }
  }
  uint32_t any = 0;
  for (; i < bytes; i += sizeof(uint32_t)) {
    uint32_t value;
    std::memcpy(&value, from + i, sizeof value);
    __asm__ volatile("" : "+r"(value));
    std::memcpy(to + i, &value, sizeof value);
    any |= finite_bits(value) ? 0U : 1U;
  }
  uint32_t lanes[kTogether * kWidth / sizeof(uint32_t)];
  std::memcpy(lanes, bad, sizeof bad);
  for (const uint32_t lane : lanes) any |= lane;
  return any == 0;
}

#if defined(__x86_64__)
[[gnu::target("avx2")]] bool copy_finite_avx2(std::byte* to, const std::byte* from, size_t bytes) noexcept {
  return copy_finite_by<32>(to, from, bytes);
}
const bool kHasAvx2 = __builtin_cpu_supports("avx2") != 0;
#endif

}  // namespace

bool copy_finite(std::byte* to, const std::byte* from, size_t bytes) noexcept {
#if defined(__x86_64__)
  if (kHasAvx2) return copy_finite_avx2(to, from, bytes);
  return copy_finite_by<16>(to, from, bytes);
#else
  std::memcpy(to, from, bytes);
  return all_finite(reinterpret_cast<const float*>(to), bytes / sizeof(float));
#endif
}

}  // namespace warmtier::layout
