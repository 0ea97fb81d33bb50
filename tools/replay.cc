// SPDX-License-Identifier: MIT
#include "replay.h"

#include <algorithm>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "access_log.h"
#include "cli.h"
#include "output.h"
#include "replay_input.h"
#include "replay_limiter.h"
#include "replay_report.h"
#include "replay_stats.h"
#include "replay_text.h"

namespace brim::replay {

namespace {

using tools::join;

constexpr size_t kBrokenShown = 20;
constexpr uint64_t kMaxReorderSeconds = 86400;

struct Args {
  std::vector<std::string> policies;
  std::string key = "addr";
  std::string format = "auto";
  std::string fields;
  std::string percentile = "99";
  std::string top = "10";
  std::string reorder = "5";
  std::string capacity = "1M";
  std::string output = "table";
  bool spread = false;
  std::vector<std::string> files;
};

// The command line, checked.
struct Plan {
  std::vector<NamedPolicy> policies;
  Percentile percentile;
  uint64_t top = 0;
  int64_t reorder_ns = 0;
  uint64_t capacity = 0;
  bool json = false;
};

absl::Status bad_option(const std::string& message) { return absl::InvalidArgumentError(message); }

absl::Status add_policy(const std::string& option, std::vector<NamedPolicy>& policies) {
  const size_t equals = option.find('=');
  if (equals == std::string::npos) {
    return bad_option(join("invalid_policy: '", option,
                           "'; give NAME=RATE, such as --policy 'per_ip=100/m burst 20'"));
  }
  NamedPolicy policy{option.substr(0, equals), option.substr(equals + 1)};
  if (!valid_policy_name(policy.name)) {
    return bad_option(join("invalid_policy_name: '", policy.name, "' in --policy '", option,
                           "'; give 1 to 47 characters of A-Z a-z 0-9 . _ - before the '='"));
  }
  for (const NamedPolicy& other : policies) {
    if (other.name == policy.name) {
      return bad_option(join("invalid_policy: --policy ", policy.name, " is given twice"));
    }
  }
  const absl::StatusOr<Policy> parsed = parse_policy(policy.text);
  if (!parsed.ok()) return parsed.status();
  for (const Rate& rate : parsed->rates) {
    if (rate.algorithm != Algorithm::kConcurrency) continue;
    return bad_option(join("unsupported_policy: --policy ", policy.name,
                           " limits requests under way, and a log does not tell when each ended; "
                           "give a rate, such as 100/m"));
  }
  policies.push_back(std::move(policy));
  return absl::OkStatus();
}

// The value of a numeric option; the first failure stays in `status`.
uint64_t take_count(const std::string& option, const std::string& text, uint64_t least,
                    uint64_t most, absl::Status& status) {
  absl::StatusOr<uint64_t> value = tools::parse_count(option, text, least, most);
  if (value.ok()) return *value;
  status.Update(value.status());
  return 0;
}

absl::StatusOr<Plan> make_plan(const Args& args) {
  Plan plan;
  absl::Status status;
  for (const std::string& option : args.policies) status.Update(add_policy(option, plan.policies));
  if (plan.policies.empty()) {
    status.Update(bad_option("invalid_policy: give a --policy, such as 'per_ip=100/m burst 20'"));
  }
  absl::StatusOr<Percentile> percentile = Percentile::parse(args.percentile);
  status.Update(percentile.status());
  if (percentile.ok()) plan.percentile = *percentile;
  plan.top = take_count("--top", args.top, 0, 1000000, status);
  plan.reorder_ns =
      static_cast<int64_t>(take_count("--reorder", args.reorder, 0, kMaxReorderSeconds, status)) *
      kSecondNs;
  plan.capacity = take_count("--capacity", args.capacity, 1, uint64_t{1} << 36, status);
  plan.json = args.output == "json";
  if (!plan.json && args.output != "table") {
    status.Update(
        bad_option(join("invalid_option: --output '", args.output, "'; give table or json")));
  }
  if (!status.ok()) return status;
  return plan;
}

// Everything one replay needs, in the order in which a line passes through.
struct Replay {
  LogInput input;
  AccessLog log;
  Clients clients;
  std::vector<uint64_t> requests_by_client;
  std::unique_ptr<ReplayLimiter> limiter;
  EventFile events;
  Report report;
};

void note_broken(Replay& replay, std::string reason) {
  ++replay.report.broken;
  if (replay.report.first_broken.size() == kBrokenShown) return;
  replay.report.first_broken.push_back(
      {replay.input.file(), replay.input.line_number(), std::move(reason)});
}

// Reads all lines: each goes through the reorder window, then perhaps the spread, to the limiter.
void read_log(Replay& replay, const Plan& plan) {
  Report& report = replay.report;
  const Reorder::Sink decide = [&](int64_t time_ns, uint32_t client) {
    if (report.requests++ == 0) report.first_ns = time_ns;
    report.last_ns = time_ns;
    ++replay.requests_by_client[client];
    replay.events.append(time_ns, client);
    replay.limiter->take(time_ns, client, replay.clients.key(client));
  };
  Spread spread(report.resolution_ns, decide);
  Reorder reorder(plan.reorder_ns, report.spread ? Reorder::Sink([&](int64_t t, uint32_t client) {
                    spread.push(t, client);
                  })
                                                 : decide);
  Progress progress;
  std::string_view text;
  LogLine line;
  while (replay.input.next(text)) {
    if (text.empty()) {
      ++report.empty;
      continue;
    }
    if (++report.lines % 1024 == 0) progress.show(replay.input, report.lines);
    if (replay.input.too_long()) {
      note_broken(replay, join("longer than ", kMaxLine, " bytes"));
    } else if (!replay.log.parse(text, line)) {
      note_broken(replay, std::move(line.reason));
    } else {
      const uint32_t client = replay.clients.number(line.key);
      replay.requests_by_client.resize(replay.clients.size());
      reorder.push(line.time_ns, client);
    }
  }
  reorder.finish();
  spread.finish();
  report.out_of_order = reorder.out_of_order();
  report.late = reorder.late();
  report.clients = replay.clients.size();
}

std::vector<RefusedClient> top_refused(const Replay& replay, const PolicyRun& run, uint64_t most) {
  std::vector<RefusedClient> list;
  for (uint32_t client = 0; client < run.refused_by_client.size(); ++client) {
    if (run.refused_by_client[client] == 0) continue;
    list.push_back({replay.clients.key(client), replay.requests_by_client[client],
                    run.refused_by_client[client]});
  }
  const auto end = list.begin() + static_cast<ptrdiff_t>(std::min<uint64_t>(most, list.size()));
  std::partial_sort(list.begin(), end, list.end(),
                    [](const RefusedClient& a, const RefusedClient& b) {
                      return a.refused != b.refused ? a.refused > b.refused : a.key < b.key;
                    });
  list.erase(end, list.end());
  return list;
}

WindowReport window_report(const Peaks& peaks, int64_t window_ns, Percentile percentile) {
  return {window_ns, peaks.all, peaks.all_at_ns, distribution(peaks.client, percentile)};
}

PolicyReport policy_report(const Replay& replay, const PolicyRun& run,
                           std::span<const Event> events, const Plan& plan) {
  PolicyReport report;
  const size_t clients = replay.clients.size();
  report.name = run.name;
  report.policy = run.handle.policy();
  report.admitted = run.admitted;
  report.refused = run.refused;
  report.undecided = run.undecided;
  report.evicted = replay.limiter->evicted(run.name);
  report.shadow = run.shadow;
  report.clients_refused = static_cast<uint64_t>(
      std::count_if(run.refused_by_client.begin(), run.refused_by_client.end(),
                    [](uint64_t refused) { return refused != 0; }));
  report.first_refusal_ns = run.first_refusal_ns;
  if (run.refused != 0) report.first_refused_key = replay.clients.key(run.first_refused_client);
  report.top = top_refused(replay, run, plan.top);
  report.no_burst = why_no_burst(report.policy);
  const int64_t period_ns = only_period_ns(report.policy);
  if (period_ns == 0) return report;
  const Peaks peaks = window_peaks(events, clients, period_ns);
  report.period = window_report(peaks, period_ns, plan.percentile);
  if (!report.no_burst.empty()) return report;
  const uint32_t limit = report.policy.rates.front().limit;
  report.least_burst =
      distribution(least_bursts(events, clients, limit, period_ns), plan.percentile);
  report.suggestion = suggest(events, peaks.client, report.policy, plan.percentile);
  return report;
}

int report_nothing(const Report& report) {
  for (size_t i = 0; i < std::min<size_t>(3, report.first_broken.size()); ++i) {
    const BrokenLine& broken = report.first_broken[i];
    tools::complain(join(broken.file, ":", broken.line, ": ", broken.reason));
  }
  tools::complain(join("no_requests: none of ", report.lines,
                       " lines is of the log's format; see --format and --fields in brim replay "
                       "--help"));
  return tools::kExitFailure;
}

int finish_replay(Replay& replay, const Plan& plan) {
  Report& report = replay.report;
  if (!replay.input.status().ok()) {
    tools::report(replay.input.status());
    return tools::kExitFailure;
  }
  if (report.requests == 0) return report_nothing(report);
  absl::StatusOr<std::span<const Event>> events = replay.events.finish();
  if (!events.ok()) {
    tools::report(events.status());
    return tools::kExitFailure;
  }
  for (const int64_t window_ns : {kSecondNs, 10 * kSecondNs, 60 * kSecondNs}) {
    report.windows.push_back(window_report(window_peaks(*events, replay.clients.size(), window_ns),
                                           window_ns, plan.percentile));
  }
  for (const PolicyRun& run : replay.limiter->runs()) {
    report.policies.push_back(policy_report(replay, run, *events, plan));
  }
  tools::emit(plan.json ? report_json(report) : report_table(report));
  return tools::finish();
}

int run_replay(const Args& args) {
  absl::StatusOr<Plan> plan = make_plan(args);
  absl::StatusOr<AccessLog> log = AccessLog::create(args.format, args.fields, args.key);
  for (const absl::Status& status : {plan.status(), log.status()}) {
    if (status.ok()) continue;
    tools::report(status);
    return tools::kExitUsage;
  }
  absl::StatusOr<LogInput> input = LogInput::open(args.files);
  absl::StatusOr<EventFile> events = EventFile::create();
  absl::StatusOr<std::unique_ptr<ReplayLimiter>> limiter =
      ReplayLimiter::create(plan->policies, plan->capacity);
  for (const absl::Status& status : {input.status(), events.status(), limiter.status()}) {
    if (status.ok()) continue;
    tools::report(status);
    return tools::kExitFailure;
  }
  Replay replay{*std::move(input),   *std::move(log),    {}, {},
                *std::move(limiter), *std::move(events), {}};
  replay.report.key_fields = args.key;
  replay.report.percentile = plan->percentile;
  replay.report.reorder_ns = plan->reorder_ns;
  replay.report.resolution_ns = replay.log.resolution_ns();
  replay.report.spread = args.spread;
  read_log(replay, *plan);
  return finish_replay(replay, *plan);
}

constexpr char kFooter[] =
    "A field of the key is addr, user, method, path (without its query), host, status, request,\n"
    "referer, agent, or any $name of --fields; join several with '+'. The list of --fields is\n"
    "written as in nginx's log_format; it must hold $time_local, $time_iso8601 or $msec.\n"
    "The suggested limit is the percentile, over the clients, of the most requests in any window\n"
    "of one period; the suggested burst that of the least burst a client needs at that rate.\n"
    "Exit status: 0 done, 1 no line could be read, 2 wrong usage.\n"
    "Examples:\n"
    "  brim replay --policy 'per_ip=100/m burst 20' < access.log\n"
    "  zcat access.log.2.gz | brim replay --policy login=5/m --key addr+path\n"
    "  brim replay --policy api=10/s --key user --fields '$remote_user $msec \"$request\"' a.log";

}  // namespace

}  // namespace brim::replay

void add_replay_command(brim::tools::Command& brim) {
  const auto args = std::make_shared<brim::replay::Args>();
  brim::tools::Command command =
      brim.add("replay", "Run an access log through policies: who would have been refused?");
  command
      .option("--policy", args->policies,
              "NAME=RATE, such as 'per_ip=100/m burst 20'; may be repeated")
      .required();
  command.option("--key", args->key, "What is limited (default addr)");
  command.option("--format", args->format,
                 "combined, common or fields (default: combined or common, line by line)");
  command.option("--fields", args->fields,
                 "The fields of a line, such as '$remote_addr [$time_local] \"$request\"'");
  command.option("--percentile", args->percentile,
                 "Part of the clients that the suggestion leaves alone (default 99)");
  command.option("--top", args->top, "Refused clients to list (default 10)");
  command.option("--reorder", args->reorder,
                 "Seconds by which a line may come late and still be sorted (default 5)");
  command.flag("--spread", args->spread,
               "Spread the requests of one stamp evenly instead of all at its start");
  command.option("--capacity", args->capacity, "Keys the limiter holds (default 1M)");
  command.option("--output", args->output, "table or json (default table)");
  command.option("FILE", args->files, "Logs, oldest first (default: standard input)");
  command.footer(brim::replay::kFooter);
  command.action([args] { return brim::replay::run_replay(*args); });
}
