// SPDX-License-Identifier: MIT
// Goal: the states of one segment, given to another, make its keys exactly as limited, whatever the
// other's size, hash and policies.
// Method: manual clocks; the same question to both segments after the same time.
#include "brim/state.h"

#include <gtest/gtest.h>

#include <map>

#include "tests/policies/support.h"

namespace brim::test {
namespace {

constexpr int64_t kSecond = 1000000000;

class StateTest : public Policies {
 protected:
  struct Taken {
    SegmentState segment;
    std::vector<PolicyState> policies;
    std::vector<KeyState> keys;
    std::vector<OverrideState> overrides;
  };

  Taken take() {
    auto reader = StateReader::attach(name_->str(), options_);
    EXPECT_TRUE(reader.ok()) << reader.status();
    Taken taken{reader->segment(), reader->policies(), {}, reader->overrides()};
    reader->for_each_change(
        [&](const KeyState& key) {
          taken.keys.push_back(key);
          return true;
        },
        {});
    return taken;
  }

  // Another segment on the same clock, with all states; counts what became of them.
  std::map<PutResult, int> give(const Taken& taken, Options options, Limiter& other) {
    std::map<PutResult, int> results;
    other_name_ = std::make_unique<SegmentName>();
    options.clock = ClockKind::kManual;
    options.manual_clock_ns = &*clock_;
    options.prepare = [&](const Limiter& fresh) -> absl::Status {
      const auto writer = StateWriter::open(fresh, taken.segment, taken.policies);
      if (!writer.ok()) return writer.status();
      for (const OverrideState& entry : taken.overrides) {
        if (absl::Status status = writer->put_override(entry); !status.ok()) return status;
      }
      for (const KeyState& key : taken.keys) ++results[writer->put(key, now() - key.as_of_ns)];
      return absl::OkStatus();
    };
    auto created = Limiter::create(other_name_->str(), options);
    EXPECT_TRUE(created.ok()) << created.status();
    if (created.ok()) other = *std::move(created);
    return results;
  }

  std::unique_ptr<SegmentName> other_name_;
};

const std::vector<NamedPolicy> kAll = {{"bucket", "100/m burst 20"},
                                       {"queue", "queue 10/s burst 30"},
                                       {"fixed", "fixed-window 10/m"},
                                       {"counter", "sliding-counter 50/m"},
                                       {"log", "sliding-log 8/m"},
                                       {"two", "5/s burst 5; 100/h"},
                                       {"ban", "3/h burst 3 ban 2 in 10m for 1h"}};

TEST_F(StateTest, EveryAlgorithmGoesOnWhereItWas) {
  open(kAll);
  for (const NamedPolicy& one : kAll) {
    for (int key = 0; key < 6; ++key) {
      for (int i = 0; i < 2 * key; ++i) {
        policy(one.name).try_acquire("key" + std::to_string(key));
        advance(kSecond / 7);
      }
    }
  }
  const Taken taken = take();
  advance(3 * kSecond);
  Options options;
  options.capacity = 5000;
  options.policies = kAll;
  Limiter other;
  const auto results = give(taken, options, other);
  EXPECT_EQ(results.count(PutResult::kNoKey), 0u);
  EXPECT_EQ(results.count(PutResult::kFull), 0u);
  EXPECT_GT(results.at(PutResult::kMerged), 15);
  for (int64_t later : {int64_t{0}, kSecond / 3, 5 * kSecond, 40 * kSecond}) {
    advance(later);
    for (const NamedPolicy& one : kAll) {
      for (int key = 0; key < 6; ++key) {
        // Windows are aligned by the wall clock, which the manual clock does not move.
        const bool aligned = one.name == "fixed" || one.name == "counter";
        if (aligned && later != 0) continue;
        const std::string name = "key" + std::to_string(key);
        const Decision was = policy(one.name).peek(name, 1);
        const Decision is = other.policy(one.name)->peek(name, 1);
        EXPECT_LE(is.remaining, was.remaining) << one.name << " " << name << " +" << later;
        EXPECT_EQ(is.reason == Reason::kBarred, was.reason == Reason::kBarred) << one.name << name;
        if (!aligned) {
          EXPECT_GE(is.remaining + 1, was.remaining) << one.name << " " << name << " +" << later;
        }
      }
    }
  }
}

TEST_F(StateTest, CutKeysNeedTheSameHash) {
  open({{"p", "10/h burst 10"}});
  const std::string long_key(300, 'k');
  policy("p").try_acquire(long_key, 7);
  policy("p").try_acquire("short", 3);
  const Taken taken = take();
  Options options;
  options.policies = {{"p", "10/h burst 10"}};
  options.capacity = 10000;
  Limiter other;
  auto results = give(taken, options, other);
  EXPECT_EQ(results[PutResult::kNoKey], 1);
  EXPECT_EQ(other.policy("p")->peek(long_key).remaining, 10u);
  EXPECT_EQ(other.policy("p")->peek("short").remaining, 7u);
  options.hash_seed = taken.segment.hash_seed;
  results = give(taken, options, other);
  EXPECT_EQ(results[PutResult::kMerged], 2);
  EXPECT_EQ(other.policy("p")->peek(long_key).remaining, 3u);
  EXPECT_EQ(other.policy("p")->peek("short").remaining, 7u);
}

TEST_F(StateTest, DebtBeyondASmallerBurstStays) {
  open({{"p", "10/s burst 100"}});
  policy("p").try_acquire("k", 100);
  const Taken taken = take();
  Options options;
  options.policies = {{"p", "10/s burst 10"}};
  Limiter other;
  give(taken, options, other);
  const auto handle = other.policy("p");
  // 100 owed, 10 fit: the first permit is there after 9.1 s.
  EXPECT_EQ(handle->try_acquire("k").retry_after_ns, 91 * kSecond / 10);
  advance(91 * kSecond / 10 - 1);
  EXPECT_FALSE(handle->try_acquire("k").admitted);
  advance(1);
  EXPECT_TRUE(handle->try_acquire("k").admitted);
}

TEST_F(StateTest, AwayTheSlowerRateCounts) {
  open({{"p", "60/m burst 60"}});
  policy("p").try_acquire("k", 60);
  const Taken taken = take();
  advance(10 * kSecond + 1000);  // what is owed is rounded up to a unit
  Options options;
  options.policies = {{"p", "6/m burst 60"}};
  Limiter other;
  give(taken, options, other);
  EXPECT_EQ(other.policy("p")->peek("k").remaining, 1u);
  options.policies = {{"p", "600/m burst 60"}};
  give(taken, options, other);
  EXPECT_EQ(other.policy("p")->peek("k").remaining, 10u);
}

TEST_F(StateTest, TwiceIsOnceAndTheStricterWins) {
  open(kAll);
  for (const NamedPolicy& one : kAll) policy(one.name).try_acquire("k", 2);
  const Taken taken = take();
  for (const NamedPolicy& one : kAll) policy(one.name).try_acquire("k", 1);
  std::map<std::string, uint32_t> before;
  for (const NamedPolicy& one : kAll) before[one.name] = policy(one.name).peek("k").remaining;
  const auto writer = StateWriter::open(limiter_, taken.segment, taken.policies);
  ASSERT_TRUE(writer.ok()) << writer.status();
  for (const KeyState& key : taken.keys) writer->put(key, 0);
  for (const NamedPolicy& one : kAll) {
    EXPECT_EQ(policy(one.name).peek("k").remaining, before[one.name]) << one.name;
    policy(one.name).reset("k");
  }
  for (int twice = 0; twice < 2; ++twice) {
    for (const KeyState& key : taken.keys) writer->put(key, 0);
    for (const NamedPolicy& one : kAll) {
      EXPECT_EQ(policy(one.name).peek("k").remaining, before[one.name] + 1) << one.name;
    }
  }
}

TEST_F(StateTest, ChangesOnly) {
  open({{"p", "10/s burst 10"}, {"log", "sliding-log 4/m"}});
  for (int i = 0; i < 100; ++i) policy("p").try_acquire(std::to_string(i), 5);
  policy("log").try_acquire("l");
  auto reader = StateReader::attach(name_->str(), options_);
  ASSERT_TRUE(reader.ok());
  size_t changed = 0;
  size_t gone = 0;
  const auto scan = [&] {
    changed = gone = 0;
    reader->for_each_change([&](const KeyState&) { return ++changed != 0; },
                            [&](uint64_t) { return ++gone != 0; });
  };
  scan();
  EXPECT_EQ(changed, 101u);
  // Whoever remembers nothing gets all of them each time.
  for (int round = 0; round < 2; ++round) {
    size_t all = 0;
    EXPECT_TRUE(reader->for_each([&](const KeyState&) { return ++all != 0; }));
    EXPECT_EQ(all, 101u);
    EXPECT_FALSE(reader->for_each([&](const KeyState&) { return ++all != 110; }));
    EXPECT_EQ(all, 110u);
  }
  scan();
  EXPECT_EQ(changed, 0u);
  policy("p").try_acquire("7");
  policy("log").try_acquire("l");
  scan();
  EXPECT_EQ(changed, 2u);
  EXPECT_EQ(gone, 0u);
  ASSERT_TRUE(limiter_.change("p", "20/s burst 10").ok());
  scan();
  EXPECT_EQ(changed, 100u) << "a changed policy is a changed state";
  advance(2 * kSecond);
  scan();
  EXPECT_EQ(changed, 0u);
  EXPECT_EQ(gone, 100u);
  reader->forget_seen();
  scan();
  EXPECT_EQ(changed, 1u);
}

TEST_F(StateTest, OverridesAndLeases) {
  open({{"p", "10/h burst 10"}, {"small", "2/h burst 2"}, {"leases", "concurrency 2 ttl 1m"}});
  ASSERT_TRUE(limiter_.set_override("p", "vip", "unlimited").ok());
  ASSERT_TRUE(limiter_.set_network_override("*", "10.0.0.0/8", "small").ok());
  ASSERT_TRUE(policy("leases").acquire_lease("k"));
  const Taken taken = take();
  EXPECT_EQ(taken.overrides.size(), 2u);
  EXPECT_TRUE(taken.keys.empty()) << "leases end with their holders";
  Options options;
  options.policies = {{"small", "2/h burst 2"}, {"p", "10/h burst 10"}};
  options.hash_seed = taken.segment.hash_seed;
  Limiter other;
  give(taken, options, other);
  EXPECT_EQ(other.policy("p")->try_acquire("vip").reason, Reason::kExempt);
  EXPECT_EQ(other.policy("p")->peek("10.1.2.3").remaining, 2u);
  EXPECT_EQ(other.policy("p")->peek("11.1.2.3").remaining, 10u);
}

// A ban in each of its phases: refusals add up, barred, over but remembered, forgotten.
TEST_F(StateTest, BansInEveryPhase) {
  const std::vector<NamedPolicy> bans = {{"ban", "1/h burst 1 ban 2 in 10s for 4s times 3"}};
  open(bans);
  advance(3600 * kSecond);
  policy("ban").try_acquire("k", 1);
  const auto barred_ns = [](const Limiter& limiter) {
    const Decision decision = limiter.policy("ban")->peek("k", 1);
    return decision.reason == Reason::kBarred ? decision.retry_after_ns : 0;
  };
  int phases = 0;
  for (int tenth = 0; tenth < 320; ++tenth) {
    if (tenth == 5 || tenth == 8 || tenth == 55 || tenth == 58) policy("ban").try_acquire("k");
    const Taken taken = take();
    for (const KeyState& key : taken.keys) {
      EXPECT_GE(key.until_ns, 0) << tenth;
      for (const int64_t left : key.left_ns) EXPECT_GE(left, 0) << tenth;
    }
    Options options;
    options.policies = bans;
    Limiter other;
    give(taken, options, other);
    const int64_t was = barred_ns(limiter_);
    // A ban ends on a tick of half a millisecond.
    EXPECT_NEAR(static_cast<double>(barred_ns(other)), static_cast<double>(was), 1e6) << tenth;
    // The next refusals bar it for as long here as there, or longer: its bans are remembered for
    // up to the last one's length from the new policy's beginning.
    if (was == 0) {
      other.policy("ban")->try_acquire("k");
      other.policy("ban")->try_acquire("k");
      const int64_t next = barred_ns(other);
      const bool known = next > 5 * kSecond;
      phases |= known ? 2 : 1;
      if (tenth < 298) {
        EXPECT_EQ(known, tenth > 48) << tenth;
      } else if (tenth > 298) {
        EXPECT_FALSE(known) << tenth;
      }
    } else {
      phases |= 4;
    }
    advance(kSecond / 10);
  }
  EXPECT_EQ(phases, 7);
}

// A key that was away until its bans were forgotten is as new, wherever its state was meanwhile.
TEST_F(StateTest, AnOldBanIsForgotten) {
  const std::vector<NamedPolicy> bans = {{"ban", "1/h burst 1 ban 2 in 10s for 1s times 10"}};
  open(bans);
  policy("ban").try_acquire("k", 1);
  policy("ban").try_acquire("k");
  policy("ban").try_acquire("k");
  const Taken taken = take();
  advance(4 * kSecond);
  Options options;
  options.policies = bans;
  Limiter other;
  give(taken, options, other);
  other.policy("ban")->try_acquire("k");
  other.policy("ban")->try_acquire("k");
  EXPECT_LE(other.policy("ban")->peek("k", 1).retry_after_ns, kSecond + 1000000);
}

TEST_F(StateTest, WhatWasSetSinceStays) {
  open({{"p", "10/h burst 10"}, {"small", "2/h burst 2"}});
  ASSERT_TRUE(limiter_.set_override("p", "vip", "unlimited").ok());
  ASSERT_TRUE(limiter_.set_factor("p", 800000).ok());
  const Taken taken = take();
  ASSERT_TRUE(limiter_.set_override("p", "vip", "deny").ok());
  ASSERT_TRUE(limiter_.set_factor("p", 500000).ok());
  const auto writer = StateWriter::open(limiter_, taken.segment, taken.policies);
  ASSERT_TRUE(writer.ok()) << writer.status();
  const auto put_all = [&] {
    for (const OverrideState& entry : taken.overrides)
      EXPECT_TRUE(writer->put_override(entry).ok());
    for (const PolicyState& policy : taken.policies) writer->put_factor(policy, true);
  };
  put_all();
  EXPECT_EQ(policy("p").try_acquire("vip").reason, Reason::kBlocked);
  EXPECT_EQ(take().policies[0].factor_ppm, 500000u);
  ASSERT_TRUE(limiter_.clear_override("p", "vip").ok());
  ASSERT_TRUE(limiter_.set_factor("p", 1000000).ok());
  put_all();
  EXPECT_EQ(policy("p").try_acquire("vip").reason, Reason::kExempt);
  EXPECT_EQ(take().policies[0].factor_ppm, 800000u);
  for (const PolicyState& policy : taken.policies) writer->put_factor(policy, false);
  EXPECT_EQ(take().policies[0].factor_ppm, 800000u);
}

TEST_F(StateTest, AFailedPreparationLeavesNothing) {
  SegmentName name;
  Options options;
  options.prepare = [](const Limiter&) { return absl::InternalError("no"); };
  EXPECT_EQ(Limiter::create(name.str(), options).status().code(), absl::StatusCode::kInternal);
  EXPECT_TRUE(absl::IsNotFound(Limiter::attach(name.str()).status()));
  options.prepare = {};
  options.hash_seed = "short";
  EXPECT_EQ(Limiter::create(name.str(), options).status().code(),
            absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace brim::test
