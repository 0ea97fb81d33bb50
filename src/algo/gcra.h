// SPDX-License-Identifier: MIT
// GCRA (ITU-T I.371, virtual scheduling) on a token clock. Token bucket and leaky bucket as a
// meter are the same function: tokens = capacity - max(0, tat - v).
//
// word = tat, the token clock's reading at which the key is idle again.
//     base = max(tat, v);  next = base + cost;  admit iff next - v <= capacity;  tat <- next
#ifndef BRIM_SRC_ALGO_GCRA_H_
#define BRIM_SRC_ALGO_GCRA_H_

#include <cstdint>

#include "brim/decision.h"
#include "src/algo/quota.h"
#include "src/base/uint128.h"
#include "src/base/word.h"

namespace brim::gcra {

// The state's distance from idle, in units.
constexpr uint64_t debt_units(Word word, uint64_t v) noexcept { return word > v ? word - v : 0; }

// The word after `cost` permits, or `word` itself if they are refused (or none are asked).
constexpr Word next_word(Word word, uint64_t v, const Quota& quota, uint32_t cost) noexcept {
  const uint64_t debt = debt_units(word, v);
  const uint64_t units = static_cast<uint64_t>(cost) << (quota.shift & 63);
  if (cost == 0 || cost > quota.burst || debt > quota.capacity || units > quota.capacity - debt) {
    return word;
  }
  return v + debt + units;
}

// The word with up to `cost` permits given back; never below idle.
constexpr Word refunded_word(Word word, uint64_t v, const Quota& quota, uint32_t cost) noexcept {
  const uint64_t debt = debt_units(word, v);
  const uint128 units = static_cast<uint128>(cost) << (quota.shift & 63);
  return debt == 0 ? word : units >= debt ? v : word - static_cast<uint64_t>(units);
}

// What to tell the caller who asked for `cost` on `word` and was answered `next` at v(now).
[[gnu::always_inline]] constexpr Decision decision(Word word, Word next, uint64_t v, int64_t now_ns,
                                                   const Quota& quota, uint32_t cost) noexcept {
  Decision result;
  const uint64_t debt = debt_units(next, v);
  const uint64_t left = debt < quota.capacity ? quota.capacity - debt : 0;
  result.remaining = permits(quota, left);
  result.reset_after_ns = debt == 0 ? 0 : ns_until(quota, now_ns, next);
  if (next != word || cost == 0) {
    result.verdict = Verdict::kAllowed;
    result.admitted = true;
    return result;
  }
  if (cost > quota.burst) {
    result.reason = Reason::kCostAboveBurst;
    result.retry_after_ns = kNever;
    return result;
  }
  const uint64_t units = static_cast<uint64_t>(cost) << (quota.shift & 63);
  result.retry_after_ns = ns_until(quota, now_ns, v + debt + units - quota.capacity);
  return result;
}

}  // namespace brim::gcra

#endif  // BRIM_SRC_ALGO_GCRA_H_
