#include "tests/support/records.hpp"

#include <cstdio>
#include <cstring>

#include "tests/support/chance.hpp"

namespace warmtier::tests::support {
namespace {

enum Purpose : uint64_t { kScalars = 1, kLength = 2, kEmbedding = 3, kContent = 4 };

constexpr uint64_t seed_of(uint64_t key, uint32_t version) { return mix(mix(key) ^ (uint64_t{version} << 17)); }
constexpr uint64_t word(uint64_t seed, Purpose purpose, uint64_t i) { return mix(seed ^ (purpose << 56) ^ i); }
float value(uint64_t bits) { return static_cast<float>(bits >> 40) / 16'777'216.0f - 0.5f; }

struct Length {
  bool absent;
  uint64_t bytes;
};
Length length_of(const Shape& shape, uint64_t seed) {
  const uint64_t bits = word(seed, kLength, 0);
  if (bits % 16 == 0) return {.absent = true, .bytes = 0};
  if (bits % 16 == 1) return {.absent = false, .bytes = 0};
  return {.absent = false, .bytes = (bits >> 8) % (uint64_t{shape.content_bytes_max} + 1)};
}

// 2001 and later, whole nanoseconds.
constexpr uint64_t time_of(uint64_t seed, uint64_t i) {
  return 1'000'000'000'000'000'000ULL + word(seed, kScalars, i) % 1'000'000'000'000'000ULL;
}

}  // namespace

std::string record_id(uint64_t key) {
  // Lengths differ, so that a torn id would not even have the right end.
  std::string id = "record/" + std::to_string(key) + "/";
  id.append(mix(key) % 40, static_cast<char>('a' + key % 26));
  return id;
}

Record::Record(const Shape& shape, uint64_t key, uint32_t version)
    : id_(record_id(key)), embedding_(shape.dimensions), seed_(seed_of(key, version)), version_(version) {
  for (uint32_t i = 0; i < shape.dimensions; ++i) embedding_[i] = value(word(seed_, kEmbedding, i));
  const Length length = length_of(shape, seed_);
  absent_ = length.absent;
  content_.resize(length.bytes);
  for (uint64_t at = 0; at < length.bytes; at += 8) {
    const uint64_t bits = word(seed_, kContent, at);
    std::memcpy(content_.data() + at, &bits, std::min<uint64_t>(8, length.bytes - at));
  }
}

warm_memory Record::memory() const {
  warm_memory memory = WARM_MEMORY_INIT;
  memory.given = WARM_GIVEN_CREATED | WARM_GIVEN_LAST_ACCESS | (absent_ ? 0 : WARM_GIVEN_CONTENT);
  memory.id = id_.data();
  memory.id_bytes = id_.size();
  memory.embedding = embedding_.data();
  memory.dimensions = static_cast<uint32_t>(embedding_.size());
  memory.content = absent_ ? nullptr : content_.data();
  memory.content_bytes = content_.size();
  memory.created_ns = time_of(seed_, 0);
  memory.last_access_ns = time_of(seed_, 1);
  memory.confidence = value(word(seed_, kScalars, 2));
  memory.activation = value(word(seed_, kScalars, 3));
  memory.decay_rate = value(word(seed_, kScalars, 4));
  memory.recall_count = version_;
  return memory;
}

const char* mismatch(const Shape& shape, uint64_t key, const warm_view& view) {
  const uint64_t seed = seed_of(key, version_of(view));
  char id[96];
  const std::string expected = record_id(key);
  if (view.id_bytes != expected.size() || expected.size() > sizeof id) return "id length";
  if (std::memcmp(view.id, expected.data(), expected.size()) != 0) return "id";
  if (view.dimensions != shape.dimensions) return "dimensions";
  const Length length = length_of(shape, seed);
  if (length.absent != (view.content_state == WARM_CONTENT_ABSENT)) return "content state";
  if (view.content_bytes != length.bytes) return "content length";
  if (length.absent != (view.content == nullptr)) return "content pointer";
  if (view.confidence != value(word(seed, kScalars, 2))) return "confidence";
  if (view.activation != value(word(seed, kScalars, 3))) return "activation";
  if (view.decay_rate != value(word(seed, kScalars, 4))) return "decay rate";
  if (view.created_ns != time_of(seed, 0)) return "created";
  if (view.last_access_ns != time_of(seed, 1)) return "last access";
  for (uint32_t i = 0; i < shape.dimensions; ++i) {
    if (view.embedding[i] != value(word(seed, kEmbedding, i))) return "embedding";
  }
  for (uint32_t i = shape.dimensions; i % 16 != 0; ++i) {
    if (view.embedding[i] != 0.0f) return "embedding padding";
  }
  const char* content = static_cast<const char*>(view.content);
  for (uint64_t at = 0; at < length.bytes; at += 8) {
    const uint64_t bits = word(seed, kContent, at);
    if (std::memcmp(content + at, &bits, std::min<uint64_t>(8, length.bytes - at)) != 0) return "content";
  }
  return nullptr;
}

int put_record(warm_client* client, const Shape& shape, uint64_t key, uint32_t version, uint64_t* ret_sequence) {
  const Record record(shape, key, version);
  const warm_memory memory = record.memory();
  return warm_put(client, &memory, ret_sequence);
}

int check_record(warm_client* client, const Shape& shape, uint64_t key, uint32_t* ret_version) {
  const std::string id = record_id(key);
  warm_view view = WARM_VIEW_INIT;
  if (const int code = warm_get(client, id.data(), id.size(), 0, &view); code != WARM_OK) return code;
  const char* differs = mismatch(shape, key, view);
  if (differs != nullptr) {
    std::fprintf(stderr, "record %llu, version %u: %s differs\n", static_cast<unsigned long long>(key), version_of(view),
                 differs);
  } else if (ret_version != nullptr) {
    *ret_version = version_of(view);
  }
  const int released = warm_release(client, &view);
  return differs != nullptr ? WARM_E_CORRUPT : released;
}

}  // namespace warmtier::tests::support
