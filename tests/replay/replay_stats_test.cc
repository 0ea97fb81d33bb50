// SPDX-License-Identifier: MIT
// Goal: order, peaks, least bursts and suggestions are exact. Method: each against a slow and
// obvious computation of the same thing, on random requests.
#include "replay_stats.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <vector>

#include "replay_text.h"

namespace brim::replay {
namespace {

using Pair = std::pair<int64_t, uint32_t>;

uint32_t draw(std::mt19937& random, uint32_t below) {
  return std::uniform_int_distribution<uint32_t>(0, below - 1)(random);
}

std::vector<Pair> reordered(int64_t window_ns, const std::vector<Pair>& lines,
                            uint64_t* late = nullptr, uint64_t* out_of_order = nullptr) {
  std::vector<Pair> out;
  Reorder reorder(window_ns, [&](int64_t t, uint32_t client) { out.emplace_back(t, client); });
  for (const auto& [time_ns, client] : lines) reorder.push(time_ns, client);
  reorder.finish();
  if (late != nullptr) *late = reorder.late();
  if (out_of_order != nullptr) *out_of_order = reorder.out_of_order();
  return out;
}

TEST(Reorder, SortsWithinTheWindowAndKeepsTies) {
  std::mt19937 random(2);
  std::vector<Pair> lines;
  for (uint32_t i = 0; i < 5000; ++i) lines.emplace_back(int64_t{i} / 7 + draw(random, 10), i);
  std::vector<Pair> sorted = lines;
  std::stable_sort(sorted.begin(), sorted.end(),
                   [](const Pair& a, const Pair& b) { return a.first < b.first; });
  uint64_t late = 0;
  uint64_t out_of_order = 0;
  EXPECT_EQ(reordered(9, lines, &late, &out_of_order), sorted);
  EXPECT_EQ(late, 0u);
  EXPECT_GT(out_of_order, 1000u);
}

TEST(Reorder, ALateLineHappensNow) {
  uint64_t late = 0;
  uint64_t out_of_order = 0;
  const auto out = reordered(5, {{100, 0}, {106, 1}, {102, 2}, {99, 3}, {112, 4}, {50, 5}}, &late,
                             &out_of_order);
  // 106 lets 100 go, so 99 comes too late and is taken at 100; 112 lets 106 go, and so on.
  EXPECT_EQ(out, (std::vector<Pair>{{100, 0}, {100, 3}, {102, 2}, {106, 1}, {106, 5}, {112, 4}}));
  EXPECT_EQ(late, 2u);
  EXPECT_EQ(out_of_order, 3u);
  // Even without a window the newest line waits for a younger one.
  EXPECT_EQ(reordered(0, {{5, 0}, {7, 1}, {6, 2}, {8, 3}}),
            (std::vector<Pair>{{5, 0}, {6, 2}, {7, 1}, {8, 3}}));
}

TEST(Spread, EvenlyOverTheResolution) {
  std::vector<Pair> out;
  Spread spread(kSecondNs, [&](int64_t t, uint32_t client) { out.emplace_back(t, client); });
  for (uint32_t i = 0; i < 4; ++i) spread.push(3 * kSecondNs, i);
  spread.push(4 * kSecondNs + 7, 4);  // finer than promised
  for (uint32_t i = 5; i < 8; ++i) spread.push(9 * kSecondNs, i);
  spread.finish();
  const int64_t quarter = kSecondNs / 4;
  EXPECT_EQ(out, (std::vector<Pair>{{3 * kSecondNs, 0},
                                    {3 * kSecondNs + quarter, 1},
                                    {3 * kSecondNs + 2 * quarter, 2},
                                    {3 * kSecondNs + 3 * quarter, 3},
                                    {4 * kSecondNs, 4},
                                    {9 * kSecondNs, 5},
                                    {9 * kSecondNs + 333333333, 6},
                                    {9 * kSecondNs + 666666666, 7}}));
}

TEST(EventFile, GivesBackWhatWasWrittenAndJoinsEquals) {
  absl::StatusOr<EventFile> file = EventFile::create();
  ASSERT_TRUE(file.ok()) << file.status();
  for (int64_t t = 0; t < 100000; ++t) {
    for (int i = 0; i < 3; ++i) file->append(t, static_cast<uint32_t>(t % 5));
    file->append(t, 77);
  }
  const auto events = file->finish();
  ASSERT_TRUE(events.ok()) << events.status();
  ASSERT_EQ(events->size(), 200000u);
  for (size_t i = 0; i < events->size(); i += 2) {
    const int64_t t = static_cast<int64_t>(i / 2);
    EXPECT_EQ((*events)[i].time_ns, t);
    EXPECT_EQ((*events)[i].client, static_cast<uint32_t>(t % 5));
    EXPECT_EQ((*events)[i].count, 3u);
    EXPECT_EQ((*events)[i + 1].client, 77u);
  }
  absl::StatusOr<EventFile> empty = EventFile::create();
  ASSERT_TRUE(empty.ok());
  ASSERT_TRUE(empty->finish().ok());
}

std::vector<Event> random_events(uint32_t seed, uint32_t clients, size_t count, uint32_t step) {
  std::mt19937 random(seed);
  std::vector<Event> events;
  int64_t t = 1000;
  for (size_t i = 0; i < count; ++i) {
    t += draw(random, 3) == 0 ? draw(random, step) : 0;
    events.push_back({t, draw(random, clients), 1 + draw(random, 3)});
  }
  return events;
}

TEST(WindowPeaks, EqualsCountingEveryWindow) {
  for (uint32_t seed = 0; seed < 20; ++seed) {
    const std::vector<Event> events = random_events(seed, 4, 300, 20);
    const int64_t window = 1 + seed * 3;
    std::vector<uint32_t> client(4);
    uint64_t all = 0;
    for (const Event& end : events) {  // the window (end - window, end]
      std::vector<uint32_t> inside(4);
      uint64_t sum = 0;
      for (const Event& event : events) {
        if (event.time_ns > end.time_ns || end.time_ns - event.time_ns >= window) continue;
        inside[event.client] += event.count;
        sum += event.count;
      }
      for (size_t i = 0; i < 4; ++i) client[i] = std::max(client[i], inside[i]);
      all = std::max(all, sum);
    }
    const Peaks peaks = window_peaks(events, 4, window);
    EXPECT_EQ(peaks.client, client) << seed;
    EXPECT_EQ(peaks.all, all) << seed;
  }
}

// A token bucket in whole numbers: `level` counts 1/period permits.
bool refuses(const std::vector<Event>& events, uint32_t client, int64_t limit, int64_t period,
             int64_t burst) {
  int64_t level = burst * period;
  int64_t last = 0;
  for (const Event& event : events) {
    if (event.client != client) continue;
    level = std::min(burst * period, level + (event.time_ns - last) * limit);
    last = event.time_ns;
    for (uint32_t i = 0; i < event.count; ++i) {
      if (level < period) return true;
      level -= period;
    }
  }
  return false;
}

TEST(LeastBursts, OneLessWouldRefuse) {
  for (uint32_t seed = 0; seed < 40; ++seed) {
    const std::vector<Event> events = random_events(seed, 5, 200, 30);
    const uint32_t limit = 1 + seed % 7;
    const int64_t period = 3 + seed;
    const std::vector<uint32_t> bursts = least_bursts(events, 5, limit, period);
    for (uint32_t client = 0; client < 5; ++client) {
      ASSERT_GE(bursts[client], 1u);
      EXPECT_FALSE(refuses(events, client, limit, period, bursts[client])) << seed;
      EXPECT_TRUE(refuses(events, client, limit, period, bursts[client] - 1)) << seed;
    }
  }
}

TEST(LeastBursts, LargestPeriodsAndCountsDoNotOverflow) {
  const std::vector<Event> events = {{0, 0, 0xffffffff}, {1, 0, 0xffffffff}};
  EXPECT_EQ(least_bursts(events, 1, 1, kMaxPeriodNs).front(), 0xffffffffu);
  const std::vector<Event> spaced = {{0, 0, 5}, {3000000000000000000, 0, 5}};
  EXPECT_EQ(least_bursts(spaced, 1, 0xffffffff, kSecondNs).front(), 5u);
}

TEST(Percentile, TextAndNearestRank) {
  for (const char* text : {"99", "99.9", "0.001", "100", "50.25"}) {
    const auto percentile = Percentile::parse(text);
    ASSERT_TRUE(percentile.ok()) << text;
    EXPECT_EQ(percentile->text(), text);
  }
  for (const char* text :
       {"", "0", "100.001", "101", "-1", "99,9", "9.1234", ".5", "5.", "x", "1e1", "99%", "0099"}) {
    EXPECT_FALSE(Percentile::parse(text).ok()) << text;
  }
  std::vector<uint32_t> values;
  for (uint32_t i = 1; i <= 200; ++i) values.push_back(i);
  std::shuffle(values.begin(), values.end(), std::mt19937(3));
  EXPECT_EQ(percentile_of(values, {99000}), 198u);
  EXPECT_EQ(percentile_of(values, {99001}), 199u);
  EXPECT_EQ(percentile_of(values, {100000}), 200u);
  EXPECT_EQ(percentile_of(values, {1}), 1u);
  EXPECT_EQ(percentile_of(values, {50000}), 100u);
  EXPECT_EQ(percentile_of({}, {50000}), 0u);
}

Policy one_bucket(int64_t period_ns) {
  Rate rate;
  rate.limit = 1;
  rate.period_ns = period_ns;
  rate.burst = 1;
  Policy policy;
  policy.rates = {rate};
  return policy;
}

// Goal: numbers that would be wrong for a policy are not computed for it, and the report says why.
TEST(Suggest, OnlyForOnePlainBucket) {
  const auto why = [](const char* text) { return why_no_burst(parse_policy(text).value()); };
  for (const char* text : {"5/m", "token-bucket 5/m burst 3", "leaky-bucket 5/m",
                           "5/m on-unavailable deny", "5/m classes 50 100 100"}) {
    EXPECT_EQ(why(text), "") << text;
  }
  for (const char* text :
       {"5/m; 100/h", "queue 5/m", "fixed-window 5/m", "calendar-window 5/d", "sliding-log 5/m",
        "sliding-counter 5/m", "concurrency 5", "unlimited", "deny", "5/m debt 2", "5/m forward",
        "5/m shadow", "5/m enforce 50%", "5/m classes 50 80 100", "5/m warm-up 10% over 1m",
        "5/m ban 3 in 1m for 1h"}) {
    EXPECT_NE(why(text), "") << text;
  }
  const auto period = [](const char* text) { return only_period_ns(parse_policy(text).value()); };
  EXPECT_EQ(period("fixed-window 5/2m"), 120 * kSecondNs);
  EXPECT_EQ(period("calendar-window 5/w"), 604800 * kSecondNs);
  EXPECT_EQ(period("calendar-window 5/month"), 0);
  EXPECT_EQ(period("5/m; 100/h"), 0);
  EXPECT_EQ(period("deny"), 0);
}

TEST(Suggest, LeavesThePercentileAloneAndNeverNeedsMoreBurstThanLimit) {
  for (uint32_t seed = 0; seed < 60; ++seed) {
    constexpr uint32_t kClients = 30;
    const std::vector<Event> events = random_events(seed, kClients, 1500, 100 + 50 * seed);
    const int64_t period_ns = 5000 + seed;
    const Policy asked = one_bucket(period_ns);
    ASSERT_EQ(why_no_burst(asked), "");
    ASSERT_EQ(only_period_ns(asked), period_ns);
    const Percentile percentile{80000 + seed * 300};
    const Peaks peaks = window_peaks(events, kClients, period_ns);
    const Suggestion got = suggest(events, peaks.client, asked, percentile);
    ASSERT_TRUE(got.valid) << seed;
    ASSERT_EQ(got.policy.rates.size(), 1u);
    const Rate& rate = got.policy.rates.front();
    EXPECT_EQ(rate.period_ns, period_ns);
    EXPECT_LE(rate.burst, rate.limit);
    uint64_t refused = 0;
    uint64_t refused_with_less = 0;
    for (uint32_t client = 0; client < kClients; ++client) {
      const auto tried = [&](uint32_t burst) {
        return refuses(events, client, rate.limit, period_ns, burst) ? 1u : 0u;
      };
      refused += tried(rate.burst);
      refused_with_less += tried(rate.burst - 1);
    }
    const uint64_t allowed = kClients * (100000 - uint64_t{percentile.thousandths}) / 100000;
    EXPECT_EQ(got.clients_refused, refused);
    EXPECT_LE(refused, allowed);
    EXPECT_GT(refused_with_less, allowed);
  }
}

TEST(Suggest, NoneWhereNoPolicyCanHoldIt) {
  const Policy asked = one_bucket(3);  // at most 3 permits in 3 ns
  const std::vector<Event> events = {{0, 0, 100}};
  EXPECT_FALSE(suggest(events, {100}, asked, {}).valid);
}

}  // namespace
}  // namespace brim::replay
