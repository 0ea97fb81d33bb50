// SPDX-License-Identifier: MIT
#include "brim/policy.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <string>
#include <string_view>

#include "src/algo/quota.h"
#include "src/base/text.h"

namespace brim {

namespace {

constexpr int64_t kSecond = 1000000000;
constexpr int64_t kDay = 86400 * kSecond;

struct Unit {
  std::string_view name;
  int64_t ns;
};

// Canonical names first, largest first: policy_text takes the first that divides.
constexpr std::array<Unit, 9> kCanonicalUnits = {{{"y", 365 * kDay},
                                                  {"w", 7 * kDay},
                                                  {"d", kDay},
                                                  {"h", 3600 * kSecond},
                                                  {"m", 60 * kSecond},
                                                  {"s", kSecond},
                                                  {"ms", 1000000},
                                                  {"us", 1000},
                                                  {"ns", 1}}};
constexpr std::array<Unit, 17> kUnitAliases = {{{"sec", kSecond},
                                                {"second", kSecond},
                                                {"seconds", kSecond},
                                                {"min", 60 * kSecond},
                                                {"minute", 60 * kSecond},
                                                {"minutes", 60 * kSecond},
                                                {"hour", 3600 * kSecond},
                                                {"hours", 3600 * kSecond},
                                                {"hr", 3600 * kSecond},
                                                {"day", kDay},
                                                {"days", kDay},
                                                {"week", 7 * kDay},
                                                {"weeks", 7 * kDay},
                                                {"year", 365 * kDay},
                                                {"years", 365 * kDay},
                                                {"msec", 1000000},
                                                {"usec", 1000}}};
constexpr std::array<std::string_view, 6> kCountWords = {"r",        "req",    "request",
                                                         "requests", "permit", "permits"};

constexpr std::array<std::string_view, 4> kAlgorithmNames = {"", "gcra", "token-bucket",
                                                             "leaky-bucket"};

std::string quoted(std::string_view text) { return cat("'", printable(text, 80), "'"); }

bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
bool is_digit(char c) { return c >= '0' && c <= '9'; }

// Lower case, with '-' for '_'.
std::string folded(std::string_view word) {
  std::string out(word);
  for (char& c : out) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c == '_' ? '-' : c;
  return out;
}

// Recursive descent over one line; every error names the text, the column and the remedy.
class Parser {
 public:
  explicit Parser(std::string_view text) : text_(text) {}

  absl::StatusOr<Policy> parse() {
    Policy policy;
    absl::Status status = parse_rate(policy);
    while (status.ok() && !at_end()) status = parse_clause(policy);
    if (!status.ok()) return status;
    if (policy.burst == 0) policy.burst = policy.limit;
    if (absl::Status valid = validate(policy); !valid.ok()) {
      return absl::InvalidArgumentError(cat(valid.message(), " (in policy ", quoted(text_), ")"));
    }
    return policy;
  }

 private:
  absl::Status error(size_t column, std::string_view what) const {
    return absl::InvalidArgumentError(
        cat("invalid_policy: ", quoted(text_), ", column ", column + 1, ": ", what));
  }

  void skip_blanks() {
    while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\t')) ++at_;
  }
  // Where the next word begins.
  size_t here() {
    skip_blanks();
    return at_;
  }
  bool at_end() { return here() >= text_.size(); }
  // The next run of letters, digits excluded, in lower case.
  std::string word() {
    const size_t start = here();
    while (at_ < text_.size() &&
           (is_letter(text_[at_]) || text_[at_] == '-' || text_[at_] == '_')) {
      ++at_;
    }
    return folded(text_.substr(start, at_ - start));
  }
  bool at_digit() {
    skip_blanks();
    return at_ < text_.size() && is_digit(text_[at_]);
  }
  bool take(char c) {
    skip_blanks();
    if (at_ >= text_.size() || text_[at_] != c) return false;
    ++at_;
    return true;
  }

  absl::Status number(std::string_view what, uint64_t max, uint64_t& value) {
    const size_t start = here();
    const char* const end = text_.data() + text_.size();
    const auto [rest, ec] = std::from_chars(text_.data() + at_, end, value);
    if (ec == std::errc::invalid_argument) {
      return error(start, cat("expected ", what, ", a whole number such as 100"));
    }
    at_ = static_cast<size_t>(rest - text_.data());
    if (ec == std::errc::result_out_of_range || value > max) {
      return error(start, cat(what, " is above ", max));
    }
    if (at_ < text_.size() && text_[at_] == '.') {
      return error(start, cat(what, " must be whole: write 1/2s for 0.5/s"));
    }
    return absl::OkStatus();
  }

  absl::Status parse_rate(Policy& policy) {
    if (!at_digit()) {
      const size_t start = here();
      const std::string name = word();
      const auto* const found = std::find(kAlgorithmNames.begin() + 1, kAlgorithmNames.end(), name);
      if (found == kAlgorithmNames.end()) {
        return error(start, "expected a rate such as 100/m, 5/10s or 10r/s");
      }
      policy.algorithm = static_cast<Algorithm>(found - kAlgorithmNames.begin());
    }
    uint64_t limit = 0;
    if (absl::Status s = number("the limit", 0xffffffff, limit); !s.ok()) return s;
    policy.limit = static_cast<uint32_t>(limit);
    size_t column = here();
    std::string unit = word();
    if (std::find(kCountWords.begin(), kCountWords.end(), unit) != kCountWords.end()) {
      column = here();
      unit = word();
    }
    if (unit.empty() ? !take('/') : unit != "per") {
      return error(column, "expected '/' and a period, as in 100/m or 5/10s");
    }
    return parse_period(policy);
  }

  absl::Status parse_period(Policy& policy) {
    uint64_t count = 1;
    const size_t start = here();
    if (at_digit()) {
      if (absl::Status s = number("the period", uint64_t{1} << 62, count); !s.ok()) return s;
    }
    const size_t column = here();
    const std::string name = word();
    const auto matches = [&name](const Unit& unit) { return unit.name == name; };
    const Unit* unit = std::find_if(kCanonicalUnits.begin(), kCanonicalUnits.end(), matches);
    if (unit == kCanonicalUnits.end()) {
      unit = std::find_if(kUnitAliases.begin(), kUnitAliases.end(), matches);
      if (unit == kUnitAliases.end()) {
        return error(column, "expected a unit of time: ns us ms s m h d w y");
      }
    }
    if (count > static_cast<uint64_t>(kMaxPeriodNs / unit->ns)) {
      return error(start, "the period is above 100 years");
    }
    policy.period_ns = static_cast<int64_t>(count) * unit->ns;
    return absl::OkStatus();
  }

  absl::Status parse_clause(Policy& policy) {
    const size_t start = here();
    const std::string name = word();
    take('=');
    if (name == "burst") {
      if (policy.burst != 0) return error(start, "the burst is given twice");
      uint64_t burst = 0;
      const size_t column = here();
      if (absl::Status s = number("the burst", kMaxBurst, burst); !s.ok()) return s;
      if (burst == 0) return error(column, "the burst must be at least 1");
      policy.burst = static_cast<uint32_t>(burst);
      return absl::OkStatus();
    }
    if (name == "on-unavailable") {
      const size_t column = here();
      const std::string value = word();
      if (value != "allow" && value != "deny") return error(column, "expected allow or deny");
      policy.on_unavailable = value == "deny" ? OnUnavailable::kDeny : OnUnavailable::kAllow;
      return absl::OkStatus();
    }
    return error(start, "expected 'burst N' or 'on-unavailable allow|deny'");
  }

  std::string_view text_;
  size_t at_ = 0;
};

absl::Status bad_value(std::string_view what) {
  return absl::InvalidArgumentError(cat("invalid_policy: ", what));
}

}  // namespace

absl::StatusOr<Policy> parse_policy(std::string_view text) { return Parser(text).parse(); }

std::string policy_text(const Policy& policy) {
  const Unit* unit = kCanonicalUnits.begin();
  while (policy.period_ns % unit->ns != 0) ++unit;
  const int64_t count = policy.period_ns / unit->ns;
  const auto algorithm = static_cast<size_t>(policy.algorithm);
  std::string text;
  if (policy.algorithm != Algorithm::kGcra && algorithm < kAlgorithmNames.size()) {
    text += cat(kAlgorithmNames[algorithm], " ");
  }
  text += cat(policy.limit, "/");
  if (count != 1) text += cat(count);
  text += cat(unit->name);
  if (policy.burst != policy.limit) text += cat(" burst ", policy.burst);
  if (policy.on_unavailable == OnUnavailable::kDeny) text += " on-unavailable deny";
  return text;
}

absl::Status validate(const Policy& policy) {
  const auto algorithm = static_cast<size_t>(policy.algorithm);
  if (algorithm == 0 || algorithm >= kAlgorithmNames.size()) {
    return bad_value(cat("algorithm is ", algorithm,
                         "; give gcra, token-bucket or "
                         "leaky-bucket"));
  }
  if (policy.period_ns <= 0 || policy.period_ns > kMaxPeriodNs) {
    return bad_value(cat("the period is ", policy.period_ns, " ns; give 1 ns to 100 years"));
  }
  if (policy.limit == 0) {
    return bad_value("the limit is 0; give at least 1 permit a period");
  }
  if (policy.limit > policy.period_ns) {
    return bad_value(cat("the rate is ", policy.limit, " in ", policy.period_ns,
                         " ns; give at most one permit a nanosecond (10^9/s)"));
  }
  if (policy.burst == 0) return bad_value("the burst is 0; give at least 1");
  if (!quota_fits(policy.limit, policy.period_ns, policy.burst)) {
    return bad_value(cat("a burst of ", policy.burst, " at ", policy.limit, " in ",
                         policy.period_ns,
                         " ns takes over 36 years to refill; give a smaller burst or a "
                         "higher rate"));
  }
  return absl::OkStatus();
}

bool valid_policy_name(std::string_view name) {
  if (name.empty() || name.size() > 47) return false;
  return std::all_of(name.begin(), name.end(), [](char c) {
    return is_letter(c) || is_digit(c) || c == '.' || c == '_' || c == '-';
  });
}

}  // namespace brim
