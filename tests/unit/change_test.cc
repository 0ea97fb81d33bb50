// SPDX-License-Identifier: MIT
// Live changes: what recompile() keeps, what it refuses, and that a reset forgets every word that
// anyone can have stored.
#include <string_view>

#include "src/algo/step.h"
#include "src/compile.h"
#include "tests/unit/model_ban.h"
#include "tests/unit/model_bucket.h"
#include "tests/unit/model_counter.h"
#include "tests/unit/model_window.h"

namespace brim {
namespace {

using test::BucketModel;
using test::CounterModel;
using test::Edges;
using test::kDayNs;
using test::Key;
using test::kSecNs;
using test::Random;
using test::TokenClock;
using test::Wide;
using test::WindowModel;

bool is_unfit(const absl::Status& status) {
  return status.code() == absl::StatusCode::kFailedPrecondition &&
         test::message(status).starts_with("policy_change_unfit: ");
}

Rate random_bucket(Random& random) {
  for (;;) {
    const bool queue = random.one_in(4);
    Rate rate = test::random_bucket(random, queue ? Algorithm::kQueue : Algorithm::kGcra,
                                    random.one_in(2) ? 100 : 0x7ffffffe);
    if (!queue && random.one_in(3)) rate.debt = static_cast<uint32_t>(random.magnitude(100));
    if (!queue) rate.forward = random.one_in(4);
    if (check_fits(rate).ok()) return rate;
  }
}

// Another rate that the words of `old` can follow, more often than not.
Rate changed_bucket(Random& random, const Rate& old) {
  Rate rate = random_bucket(random);
  if (random.one_in(4)) return rate;
  rate.period_ns = old.period_ns;
  rate.limit = static_cast<uint32_t>(
      std::clamp<uint64_t>(random.magnitude(uint64_t{old.limit} * 16), 1, 0xffffffff));
  rate.limit = static_cast<uint32_t>(std::min<int64_t>(rate.limit, rate.period_ns));
  rate.burst = static_cast<uint32_t>(random.magnitude(old.burst * uint64_t{2} + 1));
  return check_fits(rate).ok() ? rate : old;
}

// Goal: a change of limit, burst, debt, period or kind of a bucket keeps every key's debt in
// permits, and from then on the new definition holds on the old words, whatever their unit.
// Method: histories through several changes, against the model on a clock that goes on.
TEST(Change, BucketsKeepTheirDebt) {
  Random random(800);
  int changes = 0;
  for (int asked = 0; asked < test::scaled(150000);) {
    Rate rate = random_bucket(random);
    int64_t now = random.between(0, 365 * kDayNs);
    shm::PolicyWords words = *compile(test::policy_of(rate), {now, 0});
    Key key{quota_from(words, 0)};
    TokenClock clock = test::clock_of(rate, now);
    BucketModel model(rate, clock);
    uint64_t most = 0;
    for (int change = 0; change < 4; ++change) {
      BRIM_TRACE(test::words_of(rate, {now, 0}) + " change " + std::to_string(change));
      Edges edges = test::edges_of(rate, now);
      edges.last = now + 2 * 365 * kDayNs;
      Decision decision;
      int64_t t = now;
      for (int i = 0; i < 20; ++i, ++asked) {
        t = std::max(now, test::jumped(random, edges, decision, t));
        decision = test::compare(key, model, t, test::random_cost(random, edges.burst), false);
        BRIM_STOP();
        test::check_plausible(random, key, t);
      }
      now = t;
      most = std::max(most, key.quota.capacity_max);
      const Rate next = changed_bucket(random, rate);
      const auto changed = recompile(test::policy_of(next), {now, 0}, words, false);
      if (!changed.ok()) {
        ASSERT_TRUE(is_unfit(changed.status()));
        continue;
      }
      // A debt that takes more than a century to pay: see below.
      const Wide longest = test::wide(quota_from(*changed, 0).capacity_max) * next.period_ns;
      if (longest / (Wide{next.limit} << model.v.k) > Wide{1} << 61) continue;
      ++changes;
      const uint64_t owed = key.owed(now);
      words = *changed;
      key.quota = quota_from(words, 0);
      ASSERT_EQ(key.owed(now), owed);
      ASSERT_EQ(token_clock(key.quota, now), static_cast<uint64_t>(model.v(now)));
      ASSERT_GE(key.quota.capacity_max, most);
      clock = {now, model.v(now), next.limit, next.period_ns, model.v.k};
      const Wide paid = model.paid;
      model = BucketModel(next, clock);
      model.paid = paid;
      rate = next;
    }
  }
  EXPECT_GT(changes, test::scaled(2000));
}

// Goal: where a debt at the new rate takes longer than a clock can say, the answer is "never", not
// a time that is not true. Method: 214000 permits owed, at 1000 a second, then at one a day:
// 586 years, of which 64 bits of ns show the last one.
TEST(Change, ADebtOfCenturiesIsNotWrapped) {
  Rate rate;
  rate.limit = 1000;
  rate.period_ns = kSecNs;
  rate.burst = 214000;
  const shm::PolicyWords words = *compile(test::policy_of(rate), {0, 0});
  Key key{quota_from(words, 0)};
  ASSERT_TRUE(key.ask(0, 214000).allowed());
  rate.limit = 1;
  rate.period_ns = kDayNs;
  rate.burst = 1;
  const auto changed = recompile(test::policy_of(rate), {0, 0}, words, false);
  ASSERT_TRUE(changed.ok());
  key.quota = quota_from(*changed, 0);
  EXPECT_EQ(key.look(0, 1).reset_after_ns, kNever);
  EXPECT_EQ(key.look(0, 1).retry_after_ns, kNever);
}

// Goal: a change too far for the words' unit is refused with what to do instead, and not made.
TEST(Change, TooFarIsRefused) {
  Rate slow;
  slow.limit = 1;
  slow.period_ns = 365 * kDayNs;
  slow.burst = 10;
  Rate fast = slow;
  fast.limit = 1000000000;
  fast.period_ns = kSecNs;
  const shm::PolicyWords words = *compile(test::policy_of(slow), {5, 5});
  EXPECT_TRUE(is_unfit(recompile(test::policy_of(fast), {9, 9}, words, false).status()));
  EXPECT_TRUE(recompile(test::policy_of(fast), {9, 9}, words, true).ok());
  Rate window;
  window.algorithm = Algorithm::kFixedWindow;
  window.limit = 10;
  window.period_ns = kSecNs;
  EXPECT_TRUE(is_unfit(recompile(test::policy_of(window), {9, 9}, words, false).status()));
  const shm::PolicyWords windows = *compile(test::policy_of(window), {5, 5});
  window.first_hit = true;
  EXPECT_TRUE(is_unfit(recompile(test::policy_of(window), {9, 9}, windows, false).status()));
  Rate counter = window;
  counter.first_hit = false;
  counter.algorithm = Algorithm::kSlidingCounter;
  EXPECT_TRUE(is_unfit(recompile(test::policy_of(counter), {9, 9}, windows, false).status()));
  Rate log = counter;
  log.algorithm = Algorithm::kSlidingLog;
  EXPECT_TRUE(is_unfit(recompile(test::policy_of(log), {9, 9}, windows, true).status()));
}

Rate random_window(Random& random, Algorithm algorithm, bool first_hit) {
  for (;;) {
    Rate rate;
    rate.algorithm = algorithm;
    rate.limit = static_cast<uint32_t>(random.magnitude(random.one_in(2) ? 20 : 100000));
    if (algorithm == Algorithm::kCalendarWindow) {
      rate.calendar = static_cast<CalendarUnit>(1 + random.below(5));
      rate.utc_offset_s = test::random_offset(random);
    } else {
      rate.period_ns = std::max<int64_t>(test::random_period(random), 1000000);
      rate.first_hit = first_hit;
    }
    if (check_fits(rate).ok()) return rate;
  }
}

int64_t period_of(const Rate& rate, const Quota& quota) {
  return rate.period_ns != 0 ? rate.period_ns : quota.period_ns;
}

// Goal: a change of limit or period keeps what was counted in the current window: it stays open to
// the new window's end (first hit: to its own). Method: random histories before and after.
void compare_windows(bool first_hit, uint64_t seed) {
  Random random(seed);
  int changes = 0;
  for (int asked = 0; asked < test::scaled(100000);) {
    const Rate rate = random_window(random, Algorithm::kFixedWindow, first_hit);
    Rate next = random_window(random, Algorithm::kFixedWindow, first_hit);
    next.limit = static_cast<uint32_t>(random.magnitude(rate.limit * uint64_t{2}));
    const Beginning at{random.between(1, kDayNs), random.between(kDayNs, 200 * 365 * kDayNs)};
    BRIM_TRACE(test::words_of(rate, at) + " -> " + test::words_of(next, at));
    const shm::PolicyWords words = *compile(test::policy_of(rate), at);
    Key key{quota_from(words, 0)};
    const Wide tick = test::wide(key.quota.ns_per_unit.whole);
    const Wide most = test::wide(window::count_mask(key.quota));
    WindowModel model(rate, at, tick, most);
    int64_t t = at.now_ns + static_cast<int64_t>(random.magnitude(365 * kDayNs));
    for (int i = 0; i < 5; ++i) {
      t += static_cast<int64_t>(random.below(static_cast<uint64_t>(rate.period_ns) / 3));
      test::compare(key, model, t, test::random_cost(random, rate.limit), false);
    }
    const Beginning later{t, at.wall_ns + (t - at.now_ns) + random.between(-kDayNs, kDayNs)};
    const auto changed = recompile(test::policy_of(next), later, words, false);
    asked += 25;
    if (!changed.ok()) {
      ASSERT_TRUE(is_unfit(changed.status()));
      continue;
    }
    ++changes;
    const Wide counted = model.counted(t);
    const Wide end = model.end();
    key.quota = quota_from(*changed, 0);
    model = WindowModel(next, {first_hit ? key.quota.t0 : t, later.wall_ns}, tick, most);
    model.adopt(t, counted, first_hit ? end : model.span(t).end);
    ASSERT_EQ(test::wide(key.owed(t)) >> 20, counted);
    Edges edges = test::window_edges(next, next.period_ns, later);
    edges.first = t;
    test::drive(random, key, model, edges, t, 20);
    BRIM_STOP();
  }
  EXPECT_GT(changes, test::scaled(1000));
}
TEST(Change, AlignedWindowsKeepTheirCounts) { compare_windows(false, 801); }
TEST(Change, FirstHitWindowsKeepTheirCounts) { compare_windows(true, 802); }

// Goal: a change of a sliding counter keeps both windows' counts. Method: as above.
TEST(Change, CountersKeepBothCounts) {
  Random random(803);
  int changes = 0;
  for (int asked = 0; asked < test::scaled(100000);) {
    const Rate rate = random_window(random, Algorithm::kSlidingCounter, false);
    Rate next = random_window(random, Algorithm::kSlidingCounter, false);
    next.floor_weight = random.one_in(2);
    const Beginning at{random.between(1, kDayNs), random.between(kDayNs, 200 * 365 * kDayNs)};
    BRIM_TRACE(test::words_of(rate, at) + " -> " + test::words_of(next, at));
    const shm::PolicyWords words = *compile(test::policy_of(rate), at);
    Key key{quota_from(words, 0)};
    const Wide most = test::wide(counter::count_mask(key.quota));
    CounterModel model(rate, at, most);
    int64_t t = at.now_ns + static_cast<int64_t>(random.magnitude(365 * kDayNs));
    for (int i = 0; i < 6; ++i) {
      t += static_cast<int64_t>(random.below(static_cast<uint64_t>(rate.period_ns)));
      test::compare(key, model, t, test::random_cost(random, rate.limit), false);
    }
    const Beginning later{t, at.wall_ns + (t - at.now_ns) + random.between(-kDayNs, kDayNs)};
    const auto changed = recompile(test::policy_of(next), later, words, false);
    asked += 26;
    if (!changed.ok()) {
      ASSERT_TRUE(is_unfit(changed.status()));
      continue;
    }
    ++changes;
    const Wide w = model.number(t);
    const Wide before = model.passed(w - 1);
    const Wide now = model.passed(w);
    key.quota = quota_from(*changed, 0);
    model = CounterModel(next, later, most);
    model.adopt(t, before, now);
    Edges edges = test::window_edges(next, next.period_ns, later);
    edges.first = t;
    edges.exact_idle = !next.floor_weight;
    test::drive(random, key, model, edges, t, 20);
    BRIM_STOP();
  }
  EXPECT_GT(changes, test::scaled(1000));
}

// Goal: a calendar month follows the offset that the policy has now. Method: a change from utc to
// utc+05:00; the month ends five hours earlier.
TEST(Change, AMonthFollowsItsNewOffset) {
  Rate rate;
  rate.algorithm = Algorithm::kCalendarWindow;
  rate.limit = 10;
  for (const CalendarUnit unit : {CalendarUnit::kDay, CalendarUnit::kMonth, CalendarUnit::kYear}) {
    rate.calendar = unit;
    rate.utc_offset_s = 0;
    const Beginning at{7, 20000 * kDayNs};
    const shm::PolicyWords words = *compile(test::policy_of(rate), at);
    Key key{quota_from(words, 0)};
    const Decision before = key.ask(7, 10);
    rate.utc_offset_s = 5 * 3600;
    key.quota = quota_from(*recompile(test::policy_of(rate), at, words, false), 0);
    EXPECT_EQ(key.look(7, 0).remaining, 0u);
    EXPECT_EQ(key.look(7, 1).retry_after_ns, before.reset_after_ns - 5 * 3600 * kSecNs)
        << static_cast<int>(unit);
  }
}

Rate random_rate(Random& random) {
  switch (random.below(6)) {
    case 0:
    case 1:
      return random_bucket(random);
    case 2:
      return random_window(random, Algorithm::kFixedWindow, false);
    case 3:
      return random_window(random, Algorithm::kFixedWindow, true);
    case 4:
      return random_window(random, Algorithm::kCalendarWindow, false);
    default:
      return random_window(random, Algorithm::kSlidingCounter, false);
  }
}

// A word that someone may have stored until `t`, by a clock up to 1 ms ahead.
Word reachable_word(Random& random, const Quota& quota, const Edges& edges, int64_t from,
                    int64_t t) {
  Key key{quota};
  Decision decision;
  int64_t at = std::max(
      from, t - static_cast<int64_t>(random.magnitude(static_cast<uint64_t>(edges.farthest))));
  for (int i = 0; i < 6; ++i) {
    decision = key.ask(at, test::random_cost(random, edges.burst));
    at = std::clamp(test::jumped(random, edges, decision, at), from, t + test::kMilliNs);
  }
  if (random.one_in(2)) key.charge(t + test::kMilliNs, kMaxCost);
  return key.word;
}

// Goal: a reset makes every word that was ever reachable idle, at once and for ever, also when the
// new policy has another algorithm; where that can not be told it is refused. Method: random pairs
// of policies, random words; the new policy treats them as absent ones.
TEST(Change, AResetForgetsEveryWord) {
  Random random(804);
  int done = 0;
  for (int i = 0; i < test::scaled(100000); ++i) {
    const Rate rate = random_rate(random);
    const Rate next = random_rate(random);
    Beginning at{random.between(1, 365 * kDayNs), random.between(kDayNs, 100 * 365 * kDayNs)};
    BRIM_TRACE(test::words_of(rate, at) + " -> " + test::words_of(next, at));
    shm::PolicyWords words = *compile(test::policy_of(rate), at);
    const Quota old = quota_from(words, 0);
    const int64_t t = at.now_ns + static_cast<int64_t>(random.magnitude(365 * kDayNs));
    Edges edges = test::window_edges(rate, period_of(rate, old), at);
    edges.burst = old.burst;
    const Word word = reachable_word(random, old, edges, at.now_ns, t);
    const auto changed =
        recompile(test::policy_of(next), {t, at.wall_ns + (t - at.now_ns)}, words, true);
    if (!changed.ok()) {
      ASSERT_TRUE(is_unfit(changed.status()));
      continue;
    }
    ++done;
    const Key key{quota_from(*changed, 0), word};
    edges = test::window_edges(next, period_of(next, key.quota), {t, 0});
    edges.burst = key.quota.burst;
    edges.last = t + 2 * 365 * kDayNs;
    ASSERT_EQ(key.owed(t), 0u);
    // A counter's window number is kept modulo.
    const Wide life = next.algorithm != Algorithm::kSlidingCounter
                          ? 365 * kDayNs
                          : test::wide(counter::window_mask(key.quota)) * next.period_ns / 4;
    const auto longest = static_cast<uint64_t>(std::min<Wide>(life, 365 * kDayNs));
    for (const int64_t gone : {int64_t{0}, period_of(next, key.quota),
                               static_cast<int64_t>(random.magnitude(longest))}) {
      ASSERT_EQ(key.owed(t + gone), 0u);
      ASSERT_TRUE(plausible(key.word, instant(key.quota, t + gone), key.quota));
      test::check_idle(random, key, edges, t + gone);
      BRIM_STOP();
    }
  }
  EXPECT_GT(done, test::scaled(60000));
}

// Goal: a reset also forgets what keys owed to a rate that it drops, should the rate come back.
// Method: two rates, one after a reset, two again.
TEST(Change, AResetReachesADroppedRate) {
  Rate fast;
  fast.limit = 10;
  fast.period_ns = kSecNs;
  fast.burst = 10;
  Rate slow = fast;
  slow.period_ns = kDayNs;
  Policy both = test::policy_of(fast);
  both.rates.push_back(slow);
  const shm::PolicyWords words = *compile(both, {0, 0});
  Key key{quota_from(words, 1)};
  ASSERT_TRUE(key.ask(0, 10).allowed());
  const shm::PolicyWords one = *recompile(test::policy_of(fast), {kSecNs, 0}, words, true);
  const shm::PolicyWords again = *recompile(both, {2 * kSecNs, 0}, one, false);
  key.quota = quota_from(again, 1);
  EXPECT_EQ(key.owed(2 * kSecNs), 0u);
}

Policy with_ban(const Ban& ban) {
  Rate rate;
  rate.limit = 10;
  rate.period_ns = kSecNs;
  rate.burst = 10;
  Policy policy = test::policy_of(rate);
  policy.ban = ban;
  return policy;
}

// Goal: bans go on over a change and are forgotten by a reset. Method: a key barred for ten
// minutes, seen two minutes later.
TEST(Change, BansAreKeptAndReset) {
  const int64_t minute = 60 * kSecNs;
  const int64_t then = 100 * kDayNs;
  const int64_t now = then + 2 * minute;
  const Ban ban{1, minute, 10 * minute, 2, 60 * minute};
  const shm::PolicyWords words = *compile(with_ban(ban), {77, 0});
  const Quota old = quota_from(words, kBanPart);
  const Word word = ban::refused_word(kEmptyWord, then, old);
  const int64_t left = ban::barred_for(word, now, old);
  for (const int64_t longest : {60 * minute, 30 * minute, minute}) {
    const Ban other{2, minute, std::min(longest, 10 * minute), 2, longest};
    const Quota kept = quota_from(*recompile(with_ban(other), {now, 0}, words, false), kBanPart);
    EXPECT_EQ(ban::barred_for(word, now, kept), left);
    const Quota fresh = quota_from(*recompile(with_ban(other), {now, 0}, words, true), kBanPart);
    EXPECT_EQ(ban::barred_for(word, now, fresh), 0);
    EXPECT_EQ(debt(word, instant(fresh, now), fresh), 0u);
  }
}

// Goal: a key that is barred when bans become shorter is not taken for garbage (its slot would be
// reclaimed and the ban end). Method: barred for ten minutes, then bans of one minute.
TEST(Change, ShorterBansDoNotFreeThoseBarred) {
  const int64_t minute = 60 * kSecNs;
  const Ban ban{1, minute, 10 * minute, 1, 10 * minute};
  const shm::PolicyWords words = *compile(with_ban(ban), {77, 0});
  const Word word = ban::refused_word(kEmptyWord, minute, quota_from(words, kBanPart));
  const Ban other{1, minute, minute, 1, minute};
  const Quota kept =
      quota_from(*recompile(with_ban(other), {2 * minute, 0}, words, false), kBanPart);
  EXPECT_TRUE(plausible(word, instant(kept, 2 * minute + 2 * test::kMilliNs), kept));
}

// Goal: resets do not use up the time that bans can express. Method: a policy with bans of up to a
// year, reset once a day for twenty days; the twenty-first ban still bars.
TEST(Change, BansOutliveManyResets) {
  const Ban ban{1, kSecNs, kDayNs, 1, 365 * kDayNs};
  shm::PolicyWords words = *compile(with_ban(ban), {0, 0});
  for (int64_t day = 1; day <= 20; ++day) {
    const auto reset = recompile(with_ban(ban), {day * kDayNs, 0}, words, true);
    if (!reset.ok()) {  // sooner or later the clock is used up; then it says so
      EXPECT_GT(day, 3);
      EXPECT_EQ(reset.status().code(), absl::StatusCode::kFailedPrecondition);
      break;
    }
    words = *reset;
    const Quota quota = quota_from(words, kBanPart);
    const Word word = ban::refused_word(kEmptyWord, day * kDayNs, quota);
    ASSERT_GE(ban::barred_for(word, day * kDayNs, quota), kDayNs) << "after " << day << " resets";
  }
}

// Goal: a change under a factor or within a warm-up keeps the factor and moves no reading.
TEST(Change, TheClockIsContinuousUnderAFactor) {
  Random random(805);
  for (int i = 0; i < test::scaled(50000); ++i) {
    const Rate rate = random_bucket(random);
    Policy policy = test::policy_of(rate);
    if (random.one_in(2)) {
      policy.warm_up_ns = static_cast<int64_t>(random.magnitude(kMaxWarmUpNs));
      policy.warm_up_from_ppm = 10 * static_cast<uint32_t>(1 + random.below(100000));
    }
    int64_t now = random.between(0, kDayNs);
    const auto factor = static_cast<uint32_t>(random.below(1000001));
    shm::PolicyWords words = with_factor(*compile(policy, {now, 0}), now, factor);
    now += static_cast<int64_t>(random.magnitude(2 * kMaxWarmUpNs));
    const Quota old = quota_from(words, 0);
    policy.rates[0] = changed_bucket(random, rate);
    const auto changed = recompile(policy, {now, 0}, words, false);
    if (!changed.ok()) continue;
    const Quota quota = quota_from(*changed, 0);
    ASSERT_EQ(token_clock(quota, now), token_clock(old, now)) << test::words_of(rate, {});
    ASSERT_EQ((*changed)[kWordFactor], factor);
    ASSERT_EQ(has(quota, kWarped), factor != 1000000 || policy.warm_up_from_ppm != 1000000);
    if (has(quota, kWarped)) {
      ASSERT_EQ(quota.warp.factor_ppm, factor);
    }
  }
}

}  // namespace
}  // namespace brim
