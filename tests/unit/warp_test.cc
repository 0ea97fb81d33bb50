// SPDX-License-Identifier: MIT
// Warm-up and factor: the bent clock against its integral, and decisions under it.
#include "src/algo/warp.h"

#include "src/algo/step.h"
#include "src/call.h"
#include "tests/unit/model_bucket.h"
#include "tests/unit/model_counter.h"
#include "tests/unit/model_window.h"

namespace brim {
namespace {

using test::BucketModel;
using test::Edges;
using test::kDayNs;
using test::Key;
using test::kSecNs;
using test::Random;
using test::TokenClock;
using test::WarpModel;
using test::Wide;

constexpr uint64_t kNoTime = ~uint64_t{0};

Warp random_warp(Random& random, uint64_t longest) {
  Warp warp{};
  warp.ramp_ns = random.one_in(8) ? 0 : random.magnitude(longest);
  warp.from_ppm = random.one_in(8) ? 1000000 : static_cast<uint32_t>(random.below(1000001));
  warp.factor_ppm = random.one_in(3) ? 1000000 : static_cast<uint32_t>(random.magnitude(1000000));
  if (random.one_in(20)) warp.factor_ppm = 0;
  return warp;
}
WarpModel model_of(const Warp& warp) {
  return {warp.from_ppm, test::wide(warp.ramp_ns), warp.factor_ppm};
}

// Goal: the bent time is the integral of the rate, summed up ns by ns, rounded down. Method: ramps
// up to 300 ns; each ns adds the mean of the rates at its ends, in exact fractions.
TEST(Warp, IsTheSumOfItsRates) {
  Random random(600);
  for (int asked = 0; asked < test::scaled(100000);) {
    Warp warp = random_warp(random, 300);
    if (warp.ramp_ns == 0) continue;
    const Wide ramp = test::wide(warp.ramp_ns);
    const auto rate = [&](Wide e) {  // times ramp, in ppm
      return e >= ramp ? 1000000 * ramp
                       : warp.from_ppm * ramp + (1000000 - Wide{warp.from_ppm}) * e;
    };
    Wide sum = 0;  // times 2 * ramp * 10^6
    for (uint64_t e = 0; e < warp.ramp_ns + 20; ++e, ++asked) {
      const Wide whole = sum / (2 * ramp * 1000000);
      ASSERT_EQ(test::wide(ramped(e, warp)), whole);
      ASSERT_EQ(test::wide(warped(e, warp)), whole * warp.factor_ppm / 1000000);
      ASSERT_EQ(Wide{rate_ppm(e, warp)}, rate(test::wide(e)) / ramp * warp.factor_ppm / 1000000);
      sum += rate(test::wide(e)) + rate(test::wide(e) + 1);
    }
  }
}

// Goal: for any ramp up to a day the bent clock never runs backwards, is never ahead of the
// integral, and unwarped() is its exact inverse. Method: random instants against the model.
TEST(Warp, IsMonotoneNeverFastAndInverted) {
  Random random(601);
  for (int i = 0; i < test::scaled(100000); ++i) {
    const Warp warp = random_warp(random, uint64_t{86400} * 1000000000);
    const WarpModel model = model_of(warp);
    const uint64_t e =
        random.one_in(3) ? warp.ramp_ns + random.below(3) : random.magnitude(1ull << 58);
    const uint64_t bent = warped(e, warp);
    ASSERT_EQ(test::wide(bent), model(test::wide(e)));
    ASSERT_LE(bent, e);
    ASSERT_LE(bent, warped(e + 1, warp));
    ASSERT_LE(warped(e + 1, warp), bent + 1);
    const uint64_t wanted =
        random.one_in(2) ? bent + random.below(2) : random.magnitude(1ull << 58);
    const uint64_t at = unwarped(wanted, warp);
    if (warp.factor_ppm == 0) {
      ASSERT_EQ(at, wanted == 0 ? 0 : kNoTime);
      continue;
    }
    if (at == kNoTime) {  // later than 2^62 ns
      ASSERT_LT(model(Wide{1} << 62), test::wide(wanted));
      continue;
    }
    ASSERT_GE(model(test::wide(at)), test::wide(wanted));
    if (at != 0 && at != warp.ramp_ns) {  // that: see below
      ASSERT_LT(model(test::wide(at) - 1), test::wide(wanted));
    }
  }
}

// Goal: the inverse is exact where the ramp ends: the last ns of a ramp may add nothing after
// rounding. Method: short ramps, every reading.
TEST(Warp, IsInvertedWhereTheRampEnds) {
  for (uint64_t ramp = 1; ramp < 60; ++ramp) {
    for (const uint32_t from : {0u, 10u, 100000u, 250000u, 500000u, 999990u, 1000000u}) {
      const Warp warp{0, ramp, from, 1000000};
      for (uint64_t wanted = 1; wanted < ramp + 3; ++wanted) {
        const uint64_t at = unwarped(wanted, warp);
        ASSERT_GE(warped(at, warp), wanted);
        ASSERT_LT(warped(at - 1, warp), wanted) << "ramp " << ramp << " from " << from;
      }
    }
  }
}

Policy random_policy(Random& random) {
  const bool queue = random.one_in(4);
  Policy policy = test::policy_of(test::random_bucket(
      random, queue ? Algorithm::kQueue : Algorithm::kGcra, random.one_in(2) ? 100 : 0xfffffffe));
  if (!queue && random.one_in(4)) policy.rates[0].forward = true;
  if (!random.one_in(4)) {
    policy.warm_up_ns = static_cast<int64_t>(random.magnitude(kMaxWarmUpNs));
    policy.warm_up_from_ppm = 10 * static_cast<uint32_t>(1 + random.below(100000));
  }
  return policy;
}

// Goal: decisions of a bucket that warms up, with a factor, are those of the definition on the bent
// clock: each wait and reset exact. Method: random histories against the model.
TEST(Warp, DecisionsEqualTheModel) {
  Random random(602);
  for (int asked = 0; asked < test::scaled(100000);) {
    const Policy policy = random_policy(random);
    const Beginning at{random.between(0, 365 * kDayNs), 0};
    const uint32_t factor =
        random.one_in(2) ? 1000000 : static_cast<uint32_t>(random.below(1000001));
    BRIM_TRACE(test::words_of(policy.rates[0], at) + " ramp " + std::to_string(policy.warm_up_ns) +
               " from " + std::to_string(policy.warm_up_from_ppm) + " factor " +
               std::to_string(factor));
    const shm::PolicyWords words = with_factor(*compile(policy, at), at.now_ns, factor);
    Key key{quota_from(words, 0)};
    TokenClock clock = test::clock_of(policy.rates[0], at.now_ns);
    clock.warp = {policy.warm_up_from_ppm, policy.warm_up_ns, factor};
    BucketModel model(policy.rates[0], clock);
    Edges edges = test::edges_of(policy.rates[0], at.now_ns);
    if (random.one_in(2) && policy.warm_up_ns > 1) edges.farthest = policy.warm_up_ns;
    test::drive(random, key, model, edges, at.now_ns, 40);
    asked += 40;
    BRIM_STOP();
  }
}

// Goal: a new factor bends the clock from now on and moves no reading: debts stay. With the same
// factor again nothing changes but for rounding, which only makes it slower. Method: random
// changes.
TEST(Warp, ANewFactorIsContinuous) {
  Random random(603);
  for (int i = 0; i < test::scaled(100000); ++i) {
    const Policy policy = random_policy(random);
    const Beginning at{random.between(0, 365 * kDayNs), 0};
    BRIM_TRACE(test::words_of(policy.rates[0], at));
    shm::PolicyWords words = *compile(policy, at);
    int64_t now = at.now_ns;
    uint32_t factor = 1000000;
    for (int change = 0; change < 3; ++change) {
      now += static_cast<int64_t>(random.magnitude(kMaxWarmUpNs));
      const Quota old = quota_from(words, 0);
      const Quota same = quota_from(with_factor(words, now, factor), 0);
      const int64_t later = now + static_cast<int64_t>(random.magnitude(10 * kMaxWarmUpNs));
      ASSERT_EQ(token_clock(same, now), token_clock(old, now));
      ASSERT_LE(token_clock(same, later), token_clock(old, later));
      // From a ppm below the true rate at `now` up to the whole, over what is left of the ramp.
      const Wide left = std::max<Wide>(Wide{policy.warm_up_ns} - (now - at.now_ns), 0);
      const Wide lost = (left / 2000000 + 4) * (Wide{policy.rates[0].limit} << old.shift) /
                            policy.rates[0].period_ns +
                        2;
      ASSERT_LE(test::wide(token_clock(old, later) - token_clock(same, later)), lost);
      factor = random.one_in(4) ? 1000000 : static_cast<uint32_t>(random.below(1000001));
      words = with_factor(words, now, factor);
      const Quota changed = quota_from(words, 0);
      ASSERT_EQ(token_clock(changed, now), token_clock(old, now));
      ASSERT_EQ(changed.capacity, old.capacity);
      ASSERT_EQ(changed.shift, old.shift);
    }
  }
}

// Goal: windows under a factor have the limit floor(L * factor), at least 1 unless it is 0; costs
// within it are answered exactly. Method: the models with that limit.
TEST(Warp, WindowsScaleTheirLimit) {
  Random random(604);
  for (int asked = 0; asked < test::scaled(100000);) {
    Rate rate;
    const bool counter = random.one_in(2);
    rate.algorithm = counter ? Algorithm::kSlidingCounter : Algorithm::kFixedWindow;
    rate.limit = static_cast<uint32_t>(random.magnitude(5000));
    rate.period_ns = kSecNs;
    const Beginning at{kDayNs, 7 * kDayNs};
    const auto factor = static_cast<uint32_t>(random.below(1000001));
    BRIM_TRACE(test::words_of(rate, at) + " factor " + std::to_string(factor));
    const Quota whole =
        quota_from(with_factor(*compile(test::policy_of(rate), at), kDayNs, factor), 0);
    Key key{whole};
    test::WindowModel window(rate, at, 0, test::wide(window::count_mask(whole)));
    test::CounterModel sliding(rate, at, test::wide(counter::count_mask(whole)));
    const Wide limit = std::max<Wide>(Wide{rate.limit} * factor / 1000000, factor == 0 ? 0 : 1);
    window.set_limit(limit);
    sliding.set_limit(limit);
    const Edges edges = test::window_edges(rate, kSecNs, at);
    Decision decision;
    int64_t t = kDayNs;
    for (int i = 0; i < 30; ++i, ++asked) {
      t = std::max(t, test::jumped(random, edges, decision, t));
      key.quota = whole;
      if (has(whole, kScaled)) scale_limit(key.quota, t);
      const auto cost = static_cast<uint32_t>(std::min<Wide>(random.below(5), limit));
      decision = counter ? test::compare(key, sliding, t, cost, false)
                         : test::compare(key, window, t, cost, false);
      BRIM_STOP();
    }
  }
}

// Goal: no wait is promised that never comes true: while the factor stays, a cost above the scaled
// limit can not pass. Method: 10 a second at half and at none.
TEST(Warp, ACostAboveTheScaledLimitHasNoWait) {
  for (const Algorithm algorithm : {Algorithm::kFixedWindow, Algorithm::kSlidingCounter}) {
    for (const uint32_t factor : {500000u, 0u}) {
      Rate rate;
      rate.algorithm = algorithm;
      rate.limit = 10;
      rate.period_ns = kSecNs;
      const Beginning at{kDayNs, 7 * kDayNs};
      Key key{quota_from(with_factor(*compile(test::policy_of(rate), at), kDayNs, factor), 0)};
      scale_limit(key.quota, kDayNs);
      const Decision refused = key.ask(kDayNs, 6);
      EXPECT_FALSE(refused.allowed());
      EXPECT_EQ(refused.retry_after_ns, kNever) << factor;
    }
  }
}

}  // namespace
}  // namespace brim
