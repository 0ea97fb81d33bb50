// SPDX-License-Identifier: MIT
// Times and shares as text. Pure functions.
#ifndef BRIM_TOOLS_REPLAY_TEXT_H_
#define BRIM_TOOLS_REPLAY_TEXT_H_

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <string>

namespace brim::replay {

inline constexpr int64_t kSecondNs = 1000000000;
inline constexpr int64_t kMillisecondNs = 1000000;

// ns since 1970 as 2000-10-10T20:55:36Z, with milliseconds where the stamp has any.
inline std::string utc(int64_t ns) {
  using std::chrono::floor;
  const std::chrono::sys_time<std::chrono::nanoseconds> time{std::chrono::nanoseconds(ns)};
  const auto day = floor<std::chrono::days>(time);
  const std::chrono::year_month_day date(day);
  const int64_t second = std::chrono::duration_cast<std::chrono::seconds>(time - day).count();
  const int64_t ms = (time - day).count() % kSecondNs / kMillisecondNs;
  char buffer[80];
  std::snprintf(buffer, sizeof(buffer), "%04d-%02u-%02uT%02d:%02d:%02d",
                static_cast<int>(date.year()), static_cast<unsigned>(date.month()),
                static_cast<unsigned>(date.day()), static_cast<int>(second / 3600),
                static_cast<int>(second / 60 % 60), static_cast<int>(second % 60));
  std::string out = buffer;
  if (ms != 0) {
    std::snprintf(buffer, sizeof(buffer), ".%03d", static_cast<int>(ms));
    out += buffer;
  }
  return out + "Z";
}

// part / whole in percent with two decimals, rounded to the nearest.
inline std::string percent(uint64_t part, uint64_t whole) {
  if (whole == 0) return "0.00";
  const uint64_t hundredths = static_cast<uint64_t>(
      (static_cast<long double>(part) * 10000 / static_cast<long double>(whole)) + 0.5L);
  char buffer[40];
  std::snprintf(buffer, sizeof(buffer), "%llu.%02llu",
                static_cast<unsigned long long>(hundredths / 100),
                static_cast<unsigned long long>(hundredths % 100));
  return buffer;
}

}  // namespace brim::replay

#endif  // BRIM_TOOLS_REPLAY_TEXT_H_
