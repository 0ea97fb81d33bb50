// SPDX-License-Identifier: MIT
// Policies of several rates, several policies in one call, and every algorithm through the public
// interface: all or nothing, the binding one named, waits that are true.
#include "tests/policies/support.h"

namespace brim::test {
namespace {

class Rates : public Policies {};

// Goal: semantics 3.9: the rate that refuses is named, its wait is true, and nothing is charged.
TEST_F(Rates, SeveralRatesAllOrNothing) {
  open({{"p", "5/s; 8/10s"}});
  const PolicyHandle p = policy("p");
  EXPECT_EQ(passes(p, "k"), 5u);
  const Decision first = p.try_acquire("k");
  EXPECT_EQ(first.verdict, Verdict::kDenied);
  EXPECT_EQ(first.part, 0);
  EXPECT_EQ(first.retry_after_ns, 200 * kMs);
  advance(first.retry_after_ns - 1);
  EXPECT_FALSE(p.try_acquire("k").admitted);
  advance(1);
  EXPECT_EQ(passes(p, "k"), 1u);
  advance(kSecond);
  EXPECT_EQ(passes(p, "k"), 2u);  // 8 in all, less than one flowed back
  const Decision second = p.try_acquire("k");
  EXPECT_EQ(second.part, 1);
  EXPECT_GT(second.retry_after_ns, 0);
  const uint32_t left_of_first = p.peek("k").remaining;
  EXPECT_EQ(left_of_first, 0u);
  advance(second.retry_after_ns - 1);
  EXPECT_FALSE(p.try_acquire("k").admitted);
  advance(1);
  EXPECT_TRUE(p.try_acquire("k").admitted);
}

TEST_F(Rates, RefusedCallChargesNoRate) {
  open({{"p", "100/h; 3/h"}, {"wide", "100/h"}});
  const PolicyHandle p = policy("p");
  EXPECT_EQ(passes(p, "k"), 3u);
  for (int i = 0; i < 500; ++i) EXPECT_FALSE(p.try_acquire("k").admitted);
  ASSERT_TRUE(limiter_.change("p", "100/h; 90/h").ok());
  EXPECT_EQ(passes(p, "k"), 87u);
}

TEST_F(Rates, RemainingIsTheLeastAndCostAboveOneNeverPasses) {
  open({{"p", "10/s; 4/m"}});
  const PolicyHandle p = policy("p");
  EXPECT_EQ(p.peek("k").remaining, 4u);
  const Decision never = p.try_acquire("k", 5);
  EXPECT_EQ(never.reason, Reason::kCostAboveBurst);
  EXPECT_EQ(never.retry_after_ns, kNever);
  EXPECT_EQ(never.part, 1);
  EXPECT_TRUE(p.try_acquire("k", 4).admitted);
}

TEST_F(Rates, MixedAlgorithms) {
  open({{"p", "gcra 2/s; fixed-window 5/m; sliding-log 4/30s; sliding-counter 100/h"}});
  const PolicyHandle p = policy("p");
  uint32_t admitted = 0;
  for (int i = 0; i < 10; ++i) {
    admitted += passes(p, "k");
    advance(kSecond);
  }
  EXPECT_EQ(admitted, 4u);
  EXPECT_EQ(p.try_acquire("k").part, 2);
}

// Goal: several keys in one call: all are charged or none.
TEST_F(Rates, SeveralKeysAllOrNothing) {
  open({{"ip", "5/m"}, {"user", "3/m"}, {"all", "100/m"}});
  const PolicyHandle ip = policy("ip");
  const PolicyHandle user = policy("user");
  const PolicyHandle all = policy("all");
  const PolicyHandle::Ask asks[] = {{&ip, "192.0.2.1"}, {&user, "alice"}, {&all, "", 2}};
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(PolicyHandle::try_acquire_all(asks).admitted);
  const Decision refused = PolicyHandle::try_acquire_all(asks);
  EXPECT_EQ(refused.verdict, Verdict::kDenied);
  EXPECT_EQ(refused.part, 1);  // alice
  EXPECT_EQ(ip.peek("192.0.2.1").remaining, 2u);
  EXPECT_EQ(all.peek("").remaining, 94u);
  EXPECT_EQ(counter("ip", "allowed"), 3u);
  EXPECT_EQ(counter("user", "denied"), 1u);
}

TEST_F(Rates, SameKeyTwiceInOneCall) {
  open({{"p", "3/m"}});
  const PolicyHandle p = policy("p");
  const PolicyHandle::Ask asks[] = {{&p, "k", 2}, {&p, "k", 2}};
  EXPECT_FALSE(PolicyHandle::try_acquire_all(asks).admitted);  // 4 of 3
  EXPECT_EQ(p.peek("k").remaining, 3u);
}

// Goal: nothing refuses but the policy. The first part of a new key is inserted by a clock read of
// its own, later than the call's; the second is not judged by the earlier one.
TEST(RatesByTheClock, SameNewKeyTwiceInOneCall) {
  const SegmentName name;
  const absl::StatusOr<Limiter> limiter =
      Limiter::create(name.str(), {.capacity = 4096, .policies = {{"p", "3/d"}}});
  ASSERT_TRUE(limiter.ok()) << limiter.status();
  const PolicyHandle p = *limiter->policy("p");
  for (int i = 0; i < 200; ++i) {
    const std::string key = std::to_string(i);
    const PolicyHandle::Ask asks[] = {{&p, key, 1}, {&p, key, 2}};
    const Decision decision = PolicyHandle::try_acquire_all(asks);
    ASSERT_TRUE(decision.admitted) << i << ": retry after " << decision.retry_after_ns << " ns";
    ASSERT_EQ(decision.remaining, 0u);
  }
  for (int i = 0; i < 200; ++i) {
    const std::string text = "batch " + std::to_string(i);
    const std::string_view keys[] = {text, text, text, text};
    Decision decisions[4];
    p.try_acquire_batch(keys, decisions);
    ASSERT_TRUE(decisions[1].admitted && decisions[2].admitted) << i;
    ASSERT_FALSE(decisions[3].admitted) << i;
  }
}

TEST_F(Rates, TooManyAsksAndForeignPoliciesAreRefused) {
  open({{"p", "3/m"}});
  const PolicyHandle p = policy("p");
  const std::vector<PolicyHandle::Ask> nine(9, PolicyHandle::Ask{&p, "k"});
  EXPECT_EQ(PolicyHandle::try_acquire_all(nine).reason, Reason::kUnsupported);
  EXPECT_EQ(PolicyHandle::try_acquire_all({}).reason, Reason::kUnsupported);
  const PolicyHandle empty;
  const PolicyHandle::Ask wrong[] = {{&p, "k"}, {&empty, "k"}};
  EXPECT_EQ(PolicyHandle::try_acquire_all(wrong).reason, Reason::kUnsupported);
  EXPECT_EQ(p.peek("k").remaining, 3u);
}

// Each algorithm: the limit from idle, a true wait, and all of it again after reset_after.
class OneRate : public Policies, public ::testing::WithParamInterface<const char*> {};

TEST_P(OneRate, DrainsWaitsAndRecovers) {
  open({{"p", GetParam()}});
  const PolicyHandle p = policy("p");
  for (int round = 0; round < 5; ++round) {
    const uint32_t most = p.peek("k").remaining;
    ASSERT_GT(most, 0u);
    EXPECT_EQ(passes(p, "k"), most);
    const Decision refused = p.try_acquire("k");
    ASSERT_EQ(refused.verdict, Verdict::kDenied);
    ASSERT_GT(refused.retry_after_ns, 0);
    advance(refused.retry_after_ns - 1);
    EXPECT_FALSE(p.try_acquire("k").admitted);
    advance(1);
    EXPECT_TRUE(p.try_acquire("k").admitted);
    const int64_t reset = p.peek("k").reset_after_ns;
    ASSERT_GT(reset, 0);
    advance(reset);
    EXPECT_EQ(p.peek("k").reset_after_ns, 0);
    EXPECT_EQ(p.peek("k").remaining, most);
  }
}

TEST_P(OneRate, RefundAndResetGiveBack) {
  open({{"p", GetParam()}});
  const PolicyHandle p = policy("p");
  const uint32_t most = passes(p, "k");
  ASSERT_GE(most, 3u);
  EXPECT_TRUE(p.refund("k", 2));
  EXPECT_EQ(passes(p, "k"), 2u);
  EXPECT_TRUE(p.reset("k"));
  EXPECT_FALSE(p.reset("k"));
  EXPECT_EQ(passes(p, "k"), most);
  EXPECT_FALSE(p.refund("stranger"));
}

TEST_P(OneRate, UpToTakesWhatIsLeft) {
  open({{"p", GetParam()}});
  const PolicyHandle p = policy("p");
  const uint32_t most = p.peek("k").remaining;
  ASSERT_TRUE(p.try_acquire("k").admitted);
  const Granted granted = p.try_acquire_up_to("k", 1, 100);
  EXPECT_TRUE(granted.decision.admitted);
  if (std::string_view(GetParam()).find("forward") == std::string_view::npos &&
      std::string_view(GetParam()).find("queue") == std::string_view::npos) {
    EXPECT_EQ(granted.cost, most - 1);
  }
  const Granted none = p.try_acquire_up_to("k", 1, 100);
  EXPECT_FALSE(none.decision.admitted);
  EXPECT_EQ(none.cost, 0u);
}

INSTANTIATE_TEST_SUITE_P(Algorithms, OneRate,
                         ::testing::Values("5/s", "token-bucket 5/s burst 3 debt 2",
                                           "gcra 5/s forward", "queue 5/s burst 4",
                                           "queue 5/s burst 4 no-delay", "fixed-window 5/s",
                                           "fixed-window 5/s first-hit", "calendar-window 5/month",
                                           "calendar-window 7/week", "sliding-log 5/s",
                                           "sliding-log 5/s inclusive", "sliding-counter 5/s",
                                           "sliding-counter 5/s floor", "5/s; 1000/s",
                                           "sliding-log 5/s; fixed-window 50/s",
                                           "5/s classes 100 100 100", "5/s ban 100 in 1s for 1s"));

TEST_F(Rates, UnlimitedAndDeny) {
  open({{"free", "unlimited"}, {"shut", "deny"}, {"zero", "0/s"}});
  EXPECT_EQ(passes(policy("free"), "k"), 1000u);
  EXPECT_EQ(policy("free").try_acquire("k").reason, Reason::kExempt);
  for (const char* name : {"shut", "zero"}) {
    const Decision decision = policy(name).try_acquire("k");
    EXPECT_EQ(decision.verdict, Verdict::kDenied);
    EXPECT_EQ(decision.reason, Reason::kBlocked);
    EXPECT_EQ(decision.retry_after_ns, kNever);
    EXPECT_FALSE(decision.admitted);
  }
  EXPECT_EQ(policy("free").policy().rates.at(0).algorithm, Algorithm::kUnlimited);
  uint64_t used = 0;
  Inspector::attach(name_->str())->for_each_key([&](const KeyInfo&) { return ++used, true; });
  EXPECT_EQ(used, 0u);
}

// Goal: nginx's rule: 2/s, Q = 2, four at once: 0, 0.5 s, 1 s, refused.
TEST_F(Rates, QueueTellsWhenToStart) {
  open({{"q", "queue 2/s burst 2"}, {"d", "queue 2/s burst 2 delay-after 1"}});
  const PolicyHandle q = policy("q");
  for (int64_t i = 0; i < 3; ++i) {
    const Decision decision = q.try_acquire("k");
    EXPECT_TRUE(decision.admitted);
    EXPECT_EQ(decision.delay_ns, i * 500 * kMs);
  }
  const Decision refused = q.try_acquire("k");
  EXPECT_FALSE(refused.admitted);
  EXPECT_EQ(refused.retry_after_ns, 500 * kMs);
  const PolicyHandle d = policy("d");
  for (const int64_t delay : {0, 0, 500}) EXPECT_EQ(d.try_acquire("k").delay_ns, delay * kMs);
}

TEST_F(Rates, LogNeedsCells) {
  open({{"p", "5/s"}});
  const auto refused = limiter_.define("log", "sliding-log 5/s");
  ASSERT_FALSE(refused.ok());
  EXPECT_NE(refused.status().message().find("too_few_cells"), std::string_view::npos);
  EXPECT_FALSE(limiter_.change("p", "sliding-log 5/s").ok());
}

}  // namespace
}  // namespace brim::test
