// SPDX-License-Identifier: MIT
// The step's judge: GCRA over a token clock in plain 128-bit arithmetic, written from the
// definition (docs: reference/algorithms) and sharing no line with src/algo. It divides where the
// code multiplies and searches where the code computes.
//
// Model follows the definition: v(t) = v0 + floor((t - t0) * L * 2^k / P), a key is its TAT.
// Ideal is the same bucket on real time: V(t) = (t - t0) * L * 2^k / P, kept as exact fractions
// with denominator P.
#ifndef BRIM_TESTS_UNIT_MODEL_H_
#define BRIM_TESTS_UNIT_MODEL_H_

#include <algorithm>
#include <cstdint>

#include "tests/unit/support.h"

namespace brim::test {

__extension__ using Wide = __int128;

struct Rule {
  int64_t limit = 1;
  int64_t period = 1;  // ns
  int64_t burst = 1;
  int64_t t0 = 0;
  int64_t v0 = 0;
  int k = 0;

  Wide scale() const { return Wide{1} << k; }
  Wide capacity() const { return burst * scale(); }
};

inline Rule make_rule(int64_t limit, int64_t period, int64_t burst, int64_t t0 = 0,
                      int64_t v0 = 0) {
  Rule rule{limit, period, burst, t0, v0, 0};
  while (limit * rule.scale() < period) ++rule.k;
  return rule;
}

struct Answer {
  bool allowed = false;
  bool never = false;
  Wide remaining = 0;
  Wide retry = 0;
  Wide reset = 0;
  friend bool operator==(const Answer&, const Answer&) = default;
};

// One key under one rule.
class Model {
 public:
  explicit Model(const Rule& rule) : rule_(rule) {}

  Wide v(Wide t) const {
    const Wide elapsed = std::max<Wide>(t - rule_.t0, 0);
    return rule_.v0 + elapsed * rule_.limit * rule_.scale() / rule_.period;
  }

  // Least d >= 0 with v(t + d) >= reading, by bisection.
  Wide wait(Wide t, Wide reading) const {
    if (v(t) >= reading) return 0;
    Wide low = 0;
    Wide high = 1;
    while (v(t + high) < reading) low = high, high *= 2;
    while (high - low > 1) {
      const Wide middle = low + (high - low) / 2;
      (v(t + middle) >= reading ? high : low) = middle;
    }
    return high;
  }

  Answer ask(Wide t, Wide cost) {
    Answer answer;
    const Wide now = v(t);
    const Wide next = std::max(tat_, now) + cost * rule_.scale();
    answer.never = cost > rule_.burst;
    answer.allowed = cost == 0 || (!answer.never && next - now <= rule_.capacity());
    if (answer.allowed && cost != 0) tat_ = next;
    if (!answer.allowed && !answer.never) answer.retry = wait(t, next - rule_.capacity());
    const Wide debt = std::max<Wide>(tat_ - now, 0);
    answer.remaining = std::max<Wide>(rule_.capacity() - debt, 0) / rule_.scale();
    answer.reset = debt == 0 ? 0 : wait(t, tat_);
    return answer;
  }

  void give_back(Wide t, Wide cost) {
    if (tat_ > v(t)) tat_ = std::max(tat_ - cost * rule_.scale(), v(t));
  }

  Wide tat() const { return tat_; }
  void set_tat(Wide tat) { tat_ = tat; }

 private:
  Rule rule_;
  Wide tat_ = 0;
};

// The bucket on real time, charged by somebody else's decisions. All values times P.
class Ideal {
 public:
  explicit Ideal(const Rule& rule) : rule_(rule) {}

  Wide v(Wide t) const { return std::max<Wide>(t - rule_.t0, 0) * rule_.limit * rule_.scale(); }
  bool would_admit(Wide t, Wide cost) const {
    return std::max(tat_, v(t)) + cost * rule_.scale() * rule_.period - v(t) <=
           rule_.capacity() * rule_.period;
  }
  void charge(Wide t, Wide cost) {
    tat_ = std::max(tat_, v(t)) + cost * rule_.scale() * rule_.period;
  }

 private:
  Rule rule_;
  Wide tat_ = 0;
};

inline constexpr int64_t kSecondNs = 1000000000;
inline constexpr int64_t kYearNs = int64_t{365} * 86400 * kSecondNs;

// A rule anyone might write or nobody would: from once a year to 10^9 a second, bursts from 1 to
// the largest that fits 2^61 units.
inline Rule random_rule(Random& random, int64_t burst_max = 0xffffffff) {
  static constexpr int64_t kPeriods[] = {1,
                                         2,
                                         3,
                                         7,
                                         1000,
                                         1000000,
                                         1000003,
                                         kSecondNs,
                                         10 * kSecondNs,
                                         60 * kSecondNs,
                                         3600 * kSecondNs,
                                         86400 * kSecondNs,
                                         kYearNs};
  static constexpr int64_t kLimits[] = {1, 2, 3, 5, 7, 10, 100, 1000, 999983, 1000000000};
  for (;;) {
    const int64_t period = random.one_in(2) ? kPeriods[random.below(std::size(kPeriods))]
                                            : static_cast<int64_t>(random.magnitude(kYearNs));
    const int64_t limit = random.one_in(2) ? kLimits[random.below(std::size(kLimits))]
                                           : static_cast<int64_t>(random.magnitude(0xffffffff));
    if (limit > period) continue;
    Rule rule = make_rule(limit, period, 1);
    const Wide most = (Wide{1} << 61) >> rule.k;
    if (most < 1) continue;
    const auto cap = static_cast<int64_t>(std::min<Wide>(most, burst_max));
    rule.burst = random.one_in(8) ? cap
                 : random.one_in(3)
                     ? std::min(limit, cap)
                     : static_cast<int64_t>(random.magnitude(static_cast<uint64_t>(cap)));
    rule.t0 = random.one_in(4) ? 0 : random.between(0, kYearNs);
    return rule;
  }
}

// A jump that is likely to land near something that matters to `rule`: nothing, one ns, a permit,
// a period, a full refill, or a long idle time; now and then a step back.
inline int64_t random_jump(Random& random, const Rule& rule) {
  const int64_t permit = std::max<int64_t>(rule.period / rule.limit, 1);
  switch (random.below(12)) {
    case 0:
    case 1:
    case 2:
      return 0;
    case 3:
      return 1;
    case 4:
    case 5:
      return random.between(0, 2 * permit);
    case 6:
      return permit + random.between(-1, 1);
    case 7:
      return rule.period + random.between(-1, 1);
    case 8: {
      const Wide refill = Wide{rule.burst} * rule.period / rule.limit;
      return static_cast<int64_t>(std::min<Wide>(refill, kYearNs)) + random.between(-1, 1);
    }
    case 9:
      return static_cast<int64_t>(random.magnitude(kYearNs / 64));
    case 10:
      return -static_cast<int64_t>(random.magnitude(static_cast<uint64_t>(rule.period)));
    default:
      return -1;
  }
}

inline int64_t random_cost(Random& random, const Rule& rule) {
  const auto burst = static_cast<uint64_t>(rule.burst);
  switch (random.below(8)) {
    case 0:
      return 0;
    case 1:
      return std::min<int64_t>(rule.burst + static_cast<int64_t>(random.below(3)), 0xffffffff);
    case 2:
      return static_cast<int64_t>(random.magnitude(0xffffffff));
    case 3:
    case 4:
      return static_cast<int64_t>(random.magnitude(burst));
    default:
      return 1;
  }
}

}  // namespace brim::test

#endif  // BRIM_TESTS_UNIT_MODEL_H_
