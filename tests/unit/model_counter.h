// SPDX-License-Identifier: MIT
// The sliding window counter from its definition: what passed in each window of the wall clock;
// the one before weighs by how much of it a window that ends now still covers.
#ifndef BRIM_TESTS_UNIT_MODEL_COUNTER_H_
#define BRIM_TESTS_UNIT_MODEL_COUNTER_H_

#include <map>

#include "tests/unit/model_common.h"

namespace brim::test {

class CounterModel {
 public:
  // `most` is what a word can count.
  CounterModel(const Rate& rate, const Beginning& at, Wide most)
      : rate_(rate), at_(at), most_(most), limit_(rate.limit) {}

  bool never(Wide c) const { return c > rate_.limit; }
  bool admits(Wide t, Wide c) const { return fits(t, c, limit_); }
  void take(Wide t, Wide c) {
    const Wide w = number(seen(t));
    if (idle(t)) passed_.clear();
    passed_[w] = std::min(passed(w) + c, most_);
    written_ = w;
  }
  void refuse(Wide t, Wide c) { take(t, c); }
  Wide remaining(Wide t) const {  // the largest cost that passes, by trying
    Wide low = -1;
    Wide high = limit_ + 1;
    while (high - low > 1) {
      const Wide middle = low + (high - low) / 2;
      (fits(t, middle, limit_) ? low : high) = middle;
    }
    return std::max<Wide>(low, 0);
  }
  bool idle(Wide t) const {
    const Wide w = number(seen(t));
    return passed(w) == 0 && passed(w - 1) == 0;
  }
  void refund(Wide t, Wide c) {  // from the current window first
    if (idle(t)) return;
    const Wide w = number(seen(t));
    const Wide now = std::min(c, passed(w));
    passed_[w] = passed(w) - now;
    passed_[w - 1] = passed(w - 1) - std::min(c - now, passed(w - 1));
    written_ = w;
  }
  void charge(Wide t, Wide c) {
    if (c != 0) take(t, c);
  }
  Wide delay(Wide, Wide) const { return 0; }

  // A time before the policy's beginning counts as in its first window.
  Wide number(Wide t) const {
    return floor_div(std::max<Wide>(t, at_.now_ns) + at_.wall_ns - at_.now_ns, rate_.period_ns);
  }
  Wide begin(Wide w) const { return w * rate_.period_ns - at_.wall_ns + at_.now_ns; }
  Wide passed(Wide w) const {
    const auto found = passed_.find(w);
    return found == passed_.end() || (w < written_ - 1) ? 0 : found->second;
  }
  void set_limit(Wide limit) { limit_ = limit; }
  // What was counted under another rate in the window of t and the one before.
  void adopt(Wide t, Wide before, Wide now) {
    written_ = number(t);
    passed_ = {{written_ - 1, before}, {written_, now}};
  }

 private:
  // Windows never step back: to a clock behind the one that wrote last, the last window begins.
  Wide seen(Wide t) const {
    const bool counts = passed(written_) != 0 || passed(written_ - 1) != 0;
    const Wide at = std::max<Wide>(t, begin(number(at_.now_ns)));
    return counts ? std::max(at, begin(written_)) : at;
  }
  bool fits(Wide t, Wide c, Wide limit) const {
    const Wide at = seen(t);
    const Wide period = rate_.period_ns;
    const Wide w = number(at);
    const Wide gone = at - begin(w);
    if (rate_.floor_weight) {
      return passed(w - 1) * (period - gone) / period + passed(w) + c <= limit;
    }
    return passed(w - 1) * (period - gone) + (passed(w) + c) * period <= limit * period;
  }

  Rate rate_;
  Beginning at_;
  Wide most_;
  Wide limit_;
  std::map<Wide, Wide> passed_ = {};
  Wide written_ = -kForever;
};

}  // namespace brim::test

#endif  // BRIM_TESTS_UNIT_MODEL_COUNTER_H_
