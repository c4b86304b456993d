#include "tools/lexical.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <string>
#include <vector>

#include "base/hash.hpp"

namespace warmtier::tools {
namespace {

// Kinds of features are told apart by their seed, so that the word "cat" and the n-gram "cat" are two features. The seeds differ
// in their high bits: with small ones XXH3 gives some words of three letters the hash of another n-gram.
constexpr uint64_t kWordSeed = 0x9E37'79B9'7F4A'7C15;
constexpr uint64_t kGramSeed = 0xC2B2'AE3D'27D4'EB4F;
// A word says more than one of its parts, of which there are many.
constexpr float kWordWeight = 2.0f;
constexpr float kGramWeight = 1.0f;

struct Feature {
  uint64_t hash;
  float weight;
};

bool in_word(unsigned char c) { return c >= 128 || (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
bool starts_character(char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; }

void add_word(std::string_view word, std::vector<Feature>& features) {
  features.push_back({base::hash64(word.data(), word.size(), kWordSeed), kWordWeight});

  // The ends are marked with a byte that no word contains, so that a beginning differs from a middle.
  std::string marked;
  marked.reserve(word.size() + 2);
  marked.push_back('^');
  marked.append(word);
  marked.push_back('$');
  std::array<size_t, kLexicalGramCharactersMax + 1> starts{};  // of the last characters, as a ring
  size_t characters = 0;
  const auto character_begins = [&](size_t at) {
    starts[characters % starts.size()] = at;
    for (size_t n = kLexicalGramCharactersMin; n <= kLexicalGramCharactersMax && n <= characters; ++n) {
      const size_t from = starts[(characters - n) % starts.size()];
      features.push_back({base::hash64(marked.data() + from, at - from, kGramSeed), kGramWeight});
    }
    ++characters;
  };
  for (size_t at = 0; at < marked.size(); ++at) {
    if (starts_character(marked[at])) character_begins(at);
  }
  character_begins(marked.size());
}

}  // namespace

void lexical_embedding(std::string_view text, std::span<float, kLexicalDimensions> ret_embedding) {
  std::vector<Feature> features;
  features.reserve(text.size() * 4);
  std::string word;
  for (size_t at = 0; at <= text.size(); ++at) {
    const unsigned char c = at < text.size() ? static_cast<unsigned char>(text[at]) : ' ';
    if (in_word(c)) {
      word.push_back(static_cast<char>(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c));
    } else if (!word.empty()) {
      add_word(word, features);
      word.clear();
    }
  }

  // Equal features side by side: counted, and summed in one order whatever the text's.
  std::ranges::sort(features, {}, &Feature::hash);
  std::array<float, kLexicalDimensions> sums{};
  for (size_t first = 0; first < features.size();) {
    size_t end = first + 1;
    while (end < features.size() && features[end].hash == features[first].hash) ++end;
    const uint64_t hash = features[first].hash;
    const float weight = features[first].weight * (1.0f + std::log(static_cast<float>(end - first)));
    // The sign comes from a bit that the dimension does not depend on: collisions cancel out on average.
    sums[(hash >> 1) % kLexicalDimensions] += (hash & 1) != 0 ? weight : -weight;
    first = end;
  }

  float square = 0.0f;
  for (const float sum : sums) square += sum * sum;
  const float scale = square > 0.0f ? 1.0f / std::sqrt(square) : 0.0f;
  for (size_t i = 0; i < kLexicalDimensions; ++i) ret_embedding[i] = sums[i] * scale;
}

}  // namespace warmtier::tools
