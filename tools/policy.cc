// SPDX-License-Identifier: MIT
#include "policy.h"

#include <algorithm>
#include <memory>
#include <optional>
#include <vector>

#include "audit.h"
#include "brim/inspect.h"
#include "brim/policy_file.h"
#include "brim/policy_report.h"
#include "change.h"
#include "check.h"
#include "cli.h"
#include "commands.h"
#include "output.h"
#include "override.h"

namespace brim::tools {

namespace {

struct PolicyArgs : Trust {
  std::string name;
  std::string policy;
  std::string file;
  std::string format = "table";
};

absl::StatusOr<Inspector> look(const PolicyArgs& args) {
  const absl::StatusOr<Options> options = trusting_options(args.owner, args.group);
  if (!options.ok()) return options.status();
  return Inspector::attach(args.name, *options);
}

void write_policy(JsonWriter& json, const PolicyInfo& policy) {
  json.field("name", policy.name).field("text", policy.text);
  json.field("factor_ppm", policy.factor_ppm);
}

uint64_t counter(const PolicyInfo& policy, std::string_view name) {
  for (const Counter& each : policy.counters) {
    if (each.name == name) return each.value;
  }
  return 0;
}

int run_list(const PolicyArgs& args) {
  const absl::StatusOr<Format> format = parse_format(args.format);
  if (!format.ok()) return report(format.status());
  const absl::StatusOr<Inspector> inspector = look(args);
  if (!inspector.ok()) return report(inspector.status());
  JsonWriter json;
  json.begin('{').field("version", 1).field("segment", args.name).name("policies").begin('[');
  std::string csv = csv_row({"policy", "text", "factor_ppm", "allowed", "denied"});
  std::vector<std::vector<std::string>> rows = {
      {"POLICY", "FACTOR PPM", "ALLOWED", "DENIED", "TEXT"}};
  for (const PolicyInfo& policy : inspector->policies()) {
    const std::string name = escape_text(policy.name);
    const std::string text = escape_text(policy.text);
    const std::string factor = join(policy.factor_ppm);
    const std::string allowed = join(counter(policy, "allowed"));
    const std::string denied = join(counter(policy, "denied"));
    json.line().begin('{');
    write_policy(json, policy);
    json.field("allowed", counter(policy, "allowed")).field("denied", counter(policy, "denied"));
    json.end('}');
    csv += csv_row({name, text, factor, allowed, denied});
    rows.push_back({name, factor, allowed, denied, text});
  }
  emit(*format == Format::kJson  ? json.line().end(']').end('}').take() + "\n"
       : *format == Format::kCsv ? csv
                                 : table(rows, {1, 2, 3}));
  return finish();
}

int print_policy(const PolicyArgs& args, Format format, const PolicyInfo& policy,
                 uint32_t name_bytes) {
  const PolicyReport report = report_policy(policy.policy, name_bytes);
  JsonWriter json;
  json.begin('{').field("version", 1).field("segment", args.name);
  write_policy(json, policy);
  json.field("bytes_per_key", report.bytes_per_key).name("counters").begin('[');
  std::string csv = csv_row({"name", "value", "description"});
  csv += csv_row({"text", escape_text(policy.text), "the policy"});
  csv += csv_row({"factor_ppm", join(policy.factor_ppm), "share of its rates that is in force"});
  std::vector<std::vector<std::string>> rows = {{"COUNTER", "VALUE", "MEANING"}};
  for (const Counter& each : policy.counters) {
    json.line().begin('{').field("name", each.name).field("value", each.value);
    json.field("description", each.description).end('}');
    csv += csv_row({each.name, join(each.value), each.description});
    rows.push_back({each.name, join(each.value), each.description});
  }
  if (format == Format::kTable) {
    emit(join("policy ", escape_text(policy.name), ": ", escape_text(policy.text), "\n", "factor ",
              policy.factor_ppm, " parts per million, ", report.bytes_per_key, " bytes a key\n",
              table(rows, {1})));
  } else {
    emit(format == Format::kCsv ? csv : json.line().end(']').end('}').take() + "\n");
  }
  return finish();
}

int run_show(const PolicyArgs& args) {
  const absl::StatusOr<Format> format = parse_format(args.format);
  if (!format.ok()) return report(format.status());
  const absl::StatusOr<Inspector> inspector = look(args);
  if (!inspector.ok()) return report(inspector.status());
  std::vector<std::string> names;
  for (const PolicyInfo& policy : inspector->policies()) {
    if (policy.name == args.policy) {
      return print_policy(args, *format, policy, inspector->info().name_bytes);
    }
    names.push_back(policy.name);
  }
  return report(absl::NotFoundError(join("policy_not_found: segment ", escape_text(args.name),
                                         " has no policy '", escape_text(args.policy), "'",
                                         did_you_mean(args.policy, names))));
}

int run_remove(const PolicyArgs& args) {
  const absl::StatusOr<Changed> segment = Changed::attach(args.name, args);
  if (!segment.ok()) return report(segment.status());
  const absl::Status status =
      segment->note_if((*segment)->remove_policy(args.policy),
                       join("remove policy ", escape_text(args.policy)), args.policy);
  if (!status.ok()) return report(status);
  emit(join("policy ", escape_text(args.policy), ": removed\n"));
  return finish();
}

std::string override_line(const FileOverride& one, std::string_view use) {
  return join("override of ", one.policy.empty() ? "*" : escape_text(one.policy), ": ",
              one.network ? "network " : "key ", escape_key(one.match), " uses ", escape_text(use),
              "\n");
}

// What `apply` would do, as lines of a diff; empty if nothing.
std::string difference(const PolicyFile& file, const std::vector<PolicyInfo>& policies,
                       const std::vector<OverrideInfo>& overrides) {
  std::string text;
  for (const NamedPolicy& wanted : file.policies) {
    const auto known =
        std::find_if(policies.begin(), policies.end(),
                     [&](const PolicyInfo& policy) { return policy.name == wanted.name; });
    // The text in the segment may be spelt otherwise.
    if (known != policies.end() && policy_text(known->policy) == wanted.text) continue;
    const std::string name = escape_text(wanted.name);
    if (known != policies.end()) text += join("-", name, ": ", escape_text(known->text), "\n");
    text += join("+", name, ": ", escape_text(wanted.text), "\n");
  }
  for (const FileOverride& wanted : file.overrides) {
    const OverrideInfo* const known = find_override(
        overrides, wanted.policy.empty() ? "*" : wanted.policy, wanted.match, wanted.network);
    if (known != nullptr && !known->ban && known->use == wanted.use) continue;
    if (known != nullptr) text += "-" + override_line(wanted, known->use);
    text += "+" + override_line(wanted, wanted.use);
  }
  return text;
}

// As diff(1): 0 the same, 1 they differ, and trouble is more than that.
int trouble(const absl::Status& status) {
  const int code = report(status);
  return code == kExitFailure ? kExitUsage : code;
}

int run_diff(const PolicyArgs& args) {
  const absl::StatusOr<PolicyFile> file = read_policy_file(args.file);
  if (!file.ok()) return trouble(file.status());
  const absl::StatusOr<Inspector> inspector = look(args);
  if (!inspector.ok()) return trouble(inspector.status());
  const std::string text = difference(*file, inspector->policies(), inspector->overrides());
  emit(text);
  const int code = finish(text.empty() ? kExitOk : kExitFailure);
  return code == kExitFailure && text.empty() ? kExitUsage : code;
}

Command add_one(Command& policy, const char* name, const char* what,
                const std::shared_ptr<PolicyArgs>& args) {
  Command command = policy.add(name, what);
  command.segment(*args);
  return command;
}

}  // namespace

void add_policy_commands(Command& brim) {
  Command policy = brim.add("policy", "List, show, set, load, check, compare or remove policies");
  const auto list = std::make_shared<PolicyArgs>();
  Command command = add_one(policy, "list", "List a segment's policies", list);
  command.option("--format", list->format, kFormatHelp);
  command.trust(*list);
  command.footer("Examples:\n  brim policy list api\n  brim policy list api --format json");
  command.action([list] { return run_list(*list); });

  const auto show = std::make_shared<PolicyArgs>();
  command = add_one(policy, "show", "Show one policy with its counters", show);
  command.option("POLICY", show->policy, "The policy").required();
  command.option("--format", show->format, kFormatHelp);
  command.trust(*show);
  command.footer("Examples:\n  brim policy show api per_ip");
  command.action([show] { return run_show(*show); });

  command = policy.add("set", "Define a policy, or change it for all attached processes at once");
  describe_change(command, true,
                  "Examples:\n"
                  "  brim policy set api per_ip '200/m burst 40'\n"
                  "  brim policy set api per_ip 'sliding-counter 200/m' --reset");
  command =
      policy.add("load", "Bring a file's policies and overrides into a segment: `brim apply`");
  describe_apply(command, "Examples:\n  brim policy load api limits.toml");
  command = policy.add("check", "Read a file of policies and point at its traps: `brim check`");
  describe_check(command);

  const auto diff = std::make_shared<PolicyArgs>();
  command = add_one(policy, "diff", "Show what `load` would change", diff);
  command.option("FILE", diff->file, "TOML file, as `brim check` reads it").required();
  command.trust(*diff);
  command.footer(
      "Exit status 0 if nothing would change, 1 if something would, more if that is not known.\n"
      "Examples:\n  brim policy diff api limits.toml || brim policy load api limits.toml");
  command.action([diff] { return run_diff(*diff); });

  const auto remove = std::make_shared<PolicyArgs>();
  command = add_one(policy, "rm", "Remove a policy; who has it looked up goes on with it", remove);
  command.option("POLICY", remove->policy, "The policy").required();
  command.trust(*remove);
  command.footer("Examples:\n  brim policy rm api per_ip");
  command.action([remove] { return run_remove(*remove); });
}

}  // namespace brim::tools
