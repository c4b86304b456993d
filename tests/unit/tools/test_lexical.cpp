#include "tools/lexical.hpp"

#include <criterion/criterion.h>

#include <array>
#include <cmath>
#include <cstring>
#include <string>

using warmtier::tools::kLexicalDimensions;

namespace {

using Embedding = std::array<float, kLexicalDimensions>;

Embedding embed(std::string_view text) {
  Embedding embedding{};
  embedding.fill(-7.0f);
  warmtier::tools::lexical_embedding(text, embedding);
  return embedding;
}

float dot(const Embedding& a, const Embedding& b) {
  float sum = 0.0f;
  for (size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
  return sum;
}

bool same_bits(const Embedding& a, const Embedding& b) { return std::memcmp(a.data(), b.data(), sizeof a) == 0; }

size_t used_dimensions(const Embedding& a) {
  size_t used = 0;
  for (const float value : a) used += value != 0.0f ? 1 : 0;
  return used;
}

}  // namespace

Test(lexical, the_same_text_gives_the_same_bits) {
  cr_assert(same_bits(embed("the branch of physics"), embed("the branch of physics")));
}

Test(lexical, every_vector_has_length_one) {
  for (const char* text : {"a", "cat", "a small domesticated carnivore", "x x x x x x x x"}) {
    cr_assert_float_eq(std::sqrt(dot(embed(text), embed(text))), 1.0f, 1e-5f, "%s", text);
  }
}

Test(lexical, a_text_without_words_gives_zeros) {
  cr_assert(same_bits(embed(""), Embedding{}));
  cr_assert(same_bits(embed(" ,;!\t"), Embedding{}));
}

Test(lexical, case_and_punctuation_do_not_count) { cr_assert(same_bits(embed("Cat, DOG!"), embed("cat dog"))); }

// With seeds that differ in low bits only, "red" and the "ree" of "green" had one hash.
Test(lexical, the_order_of_words_does_not_count) { cr_assert(same_bits(embed("red blue green"), embed("green red blue"))); }

Test(lexical, repeated_words_weigh_more_but_less_than_their_number) {
  const Embedding cat = embed("cat");
  const float once = dot(embed("cat dog"), cat);
  const float often = dot(embed("cat cat cat cat dog"), cat);
  cr_assert_gt(often, once);
  // Four times the weight would give 4 / sqrt(17) = 0.97 for features that do not collide; 1 + ln 4 = 2.39 gives 0.92.
  cr_assert_lt(often, 0.95f, "%f", static_cast<double>(often));
}

Test(lexical, texts_that_share_parts_of_words_are_nearer_than_others) {
  const Embedding left = embed("photography");
  cr_assert_gt(dot(left, embed("photographic")), 0.4f);
  cr_assert_lt(std::fabs(dot(left, embed("submarine"))), 0.3f);
}

Test(lexical, a_word_has_its_grams_of_three_to_five_characters) {
  // "cat" is ^cat$: one word, three grams of 3, two of 4, one of 5; these seven do not collide.
  cr_assert_eq(used_dimensions(embed("cat")), 7);
  // A lone letter is ^a$: one word, one gram.
  cr_assert_eq(used_dimensions(embed("a")), 2);
}

Test(lexical, grams_are_of_characters_and_not_of_bytes) {
  // Three characters of three bytes each: as many features as three letters.
  cr_assert_eq(used_dimensions(embed("\u65e5\u672c\u8a9e")), 7);
}

Test(lexical, any_bytes_are_a_text) {
  std::string bytes;
  for (int i = 0; i < 256; ++i) bytes.push_back(static_cast<char>(i));
  cr_assert_float_eq(std::sqrt(dot(embed(bytes), embed(bytes))), 1.0f, 1e-5f);
  cr_assert_float_eq(dot(embed("\x80\x80\x80"), embed("\x80\x80\x80")), 1.0f, 1e-5f);
}
