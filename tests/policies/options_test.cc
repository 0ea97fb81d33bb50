// SPDX-License-Identifier: MIT
// What policies say beside their rates: classes, bans, shadow, overrides; and the calls that book,
// wait, settle and lease.
#include <thread>

#include "brim/address.h"
#include "tests/policies/support.h"

namespace brim::test {
namespace {

class PolicyOptionsTest : public Policies {};

TEST_F(PolicyOptionsTest, LowClassesAreRefusedFirst) {
  open({{"p", "10/m classes 30 60 80"}});
  const PolicyHandle p = policy("p");
  const auto drain = [&](Priority priority) {
    uint32_t n = 0;
    while (p.try_acquire("k", {1, priority}).admitted) ++n;
    return n;
  };
  EXPECT_EQ(drain(Priority::kLow), 3u);
  EXPECT_EQ(drain(Priority::kNormal), 3u);
  EXPECT_EQ(drain(Priority::kHigh), 2u);
  EXPECT_EQ(drain(Priority::kCritical), 2u);
  EXPECT_EQ(p.try_acquire("k", {4, Priority::kLow}).reason, Reason::kCostAboveBurst);
  const Decision low = p.try_acquire("k", {1, Priority::kLow});
  advance(low.retry_after_ns - 1);
  EXPECT_FALSE(p.try_acquire("k", {1, Priority::kLow}).admitted);
  advance(1);
  EXPECT_TRUE(p.try_acquire("k", {1, Priority::kLow}).admitted);
}

TEST_F(PolicyOptionsTest, BansBarAndGrow) {
  open({{"p", "1/h ban 3 in 10s for 1m times 2 max 1h"}});
  const PolicyHandle p = policy("p");
  EXPECT_TRUE(p.try_acquire("k").admitted);
  for (int64_t length : {60, 120, 240}) {
    for (int i = 0; i < 3; ++i) EXPECT_EQ(p.try_acquire("k").reason, Reason::kNone);
    const Raw raw(name_->str(), &*clock_);
    const std::vector<shm::Slot> before = raw.copy();
    const Decision barred = p.try_acquire("k");
    EXPECT_EQ(barred.reason, Reason::kBarred);
    EXPECT_EQ(raw.copy(), before);  // while it is barred, calls only read
    EXPECT_NEAR(static_cast<double>(barred.retry_after_ns), static_cast<double>(length * kSecond),
                1e6);
    EXPECT_EQ(p.peek("k").reason, Reason::kBarred);
    advance(barred.retry_after_ns);
  }
  EXPECT_EQ(p.try_acquire("k").reason, Reason::kNone);
  EXPECT_EQ(counter("p", "barred"), 3u);
  EXPECT_TRUE(p.reset("k"));
  EXPECT_TRUE(p.try_acquire("k").admitted);
  EXPECT_TRUE(p.try_acquire("other").admitted);
}

TEST_F(PolicyOptionsTest, RefusalsFarApartBarNobody) {
  open({{"p", "1/h ban 3 in 10s for 1m"}});
  const PolicyHandle p = policy("p");
  EXPECT_TRUE(p.try_acquire("k").admitted);
  for (int i = 0; i < 20; ++i) {
    EXPECT_EQ(p.try_acquire("k").reason, Reason::kNone);
    advance(6 * kSecond);
  }
}

TEST_F(PolicyOptionsTest, ShadowAdmitsAndCounts) {
  open({{"p", "2/m shadow"}, {"half", "2/m enforce 50%"}});
  const PolicyHandle p = policy("p");
  EXPECT_EQ(passes(p, "k", 10), 10u);
  const Decision decision = p.try_acquire("k");
  EXPECT_EQ(decision.verdict, Verdict::kDenied);
  EXPECT_EQ(decision.reason, Reason::kShadow);
  EXPECT_TRUE(decision.admitted);
  EXPECT_GT(decision.retry_after_ns, 0);
  EXPECT_EQ(counter("p", "allowed"), 2u);
  EXPECT_EQ(counter("p", "shadow_denied"), 9u);
  EXPECT_EQ(counter("p", "denied"), 0u);
  const PolicyHandle half = policy("half");
  uint32_t enforced = 0;
  for (int i = 0; i < 400; ++i) {
    const std::string key = "key" + std::to_string(i);
    const uint32_t admitted = passes(half, key, 10);
    EXPECT_TRUE(admitted == 2 || admitted == 10) << admitted;
    enforced += admitted == 2 ? 1 : 0;
  }
  EXPECT_GT(enforced, 140u);
  EXPECT_LT(enforced, 260u);
}

TEST_F(PolicyOptionsTest, OverridesByKeyAndNetwork) {
  open({{"p", "2/m"}, {"vip", "5/m"}, {"other", "2/m"}});
  const PolicyHandle p = policy("p");
  ASSERT_TRUE(limiter_.set_override("p", "alice", "vip").ok());
  ASSERT_TRUE(limiter_.set_override("p", "health", "unlimited").ok());
  ASSERT_TRUE(limiter_.set_override("*", "mallory", "deny").ok());
  ASSERT_TRUE(limiter_.set_network_override("p", "10.0.0.0/8", "vip").ok());
  ASSERT_TRUE(limiter_.set_network_override("p", "10.9.0.0/16", "deny").ok());
  ASSERT_TRUE(limiter_.set_network_override("p", "2001:db8::/32", "unlimited").ok());
  EXPECT_EQ(passes(p, "bob"), 2u);
  EXPECT_EQ(passes(p, "alice"), 5u);
  EXPECT_EQ(passes(policy("other"), "alice"), 2u);
  EXPECT_EQ(passes(p, "health", 50), 50u);
  EXPECT_EQ(p.try_acquire("mallory").reason, Reason::kBlocked);
  EXPECT_EQ(policy("other").try_acquire("mallory").reason, Reason::kBlocked);
  EXPECT_EQ(passes(p, "10.1.2.3"), 5u);
  EXPECT_EQ(passes(p, "10.9.2.3"), 0u);
  EXPECT_EQ(passes(p, "11.1.2.3"), 2u);
  EXPECT_EQ(passes(p, address_key("2001:db8:1::7").view(), 50), 50u);
  EXPECT_EQ(passes(p, address_key("2001:db9:1::7").view()), 2u);
  // A change reaches every process at once; here: the next call.
  ASSERT_TRUE(limiter_.clear_override("p", "health").ok());
  EXPECT_EQ(passes(p, "health", 50), 2u);
  ASSERT_TRUE(limiter_.set_override("*", "eve", "deny").ok());
  ASSERT_TRUE(limiter_.define("later", "5/m").ok());
  EXPECT_EQ(policy("later").try_acquire("eve").reason, Reason::kBlocked);
  EXPECT_EQ(limiter_.clear_override("p", "health").code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(limiter_.set_override("p", "x", "nope").code(), absl::StatusCode::kNotFound);
  EXPECT_FALSE(limiter_.set_network_override("p", "10.0.0.1/8", "deny").ok());
}

TEST_F(PolicyOptionsTest, ReserveBooksInOrderAndCancelGivesBack) {
  open({{"p", "10/s burst 2"}});
  const PolicyHandle p = policy("p");
  std::vector<Ticket> tickets;
  for (int64_t i = 0; i < 6; ++i) {
    tickets.push_back(p.reserve("k", 1, 10 * kSecond));
    ASSERT_TRUE(tickets.back());
    EXPECT_EQ(tickets.back().decision.delay_ns, std::max<int64_t>(i - 1, 0) * 100 * kMs);
  }
  const Ticket late = p.reserve("k", 1, 499 * kMs);
  EXPECT_FALSE(late);
  EXPECT_EQ(late.decision.reason, Reason::kTooLate);
  EXPECT_TRUE(p.reserve("k", 1, 500 * kMs));
  EXPECT_FALSE(p.try_acquire("k").admitted);
  EXPECT_TRUE(p.cancel("k", tickets[5]));
  EXPECT_EQ(p.reserve("k", 1, 10 * kSecond).decision.delay_ns, 500 * kMs);
  EXPECT_EQ(p.reserve("k", 3, 10 * kSecond).decision.reason, Reason::kCostAboveBurst);
  EXPECT_EQ(p.reserve("k", 1, int64_t{1} << 62).decision.admitted, true);
  uint32_t booked = 0;
  while (p.reserve("k", 1, int64_t{1} << 62)) ++booked;
  EXPECT_LT(booked, 610u);  // 60 s ahead is as far as a booking goes
  EXPECT_GT(booked, 580u);
  advance(100 * kSecond);
  EXPECT_FALSE(p.cancel("k", tickets[4]));
}

TEST_F(PolicyOptionsTest, ReserveIsForBucketsOnly) {
  open({{"w", "fixed-window 5/s"}, {"two", "5/s; 9/m"}});
  EXPECT_EQ(policy("w").reserve("k", 1, 0).decision.reason, Reason::kUnsupported);
  EXPECT_EQ(policy("two").reserve("k", 1, 0).decision.reason, Reason::kUnsupported);
}

TEST_F(PolicyOptionsTest, BookingsObeyBansAndShadow) {
  open({{"b", "2/s ban 2 in 10s for 1m"}, {"s", "2/m shadow"}});
  const PolicyHandle b = policy("b");
  EXPECT_EQ(passes(b, "k"), 2u);
  EXPECT_EQ(b.reserve("k", 1, 0).decision.reason, Reason::kTooLate);  // the second refusal
  EXPECT_EQ(b.reserve("k", 1, 10 * kSecond).decision.reason, Reason::kBarred);
  EXPECT_EQ(b.acquire("k", kSecond).reason, Reason::kBarred);
  const PolicyHandle s = policy("s");
  EXPECT_EQ(passes(s, "k", 5), 5u);
  const Decision booked = s.acquire("k", 1);
  EXPECT_TRUE(booked.admitted);
  EXPECT_EQ(booked.reason, Reason::kShadow);
}

TEST_F(PolicyOptionsTest, ShadowNamesTheRateThatRefuses) {
  open({{"p", "100/s; 2/m shadow"}});
  passes(policy("p"), "k", 5);
  EXPECT_EQ(policy("p").try_acquire("k").part, 1);
  EXPECT_EQ(policy("p").try_acquire("k").reason, Reason::kShadow);
}

// Goal: an ask that is only watched neither decides for the others nor is charged.
TEST_F(PolicyOptionsTest, ShadowAsksDecideNothing) {
  open({{"watched", "10/s shadow"}, {"shut", "10/s shadow"}, {"real", "2/m"}});
  ASSERT_TRUE(limiter_.set_factor("shut", 0).ok());
  const PolicyHandle watched = policy("watched");
  const PolicyHandle shut = policy("shut");
  const PolicyHandle real = policy("real");
  const PolicyHandle::Ask asks[] = {{&shut, "k"}, {&watched, "k"}, {&real, "k"}};
  EXPECT_TRUE(PolicyHandle::try_acquire_all(asks).admitted);
  EXPECT_TRUE(PolicyHandle::try_acquire_all(asks).admitted);
  const Decision third = PolicyHandle::try_acquire_all(asks);
  EXPECT_FALSE(third.admitted);
  EXPECT_EQ(third.part, 2);
  EXPECT_EQ(real.peek("k").remaining, 0u);
  const Decision alone = shut.try_acquire("k");
  EXPECT_TRUE(alone.admitted);
  EXPECT_EQ(alone.reason, Reason::kShadow);
}

TEST_F(PolicyOptionsTest, RefusalThatBansTellsTheBansEnd) {
  open({{"p", "1/s ban 2 in 1m for 1h"}, {"vip", "1/s ban 2 in 1m for 1h"}});
  const PolicyHandle p = policy("p");
  ASSERT_TRUE(limiter_.set_override("p", "alice", "vip").ok());
  for (const char* key : {"k", "alice"}) {
    EXPECT_TRUE(p.try_acquire(key).admitted);
    EXPECT_LT(p.try_acquire(key).retry_after_ns, 2 * kSecond);
    EXPECT_GE(p.try_acquire(key).retry_after_ns, 3600 * kSecond);
    EXPECT_TRUE(p.reset(key));
    EXPECT_TRUE(p.try_acquire(key).admitted) << key;
  }
}

TEST_F(PolicyOptionsTest, CommitChargesALogAsFarAsItGoes) {
  open({{"p", "sliding-log 5/m"}});
  const PolicyHandle p = policy("p");
  ASSERT_TRUE(p.try_acquire("k", 1).admitted);
  EXPECT_TRUE(p.commit("k", 1, 3));
  EXPECT_EQ(p.peek("k").remaining, 2u);
  EXPECT_FALSE(p.commit("k", 3, 9));
  EXPECT_EQ(p.peek("k").remaining, 0u);
}

TEST_F(PolicyOptionsTest, CommitSettles) {
  open({{"p", "10/h ahead 30m"}, {"w", "fixed-window 10/h"}, {"c", "sliding-counter 10/h"}});
  for (const char* name : {"p", "w", "c"}) {
    const PolicyHandle p = policy(name);
    ASSERT_TRUE(p.try_acquire("k", 5).admitted);
    EXPECT_TRUE(p.commit("k", 5, 2));
    EXPECT_EQ(p.peek("k").remaining, 8u);
    ASSERT_TRUE(p.try_acquire("k", 5).admitted);
    EXPECT_TRUE(p.commit("k", 5, 9));  // one more than there is: later calls pay
    EXPECT_EQ(p.peek("k").remaining, 0u);
    EXPECT_TRUE(p.commit("k", 1, 1));
  }
}

// Real clock: sleeping is the point.
TEST_F(PolicyOptionsTest, AcquireWaitsOnceAndRefusesAtOnce) {
  name_ = std::make_unique<SegmentName>();
  options_.policies = {
      {"p", "20/s burst 1"}, {"w", "sliding-log 1/50ms"}, {"q", "queue 20/s burst 3"}};
  const auto limiter = Limiter::create(name_->str(), options_);
  ASSERT_TRUE(limiter.ok()) << limiter.status();
  for (const char* name : {"p", "w", "q"}) {
    const PolicyHandle p = *limiter->policy(name);
    const int64_t start = monotonic_now_ns();
    EXPECT_TRUE(p.acquire("k", kSecond).admitted);
    EXPECT_TRUE(p.acquire("k", kSecond).admitted);
    EXPECT_TRUE(p.acquire("k", kSecond).admitted);
    EXPECT_GE(monotonic_now_ns() - start, 98 * kMs) << name;  // two waits of 50 ms
  }
  const PolicyHandle p = *limiter->policy("p");
  EXPECT_TRUE(p.acquire("k", kSecond).admitted);
  const Decision refused = p.acquire("k", 10 * kMs);
  EXPECT_FALSE(refused.admitted);
  EXPECT_GT(refused.retry_after_ns, 0);
  EXPECT_FALSE(p.acquire("k", 0).admitted);
  EXPECT_EQ(p.acquire("k", kSecond, 2).retry_after_ns, kNever);
}

TEST_F(PolicyOptionsTest, LeasesComeAndGo) {
  open({{"c", "concurrency 3 ttl 10s"}});
  const PolicyHandle c = policy("c");
  Lease a = c.acquire_lease("k");
  const Lease b = c.acquire_lease("k", 4 * kSecond);
  Lease d = c.acquire_lease("k");
  ASSERT_TRUE(a && b && d);
  const Lease refused = c.acquire_lease("k");
  EXPECT_FALSE(refused);
  EXPECT_EQ(refused.decision.retry_after_ns, 4 * kSecond);
  EXPECT_TRUE(c.acquire_lease("other"));
  EXPECT_TRUE(c.release(a));
  EXPECT_FALSE(c.release(a));
  a = c.acquire_lease("k");
  EXPECT_TRUE(a);
  advance(5 * kSecond);
  EXPECT_FALSE(c.release(b));  // had expired
  EXPECT_TRUE(c.renew(d));
  EXPECT_EQ(d.expires_ns, now() + 10 * kSecond);
  advance(6 * kSecond);
  EXPECT_FALSE(c.renew(a));  // lost
  EXPECT_TRUE(c.renew(d));
  EXPECT_EQ(c.acquire_lease("k").decision.remaining, 1u);
  EXPECT_EQ(c.try_acquire("k").reason, Reason::kUnsupported);
  EXPECT_FALSE(c.release(Lease{}));
  open({{"p", "3/s"}});
  EXPECT_EQ(policy("p").acquire_lease("k").decision.reason, Reason::kUnsupported);
}

TEST_F(PolicyOptionsTest, ReadOnlyProcessesPeek) {
  open({{"p", "5/s; 100/h"},
        {"log", "sliding-log 5/s ban 3 in 1s for 1s"},
        {"shut", "deny"},
        {"free", "unlimited"},
        {"vip", "9/s"},
        {"b", "1/h ban 1 in 1m for 1m"}});
  ASSERT_TRUE(limiter_.set_override("vip", "mallory", "deny").ok());
  ASSERT_TRUE(limiter_.set_override("vip", "alice", "unlimited").ok());
  EXPECT_EQ(passes(policy("b"), "k"), 1u);  // and the refusal bans it
  EXPECT_TRUE(policy("p").try_acquire("k", 2).admitted);
  EXPECT_TRUE(policy("log").try_acquire("k", 2).admitted);
  const auto reader = Limiter::attach_read_only(name_->str(), options_);
  ASSERT_TRUE(reader.ok());
  for (const char* name : {"p", "log"}) {
    const PolicyHandle p = *reader->policy(name);
    EXPECT_EQ(p.peek("k").remaining, 3u) << name;
    EXPECT_EQ(p.try_acquire("k").reason, Reason::kReadOnly);
    EXPECT_FALSE(p.refund("k"));
    EXPECT_FALSE(p.reset("k"));
    EXPECT_FALSE(p.acquire_lease("k"));
  }
  for (const char* name : {"shut", "free", "vip", "b"}) {
    const PolicyHandle p = *reader->policy(name);
    for (const char* key : {"k", "mallory", "alice"}) {
      (void)p.try_acquire(key);
      (void)p.try_acquire_up_to(key, 1, 3);
      (void)p.peek(key, 1);
      (void)p.reserve(key, 1, 1);
      (void)p.acquire_lease(key);
      const PolicyHandle::Ask asks[] = {{&p, key}, {&p, "other"}};
      (void)PolicyHandle::try_acquire_all(asks);
      EXPECT_FALSE(p.commit(key, 1, 2));
    }
  }
  EXPECT_EQ(reader->policy("vip")->peek("mallory").reason, Reason::kBlocked);
  EXPECT_FALSE(reader->change("p", "9/s").ok());
  EXPECT_FALSE(reader->set_factor("p", 1).ok());
}

}  // namespace
}  // namespace brim::test
