// SPDX-License-Identifier: MIT
#include <ctime>
#include <utility>
#include <vector>

#include "brim/inspect.h"
#include "commands.h"
#include "dump.h"
#include "output.h"
#include "tier_view.h"

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

std::vector<Fact> facts_of(const SegmentInfo& info, const TierLook& tier) {
  const auto number = [](const char* name, uint64_t value) {
    return Fact{name, std::to_string(value), std::to_string(value), false};
  };
  const auto text = [](const char* name, std::string_view value) {
    return Fact{name, escape_text(value), std::string(value), true};
  };
  std::vector<Fact> facts = {text("path", info.path), text("uuid", info.uuid)};
  facts.push_back({"linked", info.linked ? "yes" : "no: the name was removed or taken over",
                   info.linked ? "true" : "false", false});
  facts.push_back({"paused", info.paused ? "PAUSED: nothing is limited; brim resume" : "no",
                   info.paused ? "true" : "false", false});
  facts.push_back({"size_bytes", join(human_bytes(info.size_bytes), " (", info.size_bytes, ")"),
                   std::to_string(info.size_bytes), false, "size"});
  facts.push_back(number("layout_version", info.layout_version));
  facts.push_back(number("capacity", info.capacity));
  facts.push_back(number("slots", info.slots));
  facts.push_back(number("generation", info.generation));
  facts.push_back(number("probe_limit", info.probe_limit));
  facts.push_back(number("groups_in_use", info.groups_in_use));
  facts.push_back(number("name_bytes", info.name_bytes));
  facts.push_back(number("max_policies", info.max_policies));
  facts.push_back({"cluster", tier.status().kept ? join("yes: ", tier.words()) : "no",
                   tier.status().kept ? "true" : "false", false});
  facts.push_back(text("hash", hash_text(info.hash)));
  facts.push_back(text("on_full", on_full_text(info.on_full)));
  facts.push_back(text("mode", human_mode(info.mode)));
  facts.push_back(number("owner_uid", info.owner_uid));
  facts.push_back(number("group_gid", info.group_gid));
  facts.push_back(number("creator_pid", info.creator_pid));
  facts.push_back({"created_wall_ns", utc_time(info.created_wall_ns),
                   std::to_string(info.created_wall_ns), false, "created"});
  const bool taken = info.snapshot_generation != 0;
  facts.push_back({"snapshot_generation", taken ? join(info.snapshot_generation) : "none",
                   std::to_string(info.snapshot_generation), false, "snapshot"});
  if (taken) {
    facts.push_back({"snapshot_age_ns", human_duration(info.snapshot_age_ns),
                     std::to_string(info.snapshot_age_ns), false, "snapshot_age"});
    facts.push_back({"snapshot_duration_ns", human_duration(info.snapshot_duration_ns),
                     std::to_string(info.snapshot_duration_ns), false, "snapshot_duration"});
    facts.push_back(number("snapshot_rows", info.snapshot_rows));
  }
  if (taken || info.snapshot_failures != 0) {
    facts.push_back(number("snapshot_failures", info.snapshot_failures));
  }
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
    json.field("text", info.text);
    if (info.policy.rates.size() == 1) {
      const Rate& rate = info.policy.rates.front();
      json.field("limit", rate.limit).field("period_ns", rate.period_ns);
      json.field("burst", rate.burst);
    }
    json.name("rates").begin('[');
    for (const Rate& rate : info.policy.rates) {
      json.begin('{').field("limit", rate.limit).field("period_ns", rate.period_ns);
      json.field("burst", rate.burst).end('}');
    }
    json.end(']').field("factor_ppm", info.factor_ppm);
    json.field("scope", scope_text(info.policy.scope));
    json.field("on_unavailable",
               info.policy.on_unavailable == OnUnavailable::kAllow ? "allow" : "deny");
    json.name("counters").begin('{');
    for (const Counter& counter : info.counters) json.field(counter.name, counter.value);
    json.end('}').end('}');
  }
  json.line().end(']');
}

void json_attached(JsonWriter& json, const std::vector<AttachedInfo>& attached) {
  json.line().name("attached").begin('[');
  for (const AttachedInfo& process : attached) {
    json.line().begin('{').field("pid", process.pid);
    json.field("attached_for_ns", process.attached_for_ns);
    json.field("same_namespace", process.same_namespace).name("alive");
    process.same_namespace ? json.value(process.alive) : json.null();
    json.end('}');
  }
  json.line().end(']');
}

JsonWriter json_of(const std::string& name) {
  JsonWriter json;
  json.begin('{').field("version", 1).field("segment", name);
  return json;
}

// Four columns for everything: what it belongs to, whose it is, its name, its value.
std::string info_csv(const Inspector& inspector, const TierLook& tier) {
  std::string out = csv_row({"part", "item", "field", "value"});
  for (const Fact& fact : facts_of(inspector.info(), tier)) {
    out += csv_row({"segment", "", fact.name, escape_text(fact.raw)});
  }
  for (const auto& [state, count] : numbers_of(inspector.occupancy())) {
    out += csv_row({"occupancy", "", state, std::to_string(count)});
  }
  for (const PolicyInfo& policy : inspector.policies()) {
    const std::string name = escape_text(policy.name);
    out += csv_row({"policy", name, "text", escape_text(policy.text)});
    out += csv_row({"policy", name, "factor_ppm", std::to_string(policy.factor_ppm)});
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

std::string info_table(const Inspector& inspector, const TierLook& tier) {
  std::vector<std::vector<std::string>> rows = {{"SEGMENT", ""}};
  for (const Fact& fact : facts_of(inspector.info(), tier)) {
    rows.push_back({fact.label != nullptr ? fact.label : fact.name, fact.human});
  }
  std::string out = table(rows);
  rows = {{"OCCUPANCY", "SLOTS"}};
  for (const auto& [state, count] : numbers_of(inspector.occupancy())) {
    rows.push_back({state, std::to_string(count)});
  }
  out += "\n" + table(rows, {1});
  rows = {{"POLICY", "ALLOWED", "DENIED", "UNAVAILABLE", "EVICTED", "REFUNDED", "SHADOW", "BARRED",
           "EXEMPT", "PAUSED", "TEXT"}};
  for (const PolicyInfo& policy : inspector.policies()) {
    std::vector<std::string> row = {escape_text(policy.name)};
    for (const Counter& counter : policy.counters) row.push_back(std::to_string(counter.value));
    row.resize(rows.front().size() - 1);
    row.push_back(escape_text(policy.text));
    if (policy.factor_ppm != 1000000) row.back() += join(" at ", percent_text(policy.factor_ppm));
    rows.push_back(std::move(row));
  }
  out += "\n" + table(rows, {1, 2, 3, 4, 5, 6, 7, 8, 9});
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

}  // namespace

std::string info_json(const std::string& name, const Inspector& inspector, const TierLook& tier) {
  JsonWriter json = json_of(name);
  for (const Fact& fact : facts_of(inspector.info(), tier)) {
    json.line().name(fact.name);
    fact.quoted ? json.value(fact.raw) : json.literal(fact.raw);
  }
  json.line().name("tier");
  write_tier(json, tier);
  json.line().name("occupancy").begin('{');
  for (const auto& [state, count] : numbers_of(inspector.occupancy())) json.field(state, count);
  json.end('}');
  json_policies(json, inspector.policies());
  json.line().name("counters").begin('[');
  for (const Counter& counter : inspector.counters()) {
    json.line().begin('{').field("name", counter.name).field("value", counter.value);
    json.field("description", counter.description).end('}');
  }
  json.line().end(']');
  json_attached(json, inspector.attached());
  return json.line().end('}').take() + "\n";
}

std::string policies_json(const std::string& name, const Inspector& inspector) {
  JsonWriter json = json_of(name);
  json_policies(json, inspector.policies());
  return json.line().end('}').take() + "\n";
}

std::string attached_json(const std::string& name, const Inspector& inspector) {
  JsonWriter json = json_of(name);
  json_attached(json, inspector.attached());
  return json.line().end('}').take() + "\n";
}

int run_info(const InfoArgs& args) {
  const absl::StatusOr<Format> format = parse_format(args.format);
  if (!format.ok()) return report(format.status());
  const absl::StatusOr<Options> options = trusting_options(args.owner, args.group);
  if (!options.ok()) return report(options.status());
  const absl::StatusOr<Inspector> inspector = Inspector::attach(args.name, *options);
  if (!inspector.ok()) return report(inspector.status());
  const absl::StatusOr<TierLook> tier = TierLook::at(args.name, *options);
  if (!tier.ok()) return report(tier.status());
  emit(*format == Format::kJson  ? info_json(args.name, *inspector, *tier)
       : *format == Format::kCsv ? info_csv(*inspector, *tier)
                                 : info_table(*inspector, *tier));
  return finish();
}

}  // namespace brim::tools
