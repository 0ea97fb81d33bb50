// SPDX-License-Identifier: MIT
// Quota: a policy compiled to integers, and its token clock.
//
// The token clock v(t) counts what has been refilled, in units of 2^-k permit:
//     v(t) = v0 + floor((t - t0) * limit * 2^k / period)
// k is chosen so that one unit is between half and one nanosecond of refill, and then never
// changes. v(t + period) == v(t) + limit * 2^k exactly, whatever the rate, and a changed rate is
// only a new (v0, t0, slope): every stored word stays valid and every key keeps its debt in
// permits.
#ifndef BRIM_SRC_ALGO_QUOTA_H_
#define BRIM_SRC_ALGO_QUOTA_H_

#include <cstdint>
#include <limits>
#include <numeric>

#include "src/algo/ratio.h"
#include "src/base/uint128.h"

namespace brim {

// No default values: a decision reads one from the segment and must not pay for clearing it.
struct Quota {
  int64_t t0;             // ns; the instant this slope began
  uint64_t v0;            // the token clock's reading at t0
  Ratio units_per_ns;     // slope
  uint64_t capacity;      // burst, in units
  uint64_t capacity_max;  // largest capacity since the last sweep: bounds a true word
  Ratio ns_per_unit;      // the slope's inverse
  uint32_t shift;         // k: one permit is 2^k units
  uint32_t burst;         // permits
  uint32_t limit;
  int64_t period_ns;
  uint8_t algorithm;  // brim::Algorithm; 0: no policy
  uint8_t on_unavailable;
};

// Least k with limit * 2^k >= period: one unit is at most 1 ns of refill.
constexpr uint32_t token_shift(uint32_t limit, int64_t period_ns) noexcept {
  uint32_t k = 0;
  while ((static_cast<uint128>(limit) << k) < static_cast<uint64_t>(period_ns)) ++k;
  return k;
}

// True if (limit, period, burst) fits the words: the burst is at most 2^61 units, which take 36 to
// 73 years to refill, and the rate is at most one permit a nanosecond.
constexpr bool quota_fits(uint32_t limit, int64_t period_ns, uint32_t burst) noexcept {
  if (limit == 0 || burst == 0 || period_ns <= 0 || limit > static_cast<uint64_t>(period_ns)) {
    return false;
  }
  const uint128 capacity = static_cast<uint128>(burst) << token_shift(limit, period_ns);
  return capacity <= (uint64_t{1} << 61);
}

// REQUIRES: quota_fits(limit, period_ns, burst).
constexpr Quota make_quota(uint32_t limit, int64_t period_ns, uint32_t burst, int64_t t0,
                           uint64_t v0 = 0) noexcept {
  Quota quota{};
  quota.t0 = t0;
  quota.v0 = v0;
  quota.shift = token_shift(limit, period_ns);
  const uint64_t period = static_cast<uint64_t>(period_ns);
  // limit * 2^k < 2 * period < 2^63: fits.
  const uint64_t units = static_cast<uint64_t>(limit) << quota.shift;
  const uint64_t divisor = std::gcd(units, period);
  quota.units_per_ns = make_ratio(units / divisor, period / divisor);
  quota.ns_per_unit = make_ratio(period / divisor, units / divisor);
  quota.capacity = static_cast<uint64_t>(burst) << quota.shift;
  quota.capacity_max = quota.capacity;
  quota.burst = burst;
  quota.limit = limit;
  quota.period_ns = period_ns;
  return quota;
}

// The token clock at `now_ns`; a time before t0 counts as t0.
constexpr uint64_t token_clock(const Quota& quota, int64_t now_ns) noexcept {
  const uint64_t elapsed =
      now_ns > quota.t0 ? static_cast<uint64_t>(now_ns) - static_cast<uint64_t>(quota.t0) : 0;
  return quota.v0 + scale_down(elapsed, quota.units_per_ns);
}

// Least d >= 0 with token_clock(now + d) >= reading.
constexpr int64_t ns_until(const Quota& quota, int64_t now_ns, uint64_t reading) noexcept {
  if (reading <= quota.v0) return 0;
  const uint64_t since_t0 = scale_up(reading - quota.v0, quota.ns_per_unit);
  const int64_t from = now_ns > quota.t0 ? now_ns : quota.t0;
  const uint64_t elapsed = static_cast<uint64_t>(from) - static_cast<uint64_t>(quota.t0);
  const uint64_t wait = since_t0 > elapsed ? since_t0 - elapsed : 0;
  // A reading before t0 waits for t0 first.
  const uint64_t lead = static_cast<uint64_t>(from) - static_cast<uint64_t>(now_ns);
  const uint64_t total = wait == 0 ? 0 : wait + lead;
  constexpr uint64_t kMax = static_cast<uint64_t>(std::numeric_limits<int64_t>::max());
  return static_cast<int64_t>(total > kMax ? kMax : total);
}

// Capacity left at reading v, in whole permits.
constexpr uint32_t permits(const Quota& quota, uint64_t units) noexcept {
  return static_cast<uint32_t>(units >> (quota.shift & 63));
}

}  // namespace brim

#endif  // BRIM_SRC_ALGO_QUOTA_H_
