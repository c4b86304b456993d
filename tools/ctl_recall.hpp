// The nearest records to a vector: of another record, from a file, or of a text through the demo's lexical hashing.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "tools/ctl_client.hpp"
#include "tools/ctl_filter.hpp"

namespace warmtier::tools {

struct CtlRecall {
  std::optional<std::string> id;    // exactly one of these three
  std::optional<std::string> vector_path;
  std::optional<std::string> text;
  uint32_t limit = 10;
  std::string metric = "cosine";
  std::string score = "similarity";
  std::optional<float> threshold;
  bool with_embedding = false;  // in JSON
  CtlFilter filter;
};

Exit ctl_recall(const CtlOptions& options, const CtlRecall& recall);

}  // namespace warmtier::tools
