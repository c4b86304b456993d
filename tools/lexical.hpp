// The lexical embedding: a text as a vector of fixed length, from its letters alone. It knows nothing of meaning; two texts are
// near when they share words or parts of words. It stands where a real embedding model would, and needs no model.
//
// Method: feature hashing with a signed hash (K. Weinberger, A. Dasgupta, J. Langford, A. Smola, J. Attenberg, "Feature Hashing
// for Large Scale Multitask Learning", ICML 2009). Features are the words and the character n-grams of each word with its two
// ends marked; a feature that occurs tf times weighs 1 + ln tf; the vector has length 1.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace warmtier::tools {

constexpr size_t kLexicalDimensions = 768;
constexpr size_t kLexicalGramCharactersMin = 3;
constexpr size_t kLexicalGramCharactersMax = 5;

// Pure and deterministic: the same bytes give the same floats, bit for bit, in every process of one build. A word is a run of
// ASCII letters (case is ignored), digits and bytes above 127. A text without a word gives zeros.
void lexical_embedding(std::string_view text, std::span<float, kLexicalDimensions> ret_embedding);

}  // namespace warmtier::tools
