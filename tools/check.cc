// SPDX-License-Identifier: MIT
#include "check.h"

#include <algorithm>
#include <memory>
#include <vector>

#include "brim/policy_file.h"
#include "brim/policy_report.h"
#include "cli.h"
#include "output.h"

namespace brim::tools {

namespace {

constexpr uint64_t kSlotBytes = 16;
constexpr uint64_t kConsumptionBytes = 32;  // beside each slot of a segment that shares
constexpr uint32_t kDefaultNameBytes = 48;
constexpr uint64_t kDefaultCapacity = 65536;

struct Check {
  PolicyFile file;
  std::vector<PolicyReport> reports;
  uint32_t name_bytes = 0;
  uint64_t capacity = 0;
  uint64_t slot_bytes = 0;  // of any slot of a segment for all these policies
  size_t warnings = 0;
  size_t notes = 0;
};

Check check_of(PolicyFile file) {
  Check check;
  check.file = std::move(file);
  const Options& segment = check.file.segment;
  check.name_bytes = segment.name_bytes == Options::kNoNames ? 0
                     : segment.name_bytes == 0               ? kDefaultNameBytes
                                                             : segment.name_bytes;
  check.capacity = segment.capacity == 0 ? kDefaultCapacity : segment.capacity;
  uint64_t cells = uint64_t{8} * segment.cells_per_key;
  bool shares = segment.cluster;
  for (const Policy& policy : check.file.parsed) {
    shares = shares || policy.scope != PolicyScope::kNode;
    check.reports.push_back(report_policy(policy, check.name_bytes));
    for (const RateReport& rate : check.reports.back().rates) {
      // Each slot has room for the largest log or set of leases.
      if (rate.bytes_per_key > kSlotBytes) cells = std::max(cells, rate.bytes_per_key - kSlotBytes);
    }
    for (const PolicyFinding& finding : check.reports.back().findings) {
      ++(finding.warning ? check.warnings : check.notes);
    }
  }
  check.slot_bytes = kSlotBytes + check.name_bytes + cells + (shares ? kConsumptionBytes : 0);
  return check;
}

std::string plural(uint64_t count, std::string_view what) {
  return join(count, " ", what, count == 1 ? "" : "s");
}

// "at most 120 in any 1m".
std::string worst_text(const RateReport& rate) {
  if (rate.at_once != RateReport::kUnbounded) return join("at most ", rate.at_once, " at once");
  if (rate.admitted == 0) return "nothing passes";
  if (rate.period_ns == 0) return "no limit";
  std::string text = join("at most ", rate.admitted, " in any ", rate.period);
  if (rate.started != rate.admitted) text += join(", of which ", rate.started, " start");
  if (rate.any_cost) text += ", more by c - 1 with a call of cost c";
  return text;
}

std::string together_text(const PolicyReport& report) {
  std::string text = "at most ";
  for (const RateReport& rate : report.rates) {
    const std::string part = join(rate.by_policy, " in any ", rate.period);
    if (text.find(part) == std::string::npos) text += join(text.size() > 8 ? ", " : "", part);
  }
  return text;
}

std::string policy_section(const Check& check, size_t i) {
  const PolicyReport& report = check.reports[i];
  const NamedPolicy& policy = check.file.policies[i];
  std::string out =
      heading(join("policy ", policy.name, " (line ", check.file.lines[i], "): ", report.text)) +
      "\n";
  std::vector<std::vector<std::string>> rows;
  for (const RateReport& rate : report.rates) {
    rows.push_back(
        {join("  ", rate.text), join(rate.bytes_per_key, " bytes/key"), worst_text(rate)});
  }
  const bool together = report.rates.size() > 1;
  const bool more = report.bytes_per_key != report.rates[0].bytes_per_key;
  if (together || more) {
    rows.push_back({"  in all", join(report.bytes_per_key, " bytes/key"),
                    together ? together_text(report) : ""});
  }
  // table() makes its first row a heading; here there is none.
  size_t widths[2] = {0, 0};
  for (const auto& row : rows) {
    for (int k = 0; k < 2; ++k) widths[k] = std::max(widths[k], row[static_cast<size_t>(k)].size());
  }
  for (const auto& row : rows) {
    std::string line = join(row[0], std::string(widths[0] - row[0].size() + 2, ' '),
                            std::string(widths[1] - row[1].size(), ' '), row[1], "  ", row[2]);
    line.erase(line.find_last_not_of(' ') + 1);
    out += line + "\n";
  }
  for (const PolicyFinding& finding : report.findings) {
    out +=
        join("  ", finding.warning ? "warning " : "note ", finding.name, ": ", finding.what, "\n");
  }
  return out;
}

std::string override_line(const FileOverride& entry) {
  return join("override (line ", entry.line, "): ", entry.network ? "network " : "key ",
              entry.network ? entry.match : escape_key(entry.match), " of ",
              entry.policy.empty() ? "every policy" : join("policy ", entry.policy), " uses ",
              entry.use, "\n");
}

int print_text(const Check& check) {
  std::string out;
  for (size_t i = 0; i < check.reports.size(); ++i) out += policy_section(check, i) + "\n";
  for (const FileOverride& entry : check.file.overrides) out += override_line(entry);
  if (!check.file.overrides.empty()) out += "\n";
  out += join("a segment for these: ", check.slot_bytes, " bytes for each slot, ",
              human_bytes(check.slot_bytes * check.capacity), " for ", check.capacity,
              " slots; a key has a slot for each rate, and one for bans\n", check.reports.size(),
              check.reports.size() == 1 ? " policy, " : " policies, ",
              plural(check.file.overrides.size(), "override"), ", ",
              plural(check.warnings, "warning"), ", ", plural(check.notes, "note"), "\n");
  emit(out);
  return finish();
}

void write_number(JsonWriter& json, std::string_view name, uint64_t number) {
  json.name(name);
  number == RateReport::kUnbounded ? json.null() : json.value(number);
}

void write_policy(JsonWriter& json, const Check& check, size_t i) {
  const PolicyReport& report = check.reports[i];
  json.line().begin('{').field("name", check.file.policies[i].name);
  json.field("line", check.file.lines[i]).field("policy", report.text);
  json.field("enforced_percent", static_cast<int>(check.file.parsed[i].enforced_percent));
  json.field("bytes_per_key", report.bytes_per_key).name("rates").begin('[');
  for (const RateReport& rate : report.rates) {
    json.begin('{').field("rate", rate.text).field("bytes_per_key", rate.bytes_per_key);
    json.name("period_ns");
    rate.period_ns == 0 ? json.null() : json.value(rate.period_ns);
    write_number(json, "most_admitted", rate.admitted);
    write_number(json, "most_started", rate.started);
    write_number(json, "most_by_policy", rate.by_policy);
    write_number(json, "most_at_once", rate.at_once);
    json.field("any_cost", rate.any_cost).end('}');
  }
  json.end(']').name("findings").begin('[');
  for (const PolicyFinding& finding : report.findings) {
    json.begin('{').field("severity", finding.warning ? "warning" : "note");
    json.field("name", finding.name).field("message", finding.what).end('}');
  }
  json.end(']').end('}');
}

int print_json(const Check& check, const std::string& file) {
  JsonWriter json;
  json.begin('{').field("version", 1).field("file", escape_text(file));
  json.field("slot_bytes", check.slot_bytes).field("capacity", check.capacity);
  json.field("name_bytes", check.name_bytes);
  json.field("warnings", check.warnings).field("notes", check.notes);
  json.name("policies").begin('[');
  for (size_t i = 0; i < check.reports.size(); ++i) write_policy(json, check, i);
  json.end(']').name("overrides").begin('[');
  for (const FileOverride& entry : check.file.overrides) {
    json.line().begin('{').field("line", entry.line).name("policy");
    entry.policy.empty() ? json.null() : json.value(entry.policy);
    json.name("key");
    entry.network ? json.null() : json.value(escape_key(entry.match));
    json.name("cidr");
    entry.network ? json.value(entry.match) : json.null();
    json.field("use", entry.use).end('}');
  }
  json.end(']').end('}');
  emit(json.take() + "\n");
  return finish();
}

}  // namespace

int run_check(const CheckArgs& args) {
  if (args.format != "text" && args.format != "json") {
    return report(absl::InvalidArgumentError(
        join("invalid_option: --format is '", escape_text(args.format), "'; give text or json")));
  }
  absl::StatusOr<PolicyFile> file = read_policy_file(args.file);
  if (!file.ok()) return report(file.status());
  const Check check = check_of(*std::move(file));
  const int printed = args.format == "json" ? print_json(check, args.file) : print_text(check);
  if (printed != kExitOk) return printed;
  return args.strict && check.warnings != 0 ? kExitFailure : kExitOk;
}

void describe_check(Command& command) {
  const auto args = std::make_shared<CheckArgs>();
  command.option("FILE", args->file, "TOML file with [policies]").required();
  command.option("--format", args->format, "text or json (default text)");
  command.flag("--strict", args->strict, "Exit status 1 if there are warnings");
  command.footer(
      "Examples:\n  brim check limits.toml\n  brim check --strict limits.toml && deploy\n"
      "  brim check limits.toml --format json | jq .policies[].findings");
  command.action([args] { return run_check(*args); });
}

}  // namespace brim::tools
