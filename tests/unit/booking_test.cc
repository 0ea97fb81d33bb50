// SPDX-License-Identifier: MIT
// The rules of src/call.h that are not plain calls: bookings, cancellation, as many as there are,
// and settling what was held.
#include <vector>

#include "src/call.h"
#include "tests/unit/model_bucket.h"
#include "tests/unit/model_counter.h"
#include "tests/unit/model_window.h"

namespace brim {
namespace {

using test::BucketModel;
using test::Edges;
using test::Key;
using test::kSecNs;
using test::Random;
using test::Wide;

Rate random_rate(Random& random) {
  const bool queue = random.one_in(3);
  Rate rate = test::random_bucket(random, queue ? Algorithm::kQueue : Algorithm::kTokenBucket,
                                  random.one_in(2) ? 50 : 0xfffffffe);
  if (!queue) {
    rate.forward = random.one_in(4);
    rate.ahead_ns = random.one_in(2) ? rate.ahead_ns : random.between(0, 400 * test::kDayNs);
  }
  if (queue && random.one_in(3)) rate.undelayed = static_cast<uint32_t>(random.below(10));
  return rate;
}

int64_t random_delay(Random& random, Wide start, const Edges& edges) {
  if (random.one_in(4)) return 0;
  if (random.one_in(2)) {
    const Wide near = std::min<Wide>(start, 400 * test::kDayNs) + random.between(-1, 1);
    return std::max<int64_t>(static_cast<int64_t>(near), 0);
  }
  return static_cast<int64_t>(random.magnitude(static_cast<uint64_t>(edges.refill)));
}

// Goal: a booking is accepted iff its start is at most max_delay away (and within what the policy
// lets anyone book), takes its permits from the end of the line, and a refused one writes nothing.
// Method: random bookings of one key against the model.
TEST(Booking, AcceptedIffItsStartIsInTime) {
  Random random(700);
  int accepted = 0;
  int asked = 0;
  while (asked < test::scaled(100000)) {
    const Rate rate = random_rate(random);
    BRIM_TRACE(test::words_of(rate, {}));
    const Quota quota = test::quota_of(rate, {0, 0});
    BucketModel model(rate, test::clock_of(rate, 0));
    const Edges edges = test::edges_of(rate, 0);
    const bool before = rate.forward || rate.algorithm == Algorithm::kQueue;
    const Wide horizon =
        model.capacity() + Wide{rate.ahead_ns} * (model.v.limit << model.v.k) / model.v.period;
    Word word = kEmptyWord;
    Decision last;
    int64_t t = 0;
    for (int i = 0; i < 40; ++i, ++asked) {
      t = std::max(t, test::jumped(random, edges, last, t));
      const uint32_t cost = random.one_in(2) ? 1 : test::random_cost(random, edges.burst);
      const Instant at = instant(quota, t);
      const bool never = cost != 0 && model.never(cost);
      const Wide start = cost == 0 || never ? 0 : model.start(t, cost);
      Reserve reserve{cost, random_delay(random, start, edges)};
      const Step step = reserve(word, at, quota);
      const Wide paid = std::max(model.paid, model.v(t)) + (Wide{cost} << model.v.k);
      const bool fits = before ? model.admits(t, cost) : paid - model.v(t) <= horizon;
      const bool in_time = cost == 0 || (!never && fits && start <= reserve.max_delay_ns);
      ASSERT_EQ(step.admitted, in_time);
      ASSERT_EQ(reserve.too_late, !in_time && !never);
      if (in_time && cost != 0) {
        ASSERT_EQ(Wide{reserve.delay_ns(step.next, at, quota)}, start);
        ASSERT_EQ(test::wide(step.next), paid);
        model.take(t, cost);
        ++accepted;
      } else {
        ASSERT_EQ(step.next, word) << "a refusal writes nothing";
      }
      word = step.next;
      ASSERT_FALSE(is_garbage(word, quota, t - test::kMilliNs));
      last = decide(word, {word, cost == 0}, at, quota, 0);
    }
  }
  EXPECT_GT(accepted, asked / 10);
}

// Goal: booked starts are distinct and a permit's time apart. Method: bookings for ever ahead; the
// k-th start is the first instant at which the bucket would have held the whole line.
TEST(Booking, StartsAreDistinct) {
  Rate rate;
  rate.limit = 3;
  rate.period_ns = kSecNs;
  rate.burst = 2;
  const Quota quota = test::quota_of(rate, {0, 0});
  Word word = kEmptyWord;
  const Instant at = instant(quota, 0);
  for (int64_t k = 0; k < 182; ++k) {
    Reserve reserve{1, kNever};
    const Step step = reserve(word, at, quota);
    ASSERT_TRUE(step.admitted);
    word = step.next;
    ASSERT_EQ(reserve.delay_ns(word, at, quota), k < 2 ? 0 : ((k - 1) * kSecNs + 2) / 3);
  }
  Reserve beyond{1, kNever};  // the policy lets anyone book 60 s ahead
  EXPECT_FALSE(beyond(word, at, quota).admitted);
  EXPECT_TRUE(beyond.too_late);
}

// Goal: a call of cost 0 only looks: it is told no delay, however much the key owes, so that
// acquire(key, timeout, 0) never sleeps past its timeout. Method: buckets in debt.
TEST(Booking, CostZeroHasNothingToWaitFor) {
  Random random(704);
  for (int i = 0; i < test::scaled(10000); ++i) {
    const Rate rate = random_rate(random);
    const Quota quota = test::quota_of(rate, {0, 0});
    Key key{quota};
    const int64_t t = random.between(0, test::kDayNs);
    key.charge(t, test::edges_of(rate, 0).burst);
    Reserve look{0, 1};
    const Step step = look(key.word, instant(quota, t), quota);
    ASSERT_TRUE(step.admitted);
    ASSERT_EQ(step.next, key.word);
    ASSERT_EQ(look.delay_ns(step.next, instant(quota, t), quota), 0) << test::words_of(rate, {});
  }
}

// Goal: the retry of a refused booking is the first instant at which the same booking is accepted.
// Method: 10/s burst 1, and a queue of 5 of which 3 wait; bookings for 0 to 300 ms.
TEST(Booking, RetryOfARefusedBookingIsExact) {
  Rate bucket;
  bucket.limit = 10;
  bucket.period_ns = kSecNs;
  bucket.burst = 1;
  Rate queue = bucket;
  queue.algorithm = Algorithm::kQueue;
  queue.burst = 5;
  for (const Rate& rate : {bucket, queue}) {
    const Quota quota = test::quota_of(rate, {0, 0});
    Key key{quota};
    key.charge(0, rate.algorithm == Algorithm::kQueue ? 3 : 4);
    for (const int64_t most : {int64_t{0}, int64_t{50000000}, int64_t{250000000}}) {
      Reserve reserve{1, most};
      const Instant at = instant(quota, 0);
      const Step step = reserve(key.word, at, quota);
      ASSERT_FALSE(step.admitted);
      const int64_t retry = reserve.retry_ns(key.word, at, quota);
      const int64_t start = rate.algorithm == Algorithm::kQueue ? 300000000 : 400000000;
      EXPECT_EQ(retry, start - most) << test::words_of(rate, {}) << " most " << most;
    }
  }
}

// Goal: a cancelled booking gives back its permits from the end of the line if the line still ends
// after it, and nothing else. Method: random lines; the model refunds.
TEST(Booking, CancelGivesBackTheTail) {
  Random random(701);
  for (int i = 0; i < test::scaled(100000); ++i) {
    const Rate rate = random_rate(random);
    const Quota quota = test::quota_of(rate, {0, 0});
    BucketModel model(rate, test::clock_of(rate, 0));
    const Edges edges = test::edges_of(rate, 0);
    const auto cost = static_cast<uint32_t>(random.magnitude(edges.burst));
    const int64_t t = random.between(0, test::kDayNs);
    Reserve reserve{cost, kNever};
    const Step step = reserve(kEmptyWord, instant(quota, t), quota);
    if (!step.admitted) continue;
    model.take(t, cost);
    const uint64_t end = step.next;
    Word word = step.next;
    if (random.one_in(2)) {
      const auto other = static_cast<uint32_t>(random.below(3));
      word = refund(word, instant(quota, t), quota, other);
      model.refund(t, other);
    }
    const int64_t later =
        t + static_cast<int64_t>(random.magnitude(static_cast<uint64_t>(edges.refill)));
    if (model.paid >= test::wide(end)) model.refund(later, cost);
    const Step cancelled = Cancel{cost, end}(word, instant(quota, later), quota);
    ASSERT_EQ(test::wide(cancelled.next), model.paid) << test::words_of(rate, {});
  }
}

// Goal: as many permits as there are from min to max, or none. Method: random words of all
// algorithms; the largest cost that passes is found by trying.
TEST(UpTo, TakesTheLargestCostThatPasses) {
  Random random(702);
  for (int asked = 0; asked < test::scaled(100000);) {
    Rate rate = test::random_bucket(random, Algorithm::kGcra, 1000);
    if (random.one_in(2)) {
      rate.algorithm = random.one_in(2) ? Algorithm::kFixedWindow : Algorithm::kSlidingCounter;
      rate.limit = std::min(rate.limit, 2000u);
      rate.period_ns = std::max<int64_t>(rate.period_ns, 1000);
      if (!check_fits(rate).ok()) continue;
    }
    Key key{test::quota_of(rate, {0, 0})};
    int64_t t = 0;
    for (int i = 0; i < 20; ++i, ++asked) {
      t += static_cast<int64_t>(random.magnitude(static_cast<uint64_t>(rate.period_ns)));
      const auto min = static_cast<uint32_t>(1 + random.below(4));
      const auto max = min + static_cast<uint32_t>(random.below(2000));
      uint32_t most = 0;
      for (uint32_t step = 1u << 12; step != 0; step /= 2) {
        if (most + step <= max && key.look(t, most + step).allowed()) most += step;
      }
      AcquireUpTo rule{min, max};
      const Step step = rule(key.word, instant(key.quota, t), key.quota);
      ASSERT_EQ(step.admitted, most >= min) << test::words_of(rate, {}) << most << " of " << min;
      ASSERT_EQ(step.admitted ? rule.cost : most, most);
      if (!step.admitted) {
        ASSERT_EQ(step.next, key.word);
      }
      key.word = step.next;
    }
  }
}

// Goal: hold(est), commit(actual): less gives the rest back, more is charged without asking; what
// is owed is what was used. Method: both orders of amounts on one bucket with room.
TEST(Commit, ChargesWhatWasUsed) {
  Random random(703);
  for (int i = 0; i < test::scaled(100000); ++i) {
    const Rate rate = test::random_bucket(random, Algorithm::kTokenBucket, 1000);
    const Quota quota = test::quota_of(rate, {0, 0});
    Key key{quota};
    const auto held = static_cast<uint32_t>(random.magnitude(rate.burst));
    const auto used = static_cast<uint32_t>(random.below(rate.burst + uint64_t{1}));
    const int64_t t = random.between(0, test::kDayNs);
    ASSERT_TRUE(key.ask(t, held).allowed());
    if (used < held) key.refund(t, held - used);
    if (used > held) key.charge(t, used - held);
    ASSERT_EQ(key.look(t, 0).remaining, rate.burst - used);
    ASSERT_EQ(key.owed(t) == 0, used == 0);
  }
}

}  // namespace
}  // namespace brim
