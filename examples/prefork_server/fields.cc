// SPDX-License-Identifier: MIT
#include "fields.h"

#include <algorithm>

namespace example {

namespace {

__extension__ using Uint128 = unsigned __int128;

constexpr int64_t kNsPerSecond = 1000000000;

int64_t seconds_up(int64_t ns) { return ns / kNsPerSecond + (ns % kNsPerSecond > 0 ? 1 : 0); }

}  // namespace

std::string policy_field(std::string_view name, const brim::Policy& policy) {
  const uint32_t burst = policy.burst == 0 ? policy.limit : policy.burst;
  std::string field = '"' + std::string(name) + "\";q=" + std::to_string(burst);
  const Uint128 window_ns =
      policy.limit == 0
          ? 0
          : static_cast<Uint128>(burst) * static_cast<Uint128>(policy.period_ns) / policy.limit;
  if (window_ns >= kNsPerSecond) {
    field += ";w=" +
             std::to_string(static_cast<uint64_t>((window_ns + kNsPerSecond - 1) / kNsPerSecond));
  }
  return field;
}

std::optional<std::string> limit_field(std::string_view name, const brim::Decision& decision) {
  if (decision.verdict == brim::Verdict::kUnavailable) return std::nullopt;
  std::string field = '"' + std::string(name) + "\";r=" + std::to_string(decision.remaining);
  const bool denied = decision.verdict == brim::Verdict::kDenied;
  if (denied && decision.retry_after_ns == brim::kNever) return field;
  return field + ";t=" +
         std::to_string(denied ? *retry_after_seconds(decision)
                               : seconds_up(decision.reset_after_ns));
}

std::optional<int64_t> retry_after_seconds(const brim::Decision& decision) {
  if (decision.verdict != brim::Verdict::kDenied || decision.retry_after_ns == brim::kNever) {
    return std::nullopt;
  }
  return std::max<int64_t>(1, seconds_up(decision.retry_after_ns));
}

}  // namespace example
