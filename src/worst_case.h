// SPDX-License-Identifier: MIT
// The most permits that a rate lets one key take, in the worst case. Pure functions; the
// derivations are in worst_case.cc, and tests/unit/worst_case_test.cc searches for worse cases.
#ifndef BRIM_SRC_WORST_CASE_H_
#define BRIM_SRC_WORST_CASE_H_

#include <cstdint>

#include "brim/policy.h"

namespace brim {

// No number of permits bounds it: `unlimited`, leases (bounded at once, not in time).
inline constexpr uint64_t kUnbounded = ~uint64_t{0};

// The period that a reader sees in the rate: of a calendar window its shortest (a month: 28 days).
// 0 for rates without one.
int64_t worst_period_ns(const Rate& rate);

// The most permits admitted within any `span_ns` in calls of one permit. For buckets and queues
// both ends belong to the span; for windows, logs and counters the last does not (at the end of the
// span a permit of its beginning is due again). Saturates below kUnbounded. A call of c > 1
// permits adds up to c - 1 where it is judged by what was owed before it (worst_extra).
uint64_t worst_admitted(const Rate& rate, int64_t span_ns);

// Of a queue: the most that start within any span, when each waits as it was told.
uint64_t worst_started(const Rate& rate, int64_t span_ns);

// True if one call of any cost passes, beyond what worst_admitted() counts.
bool any_cost_passes(const Rate& rate);

// The least over all rates.
uint64_t worst_admitted(const Policy& policy, int64_t span_ns);
// Of leases: how many at once; kUnbounded for others.
uint64_t most_at_once(const Rate& rate);

// True if `other` alone already keeps every burst and every span of `rate` within its limits, so
// that `rate` can not refuse anything. Never true by mistake; some such rates are not found.
bool never_binds(const Rate& rate, const Rate& other);

}  // namespace brim

#endif  // BRIM_SRC_WORST_CASE_H_
