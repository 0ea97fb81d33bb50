// SPDX-License-Identifier: MIT
// Bans made by hand, which end by themselves; policies that are removed and reset.
#include "brim/address.h"
#include "brim/state.h"
#include "tests/policies/support.h"

namespace brim::test {
namespace {

constexpr int64_t kMs = 1000000;
constexpr int64_t kHour = 3600 * kSecond;
// What the end of a ban is rounded up by, at most.
constexpr int64_t kUnit = int64_t{1} << 20;

bool named(const absl::Status& status, std::string_view name) {
  const std::string_view text(status.message().data(), status.message().size());
  return !status.ok() && text.starts_with(std::string(name) + ": ");
}

void end(pid_t pid) {
  kill(pid, SIGKILL);
  int status = 0;
  while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  EXPECT_TRUE(WIFSIGNALED(status)) << "it ended by itself: " << status;
}

class Bans : public Policies {
 protected:
  std::vector<OverrideInfo> overrides() const {
    const auto inspector = Inspector::attach(name_->str(), options_);
    EXPECT_TRUE(inspector.ok());
    return inspector->overrides();
  }
};

// Goal: a banned key is refused and counted as by the policy's own bans, with the time left, and
// is as before once that is over: its debt stays what it was.
TEST_F(Bans, EndByThemselves) {
  open({{"p", "5/1d burst 5"}, {"q", "5/1d burst 5"}});
  EXPECT_EQ(passes(policy("p"), "k", 2), 2u);
  ASSERT_TRUE(limiter_.ban("p", "k", 10 * kSecond).ok());
  for (const int64_t gone : {int64_t{0}, 3 * kSecond, 7 * kSecond - 1}) {
    clock_->store(kEpoch + gone);
    const Decision decision = policy("p").try_acquire("k");
    EXPECT_EQ(decision.verdict, Verdict::kDenied);
    EXPECT_EQ(decision.reason, Reason::kBarred);
    EXPECT_FALSE(decision.admitted);
    EXPECT_GE(decision.retry_after_ns, 10 * kSecond - gone);
    EXPECT_LT(decision.retry_after_ns, 10 * kSecond - gone + kUnit);
    EXPECT_EQ(policy("p").peek("k"), decision);
  }
  EXPECT_EQ(counter("p", "barred"), 3u);
  EXPECT_EQ(counter("p", "denied"), 3u);
  EXPECT_EQ(counter("p", "exempt"), 0u);
  EXPECT_TRUE(policy("p").try_acquire("other").admitted);
  EXPECT_TRUE(policy("q").try_acquire("k").admitted);
  EXPECT_TRUE(policy("p").refund("k", 1)) << "what was taken before can be given back";
  clock_->store(kEpoch + 10 * kSecond + kUnit);
  EXPECT_EQ(policy("p").peek("k").remaining, 4u);
  EXPECT_EQ(passes(policy("p"), "k"), 4u);
  EXPECT_EQ(policy("p").try_acquire("k").reason, Reason::kNone);
  EXPECT_TRUE(overrides().empty());
}

// Goal: "*" bans under all policies; without an end it lasts until unban(), which leaves debts.
TEST_F(Bans, OfAllPoliciesUntilUnban) {
  open({{"p", "5/1d burst 5"}, {"several", "7/1h; fixed-window 9/1d"}, {"l", "concurrency 2"}});
  EXPECT_EQ(passes(policy("p"), "k", 3), 3u);
  ASSERT_TRUE(limiter_.ban("*", "k", kNever).ok());
  advance(100 * 365 * 24 * kHour);
  for (const char* const name : {"p", "several"}) {
    const Decision decision = policy(name).try_acquire("k");
    EXPECT_EQ(decision.reason, Reason::kBarred) << name;
    EXPECT_EQ(decision.retry_after_ns, kNever);
  }
  EXPECT_EQ(policy("l").acquire_lease("k").decision.reason, Reason::kBarred);
  const PolicyHandle p = policy("p");
  const PolicyHandle several = policy("several");
  const PolicyHandle::Ask asks[] = {{&several, "free", 1}, {&p, "k", 1}};
  EXPECT_EQ(PolicyHandle::try_acquire_all(asks).reason, Reason::kBarred);
  EXPECT_TRUE(named(limiter_.unban("p", "k"), "ban_not_found")) << "the ban is of all policies";
  ASSERT_TRUE(limiter_.unban("*", "k").ok());
  EXPECT_TRUE(named(limiter_.unban("*", "k"), "ban_not_found"));
  EXPECT_TRUE(policy("p").try_acquire("k").admitted);
}

// Goal: a ban of a key goes over its other override and takes its place; unban() leaves another
// override alone; a new ban takes the place of the old one.
TEST_F(Bans, AmongOverrides) {
  open({{"p", "5/1d burst 5"}});
  ASSERT_TRUE(limiter_.set_override("*", "k", "unlimited").ok());
  EXPECT_TRUE(named(limiter_.unban("*", "k"), "ban_not_found"));
  ASSERT_TRUE(limiter_.ban("p", "k", kSecond).ok());
  EXPECT_EQ(policy("p").try_acquire("k").reason, Reason::kBarred);
  advance(kSecond + kUnit);
  EXPECT_EQ(policy("p").try_acquire("k").reason, Reason::kExempt) << "the one of all policies";
  ASSERT_TRUE(limiter_.ban("p", "k", kHour).ok());
  ASSERT_TRUE(limiter_.ban("p", "k", kSecond).ok());
  EXPECT_LE(policy("p").peek("k").retry_after_ns, kSecond + kUnit);
  ASSERT_TRUE(limiter_.set_override("p", "k", "deny").ok());
  EXPECT_EQ(policy("p").try_acquire("k").reason, Reason::kBlocked);
  EXPECT_EQ(overrides().size(), 2u);
  ASSERT_TRUE(limiter_.clear_override("p", "k").ok());
  ASSERT_TRUE(limiter_.ban("p", "k", kSecond).ok());
  advance(2 * kSecond);
  EXPECT_TRUE(named(limiter_.clear_override("p", "k"), "override_not_found")) << "it has ended";
}

TEST_F(Bans, OfNetworks) {
  open({{"p", "5/1d burst 5"}});
  ASSERT_TRUE(limiter_.ban_network("p", "10.1.0.0/16", kHour).ok());
  const std::string within(address_key("10.1.2.3").view());
  EXPECT_EQ(policy("p").try_acquire(within).reason, Reason::kBarred);
  EXPECT_TRUE(policy("p").try_acquire("10.2.0.1").admitted);
  ASSERT_TRUE(limiter_.set_network_override("p", "10.0.0.0/8", "deny").ok());
  const std::vector<OverrideInfo> list = overrides();
  ASSERT_EQ(list.size(), 2u);
  for (const OverrideInfo& one : list) {
    EXPECT_TRUE(one.network && one.has_key);
    EXPECT_EQ(one.use, one.ban ? "banned" : "deny");
    EXPECT_EQ(one.key, one.ban ? "10.1.0.0/16" : "10.0.0.0/8");
  }
  advance(kHour + kUnit);
  EXPECT_EQ(policy("p").try_acquire(within).reason, Reason::kBlocked) << "the wider network's";
  ASSERT_TRUE(limiter_.ban_network("p", "10.1.0.0/16", kHour).ok());
  ASSERT_TRUE(limiter_.unban_network("p", "10.1.0.0/16").ok());
  EXPECT_EQ(policy("p").try_acquire(within).reason, Reason::kBlocked);
  EXPECT_TRUE(named(limiter_.unban_network("p", "10.1.0.0/16"), "ban_not_found"));
  EXPECT_TRUE(named(limiter_.ban_network("p", "10.1.0.0/33", 1), "invalid_address"));
}

// Goal: unban() lifts the ban that a policy made, and leaves the debt.
TEST_F(Bans, AutomaticOnesAreLifted) {
  open({{"p", "3/1d burst 3 ban 2 in 1h for 2h"}});
  EXPECT_EQ(passes(policy("p"), "k"), 3u);
  (void)policy("p").try_acquire("k");
  EXPECT_EQ(policy("p").try_acquire("k").reason, Reason::kBarred);
  ASSERT_TRUE(limiter_.ban("p", "k", kHour).ok());
  ASSERT_TRUE(limiter_.unban("p", "k").ok()) << "both at once";
  const Decision decision = policy("p").try_acquire("k");
  EXPECT_FALSE(decision.admitted);
  EXPECT_EQ(decision.reason, Reason::kNone) << "it owes, but is not banned";
}

TEST_F(Bans, Arguments) {
  open({{"p", "5/1d burst 5"}});
  for (const int64_t none : {int64_t{0}, int64_t{-1}, std::numeric_limits<int64_t>::min()}) {
    EXPECT_TRUE(named(limiter_.ban("p", "k", none), "invalid_duration"));
  }
  EXPECT_TRUE(named(limiter_.ban("x", "k", 1), "policy_not_found"));
  EXPECT_TRUE(named(limiter_.unban("x", "k"), "policy_not_found"));
  EXPECT_TRUE(named(Limiter().ban("p", "k", 1), "not_open"));
  ASSERT_TRUE(limiter_.ban("p", "k", kNever - 1).ok());
  EXPECT_GT(policy("p").try_acquire("k").retry_after_ns, 100 * 365 * 24 * kHour);
  const auto reader = Limiter::attach_read_only(name_->str(), options_);
  EXPECT_TRUE(named(reader->ban("p", "k", 1), "read_only"));
  EXPECT_EQ(reader->policy("p")->peek("k").reason, Reason::kBarred);
}

// Goal: a listed override has the text of its key: any bytes, the beginning of a long one, none in
// a segment that keeps no names.
TEST_F(Bans, TextsAreKept) {
  options_.name_bytes = 0;
  open({{"banned", "5/1d burst 5"}});
  const std::string bytes("a\0\n\x1b\xff", 5);
  const std::string longer(3000, 'x');
  ASSERT_TRUE(limiter_.set_override("*", bytes, "banned").ok());
  ASSERT_TRUE(limiter_.ban("banned", longer, kHour).ok());
  const std::vector<OverrideInfo> list = overrides();
  ASSERT_EQ(list.size(), 2u);
  for (const OverrideInfo& one : list) {
    EXPECT_EQ(one.use, "banned");
    EXPECT_TRUE(one.has_key);
    EXPECT_EQ(one.policy, one.ban ? "banned" : "*");
    EXPECT_EQ(one.key_length, one.ban ? 3000u : 5u);
    EXPECT_EQ(one.key, one.ban ? longer.substr(0, one.key.size()) : bytes);
    EXPECT_GE(one.key.size(), 5u);
    EXPECT_EQ(one.ends_in_ns == kNever, !one.ban);
  }
  options_.name_bytes = Options::kNoNames;
  open({{"p", "5/1d burst 5"}});
  ASSERT_TRUE(limiter_.ban("p", "secret", kHour).ok());
  ASSERT_EQ(overrides().size(), 1u);
  EXPECT_FALSE(overrides()[0].has_key);
  EXPECT_EQ(overrides()[0].key, "");
}

// Goal: a full table has room again once bans have ended.
TEST_F(Bans, EndedOnesMakeRoom) {
  options_.overrides = 8;
  open({{"p", "5/1d burst 5"}});
  for (int round = 0; round < 20; ++round) {
    for (int i = 0; i < 8; ++i) {
      const std::string key = "k" + std::to_string(round * 8 + i);
      ASSERT_TRUE(limiter_.ban("p", key, kSecond).ok()) << round;
    }
    EXPECT_TRUE(named(limiter_.ban("p", "more", kSecond), "override_table_full"));
    EXPECT_EQ(overrides().size(), 8u);
    advance(2 * kSecond);
    EXPECT_TRUE(overrides().empty());
  }
}

// Goal: bans made, changed and ended all the time by processes that are killed never bar another
// key, nor any key for longer than the longest ban.
// Method: children ban few keys of a small table for 1 to 20 ms of a clock that the parent moves;
// what a free key is answered is looked at all the while.
TEST_F(Bans, KilledWriters) {
  options_.overrides = 8;
  open({{"p", "1000000/s"}});
  (void)limiter_.ban("p", "k0", 1);
  const uint32_t rounds = scaled(40, 2000);
  const Shared<std::atomic<uint64_t>> writes;
  uint64_t barred = 0;
  for (uint32_t round = 0; round < rounds; ++round) {
    writes->store(0);
    const pid_t pid = spawn([&] {
      for (uint64_t i = 0;; ++i) {
        const std::string key = "k" + std::to_string(i % 6);
        (void)limiter_.ban("p", key, static_cast<int64_t>(1 + i % 20) * kMs);
        if (i % 3 == 0) (void)limiter_.unban("p", key);
        if (i % 7 == 0) (void)limiter_.set_override("p", key, "deny");
        if (i % 7 == 3) (void)limiter_.clear_override("p", key);
        writes->store(i);
      }
      return false;
    });
    const uint64_t until = 20 + round * 7 % 64;  // then it dies at whatever it does
    for (uint64_t n = 0; writes->load() < until && n < 20000000; ++n) {
      const Decision decision = policy("p").try_acquire("k" + std::to_string(n % 8));
      if (decision.reason == Reason::kBarred) {
        ++barred;
        EXPECT_LE(decision.retry_after_ns, 20 * kMs + kUnit);
      }
      if (n % 8 >= 6) {
        EXPECT_EQ(decision.reason, Reason::kNone) << "nobody banned it";
      }
      if (n % 64 == 0) advance(kMs / 10);
    }
    for (const OverrideInfo& one : overrides()) {
      EXPECT_TRUE(!one.has_key || (one.key.size() == 2 && one.key[0] == 'k')) << one.key;
      EXPECT_TRUE(!one.ban || one.ends_in_ns <= 20 * kMs + kUnit);
    }
    end(pid);
    for (int i = 0; i < 6; ++i) (void)limiter_.clear_override("p", "k" + std::to_string(i));
    EXPECT_TRUE(overrides().empty());
    EXPECT_TRUE(limiter_.ban("p", "next", kHour).ok());
    EXPECT_TRUE(limiter_.unban("p", "next").ok());
  }
  EXPECT_GT(barred, 0u) << "no ban was ever met";
}

using Removal = Policies;

// Goal: a removed policy is not there for new callers; who has it goes on; define() brings it back
// with its keys as if never seen.
TEST_F(Removal, AndReturn) {
  open({{"p", "5/1d burst 5"}, {"q", "5/1d burst 5"}});
  const PolicyHandle held = policy("p");
  EXPECT_EQ(passes(held, "k", 3), 3u);
  ASSERT_TRUE(limiter_.remove_policy("p").ok());
  EXPECT_TRUE(named(limiter_.policy("p").status(), "policy_not_found"));
  EXPECT_TRUE(named(limiter_.remove_policy("p"), "policy_not_found"));
  EXPECT_TRUE(named(limiter_.change("p", "9/1d"), "policy_not_found"));
  EXPECT_TRUE(named(limiter_.set_override("p", "k", "deny"), "policy_not_found"));
  EXPECT_EQ(limiter_.policy_names(), std::vector<std::string>{"q"});
  EXPECT_EQ(Inspector::attach(name_->str())->policies().size(), 1u);
  EXPECT_EQ(StateReader::attach(name_->str())->policies().size(), 1u);
  EXPECT_EQ(passes(held, "k"), 2u) << "the handle goes on";
  EXPECT_TRUE(succeeded(spawn([&] { return held.try_acquire("child").admitted; })));
  const auto back = limiter_.define("p", "7/1d burst 7");
  ASSERT_TRUE(back.ok()) << back.status();
  EXPECT_EQ(passes(*back, "k"), 7u);
  EXPECT_EQ(passes(held, "k"), 0u) << "one policy again";
  EXPECT_EQ(limiter_.policy_names().size(), 2u);
  EXPECT_TRUE(limiter_.policy("p").ok());
}

TEST_F(Removal, OfAPolicyInUse) {
  open({{"p", "5/1d burst 5"}, {"q", "5/1d burst 5"}, {"l", "concurrency 2"}});
  ASSERT_TRUE(limiter_.set_override("p", "vip", "q").ok());
  EXPECT_TRUE(named(limiter_.remove_policy("q"), "policy_in_use")) << "it is used";
  EXPECT_TRUE(named(limiter_.remove_policy("p"), "policy_in_use")) << "it has overrides";
  ASSERT_TRUE(limiter_.clear_override("p", "vip").ok());
  ASSERT_TRUE(limiter_.ban("p", "k", kSecond).ok());
  EXPECT_TRUE(named(limiter_.remove_policy("p"), "policy_in_use"));
  advance(2 * kSecond);
  EXPECT_TRUE(limiter_.remove_policy("p").ok()) << "the ban has ended";
  EXPECT_TRUE(limiter_.remove_policy("q").ok());
  EXPECT_TRUE(limiter_.remove_policy("l").ok());
  EXPECT_TRUE(limiter_.define("l", "concurrency 2").ok()) << "holders of leases keep them";
  EXPECT_EQ(limiter_.policy_names(), std::vector<std::string>{"l"});
}

// Goal: all keys are as if never seen, under the text of that moment; a factor stays.
TEST_F(Removal, ResetPolicy) {
  open({{"p", "5/1d burst 5 ban 2 in 1h for 2h"}, {"log", "sliding-log 4/1d"}});
  EXPECT_EQ(passes(policy("p"), "k"), 5u);
  (void)policy("p").try_acquire("k");
  EXPECT_EQ(policy("p").try_acquire("k").reason, Reason::kBarred);
  ASSERT_TRUE(limiter_.reset_policy("p").ok());
  EXPECT_EQ(passes(policy("p"), "k"), 5u);
  EXPECT_EQ(policy_text(policy("p").policy()),
            policy_text(*parse_policy(options_.policies[0].text)));
  ASSERT_TRUE(limiter_.set_factor("p", 500000).ok());
  ASSERT_TRUE(limiter_.reset_policy("p").ok());
  EXPECT_EQ(Inspector::attach(name_->str())->policies()[0].factor_ppm, 500000u);
  EXPECT_TRUE(named(limiter_.reset_policy("log"), "policy_change_unfit"));
  EXPECT_TRUE(named(limiter_.reset_policy("x"), "policy_not_found"));
}

// Goal: a change that runs beside resets is never undone.
// Method: one process resets all the time while another changes the text, again and again.
TEST_F(Removal, ResetKeepsAChangeBesideIt) {
  open({{"p", "1/1d burst 1"}});
  const pid_t pid = spawn([&] {
    for (;;) (void)limiter_.reset_policy("p");
    return false;
  });
  for (uint32_t burst = 2; burst < 202; ++burst) {
    const std::string text = "1/1d burst " + std::to_string(burst);
    ASSERT_TRUE(limiter_.change("p", text).ok());
    ASSERT_EQ(policy("p").policy().rates[0].burst, burst);
  }
  end(pid);
}

}  // namespace
}  // namespace brim::test
