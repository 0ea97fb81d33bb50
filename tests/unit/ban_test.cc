// SPDX-License-Identifier: MIT
// Bans against the model: growth, cap, forgetting, and that idle is absent.
#include "src/algo/ban.h"

#include "src/algo/step.h"
#include "tests/unit/model_ban.h"

namespace brim {
namespace {

using test::BanModel;
using test::kDayNs;
using test::kMilliNs;
using test::kSecNs;
using test::Random;
using test::Wide;

constexpr int64_t kTickNs = int64_t{1} << 19;

Quota quota_of(const Ban& ban, int64_t now) {
  Rate rate;
  rate.limit = 1;
  rate.period_ns = kSecNs;
  rate.burst = 1;
  Policy policy = test::policy_of(rate);
  policy.ban = ban;
  return test::quota_of(policy, {now, 0}, kBanPart);
}

Ban random_ban(Random& random) {
  constexpr auto kLongest = static_cast<uint64_t>(365 * kDayNs);
  Ban ban;
  ban.after =
      static_cast<uint32_t>(random.one_in(2) ? 1 + random.below(4) : random.magnitude(65535));
  ban.within_ns = std::max<int64_t>(kMilliNs, static_cast<int64_t>(random.magnitude(kLongest)));
  ban.for_ns = std::max<int64_t>(kMilliNs, static_cast<int64_t>(random.magnitude(kLongest / 64)));
  ban.factor = static_cast<uint32_t>(random.one_in(3) ? 1 : random.magnitude(1000));
  ban.max_ns = random.between(
      ban.for_ns,
      std::min<int64_t>(Wide{ban.for_ns} * 5000 < 365 * kDayNs ? ban.for_ns * 5000 : 365 * kDayNs,
                        365 * kDayNs));
  return ban;
}

// A time from now that is likely to be near an end.
int64_t random_wait(Random& random, const Ban& ban, const BanModel& model, int64_t t) {
  const auto near = [&random](Wide d) {
    return static_cast<int64_t>(std::clamp<Wide>(d, 0, 3 * 365 * kDayNs)) + random.between(-1, 1);
  };
  switch (random.below(10)) {
    case 0:
      return near(model.barred_for(t));
    case 1:
      return near(model.forgotten_at() - t);
    case 2:
      return near(ban.within_ns);
    case 3:
      return near(ban.within_ns + kTickNs);
    case 4:
      return near(ban.for_ns);
    case 5:
      return -static_cast<int64_t>(random.magnitude(kMilliNs));
    case 6:
      return static_cast<int64_t>(random.magnitude(static_cast<uint64_t>(ban.max_ns)));
    case 7:
      return near((model.forgotten_at() - t) / 2);
    default:
      return 0;
  }
}

void check(Word word, const Quota& quota, const BanModel& model, int64_t t) {
  ASSERT_EQ(Wide{ban::barred_for(word, t, quota)}, model.barred_for(t));
  ASSERT_EQ(ban::is_idle(word, t, quota), model.idle(t));
  ASSERT_EQ(debt(word, instant(quota, t), quota) == 0, model.idle(t));
  const Instant reader = instant(quota, t - kMilliNs + 2 * kMilliNs);
  ASSERT_TRUE(plausible(word, reader, quota));
  ASSERT_LE(word, kValueMax);
  if (model.idle(t)) return;
  ASSERT_FALSE(ban::is_idle(word, static_cast<int64_t>(model.forgotten_at() - 1), quota));
  ASSERT_TRUE(ban::is_idle(word, static_cast<int64_t>(model.forgotten_at()), quota));
}

// Goal: when a key is barred, for how long, and when that is forgotten is what the definition says,
// for any ban and any history. Method: random refusals near all ends, against the model.
TEST(Ban, EqualsTheModel) {
  Random random(500);
  size_t most_bans = 0;
  for (int asked = 0; asked < test::scaled(200000);) {
    const Ban policy = random_ban(random);
    const int64_t t0 = random.between(0, 365 * kDayNs);
    const Quota quota = quota_of(policy, t0);
    BanModel model(policy, t0);
    Word word = kEmptyWord;
    int64_t t = t0;
    int64_t latest = t0;
    const int64_t calls = policy.after < 50 ? 1 : policy.after / 4;
    for (int i = 0; i < 60; ++i, ++asked) {
      t = std::clamp(t + random_wait(random, policy, model, t), std::max(latest, t0) - kMilliNs,
                     t0 + 14 * 365 * kDayNs);
      latest = std::max(latest, t);
      const auto many = policy.after < 50 || random.one_in(3) ? 1 : std::min<int64_t>(calls, 200);
      for (int64_t call = 0; call < many; ++call) {
        const Word before = word;
        const bool barred = model.barred_for(t) != 0;
        word = ban::refused_word(word, t, quota);
        model.refuse(t);
        ASSERT_EQ(word == before, barred) << "a barred key is only read";
      }
      check(word, quota, model, std::max(t, latest));
      check(word, quota, model, t);
      BRIM_STOP();
      most_bans = std::max(most_bans, model.bans());
    }
  }
  EXPECT_GT(most_bans, 5u);
}

// Goal: idle is absent: a word that is_idle() says is idle goes on as an absent key's does. Method:
// pairs of words under the same refusals.
TEST(Ban, IdleIsAbsent) {
  Random random(501);
  for (int i = 0; i < test::scaled(20000); ++i) {
    Ban policy = random_ban(random);
    policy.after = 1 + policy.after % 4;
    const Quota quota = quota_of(policy, 0);
    Word word = kEmptyWord;
    int64_t t = random.between(0, kDayNs);
    for (uint64_t left = random.below(10); left != 0; --left) {
      word = ban::refused_word(word, t, quota);
      t += std::max(ban::barred_for(word, t, quota), random.between(0, policy.within_ns));
    }
    const auto idle = static_cast<int64_t>(ban::idle_at(ban::unpack(word), quota));
    t = std::max(t, idle + random.between(-1, 1));
    Word absent = kEmptyWord;
    const bool is_idle = ban::is_idle(word, t, quota);
    ASSERT_EQ(is_idle, t >= idle || word == kEmptyWord);
    if (!is_idle) continue;
    for (int call = 0; call < 12; ++call) {
      word = ban::refused_word(word, t, quota);
      absent = ban::refused_word(absent, t, quota);
      ASSERT_EQ(word, absent);
      t += random.one_in(2) ? ban::barred_for(word, t, quota) : random.between(0, policy.within_ns);
    }
  }
}

// Goal: "ban 3 in 1m for 10m times 3 max 1h": 10, 30, 60, 60 minutes; forgotten an hour after the
// last. Method: by hand; ends are up to 2^19 ns late.
TEST(Ban, GrowsToItsCapAndIsForgotten) {
  const int64_t minute = 60 * kSecNs;
  const Ban policy{3, minute, 10 * minute, 3, 60 * minute};
  const Quota quota = quota_of(policy, 7);
  Word word = kEmptyWord;
  int64_t t = 1000;
  for (const int64_t minutes : {10, 30, 60, 60}) {
    word = ban::refused_word(word, t, quota);
    word = ban::refused_word(word, t, quota);
    ASSERT_EQ(ban::barred_for(word, t, quota), 0);
    word = ban::refused_word(word, t, quota);
    const int64_t barred = ban::barred_for(word, t, quota);
    ASSERT_GE(barred, minutes * minute);
    ASSERT_LT(barred, minutes * minute + kTickNs);
    t += barred;
    ASSERT_EQ(ban::barred_for(word, t, quota), 0);
  }
  EXPECT_FALSE(ban::is_idle(word, t + 60 * minute - 1, quota));
  EXPECT_TRUE(ban::is_idle(word, t + 60 * minute, quota));
  t += 60 * minute;
  for (int i = 0; i < 3; ++i) word = ban::refused_word(word, t, quota);
  EXPECT_LT(ban::barred_for(word, t, quota), 10 * minute + kTickNs);
  // Two refusals, then a minute of peace: the count starts anew.
  word = kEmptyWord;
  for (int i = 0; i < 2; ++i) word = ban::refused_word(word, t, quota);
  t += minute + kTickNs;
  for (int i = 0; i < 2; ++i) word = ban::refused_word(word, t, quota);
  EXPECT_EQ(ban::barred_for(word, t, quota), 0);
}

}  // namespace
}  // namespace brim
