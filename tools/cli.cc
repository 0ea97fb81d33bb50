// SPDX-License-Identifier: MIT
#include "cli.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <string_view>
#include <utility>

#include "output.h"

namespace brim::tools {

namespace {

// What the command that ran returned.
int exit_code = kExitOk;
// The commands, while one of them runs.
const CLI::App* commands = nullptr;

// Edits that turn one word into the other; a swap of neighbours counts as one.
size_t edit_distance(const std::string& a, const std::string& b) {
  std::vector<std::vector<size_t>> d(a.size() + 1, std::vector<size_t>(b.size() + 1));
  for (size_t i = 0; i <= a.size(); ++i) {
    for (size_t j = 0; j <= b.size(); ++j) {
      if (i == 0 || j == 0) {
        d[i][j] = i + j;
        continue;
      }
      const size_t change = a[i - 1] == b[j - 1] ? 0 : 1;
      d[i][j] = std::min({d[i - 1][j] + 1, d[i][j - 1] + 1, d[i - 1][j - 1] + change});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) {
        d[i][j] = std::min(d[i][j], d[i - 2][j - 2] + 1);
      }
    }
  }
  return d[a.size()][b.size()];
}

// CLI11 only says that some argument was not expected.
std::string unexpected_arguments(const CLI::App& command) {
  std::vector<std::string> known;
  for (const CLI::Option* option : command.get_options()) {
    for (const std::string& name : option->get_lnames()) known.push_back("--" + name);
  }
  const std::vector<std::string> extras = command.remaining();
  const std::string first = extras.empty() ? "" : extras.front();
  const bool is_option = first.size() > 1 && first.front() == '-';
  return join(is_option ? "unknown option '" : "unexpected argument '", first, "'",
              is_option ? did_you_mean(first.substr(0, first.find('=')), known) : "");
}

int usage_error(const CLI::App& app, const CLI::ParseError& error) {
  std::string message = error.what();
  if (const size_t at = message.find(": 1 required TEXT missing"); at != std::string::npos) {
    message = join(message.substr(0, at), " needs a value");
  }
  std::string help = "brim";
  const CLI::App* command = &app;
  while (!command->get_subcommands().empty()) {
    command = command->get_subcommands().front();
    help += " " + command->get_name();
  }
  if (command != &app && dynamic_cast<const CLI::ExtrasError*>(&error) != nullptr) {
    message = unexpected_arguments(*command);
  }
  complain(join(message, "; see ", help, " --help"));
  return kExitUsage;
}

// The word where a command is due, if there is no such command: says so, with the ones there are.
bool wrong_command(const CLI::App& app, const std::vector<std::string>& arguments) {
  std::string path = "brim";
  const CLI::App* at = &app;
  for (size_t i = 0;; ++i) {
    std::vector<std::string> known;
    for (const CLI::App* each : at->get_subcommands({})) known.push_back(each->get_name());
    if (known.empty()) return false;  // what follows is for the command to read
    const std::string word = i < arguments.size() ? arguments[i] : "";
    if (i < arguments.size() && word.starts_with('-')) return false;
    if (i == arguments.size()) {
      std::string list;
      for (const std::string& name : known) list += join(list.empty() ? "" : ", ", name);
      complain(join("give a command: ", list, "; see ", path, " --help"));
      return true;
    }
    if (std::find(known.begin(), known.end(), word) == known.end()) {
      const std::string near = did_you_mean(word, known);
      complain(join("unknown command '", word.substr(0, 80), "'",
                    near.empty() ? join("; see ", path, " --help") : near));
      return true;
    }
    path += " " + word;
    at = at->get_subcommand(word);
  }
}

// `brim help dump` means `brim dump --help`.
std::vector<std::string> arguments_of(int argc, char** argv) {
  std::vector<std::string> arguments(argv + std::min(argc, 1), argv + argc);
  if (!arguments.empty() && arguments.front() == "help") {
    arguments.erase(arguments.begin());
    arguments.emplace_back("--help");
  }
  return arguments;
}

CommandWords words_of(const CLI::App& app) {
  CommandWords words{app.get_name(), app.get_description(), {}, {}};
  for (const CLI::Option* option : app.get_options()) {
    const bool takes_value = option->get_expected_max() != 0;
    if (option->get_positional()) {
      words.options.push_back({option->get_name(true), option->get_description(), takes_value});
    }
    for (const std::string& name : option->get_lnames()) {
      words.options.push_back({"--" + name, option->get_description(), takes_value});
    }
  }
  for (const CLI::App* each : app.get_subcommands({})) words.commands.push_back(words_of(*each));
  return words;
}

}  // namespace

std::string did_you_mean(const std::string& word, const std::vector<std::string>& known) {
  std::string best;
  size_t least = std::max<size_t>(1, std::min<size_t>(word.size(), 40) / 3) + 1;
  for (const std::string& candidate : known) {
    const size_t distance = edit_distance(word.substr(0, 40), candidate);
    if (distance < least) {
      least = distance;
      best = candidate;
    }
  }
  return best.empty() ? "" : join(", did you mean '", best, "'?");
}

CommandWords command_words() { return words_of(*commands); }

Command Command::add(const char* name, const char* what) {
  app_->require_subcommand(1, 1);  // a key or name may be called as a command is
  return Command(*app_->add_subcommand(name, what));
}

Command& Command::option(const char* name, std::string& value, const char* help) {
  last_ = app_->add_option(name, value, help);
  return *this;
}

Command& Command::option(const char* name, std::optional<std::string>& value, const char* help) {
  last_ = app_->add_option(name, value, help);
  return *this;
}

Command& Command::option(const char* name, uint32_t& value, const char* help) {
  last_ = app_->add_option(name, value, help);
  return *this;
}

Command& Command::option(const char* name, std::vector<std::string>& values, const char* help) {
  last_ = app_->add_option(name, values, help);
  // One value for each time an option is given: what follows is not swallowed.
  if (name[0] == '-') last_->allow_extra_args(false);
  return *this;
}

Command& Command::flag(const char* name, bool& value, const char* help) {
  last_ = app_->add_flag(name, value, help);
  return *this;
}

Command& Command::required() {
  last_->required();
  return *this;
}

Command& Command::excludes(const char* other) {
  last_->excludes(app_->get_option(other));
  return *this;
}

Command& Command::footer(const char* text) {
  app_->footer(text);
  return *this;
}

void Command::action(std::function<int()> run) {
  app_->callback([run = std::move(run)] { exit_code = run(); });
}

int run_command_line(int argc, char** argv, const std::function<void(Command&)>& describe) {
  CLI::App app("Lock-free shared-memory rate limiter: look at segments and work on them", "brim");
  app.set_version_flag("--version", std::string("brim ") + BRIM_VERSION);
  Command brim(app);
  describe(brim);
  std::vector<std::string> arguments = arguments_of(argc, argv);
  if (wrong_command(app, arguments)) return kExitUsage;
  std::reverse(arguments.begin(), arguments.end());  // as CLI11 wants them
  exit_code = kExitOk;
  commands = &app;
  try {
    app.parse(std::move(arguments));
  } catch (const CLI::Success& done) {  // --help, --version
    app.exit(done);
    return finish();
  } catch (const CLI::ParseError& error) {
    return usage_error(app, error);
  }
  return exit_code;
}

}  // namespace brim::tools
