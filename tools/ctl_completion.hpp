// Completion for shells, made from the same table of commands and options that the command line is parsed by.
#pragma once

#include <string>
#include <vector>

namespace warmtier::tools {

// What may follow an option, or stand as an argument.
enum class Takes { nothing, anything, file, directory, one_of };

struct OptionWords {
  std::string name;  // with its dashes; empty: an argument
  std::string help;
  Takes takes = Takes::nothing;
  std::vector<std::string> choices;  // of one_of
};
struct CommandWords {
  std::string name;
  std::string help;
  std::vector<OptionWords> options;
};
struct CompletionTable {
  std::vector<OptionWords> options;  // of every command
  std::vector<CommandWords> commands;
};

std::string bash_completion(const CompletionTable& table);
std::string zsh_completion(const CompletionTable& table);
std::string fish_completion(const CompletionTable& table);

}  // namespace warmtier::tools
