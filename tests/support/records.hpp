// Records of which every byte follows from (key, version): whoever holds a view can say whether it is one record or a mix.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "warmtier/warmtier.h"

namespace warmtier::tests::support {

struct Shape {
  uint32_t dimensions = 16;
  uint32_t content_bytes_max = 600;  // lengths are spread over 0 .. this; absent and empty content occur too
};

class Record {
 public:
  Record(const Shape& shape, uint64_t key, uint32_t version);

  // Valid while this object lives and does not move.
  [[nodiscard]] warm_memory memory() const;
  [[nodiscard]] const std::string& id() const noexcept { return id_; }

 private:
  std::string id_;
  std::vector<float> embedding_;
  std::string content_;
  bool absent_ = false;
  uint64_t seed_ = 0;
  uint32_t version_ = 0;
};

std::string record_id(uint64_t key);
// The version travels in recall_count; nothing else is believed.
inline uint32_t version_of(const warm_view& view) { return view.recall_count; }
// nullptr when every byte of the view is what (key, its version) says; else what differs.
const char* mismatch(const Shape& shape, uint64_t key, const warm_view& view);

// Puts it; the code of warm_put.
int put_record(warm_client* client, const Shape& shape, uint64_t key, uint32_t version, uint64_t* ret_sequence = nullptr);
// Gets and recomputes it: WARM_OK, a code of warm_get, or WARM_E_CORRUPT for a mix (said on stderr).
int check_record(warm_client* client, const Shape& shape, uint64_t key, uint32_t* ret_version = nullptr);

}  // namespace warmtier::tests::support
