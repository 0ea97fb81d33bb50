// SPDX-License-Identifier: MIT
// F32, F33, P12: what becomes of the limits when clocks step or disagree.
#include <sys/stat.h>

#include <cinttypes>

#include "tests/policies/support.h"

namespace brim::test {
namespace {

constexpr char kFakeTime[] = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1";

const std::vector<NamedPolicy>& every_kind() {
  static const std::vector<NamedPolicy> list = {{"bucket", "10/h"},
                                                {"window", "fixed-window 10/100d"},
                                                {"calendar", "calendar-window 10/year"},
                                                {"counter", "sliding-counter 10/d"},
                                                {"log", "sliding-log 10/d"}};
  return list;
}

// What a call of cost 0 sees: "name remaining reset_after_ns" a line.
std::string seen(const Limiter& limiter) {
  std::string text;
  for (const NamedPolicy& policy : every_kind()) {
    const Decision decision = limiter.policy(policy.name)->peek("key");
    text += policy.name + " " + std::to_string(decision.remaining) + " " +
            std::to_string(decision.reset_after_ns) + "\n";
  }
  return text;
}

// Not a test: what WallClockSteps runs under a stepped wall clock.
TEST(F32, DISABLED_UnderAStep) {
  const auto limiter = Limiter::attach(std::getenv("BRIM_F32_SEGMENT"));
  ASSERT_TRUE(limiter.ok()) << limiter.status();
  ASSERT_TRUE(limiter->define("bucket", "10/h").ok());
  std::printf("wall %" PRId64 "\n%s", wall_now_ns(), seen(*limiter).c_str());
  for (const NamedPolicy& policy : every_kind()) {
    uint32_t admitted = 0;
    drain(*limiter->policy(policy.name), "key", admitted, 20);
    std::printf("admitted %s %u\n", policy.name.c_str(), admitted);
  }
}

// Goal: F32, the wall clock may step by years: no limit notices, calendar windows neither, since
//   each policy's windows are tied to the monotonic clock when it is made.
// Method: a process with libfaketime and another wall time attaches, looks at a key of each kind of
//   policy, and takes what is left: exactly what was left before.
TEST(F32, WallClockSteps) {
  struct stat st {};
  if (kSanitized || stat(kFakeTime, &st) != 0) GTEST_SKIP() << "no libfaketime, or a sanitizer";
  const SegmentName name;
  Options options;
  options.capacity = 64;
  options.policies = every_kind();
  const auto limiter = Limiter::create(name.str(), options);
  ASSERT_TRUE(limiter.ok()) << limiter.status();
  for (const char* step : {"-500d", "-1h", "+1h", "+500d"}) {
    for (const NamedPolicy& policy : every_kind()) {
      (void)limiter->policy(policy.name)->reset("key");
      ASSERT_TRUE(limiter->policy(policy.name)->try_acquire("key", 7).admitted);
    }
    const std::string before = seen(*limiter);
    const int64_t from = monotonic_now_ns();
    // The shell takes the path from the environment: whatever is in it needs no quotes.
    setenv("BRIM_F32_PROGRAM", sibling("security_clock_test").c_str(), 1);
    const std::string command =
        std::string("FAKETIME_DONT_FAKE_MONOTONIC=1 FAKETIME=") + step +
        " LD_PRELOAD=" + kFakeTime + " BRIM_F32_SEGMENT=" + name.str() +
        " \"$BRIM_F32_PROGRAM\""
        " --gtest_also_run_disabled_tests --gtest_filter=F32.DISABLED_UnderAStep 2>&1";
    FILE* const child = popen(command.c_str(), "r");
    ASSERT_NE(child, nullptr);
    std::string text;
    for (char line[512]; std::fgets(line, sizeof(line), child) != nullptr;) text += line;
    ASSERT_EQ(pclose(child), 0) << text;
    const int64_t most = monotonic_now_ns() - from;
    const size_t at = text.find("wall ");
    ASSERT_NE(at, std::string::npos) << text;
    const int64_t wall = std::strtoll(text.c_str() + at + 5, nullptr, 10);
    EXPECT_GT(std::abs(wall - wall_now_ns()), 3000 * kSecond) << "the clock did not step: " << step;
    for (const NamedPolicy& policy : every_kind()) {
      SCOPED_TRACE(std::string(step) + " " + policy.name);
      const auto field = [&](const std::string& where, int which) {
        const char* const line = std::strstr(where.c_str(), ("\n" + policy.name + " ").c_str());
        char* end = nullptr;
        const int64_t first = std::strtoll(line + policy.name.size() + 2, &end, 10);
        return which == 0 ? first : std::strtoll(end, nullptr, 10);
      };
      EXPECT_EQ(field(text, 0), 3);
      EXPECT_LE(field(text, 1), field("\n" + before, 1) + kClockSkewNs);
      EXPECT_GE(field(text, 1), field("\n" + before, 1) - most - kClockSkewNs);
      EXPECT_NE(text.find("admitted " + policy.name + " 3\n"), std::string::npos) << text;
    }
  }
}

// Goal: F33, processes whose clocks disagree by S admit at most rate * S more in any time, no more
//   however they take turns, and nothing more if they agree.
// Method: two clocks on one segment, S apart; calls of random keys by either in a table so small
//   that slots change hands all the time. A bucket of debt for each key, drained by true time,
//   never rises above burst * T + S.
TEST(F33, ClocksThatDisagree) {
  constexpr int64_t kT = 100000;  // 10 000/s
  constexpr int64_t kBurst = 5;
  int64_t worst_of_all = 0;
  for (const int64_t skew : {int64_t{0}, kMs / 2, kMs, 5 * kMs, 20 * kMs}) {
    const SegmentName name;
    const Shared<std::atomic<int64_t>> fast;
    const Shared<std::atomic<int64_t>> slow;
    fast->store(kEpoch);
    slow->store(kEpoch - skew);
    // Beyond the skew that brim allows for, a late clock takes the newest words for damage, unless
    // bookings may be that far ahead.
    const char* const text = skew <= kClockSkewNs ? "10000/s burst 5 ahead 0s on-unavailable deny"
                                                  : "10000/s burst 5 ahead 1s on-unavailable deny";
    Options options = manual(&*fast, 24, text);
    options.on_full = OnFull::kDeny;
    const auto ahead = Limiter::create(name.str(), options);
    const auto behind = Limiter::attach(name.str(), manual(&*slow, 0, text));
    ASSERT_TRUE(ahead.ok() && behind.ok());
    const PolicyHandle policies[] = {*ahead->policy("p"), *behind->policy("p")};
    constexpr uint32_t kKeys = 48;
    int64_t debt[kKeys] = {};
    int64_t last[kKeys] = {};
    int64_t worst = 0;
    uint64_t admitted = 0;
    uint64_t unavailable = 0;
    std::mt19937_64 random(33);
    const uint32_t steps = scaled(400000, 20000000);
    for (uint32_t i = 0; i < steps; ++i) {
      const int64_t move = static_cast<int64_t>(random() % 3000);
      fast->fetch_add(move);
      slow->fetch_add(move);
      // A few keys are busy at a time, so that the others go idle and give their slots away.
      const uint32_t key = static_cast<uint32_t>((i / 2048 * 5 + random() % 8) % kKeys);
      const Decision decision = policies[random() % 2].try_acquire("k" + std::to_string(key));
      unavailable += decision.verdict == Verdict::kUnavailable ? 1 : 0;
      if (!decision.admitted) continue;
      ++admitted;
      debt[key] = std::max<int64_t>(0, debt[key] - (fast->load() - last[key])) + kT;
      last[key] = fast->load();
      worst = std::max(worst, debt[key]);
    }
    EXPECT_LE(worst, kBurst * kT + skew) << "skew " << skew;
    EXPECT_GT(admitted, steps / 100);
    worst_of_all = std::max(worst_of_all, worst - kBurst * kT);
    std::printf("F33: skew %" PRId64 " us: %" PRIu64 " admitted, %" PRIu64
                " unavailable, most above the burst %" PRId64 " us of debt, allowed %" PRId64 "\n",
                skew / 1000, admitted, unavailable, (worst - kBurst * kT) / 1000, skew / 1000);
  }
  EXPECT_GT(worst_of_all, kMs / 10) << "the clocks did not matter: the test is blind";
}

struct Kind {
  const char* text;
  int64_t longest_ns;  // what a full debt may bar
  uint32_t back;       // permits that a step back may grant, at most one burst
};

class P12 : public Policies, public ::testing::WithParamInterface<Kind> {};

// Goal: P12, a step of the clock grants at most one burst and bars a key no longer than a full debt
//   does: back (a machine restored from a snapshot), forward (moved, suspended with a clock that
//   ran on), and standing still.
// Method: a drained key after each step; the time it names is waited for, again and again.
TEST_P(P12, ClockSteps) {
  open({{"p", GetParam().text}});
  const PolicyHandle p = policy("p");
  advance(40 * 86400 * kSecond);
  for (const int64_t step : {-2 * kSecond, -50 * kSecond, -3600 * kSecond, -30 * 86400 * kSecond,
                             int64_t{0}, kSecond, 3600 * kSecond, 3650 * 86400 * kSecond}) {
    SCOPED_TRACE(step);
    const int64_t start = now();
    ASSERT_TRUE(p.reset("k") || p.peek("k").remaining == 5);
    ASSERT_EQ(passes(p, "k"), 5u);
    advance(step);
    const uint32_t granted = passes(p, "k");
    EXPECT_LE(granted, step == 0 ? 0u : step < 0 ? GetParam().back : 5u);
    const int64_t barred_from = now();
    for (int tries = 0; tries < 20 && !p.try_acquire("k").admitted; ++tries) {
      const Decision refused = p.peek("k", 1);
      ASSERT_GT(refused.retry_after_ns, 0);
      advance(refused.retry_after_ns);
    }
    EXPECT_LE(now() - barred_from, GetParam().longest_ns);
    advance(start - now() + 86400 * kSecond);
  }
}

// Buckets and windows know their place in time. What a counter or a log holds of a time that can
// not have come yet is taken for damage, and void; a log keeps its cells a sixteenth of a span
// longer.
INSTANTIATE_TEST_SUITE_P(Kinds, P12,
                         ::testing::Values(Kind{"10/s burst 5 ahead 0s", 500 * kMs, 0},
                                           Kind{"5/m burst 5 ahead 0s", 60 * kSecond, 0},
                                           Kind{"fixed-window 5/m", 60 * kSecond, 0},
                                           Kind{"fixed-window 5/m first-hit", 60 * kSecond, 0},
                                           Kind{"sliding-counter 5/m", 120 * kSecond, 5},
                                           Kind{"sliding-log 5/m", 64 * kSecond, 5}));

}  // namespace
}  // namespace brim::test
