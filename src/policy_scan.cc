// SPDX-License-Identifier: MIT
#include "src/policy_scan.h"

#include <algorithm>
#include <charconv>
#include <utility>

#include "src/base/text.h"

namespace brim {

namespace {

bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
bool is_digit(char c) { return c >= '0' && c <= '9'; }

std::string folded(std::string_view word) {
  std::string out(word);
  for (char& c : out) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c == '_' ? '-' : c;
  return out;
}

}  // namespace

const TimeUnit* find_unit(std::string_view name) {
  const auto* const found =
      std::find_if(kTimeUnits.begin(), kTimeUnits.end(),
                   [name](const TimeUnit& unit) { return unit.name == name; });
  return found == kTimeUnits.end() ? nullptr : found;
}

bool Scanner::fail(size_t at, std::string what) {
  error_.at = at;
  error_.what = std::move(what);
  return false;
}

size_t Scanner::here() {
  while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\t')) {
    ++at_;
  }
  return at_;
}

bool Scanner::at_digit() { return here() < text_.size() && is_digit(text_[at_]); }

bool Scanner::at_fraction() {
  return next_is('.') && at_ + 1 < text_.size() && is_digit(text_[at_ + 1]);
}

bool Scanner::take(char c) {
  if (!next_is(c)) return false;
  ++at_;
  return true;
}

bool Scanner::take_separator() { return take(';') || take(',') || take('|'); }

std::string Scanner::word(bool clause) {
  const size_t start = here();
  if (clause && folded(text_.substr(start, 3)) == "utc" &&
      (start + 3 >= text_.size() || !is_letter(text_[start + 3]))) {
    at_ += 3;
    return "utc";
  }
  while (at_ < text_.size() && (is_letter(text_[at_]) || text_[at_] == '-' || text_[at_] == '_')) {
    ++at_;
  }
  return folded(text_.substr(start, at_ - start));
}

bool Scanner::take_word(std::string_view expected) {
  const size_t start = here();
  if (word() == expected) return true;
  at_ = start;
  return false;
}

bool Scanner::expect(std::string_view expected) {
  const size_t start = here();
  const std::string found = word();
  if (found == expected) return true;
  return fail(start, cat("expected '", expected, "'", did_you_mean(found, expected)));
}

bool Scanner::number(std::string_view what, std::string_view remedy, uint64_t max,
                     uint64_t& value) {
  const size_t start = here();
  const char* const end = text_.data() + text_.size();
  const auto [rest, ec] = std::from_chars(text_.data() + at_, end, value);
  if (at_fraction()) return fail(start, cat(what, " must be whole: write ", remedy));
  if (ec == std::errc::invalid_argument) {
    return fail(start, cat("expected ", what, ", a whole number such as 100"));
  }
  at_ = static_cast<size_t>(rest - text_.data());
  if (ec == std::errc::result_out_of_range || value > max) {
    return fail(start, cat(what, " is above ", max));
  }
  if (at_ < text_.size() && text_[at_] == '.') {
    return fail(start, cat(what, " must be whole: write ", remedy));
  }
  return true;
}

bool Scanner::number32(std::string_view what, std::string_view remedy, uint32_t max,
                       uint32_t& value) {
  uint64_t wide = 0;
  if (!number(what, remedy, max, wide)) return false;
  value = static_cast<uint32_t>(wide);
  return true;
}

bool Scanner::time(std::string_view what, int64_t max, int64_t& ns, bool bare) {
  uint64_t count = 1;
  const size_t start = here();
  if (at_digit() || !bare) {
    if (!number(what, "1500ms for 1.5s", uint64_t{1} << 62, count)) return false;
  }
  const size_t column = here();
  const std::string name = word();
  const TimeUnit* const unit = find_unit(name);
  if (unit == nullptr) {
    const bool month = name == "month" || name == "months";
    return fail(column, month ? "a month has no fixed length: write 30d, or calendar-window for "
                                "months of the calendar"
                              : cat("expected a unit of time: ns us ms s m h d w y",
                                    did_you_mean(name, kUnitWords)));
  }
  if (count > static_cast<uint64_t>(max / unit->ns)) {
    return fail(start, cat(what, " is above 100 years"));
  }
  ns = static_cast<int64_t>(count) * unit->ns;
  return true;
}

bool Scanner::percent(uint32_t& ppm) {
  const size_t start = here();
  const auto digits = [this](uint64_t& value, int most) {
    int count = 0;
    for (value = 0; count < most && at_ < text_.size() && is_digit(text_[at_]); ++count) {
      value = value * 10 + static_cast<uint64_t>(text_[at_++] - '0');
    }
    return count;
  };
  uint64_t whole = 0;
  uint64_t thousandths = 0;
  constexpr std::string_view kExpected =
      "expected a share of the rate, such as 10% or 12.5%, above 0 and at most 100, with at most "
      "3 decimals";
  if (digits(whole, 3) == 0) return fail(start, std::string(kExpected));
  if (at_ < text_.size() && text_[at_] == '.') {
    ++at_;
    int decimals = digits(thousandths, 3);
    if (decimals == 0) return fail(start, std::string(kExpected));
    for (; decimals < 3; ++decimals) thousandths *= 10;
  }
  const uint64_t total = whole * 1000 + thousandths;
  const bool more = at_ < text_.size() && is_digit(text_[at_]);
  if (more || total == 0 || total > 100000) return fail(start, std::string(kExpected));
  take('%');
  ppm = static_cast<uint32_t>(total * 10);
  return true;
}

bool Scanner::utc(int32_t& offset_s) {
  offset_s = 0;
  const size_t start = at_;
  const bool behind = next_is('-');
  if (!take('+') && !take('-')) return true;
  uint64_t hours = 0;
  uint64_t minutes = 0;
  const bool read = at_digit() && number("the hours of utc", "utc+05:30", 14, hours) &&
                    (!take(':') || number("the minutes of utc", "utc+05:30", 59, minutes));
  const auto total = static_cast<int32_t>(hours * 3600 + minutes * 60);
  if (!read || total > 14 * 3600) {
    return fail(start, "expected an offset from -14:00 to +14:00, such as utc+05:30");
  }
  offset_s = behind ? -total : total;
  return true;
}

}  // namespace brim
