// SPDX-License-Identifier: MIT
// A policy as a person writes it: "100/m burst 20", "10/s; 1000/h", "fixed-window 5000/d
// utc+02:00", "concurrency 8 ttl 30s", "sliding-log 100/m ban 20 in 1m for 10m". Plain values; safe
// to copy and to use from any thread.
#ifndef BRIM_POLICY_H_
#define BRIM_POLICY_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace brim {

// The rule that decides; docs/concepts/algorithms.md says which to choose. Token bucket and leaky
// bucket (as a meter) are the same function as GCRA; the names differ only in what a user expects
// to read in a dump.
enum class Algorithm : uint8_t {
  kGcra = 1,
  kTokenBucket = 2,
  kLeakyBucket = 3,
  kQueue = 4,           // leaky bucket as a queue: admits with a start delay
  kFixedWindow = 5,     // aligned to the wall clock, or opened by the first hit
  kCalendarWindow = 6,  // hour, day, week, month or year of the wall clock
  kSlidingLog = 7,      // exact; 8 bytes more a permit of the limit
  kSlidingCounter = 8,  // two counts, weighted
  kConcurrency = 9,     // leases: at most `limit` at once, each for at most `period_ns`
  kUnlimited = 10,      // admits everything, counts nothing
  kDeny = 11,           // refuses everything
};

// What a call answers when brim can not decide (see Verdict::kUnavailable).
enum class OnUnavailable : uint8_t { kAllow = 0, kDeny = 1 };

// Whose requests a policy counts: this node's (one segment), or those of all nodes that share a
// store (brim/tier.h). kStrict: each request that this node would admit asks the store.
enum class PolicyScope : uint8_t { kNode = 0, kCluster = 1, kStrict = 2 };

enum class CalendarUnit : uint8_t { kNone = 0, kHour, kDay, kWeek, kMonth, kYear };

// Classes of requests on one bucket: a lower class is refused earlier.
enum class Priority : uint8_t { kLow = 0, kNormal = 1, kHigh = 2, kCritical = 3 };

// One rate. Which fields matter depends on the algorithm; the others keep their defaults.
struct Rate {
  Algorithm algorithm = Algorithm::kGcra;
  uint32_t limit = 0;      // permits per period; concurrency: leases at once
  int64_t period_ns = 0;   // concurrency: the longest life of a lease
  uint32_t burst = 0;      // buckets: most permits from idle at one instant; queue: who may wait
  uint32_t debt = 0;       // buckets: permits that may be owed beyond the burst
  uint32_t undelayed = 0;  // queue: so many permits start at once; kAllUndelayed: all
  bool forward = false;    // buckets: admits by what is owed before the charge, whatever the cost
  bool first_hit = false;  // fixed window: opened by the first admitted call
  bool inclusive = false;  // sliding log: an event exactly one period old still counts
  bool count_denied = false;  // fixed window, sliding counter: refused calls count too
  bool floor_weight = false;  // sliding counter: the weighted part is rounded down
  CalendarUnit calendar = CalendarUnit::kNone;  // calendar window; period_ns is then 0
  int32_t utc_offset_s = 0;                     // aligned and calendar windows
  int64_t ahead_ns = kDefaultAheadNs;           // buckets: how far ahead reserve() may book

  static constexpr uint32_t kAllUndelayed = 0xffffffff;
  static constexpr int64_t kDefaultAheadNs = int64_t{60} * 1000000000;
  friend bool operator==(const Rate&, const Rate&) = default;
};

// After `after` refusals within `within_ns` a key is barred for `for_ns`, the next time `factor`
// times as long, at most `max_ns`. How often a key was barred is forgotten once it has stayed
// away for as long as its last ban took. While it is barred, calls only read.
struct Ban {
  uint32_t after = 0;  // 0: no bans
  int64_t within_ns = 0;
  int64_t for_ns = 0;
  uint32_t factor = 1;
  int64_t max_ns = 0;
  friend bool operator==(const Ban&, const Ban&) = default;
};

struct Policy {
  std::vector<Rate> rates = {};  // 1 .. kMaxRates; all or nothing
  OnUnavailable on_unavailable = OnUnavailable::kAllow;
  // Per cent of the burst or limit that a class may use: low, normal, high. Critical: all.
  uint8_t class_percent[3] = {100, 100, 100};
  uint8_t enforced_percent = 100;       // of the keys; the others are refused in shadow only
  uint32_t warm_up_from_ppm = 1000000;  // the rate at the start, in parts per million, which
  int64_t warm_up_ns = 0;               // grows evenly to the whole rate over this time
  Ban ban = {};
  PolicyScope scope = PolicyScope::kNode;  // buckets and queues only, but for kNode

  friend bool operator==(const Policy&, const Policy&) = default;
};

// Largest values a policy may hold.
inline constexpr int64_t kMaxPeriodNs = int64_t{100} * 365 * 86400 * 1000000000;
inline constexpr int64_t kMaxWarmUpNs = int64_t{86400} * 1000000000;
inline constexpr uint32_t kMaxBurst = 0xffffffff;
inline constexpr uint32_t kMaxCost = uint32_t{1} << 31;
inline constexpr size_t kMaxRates = 7;

// Reads a policy's text. Grammar, case-insensitive, blanks free between words:
//   RATE [; RATE]... [OPTION]...   |  unlimited  |  deny
//   RATE   [ALGORITHM] LIMIT [r|req|requests|permits] / [N] UNIT [CLAUSE]...
//          concurrency N [ttl TIME]
//   ALGORITHM  gcra token-bucket leaky-bucket queue fixed-window calendar-window sliding-log
//              sliding-counter
//   CLAUSE  burst B | debt D | forward | delay-after N | no-delay | ahead TIME | aligned |
//           first-hit | utc+HH:MM | inclusive | count-denied | floor
//   OPTION  scope node|cluster [strict] | on-unavailable allow|deny | classes L N H (per cent) |
//   shadow | enforce P% |
//           warm-up X% over TIME | ban K in TIME for TIME [times F] [max TIME]
// UNIT is ns us ms s sec second(s) m min minute(s) h hour(s) d day(s) w week(s) y year(s), and
// month(s) for calendar windows. Without a burst clause the burst is the limit.
// Errors: InvalidArgument that names the text and the remedy, and the column of what can not be
// read.
absl::StatusOr<Policy> parse_policy(std::string_view text);

// The one canonical spelling; parse_policy(policy_text(p)) == p.
std::string policy_text(const Policy& policy);

// Checks ranges, that clauses fit their algorithm, and that every state fits its word.
absl::Status validate(const Policy& policy);

// True for 1 to 47 characters of [A-Za-z0-9._-].
bool valid_policy_name(std::string_view name);

}  // namespace brim

#endif  // BRIM_POLICY_H_
