// SPDX-License-Identifier: MIT
#include "change.h"

#include <CLI/CLI.hpp>
#include <memory>
#include <optional>
#include <vector>

#include "brim/policy_file.h"
#include "commands.h"
#include "output.h"

namespace brim::tools {

namespace {

constexpr char kNameHelp[] = "Name of the segment, or an absolute path";

struct Trust {
  std::string owner;
  std::string group;
};

absl::StatusOr<Limiter> attach(const std::string& name, const Trust& trust) {
  const absl::StatusOr<Options> options = trusting_options(trust.owner, trust.group);
  if (!options.ok()) return options.status();
  return Limiter::attach(name, *options);
}

int outcome(const absl::Status& status, const std::string& done) {
  if (!status.ok()) return report(status);
  emit(done);
  return finish();
}

struct ChangeArgs : Trust {
  std::string name;
  std::string policy;
  std::string text;
  bool reset = false;
  bool proportional = false;
};

int run_change(const ChangeArgs& args) {
  const absl::StatusOr<Limiter> limiter = attach(args.name, args);
  if (!limiter.ok()) return report(limiter.status());
  const OnChange mode = args.reset          ? OnChange::kReset
                        : args.proportional ? OnChange::kProportional
                                            : OnChange::kKeep;
  if (const absl::Status status = limiter->change(args.policy, args.text, mode); !status.ok()) {
    return report(status);
  }
  const absl::StatusOr<PolicyHandle> handle = limiter->policy(args.policy);
  if (!handle.ok()) return report(handle.status());
  emit(join("policy ", escape_text(args.policy), ": ", escape_text(policy_text(handle->policy())),
            "\n"));
  return finish();
}

struct FactorArgs : Trust {
  std::string name;
  std::string policy;
  std::string factor;
};

// "0.25", "25%" or "1" as parts per million.
absl::StatusOr<uint32_t> parse_factor(const std::string& text) {
  const bool percent = !text.empty() && text.back() == '%';
  const std::string number = percent ? text.substr(0, text.size() - 1) : text;
  const size_t point = number.find('.');
  const std::string whole = number.substr(0, point);
  std::string part = point == std::string::npos ? "" : number.substr(point + 1);
  const bool digits = number.find_first_not_of("0123456789.") == std::string::npos;
  const size_t places = percent ? 4 : 6;
  if (digits && !whole.empty() && whole.size() <= 3 && part.size() <= places &&
      part.find('.') == std::string::npos) {
    part.resize(places, '0');
    const uint64_t ppm = std::stoull(whole + part);
    if (ppm <= 1000000) return static_cast<uint32_t>(ppm);
  }
  return absl::InvalidArgumentError(join("invalid_factor: '", escape_text(text.substr(0, 40)),
                                         "'; give 0 to 1, as 0.25, or 0% to 100%, to a millionth"));
}

int run_factor(const FactorArgs& args) {
  const absl::StatusOr<uint32_t> ppm = parse_factor(args.factor);
  if (!ppm.ok()) return report(ppm.status());
  const absl::StatusOr<Limiter> limiter = attach(args.name, args);
  if (!limiter.ok()) return report(limiter.status());
  return outcome(
      limiter->set_factor(args.policy, *ppm),
      join("policy ", escape_text(args.policy), ": factor ", *ppm, " parts per million\n"));
}

struct OverrideArgs : Trust {
  std::string name;
  std::string policy;
  std::optional<std::string> key;
  std::optional<std::string> network;
  std::optional<std::string> use;
  bool clear = false;
};

int run_override(const OverrideArgs& args) {
  if (args.key.has_value() == args.network.has_value()) {
    return report(absl::InvalidArgumentError(
        "invalid_override: give --key KEY or --network NETWORK, and not both"));
  }
  if (args.clear == args.use.has_value()) {
    return report(absl::InvalidArgumentError(
        "invalid_override: give --use POLICY|unlimited|deny, or --clear, and not both"));
  }
  const absl::StatusOr<Limiter> limiter = attach(args.name, args);
  if (!limiter.ok()) return report(limiter.status());
  const std::string& match = args.key.has_value() ? *args.key : *args.network;
  absl::Status status;
  if (args.clear) {
    status = args.key.has_value() ? limiter->clear_override(args.policy, match)
                                  : limiter->clear_network_override(args.policy, match);
  } else {
    status = args.key.has_value() ? limiter->set_override(args.policy, match, *args.use)
                                  : limiter->set_network_override(args.policy, match, *args.use);
  }
  return outcome(status, join("policy ", escape_text(args.policy), ": ", escape_text(match),
                              args.clear ? " follows the policy again\n"
                                         : join(" uses ", escape_text(*args.use), "\n")));
}

struct ApplyArgs : Trust {
  std::string name;
  std::string file;
  bool reset = false;
};

// Defines what is missing, changes what differs; keeps what the file does not name.
absl::Status apply_policy(const Limiter& limiter, const NamedPolicy& policy, OnChange mode,
                          std::string& done) {
  const absl::StatusOr<PolicyHandle> known = limiter.policy(policy.name);
  if (absl::IsNotFound(known.status())) {
    const absl::Status defined = limiter.define(policy.name, policy.text).status();
    if (defined.ok()) {
      done += join("defined ", escape_text(policy.name), ": ", escape_text(policy.text), "\n");
    }
    return defined;
  }
  if (!known.ok()) return known.status();
  if (policy_text(known->policy()) == policy.text) return absl::OkStatus();
  const absl::Status changed = limiter.change(policy.name, policy.text, mode);
  if (changed.ok()) {
    done += join("changed ", escape_text(policy.name), ": ", escape_text(policy.text), "\n");
  }
  return changed;
}

int run_apply(const ApplyArgs& args) {
  const absl::StatusOr<PolicyFile> file = read_policy_file(args.file);
  if (!file.ok()) return report(file.status());
  absl::StatusOr<Limiter> limiter = attach(args.name, args);
  if (absl::IsNotFound(limiter.status())) {
    Options options = file->segment;
    options.policies = file->policies;
    limiter = Limiter::open(args.name, options);
  }
  if (!limiter.ok()) return report(limiter.status());
  std::string done;
  for (const NamedPolicy& policy : file->policies) {
    const OnChange mode = args.reset ? OnChange::kReset : OnChange::kKeep;
    if (const absl::Status status = apply_policy(*limiter, policy, mode, done); !status.ok()) {
      emit(done);
      return report(status);
    }
  }
  for (const FileOverride& one : file->overrides) {
    const std::string policy = one.policy.empty() ? "*" : one.policy;
    const absl::Status status = one.network
                                    ? limiter->set_network_override(policy, one.match, one.use)
                                    : limiter->set_override(policy, one.match, one.use);
    if (!status.ok()) {
      emit(done);
      return report(status);
    }
  }
  emit(join(done, file->policies.size(), " policies and ", file->overrides.size(), " overrides of ",
            escape_text(args.file), " are in force\n"));
  return finish();
}

template <class Args>
void add_trust(CLI::App* command, const std::shared_ptr<Args>& args) {
  command->add_option("--owner", args->owner,
                      "Trust a segment of this user besides one's own and root's");
  command->add_option("--group", args->group, "Trust a segment of this group");
}

void add_change(CLI::App& app, int& exit_code) {
  const auto args = std::make_shared<ChangeArgs>();
  CLI::App* const command =
      app.add_subcommand("change", "Change a policy for all attached processes at once");
  command->add_option("NAME", args->name, kNameHelp)->required();
  command->add_option("POLICY", args->policy, "The policy to change")->required();
  command->add_option("TEXT", args->text, "Its new text, such as '200/m burst 40'")->required();
  CLI::Option* const reset = command->add_flag(
      "--reset", args->reset, "Forget what every key has used (default: kept, in permits)");
  command
      ->add_flag("--proportional", args->proportional,
                 "Scale what every key has used with the burst or limit")
      ->excludes(reset);
  add_trust(command, args);
  command->footer(
      "Examples:\n"
      "  brim change api per_ip '200/m burst 40'\n"
      "  brim change api per_ip 'sliding-counter 200/m' --reset");
  command->callback([args, &exit_code] { exit_code = run_change(*args); });
}

void add_factor(CLI::App& app, int& exit_code) {
  const auto args = std::make_shared<FactorArgs>();
  CLI::App* const command =
      app.add_subcommand("factor", "Scale a policy's rates from 0 (stopped) to 1 (as written)");
  command->add_option("NAME", args->name, kNameHelp)->required();
  command->add_option("POLICY", args->policy, "The policy to scale")->required();
  command->add_option("FACTOR", args->factor, "0 to 1, as 0.25, or 25%")->required();
  add_trust(command, args);
  command->footer("Examples:\n  brim factor api per_ip 0.5\n  brim factor api per_ip 100%");
  command->callback([args, &exit_code] { exit_code = run_factor(*args); });
}

void add_override(CLI::App& app, int& exit_code) {
  const auto args = std::make_shared<OverrideArgs>();
  CLI::App* const command = app.add_subcommand(
      "override", "Let a key or a network follow another policy, or none, or be refused");
  command->add_option("NAME", args->name, kNameHelp)->required();
  command->add_option("POLICY", args->policy, "Whose requests; '*' for every policy's")->required();
  command->add_option("--key", args->key, "The key");
  command->add_option("--network", args->network, "Keys that are addresses in it: 10.0.0.0/8");
  command->add_option("--use", args->use, "A policy of the segment, unlimited, or deny");
  command->add_flag("--clear", args->clear, "Remove the override");
  add_trust(command, args);
  command->footer(
      "Examples:\n"
      "  brim override api per_ip --network 10.0.0.0/8 --use unlimited\n"
      "  brim override api '*' --key mallory --use deny\n"
      "  brim override api '*' --key mallory --clear");
  command->callback([args, &exit_code] { exit_code = run_override(*args); });
}

void add_apply(CLI::App& app, int& exit_code) {
  const auto args = std::make_shared<ApplyArgs>();
  CLI::App* const command = app.add_subcommand(
      "apply", "Bring the policies and overrides of a file into a segment; made if missing");
  command->add_option("NAME", args->name, kNameHelp)->required();
  command->add_option("FILE", args->file, "TOML file, as `brim check` reads it")->required();
  command->add_flag("--reset", args->reset, "Forget what the keys of changed policies have used");
  add_trust(command, args);
  command->footer("Examples:\n  brim check limits.toml && brim apply api limits.toml");
  command->callback([args, &exit_code] { exit_code = run_apply(*args); });
}

}  // namespace

void add_change_commands(CLI::App& app, int& exit_code) {
  add_change(app, exit_code);
  add_factor(app, exit_code);
  add_override(app, exit_code);
  add_apply(app, exit_code);
}

}  // namespace brim::tools
