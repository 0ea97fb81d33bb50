// SPDX-License-Identifier: MIT
// Fixed window: aligned to the clock, calendar, or opened by the first admitted call.
//
// word = {window | count of quota.shift bits}. Aligned: window = its number v(t). First hit: the
// window's end in ticks of v, rounded up, so that it lasts its whole period and less than one tick
// more. admit iff count + cost <= limit. Up to 2 * limit pass within a period across a boundary.
#ifndef BRIM_SRC_ALGO_WINDOW_H_
#define BRIM_SRC_ALGO_WINDOW_H_

#include <algorithm>
#include <cstdint>

#include "brim/decision.h"
#include "src/algo/quota.h"
#include "src/base/word.h"

namespace brim::window {

struct State {
  uint64_t window;
  uint64_t count;
};

constexpr uint32_t count_bits(const Quota& quota) noexcept { return quota.shift & 63; }
constexpr uint64_t count_mask(const Quota& quota) noexcept {
  return (uint64_t{1} << count_bits(quota)) - 1;
}
constexpr uint64_t window_mask(const Quota& quota) noexcept {
  return kValueMax >> count_bits(quota);
}
constexpr Word pack(const State& state, const Quota& quota) noexcept {
  return std::min(state.window, window_mask(quota)) << count_bits(quota) | state.count;
}

// Where a window that opens now ends, in ticks, if it lasts `period`.
constexpr uint64_t first_hit_end(const Quota& quota, int64_t now_ns, uint64_t period) noexcept {
  return quota.v0 + scale_up(elapsed_ns(quota, now_ns) + period, quota.units_per_ns);
}

// The state that counts at this instant. A window ahead of v was opened by a clock ahead of ours.
// When numbers run out, after 18 years of one boot, the last window never ends: stricter.
constexpr State current(Word word, uint64_t v, int64_t now_ns, const Quota& quota) noexcept {
  const State state{word >> count_bits(quota), word & count_mask(quota)};
  if (has(quota, kFirstHit)) {
    if (state.window > std::min(v, window_mask(quota) - 1) && state.count != 0) return state;
    return {std::min(first_hit_end(quota, now_ns, static_cast<uint64_t>(quota.period_ns)),
                     window_mask(quota)),
            0};
  }
  const uint64_t number = std::min(v, window_mask(quota));
  return state.window >= number && state.count != 0 ? state : State{number, 0};
}

// The reading of v at which `state` is over.
constexpr uint64_t end_reading(const State& state, const Quota& quota) noexcept {
  return has(quota, kFirstHit) ? state.window : state.window + 1;
}

constexpr uint32_t available(const State& state, const Quota& quota) noexcept {
  return state.count >= quota.capacity ? 0 : static_cast<uint32_t>(quota.capacity - state.count);
}

// The word with `cost` more counted, as far as the field goes.
constexpr Word counted_word(const State& state, const Quota& quota, uint32_t cost) noexcept {
  const uint64_t count = std::min(state.count + cost, count_mask(quota));
  return pack({state.window, count}, quota);
}

constexpr Word refunded_word(Word word, const State& state, const Quota& quota,
                             uint32_t cost) noexcept {
  if (state.count == 0) return word;
  return pack({state.window, state.count - std::min<uint64_t>(cost, state.count)}, quota);
}

// The largest word that an honest process can have written by now.
constexpr Word highest_word(uint64_t v, int64_t now_ns, const Quota& quota) noexcept {
  const uint64_t last =
      has(quota, kFirstHit) ? first_hit_end(quota, now_ns, quota.capacity_max) : v;
  return pack({last, count_mask(quota)}, quota);
}

// The answer for a call that left `state`; `admitted` is the rule's verdict.
constexpr Decision decision(const State& state, bool admitted, int64_t now_ns, const Quota& quota,
                            uint32_t cost) noexcept {
  Decision result;
  result.remaining = available(state, quota);
  const int64_t end = ns_until(quota, now_ns, end_reading(state, quota));
  result.reset_after_ns = state.count == 0 ? 0 : end;
  if (admitted) {
    result.verdict = Verdict::kAllowed;
    result.admitted = true;
  } else if (cost > quota.burst) {
    result.reason = Reason::kCostAboveBurst;
    result.retry_after_ns = kNever;
  } else {
    result.retry_after_ns = end;
  }
  return result;
}

}  // namespace brim::window

#endif  // BRIM_SRC_ALGO_WINDOW_H_
