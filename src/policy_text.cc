// SPDX-License-Identifier: MIT
// Policies as text: the canonical spelling, and the nearest known word to a wrong one.
#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

#include "brim/policy.h"
#include "src/base/text.h"
#include "src/policy_terms.h"

namespace brim {

namespace {

std::string two_digits(int32_t number) { return number < 10 ? cat("0", number) : cat(number); }

std::string utc_text(int32_t offset_s) {
  // In 64 bits: the least number has no opposite.
  const int64_t minutes = (offset_s < 0 ? -int64_t{offset_s} : int64_t{offset_s}) / 60;
  return cat(" utc", offset_s < 0 ? "-" : "+", two_digits(static_cast<int32_t>(minutes / 60)), ":",
             two_digits(static_cast<int32_t>(minutes % 60)));
}

// "12.5" for 125000 parts in a million.
std::string percent_text(uint32_t ppm) {
  std::string thousandths = cat(ppm / 10 % 1000 + 1000).substr(1);
  while (!thousandths.empty() && thousandths.back() == '0') thousandths.pop_back();
  return cat(ppm / 10000, thousandths.empty() ? "" : ".", thousandths);
}

std::string period_text(const Rate& rate) {
  const auto unit = static_cast<size_t>(rate.calendar);
  if (rate.algorithm == Algorithm::kCalendarWindow && unit < kCalendarNames.size()) {
    return std::string(kCalendarNames[unit]);
  }
  const std::string text = time_text(rate.period_ns);
  return text.size() > 1 && text[0] == '1' && (text[1] < '0' || text[1] > '9') ? text.substr(1)
                                                                               : text;
}

std::string ban_text(const Ban& ban) {
  std::string text =
      cat(" ban ", ban.after, " in ", time_text(ban.within_ns), " for ", time_text(ban.for_ns));
  if (ban.factor != 1) text += cat(" times ", ban.factor);
  if (ban.max_ns != default_ban_max(ban)) text += cat(" max ", time_text(ban.max_ns));
  return text;
}

// Edits that turn one word into the other; a swap of neighbours counts as one.
size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::vector<size_t>> d(a.size() + 1, std::vector<size_t>(b.size() + 1));
  for (size_t i = 0; i <= a.size(); ++i) {
    for (size_t j = 0; j <= b.size(); ++j) {
      if (i == 0 || j == 0) {
        d[i][j] = i + j;
        continue;
      }
      const size_t change = a[i - 1] == b[j - 1] ? 0 : 1;
      d[i][j] = std::min({d[i - 1][j] + 1, d[i][j - 1] + 1, d[i - 1][j - 1] + change});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) {
        d[i][j] = std::min(d[i][j], d[i - 2][j - 2] + 1);
      }
    }
  }
  return d[a.size()][b.size()];
}

// What other limiters call things.
struct OtherName {
  std::string_view theirs;
  std::string_view ours;
};
constexpr OtherName kOtherNames[] = {{"moving-window", "sliding-log"},
                                     {"sliding-window", "sliding-counter"},
                                     {"sliding-window-log", "sliding-log"},
                                     {"sliding-window-counter", "sliding-counter"},
                                     {"leaky-bucket-queue", "queue"},
                                     {"calendar", "calendar-window"},
                                     {"dry-run", "shadow"},
                                     {"max-burst", "burst"},
                                     {"timeout", "ttl"}};

}  // namespace

std::string algorithm_list(uint32_t set) {
  std::vector<std::string_view> names;
  for (size_t i = 1; i < kAlgorithmNames.size(); ++i) {
    if ((set >> i & 1) != 0) names.push_back(kAlgorithmNames[i]);
  }
  std::string text;
  for (size_t i = 0; i < names.size(); ++i) {
    text += cat(i == 0 ? "" : i + 1 == names.size() ? " or " : ", ", names[i]);
  }
  return text;
}

std::string time_text(int64_t ns) {
  if (ns == 0) return "0s";
  const TimeUnit* unit = kTimeUnits.data();
  while (ns % unit->ns != 0) ++unit;  // the last canonical unit is 1 ns
  return cat(ns / unit->ns, unit->name);
}

std::string rate_text(const Rate& rate) {
  if (rate.algorithm == Algorithm::kUnlimited) return "unlimited";
  if (rate.algorithm == Algorithm::kDeny) return "deny";
  if (rate.algorithm == Algorithm::kConcurrency) {
    return cat("concurrency ", rate.limit, " ttl ", time_text(rate.period_ns));
  }
  const auto algorithm = static_cast<size_t>(rate.algorithm);
  std::string text;
  if (rate.algorithm != Algorithm::kGcra && algorithm < kAlgorithmNames.size()) {
    text += cat(kAlgorithmNames[algorithm], " ");
  }
  text += cat(rate.limit, "/", period_text(rate));
  if (is_one_of(rate.algorithm, kBuckets | kQueues)) {
    if (rate.burst != rate.limit) text += cat(" burst ", rate.burst);
    if (rate.debt != 0) text += cat(" debt ", rate.debt);
  }
  if (rate.forward) text += " forward";
  if (rate.undelayed == Rate::kAllUndelayed) {
    text += " no-delay";
  } else if (rate.undelayed != 0) {
    text += cat(" delay-after ", rate.undelayed);
  }
  if (rate.ahead_ns != Rate::kDefaultAheadNs) text += cat(" ahead ", time_text(rate.ahead_ns));
  if (rate.first_hit) text += " first-hit";
  if (rate.utc_offset_s != 0) text += utc_text(rate.utc_offset_s);
  if (rate.inclusive) text += " inclusive";
  if (rate.count_denied) text += " count-denied";
  if (rate.floor_weight) text += " floor";
  return text;
}

std::string policy_text(const Policy& policy) {
  std::string text;
  for (const Rate& rate : policy.rates) text += cat(text.empty() ? "" : "; ", rate_text(rate));
  if (policy.scope != PolicyScope::kNode) {
    text += policy.scope == PolicyScope::kStrict ? " scope cluster strict" : " scope cluster";
  }
  if (policy.on_unavailable == OnUnavailable::kDeny) text += " on-unavailable deny";
  const uint8_t* const percent = policy.class_percent;
  if (percent[0] != 100 || percent[1] != 100 || percent[2] != 100) {
    text += cat(" classes ", percent[0], " ", percent[1], " ", percent[2]);
  }
  if (policy.enforced_percent == 0) {
    text += " shadow";
  } else if (policy.enforced_percent != 100) {
    text += cat(" enforce ", policy.enforced_percent, "%");
  }
  if (policy.warm_up_ns != 0) {
    text += cat(" warm-up ", percent_text(policy.warm_up_from_ppm), "% over ",
                time_text(policy.warm_up_ns));
  }
  if (policy.ban.after != 0) text += ban_text(policy.ban);
  return text;
}

std::string did_you_mean(std::string_view word, std::string_view words) {
  for (const OtherName& other : kOtherNames) {
    if (other.theirs == word &&
        cat(" ", words, " ").find(cat(" ", other.ours, " ")) != std::string::npos) {
      return cat("; did you mean '", other.ours, "'?");
    }
  }
  const std::string_view given = word.substr(0, 40);
  size_t least = std::max<size_t>(1, given.size() / 3) + 1;
  std::string_view best;
  for (size_t from = 0; from < words.size();) {
    const size_t end = std::min(words.find(' ', from), words.size());
    const std::string_view known = words.substr(from, end - from);
    const size_t distance = edit_distance(given, known);
    if (distance < least && distance < known.size()) {
      least = distance;
      best = known;
    }
    from = end + 1;
  }
  return best.empty() || given.empty() ? "" : cat("; did you mean '", best, "'?");
}

}  // namespace brim
