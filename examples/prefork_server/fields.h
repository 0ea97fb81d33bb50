// SPDX-License-Identifier: MIT
// The response fields that tell a client where it stands, all from one Decision: Retry-After
// (RFC 9110) and RateLimit-Policy / RateLimit (draft-ietf-httpapi-ratelimit-headers, RFC 9651
// lists whose members are strings with parameters). Pure functions.
//
// A burst is said as the quota, and the time in which an empty burst refills as its window:
// "100/m burst 20" is "20 in 12 s" (q=20;w=12). So r never exceeds q, and q/w is the true rate.
// A window is said as it is. Of several rates the first is said; r and t are those of all.
#ifndef BRIM_EXAMPLES_PREFORK_SERVER_FIELDS_H_
#define BRIM_EXAMPLES_PREFORK_SERVER_FIELDS_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "brim/decision.h"
#include "brim/policy.h"

namespace example {

// `"NAME";q=BURST;w=SECONDS`. w is rounded up; a window below one second can not be said, so w is
// left out then, as is that of months. Policy names need no escaping in a structured-field string.
std::string policy_field(std::string_view name, const brim::Policy& policy);

// `"NAME";r=REMAINING;t=SECONDS`, nothing if brim could not decide. t is rounded up: until the
// whole quota is back if the request passed, until the next permit if it did not. So Retry-After
// never names an earlier time than t, as the draft asks.
std::optional<std::string> limit_field(std::string_view name, const brim::Decision& decision);

// Whole seconds for Retry-After, rounded up, at least 1. Nothing if the request passed, if no wait
// will help, or if brim could not decide.
std::optional<int64_t> retry_after_seconds(const brim::Decision& decision);

}  // namespace example

#endif  // BRIM_EXAMPLES_PREFORK_SERVER_FIELDS_H_
