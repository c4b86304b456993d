#include "tools/ctl_completion.hpp"

#include <algorithm>

namespace warmtier::tools {
namespace {

std::string joined(const std::vector<std::string>& words, const char* between) {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : between) + word;
  return text;
}

// Between single quotes; each shell has its own way to say a quote inside.
std::string quoted(const std::string& text, const char* quote) {
  std::string out = "'";
  for (const char c : text) {
    if (c == '\'') {
      out += quote;
    } else {
      out += c;
    }
  }
  return out + "'";
}

std::vector<std::string> names_of(const std::vector<OptionWords>& options) {
  std::vector<std::string> names;
  for (const OptionWords& option : options) {
    if (!option.name.empty()) names.push_back(option.name);
  }
  return names;
}

// An argument that stands without a name.
const OptionWords* argument_of(const CommandWords& command) {
  const auto found = std::ranges::find_if(command.options, [](const OptionWords& option) { return option.name.empty(); });
  return found == command.options.end() ? nullptr : &*found;
}

// The words that bash offers for a value.
std::string bash_values(const OptionWords& option) {
  switch (option.takes) {
    case Takes::file: return "COMPREPLY=($(compgen -f -- \"$current\")); compopt -o filenames";
    case Takes::directory: return "COMPREPLY=($(compgen -d -- \"$current\")); compopt -o filenames";
    case Takes::one_of: return "COMPREPLY=($(compgen -W '" + joined(option.choices, " ") + "' -- \"$current\"))";
    default: return "COMPREPLY=()";
  }
}

std::string zsh_action(const OptionWords& option) {
  switch (option.takes) {
    case Takes::file: return "_files";
    case Takes::directory: return "_files -/";
    case Takes::one_of: return "(" + joined(option.choices, " ") + ")";
    default: return " ";
  }
}

// "'--name[help]:value:_files'": what _arguments wants; brackets and colons in the help would end it early.
std::string zsh_option(const OptionWords& option) {
  std::string help;
  for (const char c : option.help) {
    if (c == '[' || c == ']' || c == ':' || c == '\\') help += '\\';
    help += c;
  }
  if (option.name.empty()) return quoted("*:" + help + ":" + zsh_action(option), "'\\''");
  const std::string value = option.takes == Takes::nothing ? "" : ":value:" + zsh_action(option);
  return quoted(option.name + "[" + help + "]" + value, "'\\''");
}

}  // namespace

std::string bash_completion(const CompletionTable& table) {
  std::string valued;  // options that a value follows
  std::string values;
  const auto add_values = [&](const std::string& of, const std::vector<OptionWords>& options) {
    for (const OptionWords& option : options) {
      if (option.name.empty() || option.takes == Takes::nothing) continue;
      values += "    " + of + ":" + option.name + ") " + bash_values(option) + "; return ;;\n";
    }
  };
  for (const OptionWords& option : table.options) {
    if (option.takes != Takes::nothing) valued += (valued.empty() ? "" : " | ") + option.name;
  }
  add_values("*", table.options);
  std::string words;
  std::vector<std::string> commands;
  for (const CommandWords& command : table.commands) {
    commands.push_back(command.name);
    add_values(command.name, command.options);
    words += "    " + command.name + ") words='" + joined(names_of(command.options), " ") + "'";
    if (const OptionWords* argument = argument_of(command); argument != nullptr && argument->takes != Takes::anything) {
      words += "; [[ $current == -* ]] || { " + bash_values(*argument) + "; return; }";
    }
    words += " ;;\n";
  }
  return "# bash completion for warmtierctl; `warmtierctl completion bash` prints it.\n"
         "_warmtierctl() {\n"
         "  local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]} command= words= i\n"
         "  for ((i = 1; i < COMP_CWORD; ++i)); do\n"
         "    case ${COMP_WORDS[i]} in\n"
         "      " +
         valued +
         ") ((++i)) ;;\n"
         "      -*) ;;\n"
         "      *) command=${COMP_WORDS[i]}; break ;;\n"
         "    esac\n"
         "  done\n"
         "  case $command:$previous in\n" +
         values +
         "  esac\n"
         "  case $command in\n"
         "    '') words='" +
         joined(commands, " ") + "' ;;\n" + words +
         "  esac\n"
         "  COMPREPLY=($(compgen -W \"$words " +
         joined(names_of(table.options), " ") +
         "\" -- \"$current\"))\n"
         "}\n"
         "complete -F _warmtierctl warmtierctl\n";
}

std::string zsh_completion(const CompletionTable& table) {
  std::string globals;
  for (const OptionWords& option : table.options) globals += " \\\n    " + zsh_option(option);
  std::string commands;
  std::string cases;
  for (const CommandWords& command : table.commands) {
    std::string help;
    for (const char c : command.help) help += c == ':' ? "\\:" : std::string(1, c);
    commands += "    " + quoted(command.name + ":" + help, "'\\''") + "\n";
    cases += "      " + command.name + ") _arguments";
    for (const OptionWords& option : command.options) cases += " \\\n        " + zsh_option(option);
    cases += " \\\n        \"${globals[@]}\" ;;\n";
  }
  return "#compdef warmtierctl\n"
         "# zsh completion for warmtierctl; `warmtierctl completion zsh` prints it.\n"
         "_warmtierctl() {\n"
         "  local -a globals commands\n"
         "  local curcontext=$curcontext state line\n"
         "  globals=(" +
         globals +
         "\n  )\n"
         "  commands=(\n" +
         commands +
         "  )\n"
         "  _arguments -C \"${globals[@]}\" '1:command:->command' '*::argument:->argument'\n"
         "  case $state in\n"
         "    command) _describe command commands ;;\n"
         "    argument)\n"
         "      case $line[1] in\n" +
         cases +
         "      esac ;;\n"
         "  esac\n"
         "}\n"
         "if [[ $funcstack[1] == _warmtierctl ]]; then _warmtierctl \"$@\"; else compdef _warmtierctl warmtierctl; fi\n";
}

std::string fish_completion(const CompletionTable& table) {
  std::string text =
      "# fish completion for warmtierctl; `warmtierctl completion fish` prints it.\n"
      "complete -c warmtierctl -f\n";
  const auto add = [&](const std::string& condition, const OptionWords& option) {
    std::string line = "complete -c warmtierctl" + condition;
    if (!option.name.empty()) line += " -l " + option.name.substr(2);
    if (!option.name.empty() && option.takes != Takes::nothing) line += " -x";
    switch (option.takes) {
      case Takes::file: line += option.name.empty() ? " -F" : " -a '(__fish_complete_path (commandline -ct))'"; break;
      case Takes::directory: line += " -a '(__fish_complete_directories (commandline -ct))'"; break;
      case Takes::one_of: line += " -a " + quoted(joined(option.choices, " "), "\\'"); break;
      default:
        if (option.name.empty()) return;
    }
    text += line + " -d " + quoted(option.help, "\\'") + "\n";
  };
  for (const OptionWords& option : table.options) add("", option);
  for (const CommandWords& command : table.commands) {
    text += "complete -c warmtierctl -n __fish_use_subcommand -a " + command.name + " -d " + quoted(command.help, "\\'") + "\n";
    for (const OptionWords& option : command.options) {
      add(" -n " + quoted("__fish_seen_subcommand_from " + command.name, "\\'"), option);
    }
  }
  return text;
}

}  // namespace warmtier::tools
