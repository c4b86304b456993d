#include "layout/record.hpp"

#include <criterion/criterion.h>

#include <cstring>

#include "tests/unit/layout/material.hpp"

using namespace warmtier::layout;
using namespace warmtier::tests::layout;

Test(record, absent_and_empty_content_have_different_checksums) {
  const float row[3] = {1, 2, 3};
  const uint32_t absent = payload_checksum(row, 3, content_hash(nullptr, 0, true));
  const uint32_t empty = payload_checksum(row, 3, content_hash("", 0, false));
  cr_assert_neq(absent, empty);
}

Test(record, the_payload_checksum_covers_every_bit_of_embedding_and_content) {
  float row[20] = {};
  char content[40];
  std::memset(content, 'x', sizeof content);
  const uint32_t right = payload_checksum(row, 20, content_hash(content, sizeof content, false));
  for (size_t bit = 0; bit < sizeof row * 8; ++bit) {
    reinterpret_cast<unsigned char*>(row)[bit / 8] ^= static_cast<unsigned char>(1U << bit % 8);
    cr_assert_neq(payload_checksum(row, 20, content_hash(content, sizeof content, false)), right);
    reinterpret_cast<unsigned char*>(row)[bit / 8] ^= static_cast<unsigned char>(1U << bit % 8);
  }
  for (size_t bit = 0; bit < sizeof content * 8; ++bit) {
    content[bit / 8] = static_cast<char>(content[bit / 8] ^ (1 << bit % 8));
    cr_assert_neq(payload_checksum(row, 20, content_hash(content, sizeof content, false)), right);
    content[bit / 8] = static_cast<char>(content[bit / 8] ^ (1 << bit % 8));
  }
  cr_assert_eq(payload_checksum(row, 20, content_hash(content, sizeof content, false)), right);
}

Test(record, padding_behind_the_embedding_is_not_part_of_the_checksum) {
  float row[16] = {1, 2, 3};
  const uint32_t right = payload_checksum(row, 3, 0);
  row[3] = 9;
  cr_assert_eq(payload_checksum(row, 3, 0), right);
}

Test(record, the_header_checksum_covers_header_id_and_the_lines_immutable_words) {
  const auto image = valid_record("an id", "some content", false);
  auto header = value_of<RecordHeader>(std::span(image.segment).subspan(image.offset_bytes));
  char id[] = "an id";
  const uint32_t right = header.header_checksum;
  const uint32_t length = image.line.content_bytes;
  const uint32_t checksum = image.line.checksum;
  cr_assert_eq(record_header_checksum(header, id, length, checksum), right);
  for (size_t bit = 0; bit < sizeof header * 8; ++bit) {
    RecordHeader changed = header;
    reinterpret_cast<unsigned char*>(&changed)[bit / 8] ^= static_cast<unsigned char>(1U << bit % 8);
    const size_t at = bit / 8;
    // Its own field is taken as 0; a longer id than the one at hand cannot be hashed.
    if (at >= offsetof(RecordHeader, header_checksum) && at < offsetof(RecordHeader, header_checksum) + 4) continue;
    if (changed.id_bytes > header.id_bytes) continue;
    cr_assert_neq(record_header_checksum(changed, id, length, checksum), right, "bit %zu", bit);
  }
  for (size_t bit = 0; bit < 5 * 8; ++bit) {
    id[bit / 8] = static_cast<char>(id[bit / 8] ^ (1 << bit % 8));
    cr_assert_neq(record_header_checksum(header, id, length, checksum), right);
    id[bit / 8] = static_cast<char>(id[bit / 8] ^ (1 << bit % 8));
  }
  for (unsigned bit = 0; bit < 32; ++bit) {
    cr_assert_neq(record_header_checksum(header, id, length ^ 1U << bit, checksum), right);
    cr_assert_neq(record_header_checksum(header, id, length, checksum ^ 1U << bit), right);
  }
}
