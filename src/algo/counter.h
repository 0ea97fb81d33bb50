// SPDX-License-Identifier: MIT
// Sliding window counter: the previous window's count, weighted by how much of it the sliding
// window still covers, and the current one's.
//
// word = {window number | previous count | current count}, counts of quota.shift bits, the number
// modulo what is left of 63 bits. With r ns of the current window gone,
//     admit iff prev * (P - r) + (cur + cost) * P <= limit * P
// or, with kFloorWeight, iff floor(prev * (P - r) / P) + cur + cost <= limit.
#ifndef BRIM_SRC_ALGO_COUNTER_H_
#define BRIM_SRC_ALGO_COUNTER_H_

#include <algorithm>
#include <cstdint>

#include "brim/decision.h"
#include "src/algo/quota.h"
#include "src/base/uint128.h"
#include "src/base/word.h"

namespace brim::counter {

constexpr uint32_t count_bits(const Quota& quota) noexcept {
  return std::min<uint32_t>(quota.shift & 63, 30);
}
constexpr uint64_t count_mask(const Quota& quota) noexcept {
  return (uint64_t{1} << count_bits(quota)) - 1;
}
constexpr uint64_t window_mask(const Quota& quota) noexcept {
  return (uint64_t{1} << (63 - 2 * count_bits(quota))) - 1;
}

// At least 1, whatever a damaged record says.
constexpr uint64_t period_of(const Quota& quota) noexcept {
  return quota.period_ns > 0 ? static_cast<uint64_t>(quota.period_ns) : 1;
}

struct State {
  uint64_t window;  // the number, whole
  uint64_t prev;
  uint64_t cur;
  uint64_t gone_ns;  // r
  bool ahead;        // written by a clock so far ahead of ours that nothing can be said
};

// Distance of the word's window from v, modulo the field: small if ahead, large if behind.
constexpr uint64_t distance(Word word, uint64_t v, const Quota& quota) noexcept {
  return ((word >> (2 * count_bits(quota))) - v) & window_mask(quota);
}

constexpr State current(Word word, uint64_t v, int64_t now_ns, const Quota& quota) noexcept {
  const uint64_t period = period_of(quota);
  const uint64_t prev = (word >> count_bits(quota)) & count_mask(quota);
  const uint64_t cur = word & count_mask(quota);
  const uint64_t gone = std::min(elapsed_ns(quota, now_ns) - (v - quota.v0) * period, period - 1);
  const uint64_t away = distance(word, v, quota);
  if (away == 0) return {v, prev, cur, gone, false};
  if ((prev | cur) == 0) return {v, 0, 0, gone, false};
  if (away == window_mask(quota)) return {v, cur, 0, gone, false};
  if (away > window_mask(quota) / 2) return {v, 0, 0, gone, false};
  // Ahead of us: by another clock's skew it is taken as it stands, at its beginning.
  constexpr uint64_t kSkewNs = 4000000;
  return {v + away, prev, cur, 0, (away - 1) * static_cast<uint128>(period) > kSkewNs};
}

constexpr Word pack(const State& state, const Quota& quota) noexcept {
  const uint32_t bits = count_bits(quota);
  return (state.window & window_mask(quota)) << (2 * bits) | state.prev << bits | state.cur;
}

// What the two windows weigh, times the period; with kFloorWeight rounded down to whole permits.
constexpr uint128 weight(const State& state, const Quota& quota) noexcept {
  const uint64_t period = period_of(quota);
  const uint128 faded = static_cast<uint128>(state.prev) * (period - state.gone_ns);
  const uint128 before = has(quota, kFloorWeight) ? faded / period * period : faded;
  return before + static_cast<uint128>(state.cur) * period;
}

constexpr uint32_t available(const State& state, const Quota& quota) noexcept {
  const uint128 whole = static_cast<uint128>(quota.capacity) * period_of(quota);
  const uint128 used = weight(state, quota);
  if (state.ahead || used >= whole) return 0;
  return static_cast<uint32_t>((whole - used) / period_of(quota));
}

constexpr Word counted_word(const State& state, const Quota& quota, uint32_t cost) noexcept {
  State next = state;
  next.cur = std::min(state.cur + cost, count_mask(quota));
  return pack(next, quota);
}

// Takes from the current window first.
constexpr Word refunded_word(Word word, const State& state, const Quota& quota,
                             uint32_t cost) noexcept {
  if ((state.prev | state.cur) == 0 || state.ahead) return word;
  State next = state;
  const uint64_t now = std::min<uint64_t>(cost, state.cur);
  next.cur -= now;
  next.prev -= std::min<uint64_t>(cost - now, state.prev);
  return pack(next, quota);
}

// The word without a charge that stored `receipt`, in the window that was charged.
constexpr Word undone_word(Word word, Word receipt, const State& state, const Quota& quota,
                           uint32_t cost) noexcept {
  const uint64_t charged = receipt >> (2 * count_bits(quota));
  const uint64_t since = (state.window - charged) & window_mask(quota);
  if (since > 1 || state.ahead || (state.prev | state.cur) == 0) return word;
  State next = state;
  uint64_t& count = since == 0 ? next.cur : next.prev;
  count -= std::min<uint64_t>(cost, count);
  return pack(next, quota);
}

// Least r, counted from the window's beginning, at which `fading` permits of the window before
// have faded to `room` or less; P at most.
constexpr uint64_t faded_at(uint64_t fading, uint64_t room, const Quota& quota) noexcept {
  const uint64_t period = period_of(quota);
  if (fading <= room) return 0;
  if (has(quota, kFloorWeight)) {
    const uint128 still = static_cast<uint128>(room + 1) * period;  // weight must be below this
    return period - static_cast<uint64_t>((still + fading - 1) / fading) + 1;
  }
  return period - static_cast<uint64_t>(static_cast<uint128>(room) * period / fading);
}

constexpr int64_t ns_of(uint128 ns) noexcept {
  constexpr auto kMost = static_cast<uint64_t>(kNever);
  return static_cast<int64_t>(ns < kMost ? static_cast<uint64_t>(ns) : kMost);
}

// ns from the state's instant until `cost` passes. REQUIRES: it does not pass now and
// cost <= capacity.
constexpr uint128 wait_ns(const State& state, const Quota& quota, uint32_t cost) noexcept {
  const uint64_t period = period_of(quota);
  const uint64_t room = quota.capacity - std::min<uint64_t>(cost, quota.capacity);
  const uint64_t left = period - state.gone_ns;
  if (state.cur <= room) {
    const uint64_t at = faded_at(state.prev, room - state.cur, quota);
    return at > state.gone_ns ? at - state.gone_ns : 0;
  }
  return static_cast<uint128>(left) + faded_at(state.cur, room, quota);
}

// ns from now to the state's instant: 0 but for a state ahead of the clock, or a clock before t0.
constexpr int64_t lead_ns(const State& state, uint64_t v, int64_t now_ns,
                          const Quota& quota) noexcept {
  if (state.window > v) return ns_until(quota, now_ns, state.window);
  if (now_ns >= quota.t0) return 0;
  return ns_of(static_cast<uint64_t>(quota.t0) - static_cast<uint64_t>(now_ns));
}

constexpr Decision decision(const State& state, bool admitted, uint64_t v, int64_t now_ns,
                            const Quota& quota, uint32_t cost) noexcept {
  Decision result;
  const uint64_t period = period_of(quota);
  const uint128 lead = static_cast<uint64_t>(lead_ns(state, v, now_ns, quota));
  result.remaining = available(state, quota);
  const uint64_t left = period - state.gone_ns;
  const uint128 reset = state.cur != 0    ? static_cast<uint128>(left) + period
                        : state.prev != 0 ? left
                                          : 0;
  result.reset_after_ns = reset == 0 ? 0 : ns_of(lead + reset);
  if (admitted) {
    result.verdict = Verdict::kAllowed;
    result.admitted = true;
  } else if (cost > quota.burst) {
    result.reason = Reason::kCostAboveBurst;
    result.retry_after_ns = kNever;
  } else if (cost > quota.capacity) {
    // Scaled down by a factor; nobody knows for how long.
    result.retry_after_ns = ns_of(lead + left + period);
  } else {
    result.retry_after_ns = ns_of(lead + wait_ns(state, quota, cost));
  }
  return result;
}

}  // namespace brim::counter

#endif  // BRIM_SRC_ALGO_COUNTER_H_
