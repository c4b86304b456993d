// Input: a byte (which region; the highest bit: zeros follow up to the end of its first pages), the length of its file, its first
// bytes.
#include <cstring>
#include <vector>

#include "base/assert.hpp"
#include "layout/validate.hpp"

using namespace warmtier::layout;

namespace {

template <typename Header>
Header header_of(std::span<const std::byte> bytes) {
  WARM_ASSERT(bytes.size() >= sizeof(Header));
  Header header;
  std::memcpy(&header, bytes.data(), sizeof header);
  return header;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t n) {
  constexpr size_t kFront = 1 + sizeof(uint64_t);
  if (n < kFront) return 0;
  uint64_t file_bytes = 0;
  std::memcpy(&file_bytes, data + 1, sizeof file_bytes);
  const auto input = std::as_bytes(std::span(data, n)).subspan(kFront);
  std::vector<std::byte> bytes(input.begin(), input.end());
  if ((data[0] & 0x80U) != 0) bytes.resize(std::max(bytes.size(), sizeof(StatusPage)));
  constexpr uint8_t kStoreId[16] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16};
  const auto good = [](Verdict verdict) { return verdict == Verdict::good; };
  switch (static_cast<Region>(data[0] & 0x7FU)) {
    case Region::results:
      if (good(validate_results_header(bytes, kStoreId))) {
        const auto h = header_of<ResultsHeader>(bytes);
        WARM_ASSERT(h.lanes >= kLanesMin && h.lanes <= kLanesMax);
        WARM_ASSERT(std::memcmp(h.store_id, kStoreId, sizeof kStoreId) == 0);
      }
      break;
    case Region::index:
      if (good(validate_index_header(bytes, file_bytes))) {
        const auto h = header_of<IndexHeader>(bytes);
        WARM_ASSERT(h.homes_log2 >= kIndexHomesLog2Min && h.homes_log2 <= kIndexHomesLog2Max);
        WARM_ASSERT(file_bytes >= index_bytes(h.homes_log2) && h.buckets == index_buckets(h.homes_log2));
      }
      break;
    case Region::feed:
      if (good(validate_feed_header(bytes, file_bytes))) {
        const auto h = header_of<FeedHeader>(bytes);
        WARM_ASSERT(h.entries_log2 < 32 && h.ids_log2 < 32 && h.sequence_base < kSequenceEnd);
        WARM_ASSERT(file_bytes >= feed_bytes(h.entries_log2, h.ids_log2));
      }
      break;
    case Region::status:
      if (good(validate_status_header(bytes))) WARM_ASSERT(header_of<StatusPage>(bytes).format_version == kFormatVersion);
      break;
    case Region::channel:
      if (good(validate_channel_header(bytes, file_bytes))) {
        const auto h = header_of<ChannelHeader>(bytes);
        WARM_ASSERT(h.lanes >= kLanesMin && h.lanes <= kLanesMax && file_bytes >= channel_bytes(h.lanes));
      }
      break;
    case Region::session: {
      const Verdict verdict = validate_session_header(bytes, file_bytes);
      // Of an unknown version the pins are honoured all the same.
      if (good(verdict) || verdict == Verdict::unknown_version) {
        const auto h = header_of<SessionHeader>(bytes);
        WARM_ASSERT(h.pin_cells >= 1 && h.pin_cells <= kViewsMax && h.pins_offset % sizeof(uint32_t) == 0);
        WARM_ASSERT(h.pins_offset <= file_bytes && file_bytes - h.pins_offset >= uint64_t{h.pin_cells} * sizeof(uint32_t));
      }
      break;
    }
    case Region::tier:
    case Region::segment:
    case Region::control: break;  // targets of their own; as what is no region
  }
  return 0;
}
