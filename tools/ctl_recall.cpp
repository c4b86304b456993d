#include "tools/ctl_recall.hpp"

#include <unistd.h>

#include <array>
#include <cstdio>
#include <span>
#include <string_view>
#include <vector>

#include "tools/ctl_output.hpp"
#include "tools/ctl_record.hpp"
#include "tools/ctl_text.hpp"
#include "tools/lexical.hpp"

namespace warmtier::tools {
namespace {

constexpr size_t kShownBytes = 100;  // of content, on a terminal's line

std::string score_text(double score) {
  char text[40];
  std::snprintf(text, sizeof text, "%.9g", score);
  return text;
}

void add_hit_line(std::string& text, const warm_hit& hit) {
  char score[40];
  std::snprintf(score, sizeof score, "%8.5f  ", hit.score);
  text += score + one_line({static_cast<const char*>(hit.view.id), hit.view.id_bytes});
  if (hit.view.content_bytes > 0) {
    const std::string_view content(static_cast<const char*>(hit.view.content), hit.view.content_bytes);
    text += "  " + one_line(content.substr(0, kShownBytes)) + (content.size() > kShownBytes ? " .." : "");
  }
  text += '\n';
}

class Recaller {
 public:
  Recaller(const CtlOptions& options, const CtlRecall& recall) : options_(options), recall_(recall) {}
  Exit run();

 private:
  // The vector that is asked with; what cannot be had is said.
  Exit find_vector();

  const CtlOptions& options_;
  const CtlRecall& recall_;
  Client client_;
  std::vector<float> vector_;
};

Exit Recaller::find_vector() {
  warm_info info = WARM_INFO_INIT;
  if (const int code = warm_info_get(client_.handle(), &info); code != WARM_OK) return complain_about("recall", code);
  if (recall_.id) {
    if (const int code = client_.get(*recall_.id); code != WARM_OK) return complain_about("recall", code);
    vector_.assign(client_.view().embedding, client_.view().embedding + client_.view().dimensions);
    return Exit::ok;
  }
  if (recall_.vector_path) {
    if (!read_vector(*recall_.vector_path, vector_)) return Exit::failed;
  } else {
    if (info.dimensions != kLexicalDimensions) {
      return complain("recall: a text becomes a vector of %zu numbers, but this store's dimensions are %u: give --vector",
                      kLexicalDimensions, info.dimensions);
    }
    std::array<float, kLexicalDimensions> embedding{};
    lexical_embedding(*recall_.text, embedding);
    vector_.assign(embedding.begin(), embedding.end());
  }
  if (vector_.size() == info.dimensions) return Exit::ok;
  return complain("recall: the vector has %zu numbers; the store's dimensions are %u", vector_.size(), info.dimensions);
}

Exit Recaller::run() {
  warm_filter filter;
  if (const auto status = filter_of(recall_.filter, filter); !status) return complain_of_usage("recall", status.error());
  if (const int code = client_.open(options_); code != WARM_OK) return complain_about("recall", code);
  if (const Exit found = find_vector(); found != Exit::ok) return found;

  warm_query query = WARM_QUERY_INIT;
  query.metric = recall_.metric == "dot" ? WARM_METRIC_DOT : recall_.metric == "l2" ? WARM_METRIC_L2 : WARM_METRIC_COSINE;
  query.scoring = recall_.score == "tier" ? WARM_SCORE_TIER : WARM_SCORE_SIMILARITY;
  query.embedding = vector_.data();
  query.dimensions = static_cast<uint32_t>(vector_.size());
  query.limit = recall_.limit;
  if (recall_.threshold) query.threshold = *recall_.threshold;
  query.filter = &filter;
  std::vector<warm_hit> hits(recall_.limit, warm_hit{.view = WARM_VIEW_INIT, .score = 0});
  size_t count = 0;
  if (const int code = warm_recall(client_.handle(), &query, hits.data(), &count, nullptr); code != WARM_OK)
    return complain_about("recall", code);

  Output output(STDOUT_FILENO, "standard output");
  for (const warm_hit& hit : std::span(hits.data(), count)) {
    if (options_.json) {
      add_json_record(output, hit.view, recall_.with_embedding ? WithEmbedding::yes : WithEmbedding::no,
                      "\"score\":" + score_text(hit.score) + ",");
    } else {
      add_hit_line(output.text(), hit);
      output.settle();
    }
  }
  const base::Status written = output.finish();
  warm_hits_release(client_.handle(), hits.data(), count);
  return written ? Exit::ok : complain("recall: %s", written.error().text.c_str());
}

}  // namespace

Exit ctl_recall(const CtlOptions& options, const CtlRecall& recall) { return Recaller(options, recall).run(); }

}  // namespace warmtier::tools
