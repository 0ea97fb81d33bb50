// SPDX-License-Identifier: MIT
#include "src/base/word.h"

#include <gtest/gtest.h>

#include <limits>

#include "tests/unit/support.h"

namespace brim {
namespace {

constexpr int64_t kMs = 1000000;
constexpr int64_t kWrapMs = int64_t{1} << kMillisBits;

static_assert(!is_tentative(kEmptyWord) && !is_tentative(kValueMax));
static_assert(is_tentative(kTentativeBit) && is_tentative(~Word{0}));
static_assert(is_tentative(make_tentative(0, 0, 0)));
static_assert(make_tentative(0, 0, 0) == kTentativeBit);
static_assert(make_tentative(1, 0, 0) == (kTentativeBit | Word{1} << 42));
static_assert(make_tentative(0, 1, 0) == (kTentativeBit | Word{1} << 22));
static_assert(make_tentative(0, 0, kMs) == (kTentativeBit | 1));
static_assert(make_tentative(0xffffffff, 0xffffffff, (kWrapMs - 1) * kMs) == ~Word{0});

// Goal: no part spills into another. Method: random parts, also too wide ones, are found again in
// their own bits.
TEST(Word, TentativePartsStayApart) {
  test::Random random(60);
  for (int i = 0; i < test::scaled(100000); ++i) {
    const auto id = static_cast<uint32_t>(random.bits());
    const auto counter = static_cast<uint32_t>(random.bits());
    const int64_t now = static_cast<int64_t>(random.magnitude(uint64_t{1} << 62));
    const Word word = make_tentative(id, counter, now);
    ASSERT_TRUE(is_tentative(word));
    ASSERT_EQ(word >> 42 & ((1u << kAttachIdBits) - 1), id & ((1u << kAttachIdBits) - 1));
    ASSERT_EQ(word >> 22 & ((1u << kCounterBits) - 1), counter & ((1u << kCounterBits) - 1));
    ASSERT_EQ(static_cast<int64_t>(word & ((1u << kMillisBits) - 1)), now / kMs % kWrapMs);
    ASSERT_EQ(tentative_age_ms(word, now), 0u);
  }
}

// Goal: the age is right across the wrap of the 22-bit clock. Method: every distance up to the
// life and beyond it, made just before, at and after a wrap.
TEST(Word, AgeIsRightAcrossTheWrap) {
  for (const int64_t made : {int64_t{0}, kWrapMs - 1, kWrapMs - 500, 7 * kWrapMs - 1}) {
    const Word word = make_tentative(1, 1, made * kMs);
    for (const int64_t age : {0, 1, 16, 17, 999, 1000, 1001, 60000, 4194304 - 18}) {
      EXPECT_EQ(tentative_age_ms(word, (made + age) * kMs), age) << made;
      EXPECT_EQ(tentative_age_ms(word, (made + age) * kMs + kMs - 1), age) << made;
    }
    EXPECT_EQ(tentative_age_ms(word, (made + kWrapMs) * kMs), 0u) << "once around";
  }
}

// Goal: another process's clock may be a little ahead; far ahead is garbage and taken. Method:
// stamps 1 to 16 ms in the future count as new, all others as older than the life, so that no
// random word holds a slot for more than the life and the margin.
TEST(Word, AFutureStampCountsAsNewUpTo16Ms) {
  const int64_t now = 100 * kWrapMs;
  for (int64_t ahead = 1; ahead <= 16; ++ahead) {
    EXPECT_EQ(tentative_age_ms(make_tentative(1, 1, (now + ahead) * kMs), now * kMs), 0u);
  }
  for (const int64_t ahead : {int64_t{17}, int64_t{18}, int64_t{1000}, kWrapMs / 2}) {
    EXPECT_GT(tentative_age_ms(make_tentative(1, 1, (now + ahead) * kMs), now * kMs),
              kTentativeLifeMs);
  }
  int young = 0;
  for (int64_t stamp = 0; stamp < kWrapMs; ++stamp) {
    const Word word = make_tentative(9, 9, stamp * kMs);
    young += tentative_age_ms(word, now * kMs) <= kTentativeLifeMs ? 1 : 0;
  }
  EXPECT_EQ(young, static_cast<int>(kTentativeLifeMs) + 1 + 16);
}

// Goal (F39): no repeated value while an old one may still be looked at. Method: counters of one
// millisecond and ids of one instant give distinct words up to their documented numbers.
TEST(Word, ValuesRepeatOnlyAfterTheirWholeRange) {
  const int64_t now = 123456789 * kMs;
  const Word first = make_tentative(5, 0, now);
  for (uint32_t i = 1; i < 1u << kCounterBits; i += 997) {
    ASSERT_NE(make_tentative(5, i, now), first);
  }
  EXPECT_EQ(make_tentative(5, 1u << kCounterBits, now), first);
  EXPECT_EQ(make_tentative(5 + (1u << kAttachIdBits), 0, now), first);
  EXPECT_NE(make_tentative(5, 0, now + kMs), first);
  EXPECT_EQ(make_tentative(5, 0, now + kWrapMs * kMs), first);
}

// Goal: a manual clock below zero is harmless. Method: stamps and ages of negative times.
TEST(Word, NegativeTimesAreDefined) {
  for (const int64_t now : {int64_t{-1}, -kMs, -5000 * kMs, std::numeric_limits<int64_t>::min()}) {
    const Word word = make_tentative(1, 1, now);
    EXPECT_TRUE(is_tentative(word));
    EXPECT_EQ(tentative_age_ms(word, now), 0u);
  }
}

}  // namespace
}  // namespace brim
