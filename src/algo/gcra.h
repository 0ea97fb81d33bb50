// SPDX-License-Identifier: MIT
// GCRA (ITU-T I.371, virtual scheduling) on a token clock. Token bucket and leaky bucket as a
// meter are the same function: tokens = capacity - max(0, tat - v).
//
// word = tat, the token clock's reading at which the key is idle again.
//     base = max(tat, v);  next = base + cost;  admit iff next - v <= capacity;  tat <- next
// A bucket with debt D has its capacity larger by D. Forward charge and the leaky bucket as a
// queue judge what is owed before the charge (kByDebtBefore):
//     admit iff base - v <= capacity;  the queue's caller starts when v reaches base - extra
#ifndef BRIM_SRC_ALGO_GCRA_H_
#define BRIM_SRC_ALGO_GCRA_H_

#include <algorithm>
#include <cstdint>

#include "brim/decision.h"
#include "src/algo/quota.h"
#include "src/base/uint128.h"
#include "src/base/word.h"

namespace brim::gcra {

// The state's distance from idle, in units.
[[gnu::always_inline]] constexpr uint64_t debt_units(Word word, uint64_t v) noexcept {
  return word > v ? word - v : 0;
}

[[gnu::always_inline]] constexpr uint64_t cost_units(const Quota& quota, uint32_t cost) noexcept {
  return static_cast<uint64_t>(cost) << (quota.shift & 63);
}

// The word after `cost` permits, or `word` itself if they are refused (or none are asked).
[[gnu::always_inline]] constexpr Word next_word(Word word, uint64_t v, const Quota& quota,
                                                uint32_t cost) noexcept {
  const uint64_t debt = debt_units(word, v);
  const uint64_t units = cost_units(quota, cost);
  if (cost == 0 || cost > quota.burst || debt > quota.capacity) return word;
  if (!has(quota, kByDebtBefore) && units > quota.capacity - debt) return word;
  return v + debt + units;
}

// The largest cost that passes now; with kByDebtBefore, where any cost passes or none, how many
// calls of one permit would.
[[gnu::always_inline]] constexpr uint32_t available(Word word, uint64_t v,
                                                    const Quota& quota) noexcept {
  const uint64_t debt = debt_units(word, v);
  if (debt > quota.capacity) return 0;
  const uint32_t whole = permits(quota, quota.capacity - debt);
  return has(quota, kByDebtBefore) ? std::min<uint32_t>(whole, 0xfffffffe) + 1
                                   : std::min(whole, quota.burst);
}

// The word with up to `cost` permits given back; never below idle.
constexpr Word refunded_word(Word word, uint64_t v, const Quota& quota, uint32_t cost) noexcept {
  const uint64_t debt = debt_units(word, v);
  const uint128 units = static_cast<uint128>(cost) << (quota.shift & 63);
  return debt == 0 ? word : units >= debt ? v : word - static_cast<uint64_t>(units);
}

// The word with `cost` permits taken whatever is left; cut where a true word ends.
constexpr Word charged_word(Word word, uint64_t v, const Quota& quota, uint32_t cost) noexcept {
  const uint128 units = static_cast<uint128>(cost) << (quota.shift & 63);
  const uint128 debt = debt_units(word, v) + units;
  const uint64_t most = std::max(quota.capacity_max, debt_units(word, v));
  return cost == 0 ? word : v + (debt < most ? static_cast<uint64_t>(debt) : most);
}

// The clock's reading at which a call that was answered `next` for `cost` may start.
constexpr uint64_t start_reading(Word next, uint64_t v, const Quota& quota,
                                 uint32_t cost) noexcept {
  const uint64_t free = has(quota, kByDebtBefore) ? quota.extra : quota.capacity;
  const uint64_t before = has(quota, kByDebtBefore) ? cost_units(quota, cost) : 0;
  const uint64_t ahead = debt_units(next, v);
  const uint64_t waits = ahead > before ? ahead - before : 0;
  return waits > free ? v + (waits - free) : 0;
}

// What to tell the caller who asked for `cost` on `word` and was answered `next` at v(now).
[[gnu::always_inline]] constexpr Decision decision(Word word, Word next, uint64_t v, int64_t now_ns,
                                                   const Quota& quota, uint32_t cost) noexcept {
  Decision result;
  result.remaining = available(next, v, quota);
  result.reset_after_ns = next <= v ? 0 : ns_until(quota, now_ns, next);
  if (next != word || cost == 0) {
    result.verdict = Verdict::kAllowed;
    result.admitted = true;
    if (has(quota, kByDebtBefore) && cost != 0) [[unlikely]] {
      result.delay_ns = ns_until(quota, now_ns, start_reading(next, v, quota, cost));
    }
    return result;
  }
  if (cost > quota.burst) {
    result.reason = Reason::kCostAboveBurst;
    result.retry_after_ns = kNever;
    return result;
  }
  const uint64_t units = has(quota, kByDebtBefore) ? 0 : cost_units(quota, cost);
  const uint64_t over = debt_units(word, v) + units - quota.capacity;
  result.retry_after_ns = ns_until(quota, now_ns, v + over);
  return result;
}

}  // namespace brim::gcra

#endif  // BRIM_SRC_ALGO_GCRA_H_
