// SPDX-License-Identifier: MIT
// The one switch over the algorithm: (word, time, quota, cost) -> (next word, decision).
// Pure and constexpr; may run several times for one request. next_word == word means that
// nothing is written: a refusal, or a call that asks for nothing.
#ifndef BRIM_SRC_ALGO_STEP_H_
#define BRIM_SRC_ALGO_STEP_H_

#include <cstdint>

#include "brim/decision.h"
#include "brim/policy.h"
#include "src/algo/gcra.h"
#include "src/algo/quota.h"
#include "src/base/word.h"

namespace brim {

// The quota's view of one instant, computed once per call: GCRA needs its token clock.
struct Instant {
  int64_t now_ns;
  uint64_t v;
};

constexpr Instant instant(const Quota& quota, int64_t now_ns) noexcept {
  return {now_ns, token_clock(quota, now_ns)};
}

constexpr Word step(Word word, const Instant& at, const Quota& quota, uint32_t cost) noexcept {
  switch (static_cast<Algorithm>(quota.algorithm)) {
    case Algorithm::kGcra:
    case Algorithm::kTokenBucket:
    case Algorithm::kLeakyBucket:
      return gcra::next_word(word, at.v, quota, cost);
  }
  return word;
}

[[gnu::always_inline]] constexpr Decision decide(Word word, Word next, const Instant& at,
                                                 const Quota& quota, uint32_t cost) noexcept {
  return gcra::decision(word, next, at.v, at.now_ns, quota, cost);
}

constexpr Word refund(Word word, const Instant& at, const Quota& quota, uint32_t cost) noexcept {
  return gcra::refunded_word(word, at.v, quota, cost);
}

// How far the key is from idle, in 2^-20 permits rounded up; 0 exactly when the state equals an
// absent key's. Comparable between policies: it counts requests, not time.
constexpr uint64_t debt(Word word, const Instant& at, const Quota& quota) noexcept {
  const uint64_t units = gcra::debt_units(word, at.v);
  if (units == 0) return 0;
  const uint32_t shift = quota.shift & 63;
  if (shift <= 20) {
    const uint32_t up = 20 - shift;
    return units >> (63 - up) != 0 ? ~uint64_t{0} : units << up;
  }
  return ((units - 1) >> (shift - 20)) + 1;
}

// The largest word a key of this policy can truly hold at `at`. A word beyond it is corrupt (or
// from a clock that ran ahead) and is brought down to it: no key is ever barred for longer than
// its burst takes to refill.
constexpr Word highest_word(const Instant& at, const Quota& quota) noexcept {
  return at.v + quota.capacity_max;
}

}  // namespace brim

#endif  // BRIM_SRC_ALGO_STEP_H_
