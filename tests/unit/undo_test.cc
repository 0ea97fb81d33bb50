// SPDX-License-Identifier: MIT
// What a call on several rates gives back when one of them refuses late: its own, and nothing that
// others were charged.
#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <string>

#include "shm/segment.h"
#include "src/base/text.h"
#include "src/call.h"

namespace brim {
namespace {

constexpr int64_t kSecond = 1000000000;

Quota bucket(uint32_t burst) {
  Quota quota = make_quota(1, kSecond, burst, 0);  // a permit a second
  quota.algorithm = static_cast<uint8_t>(Algorithm::kGcra);
  return quota;
}

// One charge of a permit at `t`.
Receipt charge(Word& word, const Quota& quota, int64_t t) {
  const Instant at = instant(quota, t);
  const Step taken = step(word, at, quota, 1);
  EXPECT_TRUE(taken.admitted);
  word = taken.next;
  return {word, at.v};
}

TEST(Undo, GivesBackTheCharge) {
  const Quota quota = bucket(3);
  Word word = kEmptyWord;
  charge(word, quota, 0);
  const Word before = word;
  const Receipt receipt = charge(word, quota, 0);
  EXPECT_EQ(undo(word, receipt, instant(quota, 0), quota, 1), before);
  // What has refilled since may have been the charge's.
  const Instant later = instant(quota, kSecond / 4);
  EXPECT_EQ(undo(word, receipt, later, quota, 1), before + (later.v - receipt.v));
  EXPECT_EQ(undo(word, receipt, instant(quota, kSecond), quota, 1), word);
}

// Goal: two calls whose charges are both undone take nothing of a third one's. Method: the second
// is stopped until its permit has flowed back, and the third was charged. What the second one had
// stored still stands above the clock, since the first one's permit was below it.
TEST(Undo, OfTwoChargesTakesNothingOfAThird) {
  const Quota quota = bucket(2);
  Word word = kEmptyWord;
  const Receipt first = charge(word, quota, 0);
  const Receipt second = charge(word, quota, 0);
  word = undo(word, first, instant(quota, 0), quota, 1);
  const Instant later = instant(quota, kSecond);
  ASSERT_GT(second.word, later.v);
  charge(word, quota, kSecond);
  const Word charged = word;
  EXPECT_EQ(undo(word, second, later, quota, 1), charged);
}

// Goal: an undo that is stopped between its reading of the clock and its look at the word takes
// nothing of those who were charged meanwhile. Method: the clock and the word are moved on there.
TEST(Undo, ReadsTheClockAfterTheWord) {
  const std::string name = cat("brim-undo-", getpid());
  std::atomic<int64_t> now{1000 * kSecond};
  Options options;
  options.clock = ClockKind::kManual;
  options.manual_clock_ns = &now;
  options.policies = {{"p", "1/s burst 2"}};
  const auto limiter = Limiter::create(name, options);
  ASSERT_TRUE(limiter.ok()) << limiter.status();
  const auto handle = limiter->policy("p");
  ASSERT_TRUE(handle.ok()) << handle.status();
  const Engine engine(*shm::Segment::attach(name, {}), Clock::manual(&now));
  const std::string_view key = "key";
  const Target target = locate(engine, 0, 0, hash_key(engine.secret, key));

  Call<Acquire, Scope::kGeneral> charges(engine, target, key, {1});
  ASSERT_TRUE(charges.begin(now));
  ASSERT_EQ(engine.table.update(target.probe, target.id, charges), Outcome::kDecided);
  const Receipt receipt{charges.next(), charges.at().v};
  Call<Undo, Scope::kGeneral> undoes(engine, target, key, {1, receipt});
  ASSERT_TRUE(undoes.begin(now));
  now += 2 * kSecond;  // all has flowed back; two others are charged
  ASSERT_TRUE(handle->try_acquire(key));
  ASSERT_TRUE(handle->try_acquire(key));
  ASSERT_EQ(engine.table.update(target.probe, target.id, undoes), Outcome::kDecided);
  EXPECT_FALSE(handle->try_acquire(key));
  EXPECT_TRUE(Limiter::unlink(name).ok());
}

}  // namespace
}  // namespace brim
