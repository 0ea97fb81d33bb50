// SPDX-License-Identifier: MIT
#include "src/algo/gcra.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "tests/unit/model.h"
#include "tests/unit/support.h"

namespace brim {
namespace {

using test::Answer;
using test::Ideal;
using test::kSecondNs;
using test::kYearNs;
using test::Model;
using test::Random;
using test::Rule;
using test::Wide;

constexpr uint64_t kUnit = uint64_t{1} << 29;  // of the 3/s examples

Quota quota_of(const Rule& rule) {
  return make_quota(static_cast<uint32_t>(rule.limit), rule.period,
                    static_cast<uint32_t>(rule.burst), rule.t0, static_cast<uint64_t>(rule.v0));
}

// 3/s, the example of the docs: three at once, not four; full again after exactly one second.
constexpr Quota kThree = make_quota(3, kSecondNs, 3, 0);
constexpr Word kSpent = gcra::next_word(0, 0, kThree, 3);
static_assert(kSpent == 3 * kUnit);
static_assert(gcra::next_word(kSpent, 0, kThree, 1) == kSpent);
static_assert(gcra::next_word(kSpent, token_clock(kThree, kSecondNs - 1), kThree, 3) == kSpent);
static_assert(gcra::next_word(kSpent, token_clock(kThree, kSecondNs), kThree, 3) == 6 * kUnit);
static_assert(gcra::decision(kSpent, kSpent, 0, 0, kThree, 1).retry_after_ns == 333333334);
static_assert(gcra::decision(kSpent, kSpent, 0, 0, kThree, 2).retry_after_ns == 666666667);
static_assert(gcra::decision(kSpent, kSpent, 0, 0, kThree, 3).retry_after_ns == kSecondNs);
static_assert(gcra::decision(kSpent, kSpent, 0, 0, kThree, 0).reset_after_ns == kSecondNs);
static_assert(gcra::decision(0, 0, 0, 0, kThree, 4).retry_after_ns == kNever);
static_assert(gcra::decision(0, 0, 0, 0, kThree, 4).reason == Reason::kCostAboveBurst);
static_assert(gcra::decision(0, 0, 0, 0, kThree, 0).allowed());
static_assert(gcra::decision(0, kUnit, 0, 0, kThree, 1).remaining == 2);
static_assert(gcra::refunded_word(kSpent, 0, kThree, 1) == 2 * kUnit);
static_assert(gcra::refunded_word(kSpent, 0, kThree, 4) == 0);
static_assert(gcra::refunded_word(kSpent, 5 * kUnit, kThree, 1) == kSpent);

Answer answer_of(const Decision& decision) {
  Answer answer;
  answer.allowed = decision.allowed();
  answer.never = decision.retry_after_ns == kNever;
  answer.remaining = decision.remaining;
  answer.retry = answer.never ? 0 : decision.retry_after_ns;
  answer.reset = decision.reset_after_ns;
  return answer;
}

// Goal: each field of each decision, and each word, is what the definition says, for any policy
// and any history. Method: random histories (jumps of 0, 1 ns, a permit, a period, a refill, long
// idle, steps back; costs 0, 1, burst, above; refunds) of random policies, against the model.
TEST(Gcra, EqualsTheModel) {
  Random random(20);
  int decisions = 0;
  int allowed = 0;
  while (decisions < test::scaled(200000)) {
    const Rule rule = test::random_rule(random);
    const Quota quota = quota_of(rule);
    Model model(rule);
    Word word = kEmptyWord;
    int64_t t = rule.t0 + random.between(0, rule.period);
    for (int i = 0; i < 40; ++i, ++decisions) {
      t = std::min(t + test::random_jump(random, rule), rule.t0 + 20 * kYearNs);
      const auto cost = static_cast<uint32_t>(test::random_cost(random, rule));
      const uint64_t v = token_clock(quota, t);
      if (random.one_in(8)) {
        model.give_back(t, cost);
        word = gcra::refunded_word(word, v, quota, cost);
      } else {
        const Word next = gcra::next_word(word, v, quota, cost);
        const Decision decision = gcra::decision(word, next, v, t, quota, cost);
        const Answer expected = model.ask(t, cost);
        ASSERT_EQ(answer_of(decision), expected)
            << rule.limit << "/" << rule.period << " burst " << rule.burst << " cost " << cost
            << " t0 " << rule.t0 << " t " << t << " word " << word;
        ASSERT_EQ(decision.verdict, expected.allowed ? Verdict::kAllowed : Verdict::kDenied);
        ASSERT_EQ(decision.reason, expected.never ? Reason::kCostAboveBurst : Reason::kNone);
        ASSERT_EQ(next != word, expected.allowed && cost != 0) << "a refusal writes nothing";
        allowed += expected.allowed ? 1 : 0;
        word = next;
      }
      ASSERT_EQ(Wide{static_cast<int64_t>(word)}, model.tat());
    }
  }
  EXPECT_GT(allowed, decisions / 10);
  EXPECT_LT(allowed, decisions * 9 / 10);
}

// Goal: how far a decision can be from a bucket on real time, whose refill is not rounded to
// units. Method: an ideal bucket in exact fractions, charged by brim's own admissions. brim is
// never late: what the ideal admits, it admits. It is early by less than one unit: what it admits
// at t, the ideal admits at t + 1 ns; and the rounding never adds up. (No window sees it: the next
// test.)
TEST(Gcra, IsNeverLateAndLessThanOneNanosecondEarly) {
  Random random(21);
  int early = 0;
  for (int decisions = 0; decisions < test::scaled(200000);) {
    const Rule rule = test::random_rule(random, 1000);
    const Quota quota = quota_of(rule);
    Ideal ideal(rule);
    Word word = kEmptyWord;
    int64_t t = rule.t0 + random.between(0, rule.period);
    for (int i = 0; i < 40; ++i, ++decisions) {
      t = std::min(t + std::max<int64_t>(test::random_jump(random, rule), 0),
                   rule.t0 + 20 * kYearNs);
      const auto cost = static_cast<uint32_t>(random.magnitude(static_cast<uint64_t>(rule.burst)));
      if (random.one_in(2)) {  // aim at the first instant that passes, where rounding shows
        const uint64_t v = token_clock(quota, t);
        const Word tried = gcra::next_word(word, v, quota, cost);
        const int64_t retry = gcra::decision(word, tried, v, t, quota, cost).retry_after_ns;
        t += retry == 0 ? 0 : retry - static_cast<int64_t>(random.below(2));
      }
      const Word next = gcra::next_word(word, token_clock(quota, t), quota, cost);
      if (next == word) {
        ASSERT_FALSE(ideal.would_admit(t, cost)) << "late";
        continue;
      }
      ASSERT_TRUE(ideal.would_admit(t + 1, cost)) << "early by more than a unit";
      early += ideal.would_admit(t, cost) ? 0 : 1;
      ideal.charge(t, cost);
      word = next;
    }
  }
  RecordProperty("early_by_less_than_a_unit", early);
}

// Goal: what one bucket admits in any half-open window of a period is at most burst + limit, and
// that is reached. Method: a greedy adversary who asks at random instants, at the promised retry
// and one ns before it; then every window that ends at an admission is summed.
TEST(Gcra, AtMostBurstPlusLimitInAnyWindow) {
  Random random(22);
  bool reached = false;
  for (int decisions = 0; decisions < test::scaled(200000);) {
    const Rule rule = test::random_rule(random, 50);
    if (rule.limit > 50) continue;
    const Quota quota = quota_of(rule);
    std::vector<std::pair<int64_t, int64_t>> admitted;
    Word word = kEmptyWord;
    int64_t t = rule.t0;
    const bool greedy = random.one_in(2);
    for (int i = 0; i < 300; ++i, ++decisions) {
      const auto cost = static_cast<uint32_t>(random.one_in(2) ? 1 : 1 + random.below(3));
      const uint64_t v = token_clock(quota, t);
      const Word next = gcra::next_word(word, v, quota, cost);
      if (next != word) {
        admitted.emplace_back(t, cost);
        word = next;
        continue;
      }
      const Decision refused = gcra::decision(word, word, v, t, quota, cost);
      if (refused.retry_after_ns == kNever) continue;
      t += greedy ? refused.retry_after_ns - static_cast<int64_t>(random.below(2))
                  : std::max<int64_t>(test::random_jump(random, rule), 0);
      t = std::min(t, rule.t0 + 20 * kYearNs);
    }
    int64_t sum = 0;
    for (size_t first = 0, last = 0; last < admitted.size(); ++last) {
      sum += admitted[last].second;
      while (admitted[first].first <= admitted[last].first - rule.period) {
        sum -= admitted[first++].second;
      }
      ASSERT_LE(sum, rule.burst + rule.limit) << rule.limit << "/" << rule.period;
      reached |= sum >= rule.burst + rule.limit - 1;
    }
  }
  EXPECT_TRUE(reached) << "the bound is not tight: the adversary is too tame";
}

// Goal: a refund ends at idle, never wraps below it, and never makes a key poorer. Method: random
// words, also absurd ones, and costs up to 2^32 - 1.
TEST(Gcra, RefundSaturatesAtIdle) {
  Random random(23);
  for (int i = 0; i < test::scaled(200000); ++i) {
    const Rule rule = test::random_rule(random);
    const Quota quota = quota_of(rule);
    const uint64_t v = token_clock(quota, rule.t0 + random.between(0, kYearNs));
    const Word word =
        random.one_in(3) ? random.bits() >> 1 : v + random.below(quota.capacity_max + 1);
    const auto cost = static_cast<uint32_t>(random.magnitude(0xffffffff));
    const Word after = gcra::refunded_word(word, v, quota, cost);
    const Wide units = Wide{cost} << rule.k;
    const Wide debt = std::max<Wide>(Wide{static_cast<int64_t>(word)} - static_cast<int64_t>(v), 0);
    ASSERT_EQ(gcra::debt_units(after, v), static_cast<uint64_t>(std::max<Wide>(debt - units, 0)));
    ASSERT_EQ(gcra::refunded_word(word, v, quota, 0), word);
    if (debt == 0) {
      ASSERT_EQ(after, word) << "nothing owed: nothing written";
    }
  }
}

}  // namespace
}  // namespace brim
