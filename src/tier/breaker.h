// SPDX-License-Identifier: MIT
// Whether to ask a store that did not answer. Closed: yes. Open: one attempt after each pause,
// which grows from the first to the longest; with jitter, so that nodes do not come back all at
// once.
#ifndef BRIM_SRC_TIER_BREAKER_H_
#define BRIM_SRC_TIER_BREAKER_H_

#include <algorithm>
#include <cstdint>

namespace brim::tier {

inline constexpr int64_t kLongestPause = 1000000000;

// For one thread at a time.
class Breaker {
 public:
  // Opens after `errors` in a row.
  Breaker(int errors, int64_t first_pause_ns, uint64_t seed)
      : errors_(errors), first_ns_(first_pause_ns), random_(seed | 1) {}

  bool open() const { return failed_ >= errors_; }
  // Open: true once for each pause.
  bool may(int64_t now_ns) {
    if (!open()) return true;
    if (now_ns < next_ns_) return false;
    next_ns_ = now_ns + kLongestPause;  // until it is known how this attempt ended
    return true;
  }
  int64_t next_ns() const { return open() ? next_ns_ : 0; }

  void good() {
    failed_ = 0;
    pause_ns_ = 0;
  }
  void bad(int64_t now_ns) {
    failed_ = std::min(failed_ + 1, errors_);
    if (!open()) return;
    pause_ns_ = pause_ns_ == 0 ? first_ns_ : std::min(2 * pause_ns_, kLongestPause);
    random_ ^= random_ << 13;
    random_ ^= random_ >> 7;
    random_ ^= random_ << 17;
    // From three quarters of the pause to the whole.
    const auto quarter = static_cast<uint64_t>(pause_ns_ / 4);
    next_ns_ = now_ns + pause_ns_ - static_cast<int64_t>(random_ % (quarter + 1));
  }

 private:
  int errors_;
  int64_t first_ns_;
  uint64_t random_;
  int failed_ = 0;
  int64_t pause_ns_ = 0;
  int64_t next_ns_ = 0;
};

}  // namespace brim::tier

#endif  // BRIM_SRC_TIER_BREAKER_H_
