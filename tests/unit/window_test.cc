// SPDX-License-Identifier: MIT
// Fixed windows, aligned with an offset and opened by the first hit, against the model. First-hit
// windows end at a multiple of a tick of 2^s ns after the policy's beginning, rounded up: that is
// what window.h states; the model takes the tick from the quota.
#include "src/algo/window.h"

#include <utility>
#include <vector>

#include "src/algo/step.h"
#include "src/call.h"
#include "tests/unit/model_counter.h"
#include "tests/unit/model_window.h"

namespace brim {
namespace {

using test::CounterModel;
using test::Edges;
using test::Key;
using test::kSecNs;
using test::Random;
using test::Wide;
using test::WindowModel;

Rate random_rate(Random& random, bool first_hit, bool count_denied) {
  for (;;) {
    Rate rate;
    rate.algorithm = Algorithm::kFixedWindow;
    rate.period_ns = test::random_period(random);
    rate.limit = static_cast<uint32_t>(random.magnitude(random.one_in(2) ? 20 : 0xffffffff));
    rate.first_hit = first_hit;
    rate.count_denied = count_denied;
    if (!first_hit) rate.utc_offset_s = test::random_offset(random);
    if (check_fits(rate).ok()) return rate;
  }
}

Beginning random_beginning(Random& random) {
  const int64_t now = random.one_in(4) ? 1 : random.between(1, 365 * test::kDayNs);
  return {now, random.between(test::kDayNs, 200 * 365 * test::kDayNs)};
}

WindowModel model_of(const Rate& rate, const Beginning& at, const Quota& quota) {
  const Wide tick = rate.first_hit ? test::wide(quota.ns_per_unit.whole) : 0;
  return {rate, at, tick, test::wide(window::count_mask(quota))};
}

void compare_many(bool first_hit, bool count_denied, uint64_t seed) {
  Random random(seed);
  int admitted = 0;
  int asked = 0;
  while (asked < test::scaled(100000)) {
    const Rate rate = random_rate(random, first_hit, count_denied);
    const Beginning at = random_beginning(random);
    BRIM_TRACE(test::words_of(rate, at));
    Key key{test::quota_of(rate, at)};
    WindowModel model = model_of(rate, at, key.quota);
    const Edges edges = test::window_edges(rate, rate.period_ns, at);
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
TEST(FixedWindow, AlignedEqualsTheModel) { compare_many(false, false, 200); }
TEST(FixedWindow, AlignedThatCountsRefusalsEqualsTheModel) { compare_many(false, true, 201); }
TEST(FixedWindow, FirstHitEqualsTheModel) { compare_many(true, false, 202); }
TEST(FixedWindow, FirstHitThatCountsRefusalsEqualsTheModel) { compare_many(true, true, 203); }

// Goal: a class may use its share of the limit, rounded down, and a cost above that never passes.
// Method: the models with the smaller limit.
TEST(Classes, HaveTheirShareOfAWindow) {
  Random random(205);
  for (int asked = 0; asked < test::scaled(100000); asked += 25) {
    const bool counter = random.one_in(2);
    Rate rate = random_rate(random, random.one_in(2), false);
    rate.limit = 1 + rate.limit % 1000;
    rate.period_ns = std::max<int64_t>(rate.period_ns, 1000000);
    if (counter) rate.algorithm = Algorithm::kSlidingCounter;
    if (counter) rate.first_hit = false;
    if (counter) rate.utc_offset_s = 0;
    const Beginning at{test::kDayNs, 2 * test::kDayNs};
    Key key{test::quota_of(rate, at)};
    const Quota whole = key.quota;
    const auto percent = static_cast<uint32_t>(1 + random.below(100));
    scale_class(key.quota, percent);
    rate.limit = static_cast<uint32_t>(uint64_t{rate.limit} * percent / 100);
    BRIM_TRACE(test::words_of(rate, at));
    Edges edges = test::window_edges(rate, rate.period_ns, at);
    edges.burst = std::max(rate.limit, 1u);
    edges.first = at.now_ns;
    edges.exact_idle = rate.limit != 0;
    if (counter) {
      CounterModel model(rate, at, test::wide(counter::count_mask(whole)));
      test::drive(random, key, model, edges, at.now_ns, 25);
    } else {
      WindowModel model = model_of(rate, at, whole);
      test::drive(random, key, model, edges, at.now_ns, 25);
    }
    BRIM_STOP();
  }
}

// Goal: a tick is short beside what a policy promises: a first-hit window lasts its period and less
// than a tick more, and a tick is at most an eighth of a ns for each permit counted, or 1 ns.
TEST(FixedWindow, AFirstHitWindowLastsItsPeriodAndLessThanATick) {
  Random random(204);
  for (int i = 0; i < test::scaled(100000); ++i) {
    const Rate rate = random_rate(random, true, false);
    const Beginning at = random_beginning(random);
    Key key{test::quota_of(rate, at)};
    const int64_t t = at.now_ns + static_cast<int64_t>(random.magnitude(365 * test::kDayNs));
    const Decision first = key.ask(t, rate.limit);
    const auto tick = static_cast<int64_t>(key.quota.ns_per_unit.whole);
    ASSERT_LE(tick, std::max<int64_t>(rate.limit / 2, 1)) << test::words_of(rate, at);
    ASSERT_GE(first.reset_after_ns, rate.period_ns);
    ASSERT_LT(first.reset_after_ns, rate.period_ns + tick);
    ASSERT_FALSE(key.look(t + rate.period_ns - 1, 1).allowed());
    ASSERT_FALSE(key.look(t + first.reset_after_ns - 1, 1).allowed());
    ASSERT_TRUE(key.look(t + first.reset_after_ns, rate.limit).allowed());
  }
}

// Goal: at the boundary of an aligned window the instant kP belongs to the new one, in local time.
// Method: 5000/d utc+02:00: the day ends at 22:00 UTC.
TEST(FixedWindow, TheBoundaryBelongsToTheNewWindow) {
  Rate rate;
  rate.algorithm = Algorithm::kFixedWindow;
  rate.period_ns = test::kDayNs;
  rate.limit = 5000;
  rate.utc_offset_s = 2 * 3600;
  const int64_t noon = 1000 * test::kDayNs + test::kDayNs / 2;
  Key key{test::quota_of(rate, {77, noon})};
  const Decision all = key.ask(77, 5000);
  EXPECT_TRUE(all.allowed());
  EXPECT_EQ(all.reset_after_ns, 10 * 3600 * kSecNs);
  EXPECT_EQ(key.look(77, 1).retry_after_ns, 10 * 3600 * kSecNs);
  EXPECT_FALSE(key.look(77 + 10 * 3600 * kSecNs - 1, 1).allowed());
  EXPECT_TRUE(key.look(77 + 10 * 3600 * kSecNs, 5000).allowed());
  EXPECT_EQ(key.look(77, 5001).retry_after_ns, kNever);
}

// Goal: at most 2 * limit pass in any half-open period, and so many do; one less with first-hit
// windows, which open with a call. Method: every history of a small window by brute force: a
// call in each ns or none.
TEST(FixedWindow, TwiceTheLimitIsTheWorstCase) {
  for (const bool first_hit : {false, true}) {
    Rate rate;
    rate.algorithm = Algorithm::kFixedWindow;
    rate.period_ns = 5;
    rate.limit = 3;
    rate.first_hit = first_hit;
    const Beginning at{100, test::kDayNs};
    const Quota quota = test::quota_of(rate, at);
    int worst = 0;
    for (uint32_t calls = 0; calls < 1u << 14; ++calls) {
      Key key{quota};
      int passed[14] = {};
      for (int t = 0; t < 14; ++t) {
        const uint32_t cost = (calls >> t & 1) != 0 ? 1 + (calls >> ((t + 5) % 14) & 1) * 2 : 0;
        if (key.ask(100 + t, cost).allowed()) passed[t] = static_cast<int>(cost);
      }
      for (int t = 0; t + 5 <= 14; ++t) {
        int sum = 0;
        for (int i = t; i < t + 5; ++i) sum += passed[i];
        worst = std::max(worst, sum);
      }
    }
    EXPECT_EQ(worst, first_hit ? 5 : 6);
  }
}

// Goal: a refused call of a policy that counts refusals keeps the window shut, not longer. Method:
// the definition's example by hand.
TEST(FixedWindow, CountedRefusalsDoNotProlong) {
  Rate rate;
  rate.algorithm = Algorithm::kFixedWindow;
  rate.period_ns = 10;
  rate.limit = 3;
  rate.count_denied = true;
  Key key{test::quota_of(rate, {0, 0})};
  EXPECT_TRUE(key.ask(0, 2).allowed());
  EXPECT_FALSE(key.ask(1, 2).allowed());  // 4 counted
  EXPECT_FALSE(key.ask(2, 1).allowed());  // would pass if refusals were free
  EXPECT_EQ(key.ask(3, 1).retry_after_ns, 7);
  EXPECT_FALSE(key.ask(3, 4).allowed());  // never: not counted
  key.refund(3, 4);                       // 2 + 2 + 1 + 1 - 4
  EXPECT_EQ(key.look(3, 0).remaining, 1u);
  EXPECT_TRUE(key.ask(10, 3).allowed());
}

}  // namespace
}  // namespace brim
