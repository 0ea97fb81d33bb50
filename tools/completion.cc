// SPDX-License-Identifier: MIT
#include "completion.h"

#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "cli.h"
#include "output.h"

namespace brim::tools {

namespace {

// Each command with the words that lead to it: "", " dump", " snapshot take".
using Visit = std::function<void(const std::string& path, const CommandWords& command)>;
void for_each_command(const CommandWords& command, const std::string& path, const Visit& visit) {
  visit(path, command);
  for (const CommandWords& each : command.commands) {
    for_each_command(each, path + " " + each.name, visit);
  }
}

bool takes(const CommandWords& command, std::string_view word) {
  for (const OptionWords& option : command.options) {
    if (option.name == word) return true;
  }
  return false;
}

// Text between single quotes of a shell; help texts are brim's own.
std::string in_quotes(std::string_view text) {
  std::string out = "'";
  for (const char letter : text) {
    if (letter == '\'') {
      out += R"('\'')";
    } else {
      out += letter;
    }
  }
  return out + "'";
}

// The same for fish, where a backslash in quotes is one only if doubled.
std::string fish_quoted(std::string_view text) {
  std::string doubled;
  for (const char letter : text) doubled.append(letter == '\\' ? 2 : 1, letter);
  return in_quotes(doubled);
}

// Commands below it, or its options; what `formed` makes of each.
std::string words_of(
    const CommandWords& command,
    const std::function<std::string(const std::string&, const std::string&)>& formed) {
  std::string out;
  for (const CommandWords& each : command.commands) out += formed(each.name, each.help);
  for (const OptionWords& option : command.options) {
    if (option.name.starts_with('-')) out += formed(option.name, option.help);
  }
  return out;
}

constexpr char kSegments[] =
    "brim list --format csv 2>/dev/null | tail -n +2 | cut -d, -f1 | sed s/^.-/-/";

// The case labels that walk from command to command: 'PATH:WORD') VARIABLE='PATH WORD' ;;
std::string walk_cases(const CommandWords& brim, const std::string& variable) {
  std::string out;
  for_each_command(brim, "", [&](const std::string& path, const CommandWords& command) {
    for (const CommandWords& each : command.commands) {
      out += join("      '", path, ":", each.name, "') ", variable, "='", path, " ", each.name,
                  "' ;;\n");
    }
  });
  return out;
}

std::string bash_script(const CommandWords& brim) {
  std::string out =
      "# Completion of brim for bash: source <(brim completion bash)\n"
      "_brim() {\n"
      "  local current=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]}\n"
      "  local at='' words='' named='' i\n"
      "  for ((i = 1; i < COMP_CWORD; i++)); do\n"
      "    case \"$at:${COMP_WORDS[i]}\" in\n" +
      walk_cases(brim, "at") +
      "    esac\n"
      "  done\n"
      "  case $at in\n";
  for_each_command(brim, "", [&](const std::string& path, const CommandWords& command) {
    out += join(
        "    ", in_quotes(path), ") words='",
        words_of(command, [](const std::string& word, const std::string&) { return word + " "; }),
        "'", takes(command, "NAME") ? " named=1" : "", " ;;\n");
  });
  out +=
      "  esac\n"
      "  [[ $current == -* ]] || words=${words%%--*}\n"
      "  [[ $current == -* || -z $named ]] || words+=\" $(";
  out += kSegments;
  out +=
      ")\"\n"
      "  [[ $before != --format ]] || words='table json csv'\n"
      "  mapfile -t COMPREPLY < <(compgen -W \"$words\" -- \"$current\")\n"
      "}\n"
      "complete -o default -F _brim brim\n";
  return out;
}

std::string zsh_script(const CommandWords& brim) {
  std::string out =
      "#compdef brim\n"
      "# Completion of brim for zsh: brim completion zsh > DIRECTORY_OF_FPATH/_brim\n"
      "_brim() {\n"
      "  local at='' named='' i\n"
      "  local -a found\n"
      "  for ((i = 2; i < CURRENT; i++)); do\n"
      "    case \"$at:${words[i]}\" in\n" +
      walk_cases(brim, "at") +
      "    esac\n"
      "  done\n"
      "  case $at in\n";
  for_each_command(brim, "", [&](const std::string& path, const CommandWords& command) {
    out += join("    ", in_quotes(path), ")\n      found=(");
    out += words_of(command, [](const std::string& word, const std::string& help) {
      return "\n        " + in_quotes(word + ":" + help);
    });
    out += join(")\n      ", takes(command, "NAME") ? "named=1" : ":", " ;;\n");
  });
  out += join(
      "  esac\n"
      "  _describe brim found\n"
      "  [[ -z $named ]] || compadd -- $(",
      kSegments,
      ")\n"
      "  _files\n"
      "}\n"
      "if [[ $funcstack[1] == _brim ]]; then _brim \"$@\"; else compdef _brim brim; fi\n");
  return out;
}

// fish: one line for each word, with the condition under which it is offered.
std::string fish_script(const CommandWords& brim) {
  std::string out =
      "# Completion of brim for fish: brim completion fish | source\n"
      "function __brim_at\n"
      "  set -l words (commandline -opc | string match -v -- '-*')\n"
      "  set -e words[1]\n"
      "  set -l count (count $argv)\n"
      "  test $count -eq 0; and test (count $words) -eq 0; and return 0\n"
      "  test $count -gt 0; and test \"$words[1..$count]\" = \"$argv\"\n"
      "end\n"
      "complete -c brim -e\n";
  for_each_command(brim, "", [&](const std::string& path, const CommandWords& command) {
    const std::string when = join("complete -c brim -n '__brim_at", path, "' ");
    for (const CommandWords& each : command.commands) {
      out += join(when, "-f -a ", each.name, " -d ", fish_quoted(each.help), "\n");
    }
    for (const OptionWords& option : command.options) {
      if (!option.name.starts_with('-')) continue;
      out += join(when, "-l ", option.name.substr(2), option.takes_value ? " -r" : "", " -d ",
                  fish_quoted(option.help), "\n");
    }
    if (takes(command, "NAME")) out += join(when, "-a '(", kSegments, ")' -d segment\n");
  });
  return out;
}

int run_completion(const std::string& shell) {
  const CommandWords brim = command_words();
  if (shell == "bash") {
    emit(bash_script(brim));
  } else if (shell == "zsh") {
    emit(zsh_script(brim));
  } else if (shell == "fish") {
    emit(fish_script(brim));
  } else {
    return report(absl::InvalidArgumentError(
        join("invalid_option: SHELL '", escape_text(shell), "' is not bash, zsh or fish")));
  }
  return finish();
}

}  // namespace

void add_completion_command(Command& brim) {
  const auto shell = std::make_shared<std::string>();
  Command command = brim.add("completion", "Print a script that completes brim's words in a shell");
  command.option("SHELL", *shell, "bash, zsh or fish").required();
  command.footer(
      "Examples:\n"
      "  source <(brim completion bash)\n"
      "  brim completion fish > ~/.config/fish/completions/brim.fish");
  command.action([shell] { return run_completion(*shell); });
}

}  // namespace brim::tools
