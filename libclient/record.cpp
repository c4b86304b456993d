#include "libclient/record.hpp"

#include "layout/record.hpp"

namespace warmtier::libclient {

bool header_intact(const Record& record) noexcept {
  return layout::record_header_checksum(record.header, record.id, record.line.content_bytes, record.line.checksum) ==
         record.header.header_checksum;
}

bool intact(const Attachment& a, const Record& record) noexcept {
  if (!header_intact(record)) return false;
  const uint64_t content = layout::content_hash(record.content(), record.header.stored_bytes, record.content_absent());
  return static_cast<uint32_t>(content) == record.header.content_checksum &&
         layout::payload_checksum(record.embedding, a.geometry.dimensions, content) == record.line.checksum;
}

}  // namespace warmtier::libclient
