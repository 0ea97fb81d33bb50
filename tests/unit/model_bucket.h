// SPDX-License-Identifier: MIT
// Token bucket, bucket with debt, forward charge and the queue from their definitions:
// one number, the time at which all is paid, on a token clock
//     v(t) = v0 + floor(w(t) * L * 2^k / P),  w(t) = time gone, or the warped time
// Divides where the code multiplies and searches where it computes.
#ifndef BRIM_TESTS_UNIT_MODEL_BUCKET_H_
#define BRIM_TESTS_UNIT_MODEL_BUCKET_H_

#include "tests/unit/model_common.h"

namespace brim::test {

// Time that counts: the integral of a rate that grows evenly from `from` to 10^6 ppm over `ramp`
// ns and stays, rounded down; times the factor, rounded down.
struct WarpModel {
  Wide from = 1000000;
  Wide ramp = 0;
  Wide factor = 1000000;

  Wide integral(Wide e) const {  // in halves of 10^-6 / ramp ns, exact; ramp > 0
    const Wide grown = std::min(e, ramp);
    return 2 * from * ramp * grown + (1000000 - from) * grown * grown +
           2 * 1000000 * ramp * (e - grown);
  }
  // The part after the ramp is whole ns, so it may be rounded apart: fits 128 bits.
  Wide operator()(Wide e) const {
    if (e <= 0) return 0;
    const Wide grown = std::min(e, ramp);
    if (ramp == 0 && factor == 1000000) return e;
    const Wide bent = ramp == 0 ? e : integral(grown) / (2 * 1000000 * ramp) + (e - grown);
    return bent * factor / 1000000;
  }
};

struct TokenClock {
  Wide t0 = 0;
  Wide v0 = 0;
  Wide limit = 1;
  Wide period = 1;
  int k = 0;
  WarpModel warp = {};

  Wide operator()(Wide t) const {
    const Wide gone = warp(std::max<Wide>(t - t0, 0));
    if (gone < Wide{1} << 59) return v0 + gone * (limit << k) / period;
    return v0 + gone / period * (limit << k) + gone % period * (limit << k) / period;
  }
};

inline TokenClock clock_of(const Rate& rate, int64_t t0) {
  TokenClock clock{t0, 0, rate.limit, rate.period_ns, 0};
  while ((clock.limit << clock.k) < clock.period) ++clock.k;
  return clock;
}

class BucketModel {
 public:
  BucketModel(const Rate& rate, const TokenClock& clock, Wide percent = 100)
      : v(clock), before_(rate.forward || rate.algorithm == Algorithm::kQueue) {
    const bool queue = rate.algorithm == Algorithm::kQueue;
    const Wide permits = queue          ? Wide{rate.burst}
                         : rate.forward ? Wide{rate.burst} + rate.debt - 1
                                        : Wide{rate.burst} + rate.debt;
    capacity_ = (permits << v.k) * percent / 100;
    const Wide rest = (Wide{1} << 61 >> v.k) - rate.burst - (queue ? 0 : Wide{rate.debt});
    // No cost is too large for these, but for what a call may ask and a word can hold.
    largest_ = before_ ? std::min<Wide>(rest, kMaxCost) : capacity_ >> v.k;
    delays_ = queue && rate.undelayed != Rate::kAllUndelayed;
    undelayed_ = Wide{rate.undelayed} << v.k;
    // A charge without asking is cut where a word ends: as far ahead as a booking may be.
    const Wide booked = Wide{rate.ahead_ns} * (v.limit << v.k) / v.period;
    most_ = before_ ? capacity_ + (largest_ << v.k) : capacity_ + booked;
  }

  bool never(Wide c) const { return c > largest_; }
  bool admits(Wide t, Wide c) const {
    const Wide before = ahead(t);
    return (before_ ? before : before + (c << v.k)) <= capacity_;
  }
  void take(Wide t, Wide c) { paid = std::max(paid, v(t)) + (c << v.k); }
  void refuse(Wide, Wide) {}
  // The largest cost that passes; where any cost passes or none, how many calls of 1 pass.
  Wide remaining(Wide t) const {
    const Wide room = capacity_ - ahead(t);
    return room < 0 ? 0 : (room >> v.k) + (before_ ? 1 : 0);
  }
  bool idle(Wide t) const { return paid <= v(t); }
  void refund(Wide t, Wide c) {
    if (paid > v(t)) paid = std::max(paid - (c << v.k), v(t));
  }
  void charge(Wide t, Wide c) {
    if (c == 0) return;
    paid = v(t) + std::min(ahead(t) + (c << v.k), std::max(most_, ahead(t)));
  }
  // Least d at which the clock reaches what was owed before, less what is served at once.
  Wide delay(Wide t, Wide) const {
    if (!delays_) return 0;
    const Wide start = v(t) + ahead(t) - undelayed_;
    return least([&](Wide d) { return v(t + d) >= start; });
  }
  // A booking's start: the first instant at which a bucket holds the whole cost.
  Wide start(Wide t, Wide c) const {
    if (before_) return delay(t, c);
    return least([&](Wide d) { return v(t + d) >= v(t) + ahead(t) + (c << v.k) - capacity_; });
  }
  Wide ahead(Wide t) const { return std::max<Wide>(paid - v(t), 0); }
  Wide capacity() const { return capacity_; }

  TokenClock v;
  Wide paid = 0;

 private:
  bool before_;
  bool delays_;
  Wide capacity_;
  Wide largest_;
  Wide undelayed_;
  Wide most_;
};

// A bucket that anyone might write or nobody would; fits its word.
inline Rate random_bucket(Random& random, Algorithm algorithm, uint32_t burst_max = 0xffffffff) {
  static constexpr int64_t kPeriods[] = {
      1, 2, 3, 7, 1000, 1000003, kSecNs, 60 * kSecNs, 3600 * kSecNs, kDayNs, 365 * kDayNs};
  static constexpr uint32_t kLimits[] = {1, 2, 3, 5, 7, 10, 100, 1000, 999983, 1000000000};
  for (;;) {
    Rate rate;
    rate.algorithm = algorithm;
    rate.period_ns =
        random.one_in(2)
            ? kPeriods[random.below(std::size(kPeriods))]
            : static_cast<int64_t>(random.magnitude(365 * uint64_t{86400} * 1000000000));
    rate.limit = random.one_in(2) ? kLimits[random.below(std::size(kLimits))]
                                  : static_cast<uint32_t>(random.magnitude(0xffffffff));
    if (rate.limit > rate.period_ns) continue;
    rate.burst = static_cast<uint32_t>(random.magnitude(burst_max));
    if (random.one_in(3)) rate.burst = std::min(rate.limit, burst_max);
    if (random.one_in(3)) rate.burst = 1 + static_cast<uint32_t>(random.below(5));
    if (check_fits(rate).ok()) return rate;
  }
}

inline Edges edges_of(const Rate& rate, int64_t t0) {
  Edges edges;
  edges.period = rate.period_ns;
  edges.permit = std::max<int64_t>(rate.period_ns / rate.limit, 1);
  const Wide whole = (Wide{rate.burst} + rate.debt) * rate.period_ns / rate.limit;
  edges.refill = static_cast<int64_t>(std::min<Wide>(whole, 5 * 365 * kDayNs));
  edges.farthest = 365 * kDayNs / 64;
  edges.burst = std::max<uint32_t>(rate.burst + rate.debt, 1);
  edges.first = t0 - kMilliNs;
  edges.last = t0 + 15 * 365 * kDayNs;
  return edges;
}

}  // namespace brim::test

#endif  // BRIM_TESTS_UNIT_MODEL_BUCKET_H_
