// SPDX-License-Identifier: MIT
// Between a bucket's words and the units in which nodes exchange levels (brim::RateTerms).
#ifndef BRIM_SRC_TERMS_H_
#define BRIM_SRC_TERMS_H_

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "brim/cluster.h"
#include "src/algo/step.h"
#include "src/base/uint128.h"

namespace brim {

// Of the rate as the policy's text has it, without a class, factor or warm-up: equal texts give
// equal terms on every node. The unit is as small as can be with a permit of at most 2^30 units and
// a full bucket of at most 2^46, so that sums over many nodes stay below 2^52. A permit is rounded
// up by less than a unit.
inline RateTerms terms_of(const Quota& quota) noexcept {
  RateTerms terms;
  terms.by_debt_before = has(quota, kByDebtBefore);
  const uint128 most = static_cast<uint128>(permits(quota, quota.capacity)) + 1;
  const uint128 period = static_cast<uint64_t>(std::max<int64_t>(quota.period_ns, 1));
  const uint128 limit = static_cast<uint128>(std::max<uint32_t>(quota.limit, 1)) * 1000;
  // Units of 2^-k microsecond of refill.
  const auto units = [&](int k) -> uint128 {
    const uint128 over = k >= 0 ? period << k : period;
    const uint128 under = k >= 0 ? limit : limit << -k;
    return (over + under - 1) / under;
  };
  constexpr int kFinest = 40;
  constexpr int kCoarsest = -40;
  int k = kFinest;
  while (k > kCoarsest && (units(k) > uint128{1} << 30 || units(k) * most > uint128{1} << 46)) {
    --k;
  }
  terms.units_per_us = std::ldexp(1.0, k);
  terms.permit_units = static_cast<uint64_t>(std::max<uint128>(units(k), 1));
  terms.capacity_units = static_cast<uint64_t>(
      (static_cast<uint128>(quota.capacity) * terms.permit_units) >> (quota.shift & 63));
  return terms;
}

// Bucket units -> exchanged ones and back, both rounded up.
inline uint64_t to_exchanged(uint64_t units, const Quota& quota, const RateTerms& terms) noexcept {
  const uint32_t shift = quota.shift & 63;
  const uint128 scaled = static_cast<uint128>(units) * terms.permit_units;
  const uint128 up = scaled + ((uint128{1} << shift) - 1);
  return static_cast<uint64_t>(std::min<uint128>(up >> shift, uint64_t{1} << 52));
}
inline uint64_t from_exchanged(uint64_t level, const Quota& quota,
                               const RateTerms& terms) noexcept {
  const uint64_t permit = std::max<uint64_t>(terms.permit_units, 1);
  const uint128 scaled = static_cast<uint128>(level) << (quota.shift & 63);
  constexpr uint64_t kMost = uint64_t{1} << 62;
  return static_cast<uint64_t>(std::min<uint128>((scaled + permit - 1) / permit, kMost));
}

// A bucket that owes at least `units` as of as_of_ns, and never less than before. `used` of them
// were used here just now: while this node's rate is slowed down, more is owed here than others
// know, and that by so much more.
struct RaiseTo {
  uint64_t units;
  int64_t as_of_ns;
  uint32_t used = 0;
  uint32_t cost = 0;
  bool overflows = false;  // a word has no room for all of it
  Step operator()(Word word, const Instant& at, const Quota& quota) noexcept {
    if (family(quota) != Family::kBucket) return {word, true};
    const uint64_t most = at.v + quota.capacity_max;
    const uint64_t wanted = token_clock(quota, std::min(as_of_ns, at.now_ns)) + units;
    overflows = wanted > most;
    const bool slow = has(quota, kWarped) &&
                      rate_ppm(ns_since(quota.warp.start_ns, at.now_ns), quota.warp) < kWholePpm;
    const Word charged = slow ? gcra::charged_word(word, at.v, quota, used) : word;
    const Word next = std::max(charged, std::min(wanted, most));
    return {next > word && next > at.v ? next : word, true};
  }
};

}  // namespace brim

#endif  // BRIM_SRC_TERMS_H_
