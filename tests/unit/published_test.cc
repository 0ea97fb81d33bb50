// SPDX-License-Identifier: MIT
// What the peers publish about themselves, as tables: redis-cell, governor and nginx.
#include <string>
#include <vector>

#include "src/algo/step.h"
#include "tests/unit/model_common.h"

namespace brim {
namespace {

using test::Key;
using test::kMilliNs;
using test::kSecNs;
using test::Random;

// redis-cell: CL.THROTTLE key max_burst count period [quantity] answers (limited, limit,
// remaining, retry_after, reset_after); the limit is max_burst + 1, refill is count per period.
// retry_after is -1 if allowed or if it never passes. Here in ns.
struct Throttle {
  uint32_t max_burst;
  uint32_t count;
  int64_t period_s;
};

Rate rate_of(const Throttle& throttle) {
  Rate rate;
  rate.burst = throttle.max_burst + 1;
  rate.limit = throttle.count;
  rate.period_ns = throttle.period_s * kSecNs;
  return rate;
}

struct Row {
  int64_t at_ms;
  uint32_t quantity;
  bool allowed;
  uint32_t remaining;
  int64_t retry_ns;  // -1: none
  int64_t reset_ns;
};

void run_table(const Throttle& throttle, const std::vector<Row>& rows) {
  Key key{test::quota_of(rate_of(throttle), {0, 0})};
  for (const Row& row : rows) {
    BRIM_TRACE("at " + std::to_string(row.at_ms) + " ms, quantity " + std::to_string(row.quantity));
    const Decision decision = key.ask(row.at_ms * kMilliNs, row.quantity);
    const bool never = decision.retry_after_ns == kNever;
    EXPECT_EQ(key.quota.burst, throttle.max_burst + 1);
    EXPECT_EQ(decision.allowed(), row.allowed);
    EXPECT_EQ(decision.remaining, row.remaining);
    EXPECT_EQ(decision.allowed() || never ? -1 : decision.retry_after_ns, row.retry_ns);
    EXPECT_EQ(never, row.quantity > throttle.max_burst + 1);
    EXPECT_EQ(decision.reset_after_ns, row.reset_ns);
  }
}

// The README's example: CL.THROTTLE user123 15 30 60: limit 16, first answer (0, 16, 15, -1, 2).
TEST(RedisCell, ReadmeExample) {
  std::vector<Row> rows;
  for (uint32_t i = 1; i <= 16; ++i) rows.push_back({0, 1, true, 16 - i, -1, i * 2 * kSecNs});
  rows.push_back({0, 1, false, 0, 2 * kSecNs, 32 * kSecNs});
  rows.push_back({1999, 1, false, 0, kMilliNs, 30 * kSecNs + kMilliNs});
  rows.push_back({2000, 1, true, 0, -1, 32 * kSecNs});
  rows.push_back({10000, 0, true, 4, -1, 24 * kSecNs});
  rows.push_back({10000, 5, false, 4, 2 * kSecNs, 24 * kSecNs});
  rows.push_back({34000, 16, true, 0, -1, 32 * kSecNs});
  rows.push_back({34000, 17, false, 0, -1, 32 * kSecNs});
  run_table({15, 30, 60}, rows);
}

// Its own table of the algorithm: limit 5 (max_burst 4) at 1 a second; volumes 6, 1 ..., a pause,
// volume 0 (a look), volumes of several and ones that are refused in part way.
TEST(RedisCell, TableOfTheAlgorithm) {
  run_table({4, 1, 1}, {
                           {0, 6, false, 5, -1, 0},
                           {0, 1, true, 4, -1, 1 * kSecNs},
                           {0, 1, true, 3, -1, 2 * kSecNs},
                           {0, 1, true, 2, -1, 3 * kSecNs},
                           {0, 1, true, 1, -1, 4 * kSecNs},
                           {0, 1, true, 0, -1, 5 * kSecNs},
                           {0, 1, false, 0, 1 * kSecNs, 5 * kSecNs},
                           {3000, 1, true, 2, -1, 3 * kSecNs},
                           {3100, 1, true, 1, -1, 3900 * kMilliNs},
                           {4000, 1, true, 1, -1, 4 * kSecNs},
                           {8000, 1, true, 4, -1, 1 * kSecNs},
                           {9500, 1, true, 4, -1, 1 * kSecNs},
                           {9500, 0, true, 4, -1, 1 * kSecNs},
                           {9500, 2, true, 2, -1, 3 * kSecNs},
                           {9500, 5, false, 2, 3 * kSecNs, 3 * kSecNs},
                           {9500, 2, true, 0, -1, 5 * kSecNs},
                       });
}

// max_burst 5 .. 15 with counts that do not divide the period.
TEST(RedisCell, EveryBurstFrom5To15) {
  for (uint32_t max_burst = 5; max_burst <= 15; ++max_burst) {
    for (const uint32_t count : {1u, 3u, 7u, 30u}) {
      const Throttle throttle{max_burst, count, 60};
      std::vector<Row> rows;
      const auto time_of = [&](uint32_t permits) {  // first ns at which so many are back
        return (int64_t{permits} * 60 * kSecNs + count - 1) / count;
      };
      for (uint32_t i = 1; i <= max_burst + 1; ++i) {
        rows.push_back({0, 1, true, max_burst + 1 - i, -1, time_of(i)});
      }
      rows.push_back({0, 1, false, 0, time_of(1), time_of(max_burst + 1)});
      rows.push_back({0, 3, false, 0, time_of(3), time_of(max_burst + 1)});
      rows.push_back({0, max_burst + 2, false, 0, -1, time_of(max_burst + 1)});
      run_table(throttle, rows);
    }
  }
}

Key governor(uint32_t limit, int64_t period, uint32_t burst) {
  Rate rate;
  rate.limit = limit;
  rate.period_ns = period;
  rate.burst = burst;
  return Key{test::quota_of(rate, {0, 0})};
}

// "Not before": until the earliest time the answer stays no, and from it on it is yes.
TEST(Governor, NotBeforeTheRetryAndExactlyAtIt) {
  Random random(900);
  for (int i = 0; i < test::scaled(20000); ++i) {
    const auto burst = static_cast<uint32_t>(random.magnitude(1000));
    const auto limit = static_cast<uint32_t>(random.magnitude(1000000));
    Key key = governor(limit, kSecNs, burst);
    const int64_t t = random.between(0, test::kDayNs);
    ASSERT_TRUE(key.ask(t, burst).allowed());
    const auto cost = static_cast<uint32_t>(random.magnitude(burst));
    const int64_t retry = key.ask(t, cost).retry_after_ns;
    const int64_t exact = (int64_t{cost} * kSecNs + limit - 1) / limit;
    ASSERT_LE(retry, exact);
    ASSERT_GE(retry, exact - 1);  // the clock's unit is below 1 ns
    ASSERT_FALSE(key.look(t + retry - 1, cost).allowed());
    ASSERT_TRUE(key.look(t + retry, cost).allowed());
    ASSERT_TRUE(key.look(t + retry + 1, cost).allowed());
  }
}

// InsufficientCapacity: a cost above the burst is an error and not a wait; it takes nothing.
TEST(Governor, ACostAboveTheBurstIsAnError) {
  Key key = governor(5, kSecNs, 5);
  const Decision decision = key.ask(0, 6);
  EXPECT_EQ(decision.reason, Reason::kCostAboveBurst);
  EXPECT_EQ(decision.retry_after_ns, kNever);
  EXPECT_EQ(key.word, kEmptyWord);
  EXPECT_TRUE(key.ask(0, 5).allowed());
}

// per_second(5): after a pause of 2 s five pass, not ten; after 400 ms two.
TEST(Governor, IdleTimeDoesNotPileUp) {
  Key key = governor(5, kSecNs, 5);
  for (int i = 0; i < 5; ++i) EXPECT_TRUE(key.ask(0, 1).allowed());
  EXPECT_FALSE(key.ask(0, 1).allowed());
  for (int i = 0; i < 5; ++i) EXPECT_TRUE(key.ask(2 * kSecNs, 1).allowed());
  EXPECT_FALSE(key.ask(2 * kSecNs, 1).allowed());
  for (int i = 0; i < 2; ++i) EXPECT_TRUE(key.ask(2 * kSecNs + 400 * kMilliNs, 1).allowed());
  EXPECT_FALSE(key.ask(2 * kSecNs + 400 * kMilliNs, 1).allowed());
}

// per_second(10^9): a ns a permit; no rounding to zero or to more.
TEST(Governor, OneANanosecond) {
  Key key = governor(1000000000, kSecNs, 1);
  for (int64_t t = 0; t < 1000; ++t) {
    ASSERT_TRUE(key.ask(t, 1).allowed());
    ASSERT_EQ(key.ask(t, 1).retry_after_ns, 1);
  }
  Key wide = governor(1000000000, kSecNs, 1000000000);
  EXPECT_TRUE(wide.ask(0, 1000000000).allowed());
  EXPECT_EQ(wide.look(0, 1000000000).retry_after_ns, kSecNs);
}

// nginx, limit_req rate=R burst=b [nodelay | delay=D]: the module's own arithmetic, in exact
// fractions of ns instead of its thousandths and ms. The first request has excess 0; a refused one
// is not counted.
class Nginx {
 public:
  Nginx(int64_t limit, int64_t period, int64_t burst, int64_t free)
      : limit_(limit), period_(period), burst_(burst), free_(free) {}

  // -1: busy; else the delay in ns.
  int64_t ask(int64_t t) {
    test::Wide excess = 0;  // times period
    if (seen_) {
      excess = std::max<test::Wide>(excess_ - test::Wide{t - last_} * limit_ + period_, 0);
    }
    if (excess > test::Wide{burst_} * period_) return -1;
    seen_ = true;
    excess_ = excess;
    last_ = t;
    const test::Wide above = excess - test::Wide{free_} * period_;
    return free_ < 0 || above <= 0 ? 0 : static_cast<int64_t>((above + limit_ - 1) / limit_);
  }

 private:
  int64_t limit_;
  int64_t period_;
  int64_t burst_;
  int64_t free_;  // -1: all
  bool seen_ = false;
  test::Wide excess_ = 0;
  int64_t last_ = 0;
};

Key queue_of(uint32_t limit, int64_t period, uint32_t burst, uint32_t undelayed) {
  Rate rate;
  rate.algorithm = Algorithm::kQueue;
  rate.limit = limit;
  rate.period_ns = period;
  rate.burst = burst;
  rate.undelayed = undelayed;
  return Key{test::quota_of(rate, {0, 0})};
}

// The documentation's examples: rate=5r/s burst=12 delay=8: eight at once, then one each 200 ms up
// to thirteen in all; nodelay: thirteen at once; neither: each 200 ms.
TEST(Nginx, DocumentedExamples) {
  constexpr int64_t kStep = 200 * kMilliNs;
  Key some = queue_of(5, kSecNs, 12, 8);
  Key all = queue_of(5, kSecNs, 12, Rate::kAllUndelayed);
  Key none = queue_of(5, kSecNs, 12, 0);
  for (int64_t i = 0; i < 13; ++i) {
    ASSERT_EQ(some.ask(0, 1).delay_ns, i <= 8 ? 0 : (i - 8) * kStep);
    ASSERT_EQ(all.ask(0, 1).delay_ns, 0);
    ASSERT_EQ(none.ask(0, 1).delay_ns, i * kStep);
  }
  for (Key* key : {&some, &all, &none}) {
    EXPECT_EQ(key->ask(0, 1).retry_after_ns, kStep);
    EXPECT_FALSE(key->look(kStep - 1, 1).allowed());
    EXPECT_TRUE(key->look(kStep, 1).allowed());
  }
  Key strict = queue_of(1, kSecNs, 0, 0);  // without burst: one each second
  EXPECT_TRUE(strict.ask(0, 1).allowed());
  EXPECT_FALSE(strict.ask(kSecNs - 1, 1).allowed());
  EXPECT_EQ(strict.ask(kSecNs, 1).delay_ns, 0);
}

// Any rate that divides its unit (no rounding on either side), any history.
TEST(Nginx, RandomHistoriesAgree) {
  Random random(901);
  for (int asked = 0; asked < test::scaled(100000);) {
    const uint32_t limit = 1u << random.below(6);
    const int64_t period = int64_t{1} << (20 + random.below(20));
    const auto burst = static_cast<uint32_t>(random.below(20));
    const int64_t free =
        random.one_in(3) ? -1 : static_cast<int64_t>(random.below(burst + uint64_t{2}));
    Key key = queue_of(limit, period, burst,
                       free < 0 ? Rate::kAllUndelayed : static_cast<uint32_t>(free));
    Nginx nginx(limit, period, burst, free);
    int64_t t = 0;
    for (int i = 0; i < 100; ++i, ++asked) {
      if (random.one_in(2)) t += random.between(0, 3 * period / limit);
      if (random.one_in(30)) t += random.between(0, 30 * period);
      const Decision decision = key.ask(t, 1);
      const int64_t expected = nginx.ask(t);
      ASSERT_EQ(decision.allowed(), expected >= 0);
      ASSERT_EQ(decision.delay_ns, std::max<int64_t>(expected, 0));
    }
  }
}

}  // namespace
}  // namespace brim
