// SPDX-License-Identifier: MIT
#include "change.h"

#include <memory>
#include <utility>
#include <vector>

#include "audit.h"
#include "brim/policy_file.h"
#include "cli.h"
#include "output.h"
#include "override.h"

namespace brim::tools {

namespace {

struct ChangeArgs : Trust {
  std::string name;
  std::string policy;
  std::string text;
  bool reset = false;
  bool proportional = false;
};

struct ApplyArgs : Trust {
  std::string name;
  std::string file;
  bool reset = false;
};

OnChange mode_of(bool reset, bool proportional) {
  return reset ? OnChange::kReset : proportional ? OnChange::kProportional : OnChange::kKeep;
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
  const absl::StatusOr<Changed> segment = Changed::attach(args.name, args);
  if (!segment.ok()) return report(segment.status());
  const std::string what =
      join("policy ", escape_text(args.policy), ": factor ", *ppm, " parts per million");
  const absl::Status status =
      segment->note_if((*segment)->set_factor(args.policy, *ppm), what, args.policy);
  if (!status.ok()) return report(status);
  emit(what + "\n");
  return finish();
}

// Defines what is missing, changes what differs; keeps what the file does not name.
absl::Status apply_policy(const Changed& segment, const NamedPolicy& policy, OnChange mode,
                          std::string& done) {
  const std::string tail = join(escape_text(policy.name), ": ", escape_text(policy.text));
  const absl::StatusOr<PolicyHandle> known = segment->policy(policy.name);
  if (absl::IsNotFound(known.status())) {
    const absl::Status defined = segment.note_if(segment->define(policy.name, policy.text).status(),
                                                 "define policy " + tail);
    if (defined.ok()) done += join("defined ", tail, "\n");
    return defined;
  }
  if (!known.ok()) return known.status();
  if (policy_text(known->policy()) == policy.text) return absl::OkStatus();
  const absl::Status changed = segment.note_if(
      segment->change(policy.name, policy.text, mode),
      join(mode == OnChange::kReset ? "change and reset policy " : "change policy ", tail));
  if (changed.ok()) done += join("changed ", tail, "\n");
  return changed;
}

// Nothing to do, and nothing to note, where it is as the file says.
absl::Status apply_override(const Changed& segment, const std::vector<OverrideInfo>& known,
                            const FileOverride& one) {
  const std::string policy = one.policy.empty() ? "*" : one.policy;
  const OverrideInfo* const now = find_override(known, policy, one.match, one.network);
  if (now != nullptr && !now->ban && now->use == one.use) return absl::OkStatus();
  return segment.note_if(one.network ? segment->set_network_override(policy, one.match, one.use)
                                     : segment->set_override(policy, one.match, one.use),
                         override_note(policy, one.match, one.network, one.use));
}

int run_apply(const ApplyArgs& args) {
  const absl::StatusOr<PolicyFile> file = read_policy_file(args.file);
  if (!file.ok()) return report(file.status());
  absl::StatusOr<Changed> segment = Changed::attach(args.name, args);
  if (absl::IsNotFound(segment.status())) {
    Options options = file->segment;
    options.policies = file->policies;
    absl::StatusOr<Limiter> made = Limiter::open(args.name, options);
    if (!made.ok()) return report(made.status());
    segment = Changed(*std::move(made));
  }
  if (!segment.ok()) return report(segment.status());
  std::string done;
  for (const NamedPolicy& policy : file->policies) {
    const OnChange mode = args.reset ? OnChange::kReset : OnChange::kKeep;
    if (const absl::Status status = apply_policy(*segment, policy, mode, done); !status.ok()) {
      emit(done);
      return report(status);
    }
  }
  const absl::StatusOr<std::vector<OverrideInfo>> known = overrides_of(args.name, args);
  if (!known.ok()) return report(known.status());
  for (const FileOverride& one : file->overrides) {
    if (const absl::Status status = apply_override(*segment, *known, one); !status.ok()) {
      emit(done);
      return report(status);
    }
  }
  emit(join(done, file->policies.size(), " policies and ", file->overrides.size(), " overrides of ",
            escape_text(args.file), " are in force\n"));
  return finish();
}

int run_change(const ChangeArgs& args, bool may_define) {
  const absl::StatusOr<Changed> segment = Changed::attach(args.name, args);
  if (!segment.ok()) return report(segment.status());
  const absl::StatusOr<PolicyHandle> known = (*segment)->policy(args.policy);
  const bool fresh = may_define && absl::IsNotFound(known.status());
  const OnChange mode = mode_of(args.reset, args.proportional);
  absl::Status status = fresh ? (*segment)->define(args.policy, args.text).status()
                              : (*segment)->change(args.policy, args.text, mode);
  if (!status.ok()) return report(with_near_policy(status, segment->limiter(), args.policy));
  const absl::StatusOr<PolicyHandle> handle = (*segment)->policy(args.policy);
  if (!handle.ok()) return report(handle.status());
  const std::string tail =
      join(escape_text(args.policy), ": ", escape_text(policy_text(handle->policy())));
  segment->note(join(fresh                             ? "define policy "
                     : mode == OnChange::kReset        ? "change and reset policy "
                     : mode == OnChange::kProportional ? "change and scale policy "
                                                       : "change policy ",
                     tail));
  emit(join("policy ", tail, "\n"));
  return finish();
}

}  // namespace

void describe_change(Command& command, bool may_define, const char* footer) {
  const auto args = std::make_shared<ChangeArgs>();
  command.segment(*args);
  command.option("POLICY", args->policy, may_define ? "The policy" : "The policy to change")
      .required();
  command.option("TEXT", args->text, "Its new text, such as '200/m burst 40'").required();
  command.flag("--reset", args->reset,
               "Forget what every key has used (default: kept, in permits)");
  command
      .flag("--proportional", args->proportional,
            "Scale what every key has used with the burst or limit")
      .excludes("--reset");
  command.trust(*args);
  command.footer(footer);
  command.action([args, may_define] { return run_change(*args, may_define); });
}

void describe_apply(Command& command, const char* footer) {
  const auto args = std::make_shared<ApplyArgs>();
  command.segment(*args);
  command.option("FILE", args->file, "TOML file, as `brim check` reads it").required();
  command.flag("--reset", args->reset, "Forget what the keys of changed policies have used");
  command.trust(*args);
  command.footer(footer);
  command.action([args] { return run_apply(*args); });
}

void describe_factor(Command& command) {
  const auto args = std::make_shared<FactorArgs>();
  command.segment(*args);
  command.option("POLICY", args->policy, "The policy to scale").required();
  command.option("FACTOR", args->factor, "0 to 1, as 0.25, or 25%").required();
  command.trust(*args);
  command.footer("Examples:\n  brim factor api per_ip 0.5\n  brim factor api per_ip 100%");
  command.action([args] { return run_factor(*args); });
}

void add_change_commands(Command& brim) {
  Command change = brim.add("change", "Change a policy for all attached processes at once");
  describe_change(change, false,
                  "Examples:\n"
                  "  brim change api per_ip '200/m burst 40'\n"
                  "  brim change api per_ip 'sliding-counter 200/m' --reset");
  Command factor = brim.add("factor", "Scale a policy's rates from 0 (stopped) to 1 (as written)");
  describe_factor(factor);
  Command apply = brim.add(
      "apply", "Bring the policies and overrides of a file into a segment; made if missing");
  describe_apply(apply, "Examples:\n  brim check limits.toml && brim apply api limits.toml");
}

}  // namespace brim::tools
