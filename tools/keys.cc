// SPDX-License-Identifier: MIT
#include "keys.h"

#include <memory>
#include <optional>
#include <vector>

#include "audit.h"
#include "brim/inspect.h"
#include "cli.h"
#include "commands.h"
#include "output.h"

namespace brim::tools {

namespace {

struct KeyArgs : Trust {
  std::string name;
  std::optional<std::string> key;
  std::optional<std::string> key_file;
  std::optional<std::string> policy;
  std::string format = "table";
  std::string remaining;
  bool all = false;
};

absl::StatusOr<std::string> key_of(const KeyArgs& args) {
  if (args.key.has_value() == args.key_file.has_value()) {
    return absl::InvalidArgumentError(
        "key_needed: give KEY, or --key-file with a file that holds it, and not both");
  }
  return args.key.has_value() ? absl::StatusOr<std::string>(*args.key) : read_key(*args.key_file);
}

// The policy that was named, or all there are.
absl::StatusOr<std::vector<PolicyHandle>> policies_of(const Limiter& limiter,
                                                      const std::optional<std::string>& name) {
  std::vector<PolicyHandle> handles;
  for (const std::string& each :
       name.has_value() ? std::vector<std::string>{*name} : limiter.policy_names()) {
    const absl::StatusOr<PolicyHandle> handle = limiter.policy(each);
    if (!handle.ok()) return with_near_policy(handle.status(), limiter, each);
    handles.push_back(*handle);
  }
  return handles;
}

// The key, and the policies it is asked of.
struct Asked {
  Changed segment;
  std::string key;
  std::vector<PolicyHandle> policies;
};

absl::StatusOr<Asked> asked_of(const KeyArgs& args, bool read_only) {
  absl::StatusOr<std::string> key = key_of(args);
  if (!key.ok()) return key.status();
  const absl::StatusOr<Options> options = trusting_options(args.owner, args.group);
  if (!options.ok()) return options.status();
  const absl::StatusOr<Limiter> limiter = read_only ? Limiter::attach_read_only(args.name, *options)
                                                    : Limiter::attach(args.name, *options);
  if (!limiter.ok()) return limiter.status();
  absl::StatusOr<std::vector<PolicyHandle>> policies = policies_of(*limiter, args.policy);
  if (!policies.ok()) return policies.status();
  return Asked{Changed(*limiter), *std::move(key), *std::move(policies)};
}

// What each policy answers for the key now, without taking anything.
int run_get(const KeyArgs& args) {
  const absl::StatusOr<Format> format = parse_format(args.format);
  if (!format.ok()) return report(format.status());
  const absl::StatusOr<Asked> asked = asked_of(args, true);
  if (!asked.ok()) return report(asked.status());
  const auto ns = [](int64_t span) { return span == kNever ? "" : std::to_string(span); };
  JsonWriter json;
  json.begin('{').field("version", 1).field("segment", args.name);
  json.field("key_base64", base64(asked->key)).name("policies").begin('[');
  std::string csv =
      csv_row({"policy", "verdict", "reason", "remaining", "retry_after_ns", "reset_after_ns"});
  std::vector<std::vector<std::string>> rows = {
      {"POLICY", "VERDICT", "REASON", "REMAINING", "RETRY AFTER", "RESET AFTER"}};
  for (const PolicyHandle& handle : asked->policies) {
    const Decision next = handle.peek(asked->key, 1);
    const std::string_view verdict = verdict_text(next.verdict);
    const std::string_view reason = reason_text(next.reason);
    // A refusal does not tell what a smaller request would find.
    const uint32_t remaining = handle.peek(asked->key, 0).remaining;
    json.line().begin('{').field("policy", handle.name()).field("verdict", verdict);
    json.field("reason", reason).field("remaining", remaining);
    json.name("retry_after_ns").duration(next.retry_after_ns);
    json.name("reset_after_ns").duration(next.reset_after_ns).end('}');
    csv += csv_row({escape_key(handle.name()), verdict, reason, std::to_string(remaining),
                    ns(next.retry_after_ns), ns(next.reset_after_ns)});
    rows.push_back({escape_key(handle.name()), std::string(verdict), std::string(reason),
                    std::to_string(remaining), human_duration(next.retry_after_ns),
                    human_duration(next.reset_after_ns)});
  }
  emit(*format == Format::kJson  ? json.end(']').end('}').take() + "\n"
       : *format == Format::kCsv ? csv
                                 : table(rows, {3}));
  return finish();
}

// Keys whose whole text is known, one by one: for policies whose state is not all in the word.
int reset_each(const KeyArgs& args, const Changed& segment, const PolicyHandle& handle,
               const Options& options) {
  const absl::StatusOr<Inspector> inspector = Inspector::attach(args.name, options);
  if (!inspector.ok()) return report(inspector.status());
  uint64_t done = 0;
  uint64_t unknown = 0;
  inspector->for_each_key([&](const KeyInfo& key) {
    if (key.policy != handle.number() || key.state != SlotState::kLive) return true;
    const bool whole = key.has_name && key.name.size() == key.name_length;
    done += whole && handle.reset(key.name) ? 1 : 0;
    unknown += whole ? 0 : 1;
    return true;
  });
  segment.note(join("reset ", done, " keys of policy ", escape_text(handle.name())));
  emit(join("policy ", escape_text(handle.name()), ": ", done, " keys reset\n"));
  if (unknown != 0) {
    complain(join("reset_partial: ", unknown, " keys of policy ", escape_text(handle.name()),
                  " are longer than the text kept (name_bytes) and were left; reset them by KEY"));
  }
  return finish(unknown == 0 ? kExitOk : kExitFailure);
}

int reset_all(const KeyArgs& args) {
  if (!args.policy.has_value() || args.key.has_value() || args.key_file.has_value()) {
    return report(absl::InvalidArgumentError(
        "invalid_option: --all resets every key of one policy; give --policy and no KEY"));
  }
  const absl::StatusOr<Options> options = trusting_options(args.owner, args.group);
  if (!options.ok()) return report(options.status());
  const absl::StatusOr<Changed> segment = Changed::attach(args.name, args);
  if (!segment.ok()) return report(segment.status());
  const absl::StatusOr<PolicyHandle> handle = (*segment)->policy(*args.policy);
  if (!handle.ok()) {
    return report(with_near_policy(handle.status(), segment->limiter(), *args.policy));
  }
  const absl::Status status =
      segment->note_if((*segment)->reset_policy(*args.policy),
                       join("reset all keys of policy ", escape_text(*args.policy)));
  if (status_name(status) == "policy_change_unfit") {
    return reset_each(args, *segment, *handle, *options);
  }
  if (!status.ok()) return report(status);
  emit(join("policy ", escape_text(*args.policy), ": all keys reset\n"));
  return finish();
}

int run_reset(const KeyArgs& args) {
  if (args.all) return reset_all(args);
  const absl::StatusOr<Asked> asked = asked_of(args, false);
  if (!asked.ok()) return report(asked.status());
  for (const PolicyHandle& handle : asked->policies) {
    const bool owed = handle.reset(asked->key);
    if (owed) {
      asked->segment.note(
          join("reset key ", noted_key(asked->key), " policy ", escape_text(handle.name())));
    }
    emit(join("policy ", escape_text(handle.name()), ": ", owed ? "reset" : "owed nothing", "\n"));
  }
  return finish();
}

int run_set(const KeyArgs& args) {
  const absl::StatusOr<uint64_t> wanted =
      parse_count("--remaining", args.remaining, 0, uint64_t{1} << 31);
  if (!wanted.ok()) return report(wanted.status());
  const absl::StatusOr<Asked> asked = asked_of(args, false);
  if (!asked.ok()) return report(asked.status());
  if (asked->policies.size() != 1) {
    return report(absl::InvalidArgumentError(join("policy_needed: segment ", escape_text(args.name),
                                                  " has ", asked->policies.size(),
                                                  " policies; say which one with --policy")));
  }
  const PolicyHandle& handle = asked->policies.front();
  const uint32_t now = handle.peek(asked->key, 0).remaining;
  const auto target = static_cast<uint32_t>(*wanted);
  const bool done = target < now   ? handle.commit(asked->key, 0, now - target)
                    : target > now ? handle.refund(asked->key, target - now)
                                   : true;
  const uint32_t after = handle.peek(asked->key, 0).remaining;
  if (after != now) {
    asked->segment.note(join("set key ", noted_key(asked->key), " policy ",
                             escape_text(handle.name()), " remaining ", after, ", was ", now));
  }
  emit(join("policy ", escape_text(handle.name()), ": remaining ", after, ", was ", now, "\n"));
  // More than that may have come back meanwhile; less is what the policy can not give.
  if (done && after >= target) return finish();
  complain(join("set_partial: policy ", escape_text(handle.name()), " can not give the key ",
                target, " permits, for it is paused, overridden or of another kind; it has ",
                after));
  return finish(kExitFailure);
}

Command add_command(Command& brim, const char* name, const char* what,
                    const std::shared_ptr<KeyArgs>& args) {
  Command command = brim.add(name, what);
  command.segment(*args);
  command.option("KEY", args->key, "The key; after -- if it begins with a dash");
  command.option("--key-file", args->key_file,
                 "Read the key from this file, all its bytes; - for standard input");
  command.trust(*args);
  return command;
}

}  // namespace

void add_key_commands(Command& brim) {
  const auto get = std::make_shared<KeyArgs>();
  Command command = add_command(brim, "get", "Show what each policy would answer a key", get);
  command.option("--policy", get->policy, "Only this policy");
  command.option("--format", get->format, "table, json or csv (default table)");
  command.footer("Examples:\n  brim get api 192.0.2.7\n  brim get api alice --format json");
  command.action([get] { return run_get(*get); });

  const auto reset = std::make_shared<KeyArgs>();
  command = add_command(brim, "reset", "Forget what a key owes, and its bans", reset);
  command.option("--policy", reset->policy, "Only under this policy");
  command.flag("--all", reset->all, "Every key of the policy");
  command.footer("Examples:\n  brim reset api 192.0.2.7\n  brim reset api --policy per_ip --all");
  command.action([reset] { return run_reset(*reset); });

  const auto set = std::make_shared<KeyArgs>();
  command = add_command(brim, "set", "Give or take permits until so many remain", set);
  command.option("--remaining", set->remaining, "Permits that shall remain").required();
  command.option("--policy", set->policy, "The policy; may be left out if there is only one");
  command.footer("Examples:\n  brim set api alice --policy per_user --remaining 5");
  command.action([set] { return run_set(*set); });
}

}  // namespace brim::tools
