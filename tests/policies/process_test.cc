// SPDX-License-Identifier: MIT
// P1 and P2 for every algorithm between processes: exact sums at one instant, bounds on a running
// clock while workers are killed, leases that come back, and live change under load.
#include "tests/policies/support.h"

namespace brim::test {
namespace {

constexpr uint32_t kWorkers = 4;

// What a worker tells the observer, in shared memory: a kill loses at most the last call.
struct Ledger {
  std::atomic<int64_t> clock_ns;
  Barrier barrier;
  std::atomic<uint64_t> asked[kWorkers + 1];
  std::atomic<uint64_t> admitted[512];  // by key
  std::atomic<uint64_t> unavailable;
  std::atomic<uint32_t> stop;
  std::atomic<uint32_t> holds[kWorkers];
  std::atomic<uint32_t> most_held;
};

const char* const kAlgorithms[] = {"7/s",
                                   "token-bucket 7/s burst 5 debt 2",
                                   "gcra 7/s forward",
                                   "queue 7/s burst 6",
                                   "fixed-window 7/h",
                                   "fixed-window 7/s first-hit",
                                   "calendar-window 7/year",
                                   "sliding-log 7/s",
                                   "sliding-log 7/s inclusive",
                                   "sliding-counter 7/h",
                                   "sliding-counter 7/h floor count-denied",
                                   "fixed-window 7/h count-denied",
                                   "7/s; 9/m; 100/h",
                                   "fixed-window 20/h; sliding-log 7/s; 30/m",
                                   "7/s ban 10000 in 1h for 1s",
                                   "7/s scope cluster",
                                   "7/s; 9/m scope cluster"};

class EveryAlgorithm : public ::testing::TestWithParam<const char*> {
 protected:
  absl::StatusOr<Limiter> create(ClockKind clock, uint64_t capacity) {
    Options options;
    options.capacity = capacity;
    options.clock = clock;
    options.manual_clock_ns = &ledger_->clock_ns;
    options.policies = {{"p", std::string(GetParam()) + " on-unavailable deny"}};
    return Limiter::create(name_.str(), options);
  }
  SegmentName name_;
  Shared<Ledger> ledger_;
};

// Goal: at one instant exactly the limit of each key is admitted, summed over all processes.
// Method: the clock stands; new keys in each round; everybody asks until refused many times in a
//   row, since a policy of several rates may refuse while another call is being undone.
TEST_P(EveryAlgorithm, FrozenClockAdmitsTheLimitExactly) {
  ledger_->clock_ns = kEpoch;
  const uint32_t rounds = scaled(120, 3000);
  constexpr uint32_t kKeys = 4;
  const auto limiter = create(ClockKind::kManual, rounds * kKeys * 8);
  ASSERT_TRUE(limiter.ok()) << limiter.status();
  const PolicyHandle policy = *limiter->policy("p");
  const SharedBytes bytes(sizeof(std::atomic<uint32_t>) * rounds * kKeys);
  auto* const admitted = bytes.as<std::atomic<uint32_t>>();
  std::vector<pid_t> pids;
  for (uint32_t worker = 0; worker < kWorkers; ++worker) {
    pids.push_back(spawn([&] {
      for (uint32_t round = 0; round < rounds; ++round) {
        ledger_->barrier.wait(kWorkers);
        for (uint32_t i = 0; i < kKeys; ++i) {
          const uint32_t key = round * kKeys + (i + worker) % kKeys;
          const std::string text = "key" + std::to_string(key);
          for (uint32_t refused = 0; refused < 40;) {
            const Decision decision = policy.try_acquire(text);
            if (decision.verdict == Verdict::kUnavailable) ledger_->unavailable.fetch_add(1);
            if (decision.admitted) admitted[key].fetch_add(1);
            refused = decision.admitted ? 0 : refused + 1;
            if (refused % 10 == 9) sched_yield();
          }
        }
      }
      return true;
    }));
  }
  for (const pid_t pid : pids) EXPECT_TRUE(succeeded(pid));
  uint64_t over = 0;
  uint64_t under = 0;
  for (uint32_t i = 0; i < rounds * kKeys; ++i) {
    over += admitted[i] > 7 ? 1 : 0;
    under += admitted[i] < 7 ? 1 : 0;
  }
  EXPECT_EQ(over, 0u);
  EXPECT_EQ(under, 0u);
  EXPECT_EQ(ledger_->unavailable, 0u);
}

// Goal: whatever dies, no more is admitted than the limit at one instant, and no less but for one
//   call of each killed process.
// Method: the clock stands, workers are killed at random instants and others take their place; the
//   observer compares what they noted with what is left.
TEST_P(EveryAlgorithm, KilledWorkersLoseAtMostTheirLastCall) {
  ledger_->clock_ns = kEpoch;
  constexpr uint32_t kKeys = 512;
  const uint32_t rounds = scaled(30, 1000);
  const auto limiter = create(ClockKind::kManual, rounds * kKeys * 8);
  ASSERT_TRUE(limiter.ok()) << limiter.status();
  const PolicyHandle policy = *limiter->policy("p");
  std::mt19937 random(7);
  uint64_t kills = 0;
  uint64_t lost = 0;
  for (uint32_t round = 0; round < rounds; ++round) {
    for (auto& count : ledger_->admitted) count = 0;
    ledger_->stop = 0;
    const auto text = [&](uint32_t key) {
      return std::to_string(round) + "/" + std::to_string(key);
    };
    std::vector<pid_t> pids;
    for (uint32_t worker = 0; worker < kWorkers; ++worker) {
      pids.push_back(spawn([&] {
        for (uint32_t i = worker * 3; ledger_->stop == 0; ++i) {
          const uint32_t key = i % kKeys;
          if (policy.try_acquire(text(key)).admitted) ledger_->admitted[key].fetch_add(1);
        }
        return true;
      }));
    }
    usleep(static_cast<useconds_t>(random() % 1500));
    for (uint32_t i = 0; i < 2; ++i, ++kills) kill_and_reap(pids[i]);
    ledger_->stop = 1;
    for (uint32_t i = 2; i < kWorkers; ++i) EXPECT_TRUE(succeeded(pids[i]));
    uint64_t total = 0;
    for (uint32_t key = 0; key < kKeys; ++key) {
      uint32_t more = 0;
      drain(policy, text(key), more, 100);
      const uint64_t sum = ledger_->admitted[key] + more;
      EXPECT_LE(sum, 7u) << GetParam();
      total += sum;
    }
    lost += 7 * kKeys - total;
  }
  EXPECT_LE(lost, kills);
  std::printf("%s: %lu kills, %lu calls lost\n", GetParam(), kills, lost);
}

INSTANTIATE_TEST_SUITE_P(Policies, EveryAlgorithm, ::testing::ValuesIn(kAlgorithms));

// Goal: never more than `limit` leases at once, seen from outside; a killed holder's lease is back
//   as soon as it is buried.
TEST(LeasesBetweenProcesses, NeverMoreThanTheLimitAndBackFromTheDead) {
  const SegmentName name;
  const Shared<Ledger> ledger;
  Options options;
  options.capacity = 64;
  options.policies = {{"c", "concurrency 2 ttl 30s"}};
  const auto limiter = Limiter::create(name.str(), options);
  ASSERT_TRUE(limiter.ok()) << limiter.status();
  const PolicyHandle policy = *limiter->policy("c");
  const auto work = [&](uint32_t worker) {
    while (ledger->stop == 0) {
      const Lease lease = policy.acquire_lease("k");
      if (!lease) continue;
      ledger->holds[worker] =
          1;  // set after, cleared before: never too many by the observer's fault
      uint32_t held = 0;
      for (const auto& one : ledger->holds) held += one;
      if (held > ledger->most_held) ledger->most_held = held;
      ledger->admitted[0].fetch_add(1);
      ledger->holds[worker] = 0;
      policy.release(lease);
    }
    return true;
  };
  std::mt19937 random(11);
  std::vector<pid_t> pids;
  for (uint32_t i = 0; i < kWorkers; ++i) pids.push_back(spawn([&, i] { return work(i); }));
  const uint32_t rounds = scaled(100, 5000);
  for (uint32_t round = 0; round < rounds; ++round) {
    usleep(static_cast<useconds_t>(random() % 3000));
    const uint32_t victim = round % kWorkers;
    kill_and_reap(pids[victim]);
    ledger->holds[victim] = 0;
    pids[victim] = spawn([&, victim] { return work(victim); });
  }
  ledger->stop = 1;
  for (const pid_t pid : pids) EXPECT_TRUE(succeeded(pid));
  EXPECT_LE(ledger->most_held, 2u);
  EXPECT_GT(ledger->admitted[0], rounds);
  // All holders are gone, some by kill: both leases are to be had at once.
  EXPECT_TRUE(policy.acquire_lease("k"));
  EXPECT_TRUE(policy.acquire_lease("k"));
  EXPECT_FALSE(policy.acquire_lease("k"));
  std::printf("leases: %lu taken, %u kills, at most %u at once\n", ledger->admitted[0].load(),
              rounds, ledger->most_held.load());
}

// Goal: live change under load: never more than the larger policy admits, whoever is killed in the
//   middle; the policy is the old or the new one.
TEST(ChangeBetweenProcesses, OldOrNewUnderLoadAndKills) {
  const SegmentName name;
  const Shared<Ledger> ledger;
  const std::string texts[2] = {"50/s burst 10; 1000/h", "100/s burst 20; 2000/h"};
  Options options;
  options.capacity = 64;
  options.policies = {{"p", texts[0] + " on-unavailable deny"}};
  const auto limiter = Limiter::create(name.str(), options);
  ASSERT_TRUE(limiter.ok()) << limiter.status();
  const PolicyHandle policy = *limiter->policy("p");
  const int64_t start = monotonic_now_ns();
  std::vector<pid_t> workers;
  for (uint32_t worker = 0; worker < 3; ++worker) {
    workers.push_back(spawn([&] {
      while (ledger->stop == 0) {
        const Decision decision = policy.try_acquire("k");
        if (decision.verdict == Verdict::kUnavailable) ledger->unavailable.fetch_add(1);
        if (decision.admitted) ledger->admitted[0].fetch_add(1);
      }
      return true;
    }));
  }
  std::mt19937 random(3);
  const uint32_t rounds = scaled(150, 3000);
  for (uint32_t round = 0; round < rounds; ++round) {
    const pid_t writer = spawn([&] {
      for (uint32_t i = 0;; ++i) {
        if (!limiter->change("p", texts[i % 2] + " on-unavailable deny").ok()) return false;
        if (i % 7 == 0 && !limiter->set_factor("p", 500000 + i % 500000).ok()) return false;
      }
    });
    usleep(static_cast<useconds_t>(random() % 4000));
    kill_and_reap(writer);
    const std::string text = policy_text(policy.policy());
    EXPECT_TRUE(text.find(policy_text(*parse_policy(texts[0]))) == 0 ||
                text.find(policy_text(*parse_policy(texts[1]))) == 0)
        << text;
  }
  ledger->stop = 1;
  for (const pid_t pid : workers) EXPECT_TRUE(succeeded(pid));
  const int64_t elapsed = monotonic_now_ns() - start;
  EXPECT_LE(ledger->admitted[0], 20 + refill(100, elapsed + 2 * kClockSkewNs));
  EXPECT_GT(ledger->admitted[0], 10u);
  EXPECT_EQ(ledger->unavailable, 0u);
  std::printf("change: %u writers killed, %lu admitted in %ld ms\n", rounds,
              ledger->admitted[0].load(), elapsed / kMs);
}

}  // namespace
}  // namespace brim::test
