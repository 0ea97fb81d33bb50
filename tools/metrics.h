// SPDX-License-Identifier: MIT
// metrics: a segment's counters in Prometheus' text format.
#ifndef BRIM_TOOLS_METRICS_H_
#define BRIM_TOOLS_METRICS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "brim/inspect.h"
#include "tier_view.h"

namespace brim::tools {

class Command;

// What one segment tells, read once, so that its samples belong together.
struct Reading {
  std::string name;  // escaped
  SegmentInfo info;
  std::vector<PolicyInfo> policies;
  std::vector<Counter> counters;
  Occupancy occupancy;
  uint64_t attached = 0;
  TierLook tier;
};
absl::StatusOr<Reading> read_segment(const std::string& name, const Options& options);

// The metrics of all `names`; those without a reading are told to be down.
std::string metrics_text(const std::vector<std::string>& names,
                         const std::vector<Reading>& segments);

// Without repetitions: a scrape refuses two samples of one name.
std::vector<std::string> each_once(const std::vector<std::string>& names);

void add_metrics_command(Command& brim);

}  // namespace brim::tools

#endif  // BRIM_TOOLS_METRICS_H_
