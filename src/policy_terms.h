// SPDX-License-Identifier: MIT
// The words of a policy's text: what the parser reads and policy_text() prints.
#ifndef BRIM_SRC_POLICY_TERMS_H_
#define BRIM_SRC_POLICY_TERMS_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "brim/policy.h"

namespace brim {

inline constexpr int64_t kMicrosecondNs = 1000;
inline constexpr int64_t kMillisecondNs = 1000000;
inline constexpr int64_t kSecondNs = 1000000000;
inline constexpr int64_t kMinuteNs = 60 * kSecondNs;
inline constexpr int64_t kHourNs = 60 * kMinuteNs;
inline constexpr int64_t kDayNs = 24 * kHourNs;
inline constexpr int64_t kYearNs = 365 * kDayNs;

inline constexpr size_t kMaxPolicyText = 511;          // bytes of canonical text, without the end
inline constexpr int64_t kDefaultLeaseNs = kMinuteNs;  // of `concurrency N` without a ttl

struct TimeUnit {
  std::string_view name;
  int64_t ns;
};

// Canonical names first, largest first: time_text() takes the first that divides.
inline constexpr size_t kCanonicalUnits = 9;
inline constexpr std::array<TimeUnit, 28> kTimeUnits = {
    {{"y", kYearNs},          {"w", 7 * kDayNs},      {"d", kDayNs},
     {"h", kHourNs},          {"m", kMinuteNs},       {"s", kSecondNs},
     {"ms", kMillisecondNs},  {"us", kMicrosecondNs}, {"ns", 1},
     {"sec", kSecondNs},      {"secs", kSecondNs},    {"second", kSecondNs},
     {"seconds", kSecondNs},  {"min", kMinuteNs},     {"mins", kMinuteNs},
     {"minute", kMinuteNs},   {"minutes", kMinuteNs}, {"hour", kHourNs},
     {"hours", kHourNs},      {"hr", kHourNs},        {"day", kDayNs},
     {"days", kDayNs},        {"week", 7 * kDayNs},   {"weeks", 7 * kDayNs},
     {"year", kYearNs},       {"years", kYearNs},     {"msec", kMillisecondNs},
     {"usec", kMicrosecondNs}}};

// By number of brim::Algorithm.
inline constexpr std::array<std::string_view, 12> kAlgorithmNames = {"",
                                                                     "gcra",
                                                                     "token-bucket",
                                                                     "leaky-bucket",
                                                                     "queue",
                                                                     "fixed-window",
                                                                     "calendar-window",
                                                                     "sliding-log",
                                                                     "sliding-counter",
                                                                     "concurrency",
                                                                     "unlimited",
                                                                     "deny"};

// By number of brim::CalendarUnit, as policy_text() prints them.
inline constexpr std::array<std::string_view, 6> kCalendarNames = {"", "h", "d", "w", "month", "y"};

// Sets of algorithms, to say what a clause is for.
constexpr uint32_t algorithm_bit(Algorithm algorithm) {
  return uint32_t{1} << (static_cast<uint32_t>(algorithm) & 31);
}
inline constexpr uint32_t kBuckets = algorithm_bit(Algorithm::kGcra) |
                                     algorithm_bit(Algorithm::kTokenBucket) |
                                     algorithm_bit(Algorithm::kLeakyBucket);
inline constexpr uint32_t kQueues = algorithm_bit(Algorithm::kQueue);
inline constexpr uint32_t kFixed = algorithm_bit(Algorithm::kFixedWindow);
inline constexpr uint32_t kCalendars = algorithm_bit(Algorithm::kCalendarWindow);
inline constexpr uint32_t kLogs = algorithm_bit(Algorithm::kSlidingLog);
inline constexpr uint32_t kSlidingCounters = algorithm_bit(Algorithm::kSlidingCounter);
inline constexpr uint32_t kLeases = algorithm_bit(Algorithm::kConcurrency);
inline constexpr uint32_t kConstant =
    algorithm_bit(Algorithm::kUnlimited) | algorithm_bit(Algorithm::kDeny);

constexpr bool is_one_of(Algorithm algorithm, uint32_t set) {
  return static_cast<uint32_t>(algorithm) < 32 && (set & algorithm_bit(algorithm)) != 0;
}

// "gcra, token-bucket or leaky-bucket".
std::string algorithm_list(uint32_t set);

// "90s"; "0s" for none. Defined for every number.
std::string time_text(int64_t ns);
// One rate in canonical form, without options.
std::string rate_text(const Rate& rate);
// What `max` of a ban is if it is not given.
constexpr int64_t default_ban_max(const Ban& ban) {
  return ban.factor == 1 || ban.for_ns > kDayNs ? ban.for_ns : kDayNs;
}

// Where a text can not be read, counted from 0, and why.
struct TextError {
  size_t at = 0;
  std::string what;
};
inline constexpr size_t kNowhere = ~size_t{0};  // TextError::at of what no one place shows

// parse_policy() with the place apart from the reason; false on an error.
bool read_policy(std::string_view text, Policy& policy, TextError& error);

// "; did you mean 'burst'?", or nothing if no word is near. `words` are separated by blanks.
std::string did_you_mean(std::string_view word, std::string_view words);

}  // namespace brim

#endif  // BRIM_SRC_POLICY_TERMS_H_
