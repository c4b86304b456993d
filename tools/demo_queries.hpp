// What the demo asks its store for: descriptions in words of our own, and the gloss that must be among the first five. They are
// such that letters alone can answer them, because lexical hashing knows nothing of meaning: it finds "closed spaces", not "small
// rooms".
#pragma once

#include <array>
#include <cstdint>

namespace warmtier::tools {

struct Query {
  const char* text;
  const char* expected_id;
  const char* expected_words;  // for people
};

constexpr uint32_t kQueryLimit = 5;

constexpr std::array<Query, 12> kQueries = {{
    {"a musical instrument with strings that is played with a bow", "wn30:02880546-n", "bowed stringed instrument"},
    {"morbid fear of being in closed spaces", "wn30:14383252-n", "claustrophobia"},
    {"a vehicle with two wheels and pedals moved by the feet", "wn30:02834778-n", "bicycle"},
    {"large striped cat of the forests of Asia", "wn30:02129604-n", "tiger"},
    {"an aircraft without wings that is lifted by rotating blades", "wn30:03512147-n", "helicopter"},
    {"red blood cell that carries oxygen", "wn30:05454070-n", "red blood cell"},
    {"a book with an alphabetical list of words and what they mean", "wn30:06418901-n", "dictionary"},
    {"flightless bird of cold southern seas with webbed feet", "wn30:02055803-n", "penguin"},
    {"the branch of mathematics about triangles, angles, sines and cosines", "wn30:06012513-n", "trigonometry"},
    {"the planet nearest to the sun", "wn30:09351408-n", "Mercury"},
    {"frozen water falling from clouds in white flakes", "wn30:11508382-n", "snow"},
    {"a person who repairs shoes", "wn30:09933098-n", "cobbler"},
}};

}  // namespace warmtier::tools
