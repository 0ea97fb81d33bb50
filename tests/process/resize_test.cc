// SPDX-License-Identifier: MIT
// Resizing under traffic: what is admitted of a key, summed over all processes and tables, is never
// more than its policy, and what a resize loses on the strict side is a permit for each call in
// flight.
#include "brim/resize.h"

#include "tests/process/support.h"

namespace brim::test {
namespace {

constexpr uint32_t kLimit = 100;
constexpr uint32_t kKeys = 24;  // of each policy
constexpr uint32_t kWorkers = 4;

// Nothing flows back within a test; every kind of state there is.
const std::vector<NamedPolicy>& all_policies() {
  static const std::vector<NamedPolicy> list = {{"gcra", "100/d"},
                                                {"bucket", "token-bucket 100/d"},
                                                {"window", "fixed-window 100/d first-hit"},
                                                {"counter", "sliding-counter 100/d"},
                                                {"log", "sliding-log 100/d"},
                                                {"several", "100/d; 200/d; sliding-log 150/d"},
                                                {"vip", "100/d"}};
  return list;
}

struct Count {
  std::atomic<uint32_t> stop;
  std::atomic<uint32_t> unavailable;
  std::atomic<uint64_t> calls;
  std::atomic<uint32_t> admitted[7 * kKeys];
};

std::string key_name(uint32_t key) {
  // Long ones are kept by their beginning.
  return (key % 3 == 0 ? std::string(70, 'x') : std::string()) + "key" + std::to_string(key);
}

// Asks for every key of every policy, over and over, until all refuse after `stop`.
bool hammer(const Limiter& limiter, Count& count, uint32_t seed, uint32_t pause_us = 0) {
  std::vector<PolicyHandle> policies;
  for (const NamedPolicy& policy : all_policies()) policies.push_back(*limiter.policy(policy.name));
  std::mt19937 random(seed);
  const auto total = static_cast<uint32_t>(policies.size()) * kKeys;
  for (;;) {
    const bool last = count.stop.load() != 0;
    bool any = false;
    const uint32_t start = static_cast<uint32_t>(random()) % total;
    for (uint32_t i = 0; i < total; ++i) {
      const uint32_t which = (start + i) % total;
      const Decision decision = policies[which / kKeys].try_acquire(key_name(which % kKeys));
      count.calls.fetch_add(1, std::memory_order_relaxed);
      if (decision.verdict == Verdict::kUnavailable) count.unavailable.fetch_add(1);
      if (decision.verdict == Verdict::kAllowed) count.admitted[which].fetch_add(1);
      any = any || decision.admitted;
      if (i % 8 == 0) pause_us == 0 || last ? sched_yield() : usleep(pause_us);
    }
    if (last && !any) return true;
  }
}

class Resize : public ::testing::Test {
 protected:
  void create(bool manual_clock) {
    clock_->store(kEpoch);
    options_.capacity = 2000;
    options_.policies = all_policies();
    if (manual_clock) {
      options_.clock = ClockKind::kManual;
      options_.manual_clock_ns = &*clock_;
    }
    limiter_ = *Limiter::create(name_.str(), options_);
    for (uint32_t key = 0; key < kKeys; key += 5) {
      ASSERT_TRUE(limiter_.set_override("counter", key_name(key), "vip").ok());
    }
    access_ = options_;
    access_.capacity = 0;
    access_.policies.clear();
  }
  // Keys that follow "vip" are the same key there.
  static bool follows_vip(uint32_t which) {
    return which / kKeys == 2 + 1 && which % kKeys % 5 == 0;
  }

  // What was admitted beyond the limit, and short of it.
  void sum_up(uint64_t& over, uint64_t& under) const {
    over = under = 0;
    for (uint32_t which = 0; which < 7 * kKeys; ++which) {
      if (follows_vip(which)) continue;
      uint64_t admitted = count_->admitted[which];
      if (which / kKeys == 6 && which % kKeys % 5 == 0) {
        admitted += count_->admitted[3 * kKeys + which % kKeys];
      }
      if (admitted > kLimit) over += admitted - kLimit;
      if (admitted < kLimit) under += kLimit - admitted;
    }
  }

  SegmentName name_;
  Shared<std::atomic<int64_t>> clock_;
  Shared<Count> count_;
  Options options_;
  Options access_;
  Limiter limiter_;
};

// Goal: exactly the limit, but for calls that were in flight at a switch.
// Method: four processes ask for everything while the table grows and shrinks under them.
TEST_F(Resize, NeverMoreThanThePolicy) {
  create(true);
  std::vector<pid_t> pids;
  for (uint32_t i = 0; i < kWorkers; ++i) {
    pids.push_back(spawn([&] { return hammer(limiter_, *count_, i + 1); }));
  }
  const uint32_t resizes = scaled(12, 200);
  uint64_t keys = 0;
  for (uint32_t i = 0; i < resizes; ++i) {
    const auto report = resize(name_.str(), {.capacity = i % 2 == 0 ? 6000u : 1000u}, access_);
    ASSERT_TRUE(report.ok()) << report.status();
    EXPECT_EQ(report->evicted, 0u);
    keys = report->keys;
    const uint64_t goal = count_->calls + 300;
    while (count_->calls < goal) sched_yield();
  }
  count_->stop = 1;
  for (const pid_t pid : pids) EXPECT_TRUE(succeeded(pid));
  uint64_t over = 0;
  uint64_t under = 0;
  sum_up(over, under);
  EXPECT_EQ(over, 0u);
  EXPECT_LE(under, uint64_t{resizes} * kWorkers);
  EXPECT_EQ(count_->unavailable, 0u);
  // This process made no call meanwhile: it follows the whole line at once; so does a newcomer.
  const Limiter newcomer = *Limiter::attach(name_.str(), access_);
  for (const NamedPolicy& policy : all_policies()) {
    EXPECT_FALSE(limiter_.policy(policy.name)->try_acquire(key_name(1))) << policy.name;
    EXPECT_FALSE(newcomer.policy(policy.name)->try_acquire(key_name(1))) << policy.name;
  }
  const SegmentInfo info = Inspector::attach(name_.str())->info();
  EXPECT_EQ(info.generation, resizes);
  EXPECT_FALSE(info.superseded || info.filling);
  EXPECT_TRUE(info.linked);
  std::printf("resize: %u resizes, %lu calls, %lu keys in the last, %lu permits lost in flight\n",
              resizes, count_->calls.load(), keys, under);
}

// Goal: the same while whoever resizes and whoever calls is killed at any moment.
TEST_F(Resize, Killed) {
  create(false);
  std::mt19937 random(7);
  const auto start_worker = [&](uint32_t seed) {
    return spawn([&, seed] {
      // Some begin as newcomers.
      if (seed % 2 == 0) return hammer(limiter_, *count_, seed, 1500);
      const absl::StatusOr<Limiter> own = Limiter::attach(name_.str(), access_);
      return own.ok() && hammer(*own, *count_, seed, 1500);
    });
  };
  uint32_t seed = 1;
  std::vector<pid_t> pids;
  for (uint32_t i = 0; i < kWorkers; ++i) pids.push_back(start_worker(seed++));
  const uint32_t rounds = scaled(80, 1500);
  uint32_t deaths = 0;
  uint32_t finished = 0;
  for (uint32_t i = 0; i < rounds; ++i) {
    const pid_t resizer = spawn([&] {
      for (uint32_t n = 0;; ++n) {
        (void)resize(name_.str(), {.capacity = n % 2 == 0 ? 6000u : 1000u}, access_);
      }
      return true;
    });
    const auto until = monotonic_now_ns() + static_cast<int64_t>(random() % 25000000);
    while (monotonic_now_ns() < until) sched_yield();
    kill_and_reap(resizer);
    if (i % 4 == 0) {
      pid_t& victim = pids[i / 4 % kWorkers];
      kill_and_reap(victim);
      ++deaths;
      victim = start_worker(seed++);
    }
    if (i % 16 == 15) {
      const auto report = resize(name_.str(), {}, access_);
      // A key whose process was killed before it wrote its name holds this up, no more.
      if (report.ok()) ++finished;
    }
  }
  EXPECT_GT(finished, 0u);
  count_->stop = 1;
  for (const pid_t pid : pids) EXPECT_TRUE(succeeded(pid));
  uint64_t over = 0;
  uint64_t under = 0;
  sum_up(over, under);
  const uint64_t generation = Inspector::attach(name_.str())->info().generation;
  // A worker that is killed between a call and its count loses one more.
  EXPECT_EQ(over, 0u);
  EXPECT_LE(under, (generation + 1) * kWorkers + deaths * 3);
  EXPECT_EQ(count_->unavailable, 0u);
  std::printf("resize killed: %u rounds, generation %lu, %lu calls, %lu permits lost in flight\n",
              rounds, generation, count_->calls.load(), under);
}

}  // namespace
}  // namespace brim::test
