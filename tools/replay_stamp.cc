// SPDX-License-Identifier: MIT
#include "replay_stamp.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <chrono>
#include <utility>

#include "replay_text.h"

namespace brim::replay {

namespace {

bool is_digit(char c) { return c >= '0' && c <= '9'; }

// Takes text apart from the front; any failure sticks.
class Scanner {
 public:
  explicit Scanner(std::string_view input) : rest_(input) {}

  int number(size_t digits) {
    int value = 0;
    for (size_t i = 0; i < digits; ++i) {
      if (rest_.empty() || !is_digit(rest_.front())) return fail();
      value = value * 10 + (rest_.front() - '0');
      rest_.remove_prefix(1);
    }
    return value;
  }
  void literal(char c) {
    if (rest_.empty() || rest_.front() != c) {
      fail();
    } else {
      rest_.remove_prefix(1);
    }
  }
  unsigned month() {
    constexpr std::array<std::string_view, 12> kMonths = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                                          "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
    const auto* const found = std::find(kMonths.begin(), kMonths.end(), rest_.substr(0, 3));
    if (found == kMonths.end()) return static_cast<unsigned>(fail());
    rest_.remove_prefix(3);
    return static_cast<unsigned>(found - kMonths.begin()) + 1;
  }
  // +0200 or +02:00, in seconds east.
  int64_t zone(bool colon) {
    if (rest_.empty() || (rest_.front() != '+' && rest_.front() != '-')) return fail();
    const int64_t sign = rest_.front() == '-' ? -1 : 1;
    rest_.remove_prefix(1);
    const int hours = number(2);
    if (colon) literal(':');
    const int minutes = number(2);
    if (hours > 23 || minutes > 59) return fail();
    return sign * (hours * 3600 + minutes * 60);
  }
  bool at(char c) const { return !rest_.empty() && rest_.front() == c; }
  bool done() const { return !failed_ && rest_.empty(); }

 private:
  int fail() {
    failed_ = true;
    return 0;
  }
  std::string_view rest_;
  bool failed_ = false;
};

struct Stamp {
  int year = 0;
  unsigned month = 0;
  unsigned day = 0;
  int hour = 0;
  int minute = 0;
  int second = 0;
  int64_t zone_seconds = 0;
};

constexpr int64_t kFirstSecond =
    std::chrono::sys_days(std::chrono::year(1990) / 1 / 1).time_since_epoch().count() * 86400LL;
constexpr int64_t kEndSecond =
    std::chrono::sys_days(std::chrono::year(2090) / 1 / 1).time_since_epoch().count() * 86400LL;

bool in_range(int64_t seconds) { return seconds >= kFirstSecond && seconds < kEndSecond; }

// Second 60 is a leap second: the first of the next minute.
bool stamp_ns(const Stamp& stamp, int64_t& ns) {
  const std::chrono::year_month_day date{
      std::chrono::year(stamp.year), std::chrono::month(stamp.month), std::chrono::day(stamp.day)};
  if (!date.ok() || stamp.hour > 23 || stamp.minute > 59 || stamp.second > 60) return false;
  const int64_t days = std::chrono::sys_days(date).time_since_epoch().count();
  const int64_t seconds =
      days * 86400 + stamp.hour * 3600 + stamp.minute * 60 + stamp.second - stamp.zone_seconds;
  ns = in_range(seconds) ? seconds * kSecondNs : 0;
  return in_range(seconds);
}

}  // namespace

bool parse_time_local(std::string_view input, int64_t& ns) {
  Scanner scanner(input);
  Stamp stamp;
  stamp.day = static_cast<unsigned>(scanner.number(2));
  scanner.literal('/');
  stamp.month = scanner.month();
  scanner.literal('/');
  stamp.year = scanner.number(4);
  scanner.literal(':');
  stamp.hour = scanner.number(2);
  scanner.literal(':');
  stamp.minute = scanner.number(2);
  scanner.literal(':');
  stamp.second = scanner.number(2);
  scanner.literal(' ');
  stamp.zone_seconds = scanner.zone(false);
  return scanner.done() && stamp_ns(stamp, ns);
}

bool parse_time_iso8601(std::string_view input, int64_t& ns) {
  Scanner scanner(input);
  Stamp stamp;
  stamp.year = scanner.number(4);
  scanner.literal('-');
  stamp.month = static_cast<unsigned>(scanner.number(2));
  scanner.literal('-');
  stamp.day = static_cast<unsigned>(scanner.number(2));
  scanner.literal('T');
  stamp.hour = scanner.number(2);
  scanner.literal(':');
  stamp.minute = scanner.number(2);
  scanner.literal(':');
  stamp.second = scanner.number(2);
  if (scanner.at('Z')) {
    scanner.literal('Z');
  } else {
    stamp.zone_seconds = scanner.zone(true);
  }
  return scanner.done() && stamp_ns(stamp, ns);
}

bool parse_msec(std::string_view input, int64_t& ns) {
  const size_t dot = input.find('.');
  const std::string_view whole = input.substr(0, dot);
  const std::string_view part = dot == std::string_view::npos ? "0" : input.substr(dot + 1);
  if (whole.size() > 12 || part.empty() || part.size() > 9) return false;
  int64_t seconds = -1;
  int64_t fraction = -1;
  for (const auto& [digits, value] : {std::pair(whole, &seconds), std::pair(part, &fraction)}) {
    const bool all_digits = std::all_of(digits.begin(), digits.end(), is_digit);
    if (!all_digits ||
        std::from_chars(digits.data(), digits.data() + digits.size(), *value).ec != std::errc()) {
      return false;
    }
  }
  for (size_t i = part.size(); i < 9; ++i) fraction *= 10;
  ns = in_range(seconds) ? seconds * kSecondNs + fraction : 0;
  return in_range(seconds);
}

}  // namespace brim::replay
