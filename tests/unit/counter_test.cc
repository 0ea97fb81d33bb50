// SPDX-License-Identifier: MIT
// The sliding window counter, exact and rounded down, against the model.
#include "src/algo/counter.h"

#include <vector>

#include "src/algo/step.h"
#include "tests/unit/model_counter.h"
#include "tests/unit/model_window.h"

namespace brim {
namespace {

using test::CounterModel;
using test::Edges;
using test::kDayNs;
using test::Key;
using test::kSecNs;
using test::Random;
using test::Wide;

// How long the window number of a word stays unambiguous, in ns.
Wide half_turn(const Quota& quota) {
  return test::wide(counter::window_mask(quota) / 2) * quota.period_ns;
}

Rate random_rate(Random& random, bool floor, bool count_denied) {
  for (;;) {
    Rate rate;
    rate.algorithm = Algorithm::kSlidingCounter;
    rate.period_ns = test::random_period(random);
    rate.limit = static_cast<uint32_t>(random.magnitude(random.one_in(2) ? 20 : (1u << 21) - 1));
    rate.floor_weight = floor;
    rate.count_denied = count_denied;
    // Windows of a few ns and limits of a million leave too few bits for two clocks' skew.
    if (check_fits(rate).ok() && half_turn(test::quota_of(rate, {0, 0})) > 8 * test::kMilliNs) {
      return rate;
    }
  }
}

Beginning random_beginning(Random& random) {
  const int64_t now = random.one_in(4) ? 1 : random.between(1, 365 * kDayNs);
  return {now, random.between(kDayNs, 200 * 365 * kDayNs)};
}

void compare_many(bool floor, bool count_denied, uint64_t seed) {
  Random random(seed);
  int admitted = 0;
  int asked = 0;
  while (asked < test::scaled(100000)) {
    const Rate rate = random_rate(random, floor, count_denied);
    const Beginning at = random_beginning(random);
    BRIM_TRACE(test::words_of(rate, at));
    Key key{test::quota_of(rate, at)};
    CounterModel model(rate, at, test::wide(counter::count_mask(key.quota)));
    Edges edges = test::window_edges(rate, rate.period_ns, at);
    edges.first = static_cast<int64_t>(model.begin(model.number(at.now_ns)));
    edges.refill = 2 * rate.period_ns;
    edges.permit = std::max<int64_t>(rate.period_ns / rate.limit, 1);
    edges.exact_idle = !floor;  // a weight below 1 is no weight
    const auto idle = static_cast<int64_t>(std::min<Wide>(half_turn(key.quota) / 2, 365 * kDayNs));
    edges.farthest = std::min(edges.farthest, idle);
    constexpr int kSteps = 50;
    admitted += test::drive(random, key, model, edges, at.now_ns, kSteps);
    asked += kSteps;
    BRIM_STOP();
  }
  EXPECT_GT(admitted, asked / 20);
  EXPECT_LT(admitted, asked * 19 / 20);
}

// Goal: each field of each decision is what the definition says, for any rate and any history,
// refunds, charges and steps back included. Method: random histories against the model.
TEST(Counter, ExactEqualsTheModel) { compare_many(false, false, 400); }
TEST(Counter, RoundedDownEqualsTheModel) { compare_many(true, false, 401); }
TEST(Counter, ExactThatCountsRefusalsEqualsTheModel) { compare_many(false, true, 402); }
TEST(Counter, RoundedDownThatCountsRefusalsEqualsTheModel) { compare_many(true, true, 403); }

// Goal: two full windows and dense calls, where weights and rounding matter most. Method: small
// primes as limits and periods, every instant.
TEST(Counter, SmallNumbersEqualTheModel) {
  Random random(404);
  for (int asked = 0; asked < test::scaled(100000);) {
    Rate rate;
    rate.algorithm = Algorithm::kSlidingCounter;
    rate.limit = 1 + static_cast<uint32_t>(random.below(12));
    rate.period_ns = 1 + static_cast<int64_t>(random.below(17));
    rate.floor_weight = random.one_in(2);
    rate.count_denied = random.one_in(4);
    const Beginning at{50, kDayNs + static_cast<int64_t>(random.below(100))};
    BRIM_TRACE(test::words_of(rate, at));
    Key key{test::quota_of(rate, at)};
    CounterModel model(rate, at, test::wide(counter::count_mask(key.quota)));
    for (int64_t t = 50; t < 150; ++t) {
      const auto cost = static_cast<uint32_t>(random.below(rate.limit + uint64_t{2}));
      test::compare(key, model, t, random.one_in(2) ? 1 : cost, rate.count_denied);
      asked += 1;
      BRIM_STOP();
    }
  }
}

// The most that passes within a period, whatever instants around one boundary a client chooses to
// take all it gets.
int worst_of(const Rate& rate) {
  const Quota quota = test::quota_of(rate, {100, kDayNs / 90 * 90});
  const auto period = static_cast<int>(rate.period_ns);
  const int span = period + 4;
  int worst = 0;
  for (uint32_t calls = 0; calls < 1u << span; ++calls) {
    Key key{quota};
    std::vector<int> passed(static_cast<size_t>(span), 0);
    for (int t = 0; t < span; ++t) {
      const bool asks = (calls >> t & 1) != 0;
      while (asks && key.ask(100 + period - 2 + t, 1).allowed()) ++passed[static_cast<size_t>(t)];
    }
    for (int t = 0; t + period <= span; ++t) {
      int sum = 0;
      for (int i = t; i < t + period; ++i) sum += passed[static_cast<size_t>(i)];
      worst = std::max(worst, sum);
    }
  }
  return worst;
}

// Goal: within any half-open period at most 2 * limit - 1 pass, and so many do; one more where the
// weight is rounded down. Method: brute force for small limits.
TEST(Counter, TwiceTheLimitLessOneIsTheWorstCase) {
  for (uint32_t limit = 1; limit <= 4; ++limit) {
    Rate rate;
    rate.algorithm = Algorithm::kSlidingCounter;
    rate.limit = limit;
    rate.period_ns = 3 * limit;
    EXPECT_EQ(worst_of(rate), static_cast<int>(2 * limit - 1)) << limit;
    rate.floor_weight = true;
    EXPECT_EQ(worst_of(rate), static_cast<int>(2 * limit)) << limit;
  }
}

// Goal: times are exact also by a clock that is behind the policy's beginning (another process's,
// 1 ms at most). Method: a policy that begins at a window's boundary, seen 0 to 1 ms earlier.
TEST(Counter, AClockBehindTheBeginning) {
  Rate rate;
  rate.algorithm = Algorithm::kSlidingCounter;
  rate.limit = 10;
  rate.period_ns = 60 * kSecNs;
  const Beginning at{kDayNs, kDayNs};
  for (const int64_t behind : {int64_t{0}, int64_t{1}, test::kMilliNs}) {
    Key key{test::quota_of(rate, at)};
    CounterModel model(rate, at, test::wide(counter::count_mask(key.quota)));
    test::compare(key, model, kDayNs - behind, 10, false);
    test::compare(key, model, kDayNs - behind, 1, false);
  }
}

// Goal: 19 of 10, the definition's example. Method: ten at the end of a minute, then one as each
// fades.
TEST(Counter, NineteenOfTen) {
  Rate rate;
  rate.algorithm = Algorithm::kSlidingCounter;
  rate.limit = 10;
  rate.period_ns = 60 * kSecNs;
  Key key{test::quota_of(rate, {0, kDayNs})};
  int64_t t = 60 * kSecNs - 1;
  EXPECT_TRUE(key.ask(t, 10).allowed());
  int passed = 10;
  for (int i = 0; i < 100; ++i) {
    const Decision decision = key.ask(t, 1);
    passed += decision.allowed() ? 1 : 0;
    if (t + decision.retry_after_ns >= 120 * kSecNs - 1) break;
    t += decision.retry_after_ns;
  }
  EXPECT_EQ(passed, 19);
}

// Goal: a window's number is kept modulo; a word that was not touched for two windows is idle, for
// as long as a segment lives. Method: words of rates people write, 2 windows to 9 years old.
TEST(Counter, AStaleWordIsIdle) {
  Random random(405);
  for (int i = 0; i < test::scaled(100000); ++i) {
    Rate rate;
    rate.algorithm = Algorithm::kSlidingCounter;
    rate.limit = static_cast<uint32_t>(random.magnitude(50000));
    rate.period_ns = random.one_in(2) ? kSecNs : static_cast<int64_t>(random.magnitude(kDayNs));
    rate.limit = static_cast<uint32_t>(std::min<int64_t>(
        rate.limit, std::max<int64_t>(rate.period_ns / 20000, 1)));  // at most 50000/s
    const Beginning at = random_beginning(random);
    Key key{test::quota_of(rate, at)};
    key.ask(at.now_ns, 1 + static_cast<uint32_t>(random.below(rate.limit)));
    const int64_t last =
        std::min(8 * 365 * kDayNs,
                 static_cast<int64_t>(std::min<Wide>(half_turn(key.quota), 16 * 365 * kDayNs)));
    ASSERT_EQ(last, 8 * 365 * kDayNs) << test::words_of(rate, at);
    const int64_t t =
        at.now_ns + std::max(2 * rate.period_ns,
                             last - static_cast<int64_t>(random.magnitude(8 * 365 * kDayNs)));
    ASSERT_EQ(key.owed(t), 0u) << test::words_of(rate, at);
    ASSERT_TRUE(plausible(key.word, instant(key.quota, t), key.quota));
    const Key absent{key.quota};
    ASSERT_EQ(key.look(t, rate.limit), absent.look(t, rate.limit));
  }
}

// Goal: idle is absent for any limit. Method: the largest limit, a key that comes back after 13
// days.
// A number that has come round looks like one of the future. Nothing is decided on it: it is found
// implausible and brought down to an absent key's word; see Call::ceiling and Call::debt.
TEST(Counter, AStaleWordOfTheLargestLimitIsBroughtDown) {
  Rate rate;
  rate.algorithm = Algorithm::kSlidingCounter;
  rate.limit = 2000000;
  rate.period_ns = kSecNs;
  ASSERT_TRUE(check_fits(rate).ok());
  Key key{test::quota_of(rate, {0, kDayNs})};
  ASSERT_TRUE(key.ask(0, 1).allowed());
  const int64_t t = 13 * kDayNs;
  const Instant at = instant(key.quota, t);
  EXPECT_EQ(step(key.word, at, key.quota, 1).next, key.word);
  EXPECT_FALSE(plausible(key.word, at, key.quota));
  key.word = healed_word(at, key.quota);
  EXPECT_EQ(key.owed(t), 0u);
  EXPECT_TRUE(key.look(t, 1).allowed());
}

}  // namespace
}  // namespace brim
