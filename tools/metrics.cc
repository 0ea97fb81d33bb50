// SPDX-License-Identifier: MIT
#include "metrics.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>
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

// What one segment tells, read once, so that its samples belong together.
struct Reading {
  std::string name;
  SegmentInfo info;
  std::vector<PolicyInfo> policies;
  std::vector<Counter> counters;
  Occupancy occupancy;
  uint64_t attached = 0;
};

bool is_verdict(const std::string& counter) {
  return counter == "allowed" || counter == "denied" || counter == "unavailable";
}

void write_up(std::string& out, const std::vector<std::string>& names,
              const std::vector<Reading>& segments) {
  Metric up(out, "brim_up", "gauge", "1 if the segment could be read.");
  for (const std::string& name : names) {
    const bool read = std::any_of(segments.begin(), segments.end(), [&](const Reading& each) {
      return each.name == escape_key(name);
    });
    up.sample({{"segment", escape_key(name)}}, uint64_t{read});
  }
}

void write_policies(std::string& out, const std::vector<Reading>& segments) {
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
      const std::string millionths = std::to_string(1000000 + policy.factor_ppm % 1000000);
      factor.sample({{"segment", each.name}, {"policy", escape_key(policy.name)}},
                    join(policy.factor_ppm / 1000000, ".", millionths.substr(1)));
    }
  }
}

void write_table(std::string& out, const std::vector<Reading>& segments) {
  Metric events(out, "brim_table_events_total", "counter",
                "Events of the table; brim info describes each.");
  for (const Reading& each : segments) {
    for (const Counter& counter : each.counters) {
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
  Metric size(out, "brim_segment_size_bytes", "gauge", "Size of the segment.");
  for (const Reading& each : segments) size.sample({{"segment", each.name}}, each.info.size_bytes);
  Metric linked(out, "brim_segment_linked", "gauge",
                "1 while the name leads to the segment that was read.");
  for (const Reading& each : segments) {
    linked.sample({{"segment", each.name}}, each.info.linked ? 1 : 0);
  }
  Metric attached(out, "brim_attached_processes", "gauge",
                  "Processes that are attached and not known to be dead.");
  for (const Reading& each : segments) attached.sample({{"segment", each.name}}, each.attached);
}

void write_snapshots(std::string& out, const std::vector<Reading>& segments) {
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

absl::StatusOr<Reading> read_segment(const std::string& name, const Options& options) {
  const absl::StatusOr<Inspector> inspector = Inspector::attach(name, options);
  if (!inspector.ok()) return inspector.status();
  Reading reading{escape_key(name),      inspector->info(),      inspector->policies(),
                  inspector->counters(), inspector->occupancy(), 0};
  for (const AttachedInfo& process : inspector->attached()) {
    reading.attached += process.alive || !process.same_namespace ? 1 : 0;
  }
  return reading;
}

// Readers of the file see the old text or the new one, never a part.
absl::Status write_file(const std::string& path, const std::string& text) {
  const auto failed = [&path](const char* what) {
    return absl::PermissionDeniedError(join("output_unwritable: --output '", escape_text(path),
                                            "': ", what, ": ", std::strerror(errno),
                                            "; give a file in a directory that can be written"));
  };
  const std::string temporary = join(path, ".", getpid(), ".new");
  const int fd =
      open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0644);
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
  std::vector<std::string> names;  // each once: two samples of a name are refused by a scrape
  for (const std::string& name : args.names) {
    if (std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
  }
  std::vector<Reading> segments;
  int code = kExitOk;
  for (const std::string& name : names) {
    absl::StatusOr<Reading> reading = read_segment(name, *options);
    if (reading.ok()) {
      segments.push_back(*std::move(reading));
    } else {  // the others are told all the same
      code = report(reading.status());
    }
  }
  std::string out;
  write_up(out, names, segments);
  write_policies(out, segments);
  write_table(out, segments);
  write_snapshots(out, segments);
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
