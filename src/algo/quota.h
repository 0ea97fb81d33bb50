// SPDX-License-Identifier: MIT
// Quota: one rate of a policy compiled to integers, and its clock.
//
// Buckets use the token clock.
// The token clock v(t) counts what has been refilled, in units of 2^-k permit:
//     v(t) = v0 + floor((t - t0) * limit * 2^k / period)
// k is chosen so that one unit is between half and one nanosecond of refill, and then never
// changes. v(t + period) == v(t) + limit * 2^k exactly, whatever the rate, and a changed rate is
// only a new (v0, t0, slope): every stored word stays valid and every key keeps its debt in
// permits. Windows use the same clock with another slope: v(t) is the number of the aligned window
// that t lies in, or the time in ticks of 2^s ns for windows that the first hit opens.
#ifndef BRIM_SRC_ALGO_QUOTA_H_
#define BRIM_SRC_ALGO_QUOTA_H_

#include <cstdint>
#include <limits>
#include <numeric>

#include "src/algo/calendar.h"
#include "src/algo/ratio.h"
#include "src/algo/warp.h"
#include "src/base/uint128.h"

namespace brim {

// What makes a rate special; bits of Quota::flags.
enum QuotaFlag : uint16_t {
  kExtended = 1,  // the request path must read the policy's options
  kDenyIfUnavailable = 2,
  kCountDenied = 4,
  kInclusive = 8,
  kFloorWeight = 16,
  kFirstHit = 32,
  kMonths = 64,         // calendar window; `extra` is the months in one
  kByDebtBefore = 128,  // bucket: forward charge or queue
  kWarped = 256,        // bucket: the token clock runs through `warp`
  kScaled = 512,        // window: the limit is scaled by `warp`
  kShared = 1024,       // what is admitted is counted for other nodes; see src/use.h
};

// No default values: a decision reads one from the segment and must not pay for clearing it.
struct Quota {
  int64_t t0;             // ns; the instant this slope began
  uint64_t v0;            // the clock's reading at t0
  Ratio units_per_ns;     // slope
  uint64_t capacity;      // bucket: in units; window: the limit; ban: for_ns
  uint64_t capacity_max;  // bucket: most units a word may be ahead; first hit: longest window, ns
  Ratio ns_per_unit;      // the slope's inverse
  uint64_t extra;         // queue: units served at once; calendar: months; ban: max_ns
  uint32_t shift;         // bucket: one permit is 2^shift units; window: bits of a count
  uint32_t burst;         // largest cost that can ever pass, in permits; ban: factor
  uint32_t limit;
  int64_t period_ns;
  uint16_t flags;     // QuotaFlag
  uint8_t algorithm;  // brim::Algorithm; 0: no policy
  Warp warp;          // set only with kWarped or kScaled
};

inline constexpr uint64_t kMaxPeriodMask = ~uint64_t{0} >> 1;  // a period is not negative

constexpr bool has(const Quota& quota, uint16_t flag) noexcept { return (quota.flags & flag) != 0; }

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

// A bucket. REQUIRES: quota_fits(limit, period_ns, burst); limit << shift < 2^63.
constexpr Quota make_quota(uint32_t limit, int64_t period_ns, uint32_t burst, int64_t t0,
                           uint64_t v0, uint32_t shift) noexcept {
  Quota quota{};
  quota.algorithm = 1;
  quota.t0 = t0;
  quota.v0 = v0;
  quota.shift = shift;
  const uint64_t period = static_cast<uint64_t>(period_ns);
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

constexpr Quota make_quota(uint32_t limit, int64_t period_ns, uint32_t burst, int64_t t0,
                           uint64_t v0 = 0) noexcept {
  return make_quota(limit, period_ns, burst, t0, v0, token_shift(limit, period_ns));
}

// From `start` to `now`, without overflow; 0 if the clock has not come so far.
constexpr uint64_t ns_since(int64_t start, int64_t now) noexcept {
  return now > start ? static_cast<uint64_t>(now) - static_cast<uint64_t>(start) : 0;
}

// ns since t0; a time before t0 counts as t0.
constexpr uint64_t elapsed_ns(const Quota& quota, int64_t now_ns) noexcept {
  return ns_since(quota.t0, now_ns);
}

constexpr uint64_t months_of(const Quota& quota) noexcept {
  return quota.extra == 0 ? 1 : quota.extra;
}

// The clock of a calendar window, and a bucket's token clock that runs through the warp.
// By value: the caller's quota stays in registers.
[[gnu::noinline]] constexpr uint64_t bent_clock(Quota quota, uint64_t elapsed) noexcept {
  if (has(quota, kMonths)) return quota.v0 + calendar::index_at(elapsed, months_of(quota));
  return quota.v0 + scale_down(warped(elapsed, quota.warp), quota.units_per_ns);
}

// v(now).
[[gnu::always_inline]] constexpr uint64_t token_clock(const Quota& quota, int64_t now_ns) noexcept {
  const uint64_t elapsed = elapsed_ns(quota, now_ns);
  if (has(quota, kMonths | kWarped)) [[unlikely]]
    return bent_clock(quota, elapsed);
  return quota.v0 + scale_down(elapsed, quota.units_per_ns);
}

// Least time since t0 at which the clock shows reading > v0, for clocks that are bent or slow.
[[gnu::noinline]] constexpr uint64_t elapsed_at_bent(Quota quota, uint64_t reading) noexcept {
  if (has(quota, kMonths)) return calendar::start_ns(reading - quota.v0, months_of(quota));
  const uint64_t ahead = reading - quota.v0;
  constexpr uint64_t kMost = std::numeric_limits<uint64_t>::max() / 2;
  const uint128 about = static_cast<uint128>(ahead) * quota.ns_per_unit.whole + ahead;
  if (about > kMost) return kMost;
  const uint64_t since_t0 = scale_up(ahead, quota.ns_per_unit);
  return has(quota, kWarped) ? unwarped(since_t0, quota.warp) : since_t0;
}

// Least d >= 0 with token_clock(now + d) >= reading.
[[gnu::always_inline]] constexpr int64_t ns_until(const Quota& quota, int64_t now_ns,
                                                  uint64_t reading) noexcept {
  if (reading <= quota.v0) return 0;
  const bool plain = !has(quota, kMonths | kWarped) && quota.ns_per_unit.whole <= 1;
  const uint64_t since_t0 =
      !plain ? elapsed_at_bent(quota, reading) : scale_up(reading - quota.v0, quota.ns_per_unit);
  const int64_t from = now_ns > quota.t0 ? now_ns : quota.t0;
  const uint64_t elapsed = static_cast<uint64_t>(from) - static_cast<uint64_t>(quota.t0);
  const uint64_t wait = since_t0 > elapsed ? since_t0 - elapsed : 0;
  // A reading before t0 waits for t0 first.
  const uint64_t lead = static_cast<uint64_t>(from) - static_cast<uint64_t>(now_ns);
  constexpr uint64_t kMax = static_cast<uint64_t>(std::numeric_limits<int64_t>::max());
  const uint64_t total = wait == 0 ? 0 : lead > kMax || wait > kMax - lead ? kMax : wait + lead;
  return static_cast<int64_t>(total);
}

// Capacity left at reading v, in whole permits.
constexpr uint32_t permits(const Quota& quota, uint64_t units) noexcept {
  return static_cast<uint32_t>(units >> (quota.shift & 63));
}

}  // namespace brim

#endif  // BRIM_SRC_ALGO_QUOTA_H_
