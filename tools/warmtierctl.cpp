// warmtierctl: the command line of an administrator and of shell scripts, on the public C ABI (init alone makes files itself).
//
// One table of commands: the command line is parsed by it, --help and the shells' completion are printed from it.
#include <CLI/CLI.hpp>
#include <csignal>
#include <cstdio>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tools/ctl_commands.hpp"
#include "tools/ctl_completion.hpp"
#include "tools/ctl_operate.hpp"
#include "tools/ctl_recall.hpp"
#include "tools/ctl_text.hpp"
#include "tools/ctl_transfer.hpp"
#include "tools/ctl_walk.hpp"
#include "warmtier/warmtier.h"

namespace {

using namespace warmtier::tools;

constexpr const char* kFooter =
    "Exit codes: 0 done, 1 failed, 2 wrong usage, 3 not found, 4 condition not met (or init: a store is there),\n"
    "5 unavailable, busy or no answer before the deadline, 6 done in part: what was left out is reported.\n"
    "Without --socket: $WARMTIER_SOCKET, and no other place; where that is not set, the first one that is there of "
    "/run/warmtier/sock "
    "and $XDG_RUNTIME_DIR/warmtier.sock.";

// Words that --help shows and completion understands.
constexpr const char* kFile = "FILE";
constexpr const char* kDirectory = "DIR";
constexpr const char* kWhich = "Which records";  // heading in --help

struct Command {
  CLI::App* app;
  // Runs once the command line is understood; what CLI11 cannot know of it is thrown as a ParseError.
  std::function<std::function<Exit()>()> understood;
};

class Table {
 public:
  explicit Table(CLI::App& app) : app_(app) {
    app.add_option("--socket", options_.socket, "path of the daemon's socket")->type_name(kFile);
    app.add_option("--timeout", options_.timeout_ms, "deadline in milliseconds (default 5000)")
        ->type_name("MS")
        ->check(CLI::PositiveNumber);
    app.add_flag("--json", options_.json, "answer in JSON");
    app.add_flag("--quiet", options_.quiet, "no bar and no summary");
    add_init();
    add_status();
    add_put();
    add_get();
    add_remove();
    add_update();
    add_touch();
    add_list();
    add_count();
    add_recall();
    add_import();
    add_export();
    add_wait();
    add_changes();
    add_sessions();
    add_checkpoint();
    add_clear();
    add_completion();
  }
  // The parsed command, ready to run.
  std::function<Exit()> chosen() const {
    for (const Command& command : commands_) {
      if (command.app->parsed()) return command.understood();
    }
    return nullptr;
  }

 private:
  void add_init();
  void add_status();
  void add_put();
  void add_get();
  void add_remove();
  void add_update();
  void add_touch();
  void add_list();
  void add_count();
  void add_recall();
  void add_import();
  void add_export();
  void add_wait();
  void add_changes();
  void add_sessions();
  void add_checkpoint();
  void add_clear();
  void add_completion();

  // The state of a command lives as long as the table.
  template <typename State>
  CLI::App* add(const char* name, const char* help, std::shared_ptr<State> state, Exit (*run)(const CtlOptions&, const State&),
                std::function<void(State&)> check = nullptr) {
    CLI::App* const app = app_.add_subcommand(name, help);
    commands_.push_back({app, [this, state, run, check]() -> std::function<Exit()> {
                           if (check) check(*state);
                           return [this, state, run] { return run(options_, *state); };
                         }});
    return app;
  }
  [[nodiscard]] CompletionTable words() const;

  CLI::App& app_;
  CtlOptions options_;
  std::vector<Command> commands_;
};

// An id is bytes: as an argument where it can be one, else in hexadecimal or base64.
struct IdArgument {
  std::string text;
  std::string in_hex;
  std::string in_base64;
  CLI::Option* option = nullptr;

  void add_to(CLI::App& command) {
    option = command.add_option("ID", text, "id of the record");
    command.add_option("--id-hex", in_hex, "id of the record in hexadecimal, instead of ID")->type_name("HEX");
    command.add_option("--id-base64", in_base64, "id of the record in base64, instead of ID")->type_name("BASE64");
  }
  [[nodiscard]] std::string bytes() const {
    const size_t given = option->count() + (in_hex.empty() ? 0 : 1) + (in_base64.empty() ? 0 : 1);
    if (given > 1) throw CLI::ValidationError("ID", "give one of ID, --id-hex and --id-base64");
    if (given == 0) throw CLI::RequiredError("ID, --id-hex or --id-base64");
    if (option->count() > 0) return text;
    const std::optional<std::string> id = in_hex.empty() ? from_base64(in_base64) : from_hex(in_hex);
    if (id) return *id;
    if (in_hex.empty()) throw CLI::ValidationError("--id-base64", "base64 with its padding is wanted");
    throw CLI::ValidationError("--id-hex", "an even number of hexadecimal digits is wanted");
  }
};

// CLI11 knows no std::optional of our kind in every version; what was not given stays without a value.
template <typename Value>
CLI::Option* add_given(CLI::App& command, const char* name, std::optional<Value>& value, const char* help) {
  return command.add_option_function<Value>(name, [&value](const Value& given) { value = given; }, help);
}

// Which records: the same words for every command that walks.
void add_filter(CLI::App& command, CtlFilter& filter) {
  command.add_option("--prefix", filter.prefix, "ids that begin with this")->type_name("TEXT")->group(kWhich);
  command.add_option("--with-content", filter.content, "with or without content")
      ->check(CLI::IsMember({"present", "absent"}))
      ->type_name("")
      ->group(kWhich);
  const auto add = [&](const char* name, std::string& range, const char* help) {
    command.add_option(name, range, help)->type_name("MIN..MAX")->group(kWhich);
  };
  add("--confidence", filter.confidence, "closed range; MIN.., ..MAX or one value will do, here and below");
  add("--activation", filter.activation, "closed range");
  add("--decay-rate", filter.decay_rate, "closed range");
  add("--recall-count", filter.recall_count, "closed range");
  add("--created", filter.created, "times: 2024-01-31 (all of that day), 2024-01-31T12:00:00Z or nanoseconds since 1970");
  add("--last-access", filter.last_access, "times, as above");
  add("--sequence", filter.sequence, "of the put that made the record");
  add("--content-bytes", filter.content_bytes, "length of the content; absent content has 0");
}

void Table::add_init() {
  auto init = std::make_shared<CtlInit>();
  CLI::App* const command = add<CtlInit>("init", "make a new store", init, ctl_init);
  command->add_option("DIR", init->directory, "an empty or absent directory")->type_name(kDirectory)->required();
  command->add_option("--dimensions", init->dimensions, "of every embedding (default 768)")
      ->check(CLI::Range(1U, WARM_DIMENSIONS_MAX));
  command->add_option("--capacity", init->capacity, "records at most (default 16777216)")
      ->check(CLI::Range(uint64_t{1}, uint64_t{0xFFFF'FFFE}));
}

void Table::add_status() {
  // Two names: people ask for the status, programs for the statistics.
  add<CtlStatus>("status", "every number of the running daemon", std::make_shared<CtlStatus>(), ctl_status);
  add<CtlStatus>("stats", "another name of status", std::make_shared<CtlStatus>(), ctl_status);
}

void Table::add_put() {
  struct Put : CtlPut {
    IdArgument argument;
    std::string text;
    bool no_content = false;
    CLI::Option* text_option = nullptr;
  };
  auto put = std::make_shared<Put>();
  const auto understood = [](CtlPut& given) {
    auto& all = static_cast<Put&>(given);
    all.id = all.argument.bytes();
    if (all.text_option->count() > 0) all.content = all.text;
    if (all.embedding_path == "-" && all.content_path == "-")
      throw CLI::ValidationError("-", "standard input can be read once only");
  };
  CLI::App* const command = add<CtlPut>("put", "store a memory; prints its sequence", put, ctl_put, understood);
  put->argument.add_to(*command);
  command
      ->add_option("--embedding", put->embedding_path, ".npy, raw 32-bit floats or a JSON list of numbers; - is standard input")
      ->type_name(kFile)
      ->required();
  put->text_option = command->add_option("--content", put->text, "content")->type_name("TEXT");
  CLI::Option* const from_file =
      command->add_option("--content-file", put->content_path, "file with the content; - is standard input")->type_name(kFile);
  CLI::Option* const none = command->add_flag("--no-content", put->no_content, "the record has no content (default)");
  put->text_option->excludes(from_file)->excludes(none);
  from_file->excludes(none);
  command->add_option("--confidence", put->confidence, "default 1");
  command->add_option("--activation", put->activation, "default 0");
  command->add_option("--decay-rate", put->decay_rate, "default 0");
  command->add_option("--recall-count", put->recall_count, "default 0");
  add_given(*command, "--created", put->created_ns, "nanoseconds since 1970 (default: now; a replace keeps the old time)");
  add_given(*command, "--last-access", put->last_access_ns, "nanoseconds since 1970 (default: now)");
  CLI::Option* const absent = command->add_flag("--if-absent", put->if_absent, "only if no record has this id");
  add_given(*command, "--if-sequence", put->if_sequence, "only if the record has this sequence");
  absent->excludes(command->get_option("--if-sequence"));
}

void Table::add_get() {
  struct Get : CtlGet {
    IdArgument argument;
  };
  auto get = std::make_shared<Get>();
  const auto understood = [](CtlGet& given) {
    given.id = static_cast<Get&>(given).argument.bytes();
    if (given.content_path == "-" && given.embedding_path == "-")
      throw CLI::ValidationError("-", "standard output takes one of them");
  };
  CLI::App* const command = add<CtlGet>("get", "show a memory", get, ctl_get, understood);
  get->argument.add_to(*command);
  command->add_option("--content-out", get->content_path, "write the content there; - is standard output, and nothing else then")
      ->type_name(kFile);
  command->add_option("--embedding-out", get->embedding_path, "write the embedding there as raw 32-bit floats; - as above")
      ->type_name(kFile);
}

void Table::add_remove() {
  struct Remove : CtlRemove {
    IdArgument argument;
  };
  auto remove = std::make_shared<Remove>();
  const auto understood = [](CtlRemove& given) { given.id = static_cast<Remove&>(given).argument.bytes(); };
  CLI::App* const command = add<CtlRemove>("rm", "remove a memory; prints the sequence of that", remove, ctl_remove, understood);
  remove->argument.add_to(*command);
  add_given(*command, "--if-sequence", remove->if_sequence, "only if the record has this sequence");
}

void Table::add_update() {
  struct Update : CtlUpdate {
    IdArgument argument;
  };
  auto update = std::make_shared<Update>();
  const auto understood = [](CtlUpdate& given) {
    given.id = static_cast<Update&>(given).argument.bytes();
    if (!given.confidence && !given.activation && !given.decay_rate && !given.recall_count && !given.last_access_ns)
      throw CLI::RequiredError("one of --confidence, --activation, --decay-rate, --recall-count, --last-access");
  };
  CLI::App* const command =
      add<CtlUpdate>("update", "change scalars of a memory; prints the sequence of that", update, ctl_update, understood);
  update->argument.add_to(*command);
  add_given(*command, "--confidence", update->confidence, "new value");
  add_given(*command, "--activation", update->activation, "new value");
  add_given(*command, "--decay-rate", update->decay_rate, "new value");
  add_given(*command, "--recall-count", update->recall_count, "new value");
  add_given(*command, "--last-access", update->last_access_ns, "nanoseconds since 1970");
  add_given(*command, "--if-sequence", update->if_sequence, "only if the record has this sequence");
}

void Table::add_touch() {
  auto touch = std::make_shared<CtlTouch>();
  CLI::App* const command =
      add<CtlTouch>("touch", "say that memories were used: counted and timed a moment later", touch, ctl_touch);
  command->add_option("ID", touch->ids, "ids of the records")->required();
}

void Table::add_list() {
  auto list = std::make_shared<CtlList>();
  CLI::App* const command = add<CtlList>("list", "ids, creation times and content lengths, in no order", list, ctl_list);
  command->add_option("--limit", list->limit, "so many at most")->type_name("N");
  add_filter(*command, list->filter);
}

void Table::add_count() {
  auto count = std::make_shared<CtlCount>();
  add_filter(*add<CtlCount>("count", "number of memories", count, ctl_count), count->filter);
}

void Table::add_recall() {
  auto recall = std::make_shared<CtlRecall>();
  const auto understood = [](CtlRecall& given) {
    if (given.id.has_value() + given.vector_path.has_value() + given.text.has_value() != 1)
      throw CLI::ValidationError("recall", "give one of ID, --vector and --text");
  };
  CLI::App* const command = add<CtlRecall>("recall", "the nearest memories, best first", recall, ctl_recall, understood);
  add_given(*command, "ID", recall->id, "near this memory");
  add_given(*command, "--vector", recall->vector_path,
            "near this vector: .npy, raw 32-bit floats or a JSON list; - is standard input")
      ->type_name(kFile);
  add_given(*command, "--text", recall->text, "near this text, by the letters that it shares (768 dimensions, as in ./dev demo)");
  command->add_option("-k,--limit", recall->limit, "so many at most (default 10)")
      ->check(CLI::Range(1U, WARM_VIEWS_MAX))
      ->type_name("N");
  command->add_option("--metric", recall->metric, "default cosine; of l2 the negative distance is the score")
      ->check(CLI::IsMember({"cosine", "dot", "l2"}))
      ->type_name("");
  command->add_option("--score", recall->score, "similarity (default), or tier: it fades with the memory's age")
      ->check(CLI::IsMember({"similarity", "tier"}))
      ->type_name("");
  add_given(*command, "--threshold", recall->threshold, "only scores from here on");
  command->add_flag("--with-embedding", recall->with_embedding, "in JSON: the embedding too");
  add_filter(*command, recall->filter);
}

void Table::add_import() {
  auto import = std::make_shared<CtlImport>();
  const auto understood = [](CtlImport& given) {
    if (given.path == "-" && given.embeddings_path == "-")
      throw CLI::ValidationError("-", "standard input can be read once only");
  };
  CLI::App* const command =
      add<CtlImport>("import", "store many memories, one JSON object a line", import, ctl_import, understood);
  command->add_option("LINES", import->path, "file of JSON lines; - is standard input (default)")->type_name(kFile);
  command
      ->add_option("--embeddings", import->embeddings_path, "a .npy with a row for each line; the lines hold no embedding then")
      ->type_name(kFile);
  command->add_flag("--if-absent", import->if_absent, "records that are there stay");
  command->add_flag("--strict", import->strict, "stop at the first bad line (default: report it and go on)");
  command->add_flag("--ignore-unknown", import->ignore_unknown, "take lines with fields that a record has not");
  command->footer(
      "A line: {\"id\": TEXT or \"id_base64\": BASE64, \"embedding\": [NUMBER..], \"content\": TEXT or null or\n"
      "\"content_base64\": BASE64, and if wanted \"created_ns\", \"last_access_ns\", \"confidence\", \"activation\",\n"
      "\"decay_rate\", \"recall_count\"; \"sequence\", which export writes, is passed over}. Without content the record has "
      "none, which is not empty content.");
}

void Table::add_export() {
  auto how = std::make_shared<CtlExport>();
  CLI::App* const command =
      add<CtlExport>("export", "every memory as one JSON object a line, for import to read", how, ctl_export);
  command->add_option("LINES", how->path, "file of JSON lines; - is standard output (default)")->type_name(kFile);
  command->add_option("--embeddings", how->embeddings_path, "embeddings go to this .npy, a row for each line")->type_name(kFile);
  command->add_flag("--verify", how->verify, "check every record's checksum");
  add_filter(*command, how->filter);
}

void Table::add_wait() {
  auto wait = std::make_shared<CtlWait>();
  CLI::App* const command =
      add<CtlWait>("wait", "wait for a change (without --timeout for ever); prints its sequence", wait, ctl_wait);
  add_given(*command, "--after", wait->after, "a change newer than this sequence (default: than now)");
}

void Table::add_changes() {
  auto changes = std::make_shared<CtlChanges>();
  CLI::App* const command = add<CtlChanges>("changes", "sequence, kind and id of each change", changes, ctl_changes);
  add_given(*command, "--after", changes->after, "changes newer than this sequence (default: than now)");
  command->add_flag("--follow", changes->follow, "wait for more, until --timeout passes without one");
}

void Table::add_sessions() {
  add<CtlSessions>("sessions", "who is attached and holds how much", std::make_shared<CtlSessions>(), ctl_sessions);
}

void Table::add_checkpoint() {
  add<CtlCheckpoint>("checkpoint", "bring everything that is visible to the device", std::make_shared<CtlCheckpoint>(),
                     ctl_checkpoint);
}

void Table::add_clear() {
  auto clear = std::make_shared<CtlClear>();
  CLI::App* const command = add<CtlClear>("clear", "remove every memory", clear, ctl_clear);
  command->add_flag("--yes", clear->yes, "do not ask");
}

void Table::add_completion() {
  struct Completion {
    std::string shell;
  };
  auto completion = std::make_shared<Completion>();
  CLI::App* const command = app_.add_subcommand("completion", "print the completion for a shell");
  command->add_option("SHELL", completion->shell, "which shell")
      ->required()
      ->check(CLI::IsMember({"bash", "zsh", "fish"}))
      ->type_name("");
  commands_.push_back({command, [this, completion]() -> std::function<Exit()> {
                         return [this, completion] {
                           const CompletionTable table = words();
                           return say(completion->shell == "bash"  ? bash_completion(table)
                                      : completion->shell == "zsh" ? zsh_completion(table)
                                                                   : fish_completion(table));
                         };
                       }});
}

OptionWords words_of(const CLI::Option& option) {
  OptionWords words;
  if (!option.get_lnames().empty()) words.name = "--" + option.get_lnames().front();
  words.help = option.get_description();
  const std::string& type = option.get_type_name();
  if (option.get_items_expected_max() == 0) {
    words.takes = Takes::nothing;
  } else if (type == kFile) {
    words.takes = Takes::file;
  } else if (type == kDirectory) {
    words.takes = Takes::directory;
  } else if (const size_t choices = type.find('{'); choices != std::string::npos) {
    // What CLI::IsMember says of itself.
    words.takes = Takes::one_of;
    for (size_t from = choices + 1; from < type.size();) {
      const size_t end = type.find_first_of(",}", from);
      words.choices.push_back(type.substr(from, end - from));
      from = end + 1;
    }
  } else {
    words.takes = Takes::anything;
  }
  return words;
}

CompletionTable Table::words() const {
  CompletionTable table;
  for (const CLI::Option* option : std::as_const(app_).get_options()) table.options.push_back(words_of(*option));
  for (const Command& command : commands_) {
    CommandWords& words = table.commands.emplace_back();
    words.name = command.app->get_name();
    words.help = command.app->get_description();
    for (const CLI::Option* option : std::as_const(*command.app).get_options()) {
      if (option->get_lnames().empty() || option->get_lnames().front() != "help") words.options.push_back(words_of(*option));
    }
  }
  return table;
}

int run(int argc, char** argv) {
  CLI::App app("Administers and asks a warmtier daemon.", "warmtierctl");
  app.footer(kFooter);
  app.set_version_flag("--version", std::string("warmtierctl ") + warm_version());
  app.failure_message([](const CLI::App* said, const CLI::Error& wrong) {
    const std::vector<std::string> rest = said->remaining();
    const bool no_command = said->get_subcommands().empty() && !rest.empty() && !rest.front().starts_with('-');
    const std::string what = no_command ? "no command '" + rest.front() + "'" : wrong.what();
    return "warmtierctl: " + what + "\nRun with --help for more information.\n";
  });
  app.require_subcommand(1);
  app.fallthrough();
  const Table table(app);
  try {
    app.parse(argc, argv);
    return static_cast<int>(table.chosen()());
  } catch (const CLI::Success& asked) {
    return app.exit(asked);
  } catch (const CLI::ParseError& wrong) {
    app.exit(wrong);
    return static_cast<int>(Exit::usage);
  }
}

}  // namespace

int main(int argc, char** argv) {
  // A reader that went away is an error of the write, with its message and exit code.
  std::signal(SIGPIPE, SIG_IGN);
  return run(argc, argv);
}
