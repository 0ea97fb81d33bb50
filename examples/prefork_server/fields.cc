// SPDX-License-Identifier: MIT
#include "fields.h"

#include <algorithm>

namespace example {

namespace {

__extension__ using Uint128 = unsigned __int128;

constexpr int64_t kNsPerSecond = 1000000000;

int64_t seconds_up(int64_t ns) { return ns / kNsPerSecond + (ns % kNsPerSecond > 0 ? 1 : 0); }

// The most permits of one instant, which `remaining` never exceeds.
uint64_t most_at_once(const brim::Rate& rate) {
  switch (rate.algorithm) {
    case brim::Algorithm::kGcra:
    case brim::Algorithm::kTokenBucket:
    case brim::Algorithm::kLeakyBucket:
      return uint64_t{rate.burst} + rate.debt;
    case brim::Algorithm::kQueue:
      return uint64_t{rate.burst} + 1;
    default:
      return rate.limit;
  }
}

}  // namespace

std::string policy_field(std::string_view name, const brim::Policy& policy) {
  const brim::Rate rate = policy.rates.empty() ? brim::Rate() : policy.rates.front();
  const uint64_t burst = most_at_once(rate);
  std::string field = '"' + std::string(name) + "\";q=" + std::to_string(burst);
  const Uint128 window_ns = rate.limit == 0 ? 0
                                            : static_cast<Uint128>(burst) *
                                                  static_cast<Uint128>(rate.period_ns) / rate.limit;
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
