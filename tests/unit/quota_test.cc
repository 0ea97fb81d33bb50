// SPDX-License-Identifier: MIT
#include "src/algo/quota.h"

#include <gtest/gtest.h>

#include <limits>

#include "brim/policy.h"
#include "tests/unit/model.h"
#include "tests/unit/support.h"

namespace brim {
namespace {

using test::kSecondNs;
using test::kYearNs;
using test::Model;
using test::Random;
using test::Rule;
using test::Wide;

Quota quota_of(const Rule& rule) {
  return make_quota(static_cast<uint32_t>(rule.limit), rule.period,
                    static_cast<uint32_t>(rule.burst), rule.t0, static_cast<uint64_t>(rule.v0));
}

// One unit is at most 1 ns of refill and more than half of one.
static_assert(token_shift(1, 1) == 0 && token_shift(1, 2) == 1 && token_shift(1, 3) == 2);
static_assert(token_shift(1000000000, kSecondNs) == 0);
static_assert(token_shift(3, kSecondNs) == 29);  // 3 * 2^28 < 10^9 <= 3 * 2^29
static_assert(token_shift(1, kYearNs) == 55);
static_assert(token_shift(1, kMaxPeriodNs) == 62);

// F35: what cannot be held is refused before it is compiled.
static_assert(!quota_fits(0, kSecondNs, 1));
static_assert(!quota_fits(1, 0, 1));
static_assert(!quota_fits(1, -1, 1));
static_assert(!quota_fits(1, std::numeric_limits<int64_t>::min(), 1));
static_assert(!quota_fits(1, kSecondNs, 0));
static_assert(!quota_fits(2, 1, 1));
static_assert(!quota_fits(1000000001, kSecondNs, 1));
static_assert(quota_fits(1000000000, kSecondNs, 0xffffffff));
static_assert(quota_fits(1, 1, 0xffffffff));
static_assert(quota_fits(0xffffffff, 0xffffffff, 0xffffffff));
static_assert(quota_fits(1, kYearNs, 64) && !quota_fits(1, kYearNs, 65));
static_assert(quota_fits(2, kMaxPeriodNs, 1) && !quota_fits(1, kMaxPeriodNs, 1));
static_assert(!quota_fits(1, kYearNs, 0xffffffff));

// 3/s: after a third of a second not quite a permit, after exactly a second exactly three.
constexpr Quota kThree = make_quota(3, kSecondNs, 3, 0);
static_assert(kThree.capacity == uint64_t{3} << 29);
static_assert(permits(kThree, token_clock(kThree, 333333333)) == 0);
static_assert(permits(kThree, token_clock(kThree, 333333334)) == 1);
static_assert(token_clock(kThree, kSecondNs) == kThree.capacity);
static_assert(token_clock(kThree, 1000000 * kSecondNs) == 1000000 * kThree.capacity);

// Goal: the token clock is the definition's floor, exactly. Method: random rules and times, also
// before t0 and decades later, against a 128-bit division.
TEST(Quota, TokenClockIsTheExactFloor) {
  Random random(10);
  for (int i = 0; i < test::scaled(200000); ++i) {
    Rule rule = test::random_rule(random);
    rule.v0 = random.one_in(2) ? 0 : static_cast<int64_t>(random.magnitude(uint64_t{1} << 61));
    const Quota quota = quota_of(rule);
    ASSERT_EQ(quota.shift, static_cast<uint32_t>(rule.k));
    ASSERT_EQ(Wide{static_cast<int64_t>(quota.capacity)}, rule.capacity());
    const int64_t t = rule.t0 + random.between(-kSecondNs, 30 * kYearNs) / (1 << random.below(30));
    ASSERT_EQ(Wide{static_cast<int64_t>(token_clock(quota, t))}, Model(rule).v(t))
        << rule.limit << "/" << rule.period << " at " << t;
  }
}

// Goal: nothing is lost or gained over whole periods, whatever the rate: v(t0 + n P + d) is
// v(t0 + d) + n L 2^k. Method: random rules, counts of periods and offsets.
TEST(Quota, TokenClockIsExactOverWholePeriods) {
  Random random(11);
  for (int i = 0; i < test::scaled(200000); ++i) {
    const Rule rule = test::random_rule(random);
    const Quota quota = quota_of(rule);
    const uint64_t units = static_cast<uint64_t>(rule.limit) << rule.k;
    const auto n =
        static_cast<int64_t>(random.magnitude(static_cast<uint64_t>(30 * kYearNs / rule.period)));
    const int64_t d = random.between(0, rule.period - 1);
    ASSERT_EQ(token_clock(quota, rule.t0 + rule.period), units);
    ASSERT_EQ(token_clock(quota, rule.t0 + n * rule.period + d),
              token_clock(quota, rule.t0 + d) + static_cast<uint64_t>(n) * units);
  }
}

// Goal: one unit is refilled in at most 1 ns and two take more: no wait is rounded by more than
// that. Method: the clock's advance over 1 ns is 1 or 2 units for random rules and times.
TEST(Quota, ClockMovesByOneOrTwoUnitsANanosecond) {
  Random random(12);
  for (int i = 0; i < test::scaled(200000); ++i) {
    const Rule rule = test::random_rule(random);
    const Quota quota = quota_of(rule);
    const int64_t t = rule.t0 + random.between(0, 20 * kYearNs);
    const uint64_t step = token_clock(quota, t + 1) - token_clock(quota, t);
    ASSERT_TRUE(step == 1 || step == 2) << step;
  }
}

// Goal: ns_until is the least wait, to the nanosecond, also when asked before t0. Method: the
// clock itself at the answer and one ns before.
TEST(Quota, NsUntilIsTheLeastWait) {
  Random random(13);
  for (int i = 0; i < test::scaled(200000); ++i) {
    const Rule rule = test::random_rule(random);
    const Quota quota = quota_of(rule);
    const int64_t t = rule.t0 + (random.one_in(4) ? -random.between(0, kSecondNs)
                                                  : random.between(0, 20 * kYearNs));
    const uint64_t v = token_clock(quota, t);
    const uint64_t reading = random.one_in(8) ? v - random.below(std::min<uint64_t>(v, 5) + 1)
                                              : v + random.magnitude(uint64_t{1} << 60);
    const int64_t wait = ns_until(quota, t, reading);
    ASSERT_GE(wait, 0);
    ASSERT_GE(token_clock(quota, t + wait), reading);
    if (wait != 0) {
      ASSERT_LT(token_clock(quota, t + wait - 1), reading);
    }
  }
}

// Goal: a clock that steps back before the policy was defined counts as no time, and the wait then
// includes the way back to t0.
TEST(Quota, TimeBeforeTheStartCountsAsTheStart) {
  const Quota quota = make_quota(10, kSecondNs, 10, 5 * kSecondNs, 77);
  EXPECT_EQ(token_clock(quota, 0), 77u);
  EXPECT_EQ(token_clock(quota, -kSecondNs), 77u);
  EXPECT_EQ(token_clock(quota, std::numeric_limits<int64_t>::min()), 77u);
  EXPECT_EQ(ns_until(quota, 5 * kSecondNs, 77 + (uint64_t{1} << quota.shift)), kSecondNs / 10);
  EXPECT_EQ(ns_until(quota, 0, 77 + (uint64_t{1} << quota.shift)), 5 * kSecondNs + kSecondNs / 10);
  EXPECT_EQ(ns_until(quota, 0, 77), 0);
  EXPECT_EQ(ns_until(quota, 0, 0), 0);
}

// Goal: what a damaged segment may make of a quota gives some number, never undefined behaviour.
// Method: every field arbitrary; the sanitizer build judges.
TEST(Quota, AnyBitsAreDefined) {
  Random random(14);
  uint64_t sum = 0;
  for (int i = 0; i < test::scaled(100000); ++i) {
    Quota quota{};
    quota.t0 = static_cast<int64_t>(random.bits());
    quota.v0 = random.bits();
    quota.units_per_ns = {random.bits(), random.bits(), random.bits(), random.bits()};
    quota.ns_per_unit = {random.bits(), random.bits(), random.bits(), random.bits()};
    quota.shift = static_cast<uint32_t>(random.bits() & 0xff);
    quota.flags = static_cast<uint16_t>(random.bits());
    quota.extra = random.one_in(4) ? random.below(13) : random.bits();
    quota.warp = {static_cast<int64_t>(random.bits()), random.bits() >> random.below(64),
                  static_cast<uint32_t>(random.bits()), static_cast<uint32_t>(random.bits())};
    const auto now = static_cast<int64_t>(random.bits());
    sum += token_clock(quota, now) + permits(quota, random.bits());
    const int64_t wait = ns_until(quota, now, random.bits());
    ASSERT_GE(wait, 0);
    sum += static_cast<uint64_t>(wait);
  }
  EXPECT_NE(sum, 0u);
}

// Goal: the two ratios are each other's inverse and fit scale()'s contract for every valid rule.
TEST(Quota, RatiosAreReducedAndInverse) {
  Random random(15);
  for (int i = 0; i < test::scaled(100000); ++i) {
    const Rule rule = test::random_rule(random);
    const Quota quota = quota_of(rule);
    const Ratio& forth = quota.units_per_ns;
    const Ratio& back = quota.ns_per_unit;
    ASSERT_EQ(static_cast<uint128>(forth.whole) * forth.denominator + forth.part, back.denominator);
    ASSERT_EQ(static_cast<uint128>(back.whole) * back.denominator + back.part, forth.denominator);
    ASSERT_LT(forth.denominator, uint64_t{1} << 63);
    ASSERT_LT(back.denominator, uint64_t{1} << 63);
    ASSERT_LT(forth.part, forth.denominator);
    ASSERT_LE(quota.capacity, uint64_t{1} << 61);
  }
}

}  // namespace
}  // namespace brim
