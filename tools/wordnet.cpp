#include "tools/wordnet.hpp"

#include <algorithm>
#include <charconv>
#include <fstream>
#include <utility>

namespace warmtier::tools {
namespace {

constexpr size_t kOffsetDigits = 8;

std::string_view next_field(std::string_view& rest) {
  const size_t end = std::min(rest.find(' '), rest.size());
  const std::string_view field = rest.substr(0, end);
  rest.remove_prefix(std::min(end + 1, rest.size()));
  return field;
}

std::string_view trimmed(std::string_view text) {
  const size_t first = text.find_first_not_of(" \t\r");
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(" \t\r") - first + 1);
}

std::unexpected<base::Error> refuse(std::string_view line, const char* what) {
  const std::string_view shown = line.substr(0, 60);
  return base::fail(WARM_E_CORRUPT, "WordNet line \"%.*s\": %s", static_cast<int>(shown.size()), shown.data(), what);
}

}  // namespace

base::Result<Gloss> parse_wordnet_line(std::string_view line, char letter) {
  std::string_view rest = line;
  const std::string_view offset = next_field(rest);
  if (offset.size() != kOffsetDigits || offset.find_first_not_of("0123456789") != std::string_view::npos) {
    return refuse(line, "does not start with an offset of eight digits");
  }
  next_field(rest);  // number of the lexicographer's file
  next_field(rest);  // s here for a satellite adjective; the id carries the file's letter
  const std::string_view count = next_field(rest);
  unsigned words = 0;
  const auto [end, error] = std::from_chars(count.data(), count.data() + count.size(), words, 16);
  if (error != std::errc() || end != count.data() + count.size() || words == 0) return refuse(line, "has no count of words");

  Gloss gloss;
  gloss.id.append("wn30:").append(offset).append("-").push_back(letter);
  for (unsigned i = 0; i < words; ++i) {
    std::string_view word = next_field(rest);
    next_field(rest);                                            // the word's number among its senses
    if (letter == 'a') word = word.substr(0, word.find('('));    // "galore(ip)": where an adjective may stand
    if (word.empty()) return refuse(line, "has fewer words than it counts");
    if (!gloss.words.empty()) gloss.words.append(", ");
    for (const char c : word) gloss.words.push_back(c == '_' ? ' ' : c);
  }
  const size_t bar = rest.find("| ");
  if (bar == std::string_view::npos) return refuse(line, "has no gloss");
  gloss.text = trimmed(rest.substr(bar + 2));
  return gloss;
}

base::Result<std::vector<Gloss>> read_wordnet(const std::string& directory) {
  std::vector<Gloss> glosses;
  glosses.reserve(kWordnetGlosses);
  for (const auto& [name, letter] : {std::pair{"data.noun", 'n'}, {"data.verb", 'v'}, {"data.adj", 'a'}, {"data.adv", 'r'}}) {
    const std::string path = directory + "/" + name;
    std::ifstream file(path);
    if (!file) return base::fail(WARM_E_SYSTEM, "cannot open %s (Debian's package wordnet-base has it)", path.c_str());
    std::string line;
    while (std::getline(file, line)) {
      if (line.starts_with("  ")) continue;  // the licence stands at the head
      base::Result<Gloss> gloss = parse_wordnet_line(line, letter);
      if (!gloss) return base::pass(std::move(gloss));
      glosses.push_back(std::move(*gloss));
    }
    if (file.bad()) return base::fail(WARM_E_SYSTEM, "cannot read %s", path.c_str());
  }
  return glosses;
}

}  // namespace warmtier::tools
