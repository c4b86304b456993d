#include "tools/ctl_operate.hpp"

#include <unistd.h>

#include <array>
#include <cstdio>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tools/ctl_json.hpp"
#include "tools/ctl_output.hpp"
#include "tools/ctl_record.hpp"
#include "tools/ctl_text.hpp"

namespace warmtier::tools {
namespace {

constexpr size_t kChangesAtOnce = 256;
constexpr size_t kSessionsAtFirst = 64;

const char* kind_name(uint32_t kind) {
  switch (kind) {
    case WARM_CHANGE_PUT: return "put";
    case WARM_CHANGE_REPLACE: return "replace";
    case WARM_CHANGE_REMOVE: return "remove";
    case WARM_CHANGE_UPDATE: return "update";
    case WARM_CHANGE_MOVE: return "move";
    default: return "other";
  }
}

// As wide as its column.
const char* state_name(uint32_t state) {
  switch (state) {
    case WARM_SESSION_ATTACHED: return "attached";
    case WARM_SESSION_SILENT: return "silent  ";
    default: return "unknown ";
  }
}

void add_change(Output& output, const warm_change& change, bool json) {
  std::string& out = output.text();
  const std::string_view id(static_cast<const char*>(change.id), change.id_bytes);
  if (json) {
    out.append("{\"sequence\":")
        .append(std::to_string(change.sequence))
        .append(",\"kind\":\"")
        .append(kind_name(change.kind))
        .append("\",");
    add_json_id(output, id);
    out += "}\n";
  } else {
    out.append(std::to_string(change.sequence))
        .append("  ")
        .append(kind_name(change.kind))
        .append("  ")
        .append(one_line(id))
        .append("\n");
  }
  output.settle();
}

Exit say_number(const CtlOptions& options, const char* name, uint64_t value) {
  return say_line(options.json ? numbers_json({{name, value}}) : std::to_string(value));
}

}  // namespace

Exit ctl_wait(const CtlOptions& options, const CtlWait& wait) {
  Client client;
  if (const int code = client.open(options); code != WARM_OK) return complain_about("wait", code);
  uint64_t after = wait.after.value_or(0);
  if (!wait.after) {
    if (const int code = warm_sequence_get(client.handle(), &after); code != WARM_OK) return complain_about("wait", code);
  }
  uint64_t sequence = 0;
  const uint32_t timeout_ms = options.timeout_ms == 0 ? UINT32_MAX : options.timeout_ms;  // who waits means it
  if (const int code = warm_wait(client.handle(), after, timeout_ms, &sequence); code != WARM_OK)
    return complain_about("wait", code);
  return say_number(options, "sequence", sequence);
}

Exit ctl_changes(const CtlOptions& options, const CtlChanges& how) {
  Client client;
  if (const int code = client.open(options); code != WARM_OK) return complain_about("changes", code);
  uint64_t after = how.after.value_or(0);
  if (!how.after) {
    if (const int code = warm_sequence_get(client.handle(), &after); code != WARM_OK) return complain_about("changes", code);
  }
  Output output(STDOUT_FILENO, "standard output");
  std::vector<warm_change> changes(kChangesAtOnce);
  std::vector<char> ids(kChangesAtOnce * WARM_ID_BYTES_MAX);
  for (;;) {
    size_t count = 0;
    const int code =
        warm_changes(client.handle(), after, sizeof(warm_change), changes.data(), changes.size(), ids.data(), ids.size(), &count);
    if (code != WARM_OK) return complain_about("changes", code);
    for (const warm_change& change : std::span(changes.data(), count)) {
      add_change(output, change, options.json);
      after = change.sequence;
    }
    if (count > 0) continue;
    // Who follows wants to see what there is before it waits.
    if (const base::Status written = output.finish(); !written) return complain("changes: %s", written.error().text.c_str());
    if (!how.follow) return Exit::ok;
    uint64_t sequence = 0;
    const int waited = warm_wait(client.handle(), after, options.timeout_ms == 0 ? UINT32_MAX : options.timeout_ms, &sequence);
    if (waited == WARM_E_BUSY) return Exit::ok;  // nothing more within the time that was given
    if (waited != WARM_OK) return complain_about("changes", waited);
  }
}

Exit ctl_sessions(const CtlOptions& options, const CtlSessions& /*sessions*/) {
  Client client;
  if (const int code = client.open(options); code != WARM_OK) return complain_about("sessions", code);
  // Others come and go: until there is room for all that there are.
  std::vector<warm_session> sessions;
  for (size_t count = kSessionsAtFirst; count > sessions.size();) {
    sessions.resize(count);
    const int code = warm_sessions(client.handle(), sizeof(warm_session), sessions.data(), sessions.size(), &count);
    if (code != WARM_OK) return complain_about("sessions", code);
    if (count <= sessions.size()) {
      sessions.resize(count);
      break;
    }
  }
  std::string text;
  if (!options.json)
    text = "   session      pid      uid  views  of most      view bytes            gets          misses  state     since\n";
  for (const warm_session& session : sessions) {
    // What nobody has handed back yet nobody can count.
    const bool counted = session.state != WARM_SESSION_UNKNOWN;
    const auto number = [&](uint64_t value) { return counted ? std::optional(value) : std::nullopt; };
    if (options.json) {
      text += numbers_json({{"session", session.session},
                            {"pid", session.pid},
                            {"uid", session.uid},
                            {"state", session.state},
                            {"channel", session.channel},
                            {"since_ns", session.since_ns},
                            {"views", number(session.views)},
                            {"views_max", session.views_max},
                            {"view_bytes", number(session.view_bytes)},
                            {"gets", number(session.gets)},
                            {"misses", number(session.misses)}});
    } else {
      char line[176];
      const auto shown = [&](uint64_t value) { return counted ? with_thousands(value) : std::string("?"); };
      std::snprintf(line, sizeof line, "%10llu %8u %8u %6s %8u %15s %15s %15s  ",
                    static_cast<unsigned long long>(session.session), session.pid, session.uid,
                    counted ? std::to_string(session.views).c_str() : "?", session.views_max, shown(session.view_bytes).c_str(),
                    shown(session.gets).c_str(), shown(session.misses).c_str());
      text.append(line).append(state_name(session.state)).append("  ").append(time_text(session.since_ns));
    }
    text += '\n';
  }
  return say(text);
}

Exit ctl_checkpoint(const CtlOptions& options, const CtlCheckpoint& /*checkpoint*/) {
  Client client;
  if (const int code = client.open(options); code != WARM_OK) return complain_about("checkpoint", code);
  uint64_t sequence = 0;
  if (const int code = warm_checkpoint(client.handle(), &sequence); code != WARM_OK) return complain_about("checkpoint", code);
  return say_number(options, "sequence", sequence);
}

Exit ctl_clear(const CtlOptions& options, const CtlClear& clear) {
  Client client;
  if (const int code = client.open(options); code != WARM_OK) return complain_about("clear", code);
  if (!clear.yes) {
    if (::isatty(STDIN_FILENO) == 0 || ::isatty(STDERR_FILENO) == 0) {
      complain("clear: it removes every record; without a terminal to ask on, --yes says that this is meant");
      return Exit::usage;
    }
    warm_stats stats = WARM_STATS_INIT;
    if (const int code = warm_stats_get(client.handle(), &stats); code != WARM_OK) return complain_about("clear", code);
    std::fprintf(stderr, "Remove all %s records? Type yes: ", with_thousands(stats.records).c_str());
    std::array<char, 16> answer{};
    if (std::fgets(answer.data(), answer.size(), stdin) == nullptr || std::string_view(answer.data()) != "yes\n")
      return complain("clear: nothing was removed");
  }
  uint64_t removed = 0;
  if (const int code = warm_clear(client.handle(), &removed); code != WARM_OK) return complain_about("clear", code);
  return say_number(options, "removed", removed);
}

}  // namespace warmtier::tools
