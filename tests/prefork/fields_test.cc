// SPDX-License-Identifier: MIT
// Goal: the fields of the prefork example say what the Decision says, rounded to the safe side.
// Method: one Decision or Policy per rule, compared with the text on the wire.
#include "examples/prefork_server/fields.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <optional>

namespace {

constexpr int64_t kMs = 1000000;
constexpr int64_t kSecond = 1000 * kMs;

std::string field_of(const char* text) {
  return example::policy_field("p", brim::parse_policy(text).value());
}

brim::Decision denied(int64_t retry_after_ns, int64_t reset_after_ns) {
  brim::Decision decision;
  decision.retry_after_ns = retry_after_ns;
  decision.reset_after_ns = reset_after_ns;
  return decision;
}

brim::Decision allowed(uint32_t remaining, int64_t reset_after_ns) {
  brim::Decision decision;
  decision.verdict = brim::Verdict::kAllowed;
  decision.admitted = true;
  decision.remaining = remaining;
  decision.reset_after_ns = reset_after_ns;
  return decision;
}

TEST(PolicyField, SaysBurstAndTheTimeItRefillsIn) {
  EXPECT_EQ(field_of("100/m"), "\"p\";q=100;w=60");
  EXPECT_EQ(field_of("100/m burst 20"), "\"p\";q=20;w=12");
  EXPECT_EQ(field_of("1/h burst 10000"), "\"p\";q=10000;w=36000000");
}

TEST(PolicyField, RoundsTheWindowUpAndOmitsItBelowASecond) {
  EXPECT_EQ(field_of("3/2s burst 2"), "\"p\";q=2;w=2");  // 1.33 s
  EXPECT_EQ(field_of("1000/1s"), "\"p\";q=1000;w=1");
  EXPECT_EQ(field_of("1000/999ms"), "\"p\";q=1000");
  EXPECT_EQ(field_of("10/s burst 1"), "\"p\";q=1");
}

TEST(PolicyField, LongestWindowDoesNotOverflow) {
  brim::Rate rate;
  rate.limit = 1;
  rate.period_ns = brim::kMaxPeriodNs;
  rate.burst = 4294967295;
  brim::Policy policy;
  policy.rates = {rate};
  EXPECT_EQ(example::policy_field("p", policy), "\"p\";q=4294967295;w=13544608861512000000");
}

TEST(PolicyField, SaysWindowsAsTheyAreAndOfSeveralRatesTheFirst) {
  EXPECT_EQ(field_of("fixed-window 5000/d"), "\"p\";q=5000;w=86400");
  EXPECT_EQ(field_of("sliding-log 10/m"), "\"p\";q=10;w=60");
  EXPECT_EQ(field_of("calendar-window 9/month"), "\"p\";q=9");
  EXPECT_EQ(field_of("10/s burst 5 debt 15"), "\"p\";q=20;w=2");
  EXPECT_EQ(field_of("10/s burst 20; 1000/h"), "\"p\";q=20;w=2");
  EXPECT_EQ(example::policy_field("p", brim::Policy()), "\"p\";q=0");
}

TEST(LimitField, AllowedTellsWhenTheWholeQuotaIsBack) {
  EXPECT_EQ(example::limit_field("p", allowed(7, 1500 * kMs)), "\"p\";r=7;t=2");
  EXPECT_EQ(example::limit_field("p", allowed(7, 2 * kSecond)), "\"p\";r=7;t=2");
}

TEST(LimitField, DeniedTellsTheSameTimeAsRetryAfter) {
  const brim::Decision decision = denied(1, 60 * kSecond);
  EXPECT_EQ(example::limit_field("p", decision), "\"p\";r=0;t=1");
  EXPECT_EQ(example::retry_after_seconds(decision), 1);
  EXPECT_EQ(example::retry_after_seconds(denied(kSecond, 0)), 1);
  EXPECT_EQ(example::retry_after_seconds(denied(kSecond + 1, 0)), 2);
}

TEST(LimitField, NoWaitHelps) {
  const brim::Decision decision = denied(brim::kNever, kSecond);
  EXPECT_EQ(example::limit_field("p", decision), "\"p\";r=0");
  EXPECT_EQ(example::retry_after_seconds(decision), std::nullopt);
}

TEST(LimitField, NothingIsSaidWithoutADecision) {
  brim::Decision decision;
  decision.verdict = brim::Verdict::kUnavailable;
  decision.admitted = true;
  EXPECT_EQ(example::limit_field("p", decision), std::nullopt);
  EXPECT_EQ(example::retry_after_seconds(decision), std::nullopt);
}

TEST(RetryAfter, AbsentWhenAdmitted) {
  EXPECT_EQ(example::retry_after_seconds(allowed(0, kSecond)), std::nullopt);
}

}  // namespace
