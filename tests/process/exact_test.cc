// SPDX-License-Identifier: MIT
// P1, P2 between processes: what is admitted, summed over all of them, is the bound and no permit
// more; where everybody keeps asking, it is the bound exactly.
#include "tests/process/job.h"

namespace brim::test {
namespace {

enum class Start { kFork, kExec };

pid_t start_worker(Start start, const SharedBytes& bytes, const PolicyHandle& policy,
                   uint32_t worker) {
  if (start == Start::kFork) {
    return spawn([&] {
      run_job(*bytes.as<Job>(), policy, worker);
      return true;
    });
  }
  const std::string program = sibling("process_worker");
  const std::string fd = std::to_string(bytes.fd());
  const std::string index = std::to_string(worker);
  const pid_t pid = fork();
  if (pid == 0) {
    execl(program.c_str(), program.c_str(), fd.c_str(), index.c_str(), nullptr);
    _exit(127);
  }
  return pid;
}

struct Run {
  Start start;
  uint32_t workers;
  uint32_t keys;
};

class Exact : public ::testing::TestWithParam<Run> {
 protected:
  static void set_up(Job& job, const SegmentName& name, JobKind kind, uint32_t rounds,
                     uint32_t most) {
    job.kind = kind;
    job.workers = GetParam().workers;
    job.keys = GetParam().keys;
    job.rounds = rounds;
    job.most = most;
    job.clock_ns = kEpoch;
    std::snprintf(job.segment, sizeof(job.segment), "%s", name.str().c_str());
  }
  static std::vector<pid_t> start_all(const SharedBytes& bytes, const PolicyHandle& policy) {
    std::vector<pid_t> pids;
    for (uint32_t i = 0; i < GetParam().workers; ++i) {
      pids.push_back(start_worker(GetParam().start, bytes, policy, i));
    }
    return pids;
  }
  static void finish_all(const std::vector<pid_t>& pids) {
    for (const pid_t pid : pids) EXPECT_TRUE(succeeded(pid));
  }
};

// Goal: at one instant exactly the burst is admitted of every key, however many processes race for
//   its insertion and its last permit.
// Method: the clock stands; each round has new keys; every process asks for each until refused.
TEST_P(Exact, FrozenClock) {
  const SegmentName name;
  constexpr uint32_t kBurst = 7;
  const uint32_t rounds = GetParam().keys == 1 ? scaled(2000, 50000) : scaled(4, 40);
  const SharedBytes bytes(Job::bytes(rounds, GetParam().keys));
  Job& job = *bytes.as<Job>();
  set_up(job, name, JobKind::kFrozen, rounds, kBurst + 3);
  const auto limiter =
      Limiter::create(name.str(), manual(&job.clock_ns, rounds * uint64_t{job.keys} * 5 / 4 + 64,
                                         "100/s burst 7 on-unavailable deny"));
  ASSERT_TRUE(limiter.ok()) << limiter.status();
  finish_all(start_all(bytes, *limiter->policy("p")));
  uint64_t wrong = 0;
  for (uint32_t i = 0; i < rounds * job.keys; ++i) wrong += job.admitted()[i] != kBurst ? 1 : 0;
  EXPECT_EQ(wrong, 0u);
  EXPECT_EQ(job.unavailable, 0u);
  const Raw raw(name.str(), &job.clock_ns);
  EXPECT_EQ(raw.sum(0, shm::PolicyCounter::kAllowed), uint64_t{kBurst} * rounds * job.keys);
  EXPECT_EQ(raw.sum(0, shm::PolicyCounter::kAllowed) + raw.sum(0, shm::PolicyCounter::kDenied),
            job.operations);
  EXPECT_EQ(raw.sum(shm::Event::kEvictedLive), 0u);
  std::vector<PolicyKey> known;
  for (uint32_t r = 0; r < rounds; ++r) {
    for (uint32_t k = 0; k < job.keys; ++k) known.push_back({0, job_key(job, r, k)});
  }
  EXPECT_TRUE(table_is_legal(raw, known));
  std::printf("exact frozen: %u rounds, %lu operations, adopted %lu, dropped %lu, retries %lu\n",
              rounds, job.operations.load(), raw.sum(shm::Event::kAdopted),
              raw.sum(shm::Event::kDropped), raw.sum(shm::Event::kCasRetry));
}

// Goal: the same while slots change hands: equality at every step of the clock.
// Method: two sets of keys take turns in a table that holds one and a half sets; between rounds
//   the clock moves on until all is idle, so that each round claims the other set's slots.
TEST_P(Exact, SteppedClock) {
  const SegmentName name;
  constexpr uint32_t kBurst = 3;
  const uint32_t rounds = GetParam().keys == 1 ? scaled(2000, 50000) : scaled(12, 120);
  const SharedBytes bytes(Job::bytes(rounds, GetParam().keys));
  Job& job = *bytes.as<Job>();
  set_up(job, name, JobKind::kStepped, rounds, kBurst + 3);
  job.step_ns = 40 * kMs;
  const auto limiter =
      Limiter::create(name.str(), manual(&job.clock_ns, job.keys == 1 ? 1 : job.keys * 3 / 2,
                                         "100/s burst 3 on-unavailable deny"));
  ASSERT_TRUE(limiter.ok()) << limiter.status();
  finish_all(start_all(bytes, *limiter->policy("p")));
  uint64_t wrong = 0;
  for (uint32_t i = 0; i < rounds * job.keys; ++i) wrong += job.admitted()[i] != kBurst ? 1 : 0;
  EXPECT_EQ(wrong, 0u);
  EXPECT_EQ(job.unavailable, 0u);
  const Raw raw(name.str(), &job.clock_ns);
  EXPECT_EQ(raw.sum(shm::Event::kEvictedLive), 0u);
  std::vector<PolicyKey> known;
  for (uint32_t r = 0; r < 2; ++r) {
    for (uint32_t k = 0; k < job.keys; ++k) known.push_back({0, job_key(job, r, k)});
  }
  EXPECT_TRUE(table_is_legal(raw, known));
  std::printf("exact stepped: %u rounds, %lu operations, reclaimed %lu\n", rounds,
              job.operations.load(), raw.sum(shm::Event::kReclaimed));
}

// Goal: P1 and P2 on the real clock: burst + rate * elapsed, from an outside observer's view.
// Method: endless demand for a second; the parent's readings before the first and after the last
//   call bound it from above; the end of the first pass and the start of the last from below.
TEST_P(Exact, RunningClock) {
  const SegmentName name;
  const bool one = GetParam().keys == 1;
  const uint32_t burst = one ? 400 : 20;
  const uint32_t limit = one ? 200 : 1;  // 2 s and 20 s to refill: never idle in between
  const SharedBytes bytes(Job::bytes(1, GetParam().keys));
  Job& job = *bytes.as<Job>();
  set_up(job, name, JobKind::kEndless, 1, 1000);
  Options options = manual(nullptr, GetParam().keys * 3 / 2 + 64, "");
  options.clock = ClockKind::kAuto;
  options.policies = {
      {"p", std::to_string(limit) + "/s burst " + std::to_string(burst) + " on-unavailable deny"}};
  const auto limiter = Limiter::create(name.str(), options);
  ASSERT_TRUE(limiter.ok()) << limiter.status();
  const std::vector<pid_t> pids = start_all(bytes, *limiter->policy("p"));
  const int64_t before = monotonic_now_ns();
  job.barrier.wait(job.workers + 1);
  usleep(slow() ? 10000000 : 1000000);
  job.stop = 1;
  finish_all(pids);
  const int64_t after = monotonic_now_ns();
  int64_t first = INT64_MAX;
  int64_t last = 0;
  for (uint32_t i = 0; i < job.workers; ++i) {
    first = std::min(first, job.times[i].first_pass_end.load());
    last = std::max(last, job.times[i].last_pass_start.load());
  }
  const uint64_t most = burst + refill(limit, after - before + 2 * kClockSkewNs);
  const uint64_t least = burst + refill(limit, last - first - 2 * kClockSkewNs);
  uint64_t sum = 0;
  for (uint32_t i = 0; i < job.keys; ++i) {
    EXPECT_LE(job.admitted()[i], most);
    EXPECT_GE(job.admitted()[i], least);
    sum += job.admitted()[i];
  }
  EXPECT_EQ(job.unavailable, 0u);
  std::printf("exact running: %lu operations, per key %.2f of %lu .. %lu permitted\n",
              job.operations.load(), static_cast<double>(sum) / job.keys, least, most);
}

INSTANTIATE_TEST_SUITE_P(Process, Exact,
                         ::testing::Values(Run{Start::kFork, 2, 1}, Run{Start::kFork, 4, 1},
                                           Run{Start::kFork, 8, 1}, Run{Start::kExec, 2, 1},
                                           Run{Start::kExec, 4, 1}, Run{Start::kExec, 8, 1},
                                           Run{Start::kFork, 2, 10000}, Run{Start::kFork, 4, 10000},
                                           Run{Start::kFork, 8, 10000}, Run{Start::kExec, 2, 10000},
                                           Run{Start::kExec, 4, 10000},
                                           Run{Start::kExec, 8, 10000}),
                         [](const ::testing::TestParamInfo<Run>& run) {
                           return std::string(run.param.start == Start::kFork ? "Fork" : "Exec") +
                                  std::to_string(run.param.workers) + "Keys" +
                                  std::to_string(run.param.keys);
                         });

}  // namespace
}  // namespace brim::test
