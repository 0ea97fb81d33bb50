// SPDX-License-Identifier: MIT
#include "doctor.h"

#include <algorithm>
#include <memory>

#include "cli.h"
#include "commands.h"
#include "output.h"

namespace brim::tools {

namespace {

struct DoctorArgs {
  std::vector<std::string> names;
  std::string root;
  std::string owner;
  std::string group;
  std::string format = "table";
};

const char* level_text(Level level) {
  switch (level) {
    case Level::kOk:
      return "ok";
    case Level::kNote:
      return "note";
    case Level::kWarning:
      return "warning";
    case Level::kError:
      return "error";
  }
  return "";
}

// What a segment that can not be attached needs.
std::string remedy_of(const absl::Status& status) {
  const std::string_view name = status_name(status);
  if (name == "segment_not_found") return "brim create";
  if (absl::IsPermissionDenied(status)) return "--owner or --group says whom to trust besides";
  if (absl::IsDataLoss(status) || exit_code_for(status) == kExitIncompatible) {
    return "brim create --recreate replaces it, with all its keys owing nothing";
  }
  return "the message says what to do";
}

void examine(const std::string& name, const Options& options, Findings& findings) {
  const absl::StatusOr<Inspector> inspector = Inspector::attach(name, options);
  absl::Status status = inspector.status();
  if (inspector.ok()) {
    examine_segment(*inspector, escape_text(name), findings);
    const absl::StatusOr<TierLook> tier = TierLook::at(name, options);
    if (tier.ok()) return examine_tier(*tier, inspector->policies(), escape_text(name), findings);
    status = tier.status();
  }
  findings.push_back({Level::kError, escape_text(name), "attach",
                      escape_text({status.message().data(), status.message().size()}),
                      remedy_of(status)});
}

std::string findings_json(const Findings& findings) {
  JsonWriter json;
  json.begin('{').field("version", 1).name("findings").begin('[');
  for (const Finding& each : findings) {
    json.line().begin('{').field("level", level_text(each.level)).field("subject", each.subject);
    json.field("check", each.check).field("found", each.found).field("remedy", each.remedy);
    json.end('}');
  }
  return json.line().end(']').end('}').take() + "\n";
}

std::string findings_csv(const Findings& findings) {
  std::string csv = csv_row({"level", "subject", "check", "found", "remedy"});
  for (const Finding& each : findings) {
    csv += csv_row({level_text(each.level), each.subject, each.check, each.found, each.remedy});
  }
  return csv;
}

std::string findings_table(const Findings& findings) {
  std::vector<std::vector<std::string>> rows = {{"LEVEL", "SUBJECT", "CHECK", "FOUND"}};
  for (const Finding& each : findings) {
    rows.push_back({level_text(each.level), each.subject, each.check, each.found});
    if (!each.remedy.empty()) rows.push_back({"", "", "", "  remedy: " + each.remedy});
  }
  return table(rows);
}

int run_doctor(const DoctorArgs& args) {
  const absl::StatusOr<Format> format = parse_format(args.format);
  if (!format.ok()) return report(format.status());
  const absl::StatusOr<Options> options = trusting_options(args.owner, args.group);
  if (!options.ok()) return report(options.status());
  Findings findings;
  examine_machine(args.root, findings);
  for (const std::string& name : args.names) examine(name, *options, findings);
  if (args.names.empty()) {
    for (const ListedSegment& segment : list_segments()) examine(segment.name, *options, findings);
  }
  emit(*format == Format::kJson  ? findings_json(findings)
       : *format == Format::kCsv ? findings_csv(findings)
                                 : findings_table(findings));
  const bool bad = std::any_of(findings.begin(), findings.end(), [](const Finding& each) {
    return each.level == Level::kWarning || each.level == Level::kError;
  });
  return finish(bad ? kExitFailure : kExitOk);
}

}  // namespace

void add_doctor_command(Command& brim) {
  const auto args = std::make_shared<DoctorArgs>();
  Command command =
      brim.add("doctor", "Examine this machine and its segments; each finding with its remedy");
  command.option("NAME", args->names, "Segments; all that can be listed if none is named");
  command.option("--root", args->root,
                 "Read /proc, /sys, /etc and /dev/shm of the machine below it");
  command.option("--format", args->format, kFormatHelp);
  command.trust(*args);
  command.footer(
      "Exit status 1 if there is a warning or an error.\n"
      "Examples:\n  brim doctor\n  brim doctor api --format json");
  command.action([args] { return run_doctor(*args); });
}

}  // namespace brim::tools
