// SPDX-License-Identifier: MIT
// What a replay found, and how it is printed.
#ifndef BRIM_TOOLS_REPLAY_REPORT_H_
#define BRIM_TOOLS_REPLAY_REPORT_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "brim/policy.h"
#include "replay_stats.h"

namespace brim::replay {

// Numbers of one kind over all clients.
struct Distribution {
  uint32_t median = 0;
  uint32_t percentile = 0;  // the one asked for
  uint32_t most = 0;
};
Distribution distribution(const std::vector<uint32_t>& values, Percentile percentile);

struct BrokenLine {
  std::string file;
  uint64_t line = 0;
  std::string reason;
};

struct WindowReport {
  int64_t window_ns = 0;
  uint64_t all = 0;  // requests of all clients together
  int64_t all_at_ns = 0;
  Distribution client;
};

struct RefusedClient {
  std::string key;
  uint64_t requests = 0;
  uint64_t refused = 0;
};

struct PolicyReport {
  std::string name;
  Policy policy;
  uint64_t admitted = 0;
  uint64_t refused = 0;
  uint64_t undecided = 0;
  uint64_t evicted = 0;
  uint64_t shadow = 0;
  uint64_t clients_refused = 0;
  int64_t first_refusal_ns = 0;
  std::string first_refused_key;
  std::vector<RefusedClient> top;
  std::optional<WindowReport> period;  // none: no one length, or several
  std::string no_burst;                // why least_burst and suggestion were not computed
  Distribution least_burst;
  Suggestion suggestion;
};

struct Report {
  uint64_t lines = 0;  // not counting empty ones
  uint64_t empty = 0;
  uint64_t requests = 0;  // lines that could be read
  uint64_t broken = 0;
  std::vector<BrokenLine> first_broken;
  uint64_t out_of_order = 0;
  uint64_t late = 0;
  int64_t reorder_ns = 0;
  int64_t first_ns = 0;
  int64_t last_ns = 0;
  int64_t resolution_ns = 0;
  bool spread = false;
  std::string key_fields;
  uint64_t clients = 0;
  Percentile percentile;
  std::vector<WindowReport> windows;
  std::vector<PolicyReport> policies;
};

// A client's key as the reports show it: its parts escaped, with a blank between them.
std::string shown_key(const std::string& key);
std::vector<std::string> warnings(const Report& report);
std::string report_table(const Report& report);
std::string report_json(const Report& report);

}  // namespace brim::replay

#endif  // BRIM_TOOLS_REPLAY_REPORT_H_
