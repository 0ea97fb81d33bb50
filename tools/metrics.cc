// SPDX-License-Identifier: MIT
#include "metrics.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <optional>
#include <vector>

#include "brim/inspect.h"
#include "cli.h"
#include "commands.h"
#include "output.h"

namespace brim::tools {

namespace {

struct MetricsArgs {
  std::vector<std::string> names;
  std::string output;
  std::string owner;
  std::string group;
};

// Prometheus' text format 0.0.4: all samples of a metric in a row, after its HELP and TYPE.
class Metric {
 public:
  Metric(std::string& out, const char* name, const char* type, const char* help)
      : out_(out), name_(name) {
    out_ += join("# HELP ", name, " ", help, "\n# TYPE ", name, " ", type, "\n");
  }
  // Labels are pairs; values are made plain ASCII by escape_key, so nothing is left to quote.
  void sample(std::initializer_list<std::pair<const char*, std::string>> labels,
              const std::string& value, const char* suffix = "") {
    out_ += join(name_, suffix);
    char open = '{';
    for (const auto& [label, text] : labels) {
      out_ += join(std::string(1, open), label, "=\"", text, "\"");
      open = ',';
    }
    out_ += join("} ", value, "\n");
  }
  void sample(std::initializer_list<std::pair<const char*, std::string>> labels, uint64_t value,
              const char* suffix = "") {
    sample(labels, std::to_string(value), suffix);
  }

 private:
  std::string& out_;
  const char* name_;
};

std::string seconds(int64_t ns) {
  const std::string digits = std::to_string(1000000000 + ns % 1000000000);
  return join(ns / 1000000000, ".", digits.substr(1));
}

std::string ratio(uint32_t ppm) {
  return join(ppm / 1000000, ".", std::to_string(1000000 + ppm % 1000000).substr(1));
}

using Readings = std::vector<Reading>;

constexpr char kProbe[] = "probe_";  // counters of a histogram: probe_0, probe_1, probe_2, probe_4

bool is_verdict(const std::string& counter) {
  return counter == "allowed" || counter == "denied" || counter == "unavailable";
}

void write_up(std::string& out, const std::vector<std::string>& names, const Readings& segments) {
  Metric up(out, "brim_up", "gauge", "1 if the segment could be read.");
  for (const std::string& name : names) {
    const bool read = std::any_of(segments.begin(), segments.end(), [&](const Reading& each) {
      return each.name == escape_key(name);
    });
    up.sample({{"segment", escape_key(name)}}, uint64_t{read});
  }
}

void write_policies(std::string& out, const Readings& segments) {
  Metric decisions(out, "brim_decisions_total", "counter", "Calls decided, by verdict.");
  for (const Reading& each : segments) {
    for (const PolicyInfo& policy : each.policies) {
      for (const Counter& counter : policy.counters) {
        if (!is_verdict(counter.name)) continue;
        decisions.sample({{"segment", each.name},
                          {"policy", escape_key(policy.name)},
                          {"verdict", counter.name}},
                         counter.value);
      }
    }
  }
  Metric others(out, "brim_policy_events_total", "counter",
                "What else befell the keys of a policy; brim info describes each.");
  for (const Reading& each : segments) {
    for (const PolicyInfo& policy : each.policies) {
      for (const Counter& counter : policy.counters) {
        if (is_verdict(counter.name)) continue;
        others.sample(
            {{"segment", each.name}, {"policy", escape_key(policy.name)}, {"event", counter.name}},
            counter.value);
      }
    }
  }
  Metric factor(out, "brim_policy_factor", "gauge", "Share of the policy's rate in force, 0 to 1.");
  for (const Reading& each : segments) {
    for (const PolicyInfo& policy : each.policies) {
      factor.sample({{"segment", each.name}, {"policy", escape_key(policy.name)}},
                    ratio(policy.factor_ppm));
    }
  }
}

// What a call gets that can not be decided: with brim_decisions_total it tells fail-open.
void write_policy_info(std::string& out, const Readings& segments) {
  Metric info(out, "brim_policy_info", "gauge",
              "1 for each policy, with what a call gets that can not be decided.");
  for (const Reading& each : segments) {
    for (const PolicyInfo& policy : each.policies) {
      const bool open = policy.policy.on_unavailable == OnUnavailable::kAllow;
      info.sample({{"segment", each.name},
                   {"policy", escape_key(policy.name)},
                   {"on_unavailable", open ? "allow" : "deny"}},
                  uint64_t{1});
    }
  }
}

// Bins by powers of two as a histogram: "probe_4" counts 4 to 7. What the lengths add up to is not
// known, so there is no _sum.
void write_probe_lengths(std::string& out, const Readings& segments) {
  Metric lengths(out, "brim_probe_length_groups", "histogram",
                 "Groups from home at which keys were given a slot.");
  for (const Reading& each : segments) {
    uint64_t sum = 0;
    for (const Counter& counter : each.counters) {
      if (!counter.name.starts_with(kProbe)) continue;
      const uint64_t low = std::strtoull(counter.name.c_str() + std::strlen(kProbe), nullptr, 10);
      sum += counter.value;
      lengths.sample({{"segment", each.name}, {"le", join(low < 2 ? low : 2 * low - 1)}}, sum,
                     "_bucket");
    }
    lengths.sample({{"segment", each.name}, {"le", "+Inf"}}, sum, "_bucket");
    lengths.sample({{"segment", each.name}}, sum, "_count");
  }
}

void write_table(std::string& out, const Readings& segments) {
  Metric events(out, "brim_table_events_total", "counter",
                "Events of the table; brim info describes each.");
  for (const Reading& each : segments) {
    for (const Counter& counter : each.counters) {
      if (counter.name.starts_with(kProbe)) continue;
      events.sample({{"segment", each.name}, {"event", counter.name}}, counter.value);
    }
  }
  Metric slots(out, "brim_slots", "gauge", "Slots of the table, by state.");
  for (const Reading& each : segments) {
    const Occupancy& count = each.occupancy;
    const std::pair<const char*, uint64_t> states[] = {{"virgin", count.virgin},
                                                       {"free", count.free},
                                                       {"live", count.live},
                                                       {"idle", count.idle},
                                                       {"tentative", count.tentative}};
    for (const auto& [state, value] : states) {
      slots.sample({{"segment", each.name}, {"state", state}}, value);
    }
  }
  Metric paused(out, "brim_paused", "gauge", "1 while the segment admits everything (brim pause).");
  for (const Reading& each : segments) {
    paused.sample({{"segment", each.name}}, uint64_t{each.info.paused});
  }
  Metric capacity(out, "brim_capacity_keys", "gauge", "Keys that the table was made for.");
  for (const Reading& each : segments) {
    capacity.sample({{"segment", each.name}}, each.info.capacity);
  }
  Metric size(out, "brim_segment_size_bytes", "gauge", "Size of the segment.");
  for (const Reading& each : segments) size.sample({{"segment", each.name}}, each.info.size_bytes);
  Metric linked(out, "brim_segment_linked", "gauge",
                "1 while the name leads to the segment that was read.");
  for (const Reading& each : segments) {
    linked.sample({{"segment", each.name}}, each.info.linked ? 1 : 0);
  }
  Metric created(out, "brim_segment_created_timestamp_seconds", "gauge",
                 "When the segment was made, since 1970; another one has another time.");
  for (const Reading& each : segments) {
    created.sample({{"segment", each.name}}, seconds(each.info.created_wall_ns));
  }
  Metric attached(out, "brim_attached_processes", "gauge",
                  "Processes that are attached and not known to be dead.");
  for (const Reading& each : segments) attached.sample({{"segment", each.name}}, each.attached);
}

void write_snapshots(std::string& out, const Readings& segments) {
  Metric generation(out, "brim_snapshot_generation", "gauge",
                    "Number of the last snapshot; 0: none was taken.");
  for (const Reading& each : segments) {
    generation.sample({{"segment", each.name}}, each.info.snapshot_generation);
  }
  Metric failures(out, "brim_snapshot_failures", "gauge",
                  "Tries to write a snapshot that failed since the last one.");
  for (const Reading& each : segments) {
    failures.sample({{"segment", each.name}}, each.info.snapshot_failures);
  }
  Metric age(out, "brim_snapshot_age_seconds", "gauge", "Time since the last snapshot.");
  for (const Reading& each : segments) {
    if (each.info.snapshot_generation == 0) continue;
    age.sample({{"segment", each.name}}, seconds(each.info.snapshot_age_ns));
  }
  Metric took(out, "brim_snapshot_duration_seconds", "gauge", "Time the last snapshot took.");
  for (const Reading& each : segments) {
    if (each.info.snapshot_generation == 0) continue;
    took.sample({{"segment", each.name}}, seconds(each.info.snapshot_duration_ns));
  }
  Metric rows(out, "brim_snapshot_rows", "gauge", "Keys in the last snapshot.");
  for (const Reading& each : segments) {
    if (each.info.snapshot_generation == 0) continue;
    rows.sample({{"segment", each.name}}, each.info.snapshot_rows);
  }
}

std::optional<std::string> seconds(std::optional<int64_t> ns) {
  return ns.has_value() ? std::optional(seconds(*ns)) : std::nullopt;
}

// Of segments that share something; what is not known has no sample.
struct TierMetric {
  const char* name;
  const char* type;
  const char* help;
  std::optional<std::string> (*value)(const TierLook& look);
};
constexpr TierMetric kTierMetrics[] = {
    {"brim_tier_up", "gauge", "1 while an agent is at work and the store answers it.",
     [](const TierLook& look) { return std::optional(join(look.state() == TierState::kUp)); }},
    {"brim_tier_agent_age_seconds", "gauge", "Time since an agent was at work.",
     [](const TierLook& look) { return seconds(look.agent_age_ns()); }},
    {"brim_tier_exchange_age_seconds", "gauge", "Time since the store last answered.",
     [](const TierLook& look) { return seconds(look.exchange_age_ns()); }},
    {"brim_tier_lag_seconds", "gauge",
     "The longest time of the last exchange from a use to the answer about it.",
     [](const TierLook& look) {
       return std::optional(seconds(std::max<int64_t>(look.status().lag_ns, 0)));
     }},
    {"brim_tier_nodes", "gauge", "Nodes that have met.",
     [](const TierLook& look) { return std::optional(join(look.status().nodes)); }},
    {"brim_tier_share_ratio", "gauge",
     "Part of each rate that this node takes, below 1 while away.",
     [](const TierLook& look) { return std::optional(ratio(look.status().share_ppm)); }},
    {"brim_tier_keys_near", "gauge", "Keys that are exchanged now.",
     [](const TierLook& look) { return std::optional(join(look.status().keys_near)); }},
    {"brim_tier_overshoot_permits", "gauge", "The most by which a key was found over its burst.",
     [](const TierLook& look) { return std::optional(join(look.status().overshoot_permits)); }},
    {"brim_tier_calls_total", "counter", "Round trips to the store.",
     [](const TierLook& look) { return std::optional(join(look.status().calls)); }},
    {"brim_tier_pushes_total", "counter", "Keys told to the store.",
     [](const TierLook& look) { return std::optional(join(look.status().pushes)); }},
    {"brim_tier_errors_total", "counter", "Exchanges that failed.",
     [](const TierLook& look) { return std::optional(join(look.status().errors)); }},
    {"brim_tier_unknown_total", "counter", "Pushes of which nobody knows whether they were done.",
     [](const TierLook& look) { return std::optional(join(look.status().unknown)); }},
    {"brim_tier_healed_total", "counter", "Buckets that the store had lost and was given again.",
     [](const TierLook& look) { return std::optional(join(look.status().healed)); }},
    {"brim_tier_strict_calls_total", "counter", "Requests of strict policies that asked the store.",
     [](const TierLook& look) { return std::optional(join(look.status().strict_calls)); }},
    {"brim_tier_strict_errors_total", "counter", "Of these, not answered.",
     [](const TierLook& look) { return std::optional(join(look.status().strict_errors)); }},
};

void write_tiers(std::string& out, const Readings& segments) {
  const bool any = std::any_of(segments.begin(), segments.end(),
                               [](const Reading& each) { return each.tier.told(each.policies); });
  if (!any) return;
  for (const TierMetric& each : kTierMetrics) {
    Metric metric(out, each.name, each.type, each.help);
    for (const Reading& segment : segments) {
      if (!segment.tier.told(segment.policies)) continue;
      const std::optional<std::string> value = each.value(segment.tier);
      if (value.has_value()) metric.sample({{"segment", segment.name}}, *value);
    }
  }
}

}  // namespace

absl::StatusOr<Reading> read_segment(const std::string& name, const Options& options) {
  const absl::StatusOr<Inspector> inspector = Inspector::attach(name, options);
  if (!inspector.ok()) return inspector.status();
  Reading reading{escape_key(name),
                  inspector->info(),
                  inspector->policies(),
                  inspector->counters(),
                  inspector->occupancy(),
                  0,
                  {}};
  for (const AttachedInfo& process : inspector->attached()) {
    reading.attached += process.alive || !process.same_namespace ? 1 : 0;
  }
  absl::StatusOr<TierLook> tier = TierLook::at(name, options);
  if (!tier.ok()) return tier.status();
  reading.tier = *std::move(tier);
  return reading;
}

std::string metrics_text(const std::vector<std::string>& names, const Readings& segments) {
  std::string out;
  Metric build(out, "brim_build_info", "gauge", "1, with the version of the program that reads.");
  build.sample({{"version", BRIM_VERSION}}, uint64_t{1});
  write_up(out, names, segments);
  write_policies(out, segments);
  write_policy_info(out, segments);
  write_table(out, segments);
  write_probe_lengths(out, segments);
  write_snapshots(out, segments);
  write_tiers(out, segments);
  return out;
}

std::vector<std::string> each_once(const std::vector<std::string>& names) {
  std::vector<std::string> once;
  for (const std::string& name : names) {
    if (std::find(once.begin(), once.end(), name) == once.end()) once.push_back(name);
  }
  return once;
}

namespace {

// Readers of the file see the old text or the new one, never a part.
absl::Status write_file(const std::string& path, const std::string& text) {
  const auto failed = [&path](const char* what) {
    return absl::PermissionDeniedError(join("output_unwritable: --output '", escape_text(path),
                                            "': ", what, ": ", std::strerror(errno),
                                            "; give a file in a directory that can be written"));
  };
  const std::string temporary = join(path, ".", getpid(), ".new");
  ::unlink(temporary.c_str());  // of a process of the same number, or made by somebody else
  const int fd =
      open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
  if (fd < 0) return failed("open");
  size_t done = 0;
  while (done < text.size()) {
    const ssize_t n = write(fd, text.data() + done, text.size() - done);
    if (n < 0 && errno != EINTR) break;
    if (n > 0) done += static_cast<size_t>(n);
  }
  absl::Status status = done == text.size() ? absl::OkStatus() : failed("write");
  if (close(fd) != 0 && status.ok()) status = failed("close");
  if (status.ok() && rename(temporary.c_str(), path.c_str()) != 0) status = failed("rename");
  if (!status.ok()) unlink(temporary.c_str());
  return status;
}

int run_metrics(const MetricsArgs& args) {
  const absl::StatusOr<Options> options = trusting_options(args.owner, args.group);
  if (!options.ok()) return report(options.status());
  const std::vector<std::string> names = each_once(args.names);
  Readings segments;
  int code = kExitOk;
  for (const std::string& name : names) {
    absl::StatusOr<Reading> reading = read_segment(name, *options);
    if (reading.ok()) {
      segments.push_back(*std::move(reading));
    } else {  // the others are told all the same
      code = report(reading.status());
    }
  }
  const std::string out = metrics_text(names, segments);
  if (args.output.empty()) {
    emit(out);
    return finish(code);
  }
  const absl::Status status = write_file(args.output, out);
  return status.ok() ? finish(code) : report(status);
}

}  // namespace

void add_metrics_command(Command& brim) {
  const auto args = std::make_shared<MetricsArgs>();
  Command command = brim.add("metrics", "Print counters and sizes in Prometheus' text format");
  command.option("NAME", args->names, "Segments, by name or absolute path").required();
  command.option("--output", args->output,
                 "Write this file, all at once, for node_exporter's textfile collector");
  command.trust(*args);
  command.footer(
      "Examples:\n"
      "  brim metrics api\n"
      "  brim metrics api login --output /var/lib/node_exporter/brim.prom");
  command.action([args] { return run_metrics(*args); });
}

}  // namespace brim::tools
