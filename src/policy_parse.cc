// SPDX-License-Identifier: MIT
// Reads a policy's text by recursive descent over one line. What stands where is known to the
// column; what is wrong as a whole is validate()'s business.
#include <algorithm>
#include <charconv>
#include <iterator>
#include <string>
#include <string_view>

#include "brim/policy.h"
#include "src/base/text.h"
#include "src/policy_scan.h"
#include "src/policy_terms.h"

namespace brim {

namespace {

constexpr std::string_view kExampleRate = "expected a rate such as 100/m, 5/10s or 10r/s";
constexpr std::string_view kCountWords[] = {"r", "req", "request", "requests", "permit", "permits"};

enum class Term : uint8_t {
  kBurst,
  kDebt,
  kForward,
  kDelayAfter,
  kNoDelay,
  kAhead,
  kAligned,
  kFirstHit,
  kUtc,
  kInclusive,
  kCountDenied,
  kFloor,
  kTtl,
  kNginxNoDelay,
  kNginxDelay,
  // Options of the whole policy.
  kScope,
  kOnUnavailable,
  kClasses,
  kShadow,
  kEnforce,
  kWarmUp,
  kBan,
};

struct TermRule {
  std::string_view word;
  Term term;
  uint32_t fits;    // algorithms; 0: an option
  Term instead_of;  // excludes this one too; itself if none
};

constexpr TermRule kTerms[] = {
    {"burst", Term::kBurst, kBuckets | kQueues, Term::kBurst},
    {"debt", Term::kDebt, kBuckets, Term::kDebt},
    {"forward", Term::kForward, kBuckets, Term::kForward},
    {"delay-after", Term::kDelayAfter, kQueues, Term::kNoDelay},
    {"no-delay", Term::kNoDelay, kQueues, Term::kDelayAfter},
    {"ahead", Term::kAhead, kBuckets, Term::kAhead},
    {"aligned", Term::kAligned, kFixed, Term::kFirstHit},
    {"first-hit", Term::kFirstHit, kFixed, Term::kAligned},
    {"utc", Term::kUtc, kFixed | kCalendars, Term::kFirstHit},
    {"inclusive", Term::kInclusive, kLogs, Term::kInclusive},
    {"count-denied", Term::kCountDenied, kFixed | kSlidingCounters, Term::kCountDenied},
    {"floor", Term::kFloor, kSlidingCounters, Term::kFloor},
    {"ttl", Term::kTtl, kLeases, Term::kTtl},
    {"scope", Term::kScope, 0, Term::kScope},
    {"on-unavailable", Term::kOnUnavailable, 0, Term::kOnUnavailable},
    {"classes", Term::kClasses, 0, Term::kClasses},
    {"shadow", Term::kShadow, 0, Term::kEnforce},
    {"enforce", Term::kEnforce, 0, Term::kShadow},
    {"warm-up", Term::kWarmUp, 0, Term::kWarmUp},
    {"ban", Term::kBan, 0, Term::kBan},
};
// Words of `limit_req` that are read after `rate=` only.
constexpr TermRule kNginxTerms[] = {
    {"nodelay", Term::kNginxNoDelay, kQueues, Term::kNginxDelay},
    {"delay", Term::kNginxDelay, kQueues, Term::kNginxNoDelay},
};

constexpr uint32_t term_bit(Term term) { return uint32_t{1} << static_cast<uint32_t>(term); }

class Parser : private Scanner {
 public:
  Parser(std::string_view text, TextError& error) : Scanner(text, error) {}

  bool parse(Policy& policy) {
    do {
      const size_t start = here();
      Rate rate;
      nginx_ = false;
      seen_ = 0;
      if (!parse_rate(rate)) return false;
      while (!at_end() && !at_separator()) {
        if (!parse_term(rate, policy)) return false;
      }
      if (policy.rates.size() == kMaxRates) {
        return fail(start, cat("a policy has at most ", kMaxRates, " rates"));
      }
      if (is_one_of(rate.algorithm, kBuckets | kQueues) && !nginx_ &&
          (seen_ & term_bit(Term::kBurst)) == 0) {
        rate.burst = rate.limit;
      }
      policy.rates.push_back(rate);
    } while (take_separator());
    return true;
  }

 private:
  bool parse_rate(Rate& rate) {
    const size_t start = here();
    if (at_fraction()) return fail(start, "the limit must be whole: write 1/2s for 0.5/s");
    if (!at_digit()) {
      const std::string name = word();
      if (name == "rate" && take('=')) {
        // nginx's own spelling: a queue, which delays what comes early.
        nginx_ = true;
        rate.algorithm = Algorithm::kQueue;
      } else if (!find_algorithm(name, rate)) {
        return fail(start, cat(kExampleRate, did_you_mean(name, kAlgorithmWords)));
      }
    }
    if (is_one_of(rate.algorithm, kConstant)) return true;
    const size_t column = here();
    uint64_t limit = 0;
    if (!number("the limit", "1/2s for 0.5/s", 0xffffffff, limit)) return false;
    rate.limit = static_cast<uint32_t>(limit);
    if (rate.algorithm == Algorithm::kConcurrency) {
      rate.period_ns = kDefaultLeaseNs;
      return true;
    }
    if (!parse_per() || !parse_period(rate)) return false;
    if (limit != 0) return true;
    // No permit in any period: whatever the algorithm, everything is refused.
    if (nginx_) return fail(column, "nginx has no rate=0; write deny");
    rate = Rate{.algorithm = Algorithm::kDeny};
    return true;
  }

  static bool find_algorithm(const std::string& name, Rate& rate) {
    const auto* const found = std::find(kAlgorithmNames.begin() + 1, kAlgorithmNames.end(), name);
    if (found == kAlgorithmNames.end()) return false;
    rate.algorithm = static_cast<Algorithm>(found - kAlgorithmNames.begin());
    return true;
  }

  // "/", "r/s", "per", "requests per".
  bool parse_per() {
    size_t column = here();
    if (next_is(',') || next_is('_')) {
      return fail(column, "expected '/' and a period; write numbers as 1000, without separators");
    }
    std::string unit = word();
    if (std::find(std::begin(kCountWords), std::end(kCountWords), unit) != std::end(kCountWords)) {
      column = here();
      unit = word();
    }
    if (unit.empty() ? take('/') : unit == "per") return true;
    return fail(column, "expected '/' and a period, as in 100/m or 5/10s");
  }

  bool parse_period(Rate& rate) {
    const size_t start = here();
    if (rate.algorithm == Algorithm::kCalendarWindow) return parse_calendar(rate);
    const bool counted = at_digit();
    if (!time("the period", kMaxPeriodNs, rate.period_ns, !counted)) return false;
    if (rate.period_ns == 0) return fail(start, "the period is 0; give 1 ns to 100 years");
    if (nginx_ && (counted || (rate.period_ns != kSecondNs && rate.period_ns != kMinuteNs))) {
      return fail(start, "nginx's rate= is in r/s or r/m; without rate= every unit may be used");
    }
    return true;
  }

  bool parse_calendar(Rate& rate) {
    const size_t start = here();
    if (at_digit()) {
      return fail(start,
                  "a calendar window is one hour, day, week, month or year; write 100/d, or "
                  "fixed-window for other periods");
    }
    const std::string name = word();
    if (name == "month" || name == "months") {
      rate.calendar = CalendarUnit::kMonth;
      return true;
    }
    const TimeUnit* const unit = find_unit(name);
    const int64_t ns = unit == nullptr ? 0 : unit->ns;
    rate.calendar = ns == kHourNs      ? CalendarUnit::kHour
                    : ns == kDayNs     ? CalendarUnit::kDay
                    : ns == 7 * kDayNs ? CalendarUnit::kWeek
                    : ns == kYearNs    ? CalendarUnit::kYear
                                       : CalendarUnit::kNone;
    if (rate.calendar != CalendarUnit::kNone) return true;
    return fail(start, cat("expected hour, day, week, month or year",
                           did_you_mean(name, "hour day week month year")));
  }

  // A clause of the rate, or an option of the policy.
  bool parse_term(Rate& rate, Policy& policy) {
    const size_t start = here();
    if (at_fraction() || at_digit()) return fail(start, not_a_term(""));
    const std::string name = word(true);
    const TermRule* rule = find_term(std::begin(kTerms), std::end(kTerms), name);
    if (rule == nullptr && nginx_) {
      rule = find_term(std::begin(kNginxTerms), std::end(kNginxTerms), name);
    }
    if (rule == nullptr) return fail(start, not_a_term(name));
    if (rule->fits != 0 && !is_one_of(rate.algorithm, rule->fits)) {
      return fail(start, cat("'", name, "' does not fit ",
                             kAlgorithmNames[static_cast<size_t>(rate.algorithm)], "; it is for ",
                             algorithm_list(rule->fits)));
    }
    uint32_t& seen = rule->fits == 0 ? seen_options_ : seen_;
    if ((seen & term_bit(rule->term)) != 0) return fail(start, cat("'", name, "' is given twice"));
    if ((seen & term_bit(rule->instead_of)) != 0) {
      return fail(start, cat("'", name, "' contradicts what was given before it; keep one"));
    }
    seen |= term_bit(rule->term);
    if (rule->term != Term::kUtc) take('=');
    return rule->fits == 0 ? parse_option(rule->term, policy) : parse_clause(rule->term, rate);
  }

  static const TermRule* find_term(const TermRule* from, const TermRule* to,
                                   std::string_view name) {
    const auto* const found =
        std::find_if(from, to, [name](const TermRule& rule) { return rule.word == name; });
    return found == to ? nullptr : found;
  }

  std::string not_a_term(std::string_view name) const {
    if (name == "initial") {
      return "there is no initial level: an idle key must equal an absent one, or its place could "
             "not be given to another key without losing something; write 'burst N' instead";
    }
    std::string words;
    for (const TermRule& rule : kTerms) words += cat(words.empty() ? "" : " ", rule.word);
    if (nginx_) words += " nodelay delay";
    return cat("expected ';' and another rate, or a clause such as 'burst N'",
               did_you_mean(name, words));
  }

  bool parse_clause(Term term, Rate& rate) {
    constexpr std::string_view kWhole = "a whole number";
    constexpr uint32_t kMost = Rate::kAllUndelayed - 1;
    const size_t column = here();
    switch (term) {
      case Term::kBurst:
        if (!number32("the burst", kWhole, kMaxBurst, rate.burst)) return false;
        if (rate.burst == 0 && rate.algorithm != Algorithm::kQueue) {
          return fail(column, "the burst must be at least 1");
        }
        return true;
      case Term::kDebt:
        return number32("the debt", kWhole, kMaxBurst, rate.debt);
      case Term::kForward:
        return rate.forward = true;
      case Term::kDelayAfter:
      case Term::kNginxDelay:
        return number32("the number that starts at once", kWhole, kMost, rate.undelayed);
      case Term::kNoDelay:
      case Term::kNginxNoDelay:
        rate.undelayed = Rate::kAllUndelayed;
        return true;
      case Term::kAhead:
        return time("the time ahead", kMaxPeriodNs, rate.ahead_ns);
      case Term::kFirstHit:
        return rate.first_hit = true;
      case Term::kUtc:
        return utc(rate.utc_offset_s);
      case Term::kInclusive:
        return rate.inclusive = true;
      case Term::kCountDenied:
        return rate.count_denied = true;
      case Term::kFloor:
        return rate.floor_weight = true;
      case Term::kTtl:
        return time("the life of a lease", kMaxPeriodNs, rate.period_ns);
      default:
        return true;  // aligned is the default
    }
  }

  bool parse_option(Term term, Policy& policy) {
    uint64_t value = 0;
    switch (term) {
      case Term::kOnUnavailable: {
        const size_t column = here();
        const std::string answer = word();
        if (answer != "allow" && answer != "deny") {
          return fail(column, cat("expected allow or deny", did_you_mean(answer, "allow deny")));
        }
        policy.on_unavailable = answer == "deny" ? OnUnavailable::kDeny : OnUnavailable::kAllow;
        return true;
      }
      case Term::kScope:
        return parse_scope(policy.scope);
      case Term::kClasses:
        for (uint8_t& percent : policy.class_percent) {
          if (!number("each class (low, normal, high) in per cent", "whole per cents", 100,
                      value)) {
            return false;
          }
          take('%');
          percent = static_cast<uint8_t>(value);
        }
        return true;
      case Term::kShadow:
        policy.enforced_percent = 0;
        return true;
      case Term::kEnforce:
        if (!number("the per cent enforced", "whole per cents", 100, value)) return false;
        take('%');
        policy.enforced_percent = static_cast<uint8_t>(value);
        return true;
      case Term::kWarmUp:
        return percent(policy.warm_up_from_ppm) && expect("over") &&
               time("the warm-up", kMaxPeriodNs, policy.warm_up_ns);
      default:
        return parse_ban(policy.ban);
    }
  }

  bool parse_scope(PolicyScope& scope) {
    const size_t column = here();
    const std::string reach = word();
    if (reach != "node" && reach != "cluster") {
      return fail(column, cat("expected node or cluster", did_you_mean(reach, "node cluster")));
    }
    scope = reach == "node"       ? PolicyScope::kNode
            : take_word("strict") ? PolicyScope::kStrict
                                  : PolicyScope::kCluster;
    return true;
  }

  bool parse_ban(Ban& ban) {
    constexpr std::string_view kWhole = "a whole number";
    if (!number32("the refusals before a ban", kWhole, 65535, ban.after)) return false;
    if (ban.after == 0) return fail(here(), "a ban needs at least 1 refusal; leave out 'ban'");
    if (!expect("in") || !time("the time to refuse in", kMaxPeriodNs, ban.within_ns) ||
        !expect("for") || !time("the ban", kMaxPeriodNs, ban.for_ns)) {
      return false;
    }
    if (take_word("times") && !number32("how many times as long", kWhole, 1000, ban.factor)) {
      return false;
    }
    ban.max_ns = default_ban_max(ban);
    return !take_word("max") || time("the longest ban", kMaxPeriodNs, ban.max_ns);
  }

  bool nginx_ = false;
  uint32_t seen_ = 0;  // clauses of this rate
  uint32_t seen_options_ = 0;
};

}  // namespace

bool read_policy(std::string_view text, Policy& policy, TextError& error) {
  policy = Policy{};
  if (!Parser(text, error).parse(policy)) return false;
  const absl::Status valid = validate(policy);
  if (valid.ok()) return true;
  error.at = kNowhere;
  error.what = std::string(valid.message().data(), valid.message().size());
  error.what.erase(0, std::string_view("invalid_policy: ").size());
  return false;
}

absl::StatusOr<Policy> parse_policy(std::string_view text) {
  Policy policy;
  TextError error;
  if (read_policy(text, policy, error)) return policy;
  // A per cent sign is at home here: it stays.
  std::string shown = cat("'", printable(text, 80), "'");
  for (size_t at = 0; (at = shown.find("%25", at)) != std::string::npos; ++at)
    shown.erase(at + 1, 2);
  if (error.at == kNowhere) {
    return absl::InvalidArgumentError(
        cat("invalid_policy: ", error.what, " (in policy ", shown, ")"));
  }
  return absl::InvalidArgumentError(
      cat("invalid_policy: ", shown, ", column ", error.at + 1, ": ", error.what));
}

}  // namespace brim
