// SPDX-License-Identifier: MIT
// Policies of every kind, for properties: nearly all are valid.
#ifndef BRIM_TESTS_UNIT_RANDOM_POLICY_H_
#define BRIM_TESTS_UNIT_RANDOM_POLICY_H_

#include <algorithm>
#include <cstdint>

#include "brim/policy.h"
#include "src/policy_terms.h"
#include "tests/unit/support.h"

namespace brim::test {

inline Rate gcra(uint32_t limit, int64_t period_ns, uint32_t burst = 0) {
  return {.limit = limit, .period_ns = period_ns, .burst = burst == 0 ? limit : burst};
}

inline Rate with(Rate rate, Algorithm algorithm) {
  rate.algorithm = algorithm;
  return rate;
}

inline int64_t random_time(Random& random, int64_t most) {
  const auto most_u = static_cast<uint64_t>(most);
  if (random.one_in(2)) return static_cast<int64_t>(random.magnitude(most_u));
  const int64_t unit = kTimeUnits[random.below(kCanonicalUnits)].ns;
  if (unit > most) return most;
  return unit * static_cast<int64_t>(
                    1 + random.below(std::min<uint64_t>(90, most_u / static_cast<uint64_t>(unit))));
}

inline void random_bucket(Random& random, Rate& rate) {
  const bool queue = rate.algorithm == Algorithm::kQueue;
  rate.period_ns = std::max<int64_t>(rate.period_ns, 1000);
  rate.limit = static_cast<uint32_t>(
      random.magnitude(std::min<uint64_t>(0xffffffff, static_cast<uint64_t>(rate.period_ns))));
  // A burst that is back within a year or so.
  const uint64_t most = std::max<uint64_t>(
      1,
      std::min<uint64_t>(0x7fffffff, static_cast<uint64_t>(kYearNs / rate.period_ns) * rate.limit));
  rate.burst = random.one_in(3) ? rate.limit : static_cast<uint32_t>(random.magnitude(most));
  if (queue) {
    if (random.one_in(4)) rate.burst = 0;
    if (random.one_in(3)) rate.undelayed = static_cast<uint32_t>(random.magnitude(0xffffffff));
    if (random.one_in(4)) rate.undelayed = Rate::kAllUndelayed;
    return;
  }
  if (random.one_in(4)) rate.debt = static_cast<uint32_t>(random.magnitude(most));
  rate.forward = random.one_in(4);
  if (random.one_in(4)) rate.ahead_ns = random_time(random, kDayNs);
  if (random.one_in(30)) rate.ahead_ns = 0;
}

inline Rate random_rate(Random& random, int algorithm) {
  Rate rate;
  rate.algorithm = static_cast<Algorithm>(algorithm);
  if (is_one_of(rate.algorithm, kConstant)) return rate;
  rate.period_ns = random_time(random, kYearNs);
  rate.limit = static_cast<uint32_t>(random.magnitude(128));
  if (is_one_of(rate.algorithm, kBuckets | kQueues)) random_bucket(random, rate);
  if (is_one_of(rate.algorithm, kFixed | kCalendars) && random.one_in(2)) {
    rate.utc_offset_s = static_cast<int32_t>(random.between(-840, 840)) * 60;
  }
  if (is_one_of(rate.algorithm, kCalendars)) {
    rate.period_ns = 0;
    rate.calendar = static_cast<CalendarUnit>(1 + random.below(5));
  }
  if (is_one_of(rate.algorithm, kFixed) && random.one_in(2)) {
    rate.utc_offset_s = 0;
    rate.first_hit = true;
  }
  rate.inclusive = is_one_of(rate.algorithm, kLogs) && random.one_in(2);
  rate.count_denied = is_one_of(rate.algorithm, kFixed | kSlidingCounters) && random.one_in(2);
  rate.floor_weight = is_one_of(rate.algorithm, kSlidingCounters) && random.one_in(2);
  return rate;
}

inline void random_options(Random& random, Policy& policy) {
  if (random.one_in(3)) policy.on_unavailable = OnUnavailable::kDeny;
  if (random.one_in(3)) {
    for (uint8_t& percent : policy.class_percent) {
      percent = static_cast<uint8_t>(1 + random.below(100));
    }
    std::sort(policy.class_percent, policy.class_percent + 3);
  }
  if (random.one_in(3)) policy.enforced_percent = static_cast<uint8_t>(random.below(101));
  const bool refills = std::all_of(policy.rates.begin(), policy.rates.end(), [](const Rate& rate) {
    return is_one_of(rate.algorithm, kBuckets | kQueues);
  });
  if (refills && random.one_in(3)) {
    policy.warm_up_from_ppm = static_cast<uint32_t>(1 + random.below(100000)) * 10;
    policy.warm_up_ns = random_time(random, kMaxWarmUpNs);
  }
  if (random.one_in(3)) {
    Ban& ban = policy.ban;
    ban.after = static_cast<uint32_t>(random.magnitude(65535));
    ban.within_ns = std::max(kMillisecondNs, random_time(random, kYearNs));
    ban.for_ns = std::max(kMillisecondNs, random_time(random, kYearNs));
    ban.factor = static_cast<uint32_t>(random.magnitude(1000));
    ban.max_ns = random.one_in(2) ? default_ban_max(ban) : random.between(ban.for_ns, kYearNs);
  }
}

inline Policy random_policy(Random& random) {
  Policy policy;
  const int first = static_cast<int>(1 + random.below(11));
  policy.rates.push_back(random_rate(random, first));
  if (is_one_of(policy.rates[0].algorithm, kConstant)) return policy;
  if (!is_one_of(policy.rates[0].algorithm, kLeases) && random.one_in(2)) {
    for (uint64_t more = random.below(6); more > 0; --more) {
      policy.rates.push_back(random_rate(random, static_cast<int>(1 + random.below(8))));
    }
  }
  random_options(random, policy);
  return policy;
}

}  // namespace brim::test

#endif  // BRIM_TESTS_UNIT_RANDOM_POLICY_H_
