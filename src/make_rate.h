// SPDX-License-Identifier: MIT
// One rate of a policy that begins now -> its quota.
#ifndef BRIM_SRC_MAKE_RATE_H_
#define BRIM_SRC_MAKE_RATE_H_

#include <algorithm>
#include <bit>
#include <cstdint>

#include "shm/cells.h"
#include "src/algo/step.h"
#include "src/base/clock.h"
#include "src/compile.h"

namespace brim {

inline constexpr uint64_t kLifeNs = uint64_t{1}
                                    << 59;  // 18 years: how long a window's number must fit
inline constexpr int64_t kHour = int64_t{3600} * 1000000000;

inline uint32_t bits_of(uint64_t value) { return static_cast<uint32_t>(std::bit_width(value)); }

inline int64_t floor_to(int64_t value, int64_t step) {
  const int64_t rest = value % step;
  return value - (rest < 0 ? rest + step : rest);
}

inline void make_bucket(const Rate& rate, int64_t now, uint32_t shift, Quota& quota) {
  const bool before = rate.forward || rate.algorithm == Algorithm::kQueue;
  quota = make_quota(rate.limit, rate.period_ns, 1, now, 0, shift);
  const uint32_t most = rate.algorithm == Algorithm::kQueue ? rate.burst : rate.burst + rate.debt;
  if (before) {
    const uint64_t room = ((uint64_t{1} << 61) >> shift) - most;
    quota.burst = static_cast<uint32_t>(std::min<uint64_t>(kMaxCost, room));
    const uint32_t judged = rate.algorithm == Algorithm::kQueue ? most : most - 1;
    quota.capacity = uint64_t{judged} << shift;
    quota.capacity_max = quota.capacity + (uint64_t{quota.burst} << shift);
    quota.extra = rate.algorithm != Algorithm::kQueue || rate.undelayed == Rate::kAllUndelayed
                      ? kValueMax
                      : uint64_t{rate.undelayed} << shift;
    quota.flags |= kByDebtBefore;
  } else {
    quota.burst = most;
    quota.capacity = uint64_t{most} << shift;
    const uint128 ahead = static_cast<uint128>(static_cast<uint64_t>(rate.ahead_ns)) *
                          (uint64_t{rate.limit} << shift) / static_cast<uint64_t>(rate.period_ns);
    quota.capacity_max =
        quota.capacity + static_cast<uint64_t>(std::min<uint128>(ahead, uint64_t{1} << 61));
  }
}

// The last instant not after `at` at which a window of `period` begins, on the monotonic clock.
inline int64_t boundary(const Beginning& at, int64_t period, int64_t offset_ns) {
  const int64_t local = at.wall_ns + offset_ns;
  return at.now_ns - (local - floor_to(local, period));
}

inline void make_aligned(const Rate& rate, const Beginning& at, Quota& quota) {
  int64_t offset = int64_t{rate.utc_offset_s} * 1000000000;
  quota.period_ns = rate.period_ns;
  quota.v0 = 1;
  switch (rate.calendar) {
    case CalendarUnit::kHour:
      quota.period_ns = kHour;
      break;
    case CalendarUnit::kDay:
      quota.period_ns = 24 * kHour;
      break;
    case CalendarUnit::kWeek:  // from Monday; 1970 began on a Thursday
      quota.period_ns = 7 * 24 * kHour;
      offset += 3 * 24 * kHour;
      break;
    case CalendarUnit::kMonth:
    case CalendarUnit::kYear:
      quota.flags |= kMonths;
      quota.extra = rate.calendar == CalendarUnit::kMonth ? 1 : 12;
      quota.period_ns = (rate.calendar == CalendarUnit::kMonth ? 31 : 366) * 24 * kHour;
      quota.t0 =
          static_cast<int64_t>(static_cast<uint64_t>(at.now_ns) -
                               static_cast<uint64_t>(at.wall_ns) - static_cast<uint64_t>(offset));
      quota.shift = 32;
      return;
    case CalendarUnit::kNone:
      break;
  }
  const auto period = static_cast<uint64_t>(quota.period_ns);
  quota.t0 = boundary(at, quota.period_ns, offset);
  quota.units_per_ns = make_ratio(1, period);
  quota.ns_per_unit = make_ratio(period, 1);
  quota.shift = std::min(32u, 63 - bits_of(kLifeNs / period + 4));
}

inline void make_first_hit(const Rate& rate, int64_t now, Quota& quota) {
  quota.flags |= kFirstHit;
  quota.t0 = now;
  quota.v0 = 1;
  quota.shift = std::min(32u, bits_of(rate.limit) + 1);
  const uint64_t tick = uint64_t{1} << (quota.shift > 3 ? quota.shift - 3 : 0);
  quota.units_per_ns = make_ratio(1, tick);
  quota.ns_per_unit = make_ratio(tick, 1);
  quota.capacity_max = static_cast<uint64_t>(rate.period_ns);
}

inline void make_counter(const Rate& rate, const Beginning& at, Quota& quota) {
  make_aligned(rate, at, quota);
  const uint32_t whole = (63 - bits_of(kLifeNs / static_cast<uint64_t>(rate.period_ns) + 4)) / 2;
  quota.shift = std::min(30u, std::max(bits_of(rate.limit), whole));
}

inline void make_ban(const Ban& ban, int64_t now, Quota& quota) {
  quota.algorithm = kBanAlgorithm;
  quota.t0 = now;
  quota.limit = ban.after;
  quota.period_ns = ban.within_ns;
  quota.capacity = static_cast<uint64_t>(ban.for_ns);
  quota.burst = ban.factor;
  quota.extra = static_cast<uint64_t>(std::max(ban.max_ns, ban.for_ns));
  quota.capacity_max = std::max(quota.extra, static_cast<uint64_t>(ban.within_ns));
}

inline Quota make_rate(const Rate& rate, const Beginning& at) {
  Quota quota{};
  quota.algorithm = static_cast<uint8_t>(rate.algorithm);
  quota.limit = rate.limit;
  quota.burst = rate.limit;
  quota.capacity = rate.limit;
  quota.period_ns = rate.period_ns;
  quota.t0 = at.now_ns;
  switch (family(quota)) {
    case Family::kBucket:
      make_bucket(rate, at.now_ns, token_shift(rate.limit, rate.period_ns), quota);
      quota.algorithm = static_cast<uint8_t>(rate.algorithm);
      break;
    case Family::kWindow:
      rate.first_hit ? make_first_hit(rate, at.now_ns, quota) : make_aligned(rate, at, quota);
      break;
    case Family::kCounter:
      make_counter(rate, at, quota);
      break;
    case Family::kCells: {
      // A lease lasts at least as long as two clocks may differ; see ttl_of in lease.cc.
      const uint64_t longest =
          static_cast<uint64_t>(std::max(rate.period_ns, 2 * kClockSkewNs)) + 1;
      quota.capacity_max = shm::idle_word(longest, longest);
    } break;
    case Family::kBan:
    case Family::kNone:
      break;
  }
  if (rate.count_denied) quota.flags |= kCountDenied;
  if (rate.inclusive) quota.flags |= kInclusive;
  if (rate.floor_weight) quota.flags |= kFloorWeight;
  return quota;
}

}  // namespace brim

#endif  // BRIM_SRC_MAKE_RATE_H_
