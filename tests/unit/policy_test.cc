// SPDX-License-Identifier: MIT
#include "brim/policy.h"

#include <gtest/gtest.h>

#include <limits>
#include <string>
#include <string_view>

#include "src/base/text.h"
#include "src/policy_terms.h"
#include "tests/unit/random_policy.h"
#include "tests/unit/support.h"

namespace brim {
namespace {

using test::gcra;
using test::message;
using test::Random;
using test::with;

constexpr Algorithm kQueueing = Algorithm::kQueue;

Policy of(Rate rate) {
  Policy policy;
  policy.rates = {rate};
  return policy;
}
Policy of(std::vector<Rate> rates) {
  Policy policy;
  policy.rates = std::move(rates);
  return policy;
}
Policy window(Algorithm algorithm, uint32_t limit, int64_t period_ns) {
  return of(Rate{.algorithm = algorithm, .limit = limit, .period_ns = period_ns});
}
Rate queue(uint32_t limit, int64_t period_ns, uint32_t burst, uint32_t undelayed = 0) {
  return {.algorithm = kQueueing,
          .limit = limit,
          .period_ns = period_ns,
          .burst = burst,
          .undelayed = undelayed};
}
Policy calendar(uint32_t limit, CalendarUnit unit, int32_t offset_s = 0) {
  return of(Rate{.algorithm = Algorithm::kCalendarWindow,
                 .limit = limit,
                 .calendar = unit,
                 .utc_offset_s = offset_s});
}
Policy with_ban(Policy policy, Ban ban) {
  policy.ban = ban;
  return policy;
}
Policy in_share(Policy policy, uint8_t percent) {
  policy.enforced_percent = percent;
  return policy;
}

struct Good {
  std::string_view text;
  Policy policy;
  std::string_view canonical;
};

void reads(const Good& good) {
  const auto policy = parse_policy(good.text);
  ASSERT_TRUE(policy.ok()) << good.text << ": " << policy.status();
  EXPECT_EQ(*policy, good.policy) << good.text << " is read as " << policy_text(*policy);
  EXPECT_EQ(policy_text(*policy), good.canonical) << good.text;
  EXPECT_TRUE(validate(*policy).ok());
  const auto again = parse_policy(good.canonical);
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(*again, good.policy);
}

// Goal: one rate in every spelling of ours, traffik, limits and nginx reads as the docs say.
TEST(Policy, ReadsEverySpellingOfARate) {
  const Good kGood[] = {
      {"100/m", of(gcra(100, kMinuteNs)), "100/m"},
      {"5/10s burst 20", of(gcra(5, 10 * kSecondNs, 20)), "5/10s burst 20"},
      {"1000/500ms", of(gcra(1000, kSecondNs / 2)), "1000/500ms"},
      {"10r/s", of(gcra(10, kSecondNs)), "10/s"},
      {"10 r/s burst=5", of(gcra(10, kSecondNs, 5)), "10/s burst 5"},
      {"10 per s", of(gcra(10, kSecondNs)), "10/s"},
      {"10 requests per second", of(gcra(10, kSecondNs)), "10/s"},
      {"1 request per 2 seconds", of(gcra(1, 2 * kSecondNs)), "1/2s"},
      {"1 req/s", of(gcra(1, kSecondNs)), "1/s"},
      {"7 permits / 3 days", of(gcra(7, 3 * kDayNs)), "7/3d"},
      {"10/minute", of(gcra(10, kMinuteNs)), "10/m"},
      {"10 per 2 minutes", of(gcra(10, 2 * kMinuteNs)), "10/2m"},
      // Blanks, case, leading zeros, '='.
      {"  100\t/ \t m  ", of(gcra(100, kMinuteNs)), "100/m"},
      {"100/M BURST 20", of(gcra(100, kMinuteNs, 20)), "100/m burst 20"},
      {"007/S", of(gcra(7, kSecondNs)), "7/s"},
      {"100/m burst = 20", of(gcra(100, kMinuteNs, 20)), "100/m burst 20"},
      {"100/m burst20", of(gcra(100, kMinuteNs, 20)), "100/m burst 20"},
      {"100/m burst 100", of(gcra(100, kMinuteNs)), "100/m"},
      // The period in its largest whole unit.
      {"1/60s", of(gcra(1, kMinuteNs)), "1/m"},
      {"1/90s", of(gcra(1, 90 * kSecondNs)), "1/90s"},
      {"1/365d", of(gcra(1, kYearNs)), "1/y"},
      {"1/1000000001ns", of(gcra(1, 1000000001)), "1/1000000001ns"},
      // nginx's own spelling: burst is extra, and what is early waits.
      {"rate=10r/s", of(queue(10, kSecondNs, 0)), "queue 10/s burst 0"},
      {"rate=10r/s burst=5", of(queue(10, kSecondNs, 5)), "queue 10/s burst 5"},
      {"rate=10r/s burst=5 nodelay", of(queue(10, kSecondNs, 5, Rate::kAllUndelayed)),
       "queue 10/s burst 5 no-delay"},
      {"RATE=30r/m delay=8 burst=12", of(queue(30, kMinuteNs, 12, 8)),
       "queue 30/m burst 12 delay-after 8"},
      {"rate=10r/s burst=10", of(queue(10, kSecondNs, 10)), "queue 10/s"},
      // The ends of the ranges (F35).
      {"1000000000/s burst 4294967295", of(gcra(1000000000, kSecondNs, 0xffffffff)),
       "1000000000/s burst 4294967295"},
      {"4294967295/5s burst 1", of(gcra(0xffffffff, 5 * kSecondNs, 1)), "4294967295/5s burst 1"},
      {"1/36y", of(gcra(1, 36 * kYearNs)), "1/36y"},
      // Words, and a limit of 0.
      {"unlimited", of(Rate{.algorithm = Algorithm::kUnlimited}), "unlimited"},
      {"DENY", of(Rate{.algorithm = Algorithm::kDeny}), "deny"},
      {"0/s", of(Rate{.algorithm = Algorithm::kDeny}), "deny"},
      {"0 per 5 minutes", of(Rate{.algorithm = Algorithm::kDeny}), "deny"},
  };
  for (const Good& good : kGood) reads(good);
}

// Goal: every algorithm with every clause of its own.
TEST(Policy, ReadsEveryAlgorithmAndClause) {
  Rate debt = gcra(10, kSecondNs, 5);
  debt.debt = 3;
  Rate forward = gcra(10, kSecondNs, 1);
  forward.forward = true;
  forward.ahead_ns = 5 * kMinuteNs;
  Rate first = window(Algorithm::kFixedWindow, 9, kHourNs).rates[0];
  first.first_hit = true;
  first.count_denied = true;
  Rate aligned = window(Algorithm::kFixedWindow, 9, kDayNs).rates[0];
  aligned.utc_offset_s = 2 * 3600;
  Rate log = window(Algorithm::kSlidingLog, 100, kMinuteNs).rates[0];
  log.inclusive = true;
  Rate counter = window(Algorithm::kSlidingCounter, 100, kMinuteNs).rates[0];
  counter.floor_weight = counter.count_denied = true;
  const Good kGood[] = {
      {"gcra 10/s", of(gcra(10, kSecondNs)), "10/s"},
      {"Token_Bucket 10/s", of(with(gcra(10, kSecondNs), Algorithm::kTokenBucket)),
       "token-bucket 10/s"},
      {"leaky-bucket 10/s burst 2", of(with(gcra(10, kSecondNs, 2), Algorithm::kLeakyBucket)),
       "leaky-bucket 10/s burst 2"},
      {"10/s debt 3 burst 5", of(debt), "10/s burst 5 debt 3"},
      {"10/s forward burst 1 ahead 5 minutes", of(forward), "10/s burst 1 forward ahead 5m"},
      {"queue 2/s burst 2", of(queue(2, kSecondNs, 2)), "queue 2/s"},
      {"queue 2/s burst 0", of(queue(2, kSecondNs, 0)), "queue 2/s burst 0"},
      {"queue 2/s delay-after 1", of(queue(2, kSecondNs, 2, 1)), "queue 2/s delay-after 1"},
      {"queue 2/s no_delay", of(queue(2, kSecondNs, 2, Rate::kAllUndelayed)), "queue 2/s no-delay"},
      {"fixed-window 9/h first-hit count-denied", of(first),
       "fixed-window 9/h first-hit count-denied"},
      {"fixed-window 9/d utc+02:00", of(aligned), "fixed-window 9/d utc+02:00"},
      {"fixed-window 9/d aligned utc+2", of(aligned), "fixed-window 9/d utc+02:00"},
      {"fixed-window 9/7us", window(Algorithm::kFixedWindow, 9, 7000), "fixed-window 9/7us"},
      {"calendar-window 5000/month", calendar(5000, CalendarUnit::kMonth),
       "calendar-window 5000/month"},
      {"calendar-window 5/hour utc-09:30", calendar(5, CalendarUnit::kHour, -34200),
       "calendar-window 5/h utc-09:30"},
      {"calendar-window 5 per week utc", calendar(5, CalendarUnit::kWeek), "calendar-window 5/w"},
      {"calendar-window 5/d utc+14:00", calendar(5, CalendarUnit::kDay, 50400),
       "calendar-window 5/d utc+14:00"},
      {"calendar-window 5/year", calendar(5, CalendarUnit::kYear), "calendar-window 5/y"},
      {"sliding-log 100/m inclusive", of(log), "sliding-log 100/m inclusive"},
      {"sliding-counter 100/m floor count-denied", of(counter),
       "sliding-counter 100/m count-denied floor"},
      {"concurrency 8 ttl 30s", window(Algorithm::kConcurrency, 8, 30 * kSecondNs),
       "concurrency 8 ttl 30s"},
      {"concurrency 8", window(Algorithm::kConcurrency, 8, kDefaultLeaseNs),
       "concurrency 8 ttl 1m"},
  };
  for (const Good& good : kGood) reads(good);
}

// Goal: several rates, and every option, wherever it stands.
TEST(Policy, ReadsSeveralRatesAndOptions) {
  const Policy base = of(gcra(10, kSecondNs));
  Policy denies = base;
  denies.on_unavailable = OnUnavailable::kDeny;
  Policy classes = base;
  classes.class_percent[0] = 50;
  classes.class_percent[1] = 80;
  Policy warm = base;
  warm.warm_up_from_ppm = 125000;
  warm.warm_up_ns = 5 * kMinuteNs;
  Policy two = of({gcra(10, 2 * kMinuteNs), gcra(5, kSecondNs)});
  Policy barred = with_ban(window(Algorithm::kSlidingLog, 100, kMinuteNs),
                           {20, kMinuteNs, 10 * kMinuteNs, 1, 10 * kMinuteNs});
  const Good kGood[] = {
      {"10 per 2 minutes; 5/second", two, "10/2m; 5/s"},
      {"10/2m | 5/s", two, "10/2m; 5/s"},
      {"10/2m,5/s", two, "10/2m; 5/s"},
      {"10/s on_unavailable=deny", denies, "10/s on-unavailable deny"},
      {"10/s on-unavailable allow", base, "10/s"},
      {"10/s classes 50% 80% 100%", classes, "10/s classes 50 80 100"},
      {"10/s shadow", in_share(base, 0), "10/s shadow"},
      {"10/s enforce 0%", in_share(base, 0), "10/s shadow"},
      {"10/s enforce 25", in_share(base, 25), "10/s enforce 25%"},
      {"10/2m shadow; 5/s", in_share(two, 0), "10/2m; 5/s shadow"},
      {"10/s warm-up 12.5% over 5m", warm, "10/s warm-up 12.5% over 5m"},
      {"10/s warm-up 12.500 over 300s", warm, "10/s warm-up 12.5% over 5m"},
      {"sliding-log 100/m ban 20 in 1m for 10m", barred, "sliding-log 100/m ban 20 in 1m for 10m"},
      {"10/s ban 3 in 1s for 1m times 2", with_ban(base, {3, kSecondNs, kMinuteNs, 2, kDayNs}),
       "10/s ban 3 in 1s for 1m times 2"},
      {"10/s ban 3 in 1s for 2d times 2 shadow",
       in_share(with_ban(base, {3, kSecondNs, 2 * kDayNs, 2, 2 * kDayNs}), 0),
       "10/s shadow ban 3 in 1s for 2d times 2"},
      {"10/s ban 3 in 1s for 1m times 2 max 1h",
       with_ban(base, {3, kSecondNs, kMinuteNs, 2, kHourNs}),
       "10/s ban 3 in 1s for 1m times 2 max 1h"},
  };
  for (const Good& good : kGood) reads(good);
}

struct Bad {
  std::string_view text;
  std::string_view says;  // where and what, and the remedy
};

const Bad kBad[] = {
    {"", "'', column 1: expected a rate such as 100/m, 5/10s or 10r/s"},
    {"   ", "column 4: expected a rate such as 100/m"},
    {"abc", "'abc', column 1: expected a rate such as 100/m"},
    {"-1/s", "column 1: expected a rate such as 100/m"},
    {".5/s", "column 1: the limit must be whole: write 1/2s for 0.5/s"},
    {"0.5/s", "column 1: the limit must be whole: write 1/2s for 0.5/s"},
    {"0x10/s", "column 2: expected '/' and a period, as in 100/m or 5/10s"},
    {"1e9/s", "column 2: expected '/' and a period"},
    {"1,000/s", "column 2: expected '/' and a period; write numbers as 1000"},
    {"100", "column 4: expected '/' and a period, as in 100/m or 5/10s"},
    {"100 r x/s", "column 7: expected '/' and a period"},
    {"100/", "column 5: expected a unit of time: ns us ms s m h d w y"},
    {"100/5 x", "column 7: expected a unit of time"},
    {"100/minuts", "column 5: expected a unit of time: ns us ms s m h d w y; did you mean 'minut"},
    {"100/1.5s", "column 5: the period must be whole: write 1500ms for 1.5s"},
    {"10/month", "column 4: a month has no fixed length: write 30d, or calendar-window"},
    {"5/0s", "column 3: the period is 0; give 1 ns to 100 years"},
    {"100/s/s", "column 6: expected ';' and another rate, or a clause such as 'burst N'"},
    {"100/s;", "column 7: expected a rate such as"},
    {"100/s; burst 5", "column 8: expected a rate such as"},
    {"100/s burst", "column 12: expected the burst, a whole number such as 100"},
    {"100/s burst 4294967296", "column 13: the burst is above 4294967295"},
    {"100/s burst 0", "column 13: the burst must be at least 1"},
    {"100/s bursts 5",
     "column 7: expected ';' and another rate, or a clause such as 'burst N'; "
     "did you mean 'burst'?"},
    {"100/s sahdow", "did you mean 'shadow'?"},
    {"100/s dry-run", "did you mean 'shadow'?"},
    {"100/s burst 5 burst 6", "column 15: 'burst' is given twice"},
    {"100/s shadow enforce 5%", "column 14: 'enforce' contradicts"},
    {"100/s initial 5", "column 7: there is no initial level: an idle key must equal an absent"},
    {"100/s nodelay",
     "column 7: expected ';' and another rate, or a clause such as 'burst N'; "
     "did you mean 'no-delay'?"},
    {"100/s on-unavailable dney", "column 22: expected allow or deny; did you mean 'deny'?"},
    {"4294967296/s", "column 1: the limit is above 4294967295"},
    {"1/101y", "column 3: the period is above 100 years"},
    {"fixed-windw 10/s",
     "column 1: expected a rate such as 100/m, 5/10s or 10r/s; did you mean "
     "'fixed-window'?"},
    {"moving-window 10/s", "did you mean 'sliding-log'?"},
    {"gcra", "column 5: expected the limit, a whole number such as 100"},
    {"fixed-window 5/s burst 5",
     "column 18: 'burst' does not fit fixed-window; it is for gcra, "
     "token-bucket, leaky-bucket or queue"},
    {"5/s first-hit", "column 5: 'first-hit' does not fit gcra; it is for fixed-window"},
    {"5/s ttl 3s", "column 5: 'ttl' does not fit gcra; it is for concurrency"},
    {"0/s burst 5", "column 5: 'burst' does not fit deny"},
    {"fixed-window 5/s aligned first-hit", "column 26: 'first-hit' contradicts"},
    {"fixed-window 5/s first-hit utc+1", "column 28: 'utc' contradicts"},
    {"fixed-window 5/s utc+1 first-hit", "leave out 'first-hit' or 'utc' (in policy"},
    {"fixed-window 5/s utc+14:01", "column 21: expected an offset from -14:00 to +14:00"},
    {"fixed-window 5/s utc+", "column 21: expected an offset"},
    {"queue 5/s no-delay delay-after 1", "column 20: 'delay-after' contradicts"},
    {"calendar-window 5/2d", "column 19: a calendar window is one hour, day, week, month or year"},
    {"calendar-window 5/s", "column 19: expected hour, day, week, month or year"},
    {"rate=10r/h", "column 10: nginx's rate= is in r/s or r/m"},
    {"rate=0r/s", "column 6: nginx has no rate=0; write deny"},
    {"rate=5r/s delay=1 nodelay", "column 19: 'nodelay' contradicts"},
    {"1/s;2/s;3/s;4/s;5/s;6/s;7/s;8/s", "column 29: a policy has at most 7 rates"},
    {"5/s; concurrency 3", "rate 2: 'concurrency' must be the only rate"},
    {"5/s; 0/s", "rate 2: 'deny' must be the only rate"},
    {"5/s; 6/s; 5/s burst 5", "rates 1 and 3 are equal (5/s); give it once"},
    {"unlimited shadow", "unlimited takes no options"},
    {"5/s classes 90 80 100", "classes are 90 80 100 per cent; give 1 to 100"},
    {"5/s classes 0 80 100", "classes are 0 80 100 per cent"},
    {"5/s classes 10 101 100", "column 16: each class (low, normal, high) in per cent is above"},
    {"5/s enforce 101%", "column 13: the per cent enforced is above 100"},
    {"5/s warm-up 0% over 1m", "column 13: expected a share of the rate, such as 10% or 12.5%"},
    {"5/s warm-up 0.0001% over 1m", "column 13: expected a share of the rate"},
    {"5/s warm-up 10% over 2d", "the warm-up is 2d; give 1ns to 1d (in policy"},
    {"5/s warm-up 10% for 2m", "column 17: expected 'over'"},
    {"5/s ban 0 in 1m for 1m", "a ban needs at least 1 refusal; leave out 'ban'"},
    {"5/s ban 65536 in 1m for 1m", "column 9: the refusals before a ban is above 65535"},
    {"5/s ban 5 in 1us for 1m", "the time to refuse in, before a ban, is 1us; give 1ms to 1y"},
    {"5/s ban 5 in 1s for 366d", "the ban is 366d; give 1ms to 1y"},
    {"5/s ban 5 in 1s for 1h max 1m", "the longest ban is 1m; give 1h to 1y"},
    {"5/s ban 5 in 1s for 1h times 1001", "column 30: how many times as long is above 1000"},
    {"sliding-log 257/m", "keeps 8 bytes for each permit: give at most 256, or use sliding-co"},
    {"concurrency 129", "keeps 16 bytes for each permit: give at most 128"},
    {"sliding-counter 2097152/m", "sliding-counter counts to 2097151"},
    {"10\n/s", "'10%0a/s', column 3: expected '/' and a period"},
    {"10/s\x1b]0;x\x07", "'10/s%1b]0;x%07', column 5: expected ';' and another rate"},
    {"10/\xc2\xb5s", "'10/%c2%b5s', column 4: expected a unit of time"},
    // Out of range as a whole: no column, but the value and the remedy.
    {"1000000001/s", "give at most one permit a nanosecond (10^9/s) (in policy '1000000001/s')"},
    {"queue 2/ns", "the rate is 2 in 1 ns; give at most one permit a nanosecond"},
    {"5/s burst 4294967295 debt 1", "burst and debt are 4294967296 together"},
    {"1/y burst 4294967295", "give a smaller burst or a higher rate (in policy '1/y burst"},
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
  using std::string_literals::operator""s;
  for (const std::string& with_nul : {"10/s\0"s, "\0"s, "10\0/s"s, "10/s burst 5\0 "s}) {
    const auto policy = parse_policy(with_nul);
    ASSERT_FALSE(policy.ok());
    EXPECT_NE(message(policy.status()).find("%00"), std::string_view::npos);
  }
}

// Goal: every unit and each of its names.
TEST(Policy, Units) {
  for (const TimeUnit& unit : kTimeUnits) {
    const auto policy = parse_policy(cat("1/3 ", unit.name));
    ASSERT_TRUE(policy.ok()) << unit.name;
    EXPECT_EQ(policy->rates[0].period_ns, 3 * unit.ns) << unit.name;
  }
  EXPECT_EQ(time_text(0), "0s");
  EXPECT_EQ(time_text(kYearNs), "1y");
  EXPECT_EQ(time_text(36 * kHourNs), "36h");
}

// Goal: a text of any length gives a short message. Method: 10 KB of digits, letters, blanks.
TEST(Policy, LongTextsGiveShortMessages) {
  for (const char c : {'1', 'x', ' ', '/', '\n', '\xff', '-', ';', 'u'}) {
    const auto policy = parse_policy(std::string(10240, c));
    ASSERT_FALSE(policy.ok());
    EXPECT_LT(message(policy.status()).size(), 500u);
  }
  const auto blanks = parse_policy(std::string(5000, ' ') + "10/s" + std::string(5000, '\t'));
  ASSERT_TRUE(blanks.ok());
  const auto column = parse_policy(std::string(5000, ' ') + "10/x");
  EXPECT_NE(message(column.status()).find("column 5004:"), std::string_view::npos);
}

// Goal: the canonical text is the policy, and fits its place in the segment. Method: random
// policies with everything in them, there and back, and the text itself again.
TEST(Policy, CanonicalTextRoundTrips) {
  Random random(70);
  int valid = 0;
  for (int i = 0; i < test::scaled(100000); ++i) {
    const Policy policy = test::random_policy(random);
    const std::string text = policy_text(policy);
    if (!validate(policy).ok()) continue;
    ++valid;
    ASSERT_LE(text.size(), kMaxPolicyText);
    const auto back = parse_policy(text);
    ASSERT_TRUE(back.ok()) << text << ": " << back.status();
    ASSERT_EQ(*back, policy) << text;
    ASSERT_EQ(policy_text(*back), text);
  }
  EXPECT_GT(valid, test::scaled(70000));
}

// Goal: no text crashes the parser, hangs it or yields a policy that is not valid. Method: random
// strings of the grammar's own pieces, valid texts with bytes changed, and any bytes.
TEST(Policy, RandomTextsNeverCrash) {
  static constexpr std::string_view kPieces =
      "gcra queue fixed-window calendar-window sliding-log sliding-counter concurrency unlimited "
      "deny rate= burst debt forward delay-after no-delay nodelay delay= ahead aligned first-hit "
      "utc+ utc- inclusive count-denied floor ttl on-unavailable allow classes shadow enforce % "
      "warm-up over ban in for times max / per = ; , | s ms m month years r requests 0 1 100 . - "
      "18446744073709551616 4294967296 9223372036854775807 : \n";
  std::vector<std::string_view> pieces;
  for (size_t from = 0; from < kPieces.size();) {
    const size_t end = std::min(kPieces.find(' ', from), kPieces.size());
    pieces.push_back(kPieces.substr(from, end - from));
    from = end + 1;
  }
  Random random(71);
  int good = 0;
  for (int i = 0; i < test::scaled(200000); ++i) {
    std::string text;
    const uint64_t kind = random.below(3);
    if (kind == 0) {
      text = policy_text(test::random_policy(random));
      for (uint64_t k = random.below(3); k > 0; --k) {
        text[random.below(text.size())] = static_cast<char>(random.bits());
      }
    } else {
      if (random.one_in(2)) text = cat(1 + random.below(100), "/", 1 + random.below(100), "s");
      for (uint64_t k = random.below(12); k > 0; --k) {
        if (kind == 1) text += cat(" ", pieces[random.below(pieces.size())]);
        if (kind == 2) text += static_cast<char>(random.bits());
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
  EXPECT_GT(good, test::scaled(10000));
}

// Goal (F35): a Policy filled in by a program is checked like a text. Method: each field out of its
// range by one.
TEST(Policy, ValidateChecksEveryField) {
  const Policy fine = of(gcra(10, kSecondNs));
  EXPECT_TRUE(validate(fine).ok());
  const auto refused = [&fine](auto change, std::string_view says) {
    Policy policy = fine;
    change(policy, policy.rates[0]);
    const absl::Status status = validate(policy);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << says;
    EXPECT_NE(message(status).find(says), std::string_view::npos) << status;
  };
  for (const int number : {0, 12, 200, 255}) {
    refused([number](Policy&, Rate& r) { r.algorithm = static_cast<Algorithm>(number); },
            cat("algorithm is ", number, "; give gcra"));
  }
  for (const int64_t period : {int64_t{0}, int64_t{-1}, std::numeric_limits<int64_t>::min(),
                               kMaxPeriodNs + 1, std::numeric_limits<int64_t>::max()}) {
    refused([period](Policy&, Rate& r) { r.period_ns = period; }, "the period is ");
  }
  refused([](Policy& p, Rate&) { p.rates.clear(); }, "there is no rate");
  refused([](Policy& p, Rate& r) { p.rates.resize(8, r); }, "there are 8 rates; give at most 7");
  refused([](Policy& p, Rate& r) { p.rates.push_back(r); }, "rates 1 and 2 are equal (10/s)");
  refused([](Policy&, Rate& r) { r.limit = 0; }, "the limit is 0");
  refused([](Policy&, Rate& r) { r.burst = 0; }, "the burst is 0");
  refused([](Policy&, Rate& r) { r.undelayed = 1; }, "does not fit gcra; it is for queue");
  refused([](Policy&, Rate& r) { r.first_hit = true; }, "'first-hit' does not fit gcra");
  refused([](Policy&, Rate& r) { r.inclusive = true; }, "'inclusive' does not fit gcra");
  refused([](Policy&, Rate& r) { r.count_denied = true; }, "'count-denied' does not fit gcra");
  refused([](Policy&, Rate& r) { r.floor_weight = true; }, "'floor' does not fit gcra");
  refused([](Policy&, Rate& r) { r.utc_offset_s = 60; }, "'utc' does not fit gcra");
  refused([](Policy&, Rate& r) { r.calendar = CalendarUnit::kDay; }, "'a calendar unit' does not");
  refused([](Policy&, Rate& r) { r.ahead_ns = -1; }, "the time ahead is -1 ns");
  refused([](Policy&, Rate& r) { r.algorithm = Algorithm::kDeny; }, "'a period' does not fit deny");
  refused([](Policy&, Rate& r) { r = {.algorithm = Algorithm::kDeny, .limit = 1}; },
          "unlimited and deny have no limit");
  refused(
      [](Policy&, Rate& r) {
        r = {.algorithm = Algorithm::kFixedWindow, .limit = 1, .period_ns = 5, .utc_offset_s = 1};
      },
      "give whole minutes from -14:00 to +14:00");
  for (const int unit : {0, 6}) {
    refused(
        [unit](Policy&, Rate& r) {
          r = {.algorithm = Algorithm::kCalendarWindow, .limit = 1};
          r.calendar = static_cast<CalendarUnit>(unit);
        },
        cat("the calendar unit is ", unit));
  }
  refused([](Policy& p, Rate&) { p.on_unavailable = static_cast<OnUnavailable>(2); },
          "on-unavailable is 2");
  refused([](Policy& p, Rate& r) { p.scope = PolicyScope::kCluster, r.ahead_ns = 0; },
          "give at least 60s");
  refused([](Policy& p, Rate&) { p.class_percent[2] = 101; }, "classes are 100 100 101");
  refused([](Policy& p, Rate&) { p.enforced_percent = 101; }, "the share enforced is 101");
  refused([](Policy& p, Rate&) { p.warm_up_from_ppm = 10; }, "the warm-up lasts 0s");
  refused([](Policy& p, Rate&) { p.warm_up_ns = -1; }, "the warm-up is -1ns");
  refused([](Policy& p, Rate&) { p.warm_up_ns = 1, p.warm_up_from_ppm = 11; }, "begins at 11 part");
  refused([](Policy& p, Rate&) { p.warm_up_ns = 1, p.warm_up_from_ppm = 0; }, "begins at 0 parts");
  refused([](Policy& p, Rate&) { p.ban.for_ns = 1; }, "a ban needs the refusals");
  const Ban ban{1, kSecondNs, kSecondNs, 2, kMinuteNs};
  refused([&](Policy& p, Rate&) { p.ban = ban, p.ban.after = 65536; }, "after 65536 refusals");
  refused([&](Policy& p, Rate&) { p.ban = ban, p.ban.factor = 0; }, "lasts 0 times");
  refused([&](Policy& p, Rate&) { p.ban = ban, p.ban.max_ns = 1; }, "the longest ban is 1ns");
}

// Goal: a valid policy always has a text that fits; one that would not is refused.
TEST(Policy, TooLongATextIsRefused) {
  Policy policy;
  for (uint32_t i = 0; i < 7; ++i) {
    Rate rate =
        with(gcra(1000000000 + i, 1000000000000000003, 1000000000), Algorithm::kTokenBucket);
    rate.debt = 1000000000;
    rate.ahead_ns = 1000000000000000007;
    policy.rates.push_back(rate);
  }
  ASSERT_GT(policy_text(policy).size(), kMaxPolicyText);
  EXPECT_NE(message(validate(policy)).find("bytes; give fewer rates"), std::string_view::npos)
      << validate(policy);
}

// Goal: policy_text() of a nonsensical policy returns some text; it is used in messages.
TEST(Policy, TextOfAnythingIsDefined) {
  EXPECT_EQ(policy_text(Policy{}), "");
  for (const int64_t number : {int64_t{0}, int64_t{-1}, std::numeric_limits<int64_t>::min(),
                               std::numeric_limits<int64_t>::max()}) {
    Rate rate;
    rate.period_ns = rate.ahead_ns = number;
    rate.utc_offset_s = static_cast<int32_t>(number);
    rate.algorithm = static_cast<Algorithm>(200);
    rate.calendar = static_cast<CalendarUnit>(77);
    EXPECT_FALSE(policy_text(of(rate)).empty());
    rate.utc_offset_s = std::numeric_limits<int32_t>::min();
    EXPECT_FALSE(policy_text(of(rate)).empty());
    EXPECT_FALSE(validate(of(rate)).ok());
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
