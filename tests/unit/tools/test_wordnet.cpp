#include "tools/wordnet.hpp"

#include <criterion/criterion.h>

#include <set>
#include <string>

using warmtier::tools::Gloss;
using warmtier::tools::parse_wordnet_line;
using warmtier::tools::read_wordnet;

Test(wordnet, a_noun_line_gives_id_words_and_gloss) {
  const auto gloss =
      parse_wordnet_line("00001740 03 n 02 living_thing 0 being 1 001 ~ 00001930 n 0000 | that which is alive  ", 'n');
  cr_assert(gloss.has_value());
  cr_assert_str_eq(gloss->id.c_str(), "wn30:00001740-n");
  cr_assert_str_eq(gloss->words.c_str(), "living thing, being");
  cr_assert_str_eq(gloss->text.c_str(), "that which is alive");
}

Test(wordnet, a_satellite_adjective_carries_the_letter_of_its_file) {
  const auto gloss = parse_wordnet_line("00013887 00 s 01 galore(ip) 0 001 & 00013160 a 0000 | existing in abundance", 'a');
  cr_assert(gloss.has_value());
  cr_assert_str_eq(gloss->id.c_str(), "wn30:00013887-a");
  cr_assert_str_eq(gloss->words.c_str(), "galore");
}

Test(wordnet, the_count_of_words_is_hexadecimal) {
  std::string line = "00000001 00 n 0a";
  for (int i = 0; i < 10; ++i) line += " w" + std::to_string(i) + " 0";
  const auto gloss = parse_wordnet_line(line + " 000 | ten | of them", 'n');
  cr_assert(gloss.has_value());
  cr_assert_str_eq(gloss->words.c_str(), "w0, w1, w2, w3, w4, w5, w6, w7, w8, w9");
  cr_assert_str_eq(gloss->text.c_str(), "ten | of them");
}

Test(wordnet, a_line_that_is_not_one_is_refused) {
  for (const char* line : {"", "1740 03 n 01 a 0 000 | x", "0000174x 03 n 01 a 0 000 | x", "00001740 03 n zz a 0 000 | x",
                           "00001740 03 n 00 000 | x", "00001740 03 n 05 a 0", "00001740 03 n 01 a 0 000", "00001740"}) {
    const auto gloss = parse_wordnet_line(line, 'n');
    cr_assert_not(gloss.has_value(), "%s", line);
    cr_assert_eq(gloss.error().code, WARM_E_CORRUPT);
  }
}

Test(wordnet, a_missing_directory_is_named_with_its_package) {
  const auto glosses = read_wordnet("/nonexistent");
  cr_assert_not(glosses.has_value());
  cr_assert(glosses.error().text.find("/nonexistent/data.noun") != std::string::npos);
  cr_assert(glosses.error().text.find("wordnet-base") != std::string::npos);
}

Test(wordnet, debians_package_holds_117659_glosses_with_ids_of_their_own) {
  const auto glosses = read_wordnet(warmtier::tools::kWordnetDirectory);
  cr_assert(glosses.has_value(), "%s", glosses.has_value() ? "" : glosses.error().text.c_str());
  std::set<std::string> ids;
  for (const Gloss& gloss : *glosses) {
    ids.insert(gloss.id);
    cr_assert_not(gloss.words.empty(), "%s", gloss.id.c_str());
    cr_assert_not(gloss.text.empty(), "%s", gloss.id.c_str());
    cr_assert_eq(gloss.id.size(), 15u);
  }
  cr_assert_eq(glosses->size(), warmtier::tools::kWordnetGlosses);
  cr_assert_eq(ids.size(), warmtier::tools::kWordnetGlosses);
}
