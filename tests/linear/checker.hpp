// Is there an order of all operations on an id in which each lies between its call and its answer and each answer is the one that
// a single record, changed by one operation after the other, would have given? (Herlihy, Wing 1990.)
//
// The search is that of Wing and Gong with Lowe's memory of what was tried, arranged by events: after each answer it keeps every
// configuration that explains what was said so far, each once: what the record is, and which of the open operations have already
// taken effect. An operation whose outcome nobody knows stays open to the end, and may take effect at any time or never.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "tests/linear/history.hpp"

namespace warmtier::tests::linear {

// What is wrong with a history that says too little to be judged.
constexpr const char* kUndecided = "too many outcomes are unknown to judge";

struct Verdict {
  std::string wrong;  // empty: linearizable
  [[nodiscard]] bool undecided() const { return wrong.find(kUndecided) != std::string::npos; }
  size_t configurations = 0;  // at most, at one time
  size_t ids = 0;
  size_t operations = 0;
  size_t unknown = 0;  // operations whose outcome nobody knows
};

// The whole history: each id by itself, and the sequences of what was acknowledged.
Verdict check(const std::vector<Operation>& history);

std::string text_of(const Operation& operation);

}  // namespace warmtier::tests::linear
