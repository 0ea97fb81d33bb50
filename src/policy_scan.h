// SPDX-License-Identifier: MIT
// Words, numbers and times of a policy's text, one after the other. The first failure is kept, with
// its place.
#ifndef BRIM_SRC_POLICY_SCAN_H_
#define BRIM_SRC_POLICY_SCAN_H_

#include <cstdint>
#include <string>
#include <string_view>

#include "src/policy_terms.h"

namespace brim {

inline constexpr std::string_view kUnitWords =
    "ns us ms s sec second seconds m min minute minutes h hr hour hours d day days w week weeks y "
    "year years";
inline constexpr std::string_view kAlgorithmWords =
    "gcra token-bucket leaky-bucket queue fixed-window calendar-window sliding-log "
    "sliding-counter concurrency unlimited deny";

const TimeUnit* find_unit(std::string_view name);

class Scanner {
 public:
  // Both must outlive it.
  Scanner(std::string_view text, TextError& error) : text_(text), error_(error) {}

  bool fail(size_t at, std::string what);  // always false

  size_t here();  // where the next word begins
  bool at_end() { return here() >= text_.size(); }
  bool at_digit();
  bool at_fraction();  // ".5"
  bool next_is(char c) { return here() < text_.size() && text_[at_] == c; }
  bool at_separator() { return next_is(';') || next_is(',') || next_is('|'); }
  bool take(char c);
  bool take_separator();
  // The next run of letters, '-' and '_', in lower case with '-' for '_'; with `clause`, the "utc"
  // of "utc-05:00" is a word of its own.
  std::string word(bool clause = false);
  bool take_word(std::string_view expected);
  bool expect(std::string_view word);

  bool number(std::string_view what, std::string_view remedy, uint64_t max, uint64_t& value);
  bool number32(std::string_view what, std::string_view remedy, uint32_t max, uint32_t& value);
  // "10s"; with `bare` also "s". At most `max`, which is given as 100 years.
  bool time(std::string_view what, int64_t max, int64_t& ns, bool bare = false);
  // "12.5%" as parts per million; three decimals at most.
  bool percent(uint32_t& ppm);
  // "+02:00", "-5", "" as seconds.
  bool utc(int32_t& offset_s);

 private:
  std::string_view text_;
  TextError& error_;
  size_t at_ = 0;
};

}  // namespace brim

#endif  // BRIM_SRC_POLICY_SCAN_H_
