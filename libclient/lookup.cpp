#include "libclient/lookup.hpp"

#include <sched.h>

#include <algorithm>

namespace warmtier::libclient {

template <Want kWant, typename Source>
Place copy_record(Source& source, const Attachment& a, const SegmentTable::Entry& segment, uint64_t offset,
                  Record& record) noexcept {
  const auto read = [&](void* to, uint64_t from, uint64_t n) {
    if constexpr (!Source::kInPlace) {
      if (segment.base != nullptr) return source.copy(to, segment.base + from, n);
    }
    return segment.map->read(to, from, n);
  };
  if (!read(&record.header, offset, sizeof record.header)) return Place::bad;
  if (!header_fits(record.header, record.line.put, offset, segment.bytes, record.line.content_bytes)) return Place::bad;
  const uint64_t row_bytes = Source::kInPlace || kWant == Want::facts ? 0 : a.geometry.row_bytes;
  const uint64_t bytes = uint64_t{record.header.id_bytes} + (kWant == Want::facts ? 0 : record.header.stored_bytes);
  constexpr uint64_t kLine = layout::kCacheLineBytes;
  record.owned.reset(static_cast<std::byte*>(std::aligned_alloc(kLine, (row_bytes + bytes + kLine - 1) / kLine * kLine)));
  if (record.owned == nullptr) return Place::no_memory;
  record.id = record.owned.get() + row_bytes;
  if (!read(record.owned.get() + row_bytes, offset + sizeof record.header, bytes)) return Place::bad;
  record.embedding = row_at(a, record.slot);
  if constexpr (!Source::kInPlace) {
    if (row_bytes != 0 && !source.copy(record.owned.get(), record.embedding, row_bytes)) return Place::bad;
    record.embedding = record.owned.get();
  }
  return Place::good;
}

template Place copy_record<Want::facts>(InPlace&, const Attachment&, const SegmentTable::Entry&, uint64_t, Record&) noexcept;
template Place copy_record<Want::bytes>(InPlace&, const Attachment&, const SegmentTable::Entry&, uint64_t, Record&) noexcept;
template Place copy_record<Want::view>(InPlace&, const Attachment&, const SegmentTable::Entry&, uint64_t, Record&) noexcept;
template Place copy_record<Want::facts>(ThroughKernel&, const Attachment&, const SegmentTable::Entry&, uint64_t,
                                        Record&) noexcept;
template Place copy_record<Want::bytes>(ThroughKernel&, const Attachment&, const SegmentTable::Entry&, uint64_t,
                                        Record&) noexcept;

std::string shown(const void* id, size_t id_bytes) {
  constexpr size_t kShownMax = 64;
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string text;
  const auto* bytes = static_cast<const unsigned char*>(id);
  for (size_t i = 0; i < std::min(id_bytes, kShownMax); ++i) {
    if (bytes[i] >= 0x20 && bytes[i] < 0x7F) {
      text += static_cast<char>(bytes[i]);
    } else {
      text += "\\x";
      text += kDigits[bytes[i] >> 4];
      text += kDigits[bytes[i] & 15];
    }
  }
  return id_bytes > kShownMax ? text + "..." : text;
}

base::Status overcome(ClientState& state, Lookup verdict, const void* id, size_t id_bytes, const Record& record,
                      Patience& patience, Trouble& trouble) {
  // Not before it is needed: most troubles are overcome.
  const auto name = [&] {
    if (id != nullptr) return "id " + shown(id, id_bytes);
    return "slot " + std::to_string(record.slot) + ", sequence " + std::to_string(layout::sequence_of(record.line.put));
  };
  switch (verdict) {
    case Lookup::reattach: return state.refresh(ClientState::Need::reads, patience.deadline());
    case Lookup::pause:
      if (patience.deadline().passed()) {
        return base::fail(WARM_E_BUSY, "the record did not hold still, or its change was not finished, until the deadline; %s",
                          name().c_str());
      }
      ::sched_yield();
      return {};
    case Lookup::segment:
      // Announced before a locator names it: what a list made after the locator was read does not name is gone.
      if (trouble.missing_put == record.line.put && trouble.missing_locator == record.line.locator) {
        return base::fail(WARM_E_CORRUPT, "segment %lu is named by a record and is not in the store; %s", record.segment_number,
                          name().c_str());
      }
      if (trouble.segment_rounds++ == layout::kSegmentRounds) {
        return base::fail(WARM_E_BUSY, "the record moved from segment to segment %u times; %s", layout::kSegmentRounds,
                          name().c_str());
      }
      trouble.missing_put = record.line.put;
      trouble.missing_locator = record.line.locator;
      return state.fetch_segments(patience.deadline());
    case Lookup::full:
      return base::fail(WARM_E_LIMIT, "%u views are held, as many as this client was granted: more are not possible",
                        state.views_max());
    case Lookup::no_memory: return base::fail(WARM_E_NOMEM, "no memory for bytes that must be copied; %s", name().c_str());
    case Lookup::fault:
      return base::fail(WARM_E_CORRUPT, "stored bytes cannot be read: the kernel reports a fault; %s", name().c_str());
    case Lookup::unsupported:
      return base::fail(WARM_E_UNSUPPORTED, "WARM_COPY: the kernel refuses process_vm_readv on this process");
    default: return base::fail(WARM_E_CORRUPT, "stored bytes failed a check; %s", name().c_str());
  }
}

}  // namespace warmtier::libclient
