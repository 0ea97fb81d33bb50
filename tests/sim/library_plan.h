// SPDX-License-Identifier: MIT
// A random scenario for the whole request path: policies as structures that become text, so that a
// live change can vary their numbers and keep their shape, and how the run is scheduled.
#ifndef BRIM_TESTS_SIM_LIBRARY_PLAN_H_
#define BRIM_TESTS_SIM_LIBRARY_PLAN_H_

#include <cstdint>
#include <string>

#include "tests/sim/world.h"

namespace brim::sim {

inline constexpr uint32_t kMostPolicies = 3;
inline constexpr uint32_t kMostKeys = 3;
inline constexpr uint32_t kMostOps = 6;  // of a fiber in one phase
inline constexpr uint32_t kMostWorkers = 4;
inline constexpr uint32_t kCellsPerKey = 8;

enum class Form : uint8_t {
  kGcra,
  kTokenBucket,
  kLeakyBucket,
  kForward,
  kQueue,
  kFixedWindow,
  kFirstHit,
  kCalendar,
  kLog,
  kCounter,
};
inline constexpr uint32_t kForms = 10;

struct RatePlan {
  Form form = Form::kGcra;
  uint32_t limit = 1;
  uint32_t burst = 1;
  uint32_t debt = 0;
  uint32_t period = 0;  // index of kPeriods
  bool loose = false;   // sliding-log inclusive, sliding-counter floor
};

struct PolicyPlan {
  bool leases = false;  // then rates[0] holds limit and ttl
  uint32_t rate_count = 1;
  RatePlan rates[3];
  uint32_t ban_after = 0;
  uint32_t ban_period = 0;
  uint32_t classes = 0;  // 0: none
  bool shadow = false;
  bool deny_unavailable = false;
  bool cluster = false;  // what is admitted is counted for other nodes
};

// What a defect that is known hides: such scenarios are left out on demand.
struct Leave {
  bool undo_time = false;    // refused calls of several parts while the clock moves
  bool shadow = false;       // shadow policies of several rates
  bool shadow_asks = false;  // shadow policies among other asks
  bool hybrid = false;       // changes that make a plain policy one with classes
  bool log_change = false;   // changes of policies with a log
  bool undo_log = false;     // several parts with a log among them
  bool stopped = false;      // a factor of 0, under which refunds are lost
  bool reserve = false;      // reserve() under classes, or after a change to a smaller burst
};

struct Plan {
  uint32_t capacity = 16;
  uint32_t on_full = 2;  // shm::kOnFull...
  uint32_t policies = 1;
  PolicyPlan policy[kMostPolicies];
  uint32_t keys = 1;
  uint32_t workers = 2;
  uint32_t ops = 3;
  bool frozen = true;
  bool writer = false;
  bool overrides = false;
  bool refunds = false;
  bool second_phase = false;
  uint32_t changes = 0;
  Pace pace;
};

Plan draw_plan(Rng& rng, const Leave& leave);
// Other numbers, the same shape.
PolicyPlan vary(const PolicyPlan& policy, Rng& rng, const Leave& leave);
std::string text_of(const PolicyPlan& policy);
std::string describe(const Plan& plan);

}  // namespace brim::sim

#endif  // BRIM_TESTS_SIM_LIBRARY_PLAN_H_
