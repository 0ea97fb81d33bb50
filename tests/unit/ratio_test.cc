// SPDX-License-Identifier: MIT
#include "src/algo/ratio.h"

#include <gtest/gtest.h>

#include <vector>

#include "src/base/uint128.h"
#include "tests/unit/support.h"

namespace brim {
namespace {

constexpr uint64_t kTop = uint64_t{1} << 63;

// Division as the CPU does it, which the multiplication must equal.
constexpr uint128 exact(uint64_t d, uint64_t numerator, uint64_t denominator) {
  return static_cast<uint128>(d) * numerator / denominator;
}

// True if the case lies within scale()'s REQUIRES.
bool in_range(uint64_t d, uint64_t numerator, uint64_t denominator) {
  return d < kTop && denominator != 0 && denominator < kTop &&
         exact(d, numerator, denominator) < (static_cast<uint128>(1) << 64) - 1;
}

void expect_exact(uint64_t d, uint64_t numerator, uint64_t denominator) {
  const Ratio ratio = make_ratio(numerator, denominator);
  const uint64_t down = static_cast<uint64_t>(exact(d, numerator, denominator));
  const bool whole = static_cast<uint128>(d) * numerator % denominator == 0;
  ASSERT_EQ(scale(d, ratio).quotient, down) << d << " * " << numerator << " / " << denominator;
  ASSERT_EQ(scale(d, ratio).exact, whole) << d << " * " << numerator << " / " << denominator;
  ASSERT_EQ(scale_down(d, ratio), down);
  ASSERT_EQ(scale_up(d, ratio), down + (whole ? 0 : 1));
}

static_assert(scale_down(7, make_ratio(3, 2)) == 10);
static_assert(scale_up(7, make_ratio(3, 2)) == 11);
static_assert(scale_up(8, make_ratio(3, 2)) == 12);
static_assert(scale_down(0, make_ratio(5, 7)) == 0 && scale_up(0, make_ratio(5, 7)) == 0);
static_assert(scale_down(kTop - 1, make_ratio(1, 1)) == kTop - 1);
static_assert(scale_down(kTop - 1, make_ratio(1, kTop - 1)) == 1);
static_assert(scale_down(kTop - 2, make_ratio(1, kTop - 1)) == 0);

// Goal: one high multiplication and a correction equal a 128-bit division, also where the quotient
// changes. Method: random fractions of every magnitude and random multiplicands, against __int128.
TEST(Ratio, EqualsExactDivisionOnRandomValues) {
  test::Random random(1);
  for (int i = 0; i < test::scaled(1000000);) {
    const uint64_t numerator = random.magnitude(kTop - 1);
    const uint64_t denominator = random.magnitude(kTop - 1);
    const uint64_t d = random.magnitude(kTop - 1);
    if (!in_range(d, numerator, denominator)) continue;
    expect_exact(d, numerator, denominator);
    if (HasFatalFailure()) return;
    ++i;
  }
}

// Goal: the correction is right at the borders. Method: multiplicands just below, at and above an
// exact multiple of random quotients, where a reciprocal that is off by one would show.
TEST(Ratio, EqualsExactDivisionAroundMultiples) {
  test::Random random(2);
  for (int i = 0; i < test::scaled(300000); ++i) {
    const uint64_t denominator = random.magnitude(kTop - 1);
    const uint64_t numerator = random.magnitude(denominator);
    const uint64_t quotient = random.magnitude(numerator);
    const uint64_t d =
        static_cast<uint64_t>(static_cast<uint128>(quotient) * denominator / numerator);
    for (const uint64_t near : {d - 1, d, d + 1}) {
      if (in_range(near, numerator, denominator)) expect_exact(near, numerator, denominator);
    }
    if (HasFatalFailure()) return;
  }
}

// Goal: nothing special at powers of two and at the ends of the ranges: denominators around 2^62
// (a period of 100 years at the finest unit) and 2^63, multiplicands around 2^63.
// Method: all triples of edge values within the contract.
TEST(Ratio, EqualsExactDivisionAtTheEdges) {
  std::vector<uint64_t> edges;
  for (const int bit : {0, 1, 2, 20, 31, 32, 33, 52, 60, 61, 62, 63}) {
    for (const int64_t off : {-3, -2, -1, 0, 1, 2, 3}) {
      const uint64_t value = (uint64_t{1} << bit) + static_cast<uint64_t>(off);
      if (value < kTop) edges.push_back(value);
    }
  }
  for (const uint64_t value : {uint64_t{1000000000}, uint64_t{3153600000000000000}, kTop / 3}) {
    edges.push_back(value);
  }
  int checked = 0;
  for (const uint64_t d : edges) {
    for (const uint64_t numerator : edges) {
      for (const uint64_t denominator : edges) {
        if (!in_range(d, numerator, denominator)) continue;
        expect_exact(d, numerator, denominator);
        if (HasFatalFailure()) return;
        ++checked;
      }
    }
  }
  EXPECT_GT(checked, 100000);
}

// Goal: a ratio read from a damaged segment gives a useless number, not undefined behaviour.
// Method: arbitrary bits in every field, zero denominator too; the sanitizer build judges.
TEST(Ratio, AnyBitsAreDefined) {
  test::Random random(3);
  uint64_t sum = 0;
  for (int i = 0; i < test::scaled(100000); ++i) {
    const uint64_t denominator = random.one_in(4) ? 0 : random.bits();
    const Ratio ratio{random.bits(), random.bits(), denominator, random.bits()};
    sum += scale_up(random.bits(), ratio);
  }
  EXPECT_NE(sum, 0u);
}

}  // namespace
}  // namespace brim
