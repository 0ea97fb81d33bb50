// SPDX-License-Identifier: MIT
// brim list: the segments of this machine, and whether anybody still has use for them.
#include <pwd.h>

#include <algorithm>
#include <string>
#include <vector>

#include "brim/inspect.h"
#include "commands.h"
#include "output.h"
#include "repeat.h"

namespace brim::tools {

namespace {

// One listed segment; slots and policies are not known of one that can not be read.
struct Listed {
  const ListedSegment& segment;
  const char* state;
  std::string status;
  bool known = false;
  uint64_t slots = 0;
  size_t policies = 0;
  int64_t age_ns = -1;  // not known
};

const char* state_of(const ListedSegment& segment) {
  if (segment.status.ok()) {
    return segment.attached == 0 && segment.attached_elsewhere == 0 ? "orphaned" : "ok";
  }
  switch (segment.status.code()) {
    case absl::StatusCode::kFailedPrecondition:
    case absl::StatusCode::kDataLoss:
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kUnimplemented:
      return "stale";
    default:
      return "unreadable";
  }
}

Listed listed(const ListedSegment& segment, int64_t now) {
  Listed one{segment, state_of(segment), "ok"};
  if (!segment.status.ok()) one.status = std::string(status_name(segment.status));
  if (segment.created_wall_ns > 0 && segment.created_wall_ns <= now) {
    one.age_ns = now - segment.created_wall_ns;
  }
  if (!segment.status.ok()) return one;
  const absl::StatusOr<Inspector> inspector = Inspector::attach(segment.name);
  if (!inspector.ok()) return one;
  one.known = true;
  one.slots = inspector->info().slots;
  one.policies = inspector->policies().size();
  return one;
}

// A name from the user database is text of somebody else, too.
std::string user_name(uint32_t uid) {
  const struct passwd* const user = getpwuid(uid);
  return user == nullptr ? "" : escape_key(user->pw_name);
}

// "3d", "5h", "12m", "7s": to tell old from new.
std::string age_text(int64_t ns) {
  if (ns < 0) return "";
  const int64_t seconds = ns / 1000000000;
  return seconds >= 2 * 86400  ? join(seconds / 86400, "d")
         : seconds >= 2 * 3600 ? join(seconds / 3600, "h")
         : seconds >= 2 * 60   ? join(seconds / 60, "m")
                               : join(seconds, "s");
}

std::string attached_text(const Listed& one) {
  if (!one.segment.status.ok()) return "";
  const uint32_t elsewhere = one.segment.attached_elsewhere;
  return join(one.segment.attached, elsewhere == 0 ? "" : join("+", elsewhere, "?"));
}

std::string list_table(const std::vector<Listed>& all) {
  std::vector<std::vector<std::string>> rows = {
      {"NAME", "SIZE", "SLOTS", "POLICIES", "ATTACHED", "OWNER", "MODE", "AGE", "STATE", "STATUS"}};
  for (const Listed& one : all) {
    const auto number = [&one](uint64_t n) { return one.known ? std::to_string(n) : ""; };
    const std::string user = user_name(one.segment.owner_uid);
    rows.push_back({one.segment.name, human_bytes(one.segment.size_bytes), number(one.slots),
                    number(one.policies), attached_text(one),
                    user.empty() ? std::to_string(one.segment.owner_uid) : user,
                    human_mode(one.segment.mode), age_text(one.age_ns), one.state, one.status});
  }
  return table(rows, {1, 2, 3, 4, 7});
}

std::string list_csv(const std::vector<Listed>& all) {
  std::string csv = csv_row({"name", "size_bytes", "slots", "policies", "attached", "owner_uid",
                             "mode", "status", "owner", "age_ns", "attached_elsewhere", "state"});
  for (const Listed& one : all) {
    const auto number = [](bool known, uint64_t n) { return known ? std::to_string(n) : ""; };
    const bool ok = one.segment.status.ok();
    csv += csv_row({one.segment.name, std::to_string(one.segment.size_bytes),
                    number(one.known, one.slots), number(one.known, one.policies),
                    number(ok, one.segment.attached), std::to_string(one.segment.owner_uid),
                    human_mode(one.segment.mode), one.status, user_name(one.segment.owner_uid),
                    one.age_ns < 0 ? "" : std::to_string(one.age_ns),
                    number(ok, one.segment.attached_elsewhere), one.state});
  }
  return csv;
}

std::string list_json(const std::vector<Listed>& all) {
  JsonWriter json;
  json.begin('{').field("version", 1).name("segments").begin('[');
  for (const Listed& one : all) {
    json.line().begin('{').field("name", one.segment.name);
    json.field("size_bytes", one.segment.size_bytes);
    if (one.known) json.field("slots", one.slots).field("policies", one.policies);
    if (one.segment.status.ok()) {
      json.field("attached", one.segment.attached);
      json.field("attached_elsewhere", one.segment.attached_elsewhere);
    }
    json.field("owner_uid", one.segment.owner_uid).name("owner");
    const std::string user = user_name(one.segment.owner_uid);
    user.empty() ? json.null() : json.value(user);
    json.field("mode", human_mode(one.segment.mode)).name("age_ns");
    one.age_ns < 0 ? json.null() : json.value(one.age_ns);
    json.field("state", one.state).field("status", one.status).end('}');
  }
  return json.line().end(']').end('}').take() + "\n";
}

}  // namespace

int run_list(const ListArgs& args) {
  const absl::StatusOr<Format> format = parse_format(args.format);
  if (!format.ok()) return report(format.status());
  const std::vector<ListedSegment> segments = list_segments();
  const int64_t now = wall_ns();
  std::vector<Listed> all;
  for (const ListedSegment& segment : segments) all.push_back(listed(segment, now));
  emit(*format == Format::kJson  ? list_json(all)
       : *format == Format::kCsv ? list_csv(all)
                                 : list_table(all));
  return finish();
}

}  // namespace brim::tools
