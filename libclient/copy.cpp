// Reads for callers that cannot hold a view: what the line says, or everything, copied into the caller's memory.
#include <cstring>

#include "libclient/reader.hpp"
#include "libclient/view.hpp"

namespace warmtier::libclient {
namespace {

template <typename Source>
base::Result<Presence> copy_by(ClientState& state, const void* id, size_t id_bytes, uint32_t flags, warm_copy& copy) {
  bool fits = false;
  auto presence = seek<Want::bytes, Source, true>(state, id, id_bytes,
                                                  [&](ThreadRecord& me, const Attachment& a, Source& source, Record& record) {
                                                    const uint64_t content_bytes = record.header.stored_bytes;
                                                    const uint32_t dimensions = a.geometry.dimensions;
                                                    fits = (copy.embedding == nullptr || copy.embedding_capacity >= dimensions) &&
                                                           (copy.content == nullptr || copy.content_capacity >= content_bytes);
                                                    bool good = true;
                                                    WARM_STEP("client.copy_begun");
                                                    if (fits) {
                                                      if (copy.embedding != nullptr)
                                                        std::memcpy(copy.embedding, record.embedding, dimensions * sizeof(float));
                                                      if (copy.content != nullptr && content_bytes != 0)
                                                        std::memcpy(copy.content, record.content(), content_bytes);
                                                      good = (flags & WARM_VERIFY) == 0 || intact(a, record);
                                                      if (Source::kInPlace && WARM_RULE("client.line_again_after_copy") &&
                                                          !hold<Want::bytes>(source, me, a, line_at(a, record.slot), record)) {
                                                        return Lookup::pause;  // of two records, maybe
                                                      }
                                                    }
                                                    if (!good) return source.current(a) ? Lookup::corrupt : Lookup::reattach;
                                                    show(record, copy);
                                                    copy.dimensions = dimensions;
                                                    return Lookup::found;
                                                  });
  if (!presence || *presence == Presence::absent || fits) return presence;
  return base::fail(
      WARM_E_LIMIT,
      "the embedding has %u dimensions and there is room for %u; the content has %lu bytes and there is room for %lu",
      copy.dimensions, copy.embedding == nullptr ? copy.dimensions : copy.embedding_capacity, copy.content_bytes,
      copy.content == nullptr ? copy.content_bytes : copy.content_capacity);
}

}  // namespace

base::Result<Presence> get_copy(ClientState& state, const void* id, size_t id_bytes, uint32_t flags, warm_copy& copy) {
  return (flags & WARM_COPY) != 0 ? copy_by<ThroughKernel>(state, id, id_bytes, flags, copy)
                                  : copy_by<InPlace>(state, id, id_bytes, flags, copy);
}

base::Result<Presence> get_scalars(ClientState& state, const void* id, size_t id_bytes, warm_scalars& ret_scalars) {
  return seek<Want::facts, InPlace, false>(state, id, id_bytes,
                                           [&](ThreadRecord&, const Attachment&, InPlace&, const Record& record) {
                                             show(record, ret_scalars);
                                             return Lookup::found;
                                           });
}

}  // namespace warmtier::libclient
