// SPDX-License-Identifier: MIT
// The command line: commands, their options, help, and what is said of a wrong one. Only cli.cc
// knows the library that reads it: it takes the compiler long.
#ifndef BRIM_TOOLS_CLI_H_
#define BRIM_TOOLS_CLI_H_

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace CLI {
class App;
class Option;
}  // namespace CLI

namespace brim::tools {

inline constexpr char kNameHelp[] = "Name of the segment, or an absolute path";
inline constexpr char kFormatHelp[] = "table, json or csv (default table)";

// A command while it is described. Names are "--name" for options, "NAME" for the words that follow
// the command. A value must live until the command has run.
class Command {
 public:
  explicit Command(CLI::App& app) : app_(&app) {}

  // A command below this one.
  Command add(const char* name, const char* what);

  Command& option(const char* name, std::string& value, const char* help);
  Command& option(const char* name, std::optional<std::string>& value, const char* help);
  Command& option(const char* name, uint32_t& value, const char* help);
  // An option that may be repeated, or the words that are left.
  Command& option(const char* name, std::vector<std::string>& values, const char* help);
  Command& flag(const char* name, bool& value, const char* help);

  // Of the option before.
  Command& required();
  Command& excludes(const char* other);

  // NAME, and --owner and --group: whose segment is trusted.
  template <class Args>
  Command& segment(Args& args) {
    return option("NAME", args.name, kNameHelp).required();
  }
  template <class Args>
  Command& trust(Args& args) {
    return option("--owner", args.owner,
                  "Trust a segment of this user besides one's own and root's")
        .option("--group", args.group, "Trust a segment of this group");
  }
  // KEY and --key-file.
  template <class Args>
  Command& key(Args& args) {
    return option("KEY", args.key, "The key; after -- if it begins with a dash")
        .option("--key-file", args.key_file,
                "Read the key from this file, all its bytes; - for standard input");
  }

  // What --help ends with: notes and examples.
  Command& footer(const char* text);
  // What the command does; it returns the exit code.
  void action(std::function<int()> run);

 private:
  CLI::App* app_;
  CLI::Option* last_ = nullptr;
};

// ", did you mean 'dump'?", or nothing if none of the words is near.
std::string did_you_mean(const std::string& word, const std::vector<std::string>& known);

// The commands and what they take, for completion.
struct OptionWords {
  std::string name;  // "--format", or "NAME" for a word that follows the command
  std::string help;
  bool takes_value = false;
};
struct CommandWords {
  std::string name;
  std::string help;
  std::vector<OptionWords> options;
  std::vector<CommandWords> commands;
};
// Those of the command line being read now; only for the action of a command.
CommandWords command_words();

// Reads the command line of the commands that `describe` adds, and runs the one it names.
int run_command_line(int argc, char** argv, const std::function<void(Command&)>& describe);

}  // namespace brim::tools

#endif  // BRIM_TOOLS_CLI_H_
