// SPDX-License-Identifier: MIT
// One exactness run, described in shared memory so that forked threads, forked processes and
// exec'ed helpers do the same work: who counts how many admissions of which key in which round.
#ifndef BRIM_TESTS_PROCESS_JOB_H_
#define BRIM_TESTS_PROCESS_JOB_H_

#include "tests/process/support.h"

namespace brim::test {

enum class JobKind : uint32_t {
  kFrozen,   // the clock stands; new keys in every round
  kStepped,  // worker 0 moves the clock on before every round; two sets of keys take turns
  kEndless,  // real clock; passes over the keys until `stop`
};

inline constexpr uint32_t kMaxWorkers = 64;

struct Job {
  JobKind kind;
  uint32_t workers;
  uint32_t keys;
  uint32_t rounds;
  uint32_t most;  // attempts on one key in one visit
  int64_t step_ns;
  char segment[96];
  std::atomic<int64_t> clock_ns;
  Barrier barrier;
  std::atomic<uint32_t> stop;
  std::atomic<uint64_t> operations;
  std::atomic<uint64_t> unavailable;
  struct Times {
    std::atomic<int64_t> first_pass_end;
    std::atomic<int64_t> last_pass_start;
  } times[kMaxWorkers];

  // Follows the struct: rounds * keys counts of admissions.
  std::atomic<uint32_t>* admitted() { return reinterpret_cast<std::atomic<uint32_t>*>(this + 1); }
  static size_t bytes(uint32_t rounds, uint32_t keys) {
    return sizeof(Job) + size_t{rounds} * keys * sizeof(uint32_t);
  }
};

inline std::string job_key(const Job& job, uint32_t round, uint32_t key) {
  const uint32_t set = job.kind == JobKind::kFrozen    ? round
                       : job.kind == JobKind::kStepped ? round % 2
                                                       : 0;
  return "set" + std::to_string(set) + "/key" + std::to_string(key);
}

// One pass over the keys from a place of the worker's own, each until it is refused.
inline void job_pass(Job& job, const PolicyHandle& policy, const std::vector<std::string>& names,
                     uint32_t round, uint32_t worker) {
  const uint32_t start = job.keys * worker / job.workers;
  uint64_t operations = 0;
  uint64_t unavailable = 0;
  for (uint32_t i = 0; i < job.keys; ++i) {
    const uint32_t key = (start + i) % job.keys;
    uint32_t admitted = 0;
    for (uint32_t n = 0; n < job.most; ++n) {
      const Decision decision = policy.try_acquire(names[key]);
      ++operations;
      if (decision.verdict == Verdict::kUnavailable) ++unavailable;
      if (!decision.admitted) break;
      ++admitted;
    }
    if (admitted != 0) job.admitted()[round * job.keys + key].fetch_add(admitted);
  }
  job.operations.fetch_add(operations);
  job.unavailable.fetch_add(unavailable);
}

inline void run_job(Job& job, const PolicyHandle& policy, uint32_t worker) {
  std::vector<std::string> names(job.keys);
  const auto fill = [&](uint32_t round) {
    for (uint32_t i = 0; i < job.keys; ++i) names[i] = job_key(job, round, i);
  };
  if (job.kind == JobKind::kEndless) {
    fill(0);
    job.barrier.wait(job.workers + 1);
    for (bool first = true;; first = false) {
      const bool last = job.stop.load() != 0;
      if (last) job.times[worker].last_pass_start.store(monotonic_now_ns());
      job_pass(job, policy, names, 0, worker);
      if (first) job.times[worker].first_pass_end.store(monotonic_now_ns());
      if (last) return;
    }
  }
  for (uint32_t round = 0; round < job.rounds; ++round) {
    fill(round);
    job.barrier.wait(job.workers);
    if (job.kind == JobKind::kStepped) {
      if (worker == 0) job.clock_ns.fetch_add(job.step_ns);
      job.barrier.wait(job.workers);
    }
    job_pass(job, policy, names, round, worker);
  }
}

}  // namespace brim::test

#endif  // BRIM_TESTS_PROCESS_JOB_H_
