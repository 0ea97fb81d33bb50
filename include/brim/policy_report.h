// SPDX-License-Identifier: MIT
// What a policy costs and what it guarantees, worked out before it is in force. Plain values; any
// thread.
#ifndef BRIM_POLICY_REPORT_H_
#define BRIM_POLICY_REPORT_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "brim/policy.h"

namespace brim {

struct RateReport {
  std::string text;            // canonical
  uint64_t bytes_per_key = 0;  // its slot, and the cells of a log or of leases
  // The worst case within any period of the rate (a month: 28 days), for calls of one permit.
  int64_t period_ns = 0;   // 0: not in time (concurrency, unlimited, deny)
  std::string period;      // the same as text, "10s"
  uint64_t admitted = 0;   // by this rate alone
  uint64_t started = 0;    // by this rate alone, if each call waits as told (queue)
  uint64_t by_policy = 0;  // by all rates together
  uint64_t at_once = 0;    // concurrency: leases
  bool any_cost = false;   // one call of c permits may add c - 1 to that

  static constexpr uint64_t kUnbounded = ~uint64_t{0};
};

struct PolicyFinding {
  bool warning = false;   // else a note: what the rule means, though a reader may not expect it
  std::string_view name;  // such as "never_binds"; does not change
  std::string what;
};

struct PolicyReport {
  std::string text;  // canonical
  std::vector<RateReport> rates;
  uint64_t bytes_per_key = 0;  // of all rates and of bans, with `name_bytes` for each slot
  std::vector<PolicyFinding> findings;
};

// `name_bytes`: text of the key that is kept for tools, per slot. REQUIRES: validate(policy) is ok.
PolicyReport report_policy(const Policy& policy, uint32_t name_bytes = 0);

}  // namespace brim

#endif  // BRIM_POLICY_REPORT_H_
