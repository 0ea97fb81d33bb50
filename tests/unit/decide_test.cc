// SPDX-License-Identifier: MIT
// The arguments of a call at their edges; what a call decides is tested in step_test.cc, and what
// several processes make of it in tests/process.
#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <limits>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "brim/limiter.h"
#include "src/base/text.h"

namespace brim {
namespace {

constexpr int64_t kSecond = 1000000000;

// A segment of its own for each test, on a clock that stands still.
class Decide : public ::testing::Test {
 protected:
  Decide() : name_(cat("brim-unit-", getpid())) {}
  ~Decide() override { EXPECT_TRUE(Limiter::unlink(name_).ok()); }

  PolicyHandle policy(std::string_view text, Options options = {}) {
    options.clock = ClockKind::kManual;
    options.manual_clock_ns = &now_;
    options.policies = {{"p", std::string(text)}};
    auto limiter = Limiter::create(name_, options);
    EXPECT_TRUE(limiter.ok()) << limiter.status();
    auto handle = limiter->policy("p");
    EXPECT_TRUE(handle.ok()) << handle.status();
    return *std::move(handle);
  }

  std::string name_;
  std::atomic<int64_t> now_{1000 * kSecond};
};

// Goal (F40): the empty key is a key, also as a view that points nowhere. Method: both forms share
// one limit; the undefined-behaviour build sees what the null pointer is passed to.
TEST_F(Decide, AnEmptyKeyMayPointNowhere) {
  const PolicyHandle two = policy("2/s");
  const std::string_view nowhere;
  ASSERT_EQ(nowhere.data(), nullptr);
  EXPECT_TRUE(two.try_acquire(nowhere));
  EXPECT_TRUE(two.try_acquire(""));
  EXPECT_FALSE(two.try_acquire(nowhere));
  EXPECT_TRUE(two.refund(nowhere));
  EXPECT_EQ(two.peek("").remaining, 1u);
  EXPECT_TRUE(two.reset(nowhere));
}

// Goal (F31): "time behind the clock is safe and only stricter", however far behind. Method: a
// table that is full of live keys and evicts none; a newcomer with a time at or near the smallest
// number is refused like any other, and every key keeps its debt.
TEST_F(Decide, TimeFarBehindTakesNobodysSlot) {
  Options options;
  options.capacity = 8;
  options.probe_limit = 1;
  options.on_full = OnFull::kDeny;
  const PolicyHandle one = policy("1/h", options);
  std::string newcomer;
  std::vector<std::string> keys;
  for (int i = 0; newcomer.empty(); ++i) {
    ASSERT_LT(i, 10000);
    const std::string key = cat("key ", i);
    const Decision decision = one.try_acquire(key);
    if (decision.reason == Reason::kFull) {
      newcomer = key;
    } else {
      keys.push_back(key);
    }
  }
  constexpr int64_t kLowest = std::numeric_limits<int64_t>::min();
  for (const int64_t time :
       {int64_t{0}, int64_t{-1}, -kSecond, kLowest + kSecond, kLowest + 1, kLowest}) {
    EXPECT_EQ(one.try_acquire_at(time, newcomer).reason, Reason::kFull) << time;
  }
  for (const std::string& key : keys) EXPECT_EQ(one.peek(key).remaining, 0u) << key;
}

// Goal: a caller's time behind the clock is stricter by exactly that much, and writes nothing that
// bars the key later.
TEST_F(Decide, TimeBehindIsOnlyStricter) {
  const PolicyHandle one = policy("1/s");
  now_ += 10 * kSecond;
  EXPECT_TRUE(one.try_acquire("a"));
  now_ += kSecond;
  EXPECT_FALSE(one.try_acquire_at(now_ - 1, "a"));
  EXPECT_EQ(one.try_acquire_at(now_ - 1, "a").retry_after_ns, 1);
  EXPECT_TRUE(one.try_acquire_at(now_, "a"));
}

}  // namespace
}  // namespace brim
