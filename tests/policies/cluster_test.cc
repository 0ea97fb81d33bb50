// SPDX-License-Identifier: MIT
// Policies `scope cluster`: what is counted for other nodes, when a key matters, what the agent
// does to the words. The store is not here: see tests/tier.
#include "tests/policies/cluster.h"

#include <map>
#include <thread>

#include "brim/resize.h"
#include "src/compile.h"
#include "src/terms.h"
#include "src/use.h"

namespace brim::test {
namespace {

TEST_F(ClusterTest, CountsWhatIsAdmittedAndNothingElse) {
  start({{"p", "3600/h burst 20 scope cluster"}});
  const PolicyHandle p = policy("p");
  EXPECT_TRUE(p.try_acquire("k", 15).admitted);
  EXPECT_EQ(use().untold(), 15);
  EXPECT_EQ(use().key, "k");
  EXPECT_FALSE(p.try_acquire("k", 6).admitted);
  EXPECT_FALSE(p.try_acquire("k", 100).admitted);
  EXPECT_TRUE(p.peek("k", 5).admitted);
  EXPECT_EQ(use().untold(), 15);
  EXPECT_EQ(p.try_acquire_up_to("k", 1, 9).cost, 5u);
  EXPECT_EQ(use().untold(), 20);
  EXPECT_TRUE(p.refund("k", 4));
  EXPECT_EQ(use().untold(), 16);
  EXPECT_TRUE(p.commit("k", 2, 5));
  EXPECT_EQ(use().untold(), 19);
  const Ticket ticket = p.reserve("k", 3, kNever);
  EXPECT_TRUE(ticket);
  EXPECT_EQ(use().untold(), 22);
  EXPECT_TRUE(p.cancel("k", ticket));
  EXPECT_EQ(use().untold(), 19);
  EXPECT_TRUE(p.reset("k"));
  EXPECT_EQ(use().untold(), 0);
}

TEST_F(ClusterTest, EachRateCountsAndALostRaceCountsNothing) {
  start({{"p", "10/h; 20/d scope cluster"}, {"q", "3/h scope cluster"}, {"own", "5/h"}});
  const PolicyHandle p = policy("p");
  const PolicyHandle q = policy("q");
  const PolicyHandle own = policy("own");
  EXPECT_TRUE(p.try_acquire("k", 3).admitted);
  EXPECT_EQ(uses().size(), 2u);
  for (const KeyUse& use : uses()) EXPECT_EQ(use.untold(), 3);
  EXPECT_EQ(passes(own, "k"), 5u);  // counts nothing
  const std::vector<PolicyHandle::Ask> asks = {{&p, "k", 1}, {&q, "k", 4}};
  EXPECT_FALSE(PolicyHandle::try_acquire_all(asks).admitted);
  for (const KeyUse& use : uses()) EXPECT_EQ(use.untold(), 3);
  const std::vector<PolicyHandle::Ask> fits = {{&p, "k", 1}, {&q, "k", 3}, {&own, "k2", 1}};
  EXPECT_TRUE(PolicyHandle::try_acquire_all(fits).admitted);
  EXPECT_EQ(uses().size(), 3u);
  int64_t sum = 0;
  for (const KeyUse& use : uses()) sum += use.untold();
  EXPECT_EQ(sum, 4 + 4 + 3);
}

TEST_F(ClusterTest, OnlyKeysThatMatterAreGiven) {
  start({{"p", "100/h scope cluster"}});
  const PolicyHandle p = policy("p");
  view_->set_hold_back(0, 0, 25);
  EXPECT_TRUE(p.try_acquire("far", 24).admitted);
  EXPECT_TRUE(uses(false).empty());
  EXPECT_TRUE(p.try_acquire("far", 1).admitted);
  ASSERT_EQ(uses(false).size(), 1u);
  EXPECT_TRUE(uses(false).empty());  // given once
  EXPECT_TRUE(p.try_acquire("near", 10).admitted);
  view_->acknowledge(uses(true)[0]);
  view_->acknowledge(uses(true)[1]);
  EXPECT_TRUE(p.try_acquire("near", 15).admitted);
  EXPECT_TRUE(uses(false).empty());  // 15 untold, and 25 owed
  for (const KeyUse& use : uses(true)) view_->acknowledge(use);
  EXPECT_TRUE(p.try_acquire("near", 24).admitted);
  EXPECT_TRUE(uses(false).empty());  // 49 owed
  for (const KeyUse& use : uses(true)) view_->acknowledge(use);
  EXPECT_TRUE(p.try_acquire("near", 2).admitted);
  ASSERT_EQ(uses(false).size(), 1u);  // 51 owed
  // Stopped in the middle: the rest is given by the next call.
  for (int i = 0; i < 8; ++i) EXPECT_TRUE(p.try_acquire("n" + std::to_string(i), 60).admitted);
  size_t given = 0;
  view_->for_each_use(false, [&](const KeyUse&) { return ++given < 3; });
  EXPECT_EQ(given, 3u);
  EXPECT_GE(uses(false).size(), 5u);
}

TEST_F(ClusterTest, AcknowledgedTotalsAndANewCount) {
  start({{"p", "100/h scope cluster"}});
  const PolicyHandle p = policy("p");
  EXPECT_TRUE(p.try_acquire("k", 10).admitted);
  const KeyUse first = use();
  EXPECT_EQ(first.identity, use().identity);
  EXPECT_TRUE(p.try_acquire("k", 5).admitted);
  view_->acknowledge(first);
  view_->acknowledge(first);
  EXPECT_EQ(use().untold(), 5);
  KeyUse again = first;
  EXPECT_TRUE(view_->look(again));
  EXPECT_EQ(again.total, 15u);
  KeyUse other = first;
  other.nonce ^= 2;
  EXPECT_FALSE(view_->look(other));
  other.total = 100;
  view_->acknowledge(other);  // of another count: nothing
  EXPECT_EQ(use().untold(), 5);
  // Given back more than was told.
  EXPECT_TRUE(p.refund("k", 15));
  EXPECT_EQ(use().untold(), -10);
}

TEST_F(ClusterTest, OneIdentityInAllSegmentsUnderOneSecret) {
  start({{"p", "100/h scope cluster"}});
  EXPECT_TRUE(policy("p").try_acquire("k").admitted);
  const uint64_t here = use().identity;
  EXPECT_EQ(here, shared_identity(kSecret, "k"));
  const uint64_t another[2] = {1, 2};
  view_->set_secret(another);
  EXPECT_TRUE(uses().empty());  // until it is used
  EXPECT_TRUE(policy("p").try_acquire("k").admitted);
  EXPECT_EQ(use().identity, shared_identity(another, "k"));
  EXPECT_EQ(use().untold(), 2);  // under the new name nobody was told of anything
  uint64_t read[2];
  EXPECT_TRUE(view_->get_secret(read));
  EXPECT_EQ(read[1], 2u);
}

TEST_F(ClusterTest, WithoutAnAgentPoliciesWork) {
  open({{"p", "5/h scope cluster"}});
  EXPECT_EQ(passes(policy("p"), "k"), 5u);
  EXPECT_EQ(passes(policy("p"), "k"), 0u);
}

TEST_F(ClusterTest, RaisingChargesWhatOthersUsedAndNeverLowers) {
  start({{"p", "3600/h burst 100 scope cluster"}});
  const PolicyHandle p = policy("p");
  EXPECT_TRUE(p.try_acquire("k", 10).admitted);
  const KeyUse told = use();
  EXPECT_TRUE(view_->raise(told, level(told, 60), now()));
  EXPECT_EQ(p.peek("k").remaining, 40u);
  EXPECT_EQ(use().untold(), 10);  // raising counts nothing
  EXPECT_TRUE(view_->raise(told, level(told, 30), now()));
  EXPECT_EQ(p.peek("k").remaining, 40u);
  // What was used since the cell was read comes on top.
  EXPECT_TRUE(p.try_acquire("k", 5).admitted);
  EXPECT_TRUE(view_->raise(told, level(told, 60), now()));
  EXPECT_EQ(p.peek("k").remaining, 35u);
  // As of some time ago: the second since then has flowed back.
  advance(kSecond);
  EXPECT_TRUE(view_->raise(told, level(told, 80), now() - kSecond));
  EXPECT_EQ(p.peek("k").remaining, 100u - 84);
  // Beyond the burst the debt is carried, up to what a word holds.
  EXPECT_TRUE(view_->raise(told, level(told, 140), now()));
  EXPECT_EQ(p.peek("k").remaining, 0u);
  EXPECT_EQ(p.peek("k", 1).retry_after_ns, 46 * kSecond);
  EXPECT_FALSE(view_->raise(told, level(told, 100000), now()));
  EXPECT_EQ(p.peek("k", 1).retry_after_ns, 61 * kSecond);
  KeyUse other = told;
  other.id ^= 1;
  EXPECT_TRUE(view_->raise(other, level(told, 1), now()));
}

// A slot is not given to another key while something in it waits to be told, unless the key was
// idle for 16 bursts.
TEST_F(ClusterTest, UntoldUseKeepsTheSlot) {
  start({{"p", "3600/h burst 4 scope cluster"}}, 4);
  const PolicyHandle p = policy("p");
  for (int i = 0; i < 4; ++i) EXPECT_TRUE(p.try_acquire("k" + std::to_string(i)).admitted);
  advance(10 * kSecond);  // all are idle
  view_->acknowledge(uses()[1]);
  EXPECT_TRUE(p.try_acquire("new").admitted);
  EXPECT_EQ(counter("p", "evicted"), 0u);  // it got the slot of the one that was told
  EXPECT_EQ(uses().size(), 4u);
  EXPECT_EQ(limiter_.sweep(1), 0u);
  EXPECT_TRUE(p.try_acquire("another").admitted);  // where there is no other it gives way
  EXPECT_EQ(counter("p", "evicted"), 0u);
  advance(10 * kSecond);
  EXPECT_EQ(limiter_.sweep(1), 0u);
  advance(70 * kSecond);
  EXPECT_GE(limiter_.sweep(1), 4u);
}

TEST_F(ClusterTest, AShareSlowsTheRateBesideTheFactor) {
  start({{"p", "3600/h burst 10 scope cluster"}});
  const PolicyHandle p = policy("p");
  EXPECT_EQ(passes(p, "k"), 10u);
  ASSERT_TRUE(view_->set_share(0, 250000).ok());
  advance(8 * kSecond);
  EXPECT_EQ(passes(p, "k"), 2u);
  ASSERT_TRUE(limiter_.set_factor("p", 500000).ok());
  advance(16 * kSecond);
  EXPECT_EQ(passes(p, "k"), 2u);
  ASSERT_TRUE(limiter_.change("p", "3600/h burst 12 scope cluster").ok());
  advance(16 * kSecond);
  EXPECT_EQ(passes(p, "k"), 4u);  // 2, and 2 of the larger burst
  ASSERT_TRUE(view_->set_share(0, 1000000).ok());
  advance(4 * kSecond);
  EXPECT_EQ(passes(p, "k"), 2u);
  ASSERT_TRUE(limiter_.set_factor("p", 1000000).ok());
  advance(4 * kSecond);
  EXPECT_EQ(passes(p, "k"), 4u);
  EXPECT_FALSE(view_->set_share(0, 0).ok());
}

TEST_F(ClusterTest, APolicyThatLeavesTheClusterHasItsWholeRates) {
  start({{"p", "3600/h burst 10 scope cluster"}});
  const PolicyHandle p = policy("p");
  EXPECT_EQ(passes(p, "k"), 10u);
  ASSERT_TRUE(view_->set_share(0, 250000).ok());
  ASSERT_TRUE(limiter_.change("p", "3600/h burst 10").ok());
  advance(8 * kSecond);
  EXPECT_EQ(passes(p, "k"), 8u);
}

TEST_F(ClusterTest, ASegmentWithoutRoomSaysSo) {
  open({{"p", "5/h"}});
  const absl::Status defined = limiter_.define("q", "5/h scope cluster").status();
  EXPECT_EQ(defined.message().substr(0, 17), "cluster_not_kept:");
  EXPECT_FALSE(limiter_.change("p", "5/h scope cluster").ok());
  EXPECT_FALSE(ClusterView::attach(name_->str()).ok());
  const auto status = ClusterView::status_of(name_->str());
  ASSERT_TRUE(status.ok());
  EXPECT_FALSE(status->kept);
}

TEST_F(ClusterTest, StatusIsKept) {
  start({{"p", "5/h scope cluster"}});
  TierStatus status;
  status.agent_pid = 17;
  status.up = true;
  status.nodes = 3;
  status.calls = 1000;
  status.store = std::string(300, 'x');
  status.error = "tier_timeout: no answer";
  view_->set_status(status);
  const auto read = ClusterView::status_of(name_->str());
  ASSERT_TRUE(read.ok());
  EXPECT_TRUE(read->kept && read->up);
  EXPECT_EQ(read->nodes, 3u);
  EXPECT_EQ(read->calls, 1000u);
  EXPECT_EQ(read->store, std::string(191, 'x'));
  EXPECT_EQ(read->error, status.error);
}

// Goal: whatever is killed when, others are told of every permit that was answered, and of no
// more than were charged. Method: workers on a few keys, an agent that looks and acknowledges all
// the time, both killed; the sum of what was told against what the workers got back.
TEST_F(ClusterTest, KilledWorkersAndAgents) {
  struct Ledger {
    std::atomic<uint64_t> answered[4];
    std::atomic<uint64_t> told;
  };
  name_ = std::make_unique<SegmentName>();
  Options options;
  options.capacity = 64;
  options.policies = {{"p", "1000000000/d burst 4000000000 scope cluster"}};
  const auto limiter = Limiter::create(name_->str(), options);
  ASSERT_TRUE(limiter.ok()) << limiter.status();
  auto view = ClusterView::attach(name_->str());
  ASSERT_TRUE(view.ok());
  view->set_secret(kSecret);
  view->set_hold_back(0, 0, 1);
  const PolicyHandle p = *limiter->policy("p");
  Shared<Ledger> ledger;
  const auto worker = [&](uint32_t who) {
    return spawn([&, who] {
      for (uint32_t i = 0; i < 4000000000; ++i) {
        if (p.try_acquire("k" + std::to_string(i % 3)).admitted) ledger->answered[who].fetch_add(1);
      }
      return true;
    });
  };
  // Told before acknowledged: a store that remembers totals counts none of it twice.
  std::map<std::pair<uint64_t, uint32_t>, uint64_t> totals;
  const auto exchange = [&](bool all) {
    view->for_each_use(all, [&](const KeyUse& use) {
      totals[{use.identity, use.nonce}] = use.total;
      view->acknowledge(use);
      return true;
    });
  };
  uint64_t kills = 0;
  std::vector<pid_t> pids;
  for (uint32_t who = 0; who < 4; ++who) pids.push_back(worker(who));
  const uint32_t rounds = scaled(60, 2000);
  for (uint32_t round = 0; round < rounds; ++round) {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
    exchange(round % 16 == 0);
    const uint32_t who = round % 4;
    kill(pids[who], SIGKILL);
    waitpid(pids[who], nullptr, 0);
    ++kills;
    pids[who] = worker(who);
  }
  for (const pid_t pid : pids) {
    kill(pid, SIGKILL);
    waitpid(pid, nullptr, 0);
    ++kills;
  }
  exchange(false);  // by the marks alone: none is missing
  const uint64_t by_marks = totals.size();
  exchange(true);
  EXPECT_EQ(totals.size(), by_marks);
  uint64_t told = 0;
  uint64_t answered = 0;
  for (const auto& [key, total] : totals) told += total;
  for (const auto& each : ledger->answered) answered += each.load();
  EXPECT_EQ(totals.size(), 3u);
  EXPECT_GE(told, answered);
  EXPECT_LE(told, answered + kills);
}

// Goal: all-or-nothing marks: a count that finds its bit set is seen by the look that follows the
// clearing. Method: one thread counts, one takes marks and looks; at the end nothing is untold
// without a mark.
TEST_F(ClusterTest, NoMarkIsLost) {
  start({{"p", "1000000000/d burst 4000000000 scope cluster"}});
  view_->set_hold_back(0, 0, 1);
  const PolicyHandle p = policy("p");
  for (uint32_t round = 0; round < scaled(300, 10000); ++round) {
    std::atomic<bool> done{false};
    std::thread counter([&] {
      for (int i = 0; i < 50; ++i) p.try_acquire("k");
      done = true;
    });
    const auto look = [&] {
      view_->for_each_use(false, [&](const KeyUse& use) {
        view_->acknowledge(use);
        return true;
      });
    };
    while (!done) look();
    counter.join();
    look();
    ASSERT_EQ(use().untold(), 0) << "round " << round;
  }
}

// What is used in the new table before its agent comes has a name to others.
TEST_F(ClusterTest, AResizedTableKnowsTheSecret) {
  start({{"p", "10/h scope cluster"}});
  ResizeOptions larger;
  larger.capacity = 1024;
  Options attach;
  attach.clock = ClockKind::kManual;
  attach.manual_clock_ns = &*clock_;
  const auto report = resize(name_->str(), larger, attach);
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_TRUE(policy("p").try_acquire("k", 3).admitted);
  auto view = ClusterView::attach(name_->str(), attach);
  ASSERT_TRUE(view.ok()) << view.status();
  view->set_secret(kSecret);
  view_.emplace(*std::move(view));
  EXPECT_EQ(use().untold(), 3);
}

TEST_F(ClusterTest, ABookingUnderAnOverrideDoesNotPassTheStoreBy) {
  start({{"p", "10/h"}, {"s", "5/h scope cluster strict on-unavailable deny"}});
  ASSERT_TRUE(limiter_.set_override("p", "k", "s").ok());
  const PolicyHandle p = policy("p");
  EXPECT_EQ(p.reserve("k", 1, kNever).decision.reason, Reason::kUnsupported);
  EXPECT_EQ(p.acquire("k", 1000).reason, Reason::kTierUnavailable);
}

TEST_F(ClusterTest, AShareEndsWithTheScope) {
  start({{"p", "3600/h burst 10 scope cluster"}});
  ASSERT_TRUE(view_->set_share(0, 100000).ok());
  ASSERT_TRUE(limiter_.change("p", "3600/h burst 10").ok());
  const PolicyHandle p = policy("p");
  EXPECT_EQ(passes(p, "k"), 10u);
  advance(10 * kSecond);
  EXPECT_EQ(passes(p, "k"), 10u);
  ASSERT_TRUE(view_->set_share(0, 100000).ok());  // by an agent that has not seen the change
  advance(10 * kSecond);
  EXPECT_EQ(passes(p, "k"), 10u);
}

TEST(ClusterTermsTest, UnitsAreExactAndSafe) {
  struct Case {
    const char* text;
    double most_error;
  };
  for (const Case& one :
       {Case{"100/m", 1e-6}, Case{"1/ns", 1e-3}, Case{"7/s burst 3", 1e-6},
        Case{"1000000/month", 1e-4}, Case{"1/y", 1e-6}, Case{"1000000000/s burst 4000000000", 1e-3},
        Case{"4000000000/y", 1e-3}, Case{"100/m forward", 1e-6}}) {
    const absl::StatusOr<Policy> policy = parse_policy(one.text);
    if (!policy.ok()) continue;
    const auto words = compile(*policy, {kEpoch, kEpoch});
    ASSERT_TRUE(words.ok()) << one.text;
    const Quota quota = quota_from(*words, 0);
    const RateTerms terms = terms_of(quota);
    const Rate& rate = policy->rates[0];
    const double exact = static_cast<double>(rate.period_ns) / 1000 / rate.limit;
    const double got = static_cast<double>(terms.permit_units) / terms.units_per_us;
    EXPECT_GE(got, exact * (1 - 1e-15)) << one.text;  // never more than the rate
    EXPECT_LE(got, exact * (1 + one.most_error)) << one.text;
    EXPECT_LT(terms.capacity_units, uint64_t{1} << 47) << one.text;
    EXPECT_EQ(terms.by_debt_before, rate.forward) << one.text;
    const uint64_t units = gcra::cost_units(quota, 1);
    EXPECT_EQ(from_exchanged(to_exchanged(units, quota, terms), quota, terms), units) << one.text;
  }
}

}  // namespace
}  // namespace brim::test
