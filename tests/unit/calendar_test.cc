// SPDX-License-Identifier: MIT
// Calendar windows against a calendar that counts days one by one.
#include "src/algo/calendar.h"

#include "src/algo/step.h"
#include "tests/unit/model_window.h"

namespace brim {
namespace {

using test::Date;
using test::Edges;
using test::kDayNs;
using test::Key;
using test::Random;
using test::Wide;
using test::WindowModel;

constexpr int64_t kLastWall = 280 * 365 * kDayNs;  // in 2249; the clock of 63 bits ends in 2262

// Goal: the month of every day and the first day of every month from 1970 to 2250. Method: days
// counted one by one: 2000 is a leap year, 2100 and 2200 are not. (1900 is before the clock.)
TEST(Calendar, EveryDayFrom1970To2250) {
  Date date;
  int leap_days = 0;
  for (int64_t day = 0; date.year < 2250; ++day, date.next()) {
    const int64_t month = (date.year - 1970) * 12 + date.month - 1;
    const auto noon = static_cast<uint64_t>(day * kDayNs);
    for (const uint64_t local : {noon, noon + static_cast<uint64_t>(kDayNs) - 1}) {
      ASSERT_EQ(calendar::index_at(local, 1), static_cast<uint64_t>(month)) << day;
      ASSERT_EQ(calendar::index_at(local, 12), static_cast<uint64_t>(date.year - 1970)) << day;
    }
    if (date.day == 1) {
      ASSERT_EQ(calendar::start_ns(static_cast<uint64_t>(month), 1), noon);
      if (date.month == 1) {
        ASSERT_EQ(calendar::start_ns(static_cast<uint64_t>(date.year - 1970), 12), noon);
      }
    }
    leap_days += date.month == 2 && date.day == 29 ? 1 : 0;
  }
  EXPECT_EQ(leap_days, 70 - 2);  // 1972, 1976 ... 2248, without 2100 and 2200
}

Rate rate_of(CalendarUnit unit, uint32_t limit, int32_t offset_s) {
  Rate rate;
  rate.algorithm = Algorithm::kCalendarWindow;
  rate.calendar = unit;
  rate.limit = limit;
  rate.utc_offset_s = offset_s;
  return rate;
}

int64_t length_of(CalendarUnit unit) {
  constexpr int64_t kHours[] = {0, 1, 24, 168, 744, 8760};
  return kHours[static_cast<size_t>(unit)] * 3600 * test::kSecNs;
}

void compare_many(CalendarUnit unit, uint64_t seed) {
  Random random(seed);
  for (int asked = 0; asked < test::scaled(100000);) {
    const auto limit = static_cast<uint32_t>(random.magnitude(random.one_in(2) ? 20 : 0xffffff));
    const Rate rate = rate_of(unit, limit, test::random_offset(random));
    if (!check_fits(rate).ok()) continue;
    Beginning at{random.between(1, 365 * kDayNs),
                 random.between(kDayNs, kLastWall - 16 * 365 * kDayNs)};
    if (random.one_in(3)) {  // near a boundary in local time
      const std::vector<Wide>& starts = test::calendar_starts(unit);
      const auto last =
          std::lower_bound(starts.begin(), starts.end(), Wide{kLastWall - 16 * 365 * kDayNs});
      const auto some = random.below(static_cast<uint64_t>(last - starts.begin() - 48));
      at.wall_ns = static_cast<int64_t>(starts[some + 48]) - rate.utc_offset_s * test::kSecNs +
                   random.between(-2, 2);
    }
    BRIM_TRACE(test::words_of(rate, at));
    Key key{test::quota_of(rate, at)};
    WindowModel model(rate, at, 0, test::wide(window::count_mask(key.quota)));
    const Edges edges = test::window_edges(rate, length_of(unit), at);
    test::drive(random, key, model, edges, at.now_ns, 50);
    asked += 50;
    BRIM_STOP();
  }
}

// Goal: each field of each decision is what the definition says, for any offset and any year.
// Method: random histories against the model, many of them near a boundary.
TEST(Calendar, HourEqualsTheModel) { compare_many(CalendarUnit::kHour, 300); }
TEST(Calendar, DayEqualsTheModel) { compare_many(CalendarUnit::kDay, 301); }
TEST(Calendar, WeekEqualsTheModel) { compare_many(CalendarUnit::kWeek, 302); }
TEST(Calendar, MonthEqualsTheModel) { compare_many(CalendarUnit::kMonth, 303); }
TEST(Calendar, YearEqualsTheModel) { compare_many(CalendarUnit::kYear, 304); }

// Goal: examples that anyone can look up. Method: by hand.
TEST(Calendar, Examples) {
  constexpr int64_t kThursday = 0;  // 1970-01-01
  Key week{test::quota_of(rate_of(CalendarUnit::kWeek, 1, 0), {0, kThursday})};
  EXPECT_EQ(week.ask(0, 1).reset_after_ns, 4 * kDayNs);  // Monday the 5th
  Key west{test::quota_of(rate_of(CalendarUnit::kDay, 1, -8 * 3600), {0, kDayNs})};
  EXPECT_EQ(west.ask(0, 1).reset_after_ns, kDayNs / 3);
  const int64_t feb_2000 = 10957 * kDayNs + 31 * kDayNs;
  Key leap{test::quota_of(rate_of(CalendarUnit::kMonth, 1, 0), {5, feb_2000})};
  EXPECT_EQ(leap.ask(5, 1).reset_after_ns, 29 * kDayNs);
  const int64_t year_2100 = 47482 * kDayNs;
  Key month{test::quota_of(rate_of(CalendarUnit::kMonth, 1, 0), {5, year_2100 + 31 * kDayNs})};
  EXPECT_EQ(month.ask(5, 1).reset_after_ns, 28 * kDayNs);
  Key year{test::quota_of(rate_of(CalendarUnit::kYear, 1, 0), {5, year_2100})};
  EXPECT_EQ(year.ask(5, 1).reset_after_ns, 365 * kDayNs);
  Key local{
      test::quota_of(rate_of(CalendarUnit::kYear, 1, 3600), {5, year_2100 - 3600 * test::kSecNs})};
  EXPECT_EQ(local.ask(5, 1).reset_after_ns, 365 * kDayNs);
}

}  // namespace
}  // namespace brim
