// SPDX-License-Identifier: MIT
// The checker of histories accepts what a sequential limiter can have answered, and rejects
// everything else: histories from the models themselves, and the same with one lie in them.
#include "tests/soak/linear.h"

#include <gtest/gtest.h>

#include <random>

namespace brim::soak {
namespace {

constexpr int64_t kStart = int64_t{1000} << 20;
constexpr int64_t kPeriod = int64_t{1000} << 20;

Step step(uint8_t process, Act act, int64_t cost, int64_t invoked, int64_t returned, bool yes) {
  Step one;
  one.process = process;
  one.act = act;
  one.cost = cost;
  one.invoked = invoked;
  one.returned = returned;
  one.yes = yes;
  return one;
}
Step acquire(uint8_t process, int64_t invoked, int64_t returned, bool yes, int64_t cost = 1) {
  return step(process, Act::kAcquire, cost, invoked, returned, yes);
}

bool accepts(const Sequential& model, const std::vector<Step>& steps) {
  return check_history(model, steps, kStart).linearizable;
}

// What a bucket says beside its verdict, which the model checks too.
Step told(Step one, int64_t paid_permits, int64_t burst) {
  one.reset = paid_permits * kPermitNs;
  one.remaining = std::max<int64_t>(burst - paid_permits, 0);
  one.retry = one.yes ? 0 : (paid_permits + one.cost - burst) * kPermitNs;
  return one;
}

TEST(LinearTest, OneMoreThanTheLimitIsRejected) {
  const auto log = log_model(2, kPeriod);
  EXPECT_TRUE(accepts(*log, {acquire(0, 0, 1, true), acquire(1, 2, 3, true)}));
  EXPECT_FALSE(
      accepts(*log, {acquire(0, 0, 3, true), acquire(1, 1, 4, true), acquire(2, 2, 5, true)}));
  const auto leases = lease_model(1, kPeriod);
  EXPECT_FALSE(accepts(*leases, {acquire(0, 0, 2, true), acquire(1, 1, 3, true)}));
}

TEST(LinearTest, ARefusalWithPermitsLeftIsRejected) {
  const auto log = log_model(2, kPeriod);
  EXPECT_FALSE(accepts(*log, {acquire(0, 0, 2, true), acquire(1, 1, 3, false)}));
  EXPECT_TRUE(
      accepts(*log, {acquire(0, 0, 1, true), acquire(0, 2, 3, true), acquire(1, 4, 5, false)}));
  const auto leases = lease_model(1, kPeriod);
  EXPECT_FALSE(accepts(*leases, {acquire(0, 0, 1, false)}));
}

TEST(LinearTest, OrderInRealTimeCounts) {
  const auto log = log_model(1, kPeriod);
  // Beside each other either may have been first; one after the other only one.
  EXPECT_TRUE(accepts(*log, {acquire(0, 0, 3, false), acquire(1, 1, 2, true)}));
  EXPECT_FALSE(accepts(*log, {acquire(0, 0, 1, false), acquire(1, 2, 3, true)}));
  EXPECT_TRUE(accepts(*log, {acquire(0, 0, 1, true), acquire(1, 2, 3, false)}));
}

TEST(LinearTest, TheClockIsOldOrNewWhileItIsMoved) {
  const auto log = log_model(1, kPeriod);
  const auto at = [&](int64_t invoked, int64_t returned, bool yes) {
    return std::vector<Step>{
        acquire(0, 0, 1, true),
        step(0, Act::kMoveClock, kStart + kPeriod, 4, 7, true),
        acquire(1, invoked, returned, yes),
    };
  };
  EXPECT_TRUE(accepts(*log, at(2, 5, true)));
  EXPECT_TRUE(accepts(*log, at(2, 5, false)));
  EXPECT_TRUE(accepts(*log, at(2, 3, false)));
  EXPECT_FALSE(accepts(*log, at(2, 3, true)));
  EXPECT_TRUE(accepts(*log, at(8, 9, true)));
  EXPECT_FALSE(accepts(*log, at(8, 9, false)));
}

TEST(LinearTest, ABucketsNumbersAreChecked) {
  const auto bucket = bucket_model(2);
  std::vector<Step> good = {told(acquire(0, 0, 1, true), 1, 2), told(acquire(0, 2, 3, true), 2, 2),
                            told(acquire(1, 4, 5, false), 2, 2)};
  EXPECT_TRUE(accepts(*bucket, good));
  for (int64_t Step::*field : {&Step::remaining, &Step::retry, &Step::reset}) {
    for (size_t i = 0; i < good.size(); ++i) {
      std::vector<Step> bad = good;
      bad[i].*field += 1;
      EXPECT_FALSE(accepts(*bucket, bad)) << i;
    }
  }
}

TEST(LinearTest, OnlyWhatIsBesideExcuses) {
  // A call for 2 that was refused may have held one for a moment; only for who was beside it.
  const auto log = log_model(2, kPeriod);
  EXPECT_TRUE(
      accepts(*log, {acquire(0, 0, 1, true), acquire(1, 2, 5, false, 2), acquire(2, 3, 4, false)}));
  EXPECT_FALSE(
      accepts(*log, {acquire(0, 0, 1, true), acquire(1, 2, 3, false, 2), acquire(2, 4, 5, false)}));
  const auto rates = rates_model(3, 2, kPeriod, kStart);
  EXPECT_TRUE(accepts(*rates, {acquire(1, 2, 5, false, 3), acquire(2, 3, 4, false)}));
  EXPECT_FALSE(accepts(*rates, {acquire(1, 2, 3, false, 3), acquire(2, 4, 5, false)}));
  // Never an excuse to admit.
  EXPECT_FALSE(accepts(*rates, {acquire(1, 2, 5, true, 3)}));
}

TEST(LinearTest, WhatWasGivenBackWasThere) {
  const auto leases = lease_model(2, kPeriod);
  Step taken = acquire(0, 0, 1, true);
  taken.lease = 7;
  const Step ended = step(0, Act::kRelease, 7, 2, 3, true);
  const Step again = step(0, Act::kRelease, 7, 4, 5, true);
  EXPECT_TRUE(accepts(*leases, {taken, ended}));
  EXPECT_FALSE(accepts(*leases, {taken, ended, again}));
  const auto counter = counter_model(5, kPeriod, kStart);
  EXPECT_FALSE(accepts(*counter, {step(0, Act::kRefund, 1, 0, 1, true)}));
  EXPECT_TRUE(accepts(*counter, {step(0, Act::kRefund, 1, 0, 1, false)}));
}

// Histories that the model gives when calls are in fact performed one by one somewhere between
// their invocation and return are accepted; with one verdict turned round they mostly are not, and
// at one process never.
TEST(LinearTest, TurnedVerdictsInRandomHistories) {
  std::mt19937_64 random(1);
  uint64_t rejected = 0;
  constexpr int kRounds = 2000;
  for (int round = 0; round < kRounds; ++round) {
    const auto model = log_model(3, kPeriod);
    const uint64_t processes = 1 + random() % 3;
    std::vector<Step> steps;
    State state;
    int64_t last[3] = {0, 0, 0};
    for (int64_t i = 0; i < 15; ++i) {
      const uint64_t process = random() % processes;
      const int64_t now = 100 * (i + 1);
      Step one = acquire(static_cast<uint8_t>(process), 0, 0, true);
      if (random() % 4 == 0) one.act = Act::kRefund;
      // Wide where there are several, but after the process's last call.
      const int64_t wide = processes == 1 ? 10 : 250;
      one.invoked =
          std::max(last[process] + 1, now - static_cast<int64_t>(random() % 10) * wide / 10);
      one.returned = now + 1;
      last[process] = one.returned;
      if (!model->perform(state, one, kStart, 0)) {
        one.yes = false;
        ASSERT_TRUE(model->perform(state, one, kStart, 0));
      }
      steps.push_back(one);
    }
    ASSERT_TRUE(accepts(*model, steps)) << history_text(steps);
    Step& lie = steps[random() % steps.size()];
    lie.yes = !lie.yes;
    const bool found = !accepts(*model, steps);
    rejected += found ? 1 : 0;
    if (processes == 1) {
      EXPECT_TRUE(found) << history_text(steps);
    }
  }
  EXPECT_GT(rejected, static_cast<uint64_t>(kRounds) * 7 / 10);
  std::printf("lies found: %lu of %d\n", rejected, kRounds);
}

// A call that is stopped with a time before the end of a lease may find it overwritten, and then
// gets one that has ended already; but never one beside another that is live by the clock.
TEST(LinearTest, AStoppedCallMayMissALeaseThatHasEnded) {
  const auto leases = lease_model(1, kPeriod);
  const auto lease = [](Step one, int64_t number) {
    one.lease = number;
    return one;
  };
  const Step first = lease(acquire(0, 0, 1, true), 1);
  const Step stopped = lease(acquire(1, 2, 9, true), 3);
  const Step clock = step(0, Act::kMoveClock, kStart + kPeriod, 3, 4, true);
  const Step second = lease(acquire(0, 5, 6, true), 6);
  const Step ended = step(0, Act::kRelease, 6, 7, 8, true);
  const Step too_late = step(1, Act::kRelease, 3, 10, 11, false);
  EXPECT_TRUE(accepts(*leases, {first, stopped, clock, second, ended, too_late}));
  EXPECT_FALSE(accepts(*leases, {first, stopped, clock, second, too_late}));
}

}  // namespace
}  // namespace brim::soak
