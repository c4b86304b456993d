// Input: what a slot line says of a record (LineSays), then a segment.
#include <algorithm>
#include <cstring>

#include "base/assert.hpp"
#include "fuzz/line_says.hpp"
#include "layout/record.hpp"
#include "layout/validate.hpp"

using namespace warmtier::layout;
using warmtier::fuzz::LineSays;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t n) {
  const auto input = std::as_bytes(std::span(data, n));
  LineSays line;
  if (n < sizeof line) return 0;
  std::memcpy(&line, data, sizeof line);
  const auto segment = input.subspan(sizeof line);

  const uint8_t store_id[16] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16};
  const Verdict header_verdict = validate_segment_header(segment, store_id, 7);
  WARM_ASSERT(segment.size() >= sizeof(SegmentHeader) || header_verdict == Verdict::truncated);

  RecordPlace place{};
  if (validate_record(segment, line.offset_bytes, line.slot, line.put, line.content_bytes, line.checksum, &place) ==
      Verdict::good) {
    const RecordHeader& h = place.header;
    WARM_ASSERT(h.id_bytes >= 1 && h.id_bytes <= kIdBytesMax);
    WARM_ASSERT(place.id_offset >= sizeof(SegmentHeader) && place.id_offset <= segment.size());
    WARM_ASSERT(h.id_bytes <= segment.size() - place.id_offset);
    WARM_ASSERT(place.content_offset == place.id_offset + h.id_bytes);
    WARM_ASSERT(h.stored_bytes <= segment.size() - place.content_offset);
    WARM_ASSERT(h.put == line.put && put_word_valid(h.put, line.slot));
  }

  // The same with a header checksum that is right for what the header says, as far as it can be made.
  if (line.offset_bytes <= segment.size() && segment.size() - line.offset_bytes >= sizeof(RecordHeader) &&
      segment.size() < 65536) {
    std::byte copy[65536];
    std::copy(segment.begin(), segment.end(), copy);
    RecordHeader h;
    std::memcpy(&h, copy + line.offset_bytes, sizeof h);
    if (h.id_bytes <= segment.size() - line.offset_bytes - sizeof h) {
      h.header_checksum = record_header_checksum(h, copy + line.offset_bytes + sizeof h, line.content_bytes, line.checksum);
      std::memcpy(copy + line.offset_bytes, &h, sizeof h);
      if (validate_record({copy, segment.size()}, line.offset_bytes, line.slot, line.put, line.content_bytes, line.checksum,
                          &place) == Verdict::good) {
        WARM_ASSERT(place.content_offset + place.header.stored_bytes <= segment.size());
      }
    }
  }
  return 0;
}
