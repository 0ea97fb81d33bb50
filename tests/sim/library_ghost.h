// SPDX-License-Identifier: MIT
// What the simulated calls of the library are held to. Knows the words of every version of each
// policy, and for every call when it began and ended, by the clock and by the order of events.
#ifndef BRIM_TESTS_SIM_LIBRARY_GHOST_H_
#define BRIM_TESTS_SIM_LIBRARY_GHOST_H_

#include <cstdint>

#include "src/call.h"
#include "tests/sim/library_plan.h"

namespace brim::sim {

inline constexpr uint32_t kMostVersions = 24;
inline constexpr uint32_t kMostCalls = 256;
inline constexpr uint32_t kMostAsks = 3;
inline constexpr uint64_t kMostPoints = 200000;  // of one call

enum class OverrideState : uint8_t { kNone, kUnlimited, kDeny, kOther };

struct AskPlan {
  uint32_t policy = 0;
  uint32_t key = 0;
  uint32_t cost = 1;
};

enum class Kind : uint8_t { kAcquire, kGiveBack, kLease, kOther };

// One call of one fiber. Not finished at the end of a run: its fiber was killed.
struct CallRecord {
  Kind kind = Kind::kOther;
  const char* name = "";
  uint32_t asks = 0;
  AskPlan ask[kMostAsks];
  Priority priority = Priority::kNormal;
  int64_t begin = 0;
  int64_t end = 0;
  uint64_t serial = 0;
  uint64_t points = 0;
  uint32_t oldest[kMostAsks] = {};      // version that may still hold
  uint32_t oldest_use[kMostAsks] = {};  // the same of the key's override
  bool alone = false;
  bool refused_enough[kMostAsks] = {};  // earlier calls have banned the key
  int64_t barred_until[kMostAsks] = {};
  bool finished = false;
  bool was_killed = false;
};

struct LeaseRecord {
  bool live = false;
  uint32_t policy = 0;
  uint32_t key = 0;
  int64_t expires = 0;
};

struct Admission {
  uint32_t policy, key, cost;
  int64_t begin, end;
};

struct Totals {
  uint64_t runs, calls, admissions, denials, barred, shadowed, exempt, blocked, full, contended;
  uint64_t late_refusals, changes, torn_changes, leases, lease_denials, refunds, bookings, alone;
  uint64_t evictions, drained, checked_parts, most_points;
};

class LibraryGhost {
 public:
  void reset(const Plan& plan, const Engine& engine, const uint16_t* numbers);

  // Versions of a policy: what a replace() will publish, and that it has returned.
  void version_begins(uint32_t policy, const shm::PolicyWords& words);
  void version_done(uint32_t policy) { done_[policy] = begun_[policy]; }
  const shm::PolicyWords* any_version(uint32_t policy, const shm::PolicyWords& words,
                                      uint32_t oldest) const;
  // The same of the overrides of a policy's key.
  void use_begins(uint32_t policy, uint32_t key, OverrideState state);
  void use_done(uint32_t policy, uint32_t key) { use_done_[policy][key] = use_begun_[policy][key]; }

  CallRecord& begin(Kind kind, const char* name, const AskPlan* asks, uint32_t count,
                    Priority priority);
  void end(CallRecord& call, const Decision& decision, uint32_t charged_cost = ~0u);
  void end_other(CallRecord& call);
  // A call that may be refused more than once by itself.
  void tries_again(uint32_t policy, uint32_t key) { tries_[policy][key] += 16; }
  void booked(uint32_t policy, uint32_t key) { booked_[policy][key] = true; }
  void overcharged(uint32_t policy, uint32_t key, uint32_t cost) { over_[policy][key] += cost; }

  LeaseRecord* lease_taken(CallRecord& call, const Lease& lease);
  void count_points(const CallRecord& call);
  // The running fiber's call has taken more points than any call may.
  bool too_long() const {
    const CallRecord* const call = current_[world.running()];
    return call != nullptr && call->points > kMostPoints;
  }

  // Nobody runs any more.
  void collect_killed();
  void check_quiet();
  void check_bounds();

  uint32_t oldest(uint32_t policy) const { return done_[policy]; }
  bool may_fill() const { return may_fill_; }
  Totals totals = {};

 private:
  Quota effective(uint32_t policy, uint32_t version, uint32_t part, Priority priority) const;
  uint32_t rates(uint32_t policy) const { return plan_->policy[policy].rate_count; }
  uint64_t most_permits(uint32_t policy, uint32_t part) const;
  // A refund on a log may hit the passing charge of a call that loses a race (shm/cells.h).
  // Some version that may hold has a factor of 0, which refuses everything.
  bool may_be_stopped(uint32_t policy, uint32_t oldest) const;
  int64_t slack(uint32_t policy, uint32_t key, uint32_t part) const;
  void check_unavailable(const CallRecord& call, const Decision& decision);
  void check_alone(const CallRecord& call, const Decision& decision);
  void check_ban(const CallRecord& call, const Decision& decision);
  void check_over(uint32_t policy, uint32_t key);
  void drain(uint32_t policy, uint32_t key);
  void check_retry(uint32_t policy, uint32_t key);
  uint32_t held_version(uint32_t policy) const;
  uint64_t used(uint32_t policy, uint32_t key, uint32_t part) const;
  bool possible(uint32_t policy, uint32_t key, uint32_t oldest, OverrideState state) const;
  bool ambiguous(const CallRecord& call, uint32_t i) const;
  void check_window(uint32_t policy, uint32_t key, uint32_t part);

  const Plan* plan_ = nullptr;
  const Engine* engine_ = nullptr;
  uint16_t number_[kMostPolicies] = {};
  shm::PolicyWords versions_[kMostPolicies][kMostVersions];
  uint32_t begun_[kMostPolicies] = {};
  uint32_t done_[kMostPolicies] = {};
  OverrideState use_[kMostPolicies][kMostKeys][kMostVersions] = {};
  uint32_t use_begun_[kMostPolicies][kMostKeys] = {};
  uint32_t use_done_[kMostPolicies][kMostKeys] = {};
  CallRecord calls_[kMostCalls];
  const CallRecord* current_[kMaxFibers + 1] = {};
  uint32_t call_count_ = 0;
  uint32_t active_ = 0;
  uint64_t serial_ = 0;
  bool may_fill_ = false;
  int64_t charged_[kMostPolicies][kMostKeys] = {};   // admitted, less refunds that ended
  int64_t admitted_[kMostPolicies][kMostKeys] = {};  // admitted, less refunds that began
  int64_t refunded_[kMostPolicies][kMostKeys] = {};  // began
  int64_t killed_[kMostPolicies][kMostKeys] = {};    // cost of calls that were killed
  int64_t killed_back_[kMostPolicies][kMostKeys] = {};
  int64_t over_[kMostPolicies][kMostKeys] = {};
  bool booked_[kMostPolicies][kMostKeys] = {};
  uint32_t tries_[kMostPolicies][kMostKeys] = {};  // calls begun, less those admitted
  uint32_t refusals_[kMostPolicies][kMostKeys] = {};
  int64_t barred_until_[kMostPolicies][kMostKeys] = {};
  uint32_t priorities_[kMostPolicies] = {};
  LeaseRecord leases_[kMostCalls];
  uint32_t lease_count_ = 0;
  Admission admission_[kMostCalls * kMostAsks];
  uint32_t admission_count_ = 0;
};

inline LibraryGhost library_ghost;

extern const char* const kKeyNames[kMostKeys];

// library_run.cc
PolicyHandle handle_of(uint16_t number);
void advance_clock(int64_t ns);

inline bool by_debt(const Quota& quota) { return has(quota, kByDebtBefore); }

// The largest number that may be charged, in permits.
inline uint64_t capacity_of(const Quota& quota) {
  if (family(quota) == Family::kBucket) return quota.capacity >> quota.shift;
  if (family(quota) == Family::kCells) return std::min<uint64_t>(quota.capacity, kCellsPerKey);
  return quota.capacity;
}

// Would a call pass with `used` permits charged at this instant?
inline bool admits(const Quota& quota, uint64_t used, uint32_t cost) {
  if (has(quota, kWarped | kScaled) && quota.warp.factor_ppm == 0) return false;
  if (family(quota) == Family::kBucket && cost > quota.burst) return false;
  if (by_debt(quota)) return used <= capacity_of(quota);
  return used + cost <= capacity_of(quota);
}

inline bool is_unavailable(const Decision& decision) {
  return decision.verdict == Verdict::kUnavailable;
}

}  // namespace brim::sim

#endif  // BRIM_TESTS_SIM_LIBRARY_GHOST_H_
