// The glosses of WordNet 3.0 (Debian's package wordnet-base) as records for the demo.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.hpp"

namespace warmtier::tools {

constexpr size_t kWordnetGlosses = 117'659;
constexpr const char* kWordnetDirectory = "/usr/share/wordnet";

struct Gloss {
  std::string id;     // "wn30:" + offset of eight digits + "-" + n, v, a or r, the letter of the file
  std::string words;  // the words of the synset, parted by ", "
  std::string text;   // the gloss; the record's content
};

// One line of data.noun, data.verb, data.adj or data.adv (wndb(5)).
base::Result<Gloss> parse_wordnet_line(std::string_view line, char letter);

// All glosses, in the order noun, verb, adj, adv and by offset.
base::Result<std::vector<Gloss>> read_wordnet(const std::string& directory);

}  // namespace warmtier::tools
