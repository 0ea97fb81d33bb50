// SPDX-License-Identifier: MIT
// Exact floor(d * numerator / denominator) for 64-bit d without a division.
//
// The ratio is kept as an integer part and a proper fraction with its reciprocal. One high
// multiplication by the truncated reciprocal gives the quotient or one less (for d < 2^63 the
// truncation loses less than 1), and one multiplication back tells which. Measured: 2 ns against
// 3-10 ns for a 128/64 division. Pure; wraps instead of failing on values out of range.
#ifndef BRIM_SRC_ALGO_RATIO_H_
#define BRIM_SRC_ALGO_RATIO_H_

#include <cstdint>

#include "src/base/uint128.h"

namespace brim {

struct Ratio {
  uint64_t whole;        // numerator / denominator
  uint64_t part;         // numerator % denominator
  uint64_t denominator;  // < 2^63
  uint64_t reciprocal;   // floor(part * 2^64 / denominator)
};

constexpr Ratio make_ratio(uint64_t numerator, uint64_t denominator) noexcept {
  Ratio ratio{};
  ratio.whole = numerator / denominator;
  ratio.part = numerator % denominator;
  ratio.denominator = denominator;
  ratio.reciprocal = static_cast<uint64_t>((static_cast<uint128>(ratio.part) << 64) / denominator);
  return ratio;
}

struct Scaled {
  uint64_t quotient;
  bool exact;  // no remainder
};

// REQUIRES: d < 2^63 and the result < 2^64, else the value is meaningless (but defined).
constexpr Scaled scale(uint64_t d, const Ratio& ratio) noexcept {
  uint64_t quotient = static_cast<uint64_t>((static_cast<uint128>(d) * ratio.reciprocal) >> 64);
  // The true remainder is below 2 * denominator < 2^64, so wrapping arithmetic yields it.
  uint64_t remainder = d * ratio.part - quotient * ratio.denominator;
  // Without a branch: which of the two it is depends on a slot that may still be on its way from
  // memory, and half the guesses would be wrong.
  const auto one_short = static_cast<uint64_t>(remainder >= ratio.denominator);
  quotient += one_short;
  remainder -= ratio.denominator & (0 - one_short);
  return {d * ratio.whole + quotient, remainder == 0};
}

constexpr uint64_t scale_down(uint64_t d, const Ratio& ratio) noexcept {
  return scale(d, ratio).quotient;
}

constexpr uint64_t scale_up(uint64_t d, const Ratio& ratio) noexcept {
  const Scaled scaled = scale(d, ratio);
  return scaled.quotient + static_cast<uint64_t>(!scaled.exact);
}

}  // namespace brim

#endif  // BRIM_SRC_ALGO_RATIO_H_
