// SPDX-License-Identifier: MIT
#include "override.h"

#include <memory>
#include <optional>

#include "cli.h"
#include "commands.h"
#include "output.h"
#include "snapshot.h"

namespace brim::tools {

namespace {

struct OverrideArgs : Trust {
  std::string name;
  std::string policy;
  std::optional<std::string> key;
  std::optional<std::string> key_file;
  std::optional<std::string> network;
  std::string use;
};

// The key or the network that a command is about.
struct Match {
  std::string text;
  bool network = false;
};

template <class Args>
absl::StatusOr<Match> match_of(const Args& args) {
  const int given =
      int{args.key.has_value()} + int{args.key_file.has_value()} + int{args.network.has_value()};
  if (given != 1) {
    return absl::InvalidArgumentError(
        "key_needed: give KEY, or --key-file with a file that holds it, or --network NETWORK, and "
        "one of them only");
  }
  if (args.network.has_value()) return Match{*args.network, true};
  absl::StatusOr<std::string> key =
      args.key.has_value() ? absl::StatusOr<std::string>(*args.key) : read_key(*args.key_file);
  if (!key.ok()) return key.status();
  return Match{*std::move(key), false};
}

std::string matched(const Match& match) {
  return join(match.network ? "network " : "key ", noted_key(match.text));
}

int run_set(const OverrideArgs& args) {
  const absl::StatusOr<Match> match = match_of(args);
  if (!match.ok()) return report(match.status());
  const absl::StatusOr<Changed> segment = Changed::attach(args.name, args);
  if (!segment.ok()) return report(segment.status());
  const absl::Status status = segment->note_if(
      match->network ? (*segment)->set_network_override(args.policy, match->text, args.use)
                     : (*segment)->set_override(args.policy, match->text, args.use),
      override_note(args.policy, match->text, match->network, args.use), args.policy);
  // It may be the other name that is wrong.
  if (!status.ok()) return report(with_near_policy(status, segment->limiter(), args.use));
  emit(join("policy ", escape_text(args.policy), ": ", escape_text(match->text), " uses ",
            escape_text(args.use), "\n"));
  return finish();
}

int run_remove(const OverrideArgs& args) {
  const absl::StatusOr<Match> match = match_of(args);
  if (!match.ok()) return report(match.status());
  const absl::StatusOr<Changed> segment = Changed::attach(args.name, args);
  if (!segment.ok()) return report(segment.status());
  const absl::Status status = segment->note_if(
      match->network ? (*segment)->clear_network_override(args.policy, match->text)
                     : (*segment)->clear_override(args.policy, match->text),
      join("remove override ", matched(*match), " policy ", escape_text(args.policy)), args.policy);
  if (!status.ok()) return report(status);
  emit(join("policy ", escape_text(args.policy), ": ", escape_text(match->text),
            " follows the policy again\n"));
  return finish();
}

struct ListArgs : Trust {
  std::string name;
  std::optional<std::string> policy;
  std::string format = "table";
};

std::string shown_key(const OverrideInfo& entry) {
  if (!entry.has_key) return "(not known)";
  const std::string text = entry.key.empty() ? "\"\"" : escape_key(entry.key);
  return entry.key.size() < entry.key_length ? text + "..." : text;
}

int run_list(const ListArgs& args) {
  const absl::StatusOr<Format> format = parse_format(args.format);
  if (!format.ok()) return report(format.status());
  const absl::StatusOr<std::vector<OverrideInfo>> list = overrides_of(args.name, args);
  if (!list.ok()) return report(list.status());
  if (args.policy.has_value() && *args.policy != "*") {  // a wrong name is no empty list
    const absl::StatusOr<Options> options = trusting_options(args.owner, args.group);
    if (!options.ok()) return report(options.status());
    const absl::StatusOr<Limiter> limiter = Limiter::attach_read_only(args.name, *options);
    if (!limiter.ok()) return report(limiter.status());
    const absl::Status known = limiter->policy(*args.policy).status();
    if (!known.ok()) return report(with_near_policy(known, *limiter, *args.policy));
  }
  JsonWriter json;
  json.begin('{').field("version", 1).field("segment", args.name).name("overrides").begin('[');
  std::string csv = csv_row({"policy", "kind", "key", "use", "ban", "ends_in_ns"});
  std::vector<std::vector<std::string>> rows = {{"POLICY", "KIND", "KEY", "USE", "ENDS IN"}};
  for (const OverrideInfo& entry : *list) {
    if (args.policy.has_value() && entry.policy != *args.policy) continue;
    const std::string key = shown_key(entry);
    const std::string use = escape_text(entry.use);
    const std::string kind = entry.network ? "network" : "key";
    json.line().begin('{').field("policy", entry.policy).field("network", entry.network);
    json.name("key");
    entry.has_key ? json.value(key) : json.null();
    json.name("key_base64");
    entry.has_key ? json.value(base64(entry.key)) : json.null();
    json.field("key_length", entry.key_length).field("use", use).field("ban", entry.ban);
    json.name("ends_in_ns").duration(entry.ends_in_ns).end('}');
    csv += csv_row({escape_text(entry.policy), kind, key, use, entry.ban ? "1" : "0",
                    entry.ends_in_ns == kNever ? "" : join(entry.ends_in_ns)});
    rows.push_back({escape_text(entry.policy), kind, key, use, human_duration(entry.ends_in_ns)});
  }
  emit(*format == Format::kJson  ? json.line().end(']').end('}').take() + "\n"
       : *format == Format::kCsv ? csv
                                 : table(rows));
  return finish();
}

struct BanArgs : Trust {
  std::string name;
  std::optional<std::string> key;
  std::optional<std::string> key_file;
  std::optional<std::string> network;
  std::optional<std::string> policy;
  std::optional<std::string> span;
};

int run_ban(const BanArgs& args) {
  const absl::StatusOr<Match> match = match_of(args);
  if (!match.ok()) return report(match.status());
  absl::StatusOr<int64_t> span = kNever;
  if (args.span.has_value()) span = parse_duration("--for", *args.span, 1000000);
  if (!span.ok()) return report(span.status());
  const std::string policy = args.policy.value_or("*");
  const absl::StatusOr<Changed> segment = Changed::attach(args.name, args);
  if (!segment.ok()) return report(segment.status());
  const std::string how_long =
      *span == kNever ? " until it is unbanned" : " for " + human_duration(*span);
  const absl::Status status = segment->note_if(
      match->network ? (*segment)->ban_network(policy, match->text, *span)
                     : (*segment)->ban(policy, match->text, *span),
      join("ban ", matched(*match), " policy ", escape_text(policy), how_long), policy);
  if (!status.ok()) return report(status);
  emit(join("policy ", escape_text(policy), ": ", escape_text(match->text), " is banned", how_long,
            "\n"));
  return finish();
}

// Under every policy if none is named: whoever banned the key is not asked.
int run_unban(const BanArgs& args) {
  const absl::StatusOr<Match> match = match_of(args);
  if (!match.ok()) return report(match.status());
  const absl::StatusOr<Changed> segment = Changed::attach(args.name, args);
  if (!segment.ok()) return report(segment.status());
  std::vector<std::string> policies = {args.policy.value_or("*")};
  if (!args.policy.has_value()) {
    for (const std::string& name : (*segment)->policy_names()) policies.push_back(name);
  }
  absl::Status missing;
  bool any = false;
  for (const std::string& policy : policies) {
    const absl::Status status =
        segment->note_if(match->network ? (*segment)->unban_network(policy, match->text)
                                        : (*segment)->unban(policy, match->text),
                         join("unban ", matched(*match), " policy ", escape_text(policy)), policy);
    if (status_name(status) == "ban_not_found") {
      if (missing.ok()) missing = status;
    } else if (!status.ok()) {
      return report(status);
    } else {
      any = true;
      emit(join("policy ", escape_text(policy), ": ", escape_text(match->text),
                " is banned no more\n"));
    }
  }
  return any ? finish() : report(missing);
}

template <class Args>
void add_match(Command& command, const std::shared_ptr<Args>& args) {
  command.key(*args);
  command.option("--network", args->network,
                 "Instead of a key: all that are addresses in it, 10.0.0.0/8");
}

void add_override(Command& brim) {
  Command all =
      brim.add("override", "Let a key or a network follow another policy, or none, or be refused");
  const auto set = std::make_shared<OverrideArgs>();
  Command command = all.add("set", "Set the override of a key or a network");
  command.segment(*set);
  command.option("POLICY", set->policy, "Whose requests; '*' for every policy's").required();
  add_match(command, set);
  command.option("--use", set->use, "A policy of the segment, unlimited, or deny").required();
  command.trust(*set);
  command.footer(
      "Examples:\n"
      "  brim override set api per_ip --network 10.0.0.0/8 --use unlimited\n"
      "  brim override set api '*' mallory --use deny");
  command.action([set] { return run_set(*set); });

  const auto list = std::make_shared<ListArgs>();
  command = all.add("list", "List overrides, and bans made by hand");
  command.segment(*list);
  command.option("--policy", list->policy, "Only those of this policy; '*': those of all");
  command.option("--format", list->format, kFormatHelp);
  command.trust(*list);
  command.footer("Examples:\n  brim override list api\n  brim override list api --format json");
  command.action([list] { return run_list(*list); });

  const auto remove = std::make_shared<OverrideArgs>();
  command = all.add("rm", "Remove the override of a key or a network");
  command.segment(*remove);
  command.option("POLICY", remove->policy, "Whose requests; '*' for every policy's").required();
  add_match(command, remove);
  command.trust(*remove);
  command.footer("Examples:\n  brim override rm api '*' mallory");
  command.action([remove] { return run_remove(*remove); });
}

void add_bans(Command& brim) {
  const auto ban = std::make_shared<BanArgs>();
  Command command = brim.add("ban", "Bar a key or a network, for some time or until unban");
  command.segment(*ban);
  add_match(command, ban);
  command.option("--policy", ban->policy, "Only under this policy (default: all)");
  command.option("--for", ban->span, "How long, such as 10m or 24h (default: until unban)");
  command.trust(*ban);
  command.footer(
      "Examples:\n"
      "  brim ban api 192.0.2.7 --for 10m\n"
      "  brim ban api --network 198.51.100.0/24 --policy per_ip");
  command.action([ban] { return run_ban(*ban); });

  const auto unban = std::make_shared<BanArgs>();
  command = brim.add("unban", "End a ban, whether `ban` or a policy made it");
  command.segment(*unban);
  add_match(command, unban);
  command.option("--policy", unban->policy, "Only under this policy (default: all)");
  command.trust(*unban);
  command.footer("Examples:\n  brim unban api 192.0.2.7");
  command.action([unban] { return run_unban(*unban); });
}

}  // namespace

absl::StatusOr<std::vector<OverrideInfo>> overrides_of(const std::string& name,
                                                       const Trust& trust) {
  const absl::StatusOr<Options> options = trusting_options(trust.owner, trust.group);
  if (!options.ok()) return options.status();
  const absl::StatusOr<Inspector> inspector = Inspector::attach(name, *options);
  if (!inspector.ok()) return inspector.status();
  return inspector->overrides();
}

const OverrideInfo* find_override(const std::vector<OverrideInfo>& list, std::string_view policy,
                                  std::string_view match, bool network) {
  for (const OverrideInfo& each : list) {
    const bool whole = each.has_key && each.key.size() == each.key_length;
    if (whole && each.policy == policy && each.network == network && each.key == match) {
      return &each;
    }
  }
  return nullptr;
}

std::string override_note(std::string_view policy, std::string_view match, bool network,
                          std::string_view use) {
  return join("override ", network ? "network " : "key ", noted_key(match), " policy ",
              escape_text(policy), " uses ", escape_text(use));
}

void add_override_commands(Command& brim) {
  add_override(brim);
  add_bans(brim);
}

}  // namespace brim::tools
