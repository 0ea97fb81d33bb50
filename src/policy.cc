// SPDX-License-Identifier: MIT
// Which policies are valid. The messages name the value and the remedy; those about one rate of
// several name the rate.
#include "brim/policy.h"

#include <algorithm>
#include <string>
#include <string_view>

#include "src/base/text.h"
#include "src/compile.h"
#include "src/policy_terms.h"

namespace brim {

namespace {

constexpr int64_t kMaxBanNs = kYearNs;

// What is wrong, or nothing.
using Finding = std::string;

// A field that the algorithm does not know keeps its default.
struct FieldRule {
  std::string_view clause;
  uint32_t fits;
  bool (*is_set)(const Rate& rate);
};
constexpr FieldRule kFields[] = {
    {"a period", ~(kCalendars | kConstant), [](const Rate& r) { return r.period_ns != 0; }},
    {"burst", kBuckets | kQueues, [](const Rate& r) { return r.burst != 0; }},
    {"debt", kBuckets, [](const Rate& r) { return r.debt != 0; }},
    {"forward", kBuckets, [](const Rate& r) { return r.forward; }},
    {"ahead", kBuckets, [](const Rate& r) { return r.ahead_ns != Rate::kDefaultAheadNs; }},
    {"delay-after or no-delay", kQueues, [](const Rate& r) { return r.undelayed != 0; }},
    {"first-hit", kFixed, [](const Rate& r) { return r.first_hit; }},
    {"utc", kFixed | kCalendars, [](const Rate& r) { return r.utc_offset_s != 0; }},
    {"inclusive", kLogs, [](const Rate& r) { return r.inclusive; }},
    {"count-denied", kFixed | kSlidingCounters, [](const Rate& r) { return r.count_denied; }},
    {"floor", kSlidingCounters, [](const Rate& r) { return r.floor_weight; }},
    {"a calendar unit", kCalendars,
     [](const Rate& r) { return r.calendar != CalendarUnit::kNone; }},
};

constexpr uint32_t kMaxLogLimit = 256;            // shm::kMaxCells
constexpr uint32_t kMaxLeaseLimit = 128;          // shm::kMaxLeases
constexpr uint32_t kMaxCounted = (1u << 21) - 1;  // of a sliding counter
constexpr int32_t kMaxOffsetS = 14 * 3600;

Finding check_fields(const Rate& rate) {
  const auto number = static_cast<size_t>(rate.algorithm);
  if (number == 0 || number >= kAlgorithmNames.size()) {
    return cat("algorithm is ", number, "; give gcra or another of 1 to 11");
  }
  for (const FieldRule& field : kFields) {
    if (!is_one_of(rate.algorithm, field.fits) && field.is_set(rate)) {
      const uint32_t fits = field.fits & ((1u << kAlgorithmNames.size()) - 2);
      return cat("'", field.clause, "' does not fit ", kAlgorithmNames[number], "; it is for ",
                 algorithm_list(fits));
    }
  }
  return "";
}

Finding check_bucket(const Rate& rate) {
  const bool queue = rate.algorithm == Algorithm::kQueue;
  if (rate.limit > rate.period_ns) {
    return cat("the rate is ", rate.limit, " in ", rate.period_ns,
               " ns; give at most one permit a nanosecond (10^9/s)");
  }
  if (rate.burst == 0 && !queue) return "the burst is 0; give at least 1";
  if (rate.debt > kMaxBurst - rate.burst) {
    return cat("burst and debt are ", uint64_t{rate.burst} + rate.debt, " together; give at most ",
               kMaxBurst);
  }
  if (rate.ahead_ns < 0 || rate.ahead_ns > kMaxPeriodNs) {
    return cat("the time ahead is ", rate.ahead_ns, " ns; give 0s to 100 years");
  }
  return "";
}

Finding check_window(const Rate& rate) {
  const bool leases = rate.algorithm == Algorithm::kConcurrency;
  const uint32_t most = leases ? kMaxLeaseLimit : kMaxLogLimit;
  if (is_one_of(rate.algorithm, kLogs | kLeases) && rate.limit > most) {
    return cat("the limit is ", rate.limit, "; ",
               kAlgorithmNames[static_cast<size_t>(rate.algorithm)], " keeps ", leases ? "16" : "8",
               " bytes for each permit: give at most ", most,
               rate.algorithm == Algorithm::kSlidingLog ? ", or use sliding-counter" : "");
  }
  if (rate.algorithm == Algorithm::kSlidingCounter && rate.limit > kMaxCounted) {
    return cat("the limit is ", rate.limit, "; sliding-counter counts to ", kMaxCounted,
               ": give a smaller limit, or fixed-window");
  }
  if (rate.algorithm == Algorithm::kCalendarWindow &&
      (rate.calendar == CalendarUnit::kNone || rate.calendar > CalendarUnit::kYear)) {
    return cat("the calendar unit is ", static_cast<int>(rate.calendar),
               "; give hour, day, week, month or year");
  }
  if (rate.first_hit && rate.utc_offset_s != 0) {
    return "'utc' is for windows that are aligned to the clock; leave out 'first-hit' or 'utc'";
  }
  if (rate.utc_offset_s < -kMaxOffsetS || rate.utc_offset_s > kMaxOffsetS ||
      rate.utc_offset_s % 60 != 0) {
    return cat("the offset from UTC is ", rate.utc_offset_s,
               " s; give whole minutes from -14:00 to +14:00");
  }
  return "";
}

Finding check_rate(const Rate& rate) {
  if (Finding found = check_fields(rate); !found.empty()) return found;
  if (is_one_of(rate.algorithm, kConstant)) {
    return rate.limit == 0 ? "" : cat("unlimited and deny have no limit; give 0, not ", rate.limit);
  }
  if (rate.algorithm != Algorithm::kCalendarWindow &&
      (rate.period_ns <= 0 || rate.period_ns > kMaxPeriodNs)) {
    return cat("the period is ", rate.period_ns, " ns; give 1 ns to 100 years");
  }
  if (rate.limit == 0) return "the limit is 0; give at least 1 permit, or the policy 'deny'";
  Finding found =
      is_one_of(rate.algorithm, kBuckets | kQueues) ? check_bucket(rate) : check_window(rate);
  if (!found.empty()) return found;
  const absl::Status fits = check_fits(rate);
  if (fits.ok()) return "";
  const std::string_view said(fits.message().data(), fits.message().size());
  constexpr std::string_view kPrefix = "invalid_policy: ";
  return std::string(said.substr(said.starts_with(kPrefix) ? kPrefix.size() : 0));
}

Finding check_rates(const Policy& policy) {
  const size_t count = policy.rates.size();
  if (count == 0) return "there is no rate; give at least one, or 'unlimited' or 'deny'";
  if (count > kMaxRates) return cat("there are ", count, " rates; give at most ", kMaxRates);
  for (size_t i = 0; i < count; ++i) {
    const Rate& rate = policy.rates[i];
    Finding found = check_rate(rate);
    if (found.empty() && count > 1 && is_one_of(rate.algorithm, kConstant | kLeases)) {
      found = cat("'", kAlgorithmNames[static_cast<size_t>(rate.algorithm)],
                  "' must be the only rate; make it a policy of its own");
    }
    if (!found.empty()) return count == 1 ? found : cat("rate ", i + 1, ": ", found);
    const auto before = policy.rates.begin() + static_cast<std::ptrdiff_t>(i);
    if (const auto same = std::find(policy.rates.begin(), before, rate); same != before) {
      return cat("rates ", same - policy.rates.begin() + 1, " and ", i + 1, " are equal (",
                 rate_text(rate), "); give it once");
    }
  }
  return "";
}

Finding check_span(std::string_view what, int64_t ns, int64_t least, int64_t most) {
  if (ns >= least && ns <= most) return "";
  return cat(what, " is ", time_text(ns), "; give ", time_text(least), " to ", time_text(most));
}

Finding check_ban(const Ban& ban) {
  if (ban.after == 0) {
    return ban == Ban{} ? "" : "a ban needs the refusals that lead to it; give 'after' 1 to 65535";
  }
  if (ban.after > 65535) {
    return cat("a ban comes after ", ban.after, " refusals; give 1 to 65535");
  }
  Finding found =
      check_span("the time to refuse in, before a ban,", ban.within_ns, kMillisecondNs, kMaxBanNs);
  if (found.empty()) found = check_span("the ban", ban.for_ns, kMillisecondNs, kMaxBanNs);
  if (!found.empty()) return found;
  if (ban.factor == 0 || ban.factor > 1000) {
    return cat("a ban lasts ", ban.factor, " times as long as the one before; give 1 to 1000");
  }
  return check_span("the longest ban", ban.max_ns, ban.for_ns, kMaxBanNs);
}

Finding check_warm_up(const Policy& policy) {
  if (policy.warm_up_ns == 0) {
    return policy.warm_up_from_ppm == 1000000 ? "" : "the warm-up lasts 0s; give 1ns to 1d";
  }
  if (Finding found = check_span("the warm-up", policy.warm_up_ns, 1, kMaxWarmUpNs);
      !found.empty()) {
    return found;
  }
  const uint32_t ppm = policy.warm_up_from_ppm;
  if (ppm == 0 || ppm > 1000000 || ppm % 10 != 0) {
    return cat("the warm-up begins at ", ppm,
               " parts in a million; give more than 0 and at most 100%, with at most 3 decimals");
  }
  return "";
}

Finding check_options(const Policy& policy) {
  const uint8_t* const percent = policy.class_percent;
  for (int i = 0; i < 3; ++i) {
    if (percent[i] < 1 || percent[i] > 100 || (i > 0 && percent[i] < percent[i - 1])) {
      return cat("classes are ", percent[0], " ", percent[1], " ", percent[2],
                 " per cent; give 1 to 100 for low, normal and high, none below the one before");
    }
  }
  if (policy.enforced_percent > 100) {
    return cat("the share enforced is ", policy.enforced_percent, " per cent; give 0 to 100");
  }
  if (policy.on_unavailable != OnUnavailable::kAllow &&
      policy.on_unavailable != OnUnavailable::kDeny) {
    return cat("on-unavailable is ", static_cast<int>(policy.on_unavailable),
               "; give allow or deny");
  }
  if (policy.scope > PolicyScope::kStrict) {
    return cat("the scope is ", static_cast<int>(policy.scope), "; give node, cluster or strict");
  }
  for (const Rate& rate : policy.rates) {
    if (policy.scope == PolicyScope::kNode || is_one_of(rate.algorithm, kBuckets | kQueues))
      continue;
    return cat("'scope cluster' is for ", algorithm_list(kBuckets | kQueues), "; '",
               rate_text(rate),
               "' forgets what nodes admit at the same time, so that each would admit all of it");
  }
  for (const Rate& rate : policy.rates) {
    if (policy.scope != PolicyScope::kCluster || !is_one_of(rate.algorithm, kBuckets) ||
        rate.ahead_ns >= Rate::kDefaultAheadNs) {
      continue;
    }
    return cat(
        "with 'scope cluster' 'ahead' is also the debt that nodes carry, which must last "
        "until they hear of each other; give at least ",
        Rate::kDefaultAheadNs / 1000000000, "s, not '", rate_text(rate), "'");
  }
  if (Finding found = check_warm_up(policy); !found.empty()) return found;
  if (policy.ban.after != 0 && policy.rates.front().algorithm == Algorithm::kConcurrency) {
    return "a refused lease is no offence: leave out 'ban', or ban by a rate in front of the "
           "leases";
  }
  if (Finding found = check_ban(policy.ban); !found.empty()) return found;
  if (is_one_of(policy.rates[0].algorithm, kConstant)) {
    Policy plain;
    plain.rates = policy.rates;
    if (policy != plain) {
      return cat(rate_text(policy.rates[0]), " takes no options; leave them out");
    }
  }
  return "";
}

}  // namespace

absl::Status validate(const Policy& policy) {
  Finding found = check_rates(policy);
  if (found.empty()) found = check_options(policy);
  if (found.empty()) {
    if (const size_t size = policy_text(policy).size(); size > kMaxPolicyText) {
      found = cat("the canonical text has ", size, " bytes; give fewer rates, so that it fits ",
                  kMaxPolicyText);
    }
  }
  if (found.empty()) return absl::OkStatus();
  return absl::InvalidArgumentError(cat("invalid_policy: ", found));
}

bool valid_policy_name(std::string_view name) {
  if (name.empty() || name.size() > 47) return false;
  return std::all_of(name.begin(), name.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
           c == '_' || c == '-';
  });
}

}  // namespace brim
