// SPDX-License-Identifier: MIT
#include "stats.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "cli.h"
#include "output.h"
#include "repeat.h"
#include "snapshot.h"

namespace brim::tools {

namespace {

struct StatsArgs {
  std::string name;
  std::string interval = "1s";
  std::optional<std::string> count;
  std::string owner;
  std::string group;
  std::string format = "table";
  bool once = false;
};

// One number that tells what it is.
struct Stat {
  std::string policy;  // empty: of the segment
  std::string name;
  const char* kind;  // counter: only grows, and rates mean something; gauge: what is now
  const char* unit;
  uint64_t value = 0;
  std::string description;

  bool counts() const { return kind[0] == 'c'; }
};

struct Reading {
  int64_t at_ns = 0;
  int64_t wall_ns = 0;
  SegmentInfo info;
  std::vector<Stat> stats;
};

class Reader {
 public:
  Reading read(const Inspector& inspector) {
    Reading reading;
    reading.at_ns = monotonic_ns();
    reading.wall_ns = wall_ns();
    reading.info = inspector.info();
    for (const PolicyInfo& policy : inspector.policies()) {
      for (const Counter& counter : policy.counters) {
        // Refunds are of permits, all others of calls; evictions are of keys.
        const char* const unit = counter.name == "refunded"  ? "permits"
                                 : counter.name == "evicted" ? "keys"
                                                             : "calls";
        reading.stats.push_back(
            {policy.name, counter.name, "counter", unit, counter.value, counter.description});
      }
      reading.stats.push_back({policy.name, "factor_ppm", "gauge", "ppm", policy.factor_ppm,
                               "share of the policy's rate in force, in parts per million"});
    }
    for (const Counter& counter : inspector.counters()) {
      reading.stats.push_back(
          {"", counter.name, "counter", "events", counter.value, counter.description});
    }
    gauges(inspector, reading);
    return reading;
  }
  void forget() { occupancy_.forget(); }

 private:
  void gauges(const Inspector& inspector, Reading& reading) {
    const auto gauge = [&reading](const char* name, const char* unit, uint64_t value,
                                  const char* description) {
      reading.stats.push_back({"", name, "gauge", unit, value, description});
    };
    const SegmentInfo& info = reading.info;
    const Occupancy& slots = occupancy_.read(inspector);
    gauge("slots", "slots", info.slots, "slots of the table");
    gauge("slots_live", "slots", slots.live, "slots of keys that have used permits");
    gauge("slots_idle", "slots", slots.idle, "slots of keys that have all their permits");
    gauge("slots_tentative", "slots", slots.tentative, "slots with an insertion under way");
    gauge("slots_free", "slots", slots.free, "slots that were used and are free");
    gauge("slots_virgin", "slots", slots.virgin, "slots that were never used");
    gauge("reach", "groups", info.groups_in_use, "groups of a key's window in use");
    gauge("probe_limit", "groups", info.probe_limit, "groups of a key's window");
    uint64_t attached = 0;
    for (const AttachedInfo& process : inspector.attached()) {
      attached += process.alive || !process.same_namespace ? 1 : 0;
    }
    gauge("attached", "processes", attached, "processes attached and not known to be dead");
    gauge("size_bytes", "bytes", info.size_bytes, "size of the segment");
    gauge("snapshot_generation", "snapshots", info.snapshot_generation,
          "number of the last snapshot; 0: there was none");
    gauge("snapshot_age_ns", "ns", static_cast<uint64_t>(info.snapshot_age_ns),
          "time since the last snapshot");
    gauge("snapshot_duration_ns", "ns", static_cast<uint64_t>(info.snapshot_duration_ns),
          "time that the last snapshot took");
    gauge("snapshot_rows", "keys", info.snapshot_rows, "keys in the last snapshot");
    gauge("snapshot_failures", "tries", info.snapshot_failures,
          "tries to write a snapshot that failed since the last one");
  }

  OccupancyReader occupancy_;
};

// "12.3" of 123 in 10 s.
std::string per_second(uint64_t amount, int64_t ns) {
  char text[48];
  std::snprintf(text, sizeof(text), "%.1f",
                static_cast<double>(amount) * 1e9 / static_cast<double>(std::max<int64_t>(ns, 1)));
  return text;
}

// Writes readings in one of the formats.
class Writer {
 public:
  Writer(Format format, std::string segment, bool again)
      : format_(format), segment_(std::move(segment)), again_(again) {}

  // Forgets the reading before: it was of another segment.
  void forget() { before_.clear(); }

  void write(const Reading& reading) {
    std::vector<Line> lines;
    const int64_t age = reading.wall_ns - reading.info.created_wall_ns;
    for (const Stat& stat : reading.stats) {
      Line line{stat, "", ""};
      if (stat.counts()) {
        const auto found = before_.find({stat.policy, stat.name});
        // A counter that went back is of somebody who writes there; a rate would be nonsense.
        if (found != before_.end() && stat.value >= found->second) {
          line.rate = per_second(stat.value - found->second, reading.at_ns - before_ns_);
        }
        if (age > 0) line.average = per_second(stat.value, age);
      }
      lines.push_back(std::move(line));
    }
    emit(format_ == Format::kJson  ? json(reading, lines)
         : format_ == Format::kCsv ? csv(reading, lines)
                                   : rows(reading, lines));
    before_ns_ = reading.at_ns;
    before_.clear();
    for (const Stat& stat : reading.stats) before_[{stat.policy, stat.name}] = stat.value;
    first_ = false;
  }

 private:
  struct Line {
    const Stat& stat;
    std::string rate;     // since the reading before
    std::string average;  // since the segment was made
  };

  std::string rows(const Reading& reading, const std::vector<Line>& lines) const {
    std::vector<std::vector<std::string>> rows = {
        {"POLICY", "NAME", "VALUE", "RATE/S", "AVERAGE/S", "MEANING"}};
    for (const Line& line : lines) {
      const Stat& stat = line.stat;
      rows.push_back({stat.policy.empty() ? "-" : escape_key(stat.policy), stat.name,
                      std::to_string(stat.value), line.rate.empty() ? "-" : line.rate,
                      line.average.empty() ? "-" : line.average,
                      join(stat.description, stat.counts() ? "" : join(" (", stat.unit, ")"))});
    }
    std::string head = again_ ? join(first_ ? "" : "\n", iso_time(reading.wall_ns), "  ",
                                     escape_key(segment_), "\n")
                              : "";
    return head + table(rows, {2, 3, 4});
  }

  // One value, or if there are more of them one line each.
  std::string json(const Reading& reading, const std::vector<Line>& lines) const {
    JsonWriter json;
    const auto line_break = [&]() -> JsonWriter& { return again_ ? json : json.line(); };
    json.begin('{').field("version", 1).field("segment", segment_);
    json.field("uuid", reading.info.uuid).field("linked", reading.info.linked);
    json.field("wall_ns", reading.wall_ns);
    json.field("created_wall_ns", reading.info.created_wall_ns).name("counters").begin('[');
    for (const Line& line : lines) {
      const Stat& stat = line.stat;
      line_break().begin('{').field("name", stat.name).name("policy");
      stat.policy.empty() ? json.null() : json.value(stat.policy);
      json.field("kind", stat.kind).field("unit", stat.unit).field("value", stat.value);
      json.name("rate");
      line.rate.empty() ? json.null() : json.literal(line.rate);
      json.name("average");
      line.average.empty() ? json.null() : json.literal(line.average);
      json.field("description", stat.description).end('}');
    }
    return line_break().end(']').end('}').take() + "\n";
  }

  std::string csv(const Reading& reading, const std::vector<Line>& lines) const {
    std::string out;
    if (first_) {
      out = csv_row(
          {"time", "policy", "name", "kind", "unit", "value", "rate", "average", "description"});
    }
    const std::string time = iso_time(reading.wall_ns);
    for (const Line& line : lines) {
      const Stat& stat = line.stat;
      out += csv_row({time, escape_key(stat.policy), stat.name, stat.kind, stat.unit,
                      std::to_string(stat.value), line.rate, line.average, stat.description});
    }
    return out;
  }

  Format format_;
  std::string segment_;
  bool again_;
  bool first_ = true;
  int64_t before_ns_ = 0;
  std::map<std::pair<std::string, std::string>, uint64_t> before_;
};

int run_stats(const StatsArgs& args) {
  const absl::StatusOr<Format> format = parse_format(args.format);
  if (!format.ok()) return report(format.status());
  absl::StatusOr<Repeat> repeat = parse_repeat(args.interval, args.count);
  if (!repeat.ok()) return report(repeat.status());
  absl::StatusOr<Followed> segment = Followed::attach(args.name, args.owner, args.group);
  if (!segment.ok()) return report(segment.status());
  if (args.once || (!args.count.has_value() && isatty(STDOUT_FILENO) == 0)) repeat->count = 1;
  StopSignals signals;
  Reader reader;
  Writer writer(*format, args.name, repeat->count != 1);
  int64_t next = monotonic_ns();
  for (uint64_t done = 1;; ++done) {
    if (segment->follow()) {
      reader.forget();
      writer.forget();
    }
    writer.write(reader.read(**segment));
    if (!delivered() || done == repeat->count) break;
    if (!signals.rest(next, repeat->interval_ns)) break;
  }
  return finish_repeat();
}

}  // namespace

void add_stats_command(Command& brim) {
  const auto args = std::make_shared<StatsArgs>();
  Command command = brim.add("stats", "Print every counter and gauge, once or with rates");
  command.segment(*args);
  command.flag("-1,--once", args->once, "Print once, also on a terminal");
  command.option("--interval", args->interval, "Time between two readings (default 1s)");
  command.option("--count", args->count,
                 "End after so many readings (default: on a terminal without end, else 1)");
  command.option("--format", args->format, kFormatHelp);
  command.trust(*args);
  command.footer(
      "Rates are since the reading before, averages since the segment was made.\n"
      "Examples:\n"
      "  brim stats api\n"
      "  brim stats api -1 --format json | jq '.counters[] | select(.policy == null)'\n"
      "  brim stats api --interval 10s --count 6 --format csv > stats.csv");
  command.action([args] { return run_stats(*args); });
}

}  // namespace brim::tools
