// warmtierctl: the command line of an administrator and of shell scripts, on the public C ABI (init alone makes files itself).
#include <CLI/CLI.hpp>
#include <csignal>
#include <cstdio>
#include <optional>
#include <string>

#include "tools/ctl_commands.hpp"
#include "tools/ctl_text.hpp"
#include "warmtier/warmtier.h"

namespace {

using namespace warmtier::tools;

constexpr const char* kFooter =
    "Exit codes: 0 done, 1 failed, 2 wrong usage, 3 not found, 4 condition not met (or init: a store is there),\n"
    "5 unavailable, busy or no answer before the deadline.\n"
    "Without --socket: $WARMTIER_SOCKET, /run/warmtier/sock, $XDG_RUNTIME_DIR/warmtier.sock, the first one that is there.";

// An id is bytes: as an argument where it can be one, else in hexadecimal.
struct IdArgument {
  std::string text;
  std::string in_hex;
  CLI::Option* option = nullptr;

  void add_to(CLI::App& command) {
    option = command.add_option("ID", text, "id of the record");
    command.add_option("--id-hex", in_hex, "id of the record in hexadecimal, instead of ID");
  }
  [[nodiscard]] std::string bytes() const {
    if (option->count() > 0 && !in_hex.empty()) throw CLI::ValidationError("ID", "give ID or --id-hex, not both");
    if (in_hex.empty()) {
      if (option->count() == 0) throw CLI::RequiredError("ID or --id-hex");
      return text;
    }
    const std::optional<std::string> id = from_hex(in_hex);
    if (!id) throw CLI::ValidationError("--id-hex", "an even number of hexadecimal digits is wanted");
    return *id;
  }
};

// CLI11 knows no std::optional of our kind in every version; a number that was not given stays without a value.
void add_number(CLI::App& command, const char* name, std::optional<uint64_t>& value, const char* help) {
  command.add_option_function<uint64_t>(name, [&value](const uint64_t& given) { value = given; }, help);
}

int run(int argc, char** argv) {
  CLI::App app("Administers and asks a warmtier daemon.", "warmtierctl");
  app.footer(kFooter);
  app.set_version_flag("--version", std::string("warmtierctl ") + warm_version());
  app.require_subcommand(1);
  app.fallthrough();

  CtlOptions options;
  app.add_option("--socket", options.socket, "path of the daemon's socket")->type_name("PATH");
  app.add_option("--timeout", options.timeout_ms, "deadline in milliseconds (default 5000)")
      ->type_name("MS")
      ->check(CLI::PositiveNumber);
  app.add_flag("--json", options.json, "answer in JSON");

  CtlInit init;
  CLI::App* const init_command = app.add_subcommand("init", "make a new store");
  init_command->add_option("DIR", init.directory, "an empty or absent directory")->required();
  init_command->add_option("--dimensions", init.dimensions, "of every embedding (default 768)")
      ->check(CLI::Range(1U, WARM_DIMENSIONS_MAX));
  init_command->add_option("--capacity", init.capacity, "records at most (default 16777216)")
      ->check(CLI::Range(uint64_t{1}, uint64_t{0xFFFF'FFFE}));

  CLI::App* const status_command = app.add_subcommand("status", "numbers of the running daemon");

  CtlPut put;
  IdArgument put_id;
  std::string content;
  bool no_content = false;
  CLI::App* const put_command = app.add_subcommand("put", "store a memory; prints its sequence");
  put_id.add_to(*put_command);
  put_command->add_option("--embedding", put.embedding_path, "raw 32-bit floats or a JSON list of numbers; - is standard input")
      ->type_name("FILE")
      ->required();
  CLI::Option* const content_option = put_command->add_option("--content", content, "content")->type_name("TEXT");
  CLI::Option* const content_file_option =
      put_command->add_option("--content-file", put.content_path, "file with the content; - is standard input")
          ->type_name("FILE");
  CLI::Option* const no_content_option = put_command->add_flag("--no-content", no_content, "the record has no content (default)");
  content_option->excludes(content_file_option)->excludes(no_content_option);
  content_file_option->excludes(no_content_option);
  put_command->add_option("--confidence", put.confidence, "default 1");
  put_command->add_option("--activation", put.activation, "default 0");
  put_command->add_option("--decay-rate", put.decay_rate, "default 0");
  put_command->add_option("--recall-count", put.recall_count, "default 0");
  add_number(*put_command, "--created", put.created_ns, "nanoseconds since 1970 (default: now; a replace keeps the old time)");
  add_number(*put_command, "--last-access", put.last_access_ns, "nanoseconds since 1970 (default: now)");
  CLI::Option* const absent_option = put_command->add_flag("--if-absent", put.if_absent, "only if no record has this id");
  add_number(*put_command, "--if-sequence", put.if_sequence, "only if the record has this sequence");
  absent_option->excludes(put_command->get_option("--if-sequence"));

  CtlGet get;
  IdArgument get_id;
  CLI::App* const get_command = app.add_subcommand("get", "show a memory");
  get_id.add_to(*get_command);
  get_command
      ->add_option("--content-out", get.content_path, "write the content there; - is standard output, and nothing else then")
      ->type_name("FILE");
  get_command->add_option("--embedding-out", get.embedding_path, "write the embedding there as raw 32-bit floats; - as above")
      ->type_name("FILE");

  CtlRemove remove;
  IdArgument remove_id;
  CLI::App* const remove_command = app.add_subcommand("rm", "remove a memory; prints the sequence of that");
  remove_id.add_to(*remove_command);
  add_number(*remove_command, "--if-sequence", remove.if_sequence, "only if the record has this sequence");

  try {
    app.parse(argc, argv);
    if (put_command->parsed()) {
      put.id = put_id.bytes();
      if (content_option->count() > 0) put.content = content;
      if (put.embedding_path == "-" && put.content_path == "-")
        throw CLI::ValidationError("-", "standard input can be read once only");
    }
    if (get_command->parsed()) {
      get.id = get_id.bytes();
      if (get.content_path == "-" && get.embedding_path == "-")
        throw CLI::ValidationError("-", "standard output takes one of them");
    }
    if (remove_command->parsed()) remove.id = remove_id.bytes();
  } catch (const CLI::Success& asked) {
    return app.exit(asked);
  } catch (const CLI::ParseError& wrong) {
    app.exit(wrong);
    return static_cast<int>(Exit::usage);
  }

  if (init_command->parsed()) return static_cast<int>(ctl_init(options, init));
  if (status_command->parsed()) return static_cast<int>(ctl_status(options));
  if (put_command->parsed()) return static_cast<int>(ctl_put(options, put));
  if (get_command->parsed()) return static_cast<int>(ctl_get(options, get));
  return static_cast<int>(ctl_remove(options, remove));
}

}  // namespace

int main(int argc, char** argv) {
  // A reader that went away is an error of the write, with its message and exit code.
  std::signal(SIGPIPE, SIG_IGN);
  return run(argc, argv);
}
