// SPDX-License-Identifier: MIT
// Single parts of a decision, with Google Benchmark.
#include <benchmark/benchmark.h>

#include <string>

#include "brim/policy.h"
#include "shm/atomic128.h"
#include "shm/counters.h"
#include "src/algo/step.h"
#include "src/base/clock.h"
#include "src/compile.h"
#include "src/hash.h"
#include "src/policy_words.h"

namespace brim {
namespace {

constexpr uint8_t kSecret[192] = {1, 2, 3};

void BM_Hash(benchmark::State& state, bool xxh3) {
  const std::string key(static_cast<size_t>(state.range(0)), 'k');
  const HashSecret secret{1, 2, xxh3, kSecret};
  for (auto _ : state) benchmark::DoNotOptimize(hash_key(secret, key));
}
BENCHMARK_CAPTURE(BM_Hash, siphash, false)->Arg(8)->Arg(16)->Arg(24)->Arg(64)->Arg(1024);
BENCHMARK_CAPTURE(BM_Hash, xxh3, true)->Arg(8)->Arg(16)->Arg(24)->Arg(64)->Arg(1024);

void BM_ClockGettime(benchmark::State& state) {
  for (auto _ : state) benchmark::DoNotOptimize(monotonic_now_ns());
}
BENCHMARK(BM_ClockGettime);

void BM_ClockTsc(benchmark::State& state) {
  for (auto _ : state) benchmark::DoNotOptimize(tsc_now_ns());
}
BENCHMARK(BM_ClockTsc);

void BM_Rdtsc(benchmark::State& state) {
  for (auto _ : state) benchmark::DoNotOptimize(__rdtsc());
}
BENCHMARK(BM_Rdtsc);

void BM_Load128(benchmark::State& state) {
  shm::Pair pair;
  for (auto _ : state) benchmark::DoNotOptimize(shm::load128(&pair));
}
BENCHMARK(BM_Load128);

void BM_Cas128(benchmark::State& state) {
  shm::Pair pair;
  for (auto _ : state) {
    shm::Pair seen = pair;
    benchmark::DoNotOptimize(shm::cas128(&pair, seen, {seen.low, seen.high + 1}));
  }
}
BENCHMARK(BM_Cas128);

Quota quota_of(const char* text) { return quota_from(*compile(*parse_policy(text), {}), 0); }

void BM_TokenClock(benchmark::State& state) {
  const Quota quota = quota_of("100/m");
  int64_t now = 1;
  for (auto _ : state) benchmark::DoNotOptimize(token_clock(quota, now += 1000));
}
BENCHMARK(BM_TokenClock);

void BM_StepAndDecision(benchmark::State& state) {
  const Quota quota = quota_of("4000000000/y");
  int64_t now = 1;
  Word word = kEmptyWord;
  for (auto _ : state) {
    const Instant at = instant(quota, now += 1000);
    const Step taken = step(word, at, quota, 1);
    benchmark::DoNotOptimize(decide(word, taken, at, quota, 1));
    word = taken.next;
  }
}
BENCHMARK(BM_StepAndDecision);

void BM_Count(benchmark::State& state) {
  alignas(64) static uint64_t words[4 * (shm::kEvents + 64 * shm::kPolicyCounters)];
  const shm::Counters counters(words, 4, 64);
  for (auto _ : state) counters.add(1, shm::PolicyCounter::kAllowed);
}
BENCHMARK(BM_Count);

}  // namespace
}  // namespace brim

BENCHMARK_MAIN();
