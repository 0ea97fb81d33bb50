// SPDX-License-Identifier: MIT
#include "src/worst_case.h"

#include <algorithm>
#include <iterator>

#include "src/base/uint128.h"
#include "src/policy_terms.h"

namespace brim {

namespace {

uint64_t saturated(uint128 permits) {
  return permits >= kUnbounded ? kUnbounded - 1 : static_cast<uint64_t>(permits);
}

// Buckets. What is owed after the last call is at most the capacity B; what was owed before the
// first is at least 0; and W ns refill W * L / P. So the permits of the span are at most
//     B + W * L / P,
// reached by B at its beginning and each permit as soon as it is back. With debt D the capacity is
// B + D. Forward charge asks that at most B + D - 1 be owed before a call of one permit, which is
// the same; a call of c permits then ends with B + D - 1 + c owed, that is c - 1 more.
// A queue asks that at most Q be owed before: B = Q + 1.
uint128 bucket(const Rate& rate, uint64_t capacity, uint64_t span) {
  const uint128 refilled =
      static_cast<uint128>(span) * rate.limit / static_cast<uint64_t>(rate.period_ns);
  return capacity + refilled;
}

uint64_t capacity_of(const Rate& rate) {
  return rate.algorithm == Algorithm::kQueue ? uint64_t{rate.burst} + 1
                                             : uint64_t{rate.burst} + rate.debt;
}

// How many windows of length P, one after the other, a half-open span of W ns can meet: it begins
// in the last ns of the first.
uint128 windows_met(uint64_t span, uint64_t period) {
  return (static_cast<uint128>(span) + period - 2) / period + 1;
}

// Aligned windows: each may be full, so 2L across one boundary.
// First hit: the permit that opens a window stands at its beginning. A span that begins later in a
// window has at most L - 1 of it, and from its end on a window each P; one that begins with an
// opening has ceil(W / P) windows.
uint128 fixed_window(const Rate& rate, uint64_t span, uint64_t period) {
  if (!rate.first_hit) return windows_met(span, period) * rate.limit;
  const auto from_opening = [&rate, period](uint64_t ns) {
    return (static_cast<uint128>(ns) + period - 1) / period * rate.limit;
  };
  return std::max(from_opening(span), rate.limit - 1 + from_opening(span - 1));
}

// A log has at most L in any half-open span of P; an inclusive one in any of P + 1 ns.
uint128 sliding_log(const Rate& rate, uint64_t span, uint64_t period) {
  const uint128 length = static_cast<uint128>(period) + (rate.inclusive ? 1 : 0);
  return (span + length - 1) / length * rate.limit;
}

// Counts of neighbouring windows: with `prev` > 0, cur * P <= L * P - prev * (P - r) and r < P, so
// cur <= L - 1. Over n windows, the best is L and then L - 1 each: n (L - 1) + 1; for L = 1 every
// other window has one. For n = 2 this is 2L - 1. Rounding the weighted part down lets the
// last of L fade a little before the end: n L.
uint128 sliding_counter(const Rate& rate, uint64_t span, uint64_t period) {
  const uint128 windows = windows_met(span, period);
  if (rate.floor_weight) return windows * rate.limit;
  if (rate.limit == 1) return (windows + 1) / 2;
  return windows * (rate.limit - 1) + 1;
}

}  // namespace

int64_t worst_period_ns(const Rate& rate) {
  if (is_one_of(rate.algorithm, kConstant | kLeases)) return 0;
  if (rate.algorithm != Algorithm::kCalendarWindow) return rate.period_ns;
  constexpr int64_t kShortest[] = {0, kHourNs, kDayNs, 7 * kDayNs, 28 * kDayNs, kYearNs};
  const auto unit = static_cast<size_t>(rate.calendar);
  return unit < std::size(kShortest) ? kShortest[unit] : 0;
}

uint64_t worst_admitted(const Rate& rate, int64_t span_ns) {
  if (rate.algorithm == Algorithm::kDeny) return 0;
  const auto period = static_cast<uint64_t>(worst_period_ns(rate));
  if (period == 0 || span_ns <= 0) return kUnbounded;
  const auto span = static_cast<uint64_t>(span_ns);
  switch (rate.algorithm) {
    case Algorithm::kFixedWindow:
    case Algorithm::kCalendarWindow:
      return saturated(fixed_window(rate, span, period));
    case Algorithm::kSlidingLog:
      return saturated(sliding_log(rate, span, period));
    case Algorithm::kSlidingCounter:
      return saturated(sliding_counter(rate, span, period));
    default:
      return saturated(bucket(rate, capacity_of(rate), span));
  }
}

// Starts are in the order of the calls, each in the first ns in which the clock has reached what
// was owed before it less U (undelayed). The last of the span had at most the reading of its start
// and U more before it, the first at least the reading of the ns before its start: between them (W
// + 1) * L / P + U, and the last itself.
uint64_t worst_started(const Rate& rate, int64_t span_ns) {
  if (rate.algorithm != Algorithm::kQueue || span_ns <= 0) return worst_admitted(rate, span_ns);
  const uint64_t capacity = std::min<uint64_t>(rate.burst, rate.undelayed) + 1;
  return saturated(bucket(rate, capacity, static_cast<uint64_t>(span_ns) + 1));
}

bool any_cost_passes(const Rate& rate) {
  return rate.forward || rate.algorithm == Algorithm::kQueue;
}

uint64_t worst_admitted(const Policy& policy, int64_t span_ns) {
  uint64_t least = kUnbounded;
  for (const Rate& rate : policy.rates) least = std::min(least, worst_admitted(rate, span_ns));
  return least;
}

uint64_t most_at_once(const Rate& rate) {
  return rate.algorithm == Algorithm::kConcurrency ? rate.limit : kUnbounded;
}

bool never_binds(const Rate& rate, const Rate& other) {
  if (any_cost_passes(rate) || any_cost_passes(other) || rate.count_denied) return false;
  if (is_one_of(rate.algorithm, kBuckets) && is_one_of(other.algorithm, kBuckets | kLogs)) {
    // Less at once and less refill: it never owes more. A log has in any span of W at most
    // L (W / P + 1), as a bucket of burst L has.
    const uint64_t most =
        other.algorithm == Algorithm::kSlidingLog ? other.limit : capacity_of(other);
    return most <= capacity_of(rate) &&
           static_cast<uint128>(other.limit) * static_cast<uint64_t>(rate.period_ns) <=
               static_cast<uint128>(rate.limit) * static_cast<uint64_t>(other.period_ns);
  }
  if (is_one_of(rate.algorithm, kBuckets | kConstant | kLeases)) return false;
  // A window, log or counter refuses only beyond `limit` in its own period, and a counter's two
  // counts reach back two periods.
  const int64_t period = worst_period_ns(rate);
  const bool counter = rate.algorithm == Algorithm::kSlidingCounter;
  if (period <= 0 || period > kMaxPeriodNs / 2) return false;
  // A month may have 31 days, a year 366.
  const int64_t longest = rate.calendar == CalendarUnit::kMonth  ? 31 * kDayNs
                          : rate.calendar == CalendarUnit::kYear ? 366 * kDayNs
                                                                 : period + 1;
  return worst_admitted(other, counter ? 2 * period : longest) <= rate.limit;
}

}  // namespace brim
