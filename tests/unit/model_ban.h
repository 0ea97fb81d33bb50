// SPDX-License-Identifier: MIT
// Bans from their definition: a list of the bans so far, and the refusals since. Refusals add up
// from the first one for `within_ns`, then the count starts anew; how often the key was barred is
// forgotten once it has stayed away for as long as its last ban took, counted from the end of the
// ban or, if it was refused again, of the time within which those refusals add up. Ends are
// rounded up to ticks of 2^19 ns after t0: that is what ban.h states, taken as given.
#ifndef BRIM_TESTS_UNIT_MODEL_BAN_H_
#define BRIM_TESTS_UNIT_MODEL_BAN_H_

#include <vector>

#include "tests/unit/model_common.h"

namespace brim::test {

class BanModel {
 public:
  BanModel(const Ban& ban, int64_t t0) : ban_(ban), t0_(t0) {}

  Wide barred_for(Wide t) const { return barred_ ? std::max<Wide>(end_ - from(t), 0) : 0; }
  Wide forgotten_at() const { return end_ + (bans_.empty() ? 0 : bans_.back()); }
  bool idle(Wide t) const { return from(t) >= forgotten_at(); }

  void refuse(Wide t) {
    if (barred_for(t) != 0) return;
    if (idle(t)) bans_.clear();
    if (barred_ || from(t) >= end_ || idle(t)) {
      refusals_.clear();
      barred_ = false;
      end_ = tick_up(from(t) + ban_.within_ns);
    }
    refusals_.push_back(t);
    if (refusals_.size() < ban_.after) return;
    Wide length = ban_.for_ns;
    for (size_t i = 0; i < bans_.size() && length < ban_.max_ns; ++i) length *= ban_.factor;
    bans_.push_back(std::min<Wide>(length, ban_.max_ns));
    refusals_.clear();
    barred_ = true;
    end_ = tick_up(from(t) + bans_.back());
  }
  size_t bans() const { return bans_.size(); }
  size_t refusals() const { return refusals_.size(); }

 private:
  Wide from(Wide t) const { return std::max<Wide>(t, t0_); }
  Wide tick_up(Wide t) const {
    constexpr Wide kTick = Wide{1} << 19;
    return t0_ + (t - t0_ + kTick - 1) / kTick * kTick;
  }

  Ban ban_;
  Wide t0_;
  std::vector<Wide> bans_ = {};
  std::vector<Wide> refusals_ = {};
  bool barred_ = false;
  Wide end_ = -kForever;
};

}  // namespace brim::test

#endif  // BRIM_TESTS_UNIT_MODEL_BAN_H_
