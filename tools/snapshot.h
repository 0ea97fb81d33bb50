// SPDX-License-Identifier: MIT
// agent, snapshot, restore: the segment's state in a file.
#ifndef BRIM_TOOLS_SNAPSHOT_H_
#define BRIM_TOOLS_SNAPSHOT_H_

#include <string>

#include "brim/snapshot.h"
#include "output.h"
#include "tier.h"

namespace brim::tools {

class Command;

struct AgentArgs {
  std::string name;
  std::string file;
  std::string interval = "10s";
  std::string sweep = "1h";
  std::string busy_timeout = "5s";
  std::string synchronous = "full";
  uint32_t keep = 0;
  std::string owner;
  std::string group;
  bool restore = false;
  bool sync_on_exit = true;
  TierArgs tier;
};
int run_agent(const AgentArgs& args);

// A duration as people write it, "10s" or "1m30s", from `least` on.
absl::StatusOr<int64_t> parse_duration(const std::string& option, const std::string& text,
                                       int64_t least);
// A time since 1970 in UTC, to the millisecond.
std::string iso_time(int64_t wall_ns);
std::string restore_text(const RestoreReport& report);
absl::StatusOr<SnapshotOptions> snapshot_options(const AgentArgs& args);

void add_snapshot_commands(Command& brim);

}  // namespace brim::tools

#endif  // BRIM_TOOLS_SNAPSHOT_H_
