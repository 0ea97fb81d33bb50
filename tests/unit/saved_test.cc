// SPDX-License-Identifier: MIT
// Goal: a state that is saved, waits, and is given to a policy whose clock began elsewhere is never
// laxer than the key it came from, and stricter by the rounding only.
// Method: random rates of every kind; a random run of calls on a word; then the original is asked
// at the later time and compared with the word made from the saved state.
#include "src/algo/saved.h"

#include <gtest/gtest.h>

#include "src/compile.h"
#include "src/make_rate.h"
#include "tests/unit/random_policy.h"

namespace brim::test {
namespace {

constexpr int64_t kWall = int64_t{1700000000} * 1000000000;

saved::Unit unit_for(const Quota& quota) {
  saved::Unit unit;
  unit.family = family(quota);
  unit.shift = family(quota) == Family::kBucket ? quota.shift & 63 : 0;
  unit.limit = quota.limit;
  unit.period_ns = quota.period_ns;
  return unit;
}

Rate rate_that_fits(Random& random) {
  for (;;) {
    const Rate rate = random_rate(random, static_cast<int>(1 + random.below(7)));
    Quota quota = make_rate(rate, {0, kWall});
    if (!check_fits(rate).ok() || family(quota) == Family::kCells ||
        family(quota) == Family::kNone || has(quota, kMonths)) {
      continue;
    }
    return rate;
  }
}

// A word after some calls, and the time of the last.
Word busy_word(Random& random, const Quota& quota, int64_t& now) {
  Word word = kEmptyWord;
  for (uint64_t calls = 1 + random.below(20); calls > 0; --calls) {
    const auto most = std::max<uint64_t>(1, std::min<uint64_t>(quota.burst, 1u << 20));
    const Instant at = instant(quota, now);
    word = random.one_in(8)
               ? charge(word, at, quota, static_cast<uint32_t>(random.magnitude(most)))
               : step(word, at, quota, static_cast<uint32_t>(random.magnitude(most))).next;
    now += static_cast<int64_t>(random.magnitude(static_cast<uint64_t>(quota.period_ns)) /
                                (1 + random.below(8)));
  }
  return word;
}

TEST(Saved, NeverLaxerAndStricterByTheRoundingOnly) {
  Random random(7);
  for (int i = 0; i < scaled(200000); ++i) {
    const Rate rate = rate_that_fits(random);
    const int64_t began = static_cast<int64_t>(random.magnitude(uint64_t{1} << 50));
    const Quota old = make_rate(rate, {began, kWall});
    int64_t now = began;
    const Word word = busy_word(random, old, now);
    const saved::Saved state = saved::save(word, instant(old, now), old);
    const auto away =
        static_cast<int64_t>(random.magnitude(2 * static_cast<uint64_t>(old.period_ns) + 2));
    // Another boot: its monotonic clock shows something else at the same wall time.
    const int64_t later = now + away;
    const int64_t boot = static_cast<int64_t>(random.magnitude(uint64_t{1} << 50));
    const Quota fresh = make_rate(rate, {boot, kWall + (later - began)});
    const saved::Saved aged = saved::age(state, unit_for(old), away);
    const Instant at = instant(fresh, boot);
    const Word given = saved::merged_word(kEmptyWord, aged, unit_for(old), at, fresh);
    ASSERT_TRUE(plausible(given, at, fresh)) << i;
    const uint32_t had = available(word, instant(old, later), old);
    const uint32_t has_now = available(given, at, fresh);
    ASSERT_LE(has_now, had) << i << " kind " << static_cast<int>(family(old));
    const uint32_t slack = family(old) == Family::kBucket ? 1 : 0;
    // First-hit windows end on a tick, and the new window's ticks lie elsewhere.
    if (!has(old, kFirstHit)) {
      ASSERT_GE(has_now + slack, had) << i;
    }
    ASSERT_EQ(saved::merged_word(given, aged, unit_for(old), at, fresh), given) << i;
  }
}

TEST(Saved, TheStricterOfTwoWins) {
  Random random(8);
  for (int i = 0; i < scaled(200000); ++i) {
    const Rate rate = rate_that_fits(random);
    const Quota old = make_rate(rate, {0, kWall});
    int64_t now = 0;
    const saved::Saved state = saved::save(busy_word(random, old, now), instant(old, now), old);
    // Any other policy takes it, too.
    const Rate other = random.one_in(2) ? rate : rate_that_fits(random);
    const Quota fresh = make_rate(other, {now, kWall + now});
    int64_t then = now;
    const Word live = random.one_in(4) ? kEmptyWord : busy_word(random, fresh, then);
    const Instant at = instant(fresh, then);
    const saved::Saved aged = saved::age(state, unit_for(old), then - now);
    const Word merged = saved::merged_word(live, aged, unit_for(old), at, fresh);
    const Word alone = saved::merged_word(kEmptyWord, aged, unit_for(old), at, fresh);
    ASSERT_LE(available(merged, at, fresh), available(live, at, fresh)) << i;
    ASSERT_LE(available(merged, at, fresh), available(alone, at, fresh)) << i;
    ASSERT_TRUE(plausible(merged, at, fresh)) << i;
    if (debt(alone, at, fresh) == 0) {
      ASSERT_EQ(merged, live) << i;
    }
    // What was taken is taken, whatever the new policy counts in.
    const uint64_t taken = saved::permits_taken(aged, unit_for(old));
    const uint32_t room = available(kEmptyWord, at, fresh);
    if (!has(fresh, kByDebtBefore)) {
      ASSERT_LE(available(alone, at, fresh), room - std::min<uint64_t>(room, taken)) << i;
    }
  }
}

TEST(Saved, DebtIsKeptInPermitsUnderAnotherRate) {
  const Quota old = make_quota(100, 1000000000, 100, 0);
  const Quota fresh = make_quota(7, 60000000000, 1000, 0);
  const Instant then = instant(old, 0);
  const saved::Saved state = saved::save(charge(kEmptyWord, then, old, 60), then, old);
  saved::Unit unit = unit_for(old);
  // 100 ms at 100/s would give 10 back; at the slower rate nothing whole comes back.
  unit.slowest_ppm = 1167;
  const saved::Saved aged = saved::age(state, unit, 100000000);
  const Word word = saved::merged_word(kEmptyWord, aged, unit, instant(fresh, 0), fresh);
  EXPECT_EQ(available(word, instant(fresh, 0), fresh), 940u);
  // No time passed by a clock that stepped back.
  EXPECT_EQ(saved::age(state, unit, -5).used, state.used);
}

TEST(Saved, BansGoOnAndTheirLevelIsRemembered) {
  Quota old{};
  make_ban({.after = 3, .within_ns = kMinuteNs, .for_ns = kHourNs, .factor = 2, .max_ns = kDayNs},
           0, old);
  Word word = kEmptyWord;
  for (int i = 0; i < 3; ++i) word = ban::refused_word(word, 1000, old);
  ASSERT_GT(ban::barred_for(word, 1000, old), 0);
  const saved::Saved state = saved::save(word, instant(old, 1000), old);
  Quota fresh{};
  make_ban({.after = 3, .within_ns = kMinuteNs, .for_ns = kHourNs, .factor = 2, .max_ns = kDayNs},
           kDayNs, fresh);
  const Instant at = instant(fresh, kDayNs);
  const saved::Saved half = saved::age(state, unit_for(old), kHourNs / 2);
  Word given = saved::merged_word(kEmptyWord, half, unit_for(old), at, fresh);
  EXPECT_GE(ban::barred_for(given, kDayNs, fresh), kHourNs / 2 - 1000000);
  EXPECT_LE(ban::barred_for(given, kDayNs, fresh), kHourNs / 2 + 1000000);
  // Afterwards it is free, and the next ban lasts twice as long.
  const saved::Saved over = saved::age(state, unit_for(old), kHourNs + kMinuteNs);
  given = saved::merged_word(kEmptyWord, over, unit_for(old), at, fresh);
  EXPECT_EQ(ban::barred_for(given, kDayNs, fresh), 0);
  for (int i = 0; i < 3; ++i) given = ban::refused_word(given, kDayNs + 1000, fresh);
  EXPECT_GT(ban::barred_for(given, kDayNs + 1000, fresh), kHourNs + kHourNs / 2);
}

}  // namespace
}  // namespace brim::test
