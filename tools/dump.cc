// SPDX-License-Identifier: MIT
#include "dump.h"

#include <ctime>
#include <map>
#include <utility>
#include <vector>

#include "brim/inspect.h"
#include "commands.h"
#include "output.h"

namespace brim::tools {

namespace {

std::string_view hash_text(HashKind hash) {
  return hash == HashKind::kSipHash ? "siphash" : hash == HashKind::kXxh3 ? "xxh3" : "unknown";
}

std::string_view on_full_text(OnFull on_full) {
  switch (on_full) {
    case OnFull::kEvictLeast:
      return "evict";
    case OnFull::kAllow:
      return "allow";
    case OnFull::kDeny:
      return "deny";
    case OnFull::kDefault:
      break;
  }
  return "unknown";
}

std::string_view state_text(SlotState state) {
  return state == SlotState::kLive ? "live" : state == SlotState::kIdle ? "idle" : "tentative";
}

std::string utc_time(int64_t wall_ns) {
  const auto seconds = static_cast<time_t>(wall_ns / 1'000'000'000);
  struct tm parts {};
  char text[32] = "";
  if (gmtime_r(&seconds, &parts) == nullptr) return "unknown";
  std::strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", &parts);
  return text;
}

// One fact of the segment: as a person reads it and as a program does. Numbers are bare.
struct Fact {
  const char* name;
  std::string human;
  std::string raw;
  bool quoted;
  const char* label = nullptr;  // for a person, if not the name
};

std::vector<Fact> facts_of(const SegmentInfo& info) {
  const auto number = [](const char* name, uint64_t value) {
    return Fact{name, std::to_string(value), std::to_string(value), false};
  };
  const auto text = [](const char* name, std::string_view value) {
    return Fact{name, escape_text(value), std::string(value), true};
  };
  std::vector<Fact> facts = {text("path", info.path), text("uuid", info.uuid)};
  facts.push_back({"linked", info.linked ? "yes" : "no: the name was removed or taken over",
                   info.linked ? "true" : "false", false});
  facts.push_back({"size_bytes", join(human_bytes(info.size_bytes), " (", info.size_bytes, ")"),
                   std::to_string(info.size_bytes), false, "size"});
  facts.push_back(number("layout_version", info.layout_version));
  facts.push_back(number("capacity", info.capacity));
  facts.push_back(number("slots", info.slots));
  facts.push_back(number("probe_limit", info.probe_limit));
  facts.push_back(number("groups_in_use", info.groups_in_use));
  facts.push_back(number("name_bytes", info.name_bytes));
  facts.push_back(number("max_policies", info.max_policies));
  facts.push_back(text("hash", hash_text(info.hash)));
  facts.push_back(text("on_full", on_full_text(info.on_full)));
  facts.push_back(text("mode", human_mode(info.mode)));
  facts.push_back(number("owner_uid", info.owner_uid));
  facts.push_back(number("group_gid", info.group_gid));
  facts.push_back(number("creator_pid", info.creator_pid));
  facts.push_back({"created_wall_ns", utc_time(info.created_wall_ns),
                   std::to_string(info.created_wall_ns), false, "created"});
  return facts;
}

using Numbers = std::vector<std::pair<const char*, uint64_t>>;

Numbers numbers_of(const Occupancy& count) {
  return {{"virgin", count.virgin},
          {"free", count.free},
          {"live", count.live},
          {"idle", count.idle},
          {"tentative", count.tentative}};
}

void json_policies(JsonWriter& json, const std::vector<PolicyInfo>& policies) {
  json.line().name("policies").begin('[');
  for (const PolicyInfo& info : policies) {
    json.line().begin('{').field("name", info.name).field("number", info.number);
    json.field("text", info.text).field("limit", info.policy.limit);
    json.field("period_ns", info.policy.period_ns).field("burst", info.policy.burst);
    json.field("on_unavailable",
               info.policy.on_unavailable == OnUnavailable::kAllow ? "allow" : "deny");
    json.name("counters").begin('{');
    for (const Counter& counter : info.counters) json.field(counter.name, counter.value);
    json.end('}').end('}');
  }
  json.line().end(']');
}

std::string info_json(const std::string& name, const Inspector& inspector) {
  JsonWriter json;
  json.begin('{').field("version", 1).field("segment", name);
  for (const Fact& fact : facts_of(inspector.info())) {
    json.line().name(fact.name);
    fact.quoted ? json.value(fact.raw) : json.literal(fact.raw);
  }
  json.line().name("occupancy").begin('{');
  for (const auto& [state, count] : numbers_of(inspector.occupancy())) json.field(state, count);
  json.end('}');
  json_policies(json, inspector.policies());
  json.line().name("counters").begin('[');
  for (const Counter& counter : inspector.counters()) {
    json.line().begin('{').field("name", counter.name).field("value", counter.value);
    json.field("description", counter.description).end('}');
  }
  json.line().end(']').line().name("attached").begin('[');
  for (const AttachedInfo& process : inspector.attached()) {
    json.line().begin('{').field("pid", process.pid);
    json.field("attached_for_ns", process.attached_for_ns);
    json.field("same_namespace", process.same_namespace).name("alive");
    process.same_namespace ? json.value(process.alive) : json.null();
    json.end('}');
  }
  return json.line().end(']').line().end('}').take() + "\n";
}

// Four columns for everything: what it belongs to, whose it is, its name, its value.
std::string info_csv(const Inspector& inspector) {
  std::string out = csv_row({"part", "item", "field", "value"});
  for (const Fact& fact : facts_of(inspector.info())) {
    out += csv_row({"segment", "", fact.name, escape_text(fact.raw)});
  }
  for (const auto& [state, count] : numbers_of(inspector.occupancy())) {
    out += csv_row({"occupancy", "", state, std::to_string(count)});
  }
  for (const PolicyInfo& policy : inspector.policies()) {
    const std::string name = escape_text(policy.name);
    out += csv_row({"policy", name, "text", escape_text(policy.text)});
    for (const Counter& counter : policy.counters) {
      out += csv_row({"policy", name, counter.name, std::to_string(counter.value)});
    }
  }
  for (const Counter& counter : inspector.counters()) {
    out += csv_row({"counter", "", counter.name, std::to_string(counter.value)});
  }
  for (const AttachedInfo& process : inspector.attached()) {
    out += csv_row({"attached", std::to_string(process.pid), "attached_for_ns",
                    std::to_string(process.attached_for_ns)});
  }
  return out;
}

std::string info_table(const Inspector& inspector) {
  std::vector<std::vector<std::string>> rows = {{"SEGMENT", ""}};
  for (const Fact& fact : facts_of(inspector.info())) {
    rows.push_back({fact.label != nullptr ? fact.label : fact.name, fact.human});
  }
  std::string out = table(rows);
  rows = {{"OCCUPANCY", "SLOTS"}};
  for (const auto& [state, count] : numbers_of(inspector.occupancy())) {
    rows.push_back({state, std::to_string(count)});
  }
  out += "\n" + table(rows, {1});
  rows = {{"POLICY", "ALLOWED", "DENIED", "UNAVAILABLE", "EVICTED", "REFUNDED", "TEXT"}};
  for (const PolicyInfo& policy : inspector.policies()) {
    std::vector<std::string> row = {escape_text(policy.name)};
    for (const Counter& counter : policy.counters) row.push_back(std::to_string(counter.value));
    row.resize(rows.front().size() - 1);
    row.push_back(escape_text(policy.text));
    rows.push_back(std::move(row));
  }
  out += "\n" + table(rows, {1, 2, 3, 4, 5});
  rows = {{"COUNTER", "VALUE", "MEANING"}};
  for (const Counter& counter : inspector.counters()) {
    rows.push_back({counter.name, std::to_string(counter.value), counter.description});
  }
  out += "\n" + table(rows, {1});
  rows = {{"ATTACHED PID", "SINCE", "STATE"}};
  for (const AttachedInfo& process : inspector.attached()) {
    rows.push_back({std::to_string(process.pid), human_duration(process.attached_for_ns),
                    !process.same_namespace ? "in another pid namespace"
                    : process.alive         ? "alive"
                                            : "dead"});
  }
  return out + "\n" + table(rows, {0, 1});
}

// What a key's row needs of its policy.
struct PolicyColumns {
  std::string name;
  uint32_t limit = 0;
  uint32_t burst = 0;
};

struct DumpFilter {
  std::optional<uint16_t> policy;
  std::optional<SlotState> state;
  uint64_t limit = UINT64_MAX;
};

class Dumper {
 public:
  Dumper(Format format, DumpFilter filter, const std::vector<PolicyInfo>& policies)
      : format_(format), filter_(filter) {
    for (const PolicyInfo& info : policies) {
      policies_[info.number] = {info.name, info.policy.limit, info.policy.burst};
    }
  }

  void begin(const std::string& segment) {
    switch (format_) {
      case Format::kTable:
        emit(heading("POLICY            STATE       REMAINING       RESET  KEY") + "\n");
        break;
      case Format::kCsv:
        emit(csv_row({"policy", "key", "key_length", "key_cut", "fingerprint", "state", "remaining",
                      "reset_after_ns", "limit", "burst"}));
        break;
      case Format::kJson:
        json_.begin('{').field("version", 1).field("segment", segment).name("keys").begin('[');
        break;
    }
  }

  // False once no more keys are wanted.
  bool visit(const KeyInfo& key) {
    if (filter_.state.has_value() && key.state != *filter_.state) return true;
    if (filter_.policy.has_value() && key.policy != *filter_.policy) return true;
    if (count_ == filter_.limit) {
      more_ = true;
      return false;
    }
    ++count_;
    const auto found = policies_.find(key.policy);
    const PolicyColumns* const policy = found == policies_.end() ? nullptr : &found->second;
    switch (format_) {
      case Format::kTable:
        return emit(table_row(key, policy));
      case Format::kCsv:
        return emit(csv(key, policy));
      case Format::kJson:
        break;
    }
    return emit(json(key, policy));
  }

  int end() {
    if (format_ == Format::kJson) {
      json_.line().end(']').field("count", count_).field("more", more_);
      emit(json_.end('}').take() + "\n");
    }
    const int code = finish();
    if (more_) complain(join("stopped at --limit ", count_, "; there are more keys"));
    return code;
  }

 private:
  static std::string fingerprint(const KeyInfo& key) { return hex_digits(key.fingerprint, 13); }
  static bool cut(const KeyInfo& key) { return key.has_name && key.name_length > key.name.size(); }

  // A key that itself begins with # must not pass for a fingerprint.
  static std::string key_text(const KeyInfo& key) {
    if (!key.has_name) return "#" + fingerprint(key);
    std::string text = escape_key(key.name);
    if (!text.empty() && text.front() == '#') text.replace(0, 1, "%23");
    return text;
  }

  static std::string policy_text(const KeyInfo& key, const PolicyColumns* policy) {
    return policy == nullptr ? join("#", key.policy) : escape_key(policy->name);
  }

  static std::string table_row(const KeyInfo& key, const PolicyColumns* policy) {
    const auto pad = [](const std::string& text, size_t width) {
      return std::string(text.size() < width ? width - text.size() : 0, ' ');
    };
    const std::string name = policy_text(key, policy);
    const std::string state(state_text(key.state));
    const bool known = key.state != SlotState::kTentative;
    const std::string remaining = known ? std::to_string(key.decision.remaining) : "-";
    const std::string reset = known ? human_duration(key.decision.reset_after_ns) : "-";
    std::string text = key_text(key);
    if (text.empty()) text = "\"\"";
    if (cut(key)) text += join(" (first ", key.name.size(), " of ", key.name_length, " bytes)");
    return join(name, pad(name, 16), "  ", state, pad(state, 9), pad(remaining, 11), " ", remaining,
                pad(reset, 11), " ", reset, "  ", text, "\n");
  }

  static std::string csv(const KeyInfo& key, const PolicyColumns* policy) {
    const bool known = key.state != SlotState::kTentative;
    return csv_row({policy_text(key, policy), key_text(key),
                    key.has_name ? std::to_string(key.name_length) : "",
                    cut(key) ? "true" : "false", fingerprint(key), state_text(key.state),
                    known ? std::to_string(key.decision.remaining) : "",
                    known ? std::to_string(key.decision.reset_after_ns) : "",
                    policy == nullptr ? "" : std::to_string(policy->limit),
                    policy == nullptr ? "" : std::to_string(policy->burst)});
  }

  std::string json(const KeyInfo& key, const PolicyColumns* policy) {
    json_.line().begin('{').field("policy", policy_text(key, policy)).name("key");
    key.has_name ? json_.value(escape_key(key.name)) : json_.null();
    json_.name("key_base64");
    key.has_name ? json_.value(base64(key.name)) : json_.null();
    json_.name("key_length");
    key.has_name ? json_.value(key.name_length) : json_.null();
    json_.field("key_cut", cut(key)).field("fingerprint", fingerprint(key));
    json_.field("state", state_text(key.state));
    if (key.state != SlotState::kTentative) {
      json_.field("remaining", key.decision.remaining);
      json_.name("reset_after_ns").duration(key.decision.reset_after_ns);
    }
    if (policy != nullptr) json_.field("limit", policy->limit).field("burst", policy->burst);
    return json_.end('}').take();
  }

  Format format_;
  DumpFilter filter_;
  std::map<uint16_t, PolicyColumns> policies_;
  JsonWriter json_;
  uint64_t count_ = 0;
  bool more_ = false;
};

absl::StatusOr<DumpFilter> dump_filter(const DumpArgs& args) {
  DumpFilter filter;
  if (args.state == "live") {
    filter.state = SlotState::kLive;
  } else if (args.state == "idle") {
    filter.state = SlotState::kIdle;
  } else if (args.state != "all") {
    return absl::InvalidArgumentError(
        join("invalid_option: --state is '", escape_text(args.state), "'; give live, idle or all"));
  }
  if (args.limit.has_value()) {
    const absl::StatusOr<uint64_t> limit = parse_count("--limit", *args.limit, 0, UINT64_MAX - 1);
    if (!limit.ok()) return limit.status();
    filter.limit = *limit;
  }
  return filter;
}

absl::StatusOr<uint16_t> policy_number(const std::string& name,
                                       const std::vector<PolicyInfo>& policies) {
  std::string known;
  for (const PolicyInfo& info : policies) {
    if (info.name == name) return info.number;
    known += join(known.empty() ? "" : ", ", info.name);
  }
  return absl::NotFoundError(join("policy_not_found: there is no policy '", escape_text(name),
                                  "'; the segment has: ", known.empty() ? "none" : known));
}

}  // namespace

int run_info(const InfoArgs& args) {
  const absl::StatusOr<Format> format = parse_format(args.format);
  if (!format.ok()) return report(format.status());
  const absl::StatusOr<Options> options = trusting_options(args.owner, args.group);
  if (!options.ok()) return report(options.status());
  const absl::StatusOr<Inspector> inspector = Inspector::attach(args.name, *options);
  if (!inspector.ok()) return report(inspector.status());
  emit(*format == Format::kJson  ? info_json(args.name, *inspector)
       : *format == Format::kCsv ? info_csv(*inspector)
                                 : info_table(*inspector));
  return finish();
}

int run_dump(const DumpArgs& args) {
  const absl::StatusOr<Format> format = parse_format(args.format);
  if (!format.ok()) return report(format.status());
  absl::StatusOr<DumpFilter> filter = dump_filter(args);
  if (!filter.ok()) return report(filter.status());
  const absl::StatusOr<Options> options = trusting_options(args.owner, args.group);
  if (!options.ok()) return report(options.status());
  const absl::StatusOr<Inspector> inspector = Inspector::attach(args.name, *options);
  if (!inspector.ok()) return report(inspector.status());
  const std::vector<PolicyInfo> policies = inspector->policies();
  if (args.policy.has_value()) {
    const absl::StatusOr<uint16_t> number = policy_number(*args.policy, policies);
    if (!number.ok()) return report(number.status());
    filter->policy = *number;
  }
  Dumper dumper(*format, *filter, policies);
  dumper.begin(args.name);
  inspector->for_each_key([&dumper](const KeyInfo& key) { return dumper.visit(key); });
  return dumper.end();
}

}  // namespace brim::tools
