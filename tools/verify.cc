// SPDX-License-Identifier: MIT
#include "verify.h"

#include <algorithm>
#include <map>
#include <memory>

#include "audit.h"
#include "brim/verify.h"
#include "cli.h"
#include "commands.h"
#include "output.h"

namespace brim::tools {

namespace {

std::string_view severity_text(Severity severity) {
  return severity == Severity::kError     ? "error"
         : severity == Severity::kWarning ? "warning"
                                          : "note";
}

// Prints findings as they come; the remedies of a table follow at the end, each once.
class FindingPrinter {
 public:
  FindingPrinter(Format format, uint64_t limit) : format_(format), limit_(limit) {}

  void begin(const std::string& segment) {
    if (format_ == Format::kCsv) {
      emit(csv_row({"severity", "finding", "slot", "policy", "part", "key", "fingerprint", "value",
                    "repaired"}));
    } else if (format_ == Format::kJson) {
      json_.begin('{').field("version", 1).field("segment", segment).name("findings").begin('[');
    }
  }

  void visit(const Finding& finding) {
    ++seen_;
    if (seen_ > limit_) return;
    switch (format_) {
      case Format::kTable:
        table_row(finding);
        break;
      case Format::kCsv:
        emit(csv_row({severity_text(finding.severity), finding.name, slot(finding),
                      escape_key(finding.policy), part(finding), key(finding), fingerprint(finding),
                      escape_text(finding.value), finding.repaired ? "true" : "false"}));
        break;
      case Format::kJson:
        json(finding);
        break;
    }
  }

  void end(const VerifyReport& report) {
    if (format_ == Format::kJson) return end_json(report);
    if (seen_ > limit_) {
      complain(join("stopped printing at --limit ", limit_, "; there are ", seen_, " findings"));
    }
    if (format_ == Format::kCsv) return;
    for (const auto& [name, remedy] : remedies_) emit(join(name, ": ", remedy, "\n"));
    emit(join(seen_ == 0 ? "" : "\n", report.slots, " slots, ", report.used, " in use; ",
              report.checked, " known by name and found in their place, ",
              report.used - report.checked, " unchecked for want of a name\n"));
    emit(join(report.errors, " errors, ", report.warnings, " warnings, ", report.notes, " notes; ",
              report.repaired, " repaired\n"));
  }

 private:
  static std::string slot(const Finding& finding) {
    return finding.slot == Finding::kNoSlot ? "" : std::to_string(finding.slot);
  }
  static bool about_key(const Finding& finding) { return finding.fingerprint != 0; }
  static std::string part(const Finding& finding) {
    return about_key(finding) ? std::to_string(finding.part) : "";
  }
  static std::string fingerprint(const Finding& finding) {
    return about_key(finding) ? hex_digits(finding.fingerprint, 13) : "";
  }
  // A key that itself begins with # must not pass for a fingerprint.
  static std::string key(const Finding& finding) {
    if (!about_key(finding)) return "";
    if (!finding.has_key) return "#" + fingerprint(finding);
    std::string text = escape_key(finding.key);
    if (!text.empty() && text.front() == '#') text.replace(0, 1, "%23");
    return text;
  }

  void table_row(const Finding& finding) {
    const auto pad = [](std::string text, size_t width) {
      text.resize(std::max(text.size(), width), ' ');
      return text;
    };
    if (seen_ == 1) emit(heading("SEVERITY  FINDING               SLOT        WHAT") + "\n");
    std::string what;
    if (!finding.policy.empty()) what += escape_key(finding.policy) + " ";
    if (about_key(finding)) what += key(finding) + " ";
    what += escape_text(finding.value);
    if (finding.repaired) what += " (repaired)";
    emit(join(pad(std::string(severity_text(finding.severity)), 8), "  ",
              pad(std::string(finding.name), 20), "  ", pad(slot(finding), 10), "  ", what, "\n"));
    if (!finding.repaired) remedies_.emplace(finding.name, finding.remedy);
  }

  void json(const Finding& finding) {
    json_.line().begin('{').field("severity", severity_text(finding.severity));
    json_.field("finding", finding.name);
    if (finding.slot != Finding::kNoSlot) json_.field("slot", finding.slot);
    if (!finding.policy.empty()) json_.field("policy", escape_key(finding.policy));
    if (about_key(finding)) {
      json_.field("part", finding.part).name("key");
      finding.has_key ? json_.value(escape_key(finding.key)) : json_.null();
      json_.field("fingerprint", fingerprint(finding));
    }
    json_.field("value", escape_text(finding.value)).field("remedy", finding.remedy);
    emit(json_.field("repaired", finding.repaired).end('}').take());
  }

  void end_json(const VerifyReport& report) {
    json_.line().end(']').field("more", seen_ > limit_);
    json_.line().field("slots", report.slots).field("used", report.used);
    json_.field("tentative", report.tentative).field("checked", report.checked);
    json_.field("unchecked", report.used - report.checked);
    json_.field("errors", report.errors).field("warnings", report.warnings);
    json_.field("notes", report.notes).field("repaired", report.repaired);
    json_.field("errors_remaining", report.errors_remaining);
    json_.field("warnings_remaining", report.warnings_remaining);
    emit(json_.end('}').take() + "\n");
  }

  Format format_;
  uint64_t limit_;
  uint64_t seen_ = 0;
  JsonWriter json_;
  std::map<std::string, std::string> remedies_;
};

}  // namespace

int run_verify(const VerifyArgs& args) {
  const absl::StatusOr<Format> format = parse_format(args.format);
  if (!format.ok()) return report(format.status());
  const absl::StatusOr<uint64_t> limit = parse_count("--limit", args.limit, 0, UINT64_MAX - 1);
  if (!limit.ok()) return report(limit.status());
  VerifyOptions options;
  options.repair = args.repair;
  if (args.memory.has_value()) {
    const absl::StatusOr<uint64_t> memory =
        parse_count("--memory", *args.memory, 16384, uint64_t{1} << 44);
    if (!memory.ok()) return report(memory.status());
    options.memory_bytes = *memory;
  }
  const absl::StatusOr<Options> access = trusting_options(args.owner, args.group);
  if (!access.ok()) return report(access.status());
  options.access = *access;
  FindingPrinter printer(*format, *limit);
  bool begun = false;
  const auto begin = [&] {
    if (!begun) printer.begin(args.name);
    begun = true;
  };
  const absl::StatusOr<VerifyReport> done = verify(args.name, options, [&](const Finding& finding) {
    begin();
    printer.visit(finding);
  });
  if (!done.ok()) return report(done.status());
  begin();
  printer.end(*done);
  if (done->repaired != 0) {
    const absl::StatusOr<Changed> segment = Changed::attach(args.name, {args.owner, args.group});
    if (!segment.ok()) return report(segment.status());
    segment->note(join("verify repaired ", done->repaired, " findings"));
  }
  const bool bad = done->errors_remaining != 0 || (args.strict && done->warnings_remaining != 0);
  return finish(bad ? kExitFailure : kExitOk);
}

void add_verify_command(Command& brim) {
  const auto args = std::make_shared<VerifyArgs>();
  Command command =
      brim.add("verify", "Check every slot, policy and counter of a segment while traffic runs");
  command.segment(*args);
  command.flag("--repair", args->repair, "Repair what is safe to repair under traffic");
  command.flag("--strict", args->strict, "Exit status 1 if there are warnings, too");
  command.option("--memory", args->memory,
                 "Bytes for the comparison of copies, 16 a key in use (default 256M)");
  command.option("--limit", args->limit, "Print at most this many findings (default 1000)");
  command.option("--format", args->format, "table, json or csv (default table)");
  command.trust(*args);
  command.footer(
      "Exit status 1 if errors remain; notes and warnings leave it 0.\n"
      "Examples:\n"
      "  brim verify api\n"
      "  brim verify api --repair && brim verify api\n"
      "  brim verify api --format json | jq .findings[].finding");
  command.action([args] { return run_verify(*args); });
}

}  // namespace brim::tools
