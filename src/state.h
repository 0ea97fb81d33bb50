// SPDX-License-Identifier: MIT
// Between the public words of a state (brim/state.h) and the arithmetic of src/algo/saved.h.
#ifndef BRIM_SRC_STATE_H_
#define BRIM_SRC_STATE_H_

#include <algorithm>

#include "brim/state.h"
#include "src/algo/saved.h"

namespace brim {

// The family whose arithmetic a saved state follows; kNone for a value that no state has.
constexpr Family family_of(StateKind kind) noexcept {
  switch (kind) {
    case StateKind::kBucket:
      return Family::kBucket;
    case StateKind::kWindow:
      return Family::kWindow;
    case StateKind::kCounter:
      return Family::kCounter;
    case StateKind::kLog:
      return Family::kCells;
    case StateKind::kBan:
      return Family::kBan;
  }
  return Family::kNone;
}

// A bucket's least share of the rate at which it may have refilled: a warm-up may begin anew at any
// change.
constexpr uint32_t slowest_ppm(const Quota& quota) noexcept {
  if (!has(quota, kWarped)) return kWholePpm;
  const uint64_t from = quota.warp.ramp_ns != 0 ? quota.warp.from_ppm : kWholePpm;
  return static_cast<uint32_t>(from * quota.warp.factor_ppm / kWholePpm);
}

// A file may say anything: no longer period than sums of times have room for.
inline saved::Unit unit_of(const RateState& rate) noexcept {
  return {family_of(rate.kind), rate.unit_shift & 63, rate.limit,
          std::clamp<int64_t>(rate.period_ns, 0, saved::kMostNs),
          std::min(rate.slowest_ppm, kWholePpm)};
}

inline saved::Saved saved_of(const KeyState& state) noexcept {
  const bool forgets = state.kind == StateKind::kBan && !state.left_ns.empty();
  return {state.used, state.before, state.until_ns, state.barred,
          forgets ? state.left_ns.front() : 0};
}

}  // namespace brim

#endif  // BRIM_SRC_STATE_H_
