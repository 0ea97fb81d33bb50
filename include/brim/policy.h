// SPDX-License-Identifier: MIT
// A policy as a person writes it: "100/m", "5/10s burst 20", "1000/500ms", "10r/s".
// Plain values; safe to copy and to use from any thread.
#ifndef BRIM_POLICY_H_
#define BRIM_POLICY_H_

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace brim {

// The rule that decides. Token bucket and leaky bucket (as a meter) are the same function as
// GCRA; the names differ only in what a user expects to read in a dump.
enum class Algorithm : uint8_t {
  kGcra = 1,
  kTokenBucket = 2,
  kLeakyBucket = 3,
};

// What a call answers when brim can not decide (see Verdict::kUnavailable).
enum class OnUnavailable : uint8_t { kAllow = 0, kDeny = 1 };

struct Policy {
  Algorithm algorithm = Algorithm::kGcra;
  uint32_t limit = 0;     // permits per period, 1 .. 4294967295
  int64_t period_ns = 0;  // 1 ns .. 100 years
  uint32_t burst = 0;     // most permits from idle at one instant, 1 .. 4294967295
  OnUnavailable on_unavailable = OnUnavailable::kAllow;

  friend bool operator==(const Policy&, const Policy&) = default;
};

// Largest values a policy may hold.
inline constexpr int64_t kMaxPeriodNs = int64_t{100} * 365 * 86400 * 1000000000;
inline constexpr uint32_t kMaxBurst = 0xffffffff;

// Reads a policy's text. Grammar, case-insensitive, blanks free between words:
//   [gcra | token-bucket | leaky-bucket] LIMIT [r|req|requests|permits] / [N] UNIT
//   [burst B] [on-unavailable allow|deny]
// UNIT is ns us ms s sec second(s) m min minute(s) h hour(s) d day(s) w week(s) y year(s).
// Without a burst clause the burst is the limit.
// Errors: InvalidArgument that names the text and the remedy, and the column of what can not be
// read.
absl::StatusOr<Policy> parse_policy(std::string_view text);

// The one canonical spelling; parse_policy(policy_text(p)) == p.
std::string policy_text(const Policy& policy);

// Checks ranges and that the burst refills within the 36 years that a word surely holds.
absl::Status validate(const Policy& policy);

// True for 1 to 47 characters of [A-Za-z0-9._-].
bool valid_policy_name(std::string_view name);

}  // namespace brim

#endif  // BRIM_POLICY_H_
