// SPDX-License-Identifier: MIT
#include "audit.h"

#include <pwd.h>

#include <algorithm>
#include <map>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "brim/inspect.h"
#include "cli.h"
#include "commands.h"
#include "output.h"
#include "snapshot.h"

namespace brim::tools {

namespace {

constexpr size_t kMostNotedKey = 96;

struct LogArgs : Trust {
  std::string name;
  std::optional<std::string> limit;
  std::string format = "table";
};

// Names of users, each looked up once. A number has no name in a container, perhaps.
class Users {
 public:
  const std::string& name(uint32_t uid) {
    const auto [at, fresh] = names_.try_emplace(uid);
    if (fresh) {
      const struct passwd* const user = getpwuid(uid);
      at->second = user == nullptr ? std::to_string(uid) : escape_key(user->pw_name);
    }
    return at->second;
  }

 private:
  std::map<uint32_t, std::string> names_;
};

int run_log(const LogArgs& args) {
  const absl::StatusOr<Format> format = parse_format(args.format);
  if (!format.ok()) return report(format.status());
  absl::StatusOr<uint64_t> limit = UINT64_MAX;
  if (args.limit.has_value()) limit = parse_count("--limit", *args.limit, 0, UINT64_MAX);
  if (!limit.ok()) return report(limit.status());
  const absl::StatusOr<Options> options = trusting_options(args.owner, args.group);
  if (!options.ok()) return report(options.status());
  const absl::StatusOr<Inspector> inspector = Inspector::attach(args.name, *options);
  if (!inspector.ok()) return report(inspector.status());
  std::vector<AuditEntry> entries = inspector->audit();
  if (entries.size() > *limit) {  // the newest
    entries.erase(entries.begin(), entries.end() - static_cast<ptrdiff_t>(*limit));
  }
  Users users;
  JsonWriter json;
  json.begin('{').field("version", 1).field("segment", args.name).name("entries").begin('[');
  std::string csv = csv_row({"sequence", "time", "user", "uid", "pid", "what"});
  std::vector<std::vector<std::string>> rows = {{"TIME", "USER", "PID", "WHAT"}};
  for (const AuditEntry& entry : entries) {
    const std::string time = iso_time(entry.wall_ns);
    const std::string& user = users.name(entry.uid);
    const std::string what = escape_text(entry.what);
    json.line().begin('{').field("sequence", entry.sequence).field("time", time);
    json.field("wall_ns", entry.wall_ns).field("user", user).field("uid", entry.uid);
    json.field("pid", entry.pid).field("what", what).end('}');
    csv += csv_row({join(entry.sequence), time, user, join(entry.uid), join(entry.pid), what});
    rows.push_back({time, user, join(entry.pid), what});
  }
  emit(*format == Format::kJson  ? json.line().end(']').end('}').take() + "\n"
       : *format == Format::kCsv ? csv
                                 : table(rows, {2}));
  return finish();
}

}  // namespace

absl::StatusOr<Changed> Changed::attach(const std::string& name, const Trust& trust) {
  const absl::StatusOr<Options> options = trusting_options(trust.owner, trust.group);
  if (!options.ok()) return options.status();
  absl::StatusOr<Limiter> limiter = Limiter::attach(name, *options);
  if (!limiter.ok()) return limiter.status();
  return Changed(*std::move(limiter));
}

void Changed::note(const std::string& what) const {
  const absl::Status status = limiter_.record(what);
  complain(join("audit: ", what,
                status.ok() ? "" : join(" (not in the segment's log: ", status_name(status), ")")));
}

absl::Status Changed::note_if(const absl::Status& status, const std::string& what,
                              const std::string& policy) const {
  if (status.ok()) note(what);
  return with_near_policy(status, limiter_, policy);
}

std::string noted_key(std::string_view key) {
  std::string text;
  for (const char& c : key) {
    const std::string piece = escape_key({&c, 1});
    if (text.size() + piece.size() > kMostNotedKey) return text + "...";
    text += piece;
  }
  return text.empty() ? "\"\"" : text;
}

absl::Status with_near_policy(const absl::Status& status, const Limiter& limiter,
                              const std::string& policy) {
  if (status_name(status) != "policy_not_found") return status;
  const std::vector<std::string> names = limiter.policy_names();
  if (std::find(names.begin(), names.end(), policy) != names.end()) return status;
  return absl::NotFoundError(
      join(std::string_view(status.message().data(), status.message().size()),
           did_you_mean(policy, names)));
}

void add_log_command(Command& brim) {
  const auto args = std::make_shared<LogArgs>();
  Command command = brim.add("log", "Show who changed what of a segment, and when");
  command.segment(*args);
  command.option("--limit", args->limit, "Only the newest so many");
  command.option("--format", args->format, kFormatHelp);
  command.trust(*args);
  command.footer("Examples:\n  brim log api\n  brim log api --limit 10 --format json");
  command.action([args] { return run_log(*args); });
}

}  // namespace brim::tools
