// SPDX-License-Identifier: MIT
// The exactness checks by threads over one mapping, without fork: for ThreadSanitizer, which sees
// one process only.
#include <thread>

#include "tests/process/job.h"

namespace brim::test {
namespace {

struct Run {
  uint32_t threads;
  uint32_t keys;
  bool names;
};

class Threads : public ::testing::TestWithParam<Run> {
 protected:
  void open(JobKind kind, uint32_t rounds, uint32_t most, uint64_t capacity,
            const std::string& policy) {
    bytes_ = std::make_unique<SharedBytes>(Job::bytes(rounds, GetParam().keys));
    Job& job = *bytes_->as<Job>();
    job.kind = kind;
    job.workers = GetParam().threads;
    job.keys = GetParam().keys;
    job.rounds = rounds;
    job.most = most;
    job.step_ns = 40 * kMs;
    job.clock_ns = kEpoch;
    Options options = manual(&job.clock_ns, capacity, policy);
    if (kind == JobKind::kEndless) options.clock = ClockKind::kAuto;
    if (GetParam().names) options.name_bytes = 24;
    auto limiter = Limiter::create(name_.str(), options);
    ASSERT_TRUE(limiter.ok()) << limiter.status();
    policy_ = *limiter->policy("p");
  }
  Job& job() const { return *bytes_->as<Job>(); }
  std::vector<std::thread> start() const {
    std::vector<std::thread> threads;
    for (uint32_t i = 0; i < GetParam().threads; ++i) {
      threads.emplace_back([this, i] { run_job(job(), policy_, i); });
    }
    return threads;
  }
  uint64_t wrong(uint32_t burst) const {
    uint64_t count = 0;
    for (uint32_t i = 0; i < job().rounds * job().keys; ++i) {
      count += job().admitted()[i] != burst ? 1 : 0;
    }
    return count;
  }

  SegmentName name_;
  std::unique_ptr<SharedBytes> bytes_;
  PolicyHandle policy_;
};

// Goal: exactly the burst at one instant; new keys in every round.
TEST_P(Threads, FrozenClock) {
  const uint32_t rounds = GetParam().keys == 1 ? scaled(4000, 40000) : scaled(8, 100);
  open(JobKind::kFrozen, rounds, 10, rounds * uint64_t{GetParam().keys} * 5 / 4 + 64,
       "100/s burst 7 on-unavailable deny");
  for (std::thread& thread : start()) thread.join();
  EXPECT_EQ(wrong(7), 0u);
  EXPECT_EQ(job().unavailable, 0u);
  const Raw raw(name_.str(), &job().clock_ns);
  EXPECT_EQ(raw.sum(0, shm::PolicyCounter::kAllowed), uint64_t{7} * rounds * job().keys);
  std::printf("threads frozen: %lu operations, adopted %lu, dropped %lu\n", job().operations.load(),
              raw.sum(shm::Event::kAdopted), raw.sum(shm::Event::kDropped));
}

// Goal: the same while slots change hands at every step of the clock.
TEST_P(Threads, SteppedClock) {
  const uint32_t rounds = GetParam().keys == 1 ? scaled(4000, 40000) : scaled(40, 400);
  open(JobKind::kStepped, rounds, 6, GetParam().keys == 1 ? 1 : GetParam().keys * 3 / 2,
       "100/s burst 3 on-unavailable deny");
  for (std::thread& thread : start()) thread.join();
  EXPECT_EQ(wrong(3), 0u);
  EXPECT_EQ(job().unavailable, 0u);
  const Raw raw(name_.str(), &job().clock_ns);
  EXPECT_EQ(raw.sum(shm::Event::kEvictedLive), 0u);
  std::vector<PolicyKey> known;
  for (uint32_t r = 0; r < 2; ++r) {
    for (uint32_t k = 0; k < job().keys; ++k) known.push_back({0, job_key(job(), r, k)});
  }
  EXPECT_TRUE(table_is_legal(raw, known));
}

// Goal: the bound on the real clock, from an outside view and from an inside one.
TEST_P(Threads, RunningClock) {
  open(JobKind::kEndless, 1, 1000, GetParam().keys * 3 / 2 + 64,
       "1/s burst 20 on-unavailable deny");
  std::vector<std::thread> threads = start();
  const int64_t before = monotonic_now_ns();
  job().barrier.wait(job().workers + 1);
  usleep(1000000);
  job().stop = 1;
  for (std::thread& thread : threads) thread.join();
  const uint64_t most = 20 + refill(1, monotonic_now_ns() - before + 2 * kClockSkewNs);
  for (uint32_t i = 0; i < job().keys; ++i) {
    EXPECT_LE(job().admitted()[i], most);
    EXPECT_GE(job().admitted()[i], 20u);
  }
  EXPECT_EQ(job().unavailable, 0u);
}

// Goal: calls of every kind, an inspector and newly defined policies beside each other.
// Method: nothing but the sanitizer and the final count of one key is asked.
TEST_P(Threads, EveryCallAtOnce) {
  open(JobKind::kStepped, 1, 1, 256, "1000/s burst 5 on-unavailable deny");
  Options options = manual(&job().clock_ns, 0, "1000/s burst 5 on-unavailable deny");
  options.accept_stored = true;
  const auto limiter = Limiter::attach(name_.str(), options);
  ASSERT_TRUE(limiter.ok()) << limiter.status();
  std::vector<std::thread> threads;
  for (uint32_t t = 0; t < GetParam().threads; ++t) {
    threads.emplace_back([&, t] {
      std::mt19937_64 random(t);
      std::string_view batch[3] = {"k1", "k2", "k3"};
      Decision out[3];
      for (uint32_t i = 0; i < scaled(20000, 200000); ++i) {
        const std::string key = "k" + std::to_string(random() % 600);
        switch (random() % 8) {
          case 0:
            (void)policy_.refund(key);
            break;
          case 1:
            (void)policy_.reset(key);
            break;
          case 2:
            policy_.try_acquire_batch(batch, out);
            break;
          case 3:
            (void)policy_.peek(key, 1);
            break;
          default:
            (void)policy_.try_acquire(key);
        }
        if (i % 64 == 0) job().clock_ns.fetch_add(kMs);
        if (i % 5000 == 0) (void)limiter->define("more" + std::to_string(random() % 20), "1/s");
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  std::vector<PolicyKey> known;
  for (int k = 0; k < 600; ++k) known.push_back({0, "k" + std::to_string(k)});
  EXPECT_TRUE(table_is_legal(Raw(name_.str(), &job().clock_ns), known));
}

INSTANTIATE_TEST_SUITE_P(Threads, Threads,
                         ::testing::Values(Run{4, 1, false}, Run{8, 1, false}, Run{4, 500, false},
                                           Run{8, 500, false}, Run{8, 1, true}, Run{8, 500, true}),
                         [](const ::testing::TestParamInfo<Run>& run) {
                           return std::to_string(run.param.threads) + "Keys" +
                                  std::to_string(run.param.keys) + (run.param.names ? "Named" : "");
                         });

}  // namespace
}  // namespace brim::test
