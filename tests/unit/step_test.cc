// SPDX-License-Identifier: MIT
#include "src/algo/step.h"

#include <gtest/gtest.h>

#include <array>
#include <limits>
#include <type_traits>

#include "brim/limiter.h"
#include "shm/registry.h"
#include "src/policy_words.h"
#include "tests/unit/model.h"
#include "tests/unit/support.h"

namespace brim {
namespace {

using test::kSecondNs;
using test::kYearNs;
using test::Random;
using test::Rule;
using test::Wide;

constexpr Quota make(uint32_t limit, int64_t period, uint32_t burst, int64_t t0 = 0) {
  Quota quota = make_quota(limit, period, burst, t0);
  quota.algorithm = static_cast<uint8_t>(Algorithm::kGcra);
  return quota;
}

Quota make(const Rule& rule) {
  return make(static_cast<uint32_t>(rule.limit), rule.period, static_cast<uint32_t>(rule.burst),
              rule.t0);
}

// One call on a word: what PolicyHandle::try_acquire does, without a table.
constexpr Decision ask(Word& word, const Quota& quota, int64_t t, uint32_t cost) {
  const Instant at = instant(quota, t);
  const Step taken = step(word, at, quota, cost);
  const Decision decision = decide(word, taken, at, quota, cost);
  word = taken.next;
  return decision;
}

constexpr Decision peek(Word word, const Quota& quota, int64_t t, uint32_t cost) {
  return ask(word, quota, t, cost);
}

// The examples of the docs, decided by the compiler.
constexpr bool three_a_second() {
  const Quota quota = make(3, kSecondNs, 3);
  Word word = kEmptyWord;
  for (const uint32_t left : {2u, 1u, 0u}) {
    const Decision decision = ask(word, quota, 0, 1);
    if (!decision || decision.remaining != left || decision.retry_after_ns != 0) return false;
  }
  const Decision refused = ask(word, quota, 0, 1);
  if (refused || refused.retry_after_ns != 333333334) return false;
  if (refused.reset_after_ns != kSecondNs) return false;
  if (ask(word, quota, 333333333, 1)) return false;
  if (!peek(word, quota, 333333334, 1)) return false;
  return peek(word, quota, kSecondNs, 0).remaining == 3 &&
         peek(word, quota, kSecondNs - 1, 0).remaining == 2;
}
static_assert(three_a_second());

constexpr bool burst_is_capacity_not_extra() {
  const Quota quota = make(5, kSecondNs, 8);
  Word word = kEmptyWord;
  return ask(word, quota, 0, 8) && !ask(word, quota, 0, 1) && ask(word, quota, 200000000, 1) &&
         !ask(word, quota, 399999999, 1) && ask(word, quota, 400000000, 1);
}
static_assert(burst_is_capacity_not_extra());

// governor's example: burst 5, idle for long allows 5, not more.
constexpr bool idle_time_does_not_pile_up() {
  const Quota quota = make(5, kSecondNs, 5);
  Word word = kEmptyWord;
  return ask(word, quota, 0, 5) && !ask(word, quota, 1000 * kSecondNs, 6) &&
         ask(word, quota, 1000 * kSecondNs, 5) && !ask(word, quota, 1000 * kSecondNs, 1);
}
static_assert(idle_time_does_not_pile_up());

static_assert(std::is_trivially_copyable_v<Quota> && std::is_trivially_copyable_v<Instant>);

// Goal (F31): the answer to "when" is exact, from any state, at any time. Method: random words and
// costs; the same call one ns before the promised wait is refused, at the wait admitted.
TEST(Step, RetryIsTheFirstInstantThatPasses) {
  Random random(30);
  int refusals = 0;
  for (int i = 0; i < test::scaled(400000); ++i) {
    const Rule rule = test::random_rule(random);
    const Quota quota = make(rule);
    const int64_t t = rule.t0 + random.between(-kSecondNs, 10 * kYearNs);
    const Instant at = instant(quota, t);
    const Word word = at.v + random.below(quota.capacity + 1);
    const auto cost = static_cast<uint32_t>(random.magnitude(static_cast<uint64_t>(rule.burst)));
    const Decision decision = peek(word, quota, t, cost);
    if (decision.allowed()) {
      ASSERT_EQ(decision.retry_after_ns, 0);
      continue;
    }
    ++refusals;
    ASSERT_GT(decision.retry_after_ns, 0);
    ASSERT_FALSE(peek(word, quota, t + decision.retry_after_ns - 1, cost));
    ASSERT_TRUE(peek(word, quota, t + decision.retry_after_ns, cost));
  }
  EXPECT_GT(refusals, test::scaled(50000));
}

// Goal: `remaining` is how many more calls of cost 1 pass, and the largest cost that passes.
// Method: counts them where they are few; asks for remaining and remaining + 1 everywhere.
TEST(Step, RemainingIsWhatPasses) {
  Random random(31);
  for (int i = 0; i < test::scaled(200000); ++i) {
    const Rule rule = test::random_rule(random, random.one_in(2) ? 40 : 0xffffffff);
    const Quota quota = make(rule);
    const int64_t t = rule.t0 + random.between(0, 10 * kYearNs);
    Word word = instant(quota, t).v + random.below(quota.capacity + 1);
    const Decision first =
        ask(word, quota, t, static_cast<uint32_t>(test::random_cost(random, rule)));
    const uint32_t left = first.remaining;
    ASSERT_TRUE(peek(word, quota, t, left));
    ASSERT_EQ(peek(word, quota, t, left).remaining, 0u);
    if (left < 0xffffffff) {
      ASSERT_FALSE(peek(word, quota, t, left + 1));
    }
    if (left > 40) continue;
    uint32_t passed = 0;
    while (ask(word, quota, t, 1)) ++passed;
    ASSERT_EQ(passed, left);
  }
}

// Goal: asking for less never fares worse, waiting longer never fares worse. Method: pairs of
// costs and of times on one random word.
TEST(Step, MonotoneInCostAndTime) {
  Random random(32);
  for (int i = 0; i < test::scaled(200000); ++i) {
    const Rule rule = test::random_rule(random);
    const Quota quota = make(rule);
    const int64_t t = rule.t0 + random.between(-kSecondNs, 10 * kYearNs);
    const Word word = instant(quota, t).v + random.below(2 * quota.capacity);
    const auto large = static_cast<uint32_t>(random.magnitude(0xffffffff));
    const auto small = static_cast<uint32_t>(random.magnitude(large));
    const Decision more = peek(word, quota, t, large);
    const Decision less = peek(word, quota, t, small);
    ASSERT_LE(more.allowed(), less.allowed());
    ASSERT_LE(less.retry_after_ns, more.retry_after_ns);
    const int64_t d = random.one_in(2) ? 1 : static_cast<int64_t>(random.magnitude(kYearNs));
    const Decision later = peek(word, quota, t + d, large);
    ASSERT_LE(more.allowed(), later.allowed());
    ASSERT_GE(more.retry_after_ns, later.retry_after_ns);
    ASSERT_LE(peek(word, quota, t, 0).remaining, peek(word, quota, t + d, 0).remaining);
  }
}

// Goal: reset_after is the exact time to idle. Method: debt() at reset is 0, one ns before it is
// not, for words left by an admission or a refusal.
TEST(Step, ResetIsTheFirstIdleInstant) {
  Random random(33);
  for (int i = 0; i < test::scaled(200000); ++i) {
    const Rule rule = test::random_rule(random);
    const Quota quota = make(rule);
    const int64_t t = rule.t0 + random.between(-kSecondNs, 10 * kYearNs);
    Word word = instant(quota, t).v + random.below(quota.capacity + 1);
    const Decision decision =
        ask(word, quota, t, static_cast<uint32_t>(test::random_cost(random, rule)));
    const int64_t reset = decision.reset_after_ns;
    ASSERT_EQ(reset == 0, debt(word, instant(quota, t), quota) == 0);
    ASSERT_EQ(debt(word, instant(quota, t + reset), quota), 0u);
    if (reset != 0) {
      ASSERT_NE(debt(word, instant(quota, t + reset - 1), quota), 0u);
    }
  }
}

// Goal: an idle key equals an absent one, which is what makes taking its slot lossless; and a key
// that owes anything differs. Method: where debt() is 0, every later call of any cost gets the
// same word and the same decision from the stored word as from kEmptyWord; where it is not, a call
// for the whole burst tells them apart.
TEST(Step, IdleEqualsAbsentAndNothingElseDoes) {
  Random random(34);
  int idle = 0;
  for (int i = 0; i < test::scaled(300000); ++i) {
    const Rule rule = test::random_rule(random);
    const Quota quota = make(rule);
    const int64_t t = rule.t0 + random.between(0, 10 * kYearNs);
    const Instant at = instant(quota, t);
    const Word word = random.one_in(2) ? random.below(at.v + 1)
                                       : at.v - std::min<uint64_t>(at.v, 2) + random.below(5);
    if (debt(word, at, quota) != 0) {
      ASSERT_EQ(step(word, at, quota, quota.burst).next, word);
      ASSERT_NE(step(kEmptyWord, at, quota, quota.burst).next, kEmptyWord);
      continue;
    }
    ++idle;
    const int64_t later = t + (random.one_in(2) ? 0 : random.between(0, kYearNs));
    const auto cost = static_cast<uint32_t>(test::random_cost(random, rule));
    Word stored = word;
    Word absent = kEmptyWord;
    ASSERT_EQ(ask(stored, quota, later, cost), ask(absent, quota, later, cost));
    if (absent != kEmptyWord) {
      ASSERT_EQ(stored, absent);
    }
  }
  EXPECT_GT(idle, test::scaled(100000));
}

// Goal (F31): a clock that runs back, stands still, jitters or jumps never grants a permit that
// time did not refill. Method: random walks of the clock, an hour and a ns at a time; what was
// admitted in total is at most the burst and what the highest reading so far refilled.
TEST(Step, ClockSteppingBackNeverGrants) {
  Random random(35);
  for (int decisions = 0; decisions < test::scaled(200000);) {
    const Rule rule = test::random_rule(random, 1000);
    const Quota quota = make(rule);
    const int64_t start = rule.t0 + 2 * 3600 * kSecondNs;
    int64_t t = start;
    int64_t highest = t;
    Wide units = 0;
    Word word = kEmptyWord;
    for (int i = 0; i < 40; ++i, ++decisions) {
      static constexpr int64_t kHour = 3600 * kSecondNs;
      const std::array<int64_t, 6> jumps = {
          0, -1, 1, -kHour, kHour, random.between(-rule.period, rule.period)};
      if (i != 0) t += jumps[random.below(jumps.size())];
      highest = std::max(highest, t);
      const auto cost = static_cast<uint32_t>(random.magnitude(static_cast<uint64_t>(rule.burst)));
      const Word before = word;
      const Decision decision = ask(word, quota, t, cost);
      ASSERT_GE(decision.retry_after_ns, 0);
      ASSERT_GE(decision.reset_after_ns, 0);
      ASSERT_LE(decision.remaining, quota.burst);
      ASSERT_GE(word, before) << "time never takes a charge back";
      units += decision.allowed() ? Wide{cost} << rule.k : 0;
      const Wide refilled = Wide{static_cast<int64_t>(token_clock(quota, highest))} -
                            static_cast<int64_t>(token_clock(quota, start));
      ASSERT_LE(units, rule.capacity() + refilled);
    }
  }
}

// Goal (F31): an hour back is an hour of strictness at most: the promised wait, counted from the
// earlier reading, is still exact.
TEST(Step, AfterAStepBackTheWaitIsExact) {
  const Quota quota = make(10, kSecondNs, 10);
  const int64_t t = 7200 * kSecondNs;
  Word word = kEmptyWord;
  ASSERT_TRUE(ask(word, quota, t, 10));
  const int64_t back = t - 3600 * kSecondNs;
  const Decision refused = ask(word, quota, back, 1);
  EXPECT_FALSE(refused);
  EXPECT_EQ(refused.remaining, 0u);
  EXPECT_EQ(refused.retry_after_ns, 3600 * kSecondNs + kSecondNs / 10);
  EXPECT_FALSE(peek(word, quota, back + refused.retry_after_ns - 1, 1));
  EXPECT_TRUE(peek(word, quota, back + refused.retry_after_ns, 1));
}

// Goal (F36): cost 0 looks and writes nothing; cost = burst passes from idle; burst + 1 and
// everything above is never, writes nothing. Method: the edges over random rules and words.
TEST(Step, EdgesOfCost) {
  Random random(36);
  for (int i = 0; i < test::scaled(100000); ++i) {
    const Rule rule = test::random_rule(random);
    const Quota quota = make(rule);
    const int64_t t = rule.t0 + random.between(0, kYearNs);
    const Instant at = instant(quota, t);
    const Word word = random.one_in(2) ? kEmptyWord : at.v + random.below(quota.capacity + 1);
    const Decision look = peek(word, quota, t, 0);
    ASSERT_EQ(step(word, at, quota, 0).next, word);
    ASSERT_TRUE(look.allowed());
    ASSERT_EQ(look.verdict, Verdict::kAllowed);
    ASSERT_EQ(look.retry_after_ns, 0);
    const Decision whole = peek(kEmptyWord, quota, t, quota.burst);
    ASSERT_TRUE(whole.allowed());
    ASSERT_EQ(whole.remaining, 0u);
    for (const uint64_t cost : {uint64_t{quota.burst} + 1, uint64_t{0xffffffff}}) {
      if (cost > 0xffffffff || cost <= quota.burst) continue;
      const auto above = static_cast<uint32_t>(cost);
      ASSERT_EQ(step(word, at, quota, above).next, word);
      const Decision never = peek(word, quota, t, above);
      ASSERT_EQ(never.verdict, Verdict::kDenied);
      ASSERT_EQ(never.reason, Reason::kCostAboveBurst);
      ASSERT_EQ(never.retry_after_ns, kNever);
      ASSERT_EQ(never.remaining, look.remaining);
    }
  }
}

// Goal (F34): a word beyond anything the policy can hold bars its key for no longer than the burst,
// and what may be booked ahead of it, take to refill. Method: 2^63 - 1, a century ahead and random
// implausible words; after the table's healing (the word becomes healed_word) the whole burst
// passes after exactly that time, one permit after as much less as the burst's others take.
TEST(Step, AWordBeyondTheBurstHeals) {
  Random random(37);
  int healed_words = 0;
  for (int i = 0; i < test::scaled(100000); ++i) {
    const Rule rule = test::random_rule(random);
    Quota quota = make(rule);
    if (random.one_in(2)) quota.capacity_max += random.below(uint64_t{1} << 61);
    const int64_t t = rule.t0 + random.between(0, kYearNs);
    const Instant at = instant(quota, t);
    const Word healed = healed_word(at, quota);
    ASSERT_LE(healed, kValueMax);
    ASSERT_TRUE(plausible(healed, at, quota));
    ASSERT_FALSE(plausible(healed + 1, at, quota));
    const Word bad = random.one_in(4)   ? kValueMax
                     : random.one_in(3) ? at.v + 100 * static_cast<uint64_t>(kYearNs)
                                        : healed + 1 + random.below(kValueMax - healed);
    if (bad <= healed) continue;
    ++healed_words;
    ASSERT_FALSE(plausible(bad, at, quota));
    const Decision refused = peek(bad, quota, t, 1);
    ASSERT_FALSE(refused);
    ASSERT_GT(refused.retry_after_ns, 0);
    ASSERT_EQ(refused.remaining, 0u);
    const int64_t refill = ns_until(quota, t, at.v + quota.capacity_max);
    ASSERT_EQ(peek(healed, quota, t, quota.burst).retry_after_ns, refill);
    ASSERT_EQ(peek(healed, quota, t, 0).reset_after_ns, refill);
    ASSERT_TRUE(peek(healed, quota, t + refill, quota.burst));
    const uint64_t booked = quota.capacity_max - quota.capacity;
    ASSERT_EQ(peek(healed, quota, t, 1).retry_after_ns,
              ns_until(quota, t, at.v + booked + (uint64_t{1} << quota.shift)));
  }
  EXPECT_GT(healed_words, test::scaled(50000));
}

// Goal: no honest history ever meets the ceiling, so healing forgives no true debt. Method: random
// histories; every word an admission leaves is plausible at its instant, also when the capacity was
// lowered afterwards (F38).
TEST(Step, HonestWordsStayBelowTheCeiling) {
  Random random(38);
  for (int decisions = 0; decisions < test::scaled(100000);) {
    const Rule rule = test::random_rule(random);
    Quota quota = make(rule);
    Word word = kEmptyWord;
    int64_t t = rule.t0;
    for (int i = 0; i < 20; ++i, ++decisions) {
      t = std::min(t + std::max<int64_t>(test::random_jump(random, rule), 0),
                   rule.t0 + 20 * kYearNs);
      const auto cost = static_cast<uint32_t>(test::random_cost(random, rule));
      ask(word, quota, t, cost);
      ASSERT_TRUE(plausible(word, instant(quota, t), quota));
    }
    const uint64_t owed = debt(word, instant(quota, t), quota);
    quota.burst = 1;  // the policy is lowered while the key is in debt
    quota.capacity = uint64_t{1} << quota.shift;
    const Instant at = instant(quota, t);
    ASSERT_TRUE(plausible(word, at, quota));
    ASSERT_EQ(debt(word, at, quota), owed);
    const Decision one = peek(word, quota, t, 1);
    if (!one) {
      ASSERT_FALSE(peek(word, quota, t + one.retry_after_ns - 1, 1));
      ASSERT_TRUE(peek(word, quota, t + one.retry_after_ns, 1));
    }
  }
}

// Goal (F38): a new slope that starts where the old one ended keeps every key's debt in permits.
// Method: a quota made at (tc, v(tc)) with another rate of the same shift; the debt is equal at
// the change, and later the new rate pays it off.
TEST(Step, ANewSlopeKeepsTheDebt) {
  Random random(39);
  for (int i = 0; i < test::scaled(100000); ++i) {
    const Rule rule = test::random_rule(random);
    const Quota before = make(rule);
    const int64_t tc = rule.t0 + random.between(0, kYearNs);
    const Instant at = instant(before, tc);
    const Word word = at.v + random.below(before.capacity + 1);
    // Any rate of the same shift: the same limit over a period with the same power of two.
    const int64_t most = rule.limit << rule.k;
    const int64_t least = rule.k == 0 ? rule.limit : (rule.limit << (rule.k - 1)) + 1;
    Quota after = make_quota(before.limit, random.between(least, most), before.burst, tc, at.v);
    after.algorithm = before.algorithm;
    ASSERT_EQ(after.shift, before.shift);
    ASSERT_EQ(debt(word, instant(after, tc), after), debt(word, at, before));
    ASSERT_EQ(peek(word, after, tc, 0).remaining, peek(word, before, tc, 0).remaining);
    const int64_t reset = peek(word, after, tc, 0).reset_after_ns;
    ASSERT_EQ(debt(word, instant(after, tc + reset), after), 0u);
  }
}

// Goal: debt() counts permits in 2^-20, so that keys of different policies can be compared. Method:
// against the exact fraction: never below it, and above it by at most two parts in 2^20 permits.
TEST(Step, DebtIsComparableBetweenPolicies) {
  Random random(40);
  for (int i = 0; i < test::scaled(200000); ++i) {
    const Rule rule = test::random_rule(random);
    const Quota quota = make(rule);
    const Instant at = instant(quota, rule.t0 + random.between(0, kYearNs));
    const uint64_t units = random.one_in(4) ? random.below(3) : random.below(quota.capacity + 1);
    const Wide parts = Wide{static_cast<int64_t>(debt(at.v + units, at, quota))};
    const Wide exact = Wide{static_cast<int64_t>(units)} << 20;  // times 2^k
    ASSERT_GE(parts << rule.k, exact);
    ASSERT_LT((parts - 1) << rule.k, exact + (units == 0 ? 0 : rule.scale()));
    ASSERT_EQ(parts == 0, units == 0);
  }
  // Half of one policy's burst against one permit of another: requests count, not time.
  const Quota slow = make(1, kYearNs, 60);
  const Quota fast = make(1000000000, kSecondNs, 100);
  const Instant slow_at = instant(slow, 0);
  const Instant fast_at = instant(fast, 0);
  EXPECT_LT(debt(step(kEmptyWord, slow_at, slow, 1).next, slow_at, slow),
            debt(step(kEmptyWord, fast_at, fast, 2).next, fast_at, fast));
  EXPECT_GT(debt(step(kEmptyWord, slow_at, slow, 30).next, slow_at, slow),
            debt(step(kEmptyWord, fast_at, fast, 29).next, fast_at, fast));
}

// Goal: equal debts in permits are equal numbers, whatever the policies' units. Method: whole
// permits owed under every shift.
TEST(Step, EqualDebtsAreEqualNumbers) {
  for (int64_t period = 1; period < kYearNs; period *= 3) {
    const Quota quota = make(1, period, 60);
    const Instant at = instant(quota, 0);
    for (const uint32_t owed : {1u, 2u, 59u}) {
      EXPECT_EQ(debt(step(kEmptyWord, at, quota, owed).next, at, quota), uint64_t{owed} << 20)
          << "period " << period;
    }
  }
}

// Goal: debt() of a corrupt word saturates instead of wrapping into a small number, which would
// get a slot reclaimed for the wrong reason. Method: it never falls as the word rises.
TEST(Step, DebtNeverWraps) {
  Random random(41);
  for (int i = 0; i < test::scaled(200000); ++i) {
    const Rule rule = test::random_rule(random);
    const Quota quota = make(rule);
    const Instant at = instant(quota, rule.t0 + random.between(0, kYearNs));
    const Word low = random.bits() >> (1 + random.below(30));
    const Word high = low + random.below(kValueMax - low + 1);
    ASSERT_LE(debt(low, at, quota), debt(high, at, quota));
  }
}

// Goal: a refund of what was just taken restores the word as a caller can see it; more than was
// taken ends at idle. Method: acquire and refund at one instant.
TEST(Step, RefundUndoesAnAcquire) {
  Random random(42);
  for (int i = 0; i < test::scaled(200000); ++i) {
    const Rule rule = test::random_rule(random);
    const Quota quota = make(rule);
    const int64_t t = rule.t0 + random.between(0, kYearNs);
    const Instant at = instant(quota, t);
    const Word word = random.one_in(3) ? kEmptyWord : at.v + random.below(quota.capacity + 1);
    const auto cost = static_cast<uint32_t>(random.magnitude(static_cast<uint64_t>(rule.burst)));
    const Word next = step(word, at, quota, cost).next;
    if (next == word) continue;
    const Word back = refund(next, at, quota, cost);
    ASSERT_EQ(debt(back, at, quota), debt(word, at, quota));
    ASSERT_EQ(peek(back, quota, t, 0), peek(word, quota, t, 0));
    ASSERT_EQ(refund(next, at, quota, 0xffffffff) > at.v,
              debt(next, at, quota) > debt(at.v + (Word{0xffffffff} << rule.k), at, quota) &&
                  (Wide{0xffffffff} << rule.k) < static_cast<int64_t>(next - at.v));
  }
}

// Goal: any bits for word, quota and time give a decision without undefined behaviour, in range.
// Method: everything arbitrary, as after damage to the segment, but mostly an algorithm that there
// is; the sanitizer build judges.
TEST(Step, AnyBitsAreDefined) {
  Random random(43);
  for (int i = 0; i < test::scaled(1000000); ++i) {
    std::array<uint64_t, shm::kPartWords> words;
    for (uint64_t& word : words) word = random.one_in(4) ? random.below(64) : random.bits();
    if (random.one_in(4)) words[kWordPeriod] = random.below(3);
    if (!random.one_in(4)) {
      const uint64_t kind = random.below(13);
      words[kWordKind] = (words[kWordKind] & ~uint64_t{0xff}) | (kind == 0 ? kBanAlgorithm : kind);
    }
    const Quota quota = quota_from_words([&](size_t index) { return words[index]; });
    const auto t = static_cast<int64_t>(random.bits());
    Word word = random.bits() >> random.below(64);
    const auto cost = static_cast<uint32_t>(random.bits());
    const Instant at = instant(quota, t);
    const Decision decision = ask(word, quota, t, cost);
    ASSERT_GE(decision.retry_after_ns, 0) << int{quota.algorithm} << " period " << quota.period_ns;
    ASSERT_GE(decision.reset_after_ns, 0) << int{quota.algorithm} << " period " << quota.period_ns;
    ASSERT_GE(decision.delay_ns, 0) << int{quota.algorithm};
    (void)debt(word, at, quota);
    (void)refund(word, at, quota, cost);
    (void)charge(word, at, quota, cost);
    (void)available(word, at, quota);
    (void)plausible(word, at, quota);
    (void)healed_word(at, quota);
  }
}

// Goal: the three names of the algorithm decide alike; an unknown number writes nothing.
TEST(Step, TokenBucketAndLeakyBucketAreGcra) {
  Quota quota = make(10, kSecondNs, 20);
  const Instant at = instant(quota, kSecondNs);
  const Word expected = step(kEmptyWord, at, quota, 7).next;
  EXPECT_NE(expected, kEmptyWord);
  for (const Algorithm one : {Algorithm::kTokenBucket, Algorithm::kLeakyBucket}) {
    quota.algorithm = static_cast<uint8_t>(one);
    EXPECT_EQ(step(kEmptyWord, at, quota, 7).next, expected);
  }
  for (const int unknown : {0, 12, 254}) {
    quota.algorithm = static_cast<uint8_t>(unknown);
    EXPECT_EQ(step(Word{12345}, at, quota, 7).next, Word{12345});
    EXPECT_FALSE(peek(Word{12345}, quota, kSecondNs, 7));
  }
}

// A decision is what the docs promise of it: 32 bytes that any transport may copy; handles can be
// passed around by value.
static_assert(sizeof(Decision) == 32 && std::is_trivially_copyable_v<Decision>);
static_assert(std::is_standard_layout_v<Decision>);
static_assert(std::is_copy_constructible_v<PolicyHandle> &&
              std::is_copy_assignable_v<PolicyHandle>);
static_assert(std::is_nothrow_move_constructible_v<PolicyHandle>);
static_assert(std::is_copy_constructible_v<Limiter> && std::is_copy_assignable_v<Limiter>);
static_assert(std::is_nothrow_move_constructible_v<Limiter>);

TEST(Decision, DefaultsRefuse) {
  constexpr Decision decision;
  static_assert(!decision.allowed() && !decision && decision.verdict == Verdict::kDenied);
  EXPECT_EQ(decision, Decision{});
}

TEST(Decision, AnEmptyHandleAdmitsAndSaysWhy) {
  const PolicyHandle handle;
  const Decision decision = handle.try_acquire("anyone");
  EXPECT_EQ(decision.verdict, Verdict::kUnavailable);
  EXPECT_EQ(decision.reason, Reason::kNoPolicy);
  EXPECT_TRUE(decision.allowed());
  EXPECT_EQ(handle.peek("anyone").reason, Reason::kNoPolicy);
  EXPECT_FALSE(handle.refund("anyone"));
  EXPECT_FALSE(handle.reset("anyone"));
  EXPECT_EQ(Limiter().policy("x").status().code(), absl::StatusCode::kFailedPrecondition);
}

}  // namespace
}  // namespace brim
