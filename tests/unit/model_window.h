// SPDX-License-Identifier: MIT
// Fixed windows from their definition: a window's beginning and end on the local clock and what
// passed in it. Aligned windows by division of local time; days, weeks, months and years by
// counting days one by one from Thursday 1970-01-01.
#ifndef BRIM_TESTS_UNIT_MODEL_WINDOW_H_
#define BRIM_TESTS_UNIT_MODEL_WINDOW_H_

#include <vector>

#include "tests/unit/model_common.h"

namespace brim::test {

struct Date {
  int year = 1970;
  int month = 1;
  int day = 1;
  int weekday = 3;  // Monday is 0

  bool leap() const { return year % 4 == 0 && (year % 100 != 0 || year % 400 == 0); }
  int days_in_month() const {
    static constexpr int kDays[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    return kDays[month - 1] + (month == 2 && leap() ? 1 : 0);
  }
  void next() {
    weekday = (weekday + 1) % 7;
    if (day++ < days_in_month()) return;
    day = 1;
    if (month++ < 12) return;
    month = 1;
    ++year;
  }
};

// Local ns at which the windows of a unit begin, ascending, from before 1970 to the year 2262.
inline std::vector<Wide> starts_of(CalendarUnit unit) {
  std::vector<Wide> starts;
  if (unit == CalendarUnit::kWeek) starts.push_back(-3 * Wide{kDayNs});
  Wide at = 0;
  for (Date date; date.year < 2263; date.next(), at += kDayNs) {
    const bool begins = unit == CalendarUnit::kDay || unit == CalendarUnit::kHour ||
                        (unit == CalendarUnit::kWeek && date.weekday == 0) ||
                        (unit == CalendarUnit::kMonth && date.day == 1) ||
                        (unit == CalendarUnit::kYear && date.day == 1 && date.month == 1);
    if (!begins) continue;
    const int hours = unit == CalendarUnit::kHour ? 24 : 1;
    for (int hour = 0; hour < hours; ++hour) starts.push_back(at + hour * Wide{3600 * kSecNs});
  }
  return starts;
}
inline const std::vector<Wide>& calendar_starts(CalendarUnit unit) {
  static const std::vector<Wide> kStarts[] = {{},
                                              starts_of(CalendarUnit::kHour),
                                              starts_of(CalendarUnit::kDay),
                                              starts_of(CalendarUnit::kWeek),
                                              starts_of(CalendarUnit::kMonth),
                                              starts_of(CalendarUnit::kYear)};
  return kStarts[static_cast<size_t>(unit)];
}

class WindowModel {
 public:
  struct Span {
    Wide begin;
    Wide end;
  };

  // `tick` > 0: first hit; windows end at the next multiple of a tick after `at`. `most` is what
  // a word can count.
  WindowModel(const Rate& rate, const Beginning& at, Wide tick, Wide most)
      : rate_(rate), at_(at), tick_(tick), most_(most), limit_(rate.limit) {}

  // The window that t lies in, or that would be opened at t; but for months and years a time
  // before `at` counts as `at`.
  Span span(Wide t) const {
    if (rate_.first_hit) {
      const Wide gone = std::max<Wide>(t - at_.now_ns, 0) + rate_.period_ns;
      return {t, at_.now_ns + (gone + tick_ - 1) / tick_ * tick_};
    }
    const bool months =
        rate_.calendar == CalendarUnit::kMonth || rate_.calendar == CalendarUnit::kYear;
    const Wide local = (months ? t : std::max<Wide>(t, at_.now_ns)) + shift();
    if (rate_.calendar != CalendarUnit::kNone) {
      const std::vector<Wide>& starts = calendar_starts(rate_.calendar);
      const auto next = std::upper_bound(starts.begin(), starts.end(), local);
      return {*(next - 1) - shift(), *next - shift()};
    }
    const Wide begin = floor_div(local, rate_.period_ns) * rate_.period_ns;
    return {begin - shift(), begin + rate_.period_ns - shift()};
  }

  bool never(Wide c) const { return c > rate_.limit; }
  bool admits(Wide t, Wide c) const { return counted(t) + c <= limit_; }
  void take(Wide t, Wide c) {
    const Wide before = counted(t);
    if (before == 0) open_ = span(t);
    count_ = std::min(before + c, most_);
  }
  void refuse(Wide t, Wide c) { take(t, c); }
  Wide remaining(Wide t) const { return std::max<Wide>(limit_ - counted(t), 0); }
  bool idle(Wide t) const { return counted(t) == 0; }
  void refund(Wide t, Wide c) {
    if (!idle(t)) count_ = std::max<Wide>(count_ - c, 0);
  }
  void charge(Wide t, Wide c) {
    if (c != 0) take(t, c);
  }
  Wide delay(Wide, Wide) const { return 0; }

  // Windows never step back: one that another clock opened ahead of t counts.
  Wide counted(Wide t) const { return t < open_.end ? count_ : 0; }
  void set_limit(Wide limit) { limit_ = limit; }
  Wide end() const { return open_.end; }
  // The window that is open at t, with what was counted under another rate.
  void adopt(Wide t, Wide count, Wide end) {
    open_ = {t, end};
    count_ = count;
  }

 private:
  Wide shift() const { return Wide{at_.wall_ns} - at_.now_ns + Wide{rate_.utc_offset_s} * kSecNs; }

  Rate rate_;
  Beginning at_;
  Wide tick_;
  Wide most_;
  Wide limit_;
  Span open_ = {0, -kForever};
  Wide count_ = 0;
};

inline Edges window_edges(const Rate& rate, int64_t period, const Beginning& at) {
  Edges edges;
  edges.period = period;
  edges.permit = std::max<int64_t>(period / 3, 1);
  edges.refill = period;
  edges.farthest = static_cast<int64_t>(std::min<Wide>(Wide{period} * 4, 2 * 365 * kDayNs));
  edges.burst = rate.limit;
  edges.first = at.now_ns - kMilliNs;
  edges.last = at.now_ns + 15 * 365 * kDayNs;
  edges.counts_refused = rate.count_denied;
  return edges;
}

// Any period from 1 ns to 4 years, most of them of the kind people write.
inline int64_t random_period(Random& random) {
  static constexpr int64_t kPeriods[] = {
      1,      2,          7,           1000, kMilliNs, 1000003, kSecNs, 60 * kSecNs, 3600 * kSecNs,
      kDayNs, 7 * kDayNs, 365 * kDayNs};
  return random.one_in(2)
             ? kPeriods[random.below(std::size(kPeriods))]
             : static_cast<int64_t>(random.magnitude(4 * 365 * uint64_t{86400} * kSecNs));
}
inline int32_t random_offset(Random& random) {
  return random.one_in(3) ? 0 : static_cast<int32_t>(random.between(-14 * 60, 14 * 60)) * 60;
}

}  // namespace brim::test

#endif  // BRIM_TESTS_UNIT_MODEL_WINDOW_H_
