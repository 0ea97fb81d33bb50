// SPDX-License-Identifier: MIT
// Warp: elapsed time -> time that counts. A warm-up raises the rate evenly from `from_ppm` to the
// whole over ramp_ns; an adaptive factor scales it throughout. Both only bend the token clock, so
// no stored word changes. Exact integers, rounded down: never faster than the definition
//     warp(e) = floor(floor(integral of ramp over [0, e]) * factor)
#ifndef BRIM_SRC_ALGO_WARP_H_
#define BRIM_SRC_ALGO_WARP_H_

#include <cstdint>
#include <limits>

#include "src/base/uint128.h"

namespace brim {

inline constexpr uint32_t kWholePpm = 1000000;

// No default values; see Quota.
struct Warp {
  int64_t start_ns;     // when the ramp began; a bucket's is its t0
  uint64_t ramp_ns;     // 0: no warm-up
  uint32_t from_ppm;    // 0 .. kWholePpm
  uint32_t factor_ppm;  // 0 .. kWholePpm
};

// Integral of the ramp over [0, elapsed], in ns. REQUIRES: ramp_ns <= 2^47.
constexpr uint64_t ramped(uint64_t elapsed, const Warp& warp) noexcept {
  const uint64_t ramp = warp.ramp_ns & ((uint64_t{1} << 48) - 1);
  if (ramp == 0) return elapsed;
  const uint64_t from = warp.from_ppm;
  if (elapsed >= ramp) {
    return static_cast<uint64_t>(static_cast<uint128>(from + kWholePpm) * ramp / (2 * kWholePpm)) +
           (elapsed - ramp);
  }
  const uint64_t rest = from < kWholePpm ? kWholePpm - from : 0;
  const uint128 twice = static_cast<uint128>(from) * elapsed * (2 * ramp) +
                        static_cast<uint128>(rest) * elapsed * elapsed;
  return static_cast<uint64_t>(twice / (static_cast<uint128>(2 * kWholePpm) * ramp));
}

constexpr uint64_t warped(uint64_t elapsed, const Warp& warp) noexcept {
  const uint128 scaled = static_cast<uint128>(ramped(elapsed, warp)) * warp.factor_ppm;
  return static_cast<uint64_t>(scaled / kWholePpm);
}

// Least e with warped(e) >= `wanted`; the largest number if there is none.
constexpr uint64_t unwarped(uint64_t wanted, const Warp& warp) noexcept {
  constexpr uint64_t kMost = std::numeric_limits<uint64_t>::max();
  if (wanted == 0) return 0;
  if (warp.factor_ppm == 0) return kMost;
  const uint128 whole =
      (static_cast<uint128>(wanted) * kWholePpm + warp.factor_ppm - 1) / warp.factor_ppm;
  if (whole > kMost / 2) return kMost;
  const auto target = static_cast<uint64_t>(whole);
  const uint64_t ramp = warp.ramp_ns & ((uint64_t{1} << 48) - 1);
  const uint64_t at_end = ramped(ramp, warp);
  if (target > at_end) return ramp + (target - at_end);
  uint64_t low = 0;  // ramped(low) < target
  uint64_t high = ramp;
  while (high - low > 1) {
    const uint64_t middle = low + (high - low) / 2;
    (ramped(middle, warp) >= target ? high : low) = middle;
  }
  return high;
}

// The momentary rate at `elapsed`, in parts per million of the whole.
constexpr uint32_t rate_ppm(uint64_t elapsed, const Warp& warp) noexcept {
  const uint64_t ramp = warp.ramp_ns & ((uint64_t{1} << 48) - 1);
  uint64_t now = kWholePpm;
  if (elapsed < ramp && warp.from_ppm < kWholePpm) {
    now = warp.from_ppm +
          static_cast<uint64_t>(static_cast<uint128>(kWholePpm - warp.from_ppm) * elapsed / ramp);
  }
  return static_cast<uint32_t>(now * warp.factor_ppm / kWholePpm);
}

}  // namespace brim

#endif  // BRIM_SRC_ALGO_WARP_H_
