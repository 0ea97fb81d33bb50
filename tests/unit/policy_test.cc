// SPDX-License-Identifier: MIT
#include "brim/policy.h"

#include <gtest/gtest.h>

#include <limits>
#include <string>
#include <string_view>

#include "src/algo/quota.h"
#include "src/base/text.h"
#include "tests/unit/model.h"
#include "tests/unit/support.h"

namespace brim {
namespace {

using test::kSecondNs;
using test::kYearNs;
using test::message;
using test::Random;

constexpr int64_t kMinute = 60 * kSecondNs;
constexpr int64_t kHour = 60 * kMinute;
constexpr int64_t kDay = 24 * kHour;

Policy gcra(uint32_t limit, int64_t period_ns, uint32_t burst = 0) {
  Policy policy;
  policy.limit = limit;
  policy.period_ns = period_ns;
  policy.burst = burst == 0 ? limit : burst;
  return policy;
}

Policy with(Policy policy, Algorithm algorithm, OnUnavailable on = OnUnavailable::kAllow) {
  policy.algorithm = algorithm;
  policy.on_unavailable = on;
  return policy;
}

struct Good {
  std::string_view text;
  Policy policy;
  std::string_view canonical;
};

const Good kGood[] = {
    // The spellings of the docs.
    {"100/m", gcra(100, kMinute), "100/m"},
    {"5/10s burst 20", gcra(5, 10 * kSecondNs, 20), "5/10s burst 20"},
    {"1000/500ms", gcra(1000, kSecondNs / 2), "1000/500ms"},
    {"10r/s", gcra(10, kSecondNs), "10/s"},
    {"10 r/s", gcra(10, kSecondNs), "10/s"},
    {"10 per s", gcra(10, kSecondNs), "10/s"},
    {"10 requests per second", gcra(10, kSecondNs), "10/s"},
    {"1 request per 2 seconds", gcra(1, 2 * kSecondNs), "1/2s"},
    {"1 req/s", gcra(1, kSecondNs), "1/s"},
    {"1 permit/s", gcra(1, kSecondNs), "1/s"},
    {"7 permits / 3 days", gcra(7, 3 * kDay), "7/3d"},
    // Every unit.
    {"1/ns", gcra(1, 1), "1/ns"},
    {"1/us", gcra(1, 1000), "1/us"},
    {"1/usec", gcra(1, 1000), "1/us"},
    {"1/ms", gcra(1, 1000000), "1/ms"},
    {"1/msec", gcra(1, 1000000), "1/ms"},
    {"1/s", gcra(1, kSecondNs), "1/s"},
    {"1/sec", gcra(1, kSecondNs), "1/s"},
    {"1/second", gcra(1, kSecondNs), "1/s"},
    {"1/seconds", gcra(1, kSecondNs), "1/s"},
    {"1/m", gcra(1, kMinute), "1/m"},
    {"1/min", gcra(1, kMinute), "1/m"},
    {"1/minute", gcra(1, kMinute), "1/m"},
    {"1/minutes", gcra(1, kMinute), "1/m"},
    {"1/h", gcra(1, kHour), "1/h"},
    {"1/hr", gcra(1, kHour), "1/h"},
    {"1/hour", gcra(1, kHour), "1/h"},
    {"1/hours", gcra(1, kHour), "1/h"},
    {"1/d", gcra(1, kDay), "1/d"},
    {"1/day", gcra(1, kDay), "1/d"},
    {"1/days", gcra(1, kDay), "1/d"},
    {"1/w", gcra(1, 7 * kDay), "1/w"},
    {"1/week", gcra(1, 7 * kDay), "1/w"},
    {"1/weeks", gcra(1, 7 * kDay), "1/w"},
    {"1/y", gcra(1, kYearNs), "1/y"},
    {"1/year", gcra(1, kYearNs), "1/y"},
    {"1/years", gcra(1, kYearNs), "1/y"},
    // Blanks, case, leading zeros, '='.
    {"  100\t/ \t m  ", gcra(100, kMinute), "100/m"},
    {"100/M BURST 20", gcra(100, kMinute, 20), "100/m burst 20"},
    {"007/S", gcra(7, kSecondNs), "7/s"},
    {"100/m burst=20", gcra(100, kMinute, 20), "100/m burst 20"},
    {"100/m burst = 20", gcra(100, kMinute, 20), "100/m burst 20"},
    {"100/m burst20", gcra(100, kMinute, 20), "100/m burst 20"},
    {"100/m burst 100", gcra(100, kMinute), "100/m"},
    // The period in its largest whole unit.
    {"1/60s", gcra(1, kMinute), "1/m"},
    {"1/3600s", gcra(1, kHour), "1/h"},
    {"1/90s", gcra(1, 90 * kSecondNs), "1/90s"},
    {"1/1500ms", gcra(1, 1500000000), "1/1500ms"},
    {"1/365d", gcra(1, kYearNs), "1/y"},
    {"1/1000000001ns", gcra(1, 1000000001), "1/1000000001ns"},
    // Algorithms and clauses, in any order.
    {"gcra 10/s", gcra(10, kSecondNs), "10/s"},
    {"token-bucket 10/s", with(gcra(10, kSecondNs), Algorithm::kTokenBucket), "token-bucket 10/s"},
    {"Token_Bucket 10/s", with(gcra(10, kSecondNs), Algorithm::kTokenBucket), "token-bucket 10/s"},
    {"leaky-bucket 10/s burst 2", with(gcra(10, kSecondNs, 2), Algorithm::kLeakyBucket),
     "leaky-bucket 10/s burst 2"},
    {"10/s on-unavailable deny", with(gcra(10, kSecondNs), Algorithm::kGcra, OnUnavailable::kDeny),
     "10/s on-unavailable deny"},
    {"10/s on_unavailable=deny burst 3",
     with(gcra(10, kSecondNs, 3), Algorithm::kGcra, OnUnavailable::kDeny),
     "10/s burst 3 on-unavailable deny"},
    {"10/s on-unavailable allow", gcra(10, kSecondNs), "10/s"},
    // The ends of the ranges (F35).
    {"1000000000/s", gcra(1000000000, kSecondNs), "1000000000/s"},
    {"1000000000/s burst 4294967295", gcra(1000000000, kSecondNs, 0xffffffff),
     "1000000000/s burst 4294967295"},
    {"4294967295/5s", gcra(0xffffffff, 5 * kSecondNs), "4294967295/5s"},
    {"1/y burst 64", gcra(1, kYearNs, 64), "1/y burst 64"},
    {"1/73y", gcra(1, 73 * kYearNs), "1/73y"},
    {"2/100y burst 1", gcra(2, 100 * kYearNs, 1), "2/100y burst 1"},
};

// Goal: what the docs say may be written, reads as they say, and has one canonical spelling.
TEST(Policy, ReadsEverySpelling) {
  for (const Good& good : kGood) {
    const auto policy = parse_policy(good.text);
    ASSERT_TRUE(policy.ok()) << good.text << ": " << policy.status();
    EXPECT_EQ(*policy, good.policy) << good.text;
    EXPECT_EQ(policy_text(*policy), good.canonical) << good.text;
    EXPECT_TRUE(validate(*policy).ok());
    const auto again = parse_policy(good.canonical);
    ASSERT_TRUE(again.ok()) << again.status();
    EXPECT_EQ(*again, good.policy);
  }
}

struct Bad {
  std::string_view text;
  std::string_view says;  // where and what, and the remedy
};

constexpr std::string_view kRate = "expected a rate such as 100/m, 5/10s or 10r/s";

const Bad kBad[] = {
    {"", "'', column 1: expected a rate such as 100/m"},
    {"   ", "column 4: expected a rate such as 100/m"},
    {"abc", "'abc', column 1: expected a rate such as 100/m"},
    {"/s", "column 1: expected a rate such as 100/m"},
    {"-1/s", "column 1: expected a rate such as 100/m"},
    {"+1/s", "column 1: expected a rate such as 100/m"},
    {".5/s", "column 1: expected a rate such as 100/m"},
    {"1.5/s", "column 1: the limit must be whole: write 1/2s for 0.5/s"},
    {"0x10/s", "column 2: expected '/' and a period, as in 100/m or 5/10s"},
    {"1e9/s", "column 2: expected '/' and a period"},
    {"1,000/s", "column 2: expected '/' and a period"},
    {"100", "column 4: expected '/' and a period, as in 100/m or 5/10s"},
    {"100 x/s", "column 5: expected '/' and a period"},
    {"100 r x/s", "column 7: expected '/' and a period"},
    {"100 r", "column 6: expected '/' and a period"},
    {"100/", "column 5: expected a unit of time: ns us ms s m h d w y"},
    {"100/x", "column 5: expected a unit of time"},
    {"100/5", "column 6: expected a unit of time"},
    {"100/5 x", "column 7: expected a unit of time"},
    {"100/1.5s", "column 5: the period must be whole"},
    {"100/-1s", "column 5: expected a unit of time"},
    {"100//s", "column 5: expected a unit of time"},
    {"100/s/s", "column 6: expected 'burst N' or 'on-unavailable allow|deny'"},
    {"100/s 5", "column 7: expected 'burst N'"},
    {"100/s;", "column 6: expected 'burst N'"},
    {"100/s burst", "column 12: expected the burst, a whole number such as 100"},
    {"100/s burst x", "column 13: expected the burst, a whole number"},
    {"100/s burst -1", "column 13: expected the burst, a whole number"},
    {"100/s burst 4294967296", "column 13: the burst is above 4294967295"},
    {"100/s burst 99999999999999999999999", "column 13: the burst is above 4294967295"},
    {"100/s burst 0", "column 13: the burst must be at least 1"},
    {"100/s burst 5 extra", "column 15: expected 'burst N'"},
    {"100/s bursts 5", "column 7: expected 'burst N'"},
    {"100/s on-unavailable", "column 21: expected allow or deny"},
    {"100/s on-unavailable maybe", "column 22: expected allow or deny"},
    {"4294967296/s", "column 1: the limit is above 4294967295"},
    {"99999999999999999999999/s", "column 1: the limit is above 4294967295"},
    {"1/101y", "column 3: the period is above 100 years"},
    {"1/ 101y", "column 4: the period is above 100 years"},
    {"1/36501d", "column 3: the period is above 100 years"},
    {"1/3153600000000000001ns", "column 3: the period is above 100 years"},
    {"1/99999999999999999999999s", "column 3: the period is above 4611686018427387904"},
    {"fixed-window 10/s", "column 1: expected a rate such as 100/m"},
    {"gcra", "column 5: expected the limit, a whole number such as 100"},
    {"gcra gcra 1/s", "column 6: expected the limit"},
    {"10\n/s", "'10%0a/s', column 3: expected '/' and a period"},
    {"10/s\x1b]0;x\x07", "'10/s%1b]0;x%07', column 5: expected 'burst N'"},
    {"10/\xc2\xb5s", "'10/%c2%b5s', column 4: expected a unit of time"},
    {"\xef\xbc\x91/s", "'%ef%bc%91/s', column 1: expected a rate"},
    {"10/s \xff\xfe", "column 6: expected 'burst N'"},
    // Out of range as a whole: no column, but the value and the remedy.
    {"0/s", "the limit is 0; give at least 1 permit a period (in policy '0/s')"},
    {"5/0s", "the period is 0 ns; give 1 ns to 100 years (in policy '5/0s')"},
    {"1000000001/s", "give at most one permit a nanosecond (10^9/s) (in policy '1000000001/s')"},
    {"4294967295/s", "the rate is 4294967295 in 1000000000 ns; give at most one permit a"},
    {"2/ns", "the rate is 2 in 1 ns; give at most one permit a nanosecond"},
    {"1/y burst 4294967295", "give a smaller burst or a higher rate (in policy '1/y burst"},
    {"1/100y", "give a smaller burst or a higher rate (in policy '1/100y')"},
};

// Goal (F35): a wrong text is refused with the text, the column and what to write instead; bytes
// from it never reach a terminal unescaped.
TEST(Policy, RefusesWithColumnAndRemedy) {
  for (const Bad& bad : kBad) {
    const auto policy = parse_policy(bad.text);
    ASSERT_FALSE(policy.ok()) << bad.text;
    EXPECT_EQ(policy.status().code(), absl::StatusCode::kInvalidArgument);
    const std::string_view said = message(policy.status());
    EXPECT_EQ(said.substr(0, 16), "invalid_policy: ") << said;
    EXPECT_NE(said.find(bad.says), std::string_view::npos) << bad.text << " -> " << said;
    for (const char c : said) ASSERT_TRUE(c >= 0x20 && c < 0x7f) << bad.text;
  }
  EXPECT_NE(message(parse_policy("").status()).find(kRate), std::string_view::npos);
  using std::string_literals::operator""s;
  for (const std::string& with_nul : {"10/s\0"s, "\0"s, "10\0/s"s, "10/s burst 5\0 "s}) {
    const auto policy = parse_policy(with_nul);
    ASSERT_FALSE(policy.ok());
    EXPECT_NE(message(policy.status()).find("%00"), std::string_view::npos);
  }
}

// Goal: a message that gives a figure is true. Method: the largest burst that fits, and the next,
// for a rate whose unit is much less than a nanosecond: 65 years are not "over 73".
TEST(Policy, TheReasonGivenIsTrue) {
  ASSERT_TRUE(parse_policy("1/y burst 64").ok());
  const auto policy = parse_policy("1/y burst 65");
  ASSERT_FALSE(policy.ok());
  EXPECT_EQ(message(policy.status()).find("73 years"), std::string_view::npos)
      << message(policy.status());
}

// Goal: a text of any length gives a short message. Method: 10 KB of digits, letters, blanks.
TEST(Policy, LongTextsGiveShortMessages) {
  for (const char c : {'1', 'x', ' ', '/', '\n', '\xff', '-'}) {
    const auto policy = parse_policy(std::string(10240, c));
    ASSERT_FALSE(policy.ok());
    EXPECT_LT(message(policy.status()).size(), 500u);
  }
  const auto blanks = parse_policy(std::string(5000, ' ') + "10/s" + std::string(5000, '\t'));
  ASSERT_TRUE(blanks.ok());
  const auto column = parse_policy(std::string(5000, ' ') + "10/x");
  EXPECT_NE(message(column.status()).find("column 5004:"), std::string_view::npos);
}

Policy random_policy(Random& random) {
  const test::Rule rule = test::random_rule(random);
  Policy policy;
  policy.algorithm = static_cast<Algorithm>(1 + random.below(3));
  policy.limit = static_cast<uint32_t>(rule.limit);
  policy.period_ns = rule.period;
  policy.burst = static_cast<uint32_t>(rule.burst);
  policy.on_unavailable = random.one_in(2) ? OnUnavailable::kDeny : OnUnavailable::kAllow;
  return policy;
}

// Goal: the canonical text is the policy. Method: random valid policies there and back, and the
// text itself again; it also fits the segment's 128 bytes.
TEST(Policy, CanonicalTextRoundTrips) {
  Random random(70);
  for (int i = 0; i < test::scaled(50000); ++i) {
    const Policy policy = random_policy(random);
    ASSERT_TRUE(validate(policy).ok()) << policy_text(policy) << validate(policy);
    const std::string text = policy_text(policy);
    ASSERT_LT(text.size(), 128u);
    const auto back = parse_policy(text);
    ASSERT_TRUE(back.ok()) << text << ": " << back.status();
    ASSERT_EQ(*back, policy) << text;
    ASSERT_EQ(policy_text(*back), text);
  }
}

// Goal: no text crashes the parser, hangs it or yields a policy that is not valid. Method: random
// strings of the grammar's own pieces, of its letters, and of any bytes.
TEST(Policy, RandomTextsNeverCrash) {
  static constexpr std::string_view kPieces[] = {"gcra",
                                                 "token-bucket",
                                                 "leaky_bucket",
                                                 "burst",
                                                 "on-unavailable",
                                                 "allow",
                                                 "deny",
                                                 "/",
                                                 "per",
                                                 " ",
                                                 "\t",
                                                 "=",
                                                 "s",
                                                 "ms",
                                                 "m",
                                                 "years",
                                                 "r",
                                                 "requests",
                                                 "0",
                                                 "1",
                                                 "100",
                                                 ".",
                                                 "-",
                                                 "18446744073709551615",
                                                 "18446744073709551616",
                                                 "4294967296",
                                                 "9223372036854775807",
                                                 "\n"};
  static constexpr std::string_view kLetters = "0123456789 /smhdwyburst=-_.";
  Random random(71);
  int good = 0;
  for (int i = 0; i < test::scaled(200000); ++i) {
    std::string text;
    const uint64_t kind = random.below(4);
    const uint64_t size = random.below(12);
    if (kind == 3) text = cat(1 + random.below(100), "/", 1 + random.below(100));
    for (uint64_t k = 0; k < size; ++k) {
      if (kind == 0 || kind == 3) {
        text += kPieces[random.below(std::size(kPieces))];
      } else if (kind == 1) {
        text += kLetters[random.below(kLetters.size())];
      } else {
        text += static_cast<char>(random.bits());
      }
    }
    const auto policy = parse_policy(text);
    if (!policy.ok()) continue;
    ++good;
    ASSERT_TRUE(validate(*policy).ok()) << text;
    const auto again = parse_policy(policy_text(*policy));
    ASSERT_TRUE(again.ok()) << text;
    ASSERT_EQ(*again, *policy) << text;
  }
  EXPECT_GT(good, test::scaled(200));
}

// Goal (F35): a Policy filled in by a program is checked like a text. Method: each field out of its
// range by one; every accepted policy compiles.
TEST(Policy, ValidateChecksEveryField) {
  const Policy fine = gcra(10, kSecondNs);
  EXPECT_TRUE(validate(fine).ok());
  const auto refused = [](Policy policy, std::string_view says) {
    const absl::Status status = validate(policy);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_NE(message(status).find(says), std::string_view::npos) << status;
  };
  refused(with(fine, static_cast<Algorithm>(0)), "algorithm is 0; give gcra");
  refused(with(fine, static_cast<Algorithm>(4)), "algorithm is 4; give gcra");
  refused(with(fine, static_cast<Algorithm>(255)), "algorithm is 255");
  Policy policy = fine;
  policy.limit = 0;
  refused(policy, "the limit is 0");
  policy = fine;
  policy.burst = 0;
  refused(policy, "the burst is 0");
  for (const int64_t period : {int64_t{0}, int64_t{-1}, std::numeric_limits<int64_t>::min(),
                               kMaxPeriodNs + 1, std::numeric_limits<int64_t>::max()}) {
    policy = fine;
    policy.period_ns = period;
    refused(policy, "give 1 ns to 100 years");
  }
  policy = gcra(1, kMaxPeriodNs, 1);
  refused(policy, "give a smaller burst");
  Random random(72);
  for (int i = 0; i < test::scaled(100000); ++i) {
    policy.limit = static_cast<uint32_t>(random.bits() >> random.below(64));
    policy.period_ns = static_cast<int64_t>(random.bits() >> random.below(64));
    policy.burst = static_cast<uint32_t>(random.bits() >> random.below(64));
    if (validate(policy).ok()) {
      ASSERT_TRUE(quota_fits(policy.limit, policy.period_ns, policy.burst));
      ASSERT_TRUE(parse_policy(policy_text(policy)).ok()) << policy_text(policy);
    }
  }
}

// Goal: policy_text() of a nonsensical policy returns some text; it is used in messages.
TEST(Policy, TextOfAnythingIsDefined) {
  Policy policy;
  for (const int64_t period : {int64_t{0}, int64_t{-1}, std::numeric_limits<int64_t>::min(),
                               std::numeric_limits<int64_t>::max()}) {
    policy.period_ns = period;
    policy.algorithm = static_cast<Algorithm>(200);
    EXPECT_FALSE(policy_text(policy).empty());
  }
}

TEST(Policy, Names) {
  for (const char* good : {"a", "per_ip", "A-Z.0", "...", "-", "_"}) {
    EXPECT_TRUE(valid_policy_name(good)) << good;
  }
  EXPECT_TRUE(valid_policy_name(std::string(47, 'x')));
  EXPECT_FALSE(valid_policy_name(std::string(48, 'x')));
  for (const char* bad : {"", " ", "a b", "a/b", "a\n", "\xc3\xa9", "a:b", "a\x7f", "%"}) {
    EXPECT_FALSE(valid_policy_name(bad)) << bad;
  }
  EXPECT_FALSE(valid_policy_name(std::string_view("a\0", 2)));
}

}  // namespace
}  // namespace brim
