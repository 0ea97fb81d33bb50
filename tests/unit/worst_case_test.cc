// SPDX-License-Identifier: MIT
// The solver's judge: every rule from its definition, in ticks instead of ns, and every way to send
// calls of one permit for a few periods.
#include "src/worst_case.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "src/base/text.h"
#include "src/policy_terms.h"
#include "tests/unit/support.h"

namespace brim {
namespace {

using test::Random;

// One key under one rate, by definition. `phase` shifts the windows against time 0.
class Key {
 public:
  Key(const Rate& rate, int64_t phase) : rate_(rate), phase_(phase) {}

  void tick() {
    ++now_;
    at_.push_back(0);
    owed_ = std::max<int64_t>(0, owed_ - rate_.limit);
    if (now_ - opened_ >= rate_.period_ns) in_first_hit_ = 0;
  }
  bool admits() const {
    const int64_t period = rate_.period_ns;
    const int64_t limit = rate_.limit;
    switch (rate_.algorithm) {
      case Algorithm::kFixedWindow:
        return (rate_.first_hit ? in_first_hit_ : in_window(window())) < limit;
      case Algorithm::kSlidingLog:
        return since(now_ - period + (rate_.inclusive ? 0 : 1)) < limit;
      case Algorithm::kSlidingCounter: {
        const int64_t gone = now_ + phase_ - window() * period;
        const int64_t weighted = in_window(window() - 1) * (period - gone);
        const int64_t current = in_window(window()) + 1;
        return rate_.floor_weight ? weighted / period + current <= limit
                                  : weighted + current * period <= limit * period;
      }
      case Algorithm::kQueue:
        return owed_ <= rate_.burst * period;
      default:
        return rate_.forward ? owed_ <= (int64_t{rate_.burst} + rate_.debt - 1) * period
                             : owed_ + period <= (int64_t{rate_.burst} + rate_.debt) * period;
    }
  }
  // Ticks until the call that is taken now starts.
  int64_t take() {
    const int64_t waits = owed_ - int64_t{rate_.undelayed} * rate_.period_ns;
    ++at_.back();
    owed_ += rate_.period_ns;
    if (in_first_hit_++ == 0) opened_ = now_;
    return waits <= 0 ? 0 : (waits + rate_.limit - 1) / rate_.limit;
  }
  const std::vector<int64_t>& admitted() const { return at_; }

 private:
  int64_t window() const { return (now_ + phase_) / rate_.period_ns; }
  int64_t in_window(int64_t number) const {
    int64_t sum = 0;
    for (int64_t t = 0; t <= now_; ++t) {
      if ((t + phase_) / rate_.period_ns == number) sum += at_[static_cast<size_t>(t)];
    }
    return sum;
  }
  int64_t since(int64_t first) const {
    int64_t sum = 0;
    for (int64_t t = std::max<int64_t>(0, first); t <= now_; ++t) {
      sum += at_[static_cast<size_t>(t)];
    }
    return sum;
  }

  Rate rate_;
  int64_t phase_;
  int64_t now_ = -1;
  std::vector<int64_t> at_;  // permits of each tick
  int64_t owed_ = 0;         // in 1 / period permits
  int64_t in_first_hit_ = 0;
  int64_t opened_ = 0;
};

// The most in any `length` ticks.
int64_t densest(const std::vector<int64_t>& at, int64_t length) {
  int64_t most = 0;
  int64_t sum = 0;
  for (size_t t = 0; t < at.size(); ++t) {
    sum += at[t];
    if (t >= static_cast<size_t>(length)) sum -= at[t - static_cast<size_t>(length)];
    most = std::max(most, sum);
  }
  return most;
}

// The most that any sequence of calls over `horizon` ticks gets into `length` ticks.
int64_t search(const Key& key, int64_t horizon, int64_t length) {
  if (horizon == 0) return densest(key.admitted(), length);
  Key next = key;
  next.tick();
  int64_t most = search(next, horizon - 1, length);
  while (next.admits()) {
    next.take();
    most = std::max(most, search(next, horizon - 1, length));
  }
  return most;
}

int64_t worst_found(const Rate& rate, int64_t span) {
  const bool bucket = is_one_of(rate.algorithm, kBuckets | kQueues);
  const int64_t length = span + (bucket ? 1 : 0);
  const int64_t horizon = length + (rate.first_hit ? rate.period_ns : 0);
  int64_t most = 0;
  for (int64_t phase = 0; phase < (bucket ? 1 : rate.period_ns); ++phase) {
    most = std::max(most, search(Key(rate, phase), horizon, length));
  }
  return most;
}

void expect_tight(const Rate& rate, int64_t most_span) {
  // A bucket of one permit that comes back between two ticks waits for the next one: it wastes part
  // of a tick each time, which is a ns of a real period.
  const bool wastes = is_one_of(rate.algorithm, kBuckets | kQueues) &&
                      rate.period_ns % rate.limit != 0 && rate.burst + rate.debt <= 1;
  for (int64_t span = 1; span <= most_span; ++span) {
    const auto found = static_cast<uint64_t>(worst_found(rate, span));
    EXPECT_LE(found, worst_admitted(rate, span)) << rate_text(rate) << " in " << span;
    if (!wastes) {
      EXPECT_EQ(found, worst_admitted(rate, span)) << rate_text(rate) << " in " << span;
    }
  }
}

// Goal: the figures are reached and not passed. Method: every sequence of calls for small limits,
// periods and bursts, against every span.
TEST(WorstCase, BucketsAndQueuesExhaustively) {
  for (uint32_t limit = 1; limit <= 4; ++limit) {
    for (int64_t period = limit; period <= 6; ++period) {
      for (uint32_t burst = 1; burst <= 3; ++burst) {
        Rate rate{.limit = limit, .period_ns = period, .burst = burst};
        expect_tight(rate, period + 1);
        rate.forward = true;
        expect_tight(rate, period);
        rate.debt = 1;
        expect_tight(rate, period);
        rate.forward = false;
        expect_tight(rate, period);
        expect_tight({.algorithm = Algorithm::kQueue,
                      .limit = limit,
                      .period_ns = period,
                      .burst = burst - 1},
                     period);
      }
    }
  }
}

TEST(WorstCase, WindowsAndLogsExhaustively) {
  for (uint32_t limit = 1; limit <= 3; ++limit) {
    for (int64_t period = 1; period <= 4; ++period) {
      Rate rate{.algorithm = Algorithm::kFixedWindow, .limit = limit, .period_ns = period};
      expect_tight(rate, 2 * period + 1);
      rate.first_hit = true;
      expect_tight(rate, limit == 3 ? period : period + 2);
      rate = {.algorithm = Algorithm::kSlidingLog, .limit = limit, .period_ns = period};
      expect_tight(rate, 2 * period + 1);
      rate.inclusive = true;
      expect_tight(rate, 2 * period + 1);
    }
  }
}

// Goal: 2L - 1 (3.8), which needs enough ticks for each permit of the first window to fade.
TEST(WorstCase, SlidingCounterExhaustively) {
  for (uint32_t limit = 1; limit <= 4; ++limit) {
    for (int64_t period = 1; period <= 8; ++period) {
      Rate rate{.algorithm = Algorithm::kSlidingCounter, .limit = limit, .period_ns = period};
      if (limit * period > 20) continue;
      const auto found = static_cast<uint64_t>(worst_found(rate, period));
      EXPECT_LE(found, worst_admitted(rate, period)) << rate_text(rate);
      if (period >= 2 * limit) {
        EXPECT_EQ(found, 2 * limit - 1) << rate_text(rate);
      }
      EXPECT_EQ(worst_admitted(rate, period), period == 1 ? limit : 2 * limit - 1);
      if (limit < 3 && period < 5) {
        EXPECT_LE(static_cast<uint64_t>(worst_found(rate, 2 * period)),
                  worst_admitted(rate, 2 * period));
      }
      rate.floor_weight = true;
      const auto rounded = static_cast<uint64_t>(worst_found(rate, period));
      EXPECT_LE(rounded, worst_admitted(rate, period)) << rate_text(rate);
      if (period > 2 * limit) {
        EXPECT_EQ(rounded, 2 * limit) << rate_text(rate);
      }
    }
  }
}

// Goal: what a queue starts in any span, when each call waits as told. Method: random calls.
TEST(WorstCase, QueueStarts) {
  Random random(5);
  for (int round = 0; round < test::scaled(3000); ++round) {
    Rate rate{.algorithm = Algorithm::kQueue, .period_ns = random.between(1, 12)};
    rate.limit = static_cast<uint32_t>(random.between(1, rate.period_ns));
    rate.burst = static_cast<uint32_t>(random.below(6));
    rate.undelayed = static_cast<uint32_t>(random.below(8));
    const bool greedy = random.one_in(2);
    Key key(rate, 0);
    std::vector<int64_t> starts(400);
    for (int64_t t = 0; t < 200; ++t) {
      key.tick();
      while (key.admits() && (greedy || random.one_in(3))) {
        ++starts[static_cast<size_t>(t + key.take())];
      }
    }
    for (int64_t span = 1; span <= 2 * rate.period_ns; ++span) {
      const auto most = static_cast<uint64_t>(densest(starts, span + 1));
      ASSERT_LE(most, worst_started(rate, span)) << rate_text(rate);
      if (greedy && rate.limit == 1 && rate.period_ns > 1 && span % rate.period_ns == 0) {
        EXPECT_EQ(most, worst_started(rate, span)) << rate_text(rate);
      }
    }
  }
}

Rate random_small(Random& random) {
  constexpr Algorithm kSome[] = {Algorithm::kGcra, Algorithm::kFixedWindow, Algorithm::kSlidingLog,
                                 Algorithm::kSlidingCounter};
  Rate rate{.algorithm = kSome[random.below(4)], .period_ns = random.between(1, 8)};
  rate.limit = static_cast<uint32_t>(random.between(1, 6));
  if (rate.algorithm == Algorithm::kGcra) {
    rate.limit = std::min(rate.limit, static_cast<uint32_t>(rate.period_ns));
    rate.burst = static_cast<uint32_t>(random.between(1, 6));
  }
  rate.first_hit = rate.algorithm == Algorithm::kFixedWindow && random.one_in(2);
  rate.inclusive = rate.algorithm == Algorithm::kSlidingLog && random.one_in(2);
  return rate;
}

// Goal: two rates keep the smaller bound, and a rate said never to bind never refuses. Method:
// random pairs under random calls.
TEST(WorstCase, SeveralRates) {
  Random random(6);
  int redundant = 0;
  for (int round = 0; round < test::scaled(6000); ++round) {
    Policy policy;
    policy.rates = {random_small(random), random_small(random)};
    Key first(policy.rates[0], random.between(0, 7));
    Key second(policy.rates[1], random.between(0, 7));
    const bool idle = never_binds(policy.rates[0], policy.rates[1]);
    redundant += idle ? 1 : 0;
    const uint64_t eager = 1 + random.below(4);
    for (int64_t t = 0; t < 100; ++t) {
      first.tick();
      second.tick();
      while (second.admits() && random.below(5) < eager) {
        if (idle) {
          ASSERT_TRUE(first.admits()) << policy_text(policy);
        }
        if (!first.admits()) break;
        first.take();
        second.take();
      }
    }
    for (int64_t span = 1; span <= 16; ++span) {
      ASSERT_LE(static_cast<uint64_t>(densest(first.admitted(), span)),
                worst_admitted(policy, span))
          << policy_text(policy) << " in " << span;
    }
  }
  EXPECT_GT(redundant, test::scaled(200));
}

// Goal: the figures of the docs, at real sizes.
TEST(WorstCase, Figures) {
  const auto of = [](std::string_view text) { return *parse_policy(text); };
  const auto admitted = [&of](std::string_view text, int64_t span) {
    return worst_admitted(of(text), span);
  };
  EXPECT_EQ(admitted("100/m burst 20", kMinuteNs), 120u);
  EXPECT_EQ(admitted("100/m", kMinuteNs), 200u);
  EXPECT_EQ(admitted("100/m burst 20 debt 5", kMinuteNs), 125u);
  EXPECT_EQ(admitted("100/m burst 20 forward", kMinuteNs), 120u);
  EXPECT_EQ(admitted("queue 2/s", kSecondNs), 5u);
  EXPECT_EQ(worst_started(of("queue 2/s").rates[0], kSecondNs), 3u);
  EXPECT_EQ(worst_started(of("queue 2/s no-delay").rates[0], kSecondNs), 5u);
  EXPECT_EQ(admitted("fixed-window 100/m", kMinuteNs), 200u);
  EXPECT_EQ(admitted("fixed-window 100/m first-hit", kMinuteNs), 199u);
  EXPECT_EQ(admitted("calendar-window 100/d", kDayNs), 200u);
  EXPECT_EQ(admitted("calendar-window 100/month",
                     worst_period_ns(of("calendar-window 1/month").rates[0])),
            200u);
  EXPECT_EQ(admitted("sliding-counter 10/m", kMinuteNs), 19u);
  EXPECT_EQ(admitted("sliding-counter 10/m floor", kMinuteNs), 20u);
  EXPECT_EQ(admitted("sliding-log 10/m", kMinuteNs), 10u);
  EXPECT_EQ(admitted("10/s burst 20; 1000/h burst 1", kHourNs), 1001u);
  EXPECT_EQ(admitted("10/s burst 20; 1000/h burst 1", kSecondNs), 1u);
  EXPECT_EQ(admitted("unlimited", kSecondNs), kUnbounded);
  EXPECT_EQ(admitted("deny", kSecondNs), 0u);
  EXPECT_EQ(admitted("concurrency 5", kSecondNs), kUnbounded);
  EXPECT_EQ(most_at_once(of("concurrency 5").rates[0]), 5u);
  EXPECT_EQ(most_at_once(of("5/s").rates[0]), kUnbounded);
  // The largest numbers saturate.
  const Rate most{.algorithm = Algorithm::kFixedWindow, .limit = 0xffffffff, .period_ns = 1};
  EXPECT_LT(worst_admitted(most, kMaxPeriodNs), kUnbounded);
  EXPECT_GT(worst_admitted(most, kMaxPeriodNs), kUnbounded / 2);
  const auto idle = [&of](std::string_view rate, std::string_view other) {
    return never_binds(of(rate).rates[0], of(other).rates[0]);
  };
  EXPECT_TRUE(idle("1000/m", "10/s"));
  EXPECT_FALSE(idle("500/m", "10/s"));
  EXPECT_TRUE(idle("sliding-log 200/m", "1/s"));
  EXPECT_FALSE(idle("sliding-log 60/m", "1/s"));
  EXPECT_TRUE(idle("calendar-window 3100/month", "sliding-log 100/d"));
  EXPECT_FALSE(idle("calendar-window 3099/month", "sliding-log 100/d"));
}

}  // namespace
}  // namespace brim
