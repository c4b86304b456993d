#include "tools/ctl_commands.hpp"

#include <unistd.h>

#include <cmath>
#include <cstdio>
#include <cstring>
#include <string_view>
#include <vector>

#include "base/error.hpp"
#include "daemon/store/store.hpp"
#include "tools/ctl_json.hpp"
#include "tools/ctl_output.hpp"
#include "tools/ctl_record.hpp"
#include "tools/ctl_text.hpp"
#include "warmtier/warmtier.h"

namespace warmtier::tools {
namespace {

std::string view_text(const warm_view& view) {
  std::string text;
  const auto line = [&](const char* name, const std::string& value) {
    text += name;
    text.append(16 - std::strlen(name), ' ');
    text += value + "\n";
  };
  const auto number = [](float value) {
    std::string digits;
    append_number(digits, value);
    return digits;
  };
  line("id", one_line({static_cast<const char*>(view.id), view.id_bytes}));
  line("sequence", std::to_string(view.sequence));
  line("created", time_text(view.created_ns));
  line("last access", time_text(view.last_access_ns));
  line("confidence", number(view.confidence));
  line("activation", number(view.activation));
  line("decay rate", number(view.decay_rate));
  line("recall count", std::to_string(view.recall_count));
  double squares = 0;
  std::string values;
  for (uint32_t i = 0; i < view.dimensions; ++i) {
    squares += double{view.embedding[i]} * double{view.embedding[i]};
    if (i < 4) values += (i > 0 ? ", " : "") + number(view.embedding[i]);
  }
  line("embedding", std::to_string(view.dimensions) + " dimensions, length " + number(static_cast<float>(std::sqrt(squares))) +
                        ": " + values + (view.dimensions > 4 ? ", .." : ""));
  if (view.content_state == WARM_CONTENT_ABSENT) {
    line("content", "absent");
    return text;
  }
  line("content", with_thousands(view.content_bytes) + (view.content_bytes == 1 ? " byte" : " bytes"));
  const std::string_view content(static_cast<const char*>(view.content), view.content_bytes);
  constexpr size_t kShownBytes = 4096;
  if (!content.empty())
    text += "\n" + one_line(content.substr(0, kShownBytes)) + (content.size() > kShownBytes ? " .." : "") + "\n";
  return text;
}

}  // namespace

Exit ctl_init(const CtlOptions& options, const CtlInit& init) {
  daemon::store::InitOptions made;
  made.dimensions = init.dimensions;
  made.capacity = init.capacity;
  if (const base::Status status = daemon::store::initialise(init.directory, made); !status) {
    complain("init: %s (%s)", status.error().text.c_str(), base::code_name(status.error().code));
    return status.error().code == WARM_E_EXISTS ? Exit::condition : Exit::failed;
  }
  if (options.json) return say_line(made_json(init.directory, init.dimensions, init.capacity));
  return say_line(init.directory + ": a store for at most " + with_thousands(init.capacity) + " records of " +
                  std::to_string(init.dimensions) + " dimensions");
}

Exit ctl_status(const CtlOptions& options, const CtlStatus& /*status*/) {
  Client client;
  if (const int code = client.open(options); code != WARM_OK) return complain_about("status", code);
  warm_info info = WARM_INFO_INIT;
  if (const int code = warm_info_get(client.handle(), &info); code != WARM_OK) return complain_about("status", code);
  warm_stats stats = WARM_STATS_INIT;
  if (const int code = warm_stats_get(client.handle(), &stats); code != WARM_OK) return complain_about("status", code);
  if (options.json) return say_line(stats_json(info, stats));
  std::string text;
  const auto line = [&](std::string_view name, const std::string& value) {
    text += name;
    text.append(22 - name.size(), ' ');
    text.append(value.size() < 26 ? 26 - value.size() : 0, ' ');
    text += value + "\n";
  };
  line("dimensions", std::to_string(info.dimensions));
  line("daemon pid", std::to_string(info.daemon_pid));
  line("content bytes max", with_thousands(info.content_bytes_max));
  line("io backend", stats.io_backend == 1 ? "io_uring" : "threads");
  for (const auto& [name, value] : stats_fields(stats)) {
    std::string words(name);
    for (char& c : words) {
      if (c == '_') c = ' ';
    }
    line(words, with_thousands(value));
  }
  return say(text);
}

Exit ctl_put(const CtlOptions& options, const CtlPut& put) {
  std::vector<float> embedding;
  if (!read_vector(put.embedding_path, embedding)) return Exit::failed;
  std::string content;
  const bool given = put.content.has_value() || !put.content_path.empty();
  if (put.content) content = *put.content;
  if (!put.content_path.empty() && !read_all(put.content_path, content)) return Exit::failed;

  Client client;
  if (const int code = client.open(options); code != WARM_OK) return complain_about("put", code);
  warm_memory memory = WARM_MEMORY_INIT;
  memory.given = (given ? WARM_GIVEN_CONTENT : 0) | (put.created_ns ? WARM_GIVEN_CREATED : 0) |
                 (put.last_access_ns ? WARM_GIVEN_LAST_ACCESS : 0);
  memory.id = put.id.data();
  memory.id_bytes = put.id.size();
  memory.embedding = embedding.data();
  memory.dimensions = static_cast<uint32_t>(embedding.size());
  memory.condition = put.if_absent ? WARM_IF_ABSENT : put.if_sequence ? WARM_IF_SEQUENCE : WARM_IF_ANY;
  memory.if_sequence = put.if_sequence.value_or(0);
  memory.content = given ? content.data() : nullptr;
  memory.content_bytes = content.size();
  memory.created_ns = put.created_ns.value_or(0);
  memory.last_access_ns = put.last_access_ns.value_or(0);
  memory.confidence = put.confidence;
  memory.activation = put.activation;
  memory.decay_rate = put.decay_rate;
  memory.recall_count = put.recall_count;
  uint64_t sequence = 0;
  if (const int code = warm_put(client.handle(), &memory, &sequence); code != WARM_OK) return complain_about("put", code);
  return say_line(options.json ? changed_json(put.id, sequence) : std::to_string(sequence));
}

Exit ctl_get(const CtlOptions& options, const CtlGet& get) {
  Client client;
  if (const int code = client.open(options); code != WARM_OK) return complain_about("get", code);
  if (const int code = client.get(get.id); code != WARM_OK) return complain_about("get", code);
  const warm_view& view = client.view();
  if (!get.embedding_path.empty() && !write_all(get.embedding_path, view.embedding, size_t{view.dimensions} * sizeof(float))) {
    return Exit::failed;
  }
  if (!get.content_path.empty()) {
    if (view.content_state == WARM_CONTENT_ABSENT)
      return complain("get: the record has no content, so %s is not written", get.content_path.c_str());
    if (!write_all(get.content_path, view.content, view.content_bytes)) return Exit::failed;
  }
  // Bytes for a program and words for a person do not mix on one stream.
  if (get.content_path == "-" || get.embedding_path == "-") return Exit::ok;
  if (!options.json) return say(view_text(view));
  Output output(STDOUT_FILENO, "standard output");
  add_json_record(output, view, WithEmbedding::yes);
  if (const base::Status written = output.finish(); !written) return complain("get: %s", written.error().text.c_str());
  return Exit::ok;
}

Exit ctl_remove(const CtlOptions& options, const CtlRemove& remove) {
  Client client;
  if (const int code = client.open(options); code != WARM_OK) return complain_about("rm", code);
  uint64_t sequence = 0;
  const int code = warm_remove(client.handle(), remove.id.data(), remove.id.size(),
                               remove.if_sequence ? WARM_IF_SEQUENCE : WARM_IF_ANY, remove.if_sequence.value_or(0), 0, &sequence);
  if (code != WARM_OK) return complain_about("rm", code);
  return say_line(options.json ? changed_json(remove.id, sequence) : std::to_string(sequence));
}

Exit ctl_update(const CtlOptions& options, const CtlUpdate& update) {
  Client client;
  if (const int code = client.open(options); code != WARM_OK) return complain_about("update", code);
  warm_update change = WARM_UPDATE_INIT;
  change.id = update.id.data();
  change.id_bytes = update.id.size();
  change.condition = update.if_sequence ? WARM_IF_SEQUENCE : WARM_IF_ANY;
  change.if_sequence = update.if_sequence.value_or(0);
  const auto set = [&](uint32_t bit, const auto& given, auto& into) {
    if (!given) return;
    change.set |= bit;
    into = *given;
  };
  set(WARM_SET_CONFIDENCE, update.confidence, change.confidence);
  set(WARM_SET_ACTIVATION, update.activation, change.activation);
  set(WARM_SET_DECAY_RATE, update.decay_rate, change.decay_rate);
  set(WARM_SET_RECALL_COUNT, update.recall_count, change.recall_count);
  set(WARM_SET_LAST_ACCESS, update.last_access_ns, change.last_access_ns);
  uint64_t sequence = 0;
  if (const int code = warm_update_scalars(client.handle(), &change, &sequence); code != WARM_OK)
    return complain_about("update", code);
  return say_line(options.json ? changed_json(update.id, sequence) : std::to_string(sequence));
}

Exit ctl_touch(const CtlOptions& options, const CtlTouch& touch) {
  Client client;
  if (const int code = client.open(options); code != WARM_OK) return complain_about("touch", code);
  std::vector<warm_id> ids;
  for (const std::string& id : touch.ids) ids.push_back({.data = id.data(), .bytes = id.size()});
  size_t taken = 0;
  if (const int code = warm_touch(client.handle(), ids.data(), ids.size(), &taken); code != WARM_OK)
    return complain_about("touch", code);
  return say_line(options.json ? numbers_json({{"taken", taken}}) : std::to_string(taken));
}

}  // namespace warmtier::tools
