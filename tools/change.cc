// SPDX-License-Identifier: MIT
#include "change.h"

#include <memory>
#include <optional>
#include <vector>

#include "brim/policy_file.h"
#include "cli.h"
#include "commands.h"
#include "output.h"

namespace brim::tools {

namespace {

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

void add_change(Command& brim) {
  const auto args = std::make_shared<ChangeArgs>();
  Command command = brim.add("change", "Change a policy for all attached processes at once");
  command.segment(*args);
  command.option("POLICY", args->policy, "The policy to change").required();
  command.option("TEXT", args->text, "Its new text, such as '200/m burst 40'").required();
  command.flag("--reset", args->reset,
               "Forget what every key has used (default: kept, in permits)");
  command
      .flag("--proportional", args->proportional,
            "Scale what every key has used with the burst or limit")
      .excludes("--reset");
  command.trust(*args);
  command.footer(
      "Examples:\n"
      "  brim change api per_ip '200/m burst 40'\n"
      "  brim change api per_ip 'sliding-counter 200/m' --reset");
  command.action([args] { return run_change(*args); });
}

void add_factor(Command& brim) {
  const auto args = std::make_shared<FactorArgs>();
  Command command = brim.add("factor", "Scale a policy's rates from 0 (stopped) to 1 (as written)");
  command.segment(*args);
  command.option("POLICY", args->policy, "The policy to scale").required();
  command.option("FACTOR", args->factor, "0 to 1, as 0.25, or 25%").required();
  command.trust(*args);
  command.footer("Examples:\n  brim factor api per_ip 0.5\n  brim factor api per_ip 100%");
  command.action([args] { return run_factor(*args); });
}

void add_override(Command& brim) {
  const auto args = std::make_shared<OverrideArgs>();
  Command command =
      brim.add("override", "Let a key or a network follow another policy, or none, or be refused");
  command.segment(*args);
  command.option("POLICY", args->policy, "Whose requests; '*' for every policy's").required();
  command.option("--key", args->key, "The key");
  command.option("--network", args->network, "Keys that are addresses in it: 10.0.0.0/8");
  command.option("--use", args->use, "A policy of the segment, unlimited, or deny");
  command.flag("--clear", args->clear, "Remove the override");
  command.trust(*args);
  command.footer(
      "Examples:\n"
      "  brim override api per_ip --network 10.0.0.0/8 --use unlimited\n"
      "  brim override api '*' --key mallory --use deny\n"
      "  brim override api '*' --key mallory --clear");
  command.action([args] { return run_override(*args); });
}

void add_apply(Command& brim) {
  const auto args = std::make_shared<ApplyArgs>();
  Command command = brim.add(
      "apply", "Bring the policies and overrides of a file into a segment; made if missing");
  command.segment(*args);
  command.option("FILE", args->file, "TOML file, as `brim check` reads it").required();
  command.flag("--reset", args->reset, "Forget what the keys of changed policies have used");
  command.trust(*args);
  command.footer("Examples:\n  brim check limits.toml && brim apply api limits.toml");
  command.action([args] { return run_apply(*args); });
}

}  // namespace

void add_change_commands(Command& brim) {
  add_change(brim);
  add_factor(brim);
  add_override(brim);
  add_apply(brim);
}

}  // namespace brim::tools
