// SPDX-License-Identifier: MIT
#include "snapshot.h"

#include <absl/time/time.h>

#include <cmath>
#include <limits>
#include <memory>
#include <optional>

#include "audit.h"
#include "cli.h"
#include "commands.h"
#include "export.h"

namespace brim::tools {

namespace {

constexpr char kFileHelp[] = "The snapshot's file, an SQLite database";

// The sum, or the nearest there is: a file may hold any numbers.
int64_t plus(int64_t a, int64_t b) {
  int64_t sum = 0;
  if (!__builtin_add_overflow(a, b, &sum)) return sum;
  return a < 0 ? std::numeric_limits<int64_t>::min() : std::numeric_limits<int64_t>::max();
}

std::string key_text(const KeyState& state) {
  if (!state.has_key) return join("#", hex_digits(state.fingerprint, 13));
  return join(escape_key(state.key), state.whole_key() ? "" : "...");
}

// Permits as a decimal number, rounded up to a thousandth.
std::string permits_text(const KeyState& state, uint32_t unit_shift) {
  if (state.kind != StateKind::kBucket) return join(state.used);
  const uint32_t shift = unit_shift & 63;
  const uint64_t whole = state.used >> shift;
  const auto rest = static_cast<double>(state.used - (whole << shift));
  const double part = std::ceil(std::ldexp(rest * 1000, -static_cast<int>(shift)));
  std::string digits = join(whole * 1000 + static_cast<uint64_t>(part));
  while (digits.size() < 4) digits.insert(digits.begin(), '0');
  return join(digits.substr(0, digits.size() - 3), ".", digits.substr(digits.size() - 3));
}

struct ShowArgs {
  std::string file;
  std::string format = "table";
};

class Rows {
 public:
  Rows(Format format, const SnapshotFile& head) : format_(format), head_(head) {}

  void begin() {
    const SegmentState& segment = head_.segment;
    if (format_ == Format::kJson) {
      json_.begin('{').field("version", 1).field("segment", segment.name);
      json_.field("uuid", segment.uuid).field("generation", head_.generation);
      json_.field("taken", iso_time(head_.wall_ns)).field("rows", head_.rows);
      json_.name("policies").begin('[');
      for (const PolicyState& policy : head_.policies) {
        json_.line().begin('{').field("name", policy.name).field("text", policy.text);
        json_.field("factor_ppm", policy.factor_ppm).end('}');
      }
      json_.end(']').field("overrides", head_.overrides.size()).name("keys").begin('[');
    } else if (format_ == Format::kCsv) {
      emit(csv_row(
          {"policy", "rate", "key", "kind", "permits_used", "before", "barred", "as_of", "until"}));
    } else {
      emit(join("segment ", escape_text(segment.name), "  generation ", head_.generation,
                "  taken ", iso_time(head_.wall_ns), "  rows ", head_.rows, "  overrides ",
                head_.overrides.size(), "\n"));
      for (const PolicyState& policy : head_.policies) {
        emit(join("policy ", escape_text(policy.name), " = ", escape_text(policy.text), "\n"));
      }
    }
  }

  bool row(const KeyState& state) {
    const std::string policy = policy_name(state.policy);
    const std::string used = permits_text(state, shift_of(state));
    const int64_t as_of = plus(head_.wall_ns, state.as_of_ns - head_.monotonic_ns);
    const std::string until = iso_time(plus(as_of, state.until_ns));
    const std::string rate = state.kind == StateKind::kBan ? "ban" : join(state.part);
    if (format_ == Format::kJson) {
      json_.line().begin('{').field("policy", policy).field("rate", state.part);
      json_.field("key", key_text(state));
      if (state.has_key) json_.field("key_base64", base64(state.key));
      json_.field("fingerprint", hex_digits(state.fingerprint, 13));
      json_.field("kind", kind_name(state.kind)).name("permits_used").literal(used);
      json_.field("before", state.before).field("barred", state.barred);
      json_.field("as_of", iso_time(as_of)).field("until", until).end('}');
      return emit(json_.take());
    }
    if (format_ == Format::kCsv) {
      return emit(csv_row({policy, rate, key_text(state), kind_name(state.kind), used,
                           join(state.before), state.barred ? "1" : "0", iso_time(as_of), until}));
    }
    return emit(join(escape_text(policy), " ", rate, "  ", key_text(state), "  ",
                     kind_name(state.kind), "  used ", used,
                     state.kind == StateKind::kCounter || state.kind == StateKind::kBan
                         ? join("  before ", state.before)
                         : std::string(),
                     state.barred ? "  barred" : "", "  until ", until, "\n"));
  }

  void end() {
    if (format_ == Format::kJson) emit(join(json_.end(']').end('}').take(), "\n"));
  }

 private:
  std::string policy_name(uint16_t number) const {
    for (const PolicyState& policy : head_.policies) {
      if (policy.number == number) return policy.name;
    }
    return join(number);
  }
  uint32_t shift_of(const KeyState& state) const {
    for (const PolicyState& policy : head_.policies) {
      for (const RateState& rate : policy.rates) {
        if (rate.policy == state.policy && rate.part == state.part) return rate.unit_shift;
      }
    }
    return 0;
  }

  Format format_;
  SnapshotFile head_;
  JsonWriter json_;
};

int run_show(const ShowArgs& args) {
  const absl::StatusOr<Format> format = parse_format(args.format);
  if (!format.ok()) return report(format.status());
  // The file is checked whole before the first line, so that what is printed is sound.
  std::optional<Rows> rows;
  const auto head = read_snapshot(
      args.file, [&](const KeyState& state) { return rows->row(state); },
      [&](const SnapshotFile& file) { rows.emplace(*format, file).begin(); });
  if (!head.ok()) return report(head.status());
  rows->end();
  return finish();
}

int run_snapshot(const AgentArgs& args) {
  const absl::StatusOr<SnapshotOptions> options = snapshot_options(args);
  if (!options.ok()) return report(options.status());
  absl::StatusOr<Snapshotter> snapshotter = Snapshotter::open(args.name, *options);
  if (!snapshotter.ok()) return report(snapshotter.status());
  const absl::StatusOr<SnapshotReport> done = snapshotter->take();
  if (!snapshotter->set_aside().empty()) complain(snapshotter->set_aside());
  if (!done.ok()) return report(done.status());
  emit(join("snapshot ", done->generation, " of ", escape_text(args.name), ": ", done->rows,
            " keys, ", human_duration(done->duration_ns), "\n"));
  return finish();
}

struct RestoreArgs : Trust {
  std::string name;
  std::string file;
};

int run_restore(const RestoreArgs& args) {
  const absl::StatusOr<Changed> segment = Changed::attach(args.name, args);
  if (!segment.ok()) return report(segment.status());
  const absl::StatusOr<RestoreReport> done = restore(segment->limiter(), args.file);
  if (!done.ok()) return report(done.status());
  segment->note(join("restore ", done->merged, " keys of snapshot ", done->generation));
  emit(restore_text(*done));
  if (done->clock_behind) {
    complain("the wall clock is before the snapshot: no time is counted as passed");
  }
  return finish(done->failed != 0 ? kExitFailure : kExitOk);
}

}  // namespace

std::string iso_time(int64_t wall_ns) {
  return absl::FormatTime("%Y-%m-%dT%H:%M:%E3SZ", absl::FromUnixNanos(wall_ns),
                          absl::UTCTimeZone());
}

std::string restore_text(const RestoreReport& report) {
  std::string text = join("restored ", report.merged, " keys of snapshot ", report.generation, ", ",
                          human_duration(report.elapsed_ns), " old");
  const struct {
    uint64_t count;
    const char* what;
  } others[] = {{report.idle, "owed nothing any more"},
                {report.no_policy, "of policies that are gone"},
                {report.no_key, "without their whole key"},
                {report.unfit, "of policies that keep no such state now"},
                {report.failed, "not restored: table full or contended"},
                {report.overrides_lost, "overrides lost"}};
  for (const auto& other : others) {
    if (other.count != 0) text += join("; ", other.count, " ", other.what);
  }
  return text + "\n";
}

absl::StatusOr<int64_t> parse_duration(const std::string& option, const std::string& text,
                                       int64_t least) {
  absl::Duration parsed;
  if (absl::ParseDuration(text, &parsed) && parsed >= absl::Nanoseconds(least) &&
      parsed <= absl::Hours(24 * 366)) {
    return absl::ToInt64Nanoseconds(parsed);
  }
  return absl::InvalidArgumentError(join("invalid_option: ", option, " is '",
                                         escape_text(text.substr(0, 40)), "'; give at least ",
                                         human_duration(least), ", such as 500ms, 10s or 1m30s"));
}

absl::StatusOr<SnapshotOptions> snapshot_options(const AgentArgs& args) {
  SnapshotOptions options;
  const absl::StatusOr<Options> trusting = trusting_options(args.owner, args.group);
  if (!trusting.ok()) return trusting.status();
  options.attach = *trusting;
  const absl::StatusOr<int64_t> busy = parse_duration("--busy-timeout", args.busy_timeout, 0);
  if (!busy.ok()) return busy.status();
  options.busy_timeout_ns = *busy;
  options.file = args.file;
  options.keep = args.keep;
  if (args.synchronous == "normal") {
    options.synchronous = Synchronous::kNormal;
  } else if (args.synchronous == "off") {
    options.synchronous = Synchronous::kOff;
  } else if (args.synchronous != "full") {
    return absl::InvalidArgumentError(join("invalid_option: --synchronous is '",
                                           escape_text(args.synchronous.substr(0, 40)),
                                           "'; give full, normal or off"));
  }
  return options;
}

namespace {

void add_file_options(Command& command, const std::shared_ptr<AgentArgs>& args, bool needed) {
  command.segment(*args);
  command.option("--file", args->file, kFileHelp);
  if (needed) command.required();
  command.option("--busy-timeout", args->busy_timeout,
                 "Wait so long for another program that holds the file (default 5s)");
  command.option("--synchronous", args->synchronous,
                 "full, normal or off: what a power cut may lose (default full)");
  command.option("--keep", args->keep,
                 "Copies kept of the files of earlier segments, FILE.1 the newest");
  command.trust(*args);
}

void add_agent(Command& brim) {
  const auto args = std::make_shared<AgentArgs>();
  Command command = brim.add(
      "agent", "Write a segment's snapshots and exchange with other nodes until told to stop");
  add_file_options(command, args, false);
  command.option("--interval", args->interval, "Time between snapshots (default 10s)");
  command.option("--sweep", args->sweep,
                 "Free the slots of keys that have been idle so long (default 1h, 0s: never)");
  command.flag("--restore", args->restore, "Make the segment from the file if there is none");
  command.flag("!--no-sync-on-exit,--sync-on-exit", args->sync_on_exit,
               "A last snapshot on SIGTERM (default)");
  add_tier_options(command, args->tier);
  command.footer(
      "SIGTERM and SIGINT end it, SIGHUP and SIGUSR1 take a snapshot now.\n"
      "Examples:\n"
      "  brim agent api --file /var/lib/brim/api.db\n"
      "  brim agent api --file /var/lib/brim/api.db --interval 1s --restore\n"
      "  brim agent api --tier redis://10.0.0.5 --tier-password-file /etc/brim/tier-password");
  command.action([args] { return run_agent(*args); });
}

void add_snapshot(Command& brim) {
  Command command = brim.add("snapshot", "Write a segment's state to a file, or show such a file");
  const auto args = std::make_shared<AgentArgs>();
  Command take = command.add("take", "Write one snapshot now");
  add_file_options(take, args, true);
  take.footer("Examples:\n  brim snapshot take api --file /var/lib/brim/api.db");
  take.action([args] { return run_snapshot(*args); });
  const auto show = std::make_shared<ShowArgs>();
  Command dump = command.add("show", "Check a file and print its keys");
  dump.option("FILE", show->file, kFileHelp).required();
  dump.option("--format", show->format, "table, json or csv (default table)");
  dump.footer("Examples:\n  brim snapshot show /var/lib/brim/api.db --format json");
  dump.action([show] { return run_show(*show); });
}

void add_restore(Command& brim) {
  const auto args = std::make_shared<RestoreArgs>();
  Command command =
      brim.add("restore", "Give a live segment what a file holds: the stricter state wins");
  command.segment(*args);
  command.option("FILE", args->file, kFileHelp).required();
  command.trust(*args);
  command.footer("Examples:\n  brim restore api /var/lib/brim/api.db");
  command.action([args] { return run_restore(*args); });
}

}  // namespace

void add_snapshot_commands(Command& brim) {
  add_agent(brim);
  add_snapshot(brim);
  add_restore(brim);
}

}  // namespace brim::tools
