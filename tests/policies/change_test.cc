// SPDX-License-Identifier: MIT
// Live change: what each key owes stays what it is, in permits; reset and proportional do what they
// say; the factor and the warm-up bend the rate.
#include "tests/policies/support.h"

namespace brim::test {
namespace {

class Change : public Policies {};

struct Case {
  const char* before;
  const char* after;
  uint32_t used;
  uint32_t left;  // after the change
};

class KeepsDebt : public Policies, public ::testing::WithParamInterface<Case> {};

TEST_P(KeepsDebt, InPermits) {
  const Case& one = GetParam();
  open({{"p", one.before}});
  const PolicyHandle p = policy("p");
  ASSERT_TRUE(p.try_acquire("k", one.used).admitted);
  ASSERT_TRUE(limiter_.change("p", one.after).ok()) << limiter_.change("p", one.after);
  EXPECT_EQ(p.peek("k").remaining, one.left) << one.before << " -> " << one.after;
  EXPECT_EQ(policy_text(p.policy()), policy_text(*parse_policy(one.after)));
  // F38: lowering and raising again forgives nothing.
  ASSERT_TRUE(limiter_.change("p", one.before).ok());
  EXPECT_EQ(p.peek("k").remaining, parse_policy(one.before)->rates[0].burst == 0
                                       ? parse_policy(one.before)->rates[0].limit - one.used
                                       : parse_policy(one.before)->rates[0].burst - one.used);
}

INSTANTIATE_TEST_SUITE_P(
    All, KeepsDebt,
    ::testing::Values(Case{"10/h", "20/h", 6, 14}, Case{"10/h", "4/h", 6, 0},
                      Case{"10/h", "100/5h burst 10", 6, 4},
                      Case{"10/h burst 30", "10/h burst 12", 20, 0},
                      Case{"fixed-window 10/h", "fixed-window 20/h", 6, 14},
                      Case{"fixed-window 10/h", "fixed-window 4/h", 6, 0},
                      Case{"sliding-counter 10/h", "sliding-counter 7/h", 6, 1},
                      Case{"sliding-log 10/h", "sliding-log 7/h", 6, 1},
                      Case{"fixed-window 10/h first-hit", "fixed-window 9/h first-hit", 6, 3},
                      Case{"calendar-window 10/year", "calendar-window 15/year", 6, 9}));

TEST_F(Change, DebtBeyondTheNewBurstIsReal) {
  open({{"p", "10/h burst 30"}});
  const PolicyHandle p = policy("p");
  ASSERT_TRUE(p.try_acquire("k", 30).admitted);
  ASSERT_TRUE(limiter_.change("p", "10/h burst 5").ok());
  const Decision refused = p.try_acquire("k");
  // 30 owed, 5 may be: 26 permits must flow back first, at 10 an hour.
  EXPECT_EQ(refused.retry_after_ns, int64_t{26} * 360 * kSecond);
}

TEST_F(Change, ResetForgetsAtOnceAcrossAlgorithms) {
  open({{"p", "10/h"}, {"log", "sliding-log 4/h"}});
  const PolicyHandle p = policy("p");
  for (const char* text :
       {"10/h", "fixed-window 10/h", "sliding-counter 10/h", "10/s", "fixed-window 10/h first-hit",
        "calendar-window 10/month", "queue 5/s burst 9", "1000000/s burst 10", "3/d burst 10"}) {
    passes(p, "k");
    ASSERT_EQ(p.peek("k").remaining, 0u);
    if (std::string_view(text) != "10/h") {
      EXPECT_FALSE(limiter_.change("p", text).ok() && p.peek("k").remaining != 0) << text;
    }
    ASSERT_TRUE(limiter_.change("p", text, OnChange::kReset).ok())
        << text << limiter_.change("p", text, OnChange::kReset);
    EXPECT_EQ(p.peek("k").reset_after_ns, 0) << text;
    EXPECT_EQ(passes(p, "k"), 10u) << text;
    advance(kSecond / 100);
  }
}

TEST_F(Change, PoliciesInUseDoNotBecomeWords) {
  open({{"p", "10/h"}, {"shut", "deny"}, {"log", "sliding-log 5/m"}});
  EXPECT_EQ(limiter_.change("p", "deny").code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(limiter_.change("p", "unlimited", OnChange::kReset).code(),
            absl::StatusCode::kFailedPrecondition);
  EXPECT_TRUE(limiter_.change("shut", "10/h").ok());
  EXPECT_EQ(passes(policy("shut"), "k"), 10u);
  EXPECT_EQ(limiter_.change("log", "sliding-log 4/m", OnChange::kReset).code(),
            absl::StatusCode::kFailedPrecondition);
}

TEST_F(Change, AnotherAlgorithmIsRefusedWithTheReason) {
  open({{"p", "10/h"}});
  const absl::Status refused = limiter_.change("p", "fixed-window 10/h");
  EXPECT_EQ(refused.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_NE(refused.message().find("policy_change_unfit"), std::string_view::npos);
  EXPECT_EQ(policy_text(policy("p").policy()), "10/h");
  // A far higher rate needs finer units than the words were stored in.
  EXPECT_EQ(limiter_.change("p", "10/s").code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(limiter_.change("nope", "10/h").code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(limiter_.change("p", "10/").code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(Change, ProportionalKeepsTheShare) {
  open({{"p", "10/h"}, {"w", "fixed-window 10/h"}, {"c", "sliding-counter 10/h"}});
  for (const char* name : {"p", "w", "c"}) {
    const PolicyHandle p = policy(name);
    ASSERT_TRUE(p.try_acquire("k", 5).admitted);
    ASSERT_TRUE(p.try_acquire("j", 2).admitted);
  }
  ASSERT_TRUE(limiter_.change("p", "100/h", OnChange::kProportional).ok());
  ASSERT_TRUE(limiter_.change("w", "fixed-window 100/h", OnChange::kProportional).ok());
  ASSERT_TRUE(limiter_.change("c", "sliding-counter 100/h", OnChange::kProportional).ok());
  for (const char* name : {"p", "w", "c"}) {
    EXPECT_EQ(policy(name).peek("k").remaining, 50u) << name;
    EXPECT_EQ(policy(name).peek("j").remaining, 80u) << name;
  }
}

TEST_F(Change, RatesAreAddedAndRemoved) {
  open({{"p", "10/h"}});
  const PolicyHandle p = policy("p");
  ASSERT_TRUE(p.try_acquire("k", 4).admitted);
  ASSERT_TRUE(limiter_.change("p", "10/h; 5/d").ok());
  EXPECT_EQ(p.peek("k").remaining, 5u);
  ASSERT_TRUE(p.try_acquire("k", 3).admitted);
  ASSERT_TRUE(limiter_.change("p", "10/h").ok());
  EXPECT_EQ(p.peek("k").remaining, 3u);
  ASSERT_TRUE(limiter_.change("p", "10/h; 5/d").ok());
  EXPECT_EQ(p.peek("k").remaining, 2u);
}

TEST_F(Change, FactorSlowsAndStops) {
  open({{"p", "10/s burst 1"}, {"w", "fixed-window 100/s"}, {"log", "sliding-log 10/s"}});
  const PolicyHandle p = policy("p");
  ASSERT_TRUE(p.try_acquire("k").admitted);
  ASSERT_TRUE(limiter_.set_factor("p", 500000).ok());
  EXPECT_EQ(p.try_acquire("k").retry_after_ns, 200 * kMs);
  advance(200 * kMs - 1);
  EXPECT_FALSE(p.try_acquire("k").admitted);
  advance(1);
  EXPECT_TRUE(p.try_acquire("k").admitted);
  ASSERT_TRUE(limiter_.set_factor("p", 0).ok());
  advance(3600 * kSecond);
  EXPECT_FALSE(p.try_acquire("k").admitted);
  EXPECT_EQ(p.try_acquire("k").retry_after_ns, kNever);
  ASSERT_TRUE(limiter_.set_factor("p", 1000000).ok());
  EXPECT_EQ(p.try_acquire("k").retry_after_ns, 100 * kMs);
  for (const char* name : {"w", "log"}) {
    ASSERT_TRUE(limiter_.set_factor(name, 300000).ok());
    EXPECT_EQ(passes(policy(name), "k"), std::string_view(name) == "w" ? 30u : 3u);
    ASSERT_TRUE(limiter_.change(name, policy_text(policy(name).policy())).ok());  // is kept
    EXPECT_EQ(passes(policy(name), "k"), 0u);
  }
  EXPECT_FALSE(limiter_.set_factor("p", 1000001).ok());
}

TEST_F(Change, FactorZeroStopsEverything) {
  open({{"p", "10/s"},
        {"q", "queue 10/s"},
        {"w", "fixed-window 9/s"},
        {"log", "sliding-log 9/s"},
        {"lease", "concurrency 3"},
        {"two", "10/s; 100/m"}});
  for (const std::string& name : limiter_.policy_names()) {
    ASSERT_TRUE(limiter_.set_factor(name, 0).ok());
    const Decision stopped =
        name == "lease" ? policy(name).acquire_lease("k").decision : policy(name).try_acquire("k");
    EXPECT_FALSE(stopped.admitted) << name;
    EXPECT_EQ(stopped.reason, Reason::kBlocked) << name;
    EXPECT_EQ(stopped.retry_after_ns, kNever) << name;
    ASSERT_TRUE(limiter_.set_factor(name, 1000000).ok());
    if (name == "lease") continue;
    EXPECT_TRUE(policy(name).try_acquire("k").admitted) << name;
  }
}

TEST_F(Change, CostAboveAScaledLimitHasNoWait) {
  open({{"c", "sliding-counter 5/s"}, {"w", "fixed-window 5/s"}, {"log", "sliding-log 5/s"}});
  for (const std::string& name : limiter_.policy_names()) {
    ASSERT_TRUE(limiter_.set_factor(name, 200000).ok());
    const Decision refused = policy(name).try_acquire("k", 2);
    EXPECT_FALSE(refused.admitted);
    EXPECT_EQ(refused.retry_after_ns, kNever) << name;
    EXPECT_TRUE(policy(name).try_acquire("k", 1).admitted) << name;
  }
}

// Goal: no booking starts later than the policy's `ahead`, also while a factor slows the refill,
// and a shorter `ahead` holds at once.
TEST_F(Change, AheadIsATimeUnderAFactorToo) {
  open({{"p", "10/s burst 1"}});
  const PolicyHandle p = policy("p");
  ASSERT_TRUE(limiter_.set_factor("p", 500000).ok());
  int64_t last = 0;
  while (const Ticket ticket = p.reserve("k", 1, kNever)) last = ticket.decision.delay_ns;
  EXPECT_EQ(last, 60 * kSecond);
  ASSERT_TRUE(limiter_.change("p", "10/s burst 1 ahead 5s").ok());
  const Ticket refused = p.reserve("k", 1, kNever);
  EXPECT_EQ(refused.decision.reason, Reason::kTooLate);
  advance(refused.decision.retry_after_ns - 1);
  EXPECT_FALSE(p.reserve("k", 1, kNever));
  advance(1);
  EXPECT_EQ(p.reserve("k", 1, kNever).decision.delay_ns, 5 * kSecond);
}

TEST_F(Change, WarmUpGrowsToTheWholeRate) {
  open({{"p", "100/s burst 1 warm-up 10% over 10s"}});
  const PolicyHandle p = policy("p");
  uint32_t first = 0;
  uint32_t last = 0;
  for (int64_t ms = 0; ms < 20000; ++ms) {
    const bool admitted = p.try_acquire("k").admitted;
    first += admitted && ms < 1000 ? 1 : 0;
    last += admitted && ms >= 19000 ? 1 : 0;
    advance(kMs);
  }
  EXPECT_GE(first, 13u);  // from 10 % to 19 % of 100
  EXPECT_LE(first, 16u);
  EXPECT_GE(last, 99u);
  EXPECT_LE(last, 100u);
}

}  // namespace
}  // namespace brim::test
