// SPDX-License-Identifier: MIT
// The `brim` command: options, help and exit codes. What each command does is in commands.cc,
// dump.cc and replay.cc.
#include <signal.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "change.h"
#include "check.h"
#include "commands.h"
#include "dump.h"
#include "keys.h"
#include "metrics.h"
#include "output.h"
#include "replay.h"
#include "snapshot.h"
#include "verify.h"

namespace brim::tools {

namespace {

constexpr char kFormatHelp[] = "table, json or csv (default table)";
constexpr char kNameHelp[] = "Name of the segment, or an absolute path";
constexpr char kOwnerHelp[] = "Trust a segment of this user besides one's own and root's";
constexpr char kGroupHelp[] = "Trust a segment of this group";

// One value for each time the option is given: what follows is not swallowed.
void single(CLI::Option* option) { option->allow_extra_args(false); }

void add_create(CLI::App& app, int& exit_code) {
  const auto args = std::make_shared<CreateArgs>();
  CLI::App* const command = app.add_subcommand("create", "Make a segment");
  command->add_option("NAME", args->name, kNameHelp)->required();
  command->add_option("--capacity", args->capacity,
                      "Keys to hold, such as 50000, 64k or 1M (default 64k)");
  command->add_option("--name-bytes", args->name_bytes,
                      "Bytes of each key's text kept for dump; 0 for none (default 48)");
  command->add_option("--max-policies", args->max_policies, "Room for policies (default 64)");
  single(command->add_option("--policy", args->policies,
                             "NAME=RATE, such as 'per_ip=100/m burst 20'; may be repeated"));
  command->add_option("--hash", args->hash, "siphash, or xxh3 if no adversary chooses the keys");
  command->add_option("--on-full", args->on_full,
                      "evict, allow or deny: what a new key meets in a full table");
  command->add_option("--mode", args->mode, "0600, or 0660 with --group");
  command->add_option("--group", args->group, "Group that shares the segment; implies mode 0660");
  command->add_option("--probe-limit", args->probe_limit,
                      "Groups of four slots searched for a key, 1 to 255 (default 48)");
  command->add_option("--restore", args->restore,
                      "Begin with the sizes, policies and keys of this snapshot");
  command->add_flag("--huge-pages", args->huge_pages, "Ask for transparent huge pages");
  CLI::Option* const recreate = command->add_flag(
      "--recreate", args->recreate, "Replace a segment of this name; its users keep the old one");
  command
      ->add_flag("--if-missing", args->if_missing,
                 "Succeed if it is there with these options; add missing policies")
      ->excludes(recreate);
  command->footer(
      "Examples:\n"
      "  brim create api --policy per_ip='100/m burst 20'\n"
      "  brim create api --capacity 1M --name-bytes 0 --policy a=10/s --policy b=5/m\n"
      "  brim create shared --mode 0660 --group www-data --if-missing");
  command->callback([args, &exit_code] { exit_code = run_create(*args); });
}

void add_list(CLI::App& app, int& exit_code) {
  const auto args = std::make_shared<ListArgs>();
  CLI::App* const command = app.add_subcommand("list", "List the segments in /dev/shm");
  command->add_option("--format", args->format, kFormatHelp);
  command->footer("Examples:\n  brim list\n  brim list --format json");
  command->callback([args, &exit_code] { exit_code = run_list(*args); });
}

void add_info(CLI::App& app, int& exit_code) {
  const auto args = std::make_shared<InfoArgs>();
  CLI::App* const command =
      app.add_subcommand("info", "Show a segment's sizes, policies, counters and processes");
  command->add_option("NAME", args->name, kNameHelp)->required();
  command->add_option("--format", args->format, kFormatHelp);
  command->add_option("--owner", args->owner, kOwnerHelp);
  command->add_option("--group", args->group, kGroupHelp);
  command->footer("Examples:\n  brim info api\n  brim info /run/app/limits --format json");
  command->callback([args, &exit_code] { exit_code = run_info(*args); });
}

void add_dump(CLI::App& app, int& exit_code) {
  const auto args = std::make_shared<DumpArgs>();
  CLI::App* const command = app.add_subcommand("dump", "Print the keys of a segment");
  command->add_option("NAME", args->name, kNameHelp)->required();
  command->add_option("--policy", args->policy, "Only the keys of this policy");
  command->add_option("--state", args->state,
                      "live, idle or all (default live: keys that have used permits)");
  command->add_option("--limit", args->limit, "Stop after this many keys");
  command->add_option("--format", args->format, kFormatHelp);
  command->add_option("--owner", args->owner, kOwnerHelp);
  command->add_option("--group", args->group, kGroupHelp);
  command->footer(
      "Bytes of a key that are not plain ASCII are shown as %XX. A key whose text is not known\n"
      "is shown by its fingerprint, #0123456789abc.\n"
      "Examples:\n"
      "  brim dump api\n"
      "  brim dump api --policy per_ip --state all --limit 20\n"
      "  brim dump api --format json | jq -r '.keys[].key_base64'");
  command->callback([args, &exit_code] { exit_code = run_dump(*args); });
}

void add_try(CLI::App& app, int& exit_code) {
  const auto args = std::make_shared<TryArgs>();
  CLI::App* const command =
      app.add_subcommand("try", "Take permits for a key: exit status 0 if allowed, 75 if refused");
  command->add_option("NAME", args->name, kNameHelp)->required();
  command->add_option("KEY", args->key, "The key; after -- if it begins with a dash");
  command->add_option("--key-file", args->key_file,
                      "Read the key from this file, all its bytes; - for standard input");
  command->add_option("--policy", args->policy,
                      "Policy to ask; may be left out if there is only one");
  command->add_option("--cost", args->cost, "Permits to take, 0 only looks (default 1)");
  command->add_flag("--peek", args->peek, "Only tell what would happen; attach read-only");
  command->add_option("--format", args->format, kFormatHelp);
  command->add_option("--owner", args->owner, kOwnerHelp);
  command->add_option("--group", args->group, kGroupHelp);
  command->footer(
      "Examples:\n"
      "  brim try api 192.0.2.7 && deploy\n"
      "  brim try api alice --policy per_user --cost 5\n"
      "  head -c 16 key.bin | brim try api --key-file - --peek");
  command->callback([args, &exit_code] { exit_code = run_try(*args); });
}

void add_check(CLI::App& app, int& exit_code) {
  const auto args = std::make_shared<CheckArgs>();
  CLI::App* const command = app.add_subcommand(
      "check", "Read a file of policies: worst cases, memory and traps of each; needs no segment");
  command->add_option("FILE", args->file, "TOML file with [policies]")->required();
  command->add_option("--format", args->format, "text or json (default text)");
  command->add_flag("--strict", args->strict, "Exit status 1 if there are warnings");
  command->footer(
      "Examples:\n  brim check limits.toml\n  brim check --strict limits.toml && deploy\n"
      "  brim check limits.toml --format json | jq .policies[].findings");
  command->callback([args, &exit_code] { exit_code = run_check(*args); });
}

void add_unlink(CLI::App& app, int& exit_code) {
  const auto args = std::make_shared<UnlinkArgs>();
  CLI::App* const command = app.add_subcommand(
      "unlink", "Remove segments by name; attached processes keep theirs until they detach");
  command->add_option("NAME", args->names, "Names or absolute paths of segments")->required();
  command->footer("Examples:\n  brim unlink api\n  brim unlink old-1 old-2");
  command->callback([args, &exit_code] { exit_code = run_unlink(*args); });
}

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

// ", did you mean 'dump'?", or nothing if no word is near.
std::string suggestion(const std::string& word, const std::vector<std::string>& known) {
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
              is_option ? suggestion(first.substr(0, first.find('=')), known) : "");
}

int usage_error(const CLI::App& app, const CLI::ParseError& error) {
  std::string message = error.what();
  if (const size_t at = message.find(": 1 required TEXT missing"); at != std::string::npos) {
    message = join(message.substr(0, at), " needs a value");
  }
  std::string help = "brim";
  for (const CLI::App* command : app.get_subcommands()) {
    help += " " + command->get_name();
    if (dynamic_cast<const CLI::ExtrasError*>(&error) != nullptr) {
      message = unexpected_arguments(*command);
    }
  }
  complain(join(message, "; see ", help, " --help"));
  return kExitUsage;
}

std::vector<std::string> command_names(const CLI::App& app) {
  std::vector<std::string> names;
  for (const CLI::App* command : app.get_subcommands({})) names.push_back(command->get_name());
  return names;
}

int no_command(const std::vector<std::string>& known) {
  std::string list;
  for (const std::string& name : known) list += join(list.empty() ? "" : ", ", name);
  complain(join("give a command: ", list, "; see brim --help"));
  return kExitUsage;
}

int unknown_command(const std::string& word, const std::vector<std::string>& known) {
  const std::string near = suggestion(word, known);
  complain(join("unknown command '", word.substr(0, 80), "'",
                near.empty() ? "; see brim --help" : near));
  return kExitUsage;
}

// A mapped file that somebody cuts raises SIGBUS at the next read beyond its end. Nothing can be
// trusted then, so the guard says why and ends; it does not jump back over live objects.
void on_bus_error(int) {
  constexpr char kMessage[] =
      "brim: segment_truncated: the segment was cut while it was read; recreate it (brim create "
      "--recreate)\n";
  const ssize_t ignored = write(STDERR_FILENO, kMessage, sizeof(kMessage) - 1);
  static_cast<void>(ignored);
  _exit(kExitNoSegment);
}

void guard_against_truncation() {
  struct sigaction action {};
  action.sa_handler = on_bus_error;
  sigaction(SIGBUS, &action, nullptr);
}

// `brim help dump` means `brim dump --help`.
std::vector<std::string> arguments_of(int argc, char** argv) {
  std::vector<std::string> arguments(argv + std::min(argc, 1), argv + argc);
  if (!arguments.empty() && arguments.front() == "help") {
    arguments.erase(arguments.begin());
    arguments.resize(std::min<size_t>(arguments.size(), 1));
    arguments.emplace_back("--help");
  }
  return arguments;
}

int run(int argc, char** argv) {
  int exit_code = kExitOk;
  CLI::App app("Lock-free shared-memory rate limiter: look at segments and work on them", "brim");
  app.set_version_flag("--version", std::string("brim ") + BRIM_VERSION);
  add_create(app, exit_code);
  add_list(app, exit_code);
  add_info(app, exit_code);
  add_dump(app, exit_code);
  add_metrics_command(app, exit_code);
  add_key_commands(app, exit_code);
  add_try(app, exit_code);
  add_unlink(app, exit_code);
  add_replay_command(app, exit_code);
  add_verify_command(app, exit_code);
  add_check(app, exit_code);
  add_change_commands(app, exit_code);
  add_snapshot_commands(app, exit_code);
  app.require_subcommand(1, 1);  // a key or name may be called as a command is
  app.footer(
      "Exit status: 0 done or allowed, 1 failure, 2 wrong usage, 3 no such segment,\n"
      "4 incompatible or damaged segment, 75 refused by the policy.\n"
      "Examples:\n"
      "  brim create api --policy per_ip='100/m burst 20'\n"
      "  brim try api 192.0.2.7\n"
      "  brim dump --help");

  std::vector<std::string> arguments = arguments_of(argc, argv);
  const std::vector<std::string> known = command_names(app);
  if (arguments.empty()) return no_command(known);
  const std::string first = arguments.front();
  if ((first.empty() || first.front() != '-') &&
      std::find(known.begin(), known.end(), first) == known.end()) {
    return unknown_command(first, known);
  }
  std::reverse(arguments.begin(), arguments.end());  // as CLI11 wants them
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

}  // namespace

}  // namespace brim::tools

int main(int argc, char** argv) {
  brim::tools::guard_against_truncation();
  try {
    return brim::tools::run(argc, argv);
  } catch (const std::exception& error) {
    brim::tools::complain(std::string("unexpected: ") + error.what());
    return brim::tools::kExitFailure;
  }
}
