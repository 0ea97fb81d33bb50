// SPDX-License-Identifier: MIT
#include "watch.h"

#include <algorithm>
#include <cstdio>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "cli.h"
#include "commands.h"
#include "output.h"
#include "repeat.h"
#include "snapshot.h"

namespace brim::tools {

namespace {

struct WatchArgs {
  std::string name;
  std::optional<std::string> key;
  std::optional<std::string> key_file;
  std::optional<std::string> policy;
  std::string interval = "1s";
  std::optional<std::string> count;
  std::string owner;
  std::string group;
  std::string format = "table";
};

// What one policy answers for the key at one moment.
struct Answer {
  Decision next;           // of a call of cost 1
  uint32_t remaining = 0;  // of a call of cost 0: a refusal does not tell what a smaller call finds
  // The instant at which a permit comes back lies between these two.
  int64_t retry_from_ns = 0;
  int64_t retry_to_ns = 0;

  static Answer of(const PolicyHandle& handle, const std::string& key) {
    Answer answer;
    const int64_t before = monotonic_ns();
    answer.next = handle.peek(key, 1);
    const int64_t after = monotonic_ns();
    answer.remaining = handle.peek(key, 0).remaining;
    const int64_t wait = answer.next.retry_after_ns;
    if (wait == 0 || wait == kNever) {
      answer.retry_from_ns = answer.retry_to_ns = wait;
    } else {
      answer.retry_from_ns = before + wait;
      answer.retry_to_ns = after + wait;
    }
    return answer;
  }

  // That time passes is no change: the instant of the next permit is what counts.
  bool differs(const Answer& other) const {
    constexpr int64_t kSlackNs = 1000000;
    return next.verdict != other.next.verdict || next.reason != other.next.reason ||
           remaining != other.remaining || retry_from_ns > other.retry_to_ns + kSlackNs ||
           other.retry_from_ns > retry_to_ns + kSlackNs;
  }
};

std::string ns_text(int64_t ns) { return ns == kNever ? "" : std::to_string(ns); }

// A column of at least `width`.
std::string column(std::string_view text, size_t width, bool right = false) {
  const std::string pad(text.size() < width ? width - text.size() : 0, ' ');
  return right ? join(pad, text, "  ") : join(text, pad, "  ");
}

class Watcher {
 public:
  Watcher(const WatchArgs& args, Format format, std::string key, uint64_t count)
      : args_(args), format_(format), key_(std::move(key)), count_(count) {}

  // Attaches to what the name leads to now.
  absl::Status attach(const Options& options) {
    absl::StatusOr<Limiter> limiter = Limiter::attach_read_only(args_.name, options);
    if (!limiter.ok()) return limiter.status();
    limiter_ = *std::move(limiter);
    last_.clear();
    if (!args_.policy.has_value()) return absl::OkStatus();
    return limiter_.policy(*args_.policy).status();
  }

  void begin() {
    if (format_ == Format::kCsv) {
      emit(csv_row({"time", "policy", "verdict", "reason", "remaining", "retry_after_ns",
                    "reset_after_ns"}));
    } else if (format_ == Format::kTable) {
      emit(heading(join(column("TIME", 24), column("POLICY", 16), column("VERDICT", 11),
                        column("REASON", 12), column("REMAINING", 10, true),
                        column("RETRY AFTER", 11, true), column("RESET AFTER", 11, true))) +
           "\n");
    }
  }

  // Prints what has changed; false once enough was printed or nobody reads.
  bool look() {
    for (const std::string& name : args_.policy.has_value()
                                       ? std::vector<std::string>{*args_.policy}
                                       : limiter_.policy_names()) {
      const absl::StatusOr<PolicyHandle> handle = limiter_.policy(name);
      if (!handle.ok()) continue;  // it was taken out this moment
      const Answer answer = Answer::of(*handle, key_);
      const auto [last, fresh] = last_.try_emplace(name, answer);
      if (!fresh && !answer.differs(last->second)) continue;
      last->second = answer;
      print(name, answer);
      if (++printed_ == count_) return false;
    }
    return delivered();
  }

 private:
  void print(const std::string& policy, const Answer& answer) {
    const Decision& next = answer.next;
    const std::string time = iso_time(wall_ns());
    const std::string_view verdict = verdict_text(next.verdict);
    const std::string_view reason = reason_text(next.reason);
    if (format_ == Format::kJson) {
      JsonWriter json;
      json.begin('{').field("version", 1).field("time", time).field("segment", args_.name);
      json.field("key_base64", base64(key_)).field("policy", policy).field("verdict", verdict);
      json.field("reason", reason).field("remaining", answer.remaining);
      json.name("retry_after_ns").duration(next.retry_after_ns);
      json.name("reset_after_ns").duration(next.reset_after_ns);
      emit(json.end('}').take() + "\n");
    } else if (format_ == Format::kCsv) {
      emit(csv_row({time, escape_key(policy), verdict, reason, std::to_string(answer.remaining),
                    ns_text(next.retry_after_ns), ns_text(next.reset_after_ns)}));
    } else {
      std::string line =
          join(column(time, 24), column(escape_key(policy), 16), column(verdict, 11),
               column(reason, 12), column(std::to_string(answer.remaining), 10, true),
               column(human_duration(next.retry_after_ns), 11, true),
               column(human_duration(next.reset_after_ns), 11, true));
      line.erase(line.find_last_not_of(' ') + 1);
      emit(line + "\n");
    }
  }

  const WatchArgs& args_;
  Format format_;
  std::string key_;
  uint64_t count_;
  uint64_t printed_ = 0;
  Limiter limiter_;
  std::map<std::string, Answer> last_;
};

int run_watch(const WatchArgs& args) {
  const absl::StatusOr<Format> format = parse_format(args.format);
  if (!format.ok()) return report(format.status());
  const absl::StatusOr<Repeat> repeat = parse_repeat(args.interval, args.count);
  if (!repeat.ok()) return report(repeat.status());
  if (args.key.has_value() == args.key_file.has_value()) {
    return report(absl::InvalidArgumentError(
        "key_needed: give KEY, or --key-file with a file that holds it, and not both"));
  }
  const absl::StatusOr<std::string> key =
      args.key.has_value() ? *args.key : read_key(*args.key_file);
  if (!key.ok()) return report(key.status());
  absl::StatusOr<Followed> segment = Followed::attach(args.name, args.owner, args.group);
  if (!segment.ok()) return report(segment.status());
  Watcher watcher(args, *format, *key, repeat->count);
  absl::Status status = watcher.attach(segment->options());
  if (!status.ok()) return report(status);
  StopSignals signals;
  watcher.begin();
  int64_t next = monotonic_ns();
  while (watcher.look() && signals.rest(next, repeat->interval_ns)) {
    if (!segment->follow()) continue;
    status = watcher.attach(segment->options());
    if (status.ok()) continue;
    finish_repeat();
    return report(status);
  }
  return finish_repeat();
}

}  // namespace

void add_watch_command(Command& brim) {
  const auto args = std::make_shared<WatchArgs>();
  Command command = brim.add("watch", "Follow one key: a line each time its state changes");
  command.segment(*args).key(*args);
  command.option("--policy", args->policy, "Only this policy");
  command.option("--interval", args->interval, "Time between two looks (default 1s)");
  command.option("--count", args->count, "End after so many lines");
  command.option("--format", args->format, kFormatHelp);
  command.trust(*args);
  command.footer(
      "Ends on Ctrl-C with exit status 0. JSON is one object a line.\n"
      "Examples:\n"
      "  brim watch api 192.0.2.7\n"
      "  brim watch api alice --policy per_user --interval 100ms\n"
      "  brim watch api alice --format json | jq -r 'select(.verdict == \"denied\").time'");
  command.action([args] { return run_watch(*args); });
}

}  // namespace brim::tools
