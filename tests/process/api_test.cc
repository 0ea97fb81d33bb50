// SPDX-License-Identifier: MIT
// The request calls at API level: costs and policies at their extremes, any key bytes, full
// windows, and the calls besides try_acquire.
#include "src/base/text.h"
#include "tests/process/support.h"

namespace brim::test {
namespace {

class Api : public ::testing::Test {
 protected:
  void open(uint64_t capacity, const std::string& policy, OnFull on_full = OnFull::kDefault,
            uint32_t probe_limit = 0) {
    clock_->store(kEpoch - 3600 * kSecond);  // the policy is older than any caller's time
    Options options = manual(&*clock_, capacity, policy);
    options.on_full = on_full;
    options.probe_limit = probe_limit;
    auto limiter =
        Limiter::create(name_.emplace_back(std::make_unique<SegmentName>())->str(), options);
    ASSERT_TRUE(limiter.ok()) << limiter.status();
    limiter_ = *std::move(limiter);
    policy_ = *limiter_.policy("p");
    raw_ = std::make_unique<Raw>(name_.back()->str(), &*clock_);
    clock_->store(kEpoch);
  }
  int64_t now() const { return clock_->load(); }

  std::vector<std::unique_ptr<SegmentName>> name_;
  Shared<std::atomic<int64_t>> clock_;
  Limiter limiter_;
  PolicyHandle policy_;
  std::unique_ptr<Raw> raw_;
};

// Goal: F35, policies at their extremes admit exactly their burst and say when more will pass.
// Method: each is drained by costs, refused at retry_after - 1 ns and admitted at retry_after.
TEST_F(Api, F35ExtremePolicies) {
  for (const char* text :
       {"1/ns", "1/ns burst 4294967295", "1000000000/s", "1000000000/s burst 1",
        "4294967295/m burst 4294967295", "1/70y burst 1", "1/s burst 1", "3/s burst 7",
        "4294967295/100y burst 1", "1000000007/1000000009ns burst 999999937", "1/us burst 1"}) {
    SCOPED_TRACE(text);
    open(64, text);
    const uint32_t burst = parse_policy(text)->rates[0].burst;
    EXPECT_EQ(policy_.peek("k").remaining, burst);
    if (burst > 1) {
      EXPECT_TRUE(policy_.try_acquire("k", burst - 1));
    }
    EXPECT_EQ(policy_.peek("k").remaining, 1u);
    const Decision last = policy_.try_acquire("k");
    EXPECT_TRUE(last.admitted);
    EXPECT_EQ(last.remaining, 0u);
    const Decision denied = policy_.try_acquire("k");
    EXPECT_EQ(denied.verdict, Verdict::kDenied);
    ASSERT_GT(denied.retry_after_ns, 0);
    ASSERT_LT(denied.retry_after_ns, kNever);
    clock_->fetch_add(denied.retry_after_ns - 1);
    EXPECT_FALSE(policy_.try_acquire("k"));
    clock_->fetch_add(1);
    EXPECT_TRUE(policy_.try_acquire("k"));
    EXPECT_FALSE(policy_.try_acquire("k", burst)) << "just spent";
    clock_->fetch_add(policy_.peek("k").reset_after_ns);
    EXPECT_TRUE(policy_.try_acquire("k", burst));
  }
}

// Goal: F35, policies out of range are refused with a named error.
TEST_F(Api, F35InvalidPolicies) {
  open(64, "1/s");
  for (const char* text :
       {"0", "1/0s", "1/s burst 0", "1/s burst 4294967296", "1/101y", "2/ns", "1000000001/s",
        "1/100y burst 4294967295", "4294967296/s", "-1/s", "1/y burst 4294967295", "", "1",
        "1/s burst -1", "1/18446744073709551616s"}) {
    const auto policy = limiter_.define("bad", text);
    ASSERT_FALSE(policy.ok()) << text;
    EXPECT_EQ(policy.status().message().substr(0, 14), "invalid_policy") << policy.status();
  }
  const auto none = limiter_.define("none", "0/s");  // a policy like any other
  ASSERT_TRUE(none.ok()) << none.status();
  EXPECT_EQ(none->try_acquire("k").retry_after_ns, kNever);
}

// Goal: F36, cost 0 looks, the burst passes, more than the burst never does, and neither of the
//   two that take nothing writes a byte to the slots.
// Method: compares all slots before and after.
TEST_F(Api, F36Costs) {
  open(64, "10/s burst 5");
  for (const char* key : {"absent", "present"}) {
    if (std::string_view(key) == "present") {
      EXPECT_TRUE(policy_.try_acquire(key, 2));
    }
    const auto before = raw_->copy();
    for (const uint32_t cost : {6u, 7u, 0x7fffffffu, 0x80000000u, 0xffffffffu}) {
      const Decision decision = policy_.try_acquire(key, cost);
      EXPECT_EQ(decision.verdict, Verdict::kDenied);
      EXPECT_EQ(decision.reason, Reason::kCostAboveBurst);
      EXPECT_EQ(decision.retry_after_ns, kNever);
    }
    const Decision look = policy_.try_acquire(key, 0);
    EXPECT_EQ(look.verdict, Verdict::kAllowed);
    EXPECT_EQ(look.remaining, std::string_view(key) == "present" ? 3u : 5u);
    EXPECT_EQ(raw_->copy(), before);
  }
  EXPECT_TRUE(policy_.try_acquire("absent", 5));
  EXPECT_FALSE(policy_.try_acquire("absent", 1));
  EXPECT_EQ(raw_->sum(0, shm::PolicyCounter::kAllowed), 2u);
}

// Goal: F40, keys are bytes of any value and length; different keys have different limits.
// Method: each key is drained; no other key notices.
TEST_F(Api, F40AnyKeyBytes) {
  open(1024, "1/h burst 2");
  std::vector<std::string> keys = {"", std::string(65536, 'a'), std::string(65537, 'a'),
                                   std::string(16 << 20, 'a'), std::string((16 << 20) - 1, 'a')};
  for (int c = 0; c < 256; ++c) keys.emplace_back(1, static_cast<char>(c));
  for (size_t n = 2; n < 40; ++n) keys.emplace_back(n, '\0');
  keys.emplace_back("a\0b", 3);
  keys.emplace_back("a\0c", 3);
  keys.emplace_back("\xff\xfe\xc0\x80\xed\xa0\x80");
  keys.emplace_back("\xc3\x28");
  keys.push_back(std::string(16 << 20, 'a'));
  keys.back().back() = 'b';
  for (const std::string& key : keys) {
    uint32_t admitted = 0;
    drain(policy_, key, admitted, 5);
    EXPECT_EQ(admitted, 2u) << printable(key) << " of " << key.size();
  }
  for (const std::string& key : keys) EXPECT_FALSE(policy_.try_acquire(key));
}

// Keys that share a home group, as one finds them who knows the segment's hash key.
std::vector<std::string> keys_of_group(const Raw& raw, uint64_t home, size_t count) {
  std::vector<std::string> keys;
  for (uint64_t i = 0; keys.size() < count; ++i) {
    std::string key = "chosen" + std::to_string(i);
    if (raw.probe(key).home == home) keys.push_back(std::move(key));
  }
  return keys;
}

// Goal: F42, a full window gives the result that on_full asks for, and counts it.
// Method: probe_limit 1, keys chosen by the segment's own hash into one group of four.
TEST_F(Api, F42FullWindowDenies) {
  for (const OnFull mode : {OnFull::kDeny, OnFull::kAllow}) {
    open(1000, "1/h burst 5", mode, 1);
    const std::vector<std::string> keys = keys_of_group(*raw_, 3, 20);
    for (size_t i = 0; i < keys.size(); ++i) {
      const Decision decision = policy_.try_acquire(keys[i]);
      if (i < 4) {
        EXPECT_EQ(decision.verdict, Verdict::kAllowed);
        continue;
      }
      EXPECT_EQ(decision.verdict, Verdict::kUnavailable);
      EXPECT_EQ(decision.reason, Reason::kFull);
      EXPECT_EQ(decision.admitted, mode == OnFull::kAllow);
    }
    EXPECT_EQ(raw_->sum(shm::Event::kFull), 16u);
    EXPECT_EQ(raw_->sum(0, shm::PolicyCounter::kUnavailable), 16u);
    EXPECT_EQ(raw_->sum(0, shm::PolicyCounter::kAllowed), 4u);
    EXPECT_EQ(raw_->sum(shm::Event::kEvictedLive), 0u);
    EXPECT_EQ(policy_.peek(keys[0]).remaining, 4u) << "the keys inside are untouched";
  }
}

TEST_F(Api, F42FullWindowEvictsTheLeastDebt) {
  open(1000, "1/h burst 5", OnFull::kEvictLeast, 1);
  const std::vector<std::string> keys = keys_of_group(*raw_, 3, 20);
  for (uint32_t i = 0; i < 4; ++i) EXPECT_TRUE(policy_.try_acquire(keys[i], 5 - i));  // 5 4 3 2
  for (size_t i = 4; i < keys.size(); ++i) {
    EXPECT_EQ(policy_.try_acquire(keys[i]).verdict, Verdict::kAllowed);
    EXPECT_EQ(raw_->sum(shm::Event::kEvictedLive), i - 3);
    EXPECT_EQ(raw_->sum(0, shm::PolicyCounter::kEvicted), i - 3);
  }
  EXPECT_EQ(policy_.peek(keys[0]).remaining, 0u);
  EXPECT_EQ(policy_.peek(keys[1]).remaining, 1u);
  EXPECT_EQ(policy_.peek(keys[2]).remaining, 2u);
  EXPECT_EQ(policy_.peek(keys[3]).remaining, 5u) << "the least debt was forgotten";
  EXPECT_EQ(raw_->sum(shm::Event::kFull), 0u);
}

// Goal: what brim can not decide is answered by the policy's on_unavailable.
// Method: a window of new tentatives of dead processes: contention by construction.
TEST_F(Api, OnUnavailable) {
  for (const bool deny : {false, true}) {
    open(4, deny ? "1/s on-unavailable deny" : "1/s", OnFull::kEvictLeast, 1);
    for (uint64_t i = 0; i < 4; ++i) {
      raw_->set(i,
                {shm::make_id(0, 1000 + i), make_tentative(99, static_cast<uint32_t>(i), now())});
    }
    const Decision decision = policy_.try_acquire("k");
    EXPECT_EQ(decision.verdict, Verdict::kUnavailable);
    EXPECT_EQ(decision.reason, Reason::kContended);
    EXPECT_EQ(decision.admitted, !deny);
    EXPECT_EQ(decision.allowed(), !deny);
    EXPECT_EQ(raw_->sum(shm::Event::kContended), 1u);
    EXPECT_EQ(raw_->sum(0, shm::PolicyCounter::kUnavailable), 1u);
    EXPECT_EQ(raw_->sum(0, shm::PolicyCounter::kAllowed), 0u);
  }
  EXPECT_EQ(PolicyHandle().try_acquire("k").reason, Reason::kNoPolicy);
  EXPECT_FALSE(PolicyHandle().refund("k"));
  EXPECT_FALSE(PolicyHandle().reset("k"));
}

// Goal: refund gives back up to its cost and never below idle; it says whether there was a debt.
TEST_F(Api, Refund) {
  open(64, "10/s burst 5");
  EXPECT_FALSE(policy_.refund("k"));
  EXPECT_TRUE(policy_.try_acquire("k", 4));
  EXPECT_TRUE(policy_.refund("k"));
  EXPECT_EQ(policy_.peek("k").remaining, 2u);
  EXPECT_TRUE(policy_.refund("k", 2));
  EXPECT_EQ(policy_.peek("k").remaining, 4u);
  EXPECT_TRUE(policy_.refund("k", 0xffffffff));
  EXPECT_EQ(policy_.peek("k").remaining, 5u);
  EXPECT_EQ(policy_.peek("k").reset_after_ns, 0);
  EXPECT_FALSE(policy_.refund("k", 5));
  EXPECT_TRUE(policy_.try_acquire("k", 5));
  EXPECT_FALSE(policy_.try_acquire("k"));
  clock_->fetch_add(450 * kMs);  // half a permit of debt
  EXPECT_TRUE(policy_.refund("k"));
  EXPECT_TRUE(policy_.try_acquire("k", 5));
  EXPECT_FALSE(policy_.try_acquire("k"));
}

// Goal: the counter `refunded` counts permits given back, not permits offered.
TEST_F(Api, RefundedCountsWhatWasGivenBack) {
  open(64, "10/s burst 5");
  EXPECT_TRUE(policy_.try_acquire("k", 2));
  EXPECT_TRUE(policy_.refund("k", 1000));
  EXPECT_EQ(raw_->sum(0, shm::PolicyCounter::kRefunded), 2u);
}

// Goal: reset forgets the debt under one policy only, and says whether there was one.
TEST_F(Api, Reset) {
  open(64, "1/h burst 5");
  const PolicyHandle other = *limiter_.define("q", "1/h burst 3");
  EXPECT_FALSE(policy_.reset("k"));
  EXPECT_TRUE(policy_.try_acquire("k", 5));
  EXPECT_TRUE(other.try_acquire("k", 3));
  EXPECT_TRUE(policy_.reset("k"));
  EXPECT_FALSE(policy_.reset("k"));
  EXPECT_EQ(policy_.peek("k").remaining, 5u);
  EXPECT_EQ(other.peek("k").remaining, 0u);
  EXPECT_TRUE(policy_.try_acquire("k", 5));
  EXPECT_FALSE(policy_.try_acquire("k"));
}

// Goal: peek answers what try_acquire then does, and writes nothing.
TEST_F(Api, PeekForetells) {
  open(256, "10/s burst 5");
  std::mt19937_64 random(1);
  for (int i = 0; i < 20000; ++i) {
    const std::string key = "k" + std::to_string(random() % 50);
    const auto cost = static_cast<uint32_t>(random() % 7);
    const auto before = i % 100 == 0 ? raw_->copy() : std::vector<shm::Slot>();
    const Decision foretold = policy_.peek(key, cost);
    if (i % 100 == 0) {
      EXPECT_EQ(raw_->copy(), before);
    }
    ASSERT_EQ(foretold, policy_.try_acquire(key, cost));
    clock_->fetch_add(static_cast<int64_t>(random() % (5 * kMs)));
  }
}

// Goal: a batch decides exactly as single calls would, repeated keys and any size included.
TEST_F(Api, BatchEqualsSingles) {
  open(4096, "10/s burst 5");
  const PolicyHandle batch = policy_;
  const Limiter first = limiter_;
  open(4096, "10/s burst 5");
  std::mt19937_64 random(2);
  for (int round = 0; round < 500; ++round) {
    std::vector<std::string> text(random() % 70);
    for (std::string& key : text) key = "k" + std::to_string(random() % 200);
    const std::vector<std::string_view> keys(text.begin(), text.end());
    std::vector<Decision> out(keys.size());
    batch.try_acquire_batch(keys, out);
    for (size_t i = 0; i < keys.size(); ++i) ASSERT_EQ(out[i], policy_.try_acquire(keys[i]));
    clock_->fetch_add(static_cast<int64_t>(random() % (20 * kMs)));
  }
}

// Goal: try_acquire_at decides at the caller's time; one behind the clock is only stricter.
TEST_F(Api, AcquireAt) {
  open(64, "10/s burst 5");
  EXPECT_TRUE(policy_.try_acquire_at(now(), "k", 5));
  const Decision denied = policy_.try_acquire_at(now(), "k");
  EXPECT_EQ(denied.retry_after_ns, 100 * kMs);
  EXPECT_FALSE(policy_.try_acquire_at(now() - 10 * kSecond, "k"));
  clock_->fetch_add(100 * kMs);
  EXPECT_FALSE(policy_.try_acquire_at(now() - 1, "k"));
  EXPECT_TRUE(policy_.try_acquire_at(now(), "k"));
  EXPECT_FALSE(policy_.try_acquire_at(now(), "k"));
}

// Goal: a decision agrees with itself (P6): a refusal has a wait, however stale the caller's time.
// Method: a drained key; the clock moves on; a caller with its old time is refused.
TEST_F(Api, StaleTimeGivesACoherentDecision) {
  open(64, "10/s burst 5");
  EXPECT_TRUE(policy_.try_acquire("k", 5));
  const int64_t stale = now() - kSecond;
  clock_->fetch_add(200 * kMs);  // two permits have flowed back
  const Decision decision = policy_.try_acquire_at(stale, "k");
  if (decision.verdict == Verdict::kDenied) {
    EXPECT_GT(decision.retry_after_ns, 0) << "denied, yet no wait is needed";
    EXPECT_EQ(decision.remaining, 0u) << "denied, yet permits remain";
  }
}

// Goal: an old time does not make idle keys look live: no table is full that has an idle slot.
// Method: four keys fill the table, all are idle by now; a caller with its old time brings a new
//   key, under each on_full.
TEST_F(Api, StaleTimeDoesNotSeeAFullTable) {
  for (const OnFull mode : {OnFull::kDeny, OnFull::kEvictLeast}) {
    open(4, "10/s burst 5 on-unavailable deny", mode, 1);
    const int64_t stale = now();
    for (int i = 0; i < 4; ++i) EXPECT_TRUE(policy_.try_acquire("old" + std::to_string(i), 5));
    clock_->fetch_add(10 * kSecond);  // all idle for seconds
    EXPECT_EQ(policy_.try_acquire_at(stale, "new").verdict, Verdict::kAllowed);
    EXPECT_EQ(raw_->sum(shm::Event::kFull), 0u);
    EXPECT_EQ(raw_->sum(shm::Event::kEvictedLive), 0u) << "an idle key was counted as live";
  }
}

// Goal: what an old time costs others: a live key must not make room while an idle one is there.
// Method: an idle key of a fast policy (by the old time its debt is many requests) beside a live
//   key of a slow policy (few requests of debt).
TEST_F(Api, StaleTimeDoesNotEvictALiveKey) {
  open(4, "1000/s burst 50", OnFull::kEvictLeast, 1);
  const PolicyHandle slow_policy = *limiter_.define("slow", "1/h burst 5");
  const int64_t stale = now();
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(policy_.try_acquire("fast" + std::to_string(i), 50));
  EXPECT_TRUE(slow_policy.try_acquire("victim", 5));
  clock_->fetch_add(10 * kSecond);  // the fast keys are long idle, the victim is not
  (void)policy_.try_acquire_at(stale, "new");
  EXPECT_EQ(slow_policy.peek("victim").remaining, 0u) << "a live key lost its state";
}

// Two processes' clocks as far apart as is allowed, and a caller's time as far ahead as is allowed.
class TwoClocks : public ::testing::Test {
 protected:
  void SetUp() override {
    fast_clock_->store(kEpoch - kSecond);
    const auto fast = Limiter::create(
        name_.str(), manual(&*fast_clock_, 4, "1000000/s burst 1000 on-unavailable deny"));
    ASSERT_TRUE(fast.ok()) << fast.status();
    fast_ = *fast->policy("p");
    Options options = manual(&*slow_clock_, 0, "1000000/s burst 1000 on-unavailable deny");
    options.name_bytes = 0;
    const auto slow_one = Limiter::attach(name_.str(), options);
    ASSERT_TRUE(slow_one.ok()) << slow_one.status();
    slow_ = *slow_one->policy("p");
    fast_clock_->store(kEpoch);
    slow_clock_->store(kEpoch - 900000);
    ahead_ = kEpoch + kMs;
  }
  SegmentName name_;
  Shared<std::atomic<int64_t>> fast_clock_;
  Shared<std::atomic<int64_t>> slow_clock_;
  PolicyHandle fast_;
  PolicyHandle slow_;
  int64_t ahead_ = 0;
};

// Goal: healing takes no true word for a corrupt one while all stay within their allowances.
// Method: a burst at 1 ms ahead of the fast clock; a refusal by the slow one; the burst again.
TEST_F(TwoClocks, HealingSparesATrueWord) {
  fast_clock_->store(kEpoch - kSecond);
  EXPECT_TRUE(fast_.try_acquire("k"));  // an insertion would use the clock, not the caller's time
  fast_clock_->store(kEpoch);
  EXPECT_TRUE(fast_.try_acquire_at(ahead_, "k", 1000));
  EXPECT_FALSE(slow_.try_acquire("k"));
  EXPECT_EQ(Raw(name_.str(), &*fast_clock_).sum(shm::Event::kHealed), 0u);
  EXPECT_FALSE(fast_.try_acquire_at(ahead_, "k")) << "1001 permits at one instant, burst 1000";
}

// Goal: a reclaim forgets no debt that another process still sees.
// Method: a key with 0.9 ms of debt by the slow clock; the fast one, 1 ms ahead, fills the table.
TEST_F(TwoClocks, ReclaimForgetsNoDebt) {
  EXPECT_TRUE(slow_.try_acquire("k", 900));
  const Raw raw(name_.str(), &*fast_clock_);
  for (int i = 0; i < 4; ++i) {
    (void)fast_.try_acquire_at(ahead_, "other" + std::to_string(i), 1000);
  }
  if (raw.sum(shm::Event::kEvictedLive) != 0) return;  // seen as live: forgotten, but counted
  EXPECT_LE(slow_.peek("k").remaining, 100u) << "reclaimed as idle, with 900 permits of debt";
}

// Goal: extreme caller times are harmless (UBSan), and never admit beyond the burst afterwards.
TEST_F(Api, AcquireAtExtremeTimes) {
  open(4, "10/s burst 5", OnFull::kDefault, 1);
  for (const int64_t when : {INT64_MIN, INT64_MIN + 1, int64_t{-1}, int64_t{0}}) {
    for (int k = 0; k < 8; ++k) (void)policy_.try_acquire_at(when, "k" + std::to_string(k));
  }
  for (int k = 0; k < 8; ++k) {
    const std::string key = "n" + std::to_string(k);
    uint32_t admitted = 0;
    drain(policy_, key, admitted, 20);
    EXPECT_LE(admitted, 5u);
  }
}

// Goal: F23 at this level: a caller whose time is 10 s old inserts its key at a fresh time, so a
//   reclaim in between can not grant a second burst.
// Method: drain, let it go idle, reclaim by others, insert with the old time, drain again.
TEST_F(Api, F23StaleInsertionUsesAFreshClock) {
  open(4, "10/s burst 5", OnFull::kDefault, 1);
  const int64_t stale = now();
  clock_->fetch_add(10 * kSecond);
  EXPECT_TRUE(policy_.try_acquire("k", 5));
  clock_->fetch_add(2 * kSecond);  // idle
  for (int i = 0; i < 4; ++i) EXPECT_TRUE(policy_.try_acquire("other" + std::to_string(i), 5));
  ASSERT_EQ(raw_->find(0, "k"), raw_->slots()) << "reclaimed";
  clock_->fetch_add(2 * kSecond);
  uint32_t admitted = policy_.try_acquire_at(stale, "k").admitted ? 1 : 0;
  EXPECT_EQ(admitted, 1u);
  EXPECT_EQ(raw_->get(raw_->find(0, "k")).word,
            raw_->reading(0, now()) + raw_->quota(0).capacity / 5);
  drain(policy_, "k", admitted, 20);
  EXPECT_EQ(admitted, 5u);
}

}  // namespace
}  // namespace brim::test
