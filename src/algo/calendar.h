// SPDX-License-Identifier: MIT
// Months and years as windows: time since 1970-01-01T00:00 local (a fixed offset from UTC) to the
// number of the month or year, and back. Proleptic Gregorian calendar; days-from-civil in the form
// of H. Hinnant, "chrono-Compatible Low-Level Date Algorithms", 2013. Hours, days and weeks have
// one length and need no calendar.
#ifndef BRIM_SRC_ALGO_CALENDAR_H_
#define BRIM_SRC_ALGO_CALENDAR_H_

#include <cstdint>

namespace brim::calendar {

inline constexpr int64_t kDayNs = int64_t{86400} * 1000000000;

// Days from 1970-01-01 to the first of month `index`, counted from January 1970.
constexpr int64_t month_start_day(int64_t index) noexcept {
  const int64_t month = index % 12;  // 0 = January
  // The year begins in March here, so that the leap day is its last.
  const int64_t year = 1970 + index / 12 - (month < 2 ? 1 : 0);
  const int64_t era = year / 400;
  const int64_t year_of_era = year - era * 400;
  const int64_t day_of_year = (153 * (month < 2 ? month + 10 : month - 2) + 2) / 5;
  const int64_t day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
  return era * 146097 + day_of_era - 719468;
}

// The month that `day` (from 1970-01-01, not negative) lies in.
constexpr int64_t month_of_day(int64_t day) noexcept {
  const int64_t shifted = day + 719468;
  const int64_t era = shifted / 146097;
  const int64_t day_of_era = shifted - era * 146097;
  const int64_t year_of_era =
      (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
  const int64_t day_of_year =
      day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
  const int64_t march_month = (5 * day_of_year + 2) / 153;
  const int64_t year = year_of_era + era * 400 + (march_month >= 10 ? 1 : 0);
  return (year - 1970) * 12 + (march_month + 2) % 12;
}

// Number of the month or, with `months` = 12, of the year; from 1970.
constexpr uint64_t index_at(uint64_t local_ns, uint64_t months) noexcept {
  const int64_t day = static_cast<int64_t>(local_ns / static_cast<uint64_t>(kDayNs));
  return static_cast<uint64_t>(month_of_day(day)) / months;
}

// Local ns at which window `index` begins. Indices beyond the year 2250 saturate.
constexpr uint64_t start_ns(uint64_t index, uint64_t months) noexcept {
  constexpr uint64_t kLast = 280 * 12;
  const uint64_t month = index > kLast / months ? kLast : index * months;
  return static_cast<uint64_t>(month_start_day(static_cast<int64_t>(month))) *
         static_cast<uint64_t>(kDayNs);
}

static_assert(month_start_day(0) == 0 && month_start_day(1) == 31 && month_start_day(12) == 365);
static_assert(month_start_day(12 * 30 + 2) == 11017);  // 2000-03-01
static_assert(month_of_day(11016) == 12 * 30 + 1 && month_of_day(11017) == 12 * 30 + 2);

}  // namespace brim::calendar

#endif  // BRIM_SRC_ALGO_CALENDAR_H_
