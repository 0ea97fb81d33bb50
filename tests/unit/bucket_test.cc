// SPDX-License-Identifier: MIT
// Buckets with debt, forward charge, the queue and classes, each field of each decision against
// the model.
#include <utility>
#include <vector>

#include "src/algo/step.h"
#include "src/call.h"
#include "tests/unit/model_bucket.h"

namespace brim {
namespace {

using test::BucketModel;
using test::Edges;
using test::Key;
using test::kSecNs;
using test::Random;
using test::Wide;

enum class Kind { kPlain, kDebt, kForward, kQueue, kQueueSome, kQueueAll };

Rate random_rate(Random& random, Kind kind) {
  for (;;) {
    Rate rate = test::random_bucket(random, kind >= Kind::kQueue
                                                ? Algorithm::kQueue
                                                : static_cast<Algorithm>(1 + random.below(3)));
    if (kind == Kind::kDebt || (kind == Kind::kForward && random.one_in(4))) {
      rate.debt = static_cast<uint32_t>(random.magnitude(random.one_in(2) ? 10 : 0xffffffff));
    }
    if (kind == Kind::kForward) rate.forward = true;
    if (kind >= Kind::kQueue && random.one_in(8)) rate.burst = 0;
    if (kind == Kind::kQueueSome) {
      rate.undelayed = static_cast<uint32_t>(random.magnitude(rate.burst + uint64_t{2}));
    }
    if (kind == Kind::kQueueAll) rate.undelayed = Rate::kAllUndelayed;
    // At most 2^32 - 2, so that a count of calls fits `remaining`.
    if (uint64_t{rate.burst} + rate.debt < 0xffffffff && check_fits(rate).ok()) return rate;
  }
}

void compare_many(Kind kind, uint64_t seed) {
  Random random(seed);
  int admitted = 0;
  int asked = 0;
  while (asked < test::scaled(100000)) {
    const Rate rate = random_rate(random, kind);
    const int64_t t0 = random.one_in(4) ? 0 : random.between(0, 365 * test::kDayNs);
    const Beginning at{t0, 0};
    BRIM_TRACE(test::words_of(rate, at));
    Key key{test::quota_of(rate, at)};
    BucketModel model(rate, test::clock_of(rate, t0));
    const Edges edges = test::edges_of(rate, t0);
    constexpr int kSteps = 50;
    admitted += test::drive(random, key, model, edges, t0, kSteps);
    asked += kSteps;
    ASSERT_EQ(test::wide(key.word), model.paid);
    BRIM_STOP();
  }
  EXPECT_GT(admitted, asked / 20);
  EXPECT_LT(admitted, asked * 19 / 20);
}

// Goal: each field of each decision, and each word, is what the definition says, for any rate and
// any history. Method: random histories against the model.
TEST(Bucket, PlainEqualsTheModel) { compare_many(Kind::kPlain, 100); }
TEST(Bucket, WithDebtEqualsTheModel) { compare_many(Kind::kDebt, 101); }
TEST(Bucket, ForwardEqualsTheModel) { compare_many(Kind::kForward, 102); }
TEST(Queue, EqualsTheModel) { compare_many(Kind::kQueue, 103); }
TEST(Queue, SomeUndelayedEqualsTheModel) { compare_many(Kind::kQueueSome, 104); }
TEST(Queue, AllUndelayedEqualsTheModel) { compare_many(Kind::kQueueAll, 105); }

// Goal: a forward bucket or queue with a count of calls of 2^32 or more still says that calls pass.
// Method: the largest burst that a policy may have.
TEST(Queue, RemainingOfTheLargestBurst) {
  Rate rate;
  rate.algorithm = Algorithm::kQueue;
  rate.limit = 1000000000;
  rate.period_ns = kSecNs;
  rate.burst = kMaxBurst;
  ASSERT_TRUE(check_fits(rate).ok());
  Key key{test::quota_of(rate, {0, 0})};
  EXPECT_EQ(key.look(0, 0).remaining, kMaxBurst);
}

// Goal: the examples of the definitions. 5/s with debt 3 admits 8 from idle; 2/s with a queue of 2
// starts calls after 0, 0.5 and 1 s, refuses the fourth for 0.5 s; a forward bucket admits any cost
// and makes the next ones pay.
TEST(Bucket, ExamplesOfTheDefinitions) {
  Rate rate;
  rate.limit = 5;
  rate.period_ns = kSecNs;
  rate.burst = 5;
  rate.debt = 3;
  Key debtor{test::quota_of(rate, {0, 0})};
  for (uint32_t i = 0; i < 8; ++i) ASSERT_EQ(debtor.ask(0, 1).remaining, 7 - i);
  EXPECT_EQ(debtor.ask(0, 1).retry_after_ns, kSecNs / 5);
  EXPECT_EQ(debtor.look(0, 9).retry_after_ns, kNever);
  EXPECT_EQ(debtor.look(0, 1).reset_after_ns, 8 * kSecNs / 5);

  rate.debt = 0;
  rate.burst = 1;
  rate.forward = true;
  Key forward{test::quota_of(rate, {0, 0})};
  EXPECT_TRUE(forward.ask(0, 5).allowed());  // traffik: tolerance 0, cost 5: the next waits 5
  EXPECT_EQ(forward.ask(0, 1).retry_after_ns, kSecNs);
  EXPECT_FALSE(forward.ask(kSecNs - 1, 1).allowed());
  EXPECT_TRUE(forward.ask(kSecNs, 1).allowed());

  Rate line;
  line.algorithm = Algorithm::kQueue;
  line.limit = 2;
  line.period_ns = kSecNs;
  line.burst = 2;
  Key queue{test::quota_of(line, {0, 0})};
  for (const int64_t delay : {int64_t{0}, kSecNs / 2, kSecNs}) {
    const Decision decision = queue.ask(0, 1);
    ASSERT_TRUE(decision.allowed());
    ASSERT_EQ(decision.delay_ns, delay);
  }
  EXPECT_EQ(queue.ask(0, 1).retry_after_ns, kSecNs / 2);
  EXPECT_EQ(queue.look(0, 0).remaining, 0u);
}

// Goal: first come, first served: each caller of a queue gets a start slot of its own, after those
// before it, a permit's time each apart at least (rounded to 1 ns). Method: random rates and calls.
TEST(Queue, StartsAreDistinctAndInOrder) {
  Random random(110);
  for (int asked = 0; asked < test::scaled(100000);) {
    const Rate rate = random_rate(random, Kind::kQueue);
    const BucketModel model(rate, test::clock_of(rate, 0));
    Key key{test::quota_of(rate, {0, 0})};
    const Edges edges = test::edges_of(rate, 0);
    Decision decision;
    int64_t t = 0;
    Wide last_v = -1;
    Wide last_units = 0;
    for (int i = 0; i < 40; ++i, ++asked) {
      t = std::max(t, test::jumped(random, edges, decision, t));
      const auto cost = static_cast<uint32_t>(1 + random.below(3));
      decision = key.ask(t, cost);
      if (!decision.allowed()) continue;
      const Wide start = model.v(Wide{t} + decision.delay_ns);
      ASSERT_GE(start, last_v + last_units) << test::words_of(rate, {});
      if (decision.delay_ns != 0) {
        ASSERT_LT(model.v(Wide{t} + decision.delay_ns - 1),
                  test::wide(key.word) - (Wide{cost} << model.v.k));
      }
      last_v = test::wide(key.word) - (Wide{cost} << model.v.k);
      last_units = Wide{cost} << model.v.k;
    }
  }
}

// Goal: within a period, both ends included, at most burst + debt + limit permits pass, and so many
// do (one less if one end is left out). Method: an adversary who asks at the promised instants, one
// ns before and at random.
TEST(Bucket, AtMostBurstPlusLimitInAnyPeriod) {
  Random random(111);
  bool reached = false;
  for (int asked = 0; asked < test::scaled(100000);) {
    Rate rate = test::random_bucket(random, Algorithm::kTokenBucket, 20);
    rate.limit = 1 + static_cast<uint32_t>(random.below(20));
    rate.debt = static_cast<uint32_t>(random.below(5));
    if (rate.limit > rate.period_ns || !check_fits(rate).ok()) continue;
    Key key{test::quota_of(rate, {0, 0})};
    const Edges edges = test::edges_of(rate, 0);
    std::vector<std::pair<int64_t, int64_t>> passed;
    Decision decision;
    const bool greedy = random.one_in(2);
    int64_t t = 0;
    for (int i = 0; i < 200; ++i, ++asked) {
      const auto cost = static_cast<uint32_t>(1 + random.below(2));
      decision = key.ask(t, cost);
      if (decision.allowed()) passed.emplace_back(t, cost);
      if (decision.allowed() || decision.retry_after_ns == kNever) continue;
      t = greedy ? t + decision.retry_after_ns - static_cast<int64_t>(random.below(2))
                 : std::max(t, test::jumped(random, edges, decision, t));
    }
    int64_t sum = 0;
    for (size_t first = 0, last = 0; last < passed.size(); ++last) {
      sum += passed[last].second;
      while (passed[first].first < passed[last].first - rate.period_ns)
        sum -= passed[first++].second;
      ASSERT_LE(sum, int64_t{rate.burst} + rate.debt + rate.limit) << test::words_of(rate, {});
      reached |= sum == int64_t{rate.burst} + rate.debt + rate.limit;
    }
  }
  EXPECT_TRUE(reached);
}

// Goal: a class may use its share of the burst, all classes draw on one bucket, and a cost above
// the share never passes. Method: random calls of four classes on one key against four models that
// share what is owed.
TEST(Classes, ShareOneBucket) {
  Random random(112);
  for (int asked = 0; asked < test::scaled(100000);) {
    const Rate rate = random_rate(random, static_cast<Kind>(random.below(6)));
    BRIM_TRACE(test::words_of(rate, {}));
    const Quota whole = test::quota_of(rate, {0, 0});
    const Edges edges = test::edges_of(rate, 0);
    Key key{whole};
    Wide paid = 0;
    Decision decision;
    int64_t t = 0;
    for (int i = 0; i < 40; ++i, ++asked) {
      const auto percent = random.one_in(3) ? 100u : 1 + static_cast<uint32_t>(random.below(100));
      BucketModel model(rate, test::clock_of(rate, 0), percent);
      model.paid = paid;
      key.quota = whole;
      if (percent != 100) scale_class(key.quota, percent);
      t = test::jumped(random, edges, decision, t);
      decision = test::compare(key, model, t, test::random_cost(random, edges.burst), false);
      BRIM_STOP();
      paid = model.paid;
    }
  }
}

}  // namespace
}  // namespace brim
